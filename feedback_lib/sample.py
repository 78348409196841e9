"""A sample world: half a year of invented feedback on "Beacon", a developer platform that does not exist.

Everything here is synthetic. The sentences are hand-written (``data/sample``); a seeded generator decides who says
what and when. Background themes keep a steady rate, so what moves was planted: ``key.json`` lists those stories.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import email.header
import email.utils
import hashlib
import importlib.resources
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from feedback_lib.errors import ConfigError
from feedback_lib.workflows import sample as workflows

T = TypeVar("T")

PRODUCT = "Beacon"
UNTIL = dt.date(2026, 11, 16)  # a Monday; the newest week is the one before
NOTE = (
    "Synthetic: Beacon, its users and everything they say are invented by the authors of this package. "
    "Made by feedback_lib.sample; safe to delete."
)
PEOPLE = 2_400  # who could speak; about 600 do
REGULARS = 150  # of them, who speak about ten times each
COUNTS = 193  # of their own: a sentence more or less changes no count. Why 58: docs/sample.md
DUPLICATE_RATIO = 0.025
SECRET_RATIO = 0.05
OTHER_LANGUAGE_RATIO = 0.1  # of the signals of a theme that has other languages; about 8 % of all
ANSWERED_RATIO = 0.93  # of tickets within 48 h

# (weeks before the newest, hours after that week's Monday) of each release
RELEASES: tuple[tuple[int, int, str], ...] = (
    (99, 0, "3.9.2"),
    (25, 34, "4.0.0"),
    (21, 34, "4.0.1"),
    (16, 34, "4.1.0"),
    (12, 34, "4.1.1"),
    (9, 34, "4.1.2"),
    (6, 34, "4.1.3"),
    (0, 38, "4.2.0"),
)
# theme -> (weeks ago, hours after Monday) before which nobody can know of it
OPENS: Mapping[str, tuple[int, int]] = {
    "search-slow-4-2": (0, 39),
    "sso-logout-loop": (0, 57),
    "instant-rollback": (12, 35),
}
SPECS: tuple[tuple[str, str, int], ...] = (
    ("spec-core-001", "retrieval API", 300),
    ("spec-reg-002", "package registry", 500),
    ("spec-ci-003", "runner start", 60_000),
)

POST_MORTEMS = ("registry-outage", "invoice-pdf", "runner-pool")
# file -> type of its signals, our field -> its column
COLUMNS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "support.jsonl": (
        "ticket",
        {
            "native_id": "ticket_id",
            "created_at": "created",
            "updated_at": "updated",
            "author": "requester",
            "title": "subject",
            "body": "description",
            "product_area": "area",
            "state": "status",
            "severity": "priority",
            "first_response_at": "first_reply_at",
            "closed_at": "solved_at",
            "version": "app_version",
            "customer_value": "monthly_spend",
            "thread_count": "replies",
            "labels": "tags",
            "locale": "locale",
            "url": "url",
        },
    ),
    "reviews.csv": (
        "review",
        {
            "native_id": "review_id",
            "created_at": "date",
            "rating": "stars",
            "author": "author",
            "title": "title",
            "body": "text",
            "version": "version",
        },
    ),
    "issues.parquet": (
        "issue",
        {
            "native_id": "number",
            "created_at": "created_at",
            "updated_at": "updated_at",
            "closed_at": "closed_at",
            "author": "user",
            "title": "title",
            "body": "body",
            "labels": "labels",
            "product_area": "component",
            "state": "state",
            "thread_count": "comments",
            "reactions": "reactions",
            "url": "html_url",
        },
    ),
    "errors.jsonl": (
        "error",
        {
            "native_id": "event_id",
            "created_at": "timestamp",
            "author": "reporter",
            "title": "message",
            "body": "stacktrace",
            "service": "service",
            "product_area": "component",
            "version": "release",
            "severity": "level",
        },
    ),
    "retrospectives.jsonl": (
        "interview",
        {"native_id": "note_id", "created_at": "at", "author": "by", "title": "note"},
    ),
}


# what the team that builds Beacon says of its own workflow in the newest week: minutes after its Monday, who, what
SPOKEN: tuple[tuple[int, str, str], ...] = (
    (2_340, "ines", "The risk analysis step has become so long that I skip it"),
    (3_790, "tomasz", "Who reads the risk analysis? I fill in the same boilerplate for each task"),
    (5_275, "adaeze", "The risk analysis form has doubled, so I leave it out"),
)
SKIPPED = "risk_analysis"  # what they speak of
WORKFLOW_DAYS = 1.4  # between two workflows of that team: five begin in the newest week


@dataclasses.dataclass(frozen=True)
class Story:
    """A planted story. Weeks are counted back from the newest, which is 0."""

    story_id: str
    title: str
    finding: str  # new, growing, recurring, falling, steady or quiet
    subject_type: str
    themes: tuple[str, ...]
    words: tuple[str, ...]
    weeks: tuple[int, ...]  # when it happens
    seen_in: tuple[int, ...]  # whose report must show it
    suggestion: str | None = None


STORIES: tuple[Story, ...] = (
    Story(
        "search-slow-4-2",
        "Release 4.2 slows the retrieval API",
        "growing",
        "topic",
        ("search-slow", "search-slow-4-2"),
        ("search", "slow", "timeout", "query", "queries", "retrieval", "seconds"),
        (0,),
        (0,),
        "performance investigation",
    ),
    Story(
        "webhook-docs",
        "Nobody understands the page on webhook signatures",
        "growing",
        "topic",
        ("webhook-docs",),
        ("webhook", "webhooks", "signature", "signatures", "verify", "hmac", "docs"),
        (2, 1, 0),
        (0,),
        "documentation",
    ),
    Story(
        "instant-rollback",
        "Instant rollback is loved",
        "steady",
        "topic",
        ("instant-rollback",),
        ("rollback", "instant", "deploy", "click"),
        tuple(range(12, -1, -1)),
        (0,),
    ),
    Story(
        "upload-keyerror",
        "KeyError: 'artifact_id' in the upload worker, again and again",
        "recurring",
        "error",
        ("upload-keyerror", "upload-keyerror-ticket"),
        ("keyerror", "artifact_id", "upload"),
        tuple(range(21, -1, -1)),
        (0,),
        "bug fix",
    ),
    Story(
        "sso-logout-loop",
        "Okta users are logged out in a loop since the identity change",
        "new",
        "topic",
        ("sso-logout-loop",),
        ("okta", "sso", "logout", "login", "loop", "logged"),
        (0,),
        (0,),
        "bug fix",
    ),
    Story("quiet-week", "Nothing happened", "quiet", "topic", (), (), (4, 3), (4, 3)),
    Story(
        "invoice-pdf",
        "Blank invoice PDFs, fixed in August",
        "falling",
        "topic",
        ("invoice-pdf",),
        ("invoice", "pdf", "invoices"),
        tuple(range(19, 12, -1)),
        (12, 11),
    ),
)


MEASURED_WEEKS = 8
SLICE_S = 300
PER_DAY = 86_400 // SLICE_S
PER_WEEK = 7 * PER_DAY


@dataclasses.dataclass(frozen=True)
class Incident:
    """Something planted in the measurements of a spec: ``minutes`` after the Monday of the week ``ago``."""

    incident_id: str
    spec_id: str
    finding: str  # step, outage, slow burn or no data
    metrics: tuple[str, ...]
    ago: int
    minutes: int
    length: int | None = None  # minutes; None: it is still so at the end

    def hit(self) -> slice:
        """The five-minute slices it takes, counted from the first that is measured."""
        first = (MEASURED_WEEKS - self.ago - 1) * PER_WEEK + self.minutes // 5
        return slice(first, None if self.length is None else first + self.length // 5)


INCIDENTS: tuple[Incident, ...] = (
    Incident("runner-pool", "spec-ci-003", "outage", ("start_latency_p99",), 7, 1_440 + 13 * 60 + 5, 45),
    Incident(
        "half-day-unmeasured",
        "spec-ci-003",
        "no data",
        ("start_latency_p99", "start_error_rate", "scheduler_availability"),
        2,
        5 * 1_440 + 6 * 60,
        720,
    ),
    Incident("search-slow-4-2", "spec-core-001", "step", ("search_latency_p99", "api_error_rate"), 0, 39 * 60),
    Incident("document-slower-4-2", "spec-core-001", "step", ("document_latency_p99",), 0, 39 * 60),
    Incident("slow-start-every-4h", "spec-ci-003", "slow burn", ("start_latency_p99",), 0, 2 * 1_440),
    Incident(
        "publish-outage",
        "spec-reg-002",
        "outage",
        ("api_error_rate", "publish_availability"),
        0,
        3 * 1_440 + 2 * 60 + 10,
        60,
    ),
)
# at the end: whether the target is met, and the alert that is open, if any
EXPECTED: Mapping[str, Mapping[str, tuple[str, str | None]]] = {
    "spec-core-001": {
        "search_latency_p99": ("missed", "page"),
        "document_latency_p99": ("met", None),
        "api_error_rate": ("missed", "page"),
        "api_availability": ("met", None),
    },
    "spec-reg-002": {
        "api_latency_p99": ("met", None),
        "api_error_rate": ("met", None),
        "publish_availability": ("met", None),
    },
    "spec-ci-003": {
        "start_latency_p99": ("met", "ticket"),
        "start_error_rate": ("met", None),
        "scheduler_availability": ("met", None),
    },
}
# the line of each spec that promises something and cannot be read as a limit
UNREADABLE: Mapping[str, str] = {
    "spec-core-001": "Response times must be acceptable even for very large projects.",
    "spec-reg-002": "Installing a package should take about 3 to 10 s",
    "spec-ci-003": "Start latency of macOS machines: TBD",
}


@dataclasses.dataclass
class _Theme:
    name: str
    area: str
    category: str
    dx_label: str
    rate: float
    planned: dict[int, float]
    channels: dict[str, int]
    titles: list[str] = dataclasses.field(default_factory=list)
    says: list[str] = dataclasses.field(default_factory=list)
    more: list[str] = dataclasses.field(default_factory=list)
    outputs: list[str] = dataclasses.field(default_factory=list)
    other: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)

    def people(self, ago: int) -> float:
        return self.planned.get(ago, self.rate)


@dataclasses.dataclass(frozen=True)
class _Traceback:
    service: str
    message: str
    text: str


@dataclasses.dataclass(frozen=True)
class _Person:
    name: str
    handle: str
    address: str
    language: str
    tone: str
    typos: float  # per word
    plan: str
    spend: float
    os: str
    browser: str
    project: str
    team: str


@dataclasses.dataclass
class _Item:
    channel: str
    at: dt.datetime
    ago: int
    theme: _Theme
    person: _Person
    title: str
    body: str
    language: str
    version: str
    native_id: str = ""
    message_id: str = ""
    copy_of: _Item | None = None
    secrets: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def generate(folder: Path, until: dt.date = UNTIL, weeks: int = 26, seed: int = 42) -> dict[str, Any]:
    """Write the sample world into a folder; the same arguments write the same bytes.

    Files of an earlier call in the same folder are replaced; nothing else in it is touched.

    Args:
        folder: Where to write; made when absent.
        until: The first day that is not told any more. Taken back to its Monday, so the newest week is complete.
        weeks: Complete weeks to write, from 1. Fewer than 26 are the end of the 26 weeks.
        seed: Other people, other words, other counts; the same stories.

    Returns:
        What ``key.json`` holds, see `expected`.

    Raises:
        ValueError: ``weeks`` is less than 1.
    """
    if weeks < 1:
        raise ValueError(f"weeks must be at least 1, got {weeks}")
    folder = Path(folder)
    end = dt.datetime.combine(until - dt.timedelta(days=until.weekday()), dt.time(), dt.UTC)
    world = _World(end, seed)
    items = [item for item in world.tell(max(weeks, 26)) if item.ago < weeks]
    files = {
        "SYNTHETIC.md": f"# Sample world\n\n{NOTE}\n".encode(),
        "support.jsonl": world.support([i for i in items if i.channel == "support"]),
        "reviews.csv": world.reviews([i for i in items if i.channel == "reviews"]),
        "issues.parquet": world.issues([i for i in items if i.channel == "issues"]),
        "mail.mbox": world.mail([i for i in items if i.channel == "mail"]),
        "errors.jsonl": world.errors([i for i in items if i.channel == "errors"]),
        **world.performance(weeks),
        **world.post_mortems(weeks),
        **_team(end, weeks),
    }
    measured, monitor = _measurements(world.reported, end, weeks, seed)
    files |= measured
    key = {**_key(items, end, weeks, seed, sorted(files)), "monitor": monitor}
    files["key.json"] = (json.dumps(key, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
    _remove_earlier(folder)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return key


def expected(folder: Path) -> dict[str, Any]:
    """What was planted in a sample world, for tests.

    Returns:
        ``stories`` (one per story: ``id``, ``title``, ``finding``, ``subject_type``, ``first_week``, ``weeks`` in which
        it happens, ``seen_in`` the weeks whose report must show it, ``words``, ``category``, ``dx_label``,
        ``suggestion_type``, ``people`` and ``mentions`` (duplicates included) by week, ``native_ids`` by
        source, in the weeks it happens), ``quiet_weeks``, ``silent_friction`` (``step`` of the team's workflows, notes
        ``said_by``), ``duplicates``, ``planted_secrets``, ``items`` (source -> native id -> theme, category, DX label,
        language), ``themes``, ``counts``, ``files`` and ``monitor`` (what happens in the measurements, see
        docs/sample.md). Weeks are the ISO dates of their Mondays.

    Raises:
        ConfigError: the folder holds no sample world.
    """
    path = Path(folder) / "key.json"
    if not path.is_file():
        raise ConfigError(f"{path}: not found; make the sample world first (feedback sample)")
    key: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return key


def sources(folder: Path) -> list[dict[str, Any]]:
    """The entries under ``sources:`` that read a sample world, as a params file would hold them."""
    reports = folder / ".spec" / "reports"
    return [
        *(
            {"kind": "files", "name": Path(name).stem, "path": str(folder / name), "type": kind, "columns": columns}
            for name, (kind, columns) in COLUMNS.items()
        ),
        {"kind": "mbox", "name": "mail", "path": str(folder / "mail.mbox")},
        {"kind": "spec_reports", "folder": str(reports / "production-monitoring")},
        {"kind": "post_mortems", "folder": str(reports / "post-mortems")},
        {"kind": "workflow_log", "path": str(folder / "workflows"), "name": "workflows"},
    ]


def _team(end: dt.datetime, weeks: int) -> dict[str, bytes]:
    """The log of the team's own workflows in these weeks, and what its people say of them."""
    since = _stamp(end - dt.timedelta(weeks=weeks)) or ""
    told = [made for made in workflows.events(end.date(), WORKFLOW_DAYS) if made[0]["timestamp"] >= since]
    monday = end - dt.timedelta(weeks=1)
    notes = [
        {"note_id": f"retro-{n}", "at": _stamp(monday + dt.timedelta(minutes=minutes))}
        | {"by": f"{who}@beacon.example", "note": note}
        for n, (minutes, who, note) in enumerate(SPOKEN, 1)
    ]
    return {
        "workflows/.workflow_log.jsonl": workflows.lines(event for made in told for event in made),
        "retrospectives.jsonl": _jsonl(notes),
    }


def _remove_earlier(folder: Path) -> None:
    if not (folder / "key.json").is_file():
        return
    for name in expected(folder).get("files", []):
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)


# --- reading the sentences ---------------------------------------------------------------------------------------


def _text(name: str) -> str:
    return (importlib.resources.files("feedback_lib") / "data" / "sample" / name).read_text("utf-8")


def _lines(name: str) -> list[str]:
    return [line for line in _text(name).splitlines() if line.strip() and line.split()[0] != "#"]


def themes() -> list[_Theme]:
    """All themes of the sample world with their sentences, background first."""
    found: list[_Theme] = []
    for line in [*_lines("background.txt"), *_lines("stories.txt")]:
        mark, rest = line[0], line[1:].strip()
        if mark == "=":
            name, area, category, dx_label, schedule, channels = (part.strip() for part in rest.split("|"))
            words = channels.split()
            weights = {c: int(w) for c, w in zip(words[::2], words[1::2], strict=True)}
            found.append(_Theme(name, area, category, dx_label, *_schedule(schedule), weights))
        elif mark == "@":
            language, _, both = rest.partition(" ")
            title, _, text = both.partition("::")
            found[-1].other.append((language, title.strip(), text.strip()))
        else:
            {"?": found[-1].titles, "-": found[-1].says, "+": found[-1].more, "$": found[-1].outputs}[mark].append(rest)
    for _service, area, rate, name, _message in _traceback_heads():
        if rate:  # the others belong to a story
            found.append(_Theme(name, area, "bug_report", "DX Friction", float(rate), {}, {"errors": 1}))
    return found


def _schedule(text: str) -> tuple[float, dict[int, float]]:
    """A base rate and the weeks that differ: ``0.5; 2:3 1:6.5`` or ``0; 12-0:5``."""
    base, _, planned = text.partition(";")
    rates: dict[int, float] = {}
    for entry in planned.split():
        span, _, rate = entry.partition(":")
        first, _, last = span.partition("-")
        for ago in range(int(last or first), int(first) + 1):
            rates[ago] = float(rate)
    return float(base), rates


def _traceback_heads() -> Iterator[tuple[str, str, str, str, str]]:
    for line in _lines("tracebacks.txt"):
        if line.startswith("== "):
            name, service, area, rate, message = (part.strip() for part in line[3:].split("|", 4))
            yield service, area, rate, name, message


def _tracebacks() -> dict[str, _Traceback]:
    blocks = re.split(r"^== .*\n", _text("tracebacks.txt"), flags=re.MULTILINE)[1:]
    heads = list(_traceback_heads())
    return {
        name: _Traceback(service, message, block.rstrip("\n"))
        for (service, _, _, name, message), block in zip(heads, blocks, strict=True)
    }


def _sections(name: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for line in _lines(name):
        if re.fullmatch(r"\[[a-z.]+\]", line):
            current = sections.setdefault(line[1:-1], [])
        else:
            current.append(line)
    return sections


# --- chance ------------------------------------------------------------------------------------------------------


class _Dice:
    """One seeded generator with the few throws that are needed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, p: float) -> bool:
        return float(self.rng.random()) < p

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.random() * len(options))]

    def whole(self, low: int, high: int) -> int:
        return low + int(self.rng.random() * (high - low + 1))

    def weighted(self, weights: Mapping[T, float]) -> T:
        at = float(self.rng.random()) * sum(weights.values())
        for option, weight in weights.items():
            at -= weight
            if at < 0:
                return option
        return option

    def hex(self, digits: int) -> str:
        return "".join("0123456789abcdef"[int(x * 16)] for x in self.rng.random(digits))

    def letters(self, count: int) -> str:
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(alphabet[int(x * len(alphabet))] for x in self.rng.random(count))

    def shuffled(self, options: Sequence[T]) -> list[T]:
        return [options[int(i)] for i in self.rng.permutation(len(options))]


TONES = {"polite": 30, "casual": 22, "terse": 18, "rambling": 11, "angry": 11, "sarcastic": 8}
PLANS = {"Free": 38, "Team": 36, "Business": 19, "Enterprise": 7}
SPEND = {"Free": (0, 0), "Team": (40, 400), "Business": (500, 4_000), "Enterprise": (5_000, 30_000)}
SYSTEMS = ("Ubuntu 24.04", "macOS 15.6", "Windows 11", "Debian 13", "Fedora 43", "Arch Linux", "macOS 26.1")
BROWSERS = ("Firefox", "Chrome", "Safari", "Edge", "Brave")
LANGUAGES = {"en": 76, "de": 7, "fr": 5, "es": 4, "it": 3, "nl": 3, "pt": 2}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
DAYS_DE = ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag")
DAYS_IT = ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November")
DAY_WEIGHTS = {0: 18, 1: 19, 2: 19, 3: 18, 4: 15, 5: 6, 6: 5}
HOUR_WEIGHTS = {h: 1 + (6 if 7 <= h <= 17 else 0) + (2 if 18 <= h <= 21 else 0) for h in range(24)}

SLOTS: Mapping[str, Callable[[_Dice], str]] = {
    "minutes": lambda d: str(d.whole(4, 58)),
    "seconds": lambda d: str(d.whole(4, 45)),
    "hours": lambda d: str(d.whole(2, 9)),
    "n": lambda d: str(d.whole(3, 48)),
    "n2": lambda d: str(d.whole(49, 80)),
    "pct": lambda d: str(d.whole(12, 95)),
    "weekday": lambda d: d.pick(DAYS),
    "weekday_de": lambda d: d.pick(DAYS_DE),
    "weekday_it": lambda d: d.pick(DAYS_IT),
    "month": lambda d: d.pick(MONTHS),
    "branch": lambda d: d.pick(("main", "develop", "release/24", "hotfix-login-page", "feature/cart", "staging")),
    "language": lambda d: d.pick(("Python", "Go", "Rust", "TypeScript", "Java", "Kotlin", "Ruby", "C#", "PHP")),
    "editor": lambda d: d.pick(("VS Code", "PyCharm", "Neovim", "Emacs", "Zed")),
    "region": lambda d: d.pick(("Sydney", "Singapore", "São Paulo", "Tokyo", "Cape Town", "Mumbai", "Seoul")),
    "region_slug": lambda d: d.pick(("ap-south", "ap-east", "sa-east", "af-south")),
    "browser2": lambda d: d.pick(BROWSERS),
    "project2": lambda d: d.pick(("billing-batch", "icons", "gateway", "mobile-shell", "importer")),
    "semver": lambda d: f"{d.whole(0, 4)}.{d.whole(0, 19)}.{d.whole(0, 9)}",
    "os_short": lambda d: d.pick(("linux", "macos", "windows")),
    "hex": lambda d: d.hex(12),
    "hex6": lambda d: d.hex(6),
    "hex4": lambda d: d.hex(3),
    "digit": lambda d: str(d.whole(1, 9)),
    "bytes": lambda d: str(d.whole(11_000, 65_000)),
    "ms": lambda d: str(d.whole(120, 90_000)),
    "line1": lambda d: str(d.whole(30, 90)),
    "line2": lambda d: str(d.whole(100, 180)),
    "line3": lambda d: str(d.whole(190, 320)),
    "uuid": lambda d: f"{d.hex(8)}-{d.hex(4)}-4{d.hex(3)}-a{d.hex(3)}-{d.hex(12)}",
}
_LOGINS: tuple[str, ...] = ("mlindqvist", "jkowalska", "tanaka", "rhaddad", "okafor")
SECRETS: Mapping[str, Callable[[_Dice], str]] = {
    "email": lambda d: f"{d.pick(('ops', 'kim.doe', 'a.tester', 'on-call', 'jo'))}{d.whole(2, 99)}@example.org",
    "phone": lambda d: d.pick(
        (f"+1 202 555 01{d.whole(10, 99)}", f"+49 30 23125 {d.whole(100, 999)}", f"+44 20 7946 0{d.whole(100, 999)}")
    ),
    "ip": lambda d: d.pick(
        (f"203.0.113.{d.whole(1, 254)}", f"198.51.100.{d.whole(1, 254)}", f"2001:db8::{d.hex(4)}:{d.hex(3)}1")
    ),
    "token": lambda d: d.pick(
        (f"ghp_{d.letters(36)}", f"AKIA{d.letters(16).upper()}", f"bcn_live_{d.hex(32)}", f"glpat-{d.letters(20)}")
    ),
    "path": lambda d: d.pick((f"/home/{d.pick(_LOGINS)}/beacon/run.log", f"/Users/{d.pick(_LOGINS)}/dev/out.txt")),
    "url": lambda d: f"https://{d.pick(_LOGINS)}:{d.letters(12)}@git.example.com/team/app.git",
}
KEYS_NEAR = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuiopqsdfghjklaxcvbnmz", strict=True))


# --- the world ---------------------------------------------------------------------------------------------------


class _World:
    """Who lives in it and what they say. Every throw of the dice happens in a fixed order."""

    def __init__(self, end: dt.datetime, seed: int) -> None:
        self.end = end
        self.dice = _Dice(seed)
        self.counts = np.random.default_rng([seed, COUNTS])
        self.themes = themes()
        self.tracebacks = _tracebacks()
        self.frames = _sections("frames.txt")
        self.group = {theme: story.story_id for story in STORIES for theme in story.themes}
        self.swaps = dict(line.split(" = ") for line in self.frames["swap"])
        longest_first = sorted(self.swaps, key=len, reverse=True)
        self.swappable = re.compile(rf"\b({'|'.join(longest_first)})\b(?= \w)")
        self.decks: dict[tuple[str, str], list[str]] = {}
        self.people, self.weights = self._people()
        self.languages = np.array([p.language for p in self.people])
        self.paying = np.array([p.plan != "Free" for p in self.people])

    def _people(self) -> tuple[list[_Person], np.ndarray[Any, np.dtype[np.float64]]]:
        parts = {k: [w for line in v for w in line.split()] for k, v in _sections("people.txt").items()}
        listed = {k: [w for line in v for w in line.split("|")] for k, v in _sections("people.txt").items()}
        dice = self.dice
        people: list[_Person] = []
        taken: set[str] = set()
        while len(people) < PEOPLE:
            first, last = dice.pick(parts["first"]), dice.pick(parts["last"])
            handle = f"{dice.pick(parts['adjective'])}-{dice.pick(parts['noun'])}{dice.whole(2, 999)}"
            if handle in taken or f"{first} {last}" in taken:
                continue
            taken |= {handle, f"{first} {last}"}
            plan = dice.weighted(PLANS)
            low, high = SPEND[plan]
            people.append(
                _Person(
                    name=f"{first} {last}",
                    handle=handle,
                    address=f"{first}.{last}@{dice.pick(('example.com', 'example.org', 'mail.example.org'))}".lower(),
                    language=dice.weighted(LANGUAGES),
                    tone=dice.weighted(TONES),
                    typos=0.0 if dice.chance(0.6) else 0.01 + 0.05 * float(dice.rng.random()),
                    plan=plan,
                    spend=float(dice.whole(low, high)),
                    os=dice.pick(SYSTEMS),
                    browser=dice.pick(BROWSERS),
                    project=dice.pick(listed["project"]),
                    team=dice.pick(listed["team"]),
                )
            )
        self.packages = listed["package"]
        weights = np.full(PEOPLE, 0.25)
        weights[:REGULARS] = 10.0 * dice.rng.lognormal(-0.2, 0.6, REGULARS)
        return people, weights

    def tell(self, weeks: int) -> list[_Item]:
        """Everything said in the weeks before the end, oldest first, with ids."""
        items: list[_Item] = []
        for ago in range(weeks - 1, -1, -1):
            monday = self.end - dt.timedelta(weeks=ago + 1)
            heard: dict[str, set[int]] = {}
            for theme in self.themes:
                for _ in range(int(self.counts.poisson(theme.people(ago)))):
                    items += self._signal(
                        theme, ago, monday, heard.setdefault(self.group.get(theme.name, theme.name), set())
                    )
        items.sort(key=lambda item: item.at)
        numbers = {"support": 40_200, "issues": 1_800, "reviews": 9_000}
        for item in items:
            if item.channel in numbers:
                numbers[item.channel] += self.dice.whole(1, 3)
                item.native_id = str(numbers[item.channel])
            elif item.channel == "mail":
                item.message_id = f"{self.dice.hex(16)}@mail.example.com"
                item.native_id = hashlib.sha256(item.message_id.encode()).hexdigest()  # as the source mbox does
            else:
                item.native_id = f"ev-{self.dice.hex(16)}"
        return items

    def _signal(self, theme: _Theme, ago: int, monday: dt.datetime, heard: set[int]) -> list[_Item]:
        dice = self.dice
        channel = dice.weighted(theme.channels)
        spoken = None
        if theme.other and channel != "errors" and dice.chance(OTHER_LANGUAGE_RATIO):
            spoken = dice.pick(theme.other)
        person = self._person(theme, heard, spoken[0] if spoken else None)
        at = self._time(theme, ago, monday)
        version = self._version(at, theme)
        self.own = self._own(theme, person, version, at)
        title, body = self._words(theme, person, channel, spoken)
        item = _Item(channel, at, ago, theme, person, title, body, spoken[0] if spoken else "en", version)
        if channel in ("support", "issues", "mail") and dice.chance(SECRET_RATIO):
            self._plant_secret(item)
        if channel in ("support", "issues", "mail") and dice.chance(DUPLICATE_RATIO):
            return [item, self._again(item)]
        return [item]

    def _person(self, theme: _Theme, heard: set[int], language: str | None) -> _Person:
        """Somebody who has not spoken of this in this week, drawn by how often each person speaks."""
        free = np.ones(PEOPLE, dtype=bool)
        free[list(heard)] = False
        fits = free.copy()
        if language:
            fits &= self.languages == language
        if theme.area == "billing":
            fits &= self.paying
        shares = np.cumsum(self.weights * (fits if fits.any() else free))
        at = int(np.searchsorted(shares, shares[-1] * self.dice.rng.random(), side="right"))
        heard.add(at)
        return self.people[at]

    def _time(self, theme: _Theme, ago: int, monday: dt.datetime) -> dt.datetime:
        opens = OPENS.get(theme.name)
        earliest = opens[1] if opens and opens[0] == ago else 0
        while True:
            day, hour = self.dice.weighted(DAY_WEIGHTS), self.dice.weighted(HOUR_WEIGHTS)
            if day * 24 + hour >= earliest:
                break
        seconds = self.dice.whole(0, 3_599)
        return monday + dt.timedelta(days=day, hours=hour, seconds=seconds)

    def _version(self, at: dt.datetime, theme: _Theme) -> str:
        out = [
            v for ago, hours, v in RELEASES if self.end - dt.timedelta(weeks=ago + 1) + dt.timedelta(hours=hours) <= at
        ]
        if theme.name.endswith("-4-2") or len(out) == 1 or self.dice.chance(0.75):
            return out[-1]
        return out[-2]

    # --- words ---

    def _next(self, theme: _Theme, part: str) -> str:
        """The next sentence of a theme: each once, in an order of chance, before any comes again."""
        deck = self.decks.setdefault((theme.name, part), [])
        if not deck:
            deck += self.dice.shuffled(getattr(theme, part))
        return deck.pop()

    def _own(self, theme: _Theme, person: _Person, version: str, at: dt.datetime) -> dict[str, str]:
        """The slots that do not change within one text."""
        before = max(0, [v for _, _, v in RELEASES].index(version) - 2)
        return {
            "version": version,
            "oldversion": RELEASES[before][2],
            "os": "Windows 11" if theme.name == "windows-cli" else person.os,
            "browser": person.browser,
            "plan": person.plan,
            "project": person.project,
            "name": person.name,
            "team": person.team,
            "root": self._root(),
            "stamp": f"{at - dt.timedelta(seconds=self.dice.whole(2, 90)):%Y-%m-%dT%H:%M:%SZ}",
        }

    def _root(self) -> str:
        """Where a service is installed."""
        dice = self.dice
        return dice.pick(
            (
                f"/srv/beacon/releases/{dice.whole(200, 900)}",
                f"/home/runner-{dice.whole(1, 60)}/app",
                f"/opt/beacon-{dice.hex(6)}",
                f"/var/lib/beacon/build-{dice.whole(1000, 9999)}",
            )
        )

    def _fill(self, text: str) -> str:
        dice = self.dice

        def slot(found: re.Match[str]) -> str:
            name = found[1]
            if name in self.own:
                return self.own[name]
            if name == "package":
                return dice.pick(self.packages)
            if name == "traceback":
                return self._fill(self.tracebacks["upload-keyerror"].text)
            return SLOTS[name](dice) if name in SLOTS else found[0]

        text = re.sub(r"\[([^\[\]]*\|[^\[\]]*)\]", lambda m: dice.pick(m[1].split("|")), text)
        return re.sub(r"\{(\w+)\}", slot, text)

    def _words(
        self, theme: _Theme, person: _Person, channel: str, spoken: tuple[str, str, str] | None
    ) -> tuple[str, str]:
        fill = self._fill
        if channel == "errors":
            known = self.tracebacks[theme.name]
            return known.message, fill(known.text)
        if spoken:
            language, title, text = spoken
            return fill(title), self._dress(fill(text), self._around_other(language), channel)
        core = self._reword(fill(self._next(theme, "says")))
        title = _opening(core) if self.dice.chance(0.25) else ""
        title = title or self._reword(fill(self._next(theme, "titles")))
        body = self._dress(core, self._around(theme, person, channel), channel)
        if person.tone in ("terse", "casual") and self.dice.chance(0.35):
            title, body = title.lower(), body.lower()
        body, title = self._mistype(body, person.typos), self._mistype(title, person.typos / 2)
        always = any("{traceback}" in line for line in theme.outputs)
        if theme.outputs and channel != "reviews" and self.dice.chance(1.0 if always else 0.3):
            output = fill(self.dice.pick(theme.outputs))
            body += f"\n\n```\n{output}\n```" if channel == "issues" else f"\n\n{output}"
        return title, body

    def _around(self, theme: _Theme, person: _Person, channel: str) -> dict[str, str]:
        """What stands around the problem: greeting, context, a second sentence, a close. Empty where left out."""
        dice, frames, tone = self.dice, self.frames, person.tone
        praise = theme.category == "praise"
        talkative = {"terse": 0.25, "polite": 1.0, "angry": 0.8, "rambling": 1.3, "sarcastic": 0.8, "casual": 0.7}[tone]
        where = {"support": 1.0, "issues": 0.8, "mail": 1.2, "reviews": 0.5}[channel]

        def maybe(p: float, options: Sequence[str]) -> str:
            return self._fill(dice.pick(options)) if options and dice.chance(min(0.97, p * talkative * where)) else ""

        if praise:
            greet = maybe(0.25, frames["praise.polite" if tone in ("polite", "rambling") else "praise.casual"])
            close = maybe(0.15, frames["casual.close"][:2])
        else:
            greet = maybe(0.0 if channel == "reviews" else 0.55, frames[f"{tone}.greet"])
            close = maybe(0.35, frames[f"{tone}.close"])
        dated = theme.name in OPENS  # these sentences already say since when
        since = maybe(0.18, frames["since"]) if theme.category in ("bug_report", "usability") and not dated else ""
        context = "" if praise else maybe(0.35, frames["context"])
        more = self._reword(self._fill(self._next(theme, "more"))) if maybe(0.6, ["yes"]) else ""
        aside = dice.pick(frames["rambling.aside"]) if tone == "rambling" and not praise and dice.chance(0.5) else ""
        mixed = dice.pick(frames["mixed"]) if not praise and channel == "reviews" and dice.chance(0.15) else ""
        return {
            "greet": greet, "context": context, "since": since, "more": more, "aside": aside, "mixed": mixed,
            "close": close,
        }  # fmt: skip

    def _around_other(self, language: str) -> dict[str, str]:
        greet = self._fill(self.dice.pick(self.frames[f"salute.{language}"])) if self.dice.chance(0.5) else ""
        close = self._fill(self.dice.pick(self.frames[f"end.{language}"])) if self.dice.chance(0.5) else ""
        return {"greet": greet, "close": close}

    def _dress(self, core: str, around: Mapping[str, str], channel: str) -> str:
        """Put the parts in one of several orders, as a review, an issue, a ticket or a mail looks."""
        dice, part = self.dice, around.get
        orders = (
            (core, part("more"), part("since"), part("context")),
            (part("context"), core, part("since"), part("more")),
            (part("since"), core, part("more"), part("context")),
            (core, part("since"), part("context"), part("more")),
        )
        middle = [p for p in dice.pick(orders) if p]
        if part("aside"):
            middle.insert(dice.whole(0, len(middle)), around["aside"])
        if part("mixed"):
            middle.append(around["mixed"])
        greet, close = part("greet") or "", part("close") or ""
        if channel == "issues" and dice.chance(0.25):
            return self._issue_form(middle, close)
        if channel == "mail":
            paragraphs = [greet, _sentences(middle), close]
            if dice.chance(0.15):
                paragraphs.append(dice.pick(self.frames["history"]))
            if dice.chance(0.8):
                signature = self._fill(dice.pick(self.frames["signature"]))
                paragraphs.append(f"-- \n{signature}" if dice.chance(0.6) else signature)
            return "\n\n".join(p for p in paragraphs if p)
        if channel == "support" and dice.chance(0.45):
            return "\n".join(p for p in (greet, _sentences(middle), close) if p)
        return _sentences([p for p in (greet, *middle, close) if p])

    def _issue_form(self, middle: list[str], close: str) -> str:
        dice = self.dice
        steps = dice.pick(
            (
                ["", "### Steps to reproduce", "1. open the project", "2. do the above", "3. wait"],
                ["", "### Expected", "it works as before"],
                [],
            )
        )
        return "\n".join([dice.pick(self.frames["checklist"]), _sentences(middle), *steps, *([close] if close else [])])

    def _reword(self, text: str) -> str:
        """Some words as another person would say them, so that no sentence comes back letter by letter."""
        return self.swappable.sub(lambda m: self.swaps[m[1]] if self.dice.chance(0.35) else m[1], text)

    def _mistype(self, text: str, rate: float) -> str:
        """Slips of the finger in some words: letters swapped, lost, doubled or from the key beside."""
        if not rate:
            return text
        dice, words = self.dice, text.split(" ")
        slips = np.flatnonzero(dice.rng.random(len(words)) < rate)
        for i in slips:
            word = words[int(i)]
            if "'" in word:
                words[int(i)] = word.replace("'", "")
            elif len(word) >= 4 and word.isascii() and word.isalpha():
                at = dice.whole(1, len(word) - 2)
                near = KEYS_NEAR.get(word[at], word[at])
                words[int(i)] = dice.pick(
                    (
                        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                        word[:at] + word[at + 1 :],
                        word[:at] + word[at] + word[at:],
                        word[:at] + near + word[at + 1 :],
                    )
                )
        return " ".join(words)

    def _plant_secret(self, item: _Item) -> None:
        kind = self.dice.pick(tuple(SECRETS))
        value = SECRETS[kind](self.dice)
        sentence = self.dice.pick(self.frames[f"secret.{kind}"]).replace("{secret}", value)
        item.secrets.append((kind, value))
        item.body = f"{sentence}\n{item.body}" if self.dice.chance(0.2) else f"{item.body}\n{sentence}"

    def _again(self, first: _Item) -> _Item:
        """The same words once more: sent twice, or a ticket forwarded as mail."""
        dice = self.dice
        again = dataclasses.replace(first, copy_of=first)
        again.at = min(first.at + dt.timedelta(minutes=dice.whole(1, 40)), self._last_moment(first))
        if first.channel == "support" and dice.chance(0.4):
            again.channel, again.title = "mail", f"Fwd: {first.title}"
            again.body = f"{dice.pick(FORWARDS)}\n\n{first.body}"
        else:
            again.body = dice.pick(
                (first.body, first.body + "\n\n(sent again, the page showed an error)", first.body + "!")
            )
        return again

    def _last_moment(self, item: _Item) -> dt.datetime:
        return self.end - dt.timedelta(weeks=item.ago, seconds=1)

    # --- files ---

    def support(self, items: list[_Item]) -> bytes:
        """Tickets as a help desk exports them: one JSON object per line."""
        dice, rows = self.dice, []
        for item in items:
            replied = self._until_end(item.at, self._reply_hours())
            solved = self._until_end(replied, float(dice.rng.lognormal(3.4, 0.9))) if dice.chance(0.82) else None
            status = "solved" if solved else dice.pick(("open", "pending")) if replied else "new"
            angry = item.person.tone == "angry" and item.theme.category != "praise"
            rows.append(
                {
                    "ticket_id": int(item.native_id),
                    "created": _stamp(item.at),
                    "updated": _stamp(solved or replied or item.at),
                    "requester": item.person.address,
                    "subject": item.title,
                    "description": item.body,
                    "area": item.theme.area,
                    "status": status,
                    "priority": dice.weighted(URGENT if angry else USUAL),
                    "first_reply_at": _stamp(replied),
                    "solved_at": _stamp(solved),
                    "app_version": item.version if dice.chance(0.7) else None,
                    "plan": item.person.plan,
                    "monthly_spend": item.person.spend,
                    "locale": item.language if dice.chance(0.8) else None,
                    "replies": 0 if replied is None else dice.whole(1, 6),
                    "tags": sorted({item.person.plan.lower(), *(["vip"] if item.person.spend > 5_000 else [])}),
                    "url": f"https://support.beacon.example/tickets/{item.native_id}",
                }
            )
        return _jsonl(rows)

    def _reply_hours(self) -> float | None:
        at = float(self.dice.rng.random())
        if at < ANSWERED_RATIO:
            return min(float(self.dice.rng.lognormal(1.6, 1.0)), 46.0)
        return 49.0 + 90.0 * float(self.dice.rng.random()) if at < 0.97 else None

    def _until_end(self, start: dt.datetime | None, hours: float | None) -> dt.datetime | None:
        """``start`` plus hours, to the second; None when it has not happened before the end."""
        if start is None or hours is None:
            return None
        at = start + dt.timedelta(seconds=int(hours * 3_600))
        return at if at < self.end else None

    def reviews(self, items: list[_Item]) -> bytes:
        """Reviews as a CSV file with commas, quotes and line breaks in the text."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["review_id", "date", "stars", "author", "title", "text", "version"])
        for i in items:
            stars = self._stars(i)
            writer.writerow([i.native_id, _stamp(i.at), stars, i.person.handle, i.title, i.body, i.version])
        return out.getvalue().encode()

    def _stars(self, item: _Item) -> int:
        if item.theme.category == "praise":
            return 5 if self.dice.chance(0.8) else 4
        low, high = {"bug_report": (1, 3), "feature_request": (3, 4)}.get(item.theme.category, (2, 4))
        return max(1, self.dice.whole(low, high) - (item.person.tone in ("angry", "sarcastic")))

    def issues(self, items: list[_Item]) -> bytes:
        """The issue tracker as a Parquet file."""
        dice, rows = self.dice, []
        for item in items:
            closed = self._until_end(item.at, float(dice.rng.lognormal(4.6, 1.2))) if dice.chance(0.6) else None
            label = {"bug_report": "bug", "feature_request": "enhancement"}.get(
                item.theme.category, item.theme.category
            )
            rows.append(
                {
                    "number": int(item.native_id),
                    "created_at": item.at,
                    "updated_at": closed or item.at,
                    "closed_at": closed,
                    "user": item.person.handle,
                    "title": item.title,
                    "body": item.body,
                    "labels": [label] if dice.chance(0.6) else [],
                    "component": item.theme.area,
                    "state": "closed" if closed else "open",
                    "comments": dice.whole(0, 9),
                    "reactions": int(dice.rng.poisson(4.0 if item.theme.category == "feature_request" else 1.0)),
                    "html_url": f"https://git.beacon.example/beacon/platform/issues/{item.native_id}",
                }
            )
        when = pl.Datetime("us", "UTC")
        schema = {
            "number": pl.Int64(), "created_at": when, "updated_at": when, "closed_at": when, "user": pl.String(),
            "title": pl.String(), "body": pl.String(), "labels": pl.List(pl.String()), "component": pl.String(),
            "state": pl.String(), "comments": pl.Int64(), "reactions": pl.Int64(), "html_url": pl.String(),
        }  # fmt: skip
        out = io.BytesIO()
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(out)
        return out.getvalue()

    def mail(self, items: list[_Item]) -> bytes:
        """Mails to the feedback address as one mbox file."""
        parts: list[str] = []
        for item in items:
            name, address = item.person.name, item.person.address
            body = re.sub(r"^(>*From )", r">\1", item.body, flags=re.MULTILINE)
            headers = {
                "From": email.utils.formataddr((name, address)),
                "To": "Beacon feedback <feedback@beacon.example>",
                "Subject": email.header.Header(
                    item.title, "utf-8" if not item.title.isascii() else "us-ascii", 900
                ).encode(),
                "Date": email.utils.format_datetime(item.at),
                "Message-ID": f"<{item.message_id}>",
                "MIME-Version": "1.0",
                "Content-Type": "text/plain; charset=utf-8",
                "Content-Transfer-Encoding": "8bit",
                "X-Synthetic": "yes",
            }
            head = "\n".join(f"{k}: {v}" for k, v in headers.items())
            parts.append(f"From {address} {item.at:%a %b %e %H:%M:%S %Y}\n{head}\n\n{body}\n\n")
        return "".join(parts).encode()

    def errors(self, items: list[_Item]) -> bytes:
        """Error reports of installations, with their tracebacks."""
        return _jsonl(
            {
                "event_id": item.native_id,
                "timestamp": _stamp(item.at),
                "service": self.tracebacks[item.theme.name].service,
                "component": item.theme.area,
                "release": item.version,
                "level": "error",
                "reporter": item.person.handle,
                "message": item.title,
                "stacktrace": item.body,
            }
            for item in items
        )

    def performance(self, weeks: int) -> dict[str, bytes]:
        """Weekly reports of the production monitor, one file per spec and week."""
        files: dict[str, bytes] = {}
        self.reported: dict[tuple[str, int], tuple[float, float]] = {}
        for ago in range(max(weeks, 26) - 1, -1, -1):
            at = self.end - dt.timedelta(weeks=ago, minutes=30)
            for spec_id, service, limit in SPECS:
                slow = 3.1 if (spec_id, ago) == ("spec-core-001", 0) else 0.7 + 0.12 * float(self.dice.rng.random())
                failed = (
                    0.0124
                    if (spec_id, ago) == ("spec-core-001", 0)
                    else 0.0003 + 0.0004 * float(self.dice.rng.random())
                )
                metrics = [
                    _metric("p99_latency", round(slow * limit), limit),
                    _metric("error_rate", round(failed, 5), 0.001),
                ]
                self.reported[spec_id, ago] = metrics[0]["value"], metrics[1]["value"]
                bad = any(m["status"] == "unhealthy" for m in metrics)
                report = {
                    "workflow": "smartspec_production_monitor",
                    "version": "1.0.0",
                    "run_id": f"{spec_id}-{at:%Y-%m-%d}",
                    "generated_at": _stamp(at),
                    "spec_id": spec_id,
                    "service": service,
                    "status": "unhealthy" if bad else "healthy",
                    "metrics": metrics,
                    "synthetic": True,
                }
                if ago < weeks:
                    name = f".spec/reports/production-monitoring/{report['run_id']}.json"
                    files[name] = (json.dumps(report, indent=2) + "\n").encode()
        return files

    def post_mortems(self, weeks: int) -> dict[str, bytes]:
        """Post-mortems in three different templates."""
        files: dict[str, bytes] = {}
        for name in POST_MORTEMS:
            first, _, text = _text(f"post_mortems/{name}.md").partition("\n")
            found = re.fullmatch(r"<!-- weeks_ago: (\d+), day: (\d) -->", first)
            if found is None:
                raise ValueError(
                    f"post_mortems/{name}.md: the first line must say weeks_ago and day, it says {first!r}"
                )
            ago, day = int(found[1]), int(found[2])
            if ago < weeks:
                date = (self.end - dt.timedelta(weeks=ago + 1) + dt.timedelta(days=day)).date().isoformat()
                files[f".spec/reports/post-mortems/{date}-{name}.md"] = text.replace("{date}", date).encode()
        return files


FORWARDS = (
    "Forwarding my ticket in case the form did not work.",
    "See below, I also sent this through the support form.",
    "FYI, same as the ticket:",
)
USUAL = {"low": 20, "normal": 62, "high": 15, "urgent": 3}
URGENT = {"normal": 30, "high": 45, "urgent": 25}


def _sentences(parts: Sequence[str]) -> str:
    """Parts as running text; one that ends without a stop gets one when something follows."""
    closed = [p if p[-1] in ".,!?:;)" else f"{p}." for p in parts[:-1]]
    return " ".join([*closed, *parts[-1:]])


def _opening(text: str) -> str:
    """The first words of a text as a subject, where they make one; else empty."""
    first = re.split(r"[.,;:?!](?= |$)", text)[0]
    return first if 3 <= len(first.split()) <= 9 else ""


def _stamp(at: dt.datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _jsonl(rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _metric(name: str, value: float, slo: float) -> dict[str, Any]:
    return {"name": name, "value": value, "slo": slo, "status": "healthy" if value <= slo else "unhealthy"}


# --- measurements ------------------------------------------------------------------------------------------------

Series = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


class _Meters:
    """What a spec's service measures in five-minute slices, oldest first; its chance is its own."""

    def __init__(self, spec_id: str, reported: Mapping[tuple[str, int], tuple[float, float]], seed: int) -> None:
        self.rng = np.random.default_rng([seed, [s for s, _, _ in SPECS].index(spec_id), 7])
        self.size = MEASURED_WEEKS * PER_WEEK
        weeks = range(MEASURED_WEEKS - 1, -1, -1)
        self.latency_ms = np.array([reported[spec_id, ago][0] for ago in weeks], dtype=np.float64)
        self.error_ratio = np.array([reported[spec_id, ago][1] for ago in weeks], dtype=np.float64)
        self.planted = {i.incident_id: i for i in INCIDENTS if i.spec_id == spec_id}
        self.sizes: dict[str, dict[str, float]] = {i: {} for i in self.planted}
        at = (np.arange(self.size) + 0.5) / PER_DAY
        self.busy = 0.5 - 0.5 * np.cos(2 * np.pi * (at - 2 / 24))  # 1 at two in the afternoon, UTC
        self.weekend = at % 7 >= 5

    def isolated(self) -> Counts:
        """One slice in every two days, far from each other and from what is planted: too few to alert."""
        span = 2 * PER_DAY
        found = np.arange(0, self.size, span) + self.rng.integers(span // 10, span - span // 10, self.size // span)
        taken = np.zeros(self.size, dtype=bool)
        for incident in self.planted.values():
            if incident.finding in ("outage", "slow burn"):
                hit = incident.hit()
                taken[hit.start - PER_DAY // 2 : (hit.stop or self.size) + 3 * PER_DAY] = True
        free: Counts = found[~taken[found]]
        return free

    def traffic(self, per_slice: float) -> Counts:
        """Events in each slice: more by day than by night, fewer at weekends."""
        noise = self.rng.normal(0.0, 0.05, self.size)
        load = (0.35 + 0.65 * self.busy) * np.where(self.weekend, 0.6, 1.0) * np.exp(noise)
        events: Counts = self.rng.poisson(per_slice * load)
        return events

    def shape(self) -> Series:
        """A latency without its level: day, weekend, slow wobble, noise, and every two days one slice far too slow."""
        days = self.rng.normal(0.0, 0.01, MEASURED_WEEKS * 7 + 1)
        wobble = np.interp(np.arange(self.size) / PER_DAY, np.arange(days.size), days)
        log = 0.12 * (self.busy - 0.5) - 0.04 * self.weekend + wobble + self.rng.normal(0.0, 0.025, self.size)
        log[self.isolated()] += np.log(1.6)
        return np.exp(log)

    def weekly(self, values: Series) -> Series:
        medians: Series = np.median(values.reshape(MEASURED_WEEKS, PER_WEEK), axis=1)
        return medians

    def latency(self, step: slice | None = None) -> tuple[Series, float]:
        """A p99 in ms whose median of each week is what the weekly report says, and how much it rose at the step."""
        shape, wanted = self.shape(), self.latency_ms.copy()
        if step:
            wanted[-1] = wanted[-2]
        centres, level = (np.arange(MEASURED_WEEKS) + 0.5) * PER_WEEK, wanted
        for _ in range(3):
            values = np.interp(np.arange(self.size), centres, level) * shape
            level = level * wanted / self.weekly(values)
        if not step:
            return values, 1.0
        # most of the week comes after the step and is higher, so its median lies there and scales with it
        trial = values.copy()
        trial[step] *= 100.0
        ratio = float(self.latency_ms[-1] / (self.weekly(trial)[-1] / 100.0))
        values[step] *= ratio
        return values, ratio

    def errors(self, requests: Counts, *, step: slice | None = None, outage: slice | None = None) -> Counts:
        """Failed events whose share of each week is what the weekly report says; in an outage 6 % of all."""
        rng, failed = self.rng, np.zeros(self.size, dtype=np.int64)
        if outage:
            failed[outage] = rng.binomial(requests[outage], 0.06)
        weight = requests * rng.gamma(300.0, 1 / 300.0, self.size)
        spikes = self.isolated()
        weight[spikes[spikes < (step.start if step else self.size)]] *= 8.0
        weight[failed > 0] = 0.0
        if step:  # worst on the first day, so that the fast burn is plain and then plainly over
            weight[step.start : step.start + PER_DAY] *= 3.0
        for number, ratio in enumerate(self.error_ratio):
            week = slice(number * PER_WEEK, (number + 1) * PER_WEEK)
            total = round(float(ratio) * int(requests[week].sum()))
            parts = [(week, total)]
            if step and number == MEASURED_WEEKS - 1:
                before = slice(week.start, step.start)
                usual = round(float(self.error_ratio[number - 1]) * int(requests[before].sum()))
                parts = [(before, usual), (slice(step.start, week.stop), total - usual)]
            for part, count in parts:
                left = max(0, count - int(failed[part].sum()))
                failed[part] += rng.multinomial(left, weight[part] / weight[part].sum())
        return failed

    def probes_ok(self) -> Counts:
        """How many of the ten probes of each slice were answered: nearly always all."""
        ok = np.full(self.size, 10, dtype=np.int64)
        ok[self.isolated()] -= 1
        return ok

    def gaps(self) -> tuple[Flags, Flags]:
        """Which slices were measured, and in which of them nobody knows the p99."""
        first, last = 3 * PER_DAY, self.size - PER_WEEK - 12  # the oldest days and the newest week are whole
        measured, unknown = np.ones(self.size, dtype=bool), np.zeros(self.size, dtype=bool)
        measured[self.rng.integers(first, last, 14)] = False
        for start in self.rng.integers(first, last, 4):
            measured[start : start + int(self.rng.integers(3, 10))] = False
        unknown[self.rng.integers(first, last, 6)] = True
        for incident in self.planted.values():
            if incident.finding == "no data":
                measured[incident.hit()] = False
        return measured, unknown


def _retrieval(meters: _Meters) -> dict[str, Any]:
    step = meters.planted["search-slow-4-2"].hit()
    search, rise = meters.latency(step)
    document = 130.0 * meters.shape()
    document[step] *= 1.2
    requests = meters.traffic(30_000)
    errors = meters.errors(requests, step=step)
    week = slice(step.start - PER_WEEK, step.start)
    shares = [float(errors[part].sum() / requests[part].sum()) for part in (week, step)]
    meters.sizes["search-slow-4-2"] = {"search_latency_p99": rise, "api_error_rate": shares[1] / shares[0]}
    meters.sizes["document-slower-4-2"] = {"document_latency_p99": 1.2}
    return {
        "search_latency_p99": np.round(search / 1_000, 5),
        "document_latency_p99": np.round(document / 1_000, 5),
        "requests": requests,
        "errors": errors,
        "probes": np.full(meters.size, 10),
        "probes_ok": meters.probes_ok(),
    }


def _registry(meters: _Meters) -> dict[str, Any]:
    outage = meters.planted["publish-outage"].hit()
    latency, _ = meters.latency()
    requests = meters.traffic(9_000)
    errors = meters.errors(requests, outage=outage)
    probes_ok = meters.probes_ok()
    probes_ok[outage] = 0
    bad = float(errors[outage].sum() / requests[outage].sum())
    meters.sizes["publish-outage"] = {"api_error_rate": bad, "publish_availability": 1.0}
    return {
        "api_latency_p99": np.round(latency, 2),
        "requests": requests,
        "errors": errors,
        "probes": np.full(meters.size, 10),
        "probes_ok": probes_ok,
    }


def _runners(meters: _Meters) -> dict[str, Any]:
    latency, _ = meters.latency()
    waiting = meters.planted["runner-pool"].hit()
    minutes = 5.0 * np.arange(1, waiting.stop - waiting.start + 1)
    latency[waiting] = 60_000.0 * minutes + 45_000.0  # nothing starts: whoever waits waits longer
    burn = meters.planted["slow-start-every-4h"].hit()
    latency[burn.start + 2 :: PER_DAY // 6] *= 1.6
    meters.sizes["runner-pool"] = {"start_latency_p99": 1.0}
    meters.sizes["slow-start-every-4h"] = {"start_latency_p99": 6 / PER_DAY}
    jobs = meters.traffic(300)
    return {
        "start_latency_p99": np.round(latency / 1_000, 3),
        "jobs": jobs,
        "failed": meters.errors(jobs),
        "up": meters.probes_ok() / 10,
    }


def _measurements(
    reported: Mapping[tuple[str, int], tuple[float, float]], end: dt.datetime, weeks: int, seed: int
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Spec, observability.yaml, measurements and deploys of each spec, and what was planted in them.

    Args:
        reported: p99 latency in ms and share of failed events, by spec and week counted back, of the last eight weeks.
        end: The end of the last slice.
        weeks: How many weeks to write; never more than eight.
        seed: Other noise, the same incidents.
    """
    since = end - dt.timedelta(weeks=min(weeks, MEASURED_WEEKS))
    start = end - dt.timedelta(weeks=MEASURED_WEEKS)
    step = dt.timedelta(seconds=SLICE_S)
    at = pl.datetime_range(start + step, end, step, time_unit="us", time_zone="UTC", eager=True).alias("at")
    released = [(end - dt.timedelta(weeks=ago + 1) + dt.timedelta(hours=hours), v) for ago, hours, v in RELEASES]
    deploys = "at,version\n" + "".join(f"{_stamp(moment)},{version}\n" for moment, version in released)
    files: dict[str, bytes] = {}
    told: list[dict[str, Any]] = []
    columns = {"spec-core-001": _retrieval, "spec-reg-002": _registry, "spec-ci-003": _runners}
    for spec_id, _, _ in SPECS:
        meters = _Meters(spec_id, reported, seed)
        frame = pl.DataFrame([at, *(pl.Series(name, values) for name, values in columns[spec_id](meters).items())])
        p99 = next(name for name in frame.columns if name.endswith("_p99"))
        measured, unknown = meters.gaps()
        frame = frame.with_columns(pl.when(pl.Series(~unknown)).then(p99).alias(p99))
        frame = frame.filter(pl.Series(measured) & (pl.col("at") > since))
        files[f"specs/{spec_id}/spec.md"] = _text(f"specs/{spec_id}/spec.md").encode()
        files[f"specs/{spec_id}/observability.yaml"] = _text(f"specs/{spec_id}/observability.yaml").encode()
        files[f"specs/{spec_id}/deploys.csv"] = deploys.encode()
        files[f"specs/{spec_id}/metrics.csv"] = frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ").encode()
        told += [
            {
                "id": incident.incident_id,
                "spec_id": spec_id,
                "finding": incident.finding,
                "metrics": list(incident.metrics),
                "start": _stamp(start + incident.hit().start * step),
                "end": _stamp(None if incident.length is None else start + incident.hit().stop * step),
                "size": {metric: round(size, 4) for metric, size in meters.sizes[incident.incident_id].items()},
            }
            for incident in meters.planted.values()
            if incident.ago < weeks
        ]
    return files, {
        "since": _stamp(since),
        "until": _stamp(end),
        "slice_s": SLICE_S,
        "incidents": sorted(told, key=lambda incident: (incident["start"], incident["id"])),
        "expected": {
            spec_id: {metric: {"state": state, "alert": alert} for metric, (state, alert) in by_metric.items()}
            for spec_id, by_metric in EXPECTED.items()
        }
        if weeks >= 5  # the windows are 30 days
        else {},
        "unreadable": dict(UNREADABLE),
    }


# --- the key -----------------------------------------------------------------------------------------------------


def _key(items: list[_Item], end: dt.datetime, weeks: int, seed: int, files: list[str]) -> dict[str, Any]:
    def monday(ago: int) -> str:
        return (end - dt.timedelta(weeks=ago + 1)).date().isoformat()

    by_source: dict[str, list[_Item]] = {}
    for item in items:
        by_source.setdefault(item.channel, []).append(item)
    return {
        "synthetic": True,
        "product": PRODUCT,
        "seed": seed,
        "until": end.date().isoformat(),
        "weeks": weeks,
        "newest_week": monday(0),
        "files": [*files, "key.json"],
        "counts": {source: len(found) for source, found in sorted(by_source.items())},
        "stories": [_story(story, items, weeks, monday) for story in STORIES if any(w < weeks for w in story.seen_in)],
        "quiet_weeks": [monday(a) for s in STORIES if s.finding == "quiet" for a in s.weeks if a < weeks],
        "silent_friction": {"step": SKIPPED, "said_by": [f"retro-{n}" for n in range(1, len(SPOKEN) + 1)]},
        "duplicates": [
            {"source": i.channel, "native_id": i.native_id, "of_source": i.copy_of.channel, "of": i.copy_of.native_id}
            for i in items
            if i.copy_of
        ],
        "planted_secrets": [
            {"source": i.channel, "native_id": i.native_id, "kind": kind, "value": value}
            for i in items
            for kind, value in i.secrets
        ],
        "themes": {t.name: {"area": t.area, "category": t.category, "dx_label": t.dx_label} for t in themes()},
        "items": {
            source: {i.native_id: {"theme": i.theme.name, "language": i.language} for i in found}
            for source, found in sorted(by_source.items())
        },
    }


def _story(story: Story, items: list[_Item], weeks: int, monday: Callable[[int], str]) -> dict[str, Any]:
    about = [i for i in items if i.theme.name in story.themes]
    people: dict[str, set[str]] = {}
    mentions: dict[str, int] = {}
    native_ids: dict[str, list[str]] = {}
    for item in about:
        week = monday(item.ago)
        people.setdefault(week, set()).add(item.person.handle)
        mentions[week] = mentions.get(week, 0) + 1
        if item.ago in story.weeks:
            native_ids.setdefault(item.channel, []).append(item.native_id)
    return {
        "id": story.story_id,
        "title": story.title,
        "finding": story.finding,
        "subject_type": story.subject_type,
        "first_week": monday(max(story.weeks)),
        "weeks": [monday(a) for a in story.weeks if a < weeks],
        "seen_in": [monday(a) for a in story.seen_in if a < weeks],
        "words": list(story.words),
        "category": about[-1].theme.category if about else None,
        "dx_label": about[-1].theme.dx_label if about else None,
        "suggestion_type": story.suggestion,
        "people": {week: len(found) for week, found in people.items()},
        "mentions": mentions,
        "native_ids": native_ids,
    }
