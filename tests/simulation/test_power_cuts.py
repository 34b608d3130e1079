"""After a power cut at any moment every 202 is there, whatever of the unsynced writes reached the disk; a server that
answers before its commit is on the disk would be found out. `make chaos` cuts the power more often."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.chaos import power_cuts
from tests.support.chaos.disk import needs_the_shim
from tests.support.chaos.record import Event, Kind
from tests.support.chaos.replay import PAGE_BYTES, SECTOR_BYTES, Replay
from tests.support.server import LAUNCH

CUTS = 40
DISKS = range(200)  # that one power cut may leave, by their seeds

OLD, NEW = b"o" * PAGE_BYTES, b"n" * PAGE_BYTES


@pytest.fixture
def seed() -> int:
    """Of this run."""
    chosen = random.SystemRandom().randrange(1_000_000)
    print(f"seed {chosen}")  # noqa: T201  shown when the test fails
    return chosen


@needs_the_shim
def test_after_a_power_cut_every_202_is_there(seed: int, tmp_path: Path) -> None:
    power_cuts.record(tmp_path, seed, power_cuts.ENDINGS)
    assert power_cuts.check(tmp_path, seed, CUTS)["202s looked for"] > CUTS


@needs_the_shim
def test_a_start_after_a_failed_sync_trusts_nothing_that_is_only_in_memory(seed: int, tmp_path: Path) -> None:
    """The log that it finds has a gap on the disk, though not in the kernel's memory. What follows a gap is lost."""
    power_cuts.record(tmp_path, seed, ["killed after a failed sync", "killed"])
    power_cuts.check(tmp_path, seed, CUTS)


@needs_the_shim
@pytest.mark.parametrize("fault", [("synchronous", "NORMAL"), ("late_commit", "0")], ids=lambda fault: fault[0])
def test_a_server_that_answers_before_its_commit_is_on_the_disk_is_found_out(
    fault: tuple[str, str], seed: int, tmp_path: Path
) -> None:
    power_cuts.record(tmp_path, seed, ["killed"], program=(*LAUNCH, *fault))
    with pytest.raises(AssertionError, match="accepted are lost"):
        power_cuts.check(tmp_path, seed, CUTS)


# --- what a disk may hold ----------------------------------------------------------


def events(*happened: tuple[Kind, str, bytes] | tuple[Kind, str]) -> list[Event]:
    """At the beginning of each file."""
    inodes = {".": 1, "a": 2, "b": 3}
    return [Event(kind, 0, inodes[name], 0, name, data[0] if data else b"") for kind, name, *data in happened]


SYNCED_ONCE = events(
    (Kind.MADE, "a"), (Kind.WROTE, "a", OLD), (Kind.SYNCED, "a"), (Kind.SYNCED, "."), (Kind.WROTE, "a", NEW)
)


def disks(happened: list[Event], directory: Path) -> list[dict[str, bytes]]:
    """What many power cuts at the end of this leave."""
    replay, left = Replay(), []
    for event in happened:
        replay.play(event)
    for number in DISKS:
        image = directory / str(number)
        image.mkdir()
        replay.cut_power(image, random.Random(number))
        left.append({path.name: path.read_bytes() for path in image.iterdir()})
    return left


def test_what_was_synced_is_there_and_of_the_rest_any_sector(tmp_path: Path) -> None:
    contents = [disk["a"] for disk in disks(SYNCED_ONCE, tmp_path)]
    sectors = {content[at : at + SECTOR_BYTES] for content in contents for at in range(0, PAGE_BYTES, SECTOR_BYTES)}
    assert sectors == {OLD[:SECTOR_BYTES], NEW[:SECTOR_BYTES]}
    assert {OLD, NEW} < set(contents)  # none of the new ones, all of them, and some of them


def test_a_sync_leaves_no_choice(tmp_path: Path) -> None:
    assert all(disk == {"a": NEW} for disk in disks([*SYNCED_ONCE, *events((Kind.SYNCED, "a"))], tmp_path))


def test_after_a_failed_sync_a_later_one_says_nothing_of_what_was_written_before(tmp_path: Path) -> None:
    failed, worked = Event(Kind.SYNCED, 5, 2, 0, "a", b""), Event(Kind.SYNCED, 0, 2, 0, "a", b"")
    assert {OLD, NEW} < {disk["a"] for disk in disks([*SYNCED_ONCE, failed, worked], tmp_path)}


def test_what_is_written_again_after_a_failed_sync_is_there_once_it_is_synced(tmp_path: Path) -> None:
    failed, again, worked = (
        Event(Kind.SYNCED, 5, 2, 0, "a", b""),
        Event(Kind.WROTE, 0, 2, 0, "a", NEW),
        Event(Kind.SYNCED, 0, 2, 0, "a", b""),
    )
    assert all(disk == {"a": NEW} for disk in disks([*SYNCED_ONCE, failed, again, worked], tmp_path))


def test_a_name_is_there_for_good_when_its_directory_is_synced(tmp_path: Path) -> None:
    unsynced = events((Kind.MADE, "b"), (Kind.WROTE, "b", NEW), (Kind.SYNCED, "b"))
    left = [set(disk) for disk in disks([*SYNCED_ONCE, *unsynced], tmp_path)]
    assert {"a"} in left
    assert {"a", "b"} in left
    (tmp_path / "synced").mkdir()
    left = [set(disk) for disk in disks([*SYNCED_ONCE, *unsynced, *events((Kind.SYNCED, "."))], tmp_path / "synced")]
    assert all(names == {"a", "b"} for names in left)


def test_a_file_that_was_cut_off_may_have_either_size(tmp_path: Path) -> None:
    sizes = {len(disk["a"]) for disk in disks([*SYNCED_ONCE, Event(Kind.CUT, 0, 2, 100, "a", b"")], tmp_path)}
    assert sizes == {100, PAGE_BYTES}
