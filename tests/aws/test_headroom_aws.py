"""Asking an account for its quotas: against botocore's models, and by the command on MiniStack."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from botocore.stub import Stubber

from decoupled.core.headroom import Account
from decoupled.engines.aws import account_quotas
from tests.support import ministack
from tests.support.server import DECOUPLED

LIMITS = {"AccountLimit": {"ConcurrentExecutions": 1_000, "UnreservedConcurrentExecutions": 900}}
TABLES = {"TableMaxReadCapacityUnits": 40_000, "TableMaxWriteCapacityUnits": 30_000}


def client(service: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return Session().create_client(service, region_name="eu-south-1", **keys)


def test_what_an_account_has_is_asked_as_the_services_models_say() -> None:
    clients = {name: client(name) for name in ("lambda", "dynamodb", "service-quotas")}
    stubs = {name: Stubber(made) for name, made in clients.items()}  # which refuse what a model does not know
    stubs["lambda"].add_response("get_account_settings", LIMITS, {})
    stubs["dynamodb"].add_response("describe_limits", TABLES, {})
    for code, value in (("L-8A5B8E43", 2_500.0), ("L-CDF5615A", 1_250.0)):
        asked = {"ServiceCode": "apigateway", "QuotaCode": code}
        stubs["service-quotas"].add_response("get_service_quota", {"Quota": {"Value": value}}, asked)
    for stub in stubs.values():
        stub.activate()
    assert account_quotas.read(clients.__getitem__) == (Account(1_000, 900, 2_500.0, 1_250.0, 30_000, 40_000), [])
    for stub in stubs.values():
        stub.assert_no_pending_responses()


def test_what_may_not_be_asked_is_a_note_and_no_failure() -> None:
    clients = {name: client(name) for name in ("lambda", "dynamodb", "service-quotas")}
    stubs = {name: Stubber(made) for name, made in clients.items()}
    stubs["lambda"].add_client_error("get_account_settings", "AccessDeniedException", "not you")
    stubs["dynamodb"].add_response("describe_limits", TABLES, {})
    stubs["service-quotas"].add_client_error("get_service_quota", "AccessDeniedException", "not you")
    stubs["service-quotas"].add_client_error("get_service_quota", "NoSuchResourceException", "never heard of it")
    for stub in stubs.values():
        stub.activate()
    known, notes = account_quotas.read(clients.__getitem__)
    assert known == Account(table_writes=30_000, table_reads=40_000)
    assert [note.partition(" is not known: ")[0] for note in notes] == [
        "Lambda's concurrency",
        "API Gateway's throttle rate",
        "API Gateway's throttle burst",
    ]
    assert "AccessDeniedException" in notes[0]


def headroom(url: str, directory: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    command = [str(DECOUPLED), "headroom", "shop", *parameters]
    return subprocess.run(
        command, env=ministack.environment(url), cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_says_what_there_is_too_little_of(ministack_url: str, tmp_path: Path) -> None:
    enough = headroom(ministack_url, tmp_path)
    assert enough.returncode == 0, enough.stderr
    assert "MaximumConcurrency=10" in enough.stdout
    assert enough.stdout.endswith("The account has what shop asks for.\n")
    too_little = headroom(ministack_url, tmp_path, "MaximumConcurrency=600", "TableMaxWrites=50000")
    assert too_little.returncode == 1
    assert re.search(r"may take 602 of the \d+ executions", too_little.stdout), too_little.stdout
    assert "TableMaxWrites=50000 is more than the account has, 40000" in too_little.stdout


@pytest.mark.parametrize("typed", ["MaximumConcurency=3", "MaximumConcurrency"])
def test_what_is_no_parameter_is_refused(ministack_url: str, tmp_path: Path, typed: str) -> None:
    refused = headroom(ministack_url, tmp_path, typed)
    assert refused.returncode == 1
    assert f"{typed!r} is not Parameter=Value" in refused.stderr
