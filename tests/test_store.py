"""The store's promises; those about several processes are tested with processes and kill -9."""

import contextlib
import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from feedback_lib import records
from feedback_lib.errors import StoreError
from feedback_lib.store import Store, Upserted

WORKER = Path(__file__).with_name("store_worker.py")
JANUARY = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)


def signals(*uids, created=JANUARY, version=0, **fields):
    """Signals with these ids; ``version`` counts seconds in updated_at."""
    texts = {"kind": "files", "origin": "test", "type": "ticket", "title": "a title", "body": "a body", "run_id": "r1"}
    times = {"created_at": created, "updated_at": created + dt.timedelta(seconds=version)}
    row = {**texts, **times, "month": records.month(created), "labels": ["a", "b"], **fields}
    return records.frame("signals", [{"native_id": uid, "uid": uid, **row} for uid in uids])


def run_row(run_id, inputs):
    at = {"as_of": JANUARY, "started_at": JANUARY, "updated_at": JANUARY}
    texts = dict.fromkeys(("params", "versions", "counts", "report"), "{}")
    row = {"run_id": run_id, "recipe": "weekly", "seconds": 1.0, "status": "ok", "inputs": json.dumps({"read": inputs})}
    return records.frame("runs", [{**row, **at, **texts}])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@contextlib.contextmanager
def worker(*arguments):
    """A process that speaks one JSON value a line; killed at the end."""
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process):
    text = process.stdout.readline()
    assert text, process.stderr.read()
    return json.loads(text)


# One process


def test_a_missing_table_reads_as_no_rows_with_all_columns(store):
    assert store.read("signals").schema == records.schema("signals")
    assert store.read("signals").is_empty()
    assert store.scan("signals").collect().columns[-2:] == ["first_response_at_us", "closed_at_us"]
    assert store.version("signals") is None
    assert store.versions() == {}
    assert not store.path.exists()


def test_what_was_stored_is_read_back_in_key_order(store):
    batch = pl.concat([signals("b", rating=4.5, labels=[]), signals("a", closed_at=JANUARY)])
    assert store.upsert("signals", batch) == Upserted(inserted=2, updated=0, unchanged=0, version=1)
    assert_frame_equal(store.read("signals"), batch.sort("uid"))


def test_scan_adds_microseconds_of_every_time(store):
    store.upsert("signals", signals("a", created=dt.datetime(1970, 1, 2, tzinfo=dt.UTC)))
    row = store.scan("signals").collect().rows(named=True)[0]
    assert (row["created_at_us"], row["closed_at_us"]) == (86_400_000_000, None)


def test_a_repeated_batch_changes_no_row_and_makes_no_version(store):
    batch = pl.concat([signals("a", "b"), signals("c", created=dt.datetime(2026, 2, 1, tzinfo=dt.UTC), rating=1.0)])
    first = store.upsert("signals", batch)
    assert store.upsert("signals", batch.reverse()) == Upserted(0, 0, 3, version=first.version)
    assert store.version("signals") == first.version


def test_the_same_content_from_another_run_is_no_change(store):
    row = dict.fromkeys(("kind", "origin", "where", "reason", "run_id"), "x")
    for day in (1, 2):
        at = dt.datetime(2026, 3, day, tzinfo=dt.UTC)
        done = store.upsert("quarantine", records.frame("quarantine", [{**row, "seen_at": at, "run_id": f"r{day}"}]))
    assert done == Upserted(0, 0, 1, version=1)
    assert store.read("quarantine")["run_id"].to_list() == ["r1"]


def test_an_older_version_never_wins(store):
    store.upsert("signals", signals("a", version=5, body="new"))
    assert store.upsert("signals", signals("a", version=4, body="old")).unchanged == 1
    assert store.read("signals")["body"].to_list() == ["new"]


@pytest.mark.parametrize("changed", [{"body": "other"}, {"labels": ["a"]}, {"rating": 1.0}, {"rating": None}])
def test_an_equal_version_with_other_content_wins(store, changed):
    store.upsert("signals", signals("a", "b", rating=2.0))
    done = store.upsert("signals", signals("a", **{"rating": 2.0, **changed}))
    assert (done.inserted, done.updated) == (0, 1)
    (name, value), *_ = changed.items()
    assert store.read("signals").row(0, named=True)[name] == value


def test_of_one_key_in_a_batch_the_newest_counts_then_the_last(store):
    batch = pl.concat([signals("a", version=v, body=b) for v, b in [(1, "old"), (3, "new"), (3, "last"), (2, "mid")]])
    assert store.upsert("signals", batch) == Upserted(1, 0, 3, version=1)
    assert store.read("signals")["body"].to_list() == ["last"]


def test_a_key_stays_in_the_month_it_was_first_stored_in(store):
    store.upsert("signals", signals("a", "b"))
    moved = signals("a", "c", created=dt.datetime(2026, 5, 1, tzinfo=dt.UTC), body="moved")
    assert store.upsert("signals", moved) == Upserted(1, 1, 0, version=2)
    assert store.read("signals").select("uid", "month", "body").rows() == [
        ("a", "2026-01", "moved"),
        ("b", "2026-01", "a body"),
        ("c", "2026-05", "moved"),
    ]
    assert store.upsert("signals", moved) == Upserted(0, 0, 2, version=2)


def test_an_update_opens_only_files_of_its_months(store):
    store.upsert("signals", pl.concat([signals("a"), signals("b", created=dt.datetime(2026, 2, 1, tzinfo=dt.UTC))]))
    for path in (store.path / "signals" / "month=2026-02").glob("*.parquet"):
        path.write_bytes(bytes(path.stat().st_size))  # whoever opens it fails
    assert store.upsert("signals", signals("a", version=1)).updated == 1
    with pytest.raises(StoreError):
        store.read("signals")


def test_not_a_number_is_stored_as_unknown(store):
    store.upsert("signals", signals("a", rating=float("nan")))
    assert store.read("signals")["rating"].to_list() == [None]


def test_a_table_keyed_by_several_columns_is_updated_by_all_of_them(store):
    at = {"seen_at": JANUARY, "run_id": "r"}
    rows = [{"kind": "files", "origin": "o", "where": w, "reason": "bad", **at} for w in ("f:1", "f:2")]
    store.upsert("quarantine", records.frame("quarantine", rows))
    done = store.upsert("quarantine", records.frame("quarantine", [{**rows[0], "reason": "worse"}]))
    assert (done.inserted, done.updated) == (0, 1)
    assert store.read("quarantine")["reason"].to_list() == ["worse", "bad"]


def test_appended_rows_are_all_kept(store):
    assert [store.append("signals", signals("a")), store.append("signals", signals("a"))] == [1, 2]
    assert store.append("signals", signals()) == 2
    assert store.read("signals").height == 2


def test_a_table_is_read_as_of_a_version(store):
    first = store.upsert("signals", signals("a", body="one")).version
    second = store.upsert("signals", signals("a", "b", version=1, body="two")).version
    assert store.read("signals", as_of=first)["body"].to_list() == ["one"]
    assert store.read("signals", as_of=second)["body"].to_list() == ["two", "two"]
    with pytest.raises(StoreError, match=f"no version 9; the newest is {second}"):
        store.read("signals", as_of=9)


def test_a_view_shows_all_tables_as_they_stood_and_refuses_writes(store):
    store.upsert("signals", signals("a"))
    view = store.at(store.versions())
    store.upsert("signals", signals("b"))
    store.upsert("runs", run_row("r1", {}))
    assert (view.read("signals").height, view.read("runs").height) == (1, 0)
    assert view.versions() == {"signals": 1}
    for write in (view.upsert, view.append):
        with pytest.raises(StoreError, match="view of the past"):
            write("signals", signals("c"))


def test_a_watermark_only_moves_forward(store):
    def mark(source, day):
        at = dt.datetime(2026, 1, day, tzinfo=dt.UTC)
        row = {"source": source, "watermark": at, "rows": 1, "updated_at": at, "run_id": "r"}
        store.upsert("watermarks", records.frame("watermarks", [row]))

    assert store.watermark("mail") is None
    for source, day in [("mail", 5), ("other", 9), ("mail", 7), ("mail", 6)]:
        mark(source, day)
    assert store.watermark("mail") == dt.datetime(2026, 1, 7, tzinfo=dt.UTC)
    assert store.watermark("mail").utcoffset() == dt.timedelta(0)


def test_a_column_newer_than_the_table_reads_as_null_and_can_then_be_written(store):
    old = signals("a", rating=3.0)
    old.drop("rating", "labels").write_delta(store.path / "signals", delta_write_options={"partition_by": ["month"]})
    assert store.read("signals").select("rating", "labels").rows() == [(None, None)]
    assert store.upsert("signals", signals("a", "b", rating=3.0)).updated == 1
    assert store.read("signals").select("rating", "labels").rows() == [(3.0, ["a", "b"])] * 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: f.rename({"body": "bodi"}), "unknown column 'bodi'; did you mean 'body'"),
        (lambda f: f.drop("title"), "no column 'title'"),
        (lambda f: f.with_columns(pl.lit(1).alias("title")), "column 'title' of the batch is Int32, not String"),
        (lambda f: f.with_columns(pl.lit(None).alias("uid")), "column 'uid' is null in 1 rows"),
        (lambda f: f.with_columns(pl.lit("2026-02").alias("month")), "month '2026-02' of 'a' is not the month"),
    ],
)
def test_a_batch_of_the_wrong_shape_is_refused_with_the_reason(store, spoil, says):
    with pytest.raises(StoreError, match=says):
        store.upsert("signals", spoil(signals("a")))
    assert store.version("signals") is None


def test_an_unknown_table_is_refused_with_the_nearest_name(store):
    with pytest.raises(StoreError, match="did you mean 'signals'"):
        store.scan("signal")


def files_of(store, pattern):
    return sorted((store.path / "signals").rglob(pattern), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda s: files_of(s, "*.parquet")[0].unlink(), r"\.parquet is missing"),
        (lambda s: os.truncate(files_of(s, "*.parquet")[0], 100), "has 100 bytes instead of"),
        (lambda s: files_of(s, "*.json")[-1].write_text('{"add": '), "its log cannot be read"),
        (lambda s: [f.unlink() for f in files_of(s, "*.json")], "holds data but no log"),
    ],
)
def test_a_damaged_table_says_what_is_wrong_and_what_to_do(store, damage, says):
    store.upsert("signals", signals("a", "b"))
    damage(store)
    for use in (lambda: store.scan("signals"), lambda: store.upsert("signals", signals("c"))):
        with pytest.raises(StoreError, match=rf"store table signals: .*{says}.*Restore") as caught:
            use()
        assert caught.value.table == "signals"
        assert str(store.path) in str(caught.value)


def test_optimize_joins_small_files_and_keeps_what_runs_read(store):
    for number in range(14):
        store.upsert("signals", signals(f"s{number:02}"))
    before = store.read("signals")
    named = {version: store.read("signals", as_of=version) for version in (3, 9)}
    store.upsert("runs", pl.concat([run_row(f"r{v}", {"signals": v, "topics": None}) for v in named]))
    assert store.optimize(keep_days=0) == ["signals"]
    assert len(DeltaTable(store.path / "signals").file_uris()) == 1
    assert_frame_equal(store.read("signals"), before)
    for version, frame in named.items():
        assert_frame_equal(store.read("signals", as_of=version), frame)
    with pytest.raises(StoreError, match="is missing"):
        store.read("signals", as_of=12)
    assert store.optimize() == []


def test_the_log_holds_nobodys_words(store):
    store.upsert("signals", signals("a", body="a private sentence", title="a private title"))
    log = "".join(path.read_text() for path in files_of(store, "*.json"))
    assert '"uid":"a"' in log.replace("\\", "")
    assert "private" not in log


# Several processes


def test_a_second_run_waits_then_names_the_process_that_holds_the_store(store):
    with worker("hold", store.path) as holder:
        pid = line(holder)
        told = []
        with (
            pytest.raises(StoreError, match=rf"process {pid} since 20\d\d-.*not free after 0.2 s"),
            store.lock(0.2, told.append),
        ):
            pass
        assert [f"process {pid}" in text for text in told] == [True]
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with store.lock(5):
            assert (store.path / "run.pid").read_text().startswith(f"{os.getpid()} since")
    assert not (store.path / "run.pid").exists()


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match=r"store: File exists. Check .* rights"), Store(tmp_path / "store").lock():
        pass


def test_a_killed_writer_loses_nothing_it_acknowledged_and_shows_no_half_batch(store, tmp_path):
    rng = random.Random(7)
    template = pl.concat([signals(*map(str, range(20))), signals("x", "y", created=JANUARY + dt.timedelta(days=90))])
    template.write_parquet(tmp_path / "template.parquet")
    arguments = ("write", store.path, tmp_path / "template.parquet")
    acknowledged = -1
    with contextlib.ExitStack() as stack:
        upcoming = stack.enter_context(worker(*arguments))
        for kill in range(9):
            writer, upcoming = upcoming, stack.enter_context(worker(*arguments))  # the next one starts meanwhile
            assert line(writer) == "ready"
            writer.stdin.write(f"{acknowledged + 1}\n")
            writer.stdin.flush()
            if kill % 3:  # else it may die in its first write, or in creating the table
                acknowledged = line(writer)
            time.sleep(rng.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().splitlines())])
            seen = store.read("signals")
            marks = seen.filter(pl.col("uid").str.starts_with("mark-"))["uid"].to_list()
            bodies = seen.filter(~pl.col("uid").str.starts_with("mark-"))["body"].value_counts().rows()
            last = max((int(mark.removeprefix("mark-")) for mark in marks), default=-1)
            assert last in (acknowledged, acknowledged + 1)  # the one in flight may have been committed
            assert set(marks) == {f"mark-{n}" for n in range(last + 1)}
            assert bodies == ([(str(last), template.height)] if last >= 0 else [])
            acknowledged = last
    assert acknowledged >= 5  # six writers were let finish one batch at least, the first of them number 0


def test_three_writers_at_once_end_as_one_after_the_other(store, tmp_path):
    """Also the first write: all three find no table."""
    rng = random.Random(11)
    keys, writers, each = [f"k{n:02}" for n in range(40)], 3, 4
    expected, batches = {}, []
    for number in rng.sample(range(writers * each), writers * each):
        rows = []
        for key in rng.sample(keys, 25):
            created = JANUARY + dt.timedelta(days=31 * (int(key[1:]) % 3))
            rows.append(signals(key, created=created, version=number, body=str(number)))
            expected[key] = max(expected.get(key, -1), number)
        batches.append(tmp_path / f"{number}.parquet")
        pl.concat(rows).write_parquet(batches[-1])
    go = tmp_path / "go"
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(worker("apply", store.path, go, *batches[n::writers])) for n in range(writers)]
        assert [line(process) for process in started] == ["ready"] * writers
        go.touch()
        counts = [line(process) for process in started for _ in range(each)]
    final = store.read("signals")
    assert dict(final.select("uid", "body").rows()) == {key: str(number) for key, number in expected.items()}
    assert sum(inserted for inserted, _, _ in counts) == final.height == len(expected)
    assert all(sum(count) == 25 for count in counts)


@pytest.mark.parametrize("attempt", range(10))
def test_first_writers_that_find_no_table_make_one_together(store, attempt):
    together = threading.Barrier(4)

    def first_write(uid):
        together.wait()
        return store.upsert("signals", signals(uid, "shared")).inserted

    with ThreadPoolExecutor(4) as pool:
        inserted = list(pool.map(first_write, "abcd"))
    assert sorted(inserted) == [1, 1, 1, 2]
    assert store.read("signals")["uid"].to_list() == [*"abcd", "shared"]


def test_readers_never_fail_and_never_see_two_batches_while_a_writer_merges(store, tmp_path):
    def batch(number):
        rows = [signals(*map(str, range(30)), version=number, body=str(number))]
        rows.append(signals("x", "y", created=JANUARY + dt.timedelta(days=40), version=number, body=str(number)))
        return pl.concat([*rows, signals(f"mark-{number}", created=JANUARY + dt.timedelta(days=80))])

    store.upsert("signals", batch(0))
    stop = tmp_path / "stop"
    with worker("read", store.path, stop) as reader:
        states = [line(reader)]
        for number in range(1, 31):
            store.upsert("signals", batch(number))
            if number % 15 == 0:
                assert store.optimize() == ["signals"]
        stop.touch()
        states += map(json.loads, reader.stdout.read().splitlines())
        assert (reader.wait(), reader.stderr.read()) == (0, "")
    for bodies, rows, marks in states:
        assert ([int(b) for b in bodies], rows) == ([marks - 1], 32)
    assert len({marks for _, _, marks in states}) >= 8


def test_a_folder_of_any_name_holds_a_store(tmp_path):
    store = Store(tmp_path / "Jörg's data #1")
    row = dict.fromkeys(records.schema("merges")) | {
        "uid": "a", "duplicate_of": "b", "verdict": "same", "by": "x", "reason": "",
        "decided_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }  # fmt: skip
    store.upsert("merges", records.frame("merges", [row]))
    store.upsert("merges", records.frame("merges", [row | {"reason": "again"}]))
    assert store.read("merges")["reason"].to_list() == ["again"]
