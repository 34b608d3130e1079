"""Votes, as docs/workloads.md of 0.1.0 had them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from decoupled.workload import Add, Effects, Message, Put, Workload

Name = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]


class Vote(Struct, frozen=True, forbid_unknown_fields=True):
    poll: Name
    voter: Name
    choice: Literal["yes", "no"]


def process(vote: Vote, message: Message) -> Effects:
    once = Put(f"votes/voters/{vote.poll}.{vote.voter}", {"choice": vote.choice}, if_absent="has voted already")
    return Effects({"counted": vote.choice}, [once, Add(f"votes/polls/{vote.poll}", {vote.choice: 1})])


WORKLOAD = Workload("votes", Vote, process, readable=("polls",))
