from __future__ import annotations

import datetime as dt
import itertools

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_lib import merging, records

AT = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)


def words(*said):
    """Table merges from (uid, other, verdict), each an hour after the one before."""
    rows = [
        records.MergeRow(
            uid=uid, duplicate_of=other, verdict=verdict, by="ann", reason="", score=None,
            decided_at=AT + dt.timedelta(hours=i),
        )
        for i, (uid, other, verdict) in enumerate(said)
    ]  # fmt: skip
    return records.frame("merges", rows)


def test_copies_point_to_the_oldest_and_through_others_words_too():
    assert merging.apply({"b": "a"}, words(), "abc") == {"b": "a"}
    assert merging.apply({"b": "a"}, words(("c", "b", "same")), "abc") == {"b": "a", "c": "a"}


def test_the_oldest_stands_for_all_however_the_pair_was_named():
    assert merging.apply({}, words(("a", "c", "same"), ("b", "a", "same")), "abc") == {"b": "a", "c": "a"}


def test_different_cuts_a_link_that_was_found():
    assert merging.apply({"b": "a", "c": "a"}, words(("a", "b", "different")), "abc") == {"c": "a"}


def test_the_newest_word_on_a_pair_counts():
    said = [("b", "a", "same"), ("a", "b", "different"), ("b", "a", "undecided")]
    assert merging.apply({}, words(*said[:1]), "ab") == {"b": "a"}
    assert merging.apply({"b": "a"}, words(*said[:2]), "ab") == {}
    assert merging.apply({"b": "a"}, words(*said), "ab") == {"b": "a"}
    assert merging.apply({}, words(*said), "ab") == {}


def test_two_that_are_different_do_not_meet_through_a_third():
    said = words(("a", "c", "different"), ("b", "a", "same"), ("c", "b", "same"))
    assert merging.apply({}, said, "abc") == {"c": "b"}


def test_a_signal_that_is_gone_still_joins_those_that_are_there():
    assert merging.apply({}, words(("b", "gone", "same"), ("gone", "a", "same")), "ab") == {"b": "a"}


PAIRS = list(itertools.permutations("abcdef", 2))


@settings(max_examples=200, deadline=None)
@given(
    links=st.lists(st.sampled_from([p for p in PAIRS if p[0] > p[1]]), max_size=5),
    said=st.lists(st.tuples(st.sampled_from(PAIRS), st.sampled_from(["same", "different", "undecided"])), max_size=8),
)
def test_whatever_was_said_nothing_points_to_what_points_and_what_is_different_stays_apart(links, said):
    decisions = words(*((*pair, verdict) for pair, verdict in said))
    roots = merging.apply(dict(links), decisions, "abcdef")
    assert all(root not in roots and root < uid for uid, root in roots.items())
    newest = {frozenset(pair): verdict for pair, verdict in said}
    for pair, verdict in newest.items():
        one, other = pair
        if verdict == "different":
            assert roots.get(one, one) != roots.get(other, other)
    if "different" not in newest.values():
        for one, other in [*dict(links).items(), *(tuple(p) for p, v in newest.items() if v == "same")]:
            assert roots.get(one, one) == roots.get(other, other)


def signal(native_id, author, day, title="Search is slow", body=""):
    at = AT + dt.timedelta(days=day)
    return records.SignalRow(
        kind="files", origin="box", native_id=native_id, type="ticket", title=title, body=body, created_at=at,
        updated_at=at, author=author, uid=records.uid("files", "box", native_id), month=records.month(at), run_id="r",
    )  # fmt: skip


def test_a_merged_group_speaks_with_every_voice():
    rows = [
        signal("1", "ann", 0),
        signal("2", "ben", 1),
        signal("3", "ann", 2),
        signal("4", None, 3),
        signal("5", "c", 4),
    ]
    frame = records.frame("signals", rows)
    uids = [row.uid for row in rows]
    (group,) = merging.voices(frame, {uids[1]: uids[0], uids[2]: uids[0], uids[3]: uids[0]}).to_dicts()
    assert group["uid"] == uids[0]
    assert group["uids"] == uids[:4]
    assert (group["people"], group["mentions"]) == (3, 4)
    assert group["origins"] == ["files:box"]


@pytest.fixture
def store(tmp_path):
    from feedback_lib.store import Store

    made = Store(tmp_path / "store")
    rows = [signal(str(i), f"p{i}", i) for i in range(4)]
    made.upsert("signals", records.frame("signals", rows))
    return made, [row.uid for row in rows]


def test_a_pair_has_one_row_whichever_way_round_it_is_named(store):
    kept, (a, b, *_) = store
    merging.decide(kept, a, b, "same", by="ann", at=AT)
    merging.decide(kept, b, a, "different", by="ann", at=AT + dt.timedelta(hours=1))
    assert kept.read("merges").select("uid", "duplicate_of", "verdict").rows() == [(b, a, "different")]


def linked(kept, links):
    """Table understanding as a run leaves it that linked these pairs."""
    columns = records.schema("understanding")
    rows = [
        {"uid": uid, "duplicate_of": other, "created_at": AT, "month": "2026-03", "inferred_at": AT}
        for uid, other in links.items()
    ]
    frame = pl.DataFrame(rows, schema={name: columns[name] for name in rows[0]})
    whole = frame.with_columns(
        pl.lit("x" if kind == pl.String else None, dtype=kind).alias(name)
        for name, kind in columns.items()
        if name not in frame.columns
    )
    kept.upsert("understanding", whole.select(*columns))


def test_taking_a_signal_out_takes_back_words_and_cuts_what_was_found(store):
    kept, (a, b, c, d) = store
    linked(kept, {b: a})
    merging.decide(kept, c, a, "same", by="ann", at=AT)
    assert merging.groups(kept) == {b: a, c: a}
    later = AT + dt.timedelta(hours=1)
    assert [row.verdict for row in merging.release(kept, c, by="ann", at=later)] == ["undecided"]
    assert merging.groups(kept) == {b: a}
    assert [row.verdict for row in merging.release(kept, b, by="ann", at=later)] == ["different"]
    assert merging.groups(kept) == {}
    assert merging.release(kept, d, by="ann", at=later) == []


def test_a_merge_that_a_run_has_used_can_be_taken_back_too(store):
    kept, (a, b, *_) = store
    merging.decide(kept, b, a, "same", by="ann", at=AT - dt.timedelta(hours=1))
    linked(kept, {b: a})
    later = AT + dt.timedelta(hours=1)
    assert [row.verdict for row in merging.release(kept, b, by="ann", at=later)] == ["undecided"]
    assert merging.groups(kept) == {}
    assert merging.release(kept, b, by="ann", at=later) == []
