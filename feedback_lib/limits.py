"""When a service says "later": which answers say so, for how long, and whose turn it is to ask.

All of it is read from status, headers and body, so no service needs an option or a case of its own.

Waits go through `wait_until`. Under ``stamina.set_testing`` it moves this module's clock instead of sleeping, so that a
test sees hours pass in no time, and what was waited can be read from `now`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import email.utils
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import orjson
import stamina

_RESET = re.compile(r"(?:x-)?rate-?limit-(?:.+-)?reset(?:-after)?")
_WORDS = re.compile(rb"rate limit|abuse detection", re.IGNORECASE)
_BUSY = frozenset((500, 502, 503, 504))
_ON_THE_WAY_S = 0.5  # the last request may have been longer on its way than the next one will be
_LONG_S = 5  # a wait for the budget that is told

_lock = threading.Lock()
_skipped = 0.0  # seconds that tests did not wait


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A refusal that passes by waiting: ``told_s`` seconds, or ``least_s`` and growing when it does not say."""

    told_s: float | None
    least_s: float = 1

    def wait_s(self, nth: int) -> float:
        """Seconds to wait after the ``nth`` refusal in a row, counted from 1.

        A service that keeps refusing waits longer each time, whatever it says: up to a minute where it says 0, up to 16
        times ``least_s`` or a minute where it says nothing.
        """
        if self.told_s is not None:
            return max(self.told_s, min(60.0, 2.0 ** (nth - 2)) if nth > 1 else 0.0)
        return min(self.least_s * 2.0 ** (nth - 1), max(60, 16 * self.least_s))


def limit(status: int, headers: Mapping[str, str], body: bytes) -> Limit | None:
    """What an answer asks for, if it is a limit and no failure.

    A limit is 429 and 529; 403 with ``Retry-After``, with nothing remaining, or whose body names a rate limit (GitHub);
    200 and 400 with an error of the code RATELIMITED (Linear); and 500, 502, 503 or 504 with a ``Retry-After`` that can
    be read.
    """
    headers = {name.lower(): text for name, text in headers.items()}
    now = _their_now(headers)
    told = _seconds(headers.get("retry-after", ""), now)
    if status in _BUSY:
        return None if told is None else Limit(told)
    if told is None:
        told = max((wait for wait, remaining in _resets(headers, now) if remaining in (None, 0)), default=None)
    if status == 429:
        return Limit(told, 60 if b"secondary rate limit" in body.lower() else 1)
    if status == 529 or (status in (200, 400) and _rate_limited(body)):
        return Limit(told)
    if status == 403 and ("retry-after" in headers or _spent(headers, now) is not None or _WORDS.search(body)):
        return Limit(told, 60)
    return None


def spent(headers: Mapping[str, str]) -> float | None:
    """Seconds until the service answers again, when an answer says that it was the last one of its budget."""
    headers = {name.lower(): text for name, text in headers.items()}
    return _spent(headers, _their_now(headers))


def _spent(headers: Mapping[str, str], now: float) -> float | None:
    return max((wait for wait, remaining in _resets(headers, now) if remaining == 0), default=None)


def _resets(headers: Mapping[str, str], now: float) -> list[tuple[float, int | None]]:
    """Of each budget the headers name: seconds until it starts anew, and the requests remaining, if told."""
    found = []
    for name, text in headers.items():
        if _RESET.fullmatch(name) and (wait := _seconds(text, now)) is not None:
            stem = name.removesuffix("-after").removesuffix("reset")
            remaining, whole = (headers.get(stem + word, "") for word in ("remaining", "limit"))
            # a budget of 0 is one that is not in force
            found.append((wait, int(remaining) if re.fullmatch(r"[0-9]{1,18}", remaining) and whole != "0" else None))
    return found


def _rate_limited(body: bytes) -> bool:
    try:
        errors = orjson.loads(body)["errors"]
        return any(error["extensions"]["code"] == "RATELIMITED" for error in errors)
    except (ValueError, LookupError, TypeError):
        return False


def _their_now(headers: Mapping[str, str]) -> float:
    """The service's own clock where it tells, epoch seconds: its moments are meant by it."""
    at = _http_date(headers.get("date", ""))
    return time.time() if at is None else at


def _seconds(text: str, now: float) -> float | None:
    """Seconds from ``now``: told as such, in epoch seconds or milliseconds, as an HTTP date or in ISO 8601."""
    try:
        seconds = float(text)
    except ValueError:
        at = _http_date(text) or _iso_date(text)
        return None if at is None else max(0.0, at - now)
    if seconds > 1e11:
        seconds /= 1000
    if seconds > 1e9:  # a moment, not a duration
        seconds -= now
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(text: str) -> float | None:
    try:
        return _epoch(email.utils.parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _iso_date(text: str) -> float | None:
    try:
        return _epoch(dt.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _epoch(at: dt.datetime) -> float:
    return at.replace(tzinfo=at.tzinfo or dt.UTC).timestamp()


class Host:
    """What all clients of one host share in this process: the requests under way, and when the last ones were sent."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._sent: dict[float, collections.deque[float]] = {}

    @contextlib.contextmanager
    def turn(
        self, concurrent: int, per_minute: float | None, stop: threading.Event, tell: Callable[[float], None]
    ) -> Iterator[None]:
        """One request: begins when fewer than ``concurrent`` are under way and its budget has one left.

        A budget is shared by the clients that name the same ``per_minute``: a service has other limits for other paths.
        A long wait for it is told, in seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < concurrent)
            self._under_way += 1
        try:
            if per_minute is not None:
                moment = self._next(per_minute)
                if moment > now() + _LONG_S:
                    tell(moment - now())
                wait_until(moment, stop)
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _next(self, per_minute: float) -> float:
        """The moment the next request may be sent, taken: never more of them in any minute (or longer, below 1)."""
        many = max(1, int(per_minute))
        with self._changed:
            sent = self._sent.setdefault(per_minute, collections.deque(maxlen=many))
            at = now()
            if len(sent) == many:
                at = max(at, sent[0] + 60 * many / per_minute + _ON_THE_WAY_S)
            sent.append(at)
        return at


_hosts: dict[tuple[str, str, int | None], Host] = {}


class Line:
    """One client's place in the line for its host: whose turn it is, and what it waited for limits.

    Args:
        origin: scheme, name and port of the host.
        concurrent: requests at a time, see `Host.turn`.
        per_minute: requests in a minute, see `Host.turn`.
        patience_s: seconds that may be waited for limits in all; threads that wait side by side wait once.
    """

    def __init__(
        self, origin: tuple[str, str, int | None], concurrent: int, per_minute: float | None, patience_s: float
    ) -> None:
        with _lock:
            self._host = _hosts.setdefault(origin, Host())
        self._concurrent, self._per_minute, self._patience_s = concurrent, per_minute, patience_s
        self.patient = patience_s > 0
        self.closed = threading.Event()  # ends every wait
        self._changes = threading.Lock()
        self._later = self._paid = -math.inf  # not to ask before; waited for until

    def turn(self, tell: Callable[[float], None]) -> contextlib.AbstractContextManager[None]:
        """See `Host.turn`."""
        return self._host.turn(self._concurrent, self._per_minute, self.closed, tell)

    def refuse(self, wait_s: float) -> None:
        """Nothing is to be asked for so long."""
        with self._changes:
            self._later = max(self._later, now() + wait_s)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Let the next call wait when this answer was the last one of a budget, unless patience is too short for it."""
        wait = spent(headers) if self.patient else None
        if wait is not None:
            with self._changes:
                until = now() + wait
                if self._cost(until) <= self._patience_s:
                    self._later = max(self._later, until)

    def hold(self, tell: Callable[[float], None]) -> float:
        """Wait while nothing is to be asked; ``tell`` is called first, with the seconds, by one of those that wait.

        Returns: 0, or the seconds it would take when patience is too short; then it did not wait.
        """
        with self._changes:
            until, left = self._later, self._later - now()
            if left <= 0:
                return 0
            cost = self._cost(until)
            if cost > self._patience_s:
                return left
            self._patience_s -= cost
            self._paid = max(self._paid, until)
        if cost > 0:
            tell(left)
        wait_until(until + random.uniform(0, 1), self.closed)  # not all of them at once, nor a rounded second early
        return 0

    def _cost(self, until: float) -> float:
        return max(0.0, until - max(now(), self._paid))


def now() -> float:
    """Seconds on a clock that only goes forward."""
    return time.monotonic() + _skipped


def wait_until(moment: float, stop: threading.Event) -> None:
    """Wait for a moment of `now`, or until ``stop`` is set."""
    global _skipped
    if stamina.is_testing():
        with _lock:
            _skipped = max(_skipped, moment - time.monotonic())
        return
    while (left := moment - now()) > 0 and not stop.wait(left):
        pass


def span(seconds: float) -> str:
    """A duration in words.

    >>> span(42.2), span(2800), span(9000)
    ('43 s', '47 min', '2.5 h')
    """
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{math.ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
