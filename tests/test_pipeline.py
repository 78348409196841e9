"""The weekly run on the sample world, as an owner of a scheduled job meets it."""

import dataclasses
import datetime as dt
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from feedback_lib import config, pipeline, records, sample, suggest
from feedback_lib.errors import ConfigError, NotebookError

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The sample and a params file like params/weekly.yaml, in a folder of their own."""
    home = tmp_path_factory.mktemp("world")
    key = sample.generate(home / "data" / "sample")
    shutil.copytree(ROOT / "params", home / "params")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    return home, key


@pytest.fixture(scope="module")
def params(world):
    return config.load(world[0] / "params" / "weekly.yaml", ["sinks=[{kind: file, folder: ../outbox}]"])


@pytest.fixture(scope="module")
def week_before(world):
    """A store after the run of the week before, and its report; to be copied."""
    store = world[0] / "store-of-the-week-before"
    cfg = config.load(world[0] / "params" / "weekly.yaml", [f"store={store}", "sinks=[]"])
    return store, pipeline.aggregate(cfg, as_of=dt.datetime(2026, 11, 9, tzinfo=dt.UTC)).report.to_dict()


@pytest.fixture(scope="module")
def weekly(world, week_before, params):
    """The run of the second week; tests/test_readme.py makes the first run of a store the weekly one."""
    shutil.copytree(week_before[0], params.store)
    run = pipeline.weekly(params)
    shutil.copytree(params.store, world[0] / "store-after-weekly")  # as nobody else changes it
    return run


@pytest.fixture
def after_weekly(world, weekly, tmp_path):
    """The params with a store of this test's own, as the weekly run left it."""
    shutil.copytree(world[0] / "store-after-weekly", tmp_path / "store")
    return config.load(world[0] / "params" / "weekly.yaml", [f"store={tmp_path}/store", "sinks=[]"])


@pytest.fixture
def after_week_before(world, week_before, tmp_path):
    """The params with a store of this test's own, as the run of the week before left it."""
    shutil.copytree(week_before[0], tmp_path / "store")
    return config.load(world[0] / "params" / "weekly.yaml", [f"store={tmp_path}/store", "sinks=[]"])


@pytest.fixture(scope="module")
def shown(weekly):
    return json.loads((weekly.folder / "summary.json").read_text("utf-8"))


def story(world, name):
    return next(s for s in world[1]["stories"] if s["id"] == name)


def uids(story):
    """Our ids of a story's signals; the key tells them apart by source name."""
    return {
        records.uid("mbox" if origin == "mail" else "files", origin, native_id)
        for origin, ids in story["native_ids"].items()
        for native_id in ids
    }


def rows_about(rows, story):
    """Rows that are mostly about a planted story: at least half of their evidence belongs to it."""
    own = uids(story)
    return [r for r in rows if r["evidence"] and len(own & set(r["evidence"])) >= len(r["evidence"]) / 2]


def test_everything_of_the_run_stands_in_one_folder(weekly):
    assert weekly.status == "ok"
    names = {p.name for p in weekly.folder.iterdir()}
    notebooks = {f"{n}.{s}" for n in ("weekly_trends", "suggestions", "signal_report") for s in ("ipynb", "html")}
    assert notebooks | {"signal_report.pdf", "summary.json", "suggestions.json", "run.json"} == names


@pytest.mark.parametrize(("name", "figures"), [("weekly_trends", 3), ("suggestions", 0), ("signal_report", 2)])
def test_a_page_is_small_and_opens_without_a_network(weekly, name, figures):
    text = (weekly.folder / f"{name}.html").read_text("utf-8")
    assert "<script" not in text
    assert 'src="http' not in text
    assert len(text.encode()) <= 150_000
    assert "could not be computed" not in text
    assert "open_report" not in text
    assert text.count("<figure>") == figures


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("search-slow-4-2", {"growing", "new", "regression"}),
        ("webhook-docs", {"growing", "new"}),
        ("sso-logout-loop", {"new"}),
    ],
)
def test_planted_growth_is_found(world, shown, name, kinds):
    found = rows_about(shown["findings"], story(world, name))
    assert kinds & {f["kind"] for f in found}, [(f["kind"], f["name"]) for f in shown["findings"]]


def test_the_recurring_traceback_is_found(world, shown):
    assert rows_about(shown["recurring"], story(world, "upload-keyerror"))


def test_the_loved_feature_is_a_delight(world, shown):
    assert rows_about(shown["delights"], story(world, "instant-rollback"))


def test_the_stories_lead_the_suggestions_with_the_right_type(world, shown):
    for name in ("search-slow-4-2", "webhook-docs", "upload-keyerror", "sso-logout-loop"):
        about = rows_about(shown["suggestions"], story(world, name))
        assert story(world, name)["suggestion_type"] in {s["type"] for s in about}, name


def test_topics_outside_the_stories_raise_no_more_than_one_alarm(world, shown):
    told = {u for s in world[1]["stories"] for u in uids(s)}
    strangers = [
        f for f in shown["findings"]
        if f["subject_type"] == "topic" and f["kind"] in suggest.MOVING and not told & set(f["evidence"])
    ]  # fmt: skip
    assert len(strangers) <= 1, [f["name"] for f in strangers]


def test_every_finding_leads_to_signals_in_the_store(weekly, params):
    known = set(pipeline.Store(params.store).read("signals")["uid"])
    shown = weekly.report.to_dict()
    for row in shown["findings"] + shown["suggestions"] + shown["frictions"]:
        assert row["evidence"]
        assert set(row["evidence"]) <= known


def test_no_planted_secret_is_in_any_byte_written(world, weekly):
    planted = [p["value"] if isinstance(p, dict) else p for p in world[1]["planted_secrets"]]
    assert len(planted) > 20
    written = [
        p for folder in ("data/store", "reports", "outbox") for p in (world[0] / folder).rglob("*") if p.is_file()
    ]
    texts = [p.read_bytes() for p in written]
    store = pipeline.Store(world[0] / "data" / "store")
    texts.extend(store.read(table).write_ndjson().encode() for table in records.TABLES)
    for secret in planted:
        for text in texts:
            assert secret.encode() not in text, secret


def test_the_same_week_a_day_later_makes_no_second_suggestion_and_no_second_message(world, params, weekly):
    before = pipeline.Store(params.store).read("suggestions")
    outbox = sorted((world[0] / "outbox").iterdir())
    again = pipeline.aggregate(params, as_of=params.as_of + dt.timedelta(days=1))
    after = pipeline.Store(params.store).read("suggestions")
    assert after["suggestion_id"].sort().equals(before["suggestion_id"].sort())
    assert after.sort("suggestion_id")["history"].equals(before.sort("suggestion_id")["history"])
    assert sorted((world[0] / "outbox").iterdir()) == outbox
    assert sum(s["new"] for s in again.report.to_dict()["sources"]) == 0


def test_a_rerun_gives_equal_tables(params, weekly):
    rows = pipeline.rerun(params, weekly.run_id)
    tables = {"understanding", "topics", "findings", "friction", "counts", "suggestions", "report"}
    assert {r["table"] for r in rows} == tables
    assert [r for r in rows if not r["equal"]] == []


def test_the_next_week_updates_the_same_suggestions(world, week_before, weekly):
    mine = rows_about(week_before[1]["suggestions"], story(world, "upload-keyerror"))
    later = {s["suggestion_id"]: s for s in weekly.report.to_dict()["suggestions"]}
    assert mine
    assert later[mine[0]["suggestion_id"]]["history"][: len(mine[0]["history"])] == mine[0]["history"]
    assert len(later[mine[0]["suggestion_id"]]["history"]) == len(mine[0]["history"]) + 1


@pytest.fixture
def tiny(tmp_path, params):
    """Params that read one or two signals of each of two sources, with a store and reports of this test's own."""
    for name in ("support", "chat"):
        row = '{"native_id": "%d", "created_at": "2026-11-10", "title": "a"}\n'
        (tmp_path / f"{name}.jsonl").write_text(row % 1 + row % 2, "utf-8")
    sources = [{"kind": "files", "path": str(tmp_path / f"{name}.jsonl"), "name": name} for name in ("support", "chat")]
    return dataclasses.replace(
        params, sources=sources, specs="", sinks=[], store=str(tmp_path / "store"), reports=str(tmp_path / "reports")
    )


def test_one_broken_source_is_named_and_its_watermark_stays(tiny, tmp_path):
    before = {s["name"]: s["watermark"] for s in pipeline.aggregate(tiny).report.to_dict()["sources"]}
    assert before["files:support"]
    (tmp_path / "support.jsonl").unlink()
    run = pipeline.aggregate(tiny)
    shown = run.report.to_dict()
    failed = [s for s in shown["sources"] if s["status"] == "failed"]
    assert run.status == "degraded"
    assert [s["name"] for s in failed] == ["files:support"]
    assert failed[0]["watermark"] == before["files:support"]
    assert "support" in shown["verdict"]


def test_a_failed_notebook_keeps_the_previous_report(world, weekly, params, tiny):
    before = {p.name: p.read_bytes() for p in weekly.folder.iterdir()}
    broken = world[0] / "broken"
    shutil.copytree(world[0] / "notebooks", broken)
    for name, source in (("weekly_trends", "1"), ("suggestions", "1 / 0")):  # the first is made, the second fails
        page = json.loads((broken / f"{name}.ipynb").read_text("utf-8"))
        parameters = next(cell for cell in page["cells"] if "parameters" in cell["metadata"].get("tags", ()))
        failing = {"cell_type": "code", "id": "x", "metadata": {}, "outputs": [], "execution_count": None}
        page["cells"] = [parameters, failing | {"source": source}]
        (broken / f"{name}.ipynb").write_text(json.dumps(page), "utf-8")
    with pytest.raises(NotebookError, match="ZeroDivisionError") as failure:
        pipeline.weekly(dataclasses.replace(tiny, notebook_folder=str(broken), reports=params.reports))
    assert Path(failure.value.notebook).exists()
    assert {p.name: p.read_bytes() for p in weekly.folder.iterdir()} == before


def test_a_notebook_that_is_not_there_is_told_before_anything_is_read(params, tmp_path):
    told = r"notebooks: \S+ has no weekly_trends.ipynb. Name the .* notebooks in notebook_folder"
    with pytest.raises(ConfigError, match=told):
        pipeline.weekly(dataclasses.replace(params, notebook_folder=str(tmp_path), store=str(tmp_path / "store")))
    assert not (tmp_path / "store").exists()


@pytest.mark.thorough  # of speed
def test_items_load_at_a_hundred_thousand_a_minute(tmp_path):
    """An eighth of them, in an eighth of the minute; a hundred thousand may take 2 GB."""
    path = tmp_path / "big.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for i in range(12_500):
            at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=i * 32)
            row = {
                "id": i,
                "at": at.isoformat(),
                "who": f"person{i % 7000}@example.com",
                "text": f"Upload {i} fails, mail me at a{i}@b.io",
            }
            out.write(json.dumps(row) + "\n")
    code = f"""
import datetime as dt, re, time
from feedback_lib import ingest, plugins
from feedback_lib.store import Store
columns = {{"native_id": "id", "created_at": "at", "author": "who", "body": "text"}}
source = plugins.build("sources", {{"kind": "files", "path": {str(path)!r}, "columns": columns}})
store = Store({str(tmp_path / "store")!r})
now = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
for _ in range(2):
    started = time.perf_counter()
    [r] = ingest.gather([("files", source)], store, since=None, until=now, fetched_at=now, run_id="x")
    print(r.read, r.new, r.updated, time.perf_counter() - started)
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e6)
"""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    first, second, peak_gb = done.stdout.splitlines()
    assert first.split()[:3] == ["12500", "12500", "0"]
    assert second.split()[:3] == ["12500", "0", "0"]
    assert float(first.split()[3]) <= 7.5
    assert float(peak_gb) <= 0.4


def test_the_params_file_reads_what_the_sample_writes():
    entries = config.load(ROOT / "params" / "weekly.yaml").sources
    assert list(entries) == sample.sources(ROOT / "data" / "sample")


def test_tables_name_the_run_that_made_each_row(params, weekly):
    store = pipeline.Store(params.store)
    known = set(store.read("runs")["run_id"])
    for table in ("findings", "topics", "suggestions", "understanding"):
        assert set(store.read(table).select(pl.col("run_id").unique())["run_id"]) <= known, table


def test_a_run_that_looks_back_changes_nothing_of_the_newer_one_and_can_be_run_again(world, after_weekly):
    """It looks at the first of the quiet weeks, so its report says that nothing happened."""
    cfg, store = after_weekly, pipeline.Store(after_weekly.store)
    before = {t: store.version(t) for t in ("understanding", "topics", "suggestions")}
    week = dt.date.fromisoformat(story(world, "quiet-week")["first_week"])
    older = pipeline.aggregate(cfg, as_of=dt.datetime.combine(week + dt.timedelta(days=7), dt.time(), dt.UTC))
    assert {t: store.version(t) for t in before} == before
    shown = older.report.to_dict()
    assert shown["week"]["start"] == str(week) == "2026-10-12"
    assert shown["quiet"]["nothing_happened"]
    assert not [f for f in shown["findings"] if f["kind"] in ("new", "growing")]
    assert shown["quiet"]["tested"] > 10
    assert [r for r in pipeline.rerun(cfg, older.run_id) if not r["equal"]] == []


def test_a_source_left_out_of_a_run_is_named_and_makes_no_fall(after_week_before):
    shown = pipeline.aggregate(after_week_before, only="reviews").report.to_dict()
    by_name = {s["name"]: s["status"] for s in shown["sources"]}
    assert by_name["files:reviews"] == "ok"
    assert by_name["files:support"] == "not_read"
    assert not [f for f in shown["findings"] if f["kind"] == "falling"]
    heard = next(n for n in shown["numbers"] if n["label"] == "people heard")
    assert heard["value"] is None or heard["ratio"] is None or heard["ratio"] > 0.4
    assert shown["quality"]["revised"] is None, "what a source that was not read said is no revision"


def test_a_repaired_line_leaves_the_quarantine(tmp_path):
    path = tmp_path / "box.jsonl"
    good = '{"native_id": "1", "created_at": "2026-11-10", "title": "a"}\n'
    path.write_text(good + "{broken\n", "utf-8")
    (tmp_path / "run.yaml").write_text(
        "store: store\nas_of: 2026-11-16\nsinks: []\nsources: [{kind: files, path: box.jsonl}]\n", "utf-8"
    )
    cfg = config.load(tmp_path / "run.yaml")
    assert pipeline.aggregate(cfg).report.to_dict()["quality"]["quarantined"] == 1
    assert len(pipeline.quarantine(cfg)) == 1
    path.write_text(good + good.replace('"1"', '"2"'), "utf-8")
    assert pipeline.aggregate(cfg).report.to_dict()["quality"]["quarantined"] == 0
    assert pipeline.quarantine(cfg) == []


def test_a_report_that_is_passed_on_names_no_folder_of_this_machine(world, weekly):
    for path in weekly.folder.iterdir():
        assert str(world[0]).encode() not in path.read_bytes(), path.name


def test_a_window_too_short_for_trends_is_refused(params):
    with pytest.raises(ConfigError, match="at least 22 weeks"):
        pipeline.plan(dataclasses.replace(params, window_weeks=12))
