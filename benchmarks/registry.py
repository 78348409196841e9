"""Do topics last? Labelled texts cut into weeks, some labels arriving late: who keeps ids, who finds what is new.

python -m benchmarks.registry [--data FILE.parquet] [--text text] [--label label] [--rows N] [--weeks 8] [--seeds N]
[--reference] [--json]

An eighth of the labels is first said in week 4 to 7, another eighth is not said any more after week 4 to 6. Every week
each method sees all texts so far. Without --data: made-up vectors; --reference takes banking77 and stackoverflow20
from the reference data. One object per method and seed:

- registry: texts keep their topic, new topics are born (`feedback_lib.analysis.registry`).
- registry, all accepted: the same, and every proposal of a run is accepted before the next.
- refit and match: fitted anew every week, ids kept by overlap.

ids_kept: share of texts there before with the same id as the week before, the worst week · late_found: share of late
labels of which, in their first or second week, half the texts or more have one topic that is no other label's most
frequent one · nmi, ari: in the last week, against the labels; full_nmi, full_ari: of one fit of everything · seed_ari:
how far the ARI of seeds (of the fit) lies apart, in the last object of a method · seconds: CPU, a week.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = Path(
    os.environ.get("FEEDBACK_REFERENCE_DATA") or Path(__file__).parents[1] / "../shared/reference"
).resolve()
START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


@dataclasses.dataclass(frozen=True)
class Stream:
    """Texts in the order they are said; ``late`` is the first week of each label that arrives late."""

    name: str
    texts: list[str]
    vectors: Any
    labels: Any
    weeks: Any
    late: dict[int, int]
    count: int

    @classmethod
    def cut(cls, name: str, texts: list[str], vectors: Any, truth: list[Any], weeks: int, seed: int = 3) -> Stream:
        """Labelled texts, cut into weeks."""
        dice = np.random.default_rng(seed)
        labels = np.unique(np.array(truth), return_inverse=True)[1]
        order = dice.permutation(labels.max() + 1).tolist()
        eighth = max(len(order) // 8, 1)
        late = {label: min(3 + i % 4, weeks - 1) for i, label in enumerate(order[:eighth])}
        ends = {label: min(3 + i % 3, weeks - 1) for i, label in enumerate(order[eighth : 2 * eighth])}
        week = np.empty(len(labels), int)
        for label in order:
            rows = np.flatnonzero(labels == label)
            week[rows] = dice.integers(late.get(label, 0), ends.get(label, weeks - 1) + 1, len(rows))
        rows = np.argsort(week, kind="stable")
        return cls(name, [texts[i] for i in rows], vectors[rows], labels[rows], week[rows], late, weeks)


Step = Callable[[int, int], list[int]]


def by_registry(stream: Stream, seed: int, *, accept: bool = False) -> Step:
    """Week by week with the registry."""
    from feedback_lib import records
    from feedback_lib.analysis import registry, topics

    uids = [f"{i:032x}" for i in range(len(stream.texts))]
    created = [START + dt.timedelta(weeks=int(w), seconds=i) for i, w in enumerate(stream.weeks)]
    options = topics.TopicOptions(seed=seed)
    state: dict[str, Any] = {"previous": {}, "known": records.frame("topics", []), "decisions": []}

    def step(week: int, n: int) -> list[int]:
        made = registry.update(
            uids[:n], stream.texts[:n], stream.vectors[:n], created[:n], state["previous"], state["known"],
            state["decisions"], options, as_of=START + dt.timedelta(weeks=week + 1), run_id=str(week),
        )  # fmt: skip
        ids = [topic if topic is not None else -1 for topic in made.topic_ids]
        state["previous"] = {uid: topic for uid, topic in zip(uids, ids, strict=False) if topic >= 0}
        state["known"] = made.topics
        free = made.topics.height + 1
        for proposal in made.proposals if accept else ():
            parts = tuple((free + i, part) for i, part in enumerate(proposal.parts))
            free += len(parts)
            state["decisions"].append(
                registry.Decision(kind=proposal.kind, topics=proposal.topics, into=proposal.into, parts=parts)
            )
        return ids

    return step


def by_overlap(stream: Stream, seed: int) -> Step:
    """Fitted anew every week; topics and ids matched one to one by the texts they share."""
    import scipy.optimize

    from feedback_lib.analysis import topics

    state: dict[str, Any] = {"before": [], "next": 0}

    def step(week: int, n: int) -> list[int]:
        labels = topics.fit(stream.texts[:n], stream.vectors[:n], topics.TopicOptions(seed=seed)).labels
        before, now = np.array(state["before"], int), labels[: len(state["before"])]
        shared = np.zeros((labels.max() + 1, state["next"]))
        both = (before >= 0) & (now >= 0)
        np.add.at(shared, (now[both], before[both]), 1)
        pairs = zip(*scipy.optimize.linear_sum_assignment(shared, maximize=True), strict=True)
        kept = {int(a): int(b) for a, b in pairs if shared[a, b] > 0}
        for label in range(labels.max() + 1):
            if label not in kept:
                kept[label], state["next"] = state["next"], state["next"] + 1
        state["before"] = [kept.get(label, -1) for label in labels.tolist()]
        return state["before"]

    return step


def measure(stream: Stream, step: Step) -> dict[str, Any]:
    """What a method does with a stream."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    before: Any = None
    kept, seconds, found = [], [], {}
    for week in range(stream.count):
        n = int((stream.weeks <= week).sum())
        started = time.process_time()
        ids = np.array(step(week, n))
        seconds.append(time.process_time() - started)
        if before is not None:
            kept.append(float((ids[: len(before)] == before).mean()))
        most = _most_frequent(ids, stream.labels[:n], stream.weeks[:n] == week)
        for label, first in stream.late.items():
            if week in (first, first + 1) and label in most:
                topic, share = most[label]
                others = {most[other][0] for other in most if other != label}
                found[label] = found.get(label, False) or (topic >= 0 and topic not in others and share >= 0.5)
        before = ids
    return {
        "texts": len(ids),
        "labels": len(set(stream.labels.tolist())),
        "topics": len(set(ids[ids >= 0].tolist())),
        "no_topic_ratio": float((ids < 0).mean()),
        "ids_kept": min(kept),
        "ids_kept_mean": float(np.mean(kept)),
        "late": len(found),
        "late_found": float(np.mean([*found.values()])) if found else None,
        "nmi": normalized_mutual_info_score(stream.labels, ids),
        "ari": adjusted_rand_score(stream.labels, ids),
        "seconds": float(np.mean(seconds[1:])),
    }


def _most_frequent(ids: Any, labels: Any, chosen: Any) -> dict[int, tuple[int, float]]:
    """Of each label said eight times or more: the most frequent topic and its share."""
    most = {}
    for label in np.unique(labels[chosen]).tolist():
        topics, counts = np.unique(ids[chosen & (labels == label)], return_counts=True)
        if counts.sum() >= 8:
            most[label] = int(topics[counts.argmax()]), float(counts.max() / counts.sum())
    return most


def made_up(weeks: int, seed: int = 1) -> Stream:
    """Sixteen made-up subjects of about 60 texts, as vectors."""
    dice = np.random.default_rng(seed)
    truth = np.repeat(np.arange(16), 60)
    vectors = dice.normal(size=(16, 64))[truth] / 8 + dice.normal(size=(len(truth), 64)) / 9
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Stream.cut("made up", [f"subject{t} again" for t in truth], vectors, truth.tolist(), weeks)


def read(path: Path, text: str, label: str, rows: int | None, weeks: int) -> Stream:
    """Labelled texts of a Parquet file, embedded."""
    import polars as pl

    from feedback_lib import encoders

    frame = pl.read_parquet(path).select(pl.col(text).cast(pl.String), pl.col(label).cast(pl.String)).drop_nulls()
    if rows and rows < frame.height:
        frame = frame.sample(rows, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(os.environ.get("FEEDBACK_CACHE") or folder)
        vectors = encoders.minilm(cache).encode(frame[text].to_list())
    return Stream.cut(path.stem, frame[text].to_list(), vectors, frame[label].to_list(), weeks)


METHODS: dict[str, Callable[[Stream, int], Step]] = {
    "registry": by_registry,
    "registry, all accepted": lambda stream, seed: by_registry(stream, seed, accept=True),
    "refit and match": by_overlap,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Parquet file with a text and a label column")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, help="measure on a sample of so many rows")
    parser.add_argument("--weeks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds of the fit")
    parser.add_argument("--reference", action="store_true", help="also banking77 and stackoverflow20, when found")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    files = [given.data] if given.data else []
    if given.reference:
        files += [p for n in ("banking77", "stackoverflow20") if (p := REFERENCE / f"text/{n}.parquet").exists()]
    streams = [read(path, given.text, given.label, given.rows, given.weeks) for path in files]
    for stream in streams or [made_up(given.weeks)]:
        _run(stream, given)


def _run(stream: Stream, given: argparse.Namespace) -> None:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from feedback_lib.analysis import topics

    full = topics.fit(stream.texts, stream.vectors).labels
    whole = {
        "full_topics": int(full.max()) + 1,
        "full_nmi": normalized_mutual_info_score(stream.labels, full),
        "full_ari": adjusted_rand_score(stream.labels, full),
    }
    for name, make in METHODS.items():
        seen = []
        for seed in range(42, 42 + given.seeds):
            result = measure(stream, make(stream, seed))
            seen.append(result["ari"])
            about = {"benchmark": "registry", "name": name, "data": stream.name, "seed": seed}
            spread = {"seed_ari": max(seen) - min(seen)} if seed == 41 + given.seeds > 42 else {}
            result = about | result | whole | spread
            if given.json:
                print(json.dumps(result), flush=True)
            else:
                shown = (f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items())
                print("  ".join(shown), flush=True)


if __name__ == "__main__":
    main()
