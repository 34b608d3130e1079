"""`decoupled serve`: one process that owns a data directory. Opens the database, starts the writer, the poller with its
workers and the gateway, and takes them down in the order that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
import uvloop

from decoupled.embedded.database import Database, DataDirectory
from decoupled.embedded.gateway import Gateway
from decoupled.embedded.options import Options
from decoupled.embedded.poller import Poller
from decoupled.embedded.queue import SqliteQueue
from decoupled.embedded.table import SqliteTable
from decoupled.embedded.writer import Writer
from decoupled.workload import load
from functions.processor import Policy

log = logging.getLogger("decoupled.server")


def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises DataDirectoryError or ValueError when it cannot start."""
    load(options.workloads)
    directory = DataDirectory(options.data)
    directory.lock()
    database = Database(directory.file)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, database, announce))
    finally:
        database.close()


async def _serve(options: Options, database: Database, announce: Callable[[str], None]) -> None:
    workloads = load(options.workloads)
    queue = SqliteQueue(database)
    table = SqliteTable(database, queue)
    released = queue.release_in_flight()
    writer = Writer(database, queue, asyncio.get_running_loop())
    poller = Poller(writer, queue, table, Policy(options.max_attempts), options)
    writer.on_sent = poller.wake

    def health() -> Mapping[str, Any]:
        return {
            "status": "ok" if writer.failure is None else "unavailable",
            "detail": writer.failure,
            "workloads": list(workloads),
            "workers": len(poller.workers),
            "breakers_open": poller.breakers.open(),
        }

    server = _Server(
        uvicorn.Config(
            Gateway(writer, table, workloads, health),
            host=options.host,
            port=options.port,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(options.drain_s)),
        )
    )
    server.on_listening = lambda port: announce(_welcome(options, port, released))
    await poller.start()
    gc.collect()
    gc.freeze()  # what is alive now stays: the collector need not walk it again at every request's garbage
    gc.set_threshold(50_000, 20, 100)
    await server.serve()
    log.info("stopping")
    if not await poller.drain(options.drain_s):
        log.warning("stopped before all in flight was settled; it is still on the queue")
    queue.release_in_flight()


class _Server(uvicorn.Server):
    """uvicorn, which tells when it listens, and leaves the process alive after a signal so that the drain can run."""

    on_listening: Callable[[int], None]

    async def startup(self, sockets: Any = None) -> None:
        """Listen."""
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises the signal again when it is done
            signal.signal(number, lambda *_: None)
        await super().startup(sockets)
        if self.started:
            self.on_listening(self.servers[0].sockets[0].getsockname()[1])


def _welcome(options: Options, port: int, released: int) -> str:
    url = f"http://{options.host}:{port}"
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
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
