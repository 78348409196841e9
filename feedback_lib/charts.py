"""Charts of a report: one look, one way to draw them, and a sentence in words for each.

Everything takes the report as `report.Report.to_dict` gives it, or a part of it, and returns an Altair chart; `show`
turns a chart into something a notebook displays without a network. Two hues and greys; what matters is also said by
shape, darkness or a label, so that a print in greys loses nothing.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import html
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt
import anywidget
import traitlets

from feedback_lib import config

Report = Mapping[str, Any]
Row = Mapping[str, Any]
Width = int | Literal["container"]
Drawing = alt.LayerChart | alt.FacetChart

INK, MUTED, GREY, GRID = "#1b2330", "#576170", "#b4bcc8", "#dfe3e9"
FRICTION, DELIGHT = "#b5451b", "#1f5fa8"
MOVING = ("NEW", "GROWING")
FONT = "Inter, 'Segoe UI', Helvetica, Arial, sans-serif"
TEMPLATES = Path(__file__).parent / "templates"
FONTS = TEMPLATES / "fonts"
SIZE = 12  # pixels, 9 pt: nothing in a chart is smaller
FEW = 5  # fewer people than this are not counted out in front of stakeholders
TOO_FEW = "too few to compare"
NOT_PEOPLE = ("answered", "moving")  # the report's numbers that count something else


@alt.theme.register("feedback", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    axis: Any = {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": SIZE, "titleFontSize": SIZE}
    title: Any = {"anchor": "start", "fontSize": 13, "fontWeight": 600, "color": INK, "offset": 8, "frame": "group"}
    return {
        "config": {
            "font": FONT,
            "background": "transparent",
            "aria": False,  # the words of the whole chart are set once, by `svg` and by chart.js
            "view": {"stroke": None},
            "title": title | {"subtitleColor": MUTED, "subtitleFontSize": SIZE},
            "axis": axis | {"titleFontWeight": 400, "gridColor": GRID, "domainColor": GREY, "tickColor": GREY},
            "axisX": {"grid": False},
            "axisY": {"domain": False, "ticks": False},
            "text": {"fontSize": SIZE, "color": INK, "font": FONT},
            "range": {"category": [FRICTION, DELIGHT, MUTED, GREY]},
        }
    }


def people(count: float | None) -> str:
    """A number of people as stakeholders see it: ``–`` when unknown, ``<5`` when it could point at somebody.

    >>> people(12), people(3), people(0), people(None)
    ('12', '<5', '0', '–')
    """
    if count is None:
        return "–"
    return f"<{FEW}" if 0 < count < FEW else f"{count:,.0f}"


def few(count: float | None) -> bool:
    """Whether a number of people is too small to be told, and so are the rates made of it."""
    return count is not None and 0 < count < FEW


def rate(row: Row) -> str:
    """The rate of a topic or finding with its interval; what few people say is not compared."""
    return TOO_FEW if few(row["people"]) else times(row["ratio"], row["low"], row["high"])


def count(number: Row, value: float | None) -> str:
    """A value of one of the report's numbers as a text."""
    if value is None:
        return "–"
    if number["key"] == "answered":
        return f"{value * 100:.0f} %"
    if number["key"] in NOT_PEOPLE:
        return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
    return people(value)


def rows(report: Report) -> list[Row]:
    """The frictions and delights of a report, each knowing which of the two it is, for the charts."""
    named = (("friction", report["frictions"]), ("delight", report["delights"]))
    return [{**row, "section": section} for section, found in named for row in found]


def badge(row: Row) -> str:
    """What is proven to have changed; steady is no finding and has no badge."""
    return "" if row["badge"] == "STEADY" else str(row["badge"])


def times(ratio: float | None, low: float | None = None, high: float | None = None) -> str:
    """A rate ratio with its interval.

    >>> times(4.41, 2.9, 6.6), times(None)
    ('×4.4 (2.9–6.6)', '–')
    """
    if ratio is None:
        return "–"
    interval = "" if low is None or high is None else f" ({_short(low)}–{_short(high)})"
    return f"×{_short(ratio)}{interval}"


def _short(value: float) -> str:
    if value < 0.005:
        return "0"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 20 else f"{value:,.0f}"


def weeks(report: Report, count: int = 13) -> list[str]:
    """The Mondays a sparkline of the report covers, as short labels, oldest first."""
    last = dt.date.fromisoformat(report["week"]["start"])
    return [f"{day.day} {day:%b}" for day in (last - dt.timedelta(weeks=n) for n in range(count - 1, -1, -1))]


def topics_by_week(report: Report, rows: Sequence[Row], *, width: Width = 332, band: int = 58) -> Drawing:
    """Small multiples: people per week, one band per topic, all on one scale; new topics outlined, growing ones dark.

    Args:
        report: for the names of the weeks.
        rows: frictions or delights of the report, in the order to show.
        width: in pixels; ``container`` fills the place it is put in.
        band: height of one topic in pixels.
    """
    labels = weeks(report)
    top = max((v for r in rows for v in r["spark"] if v is not None), default=0) or 1
    data, names, badges = [], [], []
    for place, row in enumerate(rows):
        base = float(len(rows) - 1 - place)
        colour_of = hue(row)
        for n, value in enumerate(row["spark"][-len(labels) :]):
            height = None if value is None else base + 0.5 * value / top  # a week without data breaks the line
            data.append({"n": n, "base": base, "top": height, "topic": row["name"], "badge": badge(row)})
            data[-1] |= {"week": labels[n], "people": people(value), "hue": colour_of, "last": n == len(labels) - 1}
        names.append({"n": 0, "base": base + 0.7, "text": row["name"]})
        badges.append({"n": len(labels) - 1, "base": base + 0.7, "badge": badge(row).title()})
    x = alt.X("n:Q", title=None, scale=_scale(0, len(labels) - 1), axis=_week_axis(labels))
    y, tops = (alt.Y(f"{f}:Q", title=None, axis=None, scale=_scale(0, max(len(rows), 1))) for f in ("base", "top"))
    points = alt.Chart(_values(data))
    tips = [alt.Tooltip(f"{f}:N") for f in ("topic", "week", "people", "badge")]
    colour = alt.Color("hue:N", scale=None)
    area = points.mark_area(opacity=0.35, line=False, invalid="break-paths-show-path-domains").encode(
        x, tops, y2="base:Q", color=colour, detail="topic:N"
    )
    quiet = points.transform_filter("datum.badge != 'NEW'").mark_line(strokeWidth=1.2)
    loud = points.transform_filter("datum.badge == 'NEW'").mark_line(strokeWidth=2.4)
    lines = [m.encode(x, tops, color=colour, detail="topic:N") for m in (quiet, loud)]
    dots = points.mark_circle(size=34, opacity=1).encode(x, tops, color=colour, tooltip=tips)
    ends = points.transform_filter("datum.last").mark_text(align="left", dx=7, fontWeight=600)
    label = alt.Chart(_values(names)).mark_text(align="left", baseline="middle", limit=_room(80))
    marks = alt.Chart(_values(badges)).mark_text(align="right", baseline="middle", color=MUTED)
    return alt.layer(
        area,
        *lines,
        dots.transform_filter("datum.last"),
        points.mark_circle(size=60, opacity=0).encode(x, tops, tooltip=tips),
        ends.encode(x, tops, text="people:N"),
        label.encode(x, y, text="text:N"),
        marks.encode(x, y, text="badge:N"),
    ).properties(width=width, height=band * max(len(rows), 1))


def topics_words(rows: Sequence[Row]) -> str:
    """What `topics_by_week` shows, in words."""
    said = [
        f"{r['name']}{f' ({badge(r).lower()})' if badge(r) else ''}: {people(r['people'])} people this week"
        for r in rows
    ]
    return "People per week over 13 weeks. " + ("; ".join(said) + "." if said else "No topic to show.")


def ratios(rows: Sequence[Row], *, width: Width = 332, band: int = 34) -> Drawing:
    """Forest plot: how many times as often as in the weeks before, with interval; the line at 1 is "as before"."""
    drawn = []
    for nth, row in enumerate(rows):
        entry = {"place": len(rows) - 1 - nth, "topic": row["name"], "hue": hue(row), "one": 1.0}
        if few(row["people"]):
            entry["text"] = TOO_FEW
        elif row["ratio"] is not None and row["ratio"] > 0:
            low, high = row["low"] or row["ratio"], row["high"] or row["ratio"]
            entry |= {"ratio": row["ratio"], "low": low, "high": high}
            entry["text"] = times(row["ratio"], row["low"], row["high"])
        else:
            entry["text"] = "not heard before" if row["badge"] == "NEW" else "–"
        drawn.append(entry)
    known = [v for e in drawn for v in (e.get("low"), e.get("high")) if v]
    least, most = min([0.5, *known]), max([2.0, *known])
    left, right = max(least, 0.1) * 0.95, min(most, 30) * 1.05
    scale = alt.Scale(type="log", domain=[left, right], nice=False, clamp=True)
    ticks = [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16) if least <= t <= most]
    axis = alt.Axis(values=ticks, labelExpr="'×' + format(datum.value, '~g')", ticks=True)
    tall = _scale(-0.3, max(len(rows), 1) - 0.2)
    place, name, foot = (alt.Y(f"{f}:Q", title=None, axis=None, scale=tall) for f in ("place", "name", "foot"))
    low, ratio, one = (alt.X(f"{f}:Q", title=None, axis=axis, scale=scale) for f in ("low", "ratio", "one"))
    tips = [alt.Tooltip("topic:N"), alt.Tooltip("text:N", title="ratio (95 % interval)")]
    chart = alt.Chart(_values(drawn)).transform_calculate(
        name="datum.place + 0.5", foot="datum.place - 0.22", head="datum.place + 0.22"
    )
    known_only = chart.transform_filter("isValid(datum.ratio)")
    beyond = [
        known_only.transform_filter(f"datum.{end} {beyond} {limit}")
        .mark_point(shape=shape, filled=True, size=60, opacity=1, color=INK)
        .encode(alt.X(f"{end}:Q", title=None, axis=axis, scale=scale), place)
        for end, beyond, limit, shape in (("low", "<", left, "triangle-left"), ("high", ">", right, "triangle-right"))
    ]
    return alt.layer(
        chart.mark_rule(color=MUTED, strokeDash=[3, 2]).encode(one, foot, y2="head:Q"),
        known_only.mark_rule(strokeWidth=2, color=INK).encode(low, place, x2="high:Q"),
        known_only.mark_circle(size=70, opacity=1).encode(
            ratio, place, color=alt.Color("hue:N", scale=None), tooltip=tips
        ),
        *beyond,
        chart.mark_text(align="left", limit=_room(132)).encode(x=alt.value(0), y=name, text="topic:N"),
        chart.mark_text(align="right", dx=-4, color=MUTED).encode(x=alt.value("width"), y=name, text="text:N"),
    ).properties(width=width, height=band * max(len(rows), 1))


def ratios_words(rows: Sequence[Row]) -> str:
    """What `ratios` shows, in words."""
    said = [f"{r['name']}: {rate(r)}" for r in rows]
    return "Rate against the weeks before, with 95 % interval. " + ("; ".join(said) + "." if said else "Nothing yet.")


def people_per_week(report: Report, number: Row, *, width: Width = 332, height: int = 130) -> Drawing:
    """Bars from zero: one of the report's numbers over 13 weeks; this week dark, the usual value as a dashed line."""
    labels = weeks(report)
    data = [
        {"n": labels[n], "value": v, "text": count(number, v), "last": n == len(labels) - 1}
        for n, v in enumerate(number["spark"][-13:])
        if v is not None
    ]
    chart = alt.Chart(_values(data))
    axis = alt.Axis(values=labels[::-4], labelAngle=0, labelOverlap=False, domain=True, ticks=False, title=None)
    x = alt.X("n:O", scale=alt.Scale(domain=labels, paddingInner=0.3), axis=axis)
    y = alt.Y("value:Q", axis=None, scale=alt.Scale(zero=True))
    tips = [alt.Tooltip("n:N", title="week of"), alt.Tooltip("text:N", title=number["label"])]
    shade = alt.condition("datum.last", alt.value(INK), alt.value(GREY))
    layers = [
        chart.mark_bar().encode(x, y, color=shade, tooltip=tips),
        chart.transform_filter("datum.last").mark_text(dy=-8, fontWeight=600).encode(x, y, text="text:N"),
    ]
    if number["baseline"] is not None:
        usual = alt.Chart(
            _values([{"value": number["baseline"], "text": f"usual {count(number, number['baseline'])}"}])
        )
        layers.append(usual.mark_rule(strokeDash=[4, 3], color=MUTED).encode(y))
        text = usual.mark_text(align="left", baseline="bottom", dy=-4, color=MUTED)
        layers.append(text.encode(x=alt.value(0), y=y, text="text:N"))
    return alt.layer(*layers).properties(width=width, height=height)


def number_words(number: Row) -> str:
    """One of the report's five numbers over 13 weeks, in words."""
    usual = number["baseline"]
    against = "" if usual is None else f", usually {count(number, usual)}"
    return f"{number['label']}: {count(number, number['value'])} this week{against}."


def slo_figure(figure: Row, *, width: int = 860) -> alt.VConcatChart:
    """One SLO over time in three aligned panels: deploys and alerts, the measured value, the error budget left.

    Args:
        figure: as `review.figures` gives it; times are days since the start.
        width: of everything, in pixels. Narrow ones are drawn with fewer points.
    """
    plot = width - _LEFT - _RIGHT
    panels = [_slo_lanes(figure, plot), _slo_value(figure, plot), _slo_budget(figure, plot)]
    return alt.vconcat(*panels, spacing=8)


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


_LEFT, _RIGHT = 58, 6  # pixels for the labels of the y axis, and beside the plot
_SIZES = {"wide": 860, "narrow": 356}
_LANE = 18
_BUDGET_FLOOR = -1.0  # a budget spent more than twice over leaves the panel
_PEAK = 4.0  # a peak this much higher than nearly everything leaves the panel, and is told


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
    return alt.X(f"{field}:Q", title=None, scale=_scale(0, figure["days"]), axis=shown)


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
            band = alt.Chart(_values(chosen)).mark_rect(color=colour, opacity=opacity)
            made.append(band.encode(x("start"), x2="end:Q"))
    if figure["deploys"]:
        rule = alt.Chart(_values(figure["deploys"])).mark_rule(color=MUTED, strokeDash=[4, 3])
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
    texts = _placed([(d["x"] * per, d["x"] * per, d["version"], "deploys") for d in deploys], plot)
    worst_last = sorted(bars, key=lambda b: (b["severity"] == "page", b["start"]))
    texts += _placed([(b["start"] * per, b["end"] * per, b["text"], "alerts") for b in worst_last], plot)
    nothing = [
        {"x": 0.0, "lane": lane, "text": "none"} for lane, has in zip(lanes, (deploys, bars), strict=True) if not has
    ]
    layers = [alt.Chart(_values([{"x": days, "lane": lane} for lane in lanes])).mark_point(opacity=0).encode(x, y)]
    if deploys:
        layers.append(
            alt.Chart(_values(deploys))
            .mark_point(shape="triangle-down", filled=True, size=60, opacity=1, color=INK)
            .encode(x, y)
        )
    for severity, filled in (("page", True), ("ticket", False)):
        chosen = [b for b in bars if b["severity"] == severity]
        if chosen:
            mark = alt.Chart(_values(chosen)).mark_bar(
                height=9, color=FRICTION if filled else "#ffffff", stroke=FRICTION, strokeWidth=1.4
            )
            layers.append(mark.encode(_slo_x(figure, "start", grid=False), y, x2="end:Q"))
    for side in ("left", "right"):
        told = [{**t, "x": t["px"] / per} for t in texts if t["align"] == side]
        if told:
            layers.append(alt.Chart(_values(told)).mark_text(align=side, dy=1).encode(x, y, text="text:N"))
    if nothing:
        layers.append(
            alt.Chart(_values(nothing)).mark_text(align="left", dx=4, dy=1, color=MUTED).encode(x, y, text="text:N")
        )
    return alt.layer(*layers).properties(width=plot, height=2 * _LANE)


def _placed(marks: Sequence[tuple[float, float, str, str]], plot: int) -> list[dict[str, Any]]:
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
        chart = alt.Chart(_values([{k: _six(v) for k, v in p.items()} for p in points]))
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
    line = alt.Chart(_values([{"value": limit}]))
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
    made: alt.Chart = alt.Chart(_values(rows)).mark_text(**options).encode(x, y, text="text:N")
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
        chart = alt.Chart(_values([_spent(p, floor) for p in points]))
        for field, colour in (("kept", DELIGHT), *((("over", FRICTION),) if least < 0 else ())):
            area = chart.mark_area(opacity=0.3, color=colour, line=False, invalid="break-paths-show-path-domains")
            layers.append(area.encode(x, _slo_y(field, domain, "%"), y2="zero:Q"))
        line = chart.mark_line(strokeWidth=1.6, color=INK, invalid="break-paths-show-path-domains")
        layers.append(line.encode(x, y))
    else:
        layers.append(_words([{"x": figure["days"] / 2, "percent": 50, "text": "no data"}], x, y, color=MUTED))
    zero = [{"x": 0.0, "percent": 0, "text": "0: spent"}]
    layers.append(alt.Chart(_values(zero)).mark_rule(color=INK, strokeWidth=1.2).encode(y))
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


def sparkline(
    values: Sequence[float | None],
    *,
    alt: str,
    label: str = "",
    hue: str = INK,
    width: int = 84,
    height: int = 22,
    zero: bool = True,
) -> str:
    """A line over the weeks as SVG text; gaps where a value is missing, the last point marked and labelled.

    Args:
        values: oldest first; None is a gap.
        alt: what it shows, in words.
        label: text beside the last point; the drawing is 34 pixels wider when there is one.
        hue: colour of the line.
        width: of the line itself, in pixels, the same in a column so that weeks stand under each other.
        height: in pixels.
        zero: the bottom is 0; otherwise the smallest value.
    """
    known = [v for v in values if v is not None]
    total = width + (34 if label else 0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="spark" role="img" aria-label="{html.escape(alt)}" '
        f'viewBox="0 0 {total} {height}" width="{total}" height="{height}"><title>{html.escape(alt)}</title>'
    )
    if not known:
        return (
            f'{head}<text x="0" y="{height - 6}" font-size="{SIZE}" fill="{MUTED}" font-family="Inter">–</text></svg>'
        )
    least = 0.0 if zero else min(known)
    span = (max(known) - least) or 1.0
    step = (width - 8) / max(len(values) - 1, 1)
    spots = [
        None if v is None else (3 + n * step, height - 4 - (v - least) / span * (height - 8))
        for n, v in enumerate(values)
    ]
    path, pen = [], "M"
    for spot in spots:
        if spot is None:
            pen = "M"
            continue
        path.append(f"{pen}{spot[0]:.1f} {spot[1]:.1f}")
        pen = "L"
    body = f'<path d="{"".join(path)}" fill="none" stroke="{hue}" stroke-width="1.4" stroke-linejoin="round"/>'
    if spots[-1] is not None:
        x, y = spots[-1]
        body += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{hue}"/>'
    if label:
        body += (
            f'<text x="{width + 2}" y="{height / 2 + 4:.0f}" font-size="{SIZE}" font-weight="600" fill="{INK}" '
            f'font-family="{html.escape(FONT)}">{html.escape(label)}</text>'
        )
    return f"{head}{body}</svg>"


def svg(chart: alt.TopLevelMixin, *, alt: str) -> str:
    """A chart as SVG text that stands alone: no script, no address but the namespace, ids unlike any other chart's.

    Args:
        chart: an Altair chart with a width in pixels.
        alt: what it shows, in words.
    """
    import vl_convert

    _know_fonts()
    text = vl_convert.vegalite_to_svg(chart.to_dict(validate=False), vl_version=_vega_version())
    text = re.sub(r'<path [^>]*opacity="0"[^>]*/>', "", text)  # there for tooltips only
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(id="|url\(#)(clip|gradient)', rf"\g<1>{own}\2", text)
    words = html.escape(alt)
    return re.sub(r"<svg ([^>]*)>", rf'<svg role="img" aria-label="{words}" \1><title>{words}</title>', text, count=1)


class Picture:
    """A drawn chart: notebooks display it as SVG with its words beside it."""

    def __init__(self, text: str, alt: str) -> None:
        self.text = text
        self.alt = alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"image/svg+xml": self.text, "text/plain": self.alt}, {"image/svg+xml": {"alt": self.alt}}


def show(chart: alt.TopLevelMixin, *, alt: str, render: Literal["svg", "widget"] = "svg") -> Picture | ChartWidget:
    """The one way a chart reaches a reader.

    Args:
        chart: an Altair chart.
        alt: what it shows, in words; every chart has some.
        render: ``svg`` draws it now, for papermill, HTML and PDF; ``widget`` draws it in the browser, with tooltips and
            redrawing, in JupyterLab and Voila. Neither asks the network.
    """
    if not alt:
        raise ValueError("a chart needs words: pass alt=.")
    return ChartWidget(chart, alt) if render == "widget" else Picture(svg(chart, alt=alt), alt)


class ChartWidget(anywidget.AnyWidget):
    """A chart drawn in the browser; the Vega bundle is sent once per page, not once per chart."""

    _esm = TEMPLATES / "chart.js"
    spec = traitlets.Dict().tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    revision = traitlets.Int(0).tag(sync=True)

    def __init__(self, chart: alt.TopLevelMixin, alt: str) -> None:
        _engine()
        super().__init__(spec=chart.to_dict(validate=False), words=alt)

    def redraw(self, chart: alt.TopLevelMixin, alt: str) -> None:
        """Show another chart in the same place."""
        with self.hold_sync():
            self.spec, self.words = chart.to_dict(validate=False), alt
            self.revision += 1


class _Engine(anywidget.AnyWidget):
    """Carries `bundle` to the page; it shows nothing."""


@functools.cache
def _engine() -> _Engine:
    made: _Engine = type("Engine", (_Engine,), {"_esm": bundle()})()
    return made


def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one JavaScript module, built once and kept in the cache folder."""
    import importlib.metadata

    import vl_convert

    kept = config.cache_dir() / f"vega-{importlib.metadata.version('vl-convert-python')}.js"
    if not kept.exists():
        start = "globalThis.feedbackEmbed = vegaEmbed; export default {render() {}};"
        text = vl_convert.javascript_bundle(start, vl_version=_vega_version())
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(f".{hashlib.sha256(text.encode()).hexdigest()[:8]}")
        half.write_text(text, "utf-8")
        half.replace(kept)
    return kept.read_text("utf-8")


@functools.cache
def _know_fonts() -> None:
    import vl_convert

    vl_convert.register_font_directory(str(FONTS))


def _vega_version() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def hue(row: Row) -> str:
    """The colour of a topic: one hue for what hurts, one for what is liked, grey for what is steady or falling.

    The section of the report that `rows` names decides, not a label of the topic.
    """
    if row["badge"] not in MOVING and row["badge"] != "RECURRING":
        return MUTED
    return DELIGHT if row.get("section") == "delight" else FRICTION


def _values(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=json.loads(json.dumps(rows)))


def _room(beside: int) -> alt.ExprRef:
    """The width a name has beside another text, whatever the width of the chart."""
    return alt.ExprRef(f"max(60, width - {beside})")


def _scale(low: float, high: float) -> alt.Scale:
    return alt.Scale(domain=[low, high], nice=False, zero=False)


def _week_axis(labels: Sequence[str]) -> alt.Axis:
    shown = list(range(len(labels) - 1, -1, -4))
    return alt.Axis(values=shown, labelExpr=f"{json.dumps(list(labels))}[datum.value]", ticks=False, domain=True)
