"""What is new, growing, falling or quiet this week, counted in people and tested so that it can say "nothing".

The question asked of each subject (a topic, a category, a product area, an error fingerprint) is whether its rate this
week differs from its rate in the weeks before. The rate is its share of all people heard, or people per exposure where
exposure is known. In detail (docs/trends.md has the numbers):

1. Given x people this week and b in the baseline, of n and N people heard, x is binomial of x + b with probability
   n / (n + N) when the rate did not change (the conditional test of two Poisson rates).
2. Real counts scatter more than Poisson counts. The counts are divided by a dispersion of at least 1, estimated from
   the baseline weeks of all subjects together (`dispersion`); tails of real-valued counts come from the regularised
   incomplete beta function. One exact point counts half (mid-p).
3. The week alone and the last two weeks together are both compared with the weeks before, so that a growth that
   stays is found in its second week; so are the loudest day and the days since the last releases. The Cauchy rule
   makes one p-value of them, with weights that say how much of the error probability each may spend.
   A finding needs its q-value and a latest week that by itself differs from the weeks before (p < 0.05), so that a
   topic back to its usual size is not called growing for the week before.
4. All subjects of a run are one family for Benjamini-Hochberg. Which kind of finding it is costs no further test.
5. Days that are missing from a week are missing from what it is compared with; weeks with a release are compared
   with weeks with a release.

A week without any signal is "no data" and is left out; it is not a week of zeros. So is a source that stopped.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from feedback_lib import privacy, records
from feedback_lib.analysis import counts as counting
from feedback_lib.analysis.counts import DAY_US, SUBJECTS
from feedback_lib.analysis.counts import person as person
from feedback_lib.analysis.counts import week_us as week_us
from feedback_lib.analysis.counts import weekly_counts as weekly_counts
from feedback_lib.analysis.counts import weekly_heard as weekly_heard
from feedback_lib.analysis.days import AFTER, Days, present
from feedback_lib.analysis.rates import Floats
from feedback_lib.analysis.rates import benjamini_hochberg as benjamini_hochberg
from feedback_lib.analysis.rates import dispersion as dispersion
from feedback_lib.analysis.rates import rate_ratio as rate_ratio
from feedback_lib.analysis.rates import tails as tails
from feedback_lib.analysis.weeks import Comparison
from feedback_lib.analysis.weeks import TrendOptions as TrendOptions
from feedback_lib.analysis.weeks import compare as compare
from feedback_lib.analysis.weeks import power as power
from feedback_lib.records import MACHINES as MACHINES
from feedback_lib.records import WEEK_US, FindingKind, FindingRow, SubjectType, monday

Frame = nw.LazyFrame[Any] | pl.DataFrame | pl.LazyFrame

SPARK_WEEKS = 13
HEARD = "people heard"
USUAL = TrendOptions()
UPWARD: tuple[FindingKind, ...] = ("new", "regression", "growing", "spike")
KINDS: tuple[FindingKind, ...] = (*UPWARD, "recurring", "silent", "falling", "steady")  # strongest first
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
TABLE: dict[str, Any] = {
    "subject_type": pl.String,
    "subject": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "people": pl.Int64,
    "mentions": pl.Int64,
    "baseline_people": pl.Float64,
    "baseline_mentions": pl.Float64,
    "baseline_weeks": pl.Int64,
    "exposed": pl.Float64,
    "baseline_exposed": pl.Float64,
    "ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "q": pl.Float64,
    "dispersion": pl.Float64,
    "day": pl.Date,
    "release": pl.String,
    "weeks_seen": pl.Int64,
    "first_week": pl.Date,
    "spark": pl.List(pl.Float64),
}
_ERROR = re.compile(r"\b(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Timeout|Interrupt|Failure|Panic)\b(?::.*)?")

SURE_STOP = 0.001  # chance of nobody from a source in a week below which the source has stopped


class Deploy(NamedTuple):
    """A mark on the calendar: something was released."""

    at: dt.datetime
    version: str | None = None
    service: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """A source that people were heard through every week, and nobody this week: no data, not a fall."""

    kind: str
    origin: str
    people: float  # in a usual week
    last_week: dt.date  # Monday of the last week it was heard in


@dataclasses.dataclass(frozen=True, slots=True)
class Trends:
    """The answer for one week.

    Attributes:
        week: Monday of the report week.
        rows: One row per subject tested (``steady`` included) and per recurring error, findings first.
        table: One row per subject seen in the last 22 weeks, columns `TABLE`: kind is null when it was not tested ·
            exposed and baseline_exposed, what people are counted out of this week and per baseline week, so that ratio
            is (people / exposed) / (baseline_people / baseline_exposed), null when it was not tested ·
            day, of a spike · release, after which it rose · weeks_seen of the last weeks + 1 ·
            spark, people in 13 weeks, null where no data.
        recurring: The errors that keep coming back, same columns; people are voices, mentions and spark are of
            machines too, and ratio, low, high, p, q and what they come from are null.
        heard: People heard in each of 13 weeks, the report week last; None is no data.
        found: Topics that rose in each of the 13 weeks, by a kind of `UPWARD`; None where nothing could be tested.
        tested: Subjects in the family of the correction.
        baseline_weeks: Complete weeks with data before the report week, at most ``options.weeks``.
        abstained: Why nothing could be tested, as a sentence; None when it could.
        power_people: A typical topic's people per week; None when nothing was tested.
        power_ratio: The smallest growth of such a topic seen four times of five; None when none would be.
        stopped: Sources that stopped; they are left out of all weeks alike.
        missing_days: Days of the report week that are not over, or that nobody was heard on though people usually are.
        releases: The releases looked at, of the 14 days up to the end of the report week, by day.
        per: What rates are counted out of.
        options: What was asked for.
    """

    week: dt.date
    rows: tuple[FindingRow, ...]
    table: pl.DataFrame
    recurring: pl.DataFrame
    heard: tuple[float | None, ...]
    found: tuple[float | None, ...]
    tested: int
    baseline_weeks: int
    abstained: str | None
    power_people: int | None
    power_ratio: float | None
    stopped: tuple[Stopped, ...]
    missing_days: tuple[dt.date, ...]
    releases: tuple[tuple[dt.date, str], ...]
    per: str
    options: TrendOptions

    @property
    def findings(self) -> tuple[FindingRow, ...]:
        """Rows that say something: all but the steady ones."""
        return tuple(r for r in self.rows if r.kind != "steady")


def find(
    understood: Frame,
    week: dt.date,
    topics: pl.DataFrame,
    options: TrendOptions = USUAL,
    *,
    run_id: str,
    as_of: dt.datetime,
    exclude: Collection[tuple[str, str]] = (),
    deploys: Sequence[tuple[dt.datetime, str | None, str | None]] = (),
    exposure: pl.DataFrame | None = None,
    per: str = "exposure",
) -> pl.DataFrame:
    """What `analyse` found in one week, as rows of the table ``findings``, strongest first.

    Arguments as for `analyse`, which also says what was steady, how much was tested and what could have been seen.
    """
    told = analyse(
        understood, week, topics, options,
        run_id=run_id, as_of=as_of, exclude=exclude, deploys=deploys, exposure=exposure, per=per,
    )  # fmt: skip
    return records.frame("findings", told.findings)


def analyse(
    understood: Frame,
    week: dt.date,
    topics: pl.DataFrame,
    options: TrendOptions = USUAL,
    *,
    run_id: str = "",
    as_of: dt.datetime,
    exclude: Collection[tuple[str, str]] = (),
    deploys: Sequence[tuple[dt.datetime, str | None, str | None]] = (),
    exposure: pl.DataFrame | None = None,
    per: str = "exposure",
) -> Trends:
    """Compare one week with the weeks before, subject by subject.

    People's words are counted; what machines report (`MACHINES`) is no voice and counts only for recurring errors.

    Args:
        understood: One row per signal: uid, kind, origin, type, title, body, author, created_at_us, duplicate_of,
            topic_score and the columns of `SUBJECTS`; version where it is known. Signals after the week are not
            looked at.
        week: Any day of the report week.
        topics: The registry, for names; may be empty.
        options: What counts as a trend.
        run_id: Written into every row.
        as_of: Written into every row; days of the report week after it are not there yet.
        exclude: (kind, origin) of sources that could not be read: they are left out of all weeks alike, or what they
            usually say would look like falling.
        deploys: (at, version, service) of releases. Without any, the first day of each newer ``version`` is one.
        exposure: One row per day (and product_area or service): day Date · exposure, more than 0. Rates are then
            people per exposure; product areas with days of their own are counted out of them. Days without a row
            are no data.
        per: What the exposure is, such as "active users".

    Raises:
        ValueError: a column is missing; the message names it.
    """
    start = monday(week)
    end_us = _micros(start) + WEEK_US
    seen = _frame(understood, exclude).filter(nw.col("created_at_us") < end_us)
    span = SPARK_WEEKS + options.weeks + 1
    weeks_us = [end_us - WEEK_US * back for back in range(span, 0, -1)]
    stopped = _stopped(_collected(counting.weekly_sources(counting.voices(seen))), weeks_us, options)
    seen = _without(seen, [(s.kind, s.origin) for s in stopped])
    voices = counting.voices(seen)
    heard = _series(_collected(counting.weekly_heard(voices)), "people", weeks_us)
    counts = _count(voices, weeks_us)
    marks = _marks(seen, deploys, weeks_us[0], end_us, options)
    exposed, exposed_days = _exposed(exposure, counts, weeks_us) if exposure is not None else (None, None)
    days = Days(counts.days, _days_heard(voices, weeks_us, as_of), tuple(marks), exposed_days)
    parts = np.array([t == "topic" for t, _ in counts.subjects], dtype=bool)
    comparisons = [
        compare(
            counts.people[:, :t], heard[:t], options,
            parts=parts, days=days.until(t), exposed=None if exposed is None else exposed[:, :t],
        )
        for t in range(span - SPARK_WEEKS + 1, span + 1)
    ]  # fmt: skip
    kinds = [
        None if c is None else _kinds(counts, c, span - SPARK_WEEKS + n, weeks_us, options)
        for n, c in enumerate(comparisons)
    ]
    found = [None if k is None else float((np.isin(k, UPWARD) & parts).sum()) for k in kinds]
    now = comparisons[-1]
    table = _table(counts, heard, now, kinds[-1], weeks_us, _names(counts, topics, seen), marks, options)
    recurring = _recurring(seen, counts, weeks_us, options)
    evidence = _evidence(seen, end_us, options)
    rates = HEARD if exposure is None else per
    stamp = {"week": start, "run_id": run_id, "updated_at": as_of, "per": rates}
    told = table.filter(pl.col("kind").is_not_null())
    rows = [_row(r, evidence, stamp) for t in (told, recurring) for r in t.iter_rows(named=True)]
    tested = int(table["q"].count())
    usual, ratio = _power(table, heard, tested, options)
    return Trends(
        week=start,
        rows=tuple(sorted(rows, key=_strength)),
        table=table,
        recurring=recurring,
        heard=tuple(float(h) if h > 0 else None for h in heard[-SPARK_WEEKS:]),
        found=tuple(found),
        tested=tested,
        baseline_weeks=int((heard[-1 - options.weeks : -1] > 0).sum()),
        abstained=None if now is not None else _why_not(heard, exposed, options),
        power_people=usual,
        power_ratio=ratio,
        stopped=stopped,
        missing_days=_missing_days(days, now, start),
        releases=tuple((_day(weeks_us[0] + DAY_US * d), name) for d, name in marks.items() if d >= 7 * span - AFTER),
        per=rates,
        options=options,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Counts:
    subjects: list[tuple[SubjectType, str]]
    people: Floats  # (subjects, weeks)
    mentions: Floats
    days: Floats  # (subjects, 7 * weeks) people
    first_us: NDArray[np.int64]  # Monday of the first week a subject was ever seen in
    older: Floats  # people in weeks before these


def _frame(understood: Frame, exclude: Collection[tuple[str, str]]) -> nw.LazyFrame[Any]:
    frame = nw.from_native(understood).lazy()
    missing = sorted(COLUMNS - set(frame.collect_schema().names()))
    if missing:
        raise ValueError(f"the understood frame has no column {', '.join(missing)}")
    return _without(frame, exclude)


def _without(frame: nw.LazyFrame[Any], sources: Collection[tuple[str, str]]) -> nw.LazyFrame[Any]:
    for kind, origin in sources:
        frame = frame.filter(~((nw.col("kind") == kind) & (nw.col("origin") == origin)))
    return frame


def _collected(frame: nw.LazyFrame[Any]) -> pl.DataFrame:
    return frame.collect("polars").to_polars()


def _micros(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * DAY_US


def _day(us: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=us // DAY_US)


def _series(counted: pl.DataFrame, column: str, weeks_us: Sequence[int]) -> Floats:
    by_week = dict(counted.select("week_us", column).iter_rows())
    return np.array([by_week.get(w, 0) for w in weeks_us], dtype=float)


def _count(voices: nw.LazyFrame[Any], weeks_us: Sequence[int]) -> _Counts:
    """Every subject of every type that was seen in the weeks, sorted."""
    first, weeks = weeks_us[0], len(weeks_us)
    types = tuple(SUBJECTS)
    weekly = _collected(counting.weekly_subjects(voices))
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
    daily = _collected(counting.daily_subjects(voices.filter(nw.col("created_at_us") >= first)))

    def grid(counted: pl.DataFrame, column: str, when: str, step: int, width: int) -> Floats:
        rows = counted.filter(pl.col(when) >= first).join(
            known.select("subject_type", "subject", "place"), on=["subject_type", "subject"]
        )
        found = np.zeros((known.height, width))
        found[rows["place"].to_numpy(), ((rows[when] - first) // step).to_numpy()] = rows[column].to_numpy()
        return found

    return _Counts(
        subjects=known.select("subject_type", "subject").rows(),
        people=grid(weekly, "people", "week_us", WEEK_US, weeks),
        mentions=grid(weekly, "mentions", "week_us", WEEK_US, weeks),
        days=grid(daily, "people", "day_us", DAY_US, 7 * weeks),
        first_us=known["first_us"].to_numpy().astype(np.int64),
        older=known["older"].to_numpy().astype(float),
    )


def _days_heard(voices: nw.LazyFrame[Any], weeks_us: Sequence[int], as_of: dt.datetime) -> Floats:
    """(days,) people heard; NaN for the days of the report week that come after ``as_of``."""
    counted = dict(_collected(counting.daily_heard(voices)).select("day_us", "people").iter_rows())
    days_us = [weeks_us[0] + DAY_US * n for n in range(7 * len(weeks_us))]
    now_us = records.micros(as_of)
    over = now_us if weeks_us[-1] < now_us else days_us[-1]
    return np.array([counted.get(d, 0) if d <= over else np.nan for d in days_us], dtype=float)


def _missing_days(days: Days, now: Comparison | None, start: dt.date) -> tuple[dt.date, ...]:
    if now is None:
        return ()
    (part,) = present(days, [len(days.heard) // 7 - 1], now.base)
    heard = np.nan_to_num(days.heard[-7:])
    return tuple(start + dt.timedelta(days=d) for d in range(7) if part[d] < 1 and heard[d] == 0)


def _stopped(counted: pl.DataFrame, weeks_us: Sequence[int], options: TrendOptions) -> tuple[Stopped, ...]:
    """Sources heard in every baseline week with data and not in the last, beyond chance, while others still are."""
    found = []
    heard = _series(counted.group_by("week_us").agg(pl.col("people").sum()), "people", weeks_us)
    base = [i for i in range(len(heard) - 1 - options.weeks, len(heard) - 1) if heard[i] > 0]
    if not heard[-1] > 0 or len(base) < options.least_weeks:
        return ()
    for (kind, origin), part in sorted(counted.partition_by("kind", "origin", as_dict=True).items()):
        people = _series(part, "people", weeks_us)
        usual = people[base]
        if people[-1] > 0 or not (usual > 0).all():
            continue
        factor = max(1.0, float(usual.var(ddof=1) / usual.mean()))
        if np.exp(-usual.mean() / factor) < SURE_STOP:
            last = _day(weeks_us[int(np.flatnonzero(people)[-1])])
            found.append(Stopped(str(kind), str(origin), float(usual.mean()), last))
    return tuple(found)


def _marks(
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
        told = _version_marks(_collected(counting.versions(seen)), options)
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


def _exposed(exposure: pl.DataFrame, counts: _Counts, weeks_us: Sequence[int]) -> tuple[Floats, Floats]:
    """(subjects, weeks) and (days,) exposure; NaN where a day has none."""
    missing = sorted({"day", "exposure"} - set(exposure.columns))
    if missing:
        raise ValueError(f"the exposure has no column {', '.join(missing)}")
    area = next((c for c in ("product_area", "service") if c in exposure.columns), None)
    first, width = _day(weeks_us[0]), 7 * len(weeks_us)

    def daily(rows: pl.DataFrame) -> Floats:
        line = np.full(width, np.nan)
        for day, size in rows.group_by("day").agg(pl.col("exposure").sum()).iter_rows():
            if 0 <= (place := (day - first).days) < width:
                line[place] = size
        return line

    whole = exposure.filter(pl.col(area).is_null()) if area else exposure
    total = daily(whole if whole.height else exposure)
    weekly = total.reshape(-1, 7).sum(axis=1)
    found = np.tile(weekly, (len(counts.subjects), 1))
    if area == "product_area":
        for place, (subject_type, subject) in enumerate(counts.subjects):
            if subject_type == "product_area":
                own = daily(exposure.filter(pl.col(area) == subject)).reshape(-1, 7).sum(axis=1)
                if np.isfinite(own[np.isfinite(weekly)]).all():
                    found[place] = own
    return found, total


def _kinds(
    counts: _Counts, now: Comparison, at: int, weeks_us: Sequence[int], options: TrendOptions
) -> NDArray[np.object_]:
    """The kind of each subject in the week at one place; None where it was not tested."""
    x = counts.people[:, at]
    usual = now.baseline / now.exposure[1]
    more = x / now.exposure[0] > usual
    sure = (now.q < options.q) & now.clear
    less = sure & ~more & (now.baseline / now.weeks >= options.min_people)
    up = sure & more & (x >= options.min_people)
    recent = counts.people[:, max(0, at - options.weeks) : at].sum(axis=1)
    fresh = (recent <= 1) | (counts.first_us >= weeks_us[at] - WEEK_US)
    kind = np.full(len(x), "steady", dtype=object)
    kind[less] = "falling"
    kind[less & (x == 0)] = "silent"
    kind[up] = "growing"
    kind[up & (now.release >= 0)] = "regression"
    kind[up & now.spike] = "spike"
    kind[up & fresh] = "new"
    kind[up & _returned(counts, at, options)] = "recurring"
    kind[np.isnan(now.q)] = None
    return kind


def _returned(counts: _Counts, at: int, options: TrendOptions) -> NDArray[np.bool_]:
    """Whether a subject that people spoke of was silent for half of the baseline's weeks until this week or last."""
    long = max(1, options.weeks // 2)
    back = np.zeros(len(counts.subjects), dtype=bool)
    for since in (at, at - 1):
        silent = counts.people[:, since - long : since].sum(axis=1) == 0
        before = counts.older + counts.people[:, : since - long].sum(axis=1)
        back |= silent & (before >= options.min_people) & (counts.people[:, since] > 0)
    return back


def _names(counts: _Counts, topics: pl.DataFrame, seen: nw.LazyFrame[Any]) -> dict[tuple[str, str], str]:
    known = {str(k): str(v) for k, v in topics.select("topic_id", "name").iter_rows()}
    names = {(t, s): known.get(s, f"topic {s}") if t == "topic" else s.replace("_", " ") for t, s in counts.subjects}
    return names | _error_names(seen)


def _error_names(seen: nw.LazyFrame[Any]) -> dict[tuple[str, str], str]:
    """An error is called by the error line of the first signal that showed it."""
    firsts = (
        _collected(
            seen.filter(~nw.col("fingerprint").is_null()).select("fingerprint", "created_at_us", "uid", "title", "body")
        )
        .sort("created_at_us", "uid")
        .unique("fingerprint", keep="first", maintain_order=True)
    )
    return {("error", f): privacy.redact(error_name(f"{title}\n{body}")) for f, _, _, title, body in firsts.iter_rows()}


def error_name(text: str) -> str:
    r"""The line of a text that names its error, else its first line; at most 80 characters.

    >>> error_name("It broke\nTraceback (most recent call last):\n  ...\nKeyError: 'region'")
    "KeyError: 'region'"
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [found.group() for line in lines if (found := _ERROR.search(line))]
    name = (named[-1] if named else lines[0] if lines else "error").strip(" .:`*")
    return name if len(name) <= 80 else f"{name[:79].rstrip()}…"


def _table(
    counts: _Counts,
    heard: Floats,
    now: Comparison | None,
    kinds: NDArray[np.object_] | None,
    weeks_us: Sequence[int],
    names: Mapping[tuple[str, str], str],
    marks: Mapping[int, str],
    options: TrendOptions,
) -> pl.DataFrame:
    base = list(now.base) if now is not None else _usual_weeks(heard, options)
    releases = tuple(marks.values())
    rows = []
    for i, (subject_type, subject) in enumerate(counts.subjects):
        people, mentions = counts.people[i], counts.mentions[i]
        tested = now is not None and bool(np.isfinite(now.q[i]))
        ratio, low, high, n, before = None, None, None, None, None
        if now is not None and tested:
            n, before = float(now.exposure[0][i]), float(now.exposure[1][i])
            ratio, low, high = rate_ratio(
                people[-1], n, now.baseline[i], before, dispersion=float(now.spread[i]), level=options.level
            )
        kind = None if kinds is None else kinds[i]
        release = int(now.release[i]) if now is not None and kind in UPWARD else -1
        rows.append(
            {
                "subject_type": subject_type,
                "subject": subject,
                "name": names[subject_type, subject],
                "kind": kind,
                "people": int(people[-1]),
                "mentions": int(mentions[-1]),
                "baseline_people": float(people[base].mean()) if base else None,
                "baseline_mentions": float(mentions[base].mean()) if base else None,
                "baseline_weeks": len(base),
                "exposed": n,
                "baseline_exposed": before / now.weeks if now is not None and before is not None else None,
                "ratio": ratio,
                "low": low,
                "high": high,
                "p": float(now.p[i]) if now is not None and tested else None,
                "q": float(now.q[i]) if now is not None and tested else None,
                "dispersion": float(now.dispersion[i]) if now is not None else None,
                "day": _day(weeks_us[-1] + DAY_US * int(now.day[i])) if now is not None and kind == "spike" else None,
                "release": releases[release] if release >= 0 else None,
                "weeks_seen": int((mentions[-1 - options.weeks :] > 0).sum()),
                "first_week": _day(int(counts.first_us[i])),
                "spark": _spark(people, heard),
            }
        )
    return pl.DataFrame(rows, schema=TABLE, orient="row")


def _spark(counted: Floats, heard: Floats) -> list[float | None]:
    return [float(c) if h > 0 else None for c, h in zip(counted[-SPARK_WEEKS:], heard[-SPARK_WEEKS:], strict=True)]


def _recurring(
    seen: nw.LazyFrame[Any], counts: _Counts, weeks_us: Sequence[int], options: TrendOptions
) -> pl.DataFrame:
    """Errors that keep coming back, said by people or hit by machines.

    People are voices only; mentions and ``spark`` are of all. A share of all people says nothing about machines, so
    there is no ratio and no test.
    """
    everything = _collected(weekly_counts(seen, "fingerprint"))
    heard = _series(_collected(weekly_heard(seen)), "mentions", weeks_us)
    voices = dict(zip(counts.subjects, counts.people, strict=True))
    names = _error_names(seen)
    blank: dict[str, Any] = dict.fromkeys(TABLE)
    window = slice(-1 - options.weeks, None)
    base = _usual_weeks(heard, options)
    rows = []
    for (fingerprint,), part in sorted(everything.partition_by("fingerprint", as_dict=True).items(), key=str):
        subject = str(fingerprint)
        mentions = _series(part, "mentions", weeks_us)
        people = voices.get(("error", subject), np.zeros(len(weeks_us)))
        weeks_seen = int((mentions[window] > 0).sum())
        lately = mentions[-2:].sum() > 0
        if weeks_seen < options.recurring_weeks or mentions[window].sum() < options.min_mentions or not lately:
            continue
        rows.append(
            blank
            | {
                "subject_type": "error",
                "subject": subject,
                "name": names["error", subject],
                "kind": "recurring",
                "people": int(people[-1]),
                "mentions": int(mentions[-1]),
                "baseline_people": float(people[base].mean()) if base else None,
                "baseline_mentions": float(mentions[base].mean()) if base else None,
                "baseline_weeks": len(base),
                "weeks_seen": weeks_seen,
                "first_week": _day(int(part["week_us"].min())),  # type: ignore[arg-type]
                "spark": _spark(mentions, heard),
            }
        )
    return pl.DataFrame(rows, schema=TABLE, orient="row").sort(
        "weeks_seen", "mentions", "subject", descending=[True, True, False]
    )


def _usual_weeks(heard: Floats, options: TrendOptions) -> list[int]:
    return [i for i in range(len(heard) - 1 - options.weeks, len(heard) - 1) if heard[i] > 0]


def _evidence(seen: nw.LazyFrame[Any], end_us: int, options: TrendOptions) -> dict[tuple[object, ...], pl.DataFrame]:
    """Signals of each subject in the window, best evidence first: this week's, originals, most central, oldest."""
    window = seen.filter(nw.col("created_at_us") >= end_us - WEEK_US * (options.weeks + 1))
    rows = _collected(counting.evidence(window)).with_columns(now=pl.col("created_at_us") >= end_us - WEEK_US)
    order = ["now", pl.col("duplicate_of").is_null(), pl.col("topic_score").fill_null(0), "created_at_us", "uid"]
    rows = rows.sort(order, descending=[True, True, True, False, False])
    return rows.partition_by("subject_type", "subject", as_dict=True)


def _row(
    found: Mapping[str, Any], evidence: Mapping[tuple[object, ...], pl.DataFrame], stamp: Mapping[str, Any]
) -> FindingRow:
    kind: FindingKind = found["kind"]
    mine = evidence.get((found["subject_type"], found["subject"]))
    if mine is not None and kind not in ("falling", "silent") and not (kind == "recurring" and found["q"] is None):
        mine = mine.filter("now")  # what fell or keeps coming back has its evidence in the weeks before
    if mine is not None and found["day"] is not None:
        day_us = _micros(found["day"])
        mine = mine.filter(pl.col("created_at_us").is_between(day_us, day_us + DAY_US, closed="left"))
    origins: list[str] = []
    if mine is not None:
        named = mine.group_by(pl.concat_str("kind", "origin", separator=":").alias("source")).len()
        origins = named.sort("len", "source", descending=[True, False])["source"].to_list()
    series = "recurring" if found["q"] is None else "trend"
    key = "\0".join((series, found["subject_type"], found["subject"], stamp["week"].isoformat()))
    return FindingRow(
        finding_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        evidence=() if mine is None else tuple(mine["uid"]),
        origins=tuple(origins),
        **stamp,
        **{
            c: found[c]
            for c in (
                "kind", "subject_type", "subject", "name", "people", "mentions", "baseline_people",
                "baseline_mentions", "baseline_weeks", "ratio", "low", "high", "p", "q", "release",
            )
        },
    )  # fmt: skip


def _strength(row: FindingRow) -> tuple[int, int, float, int, str]:
    """In the order of `KINDS`, topics first, surest first."""
    return (
        KINDS.index(row.kind),
        tuple(SUBJECTS).index(row.subject_type),
        1.0 if row.q is None else row.q,
        -row.people,
        row.subject,
    )


def _why_not(heard: Floats, exposed: Floats | None, options: TrendOptions) -> str:
    if not heard[-1] > 0:
        return "nobody was heard this week"
    if exposed is not None and not np.isfinite(exposed[:, -1]).all():
        return "the exposure of this week has days missing"
    has_data = heard[-1 - options.weeks : -1] > 0
    what = "data"
    if exposed is not None:
        has_data &= np.isfinite(exposed[:, -1 - options.weeks : -1]).all(axis=0)
        what = "data and exposure"
    have = int(has_data.sum())
    if not have:
        return f"no earlier week has {what}, {options.least_weeks} are needed"
    return f"only {have} earlier {'week has' if have == 1 else 'weeks have'} {what}, {options.least_weeks} are needed"


def _power(table: pl.DataFrame, heard: Floats, tested: int, options: TrendOptions) -> tuple[int | None, float | None]:
    """For a topic of typical size among the larger half: its people per week, and the growth that would be seen."""
    usual = table.filter(pl.col("subject_type") == "topic", pl.col("q").is_not_null())
    before = heard[-1 - options.weeks : -1]
    if not tested or usual.is_empty():
        return None, None
    typical = max(options.min_people, round(float(usual["baseline_people"].quantile(0.75) or 0)))
    spread = float(usual["dispersion"].median() or 1.0)  # type: ignore[arg-type]
    all_heard = max(float(typical), float(before[before > 0].mean()))
    return typical, power(typical, all_heard, tests=tested, dispersion=spread, options=options, daily=True)
