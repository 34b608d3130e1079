"""What the Lambda functions cost: zip size, start-up, CPU, AWS calls and billed units an order, dollars a million
orders; beside them the same work written the usual way (`usual_way/`), in the same run. `make bench-lambda`.

Fails if a target is missed, for the functions that an order passes and for all three together: start-up at most 0.6 of
the usual way's, DynamoDB writes at most a third. (The usual status function needs neither parser, batch nor
idempotency, and so little is left to save there.)"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decoupled.plan.prices import price_list

ROOT = Path(__file__).parent.parent
FUNCTIONS = ("receiver", "processor", "status")
START_UPS = 9  # fresh interpreters a function, ours and the usual alternating
ROUNDS, INVOCATIONS = 5, 60  # of CPU, likewise
BATCH = 10  # messages of one processor invocation
MOST_START_UP, MOST_WRITES = 0.6, 1 / 3

# What a stub on the loopback does not show, assumed alike for both: medians within a Region, in milliseconds.
SQS_MS, DYNAMODB_MS = 10.0, 5.0
MEMORY_MB, VCPU_MB = 512, 1769  # the template's default; Lambda's CPU share is in proportion
# Dollars of a million requests, a GB-second on arm64, a million units: in the first tier of the one list of prices.
API, LAMBDA, GB_SECOND, SQS, FAIR_QUEUE, WRITE, READ = (
    price_list()[name].first
    for name in (
        "api_requests",
        "lambda_requests",
        "lambda_gb_seconds",
        "sqs_requests",
        "sqs_fair",
        "dynamodb_writes",
        "dynamodb_reads",
    )
)

ORDER = {
    "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
    "currency": "EUR",
    "lines": [{"sku": f"KB-10{n}", "quantity": 2, "unit_price": "39.90"} for n in range(3)],
    "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
}


@dataclass
class Cost:
    """Of one function: a start-up, an invocation's CPU, and what the stub counted for an order."""

    start_ms: float
    cpu_ms: float
    counts: dict[str, float]


def main() -> int:
    subprocess.run([ROOT / "scripts/build.sh"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as directory, stub(Path(directory)) as endpoint:
        work = Path(directory)
        package = unpacked_for_this_machine(work)
        ours = {name: (f"functions.{name}", package) for name in FUNCTIONS}
        usual = {name: (f"benchmarks.usual_way.{name}", ROOT) for name in FUNCTIONS}
        events = write_events(work)
        measured = {name: measure(name, ours[name], usual[name], events[name], endpoint) for name in FUNCTIONS}
    report(measured)
    return verdict(measured)


# --- measuring ------------------------------------------------------------------


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


def measure(
    name: str, ours: tuple[str, Path], usual: tuple[str, Path], event: Path, endpoint: str
) -> tuple[Cost, Cost]:
    """Ours and the usual way's, taking turns, so that what else the machine does hits both."""
    sides = (ours, usual)
    starts: tuple[list[float], ...] = ([], [])
    for _ in range(START_UPS + 1):  # the first one writes the byte code
        for times, (module, path) in zip(starts, sides, strict=True):
            times.append(invoke(module, path, event, endpoint, 0)["start_ms"])
    cpu: tuple[list[float], ...] = ([], [])
    counts: list[dict[str, float]] = [{}, {}]
    orders = BATCH if name == "processor" else 1
    for _ in range(ROUNDS):
        for side, (module, path) in enumerate(sides):
            read_counts(endpoint)
            done = invoke(module, path, event, endpoint, INVOCATIONS)
            check(name, done["answer"])
            cpu[side].append(done["cpu_ms"] / orders)
            counts[side] = {what: n / (INVOCATIONS + 1) / orders for what, n in read_counts(endpoint).items()}
    first, second = (
        Cost(statistics.median(starts[side][1:]), statistics.median(cpu[side]), counts[side]) for side in (0, 1)
    )
    return first, second


def invoke(module: str, path: Path, event: Path, endpoint: str, invocations: int) -> dict[str, Any]:
    """One fresh interpreter."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(path),
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
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
    }
    command = [sys.executable, str(ROOT / "benchmarks/lambda_invoke.py"), module, str(event), str(invocations)]
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


def write_events(work: Path) -> dict[str, Path]:
    """Each function's event, the same for us and for the usual way."""
    names = ("id", "workload", "caller", "accepted_at")
    record = {
        "receiptHandle": "receipt",
        "body": json.dumps(ORDER),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795430130123"},
        "messageAttributes": {
            name: {"stringValue": value, "dataType": "String"}
            for name, value in zip(names, ("", "orders", "iam:123456789012:AROAEXAMPLE", "1795430130123"), strict=True)
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
        "awsRegion": "us-east-1",
    }
    records = []
    for number in range(BATCH):
        one = json.loads(json.dumps(record))
        one |= {"messageId": f"message-{number}", "receiptHandle": f"receipt-{number}"}
        one["messageAttributes"]["id"]["stringValue"] = f"01a2073956c9000a3ceccc8424a3255{number}"
        records.append(one)
    events = {
        "receiver": http_event("POST", "/orders", {"workload": "orders"}, json.dumps(ORDER)),
        "status": http_event("GET", "/orders/some-id", {"workload": "orders", "id": "some-id"}, None),
        "processor": {"Records": records},
    }
    paths = {}
    for name, event in events.items():
        (work / f"{name}.json").write_text(json.dumps(event))
        paths[name] = work / f"{name}.json"
    return paths


def http_event(method: str, path: str, parameters: dict[str, str], body: str | None) -> dict[str, Any]:
    """An HTTP API's event, payload format 2.0."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "api"},
        "pathParameters": parameters,
        "requestContext": {"http": http, "stage": "$default", "requestId": "r", "timeEpoch": 1795430130123},
        "isBase64Encoded": False,
    }
    return event if body is None else event | {"body": body}


# --- reporting ------------------------------------------------------------------


def report(measured: dict[str, tuple[Cost, Cost]]) -> None:
    archive = ROOT / "build/lambda.zip"
    unpacked = sum(entry.file_size for entry in zipfile.ZipFile(archive).infolist())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, {commit.stdout.strip()}")
    print(f"zip for Lambda: {archive.stat().st_size:,} bytes, {unpacked:,} unpacked; one for all three functions\n")
    print(f"{'':34}{'decoupled':>12}{'usual way':>12}{'ratio':>8}")
    for name, (ours, usual) in measured.items():
        line(f"{name}: start-up, ms of CPU", ours.start_ms, usual.start_ms)
        line(f"{name}: CPU an order, ms", ours.cpu_ms, usual.cpu_ms)
        for what in sorted(ours.counts.keys() | usual.counts.keys()):
            line(f"{name}: {what} an order", ours.counts.get(what, 0), usual.counts.get(what, 0))
    print()
    ours_dollars, usual_dollars = (dollars({n: pair[i] for n, pair in measured.items()}, i == 0) for i in (0, 1))
    for what, cost in ours_dollars.items():
        line(f"$ a million: {what}", cost, usual_dollars[what])
    line("$ a million orders, in all", sum(ours_dollars.values()), sum(usual_dollars.values()))
    print(
        f"  (each asked for once by GET; batches of {BATCH}; {MEMORY_MB} MB; SQS {SQS_MS} ms and DynamoDB {DYNAMODB_MS}"
        " ms a call are assumed; logs, storage and start-ups are not in it)"
    )


def line(what: str, ours: float, usual: float) -> None:
    ratio = f"{ours / usual:8.2f}" if usual else ""
    print(f"{what:34}{ours:12.2f}{usual:12.2f}{ratio}")


def dollars(costs: dict[str, Cost], fair_queue: bool) -> dict[str, float]:
    """What a million orders cost, by service."""
    receiver, processor, status = (costs[name] for name in FUNCTIONS)

    def function(cost: Cost, waits_ms: float, invocations: float) -> float:
        duration_s = (cost.cpu_ms * VCPU_MB / MEMORY_MB + waits_ms) / 1000
        return invocations * LAMBDA + duration_s * MEMORY_MB / 1024 * GB_SECOND * 1e6

    calls = sum(count for what, count in processor.counts.items() if " " not in what)
    waits_ms = DYNAMODB_MS * calls / (BATCH if fair_queue else 1)  # ours commits a batch at once, the usual one by one
    sent = receiver.counts["SQS requests"]
    return {
        "API Gateway": 2 * API,
        "Lambda": function(receiver, SQS_MS, 1)
        + function(processor, waits_ms, 1 / BATCH)
        + function(status, DYNAMODB_MS, 1),
        "SQS": (sent + 2 / BATCH) * SQS + sent * FAIR_QUEUE * fair_queue,
        "DynamoDB": processor.counts["DynamoDB writes"] * WRITE + status.counts["DynamoDB reads"] * READ,
    }


def verdict(measured: dict[str, tuple[Cost, Cost]]) -> int:
    """0 if the targets are met."""
    starts = {name: (ours.start_ms, usual.start_ms) for name, (ours, usual) in measured.items()}
    starts["all three"] = (sum(ours for ours, _ in starts.values()), sum(usual for _, usual in starts.values()))
    ratios = {name: starts[name][0] / starts[name][1] for name in ("receiver", "processor", "all three")}
    missed = [
        f"start-up of {name} is {ratio:.2f} of the usual way's; {MOST_START_UP} is the target"
        for name, ratio in ratios.items()
        if ratio > MOST_START_UP
    ]
    ours, usual = measured["processor"]
    if ours.counts["DynamoDB writes"] > MOST_WRITES * usual.counts["DynamoDB writes"]:
        missed.append("more than a third of the usual way's writes to DynamoDB")
    print("\n" + ("\n".join(missed) or "Targets met."))
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
