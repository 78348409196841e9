"""Signals counted into arrays: subjects by weeks and days, sources that stopped, releases, exposure."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Collection, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from feedback_lib import records
from feedback_lib.analysis import counts as counting
from feedback_lib.analysis.counts import DAY_US, SUBJECTS
from feedback_lib.analysis.rates import Floats
from feedback_lib.analysis.weeks import TrendOptions
from feedback_lib.records import WEEK_US, SubjectType

Frame = nw.LazyFrame[Any] | pl.DataFrame | pl.LazyFrame

COLUMNS = {
    "uid",
    "kind",
    "origin",
    "type",
    "title",
    "body",
    "author",
    "created_at_us",
    "duplicate_of",
    "topic_score",
} | {*SUBJECTS.values()}
SURE_STOP = 0.001  # chance of nobody from a source in a week below which the source has stopped


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """A source that people were heard through every week, and nobody this week: no data, not a fall."""

    kind: str
    origin: str
    people: float  # in a usual week
    last_week: dt.date  # Monday of the last week it was heard in


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """Every subject seen in the weeks, as arrays."""

    subjects: list[tuple[SubjectType, str]]
    people: Floats  # (subjects, weeks)
    mentions: Floats
    days: Floats  # (subjects, 7 * weeks) people
    first_us: NDArray[np.int64]  # Monday of the first week a subject was ever seen in
    older: Floats  # people in weeks before these


def frame(understood: Frame, exclude: Collection[tuple[str, str]]) -> nw.LazyFrame[Any]:
    """What was understood, lazily, without some sources; ValueError names a column that is missing."""
    frame = nw.from_native(understood).lazy()
    missing = sorted(COLUMNS - set(frame.collect_schema().names()))
    if missing:
        raise ValueError(f"the understood frame has no column {', '.join(missing)}")
    return without(frame, exclude)


def without(frame: nw.LazyFrame[Any], sources: Collection[tuple[str, str]]) -> nw.LazyFrame[Any]:
    """The signals without those of some sources, given as (kind, origin)."""
    for kind, origin in sources:
        frame = frame.filter(~((nw.col("kind") == kind) & (nw.col("origin") == origin)))
    return frame


def collected(frame: nw.LazyFrame[Any]) -> pl.DataFrame:
    """A counted frame in memory, whatever engine counted it."""
    return frame.collect("polars").to_polars()


def micros(day: dt.date) -> int:
    """The start of a day, in microseconds since the epoch."""
    return (day - dt.date(1970, 1, 1)).days * DAY_US


def date(us: int) -> dt.date:
    """The day of so many microseconds since the epoch."""
    return dt.date(1970, 1, 1) + dt.timedelta(days=us // DAY_US)


def series(counted: pl.DataFrame, column: str, weeks_us: Sequence[int]) -> Floats:
    """(weeks,) one counted column, 0 where a week has no row."""
    by_week = dict(counted.select("week_us", column).iter_rows())
    return np.array([by_week.get(w, 0) for w in weeks_us], dtype=float)


def count(voices: nw.LazyFrame[Any], weeks_us: Sequence[int]) -> Counts:
    """Every subject of every type that was seen in the weeks, sorted."""
    first, weeks = weeks_us[0], len(weeks_us)
    types = tuple(SUBJECTS)
    weekly = collected(counting.weekly_subjects(voices))
    known = (
        weekly.group_by("subject_type", "subject")
        .agg(
            pl.col("week_us").min().alias("first_us"),
            pl.col("week_us").max().alias("last_us"),
            pl.col("people").filter(pl.col("week_us") < first).sum().alias("older"),
        )
        .filter(pl.col("last_us") >= first)
        .sort(pl.col("subject_type").replace_strict({t: n for n, t in enumerate(types)}), "subject")
        .with_row_index("place")
    )
    daily = collected(counting.daily_subjects(voices.filter(nw.col("created_at_us") >= first)))

    def grid(counted: pl.DataFrame, column: str, when: str, step: int, width: int) -> Floats:
        rows = counted.filter(pl.col(when) >= first).join(
            known.select("subject_type", "subject", "place"), on=["subject_type", "subject"]
        )
        found = np.zeros((known.height, width))
        found[rows["place"].to_numpy(), ((rows[when] - first) // step).to_numpy()] = rows[column].to_numpy()
        return found

    return Counts(
        subjects=known.select("subject_type", "subject").rows(),
        people=grid(weekly, "people", "week_us", WEEK_US, weeks),
        mentions=grid(weekly, "mentions", "week_us", WEEK_US, weeks),
        days=grid(daily, "people", "day_us", DAY_US, 7 * weeks),
        first_us=known["first_us"].to_numpy().astype(np.int64),
        older=known["older"].to_numpy().astype(float),
    )


def days_heard(voices: nw.LazyFrame[Any], weeks_us: Sequence[int], as_of: dt.datetime) -> Floats:
    """(days,) people heard; NaN for the days of the report week that come after ``as_of``."""
    counted = dict(collected(counting.daily_heard(voices)).select("day_us", "people").iter_rows())
    days_us = [weeks_us[0] + DAY_US * n for n in range(7 * len(weeks_us))]
    now_us = records.micros(as_of)
    over = now_us if weeks_us[-1] < now_us else days_us[-1]
    return np.array([counted.get(d, 0) if d <= over else np.nan for d in days_us], dtype=float)


def stopped_sources(counted: pl.DataFrame, weeks_us: Sequence[int], options: TrendOptions) -> tuple[Stopped, ...]:
    """Sources heard in every baseline week with data and not in the last, beyond chance, while others still are."""
    found = []
    heard = series(counted.group_by("week_us").agg(pl.col("people").sum()), "people", weeks_us)
    base = [i for i in range(len(heard) - 1 - options.weeks, len(heard) - 1) if heard[i] > 0]
    if not heard[-1] > 0 or len(base) < options.least_weeks:
        return ()
    for (kind, origin), part in sorted(counted.partition_by("kind", "origin", as_dict=True).items()):
        people = series(part, "people", weeks_us)
        usual = people[base]
        if people[-1] > 0 or not (usual > 0).all():
            continue
        factor = max(1.0, float(usual.var(ddof=1) / usual.mean()))
        if np.exp(-usual.mean() / factor) < SURE_STOP:
            last = date(weeks_us[int(np.flatnonzero(people)[-1])])
            found.append(Stopped(str(kind), str(origin), float(usual.mean()), last))
    return tuple(found)


def release_marks(
    seen: nw.LazyFrame[Any],
    deploys: Sequence[tuple[dt.datetime, str | None, str | None]],
    first_us: int,
    end_us: int,
    options: TrendOptions,
) -> dict[int, str]:
    """Day of each release, as a place among the days looked at, with its name; oldest first."""
    told = [
        (records.micros(at), version or f"deploy{f' of {service}' if service else ''}")
        for at, version, service in deploys
    ]
    if not told and "version" in seen.collect_schema().names():
        told = _version_marks(collected(counting.versions(seen)), options)
    names: dict[int, list[str]] = {}
    for at_us, name in sorted(told):
        if first_us <= at_us < end_us and name not in names.setdefault((at_us - first_us) // DAY_US, []):
            names[(at_us - first_us) // DAY_US].append(name)
    return {day: ", ".join(found) for day, found in names.items()}


def _version_marks(versions: pl.DataFrame, options: TrendOptions) -> list[tuple[int, str]]:
    """Versions higher than all before, from when somebody first named them; those of the first week were there."""
    marks: list[tuple[int, str]] = []
    named = versions.filter(pl.col("people") >= options.min_people).sort("first_us", "version")
    highest: tuple[int, ...] = ()
    for version, first_us in named.select("version", "first_us").iter_rows():
        number = tuple(int(part) for part in re.findall(r"\d+", version))
        if number > highest:
            highest = number
            marks.append((first_us, version))
    began = int(named["first_us"].min()) if named.height else 0  # type: ignore[arg-type]
    return [m for m in marks if m[0] >= began + WEEK_US]


def exposed_to(exposure: pl.DataFrame, counts: Counts, weeks_us: Sequence[int]) -> Floats:
    """(subjects, days) exposure; NaN where a day has none."""
    missing = sorted({"day", "exposure"} - set(exposure.columns))
    if missing:
        raise ValueError(f"the exposure has no column {', '.join(missing)}")
    area = next((c for c in ("product_area", "service") if c in exposure.columns), None)
    first, width = date(weeks_us[0]), 7 * len(weeks_us)

    def daily(rows: pl.DataFrame) -> Floats:
        line = np.full(width, np.nan)
        for day, size in rows.group_by("day").agg(pl.col("exposure").sum()).iter_rows():
            if 0 <= (place := (day - first).days) < width:
                line[place] = size
        return line

    whole = exposure.filter(pl.col(area).is_null()) if area else exposure
    total = daily(whole if whole.height else exposure)
    found = np.tile(total, (len(counts.subjects), 1))
    if area == "product_area":
        for place, (subject_type, subject) in enumerate(counts.subjects):
            own = daily(exposure.filter(pl.col(area) == subject)) if subject_type == "product_area" else total
            if np.isfinite(own[np.isfinite(total)]).all():
                found[place] = own
    return found


def usual_weeks(heard: Floats, options: TrendOptions) -> list[int]:
    """Places of the baseline weeks that have data."""
    return [i for i in range(len(heard) - 1 - options.weeks, len(heard) - 1) if heard[i] > 0]
