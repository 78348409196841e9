"""What was told of a week before, and how it differs now: signals that came late, apart from what was counted anew."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

import narwhals as nw
import polars as pl

from feedback_lib import records
from feedback_lib.analysis import counts as counting
from feedback_lib.records import WEEK_US, monday

KEY = ("week", "subject_type", "subject")
REVISIONS: dict[str, Any] = {
    "week": pl.Date,
    "subject_type": pl.String,
    "subject": pl.String,
    "name": pl.String,
    "people_before": pl.Int64,
    "people": pl.Int64,
    "mentions_before": pl.Int64,
    "mentions": pl.Int64,
    "late": pl.Int64,
    "why": pl.String,
}


def week_counts(
    understood: nw.LazyFrame[Any] | pl.DataFrame | pl.LazyFrame,
    week: dt.date,
    *,
    run_id: str,
    as_of: dt.datetime,
    weeks: int = 8,
    exclude: Collection[tuple[str, str]] = (),
    without: Collection[str] = (),
) -> pl.DataFrame:
    """What one week and the weeks before it said of each subject, as rows of the table ``counts``.

    Args:
        understood: As for `trends.analyse`.
        week: Any day of the report week.
        run_id: Written into every row.
        as_of: Written into every row as ``updated_at``.
        weeks: How many weeks before it.
        exclude: (kind, origin) of sources that are left out.
        without: uids that are left out, such as those that came late.
    """
    end = monday(week) + dt.timedelta(weeks=1)
    end_us = records.micros(dt.datetime.combine(end, dt.time(), dt.UTC))
    at = nw.col("created_at_us")
    frame = nw.from_native(understood).lazy().filter((at >= end_us - WEEK_US * (weeks + 1)) & (at < end_us))
    for kind, origin in exclude:
        frame = frame.filter(~((nw.col("kind") == kind) & (nw.col("origin") == origin)))
    if without:
        frame = frame.filter(~nw.col("uid").is_in(list(without)))
    voices = counting.voices(frame)
    heard = counting.weekly_heard(voices).select("week_us", nw.col("people").alias("heard"))
    told = counting.weekly_subjects(voices).join(heard, on="week_us").collect("polars").to_polars()
    return told.select(
        pl.from_epoch("week_us", "us").dt.date().alias("week"),
        *(pl.col(c).cast(t) for c, t in records.schema("counts").items() if c in told.columns),
        pl.lit(as_of, pl.Datetime("us", "UTC")).alias("updated_at"),
        pl.lit(run_id).alias("run_id"),
    ).sort(KEY)


def revisions(now: pl.DataFrame, before: pl.DataFrame, on_time: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """The counts of earlier weeks that are no longer what was told.

    Args:
        now: `week_counts` of all signals.
        before: Rows of the table ``counts`` as earlier runs left them. Weeks and subjects that it does not hold were
            not told; where it holds the week, a subject without a row was told as nobody.
        on_time: `week_counts` without the signals that came after the run that told ``before``.
        names: The registry, for names; may be empty.

    Returns:
        One row per changed (week, subject), newest week first, columns `REVISIONS`: late, how many of its mentions
        came after the earlier run · why, "revised" where only late signals changed it, "recounted" where none came
        late (topic boundaries moved, or a source was read again), "revised and recounted" where both did.
    """
    weeks = before["week"].unique().implode()
    value = ("people", "mentions")
    parts = [
        frame.filter(pl.col("week").is_in(weeks)).select(*KEY, *(pl.col(c).alias(f"{c}{end}") for c in value))
        for frame, end in ((before, "_before"), (now, ""), (on_time, "_on_time"))
    ]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.join(part, on=KEY, how="full", coalesce=True)
    joined = joined.with_columns(pl.exclude(KEY).fill_null(0)).with_columns(
        late=pl.col("mentions") - pl.col("mentions_on_time"),
        same=pl.all_horizontal(pl.col(f"{c}_on_time") == pl.col(f"{c}_before") for c in value),
    )
    changed = joined.filter(pl.any_horizontal(pl.col(c) != pl.col(f"{c}_before") for c in value))
    known = names.select(subject=pl.col("topic_id").cast(pl.String), subject_type=pl.lit("topic"), name=pl.col("name"))
    return (
        changed.join(known, on=["subject_type", "subject"], how="left")
        .with_columns(
            name=pl.coalesce(
                "name",
                pl.when(pl.col("subject_type") == "topic")
                .then(pl.format("topic {}", "subject"))
                .otherwise(pl.col("subject").str.replace_all("_", " ", literal=True)),
            ),
            why=pl.when("same")
            .then(pl.lit("revised"))
            .when(pl.col("late") > 0)
            .then(pl.lit("revised and recounted"))
            .otherwise(pl.lit("recounted")),
        )
        .select(pl.col(c).cast(t) for c, t in REVISIONS.items())
        .sort(KEY, descending=[True, False, False])
    )


def revised(
    understood: pl.DataFrame,
    week: dt.date,
    before: pl.DataFrame,
    late: Collection[str],
    names: pl.DataFrame,
    *,
    as_of: dt.datetime,
    weeks: int = 8,
    exclude: Collection[tuple[str, str]] = (),
) -> pl.DataFrame:
    """`revisions` of the weeks before a report week, counted here.

    Args:
        understood: As for `trends.analyse`.
        week: Any day of the report week; the week itself is revised too when it was told before.
        before: Rows of the table ``counts``.
        late: uids of signals that were not in the store when ``before`` was told.
        names: The registry, for names; may be empty.
        as_of: The moment of the run.
        weeks: How many weeks before it.
        exclude: (kind, origin) of sources that are left out.
    """
    stamp = {"run_id": "", "as_of": as_of, "weeks": weeks, "exclude": exclude}
    now = week_counts(understood, week, **stamp)  # type: ignore[arg-type]
    on_time = week_counts(understood, week, without=late, **stamp) if late else now  # type: ignore[arg-type]
    first, last = monday(week) - dt.timedelta(weeks=weeks), monday(week)
    newest = pl.col("updated_at") == pl.col("updated_at").max().over("week")  # older rows: subjects that are no more
    return revisions(now, before.filter(pl.col("week").is_between(first, last) & newest), on_time, names)
