"""How AWS is called: one botocore client a service, with time-outs and retries set on purpose. What is called, and what
an answer means, is the engines' affair.

botocore alone, without boto3 above it: 240 ms instead of 300 ms of a cold start, and the same calls."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    SSOError,
    SSOTokenLoadError,
    TokenRetrievalError,
)
from botocore.loaders import Loader
from botocore.session import Session

from decoupled.core import limits
from decoupled.core.workload import Unavailable

AwsError = (ClientError, BotoCoreError)

CONNECT_TIMEOUT_S = 1.0  # within a Region a connection takes milliseconds; a second without one means trouble
READ_TIMEOUT_S = 1.0  # DynamoDB and SQS answer in tens of milliseconds; the default, 60 s, outlasts the function
ATTEMPTS = 2  # one retry rides out a lost connection; after that the queue waits better than a billed function does
# The slowest call: a time-out, botocore's pause before its first retry (up to 1 s), a time-out. That is what
# functions/processor.py keeps in reserve (TIME_RESERVED_S), so that what was decided can still be stored.
SLOWEST_CALL_S = READ_TIMEOUT_S * ATTEMPTS + 1.0


def client(
    service: str,
    read_timeout_s: float = READ_TIMEOUT_S,
    attempts: int = ATTEMPTS,
    calls: int = limits.AWS_CONCURRENCY,
) -> Any:
    """A client for a service that `_Loader` knows: Region, credentials, AWS_ENDPOINT_URL come from the environment. It
    keeps so many connections for `calls` at once."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        # "standard" retries throttling, 5xx and lost connections, with jitter. "adaptive" would also hold calls back in
        # the client, where they burn the function's time.
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=calls,  # as many as are called at once, so that none is opened in vain
        tcp_keepalive=True,  # a frozen environment thaws with its connections dead; find out early
        parameter_validation=False,  # half of a call's CPU; the tests call with validation on
    )
    region = os.environ.get("AWS_REGION")  # as other SDKs have it; botocore itself knows AWS_DEFAULT_REGION alone
    return _session().create_client(service, region_name=region or None, config=config)


@functools.cache
def _session() -> Session:
    """One for all clients: it reads botocore's tables of Regions and endpoints, which is most of a client's cost."""
    session = Session()
    session.register_component("data_loader", _Loader())
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)  # for what botocore itself calls, to take on a profile's role say
    return session


class _Loader(Loader):  # type: ignore[misc]  # botocore has no types
    """Knows what it is asked for: botocore would look through the directories of its four hundred services first."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002  of botocore's interface
        return [*_CALLED, *_CREDENTIALS]


_CALLED = (
    *("cloudformation", "cloudwatch", "dynamodb", "iam", "kms", "lambda", "s3", "scheduler", "secretsmanager"),
    *("service-quotas", "sqs", "sts"),
)
_CREDENTIALS = ("signin", "sso", "sso-oidc", "sts")  # what botocore asks for those of a profile


def code(error: Exception) -> str:
    """AWS's name for an error: `ThrottlingException`; for what never got an answer, botocore's."""
    if isinstance(error, ClientError):
        name: str = error.response.get("Error", {}).get("Code", "Unknown")
        return name
    return type(error).__name__


@contextmanager
def unavailable() -> Iterator[None]:
    """AWS's errors as the protocols'."""
    try:
        yield
    except AwsError as error:
        raise Unavailable(detail(error)) from error


def never_left(error: Exception) -> bool:
    """Is it certain that AWS did not take the request? Only where its first and only answer was a refusal."""
    if not isinstance(error, ClientError):
        return False  # a time-out or a lost connection, at least once
    metadata = error.response.get("ResponseMetadata", {})
    return bool(metadata.get("RetryAttempts", 0) == 0 and metadata.get("HTTPStatusCode", 500) < 500)


def detail(error: Exception) -> str:
    """One line on an error, for a record or a log."""
    text = str(error)
    line = (text if code(error) in text else f"{code(error)}: {text}")[: limits.MAX_ERROR_CHARS]
    return f"{line}; type: aws sso login" if isinstance(error, _SIGNED_OUT) else line


_SIGNED_OUT = (SSOError, SSOTokenLoadError, TokenRetrievalError)  # a profile's sign-on has expired, or never was
