"""The document of the API: which routes, schemas, answers and schemes are in it, and how they look to others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct, defstruct

from decoupled import Effects, Message, Workload
from decoupled.core.callbacks import callback
from decoupled.core.outcomes import Commit, Reject
from decoupled.pipeline.loading import WorkloadError, load
from decoupled.pipeline.openapi import shapes
from decoupled.pipeline.openapi.document import document

NAMES = ("orders", "transactions", "registrations", "readings", "notifications")
SERVED = load(NAMES)


def process(entry: Any, message: Message) -> Effects:
    return Effects({})


def parts(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document."""
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from parts(value)
    elif isinstance(part, list):
        for value in part:
            yield from parts(value)


def test_every_route_of_every_workload_is_in_it() -> None:
    items = ("transactions/balances", "transactions/entries", "readings/hourly")
    expected = {f"/{name}{more}" for name in NAMES for more in ("", "/{id}", "/{id}/events")}
    paths = document(SERVED)["paths"]
    assert paths.keys() == expected | {f"/{item}/{{key}}" for item in items} | {"/health"}
    assert {(path.count("/"), *operations) for path, operations in paths.items()} == {
        *((1, "post", "get"), (1, "get"), (2, "get"), (3, "get"))
    }


def test_an_internal_workload_is_not_in_it_and_a_listing_is() -> None:
    class Open(Struct):
        seat: int

    class Hidden(Struct):
        secret: int

    seats = Workload("seats", Open, process, readable=("taken",), listed=("taken",))
    made = document({"seats": seats, "hidden": Workload("hidden", Hidden, process, internal=True)})
    assert made["paths"].keys() == {
        *("/seats", "/seats/{id}", "/seats/{id}/events", "/seats/taken/{key}", "/seats/taken", "/health")
    }
    assert "idden" not in json.dumps(made)
    assert made["paths"]["/seats/taken"]["get"]["responses"].keys() > {"200", "400", "503"}


def test_a_stream_is_told_of_where_there_is_one() -> None:
    ours, aws = document(SERVED)["paths"], document(SERVED, aws="JWT")["paths"]
    for path, on_aws in (("/orders/{id}/events", None), ("/orders", aws["/orders"].get("get"))):
        content = ours[path]["get"]["responses"]["200"]["$ref"]
        assert content == "#/components/responses/Events"
        assert on_aws is None
    assert "/orders/{id}/events" not in aws


def test_every_reference_leads_somewhere() -> None:
    for made in (document(SERVED), document(SERVED, aws="JWT")):
        references = {part["$ref"] for part in parts(made) if "$ref" in part}
        assert len(references) > 30
        for reference in references:
            found = made
            for name in reference.removeprefix("#/").split("/"):
                found = found[name]


def test_operations_have_names_of_their_own() -> None:
    operations = [part["operationId"] for part in parts(document(SERVED)) if "operationId" in part]
    assert len(operations) == len(set(operations)) == 24


def test_the_records_of_one_workload_are_not_the_items_of_another() -> None:
    class Seat(Struct):
        number: int

    both = {"seats": Workload("seats", Seat, process, readable=("taken",), listed=("taken",))}
    both["seats_taken"] = Workload("seats_taken", Seat, process)
    operations = [part["operationId"] for part in parts(document(both)) if "operationId" in part]
    assert len(operations) == len(set(operations)) == 11


def test_patterns_are_ecmascripts() -> None:
    patterns = [part["pattern"] for part in parts(document(SERVED)) if "pattern" in part]
    assert len(patterns) > 10
    assert not [pattern for pattern in patterns if r"\Z" in pattern or r"\A" in pattern]


def test_a_pattern_that_only_python_has_is_told_as_that() -> None:
    class Loud(Struct):
        """Two
        lines."""

        word: Annotated[str, Meta(pattern=r"(?i)^yes\Z")]

    schema = document({"loud": Workload("loud", Loud, process)})["components"]["schemas"]["Loud"]
    assert schema["properties"]["word"] == {"type": "string", "x-python-pattern": r"(?i)^yes\Z"}
    assert schema["description"] == "Two\nlines."


def test_a_field_may_have_a_name_of_json_schema_s() -> None:
    class Rule(Struct):
        pattern: Annotated[str, Meta(pattern=r"^a\Z")]
        default: Annotated[str, Meta(pattern=r"^b\Z")]
        properties: dict[str, str]
        enum: Annotated[str, Meta(description="c")] = r"^d\Z"

    made = document({"rules": Workload("rules", Rule, process)})["components"]["schemas"]["Rule"]
    assert made["properties"] == {
        "pattern": {"type": "string", "pattern": "^a$"},
        "default": {"type": "string", "pattern": "^b$"},
        "properties": {"type": "object", "additionalProperties": {"type": "string"}},
        "enum": {"type": "string", "description": "c", "default": r"^d\Z"},
    }


@pytest.mark.parametrize("kind", [Iterator[int], complex])
def test_a_schema_that_cannot_be_told_is_served_all_the_same(kind: Any) -> None:
    odd = defstruct("Odd", [("other", int), ("part", kind | None, None)])
    made = document({"odd": Workload("odd", odd, process), **SERVED})
    schema = made["paths"]["/odd"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]
    assert schema["type"] == "object"
    assert "cannot be told" in schema["description"]
    assert "Order" in made["components"]["schemas"]


def test_a_schema_may_have_a_name_of_ours() -> None:
    class Problem(Struct):
        about: str

    made = document({"problems": Workload("problems", Problem, process)})
    sent = made["paths"]["/problems"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]
    answered = made["components"]["responses"]["read-404"]["content"]["application/problem+json"]["schema"]
    schemas = made["components"]["schemas"]
    assert schemas[sent["$ref"].rpartition("/")[2]]["required"] == ["about"]
    assert "title" in schemas[answered["$ref"].rpartition("/")[2]]["required"]


def test_what_may_be_left_out_is_not_said_to_be_null() -> None:
    """Generators of clients take a field with a default for one that is always there."""
    address = document(SERVED)["components"]["schemas"]["Address"]["properties"]["line2"]
    assert address["anyOf"][1] == {"type": "null"}
    assert "default" not in address


def test_a_client_that_reads_the_first_media_type_only_reads_every_refusal() -> None:
    made = document(SERVED)
    (first, schema), _ = made["components"]["responses"]["send-422"]["content"].items()
    assert first == "application/json"
    assert [part["$ref"].rpartition("/")[2] for part in schema["schema"]["anyOf"]] == ["Problem", "Batch"]


def test_an_example_is_shown_as_it_is() -> None:
    class Rule(Struct):
        pattern: str

    example = {"pattern": r"^a\Z"}
    made = document({"rules": Workload("rules", Rule, process, example=example)})
    body = made["paths"]["/rules"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"] == {"one": {"value": example}, "batch": {"value": [example]}}


def test_all_of_ours_have_an_example() -> None:
    assert [name for name, workload in SERVED.items() if workload.example is None] == []


def test_an_example_that_would_be_refused_is_none(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    (tmp_path / "votes.py").write_text(
        "from decoupled import Workload\nfrom msgspec import Struct\nclass Vote(Struct):\n    poll: str\n"
        "WORKLOAD = Workload('votes', Vote, lambda vote, message: None, example={'poll': 1})\n"
    )
    with pytest.raises(WorkloadError, match=r"its example is none that it would take: Expected `str`, got `int`.*poll"):
        load(["./votes.py"], tmp_path)


def test_on_aws_the_gateway_has_answers_and_schemes_of_its_own() -> None:
    made = document(SERVED, "https://abc.example", "JWT")
    assert made["servers"] == [{"url": "https://abc.example"}]
    assert "/health" not in made["paths"]
    assert made["paths"]["/orders"]["post"]["responses"].keys() > {"401", "403", "429"}
    assert made["security"] == [{"jwt": []}]
    assert document(SERVED, aws="AWS_IAM")["security"] == [{"sigv4": []}]
    assert document(SERVED, aws="NONE")["security"] == document(SERVED)["security"] == []


def test_a_server_that_asks_for_keys_says_so_and_where_not() -> None:
    made = document(SERVED, auth=("keys",))
    schemes = made["components"]["securitySchemes"]
    assert {(it["type"], it.get("scheme", it.get("name"))) for it in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "x-api-key"),
    }
    assert made["security"] == [{name: []} for name in schemes], "one of them will do"
    assert made["paths"]["/health"]["get"]["security"] == []
    operations = [it for path, its in made["paths"].items() if path != "/health" for it in its.values()]
    assert all({"401", "403"} <= it["responses"].keys() for it in operations)
    assert document(SERVED)["security"] == []


def test_a_server_that_lets_senders_of_webhooks_in_says_where_and_how_they_sign() -> None:
    made = document(SERVED, auth=("keys", "signatures"))
    schemes = made["components"]["securitySchemes"]
    headers = {it["name"] for it in schemes.values() if it["type"] == "apiKey"}
    assert headers == {"x-api-key", "webhook-signature", "stripe-signature", "x-hub-signature-256"}
    assert made["security"] == [{"bearer": []}, {"key": []}]
    for path, its in made["paths"].items():
        for method, operation in its.items():
            if method == "post":
                assert operation["security"] == [{name: []} for name in schemes]
            else:
                assert operation.get("security", made["security"]) == ([] if path == "/health" else made["security"])
    alone = document(SERVED, auth=("signatures",))
    assert [name for requirement in alone["security"] for name in requirement] == list(schemes)[2:]


def test_a_callback_is_described_where_it_is_delivered_and_nowhere_else() -> None:
    made = document(SERVED)
    for name in NAMES:
        post = made["paths"][f"/{name}"]["post"]
        assert ("callbacks" in post) == (name != "notifications")
        asked = [part["$ref"] for part in post["parameters"]]
        assert ("#/components/parameters/CallbackUrl" in asked) == (name != "notifications")
    ((url, operations),) = made["components"]["callbacks"]["final"].items()
    assert url == "{$request.header.Callback-Url}"
    body = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
    record, rejected, _ = body["properties"]["data"]["anyOf"]
    assert (record["$ref"], rejected["$ref"]) == ("#/components/schemas/Processed", "#/components/schemas/Rejected")
    without = json.dumps(document(load(["orders"])))
    assert "allback" not in without


def test_what_is_told_is_what_the_document_says() -> None:
    operations = document(SERVED)["components"]["callbacks"]["final"]["{$request.header.Callback-Url}"]
    content = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
    *_, pointer = content["properties"]["data"]["anyOf"]
    message = Message("a", "orders", "{}", "anonymous", 1, callback="https://shop.example/")
    for final, kind in ((Commit('{"n":1}'), shapes.Processed), (Reject("no"), shapes.Rejected)):
        data = json.loads(callback(message, final, 2).body)["data"]
        assert isinstance(msgspec.convert(data, shapes.Record, strict=True), kind)
        assert data.keys() == msgspec.to_builtins(msgspec.convert(data, kind)).keys()
    data = json.loads(callback(message, Commit(json.dumps({"n": "x" * 300_000})), 2).body)["data"]
    assert data.keys() == pointer["properties"].keys() == set(pointer["required"])
    assert data["status"] in pointer["properties"]["status"]["enum"]
