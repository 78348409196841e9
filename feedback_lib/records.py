"""The nouns of the project: one frozen dataclass per table row, and the frame schema derived from it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars as pl

SignalType = Literal["ticket", "issue", "review", "mail", "error", "workflow", "incident", "performance", "interview"]
MACHINES: tuple[SignalType, ...] = ("error", "workflow", "incident", "performance")  # no person's words
VOICES: tuple[SignalType, ...] = tuple(t for t in typing.get_args(SignalType) if t not in MACHINES)
Category = Literal["bug_report", "feature_request", "usability", "documentation", "question", "praise"]
DxLabel = Literal["DX Friction", "Missing Capability", "Documentation Gap", "DX Delight", "Strategic Insight"]
FindingKind = Literal["new", "growing", "falling", "recurring", "spike", "regression", "silent", "steady"]
FrictionKind = Literal["skip", "error", "phase"]
SubjectType = Literal["topic", "category", "product_area", "error"]
SuggestionType = Literal[
    "performance investigation", "bug fix", "feature spec", "documentation", "refactor", "process change"
]

WEEK_US = 604_800_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MONDAY_US = 345_600_000_000  # 1970-01-05, the first Monday after the epoch, in microseconds


def uid(kind: str, origin: str, native_id: str) -> str:
    """Our stable id of a signal: 128 bits of the hash of where it came from and its own id there.

    >>> uid("files", "support", "17")
    '75597bc791a79707a71e49369ba1fbf6'
    """
    return hashlib.sha256(f"{kind}\0{origin}\0{native_id}".encode()).hexdigest()[:32]


def micros(at: dt.datetime) -> int:
    """Microseconds since the epoch of an aware time, exactly.

    >>> micros(dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC))
    1000000
    """
    return (at - _EPOCH) // dt.timedelta(microseconds=1)


def moment(us: int) -> dt.datetime:
    """The time, in UTC, of microseconds since the epoch."""
    return _EPOCH + dt.timedelta(microseconds=us)


FIRST_YEAR, LAST_YEAR = 1970, 2199  # outside lie default values and slips, such as 0001-01-01


def real_time(at: dt.datetime) -> dt.datetime:
    """A time as it is.

    Raises:
        ValueError: it lies outside the years 1970 to 2199, so it tells of no feedback.
    """
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"is no time of the years {FIRST_YEAR} to {LAST_YEAR}")
    return at


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One raw item as a source sent it, and where it stood (``support.jsonl:17`` or an address).

    ``native_id`` is its own id within its source and holds no personal data. ``updated_at`` says which of two versions
    is newer. A reply names in ``parent`` the native id of the signal whose thread it belongs to.
    """

    payload: Mapping[str, Any]
    where: str
    native_id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    parent: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """One item that could not be read: where it stood and why."""

    where: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A source has given everything up to here; given ``cursor``, it goes on from here.

    ``watermark`` is the greatest value of the service's own ordering field so far, None when nothing was read.
    """

    cursor: Mapping[str, Any]  # JSON-like, the source's own
    watermark: dt.datetime | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One piece of feedback from a person or a machine. ``author`` is a pseudonym once stored."""

    kind: str
    origin: str
    native_id: str
    type: SignalType
    title: str
    body: str
    created_at: dt.datetime
    updated_at: dt.datetime
    url: str | None = None
    author: str | None = None
    state: str | None = None
    labels: tuple[str, ...] = ()
    product_area: str | None = None
    service: str | None = None
    spec_id: str | None = None
    version: str | None = None
    severity: str | None = None
    rating: float | None = None
    reactions: int | None = None
    customer_value: float | None = None
    locale: str | None = None
    thread_count: int | None = None
    first_response_at: dt.datetime | None = None
    closed_at: dt.datetime | None = None

    @property
    def uid(self) -> str:
        """Our stable id, see `uid`."""
        return uid(self.kind, self.origin, self.native_id)

    @property
    def text(self) -> str:
        """Title and body as one text."""
        return f"{self.title}\n{self.body}".strip()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One contribution to the thread of a signal. ``author`` is a pseudonym once stored.

    ``team``: whether it comes from those who answer; None when the service does not say.
    """

    kind: str
    origin: str
    native_id: str
    parent: str  # native id of the signal
    body: str
    created_at: dt.datetime
    updated_at: dt.datetime
    author: str | None = None
    team: bool | None = None

    @property
    def uid(self) -> str:
        """Our stable id, see `uid`."""
        return uid(self.kind, self.origin, self.native_id)

    @property
    def signal(self) -> str:
        """The uid of the signal it belongs to."""
        return uid(self.kind, self.origin, self.parent)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """One item exactly as the service sent it, personal data removed, archived before it is parsed."""

    uid: str
    kind: str
    origin: str
    native_id: str
    parent: str | None
    where: str
    created_at: dt.datetime
    updated_at: dt.datetime
    fetched_at: dt.datetime
    payload: str
    sha256: str
    month: str
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow(Signal):
    """A signal as stored: redacted, with its id, partition and the run that made it."""

    uid: str  # stored here, derived in Signal
    month: str
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRow(Reply):
    """A reply as stored: redacted, with its id, its signal's, and the run that made it."""

    uid: str  # stored here, derived in Reply
    signal: str
    month: str
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnderstandingRow:
    """What was inferred about a signal, and by which model."""

    uid: str
    created_at: dt.datetime
    language: str | None
    category: str | None
    category_score: float | None
    dx_label: str | None
    dx_score: float | None
    sentiment: float | None  # -1 to 1
    severity_score: float | None  # 0 to 1
    duplicate_of: str | None
    topic_id: int | None
    topic_score: float | None
    fingerprint: str | None  # of the error text, where there is one
    language_model: str
    triage_model: str
    topic_model: str | None
    text_sha256: str
    inferred_at: dt.datetime
    month: str
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """One topic of the registry; the id is never used again.

    ``least`` is the score below which a text does not belong to the topic; ``centroid`` has length 1. A pinned topic is
    neither merged, split nor retired by a run. ``named_by`` is the person who gave the name; null when a run did.
    """

    topic_id: int
    name: str
    named_by: str | None
    pinned: bool
    theme_id: int | None
    theme: str | None
    words: tuple[str, ...]
    examples: tuple[str, ...]  # uids, most central first
    dissenting: tuple[str, ...]  # uids, least central members
    born_on: dt.date
    retired_on: dt.date | None
    parents: tuple[int, ...]
    size: int  # members in the window of the run
    centroid: tuple[float, ...]
    least: float | None
    updated_at: dt.datetime
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A trend or pattern with its evidence.

    Counts are of the week that starts on ``week``; ``baseline_*`` are means per week over the ``baseline_weeks``
    before it; ``ratio`` with ``low`` and ``high`` compares shares of all people heard.
    """

    finding_id: str
    kind: FindingKind
    subject_type: SubjectType
    subject: str
    name: str
    week: dt.date
    people: int
    mentions: int
    baseline_people: float
    baseline_mentions: float
    baseline_weeks: int
    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    q: float | None
    evidence: tuple[str, ...]
    origins: tuple[str, ...]  # "kind:origin" of the evidence, most first
    per: str  # what rates are counted out of, such as "people heard"
    release: str | None  # of a regression: the version or deploy it began after
    updated_at: dt.datetime
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrictionRow:
    """What workflows ran into in the week that starts on ``week``, with who says the same.

    ``workflows`` are those it hit, ``of`` all that were seen; ``*_by_week`` the same of the weeks before, too, oldest
    first. ``people_before`` said it in those weeks and not in this one. Of a phase that takes longer, ``workflows`` are
    those of the later half and ``of`` both halves, of all weeks together; only phases have the last five numbers.
    """

    friction_id: str
    kind: FrictionKind
    key: str  # the item, the error's fingerprint, or the phase
    name: str
    phase: str | None
    reason: str  # given most often this week; empty for errors
    week: dt.date
    workflows: int
    of: int
    by_week: tuple[int, ...]
    of_by_week: tuple[int, ...]
    people: int
    people_before: int
    topic_id: int | None  # that is about it
    similarity: float | None  # of the two
    telling: bool  # it passes the thresholds for patterns of workflows
    said: tuple[str, ...]  # uids of people's signals, this week's first
    evidence: tuple[str, ...]  # uids of this week's signals of workflows; of a phase those of all weeks
    earlier_s: float | None = None  # median seconds of the earlier half
    later_s: float | None = None
    ratio: float | None = None  # times as long, with its interval
    low: float | None = None
    high: float | None = None
    updated_at: dt.datetime
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """What one week said of one subject when last counted; earlier versions stay in the store."""

    week: dt.date
    subject_type: SubjectType
    subject: str
    people: int
    mentions: int
    heard: int  # people heard in the week
    updated_at: dt.datetime
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """What a person says a signal is, beside what the models said before they asked.

    Null is "not said"; ``dx_label`` "none" is "carries none of the five".
    """

    uid: str
    category: str | None
    dx_label: str | None
    sentiment: float | None  # -1 to 1
    severity_score: float | None  # 0 to 1
    predicted_category: str | None
    predicted_category_score: float | None
    predicted_dx_label: str | None
    predicted_dx_score: float | None
    predicted_sentiment: float | None
    predicted_severity_score: float | None
    triage_model: str | None
    chosen: str  # why it was asked: "random" or "uncertain"
    text_sha256: str
    by: str
    labelled_at: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MergeRow:
    """A person's word on whether two signals say the same; taking it back is another row of the same pair."""

    uid: str
    duplicate_of: str
    verdict: Literal["same", "different", "undecided"]
    by: str
    reason: str
    score: float | None
    decided_at: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SuggestionRow:
    """A draft until a person takes it. Priority is shown with its parts, each 0 to 1."""

    suggestion_id: str
    type: SuggestionType
    title: str
    action: str
    priority: float
    severity: float
    impact: float
    frequency: float
    people: int
    evidence: tuple[str, ...]
    findings: tuple[str, ...]
    subject: str
    state: str
    history: tuple[str, ...]  # "2026-11-16 run 8f3c: 14 people, priority 0.71"
    created_at: dt.datetime
    updated_at: dt.datetime
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """One item that did not load: where it stands and why."""

    kind: str
    origin: str
    where: str
    reason: str
    seen_at: dt.datetime
    resolved_at: dt.datetime | None  # when the whole source was read again without it
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkRow:
    """Where a source stands: up to where it has been read, how to go on, and how the last reading ended."""

    source: str
    watermark: dt.datetime | None  # greatest value of the service's own ordering field
    cursor: str | None  # JSON, the source's own; None for what is read whole each time
    rows: int  # items read by the last reading
    status: str | None  # ok, empty, failed; reading while it goes on
    error: str | None
    complete_at: dt.datetime | None  # when it was last read to its end
    updated_at: dt.datetime
    run_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of a recipe: what it was given, what it read, what came out."""

    run_id: str
    recipe: str
    as_of: dt.datetime
    started_at: dt.datetime
    seconds: float
    status: str  # ok, degraded, failed
    params: str  # JSON
    versions: str  # JSON: package versions
    inputs: str  # JSON: table versions
    counts: str  # JSON
    report: str  # JSON: the report's numbers, see report.Report
    updated_at: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """How a table is kept: the row it holds, its key, and the column that says which version is newer."""

    row: type
    key: tuple[str, ...]
    version: str = "updated_at"
    partitioned: bool = False


TABLES: dict[str, Table] = {
    "raw": Table(RawRow, ("uid",), partitioned=True),
    "signals": Table(SignalRow, ("uid",), partitioned=True),
    "replies": Table(ReplyRow, ("uid",), partitioned=True),
    "understanding": Table(UnderstandingRow, ("uid",), version="inferred_at", partitioned=True),
    "topics": Table(TopicRow, ("topic_id",)),
    "findings": Table(FindingRow, ("finding_id",)),
    "friction": Table(FrictionRow, ("friction_id",)),
    "counts": Table(CountRow, ("week", "subject_type", "subject")),
    "labels": Table(LabelRow, ("uid",), version="labelled_at"),
    "merges": Table(MergeRow, ("uid", "duplicate_of"), version="decided_at"),
    "suggestions": Table(SuggestionRow, ("suggestion_id",)),
    "quarantine": Table(QuarantineRow, ("kind", "origin", "where"), version="seen_at"),
    "watermarks": Table(WatermarkRow, ("source",)),
    "runs": Table(RunRow, ("run_id",)),
}


def schema(table: str) -> dict[str, pl.DataType]:
    """Column names and Polars types of a table, derived from its dataclass.

    ``str | None`` becomes String, a tuple a List, a datetime microseconds in UTC.
    """
    row = TABLES[table].row
    hints = typing.get_type_hints(row)
    return {f.name: _polars_type(hints[f.name]) for f in dataclasses.fields(row)}


def _polars_type(hint: Any) -> pl.DataType:
    import polars as pl

    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _polars_type(next(a for a in args if a is not type(None)))
    if origin is Literal:
        return pl.String()
    if origin is tuple:
        return pl.List(_polars_type(args[0]))
    known: dict[Any, pl.DataType] = {
        str: pl.String(),
        int: pl.Int64(),
        float: pl.Float64(),
        bool: pl.Boolean(),
        dt.date: pl.Date(),
        dt.datetime: pl.Datetime("us", "UTC"),
    }
    return known[hint]


def frame(table: str, rows: typing.Iterable[Any]) -> pl.DataFrame:
    """Rows (dataclasses or mappings) as a frame with exactly the table's columns."""
    import polars as pl

    columns = schema(table)
    dicts = [r if isinstance(r, Mapping) else {c: getattr(r, c) for c in columns} for r in rows]
    return pl.DataFrame(dicts, schema=columns, orient="row")


def month(at: dt.datetime) -> str:
    """The partition of a signal: the month it was created in.

    >>> month(dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
    '2026-03'
    """
    return f"{at.year:04}-{at.month:02}"  # %Y has no leading zeros on every system


def monday(at: dt.datetime | dt.date) -> dt.date:
    """The Monday of a day's week, in UTC.

    >>> monday(dt.date(2026, 11, 20))
    datetime.date(2026, 11, 16)
    """
    day = at.astimezone(dt.UTC).date() if isinstance(at, dt.datetime) else at
    return day - dt.timedelta(days=day.weekday())
