"""`decoupled deploy`: the template as a stack on AWS, or in an emulator on this machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from decoupled.cli import secrets
from decoupled.cli.build import pack, served
from decoupled.cli.calling_aws import calling_aws, is_emulator
from decoupled.cli.check import refuse_breaks, told
from decoupled.cli.headroom import prepared
from decoupled.cli.kit import kit
from decoupled.cli.parameters import check_callers, ordered, tags_of, typed
from decoupled.cli.releases import Change, ShiftType, make_queues, next_release, placed, record, roll_out
from decoupled.cli.stranded import refuse_stranding
from decoupled.cli.target import DURATION
from decoupled.core.releases import Shift
from decoupled.core.times import now_ms
from decoupled.core.workload import Workloads

TEMPLATE = "templates/decoupled-architecture.yaml"


@click.command()
@click.argument("stack")
@click.argument("parameters", nargs=-1, metavar="[Parameter=Value ...]")
@click.option("--anew", is_flag=True, help="Leave alone what an earlier stack of that name left; make all of it anew.")
@click.option(
    "--shift",
    type=ShiftType(),
    default="all",
    show_default=True,
    help="How requests come to the new release: all at once, canary:10:5m (10 %, and after 5 minutes the rest) or "
    "linear:10:1m (10 % more every minute). If an alarm sounds, it goes back.",
)
@click.option("--watch", type=DURATION, default="0s", show_default=True, help="And so long after the last of them.")
@click.option("--tag", "tagged", multiple=True, metavar="Key=Value", help="Of all that is made; may be repeated.")
@click.option("--accept-breaks", is_flag=True, help="Even if messages that wait would not be understood, or kept.")
def deploy(
    stack: str,
    parameters: Sequence[str],
    anew: bool,
    shift: Shift,
    watch: float,
    tagged: Sequence[str],
    accept_breaks: bool,
) -> None:
    """Build, upload and deploy the system as a STACK, and print its outputs. Parameters of the template that are not
    given keep what they are; Workloads is decoupled.toml's. CODE_BUCKET names the bucket for the code. What an earlier
    stack of that name left when it was destroyed is taken back.

    With AWS_ENDPOINT_URL on this machine (an emulator, which runs functions here) it builds for this machine."""
    with calling_aws():
        from decoupled.engines.aws import closing, kept, releases, stack_events, stack_states, take_back
        from decoupled.engines.aws.code_bucket import CodeBucket, key_of
        from decoupled.engines.aws.stack import account_and_region

        template = kit(TEMPLATE).read_bytes()
        secrets.refuse_typed(stack, parameters)
        names, given = typed(template.decode(), parameters)
        tags = tags_of(tagged)
        account, region = account_and_region()
        bucket = CodeBucket(os.environ.get("CODE_BUCKET") or f"decoupled-code-{account}-{region}", account, region)
        current = stack_states.settled(stack, click.echo)
        closing.refuse_closed(stack, current)
        deployed: Mapping[str, str] = stack_events.parameters(current)
        left = None if deployed or anew else take_back.left(bucket, stack, take_back.is_taken(current))
        deployed = deployed if left is None else left.parameters
        workloads, project, loaded = served(given.get("Workloads") or _as_deployed(deployed))
        given |= ordered(loaded, given)
        check_callers(given, deployed)
        given |= _added(stack, deployed, loaded, given)
        accepted_by = releases.recorded(bucket, stack, left.release) if left is not None and left.release else None
        refuse_breaks(stack, loaded, accept_breaks, accepted_by)
        refuse_stranding(stack, given, shift, accept_breaks)
        click.echo("== Build")
        traced = bool(given.get("TracesEndpoint", deployed.get("TracesEndpoint")))
        code = _packed(workloads, project, traced)
        click.echo("== Upload")
        bucket.ready(guarded="CODE_BUCKET" not in os.environ)
        code_key = key_of(stack, code, "zip")
        bucket.store({code_key: code})
        click.echo(f"s3://{bucket.name}/{code_key}")
        if left is not None:
            take_back.take_back(stack, left.kept, click.echo)
            given = {name: value for name, value in left.parameters.items() if name in names} | given
        click.echo(f"== Deploy {stack} to {account} in {region}")
        given |= secrets.secret_of(stack, current, given)
        secrets.tag(stack, given, tags)
        given |= {"CodeBucket": bucket.name, "CodeKey": code_key}
        given |= {"Workloads": ",".join(workloads), "WorkloadNames": ",".join(loaded)}
        digest = hashlib.sha256(template + code).hexdigest()
        has = stack_events.parameters(current)
        serving, release = next_release(bucket, stack, has, given, digest, now_ms())
        recorded = record(stack, release, template, code_key, told(loaded))
        bucket.store(recorded)
        change = Change(bucket, stack, names, placed(bucket, stack, template), tags)
        make_queues(change, serving, has, given)
        outputs = roll_out(change, serving, release, given, shift, watch)
        secrets.encrypt(stack, given, kept.key(stack))
        take_back.remember(bucket, stack)
        bucket.prune(f"{stack}/", [code_key, *recorded, *deployed.values()])
        _show(stack, outputs)


def _show(stack: str, outputs: Mapping[str, str]) -> None:
    click.echo(f"== {stack}")
    for name, value in sorted(outputs.items()):
        click.echo(f"{name}\t{value}")


def _added(
    stack: str, deployed: Mapping[str, str], workloads: Workloads, given: Mapping[str, str]
) -> Mapping[str, str]:
    """The parameters that follow from the workloads and the account; what is to be known of them is told."""
    added, notes, warnings = prepared(stack, deployed, workloads, given)
    for note in (*_not_kept(workloads), *(f"Note: {note}" for note in notes), *(f"Beware: {it}" for it in warnings)):
        click.echo(note, err=True)
    return added


def _packed(workloads: Sequence[str], project: Path | None, traced: bool) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        zipped = Path(directory, "lambda.zip")
        line = pack(workloads, project, "local" if is_emulator() else "lambda", zipped, traced)
        click.echo(line.partition(": ")[2])
        return zipped.read_bytes()


def _as_deployed(deployed: Mapping[str, str]) -> str | None:
    """Without a decoupled.toml, the workloads that the stack has, or had."""
    from decoupled.server.configuration import FILE

    if FILE.exists() or os.environ.get("DECOUPLED_CONFIG") or os.environ.get("DECOUPLED_WORKLOADS"):
        return None
    return deployed.get("Workloads")


def _not_kept(workloads: Workloads) -> Iterator[str]:
    """What workloads ask for that nothing on AWS sees to."""
    for name, workload in workloads.items():
        if workload.rate is not None or workload.group_rate is not None:
            yield f"Note: the rates of {name!r} are not kept on AWS: all share MaximumConcurrency"
