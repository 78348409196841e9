"""What the workflow tool writes of its runs: states, event logs, sessions, definitions. Reading only."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Literal

from feedback_lib.records import Rejected

Status = Literal["active", "completed", "abandoned"]
Outcome = Literal["completed", "skipped", "failed"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How an item of a workflow stands at last. ``text`` is the notes of who completed it, or the reason of a skip."""

    phase: str
    item: str
    outcome: Outcome
    at: dt.datetime
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that went wrong. ``text`` is all that is known: the command, what it printed, the trace.

    ``by_tool``: it went wrong in the workflow tool itself, not in the project it works on.
    """

    phase: str | None
    item: str | None
    at: dt.datetime
    message: str
    text: str
    by_tool: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The facts of one workflow, from its events; from its state where it has no events.

    ``phases`` are seconds by phase, of those that were completed. ``reviewed``: a review was made and worked (True),
    failed (False), or none was made. ``parallel``: work was done in parallel, was not, or nothing tells.
    ``definition`` is phase → items as this workflow was defined; None when unknown. ``where`` is its file.
    """

    id: str
    task: str
    status: Status
    started_at: dt.datetime
    last_at: dt.datetime
    events: int
    phases: Mapping[str, int]
    steps: tuple[Step, ...]
    failures: tuple[Failure, ...]
    reviewed: bool | None
    parallel: bool | None
    definition: Mapping[str, tuple[str, ...]] | None
    where: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a folder holds: workflows, oldest first, and the lines that could not be read. ``files``: what was read."""

    workflows: tuple[Workflow, ...]
    rejected: tuple[Rejected, ...]
    files: tuple[str, ...]
    current: str | None  # the id of the workflow the state is about
