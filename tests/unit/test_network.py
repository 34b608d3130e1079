"""Whose fault a failed call is, by what real client libraries raise: against a refused port, a host that hangs or hangs
up, a name that does not resolve, and answers of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import smtplib
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import asyncpg
import grpc
import httpx
import msgspec
import psycopg
import pymysql
import pytest
import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

from decoupled.core.outcomes import Decision, Failure, Reject
from decoupled.core.workload import Effects, Message, NotYet, Rejected, Unavailable, Workload
from decoupled.pipeline import blame, network
from decoupled.pipeline.processor import decide
from tests.support.network_trouble import (
    HTTP_CLIENTS,
    TIMEOUT_S,
    answering,
    botocore_sqs,
    hang,
    refusing,
    reset,
    say,
)
from tests.support.server import ROOT

ONCE = Retry(NoBackoff(), 0)
Call = Callable[[str, int], object]


# --- clients ---------------------------------------------------------------------


def _http_client(host: str, port: int) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        connection.getresponse().read()


def _smtplib(host: str, port: int) -> None:
    smtplib.SMTP(host, port, timeout=TIMEOUT_S).close()


def _grpc(host: str, port: int) -> None:
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        channel.unary_unary("/shop.Orders/Get")(b"", timeout=TIMEOUT_S)


def _psycopg(host: str, port: int) -> None:
    psycopg.connect(host=host, port=port, user="x", dbname="x", connect_timeout=2, sslmode="disable").close()


def _asyncpg(host: str, port: int) -> None:
    async def connect() -> None:
        await asyncpg.connect(host=host, port=port, user="x", database="x", timeout=TIMEOUT_S, ssl=False)

    asyncio.run(connect())


def _pymysql(host: str, port: int) -> None:
    pymysql.connect(host=host, port=port, connect_timeout=1, read_timeout=1)


def _redis(host: str, port: int) -> None:
    redis.Redis(host, port, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=ONCE).ping()


def _plain_socket(host: str, port: int) -> None:
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if not connection.recv(100):
            raise ConnectionResetError("it hung up")


HTTP: list[Call] = list(HTTP_CLIENTS.values())
CLIENTS: list[Call] = [
    *HTTP,
    _http_client,
    _smtplib,
    _grpc,
    _psycopg,
    _asyncpg,
    _pymysql,
    _redis,
    _plain_socket,
]


def raised(call: Call, host: str, port: int) -> Exception:
    """What the call raises, and it must."""
    try:
        call(host, port)
    except Exception as error:  # noqa: BLE001  whatever it is, is the question
        return error
    raise AssertionError("the call went well")


def name(call: Call) -> str:
    return call.__name__.strip("_")


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    with refusing() as port:
        yield port


# --- trouble of the network ------------------------------------------------------


@pytest.mark.parametrize("call", CLIENTS, ids=name)
def test_a_refused_port_is_the_networks_fault(call: Call, closed_port: int) -> None:
    assert blame.raised(raised(call, "127.0.0.1", closed_port)).kind == "unavailable"


@pytest.mark.parametrize("call", CLIENTS, ids=name)
def test_a_host_that_hangs_is_the_networks_fault(call: Call) -> None:
    with answering(hang) as port:
        assert blame.raised(raised(call, "127.0.0.1", port)).kind == "unavailable"


@pytest.mark.parametrize("call", CLIENTS, ids=name)
def test_a_host_that_hangs_up_is_the_networks_fault(call: Call) -> None:
    with answering(reset) as port:
        assert blame.raised(raised(call, "127.0.0.1", port)).kind == "unavailable"


@pytest.mark.parametrize("call", CLIENTS, ids=name)
def test_a_name_that_does_not_resolve_is_the_networks_fault(call: Call) -> None:
    assert blame.raised(raised(call, "backend.invalid", 80)).kind == "unavailable"


@pytest.mark.parametrize("call", HTTP, ids=name)
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_asks_to_come_again_waits_as_long_as_it_asks(call: Call, status: int) -> None:
    with answering(say(f"HTTP/1.1 {status} No\nretry-after: 7\ncontent-length: 0\n\n")) as port:
        failure = blame.raised(raised(call, "127.0.0.1", port))
    assert (failure.kind, failure.retry_after_s) == ("unavailable", 7.0)


@pytest.mark.parametrize("call", HTTP, ids=name)
@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
def test_any_other_status_is_the_messages_fault(call: Call, status: int) -> None:
    with answering(say(f"HTTP/1.1 {status} No\ncontent-length: 0\n\n")) as port:
        assert blame.raised(raised(call, "127.0.0.1", port)).kind == "failed"


def test_a_throttled_call_of_aws_waits_though_its_status_is_400() -> None:
    body = '{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}'
    for code, kind in (("RequestThrottled", "failed"), ("ThrottlingException", "unavailable")):
        text = body.replace("RequestThrottled", code)
        with answering(say(f"HTTP/1.1 400 No\ncontent-length: {len(text)}\n\n{text}")) as port:
            assert blame.raised(raised(botocore_sqs, "127.0.0.1", port)).kind == kind


@pytest.mark.parametrize(("code", "kind"), [(421, "unavailable"), (450, "unavailable"), (554, "failed")])
def test_a_mail_servers_code_decides(code: int, kind: str) -> None:
    with answering(lambda client: client.sendall(f"{code} no\r\n".encode())) as port:
        assert blame.raised(raised(_smtplib, "127.0.0.1", port)).kind == kind


def test_a_broken_answer_is_the_networks_fault() -> None:
    with answering(say("HTTP/1.1 200 OK\ncontent-length: 100\n\nshort")) as port:
        assert blame.raised(raised(_http_client, "127.0.0.1", port)).kind == "unavailable"
        assert (
            blame.raised(raised(lambda h, p: requests.get(f"http://{h}:{p}/", timeout=5), "127.0.0.1", port)).kind
            == "unavailable"
        )


@pytest.mark.parametrize(
    "error",
    [
        OSError(113, "No route to host"),
        OSError(101, "Network is unreachable"),
        OSError(24, "Too many open files"),
        ssl.SSLError("handshake failure"),
        urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")),
    ],
)
def test_what_the_system_says_of_the_network_is_not_the_messages_fault(error: Exception) -> None:
    assert blame.raised(error).kind == "unavailable"


def test_what_was_raised_from_network_trouble_is_network_trouble() -> None:
    class ShopError(Exception):
        pass

    def wrapped(*, told: bool) -> Exception:
        try:
            try:
                raise ConnectionRefusedError(111, "refused")
            except OSError as error:
                raise ShopError("no stock") from error if told else None
        except ShopError as error:
            return error

    assert blame.raised(wrapped(told=True)).kind == "unavailable"
    assert blame.raised(wrapped(told=False)).kind == "failed"


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), FileNotFoundError(2, "x"), PermissionError(13, "x"), SystemExit(503)]
)
def test_a_bug_is_no_network_trouble(error: BaseException) -> None:
    assert blame.raised(error).kind == "failed"


REFUSED, BUSY = ConnectionRefusedError("refused"), Unavailable("busy", 7.0)


@pytest.mark.parametrize(
    ("error", "kind", "retry_after_s"),
    [
        (ExceptionGroup("one", [REFUSED]), "unavailable", None),
        (ExceptionGroup("one", [BUSY]), "unavailable", 7.0),
        (ExceptionGroup("one", [NotYet(5)]), "not_yet", 5),
        (ExceptionGroup("one", [ExceptionGroup("in one", [KeyError("bug")])]), "failed", None),
        (ExceptionGroup("several", [REFUSED, ExceptionGroup("more", [TimeoutError(), BUSY])]), "unavailable", 7.0),
        (ExceptionGroup("several", [REFUSED, KeyError("bug")]), "failed", None),
    ],
    ids=repr,
)
def test_of_several_at_once_all_must_be_trouble(error: Exception, kind: str, retry_after_s: float | None) -> None:
    failure = blame.raised(error)
    assert (failure.kind, failure.retry_after_s) == (kind, retry_after_s)


def test_what_was_raised_from_several_is_trouble_if_all_of_them_are() -> None:
    def raised_from(*several: Exception) -> str:
        error = OSError("all attempts failed")
        error.__cause__ = ExceptionGroup("attempts", several)
        return blame.raised(error).kind

    assert raised_from(REFUSED, TimeoutError()) == "unavailable"
    assert raised_from(REFUSED, KeyError("bug")) == "failed"


def test_a_group_of_one_is_rejected_as_that_one_would_be() -> None:
    async def process(_entry: Anything, _message: Message) -> Effects:
        async with asyncio.TaskGroup() as calls:
            calls.create_task(say_no())
        return Effects({})

    async def say_no() -> None:
        raise Rejected("no")

    workloads = {"calls": Workload("calls", Anything, process)}
    assert decide(Message("m", "calls", "{}", "", 0), workloads, 5.0) == Reject("no")


class OddError(Exception):
    """One of a library that nobody here knows."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("odd")
        vars(self).update(attributes)


class SecretiveError(Exception):
    """It raises when it is looked at."""

    @property
    def response(self) -> object:
        raise RuntimeError("there is none yet")


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Down(Unavailable):
    def __init__(self) -> None:
        """Without what its base sets."""


class Sometime(NotYet):
    def __init__(self) -> None:
        """Likewise."""


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OddError(response={"Error": "no"}), "failed", "odd"),
        (OddError(response={"Error": None, "ResponseMetadata": None}), "failed", "odd"),
        (OddError(response={"ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": ["?"]}}), "unavailable", "odd"),
        (OddError(status=503, headers={"retry-after": 5}), "unavailable", "odd"),
        (OddError(status=503, headers={"retry-after": b"?"}), "unavailable", "odd"),
        (SecretiveError("later"), "failed", "later"),
        (MuteError(), "failed", "it cannot be told: ValueError"),
        (Down(), "unavailable", ""),
        (Sometime(), "failed", "its exception cannot be read: 'Sometime' object has no attribute 'until'"),
    ],
)
def test_whatever_an_exception_is_made_of_it_is_a_verdict(error: Exception, kind: str, text: str) -> None:
    """Else it would end its process, and count for a crash."""
    failure = blame.raised(error)
    assert (failure.kind, failure.error_type, failure.error) == (kind, type(error).__name__, text)
    if kind == "unavailable" and isinstance(error, OddError):
        assert failure.retry_after_s in (None, 5)


def test_an_exception_that_is_its_own_cause_ends() -> None:
    error = ValueError("round and round")
    error.__cause__ = error
    assert blame.raised(error).kind == "failed"


# --- time that ran out -----------------------------------------------------------


class Anything(msgspec.Struct):
    """An entry that says nothing."""


def decided(act: Callable[[], object]) -> Decision:
    """What a message comes to whose workload does that, within a time limit that it exceeds."""

    def process(_entry: Anything, _message: Message) -> Effects:
        act()
        return Effects({})

    workload = Workload("calls", Anything, process)
    return decide(Message("m", "calls", "{}", "anonymous", 0), {"calls": workload}, limit_s=0.3, whole_s=0.3)


def read_for_ever(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.makefile("rb").readline()


WAITERS: dict[str, Callable[[int], object]] = {
    "socket": read_for_ever,
    "urllib": lambda port: urllib.request.urlopen(f"http://127.0.0.1:{port}/"),
    "requests": lambda port: requests.get(f"http://127.0.0.1:{port}/"),  # noqa: S113  without a time-out: that is the case
    "httpx": lambda port: httpx.get(f"http://127.0.0.1:{port}/", timeout=None, trust_env=False),  # noqa: S113  likewise
    "smtplib": lambda port: smtplib.SMTP("127.0.0.1", port),
    "grpc": lambda port: grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/a/b")(b"", wait_for_ready=True),
    "psycopg": lambda port: psycopg.connect(host="127.0.0.1", port=port, user="x", sslmode="disable"),
    "pymysql": lambda port: pymysql.connect(host="127.0.0.1", port=port),
    "redis": lambda port: redis.Redis("127.0.0.1", port, socket_timeout=None).ping(),
}


@pytest.mark.parametrize("client", WAITERS)
def test_time_that_runs_out_in_a_client_library_is_the_networks_fault(client: str) -> None:
    with answering(hang) as port:
        decision = decided(lambda: WAITERS[client](port))
    assert isinstance(decision, Failure)
    assert (decision.kind, decision.error_type) == ("unavailable", "TimeLimitExceeded")


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("act", [spin, lambda: time.sleep(60), lambda: threading.Event().wait(60)])
def test_time_that_runs_out_at_work_is_the_messages_fault(act: Callable[[], object]) -> None:
    decision = decided(act)
    assert isinstance(decision, Failure)
    assert decision.kind == "failed"


# --- the table -------------------------------------------------------------------


def test_the_table_in_the_documents_is_the_one_in_the_code() -> None:
    page = (ROOT / "docs" / "workloads.md").read_text()
    for library, names in network.TROUBLE.items():
        shown = ", ".join(f"`{name.removeprefix('builtins.')}`" for name in names)
        assert f"| {library} | {shown} |" in page
