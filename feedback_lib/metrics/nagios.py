"""Nagios Core: the state and performance data of its last checks. A query is ``host/service/label``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import Answer, Query, asked, basic, clean, frame, labels, perfdata, reading
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import Transport, secret

_PATH = "/statusjson.cgi"
# words with formatoptions=enumerate, otherwise bits; None is no data
_STATES: dict[str, dict[object, int | None]] = {
    "service": {"ok": 1, 2: 1, "warning": 1, 4: 1, "critical": 0, 16: 0, "unknown": None, 8: None}
    | {"pending": None, 1: None},
    "host": {"up": 1, 2: 1, "down": 0, 4: 0, "unreachable": None, 8: None, "pending": None, 1: None},
}
_EXAMPLE = "host/service/label, host/service, or {host: web-1, service: HTTP, label: time}"
_RIGHTS = "the user needs read access to the CGIs: cgi.cfg, authorized_for_read_only, or a contact of the service"


@register("metrics", "nagios")
@dataclasses.dataclass(frozen=True)
class Nagios:
    """What Nagios Core saw at its last checks, by its status CGI, read only. It has no history.

    A query is ``host/service/label`` for a value of the performance data in base units (seconds, bytes; percent
    stays), ``host/service`` for 1 while the state is OK or WARNING and 0 while it is CRITICAL, or ``host`` for 1 while
    it is up and 0 while it is DOWN. ``*`` for host or service asks for all of them. Names with a slash are written as
    ``{host: web-1, service: Disk /var, label: /var}``. UNKNOWN, UNREACHABLE, PENDING and a check that is too old are no
    data.

    Options:
        url: where its CGIs are, such as ``https://nagios.example.org/nagios/cgi-bin``.
        user: for basic authentication.
        password_env: variable with the password.
        stale_s: seconds after which a check is too old to speak of the present.
        timeout_s: seconds one answer may take.
        ca: file of certificates to trust instead of the system's.
    """

    url: str
    user: str = ""
    password_env: str = ""
    stale_s: int = 900
    timeout_s: float = 10
    ca: str = ""
    history: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if bool(self.user) != bool(self.password_env):
            raise ConfigError("metrics nagios: give user and password_env, or none of them")
        _ = self._transport  # a wrong address is said now, not at the first query

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """What the last check of each object saw, as the value at ``at``; one older than ``stale_s`` is no data."""
        host, service, label = _parts(query)
        what = "service" if service else "host"
        wild = "*" in (host, service)
        params: dict[str, str] = {"query": what + "list" if wild else what, "formatoptions": "enumerate"}
        params |= {"details": "true"} if wild else {}
        params |= {"hostname": host} if host != "*" else {}
        params |= {"servicedescription": service} if service not in ("", "*") else {}
        points: list[tuple[str, int, float | None]] = []
        silent, wrong = [], []
        with reading("nagios", self._transport.host, credentials=self._headers, rights=_RIGHTS):
            answer = self._transport.get(_PATH, params).json()
            refused = self._refused(answer["result"])
            for names, one in () if refused else _objects(answer["data"], what, wild):
                if host not in ("*", names["host"]) or service not in ("*", names.get("service", "")):
                    continue
                place = "/".join(names.values())
                age_s = micros(at) / 1e6 - one["last_check"] / 1000
                if not one["has_been_checked"] or abs(age_s) > self.stale_s:
                    last = f"last checked {_ago(age_s)}" if one["has_been_checked"] else "never checked"
                    silent.append(f"{place} was {last}")
                    continue
                measured = perfdata(one["perf_data"]) if label else {}
                if measured and label not in measured:
                    wrong.append(f"{place} has no performance data {label!r}; it has {', '.join(measured)}")
                    continue
                value = measured.get(label) if label else _STATES[what][one["status"]]
                silent += [f"{place} is {one['status']} without a value"] if value is None else []
                points.append((labels(names), micros(at), value))
        if refused or (wrong and not points):
            said = clean(refused or wrong[0], self._headers())
            raise MetricsError("nagios", f"{self._transport.host}: {said}")
        return Answer(frame(points), "; ".join(silent) or None, self._page(host, service))

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """Refused: Nagios keeps the last check only."""
        raise MetricsError("nagios", f"{self._transport.host} knows only its last checks; there is no history to read")

    @staticmethod
    def _refused(result: Mapping[str, Any]) -> str:
        return "" if result["type_code"] == 0 else f"{result['type_text']}: {result['message']}"

    def _page(self, host: str, service: str) -> str:
        named = {"type": "2", "host": host, "service": service} if service else {"type": "1", "host": host}
        if "*" in (host, service):
            return f"{self.url.rstrip('/')}/status.cgi?" + urllib.parse.urlencode({"host": "all"})
        return f"{self.url.rstrip('/')}/extinfo.cgi?" + urllib.parse.urlencode(named)

    def _headers(self) -> dict[str, str]:
        return basic(self.user, secret(self.password_env, "nagios")) if self.user else {}

    @functools.cached_property
    def _transport(self) -> Transport:
        return Transport("nagios", self.url, headers=self._headers, timeout_s=self.timeout_s, ca=self.ca or None)


def _objects(data: Mapping[str, Any], what: str, wild: bool) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    """The hosts or services of an answer with their names."""
    if what == "service":
        listed = (s for host in data["servicelist"].values() for s in host.values()) if wild else [data["service"]]
        for one in listed:
            yield {"host": one["host_name"], "service": one["description"]}, one
    else:
        for one in data["hostlist"].values() if wild else [data["host"]]:
            yield {"host": one["name"]}, one


def _parts(query: Query) -> tuple[str, str, str]:
    """Host, service ("" for the host itself) and label ("" for the state)."""
    if isinstance(query, str):
        parts = query.split("/")
        if len(parts) > 3:
            raise ConfigError(f"metrics nagios: {query!r} has more than two slashes; write {_EXAMPLE}")
        query = dict(zip(("host", "service", "label"), parts, strict=False))
    given = asked("nagios", query, ("host", "service", "label"), _EXAMPLE)
    host, service, label = (str(given.get(name) or "").strip() for name in ("host", "service", "label"))
    if not host:
        raise ConfigError(f"metrics nagios: a query names no host; write {_EXAMPLE}")
    return host, service, label


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds >= 0 else f"{-seconds:.0f} s after the moment asked about"
