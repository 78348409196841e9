"""Texts a second of one core, and quality, of the encoders that need no network: float32, int8, fitted to the corpus.

``python -m benchmarks.encoders [--texts N] [--data FILE | --all] --json`` prints one JSON object per set and encoder.
FILE is a Parquet file with the columns ``text`` and ``label``; without it the texts are those of the sample world, and
with ``--all`` those of every labelled set in the reference folder.

Half of the texts teach the fitted model, the other half are judged. ``cosine`` is the mean cosine to float32, and
``centred`` the same after the mean of float32 is taken away; ``nmi`` compares k-means at the true number of labels with
the labels. Speeds are texts per CPU second, so those of one core; no cache of vectors is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from benchmarks import topics
from feedback_lib.config import cache_dir
from feedback_lib.encoders import fitted, int8

ALONE = 200  # texts that float32 embeds one at a time for its speed
REFERENCE = Path(os.environ.get("FEEDBACK_REFERENCE_DATA") or topics.ROOT / "../shared/reference")


def timed(embed: Callable[[list[str]], Any], texts: list[str]) -> tuple[Any, float]:
    """What ``embed`` gives for the texts, and texts per CPU second."""

    def cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    before = cpu_s()
    found = embed(texts)
    return found, len(texts) / max(cpu_s() - before, 1e-9)


def centred(vectors: Any, middle: Any) -> Any:
    """The vectors seen from ``middle``, length 1."""
    moved = vectors - middle
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)


def measure(name: str, rows: Any, seed: int) -> Iterator[dict[str, Any]]:
    """One result per encoder on one labelled set."""
    pairs = dict(zip(rows["text"], rows["label"], strict=True))
    texts = sorted(pairs, key=lambda text: hashlib.sha256(text.encode()).digest())
    model = int8.Int8(cache_dir(), 1)
    model.embed(texts[:1])
    exact = int8.session(int8._graph(int8._weights(), None))

    def float32(some: list[str], at_once: int) -> Any:
        run = lambda ids: exact.run(["mean"], {"input_ids": ids.T})[0]  # noqa: E731
        return int8.in_calls(model.tokens(some), run, 1, at_once)

    half = len(texts) // 2
    taught, judged = texts[:half][: fitted.SAMPLE], texts[half:]
    truth = np.array([str(pairs[text]) for text in judged])
    reference = float32(judged, 256)
    middle = reference.mean(axis=0)
    _, alone = timed(lambda some: float32(some, 1), judged[:ALONE])
    ours, fast = timed(model.embed, judged)
    learnt = fitted.Fitted(model)
    _, teaching = timed(lambda some: learnt.fit(some, model.embed(some), texts[:half]), taught)
    near, faster = timed(learnt.embed, judged)
    for who, vectors, speed in (("float32", reference, alone), (model.name, ours, fast), ("fitted", near, faster)):
        means = KMeans(len(set(truth)), n_init=1, random_state=seed).fit_predict(vectors)
        yield {
            "benchmark": "encoders",
            "data": name,
            "who": who,
            "texts": len(judged),
            "labels": len(set(truth)),
            "texts_per_cpu_s": round(speed),
            "cosine": round(float((vectors * reference).sum(axis=1).mean()), 4),
            "centred": round(float((centred(vectors, middle) * centred(reference, middle)).sum(axis=1).mean()), 4),
            "nmi": round(float(normalized_mutual_info_score(truth, means)), 4),
            **({"taught": len(taught), "teaching_cpu_s": round(len(taught) / teaching, 2)} if who == "fitted" else {}),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=__doc__)
    parser.add_argument("--texts", type=int, default=1500, help="most texts of a set, default 1500; 0 is all")
    parser.add_argument("--data", type=Path, help="a Parquet file with columns text and label")
    parser.add_argument("--all", action="store_true", help="every labelled set of the reference folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object per result")
    arguments = parser.parse_args()
    if arguments.data:
        sets = [topics.given_texts(arguments.data, "text", "label")]
    elif arguments.all:
        sets = topics.reference_texts(REFERENCE)
    else:
        sets = [topics.sample_texts()]
    for some in sets:
        rows = some.some(arguments.texts, arguments.seed).rows
        for result in measure(some.name, rows, arguments.seed):
            if arguments.json:
                print(json.dumps(result), flush=True)
            else:
                print(
                    f"{result['data']:24} {result['who']:30} {result['texts_per_cpu_s']:>7} texts/CPU s  cosine "
                    f"{result['cosine']:.4f}  centred {result['centred']:.4f}  NMI {result['nmi']:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
