"""Topics on labelled texts: ours, and BERTopic's default clusterer on the same vectors.

python -m benchmarks.topics [--data FILE.parquet] [--text text] [--label label] [--peer bertopic] [--json]

Without --data: the people's texts of the bundled sample world, labelled with the themes they were written from. One
object per result. Texts without a topic count as one group in NMI and ARI. Each result has a process of its own,
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


def sample_texts(folder: Path) -> Path:
    """Write the cleaned texts of the sample world that people wrote in English, with their themes, as Parquet."""
    import datetime as dt

    import polars as pl

    from feedback_lib import plugins, records, sample
    from feedback_lib.analysis import text

    items = sample.generate(folder / "sample")["items"]
    rows = []
    for options in sample.sources(folder / "sample"):
        source = plugins.build("sources", options)
        told = items.get(source.origin, {})
        for item in source.fetch(None, dt.datetime(2100, 1, 1, tzinfo=dt.UTC)):
            signal = source.parse(item.payload) if isinstance(item, records.Item) else None
            if signal is None or signal.type in records.MACHINES:
                continue
            known = told.get(signal.native_id, {})
            if known.get("language") == "en":
                rows.append({"text": text.clean(signal.text), "label": known["theme"]})
    path = folder / "sample.parquet"
    pl.DataFrame(rows, schema={"text": pl.String, "label": pl.String}).write_parquet(path)
    return path


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
        "benchmark": "topics",
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
    parser.add_argument("--data", type=Path, help="Parquet file with a text and a label column; default: the sample")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, help="measure on a sample of so many rows")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--peer", choices=["bertopic"], help="also BERTopic's default clusterer (umap, hdbscan)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.data is None:
            given.data, given.text, given.label = sample_texts(Path(folder)), "text", "label"
        _run(given)


def _run(given: argparse.Namespace) -> None:
    options = {key: getattr(given, key) for key in ("data", "text", "label", "rows", "seed")}
    for name in ["ours", given.peer] if given.peer else ["ours"]:
        missing = [package for package in PEER_NEEDS if name != "ours" and importlib.util.find_spec(package) is None]
        if missing:
            result = {"benchmark": "topics", "name": name, "not_run": f"not installed: {', '.join(missing)}"}
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
