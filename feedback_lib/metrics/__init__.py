"""Where measurements come from: one module each, reading only."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from feedback_lib.errors import ConfigError, MetricsError, TransportError, nearest

if TYPE_CHECKING:
    import polars as pl

Query = str | Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a backend answered.

    ``frame`` has one row per series and moment, sorted: ``series`` String, its labels as ``code="500", service="api"``
    ("" when it has none) · ``at`` Datetime in microseconds, UTC · ``value`` Float64, never NaN (a moment without a
    number has no row); infinite where the service said so. ``partial`` says why the answer is incomplete, None when it
    is whole. ``address`` is where a person can look at the same data, None when there is no such page.
    """

    frame: pl.DataFrame
    partial: str | None = None
    address: str | None = None


class Backend(Protocol):
    """A service that measures. Its dataclass fields are its options; what a query looks like is its own."""

    history: ClassVar[bool]  # False: it knows only the present, and `between` is refused

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The value at ``at``, one row per series.

        Raises:
            MetricsError: it could not be read. No data is an empty frame, not an error.
            ConfigError: an option or a query is wrong; the message says which.
        """
        ...

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """The values at ``start``, ``start + step_s``, … up to and including ``end``.

        A value speaks of the ``step_s`` seconds that end at its moment. ``start`` is a multiple of ``step_s`` since
        the epoch.

        Raises:
            MetricsError: it could not be read, or has no history.
            ConfigError: an option or a query is wrong.
        """
        ...


@runtime_checkable
class Histograms(Protocol):
    """A backend that knows the buckets its quantiles are read from, and so how exact they are."""

    def bucket_edges(self, query: Query, at: dt.datetime) -> tuple[float, ...]:
        """Upper edges of the classic histograms behind a query, ascending; empty when there are none.

        Raises:
            MetricsError: they could not be read.
        """
        ...


_SHORT = 200  # characters of a service's own words that are passed on
_BYTES = {"b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40, "pb": 2**50}
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9} | _BYTES | {u[0] + "ib": n for u, n in _BYTES.items() if n > 1}
_PERFDATA = re.compile(r"(?:'((?:[^']|'')+)'|([^\s=']+))=(-?[\d.,]+(?:[eE][-+]?\d+)?|U)([^\s;\d]*)\S*")


def frame(points: Iterable[tuple[str, int, float | None]]) -> pl.DataFrame:
    """The frame of an `Answer` from (series, microseconds since the epoch, value).

    A value of None or NaN is no row; of two rows of one series and moment the later one given stays.
    """
    import polars as pl

    columns = list(zip(*points, strict=True)) or [(), (), ()]
    made = pl.DataFrame(
        {
            "series": pl.Series(columns[0], dtype=pl.String),
            "at": pl.Series(columns[1], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "value": pl.Series(columns[2], dtype=pl.Float64),
        }
    )
    kept = made.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    return kept.unique(["series", "at"], keep="last", maintain_order=True).sort("series", "at")


def on_grid(
    points: pl.DataFrame, start: dt.datetime, end: dt.datetime, step_s: int, *, from_start: bool = False
) -> pl.DataFrame:
    """Move each point of a frame to the moment its slice ends at; the last point of a slice stays.

    Args:
        points: the frame of an `Answer`, at any moments.
        start: the first moment of the grid, a multiple of ``step_s`` since the epoch.
        end: the last moment.
        step_s: seconds of a slice.
        from_start: a point is named by the start of what it speaks of, ``[t, t + step)``, as buckets are; otherwise
            by its end, ``(t - step, t]``.
    """
    import polars as pl

    step = step_s * 1_000_000
    us = pl.col("at").dt.epoch("us")
    moment = us // step * step + step if from_start else (us + step - 1) // step * step
    placed = points.sort("series", "at").with_columns(at=moment.cast(pl.Datetime("us", "UTC")))
    inside = placed.filter(pl.col("at").is_between(start, end))
    return inside.unique(["series", "at"], keep="last", maintain_order=True).sort("series", "at")


def labels(pairs: Mapping[str, Any]) -> str:
    """The name of a series.

    >>> labels({"service": "api", "code": 500})
    'code="500", service="api"'
    """
    return ", ".join(f"{name}={json.dumps(str(pairs[name]), ensure_ascii=False)}" for name in sorted(pairs))


def perfdata(text: str) -> dict[str, float | None]:
    """Performance data of a Nagios plug-in, by label, in base units: seconds, bytes; percent stays as it is.

    Kilobytes and the like are powers of 1024, as the standard plug-ins count. ``U`` (not known) is None.
    Source: Monitoring Plugins Development Guidelines, "Performance data".

    >>> perfdata("p99=350ms;180;200;0; 'free space'=2MB err=0.08% queue=U")
    {'p99': 0.35, 'free space': 2097152.0, 'err': 0.08, 'queue': None}
    """
    found: dict[str, float | None] = {}
    for quoted, plain, value, unit in _PERFDATA.findall(text):
        try:
            number = float(value.replace(",", ".")) if value != "U" else None
        except ValueError:
            continue  # not a number, such as 1.2.3
        factor = _UNITS.get(unit.lower(), 1.0)
        # a division keeps 350 ms at 0.35 s where a product would not
        scaled = number if number is None else number / round(1 / factor) if factor < 1 else number * factor
        found[quoted.replace("''", "'") or plain] = scaled
    return found


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def asked(kind: str, query: Query, known: Collection[str], example: str) -> Mapping[str, Any]:
    """A query that must be a mapping with keys from ``known``.

    Raises:
        ConfigError: it is something else; the message shows ``example``.
    """
    if not isinstance(query, Mapping):
        raise ConfigError(f"metrics {kind}: {str(query)[:80]!r} is no query of this backend; write {example}")
    for name in query:
        if name not in known:
            raise ConfigError(
                f"metrics {kind}: unknown key {str(name)!r} in a query; {nearest(str(name), list(known))}"
            )
    return query


def positive(kind: str, name: str, value: Any) -> float:
    """A number above 0 from a query. Raises ConfigError when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"metrics {kind}: {name} = {value!r}; write a number above 0")
    return float(value)


@contextlib.contextmanager
def reading(
    kind: str, host: str, *, credentials: Callable[[], Mapping[str, str]] = dict, rights: str = ""
) -> Iterator[None]:
    """Turn a failed or unreadable answer into a MetricsError in words.

    Args:
        kind: plug-in name.
        host: whom was asked.
        credentials: headers that hold secrets; what they hold is taken out of the service's own words.
        rights: what to look at after 401 and 403, as a sentence.

    Raises:
        MetricsError: what, where, what to do, and what the service said, shortened.
    """
    try:
        yield
    except TransportError as error:
        text = str(error).removeprefix(f"{kind}: ")
        text = text if host in text else f"{host}: {text}"
        said = [f"it says {clean(words, credentials())!r}"] if (words := spoken(error.body)) else []
        said += [rights] if error.status in (401, 403) and rights else []
        said += ["it asks to slow down: raise the interval or ask for less"] if error.status == 429 else []
        raise MetricsError(kind, "; ".join([text, *said]), unreachable=error.status is None) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        what = f"{type(problem).__name__} {problem}" if isinstance(problem, LookupError) else type(problem).__name__
        raise MetricsError(kind, f"{host}: the answer has another shape than expected ({what})") from None


def spoken(body: bytes) -> str:
    """The words in a service's error body; "" when there are none that can be found."""
    try:
        texts = list(_texts(json.loads(body)))
    except (ValueError, RecursionError):
        return ""
    return "; ".join(dict.fromkeys(texts))


def clean(words: str, credentials: Mapping[str, str]) -> str:
    """A service's own words in one short line, without the values of our credentials and without personal data."""
    from feedback_lib import privacy

    for value in credentials.values():
        for secret in _parts(value):
            words = words.replace(secret, "[secret]")
    words = privacy.redact(" ".join(words.split()))
    return words if len(words) <= _SHORT else words[: _SHORT - 1] + "…"


def _texts(value: Any) -> Iterator[str]:
    """Texts under the keys that services use for errors."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key in ("errors", "error", "messages", "message", "reason", "text"):
            yield from _texts(value.get(key))
        for result in value.get("results", {}).values() if isinstance(value.get("results"), dict) else ():
            yield from _texts(result)


def _parts(header: str) -> Iterator[str]:
    """A credential as it may come back: the whole, its last word, the password inside basic authentication."""
    last = header.split(" ")[-1]
    if header.startswith("Basic "):
        yield base64.b64decode(last).decode().partition(":")[2]
    yield from filter(None, (header, last))
