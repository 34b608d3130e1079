"""What would be lost, or never taken, of what waits on a stack's queues: refused before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from decoupled.core.releases import Shift


def refuse_stranding(stack: str, given: Mapping[str, str], shift: Shift, accepted: bool) -> None:
    """Raises ValueError where a queue is to be left out that has messages, or that the release before still sends to
    while traffic shifts; and, unless it is `accepted`, where messages may be older than the queue is to keep them."""
    from decoupled.engines.aws import deployment

    outputs = deployment.outputs(stack)
    for parameter, url in _left_out(outputs, given):
        if waiting := sum(deployment.depth(url)):
            raise ValueError(
                f"{waiting} messages are on {url}, and nothing would take them: leave {parameter} as it is"
            )
        if shift != Shift():
            raise ValueError(f"the release before sends to {url} while traffic shifts: change {parameter} all at once")
    for name in ("QueueUrl", "OrderedQueueUrl"):
        if not accepted and name in outputs and (waiting := deployment.expiring(outputs[name])):
            raise ValueError(
                f"{waiting} messages are on {outputs[name]}, which is to keep them for ten days: what has waited"
                " longer is deleted then. Let it run empty first; --accept-breaks deploys all the same"
            )


def refuse_untaken(stack: str, release: str) -> None:
    """Raises ValueError where a release would accept what nothing takes any more."""
    from decoupled.engines.aws import deployment

    if untaken := deployment.untaken(stack, release):
        raise ValueError(
            f"{release} sends to queues that nothing takes from any more (of {', '.join(untaken)}): deploy the earlier"
            " sources instead"
        )


def _left_out(outputs: Mapping[str, str], given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The parameter by which it goes, and the URL, of each queue that the stack has and is not to have any more."""
    from decoupled.engines.aws.stack import own_queue_urls

    if "OwnQueues" in given:
        stays = given["OwnQueues"].split(",")
        yield from (("OwnQueues", url) for key, url in own_queue_urls(outputs).items() if key not in stays)
    if given.get("OrderedWorkloads") == "" and "OrderedQueueUrl" in outputs:
        yield "OrderedWorkloads", outputs["OrderedQueueUrl"]
