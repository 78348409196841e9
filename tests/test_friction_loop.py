"""Silent friction in the weekly run: what workflows ran into, beside what people say, from files to the page."""

import dataclasses
import datetime as dt
import json
import math
import shutil

import polars as pl
import pypdf
import pytest
import yaml
from commands import called

from feedback_lib import config, dashboard, export, pages, pipeline, privacy, records, sample
from feedback_lib.analysis import rates
from feedback_lib.errors import ConfigError

WEEK = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
SPOKEN = (
    "The visual test step is pointless for our CLI",
    "Why do I have to run a visual regression test on a command line tool without any UI?",
)
TOPIC = (  # enough people, over some weeks, to be a topic
    "Nobody reads the knowledge base, updating it after each task is a waste of time",
    "The knowledge base step at the end of each task asks me for the same thing twice",
    "I never know what to write into the knowledge base after a small task",
    "Updating the knowledge base takes longer than the task itself",
    "Please make updating the knowledge base optional at the end of a task",
    "After every task I have to update the knowledge base with nothing to say",
    "The update of the knowledge base is required even when nothing was learnt",
    "What is the knowledge base update for? We never look at it again",
)
ERROR = 'npm ERR! Error: Missing script: "typecheck"'
WORDS = "said by 2, hit by 41 of 45 workflows"
pytestmark = pytest.mark.slow


def line(native_id, at, title, body="", labels=(), **fields):
    return json.dumps(
        {"native_id": native_id, "created_at": at.isoformat(), "title": title, "body": body, "labels": list(labels)}
        | fields
    )


def planted():
    """45 workflows of the report week: 41 skip one step, 38 another, 3 meet an error; 4 of the week before."""
    for n in range(45):
        wf, at = f"wf_{n:08x}", WEEK + dt.timedelta(hours=3 * n)
        yield line(f"{wf}/workflow", at, f"Task {n}", labels=["workflow", "completed"])
        if n < 41:
            reason = "Not applicable: CLI tool with no visual UI" if n % 3 else "no frontend"
            labels = ["skipped", "VERIFY", "visual_regression_test"]
            yield line(f"{wf}/skip/visual_regression_test", at, "Skipped: visual regression test", reason, labels)
        if n >= 7:
            labels = ["skipped", "LEARN", "update_knowledge_base"]
            yield line(f"{wf}/skip/update_knowledge_base", at, "Skipped: update knowledge base", "", labels)
        if n < 3:
            yield line(f"{wf}/error/{n:012x}", at, ERROR, ERROR, ["error", "project", "EXECUTE", "all_tests_pass"])
    for n in range(4):
        at = WEEK - dt.timedelta(days=3)
        labels = ["skipped", "VERIFY", "visual_regression_test"]
        yield line(f"wf_b{n}/skip/visual_regression_test", at, "Skipped: visual regression test", "no UI", labels)


def customers(sources):
    """The sample without the team's own workflows and what it says of them."""
    return [s for s in sources if s.get("name") not in ("workflows", "retrospectives")]


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """A params file over the sample world, two people's words, and the log of a workflow tool."""
    home = tmp_path_factory.mktemp("friction")
    sample.generate(home / "data")
    said = [line(f"s{n}", WEEK + dt.timedelta(days=n), t, author=f"p{n}") for n, t in enumerate(SPOKEN)]
    for n, words in enumerate(TOPIC * 2):
        at = WEEK - dt.timedelta(weeks=max(0, n - 4) // 2)  # six people this week, two in each week before
        said.append(line(f"t{n}", at, words, "Again today." * (n // 8), author=f"q{n}"))
    (home / "spoken.jsonl").write_text("\n".join(said), "utf-8")
    (home / "log.jsonl").write_text("\n".join(planted()), "utf-8")
    base = dataclasses.asdict(pipeline.sample_config(home))
    sources = [
        *customers(base["sources"]),
        {"kind": "files", "path": str(home / "spoken.jsonl")},
        {"kind": "files", "path": str(home / "log.jsonl"), "type": "workflow"},
    ]
    kept = {k: base[k] for k in ("product", "synthetic", "store", "reports", "as_of")}
    file = home / "params" / "weekly.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(kept | {"sources": sources, "sinks": [], "notebooks": []}), "utf-8")
    return file


@pytest.fixture(scope="module")
def run(params):
    return pipeline.weekly(config.load(params))


@pytest.fixture(scope="module")
def store(params, run):
    return pipeline.Store(config.load(params).store)


def uids(origin, *native_ids):
    return [records.uid("files", origin, n) for n in native_ids]


def skips():
    return uids("log", *(f"wf_{n:08x}/skip/visual_regression_test" for n in range(41)))


def test_what_two_people_say_and_41_workflows_run_into_is_one_suggestion(params, run):
    told = json.loads(called("suggestions", "--json", "-f", params).stdout)
    (made,) = [s for s in told if WORDS in s["action"]]
    assert made["people"] == 2
    assert made["type"] == "process change"
    assert made["impact"] == pytest.approx(math.sqrt(rates.wilson(41, 45)[0]))  # more than two people's share
    assert set(made["evidence"]) == {*skips(), *uids("spoken", "s0", "s1")}
    assert "most often because “Not applicable: CLI tool with no visual UI”" in made["action"]


def test_a_topic_of_people_carries_what_workflows_run_into(params, run, store):
    """The topic is found by the run itself; its suggestion names people and workflows."""
    (row,) = store.read("friction").filter(pl.col("key") == "update_knowledge_base").to_dicts()
    assert row["topic_id"] is not None
    told = json.loads(called("suggestions", "--json", "-f", params).stdout)
    (made,) = [s for s in told if s["subject"] == f"topic:{row['topic_id']}"]
    assert "said by 6, hit by 38 of 45 workflows, which skipped “update knowledge base”." in made["action"]
    assert made["people"] == 6
    skipped = uids("log", *(f"wf_{n:08x}/skip/update_knowledge_base" for n in range(7, 45)))
    assert set(made["evidence"]) == {*skipped, *uids("spoken", *(f"t{n}" for n in range(6)))}


def test_what_nobody_says_is_a_suggestion_of_its_own(params, run):
    told = json.loads(called("suggestions", "--json", "-f", params).stdout)
    (made,) = [s for s in told if "typecheck" in s["action"]]
    assert "said by nobody, hit by 3 of 45 workflows" in made["action"]
    assert (made["people"], made["type"]) == (0, "bug fix")
    assert 0 < made["impact"] < 0.2  # few workflows
    assert set(made["evidence"]) == set(uids("log", *(f"wf_{n:08x}/error/{n:012x}" for n in range(3))))


def test_nothing_else_is_joined(run, store):
    """The sample speaks of flaky tests, of help pages and of many other things; none of it is about a step."""
    told = {r["key"]: set(r["said"]) for r in store.read("friction").iter_rows(named=True)}
    assert told.pop("visual_regression_test") == set(uids("spoken", "s0", "s1"))
    assert told.pop("update_knowledge_base") <= set(uids("spoken", *(f"t{n}" for n in range(16))))
    assert list(told.values()) == [set()]
    hit = [s["subject"] for s in run.report.to_dict()["suggestions"] if "hit by" in s["action"] + "".join(s["history"])]
    assert len(hit) == 3


def test_every_id_is_in_the_store_and_growth_can_be_seen(store):
    known = set(store.read("signals")["uid"])
    rows = {r["key"]: r for r in store.read("friction").iter_rows(named=True)}
    assert all({*r["said"], *r["evidence"]} <= known for r in rows.values())
    row = rows["visual_regression_test"]
    assert (row["workflows"], row["of"], row["phase"], row["telling"]) == (41, 45, "VERIFY", True)
    assert row["by_week"] == [0] * 7 + [4, 41]
    assert row["of_by_week"] == [0] * 7 + [4, 45]


def test_the_printed_report_shows_it_on_two_pages_and_counts_out_no_few_people(run):
    with (run.folder / "signal_report.pdf").open("rb") as file:
        sheets = [" ".join(page.extract_text().split()) for page in pypdf.PdfReader(file).pages]
    assert len(sheets) == 2
    assert "Silent friction" in sheets[1]
    assert "visual regression test VERIFY skipped <5 41 of 45" in sheets[1]
    assert "said by 2" not in sheets[1]
    page = pages.snapshot(run.report.to_dict())
    assert "Silent friction" in page
    assert "said by &lt;5, hit by 41 of 45 workflows" in page
    assert "said by 2" not in page
    shown = json.loads((run.folder / "suggestions.json").read_text("utf-8"))
    assert any(WORDS in s["action"] for s in shown)  # the analyst's file


def test_a_choice_shows_the_friction_that_its_people_speak_of(run, store):
    shown = run.report.to_dict()
    signals = dashboard.members(store, shown)
    chosen = dashboard.narrow(shown, signals, source="spoken")["silent"]
    assert [f["key"] for f in chosen] == ["visual_regression_test", "update_knowledge_base"]
    assert dashboard.narrow(shown, signals, source="support")["silent"] == []


def test_the_same_run_again_is_equal(params, run):
    tables = {r["table"]: r for r in pipeline.rerun(config.load(params), run.run_id)}
    assert tables["friction"]["rows"] == 3
    assert not [t for t in tables.values() if not t["equal"]]


def test_nothing_of_it_leaves_by_export(store, tmp_path):
    export.write(store, "csv", export.Target(out=tmp_path / "out"), (*export.DEFAULT, "runs"))
    for file in (tmp_path / "out").glob("*.csv"):
        text = file.read_text("utf-8")
        assert "visual_regression_test" not in text, file.name
        assert "hit by" not in text, file.name
        assert not [uid for uid in skips() if uid in text], file.name
    assert (tmp_path / "out/suggestions.csv").read_text("utf-8").count("\n") > 3
    with pytest.raises(ConfigError, match="--table friction: it is about one project's own work"):
        export.write(store, "csv", export.Target(out=tmp_path / "no"), ("friction",))


def test_the_title_names_workflows_and_counts_out_no_few_people(run):
    (title,) = [s["title"] for s in run.report.to_dict()["suggestions"] if s["subject"].startswith("skip:")]
    assert title == "Rethink the step “visual regression test”: hit by 41 of 45 workflows in week 46"
    privacy.assert_anonymous(pipeline.reports.summary_text(run.report), "summary")


@pytest.mark.thorough  # analysis/test_friction.py shows that nothing is found
def test_without_workflows_there_is_neither_table_nor_section(tmp_path):
    sample.generate(tmp_path / "data")
    cfg = pipeline.sample_config(tmp_path)
    cfg = dataclasses.replace(cfg, sources=tuple(customers(cfg.sources)))
    shown = pipeline.aggregate(cfg).report.to_dict()
    assert "silent" not in shown
    assert pipeline.Store(cfg.store).version("friction") is None
    assert "Silent friction" not in pages.snapshot(shown)


def test_the_sample_shows_what_its_key_says(cache):
    """A step that three say became too long, skipped by all workflows of the week; planning takes longer."""
    planted = sample.expected(pipeline.sample_folder())["silent_friction"]
    shown = pipeline.reports.open_report(pipeline.sample_store()).to_dict()
    told = {f["key"]: f for f in shown["silent"]}
    spoken = told[planted["step"]]
    assert shown["silent"][0] == spoken
    assert (spoken["workflows"], spoken["of"], spoken["people"]) == (5, 5, 3)
    assert set(spoken["said"]) == set(uids("retrospectives", *planted["said_by"]))
    assert [f["people"] for f in shown["silent"]] == [3] + [0] * (len(told) - 1)
    assert told["PLAN"]["growth"].startswith("15 min → 32 min, ×2.2 (")
    (made,) = [s for s in shown["suggestions"] if s["subject"] == f"skip:{planted['step']}"]
    assert "said by 3, hit by 5 of 5 workflows, which skipped “risk analysis”" in made["action"]
    assert made["people"] == 3


def test_wrong_thresholds_are_refused_before_anything_is_read(params):
    with pytest.raises(ConfigError, match=r"workflows.*unknown key 'skip_shar'"):
        pipeline.aggregate(config.load(params, ["workflows.skip_shar=0.5"]))


@pytest.mark.thorough  # analysis/test_friction.py shows that ids have their week
def test_frictions_of_the_week_before_keep_their_rows(params, run, store):
    """A look back writes its own week's rows beside those of this week."""
    before = store.read("friction")
    pipeline.aggregate(config.load(params), as_of=WEEK)
    after = pipeline.Store(store.path).read("friction")
    assert after.filter(pl.col("week") == WEEK.date()).equals(before)
    earlier = after.filter(pl.col("week") < WEEK.date())
    assert earlier.select("key", "workflows", "of").rows() == [("visual_regression_test", 4, 4)]


# The real log


def test_the_real_log_shows_its_skipped_steps_and_its_npm_error(reference, tmp_path):
    log = reference / "orchestrator" / "workflow_log_union.jsonl"
    if not log.is_file():
        pytest.skip(f"no {log}")
    (tmp_path / "work").mkdir()
    shutil.copyfile(log, tmp_path / "work" / ".workflow_log.jsonl")
    sources = ({"kind": "workflow_log", "path": str(tmp_path / "work")},)
    as_of = dt.datetime(2026, 1, 12, tzinfo=dt.UTC)
    cfg = config.Config(store=str(tmp_path / "store"), as_of=as_of, sources=sources, sinks=())
    shown = pipeline.aggregate(cfg).report.to_dict()
    told = {f["key"]: f for f in shown["silent"]}
    skipped = {k: (f["workflows"], f["of"], f["people"]) for k, f in told.items() if f["kind"] == "skip"}
    steps = {"visual_regression_test", "update_knowledge_base", "refactoring_assessment"}
    assert skipped == dict.fromkeys(steps, (8, 10, 0))
    assert [f["name"] for f in told.values() if "npm" in f["name"].casefold()]
    assert {s["subject"] for s in shown["suggestions"]} >= {f"skip:{step}" for step in steps}
