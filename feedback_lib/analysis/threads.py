"""What the replies to a signal say about it: how many there are, when somebody else first answered, and their words."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

WORDS = 150  # of replies beside a text: a model reads about 200 in all
FIELDS = ("thread_count", "first_response_at")


def with_replies(signals: pl.DataFrame, replies: pl.LazyFrame) -> pl.DataFrame:
    """Signals with ``thread_count`` and ``first_response_at`` filled in from their replies.

    A first response is the first reply that is not by the signal's own author, and not by somebody known to be no
    member of the team. What the service itself counted or timed counts too: the greater number, the earlier time.

    Args:
        signals: at least ``uid``, ``author`` and `FIELDS`; a batch may hold a signal twice.
        replies: at least ``signal``, ``author``, ``team`` and ``created_at``, of these signals or more.
    """
    asked = signals.lazy().select(signal="uid", asked_by="author").unique("signal", keep="last")
    answers = pl.col("team").fill_null((pl.col("author") != pl.col("asked_by")).fill_null(value=True))
    answers &= (pl.col("author") != pl.col("asked_by")).fill_null(value=True)
    told = (
        replies.select("signal", "author", "team", "created_at")
        .join(asked, on="signal")
        .group_by("signal")
        .agg(told_count=pl.len().cast(pl.Int64), told_first=pl.col("created_at").filter(answers).min())
        .collect(engine="streaming")
    )
    if told.is_empty():
        return signals
    return (
        signals.join(told, left_on="uid", right_on="signal", how="left", maintain_order="left")
        .with_columns(
            thread_count=pl.max_horizontal("thread_count", "told_count"),
            first_response_at=pl.min_horizontal("first_response_at", "told_first"),
        )
        .drop("told_count", "told_first")
    )


def texts(uids: Sequence[str], texts: Sequence[str], replies: pl.DataFrame) -> list[str]:
    """Each text followed by the beginning of what was replied to it, oldest first.

    Args:
        uids: of the signals.
        texts: of the signals, in the same order.
        replies: ``signal``, ``created_at``, ``uid`` and ``body``, of these signals or more.
    """
    said = (
        replies.filter(pl.col("signal").is_in(list(uids)) & (pl.col("body") != ""))
        .sort("created_at", "uid")
        .group_by("signal", maintain_order=True)
        .agg(pl.col("body").str.join("\n"))
    )
    known = dict(said.iter_rows())
    return [f"{one}\n{_first(known[uid])}" if uid in known else one for uid, one in zip(uids, texts, strict=True)]


def _first(text: str) -> str:
    return " ".join(text.split(None, WORDS)[:WORDS])
