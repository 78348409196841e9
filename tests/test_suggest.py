"""Suggestions: what kind of work, in what words, how urgent, on what evidence, and only one per problem."""

import dataclasses
import datetime as dt
import math

import fake_world as world
import polars as pl
import pytest

from feedback_lib import records, suggest
from feedback_lib.analysis import trends

NEXT = world.WEEK + dt.timedelta(weeks=1)


def drafts(frame: pl.DataFrame, week: dt.date = world.WEEK, run_id: str = "8f3c21d0", **options):
    names = world.topics(frame)
    as_of = world.AS_OF + (week - world.WEEK)
    findings = trends.find(frame, week, names, run_id=run_id, as_of=as_of)
    return suggest.draft(findings, frame, names, week, run_id=run_id, as_of=as_of, **options)


def by_topic(made) -> dict[str, records.SuggestionRow]:
    return {s.subject: s for s in made}


@pytest.fixture(scope="module")
def grown() -> pl.DataFrame:
    return world.understood(world.steady(13, t1=[40, 44]), week=NEXT)


def test_each_kind_of_problem_asks_for_its_kind_of_work(grown):
    types = {s.subject: s.type for s in drafts(grown, steady=9)}
    assert types == {
        "topic:1": "performance investigation",
        "topic:2": "documentation",
        "topic:4": "feature spec",
        "topic:5": "bug fix",
        "topic:6": "refactor",
        "topic:7": "documentation",  # people ask, so nobody told them
    }


def one(frame: pl.DataFrame, **columns) -> pl.DataFrame:
    given = frame.filter(pl.col("topic_id") == 6).head(5)
    return given.with_columns(pl.lit(v, frame.schema[c]).alias(c) for c, v in columns.items())


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"body": "Nobody owns the action items of the last post-mortem."}, "process change"),
        ({"type": "incident"}, "process change"),
        ({"type": "performance"}, "performance investigation"),
        ({"fingerprint": "f00d5eed"}, "bug fix"),
        ({"category": "bug_report"}, "bug fix"),
        ({"category": None, "dx_label": "Missing Capability"}, "feature spec"),
        ({"category": None, "dx_label": None}, "refactor"),
    ],
)
def test_the_signals_decide_what_kind_of_work_it_is(grown, columns, expected):
    assert suggest.suggestion_type("topic", "settings", one(grown, **columns)) == expected


def test_an_error_is_a_bug_even_when_it_is_called_a_timeout(grown):
    slow = one(grown, body="TimeoutError: the export is slow")
    assert suggest.suggestion_type("error", "TimeoutError", slow) == "bug fix"
    assert suggest.suggestion_type("topic", "TimeoutError", slow) == "performance investigation"


def test_one_slow_signal_of_five_is_no_performance_investigation(grown):
    mixed = pl.concat([one(grown).head(4), one(grown, body="This page is slow.").tail(1)])
    assert suggest.suggestion_type("topic", "settings hidden", mixed) == "refactor"


def test_what_grows_comes_first_and_says_by_how_much(grown):
    first = drafts(grown)[0]
    assert first.subject == "topic:1"
    assert first.title == "Find out why it is slow: “export slow timeout”: 40 people this week, ×5.0 the usual share"
    assert first.action.startswith("The owner of export should first compare latency before and after 9 November")
    assert first.people == len(first.evidence) == 40
    assert len(first.findings) == 1


def test_few_people_are_not_counted_out_in_a_title():
    made = by_topic(drafts(world.understood(world.steady(12, t4=[4])), steady=9))
    assert made["topic:4"].title == "Write a spec for “rename a project”: fewer than 5 people this week"


def test_praise_and_what_falls_make_no_suggestion():
    frame = world.understood(world.steady(12, t3=[30], t7=[30] * 11 + [3]))
    made = by_topic(drafts(frame, steady=9))
    assert "topic:3" not in made
    assert "topic:7" not in made
    assert "topic:1" in made


def test_a_recurring_error_and_the_topic_it_makes_are_one_suggestion(grown):
    made = by_topic(drafts(grown))
    assert "error:f00d5eed" not in made
    assert made["topic:5"].title == "Fix “region missing”: seen in 9 of the last 9 weeks"
    assert len(made["topic:5"].findings) == 1


def test_a_recurring_error_without_a_topic_makes_its_own(grown):
    frame = grown.with_columns(topic_id=pl.when(pl.col("topic_id") != 5).then("topic_id"))
    assert by_topic(drafts(frame))["error:f00d5eed"].type == "bug fix"


def test_steady_frictions_and_all_suggestions_are_capped(grown):
    assert {s.subject for s in drafts(grown, steady=0)} == {"topic:1", "topic:5"}
    assert [s.subject for s in drafts(grown, limit=1)] == ["topic:1"]


def test_a_week_in_which_nobody_spoke_suggests_nothing(grown):
    assert drafts(grown, week=NEXT + dt.timedelta(weeks=3)) == []


# Priority


def test_priority_is_the_weighted_mean_of_the_parts_shown(grown):
    for s in drafts(grown, weights=suggest.Weights(severity=2, impact=1, frequency=1)):
        assert s.priority == pytest.approx((2 * s.severity + s.impact + s.frequency) / 4)
        assert 0 <= min(s.severity, s.impact, s.frequency) <= max(s.severity, s.impact, s.frequency) <= 1


def test_the_parts_are_what_the_module_says(grown):
    made = by_topic(drafts(grown, steady=9))
    assert made["topic:2"].severity == pytest.approx(0.4)
    assert made["topic:2"].impact == pytest.approx(math.sqrt(6 / 72))  # 6 of 72 people
    assert made["topic:2"].frequency == pytest.approx(0.5)  # every week, no growth


def test_a_severity_that_a_person_wrote_counts_before_the_inferred_one(grown):
    assert suggest.severity(one(grown, severity="Critical", severity_score=0.1)) == 1
    assert suggest.severity(one(grown, severity="purple", severity_score=0.1)) == pytest.approx(0.1)
    assert suggest.severity(one(grown, severity=None, severity_score=None)) == 0.5


def test_customers_who_pay_most_of_it_make_an_impact_though_they_are_few(grown):
    worth = pl.when(pl.col("topic_id") == 2).then(90.0).otherwise(1.0)
    rich = by_topic(drafts(grown.with_columns(customer_value=worth), steady=9))["topic:2"]
    assert rich.impact == pytest.approx(math.sqrt(6 * 90 / (6 * 90 + 66)))


# Running again


def test_the_same_window_twice_gives_the_same_rows_exactly(grown):
    first = suggest.merge(drafts(grown, run_id="aaaa0001"), records.frame("suggestions", []))
    again = suggest.merge(drafts(grown, run_id="bbbb0002"), first)
    assert again.equals(first)
    assert first.schema == records.schema("suggestions")


def test_next_week_the_same_problem_updates_the_old_suggestion(grown):
    first = suggest.merge(drafts(grown, run_id="aaaa0001"), [])
    second = suggest.merge(drafts(grown, week=NEXT, run_id="bbbb0002"), first)
    old = first.filter(pl.col("subject") == "topic:1").row(0, named=True)
    new = second.filter(pl.col("subject") == "topic:1").row(0, named=True)
    assert new["suggestion_id"] == old["suggestion_id"]
    assert new["created_at"] == old["created_at"]
    assert new["people"] == 44
    assert [line[:19] for line in new["history"]] == ["2026-11-09 run aaaa", "2026-11-16 run bbbb"]


def test_a_week_corrected_by_late_data_replaces_its_line_of_history(grown):
    first = suggest.merge(drafts(grown), [])
    more = world.understood(world.steady(13, t1=[41, 44]), week=NEXT)
    second = suggest.merge(drafts(more, run_id="bbbb0002"), first)
    (line,) = second.filter(pl.col("subject") == "topic:1")["history"][0]
    assert line.startswith("2026-11-09 run bbbb: 41 people")


def test_a_suggestion_that_a_person_took_keeps_its_state_and_words(grown):
    (taken,) = [s for s in drafts(grown) if s.subject == "topic:1"]
    taken = dataclasses.replace(taken, state="accepted", title="Speed up the export")
    merged = suggest.merge(drafts(grown, week=NEXT), [taken])
    row = merged.filter(pl.col("subject") == "topic:1").row(0, named=True)
    assert (row["state"], row["title"], row["people"]) == ("accepted", "Speed up the export", 44)


def test_looking_again_at_an_older_week_leaves_the_newer_numbers(grown):
    newest = suggest.merge(drafts(grown, week=NEXT), [])
    merged = suggest.merge(drafts(grown), newest)
    row = merged.filter(pl.col("subject") == "topic:1").row(0, named=True)
    assert row["people"] == 44
    assert [line[:10] for line in row["history"]] == ["2026-11-09", "2026-11-16"]
