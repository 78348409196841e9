"""Replies and their signals."""

import datetime as dt

import polars as pl

from feedback_lib import records
from feedback_lib.analysis import threads

DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def replies(*rows):
    made = [
        {"signal": s, "uid": str(n), "author": a, "team": t, "body": body, "created_at": DAY + dt.timedelta(hours=h)}
        for n, (s, a, t, h, body) in enumerate(rows)
    ]
    schema = {c: records.schema("replies")[c] for c in ("signal", "uid", "author", "team", "body", "created_at")}
    return pl.DataFrame(made, schema=schema)


def signals(*rows):
    schema = {c: records.schema("signals")[c] for c in ("uid", "author", *threads.FIELDS)}
    return pl.DataFrame([dict(zip(schema, row, strict=True)) for row in rows], schema=schema)


def hour(h):
    return DAY + dt.timedelta(hours=h)


def test_the_greater_number_and_the_earlier_time_count():
    had = signals(("a", "jane", 5, None), ("b", "jane", 0, hour(1)), ("c", None, None, None))
    told = replies(
        ("a", "sam", True, 3, "x"), ("b", "sam", None, 2, "x"), ("b", "sam", None, 3, "x"), ("zz", "q", None, 1, "x")
    )
    made = threads.with_replies(had, told.lazy())
    assert made.rows() == [("a", "jane", 5, hour(3)), ("b", "jane", 2, hour(1)), ("c", None, None, None)]
    assert made.schema == had.schema
    assert threads.with_replies(made, told.lazy()).equals(made)


def test_a_signal_that_stands_twice_in_a_batch_has_its_replies_once():
    had = signals(("a", "jane", 0, None), ("a", "jane", 0, None))
    made = threads.with_replies(had, replies(("a", "sam", None, 1, "x"), ("a", "sam", None, 2, "x")).lazy())
    assert made.rows() == [("a", "jane", 2, hour(1))] * 2


def test_nobody_answers_themselves_and_no_robot_answers():
    had = signals(("a", "jane", None, None), ("b", None, None, None))
    told = replies(
        ("a", "jane", True, 1, "x"), ("a", "bot", False, 2, "x"), ("a", None, None, 3, "x"), ("a", "sam", None, 4, "x"),
        ("b", "bot", False, 1, "x"),
    )  # fmt: skip
    made = threads.with_replies(had, told.lazy())
    assert made["first_response_at"].to_list() == [hour(3), None]
    assert made["thread_count"].to_list() == [4, 1]


def test_texts_are_followed_by_what_was_replied_oldest_first_and_cut():
    told = replies(
        ("a", "s", None, 2, "second"),
        ("a", "s", None, 1, "first"),
        ("b", "s", None, 1, ""),
        ("c", "s", None, 1, "w " * 400),
    )
    made = threads.texts(["a", "b", "c", "d"], ["A", "B", "C", "D"], told)
    assert made[:2] == ["A\nfirst second", "B"]
    assert len(made[2].split()) == 1 + threads.WORDS
    assert made[3] == "D"
