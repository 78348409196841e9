"""Did complaints follow the service? How two series line up in time, and what came after a deploy.

A line-up is no cause, and two things that happened once each line up by chance often enough. `best_lag` therefore asks
twice: how many shifts of one series against the other, which keep what lasts some days in both, line up as well; and
whether that still holds when any one stretch of days is left out. What happened once has no second time to be
compared with: `turn` is the moment at which a measurement got worse, and `follows` asks how many other hours of that
week were followed by as many complaints. `rises` asks whether more was said after a deploy than before it, and from
which hour on that was sure.

Measured on 56 days, 60 draws each: of unrelated series, from independent days to a random walk, at most one in twenty
is called clear; of two series with one event each none; of series with a planted lag of a day four of five. Of
complaints that begin at any hour of the week in which a service got worse, at most one in twenty is called clear.

Sources: Pearson's r; Bartlett 1946 (how many independent days a series is worth, for the interval); Przyborowski &
Wilenski 1940 (two Poisson rates, conditionally).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from feedback_lib.analysis import trends

Floats = npt.NDArray[np.float64]

WEEK = 7
LEAST_DAYS = 42  # with fewer, too few shifts
LEFT_OUT = 9  # days of a stretch
LEVEL = 0.05
SURE = 0.001  # asked again with every complaint, so far below `LEVEL`
SOON_H = 72.0
BEFORE_H = 28 * 24.0
LEAST_PEOPLE = 3  # who speak after it


@dataclasses.dataclass(frozen=True, slots=True)
class Lag:
    """How two daily series line up best.

    Attributes:
        days: the second follows the first by this many days.
        r: correlation at that lag, -1 to 1, without the straight trend of either.
        low: lower end of its 95 % interval.
        high: upper end.
        p: share of shifts that line up as well; small is unlike chance.
        without: the largest such share when a stretch of `LEFT_OUT` days is left out.
        n: days compared.
    """

    days: int
    r: float
    low: float
    high: float
    p: float
    without: float
    n: int

    @property
    def clear(self) -> bool:
        """Whether chance is no likely reason. Even then it is no cause."""
        return self.r > 0 and max(self.p, self.without) < LEVEL

    @property
    def once(self) -> bool:
        """Whether it all rests on one stretch of days, which is how two single events line up by chance."""
        return self.r > 0 and self.p < LEVEL <= self.without


@dataclasses.dataclass(frozen=True, slots=True)
class Rise:
    """What was said after a deploy, against before it.

    Attributes:
        version: of the deploy.
        at: when, in the hours of the question.
        people: that spoke in the hours looked at after it.
        hours: how many those are, at most `SOON_H`; fewer where the next deploy or the end comes first.
        ratio: their rate over the rate in the up to four weeks before; None when nobody spoke then.
        low: lower end of its 95 % interval.
        high: upper end; None has no limit.
        sure_after: hours after the deploy when it was sure that more is said; None when it never was.
    """

    version: str
    at: float
    people: int
    hours: float
    ratio: float | None
    low: float | None
    high: float | None
    sure_after: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Follows:
    """What was said after the moment at which something got worse, against every other hour of that week.

    Attributes:
        at: the moment, in the hours of the question.
        first: hours until the first word after it; None when nothing was said in the hours looked at.
        people: that spoke in those hours.
        hours: how many those are, at most `SOON_H`.
        ratio: their rate over the rate before; None when nobody spoke then.
        low: lower end of its 95 % interval.
        high: upper end; None has no limit.
        p: share of the hours of that week that are followed as sharply; small is unlike chance.
    """

    at: float
    first: float | None
    people: int
    hours: float
    ratio: float | None
    low: float | None
    high: float | None
    p: float

    @property
    def clear(self) -> bool:
        """Whether chance is no likely reason. Even then it happened once and is no cause."""
        return self.people >= LEAST_PEOPLE and self.p < LEVEL


def best_lag(first: Floats, second: Floats, *, most: int = 3) -> Lag | None:
    """The lag in days at which a second series lines up best with a first one.

    Args:
        first: shape (days,), such as a latency, higher is worse; NaN is no data.
        second: shape (days,), such as people who complain; NaN is no data.
        most: the largest lag tried; the smallest is 0.

    Returns:
        The best lag; None with fewer than `LEAST_DAYS` days, or where a series does not change.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} days and {len(second)} days")
    x, y = (_without_trend(np.asarray(s, dtype=np.float64)) for s in (first, second))
    if len(first) < LEAST_DAYS or x is None or y is None:
        return None
    found = _correlations(x, y, most)
    best = int(found.argmax())
    p = without = _shifted(x, y, most)
    for start in range(0, len(x) - LEFT_OUT // 2, LEFT_OUT // 3) if p < LEVEL else ():
        rest = [np.array(s, dtype=np.float64) for s in (first, second)]
        for series in rest:
            series[start : start + LEFT_OUT] = np.nan
        one, other = (_without_trend(s) for s in rest)
        without = max(without, _shifted(one, other, most) if one is not None and other is not None else 1.0)
    low, high = _interval(x, y, best, float(found[best]))
    return Lag(best, float(found[best]), low, high, p, without, _pairs(x, y, best)[0].size)


def _shifted(x: Floats, y: Floats, most: int) -> float:
    """The share of shifts round the circle, beyond the lags tried, whose best lag is as good; itself counts."""
    found = _correlations(x, y, most).max()
    others = [_correlations(x, np.roll(y, by), most).max() for by in range(most + 1, len(y) - most)]
    return float((1 + sum(other >= found - 1e-9 for other in others)) / (1 + len(others)))


def _without_trend(series: Floats) -> Floats | None:
    """The series without its straight trend, so that two slow rises are no line-up; None where it does not change."""
    known = np.isfinite(series)
    if known.sum() < LEAST_DAYS - LEFT_OUT:
        return None
    days = np.arange(len(series), dtype=np.float64)
    slope, level = np.polyfit(days[known], series[known], 1)
    left: Floats = series - slope * days - level
    return left if np.nanstd(left) > 1e-9 * max(1.0, float(np.nanmax(np.abs(series)))) else None


def _pairs(x: Floats, y: Floats, lag: int) -> tuple[Floats, Floats]:
    """Days of the first beside the days of the second that lie ``lag`` later, where both have data."""
    one, other = x[: len(x) - lag], y[lag:]
    both = np.isfinite(one) & np.isfinite(other)
    return one[both], other[both]


def _correlations(x: Floats, y: Floats, most: int) -> Floats:
    """Pearson's r at each lag from 0; -1 where it is not defined."""
    found = []
    for lag in range(most + 1):
        one, other = _pairs(x, y, lag)
        one, other = one - one.sum() / max(one.size, 1), other - other.sum() / max(other.size, 1)
        size = float(np.sqrt((one**2).sum() * (other**2).sum()))
        found.append(float((one * other).sum()) / size if size > 0 else -1.0)
    return np.array(found)


def _interval(x: Floats, y: Floats, lag: int, r: float) -> tuple[float, float]:
    """95 % interval of a correlation by Fisher's z, of as many independent days as the series are worth."""
    one, other = _pairs(x, y, lag)
    worth = len(one)
    drag = 1.0
    for back in range(1, min(2 * WEEK, len(one) // 2)):
        drag += 2 * (1 - back / len(one)) * _own(one, back) * _own(other, back)
    worth_days = max(worth / max(drag, 1.0), 4.0)
    middle, half = np.arctanh(np.clip(r, -0.999999, 0.999999)), 1.959964 / np.sqrt(worth_days - 3)
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


def _own(series: Floats, back: int) -> float:
    centred = series - series.mean()
    return float((centred[back:] * centred[:-back]).sum() / max(float((centred**2).sum()), 1e-12))


def turn(values: Floats) -> int | None:
    """The place from which on a measurement is worse than before, where two levels explain it best.

    Args:
        values: shape (n,), in order of time, higher is worse.

    Returns:
        The first place of what is worse; None where nothing gets worse.
    """
    n = len(values)
    if n < 4:
        return None
    ends = np.concatenate([values[:1], values, values[-1:]])
    calm = np.median(np.stack([ends[:-2], ends[1:-1], ends[2:]]), axis=0)  # a peak of one moment is no level
    size = np.arange(1, n)
    gain = -np.cumsum(calm - calm.mean())[:-1] / np.sqrt(size * (n - size))
    best = int(gain.argmax())
    return best + 1 if gain[best] > 1e-9 else None


def follows(at: float, said: Sequence[float], start: float, end: float) -> Follows:
    """What was said after one moment, against every other hour of the week in which it lies.

    The week is given, so that two things of one week do not count as unlike chance for that alone.

    Args:
        at: hour of the moment, between ``start`` and ``end``.
        said: the hour of each word of a person, one per person and day.
        start: the hour from which on words are known, the beginning of a week.
        end: the hour up to which they are.
    """
    times = np.sort(np.asarray(said, dtype=np.float64))
    week = start + (at - start) // (7 * 24) * 7 * 24
    others = np.arange(week, min(week + 7 * 24, end) - 1e-9)
    sharp = _sharpness(np.append(others, at), times, start, end)
    until, since = min(end, at + SOON_H), max(start, at - BEFORE_H)
    after, before = times[(times >= at) & (times < until)], times[(times >= since) & (times < at)]
    scatter = _dispersion(before, since, at)
    if at > since:
        ratio, low, high = trends.rate_ratio(len(after), until - at, len(before), at - since, dispersion=scatter)
    else:
        ratio = low = high = None
    first = float(after[0] - at) if len(after) else None
    share = float((sharp[:-1] >= sharp[-1] - 1e-9).sum() + 1) / (len(others) + 1)
    return Follows(at, first, len(after), until - at, ratio, low, high, min(share, 1.0))


def _sharpness(moments: Floats, times: Floats, start: float, end: float) -> Floats:
    """How much better two rates, before and soon after, explain the words than one; "soon" ends with any word."""
    found = []
    for at in moments.tolist():
        since = max(start, at - 24.0 * WEEK)
        here, last = np.searchsorted(times, [at, min(end, at + SOON_H)])
        before, sooner = float(here - np.searchsorted(times, since)), max(at - since, 1.0)
        after = np.arange(1.0, last - here + 1)
        later = np.maximum(times[here:last] - at, 1.0)
        whole = (after + before) / (later + sooner)
        gain = after * np.log(after / later / whole)
        gain += before * np.log(before / sooner / whole) if before else 0.0
        found.append(float(np.where(after / later > before / sooner, gain, 0.0).max(initial=0.0)))
    return np.array(found)


def rises(deploys: Sequence[tuple[float, str]], said: Sequence[float], start: float, end: float) -> list[Rise]:
    """What was said after each deploy, against before it.

    Args:
        deploys: hour and version, in order of time.
        said: the hour of each word of a person, one per person and day.
        start: the hour from which on words are known.
        end: the hour up to which they are.
    """
    times = np.sort(np.asarray(said, dtype=np.float64))
    made = []
    for place, (at, version) in enumerate(deploys):
        until = min(end, at + SOON_H, deploys[place + 1][0] if place + 1 < len(deploys) else np.inf)
        since = max(start, at - BEFORE_H, deploys[place - 1][0] if place else -np.inf)
        if until <= at or since >= at or at < start:
            continue
        before = times[(times >= since) & (times < at)]
        after = times[(times >= at) & (times < until)] - at
        scatter = _dispersion(before, since, at)
        ratio, low, high = trends.rate_ratio(len(after), until - at, len(before), at - since, dispersion=scatter)
        sure = _sure_after(after, len(before), at - since, scatter)
        made.append(Rise(version, at, len(after), until - at, ratio, low, high, sure))
    return made


def _dispersion(times: Floats, since: float, until: float) -> float:
    """How much more than Poisson counts the days before scatter."""
    days = int((until - since) // 24)
    if days < WEEK or not len(times):
        return 1.0
    counts = np.bincount(((times - (until - days * 24)) // 24).astype(np.int64).clip(0), minlength=days)
    return max(1.0, float(counts.var(ddof=1) / max(counts.mean(), 1e-9)))


def _sure_after(after: Floats, before: int, hours: float, scatter: float) -> float | None:
    """The hour after a deploy when so many had spoken that the rate before hardly explains it."""
    from scipy import special

    for count, hour in enumerate(after.tolist(), start=1):
        chance = special.betainc(count / scatter, before / scatter + 1, max(hour, 1e-6) / (max(hour, 1e-6) + hours))
        if count >= 3 and chance < SURE:
            return float(hour)
    return None
