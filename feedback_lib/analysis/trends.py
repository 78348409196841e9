"""What is new, growing, falling or recurring this week, counted in people and tested so that it can say "nothing".

The question asked of each subject (a topic, a category, a product area, an error fingerprint) is whether its share of
all people heard this week differs from its share in the trailing complete weeks. In detail:

1. Given x people this week and b in the baseline, of n and N people heard, x is binomial of x + b with probability
   n / (n + N) when the share did not change (the conditional test of two Poisson rates).
2. Real counts scatter more than Poisson counts. The counts are divided by a dispersion of at least 1, estimated from
   the baseline weeks of all subjects together (`dispersion`); tails of real-valued counts come from the regularised
   incomplete beta function. One exact point counts half (mid-p).
3. The week alone and the last two weeks together are both compared with the weeks before, so that a growth that
   stays is found in its second week; the two are combined by the Cauchy rule, which allows for their correlation.
   A finding needs its q-value and a latest week that by itself differs from the weeks before (p < 0.05), so that a
   topic back to its usual size is not called growing for the week before.
4. All subjects of a run are one family for Benjamini-Hochberg.

A week without any signal is "no data" and is left out; it is not a week of zeros.

Sources: Przyborowski & Wilenski 1940 (conditional test); Clopper & Pearson 1934 (interval); McCullagh & Nelder 1989,
section 4.5 (dispersion); Liu & Xie 2020 (Cauchy combination); Benjamini & Hochberg 1995.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from feedback_lib import privacy, records
from feedback_lib.records import MACHINES as MACHINES
from feedback_lib.records import MONDAY_US, WEEK_US, FindingKind, FindingRow, SubjectType, monday

Floats = NDArray[np.float64]
Frame = nw.LazyFrame[Any] | pl.DataFrame | pl.LazyFrame

SUBJECTS: dict[SubjectType, str] = {
    "topic": "topic_id",
    "category": "category",
    "product_area": "product_area",
    "error": "fingerprint",
}
SPARK_WEEKS = 13
COLUMNS = {
    "uid",
    "kind",
    "origin",
    "type",
    "title",
    "body",
    "author",
    "created_at_us",
    "duplicate_of",
    "topic_score",
} | {*SUBJECTS.values()}
TABLE: dict[str, Any] = {
    "subject_type": pl.String,
    "subject": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "people": pl.Int64,
    "mentions": pl.Int64,
    "baseline_people": pl.Float64,
    "baseline_mentions": pl.Float64,
    "baseline_weeks": pl.Int64,
    "exposed": pl.Float64,
    "baseline_exposed": pl.Float64,
    "ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "q": pl.Float64,
    "dispersion": pl.Float64,
    "weeks_seen": pl.Int64,
    "first_week": pl.Date,
    "spark": pl.List(pl.Float64),
}
_ERROR = re.compile(r"\b(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Timeout|Interrupt|Failure|Panic)\b(?::.*)?")

# Chosen by simulation with 40 subjects of 1 to 25 people a week (tests/analysis/test_trends.py repeats it): 2 to 6 %
# of weeks raise an alarm at q = 0.05 for Poisson and negative binomial noise, and a doubling at 20 of 700 people is
# found within two weeks nine times of ten.
SKEW = 1.5  # negative binomial tails are longer on the right than scaled Poisson ones
OWN = 1.5  # a dispersion known from eight weeks only is uncertain itself
LEAST_SPREAD = 0.05  # a share near 1 has next to no variance left; never divide by less


@dataclasses.dataclass(frozen=True, slots=True)
class TrendOptions:
    """What counts as a trend.

    Attributes:
        weeks: Complete weeks before the report week that make the baseline.
        least_weeks: With fewer baseline weeks that hold data, nothing is tested.
        q: False discovery rate over all tests of a run.
        min_people: Fewer people than this never make a finding, nor a test over the whole window.
        recurring_weeks: An error recurs when it was seen in this many of the last ``weeks + 1`` weeks ...
        min_mentions: ... with at least this many mentions, the latest this week or last.
        level: Coverage of the intervals.
    """

    weeks: int = 8
    least_weeks: int = 3
    q: float = 0.05
    min_people: int = 3
    recurring_weeks: int = 3
    min_mentions: int = 5
    level: float = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class Trends:
    """The answer for one week.

    Attributes:
        week: Monday of the report week.
        rows: One row per subject tested (``steady`` included) and per recurring error, findings first.
        table: One row per subject seen in the last 22 weeks, columns `TABLE`: kind is null when it was not tested ·
            exposed and baseline_exposed, the people compared with this week and per baseline week, so that ratio is
            (people / exposed) / (baseline_people / baseline_exposed), null when it was not tested ·
            weeks_seen of the last weeks + 1 · spark, people in 13 weeks, null where no data.
        recurring: The errors that keep coming back, same columns; people are voices, mentions and spark are of
            machines too, and ratio, low, high, p, q and what they come from are null.
        heard: People heard in each of 13 weeks, the report week last; None is no data.
        found: New or growing topics in each of the 13 weeks; None where nothing could be tested.
        tested: Subjects in the family of the correction.
        baseline_weeks: Complete weeks with data before the report week, at most ``options.weeks``.
        abstained: Why nothing could be tested, as a sentence; None when it could.
        power_people: A typical topic's people per week; None when nothing was tested.
        power_ratio: The smallest growth of such a topic seen four times of five; None when none would be.
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
    options: TrendOptions

    @property
    def findings(self) -> tuple[FindingRow, ...]:
        """Rows that say something: all but the steady ones."""
        return tuple(r for r in self.rows if r.kind != "steady")


# Counting: lazy, the same on every engine


def person() -> nw.Expr:
    """Who spoke: the author, or the signal itself where the author is unknown (unknown people are not one person)."""
    return nw.coalesce(nw.col("author"), nw.concat_str(nw.lit("signal "), nw.col("uid")))


def week_us() -> nw.Expr:
    """Monday 00:00 UTC of ``created_at_us``, in microseconds since the epoch."""
    return nw.col("created_at_us") - (nw.col("created_at_us") - MONDAY_US) % WEEK_US


def weekly_counts(signals: nw.LazyFrame[Any], subject: str) -> nw.LazyFrame[Any]:
    """People and mentions per week of each value of one column.

    Duplicates count: their people are people, and each is a mention.

    Args:
        signals: One row per signal with uid, author, created_at_us and the subject's column.
        subject: The column that names the subject, such as ``topic_id``. Rows without one are left out.

    Returns:
        One row per (week, subject), in no order: week_us Int64 · <subject> · people · mentions.
    """
    return (
        signals.filter(~nw.col(subject).is_null())
        .select(week_us().alias("week_us"), nw.col(subject), person().alias("person"))
        .group_by("week_us", subject)
        .agg(nw.col("person").n_unique().alias("people"), nw.len().alias("mentions"))
    )


def weekly_heard(signals: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """People and mentions per week over all signals: week_us Int64 · people · mentions."""
    return (
        signals.select(week_us().alias("week_us"), person().alias("person"))
        .group_by("week_us")
        .agg(nw.col("person").n_unique().alias("people"), nw.len().alias("mentions"))
    )


# Statistics: numbers in, numbers out


def rate_ratio(
    x: float, exposure: float, b: float, baseline_exposure: float, *, dispersion: float = 1.0, level: float = 0.95
) -> tuple[float | None, float | None, float | None]:
    """The rate x / exposure over the rate b / baseline_exposure, with its interval.

    Args:
        x: Count now; need not be whole.
        exposure: What it is counted out of: people heard, or a length of time. More than 0.
        b: Count in the baseline.
        baseline_exposure: Its exposure, more than 0.
        dispersion: Variance over Poisson variance; counts are divided by it.
        level: Coverage of the interval.

    Returns:
        ratio, low, high: plain ratios, not rounded, each finite or None. Ratio and high are None when ``b`` is 0 (there
        is no upper limit), low is 0 when ``x`` is 0. An end is None as well when counts over dispersion are so small
        or so large that it exceeds what a float holds.

    Raises:
        ValueError: an exposure is not more than 0, or a count is negative.

    Source: Clopper & Pearson 1934 on the conditional binomial of Przyborowski & Wilenski 1940.
    """
    from scipy import special

    if exposure <= 0 or baseline_exposure <= 0:
        raise ValueError(f"exposures must be more than 0, got {exposure} and {baseline_exposure}")
    if x < 0 or b < 0:
        raise ValueError(f"counts must not be negative, got {x} and {b}")
    tail = (1 - level) / 2
    scale = baseline_exposure / exposure
    xs, bs = x / dispersion, b / dispersion
    low = _odds(special.betaincinv(xs, bs + 1, tail), scale) if x > 0 else 0.0
    if b == 0:
        return None, low, None
    ratio = x / b * scale
    high = _odds(special.betaincinv(xs + 1, bs, 1 - tail), scale) if bs > 0 else None
    return ratio if np.isfinite(ratio) else None, low, high


def _odds(share: float, scale: float) -> float | None:
    """The odds of a share, times the scale; None where that is no finite number."""
    odds = float(share) / (1 - float(share)) * scale if share < 1 else np.inf
    return odds if np.isfinite(odds) else None


def tails(x: Floats, b: Floats, share: float | Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Mid-p of a growth and of a fall, given x of x + b where ``share`` was to be expected.

    Args:
        x: (subjects,) people now.
        b: (subjects,) people in the baseline.
        share: Exposure now as a share of all exposure, 0–1.
        spread: (subjects,) what counts are divided by.

    Returns:
        up and down, (subjects,), which add up to 1.
    """
    from scipy import special

    xs, bs = x / spread, b / spread
    tiny = 1e-12
    at_least = np.where(x > 0, special.betainc(np.maximum(xs, tiny), bs + 1, share), 1.0)
    more = np.where(b > 0, special.betainc(xs + 1, np.maximum(bs, tiny), share), 0.0)
    down_at_least = np.where(b > 0, special.betainc(np.maximum(bs, tiny), xs + 1, 1 - share), 1.0)
    less = np.where(x > 0, special.betainc(bs + 1, np.maximum(xs, tiny), 1 - share), 0.0)
    return (at_least + more) / 2, (down_at_least + less) / 2


def dispersion(people: Floats, heard: Floats) -> Floats:
    """How much more than Poisson counts the baseline weeks of each subject scatter.

    Pearson's estimate from eight weeks is itself a noisy number, so subjects share one: a straight line over their
    mean, which covers both a constant factor and negative binomial noise; it is 1 unless the whole table scatters by
    two standard errors more than Poisson. A subject that scatters clearly more than that (1 % point) is given its
    own. Single weeks are clipped at three standard deviations so that one past event does not hide the next.

    Args:
        people: (subjects, weeks) people in the baseline weeks.
        heard: (weeks,) all people heard.

    Returns:
        (subjects,) factors, at least 1.
    """
    from scipy import special

    weeks = people.shape[1]
    free = weeks - 1
    share = people.sum(axis=1) / heard.sum()
    expected = share[:, None] * heard
    variance = expected * np.maximum(1 - share, LEAST_SPREAD)[:, None]
    squares = np.divide((people - expected) ** 2, variance, out=np.zeros_like(people), where=variance > 0)
    mean = expected.mean(axis=1)
    usable = mean >= 0.5
    pooled = np.ones(len(people))
    limit = 1 + 2 * np.sqrt(2 / max(1, usable.sum() * free))
    if usable.sum() >= 5 and np.minimum(squares[usable], 9).sum() / (usable.sum() * free) >= limit:
        raw = squares.sum(axis=1) / free
        pooled = _line(mean, np.minimum(raw, 5 * np.median(raw[usable])), usable)
        pooled = _line(mean, np.minimum(squares, 9 * pooled[:, None]).sum(axis=1) / free, usable)
    own = np.minimum(squares, 9 * pooled[:, None]).sum(axis=1) / free
    wild = own > special.chdtri(free, 0.01) / free * pooled
    found = np.where(wild, OWN * own, pooled)
    return np.asarray(1 + (np.maximum(found, 1) - 1) * SKEW)


def _line(mean: Floats, factors: Floats, usable: NDArray[np.bool_]) -> Floats:
    """1 + a + c * mean with a, c >= 0, fitted to the usable factors with weights 1 / fit."""
    from scipy import optimize

    design = np.stack([np.ones(usable.sum()), mean[usable]], axis=1)
    excess = factors[usable] - 1
    fit = np.ones(len(excess))
    for _ in range(3):
        slope, _ = optimize.nnls(design / fit[:, None], excess / fit)
        fit = 1 + design @ slope
    return np.asarray(1 + slope[0] + slope[1] * mean)


def benjamini_hochberg(p: Floats) -> Floats:
    """q-values: the smallest false discovery rate at which each test would be reported.

    Source: Benjamini & Hochberg 1995, as adjusted p-values.

    >>> benjamini_hochberg(np.array([0.25, 0.01, 0.5])).round(3).tolist()
    [0.375, 0.03, 0.5]
    """
    if len(p) == 0:
        return p
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One week against its baseline; each array is (subjects,), p and q NaN where the subject was not tested."""

    p: Floats
    q: Floats
    clear: NDArray[np.bool_]  # the latest week alone differs from one of the baselines, at the level of the interval
    spread: Floats  # what counts are divided by
    dispersion: Floats
    baseline: Floats  # people in all baseline weeks
    weeks: int  # baseline weeks
    exposure: tuple[float, float]  # people heard this week and in all baseline weeks, see `_exposure`


def compare(
    people: Floats,
    heard: Floats,
    options: TrendOptions = TrendOptions(),
    *,
    parts: NDArray[np.bool_] | None = None,
) -> Comparison | None:
    """Test every subject's share of the last week against the weeks before.

    Args:
        people: (subjects, weeks) people per week, oldest first, the report week last.
        heard: (weeks,) all people heard; 0 or NaN is a week without data.
        options: The baseline's length, ``q`` and ``min_people`` are used.
        parts: (subjects,) which of the subjects hardly overlap, such as topics; default all.

    Returns:
        p (two-sided) and q, or None when there are too few weeks with data to say anything.
    """
    if len(heard) == 0 or not heard[-1] > 0:
        return None
    parts = np.ones(len(people), dtype=bool) if parts is None else parts
    ups, downs, found = [], [], []
    clear = np.zeros(len(people), dtype=bool)
    last = len(heard) - 1
    for width in (1, 2):
        now = list(range(last - width + 1, last + 1))
        base = [i for i in range(max(0, now[0] - options.weeks), now[0]) if heard[i] > 0]
        if len(base) < options.least_weeks or not all(i >= 0 and heard[i] > 0 for i in now):
            continue
        phi = dispersion(people[:, base], heard[base])
        x, b = people[:, now].sum(axis=1), people[:, base].sum(axis=1)
        exposure, spread = _exposure(x, b, heard[now].sum(), heard[base].sum(), phi, parts)
        up, down = tails(x, b, exposure[0] / sum(exposure), spread)
        ups.append(up)
        downs.append(down)
        found.append((b, len(base), phi, exposure, spread))
        latest = people[:, last]
        alone, spread = _exposure(latest, b, heard[last], heard[base].sum(), phi, parts)
        clear |= 2 * np.minimum(*tails(latest, b, alone[0] / sum(alone), spread)) < 1 - options.level
    if not found:
        return None
    before, weeks, phi, exposure, spread = found[0]
    tested = people[:, last] + before >= options.min_people
    p = np.where(tested, np.minimum(1.0, 2 * np.minimum(_cauchy(ups), _cauchy(downs))), np.nan)
    q = np.full(len(p), np.nan)
    q[tested] = benjamini_hochberg(p[tested])
    return Comparison(p, q, clear, spread, phi, before, weeks, exposure)


def _exposure(
    x: Floats, b: Floats, n: float, baseline_n: float, phi: Floats, parts: NDArray[np.bool_]
) -> tuple[tuple[float, float], Floats]:
    """People heard now and in the baseline, without those of topics that moved by themselves, and the spread.

    When one topic doubles the week's mail, every other share halves though nobody speaks less of it. So the part that
    differs most from all the others is set aside, again and again until the rest agree (p >= 0.01), as is done when
    gene counts are compared (Robinson & Oshlack 2010).

    The spread is the variance of x over that of a Poisson count: a count within its exposure has the variance of a
    share (1 - share), one set aside also carries the noise of what it is compared with (1 + share).
    """
    aside = np.zeros(len(x), dtype=bool)
    while aside.sum() < parts.sum() / 3:
        rest = n - x[aside].sum() - x
        rest_before = baseline_n - b[aside].sum() - b
        candidates = parts & ~aside & (rest >= n / 4) & (rest_before >= baseline_n / 4)
        if not candidates.any():
            break
        rest, rest_before = np.maximum(rest, 1), np.maximum(rest_before, 1)
        spread = phi * (1 + (x + b) / (rest + rest_before))
        up, down = tails(x, b, rest / (rest + rest_before), spread)
        p = np.where(candidates, np.minimum(up, down), 1.0)
        if p.min() >= 0.005:
            break
        aside[int(p.argmin())] = True
    exposure = float(n - x[aside].sum()), float(baseline_n - b[aside].sum())
    share = (x + b) / sum(exposure)
    within = ~aside & parts if aside.any() else ~aside
    return exposure, phi * np.where(within, np.maximum(1 - share, LEAST_SPREAD), 1 + share)


def _cauchy(ps: Sequence[Floats]) -> Floats:
    """One p-value of several correlated ones. Source: Liu & Xie 2020, equal weights."""
    if len(ps) == 1:
        return ps[0]
    statistic = np.mean([1 / np.tan(np.pi * np.clip(p, 1e-300, 1 - 1e-9)) for p in ps], axis=0)
    return np.asarray(np.arctan2(1.0, statistic) / np.pi)


def power(
    people: float, heard: float, *, tests: int, dispersion: float = 1.0, options: TrendOptions = TrendOptions()
) -> float | None:
    """The smallest growth of a topic of so many people a week that would be seen in its first week, four times of five.

    Args:
        people: The topic's usual people per week, more than 0.
        heard: All people usually heard per week, at least ``people``.
        tests: Subjects tested together; the topic is taken to be the only one that grew.
        dispersion: Variance over Poisson variance.
        options: Weeks, q and min_people.

    Returns:
        A ratio such as 2.1, to within 0.01, or None when even 50 times as many people would be missed.

    Raises:
        ValueError: ``people`` is not more than 0 or more than ``heard``.
    """
    from scipy import special

    if not 0 < people <= heard:
        raise ValueError(f"people must be more than 0 and at most heard, got {people} of {heard}")
    limit = options.q / max(1, tests) / 2  # the two windows share it
    before = people * options.weeks
    # the baseline is a draw too: nine equally likely values of it
    baselines = np.maximum(0, before + np.sqrt(before * dispersion) * special.ndtri((np.arange(9) + 0.5) / 9))
    counts = np.arange(options.min_people, np.ceil(50 * people + 50), dtype=float)
    now, then = heard - people + counts, heard * options.weeks
    least = []
    for b in baselines:
        spread = dispersion * np.maximum(1 - (counts + b) / (now + then), LEAST_SPREAD)
        up, _ = tails(counts, np.full_like(counts, b), now / (now + then), spread)
        enough = np.flatnonzero(2 * up <= limit)
        least.append(counts[enough[0]] if len(enough) else np.inf)
    reachable = np.array([c for c in least if np.isfinite(c)])

    def seen(ratio: float) -> float:
        return float(special.gammainc(reachable / dispersion, people * ratio / dispersion).sum() / len(least))

    if seen(50.0) < 0.8:
        return None
    low, high = 1.0, 50.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) >= 0.8 else (middle, high)
    return high


# One week's answer


def find(
    understood: Frame,
    week: dt.date,
    topics: pl.DataFrame,
    options: TrendOptions = TrendOptions(),
    *,
    run_id: str,
    as_of: dt.datetime,
    exclude: Collection[tuple[str, str]] = (),
) -> pl.DataFrame:
    """What is new, growing, falling or recurring in one week, as rows of the table ``findings``, strongest first.

    Arguments as for `analyse`, which also says what was steady, how much was tested and what could have been seen.
    """
    found = analyse(understood, week, topics, options, run_id=run_id, as_of=as_of, exclude=exclude).findings
    return records.frame("findings", found)


def analyse(
    understood: Frame,
    week: dt.date,
    topics: pl.DataFrame,
    options: TrendOptions = TrendOptions(),
    *,
    run_id: str = "",
    as_of: dt.datetime,
    exclude: Collection[tuple[str, str]] = (),
) -> Trends:
    """Compare one week with the trailing complete weeks, subject by subject.

    People's words are counted; what machines report (`MACHINES`) is no voice and counts only for recurring errors.

    Args:
        understood: One row per signal: uid, kind, origin, type, title, body, author, created_at_us, duplicate_of,
            topic_score and the columns of `SUBJECTS`. Signals after the week are not looked at.
        week: Any day of the report week.
        topics: The registry, for names; may be empty.
        options: What counts as a trend.
        run_id: Written into every row.
        as_of: Written into every row.
        exclude: (kind, origin) of sources that could not be read: they are left out of all weeks alike, or what they
            usually say would look like falling.

    Raises:
        ValueError: a column is missing; the message names it.
    """
    start = monday(week)
    end_us = _micros(start) + WEEK_US
    seen = _frame(understood, exclude).filter(nw.col("created_at_us") < end_us)
    voices = seen.filter(~nw.col("type").is_in(MACHINES))
    span = SPARK_WEEKS + options.weeks + 1
    weeks_us = [end_us - WEEK_US * back for back in range(span, 0, -1)]
    heard = _series(weekly_heard(voices).collect().to_polars(), "people", weeks_us)
    counts = _count(voices, weeks_us)
    parts = np.array([t == "topic" for t, _ in counts.subjects], dtype=bool)
    comparisons = [
        compare(counts.people[:, :t], heard[:t], options, parts=parts) for t in range(span - SPARK_WEEKS + 1, span + 1)
    ]
    kinds = [
        None if c is None else _kinds(counts, c, span - SPARK_WEEKS + n, weeks_us, options)
        for n, c in enumerate(comparisons)
    ]
    found = [None if k is None else float((np.isin(k, ("new", "growing")) & parts).sum()) for k in kinds]
    table = _table(counts, heard, comparisons[-1], kinds[-1], weeks_us, _names(counts, topics, seen), options)
    recurring = _recurring(seen, counts, weeks_us, options)
    evidence = _evidence(seen, end_us, options)
    rows = [
        _row(r, evidence, start, run_id, as_of)
        for r in table.filter(pl.col("kind").is_not_null()).iter_rows(named=True)
    ]
    rows += [_row(r, evidence, start, run_id, as_of) for r in recurring.iter_rows(named=True)]
    tested = int(table["q"].count())
    usual, ratio = _power(table, heard, tested, options)
    return Trends(
        week=start,
        rows=tuple(sorted(rows, key=_strength)),
        table=table,
        recurring=recurring,
        heard=tuple(float(h) if h > 0 else None for h in heard[-SPARK_WEEKS:]),
        found=tuple(found),
        tested=tested,
        baseline_weeks=int((heard[-1 - options.weeks : -1] > 0).sum()),
        abstained=None if comparisons[-1] is not None else _why_not(heard, options),
        power_people=usual,
        power_ratio=ratio,
        options=options,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Counts:
    subjects: list[tuple[SubjectType, str]]
    people: Floats  # (subjects, weeks)
    mentions: Floats
    first_us: NDArray[np.int64]  # Monday of the first week a subject was ever seen in


def _frame(understood: Frame, exclude: Collection[tuple[str, str]]) -> nw.LazyFrame[Any]:
    frame = nw.from_native(understood).lazy()
    missing = sorted(COLUMNS - set(frame.collect_schema().names()))
    if missing:
        raise ValueError(f"the understood frame has no column {', '.join(missing)}")
    for kind, origin in exclude:
        frame = frame.filter(~((nw.col("kind") == kind) & (nw.col("origin") == origin)))
    return frame


def _micros(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * 86_400_000_000


def _day(us: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=us // 86_400_000_000)


def _series(counted: pl.DataFrame, column: str, weeks_us: Sequence[int]) -> Floats:
    by_week = dict(counted.select("week_us", column).iter_rows())
    return np.array([by_week.get(w, 0) for w in weeks_us], dtype=float)


def _count(voices: nw.LazyFrame[Any], weeks_us: Sequence[int]) -> _Counts:
    """Every subject of every type that was seen in the weeks, sorted."""
    subjects: list[tuple[SubjectType, str]] = []
    people, mentions, first = [], [], []
    place = {w: i for i, w in enumerate(weeks_us)}
    for subject_type, column in SUBJECTS.items():
        counted = weekly_counts(voices.with_columns(nw.col(column).cast(nw.String)), column).collect().to_polars()
        for (subject,), part in sorted(
            counted.partition_by(column, as_dict=True).items(), key=lambda item: str(item[0])
        ):
            rows = [r for r in part.select("week_us", "people", "mentions").iter_rows() if r[0] in place]
            if not rows:
                continue
            line = np.zeros((2, len(weeks_us)))
            for week, heard, said in rows:
                line[:, place[week]] = heard, said
            subjects.append((subject_type, str(subject)))
            people.append(line[0])
            mentions.append(line[1])
            first.append(part["week_us"].min())
    shape = (len(subjects), len(weeks_us))
    return _Counts(subjects, np.reshape(people, shape), np.reshape(mentions, shape), np.array(first, dtype=np.int64))


def _kinds(
    counts: _Counts, now: Comparison, at: int, weeks_us: Sequence[int], options: TrendOptions
) -> NDArray[np.object_]:
    """The kind of each subject in the week at one place; None where it was not tested."""
    x = counts.people[:, at]
    usual = now.baseline / now.exposure[1]
    more = x / now.exposure[0] > usual
    sure = (now.q < options.q) & now.clear
    enough = x >= options.min_people
    fresh = (now.baseline <= 1) | (counts.first_us >= weeks_us[at] - WEEK_US)
    kind = np.full(len(x), "steady", dtype=object)
    kind[sure & ~more & (now.baseline / now.weeks >= options.min_people)] = "falling"
    kind[sure & more & enough] = "growing"
    kind[sure & more & enough & fresh] = "new"
    kind[np.isnan(now.q)] = None
    return kind


def _names(counts: _Counts, topics: pl.DataFrame, seen: nw.LazyFrame[Any]) -> dict[tuple[str, str], str]:
    known = {str(k): str(v) for k, v in topics.select("topic_id", "name").iter_rows()}
    names = {(t, s): known.get(s, f"topic {s}") if t == "topic" else s.replace("_", " ") for t, s in counts.subjects}
    return names | _error_names(seen)


def _error_names(seen: nw.LazyFrame[Any]) -> dict[tuple[str, str], str]:
    """An error is called by the error line of the first signal that showed it."""
    firsts = (
        seen.filter(~nw.col("fingerprint").is_null())
        .select("fingerprint", "created_at_us", "uid", "title", "body")
        .collect()
        .to_polars()
        .sort("created_at_us", "uid")
        .unique("fingerprint", keep="first", maintain_order=True)
    )
    return {("error", f): privacy.redact(error_name(f"{title}\n{body}")) for f, _, _, title, body in firsts.iter_rows()}


def error_name(text: str) -> str:
    r"""The line of a text that names its error, else its first line; at most 80 characters.

    >>> error_name("It broke\nTraceback (most recent call last):\n  ...\nKeyError: 'region'")
    "KeyError: 'region'"
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [found.group() for line in lines if (found := _ERROR.search(line))]
    name = (named[-1] if named else lines[0] if lines else "error").strip(" .:`*")
    return name if len(name) <= 80 else f"{name[:79].rstrip()}…"


def _table(
    counts: _Counts,
    heard: Floats,
    now: Comparison | None,
    kinds: NDArray[np.object_] | None,
    weeks_us: Sequence[int],
    names: Mapping[tuple[str, str], str],
    options: TrendOptions,
) -> pl.DataFrame:
    base = [i for i in range(len(heard) - 1 - options.weeks, len(heard) - 1) if heard[i] > 0]
    rows = []
    for i, (subject_type, subject) in enumerate(counts.subjects):
        people, mentions = counts.people[i], counts.mentions[i]
        tested = now is not None and bool(np.isfinite(now.q[i]))
        ratio, low, high, n, before = None, None, None, None, None
        if now is not None and tested:
            n, before = now.exposure
            ratio, low, high = rate_ratio(
                people[-1], n, now.baseline[i], before, dispersion=float(now.spread[i]), level=options.level
            )
        rows.append(
            {
                "subject_type": subject_type,
                "subject": subject,
                "name": names[subject_type, subject],
                "kind": None if kinds is None else kinds[i],
                "people": int(people[-1]),
                "mentions": int(mentions[-1]),
                "baseline_people": float(people[base].mean()) if base else None,
                "baseline_mentions": float(mentions[base].mean()) if base else None,
                "baseline_weeks": len(base),
                "exposed": n,
                "baseline_exposed": before / now.weeks if now is not None and before is not None else None,
                "ratio": ratio,
                "low": low,
                "high": high,
                "p": float(now.p[i]) if now is not None and tested else None,
                "q": float(now.q[i]) if now is not None and tested else None,
                "dispersion": float(now.dispersion[i]) if now is not None else None,
                "weeks_seen": int((mentions[-1 - options.weeks :] > 0).sum()),
                "first_week": _day(int(counts.first_us[i])),
                "spark": _spark(people, heard),
            }
        )
    return pl.DataFrame(rows, schema=TABLE, orient="row")


def _spark(counted: Floats, heard: Floats) -> list[float | None]:
    return [float(c) if h > 0 else None for c, h in zip(counted[-SPARK_WEEKS:], heard[-SPARK_WEEKS:], strict=True)]


def _recurring(
    seen: nw.LazyFrame[Any], counts: _Counts, weeks_us: Sequence[int], options: TrendOptions
) -> pl.DataFrame:
    """Errors that keep coming back, said by people or hit by machines.

    People are voices only; mentions and ``spark`` are of all. A share of all people says nothing about machines, so
    there is no ratio and no test.
    """
    everything = weekly_counts(seen, "fingerprint").collect().to_polars()
    heard = _series(weekly_heard(seen).collect().to_polars(), "mentions", weeks_us)
    voices = dict(zip(counts.subjects, counts.people, strict=True))
    names = _error_names(seen)
    blank: dict[str, Any] = dict.fromkeys(TABLE)
    window = slice(-1 - options.weeks, None)
    base = [i for i in range(len(heard) - 1 - options.weeks, len(heard) - 1) if heard[i] > 0]
    rows = []
    for (fingerprint,), part in sorted(everything.partition_by("fingerprint", as_dict=True).items(), key=str):
        subject = str(fingerprint)
        mentions = _series(part, "mentions", weeks_us)
        people = voices.get(("error", subject), np.zeros(len(weeks_us)))
        weeks_seen = int((mentions[window] > 0).sum())
        lately = mentions[-2:].sum() > 0
        if weeks_seen < options.recurring_weeks or mentions[window].sum() < options.min_mentions or not lately:
            continue
        rows.append(
            blank
            | {
                "subject_type": "error",
                "subject": subject,
                "name": names["error", subject],
                "kind": "recurring",
                "people": int(people[-1]),
                "mentions": int(mentions[-1]),
                "baseline_people": float(people[base].mean()) if base else None,
                "baseline_mentions": float(mentions[base].mean()) if base else None,
                "baseline_weeks": len(base),
                "weeks_seen": weeks_seen,
                "first_week": _day(int(part["week_us"].min())),  # type: ignore[arg-type]
                "spark": _spark(mentions, heard),
            }
        )
    return pl.DataFrame(rows, schema=TABLE, orient="row").sort(
        "weeks_seen", "mentions", "subject", descending=[True, True, False]
    )


def _evidence(seen: nw.LazyFrame[Any], end_us: int, options: TrendOptions) -> pl.DataFrame:
    """Uids of each subject in the window, best evidence first: this week's, originals, most central, oldest."""
    columns = list(SUBJECTS.values())
    rows = (
        seen.filter(nw.col("created_at_us") >= end_us - WEEK_US * (options.weeks + 1))
        .select("uid", "created_at_us", "duplicate_of", "topic_score", *columns)
        .collect()
        .to_polars()
        .with_columns(now=pl.col("created_at_us") >= end_us - WEEK_US)
    )
    order = ["now", pl.col("duplicate_of").is_null(), pl.col("topic_score").fill_null(0), "created_at_us", "uid"]
    rows = rows.sort(order, descending=[True, True, True, False, False])
    return pl.concat(
        rows.filter(pl.col(c).is_not_null()).select(
            pl.lit(t).alias("subject_type"), pl.col(c).cast(pl.String).alias("subject"), "uid", "now"
        )
        for t, c in SUBJECTS.items()
    )


def _row(
    found: Mapping[str, Any], evidence: pl.DataFrame, week: dt.date, run_id: str, as_of: dt.datetime
) -> FindingRow:
    kind: FindingKind = found["kind"]
    mine = evidence.filter((pl.col("subject_type") == found["subject_type"]) & (pl.col("subject") == found["subject"]))
    # what fell or comes back has its evidence in the weeks before
    uids = mine["uid"] if kind in ("falling", "recurring") else mine.filter("now")["uid"]
    series = "recurring" if kind == "recurring" else "trend"
    key = "\0".join((series, found["subject_type"], found["subject"], week.isoformat()))
    return FindingRow(
        finding_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        week=week,
        evidence=tuple(uids),
        origins=(),
        per="people heard",
        release=None,
        updated_at=as_of,
        run_id=run_id,
        **{
            c: found[c]
            for c in (
                "kind", "subject_type", "subject", "name", "people", "mentions", "baseline_people",
                "baseline_mentions", "baseline_weeks", "ratio", "low", "high", "p", "q",
            )
        },
    )  # fmt: skip


def _strength(row: FindingRow) -> tuple[int, int, float, int, str]:
    """New before growing before recurring before falling, topics first, surest first."""
    kinds = ("new", "growing", "recurring", "falling", "steady")
    types = tuple(SUBJECTS)
    return (
        kinds.index(row.kind),
        types.index(row.subject_type),
        1.0 if row.q is None else row.q,
        -row.people,
        row.subject,
    )


def _why_not(heard: Floats, options: TrendOptions) -> str:
    if not heard[-1] > 0:
        return "nobody was heard this week"
    have = int((heard[-1 - options.weeks : -1] > 0).sum())
    if not have:
        return f"no earlier week has data, {options.least_weeks} are needed"
    return f"only {have} earlier {'week has' if have == 1 else 'weeks have'} data, {options.least_weeks} are needed"


def _power(table: pl.DataFrame, heard: Floats, tested: int, options: TrendOptions) -> tuple[int | None, float | None]:
    """For a topic of typical size among the larger half: its people per week, and the growth that would be seen."""
    usual = table.filter(pl.col("subject_type") == "topic", pl.col("q").is_not_null())
    before = heard[-1 - options.weeks : -1]
    if not tested or usual.is_empty():
        return None, None
    typical = max(options.min_people, round(float(usual["baseline_people"].quantile(0.75) or 0)))
    spread = float(usual["dispersion"].median() or 1.0)  # type: ignore[arg-type]
    all_heard = max(float(typical), float(before[before > 0].mean()))
    return typical, power(typical, all_heard, tests=tested, dispersion=spread, options=options)
