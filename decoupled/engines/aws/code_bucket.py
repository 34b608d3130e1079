"""The bucket that code and template are put into for CloudFormation, and what deployments have to remember.

Its name can be guessed. So each call says whose it has to be: what somebody else has made under that name is neither
read nor written. Objects are named by their content; what is deployed, or may be gone back to, is never deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from decoupled.engines.aws.client import AwsError, code
from decoupled.engines.aws.stack import tool_client

UPLOAD_TIMEOUT_S = 60.0
OLD_DAYS = 90  # after which a zip that is not deployed any more is deleted;
NONCURRENT_DAYS = 30  # so long it can be brought back: its version is kept
UPLOAD_DAYS = 7  # until an upload that was broken off is forgotten
MAX_PRUNED = 100  # objects, with one deployment


def key_of(stack: str, content: bytes, suffix: str) -> str:
    """Where something of a stack's is, by its content."""
    return f"{stack}/{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"


class CodeBucket:
    """A bucket in the account and Region that the credentials are for."""

    def __init__(self, name: str, account: str, region: str) -> None:
        self.name = name
        self._s3 = tool_client("s3", UPLOAD_TIMEOUT_S)
        self._account, self._region = account, region
        self._ours: Mapping[str, Any] = {"Bucket": name, "ExpectedBucketOwner": account}

    def ready(self, guarded: bool) -> None:
        """Make it if there is none. `guarded`: it is this command's own, and gets what it may lack of an earlier
        version's. Raises ValueError if it is somebody else's, or in another Region."""
        made = not self._is_there()
        if made:
            self._make()
        if made or (guarded and self._s3.get_bucket_versioning(**self._ours).get("Status") != "Enabled"):
            self._guard()

    def store(self, files: Mapping[str, bytes]) -> str:
        """Store files by key. Returns the bucket's URL."""
        for key, body in files.items():
            self._s3.put_object(**self._ours, Key=key, Body=body)
        return f"{self._s3.meta.endpoint_url.rstrip('/')}/{self.name}"

    def remember(self, key: str, what: Any) -> None:
        """Store plain data."""
        self._s3.put_object(
            **self._ours, Key=key, Body=json.dumps(what, indent=1).encode(), ContentType="application/json"
        )

    def remembered(self, key: str) -> Any:
        """What was stored, or None, too where there is no bucket. Raises ValueError if it is somebody else's."""
        stored = self.read(key) if self._is_there() else None
        return None if stored is None else json.loads(stored)

    def read(self, key: str) -> bytes | None:
        """An object, or None."""
        try:
            body: bytes = self._s3.get_object(**self._ours, Key=key)["Body"].read()
        except AwsError as error:
            if code(error) in ("NoSuchKey", "404"):
                return None
            raise
        return body

    def prune(self, prefix: str, kept: Collection[str]) -> int:
        """Delete zips and templates that have been here for long, and are not named by any text of `kept`. With
        versioning they can be brought back for a while. Returns how many."""
        before = datetime.now(UTC) - timedelta(days=OLD_DAYS)
        answer = self._s3.list_objects_v2(**self._ours, Prefix=prefix)
        old = [
            each["Key"]
            for each in answer.get("Contents", [])
            if each["LastModified"] < before
            and each["Key"].endswith((".zip", ".yaml"))
            and not any(each["Key"] in text for text in kept)
        ][:MAX_PRUNED]
        if old:
            self._s3.delete_objects(**self._ours, Delete={"Objects": [{"Key": key} for key in old], "Quiet": True})
        return len(old)

    def _is_there(self) -> bool:
        try:
            region = self._s3.head_bucket(**self._ours).get("BucketRegion", self._region)
        except AwsError as error:
            if code(error) in ("404", "NoSuchBucket"):
                return False
            if code(error) in ("403", "AccessDenied"):
                raise ValueError(
                    f"the bucket {self.name} is not of this account ({self._account}), or closed to you:"
                    " name another one by CODE_BUCKET"
                ) from error
            raise
        if region != self._region:
            raise ValueError(f"the bucket {self.name} is in {region}; Lambda needs the code in {self._region}")
        return True

    def _make(self) -> None:
        where = {"LocationConstraint": self._region}
        try:
            self._s3.create_bucket(
                Bucket=self.name, **({} if self._region == "us-east-1" else {"CreateBucketConfiguration": where})
            )
        except AwsError as error:
            if code(error) != "BucketAlreadyExists":
                raise
            raise ValueError(f"the bucket {self.name} is somebody else's: name another one by CODE_BUCKET") from error

    def _guard(self) -> None:
        """Nobody of the public, nothing in plain text; what is overwritten or deleted can be had back for a while.
        Versioning comes last: it says that all of this is done."""
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        arn = f"arn:{self._s3.meta.partition}:s3:::{self.name}"
        tls = {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        s3, ours = self._s3, self._ours
        s3.put_public_access_block(**ours, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
        s3.put_bucket_encryption(
            **ours,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        s3.put_bucket_policy(**ours, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls]}))
        rule = {
            "ID": "what was replaced or deleted",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UPLOAD_DAYS},
        }
        s3.put_bucket_lifecycle_configuration(**ours, LifecycleConfiguration={"Rules": [rule]})
        s3.put_bucket_versioning(**ours, VersioningConfiguration={"Status": "Enabled"})
