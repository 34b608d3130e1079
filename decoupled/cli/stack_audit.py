"""`decoupled audit --stack`: the scan, and after it what workloads say of the items that it has seen, sorted as they
want them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from decoupled.cli.invariants import look_at_invariants
from decoupled.cli.spool import Spool
from decoupled.core.audit import Progress, Report
from decoupled.server.options import Options
from decoupled.server.workers.inspector import Inspector, Unsaid

if TYPE_CHECKING:
    from decoupled.engines.aws.audit import AwsAudit

_json = msgspec.json.Encoder(decimal_format="number")


def audit_stack(
    stack: str, units_s: float, ledger: Iterable[str], quick: bool, options: Options, progress: Progress
) -> Report:
    """All that can be known. Raises ValueError or Unavailable."""
    with closing(Spool()) as spool:

        def keep(key: str, item: Mapping[str, Any]) -> None:
            if not quick:
                spool.add(key, _json.encode(item))

        found = audit_of_stack(stack, units_s)
        report = found.run(progress, ledger, keep)
        if quick:
            report.unchecked.append("what workloads say of their items: --quick")
        else:
            _ask(report, spool, options, found.moving, progress)
    return report


def audit_of_stack(stack: str, units_s: float) -> AwsAudit:
    """The engine's part. Raises ValueError or Unavailable."""
    from decoupled.engines.aws.audit import AwsAudit

    return AwsAudit.of_stack(stack, units_s)


def _ask(report: Report, spool: Spool, options: Options, moving: bool, progress: Progress) -> None:
    """A scan is of no one moment: what is wrong with items that moved meanwhile may be wrong with nothing."""

    def items_of(workload: str) -> Iterator[tuple[str, str]]:
        return ((key, text.decode()) for key, text in spool.sorted() if key.startswith(f"{workload}/"))

    said = Report(of=report.of)
    with closing(Inspector(options)) as inspector:
        try:
            look_at_invariants(said, items_of, inspector, inspector.load(), progress)
        except Unsaid as error:
            said.unchecked.append(f"what workloads say of their items: {error}")
    report.checked += said.checked
    report.unchecked += said.unchecked
    report.remarks += said.remarks
    if moving:
        late = "messages waited, or ended meanwhile, so that items are of different moments. Audit again in a quiet one"
        report.unchecked += [f"{fault.says}? ({late})" for fault in said.faults]
    else:
        for fault in said.faults:
            report.find(fault.kind, fault.what, fault.where, fault.ids, fault.count)
