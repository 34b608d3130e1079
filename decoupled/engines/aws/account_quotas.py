"""Asks what the account lets a stack have. Who may not ask is told so, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from decoupled.core.headroom import Account
from decoupled.engines.aws.client import AwsError, detail
from decoupled.engines.aws.stack import tool_client

_RATE, _BURST = "L-8A5B8E43", "L-CDF5615A"  # of API Gateway, in Service Account; the same in every Region


def read(clients: Callable[[str], Any] = tool_client) -> tuple[Account, list[str]]:
    """What is known, and a note on each that is not."""
    notes: list[str] = []

    def asked(what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except AwsError as error:
            notes.append(f"{what} is not known: {detail(error)}")
            return None

    executions = asked("Lambda's concurrency", lambda: clients("lambda").get_account_settings()["AccountLimit"])
    tables = asked("DynamoDB's throughput", lambda: clients("dynamodb").describe_limits())
    rate = asked("API Gateway's throttle rate", lambda: _quota(clients("service-quotas"), _RATE))
    burst = asked("API Gateway's throttle burst", lambda: _quota(clients("service-quotas"), _BURST))
    known = Account(
        executions=executions and executions["ConcurrentExecutions"],
        unreserved=executions and executions["UnreservedConcurrentExecutions"],
        requests=rate,
        burst=burst,
        table_writes=tables and tables["TableMaxWriteCapacityUnits"],
        table_reads=tables and tables["TableMaxReadCapacityUnits"],
    )
    return known, notes


def _quota(client: Any, code: str) -> float:
    return float(client.get_service_quota(ServiceCode="apigateway", QuotaCode=code)["Quota"]["Value"])
