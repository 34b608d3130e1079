"""A process beside the writer's, as that has it: real processes, on the server's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import uvloop

from decoupled.core.metrics import Numbers
from decoupled.server.fronts.child import FrontProcess, Given
from decoupled.server.watches import Watches


class Ends(FrontProcess):
    """As soon as it has begun."""

    module = "__hello__"

    def _arguments(self) -> list[str]:
        return []

    def _descriptors(self) -> Sequence[int]:
        return ()


class Owner:
    """Hears when it has been missed."""

    sender: Any = None
    watches: Any = Watches(None, None)  # type: ignore[arg-type]

    def __init__(self) -> None:
        self.lost_one = asyncio.Event()

    def health(self) -> tuple[int, str]:
        return 200, "{}"

    def counted(self, _numbers: Numbers | None) -> None:
        """It counts nothing."""

    def lost(self, _front: FrontProcess, _cause: str) -> None:
        self.lost_one.set()


def test_one_that_is_gone_and_not_missed_yet_can_be_asked_to_leave() -> None:
    async def asked() -> None:
        owner = Owner()
        with socket.socket() as listener:
            front = Ends(owner, Given(listener, -1, 0, {}), asyncio.get_running_loop())
            await front.start()
            front.ready = True
            async with asyncio.timeout(20):
                while not owner.lost_one.is_set():
                    front.leave(at_once=True)
                    await asyncio.sleep(0)
            front.leave(at_once=True)
        assert front.gone

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asked())
