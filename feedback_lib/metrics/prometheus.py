"""Prometheus, and what answers like it (Thanos, Mimir, VictoriaMetrics). A query is PromQL."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import functools
import json
import logging
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl

from feedback_lib.errors import ConfigError, MetricsError, TransportError
from feedback_lib.metrics import Answer, Query
from feedback_lib.plugins import register
from feedback_lib.privacy import redact
from feedback_lib.transport import Transport, secret

logger = logging.getLogger(__name__)

_POINTS = 11_000  # Prometheus refuses more for one series in one answer
_SEARCHES = ("/api/v1/query", "/api/v1/query_range")
_NO_FORM = (405, 501)  # what a proxy says that lets no POST through
_NOT_PROMETHEUS = "the answer is not what Prometheus sends; is this the address of its API?"
_SCHEMA = {"series": pl.String(), "at": pl.Datetime("us", "UTC"), "value": pl.Float64()}
_TEXT = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`'
_SELECTOR = re.compile(
    rf"#.*|{_TEXT}|(?P<name>[a-zA-Z_:][\w:]*)?\s*(?P<labels>\{{(?:{_TEXT}|[^}}\"'`])*\}})|(?P<bare>[a-zA-Z_:][\w:]*)"
)


@register("metrics", "prometheus")
@dataclasses.dataclass(frozen=True)
class Prometheus:
    """Measurements by PromQL, read only.

    Options:
        url: where it runs, such as ``http://prometheus:9090``; a path in front of ``/api`` belongs to it.
        token_env: variable with a bearer token.
        user_env, password_env: variables with a user and a password.
        tenant: sent as ``X-Scope-OrgID``, for Mimir, Cortex and Loki.
        timeout_s: seconds one answer may take.
        ca: file of certificates to trust instead of the usual ones.
    """

    url: str
    token_env: str = ""
    user_env: str = ""
    password_env: str = ""
    tenant: str = ""
    timeout_s: float = 10
    ca: str = ""
    history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if bool(self.user_env) != bool(self.password_env) or (self.token_env and self.user_env):
            raise ConfigError("metrics prometheus: give token_env, or user_env and password_env, or none of them")
        _ = self._transport  # a wrong address is said now, not at the first query

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The value at ``at``; of a range selector such as ``up[5m]`` the last sample of each series."""
        promql = _promql(query)
        frame, partial = self._ask("/api/v1/query", {"query": promql, "time": f"{at.timestamp():.3f}"})
        frame = frame.unique("series", keep="last", maintain_order=True)
        return Answer(frame, partial, self._page(promql, "1", {"moment_input": _shown(at)}))

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """The values at ``start``, ``start + step_s``, … up to and including ``end``, asked for in pieces.

        Prometheus gives at most 11,000 points a series; no moment stands in two pieces.
        """
        promql = _promql(query)
        first, last = int(start.timestamp()), int(end.timestamp())
        frames, partials = [pl.DataFrame(schema=_SCHEMA)], []
        for piece in range(first, last + 1, _POINTS * step_s):
            until = min(last, piece + (_POINTS - 1) * step_s)
            asked = {"query": promql, "start": piece, "end": until, "step": step_s}
            frame, partial = self._ask("/api/v1/query_range", asked)
            if not _on_grid(frame["at"], piece, until, step_s):
                raise MetricsError("prometheus", f"{self._transport.host} answered for moments it was not asked for")
            frames.append(frame)
            partials += [partial] if partial and partial not in partials else []
        whole = pl.concat(frames)
        if len(frames) > 2:
            whole = whole.sort("series", "at")
        shown = {"range_input": f"{max(last - first, step_s)}s", "end_input": _shown(end)}
        page = self._page(promql, "0", {**shown, "step_input": str(step_s)})
        return Answer(whole, "; ".join(partials) or None, page)

    def bucket_edges(self, query: Query, at: dt.datetime) -> tuple[float, ...]:
        """Upper edges of the classic histograms that a query takes quantiles of, ascending, mostly ending in infinity.

        Such a quantile is only known to lie between two of them. Other queries, native histograms and recorded
        quantiles have none: ``()``.

        Args:
            query: PromQL, such as ``histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m])))``.
            at: the edges are those of this moment.

        Raises:
            MetricsError: they could not be read.
        """
        names = buckets(_promql(query))
        if not names:
            return ()
        asked = {"query": f"group by (le) ({' or '.join(names)})", "time": f"{at.timestamp():.3f}"}
        try:
            found = self._body("/api/v1/query", asked)["data"]["result"]
            return tuple(sorted({float(one["metric"]["le"]) for one in found if "le" in one["metric"]}))
        except (KeyError, TypeError, ValueError) as odd:
            where = f"{self._transport.host} /api/v1/query"
            raise MetricsError("prometheus", f"{where}: the edges of {names[0]} are no numbers") from odd

    def _ask(self, path: str, asked: Mapping[str, Any]) -> tuple[pl.DataFrame, str | None]:
        body = self._body(path, asked)
        for info in body.get("infos") or ():
            logger.info("kind=prometheus host=%s info=%r", self._transport.host, self._clean(str(info)))
        try:
            found, said = parse(body)
        except MetricsError as error:
            message = str(error).removeprefix("prometheus: ")
            raise MetricsError("prometheus", f"{self._transport.host} {path}: {message}") from None
        return found, "; ".join(self._clean(words) for words in said) or None

    def _body(self, path: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            try:
                reply = self._transport.call("POST", path, form=asked)
            except TransportError as error:
                if error.status not in _NO_FORM:
                    raise
                reply = self._transport.get(path, asked)
            body = reply.json()
        except TransportError as error:
            words = self._words(_loaded(error.body))
            message = str(error).removeprefix("prometheus: ")
            raise MetricsError(
                "prometheus", f"{message}: {words}" if words else message, unreachable=error.status is None
            ) from None
        if not isinstance(body, Mapping) or body.get("status") != "success":
            raise MetricsError("prometheus", f"{reply.place}: {self._words(body) or _NOT_PROMETHEUS}")
        return body

    def _words(self, body: Any) -> str:
        """What Prometheus says went wrong; "" when it says nothing."""
        if not isinstance(body, Mapping) or "error" not in body:
            return ""
        return self._clean(f"{body.get('errorType', 'error')}: {body['error']}")

    def _clean(self, text: str) -> str:
        """The service's own words in one short line, without our credentials and without personal data."""
        secrets = [self._headers().get("Authorization", "").partition(" ")[2]]
        secrets += [secret(self.password_env, "prometheus")] if self.password_env else []
        for known in filter(None, secrets):
            text = text.replace(known, "[token]")
        return redact(" ".join(text.split()))[:400]

    def _headers(self) -> dict[str, str]:
        made = {"X-Scope-OrgID": self.tenant} if self.tenant else {}
        if self._transport.host in ("127.0.0.1", "localhost", "::1"):
            made["Accept-Encoding"] = "identity"  # packing takes longer than sending within one machine
        if self.token_env:
            made["Authorization"] = f"Bearer {secret(self.token_env, 'prometheus')}"
        elif self.user_env:
            pair = f"{secret(self.user_env, 'prometheus')}:{secret(self.password_env, 'prometheus')}"
            made["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return made

    def _page(self, promql: str, tab: str, shown: Mapping[str, str]) -> str:
        fields = {"g0.expr": promql, "g0.tab": tab, **{f"g0.{name}": value for name, value in shown.items()}}
        return f"{self.url.rstrip('/')}/graph?{urllib.parse.urlencode(fields, quote_via=urllib.parse.quote)}"

    @functools.cached_property
    def _transport(self) -> Transport:
        return Transport(
            "prometheus",
            self.url,
            headers=self._headers,
            searches=_SEARCHES,
            timeout_s=self.timeout_s,
            ca=self.ca or None,
        )


def parse(body: Mapping[str, Any]) -> tuple[pl.DataFrame, list[str]]:
    """The samples of a successful answer of ``/api/v1/query`` or ``/api/v1/query_range``, and why it is incomplete.

    Warnings say that something is missing; infos, such as a counter with an odd name, do not.

    Returns:
        A frame as in `feedback_lib.metrics.Answer`, and its warnings in the service's own words. NaN is left out,
        infinities are kept.

    Raises:
        MetricsError: the answer has another shape.
        ConfigError: the query gives texts or native histograms, not numbers.
    """
    try:
        kind, result = body["data"]["resultType"], body["data"]["result"]
        if kind == "string":
            raise ConfigError("metrics prometheus: the query gives a text, not a number")
        if kind == "scalar":
            frame = _frame([("", [result])])
        elif kind == "vector":
            frame = _frame([(_labels(one["metric"]), [_number(one, "value")]) for one in result])
        elif kind == "matrix":
            frame = _frame([(_labels(one["metric"]), _number(one, "values")) for one in result])
        else:
            raise MetricsError("prometheus", f"an answer of kind {kind!r} is not known")
    except (KeyError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError) as odd:
        raise MetricsError("prometheus", _NOT_PROMETHEUS) from odd
    warnings = [str(warning) for warning in body.get("warnings") or ()]
    said = [warning for warning in warnings if not warning.startswith("PromQL info")]  # some versions mix them
    if body.get("isPartial"):
        said.append("some of its storage nodes did not answer")
    return frame, said


def buckets(promql: str) -> list[str]:
    """The classic histograms a query takes quantiles of, as selectors, sorted.

    >>> buckets('histogram_quantile(0.9, sum by (le) (rate(x_bucket{path="/{id}"}[5m]))) > 0.2 # y_bucket')
    ['x_bucket{path="/{id}"}']
    >>> buckets("sum(rate(x_bucket[5m]))")
    []
    """
    if "histogram_quantile" not in promql:
        return []
    found = set()
    for part in _SELECTOR.finditer(promql):
        name, labels = part["name"] or part["bare"] or "", part["labels"] or ""
        if name.endswith("_bucket") or (not name and re.search(r"_bucket[\"'`]", labels)):
            found.add(name + labels)
    return sorted(found)


def _number(one: Mapping[str, Any], key: str) -> Any:
    """Its samples; a native histogram is no number."""
    if "histogram" in one or "histograms" in one:
        at, histogram = one["histogram"] if "histogram" in one else one["histograms"][-1]
        raise ConfigError(
            "metrics prometheus: the query gives native histograms, not numbers (the one at "
            f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%dT%H:%M:%SZ} holds {histogram['count']} observations in "
            f"{len(histogram.get('buckets') or ())} buckets, sum {histogram['sum']}). Wrap it in "
            "histogram_quantile(0.99, …), histogram_fraction(0, 0.2, …) or histogram_count(…)"
        )
    return one[key]


def _frame(found: Sequence[tuple[str, Sequence[Sequence[Any]]]]) -> pl.DataFrame:
    """Samples by labels as a frame; Polars reads the numbers five times as fast as Python does."""
    frames = [pl.DataFrame(schema=_SCHEMA)]
    if len({labels for labels, _ in found}) < len(found):
        raise ValueError("two series of the same labels")
    for labels, samples in sorted(found, key=lambda one: one[0]):
        seconds = pl.Series("at", [sample[0] for sample in samples], pl.Float64(), strict=False)
        value = pl.Series("value", [sample[1] for sample in samples], pl.String()).cast(pl.Float64())
        if seconds.null_count() or value.null_count():
            raise ValueError("a sample without time or value")
        at = (seconds * 1_000_000).round().cast(pl.Int64())
        if len(at) > 1 and (at[1:] - at[:-1]).min() <= 0:  # type: ignore[operator]
            raise ValueError("samples out of the order of time")
        frame = pl.DataFrame(
            [pl.repeat(labels, len(at), dtype=pl.String(), eager=True).alias("series"), at.cast(_SCHEMA["at"]), value]
        )
        frames.append(frame.filter(value.is_not_nan()) if value.is_nan().any() else frame)
    return pl.concat(frames)


def _on_grid(at: pl.Series, first: int, last: int, step_s: int) -> bool:
    """Whether all moments are ``first``, ``first + step_s``, … up to ``last``."""
    since = at.to_physical().to_numpy() - first * 1_000_000
    return not len(since) or bool(
        since.min() >= 0 and since.max() <= (last - first) * 1_000_000 and not (since % (step_s * 1_000_000)).any()
    )


def _shown(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def _labels(metric: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={json.dumps(metric[name], ensure_ascii=False)}" for name in sorted(metric))


def _promql(query: Query) -> str:
    if not isinstance(query, str) or not query.strip():
        raise ConfigError(f"metrics prometheus: a query is PromQL as text, not {query!r}")
    return query.strip()


def _loaded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
