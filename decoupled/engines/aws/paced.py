"""A table that a tool reads whole, at a pace: a page of each segment in turn, and what it looks up by key besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from decoupled.core import limits
from decoupled.core.identifiers import is_id
from decoupled.core.workload import Unavailable
from decoupled.engines.aws.attributes import Attributes
from decoupled.engines.aws.client import unavailable

T = TypeVar("T")

SEGMENTS = 8  # of the scan, in turn: one partition of the table alone would bear less
GET_AT_ONCE = 100  # AWS: of BatchGetItem

Progress = Callable[[int, int], None]
"""How many were seen, of about how many."""


class PacedTable:
    """One table. `units_s`: of its capacity a second, at most; `units` is what it took. Every method may raise
    Unavailable."""

    def __init__(self, dynamodb: Any, name: str, units_s: float, pause: Callable[[float], None]) -> None:
        self._dynamodb = dynamodb
        self.name = name
        self._units_s = units_s
        self._pause = pause
        self.units = 0.0

    def described(self) -> Mapping[str, Any]:
        """What DynamoDB says of it, its size as of some hours ago."""
        with unavailable():
            table: Mapping[str, Any] = self._dynamodb.describe_table(TableName=self.name)["Table"]
        return table

    def scan(self, progress: Progress, consistent: bool = False) -> Iterator[Attributes]:
        """All that is in it."""
        about, done = int(self.described().get("ItemCount", 0)), 0
        begins: dict[int, Attributes | None] = dict.fromkeys(range(SEGMENTS))
        while begins:
            for segment, start in list(begins.items()):
                page = self._page(segment, start, consistent)
                yield from page["Items"]
                done += len(page["Items"])
                progress(done, max(about, done))
                if "LastEvaluatedKey" in page:
                    begins[segment] = page["LastEvaluatedKey"]
                else:
                    del begins[segment]

    def _page(self, segment: int, start: Attributes | None, consistent: bool) -> dict[str, Any]:
        request: dict[str, Any] = {} if start is None else {"ExclusiveStartKey": start}
        request |= {"ConsistentRead": True} if consistent else {}
        with unavailable():
            page: dict[str, Any] = self._dynamodb.scan(
                TableName=self.name,
                Segment=segment,
                TotalSegments=SEGMENTS,
                ReturnConsumedCapacity="TOTAL",
                **request,
            )
        self.spent(page.get("ConsumedCapacity", {}))
        return page

    def read(self, ids: Iterable[str], whole: bool = False) -> dict[str, Attributes]:
        """Those of these records that are there; if not `whole`, with their status only."""
        found: dict[str, Attributes] = {}
        some_of_it: dict[str, Any] = {
            "ProjectionExpression": "pk, #status",
            "ExpressionAttributeNames": {"#status": "status"},
        }
        for some in parts(dict.fromkeys(ids), GET_AT_ONCE):
            keys = [{"pk": {"S": message_id}} for message_id in some if is_id(message_id)]
            for _ in range(limits.CONFLICT_TRIES):
                if not keys:
                    break
                wanted = {"Keys": keys, "ConsistentRead": True} | ({} if whole else some_of_it)
                with unavailable():
                    answer = self._dynamodb.batch_get_item(
                        RequestItems={self.name: wanted}, ReturnConsumedCapacity="TOTAL"
                    )
                for capacity in answer.get("ConsumedCapacity", []):
                    self.spent(capacity)
                found |= {stored["pk"]["S"]: stored for stored in answer["Responses"].get(self.name, [])}
                keys = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if keys:
                raise Unavailable(f"DynamoDB does not answer for {len(keys):,} records: go more slowly (--read-units)")
        return found

    def spent(self, capacity: Mapping[str, Any]) -> None:
        """So much; wait until that is as slow as it is to be."""
        units = float(capacity.get("CapacityUnits", 0))
        self.units += units
        self._pause(units / self._units_s)


def parts(those: Iterable[T], most: int) -> Iterator[list[T]]:
    """So many at a time."""
    left = iter(those)
    while some := list(islice(left, most)):
        yield some
