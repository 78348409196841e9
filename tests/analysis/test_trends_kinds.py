"""Trends: spikes, rises after a release, silences, comebacks, stopped sources, missing days and known exposure."""

import datetime as dt

import fake_world as world
import numpy as np
import polars as pl
import pytest

from feedback_lib import records
from feedback_lib.analysis import days as daily
from feedback_lib.analysis import trends, weeks
from feedback_lib.analysis.days import Days
from feedback_lib.analysis.trends import Deploy, TrendOptions

THURSDAY = dt.datetime(2026, 11, 12, 9, tzinfo=dt.UTC)
MONDAY = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)


def analyse(frame: pl.DataFrame, as_of: dt.datetime = world.AS_OF, **given) -> trends.Trends:
    return trends.analyse(frame, world.WEEK, world.topics(frame), as_of=as_of, **given)


def kinds(told: trends.Trends) -> dict[str, str]:
    return {r.subject: r.kind for r in told.rows if r.subject_type == "topic"}


def topic(told: trends.Trends, subject: str) -> records.FindingRow:
    return next(r for r in told.rows if (r.subject_type, r.subject) == ("topic", subject))


def moved(frame: pl.DataFrame, topic_id: int, count: int, to: dt.datetime) -> pl.DataFrame:
    """The frame with so many of this week's signals of a topic said at one time."""
    mine = frame.filter(pl.col("topic_id") == topic_id, pl.col("created_at") >= MONDAY)["uid"].sort()[:count]
    at = pl.when(pl.col("uid").is_in(mine.implode())).then(pl.lit(to).dt.cast_time_unit("us"))
    return world.with_us(frame.with_columns(at.otherwise("created_at").alias("created_at")))


# One day


def test_a_day_far_above_the_usual_days_is_a_spike_of_that_day_and_not_growing():
    frame = moved(world.understood(world.steady(12, t1=[24])), 1, 18, THURSDAY)
    told = analyse(frame)
    row = topic(told, "1")
    assert row.kind == "spike"
    assert (
        told.table.filter(pl.col("subject") == "1", pl.col("subject_type") == "topic")["day"].item() == THURSDAY.date()
    )
    said = frame.filter(pl.col("uid").is_in(list(row.evidence)))
    assert set(said["created_at"].dt.date()) == {THURSDAY.date()}
    assert said.height >= 18


def test_a_week_that_is_louder_on_every_day_is_growing():
    assert topic(analyse(world.understood(world.steady(12, t1=[24]))), "1").kind == "growing"


# After a release


def test_a_rise_after_a_deploy_is_a_regression_and_names_it():
    frame = world.understood(world.steady(12, t1=[24]))
    told = analyse(frame, deploys=[Deploy(MONDAY + dt.timedelta(hours=6), "4.2", "export")])
    assert (topic(told, "1").kind, topic(told, "1").release) == ("regression", "4.2")
    assert told.releases == ((MONDAY.date(), "4.2"),)
    assert {r.release for r in told.rows if r.kind == "steady"} == {None}


def test_a_deploy_before_which_it_had_already_risen_is_not_named():
    frame = world.understood(world.steady(12, t1=[24, 24]))
    friday = MONDAY + dt.timedelta(days=4, hours=22)
    assert topic(analyse(frame, deploys=[(friday, "4.2", None)]), "1").kind == "growing"


def test_a_version_that_people_begin_to_name_is_a_release():
    frame = world.understood(world.steady(12, t1=[24]))
    version = pl.when(pl.col("created_at") >= MONDAY).then(pl.lit("4.2.0")).otherwise(pl.lit("4.1.9"))
    told = analyse(frame.with_columns(version=version))
    assert (topic(told, "1").kind, topic(told, "1").release) == ("regression", "4.2.0")
    export = pl.when(pl.col("topic_id") == 2).then(version)
    others = analyse(frame.with_columns(version=export))
    assert [name for _, name in others.releases] == ["4.2.0"]
    assert topic(others, "1").kind == "growing"  # nobody who speaks of it names the version
    always = analyse(frame.with_columns(version=pl.lit("4.1.9")))
    assert (always.releases, topic(always, "1").kind) == ((), "growing")


def test_a_deploy_without_a_version_is_named_by_its_service():
    frame = world.understood(world.steady(12, t1=[24]))
    assert topic(analyse(frame, deploys=[(MONDAY, None, "export")]), "1").release == "deploy of export"


MARKED = np.array([False, True] * 10)


@pytest.mark.parametrize(
    ("now", "marked", "expected"),
    [
        ([19], None, list(range(11, 19))),
        ([19], MARKED, [3, 5, 7, 9, 11, 13, 15, 17]),  # a release week with release weeks
        ([18], MARKED, [2, 4, 6, 8, 10, 12, 14, 16]),
        ([18, 19], MARKED, list(range(10, 18))),  # one of each with as many of each
        ([19], np.arange(20) == 19, list(range(11, 19))),  # its kind was never seen before
        ([19], np.ones(20, dtype=bool), list(range(11, 19))),
    ],
)
def test_weeks_are_compared_with_weeks_of_their_kind_where_there_are_enough(now, marked, expected):
    assert weeks.baseline(now, np.ones(20, dtype=bool), marked, TrendOptions()) == expected


def test_a_release_late_in_a_week_counts_for_the_next():
    empty = np.zeros((0, 28)), np.zeros(28)
    assert daily.release_weeks(Days(*empty, releases=(3,))).tolist() == [True, False, False, False]  # a Thursday
    assert daily.release_weeks(Days(*empty, releases=(4,))).tolist() == [False, True, False, False]


# Silence


def test_a_topic_heard_every_week_and_by_nobody_now_is_silent():
    told = analyse(world.understood(world.steady(12, t7=[20] * 11 + [0])))
    row = topic(told, "7")
    assert (row.kind, row.people, row.ratio) == ("silent", 0, 0)
    assert row.q < 0.05
    assert len(row.evidence) == 160  # what people said in the weeks before


def test_a_source_that_stopped_is_no_data_and_makes_nothing_silent():
    frame = world.understood(world.steady(12))
    told = analyse(frame.filter((pl.col("origin") != "forum") | (pl.col("created_at") < MONDAY)))
    assert [(s.kind, s.origin, s.people, s.last_week) for s in told.stopped] == [
        ("files", "forum", 11, dt.date(2026, 11, 2))
    ]
    assert set(kinds(told)) == {"1", "2", "5", "6", "7"}
    assert set(kinds(told).values()) == {"steady"}


def test_a_source_that_often_has_a_week_without_anybody_did_not_stop():
    frame = world.understood(world.steady(12))
    told = analyse(frame.filter((pl.col("origin") != "forum") | (pl.col("created_at").dt.week() % 2 == 0)))
    assert told.heard[-1] is not None
    assert told.stopped == ()


def test_a_topic_that_comes_back_after_silence_is_recurring_and_not_new():
    frame = world.understood(world.steady(20) | {2: [6] * 8 + [0] * 11 + [14]})
    row = topic(analyse(frame), "2")
    assert (row.kind, row.people, row.baseline_people) == ("recurring", 14, 0)
    assert row.q < 0.05
    assert len(row.evidence) == 14


# Days


def test_a_week_seen_only_to_wednesday_makes_nothing_fall():
    """Topic 7 is said on Fridays only, so it has no data yet; the others are compared on the days that are there."""
    plan = world.steady(12, t7=[30])
    plan = {t: [4 * n for n in line] for t, line in plan.items()}
    friday = pl.col("created_at").dt.truncate("1w") + pl.duration(days=4, hours=9)
    frame = world.understood(plan)
    frame = frame.with_columns(created_at=pl.when(pl.col("topic_id") == 7).then(friday).otherwise("created_at"))
    midnight = THURSDAY.replace(hour=0)
    told = analyse(world.with_us(frame).filter(pl.col("created_at") < midnight), as_of=midnight)
    assert "7" not in kinds(told)
    assert set(kinds(told).values()) == {"steady"}
    assert told.missing_days == tuple(dt.date(2026, 11, d) for d in (12, 13, 14, 15))


def test_a_day_that_nobody_was_heard_on_is_missing_and_a_quiet_weekend_is_not():
    plan = {t: [4 * n for n in line] for t, line in world.steady(12).items()}
    frame = world.understood(plan).filter(pl.col("created_at").dt.date() != THURSDAY.date())
    assert analyse(frame).missing_days == (THURSDAY.date(),)


# Exposure


def exposure(now: float = 1000.0, missing: dt.date | None = None) -> pl.DataFrame:
    """A thousand users a day, and another number this week."""
    days = [world.WEEK + dt.timedelta(days=n - 7 * 22) for n in range(23 * 7)]
    rows = [(d, now if d >= world.WEEK else 1000.0) for d in days if d != missing]
    return pl.DataFrame(rows, schema={"day": pl.Date, "exposure": pl.Float64}, orient="row")


def doubled() -> pl.DataFrame:
    """Twice as many people in every topic."""
    return world.understood({t: [4 * n for n in line[:-1]] + [8 * line[-1]] for t, line in world.steady(13).items()})


def test_rates_are_per_exposure_where_it_is_known():
    """Twice the people are no trend among twice the people, and are one among as many users as ever."""
    assert set(kinds(analyse(doubled())).values()) == {"steady"}
    told = analyse(doubled(), exposure=exposure(), per="active users")
    assert set(kinds(told).values()) == {"growing"}
    assert {r.per for r in told.rows} == {"active users"}
    assert topic(told, "1").ratio == pytest.approx(2)
    assert set(kinds(analyse(doubled(), exposure=exposure(2000.0))).values()) == {"steady"}


def test_a_day_without_exposure_is_a_week_without_data():
    told = analyse(doubled(), exposure=exposure(missing=THURSDAY.date()))
    assert told.abstained == "the exposure of this week has days missing"
    assert told.tested == 0
    earlier = analyse(doubled(), exposure=exposure(missing=dt.date(2026, 10, 14)))
    assert {r.baseline_weeks for r in earlier.rows if r.q is not None} == {7}  # of the eight before


def test_a_product_area_is_counted_out_of_its_own_exposure():
    """The console has twice the users this week, and everybody else as many as ever."""
    whole = exposure().with_columns(product_area=pl.lit(None, pl.String))
    console = exposure(2000.0).with_columns(product_area=pl.lit("console"))  # in no area: the whole product
    told = analyse(doubled(), exposure=pl.concat([whole, console]))
    areas = {r.subject: r.kind for r in told.rows if r.subject_type == "product_area"}
    assert areas == dict.fromkeys(areas, "growing") | {"console": "steady"}


def test_an_exposure_without_its_columns_is_refused():
    with pytest.raises(ValueError, match="no column exposure"):
        analyse(doubled(), exposure=exposure().rename({"exposure": "users"}))


# Evidence and error rates


def test_a_finding_names_the_sources_of_its_evidence_most_first():
    frame = world.understood(world.steady(12, t1=[24]))
    mine = frame.filter(pl.col("topic_id") == 1, pl.col("created_at") >= MONDAY)["uid"].sort()[:5]
    frame = frame.with_columns(
        origin=pl.when(pl.col("uid").is_in(mine.implode())).then(pl.lit("forum")).otherwise("origin")
    )
    assert topic(analyse(frame), "1").origins == ("files:support", "files:forum")


SIZES = np.append(np.geomspace(1, 25, 39), 20.0)
OFFICE = np.array([1.25, 1.2, 1.2, 1.15, 1.1, 0.55, 0.55])


def told(rng: np.random.Generator, mean: np.ndarray, releases: tuple[int, ...] = ()) -> tuple[weeks.Comparison, Days]:
    people = rng.poisson(mean).astype(float)
    seen = Days(people, people.sum(axis=0) + rng.poisson(60, people.shape[1]), releases)
    weekly = people.reshape(len(people), -1, 7).sum(axis=2)
    found = weeks.compare(weekly, seen.heard.reshape(-1, 7).sum(axis=1), days=seen)
    assert found is not None
    return found, seen


@pytest.mark.parametrize("case", ["plain", "weekdays", "releases", "bursty"])
def test_noise_stays_as_quiet_when_days_and_releases_are_asked_about(case):
    """200 weeks of 40 subjects, q = 0.05: 10 are promised; 18 is three standard errors more."""
    rng = np.random.default_rng(21)
    releases = tuple(range(2, 126, 14)) if case == "releases" else ()
    wrong = 0
    for _ in range(200):
        week = np.repeat(SIZES[:, None], 18, axis=1)
        week = rng.gamma(4.0, week / 4) if case == "bursty" else week
        mean = np.repeat(week, 7, axis=1) / 7
        if case == "weekdays":
            own = OFFICE * rng.gamma(2.0, 0.5, (40, 7))
            mean *= np.tile(own / own.mean(axis=1, keepdims=True), 18)
        for release in releases:
            mean[::4, release : release + 7] *= 1.6
        found, _ = told(rng, mean, releases)
        wrong += ((found.q < 0.05) & found.clear).any()
    assert wrong <= 18


@pytest.mark.thorough  # of power, by simulation
def test_a_doubling_is_still_found_within_two_weeks_nine_times_of_ten():
    rng = np.random.default_rng(22)
    seen = 0
    for _ in range(300):
        mean = np.repeat(SIZES[:, None] / 7, 7 * 14, axis=1)
        mean[-1, 7 * 12 :] *= 2
        people = rng.poisson(mean).astype(float)
        every = Days(people, people.sum(axis=0) + rng.poisson(57, people.shape[1]))
        for upto in (13, 14):
            part = every.until(upto)
            weekly = part.people.reshape(40, -1, 7).sum(axis=2)
            found = weeks.compare(weekly, part.heard.reshape(-1, 7).sum(axis=1), days=part)
            if found is not None and found.q[-1] < 0.05 and found.clear[-1]:
                seen += 1
                break
    assert seen / 300 >= 0.87  # 0.90 and three standard errors of 300 worlds less would be 0.85
