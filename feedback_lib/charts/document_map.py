"""The document map: every text a dot, topics as islands with their names, what is new in colour and outlined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from feedback_lib.analysis import layout
from feedback_lib.charts.look import INK, MUTED, SIZE, Drawing, Row, inline, linear
from feedback_lib.charts.river import hues
from feedback_lib.charts.weekly import MOVING

_LETTER = 6.4  # pixels, on average, of the letters of a name
_ROW = 15
_WIDEST = 22  # letters of a line of a name
_NAMED = 40  # topics
_ROOMY = 4_000  # dots; more are drawn smaller
_LISTED = 14  # titles beside the map
_EARLIER, _WEAK = "#b9c0cb", "#dde1e7"


def document_map(
    dots: Sequence[Row], topics: Sequence[Row], *, width: int = 860, height: int = 560, listed: bool = False
) -> Drawing | alt.VConcatChart:
    """Texts as dots: this week's dark or in colour, earlier ones grey, weak members pale; new topics outlined.

    Dragging selects (the parameter ``brush``), a click picks one text (``text``), which `ChartWidget.selection` tells.

    Args:
        dots: x and y, 0 to 1 · topic, an id or None · weak · now, whether it is of this week · title · url.
        topics: topic · name · badge · delight, the most important first, which are named first.
        width: in pixels.
        height: in pixels.
        listed: adds the titles of what is selected, for a page without Python behind it.
    """
    spots = np.array([(d["x"] * width, (1 - d["y"]) * height) for d in dots]).reshape(-1, 2)
    owner = np.array([-1 if d["topic"] is None else d["topic"] for d in dots])
    loud = [t for t in topics if t["badge"] in MOVING]
    colour_of = {t["topic"]: colour for t, colour in zip(loud, hues(loud), strict=True)}
    rows = []
    small = max(min(1.0, _ROOMY / max(len(dots), 1)) ** 0.5, 0.4)
    for n, (dot, (px, py)) in enumerate(zip(dots, spots.tolist(), strict=True)):
        fill = colour_of.get(dot["topic"], "#46505f") if dot["now"] else _WEAK if dot["weak"] else _EARLIER
        row = {
            "n": n,
            "px": round(px, 1),
            "py": round(py, 1),
            "fill": fill,
            "size": round(small * (40 if dot["now"] else 22)),
        }
        row["pale"] = 0.45 if dot["weak"] and dot["now"] else 1
        rows.append(row | ({"title": dot["title"][:90], "url": dot["url"] or ""} if "title" in dot else {}))
    rows.sort(key=lambda r: (r["size"], r["fill"] != _WEAK, r["n"]))  # what matters lies above
    x = alt.X("px:Q", title=None, axis=None, scale=linear(0, width))
    y = alt.Y("py:Q", title=None, axis=None, scale=alt.Scale(domain=[height, 0], nice=False, zero=False))
    brush = alt.selection_interval(name="brush")
    pick = alt.selection_point(name="text", fields=["n"], on="click", clear="dblclick")
    chart = alt.Chart(inline(rows))
    dotted = chart.mark_circle(stroke=None).encode(
        x,
        y,
        color=alt.Color("fill:N", scale=None),
        size=alt.Size("size:Q", scale=None),
        opacity=alt.Opacity("pale:Q", scale=None),
        **({"tooltip": [alt.Tooltip("title:N")]} if rows and "title" in rows[0] else {}),
    )
    layers = [dotted.add_params(brush, pick)]
    layers += _outlines(spots, owner, topics, x, y)
    layers += _names(spots, owner, topics, width, height)
    made = alt.layer(*layers).properties(width=width, height=height)
    return alt.vconcat(made, _titles(chart, brush, width), spacing=10) if listed else made


def document_map_words(dots: Sequence[Row], topics: Sequence[Row]) -> str:
    """What `document_map` shows, in words."""
    now = sum(bool(d["now"]) for d in dots)
    lost = sum(d["topic"] is None for d in dots)
    moved = [f"{t['name']} ({t['badge'].lower()})" for t in topics if t["badge"]]
    said = f"A map of {len(dots):,} texts in {len(topics):,} topics, {now:,} of this week, {lost:,} without a topic. "
    return said + (f"Moved: {'; '.join(moved)}." if moved else "No topic moved.")


def named(topics: Sequence[Row], dots: Sequence[Row], width: int = 860, height: int = 560) -> list[str]:
    """The names that have room on the map."""
    spots = np.array([(d["x"] * width, (1 - d["y"]) * height) for d in dots]).reshape(-1, 2)
    owner = np.array([-1 if d["topic"] is None else d["topic"] for d in dots])
    return [t["name"] for t, _, spot in _placed(spots, owner, topics, width, height) if spot]


def _lines(name: str) -> list[str]:
    """A name in at most two lines: its first terms."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDEST:
            if len(lines) == 2:
                lines[-1] = lines[-1].rstrip(",") + " …"
                break
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[: _WIDEST + 2] for line in lines]


def _placed(
    spots: layout.Places, owner: np.ndarray[Any, Any], topics: Sequence[Row], width: int, height: int
) -> list[tuple[Row, list[str], tuple[float, float] | None]]:
    """Each topic that has dots, the lines of its name, and the middle of where it stands."""
    shown = [t for t in topics if (owner == t["topic"]).any()][:_NAMED]
    lines = [_lines(t["name"]) for t in shown]
    anchors = [layout.middle(spots[owner == t["topic"]]) for t in shown]
    sizes = [(max(map(len, some)) * _LETTER + 8, len(some) * _ROW + 5.0) for some in lines]
    found = layout.spread_out(anchors, sizes, width, height, dots=spots)
    return list(zip(shown, lines, found, strict=True))


def _names(
    spots: layout.Places, owner: np.ndarray[Any, Any], topics: Sequence[Row], width: int, height: int
) -> list[alt.Chart]:
    rows = []
    for topic, lines, spot in _placed(spots, owner, topics, width, height):
        if spot is None:
            continue
        for n, line in enumerate(lines):
            at = spot[1] + (n - (len(lines) - 1) / 2) * _ROW
            rows.append({"px": round(spot[0], 1), "py": round(at, 1), "text": line, "loud": topic["badge"] in MOVING})
    if not rows:
        return []
    chart = alt.Chart(inline(rows))
    x, y = alt.X("px:Q"), alt.Y("py:Q")
    plain: Any = {"baseline": "middle", "fontSize": SIZE}
    halo: Any = {"stroke": "#ffffff", "strokeWidth": 3.4, "strokeJoin": "round", "opacity": 0.9}
    made = []
    weights: tuple[tuple[str, Any], ...] = (("false", 400), ("true", 600))
    for flag, weight in weights:
        some = chart.transform_filter(f"datum.loud == {flag}")
        made += [
            some.mark_text(fontWeight=weight, **look, **plain).encode(x, y, text="text:N")
            for look in (halo, {"color": INK})
        ]
    return made


def _outlines(
    spots: layout.Places, owner: np.ndarray[Any, Any], topics: Sequence[Row], x: alt.X, y: alt.Y
) -> list[alt.Chart]:
    rows = []
    for topic in topics:
        mine = spots[owner == topic["topic"]]
        if topic["badge"] == "NEW" and len(mine):
            line = layout.outline(mine, 9.0)
            rows += [
                {"px": round(a, 1), "py": round(b, 1), "o": n, "t": topic["topic"]} for n, (a, b) in enumerate(line)
            ]
    if not rows:
        return []
    ring = alt.Chart(inline(rows)).mark_line(color=INK, strokeWidth=1.8)
    return [ring.encode(x, y, order="o:Q", detail="t:N")]


def _titles(chart: alt.Chart, brush: alt.Parameter, width: int) -> alt.Chart:
    """The titles of what is selected, with links, listed by Vega itself."""
    some = chart.transform_filter(brush).transform_window(place="row_number()")
    title = alt.TitleParams("What is selected above; a title opens its source", fontSize=SIZE, fontWeight=400)
    listed: alt.Chart = (
        some.transform_filter(f"datum.place <= {_LISTED}")
        .mark_text(align="left", limit=width - 10, color=MUTED)
        .encode(
            x=alt.value(0),
            y=alt.Y("place:O", axis=None, scale=alt.Scale(domain=list(range(1, _LISTED + 1)))),
            text="title:N",
            href="url:N",
        )
        .properties(width=width, height=_LISTED * 18, title=title)
    )
    return listed


_DOT = re.compile(
    r'<path [^>]*?transform="translate\(([-\d.]+),([-\d.]+)\)" d="M([\d.]+),0A[^"]*"( fill="#\w+")'
    r'(?: stroke-width="\d+")?(?: opacity="([\d.]+)")?(?:/>|></path>)'
)


def joined(text: str) -> str:
    """SVG text in which neighbouring dots of one look are one path: the same picture in a tenth of the letters."""

    def one(run: re.Match[str]) -> str:
        looks: dict[tuple[str, str, str], list[str]] = {}
        for px, py, radius, fill, opacity in _DOT.findall(run[0]):
            looks.setdefault((radius, fill, opacity), []).append(f"M{float(px):.1f} {float(py):.1f}h0")
        made = []
        for (radius, fill, opacity), spots in looks.items():
            look = f'{fill.replace("fill", "stroke")} stroke-width="{2 * float(radius):.1f}" stroke-linecap="round"'
            look += f' opacity="{opacity}"' if opacity and float(opacity) < 1 else ""
            made.append(f'<path fill="none"{look} d="{"".join(spots)}"/>')
        return "".join(made)

    return re.sub(rf"(?:{_DOT.pattern}){{2,}}", one, text)
