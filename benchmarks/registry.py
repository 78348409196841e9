"""Do topics last? Labelled texts cut into weeks, some labels arriving late: who keeps ids, who finds what is new.

python -m benchmarks.registry [--data FILE.parquet] [--text text] [--label label] [--rows N] [--weeks 8] [--seeds N]
[--draws N] [--only] [--reference] [--json]

An eighth of the labels is first said in week 4 to 7, another eighth is not said any more after week 4 to 6. Every week
each method sees all texts so far; --draws draws labels and weeks again. Without --data: made-up vectors. --reference
takes from the reference data banking77, stackoverflow20, a mixture (5,000, 2,000, 1,000 titles of nlbse24 labelled by
project and 1,000 reviews as unlabelled chatter) and the shape of the design (150 texts of each label of all of them, 18
labels late). The registry also runs over each stream with no label late. One object per method, draw and seed:

- registry: texts keep their topic, new topics are born (`feedback_lib.analysis.registry`).
- registry, all accepted: the same, and every proposal of a run is accepted before the next.
- refit and match: fitted anew every week, ids kept by overlap.

ids_kept: share of texts there before with the same id as the week before, the worst week · late_found: share of late
labels of which, in their first or second week, half the texts or more have one topic that is no other label's most
frequent one · births, splits: topics born, and cut from others, a week after the first · nmi, ari: in the last week,
against the labels; full_nmi, full_ari: of one fit of everything · seed_ari: how far the ARI of seeds (of the fit) lies
apart, in the last object of a method · seconds: CPU, a week.
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
CHATTER = "chatter"  # texts without a subject of their own: there, and not scored
DRAWS = 11  # the first draw; the registry's settings were chosen on draws 3 to 5


@dataclasses.dataclass(frozen=True)
class Stream:
    """Texts in the order they are said; ``late`` is the first week of each label that arrives late; label -1: none."""

    name: str
    texts: list[str]
    vectors: Any
    labels: Any
    weeks: Any
    late: dict[int, int]
    count: int

    @classmethod
    def cut(
        cls, name: str, texts: list[str], vectors: Any, truth: list[Any], weeks: int, draw: int = 3,
        late: int | None = None,
    ) -> Stream:  # fmt: skip
        """Labelled texts, cut into weeks; of ``late`` labels, by default an eighth, the first are said late."""
        dice = np.random.default_rng(draw)
        names, labels = np.unique(np.array(truth), return_inverse=True)
        labels = np.where(names[labels] == CHATTER, -1, labels)
        order = [label for label in dice.permutation(len(names)).tolist() if names[label] != CHATTER]
        eighth = max(len(order) // 8, 1)
        count = eighth if late is None else min(late, len(order))
        ends_early = order[count : count + eighth] if count else []
        first = {label: min(3 + i % 4, weeks - 1) for i, label in enumerate(order[:count])}
        last = {label: min(3 + i % 3, weeks - 1) for i, label in enumerate(ends_early)}
        week = np.empty(len(labels), int)
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            week[rows] = dice.integers(first.get(label, 0), last.get(label, weeks - 1) + 1, len(rows))
        rows = np.argsort(week, kind="stable")
        return cls(name, [texts[i] for i in rows], vectors[rows], labels[rows], week[rows], first, weeks)


Step = Callable[[int, int], tuple[list[int], int]]  # week, texts so far → topics of them, how many were cut off others


def by_registry(stream: Stream, seed: int, *, accept: bool = False) -> Step:
    """Week by week with the registry."""
    from feedback_lib import records
    from feedback_lib.analysis import registry, topics

    uids = [f"{i:032x}" for i in range(len(stream.texts))]
    created = [START + dt.timedelta(weeks=int(w), seconds=i) for i, w in enumerate(stream.weeks)]
    options = topics.TopicOptions(seed=seed)
    state: dict[str, Any] = {"previous": {}, "known": records.frame("topics", []), "decisions": []}

    def step(week: int, n: int) -> tuple[list[int], int]:
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
        return ids, sum(" was split: " in note for note in made.notes)

    return step


def by_overlap(stream: Stream, seed: int) -> Step:
    """Fitted anew every week; topics and ids matched one to one by the texts they share."""
    import scipy.optimize

    from feedback_lib.analysis import topics

    state: dict[str, Any] = {"before": [], "next": 0}

    def step(week: int, n: int) -> tuple[list[int], int]:
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
        return state["before"], 0

    return step


def measure(stream: Stream, step: Step) -> dict[str, Any]:
    """What a method does with a stream."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    before: Any = None
    kept, seconds, births, splits = [], [], [], []
    found: dict[int, bool] = {}
    known: set[int] = set()
    for week in range(stream.count):
        n = int((stream.weeks <= week).sum())
        started = time.process_time()
        topics, cut = step(week, n)
        ids = np.array(topics)
        seconds.append(time.process_time() - started)
        if before is not None:
            births.append(len({*topics} - known - {-1}) - cut)
            splits.append(cut)
            kept.append(float((ids[: len(before)] == before).mean()))
        most = _most_frequent(ids, stream.labels[:n], stream.weeks[:n] == week)
        for label, first in stream.late.items():
            if week in (first, first + 1) and label in most:
                topic, share = most[label]
                others = {most[other][0] for other in most if other != label}
                found[label] = found.get(label, False) or (topic >= 0 and topic not in others and share >= 0.5)
        before = ids
        known |= {*ids.tolist()}
    scored = stream.labels >= 0
    return {
        "texts": len(ids),
        "labels": len(set(stream.labels[scored].tolist())),
        "topics": len(set(ids[ids >= 0].tolist())),
        "no_topic_ratio": float((ids < 0).mean()),
        "ids_kept": min(kept),
        "ids_kept_mean": float(np.mean(kept)),
        "late": len(found),
        "late_found": float(np.mean([*found.values()])) if found else None,
        "births": float(np.mean(births)),
        "splits": float(np.mean(splits)),
        "nmi": normalized_mutual_info_score(stream.labels[scored], ids[scored]),
        "ari": adjusted_rand_score(stream.labels[scored], ids[scored]),
        "seconds": float(np.mean(seconds[1:])),
    }


def _most_frequent(ids: Any, labels: Any, chosen: Any) -> dict[int, tuple[int, float]]:
    """Of each label said eight times or more: the most frequent topic and its share."""
    most = {}
    for label in np.unique(labels[chosen & (labels >= 0)]).tolist():
        topics, counts = np.unique(ids[chosen & (labels == label)], return_counts=True)
        if counts.sum() >= 8:
            most[label] = int(topics[counts.argmax()]), float(counts.max() / counts.sum())
    return most


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled texts and their vectors."""

    name: str
    texts: list[str]
    vectors: Any
    truth: list[str]

    def stream(self, weeks: int, draw: int, late: int | None = None) -> Stream:
        """The texts cut into weeks."""
        return Stream.cut(self.name, self.texts, self.vectors, list(self.truth), weeks, draw, late)

    def chosen(self, rows: Any) -> Data:
        """Some of them."""
        return Data(self.name, [self.texts[i] for i in rows], self.vectors[rows], [self.truth[i] for i in rows])


def made_up(seed: int = 1) -> Data:
    """Sixteen made-up subjects of about 60 texts, as vectors."""
    dice = np.random.default_rng(seed)
    truth = np.repeat(np.arange(16), 60)
    vectors = dice.normal(size=(16, 64))[truth] / 8 + dice.normal(size=(len(truth), 64)) / 9
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Data("made up", [f"subject{t} again" for t in truth], vectors, [f"{t:02d}" for t in truth])


def read(path: Path, text: str, label: str | None, rows: int | None) -> Data:
    """Texts of a Parquet file, embedded; without a column of labels they are chatter."""
    import polars as pl

    from feedback_lib import encoders

    given = pl.col(label).cast(pl.String) if label else pl.lit(CHATTER)
    frame = pl.read_parquet(path).select(text=pl.col(text).cast(pl.String), label=given).drop_nulls()
    if rows and rows < frame.height:
        frame = frame.sample(rows, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(os.environ.get("FEEDBACK_CACHE") or folder)
        vectors = encoders.minilm(cache).encode(frame["text"].to_list())
    return Data(path.stem, frame["text"].to_list(), vectors, frame["label"].to_list())


def together(name: str, sets: list[Data], *, most: int | None = None) -> Data:
    """Sets in one, labels told apart by their set; at most so many texts of a label."""
    truth = [t if t == CHATTER else f"{data.name}: {t}" for data in sets for t in data.truth]
    whole = Data(name, [t for data in sets for t in data.texts], np.concatenate([d.vectors for d in sets]), truth)
    if most is None:
        return whole
    seen: dict[str, int] = {}
    rows = []
    for i in np.random.default_rng(1).permutation(len(truth)).tolist():
        seen[truth[i]] = seen.get(truth[i], 0) + 1
        if seen[truth[i]] <= most:
            rows.append(i)
    return whole.chosen(sorted(rows))


def reference() -> list[tuple[Data, int | None]]:
    """What the reference folder gives, and how many labels of it are late."""
    named = {
        "banking77": ("text", "label", None),
        "stackoverflow20": ("text", "label", 5000),
        "nlbse24_train": ("title", "repo", None),
        "youtube_ios_reviews_2016-2017": ("text", None, 1000),
    }
    sets = [
        read(path, text, label, rows)
        for name, (text, label, rows) in named.items()
        if (path := REFERENCE / f"text/{name}.parquet").exists()
    ]
    found: list[tuple[Data, int | None]] = [(data, None) for data in sets[:2]]
    if len(sets) == len(named):
        sizes = (5000, 2000, 1000, 1000)
        dice = np.random.default_rng(1)
        some = [d.chosen(dice.permutation(len(d.texts))[:n]) for d, n in zip(sets, sizes, strict=True)]
        found += [(together("mixture", some), None), (together("shape of the design", sets, most=150), 18)]
    return found


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
    parser.add_argument("--draws", type=int, default=1, help="draw so many times which labels are late, and when")
    parser.add_argument("--only", action="store_true", help="the registry alone, not what it is compared with")
    parser.add_argument("--reference", action="store_true", help="also the sets and mixtures of the reference data")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    sets: list[tuple[Data, int | None]] = []
    if given.data:
        sets.append((read(given.data, given.text, given.label, given.rows), None))
    if given.reference:
        sets += reference()
    for data, late in sets or [(made_up(), None)]:
        for draw in range(DRAWS, DRAWS + given.draws):
            _run(data.stream(given.weeks, draw, late), draw, METHODS, given)
            _run(data.stream(given.weeks, draw, 0), draw, {"registry, nothing late": by_registry}, given)


def _run(
    stream: Stream, draw: int, methods: dict[str, Callable[[Stream, int], Step]], given: argparse.Namespace
) -> None:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from feedback_lib.analysis import topics

    full = topics.fit(stream.texts, stream.vectors).labels
    scored = stream.labels >= 0
    whole = {
        "full_topics": int(full.max()) + 1,
        "full_nmi": normalized_mutual_info_score(stream.labels[scored], full[scored]),
        "full_ari": adjusted_rand_score(stream.labels[scored], full[scored]),
    }
    for name, make in methods.items():
        if given.only and name not in ("registry", "registry, nothing late"):
            continue
        seen = []
        for seed in range(42, 42 + given.seeds):
            result = measure(stream, make(stream, seed))
            seen.append(result["ari"])
            about = {"benchmark": "registry", "name": name, "data": stream.name, "draw": draw, "seed": seed}
            spread = {"seed_ari": max(seen) - min(seen)} if seed == 41 + given.seeds > 42 else {}
            result = about | result | whole | spread
            if given.json:
                print(json.dumps(result), flush=True)
            else:
                shown = (f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items())
                print("  ".join(shown), flush=True)


if __name__ == "__main__":
    main()
