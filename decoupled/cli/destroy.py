"""`decoupled destroy`: a stack's end, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from decoupled.cli.calling_aws import calling_aws
from decoupled.cli.secrets import PARAMETER

if TYPE_CHECKING:
    from decoupled.engines.aws.kept import Kept


@click.command()
@click.argument("stack")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(stack: str, yes: bool) -> None:
    """Delete a STACK, and say what it leaves: the queues, the table, what is due later and the key are kept, with all
    that is in them. `deploy` takes them back."""
    with calling_aws():
        from decoupled.engines.aws import deployment, kept, stack_events, stack_states

        if (current := stack_states.at_rest(stack, click.echo)) is None:
            raise ValueError(f"there is no stack {stack!r} here")
        those = kept.resources(stack)
        if secret := stack_events.parameters(current).get(PARAMETER):
            those.append(kept.Kept(PARAMETER, SECRET, secret))
        click.echo(f"Deleting {stack} keeps, with all that is in them:")
        for each in those:
            click.echo(f"  {_WORDS[each.kind]:<6}  {each.name}{_depth(each)}")
        click.echo("Messages that still wait will not be processed: nothing takes them any more.")
        question = f"Delete the stack {stack}? Type its name"
        if not yes and click.prompt(question, default="", show_default=False) != stack:
            raise click.ClickException("nothing was deleted")
        _remember(stack)
        deployment.destroy(stack, click.echo)
        click.echo(f"Deleted {stack}.")
        if those:
            click.echo(f"`decoupled deploy {stack}` takes back what it kept. To delete that for good:")
        for line in (line for each in those for line in _DELETES[each.kind](each.name)):
            click.echo(f"  {line}")


def _remember(stack: str) -> None:
    """Write down what is kept, to be taken back. Where that cannot be, whoever destroys reads its names here."""
    from decoupled.engines.aws import take_back
    from decoupled.engines.aws.client import AwsError, code

    try:
        take_back.remember_in_its_bucket(stack)
    except AwsError as error:
        if code(error) != "NoSuchBucket":
            raise
        click.echo("Note: the bucket of its code is gone, so that `deploy` will not find what is kept", err=True)


def _depth(kept: Kept) -> str:
    from decoupled.engines.aws import deployment
    from decoupled.engines.aws.client import AwsError, code
    from decoupled.engines.aws.kept import GONE

    if kept.kind != "AWS::SQS::Queue":
        return ""
    try:
        waiting, in_flight = deployment.depth(kept.name)
    except AwsError as error:
        if code(error) in GONE:
            return "  (gone)"
        raise
    return f"  ({waiting} waiting, {in_flight} in flight)"


SECRET = "AWS::SecretsManager::Secret"  # noqa: S105  which is no resource of the stack
_WORDS: Mapping[str, str] = {
    "AWS::SQS::Queue": "queue",
    "AWS::Scheduler::ScheduleGroup": "later",
    "AWS::IAM::Role": "role",
    "AWS::DynamoDB::Table": "table",
    "AWS::KMS::Key": "key",
    SECRET: "secret",
}
_DELETES: Mapping[str, Callable[[str], Sequence[str]]] = {
    "AWS::SQS::Queue": lambda name: [f"aws sqs delete-queue --queue-url {name}"],
    "AWS::Scheduler::ScheduleGroup": lambda name: [f"aws scheduler delete-schedule-group --name {name}"],
    "AWS::IAM::Role": lambda name: [
        f"aws iam delete-role-policy --role-name {name} --policy-name schedules",
        f"aws iam delete-role --role-name {name}",
    ],
    "AWS::DynamoDB::Table": lambda name: [
        f"aws dynamodb update-table --table-name {name} --no-deletion-protection-enabled",
        f"aws dynamodb delete-table --table-name {name}",
    ],
    "AWS::KMS::Key": lambda name: [f"aws kms schedule-key-deletion --key-id {name}"],
    SECRET: lambda name: [f"aws secretsmanager delete-secret --recovery-window-in-days 7 --secret-id {name}"],
}
