"""The template deployed by scripts/deploy.sh into MiniStack, driven over HTTP like a deployed stack, and destroyed. The
tests of this file run in order and share one stack, as a user's day does."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from standardwebhooks import Webhook as Verifier

from decoupled.core.workload import Message
from tests.support import ministack, template, wheels
from tests.support.events import sqs_record
from tests.support.receivers import http_receiver
from tests.support.server import DECOUPLED, wait_for

ROOT = template.PATH.parent.parent
ORDER = json.dumps(
    {
        "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
        "currency": "EUR",
        "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],
        "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
    }
)


def run(command: Sequence[str | Path], environment: Mapping[str, str], seconds: float = 400, told: str = "") -> str:
    done = subprocess.run(
        command,
        env=dict(environment),
        cwd=ROOT,
        input=told,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Stack:
    environment: dict[str, str]
    outputs: dict[str, str]

    def aws(self, *arguments: str) -> Any:
        """The AWS CLI's answer."""
        aws = [ministack.TOOLS / "python", ministack.TOOLS / "aws"]  # its own first line breaks at a space in the path
        return json.loads(run([*aws, *arguments, "--output", "json"], self.environment) or "{}")

    def post(self, *options: str) -> int:
        """The status that an order gets from curl with these options."""
        curl = ["curl", "--silent", "--max-time", "30", "--output", os.devnull, "--write-out", "%{http_code}"]
        request = ["--json", ORDER, f"{self.outputs['Endpoint']}/orders"]
        return int(run([*curl, *options, *request], self.environment))


def deploy(environment: dict[str, str], *parameters: str) -> Stack:
    printed = run(["scripts/deploy.sh", "shop", *parameters], environment)
    outputs = dict(re.findall(r"^(\w+)\t(.+)$", printed.partition("== shop\n")[2], re.MULTILINE))
    return Stack(environment, outputs)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with ministack.running(tmp_path_factory.mktemp("deployment")) as endpoint:
        yield ministack.environment(endpoint)


@pytest.fixture(scope="module")
def stack(environment: dict[str, str]) -> Stack:
    return deploy(environment)


SIGNED = ("--aws-sigv4", "aws:amz:us-east-1:execute-api", "--user", "test:test")


def test_a_deployed_stack_prints_where_it_is(stack: Stack) -> None:
    outputs = template.load()["Outputs"]
    conditions = (None, "WithOwnQueues", "WithSecret")
    assert stack.outputs.keys() == {name for name, output in outputs.items() if output.get("Condition") in conditions}
    assert stack.outputs["Authorization"] == "AWS_IAM"


def test_the_stack_s_api_is_described(stack: Stack) -> None:
    made = json.loads(run([DECOUPLED, "openapi", "--stack", "shop"], stack.environment))
    assert made["servers"] == [{"url": stack.outputs["Endpoint"]}]
    assert made["security"] == [{"sigv4": []}]
    assert "/orders" in made["paths"]


def test_an_unsigned_request_is_refused_and_a_signed_one_accepted(stack: Stack) -> None:
    assert stack.post() == 403
    assert stack.post(*SIGNED) == 202


def test_the_sample_orders_pass_against_the_deployed_stack(stack: Stack) -> None:
    printed = run(
        ["scripts/test-orders.sh", stack.outputs["Endpoint"]], {**stack.environment, "SIGN": "aws"}, seconds=400
    )
    assert "all stored with the right totals" in printed


@pytest.mark.parametrize(("output", "concurrency"), [("OwnQueueUrlorders", 10), ("QueueUrl", 2)])
def test_the_deployed_queues_and_mappings_are_the_templates(stack: Stack, output: str, concurrency: int) -> None:
    answer = stack.aws(
        *("sqs", "get-queue-attributes", "--queue-url", stack.outputs[output], "--attribute-names", "All"),
        *("--endpoint-url", stack.environment["AWS_ENDPOINT_URL"]),
    )["Attributes"]
    assert (answer["VisibilityTimeout"], answer["MessageRetentionPeriod"]) == ("180", "864000")
    assert json.loads(answer["RedrivePolicy"])["maxReceiveCount"] in (1000, "1000")
    mappings = stack.aws("lambda", "list-event-source-mappings")["EventSourceMappings"]
    (mapping,) = [it for it in mappings if it["EventSourceArn"] == answer["QueueArn"]]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": concurrency}


def test_poison_ends_in_the_deployed_dead_letter_queue(stack: Stack) -> None:
    """A stranger's message, put on the queue past the receiver."""
    sqs = ("sqs", "--endpoint-url", stack.environment["AWS_ENDPOINT_URL"])
    stack.aws(*sqs, "send-message", "--queue-url", stack.outputs["QueueUrl"], "--message-body", "not ours")
    deadline = time.monotonic() + 30
    letters: list[dict[str, Any]] = []
    while not letters:
        assert time.monotonic() < deadline
        letters = stack.aws(
            *(*sqs, "receive-message", "--queue-url", stack.outputs["DeadLetterQueueUrl"]),
            *("--message-attribute-names", "All", "--wait-time-seconds", "2"),
        ).get("Messages", [])
    assert letters[0]["Body"] == "not ours"
    assert letters[0]["MessageAttributes"]["error_type"]["StringValue"] == "NotOurs"


def test_the_processor_tells_what_it_puts_back_though_nothing_else_is_measured(stack: Stack, tmp_path: Path) -> None:
    """As CloudWatch takes it from the log, in the namespace that the alarms are on."""
    assert stack.outputs["Metrics"] == "off"
    sent = Message("01a2073956c9000a3ceccc8424a32558d", "orders", "no JSON", "ana", 1_795_000_000_000)
    event = json.dumps({"Records": [sqs_record(sent)]})
    stack.aws(
        *("lambda", "invoke", "--function-name", stack.outputs["ProcessorName"], "--payload", event),
        str(tmp_path / "answer"),
    )
    assert json.loads((tmp_path / "answer").read_text()) == {
        "batchItemFailures": [{"itemIdentifier": f"sqs-{sent.id}"}]
    }

    def told() -> list[dict[str, Any]]:
        log = ("logs", "filter-log-events", "--log-group-name", stack.outputs["ProcessorLog"])
        messages = [it["message"] for it in stack.aws(*log)["events"]]
        return [json.loads(message) for message in messages if message.startswith('{"_aws"')]

    (line,) = wait_for(told, until=bool, seconds=60)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert {metric["Name"] for metric in directive["Metrics"]} == {"oldest_age_seconds", "failed"}
    assert (line["Workload"], line["failed"]) == ("orders", 1)
    alarms = stack.aws("cloudwatch", "describe-alarms", "--alarm-name-prefix", "shop-FailuresAlarm")["MetricAlarms"]
    watched = {(it["Namespace"], it["MetricName"], it["DatapointsToAlarm"]) for it in alarms}
    assert watched == {(directive["Namespace"], "failed", 1)}


# --- JWT ------------------------------------------------------------------------


@dataclass
class Issuer:
    """An OpenID Connect issuer on the loopback that signs whatever claims it is given."""

    url: str
    key: rsa.RSAPrivateKey

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        payload = {"iss": self.url, "aud": "shop", "sub": "ana", "iat": now, "nbf": now - 5, "exp": now + 600, **claims}
        header = {"alg": "RS256", "typ": "JWT", "kid": "one"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, payload))
        return f"{signed}.{_base64(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig"}
    jwk |= {name: _base64(n.to_bytes((n.bit_length() + 7) // 8)) for name, n in (("n", public.n), ("e", public.e))}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.server, http.server.HTTPServer)
            url = f"http://127.0.0.1:{self.server.server_port}"
            known = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
                "/.well-known/jwks.json": {"keys": [jwk]},
                "/keys": {"keys": [jwk]},
            }
            body = json.dumps(known.get(self.path, {})).encode()
            self.send_response(200 if self.path in known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Issuer(f"http://127.0.0.1:{server.server_port}", key)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def jwt_stack(stack: Stack, issuer: Issuer) -> Stack:
    """The same stack, updated: an update keeps the data."""
    jwt = ("Authorization=JWT", f"JwtIssuer={issuer.url}", "JwtAudience=shop")
    return deploy(stack.environment, *jwt, "--tag", "team=shop", "--tag", "cost-center=")


def test_only_a_good_token_is_accepted(jwt_stack: Stack, issuer: Issuer) -> None:
    def with_token(token: str) -> int:
        return jwt_stack.post("--header", f"authorization: Bearer {token}")

    assert with_token(issuer.token()) == 202
    assert jwt_stack.post() == 401
    assert with_token("nonsense") == 401
    assert with_token(issuer.token(exp=int(time.time()) - 60)) == 401
    assert with_token(issuer.token(aud="another")) == 401
    assert with_token(issuer.token(iss="http://127.0.0.1:1")) == 401
    stranger = Issuer(issuer.url, rsa.generate_private_key(65537, 2048))
    assert with_token(stranger.token()) == 401


def test_an_id_is_good_for_its_caller_only_and_from_the_202_on(jwt_stack: Stack, issuer: Issuer) -> None:
    def asked(subject: str, path: str, *options: str) -> tuple[int, Any]:
        signed = ("--header", f"authorization: Bearer {issuer.token(sub=subject)}")
        curl = ["curl", "--silent", "--max-time", "30", "--write-out", "\n%{http_code}", *signed, *options]
        body, _, status = run([*curl, f"{jwt_stack.outputs['Endpoint']}{path}"], jwt_stack.environment).rpartition("\n")
        return int(status), json.loads(body)

    status, accepted = asked("ana", "/orders", "--json", ORDER)
    assert status == 202
    assert asked("ana", accepted["status_url"])[0] == 200
    assert asked("ben", accepted["status_url"])[0] == 404


def test_an_update_keeps_the_queue_and_the_table(stack: Stack, jwt_stack: Stack) -> None:
    kept = ("QueueUrl", "DeadLetterQueueUrl", "TableName", "Endpoint")
    assert [jwt_stack.outputs[name] for name in kept] == [stack.outputs[name] for name in kept]
    assert jwt_stack.outputs["Authorization"] == "JWT"


def test_a_client_of_the_deployed_stack_is_told(jwt_stack: Stack, issuer: Issuer) -> None:
    """By the processor that Lambda runs, which has the secret; the receiver knows the hosts that it may name."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    run([DECOUPLED, "secrets", "set", "shop", "WebhookSecret"], jwt_stack.environment, told=f"{secret}\n")
    webhooks = ("WebhookTrustedHosts=127.0.0.1", "Workloads=orders,notifications")
    jwt = ("Authorization=JWT", f"JwtIssuer={issuer.url}", "JwtAudience=shop")
    stack = deploy(jwt_stack.environment, *jwt, *webhooks)
    with http_receiver() as receiver:
        to = ("--header", f"callback-url: http://127.0.0.1:{receiver.port}/hooks")
        assert stack.post("--header", f"authorization: Bearer {issuer.token()}", *to) == 202
        ((_, headers, body),) = wait_for(lambda: receiver.requests[:1], seconds=60)
    content = Verifier(secret).verify(body, headers)
    assert content["type"] == "orders.processed"
    assert content["data"]["result"]["total"] == "79.80"


def test_the_stack_and_its_secret_have_the_tags_that_an_earlier_deployment_gave_them(jwt_stack: Stack) -> None:
    described = jwt_stack.aws("cloudformation", "describe-stacks", "--stack-name", "shop")["Stacks"][0]
    secret = jwt_stack.aws("secretsmanager", "describe-secret", "--secret-id", jwt_stack.outputs["SecretArn"])
    for tags in (described["Tags"], secret["Tags"]):
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "shop", "cost-center": ""}


def test_destroying_says_what_it_keeps_and_keeps_it(jwt_stack: Stack) -> None:
    printed = run(["scripts/destroy.sh", "shop", "--yes"], jwt_stack.environment)
    for name in ("QueueUrl", "DeadLetterQueueUrl", "TableName"):
        assert printed.count(jwt_stack.outputs[name]) >= 2  # what is kept, and how to delete it
    assert printed.count(jwt_stack.outputs["SecretArn"]) == 2
    table = jwt_stack.aws("dynamodb", "describe-table", "--table-name", jwt_stack.outputs["TableName"])
    assert table["Table"]["TableStatus"] == "ACTIVE"
    assert table["Table"]["ItemCount"] > 0


# --- the zip --------------------------------------------------------------------


def build(output: Path, platform: str, environment: Mapping[str, str]) -> bytes:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    run(["scripts/build.sh", "--platform", platform, "--output", output], {**clean, **environment})
    return output.read_bytes()


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is deployed, of the wheels that are at hand."""
    path = tmp_path_factory.mktemp("zipped") / "lambda.zip"
    build(path, "lambda", wheels.at_hand())
    return path


def test_the_same_sources_give_the_same_zip(zipped: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again.zip", "lambda", {})
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(zipped.read_bytes()).hexdigest()


def test_the_zip_holds_what_lambda_needs_and_nothing_else(zipped: Path) -> None:
    names = zipfile.ZipFile(zipped).namelist()
    ours = {"functions", "decoupled"}
    lock = (ROOT / "requirements/lambda.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==\S+ \\$", lock, re.MULTILINE))  # but for what only older Pythons need
    metadata = {name.split("-")[0].replace("_", "-").lower() for name in names if ".dist-info/METADATA" in name}
    assert metadata == locked
    assert ours <= {name.split("/")[0] for name in names}
    assert not [name for name in names if "sqlite" in name or name.endswith(".pyc")]
    assert not [name for name in names if "test" in name and name.split("/")[0] in ours]
    modules = {name for name in names if name.startswith("decoupled/")}
    needed = {"pipeline/processor.py", "engines/aws/messages.py", "workloads/orders.py"}
    assert {f"decoupled/{name}" for name in needed} <= modules
    assert not [name for name in modules if "/cli/" in name or "/server/" in name]
    assert not modules & {"decoupled/engines/aws/stack.py", "decoupled/engines/aws/deployment.py"}
    machine_code = [name for name in names if name.endswith(".so")]
    assert machine_code
    assert all("cpython-314-aarch64" in name for name in machine_code)
