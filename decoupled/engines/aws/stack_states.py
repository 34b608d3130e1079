"""What can be done with a stack in each of CloudFormation's states, before it is deployed: a table, and who goes by it.

another's operation ── wait ──▶ whole ── change it
a create that failed ── delete what is left, which holds nothing ──▶ none ── make it
an update that could not go back ── have it go back ──▶ whole ── change it
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, assert_never

from decoupled.engines.aws import failed_create
from decoupled.engines.aws.stack import tool_client
from decoupled.engines.aws.stack_events import OnEvent, described, follow, seen_until_now

MAX_MOVES = 5  # an update that somebody runs, fails, cannot go back, and goes back at last: three


class Move(Enum):
    """What comes next."""

    MAKE = "make it"
    CHANGE = "change it"
    WAIT = "another operation is running: waiting for it"
    CLEAR = "it was never made whole, and holds nothing: deleting it, to make it anew"
    GO_BACK = "an update of it stopped half-way: rolling it back"
    GO_ON_BACK = "an update of it could not be rolled back: trying that again"
    TELL = "a person has to decide"


MOVES: Mapping[str, Move] = {
    "REVIEW_IN_PROGRESS": Move.MAKE,
    "DELETE_COMPLETE": Move.MAKE,
    "CREATE_COMPLETE": Move.CHANGE,
    "UPDATE_COMPLETE": Move.CHANGE,
    "UPDATE_ROLLBACK_COMPLETE": Move.CHANGE,
    "IMPORT_COMPLETE": Move.CHANGE,
    "IMPORT_ROLLBACK_COMPLETE": Move.CHANGE,
    "CREATE_IN_PROGRESS": Move.WAIT,
    "ROLLBACK_IN_PROGRESS": Move.WAIT,
    "DELETE_IN_PROGRESS": Move.WAIT,
    "UPDATE_IN_PROGRESS": Move.WAIT,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Move.WAIT,
    "UPDATE_ROLLBACK_IN_PROGRESS": Move.WAIT,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Move.WAIT,
    "IMPORT_IN_PROGRESS": Move.WAIT,
    "IMPORT_ROLLBACK_IN_PROGRESS": Move.WAIT,
    "ROLLBACK_COMPLETE": Move.CLEAR,
    "ROLLBACK_FAILED": Move.CLEAR,
    "CREATE_FAILED": Move.CLEAR,
    "UPDATE_FAILED": Move.GO_BACK,
    "UPDATE_ROLLBACK_FAILED": Move.GO_ON_BACK,
    "DELETE_FAILED": Move.TELL,
    "IMPORT_ROLLBACK_FAILED": Move.TELL,
}
_TOLD = {
    "DELETE_FAILED": "somebody deletes it, and AWS could not delete all of it. Its events say why:\n"
    "  aws cloudformation describe-stack-events --stack-name {stack}\n"
    "When that is mended, `decoupled destroy {stack}` goes on",
    "IMPORT_ROLLBACK_FAILED": "AWS could not undo an import. Its events say why:\n"
    "  aws cloudformation describe-stack-events --stack-name {stack}\n"
    "When that is mended:\n  aws cloudformation continue-update-rollback --stack-name {stack}",
    "UPDATE_ROLLBACK_FAILED": "AWS could not go back to what was, and tried again in vain ({why}).\n"
    "When that is mended, deploy again; what cannot be mended can be left out:\n"
    "  aws cloudformation continue-update-rollback --stack-name {stack} --resources-to-skip NAME",
}


def settled(stack: str, on_event: OnEvent) -> Mapping[str, Any] | None:
    """The stack, at rest, to be changed; None if it is to be made. Raises ValueError where only a person can help."""
    tried_back = ""
    for _ in range(MAX_MOVES):
        found = described(stack)
        status: str = "DELETE_COMPLETE" if found is None else found["StackStatus"]
        move = MOVES.get(status, Move.TELL)
        if move is Move.CHANGE:
            return found
        if found is None or move is Move.MAKE:
            return None
        if move is Move.TELL or (move is Move.GO_ON_BACK and tried_back):
            reason = _TOLD.get(status, "this state is not known here").format(stack=stack, why=tried_back)
            raise ValueError(f"the stack {stack} is {status}: {reason}")
        on_event(f"{stack} is {status}; {move.value}")
        identity: str = found["StackId"]
        seen = seen_until_now(identity)
        _do(move, identity)
        _, why = follow(identity, seen, on_event)
        tried_back = (why or "its events say why") if move is Move.GO_ON_BACK else ""
    raise ValueError(f"the stack {stack} does not come to rest: somebody else is changing it")


def at_rest(stack: str, on_event: OnEvent) -> Mapping[str, Any] | None:
    """The stack once nobody's operation runs on it, whatever came of that; None if there is none."""
    for _ in range(MAX_MOVES):
        found = described(stack)
        if found is None or found["StackStatus"] == "DELETE_COMPLETE":
            return None
        if MOVES.get(found["StackStatus"]) is not Move.WAIT:
            return found
        on_event(f"{stack} is {found['StackStatus']}; {Move.WAIT.value}")
        follow(found["StackId"], seen_until_now(found["StackId"]), on_event)
    raise ValueError(f"the stack {stack} does not come to rest: somebody else is changing it")


def _do(move: Move, stack: str) -> None:
    cloudformation = tool_client("cloudformation")
    match move:
        case Move.CLEAR:
            failed_create.clear(stack)
        case Move.GO_BACK:
            cloudformation.rollback_stack(StackName=stack)
        case Move.GO_ON_BACK:
            cloudformation.continue_update_rollback(StackName=stack)
        case Move.WAIT | Move.MAKE | Move.CHANGE | Move.TELL:
            pass
        case _:
            assert_never(move)
