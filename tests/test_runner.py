"""Notebook runs: refused before they start, kept when they fail, published whole."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from feedback_lib import runner
from feedback_lib.errors import ConfigError, FeedbackError, NotebookError

NOTEBOOKS = Path(__file__).parent / "data" / "notebooks"


def run(name, out, params=None, **options):
    return runner.run_notebook(NOTEBOOKS / f"{name}.ipynb", params or {}, out, timeout_s=60, **options)


def texts(path):
    """What each code cell printed or returned."""
    return [
        "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]


def test_parameters_reach_the_notebook_and_its_file_is_not_changed(tmp_path):
    before = (NOTEBOOKS / "ok.ipynb").read_bytes()
    given = {"weeks": 3, "product": 'Ünï "x" {y}', "share": 1, "sources": [], "as_of": "2026-11-16", "title": "t"}
    done = run("ok", tmp_path / "ok.ipynb", given)
    assert texts(done.out)[2:] == ['3 Ünï "x" {y} 1 True [] 2026-11-16 t\n', "4"]
    assert done.cells == 4
    assert 0 < done.seconds < 60
    assert (NOTEBOOKS / "ok.ipynb").read_bytes() == before


def test_without_parameters_the_defaults_run(tmp_path):
    assert texts(run("ok", tmp_path / "ok.ipynb").out)[1] == "8 sample 0.5 True ['tickets', 'mails'] None None\n"


def test_an_unknown_parameter_is_refused_with_the_nearest_name_before_a_kernel_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"broken\.ipynb: no parameter 'wekes'; did you mean 'weeks'\?"):
        run("broken", tmp_path / "out.ipynb", {"wekes": 3})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("weeks", "3", r"'weeks' is '3' \(str\); expected int, such as 8"),
        ("weeks", 3.5, "expected int"),
        ("weeks", True, "expected int"),
        ("weeks", None, "expected int"),
        ("product", 3, "expected str, such as 'sample'"),
        ("share", "half", "expected float"),
        ("share", False, "expected float"),
        ("strict", 1, "expected bool"),
        ("strict", "true", "expected bool"),
        ("sources", "tickets", "expected list"),
        ("title", 7, "expected str"),
    ],
)
def test_a_value_of_another_type_is_refused_with_field_value_and_type(name, value, expected, tmp_path):
    with pytest.raises(ConfigError, match=expected):
        run("ok", tmp_path / "out.ipynb", {name: value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("share", 2), ("as_of", 3), ("as_of", "x"), ("as_of", None), ("title", None), ("sources", ())]
)
def test_a_value_that_fits_is_accepted(name, value):
    runner.check(NOTEBOOKS / "ok.ipynb", {name: value})


def test_a_parameter_for_a_notebook_without_parameters_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no parameter 'weeks'; it has no parameters cell"):
        run("no_parameters", tmp_path / "out.ipynb", {"weeks": 3})


def test_a_notebook_without_parameters_runs(tmp_path):
    assert texts(run("no_parameters", tmp_path / "out.ipynb").out) == ["42"]


def test_a_missing_notebook_and_a_file_that_is_none_are_configuration_errors(tmp_path):
    (tmp_path / "note.ipynb").write_text("not JSON")
    (tmp_path / "list.ipynb").write_text("[]")
    for name in ("absent", "note", "list"):
        with pytest.raises(ConfigError, match=f"{name}.ipynb"):
            runner.run_notebook(tmp_path / f"{name}.ipynb", {}, tmp_path / "out.ipynb", timeout_s=9)


def test_a_failed_notebook_is_kept_with_its_traceback_and_the_error_says_where(tmp_path):
    with pytest.raises(NotebookError) as failed:
        run("broken", tmp_path / "out.ipynb", {"weeks": 3})
    kept = tmp_path / "out.failed.ipynb"
    assert list(tmp_path.iterdir()) == [kept]
    assert failed.value.notebook == str(kept)
    assert f"{kept}: stopped at cell 4: ZeroDivisionError: division by zero" in str(failed.value)
    cells = [c for c in nbformat.read(kept, as_version=4).cells if c.cell_type == "code"]
    error = cells[failed.value.cell - 1].outputs[0]
    assert cells[failed.value.cell - 1].execution_count == failed.value.cell == 4
    assert "1 / 0" in "".join(error.traceback)
    assert cells[4].metadata.papermill.status == "pending"


def test_a_failure_leaves_the_earlier_notebook_and_a_success_removes_the_failed_one(tmp_path):
    out = tmp_path / "out.ipynb"
    out.write_text("the earlier one")
    with pytest.raises(NotebookError):
        run("exits_early", out)
    assert out.read_text() == "the earlier one"
    run("no_parameters", out)
    assert [f.name for f in tmp_path.iterdir()] == ["out.ipynb"]
    assert texts(out) == ["42"]


def test_a_killed_kernel_is_an_error_and_its_cell_is_not_called_completed(tmp_path):
    with pytest.raises(NotebookError, match=r"stopped at cell 3: the kernel died") as failed:
        run("kernel_dies", tmp_path / "out.ipynb")
    status = [c.metadata.papermill.status for c in nbformat.read(failed.value.notebook, as_version=4).cells[1:]]
    assert status == ["completed", "completed", "failed", "pending"]


def test_a_notebook_that_leaves_early_did_not_finish(tmp_path):
    with pytest.raises(NotebookError, match="stopped at cell 2: SystemExit: 0"):
        run("exits_early", tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


def test_the_time_is_for_the_whole_notebook_and_nothing_goes_on_after_it(tmp_path):
    started = time.monotonic()
    with pytest.raises(NotebookError, match=r"stopped at cell 2: the notebook took longer than 2 s"):
        runner.run_notebook(NOTEBOOKS / "slow.ipynb", {}, tmp_path / "out.ipynb", timeout_s=2)
    assert time.monotonic() - started < 15
    assert (tmp_path / "out.failed.ipynb").exists()


def test_printed_text_is_cut_and_the_notebook_goes_on(tmp_path):
    done = run("prints_a_lot", tmp_path / "out.ipynb")
    _, printed, after = texts(done.out)
    assert printed.startswith("line 0\nline 1\n")
    assert printed.endswith("[cut here: a cell keeps 200,000 characters of printed text]\n")
    assert after == "after\n"
    assert done.out.stat().st_size < 600_000


def test_a_secret_and_personal_data_stand_in_no_output_and_no_error(tmp_path, monkeypatch):
    secret = "zq-planted/7391" * 2
    monkeypatch.setenv("SPECIMEN_TOKEN", secret)
    with pytest.raises(NotebookError) as failed:
        run("prints_secrets", tmp_path / "out.ipynb", secrets={secret})
    written = Path(failed.value.notebook).read_text() + str(failed.value) + repr(failed.value)
    assert secret not in written
    assert "ann@example.org" not in "".join(texts(failed.value.notebook)) + str(failed.value)
    assert "[secret]" in written
    assert "RuntimeError: 401 for [secret] of [email]" in str(failed.value)


def test_progress_is_a_line_for_each_code_cell_that_starts(tmp_path):
    seen = []
    with pytest.raises(NotebookError):
        run("broken", tmp_path / "out.ipynb", {"weeks": 3}, progress=seen.append)
    assert seen == [f"broken: cell {n} of 5" for n in (1, 2, 3, 4)]


RUN = (
    "import sys, pathlib; from feedback_lib import runner; notebook, out = map(pathlib.Path, sys.argv[1:3]); "
    "runner.run_notebook(notebook, {'weeks': int(sys.argv[3])}, out, timeout_s=60)"
)


def start(out, weeks):
    """One run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, NOTEBOOKS / "ok.ipynb", out, str(weeks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_runs_side_by_side_do_not_disturb_each_other_and_print_nothing_of_their_own(tmp_path):
    racing = [start(tmp_path / f"{number}.ipynb", number) for number in range(2)]
    for number, process in enumerate(racing):
        assert process.communicate() == ("", "")
        assert process.returncode == 0
        assert texts(tmp_path / f"{number}.ipynb")[-1] == str(number + 1)


# publish


def fill(folder, word):
    """A report of several files; one file disagreeing with the others would show a mixed state."""
    for number in range(5):
        (folder / f"{number}.txt").write_text(word)


def state(target):
    """The words in a folder, or None when it is not there."""
    return {f.read_text() for f in target.iterdir()} if target.exists() else None


def test_a_report_appears_when_it_is_complete_and_replaces_the_previous_one(tmp_path):
    target = tmp_path / "weekly" / "2026-11-16"
    for word in ("first", "second"):
        before = state(target)
        with runner.publish(target) as folder:
            fill(folder, word)
            assert state(target) == before
        assert state(target) == {word}
    assert [f.name for f in target.parent.iterdir() if not f.name.endswith(".lock")] == ["2026-11-16"]


def test_files_of_the_previous_report_do_not_stay_in_the_new_one(tmp_path):
    with runner.publish(tmp_path / "r") as folder:
        fill(folder, "old")
    with runner.publish(tmp_path / "r") as folder:
        (folder / "only.txt").write_text("new")
    assert [f.name for f in (tmp_path / "r").iterdir()] == ["only.txt"]


def test_after_a_failure_the_previous_report_stays_and_the_newest_failed_one_is_kept(tmp_path):
    target = tmp_path / "r"
    with runner.publish(target) as folder:
        fill(folder, "good")
    for word in ("bad", "worse"):
        with pytest.raises(ValueError, match=word), runner.publish(target) as folder:
            fill(folder, word)
            raise ValueError(word)
    assert state(target) == {"good"}
    assert state(tmp_path / "r.failed") == {"worse"}


def test_the_error_of_a_failed_notebook_names_where_it_was_kept(tmp_path):
    with pytest.raises(NotebookError) as failed, runner.publish(tmp_path / "r") as folder:
        run("broken", folder / "out.ipynb")
    kept = tmp_path / "r.failed" / "out.failed.ipynb"
    assert failed.value.notebook == str(kept)
    assert str(failed.value).startswith(f"{kept}: stopped at cell 3")
    assert kept.exists()


def test_a_failure_before_anything_was_written_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError), runner.publish(tmp_path / "r") as folder:
        run("ok", folder / "out.ipynb", {"wekes": 1})
    assert [f.name for f in tmp_path.iterdir()] == [".r.lock"]


def test_a_second_run_waits_and_then_says_so(tmp_path):
    with (
        runner.publish(tmp_path / "r"),
        pytest.raises(FeedbackError, match="another run is writing it"),
        runner.publish(tmp_path / "r", wait_s=0.1),
    ):
        pass


KILLED = """
import os, pathlib, shutil, signal, sys
from feedback_lib import runner

target, point = pathlib.Path(sys.argv[1]), sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if point == "writing":
    fill_until = 3
else:
    fill_until = 5
if point in ("two steps", "between"):
    runner._exchange = lambda one, other: False
if point == "between":
    rename = pathlib.Path.rename
    def first_only(self, other):
        rename(self, other)
        die()
    pathlib.Path.rename = first_only
if point == "swapping":
    runner._swap = die
if point in ("removing", "two steps"):
    shutil.rmtree = die

with runner.publish(target) as folder:
    for number in range(fill_until):
        (folder / f"{number}.txt").write_text("new")
    if point == "writing":
        die()
"""


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("writing", {"old"}),
        ("swapping", {"old"}),
        ("between", None),  # no exchange on this file system: the next run puts the old report back
        ("removing", {"new"}),
        ("two steps", {"new"}),
    ],
)
def test_killed_at_any_point_the_report_is_the_old_or_the_new_one_and_the_next_run_cleans_up(point, left, tmp_path):
    target = tmp_path / "r"
    with runner.publish(target) as folder:
        fill(folder, "old")
    ran = subprocess.run([sys.executable, "-c", KILLED, str(target), point], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert state(target) == left
    with pytest.raises(RuntimeError), runner.publish(target):
        assert state(target) == (left or {"old"})
        raise RuntimeError("the next run failed too")
    assert state(target) == (left or {"old"})
    assert sorted(f.name for f in tmp_path.iterdir()) == [".r.lock", "r"]


def test_killed_at_random_moments_a_reader_never_sees_a_mixed_report(tmp_path):
    target = tmp_path / "r"
    with runner.publish(target) as folder:
        fill(folder, "start")
    program = (
        "import pathlib, sys\nfrom feedback_lib import runner\nn = 0\nprint('on', flush=True)\nwhile True:\n"
        "    n += 1\n    with runner.publish(pathlib.Path(sys.argv[1])) as folder:\n"
        "        for i in range(5):\n            (folder / f'{i}.txt').write_text(f'{sys.argv[2]}-{n}')\n"
    )
    for number in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", program, str(target), str(number)], stdout=subprocess.PIPE, text=True
        )
        writer.stdout.readline()
        time.sleep(0.05 + 0.013 * number)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        words = [f.read_text() for f in sorted(target.iterdir())]
        assert len(words) == 5
        assert len(set(words)) == 1
        assert re.match(rf"{number}-\d+", words[0])


def test_the_specimens_are_committed_without_outputs():
    for path in NOTEBOOKS.glob("*.ipynb"):
        held = json.loads(path.read_text())
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in held["cells"])


def test_no_kernel_or_socket_folder_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(psutil.Process().children())  # other tests' helpers
    with pytest.raises(NotebookError):
        run("kernel_dies", tmp_path / "out" / "out.ipynb")
    run("ok", tmp_path / "out" / "ok.ipynb")
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    left = set(psutil.Process().children()) - before
    assert [c for c in left if c.status() != psutil.STATUS_ZOMBIE] == []
