"""Silent friction: what workflows run into (steps skipped, errors met, phases that grew), beside what people say.

A step is skipped, or an error met, by distinct workflows; how often it happened in one of them does not matter. People
say the same when their text shows the same error (by fingerprint), or when it means the same: cosine of its vector and
the friction's name at least `SAME_TEXT`. A topic is about it from `SAME_TOPIC` on; then all its people count. Who
praises says nothing of a friction, nor does a topic that is mostly praise.

The limits were chosen for the default encoder, on sentences of ours (``tests/analysis/test_friction.py``): 23 of 29
about 11 steps are found and none goes to another step; of 28 that sound alike and are about something else, and of
1,807 texts of another product, none is joined. Of 10 about 5 errors 7 are found, of 12 alike none. The mean of what
is said of a step lies at 0.60 to 0.88, topics of the sample at 0.40 or less. A wrong join is worse than none, so with
another encoder only fingerprints join.

A phase takes longer when the later half of its workflows does, over all weeks that are looked at, and the interval of
the ratio (`patterns.growths`, for all phases together) lies above 1. Nobody is joined to it: "planning is slow" may
be said of the team, the tool or the week.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feedback_lib.analysis.findings import error_name
from feedback_lib.analysis.patterns import Thresholds, error_key, growths, reaches, shortened
from feedback_lib.records import MACHINES, MONDAY_US, WEEK_US, FrictionKind, FrictionRow, micros, monday

Vectors = NDArray[np.floating[Any]]
MEASURED = "minilm-"  # what the names of the encoders begin with that the limits were measured for
SAME_TEXT: Mapping[FrictionKind, float] = {"skip": 0.58, "error": 0.7}
SAME_TOPIC: Mapping[FrictionKind, float] = {"skip": 0.55, "error": 0.7}
USUAL = Thresholds()
PRAISE = (pl.col("category") == "praise").fill_null(False) | (pl.col("dx_label") == "DX Delight").fill_null(False)


@dataclasses.dataclass(frozen=True)
class Meaning:
    """Vectors of what people said, and what makes more of them; all of length 1.

    ``uids`` and ``vectors`` (n, d) are of the texts that can be read. ``topics`` are the centroids (d,) by topic id.
    """

    uids: Sequence[str]
    vectors: Vectors
    topics: Mapping[int, Vectors]
    encode: Callable[[Sequence[str]], Vectors]


def find(
    understood: pl.DataFrame,
    week: dt.date,
    *,
    run_id: str,
    as_of: dt.datetime,
    meaning: Meaning | None = None,
    options: Thresholds = USUAL,
    weeks: int = 8,
    exclude: Sequence[tuple[str, str]] = (),
) -> list[FrictionRow]:
    """What workflows ran into in one week, each with who said so.

    Args:
        understood: As for `trends.analyse`, with native_id and labels.
        week: Any day of the report week.
        run_id: Written into every row.
        as_of: Written into every row.
        meaning: How alike texts are; None joins by fingerprint alone.
        options: From when on a friction is told though nobody says so, and at which level a phase grew.
        weeks: How many weeks before it are counted, too.
        exclude: Sources (kind, origin) left out of every week alike.

    Returns:
        Those hit in that week, by most workflows first. Empty where no workflow was read.
    """
    start = micros(dt.datetime.combine(monday(week), dt.time(), dt.UTC))
    place = (pl.col("created_at_us") - MONDAY_US).floordiv(WEEK_US) - (start - MONDAY_US) // WEEK_US
    window = understood.with_columns(place=place).filter(pl.col("place").is_between(-weeks, 0))
    for kind, origin in exclude:
        window = window.filter(~((pl.col("kind") == kind) & (pl.col("origin") == origin)))
    hits = _hits(window)
    if hits.filter(pl.col("place") == 0).is_empty():
        return []
    voices = window.filter(~pl.col("type").is_in(MACHINES))
    voices = voices.with_columns(person=pl.coalesce("author", pl.concat_str(pl.lit("signal "), "uid")))
    of = _by_week(hits, weeks)
    told = hits.filter(pl.col("what").is_in(("skip", "error"))).sort("created_at_us", "uid")
    named = [_named(part, weeks) for part in told.partition_by("what", "key", maintain_order=True)]
    named = [n for n in named if n["by_week"][-1]]
    joined = _joined(named, voices, meaning)
    rows = []
    for name, (said, topic, similarity) in zip(named, joined, strict=True):
        heard = voices.filter(pl.col("uid").is_in(said)).sort(-pl.col("place"), "created_at_us", "uid")
        now = heard.filter(pl.col("place") == 0)["person"].unique()
        before = heard.filter(pl.col("place") < 0, ~pl.col("person").is_in(now.implode()))["person"].n_unique()
        hit = name["by_week"][-1]
        rows.append(
            FrictionRow(
                friction_id=_id(name["kind"], name["key"], monday(week)),
                **name,
                week=monday(week),
                workflows=hit,
                of=of[-1],
                of_by_week=of,
                people=now.len(),
                people_before=before,
                topic_id=topic,
                similarity=similarity,
                said=tuple(heard["uid"]),
                telling=_telling(name["kind"], hit, of[-1], options),
                updated_at=as_of,
                run_id=run_id,
            )
        )
    for name in _grown(hits, weeks, options.drift_level):
        own = _id("phase", name["key"], monday(week))
        rows.append(FrictionRow(friction_id=own, **name, week=monday(week), updated_at=as_of, run_id=run_id))
    return sorted(rows, key=lambda r: (-r.workflows, r.kind, r.key))


def _id(kind: FrictionKind, key: str, week: dt.date) -> str:
    return hashlib.sha256(f"{kind}\0{key}\0{week}".encode()).hexdigest()[:32]


def _telling(kind: FrictionKind, hit: int, of: int, options: Thresholds) -> bool:
    """Whether it is worth telling though nobody says so."""
    if kind == "skip":
        return of >= options.least_workflows and reaches(hit, of, options.skip_share)
    return hit >= options.error_workflows


def _hits(window: pl.DataFrame) -> pl.DataFrame:
    """What workflows tell, one row per signal: workflow · what (skip, error, phase, workflow) · key · phase; its own.

    The key of a skip is its item; that of an error is as in the review of workflows: its fingerprint where an error is
    seen in what was printed, so that two commands that ended with the same code are two.
    """
    parts = pl.col("native_id").str.split("/")
    told = pl.col("native_id").str.contains("^[^/]+/(skip|error|phase|workflow)")
    own = window.filter(pl.col("type") == "workflow", told)
    own = own.with_columns(
        workflow=pl.concat_str("kind", "origin", parts.list.first(), separator="\0"),
        what=parts.list.get(1),
        rest=parts.list.slice(2).list.join("/"),
    )
    return own.with_columns(
        key=pl.when(pl.col("what") == "error")
        .then(pl.Series(_error_keys(own), dtype=pl.String))
        .otherwise(pl.col("rest")),
        phase=pl.when(pl.col("what") == "skip")  # labels: skipped, phase, item; error, tool or project, phase, item
        .then(pl.col("labels").list.get(1, null_on_oob=True))
        .otherwise(pl.col("labels").list.get(2, null_on_oob=True)),
    ).filter((pl.col("key") != "") | (pl.col("what") == "workflow"))


def _error_keys(own: pl.DataFrame) -> Iterator[str | None]:
    for what, title, body in own.select("what", "title", "body").iter_rows():
        yield error_key(body or title) if what == "error" and (body or title) else None


def _grown(hits: pl.DataFrame, weeks: int, level: float) -> Iterator[dict[str, Any]]:
    """The phases that take longer in the later half of their workflows, of which at least one is of this week.

    Each log is looked at alone: another mix of two projects is no growth.
    """
    spent = hits.filter(pl.col("what") == "phase").with_columns(
        key=pl.col("labels").list.get(1, null_on_oob=True),
        seconds=pl.col("labels").list.get(2, null_on_oob=True).cast(pl.Float64, strict=False),
    )
    spent = spent.filter(pl.col("seconds").is_finite(), pl.col("seconds") >= 0, pl.col("key") != "")
    spent = spent.sort("created_at_us", "uid").unique(["workflow", "key"], keep="last", maintain_order=True)
    for log in spent.partition_by("kind", "origin", maintain_order=True):
        phases = {str(part["key"][0]): part for part in log.partition_by("key", maintain_order=True)}
        changes = growths({key: part["seconds"].to_list() for key, part in phases.items()}, level)
        for key, part in phases.items():
            change = changes[key]
            if change.low is None or change.low <= 1 or part["place"][-1] < 0:
                continue
            part = part.tail(len(change.earlier) + len(change.later))
            later = part.tail(len(change.later))
            alone = spent.select("kind", "origin").n_unique() == 1
            yield {
                "kind": "phase",
                "key": key if alone else f"{key} in {log['origin'][0]}",
                "name": shortened(key if alone else f"{key} in {log['origin'][0]}", 60),
                "phase": key,
                "reason": "",
                "workflows": later.height,
                "of": part.height,
                "by_week": _by_week(later, weeks),
                "of_by_week": _by_week(part, weeks),
                "people": 0,
                "people_before": 0,
                "topic_id": None,
                "similarity": None,
                "telling": True,
                "said": (),
                "evidence": tuple(part["uid"].reverse()),
                "earlier_s": statistics.median(change.earlier),
                "later_s": statistics.median(change.later),
                "ratio": change.ratio,
                "low": change.low,
                "high": change.high,
            }


def _by_week(hits: pl.DataFrame, weeks: int) -> tuple[int, ...]:
    """Distinct workflows by week, oldest first, the report week last."""
    counted = dict(hits.group_by("place").agg(pl.col("workflow").n_unique()).iter_rows())
    return tuple(counted.get(place, 0) for place in range(-weeks, 1))


def _named(part: pl.DataFrame, weeks: int) -> dict[str, Any]:
    """What one thing is called, how many workflows it hit by week, and this week's signals of it, oldest first."""
    now, first = part.filter(pl.col("place") == 0), part.row(0, named=True)
    skip = first["what"] == "skip"
    reasons = (now["body"].str.strip_chars() if skip else now["body"].clear()).value_counts(sort=True)
    reasons = reasons.filter(pl.col("body") != "").sort("count", "body", descending=[True, False])
    phases = now["phase"].drop_nulls().mode().sort()
    return {
        "kind": first["what"],
        "key": first["key"],
        "name": " ".join(first["key"].replace("_", " ").split())
        if skip
        else error_name(f"{first['title']}\n{first['body']}"),
        "phase": phases[0] if phases.len() else None,
        "reason": reasons["body"][0] if reasons.height else "",
        "by_week": _by_week(part, weeks),
        "evidence": tuple(now["uid"]),
    }


def _joined(
    named: Sequence[Mapping[str, Any]], voices: pl.DataFrame, meaning: Meaning | None
) -> Iterator[tuple[list[str], int | None, float | None]]:
    """Of each friction: the uids of those who say the same, the topic about it, and how alike the two are."""
    praised = dict(voices.drop_nulls("topic_id").group_by("topic_id").agg(praised=PRAISE.mean() > 0.5).iter_rows())
    voices = voices.filter(~PRAISE)
    topic_ids = [t for t in meaning.topics if not praised.get(t, True)] if meaning else []  # spoken of, and no praise
    names = [f"the {n['name']} step" if n["kind"] == "skip" else n["name"] for n in named]
    asked = meaning.encode(names) if meaning and names else np.zeros((len(named), 0))
    known = set(voices["uid"])
    for n, vector in zip(named, asked, strict=True):
        said = voices.filter(n["kind"] == "error", pl.col("fingerprint") == n["key"])["uid"].to_list()
        topic, similarity = None, None
        if meaning:
            alike = np.asarray(meaning.vectors) @ vector
            near = np.flatnonzero(alike >= SAME_TEXT[n["kind"]]).tolist()
            said += [u for u in (meaning.uids[i] for i in near) if u in known]
            scores = [float(meaning.topics[t] @ vector) for t in topic_ids]
            best = int(np.argmax(scores)) if scores else 0
            if scores and scores[best] >= SAME_TOPIC[n["kind"]]:
                topic, similarity = topic_ids[best], scores[best]
                said += voices.filter(pl.col("topic_id") == topic)["uid"].to_list()
        yield said, topic, similarity
