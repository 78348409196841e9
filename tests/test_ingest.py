"""From a source into the store: archived first, resumed at a checkpoint, threads kept up to date, nothing twice."""

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import polars as pl
import pytest
from fake_services import FAULTS, TOKEN, UNTIL, patient
from fake_services.github import Github, person, z
from http_receiver import until as wait_until

from feedback_lib import ingest, records
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal
from feedback_lib.store import Store

DAY = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    with patient():
        yield


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def gather(store, source, kind="github", since=None, until=UNTIL, at=DAY, run="r1", progress=lambda _: None):
    (result,) = ingest.gather(
        [(kind, source)], store, since=since, until=until, fetched_at=at, run_id=run, progress=progress
    )
    return result


class Told:
    """A source that yields what it is told to: what a plug-in may do, without a service."""

    kind = "told"
    origin = "here"
    personal_fields = ("author",)
    plain_fields = ("id", "at")

    def __init__(self, *found, words="said"):
        self.found, self.words, self.cursors = found, words, []

    def fetch(self, since, until, cursor=None):
        self.cursors.append(cursor)
        for found in self.found:
            if isinstance(found, Exception):
                raise found
            yield found

    def parse(self, payload: Mapping):
        if payload.get("breaks"):
            raise KeyError("title")
        if "text" not in payload:
            raise ValueError("has no text")
        at = dt.datetime.fromisoformat(payload["at"])
        return Signal(
            kind="told", origin="here", native_id=payload["id"], type="ticket", title=self.words, body=payload["text"],
            created_at=at, updated_at=at, author=payload.get("author"),
        )  # fmt: skip

    def reply(self, payload: Mapping):
        at = dt.datetime.fromisoformat(payload["at"])
        return Reply(
            kind="told", origin="here", native_id=payload["id"], parent=payload["to"], body="yes", created_at=at,
            updated_at=at, author=payload.get("author"), team=payload.get("team"),
        )  # fmt: skip


def item(n, day=1, **more):
    at = dt.datetime(2026, 3, day, tzinfo=dt.UTC)
    payload = {"id": str(n), "at": at.isoformat(), "text": f"number {n}", **more}
    return Item(payload, f"place {n}", str(n), at, at)


def reply(n, to, day, **more):
    at = dt.datetime(2026, 3, day, tzinfo=dt.UTC)
    payload = {"id": f"{to}#{n}", "at": at.isoformat(), "to": str(to), **more}
    return Item(payload, f"reply {n}", f"{to}#{n}", at, at, parent=str(to))


def mark(n, day=1):
    return Checkpoint({"stream": {"page": n}}, dt.datetime(2026, 3, day, tzinfo=dt.UTC))


def test_a_service_is_read_once_and_then_only_what_changed(store):
    with Github() as there:
        source = there.source()
        first = gather(store, source)
        assert (first.status, first.rejected) == ("ok", 0)
        assert first.new == len(there.expected())
        assert store.read("raw").height == first.new
        again = gather(store, source, at=DAY + dt.timedelta(hours=1), run="r2")
        assert (again.new, again.updated) == (0, 0)
        there.touch(there.items[5 + 1], UNTIL - dt.timedelta(days=1))
        there.items[6]["title"] = "Now it is slower"
        changed = gather(store, source, at=DAY + dt.timedelta(hours=2), run="r3")
        assert (changed.new, changed.updated) == (0, 1)
        assert "Now it is slower" in set(store.read("signals")["title"])
        assert changed.watermark == UNTIL - dt.timedelta(days=1)


def test_a_reading_that_fails_keeps_what_it_had_and_goes_on_there(store):
    fault = FAULTS["token revoked"]()
    with Github(fault=fault) as there:
        source = there.source()
        broken = gather(store, source)
        assert broken.status == "failed"
        assert "401" in broken.error
        assert "Not read: its issues from 2026-01-" in broken.error
        assert broken.watermark == store.watermark("github:octo/hello")
        assert 0 < store.read("signals").height < len(there.items)
        fault.left, asked = 0, len(there.requests)
        assert gather(store, source, run="r2").status == "ok"
        assert set(store.read("signals")["native_id"]) | set(store.read("replies")["native_id"]) == set(
            there.expected()
        )
        assert there.requests[asked].query["since"] > "2026-01-04"
        stood = store.standing("github:octo/hello")
        assert (stood["status"], stood["error"], stood["complete_at"]) == ("ok", None, DAY)


def test_a_variable_without_a_token_fails_this_source_only(store, monkeypatch):
    monkeypatch.delenv("FAKE_TOKEN")
    with Github() as there:
        results = ingest.gather(
            [("github", there.source()), ("told", Told(item(1)))],
            store, since=None, until=UNTIL, fetched_at=DAY, run_id="r",
        )  # fmt: skip
    assert [r.status for r in results] == ["failed", "ok"]
    assert "FAKE_TOKEN" in results[0].error


def test_threads_count_replies_and_know_the_first_answer(store):
    with Github() as there:
        gather(store, there.source())
        rows = {r["native_id"]: r for r in store.read("signals").iter_rows(named=True)}
        assert rows["1"]["thread_count"] == 1
        assert rows["1"]["first_response_at"] == rows["1"]["created_at"]
        assert (rows["2"]["thread_count"], rows["2"]["first_response_at"]) == (0, None)
        late = UNTIL - dt.timedelta(days=2)
        there.comments.append(there.comments[0] | {
            "id": 1, "issue_url": there.items[1]["url"], "html_url": f"{there.items[1]['html_url']}#issuecomment-1",
            "created_at": z(late), "updated_at": z(late), "user": person("maintainer"),
        })  # fmt: skip
        told = gather(store, there.source(), run="r2", at=DAY + dt.timedelta(hours=1))
        assert told.new == 1
        (row,) = store.read("signals").filter(pl.col("native_id") == "2").iter_rows(named=True)
        assert (row["thread_count"], row["first_response_at"], row["run_id"]) == (1, late, "r2")


def test_the_first_answer_is_not_by_the_author_nor_by_a_robot(store):
    source = Told(
        item(1, author="jane"), reply(1, 1, 2, author="jane"), reply(2, 1, 3, author="bot", team=False),
        reply(3, 1, 5, author="sam"), reply(4, 1, 4, author="lee", team=True),
    )  # fmt: skip
    gather(store, source, "told")
    (row,) = store.read("signals").iter_rows(named=True)
    assert (row["thread_count"], row["first_response_at"].day) == (4, 4)


def test_an_item_that_is_not_understood_is_archived_and_loads_when_it_is(store):
    source = Told(item(1), item(2, breaks=True), Rejected("place 3", "no JSON"))
    result = gather(store, source, "told")
    assert (result.read, result.new, result.rejected) == (2, 1, 2)
    assert set(store.read("raw")["native_id"]) == {"1", "2"}
    reasons = dict(store.read("quarantine").select("where", "reason").iter_rows())
    assert reasons == {"place 2": "was not understood (KeyError: 'title')", "place 3": "no JSON"}
    mended = Told()
    mended.parse = lambda payload: Told.parse(source, {k: v for k, v in payload.items() if k != "breaks"})
    (again,) = ingest.reparse([("told", mended)], store, at=DAY, run_id="r2")
    assert again.new == 1
    assert set(store.read("signals")["native_id"]) == {"1", "2"}
    left = store.read("quarantine").filter(pl.col("resolved_at").is_null())
    assert left["where"].to_list() == ["place 3"]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("reactions", "three", "reactions is of another kind (str)"), ("title", None, "another kind (NoneType)"),
        ("labels", (1,), "labels holds something that is no text"), ("thread_count", 2**63, "of more than 64 bits"),
        ("rating", True, "rating is of another kind (bool)"), ("author", {}, "author is of another kind (dict)"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_costs_its_item_only(store, field, value, reason):
    source = Told(item(1), item(2))
    source.parse = lambda payload: dataclasses.replace(
        Told.parse(source, payload), **({field: value} if payload["id"] == "1" else {})
    )
    assert gather(store, source, "told").rejected == 1
    assert store.read("signals")["native_id"].to_list() == ["2"]
    assert reason in store.read("quarantine")["reason"][0]


def test_signals_are_rebuilt_from_the_archive_without_asking(store):
    with Github() as there:
        gather(store, there.source())
        asked = len(there.requests)
        before = store.read("signals")
        (again,) = ingest.reparse([("github", there.source())], store, at=DAY, run_id="r2")
        assert len(there.requests) == asked
    assert (again.read, again.new, again.updated) == (store.read("raw").height, 0, 0)
    assert store.read("signals").equals(before)
    lost = store.path / "signals"
    lost.rename(store.path / "gone")
    with Github() as there:
        ingest.reparse([("github", there.source())], store, at=DAY, run_id="r1")
    assert store.read("signals").equals(before)


def test_a_changed_parser_changes_what_is_stored(store):
    gather(store, Told(item(1), item(2)), "told")
    (again,) = ingest.reparse([("told", Told(words="shouted"))], store, at=DAY, run_id="r2")
    assert (again.read, again.updated) == (2, 2)
    assert set(store.read("signals")["title"]) == {"shouted"}


def test_a_cursor_is_kept_only_with_what_it_stands_behind(store, monkeypatch):
    monkeypatch.setattr(ingest, "BATCH", 2)
    broken = SourceError("told", "here", "it went away")
    source = Told(item(1), item(2), mark(1), item(3), mark(2, day=2), item(4), broken)
    result = gather(store, source, "told")
    assert (result.status, result.watermark.day) == ("failed", 2)
    assert set(store.read("signals")["native_id"]) == {"1", "2", "3", "4"}
    assert json.loads(store.standing("told:here")["cursor"]) == {"stream": {"page": 2}}
    gather(store, source, "told")
    assert source.cursors == [None, {"stream": {"page": 2}}]


def test_what_fails_before_its_first_checkpoint_stands_where_it_stood(store):
    gather(store, Told(item(1), mark(7, day=20)), "told")
    result = gather(store, Told(item(2), SourceError("told", "here", "401")), "told", run="r2")
    assert (result.status, result.watermark.day) == ("failed", 20)
    stood = store.standing("told:here")
    assert (json.loads(stood["cursor"]), stood["status"]) == ({"stream": {"page": 7}}, "failed")


def test_a_run_of_an_earlier_day_moves_no_cursor_back(store):
    gather(store, Told(item(1), mark(7, day=20)), "told")
    earlier = gather(
        store, Told(item(2), mark(3, day=3)), "told", until=dt.datetime(2026, 3, 4, tzinfo=dt.UTC), run="r2"
    )
    assert (earlier.new, earlier.watermark.day) == (1, 20)
    assert json.loads(store.standing("told:here")["cursor"]) == {"stream": {"page": 7}}


def test_reading_again_from_a_day_moves_no_cursor(store):
    source = Told(item(1), mark(7, day=20))
    gather(store, source, "told")
    back = Told(item(1), item(2), mark(3, day=3))
    result = gather(store, back, "told", since=dt.datetime(2026, 3, 1, tzinfo=dt.UTC), run="r2")
    assert (result.new, back.cursors) == (1, [None])
    assert json.loads(store.standing("told:here")["cursor"]) == {"stream": {"page": 7}}
    assert result.watermark.day == 20


def test_a_first_reading_from_a_day_leaves_what_came_before_to_the_next(store):
    result = gather(store, Told(item(1), mark(7, day=20)), "told", since=dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
    assert (result.status, result.watermark, store.standing("told:here")["cursor"]) == ("ok", None, None)


@pytest.mark.parametrize("problem", [KeyError("x"), RuntimeError("x"), OSError("x"), ConfigError("x")])
def test_a_plug_in_that_breaks_stops_no_other(store, problem):
    results = ingest.gather(
        [("told", Told(item(1), problem)), ("told", Told(item(2)))],
        store, since=None, until=UNTIL, fetched_at=DAY, run_id="r",
    )  # fmt: skip
    assert [r.status for r in results] == ["failed", "ok"]
    assert type(problem).__name__ in results[0].error or results[0].error == "told (here): x"
    assert set(store.read("signals")["native_id"]) == {"1", "2"}


def test_half_a_character_is_stored_as_a_question_mark(store):
    """Services that cut texts cut emojis in two: legal JSON, but no Unicode."""
    half = json.loads('"cut \\ud83d"')
    source = Told(dataclasses.replace(item(1, text=half), where=half), item(2), Rejected(half, half))
    result = gather(store, source, "told")
    assert (result.new, result.rejected) == (2, 1)
    assert set(store.read("signals")["body"]) == {"cut ?", "number 2"}
    stood = store.version("raw")
    (again,) = ingest.reparse([("told", Told())], store, at=DAY, run_id="r2")
    assert (again.read, again.updated, store.version("raw")) == (2, 0, stood)


@pytest.mark.parametrize(
    "odd",
    [
        {"created_at": None}, {"updated_at": DAY.replace(tzinfo=None)}, {"parent": 5}, {"native_id": 5},
        {"where": None}, {"payload": [1]}, {"native_id": "\ud83d"},
        {"payload": {"id": functools.reduce(lambda x, _: [x], range(950))}},
    ],
)  # fmt: skip
def test_an_item_that_no_archive_holds_costs_itself_only(store, odd):
    result = gather(store, Told(dataclasses.replace(item(1), **odd), item(2)), "told")
    assert (result.status, result.new, result.rejected) == ("ok", 1, 1)
    assert store.read("signals")["native_id"].to_list() == ["2"]


def test_a_place_that_loads_but_for_a_part_of_it_stays_in_quarantine(store):
    for hour in range(2):
        at = DAY + dt.timedelta(hours=hour)
        gather(store, Told(item(1), Rejected("place 1", "has a note that was not understood"), mark(1)), "told", at=at)
    assert store.read("quarantine")["resolved_at"].to_list() == [None]


@pytest.mark.parametrize("kept", ["{", "[1]", "7", '"x"'])
def test_a_damaged_cursor_means_a_fresh_start(store, kept, caplog):
    gather(store, Told(item(1), mark(1)), "told")
    stood = store.read("watermarks").with_columns(cursor=pl.lit(kept))
    store.upsert("watermarks", stood)
    source = Told(item(1), item(2), mark(2))
    assert gather(store, source, "told").new == 1
    assert source.cursors == [None]
    assert "damaged" in caplog.text
    assert json.loads(store.standing("told:here")["cursor"]) == {"stream": {"page": 2}}


def test_a_cursor_that_its_source_does_not_understand_means_a_fresh_start(store, caplog):
    gather(store, Told(item(1), mark(1)), "told")

    class Other(Told):
        def fetch(self, since, until, cursor=None):
            yield from super().fetch(since, until, cursor and cursor["stream"]["uid"])

    result = gather(store, Other(item(1), item(2), mark(2)), "told")
    assert (result.status, result.new) == ("ok", 1)
    assert "cannot go on from its mark (KeyError)" in caplog.text


def test_a_mark_in_the_future_is_not_gone_on_from(store, caplog):
    """It was read with a clock, or an --as-of, that was years ahead; nothing would ever be new after it."""
    late = Checkpoint({"stream": {"page": 9}}, dt.datetime(2090, 1, 1, tzinfo=dt.UTC))
    gather(store, Told(item(1), late), "told")
    source = Told(item(1), item(2), mark(2))
    result = gather(store, source, "told")
    assert (result.new, result.watermark.year, source.cursors) == (1, 2026, [None])
    assert "2090-01-01, where it stood, is yet to come" in caplog.text


def test_killed_before_threads_are_up_to_date_the_next_run_mends_them(store, monkeypatch):
    gather(store, Told(item(1), mark(1)), "told")
    source = Told(reply(1, 1, 2), mark(2))
    with monkeypatch.context() as killed:
        killed.setattr(ingest._Reading, "_rethread", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gather(store, source, "told", run="r2")
    assert store.standing("told:here")["status"] == "reading"
    gather(store, source, "told", run="r3")
    assert store.read("signals")["thread_count"].to_list() == [1]


def test_replies_that_are_read_otherwise_change_their_signals_at_once(store, monkeypatch):
    monkeypatch.setattr(ingest, "BATCH", 1)
    gather(store, Told(*(reply(n, n, 2, team=True) for n in (1, 2)), item(1), item(2)), "told")
    assert store.read("signals")["first_response_at"].null_count() == 0
    robots = Told()
    robots.reply = lambda payload: dataclasses.replace(Told.reply(robots, payload), team=False)
    ingest.reparse([("told", robots)], store, at=DAY, run_id="r2")
    assert store.read("signals")["first_response_at"].null_count() == 2
    stood = store.versions()
    (again,) = ingest.reparse([("told", robots)], store, at=DAY, run_id="r3")
    assert (again.updated, store.versions()) == (0, stood)


def test_progress_of_a_run_that_looks_back(monkeypatch):
    lines = []
    clock = iter(range(9))
    monkeypatch.setattr(ingest.time, "monotonic", lambda: float(next(clock)))
    meter = ingest._Meter("told:here", dt.datetime(2026, 3, 1, tzinfo=dt.UTC), lines.append)
    meter.at(1, dt.datetime(2026, 3, 9, tzinfo=dt.UTC))
    assert lines == ["… told:here: 1 read, 1/s, up to 2026-03-09"]


def test_progress_says_rate_place_and_time_left(store, monkeypatch):
    lines = []
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr(ingest.time, "monotonic", lambda: float(next(clock)))
    found = [f for n in range(5) for f in (item(n, day=n + 1), mark(n, day=n + 1))]
    gather(store, Told(*found), "told", until=dt.datetime(2026, 3, 31, tzinfo=dt.UTC), progress=lines.append)
    assert any("/s, up to 2026-03-03, about " in line and line.startswith("… told:here: ") for line in lines)
    assert lines[-1] == "told:here: 5 read, 5 new, 0 quarantined"


def test_a_token_is_nowhere_after_a_run_that_failed(store, tmp_path, caplog):
    caplog.set_level("DEBUG")
    with Github(fault=FAULTS["token revoked"]()) as there:
        source = there.source()
        gather(store, source)
        assert TOKEN not in repr(source)
    assert TOKEN not in caplog.text
    for path in store.path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


class Stopped(BaseException):
    """The end of a process."""


def test_stopped_after_any_commit_the_next_run_has_what_one_run_would_have(tmp_path, monkeypatch):
    class Resumed(Told):
        def fetch(self, since, until, cursor=None):
            done = self.found.index(mark(cursor["stream"]["page"])) if cursor else -1
            yield from self.found[done + 1 :]

    monkeypatch.setattr(ingest, "BATCH", 2)
    found = [item(1), item(2), mark(1), reply(1, 1, 2, team=True), item(3, breaks=True), mark(2), reply(2, 2, 3)]
    real, commits, last = Store.upsert, [], 0

    def upsert(store, table, frame):
        done = real(store, table, frame)
        commits.append(table)
        if len(commits) == last:
            raise Stopped
        return done

    def left_by_runs(name, runs):
        store = Store(tmp_path / name)
        commits.clear()
        for _ in range(runs):
            with contextlib.suppress(Stopped):
                gather(store, Resumed(*found, mark(3)), "told")
        tables = ("raw", "signals", "replies", "quarantine", "watermarks")
        return [store.read(table).drop("rows", strict=False) for table in tables]

    monkeypatch.setattr(Store, "upsert", upsert)
    whole = left_by_runs("whole", 1)
    assert [commits[n - 1] for n in (2, 5, 9)] == ["raw", "replies", "replies"], commits
    for last in (2, 5, 9):
        stopped = left_by_runs(f"stopped-{last}", 2)
        assert all(one.equals(other) for one, other in zip(whole, stopped, strict=True)), last


KILLED = """
import datetime as dt, sys
from feedback_lib import ingest, plugins
from feedback_lib.store import Store
ingest.BATCH = 50
options = {"kind": "github", "repo": "octo/hello", "url": sys.argv[1], "token_env": "FAKE_TOKEN"}
source = plugins.build("sources", options)
at = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
until = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
(r,) = ingest.gather([("github", source)], Store(sys.argv[2]), since=None, until=until, fetched_at=at, run_id="r")
assert r.status in ("ok", "empty"), r.error
"""


def test_killed_while_it_reads_it_loses_and_doubles_nothing(store):
    """A smaller sibling of `benchmarks.sources_kill`."""
    with Github(900) as there:
        command = [sys.executable, "-c", KILLED, there.url, str(store.path)]
        environment = {**os.environ, "FAKE_TOKEN": TOKEN, "PYTHONPATH": str(records.__file__).rsplit("/", 2)[0]}
        for asked in (4, 9):
            with subprocess.Popen(command, env=environment) as process:
                wait_until(lambda asked=asked: len(there.requests) >= asked, 30)
                process.send_signal(signal.SIGKILL)
        assert gather(store, there.source()).status == "ok"
        arrived = [*store.read("signals")["native_id"], *store.read("replies")["native_id"]]
        assert sorted(arrived) == sorted(there.expected())
        assert store.read("raw").height == len(arrived)
