"""The topic river: what share of all people spoke of which topic, week by week, with the deploys of the service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt

from feedback_lib.charts.look import GRID, INK, MUTED, SIZE, Drawing, Row, inline, linear
from feedback_lib.charts.slo import placed
from feedback_lib.charts.weekly import MOVING

_LABELS = 330  # pixels for the names at the right
_LINE = 17
_RED = ("#b5451b", "#d2714b", "#e39d7f", "#eec0ab")
_BLUE = ("#1f5fa8", "#5a8bc4", "#94b4da")
_GREYS = ("#8d97a5", "#b4bcc8", "#a0a9b6", "#c6ccd5")


def river(
    labels: Sequence[str],
    bands: Sequence[Row],
    rest: Sequence[Row] = (),
    deploys: Sequence[Row] = (),
    *,
    width: int = 860,
    height: int = 300,
) -> alt.VConcatChart:
    """Topics as bands as wide as the share of people who speak of them; what moved in colour, new ones outlined.

    Args:
        labels: the weeks, oldest first, as short texts.
        bands: from top to bottom: name · badge · delight, whether it is praise · shares, 0 to 1 per week, None without
            data · people, of the last week.
        rest: what the others are grouped into, the same; drawn on a scale of its own, below.
        deploys: x, weeks since the first began · version.
        width: of everything, in pixels.
        height: of the river.
    """
    plot, weeks = width - _LABELS, len(labels)
    top = max([sum(b["shares"][n] or 0.0 for b in bands) for n in range(weeks)] or [0.0]) or 1.0
    drawn, ends = _stacked(bands, weeks, centred=top)
    x = _weeks(labels, shown=not rest)
    y, low = alt.Y("high:Q", title=None, axis=None, scale=linear(0, top)), alt.Y2("low:Q")
    area = alt.Chart(inline(drawn))
    breaks: Any = {"invalid": "break-paths-show-path-domains"}
    colour = alt.Color("hue:N", scale=None)
    tips = [alt.Tooltip(f"{f}:N") for f in ("topic", "week", "share")]
    layers: list[alt.Chart] = [
        area.mark_area(stroke="#ffffff", strokeWidth=1.2, **breaks).encode(x, y, low, colour, detail="topic:N")
    ]
    if any(b["badge"] == "NEW" for b in bands):
        new = area.transform_filter("datum.new")
        for edge in ("low", "high"):
            at = alt.Y(f"{edge}:Q", title=None, axis=None, scale=linear(0, top))
            layers.append(new.mark_line(color=INK, strokeWidth=2, **breaks).encode(x, at, detail="topic:N"))
    if deploys:
        rule = alt.Chart(inline([{"x": d["x"]} for d in deploys]))
        layers.append(rule.mark_rule(color=INK, strokeDash=[4, 3], opacity=0.5).encode(_weeks(labels, shown=False)))
    layers.append(area.mark_point(opacity=0, size=90).encode(x, y, tooltip=tips))
    layers += _named(ends, labels, top, height)
    parts = [alt.layer(*layers).properties(width=plot, height=height)]
    if deploys:
        parts.insert(0, _ticks(labels, deploys, plot))
    if rest:
        parts.append(_rest(labels, rest, plot))
    return alt.vconcat(*parts, spacing=6)


def river_words(labels: Sequence[str], bands: Sequence[Row], rest: Sequence[Row], deploys: Sequence[Row]) -> str:
    """What `river` shows, in words."""
    told = [
        b["name"] + (f" ({b['badge'].lower()})" if b["badge"] else "") + f": {_share(b['shares'][-1])} of people"
        for b in (*bands, *rest)
    ]
    said = f"Share of all people heard, {len(labels)} weeks from {labels[0]} to {labels[-1]}. In the last: "
    said += ("; ".join(told) if told else "no topic") + ". "
    said += f"Deploys: {', '.join(d['version'] for d in deploys)}." if deploys else "No deploy is known."
    return said


def hues(bands: Sequence[Row]) -> list[str]:
    """A colour for each band: red for what people complain of more, blue for praise, greys for the others."""
    left = {"red": list(_RED), "blue": list(_BLUE), "grey": list(_GREYS)}
    made = []
    for band in bands:
        family = "grey" if band["badge"] not in MOVING else "blue" if band.get("delight") else "red"
        made.append(left[family].pop(0))
        left[family].append(made[-1])
    return made


def _share(value: float | None) -> str:
    return "no data" if value is None else "under 1 %" if 0 < value < 0.01 else f"{100 * value:.0f} %"


def _stacked(
    bands: Sequence[Row], weeks: int, centred: float | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lower and upper edge of each band in the middle of each week, and where each ends."""
    drawn, ends = [], []
    colours = hues(bands)
    for n in range(weeks):
        known = all(b["shares"][n] is not None for b in bands)
        total = sum(b["shares"][n] or 0.0 for b in bands)
        edge = total if centred is None else (centred + total) / 2
        for band, colour in zip(bands, colours, strict=True):
            size = band["shares"][n] or 0.0
            row = {"x": n + 0.5, "topic": band["name"], "badge": band["badge"], "hue": colour, "week": str(n)}
            later = [band["shares"][m] for m in (n, n + 1) if m < weeks]
            row["new"] = band["badge"] == "NEW" and any(later)
            row |= {"low": round(edge - size, 5) if known else None, "high": round(edge, 5) if known else None}
            drawn.append(row | {"share": _share(band["shares"][n])})
            if n == weeks - 1:
                ends.append({"at": edge - size / 2, "hue": colour, **{k: band[k] for k in ("name", "badge")}})
                ends[-1] |= {"share": _share(band["shares"][n]), "people": band["people"]}
            edge -= size
    return drawn, ends


def _weeks(labels: Sequence[str], *, shown: bool) -> alt.X:
    texts = json.dumps({str(n): text for n, text in enumerate(labels)})
    values = list(range(len(labels) - 1, -1, -2))[::-1]
    axis = alt.Axis(
        values=values,
        labelExpr=f"{texts}[datum.value]",
        labels=shown,
        ticks=shown,
        domain=shown,
        grid=True,
        gridColor=GRID,
        labelAngle=0,
        labelAlign="left",
        title=None,
    )
    return alt.X("x:Q", title=None, scale=linear(0, len(labels)), axis=axis)


def _named(ends: Sequence[Row], labels: Sequence[str], top: float, height: int) -> list[alt.Chart]:
    """The names at the right, as near to their bands as there is room, with a line to the band."""
    if not ends:
        return []
    at = _dodged([height * (1 - e["at"] / top) for e in ends], height)
    rows = []
    for end, place in zip(ends, at, strict=True):
        badge = f" {end['badge'].lower()}" if end["badge"] else ""
        rows.append(
            {"x": len(labels), "from": len(labels) - 0.5, "at": end["at"], "px": top * (1 - place / height)}
            | {"name": end["name"], "told": f"{end['share']}{badge}", "hue": end["hue"], "loud": bool(badge)}
        )
    chart, scale = alt.Chart(inline(rows)), linear(0, top)
    y = alt.Y("px:Q", title=None, axis=None, scale=scale)
    x = alt.X("x:Q", title=None, scale=linear(0, len(labels)))
    name: Any = {"align": "left", "dx": 4, "limit": _LABELS - 100}
    weights: tuple[tuple[str, Any], ...] = (("true", 600), ("false", 400))
    names = [
        chart.transform_filter(f"datum.loud == {flag}").mark_text(fontWeight=weight, **name).encode(x, y, text="name:N")
        for flag, weight in weights
    ]
    return [
        chart.mark_rule(strokeWidth=1.2).encode(
            alt.X("from:Q", scale=linear(0, len(labels))),
            alt.Y("at:Q", axis=None, scale=scale),
            x2="x:Q",
            y2="px:Q",
            color=alt.Color("hue:N", scale=None),
        ),
        *names,
        chart.mark_text(align="right", dx=_LABELS - 6, color=MUTED).encode(x, y, text="told:N"),
    ]


def _dodged(wanted: Sequence[float], height: float) -> list[float]:
    """Places of lines of text from top to bottom, none on another, all inside where they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed_at = [0.0] * len(wanted)
    least = _LINE / 2
    for i in order:
        placed_at[i] = max(wanted[i], least)
        least = placed_at[i] + _LINE
    most = height - _LINE / 2
    for i in reversed(order):
        placed_at[i] = min(placed_at[i], most)
        most = placed_at[i] - _LINE
    return placed_at


def _ticks(labels: Sequence[str], deploys: Sequence[Row], plot: int) -> Drawing:
    """A line of deploys above the river."""
    per = plot / len(labels)
    texts = placed([(d["x"] * per, d["x"] * per, d["version"], "deploys") for d in deploys], plot)
    x = alt.X("x:Q", title=None, scale=linear(0, len(labels)), axis=None)
    marks = alt.Chart(inline([{"x": d["x"]} for d in deploys]))
    layers = [marks.mark_point(shape="triangle-down", filled=True, size=60, opacity=1, color=INK).encode(x)]
    for side in ("left", "right"):
        told = [{"x": t["px"] / per, "text": t["text"]} for t in texts if t["align"] == side]
        if told:
            layers.append(alt.Chart(inline(told)).mark_text(align=side, dy=1).encode(x, text="text:N"))
    layers.append(
        alt.Chart(inline([{"x": len(labels), "text": "deploys"}]))
        .mark_text(align="left", dx=4, dy=1, color=MUTED)
        .encode(x, text="text:N")
    )
    return alt.layer(*layers).properties(width=plot, height=18)


def _rest(labels: Sequence[str], rest: Sequence[Row], plot: int) -> Drawing:
    """The others, stacked from zero on a scale of their own."""
    height = 26 + 18 * min(len(rest), 5)
    weeks = len(labels)
    top = max(sum(b["shares"][n] or 0.0 for b in rest) for n in range(weeks)) or 1.0
    drawn, ends = _stacked(rest, weeks)
    x = _weeks(labels, shown=True)
    y = alt.Y("high:Q", title=None, axis=None, scale=linear(0, top))
    area = alt.Chart(inline(drawn)).mark_area(stroke="#ffffff", strokeWidth=1, invalid="break-paths-show-path-domains")
    colour = alt.Color("hue:N", scale=None)
    layers = [area.encode(x, y, alt.Y2("low:Q"), colour, detail="topic:N"), *_named(ends, labels, top, height)]
    title = alt.TitleParams(
        "Everything else, on a scale of its own", fontSize=SIZE, fontWeight=400, color=MUTED, offset=4
    )
    return alt.layer(*layers).properties(width=plot, height=height, title=title)
