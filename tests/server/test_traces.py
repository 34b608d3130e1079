"""One trace goes from a client's POST to the commit and on to the webhook, through real processes, to a collector that
reads OTLP. What is not sampled leaves none, and a collector's trouble is nobody else's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.collector import Collected, Collector, collecting
from tests.support.events import ORDER
from tests.support.receivers import HttpReceiver, Reply, http_receiver, mail_receiver
from tests.support.server import ROOT, Answer, Server, serving, wait_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_TRUSTED_HOSTS": "127.0.0.1", "MAIL_FROM": "shop@shop.example"}
WORKLOADS = ("--workloads", "orders,hazards,notifications", "--max-attempts", "2")
TRACE_ID, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE_ID}-{CLIENT}-01", f"00-{TRACE_ID}-{CLIENT}-00"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running


@contextmanager
def traced(data: Path, collector: Collector, *options: str, **environment: str) -> Iterator[Server]:
    settings = {**SETTINGS, **collector.environment, "OTEL_BSP_SCHEDULE_DELAY": "50", **environment}
    with serving(data, *WORKLOADS, *options, environment=settings) as server:
        yield server


def accepted(answer: Answer) -> str:
    assert answer.status == 202, answer
    url: str = answer.json["status_url"]
    return url


def of_name(spans: Sequence[Collected], name: str) -> Collected:
    (found,) = [span for span in spans if span.name == name]
    return found


def path_to(span: Collected, spans: Sequence[Collected]) -> list[str]:
    """The names of those above it, from the root, and its own."""
    above = {each.span_id: each for each in spans}
    path = [span.name]
    while (parent := above.get(span.parent_id)) is not None:
        path.insert(0, parent.name)
        span = parent
    return path


def notification(*urls: str) -> Mapping[str, object]:
    return {"to": [{"kind": "webhook", "url": url} for url in urls], "type": "a.b", "subject": "Hi", "text": "Go"}


# --- one trace ------------------------------------------------------------------


@pytest.mark.parametrize("fronts", ["0", "2"])
def test_one_trace_from_post_to_commit_to_webhook(
    tmp_path: Path, collector: Collector, receiver: HttpReceiver, fronts: str
) -> None:
    with traced(tmp_path / "data", collector, "--fronts", fronts) as server:
        hook = f"http://127.0.0.1:{receiver.port}/hooks/secret"
        more = {"traceparent": SAMPLED, "tracestate": "shop=a1,other=b2"}
        url = accepted(server.post("/orders", ORDER, callback_url=hook, **more))
        wait_for(lambda: receiver.requests)
        spans = collector.trace(TRACE_ID, "POST /orders", "send orders", "process orders", "process notifications")
        server.wait_until("processed", url)
    spans = collector.trace(TRACE_ID, "POST")
    paths = [path_to(span, spans) for span in spans]
    to_process = ["POST /orders", "send orders", "process orders"]
    assert sorted(paths) == sorted(
        [
            ["POST /orders"],
            ["POST /orders", "send orders"],
            ["POST /orders", "send orders", "commit"],
            to_process,
            [*to_process, "commit"],
            [*to_process, "process notifications"],
            [*to_process, "process notifications", "POST"],
            [*to_process, "process notifications", "commit"],
        ]
    )
    assert of_name(spans, "POST /orders").parent_id == CLIENT
    webhook = of_name(spans, "POST")
    ((_, headers, _),) = receiver.requests
    assert headers["traceparent"] == f"00-{TRACE_ID}-{webhook.span_id}-01"
    assert headers["tracestate"] == "shop=a1,other=b2"
    assert {span.state for span in spans} == {"shop=a1,other=b2"}
    assert all(span.began_ns <= span.ended_ns for span in spans)
    assert not any(span.failed for span in spans)


def test_spans_say_what_the_conventions_ask_for(tmp_path: Path, collector: Collector, receiver: HttpReceiver) -> None:
    with traced(tmp_path / "data", collector) as server:
        hook = f"http://127.0.0.1:{receiver.port}/hooks/secret"
        url = accepted(server.post("/notifications", notification(hook), traceparent=SAMPLED))
        server.wait_until("processed", url)
    message_id = url.rpartition("/")[2]
    spans = collector.trace(TRACE_ID, "POST /notifications", "process notifications", "POST", "commit")
    kinds = {span.name: span.kind for span in spans}
    assert kinds == {
        "POST /notifications": "SERVER",
        "send notifications": "PRODUCER",
        "process notifications": "CONSUMER",
        "commit": "INTERNAL",
        "POST": "CLIENT",
    }
    assert of_name(spans, "POST /notifications").attributes == {
        "http.request.method": "POST",
        "http.route": "/notifications",
        "http.response.status_code": 202,
        "url.path": "/notifications",
        "url.scheme": "http",
    }
    messaging = {"messaging.system": "decoupled", "messaging.destination.name": "notifications"}
    messaging["messaging.message.id"] = message_id
    assert of_name(spans, "process notifications").attributes == messaging | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "decoupled.outcome": "processed",
    }
    assert of_name(spans, "POST").attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 204,
        "server.address": "127.0.0.1",
        "server.port": receiver.port,
        "url.full": f"http://127.0.0.1:{receiver.port}/REDACTED",
    }
    roles = {(span.resource["decoupled.role"], span.resource["service.name"]) for span in spans}
    assert roles == {("front", "decoupled"), ("writer", "decoupled"), ("worker", "decoupled")}


def test_retries_and_what_failed_are_spans_of_the_same_trace(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path / "data", collector) as server:
        url = accepted(server.post("/hazards", {"act": "raise"}, traceparent=SAMPLED))
        server.wait_until("dead", url, seconds=40)
        (line, *_) = [line for line in server.log_lines() if line["message"] == "dead"]
        assert line["trace_id"] == TRACE_ID
    spans = [span for span in collector.trace(TRACE_ID, "process hazards") if span.name == "process hazards"]
    assert len(spans) == 2
    for span in spans:
        assert span.failed
        assert span.attributes["decoupled.outcome"] == "failed"
        ((name, raised),) = span.events
        assert name == "exception"
        assert raised["exception.type"] == span.attributes["error.type"]
        assert raised["exception.stacktrace"].endswith("RuntimeError: the workload says no\n")


def test_a_sick_webhook_is_a_failed_call_and_then_another(
    tmp_path: Path, collector: Collector, receiver: HttpReceiver
) -> None:
    replies: Iterator[Reply] = iter([(503, {})])
    receiver.reply = lambda: next(replies, (204, {}))
    with traced(tmp_path / "data", collector) as server:
        url = f"http://127.0.0.1:{receiver.port}/"
        url = accepted(server.post("/notifications", notification(url), traceparent=SAMPLED))
        server.wait_until("processed", url, seconds=40)
    spans = collector.trace(TRACE_ID, "POST")
    calls = [span for span in spans if span.name == "POST"]
    assert [(span.failed, span.attributes["http.response.status_code"]) for span in calls] == [
        (True, 503),
        (False, 204),
    ]
    tries = [span for span in spans if span.name == "process notifications"]
    assert [span.attributes["decoupled.outcome"] for span in tries] == ["unavailable", "processed"]
    assert [span.parent_id for span in calls] == [span.span_id for span in tries]


def test_a_message_for_several_leads_to_each(tmp_path: Path, collector: Collector, receiver: HttpReceiver) -> None:
    with traced(tmp_path / "data", collector) as server:
        urls = [f"http://127.0.0.1:{receiver.port}/{name}" for name in "ab"]
        accepted(server.post("/notifications", notification(*urls), traceparent=SAMPLED))
        wait_for(lambda: len(receiver.requests) == 2)
    spans = collector.trace(TRACE_ID, "POST")
    first, *emitted = [span for span in spans if span.name == "process notifications"]
    assert [span.parent_id for span in emitted] == [first.span_id] * 2
    parents = {headers["traceparent"].split("-")[2] for _, headers, _ in receiver.requests}
    assert parents == {span.span_id for span in spans if span.name == "POST"}


def test_an_e_mail_is_a_call(tmp_path: Path, collector: Collector) -> None:
    with mail_receiver() as mails:
        server_url = f"smtp://127.0.0.1:{mails.port}"
        with traced(tmp_path / "data", collector, SMTP_URL=server_url) as server:
            to = [{"kind": "email", "address": "ana@example.com"}]
            mail = {"to": to, "type": "a.b", "subject": "Hi", "text": "Go"}
            server.wait_until("processed", accepted(server.post("/notifications", mail, traceparent=SAMPLED)))
    spans = collector.trace(TRACE_ID, "send mail")
    sent = of_name(spans, "send mail")
    assert (sent.kind, sent.attributes["server.port"]) == ("CLIENT", mails.port)
    assert path_to(sent, spans)[-2:] == ["process notifications", "send mail"]


def test_the_recipe_of_the_page_leads_to_a_trace(tmp_path: Path, collector: Collector) -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("## Traces\n")[2].partition("\n## ")[0]
    start, ask = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    settings = dict(re.findall(r"(OTEL_\w+)=(\S+)", start))
    assert settings["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    with serving(tmp_path / "data", environment=settings | collector.environment) as server:
        answer = subprocess.run(
            ["sh", "-c", ask.replace(":8080", f":{server.port}")], capture_output=True, text=True, check=True
        )
        assert "202" in answer.stdout.splitlines()[0]
        server.wait_until_settled()
    drawn = set(
        re.findall(r"^[ │├└]*(\w.*?)(?:  |$)", section.partition("```\nPOST")[2].partition("```")[0], re.MULTILINE)
    )
    names = {span.name for span in collector.trace(TRACE_ID, "process orders", "commit")}
    assert names == {"POST /orders", "send orders", "process orders", "commit"} <= drawn | {"POST /orders"}


# --- who decides, and what comes in -----------------------------------------------


def test_of_a_batch_and_of_neighbours_only_what_is_sampled_is_traced(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path / "data", collector) as server:
        sampled = server.post("/orders", [ORDER] * 3, traceparent=SAMPLED).json["accepted"]
        others = server.post("/orders", [ORDER] * 3, traceparent=UNSAMPLED.replace("4bf9", "5bf9")).json["accepted"]
        server.wait_until("processed", *[it["status_url"] for it in (*sampled, *others)])
        assert server.rows("SELECT count(*) FROM messages WHERE trace LIKE '%-00'") == [(3,)]
    spans = collector.trace(TRACE_ID, "process orders")
    processed = [span for span in spans if span.name == "process orders"]
    assert {span.attributes["messaging.message.id"] for span in processed} == {it["id"] for it in sampled}
    sending = of_name(spans, "send orders")
    assert sending.attributes["messaging.batch.message_count"] == 3
    assert {span.parent_id for span in processed} == {sending.span_id}
    assert {span.trace_id for span in collector.spans} == {TRACE_ID}


def test_one_that_is_not_sampled_is_passed_on_as_it_is(
    tmp_path: Path, collector: Collector, receiver: HttpReceiver
) -> None:
    with traced(tmp_path / "data", collector) as server:
        url = f"http://127.0.0.1:{receiver.port}/"
        accepted(server.post("/notifications", notification(url), traceparent=UNSAMPLED))
        wait_for(lambda: receiver.requests)
    ((_, headers, _),) = receiver.requests
    assert headers["traceparent"] == UNSAMPLED
    assert collector.spans == []


@pytest.mark.parametrize(
    "hostile",
    [
        SAMPLED.upper(),
        f"ff-{TRACE_ID}-{CLIENT}-01",
        f"00-{'0' * 32}-{CLIENT}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"{SAMPLED}, {SAMPLED}",
        f"{SAMPLED}-more",
        "00-" + "a" * 5_000,
        "é",
    ],
)
def test_what_is_no_context_begins_a_new_trace(tmp_path: Path, collector: Collector, hostile: str) -> None:
    with traced(tmp_path / "data", collector, "--fronts", "0") as server:
        url = accepted(server.post("/orders", ORDER, traceparent=hostile, tracestate="a=\tb"))
        server.wait_until("processed", url)
    (trace_id,) = {span.trace_id for span in collector.spans}
    assert trace_id not in (TRACE_ID, "0" * 32)
    assert of_name(collector.spans, "POST /orders").parent_id == ""
    assert of_name(collector.spans, "POST /orders").state == ""


def test_a_stranger_cannot_have_everything_sampled(tmp_path: Path, collector: Collector) -> None:
    never = {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "TRACE_CLIENTS_PER_S": "0.001"}
    with traced(tmp_path / "data", collector, "--fronts", "0", **never) as server:
        for number in range(20):
            accepted(server.post("/orders", ORDER, traceparent=SAMPLED.replace("4736", f"{number:04x}")))
        server.wait_until_settled()
        assert server.rows("SELECT count(*) FROM messages WHERE trace <> ''") == [(1,)]
    assert [span.name for span in collector.spans if span.kind == "SERVER"] == ["POST /orders"]


def test_a_refused_request_is_a_trace_of_its_own_kind(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path / "data", collector, "--fronts", "0") as server:
        assert server.post("/orders", {"no": "order"}, traceparent=SAMPLED).status == 422
        assert server.post("/nothing", ORDER, traceparent=SAMPLED).status == 404
    refused = sorted(span.attributes["http.response.status_code"] for span in collector.spans)
    assert refused == [404, 422]
    assert not any(span.failed for span in collector.spans)


# --- what goes wrong with traces --------------------------------------------------


def test_without_an_endpoint_there_is_nothing_of_it(tmp_path: Path, collector: Collector) -> None:
    with serving(tmp_path / "data", *WORKLOADS) as server:
        server.wait_until("processed", accepted(server.post("/orders", ORDER, traceparent=SAMPLED)))
        assert server.rows("SELECT trace FROM messages") == [("",)]
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (server.pid, *server.fronts(), *server.workers())]
        assert not any("opentelemetry" in it or "google/_upb" in it for it in maps)
    with traced(tmp_path / "data", collector, OTEL_SDK_DISABLED="true") as server:
        server.wait_until("processed", accepted(server.post("/orders", ORDER, traceparent=SAMPLED)))
    assert collector.requests == 0


@pytest.mark.parametrize("trouble", ["gone", "silent", "sick"])
def test_a_collector_that_is_no_use_costs_nobody_anything_but_spans(
    tmp_path: Path, collector: Collector, trouble: str
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_MAX_QUEUE_SIZE": "8",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
    }
    if trouble == "silent":
        collector.silent.set()
    collector.status = 400 if trouble == "sick" else 200
    if trouble == "gone":
        settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    with traced(tmp_path / "data", collector, **settings) as server:
        for _ in range(20):
            ids = server.accept("/orders", *[ORDER] * 20)
        server.wait_until("processed", *[f"/orders/{it}" for it in ids])
        said = wait_for(
            lambda: [it for it in server.log_lines() if it["message"].startswith("spans do not get")], seconds=60
        )
        assert len(said) <= 1 + len(server.fronts()) + len(server.workers())
        assert server.get("/health").status == 200
        server.wait_until_settled()
    # And `serving` has seen that it ends by itself.


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf is what there is"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp is what there is"),
        ("TRACE_CLIENTS_PER_S", "many", "could not convert"),
    ],
)
def test_what_cannot_be_had_is_said_once_and_nothing_else_is_lost(
    tmp_path: Path, collector: Collector, setting: str, value: str, says: str
) -> None:
    with traced(tmp_path / "data", collector, **{setting: value}) as server:
        server.wait_until("processed", accepted(server.post("/orders", ORDER, traceparent=SAMPLED)))
        (line,) = [line for line in server.log_lines() if line["message"].startswith("there are no traces")]
        assert re.search(says, line["error"])
    assert collector.requests == 0


def test_it_says_what_to_install_where_opentelemetry_is_not(tmp_path: Path, collector: Collector) -> None:
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'opentelemetry'\")\n")
    with traced(tmp_path / "data", collector, PYTHONPATH=str(hidden.parent)) as server:
        server.wait_until("processed", accepted(server.post("/orders", ORDER, traceparent=SAMPLED)))
        (line,) = [line for line in server.log_lines() if line["message"].startswith("there are no traces")]
        assert line["error"].endswith("pip install 'decoupled[otel]'")
