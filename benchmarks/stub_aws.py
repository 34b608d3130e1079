"""SQS and DynamoDB as far as a benchmark needs them: says yes to everything at once, and counts what AWS would bill.
Run as `python -m benchmarks.stub_aws PORT_FILE`; GET /counts answers what was asked since the last time."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

counts: Counter[str] = Counter()


def answer(operation: str, request: dict[str, Any], size: int) -> dict[str, Any]:
    """What the service says; counts the call and its billed units."""
    counts[operation] += 1
    match operation:
        case "SendMessageBatch":
            counts["SQS requests"] += math.ceil(size / 65_536)
            return {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in request["Entries"]], "Failed": []}
        case "SendMessage":
            counts["SQS requests"] += math.ceil(size / 65_536)
            return {"MessageId": "m", "MD5OfMessageBody": "0"}
        case "PutItem":
            counts["DynamoDB writes"] += math.ceil(item_size(request["Item"]) / 1024)
        case "UpdateItem":
            values = request["ExpressionAttributeValues"]
            counts["DynamoDB writes"] += math.ceil(item_size(values) / 1024)
        case "GetItem":
            counts["DynamoDB reads"] += 1
    return {}


def item_size(item: dict[str, Any]) -> int:
    """Bytes as DynamoDB counts them: names, and values by type."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(attribute: dict[str, Any]) -> int:
    ((kind, value),) = attribute.items()
    if kind == "M":
        return 3 + len(value) + item_size(value)
    if kind == "L":
        return 3 + len(value) + sum(map(_value_size, value))
    return math.ceil(len(value) / 2) + 1 if kind == "N" else len(value.encode()) if kind == "S" else 1


async def serve(port_file: Path) -> None:
    """Serve on a free port of the loopback, and write it down."""
    server = await asyncio.start_server(_connection, "127.0.0.1", 0)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if first.startswith("GET"):
                answered: dict[str, Any] = dict(counts)
                counts.clear()
            else:
                answered = answer(headers["x-amz-target"].rpartition(".")[2], json.loads(body), len(body))
            content = json.dumps(answered).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\n")
            writer.write(f"content-length: {len(content)}\r\n\r\n".encode() + content)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
