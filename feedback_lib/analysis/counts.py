"""People and mentions per week, day, source and version, as lazy frames that are the same on every engine.

Nothing is collected here. Times are integers (microseconds since the epoch, UTC), weeks begin on Monday.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw

from feedback_lib.records import MACHINES, MONDAY_US, WEEK_US, SubjectType

Lazy = nw.LazyFrame[Any]

DAY_US = WEEK_US // 7
SUBJECTS: dict[SubjectType, str] = {
    "topic": "topic_id",
    "category": "category",
    "product_area": "product_area",
    "error": "fingerprint",
}


def person() -> nw.Expr:
    """Who spoke: the author, or the signal itself where the author is unknown (unknown people are not one person)."""
    return nw.coalesce(nw.col("author"), nw.concat_str(nw.lit("signal "), nw.col("uid")))


def week_us() -> nw.Expr:
    """Monday 00:00 UTC of ``created_at_us``, in microseconds since the epoch."""
    return nw.col("created_at_us") - (nw.col("created_at_us") - MONDAY_US) % WEEK_US


def day_us() -> nw.Expr:
    """00:00 UTC of ``created_at_us``, in microseconds since the epoch."""
    return nw.col("created_at_us") - nw.col("created_at_us") % DAY_US


def voices(signals: Lazy) -> Lazy:
    """The signals that people wrote; what a machine reports is no voice."""
    return signals.filter(~nw.col("type").is_in(MACHINES))


def weekly_counts(signals: Lazy, subject: str) -> Lazy:
    """People and mentions per week of each value of one column.

    Duplicates count: their people are people, and each is a mention.

    Args:
        signals: One row per signal with uid, author, created_at_us and the subject's column.
        subject: The column that names the subject, such as ``topic_id``. Rows without one are left out.

    Returns:
        One row per (week, subject), in no order: week_us Int64 · <subject> · people · mentions.
    """
    return _counted(signals.filter(~nw.col(subject).is_null()), week_us().alias("week_us"), nw.col(subject))


def weekly_heard(signals: Lazy) -> Lazy:
    """People and mentions per week over all signals: week_us Int64 · people · mentions."""
    return _counted(signals, week_us().alias("week_us"))


def daily_heard(signals: Lazy) -> Lazy:
    """People and mentions per day over all signals: day_us Int64 · people · mentions."""
    return _counted(signals, day_us().alias("day_us"))


def weekly_subjects(signals: Lazy) -> Lazy:
    """Weekly counts of every subject of every type.

    Returns:
        One row per (week, subject), in no order: week_us Int64 · subject_type · subject String · people · mentions.
    """
    return _subjects(signals, week_us().alias("week_us"))


def daily_subjects(signals: Lazy) -> Lazy:
    """As `weekly_subjects`, per day: day_us Int64 · subject_type · subject String · people · mentions."""
    return _subjects(signals, day_us().alias("day_us"))


def weekly_sources(signals: Lazy) -> Lazy:
    """People and mentions per week of each source: week_us Int64 · kind · origin · people · mentions."""
    return _counted(signals, week_us().alias("week_us"), nw.col("kind"), nw.col("origin"))


def versions(signals: Lazy) -> Lazy:
    """When each version was first named and by how many people: version · first_us Int64 · people."""
    return (
        signals.filter(~nw.col("version").is_null())
        .select("version", "created_at_us", person().alias("person"))
        .group_by("version")
        .agg(nw.col("created_at_us").min().alias("first_us"), nw.col("person").n_unique().alias("people"))
    )


def subject_versions(signals: Lazy) -> Lazy:
    """Who names which version: version · subject_type · subject String · people · mentions."""
    return _subjects(signals.filter(~nw.col("version").is_null()), nw.col("version"))


def evidence(signals: Lazy) -> Lazy:
    """The signals of every subject, one row per (subject, signal), in no order.

    Returns:
        subject_type · subject String · uid · kind · origin · created_at_us · duplicate_of · topic_score.
    """
    kept = ("uid", "kind", "origin", "created_at_us", "duplicate_of", "topic_score")
    return nw.concat(
        [
            signals.filter(~nw.col(column).is_null()).select(
                nw.lit(subject_type).alias("subject_type"), nw.col(column).cast(nw.String).alias("subject"), *kept
            )
            for subject_type, column in SUBJECTS.items()
        ]
    )


def _subjects(signals: Lazy, when: nw.Expr) -> Lazy:
    return nw.concat(
        [
            _counted(
                signals.filter(~nw.col(column).is_null()),
                when,
                nw.lit(subject_type).alias("subject_type"),
                nw.col(column).cast(nw.String).alias("subject"),
            )
            for subject_type, column in SUBJECTS.items()
        ]
    )


def _counted(signals: Lazy, *by: nw.Expr) -> Lazy:
    keyed = signals.select(*by, person().alias("person"))
    keys = [c for c in keyed.collect_schema().names() if c != "person"]
    return keyed.group_by(*keys).agg(nw.col("person").n_unique().alias("people"), nw.len().alias("mentions"))
