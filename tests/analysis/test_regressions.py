"""Regressions: what is found and since when, what must not be, gaps and zeros, buckets, and E-divisive itself."""

import dataclasses
import datetime as dt
import json

import conftest
import narwhals as nw
import numpy as np
import polars as pl
import pytest

from feedback_lib.analysis import regressions
from feedback_lib.analysis.regressions import Regression, RegressionOptions, Result

AS_OF = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PER_DAY = 24 * 4
WEEK = 7 * PER_DAY
DAYS = 56
STEP = dt.timedelta(minutes=15)


def service(seed: int, *, level: float = 240.0, noise: float = 1.0) -> np.ndarray:
    """Eight weeks of a p99 in milliseconds: rhythms of day and week, noise, days that differ, drift, incidents."""
    random = np.random.default_rng(seed)
    moment = np.arange(DAYS * PER_DAY)
    day = moment // PER_DAY
    value = np.log(level) + 0.2 * np.sin(2 * np.pi * moment / PER_DAY) - 0.12 * (day % 7 >= 5)
    value += noise * random.normal(0, 0.08, len(moment)) + noise * random.normal(0, 0.03, DAYS)[day]
    value += noise * np.cumsum(random.normal(0, 0.02, DAYS // 7))[day // 7]
    for start in random.integers(0, len(moment) - 8, 4):
        value[start : start + random.integers(4, 8)] += noise * np.log(random.uniform(1.5, 4))
    return np.exp(value)


def frame(values: np.ndarray, as_of: dt.datetime = AS_OF) -> pl.DataFrame:
    at = [as_of - STEP * i for i in range(len(values))][::-1]
    return pl.DataFrame({"at": pl.Series(at, dtype=pl.Datetime("us", "UTC")), "value": values})


def found(values: np.ndarray, **options) -> Result:
    return regressions.find(frame(values), as_of=AS_OF, options=RegressionOptions(**options))


def risen(values: np.ndarray, points: int = WEEK, ratio: float = 1.2) -> np.ndarray:
    return np.concatenate([values[:-points], values[-points:] * ratio])


def without(values: np.ndarray, *slices: slice) -> np.ndarray:
    values = values.copy()
    for where in slices:
        values[where] = np.nan
    return values


# The bars, small; benchmarks/regressions.py has the full simulator


def raised(change, runs: int = 40, **options) -> float:
    return np.mean(
        [
            found(change(service(seed), np.random.default_rng(seed)), **options).regression is not None
            for seed in range(runs)
        ]
    )


def test_a_step_of_20_percent_at_the_start_of_the_last_week_is_found():
    assert raised(lambda values, _: risen(values)) >= 0.94


def test_nothing_is_raised_when_nothing_happened():
    assert raised(lambda values, _: values, direction="both") <= 0.02


def test_an_incident_of_six_hours_is_no_regression():
    def incident(values, random):
        start = int(random.integers(len(values) - WEEK, len(values) - 24))
        return np.concatenate([values[:start], values[start : start + 24] * 5, values[start + 24 :]])

    assert raised(incident) <= 0.02


def test_a_dip_in_the_week_before_does_not_make_this_week_a_regression():
    def dip(values, random):
        start = int(random.integers(len(values) - 2 * WEEK, len(values) - 9 * PER_DAY))
        return np.concatenate(
            [values[:start], values[start : start + 2 * PER_DAY] * 0.75, values[start + 2 * PER_DAY :]]
        )

    assert raised(dip) <= 0.02


def test_a_step_of_three_weeks_ago_is_not_of_this_week():
    assert raised(lambda values, _: risen(values, 3 * WEEK), runs=20) == 0


def test_an_incident_of_a_day_and_a_half_that_is_over_is_no_regression():
    def over(values, _):
        return np.concatenate([values[:-WEEK], values[-WEEK : -WEEK + 144] * 1.6, values[-WEEK + 144 :]])

    assert raised(over, runs=20) == 0


@pytest.mark.parametrize("days_ago", [6, 5, 4, 3])
def test_the_day_of_the_change_is_found_within_a_day(days_ago):
    starts = [found(risen(service(seed), days_ago * PER_DAY - 40, 1.3)).regression.start for seed in range(5)]
    off = [abs((start - (AS_OF - days_ago * dt.timedelta(days=1)).date()).days) for start in starts]
    assert max(off) <= 1
    assert off.count(0) >= 3


# What is told


def test_a_planted_rise_gives_the_sentence():
    values = risen(np.full(DAYS * PER_DAY, 240.0))
    result = regressions.find(frame(values), as_of=AS_OF, subject="latency")
    assert result.regression.subject == "latency"
    assert result.regression.sentence("p99 latency", "spec-core-001", "ms") == (
        "p99 latency of spec-core-001 rose by 20 % (at least 14 %) since 14 November, "
        "from 240 ms to 288 ms, over the last 7 days"
    )
    assert result.reason.startswith("found: +20 %")


def test_a_fall_is_told_as_a_fall_and_only_when_asked_for():
    values = risen(service(3, level=1200, noise=0.3), ratio=0.75)
    assert found(values).regression is None
    for direction in ("down", "both"):
        fallen = found(values, direction=direction).regression
        assert fallen.low < fallen.estimate < fallen.high < 0
        assert fallen.estimate == pytest.approx(-0.25, abs=0.02)
        assert "fell by 2" in fallen.sentence("throughput", "api", "")


def test_what_is_told_satisfies_what_was_asked():
    results = [found(risen(service(seed), ratio=1.12)).regression for seed in range(20)]
    told = [r for r in results if r]
    assert told
    assert all(0 < r.low < r.estimate < r.high and r.estimate >= 0.1 - 1e-9 for r in told)
    assert all(r.after / r.before - 1 == pytest.approx(r.estimate) for r in told)


def test_an_estimate_exactly_at_the_threshold_counts():
    assert found(risen(np.full(DAYS * PER_DAY, 240.0), ratio=1.1)).regression.estimate == pytest.approx(0.1)
    assert found(risen(np.full(DAYS * PER_DAY, 240.0), ratio=1.099)).reason.startswith("too small: +10 %")


def test_the_smallest_rise_that_would_be_seen_grows_with_the_noise():
    quiet, loud = found(service(5, noise=0.2)).power, found(service(5, noise=3)).power
    assert 0.1 < quiet < 0.2 < loud


def test_the_same_series_always_gets_the_same_answer_and_in_any_order():
    rows = frame(risen(service(8)))
    first = regressions.find(rows, as_of=AS_OF)
    assert first.regression
    assert regressions.find(rows.sample(fraction=1, shuffle=True, seed=1), as_of=AS_OF) == first


def test_microseconds_lazy_frames_and_other_zones_are_read_the_same():
    rows = frame(risen(service(8)))
    first = regressions.find(rows, as_of=AS_OF)
    in_us = rows.select(pl.col("at").dt.timestamp("us").alias("at_us"), "value")
    assert regressions.find(nw.from_native(in_us.lazy()), as_of=AS_OF) == first
    assert regressions.find(in_us.lazy(), as_of=AS_OF.astimezone(dt.timezone(dt.timedelta(hours=9)))) == first


def test_a_past_moment_does_not_see_what_came_after_it():
    values = risen(service(8), 3 * PER_DAY, 2.0)
    later = regressions.find(frame(values), as_of=AS_OF)
    assert later.regression
    before = AS_OF - dt.timedelta(days=3)
    assert regressions.find(frame(values), as_of=before).regression is None
    known = frame(values).filter(pl.col("at") <= before)
    assert regressions.find(frame(values), as_of=before) == regressions.find(known, as_of=before)


# Little data, odd data


def test_a_missing_day_and_a_missing_week_change_nothing():
    holes = slice(-5 * PER_DAY, -4 * PER_DAY), slice(-5 * WEEK, -4 * WEEK)
    result = found(without(risen(service(8)), *holes))
    assert result.regression.estimate == pytest.approx(0.2, abs=0.06)
    assert result.tested == DAYS - 8
    assert result.coverage == pytest.approx(1 - 8 / DAYS)


def test_half_the_values_missing_still_finds_the_step_and_nothing_else():
    def half(values, random):
        return np.where(random.random(len(values)) < 0.5, np.nan, values)

    assert raised(lambda values, random: half(risen(values), random), runs=20) >= 0.9
    assert raised(half, runs=20) == 0


def test_a_service_without_weekends_is_compared_with_its_working_days():
    weekends = np.arange(DAYS * PER_DAY) // PER_DAY % 7 >= 5
    values = np.where(weekends, np.nan, service(11, noise=0.5))
    assert found(values).regression is None
    assert found(risen(values)).regression.estimate == pytest.approx(0.2, abs=0.06)


def test_no_values_is_no_data():
    nothing = frame(service(1)).clear()
    assert regressions.find(nothing, as_of=AS_OF) == Result(None, "no data")
    assert found(np.full(DAYS * PER_DAY, np.nan)) == Result(None, "no data")
    assert regressions.find(frame(service(1)), as_of=AS_OF + dt.timedelta(days=100)).reason == "no data"


def test_a_single_value_is_not_enough_history():
    assert found(np.array([240.0])).reason == "not enough history: 0 of 28 days"


def test_a_young_service_is_not_judged():
    result = found(risen(service(1))[-19 * PER_DAY :])
    assert (result.regression, result.reason, result.tested) == (None, "not enough history: 12 of 28 days", 0)
    assert result.coverage == 1


def test_a_change_during_a_long_silence_is_not_of_the_last_days():
    values = without(risen(service(8), 3 * WEEK, 1.5), slice(-3 * WEEK, -6 * PER_DAY))
    assert found(values).regression.start >= (AS_OF - dt.timedelta(days=8)).date()


def test_silence_in_the_last_days_is_neither_good_nor_bad():
    result = found(without(service(1), slice(-6 * PER_DAY, None)))
    assert (result.regression, result.reason) == (None, "not enough data in the last 7 days: 1 of 2 days")


def test_a_value_that_never_changes_is_no_regression():
    result = found(np.full(DAYS * PER_DAY, 240.0), direction="both")
    assert result.reason == "no change point: the last 7 days are at +0 % (between -5 and +5 %)"


def test_infinite_values_are_no_data():
    values = service(8)
    values[-WEEK::3] = np.inf
    assert found(values).regression is None


# Zeros


def error_ratios(rise: float, seed: int = 2) -> np.ndarray:
    random = np.random.default_rng(seed)
    share = np.full(DAYS * PER_DAY, 0.004)
    share[-WEEK:] *= 1 + rise
    return random.binomial(120, share) / 120


def test_an_error_ratio_that_is_mostly_zero_is_told_without_the_offset():
    result = found(error_ratios(1.0))
    assert result.regression.estimate == pytest.approx(1.0, abs=0.3)
    assert result.regression.before == pytest.approx(0.004, rel=0.2)
    assert "of the values are zero" in result.notes[0]
    assert "on hourly means" in result.notes[0]
    assert found(error_ratios(0.0)).regression is None


def test_a_rise_from_nothing_has_no_ratio():
    values = np.zeros(DAYS * PER_DAY)
    assert found(values).reason == "nothing to compare with: the level before is zero"
    values[-WEEK:] = 0.02
    assert found(values).reason == "nothing to compare with: the level before is zero"


def test_a_throughput_that_stops_is_a_fall_to_nothing():
    values = service(4, level=900)
    values[-3 * PER_DAY :] = 0
    stopped = found(values, direction="down").regression
    assert stopped.estimate == pytest.approx(-1, abs=0.1)
    assert stopped.low >= -1


def test_values_below_zero_have_no_ratio():
    assert found(service(1) - 240).reason == "nothing to compare with: values below zero have no ratio"


# Histogram buckets


@pytest.fixture
def hidden_rise() -> dict:
    path = conftest.REFERENCE / "slo/vectors/slo_vectors.json"
    if not path.exists():
        pytest.skip(f"reference data not found: {path}")
    return next(v for v in json.loads(path.read_text()) if v["id"] == "hq_bucket_bias")


def test_a_rise_hidden_inside_one_bucket_is_said_to_be_possible(hidden_rise):
    given, measured = hidden_rise["input"], hidden_rise["expected"]
    values = np.full(DAYS * PER_DAY, measured["measured_before"])
    values[-WEEK:] = measured["measured_after"]
    result = regressions.find(frame(values), as_of=AS_OF, bucket_edges=given["buckets"])
    assert result.regression is None
    assert (result.bucket.low, result.bucket.high, result.bucket.same) == (0.1, 0.2, True)
    assert result.bucket.hidden >= measured["true_rise"] > measured["measured_rise"]
    assert "the true change may be larger" in result.notes[0]
    assert "share under the threshold, with the threshold as a bucket edge" in result.notes[0]


def test_the_bucket_of_the_level_after_goes_with_the_regression():
    values = risen(np.full(DAYS * PER_DAY, 240.0))
    result = regressions.find(frame(values), as_of=AS_OF, bucket_edges=[100, 250, 500, float("inf")])
    bucket = result.regression.bucket
    assert (bucket.low, bucket.high, bucket.same) == (250, 500, False)
    assert bucket == result.bucket


def test_a_level_at_the_last_edge_may_be_any_higher():
    values = risen(np.full(DAYS * PER_DAY, 250.0), ratio=2)
    result = regressions.find(frame(values), as_of=AS_OF, bucket_edges=[100, 250, 500])
    assert (result.bucket.low, result.bucket.high, result.bucket.hidden) == (500, None, None)
    assert "may be any higher" in result.notes[0]


# E-divisive


def energy(x: np.ndarray, y: np.ndarray) -> float:
    """The statistic as its paper writes it, with loops."""
    n, m = len(x), len(y)
    across = np.mean([abs(a - b) for a in x for b in y])
    inside = [np.mean([abs(a - b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    return n * m / (n + m) * (2 * across - inside[0] - inside[1])


def test_the_best_split_is_that_of_the_formula_tried_everywhere():
    values = np.random.default_rng(1).normal(size=17)
    values[6:12] += 1.5
    tried = {(s, e): energy(values[:s], values[s:e]) for s in range(2, 16) for e in range(s + 2, 18)}
    split, _ = max(tried, key=tried.get)
    q, point = regressions.best_split(np.abs(values[:, None] - values[None, :])[None])
    assert q[0] == pytest.approx(max(tried.values()))
    assert point[0] == split


def test_several_change_points_are_found_in_order():
    random = np.random.default_rng(3)
    values = np.concatenate([random.normal(m, 0.3, 15) for m in (0, 2, -1)])
    assert regressions.change_points(values, 0, p=0.01, seed=1) == [15, 30]


def test_pure_noise_has_a_change_point_about_as_often_as_allowed():
    random = np.random.default_rng(5)
    hits = [bool(regressions.change_points(random.normal(size=30), 0, p=0.05, seed=n)) for n in range(100)]
    assert 0 < np.mean(hits) <= 0.11


# Wrong use


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": 1},
        {"weeks": 4},
        {"min_days": 20},
        {"floor": 0.2},
        {"p": 0},
        {"z": -1},
        {"tails": (8, 9)},
        {"direction": "sideways"},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RegressionOptions(**wrong)


def test_a_moment_without_a_zone_a_missing_column_and_wrong_edges_are_refused():
    rows = frame(service(1))
    with pytest.raises(ValueError, match="time zone"):
        regressions.find(rows, as_of=AS_OF.replace(tzinfo=None))
    with pytest.raises(ValueError, match="at or at_us"):
        regressions.find(rows.drop("at"), as_of=AS_OF)
    with pytest.raises(ValueError, match="ascend"):
        regressions.find(rows, as_of=AS_OF, bucket_edges=[0.2, 0.1])


def test_a_regression_is_a_value():
    one = found(risen(service(8))).regression
    assert isinstance(one, Regression)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.estimate = 0
