"""What was found, in rows: every subject with its numbers, the errors that recur, and findings with their evidence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from feedback_lib import privacy
from feedback_lib.analysis import counts as counting
from feedback_lib.analysis import tallies
from feedback_lib.analysis.counts import DAY_US, SUBJECTS
from feedback_lib.analysis.rates import Floats, rate_ratio
from feedback_lib.analysis.weeks import Comparison, TrendOptions
from feedback_lib.records import WEEK_US, FindingKind, FindingRow

SPARK_WEEKS = 13
UPWARD: tuple[FindingKind, ...] = ("new", "regression", "growing", "spike")
KINDS: tuple[FindingKind, ...] = (*UPWARD, "recurring", "silent", "falling", "steady")  # strongest first
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


def named(counts: tallies.Counts, topics: pl.DataFrame, seen: nw.LazyFrame[Any]) -> dict[tuple[str, str], str]:
    """What each subject is called: topics by the registry, errors by their line, the rest by themselves."""
    known = {str(k): str(v) for k, v in topics.select("topic_id", "name").iter_rows()}
    names = {(t, s): known.get(s, f"topic {s}") if t == "topic" else s.replace("_", " ") for t, s in counts.subjects}
    return names | _error_names(seen)


def _error_names(seen: nw.LazyFrame[Any]) -> dict[tuple[str, str], str]:
    """An error is called by the error line of the first signal that showed it."""
    firsts = (
        tallies.collected(
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


def table(
    counts: tallies.Counts,
    heard: Floats,
    now: Comparison | None,
    kinds: NDArray[np.object_] | None,
    weeks_us: Sequence[int],
    names: Mapping[tuple[str, str], str],
    marks: Mapping[int, str],
    options: TrendOptions,
) -> pl.DataFrame:
    """One row per subject, columns `TABLE`, as `trends.Trends.table` describes them."""
    base = list(now.base) if now is not None else tallies.usual_weeks(heard, options)
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
                "day": tallies.date(weeks_us[-1] + DAY_US * int(now.day[i]))
                if now is not None and kind == "spike"
                else None,
                "release": releases[release] if release >= 0 else None,
                "weeks_seen": int((mentions[-1 - options.weeks :] > 0).sum()),
                "first_week": tallies.date(int(counts.first_us[i])),
                "spark": _spark(people, heard),
            }
        )
    return pl.DataFrame(rows, schema=TABLE, orient="row")


def _spark(counted: Floats, heard: Floats) -> list[float | None]:
    return [float(c) if h > 0 else None for c, h in zip(counted[-SPARK_WEEKS:], heard[-SPARK_WEEKS:], strict=True)]


def recurring_errors(
    seen: nw.LazyFrame[Any], counts: tallies.Counts, weeks_us: Sequence[int], options: TrendOptions
) -> pl.DataFrame:
    """Errors that keep coming back, said by people or hit by machines.

    People are voices only; mentions and ``spark`` are of all. A share of all people says nothing about machines, so
    there is no ratio and no test.
    """
    everything = tallies.collected(counting.weekly_counts(seen, "fingerprint"))
    heard = tallies.series(tallies.collected(counting.weekly_heard(seen)), "mentions", weeks_us)
    voices = dict(zip(counts.subjects, counts.people, strict=True))
    names = _error_names(seen)
    blank: dict[str, Any] = dict.fromkeys(TABLE)
    window = slice(-1 - options.weeks, None)
    base = tallies.usual_weeks(heard, options)
    rows = []
    for (fingerprint,), part in sorted(everything.partition_by("fingerprint", as_dict=True).items(), key=str):
        subject = str(fingerprint)
        mentions = tallies.series(part, "mentions", weeks_us)
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
                "first_week": tallies.date(int(part["week_us"].min())),  # type: ignore[arg-type]
                "spark": _spark(mentions, heard),
            }
        )
    return pl.DataFrame(rows, schema=TABLE, orient="row").sort(
        "weeks_seen", "mentions", "subject", descending=[True, True, False]
    )


def evidence(seen: nw.LazyFrame[Any], end_us: int, options: TrendOptions) -> dict[tuple[object, ...], pl.DataFrame]:
    """Signals of each subject in the window, best evidence first: this week's, originals, most central, oldest."""
    window = seen.filter(nw.col("created_at_us") >= end_us - WEEK_US * (options.weeks + 1))
    rows = tallies.collected(counting.evidence(window)).with_columns(now=pl.col("created_at_us") >= end_us - WEEK_US)
    order = ["now", pl.col("duplicate_of").is_null(), pl.col("topic_score").fill_null(0), "created_at_us", "uid"]
    rows = rows.sort(order, descending=[True, True, True, False, False])
    return rows.partition_by("subject_type", "subject", as_dict=True)


def finding(
    found: Mapping[str, Any], evidence: Mapping[tuple[object, ...], pl.DataFrame], stamp: Mapping[str, Any]
) -> FindingRow:
    """One row of the table ``findings``, with its evidence and where that came from."""
    kind: FindingKind = found["kind"]
    mine = evidence.get((found["subject_type"], found["subject"]))
    if mine is not None and kind not in ("falling", "silent") and not (kind == "recurring" and found["q"] is None):
        mine = mine.filter("now")  # what fell or keeps coming back has its evidence in the weeks before
    if mine is not None and found["day"] is not None:
        day_us = tallies.micros(found["day"])
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


def strength(row: FindingRow) -> tuple[int, int, float, int, str]:
    """In the order of `KINDS`, topics first, surest first."""
    return (
        KINDS.index(row.kind),
        tuple(SUBJECTS).index(row.subject_type),
        1.0 if row.q is None else row.q,
        -row.people,
        row.subject,
    )
