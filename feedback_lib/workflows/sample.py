"""A sample workflow log: two months of invented workflows of the team that builds Beacon, which does not exist.

What is planted: three items that nearly everyone skips; one that is skipped since version 2.6.0; planning that takes
twice as long since then; an error of the project in five workflows, one of the tool that went away with 2.6.0; reviews
that are made more often; one workflow that was abandoned, and one still at work.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from feedback_lib.orchestrator import LOG
from feedback_lib.workflows.entries import TOOL_FILE

NOTE = "Synthetic: these workflows and everything they say are invented by the authors of this package."
UNTIL = dt.date(2026, 11, 16)  # where the sample world ends, too
COUNT = 18
OLD, NEW = "2.5.0", "2.6.0"
SWITCH = 10  # the first so many workflows ran with the old version

TASKS = (
    "Page through audit events", "Retry webhooks with backoff", "Show the region of a runner", "Rename API keys",
    "Export invoices as CSV", "Cache package metadata", "Warn before a token ends", "Search in archived projects",
    "Limit builds per team", "Sign release artefacts", "Draw the deploy map faster", "Mail digests once a day",
    "Move sessions to the new store", "Undo a rollback", "Say why a build waits", "Allow two registries",
    "Sort alerts by service", "Explain retention in settings",
)  # fmt: skip
# phase -> (item, share of the workflows that skip it with the old and the new version, why)
ITEMS: Mapping[str, tuple[tuple[str, float, float, str], ...]] = {
    "PLAN": (
        ("check_roadmap", 0.1, 0.15, "The task came from a customer, not from the roadmap"),
        ("clarifying_questions", 0.4, 0.35, "The ticket says everything"),
        ("initial_plan", 0.0, 0.0, ""),
        ("risk_analysis", 0.1, 0.9, "Low risk, and the form got long"),
        ("define_test_cases", 0.0, 0.0, ""),
        ("user_approval", 0.0, 0.0, ""),
    ),
    "EXECUTE": (
        ("write_tests", 0.0, 0.0, ""),
        ("implement_code", 0.0, 0.0, ""),
        ("all_tests_pass", 0.0, 0.0, ""),
    ),
    "REVIEW": (
        ("security_review", 0.35, 0.1, "No change of what is allowed to whom"),
        ("quality_review", 0.35, 0.1, "Small change"),
        ("refactoring_assessment", 0.6, 0.55, "Nothing to tidy"),
    ),
    "VERIFY": (
        ("full_test_suite", 0.0, 0.0, ""),
        ("visual_regression_test", 0.9, 0.95, "No change of what is drawn"),
        ("manual_smoke_test", 0.25, 0.3, "The suite covers it"),
    ),
    "LEARN": (
        ("document_learnings", 0.0, 0.0, ""),
        ("update_knowledge_base", 0.9, 0.9, "Nothing that others need to know"),
        ("backport_improvements", 0.9, 0.95, "No other product has this"),
        ("commit_and_sync", 0.0, 0.0, ""),
    ),
}
MINUTES: Mapping[str, float] = {"PLAN": 18, "EXECUTE": 75, "REVIEW": 12, "VERIFY": 8, "LEARN": 6}
PLANNING = 2.2  # times as long with the new version
LEARNED = (
    "Small steps were easier to review", "The fixture hid a time zone", "Feature flags let us stop early",
    "The registry answers slowly in the morning", "Names of columns should come from one place",
)  # fmt: skip
PROJECT_ERROR = frozenset((2, 6, 9, 13, 16))  # workflows that run into each
TOOL_ERROR = frozenset((1, 4, 8))
ONCE = {11: "AssertionError: expected 3 retries, got 4", 14: "ConnectionError: registry.beacon.example refused"}
ABANDONED, AT_WORK = 5, COUNT - 1


def write(folder: Path) -> Path:
    """Write the log and the tool entries that were captured of it; the same bytes every time.

    Args:
        folder: made when it is not there; files of these names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = events()
    entries = [_entry(nth, told) for nth, told in enumerate(made) if nth != AT_WORK]
    for name, rows in ((LOG, itertools.chain(*made)), (TOOL_FILE, entries)):
        (folder / name).write_bytes(lines(rows))
    return folder


def events(until: dt.date = UNTIL, days: float = 3.3) -> list[list[dict[str, Any]]]:
    """The events of each workflow, oldest first; the same every time.

    Args:
        until: the day on which the last one might be at work still.
        days: between two of them.
    """
    chance = random.Random(20261116)
    first = dt.datetime.combine(until, dt.time(9), dt.UTC)
    return [list(_workflow(nth, first - dt.timedelta(days=days * (COUNT - nth)), chance)) for nth in range(COUNT)]


def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _workflow(nth: int, at: dt.datetime, chance: random.Random) -> Iterator[dict[str, Any]]:
    """The events of one workflow."""
    new = nth >= SWITCH
    at += dt.timedelta(minutes=chance.randrange(360))

    def event(kind: str, message: str, phase: str | None = None, item: str | None = None, **details: Any) -> Any:
        nonlocal at
        at += dt.timedelta(seconds=chance.randrange(2, 9))
        row: dict[str, Any] = {"timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", "event_type": kind, "workflow_id": _id(nth)}
        row |= {"phase_id": phase, "item_id": item, "message": message}
        return row | {"details": details, "actor": "human" if item == "user_approval" else "system"}

    yield event("workflow_started", f"Started workflow: {TASKS[nth]}", note=NOTE)
    for phase, items in ITEMS.items():
        yield event("phase_started", f"Started phase: {phase}", phase)
        minutes = MINUTES[phase] * chance.lognormvariate(0, 0.35) * (PLANNING if new and phase == "PLAN" else 1)
        for item, before, since, reason in items:
            at += dt.timedelta(minutes=minutes / len(items))
            if phase == "EXECUTE" and item == "all_tests_pass":
                yield from (event("verification_failed", m, phase, item, **d) for m, d in _failures(nth, chance))
            if chance.random() < (since if new else before):
                yield event("item_skipped", f"Skipped item: {item}", phase, item, reason=reason)
            else:
                notes = chance.choice(LEARNED) if item == "document_learnings" else ""
                yield event("item_completed", f"Completed item: {item}", phase, item, notes=notes)
            if phase == "EXECUTE" and item == "implement_code" and nth in (ABANDONED, AT_WORK):
                if nth == ABANDONED:
                    yield event("workflow_abandoned", "Workflow abandoned: the customer left")
                return
        yield event("phase_completed", f"Completed phase: {phase}", phase, forced=False)
    yield event("workflow_completed", "Workflow completed")


def _failures(nth: int, chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """What goes wrong before all tests pass: message and details; paths, lines and ids differ each time."""
    said = "Verification failed: Command failed (exit code 1, expected 0)"
    if nth in PROJECT_ERROR:
        home = f"/home/dev{chance.randrange(9)}/beacon-{chance.randrange(16**6):06x}"
        yield (
            said,
            {"type": "command", "command": "pytest -q", "exit_code": 1, "stdout": ""}
            | {
                "stderr": "Traceback (most recent call last):\n"
                f'  File "{home}/tests/conftest.py", line {chance.randrange(3, 90)}, in <module>\n'
                "    import pytest_asyncio\n"
                "ModuleNotFoundError: No module named 'pytest_asyncio'\n"
            },
        )
    if nth in TOOL_ERROR:
        yield (
            "Verification failed: orchestrator advance: state is locked",
            {"type": "command", "command": "orchestrator advance", "exit_code": 2}
            | {
                "stderr": f"StateLockedError: .workflow_state.json is held by process {chance.randrange(400, 40_000)}\n"
            },
        )
    if nth in ONCE:
        yield said, {"type": "command", "command": "pytest -q", "exit_code": 1, "stderr": f"{ONCE[nth]}\n"}


def _entry(nth: int, events: list[dict[str, Any]]) -> dict[str, Any]:
    """The tool entry of a workflow, as it would have been captured when its version of the tool was in use."""
    skipped = [e["item_id"] for e in events if e["event_type"] == "item_skipped"]
    done = [e["item_id"] for e in events if e["event_type"] == "item_completed"]
    first, last = (dt.datetime.fromisoformat(events[n]["timestamp"]) for n in (0, -1))
    began: dict[str, dt.datetime] = {}
    phases: dict[str, int] = {}
    for event in events:
        if event["event_type"] == "phase_started":
            began[event["phase_id"]] = dt.datetime.fromisoformat(event["timestamp"])
        elif event["event_type"] == "phase_completed":
            ended = dt.datetime.fromisoformat(event["timestamp"])
            phases[event["phase_id"]] = int((ended - began[event["phase_id"]]).total_seconds())
    return {
        "timestamp": f"{last:%Y-%m-%dT%H:%M:%SZ}",
        "workflow_id_hash": hashlib.sha256(f"sample {_id(nth)}".encode()).hexdigest()[:32],
        "orchestrator_version": NEW if nth >= SWITCH else OLD,
        "repo_type": "python",
        "duration_seconds": int((last - first).total_seconds()),
        "phases": phases,
        "phase0_guidance_used": None,
        "reviews_worked": True if {"security_review", "quality_review"} & set(done) else None,
        "orchestrator_errors": ["StateLockedError: <path> is held by process <n>"] if nth in TOOL_ERROR else [],
        "items_skipped": skipped,
        "items_skipped_pct": len(skipped) / len(skipped + done),
        "confusing_items": [],
        "tool_suggestions": "",
        "mode": "auto",
    }


def _id(nth: int) -> str:
    return f"wf_{hashlib.sha256(f'Beacon {nth}'.encode()).hexdigest()[:8]}"
