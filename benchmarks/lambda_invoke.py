"""One function in a fresh interpreter, as Lambda would start it: prints how long its import took (its clients
included), the CPU of an invocation, and what it logs, as JSON.

    python lambda_invoke.py MODULE EVENT_FILE INVOCATIONS
"""

import importlib
import json
import logging
import resource
import sys
import time


class Log:
    """Standard output as Lambda takes it: every line is billed by its bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, text: str) -> int:
        self.bytes += len(text.encode()) - text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


class AsLambda(logging.Handler):
    """Log records as Lambda's runtime writes them with LogFormat JSON, at INFO and above."""

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "timestamp": "2026-11-23T10:15:30Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": "79b4f56e-95b1-4643-9700-2807f4e68189",
        }
        extra = {name: value for name, value in vars(record).items() if name not in _OWN}
        print(json.dumps(line | extra, default=str))


_OWN = {*vars(logging.makeLogRecord({})), "message"}


class Context:
    """As much of Lambda's context as the functions look at."""

    function_name = "benchmark"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:benchmark"
    aws_request_id = "request"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def main() -> None:
    module_name, event_file, invocations = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(event_file) as file:  # noqa: PTH123  pathlib would be part of what is measured
        event = json.load(file)
    log, stdout = Log(), sys.stdout
    sys.stdout = log  # as much of it as is used
    logging.getLogger().addHandler(AsLambda(logging.INFO))
    logging.getLogger().setLevel(logging.INFO)
    began = time.process_time()  # nearly all of it is CPU, and other programs disturb that less
    handler = importlib.import_module(module_name).handler
    started = time.process_time() - began
    answer = None
    cpu = 0.0
    for invocation in range(invocations + bool(invocations)):
        if invocation == 1:  # the first one connects
            cpu, log.bytes = time.process_time(), 0
        answer = handler(event, Context())
    cpu = time.process_time() - cpu
    done = {
        "start_ms": started * 1000,
        "cpu_ms": cpu / max(invocations, 1) * 1000,
        "log_bytes": log.bytes / max(invocations, 1),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "answer": answer,
    }
    print(json.dumps(done), file=stdout)


main()
