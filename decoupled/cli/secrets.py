"""`decoupled secrets`: what is secret of a stack, which its functions read while they run: to change it needs no
deployment. No value is an argument of a command, which shells and lists of processes show, and none is printed."""

from __future__ import annotations

import secrets as randomness
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from decoupled.cli.calling_aws import calling_aws
from decoupled.core import stack_limits
from decoupled.core.signed_ids import keys_of, new_key, rotated
from decoupled.core.times import now_ms, rfc3339

PARAMETER = "SecretArn"
NAMES = ("IdKeys", "WebhookSecret", "SmtpUrl", "TracesHeaders")
"""What we read of it, beside workloads' own names in capitals. In stacks of earlier versions these were parameters."""
_WERE = {
    "IdKeys": ("Receiver", "ID_KEYS"),
    "WebhookSecret": ("Processor", "WEBHOOK_SECRET"),
    "SmtpUrl": ("Processor", "SMTP_URL"),
    "TracesHeaders": ("Processor", "OTEL_EXPORTER_OTLP_HEADERS"),
}


@click.group()
def secrets() -> None:
    """What is secret of a stack: set, remove, show which there are, rotate. Its functions take a change over within
    minutes."""


@secrets.command("set")
@click.argument("stack")
@click.argument("name")
def set_(stack: str, name: str) -> None:
    """Set NAME, to what standard input says, or to what you type when you are asked: WebhookSecret, SmtpUrl,
    TracesHeaders, or a name in capitals that your workloads read from their environment."""
    _check_name(name)
    value = (
        click.prompt(name, hide_input=True) if sys.stdin.isatty() else sys.stdin.readline(stack_limits.MAX_SECRET_BYTES)
    )
    value = value.rstrip("\r\n")
    if not value:
        raise click.UsageError(f"there is nothing to set {name} to on standard input")
    _check_value(name, value)
    _change(stack, lambda values: {**values, name: value}, f"{name} is set")


@secrets.command()
@click.argument("stack")
@click.argument("name")
def remove(stack: str, name: str) -> None:
    """Remove NAME."""
    _check_name(name)
    _change(stack, lambda values: {key: it for key, it in values.items() if key != name}, f"{name} is removed")


@secrets.command()
@click.argument("stack")
def show(stack: str) -> None:
    """Which there are, and the secret that they are in. The values are not shown."""
    with calling_aws():
        from decoupled.engines.aws import secret_store as store

        arn = _found(stack)
        if arn is None:
            raise ValueError(f"the stack {stack!r} has no secret yet")
        click.echo(arn)
        for name in sorted(store.read(arn)):
            click.echo(f"  {name}")


@secrets.command("rotate-id-key")
@click.argument("stack")
def rotate_id_key(stack: str) -> None:
    """Sign ids with a new key, a while from now, when every function knows it; the one before still verifies."""
    made = randomness.token_bytes(32)
    begins = rfc3339(now_ms() + stack_limits.ID_KEY_LEAD_S * 1000)[:19]
    _change(
        stack,
        lambda values: {**values, "IdKeys": rotated(values.get("IdKeys", ""), now_ms(), made)},
        f"ids are signed with a new key from {begins}Z on",
    )


def _change(stack: str, change: Callable[[Mapping[str, str]], Mapping[str, str]], told: str) -> None:
    with calling_aws():
        from decoupled.engines.aws import secret_store as store

        arn = _found(stack)
        if arn is None:
            store.make(stack, change({"IdKeys": new_key(now_ms(), randomness.token_bytes(32))}))
        else:
            store.write(arn, change(store.read(arn)))
    click.echo(f"{told}; functions that run know it within {stack_limits.SECRET_LOOK_S / 60:g} minutes")


def _found(stack: str) -> str | None:
    """The secret of a stack, which may not be deployed yet. Raises ValueError for one of an earlier version."""
    from decoupled.engines.aws import secret_store as store
    from decoupled.engines.aws.stack_events import current as current_stack

    current = current_stack(stack)
    arn = _parameter(current, PARAMETER)
    if current is not None and not arn:
        raise ValueError(f"the stack {stack!r} reads no secret yet: deploy it with this version first")
    return store.find(arn or store.name_of(stack))


def _check_name(name: str) -> None:
    from decoupled.engines.aws.secret import OWN

    if name == "IdKeys":
        raise click.UsageError("IdKeys is made here: `decoupled secrets rotate-id-key`")
    if name not in NAMES and not OWN.fullmatch(name):
        raise click.UsageError(f"{name!r} is not {', '.join(NAMES[1:])}, nor a name in capitals of your workloads' own")


def _check_value(name: str, value: str) -> None:
    """Raises UsageError, which does not repeat it."""
    if name == "WebhookSecret" and not value.startswith("whsec_"):
        raise click.UsageError("WebhookSecret is whsec_ and base64, as Standard Webhooks has it")
    if name == "SmtpUrl" and not value.startswith(("smtp://", "smtps://")):
        raise click.UsageError("SmtpUrl is smtp://user:password@host:587, or smtps://")


# --- for `decoupled deploy` and `decoupled destroy`


def refuse_typed(stack: str, parameters: Sequence[str]) -> None:
    """Raises ValueError for what was a parameter once, and is secret."""
    for pair in parameters:
        if (name := pair.partition("=")[0]) in NAMES:
            how = "rotate-id-key" if name == "IdKeys" else "set"
            what = "" if name == "IdKeys" else f" {name}"
            raise ValueError(f"{name} is no parameter, but secret: `decoupled secrets {how} {stack}{what}`")


def secret_of(stack: str, current: Mapping[str, Any] | None, given: Mapping[str, str]) -> dict[str, str]:
    """The parameter that names the stack's secret, which is there from now on, with a key to sign ids with. What the
    stack still has as parameters goes into it, as long as it has these."""
    from decoupled.engines.aws import secret_store as store

    named = given.get(PARAMETER) or _parameter(current, PARAMETER)
    arn = store.find(named or store.name_of(stack))
    if named and arn is None:
        raise ValueError(f"there is no secret {named}")
    known = {} if arn is None else store.read(arn)
    values = {**known, **_as_parameters(stack, current)}
    values.setdefault("IdKeys", new_key(now_ms(), randomness.token_bytes(32)))
    keys_of(values["IdKeys"])
    if arn is None:
        arn = store.make(stack, values)
    elif values != known:
        store.write(arn, values)
    return {PARAMETER: arn}


def _as_parameters(stack: str, current: Mapping[str, Any] | None) -> dict[str, str]:
    """What an earlier version's stack has for them. CloudFormation shows nobody what such a parameter is, so it is read
    where the functions have it."""
    if current is None or current.get("StackStatus") == "ROLLBACK_COMPLETE":  # which never had functions
        return {}
    from decoupled.engines.aws.deployment import setting

    there = [name for name in NAMES if _parameter(current, name) is not None]
    found = {name: setting(stack, *_WERE[name]) for name in there}
    return {name: value for name, value in found.items() if value}


def encrypt(stack: str, given: Mapping[str, str], key: str | None) -> bool:
    """Encrypt the secret that `deploy` made with the stack's own key, if it has one. One of the user's stays as it
    is."""
    from decoupled.engines.aws import secret_store as store

    return bool(key and _is_ours(stack, given) and store.encrypt(given[PARAMETER], key))


def tag(stack: str, given: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Give the secret that `deploy` made the stack's tags, as CloudFormation gives them to what it makes."""
    from decoupled.engines.aws import secret_store as store

    if _is_ours(stack, given):
        store.tag(given[PARAMETER], tags)


def _is_ours(stack: str, given: Mapping[str, str]) -> bool:
    from decoupled.engines.aws import secret_store as store

    return f":secret:{store.name_of(stack)}-" in given[PARAMETER]


def _parameter(current: Mapping[str, Any] | None, name: str) -> str | None:
    parameters = [] if current is None else current.get("Parameters", [])
    return next((p["ParameterValue"] for p in parameters if p["ParameterKey"] == name), None)
