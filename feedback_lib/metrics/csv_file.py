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

_AGGREGATES = ("mean", "sum", "max", "min", "last")
_TIME_NAMES = ("at", "time", "timestamp", "date", "datetime", "ts")
_SCHEMA = {"series": pl.String(), "at": pl.Datetime("us", "UTC"), "value": pl.Float64()}


@dataclasses.dataclass(frozen=True)
class _Table:
    """A parsed file: rows with a readable time in the order of time, and the lines that could not be read."""

    at: np.ndarray  # Int64, microseconds
    line: np.ndarray  # Int64, where the row stands in the file
    cells: Mapping[str, tuple[str, ...]]
    bad: Mapping[int, str]


@register("metrics", "csv_file")
@dataclasses.dataclass(frozen=True)
class CsvFile:
    """Measurements in a CSV file.

    A query is the name of a column, or ``{column: p99, where: {service: api}}`` for the rows that say so, and may hold
    an ``aggregate`` of its own.

    Options:
        path: the file, UTF-8, with a header. It may grow: it is read again when it has changed.
        time: column of the times, ISO 8601 (UTC unless they say otherwise) or seconds, milli- or microseconds since
            1970; found by its name when left out.
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
        times, values, series, partial, _ = self._read(query)
        until = _us(at)
        newest = int(np.searchsorted(times, until, side="right")) - 1
        known = newest >= 0 and times[newest] > until - round(self.lookback_s * 1_000_000)
        return self._answer(series, [until] if known else [], [values[newest]] if known else [], partial)

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """At each moment the aggregate of the rows in (moment - step, moment]; a moment without rows has no value."""
        times, values, series, partial, aggregate = self._read(query)
        first, last, step = _us(start), _us(end), step_s * 1_000_000
        moment = first + -((first - times) // step) * step  # the first one at or after each row
        held = (moment >= first) & (moment <= last)
        moments, begins = np.unique(moment[held], return_index=True)
        values = values[held]
        if not len(moments):
            return self._answer(series, [], [], partial)
        counts = np.diff(np.append(begins, len(values)))
        if aggregate == "last":
            found = values[begins + counts - 1]
        elif aggregate in ("max", "min"):
            found = (np.maximum if aggregate == "max" else np.minimum).reduceat(values, begins)
        else:
            sums = np.array([math.fsum(part) for part in np.split(values, begins[1:])])
            found = sums / counts if aggregate == "mean" else sums
        return self._answer(series, moments, found, partial)

    def _answer(
        self, series: str, at: list[int] | np.ndarray, value: list[float] | np.ndarray, partial: str | None
    ) -> Answer:
        moments = pl.Series("at", at, pl.Int64()).cast(_SCHEMA["at"])
        numbers = pl.Series("value", value, pl.Float64())
        frame = pl.DataFrame({"at": moments, "value": numbers}).select(pl.lit(series).alias("series"), "at", "value")
        return Answer(frame.filter(pl.col("value").is_not_nan()), partial, Path(self.path).absolute().as_uri())

    def _read(self, query: Query) -> tuple[np.ndarray, np.ndarray, str, str | None, str]:
        """Times, values, the series' labels, why it is incomplete, and how to aggregate."""
        column, where, aggregate = self._parts(query)
        table = self._table()
        for name in (column, *where):
            if name not in table.cells:
                raise ConfigError(
                    f"metrics csv_file: {self.path} has no column {name!r}; {nearest(name, list(table.cells))}"
                )
        chosen = list(range(len(table.at)))
        for name, wanted in where.items():
            cells = table.cells[name]
            chosen = [row for row in chosen if cells[row] == wanted]
        bad, rows, values = dict(table.bad), [], []
        for row in chosen:
            text = table.cells[column][row]
            if not text:
                continue
            try:
                value = float(text)
            except ValueError:
                bad[int(table.line[row])] = f"{column} is {text[:40]!r}, not a number"
                continue
            if not math.isnan(value):
                rows.append(row)
                values.append(value)
        partial = None
        if bad:
            line = min(bad)
            many = f"{len(bad)} rows" if len(bad) > 1 else "1 row"
            partial = f"{many} of {Path(self.path).name} could not be read (first: line {line}: {bad[line]})"
        series = ", ".join(f"{name}={json.dumps(where[name], ensure_ascii=False)}" for name in sorted(where))
        return table.at[rows], np.array(values, float), series, partial, aggregate

    def _parts(self, query: Query) -> tuple[str, dict[str, str], str]:
        if isinstance(query, str):
            return query, {}, self.aggregate
        for key in query:
            if key not in ("column", "where", "aggregate"):
                raise ConfigError(
                    f"metrics csv_file: a query has no {key!r}; {nearest(str(key), ['column', 'where', 'aggregate'])}"
                )
        where = query.get("where") or {}
        if not isinstance(query.get("column"), str) or not isinstance(where, Mapping):
            raise ConfigError(
                "metrics csv_file: a query is a column, or {column: p99, where: {service: api}}; "
                f"this one is {dict(query)!r}"
            )
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
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise MetricsError("csv_file", f"{path} is empty; its first line names the columns")
        clock = _time_column(path, header, time)
        times, lines, rows, bad = [], [], [], {}
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as problem:
                bad[line] = str(problem)
                continue
            if row is None:
                break
            if not row:
                continue
            if len(row) != len(header):
                bad[line] = f"{len(row)} cells, the header has {len(header)}"
                continue
            try:
                times.append(_moment(row[clock].strip()))
            except (ValueError, OverflowError):
                bad[line] = f"{header[clock]} is {row[clock][:40]!r}, not a time"
                continue
            lines.append(line)
            rows.append(row)
    order = np.argsort(np.array(times, np.int64), kind="stable")
    cells = {
        name: tuple(rows[row][place].strip() for row in order)
        for place, name in enumerate(header)
        if place != clock and name
    }
    return _Table(np.array(times, np.int64)[order], np.array(lines, np.int64)[order], cells, bad)


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
    try:
        number = float(text)
    except ValueError:
        at = dt.datetime.fromisoformat(text)
        return _us(at if at.tzinfo else at.replace(tzinfo=dt.UTC))
    if not math.isfinite(number) or (len(text) == 8 and text.isdigit()):
        at = dt.datetime.fromisoformat(text)  # 20261116; refuses inf
        return _us(at.replace(tzinfo=dt.UTC))
    unit = 1_000_000 if abs(number) < 1e11 else 1_000 if abs(number) < 1e14 else 1
    return round(number * unit)


def _us(at: dt.datetime) -> int:
    """Exact microseconds since 1970; a float of seconds would lose the last one."""
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def _known_aggregate(name: str) -> str:
    if name not in _AGGREGATES:
        raise ConfigError(f"metrics csv_file: aggregate = {name!r}; {nearest(name, list(_AGGREGATES))}")
    return name
