"""One SLO over time: what was measured, what is left of its error budget, deploys and alerts, on one axis.

The figures are those of `review.figures`: plain values, times as days since the start.
"""

from __future__ import annotations

import functools
import html
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from feedback_lib.charts.look import DELIGHT, FONT, FRICTION, GREY, INK, MUTED, SIZE, Drawing, Row, inline, linear, svg

_LEFT, _RIGHT = 58, 6  # pixels for the labels of the y axis, and beside the plot
_SIZES = {"wide": 860, "narrow": 356}
_LANE = 18
_BUDGET_FLOOR = -1.0  # a budget spent more than twice over leaves the panel
_PEAK = 4.0  # a peak this much higher than nearly everything leaves the panel, and is told


def slo_figure(figure: Row, *, width: int = 860) -> alt.VConcatChart:
    """One SLO over time in three aligned panels: deploys and alerts, the measured value, the error budget left.

    Args:
        figure: as `review.figures` gives it; times are days since the start.
        width: of everything, in pixels. Narrow ones are drawn with fewer points.
    """
    plot = width - _LEFT - _RIGHT
    return alt.vconcat(_slo_lanes(figure, plot), _slo_value(figure, plot), _slo_budget(figure, plot), spacing=8)


def aligned(figure: Row, people: Sequence[Row], topic: str, *, width: int = 860) -> alt.VConcatChart:
    """Who spoke of a topic above one SLO, on one axis of time: complaints, deploys and alerts, value, error budget.

    Args:
        figure: as `review.figures` gives it.
        people: start, days since the start of the figure · people, that day.
        topic: its name.
        width: of everything, in pixels.
    """
    plot = width - _LEFT - _RIGHT
    panels = [_people(figure, people, topic, plot), _slo_lanes(figure, plot), _slo_value(figure, plot)]
    return alt.vconcat(*panels, _slo_budget(figure, plot), spacing=8)


def _people(figure: Row, people: Sequence[Row], topic: str, plot: int) -> Drawing:
    """Bars from zero: people per day."""
    top = max([p["people"] for p in people] or [0]) or 1
    scale = alt.Scale(domain=[0, top * 1.08], nice=False, zero=True)
    axis = alt.Axis(
        title=None, values=sorted({0, top}), format="d", minExtent=_LEFT - 6, maxExtent=_LEFT - 6, labelLimit=_LEFT - 8
    )
    y = alt.Y("people:Q", title=None, scale=scale, axis=axis)
    bars = alt.Chart(inline([{**p, "end": p["start"] + 0.9, "zero": 0} for p in people if p["people"]]))
    layers = [b for b in _slo_bands(figure, plot, functools.partial(_slo_x, figure)) if b.mark.type == "rule"]
    layers.append(bars.mark_bar(color=FRICTION).encode(_slo_x(figure, "start"), y, alt.X2("end:Q"), alt.Y2("zero:Q")))
    title = f"People who speak of “{topic}”, per day"
    return alt.layer(*layers).properties(width=plot, height=78, title=_panel_title(title))


def slo_words(figure: Row) -> str:
    """What `slo_figure` shows, in words."""
    low, high = (pick([p[k] for p in figure["series"]], default=None) for pick, k in ((min, "low"), (max, "high")))
    said = [f"{figure['sli']} over {figure['days']:.0f} days: now {figure['now']}, limit {figure['limit_text']}"]
    if low is not None and high is not None:
        said.append(f"between {_amount(low)} and {_amount(high)} {figure['unit']}".rstrip())
    said.append(f"error budget {figure['budget_text']}")
    said += [f"alert: {a['text']}" for a in figure["alerts"]]
    said += [f"deploy {d['version']} on day {d['x']:.1f}" for d in figure["deploys"]]
    hours = sum(g["end"] - g["start"] for g in figure["no_data"]) * 24
    said.append(f"no data for {hours:.1f} hours" if hours else "no gap in the data")
    return "; ".join(said) + "."


class Figures:
    """Drawings that notebooks display in the size that fits the page: a wide one, or a narrow one on a phone."""

    def __init__(self, figures: Sequence[Row]) -> None:
        self.alt = " ".join(slo_words(f) for f in figures)
        self.text = "".join(_slo_figure_html(f) for f in figures)

    def _repr_html_(self) -> str:
        return self.text


def slo_figures(figures: Sequence[Row]) -> Figures:
    """The figures of `review.figures` under each other, each with a heading and how to read it."""
    return Figures(figures)


def _slo_figure_html(figure: Row) -> str:
    words = slo_words(figure)
    drawn = {name: _lean(svg(slo_figure(figure, width=size), alt=words)) for name, size in _SIZES.items()}
    sizes = "".join(f'<div class="{name}">{text}</div>' for name, text in drawn.items())
    name = html.escape(figure["sli"])
    return (
        f'<figure class="slo"><h3>{name} <span class="badge {figure["status"]}">{figure["status"]}</span></h3>'
        f"{sizes}<figcaption>{html.escape(figure['marks'])}</figcaption></figure>"
    )


def _lean(text: str) -> str:
    """SVG text that draws the same in half the letters: tenths of a pixel, one font, no words for single marks."""
    head, body = re.match(r"(<svg [^>]*>)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    places = re.compile(r"\d+\.\d{2,}")
    body = re.sub(
        r' (?:d|transform)="[^"]*"',
        lambda place: places.sub(lambda n: f"{float(n[0]):.1f}".removesuffix(".0"), place[0]),
        body,
    )
    body = re.sub(r' (?:role|aria-[a-z]+|class|pointer-events|font-family|stroke-miterlimit)="[^"]*"', "", body)
    body = body.replace(f' font-size="{SIZE}px"', "").replace(' opacity="1"', "").replace(' stroke-dashoffset="0"', "")
    body = re.sub(r'<path d="[^"]*" display="none"/>|<g/>', "", body)
    for _ in range(4):
        body = re.sub(r"<g(?: [^>]*)?></g>", "", body)
    return f'{head[:-1]} font-family="{html.escape(FONT)}" font-size="{SIZE}px">{body}'


def _slo_x(figure: Row, field: str = "x", *, labels: bool = False, grid: bool = True) -> alt.X:
    ticks = figure["ticks"]
    names = json.dumps({f"{t['x']:.4f}": t["text"] for t in ticks})
    shown = alt.Axis(
        values=[t["x"] for t in ticks],
        labelExpr=f"{names}[format(datum.value, '.4f')]" if labels else "''",
        labels=labels,
        ticks=labels,
        domain=labels,
        title=None,
        grid=grid,
        labelFlush=True,
        labelOverlap=True,
    )
    return alt.X(f"{field}:Q", title=None, scale=linear(0, figure["days"]), axis=shown)


def _slo_y(field: str, domain: tuple[float, float], unit: str, values: Sequence[float] | None = None) -> alt.Y:
    axis = alt.Axis(
        values=alt.Undefined if values is None else list(values),
        title=None,
        tickCount=3,
        minExtent=_LEFT - 6,
        maxExtent=_LEFT - 6,
        labelExpr=f"format(datum.value, '~r') + {json.dumps(unit and f' {unit}')}",
        labelLimit=_LEFT - 8,
    )
    return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(domain=list(domain), nice=False, zero=False), axis=axis)


def _slo_bands(figure: Row, plot: int, x: Callable[[str], alt.X]) -> list[alt.Chart]:
    """What lies behind a panel from top to bottom: alerts tinted, no data grey, deploys as dashed lines.

    Gaps too short to be seen are left out; the table tells their share.
    """
    pixel = figure["days"] / plot
    seen = [g for g in figure["no_data"] if g["end"] - g["start"] >= figure["days"] / 800]
    gaps = [{"start": g["start"], "end": max(g["end"], g["start"] + 1.5 * pixel), "severity": "gap"} for g in seen]
    made: list[alt.Chart] = []
    for kind, colour, opacity in (("ticket", FRICTION, 0.07), ("page", FRICTION, 0.16), ("gap", GREY, 0.55)):
        chosen = [
            {k: _six(r[k]) for k in ("start", "end")} for r in (*figure["alerts"], *gaps) if r["severity"] == kind
        ]
        if chosen:
            band = alt.Chart(inline(chosen)).mark_rect(color=colour, opacity=opacity)
            made.append(band.encode(x("start"), x2="end:Q"))
    if figure["deploys"]:
        rule = alt.Chart(inline(figure["deploys"])).mark_rule(color=MUTED, strokeDash=[4, 3])
        made.append(rule.encode(x("x")))
    return made


def _slo_lanes(figure: Row, plot: int) -> Drawing:
    """Deploys and alerts, each in a line of its own with its name on the left."""
    lanes = ["deploys", "alerts"]
    y = alt.Y(
        "lane:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=lanes),
        axis=alt.Axis(minExtent=_LEFT - 6, maxExtent=_LEFT - 6, labelLimit=_LEFT - 8, ticks=False, domain=False),
    )
    x = _slo_x(figure, grid=False)
    days, per = figure["days"], plot / figure["days"]
    deploys = [{**d, "lane": "deploys"} for d in figure["deploys"]]
    bars = [{**a, "end": max(a["end"], a["start"] + 3 / per), "lane": "alerts"} for a in figure["alerts"]]
    texts = placed([(d["x"] * per, d["x"] * per, d["version"], "deploys") for d in deploys], plot)
    worst_last = sorted(bars, key=lambda b: (b["severity"] == "page", b["start"]))
    texts += placed([(b["start"] * per, b["end"] * per, b["text"], "alerts") for b in worst_last], plot)
    nothing = [
        {"x": 0.0, "lane": lane, "text": "none"} for lane, has in zip(lanes, (deploys, bars), strict=True) if not has
    ]
    layers = [alt.Chart(inline([{"x": days, "lane": lane} for lane in lanes])).mark_point(opacity=0).encode(x, y)]
    if deploys:
        layers.append(
            alt.Chart(inline(deploys))
            .mark_point(shape="triangle-down", filled=True, size=60, opacity=1, color=INK)
            .encode(x, y)
        )
    for severity, filled in (("page", True), ("ticket", False)):
        chosen = [b for b in bars if b["severity"] == severity]
        if chosen:
            mark = alt.Chart(inline(chosen)).mark_bar(
                height=9, color=FRICTION if filled else "#ffffff", stroke=FRICTION, strokeWidth=1.4
            )
            layers.append(mark.encode(_slo_x(figure, "start", grid=False), y, x2="end:Q"))
    for side in ("left", "right"):
        told = [{**t, "x": t["px"] / per} for t in texts if t["align"] == side]
        if told:
            layers.append(alt.Chart(inline(told)).mark_text(align=side, dy=1).encode(x, y, text="text:N"))
    if nothing:
        layers.append(
            alt.Chart(inline(nothing)).mark_text(align="left", dx=4, dy=1, color=MUTED).encode(x, y, text="text:N")
        )
    return alt.layer(*layers).properties(width=plot, height=2 * _LANE)


def placed(marks: Sequence[tuple[float, float, str, str]], plot: int) -> list[dict[str, Any]]:
    """Labels beside marks, to the right or else the left; one with no room for it is left out, the last come first.

    Args:
        marks: start and end in pixels, text, lane.
        plot: the pixels there are.
    """
    taken = [(start, end) for start, end, _, _ in marks]
    placed: list[dict[str, Any]] = []
    for start, end, text, lane in reversed(marks):
        size = 6.6 * len(text)
        for align, left, right in (("left", end + 7, end + 7 + size), ("right", start - 7 - size, start - 7)):
            if left >= 0 and right <= plot and all(right <= a or left >= b for a, b in taken):
                taken.append((left, right))
                placed.append({"px": left if align == "left" else right, "align": align, "text": text, "lane": lane})
                break
    return placed


def _slo_value(figure: Row, plot: int) -> Drawing:
    """The measured value: middle and spread of each bucket, with the limit."""
    points = figure["series"] if plot > 500 else _coarser(figure["series"])
    domain, peak = _slo_domain(figure)
    limit = figure["limit"]
    x, y = _slo_x(figure), _slo_y("value", domain, figure["unit"])
    layers = _slo_bands(figure, plot, functools.partial(_slo_x, figure))
    if points:
        chart = alt.Chart(inline([{k: _six(v) for k, v in p.items()} for p in points]))
        detail = alt.Detail("stretch:N")
        spread = chart.mark_area(opacity=0.3, color=DELIGHT, clip=True, line=False)
        layers += [
            spread.encode(x, _slo_y("low", domain, figure["unit"]), y2="high:Q", detail=detail),
            chart.mark_line(strokeWidth=1.4, color=DELIGHT, clip=True).encode(x, y, detail=detail),
        ]
    else:
        row = {"x": figure["days"] / 2, "value": sum(domain) / 2, "text": "no data"}
        layers.append(_words([row], x, y, color=MUTED))
    silent = [g for g in figure["no_data"] if g["end"] - g["start"] >= 4 * figure["days"] / plot]
    if silent and points:
        low = 0.75 * domain[0] + 0.25 * domain[1]  # away from the limit
        rows = [{"x": (g["start"] + g["end"]) / 2, "value": low, "text": "no data"} for g in silent]
        layers.append(_words(rows, x, y, angle=270))
    line = alt.Chart(inline([{"value": limit}]))
    above = figure["op"].startswith("<")
    layers += [line.mark_rule(color=INK, strokeWidth=1.2).encode(y)]
    words: dict[str, Any] = {"align": "left", "dx": 4, "dy": -8 if above else 9, "fontWeight": 600}
    named = [{"x": 0.0, "value": limit, "text": f"limit {figure['limit_text']}"}]
    layers += [_words(named, x, y, **words, stroke="#ffffff", strokeWidth=3, opacity=0.85)]
    layers += [_words(named, x, y, **words)]
    if peak:
        layers.append(_peak(figure, peak, domain[1], x, y))
    title = f"Measured: now {figure['now']}"
    return alt.layer(*layers).properties(width=plot, height=130, title=_panel_title(title))


def _slo_domain(figure: Row) -> tuple[tuple[float, float], Row | None]:
    """What the value axis spans, and the highest point when it lies beyond."""
    lows, highs = ([p[k] for p in figure["series"]] for k in ("low", "high"))
    limit, falling = figure["limit"], not figure["op"].startswith("<")
    if falling and figure["unit"] == "%":
        low = min([limit, *lows])
        high = max([limit, *highs])
        room = (high - low) or 1.0
        return (low - 0.12 * room, high + 0.06 * room), None
    top, usual = max([limit, *highs]), sorted(highs)[int(0.99 * (len(highs) - 1))] if highs else limit
    most = _PEAK * max(limit, usual)
    if not falling and top > most:
        return (0.0, most), max(figure["series"], key=lambda p: p["high"])
    return (0.0, top * 1.12), None


def _peak(figure: Row, point: Row, top: float, x: alt.X, y: alt.Y) -> alt.Chart:
    """What a peak that leaves the panel reaches, beside it."""
    late = point["x"] > figure["days"] / 2
    row = {"x": point["x"], "value": top, "text": f"up to {_amount(point['high'])} {figure['unit']} ↑"}
    return _words([row], x, y, align="right" if late else "left", dx=-6 if late else 6, dy=8)


def _words(rows: Sequence[Row], x: alt.X, y: alt.Y, **options: Any) -> alt.Chart:
    made: alt.Chart = alt.Chart(inline(rows)).mark_text(**options).encode(x, y, text="text:N")
    return made


def _slo_budget(figure: Row, plot: int) -> Drawing:
    """What is left of the error budget, down to 0 and, where it is overspent, below."""
    points = _steps(figure["budget"])
    known = [p["left"] for p in points if p["left"] is not None]
    least = min([0.0, *known])
    floor = max(1.1 * least, _BUDGET_FLOOR)
    domain = (100 * floor - 3, 105)
    y = _slo_y("percent", domain, "%", [v for v in (-100, 0, 100) if v >= 100 * floor])
    x = _slo_x(figure, labels=True)
    layers = _slo_bands(figure, plot, functools.partial(_slo_x, figure, labels=True))
    if known:
        chart = alt.Chart(inline([_spent(p, floor) for p in points]))
        for field, colour in (("kept", DELIGHT), *((("over", FRICTION),) if least < 0 else ())):
            area = chart.mark_area(opacity=0.3, color=colour, line=False, invalid="break-paths-show-path-domains")
            layers.append(area.encode(x, _slo_y(field, domain, "%"), y2="zero:Q"))
        line = chart.mark_line(strokeWidth=1.6, color=INK, invalid="break-paths-show-path-domains")
        layers.append(line.encode(x, y))
    else:
        layers.append(_words([{"x": figure["days"] / 2, "percent": 50, "text": "no data"}], x, y, color=MUTED))
    zero = [{"x": 0.0, "percent": 0, "text": "0: spent"}]
    layers.append(alt.Chart(inline(zero)).mark_rule(color=INK, strokeWidth=1.2).encode(y))
    layers.append(_words(zero, x, y, align="left", dx=4, dy=9 if least < 0 else -8, fontWeight=600))
    if known and known[-1] < floor:
        text = f"{100 * known[-1]:,.0f} %".replace("-", "\N{MINUS SIGN}")
        row = {"x": figure["days"], "percent": 100 * floor, "text": text}
        layers.append(_words([row], x, y, align="right", dx=-3, dy=-9, fontWeight=600))
    title = f"Error budget of {figure['window']}: {figure['budget_text']}"
    return alt.layer(*layers).properties(width=plot, height=96, title=_panel_title(title))


def _spent(point: Row, floor: float) -> Row:
    """A point of the budget in percent: as a line, and as what is kept and what is overspent."""
    left = point["left"]
    shown: dict[str, Any] = {"x": _six(point["x"]), "zero": 0, "percent": None, "kept": None, "over": None}
    if left is not None:
        for name, value in (("percent", max(left, floor)), ("kept", max(left, 0)), ("over", max(min(left, 0), floor))):
            shown[name] = _six(100.0 * value)
    return shown


def _panel_title(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, fontSize=SIZE, fontWeight=600, offset=5, anchor="start", frame="group")


def _coarser(points: Sequence[Row], by: int = 2) -> list[Row]:
    """Fewer points for a narrow drawing: lows and highs stay, stretches stay apart."""
    made: list[Row] = []
    for _, group in itertools.groupby(points, key=lambda p: p["stretch"]):
        run = list(group)
        for n in range(0, len(run), by):
            some = run[n : n + by]
            middle = some[len(some) // 2]
            made.append({**middle, "low": min(p["low"] for p in some), "high": max(p["high"] for p in some)})
    return made


def _steps(points: Sequence[Row], least: float = 0.005) -> list[Row]:
    """Points of a slow line without those that change hardly anything; the ends of a step stay, and where data ends."""
    kept: list[Row] = list(points[:1])
    for before, point in itertools.pairwise(points):
        edge = (before["left"] is None) != (point["left"] is None)
        if edge or (point["left"] is not None and abs(point["left"] - kept[-1]["left"]) >= least):
            if kept[-1] is not before:
                kept.append(before)
            kept.append(point)
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]


def _six(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _amount(value: float) -> str:
    """A measured number as briefly as it can be told.

    >>> _amount(1027.3), _amount(0.0), _amount(0.03217)
    ('1,027', '0', '0.032')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"
