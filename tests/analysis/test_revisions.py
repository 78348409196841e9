"""Late signals change what was told of a week; what was only counted anew is told apart."""

import datetime as dt

import fake_world as world
import polars as pl
import pytest

from feedback_lib import records
from feedback_lib.analysis import revisions

BEFORE = {"run_id": "0000aaaa", "as_of": world.AS_OF}
LATER = world.AS_OF + dt.timedelta(days=1)
LAST = world.WEEK - dt.timedelta(weeks=1)


@pytest.fixture(scope="module")
def all_signals() -> pl.DataFrame:
    return world.understood(world.steady(10))


def late_of(frame: pl.DataFrame, topic_id: int, count: int) -> list[str]:
    """uids of last week's signals of a topic."""
    start = dt.datetime.combine(LAST, dt.time(), dt.UTC)
    mine = frame.filter(
        pl.col("topic_id") == topic_id, pl.col("created_at").is_between(start, start + dt.timedelta(weeks=1))
    )
    return mine["uid"].sort().to_list()[:count]


def topics_of(changed: pl.DataFrame) -> list[dict]:
    return changed.filter(pl.col("subject_type") == "topic").to_dicts()


def test_counts_are_rows_of_their_table_for_the_week_and_those_before(all_signals):
    told = revisions.week_counts(all_signals, world.WEEK, **BEFORE)
    assert told.schema == records.schema("counts")
    assert told["week"].unique().sort().to_list() == world.weeks_before(9)
    row = told.row(
        by_predicate=(pl.col("subject_type") == "topic") & (pl.col("subject") == "1") & (pl.col("week") == LAST),
        named=True,
    )
    assert (row["people"], row["mentions"], row["heard"], row["run_id"]) == (8, 8, 40, "0000aaaa")


def test_the_same_signals_are_no_revision(all_signals):
    told = revisions.week_counts(all_signals, world.WEEK, **BEFORE)
    names = world.topics(all_signals)
    assert revisions.revised(all_signals, world.WEEK, told, [], names, as_of=LATER).is_empty()


def test_signals_that_came_late_revise_their_week_from_old_to_new(all_signals):
    late = late_of(all_signals, 1, 3)
    early = all_signals.filter(~pl.col("uid").is_in(late))
    told = revisions.week_counts(early, world.WEEK, **BEFORE)
    changed = revisions.revised(all_signals, world.WEEK, told, late, world.topics(all_signals), as_of=LATER)
    assert topics_of(changed) == [
        {"week": LAST, "subject_type": "topic", "subject": "1", "name": "export slow timeout", "people_before": 5,
         "people": 8, "mentions_before": 5, "mentions": 8, "late": 3, "why": "revised"}
    ]  # fmt: skip
    assert changed.filter(pl.col("subject_type") == "category")["why"].unique().to_list() == ["revised"]


def test_moved_topic_boundaries_are_recounted_and_not_revised(all_signals):
    told = revisions.week_counts(all_signals, world.WEEK, **BEFORE)
    moved = late_of(all_signals, 2, 2)
    topic = pl.when(pl.col("uid").is_in(moved)).then(pl.lit(4, pl.Int64)).otherwise("topic_id")
    now = all_signals.with_columns(topic_id=topic)
    changed = topics_of(revisions.revised(now, world.WEEK, told, [], world.topics(all_signals), as_of=LATER))
    assert [(r["subject"], r["people_before"], r["people"], r["late"], r["why"]) for r in changed] == [
        ("2", 6, 4, 0, "recounted"),
        ("4", 5, 7, 0, "recounted"),
    ]


def test_late_signals_and_moved_boundaries_of_one_topic_are_both_said(all_signals):
    late = late_of(all_signals, 1, 2)
    told = revisions.week_counts(all_signals.filter(~pl.col("uid").is_in(late)), world.WEEK, **BEFORE)
    gone = late_of(all_signals, 1, 8)[2:5]
    topic = pl.when(pl.col("uid").is_in(gone)).then(None).otherwise("topic_id")
    now = all_signals.with_columns(topic_id=topic)
    (row,) = topics_of(revisions.revised(now, world.WEEK, told, late, world.topics(all_signals), as_of=LATER))
    assert (row["people_before"], row["people"], row["late"], row["why"]) == (6, 5, 2, "revised and recounted")


def test_a_week_that_was_never_told_has_nothing_to_revise(all_signals):
    told = revisions.week_counts(all_signals, LAST, **BEFORE)
    names = world.topics(all_signals)
    assert revisions.revised(all_signals, world.WEEK, told, [], names, as_of=LATER).is_empty()


def test_a_topic_that_only_late_signals_speak_of_was_told_as_nobody(all_signals):
    late = late_of(all_signals, 4, 5)
    told = revisions.week_counts(all_signals.filter(~pl.col("uid").is_in(late)), world.WEEK, **BEFORE)
    (row,) = topics_of(revisions.revised(all_signals, world.WEEK, told, late, records.frame("topics", []), as_of=LATER))
    assert (row["name"], row["people_before"], row["people"], row["why"]) == ("topic 4", 0, 5, "revised")


def test_a_subject_that_was_gone_when_the_week_was_last_told_is_not_told_again(all_signals):
    older = revisions.week_counts(all_signals, world.WEEK, **BEFORE)
    merged = all_signals.with_columns(topic_id=pl.col("topic_id").replace(2, 4))
    newer = revisions.week_counts(merged, world.WEEK, run_id="0000bbbb", as_of=LATER)
    gone = older.join(newer, on=revisions.KEY, how="anti")
    assert gone.height
    names = world.topics(all_signals)
    again = revisions.revised(merged, world.WEEK, pl.concat([newer, gone]), [], names, as_of=LATER)
    assert again.is_empty()
