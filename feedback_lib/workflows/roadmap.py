"""Patterns as drafts of roadmap items: numbered, shown as a diff of ROADMAP.md, added when a person says so."""

from __future__ import annotations

import codecs
import dataclasses
import datetime as dt
import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from feedback_lib import privacy
from feedback_lib.analysis.patterns import (
    Pattern,
    PatternKind,
    counted,
    duration,
    headline,
    percent,
    reaches,
    shortened,
    text_key,
)
from feedback_lib.errors import ConfigError
from feedback_lib.records import Rejected
from feedback_lib.workflows import disk

ROADMAP_FILE = "ROADMAP.md"
RECORD_FILE = ".workflow_suggestions.jsonl"
SECTION = "### From workflow feedback"

_CONTEXT = 3  # unchanged lines around a change in a diff
_IDS = 12  # workflows named in an item; more are counted
_EXAMPLES = 3
_HIGH, _MEDIUM = 0.8, 0.5  # shares of the workflows from which on a priority is high, or medium
_TITLE, _LINE = 90, 300  # letters of people's text in a heading, in a line
_ID = re.compile(r"(?<![A-Za-z0-9])WF-(\d{1,6})(?!\d|[A-Za-z0-9]{2})", re.IGNORECASE)  # not wf-3c236a6b
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_MARKER = re.compile(r"<!-- workflow-feedback: ([a-z_]+ \S+) -->")

# What an item of each kind says: the problem, with how many have it, and what is to be done besides the advice.
_PROBLEMS: Mapping[PatternKind, tuple[str, str]] = {
    "error": ("The same error came back in {told}.", "Add a check that tells of it before the work begins"),
    "skip": (
        "{told} skipped this item: there it checked nothing and cost a decision.",
        "Read the reasons given when it was skipped (notebook workflow_review)",
    ),
    "reviews": ("{told} had no review that worked.", "Find out why: skipped, failed, or never asked for"),
    "parallel": (
        "{told} did one piece of work after the other.",
        "Say in the plan phase when parallel work pays off",
    ),
    "challenge": ("{told} tell of a similar difficulty.", "Decide what would have helped, and where"),
    "guidance": ("Guidance that the workflow offers does not help.", "Reword it, move it, or remove it"),
    "phase": ("A phase takes longer than it did.", "Compare the newest workflows with earlier ones, item by item"),
    "went_well": ("Something works well.", "Keep it, and tell others of it"),
    "confusing": (
        "People in {told} did not understand what this item asks of them.",
        "Give an example of a good result",
    ),
}
_FIRST = frozenset(("skip", "reviews"))  # where the advice can be judged only when that is done
_LIMITS: Mapping[PatternKind, str] = {
    "skip": "often: from {} on", "reviews": "missing: from {} on", "parallel": "rare: under {}",
}  # fmt: skip
_MASK = re.compile(r"\[(?:email|phone|ip|mac|card|token|path|query)\]")
# Facts that have a line of their own, or say how the pattern was found.
_SHOWN = frozenset((
    "share", "low", "high", "level", "counted", "tell", "text", "said", "examples", "similarity", "drifts", "not_used",
    "missing", "worked", "failed", "few", "threshold", "origins", "median_s",
    "earlier_median_s", "earlier", "later_median_s", "later", "ratio",
))  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One item: ``markdown`` is all of its lines; ``kind`` and ``key`` are the pattern's.

    ``also`` are the keys it would have if another of its texts were the first: the window moves on, the item stays.
    """

    id: str
    title: str
    kind: PatternKind
    key: str
    markdown: str
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A pattern that has an item already. ``where``: the file that says so; ``id`` is "" where it has none."""

    id: str
    title: str
    kind: PatternKind
    key: str
    where: str
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What could be added to the roadmap, and how the file would change.

    Attributes:
        path: the roadmap; it need not exist.
        items: new items, in the order of the patterns.
        known: patterns that have an item, whatever became of it.
        diff: unified, with the paths of git (``git apply``, ``patch -p1``); "" without items.
        rejected: lines of the record that could not be read.
        before: the roadmap as it was read, None when there was none.
        after: the roadmap with the items.
    """

    path: Path
    day: dt.date
    items: tuple[Draft, ...]
    known: tuple[Known, ...]
    diff: str
    rejected: tuple[Rejected, ...] = ()
    before: bytes | None = dataclasses.field(default=None, repr=False)
    after: bytes = dataclasses.field(default=b"", repr=False)

    def text(self) -> str:
        """For a terminal: the diff, and what is known already; control characters are left out."""
        lines = [f"already {k.id or 'there'}: {_title(k.title)} ({k.where})" for k in self.known]
        lines += [f"not read: {r.where}: {r.reason}" for r in self.rejected]
        shown = re.sub(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", "", self.diff)
        return "\n".join([*lines, shown.rstrip("\n")] if shown else lines)

    def to_dict(self) -> dict[str, Any]:
        """The same for ``--json``: items, known, diff, path, rejected."""
        return {
            "path": str(self.path),
            "items": [dataclasses.asdict(i) for i in self.items],
            "known": [dataclasses.asdict(k) for k in self.known],
            "diff": self.diff,
            "rejected": [dataclasses.asdict(r) for r in self.rejected],
        }


def drafts(patterns: Sequence[Pattern], folder: Path, *, day: dt.date, of: int, window: str) -> Proposal:
    """Roadmap items for the patterns that warn. Nothing is written.

    A pattern that has an item in the roadmap, the changelog or docs/, or had one that was finished and deleted, is
    told in ``known`` instead. Numbers follow the greatest one that is used anywhere there.

    Args:
        patterns: as `analysis.patterns.find` gives them.
        folder: where ROADMAP.md is, or will be.
        day: written into the Source line.
        of: workflows that were looked at.
        window: which ones, such as ``last 7 days``.

    Raises:
        ConfigError: a file cannot be read, or the roadmap is not UTF-8.
    """
    path = _roadmap(folder)
    before = disk.content(path)
    mark = codecs.BOM_UTF8 if (before or b"").startswith(codecs.BOM_UTF8) else b""
    try:
        text = (before or b"").removeprefix(mark).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8. Save it as UTF-8, then items can be added.") from None
    records, rejected = _records(folder / RECORD_FILE)
    pages = dict(_pages(folder, path))
    markers = {m: (i, path.name) for m, i in _markers(text).items()}
    for name, page in pages.items():
        for marker, item in _markers(page).items():
            markers.setdefault(marker, (item, name))
    for record in records:
        marker = _marker(record["kind"], record["key"])
        at, where = markers.get(marker, ("", RECORD_FILE))
        markers[marker] = (at or record["id"], where)
    last = max([0, *_numbers([text, *pages.values(), *pages]), *_numbers(r["id"] for r in records)])

    items: list[Draft] = []
    known: list[Known] = []
    seen: set[str] = set()
    for pattern in patterns:
        marker = _marker(pattern.kind, pattern.key)
        if not pattern.warns or marker in seen:
            continue
        seen.add(marker)
        also = _also(pattern)
        told = next((m for m in (marker, *(_marker(pattern.kind, key) for key in also)) if m in markers), None)
        if told:
            at, where = markers[told]
            own = (pattern.kind, pattern.key)
            known.append(Known(id=at, title=pattern.title, kind=own[0], key=own[1], where=where, also=also))
            continue
        last += 1
        items.append(_draft(f"WF-{last:03d}", pattern, marker, day, of, window))

    made = Proposal(path=path, day=day, items=tuple(items), known=tuple(known), diff="", rejected=rejected)
    if not items:
        return dataclasses.replace(made, before=before, after=before or b"")
    new, diff = _change(text, items, None if before is None else path.name, path.name)
    return dataclasses.replace(made, diff=diff, before=before, after=mark + new.encode())


def add(proposal: Proposal) -> Path:
    """Write the items into the roadmap, in one step, and note them in the record, so that they are not proposed again.

    Returns:
        The roadmap.

    Raises:
        ConfigError: the roadmap changed since `drafts` read it, cannot be written, or is a link out of its folder; it
            is as it was.
    """
    if not proposal.items:
        return proposal.path
    target = disk.inside(proposal.path)
    record = disk.inside(proposal.path.parent / RECORD_FILE)
    with disk.alone(target.parent):  # of two people who add at once, the second is told that it changed
        if disk.content(target) != proposal.before:
            raise ConfigError(f"{proposal.path}: it changed since it was read. Nothing was added; call this again.")
        noted = {(r["kind"], r["key"]) for r in _records(record)[0]}
        if taken := noted & {(i.kind, i.key) for i in proposal.items}:
            raise ConfigError(f"{record}: has {len(taken)} of the items by now. Nothing was added; call this again.")
        for path in (target, record):
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise ConfigError(f"{path}: cannot be written. Change its permissions; nothing was added.")
        disk.replace(target, proposal.after)
        # what is known already, too: this copy may lack the record, and other texts may have joined
        _note(record, [*proposal.known, *proposal.items], noted, proposal.day)
    return proposal.path


def _draft(name: str, pattern: Pattern, marker: str, day: dt.date, of: int, window: str) -> Draft:
    title = _title(privacy.redact(pattern.title)) or f"Pattern of kind {pattern.kind}"
    concerned = _concerned(pattern)
    share = counted(len(concerned), pattern.of).replace(", ", " (") + ")"
    problem, task = (text.format(told=share if pattern.of else "several workflows") for text in _PROBLEMS[pattern.kind])
    told = f"{len(concerned)} of {max(of, pattern.of)} workflows"
    ids = [_code(i) for i in concerned[:_IDS]]
    ids += [f"and {len(concerned) - _IDS} more"] if len(concerned) > _IDS else []
    advice = re.sub(r'^Add to roadmap: "(.*)"$', r"\1", shortened(privacy.redact(pattern.advice), _LINE))
    tasks = [_escaped(advice), _escaped(task)]
    lines = [
        f"#### {name}: {_escaped(title)}",
        "**Status:** Planned",
        "**Complexity:** To be estimated",
        f"**Priority:** {_priority(pattern, len(concerned), max(of, pattern.of))}",
        f"**Source:** Workflow feedback ({day:%Y-%m-%d}, {_escaped(shortened(window, 40))}): {told}",
        marker,
        "",
        "**Problem:**",
        f"{problem[:1].upper()}{problem[1:]}",
        "",
        "**Evidence:**",
        f"- Workflows: {', '.join(ids) or 'none named'}",
        *(f"- {line}" for line in _facts(pattern)),
        "",
        "**Tasks:**",
        *(f"- [ ] {line}" for line in (tasks[::-1] if pattern.kind in _FIRST else tasks) if line),
        "- [ ] Look again with `feedback review` after ten more workflows",
        "",
        "---",
    ]
    markdown = "\n".join(lines) + "\n"
    return Draft(id=name, title=title, kind=pattern.kind, key=pattern.key, markdown=markdown, also=_also(pattern))


def _also(pattern: Pattern) -> tuple[str, ...]:
    """The other keys of a pattern that is made of texts, of which the first one gives the key."""
    texts = [row.get("text") for row in _listed(pattern.facts.get("said")) if isinstance(row, Mapping)]
    keys = dict.fromkeys(text_key(text) for text in texts if isinstance(text, str))
    return tuple(key for key in keys if key != pattern.key)


def _concerned(pattern: Pattern) -> Sequence[str]:
    """The workflows that have the problem; of parallel work the pattern names those that do not."""
    without = pattern.facts.get("not_used")
    return without if pattern.kind == "parallel" and isinstance(without, list | tuple) else pattern.workflows


def _priority(pattern: Pattern, count: int, of: int) -> str:
    """By the share of all workflows; of a phase by how much longer it takes at least."""
    least = pattern.facts.get("low")
    if pattern.kind == "phase" and isinstance(least, float):
        return f"{'HIGH' if least >= 2 else 'MEDIUM'} (at least {least:.3g} times as long as before)"
    name = "HIGH" if reaches(count, of, _HIGH) else "MEDIUM" if reaches(count, of, _MEDIUM) else "LOW"
    return f"{name if of else 'LOW'} ({percent(Fraction(count, of)) if of else 'none'} of {of} workflows)"


def _facts(pattern: Pattern) -> Iterator[str]:
    """The numbers and words behind a pattern, a line each; what is neither is left out."""
    facts = pattern.facts
    between = _interval(facts, phase=pattern.kind == "phase")
    if pattern.kind == "phase":
        for half, name in (("earlier", "Before"), ("later", "Since")):
            if isinstance(seconds := facts.get(f"{half}_median_s"), int | float):
                yield f"{name}: median {duration(seconds)} of {_value(facts.get(half))} workflows"
        if between and isinstance(ratio := facts.get("ratio"), float):
            yield f"Ratio of durations: {ratio:.3g} ({between})"
    elif pattern.of:
        words = facts.get("counted")
        words = words if isinstance(words, str) else f"{pattern.count} of {pattern.of} workflows"
        name = "Used in" if pattern.kind == "parallel" else "Counted"
        yield f"{name}: {_escaped(shortened(words, _LINE))}{f' ({between})' if between else ''}{_limit(pattern)}"
    if pattern.kind == "reviews" and "worked" in facts:
        yield ", ".join(f"{name} {_value(facts.get(name))}" for name in ("worked", "failed", "missing")).capitalize()
    if origins := [str(origin) for origin in _listed(facts.get("origins"))]:
        yield f"Error of the {_escaped(shortened(' and of the '.join(origins), _LINE))}"
    for key, value in facts.items():
        if key in _SHOWN:
            continue
        texts = [_value(v) for v in value] if isinstance(value, list | tuple) else [_value(value)]
        if texts := [text for text in texts if text]:
            more = [f"and {len(texts) - _EXAMPLES} more"] if len(texts) > _EXAMPLES else []
            name = _escaped(shortened(str(key).replace("_", " "), 60)).capitalize()
            yield f"{name}: {', '.join([*texts[:_EXAMPLES], *more])}"
    said = [row for row in _listed(facts.get("said")) if isinstance(row, Mapping)]
    yield from (f"{_code(str(row.get('workflow')))}: {_value(row.get('text'))}" for row in said[:_EXAMPLES])
    examples = [
        _value(_MASK.sub("…", privacy.redact(headline(text, _LINE))))
        for text in _listed(facts.get("examples"))
        if isinstance(text, str)
    ]
    yield from (f"Such as: {text}" for text in [*dict.fromkeys(filter(None, examples))][:_EXAMPLES])


def _limit(pattern: Pattern) -> str:
    """From when on it is a pattern, as the thresholds of the review say."""
    least = pattern.facts.get("threshold")
    if isinstance(least, bool) or not isinstance(least, int | float):
        return ""
    if isinstance(least, int):
        return f"; a pattern from {least} workflow{'' if least == 1 else 's'} on"
    return f"; {_LIMITS.get(pattern.kind, 'a pattern from {} on').format(percent(least))}"


def _title(text: str) -> str:
    """A heading: one line without what stands for a secret, cut at a word.

    >>> _title("Common error: no such file [path]/a/package.json")
    'Common error: no such file …/a/package.json'
    """
    line = shortened(_MASK.sub("…", text), _LINE)
    if len(line) <= _TITLE:
        return line
    end = '"' if line.endswith('"') and line.count('"') == 2 else ""
    words = line[: _TITLE - 2].rsplit(" ", 1)[0].rstrip(" ,;:('…")
    return f"{words}…{end}"


def _interval(facts: Mapping[str, Any], *, phase: bool) -> str:
    low, high, level = facts.get("low"), facts.get("high"), facts.get("level")
    if not (isinstance(low, float) and isinstance(high, float) and isinstance(level, float)):
        return ""
    ends = f"{low:.3g} to {high:.3g}" if phase else f"{100 * low:.0f} to {100 * high:.0f}%"
    return f"{percent(level)} interval {ends}"


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if value == value else ""
    return _escaped(shortened(privacy.redact(value), _LINE)) if isinstance(value, str) else ""


def _escaped(line: str) -> str:
    r"""A line that Markdown shows as it is; underscores within words need no backslash.

    >>> _escaped("a_b `c` <!-- d --> #")
    'a_b \\`c\\` \\<!-- d --\\> \\#'
    """
    line = re.sub(r"([\\`*\[\]<>#|~&$])", r"\\\1", line)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)


def _code(text: str) -> str:
    """Text as code, whatever backticks it has."""
    line = shortened(text, 80)
    ticks = "`" * (max([0, *map(len, re.findall("`+", line))]) + 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"`{line}`" if line else "?"


def _marker(kind: str, key: str) -> str:
    """The comment by which an item is known again, whatever becomes of its number and title."""
    name = urllib.parse.quote(key, safe="/:", errors="replace")
    if not name or len(name) > 100 or "--" in name or name[-1] == "-":  # would end the comment, or is no word
        name = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]
    return f"<!-- workflow-feedback: {kind} {name} -->"


def _markers(text: str) -> dict[str, str]:
    """Marker → id in the heading above it; "" where that has none."""
    found: dict[str, str] = {}
    current = ""
    for line, heading in _parsed(text.split("\n"))[0]:
        if heading:
            at = _ID.search(heading[1])
            current = at[0].upper() if at else ""
        for match in _MARKER.finditer(line):
            found.setdefault(match[0], current)
    return found


def _numbers(texts: Iterable[str]) -> Iterator[int]:
    """Every number an item has or had, in headings and in prose; WF-034-P3b is 34."""
    for text in texts:
        yield from (int(m[1]) for m in _ID.finditer(text))


def _parsed(lines: Sequence[str]) -> tuple[list[tuple[str, tuple[int, str] | None]], str]:
    """Each line with its heading's level and text, None in code and comments; and the fence that is open at the end."""
    made: list[tuple[str, tuple[int, str] | None]] = []
    fence, comment = "", False
    for raw in lines:
        line = raw.rstrip("\r")
        heading = None
        if comment:
            comment = "-->" not in line
        elif fence:
            end = _FENCE.match(line)
            if end and end[1].startswith(fence) and not end[2].strip():
                fence = ""
        elif (start := _FENCE.match(line)) and not (start[1][0] == "`" and "`" in start[2]):
            fence = start[1]
        elif re.match(r" {0,3}<!--", line):
            comment = "-->" not in line
        elif found := _HEADING.match(line):
            heading = (len(found[1]), (found[2] or "").strip())
        made.append((line, heading))
    return made, fence


def _change(text: str, items: Sequence[Draft], old_name: str | None, name: str) -> tuple[str, str]:
    """The text with the items, and the diff; only lines are added, in one place."""
    newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    lines = text.split("\n")  # the last one has no end
    if lines[-1] == "":
        lines.pop()
        ended = True
    else:
        ended = not text
    parsed, fence = _parsed(lines)
    at, added = _place(parsed)
    if at == len(lines) and fence:
        added = [fence, *added]  # what was left open ends where it ended anyway
    if not lines:
        added = ["# Roadmap", *added]
    for item in items:
        added += ["", *item.markdown.rstrip("\n").split("\n")]
    carriage = newline[:-1]
    fresh = [line + carriage for line in added]
    grown = [*lines[:at], *fresh, *lines[at:]]
    tail = "\n" if ended else ""
    if not ended and at == len(lines):  # the line that was last has an end now, the new last one has none
        grown[at - 1] += carriage
        grown[-1] = grown[-1].removesuffix("\r")
    return "\n".join(grown) + tail, _diff(lines, grown, at, len(fresh), ended, old_name, name)


def _place(parsed: Sequence[tuple[str, tuple[int, str] | None]]) -> tuple[int, list[str]]:
    """Before which line to add, and the lines that come before the first item: the section's heading, if it is new."""
    level, title = len(SECTION.split()[0]), SECTION.lstrip("# ")
    begins = [n for n, (_, h) in enumerate(parsed) if h and h[1].casefold() == title.casefold()]
    if not begins:
        spaced = not parsed or bool(parsed[-1][0].strip())
        return len(parsed), [*([""] if spaced else []), SECTION]
    begin = begins[0]
    level = parsed[begin][1][0]  # type: ignore[index]  # it is a heading
    ends = (n for n, (_, h) in enumerate(parsed[begin + 1 :], begin + 1) if h and h[0] <= level)
    end = next(ends, len(parsed))
    while end > begin + 1 and not parsed[end - 1][0].strip():
        end -= 1
    return end, []


def _diff(
    old: Sequence[str], new: Sequence[str], at: int, count: int, ended: bool, old_name: str | None, name: str
) -> str:
    """One hunk: the lines around, and those added."""
    no_end = "\\ No newline at end of file"
    first = max(0, at - _CONTEXT)
    rows: list[str] = [f" {line}" for line in old[first:at]]
    changed = not ended and at == len(old) and at > 0
    if changed:
        rows[-1:] = [f"-{old[at - 1]}", no_end, f"+{new[at - 1]}"]
    rows += [f"+{line}" for line in new[at : at + count]]
    after = old[at : at + _CONTEXT]
    rows += [f" {line}" for line in after]
    if not ended and at + len(after) == len(old):
        rows.append(no_end)
    held = at - first + len(after)
    start = first + 1 if held else first
    head = f"@@ -{start},{held} +{first + 1},{held + count} @@"
    source = "/dev/null" if old_name is None else f"a/{old_name}"
    return "\n".join([f"--- {source}", f"+++ b/{name}", head, *rows]) + "\n"


def _roadmap(folder: Path) -> Path:
    """The roadmap of a folder, however its name is written."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder. Name the folder of the project.")
    names = sorted(p.name for p in folder.iterdir() if p.name.lower() == ROADMAP_FILE.lower())
    path = folder / (ROADMAP_FILE if ROADMAP_FILE in names or not names else names[0])
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is no file. Move it away, or name another folder.")
    return path


def _pages(folder: Path, roadmap: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every other page where a number may stand: in the folder itself and below docs/."""
    found = [p for p in folder.iterdir() if p.suffix.lower() == ".md" and p.name != roadmap.name]
    for top, folders, names in os.walk(folder / "docs"):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "node_modules")
        found += [Path(top) / n for n in names if n.lower().endswith(".md")]
    for path in sorted(found):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), (disk.content(path) or b"").decode("utf-8", "replace")


def _records(path: Path) -> tuple[list[dict[str, str]], tuple[Rejected, ...]]:
    """What was added before: id, kind, key, title, added_at; and the lines that say something else."""
    read: list[dict[str, str]] = []
    rejected = []
    for number, line in enumerate((disk.content(path) or b"").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
            read.append({name: str(row[name]) for name in ("id", "kind", "key")})
        except (ValueError, KeyError, TypeError, RecursionError):
            rejected.append(Rejected(f"{path.name}:{number}", "is no suggestion with id, kind and key"))
    return read, tuple(rejected)


def _note(path: Path, items: Sequence[Draft | Known], noted: Collection[tuple[str, str]], day: dt.date) -> None:
    """Add a row for each key of the items that has none yet."""
    rows = [
        {"id": i.id, "kind": i.kind, "key": key, "title": i.title, "added_at": f"{day}"}
        for i in items
        for key in (i.key, *i.also)
        if (i.kind, key) not in noted
    ]
    try:
        disk.append(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    except ConfigError as problem:
        raise ConfigError(f"{problem} The roadmap has the new items; do so before they leave it.") from None
