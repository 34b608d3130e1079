"""The charts' history of a real server: it has what happened, outlives the server, and is worth none that ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from decoupled.core.overview import History
from decoupled.engines.sqlite.data_directory import HISTORY_NAME
from decoupled.engines.sqlite.history import SqlitePast
from tests.support.server import Server, decoupled, serving, wait_for

OPTIONS = ("--workloads", "calls,hazards", "--max-attempts", "1", "--fronts", "1")


def past(server: Server) -> History:
    return SqlitePast(server.data).history(3_600)


def known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def wait_for_samples(server: Server, number: int) -> History:
    return wait_for(lambda: past(server), lambda it: len(known(it.series["accepted_per_s"])) >= number, 60)


def test_charts_have_what_happened_and_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS) as server:
        server.accept("/calls", *[{}] * 30)
        server.accept("/hazards", {"act": "raise"})
        found = wait_for_samples(server, 1)
        assert found.note == ""
        (first,) = [at for at, value in zip(found.times, found.series["accepted_per_s"], strict=True) if value]
        assert server.get("/health").json["detail"] is None

        server.kill()
        assert past(server).times == found.times  # with no server
        server.start()
        again = wait_for_samples(server, 2)
    accepted = again.series["accepted_per_s"]
    assert again.times[0] == first
    assert accepted[1] is None  # while there was none
    assert accepted[2] == 0.0
    assert 31 / 20 < (accepted[0] or 0) <= 31 / 4.9
    assert again.series["dead"][2] == 1.0
    assert (again.series["commit_messages"][0] or 0) >= 1
    assert (tmp_path / "data" / HISTORY_NAME).stat().st_mode & 0o777 == 0o600


def test_what_waits_is_in_the_charts(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS) as server:
        server.post("/calls", {}, delay="600")
        found = wait_for_samples(server, 1)
    assert found.series["delayed"][-1] == 1.0
    assert found.series["queued"][-1] == 0.0


@pytest.mark.parametrize("strange", ["damaged", "directory"])
def test_a_strange_file_keeps_no_server_from_starting(tmp_path: Path, strange: str) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    if strange == "damaged":
        (data / HISTORY_NAME).write_bytes(b"nonsense" * 1_000)
    else:
        (data / HISTORY_NAME).mkdir()
    with serving(data, *OPTIONS) as server:
        server.accept("/calls", {})
        if strange == "damaged":
            wait_for_samples(server, 1)
            wait_for(server.logged, lambda text: "the file of charts is begun anew" in text)
        else:
            health = wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "degraded", 60)
            assert health["detail"] == "charts have gaps: they cannot be written: Is a directory"
            (data / HISTORY_NAME).rmdir()
            wait_for_samples(server, 1)
            assert wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "ok", 60)


def test_what_is_recovered_has_its_charts(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS) as server:
        found = wait_for_samples(server, 1)
        server.stop(signal.SIGTERM)
        said = decoupled("recover", "--data", server.data, "--to", tmp_path / "saved")
        assert "samples of charts saved" in said
        assert SqlitePast(tmp_path / "saved").history(3_600).times[: len(found.times)] == found.times
        server.start()
