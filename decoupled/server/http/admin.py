"""What the server does for tools on its own machine, over HTTP at a socket in its data directory: changes of dead
letters, in the writer's transactions. Who may connect, the file system says.

    POST /dead-letters/redrive|restore|purge   [dead letter, ...]  ─▶  200 [outcome, ...]
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Outcome
from decoupled.core.problem import Problem, Response, answer
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import DeadLetters
from decoupled.server.group_commit import Writer
from decoupled.server.http.parser import Request

log = logging.getLogger("decoupled.admin")

_letters = msgspec.json.Decoder(list[DeadLetter])


class Admin:
    """The handler of every request at that socket."""

    def __init__(self, writer: Writer, dead_letters: DeadLetters) -> None:
        self._writer = writer
        self._changes = {
            "/dead-letters/redrive": dead_letters.redrive,
            "/dead-letters/restore": dead_letters.restore,
            "/dead-letters/purge": dead_letters.purge,
        }

    def handle(self, request: Request, reply: Callable[[Response], None]) -> None:
        """Reply to one request, when what it changes is on the disk."""
        try:
            change, letters = self._understood(request)
        except Problem as problem:
            reply(problem.response())
            return
        self._writer.run(partial(change, letters)).add_done_callback(lambda done: reply(_told(done)))

    def _understood(self, request: Request) -> tuple[Callable[[list[DeadLetter]], list[Outcome]], list[DeadLetter]]:
        path, _ = request.path_and_query()
        if (change := self._changes.get(path)) is None:
            raise Problem(404, "There is nothing here.")
        if request.method != "POST":
            raise Problem(405, f"This takes POST, not {request.method[:20]}.", headers={"allow": "POST"})
        try:
            letters = _letters.decode(request.body)
        except msgspec.DecodeError as error:
            raise Problem(400, f"These are no dead letters: {error}.") from error
        if len(letters) > limits.TOOL_BATCH:
            raise Problem(400, f"These are {len(letters)} dead letters; {limits.TOOL_BATCH} are taken at once.")
        return change, letters


def _told(done: asyncio.Future[list[Outcome]]) -> Response:
    """The edge: whatever went wrong, the tool hears of it."""
    error = done.exception()
    if error is None:
        return answer(200, done.result())
    if isinstance(error, Unavailable):
        return Problem(503, f"The change could not be stored: {error}.", resend="safe", retry_after_s=1).response()
    log.error("dead letters could not be changed", exc_info=error)
    return Problem(500, "An internal error.", resend="safe").response()
