"""Dead records on DynamoDB, for tools: read, listed by age, put and changed, each in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from decoupled.core.dead_letters import PURGED
from decoupled.core.workload import Unavailable
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attribute, Attributes, encode_time
from decoupled.engines.aws.client import AwsError, code, unavailable
from decoupled.engines.aws.closing import why_closed


class DeadRecords:
    """Those of one table. Every method may raise Unavailable."""

    def __init__(self, dynamodb: Any, table_name: str) -> None:
        self._dynamodb = dynamodb
        self._table = table_name

    def listed(self, first_ms: int, last_ms: int) -> Iterator[Attributes]:
        """Those that died within this time, the oldest first, as their index has them."""
        times = {":first": encode_time(first_ms), ":last": encode_time(last_ms)}
        return dead(self._dynamodb, self._table, "BETWEEN :first AND :last", times)

    def read(self, message_id: str) -> Attributes | None:
        """The record of a message, dead or not."""
        with unavailable():
            answer = self._dynamodb.get_item(TableName=self._table, Key={"pk": {"S": message_id}}, ConsistentRead=True)
        item: Attributes | None = answer.get("Item")
        return item

    def refuse_closed(self) -> None:
        """Raises Unavailable if the stack is closed to move elsewhere: what is dead may have gone over already."""
        if (why := why_closed(self._dynamodb, self._table)) is not None:
            raise Unavailable(f"nothing is changed in this stack, {why}")

    def restore(self, item: Attributes) -> bool:
        """Put a dead record; False where there is one already that was not purged."""
        purged, values = records.may("restore")
        return self._applied(
            self._dynamodb.put_item,
            Item=item,
            ConditionExpression=f"attribute_not_exists(pk) OR ({purged} AND reason = :purged)",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={**values, ":purged": {"S": PURGED}},
        )

    def change(
        self, message_id: str, update: str, condition: str, values: Mapping[str, Attribute], *names: str
    ) -> bool:
        """Update a record; False if the condition does not hold."""
        used = {f"#{name}": name for name in names if f"#{name}" in f"{update} {condition}"}
        return self._applied(
            self._dynamodb.update_item,
            Key={"pk": {"S": message_id}},
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues=dict(values),
            **({"ExpressionAttributeNames": used} if used else {}),
        )

    def _applied(self, call: Any, **request: Any) -> bool:
        try:
            call(TableName=self._table, **request)
        except AwsError as error:
            if code(error) != "ConditionalCheckFailedException":
                with unavailable():
                    raise
            return False
        return True


def dead(dynamodb: Any, table: str, when: str, times: Mapping[str, Attribute], **more: Any) -> Iterator[Attributes]:
    """Dead records as their index has them, those that died `when`: a condition on a time, of `times`. They are read
    a page at a time, each when it is wanted. `more` of DynamoDB's request. Raises Unavailable."""
    request: dict[str, Any] = {
        "TableName": table,
        "IndexName": records.DEAD_INDEX,
        "KeyConditionExpression": f"dead = :dead AND dead_at {when}",
        "ExpressionAttributeValues": {":dead": records.DEAD_KEY, **times},
        **more,
    }
    while True:
        with unavailable():
            page = dynamodb.query(**request)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
