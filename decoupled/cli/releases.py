"""How a stack goes from one release to the next, and back: step by step, each a change of the stack of its own, which
CloudFormation takes back if an alarm sounds. `decoupled deploy` calls this; `decoupled rollback` is here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import msgspec

from decoupled.cli.calling_aws import calling_aws, is_emulator
from decoupled.cli.stranded import refuse_untaken
from decoupled.cli.target import DURATION
from decoupled.core import own_queues
from decoupled.core.releases import PARAMETERS, Serving, Shift, Step, is_of, name_of
from decoupled.pipeline.compatible import differences

if TYPE_CHECKING:
    from decoupled.engines.aws.code_bucket import CodeBucket

LOOK_EVERY_S = 5.0  # at the alarms, while we watch them ourselves

Place = Callable[[Mapping[str, str]], str]
"""From the parameters that name releases to the URL of a template that has them."""


class ShiftType(click.ParamType[Shift]):
    """`all`, `canary:10:5m`, `linear:10:1m`."""

    name = "shift"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shift:
        """The Shift."""
        if isinstance(value, Shift) or value == "all":
            return value if isinstance(value, Shift) else Shift()
        kind, _, rest = value.partition(":")
        percent, _, every = rest.partition(":")
        try:
            return Shift.parse(kind, percent, DURATION.convert(every, param, ctx))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True)
class Change:
    """How a stack is changed, whatever to: `names` are the parameters of its template."""

    bucket: CodeBucket
    stack: str
    names: set[str]
    place: Place
    tags: Mapping[str, str] = field(default_factory=dict)
    echo: Callable[[str], None] = click.echo

    def apply(self, serving: Serving, given: Mapping[str, str], step: Step) -> tuple[Mapping[str, str], Sequence[str]]:
        """The outputs, once the stack is so, and what is wrong since: functions that do not work, alarms that sound.
        Raises ValueError when CloudFormation has taken the change back."""
        from decoupled.engines.aws import deployment, releases, smoke, stack_events

        is_there = stack_events.current(self.stack) is not None
        known = releases.alarms(self.stack) if is_there and step.watch_s else []
        for alarm in known:
            if alarm.sounds:
                self.echo(f"Note: {alarm.name} sounds already, so that it says nothing of this release")
        watched = [alarm for alarm in known if not alarm.sounds]
        named = serving.parameters()
        guard = releases.rollback_configuration(watched, step.watch_s)
        outputs = deployment.deploy(
            self.stack, self.place(named), self.names, {**given, **named}, self.echo, guard, self.tags
        )
        if is_emulator():
            deployment.mend_emulators_mappings(self.stack)
        deployed = deployment.versions(self.stack, serving.release)
        if wrong := [*smoke.missing(deployed), *smoke.failures(deployed)]:
            return outputs, wrong
        left_s = step.watch_s - releases.watched_s(stack_events.current(self.stack) or {})
        return outputs, [f"{name} sounds" for name in self._sounding({alarm.name for alarm in watched}, left_s)]

    def _sounding(self, watched: set[str], seconds: float) -> Sequence[str]:
        """Those of the alarms that sound, as soon as one does, or none after so many seconds."""
        from decoupled.engines.aws import releases

        deadline = time.monotonic() + seconds
        while watched:
            if sounding := [a.name for a in releases.alarms(self.stack) if a.sounds and a.name in watched]:
                return sounding
            if (left_s := deadline - time.monotonic()) <= 0:
                break
            time.sleep(min(left_s, LOOK_EVERY_S))
        return ()


def next_release(
    bucket: CodeBucket, stack: str, current: Mapping[str, str], given: Mapping[str, str], digest: str, now_ms: int
) -> tuple[Serving | None, str]:
    """What serves by the parameters of a stack, and the name of the release that is to: the same one again if nothing
    is new, neither code nor template nor a parameter."""
    from decoupled.engines.aws import releases

    serving = Serving.of(current)
    same = serving is not None and is_of(serving.release, digest)
    if serving is None or not same or any(current.get(name) != value for name, value in given.items()):
        return serving, name_of(digest, now_ms)
    kept = releases.recorded(bucket, stack, serving.release)
    if kept is None or kept.returned:  # the parameters are then those of the release that was taken back
        return serving, name_of(digest, now_ms)
    return serving, serving.release


def roll_out(
    change: Change, serving: Serving | None, release: str, given: Mapping[str, str], shift: Shift, watch_s: float
) -> Mapping[str, str]:
    """The outputs, once the release serves alone. Raises ValueError if it has been taken back."""
    percent_before, before = 100, None
    if serving is not None and release != serving.release:
        before = serving.stable
        if serving.percent_before:
            change.echo(f"A shift was under way: {serving}. {release} takes the place of {serving.release}")
    elif serving is not None and serving.percent_before:
        before, percent_before = serving.before, serving.percent_before
        change.echo(f"A shift was under way: {serving}. It goes on")
    steps = shift.steps(watch_s, percent_before) if before and percent_before else [Step(0, watch_s)]
    outputs: Mapping[str, str] = {}
    for number, step in enumerate(steps):
        to = Serving(release, before or (serving.before if serving else None), step.percent_before)
        if len(steps) > 1:
            change.echo(f"== Step {number + 1} of {len(steps)}: {to}")
        try:
            outputs, wrong = change.apply(to, given, step)
        except ValueError as error:
            if number == 0 or before is None:
                raise
            raise _went_back(change, release, before, [str(error)]) from error
        if wrong and before is not None:
            raise _went_back(change, release, before, wrong)
        if wrong and serving is not None:
            raise ValueError("\n".join((*wrong, f"{release} is what served before, and was left so")))
        if wrong:
            raise ValueError("\n".join((*wrong, "there is no release to go back to: mend that, and deploy again")))
    return outputs


def _went_back(change: Change, release: str, before: str, why: Sequence[str]) -> ValueError:
    """Go back. What to raise then."""
    try:
        _back(change, before)
    except ValueError as error:
        return ValueError("\n".join((*why, str(error))))
    return ValueError("\n".join((*why, f"went back from {release} to {before}")))


def make_queues(change: Change, serving: Serving | None, current: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Have a stack make the queues that it is to have and lacks while what serves goes on as it does, which sends
    nothing there. Were they made with the release that sends to them, and that were taken back, CloudFormation would
    delete them again, with all that was accepted meanwhile."""
    from decoupled.engines.aws import releases

    lacking = own_queues.lacking(current, given)
    if serving is None or not lacking:
        return
    change.echo(f"== First the queues that {serving} does not know yet")
    change.bucket.store(releases.returned(change.bucket, change.stack, serving.release))  # it is not of these
    change.apply(serving, lacking, Step(0, 0.0))


def _back(change: Change, release: str) -> Mapping[str, str]:
    from decoupled.engines.aws import releases

    refuse_untaken(change.stack, release)
    change.echo(f"== Back to {release}")
    change.bucket.store(releases.returned(change.bucket, change.stack, release))
    outputs, wrong = change.apply(Serving(release), {}, Step(0, 0.0))
    if wrong:
        raise ValueError("\n".join((*wrong, f"{release} serves again, and does not work either")))
    return outputs


@click.command()
@click.argument("stack")
def rollback(stack: str) -> None:
    """Have the release before serve a STACK again: its versions of the functions, code and settings, which are still
    there. Queues, table and all else of the template stay as the last deployment made them; messages wait meanwhile."""
    with calling_aws():
        from decoupled.engines.aws import releases, stack_events, stack_states
        from decoupled.engines.aws.code_bucket import CodeBucket
        from decoupled.engines.aws.stack import account_and_region

        current = stack_states.settled(stack, click.echo)
        if current is None:
            raise ValueError(f"there is no stack {stack!r} here")
        parameters = stack_events.parameters(current)
        serving = Serving.of(parameters)
        if serving is None or serving.before is None:
            raise ValueError(f"{stack} has no release before this one: deploy the earlier sources")
        bucket = CodeBucket(parameters["CodeBucket"], *account_and_region())
        kept = releases.recorded(bucket, stack, serving.release)
        template = None if kept is None else bucket.read(kept.template)
        if template is None:
            raise ValueError(
                f"the template of {serving.release} is not in {bucket.name} any more: deploy the earlier sources"
            )
        for note in _not_understood(kept, releases.recorded(bucket, stack, serving.before)):
            click.echo(note)
        names = {*(parameter["ParameterKey"] for parameter in current["Parameters"]), *PARAMETERS}
        change = Change(bucket, stack, names, placed(bucket, stack, template))
        for name, value in sorted(_back(change, serving.before).items()):
            click.echo(f"{name}\t{value}")


def _not_understood(newer: Any, older: Any) -> Iterator[str]:
    """What the release before could not read of what the one after it accepted."""
    for difference in differences(newer.schemas, older.schemas) if newer and older else ():
        if difference.breaks:
            where = f"{difference.workload} {difference.pointer}".rstrip()
            yield f"Note: messages that wait may not be understood by it: {where}: {difference.detail}"


def record(stack: str, release: str, template: bytes, code_key: str, schemas: Mapping[str, Any]) -> dict[str, bytes]:
    """What is kept of a release, by key: its template, what its workloads take, and where all of it is."""
    from decoupled.engines.aws import releases
    from decoupled.engines.aws.code_bucket import key_of

    template_key = key_of(stack, template, "yaml")
    kept = releases.Recorded(release=release, template=template_key, code=code_key, schemas=schemas)
    return {template_key: template, releases.record_key(stack, release): msgspec.json.encode(kept)}


def placed(bucket: CodeBucket, stack: str, template: bytes) -> Place:
    """Puts a template where CloudFormation finds it: as it is, or for an emulator as that can read it."""
    from decoupled.engines.aws import releases
    from decoupled.engines.aws.code_bucket import key_of

    def place(named: Mapping[str, str]) -> str:
        text = releases.as_emulated(template, named) if is_emulator() else template
        key = key_of(stack, text, "yaml")
        return f"{bucket.store({key: text})}/{key}"

    return place
