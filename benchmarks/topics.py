"""Topics on labelled texts: ours, and BERTopic's default clusterer on the same vectors.

python -m benchmarks.topics --data FILE.parquet --text text --label label [--peer bertopic] [--json]

One object per result. Texts without a topic count as one group in NMI and ARI. Each result has a process of its own,
so that its peak memory is its own; the vector cache starts empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

PEER_NEEDS = ("umap", "hdbscan")


def _texts(data: Path, text: str, label: str, rows: int | None, seed: int) -> tuple[list[str], list[str]]:
    import polars as pl

    frame = pl.read_parquet(data).select(pl.col(text).cast(pl.String), pl.col(label).cast(pl.String)).drop_nulls()
    if rows and rows < frame.height:
        frame = frame.sample(rows, seed=seed)
    return frame[text].to_list(), frame[label].to_list()


def _measure(name: str, options: dict[str, Any], cache: str) -> dict[str, Any]:
    """Runs in a process of its own."""
    started = time.perf_counter()
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from feedback_lib import encoders

    texts, truth = _texts(**options)
    loaded = time.perf_counter()
    vectors = encoders.minilm(Path(cache)).encode(texts)
    encoded = time.perf_counter()
    if name == "ours":
        from feedback_lib.analysis import topics

        model = topics.fit(texts, vectors, topics.TopicOptions(seed=options["seed"]))
        labels = model.labels.tolist()
    else:
        from bertopic import BERTopic

        labels = BERTopic().fit_transform(texts, vectors)[0]
    done = time.perf_counter()
    return {
        "name": name,
        "data": Path(options["data"]).name,
        "documents": len(texts),
        "labels": len(set(truth)),
        "topics": len({label for label in labels if label >= 0}),
        "outlier_ratio": sum(label < 0 for label in labels) / len(labels),
        "nmi": normalized_mutual_info_score(truth, labels),
        "ari": adjusted_rand_score(truth, labels),
        "encode_seconds": encoded - loaded,
        "fit_seconds": done - encoded,
        "seconds": done - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Parquet file with a text and a label column")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, help="measure on a sample of so many rows")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--peer", choices=["bertopic"], help="also BERTopic's default clusterer (umap, hdbscan)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    options = {key: getattr(given, key) for key in ("data", "text", "label", "rows", "seed")}
    for name in ["ours", given.peer] if given.peer else ["ours"]:
        missing = [package for package in PEER_NEEDS if name != "ours" and importlib.util.find_spec(package) is None]
        if missing:
            result = {"name": name, "not_run": f"not installed: {', '.join(missing)}"}
        else:
            # a process that starts afresh: imports and memory are counted for each alike
            with tempfile.TemporaryDirectory() as cache, multiprocessing.get_context("spawn").Pool(1) as pool:
                result = pool.apply(_measure, (name, options, cache))
        if given.json:
            print(json.dumps(result), flush=True)
        else:
            shown = (f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items())
            print("  ".join(shown), flush=True)


if __name__ == "__main__":
    main()
