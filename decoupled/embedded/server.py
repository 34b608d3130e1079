"""`decoupled serve`: one process that owns a data directory. Opens the database, starts the writer, the poller with its
workers and the gateway, and takes them down in the order that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import uvloop

from decoupled.embedded.database import Database, DataDirectory, DataDirectoryError, StoreUnavailable
from decoupled.embedded.gateway import Gateway
from decoupled.embedded.http_server import HttpServer, bind
from decoupled.embedded.options import Options
from decoupled.embedded.outage import Outage
from decoupled.embedded.poller import Poller
from decoupled.embedded.queue import SqliteQueue
from decoupled.embedded.table import SqliteTable
from decoupled.embedded.writer import Writer
from decoupled.workload import load
from functions.settlement import Policy

log = logging.getLogger("decoupled.server")


def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises DataDirectoryError or ValueError when it cannot start."""
    load(options.workloads)
    with bind(options.host, options.port) as listener:
        directory = DataDirectory(options.data)
        directory.lock()
        database = Database(directory.file)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(options, directory, database, listener, announce))
        finally:
            directory.withdraw()
            database.close()


async def _serve(
    options: Options,
    directory: DataDirectory,
    database: Database,
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    workloads = load(options.workloads)
    queue = SqliteQueue(database)
    try:
        released = queue.release_in_flight()
    except StoreUnavailable as error:
        raise DataDirectoryError(f"the data directory {options.data} cannot be written: {error}") from error
    writer = Writer(database, queue, loop)
    outage = Outage(options.data)
    table = SqliteTable(database, outage)
    poller = Poller(writer, queue, table, Policy(options.max_attempts), options)
    writer.taker = poller

    def health() -> Mapping[str, Any]:
        return {
            "status": "ok" if writer.failure is None else "unavailable",
            "detail": writer.failure,
            "workloads": list(workloads),
            "workers": len(poller.workers),
            "breakers": poller.breakers.states(),
        }

    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    server = HttpServer(Gateway(writer, table, workloads, health).handle, loop)
    server.start(listener)
    await poller.start()
    directory.publish(options.url)
    announce(_welcome(options, released))
    _quiet_collector()
    await asked_to_stop.wait()
    log.info("stopping")
    await server.stop()
    if not await poller.drain(options.drain_s):
        log.warning("stopped before all in flight was settled; it is still on the queue")
    try:
        queue.release_in_flight()
    except StoreUnavailable as error:
        log.warning("what was in flight is visible again when a server starts", extra={"error": str(error)})


def _quiet_collector() -> None:
    """What is alive now stays alive: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _welcome(options: Options, released: int) -> str:
    url = options.url
    lines = [
        f"decoupled serves {', '.join(options.workloads)} on {url}; data in {options.data.resolve()}",
        *([f"{released} messages were in flight when the last server died; they are visible again"] * bool(released)),
    ]
    if "orders" in options.workloads:
        lines += [
            "",
            "Send an order, then ask what became of it:",
            "",
            f"  curl -i {url}/orders -H 'content-type: application/json' -d '"
            '{"customer": {"email": "ana@example.com", "name": "Ana Ruiz"}, "currency": "EUR",'
            ' "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],'
            ' "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2",'
            """ "country": "IE"}}'""",
            f"  curl {url}/orders/<id>",
            "",
        ]
    return "\n".join(lines)


class JsonLines(logging.Formatter):
    """One JSON object a line, with whatever the call passed as `extra`."""

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in self._standard}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logs(level: str) -> None:
    """Logs go to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
