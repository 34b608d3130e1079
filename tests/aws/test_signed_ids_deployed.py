"""Signed ids and Prefer: wait on a deployed stack, over HTTP, with its processors stopped and going. The tests of this
file run in order and share one stack."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from decoupled.core.identifiers import new_id
from decoupled.core.releases import Serving, name_of
from decoupled.core.signed_ids import keys_of, new_key, record_id
from decoupled.core.times import now_ms
from decoupled.core.workload import ANONYMOUS, Message
from decoupled.engines.aws import deployment, releases, secret_store
from decoupled.engines.aws.code_bucket import CodeBucket
from decoupled.engines.aws.stack import account_and_region, tool_client
from decoupled.engines.aws.stack_events import current
from tests.support import events, template
from tests.support.contract import wait_for
from tests.support.deployed import Stack, deployed


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployed(tmp_path_factory.mktemp("deployed")) as made:
        yield made


@pytest.fixture(scope="module")
def stopped(stack: Stack) -> Iterator[Stack]:
    stack.process(False)
    yield stack
    stack.process(True)


def key_of(stack: Stack) -> str:
    return secret_store.read(stack.outputs["SecretArn"])["IdKeys"]


def test_right_after_its_202_a_message_is_queued_and_never_a_404(stopped: Stack) -> None:
    accepted = stopped.post(1)
    assert accepted.status_code == 202
    shown = accepted.json()["id"]
    assert accepted.headers["location"] == accepted.json()["status_url"] == f"/boxes/{shown}"
    found, record = stopped.ask(shown)
    assert (found, record["status"], record["id"]) == (200, "queued", shown)
    assert record["accepted_at"]
    shown = stopped.post(2, idempotency_key="two").json()["id"]
    assert stopped.ask(shown) == (200, {"id": shown, "workload": "boxes", "status": "queued"})


def test_a_forged_id_is_a_404(stopped: Stack) -> None:
    shown = stopped.post(1).json()["id"]
    assert stopped.ask(shown)[0] == 200
    for place in range(len(shown)):
        letter = "0" if shown[place] != "0" else "1"
        assert stopped.ask(f"{shown[:place]}{letter}{shown[place + 1 :]}")[0] == 404
    assert stopped.ask(record_id(shown))[0] == 404


def test_each_entry_of_a_batch_is_queued(stopped: Stack) -> None:
    accepted = stopped.client.post("/boxes", json=[{"weight": 1}, {"weight": 2}]).json()["accepted"]
    assert [stopped.ask(it["id"])[1]["status"] for it in accepted] == ["queued", "queued"]


def test_what_is_due_later_says_when(stopped: Stack) -> None:
    shown = stopped.post(1, delay="3600").json()["id"]
    record = stopped.ask(shown)[1]
    assert (record["status"], record["due_at"] > record["accepted_at"]) == ("queued", True)


def test_who_waits_in_vain_gets_the_202_all_the_same(stopped: Stack) -> None:
    accepted = stopped.post(1, prefer="wait=1")
    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "wait=1")
    shown = accepted.json()["id"]
    assert stopped.ask(shown, prefer="wait=1")[1]["status"] == "queued"


def test_a_deployment_keeps_the_key_and_a_rotation_changes_nothing_but_the_secret(stopped: Stack) -> None:
    before, key = stopped.post(1, idempotency_key="kept").json()["id"], key_of(stopped)
    assert "== boxes" in stopped.deploy("LogRetentionDays=60")
    assert key_of(stopped) == key
    assert stopped.post(1, idempotency_key="kept").json()["id"] == before
    before_it = len(events_of("boxes"))
    assert "ids are signed with a new key from" in stopped.run("secrets", "rotate-id-key", "boxes")
    assert key_of(stopped).split(",")[1:] == [key]
    assert stopped.post(1, idempotency_key="kept").json()["id"] == before  # the new one signs later
    assert stopped.ask(before)[1]["status"] == "queued"
    assert "until then" in stopped.run("secrets", "rotate-id-key", "boxes")
    assert len(events_of("boxes")) == before_it


def test_the_status_function_finds_out_about_a_key_that_it_has_not_read_yet(stopped: Stack) -> None:
    """However it came that the receiver knew it first."""
    made = new_key(now_ms(), b"k" * 32)
    message = Message(new_id(now_ms(), 1, "e" * 18), "boxes", "{}", ANONYMOUS, now_ms())
    shown = keys_of(made).shown(message)
    assert stopped.ask(shown)[0] == 404
    arn = stopped.outputs["SecretArn"]
    secret_store.write(arn, {**secret_store.read(arn), "IdKeys": f"{made},{key_of(stopped).split(',')[-1]}"})
    found = wait_for(lambda: stopped.ask(shown), until=lambda found: found[0] == 200, seconds=30)
    assert found[1]["status"] == "queued"


def test_what_is_secret_is_refused_as_a_parameter_before_anything_is_built(stack: Stack) -> None:
    assert "decoupled secrets set boxes WebhookSecret" in (said := stack.deploy("WebhookSecret=whsec_abc"))
    assert "whsec_abc" not in said
    assert "== Build" not in said
    assert "decoupled secrets rotate-id-key boxes" in stack.deploy("IdKeys=secret")


def test_a_secret_is_set_from_standard_input_and_its_name_is_all_that_is_shown(stack: Stack) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    said = stack.run("secrets", "set", "boxes", "WebhookSecret", told=f"{secret}\n")
    said += stack.run("secrets", "set", "boxes", "STRIPE_KEY", told="sk_live_1")
    said += (shown := stack.run("secrets", "show", "boxes"))
    assert shown.split() == [stack.outputs["SecretArn"], "IdKeys", "STRIPE_KEY", "WebhookSecret"]
    said += stack.run("secrets", "set", "boxes", "WebhookSecret", told="sk_live_1")
    assert "whsec_ and base64" in said
    assert not [it for it in (secret, "sk_live_1") if it in said]
    assert secret_store.read(stack.outputs["SecretArn"])["WebhookSecret"] == secret
    assert "is removed" in stack.run("secrets", "remove", "boxes", "STRIPE_KEY")
    assert "STRIPE_KEY" not in stack.run("secrets", "show", "boxes")
    for name in ("IdKeys", "stripe-key"):
        assert "Usage" in stack.run("secrets", "set", "boxes", name, told="x")


def test_a_receiver_that_cannot_read_the_secret_says_503_and_a_deployment_takes_a_deleted_one_up_again(
    stack: Stack,
) -> None:
    tool_client("secretsmanager").delete_secret(SecretId=stack.outputs["SecretArn"], RecoveryWindowInDays=7)
    refused = asked_anew("boxes", "Receiver", events.post({"weight": 1}, workload="boxes"))
    assert (refused["statusCode"], refused["headers"]["content-type"]) == (503, "application/problem+json")
    assert json.loads(refused["body"])["resend"] == "safe"
    assert stack.post(1).status_code == 202  # what runs knows what it read
    assert "== boxes" in stack.deploy("ReceiverMemory=640")
    assert wait_for(lambda: stack.post(1).status_code, until=lambda status: status == 202, seconds=30) == 202


def test_a_stack_that_has_them_as_parameters_is_moved_to_a_secret_and_loses_nothing(stack: Stack) -> None:
    parameters = {
        "IdKeys": new_key(now_ms(), b"p" * 32),
        "WebhookSecret": "whsec_bmVpZ2hib3Vycw==",
        "SmtpUrl": "smtp://shop:p@mail.example",
        "TracesHeaders": "",
    }
    stack.process(False)
    as_before(parameters)
    tool_client("secretsmanager").delete_secret(SecretId=stack.outputs["SecretArn"], ForceDeleteWithoutRecovery=True)
    kept = stack.post(3, idempotency_key="before").json()["id"]
    assert keys_of(parameters["IdKeys"]).knows(kept)
    assert "deploy it with this version first" in stack.run("secrets", "set", "boxes", "SmtpUrl", told="smtp://m")
    printed = stack.deploy()
    assert "== boxes" in printed
    (arn,) = re.findall(r"^SecretArn\t(\S+)$", printed, re.MULTILINE)
    assert secret_store.read(arn) == {name: value for name, value in parameters.items() if value}
    named = {it["ParameterKey"] for it in (current("boxes") or {})["Parameters"]}
    assert not named & parameters.keys()
    assert stack.ask(kept)[1]["status"] == "queued"
    assert stack.post(3, idempotency_key="before").json()["id"] == kept
    for function, variable in (("Receiver", "ID_KEYS"), ("Processor", "WEBHOOK_SECRET"), ("Processor", "SMTP_URL")):
        assert deployment.setting("boxes", function, variable) == ""
    stack.process(True)


def as_before(parameters: Mapping[str, str]) -> None:
    """Make the stack one of an earlier version, as far as that matters here."""
    text = template.PATH.read_text()
    text = re.sub(r"  SecretArn:\n    Type.*?\n\n", _parameters(parameters), text, count=1, flags=re.DOTALL)
    was = "ID_KEYS: !Ref IdKeys\n          WEBHOOK_SECRET: !Ref WebhookSecret\n          SMTP_URL: !Ref SmtpUrl"
    text = text.replace("SECRET_ARN: !Ref SecretArn", was).replace('[!Ref SecretArn, ""]', '["", ""]')
    text = re.sub(r"!Ref SecretArn\b", '""', text.replace("SecretArn, WebhookTrusted", "IdKeys, WebhookTrusted"))
    bucket = CodeBucket(next(iter(tool_client("s3").list_buckets()["Buckets"]))["Name"], *account_and_region())
    named = Serving(name_of("0" * 64, now_ms())).parameters()  # a release, so that its versions have these variables
    url = bucket.store({"before.yaml": releases.as_emulated(text.encode(), named)})
    names = set(re.findall(r"^  (\w+):$", text.partition("\nParameters:")[2].partition("\nRules:")[0], re.MULTILINE))
    deployment.deploy("boxes", f"{url}/before.yaml", names, {**parameters, **named}, lambda _: None, {})
    deployment.mend_emulators_mappings("boxes")


def _parameters(names: Iterable[str]) -> str:
    return "".join(f'  {name}:\n    Type: String\n    Default: ""\n    NoEcho: true\n' for name in names) + "\n"


def events_of(stack: str) -> list[Any]:
    found: list[Any] = tool_client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    return found


def asked_anew(stack: str, function: str, event: Any) -> Any:
    """What the function answers in an environment that starts with this event."""
    found = tool_client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=function)
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    tool_client("lambda").update_function_configuration(FunctionName=name, MemorySize=768)
    return json.load(tool_client("lambda", 60.0).invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


def test_of_two_entries_under_one_key_the_first_processed_has_the_record_and_the_other_is_told(stack: Stack) -> None:
    stack.process(False)
    ids = {weight: stack.post(weight, idempotency_key="once").json()["id"] for weight in (1, 2)}
    assert len({record_id(shown) for shown in ids.values()}) == 1
    assert [stack.ask(shown)[1]["status"] for shown in ids.values()] == ["queued", "queued"]
    stack.process(True)
    found = wait_for(
        lambda: {weight: stack.ask(shown) for weight, shown in ids.items()},
        until=lambda found: all(body["status"] != "queued" for _, body in found.values()),
        seconds=60,
    )
    ((first, record),) = [(weight, body) for weight, (status, body) in found.items() if status == 200]
    other = 3 - first
    assert (record["id"], record["status"], record["result"]) == (ids[first], "processed", {"weight": first})
    assert stack.ask(record_id(ids[first]))[1]["status"] == "processed"
    assert found[other][0] == 422
    assert stack.post(other, idempotency_key="once", prefer="wait=9").status_code == 422
    assert stack.post(first, idempotency_key="once", prefer="wait=9").json() == record


def test_who_waits_gets_the_record(stack: Stack) -> None:
    answer = stack.post(7, prefer="wait=15")
    assert answer.status_code == 200
    assert answer.json()["result"] == {"weight": 7}
    assert answer.headers["preference-applied"].startswith("wait=")
    assert answer.headers["location"] == f"/boxes/{answer.json()['id']}"
    assert stack.ask(answer.json()["id"])[1] == answer.json()


def test_a_tool_takes_a_dead_letter_s_id_as_its_client_has_it(stack: Stack) -> None:
    shown = stack.post(13).json()["id"]
    wait_for(lambda: stack.ask(shown)[1], until=lambda it: it["status"] == "dead", seconds=60)
    for known in (shown, record_id(shown)):
        letter = json.loads(stack.run("dead", "show", "--stack", "boxes", known))
        assert (letter["id"], letter["error_type"]) == (record_id(shown), "KeyError")
    assert "1 redriven" in stack.run("dead", "redrive", "--stack", "boxes", shown)


def test_what_is_forgotten_is_a_410_and_sent_again_it_has_no_effect(stack: Stack) -> None:
    shown = stack.post(8, idempotency_key="mine", prefer="wait=15").json()["id"]
    dead = stack.post(13).json()["id"]
    wait_for(lambda: stack.ask(dead)[1], until=lambda it: it["status"] == "dead", seconds=60)
    for known in (shown, dead):
        said = stack.run("forget", "--stack", "boxes", "--id", known, "--yes")
        assert "it is read once" in said
        assert re.search("in [1-9][0-9]* records and items, the whole table: nothing is left", said), said
        assert "CloudWatch has what functions and the API have logged" in said
        assert stack.ask(known)[0] == 410
    assert stack.post(8, idempotency_key="mine").json()["id"] == shown
    assert stack.post(8, prefer="wait=15").status_code == 200  # which is behind it
    assert stack.ask(shown)[0] == 410
    assert "is not dead here" in stack.run("dead", "show", "--stack", "boxes", dead)
    assert "nothing that could be erased" in stack.run("forget", "--stack", "boxes", "--id", dead, "--yes")
