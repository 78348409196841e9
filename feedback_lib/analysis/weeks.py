"""One week tested against the weeks before: which weeks it is compared with, on which days, and what could be seen.

Everything is counts as arrays; `trends` makes them from signals and gives the answer its names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedback_lib.analysis import days as daily
from feedback_lib.analysis.days import Days
from feedback_lib.analysis.rates import LEAST_SPREAD, Floats, benjamini_hochberg, cauchy, dispersion, tails

# How the error probability of a rise is shared between the questions asked: weeks, one day, the days since a release.
# A part that cannot be asked leaves its share to the others.
WEEKS, DAY, RELEASE = 0.9, 0.05, 0.05
RISE = 2 / 3  # of the error probability is spent on rises, the rest on falls
LEAST_DAYS = 0.25  # a subject most of whose usual days are missing from the week has no data


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
class Comparison:
    """One week against its baseline; each array is (subjects,), p and q NaN where the subject was not tested."""

    p: Floats
    q: Floats
    clear: NDArray[np.bool_]  # the latest week alone differs from one of the baselines, at the level of the interval
    spread: Floats  # what counts are divided by
    dispersion: Floats
    baseline: Floats  # people in all baseline weeks
    base: tuple[int, ...]  # places of the baseline weeks
    exposure: tuple[Floats, Floats]  # what this week and all baseline weeks are counted out of, see `_exposure`
    spike: NDArray[np.bool_]  # one day is far above the usual days and the others are not
    day: NDArray[np.int64]  # that day, 0 is Monday
    release: NDArray[np.int64]  # the release it rose after, its place in `Days.releases`; -1 is none

    @property
    def weeks(self) -> int:
        """How many baseline weeks."""
        return len(self.base)


def compare(
    people: Floats,
    heard: Floats,
    options: TrendOptions = TrendOptions(),
    *,
    parts: NDArray[np.bool_] | None = None,
    days: Days | None = None,
    exposed: Floats | None = None,
) -> Comparison | None:
    """Test every subject's rate in the last week against the weeks before.

    Args:
        people: (subjects, weeks) people per week, oldest first, the report week last.
        heard: (weeks,) all people heard; 0 or NaN is a week without data.
        options: The baseline's length, ``q`` and ``min_people`` are used.
        parts: (subjects,) which of the subjects hardly overlap, such as topics; default all.
        days: The same weeks day by day, with the releases: asks for spikes and for rises after a release as well,
            compares the same days, and release weeks with release weeks. Without it only weeks are compared.
        exposed: (subjects, weeks) known exposure; without it rates are shares of the people heard.

    Returns:
        p (of both sides, see `RISE`) and q, or None when there are too few weeks with data to say anything.
    """
    if len(heard) == 0 or not heard[-1] > 0:
        return None
    parts = np.ones(len(people), dtype=bool) if parts is None else parts
    marked = daily.release_weeks(days) if days else None
    has_data = np.nan_to_num(heard) > 0
    size = np.broadcast_to(np.nan_to_num(heard), people.shape)
    if exposed is not None:
        has_data = has_data & (np.nan_to_num(exposed) > 0).all(axis=0)
        size = np.nan_to_num(exposed)
        if not has_data[-1]:
            return None
    ups, downs, found = [], [], []
    clear = np.zeros(len(people), dtype=bool)
    last = len(heard) - 1
    for width in (1, 2):
        now = list(range(last - width + 1, last + 1))
        base = baseline(now, has_data, marked, options)
        if len(base) < options.least_weeks or not all(i >= 0 and has_data[i] for i in now):
            continue
        alike = daily.same_days(days, [*base, *now], base) if days else np.ones((len(people), len(base) + width))
        out_of = size[:, [*base, *now]] * alike
        before, after = out_of[:, : len(base)], out_of[:, len(base) :]
        known = exposed is not None
        phi = dispersion(people[:, base], before, known=known)
        x, b = people[:, now].sum(axis=1), people[:, base].sum(axis=1)
        full = size[:, now].sum(axis=1), size[:, base].sum(axis=1)
        same = after.sum(axis=1) / full[0], before.sum(axis=1) / full[1]
        exposure, spread, aside = _exposure(x, b, full, same, phi, parts, known)
        up, down = tails(x, b, exposure[0] / (exposure[0] + exposure[1]), spread)
        ups.append(up)
        downs.append(down)
        found.append((b, tuple(base), phi, exposure, spread, aside, same[0]))
        latest = people[:, last]
        full, same = (size[:, last], full[1]), (after[:, -1] / size[:, last], same[1])
        alone, spread, _ = _exposure(latest, b, full, same, phi, parts, known)
        clear |= 2 * np.minimum(*tails(latest, b, alone[0] / (alone[0] + alone[1]), spread)) < 1 - options.level
    if not found:
        return None
    total, places, phi, exposure, spread, aside, same_now = found[0]
    weights = [WEEKS / len(ups)] * len(ups)
    spike, day = np.zeros(len(people), dtype=bool), np.zeros(len(people), dtype=np.int64)
    release = np.full(len(people), -1, dtype=np.int64)
    if days:
        outburst = daily.outburst(days, places, found[-1][1], aside, phi, options.min_people)
        spike, day, release = outburst.spike, outburst.day, outburst.release
        ups.append(outburst.p_day)
        weights.append(DAY)
        if outburst.p_release is not None:
            ups.append(outburst.p_release)
            weights.append(RELEASE)
            clear |= 2 * outburst.p_release < 1 - options.level
        clear |= 2 * outburst.p_day < 1 - options.level
    tested = (people[:, last] + total >= options.min_people) & (same_now >= LEAST_DAYS)
    both = np.minimum(cauchy(ups, weights) / RISE, cauchy(downs) / (1 - RISE))
    p = np.where(tested, np.minimum(1.0, both), np.nan)
    q = np.full(len(p), np.nan)
    q[tested] = benjamini_hochberg(p[tested])
    return Comparison(p, q, clear, spread, phi, total, places, exposure, spike, day, release)


def baseline(
    now: Sequence[int], has_data: NDArray[np.bool_], marked: NDArray[np.bool_] | None, options: TrendOptions
) -> list[int]:
    """The weeks that one or two weeks are compared with.

    They are the last ``options.weeks`` with data. Where some weeks had a release and others none, they are weeks of
    the same kind among the last twice as many, as many of each kind as the weeks looked at have, when that leaves at
    least half of ``options.weeks``; else all kinds are mixed.
    """
    first = now[0]
    plain = [i for i in range(max(0, first - options.weeks), first) if has_data[i]]
    if marked is None or len({*marked[max(0, first - 2 * options.weeks) : now[-1] + 1]}) == 1:
        return plain
    kinds = {bool(marked[i]) for i in now}
    each = options.weeks // len(kinds)
    alike = [
        [i for i in range(max(0, first - 2 * options.weeks), first) if has_data[i] and bool(marked[i]) == kind]
        for kind in kinds
    ]
    most = min(each, *(len(group) for group in alike))
    enough = max(options.least_weeks, options.weeks // 2)
    return sorted(i for group in alike for i in group[len(group) - most :]) if most * len(kinds) >= enough else plain


def _exposure(
    x: Floats,
    b: Floats,
    full: tuple[Floats, Floats],
    same: tuple[Floats, Floats],
    phi: Floats,
    parts: NDArray[np.bool_],
    known: bool,
) -> tuple[tuple[Floats, Floats], Floats, NDArray[np.bool_]]:
    """What now and the baseline are counted out of, the spread, and which subjects were set aside.

    A known exposure stays as it is. People heard are counted without those of topics that moved by themselves: when
    one topic doubles the week's mail, every other share halves though nobody speaks less of it. So the part that
    differs most from all the others is set aside, again and again until the rest agree (p >= 0.01), as is done when
    gene counts are compared (Robinson & Oshlack 2010). Both are multiplied by the ``same`` days that were there.

    The spread is the variance of x over that of a Poisson count: a count within its exposure has the variance of a
    share (1 - share), one set aside also carries the noise of what it is compared with (1 + share).
    """
    aside = np.zeros(len(x), dtype=bool)
    n, baseline_n = full
    if known:
        return (n * same[0], baseline_n * same[1]), phi, aside
    while aside.sum() < parts.sum() / 3:
        rest = n - x[aside].sum() - x
        rest_before = baseline_n - b[aside].sum() - b
        candidates = parts & ~aside & (rest >= n / 4) & (rest_before >= baseline_n / 4)
        if not candidates.any():
            break
        rest, rest_before = np.maximum(rest, 1) * same[0], np.maximum(rest_before, 1) * same[1]
        spread = phi * (1 + (x + b) / (rest + rest_before))
        up, down = tails(x, b, rest / (rest + rest_before), spread)
        p = np.where(candidates, np.minimum(up, down), 1.0)
        if p.min() >= 0.005:
            break
        aside[int(p.argmin())] = True
    exposure = (n - x[aside].sum()) * same[0], (baseline_n - b[aside].sum()) * same[1]
    share = (x + b) / (exposure[0] + exposure[1])
    within = ~aside & parts if aside.any() else ~aside
    return exposure, phi * np.where(within, np.maximum(1 - share, LEAST_SPREAD), 1 + share), aside


def power(
    people: float,
    heard: float,
    *,
    tests: int,
    dispersion: float = 1.0,
    options: TrendOptions = TrendOptions(),
    daily: bool = False,
) -> float | None:
    """The smallest growth of a topic of so many people a week that would be seen in its first week, four times of five.

    Args:
        people: The topic's usual people per week, more than 0.
        heard: All people usually heard per week, at least ``people``.
        tests: Subjects tested together; the topic is taken to be the only one that grew.
        dispersion: Variance over Poisson variance.
        options: Weeks, q and min_people.
        daily: Whether days were looked at too, which leaves less of the error probability to the week.

    Returns:
        A ratio such as 2.1, to within 0.01, or None when even 50 times as many people would be missed.

    Raises:
        ValueError: ``people`` is not more than 0 or more than ``heard``.
    """
    from scipy import special

    if not 0 < people <= heard:
        raise ValueError(f"people must be more than 0 and at most heard, got {people} of {heard}")
    limit = options.q / max(1, tests) * RISE / 2 * (WEEKS if daily else 1)  # the two windows share it
    before = people * options.weeks
    # the baseline is a draw too: nine equally likely values of it
    baselines = np.maximum(0, before + np.sqrt(before * dispersion) * special.ndtri((np.arange(9) + 0.5) / 9))
    counts = np.arange(options.min_people, np.ceil(50 * people + 50), dtype=float)
    now, then = heard - people + counts, heard * options.weeks
    least = []
    for b in baselines:
        spread = dispersion * np.maximum(1 - (counts + b) / (now + then), LEAST_SPREAD)
        up, _ = tails(counts, np.full_like(counts, b), now / (now + then), spread)
        enough = np.flatnonzero(up <= limit)
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
