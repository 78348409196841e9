"""Elasticsearch and OpenSearch: counts, percentiles and other aggregates of documents per slice of time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from feedback_lib import logs
from feedback_lib.errors import ConfigError
from feedback_lib.metrics import Answer, Query, asked, basic, frame, on_grid, reading
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import Transport, secret

_BUCKETS = 10_000  # asked for at once; the service refuses more than 65,536
_EXAMPLE = (
    "{filter: 'http.response.status_code >= 500', value: count} or "
    "{filter: 'service: api', value: {percentile: 99, field: event.duration}}"
)
_RIGHTS = "the key or user needs the privilege 'read' on this index"


@register("metrics", "elasticsearch")
@dataclasses.dataclass(frozen=True)
class Elasticsearch:
    """Measurements from documents in Elasticsearch or OpenSearch, read only.

    A query is ``{filter: …, value: …}`` and may name another ``index`` or ``time_field``. ``filter`` is a query string
    (``service: api AND level: error``) or query DSL; ``value`` is ``count``, ``{percentile: 99, field: …}``, or
    ``{avg: field}``, and so on for sum, max, min. A count is 0 in a slice in which the index got other documents, and
    no data in a slice in which it got none at all.

    Options:
        url: where it runs.
        index: an index, a pattern such as ``logs-*``, or several with commas.
        time_field: the field of the documents' times.
        api_key_env: variable with an API key (encoded).
        user: for basic authentication.
        password_env: variable with its password.
        lookback_s: the seconds before now that the present value speaks of.
        timeout_s: seconds one answer may take.
        ca: file of certificates to trust instead of the system's.
    """

    url: str
    index: str = ""
    time_field: str = "@timestamp"
    api_key_env: str = ""
    user: str = ""
    password_env: str = ""
    lookback_s: int = 300
    timeout_s: float = 30
    ca: str = ""
    history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if bool(self.user) != bool(self.password_env) or (self.user and self.api_key_env):
            raise ConfigError("metrics elasticsearch: give api_key_env, or user and password_env, or none of them")
        if self.index:
            index = logs.elastic_index(self.index, "metrics")
            _ = self._transport(index)  # a wrong address is said now, not at the first query

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The value of the last ``lookback_s`` seconds."""
        wanted = _parts(query, self)
        start = at - dt.timedelta(seconds=self.lookback_s)
        value = wanted.aggregation
        body: dict[str, Any] = {
            "size": 0,
            "track_total_hits": not value,
            "timeout": self._patience,
            "query": wanted.range(start, at, narrowed=bool(value)),
            "aggs": {"v": value} if value else {"newest": {"max": {"field": wanted.time_field}}},
        }
        if not value:
            body["post_filter"] = wanted.filter  # the total counts what matches, the aggregation sees everything
        with self._reading(wanted.index):
            reply = self._search(wanted.index, body)
            partial = logs.elastic_partial(reply)
            if value:
                number = _number(reply["aggregations"]["v"])
            else:
                total = reply["hits"]["total"]
                number = float(total["value"] if isinstance(total, Mapping) else total)
                if isinstance(total, Mapping) and total.get("relation", "eq") != "eq":
                    partial = partial or f"there are more than the {number:g} documents that were counted"
                if not number and reply["aggregations"]["newest"]["value"] is None:
                    number = None
            return Answer(frame([("", micros(at), number)]), partial)

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """At each moment the value of the documents in [moment - step, moment); in pieces of 10,000 slices."""
        wanted = _parts(query, self)
        step, piece = dt.timedelta(seconds=step_s), dt.timedelta(seconds=step_s * _BUCKETS)
        frames, partials = [frame([])], []
        first = start
        while first <= end:
            last = min(end, first + piece - step)
            found, partial = self._slices(wanted, first - step, last, step_s)
            frames.append(on_grid(found, first, last, step_s, from_start=True))
            partials += [partial] if partial and partial not in partials else []
            first += piece
        return Answer(pl.concat(frames).sort("series", "at"), "; ".join(partials) or None)

    def _slices(
        self, wanted: _Wanted, start: dt.datetime, end: dt.datetime, step_s: int
    ) -> tuple[pl.DataFrame, str | None]:
        """Buckets by their starts."""
        value = wanted.aggregation
        matching: dict[str, Any] = {"filter": wanted.filter, **({"aggs": {"v": value}} if value else {})}
        buckets = {"field": wanted.time_field, "fixed_interval": f"{step_s}s", "min_doc_count": 1}
        body = {
            "size": 0,
            "track_total_hits": False,
            "timeout": self._patience,
            "query": wanted.range(start, end, narrowed=bool(value)),
            "aggs": {"slices": {"date_histogram": buckets, "aggs": {"matching": matching}}},
        }
        with self._reading(wanted.index):
            reply = self._search(wanted.index, body)
            points = []
            for bucket in reply["aggregations"]["slices"]["buckets"]:
                found = bucket["matching"]
                number = _number(found["v"]) if value else float(found["doc_count"])
                points.append(("", round(bucket["key"] * 1000), number))
            return frame(points), logs.elastic_partial(reply)

    def _search(self, index: str, body: Mapping[str, Any]) -> Any:
        path = f"/{index}/_search"
        return self._transport(index).call("POST", path, body=body).json()

    @property
    def _patience(self) -> str:
        """How long the service may search: so long that it can still say that it did not finish."""
        return f"{round(self.timeout_s * 800)}ms"

    def _reading(self, index: str) -> Any:
        host = self._transport(index).host
        return reading("elasticsearch", host, credentials=self._headers, rights=_RIGHTS)

    def _headers(self) -> dict[str, str]:
        if self.api_key_env:
            return {"Authorization": f"ApiKey {secret(self.api_key_env, 'elasticsearch')}"}
        return basic(self.user, secret(self.password_env, "elasticsearch")) if self.user else {}

    @functools.cached_property
    def _transports(self) -> dict[str, Transport]:
        return {}

    def _transport(self, index: str) -> Transport:
        """A client that may search this index and do nothing else by POST."""
        if index not in self._transports:
            self._transports[index] = Transport(
                "elasticsearch",
                self.url,
                headers=self._headers,
                searches=(f"/{index}/_search",),
                timeout_s=self.timeout_s,
                ca=self.ca or None,
            )
        return self._transports[index]


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """A query with the backend's defaults filled in."""

    index: str
    filter: Mapping[str, Any]
    time_field: str
    aggregation: Mapping[str, Any] | None  # None counts

    def range(self, start: dt.datetime, end: dt.datetime, *, narrowed: bool) -> dict[str, Any]:
        """Documents of [start, end), only the matching ones when ``narrowed``."""
        bounds = {"gte": micros(start) // 1000, "lt": micros(end) // 1000, "format": "epoch_millis"}
        return {"bool": {"filter": [{"range": {self.time_field: bounds}}, *([self.filter] if narrowed else [])]}}


def _parts(query: Query, backend: Elasticsearch) -> _Wanted:
    given = asked("elasticsearch", query, ("index", "filter", "time_field", "value"), _EXAMPLE)
    text = given.get("filter") or {"match_all": {}}
    if isinstance(text, str):
        text = {"query_string": {"query": text}}
    if not isinstance(text, Mapping):
        raise ConfigError(f"metrics elasticsearch: filter = {text!r}; write {_EXAMPLE}")
    index = logs.elastic_index(str(given.get("index") or backend.index), "metrics")
    return _Wanted(index, text, str(given.get("time_field") or backend.time_field), _aggregation(given.get("value")))


def _aggregation(value: Any) -> Mapping[str, Any] | None:
    """The aggregation of a ``value``; None for a count."""
    if value == "count":
        return None
    if isinstance(value, Mapping):
        if set(value) == {"percentile", "field"} and isinstance(value["percentile"], int | float):
            return {"percentiles": {"field": value["field"], "percents": [float(value["percentile"])], "keyed": False}}
        if len(value) == 1 and next(iter(value)) in ("avg", "sum", "max", "min"):
            return {name: {"field": str(field)} for name, field in value.items()}
    raise ConfigError(f"metrics elasticsearch: value = {value!r}; write {_EXAMPLE}")


def _number(aggregate: Mapping[str, Any]) -> float | None:
    """The value of a metric aggregation; of no documents it is null, or NaN in older versions."""
    value = aggregate["values"][0]["value"] if "values" in aggregate else aggregate["value"]
    return None if value is None else float(value)
