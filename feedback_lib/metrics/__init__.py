"""Where measurements come from: one module each, reading only."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

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
