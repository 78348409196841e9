import dataclasses
import datetime as dt
import json
import multiprocessing
import os
import shutil

import pytest
from conftest import REFERENCE

from feedback_lib.analysis.patterns import error_key
from feedback_lib.errors import ConfigError
from feedback_lib.workflows import anonymous, entries, ids, settings, telling
from feedback_lib.workflows.capture import Answers, capture, passages, unlabelled
from feedback_lib.workflows.entries import Files

START = dt.datetime(2026, 1, 11, 10, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path_factory.mktemp("config")))
    monkeypatch.delenv(settings.SKIP, raising=False)


def event(kind, wf="wf_1", *, at=0, phase=None, item=None, message="", **details):
    """One event of a log, ``at`` seconds after the start."""
    return {
        "timestamp": (START + dt.timedelta(seconds=at)).isoformat().replace("+00:00", "Z"),
        "event_type": kind, "workflow_id": wf, "phase_id": phase, "item_id": item, "message": message,
        "details": details, "actor": "system",
    }  # fmt: skip


def logged(folder, *events, name=".workflow_log.jsonl"):
    folder.mkdir(exist_ok=True, parents=True)
    with (folder / name).open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in events)


def whole(wf="wf_1", at=0):
    """A workflow with a skip, an item of its own, a phase of its own, notes and an error."""
    return [
        event("workflow_started", wf, at=at, message="Started workflow: Sell Acme"),
        event("phase_started", wf, at=at, phase="PLAN"),
        event("item_completed", wf, at=at + 5, phase="PLAN", item="initial_plan", notes="ok"),
        event("item_skipped", wf, at=at + 6, phase="PLAN", item="terraform_plan", reason="no cloud"),
        event("phase_completed", wf, at=at + 10, phase="PLAN"),
        event("phase_started", wf, at=at + 10, phase="ROLLOUT"),
        event("verification_failed", wf, at=at + 12, phase="ROLLOUT", item="smoke", command="make smoke",
              stderr="ValueError: jane@example.org is no user"),
        event("phase_completed", wf, at=at + 20, phase="ROLLOUT"),
        event("item_completed", wf, at=at + 25, phase="LEARN", item="document_learnings",
              notes="Mock less. What went well: tests first. Challenges: slow builds"),
        event("workflow_completed", wf, at=at + 30),
    ]  # fmt: skip


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_a_workflow_becomes_an_entry_of_each_kind(tmp_path):
    logged(tmp_path, *whole())
    captured = capture(tmp_path)
    salt = settings.salt()
    assert captured.written == (1, 1)
    assert lines(tmp_path, entries.TOOL_FILE) == [
        {
            "timestamp": "2026-01-11T10:00:30Z",
            "workflow_id_hash": ids.hashed(salt, "wf_1"),
            "orchestrator_version": "unknown",
            "repo_type": "unknown",
            "duration_seconds": 30,
            "phases": {"PLAN": 10, "CUSTOM": 10},
            "phase0_guidance_used": None,
            "reviews_worked": None,
            "orchestrator_errors": [],
            "items_skipped": [ids.item(salt, "terraform_plan")],
            "items_skipped_pct": 0.3333,
            "confusing_items": [],
            "tool_suggestions": "",
            "mode": "auto",
        }
    ]
    (entry,) = lines(tmp_path, entries.PROCESS_FILE)
    (error,) = entry.pop("project_errors")
    assert "make smoke" in error
    assert "ValueError: [email] is no user" in error
    assert entry == {
        "timestamp": "2026-01-11T10:00:30Z",
        "workflow_id": "wf_1",
        "repo": "unknown",
        "task": "Sell Acme",
        "parallel_agents_used": None,
        "learnings": "Mock less.",
        "what_went_well": "tests first.",
        "challenges": "slow builds",
        "improvements": "",
        "custom_workflow_items": ["terraform_plan", "smoke"],
        "mode": "auto",
    }


def test_nothing_private_stands_in_the_tool_file(tmp_path):
    logged(tmp_path, *whole())
    capture(tmp_path)
    text = (tmp_path / entries.TOOL_FILE).read_text()
    for word in ("wf_1", "Acme", "terraform", "smoke", "jane", "ROLLOUT", "cloud", "Mock", tmp_path.name):
        assert word not in text


@pytest.mark.skipif(not (REFERENCE / "orchestrator").is_dir(), reason="no reference data: set FEEDBACK_REFERENCE_DATA")
def test_all_ten_workflows_of_the_real_log_are_captured_as_expected(tmp_path):
    folder = REFERENCE / "orchestrator"
    expected = json.loads((folder / "derived_expected_from_log.json").read_text())
    shutil.copyfile(folder / "workflow_log_union.jsonl", tmp_path / ".workflow_log.jsonl")
    captured = capture(tmp_path)
    found = {p.workflow_id: (t, p) for t, p in zip(captured.tool, captured.process, strict=True)}
    assert found.keys() == expected.keys()
    for wf, told in expected.items():
        tool, process = found[wf]
        last, first = (dt.datetime.fromisoformat(told[key]) for key in ("last", "first"))
        assert tool.workflow_id_hash == ids.hashed(settings.salt(), wf)
        assert list(tool.items_skipped) == told["skipped"], wf
        assert tool.phases == told["phases"], wf
        assert tool.duration_seconds == int((last - first).total_seconds()), wf
        assert tool.timestamp == process.timestamp == entries.stamp(last)
        assert bool(process.learnings) == bool(told["learnings"]), wf
        assert bool(process.project_errors) == bool(told["verification_failed"]), wf
        assert tool.orchestrator_errors == ()  # every one of them is of the project, whatever its folder is called
    assert captured.rejected == ()


def test_capturing_again_adds_nothing(tmp_path):
    logged(tmp_path, *whole(), *whole("wf_2", at=100))
    assert capture(tmp_path).written == (2, 2)
    before = files_of(tmp_path)
    assert capture(tmp_path).written == (0, 0)
    assert files_of(tmp_path) == before


def test_only_a_workflow_that_went_on_gets_a_newer_entry(tmp_path):
    logged(tmp_path, *whole()[:5], *whole("wf_2", at=100))
    capture(tmp_path)
    logged(tmp_path, *whole()[5:])
    assert capture(tmp_path).written == (1, 1)
    held = Files(tmp_path).read(settings.salt())
    assert [e.duration_seconds for e in held.tool] == [30, 30]


def test_an_older_log_of_the_same_workflow_takes_nothing_back(tmp_path):
    logged(tmp_path, *whole())
    first = capture(tmp_path)
    (tmp_path / ".workflow_log.jsonl").unlink()
    logged(tmp_path, *whole()[:6])
    again = capture(tmp_path)
    assert again.written == (0, 0)
    assert (again.tool, again.process) == (first.tool, first.process)
    assert capture(tmp_path, answers=Answers(challenges="a")).written == (0, 1)


@pytest.mark.parametrize("name", [entries.PROCESS_FILE, entries.LEGACY_FILE])
def test_what_the_workflow_tool_captured_itself_hides_nothing_that_the_log_tells(tmp_path, name):
    """Its automatic entries have the time of their capture, no errors and no learnings."""
    theirs = {
        "timestamp": "2026-01-11T12:00:00.123456+00:00", "mode": "auto", "workflow_id": "wf_1", "task": "Sell Acme",
        "repo": "unknown", "parallel_agents_used": True, "reviews_performed": True, "errors_count": 0,
        "errors_summary": [], "items_skipped_count": 0, "items_skipped_reasons": [], "learnings": "",
        "duration_seconds": 122761, "phases": {"PLAN": 3},
    }  # fmt: skip
    (tmp_path / name).write_text(json.dumps(theirs) + "\n")
    logged(tmp_path, *whole())
    capture(tmp_path)
    read = Files(tmp_path).read(settings.salt())
    (tool,), (process,) = read.tool, read.process
    assert (tool.duration_seconds, tool.phases) == (30, {"PLAN": 10, "CUSTOM": 10})
    assert (len(process.project_errors), process.learnings, process.parallel_agents_used) == (1, "Mock less.", None)
    assert process.timestamp == tool.timestamp == "2026-01-11T10:00:30Z"
    assert capture(tmp_path).written == (0, 0)


def test_an_older_log_takes_nothing_back_from_an_entry_with_answers_either(tmp_path):
    logged(tmp_path, *whole())
    capture(tmp_path, answers=Answers(tool_suggestions="shorter", challenges="a"))
    first = Files(tmp_path).read(settings.salt())
    (tmp_path / ".workflow_log.jsonl").unlink()
    logged(tmp_path, *whole()[:6])
    assert capture(tmp_path).written == (0, 0)
    assert Files(tmp_path).read(settings.salt()) == first


def test_a_lost_salt_makes_no_second_workflow_of_one(tmp_path, tmp_path_factory, monkeypatch):
    logged(tmp_path, *whole(), *whole("wf_2", at=100), *whole("wf_3", at=200))
    first = capture(tmp_path).tool
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path_factory.mktemp("other")))
    again = capture(tmp_path)
    assert (again.written, again.tool) == ((0, 0), first)
    logged(tmp_path, event("phase_started", "wf_3", at=300, phase="PLAN"))
    assert capture(tmp_path).written == (1, 1)  # it went on
    assert capture(tmp_path).written == (0, 0)


def test_one_that_was_sent_is_not_new(tmp_path):
    logged(tmp_path, *whole())
    (entry,) = capture(tmp_path).tool
    Files(tmp_path).mark({entry.workflow_id_hash: entries.version(entry)}, "2026-01-12T00:00:00Z")
    assert capture(tmp_path).written == (0, 0)


def test_what_the_folder_and_the_tool_became_since_does_not_change_workflows_of_before(tmp_path):
    logged(tmp_path, *whole())
    capture(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "workflow-orchestrator"\nversion = "9.9"\n')
    assert capture(tmp_path).written == (0, 0)
    logged(tmp_path, *whole("wf_2", at=100))
    assert [(e.orchestrator_version, e.repo_type) for e in capture(tmp_path).tool] == [
        ("unknown", "unknown"),
        ("9.9", "python"),
    ]


def test_one_kind_alone_is_written_alone(tmp_path):
    logged(tmp_path, *whole())
    assert capture(tmp_path, process=False).written == (1, 0)
    assert not (tmp_path / entries.PROCESS_FILE).exists()
    assert capture(tmp_path).written == (0, 1)


def test_the_newer_layout_is_read(tmp_path):
    folder = tmp_path / ".orchestrator" / "sessions" / "s1"
    logged(folder, *whole(), name="log.jsonl")
    assert capture(tmp_path).written == (1, 1)


def test_without_a_log_and_a_state_nothing_is_written_and_no_salt_is_made(tmp_path):
    captured = capture(tmp_path)
    assert "neither a .workflow_state.json nor a .workflow_log.jsonl" in captured.reason
    assert list(tmp_path.iterdir()) == []
    assert not (settings.config.config_dir() / settings.SALT_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\n", b"{\n", b'{"a": 1}\n'])
def test_a_log_without_workflows_is_told_and_nothing_written(tmp_path, content):
    (tmp_path / ".workflow_log.jsonl").write_bytes(content)
    captured = capture(tmp_path)
    assert "No workflow was found in .workflow_log.jsonl" in captured.reason
    assert bool(captured.rejected) == bool(content.strip())
    assert [p.name for p in tmp_path.iterdir()] == [".workflow_log.jsonl"]


def test_a_folder_that_is_none_is_told(tmp_path):
    with pytest.raises(ConfigError, match="is no folder"):
        capture(tmp_path / "gone")


def test_bad_lines_are_told_and_the_others_captured(tmp_path):
    logged(tmp_path, *whole())
    with (tmp_path / ".workflow_log.jsonl").open("ab") as file:
        file.write(b"[]\n")
    (tmp_path / entries.TOOL_FILE).write_bytes(b"no entry\n")
    (tmp_path / entries.LEGACY_FILE).write_bytes(b"neither\n")
    captured = capture(tmp_path)
    assert [r.where for r in captured.rejected] == [
        ".workflow_log.jsonl:11", f"{entries.LEGACY_FILE}:1", f"{entries.TOOL_FILE}:1",
    ]  # fmt: skip
    assert captured.written == (1, 1)


def test_a_single_file_is_taken_over_first_also_where_no_workflow_is(tmp_path):
    old = {"timestamp": "2026-01-01T00:00:00Z", "workflow_id": "wf_0", "task": "before"}
    (tmp_path / entries.LEGACY_FILE).write_text(json.dumps(old) + "\n")
    told = []
    captured = capture(tmp_path, progress=told.append)
    assert captured.reason
    assert told == [f"{entries.LEGACY_FILE}: 1 entry taken over; kept as {entries.BACKUP_FILE}"]
    assert [e["task"] for e in lines(tmp_path, entries.PROCESS_FILE)] == ["before"]


# Errors


def failed(text, at=1, **details):
    return event("verification_failed", at=at, phase="VERIFY", item="all_tests", stderr=text, **details)


def errors(tmp_path, *events):
    logged(tmp_path, event("workflow_started"), *events)
    captured = capture(tmp_path)
    return captured.tool[0].orchestrator_errors, captured.process[0].project_errors


def test_errors_are_told_apart_by_origin(tmp_path):
    tool, project = errors(
        tmp_path,
        failed("bash: orchestrator: command not found", command="orchestrator prd spawn --count 3"),
        failed("KeyError: 'x' in /home/jane/workflow-orchestrator/app.py", at=2, command="pytest"),
    )
    assert tool == ("orchestrator prd spawn: command not found",)
    assert len(project) == 1
    assert "KeyError: 'x' in [path]/workflow-orchestrator/app.py" in project[0]


def test_the_same_error_counts_once_in_a_workflow(tmp_path):
    _, project = errors(
        tmp_path,
        *(failed(f"ValueError: order {n} at 0x{n:x}", at=n, command="pytest") for n in range(1, 4)),
        failed("TypeError: order", at=5, command="pytest"),
    )
    assert len(project) == 2


def test_a_long_error_keeps_its_command_and_its_end(tmp_path):
    _, project = errors(tmp_path, failed("x" * 9_000 + "\nValueError: the end", command="make all"))
    assert len(project[0]) == entries.ERROR_CHARACTERS
    assert "$ make all" in project[0]
    assert project[0].endswith("ValueError: the end")


@pytest.mark.parametrize("before", range(200, 600, 50))
def test_what_the_workflow_tool_keeps_of_an_output_is_captured_whole(tmp_path, before):
    """It keeps 1,000 characters of each output; in the review an error is the same wherever in them it stands."""
    trace = "Traceback (most recent call last):\n  File \"/a/db.py\", line 4, in load\n    y()\nKeyError: 'id'\n"
    err = (f"{'x' * before}\n{trace}" + "more\n" * 300)[:1000]
    logged(tmp_path, *whole()[:2], event("verification_failed", at=3, phase="PLAN", item="a", command="make",
                                        stderr=err, stdout=("log line\n" * 200)[:1000]))  # fmt: skip
    (process,) = capture(tmp_path).process
    assert [error_key(e) for e in process.project_errors] == [error_key(trace)]


def test_secrets_do_not_stand_in_an_error(tmp_path):
    _, project = errors(tmp_path, failed("401 for token ghp_0123456789abcdef0123 of jane@example.org", command="curl"))
    assert "ghp_" not in project[0]
    assert "jane@" not in project[0]


# Guidance


@pytest.mark.parametrize(
    ("kinds", "used"),
    [(["item_completed"], True), (["item_skipped"], False), ([], None), (["item_skipped", "item_completed"], True)],
)
def test_guidance_was_used_when_its_item_was_done_at_last(tmp_path, kinds, used):
    item = {"phase": "PLAN", "item": "parallel_execution_check"}
    logged(tmp_path, event("workflow_started"), *(event(k, at=n, **item) for n, k in enumerate(kinds, 1)))
    assert capture(tmp_path).tool[0].phase0_guidance_used is used


# Notes


@pytest.mark.parametrize(
    ("notes", "well", "challenges", "improvements", "rest"),
    [
        ("All fine, nothing labelled: really", "", "", "", "All fine, nothing labelled: really"),
        ("What went well: a. Challenges: b. Improvements: c", "a.", "b.", "c", ""),
        ("**What went well:** a\n- **Challenges faced**: b\n  more\n", "a", "b\n  more", "", ""),
        ("What went well? a\nWhat challenges did you encounter? b\nWhat could be improved? c", "a", "b", "c", ""),
        ("WENT WELL - a\nChallenge – b", "a", "b", "", ""),
        ("Challenges: none. What went well: n/a", "", "", "", ""),
        ("We met the challenges: all of them", "", "", "", "We met the challenges: all of them"),
        ("Learnings: a. Challenges: b. Lessons learned: c", "", "b.", "", "Learnings: a. Lessons learned: c"),
        ("Challenges: a\nChallenges: b\nChallenges: a", "", "a\nb", "", ""),
    ],
)
def test_labelled_passages_of_notes_are_found(notes, well, challenges, improvements, rest):
    told = passages(notes)
    assert (told["what_went_well"], told["challenges"], told["improvements"]) == (well, challenges, improvements)
    assert unlabelled(notes) == rest


def test_notes_of_the_adherence_check_tell_too_and_are_no_learnings(tmp_path):
    logged(
        tmp_path,
        event("workflow_started"),
        event("item_completed", at=1, phase="LEARN", item="workflow_adherence_check",
              notes="All rules kept. What went well: pairing"),
        event("item_completed", at=2, phase="LEARN", item="document_learnings", notes="Mock less"),
    )  # fmt: skip
    (entry,) = capture(tmp_path).process
    assert (entry.what_went_well, entry.challenges, entry.learnings) == ("pairing", "", "Mock less")


def test_a_long_note_is_read_at_once(tmp_path):
    notes = "Challenges " * 50_000 + "\n" + " " * 100_000 + "What went well: short"
    assert passages(notes)["what_went_well"] == "short"


# Answers


def test_answers_stand_above_what_the_log_says_and_only_in_the_current_workflow(tmp_path):
    logged(tmp_path, *whole(), *whole("wf_2", at=100))
    answers = Answers(reviews_worked=False, confusing_items=("terraform_plan", "initial_plan"), challenges="None left")
    captured = capture(tmp_path, answers=answers)
    before, now = captured.tool
    assert (before.mode, before.reviews_worked) == ("auto", None)
    assert (now.mode, now.reviews_worked) == ("interactive", False)
    assert now.confusing_items == (ids.item(settings.salt(), "terraform_plan"), "initial_plan")
    assert [(e.mode, e.challenges, e.what_went_well) for e in captured.process] == [
        ("auto", "slow builds", "tests first."),
        ("interactive", "None left", "tests first."),
    ]


def test_answers_survive_later_captures(tmp_path):
    logged(tmp_path, *whole()[:5])
    answers = Answers(phase0_guidance_used=True, learnings="Plan more", tool_suggestions="Fewer items")
    capture(tmp_path, answers=answers)
    assert capture(tmp_path).written == (0, 0)
    logged(tmp_path, *whole()[5:])
    captured = capture(tmp_path)
    (tool,), (process,) = captured.tool, captured.process
    assert captured.written == (1, 1)
    assert (tool.mode, tool.phase0_guidance_used, tool.tool_suggestions) == ("interactive", True, "Fewer items")
    assert (process.mode, process.learnings, process.challenges) == ("interactive", "Plan more", "slow builds")
    assert tool.duration_seconds == 30


def test_later_answers_stand_above_earlier_ones_and_leave_the_others(tmp_path):
    logged(tmp_path, *whole())
    capture(tmp_path, answers=Answers(challenges="a", improvements="b"))
    (entry,) = capture(tmp_path, answers=Answers(challenges="c")).process
    assert (entry.challenges, entry.improvements) == ("c", "b")


def test_answers_join_the_workflow_they_are_about_though_another_began_meanwhile(tmp_path):
    logged(tmp_path, *whole(), *whole("wf_2", at=100))
    captured = capture(tmp_path, answers=Answers(challenges="a"), about="wf_1")
    assert [e.mode for e in captured.process] == ["interactive", "auto"]
    with pytest.raises(ConfigError, match="wf_9 is not there"):
        capture(tmp_path, answers=Answers(challenges="a"), about="wf_9")


def test_answers_of_the_single_file_survive_a_capture_of_the_same_workflow(tmp_path):
    old = {"timestamp": "2026-01-11T12:00:00Z", "workflow_id": "wf_1", "multi_agents_used": True, "challenges": "mocks"}
    (tmp_path / entries.LEGACY_FILE).write_text(json.dumps(old) + "\n")
    logged(tmp_path, *whole())
    captured = capture(tmp_path)
    (entry,) = captured.process
    assert (entry.mode, entry.parallel_agents_used, entry.challenges) == ("interactive", True, "mocks")
    assert (entry.task, entry.what_went_well) == ("Sell Acme", "tests first.")
    held = Files(tmp_path).read(settings.salt())
    assert (held.process, len(held.tool)) == ((entry,), 1)


def test_what_cannot_be_shown_does_not_stop_a_capture(tmp_path):
    logged(tmp_path, event("workflow_started", message="Started workflow: half \ud83d"))
    captured = capture(tmp_path)
    json.dumps(captured.to_dict(), ensure_ascii=False).encode()
    assert capture(tmp_path).written == (0, 0)


def test_a_state_without_a_log_is_captured(tmp_path):
    state = {
        "workflow_id": "wf_1", "task_description": "Add login", "status": "active", "phases": {},
        "created_at": "2026-01-11T10:00:00Z", "updated_at": "2026-01-11T10:01:00Z",
    }  # fmt: skip
    (tmp_path / ".workflow_state.json").write_text(json.dumps(state))
    captured = capture(tmp_path)
    assert captured.written == (1, 1)
    assert (captured.process[0].task, captured.tool[0].items_skipped_pct) == ("Add login", None)


def test_an_error_that_was_told_joins_those_of_the_log_without_what_is_private(tmp_path):
    logged(tmp_path, *whole(), failed("boom", at=40, command="orchestrator status"))
    answers = Answers(orchestrator_errors=("orchestrator start 'Sell Acme' timed out",))
    (entry,) = capture(tmp_path, answers=answers).tool
    assert entry.orchestrator_errors == ("orchestrator status: failed", "orchestrator start: timed out")
    assert capture(tmp_path, answers=Answers(orchestrator_errors=())).written == (0, 0)


def test_a_suggestion_that_could_not_be_sent_is_told_at_once(tmp_path):
    logged(tmp_path, *whole())
    told = []
    capture(tmp_path, answers=Answers(tool_suggestions="Look at https://acme.example/board"), progress=told.append)
    assert len(told) == 1
    assert "sync will not send it" in told[0]


# Faults


@pytest.mark.parametrize("word", ["1", "true", "yes"])
def test_opted_out_nothing_is_read_migrated_or_made(tmp_path, monkeypatch, word):
    monkeypatch.setenv(settings.SKIP, word)
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    for name in (".workflow_log.jsonl", ".workflow_state.json", entries.LEGACY_FILE, entries.TOOL_FILE):
        os.mkfifo(work / name)  # who opened one would wait for ever
    captured = capture(work)
    assert settings.SKIP in captured.reason
    assert capture(tmp_path / "gone").reason == captured.reason
    assert not (tmp_path / "config").exists()
    assert len(list(work.iterdir())) == 4


def _captured_at_once(folders, together):
    for folder in folders:
        together.wait(30)
        capture(folder)


def test_captures_at_once_neither_double_nor_mix_entries(tmp_path):
    folders = [tmp_path / str(n) for n in range(10)]
    old = {"timestamp": "2026-01-01T00:00:00Z", "workflow_id": "wf_old"}
    for folder in folders:
        logged(folder, *(e for n in range(30) for e in whole(f"wf_{n}", at=100 * n)))
        (folder / entries.LEGACY_FILE).write_text(json.dumps(old) + "\n")
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    workers = [context.Process(target=_captured_at_once, args=(folders, together)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
        worker.close()
    for folder in folders:
        for name in (entries.TOOL_FILE, entries.PROCESS_FILE):
            assert len(lines(folder, name)) == 31
        assert len(list(folder.iterdir())) == 4  # the log, the two files, and the backup


def test_what_was_captured_can_be_sent(tmp_path):
    logged(
        tmp_path, *whole(), failed("KeyError: 'acme' on build.acme.example", at=40, command="orchestrator status"),
        failed("fatal: Acme", at=41, command="orchestrator start 'Sell Acme'"),
    )  # fmt: skip
    (entry,) = capture(tmp_path).tool
    assert len(entry.orchestrator_errors) == 2
    sent = anonymous.payload([entry], settings.salt(), telling.own_names(tmp_path))
    assert b"cme" not in sent


def test_a_workflow_called_unknown_is_captured_once(tmp_path):
    logged(tmp_path, event("workflow_started", "unknown"))
    assert capture(tmp_path).written == (1, 1)
    assert capture(tmp_path).written == (0, 0)
    assert lines(tmp_path, entries.PROCESS_FILE)[0]["workflow_id"] == "unknown@2026-01-11T10:00:00+00:00"


def test_every_field_of_the_answers_is_one_of_the_entries():
    names = {f.name for kind in (entries.ToolEntry, entries.ProcessEntry) for f in dataclasses.fields(kind)}
    assert {f.name for f in dataclasses.fields(Answers)} <= names
