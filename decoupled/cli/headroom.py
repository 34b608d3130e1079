"""`decoupled headroom`: whether an account has what a stack asks for, before it is deployed. `decoupled deploy` asks
the same, and chooses what depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from decoupled.cli.build import served
from decoupled.cli.bulkheads import defaults, pace_parameters, queue_notes, queue_parameters, reserved
from decoupled.cli.calling_aws import calling_aws
from decoupled.cli.kit import kit
from decoupled.cli.parameters import typed
from decoupled.core import own_queues
from decoupled.core.headroom import exceeded
from decoupled.core.workload import Workloads

TEMPLATE = "templates/decoupled-architecture.yaml"


@click.command()
@click.argument("stack")
@click.argument("parameters", nargs=-1, metavar="[Parameter=Value ...]")
def headroom(stack: str, parameters: Sequence[str]) -> None:
    """Say which parameters of a STACK, as it is or as it would be deployed, ask for more than the account's quotas
    have, and how to ask for more. Changes nothing. What it may not ask is a note; the status is 1 if there is too
    little."""
    from decoupled.server.configuration import FILE

    with calling_aws():
        from decoupled.engines.aws import stack_events

        given = typed(kit(TEMPLATE).read_text(), parameters)[1]
        deployed = stack_events.parameters(stack_events.current(stack))
        asked = given.get("Workloads") or (None if FILE.exists() else deployed.get("Workloads"))
        _, notes, warnings = prepared(stack, deployed, served(asked)[2], given)
    for line in (*notes, *warnings):
        click.echo(line)
    if warnings:
        raise SystemExit(1)
    click.echo(f"The account has what {stack} asks for.")


def prepared(
    stack: str, deployed: Mapping[str, str], workloads: Workloads, given: Mapping[str, str]
) -> tuple[dict[str, str], list[str], list[str]]:
    """What is to be added to the parameters that were given for a stack, which has those `deployed` (a new one has
    none); notes; and what there is too little of. Raises ValueError."""
    from decoupled.engines.aws import account_quotas

    has = deployed.get("OwnQueues")
    early = bool(deployed) and has is None and "OwnQueues" not in given  # what is sent to queues that an update makes
    added = (
        {"OwnQueues": own_queues.NONE} if early else queue_parameters(stack, has, workloads, given)
    )  # goes with them
    ordered = ",".join(sorted(name for name, workload in workloads.items() if workload.ordered))
    values = {**defaults(kit(TEMPLATE).read_text()), "OrderedWorkloads": ordered, **deployed, **given, **added}
    known, notes = account_quotas.read()
    pace = pace_parameters(values, given, not deployed, known)
    if early:
        notes.append("no workload has a queue of its own yet: deploy once more, and each gets one")
    sharing = () if early else queue_notes(stack, has, workloads, given)
    notes += [*sharing, *(f"{name}={value}" for name, value in pace.items())]
    warnings = list(exceeded({**values, **pace}, known, reserved(deployed)))
    return {**added, **pace}, notes, warnings
