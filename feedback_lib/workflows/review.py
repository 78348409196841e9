"""What the captured entries of a folder show: patterns with their evidence, challenges, learnings, phase timings."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import re
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback_lib import config
from feedback_lib.analysis import patterns
from feedback_lib.analysis.patterns import USUAL, Pattern, PatternKind, Thresholds, duration, many, shortened
from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.records import Rejected
from feedback_lib.workflows import ids, settings
from feedback_lib.workflows.capture import option
from feedback_lib.workflows.entries import Entries, Files, ProcessEntry, ToolEntry, facts

if TYPE_CHECKING:
    from feedback_lib.config import Config

Similar = Callable[[Sequence[str]], Sequence[int]]

_WIDTH = 40  # of the line under the heading
_EVIDENCE, _SAID, _REJECTED = 10, 5, 5  # how many of each a text shows; JSON has all
_GROUPED = 5_000  # texts that are compared each with each; those said before them are alike only when equal


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Something a person wrote about a workflow. ``field`` is that of the entry it stands in."""

    field: str
    workflow: str
    timestamp: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a review found.

    Args:
        window: which entries it is about, in words, such as ``last 7 days``.
        workflows: of all entries in the window, oldest first; an id, or its hash where no entry tells the id.
        patterns: see `feedback_lib.analysis.patterns.find`.
        since: where the window begins, inclusive; None without a window.
        until: when the review was made.
        summary: counts: ``tool_entries``, ``process_entries``, ``errors``, ``items_skipped``; ``median_duration_s``;
            ``phases``, by name the median in seconds and the workflows that closed it; ``first`` and ``last`` entry.
        said: learnings, improvements and suggestions, newest first.
        notes: what a reader should know, one sentence each.
        rejected: lines that could not be read.
        files: where entries were looked for.
        thresholds: when a pattern is one.
    """

    window: str
    workflows: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    said: tuple[Said, ...] = ()
    notes: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    files: tuple[str, ...] = ()
    thresholds: Thresholds = USUAL

    def text(self) -> str:
        """For a terminal, without control characters; see `folded`."""
        lines = [f"Feedback Review ({self.window}, {many(len(self.workflows))})", "━" * _WIDTH]
        for name, part in (
            ("PATTERNS DETECTED", self._detected()),
            ("COMMON CHALLENGES", self._quoted("challenge")),
            ("LEARNINGS SUMMARY", [*self._quoted("went_well"), *self._timings(), *self._learnt()]),
            ("NOTES", [*(f"  • {note}" for note in self.notes), *self._unread()]),
        ):
            if part or (name == "PATTERNS DETECTED" and self.workflows):
                lines += ["", f"{name}:", *(part or ["  none"])]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-like."""
        found = dataclasses.asdict(self)
        found["patterns"] = [dataclasses.asdict(p) | {"mark": p.mark, "sentence": p.sentence()} for p in self.patterns]
        for name in ("since", "until"):
            found[name] = found[name] and found[name].isoformat()
        return found

    def _detected(self) -> list[str]:
        lines: list[str] = []
        for p in self.patterns:
            if p.kind in ("challenge", "went_well") or (p.kind == "phase" and not p.facts["drifts"]):
                continue
            lines += [""] if lines else []
            lines += [f"{p.mark} {shortened(p.sentence(), 400)}"]
            lines += [f"   → Suggestion: {shortened(p.advice, 200)}"] if p.advice else []
            lines += [f"   in {_listed(p.workflows)}"] if p.workflows else []
        return lines

    def _quoted(self, kind: PatternKind) -> list[str]:
        words = "mentioned" if kind == "challenge" else "went well"
        lines = []
        for p in self.patterns:
            if p.kind == kind:
                lines.append(f'  • "{shortened(p.facts["text"])}" ({words} in {p.facts["counted"]})')
                lines.append(f"     in {_listed(p.workflows)}")
        return lines

    def _timings(self) -> list[str]:
        phases = self.summary.get("phases") or {}
        told = ", ".join(
            f"{shortened(name, 40)}={duration(of['median_s'])} ({of['workflows']})" for name, of in phases.items()
        )
        lines = [f"  • Phase timings: median {told}; in brackets the workflows that closed it"] if told else []
        whole = self.summary.get("median_duration_s")
        return lines + ([f"  • A workflow takes {duration(whole)} (median)"] if whole is not None else [])

    def _learnt(self) -> list[str]:
        lines = []
        for field, words in _FIELDS.items():
            said = [s for s in self.said if s.field == field]
            for s in said[:_SAID]:
                text = shortened(_LABEL.sub("", s.text), 160)
                lines.append(f'  • {words}: "{text}" ({shortened(s.workflow)})')
            lines += [f"  • … and {len(said) - _SAID} more; --json has all"] if len(said) > _SAID else []
        return lines

    def _unread(self) -> list[str]:
        many = len(self.rejected)
        told = "1 line could not be read and is" if many == 1 else f"{many} lines could not be read and are"
        lines = [f"  • {told} in no number:"] if many else []
        lines += [f"     {shortened(r.where, 200)}: {shortened(r.reason, 200)}" for r in self.rejected[:_REJECTED]]
        return lines + ([f"     … and {many - _REJECTED} more; --json has all"] if many > _REJECTED else [])


_FIELDS = {
    "learnings": "Learned",
    "improvements": "Suggested for the project",
    "tool_suggestions": "Suggested for the tool",
}


_LABEL = re.compile(r"\A(?:key\s+)?learnings?\s*:\s*(?=\S)", re.IGNORECASE)  # which the line says itself
_SIGN = re.compile(r" *(?:[⚠✓·•→] |in )?")


def folded(text: str, width: int) -> str:
    """A review's text for a terminal of so many columns: what is longer goes on below, under the first line's words."""
    lines = []
    for line in text.split("\n"):
        sign = _SIGN.match(line)
        indent = " " * min(len(sign[0]) if sign else 0, width // 2)
        fold = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        lines += (fold.wrap(line) or [""]) if line.strip("━") else [line[:width]]
    return "\n".join(lines)


def _listed(workflows: Sequence[str]) -> str:
    shown = ", ".join(w[:12] + "…" if ids.HASH.fullmatch(w) else shortened(w, 60) for w in workflows[:_EVIDENCE])
    return f"{shown} and {len(workflows) - _EVIDENCE} more" if len(workflows) > _EVIDENCE else shown


def review(
    folder: str | Path,
    *,
    tool: bool = True,
    process: bool = True,
    days: int | None = 7,
    options: Thresholds = USUAL,
    now: dt.datetime,
    similar: Similar | None = None,
) -> Review:
    """Review the entries of a folder; those of the workflow tool's single file are taken over first.

    Args:
        folder: where the workflow tool's files are.
        tool: whether tool entries are reviewed.
        process: whether process entries are. Either way they tell the ids behind the hashes of tool entries.
        days: entries whose workflow's last event is at most so many days before ``now``, and not after it; None is all.
        options: when a pattern is one.
        now: the clock, aware.
        similar: groups texts by meaning, see `by_meaning`; None: only equal ones are alike.

    Raises:
        ConfigError: the folder is none, or a file in it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; --dir names the one with the workflow tool's files")
    files, salt = Files(folder), settings.salt()
    notes: list[str] = []
    rejected: list[Rejected] = []
    try:
        if moved := files.migrate(salt):
            came = "1 entry was" if moved.entries == 1 else f"{moved.entries} entries were"
            notes.append(f"{came} taken over from {files.legacy.name}, which is kept as {moved.backup}")
            rejected += moved.rejected
    except ConfigError as problem:
        notes.append(f"{files.legacy.name} is not reviewed: {problem}")
    read = files.read(salt)
    behind = _ids(read, salt)
    own = {ids.item(salt, i): i for p in read.process for i in p.custom_workflow_items}

    since = _since(now, days)
    tools = [_tool_row(e, behind, own) for e in read.tool if tool and _within(e, since, now)]
    processes = [
        dataclasses.asdict(e) | {"workflow": e.workflow_id} for e in read.process if process and _within(e, since, now)
    ]
    rows = sorted([*tools, *processes], key=lambda row: str(row["timestamp"]))
    looked = ([files.tool] if tool else []) + ([files.process] if process else [])
    notes += _outside([*(read.tool if tool else ()), *(read.process if process else ())], since, now, looked)

    def grouped(texts: Sequence[str]) -> Sequence[int]:
        assert similar is not None
        try:
            return similar(texts)
        except TransportError as problem:
            notes.append(f"texts are alike only where they are equal, as the model could not be had: {problem}")
            return range(len(texts))

    found = patterns.find(tools, processes, options, similar=grouped if similar else None)
    return Review(
        window="all time" if days is None else f"last {many(days, 'day')}",
        workflows=tuple(dict.fromkeys(row["workflow"] for row in rows)),
        patterns=tuple(found),
        since=since,
        until=now,
        summary=_summary(tools, processes, rows),
        said=_said(rows),
        notes=tuple(dict.fromkeys(notes)),
        rejected=(*rejected, *read.rejected),
        files=tuple(map(str, looked)),
        thresholds=options,
    )


def thresholds(cfg: Config) -> Thresholds:
    """The thresholds of a params file.

    Raises:
        ConfigError: an unknown key, with the nearest one, or a value that means nothing.
    """
    where = f"{cfg.path} workflows" if cfg.path else "workflows"
    try:
        return config.section(Thresholds, cfg.workflows, where)
    except ValueError as problem:
        raise ConfigError(f"{where}: {problem}") from None


def by_meaning(cfg: Config, least: float) -> Similar:
    """What groups texts of which each two have a cosine of at least ``least``, with the encoder of a params file.

    The encoder is made when it is first asked. Texts in a language that it was not made for are glossed, as elsewhere.
    """

    def similar(texts: Sequence[str]) -> Sequence[int]:
        from feedback_lib import encoders
        from feedback_lib.analysis.text import read

        encoder = encoders.make(cfg.encoder, cache=config.cache_dir(), threads=cfg.threads)
        newest = [text.encode("utf-8", "replace").decode() for text in texts[-_GROUPED:]]
        if encoder.languages is not None:
            told = [read(text, languages=encoder.languages) for text in newest]
            newest = [r.gloss if r.readable else text for text, r in zip(newest, told, strict=True)]
        numbers = patterns.groups(encoder.encode(newest), least)
        older = len(texts) - len(newest)
        return [*range(-older, 0), *numbers]

    return similar


# --- entries ----------------------------------------------------------------------------------------------------------


def _since(now: dt.datetime, days: int | None) -> dt.datetime | None:
    if days is None:
        return None
    try:
        return now - dt.timedelta(days=days)
    except OverflowError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)


def _within(entry: ToolEntry | ProcessEntry, since: dt.datetime | None, now: dt.datetime) -> bool:
    at = patterns.when(entry.timestamp)
    return since is None or (at is not None and since <= at <= now)


def _ids(read: Entries, salt: bytes) -> dict[str, str]:
    """The workflow behind each hash of a tool entry, as far as a process entry tells.

    One that our salt does not lead to, made by another installation or before the salt was lost, is the workflow whose
    last event was in the same second, if no other entry claims either.
    """
    behind = {ids.hashed(salt, p.workflow_id): p.workflow_id for p in read.process}
    known = {t.workflow_id_hash for t in read.tool}
    hashes = collections.defaultdict(list)
    for t in read.tool:
        if t.workflow_id_hash not in behind:
            hashes[t.timestamp].append(t.workflow_id_hash)
    at_of = {p.workflow_id: p.timestamp for p in read.process}
    names = collections.defaultdict(list)
    for digest, name in behind.items():
        if digest not in known:
            names[at_of[name]].append(name)
    for at, found in hashes.items():
        if len(found) == len(names[at]) == 1:
            behind[found[0]] = names[at][0]
    named = collections.defaultdict(set)
    for t in read.tool:
        if t.workflow_id_hash in behind and (told := facts(t)):
            named[told].add(behind[t.workflow_id_hash])
    for t in read.tool:  # captured again with another salt: the same workflow
        if t.workflow_id_hash not in behind and (told := facts(t)) and len(named[told]) == 1:
            behind[t.workflow_id_hash] = next(iter(named[told]))
    return behind


def _tool_row(entry: ToolEntry, behind: Mapping[str, str], own: Mapping[str, str]) -> dict[str, Any]:
    """A tool entry with its workflow's id, and the project's own items by their names."""
    row = dataclasses.asdict(entry) | {"workflow": behind.get(entry.workflow_id_hash, entry.workflow_id_hash)}
    for field in ("items_skipped", "confusing_items"):
        row[field] = tuple(own.get(item, item) for item in row[field])
    return row


def _outside(
    entries: Sequence[ToolEntry | ProcessEntry], since: dt.datetime | None, now: dt.datetime, looked: Sequence[Path]
) -> list[str]:
    """What to say of entries that are not in the window, or of none at all."""
    if not entries:
        names = " and ".join(path.name for path in looked)
        place = looked[0].parent
        where = "this folder" if str(place) == "." else place
        return [f"no entry yet: looked for {names} in {where}; run: feedback capture{option(place)}"]
    inside = sum(_within(e, since, now) for e in entries)
    later = sum((patterns.when(e.timestamp) or now) > now for e in entries) if since else 0
    are, them = ("is", "it") if later == 1 else ("are", "them")
    notes = [f"{later} of {len(entries)} entries {are} dated after now and left out; --all has {them}"] if later else []
    if not inside and later < len(entries):
        newest = max(e.timestamp for e in entries if (patterns.when(e.timestamp) or now) <= now)
        notes.append(
            f"none of {len(entries)} entries is in the window; the newest is of {newest}. "
            f"To see {'it' if len(entries) == 1 else 'them'}: feedback review --all{option(looked[0].parent)}"
        )
    return notes


def _summary(
    tools: Sequence[Mapping[str, Any]], processes: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    spent: dict[str, list[int]] = {}
    for row in tools:
        for name, seconds in row["phases"].items():
            spent.setdefault(name, []).append(seconds)
    took = [row["duration_seconds"] for row in tools if row["duration_seconds"]]  # 0: the entry does not tell
    return {
        "tool_entries": len(tools),
        "process_entries": len(processes),
        "errors": sum(len(r["orchestrator_errors"]) for r in tools) + sum(len(r["project_errors"]) for r in processes),
        "items_skipped": sum(len(row["items_skipped"]) for row in tools),
        "median_duration_s": statistics.median(took) if took else None,
        "phases": {n: {"median_s": statistics.median(s), "workflows": len(s)} for n, s in spent.items()},
        "first": rows[0]["timestamp"] if rows else None,
        "last": rows[-1]["timestamp"] if rows else None,
    }


def _said(rows: Sequence[Mapping[str, Any]]) -> tuple[Said, ...]:
    """Learnings, improvements and suggestions, newest first."""
    return tuple(
        Said(field=field, workflow=row["workflow"], timestamp=row["timestamp"], text=row[field].strip())
        for row in reversed(rows)
        for field in _FIELDS
        if patterns.statements(row.get(field))
    )
