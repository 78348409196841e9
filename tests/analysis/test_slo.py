"""SLO maths: published known answers, the windows' edges, missing data, and laws on random histories."""

import bisect
import datetime as dt
import doctest
import itertools
import json
import math
import statistics
from fractions import Fraction

import narwhals as nw
import polars as pl
import pytest
from conftest import REFERENCE, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_lib.analysis import slo
from feedback_lib.analysis.slo import AlertWindow, Slo

KEYS = ("service", "sli")
SCHEMA = {"service": pl.String, "sli": pl.String, "at_us": pl.Int64}
SCHEMA |= {"good": pl.Float64, "valid": pl.Float64, "value": pl.Float64}
NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
US = 1_000_000
HALF_HOUR = AlertWindow("page", 1800, 300, Fraction(72, 5))
FILE = REFERENCE / "slo" / "vectors" / "slo_vectors.json"
VECTORS = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else []


def an_slo(**given) -> Slo:
    return Slo(**{"service": "api", "sli": "errors", "target": "99.9%", "method": "occurrences", **given})


def us(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def frame(rows, service="api", sli="errors") -> nw.LazyFrame:
    """Rows are (end of the slice, good, valid); a fourth is the value."""
    made = [(service, sli, us(at), good, valid, (*rest, None)[0]) for at, good, valid, *rest in rows]
    return nw.from_native(pl.LazyFrame(made, schema=SCHEMA, orient="row"))


def history(*slices, end=NOW, step=MINUTE) -> nw.LazyFrame:
    """(good, valid) of slices one after the other, the last one ending at ``end``; None is no data."""
    first = end - step * (len(slices) - 1)
    return frame([(first + step * i, *counts) for i, counts in enumerate(slices) if counts is not None])


def evaluated(measurements, *slos, as_of=NOW) -> dict:
    (row,) = slo.evaluate(measurements, slos, as_of).collect().to_polars().rows(named=True)
    return row


def burnt(measurements, *slos, as_of=NOW) -> list[dict]:
    return slo.burns(measurements, slos, as_of).collect().to_polars().rows(named=True)


def decision(measurements, objective, as_of=NOW) -> str:
    (row,) = burnt(measurements, objective, as_of=as_of)
    return row["decision"]


def both(*slices, **given) -> str:
    """What one alert window of five minutes, long and short, says of five slices."""
    alert = AlertWindow("page", 300, 300, given.pop("factor", Fraction(72, 5)))
    return decision(history(*slices), an_slo(policy=(alert,), **given))


# Vectors


def days(seconds):
    return Fraction(seconds) / 86_400


def answers(kind: str, given: dict) -> dict:
    """Our answer to a vector's question, with the keys of what it expects."""
    target = str(given.get("slo", given.get("goal", given.get("objective", ""))))
    window_s = given.get("window_s") or 86_400 * given.get("window_days", given.get("slo_window_days", 0))
    match kind:
        case "error_budget_time":
            return {"seconds": slo.budget_seconds(target, window_s)}
        case "error_budget_time_month":
            lengths = {"30d": 30 * 86_400, "365.25/12d": Fraction("365.25") / 12 * 86_400}
            return {name: slo.format_duration(slo.budget_seconds(target, s)) for name, s in lengths.items()}
        case "burn_rate_threshold":
            long_s = given["long_window_h"] * 3600
            return {"burn_rate": slo.burn_rate_threshold(given["budget_share"], long_s, window_s)}
        case "budget_consumed_by_alert":
            return {"budget_share": slo.budget_share(given["burn_rate"], given["long_window_h"] * 3600, window_s)}
        case "time_to_exhaustion":
            burn = given.get("burn_rate") or slo.burn_rate(1 - slo.exact(given["error_rate"]), 1, target)
            return {"burn_rate": burn, "days": days(slo.time_to_exhaustion(burn, window_s))}
        case "detection_time":
            factor, long_s = given["burn_threshold"], given["long_window_min"] * 60
            fired = incident(factor, long_s)
            return {
                "minutes": slo.detection_time(target, given["error_rate"], factor, long_s) / 60,
                "promtool_first_firing_minute": fired[0],
                "promtool_reset_minute_after_60min_incident": fired[-1] + 1,
            }
        case "absent_for_minutes":
            return {
                "minutes": slo.absent_minutes(target, given["burn_threshold"], given["long_window_s"], given["for_s"])
            }
        case "alert_windows":
            return {"rows": slo.alert_windows(f"{given['window_days']}d", "sre" if window_s == 2_592_000 else "pyrra")}
        case "slo_report":
            told = slo.report(given["good"], given["bad"], target, window_s, factor=given["burn_rate_threshold"])
            return {
                "sli": told.sli,
                "gap": told.gap,
                "error_budget_target": told.budget,
                "error_budget_measurement": told.bad_ratio,
                "burn_rate": told.burn,
                "error_budget_minutes": told.budget_minutes,
                "error_budget_remaining_minutes": told.remaining_minutes,
                "error_minutes": told.bad_minutes,
                "alert": told.alert,
            }
        case "slo_report_validity":
            good, bad = (None if given[name] == -1 else given[name] for name in ("good", "bad"))
            told = slo.report(good, bad, "99%", 3600, factor=1, min_events=given["min_valid_events"])
            return {"valid": told.state != "no_data", "sli": told.sli, "alert": told.alert}
        case "p99_from_histogram":
            before, after = (lognormal_p99(given["buckets"], scale) for scale in (1.0, 1.2))
            return {
                "measured_before": before.value,
                "measured_after": after.value,
                "measured_rise": after.value / before.value - 1,
                "true_rise": given["true_p99_after"] / given["true_p99_before"] - 1,
            }
    raise AssertionError(kind)


def lognormal_p99(edges, scale):
    """The p99 of a histogram of exp(N(ln 0.04, 0.6)) × scale."""
    normal = statistics.NormalDist(math.log(0.04 * scale), 0.6)
    return slo.bucket_quantile(0.99, {edge: normal.cdf(math.log(edge)) for edge in edges} | {math.inf: 1.0})


def incident(factor, long_s) -> list[int]:
    """Minutes into an hour of 10 % errors, after 8 good hours and before 2 more, at which the window fires."""
    slices = [(1000, 1000)] * 480 + [(900, 1000)] * 60 + [(1000, 1000)] * 120
    begin = NOW - 180 * MINUTE
    alert = AlertWindow("page", long_s, long_s // 12, factor)
    told = slo.timeline(history(*slices), an_slo(policy=(alert,)), begin - 60 * MINUTE, NOW).collect().to_polars()
    fired = told.filter(pl.col("decision") == "firing")["at_us"]
    return [(at - us(begin)) // (60 * US) for at in fired]


def numbers(values) -> dict:
    return {name: float(v) if isinstance(v, Fraction) else v for name, v in values.items()}


KINDS = {"budgeting", "sli_window"}  # asked of whole windows below
ASKED = [pytest.param(v, id=v["id"]) for v in VECTORS if v["kind"] not in KINDS]
WITHOUT = [pytest.param(None, id="none", marks=pytest.mark.skip(reason=f"no reference data: {FILE} is not there"))]


@pytest.mark.parametrize("vector", ASKED or WITHOUT)
def test_the_published_answer_comes_out(vector):
    expected, found = vector["expected"], answers(vector["kind"], vector["input"])
    if vector["kind"] == "alert_windows":
        names = {"critical": "page", "warning": "ticket"}
        expected = [[names.get(row[0], row[0]), *row[1:]] for row in expected["rows"]]
        found = [[getattr(row, c) for c in vector["expected"]["columns"]] for row in found["rows"]]
        assert [[float(v) if isinstance(v, Fraction) else v for v in row] for row in found] == expected
        return
    assert {name: numbers(found)[name] for name in expected} == pytest.approx(expected, abs=vector["tol"])


def vector(name: str) -> dict:
    found = [v for v in VECTORS if v["id"] == name]
    if not found:
        pytest.skip(f"no reference data: {FILE} is not there")
    return found[0]


def test_every_vector_is_asked(reference):
    assert len(VECTORS) == 56
    assert len(ASKED) + sum(v["kind"] in KINDS for v in VECTORS) == 56


def test_occurrences_spend_exactly_the_published_number_of_requests():
    told = vector("openslo_occurrences")
    given, expected = told["input"], told["expected"]
    objective = an_slo(target=str(given["objective"]), window=f"{given['window_days']}d", slice_s=86_400)
    daily, bad = given["requests_per_day"], expected["budget_requests"] / given["window_days"]
    spent = [(daily - bad, daily)] * given["window_days"]
    exactly = evaluated(
        history(*spent, step=dt.timedelta(days=1), end=dt.datetime(2026, 11, 20, tzinfo=dt.UTC)), objective
    )
    assert (exactly["valid"], exactly["bad"]) == (expected["total_requests"], expected["budget_requests"])
    assert (exactly["budget_used"], exactly["state"]) == (1.0, "met")
    spent[3] = (daily - bad - 1, daily)
    over = evaluated(
        history(*spent, step=dt.timedelta(days=1), end=dt.datetime(2026, 11, 20, tzinfo=dt.UTC)), objective
    )
    assert (over["state"], over["budget_used"] > 1) == ("missed", True)


def test_timeslices_spend_exactly_the_published_number_of_slices():
    told = vector("openslo_timeslices")
    given, expected = told["input"], told["expected"]
    objective = an_slo(target=str(given["objective"]), window=f"{given['window_days']}d", slice_s=given["slice_s"])
    slices = [(1, 1)] * (expected["slices"] - expected["bad_slices_allowed"]) + [(0, 1)] * expected[
        "bad_slices_allowed"
    ]
    exactly = evaluated(history(*slices), objective)
    assert (exactly["expected_slices"], exactly["coverage"]) == (expected["slices"], 1.0)
    assert (exactly["budget_used"], exactly["state"], exactly["exhaustion_s"]) == (1.0, "met", 0.0)
    assert exactly["bad"] * given["slice_s"] / 3600 == pytest.approx(expected["hours"])
    assert evaluated(history(*slices[1:], (0, 1)), objective)["state"] == "missed"


def test_ratio_timeslices_are_spent_at_the_published_hour():
    told = vector("openslo_ratiotimeslices")
    given, expected = told["input"], told["expected"]
    objective = an_slo(target=str(given["objective"]), window=f"{given['window_days']}d", method="ratio_timeslices")
    total, attacked = given["window_days"] * 1440, expected["attack_hours"] * 60
    states = {}
    for slices in (math.floor(attacked), math.ceil(attacked)):
        ratios = [given["baseline_success"]] * (total - slices) + [given["attack_success"]] * slices
        values = pl.LazyFrame({"at_us": [us(NOW) - 60 * US * i for i in range(total)], "value": ratios})
        states[slices] = evaluated(slo.measure(nw.from_native(values), objective), objective)["state"]
    assert list(states.values()) == ["met", "missed"]


def test_occurrences_weigh_events_and_ratio_timeslices_weigh_slices():
    told = vector("weighted_vs_mean")
    counts = [
        (us(NOW) - 60 * US * i, float(bad), float(total)) for i, (total, bad) in enumerate(told["input"]["slices"])
    ]
    rows = nw.from_native(pl.LazyFrame(counts, schema=["at_us", "bad", "valid"], orient="row"))
    for method, name in (("occurrences", "event_weighted_error"), ("ratio_timeslices", "mean_of_ratios")):
        objective = an_slo(method=method)
        row = evaluated(slo.measure(rows, objective), objective)
        assert 1 - row["sli_ratio"] == pytest.approx(told["expected"][name], rel=1e-9)


# Scalars


def test_a_target_is_the_number_that_was_written():
    assert slo.objective("99.9%") == Fraction(999, 1000) == slo.objective(" 99,9 % ") == slo.objective("0.999")
    assert slo.error_budget("99.95%") == Fraction(1, 2000)


@pytest.mark.parametrize("text", ["100%", "0%", "99.9", "-1%", "1", "99.9.9%", "", "about 99%", "%", "1,000.5%"])
def test_a_target_that_is_no_share_or_leaves_no_budget_is_refused(text):
    with pytest.raises(ValueError, match="target"):
        slo.objective(text)


@pytest.mark.parametrize("text", ["", "30", "0d", "30 d", "d", "-1h", "1.5s", "1h!", "30days"])
def test_a_window_that_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        slo.parse_duration(text)


@given(st.integers(1, 10**9))
def test_a_duration_is_read_back_as_it_was_shown(seconds):
    assert slo.parse_duration(slo.format_duration(seconds)) == seconds


def test_144_bad_of_10000_at_three_nines_is_exactly_14_4():
    assert slo.burn_rate(9_856, 10_000, "99.9%") == Fraction(72, 5)
    assert slo.report(9_856, 144, "99.9%", 3600, factor="14.4").alert is True
    assert slo.report(9_857, 143, "99.9%", 3600, factor="14.4").alert is False


def test_the_budget_exactly_spent_is_still_met():
    assert slo.report(999, 1, "99.9%", 3600).state == "met"
    assert slo.report(998, 1, "99.9%", 3600).state == "missed"


def test_no_valid_events_is_no_data_not_a_rate():
    with pytest.raises(ValueError, match="no data"):
        slo.burn_rate(0, 0, "99.9%")
    assert slo.report(0, 0, "99.9%", 3600, min_events=0) == slo.Report("no_data")


def test_a_budget_that_does_not_burn_is_never_exhausted_and_a_spent_one_is_at_once():
    assert slo.time_to_exhaustion(0, 3600) is None
    assert slo.time_to_exhaustion(0, 3600, remaining="-0.1") == 0
    assert slo.time_to_exhaustion(2, 3600, remaining="0.5") == 900


def test_errors_under_the_alerting_ratio_are_never_detected():
    assert slo.detection_time("99.9%", "0.0143", "14.4", 3600) is None
    assert slo.detection_time("99.9%", "0.0144", "14.4", 3600) == 3600


# Histograms


def test_a_quantile_of_a_histogram_says_how_wide_its_bucket_is():
    found = slo.bucket_quantile(0.5, {0.1: 0.0, 0.5: 10.0, math.inf: 10.0})
    assert (found.value, found.width) == (pytest.approx(0.3), pytest.approx(0.4))


def test_a_quantile_in_the_last_bucket_is_the_highest_edge_with_no_upper_limit():
    found = slo.bucket_quantile(0.99, {0.1: 90.0, math.inf: 100.0})
    assert (found.value, found.low, found.width) == (0.1, 0.1, math.inf)


@pytest.mark.parametrize(
    ("q", "buckets", "value"),
    [
        (0.0, {1.0: 5.0, 2.0: 5.0, math.inf: 5.0}, 0.0),
        (1.0, {1.0: 0.0, 2.0: 5.0, math.inf: 5.0}, 2.0),
        (0.5, {-1.0: 4.0, 2.0: 5.0, math.inf: 5.0}, -1.0),
    ],
)
def test_the_ends_of_a_histogram_are_as_in_prometheus(q, buckets, value):
    assert slo.bucket_quantile(q, buckets).value == value


def test_an_empty_histogram_has_no_quantile():
    assert slo.bucket_quantile(0.99, {0.1: 0.0, math.inf: 0.0}) is None


@pytest.mark.parametrize(
    ("q", "buckets"),
    [(1.1, {1.0: 1.0, math.inf: 1.0}), (0.5, {1.0: 1.0}), (0.5, {1.0: 2.0, math.inf: 1.0}), (0.5, {math.inf: 1.0})],
)
def test_a_histogram_that_is_none_is_refused(q, buckets):
    with pytest.raises(ValueError, match=r"quantile|histogram"):
        slo.bucket_quantile(q, buckets)


# Alert windows and the SLO


def test_a_month_and_a_quarter_are_counted_as_30_and_90_days_for_alerts_only():
    assert slo.alert_windows("month") == slo.alert_windows("30d")
    assert [float(row.factor) for row in slo.alert_windows("quarter")] == [43.2, 18.0, 9.0, 3.0]


def test_a_pace_that_the_budget_allows_is_no_alert():
    rows = slo.alert_windows("7d")
    assert [(row.long_s // 3600, float(row.factor)) for row in rows] == [(1, 3.36), (6, 1.4), (24, 1.0)]


def test_no_alert_window_is_longer_than_the_slo_window():
    assert [row.long_s for row in slo.alert_windows("1d")] == [3600, 86_400]
    with pytest.raises(ValueError, match="30m"):
        slo.alert_windows("30m")


@given(st.integers(3600, 400 * 86_400), st.integers(1, 999), st.sampled_from(["sre", "pyrra"]))
def test_every_alert_window_can_fire_and_none_does_within_the_budget_of_the_recipe(window_s, per_mille, recipe):
    target = f"{Fraction(per_mille, 10).numerator / Fraction(per_mille, 10).denominator}%"
    budget = slo.error_budget(target)
    rows = slo.alert_windows(window_s, recipe, target=target)
    assert rows
    for row in rows:
        assert row.short_s <= row.long_s <= window_s
        assert row.factor * budget <= Fraction(9, 10)
        assert row.factor >= min(1, Fraction(9, 10) / budget)
    assert len({(row.severity, row.factor) for row in rows}) == len(rows)


def test_a_low_objective_still_has_a_page_that_a_total_outage_reaches():
    objective = an_slo(target="90%")
    assert [float(row.factor) for row in objective.alerts] == [9.0, 6.0, 3.0, 1.0]
    told = burnt(history(*[(0, 100)] * 4320), objective)
    assert [row["decision"] for row in told] == ["firing"] * 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"target": "100%"}, "no error budget"),
        ({"window": "fortnight"}, "duration"),
        ({"window": "10m"}, "policy"),
        ({"method": "events"}, "method"),
        ({"op": "=", "threshold": 1.0}, "op"),
        ({"op": "<"}, "together"),
        ({"op": "<", "threshold": math.nan}, "threshold"),
        ({"slice_s": 0}, "slice_s"),
        ({"slice_s": 31 * 86_400}, "slice_s"),
        ({"min_events": math.nan}, "min_events"),
        ({"policy": ()}, "policy"),
    ],
)
def test_a_wrong_slo_is_refused_with_its_name(given, says):
    with pytest.raises(ValueError, match=f"SLO api/errors: .*{says}"):
        an_slo(**given)


@pytest.mark.parametrize(
    "given", [("urgent", 60, 60, 1), ("page", 60, 120, 1), ("page", 60, 0, 1), ("page", 60, 60, 0)]
)
def test_a_wrong_alert_window_is_refused(given):
    with pytest.raises(ValueError, match=r"severity|alert window"):
        AlertWindow(*given)


@pytest.mark.parametrize(
    ("window", "as_of", "start", "end"),
    [
        ("week", dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC), (2026, 11, 16), (2026, 11, 23)),
        ("week", dt.datetime(2027, 1, 1, tzinfo=dt.UTC), (2026, 12, 28), (2027, 1, 4)),
        ("month", dt.datetime(2026, 12, 1, tzinfo=dt.UTC), (2026, 11, 1), (2026, 12, 1)),
        ("month", dt.datetime(2026, 12, 1, 0, 0, 1, tzinfo=dt.UTC), (2026, 12, 1), (2027, 1, 1)),
        ("quarter", dt.datetime(2026, 11, 20, tzinfo=dt.UTC), (2026, 10, 1), (2027, 1, 1)),
        (
            "quarter",
            dt.datetime(2026, 10, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            (2026, 7, 1),
            (2026, 10, 1),
        ),
    ],
)
def test_a_calendar_period_ends_at_its_midnight_in_utc(window, as_of, start, end):
    assert an_slo(window=window).period(as_of) == tuple(dt.datetime(*day, tzinfo=dt.UTC) for day in (start, end))


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        slo.evaluate(frame([]), [an_slo()], dt.datetime(2026, 11, 20))  # noqa: DTZ001


def test_two_slos_of_one_name_are_refused():
    with pytest.raises(ValueError, match="twice"):
        slo.burns(frame([]), [an_slo(), an_slo(target="99%")], NOW)


# Measuring


def measured(objective, **columns) -> list[tuple]:
    columns.setdefault("at_us", [us(NOW) + 60 * US * i for i in range(len(next(iter(columns.values()))))])
    rows = slo.measure(nw.from_native(pl.LazyFrame(columns, strict=False)), objective).collect().to_polars()
    assert rows.schema == SCHEMA
    return rows.sort("at_us").select("good", "valid", "value").rows()


@pytest.mark.parametrize(("op", "good"), [("<", [1, 0, 0]), ("<=", [1, 1, 0]), (">", [0, 0, 1]), (">=", [0, 1, 1])])
def test_a_slice_is_good_by_its_value_and_the_threshold_itself_by_the_operator(op, good):
    found = measured(an_slo(method="timeslices", op=op, threshold=0.2), value=[0.1, 0.2, 0.3])
    assert found == [(float(g), 1.0, v) for g, v in zip(good, [0.1, 0.2, 0.3], strict=True)]


def test_a_value_that_is_no_number_is_no_data_and_an_infinite_one_is_bad():
    objective = an_slo(method="timeslices", op="<", threshold=0.2)
    assert measured(objective, value=[None, math.nan, math.inf, 0.1]) == [(0.0, 1.0, math.inf), (1.0, 1.0, 0.1)]


def test_a_ratio_outside_0_to_1_is_no_data():
    found = measured(an_slo(method="ratio_timeslices"), value=[-0.01, 0.0, 0.25, 1.0, 1.01])
    assert found == [(0.0, 1.0, 0.0), (0.25, 1.0, 0.25), (1.0, 1.0, 1.0)]


@pytest.mark.parametrize(
    "columns", [{"good": [9, 0], "valid": [10, 0]}, {"bad": [1, 0], "valid": [10, 0]}, {"good": [9, 0], "bad": [1, 0]}]
)
def test_two_of_good_bad_and_valid_are_enough_and_a_quiet_slice_is_data(columns):
    assert measured(an_slo(), **columns) == [(9.0, 10.0, 0.9), (0.0, 0.0, None)]


def test_counts_that_cannot_be_are_no_data_but_rounding_can():
    good, valid = [11.0, -1.0, None, 5.0, math.nan, 0.1 + 0.2, 1e300], [10.0, 10.0, 10.0, None, 10.0, 0.3, 1e300]
    assert measured(an_slo(), good=good, valid=valid) == [(0.3, 0.3, 1.0)]


def test_the_slice_methods_take_counts_too_and_skip_slices_without_events():
    counts = {"good": [99, 90, 0], "valid": [100, 100, 0]}
    assert measured(an_slo(method="ratio_timeslices"), **counts) == [(0.99, 1.0, 0.99), (0.9, 1.0, 0.9)]
    timeslices = an_slo(method="timeslices", op=">=", threshold=0.95)
    assert measured(timeslices, **counts) == [(1.0, 1.0, 0.99), (0.0, 1.0, 0.9)]


def test_a_moment_inside_a_slice_belongs_to_the_slice_that_ends_next():
    rows = nw.from_native(pl.LazyFrame({"at_us": [us(NOW) - 1, us(NOW) + 1], "value": [0.5, 0.75]}))
    found = slo.measure(rows, an_slo(method="ratio_timeslices")).collect().to_polars().sort("at_us")
    assert found["at_us"].to_list() == [us(NOW), us(NOW) + 60 * US]


def test_a_slice_measured_twice_counts_once_and_not_at_all_when_the_two_disagree():
    at_us = [us(NOW), us(NOW), us(NOW) + 60 * US, us(NOW) + 60 * US]
    assert measured(an_slo(), at_us=at_us, good=[9, 9, 9, 8], valid=[10] * 4) == [(9.0, 10.0, 0.9)]


@pytest.mark.parametrize(
    ("given", "columns", "says"),
    [
        ({}, {"value": [1.0]}, "two of good, bad, valid"),
        ({"method": "timeslices"}, {"good": [1.0]}, "or value"),
        ({"method": "timeslices"}, {"value": [1.0]}, "op and threshold"),
    ],
)
def test_what_cannot_be_measured_says_what_is_missing(given, columns, says):
    with pytest.raises(ValueError, match=says):
        measured(an_slo(**given), **columns)


# One moment


def test_exactly_the_threshold_fires_and_one_event_less_does_not():
    assert both((1856, 2000), *[(2000, 2000)] * 4) == "firing"
    assert both((1857, 2000), *[(2000, 2000)] * 4) == "clear"


@pytest.mark.parametrize("method", ["ratio_timeslices", "occurrences"])
def test_fractions_of_events_are_the_decimals_that_were_written(method):
    assert both(*[(0.9856, 1.0)] * 5, method=method) == "firing"
    assert both(*[(0.985601, 1.0)] * 5, method=method) == "clear"
    assert evaluated(history(*[(0.999, 1.0)] * 3), an_slo(method=method))["state"] == "met"
    assert both((2.50625 - 0.03609, 2.50625), *[(0, 0)] * 4) == "firing"  # 0.03609 * 625 < 9 * 2.50625 in floats


def test_large_counts_are_compared_exactly():
    valid = 2_000_000_000.0
    assert both((valid - 144_000_000, valid), *[(valid, valid)] * 4) == "firing"
    assert both((valid - 143_999_999, valid), *[(valid, valid)] * 4) == "clear"


def test_a_sum_of_whole_counts_is_whole_however_large():
    row = evaluated(history(*[(8e9, 8e9)] * 500, (4, 4)), an_slo())
    assert row["valid"] == 4_000_000_000_004.0


def test_counts_beyond_all_sense_are_no_data():
    assert both(*[(5e9, 5e9)] * 5) == "clear"
    assert both(*[(0, 9.1e9)] * 5) == "undecided"
    half_day = an_slo(policy=(AlertWindow("page", 43_200, 43_200, 1),))
    (row,) = burnt(history(*[(0, 9e9)] * 720), half_day)
    assert (row["burn_long"], row["decision"]) == (pytest.approx(1000), "firing")
    (row,) = burnt(history(*[(0, 9e9)] * 1440), an_slo(policy=(AlertWindow("page", 86_400, 86_400, 1),)))
    assert (row["burn_long"], row["decision"]) == (None, "undecided")


def test_no_data_is_neither_good_nor_bad():
    row = evaluated(frame([]), an_slo())
    assert (row["state"], row["good"], row["valid"], row["slices"], row["coverage"]) == ("no_data", 0, 0, 0, 0)
    missing = ("sli_ratio", "budget_used", "budget_remaining", "burn", "exhaustion_s", "last_us", "last_value")
    assert {row[name] for name in missing} == {None}
    assert {r["decision"] for r in burnt(frame([]), an_slo())} == {"undecided"}


def test_slices_without_events_are_data_but_no_ratio():
    row = evaluated(history((0, 0), (0, 0)), an_slo())
    assert (row["state"], row["slices"], row["sli_ratio"]) == ("no_data", 2, None)
    assert both(*[(0, 0)] * 5) == "undecided"


def test_one_event_is_enough_unless_more_were_asked_for():
    assert (both((0, 1), *[(0, 0)] * 4), both((1, 1), *[(0, 0)] * 4)) == ("firing", "clear")
    assert both((0, 1), *[(0, 0)] * 4, min_events=2) == "undecided"
    assert both((0, 2), *[(0, 0)] * 4, min_events=2) == "firing"
    assert evaluated(history((0, 1)), an_slo(min_events=2))["state"] == "no_data"


def test_a_long_window_that_is_fine_clears_also_when_the_short_one_is_quiet():
    objective = an_slo(policy=(HALF_HOUR,), min_events=10)
    assert decision(history(*[(10, 10)] * 25, *[(0, 0)] * 5), objective) == "clear"
    assert decision(history(*[(0, 10)] * 25, *[(0, 0)] * 5), objective) == "undecided"


def test_missing_slices_leave_it_undecided_only_while_they_could_decide():
    fine, broken = (1000, 1000), (0, 1000)
    assert both(fine, fine, fine, fine, None) == "undecided"
    assert both(broken, fine, fine, fine, None) == "firing"
    assert both(fine, fine, fine, fine, None, factor=201) == "clear"
    assert both(None, None, None, None, None) == "undecided"


def test_coverage_is_the_share_of_slices_that_have_data():
    (row,) = burnt(history(*[(10, 10)] * 20, None, *[(10, 10)] * 4), an_slo(policy=(HALF_HOUR,)))
    assert (row["coverage_long"], row["coverage_short"]) == (24 / 30, 4 / 5)
    assert (row["burn_long"], row["burn_short"], row["decision"]) == (0.0, 0.0, "undecided")


def test_a_window_begins_after_its_start_and_includes_its_end():
    window = an_slo(policy=(AlertWindow("page", 300, 300, 1),))
    rows = frame([(NOW - 5 * MINUTE, 0, 7), (NOW - 4 * MINUTE, 0, 1), (NOW, 0, 1), (NOW + MINUTE, 0, 7)])
    (row,) = burnt(rows, window)
    assert row["coverage_long"] == 2 / 5


def test_a_moment_between_slices_looks_at_whole_slices():
    window = an_slo(policy=(AlertWindow("page", 300, 300, 1),))
    (row,) = burnt(history(*[(0, 1)] * 5), window, as_of=NOW + dt.timedelta(seconds=59))
    assert (row["coverage_long"], row["decision"]) == (1.0, "firing")


def test_a_window_shorter_than_a_slice_is_one_slice():
    objective = an_slo(slice_s=3600, policy=(AlertWindow("page", 3600, 300, 1),))
    slices = history((0, 1), (9, 10), step=dt.timedelta(hours=1))
    for since in (0, 30, 59):
        (row,) = burnt(slices, objective, as_of=NOW + since * MINUTE)
        assert (row["coverage_short"], row["burn_short"], row["decision"]) == (1.0, pytest.approx(100), "firing")


def test_a_slice_that_stands_twice_is_not_judged():
    twice = frame([(NOW, 0, 1), (NOW, 0, 1)])
    objective = an_slo(policy=(AlertWindow("page", 60, 60, 1),), window="1h", slice_s=60)
    (row,) = burnt(twice, objective)
    assert (row["decision"], row["burn_long"], row["coverage_long"]) == ("undecided", None, 2.0)
    row = evaluated(nw.concat([history(*[(0, 1)] * 60)] * 2), objective)
    assert (row["state"], row["burn"], row["coverage"]) == ("no_data", None, 2.0)


def test_rows_that_are_no_data_are_left_out():
    rows = frame([(NOW, 5, None), (NOW - MINUTE, None, 5), (NOW - 2 * MINUTE, 9, 5), (NOW - 3 * MINUTE, 1, 2)])
    row = evaluated(rows, an_slo())
    assert (row["slices"], row["good"], row["valid"]) == (1, 1.0, 2.0)


def test_every_slo_sees_only_its_own_rows_in_the_order_given():
    rows = nw.concat([frame([(NOW, 9, 10)], sli="b"), frame([(NOW, 5, 10)], sli="a"), frame([(NOW, 0, 1)], "other")])
    slos = [an_slo(sli="b"), an_slo(sli="none"), an_slo(sli="a", window="7d")]
    told = slo.evaluate(rows, slos, NOW).collect().to_polars()
    assert told.select("sli", "sli_ratio").rows() == [("b", 0.9), ("none", None), ("a", 0.5)]
    assert slo.burns(rows, slos, NOW).collect().to_polars()["sli"].to_list() == ["b"] * 4 + ["none"] * 4 + ["a"] * 3
    assert slo.evaluate(rows, [], NOW).collect().is_empty()
    assert slo.burns(rows, [], NOW).collect().is_empty()


def test_the_last_value_is_that_of_the_latest_slice_and_null_when_it_is_old():
    hours = dt.timedelta(hours=1)
    row = evaluated(frame([(NOW - hours, 1, 1, 0.7), (NOW - 2 * hours, 1, 1, 0.5)]), an_slo())
    assert (row["last_us"], row["last_value"]) == (us(NOW - hours), 0.7)
    row = evaluated(frame([(NOW - 25 * hours, 1, 1, 0.7)]), an_slo())
    assert (row["last_us"], row["last_value"]) == (us(NOW - 25 * hours), None)
    row = evaluated(frame([(NOW - 36 * hours, 1, 1, 0.7)]), an_slo(slice_s=86_400))
    assert row["last_value"] == 0.7


def test_what_is_not_measured_yet_is_not_spent():
    row = evaluated(history(*[(0, 1)] * 60), an_slo(target="50%", window="10h"))
    assert (row["coverage"], row["burn"], row["budget_used"], row["budget_remaining"]) == (0.1, 2.0, 0.2, 0.8)
    assert row["exhaustion_s"] == 0.8 * 36_000 / 2


def test_a_calendar_budget_is_that_of_the_whole_period_and_the_elapsed_part_is_expected():
    day = dt.timedelta(days=1)
    end = dt.datetime(2026, 11, 11, tzinfo=dt.UTC)  # ten of thirty days
    objective = an_slo(target="90%", window="month", method="timeslices", slice_s=86_400)
    row = evaluated(history(*[(0, 1)] * 9, (0, 1), (1, 1), end=end, step=day), objective, as_of=end)
    assert (row["expected_slices"], row["slices"], row["bad"]) == (10, 10, 9)
    assert (row["burn"], row["budget_used"], row["state"]) == (9.0, 3.0, "missed")
    row = evaluated(history((0, 1), *[(1, 1)] * 9, end=end, step=day), objective, as_of=end)
    assert (row["budget_used"], row["exhaustion_s"]) == (pytest.approx(1 / 3), pytest.approx(20 * 86_400))
    row = evaluated(history((0.1, 1), *[(1, 1)] * 9, end=end, step=day), objective, as_of=end)
    assert row["exhaustion_s"] is None  # the month ends before


def test_the_first_moment_of_a_period_has_nothing_to_expect():
    midnight = dt.datetime(2026, 11, 1, 0, 0, 30, tzinfo=dt.UTC)
    row = evaluated(history((0, 1), end=midnight - dt.timedelta(seconds=30)), an_slo(window="month"), as_of=midnight)
    assert (row["expected_slices"], row["coverage"], row["state"]) == (0, None, "no_data")


def test_parquet_read_lazily_by_the_streaming_engine_gives_the_same(tmp_path):
    rows = nw.concat([history(*[(10 - i % 4, 10) for i in range(90)]), frame([(NOW, 1, 3, 0.5)], sli="other")])
    rows.collect().to_polars().write_parquet(tmp_path / "measurements.parquet", row_group_size=13)
    stored = nw.from_native(pl.scan_parquet(tmp_path / "*.parquet"))
    slos = [an_slo(), an_slo(sli="other", window="month"), an_slo(sli="none")]
    for judge in (slo.evaluate, slo.burns):
        streamed = judge(stored, slos, NOW).collect(engine="streaming").to_polars()
        assert streamed.equals(judge(rows, slos, NOW).collect().to_polars())


# Every moment


def test_an_hour_of_errors_fires_and_resets_at_the_published_minutes():
    fast, slow = incident("14.4", 3600), incident(6, 21_600)
    assert (fast[0], fast[-1] + 1) == (9, 65)
    assert (slow[0], slow[-1] + 1) == (22, 89)
    assert fast == list(range(9, 65))


def test_a_timeline_has_every_slice_also_without_data():
    objective = an_slo(policy=(HALF_HOUR,))
    told = slo.timeline(frame([]), objective, NOW - 3 * MINUTE, NOW).collect().to_polars()
    assert told["at_us"].to_list() == [us(NOW) - 60 * US * i for i in (2, 1, 0)]
    assert told.select("burn_long", "burn_short", "decision").unique().rows() == [(None, None, "undecided")]
    with pytest.raises(ValueError, match="no slice"):
        slo.timeline(frame([]), objective, NOW, NOW)


def test_a_timeline_sees_only_its_own_rows():
    mine, others = history(*[(9, 10)] * 5), [history(*[(0, 10)] * 5).with_columns(nw.lit("x").alias(c)) for c in KEYS]
    objective = an_slo(policy=(HALF_HOUR,))
    for said in (slo.timeline, slo.burn_down):
        alone, among = (
            said(rows, objective, NOW - 5 * MINUTE, NOW).collect().to_polars()
            for rows in (mine, nw.concat([mine, *others]))
        )
        assert alone.equals(among)


@pytest.mark.parametrize("window", ["1h", "100m", "week", "month"])
def test_the_burn_down_is_what_evaluate_says_at_each_moment(window):
    objective = an_slo(target="90%", window=window, slice_s=900)
    end = dt.datetime(2026, 6, 1, 3, tzinfo=dt.UTC)  # a Monday, and the first of a month
    slices = [(10 - i % 3, 10) if i % 7 else None for i in range(40)]
    rows = history(*slices, end=end, step=dt.timedelta(minutes=15))
    told = slo.burn_down(rows, objective, end - dt.timedelta(hours=8), end).collect().to_polars()
    assert told.height == 32
    for at_us, remaining in told.rows()[::3]:
        at = dt.datetime.fromtimestamp(at_us / US, dt.UTC)
        assert remaining == evaluated(rows, objective, as_of=at)["budget_remaining"]


def test_the_worked_numbers_of_the_documentation_come_out():
    done = doctest.testfile(str(ROOT / "docs" / "slo-math.md"), module_relative=False)
    assert (done.failed, done.attempted > 10) == (0, True)


# Laws


COUNTS = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda p: (max(p) - min(p), max(p))),
    st.tuples(st.integers(0, 99), st.integers(1, 9)).map(lambda p: (p[1] * (100 - p[0]) / 100, float(p[1]))),
)
HISTORIES = st.lists(COUNTS, min_size=1, max_size=14)
ALERTS = st.builds(
    lambda s, a, b, f: AlertWindow(s, max(a, b), min(a, b), f),
    st.sampled_from(["page", "ticket"]),
    st.integers(30, 900),
    st.integers(30, 900),
    st.fractions(Fraction(1, 2), 12, max_denominator=10),
)
few = settings(max_examples=25, deadline=None)


def expected_decision(slices, alert, budget, min_events, at) -> str:
    """The decision by its definition, on fractions, of (number of the slice, counts); slices are minutes."""
    above, below = [], []
    for length in (alert.long_s, alert.short_s):
        length = max(length, 60)
        wanted = at * 60 // 60 - (at * 60 - length) // 60
        seen = [counts for n, counts in slices if counts is not None and at * 60 - length < n * 60 <= at * 60]
        valid = sum(slo.exact(v) for _, v in seen)
        if not valid or valid < min_events:
            continue
        ratio = 1 - sum(slo.exact(g) for g, _ in seen) / valid
        share = Fraction(len(seen), wanted)
        above.append(ratio * share / budget >= alert.factor)
        below.append((ratio * share + 1 - share) / budget < alert.factor)
    if len(above) == 2 and all(above):
        return "firing"
    return "clear" if any(below) else "undecided"


@few
@given(HISTORIES, st.lists(ALERTS, min_size=1, max_size=3), st.sampled_from(["90%", "99%", "50%"]), st.integers(0, 20))
def test_the_decision_is_its_definition_at_every_moment_and_the_timeline_says_the_same(
    slices, policy, target, min_events
):
    objective = an_slo(target=target, policy=tuple(policy), min_events=min_events)
    rows, start = history(*slices), NOW - len(slices) * MINUTE
    told = slo.timeline(rows, objective, start, NOW + 2 * MINUTE).collect().to_polars()
    numbered = list(enumerate(slices, us(start) // (60 * US) + 1))
    expected = [
        expected_decision(numbered, alert, objective.budget, min_events, at_us // (60 * US))
        for at_us, alert in zip(told["at_us"], itertools.cycle(policy), strict=False)
    ]
    assert told["decision"].to_list() == expected
    at_us = told["at_us"][len(told) // 2]
    now = slo.burns(rows, [objective], dt.datetime.fromtimestamp(at_us / US, dt.UTC)).collect().to_polars()
    shared = told.columns[1:]
    assert now.select(shared).rows() == told.filter(pl.col("at_us") == at_us).select(shared).rows()


@few
@given(st.lists(st.sampled_from([(0, 1), (1, 1), (0.5, 1), None]), min_size=5, max_size=5), st.data())
def test_what_missing_slices_leave_decided_no_completion_of_them_changes(slices, data):
    factor = data.draw(st.fractions(Fraction(1, 2), 11, max_denominator=5))
    known = both(*slices, target="90%", method="ratio_timeslices", factor=factor)
    any_slice = st.sampled_from([(0, 1), (1, 1), (0.25, 1), (0.9, 1)])
    whole = [counts or data.draw(any_slice) for counts in slices]
    complete = both(*whole, target="90%", method="ratio_timeslices", factor=factor)
    assert known in (complete, "undecided")
    assert complete != "undecided"


@few
@given(HISTORIES, st.randoms(use_true_random=False), st.integers(1, 1000))
def test_neither_the_order_of_rows_nor_the_scale_of_traffic_matters(slices, random, scale):
    rows = [(NOW - i * MINUTE, *counts) for i, counts in enumerate(slices) if counts is not None]
    objective = an_slo(policy=(HALF_HOUR,))
    first = (evaluated(frame(rows), objective), burnt(frame(rows), objective))
    random.shuffle(rows)
    assert (evaluated(frame(rows), objective), burnt(frame(rows), objective)) == first
    scaled = [(at, good * scale, valid * scale) for at, good, valid in rows]
    ((before,), (row,)) = first[1], burnt(frame(scaled), objective)
    assert row["decision"] == before["decision"]
    for name in ("burn_long", "coverage_short"):
        assert row[name] == pytest.approx(before[name])
    assert evaluated(frame(scaled), objective)["state"] == first[0]["state"]


@few
@given(HISTORIES, st.data())
def test_more_bad_never_lowers_the_burn(slices, data):
    objective, worse = an_slo(policy=(HALF_HOUR,)), list(slices)
    n = data.draw(st.integers(0, len(slices) - 1))
    if worse[n] is not None:
        worse[n] = (worse[n][0] * data.draw(st.sampled_from([0, 0.5, 0.99])), worse[n][1])
    before, after = evaluated(history(*slices), objective), evaluated(history(*worse), objective)
    assert (after["burn"] or 0) >= (before["burn"] or 0)
    assert (after["budget_used"] or 0) >= (before["budget_used"] or 0)
    order = ["clear", "undecided", "firing"]
    decisions = [decision(history(*s), objective) for s in (slices, worse)]
    assert order.index(decisions[1]) >= order.index(decisions[0])


@few
@given(st.lists(COUNTS, min_size=2, max_size=30), st.data())
def test_what_is_spent_adds_up_over_a_split_window(slices, data):
    cut = data.draw(st.integers(1, len(slices) - 1))
    parts = [
        evaluated(
            history(*slices),
            an_slo(window=f"{minutes}m", policy=(AlertWindow("page", 60, 60, 1),)),
            as_of=NOW - back * MINUTE,
        )
        for minutes, back in ((len(slices), 0), (len(slices) - cut, 0), (cut, len(slices) - cut))
    ]
    for name in ("slices", "expected_slices"):
        assert parts[0][name] == parts[1][name] + parts[2][name]
    for name in ("good", "bad", "valid"):
        whole, *rest = (Fraction(part[name]).limit_denominator(10**6) for part in parts)
        assert whole == sum(rest)


@few
@given(st.dictionaries(st.floats(0.001, 100), st.integers(0, 50), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_in_its_bucket_and_rises_with_q(counts, q):
    edges = sorted(counts)
    total = list(itertools.accumulate(counts[edge] for edge in edges))
    buckets = dict(zip(edges, map(float, total), strict=True)) | {math.inf: float(total[-1] + 1)}
    found = slo.bucket_quantile(q, buckets)
    assert found.low <= found.value <= found.high
    at = bisect.bisect_left([buckets[edge] for edge in [*edges, math.inf]], q * buckets[math.inf])
    assert found.high == [*edges, math.inf][at]
    assert slo.bucket_quantile(min(1.0, q + 0.1), buckets).value >= found.value
