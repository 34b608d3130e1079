"""How a record is written: only as long as it is not final, and again if another write holds it right now. The
condition and the tries around it; what is written is the caller's affair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from decoupled.core import limits
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attribute, Attributes
from decoupled.engines.aws.client import AwsError, code

_NONE: Mapping[str, Attribute] = {}
_OPEN, _OPEN_VALUES = records.may("process")

UNEDITED = "attribute_not_exists(edited_at) OR #status = :may_queued"
"""The further condition that nobody has changed a message since it died: what comes late is of the body before."""


class OpenRecords:
    """Those of one table. `pause` waits so many seconds, `spread` is random (0..1)."""

    def __init__(self, table_name: str, pause: Callable[[float], None], spread: Callable[[], float]) -> None:
        self._table = table_name
        self._pause = pause
        self._spread = spread

    def condition(
        self, names: Sequence[str] = (), values: Mapping[str, Attribute] = _NONE, only_if: str = ""
    ) -> dict[str, Any]:
        """The condition that there is no final record, and a further one; names and values are those of the request's
        expressions."""
        is_open = f"attribute_not_exists(#pk) OR {_OPEN}"
        return {
            "TableName": self._table,
            "ConditionExpression": f"({is_open}) AND ({only_if})" if only_if else is_open,
            "ExpressionAttributeNames": {f"#{name}": name for name in ("pk", "status", *names)},
            "ExpressionAttributeValues": {
                **_OPEN_VALUES,
                **{f":{name}": value for name, value in values.items()},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def unless_final(
        self,
        call: Callable[..., Any],
        names: Sequence[str] = (),
        values: Mapping[str, Attribute] = _NONE,
        only_if: str = "",
        **request: Any,
    ) -> tuple[Any, Attributes | None]:
        """Write a record unless there is a final one: the answer, or what is stored where the condition fails ({} if
        nothing is)."""
        collision = Exception("no try was made")
        for _ in self.tries():
            try:
                return call(**self.condition(names, values, only_if), **request), None
            except AwsError as error:
                match code(error):
                    case "ConditionalCheckFailedException":
                        return None, error.response.get("Item", {})
                    case "TransactionConflictException":  # another delivery's transaction holds the record right now
                        collision = error
                    case _:
                        raise
        raise collision

    def tries(self) -> Iterator[int]:
        """A few tries, with a growing pause before each but the first; jitter keeps colliders from meeting again."""
        for earlier in range(limits.CONFLICT_TRIES):
            if earlier:
                self._pause(limits.CONFLICT_PAUSE_S * 2 ** (earlier - 1) * (1 - self._spread() / 2))
            yield earlier
