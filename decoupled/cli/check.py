"""`decoupled check`: whether what was accepted elsewhere, and waits there or is dead, would be understood by the
workloads here. `decoupled deploy` asks the same before it uploads anything."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from decoupled.cli.build import served
from decoupled.cli.calling_aws import calling_aws
from decoupled.cli.target import dead_letters_of, refusals
from decoupled.core.dead_letters import DeadLetter, Wanted
from decoupled.core.releases import Serving
from decoupled.core.validation import faults
from decoupled.core.workload import Workloads
from decoupled.pipeline.compatible import Difference, differences
from decoupled.pipeline.schemas import described

if TYPE_CHECKING:
    from decoupled.engines.aws.releases import Recorded

SAMPLE = 100  # dead letters that are read, oldest first
UNDECODABLE = (
    "ValidationError",
    "DecodeError",
    "UnknownWorkload",
    "NotOurs",
)  # errors of those that the other side could not read


@click.command()
@click.option("--against", metavar="STACK", help="The stack whose messages are to be understood here.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Or a data directory: its dead letters.")
@click.option("--workloads", help="As those of `serve`.  [default: decoupled.toml's]")
def check(against: str | None, data: Path | None, workloads: str | None) -> None:
    """Say what of the messages that a stack accepted would not be understood by the workloads here: by comparing its
    schemas with these, and by reading a hundred of its dead letters. Ends with status 1 if there is any.

    What waits on a queue is not read: to receive it would count, and hide it from its processor. It was accepted by
    the schemas that are compared."""
    if (against is None) == (data is None):
        raise click.UsageError("say --against STACK, or --data DIR")
    if data is not None:
        with refusals():
            found = [*_dead(data, None, served(workloads)[2])]
    else:
        with calling_aws():
            found = against_stack(str(against), served(workloads)[2])
    for difference in found:
        click.echo(line(difference))
    breaking = [difference for difference in found if difference.breaks]
    if breaking:
        raise click.ClickException(f"{len(breaking)} differences would break messages that were accepted")
    click.echo("What was accepted would be understood here.")


def line(difference: Difference) -> str:
    """One for a person."""
    said = "" if difference.breaks else "(perhaps) "
    return f"{difference.workload}  {difference.pointer or '/'}  {said}{difference.detail}"


def against_stack(stack: str, here: Workloads, dead: bool = True) -> list[Difference]:
    """What differs for messages of a stack, from its schemas and, if wanted, from its dead letters."""
    from decoupled.engines.aws import releases, stack_events
    from decoupled.engines.aws.code_bucket import CodeBucket
    from decoupled.engines.aws.stack import account_and_region

    parameters = stack_events.parameters(stack_events.current(stack))
    if "CodeBucket" not in parameters:  # nor in one that an import has made, and nothing more
        raise ValueError(f"there is no stack {stack!r} here that has accepted anything")
    bucket = CodeBucket(parameters["CodeBucket"], *account_and_region())
    serving, found = Serving.of(parameters), []
    names = [] if serving is None else [serving.release, *([serving.before] if serving.percent_before else [])]
    for name in filter(None, names):
        kept = releases.recorded(bucket, stack, name)
        found += [] if kept is None else differences(kept.schemas, told(here))
        if kept is None:
            click.echo(f"Note: nothing is kept of {name}, so that its schemas are not compared", err=True)
    if not names:
        click.echo(f"Note: {stack} is of a time before releases: its schemas are not compared", err=True)
    return [*dict.fromkeys([*found, *(_dead(Path(), stack, here) if dead else ())])]


def refuse_breaks(stack: str, here: Workloads, accepted: bool, left: Recorded | None = None) -> None:
    """Before a deployment: tells what differs, and raises ValueError if that breaks messages, unless it is accepted.
    The dead are looked at if there are any: that takes seconds. `left`: the release of a stack that is gone, which
    accepted what is to be taken back."""
    from decoupled.engines.aws import deployment

    queue = deployment.outputs(stack).get("DeadLetterQueueUrl")
    if queue is not None:
        found = against_stack(stack, here, dead=any(deployment.depth(queue)))
    else:  # there is no such stack, or it was never made whole: it has accepted nothing itself
        found = [] if left is None else differences(left.schemas, told(here))
    for difference in found:
        click.echo(line(difference), err=True)
    if any(difference.breaks for difference in found) and not accepted:
        raise ValueError("messages that were accepted would not be understood; --accept-breaks deploys all the same")


def told(workloads: Workloads) -> Mapping[str, Any]:
    """Their schemas as they are kept: of what has been JSON."""
    made: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(described(workloads)))
    return made


def _dead(data: Path, stack: str | None, here: Workloads) -> Iterator[Difference]:
    """Those of a sample that would not be understood here either, though they are dead of something else."""
    with contextlib.closing(dead_letters_of(data, stack)) as letters:
        sample: Sequence[DeadLetter] = [*itertools.islice(letters.find(Wanted(), bodies=True), SAMPLE)]
    for letter in sample:
        if letter.body is None or letter.error_type in UNDECODABLE or letter.buried_by == "queue":
            continue
        if (workload := here.get(letter.workload)) is None:
            yield Difference(letter.workload, "", f"it is not served here: dead letter {letter.id}")
            continue
        for fault in faults(msgspec.json.decode(letter.body), workload.schema, at_most=1):
            detail = f"{fault['detail']}: dead letter {letter.id}"
            yield Difference(letter.workload, fault["pointer"].removeprefix("#"), detail)
