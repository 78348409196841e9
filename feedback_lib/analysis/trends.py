"""What is new, growing, falling or quiet this week, counted in people and tested so that it can say "nothing".

The question asked of each subject (a topic, a category, a product area, an error fingerprint) is whether its rate this
week differs from its rate in the weeks before. The rate is its share of all people heard, or people per exposure where
exposure is known. In detail (docs/trends.md has the numbers):

1. Given x people this week and b in the baseline, of n and N people heard, x is binomial of x + b with probability
   n / (n + N) when the rate did not change (the conditional test of two Poisson rates).
2. Real counts scatter more than Poisson counts. The counts are divided by a dispersion of at least 1, estimated from
   the baseline weeks of all subjects together (`dispersion`); tails of real-valued counts come from the regularised
   incomplete beta function. One exact point counts half (mid-p).
3. The week alone and the last two weeks together are both compared with the weeks before, so that a growth that
   stays is found in its second week; so are the loudest day and the days since the last releases. The Cauchy rule
   makes one p-value of them, with weights that say how much of the error probability each may spend.
   A finding needs its q-value and a latest week that by itself differs from the weeks before (p < 0.05), so that a
   topic back to its usual size is not called growing for the week before.
4. All subjects of a run are one family for Benjamini-Hochberg. Which kind of finding it is costs no further test.
5. Days that are missing from a week are missing from what it is compared with; weeks with a release are compared
   with weeks with a release.

A week without any signal is "no data" and is left out; it is not a week of zeros. So is a source that stopped.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from feedback_lib import records
from feedback_lib.analysis import counts as counting
from feedback_lib.analysis import findings, tallies
from feedback_lib.analysis.counts import DAY_US
from feedback_lib.analysis.counts import person as person
from feedback_lib.analysis.counts import week_us as week_us
from feedback_lib.analysis.counts import weekly_counts as weekly_counts
from feedback_lib.analysis.counts import weekly_heard as weekly_heard
from feedback_lib.analysis.days import AFTER, Days, present
from feedback_lib.analysis.findings import KINDS as KINDS
from feedback_lib.analysis.findings import SPARK_WEEKS as SPARK_WEEKS
from feedback_lib.analysis.findings import TABLE as TABLE
from feedback_lib.analysis.findings import UPWARD as UPWARD
from feedback_lib.analysis.findings import error_name as error_name
from feedback_lib.analysis.rates import Floats
from feedback_lib.analysis.rates import benjamini_hochberg as benjamini_hochberg
from feedback_lib.analysis.rates import dispersion as dispersion
from feedback_lib.analysis.rates import rate_ratio as rate_ratio
from feedback_lib.analysis.rates import tails as tails
from feedback_lib.analysis.tallies import COLUMNS as COLUMNS
from feedback_lib.analysis.tallies import Frame as Frame
from feedback_lib.analysis.tallies import Stopped as Stopped
from feedback_lib.analysis.weeks import Comparison
from feedback_lib.analysis.weeks import TrendOptions as TrendOptions
from feedback_lib.analysis.weeks import compare as compare
from feedback_lib.analysis.weeks import power as power
from feedback_lib.records import MACHINES as MACHINES
from feedback_lib.records import WEEK_US, FindingRow, monday

HEARD = "people heard"
USUAL = TrendOptions()


class Deploy(NamedTuple):
    """A mark on the calendar: something was released."""

    at: dt.datetime
    version: str | None = None
    service: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Trends:
    """The answer for one week.

    Attributes:
        week: Monday of the report week.
        rows: One row per subject tested (``steady`` included) and per recurring error, findings first.
        table: One row per subject seen in the last 22 weeks, columns `TABLE`: kind is null when it was not tested ·
            exposed and baseline_exposed, what people are counted out of this week and per baseline week, so that ratio
            is (people / exposed) / (baseline_people / baseline_exposed), null when it was not tested ·
            day, of a spike · release, after which it rose · weeks_seen of the last weeks + 1 ·
            spark, people in 13 weeks, null where no data.
        recurring: The errors that keep coming back, same columns; people are voices, mentions and spark are of
            machines too, and ratio, low, high, p, q and what they come from are null.
        heard: People heard in each of 13 weeks, the report week last; None is no data.
        found: Topics that rose in each of the 13 weeks, by a kind of `UPWARD`; None where nothing could be tested.
        tested: Subjects in the family of the correction.
        baseline_weeks: Complete weeks with data before the report week, at most ``options.weeks``.
        abstained: Why nothing could be tested, as a sentence; None when it could.
        power_people: A typical topic's people per week; None when nothing was tested.
        power_ratio: The smallest growth of such a topic seen four times of five; None when none would be.
        stopped: Sources that stopped; they are left out of all weeks alike.
        missing_days: Days of the report week that are not over, or that nobody was heard on though people usually are.
        releases: The releases looked at, of the 14 days up to the end of the report week, by day.
        per: What rates are counted out of.
        options: What was asked for.
    """

    week: dt.date
    rows: tuple[FindingRow, ...]
    table: pl.DataFrame
    recurring: pl.DataFrame
    heard: tuple[float | None, ...]
    found: tuple[float | None, ...]
    tested: int
    baseline_weeks: int
    abstained: str | None
    power_people: int | None
    power_ratio: float | None
    stopped: tuple[Stopped, ...]
    missing_days: tuple[dt.date, ...]
    releases: tuple[tuple[dt.date, str], ...]
    per: str
    options: TrendOptions

    @property
    def findings(self) -> tuple[FindingRow, ...]:
        """Rows that say something: all but the steady ones."""
        return tuple(r for r in self.rows if r.kind != "steady")


def find(
    understood: Frame,
    week: dt.date,
    topics: pl.DataFrame,
    options: TrendOptions = USUAL,
    *,
    run_id: str,
    as_of: dt.datetime,
    exclude: Collection[tuple[str, str]] = (),
    deploys: Sequence[tuple[dt.datetime, str | None, str | None]] = (),
    exposure: pl.DataFrame | None = None,
    per: str = "exposure",
) -> pl.DataFrame:
    """What `analyse` found in one week, as rows of the table ``findings``, strongest first.

    Arguments as for `analyse`, which also says what was steady, how much was tested and what could have been seen.
    """
    told = analyse(
        understood, week, topics, options,
        run_id=run_id, as_of=as_of, exclude=exclude, deploys=deploys, exposure=exposure, per=per,
    )  # fmt: skip
    return records.frame("findings", told.findings)


def analyse(
    understood: Frame,
    week: dt.date,
    topics: pl.DataFrame,
    options: TrendOptions = USUAL,
    *,
    run_id: str = "",
    as_of: dt.datetime,
    exclude: Collection[tuple[str, str]] = (),
    deploys: Sequence[tuple[dt.datetime, str | None, str | None]] = (),
    exposure: pl.DataFrame | None = None,
    per: str = "exposure",
) -> Trends:
    """Compare one week with the weeks before, subject by subject.

    People's words are counted; what machines report (`MACHINES`) is no voice and counts only for recurring errors.

    Args:
        understood: One row per signal: uid, kind, origin, type, title, body, author, created_at_us, duplicate_of,
            topic_score and the columns of `SUBJECTS`; version where it is known. Signals after the week are not
            looked at.
        week: Any day of the report week.
        topics: The registry, for names; may be empty.
        options: What counts as a trend.
        run_id: Written into every row.
        as_of: Written into every row; days of the report week after it are not there yet.
        exclude: (kind, origin) of sources that could not be read: they are left out of all weeks alike, or what they
            usually say would look like falling.
        deploys: (at, version, service) of releases. Without any, the first day of each newer ``version`` is one, for
            subjects of which a third of this week's people name it.
        exposure: One row per day (and product_area or service): day Date · exposure, more than 0. Rates are then
            people per exposure; product areas with days of their own are counted out of them. Days without a row
            are no data.
        per: What the exposure is, such as "active users".

    Raises:
        ValueError: a column is missing; the message names it.
    """
    start = monday(week)
    end_us = tallies.micros(start) + WEEK_US
    seen = tallies.frame(understood, exclude).filter(nw.col("created_at_us") < end_us)
    span = SPARK_WEEKS + options.weeks + 1
    weeks_us = [end_us - WEEK_US * back for back in range(span, 0, -1)]
    stopped = tallies.stopped_sources(
        tallies.collected(counting.weekly_sources(counting.voices(seen))), weeks_us, options
    )
    seen = tallies.without(seen, [(s.kind, s.origin) for s in stopped])
    voices = counting.voices(seen)
    heard = tallies.series(tallies.collected(counting.weekly_heard(voices)), "people", weeks_us)
    counts = tallies.count(voices, weeks_us)
    marks = tallies.release_marks(seen, deploys, weeks_us[0], end_us, options)
    exposed_days = None if exposure is None else tallies.exposed_to(exposure, counts, weeks_us)
    exposed = None if exposed_days is None else exposed_days.reshape(len(exposed_days), -1, 7).sum(axis=2)
    days = Days(counts.days, tallies.days_heard(voices, weeks_us, as_of), tuple(marks), exposed_days)
    parts = np.array([t == "topic" for t, _ in counts.subjects], dtype=bool)
    comparisons = [
        compare(
            counts.people[:, :t], heard[:t], options,
            parts=parts, days=days.until(t), exposed=None if exposed is None else exposed[:, :t],
        )
        for t in range(span - SPARK_WEEKS + 1, span + 1)
    ]  # fmt: skip
    if comparisons[-1] is not None and marks and not deploys:
        comparisons[-1] = _by_version(comparisons[-1], counts, voices, tuple(marks.values()), end_us, options)
    kinds = [
        None if c is None else _kinds(counts, c, span - SPARK_WEEKS + n, weeks_us, options)
        for n, c in enumerate(comparisons)
    ]
    found = [None if k is None else float((np.isin(k, UPWARD) & parts).sum()) for k in kinds]
    now = comparisons[-1]
    table = findings.table(
        counts, heard, now, kinds[-1], weeks_us, findings.named(counts, topics, seen), marks, options
    )
    recurring = findings.recurring_errors(seen, counts, weeks_us, options)
    evidence = findings.evidence(seen, end_us, options)
    rates = HEARD if exposure is None else per
    stamp = {"week": start, "run_id": run_id, "updated_at": as_of, "per": rates}
    told = table.filter(pl.col("kind").is_not_null())
    told_rows = [findings.finding(r, evidence, stamp) for t in (told, recurring) for r in t.iter_rows(named=True)]
    tested = int(table["q"].count())
    usual, ratio = _power(table, heard, tested, options)
    return Trends(
        week=start,
        rows=tuple(sorted(told_rows, key=findings.strength)),
        table=table,
        recurring=recurring,
        heard=tuple(float(h) if h > 0 else None for h in heard[-SPARK_WEEKS:]),
        found=tuple(found),
        tested=tested,
        baseline_weeks=int((heard[-1 - options.weeks : -1] > 0).sum()),
        abstained=None if now is not None else _why_not(heard, exposed, options),
        power_people=usual,
        power_ratio=ratio,
        stopped=stopped,
        missing_days=_missing_days(days, now, start),
        releases=tuple(
            (tallies.date(weeks_us[0] + DAY_US * d), name) for d, name in marks.items() if d >= 7 * span - AFTER
        ),
        per=rates,
        options=options,
    )


def _missing_days(days: Days, now: Comparison | None, start: dt.date) -> tuple[dt.date, ...]:
    if now is None:
        return ()
    (part,) = present(days, [len(days.heard) // 7 - 1], now.base)
    heard = np.nan_to_num(days.heard[-7:])
    return tuple(start + dt.timedelta(days=d) for d in range(7) if part[d] < 1 and heard[d] == 0)


def _kinds(
    counts: tallies.Counts, now: Comparison, at: int, weeks_us: Sequence[int], options: TrendOptions
) -> NDArray[np.object_]:
    """The kind of each subject in the week at one place; None where it was not tested."""
    x = counts.people[:, at]
    usual = now.baseline / now.exposure[1]
    more = x / now.exposure[0] > usual
    sure = (now.q < options.q) & now.clear
    less = sure & ~more & (now.baseline / now.weeks >= options.min_people)
    up = sure & more & (x >= options.min_people)
    recent = counts.people[:, max(0, at - options.weeks) : at].sum(axis=1)
    fresh = (recent <= 1) | (counts.first_us >= weeks_us[at] - WEEK_US)
    kind = np.full(len(x), "steady", dtype=object)
    kind[less] = "falling"
    kind[less & (x == 0)] = "silent"
    kind[up] = "growing"
    kind[up & (now.release >= 0)] = "regression"
    kind[up & now.spike] = "spike"
    kind[up & fresh] = "new"
    kind[up & _returned(counts, at, options)] = "recurring"
    kind[np.isnan(now.q)] = None
    return kind


def _by_version(
    now: Comparison,
    counts: tallies.Counts,
    voices: nw.LazyFrame[Any],
    releases: Sequence[str],
    end_us: int,
    options: TrendOptions,
) -> Comparison:
    """The comparison without the releases that a subject's people hardly name: less than a third of this week's."""
    week = voices.filter(nw.col("created_at_us") >= end_us - WEEK_US)
    named = tallies.collected(counting.subject_versions(week))
    people = {(t, s, v): n for t, s, v, n in named.select("subject_type", "subject", "version", "people").iter_rows()}
    release = now.release.copy()
    for place, subject in enumerate(counts.subjects):
        if release[place] >= 0:
            most = max(people.get((*subject, version), 0) for version in releases[release[place]].split(", "))
            if most < max(options.min_people, counts.people[place, -1] / 3):
                release[place] = -1
    return dataclasses.replace(now, release=release)


def _returned(counts: tallies.Counts, at: int, options: TrendOptions) -> NDArray[np.bool_]:
    """Whether a subject that people spoke of was silent for half of the baseline's weeks until this week or last."""
    long = max(1, options.weeks // 2)
    back = np.zeros(len(counts.subjects), dtype=bool)
    for since in (at, at - 1):
        silent = counts.people[:, since - long : since].sum(axis=1) == 0
        before = counts.older + counts.people[:, : since - long].sum(axis=1)
        back |= silent & (before >= options.min_people) & (counts.people[:, since] > 0)
    return back


def _why_not(heard: Floats, exposed: Floats | None, options: TrendOptions) -> str:
    if not heard[-1] > 0:
        return "nobody was heard this week"
    if exposed is not None and not np.isfinite(exposed[:, -1]).all():
        return "the exposure of this week has days missing"
    has_data = heard[-1 - options.weeks : -1] > 0
    what = "data"
    if exposed is not None:
        has_data &= np.isfinite(exposed[:, -1 - options.weeks : -1]).all(axis=0)
        what = "data and exposure"
    have = int(has_data.sum())
    if not have:
        return f"no earlier week has {what}, {options.least_weeks} are needed"
    return f"only {have} earlier {'week has' if have == 1 else 'weeks have'} {what}, {options.least_weeks} are needed"


def _power(table: pl.DataFrame, heard: Floats, tested: int, options: TrendOptions) -> tuple[int | None, float | None]:
    """For a topic of typical size among the larger half: its people per week, and the growth that would be seen."""
    usual = table.filter(pl.col("subject_type") == "topic", pl.col("q").is_not_null())
    before = heard[-1 - options.weeks : -1]
    if not tested or usual.is_empty():
        return None, None
    typical = max(options.min_people, round(float(usual["baseline_people"].quantile(0.75) or 0)))
    spread = float(usual["dispersion"].median() or 1.0)  # type: ignore[arg-type]
    all_heard = max(float(typical), float(before[before > 0].mean()))
    return typical, power(typical, all_heard, tests=tested, dispersion=spread, options=options, daily=True)
