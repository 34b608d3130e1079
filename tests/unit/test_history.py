"""The file that charts are made of: what was added is read, in order, whatever happens to file and clock."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from decoupled.core import limits
from decoupled.core.overview import CHARTED, History, Sample
from decoupled.engines.sqlite import history
from decoupled.engines.sqlite.data_directory import HISTORY_NAME
from decoupled.engines.sqlite.history import HEADER_BYTES, SLOT_BYTES, HistoryFile, SqlitePast
from tests.support.model_engine import ManualClock

EPOCH_MS, HOUR_MS, STEP_MS = 1_795_000_000_000, 3_600_000, int(limits.HISTORY_STEP_S * 1000)
SLOTS = 7

ADD_FOR_LONG = """
import sys
import tempfile
from pathlib import Path
from decoupled.core.overview import CHARTED, Sample
from decoupled.engines.sqlite.history import HistoryFile

file, begun = HistoryFile(Path(sys.argv[1])), int(sys.argv[2])
print("adding", flush=True)
for at_ms in range(begun + 1, begun + 1_500_000):
    file.add(Sample(at_ms, 1, (float(at_ms),) * len(CHARTED)))
"""


def sample(at_ms: int, value: float | None = None, span_ms: int = STEP_MS) -> Sample:
    return Sample(at_ms, span_ms, (value,) * len(CHARTED))


def past(data: Path, now_ms: int, slots: int = history.SLOTS, seconds: int = 3_600) -> History:
    return SqlitePast(data, ManualClock(now_ms), slots).history(seconds)


def shown(found: History) -> list[tuple[int, float | None]]:
    """Times and values, which are the same in all columns here, without the gaps."""
    columns = list(found.series.values())
    assert list(found.series) == list(CHARTED)
    assert all(column == columns[0] for column in columns)
    return [(at, value) for at, value in zip(found.times, columns[0], strict=True) if value is not None]


class File(RuleBasedStateMachine):
    """Beside a plain list of what was added: the last SLOTS of it count, but for those that were torn."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.data = Path(self.directory.name)
        self.file = HistoryFile(self.data, SLOTS)
        self.clock_ms = EPOCH_MS
        self.added: list[Sample | None] = []  # None: torn

    def teardown(self) -> None:
        self.file.close()
        self.directory.cleanup()

    @rule(value=st.floats(0, 1e9), passed_ms=st.integers(0, 2 * STEP_MS))
    def time_passes(self, value: float, passed_ms: int) -> None:
        self.clock_ms += passed_ms
        self.added.append(sample(self.clock_ms, value))
        self.file.add(sample(self.clock_ms, value))

    @rule(by_ms=st.integers(-2 * HOUR_MS, 2 * HOUR_MS))
    def the_clock_is_set(self, by_ms: int) -> None:
        self.clock_ms += by_ms

    @rule()
    def another_server_goes_on(self) -> None:
        self.file.close()
        self.file = HistoryFile(self.data, SLOTS)

    @rule(back=st.integers(1, SLOTS), at=st.integers(0, SLOT_BYTES - 5), noise=st.binary(min_size=1, max_size=40))
    def a_slot_is_torn(self, back: int, at: int, noise: bytes) -> None:
        """Not at the padding behind the checksum, which says nothing."""
        if back > len(self.added):
            return
        number = len(self.added) - back + 1
        place = HEADER_BYTES + number % SLOTS * SLOT_BYTES
        path = self.data / HISTORY_NAME
        content = bytearray(path.read_bytes())
        before = bytes(content[place : place + SLOT_BYTES - 4])
        noise = noise[: SLOT_BYTES - 4 - at]
        content[place + at : place + at + len(noise)] = noise
        if bytes(content[place : place + SLOT_BYTES - 4]) == before:
            return
        with path.open("r+b") as file:
            file.write(content)
        self.added[-back] = None
        if back == 1:  # a server that starts now does not know of it, and takes its number
            self.another_server_goes_on()
            overwritten = max(0, len(self.added) - SLOTS)
            self.added[:overwritten] = [None] * overwritten
            while self.added and self.added[-1] is None:
                self.added.pop()

    @rule(content=st.binary(max_size=HEADER_BYTES))
    def it_is_replaced_by_nonsense(self, content: bytes) -> None:
        (self.data / HISTORY_NAME).write_bytes(content)
        self.added.clear()

    @invariant()
    def what_is_read_is_what_was_added(self) -> None:
        if not self.added:
            return
        expected: list[tuple[int, float | None]] = []
        latest = None
        for one in reversed(self.added[-SLOTS:]):
            if one is not None and (latest is None or one.at_ms < latest):
                latest = one.at_ms
                if self.clock_ms - HOUR_MS <= one.at_ms <= self.clock_ms + STEP_MS:
                    expected.append((one.at_ms, one.values[0]))
        found = past(self.data, self.clock_ms, SLOTS)
        assert shown(found) == expected[::-1]
        assert found.times == sorted(set(found.times))
        assert found.note == ""
        assert (self.data / HISTORY_NAME).stat().st_size == HEADER_BYTES + SLOTS * SLOT_BYTES


TestFile = File.TestCase
TestFile.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_an_hour_is_kept_and_no_more(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    for step in range(1, 1_000):
        file.add(sample(EPOCH_MS + step * STEP_MS, float(step)))
    now = EPOCH_MS + 999 * STEP_MS
    found = past(tmp_path, now)
    assert shown(found) == [(EPOCH_MS + step * STEP_MS, float(step)) for step in range(280, 1_000)]
    assert found.times[-1] - found.times[0] == HOUR_MS - STEP_MS
    assert len(shown(past(tmp_path, now, seconds=60))) == 13
    assert past(tmp_path, now, seconds=86_400) == found
    assert (tmp_path / HISTORY_NAME).stat().st_size < 128 * limits.KIB
    file.close()


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    HistoryFile(tmp_path).add(sample(EPOCH_MS))
    assert (tmp_path / HISTORY_NAME).stat().st_mode & 0o777 == 0o600


def test_what_is_not_known_is_none_and_not_nan(tmp_path: Path) -> None:
    HistoryFile(tmp_path).add(Sample(EPOCH_MS, STEP_MS, (None, float("inf"), float("nan"), *range(15))))
    found = past(tmp_path, EPOCH_MS)
    assert [found.series[name][0] for name in CHARTED] == [None, None, None, *range(15)]


def test_where_no_server_ran_there_is_a_gap(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    for at_s in (0, 5, 10, 70, 75):  # at 70: of the last 5 s
        file.add(sample(EPOCH_MS + at_s * 1000, float(at_s)))
    found = past(tmp_path, EPOCH_MS + 75_000)
    assert found.series["queued"] == [0.0, 5.0, 10.0, None, 70.0, 75.0]
    assert 10_000 < found.times[3] - EPOCH_MS < 65_000


def test_a_sample_of_a_long_time_leaves_no_gap(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    file.add(sample(EPOCH_MS, 1.0))
    file.add(sample(EPOCH_MS + 60_000, 2.0, span_ms=60_000))
    assert past(tmp_path, EPOCH_MS + 60_000).series["queued"] == [1.0, 2.0]


def test_what_was_told_before_the_clock_was_set_back_is_left_out(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    for at_ms, value in ((0, 1.0), (STEP_MS, 2.0), (90 * STEP_MS, 3.0), (91 * STEP_MS, 4.0), (2 * STEP_MS, 5.0)):
        file.add(sample(EPOCH_MS + at_ms, value))
    assert [value for _, value in shown(past(tmp_path, EPOCH_MS + 100 * STEP_MS))] == [1.0, 2.0, 5.0]


def test_what_is_to_come_is_not_shown(tmp_path: Path) -> None:
    """The clock was set back while no server ran."""
    HistoryFile(tmp_path).add(sample(EPOCH_MS + HOUR_MS, 1.0))
    assert past(tmp_path, EPOCH_MS).times == []


def test_without_a_file_it_says_so(tmp_path: Path) -> None:
    found = past(tmp_path, EPOCH_MS)
    assert (found.times, found.note) == ([], "no server has kept anything for charts here yet")
    assert found.series == {name: [] for name in CHARTED}


def whole(data: Path) -> Path:
    """A file with two samples."""
    file = HistoryFile(data)
    file.add(sample(EPOCH_MS, 1.0))
    file.add(sample(EPOCH_MS + STEP_MS, 2.0))
    file.close()
    return data / HISTORY_NAME


def cut(path: Path) -> None:
    os.truncate(path, 5_000)


def longer(path: Path) -> None:
    os.truncate(path, 1 << 40)  # sparse: it must not be read whole


def other_names(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"queued", b"queues", 1))


def other_content(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(path.stat().st_size - 16))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


STRANGE = {
    cut: "it has 5,000 bytes",
    longer: "it has 1,099,511,627,776 bytes",
    other_names: "another version made it",
    other_content: "it is damaged",
    empty: "it is damaged",
    link: "symbolic links",
    pipe: "it is no regular file",
}


@pytest.mark.parametrize("spoil", STRANGE, ids=lambda spoil: str(spoil.__name__))
def test_what_is_none_of_this_is_told_and_replaced(tmp_path: Path, spoil: Any, caplog: Any) -> None:
    spoil(whole(tmp_path))
    found = past(tmp_path, EPOCH_MS + 3 * STEP_MS)
    assert found.times == []
    assert STRANGE[spoil] in found.note
    file = HistoryFile(tmp_path)
    file.add(sample(EPOCH_MS + 2 * STEP_MS, 3.0))
    file.add(sample(EPOCH_MS + 3 * STEP_MS, 4.0))
    file.close()
    assert [value for _, value in shown(past(tmp_path, EPOCH_MS + 3 * STEP_MS))] == [3.0, 4.0]
    (line,) = caplog.records
    assert line.getMessage() == "the file of charts is begun anew"
    assert STRANGE[spoil] in line.error


@pytest.mark.parametrize("spoil", [cut, other_content, Path.unlink, link, pipe], ids=lambda spoil: str(spoil.__name__))
def test_a_file_that_is_taken_away_while_it_is_written_is_made_anew(tmp_path: Path, spoil: Any) -> None:
    file = HistoryFile(tmp_path)
    file.add(sample(EPOCH_MS, 1.0))
    spoil(tmp_path / HISTORY_NAME)
    file.add(sample(EPOCH_MS + STEP_MS, 2.0))
    file.close()
    assert [value for _, value in shown(past(tmp_path, EPOCH_MS + STEP_MS))] == [2.0]


def test_what_cannot_be_replaced_is_an_error_of_the_system_and_goes_when_its_cause_does(tmp_path: Path) -> None:
    (tmp_path / HISTORY_NAME).mkdir()
    file = HistoryFile(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="Is a directory"):
            file.add(sample(EPOCH_MS, 1.0))
    assert "it is no regular file" in past(tmp_path, EPOCH_MS).note
    (tmp_path / HISTORY_NAME).rmdir()
    file.add(sample(EPOCH_MS, 2.0))
    assert shown(past(tmp_path, EPOCH_MS)) == [(EPOCH_MS, 2.0)]


def test_a_copy_has_what_can_be_read(tmp_path: Path) -> None:
    source, target = tmp_path / "old", tmp_path / "new"
    source.mkdir()
    target.mkdir()
    whole(source)
    assert history.copy(source, target) == 2
    assert past(target, EPOCH_MS + STEP_MS) == past(source, EPOCH_MS + STEP_MS)
    assert history.copy(tmp_path / "nowhere", target) == 0


def test_who_reads_beside_a_writer_that_is_killed_sees_only_what_was_added(tmp_path: Path) -> None:
    latest = EPOCH_MS
    for added in (1_000, 1_234, 2_345, 3_456, 4_567):
        command = [sys.executable, "-c", ADD_FOR_LONG, str(tmp_path), str(latest)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"adding\n"
            until = latest + added
            while latest < until:
                assert writer.poll() is None
                latest = look(tmp_path, latest)
            writer.send_signal(signal.SIGKILL)
        assert writer.returncode == -signal.SIGKILL
        latest = look(tmp_path, latest)


def look(data: Path, latest: int) -> int:
    """No sample is of two, none comes twice, none goes back; the time of the last one."""
    there = (data / HISTORY_NAME).exists()  # before: it may be made meanwhile
    found = past(data, latest + HOUR_MS // 2)
    assert found.note == "" or not there
    assert all(value == at for at, value in shown(found))
    assert all(before < after for before, after in itertools.pairwise(found.times))
    times = [at for at, _ in shown(found)]
    assert not times or times[-1] >= latest
    return times[-1] if times else latest
