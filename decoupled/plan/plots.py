"""A plan as a plot: what comes and what ends, how many orders wait, and how long, one above the other, with outages
shaded. The only matplotlib, which is loaded when something is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoupled.plan.answer import Answer
from decoupled.plan.scenario import Scenario
from decoupled.plan.units import SPANS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 300  # of a line: more cannot be seen
BUCKETS = 60  # of orders that came one after another, whose waits are drawn as one
COLORS = {"aws": "#c2410c", "machine": "#1d4ed8"}
STYLE: Any = {
    "svg.hashsalt": "decoupled",  # so that the same plan is the same file
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


class NoPlotsError(ValueError):
    """matplotlib is not installed."""


def draw(of: Scenario, answers: Sequence[Answer], file: Path) -> None:
    """Into an .svg or .png. Raises NoPlotsError, ValueError or OSError."""
    if file.suffix not in (".svg", ".png"):
        raise ValueError(f"{file} ends neither in .svg nor in .png")
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise NoPlotsError("a plot needs matplotlib: pip install 'decoupled[plan]'") from error
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(3, 1, sharex=True, figsize=(8, 7.5), layout="constrained")
        unit_s, unit = _unit(max(_end(each) for each in answers))
        _rates(axes[0], answers, unit_s)
        _depth(axes[1], answers, unit_s)
        _waits(axes[2], answers, unit_s)
        for axis in axes:
            axis.set_ylim(bottom=0)
            for outage in of.outages:
                axis.axvspan(outage.begins_s / unit_s, outage.ends_s / unit_s, color="#6b7280", alpha=0.18, lw=0)
        axes[0].set_title("outage shaded" if of.outages else "", loc="right", fontsize=8, color="#6b7280")
        axes[2].set_xlabel(unit)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=110)
        plt.close(figure)


def _rates(axis: Axes, answers: Sequence[Answer], unit_s: float) -> None:
    axis.set_ylabel("orders a second")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    first = answers[0]
    _line(axis, first, first.course.coming, unit_s, color="#111827", lw=1, label="coming", ls="--")
    for each in answers:
        _line(axis, each, each.course.ended, unit_s, color=COLORS[each.where], label=f"ended, {each.name}")
    axis.legend(frameon=False, fontsize=8)


def _depth(axis: Axes, answers: Sequence[Answer], unit_s: float) -> None:
    axis.set_ylabel("orders that wait")
    for each in answers:
        _line(axis, each, each.course.depth, unit_s, color=COLORS[each.where], label=each.name)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.legend(frameon=False, fontsize=8)


def _waits(axis: Axes, answers: Sequence[Answer], unit_s: float) -> None:
    seen = [it.took_s for each in answers for it in each.followed if math.isfinite(it.took_s)]
    wait_s, unit = _unit(max(seen, default=1.0))
    axis.set_ylabel(f"until processed, {unit},\nby when they came")
    for each in answers:
        xs, middle, high = _buckets(each)
        xs = [x / unit_s for x in xs]
        color: Any = COLORS[each.where]
        axis.plot(xs, [it / wait_s for it in middle], color=color, label=f"{each.name}: median, and up to p99")
        axis.fill_between(
            xs, [it / wait_s for it in middle], [it / wait_s for it in high], color=color, alpha=0.2, lw=0
        )
    axis.legend(frameon=False, fontsize=8)


def _buckets(of: Answer) -> tuple[list[float], list[float], list[float]]:
    """When orders came, and how long they took: half of them, and all but a hundredth."""
    some = [it for it in of.followed if math.isfinite(it.took_s)]
    size = max(1, len(some) // BUCKETS)
    xs, middle, high = list[float](), list[float](), list[float]()
    for start in range(0, len(some), size):
        took = sorted(it.took_s for it in some[start : start + size])
        xs.append(some[start].came_s)
        middle.append(took[len(took) // 2])
        high.append(took[math.ceil(0.99 * len(took)) - 1])
    return xs, middle, high


def _line(axis: Axes, of: Answer, series: Sequence[float], unit_s: float, **style: Any) -> None:
    """Means of so many pieces of time that the line has no more points than can be seen."""
    size = max(1, math.ceil(len(series) / POINTS))
    means = [sum(part := series[at : at + size]) / len(part) for at in range(0, len(series), size)]
    xs = [(place + 0.5) * size * of.course.bin_s / unit_s for place in range(len(means))]
    axis.plot(xs, [it / of.share for it in means], **style)


def _end(of: Answer) -> float:
    return of.course.seconds


def _unit(span_s: float) -> tuple[float, str]:
    """The largest unit of which there are two at least."""
    return next(((size, f"{name}s") for size, name in SPANS if span_s >= 2 * size), (1.0, "seconds"))
