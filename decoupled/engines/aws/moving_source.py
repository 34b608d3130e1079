"""A stack that is moved away: its table is scanned, its dead letters are read as ever, and what is due later is read
from its schedules. It has to be drained first: nobody can read a queue of SQS twice.

The table does not know in which order records ended. So each round reads all of it again, and the other side keeps what
it has; the last round is the one that counts, of a stack in which nothing moves any more."""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from decoupled.core.dead_letters import Wanted
from decoupled.core.moving import Carried, CarriedItem, Counts, ItemPart, Part, State
from decoupled.core.status import FINAL
from decoupled.engines.aws import carried as forms
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attributes
from decoupled.engines.aws.closing import OURS, Closing, asked
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.schedules import at
from decoupled.engines.aws.sqs_format import message_of

_END_OF_TIME_MS = 253_402_300_799_000  # 9999-12-31T23:59:59Z: this machine's clock may be behind that of AWS
_AGAIN = "again"  # the mark of a round that has come to its end


class AwsSource:
    """Implements Source. `dead_letters` makes a look at them, which hides what it sees from others for a while. `to`:
    where it moves, so that nobody opens it who moves it elsewhere; "" is anywhere."""

    def __init__(
        self, name: str, closing: Closing, dynamodb: Any, dead_letters: Callable[[], AwsDeadLetters], to: str = ""
    ) -> None:
        self.name = name
        self.identity = closing.identity
        self._to = to
        self._closing = closing
        self._dynamodb = dynamodb
        self._make_dead_letters = dead_letters
        self._dead_letters: AwsDeadLetters | None = None
        self._later: list[str] | None = None  # the names of what is due later, of a stack that is closed

    # --- how much

    def counts(self) -> Counts:
        """The table's own count, of some hours ago, and what was scheduled now."""
        table = asked(self._dynamodb.describe_table, TableName=self._closing.table)["Table"]
        later = sum(1 for _ in self._closing.schedules())
        return Counts(processed=table.get("ItemCount", 0), queued=later, later=later, exact=False)

    def state(self) -> State:
        """As the table has it."""
        return self._closing.told()[0]

    # --- records and items

    def ended(self, after: str, most: int) -> Part:
        """A page of the scan, in which there may be none."""
        final = {f":{status}": {"S": status} for status in FINAL}
        found, mark = self._scan(
            "" if after == _AGAIN else after,
            most,
            FilterExpression=f"attribute_exists(workload) AND #status IN ({', '.join(final)})",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues=final,
        )
        return Part([forms.carried(each) for each in found], mark or _AGAIN, mark is not None)

    def items(self, after: str, most: int) -> ItemPart:
        """Likewise; what is ours has no place among them."""
        found, mark = self._scan(
            after, most, FilterExpression="contains(pk, :slash)", ExpressionAttributeValues={":slash": {"S": "/"}}
        )
        some: list[CarriedItem] = [forms.carried_item(each) for each in found if not each["pk"]["S"].startswith(OURS)]
        return ItemPart(some, mark or after, mark is not None)

    def _scan(self, after: str, most: int, **request: Any) -> tuple[Sequence[Attributes], str | None]:
        """What a page of the table has, and the key to go on from, if there is more."""
        start = {"ExclusiveStartKey": {"pk": {"S": after}}} if after else {}
        page = asked(
            self._dynamodb.scan, TableName=self._closing.table, Limit=most, ConsistentRead=True, **start, **request
        )
        last = page.get("LastEvaluatedKey")
        return page["Items"], None if last is None else last["pk"]["S"]

    def dead(self, after: str, most: int) -> Part:
        """Those with a record, and then what SQS moved. Raises ValueError or Unavailable if not all of that is seen."""
        look = self._look()
        some = look.some(Wanted(dead_before=_END_OF_TIME_MS), after or None, most)
        whole = (look.get(letter.id) for letter in some.letters)
        return Part(
            [forms.of_letter(letter) for letter in whole if letter], some.after or after, some.after is not None
        )

    def _look(self) -> AwsDeadLetters:
        """One that sees all, kept for as long as this is used: it hides what it sees from others, and from another."""
        if self._dead_letters is None:
            look = self._make_dead_letters()
            try:
                look.see_all()
            except BaseException:
                look.close()
                raise
            self._dead_letters = look
        return self._dead_letters

    # --- what waits

    def waiting(self, after: str, most: int) -> Part:
        """What is due later, by name. Then a look for open records of which nothing is left: raises ValueError."""
        if self._later is None:
            self._later = sorted(each["Name"] for each in self._closing.schedules())
        first = bisect.bisect_right(self._later, after)
        names = self._later[first : first + most]
        found = [self._due(name) for name in names]
        mark, more = (names[-1], first + most < len(self._later)) if names else (after, False)
        if not more:
            self._refuse_lost(self._later)
        return Part([each for each in found if each], mark, more)

    def _due(self, name: str) -> Carried | None:
        schedule = self._closing.schedule(name)
        if schedule is None:
            return None
        sent = json.loads(schedule["Target"]["Input"])
        told = {name: each.get("StringValue", "") for name, each in sent.get("MessageAttributes", {}).items()}
        message = message_of(name, sent["MessageBody"], told, {"MessageGroupId": sent.get("MessageGroupId", "")})
        answer = asked(
            self._dynamodb.get_item, TableName=self._closing.table, Key={"pk": {"S": message.id}}, ConsistentRead=True
        )
        if "Item" in answer and answer["Item"]["status"]["S"] != records.after("accept")["S"]:
            return None  # a copy of what has ended: its record goes over
        record = forms.carried(answer["Item"]) if "Item" in answer else _opened(message)
        return msgspec.structs.replace(
            record,
            body=message.body,
            group=message.group,
            digest=message.digest,
            callback=message.callback,
            trace=message.trace,
            hops=message.hops,
            due_at=at(schedule["ScheduleExpression"]),
        )

    def _refuse_lost(self, later: Sequence[str]) -> None:
        """Records that wait, with no message left: SQS has deleted it, or somebody has. Those that SQS gave up go over
        as dead. Most of what is due `later` has the name of its message; the others are only asked for that where it
        matters."""
        names, lost, after, more = {*later}, list[str](), "", True
        while more:
            found, mark = self._scan(
                after,
                1_000,
                FilterExpression="#status = :queued AND attribute_exists(workload) AND attribute_not_exists(dead)",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":queued": records.after("accept")},
            )
            lost += [each["pk"]["S"] for each in found if each["pk"]["S"] not in names]
            after, more = mark or "", mark is not None
        due = {each.id for each in map(self._due, later) if each} if lost else set[str]()
        if lost := [it for it in lost if it not in due and self._look().get(it) is None]:
            some = ", ".join(lost[:20])
            raise ValueError(f"{len(lost):,} messages of {self.name} have an open record, and are on no queue: {some}")

    # --- to stop, and to go on

    def stop(self, to: str, url: str, drain: bool) -> None:  # noqa: ARG002  it is always drained, and says no more than 503
        """It says that first, so that whoever goes on knows, and each look at what is left closes it again."""
        self._closing.tell("stopped", to)
        self._closing.close()

    def busy(self) -> int:
        """Also what waits, as it has to be drained."""
        self._later = None
        return self._closing.left()

    def go_on(self) -> None:
        """It says that last, so that whoever is killed before can do it again."""
        state, to = self._closing.told()
        if state == "moved":
            raise ValueError(f"{self.name} has given over to {to}, for good")
        if self._to not in ("", to):
            raise ValueError(f"{self.name} moves to {to}, and not to {self._to}: take that back")
        self._closing.open()
        self._closing.tell("open", to)

    def give_over(self) -> None:
        """It stays closed. Raises ValueError if it did not: then what has gone over is not all."""
        state, to = self._closing.told()
        if state == "open":
            raise ValueError(f"{self.name} accepts messages: somebody has opened it again")
        if state == "stopped" and self._closing.left():
            raise ValueError(f"{self.name} has messages on its way since it was drained: take it back with --back-out")
        self._closing.tell("moved", to)

    def close(self) -> None:
        """Give back what a look at the dead letters has hidden."""
        if self._dead_letters is not None:
            self._dead_letters.close()


def _opened(message: Any) -> Carried:
    return Carried(
        id=message.id,
        workload=message.workload,
        status="queued",
        accepted_at=message.accepted_at,
        caller=message.caller,
    )
