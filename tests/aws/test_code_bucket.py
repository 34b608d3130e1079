"""The bucket for the code: whose it is, how it is closed, what goes and what stays. S3 is moto's; whose bucket it is,
which moto does not know, botocore's stubs say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import moto
import pytest
from botocore.stub import ANY, Stubber

from decoupled.engines.aws import code_bucket
from decoupled.engines.aws.code_bucket import CodeBucket
from tests.support import ministack

ACCOUNT = "123456789012"
NAME = f"decoupled-code-{ACCOUNT}-us-east-1"


@pytest.fixture
def account() -> Iterator[None]:
    with mock.patch.dict(os.environ, ministack.CREDENTIALS), moto.mock_aws():
        yield


@pytest.fixture
def bucket(account: None) -> CodeBucket:
    made = CodeBucket(NAME, ACCOUNT, "us-east-1")
    made.ready(guarded=True)
    return made


def s3_of(bucket: CodeBucket) -> Any:
    return bucket._s3


def unlocked(bucket: CodeBucket) -> CodeBucket:
    """Without its policy, of which moto does not read the condition: to moto it lets nobody in."""
    s3_of(bucket).delete_bucket_policy(Bucket=NAME, ExpectedBucketOwner=ACCOUNT)
    return bucket


def keys(bucket: CodeBucket) -> set[str]:
    return {each["Key"] for each in s3_of(bucket).list_objects_v2(Bucket=NAME).get("Contents", [])}


def test_each_call_says_whose_bucket_it_has_to_be(account: None) -> None:
    bucket, calls = CodeBucket(NAME, ACCOUNT, "us-east-1"), []
    with mock.patch.object(code_bucket, "OLD_DAYS", -1):

        def look(params: Any, model: Any, **_: Any) -> None:
            calls.append(model.name)
            if "ExpectedBucketOwner" in model.input_shape.members:
                assert params["ExpectedBucketOwner"] == ACCOUNT, model.name

        s3_of(bucket).meta.events.register("provide-client-params.s3", look)
        bucket.ready(guarded=True)
        unlocked(bucket).store({"shop/a.zip": b"a"})
        bucket.remember("shop/stack.json", {"a": 1})
        assert bucket.remembered("shop/stack.json") == {"a": 1}
        bucket.prune("shop/", [])
    assert {"HeadBucket", "PutObject", "GetObject", "DeleteObjects", "PutBucketPolicy"} <= {*calls}


def test_it_is_closed_encrypted_and_keeps_versions(bucket: CodeBucket) -> None:
    s3 = s3_of(bucket)
    assert set(s3.get_public_access_block(Bucket=NAME)["PublicAccessBlockConfiguration"].values()) == {True}
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=NAME)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{NAME}", f"arn:aws:s3:::{NAME}/*"]
    assert s3.get_bucket_versioning(Bucket=NAME)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_no_rule_of_its_lifecycle_takes_what_is_current(bucket: CodeBucket) -> None:
    (rule,) = s3_of(bucket).get_bucket_lifecycle_configuration(Bucket=NAME)["Rules"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rule["Expiration"] == {"ExpiredObjectDeleteMarker": True}  # no days, no date
    assert "Transitions" not in rule


def test_one_of_an_earlier_version_s_is_closed_too_and_one_s_own_is_left_as_it_is(account: None) -> None:
    bucket = CodeBucket(NAME, ACCOUNT, "us-east-1")
    s3_of(bucket).create_bucket(Bucket=NAME)
    bucket.ready(guarded=False)
    assert "Status" not in s3_of(bucket).get_bucket_versioning(Bucket=NAME)
    bucket.ready(guarded=True)
    assert s3_of(bucket).get_bucket_versioning(Bucket=NAME)["Status"] == "Enabled"


def test_what_was_deployed_lately_or_is_named_is_never_deleted(bucket: CodeBucket) -> None:
    files = ("shop/now.zip", "shop/before.zip", "shop/old.zip", "shop/old.yaml", "shop/stack.json", "other/old.zip")
    unlocked(bucket).store(dict.fromkeys(files, b""))
    assert bucket.prune("shop/", []) == 0
    with mock.patch.object(code_bucket, "OLD_DAYS", -1):
        assert bucket.prune("shop/", ["shop/now.zip", "a text with shop/before.zip in it"]) == 2
    assert keys(bucket) == {*files} - {"shop/old.zip", "shop/old.yaml"}


def test_what_was_deleted_can_be_brought_back_for_a_while(bucket: CodeBucket) -> None:
    unlocked(bucket).store({"shop/old.zip": b"the code"})
    with mock.patch.object(code_bucket, "OLD_DAYS", -1):
        bucket.prune("shop/", [])
    versions = s3_of(bucket).list_object_versions(Bucket=NAME)
    (version,) = versions["Versions"]
    body = s3_of(bucket).get_object(Bucket=NAME, Key="shop/old.zip", VersionId=version["VersionId"])["Body"]
    assert body.read() == b"the code"


def test_nothing_is_remembered_where_there_is_no_bucket_or_no_record(account: None) -> None:
    bucket = CodeBucket(NAME, ACCOUNT, "us-east-1")
    assert bucket.remembered("shop/stack.json") is None
    bucket.ready(guarded=True)
    assert unlocked(bucket).remembered("shop/stack.json") is None


def test_somebody_else_s_bucket_is_refused_before_anything_is_read_or_written(account: None) -> None:
    bucket = CodeBucket(NAME, ACCOUNT, "us-east-1")
    for use in (lambda: bucket.ready(guarded=True), lambda: bucket.remembered("shop/stack.json")):
        with Stubber(s3_of(bucket)) as s3:
            s3.add_client_error("head_bucket", "403", http_status_code=403)
            with pytest.raises(ValueError, match=r"not of this account \(123456789012\).*CODE_BUCKET"):
                use()


def test_a_name_that_somebody_took_meanwhile_is_refused(account: None) -> None:
    bucket = CodeBucket(NAME, ACCOUNT, "us-east-1")
    with Stubber(s3_of(bucket)) as s3:
        s3.add_client_error("head_bucket", "404", http_status_code=404)
        s3.add_client_error("create_bucket", "BucketAlreadyExists", http_status_code=409)
        with pytest.raises(ValueError, match=r"somebody else's.*CODE_BUCKET"):
            bucket.ready(guarded=True)


def test_a_bucket_of_another_region_is_refused(account: None) -> None:
    bucket = CodeBucket(NAME, ACCOUNT, "us-east-1")
    with Stubber(s3_of(bucket)) as s3:
        s3.add_response("head_bucket", {"BucketRegion": "eu-west-1"}, {"Bucket": NAME, "ExpectedBucketOwner": ANY})
        with pytest.raises(ValueError, match="is in eu-west-1; Lambda needs the code in us-east-1"):
            bucket.ready(guarded=True)


def test_it_is_made_in_its_region(account: None) -> None:
    bucket = CodeBucket("another", ACCOUNT, "eu-west-1")
    bucket.ready(guarded=True)
    assert s3_of(bucket).get_bucket_location(Bucket="another")["LocationConstraint"] == "eu-west-1"
