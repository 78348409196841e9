"""Datadog: metric queries, by the v2 timeseries and scalar calls, and the v1 query call for what only that can read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import polars as pl

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import Answer, Query, asked, clean, frame, labels, on_grid, reading
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import Reply, Transport, secret

_V1, _V2 = "/api/v1/query", "/api/v2/query/"
_POINTS = 1_440  # asked for at once; above 1,500 a series Datadog widens the interval
_AGGREGATORS = ("avg", "sum", "min", "max", "last", "percentile", "mean", "l2norm", "area")
_RIGHTS = "the application key behind app_key_env needs the scope timeseries_query, and both keys the right site"
_EXAMPLE = (
    "a metric query such as avg:trace.web.request.duration{env:prod}, "
    "{queries: {bad: …, all: …}, formula: bad / all}, or {v1: …}"
)


@register("metrics", "datadog")
@dataclasses.dataclass(frozen=True)
class Datadog:
    """Measurements of Datadog, read only.

    A query is

    - a metric query as text, or ``{queries: {bad: …, all: …}, formula: bad / all}``: asked by v2, which takes the
      interval we ask for. Each may have an ``aggregator`` for the present value (default avg).
    - ``{v1: …}``, or a text that holds arithmetic, such as ``sum:a{*} / sum:b{*}``: v1 chooses the interval by itself,
      so end each metric in it with ``.rollup(avg, 60)``.

    Options:
        site: ``datadoghq.com``, ``datadoghq.eu``, ``us3.datadoghq.com`` and so on.
        api_key_env, app_key_env: variables with the two keys.
        url: address of the API when it is not ``https://api.<site>``.
        lookback_s: the seconds before now that the present value speaks of.
        timeout_s: seconds one answer may take.
    """

    site: str = "datadoghq.com"
    api_key_env: str = "DD_API_KEY"
    app_key_env: str = "DD_APP_KEY"
    url: str = ""
    lookback_s: int = 300
    timeout_s: float = 30
    history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", self.site):
            raise ConfigError(f"metrics datadog: {self.site!r} is no site; write one such as datadoghq.eu")
        _ = self._transport  # a wrong address is said now, not at the first query

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The value of the last ``lookback_s`` seconds as one number; by v1, the last point of them."""
        until, since = micros(at) // 1000, micros(at) // 1000 - self.lookback_s * 1000
        if text := _v1_text(query):
            found, partial, interval = self._v1(text, since, until)
            whole = found.filter(pl.col("at").dt.epoch("ms") + (interval or 0) * 1000 <= until)  # the last may grow yet
            newest = whole.unique("series", keep="last", maintain_order=True)
            return Answer(newest.with_columns(at=pl.lit(at).cast(pl.Datetime("us", "UTC"))), partial)
        return Answer(self._v2("scalar", query, since, until, {}, lambda reply: _scalar(reply, micros(at))))

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """A value for each bucket of ``step_s`` seconds, named by its end; asked for a day of minutes at a time."""
        step, stop = step_s * 1000, micros(end) // 1000
        frames, partials = [frame([])], []
        for first in range(micros(start) // 1000, stop + 1, _POINTS * step):
            since, until = first - step, min(stop, first + (_POINTS - 1) * step)
            if text := _v1_text(query):
                found, partial, interval = self._v1(text, since, until)
                if interval not in (None, step_s):
                    raise MetricsError(
                        "datadog",
                        f"{self._transport.host} answered in steps of {interval} s, not {step_s} s; "
                        f"end each metric of the query with .rollup(avg, {step_s}) or the like",
                    )
                partials += [partial] if partial and partial not in partials else []
            else:
                found = self._v2("timeseries", query, since, until, {"interval": step}, _series)
            moments = [dt.datetime.fromtimestamp(ms / 1000, dt.UTC) for ms in (first, until)]
            frames.append(on_grid(found, moments[0], moments[1], step_s, from_start=True))
        return Answer(pl.concat(frames).sort("series", "at"), "; ".join(partials) or None)

    def _v1(self, query: str, since: int, until: int) -> tuple[pl.DataFrame, str | None, int | None]:
        with self._reading():
            reply = self._transport.get(_V1, {"from": since // 1000, "to": until // 1000, "query": query}).json()
            error = reply.get("error") or (reply.get("message") if reply["status"] != "ok" else None)
            series = reply["series"] if not error else []
            points = [
                (labels(_tags(one.get("tag_set") or [])), round(ms * 1000), value)
                for one in series
                for ms, value in one["pointlist"]
            ]
            intervals = {int(one["interval"]) for one in series}
        if error:
            raise MetricsError("datadog", f"{self._transport.host}: {clean(str(error), self._credentials())}")
        said = reply.get("message") or None
        return frame(points), clean(said, self._credentials()) if said else None, max(intervals, default=None)

    def _v2(
        self,
        what: Literal["scalar", "timeseries"],
        query: Query,
        since: int,
        until: int,
        more: Mapping[str, Any],
        parse: Callable[[Mapping[str, Any]], pl.DataFrame],
    ) -> pl.DataFrame:
        queries, formula, aggregator = _parts(query)
        each = {"aggregator": aggregator} if what == "scalar" else {}
        attributes = {
            "formulas": [{"formula": formula}],
            "queries": [{"data_source": "metrics", "name": n, "query": q, **each} for n, q in queries.items()],
            "from": since,
            "to": until,
            **more,
        }
        body = {"data": {"type": f"{what}_request", "attributes": attributes}}
        with self._reading():
            reply: Reply = self._transport.call("POST", _V2 + what, body=body)
            answer = reply.json()
            if error := answer.get("errors"):
                words = clean(str(error), self._credentials())
            else:
                return parse(answer["data"]["attributes"])
        raise MetricsError("datadog", f"{self._transport.host}: {words}")

    def _reading(self) -> Any:
        return reading("datadog", self._transport.host, credentials=self._credentials, rights=_RIGHTS)

    def _credentials(self) -> dict[str, str]:
        return {
            "DD-API-KEY": secret(self.api_key_env, "datadog"),
            "DD-APPLICATION-KEY": secret(self.app_key_env, "datadog"),
        }

    @functools.cached_property
    def _transport(self) -> Transport:
        return Transport(
            "datadog",
            self.url or f"https://api.{self.site}",
            headers=self._credentials,
            searches=(f"{_V2}timeseries", f"{_V2}scalar"),
            timeout_s=self.timeout_s,
        )


def _series(attributes: Mapping[str, Any]) -> pl.DataFrame:
    """Buckets of a v2 timeseries answer, named by their starts (milliseconds)."""
    times, series = attributes["times"], attributes["series"]
    points = [
        (labels(_tags(one.get("group_tags") or [])), round(ms * 1000), value)
        for one, values in zip(series, attributes["values"], strict=True)
        for ms, value in zip(times, values, strict=True)
    ]
    return frame(points)


def _scalar(attributes: Mapping[str, Any], at: int) -> pl.DataFrame:
    """Rows of a v2 scalar answer: columns of groups name the series, the column of numbers holds the values."""
    columns = attributes["columns"]
    groups = [column for column in columns if column["type"] == "group"]
    points = []
    for column in columns:
        if column["type"] != "number":
            continue
        for row, value in enumerate(column["values"]):
            named = {group["name"]: ",".join(_listed(group["values"][row])) for group in groups}
            points.append((labels(named), at, value))
    return frame(points)


def _listed(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]


def _tags(tags: list[str]) -> dict[str, str]:
    """Tags such as ``env:prod`` as labels; a tag without a value has an empty one."""
    return {name: value for name, _, value in (tag.partition(":") for tag in tags)}


def _v1_text(query: Query) -> str:
    """The query when only v1 can read it, otherwise ""."""
    if isinstance(query, str):
        return query.strip() if re.search(r"[-+*/]", re.sub(r"\{[^{}]*\}|\.\w+\([^()]*\)", "", query)) else ""
    if not isinstance(query, Mapping) or "v1" not in query:
        return ""
    text = asked("datadog", query, ("v1",), _EXAMPLE)["v1"]
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"metrics datadog: v1 holds {text!r}; write {_EXAMPLE}")
    return text.strip()


def _parts(query: Query) -> tuple[dict[str, str], str, str]:
    """Named metric queries, the formula over their names, and the aggregator of the present value."""
    if isinstance(query, str):
        query = {"queries": {"a": query}}
    given = asked("datadog", query, ("queries", "formula", "aggregator", "v1"), _EXAMPLE)
    queries, aggregator = given.get("queries"), str(given.get("aggregator", "avg"))
    texts = list(queries.values()) if isinstance(queries, Mapping) else []
    if not isinstance(queries, Mapping) or not texts or not all(isinstance(q, str) and q.strip() for q in texts):
        raise ConfigError(f"metrics datadog: {str(query)[:80]!r} is no query of this backend; write {_EXAMPLE}")
    if "formula" not in given and len(queries) > 1:
        raise ConfigError(f"metrics datadog: a query of {', '.join(queries)} needs a formula; write {_EXAMPLE}")
    if aggregator not in _AGGREGATORS:
        raise ConfigError(f"metrics datadog: aggregator = {aggregator!r}; known: {', '.join(_AGGREGATORS)}")
    return dict(queries), str(given.get("formula", next(iter(queries)))), aggregator
