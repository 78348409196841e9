"""The two kinds of entries, and the files they stand in: one JSON object a line, in the workflow tool's own formats."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import math
import os
import re
import threading
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from feedback_lib import orchestrator, privacy
from feedback_lib.errors import PayloadError
from feedback_lib.records import Rejected, real_time
from feedback_lib.workflows import disk, ids, telling

Mode = Literal["auto", "interactive"]
RepoType = Literal["python", "javascript", "go", "rust", "unknown"]

TOOL_FILE = ".workflow_tool_feedback.jsonl"
PROCESS_FILE = ".workflow_process_feedback.jsonl"
LEGACY_FILE = ".workflow_feedback.jsonl"
BACKUP_FILE = LEGACY_FILE + ".migrated"
UNKNOWN = "unknown"
RELEASE = r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,2}(?:[.-]?(?:a|b|rc|dev|alpha|beta|post)\.?[0-9]{0,4}){0,2}"

ERROR_CHARACTERS = 3_000  # the workflow tool keeps 1,000 of each output: with the command all of it stands here

_PUBLIC_SALT = "workflow-orchestrator-default-salt-v1"  # the workflow tool's own; WORKFLOW_SALT replaces it there
_SHORT_HASH = re.compile(r"[0-9a-f]{8,31}")
_VERSION = re.compile(RELEASE + r"(?:\+[\w.]{1,40})?")
_BOM = b"\xef\xbb\xbf"


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What the two files hold: the latest entry of each workflow, oldest first, and the lines that say nothing."""

    tool: tuple[ToolEntry, ...]
    process: tuple[ProcessEntry, ...]
    rejected: tuple[Rejected, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What became of the single file: how many entries came over, where it is kept, which lines say nothing."""

    entries: int
    backup: Path
    rejected: tuple[Rejected, ...]


def to_line(entry: ToolEntry | ProcessEntry) -> str:
    """An entry as it stands in its file, without the line's end: JSON, fields in order, null for None.

    >>> to_line(tool_entry({"timestamp": "2026-01-11T10:30:00Z", "workflow_id_hash": "ab" * 16}, "here"))[:60]
    '{"timestamp": "2026-01-11T10:30:00Z", "workflow_id_hash": "a'
    """
    return _dumped(_fields(entry))


def version(entry: ToolEntry) -> str:
    """What tells two versions of a workflow's entry apart: 32 hex digits, of all but its hash and when it was sent."""
    content = dataclasses.replace(entry, workflow_id_hash="", synced_at=None)
    return hashlib.sha256(to_line(content).encode()).hexdigest()[:32]


def facts(entry: ToolEntry) -> tuple[object, ...] | None:
    """What entries of one workflow have in common that were captured with two salts, as where no home folder lasts.

    None: it tells too little to be known by it.
    """
    if not entry.duration_seconds:
        return None
    own = sum(item.startswith("custom:") for item in entry.items_skipped)
    usual = frozenset(item for item in entry.items_skipped if not item.startswith("custom:"))
    spent = frozenset(entry.phases.items())
    return entry.timestamp, entry.duration_seconds, spent, usual, own, entry.items_skipped_pct


def stamp(at: dt.datetime) -> str:
    """An aware time as entries have it: UTC, to the second.

    >>> stamp(dt.datetime(2026, 1, 11, 10, 30, 0, 999, tzinfo=dt.UTC))
    '2026-01-11T10:30:00Z'
    """
    return at.astimezone(dt.UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def tool_entry(mapping: Mapping[str, Any], where: str) -> ToolEntry:
    """A tool entry of JSON values; what the workflow tool itself wrote is read, too.

    Args:
        mapping: the fields. Missing ones, and those whose meaning the tool's own fields only hint at, are "nothing
            tells": ``reviews_performed`` is True in ``reviews_worked``, or nothing; a count of skips or errors names
            none.
        where: where it stood, for the message.

    Raises:
        PayloadError: a field is not what it should be; ``.where`` and ``.reason``.
    """
    read = _Reader(mapping, where)
    hashed = read.text("workflow_id_hash")
    if not hashed:
        read.refuse("has no workflow_id_hash")
    if not (ids.HASH.fullmatch(hashed) or _SHORT_HASH.fullmatch(hashed)):
        read.refuse("workflow_id_hash is not 32 hex digits")
    repo_type, release = read.text("repo_type"), read.text("orchestrator_version")
    performed = True if read.flag("reviews_performed") else None
    return ToolEntry(
        timestamp=stamp(read.time("timestamp")),
        workflow_id_hash=hashed,
        orchestrator_version=release if _VERSION.fullmatch(release) else UNKNOWN,
        repo_type=typing.cast("RepoType", repo_type if repo_type in typing.get_args(RepoType) else UNKNOWN),
        duration_seconds=read.seconds("duration_seconds"),
        phases=read.phases("phases"),
        phase0_guidance_used=read.flag("phase0_guidance_used"),
        reviews_worked=read.flag("reviews_worked") if "reviews_worked" in mapping else performed,
        orchestrator_errors=read.texts("orchestrator_errors"),
        items_skipped=read.texts("items_skipped"),
        items_skipped_pct=read.share("items_skipped_pct"),
        confusing_items=read.texts("confusing_items"),
        tool_suggestions=read.text("tool_suggestions"),
        mode=read.mode(),
        synced_at=stamp(read.time("synced_at")) if mapping.get("synced_at") is not None else None,
    )


def process_entry(mapping: Mapping[str, Any], where: str) -> ProcessEntry:
    """A process entry of JSON values; what the workflow tool itself wrote, in either of its forms, is read, too.

    Its ``errors_summary`` are project errors, ``multi_agents_used`` is its older word for parallel agents, ``notes``
    stand with the learnings. An entry whose workflow it did not know is a workflow of its own, ``unknown@<time>``. What
    it says of parallel agents by itself is nothing: it looked for the word anywhere in the log.

    Raises:
        PayloadError: a field is not what it should be; ``.where`` and ``.reason``.
    """
    read = _Reader(mapping, where)
    at = read.time("timestamp")
    workflow_id = read.text("workflow_id")
    learnings = [text for text in (read.text("learnings"), read.text("notes")) if text.strip()]
    parallel = next((f for f in ("parallel_agents_used", "multi_agents_used") if f in mapping), "")
    guessed = "errors_summary" in mapping and read.mode() == "auto"
    return ProcessEntry(
        timestamp=stamp(at),
        workflow_id=workflow_id if workflow_id not in ("", UNKNOWN) else unknown(at),
        repo=read.text("repo") or UNKNOWN,
        task=read.text("task"),
        parallel_agents_used=None if guessed else read.flag(parallel),
        project_errors=read.texts("project_errors" if "project_errors" in mapping else "errors_summary"),
        learnings="\n".join(learnings),
        what_went_well=read.text("what_went_well"),
        challenges=read.text("challenges"),
        improvements=read.text("improvements"),
        custom_workflow_items=read.texts("custom_workflow_items"),
        mode=read.mode(),
    )


class Files:
    """The two files of a folder.

    A line is only ever added at the end, or the whole file is replaced at once, by one process at a time. A line that
    is no entry stays where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.tool = self.folder / TOOL_FILE
        self.process = self.folder / PROCESS_FILE
        self.legacy = self.folder / LEGACY_FILE
        self._mutex = threading.RLock()
        self._depth = 0

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the files: of two processes the second sees what the first wrote. May be nested.

        Raises:
            ConfigError: the folder cannot be opened, or another process holds it for half a minute.
        """
        with self._mutex:
            if self._depth:
                yield
                return
            with disk.alone(self.folder):
                self._depth = 1
                try:
                    yield
                finally:
                    self._depth = 0

    def read(self, salt: bytes, *, process: bool = True) -> Entries:
        """The latest entry of each workflow, oldest first; of two in a file the later line counts.

        The workflow tool hashed ids with a salt that everyone knows: such a hash is replaced by ours, so that a
        workflow that both captured counts once and nothing that can be guessed is passed on.

        Args:
            salt: of this installation.
            process: whether the private file is read; if not, it is not even opened.

        Raises:
            ConfigError: a file is there and cannot be read.
        """
        private, bad_process = _entries(self.process, process_entry) if process else ([], [])
        tool, bad_tool = _entries(self.tool, tool_entry)
        named = {_public_hash(p.workflow_id): p.workflow_id for p, _ in private}
        latest: dict[str, ToolEntry] = {}
        for entry, mapping in tool:
            ours = self._ours(entry.workflow_id_hash, mapping, named, salt)
            latest.pop(ours, None)
            latest[ours] = dataclasses.replace(entry, workflow_id_hash=ours)
        return Entries(
            tool=tuple(sorted(latest.values(), key=lambda e: e.timestamp)),
            process=tuple(sorted({p.workflow_id: p for p, _ in private}.values(), key=lambda e: e.timestamp)),
            rejected=(*bad_tool, *bad_process),
        )

    @staticmethod
    def _ours(written: str, mapping: Mapping[str, Any], named: Mapping[str, str], salt: bytes) -> str:
        if ids.HASH.fullmatch(written):
            return written
        if written == _public_hash(UNKNOWN):
            return ids.hashed(salt, unknown(_Reader(mapping, "").time("timestamp")))
        return ids.hashed(salt, named.get(written, written))

    def append(self, tool: Sequence[ToolEntry], process: Sequence[ProcessEntry]) -> None:
        """Add entries at the end of their files, on disk when this returns; of a file all are added or none.

        Raises:
            ConfigError: a file cannot be written.
        """
        with self.alone():
            disk.append(self.tool, _content(map(to_line, tool)), 0o644)
            disk.append(self.process, _content(map(to_line, process)), 0o600)

    def mark(self, sent: Mapping[str, str], at: str, *, again: bool = False) -> int:
        """Note that entries were sent.

        Args:
            sent: by `ToolEntry.workflow_id_hash` as `read` gave it the `version` that was sent. An entry that was
                written since is another version and stays to be sent.
            at: when, as in `stamp`.
            again: also those that were marked before.

        Returns:
            How many lines were marked.
        """

        def marked(mapping: dict[str, Any], where: str) -> bool:
            entry = tool_entry(mapping, where)
            known = (sent.get(entry.workflow_id_hash),) if ids.HASH.fullmatch(entry.workflow_id_hash) else sent.values()
            if (entry.synced_at is not None and not again) or version(entry) not in known:
                return False
            mapping["synced_at"] = at
            return True

        return self._rewrite(marked)

    def _rewrite(self, changed: typing.Callable[[dict[str, Any], str], bool]) -> int:
        """Change lines of the tool file in place; other lines keep their bytes."""
        count = 0
        with self.alone():
            lines = []
            for where, line in _lines(self.tool):
                with contextlib.suppress(PayloadError):
                    mapping = _parsed(line, where)
                    if mapping is not None and changed(mapping, where):
                        line = _dumped(mapping).encode()
                        count += 1
                lines.append(line)
            if count:
                disk.replace(disk.inside(self.tool), b"".join(line + b"\n" for line in lines))
        return count

    def migrate(self, salt: bytes) -> Migrated | None:
        """Take over the single file of earlier versions of the workflow tool; None when there is none.

        Its entries go before those of the two files, so that what was captured later still counts. The file is kept
        under another name, with the lines that say nothing. A migration that was stopped goes on with the next call:
        what has come over is not taken again.

        Raises:
            ConfigError: a file cannot be read or written; nothing is lost.
        """
        with self.alone():
            if not self.legacy.exists():
                return None
            read, rejected = _entries(self.legacy, _Legacy(salt, self.folder))
            for path, mode, lines in (
                (self.tool, 0o644, [to_line(tool) for (tool, _), _ in read]),
                (self.process, 0o600, [to_line(process) for (_, process), _ in read]),
            ):
                _prepend(path, lines, mode)
            backup = _free(self.folder / BACKUP_FILE)
            try:
                self.legacy.rename(backup)
                disk.settle(self.folder)
            except OSError as problem:
                raise disk.unwritable(self.legacy, problem) from None
        return Migrated(entries=len(read), backup=backup, rejected=tuple(rejected))


# what an entry of the single file says of the tool as it stands there; words are none of it
_LEGACY_FIELDS = (
    "timestamp", "mode", "multi_agents_used", "orchestrator_version", "repo_type", "duration_seconds",
    "reviews_performed",
)  # fmt: skip


class _Legacy:
    """Splits an entry of the single file in two."""

    def __init__(self, salt: bytes, folder: Path) -> None:
        self.salt = salt
        self.repo_type = orchestrator.repo_type(folder)
        self.names = telling.own_names(folder)

    def __call__(self, mapping: Mapping[str, Any], where: str) -> tuple[ToolEntry, ProcessEntry]:
        process = process_entry(mapping, where)
        errors = [privacy.redact(e)[:ERROR_CHARACTERS] for e in process.project_errors]
        of_tool = [e for e in errors if telling.of_tool(e)]
        reasons = _Reader(mapping, where).texts("items_skipped_reasons")
        items = tuple(dict.fromkeys(item for r in reasons if (item := r.partition(":")[0].strip())))
        skipped = {item: ids.item(self.salt, item) for item in items}
        hashed = ids.hashed(self.salt, process.workflow_id)
        rest = {name: mapping[name] for name in _LEGACY_FIELDS if name in mapping}
        tool = tool_entry({"repo_type": self.repo_type, **rest, "workflow_id_hash": hashed}, where)
        tool = dataclasses.replace(
            tool,
            phases=ids.phases(_Reader(mapping, where).phases("phases")),
            items_skipped=tuple(sorted(skipped.values())),
            orchestrator_errors=telling.tool_errors(of_tool, self.names),
        )
        repo = privacy.redact(process.repo) if "://" in process.repo else process.repo  # the remote, maybe with a token
        return tool, dataclasses.replace(
            process,
            project_errors=tuple(e for e in errors if e not in of_tool),
            repo=repo,
            custom_workflow_items=tuple(item for item in items if skipped[item] != item),  # so that reviews name them
        )


class _Reader:
    """Fields of one entry, each as what it has to be."""

    def __init__(self, mapping: Mapping[str, Any], where: str) -> None:
        self.mapping = mapping
        self.where = where

    def refuse(self, reason: str) -> NoReturn:
        raise PayloadError("workflow feedback", self.where.rpartition(":")[0], self.where, reason)

    def text(self, field: str) -> str:
        value = self.mapping.get(field)
        if value is not None and not isinstance(value, str):
            self.refuse(f"{field} is no text")
        return value or ""

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.mapping.get(field)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            self.refuse(f"{field} is no list of texts")
        return tuple(value)

    def flag(self, field: str) -> bool | None:
        value = self.mapping.get(field)
        if value is not None and not isinstance(value, bool):
            self.refuse(f"{field} is neither true, false nor null")
        return value

    def seconds(self, field: str) -> int:
        return self._seconds(field, self.mapping.get(field, 0))

    def _seconds(self, name: str, value: Any) -> int:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None:
            return 0
        if not number or not math.isfinite(value) or value < 0:
            self.refuse(f"{name} is no number of seconds")
        return int(value)

    def phases(self, field: str) -> dict[str, int]:
        value = self.mapping.get(field)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.refuse(f"{field} is no object of seconds by phase")
        return {str(name): self._seconds(f"{field}.{name}", seconds) for name, seconds in value.items()}

    def share(self, field: str) -> float | None:
        value = self.mapping.get(field)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            self.refuse(f"{field} is no share from 0 to 1")
        return float(value)

    def mode(self) -> Mode:
        # the form that has multi_agents_used has no mode: it was always asked for
        value = self.text("mode") or ("interactive" if "multi_agents_used" in self.mapping else "auto")
        if value not in typing.get_args(Mode):
            self.refuse("mode is neither auto nor interactive")
        return typing.cast("Mode", value)

    def time(self, field: str) -> dt.datetime:
        value = self.text(field)
        if not value:
            self.refuse(f"has no {field}")
        try:
            at = dt.datetime.fromisoformat(re.sub(r"\+00:00Z$", "Z", value.strip()))
            return real_time(at.astimezone(dt.UTC) if at.tzinfo else at.replace(tzinfo=dt.UTC))  # the tool writes UTC
        except (ValueError, OverflowError):
            self.refuse(f"{field} is no time such as 2026-01-11T10:30:00Z")


def unknown(at: dt.datetime) -> str:
    """The id of a workflow of which only a time is known; it is the only one of then."""
    return f"{UNKNOWN}@{at.isoformat()}"


def _public_hash(workflow_id: str) -> str:
    """What the workflow tool itself makes of an id."""
    salt = os.environ.get("WORKFLOW_SALT", _PUBLIC_SALT)
    return hashlib.sha256((salt + workflow_id).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _fields(entry: ToolEntry | ProcessEntry) -> dict[str, Any]:
    fields = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    if fields.get("synced_at", "") is None:
        del fields["synced_at"]
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}


def _dumped(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair is no UTF-8
        text = json.dumps(fields, allow_nan=False)
    return text


def _content(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, if it is there, and where they stand; as they are, without the line's end."""
    content = disk.content(path)
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    for number, line in enumerate(lines, 1):
        yield f"{path.name}:{number}", line


def _parsed(line: bytes, where: str) -> dict[str, Any] | None:
    """The JSON object of a line; None for an empty one."""
    refuse = _Reader({}, where).refuse
    try:
        text = line.removeprefix(_BOM).decode().strip()
    except UnicodeDecodeError:
        refuse("is not UTF-8")
    if not text:
        return None
    try:
        value = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as problem:
        refuse(f"is no JSON: {problem.msg} at character {problem.pos + 1}")
    except (ValueError, RecursionError):
        refuse("is no JSON that can be read")
    if not isinstance(value, dict):
        refuse("is no JSON object")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


_Entry = typing.TypeVar("_Entry")


def _entries(
    path: Path, make: typing.Callable[[Mapping[str, Any], str], _Entry]
) -> tuple[list[tuple[_Entry, Mapping[str, Any]]], list[Rejected]]:
    """What a file's lines say, each with its JSON object, and those that say nothing."""
    entries: list[tuple[_Entry, Mapping[str, Any]]] = []
    rejected: list[Rejected] = []
    for where, line in _lines(path):
        try:
            mapping = _parsed(line, where)
            if mapping is not None:
                entries.append((make(mapping, where), mapping))
        except PayloadError as problem:
            rejected.append(Rejected(where, problem.reason))
    return entries, rejected


def _prepend(path: Path, lines: Iterable[str], mode: int) -> None:
    """Put lines before those of a file, without those that stand in it already, sent or not."""
    there = (disk.content(path) or b"").removeprefix(_BOM)
    known = set()
    for line in there.split(b"\n"):
        with contextlib.suppress(PayloadError):
            mapping = _parsed(line, "")
            known.add(_dumped({k: v for k, v in (mapping or {}).items() if k != "synced_at"}))
    fresh = [line for line in dict.fromkeys(lines) if line not in known]
    if fresh:
        disk.replace(disk.inside(path), _content(fresh) + there, mode)


def _free(path: Path) -> Path:
    """A name that nobody has: the path, or with a number."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
