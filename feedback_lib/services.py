"""What sources of live services share: their options, one client, and walks that lose nothing.

A service is read oldest change first. After each page the next one is asked for from the last time seen, not by its
number, because items that change during a walk move between numbered pages. What that reads twice is known by its id.
"""

from __future__ import annotations

import abc
import base64
import concurrent.futures
import dataclasses
import datetime as dt
import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from feedback_lib import config
from feedback_lib.errors import ConfigError, SourceError, TransportError, nearest
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal, SignalType, real_time
from feedback_lib.transport import Transport, secret

logger = logging.getLogger(__name__)
Found = Item | Rejected | Checkpoint
Row = Mapping[str, Any]
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
_EXPIRED = (400, 404, 410, 422)  # what services answer to a cursor they no longer know
_GONE = (404, 410)
_STALE = 20  # pages in a row with nothing new
_EMPTY = 1000  # pages in a row with nothing at all: a window of time may hold nothing
_SEVERITY = re.compile(r"(?:severity|priority|prio)[\s:/_-]+(.+)", re.IGNORECASE)
T = TypeVar("T")
S = TypeVar("S")


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """What one request gave.

    ``next`` asks for what follows it (a page's number, a cursor); None when it is the last. ``resume`` is a cursor that
    the service honours in later runs too, so that it is kept.
    """

    rows: Sequence[Row]
    next: Any = None
    resume: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service(abc.ABC):
    """A source read over HTTP. A subclass says where, and which streams of rows there are.

    Options:
        url: where its paths start.
        name: what it is called instead of its address.
        token_env: environment variable, or entry of the system's keyring, that holds the token.
        start: the first day to read; everything when left out.
        timeout_s: seconds one answer may take.
        patience_s: seconds in all that limits of the service may make a run wait; 0 also tries again only once.
        ca: file of certificates to trust instead of the system's.
        proxy: address of a proxy instead of that of the environment.
    """

    url: str
    name: str = ""
    token_env: str = ""
    start: str = ""
    timeout_s: float = 30
    patience_s: float = 900
    ca: str = ""
    proxy: str = ""

    kind: ClassVar[str]  # set by plugins.register
    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=1)  # how late the service may show a change
    per_minute: ClassVar[float | None] = None  # requests it allows
    searches: ClassVar[tuple[str, ...]] = ()  # paths asked by POST
    hints: ClassVar[Mapping[Any, str]] = {}  # by status: what to do about a refusal

    def __post_init__(self) -> None:
        _ = self._first  # a wrong day or address is said now, not at the first request
        _ = self.client

    @property
    def origin(self) -> str:
        """Which instance of the kind this is: the option ``name``; else the host."""
        return self.name or self.client.host

    @property
    def address(self) -> str:
        """Where the service's paths start: the option ``url``."""
        return self.url

    def headers(self) -> Mapping[str, str]:
        """Sent with each request; called for each, so that the token is read when it is used."""
        return self.authorization()

    def authorization(self, scheme: str = "Bearer", user: str = "") -> dict[str, str]:
        """The header with the token, which is the password of a ``user``; none when ``token_env`` is empty."""
        if not self.token_env:
            return {}
        if user:
            scheme, token = "Basic", base64.b64encode(f"{user}:{self.token()}".encode()).decode()
        else:
            token = self.token()
        return {"Authorization": f"{scheme} {token}"}

    @abc.abstractmethod
    def streams(self, walk: Walk) -> Iterator[Found]:
        """Yield what the service has, stream by stream, through ``walk``."""

    @functools.cached_property
    def client(self) -> Transport:
        """The one client of this source; it only reads."""
        return Transport(
            self.kind,
            self.address,
            headers=self.headers,
            searches=self.searches,
            timeout_s=self.timeout_s,
            attempts=8 if self.patience_s else 2,
            ca=self.ca or None,
            proxy=self.proxy or None,
            patience_s=self.patience_s,
            per_minute=self.per_minute,
            notify=logger.warning,
        )

    def token(self) -> str:
        """The token, read now. Raises ConfigError when there is none."""
        return secret(self.token_env, self.kind)

    def wrong(self, option: str, words: str) -> ConfigError:
        """What to raise for an option's value, with words that say what to write."""
        return ConfigError(f"sources {self.kind}: {option} = {getattr(self, option)!r}; {words}")

    def one_of(self, option: str, known: Iterable[str]) -> None:
        """Raises ConfigError unless an option's value is one of those."""
        given, names = getattr(self, option), list(known)
        if given not in names:
            raise self.wrong(option, nearest(str(given), names))

    @functools.cached_property
    def _first(self) -> dt.datetime | None:
        try:
            first = config.parse_time(self.start) if self.start else None
        except ConfigError as problem:
            raise ConfigError(f"sources {self.kind}: start = {problem}") from None
        if first and first > dt.datetime.now(dt.UTC):
            raise ConfigError(f"sources {self.kind}: start = {self.start!r} is yet to come")
        return first

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Found]:
        """Yield what changed in ``[since, until)``, each stream oldest first, with a `Checkpoint` after each page.

        ``since`` None goes on at ``cursor``, moved back by what the service may show late; without a cursor it starts
        at the option ``start``, or at the beginning.

        Raises:
            SourceError: a request failed for good; it says what is missing.
        """
        walk = Walk(self, since or self._first, until, (not since and cursor) or {})
        try:
            yield from self.streams(walk)
        except TransportError as problem:
            raise SourceError(self.kind, self.origin, walk.told(self._words(problem))) from None
        except ConfigError as problem:  # no token: the other sources can still be read
            raise SourceError(self.kind, self.origin, self._words(problem)) from None

    def hint(self, problem: TransportError) -> str:
        """What to do about a refusal, or what its answer says of it; empty when nothing is known."""
        named = f"{self.token_env} holds them" if problem.status == 401 and self.token_env else ""
        return self.hints.get(problem.status, named)

    def _words(self, problem: Exception) -> str:
        words = str(problem).removeprefix(f"{self.kind}: ")
        try:
            hint = self.hint(problem) if isinstance(problem, TransportError) else ""
        except MALFORMED:  # an answer without words
            hint = ""
        return f"{words}; {hint}" if hint else words

    def check(self) -> str:
        """Make one cheap call and say what is there.

        Raises:
            SourceError: what is wrong, and what to do.
        """
        try:
            return dataclasses.replace(self, patience_s=0).look()  # what is wrong is to be said soon
        except (TransportError, ConfigError) as problem:
            raise SourceError(self.kind, self.origin, self._words(problem)) from None
        except MALFORMED as problem:
            message = f"{self.address} gave an answer of another shape ({type(problem).__name__}); is it this service?"
            raise SourceError(self.kind, self.origin, message) from None

    @abc.abstractmethod
    def look(self) -> str:
        """The call of `check`, and its answer in a line."""

    def each(self, ask: Callable[[T], S], rows: Iterable[T]) -> list[S]:
        """What ``ask`` gives for each row, several requests at a time, in the order of the rows."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            try:
                return list(pool.map(ask, rows))
            except KeyboardInterrupt:
                self.client.close()  # wakes what waits for a limit
                raise

    def detailed(self, rows: Iterable[Row], lacks: Callable[[Row], Any], add: Callable[[Row], Row]) -> list[Row]:
        """The rows, those that lack something as ``add`` completes them by further requests."""

        def one(row: Row) -> Row:
            try:
                if not lacks(row):
                    return row
            except MALFORMED:
                return row  # told of where it is read
            try:
                return add(row)
            except TransportError as problem:
                if problem.status not in _GONE:
                    raise
                return row  # it has just been deleted

        return self.each(one, rows)

    def item(
        self, payload: Row, where: str, native_id: Any, created_at: Any, updated_at: Any, parent: Any = None
    ) -> Item:
        """An item with times as the service writes them; of a reply, ``native_id`` is its own id alone."""
        key = _key(native_id) if parent is None else _key(parent, native_id)
        above = None if parent is None else _key(parent)
        return Item(payload, where, key, instant(created_at), instant(updated_at), above)

    def each_alone(
        self, read: Callable[[Row], Iterable[Item]], rows: Iterable[Row], where: str
    ) -> Iterator[Item | Rejected]:
        """What ``read`` makes of each row that stands in another; one that is not understood is rejected alone."""
        for row in rows:
            try:
                yield from read(row)
            except MALFORMED as problem:
                yield Rejected(f"{where}#{_known(row)}", f"was not understood ({_told(problem)})")

    def signal(
        self,
        native_id: Any,
        type: SignalType,
        *,
        title: str | None,
        body: str | None,
        created_at: Any,
        updated_at: Any,
        first_response_at: Any = None,
        closed_at: Any = None,
        **more: Any,
    ) -> Signal:
        """A signal of this source, with times as the service writes them; ``more`` are further fields of `Signal`."""
        return Signal(
            kind=self.kind,
            origin=self.origin,
            native_id=_key(native_id),
            type=type,
            title=title or "",
            body=body or "",
            created_at=instant(created_at),
            updated_at=instant(updated_at),
            first_response_at=instant(first_response_at) if first_response_at else None,
            closed_at=instant(closed_at) if closed_at else None,
            **more,
        )

    def reply_to(
        self,
        parent: Any,
        native_id: Any,
        *,
        body: str | None,
        created_at: Any,
        updated_at: Any,
        author: str | None,
        team: bool | None,
    ) -> Reply:
        """A reply to a signal of this source, as `item` names it, with times as the service writes them."""
        return Reply(
            kind=self.kind,
            origin=self.origin,
            native_id=_key(parent, native_id),
            parent=_key(parent),
            body=body or "",
            created_at=instant(created_at),
            updated_at=instant(updated_at),
            author=author or None,
            team=team,
        )


class Walk:
    """One reading of a service: where each stream starts, where it stands, and what was seen."""

    def __init__(
        self, service: Service, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any]
    ) -> None:
        self.service, self.since, self.until = service, since, until
        self.cursor: dict[str, Any] = {s: m for s, m in cursor.items() if _is_mark(m)}  # by stream, JSON-like
        self.newest: dt.datetime | None = None  # of all streams
        self.stream = ""
        marks = [instant(mark["at"]) for mark in self.cursor.values() if mark.get("at")]
        if marks:
            self.newest = max(marks)

    def begin(self, stream: str) -> dt.datetime | None:
        """Where to start reading a stream: the lag before its mark, or ``since``; None for its beginning."""
        self.stream = stream
        mark = self.mark(stream).get("at")
        return instant(mark) - self.service.lag if mark else self.since

    def mark(self, stream: str) -> Mapping[str, Any]:
        """What was kept of a stream by its last checkpoint."""
        return self.cursor.get(stream) or {}

    def checkpoint(self, stream: str, at: dt.datetime | None, **more: Any) -> Checkpoint:
        """Keep that a stream was read up to ``at``, and what else its next reading needs."""
        mark = dict(self.mark(stream))
        if at is not None:
            before = mark.get("at")
            mark["at"] = max(at, instant(before)).isoformat() if before else at.isoformat()
            self.newest = max(at, self.newest) if self.newest else at
        self.cursor = {**self.cursor, stream: {**mark, **more}}
        return Checkpoint(self.cursor, self.newest)

    def told(self, problem: str) -> str:
        """A problem with what is missing because of it."""
        mark = self.mark(self.stream).get("at")
        missing = f"its {self.stream} from {mark[:16].replace('T', ' ')} UTC on" if mark else f"its {self.stream}"
        stop = "" if problem.endswith((".", "?", "!")) else "."
        return f"{problem}{stop} Not read: {missing}, and what is read after them; the next run goes on there"

    def pages(
        self,
        stream: str,
        ask: Callable[[dt.datetime | None, Any], Page],
        read: Callable[[Row], Iterable[Item | Rejected]],
        *,
        at: Callable[[Row], Any],
        key: Callable[[Row], Any] = lambda row: row["id"],
        anchored: bool = True,
    ) -> Iterator[Found]:
        """Yield a stream page by page, each followed by a checkpoint.

        A service that does not keep to the order or to the time asked for is walked by ``Page.next`` alone, twice where
        it is by numbers, and its mark moves at the end.

        Args:
            stream: its name, in the cursor and in messages.
            ask: (from when on, inclusive; ``Page.next`` of the page before or None) to a page, oldest change first.
            read: a row to what it holds: nothing, an item, an item and its replies.
            at: the service's own ordering field of a row, as `instant` reads it.
            key: what tells rows apart.
            anchored: ask for the next page from the last time seen on; ``Page.next`` is followed only where more rows
                than a page share one time. Without, ``Page.next`` alone leads on.

        Raises:
            TransportError: a request failed for good.
        """
        lower = anchor = newest = self.begin(stream)
        following = self.mark(stream).get("next")
        seen: set[tuple[dt.datetime, Any]] = set()  # of the times we stand at: the next page begins with them
        followed: set[str] = set()
        previous: set[tuple[dt.datetime, Any]] = set()  # of the page before
        told: set[tuple[dt.datetime, Any]] = set()  # found by this pass over the pages of one time
        before: set[tuple[dt.datetime, Any]] | None = None  # and by the pass before
        again, orderly, left = False, True, False
        expired = stale = 0
        while True:
            try:
                page = self._page(ask, anchor if anchored else newest if orderly else lower, following)
            except TransportError as problem:
                if following is None or problem.status not in _EXPIRED or expired > 2:
                    raise
                following, expired = None, expired + 1  # a cursor is no more; what it stood for is asked for by time
                followed.clear()
                continue
            timed, odd = self._timed(page.rows, at, key)
            rows = [one for one in timed if one[0] < self.until]
            over = len(rows) < len(timed)
            keys = {(when, which) for when, which, _ in rows}
            if following is not None:
                strange = bool(seen) and keys <= (previous if before else seen)
            else:
                strange = bool(seen and anchored and seen.isdisjoint(keys)) or (not page.rows and page.next is not None)
                strange = strange or bool(before and keys and keys <= previous)
            straight = self._orderly([when for when, _, _ in timed], anchor if anchored else None)
            if (strange or (orderly and not straight)) and not again:
                again = True  # what we had is not there: it has just changed, or a page was left out or sent twice
                continue
            again, previous = False, keys
            yield from odd
            for when, which, row in rows:
                if (lower is None or when >= lower) and (when, which) not in seen:
                    yield from self._read(read, row)
            newest = max([*(when for when, _, _ in rows), *([newest] if newest else [])], default=None)
            orderly = orderly and straight
            stale = 0 if keys - seen or before else stale + 1
            if stale > (_STALE if page.rows else _EMPTY):
                raise TransportError(self.service.kind, f"{self.service.address} sends the same rows again and again")
            seen = (seen if anchored else {one for one in seen if newest and one[0] >= newest}) | keys
            left = left or over
            kept = {"next": page.resume} if page.resume and not left else {}  # beyond it are rows left for the next run
            moved = orderly and bool(rows) and (anchor is None or rows[-1][0] > anchor)
            ended = page.next is None or (over and orderly)
            yield self.checkpoint(stream, newest if orderly or ended else None, **kept)
            told = keys | (told if following is not None else set())
            differs = told != before if orderly else before is None
            if anchored and following is not None and (moved or ended) and differs:
                # rows of one time were walked by number; if one of them changed meanwhile, the others moved up: their
                # pages are read again until two passes found the same
                following, before = None, told
                followed.clear()
            elif ended:
                return
            elif anchored and moved:
                anchor, following, before = rows[-1][0], None, None
                seen = {(when, which) for when, which in seen if when >= rows[-1][0]}
                followed.clear()
            else:
                following = page.next
                if repr(following) in followed:
                    raise TransportError(self.service.kind, f"{self.service.address} sent the same page twice")
                followed.add(repr(following))

    def _page(self, ask: Callable[[dt.datetime | None, Any], Page], start: dt.datetime | None, following: Any) -> Page:
        try:
            return ask(start, following)
        except MALFORMED as problem:
            words = f"{self.service.address} gave a page of another shape ({type(problem).__name__})"
            raise TransportError(self.service.kind, words) from None

    def _timed(
        self, rows: Sequence[Row], at: Callable[[Row], Any], key: Callable[[Row], Any]
    ) -> tuple[list[tuple[dt.datetime, Any, Row]], list[Rejected]]:
        """The rows with times and keys, and those without."""
        timed, odd = [], []
        for row in rows:
            try:
                when, which = instant(at(row)), key(row)
                hash(which)  # a list in its place would break the walk
            except MALFORMED as problem:
                odd.append(Rejected(self._where(row), f"has no id or time that can be read ({_told(problem)})"))
                continue
            timed.append((when, which, row))
        return timed, odd

    def _orderly(self, times: Sequence[dt.datetime], start: dt.datetime | None) -> bool:
        """Whether a page has its rows in the order of time, from where it was asked for on."""
        seconds = [when.replace(microsecond=0) for when in times]  # some order by these
        early = bool(times and start and times[0] < start - self.service.lag)  # and some look up whole minutes
        return not early and seconds == sorted(seconds)

    def _read(self, read: Callable[[Row], Iterable[Item | Rejected]], row: Row) -> Iterable[Item | Rejected]:
        try:
            found = list(read(row))
            for one in (one for one in found if isinstance(one, Item)):
                if not all(isinstance(text, str) for text in (one.where, one.native_id, one.parent or "")):
                    raise ValueError("has an id or an address that is no text")
            return found
        except MALFORMED as problem:
            return [Rejected(self._where(row), f"was not understood ({_told(problem)})")]

    def _where(self, row: Any) -> str:
        return f"{self.service.origin} {self.stream} {_known(row)}"


def _known(row: Any) -> str:
    names = ("id", "key", "ts")
    return next((str(row[name]) for name in names if row.get(name)), "?") if isinstance(row, Mapping) else "?"


def _key(*ids: Any) -> str:
    """An id as text, that of a reply after its parent's. Raises ValueError when it is neither text nor number."""
    if not all(isinstance(one, str | int) for one in ids):
        raise ValueError("has an id that is no text")
    return "#".join(map(str, ids))


def _is_mark(mark: Any) -> bool:
    """Whether a stream can go on there; one that was damaged, or is of another version, begins anew."""
    try:
        return isinstance(mark, Mapping) and (not mark.get("at") or bool(instant(str(mark["at"]))))
    except ValueError:
        return False


def _told(problem: Exception) -> str:
    return str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"


def inside(row: Any, *names: str) -> Any:
    """What stands at these names, each in the one before; None where one is missing or empty.

    Raises:
        ValueError: one stands in something else than an object.

    >>> inside({"user": {"login": "lee"}}, "user", "login"), inside({"user": None}, "user", "login")
    ('lee', None)
    """
    for name in names:
        if row and not isinstance(row, Mapping):
            raise ValueError(f"has another shape: {name!r} in a {type(row).__name__}")
        row = (row or {}).get(name)
    return row


def picked(row: Row, fields: Iterable[str]) -> dict[str, Any]:
    """Those fields of a row that it has."""
    return {name: row[name] for name in fields if name in row}


def names(labels: Iterable[Any] | None) -> tuple[str, ...]:
    """The names of labels, components and the like, which services give as text or as objects.

    >>> names(["slow", {"id": 7, "name": "login"}, None])
    ('slow', 'login')
    """
    found = (one.get("name") if isinstance(one, Mapping) else one for one in labels or ())
    return tuple(name for name in found if name)


def severity(labels: Iterable[str]) -> str | None:
    """What a label such as ``priority: high`` or ``severity::2`` says.

    >>> severity(["login", "priority: high"])
    'high'
    """
    return next((found[1] for label in labels if (found := _SEVERITY.fullmatch(label))), None)


def instant(value: Any) -> dt.datetime:
    """A time as services write it, aware, in UTC: ISO 8601 (without a zone it is UTC), or seconds since 1970.

    One that is a datetime already is given back in UTC.

    Raises:
        ValueError: it is none, or outside the years 1970 to 2199.

    >>> instant("2026-11-16T07:00:00.000+0100").isoformat(), instant(1763280000).isoformat()
    ('2026-11-16T06:00:00+00:00', '2025-11-16T08:00:00+00:00')
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return real_time(dt.datetime.fromtimestamp(value, dt.UTC))
        except (OverflowError, OSError):
            raise ValueError(f"is no time: {value}") from None
    if not isinstance(value, str | dt.datetime):
        raise ValueError(f"is no time: {type(value).__name__}")
    at = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
    try:
        return real_time(at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC))
    except OverflowError:
        raise ValueError(f"is no time: {value}") from None
