"""Regressions on simulated series whose truth is known, ours beside two usual ways, and on labelled public series.

``python -m benchmarks.regressions [--runs N] [--nab FOLDER] --json`` prints one JSON object per result: one per
scenario of the simulator, and with FOLDER (``nab.parquet`` and ``combined_windows.json`` of the Numenta Anomaly
Benchmark) one for its series. A simulated series is eight weeks of a p99 at five minutes with a rhythm of day and week,
noise that remembers, days that differ, slow drift, spikes, an incident every two weeks, and gaps. Shares are of the
runs. The bars: at most 1 % raised for "no change", "6-hour incident" and "dip the week before", and at least 95 % for
"step 20 %".
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import mannwhitneyu

from feedback_lib.analysis import regressions
from feedback_lib.analysis.regressions import RegressionOptions

Floats = NDArray[np.float64]

PER_HOUR = 12
PER_DAY = 24 * PER_HOUR
DAYS = 56
LENGTH = DAYS * PER_DAY
WEEK = 7 * PER_DAY
HALF_WEEK = WEEK // 2
AS_OF = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
AT_US = int(AS_OF.timestamp()) * 10**6 - np.arange(LENGTH)[::-1] * 300 * 10**6

# Scenario: what is to be estimated where a change is planted (as a ratio minus 1), and the direction asked about.
SCENARIOS: dict[str, tuple[float | None, str]] = {
    "no change": (None, "up"),
    "6-hour incident": (None, "up"),
    "dip the week before": (None, "up"),
    "step 20 %": (0.2, "up"),
    "step 20 % mid-week": (0.2, "up"),
    "step 20 % at any hour": (0.2, "up"),
    "ramp to 20 %": (None, "up"),
    "step 10 %": (0.1, "up"),
    "step 5 %": (0.05, "up"),
    "step as large as the power told": (None, "up"),
    "step 20 % three weeks ago": (None, "up"),
    "better 3 weeks ago, step 20 % now": (0.2, "up"),
    "incident of 36 hours, over": (None, "up"),
    "fall 20 %": (-0.2, "down"),
    "no change, half the values missing": (None, "up"),
    "step 20 %, half the values missing": (0.2, "up"),
    "no change, five weeks of data": (None, "up"),
    "step 20 %, five weeks of data": (0.2, "up"),
    "rare errors, no change": (None, "up"),
    "rare errors, half as many again": (0.5, "up"),
}


def latency(random: np.random.Generator) -> Floats:
    """Logarithms of eight weeks of a p99 at five minutes in which nothing lasting happens."""
    moment = np.arange(LENGTH)
    day, of_day = moment // PER_DAY, moment % PER_DAY / PER_DAY
    value = np.log(150.0) + 0.18 * np.sin(2 * np.pi * (of_day - 0.35)) + 0.06 * np.sin(4 * np.pi * (of_day - 0.1))
    value -= 0.12 * (day % 7 >= 5)  # weekends
    value += lfilter([1], [1, -0.95], random.normal(0, 0.06 * np.sqrt(1 - 0.95**2), LENGTH))
    value += random.normal(0, 0.03, DAYS)[day]
    value += np.cumsum(random.normal(0, 0.02, DAYS // 7))[day // 7]  # drift
    value += random.normal(0, 0.08, LENGTH)
    spikes = random.random(LENGTH) < 0.003
    value[spikes] += random.exponential(0.8, int(spikes.sum()))
    for fortnight in range(DAYS // 14):
        if random.random() < 0.9:
            start = int(random.integers(fortnight * 14 * PER_DAY, (fortnight + 1) * 14 * PER_DAY - 2 * PER_HOUR))
            value[start : start + int(random.integers(PER_HOUR, 2 * PER_HOUR))] += np.log(random.uniform(1.5, 4))
    return value


def errors(random: np.random.Generator, rise: float) -> Floats:
    """Error ratios of a service with 40 to 160 requests in five minutes and 0.5 % errors: more than half are zero."""
    moment = np.arange(LENGTH)
    requests = random.poisson(100 + 60 * np.sin(2 * np.pi * moment / PER_DAY))
    share = np.full(LENGTH, 0.005) * np.exp(random.normal(0, 0.1, DAYS))[moment // PER_DAY]
    share[LENGTH - WEEK :] *= 1 + rise
    failed = random.binomial(requests, np.minimum(share, 1))
    return np.divide(failed, requests, out=np.full(LENGTH, np.nan), where=requests > 0)


def simulate(scenario: str, random: np.random.Generator) -> tuple[Floats, int | None]:
    """One series, and how many points before the end a lasting change was planted; None where none was."""
    if scenario.startswith("rare errors"):
        rise = SCENARIOS[scenario][0]
        return errors(random, rise or 0.0), WEEK if rise else None
    value, planted = latency(random), WEEK
    if scenario.startswith("6-hour"):
        start = int(random.integers(LENGTH - WEEK, LENGTH - 6 * PER_HOUR))
        value[start : start + 6 * PER_HOUR] += np.log(5)
    elif scenario.startswith("dip"):
        start = int(random.integers(LENGTH - 2 * WEEK, LENGTH - 9 * PER_DAY))
        value[start : start + 2 * PER_DAY] += np.log(0.75)
    elif scenario.startswith("incident of 36"):
        start = int(random.integers(LENGTH - WEEK, LENGTH - 60 * PER_HOUR))
        value[start : start + 36 * PER_HOUR] += np.log(1.5)
    elif scenario.startswith("ramp"):
        value[-WEEK:] += np.log1p(0.2 * np.linspace(0, 1, WEEK))
    elif scenario.startswith("step as large"):
        quiet = regressions.find(frame(value), as_of=AS_OF)
        value[-WEEK:] += np.log1p(quiet.power or 0.0)
    elif scenario.endswith("three weeks ago"):
        value[-3 * WEEK :] += np.log(1.2)
    elif (truth := SCENARIOS[scenario][0]) is not None:
        if scenario.startswith("better"):
            value[: -3 * WEEK] += np.log(1.2)
        planted = HALF_WEEK if "mid-week" in scenario else planted
        planted = int(random.integers(HALF_WEEK, WEEK)) if "any hour" in scenario else planted
        value[-planted:] += np.log1p(truth)
    value[random.random(LENGTH) < (0.5 if "half the values" in scenario else 0.01)] = np.nan
    if "five weeks" in scenario:
        value[: 3 * WEEK] = np.nan
    return np.exp(value), planted if SCENARIOS[scenario][0] is not None else None


def frame(values: Floats) -> pl.DataFrame:
    """A series as `regressions.find` reads it."""
    return pl.DataFrame({"at_us": AT_US, "value": values})


def naive(values: Floats) -> bool:
    """Week against week: the mean rose by 20 % or more."""
    return bool(np.nanmean(values[-WEEK:]) / np.nanmean(values[-2 * WEEK : -WEEK]) >= 1.2)


def rank_test(values: Floats) -> bool:
    """Mann-Whitney on the points of the two weeks, p < 0.001, and medians 5 % apart or more."""
    now, before = values[-WEEK:], values[-2 * WEEK : -WEEK]
    now, before = now[~np.isnan(now)], before[~np.isnan(before)]
    apart = np.median(before) > 0 and np.median(now) / np.median(before) > 1.05
    return bool(apart and mannwhitneyu(now, before, alternative="greater").pvalue < 1e-3)


def measure(scenario: str, runs: int) -> dict[str, object]:
    """Ours, week against week and Mann-Whitney on the same series of one scenario."""
    truth, direction = SCENARIOS[scenario]
    options = RegressionOptions(direction=direction)  # type: ignore[arg-type]
    raised, held, days_off, estimates, seconds, hits = 0, 0, [], [], 0.0, {"naive": 0, "rank": 0}
    for run in range(runs):
        values, planted = simulate(scenario, np.random.default_rng([list(SCENARIOS).index(scenario), run]))
        series = frame(values)
        started = time.process_time()
        found = regressions.find(series, as_of=AS_OF, options=options).regression
        seconds += time.process_time() - started
        upward = values if direction == "up" else 1 / values
        hits["naive"] += naive(upward)
        hits["rank"] += rank_test(upward)
        if found is None:
            continue
        raised += 1
        if truth is not None and planted is not None:
            held += found.low <= truth if truth > 0 else found.high >= truth
            estimates.append(found.estimate)
            days_off.append((found.start - (AS_OF - dt.timedelta(minutes=5 * planted)).date()).days)
    result: dict[str, object] = {
        "benchmark": "regressions",
        "what": scenario,
        "runs": runs,
        "raised": round(raised / runs, 4),
        "week_against_week": round(hits["naive"] / runs, 4),
        "mann_whitney": round(hits["rank"] / runs, 4),
        "cpu_ms_per_call": round(1000 * seconds / runs, 1),
    }
    if raised and days_off:
        result["bound_held"] = round(held / raised, 4)
        result["median_estimate"] = round(float(np.median(estimates)), 4)
        result["start_exact"] = round(float(np.mean(np.array(days_off) == 0)), 4)
        result["start_within_a_day"] = round(float(np.mean(np.abs(days_off) <= 1)), 4)
    return result


def public_series(folder: Path) -> dict[str, Any]:
    """Ours asked every day about every public series that is long enough, in both directions.

    The labels mark anomalies, mostly short, and not steps; a raise counts as inside when its start day, or the day
    before or after it, touches a labelled window.
    """
    table = pl.read_parquet(folder / "nab.parquet")
    windows = json.loads((folder / "combined_windows.json").read_text())
    options = RegressionOptions(direction="both")
    day, asked, by_chance, seconds, tested = dt.timedelta(days=1), 0, 0, 0.0, 0
    starts: dict[str, set[dt.date]] = {}

    def labelled(name: str, start: dt.date) -> bool:
        spans = [(dt.date.fromisoformat(a[:10]), dt.date.fromisoformat(b[:10])) for a, b in windows[name]]
        return any(a - day <= start <= b + day for a, b in spans)

    names = sorted(table["series"].unique())
    for name in names:
        series = table.filter(pl.col("series") == name).select(
            pl.col("timestamp").dt.replace_time_zone("UTC").alias("at"), pl.col("value").cast(pl.Float64)
        )
        first, last = series["at"].min(), series["at"].max()
        assert isinstance(first, dt.datetime)
        assert isinstance(last, dt.datetime)
        as_of = (first + dt.timedelta(days=options.min_days + options.days)).replace(hour=0, minute=0, second=0)
        judged = 0
        while (as_of := as_of + day) <= last:
            started = time.process_time()
            answer = regressions.find(series, as_of=as_of, options=options)
            seconds += time.process_time() - started
            judged += answer.tested > 0
            asked += 1
            by_chance += labelled(name, (as_of - 4 * day).date())
            if answer.regression:
                starts.setdefault(name, set()).add(answer.regression.start)
        tested += judged > 0
    found = [(name, start) for name in starts for start in sorted(starts[name])]
    inside = [item for item in found if labelled(*item)]
    return {
        "benchmark": "regressions",
        "what": "public series, every day, up and down",
        "series": len(names),
        "long_enough": tested,
        "days_asked": asked,
        "series_raised": len(starts),
        "start_days": len(found),
        "start_days_in_labelled_windows": len(inside),
        "share_of_days_in_labelled_windows": round(by_chance / max(1, asked), 3),
        "series_raised_in_a_labelled_window": len({name for name, _ in inside}),
        "cpu_ms_per_call": round(1000 * seconds / max(1, asked), 1),
        "starts": {
            name: [f"{s}{' (labelled)' if labelled(name, s) else ''}" for s in sorted(starts[name])] for name in starts
        },
    }


def main() -> None:
    """Every scenario, then the public series when given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="simulated series per scenario")
    parser.add_argument("--nab", type=Path, help="folder with nab.parquet and combined_windows.json")
    parser.add_argument("--only", choices=list(SCENARIOS), help="one scenario")
    parser.add_argument("--json", action="store_true", help="one JSON object per line (also the default)")
    args = parser.parse_args()
    for scenario in [args.only] if args.only else SCENARIOS:
        print(json.dumps(measure(scenario, args.runs)), flush=True)
    if args.nab:
        print(json.dumps(public_series(args.nab)), flush=True)


if __name__ == "__main__":
    main()
