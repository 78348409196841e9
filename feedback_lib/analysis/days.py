"""The days inside the weeks: missing and short days, one loud day, and the days since a release. Numbers in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedback_lib.analysis.rates import LEAST_SPREAD, Floats, cauchy, dispersion, tails

PRIOR = 7.0  # people spread like everybody's that a subject's own days of the week are mixed with
SHORT = 7.0  # a day must usually hear so many before few people make it a short day
RELEASES = 3  # only the last releases are asked about; where deploys come daily none of them stands out
AFTER = 14  # days after which a rise is no longer put beside a release
OF_A_DAY = 2 / 7  # of the scatter of weeks; twice its even part, as the tails of a day are longer than those of a week
SURE_DAY = 0.01  # chance of the loudest of seven days below which it is called a spike
USUAL = 0.05  # other days rarer than this are above usual, so that a spike is not one


@dataclasses.dataclass(frozen=True, slots=True)
class Days:
    """The weeks of a comparison day by day, each Monday to Sunday.

    Attributes:
        people: (subjects, 7 * weeks) people per day.
        heard: (7 * weeks,) all people heard per day; NaN where the day is not over.
        releases: Place of the day of each release, oldest first.
        exposed: (subjects, 7 * weeks) known exposure per day; without it days are shares of people heard.
    """

    people: Floats
    heard: Floats
    releases: tuple[int, ...] = ()
    exposed: Floats | None = None

    def until(self, weeks: int) -> Days:
        """The first weeks of these."""
        end = 7 * weeks
        exposed = None if self.exposed is None else self.exposed[:, :end]
        return Days(self.people[:, :end], self.heard[:end], tuple(r for r in self.releases if r < end), exposed)


@dataclasses.dataclass(frozen=True, slots=True)
class Outburst:
    """What single days say of each subject; arrays are (subjects,)."""

    p_day: Floats  # of the loudest of the days of the report week
    p_release: Floats | None  # of the days since a release; None where there was none lately
    spike: NDArray[np.bool_]
    day: NDArray[np.int64]
    release: NDArray[np.int64]  # place in `Days.releases`, -1 is none


def release_weeks(days: Days) -> NDArray[np.bool_]:
    """(weeks,) which weeks a release fell on: it came out before Friday, or after Thursday of the week before."""
    weeks = len(days.heard) // 7
    marked = np.zeros(weeks, dtype=bool)
    for day in days.releases:
        if 0 <= (day + 3) // 7 < weeks:
            marked[(day + 3) // 7] = True
    return marked


def present(days: Days, weeks: Sequence[int], base: Sequence[int]) -> Floats:
    """(weeks, 7) how much of each day was heard: 1, or less where a day is missing or short beyond chance.

    A day is short when it heard less than half of what the same weekday of the baseline weeks heard (allowing for how
    loud its week was) and chance does not explain that. With a known exposure a holiday is counted by it, so that only
    a day without anybody is missing.
    """
    from scipy import special

    heard = np.nan_to_num(days.heard).reshape(-1, 7)
    over = np.isfinite(days.heard).reshape(-1, 7)
    found = np.ones((len(weeks), 7))
    for place, week in enumerate(weeks):
        others = [b for b in base if b != week]
        usual = np.median(heard[others], axis=0)
        told = (heard[week] > 0) & (usual > 0)
        level = np.median(heard[week][told] / usual[told]) if told.any() else 1.0
        expected = np.maximum(usual * level, 1e-9)
        chance = special.pdtr(heard[week], expected)
        short = (expected >= SHORT) & (heard[week] < expected / 2) & (chance < 1e-4)
        part = heard[week] / expected if days.exposed is None else (heard[week] > 0).astype(float)
        found[place] = np.where(over[week], np.where(short, part, 1.0), 0.0)
    return found


def same_days(days: Days, weeks: Sequence[int], base: Sequence[int]) -> Floats:
    """(subjects, weeks) how much of each subject's usual days a week had; of people heard, compared with everybody's.

    It is 1 in whole weeks. A subject that people mostly write about on Mondays is expected less in a week without a
    Monday, and one of weekends is not: each is compared on the days that are there (direct standardisation).
    """
    part = present(days, weeks, base)
    if (part == 1).all():
        return np.ones((len(days.people), len(weeks)))
    whole = part[[list(weeks).index(b) for b in base]].sum(axis=0)
    mine, everybody = _profile(days, base, np.nan_to_num(days.heard), whole)
    had = mine @ part.T
    return np.asarray(had if days.exposed is not None else had / np.maximum(everybody @ part.T, 1e-9))


def outburst(
    days: Days,
    base: Sequence[int],
    before: Sequence[int],
    aside: NDArray[np.bool_],
    spread: Floats,
    min_people: int,
) -> Outburst:
    """The loudest day of the last week, and the days since each of the last releases, against the baseline weeks.

    Args:
        days: The last seven days are the report week.
        base: Baseline weeks of the report week.
        before: Baseline weeks of the last two weeks together, for releases of the week before.
        aside: (subjects,) topics that moved by themselves and are not counted as people heard.
        spread: (subjects,) dispersion of the weeks.
        min_people: A day with fewer is no spike.
    """
    known = days.exposed is not None
    if days.exposed is None:
        rest = np.maximum(np.nan_to_num(days.heard) - days.people[aside].sum(axis=0), 0.0)
        size = np.broadcast_to(rest, days.people.shape)
    else:
        size = np.nan_to_num(days.exposed)
    end = days.people.shape[1]
    usual = _days_of(base)
    mine, everybody = _profile(days, base, size, np.ones(7))
    own = size * np.tile(mine / np.maximum(everybody, 1e-9), end // 7)  # people heard, as they matter to each subject
    week = np.arange(end - 7, end)
    loud = usual[(size[:, usual] > 0).all(axis=0)]
    scatter = np.maximum(dispersion(days.people[:, loud], own[:, loud], known=known), 1 + (spread - 1) * OF_A_DAY)

    def rise(at: NDArray[np.int64], than: NDArray[np.int64], factor: Floats) -> Floats:
        x, b = days.people[:, at].sum(axis=1), days.people[:, than].sum(axis=1)
        n, baseline_n = own[:, at].sum(axis=1), own[:, than].sum(axis=1)
        total = np.maximum(n + baseline_n, 1e-9)
        within = np.ones(len(x)) if known else np.maximum(1 - (x + b) / total, LEAST_SPREAD)
        within = np.where(aside, 1.0, within)
        return np.where((n > 0) & (baseline_n > 0), tails(x, b, n / total, factor * within)[0], 0.5)

    each = np.stack([rise(week[d : d + 1], usual, scatter) for d in range(7)])
    counted = days.people[:, week].T
    each = np.where(counted >= min_people, each, 1.0)
    day = each.argmin(axis=0)
    p_day = 1 - (1 - each.min(axis=0)) ** np.maximum(1, (size[:, week] > 0).sum(axis=1))
    spike = (p_day < SURE_DAY) & _alone(days, own, week, usual, day)
    rest = np.stack([rise(np.delete(week, d), usual, _wider(scatter, spread, 6)) for d in range(7)])
    spike &= (rest[day, np.arange(len(day))] > USUAL) & (rise(week - 7, usual, spread) > USUAL)

    release = np.full(len(day), -1, dtype=np.int64)
    lately = [r for r in sorted(set(days.releases)) if end - AFTER <= r < end][-RELEASES:]
    if not lately:
        return Outburst(np.minimum(p_day, 0.99), None, spike, day, release)
    ps, best = [], np.full(len(day), 0.025)
    for r in lately:
        after = np.arange(r, end)
        than = _days_of(base if r >= end - 7 else before)
        earlier = [e for e in days.releases if max(0, r - 16 * 7) <= e and e + len(after) <= end - AFTER]
        if len(earlier) >= 4:  # it is compared with the same days after earlier releases
            than = np.unique(np.concatenate([np.arange(e, e + len(after)) for e in earlier]))
        p = rise(after, than, _wider(scatter, spread, len(after)))
        ps.append(np.clip(p, 0, 0.99))
        jump = rise(after, np.arange(max(0, r - AFTER), r), _wider(scatter, spread, len(after)))
        prior = np.arange(max(0, r - 7), r)
        quiet = rise(prior, np.setdiff1d(than, prior), _wider(scatter, spread, 7)) > USUAL  # it had not risen yet
        on = (p < best) & (jump < USUAL) & quiet
        others = [rise(np.setdiff1d(after, week[d : d + 1]), than, scatter) < USUAL for d in range(7)]
        stays = np.stack(others)[day, np.arange(len(day))]
        spike &= ~(on & stays)
        best, release = np.where(on, p, best), np.where(on, days.releases.index(r), release)
    return Outburst(np.minimum(p_day, 0.99), cauchy(ps), spike, day, release)


def _alone(
    days: Days, own: Floats, week: NDArray[np.int64], usual: NDArray[np.int64], day: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether most of what the week has too much of was said on that day."""
    rate = days.people[:, usual].sum(axis=1) / np.maximum(own[:, usual].sum(axis=1), 1e-9)
    too_many = days.people[:, week] - rate[:, None] * own[:, week]
    return np.asarray(too_many[np.arange(len(day)), day] >= 0.7 * too_many.sum(axis=1))


def _wider(scatter: Floats, spread: Floats, count: int) -> Floats:
    """The scatter of so many days together: what moves a whole week moves all its days."""
    return np.maximum(scatter, 1 + (spread - 1) * min(1.0, count / 7))


def _days_of(weeks: Sequence[int]) -> NDArray[np.int64]:
    return (np.asarray(weeks, dtype=np.int64)[:, None] * 7 + np.arange(7)).ravel()


def _profile(days: Days, base: Sequence[int], size: Floats, whole: Floats) -> tuple[Floats, Floats]:
    """Shares of the weekdays in a subject's people, (subjects, 7), and in ``size``, (7,) or (subjects, 7)."""
    at = _days_of(base)
    weight = np.maximum(whole, 1e-9)
    everybody = size[..., at].reshape(*size.shape[:-1], -1, 7).sum(axis=-2) / weight
    everybody = everybody / np.maximum(everybody.sum(axis=-1, keepdims=True), 1e-9)
    mine = days.people[:, at].reshape(len(days.people), -1, 7).sum(axis=1) / weight * weight.mean()
    return (mine + PRIOR * everybody) / (mine.sum(axis=1, keepdims=True) + PRIOR), everybody
