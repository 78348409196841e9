"""The commands as a user meets them: messages and exit codes, in processes of their own where it matters."""

import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import PROGRAMS, called, started


@pytest.fixture
def folder(tmp_path):
    return export(tmp_path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which the small export has been aggregated once, and what that printed."""
    home = export(tmp_path_factory.mktemp("ran"))
    return home, called("aggregate", "--run-once", "-f", "run.yaml", "--json", cwd=home)


def export(tmp_path):
    """A small export with one broken line, and a params file that reads it."""
    rows = [
        {
            "id": str(i),
            "at": f"2026-03-{2 + i:02}T09:00:00Z",
            "who": f"p{i}@example.com",
            "text": f"Search is slow, {i}",
        }
        for i in range(5)
    ]
    lines = [json.dumps(r) for r in rows] + ["{not json"]
    (tmp_path / "box.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "run.yaml").write_text(
        "store: store\nreports: reports\nas_of: 2026-03-09\nsources:\n"
        "- kind: files\n  path: box.jsonl\n"
        "  columns: {native_id: id, created_at: at, author: who, body: text}\n",
        "utf-8",
    )
    return tmp_path


def test_help_imports_neither_polars_nor_any_model_code():
    code = (
        "import sys; from feedback_lib import cli\n"
        "try: cli.feedback.main(['--help'], standalone_mode=True)\n"
        "except SystemExit: pass\n"
        "heavy = {'polars', 'numpy', 'altair', 'bertopic', 'onnxruntime', 'deltalake', 'sklearn', 'papermill'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


INTERRUPTED = """
import os, signal, sys

class Ctrl_C:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Ctrl_C())
from feedback_lib import start
start.feedback()
"""


@pytest.mark.parametrize("imported", ["click", "feedback_lib.commands.review"])
def test_ctrl_c_while_the_program_is_imported_is_a_sentence(imported):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, imported], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: Stopped before anything was done.\n"


def test_every_program_starts_where_ctrl_c_is_waited_for():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["scripts"]) == set(PROGRAMS)
    for name, target in project["scripts"].items():
        module, _, function = target.partition(":")
        assert module == "feedback_lib.start", name
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_says_its_own_name_and_version(program):
    done = started("--version", program=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{program}, version 0.")


def test_a_notebook_that_is_not_there_leaves_no_folder(tmp_path):
    done = called("run", "missing.ipynb", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "Error: missing.ipynb: no such notebook\n")
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_help_and_is_documented():
    from feedback_lib.cli import feedback as group

    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text("utf-8")

    def walk(command, name):
        for key, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, f"{name} {key}")
        yield name, command

    for name, command in walk(group, "feedback"):
        assert command.help, name
        assert f"## {name}\n" in page, f"run make docs: {name} is not in docs/cli.md"


def test_plugins_as_json_lists_the_three_families():
    shown = json.loads(called("plugins", "--json").stdout)
    assert set(shown) == {"sources", "metrics", "sinks"}
    assert {"files", "mbox", "post_mortems", "spec_reports"} <= set(shown["sources"])
    assert {"file", "stdout"} <= set(shown["sinks"])


def test_a_missing_params_file_is_a_message_and_exit_code_2(tmp_path):
    done = started("aggregate", "--run-once", "--params", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_option_of_a_source_is_refused_before_anything_is_read(folder):
    text = (folder / "run.yaml").read_text("utf-8").replace("path: box", "pth: box")
    (folder / "run.yaml").write_text(text, "utf-8")
    done = called("aggregate", "--run-once", "-f", "run.yaml", cwd=folder)
    assert done.returncode == 2
    assert "unknown option 'pth'; did you mean 'path'?" in done.stderr
    assert not (folder / "store").exists()


def test_since_after_as_of_is_refused(folder):
    done = called("aggregate", "--run-once", "-f", "run.yaml", "--since", "2026-04-01", cwd=folder)
    assert done.returncode == 2
    assert "since 2026-04-01 is not before as_of 2026-03-09" in done.stderr


def test_an_unknown_source_name_is_refused_with_the_nearest(folder):
    done = called("aggregate", "--run-once", "-f", "run.yaml", "--source", "file", cwd=folder)
    assert done.returncode == 2
    assert "did you mean 'files'?" in done.stderr


def test_a_small_export_gives_a_report_and_a_quarantined_line(ran):
    folder, done = ran
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["feedback_items_processed"] == 5
    assert shown["workflow"] == "smartspec_feedback_aggregator"
    bad = json.loads(called("quarantine", "-f", "run.yaml", "--json", cwd=folder).stdout)
    assert [Path(b["where"]).name for b in bad] == ["box.jsonl:6"]


def test_a_broken_source_is_exit_code_1_and_the_others_load(folder):
    with (folder / "run.yaml").open("a", encoding="utf-8") as params:
        params.write("- kind: files\n  path: gone.jsonl\n  columns: {native_id: id, created_at: at, body: text}\n")
    done = called("aggregate", "--run-once", "-f", "run.yaml", "--json", cwd=folder)
    assert done.returncode == 1
    shown = json.loads(done.stdout)
    assert [s["status"] for s in shown["sources"]] == ["ok", "failed"]
    assert shown["status"] == "degraded"
    assert shown["sources"][1]["watermark"] is None


def test_the_older_command_name_takes_its_own_flags(folder):
    (folder / "params").mkdir()
    text = (folder / "run.yaml").read_text("utf-8")
    text = text.replace(": store", ": ../store").replace(": reports", ": ../reports").replace("box", "../box")
    (folder / "params" / "weekly.yaml").write_text(text, "utf-8")
    done = started("--run-once", "--quiet", program="smartspec_feedback_aggregator", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "week 10" in done.stdout
    assert done.stderr == ""


def test_reports_are_listed_as_json(ran):
    listed = json.loads(called("report", "list", "-f", "run.yaml", "--json", cwd=ran[0]).stdout)
    assert len(listed) == 1
    assert listed[0]["status"] == "ok"
    assert listed[0]["signals"] == 5


def test_an_unknown_run_is_refused(ran):
    done = called("report", "rerun", "nothing", "-f", "run.yaml", cwd=ran[0])
    assert done.returncode == 2
    assert "no run 'nothing'" in done.stderr


def test_a_wrong_store_does_not_look_like_an_empty_one(folder):
    done = called("suggestions", "-f", "run.yaml", cwd=folder)
    assert done.returncode == 2
    assert "no run in the store" in done.stderr


def test_a_store_that_cannot_be_made_is_a_message(folder):
    (folder / "taken").write_text("a file", "utf-8")
    done = called("aggregate", "--run-once", "-f", "run.yaml", "--set", "store=taken/x", cwd=folder)
    assert done.returncode == 2
    assert "Name a folder this user can write" in done.stderr


def test_values_that_are_not_yaml_are_wrong_use(folder):
    done = called("aggregate", "--run-once", "-f", "run.yaml", "--set", "sources=[1,", cwd=folder)
    assert done.returncode == 2
    assert "the value is not valid YAML" in done.stderr


def test_params_without_sources_are_refused(folder):
    (folder / "none.yaml").write_text("store: store\n", "utf-8")
    done = called("aggregate", "--run-once", "-f", "none.yaml", cwd=folder)
    assert done.returncode == 2
    assert "no sources" in done.stderr
