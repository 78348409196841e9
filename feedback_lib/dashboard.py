"""The dashboard: a finished report with filters by source and product area. It reads; it never fetches."""

from __future__ import annotations

import datetime as dt
import html
import json
import logging
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import narwhals as nw
import polars as pl

from feedback_lib import charts, pages
from feedback_lib.analysis import trends
from feedback_lib.records import MONDAY_US, WEEK_US
from feedback_lib.store import Store

logger = logging.getLogger(__name__)
Report = Mapping[str, Any]
WEEKS = 13
USUAL_WEEKS = 4  # with data, before the report week: what the number of people heard is compared with
EVERY = "all"


def wait_for_reader() -> None:
    """Return when somebody opens the page.

    Voila keeps one kernel that has run the notebook up to here, imports and all; what comes after reads the store as
    it is then, so that a page made ready in advance shows no old data. Anywhere else this returns at once.
    """
    from voila.utils import wait_for_request

    wait_for_request()


def members(store: Store, report: Report) -> pl.DataFrame:
    """The people's signals behind the report's thirteen weeks, from the tables as its run read and wrote them.

    Sources that the run could not read are left out, as the report leaves them out.

    Returns:
        One row per signal, duplicates included: uid · author · created_at_us · origin · product_area · topic_id.
    """
    last, run = _week_us(report), _run(store, report)
    versions = run["inputs"].get("read", {}) | run["inputs"].get("written", {})
    versions = {t: v for t, v in versions.items() if v is not None}
    if versions:
        store = store.at(versions)
    signals = store.scan("signals", as_of=None if versions else report["inputs"].get("signals"))
    understood = store.scan("understanding").select("uid", "topic_id")
    for source in report["sources"]:
        if source["status"] == "failed":
            signals = signals.filter(~((nw.col("kind") == source["kind"]) & (nw.col("origin") == source["origin"])))
    in_window = (nw.col("created_at_us") >= last - (WEEKS - 1) * WEEK_US) & (nw.col("created_at_us") < last + WEEK_US)
    made: pl.DataFrame = (
        signals.filter(in_window, ~nw.col("type").is_in(trends.MACHINES))
        .select("uid", "author", "created_at_us", "origin", "product_area")
        .join(understood, on="uid", how="left")
        .collect("polars")
        .to_native()
    )
    return made


def _run(store: Store, report: Report) -> dict[str, Any]:
    """Table versions (``inputs``) and parameters (``params``) of the run that made a report; empty when unknown."""
    found = store.read("runs").filter(pl.col("run_id") == report["run_id"])
    return {c: json.loads(found[c][0]) if len(found) else {} for c in ("inputs", "params")}


def narrow(
    report: Report,
    signals: pl.DataFrame,
    *,
    source: str | None = None,
    area: str | None = None,
    weeks: int = trends.TrendOptions().weeks,
) -> Report:
    """The report as one source or product area tells it: people, weeks and verbatims of the choice.

    Badges, rates and the verdict are left out, because nothing was tested for the choice; so are topics nobody of it
    spoke of this week and suggestions without evidence in it. A week in
    which the source told nothing has no data: it is None, and no part of what is usual.

    Args:
        report: as `report.Report.to_dict` gives it.
        signals: of `members`.
        source: an origin; None is all.
        area: a product area; None is all.
        weeks: before the report week, that make the usual value of a topic; at most 12.
    """
    if source is None and area is None:
        return report
    if source is not None:
        signals = signals.filter(pl.col("origin") == source)
    told = set(trends.weekly_heard(nw.from_native(signals.lazy())).collect("polars").to_native()["week_us"])
    if area is not None:
        signals = signals.filter(pl.col("product_area") == area)
    last, lazy = _week_us(report), nw.from_native(signals.lazy())
    heard = _by_week(trends.weekly_heard(lazy), last, told)
    counted = (
        trends.weekly_counts(lazy, "topic_id").collect("polars").to_native().partition_by("topic_id", as_dict=True)
    )
    kept = set(signals["uid"])
    rows: dict[str, list[Any]] = {}
    for key in ("frictions", "delights"):
        rows[key] = []
        for row in report[key]:
            topic = counted.get((row["topic_id"],))
            spark = _by_week(None if topic is None else nw.from_native(topic.lazy()), last, told)
            usual = _before(spark, weeks)
            shown: dict[str, Any] = {"spark": spark, "people": spark[-1]}
            shown |= {"baseline_people": statistics.fmean(usual) if usual else None}
            shown |= {k: [v for v in row[k] if v["uid"] in kept] for k in ("verbatims", "dissenting")}
            shown |= {"evidence": [u for u in row["evidence"] if u in kept]}
            if shown["people"] == 0:
                continue
            shown["badge"] = ""
            rows[key].append({**row, **shown, "ratio": None, "low": None, "high": None, "q": None})
    usual = _before(heard, WEEKS - 1)[-USUAL_WEEKS:]
    text = charts.people(heard[-1])
    people = {**report["numbers"][0], "value": heard[-1], "spark": heard, "text": text, "note": ""}
    people |= {"baseline": statistics.median(usual) if usual else None, "ratio": None, "low": None, "high": None}
    suggestions = [s for s in report["suggestions"] if not kept.isdisjoint(s["evidence"])]
    rows |= {"suggestions": suggestions}
    rows |= {"silent": [f for f in report.get("silent", []) if not kept.isdisjoint(f["said"])]}
    verdict = f"Counts are of {' and '.join(c for c in (source, area) if c)} only; nothing was tested for this choice."
    return {**report, **rows, "verdict": verdict, "numbers": [people, *report["numbers"][1:]]}


def _by_week(counts: nw.LazyFrame[Any] | None, last: int, told: Collection[int]) -> list[float | None]:
    """People in each of the thirteen weeks; None is a week without data, one that is not among ``told``."""
    people = {}
    if counts is not None:
        table = counts.collect("polars").to_native()
        people = dict(zip(table["week_us"], table["people"], strict=True))
    mondays = [last - n * WEEK_US for n in range(WEEKS - 1, -1, -1)]
    return [float(people.get(monday, 0)) if monday in told else None for monday in mondays]


def _before(spark: Sequence[float | None], weeks: int) -> list[float]:
    """The values of the ``weeks`` weeks before the last that have data, oldest first."""
    return [v for v in spark[:-1][-weeks:] if v is not None]


def _week_us(report: Report) -> int:
    start = dt.datetime.fromisoformat(report["week"]["start"]).replace(tzinfo=dt.UTC)
    at = int(start.timestamp()) * 1_000_000
    return at - (at - MONDAY_US) % WEEK_US


def title(report: Report) -> pages.Part:
    """The heading of the dashboard, with the product it is about."""
    about = f" of {html.escape(report['product'])}" if report["product"] else ""
    return pages.Part(f"<h2>Developer signals{about}</h2>")


def age(report: Report, now: dt.datetime) -> pages.Part:
    """How old the data of a report is, as a sentence; a warning when a weekly run seems to have been missed."""
    days = (now - dt.datetime.fromisoformat(report["data_as_of"] or report["as_of"])).total_seconds() / 86_400
    said = f"{days * 24:.0f} hours" if days < 2 else f"{days:.0f} days"
    if days > 8 and not report["synthetic"]:
        return pages.Part(f'<p class="alarm">The data is {said} old; a weekly run seems to be missing.</p>')
    return pages.Part(f'<p class="dim">The data is {said} old.</p>' if days >= 0 else "")


class Board:
    """Controls, charts and tables of one report, redrawn together when a choice changes.

    Args:
        report: as `report.Report.to_dict` gives it.
        store: the store it was made from.

    Attributes:
        controls: what to choose: a source, a product area.
        pictures: topics over the weeks, people per week, rates.
        frictions: the table of topics that hurt, with verbatims.
        delights: the table of topics people like.
        suggestions: those with evidence in the choice.
    """

    def __init__(self, report: Report, store: Store) -> None:
        self.report = report
        self.signals = members(store, report)
        self.weeks = int(_run(store, report)["params"].get("trends", {}).get("weeks", trends.TrendOptions().weeks))
        self.source = self._choice("Source", "origin")
        self.area = self._choice("Product area", "product_area")
        self.message = widgets.HTML()
        choices = widgets.HBox([self.source, self.area], layout={"flex_flow": "row wrap"})
        self.controls = widgets.VBox([choices, self.message])
        rows = _rows(report)
        self.topics = charts.ChartWidget(*_topics(report))
        self.people = charts.ChartWidget(*_people(report))
        self.rates = charts.ChartWidget(charts.ratios(rows, width="container"), charts.ratios_words(rows))
        right = widgets.VBox(
            [
                _title("People heard per week"),
                self.people,
                _title("Rate against the weeks before, everybody"),
                self.rates,
            ]
        )
        self.pictures = widgets.HBox([widgets.VBox([_title("Topics over 13 weeks"), self.topics]), right])
        self.pictures.layout.flex_flow = "row wrap"
        for column in self.pictures.children:
            column.layout = {"flex": "1 1 340px", "min_width": "300px", "padding": "0 28px 0 0"}
        self.frictions, self.delights, self.suggestions = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._fill(report)

    def _choice(self, label: str, column: str) -> widgets.Dropdown:
        known = sorted(self.signals[column].drop_nulls().unique())
        made = widgets.Dropdown(options=[EVERY, *known], description=label, style={"description_width": "initial"})
        made.observe(self._changed, "value")
        return made

    def _changed(self, _: Any) -> None:
        """Show the choice; a fault becomes a sentence on the page and a traceback in the log, never silence."""
        try:
            chosen = {
                n: None if b.value == EVERY else b.value for n, b in (("source", self.source), ("area", self.area))
            }
            report = narrow(self.report, self.signals, **chosen, weeks=self.weeks)
            for picture, (chart, words) in ((self.topics, _topics(report)), (self.people, _people(report))):
                picture.redraw(chart, words)
            self._fill(report)
            hidden = "<style>.feedback p.verdict { display: none; }</style>"  # it speaks of everybody
            note = f"{hidden}{html.escape(report['verdict'])} The cards above are of everybody heard."
            self.message.value = _html(f"<p class='dim'>{note if any(chosen.values()) else ''}</p>")
        except Exception:  # a callback has no caller that could tell the reader
            logger.exception("a choice could not be shown")
            said = "This choice could not be shown; the page still shows the one before. Reload it to start again."
            self.message.value = _html(f'<p class="alarm" role="alert">{said}</p>')

    def _fill(self, report: Report) -> None:
        self.frictions.value = _html(pages.part("frictions", report))
        self.delights.value = _html(pages.part("delights", report))
        self.suggestions.value = _html(pages.part("suggestions", report))


def _rows(report: Report) -> list[Mapping[str, Any]]:
    return charts.rows(report)


def _topics(report: Report) -> tuple[charts.Drawing, str]:
    rows = _rows(report)
    return charts.topics_by_week(report, rows, width="container"), charts.topics_words(rows)


def _people(report: Report) -> tuple[charts.Drawing, str]:
    number = report["numbers"][0]
    return charts.people_per_week(report, number, width="container"), charts.number_words(number)


def _title(text: str) -> widgets.HTML:
    return widgets.HTML(_html(f"<h2>{text}</h2>"))


def _html(text: str) -> str:
    return f'<div class="feedback">{text}</div>'
