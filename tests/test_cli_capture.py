"""``feedback capture`` and ``orchestrator-feedback`` as a user calls them."""

import contextlib
import io
import json
import os
import pty
import re
import resource
import select
import subprocess
import sys
import textwrap
import time

import commands
import pytest
from commands import BIN, called, started

from feedback_lib import cli
from feedback_lib.workflows import entries

LOG = ".workflow_log.jsonl"


@pytest.fixture(autouse=True)
def _own(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path_factory.mktemp("config")))
    monkeypatch.delenv("ORCHESTRATOR_SKIP_FEEDBACK", raising=False)
    monkeypatch.setitem(commands.PROGRAMS, "orchestrator-feedback", cli.orchestrator_feedback)


@pytest.fixture
def folder(tmp_path):
    events = [
        ("workflow_started", None, None, {}),
        ("phase_started", "PLAN", None, {}),
        ("item_completed", "PLAN", "initial_plan", {"notes": "ok"}),
        ("item_skipped", "PLAN", "clarifying_questions", {"reason": "clear"}),
        ("phase_completed", "PLAN", None, {}),
    ]
    rows = [
        {
            "timestamp": f"2026-01-11T10:00:{second:02}Z", "event_type": kind, "workflow_id": "wf_1", "phase_id": phase,
            "item_id": item, "message": "Started workflow: Add login" if item is None else "", "details": details,
            "actor": "system",
        }
        for second, (kind, phase, item, details) in enumerate(events)
    ]  # fmt: skip
    (tmp_path / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def count(folder):
    return [
        len((folder / name).read_bytes().splitlines()) if (folder / name).exists() else None
        for name in (entries.TOOL_FILE, entries.PROCESS_FILE)
    ]


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("feedback", ["capture"]),
        ("feedback", ["capture", "--auto"]),
        ("feedback", ["capture", "--tool", "--process"]),
        ("orchestrator-feedback", []),
        ("orchestrator-feedback", ["--auto"]),
        ("orchestrator-feedback", ["capture", "--auto"]),
        ("orchestrator-feedback", ["--quiet", "--auto"]),
        ("orchestrator-feedback", ["--quiet", "capture"]),
    ],
)
def test_every_way_to_call_it_captures_both_kinds_and_only_once(folder, program, args):
    for _ in range(2):
        done = called(*args, program=program, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert count(folder) == [1, 1]


def test_what_was_captured_is_told(folder):
    told = called("capture", "--dir", folder).stdout
    assert told.splitlines()[0] == f"1 workflow in {LOG}"
    assert f"{entries.TOOL_FILE}: 1 new entry (about the tool; anonymous" in told
    assert f"{entries.PROCESS_FILE}: 1 new entry (about the project; private" in told
    assert told.splitlines()[-1] == f"What they have in common: feedback review --all --dir {folder}"
    again = called("capture", "-d", folder).stdout
    assert f"{entries.TOOL_FILE}: 0 new entries" in again
    assert "review" not in again


def test_a_log_writes_nothing_on_the_terminal_but_words(tmp_path, monkeypatch):
    """Whoever gives away a log could set a terminal's title or clear it."""
    evil = "\x1b]0;x\x07\x1b[2J\u009b"
    session = tmp_path / ".orchestrator" / "sessions" / f"s{evil}"
    session.mkdir(parents=True)
    (session / "log.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "timestamp": "2026-01-11T10:00:00Z",
                    "event_type": kind,
                    "workflow_id": f"wf{evil}",
                    "phase_id": f"PLAN{evil}",
                    "item_id": f"item{evil}",
                    "message": evil,
                    "details": {"task": f"task{evil}", "reason": evil},
                }
            )
            + "\n"
            for kind in ("workflow_started", "item_skipped")
        )
        + f"broken{evil}\n"
    )
    for args in (("capture",), ("capture", "--interactive"), ("review", "--all", "--suggest"), ("sync", "--dry-run")):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n" * 4 + "an answer\n" + "\n" * 12))
        done = called(*args, "--dir", tmp_path)
        told = done.stdout + done.stderr
        assert told
        assert all(c.isprintable() or c in "\n\t" for c in told), ascii(told)


@pytest.mark.parametrize(("option", "counts"), [("--tool", [1, None]), ("--process", [None, 1])])
def test_one_kind_alone(folder, option, counts):
    assert called("capture", option, "--dir", folder).returncode == 0
    assert count(folder) == counts


def test_as_json_the_entries_are_given_as_they_stand_in_the_files(folder):
    done = called("capture", "--json", "--dir", folder)
    told = json.loads(done.stdout)
    assert told["written"] == {"tool": 1, "process": 1}
    for kind, name in (("tool", entries.TOOL_FILE), ("process", entries.PROCESS_FILE)):
        assert told[kind] == [json.loads((folder / name).read_text())]
    assert list(told["tool"][0])[-1] == "mode"


def test_the_installed_program_captures(folder):
    done = started("--auto", "--dir", folder, program="orchestrator-feedback")
    assert (done.returncode, done.stderr) == (0, "")
    assert count(folder) == [1, 1]


@pytest.mark.parametrize("name", ["review", "sync", "config"])
def test_its_other_commands_are_those_of_feedback(name):
    ours, theirs = (called(name, "--help", program=p) for p in ("orchestrator-feedback", "feedback"))
    assert ours.returncode == 0
    assert ours.stdout.partition("Options:")[1:] == theirs.stdout.partition("Options:")[1:]


def test_a_folder_named_like_a_command_is_a_folder(folder):
    (folder / "review").mkdir()
    (folder / LOG).rename(folder / "review" / LOG)
    assert called("--dir", "review", "--auto", program="orchestrator-feedback", cwd=folder).returncode == 0
    assert count(folder / "review") == [1, 1]


def test_a_word_that_is_no_command_is_told_with_the_nearest():
    done = called("revue", program="orchestrator-feedback")
    assert (done.returncode, done.stderr) == (2, "Error: no command 'revue'; did you mean 'review'?\n")


def test_help_says_what_it_writes_and_that_it_never_fails_a_workflow():
    for program, args in (("feedback", ["capture", "--help"]), ("orchestrator-feedback", ["--help"])):
        told = " ".join(called(*args, program=program).stdout.split())
        assert "never fails the workflow" in told
        assert "ORCHESTRATOR_SKIP_FEEDBACK" in told
        assert entries.TOOL_FILE in told


@pytest.mark.parametrize("args", [["--auto", "--interactive"], ["--robot"], ["--dir"], ["extra"]])
def test_wrong_use_is_refused(folder, args):
    assert called("capture", *args, cwd=folder).returncode == 2
    assert count(folder) == [None, None]


def test_below_the_folder_of_the_workflow_that_folder_is_named(folder):
    (folder / "src" / "deep").mkdir(parents=True)
    done = called("capture", cwd=folder / "src" / "deep")
    assert "No workflow was found in this folder: " in done.stderr
    assert done.stderr.endswith(f"there is one above: --dir {folder}\n")


# The workflow is never broken


def test_where_no_workflow_is_that_is_told(tmp_path):
    done = called("capture", "--auto", "--dir", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "No workflow was found" in done.stderr
    assert list(tmp_path.iterdir()) == []
    told = json.loads(called("capture", "--auto", "--json", "--dir", tmp_path).stdout)
    assert (told["written"], "No workflow" in told["reason"]) == ({"tool": 0, "process": 0}, True)


def faults(folder):
    """What can be wrong with a folder, by name: what makes it so."""
    tool = folder / entries.TOOL_FILE
    return {
        "no folder": lambda: (folder / LOG).unlink() or folder.rename(folder.with_name("away")),
        "a folder in the file's place": tool.mkdir,
        "a pipe in the file's place": lambda: os.mkfifo(tool),
        "a link to itself": lambda: tool.symlink_to(tool.name),
        "a single file that cannot be read": (folder / entries.LEGACY_FILE).mkdir,
        "a salt that is none": lambda: (_config() / "salt").write_bytes(b"short"),
        "no place for the salt": lambda: (_config() / "x").touch() or _point(_config() / "x"),
    }


def _config():
    from feedback_lib import config

    return config.config_dir()


def _point(path):
    os.environ["FEEDBACK_CONFIG"] = str(path / "below")


@pytest.mark.parametrize("fault", sorted(faults(commands.BIN)))
def test_whatever_is_wrong_with_the_files_is_told_and_the_exit_code_is_0(folder, fault, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", os.environ["FEEDBACK_CONFIG"])
    faults(folder)[fault]()
    done = called("capture", "--auto", "--dir", folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Feedback was not captured: ")
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    told = json.loads(called("capture", "--auto", "--json", "--dir", folder).stdout)
    assert told["reason"]


def test_a_log_full_of_rubbish_is_told_line_by_line(folder):
    with (folder / LOG).open("ab") as file:
        file.write(b"\xff\n[]\n\x00\n")
    done = called("capture", "--auto", "--dir", folder)
    assert done.returncode == 0
    assert [line.partition(": ")[2].rpartition(":")[0].split(":")[:2] for line in done.stderr.splitlines()] == [
        [LOG, str(n)] for n in (6, 7, 8)
    ]
    assert count(folder) == [1, 1]


def _no_space():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def test_a_full_disk_is_told_and_leaves_no_half_line(folder):
    done = subprocess.run(
        [BIN / "feedback", "capture", "--auto", "--dir", folder],
        capture_output=True, text=True, preexec_fn=_no_space, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert "Feedback was not captured: " in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == [LOG]


# a process that may not write, also where tests run as root: once all is imported, root's power over files is dropped
_UNPRIVILEGED = """
    import os, sys
    from feedback_lib import cli
    def capture(folder):
        sys.argv = ["feedback", "capture", "--auto", "--dir", folder]
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, end.code
    capture(sys.argv[1])
    folder, os.environ["FEEDBACK_CONFIG"] = os.environ["PLACES"].split(":")
    if os.getuid() == 0:
        os.setgid(65534), os.setuid(65534)
    capture(folder)
"""


def test_a_folder_that_may_not_be_written_is_told(folder, tmp_path_factory):
    config, warm = tmp_path_factory.mktemp("other"), tmp_path_factory.mktemp("warm")
    (warm / LOG).write_bytes((folder / LOG).read_bytes())
    for path in (*folder.parents, folder):
        if path.stat().st_uid == os.getuid() and "pytest" in str(path):
            path.chmod(path.stat().st_mode | 0o055)
    config.chmod(0o777)
    folder.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_UNPRIVILEGED), warm], capture_output=True, text=True, timeout=60,
            check=False, env=os.environ | {"PLACES": f"{folder}:{config}"},
        )  # fmt: skip
    finally:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert count(warm) == [1, 1]
    assert "Feedback was not captured: " in done.stderr
    assert "Permission denied. Make it and its folder writable." in done.stderr
    assert [p.name for p in folder.iterdir()] == [LOG]


# Opted out

_WATCHED = """
    import sys
    folder, config = sys.argv[1:3]
    touched = []
    def hook(event, args):
        paths = [str(a) for a in args if isinstance(a, (str, bytes))]
        if event != "import" and any(folder in path or config in path for path in paths):
            touched.append((event, args))
    sys.addaudithook(hook)
    from feedback_lib import cli
    sys.argv = ["orchestrator-feedback", *sys.argv[3:], "--dir", folder]
    try:
        cli.orchestrator_feedback()
    except SystemExit as end:
        assert not end.code, end.code
    print(len(touched))
"""


def watched(folder, *args):
    """How often a run reached for anything in the folder or in the settings, as Python itself notes it."""
    config = os.environ["FEEDBACK_CONFIG"] + "/new"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_WATCHED), folder, config, *args],
        capture_output=True, text=True, timeout=60, check=True, env=os.environ | {"FEEDBACK_CONFIG": config},
    )  # fmt: skip
    return int(done.stdout.splitlines()[-1]), done.stderr


def test_opted_out_nothing_is_opened_at_all(folder, monkeypatch):
    assert watched(folder, "--auto")[0] > 5  # the watch sees what there is to see
    monkeypatch.setenv("ORCHESTRATOR_SKIP_FEEDBACK", "1")
    for name in (entries.TOOL_FILE, entries.PROCESS_FILE):
        (folder / name).unlink()
    for args in (["--auto"], ["--interactive"], ["capture", "--tool"]):
        touched, told = watched(folder, *args)
        assert touched == 0
        assert "Feedback is off: the environment variable ORCHESTRATOR_SKIP_FEEDBACK is set" in told
    assert count(folder) == [None, None]


# Interactive


def answered(folder, text, *args):
    return subprocess.run(
        [BIN / "feedback", "capture", "--interactive", "--dir", folder, *args],
        input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_answers_join_the_entry_of_the_current_workflow(folder):
    done = answered(folder, "yes\nno\ninitial_plan\n\nFewer items\nno\nPairing\nSlow builds\n\nCache\n")
    assert done.returncode == 0, done.stderr
    tool = json.loads((folder / entries.TOOL_FILE).read_text())
    process = json.loads((folder / entries.PROCESS_FILE).read_text())
    assert (tool["mode"], tool["phase0_guidance_used"], tool["reviews_worked"]) == ("interactive", True, False)
    assert (tool["confusing_items"], tool["tool_suggestions"]) == (["initial_plan"], "Fewer items")
    assert (tool["items_skipped"], tool["phases"]) == (["clarifying_questions"], {"PLAN": 3})
    assert (process["parallel_agents_used"], process["what_went_well"]) == (False, "Pairing")
    assert (process["challenges"], process["improvements"], process["mode"]) == ("Slow builds", "Cache", "interactive")
    assert called("capture", "--auto", "--dir", folder).returncode == 0
    assert count(folder) == [1, 1]


def test_as_json_only_json_is_printed(folder):
    done = answered(folder, "yes\n", "--tool", "--json")
    assert json.loads(done.stdout)["tool"][0]["phase0_guidance_used"] is True
    assert count(folder) == [1, None]


def test_without_answers_nothing_is_captured(folder):
    done = answered(folder, "")
    assert (done.returncode, count(folder)) == (0, [None, None])
    assert "Nothing was captured" in done.stderr


def test_where_no_workflow_is_nothing_is_asked(tmp_path):
    done = answered(tmp_path, "")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No workflow was found" in done.stderr


def test_answers_that_cannot_be_kept_are_shown_again(folder):
    (folder / entries.PROCESS_FILE).mkdir()
    done = answered(folder, "\n\n\n\n\n\nPairing\n")
    assert done.returncode == 2
    assert '{"what_went_well": "Pairing"}' in done.stderr
    assert "Is a directory" in done.stderr


class Terminal:
    """``feedback capture --interactive`` of the questions about the tool, at a terminal of its own."""

    def __init__(self, folder):
        self.ours, theirs = pty.openpty()
        self.shown = ""
        self.running = subprocess.Popen(
            [BIN / "feedback", "capture", "--interactive", "--tool", "--dir", folder],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.running.kill()
        self.running.wait(30)
        os.close(self.ours)

    def sees(self, pattern, seconds=20):
        """Whether it shows this within so many seconds; what came before it is forgotten."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := re.search(pattern, self.shown, re.DOTALL):
                self.shown = self.shown[found.end() :]
                return True
            if select.select([self.ours], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the other end is closed
                    self.shown += re.sub(
                        r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", os.read(self.ours, 4096).decode(errors="replace")
                    )
        return False

    def asked(self, number, before=""):
        """Wait for the prompt of a question, with what was answered before."""
        assert self.sees(rf"{number}/5 .*\){re.escape(before)}:"), self.shown

    def type(self, keys):
        os.write(self.ours, keys.encode())

    def ended(self):
        assert self.sees("captured|entry of"), self.shown
        return self.running.wait(30)


def test_in_a_terminal_one_answers_goes_back_and_finds_earlier_answers(folder):
    with Terminal(folder) as first:
        first.asked(1)
        first.type("yes\r")
        first.asked(2)
        first.type("<\r")
        first.asked(1, " [yes]")
        first.type("no\r")
        first.asked(2)
        first.type("\r")
        first.asked(3)
        first.type("\r")
        first.asked(4)
        first.type("\r")
        first.asked(5)
        first.type("Fewer items\r")
        assert first.ended() == 0
    tool = json.loads((folder / entries.TOOL_FILE).read_text())
    assert (tool["phase0_guidance_used"], tool["tool_suggestions"]) == (False, "Fewer items")
    with Terminal(folder) as second:
        for number in range(1, 5):
            second.asked(number)
            second.type("\r")
        second.asked(5)
        for _ in range(20):  # the history is read while one can type already
            second.type("\x1b[A")
            if second.sees("Fewer items", 0.5):
                break
        second.type(", please\r")
        assert second.ended() == 0
    last = (folder / entries.TOOL_FILE).read_text().splitlines()[-1]
    assert json.loads(last)["tool_suggestions"] == "Fewer items, please"


def test_ctrl_c_in_a_terminal_stops_and_keeps_nothing(folder):
    with Terminal(folder) as one:
        one.asked(1)
        one.type("yes\r")
        one.asked(2)
        one.type("\x03")
        assert one.sees("Stopped; answers are not kept")
        assert one.ended() == 0
    assert count(folder) == [None, None]
