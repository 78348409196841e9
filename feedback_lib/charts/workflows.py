"""Charts of workflows: what they skip, how long their phases take, which errors come back, one version beside another.

Frames are those of `analysis.workflow_frames`. Places are pixels, so that rows of all charts line up; one workflow is
one column, oldest on the left. Without data a chart is a sentence.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from feedback_lib.analysis.patterns import duration, many, percent, shortened
from feedback_lib.analysis.workflow_frames import DRAWN
from feedback_lib.charts.look import DELIGHT, FRICTION, GRID, INK, MUTED, SIZE, Row, inline, linear

ROWS = 30  # items in the map; those skipped most
ERRORS = 12
VERSIONS = 8

_LETTER = 6.6  # pixels of a letter, on average
_DOTS = "#8d97a5"  # three times as dark as the page
_NAMES = 190  # pixels for the names of items
_TICKS = (
    *(1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 14400, 28800, 43200, 86400),
    *(172800, 604800),
)  # seconds
_MEASURES = {
    "skipped": "Items skipped, median of workflows",
    "tool_errors": "Workflows with an error of the tool",
    "no_review": "Workflows without a review",
    "minutes": "Duration, median of workflows",
}


def skip_map(workflows: pl.DataFrame, steps: pl.DataFrame, skips: pl.DataFrame, *, width: int = 860) -> alt.LayerChart:
    """Items by phase down, workflows in order of time across; on the right how many skipped the item.

    Args:
        workflows: as `workflow_frames.workflows`.
        steps: as `workflow_frames.steps`.
        skips: as `workflow_frames.skips`; items that nobody skipped are left out.
        width: in pixels.
    """
    shown = _most_skipped(skips)
    if not shown.height:
        return _sentence(skip_map_words(workflows, skips), width)
    left = _NAMES
    columns = _columns(workflows, width - _NAMES - 210, widest=36)
    plot = max(end for _, end in columns.values())
    places: dict[tuple[str, str], float] = {}
    names: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    y = 22.0
    for phase in shown["phase"].unique(maintain_order=True):
        names.append({"x": 0, "y": y + 11, "text": phase, "bold": True})
        y += 22
        for row in shown.filter(pl.col("phase") == phase).iter_rows(named=True):
            places[phase, row["item"]] = y
            names.append({"x": 8, "y": y + 10, "text": row["item"], "bold": False})
            text = f"{row['skipped']} of {row['of']}, {percent(row['share'])}"
            start = left + plot + 12
            bars.append({"x": start, "x2": start + 70 * row["share"], "y": y + 4, "y2": y + 16, "text": text})
            bars[-1] |= {"end": start + 78, "middle": y + 10}
            y += 20
        y += 4
    cells = []
    for step in steps.iter_rows(named=True):
        place = places.get((step["phase"], step["item"]))
        column = columns.get(step["nth"])
        if place is None or column is None:
            continue
        cells.append({"x": left + column[0], "x2": left + column[1], "y": place + 1.5, "y2": place + 18.5})
        cells[-1] |= {k: step[k] for k in ("workflow", "item", "outcome")} | {"reason": (step["reason"] or "")[:120]}
    legend: list[dict[str, Any]] = [
        {"x": left, "outcome": "skipped", "text": "skipped"},
        {"x": left + 90, "outcome": "completed", "text": "done"},
        {"x": left + 160, "outcome": "failed", "text": "failed"},
        {"x": left + 230, "outcome": "", "text": "empty: it did not come to it"},
    ]
    height = y + 52
    boxes = [{**e, "x2": e["x"] + 12, "y": height - 17, "y2": height - 5} for e in legend if e["outcome"]]
    words = [{"x": e["x"] + (18 if e["outcome"] else 0), "y": height - 11, "text": e["text"]} for e in legend]
    tips = [alt.Tooltip(f"{f}:N") for f in ("workflow", "item", "outcome", "reason")]
    draw = _Draw(width, height)
    return draw.together(
        *(
            draw.rects([c for c in (*cells, *boxes) if c["outcome"] == outcome], color=colour, tooltip=tips)
            for outcome, colour in (("completed", "#d3d9e2"), ("skipped", FRICTION), ("failed", INK))
        ),
        draw.rects(bars, color=FRICTION),
        draw.texts([n for n in names if n["bold"]], fontWeight=600),
        draw.texts([n for n in names if not n["bold"]], limit=left - 16),
        draw.texts([{"x": b["end"], "y": b["middle"], "text": b["text"]} for b in bars]),
        draw.texts([{"x": left + plot + 12, "y": 11, "text": "skipped in"}], color=MUTED),
        draw.texts(words, color=MUTED),
        _dates(draw, workflows, columns, left, y + 12),
    )


def skip_map_words(workflows: pl.DataFrame, skips: pl.DataFrame) -> str:
    """What `skip_map` shows, in words."""
    if not workflows.height:
        return "No workflow was found."
    shown = _most_skipped(skips)
    if not shown.height:
        return f"No item was skipped in {many(workflows.height, 'workflow')}."
    never = skips.filter(pl.col("skipped") == 0).height
    hidden = skips.height - never - shown.height
    most = shown.sort("share", descending=True, maintain_order=True).head(3).iter_rows(named=True)
    said = "; ".join(f"{shortened(r['item'])} in {r['skipped']} of {r['of']}" for r in most)
    rest = f" {many(never, 'item')} nobody skipped." if never else ""
    rest += f" {many(hidden, 'item')} skipped less often left out." if hidden else ""
    return f"Skipped most: {said}.{rest}{_left_out(workflows)}"


def phase_durations(
    workflows: pl.DataFrame, spent: pl.DataFrame, phases: pl.DataFrame, *, width: int = 860
) -> alt.LayerChart:
    """A dot per workflow and phase, each phase on a scale of its own; lines are the medians of the two halves.

    Args:
        workflows: as `workflow_frames.workflows`.
        spent: as `workflow_frames.spent`.
        phases: as `workflow_frames.phases`.
        width: in pixels.
    """
    if not phases.height:
        return _sentence(phase_durations_words(phases), width)
    left, band = 170, 84
    plot = width - left - 190
    columns = _columns(workflows, plot, widest=plot)
    middles = {nth: left + (a + b) / 2 for nth, (a, b) in columns.items()}
    dots, lines, ticks, rules, heads = [], [], [], [], []
    told: dict[str, list[Row]] = {FRICTION: [], DELIGHT: [], MUTED: []}
    for n, row in enumerate(phases.iter_rows(named=True)):
        top, floor = n * band + 8, n * band + band - 12
        values = spent.filter(pl.col("phase") == row["phase"]).sort("nth")
        at, marks = _log(values["seconds"].to_list(), top, floor)
        for mark in marks:
            ticks.append({"x": left - 8, "y": at(mark), "text": duration(mark)})
            rules.append({"x": left, "x2": left + plot, "y": at(mark)})
        drawn = values.filter(pl.col("nth").is_in(list(middles)))
        for nth, seconds, workflow in drawn.select("nth", "seconds", "workflow").iter_rows():
            dots.append({"x": middles[nth], "y": at(seconds), "workflow": workflow, "took": duration(seconds)})
        colour, verdict = _drifted(row)
        order = values["nth"].to_list()
        halves = (order[: row["earlier"]], "earlier_median_s"), (order[row["earlier"] :], "later_median_s")
        for half, median in halves:
            ends = [middles[nth] for nth in half if nth in middles]
            if ends and row[median] is not None:
                lines.append({"x": ends[0] - 4, "x2": ends[-1] + 4, "y": at(row[median]), "hue": colour})
        heads += [{"x": 0, "y": top + 16, "text": row["phase"], "bold": True}]
        heads += [{"x": 0, "y": top + 34, "text": f"median {duration(row['median_s'])}", "bold": False}]
        heads += [{"x": 0, "y": top + 50, "text": f"of {many(row['workflows'], 'workflow')}", "bold": False}]
        if row["later_median_s"] is not None:
            text = f"{duration(row['earlier_median_s'])} → {duration(row['later_median_s'])}"
            told[colour].append({"x": left + plot + 14, "y": top + 18, "text": text})
        told[colour].append({"x": left + plot + 14, "y": top + 36, "text": verdict})
    height = phases.height * band + 30
    draw = _Draw(width, height)
    tips = [alt.Tooltip(f"{f}:N") for f in ("workflow", "took")]
    return draw.together(
        draw.rules(rules, color=GRID),
        draw.points(dots, color=_DOTS, filled=True, size=42, opacity=1, tooltip=tips),
        *(
            draw.rules([line for line in lines if line["hue"] == colour], color=colour, strokeWidth=3)
            for colour in (FRICTION, DELIGHT, MUTED)
        ),
        draw.texts([h for h in heads if h["bold"]], fontWeight=600),
        draw.texts([h for h in heads if not h["bold"]], color=MUTED),
        draw.texts(ticks, color=MUTED, align="right"),
        *(draw.texts(rows, color=colour, fontWeight=600 if colour != MUTED else 400) for colour, rows in told.items()),
        _dates(draw, workflows, columns, left, phases.height * band + 12),
    )


def phase_durations_words(phases: pl.DataFrame) -> str:
    """What `phase_durations` shows, in words."""
    if not phases.height:
        return "No workflow completed a phase."
    said = [
        f"{shortened(r['phase'])}: median {duration(r['median_s'])}, {_drifted(r)[1]}"
        for r in phases.iter_rows(named=True)
    ]
    return f"Later half against earlier half, 95 % for all phases together. {'; '.join(said)}."


def error_timeline(
    workflows: pl.DataFrame, errors: pl.DataFrame, repeated: pl.DataFrame, *, width: int = 860
) -> alt.LayerChart:
    """A line per error that several workflows ran into; circles are errors of the project, diamonds of the tool.

    Args:
        workflows: as `workflow_frames.workflows`.
        errors: as `workflow_frames.errors`.
        repeated: as `workflow_frames.repeated`.
        width: in pixels.
    """
    shown = repeated.head(ERRORS)
    if not shown.height:
        return _sentence(error_timeline_words(errors, repeated), width)
    band, plot = 46, width - 180
    columns = _columns(workflows, plot, widest=plot)
    texts, lanes, marks, counts = [], [], [], []
    for n, row in enumerate(shown.iter_rows(named=True)):
        y = n * band + 32.0
        texts.append({"x": 0, "y": y - 19, "text": row["title"]})
        lanes.append({"x": 0, "x2": plot, "y": y})
        counts.append({"x": plot + 14, "y": y, "text": _met(row)})
        met = errors.filter((pl.col("key") == row["key"]) & pl.col("nth").is_in(list(columns)))["nth"].unique()
        marks += [{"x": sum(columns[nth]) / 2, "y": y, "tool": row["by_tool"]} for nth in met]
    height = shown.height * band + 52
    legend = [{"x": 6, "y": height - 11, "tool": False}, {"x": 126, "y": height - 11, "tool": True}]
    names = [{"x": 16, "y": height - 11, "text": "of the project"}, {"x": 138, "y": height - 11, "text": "of the tool"}]
    draw = _Draw(width, height)
    every = [*marks, *legend]
    return draw.together(
        draw.rules(lanes, color=GRID),
        draw.points([m for m in every if not m["tool"]], color=FRICTION, filled=True, size=90, opacity=1),
        draw.points([m for m in every if m["tool"]], shape="diamond", color=INK, fill="#ffffff", size=90, opacity=1),
        draw.texts(texts, limit=width),
        draw.texts(counts),
        draw.texts(names, color=MUTED),
        _dates(draw, workflows, columns, 0, shown.height * band + 12),
    )


def error_timeline_words(errors: pl.DataFrame, repeated: pl.DataFrame) -> str:
    """What `error_timeline` shows, in words."""
    if not errors.height:
        return "No workflow ran into an error."
    if not repeated.height:
        return f"No error came back: {many(errors['key'].n_unique(), 'error')}, each in one workflow."
    said = [f"{shortened(r['title'])}: {_met(r)}" for r in repeated.head(ERRORS).iter_rows(named=True)]
    more = repeated.height - ERRORS
    return "; ".join(said) + (f"; and {more} more." if more > 0 else ".")


def version_trend(versions: pl.DataFrame, *, width: int = 860) -> alt.ConcatChart | alt.LayerChart:
    """Four panels, a line per version of the tool, oldest first: the value with its 95 % interval.

    Args:
        versions: as `workflow_frames.versions`; the newest ones are shown.
        width: in pixels.
    """
    if not versions.height:
        return _sentence(version_trend_words(versions), width)
    panels = [_version_panel(versions, measure, (width - 40) // 2) for measure in _MEASURES]
    return alt.concat(*panels, columns=2, spacing={"column": 40, "row": 18})


def _version_panel(versions: pl.DataFrame, measure: str, width: int) -> alt.LayerChart:
    rows = versions.filter(pl.col("measure") == measure).sort("place").tail(VERSIONS)
    left, plot = 96, width - 96 - 150
    share = measure != "minutes"
    top = 1.0 if share else max([v for k in ("value", "high") for v in rows[k].to_list() if v is not None] or [1]) or 1
    names, dots, lines, texts = [], [], [], []
    for n, row in enumerate(rows.iter_rows(named=True)):
        y = n * 28 + 44.0
        name = row["version"] if len(row["version"]) <= 12 else f"{row['version'][:11]}…"
        names.append({"x": 0, "y": y, "text": name})
        texts.append({"x": left + plot + 12, "y": y, "text": _valued(row)})
        if row["value"] is not None:
            dots.append({"x": left + plot * row["value"] / top, "y": y})
        if row["low"] is not None:
            lines.append({"x": left + plot * row["low"] / top, "x2": left + plot * row["high"] / top, "y": y})
    height = rows.height * 28 + 60
    limits = [{"x": left, "y": height - 12, "text": "0"}]
    ends = [{"x": left + plot, "y": height - 12, "text": "100%" if share else duration(60 * top)}]
    frame = [{"x": left + plot * part, "y": 28, "y2": height - 22} for part in (0, 0.5, 1)]
    draw = _Draw(width, height)
    return draw.together(
        draw.rules(frame, color=GRID, upright=True),
        draw.rules(lines, color=INK, strokeWidth=2),
        draw.points(dots, color=FRICTION, filled=True, size=80, opacity=1),
        draw.texts([{"x": 0, "y": 12, "text": _MEASURES[measure]}], fontWeight=600, fontSize=SIZE + 1),
        draw.texts(names),
        draw.texts(texts),
        draw.texts(limits, color=MUTED),
        draw.texts(ends, color=MUTED, align="right"),
    )


def version_trend_words(versions: pl.DataFrame) -> str:
    """What `version_trend` shows, in words."""
    if not versions.height:
        return "Nothing was captured yet, so that versions of the tool are not known. Run: feedback capture"
    said = []
    for measure, name in _MEASURES.items():
        rows = versions.filter(pl.col("measure") == measure).sort("place").tail(VERSIONS)
        values = ", ".join(f"{shortened(r['version'])} {_valued(r)}" for r in rows.iter_rows(named=True))
        said.append(f"{name}: {values}")
    more = versions["version"].n_unique() - VERSIONS
    return "; ".join(said) + (f"; {many(more, 'older version')} left out." if more > 0 else ".")


def _valued(row: Row) -> str:
    """A value with its interval and how many workflows tell it."""
    if row["value"] is None:
        return "no data"
    if row["measure"] == "minutes":
        between = "" if row["low"] is None else f" ({duration(60 * row['low'])}–{duration(60 * row['high'])})"
        return f"{duration(60 * row['value'])}{between}"
    between = "" if row["low"] is None else f" ({100 * row['low']:.0f}–{100 * row['high']:.0f}%)"
    counted = f"{100 * row['value']:.0f}%" if row["count"] is None else f"{row['count']} of {row['workflows']}"
    return f"{counted}{between}"


def _drifted(row: Row) -> tuple[str, str]:
    """Colour and words of how a phase changed; without proof both are quiet."""
    if row["low"] is None:
        return MUTED, "too few to compare"
    said = f"×{_factor(row['ratio'])} ({_factor(row['low'])}–{_factor(row['high'])})"
    if row["low"] > 1:
        return FRICTION, f"{said} longer"
    return (DELIGHT, f"{said} shorter") if row["high"] < 1 else (MUTED, f"{said} may be chance")


def _factor(value: float) -> str:
    return f"{value:.3g}" if value < 10 else f"{value:,.0f}"


def _met(row: Row) -> str:
    times = "" if row["occurrences"] == row["workflows"] else f", {row['occurrences']} times"
    return f"{row['workflows']} of {row['of']} workflows{times}"


def _most_skipped(skips: pl.DataFrame) -> pl.DataFrame:
    """The items that were skipped, at most `ROWS`, in their order."""
    some = skips.with_row_index("row").filter(pl.col("skipped") > 0)
    return some.sort("share", "row", descending=[True, False]).head(ROWS).sort("row").drop("row")


def _columns(workflows: pl.DataFrame, plot: int, *, widest: float) -> dict[int, tuple[float, float]]:
    """Workflow → where its column begins and ends, in pixels; the newest ones where there are many."""
    numbers = workflows["nth"].tail(DRAWN).to_list()
    step = min(plot / max(len(numbers), 1), widest)
    gap = 1.0 if step > 8 else 0.3
    return {nth: (place * step + gap, (place + 1) * step - gap) for place, nth in enumerate(numbers)}


def _dates(
    draw: _Draw, workflows: pl.DataFrame, columns: Mapping[int, tuple[float, float]], left: int, y: float
) -> alt.Chart:
    """When workflows ended, or went on last, below their columns, as many as there is room for."""
    ended: dict[int, dt.datetime] = dict(workflows.select("nth", "last_at").iter_rows())
    years = len({at.year for at in ended.values()}) > 1
    labels, free, last = [], -left - 1.0, ""
    for nth, (start, end) in columns.items():
        at = ended[nth]
        text = f"{at.day} {at:%b}" + (f" {at.year}" if years else "")
        middle, half = (start + end) / 2, _LETTER * len(text) / 2
        middle = max(middle, half - left)  # within the drawing
        if middle - half > free and text != last:
            labels.append({"x": left + middle, "y": y, "text": text})
            free, last = middle + half + 24, text
    return draw.texts(labels, color=MUTED, align="center")


def _left_out(workflows: pl.DataFrame) -> str:
    more = workflows.height - DRAWN
    return f" {many(more, 'older workflow')} counted but not drawn." if more > 0 else ""


def _log(values: Sequence[float], top: float, floor: float) -> tuple[Callable[[float], float], list[int]]:
    """A scale by factors between two heights, and the round durations on it; at least a factor of four is shown."""
    positive = [max(v, 0.5) for v in values]
    low, high = min(positive) / 1.15, max(positive) * 1.15
    if high / low < 4:
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2

    def at(value: float) -> float:
        share = (math.log(max(value, 0.5)) - math.log(low)) / (math.log(high) - math.log(low))
        return floor - share * (floor - top)

    within = [t for t in _TICKS if low <= t <= high]
    chosen: list[int] = []
    for tick in within:
        if not chosen or at(chosen[-1]) - at(tick) >= 18:
            chosen.append(tick)
    return at, chosen


def _sentence(text: str, width: int) -> alt.LayerChart:
    draw = _Draw(width, 24)
    return draw.together(draw.texts([{"x": 0, "y": 12, "text": text}], color=MUTED, limit=width))


class _Draw:
    """Marks placed in pixels from the upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height

    def together(self, *layers: alt.Chart) -> alt.LayerChart:
        made: alt.LayerChart = alt.LayerChart(layer=list(layers)).properties(width=self.width, height=self.height)
        return made

    def rects(self, rows: Iterable[Row], *, tooltip: Any = alt.Undefined, **style: Any) -> alt.Chart:
        chart = self._chart(rows, "x", "x2", "y", "y2").mark_rect(**style)
        made: alt.Chart = chart.encode(self._x(), self._y(), alt.X2("x2:Q"), alt.Y2("y2:Q"), tooltip=tooltip)
        return made

    def rules(self, rows: Iterable[Row], *, upright: bool = False, **style: Any) -> alt.Chart:
        end = alt.Y2("y2:Q") if upright else alt.X2("x2:Q")
        chart = self._chart(rows, "x", "y", "y2" if upright else "x2").mark_rule(**style)
        made: alt.Chart = chart.encode(self._x(), self._y(), end)
        return made

    def points(self, rows: Iterable[Row], *, tooltip: Any = alt.Undefined, **style: Any) -> alt.Chart:
        made: alt.Chart = self._chart(rows, "x", "y").mark_point(**style).encode(self._x(), self._y(), tooltip=tooltip)
        return made

    def texts(self, rows: Iterable[Row], **style: Any) -> alt.Chart:
        chart = self._chart(rows, "x", "y").mark_text(**({"align": "left", "baseline": "middle"} | style))
        made: alt.Chart = chart.encode(self._x(), self._y(), text="text:N")
        return made

    def _chart(self, rows: Iterable[Row], *places: str) -> alt.Chart:
        """Texts are made one printable line: the drawing engine ends the process over some control characters."""
        made = [{k: shortened(v, 160) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
        return alt.Chart(inline([r | {p: round(float(r[p]), 1) for p in places} for r in made]))

    def _x(self) -> alt.X:
        return alt.X("x:Q", title=None, axis=None, scale=linear(0, self.width))

    def _y(self) -> alt.Y:
        return alt.Y("y:Q", title=None, axis=None, scale=linear(self.height, 0))
