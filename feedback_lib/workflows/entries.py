"""The two kinds of entries, and the files they stand in: one JSON object a line, in the workflow tool's own formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

Mode = Literal["auto", "interactive"]
RepoType = Literal["python", "javascript", "go", "rust", "unknown"]

TOOL_FILE = ".workflow_tool_feedback.jsonl"
PROCESS_FILE = ".workflow_process_feedback.jsonl"
LEGACY_FILE = ".workflow_feedback.jsonl"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ToolEntry:
    """One workflow as the tool's maintainers may see it. The order of the fields is that of the file.

    ``timestamp`` is the workflow's last event, not the capture. None: nothing tells. An item of a project's own is
    ``custom:`` and 8 hex digits, a phase of its own is ``CUSTOM``.
    """

    timestamp: str  # 2026-01-11T10:30:00Z
    workflow_id_hash: str  # 32 hex digits
    orchestrator_version: str
    repo_type: RepoType
    duration_seconds: int
    phases: Mapping[str, int]  # seconds by phase
    phase0_guidance_used: bool | None
    reviews_worked: bool | None
    orchestrator_errors: tuple[str, ...]
    items_skipped: tuple[str, ...]
    items_skipped_pct: float | None  # 0–1, of the items that were dealt with
    confusing_items: tuple[str, ...]
    tool_suggestions: str
    mode: Mode
    synced_at: str | None = None  # absent from the file until it was sent


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEntry:
    """One workflow as its own project sees it. Private: it never leaves this machine."""

    timestamp: str
    workflow_id: str
    repo: str
    task: str
    parallel_agents_used: bool | None
    project_errors: tuple[str, ...]
    learnings: str
    what_went_well: str
    challenges: str
    improvements: str
    custom_workflow_items: tuple[str, ...]
    mode: Mode
