"""`feedback review`: what is printed, as text and as JSON, what is asked, and every wrong call in one sentence."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from feedback_lib.workflows import entries, ids, settings
from tests.commands import BIN, called, started

ROADMAP = "# Roadmap\n\n## Planned\n\n#### WF-041: Something else\n**Status:** Planned\n"


@pytest.fixture(autouse=True)
def _installation(tmp_path, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)  # where no params file is


@pytest.fixture
def folder(tmp_path):
    """Ten workflows of the last days; docs is skipped in eight of them."""
    made = tmp_path / "project"
    made.mkdir()
    now = dt.datetime.now(dt.UTC)
    tools, processes = [], []
    for i in range(10):
        at = entries.stamp(now - dt.timedelta(hours=i + 1))
        skipped = ["docs"] if i < 8 else []
        about = {"timestamp": at, "workflow_id_hash": ids.hashed(settings.salt(), f"wf_{i}")}
        about |= {"items_skipped": skipped, "items_skipped_pct": 0.1 * len(skipped), "reviews_worked": True}
        tools.append(entries.tool_entry(about, "here"))
        processes.append(entries.process_entry({"timestamp": at, "workflow_id": f"wf_{i}"}, "here"))
    entries.Files(made).append(tools, processes)
    return made


def shown(*args, cwd=None):
    """What is printed by a command that must succeed."""
    done = called("review", *args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*args, cwd=None):
    """The message of a command that must be refused as wrong use."""
    done = called("review", *args, cwd=cwd)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_review_is_printed_with_its_patterns_and_their_workflows(folder):
    text = shown("--dir", folder)
    assert text.startswith("Feedback Review (last 7 days, 10 workflows)\n━━━")
    assert (
        "⚠ Often skipped: docs (8 of 10 workflows, 80%)\n   → Suggestion: Consider making it optional, or removing it\n"
        "   in wf_7, wf_6, wf_5, wf_4, wf_3, wf_2, wf_1, wf_0\n"
    ) in text
    assert "✓ Reviews performed consistently (10 of 10 workflows, 100%)" in text


def test_json_holds_all_and_nothing_else(folder):
    told = json.loads(shown("--dir", folder, "--all", "--json"))
    assert told["window"] == "all time"
    assert [p["key"] for p in told["patterns"] if p["warns"]] == ["docs"]
    assert told["rejected"] == []


def test_the_installed_program_shows_the_same_in_the_current_folder_and_under_the_tools_name(folder):
    done = [started("review", cwd=folder, program=name) for name in ("feedback", "orchestrator-feedback")]
    assert [d.returncode for d in done] == [0, 0]
    assert done[0].stdout == done[1].stdout == shown("--dir", folder)


def test_thresholds_can_be_set_without_a_params_file(folder, tmp_path):
    assert "Often skipped" not in shown("--dir", folder, "--set", "workflows.skip_share=0.81", cwd=tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_a_share_is_compared_as_it_is_written_in_params_or_call(named, tmp_path):
    """0.07 * 100 is more than 7 as a float."""
    assert 0.07 * 100 > 7
    at = {"timestamp": "2026-01-10T10:00:00Z"}
    items = [["docs", "lint"] if i < 6 else ["docs"] if i < 7 else [] for i in range(100)]
    entries.Files(tmp_path).append(
        [
            entries.tool_entry(at | {"workflow_id_hash": f"{i:032x}", "items_skipped": s}, "")
            for i, s in enumerate(items)
        ],
        [],
    )
    tool = tmp_path / entries.TOOL_FILE
    tool.write_text(tool.read_text().replace('"items_skipped_pct": null', '"items_skipped_pct": 0.1'))
    (tmp_path / "of.yaml").write_text("workflows: {skip_share: 0.07}\n")
    given = ("--params", tmp_path / "of.yaml") if named else ("--set", "workflows.skip_share=0.07")
    told = json.loads(shown("--dir", tmp_path, "--all", "--json", *given))
    assert [(p["key"], p["count"], p["of"]) for p in told["patterns"] if p["kind"] == "skip"] == [("docs", 7, 100)]


def test_a_params_file_where_it_usually_is_is_read(folder, tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "params/weekly.yaml").write_text("workflows: {skip_share: 0.81}\n")
    assert "Often skipped" not in shown("--dir", folder, cwd=tmp_path)


def test_a_params_file_that_was_named_must_be_there(folder, tmp_path):
    assert "nothing.yaml: No such file or directory" in refused("--dir", folder, "--params", tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("workflows.skip_shar=0.9", "workflows: unknown key 'skip_shar'; did you mean 'skip_share'?"),
        ("workflows.skip_share=most", "skip_share = 'most': expected a number"),
        ("workflows.skip_share=80", "skip_share = 80.0: expected a share from 0 to 1"),
        ("workflow.skip_share=0.9", "unknown key 'workflow'; did you mean 'workflows'?"),
        ("workflows", "write key=value"),
        ("workflows.a.b=1", "write key=value"),
    ],
)
def test_a_wrong_threshold_names_the_nearest_or_what_is_expected(folder, tmp_path, given, said):
    assert said in refused("--dir", folder, "--set", given, cwd=tmp_path)


def test_the_moment_of_the_params_is_the_end_of_the_window(folder, tmp_path):
    text = shown("--dir", folder, "--days", 3, "--set", "as_of=2026-01-15T12:00Z", cwd=tmp_path)
    assert text.startswith("Feedback Review (last 3 days before 2026-01-15 12:00 UTC, 0 workflows)")
    assert "20 of 20 entries are dated after now and left out; --all has them" in text


def test_the_moment_of_a_params_file_counts_only_when_the_file_was_named(folder, tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "params/weekly.yaml").write_text("as_of: 2026-01-15\n")
    assert shown("--dir", folder).startswith("Feedback Review (last 7 days, 10 workflows)")
    assert "before 2026-01-15 00:00 UTC, 0 workflows" in shown("--dir", folder, "-f", "params/weekly.yaml")


def test_without_entries_it_says_what_to_run_and_leaves_with_zero(tmp_path):
    assert "no entry yet: looked for .workflow_tool_feedback.jsonl and" in shown("--dir", tmp_path)
    assert shown(cwd=tmp_path).endswith(".workflow_process_feedback.jsonl in this folder; run: feedback capture\n")
    assert json.loads(shown("--dir", tmp_path, "--json"))["workflows"] == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--all", "--days", "3"), "leave out --days"),
        (("--days", "0"), "--days"),
        (("--yes",), "add --suggest"),
        (("--all-users",), "add --tool"),
        (("--tool", "--process", "--all-users"), "leave out --process"),
        (("--tool", "--all-users", "--days", "3"), "leave out --days"),
        (("--tool", "--all-users", "--suggest"), "leave out --days and --suggest"),
        (("--data", "x.sqlite"), "add --tool --all-users"),
        (("--dir", "nowhere"), "nowhere is no folder; --dir"),
    ],
)
def test_calls_that_mean_nothing_say_what_to_do(tmp_path, args, said):
    assert said in refused(*args, cwd=tmp_path)


def test_bytes_that_are_no_text_and_half_characters_do_not_break_the_output(folder):
    path = folder / ".workflow_process_feedback.jsonl"
    said = {"timestamp": "2026-01-01T00:00:00Z", "workflow_id": "wf_odd", "learnings": "\ud800 \x1b[31m red"}
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n\xef\xbb\xbf{}\r\n" + json.dumps(said).encode() + b"\n[1]\n")
    done = started("review", "--dir", folder, "--all")
    assert done.returncode == 0, done.stderr
    assert "lines could not be read and are in no number" in done.stdout
    assert "\x1b" not in done.stdout
    assert len(json.loads(shown("--dir", folder, "--all", "--json"))["rejected"]) >= 2


# --- suggestions ------------------------------------------------------------------------------------------------------


def test_suggestions_are_shown_and_not_added_without_a_terminal_to_ask_on(folder):
    (folder / "ROADMAP.md").write_text(ROADMAP)
    text = shown("--dir", folder, "--suggest")
    assert "+#### WF-042: Often skipped: docs" in text
    assert "Not added: there is no terminal to ask on. To add 1 item to ROADMAP.md:" in text
    assert (folder / "ROADMAP.md").read_text() == ROADMAP


def test_what_it_says_to_call_for_adding_adds_just_what_was_shown(folder):
    options = ("--all", "--tool", "--set", "workflows.skip_share=0.7", "-d", folder)
    call = shown(*options, "--suggest").rpartition("To add 1 item to ROADMAP.md: feedback review ")[2]
    assert call == f"--tool --all --set workflows.skip_share=0.7 --dir {folder} --suggest --yes\n"
    assert "Added 1 item" in shown(*call.split())


def test_with_yes_they_are_added_once(folder):
    (folder / "ROADMAP.md").write_text(ROADMAP)
    assert f"Added 1 item to {folder / 'ROADMAP.md'}." in shown("--dir", folder, "--suggest", "--yes")
    added = (folder / "ROADMAP.md").read_text()
    assert "#### WF-042: Often skipped: docs" in added
    assert "Nothing to add to the roadmap." in shown("--dir", folder, "--suggest", "--yes")
    assert (folder / "ROADMAP.md").read_text() == added


def test_suggestions_are_json_too_and_added_only_with_yes(folder):
    told = json.loads(shown("--dir", folder, "--suggest", "--json"))["suggested"]
    assert [item["id"] for item in told["items"]] == ["WF-001"]
    assert told["added_to"] is None
    assert not (folder / "ROADMAP.md").exists()
    told = json.loads(shown("--dir", folder, "--suggest", "--yes", "--json"))["suggested"]
    assert told["added_to"] == str(folder / "ROADMAP.md")


def answered(folder, answer):
    """What `feedback review --suggest` shows on a terminal on which one line is typed; None is Ctrl-C."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [BIN / "feedback", "review", "--dir", folder, "--suggest"], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text, until = b"", time.monotonic() + 30
    try:
        while time.monotonic() < until:
            if not select.select([ours], [], [], 0.3)[0]:
                if (
                    b"(y/n)" in text and b"Not added" not in text and answer is None
                ):  # it waits; once more if it had only begun to
                    running.send_signal(signal.SIGINT)
                continue
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            text += piece
            if b"(y/n)" in piece and answer is not None:
                os.write(ours, answer.encode() + b"\n")
    finally:
        os.close(ours)
        running.wait(30)
    assert time.monotonic() < until, "it did not end"
    return running.returncode, text.decode()


@pytest.mark.parametrize(("answer", "added"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_it_asks_and_only_yes_adds(folder, answer, added):
    code, text = answered(folder, answer)
    assert code == 0, text
    assert "Add 1 item to ROADMAP.md? (y/n)" in text
    assert (folder / "ROADMAP.md").exists() is added


def test_in_a_narrow_terminal_lines_go_on_below_their_words(folder):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 38, 0, 0))
    with os.fdopen(ours, "rb", 0) as screen, os.fdopen(theirs, "wb", 0) as terminal:
        done = subprocess.run(
            [BIN / "feedback", "review", "-d", folder],
            stdout=terminal,
            timeout=60,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        )
        told = screen.read(4096).decode()
    assert done.returncode == 0
    assert "⚠ Often skipped: docs (8 of 10\r\n  workflows, 80%)\r\n" in told
    assert max(len(line) for line in told.splitlines()) <= 38


def test_where_the_encoding_lacks_a_character_a_question_mark_stands(folder):
    done = subprocess.run(
        [BIN / "feedback", "review", "--dir", folder, "--suggest"], capture_output=True, timeout=60, check=False,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "? Often skipped: docs (8 of 10 workflows, 80%)" in done.stdout.decode("latin-1")


def test_ctrl_c_at_the_question_ends_it_and_adds_nothing(folder):
    code, text = answered(folder, None)
    assert code == 1
    assert text.endswith("\r\nNot added.\r\n")
    assert not (folder / "ROADMAP.md").exists()


# --- all users --------------------------------------------------------------------------------------------------------


def test_a_collectors_file_that_is_not_there_is_named(tmp_path):
    assert "held.sqlite: there is no such file" in refused("--tool", "--all-users", "--data", tmp_path / "held.sqlite")
    assert "collected.sqlite: there is no such file" in refused("--tool", "--all-users", cwd=tmp_path)
