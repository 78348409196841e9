"""Counting gives the same rows on every engine."""

import duckdb
import fake_world as world
import narwhals as nw
import polars as pl
import pytest

from feedback_lib.analysis import counts

COUNTED = (
    counts.weekly_subjects, counts.daily_subjects, counts.weekly_heard, counts.daily_heard, counts.weekly_sources,
    counts.versions, counts.subject_versions, counts.evidence,
)  # fmt: skip


@pytest.fixture(scope="module")
def signals() -> pl.DataFrame:
    """Some authors unknown, two versions; without times, which the counting does not read."""
    frame = world.understood(world.steady(3))
    frame = frame.with_columns(
        author=pl.when(pl.col("created_at_us") % 5 == 0).then(None).otherwise("author"),
        version=pl.when(pl.col("topic_id") > 3).then(pl.lit("4.2")).when(pl.col("topic_id") > 1).then(pl.lit("4.1")),
    )
    return frame.drop(c for c, t in frame.schema.items() if isinstance(t, pl.Datetime))


def rows(lazy: nw.LazyFrame) -> list[tuple]:
    found = lazy.collect("polars").to_polars()
    return sorted(found.select(sorted(found.columns)).rows(), key=repr)


@pytest.mark.parametrize("count", COUNTED, ids=lambda f: f.__name__)
def test_duckdb_counts_what_polars_counts(count, signals, tmp_path):
    signals.write_parquet(tmp_path / "signals.parquet")
    relation = duckdb.read_parquet(str(tmp_path / "signals.parquet"))
    found = count(nw.from_native(relation)).to_native()
    place = [found.columns.index(c) for c in sorted(found.columns)]
    counted = sorted((tuple(row[i] for i in place) for row in found.fetchall()), key=repr)
    assert counted == rows(count(nw.from_native(signals.lazy())))


@pytest.mark.parametrize("count", COUNTED, ids=lambda f: f.__name__)
def test_counting_stays_lazy_and_a_part_of_a_file_is_counted_like_the_whole(count, signals, tmp_path):
    signals.write_parquet(tmp_path / "signals.parquet")
    streamed = count(counts.voices(nw.from_native(pl.scan_parquet(tmp_path / "signals.parquet"))))
    assert isinstance(streamed, nw.LazyFrame)
    assert rows(streamed) == rows(count(nw.from_native(signals.lazy())))


def test_weeks_and_days_of_every_subject_add_up(signals):
    lazy = nw.from_native(signals.lazy())
    keys = ["subject_type", "subject"]
    weekly, daily = (
        f(lazy).collect().to_polars().group_by(keys).agg(pl.col("mentions").sum()).sort(keys)
        for f in (counts.weekly_subjects, counts.daily_subjects)
    )
    assert weekly.equals(daily)
    assert weekly.filter(pl.col("subject_type") == "topic")["mentions"].to_list() == [24, 18, 18, 15, 12, 15, 18]
