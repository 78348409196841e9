"""Trends on simulated weeks whose truth is known: false alarms of pure noise, and the power to see what was planted.

``python -m benchmarks.trends [--weeks N] [--worlds N] [--only TEXT] [--json]`` prints one row per scenario. A world is
40 topics of 1 to 25 people a week (one of them 20), about 700 people in all, counted day by day; it passes through the
same test as a weekly run. A noise week counts as an alarm when any of its topics is told as anything but steady; at
q = 0.05 one week of twenty may. A planted change is found when its topic is told within two weeks as something that
goes that way; ``kind`` is how often it also gets the right kind.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback_lib.analysis.days import Days
from feedback_lib.analysis.weeks import Comparison, TrendOptions, compare

Floats = NDArray[np.float64]

SIZES = np.append(np.geomspace(1, 25, 39), 20.0)  # people a week; the last is the one changes are planted in
OTHERS = 400.0
WEEKS = 20
OPTIONS = TrendOptions()
OFFICE = np.array([1.25, 1.2, 1.2, 1.15, 1.1, 0.55, 0.55])  # of people a day; adds up to 7


@dataclasses.dataclass(frozen=True)
class World:
    """How people speak.

    Attributes:
        burst: Size parameter of the negative binomial weeks; None is Poisson.
        office: Fewer people at weekends, and every topic has weekdays of its own.
        releases: Days (0 is the first Monday) that something was released on.
        bump: In the seven days after a release every fourth topic is heard so many times more.
        short: (day, factor) of days that hear less.
        growing: All topics grow by so much a week, as the product's use does.
    """

    burst: float | None = None
    office: bool = False
    releases: tuple[int, ...] = ()
    bump: float = 1.0
    short: tuple[tuple[int, float], ...] = ()
    growing: float = 1.0

    def mean(self, rng: np.random.Generator, sizes: Floats, weeks: int) -> Floats:
        """(subjects, days) expected people a day."""
        week = np.repeat(sizes[:, None], weeks, axis=1) * self.growing ** np.arange(weeks)
        if self.burst is not None:
            week = rng.gamma(self.burst, week / self.burst)
        days = np.repeat(week, 7, axis=1) / 7
        if self.office:
            own = OFFICE * rng.gamma(2.0, 0.5, (len(sizes), 7))
            days *= np.tile(own / own.mean(axis=1, keepdims=True), weeks)
        for release in self.releases:
            days[::4, release : release + 7] *= self.bump
        return days

    def draw(self, rng: np.random.Generator, mean: Floats, exposure: bool = False) -> tuple[Floats, Days]:
        """People per week and per day, with all people heard: one more row of other people, counted in ``heard``."""
        part = np.ones(mean.shape[1])
        for day, factor in self.short:
            part[day] = factor
        weeks = mean.shape[1] // 7
        others = OTHERS / 7 * (np.tile(OFFICE, weeks) if self.office else np.ones(7 * weeks))
        people = rng.poisson(mean * part).astype(float)
        heard = people.sum(axis=0) + rng.poisson(others * part)
        exposed = None
        if exposure:
            exposed = np.tile(np.round(50_000 * np.repeat(self.growing ** np.arange(weeks), 7)), (len(people), 1))
        return people, Days(people, heard, self.releases, exposed)


def told(days: Days, weeks: int, options: TrendOptions = OPTIONS) -> Comparison:
    """The last of the first weeks compared as a weekly run does."""
    days = days.until(weeks)
    people = days.people.reshape(len(days.people), -1, 7).sum(axis=2)
    exposed = None
    if days.exposed is not None:
        exposed = days.exposed.reshape(len(people), -1, 7).sum(axis=2)
    found = compare(people, days.heard.reshape(-1, 7).sum(axis=1), options, days=days, exposed=exposed)
    if found is None:
        raise ValueError("nothing was compared")
    return found


def up(found: Comparison, days: Days, weeks: int) -> NDArray[np.bool_]:
    """Which topics are told to have risen."""
    return _sure(found) & (_now(days, weeks) / found.exposure[0] > found.baseline / found.exposure[1])


def _sure(found: Comparison) -> NDArray[np.bool_]:
    return np.asarray((found.q < OPTIONS.q) & found.clear)


def _now(days: Days, weeks: int) -> Floats:
    return np.asarray(days.people[:, 7 * weeks - 7 : 7 * weeks].sum(axis=1))


EVERY_TWO = tuple(range(2, 7 * (WEEKS + 2), 14))  # a Wednesday of every other week
NOISE: dict[str, tuple[World, bool]] = {
    "poisson": (World(), False),
    "scattered (negative binomial, 10)": (World(burst=10), False),
    "bursty (negative binomial, 4)": (World(burst=4), False),
    "own weekdays": (World(office=True), False),
    "own weekdays, bursty": (World(office=True, burst=4), False),
    "own weekdays, Monday missing": (World(office=True, short=((7 * (WEEKS - 1), 0.0),)), False),
    "own weekdays, three days so far": (
        World(office=True, short=tuple((7 * (WEEKS - 1) + d, 0.0) for d in range(3, 7))), False),
    "own weekdays, a holiday at 20 %": (World(office=True, short=((7 * (WEEKS - 1), 0.2),)), False),
    "a release every other week": (World(releases=EVERY_TWO), False),
    "releases that raise every fourth topic by 1.6": (World(releases=EVERY_TWO, bump=1.6), False),
    "the same, a week without": (World(releases=tuple(r + 7 for r in EVERY_TWO), bump=1.6), False),
    "per exposure": (World(), True),
    "per exposure, use grows 3 % a week": (World(growing=1.03), True),
    "per exposure, Monday missing": (World(office=True, short=((7 * (WEEKS - 1), 0.0),)), True),
}  # fmt: skip


def false_alarms(world: World, exposure: bool, weeks: int, seed: int) -> dict[str, Any]:
    """The share of noise weeks with any alarm."""
    rng = np.random.default_rng(seed)
    wrong = {"alarms": 0, "up": 0, "down": 0, "spike": 0, "regression": 0}
    for _ in range(weeks):
        _, days = world.draw(rng, world.mean(rng, SIZES, WEEKS), exposure)
        found = told(days, WEEKS)
        sure, rose = _sure(found), up(found, days, WEEKS)
        wrong["alarms"] += int(sure.any())
        wrong["up"] += int(rose.any())
        wrong["down"] += int((sure & ~rose).any())
        wrong["spike"] += int((rose & found.spike).any())
        wrong["regression"] += int((rose & ~found.spike & (found.release >= 0)).any())
    return {"weeks": weeks, **{k: round(v / weeks, 3) for k, v in wrong.items()}}


Plant = Callable[[Floats], None]
FIRST = 7 * (WEEKS - 1)  # the first day of the week a change is planted in


def _since(day: int, factor: float) -> Plant:
    def plant(mean: Floats) -> None:
        mean[-1, day:] *= factor

    return plant


def _one_day(people: float) -> Plant:
    def plant(mean: Floats) -> None:
        mean[-1, FIRST + 3] += people

    return plant


def _small(people: float, factor: float) -> Plant:
    def plant(mean: Floats) -> None:
        mean[-1] *= people / 20
        mean[-1, FIRST:] *= factor

    return plant


RELEASED = World(releases=(FIRST + 2,))
CADENCE = World(releases=EVERY_TWO)
PLANTED: dict[str, tuple[World, Plant, str, bool]] = {
    "doubles": (World(), _since(FIRST, 2), "growing", False),
    "doubles, scattered": (World(burst=10), _since(FIRST, 2), "growing", False),
    "doubles, own weekdays": (World(office=True), _since(FIRST, 2), "growing", False),
    "doubles, a release every other week": (CADENCE, _since(FIRST, 2), "growing", False),
    "doubles, per exposure": (World(), _since(FIRST, 2), "growing", True),
    "doubles, Monday missing": (World(office=True, short=((FIRST, 0.0),)), _since(FIRST, 2), "growing", False),
    "1.7 times": (World(), _since(FIRST, 1.7), "growing", False),
    "one day of 12 more": (World(), _one_day(12), "spike", False),
    "one day of 16 more": (World(), _one_day(16), "spike", False),
    "one day of 20 more, own weekdays": (World(office=True), _one_day(20), "spike", False),
    "doubles with Wednesday's release": (RELEASED, _since(FIRST + 2, 2), "regression", False),
    "2.5 times with Wednesday's release": (RELEASED, _since(FIRST + 2, 2.5), "regression", False),
    "2.5 times with one of many releases": (CADENCE, _since(EVERY_TWO[-2], 2.5), "regression", False),
    "20 a week fall silent": (World(), _since(FIRST, 0), "silent", False),
    "8 a week fall silent": (World(), _small(8, 0), "silent", False),
    "5 a week fall silent": (World(), _small(5, 0), "silent", False),
}


def power(world: World, plant: Plant, kind: str, exposure: bool, worlds: int, seed: int) -> dict[str, Any]:
    """How often a planted change is found in its first week and within two, and called what it is."""
    rng = np.random.default_rng(seed)
    found = {"first": 0, "within": 0, "kind": 0}
    for _ in range(worlds):
        mean = world.mean(rng, SIZES, WEEKS + 1)
        plant(mean)
        _, days = world.draw(rng, mean, exposure)
        seen, named = [], []
        for weeks in (WEEKS, WEEKS + 1):
            one = told(days, weeks)
            rose = bool(up(one, days, weeks)[-1])
            seen.append(bool(_sure(one)[-1]) and rose == (kind != "silent"))
            is_spike, released = bool(one.spike[-1]), bool(one.release[-1] >= 0)
            name = "spike" if is_spike else "regression" if released else "growing"
            if kind == "silent":
                name = "silent" if _now(days, weeks)[-1] == 0 else "falling"
            named.append(seen[-1] and name == kind)
        found["first"] += seen[0]
        found["within"] += any(seen)
        found["kind"] += any(named)
    return {"worlds": worlds, **{k: round(v / worlds, 3) for k, v in found.items()}}


def main() -> None:
    """Run the scenarios asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=400, help="noise weeks of each scenario")
    parser.add_argument("--worlds", type=int, default=400, help="worlds of each planted change")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    for name, (world, exposure) in NOISE.items():
        if given.only in f"noise: {name}":
            started = time.process_time()
            row = false_alarms(world, exposure, given.weeks, given.seed)
            _print(given.json, f"noise: {name}", row, time.process_time() - started)
    for name, (world, plant, kind, exposure) in PLANTED.items():
        if given.only in f"planted: {name}":
            started = time.process_time()
            row = power(world, plant, kind, exposure, given.worlds, given.seed)
            _print(given.json, f"planted: {name}", row | {"as": kind}, time.process_time() - started)


def _print(as_json: bool, name: str, row: dict[str, Any], seconds: float) -> None:
    if as_json:
        print(json.dumps({"scenario": name, **row, "cpu_s": round(seconds, 1)}), flush=True)
    else:
        print(f"{name:55}", " ".join(f"{k}={v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
