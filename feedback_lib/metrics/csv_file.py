"""Measurements in a CSV file with a header, one row per moment. A query is a column, and which rows count."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from feedback_lib.errors import ConfigError, MetricsError, nearest
from feedback_lib.metrics import Answer, Query
from feedback_lib.plugins import register
from feedback_lib.records import micros

_AGGREGATES = ("mean", "sum", "max", "min", "last")
_TIME_NAMES = ("at", "time", "timestamp", "date", "datetime", "ts")
_WRONG_QUERY = "metrics csv_file: a query is a column, or {column: p99, where: {service: api}}; this one is"
_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1), (1e20, 0.001))  # below what a number counts s, ms, us and ns
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SCHEMA = {"series": pl.String(), "at": pl.Datetime("us", "UTC"), "value": pl.Float64()}


@dataclasses.dataclass(frozen=True)
class _Bad:
    """A row that could not be read, and between which moments it stands if the file is in the order of time."""

    line: int
    reason: str
    after: float = -math.inf
    until: float = math.inf


@dataclasses.dataclass(frozen=True)
class _Table:
    """A parsed file: rows with a readable time in the order of time, and the others."""

    at: np.ndarray  # Int64, microseconds
    line: np.ndarray  # Int64, where the row stands in the file
    cells: Mapping[str, tuple[str, ...]]
    bad: tuple[_Bad, ...]


@register("metrics", "csv_file")
@dataclasses.dataclass(frozen=True)
class CsvFile:
    """Measurements in a CSV file.

    A query is the name of a column, or ``{column: p99, where: {service: api}}`` for the rows that say so, and may hold
    an ``aggregate`` of its own.

    Options:
        path: the file, UTF-8, with a header. It may grow: it is read again when it has changed.
        time: column of the times, ISO 8601 (UTC unless they say otherwise) or seconds, milli-, micro- or nanoseconds
            since 1970; found by its name when left out.
        aggregate: what the rows of one step become: mean, sum, max, min or last.
        separator: between cells.
        lookback_s: how many seconds before now a row may stand to be the present value.
    """

    path: str
    time: str = ""
    aggregate: str = "mean"
    separator: str = ","
    lookback_s: float = 300
    history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _known_aggregate(self.aggregate)
        if len(self.separator) != 1:
            raise ConfigError(f"metrics csv_file: separator = {self.separator!r}: expected one character")

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """The newest row of the last ``lookback_s`` seconds up to ``at``, as the value at ``at``."""
        until = micros(at)
        _, values, series, partial, _ = self._read(query, until - round(self.lookback_s * 1_000_000), until)
        return self._answer(series, [until] if len(values) else [], values[-1:], partial)

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """At each moment the aggregate of the rows in (moment - step, moment]; a moment without rows has no value."""
        first, step = micros(start), step_s * 1_000_000
        last = first + (micros(end) - first) // step * step
        times, values, series, partial, aggregate = self._read(query, first - step, last)
        if not len(values):
            return self._answer(series, [], values, partial)
        moments, begins = np.unique(first - (first - times) // step * step, return_index=True)  # at or after each row
        counts = np.diff(np.append(begins, len(values)))
        if aggregate == "last":
            found = values[begins + counts - 1]
        else:
            least, most = np.minimum.reduceat(values, begins), np.maximum.reduceat(values, begins)
            ends = (begins + counts).tolist()
            sums = np.array([_sum(values[a:b]) for a, b in zip(begins.tolist(), ends, strict=True)])
            means = np.clip(sums / counts, least, most)  # a third of three times 0.2 is 0.2, not a last digit more
            found = {"mean": means, "sum": sums, "max": most, "min": least}[aggregate]
        return self._answer(series, moments, found, partial)

    def _answer(self, series: str, at: list[int] | np.ndarray, value: np.ndarray, partial: str | None) -> Answer:
        moments = pl.Series("at", at, pl.Int64()).cast(_SCHEMA["at"])
        numbers = pl.Series("value", value, pl.Float64())
        frame = pl.DataFrame({"at": moments, "value": numbers}).select(pl.lit(series).alias("series"), "at", "value")
        return Answer(frame.filter(pl.col("value").is_not_nan()), partial, Path(self.path).absolute().as_uri())

    def _read(self, query: Query, after: int, until: int) -> tuple[np.ndarray, np.ndarray, str, str | None, str]:
        """Of the rows in (after, until]: times, values, the series' labels, why it is incomplete, how to aggregate."""
        column, where, aggregate = self._parts(query)
        table = self._table()
        for name in (column, *where):
            if name not in table.cells:
                raise ConfigError(
                    f"metrics csv_file: {self.path} has no column {name!r}; {nearest(name, list(table.cells))}"
                )
        chosen = list(range(*np.searchsorted(table.at, (after, until), side="right")))
        for name, wanted in where.items():
            cells = table.cells[name]
            chosen = [row for row in chosen if cells[row] == wanted]
        bad, rows, values = [one for one in table.bad if one.until > after and one.after <= until], [], []
        for row in chosen:
            text = table.cells[column][row]
            if not text:
                continue
            try:
                value = float(text)
            except ValueError:
                bad.append(_Bad(int(table.line[row]), f"{column} is {text[:40]!r}, not a number"))
                continue
            if not math.isnan(value):
                rows.append(row)
                values.append(value)
        series = ", ".join(f"{name}={json.dumps(where[name], ensure_ascii=False)}" for name in sorted(where))
        return table.at[rows], np.array(values, float), series, self._partial(bad), aggregate

    def _partial(self, bad: list[_Bad]) -> str | None:
        if not bad:
            return None
        first = min(bad, key=lambda one: one.line)
        many = f"{len(bad)} rows" if len(bad) > 1 else "1 row"
        return f"{many} of {Path(self.path).name} could not be read (first: line {first.line}: {first.reason})"

    def _parts(self, query: Query) -> tuple[str, dict[str, str], str]:
        if isinstance(query, str):
            return query, {}, self.aggregate
        if not isinstance(query, Mapping):
            raise ConfigError(f"{_WRONG_QUERY} {query!r}")
        for key in query:
            if key not in ("column", "where", "aggregate"):
                raise ConfigError(
                    f"metrics csv_file: a query has no {key!r}; {nearest(str(key), ['column', 'where', 'aggregate'])}"
                )
        where = query.get("where") or {}
        if not isinstance(query.get("column"), str) or not isinstance(where, Mapping):
            raise ConfigError(f"{_WRONG_QUERY} {dict(query)!r}")
        aggregate = _known_aggregate(str(query.get("aggregate", self.aggregate)))
        return query["column"], {str(name): str(wanted) for name, wanted in where.items()}, aggregate

    def _table(self) -> _Table:
        try:
            state = Path(self.path).stat()
            return _load(self.path, self.time, self.separator, state.st_mtime_ns, state.st_size)
        except OSError as problem:
            reason = problem.strerror or type(problem).__name__
            raise MetricsError("csv_file", f"{self.path}: {reason}. Name an existing file in 'path'.") from None


@functools.lru_cache(maxsize=8)
def _load(path: str, time: str, separator: str, _mtime_ns: int, _size: int) -> _Table:
    """Parse a file; the last two arguments make a changed one a different one."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:  # noqa: PTH123  # names may be odd
        reader = csv.reader(file, delimiter=separator)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as problem:
            raise MetricsError("csv_file", f"{path} line 1: {problem}; it should name the columns") from None
        if not header:
            raise MetricsError("csv_file", f"{path} is empty; its first line names the columns")
        clock = _time_column(path, header, time)
        times: list[int] = []
        lines, rows, bad = [], [], []
        settled = 0  # how many of the bad know the next moment
        while True:
            line, row, reason = reader.line_num + 1, list[str](), ""
            try:
                row = next(reader)
                if len(row) == len(header):
                    times.append(_moment(row[clock].strip()))
                elif row:
                    reason = f"{len(row)} cells, the header has {len(header)}"
                else:
                    continue
            except StopIteration:
                break
            except csv.Error as problem:
                reason = str(problem)
            except (ValueError, OverflowError):
                reason = f"{header[clock]} is {row[clock][:40]!r}, not a time"
            if reason:
                bad.append(_Bad(line, reason, times[-1] if times else -math.inf))
                continue
            bad[settled:] = [dataclasses.replace(one, until=times[-1]) for one in bad[settled:]]
            settled = len(bad)
            lines.append(line)
            rows.append(row)
    order = np.argsort(np.array(times, np.int64), kind="stable").tolist()
    cells = {
        name: tuple(rows[row][place].strip() for row in order)
        for place, name in enumerate(header)
        if place != clock and name
    }
    return _Table(np.array(times, np.int64)[order], np.array(lines, np.int64)[order], cells, tuple(bad))


def _time_column(path: str, header: list[str], name: str) -> int:
    if name:
        if name not in header:
            raise ConfigError(f"metrics csv_file: {path} has no column {name!r}; {nearest(name, header)}")
        return header.index(name)
    lower = [found.lower() for found in header]
    for known in _TIME_NAMES:
        if known in lower:
            return lower.index(known)
    raise ConfigError(
        f"metrics csv_file: no column of {path} is named {', '.join(_TIME_NAMES)}; name the one of the times in 'time'"
    )


def _moment(text: str) -> int:
    """Microseconds since 1970.

    >>> _moment("2026-11-16T00:00:00.5Z") == _moment("1794787200500") == _moment("1794787200.5")
    True
    """
    if text[4:5] == "-" or (len(text) == 8 and text.isdigit()) or "T" in text:
        at = dt.datetime.fromisoformat(text)
        return micros(at if at.tzinfo else at.replace(tzinfo=dt.UTC))
    number = float(text)
    for below, unit in _UNITS:
        if abs(number) < below:
            return round(number * unit)
    raise ValueError(text)


def _sum(values: np.ndarray) -> float:
    """Exact but for the last rounding; NaN where infinities of both signs or their size leave no number."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return math.nan


def _known_aggregate(name: str) -> str:
    if name not in _AGGREGATES:
        raise ConfigError(f"metrics csv_file: aggregate = {name!r}; {nearest(name, list(_AGGREGATES))}")
    return name
