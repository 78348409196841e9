import ast
import json
import re
from pathlib import Path

import fake_world as world
import jupytext
import nbformat
import pytest

from feedback_lib import pages, records, report, runner, suggest
from feedback_lib.analysis import trends
from feedback_lib.store import Store

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
REPORTS = ("weekly_trends", "suggestions", "signal_report")


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4), request.param


def code(book):
    return [c for c in book.cells if c.cell_type == "code"]


def test_all_the_notebooks_are_there():
    assert {p.stem for p in NOTEBOOKS} >= {
        *REPORTS,
        "capture",
        "explore",
        "feedback",
        "label",
        "slo_report",
        "whats_new",
        "workflow_review",
    }


def test_a_notebook_begins_with_its_title_and_one_parameters_cell(notebook):
    book, _ = notebook
    assert book.cells[0].cell_type == "markdown"
    assert book.cells[0].source.startswith("# ")
    assert book.metadata.title
    tagged = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [code(book)[0]]


def test_parameters_have_defaults_that_need_nothing_from_outside(notebook):
    _, path = notebook
    given = runner.parameters(path)
    own = {"slo_report": ("root", "as_of"), "workflow_review": ("folder",), "capture": ("folder",)}
    wanted = own.get(path.stem, ("store", "run_id"))
    assert {given[name].default for name in wanted} == {""}


def test_a_notebook_is_committed_without_outputs(notebook):
    book, _ = notebook
    assert [c.id for c in code(book) if c.outputs or c.execution_count is not None] == []


def test_a_notebook_defines_nothing_and_loops_over_nothing(notebook):
    """What needs a function is a function of the package, with a test."""
    book, _ = notebook
    refused = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try)
    found = [type(n).__name__ for c in code(book) for n in ast.walk(ast.parse(c.source)) if isinstance(n, refused)]
    assert found == []
    assert max(len(c.source.splitlines()) for c in code(book)) <= 15


def test_every_result_stands_under_a_sentence_or_heading(notebook):
    """No more than three code cells follow each other without words, the set-up left out."""
    book, _ = notebook
    kinds = "".join("c" if c.cell_type == "code" else " " for c in book.cells[3:])
    assert max(len(run) for run in kinds.split()) <= 3


def test_a_notebook_and_its_script_say_the_same(notebook):
    book, path = notebook
    assert book.metadata.jupytext.formats == "ipynb,py:percent"
    script = jupytext.read(path.with_suffix(".py"))

    def cells(one):
        return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in one.cells]

    assert cells(script) == cells(book)


@pytest.fixture(scope="module")
def first_week(tmp_path_factory):
    """A store with the first report of a new user: one week of data."""
    frame = world.understood({topic: [count] for topic, count in ((1, 9), (2, 6), (3, 7), (5, 4))})
    names, stamp = world.topics(frame), {"run_id": "8f3c21d0", "as_of": world.AS_OF}
    told = trends.analyse(frame, world.WEEK, names, **stamp)
    findings = records.frame("findings", told.findings)
    made = report.build(
        understood=frame,
        topics=names,
        told=told,
        suggestions=suggest.merge(suggest.draft(findings, frame, names, world.WEEK, **stamp), []),
        sources=[],
        quality={"languages": [], "unread": 0, "no_topic_ratio": 0.0, "duplicates": 0, "models": {}}
        | {"classifier": [], "abstained_ratio": 0.0},
        week=world.WEEK,
        product="Harbour",
        **stamp,
    )
    assert made.frictions[0]["baseline_people"] is None
    row = dict.fromkeys(records.schema("runs"), "{}") | {"run_id": made.run_id, "recipe": "weekly", "status": "ok"}
    row |= {"seconds": 1.0, "report": json.dumps(made.to_dict())}
    row |= dict.fromkeys(("as_of", "started_at", "updated_at"), world.AS_OF)
    store = Store(tmp_path_factory.mktemp("first") / "store")
    store.upsert("runs", records.frame("runs", [row]))
    return store


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_of_a_first_week_runs_through(name, first_week):
    """Every cell, and every output as text; nothing here needs a kernel."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    known = {}
    cells = [c.source for c in code(book)]
    exec(cells[0], known)
    known |= {"store": str(first_week.path)}
    shown = []
    for source in cells[1:]:
        *before, last = ast.parse(source).body
        exec(compile(ast.Module(before, []), name, "exec"), known)
        shown.append(eval(compile(ast.Expression(last.value), name, "eval"), known))
    said = " ".join(s if isinstance(s, str) else s.alt for s in shown)
    assert "no earlier week has data" in said
    assert "usually" not in said
    assert pages.pdf(known["report"]).startswith(b"%PDF")
    assert "usually" not in pages.snapshot(known["report"])


# tests/test_pipeline.py looks at the same pages of the weekly run, in the report's folder
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.thorough] * (n != "signal_report")) for n in REPORTS]
)
def test_a_report_runs_anywhere_and_its_page_is_small_and_stands_alone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tmp_path / f"{name}.ipynb"
    runner.run_notebook(ROOT / "notebooks" / f"{name}.ipynb", {}, done, timeout_s=300)
    text = pages.export_html(done, done.with_suffix(".html")).read_text("utf-8")
    assert len(text.encode()) <= 150_000
    assert "<script" not in text
    assert "could not be computed" not in text
    assert "open_report" not in text
    assert text.count("<figure>") == {"weekly_trends": 3, "suggestions": 0, "signal_report": 2}[name]


@pytest.mark.slow
@pytest.mark.thorough  # test_review.py shows its parts
def test_the_slo_report_of_the_sample_runs_anywhere_and_its_page_is_small_and_stands_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tmp_path / "slo_report.ipynb"
    runner.run_notebook(ROOT / "notebooks" / "slo_report.ipynb", {}, done, timeout_s=300)
    text = pages.export_html(done, done.with_suffix(".html")).read_text("utf-8")
    assert len(text.encode()) <= 150_000
    assert "<script" not in text
    assert "could not be computed" not in text
    assert "review.open" not in text
    assert text.count('<figure class="slo">') == 3
    assert set(re.findall(r'(?:src|href)="(https?://[^"/]+)', text)) == {"https://runbooks.beacon.example"}
