"""Where no thread is left, or a call fails as nobody foresaw, that is told, and the server goes on. What is removed is
due by the rules that count in that moment. Before a disk is full, people are told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import msgspec
import pytest

from decoupled.core.backups import Begin, Step, Told
from decoupled.core.forgetting import Asked
from decoupled.core.forgetting import Told as Forgetting
from decoupled.core.retention import Found, Looked
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.server.upkeep.backup_schedule import BackupSchedule, Plan
from decoupled.server.upkeep.backups import Backups
from decoupled.server.upkeep.disk import Disk, Room, room_at
from decoupled.server.upkeep.forgetting import Forgettings
from decoupled.server.upkeep.retention import Keeping


class Erasing:
    """A forgetting that goes on until it may end."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.may_end = threading.Event()

    def run(self) -> None:
        self.may_end.wait(20)

    def told(self) -> Forgetting:
        return Forgetting(of=self.asked.says, what="erasing", error="it ended" if self.may_end.is_set() else None)


def test_who_asks_to_forget_somebody_otherwise_than_it_is_being_done_is_refused() -> None:
    made = list[Erasing]()

    def make(asked: Asked) -> Erasing:
        made.append(Erasing(asked))
        return made[-1]

    def begin(**options: Any) -> str | None:
        return forgettings.begin(msgspec.Raw(msgspec.msgpack.encode(Asked(caller="ana", **options)))).error

    forgettings = Forgettings(cast(Any, None), make)
    try:
        assert begin() is None
        assert begin() is None  # the same: it is found
        assert "with other options" in (begin(keep=("shop/stock",)) or "")  # which would have been erased
        assert "with other options" in (begin(unfinished=True) or "")
        assert len(made) == 1
    finally:
        made[0].may_end.set()


class Made:
    """A backup that ends as soon as it runs."""

    def __init__(self, to: Path) -> None:
        self.ran = threading.Event()
        self.to = to

    def run(self) -> None:
        self.ran.set()

    def told(self) -> Told:
        return Told(str(self.to), Step("beginning", 0, 0), error="it ended" if self.ran.is_set() else None)

    def cancel(self) -> None:
        pass


def none_left(*_: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_without_a_thread_there_is_no_backup_and_the_next_is_not_kept_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    backups = Backups(Made)
    begin = msgspec.Raw(msgspec.msgpack.encode(Begin("/backups")))
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", none_left)
        assert backups.begin(begin).error == "can't start new thread"
    begun = backups.begin_at(Path("/backups"))
    assert isinstance(begun, Made)
    assert begun.ran.wait(20)


def test_without_a_thread_backups_of_a_schedule_fail_for_all_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    place: Any = None
    schedule = BackupSchedule(Plan(place, Path("/backups"), 60.0, 7), Made, lambda: 0)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    schedule.start()
    trouble = schedule.trouble()
    assert trouble is not None
    assert "backups fail: can't start new thread" in trouble.detail


def test_a_call_that_fails_is_told_to_its_tool_and_the_next_is_answered(tmp_path: Path) -> None:
    def ask(name: str) -> int:
        with admin_socket.connect(tmp_path, 20) as server:
            return admin.call(server, name, 1, int)

    async def serve() -> int:
        unused = cast("Any", None)
        serving = admin.Admin(unused, unused, unused, unused, asyncio.get_running_loop())
        serving.calls |= {"divide": lambda _: 1 // 0, "count": lambda given: msgspec.msgpack.decode(given) + 1}
        async with await serving.start(admin_socket.listen(tmp_path)):
            with pytest.raises(Unavailable, match="an internal error; its log has more"):
                await asyncio.to_thread(ask, "divide")
            return await asyncio.to_thread(ask, "count")

    assert asyncio.run(serve()) == 2


class Rules:
    """A store in which all is due, and goes on until `gone` has happened."""

    def __init__(self) -> None:
        self.removed = 0
        self.closed = False
        self.gone: Callable[[], None] = lambda: None

    def look(self, _now_ms: int, part: int) -> Looked:
        return Looked([Found(seq, 1) for seq in range(1_000)], [], part + 1)

    def looked_before(self, now_ms: int) -> int:
        return now_ms

    def remove(self, found: Sequence[Found]) -> Counter[str]:
        self.removed += len(found)
        self.gone()
        return Counter(processed=len(found))

    def remove_bodies(self, _found: Sequence[Found]) -> int:
        return 0

    def shrink(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class AtOnce:
    """A writer that does each as soon as it is asked."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def gives_way(self) -> bool:
        return False

    def run(self, operation: Callable[[], Any]) -> asyncio.Future[Any]:
        done = self.loop.create_future()
        done.set_result(operation())
        return done


def test_rules_that_count_no_more_remove_nothing_more() -> None:
    async def change() -> tuple[Rules, Rules]:
        old, new = Rules(), Rules()
        keeping = Keeping(old, "1d", cast("Any", AtOnce()), lambda: 0)
        changed = asyncio.Event()
        old.gone = lambda: keeping.change(new, "90d")
        new.gone = changed.set
        keeping.start()
        async with asyncio.timeout(20):
            await changed.wait()
            told = keeping.told()
            assert told is not None
            assert told["kept"] == "90d"
            keeping.change(None, "")
            assert keeping.told() is None
            await keeping.close()
        return old, new

    old, new = asyncio.run(change())
    assert (old.removed, old.closed) == (100, True)
    assert new.removed == 100


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "of", "says"),
    [
        (GIB - 1, 500 * GIB, "has 1,024 MiB left"),
        (GIB, 500 * GIB, None),
        (GIB // 20, 2 * GIB, "has 51 MiB left"),  # of a small one, a twentieth
        (GIB // 9, 2 * GIB, None),
    ],
)
def test_people_are_told_before_the_disk_is_full(free: int, of: int, says: str | None) -> None:
    disk = Disk(Path("/data"), lambda _: Room(free, of))
    trouble = disk.trouble()
    assert disk.numbers() == {"disk_free_bytes": free}
    if says is None:
        assert trouble is None
    else:
        assert trouble is not None
        assert says in trouble.detail
        assert not trouble.refuses


def test_a_disk_that_cannot_be_looked_at_is_no_disk_with_room() -> None:
    disk = Disk(Path("/not there"))
    trouble = disk.trouble()
    assert trouble is not None
    assert trouble.detail.endswith("is not known: No such file or directory")
    assert disk.numbers() == {}


def test_what_this_user_may_still_write_counts(tmp_path: Path) -> None:
    room = room_at(tmp_path)
    assert 0 < room.free <= room.all
