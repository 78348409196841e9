"""The walk over a service's pages: nothing lost whatever order or shape they come in."""

import dataclasses
import datetime as dt
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedback_lib.errors import ConfigError, SourceError, TransportError
from feedback_lib.records import Checkpoint, Item, Rejected
from feedback_lib.services import Page, Service, Walk, instant

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
UNTIL = BEGIN + dt.timedelta(days=30)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Desk(Service):
    kind = "desk"
    lag = dt.timedelta(minutes=1)

    origin = property(lambda self: "desk")
    url: str = "http://127.0.0.1:9"

    def headers(self):
        return {}

    def streams(self, walk):
        raise AssertionError("these tests walk by themselves")

    def look(self):
        return {}["nothing"]


def at(minutes):
    return BEGIN + dt.timedelta(minutes=minutes)


def row(n, minutes):
    return {"id": n, "at": at(minutes).isoformat()}


def items(found):
    return [Item(found, found.get("x", "x"), str(found["id"]), instant(found["at"]), instant(found["at"]))]


def walked(ask, *, cursor=None, since=None, until=UNTIL, anchored=True, stream="rows"):
    walk = Walk(Desk(), since, until, cursor or {})
    found = list(walk.pages(stream, ask, items, at=lambda r: instant(r["at"]), anchored=anchored))
    return [f.native_id for f in found if isinstance(f, Item)], found, walk


class Shelf:
    """Pages of rows by time, as a service gives them that numbers pages; it may be changed between two of them."""

    def __init__(self, rows, size=3, order=lambda rows: rows):
        self.rows, self.size, self.order, self.asked = list(rows), size, order, []

    def __call__(self, since, number):
        self.asked.append((since, number))
        rows = [r for r in self.rows if since is None or instant(r["at"]) >= since]
        rows = self.order(sorted(rows, key=lambda r: r["at"]))
        start = self.size * (number or 0)
        more = len(rows) > start + self.size
        return Page(rows[start : start + self.size], (number or 0) + 1 if more else None)


ROWS = st.lists(st.integers(0, 12), max_size=40).map(lambda times: [row(n, t) for n, t in enumerate(times)])


@given(ROWS, st.integers(1, 7))
def test_every_row_comes_once_whatever_shares_a_time(rows, size):
    ids, found, _ = walked(Shelf(rows, size))
    assert sorted(ids, key=int) == [str(r["id"]) for r in rows]
    marks = [f.watermark for f in found if isinstance(f, Checkpoint) and f.watermark]
    assert marks == sorted(marks)


@given(ROWS, st.integers(1, 7), st.integers(0, 20))
def test_every_row_comes_after_a_stop_at_any_checkpoint(rows, size, stop):
    _, found, _ = walked(Shelf(rows, size))
    marks = [n for n, f in enumerate(found) if isinstance(f, Checkpoint)]
    place = marks[min(stop, len(marks) - 1)]
    before = {f.native_id for f in found[:place] if isinstance(f, Item)}
    after, _, _ = walked(Shelf(rows, size), cursor=found[place].cursor)
    assert before | set(after) == {str(r["id"]) for r in rows}


@given(ROWS, st.integers(1, 5), st.lists(st.integers(0, 39), max_size=6))
@example([row(n, t) for n, t in enumerate([1, 1, 0, 1, 0, 0, 0, 0])], 1, [2, 0, 0, 4, 0, 5])
@example([row(n, t) for n, t in enumerate([0, 0, 1, 0])], 1, [0, 1, 1, 2, 1, 1])
def test_rows_that_change_while_they_are_read_push_no_other_out(rows, size, touched):
    shelf = Shelf(rows, size)

    def ask(since, number):
        page = shelf(since, number)
        if len(shelf.asked) <= len(touched) and (place := touched[-len(shelf.asked)]) < len(rows):
            shelf.rows[place] = row(place, 100 + len(shelf.asked))
        return page

    ids, _, _ = walked(ask)
    assert set(ids) == {str(r["id"]) for r in rows}


ORDERS = st.one_of(st.none(), st.integers(0, 50))
DISTINCT = st.integers(0, 60).map(lambda count: [row(n, 3 * n) for n in range(count)])


def _disorder(seed):
    return lambda rows: rows[::-1] if seed is None else random.Random(seed).sample(rows, len(rows))


@given(DISTINCT, st.integers(12, 15), ORDERS, st.integers(0, 9))
def test_a_service_that_keeps_no_order_loses_nothing_wherever_it_is_stopped(rows, size, seed, stop):
    shelf = Shelf(rows, size, _disorder(seed))
    whole, found, walk = walked(shelf)
    assert set(whole) == {str(r["id"]) for r in rows}
    assert not rows or walk.newest == instant(rows[-1]["at"])
    marks = [n for n, f in enumerate(found) if isinstance(f, Checkpoint)]
    place = marks[min(stop, len(marks) - 1)]
    after, _, _ = walked(shelf, cursor=found[place].cursor)
    assert {f.native_id for f in found[:place] if isinstance(f, Item)} | set(after) == set(whole)


@given(ROWS, st.integers(2, 7))
def test_a_service_that_ignores_since_is_walked_by_its_pages(rows, size):
    shelf = Shelf([row(r["id"], 9 * n) for n, r in enumerate(rows)], size)
    ids, _, _ = walked(lambda since, number: shelf(None, number))
    assert sorted(set(ids), key=int) == [str(r["id"]) for r in rows]
    assert len(shelf.asked) <= 4 * (1 + len(rows) // size) + 4


def test_a_row_of_the_far_future_hides_none_that_follow_it():
    rows = [row(0, 0), row(1, 10**7), *(row(n, n) for n in range(2, 9))]
    shelf = Shelf(rows, order=lambda rows: sorted(rows, key=lambda r: r["id"]))
    ids, found, _ = walked(shelf)
    assert set(ids) == {str(n) for n in range(9)} - {"1"}
    assert found[-1].watermark == at(8)


def test_a_cursor_is_not_kept_beyond_a_row_that_was_left():
    pages = [Page([row(0, 0), row(1, 10**7), row(2, 2)], 1, 1), Page([row(3, 3)], None, 2)]
    _, found, _ = walked(lambda since, cursor: pages[cursor or 0], anchored=False)
    assert "next" not in found[-1].cursor["rows"]


def test_long_silence_is_no_repetition():
    ids, _, _ = walked(lambda since, n: Page([], (n or 0) + 1) if (n or 0) < 90 else Page([row(1, 1)]), anchored=False)
    assert ids == ["1"]


def test_empty_pages_for_ever_are_an_error():
    with pytest.raises(TransportError, match="again and again"):
        walked(lambda since, n: Page([], (n or 0) + 1), anchored=False)


@pytest.mark.parametrize("mark", [5, None, "x", [], {"at": 5}, {"at": "soon"}, {"at": [1]}])
def test_a_damaged_mark_means_a_fresh_start_of_its_stream(mark):
    sound = {"at": at(5).isoformat()}
    ids, found, _ = walked(Shelf([row(n, n) for n in range(9)]), cursor={"rows": mark, "other": sound})
    assert len(ids) == 9
    assert found[-1].cursor["other"] == sound


def test_a_later_run_starts_the_lag_before_the_mark():
    shelf = Shelf([row(1, 0), row(2, 10)])
    _, found, walk = walked(shelf)
    walked(shelf, cursor=walk.cursor)
    assert shelf.asked[-1][0] == at(9)
    assert found[-1].watermark == at(10)


def test_rows_from_the_end_of_the_window_on_are_left_for_the_next_run():
    shelf = Shelf([row(n, n) for n in range(10)])
    ids, found, _ = walked(shelf, until=at(4))
    assert ids == ["0", "1", "2", "3"]
    assert found[-1].watermark == at(3)


def test_a_row_without_id_or_time_is_refused_alone():
    told = at(1).isoformat()
    odd = [
        {"at": told},
        {"id": 7},
        {"id": 8, "at": "soon"},
        None,
        {"id": [9], "at": told},
        {"id": 9, "at": told, "x": 1},
    ]
    ids, found, _ = walked(lambda since, number: Page([row(1, 0), *odd, row(2, 3)]))
    assert ids == ["1", "2"]
    refused = [f for f in found if isinstance(f, Rejected)]
    assert len(refused) == 6
    assert all(f.where.startswith("desk rows") and f.reason for f in refused)


def test_a_cursor_that_never_ends_is_an_error_instead_of_a_loop():
    with pytest.raises(TransportError, match="same page twice"):
        walked(lambda since, number: Page([row(1, 1)], "next"), anchored=False)


def test_cursors_that_never_end_are_an_error_instead_of_a_loop():
    asked = []

    def ask(since, cursor):
        asked.append(cursor)
        return Page([row(1, 1)], f"cursor {len(asked)}")

    with pytest.raises(TransportError, match="again and again"):
        walked(ask, anchored=False)
    assert len(asked) < 60


def test_what_a_walk_remembers_does_not_grow_with_what_it_reads():
    walk = Walk(Desk(), None, UNTIL, {})

    def ask(since, cursor):
        n = cursor or 0
        return Page([row(100 * n + m, n) for m in range(100)], n + 1)

    found = walk.pages("rows", ask, items, at=lambda r: instant(r["at"]), anchored=False)
    for _ in range(5_000):
        next(found)
    assert len(found.gi_frame.f_locals["seen"]) <= 200


def test_a_day_to_read_again_from_goes_before_a_cursor(monkeypatch):
    starts = []
    monkeypatch.setattr(Desk, "streams", lambda self, walk: starts.append(walk.begin("rows")) or iter(()))
    list(Desk().fetch(at(5), UNTIL, {"rows": {"at": at(60).isoformat()}}))
    assert starts == [at(5)]


def test_a_cursor_that_keeps_expiring_is_an_error_instead_of_a_loop():
    def ask(since, number):
        if number:
            raise TransportError("desk", "gone", status=410)
        return Page([row(1, 1)], "next")

    with pytest.raises(TransportError, match="gone"):
        walked(ask, anchored=False)


def test_a_page_of_another_shape_is_an_error_that_says_so():
    with pytest.raises(TransportError, match="another shape"):
        walked(lambda since, number: Page({}["rows"]))


def test_the_first_day_holds_for_a_stream_that_was_never_begun(monkeypatch):
    starts = []
    monkeypatch.setattr(
        Desk, "streams", lambda self, walk: starts.extend([walk.begin("rows"), walk.begin("other")]) or iter(())
    )
    list(Desk(start="2026-02-01").fetch(None, UNTIL, {"rows": {"at": at(60).isoformat()}}))
    assert starts == [at(59), dt.datetime(2026, 2, 1, tzinfo=dt.UTC)]


def test_wrong_options_are_said_when_it_is_built():
    with pytest.raises(ConfigError, match=r"sources desk: start = 'soon'"):
        Desk(start="soon")
    with pytest.raises(ConfigError, match="'2199-01-01' is yet to come"):
        Desk(start="2199-01-01")


def test_an_answer_of_another_service_is_a_source_error():
    with pytest.raises(SourceError, match="another shape"):
        Desk().check()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-16T07:00:00.000+0100", "2026-11-16T06:00:00+00:00"), ("2026-11-16", "2026-11-16T00:00:00+00:00"),
        (1763280000, "2025-11-16T08:00:00+00:00"), ("2026-11-16T07:00:00Z", "2026-11-16T07:00:00+00:00"),
    ],
)  # fmt: skip
def test_times_as_services_write_them(written, meant):
    assert instant(written).isoformat() == meant


@pytest.mark.parametrize(
    "written", [None, True, "soon", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", {}, 10**18]
)
def test_what_is_no_time(written):
    with pytest.raises(ValueError, match=r"is no |Invalid"):
        instant(written)
