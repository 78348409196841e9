"""The Developer Signal Report as data: what the pages, the dashboards and ``summary.json`` show, made by rules.

Definitions, the same for every report:

- people: distinct authors; a signal without an author is one person. What machines report is nobody's voice.
- a suggestion moves when a topic or error behind it is new this week, or rose: in all, on one day, or after a release;
  those come first.
- answered within 48 h: of the signals received at least 48 hours before ``as_of``, the share with a first response
  within 48 hours. Only origins that ever tell a first response count; an open one past the limit is not answered.
- friction: a signal labelled DX Friction or Documentation Gap, or a bug report, or about usability or documentation.
- praise: a signal labelled DX Delight, or of category praise.
- a delight is a topic most of whose labelled signals praise; every other topic is a friction.
- a row of frictions or delights has at least three people this week, unless it is new or rose.
- silent friction is a step skipped or an error met by distinct workflows, each once; it is shown when it passes the
  thresholds for patterns of workflows, or when somebody says the same. So is a phase that takes longer in the later
  half of its workflows, when the interval of the ratio lies above 1.
- the usual value is the median of the four weeks before that have data.

A source that could not be read is left out of every week alike, so its numbers are withheld and never look like a
fall; with no source left the numbers are "–". Times are written as ISO 8601 in UTC, shares as 0–1, unrounded.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from feedback_lib import __version__, privacy, suggest
from feedback_lib.analysis import trends
from feedback_lib.errors import StoreError, nearest
from feedback_lib.records import FrictionRow, monday
from feedback_lib.store import Store
from feedback_lib.suggest import people_words

WORKFLOW = "smartspec_feedback_aggregator"
TITLE = "Developer Signal Report"
VERDICT_WORDS = 30
TOP = 5
USUAL_WEEKS = 4
LEAST_PEOPLE = 3  # fewer people than this are no top friction or delight, unless the topic moved
ANSWER_H = 48
USUAL_PARAMS = "params/weekly.yaml"
NONE = "–"
FRICTION_LABELS = ("DX Friction", "Documentation Gap")
FRICTION_CATEGORIES = ("bug_report", "usability", "documentation")
USUAL_WEIGHTS = suggest.Weights()
Row = dict[str, Any]

_TAG = re.compile(
    r"</?(?:p|br|div|span|a|b|i|em|strong|u|ul|ol|li|code|pre|blockquote|h[1-6]|img|table|t[rdh]|tbody|thead|hr)\b[^>]*>",
    re.IGNORECASE,
)

# What stands before what is said: Markdown's heading marks with the usual titles of bug forms, greetings, wishes.
_HEADING = (
    r"#{1,6}\s+(?:(?:describe the (?:bug|issue|problem|request)|what happened|bug (?:description|report)|description"
    r"|summary|problem|context)\b[:?.]?(?:\s+|$))?"
)
_ALL = r"(?:\s+(?:there|all|everyone|everybody|folks|guys|people|team|support|community|again|zusammen))"
_HELLO = (
    rf"(?:hi|hey|hello|dear|greetings|good (?:morning|afternoon|evening|day))(?:{_ALL}*\s*[,.!:;]+|{_ALL}+)\s+"
    rf"|(?:hi|hey|hello|dear)\s+(?-i:[A-Z])[\w-]+{_ALL}*\s*,\s+"
    r"|(?:hallo|guten (?:tag|morgen)|moin|bonjour|bonsoir|salut|hola|buen[oa]s (?:d[ií]as|tardes)|buongiorno|ciao|salve"
    rf"|ol[aá]|bom dia|dobr[yý] den|hej|goedendag){_ALL}*\s*[,.!:;]+\s+"
)
_POLITE = (
    r"(?:i\s+)?hope (?:you(?: are|.re) (?:all )?|this finds you |all is )(?:doing )?well\s*[.,!]+\s+"
    r"|(?:and\s+)?(?:many )?thanks in advance\s*[.,!]+\s+"
)
_OPENING = re.compile(f"(?:{_HEADING}|{_HELLO}|{_POLITE})+", re.IGNORECASE)
_MARK = re.compile(r"(?<=\s)#{2,6}\s+")
RATES = (
    "Rates compare with the eight weeks before, among people who did not write about a topic that moved; "
    "the interval is 95 %. “Usual” on a card is the median of the four weeks before, a topic's “usually” the mean of "
    "the eight."
)
FEW_SAID = re.compile(r"(?<![\d.,])[1-4] (?:people|person)\b")
MEASURED = "measured on our own labelled examples, not on this product"
CONTRADICTING = {"friction": ("DX Delight",), "delight": ("DX Friction", "Documentation Gap", "Missing Capability")}
LEAST_WORDS = 4  # what is left of an excerpt without its greeting says something


@dataclasses.dataclass(frozen=True)
class Report:
    """One report, as plain values; ``to_dict`` is ``summary.json`` and what the store keeps.

    ``trends_identified`` and ``findings`` are the same list: the first is the name that the aggregator's readers know.
    """

    run_id: str
    version: str
    recipe: str
    status: str  # ok, degraded
    product: str
    synthetic: bool
    as_of: str
    data_as_of: str | None
    week: Row  # iso, start, end, label
    verdict: str
    feedback_items_processed: int
    numbers: list[Row]
    frictions: list[Row]
    delights: list[Row]
    findings: list[Row]
    suggestions: list[Row]
    recurring: list[Row]
    sources: list[Row]
    quality: Row
    quiet: Row
    versions: Row
    inputs: Row
    workflow: str = WORKFLOW
    title: str = TITLE
    params: str = ""  # the params file it was made with, as the run was given it
    silent: list[Row] = dataclasses.field(default_factory=list)  # what workflows ran into; none where none was read

    def to_dict(self) -> Row:
        """Everything as JSON values; a copy, safe to change.

        Raises:
            ValueError: a number is infinite or not a number, which JSON does not know; `build` makes no such report.
        """
        other = self.params and self.params != USUAL_PARAMS
        shown: Row = json.loads(
            json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False, default=_json)
        )
        if not self.silent:
            del shown["silent"]
        return shown | {
            "suggestions_generated": len(self.suggestions),
            "trends_identified": json.loads(json.dumps(shown["findings"])),
            "rerun": f"feedback report rerun {self.run_id}" + (f" --params {self.params}" if other else ""),
        }

    @classmethod
    def from_dict(cls, shown: Mapping[str, Any]) -> Report:
        """The report that ``to_dict`` gave.

        Raises:
            ValueError: a part is missing; the message names it.
        """
        fields = {f.name for f in dataclasses.fields(cls)}
        missing = sorted(fields - shown.keys() - {"params", "silent"})  # not in every report
        if missing:
            raise ValueError(f"this is not a whole report: {', '.join(missing)} is missing")
        return cls(**{k: v for k, v in shown.items() if k in fields})


def build(
    *,
    understood: pl.DataFrame,
    topics: pl.DataFrame,
    told: trends.Trends,
    suggestions: pl.DataFrame,
    sources: Sequence[Mapping[str, Any]],
    quality: Mapping[str, Any],
    week: dt.date,
    as_of: dt.datetime,
    run_id: str,
    product: str,
    synthetic: bool = False,
    recipe: str = "weekly",
    versions: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    quarantined: int = 0,
    params: str = "",
    weights: suggest.Weights = USUAL_WEIGHTS,
    friction: Sequence[FrictionRow] = (),
) -> Report:
    """Make the report of one week. Pure: the same arguments give the same report.

    Args:
        understood: As for `trends.analyse`.
        topics: The registry, for names, words, examples and first days.
        told: What `trends.analyse` says of that week without the sources that could not be read.
        suggestions: Rows of the table ``suggestions`` to show.
        sources: Per source: name, kind, origin, status (ok, failed, empty), read, new, updated, rejected, error,
            watermark.
        quality: languages, unread, no_topic_ratio, duplicates, models, classifier, reviewed, abstained_ratio, and what
            else a reader should know: revised, notes, proposals.
        week: Any day of the report week.
        as_of: The moment the run pretends is now.
        run_id: Of the run that makes it.
        product: What the feedback is about.
        synthetic: Whether the feedback is made up.
        recipe: Which recipe made it.
        versions: Package versions.
        inputs: Table versions that were read.
        quarantined: Items that could not be loaded.
        params: The params file of the run, as a relative path, for the command that runs it again.
        weights: Of the parts of priority, as the suggestions were made with.
        friction: What workflows ran into that week, as `friction.find` gives it.
    """
    start = monday(week)
    given = [_source(s) for s in sources]
    failed = [g for g, s in zip(given, sources, strict=True) if s.get("left_out", g["status"] == "failed")]
    read = understood
    for source in failed:
        read = read.filter(~((pl.col("kind") == source["kind"]) & (pl.col("origin") == source["origin"])))
    mine = [dataclasses.asdict(f) for f in told.findings]
    rows = _prepared(read, start)
    frictions, delights, heavy = _rankings(read, topics, told, mine)
    quiet = _quiet(told, mine)
    names = [s["name"] for s in failed]
    made = {
        "run_id": run_id,
        "version": __version__,
        "recipe": recipe,
        "status": "degraded" if any(s["status"] == "failed" for s in given) else "ok",
        "product": product,
        "synthetic": synthetic,
        "as_of": as_of,
        "data_as_of": _data_as_of(given, read, as_of),
        "week": _week(start),
        "verdict": _verdict(told, mine, frictions, heavy, failed, start.isocalendar().week),
        "feedback_items_processed": understood.height,
        "numbers": _numbers(rows, read, told, mine, as_of, _Missing(names, _prepared(understood, start))),
        "frictions": frictions,
        "delights": delights,
        "findings": [f | _exposures(told, f) for f in mine],
        "suggestions": _suggestions(suggestions, mine, weights),
        "recurring": _recurring(told),
        "sources": given,
        "quality": dict(quality) | {"quarantined": quarantined},
        "quiet": quiet,
        "versions": dict(versions or {}),
        "inputs": dict(inputs or {}),
        "workflow": WORKFLOW,
        "title": TITLE,
        "params": params,
        "silent": _silent(friction),
    }
    return Report.from_dict(json.loads(json.dumps(_finite(made), ensure_ascii=False, allow_nan=False, default=_json)))


def open_report(store: Store | str | Path, run_id: str = "") -> Report:
    """The report of a run as the store (or the store in a folder) keeps it: the newest one, or the run named.

    Newest is by ``as_of``, so that looking again at an old week does not hide this week's report.

    Raises:
        StoreError: there is no report yet, or no run of that name; the message names the nearest.
    """
    store = store if isinstance(store, Store) else Store(store)
    table = store.read("runs").filter(pl.col("report").is_not_null() & (pl.col("report").str.len_bytes() > 2))
    if table.is_empty():
        raise StoreError("runs", f"no report in {store.path} yet. Run: feedback report weekly")
    if not run_id:
        return Report.from_dict(json.loads(table.sort("as_of", "updated_at")["report"][-1]))
    found = table.filter(pl.col("run_id") == run_id)
    if found.is_empty():
        raise StoreError(
            "runs", f"no report of run {run_id!r} in {store.path}; {nearest(run_id, list(table['run_id']))}"
        )
    return Report.from_dict(json.loads(found["report"][0]))


def summary_text(report: Report) -> str:
    """The report as a short plain text, for a terminal, a mail or a chat."""
    lines = [" · ".join(filter(None, (report.product, report.week["label"]))), report.verdict, ""]
    lines += [f"NOT READ: {s['name']}: {s['error']}" for s in report.sources if s["status"] == "failed"]
    lines += [f"{n['text']:>7}  {n['label']}{_change(n)}" for n in report.numbers]
    for title, rows in (("Frictions", report.frictions), ("Delights", report.delights)):
        if rows:
            lines += ["", f"{title}:"]
        for row in rows:
            badge = f" [{row['badge']}]" if row["badge"] else ""
            lines.append(f"{row['rank']:>3}. {row['name']}{badge}: {people_words(row['people'])}")
    if report.suggestions:
        lines += ["", "Suggestions:"]
        lines += [f"  {s['priority']:.2f}  {s['title']}" for s in report.suggestions[:TOP]]
    return "\n".join(lines) + "\n"


def _change(number: Row) -> str:
    if number.get("points") is not None:
        return f", {number['points']:+.0f} percentage points against usual"
    if number["ratio"] is None:
        return ""
    interval = f" ({number['low']:.2f}–{number['high']:.2f})" if None not in (number["low"], number["high"]) else ""
    return f", ×{number['ratio']:.2f}{interval} of usual"


def _json(value: Any) -> Any:
    if isinstance(value, dt.date):  # a datetime is a date too
        return value.isoformat()
    raise TypeError(f"a report cannot hold {type(value).__name__}")


def _finite(value: Any) -> Any:
    """The same with None for every number without an end: the upper end of an interval may have none."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _week(start: dt.date) -> Row:
    end = start + dt.timedelta(days=6)
    year, number, _ = start.isocalendar()
    first = f"{start.day}"
    if (start.month, start.year) != (end.month, end.year):
        first = f"{start.day} {start:%B}" + (f" {start.year} " if start.year != end.year else " ")
        days = f"{first}– {end.day} {end:%B} {end.year}"
    else:
        days = f"{first}–{end.day} {end:%B} {end.year}"
    return {
        "iso": f"{year}-W{number:02}",
        "start": start,
        "end": end,
        "label": f"week {number}, {days}",
    }


def _source(source: Mapping[str, Any]) -> Row:
    columns = ("name", "kind", "origin", "status", "read", "new", "updated", "rejected", "error", "watermark")
    shown = {c: source.get(c) for c in columns}
    if isinstance(shown["watermark"], str):
        shown["watermark"] = dt.datetime.fromisoformat(shown["watermark"])
    if shown["error"]:  # the name stands beside it
        shown["error"] = shown["error"].removeprefix(f"{shown['kind']} ({shown['origin']}): ")
    return shown


def _data_as_of(sources: Sequence[Row], read: pl.DataFrame, as_of: dt.datetime) -> dt.datetime | None:
    """Up to where the data goes: the newest watermark of a source that was read, else the newest signal."""
    marks = [s["watermark"] for s in sources if s["watermark"] and s["status"] != "failed"]
    if marks:
        newest_mark: dt.datetime = max(marks)
        return min(newest_mark, as_of)  # a run that looks back says so
    newest = read.filter(pl.col("updated_at") <= as_of)["updated_at"].max()
    return newest if isinstance(newest, dt.datetime) else None


def _prepared(read: pl.DataFrame, start: dt.date) -> pl.DataFrame:
    """The voices of the last 13 weeks: with person, place of the week (the report week is last), friction, praise."""
    last = trends.SPARK_WEEKS - 1
    return (
        suggest.seen(read, start, last)
        .filter("voice")
        .with_columns(
            place=pl.col("place") + last,
            friction=pl.col("dx_label").is_in(FRICTION_LABELS).fill_null(False)
            | (
                pl.col("category").is_in(FRICTION_CATEGORIES).fill_null(False)
                & (pl.col("dx_label") != "DX Delight").fill_null(True)
            ),
            praise=suggest.praises(),
        )
    )


# The five numbers


@dataclasses.dataclass(frozen=True)
class _Missing:
    """The sources that could not be read, and the voices with theirs."""

    names: list[str]
    everything: pl.DataFrame

    @property
    def note(self) -> str:
        return f"without {' and '.join(self.names)}" if self.names else ""

    def most_of(self, rows: pl.DataFrame, rule: pl.Expr) -> bool:
        """Whether the missing sources usually make more than half of what ``rule`` counts."""
        before = pl.col("place").is_between(trends.SPARK_WEEKS - 1 - USUAL_WEEKS, trends.SPARK_WEEKS - 2)
        usual, left = (f.filter(before, rule)["person"].n_unique() for f in (self.everything, rows))
        return bool(self.names) and usual > 2 * left


def _numbers(
    rows: pl.DataFrame,
    read: pl.DataFrame,
    told: trends.Trends,
    findings: Sequence[Row],
    as_of: dt.datetime,
    missing: _Missing,
) -> list[Row]:
    signals = rows.filter(pl.col("place") == trends.SPARK_WEEKS - 1).height
    tested = told.table.filter(pl.col("subject_type") == "topic")["q"].count()
    found = list(told.found)
    if found[-1] is not None:
        found[-1] = float(sum(f["subject_type"] == "topic" for f in _moving(findings)))
    if not told.table["subject_type"].is_in(["topic"]).any():
        found = [None] * len(found)
    labelled = rows["category"].count() + rows["dx_label"].count() > 0

    def people(key: str, label: str, rule: pl.Expr, better: str, note: str, *, known: bool = True) -> Row:
        silent: list[float | None] = [None] * trends.SPARK_WEEKS
        spark = _people(rows.filter(rule), told) if known else silent
        if missing.most_of(rows, rule):
            spark, note = [*spark[:-1], None], "withheld"
        return _counted(key, label, spark, better, note, missing.note)

    return [
        people("people", "people heard", pl.lit(True), "none", f"of {signals:,} signals"),
        _answered(rows, read, as_of, missing.note),
        people(
            "friction", "people reporting friction", pl.col("friction"), "down", "bugs, usability, documentation",
            known=labelled,
        ),
        people("praise", "people with praise", pl.col("praise"), "up", "DX Delight", known=labelled),
        _counted(
            "moving",
            "topics new or on the rise",
            found,
            "none",
            told.abstained or f"of {tested} topics tested",
            missing.note,
            compared=False,
        ),
    ]  # fmt: skip


def _people(rows: pl.DataFrame, told: trends.Trends) -> list[float | None]:
    counts = dict(rows.group_by("place").agg(pl.col("person").n_unique()).iter_rows())
    return [None if heard is None else float(counts.get(i, 0)) for i, heard in enumerate(told.heard)]


def _usual(spark: Sequence[float | None]) -> list[float]:
    """The values of the four weeks before that have data."""
    return [v for v in spark[:-1] if v is not None][-USUAL_WEEKS:]


def _counted(
    key: str, label: str, spark: list[float | None], better: str, note: str, without: str, *, compared: bool = True
) -> Row:
    """A number that is a count; its ratio to the usual value compares two Poisson rates that scatter as they did."""
    value, usual = spark[-1], _usual(spark)
    baseline = float(np.median(usual)) if usual else None
    ratio, low, high = None, None, None
    if compared and value is not None and baseline:
        known = np.array([v for v in spark[:-1] if v is not None])
        scatter = float(known.var(ddof=1) / known.mean()) if len(known) > 2 and known.mean() > 0 else 1.0
        ratio, low, high = trends.rate_ratio(value, 1, baseline * len(usual), len(usual), dispersion=max(1.0, scatter))
    text = NONE if value is None else f"{value:,.0f}"
    return _number(key, label, value, text, baseline, (ratio, low, high), spark, better, note, without)


def _number(
    key: str,
    label: str,
    value: float | None,
    text: str,
    baseline: float | None,
    ratio: tuple[float | None, float | None, float | None],
    spark: list[float | None],
    better: str,
    note: str,
    without: str,
) -> Row:
    return {
        "key": key,
        "label": label,
        "value": value,
        "text": text,
        "baseline": baseline,
        **dict(zip(("ratio", "low", "high"), _finite(ratio), strict=True)),
        "spark": spark,
        "better": better,
        "note": ", ".join(part for part in (note, without) if part),
    }


def _answered(rows: pl.DataFrame, read: pl.DataFrame, as_of: dt.datetime, without: str) -> Row:
    key, label, note = "answered", f"answered within {ANSWER_H} h", f"signals received at least {ANSWER_H} h ago"
    telling = read.filter(pl.col("first_response_at").is_not_null()).select("kind", "origin").unique()
    limit = dt.timedelta(hours=ANSWER_H)
    due = rows.join(telling, on=["kind", "origin"], how="semi").filter(pl.col("created_at") <= as_of - limit)
    in_time = (pl.col("first_response_at") - pl.col("created_at") <= limit).fill_null(False)
    counts = {p: (n, good) for p, n, good in due.group_by("place").agg(pl.len(), in_time.sum()).iter_rows()}
    spark = [counts[i][1] / counts[i][0] if i in counts else None for i in range(trends.SPARK_WEEKS)]
    value, usual = spark[-1], _usual(spark)
    baseline = float(np.median(usual)) if usual else None
    ratio: tuple[float | None, float | None, float | None] = (None, None, None)
    if value is not None and baseline:
        n, good = counts[trends.SPARK_WEEKS - 1]
        before = [i for i in range(trends.SPARK_WEEKS - 1) if spark[i] is not None][-USUAL_WEEKS:]
        ratio = share_ratio(good, n, baseline, sum(counts[i][0] for i in before))
    text = NONE if value is None else f"{value * 100:.0f} %"
    if value is None:
        note = "no source tells when it answered" if telling.is_empty() else "nothing received is due yet"
    good, valid = (
        (counts[trends.SPARK_WEEKS - 1][1], counts[trends.SPARK_WEEKS - 1][0]) if value is not None else (0, 0)
    )
    return _number(key, label, value, text, baseline, ratio, spark, "up", note, without) | {
        "good": good,
        "valid": valid,
        "points": None if value is None or baseline is None else (value - baseline) * 100,
    }


def share_ratio(good: float, n: float, usual: float, usual_n: float) -> tuple[float, float, float | None]:
    """A share over a usual share, with its 95 % interval.

    Args:
        good: Successes now.
        n: Trials now, more than 0.
        usual: The usual share, more than 0, at most 1.
        usual_n: Trials it comes from.

    Returns:
        ratio, low, high; high is None when nothing succeeded now.

    Source: Katz, Baptista, Azen & Pike 1978, with half a failure added where there is none.
    """
    ratio = good / n / usual
    if good == 0:
        return 0.0, 0.0, None
    failed = max(n - good, 0.5) / n / good
    usual_failed = max((1 - usual) * usual_n, 0.5) / usual_n / (usual * usual_n)
    half = 1.959964 * math.sqrt(failed + usual_failed)
    return ratio, ratio * math.exp(-half), ratio * math.exp(half)


# Frictions and delights


@dataclasses.dataclass(frozen=True)
class _Weight:
    """What the verdict needs of a topic: whether it is praise, people × pain (or joy), who owns it."""

    delight: bool
    weight: float
    owner: str | None


def _rankings(
    read: pl.DataFrame, topics: pl.DataFrame, told: trends.Trends, findings: Sequence[Row]
) -> tuple[list[Row], list[Row], dict[str, _Weight]]:
    """The top five of each: people × pain (or joy) × growth of this week's topics; and the weight of every topic."""
    registry = {t["topic_id"]: t for t in topics.to_dicts()}
    repeated = set(told.recurring["subject"])
    ranked: dict[bool, list[tuple[float, Row]]] = {True: [], False: []}
    weights = {}
    window = suggest.seen(read, told.week, told.options.weeks).filter("voice", pl.col("topic_id").is_not_null())
    main = _commonest(window.filter(pl.col("place") == 0)["language"])
    parts = {int(k[0]): part for k, part in window.partition_by("topic_id", as_dict=True).items()}
    for stats in told.table.filter(pl.col("subject_type") == "topic", pl.col("people") > 0).to_dicts():
        topic_id = int(stats["subject"])
        part = parts[topic_id]
        now = part.filter(pl.col("place") == 0)
        delight = suggest.is_praise(now if now.filter(suggest.labelled()).height >= 3 else part)
        badge = _badge(stats, findings, now, repeated)
        mood = float(now["sentiment"].mean() or 0.0)  # type: ignore[arg-type]
        feeling = (1 + mood) / 2 if delight else (suggest.severity(now) + (1 - mood) / 2) / 2
        weight = stats["people"] * feeling
        weights[stats["subject"]] = _Weight(delight, weight, suggest.owner(now))
        if stats["people"] < LEAST_PEOPLE and badge.lower() not in suggest.MOVING:
            continue
        row = _topic(topic_id, stats, badge, now, part, read, registry.get(topic_id), main)
        row |= {"delight": delight, "first_heard_this_week": stats["first_week"] == told.week}
        ranked[delight].append((weight * _growth(badge, stats["ratio"]), row))
    top = {}
    for delight, found in ranked.items():
        found.sort(key=lambda pair: (-pair[0], pair[1]["topic_id"]))
        top[delight] = [{"rank": n} | row for n, (_, row) in enumerate(found[:TOP], start=1)]
    return top[False], top[True], weights


def _badge(stats: Row, findings: Sequence[Row], now: pl.DataFrame, repeated: set[str]) -> str:
    """The finding's kind; STEADY only where it was tested, else empty."""
    kinds = [f["kind"] for f in findings if (f["subject_type"], f["subject"]) == ("topic", stats["subject"])]
    for kind in trends.KINDS:  # strongest first; steady ones are no findings
        if kind in kinds:
            return kind.upper()
    if now.filter(pl.col("fingerprint").is_in(list(repeated))).height * 2 > now.height:
        return "RECURRING"
    return "STEADY" if stats["q"] is not None else ""


def _growth(badge: str, ratio: float | None) -> float:
    if badge == "NEW":
        return 4.0
    if badge.lower() in suggest.MOVING:
        return min(4.0, max(1.0, ratio or 1.0))
    return 0.5 if badge in ("FALLING", "SILENT") else 1.0


def _topic(
    topic_id: int,
    stats: Row,
    badge: str,
    now: pl.DataFrame,
    part: pl.DataFrame,
    read: pl.DataFrame,
    known: Row | None,
    language: str | None,
) -> Row:
    best = now.sort(
        pl.col("duplicate_of").is_null(), pl.col("topic_score").fill_null(0), "created_at", "uid",
        descending=[True, True, False, False],
    )  # fmt: skip
    central, dissenting = _verbatims(best, part, read, known)
    # the most central one in the language most people write leads
    main = [v for v in central if language and v["language"] == language][:1]
    central = main + [v for v in central if v not in main]
    severity = now["severity_score"].mean()
    return {
        "topic_id": topic_id,
        "name": stats["name"],
        "words": list(known["words"]) if known else [],
        "badge": badge,
        **{c: stats[c] for c in ("people", "mentions", "baseline_people", "exposed", "baseline_exposed")},
        **{c: stats[c] for c in ("ratio", "low", "high", "q", "spark")},
        "dx_label": _commonest(now["dx_label"]),
        "category": _commonest(now["category"]),
        "severity": severity,
        "verbatims": central,
        "dissenting": dissenting,
        "evidence": list(best["uid"]),
        "sources": sorted(now["origin"].unique()),
        "since": part["created_at"].dt.date().min(),
    }


def _commonest(labels: pl.Series) -> str | None:
    told = labels.drop_nulls()
    return str(told.mode().sort()[0]) if told.len() else None


def _verbatims(
    best: pl.DataFrame, part: pl.DataFrame, read: pl.DataFrame, known: Row | None
) -> tuple[list[Row], list[Row]]:
    """Three central and two dissenting voices: this week's originals, then the topic's examples, then older ones."""
    originals = best.filter(pl.col("duplicate_of").is_null())
    older = part.filter(pl.col("duplicate_of").is_null()).sort(
        pl.col("topic_score").fill_null(0), "created_at", "uid", descending=[True, True, False]
    )
    taken: set[str] = set()
    central = _voices(originals, 3, taken)
    if len(central) < 3 and known:
        central += _voices(_by_uid(read, known["examples"]), 3 - len(central), taken)
    central += _voices(older, 3 - len(central), taken)
    dissenting = _voices(originals.reverse(), 2, taken)
    if len(dissenting) < 2 and known:
        dissenting += _voices(_by_uid(read, known["dissenting"]), 2 - len(dissenting), taken)
    return central, dissenting


def _by_uid(read: pl.DataFrame, uids: Sequence[str]) -> pl.DataFrame:
    """The rows of some uids, in their order."""
    return pl.DataFrame({"uid": list(uids)}, schema={"uid": pl.String}).join(read, on="uid", maintain_order="left")


def _voices(rows: pl.DataFrame, count: int, taken: set[str]) -> list[Row]:
    """The first ``count`` verbatims by people, and in words, not yet in ``taken``, which grows."""
    found: list[Row] = []
    for row in rows.iter_rows(named=True):
        if len(found) >= count:
            break
        text = verbatim(row["title"], row["body"])
        keys = {text.casefold(), row["author"] or row["uid"]}
        if not text or keys & taken:
            continue
        taken |= keys
        found.append({"text": text} | {c: row[c] for c in ("uid", "language", "origin", "url", "created_at")})
    return found


def verbatim(title: str, body: str, words: int = 25) -> str:
    """What a person wrote, as written: markup removed, redacted again to be sure, cut after some words.

    A greeting, a good wish and the headings of a form before what is said are left out first; an ellipsis marks it.

    >>> verbatim("Slow", "<p>Export is slow since Monday, write me at a@example.org</p>", words=5)
    'Slow · Export is slow …'
    >>> verbatim("Slow export", "Hi there, ### Describe the bug It takes an hour now")
    'Slow export · … It takes an hour now'
    """
    plain = [" ".join(html.unescape(_TAG.sub(" ", part)).split()) for part in (title, body)]
    begins = plain[1].casefold().startswith(plain[0].casefold())
    plain[1] = _without_greetings(plain[1])
    said = plain[1] if begins else " · ".join(p for p in plain if p)
    # scripts without spaces are cut by letters
    return privacy.excerpt(privacy.redact(said), words)[: words * 12]


def _without_greetings(text: str) -> str:
    """The text without greeting and headings before what is said, unless next to nothing would be left."""
    opening = _OPENING.match(text)
    if opening and len(text[opening.end() :].split()) >= LEAST_WORDS:
        text = f"… {text[opening.end() :]}"
    return _MARK.sub("… ", text)


# Findings in words


def _exposures(told: trends.Trends, finding: Row) -> Row:
    """The people a finding's people are compared with; None where nothing was tested, as for what recurs."""
    rule = (pl.col("subject_type") == finding["subject_type"], pl.col("subject") == finding["subject"])
    rows = told.table.filter(*rule).select("exposed", "baseline_exposed").to_dicts()
    return rows[0] if rows and finding["q"] is not None else {"exposed": None, "baseline_exposed": None}


def _recurring(told: trends.Trends) -> list[Row]:
    """The errors that keep coming back; mentions are of machines too, people are not."""
    evidence = {r.subject: list(r.evidence) for r in told.rows if r.kind == "recurring"}
    columns = ("name", "people", "mentions", "baseline_mentions", "weeks_seen", "spark")
    return [
        {"fingerprint": r["subject"], **{c: r[c] for c in columns}, "since": r["first_week"]}
        | {"evidence": evidence[r["subject"]]}
        for r in told.recurring.to_dicts()
    ]


def _silent(friction: Sequence[FrictionRow]) -> list[Row]:
    """What workflows ran into that is telling or that people speak of; in words what grew.

    First what people speak of, then by the share of workflows, at least (the lower end of its interval); of equal
    ones first what people spoke of before.
    """
    rows = [
        {c: v for c, v in dataclasses.asdict(f).items() if c not in ("updated_at", "run_id")}
        for f in sorted(friction, key=_heard_first)
        if f.telling or f.people or f.people_before
    ]
    return [row | ({"growth": suggest.growth_words(row)} if row["kind"] == "phase" else {}) for row in rows]


def _heard_first(friction: FrictionRow) -> tuple[bool, float, int, str, str]:
    share = suggest.share_hit(friction)
    return not friction.people, -share, -friction.people_before, friction.kind, friction.key


def _suggestions(suggestions: pl.DataFrame, findings: Sequence[Row], weights: suggest.Weights) -> list[Row]:
    """What moved this week first, then what is always there; the most urgent first in each, with the weights used."""
    moving = _moving(findings)
    ids = {f["finding_id"] for f in moving} | {f"{f['subject_type']}:{f['subject']}" for f in moving}
    rows = [s | {"moving": not ids.isdisjoint([s["subject"], *s["findings"]])} for s in suggestions.to_dicts()]
    used = dataclasses.asdict(weights)
    rows.sort(key=lambda s: (not s["moving"], -s["priority"], -s["people"], s["subject"]))
    return [s | {"weights": used} for s in rows]


def _quiet(told: trends.Trends, findings: Sequence[Row]) -> Row:
    if told.abstained:
        power = f"nothing could be tested: {told.abstained}"
    elif told.power_people is None:
        power = "there was no topic to test"
    elif told.power_ratio is None:
        power = f"a topic of {told.power_people} people a week is too small here for any growth to be sure"
    else:
        least = math.ceil(told.power_people * told.power_ratio)
        power = f"a topic of {told.power_people} people a week would have been noticed from about {least} people"
    return {
        "nothing_happened": told.abstained is None and not _moving(findings),
        "tested": told.tested,
        "q": told.options.q,
        "power": power,
    }


def _moving(findings: Sequence[Row]) -> list[Row]:
    return [f for f in findings if f["kind"] in suggest.MOVING]


def _verdict(
    told: trends.Trends,
    findings: Sequence[Row],
    frictions: Sequence[Row],
    weights: Mapping[str, _Weight],
    missing: Sequence[Row],
    week: int,
) -> str:
    """One sentence of at most 30 words: what moved, else what stands, else why nothing can be said.

    Of what moved the worst comes first, by people × pain, and praise after it; each with its owner where one is known.
    """
    names = (" and " if len(missing) == 2 else ", ").join(privacy.excerpt(s["name"], 2) for s in missing[:2])
    more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
    tried = all(s["status"] == "failed" for s in missing)
    why = "could not be read" if tried else "was not read" if len(missing) == 1 else "were not read"
    prefix = f"Without {names}{more}, which {why}: " if missing else ""
    heard = told.heard[-1]
    if heard is None:
        return _sentence([f"{prefix}nobody was heard in week {week}, so nothing can be said about it"])
    if told.abstained:
        said = f"{prefix}{people_words(int(heard))} were heard; {told.abstained} to say what is new"
        return _two(_sentence([said]), _standing(frictions))
    moving = _moving(findings)
    topics = [f for f in moving if f["subject_type"] == "topic"]
    unknown = _Weight(delight=False, weight=0.0, owner=None)
    known = [(f, weights.get(f["subject"], unknown) if topics else unknown) for f in topics or moving]
    if known:
        known.sort(key=lambda k: (k[1].delight, -k[1].weight, -k[0]["people"], k[0]["subject"]))
        rows = told.table.filter(pl.col("first_week") == told.week).select("subject_type", "subject").rows()
        clauses = [_moved(f, about, (f["subject_type"], f["subject"]) in rows) for f, about in known]
        return _sentence([prefix + clauses[0], *clauses[1:3]], rest=len(clauses))
    what = "no topic" if told.table.filter(pl.col("subject_type") == "topic")["q"].count() else "nothing"
    nothing = f"{prefix or 'a quiet week: '}{what} changed more than chance explains"
    if any(f["kind"] in ("falling", "silent") for f in findings):
        nothing = f"{prefix or 'a quiet week: '}{what} grew more than chance explains"
    return _two(_sentence([nothing]), _standing(frictions))


def _standing(frictions: Sequence[Row]) -> str:
    return f"The most pressing is {_name(frictions[0])}." if frictions else ""


def _two(first: str, second: str) -> str:
    """Two sentences, or the first alone where both are more words than a verdict holds."""
    both = f"{first} {second}".strip()
    return both if len(both.split()) <= VERDICT_WORDS else first


def _moved(finding: Row, about: _Weight, first: bool) -> str:
    name, people = _name(finding), people_words(finding["people"])
    name = f"praise for {name}" if about.delight else name
    owner = privacy.excerpt((about.owner or "").replace("_", " "), 2)
    if owner and not about.delight and owner.casefold() not in finding["name"].casefold():
        name = f"{owner}: {name}"
    rise = suggest.rise_words(finding["baseline_people"], finding["people"])
    if finding["kind"] == "regression":
        return f"{name} rose {rise} after {privacy.excerpt(finding['release'], 3)}"
    if finding["kind"] == "spike":
        return f"{name} stood out on a single day, {people}"
    if finding["kind"] == "growing":
        return f"{name} rose {rise} a week"
    if finding["baseline_people"]:
        return f"{name} is new, {rise} a week"
    return f"{name} is new: {people}" + (", never heard before" if first else "")


def _name(row: Row) -> str:
    return f"“{privacy.excerpt(row['name'], 5)}”"


def _sentence(clauses: Sequence[str], rest: int = 0) -> str:
    """As many clauses as the limit allows, and how many more there are."""
    said = " ".join(clauses[0].split()[:VERDICT_WORDS])
    used = 1
    for clause in clauses[1:]:
        if len(f"{said}; {clause} and 9 more".split()) > VERDICT_WORDS:
            break
        said = f"{said}; {clause}"
        used += 1
    if rest > used and len(said.split()) + 3 <= VERDICT_WORDS:
        said += f"; {rest - used} more moved"
    return f"{said[0].upper()}{said[1:]}."
