"""One function in a fresh interpreter, as Lambda would start it: prints how long its import took (its clients included)
and the CPU of an invocation, as JSON. `python lambda_invoke.py MODULE EVENT_FILE INVOCATIONS`."""

import importlib
import json
import sys
import time


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
    began = time.process_time()  # nearly all of it is CPU, and other programs disturb that less
    handler = importlib.import_module(module_name).handler
    started = time.process_time() - began
    answer = None
    cpu = 0.0
    for invocation in range(invocations + bool(invocations)):
        if invocation == 1:  # the first one connects
            cpu = time.process_time()
        answer = handler(event, Context())
    cpu = time.process_time() - cpu
    print(json.dumps({"start_ms": started * 1000, "cpu_ms": cpu / max(invocations, 1) * 1000, "answer": answer}))


main()
