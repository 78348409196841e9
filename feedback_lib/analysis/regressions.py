"""Regressions: "p99 latency of spec-core-001 rose by 20 % over the last 7 days", and nothing when nothing happened.

One series of measurements in, one answer out. A week on its own says little: there is a daily and a weekly rhythm,
slow drift, incidents that are over, and a quiet week before looks like a rise after. So:

1. Hourly medians of the values, as logarithms, so that a change is a ratio. Days and weeks are counted back from
   ``as_of``; a value speaks of the time that ends at its moment.
2. The rhythm of the week (168 hours) is subtracted. It is learnt by median polish on the weeks before the last
   days, with a level for every week, so that neither drift nor what is looked for gets into it.
3. Daily medians of what remains: an incident of a few hours is gone.
4. A change point in the last days, by E-divisive with a permutation test: the energy distance between what lies
   before and after sees any change of distribution, and a stretch after it may be anything.
5. **And** a robust tail test: one of the tails of 2, 3, 5 and 7 days against the 28 days before the change (or the
   days since the previous change point, when they are 14 or more), with a scale from how much such blocks differed
   from their past before. The lower bound must exceed ``floor``, the estimate reach ``estimate``, and the latest day
   must still be above ``floor``: an incident that is over is no regression.

Either test alone raises false alarms the other does not have: see docs/decisions/0006-regressions.md for the
measurements and `benchmarks/regressions.py` for the simulator.

A value of zero has no logarithm. A series that reaches zero (error ratios) gets an offset, the median of its positive
hours, and where more than a tenth of the values are zero the hours are means; levels and ratios are told without the
offset, and the result's notes say so. Availability is watched through the error ratio: 99.9 % falling to 99.5 % is
five times the errors and 0.4 % less availability.

Sources: Matteson & James 2014, "A nonparametric approach for multiple change point analysis of multivariate data"
(E-divisive); Fleming et al. 2023, "Hunter" (change points of performance series in practice); Tukey 1977 (median
polish).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Direction = Literal["up", "down", "both"]
Frame = nw.LazyFrame[Any] | nw.DataFrame[Any] | pl.DataFrame | pl.LazyFrame

HOUR_US = 3_600_000_000
WEEK_HOURS = 168
LEAST_HOURS = 6  # a day with fewer hours of data is no day: an incident of 6 hours would be most of it
LEAST_DAYS = 2  # fewer days with data in the last days decide nothing; also the shortest stretch E-divisive looks at
LEAST_SEEN = 2  # an hour of the week the baseline saw less often has no profile and is left out
SLACK_DAYS = 1  # a change point this much before the last days counts: daily blocks blur the moment
STRETCH_DAYS = 14  # days since the previous change point that make a baseline of their own
NULL_DAYS = 14  # days of past a historical block needs before its difference counts
LEAST_SCALE = 0.02  # in log: nobody's level is steadier than 2 %; costs no power, as 5 % + 2 × 2 % is under 10 %
SPARSE = 0.1  # above this share of zeros an hourly median is blind, and hours are means
SEEN = 2.5  # standard deviations a change must exceed what is needed, to be seen in 87 % of runs (measured)
BATCH = 100  # permutations at a time: 57 × 57 × 100 doubles are 2.6 MB


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegressionOptions:
    """What counts as a regression.

    Attributes:
        days: The last days looked at; a change point must lie in them.
        weeks: Weeks of history read, the last days included.
        min_days: With fewer days of data before the last days nothing is tested.
        baseline: Days before the change that make the level it is compared with.
        tails: Days of the tails tested; longer ones than ``days`` are left out.
        floor: The lower bound must exceed this, as a ratio minus 1.
        estimate: The estimate must reach this, as a ratio minus 1.
        z: Standard deviations between an estimate and the lower bound that must exceed ``floor``.
        z_told: The same for the interval that is told. The deviation comes from few blocks, so that at 2 the truth was
            under the lower bound in 7 to 13 % of simulated steps of 20 %, at 2.5 in 4 to 8 %.
        p: Significance of the permutation test of a change point.
        seed: Of the permutations: the same series always gets the same answer.
        direction: What "worse" is: "up" for latency and error ratios, "down" for throughput, or "both".
    """

    days: int = 7
    weeks: int = 8
    min_days: int = 28
    baseline: int = 28
    tails: tuple[int, ...] = (2, 3, 5, 7)
    floor: float = 0.05
    estimate: float = 0.10
    z: float = 2.0
    z_told: float = 2.5
    p: float = 0.005
    seed: int = 42
    direction: Direction = "up"

    def __post_init__(self) -> None:
        least = self.days + SLACK_DAYS + NULL_DAYS
        if self.days < LEAST_DAYS or self.min_days < least or self.baseline < 1:
            raise ValueError(
                f"days must be {LEAST_DAYS} or more, min_days {least} or more (for these days) and baseline 1 or more, "
                f"got {self.days}, {self.min_days} and {self.baseline}"
            )
        if self.weeks * 7 < self.days + self.min_days:
            raise ValueError(f"weeks must hold days + min_days = {self.days + self.min_days} days, got {self.weeks}")
        if not 0 <= self.floor <= self.estimate < 1:
            raise ValueError(f"0 <= floor <= estimate < 1 must hold, got {self.floor} and {self.estimate}")
        if not 0 <= self.z <= self.z_told or not 0 < self.p < 1:
            raise ValueError(f"0 <= z <= z_told and 0 < p < 1 must hold, got {self.z}, {self.z_told} and {self.p}")
        if not any(LEAST_DAYS <= k <= self.days for k in self.tails) or min(self.tails) < LEAST_DAYS:
            raise ValueError(f"tails must be {LEAST_DAYS} days or more and one at most {self.days}, got {self.tails}")
        if self.direction not in ("up", "down", "both"):
            raise ValueError(f"direction must be up, down or both, got {self.direction!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """The histogram bucket a level lies in: what a quantile of a classic histogram cannot see inside of.

    Attributes:
        low: Lower edge of the bucket of the level after, in the value's unit; 0 for the first.
        high: Its upper edge; None beyond the last finite edge, where every quantile is reported as that edge.
        same: Whether the level before lies in the same bucket.
    """

    low: float
    high: float | None
    same: bool

    @property
    def hidden(self) -> float | None:
        """How much a level can change without leaving the bucket, as a ratio minus 1; None when without limit."""
        return self.high / self.low - 1 if self.high is not None and self.low > 0 else None


@dataclasses.dataclass(frozen=True, slots=True)
class Regression:
    """A change for the worse that lasts.

    Attributes:
        subject: What was measured, as the caller named it.
        estimate: Level after over level before, minus 1; negative for a fall. Not rounded.
        low: Lower end of the estimate, ``z_told`` standard deviations away.
        high: Upper end.
        start: Day of the change, UTC.
        before: Level before, in the value's unit: the median over days of a typical hour of the week.
        after: Level since, the same way.
        days: The last days looked at.
        bucket: Where the level after lies in the histogram it was read from; None without bucket edges.
    """

    subject: str
    estimate: float
    low: float
    high: float
    start: dt.date
    before: float
    after: float
    days: int
    bucket: Bucket | None = None

    def sentence(self, name: str, service: str, unit: str) -> str:
        """The regression in words.

        Args:
            name: What was measured, such as ``p99 latency``.
            service: Whose it is.
            unit: Unit of the values; "" for none. The values themselves are not converted.

        >>> found = Regression("", 0.2, 0.125, 0.28, dt.date(2026, 11, 14), 240.0, 288.0, 7)
        >>> found.sentence("p99 latency", "spec-core-001", "ms").partition(" from ")[0]
        'p99 latency of spec-core-001 rose by 20 % (at least 12 %) since 14 November,'
        """
        rose = self.estimate > 0
        least = math.floor(max(self.low if rose else -self.high, 0.0) * 100 + 1e-9)
        before, after = (_number(level) + (f" {unit}" if unit else "") for level in (self.before, self.after))
        changed = f"{'rose' if rose else 'fell'} by {abs(self.estimate) * 100:.0f} % (at least {least} %)"
        since = f"since {self.start.day} {self.start:%B}"
        return f"{name} of {service} {changed} {since}, from {before} to {after}, over the last {self.days} days"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What can be said about one series.

    Attributes:
        regression: What was found, None when nothing was.
        reason: Why, in words: "no data", "not enough history: 12 of 28 days", "no change point: …", "within noise: …",
            "too small: …", "over: …", "nothing to compare with: …", or "found: …".
        tested: Days with data that were tested; 0 when nothing could be.
        coverage: Share of the hours since the first value in the history that hold data, 0–1.
        power: The smallest lasting rise (or fall) at the start of the last days that would have been seen
            almost nine times of ten, as a positive ratio minus 1; None when nothing was tested.
        bucket: Where the present level lies in the histogram; None without bucket edges, or nothing tested.
        notes: What a reader should know besides: zeros and how they were handled, what a bucket hides.
    """

    regression: Regression | None
    reason: str
    tested: int = 0
    coverage: float = 0.0
    power: float | None = None
    bucket: Bucket | None = None
    notes: tuple[str, ...] = ()


def find(
    values: Frame,
    *,
    as_of: dt.datetime,
    options: RegressionOptions | None = None,
    bucket_edges: Sequence[float] | None = None,
    subject: str = "",
) -> Result:
    """Whether a series changed for the worse in the last days, and lastingly.

    Args:
        values: One row per moment of one series, in any order, at any step up to an hour, gaps allowed: at Datetime
            (aware) or at_us Int64 (microseconds since the epoch, UTC), the end of what it speaks of · value Float64.
            Null, NaN and infinite values are no data; later rows than ``as_of`` are not looked at.
        as_of: The moment the last days end, aware.
        options: What counts as a regression.
        bucket_edges: When the value is a quantile of a classic histogram: its upper bounds (``le``), ascending, in the
            value's unit; +Inf may be left out.
        subject: What is measured; passed on into the result.

    Raises:
        ValueError: ``as_of`` has no time zone, ``values`` lacks a column, or the edges do not ascend from above 0.
    """
    options = options or RegressionOptions()
    if as_of.tzinfo is None:
        raise ValueError(f"as_of needs a time zone, got {as_of}")
    edges = _edges(bucket_edges)
    hours = hourly(values, as_of, options.weeks)
    seen = np.flatnonzero(~np.isnan(hours.medians))
    if not len(seen):
        return Result(None, "no data")
    coverage = len(seen) / (len(hours.medians) - int(seen[0]))
    if hours.negative > 0.01:
        return Result(None, "nothing to compare with: values below zero have no ratio", coverage=coverage)
    levels, offset, notes = _logarithms(hours)
    residuals = levels - profile(levels, options.days)
    daily = _daily(residuals)
    days = np.flatnonzero(~np.isnan(daily))
    first_new = len(daily) - options.days
    old, new = int((days < first_new).sum()), int((days >= first_new).sum())
    if old < options.min_days:
        with_data = int((~np.isnan(_daily(levels)[:first_new])).sum())  # some may only lack a profile
        known = with_data if with_data < options.min_days else old
        return Result(None, f"not enough history: {known} of {options.min_days} days", coverage=coverage, notes=notes)
    if new < LEAST_DAYS:
        reason = f"not enough data in the last {options.days} days: {new} of {LEAST_DAYS} days"
        return Result(None, reason, coverage=coverage, notes=notes)
    earliest = int((days < first_new - SLACK_DAYS).sum())
    series = _Series(subject, as_of, residuals, daily[days], days, old, new, earliest, offset, edges)
    signs = {"up": (1,), "down": (-1,), "both": (1, -1)}[options.direction]
    points = change_points(series.levels, earliest, p=options.p, seed=options.seed)
    results = [_judge(series, points, sign, options) for sign in signs]
    found = next((r for r in results if r.regression), results[0])
    return dataclasses.replace(found, coverage=coverage, notes=notes + found.notes)


# Counting: lazy, the same on every engine


@dataclasses.dataclass(frozen=True, slots=True)
class Hours:
    """A series by hours, oldest first, the last one ending at ``as_of``; NaN where an hour has no data.

    ``zeros`` and ``negative`` are shares of all values; negative ones are not in the hours.
    """

    medians: Floats
    means: Floats
    zeros: float
    negative: float


def hourly(values: Frame, as_of: dt.datetime, weeks: int) -> Hours:
    """Medians and means of the hours of the last weeks before ``as_of``. See `find` for ``values``."""
    frame = nw.from_native(values).lazy()
    names = frame.collect_schema().names()
    if "value" not in names or not {"at", "at_us"} & set(names):
        raise ValueError(f"values needs the columns at or at_us, and value; it has {', '.join(names)}")
    at_us = nw.col("at_us") if "at_us" in names else nw.col("at").dt.timestamp("us")
    length = weeks * WEEK_HOURS
    until = (as_of - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    usable = frame.select(((until - at_us) // HOUR_US).alias("ago"), nw.col("value").cast(nw.Float64)).filter(
        nw.col("ago") >= 0, nw.col("ago") < length, nw.col("value").is_finite()
    )
    counted = (
        usable.with_columns(
            (nw.col("value") == 0).cast(nw.Int64).alias("zero"),
            (nw.col("value") < 0).cast(nw.Int64).alias("below"),
            nw.when(nw.col("value") >= 0).then(nw.col("value")).alias("kept"),
        )
        .group_by("ago")
        .agg(
            nw.col("kept").median().alias("median"),
            nw.col("kept").mean().alias("mean"),
            nw.col("zero").sum(),
            nw.col("below").sum(),
            nw.len().alias("values"),
        )
        .collect()
    )
    index = length - 1 - counted["ago"].to_numpy().astype(np.int64)
    medians, means = np.full(length, np.nan), np.full(length, np.nan)
    medians[index] = counted["median"].cast(nw.Float64).to_numpy()
    means[index] = counted["mean"].cast(nw.Float64).to_numpy()
    total = max(1, int(counted["values"].sum()))
    return Hours(medians, means, float(counted["zero"].sum()) / total, float(counted["below"].sum()) / total)


def _logarithms(hours: Hours) -> tuple[Floats, float, tuple[str, ...]]:
    """Logarithms of the hours, with the offset added to them first and what to say about it."""
    sparse = hours.zeros > SPARSE
    levels = hours.means if sparse else hours.medians
    positive = levels > 0  # NaN compares false
    if (positive | np.isnan(levels)).all():
        return np.log(levels), 0.0, ()
    offset = float(np.median(levels[positive])) if positive.any() else 1.0
    note = f"{hours.zeros * 100:.2g} % of the values are zero: ratios were tested after adding {_number(offset)}"
    note += ", on hourly means" if sparse else ""
    return np.log(levels + offset), offset, (note,)


# Numbers in, numbers out


def _median(table: Floats, axis: int) -> Floats:
    """Medians along an axis that leave NaN out; NaN where nothing is left (``nanmedian`` would warn)."""
    ordered = np.sort(table, axis=axis)
    count = (~np.isnan(table)).sum(axis=axis, keepdims=True)
    lower = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis)
    upper = np.take_along_axis(ordered, np.minimum(count // 2, table.shape[axis] - 1), axis)
    return np.asarray(np.where(count > 0, (lower + upper) / 2, np.nan).squeeze(axis))


def profile(levels: Floats, days: int, rounds: int = 4) -> Floats:
    """The rhythm of the week, learnt before the last days, for every hour of a series.

    Args:
        levels: (weeks × 168,) logarithms by hour, NaN where there is no data.
        days: Days at the end that are not learnt from.
        rounds: Of Tukey's median polish of the weeks × 168 table; it hardly moves after two.

    Returns:
        (weeks × 168,) what to subtract, its median over the week 0; NaN for hours of the week seen less than twice.
    """
    table = levels.copy()
    table[len(table) - days * 24 :] = np.nan
    table = table.reshape(-1, WEEK_HOURS)
    column = np.zeros(WEEK_HOURS)
    for _ in range(rounds):
        row = _median(table - column, 1)
        column = _median(table - row[:, None], 0)
        column = np.where(np.isnan(column), 0.0, column - _median(column, 0))
    column[(~np.isnan(table)).sum(axis=0) < LEAST_SEEN] = np.nan
    return np.tile(column, len(table))


def _daily(residuals: Floats) -> Floats:
    """Medians by day; NaN for days with too few hours."""
    table = residuals.reshape(-1, 24)
    enough = (~np.isnan(table)).sum(axis=1) >= LEAST_HOURS
    return np.where(enough, _median(table, 1), np.nan)


def best_split(distances: Floats) -> tuple[Floats, Ints]:
    """The split that E-divisive finds in each of several series of one length.

    For every split point and every end of the stretch after it, the energy statistic
    q = nm / (n + m) × (2 mean|X - Y| - mean|X - X'| - mean|Y - Y'|); the largest counts. All sums come from one
    table of prefix sums.

    Args:
        distances: (series, m, m) absolute differences between the values of each.

    Returns:
        The largest q and its split point, (series,) each; q is 0 when no split is better than none.

    Source: Matteson & James 2014, equations 5 to 7, exponent 1.
    """
    count, m, _ = distances.shape
    sums = np.zeros((count, m + 1, m + 1))
    np.cumsum(np.cumsum(distances, axis=1), axis=2, out=sums[:, 1:, 1:])
    # q as a weighted sum: `sums` at (split, end), and `within`, all pairs twice, up to the split and up to the end
    n, after = np.arange(m + 1.0)[:, None], np.arange(m + 1.0)[None, :] - np.arange(m + 1.0)[:, None]
    allowed = (n >= LEAST_DAYS) & (after >= LEAST_DAYS)
    n, after = np.where(allowed, n, LEAST_DAYS), np.where(allowed, after, LEAST_DAYS)
    across = allowed * 2 / (n + after)
    first, second = allowed * after / ((n + after) * (n - 1)), allowed * n / ((n + after) * (after - 1))
    within = np.einsum("ijj->ij", sums).copy()
    sums *= across + 2 * second
    sums -= within[:, :, None] * (across + first + second)
    sums -= within[:, None, :] * second
    q = sums.reshape(count, -1)
    best = q.argmax(axis=1)
    return q[np.arange(count), best], (best // (m + 1)).astype(np.int64)


def change_points(values: Floats, first: int, *, p: float, seed: int) -> list[int]:
    """Change points by E-divisive: the best split of a stretch is kept when permuting it seldom gives a better one.

    Stretches are split again until nothing is significant, but only those that reach past ``first``: what happened
    before is not asked. A stretch is given up as soon as ``p`` is out of reach, so that a quiet series takes few
    permutations.

    Args:
        values: (n,) one value per day.
        first: Only stretches that end after this index are split.
        p: Significance; about 1 / p permutations are made.
        seed: Of the permutations.

    Returns:
        Indices of the first value after each change, ascending.

    Source: Matteson & James 2014, sections 3.1 and 3.2.

    >>> change_points(np.array([0.0, 1, 0, 1, 0, 1, 0, 1, 9, 8, 9, 8, 9, 8]), 0, p=0.01, seed=1)
    [8]
    """
    random = np.random.default_rng(seed)
    distances = np.abs(values[:, None] - values[None, :])
    permutations = math.ceil(1 / p - 1e-9) - 1
    allowed = math.floor(p * (permutations + 1) + 1e-9) - 1
    found: list[int] = []
    todo = [(0, len(values))]
    while todo:
        start, stop = todo.pop()
        if stop - start < 2 * LEAST_DAYS or stop <= first:
            continue
        stretch = distances[start:stop, start:stop]
        q, split = best_split(stretch[None])
        if q[0] <= 1e-12 * stretch.max():
            continue
        better = done = 0
        while done < permutations and better <= allowed:
            batch = min(BATCH if done else BATCH // 5, permutations - done)
            order = np.argsort(random.random((batch, stop - start)), axis=1)
            better += int((best_split(stretch[order[:, :, None], order[:, None, :]])[0] >= q[0]).sum())
            done += batch
        if better <= allowed:
            middle = start + int(split[0])
            found.append(middle)
            todo += [(start, middle), (middle, stop)]
    return sorted(found)


def block_scale(history: Floats, days: int, baseline: int) -> float:
    """How much a block of days usually differs from the median of the days before it: 1.4826 × MAD, at least 2 %.

    Args:
        history: (n,) daily levels in log, n at least 14 + ``days``.
        days: Length of the blocks; they slide by one day.
        baseline: Days before a block that make its median, where there are as many.
    """
    padded = np.concatenate([np.full(baseline, np.nan), history])
    past = _median(np.lib.stride_tricks.sliding_window_view(padded, baseline), 1)[: len(history)]
    blocks = np.lib.stride_tricks.sliding_window_view(history, days).mean(axis=1)
    differences = blocks[NULL_DAYS:] - past[NULL_DAYS : len(blocks)]
    spread = 1.4826 * float(np.median(np.abs(differences - np.median(differences))))
    return max(spread, LEAST_SCALE)


# Judging one series


@dataclasses.dataclass(frozen=True, slots=True)
class _Series:
    subject: str
    as_of: dt.datetime
    residuals: Floats  # by hour, NaN where no data
    levels: Floats  # by day with data
    days: Ints  # which days these are, 0 the oldest
    old: int  # how many of them come before the last days
    new: int
    earliest: int  # the first of them at which a change counts
    offset: float
    edges: Floats | None


def _judge(series: _Series, points: list[int], sign: int, options: RegressionOptions) -> Result:
    """The tail test beside the change points, for changes in one direction (1 up, -1 down)."""
    n, level, history = len(series.levels), sign * series.levels, sign * series.levels[: series.old]
    point = next((c for c in points if c >= series.earliest), None)
    start = series.old if point is None else point
    previous = max((c for c in points if c < start), default=0)
    since = previous if start - previous >= STRETCH_DAYS else 0
    base = float(np.median(level[max(since, start - options.baseline) : start]))

    def value(change: float) -> float:
        """The value itself after a change in log; positive is worse."""
        return max(math.exp(sign * (base + change)) - series.offset, 0.0)

    before = value(0)
    if before <= 1e-9 * series.offset:
        return Result(None, "nothing to compare with: the level before is zero", n)

    def ratio(change: float) -> float:
        return sign * (value(change) / before - 1)

    def change_of(wanted: float) -> float:
        value = before * (1 + sign * wanted) + series.offset
        return sign * math.log(value / (before + series.offset))

    def lower(x: float, length: int, z: float) -> float:
        return ratio(x - z * block_scale(history, length, options.baseline))

    change, length = float(np.median(level[start:])) - base, n - start
    low, estimate, high = lower(change, length, options.z_told), ratio(change), lower(change, length, -options.z_told)
    tails = [k for k in options.tails if k <= series.new] or [series.new]
    means = [float(level[n - k :].mean()) - base for k in tails]
    tail_low, tail = max((lower(x, k, options.z), x) for x, k in zip(means, tails, strict=True))
    latest = ratio(float(level[-1]) - base)
    bucket, notes = _bucket(before, value(change), series.edges)
    told = f"{sign * estimate * 100:+.0f} % (between {sign * low * 100:+.0f} and {sign * high * 100:+.0f} %)"
    found = None
    if point is None:
        reason = f"no change point: the last {options.days} days are at {told}"
    elif min(tail_low, lower(change, length, options.z)) <= options.floor:
        reason = f"within noise: {told}"
    elif min(ratio(tail), estimate) < options.estimate - 1e-9:
        reason = f"too small: {told}"
    elif latest <= options.floor:
        reason = f"over: the latest day is at {sign * latest * 100:+.0f} %"
    else:
        reason = f"found: {told}"
        found = Regression(
            subject=series.subject,
            estimate=sign * estimate,
            low=min(sign * low, sign * high),
            high=max(sign * low, sign * high),
            start=_start(series, start, sign * base, sign * (base + change)),
            before=before,
            after=value(change),
            days=options.days,
            bucket=bucket,
        )
    whole = block_scale(history, options.days, options.baseline)
    needed = max(change_of(options.floor) + options.z * whole, change_of(options.estimate)) + SEEN * whole
    return Result(found, reason, n, power=ratio(needed), bucket=bucket, notes=notes)


def _start(series: _Series, point: int, before: float, after: float) -> dt.date:
    """The day of the change: the hour within a day and a half of it that best parts the two levels."""
    hours = len(series.residuals)
    boundary = int(series.days[point]) * 24
    first, last = max(0, boundary - 36), min(hours, boundary + 36)
    window = series.residuals[first:last]
    # Nearer to the level before, positive: the sum over the hours before the split is to be largest.
    nearer = np.nan_to_num(np.abs(window - after) - np.abs(window - before))
    split = first + int(np.argmax(np.concatenate([[0.0], np.cumsum(nearer)])))
    return (series.as_of.astimezone(dt.UTC) - dt.timedelta(hours=hours - split)).date()


# Buckets and words


def _edges(given: Sequence[float] | None) -> Floats | None:
    """The finite bucket edges, checked."""
    if given is None:
        return None
    edges = np.array([e for e in given if not math.isinf(e)], dtype=np.float64)
    if not len(edges) or not (edges > 0).all() or not (np.diff(edges) > 0).all():
        raise ValueError(f"bucket_edges must ascend from above 0, got {list(given)}")
    return edges


def _bucket(before: float, after: float, edges: Floats | None) -> tuple[Bucket | None, tuple[str, ...]]:
    """The bucket of the level after, and what it hides, in words."""
    if edges is None:
        return None, ()
    slack = 1 - 1e-9  # an edge that went through a logarithm and back is still that edge
    was, now = (int(np.searchsorted(edges, x * slack)) for x in (before, after))
    at_the_end = after >= edges[-1] * slack
    low = 0.0 if now == 0 else float(edges[now - 1])
    high = None if at_the_end else float(edges[now])
    bucket = Bucket(float(edges[-1]) if at_the_end else low, high, (was == now) or before >= edges[-1] * slack)
    better = "measure the share under the threshold, with the threshold as a bucket edge"
    if high is None:
        return bucket, (f"the level is at the last bucket edge, {_number(edges[-1])}, and may be any higher: {better}",)
    if bucket.same:
        most = "" if bucket.hidden is None else f" (up to {bucket.hidden * 100:.0f} % fit into it)"
        told = f"before and after lie in one histogram bucket, {_number(low)} to {_number(high)}: "
        return bucket, (f"{told}the true change may be larger{most}; {better}",)
    return bucket, (f"the level after is known to a histogram bucket, {_number(low)} to {_number(high)}; {better}",)


def _number(value: float) -> str:
    """Three digits, as a person writes them.

    >>> _number(287.9), _number(1234567.0), _number(0.000123456)
    ('288', '1,230,000', '0.000123')
    """
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{float(f'{value:.3g}'):,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
