"""What a create that failed may leave behind, and goes before the next try: its table. That is protected from deletion
from its first second on, so that the rollback cannot delete it either."""

from __future__ import annotations

from decoupled.engines.aws.client import AwsError, code
from decoupled.engines.aws.kept import TABLE
from decoupled.engines.aws.stack import tool_client
from decoupled.engines.aws.stack_events import resources


def clear(stack: str) -> None:
    """Begin to delete a stack that was never made whole. Only an empty table goes with it."""
    cloudformation = tool_client("cloudformation")
    for each in resources(stack):
        there = each.get("PhysicalResourceId") and each["ResourceStatus"] != "DELETE_COMPLETE"
        if each["ResourceType"] == TABLE and there:
            _delete_if_empty(each["PhysicalResourceId"])
    cloudformation.delete_stack(StackName=stack)


def _delete_if_empty(table: str) -> None:
    dynamodb = tool_client("dynamodb")
    try:
        if dynamodb.scan(TableName=table, Limit=1)["Items"]:
            return
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=table)
    except AwsError as error:
        if code(error) not in ("ResourceNotFoundException", "ResourceInUseException"):  # gone, or still being made
            raise
