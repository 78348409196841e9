"""A health check by HTTP: whether an address answers as it should, and how long it takes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import http
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, MetricsError, TransportError
from feedback_lib.metrics import Answer, Query, asked, frame, positive
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import Transport, secret

_EXAMPLE = "https://api.example.org/healthz, or {url: …, status: 200, contains: ready, value: up}"
_KEYS = ("url", "method", "status", "contains", "value", "timeout_s")


@register("metrics", "http_check")
@dataclasses.dataclass(frozen=True)
class HttpCheck:
    """A health check by GET or HEAD. It has no history.

    A query is an address, or ``{url: …}`` with what is expected of it: ``status`` (200, or a list), ``contains`` (a
    text in the body), ``method`` (GET or HEAD), ``timeout_s``, and the ``value`` wanted: ``up`` (1 or 0) or ``seconds``
    until the whole answer was there. No connection, no answer in time and another status are 0: that is what it
    measures. The seconds of a failed check are no data. A redirect is not followed: expect its status, or name the
    address it points to.

    Options:
        url: what addresses that begin with ``/`` start with.
        token_env: variable with a bearer token for this ``url``; it is sent to no other host.
        timeout_s: seconds an answer may take.
        ca: file of certificates to trust instead of the system's.
    """

    url: str = ""
    token_env: str = ""
    timeout_s: float = 10
    ca: str = ""
    history: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.token_env and not self.url:
            raise ConfigError("metrics http_check: token_env needs url, the only host the token is sent to")

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """Asks once, now; ``at`` is only written beside the value."""
        wanted = _parts(query, self.timeout_s)
        address = self.url.rstrip("/") + wanted["url"] if wanted["url"].startswith("/") else wanted["url"]
        url = urllib.parse.urlsplit(address)
        transport = self._transport(f"{url.scheme}://{url.netloc}", wanted["timeout_s"])
        params = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        began = time.perf_counter()
        try:
            reply = transport.call(wanted["method"], url.path or "/", params=params or None)
            status, body = reply.status, reply.content
        except TransportError as error:
            status, body = error.status or 0, error.body
            problem = str(error).removeprefix("http_check: ")
        else:
            problem = f"{url.netloc} {url.path} answered {status}"
        seconds = time.perf_counter() - began
        text = wanted.get("contains")
        up = status in wanted["status"] and (text is None or str(text).encode() in body)
        value = (seconds if up else None) if wanted["value"] == "seconds" else float(up)
        why = None
        if value is None:
            why = f"no time to measure: {problem}" + (f" without {text!r}" if status in wanted["status"] else "")
        return Answer(frame([("", micros(at), value)]), why, address.partition("?")[0])

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """Refused: a check knows only the present."""
        raise MetricsError(
            "http_check", f"{_parts(query, self.timeout_s)['url'].partition('?')[0]}: a check knows only the present"
        )

    def _headers(self, origin: str) -> Mapping[str, str]:
        own = urllib.parse.urlsplit(self.url)
        if self.token_env and origin == f"{own.scheme}://{own.netloc}":
            return {"Authorization": f"Bearer {secret(self.token_env, 'http_check')}"}
        return {}

    @functools.cached_property
    def _transports(self) -> dict[tuple[str, float], Transport]:
        return {}

    def _transport(self, origin: str, timeout_s: float) -> Transport:
        key = (origin, timeout_s)
        if key not in self._transports:
            self._transports[key] = Transport(
                "http_check",
                origin,
                headers=lambda: self._headers(origin),
                timeout_s=timeout_s,
                attempts=1,  # a second try would hide what is measured
                ca=self.ca or None,
            )
        return self._transports[key]


def _parts(query: Query, timeout_s: float) -> dict[str, Any]:
    """A query with its defaults filled in."""
    given = dict(asked("http_check", {"url": query} if isinstance(query, str) else query, _KEYS, _EXAMPLE))
    url = given.get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://", "/")):
        raise ConfigError(f"metrics http_check: url = {url!r}; write {_EXAMPLE}")
    method = str(given.get("method", "GET")).upper()
    if method not in ("GET", "HEAD"):
        raise ConfigError(f"metrics http_check: method = {method!r}; only GET and HEAD are sent")
    status = given.get("status", 200)
    statuses = status if isinstance(status, list | tuple) else [status]
    if not all(isinstance(one, int) and one in {s.value for s in http.HTTPStatus} for one in statuses):
        raise ConfigError(f"metrics http_check: status = {status!r}; write a number such as 200, or a list of them")
    value = given.get("value", "up")
    if value not in ("up", "seconds"):
        raise ConfigError(f"metrics http_check: value = {value!r}; write up or seconds")
    limit = positive("http_check", "timeout_s", given.get("timeout_s", timeout_s))
    return {**given, "method": method, "status": statuses, "value": value, "timeout_s": limit}
