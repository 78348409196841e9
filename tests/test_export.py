"""Tables in other programs' hands: files, DuckDB, and a real PostgreSQL through dlt."""

import csv
import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import polars as pl
import pytest
from commands import called, started
from polars.testing import assert_frame_equal
from postgres_server import Postgres

from feedback_lib import export, privacy, records
from feedback_lib.commands.export import TO
from feedback_lib.errors import ConfigError, DeliveryError
from feedback_lib.store import Store

AT = dt.datetime(2026, 1, 10, 8, 30, 0, 123456, tzinfo=dt.UTC)
NASTY = 'Grüße 🎉, "quoted"; it\'s\n\\N \\x00 %s NULL'
PASSWORD = "pl4nted-p4ssw0rd"
TABLES = {name: spec for name, spec in records.TABLES.items() if name not in export.PRIVATE_TABLES}
VARIABLE = "DESTINATION__POSTGRES__CREDENTIALS"


def rows(table):
    """Three rows: every column filled, only what must be known, and the least of everything."""
    spec, columns = records.TABLES[table], records.schema(table)
    full = {pl.String: NASTY, pl.Int64: -(2**53), pl.Float64: 0.1, pl.Boolean: True, pl.Date: AT.date()}
    least = {pl.String: "", pl.Int64: 0, pl.Float64: -0.5, pl.Boolean: False, pl.Date: dt.date(1970, 1, 1)}
    known = {"month": "2026-01", "type": "ticket", "created_at": AT, spec.version: AT}

    def value(dtype, of):
        if isinstance(dtype, pl.List):
            return [value(dtype.inner, of)] * 2 if of is full else []
        return AT if isinstance(dtype, pl.Datetime) else of[type(dtype)]

    def key(dtype, i):
        return {pl.String: f"{i}", pl.Int64: i, pl.Date: AT.date() + dt.timedelta(days=i)}[type(dtype)]

    made = []
    for i, of in enumerate((full, None, least)):
        row = {c: value(dtype, of) if of else None for c, dtype in columns.items()}
        row |= {c: v for c, v in known.items() if c in columns}
        made.append(row | {c: key(columns[c], i) for c in spec.key})
    return records.frame(table, made)


def signals(*uids, **fields):
    row = dict.fromkeys(("kind", "origin", "native_id", "title", "body", "run_id"), "x") | {"type": "ticket"}
    row |= {"created_at": AT, "updated_at": AT, "month": "2026-01", **fields}
    return records.frame("signals", [{**row, "uid": uid} for uid in uids])


def wanted(store, table):
    """What a table should look like elsewhere: as stored, with the team's names as pseudonyms."""
    key = privacy.load_key(store.path)
    frame = store.read(table)
    for column in {"by", "named_by"} & set(frame.columns):
        clean = [v and privacy.pseudonym(v, key) for v in frame[column]]
        frame = frame.with_columns(pl.Series(column, clean, pl.String))
    return frame


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A store with three rows in every table."""
    store = Store(tmp_path_factory.mktemp("full") / "store")
    for table in records.TABLES:
        store.upsert(table, rows(table))
    return store


@pytest.fixture
def store(tmp_path):
    """A store with two signals."""
    store = Store(tmp_path / "store")
    store.upsert("signals", signals("a", "b"))
    return store


@pytest.fixture
def run(tmp_path, store):
    """``feedback export`` on that store."""
    (tmp_path / "run.yaml").write_text("store: store\n", "utf-8")
    return lambda *arguments: called("export", *arguments, "-f", tmp_path / "run.yaml")


def put(store, to, out, *tables, tell=lambda _: None):
    return export.write(store, to, export.Target(out=out), tables, tell=tell)


# Round trips


def test_every_table_comes_back_from_parquet(full, tmp_path):
    done = put(full, "parquet", tmp_path / "out", *TABLES)
    assert done.rows == dict.fromkeys(TABLES, 3)
    for table, spec in TABLES.items():
        assert_frame_equal(pl.read_parquet(tmp_path / f"out/{table}.parquet").sort(spec.key), wanted(full, table))


def test_every_table_comes_back_from_duckdb(full, tmp_path):
    put(full, "duckdb", tmp_path / "all.duckdb", *TABLES)
    with duckdb.connect(str(tmp_path / "all.duckdb"), read_only=True) as database:
        for table, spec in TABLES.items():
            order = ", ".join(f'"{c}"' for c in spec.key)
            database.execute(f"copy (from \"{table}\" order by {order}) to '{tmp_path}/{table}.parquet'")
            assert_frame_equal(pl.read_parquet(tmp_path / f"{table}.parquet"), wanted(full, table))
        types = dict(
            database.execute(
                "select column_name, data_type from duckdb_columns() where table_name = 'topics'"
            ).fetchall()
        )
    assert types["centroid"] == "DOUBLE[]"
    assert types["updated_at"] == "TIMESTAMP WITH TIME ZONE"


def test_every_table_comes_back_from_csv(full, tmp_path):
    put(full, "csv", tmp_path / "out", *TABLES)
    for table, spec in TABLES.items():
        with (tmp_path / f"out/{table}.csv").open(encoding="utf-8", newline="") as file:
            read = list(csv.DictReader(file))
        expected = [{c: _cell(v) for c, v in row.items()} for row in wanted(full, table).to_dicts()]
        assert sorted(read, key=lambda r: [r[c] for c in spec.key]) == expected


def _cell(value):
    """A value as it should stand in a CSV file."""
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_a_table_that_nobody_wrote_is_there_without_rows(store, tmp_path):
    done = put(store, "parquet", tmp_path / "out")
    assert done.rows == {**dict.fromkeys(export.DEFAULT, 0), "signals": 2}
    empty = pl.read_parquet(tmp_path / "out/topics.parquet")
    assert empty.is_empty()
    assert empty.schema == records.schema("topics")


def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(tmp_path):
    store = Store(tmp_path / "store")
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", "a=1", "\0=1"]
    for i, text in enumerate(texts):
        store.upsert("signals", signals(str(i), title=text, labels=["=1"], rating=-1.0))
    put(store, "csv", tmp_path / "out", "signals")
    with (tmp_path / "out/signals.csv").open(encoding="utf-8", newline="") as file:
        read = sorted(csv.DictReader(file), key=lambda row: row["uid"])
    assert [row["title"] for row in read] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\uff1d1", "a=1", "'=1"]
    assert {(row["labels"], row["rating"]) for row in read} == {('["=1"]', "-1.0")}


def test_all_tables_are_of_one_moment(store, tmp_path):
    def later(line):
        if line.startswith("signals"):
            store.upsert("topics", rows("topics"))

    assert put(store, "csv", tmp_path / "out", "signals", "topics", tell=later).rows["topics"] == 0
    assert put(store, "csv", tmp_path / "out", "signals", "topics").rows["topics"] == 3


# What leaves


def test_process_feedback_and_what_hangs_on_it_stays(tmp_path):
    store = Store(tmp_path / "store")
    store.upsert("signals", pl.concat([signals("open"), signals("private", type="workflow")]))

    def put_in(table, *fields):
        row = rows(table).head(1)
        store.upsert(table, pl.concat([row.with_columns(**{c: pl.lit(v) for c, v in f.items()}) for f in fields]))

    for table in ("raw", "understanding", "labels"):
        put_in(table, {"uid": "open"}, {"uid": "private"}, {"uid": "p1"})
    put_in("replies", {"uid": "o1", "signal": "open"}, {"uid": "p1", "signal": "private"})
    ends = (("open", "private"), ("private", "open"), ("open", "o1"))
    put_in("merges", *({"uid": one, "duplicate_of": other} for one, other in ends))
    tables = ("signals", "raw", "replies", "understanding", "labels", "merges")
    put(store, "parquet", tmp_path / "out", *tables)
    left = {table: pl.read_parquet(tmp_path / f"out/{table}.parquet")["uid"].to_list() for table in tables}
    assert left == {**{table: ["open"] for table in tables}, "replies": ["o1"]}


def test_names_of_colleagues_are_pseudonyms_and_their_words_are_redacted(tmp_path):
    store = Store(tmp_path / "store")
    store.upsert("merges", rows("merges").head(1).with_columns(by=pl.lit("Ann"), reason=pl.lit("ask jane@example.org")))
    put(store, "parquet", tmp_path / "out", "merges")
    row = pl.read_parquet(tmp_path / "out/merges.parquet").row(0, named=True)
    assert row["by"] == privacy.pseudonym("Ann", privacy.load_key(store.path))
    assert row["reason"] == "ask [email]"


# What stands there already


def test_what_was_made_of_process_feedback_stays(tmp_path):
    """Rows that name it as evidence, what was once hit by workflows, and the words of reports."""
    store = Store(tmp_path / "store")
    store.upsert("signals", pl.concat([signals("open"), signals("private", type="workflow")]))
    made = rows("suggestions").with_columns(
        evidence=pl.Series([["open"], ["open", "private"], ["open"]]),
        history=pl.Series([["2026-11-09 run 1: 2 people"], [], ["2026-11-09 run 1: 2 people, hit by 4 workflows"]]),
    )
    store.upsert("suggestions", made)
    store.upsert("findings", rows("findings").with_columns(evidence=pl.Series([[], ["private"], None])))
    store.upsert("runs", rows("runs"))
    put(store, "parquet", tmp_path / "out", "suggestions", "findings", "runs")
    left = {t: pl.read_parquet(tmp_path / f"out/{t}.parquet") for t in ("suggestions", "findings", "runs")}
    assert left["suggestions"]["suggestion_id"].to_list() == ["0"]
    assert sorted(left["findings"]["finding_id"]) == ["0", "2"]
    assert set(left["runs"]["report"]) == {"{}"}
    for to in ("parquet", "csv", "duckdb"):
        with pytest.raises(ConfigError, match="--table friction: it is about one project's own work"):
            put(store, to, tmp_path / "no", "friction")


def test_an_export_replaces_its_own_files_and_nothing_else(run, store, tmp_path):
    out = tmp_path / "new/out"
    assert run("--to", "csv", "--out", out).returncode == 0
    (out / "mine.txt").write_text("mine")
    store.upsert("signals", signals("c"))
    done = run("--to", "csv", "--out", out, "--table", "signals", "--json")
    assert json.loads(done.stdout) == {"to": "csv", "where": str(out), "tables": [{"table": "signals", "rows": 3}]}
    assert len((out / "signals.csv").read_text().splitlines()) == 4
    names = {f"{table}.csv" for table in export.DEFAULT}
    assert {path.name for path in out.iterdir()} == names | {"mine.txt", "export.json"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_or_file_of_somebody_else_is_left_alone(run, tmp_path):
    other, file, ours = tmp_path / "other", tmp_path / "file.csv", tmp_path / "ours"
    other.mkdir()
    (other / "notes.md").write_text("mine")
    file.write_text("mine")
    assert run("--to", "parquet", "--out", ours, "--table", "signals").returncode == 0
    (ours / "topics.parquet").write_text("mine")
    for out, words in ((other, "no export of ours"), (file, "is a file"), (ours, "topics.parquet is there")):
        done = run("--to", "parquet", "--out", out)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
    assert [path.name for path in other.iterdir()] == ["notes.md"]
    assert file.read_text() == (ours / "topics.parquet").read_text() == "mine"
    done = run("--to", "duckdb", "--out", file)
    assert done.returncode == 2
    assert "cannot be written as a DuckDB database" in done.stderr


def test_a_killed_export_leaves_the_old_one(store, tmp_path):
    """Killed when the first table is written: what a reader finds is the old export, whole."""
    out = tmp_path / "out"
    put(store, "parquet", out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    store.upsert("signals", signals("c"))
    code = (
        "import os, signal, sys; from pathlib import Path; from feedback_lib import export; "
        "from feedback_lib.store import Store; end = lambda line: os.kill(os.getpid(), signal.SIGKILL); "
        "export.write(Store(sys.argv[1]), 'parquet', export.Target(out=Path(sys.argv[2])), tell=end)"
    )
    ended = subprocess.run([sys.executable, "-c", code, store.path, out], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert put(store, "parquet", out).rows["signals"] == 3


def test_a_database_keeps_the_tables_of_others_and_changes_whole_or_not_at_all(run, store, tmp_path):
    out = tmp_path / "all.duckdb"
    with duckdb.connect(str(out)) as database:
        database.execute("create table mine as select 1 as n; create table topics (n int)")
    done = run("--to", "duckdb", "--out", out)
    assert done.returncode == 2
    assert "has a table topics that is no export of ours" in done.stderr
    with duckdb.connect(str(out)) as database:
        database.execute("drop table topics")
    assert run("--to", "duckdb", "--out", out).returncode == 0
    store.upsert("signals", signals("c"))
    with duckdb.connect(str(out)) as database:
        database.execute("drop table counts; create view counts as select 1")  # no table can take its name
    assert run("--to", "duckdb", "--out", out).returncode == 2
    with duckdb.connect(str(out)) as database:
        assert database.execute("select count(*) from signals").fetchone() == (2,)
        assert database.execute("from mine").fetchone() == (1,)


def test_a_new_database_that_failed_is_not_left_behind(store, tmp_path):
    with pytest.raises(RuntimeError):
        put(store, "duckdb", tmp_path / "out/new.duckdb", tell=_fail)
    assert list((tmp_path / "out").iterdir()) == []


def _fail(_):
    raise RuntimeError


# The command


def test_wrong_use_is_said(run, tmp_path):
    for arguments, words in (
        (["--to", "csv", "--out", tmp_path / "out", "--table", "signal"], "did you mean 'signals'"),
        (["--to", "csv"], "--out"),
        (["--to", "warehouse", "--destination", "postgrez"], "did you mean 'postgres'"),
        (["--to", "warehouse", "--credentials-env", "NOWHERE_SET"], "NOWHERE_SET is not set"),
        (["--to", "warehouse"], VARIABLE),
        (["--to", "warehouse", "--out", tmp_path / "out"], "--dataset"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
    (tmp_path / "none.yaml").write_text("store: nothing\n", "utf-8")
    done = called("export", "--to", "csv", "--out", tmp_path / "out", "-f", tmp_path / "none.yaml")
    assert "feedback aggregate" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_names_every_form():
    assert tuple(export.WRITERS) == TO


def test_without_the_extra_the_command_to_install_it_is_said(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlt", None)
    done = run("--to", "warehouse")
    assert done.returncode == 2
    assert 'pip install "feedback_lib[warehouse]"' in done.stderr


# Warehouse


@pytest.fixture(scope="module")
def postgres():
    with Postgres(PASSWORD) as server:
        yield server


@pytest.fixture
def dataset(postgres, monkeypatch, request):
    """A name for a dataset of its own; the server's address is where dlt looks."""
    monkeypatch.setenv(VARIABLE, postgres.url)
    return request.node.name[:40]


def ask(postgres, sql):
    import psycopg2

    connection = psycopg2.connect(postgres.url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def load(store, dataset, *tables, **target):
    return export.write(store, "warehouse", export.Target(dataset=dataset, **target), tables).rows


def test_every_table_comes_back_from_postgres(full, postgres, dataset):
    assert load(full, dataset, *TABLES) == dict.fromkeys(TABLES, 3)
    for table, spec in TABLES.items():
        names, order = (", ".join(f'"{c}"' for c in some) for some in (records.schema(table), spec.key))
        read = ask(postgres, f'select {names} from {dataset}."{table}" order by {order}')
        assert read == wanted(full, table).rows()


def test_only_what_changed_is_loaded_again(store, postgres, dataset, tmp_path):
    stored = f"select uid, title, xmin::text from {dataset}.signals order by uid"
    assert load(store, dataset, "signals", "topics") == {"signals": 2, "topics": 0}
    first = ask(postgres, stored)
    assert load(store, dataset, "signals", "topics") == {"signals": 0, "topics": 0}
    assert ask(postgres, stored) == first
    store.upsert("signals", signals("b", "c", title="new", updated_at=AT + dt.timedelta(1)))
    store.optimize()
    assert load(store, dataset, "signals") == {"signals": 2}
    second = ask(postgres, stored)
    assert [row[:2] for row in second] == [("a", "x"), ("b", "new"), ("c", "new")]
    assert second[0] == first[0]
    backup = shutil.copytree(store.path, tmp_path / "backup")
    store.upsert("signals", signals("d"))
    assert load(store, dataset, "signals") == {"signals": 1}
    shutil.rmtree(store.path)
    backup.rename(store.path)  # now nobody can say what was loaded
    assert load(store, dataset, "signals") == {"signals": 3}
    ask(postgres, f"drop schema {dataset} cascade")
    assert load(store, dataset, "signals") == {"signals": 3}


def test_what_is_private_no_more_is_loaded_with_what_hangs_on_it(store, postgres, dataset):
    store.upsert("signals", signals("c", type="workflow"))
    store.upsert("understanding", rows("understanding").head(1).with_columns(uid=pl.lit("c")))
    assert load(store, dataset, "signals", "understanding") == {"signals": 2, "understanding": 0}
    store.upsert("signals", signals("c", updated_at=AT + dt.timedelta(1)))
    assert load(store, dataset, "signals", "understanding") == {"signals": 1, "understanding": 1}


def test_what_a_failed_load_did_not_bring_comes_with_the_next(store, postgres, dataset):
    load(store, dataset, "signals")
    ask(postgres, f"alter table {dataset}.signals add constraint no_c check (uid <> 'c')")
    store.upsert("signals", signals("c", body="words of a person", updated_at=AT + dt.timedelta(1)))
    with pytest.raises(DeliveryError, match=r"violates check constraint .* then run again\.$") as told:
        load(store, dataset, "signals")
    assert "words" not in str(told.value)
    assert ask(postgres, f"select count(*) from {dataset}.signals") == [(2,)]
    ask(postgres, f"alter table {dataset}.signals drop constraint no_c")
    assert load(store, dataset, "signals") == {"signals": 1}
    assert ask(postgres, f"select count(*) from {dataset}.signals") == [(3,)]


def test_another_store_is_loaded_whole_beside_the_first(store, postgres, dataset, tmp_path):
    load(store, dataset, "signals")
    other = Store(tmp_path / "other")
    other.upsert("signals", signals("b", "c", title="other", labels=["x\0y"]))
    assert load(other, dataset, "signals") == {"signals": 2}
    assert load(store, dataset, "signals") == {"signals": 2}
    read = ask(postgres, f"select uid, title, labels from {dataset}.signals order by uid")
    assert read == [("a", "x", None), ("b", "x", None), ("c", "other", ["xy"])]


def test_a_load_tells_nobody_else_and_leaves_no_file_and_no_password(run, postgres, dataset, tmp_path, monkeypatch):
    told = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(self.path)
            self.send_response(204)
            self.end_headers()

    listener = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    work = tmp_path / "work"
    for name in ("home", "temporary", "here"):
        (work / name).mkdir(parents=True)
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY_ENDPOINT", f"http://127.0.0.1:{listener.server_port}/told")
    monkeypatch.setenv("HOME", str(work / "home"))
    monkeypatch.setenv("TMPDIR", str(work / "temporary"))
    monkeypatch.setenv("MY_WAREHOUSE", postgres.url)
    monkeypatch.delenv(VARIABLE)
    of_root = Path("/var/dlt/.anonymous_id")  # where dlt would keep it for root, whatever HOME is
    before = of_root.exists()
    arguments = ("export", "--to", "warehouse", "--dataset", dataset, "--credentials-env", "MY_WAREHOUSE")
    done = started("--verbose", *arguments, "-f", tmp_path / "run.yaml", cwd=work / "here")
    listener.shutdown()
    listener.server_close()
    assert done.returncode == 0, done.stderr
    assert f"Written: postgres, dataset {dataset}" in done.stdout
    assert told == []
    assert [path for path in work.rglob("*") if path.is_file()] == []
    assert of_root.exists() == before
    ask(postgres, "checkpoint")
    files = [postgres.log, *postgres.data.rglob("*"), *tmp_path.rglob("*")]
    held = [path for path in files if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert (held, PASSWORD in done.stdout + done.stderr) == ([], False)


def test_what_the_warehouse_refuses_is_one_sentence_without_a_secret(run, postgres, dataset, monkeypatch):
    ask(postgres, f"create role {dataset} login password 'pl4nted-too'")
    gone = "postgresql://loader:pl4nted-too@127.0.0.1:1/postgres"
    for address, words in (
        (postgres.url.replace(PASSWORD, "pl4nted-too"), "password authentication failed"),
        (gone, "Connection refused"),
        (postgres.url.replace("loader", dataset).replace(PASSWORD, "pl4nted-too"), "permission denied"),
        ("pl4nted-too and no address", "no usable credentials"),
    ):
        monkeypatch.setenv(VARIABLE, address)
        done = run("--to", "warehouse", "--table", "signals", "--dataset", dataset)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert VARIABLE in done.stderr
        assert len(done.stderr.splitlines()) <= 2  # the sentence, after what was read
        assert "pl4nted" not in done.stderr + done.stdout
