"""The facts of workflows: from real logs and states, and from everything that can be wrong with them."""

import dataclasses
import datetime as dt
import gzip
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_lib import orchestrator
from feedback_lib.errors import ConfigError

LOG, STATE = ".workflow_log.jsonl", ".workflow_state.json"
START = dt.datetime(2026, 1, 5, 9, tzinfo=dt.UTC)
LAGGING = {"wf_ce03679d", "wf_66575d3b", "wf_6c1adfb1", "wf_c7f12380"}  # their states were kept before their last event


def event(kind, minute=0, item=None, phase=None, workflow="wf_1", message="", **details):
    at = START + dt.timedelta(minutes=minute)
    return {
        "timestamp": at.isoformat().replace("+00:00", "Z"), "event_type": kind, "workflow_id": workflow,
        "phase_id": phase, "item_id": item, "message": message, "details": details, "actor": "system",
    }  # fmt: skip


def lines(*events):
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


def written(folder, content, name=LOG):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder


def one(folder, *events):
    """The one workflow that these events tell of."""
    (workflow,) = orchestrator.read(written(folder, lines(*events))).workflows
    return workflow


def outcomes(workflow):
    return {step.item: step.outcome for step in workflow.steps}


def skipped(workflow):
    return sorted(step.item for step in workflow.steps if step.outcome == "skipped")


WHOLE = (
    event("workflow_started", 0, message="Started workflow: Add a search"),
    event("phase_started", 0, phase="PLAN"),
    event("item_skipped", 1, "clarifying_questions", "PLAN", reason="All is clear"),
    event("item_completed", 2, "initial_plan", "PLAN", notes="Written"),
    event("phase_completed", 3, phase="PLAN"),
    event("phase_started", 3, phase="EXECUTE"),
    event("verification_failed", 5, "write_tests", "EXECUTE", message="Verification failed: (exit code 1)",
          command="pytest", exit_code=1, stderr="E  KeyError: 'order-1182'"),
    event("item_skipped", 6, "write_tests", "EXECUTE", reason="Later"),
    event("item_completed", 9, "write_tests", "EXECUTE", notes="12 tests"),
    event("phase_completed", 10, phase="EXECUTE"),
    event("phase_started", 12, phase="PLAN"),
    event("phase_completed", 14, phase="PLAN"),
    event("item_completed", 15, "document_learnings", "LEARN", notes="Small steps help"),
    event("workflow_completed", 15, notes="Done"),
)  # fmt: skip


# --- the real ones ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(reference):
    folder = reference / "orchestrator"
    return folder, json.loads((folder / "derived_expected_from_log.json").read_text("utf-8"))


def facts(workflow):
    """A workflow in the form of the expected values, which somebody else derived."""
    return {
        "events": workflow.events,
        "first": workflow.started_at.isoformat().replace("+00:00", "Z"),
        "last": workflow.last_at.isoformat().replace("+00:00", "Z"),
        "skipped": skipped(workflow),
        "verification_failed": len(workflow.failures),
        "phases": dict(workflow.phases),
        "status": [] if workflow.status == "active" else [f"workflow_{workflow.status}"],
        "learnings": len(workflow.learnings),
    }


def meets(expected):
    return {**expected, "status": sorted(set(expected["status"]))}


@pytest.mark.parametrize(
    ("file", "missing"), [("workflow_log_union.jsonl", set()), ("workflow_log_full.jsonl", {"wf_4279a9ec"})]
)
def test_every_workflow_of_a_real_log_has_the_expected_facts(real, file, missing, tmp_path):
    folder, expected = real
    shutil.copyfile(folder / file, tmp_path / LOG)
    found = orchestrator.read(tmp_path)
    assert {w.id: facts(w) for w in found.workflows} == {k: meets(v) for k, v in expected.items() if k not in missing}
    assert found.rejected == ()
    assert [w.started_at for w in found.workflows] == sorted(w.started_at for w in found.workflows)


def test_both_real_logs_together_count_no_event_twice(real, tmp_path):
    folder, expected = real
    shutil.copyfile(folder / "workflow_log_full.jsonl", tmp_path / LOG)
    shutil.copyfile(folder / "workflow_log_union.jsonl", tmp_path / f"{LOG}.1")
    found = orchestrator.read(tmp_path)
    assert {w.id: facts(w) for w in found.workflows} == {k: meets(v) for k, v in expected.items()}


def test_a_real_state_alone_tells_what_the_log_told_up_to_then(real, tmp_path):
    folder, expected = real
    paths = sorted((folder / "states").iterdir())
    assert len(paths) == len(expected)
    for path in paths:
        shutil.copyfile(path, tmp_path / STATE)
        found = orchestrator.read(tmp_path)
        (workflow,) = found.workflows
        told, wanted = facts(workflow), meets(expected[workflow.id])
        assert found.current == workflow.id
        assert found.rejected == ()
        assert workflow.events == 0
        assert set(told["skipped"]) <= set(wanted["skipped"])
        assert workflow.definition is not None
        if workflow.id not in LAGGING:
            assert told["skipped"] == wanted["skipped"]
            assert told["learnings"] == wanted["learnings"]
            assert told["status"] == wanted["status"]
            assert {"PLAN", "EXECUTE", "REVIEW", "VERIFY"} & set(wanted["phases"]) <= set(told["phases"])
            assert all(abs(s - wanted["phases"][phase]) <= 1 for phase, s in told["phases"].items())


def test_a_real_state_beside_the_log_adds_the_definition_and_changes_no_fact(real, tmp_path):
    folder, expected = real
    shutil.copyfile(folder / "workflow_log_union.jsonl", tmp_path / LOG)
    for path in sorted((folder / "states").iterdir()):
        shutil.copyfile(path, tmp_path / STATE)
        found = orchestrator.read(tmp_path)
        assert {w.id: facts(w) for w in found.workflows} == {k: meets(v) for k, v in expected.items()}
        (current,) = [w for w in found.workflows if w.id == found.current]
        assert [w.id for w in found.workflows if w.definition is not None] == [current.id]
        assert orchestrator.custom_items(current) == ()  # the tool's own repository uses the tool's own definition


def test_errors_of_the_real_log_are_the_projects_though_its_folder_has_the_tools_name(real, tmp_path):
    shutil.copyfile(real[0] / "workflow_log_union.jsonl", tmp_path / LOG)
    failures = [failure for w in orchestrator.read(tmp_path).workflows for failure in w.failures]
    assert len(failures) == 8
    assert sum("/workflow-orchestrator/" in failure.text for failure in failures) == 7
    assert not any(failure.by_tool for failure in failures)


# --- one workflow -----------------------------------------------------------------------------------------------------


def test_the_facts_of_a_workflow(tmp_path):
    workflow = one(tmp_path, *WHOLE)
    assert (workflow.id, workflow.task, workflow.status) == ("wf_1", "Add a search", "completed")
    assert workflow.last_at - workflow.started_at == dt.timedelta(minutes=15)
    assert workflow.phases == {"PLAN": 3 * 60 + 2 * 60, "EXECUTE": 7 * 60}
    assert outcomes(workflow)["write_tests"] == "completed"  # the last event of an item decides
    assert skipped(workflow) == ["clarifying_questions"]
    assert workflow.learnings == ("Small steps help",)
    (failure,) = workflow.failures
    assert failure.message == "pytest: E  KeyError: 'order-1182'"
    assert "exit code 1" in failure.text
    assert "$ pytest" in failure.text
    assert workflow.where == LOG
    assert dataclasses.asdict(workflow)["id"] == "wf_1"


def test_names_of_folders_are_told_without_what_would_write_on_a_terminal(tmp_path):
    session = tmp_path / ".orchestrator" / "sessions" / "s\x1b]0;x\x07\nb"
    session.mkdir(parents=True)
    (session / "log.jsonl").write_bytes(lines(event("workflow_started")) + b"{\n")
    found = orchestrator.read(tmp_path)
    told = [*found.files, *(one.where for one in found.rejected), *(w.where for w in found.workflows)]
    assert len(told) == 3
    assert all(name.isprintable() for name in told)
    assert found.files == (".orchestrator/sessions/s\\x1b]0;x\\x07\\x0ab/log.jsonl",)


def test_an_item_completed_and_then_skipped_is_skipped_with_the_reason(tmp_path):
    workflow = one(
        tmp_path,
        event("item_completed", 1, "update_roadmap", "LEARN", notes="x"),
        event("item_skipped", 2, "update_roadmap", "LEARN", reason="Undone"),
    )
    assert [(s.outcome, s.text) for s in workflow.steps] == [("skipped", "Undone")]


def test_a_phase_still_open_has_no_seconds(tmp_path):
    assert one(tmp_path, event("phase_started", 0, phase="PLAN")).phases == {}
    assert one(tmp_path, event("phase_completed", 0, phase="PLAN")).phases == {}


def test_a_phase_that_ends_and_begins_again_at_one_moment_keeps_both_times(tmp_path):
    workflow = one(
        tmp_path,
        event("phase_started", 0, phase="PLAN"),
        event("phase_completed", 2, phase="PLAN"),
        event("phase_started", 2, phase="PLAN"),
        event("phase_completed", 5, phase="PLAN"),
    )
    assert workflow.phases == {"PLAN": 300}


def test_seconds_are_cut_not_rounded(tmp_path):
    began, ended = event("phase_started", 0, phase="PLAN"), event("phase_completed", 0, phase="PLAN")
    ended["timestamp"] = "2026-01-05T09:00:59.999999Z"
    assert one(tmp_path, began, ended).phases == {"PLAN": 59}


@pytest.mark.parametrize(
    ("last", "status"),
    [("workflow_completed", "completed"), ("workflow_abandoned", "abandoned"), ("item_completed", "active")],
)
def test_the_status_is_the_last_end(last, status, tmp_path):
    assert one(tmp_path, event("workflow_started"), event(last, 1)).status == status
    earlier = event("workflow_completed" if status == "abandoned" else "workflow_abandoned", 0)
    assert one(tmp_path, earlier, event(last, 1)).status == (status if status != "active" else "abandoned")


def test_an_item_without_a_phase_is_found_in_the_definition(tmp_path):
    workflow = one(
        tmp_path, event("item_completed", 0, "security_review"), event("item_completed", 0, "terraform_plan")
    )
    assert {s.item: s.phase for s in workflow.steps} == {"security_review": "REVIEW", "terraform_plan": "UNKNOWN"}


# --- whose error ------------------------------------------------------------------------------------------------------

INSTALLED = "/opt/env/lib/python3.12/site-packages/src/engine.py"
OWN = "/home/user/workflow-orchestrator/src/engine.py"


def trace(*paths, error="KeyError: 'phase'"):
    frames = "".join(f'  File "{path}", line 10, in run\n    go()\n' for path in paths)
    return f"Traceback (most recent call last):\n{frames}{error}\n"


@pytest.mark.parametrize(
    ("kind", "message", "details"),
    [
        ("error", "orchestrator prd spawn: command not found", {}),
        ("error", "bash: line 1: orchestrator: command not found", {}),
        ("verification_failed", "Verification failed", {"command": "orchestrator validate", "stderr": "boom"}),
        ("gate_failed", "Gate failed", {"command": "cd api && CI=1 /usr/local/bin/orchestrator status"}),
        ("gate_failed", "Gate failed", {"command_args": ["orchestrator", "status"]}),
        ("gate_failed", "Gate failed", {"command": ".venv/bin/orchestrator status"}),
        ("error", "KeyError", {"traceback": trace(r"C:\env\Lib\site-packages\src\cli.py")}),
        ("error", "KeyError", {"traceback": trace("/home/a/api/run.py", INSTALLED)}),
        ("error", "KeyError", {"traceback": trace(INSTALLED, "/usr/lib/python3.12/json/decoder.py")}),
        ("error", "KeyError", {"traceback": trace("/x/pipx/venvs/workflow-orchestrator/src/cli.py")}),
        ("error", "It broke", {"component": "orchestrator"}),
        ("error", "It broke", {"source": "Workflow-Orchestrator"}),
        ("review_failed", "Review failed", {"error": "no API key", "review_type": "security"}),
    ],
)
def test_an_error_of_the_tool_itself(kind, message, details, tmp_path):
    (failure,) = one(tmp_path, event(kind, 0, None, "EXECUTE", message=message, **details)).failures
    assert failure.by_tool


@pytest.mark.parametrize(
    ("kind", "message", "details"),
    [
        ("error", "orchestrator pod was evicted", {}),
        ("error", "orchestrator: connection refused", {}),
        ("error", "Connection timeout to test DB", {"component": "database"}),
        ("error", "orchestrator status: it broke", {"source": "project"}),
        ("verification_failed", "Failed", {"command": "pytest /home/a/workflow-orchestrator/tests"}),
        ("verification_failed", "Failed", {"command": "npm test && orchestrator advance"}),
        ("verification_failed", "Failed", {"command": "grep orchestrator setup.py"}),
        ("verification_failed", "Failed", {"command": "cd orchestrator"}),
        ("verification_failed", "Failed", {"command": "./orchestrator status"}),
        ("verification_failed", "Failed", {"command": "scripts/orchestrator start"}),
        ("error", "KeyError", {"traceback": trace("/a/.venv/lib/python3.12/site-packages/src/billing.py")}),
        ("verification_failed", "Failed", {"command": "pytest", "stdout": trace(OWN)}),
        ("error", "KeyError", {"traceback": trace(INSTALLED, "/home/a/api/run.py")}),
        ("error", "KeyError", {"traceback": trace("/env/lib/python3.12/site-packages/requests/api.py")}),
        ("error", "KeyError", {"traceback": trace(INSTALLED) + "\nDuring handling of that:\n\n" + trace("/a/b.py")}),
        ("review_failed", "Review failed: Blocking issues found", {"review_notes": "SQL injection", "error": None}),
        ("error", "", {}),
    ],
)
def test_an_error_of_the_project_or_of_nobody_provably(kind, message, details, tmp_path):
    (failure,) = one(tmp_path, event(kind, 0, None, "EXECUTE", message=message, **details)).failures
    assert not failure.by_tool
    assert failure.message
    assert failure.text


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (trace("/a/b.py", error="ValueError: no such day\nmore"), "ValueError: no such day"),
        ("3 items\nE   ImportError: No module 'x'\n1 failed", "E   ImportError: No module 'x'"),
        ("npm error code ENOENT\nnpm error Error: ENOENT: no file", "npm error Error: ENOENT: no file"),
        ("building\nfatal: not a git repository\ndone", "fatal: not a git repository"),
        ("one\ntwo\n\n", "two"),
    ],
)  # fmt: skip
def test_the_line_that_names_the_error(printed, line, tmp_path):
    (failure,) = one(
        tmp_path, event("gate_failed", 0, "all_tests_pass", "EXECUTE", command="make", stderr=printed)
    ).failures
    assert failure.message == f"make: {line}"


def test_a_message_is_told_without_the_words_every_one_begins_with(tmp_path):
    failed = event(
        "verification_failed", 0, "initial_plan", "PLAN", message="Verification failed: File not found: plan.md"
    )
    (failure,) = one(
        tmp_path, failed | {"details": {"type": "file_exists", "path": "/x/plan.md", "exists": False}}
    ).failures
    assert (failure.message, failure.text) == (
        "File not found: plan.md",
        "Verification failed: File not found: plan.md",
    )


def test_a_long_output_keeps_its_beginning_and_its_end(tmp_path):
    printed = "begun\n" + "x" * 3_000_000 + "\nTypeError: the end"
    (failure,) = one(tmp_path, event("gate_failed", 0, command="make", stdout=printed)).failures
    assert len(failure.text) < 25_000
    assert failure.message == "make: TypeError: the end"
    assert "begun" in failure.text


@pytest.mark.parametrize(
    "text", ["A" * 100_000, "not " * 30_000, "used a " * 20_000, "A=b " * 20_000, "could not be " * 9_000]
)
def test_no_text_takes_long_to_look_through(text, tmp_path):
    began = time.perf_counter()
    workflow = one(
        tmp_path,
        event("error", 0, message=text, traceback=trace("/a" * 300, error=text)),
        event("gate_failed", 1, command=text, stderr=text),
        event("item_completed", 2, "parallel_execution_check", "PLAN", notes=text),
        event("item_completed", 3, "security_review", "REVIEW", notes=text),
    )
    assert time.perf_counter() - began < 5  # 0.1 s on an idle machine
    assert max(len(failure.text) for failure in workflow.failures) < 100_000


# --- reviews, parallel work -------------------------------------------------------------------------------------------

_DONE = {"notes": "No issue found"}


@pytest.mark.parametrize(
    ("events", "worked"),
    [
        ([], None),
        ([event("item_completed", 1, "quality_review", "REVIEW", **_DONE)], True),
        ([event("item_completed", 1, "quality_review", "VERIFY", **_DONE)], None),
        ([event("item_completed", 1, "refactoring_assessment", "REVIEW", **_DONE)], None),
        ([event("item_skipped", 1, "quality_review", "REVIEW", reason="No time")], None),
        ([event("item_completed", 1, "quality_review", "REVIEW", notes="DEFERRED: no API key")], None),
        ([event("item_completed", 1, "quality_review", "REVIEW", notes="Review was not run, no key")], None),
        ([event("item_completed", 1, "quality_review", "REVIEW", notes="Passed. Slow tests were not run")], True),
        ([event("review_completed", 1, None, "REVIEW", review_type="security")], True),
        ([event("review_failed", 1, None, "REVIEW", review_type="security", error="no key")], False),
        ([event("review_failed", 1, None, "REVIEW", review_type="security")], False),
        ([event("review_failed", 1, None, "REVIEW", review_type="security", blocking_count=2, error=None)], True),
        ([event("review_failed", 1, "security_review", "REVIEW", error="no key"),
          event("review_completed", 2, None, "REVIEW", review_type="security")], True),
        ([event("review_failed", 1, None, "REVIEW", review_type="security", error="no key"),
          event("review_completed", 2, None, "REVIEW", review_type="quality")], False),
    ],
)  # fmt: skip
def test_whether_reviews_worked(events, worked, tmp_path):
    assert one(tmp_path, event("workflow_started"), *events).reviewed is worked


@pytest.mark.parametrize(
    ("notes", "used"),
    [
        ("Will use parallel execution: two independent modules", True),
        ("Decision: Will use [parallel] execution because they are independent; not sequential", True),
        ("Used 3 agents in parallel", True),
        ("Launched 4 parallel agents in a single message", True),
        ("Initially planned sequential work, then spawned 2 agents", True),
        ("Parallel agents were used", True),
        ("parallel: yes", True),
        ("Will use sequential execution because all is in one file", False),
        ("Considered parallel execution, but the tasks are sequential", False),
        ("Parallel execution not applicable - single file", False),
        ("Did not use parallel agents", False),
        ("Should have used parallel agents", False),
        ("No parallel agents", False),
        ("Not needed: one module", False),
        ("N/A", False),
        ("Considered parallel execution", None),
        ("Could use parallel agents", None),
        ("Fixed the parallel test runner", None),
        ("Compatible with multiple agents", None),
        ("No problem", None),
        ("", None),
    ],
)
def test_whether_agents_worked_in_parallel(notes, used, tmp_path):
    assert one(tmp_path, event("item_completed", 1, "parallel_execution_check", "PLAN", notes=notes)).parallel is used


@pytest.mark.parametrize(
    ("events", "used"),
    [
        ([event("item_completed", 1, "implement_code", "EXECUTE", notes="Used 3 agents in parallel")], None),
        ([event("error", 1, message="parallel agents failed")], None),
        ([event("item_skipped", 1, "parallel_execution_check", "PLAN", reason="One file")], False),
        ([event("item_skipped", 1, "workflow_adherence_check", "LEARN", reason="No time")], None),
        ([event("item_completed", 1, "parallel_execution_check", "PLAN", notes="Will use parallel execution"),
          event("item_completed", 2, "workflow_adherence_check", "LEARN", notes="Did not use parallel agents")], False),
        ([event("note_added", 1, agents=["a", "b"])], True),
        ([event("note_added", 1, agents=["a", "a"])], None),
        ([event("note_added", 1, agent_count=3)], True),
        ([event("note_added", 1, agent_count=1)], None),
        ([event("note_added", 1, agents=[{"id": 1}, None, {"id": 2}])], True),
    ],
)  # fmt: skip
def test_only_what_says_so_tells_of_parallel_work(events, used, tmp_path):
    assert one(tmp_path, *events).parallel is used


# --- files as they are ------------------------------------------------------------------------------------------------


def test_no_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        orchestrator.read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        orchestrator.read(tmp_path / "file")


def test_an_empty_folder_holds_nothing(tmp_path):
    nothing = orchestrator.Found(workflows=(), rejected=(), files=(), current=None)
    assert orchestrator.read(tmp_path) == nothing
    assert orchestrator.read(written(tmp_path, b"")) == dataclasses.replace(nothing, files=(LOG,))


def test_a_half_last_line_is_no_event_yet_and_no_fault(tmp_path):
    whole = lines(*WHOLE)
    for cut in (len(whole) - 2, len(whole) - 40, whole.rindex(b"\n", 0, -1) + 2):
        found = orchestrator.read(written(tmp_path, whole[:cut]))
        assert found.rejected == ()
        assert found.workflows[0].events == len(WHOLE) - 1
    complete = orchestrator.read(written(tmp_path, whole[:-1]))  # only the line's end is missing
    assert complete.workflows[0].events == len(WHOLE)
    half = orchestrator.read(
        written(tmp_path, lines(event("error", 0, message="é")).replace(b"\\u00e9", b"\xc3")[:-20])
    )
    assert half.rejected == ()


def test_a_half_line_is_a_fault_where_nobody_writes_any_more(tmp_path):
    found = orchestrator.read(written(tmp_path, lines(*WHOLE)[:-3], f"{LOG}.1"))
    assert [bad.where for bad in found.rejected] == [f"{LOG}.1:{len(WHOLE)}"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json}", "no JSON"),
        (b'{"a": 1}{"b": 2}', "no JSON"),
        (b"\x00\x00\x00", "no JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'{"event_type": "x", "workflow_id": "w", "timestamp": "2026-01-01"}'.replace(b"x", b"\xff"), "not UTF-8"),
        (lines(event("x") | {"workflow_id": None})[:-1], "no workflow_id"),
        (lines({k: v for k, v in event("x").items() if k != "workflow_id"})[:-1], "no workflow_id"),
        (lines(event("x") | {"workflow_id": 7})[:-1], "no workflow_id"),
        (lines({"type" if k == "event_type" else k: v for k, v in event("x").items()})[:-1], "no event_type"),
        (lines(event("x") | {"timestamp": None})[:-1], "timestamp is no time"),
        (lines(event("x") | {"timestamp": 1767603600})[:-1], "timestamp is no time"),
        (lines(event("x") | {"timestamp": "yesterday"})[:-1], "ISO 8601"),
        (lines(event("x") | {"timestamp": "0001-01-01T00:00:00+14:00"})[:-1], "no time"),
        (lines(event("x") | {"timestamp": "1969-12-31T00:00:00Z"})[:-1], "1970 to 2199"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "digits"),
        (b"x" * (orchestrator.LONGEST_LINE + 5), "longer than 16 MB"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_the_others_load(line, reason, tmp_path):
    content = lines(*WHOLE[:3]) + line + b"\n" + lines(*WHOLE[3:])
    found = orchestrator.read(written(tmp_path, content))
    assert [bad.where for bad in found.rejected] == [f"{LOG}:4"]
    assert reason in found.rejected[0].reason
    assert found.workflows[0].events == len(WHOLE)


@pytest.mark.parametrize(
    "changed",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\n", b"\n\n  \n"),
        lambda content: content.replace(b'Z"', b'"'),  # times without a zone are UTC
        lambda content: content.replace(b'Z"', b'+00:00"'),
    ],
    ids=["BOM", "CRLF", "empty lines", "no zone", "offset"],
)
def test_a_log_is_read_however_it_was_saved(changed, tmp_path):
    plain = one(tmp_path, *WHOLE)
    found = orchestrator.read(written(tmp_path, changed(lines(*WHOLE))))
    assert found.rejected == ()
    assert found.workflows == (plain,)


def test_missing_and_odd_fields_do_no_harm(tmp_path):
    bare = {k: event("item_completed", 1)[k] for k in ("timestamp", "event_type", "workflow_id")}
    odd = event("item_skipped", 2, "x", "PLAN") | {"details": ["reason"], "message": 7, "phase_id": 3}
    nan = lines(event("gate_failed", 3, command="make")).replace(b'"make"', b'"make", "exit_code": NaN')
    found = orchestrator.read(written(tmp_path, lines(bare, odd) + nan))
    assert found.rejected == ()
    (workflow,) = found.workflows
    assert workflow.events == 3
    assert outcomes(workflow) == {"x": "skipped"}


def test_half_a_surrogate_pair_is_replaced(tmp_path):
    workflow = one(tmp_path, event("item_skipped", 0, "x", "PLAN", reason="a \ud83d b"))
    assert workflow.steps[0].text.encode("utf-8") == b"a ? b"


def test_rotated_logs_are_read_too_also_packed_and_damaged_ones(tmp_path):
    written(tmp_path, lines(*WHOLE[9:]))
    written(tmp_path, lines(*WHOLE[4:10]), f"{LOG}.1")  # one line stands in both
    written(tmp_path, gzip.compress(lines(*WHOLE[:4])), f"{LOG}.2.gz")
    written(tmp_path, b"", f"{LOG}.lock")
    found = orchestrator.read(tmp_path)
    assert found.files == (f"{LOG}.1", f"{LOG}.2.gz", LOG)
    assert found.rejected == ()
    (tmp_path / "whole").mkdir()
    assert found.workflows == (one(tmp_path / "whole", *WHOLE),)
    written(tmp_path, gzip.compress(lines(*WHOLE))[:-20], f"{LOG}.3.gz")
    assert "damaged" in orchestrator.read(tmp_path).rejected[0].reason


def test_a_file_that_cannot_be_opened_is_told_and_the_rest_is_read(tmp_path):
    written(tmp_path, lines(*WHOLE), f"{LOG}.1")
    (tmp_path / LOG).mkdir()
    (tmp_path / STATE).mkdir()
    found = orchestrator.read(tmp_path)
    assert sorted(bad.where for bad in found.rejected) == [LOG, STATE]
    assert all("cannot be read" in bad.reason for bad in found.rejected)
    assert len(found.workflows) == 1


# --- states and sessions ----------------------------------------------------------------------------------------------


def state(workflow="wf_1", **changes):
    item = {"id": "initial_plan", "status": "completed", "completed_at": "2026-01-05T09:02:00Z", "notes": "Written"}
    skip = {
        "id": "terraform_plan",
        "status": "skipped",
        "skipped_at": "2026-01-05T09:01:00Z",
        "skip_reason": "None yet",
    }
    phase = {"id": "PLAN", "started_at": "2026-01-05T09:00:00Z", "completed_at": "2026-01-05T09:03:00.9Z",
             "items": {"initial_plan": item, "terraform_plan": skip, "user_approval": {}}}  # fmt: skip
    return {
        "workflow_id": workflow, "task_description": "Add a search", "status": "active", "phases": {"PLAN": phase},
        "created_at": "2026-01-05T09:00:00Z", "updated_at": "2026-01-05T09:03:01Z", "completed_at": None,
        "workflow_definition": {"phases": [
            {"id": "PLAN", "items": [{"id": "initial_plan"}, {"id": "terraform_plan"}, {"id": "user_approval"}]},
        ]},
        **changes,
    }  # fmt: skip


def with_state(folder, *states, name=STATE):
    return written(folder, b"".join(json.dumps(one).encode() for one in states), name)


def test_a_state_stands_in_where_there_is_no_log(tmp_path):
    found = orchestrator.read(with_state(tmp_path, state()))
    (workflow,) = found.workflows
    assert (workflow.id, workflow.task, workflow.events, found.current) == ("wf_1", "Add a search", 0, "wf_1")
    assert workflow.phases == {"PLAN": 180}
    assert {s.item: (s.outcome, s.text) for s in workflow.steps} == {
        "initial_plan": ("completed", "Written"), "terraform_plan": ("skipped", "None yet"),
    }  # fmt: skip
    assert workflow.last_at == dt.datetime(2026, 1, 5, 9, 3, 0, 900_000, dt.UTC)  # what happened, not when it was saved
    assert orchestrator.custom_items(workflow) == ("terraform_plan",)


def test_the_log_is_the_truth_beside_a_state_that_says_something_else(tmp_path):
    written(tmp_path, lines(*(e for e in WHOLE if e["event_type"] != "workflow_started")))
    found = orchestrator.read(with_state(tmp_path, state(status="abandoned")))
    (workflow,) = found.workflows
    assert (workflow.task, workflow.status, workflow.events) == ("Add a search", "completed", len(WHOLE) - 1)
    assert skipped(workflow) == ["clarifying_questions"]
    assert workflow.definition == {"PLAN": ("initial_plan", "terraform_plan", "user_approval")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"), (b'{"workflow_id": "wf', "no JSON"), (b"[]", "not an object"), (b"\xff\xfe", "not UTF-8"),
        (b"{}", "no workflow_id"), (b'{"workflow_id": "wf_1"}', "no time"), (b"[" * 100_000, "too deep"),
    ],
)  # fmt: skip
def test_a_bad_state_is_told_and_the_log_is_read(content, reason, tmp_path):
    written(tmp_path, lines(*WHOLE))
    found = orchestrator.read(written(tmp_path, content, STATE))
    assert [bad.where for bad in found.rejected] == [STATE]
    assert reason in found.rejected[0].reason
    assert len(found.workflows) == 1
    assert found.current is None


@pytest.mark.parametrize(
    "changes",
    [
        {"phases": None, "workflow_definition": None},
        {"phases": [], "workflow_definition": []},
        {"phases": {"PLAN": None, "LEARN": 3}, "workflow_definition": {"phases": None}},
        {"phases": {"PLAN": {"items": None, "started_at": 7}}, "workflow_definition": {"phases": [None, {"id": 3}]}},
        {"phases": {"PLAN": {"items": {"x": None, "y": {"status": 7}}}}, "workflow_definition": "x"},
        {"status": None, "task_description": None, "phases": {"PLAN": {"completed_at": "2026-01-05T08:00:00Z"}}},
    ],
)
def test_a_state_of_another_shape_tells_what_it_can(changes, tmp_path):
    found = orchestrator.read(with_state(tmp_path, state(**changes)))
    assert found.rejected == ()
    assert [w.id for w in found.workflows] == ["wf_1"]
    assert found.workflows[0].status == "active"


def test_items_of_a_state_may_be_a_list(tmp_path):
    phases = {"PLAN": {"items": [{"id": "x", "status": "skipped"}, {"status": "skipped"}, None]}}
    (workflow,) = orchestrator.read(with_state(tmp_path, state(phases=phases, workflow_definition=None))).workflows
    assert skipped(workflow) == ["x"]
    assert workflow.definition == {"PLAN": ("x",)}


def test_a_failed_item_of_a_state_is_a_failure(tmp_path):
    held = {"status": "failed", "notes": "no", "verification_result": {"command": "make", "stderr": "OSError: full"}}
    (workflow,) = orchestrator.read(with_state(tmp_path, state(phases={"PLAN": {"items": {"x": held}}}))).workflows
    assert [f.message for f in workflow.failures] == ["make: OSError: full"]


def session(folder, name, *events, about=None):
    if events:
        written(folder, lines(*events), f".orchestrator/sessions/{name}/log.jsonl")
    if about:
        with_state(folder, about, name=f".orchestrator/sessions/{name}/state.json")
    return folder


def test_sessions_are_read_and_current_names_the_one_at_work(tmp_path):
    session(tmp_path, "aaaa1111", *WHOLE, about=state())
    session(tmp_path, "bbbb2222", about=state("wf_2", created_at="2026-01-06T09:00:00Z"))
    with_state(tmp_path, state("wf_0"))
    written(tmp_path, b"\xef\xbb\xbfbbbb2222\r\n", ".orchestrator/current")
    found = orchestrator.read(tmp_path)
    assert sorted(w.id for w in found.workflows) == ["wf_0", "wf_1", "wf_2"]
    assert found.current == "wf_2"
    assert found.files == (
        ".orchestrator/sessions/aaaa1111/log.jsonl", STATE, ".orchestrator/sessions/aaaa1111/state.json",
        ".orchestrator/sessions/bbbb2222/state.json",
    )  # fmt: skip
    written(tmp_path, b"../../..", ".orchestrator/current")
    assert orchestrator.read(tmp_path).current == "wf_0"


def test_the_newer_layout_without_sessions_is_read(tmp_path):
    written(tmp_path, lines(*WHOLE), ".orchestrator/log.jsonl")
    found = orchestrator.read(with_state(tmp_path, state(), name=".orchestrator/state.json"))
    assert (len(found.workflows), found.current) == (1, "wf_1")


def test_a_state_of_the_tools_agents_is_about_something_else(tmp_path):
    found = orchestrator.read(with_state(tmp_path, {"tasks": {"task-1": {}}}, name=".orchestrator/state.json"))
    assert (found.workflows, found.rejected) == ((), ())


def test_a_workflow_in_both_layouts_is_one_and_the_newer_state_counts(tmp_path):
    written(tmp_path, lines(*WHOLE[:9]))
    session(tmp_path, "aaaa1111", *WHOLE, about=state(task_description="Add a search, and quickly"))
    older = state(phases={}, workflow_definition=None, updated_at="2026-01-05T09:00:01Z")
    (workflow,) = orchestrator.read(with_state(tmp_path, older)).workflows
    assert workflow.events == len(WHOLE)
    assert workflow.task == "Add a search, and quickly"
    assert workflow.definition is not None


def test_a_link_in_a_circle_is_no_way_into_it(tmp_path):
    session(tmp_path, "aaaa1111", *WHOLE)
    (tmp_path / ".orchestrator/sessions/loop").symlink_to(tmp_path / ".orchestrator")
    (tmp_path / STATE).symlink_to(tmp_path / "gone.json")
    found = orchestrator.read(tmp_path)
    assert len(found.workflows) == 1
    assert [bad.where for bad in found.rejected] == [STATE]


# --- order, repetition, size ------------------------------------------------------------------------------------------

_SOME = st.lists(
    st.builds(
        event,
        st.sampled_from(
            ["workflow_started", "phase_started", "phase_completed", "item_completed", "item_skipped", "item_failed",
             "verification_failed", "review_failed", "review_completed", "workflow_completed", "workflow_abandoned"]
        ),
        st.integers(0, 6),
        st.sampled_from([None, "security_review", "parallel_execution_check", "document_learnings", "own"]),
        st.sampled_from([None, "PLAN", "REVIEW"]),
        st.sampled_from(["wf_1", "wf_2"]),
        st.sampled_from(["", "Started workflow: x", "Started workflow: y"]),
        notes=st.sampled_from(["", "Will use parallel execution", "sequential"]),
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(events=_SOME, seed=st.integers(0, 99))
def test_neither_the_order_of_lines_nor_their_repetition_changes_a_fact(events, seed):
    chance = random.Random(seed)
    mixed = [*events, *chance.choices(events, k=len(events) // 2)]
    chance.shuffle(mixed)
    cut = chance.randrange(len(mixed) + 1)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        plain = orchestrator.read(written(Path(first), lines(*events)))
        written(Path(second), lines(*mixed[:cut]), f"{LOG}.1")
        again = orchestrator.read(written(Path(second), lines(*mixed[cut:])))
    assert again.rejected == plain.rejected == ()
    assert [dataclasses.replace(w, where="") for w in again.workflows] == [
        dataclasses.replace(w, where="") for w in plain.workflows
    ]


def test_an_event_written_in_another_notation_is_the_same_event(tmp_path):
    again = [
        dict(reversed(list(e.items()))) | {"timestamp": e["timestamp"][:-1] + ".000+00:00", "session": "x"}
        for e in WHOLE
    ]
    plain = one(tmp_path, *WHOLE)
    assert one(tmp_path, *WHOLE, *again) == plain
    assert one(tmp_path, *WHOLE, WHOLE[6] | {"details": {"command": "make"}}).events == plain.events + 1


@pytest.mark.thorough  # of speed
def test_a_hundred_thousand_events_are_read_in_seconds(tmp_path):
    many = (
        event("item_completed", n % 900, f"item_{n % 40}", "EXECUTE", f"wf_{n % 500}", notes=f"done {n}")
        for n in range(100_000)
    )
    written(tmp_path, lines(*many))
    began = time.perf_counter()
    found = orchestrator.read(tmp_path)
    assert time.perf_counter() - began < 20  # 2 s on an idle machine
    assert len(found.workflows) == 500
    assert sum(w.events for w in found.workflows) == 100_000


# --- the tool, the project --------------------------------------------------------------------------------------------


def test_the_items_of_the_tool_are_those_of_its_published_definitions(real):
    import yaml

    known = orchestrator.default_items()
    assert list(known) == ["PLAN", "EXECUTE", "REVIEW", "VERIFY", "DOCUMENT", "LEARN"]
    for path in sorted((real[0] / "workflow_yaml").glob("default_workflow.*.yaml")):
        for phase in yaml.safe_load(path.read_text("utf-8"))["phases"]:
            assert {item["id"] for item in phase["items"]} <= set(known[phase["id"]])
    assert len({item for items in known.values() for item in items}) == sum(map(len, known.values()))


def test_custom_items_are_those_the_tool_does_not_ship(tmp_path):
    workflow = one(
        tmp_path,
        event("item_completed", 0, "initial_plan", "PLAN"),
        event("item_skipped", 1, "terraform_plan", "PLAN", reason="x"),
        event("verification_failed", 2, "db_migration_check", "PLAN"),
        event("item_completed", 3, "refactoring_assessment", "REVIEW"),  # of an earlier version of the tool
    )
    assert orchestrator.custom_items(workflow) == ("terraform_plan", "db_migration_check")
    # of a state that lags behind, the definition lacks what the log skipped; reviews name it nevertheless
    later = dataclasses.replace(workflow, definition={"PLAN": ("initial_plan", "security_drill")})
    assert orchestrator.custom_items(later) == ("security_drill", "terraform_plan", "db_migration_check")


@pytest.mark.parametrize(
    ("files", "language"),
    [
        (["pyproject.toml", "package.json"], "python"), (["setup.py"], "python"), (["package.json"], "javascript"),
        (["go.mod"], "go"), (["Cargo.toml"], "rust"), (["requirements.txt"], "python"),
        (["requirements.txt", "package.json"], "javascript"), (["README.md"], "unknown"), ([], "unknown"),
    ],
)  # fmt: skip
def test_the_language_of_a_project(files, language, tmp_path):
    for name in files:
        (tmp_path / name).touch()
    assert orchestrator.repo_type(tmp_path) == language


def git(folder, *args):
    subprocess.run(["git", "-C", folder, *args], check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("https://github.com/user/my-api.git", "github.com/user/my-api"),
        ("https://user:s3cret@github.com/user/my-api", "github.com/user/my-api"),
        ("https://ghp_0123456789abcdefghij@GitHub.com/user/my-api.git/", "github.com/user/my-api"),
        ("git@github.com:user/my-api.git", "github.com/user/my-api"),
        ("ssh://git@host.example:2222/team/my-api.git", "host.example/team/my-api"),
        ("https://host.example/a/b.git?private_token=s3cret#x", "host.example/a/b"),
        ("/home/jane/my-api.git", "unknown"),
        ("../my-api", "unknown"),
        ("file:///home/jane/my-api.git", "unknown"),
        ("C:\\Users\\jane\\my-api", "unknown"),
        ("https://[broken/x", "unknown"),
    ],
)
def test_a_repository_is_named_without_credentials(address, named, tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", address)
    assert orchestrator.repo(tmp_path) == named


def test_a_repository_that_is_not_there_is_unknown(tmp_path, monkeypatch):
    assert orchestrator.repo(tmp_path) == "unknown"
    git(tmp_path, "init", "-q")
    assert orchestrator.repo(tmp_path) == "unknown"
    git(tmp_path, "remote", "add", "upstream", "https://host.example/a/b")
    assert orchestrator.repo(tmp_path) == "host.example/a/b"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook of another repository
    assert orchestrator.repo(tmp_path) == "host.example/a/b"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert orchestrator.repo(tmp_path) == "unknown"  # there is no git


def test_a_git_that_breaks_is_as_none(tmp_path, monkeypatch):
    broken = tmp_path / "git"
    broken.write_text("no program")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert orchestrator.repo(tmp_path) == "unknown"
    broken.write_text("#!/bin/sh\nexit 128\n")
    assert orchestrator.repo(tmp_path) == "unknown"


@pytest.mark.parametrize(
    ("project", "version"),
    [
        ('[project]\nname = "Workflow_Orchestrator"\nversion = "3.0.0"\n', "3.0.0"),
        ('[project]\nname = "workflow-orchestrator"\ndynamic = ["version"]\n', "unknown"),
        ('[project]\nname = "workflow-orchestrator"\nversion = "for jane@example.org"\n', "unknown"),
        ('[project]\nname = "my-api"\nversion = "1.0"\n', "unknown"),
        ("project = 3\n", "unknown"),
        ("not toml", "unknown"),
    ],
)
def test_the_version_of_the_tool_is_that_of_the_project_when_it_is_the_tool(project, version, tmp_path):
    (tmp_path / "pyproject.toml").write_text(project, "utf-8")
    assert orchestrator.tool_version(tmp_path) == version


@pytest.mark.parametrize("backport", [False, True], ids=["standard", "importlib_metadata"])
def test_the_version_of_the_tool_is_that_of_the_projects_environment(tmp_path, backport):
    if backport:
        pytest.importorskip("importlib_metadata")  # once it is there it answers, and raises where the other says None
    assert orchestrator.tool_version(tmp_path) == "unknown"
    folder = tmp_path / ".venv/lib/python3.12/site-packages/workflow_orchestrator-2.6.0.dist-info"
    folder.mkdir(parents=True)
    assert orchestrator.tool_version(tmp_path) == "unknown"  # an installation that broke off
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: workflow-orchestrator\nVersion: 2.6.0\n")
    assert orchestrator.tool_version(tmp_path) == "2.6.0"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_log_nobody_may_read_is_told(tmp_path):
    written(tmp_path, lines(*WHOLE))
    (tmp_path / LOG).chmod(0)
    assert [bad.where for bad in orchestrator.read(tmp_path).rejected] == [LOG]
