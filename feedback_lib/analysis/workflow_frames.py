"""Workflows as frames: items by phase, durations, repeated errors, versions. What the notebook on workflows draws."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from feedback_lib.analysis.patterns import error_key, growths, headline
from feedback_lib.analysis.rates import wilson
from feedback_lib.orchestrator import Workflow

UNKNOWN = "unknown"
LEVEL = 0.95
DRAWN = 60  # workflows that have a column of their own in a chart, the newest; numbers are of all
_TIME = pl.Datetime("us", "UTC")
_WORKFLOWS: dict[str, Any] = {
    "nth": pl.Int64, "workflow": pl.String, "task": pl.String, "status": pl.String, "last_at": _TIME,
}  # fmt: skip
_STEPS: dict[str, Any] = {
    "nth": pl.Int64, "workflow": pl.String, "phase": pl.String, "item": pl.String, "outcome": pl.String,
    "reason": pl.String,
}  # fmt: skip
_SKIPS: dict[str, Any] = {
    "phase": pl.String, "item": pl.String, "skipped": pl.Int64, "met": pl.Int64, "of": pl.Int64, "share": pl.Float64,
}  # fmt: skip
_SPENT: dict[str, Any] = {"nth": pl.Int64, "workflow": pl.String, "phase": pl.String, "seconds": pl.Float64}
_PHASES: dict[str, Any] = {
    "phase": pl.String, "workflows": pl.Int64, "median_s": pl.Float64, "earlier": pl.Int64, "later": pl.Int64,
    "earlier_median_s": pl.Float64, "later_median_s": pl.Float64, "ratio": pl.Float64, "low": pl.Float64,
    "high": pl.Float64,
}  # fmt: skip
_ERRORS: dict[str, Any] = {
    "nth": pl.Int64, "workflow": pl.String, "at": _TIME, "key": pl.String, "title": pl.String, "by_tool": pl.Boolean,
    "phase": pl.String, "item": pl.String,
}  # fmt: skip
_REPEATED: dict[str, Any] = {
    "key": pl.String, "title": pl.String, "by_tool": pl.Boolean, "workflows": pl.Int64, "of": pl.Int64,
    "occurrences": pl.Int64, "ids": pl.List(pl.String), "first": _TIME, "last": _TIME, "places": pl.List(pl.String),
}  # fmt: skip
_VERSIONS: dict[str, Any] = {
    "version": pl.String, "place": pl.Int64, "measure": pl.String, "workflows": pl.Int64, "count": pl.Int64,
    "value": pl.Float64, "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip
MEASURES = ("skipped", "tool_errors", "no_review", "minutes")


class Entry(Protocol):
    """What is asked of a tool entry."""

    @property
    def orchestrator_version(self) -> str: ...  # noqa: D102
    @property
    def timestamp(self) -> str: ...  # noqa: D102
    @property
    def duration_seconds(self) -> int: ...  # noqa: D102
    @property
    def reviews_worked(self) -> bool | None: ...  # noqa: D102
    @property
    def orchestrator_errors(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def items_skipped_pct(self) -> float | None: ...  # noqa: D102


def in_order(found: Sequence[Workflow]) -> list[Workflow]:
    """Workflows by their last event, as the review dates them, so that both halve them alike."""
    return sorted(found, key=lambda w: (w.last_at, w.id))


def workflows(found: Sequence[Workflow]) -> pl.DataFrame:
    """A row per workflow, see `in_order`: nth, from 0 · workflow, its id · task · status · last_at, its last event."""
    rows = [
        {"nth": n, "workflow": w.id, "task": w.task, "status": w.status, "last_at": w.last_at}
        for n, w in enumerate(in_order(found))
    ]
    return pl.DataFrame(rows, schema=_WORKFLOWS)


def steps(found: Sequence[Workflow]) -> pl.DataFrame:
    """One row per workflow and item it dealt with: nth · workflow · phase · item · outcome · reason, of a skip."""
    rows = [
        {"nth": n, "workflow": w.id, "phase": s.phase, "item": s.item, "outcome": s.outcome}
        | {"reason": s.text if s.outcome == "skipped" else None}
        for n, w in enumerate(in_order(found))
        for s in w.steps
    ]
    return pl.DataFrame(rows, schema=_STEPS)


def skips(found: Sequence[Workflow], order: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """One row per phase and item: phase · item · skipped, workflows · met, those that dealt with it · of · share.

    Args:
        found: workflows.
        order: phase → items, as they should stand; others follow, as they were met.

    ``share`` is skipped / of, as in the review: a workflow that never came to an item did not skip it, and one that
    dealt with none tells nothing.
    """
    of = sum(1 for workflow in found if workflow.steps)
    counts: dict[tuple[str, str], list[int]] = {}
    for workflow in found:
        for step in workflow.steps:
            pair = counts.setdefault((step.phase, step.item), [0, 0])
            pair[0] += step.outcome == "skipped"
            pair[1] += 1
    phases = [*order, *dict.fromkeys(phase for phase, _ in counts if phase not in order)]
    items = {phase: {item: n for n, item in enumerate(order.get(phase, ()))} for phase in phases}
    placed = sorted(counts, key=lambda k: (phases.index(k[0]), items[k[0]].get(k[1], len(items[k[0]]))))
    rows = [
        {"phase": phase, "item": item, "skipped": counts[phase, item][0], "met": counts[phase, item][1]}
        | {"of": of, "share": counts[phase, item][0] / of}
        for phase, item in placed
    ]
    return pl.DataFrame(rows, schema=_SKIPS)


def spent(found: Sequence[Workflow]) -> pl.DataFrame:
    """One row per workflow and phase that was completed: nth · workflow · phase · seconds."""
    rows = [
        {"nth": n, "workflow": w.id, "phase": phase, "seconds": float(seconds)}
        for n, w in enumerate(in_order(found))
        for phase, seconds in w.phases.items()
    ]
    return pl.DataFrame(rows, schema=_SPENT)


def phases(spent: pl.DataFrame, order: Sequence[str] = (), level: float = LEVEL) -> pl.DataFrame:
    """One row per phase: its median, and how its later workflows compare with its earlier ones.

    Returns:
        phase · workflows · median_s · earlier, later: workflows in each half, of an odd number the earlier has one
        more · earlier_median_s · later_median_s · ratio, low, high as `patterns.growths`: null with too few workflows.
    """
    known = spent["phase"].unique(maintain_order=True).to_list()
    by_phase = {phase: spent.filter(pl.col("phase") == phase).sort("nth")["seconds"].to_list() for phase in known}
    changes = growths(by_phase, level)
    rows = []
    for phase in [*(p for p in order if p in known), *(p for p in known if p not in order)]:
        values, change = by_phase[phase], changes[phase]
        early, late = change.earlier, change.later
        row = {"phase": phase, "workflows": len(values), "median_s": statistics.median(values)}
        row |= {"earlier": len(early), "later": len(late), "earlier_median_s": statistics.median(early)}
        row |= {"later_median_s": statistics.median(late) if late else None, "ratio": change.ratio}
        row |= {"low": change.low, "high": change.high}
        rows.append(row)
    return pl.DataFrame(rows, schema=_PHASES)


def errors(found: Sequence[Workflow], clean: Callable[[str], str] = str) -> pl.DataFrame:
    """One row per failure: nth · workflow · at · key, the same for the same error · title · by_tool · phase · item.

    Args:
        found: workflows.
        clean: what takes out of a text what nobody should see.
    """
    rows = [
        {"nth": n, "workflow": w.id, "at": f.at, "key": error_key(f.text or f.message), "by_tool": f.by_tool}
        | {"title": clean(f.message or headline(f.text)), "phase": f.phase, "item": f.item}
        for n, w in enumerate(in_order(found))
        for f in w.failures
    ]
    return pl.DataFrame(rows, schema=_ERRORS)


def repeated(errors: pl.DataFrame, of: int, least: int = 2) -> pl.DataFrame:
    """One row per error that several workflows ran into, most workflows first.

    Returns:
        key · title, of the newest · by_tool · workflows · of · occurrences · ids, of the workflows · first · last ·
        places, phase and item.
    """
    return (
        errors.sort("at", maintain_order=True)
        .with_columns(place=pl.format("{} / {}", pl.col("phase").fill_null("–"), pl.col("item").fill_null("–")))
        .group_by("key", maintain_order=True)
        .agg(
            pl.col("title").last(),
            pl.col("by_tool").last(),
            pl.col("workflow").n_unique().cast(pl.Int64).alias("workflows"),
            pl.lit(of, pl.Int64).alias("of"),
            pl.len().cast(pl.Int64).alias("occurrences"),
            pl.col("workflow").unique(maintain_order=True).alias("ids"),
            pl.col("at").min().alias("first"),
            pl.col("at").max().alias("last"),
            pl.col("place").unique(maintain_order=True).alias("places"),
        )
        .filter(pl.col("workflows") >= least)
        .sort("workflows", "occurrences", "key", descending=[True, True, False])
        .select(list(_REPEATED))
    )


def versions(entries: Sequence[Entry]) -> pl.DataFrame:
    """One row per version of the tool and measure, oldest version first, by when it was first used.

    Returns:
        version · place, from 0 · measure, one of `MEASURES` · workflows that tell of it · count, of those it holds for,
        null for medians · value · low, high: a 95 % interval, null when there are too few workflows for one.

    ``skipped`` is the median share of items skipped per workflow, 0–1; ``tool_errors`` and ``no_review`` are shares of
    workflows, 0–1, with Wilson's interval; ``minutes`` is the median duration.
    """
    used: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: e.timestamp):
        used.setdefault(entry.orchestrator_version or UNKNOWN, []).append(entry)
    rows = []
    for place, (version, those) in enumerate(used.items()):
        of = len(those)
        told = {
            "skipped": _median([e.items_skipped_pct for e in those if e.items_skipped_pct is not None]),
            "tool_errors": _share(sum(1 for e in those if e.orchestrator_errors), of),
            "no_review": _share(sum(1 for e in those if e.reviews_worked is None), of),
            "minutes": _median([e.duration_seconds / 60 for e in those if e.duration_seconds]),  # 0: it does not tell
        }
        rows += [{"version": version, "place": place, "measure": measure} | told[measure] for measure in MEASURES]
    return pl.DataFrame(rows, schema=_VERSIONS)


def _share(count: int, of: int) -> dict[str, Any]:
    low, high = wilson(count, of) or (None, None)
    return {"workflows": of, "count": count, "value": count / of, "low": low, "high": high}


def _median(values: Sequence[float]) -> dict[str, Any]:
    low, high = median_interval(values) or (None, None)
    middle = statistics.median(values) if values else None
    return {"workflows": len(values), "count": None, "value": middle, "low": low, "high": high}


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Between which values the true median lies, whatever the distribution; None with too few values for the level.

    Source: the order statistics of the sign test, see Hollander, Wolfe & Chicken, "Nonparametric Statistical Methods",
    2014, section 3.6. At 95 %, six values are the fewest.

    >>> median_interval([1, 2, 3, 4, 5, 6, 7, 8])
    (1, 8)
    >>> median_interval([1, 2, 3, 4, 5])
    """
    ordered, n = sorted(values), len(values)
    cut, below = 0, 0.0
    while cut < n // 2:
        below += math.exp(math.lgamma(n + 1) - math.lgamma(cut + 1) - math.lgamma(n - cut + 1) - n * math.log(2))
        if 2 * below > 1 - level:
            break
        cut += 1
    return (ordered[cut - 1], ordered[n - cut]) if cut else None
