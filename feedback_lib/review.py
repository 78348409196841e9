"""The production monitor's view of a service for people: what was measured over some weeks, and what it says in words.

`open` looks at a spec as its monitor would, without telling anybody. Everything shown of it is made here: `figures`
for `charts.slo_figures`, and `html` for the words and tables of the notebook ``slo_report``. "No data" is shown as no
data, never as a value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import itertools
import math
import operator
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import jinja2
import narwhals as nw
import polars as pl

from feedback_lib import performance, plugins, specs
from feedback_lib.analysis import alerts, slo
from feedback_lib.analysis.slo import Slo
from feedback_lib.errors import ConfigError, nearest
from feedback_lib.ledger import Ledger, copied
from feedback_lib.metrics import Answer, Query
from feedback_lib.monitor import (
    WORST,
    Health,
    Monitor,
    Snapshot,
    budget_words,
    lookback_s,
    percent,
    query_text,
)
from feedback_lib.records import micros, moment
from feedback_lib.specs import Plan, Watched
from feedback_lib.watch import ledger_path, now_utc

BUCKETS = 224  # of a series: three hours each in four weeks
PART = Literal["head", "slos", "regressions", "unmeasured", "evidence"]
SOON = dt.timedelta(days=1)  # a deploy this long before an alert is named beside it
PAST = dt.timedelta(minutes=5)  # longer ago is not the present, which some backends alone know
NOTABLE_GAP = dt.timedelta(hours=1)  # a stretch without data this long is worth a figure
_US = 1_000_000
_HOUR_US = 3600 * _US
_TIME = pl.Datetime("us", "UTC")
_COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SERIES: dict[str, Any] = {
    "sli": pl.String,
    "at": _TIME,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "stretch": pl.Int64,
}
_BUDGET: dict[str, Any] = {"sli": pl.String, "at": _TIME, "budget_remaining": pl.Float64}
_STRETCH: dict[str, Any] = {"sli": pl.String, "start": _TIME, "end": _TIME}
_ALERTS: dict[str, Any] = _STRETCH | {"severity": pl.String, "sev": pl.String, "summary": pl.String}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Review:
    """A service over ``(start, end]``, UTC. Frames are ordered by SLI as in the plan, then by time.

    Attributes:
        plan: the SLOs, the targets nobody measures, the lines that could not be read.
        start: where the review begins.
        end: the moment it pretends is now.
        report: the weekly performance report of the last complete week, see docs/performance-report.md.
        health: how each SLO stands at ``end``.
        synthetic: whether the folder is the sample world, where everything is invented.
        series: sli · at, the middle of a bucket · value, its middle value in the unit of the limit (counted events:
            their ratio) · low, high of the slices in it (counted events: of the hours) · stretch, a number that grows
            where buckets without data lie between. At most `BUCKETS` rows per SLI.
        budget: sli · at, the end of a bucket · budget_remaining, 1 is untouched, negative is overspent, null no data.
        alerts: sli · start · end, null while it is open · severity · sev · summary; one row per stretch of one
            severity that reaches into the review.
        deploys: at · version.
        regressions: rows of `performance.regression_rows` at ``end``.
        no_data: sli · start · end of stretches without a measurement.
    """

    plan: Plan
    start: dt.datetime
    end: dt.datetime
    report: Mapping[str, Any]
    health: Snapshot
    synthetic: bool
    series: pl.DataFrame
    budget: pl.DataFrame
    alerts: pl.DataFrame
    deploys: pl.DataFrame
    regressions: tuple[Mapping[str, Any], ...]
    no_data: pl.DataFrame

    def no_data_ratio(self, sli: str) -> float:
        """The share of the review's slices that were not measured, 0–1."""
        gaps = self.no_data.filter(pl.col("sli") == sli)
        missing_us = gaps.select((pl.col("end") - pl.col("start")).dt.total_microseconds().sum()).item()
        return float(missing_us) / (micros(self.end) - micros(self.start))


def open(spec_id: str, root: str | Path, as_of: dt.datetime | None = None, days: int = 28) -> Review:
    """Look at a spec as its monitor would: nothing is told, written or remembered.

    The monitor's memory is used where it reaches back to the beginning of the review. Otherwise the backends are
    asked for everything again; what has no history there is taken from the memory.

    Args:
        spec_id: the spec.
        root: the project's folder.
        as_of: the moment to look at, aware; None is now.
        days: how far back.

    Raises:
        ConfigError: the spec, its observability.yaml or the deploys are wrong, or ``days`` is less than 1.
        StoreError: the memory cannot be used.
    """
    if days < 1:
        raise ConfigError(f"days is {days}: name 1 or more, such as 28")
    # nobody can be told, and no credential of a sink is needed
    plan = dataclasses.replace(specs.load(spec_id, root), sinks=())
    end = as_of or now_utc()
    start = end - dt.timedelta(days=days)
    with _memory(plan, root, start, end) as ledger:
        if not _reaches(ledger, plan, start, end):
            _measure(plan, ledger, start, end)
        watcher = Monitor(plan, ledger, dry_run=True)
        if now_utc() - end > PAST:
            watcher.backends |= {sli: _Silent() for sli, backend in watcher.backends.items() if not backend.history}
        health = watcher.tick(end)
        week = dt.datetime.combine(end.date() - dt.timedelta(days=end.weekday()), dt.time(), dt.UTC)
        found = performance.find_regressions(watcher, end)
        then = found if week == end else performance.find_regressions(watcher, week)
        measured = [(w, _measurements(ledger, w, end)) for w in plan.watched]
        return Review(
            plan=plan,
            start=start,
            end=end,
            report=performance.build(plan, ledger, "weekly", week.date() - dt.timedelta(days=1), then),
            health=health,
            synthetic=(Path(root) / "SYNTHETIC.md").is_file(),
            series=_joined(_SERIES, [_series(w, frame, start, end) for w, frame in measured]),
            budget=_joined(_BUDGET, [_budget(w, frame, start, end) for w, frame in measured]),
            alerts=_alerts(plan, ledger.events(until_us=micros(end)), start),
            deploys=performance.deploys(plan).filter(pl.col("at").is_between(start, end)),
            regressions=tuple(performance.regression_rows(plan, found)),
            no_data=_joined(_STRETCH, [_gaps(w, frame, start, end) for w, frame in measured]),
        )


# ------------------------------------------------------------------------------------------------------- measuring


class _Silent:
    """Stands for a backend that knows only the present when the past is looked at."""

    history: ClassVar[bool] = False

    def now(self, query: Query, at: dt.datetime) -> Answer:
        return Answer(pl.DataFrame(schema={"series": pl.String, "at": _TIME, "value": pl.Float64}))

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        return self.now(query, end)


@contextlib.contextmanager
def _memory(plan: Plan, root: str | Path, start: dt.datetime, end: dt.datetime) -> Iterator[Ledger]:
    """A ledger that may be written: a copy of the monitor's when it reaches back, else one with what only it knows."""
    path = ledger_path(root, plan.spec_id)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own = stack.enter_context(contextlib.closing(Ledger(folder / "own.sqlite")))
        if not path.exists():
            yield own
            return
        kept = stack.enter_context(contextlib.closing(Ledger(copied(path, folder / "copy.sqlite"))))
        if not _reaches(kept, plan, start, end):
            for watched in _with(plan, history=False).watched:
                _take_over(plan.spec_id, watched.slo, kept, own, end)
            kept = own
        yield kept


def _take_over(spec_id: str, rule: Slo, kept: Ledger, own: Ledger, end: dt.datetime) -> None:
    """Give a ledger what another knows of an SLO up to a moment."""
    own.add_samples(rule.sli, kept.measurements(rule.service, rule.sli, until_us=micros(end)))
    mark = alerts.fingerprint(spec_id, rule.sli)
    state = kept.alert_state(mark)
    if state is not None and state.folded_us <= micros(end):
        own.save_alert(mark, state, [e for e in kept.events() if e["fingerprint"] == mark], [])


def _reaches(ledger: Ledger, plan: Plan, start: dt.datetime, end: dt.datetime) -> bool:
    """Whether a ledger holds every SLI from the beginning of the review, and nothing after its end."""
    for rule in (w.slo for w in plan.watched):
        first, asked = ledger.first(rule.sli), ledger.asked(rule.sli)
        if first is None or first > micros(start) + rule.slice_s * _US:
            return False
        if asked is None or asked > micros(end):
            return False
    return True


def _measure(plan: Plan, ledger: Ledger, start: dt.datetime, end: dt.datetime) -> None:
    """Ask for a window before the review and for the review itself, and judge it as a monitor would have."""
    told = _with(plan, history=True)
    if not told.watched:
        return
    watcher = Monitor(told, ledger, dry_run=True)
    step = dt.timedelta(seconds=min(lookback_s(w.slo) for w in told.watched))
    now = start
    while now < end:
        watcher.tick(now)
        now += step


def _with(plan: Plan, *, history: bool) -> Plan:
    """The plan of the SLOs whose backend has a history, or has none."""
    kinds: dict[str, Any] = {str(w.backend["kind"]): None for w in plan.watched}
    kinds = {kind: plugins.get("metrics", kind) for kind in kinds}
    chosen = (w for w in plan.watched if kinds[str(w.backend["kind"])].history is history)
    return dataclasses.replace(plan, watched=tuple(chosen))


# ------------------------------------------------------------------------------------------------------------ frames


def _measurements(ledger: Ledger, watched: Watched, end: dt.datetime) -> pl.DataFrame:
    return ledger.measurements(watched.slo.service, watched.slo.sli, until_us=micros(end))


def _joined(schema: Mapping[str, Any], frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=schema), *(f.select(*schema) for f in frames)])


def _bucket_us(rule: Slo, start: dt.datetime, end: dt.datetime) -> int:
    """A whole number of slices, so that `BUCKETS` of them cover the review."""
    slice_us = rule.slice_s * _US
    return max(math.ceil((micros(end) - micros(start)) / BUCKETS / slice_us), 1) * slice_us


def _bucketed(frame: pl.DataFrame, start: dt.datetime, size_us: int, name: str = "bucket") -> pl.DataFrame:
    """Adds the number of the bucket that each slice lies in; a slice is named by its end."""
    return frame.with_columns(((pl.col("at_us") - 1 - micros(start)) // size_us).alias(name))


def _series(watched: Watched, measured: pl.DataFrame, start: dt.datetime, end: dt.datetime) -> pl.DataFrame:
    rule, size_us = watched.slo, _bucket_us(watched.slo, start, end)
    inside = _bucketed(measured.filter(pl.col("at_us") > micros(start)), start, size_us)
    if rule.method == "occurrences":
        # one slice has few events, an hour is what a person would look at
        bad = pl.col("valid").sum() - pl.col("good").sum() if watched.op.startswith("<") else pl.col("good").sum()
        share = pl.when(pl.col("valid").sum() > 0).then(bad / pl.col("valid").sum())
        inside = _bucketed(inside, start, max(_HOUR_US // rule.slice_s // _US, 1) * rule.slice_s * _US, "hour")
        hours = inside.group_by("bucket", "hour").agg(share.alias("value"))
        spans = hours.group_by("bucket").agg(low=pl.col("value").min(), high=pl.col("value").max())
        buckets = inside.group_by("bucket").agg(share.alias("value")).join(spans, on="bucket")
    else:
        value = pl.when(pl.col("value").is_finite()).then("value")
        buckets = inside.group_by("bucket").agg(value=value.median(), low=value.min(), high=value.max())
    middle = pl.min_horizontal(micros(start) + pl.col("bucket") * size_us + size_us // 2, micros(end))
    numbers = [(pl.col(c) * watched.factor).alias(c) for c in ("value", "low", "high")]
    return (
        buckets.drop_nulls("value")
        .sort("bucket")
        .select(
            sli=pl.lit(rule.sli),
            at=middle.cast(_TIME),
            **{c.meta.output_name(): c for c in numbers},
            stretch=(pl.col("bucket").diff() != 1).fill_null(False).cum_sum().cast(pl.Int64),
        )
    )


def _budget(watched: Watched, measured: pl.DataFrame, start: dt.datetime, end: dt.datetime) -> pl.DataFrame:
    rule, size_us = watched.slo, _bucket_us(watched.slo, start, end)
    if not measured.height:
        return pl.DataFrame(schema=_BUDGET)
    rows = nw.to_native(slo.burn_down(nw.from_native(measured.lazy()), rule, start, end).collect())
    last = _bucketed(rows.sort("at_us"), start, size_us).group_by("bucket", maintain_order=True).last()
    return last.select(pl.lit(rule.sli).alias("sli"), pl.col("at_us").cast(_TIME).alias("at"), "budget_remaining")


def _gaps(watched: Watched, measured: pl.DataFrame, start: dt.datetime, end: dt.datetime) -> pl.DataFrame:
    """Where slices are missing, from the end of the one before to the end of the last missing one."""
    rule = watched.slo
    slice_us = rule.slice_s * _US
    first, last = micros(start) // slice_us * slice_us, micros(end) // slice_us * slice_us
    ends = measured.filter(pl.col("at_us") > first)["at_us"].to_list()
    pairs = zip([first, *ends], [*ends, last + slice_us], strict=True)
    holes = [(rule.sli, moment(a), moment(b - slice_us)) for a, b in pairs if b - a > slice_us]
    return pl.DataFrame(holes, schema=_STRETCH, orient="row")


def _alerts(plan: Plan, events: Sequence[Mapping[str, Any]], start: dt.datetime) -> pl.DataFrame:
    """Stretches of one severity; the next event of the same alert ends one."""
    found = []
    for sli in (w.slo.sli for w in plan.watched):
        mine = [e for e in events if e["metric"] == sli and e["service"] == plan.service]
        for event, after in itertools.zip_longest(mine, mine[1:]):
            until = dt.datetime.fromisoformat(after["at"]) if after else None
            if event["event"] != "resolved" and (until is None or until > start):
                opened = dt.datetime.fromisoformat(event["at"])
                found.append((sli, opened, until, event["severity"], event["sev"], event["summary"]))
    return pl.DataFrame(found, schema=_ALERTS, orient="row")


# ----------------------------------------------------------------------------------------------------------- figures


def matters(review: Review) -> tuple[str, ...]:
    """The SLIs worth a figure, worst first: not healthy, alerted, got worse for good, or unmeasured for a while.

    When none is, the one with the least of its budget left.
    """
    slis = [h.sli_name for h in _ranked(review)]
    alerted, worse = set(review.alerts["sli"]), {r["metric"] for r in review.regressions if r["found"]}
    gaps = set(review.no_data.filter(pl.col("end") - pl.col("start") >= NOTABLE_GAP)["sli"])
    # what is away for all is told once, by what matters anyway, or by the first
    some = gaps if len(gaps) < len(slis) else set()
    chosen = [h.sli_name for h in _ranked(review) if h.status != "healthy" or h.sli_name in alerted | worse | some]
    return tuple(chosen or slis[:1])


def figures(review: Review) -> list[dict[str, Any]]:
    """What `charts.slo_figures` draws, one per SLI that `matters`: plain values, times as days since the start."""
    return [_figure(review, sli) for sli in matters(review)]


def _figure(review: Review, sli: str) -> dict[str, Any]:
    health = next(h for h in review.health.slos if h.sli_name == sli)
    rule = next(w.slo for w in review.plan.watched if w.slo.sli == sli)
    mine = {n: getattr(review, n).filter(pl.col("sli") == sli) for n in ("series", "budget", "alerts", "no_data")}
    numbers = mine["series"].select(x=_days(review, "at"), value="value", low="low", high="high", stretch="stretch")
    left = mine["budget"].select(x=_days(review, "at"), left="budget_remaining")
    per = _span(_bucket_us(rule, review.start, review.end) / _US)
    what, each = ("rate", "hours") if rule.method == "occurrences" else ("median", f"{_span(rule.slice_s)} values")
    return {
        "sli": sli,
        "unit": health.unit,
        "op": health.op,
        "limit": health.threshold,
        "now": _value(health),
        "limit_text": _limit(health),
        "budget_text": budget_words(health.budget_remaining),
        "window": _window(rule.window),
        "status": health.status,
        "marks": f"Line: {what} of every {per}; band: lowest to highest of its {each}.",
        "days": (review.end - review.start) / dt.timedelta(days=1),
        "ticks": _ticks(review),
        "series": numbers.to_dicts(),
        "budget": left.to_dicts(),
        "alerts": [
            {
                "start": max(_day(review, row["start"]), 0.0),
                "end": _day(review, row["end"] or review.end),
                "severity": row["severity"],
                "text": _alert_words(row),
            }
            for row in mine["alerts"].iter_rows(named=True)
        ],
        "deploys": [
            {"x": _day(review, row["at"]), "version": row["version"]} for row in review.deploys.iter_rows(named=True)
        ],
        "no_data": [
            {"start": _day(review, row["start"]), "end": _day(review, row["end"])}
            for row in mine["no_data"].iter_rows(named=True)
        ],
    }


def _days(review: Review, column: str) -> pl.Expr:
    return (pl.col(column).dt.epoch("us") - micros(review.start)) / (86_400 * _US)


def _day(review: Review, at: dt.datetime) -> float:
    return (at - review.start) / dt.timedelta(days=1)


def _ticks(review: Review) -> list[dict[str, Any]]:
    """Midnights to name on the axis, about five, on Mondays when the review is weeks long."""
    midnight = dt.datetime.combine(review.start.date(), dt.time(), dt.UTC)
    days = [midnight + dt.timedelta(days=n) for n in range(math.ceil(_day(review, review.end)) + 2)]
    days = [d for d in days if review.start <= d <= review.end]
    weeks = [d for d in days if d.weekday() == 0]
    chosen = weeks if len(weeks) >= 3 else days
    chosen = chosen[:: math.ceil(len(chosen) / 6)]
    return [{"x": _day(review, d), "text": f"{d.day} {d:%b}"} for d in chosen]


# ------------------------------------------------------------------------------------------------------------- words


def html(part: PART, review: Review, root: str = "") -> str:
    """One part of a review as HTML.

    Args:
        part: head (the verdict), slos (the table), regressions, unmeasured or evidence.
        review: what `open` returned.
        root: the project's folder as the reader would name it, for the command that makes the review again.

    Raises:
        ValueError: there is no such part; says the nearest.
    """
    if part not in get_args(PART):
        raise ValueError(f"no part named {part!r}; {nearest(part, list(get_args(PART)))}")
    macros = _templates().get_template("slo_report.html.j2").module
    return str(getattr(macros, part)(view(review, root)))


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    made.filters["glued"] = _glued
    return made


def _glued(text: str) -> str:
    """The text with numbers, their signs and units kept on one line."""
    return re.sub(r"(?<=[<>≤≥\d]) (?=\d|%|(?:[a-zµ]{1,3}|times|[A-Z][a-z]{2})\b)", "\N{NO-BREAK SPACE}", text)


def view(review: Review, root: str = "") -> dict[str, Any]:
    """The review as a page says it: every number a text."""
    first, *more = _told(review)
    drawn = matters(review)
    return {
        "service": review.plan.service,
        "synthetic": review.synthetic,
        "spec_id": review.plan.spec_id,
        "status": review.health.status,
        "when": f"{_date(review.start)} to {_moment(review.end)}",
        "verdict": first,
        "more": more,
        "slos": [_row(review, h) for h in _ranked(review)],
        "quiet": [h.sli_name for h in _ranked(review) if h.sli_name not in drawn],
        "days": round(_day(review, review.end)),
        "regressions": _regressions(review),
        "unmeasured": [{"line": t.line, "text": _plain(t.text)} for t in review.plan.unmeasured],
        "skipped": [
            {"line": s.line, "text": _plain(s.text), "reason": s.reason, "closest": s.closest}
            for s in review.plan.skipped
        ],
        "evidence": [_evidence(review, w) for w in review.plan.watched],
        "files": [review.plan.spec.name, review.plan.observability.name],
        "rerun": rerun(review, root),
        "weekly": review.report["rerun"],
    }


def rerun(review: Review, root: str = "") -> str:
    """The command that makes the review again; without ``root`` the notebook takes the bundled sample."""
    given = {"spec_id": review.plan.spec_id, "root": root, "as_of": f"{review.end:%Y-%m-%dT%H:%M:%SZ}"}
    given["days"] = f"{round(_day(review, review.end))}"
    parts = [f"-p {shlex.quote(f'{key}={value}')}" for key, value in given.items() if value]
    return " ".join(["feedback run notebooks/slo_report.ipynb", *parts])


def _ranked(review: Review) -> list[Health]:
    """Worst first: by status, then by what is left of the budget."""
    return sorted(
        review.health.slos,
        key=lambda h: (WORST.index(h.status), 1.0 if h.budget_remaining is None else h.budget_remaining),
    )


def _told(review: Review) -> list[str]:
    """The verdict, then what else a reader must know, worst first."""
    ranked = _ranked(review)
    service, status = review.plan.service, review.health.status
    bad = [h for h in ranked if h.status != "healthy"]
    calm = len(ranked) - len(bad)
    if not bad:
        every = "the one SLO" if len(ranked) == 1 else f"all {len(ranked)} SLOs"
        told = [f"Healthy: {every} of {service} {'is' if len(ranked) == 1 else 'are'} within budget, nothing burns."]
    else:
        told = [f"{status.capitalize()}: {_trouble(review, bad[0], f' of {service}')}."]
        told += [f"{_trouble(review, h)}." for h in bad[1:]]
    for row in review.alerts.filter(pl.col("end").is_not_null()).sort("start").iter_rows(named=True):
        if row["severity"] == "page":
            told.append(f"{row['sli']} raised a page on {_moment(row['start'])}, for {_length(row)}; it is over.")
    healthy = {h.sli_name for h in ranked if h.status == "healthy"}
    told += [
        f"{r['sentence']}; its budget still lasts." for r in review.regressions if r["found"] and r["metric"] in healthy
    ]
    for start, end, slis in _silences(review):
        who = "Nothing" if len(slis) == len(ranked) else f"{' and '.join(slis)}: nothing"
        told.append(f"{who} was measured {_between(start, end)}.")
    if bad and calm:
        told.append(f"The other {calm} {'SLOs are' if calm > 1 else 'SLO is'} healthy.")
    return told


def _silences(review: Review) -> list[tuple[dt.datetime, dt.datetime, list[str]]]:
    """The stretches without data that are worth a word, with whom they concern."""
    gaps = review.no_data.filter(pl.col("end") - pl.col("start") >= NOTABLE_GAP)
    rows = gaps.group_by("start", "end", maintain_order=True).agg("sli").sort("start")
    return [(row["start"], row["end"], row["sli"]) for row in rows.iter_rows(named=True)]


def _trouble(review: Review, health: Health, whose: str = "") -> str:
    """What is wrong with an SLO, in a clause."""
    name = health.sli_name + whose
    if health.status == "unknown":
        return f"{name} is unknown, {health.reason}"
    within = health.value is not None and _COMPARED[health.op](health.value, health.threshold)
    limit = f", within its limit {_limit(health)}," if within else f" (limit {_limit(health)})"
    said = f"{name} is at {_value(health)}{limit}"
    if health.value is None:
        said = f"{name} has no current value"
    if health.alert and health.since:
        fast = "fast" if health.alert == "page" else "slowly"
        said += f" {'but' if within else 'and'} has burned its error budget {fast} since {_moment(health.since)}"
        said += _after_deploy(review, health)
    elif health.reason:
        said = f"{said.removesuffix(',')}; {health.reason}"
    window = _window(health.window)
    if health.budget_remaining is None or health.budget_remaining < 0:
        return (
            f"{said}; the budget of {window} is {budget_words(health.budget_remaining).replace('no data', 'unknown')}"
        )
    return f"{said}; {percent(health.budget_remaining, 0)} of the budget of {window} is left"


def _after_deploy(review: Review, health: Health) -> str:
    """The last deploy before an alert, when it was not long before."""
    if health.since is None:
        return ""
    before = review.deploys.filter(pl.col("at") <= health.since, pl.col("at") >= health.since - SOON)
    if not before.height:
        return ""
    at, version = before.row(-1)
    return f", {_span((health.since - at).total_seconds())} after deploy {version}"


def _row(review: Review, health: Health) -> dict[str, str]:
    gap = review.no_data_ratio(health.sli_name)
    return {
        "status": health.status,
        "name": health.sli_name,
        "category": health.category.replace("_", " "),
        "now": _value(health),
        "limit": _limit(health),
        "sli": percent(health.sli, 2),
        "target": f"{health.target.removesuffix('%').strip()} %" if health.target.endswith("%") else health.target,
        "window": _window(health.window),
        "budget": budget_words(health.budget_remaining),
        "burn": "–" if health.burn is None else f"×{_number(health.burn, 2)}",
        "alert": f"{health.alert} since {_moment(health.since)}" if health.alert and health.since else "–",
        "no_data": "none" if gap == 0 else percent(gap, 1),
        "reason": health.reason,
    }


def _regressions(review: Review) -> list[dict[str, Any]]:
    """A sentence for each SLO: what got worse, or what would have been seen, or why nothing can be said."""
    rows = {r["metric"]: r for r in review.regressions}
    told = []
    for watched in review.plan.watched:
        sli, row = watched.slo.sli, rows.get(watched.slo.sli)
        kind = "rise" if watched.op.startswith("<") else "fall"
        power = _power(row["power"], kind) if row and not row["found"] else ""
        if row is None:
            why = "it is measured by counts" if watched.query is None else "its backend has no history"
            sentence = f"{sli}: not looked at, {why}."
        elif row["found"]:
            sentence = f"{row['sentence']}."
        elif row["power"] is None:
            sentence = f"{sli}: nothing can be said, {row['reason']}."
        else:
            sentence = f"{sli}: no lasting {kind}."
        told.append({"found": bool(row and row["found"]), "sentence": sentence, "power": power})
        told[-1]["notes"] = list(row["notes"]) if row else []
    return sorted(told, key=lambda r: not r["found"])


def _power(power: float | None, kind: str) -> str:
    return "" if power is None else f"A {kind} of {math.ceil(power * 100)} % would have been seen."


def _evidence(review: Review, watched: Watched) -> dict[str, Any]:
    health = next(h for h in review.health.slos if h.sli_name == watched.slo.sli)
    return {
        "name": watched.slo.sli,
        "text": _plain(watched.target.text) if watched.target else "",
        "spec_line": watched.target.line if watched.target else None,
        "line": watched.line,
        "kind": str(watched.backend["kind"]),
        "query": query_text(watched),
        "url": _web(health.evidence_url),
        "runbook": _web(health.runbook),
    }


def _web(address: str | None) -> str:
    return address if address and address.startswith(("https://", "http://")) else ""


def _plain(text: str) -> str:
    """A line of Markdown without its marks.

    >>> _plain("| Reliability | Error rate | `api_error_rate` | < 0.1 % |"), _plain("- **SC-001**: at least 90 %")
    ('Reliability · Error rate · api_error_rate · < 0.1 %', 'SC-001: at least 90 %')
    """
    text = text.strip().removeprefix("- ").removeprefix("* ").replace("**", "").replace("`", "")
    return " · ".join(c.strip() for c in text.strip("|").split("|")) if text.startswith("|") else text


def _alert_words(row: Mapping[str, Any]) -> str:
    """An alert in a few words: what, when, how long."""
    if row["end"] is None:
        return f"{row['severity']} since {_moment(row['start'])}"
    return f"{row['severity']} {_moment(row['start'])}, {_length(row)}"


def _length(row: Mapping[str, Any]) -> str:
    return _span((row["end"] - row["start"]).total_seconds())


def _value(health: Health) -> str:
    """The newest value with its unit; as many digits as tell it from its limit."""
    if health.value is None:
        return "no data"
    texts = (_number(health.value, digits) for digits in range(3, 16))
    limit = float(f"{health.threshold:.15g}")
    text = next((t for t in texts if health.value == limit or float(t.replace(",", "")) != limit), repr(health.value))
    return f"{text} {health.unit}".strip()


def _limit(health: Health) -> str:
    op = {"<=": "≤", ">=": "≥"}.get(health.op, health.op)
    return f"{op} {_number(health.threshold, 15)} {health.unit}".strip()


def _number(value: float, digits: int) -> str:
    """A number of so many significant digits, whole digits always, never in powers of ten.

    >>> _number(836.71, 3), _number(1234.5, 3), _number(0.0314159, 3), _number(100.0, 3)
    ('837', '1,234', '0.0314', '100')
    """
    if value == 0:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{min(places, 12)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _span(seconds: float) -> str:
    """A duration in its two largest units.

    >>> _span(4200), _span(300), _span(475_200), _span(7200)
    ('1 h 10 min', '5 min', '5 days 12 h', '2 h')
    """
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if not (days or hours or minutes):
        return f"{seconds:.0f} s"
    parts = [(days, "day" if days == 1 else "days"), (hours, "h"), (0 if days else minutes, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n)


def _window(window: str) -> str:
    """The window of an SLO in words.

    >>> _window("30d"), _window("month")
    ('30 days', 'this month')
    """
    if window in ("week", "month", "quarter"):
        return f"this {window}"
    return _span(slo.parse_duration(window))


def _date(at: dt.datetime) -> str:
    return f"{at.day} {at:%b %Y}"


def _moment(at: dt.datetime) -> str:
    return f"{at.day} {at:%b} {at:%H:%M} UTC"


def _between(start: dt.datetime, end: dt.datetime) -> str:
    same = start.date() == end.date()
    return f"from {start.day} {start:%b %H:%M} to {f'{end:%H:%M}' if same else f'{end.day} {end:%b %H:%M}'} UTC"
