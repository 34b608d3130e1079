"""How far a replica is behind, and what a person means by a moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from decoupled.core.replicas import Lag, Place, Reached, check, is_url, moment, nameless, shown, url_of
from decoupled.core.times import parse_rfc3339
from decoupled.core.upkeep_limits import REPLICA_LATE_S, REPLICA_PLACES
from decoupled.engines.sqlite.litestream import ReplicaError
from decoupled.server.upkeep.replicating import Replicating

A, B, C = b"a" * 8, b"b" * 8, b"c" * 8
NOW = parse_rfc3339("2026-11-30T10:15:00Z")


def test_what_is_there_is_not_behind() -> None:
    lag = Lag(0)
    for now in (10.0, 20.0):
        lag.look(Place(A, 500), Place(A, 500), now)
        assert (lag.seconds(now + 5), lag.bytes) == (0, 0)


def test_the_lag_is_since_when_all_was_there() -> None:
    lag = Lag(0)
    lag.look(Place(A, 500), Place(A, 500), 10)
    lag.look(Place(A, 500), Place(A, 700), 20)
    assert (lag.seconds(25), lag.bytes) == (15, 200)
    lag.look(Place(A, 500), Place(A, 900), 30)
    assert (lag.seconds(30), lag.bytes) == (20, 400)
    lag.look(Place(A, 700), Place(A, 950), 40)
    assert (lag.seconds(40), lag.bytes) == (20, 250)  # what was there at 20 has come
    lag.look(Place(A, 950), Place(A, 950), 50)
    assert (lag.seconds(60), lag.bytes) == (0, 0)


def test_a_log_that_is_begun_anew_begins_where_the_last_one_was_there_whole() -> None:
    lag = Lag(0)
    lag.look(Place(A, 500), Place(A, 700), 10)
    lag.look(Place(A, 500), Place(B, 100), 20)
    assert lag.bytes == 100
    assert lag.seconds(20) == 20
    lag.look(Place(B, 100), Place(B, 300), 30)
    assert (lag.seconds(30), lag.bytes) == (10, 200)
    lag.look(Place(B, 300), Place(C, 50), 40)  # what C has is not there
    assert (lag.seconds(40), lag.bytes) == (10, 50)


def test_a_place_of_a_log_that_nobody_knows_any_more_says_nothing() -> None:
    lag = Lag(0)
    lag.look(Place(B, 10_000), Place(A, 700), 10)
    assert lag.seconds(10) == 10
    lag.look(None, Place(A, 700), 20)
    assert (lag.seconds(20), lag.bytes) == (20, 700)


def test_a_lag_of_days_takes_no_more_memory_and_is_told_for_no_less() -> None:
    lag = Lag(0)
    for number in range(REPLICA_PLACES * 3):
        lag.look(None, Place(A, number), float(number))
    lag.look(Place(A, REPLICA_PLACES * 2), Place(A, REPLICA_PLACES * 4), REPLICA_PLACES * 4.0)
    assert lag.seconds(REPLICA_PLACES * 4) >= REPLICA_PLACES * 2


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", None),
        ("10m ago", NOW - 600_000),
        ("2d ago", NOW - 2 * 86_400_000),
        ("2026-11-30T10:14:59.500Z", NOW - 500),
        ("2026-11-30T11:14:00+01:00", NOW - 60_000),
    ],
)
def test_a_moment_is_understood(text: str, at: int | None) -> None:
    assert moment(text, NOW) == at


@pytest.mark.parametrize(
    "text", ["", "10 minutes ago", "2026-11-30T10:14:00", "2026-11-30T10:15:01Z", "2026-13-01T00:00:00Z"]
)
def test_what_is_no_moment_or_still_to_come_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"moment|zone|to come"):
        moment(text, NOW)


def test_a_place_is_a_url_or_a_directory() -> None:
    assert is_url("s3://bucket/path?endpoint=http://127.0.0.1:9000")
    assert not is_url("/mnt/replica")
    assert url_of("replica", Path("/srv/shop")) == "file:///srv/shop/replica"
    assert url_of("/mnt/replica", Path("/srv/shop")) == "file:///mnt/replica"


@pytest.mark.parametrize(
    "directory", ["/mnt/my replica", "/mnt/büro", "/mnt/what?", "/mnt/#1", "file:///mnt/my replica"]
)
def test_a_directory_that_litestream_would_take_for_another_one_is_refused(directory: str) -> None:
    with pytest.raises(ValueError, match="Litestream cannot be told of the directory /mnt/"):
        url_of(directory, Path("/srv/shop"))


@pytest.mark.parametrize(
    "target", [".data", ".data/replica", "../shop/.data", "/srv/shop/.data/x", "file:///srv/shop/.data"]
)
def test_a_replica_in_the_data_directory_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="with which it would be lost"):
        check(target, Path(".data"), Path("/srv/shop"))


@pytest.mark.parametrize("target", [".data2", "../replica", "/srv/shop", "s3://bucket/srv/shop/.data"])
def test_another_place_is_not(target: str) -> None:
    check(target, Path(".data"), Path("/srv/shop"))


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/mnt/replica", "/mnt/replica"),
        ("s3://bucket/shop?region=eu-west-1", "s3://bucket/shop"),
        ("sftp://shop:hunter2@host:22/srv/shop", "sftp://host:22/srv/shop"),
        ("webdavs://shop:hunter2@host", "webdavs://host"),
    ],
)
def test_a_password_in_a_url_is_shown_to_nobody_and_the_place_not_to_everybody(target: str, place: str) -> None:
    assert shown(target) == place
    for why in (f"{target} is away", f"{place} is away", f"dial {target}/ltx: no answer"):
        assert "hunter2" not in nameless(why, target)
        assert place not in nameless(why, target)
    assert nameless("dial sftp://shop:hunter2@other/x: refused", target) == "dial sftp://other/x: refused"


# --- the piece of a server's upkeep -------------------------------------------


@dataclass
class Faked:
    """A replica, and a log."""

    at: Reached | Exception = field(default_factory=Reached)
    end: Place = field(default_factory=lambda: Place(A, 500))
    every_s: float = 0.001
    looks: int = 0

    def reached(self) -> Reached:
        self.looks += 1
        if isinstance(self.at, Exception):
            raise self.at
        return self.at

    def here(self) -> Place:
        return self.end

    def keys(self) -> tuple[Callable[[], None], Callable[[], None]] | None:
        return None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def followed(watched: Faked, after: Callable[[Replicating, Clock], None]) -> None:
    async def follow() -> None:
        clock = Clock()
        piece = Replicating(watched, "/mnt/replica", None, asyncio.get_running_loop(), lambda: NOW, clock)  # type: ignore[arg-type]  # no keys
        piece.start()
        try:
            after(piece, clock)
        finally:
            await piece.close()

    asyncio.run(follow())


def looked(watched: Faked) -> None:
    """Twice, since one may have begun."""
    until, deadline = watched.looks + 2, time.monotonic() + 20
    while watched.looks < until:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_replica_that_is_behind_for_too_long_is_told_of_until_it_has_come() -> None:
    watched = Faked(Reached(Place(A, 500), NOW))

    def after(piece: Replicating, clock: Clock) -> None:
        looked(watched)
        assert piece.trouble() is None
        assert piece.numbers() == {"replica_lag_seconds": 0, "replica_lag_bytes": 0}
        watched.end = Place(A, 1_500)
        looked(watched)
        clock.now += REPLICA_LATE_S - 1
        assert piece.trouble() is None
        clock.now += 2
        looked(watched)
        trouble = piece.trouble()
        assert trouble is not None
        assert not trouble.refuses
        assert (
            "does Litestream run? 61 s and 0.0 MiB are not there; its last change is of 2026-11-30T10:15"
            in trouble.detail
        )
        assert piece.numbers()["replica_lag_bytes"] == 1_000
        watched.at = Reached(Place(A, 1_500), NOW)
        looked(watched)
        assert piece.trouble() is None

    followed(watched, after)


def test_a_place_that_cannot_be_looked_at_is_told_of_and_a_restart_is_no_alarm() -> None:
    watched = Faked(OSError(5, "Input/output error"))

    def after(piece: Replicating, clock: Clock) -> None:
        looked(watched)
        clock.now += REPLICA_LATE_S - 1
        assert piece.trouble() is None
        clock.now += 2
        trouble = piece.trouble()
        assert trouble is not None
        assert "cannot be looked at: Input/output error" in trouble.detail
        assert "MiB" not in trouble.detail
        assert piece.numbers() == {"replica_lag_seconds": REPLICA_LATE_S + 1}  # how many bytes, nobody knows

    followed(watched, after)


def test_what_an_earlier_server_accepted_and_is_not_there_counts_from_then_on() -> None:
    watched = Faked(Reached(None, NOW - 3_600_000))

    def after(piece: Replicating, clock: Clock) -> None:
        looked(watched)
        assert piece.numbers()["replica_lag_seconds"] == pytest.approx(3_600)
        assert piece.trouble() is None  # Litestream may be starting, too
        clock.now += REPLICA_LATE_S + 1
        assert piece.trouble() is not None

    followed(watched, after)


@pytest.mark.parametrize("mixed", [True, False])
def test_a_second_litestream_is_told_of_at_once_and_for_good_where_it_has_spoilt_the_replica(mixed: bool) -> None:
    watched = Faked(Reached(Place(A, 500), NOW, (7,), mixed))

    def after(piece: Replicating, _: Clock) -> None:
        looked(watched)
        trouble = piece.trouble()
        assert trouble is not None
        assert "another Litestream writes to the replica" in trouble.detail
        watched.at = Reached(Place(A, 500), NOW)  # what was mixed has been put together with others
        looked(watched)
        assert (piece.trouble() is not None) == mixed

    followed(watched, after)


def test_who_asks_for_health_is_not_told_where_the_replica_is() -> None:
    for at in (Reached(), Reached(None, NOW), Reached(None, NOW, (7,)), ReplicaError("there is none in /mnt/replica")):
        watched = Faked(at)

        def after(piece: Replicating, clock: Clock, watched: Faked = watched) -> None:
            looked(watched)
            clock.now += REPLICA_LATE_S + 1
            trouble = piece.trouble()
            assert trouble is not None
            assert "/mnt/replica" not in f"{trouble.detail} {piece.told()}"

        followed(watched, after)


def test_a_place_that_hangs_is_told_of_and_what_comes_meanwhile_is_not_called_there() -> None:
    hangs, waits, goes_on = (threading.Event() for _ in range(3))

    class Hanging(Faked):
        def reached(self) -> Reached:
            if hangs.is_set():
                waits.set()
                assert goes_on.wait(20)
            return super().reached()

    watched = Hanging(Reached(Place(A, 500), NOW))

    def after(piece: Replicating, clock: Clock) -> None:
        looked(watched)
        assert piece.numbers()["replica_lag_seconds"] == 0
        hangs.set()
        assert waits.wait(20)
        clock.now += REPLICA_LATE_S + 1
        trouble = piece.trouble()
        assert trouble is not None
        assert "cannot be looked at: its place gives no answer, for 61 s" in trouble.detail
        assert piece.numbers()["replica_lag_seconds"] == REPLICA_LATE_S + 1
        hangs.clear()
        goes_on.set()
        looked(watched)
        assert piece.trouble() is None

    followed(watched, after)


def test_keys_that_could_not_be_written_into_the_file_are_written_at_the_next_look() -> None:
    written: list[str] = []

    class Changed(Faked):
        kept = False

        def keys(self) -> tuple[Callable[[], None], Callable[[], None]] | None:
            return None if self.kept else (lambda: written.append("keys"), lambda: setattr(self, "kept", True))

    class FullAtFirst:
        tries = 0

        def run(self, operation: Callable[[], None]) -> asyncio.Future[None]:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.tries += 1
            if self.tries == 1:
                operation()  # and it is undone
                done.set_exception(OSError("database or disk is full"))
            else:
                operation()
                done.set_result(None)
            return done

    async def follow() -> None:
        watched, writer = Changed(Reached(Place(A, 500), NOW)), FullAtFirst()
        piece = Replicating(watched, "/mnt/replica", writer, asyncio.get_running_loop(), lambda: NOW)
        piece.start()
        async with asyncio.timeout(20):
            while not watched.kept:
                await asyncio.sleep(0.001)
        await piece.close()
        assert (writer.tries, len(written)) == (2, 2)

    asyncio.run(follow())
