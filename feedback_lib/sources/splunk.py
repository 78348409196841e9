"""Splunk: the events of a search, by when they were indexed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, get_args

from feedback_lib import logs, privacy
from feedback_lib.errors import TransportError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Signal, SignalType, moment
from feedback_lib.services import MALFORMED, Found, Row, Service, Walk, instant

logger = logging.getLogger(__name__)
_PATH = "/services/search/v2/jobs/export"
_USUAL = {
    "message": "_raw",
    "severity": "log_level",
    "service": "service",
    "version": "version",
    "labels": "sourcetype",
}
_ALWAYS = ("_raw", "_time", "_indextime", "_bkt", "_cd", "_si", "index", "host", "source")
_AT = "feedback_time"  # what the search names the event's own time, in seconds: the format of _time is the user's
_LATEST = 2**31 - 1  # no event is later
_TRIES = 3
_PARTIAL = re.compile(r"incomplete|unable to|could not|failed|timed out|finalized|truncated", re.IGNORECASE)
_RIGHTS = "the user behind the token needs the capability search and the index of the query"


@register("sources", "splunk")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Splunk(Service):
    """Events that a search finds, window by window of the time they were indexed.

    Options:
        url: the management port, such as ``https://splunk.example.org:8089``.
        query: SPL that finds events, such as ``index=web log_level=ERROR``; commands that only read may follow.
        fields: our field: field of an event; an empty one leaves a usual one out.
        type: of the signals, such as ``error``.
        size: events a window, beyond which it is cut into smaller ones.
        event_days: look only for events indexed within so many days of their own time, which is faster; 0 is all.
        scheme: of the token: ``Bearer``, or ``Splunk`` for a session key.
        user: for basic authentication; the token is then the password.
    """

    query: str
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    type: SignalType = "error"
    size: int = 10_000
    event_days: int = 0
    scheme: str = "Bearer"
    user: str = ""
    token_env: str = "SPLUNK_TOKEN"
    timeout_s: float = 300

    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=15)  # queues of forwarders and indexers
    searches: ClassVar[tuple[str, ...]] = (_PATH,)
    hints: ClassVar[Mapping[Any, str]] = {401: _RIGHTS, 403: _RIGHTS}

    def __post_init__(self) -> None:
        self.one_of("scheme", ("Bearer", "Splunk"))
        self.one_of("type", get_args(SignalType))
        for option, least in (("size", 1), ("event_days", 0)):
            number = getattr(self, option)
            if not isinstance(number, int) or number < least:
                raise self.wrong(option, f"write a whole number from {least} on")
        _ = self._base
        super().__post_init__()

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return logs.columns("splunk", self.fields, _USUAL)

    @functools.cached_property
    def _base(self) -> str:
        """The search, which only reads, and gives no more than is needed of each event."""
        if not isinstance(self.query, str) or not self.query.strip() or self.query.strip().startswith("|"):
            raise self.wrong("query", "write SPL that finds events, such as index=web")
        names = ", ".join(f'"{name}"' for name in dict.fromkeys((*_ALWAYS, *self._names.values())))
        return f"{logs.spl(self.query, 'sources')} | fields {names} | eval {_AT}=_time"

    @functools.cached_property
    def personal_fields(self) -> tuple[str, ...]:
        """The field mapped to the author, and those that usually name people and machines."""
        return logs.personal_fields(self._names)

    @functools.cached_property
    def plain_fields(self) -> tuple[str, ...]:
        """The event's id and times, and the fields mapped to an id, an address or a version."""
        return ("id", "_indextime", "_time", _AT, *logs.plain_fields(self._names))

    def headers(self) -> Mapping[str, str]:
        """The token, session key or password."""
        return self.authorization(self.scheme, self.user)

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The events, in windows that shrink where there are many and grow where there are few.

        An export cannot be resumed, so each window is read whole and is a checkpoint. The mark is the latest event's:
        the end of a window is of our clock, which may be ahead.
        """
        newest: dt.datetime | None = None
        since = walk.begin("events") or moment(0)
        start, until = max(0, math.floor(since.timestamp())), math.ceil(walk.until.timestamp())
        width = walk.mark("events").get("width_s") or _power(2 * (until - start))
        while start < until:
            end = min(start - start % width + width, until)  # on a grid, so that a reading that goes on asks the same
            try:
                rows = self._window(start, end)
            except TransportError:  # it may have been too much: the next run asks for less
                yield walk.checkpoint("events", newest, width_s=min(width, _power((end - start) // 4 + 4096)))
                raise
            if len(rows) > self.size and end - start > 1:
                width = _power((end - start) // 4)
                continue
            for found in self._events(rows, max(since, _at(start)), min(_at(end), walk.until)):
                yield found
                newest = found.updated_at if isinstance(found, Item) else newest  # they come in order
            start = end
            width = min(2**31, width * _power(min(8, self.size // (2 * len(rows) + 1))))
            yield walk.checkpoint("events", newest, width_s=width)

    def _window(self, start: int, end: int) -> Sequence[Row]:
        """What was indexed in ``[start, end)``; at most one more than ``size``, unless that is a single second."""
        around = self.event_days * 86_400
        limited = f" | head {self.size + 1}" if end - start > 1 else ""
        form = {
            "search": self._base + limited,
            "index_earliest": start,
            "index_latest": end,
            "earliest_time": max(0, start - around) if around else 0,
            "latest_time": min(_LATEST, end + around) if around else _LATEST,
        }
        for left in reversed(range(_TRIES)):
            try:
                rows, whole = self._export(form)
            except TransportError as problem:
                if problem.status != 200 or not left:
                    raise
                continue  # a gateway's page
            if whole and not any(_outside(row, start, end) for row in rows):
                return rows
        if not whole:
            raise TransportError(self.kind, f"{self.address}: the answer broke off before its last row")
        if rows and not any(isinstance(row, Mapping) and "_indextime" in row for row in rows):
            raise TransportError(self.kind, f"{self.address}: {_NO_EVENT}")
        return [row for row in rows if not _outside(row, start, end)]

    def _export(self, form: Mapping[str, Any]) -> tuple[list[Row], bool]:
        """The rows of a search, and whether they are all."""
        reply = self.client.call("POST", _PATH, form={**form, "output_mode": "json", "preview": "false"})
        try:
            rows, messages, whole = logs.splunk_rows(reply)
        except MALFORMED as problem:
            message = f"{self.address} gave an answer of another shape ({type(problem).__name__})"
            raise TransportError(self.kind, message) from None
        failed = [text for kind, text in messages if kind in ("FATAL", "ERROR")]
        warned = [text for kind, text in messages if kind == "WARN"]
        if told := failed or [text for text in warned if _PARTIAL.search(text)]:
            raise TransportError(self.kind, f"{self.address}: {privacy.redact('; '.join(dict.fromkeys(told)))[:300]}")
        for text in dict.fromkeys(warned):
            logger.warning("splunk: %s", privacy.redact(text)[:300])
        return rows, whole

    def _events(self, rows: Sequence[Row], since: dt.datetime, until: dt.datetime) -> Iterator[Item | Rejected]:
        """The rows as items, oldest first."""
        found: list[Item] = []
        for number, row in enumerate(rows):
            try:
                item = self._event(row)
            except MALFORMED as problem:
                where = (
                    f"{self.origin} {row.get('_bkt', '')} {row.get('_cd', number)}" if isinstance(row, Mapping) else "?"
                )
                yield Rejected(where, f"was not understood ({problem})")
                continue
            if since <= item.updated_at < until:
                found.append(item)
        yield from sorted(found, key=lambda item: item.updated_at)

    def _event(self, row: Row) -> Item:
        names = self._named(row)
        payload = {
            "id": self._native_id(row),
            **{name: row[name] for name in ("_indextime", "_time", _AT) if name in row},
            **logs.kept(row, names),
        }
        where = " ".join(str(row.get(name, "?")) for name in ("index", "_bkt", "_cd"))
        return self.item(payload, where, payload["id"], _created(row), _indexed(row))

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn an event into a signal; the first line of its message is the title."""
        if "_indextime" not in payload:
            raise ValueError(_NO_EVENT)
        return self.signal(
            payload.get("id") or self._native_id(payload),
            self.type,
            created_at=_created(payload),
            updated_at=_indexed(payload),
            **logs.told(payload, self._named(payload)),
        )

    def _named(self, row: Row) -> Mapping[str, str]:
        """The names of the fields; an event without the mapped message is told by its raw text."""
        said = logs.first(row, self._names.get("message", ""))
        return self._names if said else {**self._names, "message": "_raw"}

    def _native_id(self, row: Row) -> str:
        """The mapped field's; else where the event lies: its bucket, which is the same on every copy, and offset."""
        if mapped := logs.first(row, self._names.get("native_id", "")):
            return privacy.redact_id(mapped)
        bucket = row.get("_bkt") or row.get("_si")
        if bucket and row.get("_cd"):
            bucket = "~".join(bucket) if isinstance(bucket, list) else "~".join(str(bucket).split())
            return privacy.redact_id(f"{bucket}/{row['_cd']}")
        parts = [str(row.get(name)) for name in ("_raw", "_indextime", "host", "source")]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def look(self) -> str:
        """How many events of the last day there are, up to a thousand."""
        search = f"{self._base} | head 1000 | stats count"
        span = {"index_earliest": "-24h", "index_latest": "now", "earliest_time": 0, "latest_time": _LATEST}
        rows, whole = self._export({"search": search, **span})
        if not whole:
            raise TransportError(self.kind, f"{self.address}: the answer broke off before its last row")
        count = int(rows[0]["count"]) if rows else 0
        return f"{self.origin}: {count:,}{' or more' if count == 1000 else ''} events indexed in the last day"

    def hint(self, problem: TransportError) -> str:
        """What Splunk says is wrong with a search, else what a status means."""
        if problem.status != 400:
            return super().hint(problem)
        return privacy.redact("; ".join(str(one["text"]) for one in json.loads(problem.body)["messages"]))[:300]


_NO_EVENT = "is no event: it has no _indextime; leave out commands such as stats, which make tables of events"


def _power(number: int) -> int:
    """The greatest power of two that is not more; 1 at least."""
    return 1 << max(0, number.bit_length() - 1)


def _at(seconds: int) -> dt.datetime:
    return moment(seconds * 1_000_000)


def _indexed(row: Row) -> dt.datetime:
    return instant(float(row["_indextime"]))


def _outside(row: Row, start: int, end: int) -> bool:
    """Whether it is of another window, or of none."""
    try:
        return not start <= float(row["_indextime"]) <= end  # its end belongs to the next, whichever way it is meant
    except MALFORMED:
        return isinstance(row, Mapping) and "_indextime" not in row


def _created(row: Row) -> dt.datetime:
    """The event's own time; when it was indexed, if it cannot be read."""
    for name in (_AT, "_time"):
        value = row.get(name)
        try:
            return instant(float(value))  # type: ignore[arg-type]
        except MALFORMED:
            try:
                return instant(value)
            except MALFORMED:
                continue
    return _indexed(row)
