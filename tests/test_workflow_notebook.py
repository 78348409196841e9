import ast
import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest

from feedback_lib import pages, runner
from feedback_lib.errors import ConfigError
from feedback_lib.workflows import sample, shown

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "notebooks" / "workflow_review.ipynb"
REAL = Path(os.environ.get("FEEDBACK_REFERENCE_DATA", ROOT / "../shared/reference")) / "orchestrator"


def run_through(folder):
    """Every cell, and every output as text; nothing here needs a kernel."""
    cells = [c.source for c in nbformat.read(BOOK, as_version=4).cells if c.cell_type == "code"]
    known = {}
    exec(cells[0], known)
    known["folder"] = str(folder)
    said = []
    for source in cells[1:]:
        *before, last = ast.parse(source).body
        exec(compile(ast.Module(before, []), "workflow_review", "exec"), known)
        value = eval(compile(ast.Expression(last.value), "workflow_review", "eval"), known)
        said.append(value if isinstance(value, str) else value.alt)
    return "\n".join(said[1:]), known["view"]


def test_it_runs_anywhere_on_the_sample_and_its_page_stands_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    done = tmp_path / "workflow_review.ipynb"
    runner.run_notebook(BOOK, {}, done, timeout_s=300)
    text = pages.export_html(done, done.with_suffix(".html")).read_text("utf-8")
    assert len(text.encode()) <= 150_000
    assert "<script" not in text
    assert "shown.open" not in text
    assert text.count("<figure>") == 4
    assert "Synthetic" in text
    assert "PLAN takes longer than before" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["workflow_review.html", "workflow_review.ipynb"]


def test_a_sentence_says_what_was_planted():
    said, view = run_through("")
    assert "3 items skipped in 80% of the workflows or more; PLAN takes longer than before; 2 errors came back." in said
    assert "18 workflows in the bundled sample, 18 Sep 2026 to 13 Nov 2026" in said
    assert "16 completed, 1 abandoned, 1 not ended" in said
    assert view.rejected == ()


def test_the_sample_is_the_same_every_time_and_small(tmp_path):
    first, second = ({p.name: p.read_bytes() for p in sample.write(tmp_path / n).iterdir()} for n in "ab")
    assert first == second
    assert set(first) == {".workflow_log.jsonl", ".workflow_tool_feedback.jsonl"}
    assert sum(map(len, first.values())) < 200_000
    assert b"invented" in first[".workflow_log.jsonl"]


@pytest.mark.skipif(not REAL.is_dir(), reason="reference data not found")
def test_a_real_log_shows_the_three_items_that_nearly_all_skip(tmp_path):
    shutil.copyfile(REAL / "workflow_log_union.jsonl", tmp_path / ".workflow_log.jsonl")
    said, view = run_through(tmp_path)
    assert "3 items skipped in 80% of the workflows or more" in said
    for item in ("refactoring_assessment", "visual_regression_test", "update_knowledge_base"):
        assert f"{item} in 8 of 10" in said
    assert "Synthetic" not in said
    assert "Run: feedback capture" in said  # versions are known of captured entries only
    assert "/home/" not in said
    assert view.workflows.height == 10


def test_a_folder_without_workflows_says_so_everywhere(tmp_path):
    said, _ = run_through(tmp_path)
    assert f"No workflow in {tmp_path}" in said
    for words in ("No workflow was found.", "No workflow completed a phase.", "No workflow ran into an error."):
        assert words in said
    assert list(tmp_path.iterdir()) == []


def test_of_many_workflows_the_page_says_which_are_drawn(tmp_path):
    """Sixty are drawn, whatever their number; the sixty-first is told."""
    row = {"event_type": "item_skipped", "phase_id": "PLAN", "item_id": "smoke", "details": {}}
    for many, told in ((60, False), (61, True)):
        rows = [row | {"workflow_id": f"wf_{n}", "timestamp": f"2026-03-02T09:00:{n % 60:02d}Z"} for n in range(many)]
        (tmp_path / ".workflow_log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
        said, _ = run_through(tmp_path)
        assert ("The pictures draw the newest 60; numbers are of all." in said) is told
        assert f"smoke in {many} of {many}" in said


def test_a_folder_that_is_none_is_said(tmp_path):
    with pytest.raises(ConfigError, match="is no folder; name the one"):
        shown.open(tmp_path / "none")


def test_lines_that_cannot_be_read_are_told_and_the_others_shown(tmp_path):
    sample.write(tmp_path)
    log = tmp_path / ".workflow_log.jsonl"
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes().replace(b"\n", b"\r\n") + b"<b>no\r\n\xff\n")
    (tmp_path / ".workflow_tool_feedback.jsonl").write_text('{"timestamp": 7}\n', "utf-8")
    said, view = run_through(tmp_path)
    assert view.workflows.height == sample.COUNT
    assert len(view.rejected) == 3
    assert ".workflow_log.jsonl:" in said
    assert ".workflow_tool_feedback.jsonl:1" in said


def test_looking_makes_no_secret_and_changes_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    folder = sample.write(tmp_path / "project")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    run_through(folder)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before
    assert not (tmp_path / "config").exists()


def test_what_people_wrote_is_shown_as_text_and_without_secrets(tmp_path):
    folder = sample.write(tmp_path)
    log = folder / ".workflow_log.jsonl"
    token = "ghp_" + "a1B2c3D4" * 4 + "e5F6"
    log.write_text(log.read_text("utf-8").replace("The suite covers it", f"<img src=x> {token}"), "utf-8")
    said, _ = run_through(folder)
    assert "<img" not in said
    assert "&lt;img src=x&gt;" in said
    assert token not in said


def test_a_part_that_is_none_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean.*reasons"):
        shown.html("reason", shown.open())
