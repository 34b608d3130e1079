"""What is due later, as a tool sees it: the schedules of a stack's group, each with the message that it is of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from decoupled.core.workload import Message
from decoupled.engines.aws.client import AwsError, code, unavailable
from decoupled.engines.aws.sqs_format import message_of

_PAGE = 100  # AWS
_NONE = "ResourceNotFoundException"


class DueLater:
    """Those of one group; of none, there are none. Every method may raise Unavailable."""

    def __init__(self, scheduler: Any, group: str | None) -> None:
        self._scheduler = scheduler
        self._group = group

    def messages(self) -> Iterator[tuple[str, Message]]:
        """Each schedule's name and message."""
        more: dict[str, str] = {}
        while self._group is not None:
            with unavailable():
                page = self._scheduler.list_schedules(GroupName=self._group, MaxResults=_PAGE, **more)
            for each in page["Schedules"]:
                if (message := self._message(each["Name"])) is not None:
                    yield each["Name"], message
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}

    def _message(self, name: str) -> Message | None:
        """None of one that has sent it meanwhile, or that somebody else has made."""
        try:
            schedule = self._scheduler.get_schedule(GroupName=self._group, Name=name)
        except AwsError as error:
            if code(error) == _NONE:
                return None
            with unavailable():
                raise
        try:
            sent = json.loads(schedule["Target"]["Input"])
            told = {name: each.get("StringValue", "") for name, each in sent.get("MessageAttributes", {}).items()}
            return message_of(name, sent["MessageBody"], told, {"MessageGroupId": sent.get("MessageGroupId", "")})
        except (KeyError, ValueError, AttributeError):
            return None

    def delete(self, name: str) -> None:
        """One; it may have gone."""
        try:
            self._scheduler.delete_schedule(GroupName=self._group, Name=name)
        except AwsError as error:
            if code(error) != _NONE:
                with unavailable():
                    raise
