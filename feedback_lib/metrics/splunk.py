"""Splunk: a search that ends in a table of times and numbers, read through the export call."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import polars as pl

from feedback_lib import logs
from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import Answer, Query, basic, clean, frame, labels, on_grid, reading
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import Transport, secret

_PATH = "/services/search/v2/jobs/export"
_RIGHTS = "the user behind the token needs the capability search and the index of the query"
_EXAMPLE = "index=web | timechart span=60s perc99(duration) AS p99"


@register("metrics", "splunk")
@dataclasses.dataclass(frozen=True)
class Splunk:
    """Measurements by a Splunk search, read only.

    A query is SPL that ends in a table with ``_time`` and one column of numbers, such as ``… | timechart span=60s
    perc99(duration) AS p99``; other columns name the series, and several columns of numbers are a series each. For the
    present value ``_time`` may be missing. Commands that write, and macros, which may hide one, are refused.

    Options:
        url: the management port, such as ``https://splunk.example.org:8089``.
        token_env: variable with a bearer token.
        user: for basic authentication instead of a token.
        password_env: variable with its password.
        lookback_s: the seconds before now that the present value is searched in.
        timeout_s: seconds one answer may take.
        ca: file of certificates to trust instead of the system's.
    """

    url: str
    token_env: str = ""
    user: str = ""
    password_env: str = ""
    lookback_s: int = 300
    timeout_s: float = 60
    ca: str = ""
    history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if bool(self.user) != bool(self.password_env) or (self.user and self.token_env):
            raise ConfigError("metrics splunk: give token_env, or user and password_env, or none of them")
        _ = self._transport  # a wrong address is said now, not at the first query

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The newest row of each series in the last ``lookback_s`` seconds, as the value at ``at``."""
        found, partial = self._ask(query, at - dt.timedelta(seconds=self.lookback_s), at, None)
        newest = found.unique("series", keep="last", maintain_order=True)
        return Answer(newest.with_columns(at=pl.lit(at).cast(pl.Datetime("us", "UTC"))), partial)

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """At each moment the row whose ``_time`` begins the ``step_s`` seconds before it, as timechart names them."""
        found, partial = self._ask(query, start - dt.timedelta(seconds=step_s), end, step_s)
        return Answer(on_grid(found, start, end, step_s, from_start=True), partial)

    def _ask(
        self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int | None
    ) -> tuple[pl.DataFrame, str | None]:
        """Rows by their own ``_time``; ``step_s`` is the span they must have."""
        form = {
            "search": _search(query),
            "earliest_time": f"{micros(start) / 1e6:.3f}",
            "latest_time": f"{micros(end) / 1e6:.3f}",
            "output_mode": "json",
            "preview": "false",
        }
        host = self._transport.host
        with reading("splunk", host, credentials=self._headers, rights=_RIGHTS):
            rows, messages, whole = logs.splunk_rows(self._transport.call("POST", _PATH, form=form))
            points = list(_points(rows, micros(end) if step_s is None else None))
            spans = {row["_span"] for row in rows if row.get("_span")} - {str(step_s)}
        failed = [text for kind, text in messages if kind in ("FATAL", "ERROR")]
        if failed or not whole:
            words = clean("; ".join(failed), self._headers()) if failed else "the answer broke off before its last row"
            raise MetricsError("splunk", f"{host}: {words}")
        if step_s is not None and spans:
            raise ConfigError(f"metrics splunk: the query answers in steps of {min(spans)} s; write span={step_s}s")
        warned = dict.fromkeys(text for kind, text in messages if kind == "WARN")
        return frame(points), clean("; ".join(warned), self._headers()) if warned else None

    def _headers(self) -> dict[str, str]:
        if self.token_env:
            return {"Authorization": f"Bearer {secret(self.token_env, 'splunk')}"}
        return basic(self.user, secret(self.password_env, "splunk")) if self.user else {}

    @functools.cached_property
    def _transport(self) -> Transport:
        return Transport(
            "splunk",
            self.url,
            headers=self._headers,
            searches=(_PATH,),
            timeout_s=self.timeout_s,
            ca=self.ca or None,
        )


def _points(rows: list[Mapping[str, Any]], at: int | None) -> Iterator[tuple[str, int, float | None]]:
    """Values of the columns of numbers; the columns of text name the series. ``at`` stands in for a missing _time."""
    names = dict.fromkeys(name for row in rows for name in row if not name.startswith("_"))
    numbers = [name for name in names if all(_is_number(row.get(name)) for row in rows)]
    texts = [name for name in names if name not in numbers]
    for row in rows:
        if "_time" not in row and at is None:
            raise ConfigError(f"metrics splunk: the query gives rows without _time; end it as in {_EXAMPLE}")
        moment = _us(row["_time"]) if "_time" in row else at
        named = {name: row[name] for name in texts if row.get(name) is not None}
        for name in numbers:
            series = labels({**named, **({"series": name} if len(numbers) > 1 else {})})
            yield series, moment or 0, float(row[name]) if row.get(name) not in (None, "") else None


def _is_number(cell: Any) -> bool:
    """A number as Splunk writes it, which is text; an empty cell may be one."""
    try:
        return cell in (None, "") or (not isinstance(cell, list) and float(cell) is not None)
    except (TypeError, ValueError):
        return False


def _us(time: Any) -> int:
    """Microseconds since 1970 of a ``_time``: ISO 8601 with an offset, or seconds."""
    try:
        return round(float(time) * 1_000_000)
    except ValueError:
        at = dt.datetime.fromisoformat(time)
    if at.tzinfo is None:
        raise ValueError("_time without an offset")
    return micros(at)


def _search(query: Query) -> str:
    """The SPL to send, after every command in it was found to only read."""
    if not isinstance(query, str) or not query.strip():
        raise ConfigError(f"metrics splunk: {query!r} is no query; write SPL such as {_EXAMPLE}")
    return logs.spl(query, "metrics")
