"""Trends: counting people, the test's known answers, its error rates by simulation, and the kinds of finding."""

import datetime as dt
import itertools
import math
from typing import get_args

import fake_world as world
import narwhals as nw
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from feedback_lib import records
from feedback_lib.analysis import trends
from feedback_lib.analysis.days import Days
from feedback_lib.analysis.trends import TrendOptions

SIZES = np.append(np.geomspace(1, 25, 39), 20.0)  # people a week of 40 subjects; the last is the one that grows


def analyse(frame: pl.DataFrame, **options) -> trends.Trends:
    return trends.analyse(
        frame, world.WEEK, world.topics(frame), TrendOptions(**options), run_id="8f3c21d0", as_of=world.AS_OF
    )


def kinds(told: trends.Trends) -> dict[str, str]:
    return {r.subject: r.kind for r in told.rows if r.subject_type == "topic"}


# Counting


def signals(*rows: tuple[str, str | None, dt.datetime, int | None]) -> nw.LazyFrame:
    frame = pl.DataFrame(
        rows,
        schema={"uid": pl.String, "author": pl.String, "created_at": pl.Datetime("us", "UTC"), "topic_id": pl.Int64},
        orient="row",
    )
    return nw.from_native(world.with_us(frame).lazy())


def counted(frame: nw.LazyFrame) -> list[tuple]:
    found = trends.weekly_counts(frame, "topic_id").collect().to_polars().sort("week_us", "topic_id")
    return found.select(pl.from_epoch("week_us", "us").dt.date(), "topic_id", "people", "mentions").rows()


def at(*when: int) -> dt.datetime:
    return dt.datetime(*when, tzinfo=dt.UTC)


def test_a_person_who_writes_twice_is_one_person_and_two_mentions():
    rows = [("a", "anon-1", at(2026, 11, 9), 1), ("b", "anon-1", at(2026, 11, 10), 1)]
    assert counted(signals(*rows)) == [(dt.date(2026, 11, 9), 1, 1, 2)]


def test_unknown_authors_are_not_one_person():
    rows = [("a", None, at(2026, 11, 9), 1), ("b", None, at(2026, 11, 10), 1)]
    assert counted(signals(*rows)) == [(dt.date(2026, 11, 9), 1, 2, 2)]


def test_a_week_is_monday_to_sunday_in_utc_also_across_a_new_year():
    rows = [
        ("a", None, at(2026, 12, 27, 23, 59, 59), 1),
        ("b", None, at(2026, 12, 28), 1),
        ("c", None, at(2027, 1, 3, 23, 59, 59), 1),
        ("d", None, at(2027, 1, 4), 1),
    ]
    assert counted(signals(*rows)) == [
        (dt.date(2026, 12, 21), 1, 1, 1),
        (dt.date(2026, 12, 28), 1, 2, 2),
        (dt.date(2027, 1, 4), 1, 1, 1),
    ]


@given(st.integers(0, 130 * 365 * 24))
def test_the_monday_in_microseconds_is_the_monday_of_records(hours):
    when = at(1970, 1, 5) + dt.timedelta(hours=hours)
    frame = signals(("a", None, when, 1))
    assert counted(frame)[0][0] == records.monday(when)


def test_signals_without_the_subject_are_left_out():
    assert counted(signals(("a", None, at(2026, 11, 9), None))) == []


# Known answers


def test_the_rate_ratio_and_its_interval_equal_those_of_r():
    """R 4, help page of poisson.test: poisson.test(c(11, 6+8+7), c(800, 1083+1050+878))."""
    ratio, low, high = trends.rate_ratio(11, 800, 21, 3011)
    assert ratio == pytest.approx(1.971488, abs=1e-6)
    assert (low, high) == (pytest.approx(0.8584264, abs=1e-7), pytest.approx(4.277266, abs=1e-6))


def test_the_interval_is_that_of_clopper_and_pearson():
    """Against scipy's exact binomial interval, which is an independent implementation."""
    _, low, high = trends.rate_ratio(7, 1, 12, 1)
    exact = stats.binomtest(7, 19).proportion_ci(0.95, method="exact")
    assert low == pytest.approx(exact.low / (1 - exact.low))
    assert high == pytest.approx(exact.high / (1 - exact.high))


def test_nobody_before_has_a_lower_limit_and_no_upper_one():
    ratio, low, high = trends.rate_ratio(5, 100, 0, 800)
    assert (ratio, high) == (None, None)
    assert low > 1


def test_nobody_now_is_a_ratio_of_zero_with_an_upper_limit():
    ratio, low, high = trends.rate_ratio(0, 100, 40, 800)
    assert (ratio, low) == (0, 0)
    assert 0 < high < 1


@pytest.mark.parametrize(("x", "n", "b", "before"), [(1, 0, 1, 1), (1, 1, 1, 0), (-1, 1, 1, 1), (1, 1, -1, 1)])
def test_impossible_counts_and_exposures_are_refused(x, n, b, before):
    with pytest.raises(ValueError, match="must"):
        trends.rate_ratio(x, n, b, before)


@given(st.floats(1, 50), st.floats(1, 400), st.floats(1, 10))
def test_more_scatter_never_narrows_the_interval(x, b, factor):
    _, low, high = trends.rate_ratio(x, 1, b, 8)
    _, wide_low, wide_high = trends.rate_ratio(x, 1, b, 8, dispersion=factor)
    assert wide_low <= low * (1 + 1e-9)
    assert wide_high is None or wide_high >= high * (1 - 1e-9)


def test_every_type_of_signal_is_either_a_voice_or_a_machine():
    assert sorted((*records.VOICES, *trends.MACHINES)) == sorted(get_args(records.SignalType))
    assert records.VOICES == ("ticket", "issue", "review", "mail", "interview")


def test_an_interval_end_beyond_any_number_is_none():
    assert trends.rate_ratio(0, 1, 0.5, 8, dispersion=50) == (0, 0, None)
    assert trends.rate_ratio(1e300, 1, 0, 8)[1] is None


COUNTS = st.just(0.0) | st.floats(1e-300, 1e9)
EXPOSURES = st.floats(1e-9, 1e9)


@given(COUNTS, EXPOSURES, COUNTS, EXPOSURES, st.floats(1, 1e9), st.floats(0.5, 0.999))
def test_every_ratio_and_end_of_an_interval_is_finite_or_none(x, n, b, before, dispersion, level):
    ratio, low, high = trends.rate_ratio(x, n, b, before, dispersion=dispersion, level=level)
    assert all(v is None or (math.isfinite(v) and v >= 0) for v in (ratio, low, high))


@given(
    st.just(0.0) | st.floats(1e-2, 1e4), st.floats(1, 1e4), st.floats(1e-2, 1e5), st.floats(1, 1e5), st.floats(1, 50)
)
def test_the_ratio_lies_in_its_interval(x, n, b, before, dispersion):
    ratio, low, high = trends.rate_ratio(x, n, b, before, dispersion=dispersion)
    found = [v for v in (low, ratio, high) if v is not None]
    assert all(lower <= upper * (1 + 1e-6) for lower, upper in itertools.pairwise(found))


def test_the_tails_are_the_mid_p_of_the_binomial():
    up, down = trends.tails(np.array([5.0]), np.array([10.0]), 0.2, np.ones(1))
    law = stats.binom(15, 0.2)
    assert up[0] == pytest.approx(law.sf(5) + law.pmf(5) / 2)
    assert down[0] == pytest.approx(law.cdf(4) + law.pmf(5) / 2)


@given(st.floats(0, 60), st.floats(0, 500), st.floats(0.01, 0.6), st.floats(0.1, 8))
def test_the_two_tails_add_up_to_one(x, b, share, spread):
    up, down = trends.tails(np.array([x]), np.array([b]), share, np.array([spread]))
    assert up[0] + down[0] == pytest.approx(1, abs=1e-6)


def test_q_values_decide_as_in_the_paper():
    """The worked example of Benjamini & Hochberg 1995 (a heart attack trial): four of fifteen pass 0.05."""
    p = np.array(
        [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
         0.7590, 1.0]
    )  # fmt: skip
    assert (trends.benjamini_hochberg(p) <= 0.05).sum() == 4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_q_values_equal_scipys_in_any_order(p):
    assert trends.benjamini_hochberg(np.array(p)) == pytest.approx(stats.false_discovery_control(p))


# Error rates, by simulation


def noise(rng: np.random.Generator, sizes: np.ndarray, weeks: int, burst: float | None = None) -> np.ndarray:
    """(subjects, weeks) Poisson counts, or negative binomial ones with size parameter ``burst``."""
    mean = np.repeat(sizes[:, None], weeks, axis=1)
    if burst is not None:
        mean = rng.gamma(burst, mean / burst)
    return rng.poisson(mean).astype(float)


def alarms(people: np.ndarray, others: np.ndarray, q: float = 0.05) -> np.ndarray:
    found = trends.compare(people, people.sum(axis=0) + others)
    assert found is not None
    return (found.q < q) & found.clear


@pytest.mark.parametrize("burst", [None, 10.0, 4.0], ids=["poisson", "scattered", "bursty"])
def test_weeks_of_pure_noise_raise_alarms_at_most_as_often_as_promised(burst):
    """200 weeks, 40 subjects, q = 0.05: 10 are promised; 18 is three standard errors more."""
    rng = np.random.default_rng(7)
    wrong = sum(alarms(noise(rng, SIZES, 10, burst), rng.poisson(200, 10)).any() for _ in range(200))
    assert wrong <= 18


def test_noise_in_few_and_small_subjects_stays_quiet_too():
    rng = np.random.default_rng(8)
    sizes = np.array([8.0, 6, 6, 5, 4, 5, 20])
    wrong = sum(alarms(noise(rng, sizes, 10), rng.poisson(10, 10)).any() for _ in range(200))
    assert wrong <= 18


@pytest.mark.thorough  # of power, by simulation
def test_a_doubling_at_twenty_people_a_week_is_found_within_two_weeks_nine_times_of_ten():
    """1,000 worlds of 40 subjects and about 700 people a week."""
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(1000):
        grown = np.repeat(SIZES[:, None], 11, axis=1)
        grown[-1, 9:] *= 2
        people, others = rng.poisson(grown).astype(float), rng.poisson(400, 11)
        found += alarms(people[:, :10], others[:10])[-1] or alarms(people[:, 1:], others[1:])[-1]
    assert found / 1000 >= 0.9


def test_a_topic_that_explodes_does_not_make_the_others_fall():
    rng = np.random.default_rng(10)
    wrong = 0
    for _ in range(100):
        grown = np.repeat(np.full(12, 8.0)[:, None], 10, axis=1)
        grown[0, 9] = 80
        wrong += alarms(rng.poisson(grown).astype(float), np.zeros(10))[1:].any()
    assert wrong <= 11


def test_twice_as_many_people_in_every_topic_is_no_trend():
    people = np.repeat(SIZES[:, None].round(), 9, axis=1)
    people[:, -1] *= 2
    assert not alarms(people, np.append(np.full(8, 100), 200)).any()


def test_scatter_is_estimated_at_one_for_poisson_counts_and_above_for_bursty_ones():
    rng = np.random.default_rng(11)
    plain, bursty = noise(rng, SIZES, 8), noise(rng, SIZES, 8, burst=4.0)
    assert np.median(trends.dispersion(plain, plain.sum(axis=0) + 300)) == pytest.approx(1, abs=0.15)
    assert np.median(trends.dispersion(bursty, bursty.sum(axis=0) + 300)[-10:]) > 3


def test_the_power_promised_is_the_power_measured():
    """The ratio said to be seen four times of five is seen about that often among 40 subjects."""
    rng = np.random.default_rng(12)
    others = SIZES[:-1].sum() + 300
    ratio = trends.power(20, 20 + others, tests=40)
    assert ratio is not None
    grown = np.repeat(SIZES[:, None], 10, axis=1)
    grown[-1, -1] *= ratio
    worlds = (rng.poisson(grown).astype(float) for _ in range(400))
    assert np.mean([alarms(p, rng.poisson(300, 10))[-1] for p in worlds]) == pytest.approx(0.8, abs=0.08)


def test_larger_topics_show_smaller_growth():
    ratios = [trends.power(n, 400, tests=40) for n in (3, 10, 30, 100)]
    assert ratios == sorted(ratios, reverse=True)
    assert trends.power(10, 400, tests=40, dispersion=3.0) > ratios[1]


def test_power_of_nobody_is_refused():
    with pytest.raises(ValueError, match="more than 0"):
        trends.power(0, 100, tests=1)


# Findings


def test_a_quiet_week_has_no_finding_but_the_error_that_always_recurs():
    told = analyse(world.understood())
    assert [(r.kind, r.name) for r in told.findings] == [("recurring", "KeyError: 'region'")]
    assert set(kinds(told).values()) == {"steady"}


def test_a_topic_heard_for_the_first_time_is_new_with_no_ratio():
    frame = world.understood(world.steady(12) | {2: [0] * 11 + [14]})
    (row,) = [r for r in analyse(frame).findings if r.subject_type == "topic"]
    assert (row.kind, row.subject, row.people, row.baseline_people) == ("new", "2", 14, 0)
    assert row.ratio is None
    assert row.low > 1
    assert row.q < 0.05


def test_a_topic_born_last_week_is_still_new():
    frame = world.understood(world.steady(12) | {2: [0] * 10 + [12, 14]})
    assert kinds(analyse(frame))["2"] == "new"


def test_growth_and_fall_are_told_with_interval_and_this_weeks_evidence():
    frame = world.understood(world.steady(12, t1=[40], t7=[20] * 11 + [2]))
    told = analyse(frame)
    assert kinds(told) | {"1": "growing", "7": "falling"} == kinds(told)
    row = next(r for r in told.findings if r.subject == "1")
    assert row.low < row.ratio < row.high
    assert row.people == row.mentions == len(row.evidence) == 40
    assert (row.baseline_people, row.baseline_weeks) == (8, 8)
    this_week = frame.filter(pl.col("created_at") >= dt.datetime(2026, 11, 9, tzinfo=dt.UTC))
    assert set(row.evidence) == set(this_week.filter(pl.col("topic_id") == 1)["uid"])


def test_a_topic_back_to_its_usual_size_after_one_loud_week_is_not_growing():
    assert kinds(analyse(world.understood(world.steady(12, t1=[40, 8]))))["1"] == "steady"


def test_one_person_who_writes_forty_times_is_no_trend():
    frame = world.understood(world.steady(12, t1=[40]))
    loud = (pl.col("created_at") >= dt.datetime(2026, 11, 9, tzinfo=dt.UTC)) & (pl.col("topic_id") == 1)
    frame = frame.with_columns(author=pl.when(loud).then(pl.lit("anon-loud")).otherwise("author"))
    told = analyse(frame)
    assert kinds(told)["1"] == "steady"
    assert next(r for r in told.rows if r.subject == "1").mentions == 40


def test_fewer_people_than_the_minimum_never_make_a_finding():
    frame = world.understood(world.steady(12) | {2: [0] * 11 + [9]})
    assert kinds(analyse(frame))["2"] == "new"
    assert kinds(analyse(frame, min_people=10)).get("2") in (None, "steady")


def test_duplicates_count_as_people_and_stand_last_in_the_evidence():
    frame = world.understood(world.steady(12, t1=[40]))
    mine = frame.filter(pl.col("topic_id") == 1).sort("created_at")["uid"]
    copy, original = mine[-1], mine[-2]
    frame = frame.with_columns(
        duplicate_of=pl.when(pl.col("uid") == copy).then(pl.lit(original)).otherwise("duplicate_of"),
        topic_score=pl.when(pl.col("uid") == copy).then(0.99).otherwise("topic_score"),
    )
    row = next(r for r in analyse(frame).findings if r.subject == "1")
    assert row.people == 40
    assert row.evidence[-1] == copy


def test_a_week_without_any_data_is_left_out_and_not_counted_as_zero():
    plan = {t: [*c[:6], 0, 0, *c[8:]] for t, c in world.steady(12).items()}
    told = analyse(world.understood(plan))
    assert told.baseline_weeks == 6
    assert next(r for r in told.rows if r.subject == "1").baseline_people == 8
    assert told.heard[-6:-4] == (None, None)
    assert {r.kind for r in told.findings} == {"recurring"}


@pytest.mark.parametrize(("weeks", "reason"), [(3, "only 2 earlier weeks have data, 3 are needed"), (4, None)])
def test_too_short_a_history_is_said_and_not_tested(weeks, reason):
    told = analyse(world.understood(world.steady(weeks)))
    assert told.abstained == reason
    assert (told.tested == 0) is (reason is not None)


def test_nobody_heard_is_no_data():
    told = analyse(world.understood(week=world.WEEK - dt.timedelta(weeks=1)))
    assert told.abstained == "nobody was heard this week"
    assert told.heard[-1] is None
    assert told.found[-1] is None


def test_an_empty_frame_is_no_data_either():
    told = analyse(world.understood().clear())
    assert told.rows == ()
    assert told.abstained == "nobody was heard this week"


def test_signals_after_the_week_are_not_looked_at():
    early = world.understood(world.steady(12))
    late = world.understood(world.steady(1, t1=[60]), week=world.WEEK + dt.timedelta(weeks=1))
    assert analyse(pl.concat([early, late])).rows == analyse(early).rows


def test_a_source_that_was_not_read_makes_nothing_fall():
    frame = world.understood(world.steady(12))
    start = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
    broken = frame.filter(~((pl.col("origin") == "support") & (pl.col("created_at") >= start)))
    told = trends.analyse(broken, world.WEEK, world.topics(frame), as_of=world.AS_OF, exclude=[("files", "support")])
    assert set(kinds(told)) == {"3", "4"}  # the forum's
    assert set(kinds(told).values()) == {"steady"}


def test_machines_are_no_voices_but_make_an_error_recur():
    frame = world.understood(world.steady(12) | {5: [0] * 12})
    logged = world.understood({5: [2] * 12}).with_columns(type=pl.lit("error"), author=pl.lit(None, pl.String))
    told = analyse(pl.concat([frame, logged]))
    assert told.heard[-1] == analyse(frame).heard[-1]
    assert [(r.kind, r.subject_type, r.mentions) for r in told.findings] == [("recurring", "error", 2)]
    assert told.recurring["weeks_seen"].to_list() == [9]


def test_a_recurring_error_counts_voices_as_people_and_has_no_ratio():
    """Four people speak of it every week, and machines hit it ten times more."""
    frame = world.understood(world.steady(12))
    logged = world.understood({5: [10] * 12}).with_columns(
        uid=pl.format("machine {}", "uid"), type=pl.lit("error"), author=pl.lit(None, pl.String)
    )
    (row,) = analyse(pl.concat([frame, logged])).findings
    assert (row.kind, row.people, row.mentions) == ("recurring", 4, 14)
    assert (row.baseline_people, row.baseline_mentions) == (4, 14)
    assert (row.ratio, row.low, row.high, row.p, row.q) == (None,) * 5
    only = analyse(pl.concat([frame.filter(pl.col("topic_id") != 5), logged])).findings
    assert [(r.people, r.mentions, r.baseline_people) for r in only] == [(0, 10, 0)]


def test_every_ratio_can_be_computed_again_from_the_numbers_beside_it():
    """Topic 1 moved, so its people are set aside from what every subject is compared with."""
    told = analyse(world.understood(world.steady(12, t1=[40])))
    tested = told.table.filter(pl.col("ratio").is_not_null())
    again = (pl.col("people") / pl.col("exposed")) / (pl.col("baseline_people") / pl.col("baseline_exposed"))
    assert tested.height == 19
    assert tested["ratio"].to_list() == pytest.approx(tested.select(again).to_series().to_list())
    assert told.heard[-1] == 72
    assert tested["exposed"].unique().to_list() == [32]


@pytest.mark.parametrize(
    ("counts", "recurs"),
    [
        ([0, 0, 0, 0, 0, 2, 2, 1], True),
        ([0, 0, 0, 0, 2, 2, 1, 0], True),  # last week is recent enough
        ([0, 0, 0, 2, 2, 2, 0, 0], False),  # over
        ([0, 0, 0, 0, 0, 0, 5, 5], False),  # two weeks are not three
        ([0, 0, 0, 0, 0, 1, 1, 1], False),  # too few
    ],
)
def test_an_error_recurs_when_seen_in_three_weeks_and_lately(counts, recurs):
    frame = world.understood(world.steady(8) | {5: counts})
    assert ("recurring" in [r.kind for r in analyse(frame).findings]) is recurs


def test_a_finding_has_the_same_id_in_every_run_and_another_next_week():
    frame = world.understood(world.steady(13, t1=[40, 40]))
    first = trends.find(frame, world.WEEK, world.topics(frame), run_id="a", as_of=world.AS_OF)
    again = trends.find(frame.lazy(), world.WEEK, world.topics(frame), run_id="b", as_of=world.AS_OF)
    before = trends.find(frame, world.WEEK - dt.timedelta(weeks=1), world.topics(frame), run_id="a", as_of=world.AS_OF)
    assert first.schema == records.schema("findings")
    assert first["finding_id"].to_list() == again["finding_id"].to_list()
    assert not set(first["finding_id"]) & set(before["finding_id"])


def test_the_order_of_rows_changes_nothing():
    frame = world.understood(world.steady(12, t1=[40]))
    assert analyse(frame).rows == analyse(frame.sample(fraction=1, shuffle=True, seed=3)).rows


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="no column author"):
        analyse(world.understood().drop("author"))


def test_frames_give_the_same_answer_as_counts():
    """The frames of one noisy world, counted and compared, against the numbers they were made of."""
    people = noise(np.random.default_rng(13), np.geomspace(2, 15, 12), 10)
    frame = world.many_topics(people)
    told = trends.analyse(frame, world.WEEK, records.frame("topics", []), as_of=world.AS_OF)
    days = np.zeros((12, 70))
    days[:, ::7] = people  # everybody speaks on Monday
    numbers = trends.compare(people, people.sum(axis=0), days=Days(days, days.sum(axis=0)))
    by_subject = dict(told.table.select("subject", "p").iter_rows())
    assert [by_subject[str(n + 1)] for n in range(12)] == pytest.approx(numbers.p.tolist())
