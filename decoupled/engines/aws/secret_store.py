"""The secret of a stack in Secrets Manager, for the tools that make it, change it and say what is in it. It is no
resource of the stack: it is there before that, nothing of it is a parameter, and it outlives the stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from decoupled.core import stack_limits
from decoupled.engines.aws import secret
from decoupled.engines.aws.client import AwsError, code
from decoupled.engines.aws.stack import tool_client


def name_of(stack: str) -> str:
    """What the secret of a stack is called, unless the stack names another one."""
    return f"decoupled/{stack}"


def find(secret_id: str) -> str | None:
    """The ARN of a secret, by its name or ARN; None if there is none. One that waits to be deleted is kept after
    all."""
    store = _store()
    try:
        found = store.describe_secret(SecretId=secret_id)
    except AwsError as error:
        if code(error) == "ResourceNotFoundException":
            return None
        raise
    if found.get("DeletedDate") is not None:
        store.restore_secret(SecretId=secret_id)
    return str(found["ARN"])


def read(secret_id: str) -> dict[str, str]:
    """What it says. Raises ValueError, Unavailable."""
    return dict(secret.read(_store(), secret_id))


def make(stack: str, values: Mapping[str, str]) -> str:
    """A new secret for a stack. Returns its ARN."""
    about = f"What the functions of the stack {stack} sign and sign in with. Change it by `decoupled secrets`."
    made = _store().create_secret(Name=name_of(stack), Description=about, SecretString=_text(values))
    return str(made["ARN"])


def tag(secret_id: str, tags: Mapping[str, str]) -> None:
    """Give it these tags, beside those that it has."""
    if tags:
        _store().tag_resource(SecretId=secret_id, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


def write(secret_id: str, values: Mapping[str, str]) -> None:
    """Have it say this, in a new version; the one before is kept, as Secrets Manager does."""
    _store().put_secret_value(SecretId=secret_id, SecretString=_text(values))


def encrypt(secret_id: str, key: str) -> bool:
    """Encrypt it with this key from now on, if it is not yet. What it says is stored anew, so that no other key reads
    that."""
    store = _store()
    if store.describe_secret(SecretId=secret_id).get("KmsKeyId", "").rpartition("/")[2] == key.rpartition("/")[2]:
        return False
    store.update_secret(SecretId=secret_id, KmsKeyId=key)
    write(secret_id, read(secret_id))
    return True


def _text(values: Mapping[str, str]) -> str:
    text = msgspec.json.encode(dict(sorted(values.items()))).decode()
    if len(text.encode()) > stack_limits.MAX_SECRET_BYTES:
        raise ValueError(f"the secret would be longer than the {stack_limits.MAX_SECRET_BYTES:,} bytes that AWS keeps")
    return text


def _store() -> Any:
    return tool_client("secretsmanager")
