"""Post-mortems in Markdown, whatever template they follow: a signal for the incident and one for each action item."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from feedback_lib import privacy
from feedback_lib.errors import SourceError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Signal, real_time

_NOT_POST_MORTEMS = re.compile(r"^(?:readme|_?index|contributing|.*template.*)$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """One action item; ``done`` when its box is ticked or it says so."""

    text: str
    done: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PostMortem:
    """What a post-mortem says; None where it does not say it."""

    title: str
    date: dt.date | None
    duration_s: int | None
    repair_s: int | None
    severity: str | None
    summary: str | None
    impact: str | None
    root_cause: str | None
    resolution: str | None
    actions: tuple[Action, ...]


@register("sources", "post_mortems")
@dataclasses.dataclass(frozen=True)
class PostMortems:
    """A folder of post-mortems, read with its subfolders; README, index and template files are passed over.

    Options:
        folder: where it is.
        name: what it is called instead of the folder.
    """

    folder: str = ".spec/reports/post-mortems"
    name: str | None = None

    personal_fields: ClassVar[tuple[str, ...]] = ()
    plain_fields: ClassVar[tuple[str, ...]] = ("file", "native_id", "date")

    @property
    def origin(self) -> str:
        """The option ``name``; else the folder's name."""
        return self.name or Path(self.folder).name

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Item | Rejected]:
        """Yield the post-mortem and its action items, oldest incident first.

        One counts when its incident lies in ``[since, until)``, or when it lies before ``until`` and its file was
        written in the window: a post-mortem is written, and its actions are ticked, days after the incident.

        Raises:
            SourceError: there is no such folder.
        """
        folder = self._folder()
        found: list[tuple[dt.date, str, str, PostMortem]] = []
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".md", ".markdown")):
            file = path.relative_to(folder).as_posix()
            if _NOT_POST_MORTEMS.match(path.stem):
                continue
            try:
                text = path.read_bytes().decode("utf-8-sig")
                written = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
            except UnicodeDecodeError:
                yield Rejected(file, "is not UTF-8")
                continue
            except OSError as error:
                yield Rejected(file, error.strerror or "cannot be read")
                continue
            try:
                read = parse_post_mortem(text, file)
                if read.date is None:
                    raise ValueError("has no date; add 'date: 2026-03-01' at its top or the date to its file name")
                at = real_time(_midnight(read.date))
            except ValueError as error:
                yield Rejected(file, str(error))
                continue
            if at < until and (since is None or at >= since or since <= written < until):
                found.append((read.date, file, text, read))
        for date, file, text, read in sorted(found, key=lambda f: f[:2]):
            native_id = privacy.redact_id(file)
            about = {"native_id": native_id, "file": privacy.redact(file), "date": date.isoformat()}
            at = _midnight(date)
            yield Item({**about, "text": text}, file, native_id, at, at)
            for action in read.actions:
                digest = hashlib.sha256(action.text.casefold().encode()).hexdigest()[:12]
                own_id = f"{native_id}#{digest}"
                payload = {
                    **about,
                    "native_id": own_id,
                    "action": action.text,
                    "done": action.done,
                    "post_mortem": read.title,
                }
                yield Item(payload, file, own_id, at, at)

    def _folder(self) -> Path:
        folder = Path(self.folder)
        if not folder.is_dir():
            raise SourceError(
                "post_mortems",
                self.origin,
                f"{self.folder} is no folder; start in the project's root or set the option 'folder'",
            )
        return folder

    def check(self) -> str:
        """How many files there are; raises SourceError as `fetch` does."""
        return f"{sum(1 for _ in self._folder().rglob('*.md'))} files"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a post-mortem, or one of its action items, into a signal of type incident.

        Raises:
            ValueError: the payload is neither.
        """
        if "action" in payload:
            return self._signal(
                payload,
                title=str(payload["action"]),
                body=f"Action item of the post-mortem {payload['post_mortem']!r}.",
                state="done" if payload["done"] else "open",
                labels=("action item",),
            )
        if "text" not in payload:
            raise ValueError("is neither a post-mortem nor an action item")
        read = parse_post_mortem(str(payload["text"]), str(payload["file"]))
        told = [("Impact", read.impact), ("Root cause", read.root_cause), ("Resolution", read.resolution)]
        if not any(text for _, text in told):
            told = [("Summary", read.summary)]
        if read.duration_s is not None:
            told.append(("Duration", f"{read.duration_s / 60:.0f} minutes"))
        return self._signal(
            payload,
            title=read.title,
            body="\n\n".join(f"{word}: {text}" for word, text in told if text),
            state=None,
            labels=("post-mortem",),
            severity=read.severity,
        )

    def _signal(
        self,
        payload: Mapping[str, Any],
        *,
        title: str,
        body: str,
        state: str | None,
        labels: tuple[str, ...],
        severity: str | None = None,
    ) -> Signal:
        at = _midnight(dt.date.fromisoformat(payload["date"]))
        return Signal(
            kind="post_mortems",
            origin=self.origin,
            native_id=str(payload["native_id"]),
            type="incident",
            title=title,
            body=body,
            created_at=at,
            updated_at=at,
            state=state,
            labels=labels,
            severity=severity,
        )


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


# Reading one post-mortem

_FIELDS = [  # what a heading, a bold key or a table's first cell speaks of; the first that fits
    ("timeline", r"\btime ?line\b|chronolog|sequence of events|^key events"),
    ("taken", r"actions? taken|^response$|^detection|^lead ?-?up"),
    (
        "actions",
        r"\baction(?:able)? ?(?:items?|points?|plan)|^(?:review|follow[- ]?up|open|further|next|agreed)? ?actions?$|"
        r"^follow[- ]?ups?(?: (?:items|tasks|work))?$|corrective|prevent[ai]t?i?ve|^prevention|^next steps|"
        r"remediation (?:items|steps|plan|tasks)|to-?dos?$|^(?:\w+ )?improvements?(?: items)?$|^tasks$|^future work|"
        r"^what (?:are|will) we|^recommendations?$|^how (?:do|will|can) we (?:prevent|avoid)",
    ),
    ("lessons", r"lessons|what went|went (?:well|wrong)|lucky|what (?:worked|didn)|where we|how.?d we do"),
    ("impact", r"\bimpact(?! (?:start|began|end))|who was affected|^affected|^consequences|^symptoms?"),
    ("whys", r"(?:five|5) whys"),
    ("root_cause", r"root[- ]?causes?|^causes?$|^(?:the )?causes? of|contributing|what caused|^why did"),
    ("repair", r"^time to (?:repair|mitigate|restore|recover)"),
    ("duration", r"^time to resol|^(?:total |outage |incident |impact )?(?:duration|length)$|^(?:total )?downtime$"),
    ("end", r"^(?:incident |outage |impact )?(?:end(?:ed)?|end (?:time|date)|finish(?:ed)?|resolved|stop)(?: at)?$"),
    (
        "start",
        r"^(?:incident |outage |impact )?(?:start(?:ed)?|start (?:time|date)|began|begin|first detected)(?: at)?$",
    ),
    ("date", r"^(?:incident |outage )?date(?: of (?:the )?(?:incident|outage))?$|^when$|^occurred(?: on)?$"),
    (
        "resolution",
        r"resolution|remediation|mitigation|^recovery|^fix(?:es)?$|^how (?:was it|we|did we|it was) (?:fix|resol)",
    ),
    ("summary", r"summary|^overview|^description|^abstract|^tl;?dr|^what happened|^synopsis"),
    ("severity", r"^(?:incident )?(?:severity|priority|sev)(?: level)?$"),
    ("title", r"^(?:incident )?(?:title|name)$|^incident$"),
]
_FIELD_PATTERNS = [(field, re.compile(pattern)) for field, pattern in _FIELDS]

_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_BOLD_LINE = re.compile(r"^ {0,3}(?:\*\*|__)([^*_]{2,80}?):?(?:\*\*|__):?[ \t]*$")
_KEY = re.compile(
    r"^(?P<indent>[ \t]*)(?P<bullet>[-*+][ \t]+)?"
    r"(?:(?P<bold>\*\*|__)(?P<key>[^*_:]{2,60}?)[ \t]*(?::(?P=bold)|(?P=bold)[ \t]*:)|"
    r"(?P<plain>[A-Z][A-Za-z ]{2,30}):(?=[ \t]|$))"
    r"[ \t]*(?P<value>.*)$"
)
_BULLET = re.compile(r"^([ \t]*)(?:[-*+]|[0-9]{1,3}[.)])[ \t]+(.*)$")
_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)[^`]*$")
_TABLE_RULE = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_PLACEHOLDER = re.compile(r"^[\W_]*(?:tbd|tba|todo|n/?a|none|unknown|pending|\.\.\.)?[\W_]*$|^<[^>]*>$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """The lines under a heading or key, down to the next of its level."""

    field: str | None
    heading: str
    lines: list[str]


def parse_post_mortem(text: str, name: str) -> PostMortem:
    """Read a post-mortem of any of the usual templates.

    Headings, bold keys, bulleted keys, two-column tables and front matter are all understood as names of parts; what
    no part says is looked for in the summary. Sentences are kept as they are written.

    Args:
        text: Markdown.
        name: The file's path; it may hold the date.

    Returns:
        ``date`` is the day of the incident; where its places disagree, the one that most of them (heading, file
        name, timeline, ``date`` key) support. ``duration_s`` is the stated time to resolve or length of the outage,
        else the time between the start and the end that the timeline names, else None; ``repair_s`` the stated time
        until service was back, where the template tells the two apart. ``severity`` is critical, high, medium or low.
    """
    matter, body = _front_matter(text)
    lines = _lines(body)
    title, lines = _title(matter, lines, name)
    parts = _parts(lines)
    keys = _keys(matter, parts, lines)

    def part(field: str) -> str | None:
        told = [p.lines for p in parts if p.field == field and _prose(p.lines)]
        if field in keys:  # what a table of keys says under a heading of the same name is in keys
            told = [lines for lines in told if not all("|" in line for line in lines if line)]
        return _prose(told[0] if told else [keys.get(field, "")])

    opening = _prose(_preamble(lines))
    summary = part("summary") or opening
    timeline = [line for p in parts if p.field == "timeline" for line in p.lines]
    date = _date(title, name, keys, timeline, f"{opening} {summary} {part('impact')}")
    entries = _entries(timeline, date)
    return PostMortem(
        title=title,
        date=date,
        duration_s=_duration(keys, [part("impact"), summary, title], entries),
        repair_s=_read_duration(keys.get("repair", "")),
        severity=_severity(keys.get("severity", "")),
        summary=summary,
        impact=part("impact") or _sentences_with(_EFFECT, summary, _NO_EFFECT),
        root_cause=part("root_cause") or part("whys") or _sentences_with(_CAUSE, summary),
        resolution=part("resolution"),
        actions=_actions(parts, lines),
    )


# ValueError: a date such as 2026-02-30; the others: deep nesting, and tags on what they do not fit
_UNREADABLE_YAML = (yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError, TypeError, OverflowError)


def _front_matter(text: str) -> tuple[Mapping[str, Any], str]:
    text = re.sub(r"<!--.*?-->", "", text.replace("\r\n", "\n").replace("\r", "\n"), flags=re.DOTALL)
    found = re.match(r"\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", text, flags=re.DOTALL)
    if not found:
        return {}, text
    try:
        matter = yaml.safe_load(found[1])
    except _UNREADABLE_YAML:
        return {}, text[found.end() :]
    return (matter, text[found.end() :]) if isinstance(matter, dict) else ({}, text)


def _lines(text: str) -> list[str]:
    """Lines with underlined headings written with ``#``, and nothing inside code taken for a heading."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        line = line.rstrip()
        mark = _FENCE.match(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
            lines.append("    " + line)
        elif mark:
            fence = mark[1]
            lines.append("    " + line)
        elif (
            re.fullmatch(r"={3,}|-{3,}", line)
            and lines
            and re.match(r"^[A-Za-z0-9*]", lines[-1])
            and "|" not in lines[-1]
        ):
            lines[-1] = ("# " if line[0] == "=" else "## ") + lines[-1]
        else:
            lines.append(line)
    return lines


def _title(matter: Mapping[str, Any], lines: list[str], name: str) -> tuple[str, list[str]]:
    """The title, and the lines without its heading, which names no part even where it sounds like one."""
    headings = [(i, found) for i, line in enumerate(lines) if (found := _HEADING.match(line))]
    top = [(i, found[2]) for i, found in headings if len(found[1]) == 1]
    chosen: tuple[int, str] | None = None
    if headings and top and top[0][0] == headings[0][0] and (len(top) == 1 or _field(top[0][1]) is None):
        chosen = top[0]
    elif headings and _field(headings[0][1][2]) is None:
        chosen = headings[0][0], headings[0][1][2]
    rest = [line for i, line in enumerate(lines) if chosen is None or i != chosen[0]]
    written = str(matter.get("title") or "") or (_plain(chosen[1]) if chosen else "")
    if not written:
        keyed = (_KEY.match(line) for line in lines)
        written = next((_plain(k["value"]) for k in keyed if k and _field(k["key"] or k["plain"]) == "title"), "")
    if not written and not headings:
        first = next((line.strip() for line in lines if line.strip()), "")
        written = first if len(first) <= 120 and first[:1].isalnum() and not _KEY.match(first) else ""
    return written or Path(name).stem.replace("_", " "), rest


def _plain(text: str) -> str:
    """A heading's words without marks, links or a leading number."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)", "", text)
    return " ".join(text.split()).strip()


def _field(heading: str) -> str | None:
    words = re.sub(r"^(?:[0-9]+[.)]?|[^\w(]+)\s*", "", _plain(heading).lower())
    words = re.sub(r"\s*\([^)]*\)", "", words).strip(" :.?!-–—")
    return next((field for field, pattern in _FIELD_PATTERNS if pattern.search(words)), None)


def _parts(lines: list[str]) -> list[_Part]:
    """Every part that a heading, a bold line or a key names, nested ones as well."""
    parts: list[_Part] = []
    within: list[tuple[int, str | None]] = []  # the headings we are under
    for i, line in enumerate(lines):
        heading = _HEADING.match(line)
        bold = None if heading else _BOLD_LINE.match(line)
        if heading or (bold and _field(bold[1])):
            level = len(heading[1]) if heading else 7
            words = heading[2] if heading else bold[1] if bold else ""
            within = [(depth, field) for depth, field in within if depth < level]
            field = _field(words)
            parts.append(_Part(field, words, _until_heading(lines[i + 1 :], level)))
            within.append((level, field))
            continue
        if any(field in ("actions", "timeline", "lessons") for _, field in within):
            continue
        key = _KEY.match(line)
        field = _field(key["key"] or key["plain"]) if key else None
        if key and field and (key["bold"] or len(key["plain"].split()) <= 3):
            parts.append(_Part(field, key["key"] or key["plain"], _under_key(key, lines[i + 1 :])))
    return parts


def _until_heading(lines: list[str], level: int) -> list[str]:
    taken: list[str] = []
    for line in lines:
        heading = _HEADING.match(line)
        bold = None if heading else _BOLD_LINE.match(line)
        if (heading and len(heading[1]) <= level) or (level == 7 and (heading or (bold and _field(bold[1])))):
            break
        taken.append(line)
    return taken


def _under_key(key: re.Match[str], lines: list[str]) -> list[str]:
    """A bulleted key holds what is indented below it; another one the paragraph, or all up to the next key."""
    value, depth = key["value"], len(key["indent"].expandtabs(4))
    taken: list[str] = []
    for line in lines:
        indent = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip())
        if _HEADING.match(line):
            break
        if key["bullet"]:
            if line.strip() and indent <= depth:
                break
        elif not line.strip() and (value or taken):
            if value:
                break
        elif (_BOLD_LINE.match(line) or _KEY.match(line)) and not line.startswith((" ", "\t")):
            break
        taken.append(line)
    return ([value] if value else []) + textwrap.dedent("\n".join(taken)).split("\n")


def _preamble(lines: list[str]) -> list[str]:
    """The paragraph before the first heading or key, which many templates use as the summary."""
    taken: list[str] = []
    for line in lines:
        if _HEADING.match(line) or _BOLD_LINE.match(line) or _KEY.match(line) or line.lstrip().startswith("|"):
            break
        if _BULLET.match(line):
            break
        taken.append(line)
    return [] if all(_field(line) for line in taken if line) else taken


def _keys(matter: Mapping[str, Any], parts: Iterable[_Part], lines: list[str]) -> dict[str, str]:
    """What is written as key and value: in front matter, in bold keys and in tables; the first place wins."""
    keys: dict[str, str] = {}
    for name, value in matter.items():
        field = _field(str(name).replace("_", " "))
        if field and value is not None and not isinstance(value, list | dict):
            keys.setdefault(field, str(value))
    for part in parts:
        if part.field in ("date", "start", "end", "duration", "repair", "severity"):
            keys.setdefault(part.field, " ".join(filter(None, map(str.strip, part.lines[:4]))))
    hidden = {id(line) for part in parts if part.field in ("timeline", "actions") for line in part.lines}
    for line in lines:  # the events a template lists below its heading: "First detected: 2026-03-01 10:00"
        event = re.match(r"^[ \t]*[-*+][ \t]+([A-Z][A-Za-z ]{2,30}?):?[ \t]+([0-9]{4}-[0-9]{2}-[0-9]{2}.*)$", line)
        if event and (field := _field(event[1])) in ("start", "end"):
            keys.setdefault(str(field), event[2])
    for table in _tables(lines):
        if any(id(line) in hidden for line in table.source):
            continue
        for row in table.rows:
            if len(row) == 2 and (field := _field(row[0])):
                keys.setdefault(field, row[1])
        if len(table.rows) == 2 and len(table.rows[0]) > 2:
            for head, cell in zip(*table.rows, strict=False):
                if field := _field(head):
                    keys.setdefault(field, cell)
    return keys


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    rows: list[list[str]]  # the first is the head, which may be empty
    source: list[str]


def _tables(lines: list[str]) -> list[_Table]:
    tables: list[_Table] = []
    for i, line in enumerate(lines):
        if "|" not in line or not _TABLE_RULE.match(line) or i == 0 or "|" not in lines[i - 1]:
            continue
        end = i + 1
        while end < len(lines) and "|" in lines[end]:
            end += 1
        source = [lines[i - 1], *lines[i + 1 : end]]
        tables.append(_Table([_cells(row) for row in source], source))
    return tables


def _cells(row: str) -> list[str]:
    inner = re.sub(r"^\s*\|?|\|?\s*$", "", row)
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]


def _prose(lines: Iterable[str]) -> str | None:
    """The words of a part without pictures and HTML; None when only a placeholder stands there."""
    text = "\n".join(lines)
    text = re.sub(r"<(iframe|script|style)\b.*?(?:</\1>|\Z)", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|</?(?:br|p|div|span|img|details|summary|a)\b[^>]*>", "", text)
    text = re.sub(r"^ {0,3}#{1,6}[ \t]+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t]*\|.*$", _row_as_words, text, flags=re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return None if _PLACEHOLDER.match(text) else text


def _row_as_words(row: re.Match[str]) -> str:
    return "" if _TABLE_RULE.match(row[0]) else ": ".join(filter(None, _cells(row[0])))


# Date

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november")
_MONTH_NUMBERS = {word[:3]: number for number, word in enumerate((*_MONTHS, "december"), 1)}
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR = r"((?:19|20)[0-9]{2})"
_ORDINAL = r"([0-9]{1,2})(?:st|nd|rd|th)?"
_DATE_FORMS = [  # pattern, and which group is year, month, day
    (re.compile(rf"(?<![0-9]){_YEAR}([-/._])([0-9]{{1,2}})\2([0-9]{{1,2}})(?![0-9])"), (1, 3, 4)),
    (re.compile(rf"(?<![0-9]){_YEAR}([01][0-9])([0-3][0-9])(?![0-9])"), (1, 2, 3)),
    (re.compile(rf"\b{_MONTH}[ ]+{_ORDINAL},?[ ]+{_YEAR}\b", re.IGNORECASE), (3, 1, 2)),
    (re.compile(rf"\b{_ORDINAL}[ ]+(?:of[ ]+)?{_MONTH},?[ ]+{_YEAR}\b", re.IGNORECASE), (3, 2, 1)),
    (re.compile(rf"(?<![0-9.])([0-9]{{1,2}})\.([0-9]{{1,2}})\.{_YEAR}(?![0-9])"), (3, 2, 1)),
]
_SLASHED = re.compile(rf"(?<![0-9/])([0-9]{{1,2}})/([0-9]{{1,2}})/{_YEAR}(?![0-9/])")


def _dates(text: str) -> list[dt.date]:
    """The days a text names with their year, in its order; 3/4/2026 is no day, since it may be two."""
    found: list[tuple[int, dt.date]] = []
    for pattern, (year, month, day) in _DATE_FORMS:
        for match in pattern.finditer(text):
            number = _MONTH_NUMBERS.get(match[month][:3].lower()) or int(match[month])
            found += _day(match.start(), int(match[year]), number, int(match[day]))
    for match in _SLASHED.finditer(text):
        first, second, year = (int(part) for part in match.groups())
        if first > 12:
            found += _day(match.start(), year, second, first)
        elif second > 12 or first == second:
            found += _day(match.start(), year, first, second)
    return [date for _, date in sorted(found)]


def _day(at: int, year: int, month: int, day: int) -> list[tuple[int, dt.date]]:
    try:
        return [(at, dt.date(year, month, day))]
    except ValueError:
        return []


def _date(title: str, name: str, keys: Mapping[str, str], timeline: list[str], prose: str) -> dt.date | None:
    """The day most places support. A heading copied from an older post-mortem stands alone and loses."""
    votes: Counter[dt.date] = Counter()
    told = _dates("\n".join(timeline))
    for days, weight in (
        (_dates(keys.get("date", "")), 5),
        (_dates(keys.get("start", "")), 5),
        (_dates(title), 3),
        (_dates(name), 3),
        (told, 2),
        (_dates(prose), 1),
    ):
        if days:
            votes[days[0]] += weight
    for day in set(told):
        if day in votes:
            votes[day] += 2
    return max(votes, key=lambda day: votes[day]) if votes else None  # of equals, the first place above


# Duration

_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS: dict[str, float] = {word: number for number, word in enumerate(_NUMBER_WORDS, 1)}
_NUMBERS |= {"a": 1, "an": 1, "half a": 0.5, "half an": 0.5, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AMOUNT = rf"(?:[0-9]+(?:[.,][0-9]+)?|\b(?:{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\b)"
_LONG_UNIT = r"(?:seconds?|secs?|minutes?|mins?|hours?|hrs?|h|days?|weeks?)(?![a-z])"
_ANY_UNIT = r"(?:seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w)(?![a-z])"


def _span(unit: str) -> str:
    one = rf"{_AMOUNT}(?: and a half)?[ \t-]*{unit}"
    return rf"(?<![\w.]){one}(?: and a half)?(?:[ \t]*(?:,|and|,[ \t]*and)?[ \t]*{_AMOUNT}[ \t-]*{_ANY_UNIT})*"


_SPAN = re.compile(_span(_ANY_UNIT), re.IGNORECASE)
_PIECE = re.compile(rf"(?<![0-9.])({_AMOUNT})( and a half)?[ \t-]*({_ANY_UNIT})( and a half)?", re.IGNORECASE)
_ABOUT = (
    r"(?:(?:a total of|approximately|approx\.?|about|around|roughly|just|over|under|nearly|almost|up to|some|"
    r"more than|less than|circa|ca\.?|an? estimated)[ ]+|[~≈] ?)*"
)
_WHOLE_OUTAGE = [
    re.compile(
        r"(?:last(?:ed|ing|s)(?: for)?|(?:duration|downtime|outage) (?:of|was)|total(?:l?ing| of|l?ed)|"
        r"(?:down|unavailable|inaccessible|offline|unreachable|unresponsive|degraded|fail(?:ed|ing)|interrupted|disrupted)"
        rf"(?: \w+){{0,3}} for)[ ]+{_ABOUT}({_span(_LONG_UNIT)})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"({_span(_LONG_UNIT)})(?:[ -]long)? (?:of )?(?:\w+ ){{0,2}}"
        r"(?:outage|downtime|unavailability|degradation|disruption|interruption)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"took {_ABOUT}({_span(_LONG_UNIT)}) (?:to|before)[ ](?:fully )?(?:resol|recover|restor|fix|mitigat)",
        re.IGNORECASE,
    ),
]
_CLOCK = r"(?P<hour>[0-2]?[0-9])[:.h](?P<minute>[0-5][0-9])(?::[0-5][0-9])?[ ]?(?P<half>[ap]\.?m\b\.?)?"


_FROM_TO = re.compile(
    rf"\b(?:from|between) (?:[^.!?]{{0,20}}? )?{_CLOCK}.{{0,30}}?\b(?:to|and|until|till) (?:[^.!?]{{0,20}}? )?"
    rf"{_CLOCK.replace('(?P<', '(?P<to_')}",
    re.IGNORECASE,
)


def _duration(
    keys: Mapping[str, str], prose: Sequence[str | None], entries: list[tuple[dt.datetime, str]]
) -> int | None:
    """Stated under a key, in a sentence about the outage, by start and end, or by the timeline; in this order."""
    if stated := _read_duration(keys.get("duration", "")):
        return stated
    for text in prose:
        flat = " ".join(re.sub(r"[`*_]", "", text or "").split())
        for pattern in _WHOLE_OUTAGE:
            if (found := pattern.search(flat)) and (seconds := _seconds(found[1])):
                return seconds
    for text in prose:
        if (found := _FROM_TO.search(" ".join((text or "").split()))) and (seconds := _read_duration(found[0])):
            return seconds
    start, end = _moment(keys.get("start", "")), _moment(keys.get("end", ""))
    if start and end and dt.timedelta(0) < end - start:
        return int((end - start).total_seconds())
    return _read_duration(keys.get("repair", "")) or _from_timeline(entries)


def _read_duration(text: str) -> int | None:
    text = re.sub(r"[`*]", "", text)
    if found := _SPAN.search(text):
        return _seconds(found[0])
    if found := re.fullmatch(r"\s*([0-9]{1,3}):([0-5][0-9])(?::([0-5][0-9]))?\s*(?:hours?|hrs?|h)?\s*", text):
        return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0)
    clocks = [_clock(c) for c in re.finditer(_CLOCK, text, re.IGNORECASE)]
    if len(clocks) == 2 and None not in clocks and len(set(_dates(text))) <= 1:
        first, second = (c for c in clocks if c is not None)
        return int((second - first).total_seconds()) % 86_400 or None
    return None


def _seconds(span: str) -> int | None:
    """The length of "4h 12m", "nine hours", "1.5 days", "an hour and a half"."""
    total = 0.0
    for amount, half_before, unit, half_after in _PIECE.findall(span):
        number = _NUMBERS.get(amount.lower())
        value = float(amount.replace(",", ".")) if number is None else number
        total += (value + (0.5 if half_before or half_after else 0)) * _UNITS[unit[0].lower()]
    return (round(total) or None) if math.isfinite(total) else None


def _clock(found: re.Match[str]) -> dt.timedelta | None:
    hours, minutes, half = int(found["hour"]), int(found["minute"]), (found["half"] or "").lower()
    if half:
        hours = hours % 12 + (12 if half[0] == "p" else 0)
    return dt.timedelta(hours=hours, minutes=minutes) if hours < 24 else None


def _moment(text: str) -> dt.datetime | None:
    days, clock = (
        _dates(text),
        re.search(
            rf"(?<![0-9]){_CLOCK}", re.sub(r"[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{1,4}", " ", text), re.IGNORECASE
        ),
    )
    at = _clock(clock) if clock else None
    return dt.datetime.combine(days[0], dt.time()) + at if days and at is not None else None


_ENTRY = re.compile(
    rf"^[\s#>*+|(\[`_-]*(?P<day>[^|\[\]]{{0,30}}?)[\s,|T*:–-]*(?<![0-9:.]){_CLOCK}(?![0-9])(?P<rest>.*)$",
    re.IGNORECASE,
)
_TROUBLE = r"\b(?:outage|incident|problem|impact|issue|disruption|degradation)"
_IS = r"(?:is |was |are |were |has been |have been )?(?:now |fully )?"
_STARTS = re.compile(
    rf"{_TROUBLE} (?:has )?(?:starts?|started|begins?|began|declared|opened)\b|\bstart of "
    r"(?:the )?(?:incident|outage|impact)|started failing|(?:goes|went|is) down\b",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"\b(?:outage|incident|impact|disruption|degradation) "
    rf"{_IS}(?:ends?|ended|over|resolved|closed|mitigated)\b|\bend of (?:the )?(?:incident|outage|impact)|all clear",
    re.IGNORECASE,
)
_LOOKS_OVER = re.compile(
    rf"(?<!not )(?<!n't )(?:\b(?:problem|issue|everything) {_IS}(?:resolved|fixed|gone|goes away)|"
    rf"\b(?:services?|traffic|operations?) {_IS}(?:resumes?|resumed|restored|recovers?|recovered)|"
    r"\bback (?:to normal|online|up)\b|\bfully (?:recovered|restored|resolved))",
    re.IGNORECASE,
)


def _entries(timeline: list[str], date: dt.date | None) -> list[tuple[dt.datetime, str]]:
    """The timeline's moments with their words. A time without a day is on the last day named, or the one after."""
    entries: list[tuple[dt.datetime, str]] = []
    day, last = date, None
    for line in timeline:
        found = _ENTRY.match(line)
        at = _clock(found) if found else None
        named = _dates(found["day"] if found else line)
        if not found or at is None or day is None:
            if named and len(line) < 40:
                day, last = named[0], None
            elif entries:
                entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line}")
            continue
        if short := re.fullmatch(r"([01]?[0-9])[-/]([0-3]?[0-9])", found["day"].strip()):
            named = [d for _, d in _day(0, day.year, int(short[1]), int(short[2]))]
        elif found["day"].strip() and not named and len(found["day"]) > 12:
            continue  # a sentence with a time in it
        if named:
            day, last = named[0], None
        elif last is not None and at < last:
            day += dt.timedelta(days=1)
        last = at
        entries.append((dt.datetime.combine(day, dt.time()) + at, found["rest"]))
    return entries


def _from_timeline(entries: list[tuple[dt.datetime, str]]) -> int | None:
    """From the entry that says it starts, or the first, to the one that says it is over; None when none does."""
    if not entries:
        return None
    texts = [" ".join(re.sub(r"[`*_]", "", text).split()) for _, text in entries]
    first = next((i for i, text in enumerate(texts) if _STARTS.search(text)), 0)
    after = range(first, len(entries))
    last = next((i for i in after if _ENDS.search(texts[i])), None)
    if last is None:
        last = next((i for i in reversed(after) if _LOOKS_OVER.search(texts[i])), None)
    if last is None:
        return None
    seconds = int((entries[last][0] - entries[first][0]).total_seconds())
    return seconds if 0 < seconds <= 14 * 86_400 else None


# Words

_EFFECT = re.compile(
    r"\b(?:outage|down(?:time)?|unavailable|inaccessible|unreachable|unable to|fail(?:s|ed|ing|ures?)|"
    r"could(?: not|n't)|degrad\w+|disrupt\w+|interrupt\w+|affect(?:s|ed|ing)|"
    r"error (?:messages?|responses?|pages?|rates?)|impacted|lost|prevent(?:ed|ing)|"
    r"slow(?:er|ed|ness)?)\b",
    re.IGNORECASE,
)
_NO_EFFECT = re.compile(r"\broot cause\b", re.IGNORECASE)
_CAUSE = re.compile(
    r"\broot cause\b.*\b(?:is|was|were)\b|"
    r"\b(?:(?:was|were|is) caused by|due to|because of|bug in|as a result of)\b",
    re.IGNORECASE,
)


def _sentences_with(pattern: re.Pattern[str], text: str | None, without: re.Pattern[str] | None = None) -> str | None:
    flat = " ".join((text or "").split())
    chosen = [
        s
        for s in re.split(r"(?<=[.!?])\s+(?=[A-Z`*\[])", flat)
        if pattern.search(s) and not (without and without.search(s))
    ]
    return " ".join(chosen) or None


def _severity(written: str) -> str | None:
    word = written.lower().replace("-", "").replace(" ", "")
    for severity, pattern in (
        ("critical", r"critical|sev(?:erity)?[01]\b|\bp0|\bs0|\bs1|blocker"),
        ("high", r"high|major|sev(?:erity)?2|\bp1|\bs2"),
        ("medium", r"medium|moderate|sev(?:erity)?3|\bp2|\bs3"),
        ("low", r"low|minor|sev(?:erity)?[45]|\bp[345]|\bs[45]"),
    ):
        if re.search(pattern, word):
            return severity
    return None


# Action items

_BOX = re.compile(r"^\[([ xX✓✔-]?)\][ \t]*(.*)$")
_DONE = re.compile(
    r"[(\[]\s*(?:done|completed?|fixed|closed|resolved)\s*[)\]]|^(?:done|completed)\s*[:–-]\s*|✅|☑|✔", re.IGNORECASE
)
_DONE_STATUS = re.compile(
    r"\b(?:done|completed?|closed|fixed|resolved|merged|shipped|yes)\b|✅|☑|✔|\[x\]", re.IGNORECASE
)
_NOT_DONE = re.compile(r"\b(?:not|in|un|partially|to be)\s*(?:done|complete|progress)", re.IGNORECASE)


def _actions(parts: Iterable[_Part], lines: list[str]) -> tuple[Action, ...]:
    """Lists and tables under the headings for actions; boxes anywhere when no heading has any."""
    found: list[Action] = []
    for part in parts:
        if part.field == "actions":
            found += _listed(part.lines)
            found += _tabled(part.lines)
    if not found:
        found = [a for line in lines if (b := _BULLET.match(line)) and (a := _action(b[2])) and _BOX.match(b[2])]
    once: dict[str, Action] = {}
    for action in found:
        once.setdefault(action.text.casefold(), action)
    return tuple(once.values())


def _listed(lines: list[str]) -> list[Action]:
    """The outermost bullets with their wrapped lines; a bullet that only names a group gives way to those below it."""
    bullets: list[tuple[int, list[str]]] = []
    gap = False
    for line in lines:
        bullet = _BULLET.match(line)
        if bullet:
            bullets.append((len(bullet[1].expandtabs(4)), [bullet[2]]))
        elif bullets and _goes_on(line, gap):
            bullets[-1][1].append(line.strip())
        gap = not line.strip() or bool(_HEADING.match(line))
    actions: list[Action] = []
    open_groups: list[int] = []
    outer: int | None = None
    for i, (indent, words) in enumerate(bullets):
        text = " ".join(words).strip()
        below = i + 1 < len(bullets) and bullets[i + 1][0] > indent
        open_groups = [g for g in open_groups if g < indent]
        if outer is not None and indent > outer and not open_groups:
            continue
        if below and (text.endswith(":") or re.fullmatch(r"(\*\*|__).+\1:?", text)) and not _BOX.match(text):
            open_groups.append(indent)
            outer = None
            continue
        outer = indent
        if action := _action(text):
            actions.append(action)
    return actions


def _goes_on(line: str, gap: bool) -> bool:
    """Whether a line belongs to the bullet above: no heading or table, and indented after a blank line."""
    text = line.strip()
    return bool(text) and not _HEADING.match(line) and text[0] != "|" and (not gap or line.startswith(("  ", "\t")))


def _tabled(lines: list[str]) -> list[Action]:
    """Rows of a table with a column for the action; a column for the state says what is done."""
    actions: list[Action] = []
    for table in _tables(lines):
        head = [_plain(cell).lower() for cell in table.rows[0]]
        what = next(
            (i for i, h in enumerate(head) if re.search(r"action|task|description|item|what|to-?do|improvement", h)), 0
        )
        state = next((i for i, h in enumerate(head) if re.search(r"status|state|done|complete", h)), None)
        for row in table.rows[1:]:
            if len(row) <= what or not (action := _action(row[what])):
                continue
            told = row[state] if state is not None and state < len(row) else ""
            done = bool(_DONE_STATUS.search(told)) and not _NOT_DONE.search(told)
            done = done or any(_DONE.search(cell) for cell in row)
            actions.append(dataclasses.replace(action, done=action.done or done))
    return actions


def _action(text: str) -> Action | None:
    box = _BOX.match(text)
    done = bool(box and box[1].lower() in ("x", "✓", "✔"))
    text = box[2] if box else text
    struck = re.fullmatch(r"~~(.+)~~\W*", text.strip())
    done = done or bool(struck) or bool(_DONE.search(text))
    text = " ".join(_DONE.sub(" ", struck[1] if struck else text).split()).strip()
    return None if _PLACEHOLDER.match(text) else Action(text, done)
