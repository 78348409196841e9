"""Grafana: any of its data sources, through the query API. A query is PromQL or the data source's own query model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import math
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import polars as pl

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import Answer, Query, clean, frame, labels, on_grid, reading
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import Transport, secret

_PATH = "/api/ds/query"
_POINTS = 10_000  # asked for at once; the Prometheus data source refuses more than 11,000
_INFINITIES = {"Inf": math.inf, "NegInf": -math.inf}
_WRITES = re.compile(
    r"\b(insert\s+into|replace\s+into|merge\s+into|delete\s+from|update\s+\S+\s+set|truncate|drop|alter|create|grant|revoke"
    r"|copy|call|exec|execute|do|lock|attach|vacuum|select\b[^;]*\binto)\s|\|>\s*(?:\w+\s*\.\s*)?(?:to|wideTo)\s*\(",
    re.IGNORECASE,
)
_LANGUAGES = (
    "rawsql",
    "rawquery",
    "sql",
    "query",
    "querytext",
    "statement",
)  # keys of a model whose text is a language
_RIGHTS = "the service account behind token_env needs the permission to query this data source"


@register("metrics", "grafana")
@dataclasses.dataclass(frozen=True)
class Grafana:
    """Measurements through a data source of Grafana, read only.

    A query is PromQL for a Prometheus data source, or a mapping that is sent as the data source's own query model, as
    the query inspector of a panel shows it.

    Options:
        url: where Grafana runs, such as ``https://grafana.example.org``.
        datasource: uid of the data source, the last part of the address of its settings page.
        token_env: variable with a token of a service account.
        lookback_s: how many seconds before now a point may stand to be the present value.
        timeout_s: seconds one answer may take.
        ca: file of certificates to trust instead of the system's.
    """

    url: str
    datasource: str
    token_env: str = ""
    lookback_s: int = 300
    timeout_s: float = 30
    ca: str = ""
    history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _ = self._transport  # a wrong address is said now, not at the first query

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The newest point of each series in the last ``lookback_s`` seconds, as the value at ``at``."""
        found, partial = self._ask(query, at - dt.timedelta(seconds=self.lookback_s), at, step_s=60, instant=True)
        inside = found.filter(pl.col("at").is_between(at - dt.timedelta(seconds=self.lookback_s), at))
        newest = inside.unique("series", keep="last", maintain_order=True)
        moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
        return Answer(newest.with_columns(at=moment), partial, self._page(query, at, at))

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """At each moment the newest point in (moment - step, moment]; asked for in pieces of 10,000 moments."""
        frames, partials = [], []
        first, piece = start, dt.timedelta(seconds=step_s * _POINTS)
        while first <= end:
            last = min(end, first + piece - dt.timedelta(seconds=step_s))
            found, partial = self._ask(query, first, last, step_s=step_s, instant=False)
            frames.append(on_grid(found, first, last, step_s))
            partials += [partial] if partial and partial not in partials else []
            first += piece
        whole = pl.concat(frames or [frame([])]).sort("series", "at")
        return Answer(whole, "; ".join(partials) or None, self._page(query, start, end))

    def _ask(
        self, query: Query, start: dt.datetime, end: dt.datetime, *, step_s: int, instant: bool
    ) -> tuple[pl.DataFrame, str | None]:
        count = (end - start) // dt.timedelta(seconds=step_s) + 1
        own = {"refId": "A", "intervalMs": step_s * 1000, "maxDataPoints": count, **self._model(query, instant)}
        asked = {"queries": [own], "from": str(micros(start) // 1000), "to": str(micros(end) // 1000)}
        host = self._transport.host
        with reading("grafana", host, credentials=self._headers, rights=_RIGHTS):
            reply = self._transport.call("POST", _PATH, body=asked).json()
            result = reply["results"][own["refId"]]
            found, notices = parse(result)
            error = result.get("error") or (f"status {result['status']}" if result.get("status", 200) >= 400 else None)
        if error and found.is_empty():
            raise MetricsError("grafana", f"{host}: the data source failed: {clean(str(error), self._headers())}")
        said = [clean(text, self._headers()) for text in ([str(error)] if error else []) + notices]
        return found, "; ".join(said) or None

    def _model(self, query: Query, instant: bool) -> dict[str, Any]:
        if isinstance(query, str) and query.strip():
            made = {"expr": query.strip(), "instant": instant, "range": not instant, "format": "time_series"}
        elif isinstance(query, Mapping) and any(query.values()):
            _read_only(query)
            made = {str(name): value for name, value in query.items()}
        else:
            raise ConfigError(
                f"metrics grafana: {query!r} is no query; write PromQL, or the data source's own query model such as "
                "{rawSql: SELECT …, format: time_series}"
            )
        return {"datasource": {"uid": self.datasource}, **made}

    def _page(self, query: Query, start: dt.datetime, end: dt.datetime) -> str:
        times = {"from": str(micros(start) // 1000), "to": str(micros(end) // 1000)}
        shown = {"datasource": self.datasource, "queries": [{"refId": "A", **self._model(query, False)}]}
        panes = json.dumps({"a": {**shown, "range": times}}, separators=(",", ":"))
        asked = urllib.parse.urlencode({"schemaVersion": "1", "panes": panes})
        return f"{self.url.rstrip('/')}/explore?{asked}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {secret(self.token_env, 'grafana')}"} if self.token_env else {}

    @functools.cached_property
    def _transport(self) -> Transport:
        return Transport(
            "grafana",
            self.url,
            headers=self._headers,
            searches=(_PATH,),
            timeout_s=self.timeout_s,
            ca=self.ca or None,
        )


def parse(result: Mapping[str, Any]) -> tuple[pl.DataFrame, list[str]]:
    """The points of one query's result at their own moments, and the warnings of its frames.

    Frames may be wide (a column per series, labels at the column), many of one series each, or long (labels are
    columns of text). NaN is no point; infinities stand in ``entities`` beside a null.
    """
    points: list[tuple[str, int, float | None]] = []
    notices: list[str] = []
    for one in result.get("frames") or ():
        schema = one["schema"]
        said = (schema.get("meta") or {}).get("notices") or ()
        notices += [str(notice["text"]) for notice in said if notice.get("severity") in ("warning", "error")]
        points += _points(schema["fields"], one["data"]["values"], one["data"].get("entities") or [])
    return frame(points), notices


def _points(
    fields: list[Mapping[str, Any]], columns: list[list[Any]], entities: list[Any]
) -> Iterator[tuple[str, int, float | None]]:
    numbers = [place for place, field in enumerate(fields) if field["type"] == "number"]
    clock = next((place for place, field in enumerate(fields) if field["type"] == "time"), None)
    if not columns or not numbers:
        return
    if clock is None:
        raise ValueError("a frame without times")
    texts = [place for place, field in enumerate(fields) if field["type"] == "string"]
    for place in numbers:
        named = fields[place].get("labels") or {}
        if not named and len(numbers) > 1:
            named = {"__name__": fields[place]["name"]}
        strange = {
            row: _INFINITIES[name]
            for name, rows in ((entities[place] if place < len(entities) else None) or {}).items()
            if name in _INFINITIES
            for row in rows
        }
        series = labels(named)
        for row, (ms, value) in enumerate(zip(columns[clock], columns[place], strict=True)):
            if texts:
                series = labels({**named, **{fields[text]["name"]: columns[text][row] for text in texts}})
            number = strange.get(row) if value is None else float(value)
            if ms is not None:
                yield series, ms * 1000, number


def _read_only(model: Any, key: str = "") -> None:
    """Refuse a query model that would write through the data source.

    Grafana hands SQL and the like to the data source as it is, and some data sources send any HTTP request. What a
    function called in a SELECT does cannot be seen from here: the data source's own user must only be able to read.
    """
    if isinstance(model, Mapping):
        for name, value in model.items():
            _read_only(value, str(name).lower())
    elif isinstance(model, list | tuple):
        for value in model:
            _read_only(value, key)
    elif key == "method" and str(model).upper() not in ("GET", "HEAD"):
        raise ConfigError(f"metrics grafana: the query would send a {model} request; only GET is read only")
    elif key in _LANGUAGES and isinstance(model, str):
        plain = re.sub(r"'[^']*'|/\*.*?\*/|--[^\n]*", " ", model + " ", flags=re.DOTALL)
        if found := _WRITES.search(plain):
            raise ConfigError(f"metrics grafana: the query would write ({found[0].strip()[:40]}); write one that reads")
