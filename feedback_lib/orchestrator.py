"""What the workflow tool writes of its runs: states, event logs, sessions, definitions. Reading only."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import gzip
import hashlib
import importlib.metadata
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import tomllib
import types
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from feedback_lib.errors import ConfigError
from feedback_lib.records import Rejected, real_time

Status = Literal["active", "completed", "abandoned"]
Outcome = Literal["completed", "skipped", "failed"]

TOOL = "workflow-orchestrator"  # the distribution of the tool
STATE, LOG = ".workflow_state.json", ".workflow_log.jsonl"
NEWER = ".orchestrator"  # the folder of the newer layout, with state.json and log.jsonl, also in sessions/<id>
LEARNINGS = "document_learnings"
NO_PHASE = "UNKNOWN"  # an item that stands in no phase of its event, its definition or the tool's
LONGEST_LINE = 16_000_000  # bytes; an event has a few thousand
LONGEST_TEXT = 20_000  # characters kept of what one failure printed: its beginning and its end


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

    ``message`` is the line of it that says most, behind the command. ``by_tool``: it went wrong in the workflow tool
    itself, not in the project it works on.
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
    ``learnings`` are the notes of every time learnings were documented, oldest first.
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
    learnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a folder holds: workflows, oldest first, and the lines that could not be read. ``files``: what was read."""

    workflows: tuple[Workflow, ...]
    rejected: tuple[Rejected, ...]
    files: tuple[str, ...]
    current: str | None  # the id of the workflow the state is about


def read(folder: Path) -> Found:
    """Read the states and logs of a folder, of the older and the newer layout, also rotated logs.

    A line that stands there twice is one event, and the order of the lines does not matter. What cannot be read is
    reported with its file and line; a last line that is not finished yet is left for the next time.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # noqa: PTH112 - a path that may not be looked at is no folder either
        raise ConfigError(f"{folder} is no folder; name the one the workflow tool works in (--dir).")
    rejected: list[Rejected] = []
    files: list[str] = []
    events: dict[str, list[_Event]] = {}
    seen: set[bytes] = set()
    for path, live in _logs(folder, rejected):
        name = _named(path, folder)
        files.append(name)
        for event in _events(path, name, live, rejected):
            if event.identity not in seen:
                seen.add(event.identity)
                events.setdefault(event.workflow, []).append(event)
    states: dict[str, _State] = {}
    held: dict[str, str] = {}  # file: the workflow its state is about
    for path in _states(folder):
        name = _named(path, folder)
        files.append(name)
        try:
            state = _state(path, name)
        except (OSError, ValueError, RecursionError) as problem:
            rejected.append(Rejected(name, _reason(problem)))
            continue
        if state is None:
            continue
        held[name] = state.id
        if state.id not in states or states[state.id].saved_at <= state.saved_at:
            states[state.id] = state
    found = [_from_events(key, events[key], states.get(key)) for key in events]
    found += [_from_state(states[key]) for key in states if key not in events]
    return Found(
        workflows=tuple(sorted(found, key=lambda one: (one.started_at, one.id))),
        rejected=tuple(rejected),
        files=tuple(files),
        current=_current(folder, held),
    )


@functools.cache
def default_items() -> Mapping[str, tuple[str, ...]]:
    """Phase → item ids of the tool's own definition, in all its published versions."""
    import yaml

    text = importlib.resources.files("feedback_lib").joinpath("data/orchestrator_items.yaml").read_text("utf-8")
    return types.MappingProxyType({phase: tuple(items) for phase, items in yaml.safe_load(text)["phases"].items()})


def custom_items(workflow: Workflow) -> tuple[str, ...]:
    """The items of a workflow that are not the tool's own, in the order of its definition.

    Those that were dealt with or went wrong follow: the definition may be of another version than the log.
    """
    own = [item for items in (workflow.definition or {}).values() for item in items]
    own += [step.item for step in workflow.steps]
    own += [failure.item for failure in workflow.failures if failure.item]
    known = {item for items in default_items().values() for item in items}
    return tuple(item for item in dict.fromkeys(own) if item not in known)


_MARKERS = (
    ("python", ("pyproject.toml", "setup.py")),
    ("javascript", ("package.json",)),
    ("go", ("go.mod",)),
    ("rust", ("Cargo.toml",)),
    ("python", ("setup.cfg", "requirements.txt", "Pipfile")),
)


def repo_type(folder: Path) -> str:
    """python, javascript, go or rust, by the file that names a project's dependencies; else unknown."""
    for language, names in _MARKERS:
        if any(os.path.isfile(Path(folder) / name) for name in names):  # noqa: PTH113 - as in read
            return language
    return "unknown"


def repo(folder: Path) -> str:
    """The repository a folder belongs to, such as ``github.com/user/my-api``, without credentials; else ``unknown``.

    It is that of the remote ``origin``, or of the only remote there is.
    """
    names = _git(folder, "remote").split()
    name = "origin" if "origin" in names else names[0] if len(names) == 1 else None
    return _repository(_git(folder, "remote", "get-url", name).strip()) if name else "unknown"


def tool_version(folder: Path) -> str:
    """The version of the workflow tool: of the project when it is the tool, else as installed; else ``unknown``.

    An environment of the project's own (``.venv``) comes before the one we run in.
    """
    folder = Path(folder)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8-sig")).get("project", {})
        if _normal(str(project.get("name"))) == TOOL and _VERSION.fullmatch(str(project.get("version", ""))):
            return str(project["version"])
    places = [str(p) for env in (".venv", "venv") for p in sorted((folder / env).glob("lib/python3*/site-packages"))]
    for path in ([place] for place in places):
        for one in importlib.metadata.distributions(name=TOOL, path=path):
            if version := _version(one):
                return version
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return _version(importlib.metadata.distribution(TOOL)) or "unknown"
    return "unknown"


_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,40}")


def _version(installed: importlib.metadata.Distribution) -> str:
    """The version of an installation; nothing when it broke off half way, which some readers of metadata raise for."""
    with contextlib.suppress(OSError, KeyError):
        return installed.version if _VERSION.fullmatch(installed.version or "") else ""
    return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _git(folder: Path, *args: str) -> str:
    """What git says of a folder; nothing when there is no git, no repository, or no answer in time."""
    git = shutil.which("git")
    if git is None:
        return ""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}  # those of a hook are about its repository
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run([git, "-C", str(folder), *args], capture_output=True, timeout=10, env=env, check=False)
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
    return ""


_SCP = re.compile(r"(?:[^@/\s]+@)?([A-Za-z0-9][A-Za-z0-9.-]+):(?!/{2})(.+)")


def _repository(address: str) -> str:
    """A remote's address as host and path; a folder of this machine says nothing to anybody else."""
    if "://" in address:
        with contextlib.suppress(ValueError):
            url = urllib.parse.urlsplit(address)
            if url.scheme in ("http", "https", "ssh", "git", "git+ssh") and url.hostname and url.path.strip("/"):
                return f"{url.hostname}/{_bare(url.path)}"
        return "unknown"
    found = _SCP.fullmatch(address)
    return f"{found[1].lower()}/{_bare(found[2])}" if found and _bare(found[2]) else "unknown"


def _bare(path: str) -> str:
    return path.strip("/").removesuffix(".git").strip("/")


# --- files ------------------------------------------------------------------------------------------------------------

_NO_LOG = re.compile(r"\.(?:lock|tmp|part|swp|sw.|migrated)$|~$")


def _named(path: Path, folder: Path) -> str:
    """Where a file is, fit for a terminal: whoever gives away a repository chooses the names of its folders."""
    name = path.relative_to(folder).as_posix()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


def _places(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Each folder that may hold a state and a log, with their names: the older layout first, then sessions by name."""
    yield folder, STATE, LOG
    newer = folder / NEWER
    yield newer, "state.json", "log.jsonl"
    with contextlib.suppress(OSError):
        for session in sorted((newer / "sessions").iterdir()):
            if os.path.isdir(session):  # noqa: PTH112
                yield session, "state.json", "log.jsonl"


def _logs(folder: Path, rejected: list[Rejected]) -> Iterator[tuple[Path, bool]]:
    """The logs that are there, and whether the tool still writes to them; rotated ones first."""
    for place, _, log in _places(folder):
        try:
            names = sorted(path.name for path in place.iterdir())
        except FileNotFoundError:
            continue
        except OSError as problem:
            where = _named(place, folder)
            rejected.append(Rejected(where, _reason(problem)))
            continue
        for name in names:
            if name.startswith(f"{log}.") and not _NO_LOG.search(name) and os.path.isfile(place / name):  # noqa: PTH113
                yield place / name, False
        if log in names:
            yield place / log, True


def _states(folder: Path) -> Iterator[Path]:
    for place, state, _ in _places(folder):
        if os.path.lexists(place / state):
            yield place / state


def _current(folder: Path, held: Mapping[str, str]) -> str | None:
    """Which workflow is at work: the session that ``.orchestrator/current`` names comes first."""
    with contextlib.suppress(OSError):
        session = (folder / NEWER / "current").read_bytes().decode("utf-8-sig", "replace").strip()
        if name := held.get(f"{NEWER}/sessions/{session}/state.json"):
            return name
    return held.get(STATE) or held.get(f"{NEWER}/state.json")


def _reason(problem: Exception) -> str:
    if isinstance(problem, RecursionError):
        return "is JSON with lists or objects too deep in each other"
    if isinstance(problem, OSError):
        return f"cannot be read ({problem.strerror or type(problem).__name__})"
    return str(problem)


def _parsed(content: bytes) -> Any:
    """JSON as it is written; what is no number is nothing.

    Raises:
        ValueError: it is not UTF-8, or no JSON.
    """
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=lambda _: None)
    except UnicodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"is no JSON: {problem.msg} (character {problem.pos + 1})") from None


def _text(value: Any) -> str:
    """A text, or nothing; half a surrogate pair can be written nowhere."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def _time(value: Any) -> dt.datetime:
    """A time as the tool writes it; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is no time")
    try:
        at = dt.datetime.fromisoformat(value.strip())
        at = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no time; write ISO 8601") from None
    return real_time(at)


# --- events -----------------------------------------------------------------------------------------------------------

_ORDER = ("workflow_started", "phase_started", "item_started", "review_started")
_LAST = (
    "item_failed", "item_skipped", "review_failed", "item_completed", "review_completed",
    "phase_completed", "workflow_abandoned", "workflow_completed",
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate((*_ORDER, "", *_LAST))}


_TOLD = ("event_type", "workflow_id", "phase_id", "item_id", "message", "details", "actor")


@dataclasses.dataclass(frozen=True, slots=True)
class _Event:
    at: dt.datetime
    type: str
    workflow: str
    phase: str | None
    item: str | None
    message: str
    details: Mapping[str, Any]
    identity: bytes
    where: str

    @property
    def order(self) -> tuple[dt.datetime, int, bytes]:
        """By time; what happened at once, as it must have happened; never by where the line stands."""
        return self.at, _RANK.get(self.type, len(_ORDER)), self.identity


def _events(path: Path, name: str, live: bool, rejected: list[Rejected]) -> Iterator[_Event]:
    try:
        for number, line, finished in _lines(path):
            where = f"{name}:{number}"
            if not line.strip():
                continue
            try:
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"is longer than {LONGEST_LINE / 1e6:.0f} MB")
                event = _event(line, name)
            except (ValueError, RecursionError) as problem:
                if live and not finished and not _is_json(line):
                    continue  # still being written
                rejected.append(Rejected(where, _reason(problem)))
                continue
            yield event
    except (OSError, EOFError, zlib.error) as problem:
        told = _reason(problem) if isinstance(problem, OSError) else f"is a damaged archive ({problem})"
        rejected.append(Rejected(name, told))


def _is_json(line: bytes) -> bool:
    try:
        _parsed(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """The lines of a file with their numbers and whether they are finished; of one too long, only its beginning."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            finished = line.endswith(b"\n")
            while not finished and len(line) > LONGEST_LINE and (rest := file.readline(LONGEST_LINE)):
                finished = rest.endswith(b"\n")
            yield number, line, finished


def _event(line: bytes, file: str) -> _Event:
    """An event of a line.

    Raises:
        ValueError: it is none; the message says what is missing.
    """
    raw = _parsed(line)
    if not isinstance(raw, dict):
        raise ValueError("is no event: not an object")
    for key in ("event_type", "workflow_id"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise ValueError(f"is no event: it has no {key}")
    try:
        at = _time(raw.get("timestamp"))
    except ValueError as problem:
        raise ValueError(f"its timestamp {problem}") from None
    details = raw.get("details")
    # the same event may stand in files of two layouts, with another notation of its time, or with a field more
    told = [at.isoformat(), *(raw.get(key) for key in _TOLD)]
    return _Event(
        at=at,
        type=_text(raw["event_type"]).strip(),
        workflow=_text(raw["workflow_id"]).strip(),
        phase=_text(raw.get("phase_id")).strip() or None,
        item=_text(raw.get("item_id")).strip() or None,
        message=_text(raw.get("message")).strip(),
        details=details if isinstance(details, dict) else {},
        identity=hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).digest(),
        where=file,
    )


def _from_events(key: str, events: list[_Event], state: _State | None) -> Workflow:
    events = sorted(events, key=lambda event: event.order)
    definition = state.definition if state else None
    steps: dict[str, Step] = {}
    failures: list[Failure] = []
    for event in events:
        if event.item and (outcome := _OUTCOMES.get(event.type)):
            phase = event.phase or _phase_of(event.item, definition)
            steps[event.item] = Step(
                phase=phase, item=event.item, outcome=outcome, at=event.at, text=_words(event, outcome)
            )
        if _went_wrong(event):
            failures.append(_failure(event))
    ended = [event.type for event in events if event.type in _ENDS]
    learnings = (e for e in events if e.type == "item_completed" and e.item == LEARNINGS)
    return Workflow(
        id=key,
        task=(state.task if state else "") or _task(events),
        status=_ENDS[ended[-1]] if ended else "active",
        started_at=events[0].at,
        last_at=events[-1].at,
        events=len(events),
        phases=_seconds(events),
        steps=tuple(sorted(steps.values(), key=lambda step: (step.at, step.item))),
        failures=tuple(failures),
        reviewed=_reviewed(events),
        parallel=_parallel(list(steps.values()), events),
        definition=definition,
        where=events[-1].where,
        learnings=tuple(text for e in learnings if (text := _words(e, "completed"))),
    )


_OUTCOMES: dict[str, Outcome] = {
    "item_completed": "completed",
    "item_skipped": "skipped",
    "item_failed": "failed",
}
_ENDS: dict[str, Status] = {"workflow_completed": "completed", "workflow_abandoned": "abandoned"}
_STARTED = "Started workflow:"


def _words(event: _Event, outcome: Outcome) -> str:
    """What was said with an item: notes, or the reason of a skip."""
    keys = ("reason", "notes") if outcome == "skipped" else ("notes", "error") if outcome == "failed" else ("notes",)
    return next((text for key in keys if (text := _text(event.details.get(key)).strip())), "")


def _task(events: Sequence[_Event]) -> str:
    messages = (event.message for event in events if event.type == "workflow_started")
    return next((text for m in messages if (text := m.removeprefix(_STARTED).strip())), "")


def _seconds(events: Sequence[_Event]) -> dict[str, int]:
    """Seconds by phase, in the order of their first end, over all times it was entered and completed.

    A phase that was entered again without an end before counts from then on: what lay between is not known.
    """
    entered: dict[str, list[dt.datetime]] = {}
    spent: dict[str, int] = {}
    for event in events:
        if event.phase and event.type == "phase_started":
            entered.setdefault(event.phase, []).append(event.at)
        elif event.phase and event.type == "phase_completed" and (starts := entered.get(event.phase)):
            # completed and entered again at one moment: what ends is what was entered before it
            start = next((at for at in reversed(starts) if at < event.at), starts[-1])
            entered[event.phase] = starts[starts.index(start) + 1 :]
            spent[event.phase] = spent.get(event.phase, 0) + int((event.at - start).total_seconds())
    return spent


def _phase_of(item: str, definition: Mapping[str, tuple[str, ...]] | None) -> str:
    for phases in (definition or {}, default_items()):
        for phase, items in phases.items():
            if item in items:
                return phase
    return NO_PHASE


# --- reviews, parallel work -------------------------------------------------------------------------------------------

_NOT_MADE = re.compile(
    r"\bdeferred\b|\bpostponed\b|\bskipped\b|\bn/a\b|\bnot\s+(?:yet\s+)?(?:run|made|done|performed|executed|available)\b"
    r"|\b(?:could|did|was|can)(?:\s+not|n['’]t)\s+(?:be\s+)?(?:run|made|done|performed|executed)\b",
    re.IGNORECASE,
)


def _reviewed(events: Sequence[_Event]) -> bool | None:
    """Whether the reviews worked at last; one that found something to mend did."""
    worked: dict[str, bool] = {}
    for event in events:
        name = _text(event.details.get("review_type")).strip() or (event.item or "").removesuffix("_review")
        if event.type == "review_completed":
            worked[name] = not event.details.get("error")
        elif event.type == "review_failed":
            found = any(event.details.get(key) for key in ("review_notes", "findings_count", "blocking_count"))
            worked[name] = found and not event.details.get("error")
        elif event.type == "item_completed" and event.phase == "REVIEW" and (event.item or "").endswith("_review"):
            first = re.split(r"[.;\n]", _words(event, "completed"), maxsplit=1)[0]
            if not _NOT_MADE.search(first):
                worked[name] = True
    return all(worked.values()) if worked else None


_AGENTS = ("agents", "agent_ids", "subagents", "parallel_agents", "agents_spawned", "agents_used", "agent_count")
_TOLD_BY = ("workflow_adherence_check", "parallel_execution_check")  # what was done says more than what was planned
_MANY = r"(?:parallel|concurrent|multi(?:ple)?|several|two|three|four|five|[2-9]|[1-9][0-9])"
_DID = (
    r"(?:will\s+use|us(?:e|ed|ing)|launch(?:ed|ing)?|spawn(?:ed|ing)?|r[au]n(?:ning)?|start(?:ed|ing)?|chos?en?|chose)"
)
_YES = re.compile(
    rf"\b{_DID}\s+(?:\w+\s+){{0,3}}?{_MANY}[\s-]+(?:\w+\s+){{0,2}}?(?:sub-?)?(?:agents?|execution|tasks?|tool\s+calls)\b"
    rf"|\b{_DID}\s+(?:[\w/-]+\s+){{0,5}}?in\s+parallel\b|\b(?:done|worked|executed|implemented|built)\s+in\s+parallel\b"
    r"|\b(?:parallel|multi(?:ple)?)[\s-]+(?:execution|agents?)\s+(?:was|were|is|are|will\s+be)?\s*(?:used|chosen|launched)\b"
    r"|\bparallel(?:\s+(?:execution|agents?)){0,1}(?:\s+used)?\s*[:=]\s*(?:yes|true)\b|\bnot\s+sequential",
    re.IGNORECASE,
)
_NO = re.compile(
    r"\bsequential(?:ly)?\b|\bserially\b|\bone\s+after\s+(?:the\s+other|another)\b|\b(?:single|one|1)[\s-]+agent\b"
    r"|\b(?:no|not|never|without|cannot|instead\s+of|rather\s+than|\w+n['’]t)\s+(?:\w+\s+){0,4}?"
    r"(?:parallel\w*|multi(?:ple)?[\s-]+agents?)\b"
    r"|\b(?:parallel\w*|multi(?:ple)?[\s-]+agents?)\b(?:\s+\w+){0,3}?\s+(?:not|n/a|unnecessary|never|(?:is|are|was|were)n['’]t)\b"
    r"|\bparallel\w*(?:\s+\w+){0,2}\s*[:=]\s*(?:no|none|false|n/a|not)\b"
    r"|\b(?:should|could)\s+have\s+(?:\w+\s+){0,5}?(?:parallel|multiple)\b",
    re.IGNORECASE,
)
_DECLINED = re.compile(  # the item asks whether to, so that this is an answer
    r"\s*(?:no\b(?!\s+(?:problem|issue))|none\b|n/a\b|not\s+(?:needed|applicable|used|necessary|beneficial|worth))",
    re.IGNORECASE,
)
_MAYBE = re.compile(r"\b(?:could|can|might|may|would|should|consider\w*|whether|if)\b", re.IGNORECASE)


def _parallel(steps: Sequence[Step], events: Sequence[_Event]) -> bool | None:
    """Whether several agents worked at once: as events name them, else as the notes of the two items that ask say."""
    if any(_names_several(event.details) for event in events):
        return True
    by_item = {step.item: step for step in steps}
    for item in _TOLD_BY:
        step = by_item.get(item)
        if step and step.outcome == "completed" and (told := _says_parallel(step.text)) is not None:
            return told
    decided = by_item.get(_TOLD_BY[-1])
    return False if decided and (decided.outcome == "skipped" or _DECLINED.match(decided.text)) else None


def _names_several(details: Mapping[str, Any]) -> bool:
    if any(details.get(key) is True for key in ("parallel", "parallel_agents", "parallel_execution")):
        return True
    for key in _AGENTS:
        value = details.get(key)
        if isinstance(value, list) and len({json.dumps(one, sort_keys=True) for one in value if one}) > 1:
            return True
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 1:
            return True
    return False


def _says_parallel(notes: str) -> bool | None:
    """What notes say of parallel work; a bare mention says nothing.

    >>> _says_parallel("Will use parallel execution: two independent modules")
    True
    >>> _says_parallel("Will use sequential execution because all is in one file")
    False
    >>> _says_parallel("Considered parallel execution")
    """
    answers = set()
    for clause in re.split(r"[.;,\n]+|\bbut\b|\bbecause\b|\bsince\b", re.sub(r"[\[\]()*_`]", "", notes)):
        yes, no = _YES.search(clause), _NO.search(re.sub(r"(?i)\bnot\s+sequential\w*", "", clause))
        if no:
            answers.add(False)
        elif yes and not _MAYBE.search(clause):
            answers.add(True)
    return None if not answers else True in answers


# --- what went wrong, and in what -------------------------------------------------------------------------------------

_PRINTED = ("error", "error_message", "stderr", "stdout", "output", "traceback", "stack_trace", "trace", "review_notes")
_REFUSED = re.compile(r"^(?:Verification|Gate|Item|Review) failed: *", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:[A-Z]\w*(?:Error|Exception|Exit|Interrupt)|Error)\b\s*(?::|$)|^\S*Error\b")
_TELLING = re.compile(
    r"\b(?:error|fatal|fail(?:ed|ure|s)?|cannot|can['’]t|could not|not found|no such|denied|refused|timed? ?out|panic|"
    r"unexpected|undefined|invalid|missing|killed|aborted)\b",
    re.IGNORECASE,
)
_FRAME = re.compile(r'^\s+File "(?P<path>[^"\n]{1,1000})", line \d+', re.MULTILINE)
_TRACE = "Traceback (most recent call last)"


def _went_wrong(event: _Event) -> bool:
    return event.type == "error" or event.type.endswith(("_failed", "_error"))


def _failure(event: _Event) -> Failure:
    command = _command(event.details)
    printed = [text for key in _PRINTED if (text := _printed(event.details.get(key)))]
    parts = dict.fromkeys(
        part for part in (_printed(event.message), f"$ {command}" if command else "", *printed) if part
    )
    return Failure(
        phase=event.phase,
        item=event.item,
        at=event.at,
        message=_message(event, command, printed),
        text="\n".join(parts) or event.type,
        by_tool=_by_tool(event, command, printed),
    )


def _printed(value: Any) -> str:
    """What was printed, its beginning and end; structures as JSON."""
    if isinstance(value, dict | list) and value:
        value = json.dumps(value, ensure_ascii=False)
    text = _text(value).strip()
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]}\n…\n{text[-half:]}"


def _command(details: Mapping[str, Any]) -> str:
    given = details.get("command") or details.get("cmd") or details.get("command_args")
    if isinstance(given, list):
        given = " ".join(_text(one) for one in given)
    return " ".join(_text(given).split())[:500]


def _message(event: _Event, command: str, printed: Sequence[str]) -> str:
    """The line that says most, behind the command it is about."""
    line = next((found for text in printed if (found := _line(text))), "") or _line(event.message)
    line = _REFUSED.sub("", line) or event.type
    command = command or ("review" if event.type.startswith("review_") else "")
    told = f"{command}: {line}" if command and not line.startswith(command) else line
    return told if len(told) <= 500 else f"{told[:499]}…"


def _line(text: str) -> str:
    """The line of an output that names the error: the last of a Python trace, else the first that says so."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if _TRACE in text:
        ends = [line for line in text.rpartition(_TRACE)[2].splitlines() if line[:1].strip() and _NAMED.search(line)]
        if ends:
            return ends[0].strip()
    for pattern in (_NAMED, _TELLING):
        for line in lines:
            if pattern.search(line):
                return line
    return lines[-1] if lines else ""


_WORDS = """
advance analyze approval approve approve-item checkpoint checkpoints cleanup complete config context-reminder dashboard
doctor enforce feedback finish generate-md handoff heal health init issues learn list prd resolve resume review
review-results review-retry review-status secrets sessions setup setup-reviews skip start status task update-models
validate validate-adherence verify-write-allowed visual-template visual-verify visual-verify-all workflow
"""
_COMMANDS = frozenset(_WORDS.split())
_STEPPED = re.compile(r"&&|\|\||[;|\n]")
_BEFORE = re.compile(
    r"^(?:(?:sudo|env|time|exec|command|nohup|uvx?|poetry|pipx|pipenv|run|--)\s+|[A-Za-z_]\w*=\S*\s+)+"
)
_SILENT = frozenset(("cd", "export", "source", ".", "set", "pushd", "true", ":", "echo"))
_SHELL = re.compile(r"^(?:(?:/\S*/)?(?:ba|z|da)?sh: (?:line \d+: )?)")
# modules of the tool's package, which is called src, as that of many a project; names that any project has are not here
_MODULES = """
__main__ adherence_validator agent_sdk approval_gate approval_queue artifact_gates checkpoint claude_integration cli
coordinator critique enforcement engine escalation feedback_capture gates git_conflict_resolver healing learning_engine
learnings_pipeline mode_detection model_registry nl_commands orchestrator path_resolver prd session_logger
session_manager state_version sync_manager task_provider transcript_logger user_config v4 visual_verification
worktree_manager
"""
_INSTALLED = re.compile(
    rf"/(?:site|dist)-packages/(?:src/(?:{'|'.join(_MODULES.split())})(?:\.py|/)|(?:workflow_)?orchestrator/)"
    rf"|/(?:pipx/venvs|uv/tools)/{TOOL}/(?!.*/(?:site|dist)-packages/(?!src/))"
)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3[^/]*/|^<|/importlib/")
_SELF = frozenset(("orchestrator", TOOL, "workflow_orchestrator"))
_WHO = ("component", "source", "origin")


def _by_tool(event: _Event, command: str, printed: Sequence[str]) -> bool:
    """Whether the tool itself failed. Where nothing proves it, it was the project: what is private stays so.

    A path with the tool's name in it is no proof: the tool's own repository is a project, too.
    """
    for key in _WHO:
        who = _text(event.details.get(key)).strip().lower()
        if who in _SELF or who in ("tool", "project"):
            return who != "project"
    if event.type == "review_failed" and event.details.get("error"):
        return True
    if command:
        return _calls_tool(command) or _raised_in_tool(printed)
    texts = [event.message, *printed]
    return any(_told_by_tool(text) for text in texts) or _raised_in_tool(texts)


def _calls_tool(command: str) -> bool:
    """Whether a command line runs nothing but the tool."""
    parts = [part.strip().strip("()").strip() for part in _STEPPED.split(command)]
    words = [_BEFORE.sub("", part).split() for part in parts if part]
    heads = [one for one in words if one and one[0] not in _SILENT]
    return bool(heads) and all(_is_tool(one[0].strip("\"'")) for one in heads)


def _is_tool(program: str) -> bool:
    """Whether a command is the tool's; a script of the project may have its name."""
    path = PurePath(program)
    if path.name != "orchestrator" or "/" not in program:
        return path.name == "orchestrator"
    return path.parent.name == "bin" and (path.is_absolute() or path.parent.parent.name in (".venv", "venv", "env"))


def _told_by_tool(text: str) -> bool:
    """Whether an error line begins as a command of the tool: ``orchestrator prd spawn: command not found``."""
    first = _SHELL.sub("", _REFUSED.sub("", text.strip().partition("\n")[0]).lstrip("$ `'\""))
    words = first.split(None, 2)
    if not words or PurePath(words[0].rstrip(":`'\"")).name != "orchestrator":
        return False
    if words[0].endswith(":"):
        return first.partition(":")[2].strip().startswith("command not found")
    return len(words) > 1 and words[1].rstrip(":`'\",") in _COMMANDS


def _raised_in_tool(texts: Sequence[str]) -> bool:
    """Whether the frame that raised lies in the installed tool; frames of libraries say nothing."""
    for text in reversed(texts):
        if _TRACE not in text:
            continue
        frames = [found["path"].replace("\\", "/") for found in _FRAME.finditer(text.rpartition(_TRACE)[2])]
        for path in reversed(frames):
            if _INSTALLED.search(path):
                return True
            if not _LIBRARY.search(path):
                return False
    return False


# --- states -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    id: str
    task: str
    status: Status
    started_at: dt.datetime
    last_at: dt.datetime
    saved_at: dt.datetime
    phases: Mapping[str, Mapping[str, Any]]
    definition: Mapping[str, tuple[str, ...]] | None
    where: str


def _state(path: Path, name: str) -> _State | None:
    """The state in a file; None when the file is about something else, as the tool's agents have it.

    Raises:
        ValueError: it is no state; the message says why.
        OSError: it cannot be read.
    """
    raw = _parsed(path.read_bytes())
    if not isinstance(raw, dict):
        raise ValueError("is no state: not an object")
    key = next((text for k in ("workflow_id", "id") if (text := _text(raw.get(k)).strip())), "")
    if not key:
        if isinstance(raw.get("tasks"), dict):
            return None
        raise ValueError("is no state: it has no workflow_id")
    phases = {_text(k): v for k, v in _mapping(raw.get("phases")).items() if isinstance(v, dict)}
    inner = [_when(one, k) for one in phases.values() for k in _TIMES]
    inner += [_when(item, k) for one in phases.values() for item in _items(one).values() for k in _TIMES]
    times = [at for at in (*inner, _when(raw, "completed_at")) if at]
    created, updated = _when(raw, "created_at"), _when(raw, "updated_at")
    known = [at for at in (created, *times, None if times else updated) if at]
    if not known:
        raise ValueError("is no state: it has no time")
    status = _text(raw.get("status")).lower()
    return _State(
        id=key,
        task=next((text for k in ("task_description", "task") if (text := _text(raw.get(k)).strip())), ""),
        status="completed" if status == "completed" else "abandoned" if status == "abandoned" else "active",
        started_at=min(known),
        last_at=max(known),
        saved_at=updated or max(known),
        phases=phases,
        definition=_definition(raw.get("workflow_definition"), phases),
        where=name,
    )


_TIMES = ("started_at", "completed_at", "skipped_at")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(phase: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The items of a phase by id, however they are listed."""
    items = phase.get("items")
    if isinstance(items, list):
        items = {one["id"]: one for one in items if isinstance(one, dict) and isinstance(one.get("id"), str)}
    return {_text(k): v for k, v in _mapping(items).items() if isinstance(v, dict) and _text(k).strip()}


def _when(values: Mapping[str, Any], key: str) -> dt.datetime | None:
    try:
        return _time(values.get(key))
    except ValueError:
        return None


def _definition(given: Any, phases: Mapping[str, Mapping[str, Any]]) -> Mapping[str, tuple[str, ...]] | None:
    """Phase → items of the definition kept in a state, else of the phases it lists."""
    listed = _mapping(given).get("phases")
    defined: dict[str, tuple[str, ...]] = {}
    for phase in listed if isinstance(listed, list) else ():
        if isinstance(phase, dict) and _text(phase.get("id")).strip():
            defined[_text(phase["id"]).strip()] = tuple(_items(phase))
    defined = defined or {phase: tuple(_items(values)) for phase, values in phases.items()}
    return defined if any(defined.values()) else None


def _from_state(state: _State) -> Workflow:
    steps: list[Step] = []
    failures: list[Failure] = []
    spent: dict[str, int] = {}
    learnings: list[str] = []
    for phase, values in state.phases.items():
        begun, ended = _when(values, "started_at"), _when(values, "completed_at")
        if begun and ended and ended >= begun:
            spent[phase] = int((ended - begun).total_seconds())
        for item, held in _items(values).items():
            outcome = _text(held.get("status")).lower()
            at = _when(held, "skipped_at" if outcome == "skipped" else "completed_at") or ended or state.last_at
            text = _text(held.get("skip_reason" if outcome == "skipped" else "notes")).strip()
            if outcome in ("completed", "skipped", "failed"):
                steps.append(Step(phase=phase, item=item, outcome=outcome, at=at, text=text))  # type: ignore[arg-type]
            if outcome == "failed":
                failures.append(_failure(_state_event(state, "item_failed", phase, item, at, text, held)))
            if outcome == "completed" and item == LEARNINGS and text:
                learnings.append(text)
    steps.sort(key=lambda step: (step.at, step.item))
    made = [
        _state_event(state, "item_completed", step.phase, step.item, step.at, "", {"notes": step.text})
        for step in steps
        if step.outcome == "completed"
    ]
    return Workflow(
        id=state.id,
        task=state.task,
        status=state.status,
        started_at=state.started_at,
        last_at=state.last_at,
        events=0,
        phases=spent,
        steps=tuple(steps),
        failures=tuple(sorted(failures, key=lambda one: (one.at, one.item or ""))),
        reviewed=_reviewed(made),
        parallel=_parallel(steps, ()),
        definition=state.definition,
        where=state.where,
        learnings=tuple(learnings),
    )


def _state_event(
    state: _State, kind: str, phase: str, item: str, at: dt.datetime, message: str, held: Mapping[str, Any]
) -> _Event:
    """What a state holds of an item, as the event that told it."""
    details = {**_mapping(held.get("verification_result")), **{k: held[k] for k in ("notes",) if k in held}}
    return _Event(at, kind, state.id, phase, item, message, details, b"", state.where)
