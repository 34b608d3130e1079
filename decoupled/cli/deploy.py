"""`decoupled deploy` and `decoupled destroy`: the template as a stack on AWS, or in an emulator on this machine."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from decoupled.cli.aws_room import aws_room, is_emulator
from decoupled.cli.build import pack, served
from decoupled.cli.bulkheads import queue_notes, queue_parameters
from decoupled.cli.kit import kit
from decoupled.cli.releases import Change, ShiftType, next_release, placed, record, roll_out
from decoupled.cli.target import DURATION
from decoupled.core.releases import Shift
from decoupled.core.signed_ids import keys_of, new_key
from decoupled.core.times import now_ms
from decoupled.core.workload import Workloads

TEMPLATE = "templates/decoupled-architecture.yaml"


@click.command()
@click.argument("stack")
@click.argument("parameters", nargs=-1, metavar="[Parameter=Value ...]")
@click.option("--rotate-id-key", is_flag=True, help="Sign ids with a new key; the one before still verifies.")
@click.option(
    "--shift",
    type=ShiftType(),
    default="all",
    show_default=True,
    help="How requests come to the new release: all at once, canary:10:5m (10 %, and after 5 minutes the rest) or "
    "linear:10:1m (10 % more every minute). If an alarm sounds, it goes back.",
)
@click.option("--watch", type=DURATION, default="0s", show_default=True, help="And so long after the last of them.")
def deploy(stack: str, parameters: Sequence[str], rotate_id_key: bool, shift: Shift, watch: float) -> None:
    """Build, upload and deploy the system as a STACK, and print its outputs. Parameters of the template that are not
    given keep what they are; Workloads is decoupled.toml's. CODE_BUCKET names the bucket for the code.

    With AWS_ENDPOINT_URL on this machine (an emulator, which runs functions here) it builds for this machine."""
    with aws_room() as aws:
        template = kit(TEMPLATE).read_bytes()
        names, given = _parameters(template.decode(), parameters)
        current = aws.current(stack)
        workloads, project, loaded = served(given.get("Workloads") or _as_deployed(current))
        given |= _ordered(loaded, given)
        has = _deployed(current, "OwnQueues")
        notes = [*_not_kept(loaded), *queue_notes(stack, has, loaded, given)]
        given |= queue_parameters(stack, has, loaded, given)
        given |= _id_keys(aws, stack, current, given, rotate_id_key)
        for note in notes:
            click.echo(note, err=True)
        account, region = aws.account_and_region()
        platform = "local" if is_emulator() else "lambda"
        click.echo("== Build")
        with tempfile.TemporaryDirectory() as directory:
            zipped = Path(directory, "lambda.zip")
            traced = bool(given.get("TracesEndpoint", _deployed(current, "TracesEndpoint")))
            click.echo(pack(workloads, project, platform, zipped, traced).partition(": ")[2])
            code = zipped.read_bytes()
        click.echo("== Upload")
        bucket = os.environ.get("CODE_BUCKET") or f"decoupled-code-{account}-{region}"
        key = f"{stack}/{hashlib.sha256(code).hexdigest()[:32]}.zip"
        named = {"Workloads": ",".join(workloads), "WorkloadNames": ",".join(loaded)}
        given |= {"CodeBucket": bucket, "CodeKey": key} | named
        digest = hashlib.sha256(template + code).hexdigest()
        serving, release = next_release(stack, aws.parameters(current), given, digest, now_ms())
        aws.upload(bucket, region, {key: code, **record(aws, stack, release, template, key)})
        click.echo(f"s3://{bucket}/{key}\n== Deploy {stack} to {account} in {region}")
        change = Change(aws, stack, region, names, placed(aws, stack, region, bucket, template))
        outputs = roll_out(change, serving, release, given, shift, watch)
        click.echo(f"== {stack}")
        for name, value in sorted(outputs.items()):
            click.echo(f"{name}\t{value}")


def _as_deployed(stack: Any) -> str | None:
    """Without a decoupled.toml, the workloads that the stack has."""
    from decoupled.server.configuration import FILE

    if stack is None or FILE.exists() or os.environ.get("DECOUPLED_CONFIG") or os.environ.get("DECOUPLED_WORKLOADS"):
        return None
    return _deployed(stack, "Workloads")


def _deployed(stack: Any, name: str) -> str | None:
    """What a parameter of the stack is, if there is such a stack, and such a parameter of it."""
    parameters = [] if stack is None else stack.get("Parameters", [])
    return next((p["ParameterValue"] for p in parameters if p["ParameterKey"] == name), None)


def _id_keys(aws: Any, stack: str, current: Any, given: Mapping[str, str], rotate: bool) -> dict[str, str]:
    """The parameter with the keys that ids are signed with: made at first, and kept. CloudFormation shows nobody what
    it is, so that for a rotation the key before is read where the receiver has it."""
    if "IdKeys" in given:
        if rotate:
            raise ValueError("--rotate-id-key makes a key: leave IdKeys out")
        keys_of(given["IdKeys"])
        return {}
    has_some = current is not None and any(p["ParameterKey"] == "IdKeys" for p in current.get("Parameters", []))
    if has_some and not rotate:
        return {}
    before = aws.setting(stack, "Receiver", "ID_KEYS") if has_some else ""
    made = [new_key(now_ms(), secrets.token_bytes(32)), *filter(None, before.split(",")[:1])]
    return {"IdKeys": ",".join(made)}


def _ordered(workloads: Workloads, given: Mapping[str, str]) -> dict[str, str]:
    """The parameter that names the ordered workloads. Without any, what the stack has is kept: messages may wait in its
    FIFO queue, and nothing would take them if that left the stack."""
    ordered = sorted(name for name, workload in workloads.items() if workload.ordered)
    if missing := set(ordered) - {*given.get("OrderedWorkloads", ",".join(ordered)).split(",")}:
        raise ValueError(f"{min(missing)!r} is ordered, and OrderedWorkloads does not name it: leave that out")
    return {"OrderedWorkloads": ",".join(ordered)} if ordered and "OrderedWorkloads" not in given else {}


def _not_kept(workloads: Workloads) -> Iterator[str]:
    """What workloads ask for that nothing on AWS sees to."""
    for name, workload in workloads.items():
        if workload.rate is not None or workload.group_rate is not None:
            yield f"Note: the rates of {name!r} are not kept on AWS: all share MaximumConcurrency"


def _parameters(template: str, typed: Sequence[str]) -> tuple[set[str], dict[str, str]]:
    """The template's parameters, and those given."""
    section = re.split(r"^\S.*$", template.partition("\nParameters:\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    names = set(re.findall(r"^  (\w+):", section, re.MULTILINE))
    given = {}
    for pair in typed:
        name, equals, value = pair.partition("=")
        if not equals or name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ValueError(f"{pair!r} is not Parameter=Value" + (f"; is it {near[0]}=...?" if near else ""))
        given[name] = value
    return names, given


@click.command()
@click.argument("stack")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(stack: str, yes: bool) -> None:
    """Delete a STACK, and say what it leaves: the queues, the table and the key are kept, with all that is in them."""
    with aws_room() as aws:
        if aws.current(stack) is None:
            raise ValueError(f"there is no stack {stack!r} here")
        kept = aws.kept(stack)
        click.echo(f"Deleting {stack} keeps, with all that is in them:")
        for queue in kept["queue"]:
            waiting, in_flight = aws.depth(queue)
            click.echo(f"  queue  {queue}  ({waiting} waiting, {in_flight} in flight)")
        for kind in ("later", "table", "key"):
            for name in kept[kind]:
                click.echo(f"  {kind:<5}  {name}")
        click.echo("Messages that still wait will not be processed: nothing takes them any more.")
        question = f"Delete the stack {stack}? Type its name"
        if not yes and click.prompt(question, default="", show_default=False) != stack:
            raise click.ClickException("nothing was deleted")
        aws.destroy(stack)
        click.echo(f"Deleted {stack}. To delete for good what it kept:")
        for queue in kept["queue"]:
            click.echo(f"  aws sqs delete-queue --queue-url {queue}")
        for name in kept["later"]:
            click.echo(f"  aws scheduler delete-schedule-group --name {name}")
        for name in kept["table"]:
            click.echo(f"  aws dynamodb update-table --table-name {name} --no-deletion-protection-enabled")
            click.echo(f"  aws dynamodb delete-table --table-name {name}")
        for name in kept["key"]:
            click.echo(f"  aws kms schedule-key-deletion --key-id {name}")
