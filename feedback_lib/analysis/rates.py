"""Statistics of rates: ratios with intervals, tails, scatter, and corrections for many tests. Numbers in, numbers out.

Sources: Przyborowski & Wilenski 1940 (conditional test); Clopper & Pearson 1934 (interval); McCullagh & Nelder 1989,
section 4.5 (dispersion); Liu & Xie 2020 (Cauchy combination); Benjamini & Hochberg 1995.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Chosen by simulation with 40 subjects of 1 to 25 people a week (tests/analysis/test_trends.py repeats it): 2 to 6 %
# of weeks raise an alarm at q = 0.05 for Poisson and negative binomial noise, and a doubling at 20 of 700 people is
# found within two weeks nine times of ten.
SKEW = 1.75  # negative binomial tails are longer on the right than scaled Poisson ones
OWN = 1.5  # a dispersion known from eight weeks only is uncertain itself
LEAST_SPREAD = 0.05  # a share near 1 has next to no variance left; never divide by less


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


def dispersion(people: Floats, heard: Floats, *, known: bool = False) -> Floats:
    """How much more than Poisson counts the baseline weeks of each subject scatter.

    Pearson's estimate from eight weeks is itself a noisy number, so subjects share one: a straight line over their
    mean, which covers both a constant factor and negative binomial noise; it is 1 unless the whole table scatters by
    two standard errors more than Poisson. A subject that scatters clearly more than that (1 % point) is given its
    own. Single weeks are clipped at three standard deviations so that one past event does not hide the next.

    Args:
        people: (subjects, weeks) people in the baseline weeks.
        heard: (weeks,) or (subjects, weeks): all people heard, or the exposure of each subject.
        known: Whether ``heard`` is an exposure known from elsewhere, not people of whom the subject's are a part.

    Returns:
        (subjects,) factors, at least 1.
    """
    from scipy import special

    weeks = people.shape[1]
    free = weeks - 1
    share = people.sum(axis=1) / heard.sum(axis=-1)
    expected = share[:, None] * heard
    variance = expected if known else expected * np.maximum(1 - share, LEAST_SPREAD)[:, None]
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


def cauchy(ps: Sequence[Floats], weights: Sequence[float] = ()) -> Floats:
    """One p-value of several correlated ones, such as overlapping windows of the same counts.

    Args:
        ps: p-values of the parts, each (subjects,).
        weights: How much of the error probability each part may spend; default the same for all.

    Source: Liu & Xie 2020.
    """
    if len(ps) == 1:
        return ps[0]
    parts = [1 / np.tan(np.pi * np.clip(p, 1e-300, 1 - 1e-9)) for p in ps]
    statistic = np.average(parts, axis=0, weights=weights or None)
    return np.asarray(np.arctan2(1.0, statistic) / np.pi)


def wilson(right: float, of: float) -> tuple[float, float] | None:
    """The 95 % interval of a share; None when there was nothing to count.

    Source: Wilson 1927; see Brown, Cai & DasGupta, "Interval estimation for a binomial proportion", 2001.

    >>> [round(x, 2) for x in wilson(9, 10)]
    [0.6, 0.98]
    """
    if not of:
        return None
    z, share = 1.959964, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * float(np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)))
    return max(0.0, middle - half), min(1.0, middle + half)
