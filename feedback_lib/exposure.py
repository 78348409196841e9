"""The exposure of a product: how many people could have spoken on each day, read from a CSV file."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import math
from pathlib import Path
from typing import Any

import polars as pl

from feedback_lib.errors import ConfigError
from feedback_lib.records import Rejected

DAYS = ("day", "date")
AREAS = ("product_area", "service")


@dataclasses.dataclass(frozen=True, slots=True)
class Exposure:
    """What the file says.

    Attributes:
        frame: One row per day and area, oldest first: day Date · exposure Float64, more than 0 · product_area or
            service String where the file has that column, null for the whole product.
        per: What is counted, such as "active users": the name of its column.
        rejected: Lines that were left out, and why. Their days are no data.
    """

    frame: pl.DataFrame
    per: str
    rejected: tuple[Rejected, ...]


def read(path: str | Path) -> Exposure:
    """Read a CSV file with a line per day: ``day,active_users`` and, if wanted, ``product_area`` or ``service``.

    A day is written 2026-11-16. A line with a bad day, with no number more than 0, or that repeats a day and area of
    an earlier line with another number is left out and reported.

    Raises:
        ConfigError: the file cannot be read, its columns are not these, or none of its lines can be used.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        why = problem.strerror if isinstance(problem, OSError) else f"not a UTF-8 CSV file ({problem})"
        raise ConfigError(f"exposure {path}: {why}. Name a CSV file such as day,active_users.") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    day, area, size = _columns(header, path)
    told: dict[tuple[dt.date, str | None], float] = {}
    rejected = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} columns where the first line has {len(header)}")
            when = _day(row[day])
            where = (row[area].strip() or None) if area is not None else None
            count = _number(row[size])
            if told.setdefault((when, where), count) != count:
                raise ValueError(f"{when} was there before with another number")
        except ValueError as problem:
            rejected.append(Rejected(f"{path.name}:{number}", str(problem)))
    if not told:
        first = f" ({rejected[0].where}: {rejected[0].reason})" if rejected else ""
        raise ConfigError(f"exposure {path}: no line with a day and a number{first}. Write 2026-11-16,1200.")
    schema: dict[str, Any] = {"day": pl.Date, "area": pl.String, "exposure": pl.Float64}
    frame = pl.DataFrame([(d, a, n) for (d, a), n in told.items()], schema=schema, orient="row").sort("day", "area")
    frame = frame.drop("area") if area is None else frame.rename({"area": header[area]})
    return Exposure(frame, header[size].replace("_", " "), tuple(rejected))


def _columns(header: list[str], path: Path) -> tuple[int, int | None, int]:
    """Places of the day, the area and the number."""
    days = [i for i, name in enumerate(header) if name in DAYS]
    areas = [i for i, name in enumerate(header) if name in AREAS]
    rest = [i for i, name in enumerate(header) if i not in (*days, *areas)]
    if len(days) != 1 or len(areas) > 1 or len(rest) != 1 or not header[rest[0]]:
        raise ConfigError(
            f"exposure {path}: columns {', '.join(header) or 'none'}. Write one column day, one with the numbers, "
            "such as active_users, and at most one of product_area and service."
        )
    return days[0], areas[0] if areas else None, rest[0]


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("the day is not written like 2026-11-16") from None


def _number(text: str) -> float:
    try:
        count = float(text.strip())
    except ValueError:
        raise ValueError("the exposure is not a number") from None
    if not math.isfinite(count) or count <= 0:
        raise ValueError("the exposure is not more than 0")
    return count
