"""What the Lambda functions cost: zip size, start-up, CPU, memory, AWS calls and billed units, log lines, and dollars a
million orders at each size of batches, with access log and traces; beside them the same work written the usual way
(`usual_way/`), in the same run. `make bench-lambda`. Fails if a target of `lambda_report.py` is missed."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lambda_costs import BATCHES, Invoked, Side
from benchmarks.lambda_events import write_events
from benchmarks.lambda_report import Measured, report, verdict
from benchmarks.lambda_settings import ours as our_settings
from benchmarks.lambda_settings import usual as usual_settings

ROOT = Path(__file__).parent.parent
FUNCTIONS = ("receiver", "processor", "status")
START_UPS = 9  # fresh interpreters a function, ours and the usual alternating
BATCH = max(BATCHES)  # of the event `processor`
ROUNDS, INVOCATIONS = 3, 40  # of CPU, likewise


RUNTIME = ("botocore", "dateutil", "jmespath", "six.py", "urllib3")  # of what Lambda's Python has, what ours use


Code = tuple[str, Path, Path | None]  # a function's module, where it is imported from, and Lambda's Python if not ours


def main() -> int:
    subprocess.run([ROOT / "scripts/build.sh"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as directory, stub(Path(directory)) as endpoint:
        work = Path(directory)
        package, python = unpacked_for_this_machine(work), runtime(work)
        ways: tuple[dict[str, Code], ...] = (
            {name: (f"functions.{name}", package, python) for name in FUNCTIONS},
            {name: (f"benchmarks.usual_way.{name}", ROOT, None) for name in FUNCTIONS},
        )
        events = write_events(work)
        starts = {name: start_ups([way[name] for way in ways], events["receiver"], endpoint) for name in FUNCTIONS}
        invoked = {
            event: invocations([way[event.split()[0]] for way in ways], path, endpoint)
            for event, path in events.items()
            if event != "processor"  # which is the one of the largest batch
        }
    rss_mb = {event: [one[2] for one in both] for event, both in invoked.items()}
    measured = Measured(side(0, starts, invoked), side(1, starts, invoked), rss_mb)
    report(measured)
    return verdict(measured)


def side(index: int, starts: dict[str, list[float]], invoked: dict[str, list[tuple[Invoked, Any, float]]]) -> Side:
    settings = usual_settings() if index else our_settings()
    return Side(
        receiver=invoked["receiver"][index][0],
        status=invoked["status"][index][0],
        processor={batch: invoked[f"processor of {batch}"][index][0] for batch in BATCHES},
        start_ms={name: both[index] for name, both in starts.items()},
        **settings,
    )


@contextmanager
def stub(work: Path) -> Iterator[str]:
    """The stub endpoint, in a process of its own."""
    port_file = work / "port"
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.stub_aws", port_file], cwd=ROOT)
    try:
        deadline = time.monotonic() + 10
        while not (port_file.exists() and port_file.read_text()):
            if time.monotonic() > deadline:
                raise RuntimeError("the stub did not start")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}"
    finally:
        process.terminate()
        process.wait()


def unpacked_for_this_machine(work: Path) -> Path:
    """What the zip holds, with the dependencies for this machine's Python: it is the zip that is measured."""
    archive = work / "local.zip"
    subprocess.run(
        [ROOT / "scripts/build.sh", "--platform", "local", "--output", archive], check=True, stdout=subprocess.DEVNULL
    )
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(work / "package")
    return work / "package"


def runtime(work: Path) -> Path:
    """What Lambda's own Python comes with, and nothing else that is installed here: msgspec, for one, imports whatever
    typing_extensions it finds, which are neither in the zip for Lambda's Python nor there."""
    directory = work / "runtime"
    directory.mkdir()
    for name in RUNTIME:
        (directory / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    for stray in (work / "package").glob("typing_extensions*"):  # this machine's Python is older than Lambda's
        stray.unlink() if stray.is_file() else shutil.rmtree(stray)
    return directory


def start_ups(ways: list[Code], event: Path, endpoint: str) -> list[float]:
    """Milliseconds of CPU, ours and the usual way's, taking turns, so that what else the machine does hits both."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(START_UPS + 1):  # the first one writes the byte code
        for some, (module, path, python) in zip(times, ways, strict=True):
            some.append(invoke(module, path, event, endpoint, 0, python)["start_ms"])
    return [statistics.median(some[1:]) for some in times]


def invocations(ways: list[Code], event: Path, endpoint: str) -> list[tuple[Invoked, Any, float]]:
    """Of each way what an invocation comes to, its answer, and the megabytes that the process had at most."""
    cpu: list[list[float]] = [[] for _ in ways]
    last: list[tuple[dict[str, Any], dict[str, float]]] = [({}, {}) for _ in ways]
    for _ in range(ROUNDS):
        for index, (module, path, python) in enumerate(ways):
            read_counts(endpoint)
            done = invoke(module, path, event, endpoint, INVOCATIONS, python)
            check(event.stem.split()[0], done["answer"])
            cpu[index].append(done["cpu_ms"])
            last[index] = done, {what: n / (INVOCATIONS + 1) for what, n in read_counts(endpoint).items()}
    return [
        (Invoked(statistics.median(times), done["log_bytes"], counts), done["answer"], done["rss_mb"])
        for times, (done, counts) in zip(cpu, last, strict=True)
    ]


def invoke(
    module: str, path: Path, event: Path, endpoint: str, invocations: int, python: Path | None = None
) -> dict[str, Any]:
    """One fresh interpreter; with `python`, it knows nothing but that and the path."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, (path, python) if python else (path,))),
        "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "QUEUE_URL": f"{endpoint}/123456789012/queue",
        "DEAD_LETTER_QUEUE_URL": f"{endpoint}/123456789012/dead",
        "TABLE_NAME": "table",
        "IDEMPOTENCY_TABLE": "idempotency",
        "WORKLOADS": "orders",
        "MAX_ATTEMPTS": "5",
        "ATTEMPTS_SPAN_S": "3600",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    command = [sys.executable, *(["-S"] if python else []), str(ROOT / "benchmarks/lambda_invoke.py")]
    command += [module, str(event), str(invocations)]
    done = subprocess.run(command, env=environment, cwd=path, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check(name: str, answer: dict[str, Any]) -> None:
    """A benchmark of something that failed measures nothing."""
    expected = {"receiver": 202, "processor": None, "status": 404}[name]
    if answer.get("statusCode") != expected or answer.get("batchItemFailures"):
        raise RuntimeError(f"{name} answered {answer}")


def read_counts(endpoint: str) -> dict[str, int]:
    """What the stub was asked since the last time."""
    with urllib.request.urlopen(f"{endpoint}/counts") as answer:  # noqa: S310  the stub that this run started
        counts: dict[str, int] = json.load(answer)
    return counts


if __name__ == "__main__":
    sys.exit(main())
