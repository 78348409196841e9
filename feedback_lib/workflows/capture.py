"""Capture: the workflows of a folder become entries, one each, told of the tool and told of the project."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shlex
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from feedback_lib import orchestrator, privacy
from feedback_lib.errors import ConfigError
from feedback_lib.orchestrator import Failure, Found, Workflow
from feedback_lib.records import Rejected
from feedback_lib.workflows import ids, settings, telling
from feedback_lib.workflows.entries import (
    ERROR_CHARACTERS,
    UNKNOWN,
    Files,
    Migrated,
    ProcessEntry,
    RepoType,
    ToolEntry,
    facts,
    stamp,
    to_line,
    unknown,
    version,
)

GUIDANCE_ITEM = "parallel_execution_check"
ADHERENCE_ITEM = "workflow_adherence_check"

_MARKS = (".workflow_state.json", ".workflow_log.jsonl", ".orchestrator/sessions")

SKIPPED = f"Feedback is off: the environment variable {settings.SKIP} is set. Nothing was read or written."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person said of a workflow; fields of the two kinds of entries. None: not answered, the log counts.

    A "didn't see", "skipped" or "not applicable" is no answer, too: the log knows it better.
    """

    phase0_guidance_used: bool | None = None
    reviews_worked: bool | None = None
    confusing_items: tuple[str, ...] | None = None
    orchestrator_errors: tuple[str, ...] | None = None
    tool_suggestions: str | None = None
    parallel_agents_used: bool | None = None
    what_went_well: str | None = None
    challenges: str | None = None
    learnings: str | None = None
    improvements: str | None = None

    def given(self) -> dict[str, Any]:
        """What was answered, by field."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What a capture did.

    Args:
        tool, process: the entries of the workflows that were found, as they stand in the files now.
        written: how many of each are new there.
        migrated: what became of a single file of earlier versions of the workflow tool.
        rejected: lines of logs, states and entries that could not be read.
        files: the logs and states that were read.
        reason: why nothing was captured; "" when something was.
    """

    tool: tuple[ToolEntry, ...] = ()
    process: tuple[ProcessEntry, ...] = ()
    written: tuple[int, int] = (0, 0)
    migrated: Migrated | None = None
    rejected: tuple[Rejected, ...] = ()
    files: tuple[str, ...] = ()
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like values; entries as they stand in their files."""
        migrated = self.migrated
        return {
            "reason": self.reason,
            "files": list(self.files),
            "written": {"tool": self.written[0], "process": self.written[1]},
            "tool": [_plain(entry) for entry in self.tool],
            "process": [_plain(entry) for entry in self.process],
            "migrated": migrated and {"entries": migrated.entries, "backup": migrated.backup.name},
            "rejected": [dataclasses.asdict(one) for one in self.rejected],
        }


def capture(
    folder: Path,
    *,
    tool: bool = True,
    process: bool = True,
    answers: Answers | None = None,
    about: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Captured:
    """Write an entry of each workflow of a folder that has none yet, or went on since its last one.

    Args:
        folder: where the workflow tool works.
        tool: write of the tool, see `ToolEntry`.
        process: write of the project, see `ProcessEntry`.
        answers: of a person about one workflow; they stand above what the log says, and stay.
        about: the id of that workflow; None: the current one.
        progress: is told what happens.

    Raises:
        ConfigError: there is no such folder, a file cannot be read or written, or the answers are about no workflow.
        PrivacyError: the secret salt of this installation is not one.
    """
    if settings.skipped():
        return Captured(reason=SKIPPED)
    if not Path(folder).is_dir():
        raise ConfigError(f"{folder} is no folder; name the one the workflow tool works in (--dir).")
    files = Files(folder)
    with files.alone():  # of two captures the second reads what the first wrote, and a log that is not older
        found = orchestrator.read(folder)
        if not found.workflows and not files.legacy.exists():
            return Captured(reason=missing(folder, found), rejected=found.rejected, files=found.files)
        salt = settings.salt()
        migrated = files.migrate(salt)
        if migrated:
            many = "1 entry" if migrated.entries == 1 else f"{migrated.entries} entries"
            progress(f"{files.legacy.name}: {many} taken over; kept as {migrated.backup.name}")
        held = files.read(salt)
        now = current(found) if about is None else next((w for w in found.workflows if w.id == about), None)
        if answers is not None and now is None:
            raise ConfigError(f"{folder}: workflow {about} is not there; answers need one they are about.")
        names = telling.own_names(folder)
        given = _given(answers, salt, names, progress)
        tools: list[tuple[ToolEntry, ToolEntry | None]] = []
        processes: list[tuple[ProcessEntry, ProcessEntry | None]] = []
        if tool:
            before = {e.workflow_id_hash: e for e in held.tool}
            names_here = (*map(_id, found.workflows), *(e.workflow_id for e in held.process))
            ours = {ids.hashed(salt, name) for name in names_here}
            strange: dict[object, list[ToolEntry]] = {}  # written with another salt
            for entry in held.tool:
                if entry.workflow_id_hash not in ours and (told := facts(entry)):
                    strange.setdefault(told, []).append(entry)
            place = _place(folder)
            for workflow in found.workflows:
                one = tool_entry_of(workflow, salt, version=place[0], repo_type=place[1], names=names)
                old = before.get(one.workflow_id_hash)
                answered = given if workflow is now else {}
                if old is None and not answered and (twins := strange.get(facts(one))):
                    tools.append((twin := twins.pop(), twin))  # once more would be another workflow
                    continue
                tools.append((_settled(one, old, answered), old))
        if process:
            known = {e.workflow_id: e for e in held.process}
            repo = orchestrator.repo(folder)
            for workflow in found.workflows:
                of = process_entry_of(workflow, repo=repo)
                was = known.get(of.workflow_id)
                processes.append((_settled(of, was, given if workflow is now else {}), was))
        new_tools = [e for e, old in tools if old is None or version(e) != version(old)]  # it may have been sent
        new_processes = [e for e, was in processes if e != was]
        files.append(new_tools, new_processes)
    return Captured(
        tool=tuple(entry for entry, _ in tools),
        process=tuple(entry for entry, _ in processes),
        written=(len(new_tools), len(new_processes)),
        migrated=migrated,
        rejected=(*found.rejected, *(migrated.rejected if migrated else ()), *held.rejected),
        files=found.files,
        reason="" if found.workflows else missing(folder, found),
    )


def missing(folder: Path, found: Found) -> str:
    """Why there is nothing to capture."""
    place = "this folder" if str(folder) == "." else str(folder)
    if found.files:
        return f"No workflow was found in {', '.join(found.files)} of {place}. Nothing to capture."
    parents = Path(folder).absolute().parents
    above = next((up for up in parents if any(os.access(up / name, os.R_OK) for name in _MARKS)), None)
    return (
        f"No workflow was found in {place}: there is neither a .workflow_state.json nor a .workflow_log.jsonl, nor an "
        ".orchestrator folder. Nothing to capture; "
        + (f"there is one above:{option(above)}" if above else "name another folder with --dir.")
    )


def option(folder: str | Path) -> str:
    """What to add to a command so that it is about a folder, such as `` --dir ../api``; "" for the current one.

    >>> option("."), option("my api")
    ('', " --dir 'my api'")
    """
    return "" if str(folder) == "." else f" --dir {shlex.quote(str(folder))}"


def current(found: Found) -> Workflow | None:
    """The workflow that is going on, or was the last to."""
    named = [w for w in found.workflows if w.id == found.current] or found.workflows
    return max(named, key=lambda w: w.last_at, default=None)


def tool_entry_of(
    workflow: Workflow, salt: bytes, *, version: str, repo_type: RepoType, names: Collection[str] = ()
) -> ToolEntry:
    """What a workflow says of the tool; nothing in it says whose workflow it was, least of all these names."""
    skipped = {ids.item(salt, step.item) for step in workflow.steps if step.outcome == "skipped"}
    share = sum(step.outcome == "skipped" for step in workflow.steps) / max(1, len(workflow.steps))
    return ToolEntry(
        timestamp=stamp(workflow.last_at),
        workflow_id_hash=ids.hashed(salt, _id(workflow)),
        orchestrator_version=version,
        repo_type=repo_type,
        duration_seconds=max(0, int((workflow.last_at - workflow.started_at).total_seconds())),
        phases=ids.phases(workflow.phases),
        phase0_guidance_used=_guided(workflow),
        reviews_worked=workflow.reviewed,
        orchestrator_errors=telling.tool_errors((f.text for f in workflow.failures if f.by_tool), names),
        items_skipped=tuple(sorted(skipped)),
        items_skipped_pct=round(share, 4) if workflow.steps else None,
        confusing_items=(),
        tool_suggestions="",
        mode="auto",
    )


def process_entry_of(workflow: Workflow, *, repo: str) -> ProcessEntry:
    """What a workflow says of the project."""
    notes = [*workflow.learnings, *(s.text for s in workflow.steps if s.item == ADHERENCE_ITEM)]
    told = passages("\n".join(notes))
    return ProcessEntry(
        timestamp=stamp(workflow.last_at),
        workflow_id=_id(workflow),
        repo=repo,
        task=workflow.task,
        parallel_agents_used=workflow.parallel,
        project_errors=tuple(_errors(f for f in workflow.failures if not f.by_tool)),
        learnings="\n".join(text for note in workflow.learnings if (text := unlabelled(note))),
        what_went_well=told["what_went_well"],
        challenges=told["challenges"],
        improvements=told["improvements"],
        custom_workflow_items=orchestrator.custom_items(workflow),
        mode="auto",
    )


# Notes

_LABELS = {
    "what_went_well": r"(?:what\s+)?went\s+well",
    "challenges": r"(?:what\s+)?challenges?",
    "improvements": r"what\s+could\s+be\s+(?:improved|better)|(?:suggested\s+|possible\s+)?improvements?",
    "learnings": r"(?:key\s+)?(?:learnings?|lessons\s+learne?[dt])|what\s+(?:did\s+)?(?:I|you|we)\s+learn(?:ed|t)?",
}
_LABEL = re.compile(  # at the start of a line or a sentence, in words of emphasis, bullets or brackets if any
    r"(?:^|(?<=\n)|(?<=[.!?;|]\s))[ \t]*(?:[#>*•-]{1,6}[ \t]*|\(?\d{1,2}[.)][ \t]*|\[\w{1,20}\][ \t]*)?[*_]{0,3}(?:"
    + "|".join(f"(?P<{field}>{words})" for field, words in _LABELS.items())
    + r")(?:[ \t]+[^\n:?.;]{1,40})?[*_]{0,3}(?:[:?]|[ \t][–—-][ \t])[*_]{0,3}[ \t:]*",
    re.IGNORECASE,
)
_NOTHING = re.compile(r"(?:none|nothing|n/?a|no|not applicable|-|–)?[\s.!]*", re.IGNORECASE)


def passages(notes: str) -> dict[str, str]:
    """What stands in notes behind the labels of the workflow tool's own questions, "" for what does not.

    >>> passages("What went well: tests first. Challenges: slow builds; flaky mocks")["challenges"]
    'slow builds; flaky mocks'
    """
    parts: dict[str, list[str]] = {field: [] for field in _LABELS}
    for field, text in _parts(notes):
        if field and not _NOTHING.fullmatch(text):
            parts[field].append(text)
    return {field: "\n".join(dict.fromkeys(texts)) for field, texts in parts.items()}


def unlabelled(notes: str) -> str:
    """Notes without what `passages` takes for another field.

    >>> unlabelled("Learnings: mock less. Challenges: slow builds")
    'Learnings: mock less.'
    """
    found = [*_LABEL.finditer(notes), None]
    kept = notes[: found[0].start() if found[0] else None]
    for label, following in itertools.pairwise(found):
        if label and label.lastgroup == "learnings":
            kept += notes[label.start() : following.start() if following else None]
    return kept.strip()


def _parts(notes: str) -> Iterator[tuple[str | None, str]]:
    """The parts of notes, each behind its label."""
    found = [*_LABEL.finditer(notes), None]
    for label, following in itertools.pairwise(found):
        if label:
            yield label.lastgroup, notes[label.end() : following.start() if following else None].strip()


# Parts of entries


def _id(workflow: Workflow) -> str:
    return unknown(workflow.started_at) if workflow.id == UNKNOWN else workflow.id


def _guided(workflow: Workflow) -> bool | None:
    """Whether the parallel execution check was done; None when the workflow has none, or has not come to it."""
    outcomes = [step.outcome for step in workflow.steps if step.item == GUIDANCE_ITEM]
    if outcomes:
        return outcomes[-1] == "completed"
    defined = any(GUIDANCE_ITEM in items for items in (workflow.definition or {}).values())
    return False if defined and workflow.status != "active" else None


def _errors(failures: Iterable[Failure]) -> Iterator[str]:
    """What went wrong, the same error once; nobody's secrets, and no more than anybody reads."""
    from feedback_lib.analysis.text import fingerprint

    known = set()
    for failure in failures:
        text = privacy.redact(failure.text.strip() or failure.message.strip())
        mark = fingerprint(text) or text
        if text and mark not in known:
            known.add(mark)
            yield _cut(text)


def _cut(text: str) -> str:
    """A text's beginning, with the command, and its end, with the error."""
    if len(text) <= ERROR_CHARACTERS:
        return text
    head = ERROR_CHARACTERS // 4
    return f"{text[:head]}\n…\n{text[len(text) - (ERROR_CHARACTERS - head - 3) :]}"


def _plain(entry: ToolEntry | ProcessEntry) -> Any:
    """An entry as it stands in its file, without half surrogate pairs, which cannot be shown."""
    fields = json.dumps(json.loads(to_line(entry)), ensure_ascii=False)
    return json.loads(fields.encode("utf-8", "replace"))


def _place(folder: Path) -> tuple[str, RepoType]:
    kind = orchestrator.repo_type(folder)
    return orchestrator.tool_version(folder), typing.cast("RepoType", kind)


# Answers, and what was written before

_E = typing.TypeVar("_E", ToolEntry, ProcessEntry)


def _given(
    answers: Answers | None, salt: bytes, names: Collection[str], progress: Callable[[str], None]
) -> dict[str, Any]:
    """What was answered, as entries have it: of the tool nothing that tells whose workflow it was."""
    if answers is None:
        return {}
    given = answers.given()
    if "confusing_items" in given:
        given["confusing_items"] = tuple(dict.fromkeys(ids.item(salt, one) for one in given["confusing_items"]))
    if "orchestrator_errors" in given:
        given["orchestrator_errors"] = telling.tool_errors(given["orchestrator_errors"], names)
    if "tool_suggestions" in given:
        given["tool_suggestions"] = privacy.redact(given["tool_suggestions"].strip())
        if problem := telling.text_problem(given["tool_suggestions"], names):
            progress(f"Your suggestion {problem}: it is kept here, and sync will not send it.")
    return given


def _settled(entry: _E, held: _E | None, given: Mapping[str, Any]) -> _E:
    """An entry of now, with the answers of before, and those given now above them."""
    if held is not None and _knows_more(held, entry):
        entry = held
    names = [field.name for field in dataclasses.fields(Answers) if hasattr(entry, field.name)]
    changed: dict[str, Any] = {}
    if held is not None and held.timestamp == entry.timestamp:
        # the same workflow as before: what it was then is not what this folder or the tool became since
        about = ("orchestrator_version", "repo_type") if isinstance(entry, ToolEntry) else ("repo",)
        changed |= {name: getattr(held, name) for name in about}
    answered: dict[str, Any] = {}
    if held is not None and held.mode == "interactive":
        answered |= {name: _kept(getattr(held, name), getattr(entry, name)) for name in names}
    now: dict[str, Any] = {name: given[name] for name in names if name in given}
    if "orchestrator_errors" in now:  # a person adds to what the log knows
        logged: Any = answered.get("orchestrator_errors", getattr(entry, "orchestrator_errors", ()))
        now["orchestrator_errors"] = _kept(logged, now["orchestrator_errors"])
    if answered or now:
        changed |= answered | now | {"mode": "interactive"}
    return dataclasses.replace(entry, **changed)


def _knows_more(held: ToolEntry | ProcessEntry, entry: ToolEntry | ProcessEntry) -> bool:
    """Whether an entry of before saw more of its workflow: the log of another branch may be an older one.

    It is later then, and has all that the log tells now. The workflow tool's own entries have the time of their
    capture, and little else.
    """
    if held.timestamp <= entry.timestamp:
        return False
    if isinstance(held, ToolEntry) and isinstance(entry, ToolEntry):
        spent = all(held.phases.get(name, -1) >= seconds for name, seconds in entry.phases.items())
        errors = set(entry.orchestrator_errors) <= set(held.orchestrator_errors)
        return bool(held.phases) and spent and errors and held.duration_seconds >= entry.duration_seconds
    if isinstance(held, ProcessEntry) and isinstance(entry, ProcessEntry):
        errors = set(entry.project_errors) <= set(held.project_errors)
        items = set(entry.custom_workflow_items) <= set(held.custom_workflow_items)
        silent = held.parallel_agents_used is None and entry.parallel_agents_used is not None
        return errors and items and not silent and entry.learnings in held.learnings and entry.task in held.task
    return False


def _kept(before: Any, now: Any) -> Any:
    """Of a field that may have been answered: what was said before, unless the log now says as much and more."""
    if isinstance(before, tuple):
        return tuple(dict.fromkeys((*before, *now)))
    if before is None or (isinstance(before, str) and before in now):
        return now
    return before
