"""What outlives a stack that is deleted: which of its resources, and how each is now. Changes nothing.

A stack that is made again takes these back by an import. That wants each as it is: afterwards, CloudFormation changes
what differs from the template, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from decoupled.engines.aws import stack_events
from decoupled.engines.aws.client import AwsError, code
from decoupled.engines.aws.stack import tool_client

QUEUE, TABLE, KEY = "AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::KMS::Key"
GROUP, ROLE = "AWS::Scheduler::ScheduleGroup", "AWS::IAM::Role"
KEPT_ROLE = "ScheduleRole"  # of the template's roles, the only one that is kept
IDENTIFIERS = {QUEUE: "QueueUrl", TABLE: "TableName", KEY: "KeyId", GROUP: "Name", ROLE: "RoleName"}

GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
    "NotFoundException",
    "NoSuchEntity",
    "NoSuchEntityException",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """One resource: its name in the template, its type, its own name, and its properties as the template would have
    them; None if it is gone."""

    logical: str
    kind: str
    name: str
    properties: Mapping[str, Any] | None = None


def resources(stack: str) -> list[Kept]:
    """Of a stack, what deleting it leaves."""
    return [
        Kept(each["LogicalResourceId"], each["ResourceType"], each["PhysicalResourceId"])
        for each in stack_events.resources(stack)
        if each["ResourceType"] in IDENTIFIERS
        and each.get("PhysicalResourceId")
        and each["ResourceStatus"] != "DELETE_COMPLETE"  # with a create that failed
        and (each["ResourceType"] != ROLE or each["LogicalResourceId"] == KEPT_ROLE)
    ]


def key(stack: str) -> str | None:
    """The key that a stack has for everything at rest, if it has one."""
    return next((each.name for each in resources(stack) if each.kind == KEY), None)


def looked_up(kept: Kept) -> Kept:
    """The same, as it is now. Raises ValueError if it cannot be used."""
    try:
        return Kept(kept.logical, kept.kind, kept.name, _LOOKS[kept.kind](kept.name))
    except AwsError as error:
        if code(error) in GONE:
            return kept
        raise


def _queue(url: str) -> Mapping[str, Any]:
    has = tool_client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    properties: dict[str, Any] = {"FifoQueue": True} if has.get("FifoQueue") == "true" else {}
    if key := has.get("KmsMasterKeyId"):
        properties["KmsMasterKeyId"] = key
    return properties


def _table(name: str) -> Mapping[str, Any]:
    dynamodb = tool_client("dynamodb")
    table = dynamodb.describe_table(TableName=name)["Table"]
    indexes = table.get("GlobalSecondaryIndexes", [])
    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED"
    sse = table.get("SSEDescription", {})
    properties = {
        "AttributeDefinitions": table["AttributeDefinitions"],
        "KeySchema": table["KeySchema"],
        "BillingMode": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
        "GlobalSecondaryIndexes": [
            _present(index, "IndexName", "KeySchema", "Projection", "OnDemandThroughput") for index in indexes
        ],
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": recovery},
        "DeletionProtectionEnabled": bool(table.get("DeletionProtectionEnabled")),
        **_present(table, "OnDemandThroughput"),
    }
    if ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
        properties["TimeToLiveSpecification"] = {"AttributeName": ttl["AttributeName"], "Enabled": True}
    if sse.get("Status") in ("ENABLED", "ENABLING", "UPDATING"):
        key = {"KMSMasterKeyId": sse["KMSMasterKeyArn"].rpartition("/")[2]} if "KMSMasterKeyArn" in sse else {}
        properties["SSESpecification"] = {"SSEEnabled": True, "SSEType": "KMS", **key}
    else:
        properties["SSESpecification"] = {"SSEEnabled": False}
    return properties


def _key(name: str) -> Mapping[str, Any]:
    kms = tool_client("kms")
    about = kms.describe_key(KeyId=name)["KeyMetadata"]
    if about["KeyState"] == "PendingDeletion":
        raise ValueError(
            f"the key {name} is to be deleted, and all that it encrypts is lost then. To keep it:\n"
            f"  aws kms cancel-key-deletion --key-id {name}\n  aws kms enable-key --key-id {name}"
        )
    return {
        "Description": about.get("Description", ""),
        "EnableKeyRotation": kms.get_key_rotation_status(KeyId=name)["KeyRotationEnabled"],
        "KeyPolicy": json.loads(kms.get_key_policy(KeyId=name, PolicyName="default")["Policy"]),
    }


def _group(name: str) -> Mapping[str, Any]:
    tool_client("scheduler").get_schedule_group(Name=name)
    return {}


def _role(name: str) -> Mapping[str, Any]:
    document = tool_client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    return {"AssumeRolePolicyDocument": json.loads(document) if isinstance(document, str) else document}


def _present(of: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: of[name] for name in names if of.get(name)}


_LOOKS: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    QUEUE: _queue,
    TABLE: _table,
    KEY: _key,
    GROUP: _group,
    ROLE: _role,
}
