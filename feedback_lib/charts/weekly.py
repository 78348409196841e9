"""Charts of a weekly report: topics over the weeks, rates with intervals, the report's five numbers.

Everything takes the report as `report.Report.to_dict` gives it, or a part of it. Two hues and greys; what matters is
also said by shape, darkness or a label, so that a print in greys loses nothing.
"""

from __future__ import annotations

import datetime as dt
import html
import json
from collections.abc import Sequence

import altair as alt

from feedback_lib.charts.look import (
    DELIGHT,
    FONT,
    FRICTION,
    GREY,
    INK,
    MUTED,
    SIZE,
    Drawing,
    Report,
    Row,
    Width,
    inline,
    linear,
)

MOVING = ("NEW", "GROWING", "SPIKE", "REGRESSION")  # what people say more of; falling and silent are quieter
FEW = 5  # fewer people than this are not counted out in front of stakeholders
TOO_FEW = "too few to compare"
NOT_PEOPLE = ("answered", "moving")  # the report's numbers that count something else


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
    """What is proven to have changed, in one word; steady is no finding and has no badge.

    >>> badge({"badge": "REGRESSION"}), badge({"badge": "STEADY"}), badge({"badge": None})
    ('REGRESSION', '', '')
    """
    return "" if row["badge"] in ("STEADY", None) else str(row["badge"])


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
    x = alt.X("n:Q", title=None, scale=linear(0, len(labels) - 1), axis=_week_axis(labels))
    y, tops = (alt.Y(f"{f}:Q", title=None, axis=None, scale=linear(0, max(len(rows), 1))) for f in ("base", "top"))
    points = alt.Chart(inline(data))
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
    label = alt.Chart(inline(names)).mark_text(align="left", baseline="middle", limit=_room(80))
    marks = alt.Chart(inline(badges)).mark_text(align="right", baseline="middle", color=MUTED)
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
            entry["text"] = "not heard before" if row["badge"] in MOVING else "–"
        drawn.append(entry)
    known = [v for e in drawn for v in (e.get("low"), e.get("high")) if v]
    least, most = min([0.5, *known]), max([2.0, *known])
    left, right = max(least, 0.1) * 0.95, min(most, 30) * 1.05
    scale = alt.Scale(type="log", domain=[left, right], nice=False, clamp=True)
    ticks = [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16) if least <= t <= most]
    axis = alt.Axis(values=ticks, labelExpr="'×' + format(datum.value, '~g')", ticks=True)
    tall = linear(-0.3, max(len(rows), 1) - 0.2)
    place, name, foot = (alt.Y(f"{f}:Q", title=None, axis=None, scale=tall) for f in ("place", "name", "foot"))
    low, ratio, one = (alt.X(f"{f}:Q", title=None, axis=axis, scale=scale) for f in ("low", "ratio", "one"))
    tips = [alt.Tooltip("topic:N"), alt.Tooltip("text:N", title="ratio (95 % interval)")]
    chart = alt.Chart(inline(drawn)).transform_calculate(
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
    chart = alt.Chart(inline(data))
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
        usual = alt.Chart(inline([{"value": number["baseline"], "text": f"usual {count(number, number['baseline'])}"}]))
        layers.append(usual.mark_rule(strokeDash=[4, 3], color=MUTED).encode(y))
        text = usual.mark_text(align="left", baseline="bottom", dy=-4, color=MUTED)
        layers.append(text.encode(x=alt.value(0), y=y, text="text:N"))
    return alt.layer(*layers).properties(width=width, height=height)


def number_words(number: Row) -> str:
    """One of the report's five numbers over 13 weeks, in words."""
    usual = number["baseline"]
    against = "" if usual is None else f", usually {count(number, usual)}"
    return f"{number['label']}: {count(number, number['value'])} this week{against}."


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


def hue(row: Row) -> str:
    """The colour of a topic: one hue for what hurts, one for what is liked, grey for what is steady or falling.

    The section of the report that `rows` names decides, not a label of the topic.
    """
    if row["badge"] not in MOVING and row["badge"] != "RECURRING":
        return MUTED
    return DELIGHT if row.get("section") == "delight" else FRICTION


def _room(beside: int) -> alt.ExprRef:
    """The width a name has beside another text, whatever the width of the chart."""
    return alt.ExprRef(f"max(60, width - {beside})")


def _week_axis(labels: Sequence[str]) -> alt.Axis:
    shown = list(range(len(labels) - 1, -1, -4))
    return alt.Axis(values=shown, labelExpr=f"{json.dumps(list(labels))}[datum.value]", ticks=False, domain=True)
