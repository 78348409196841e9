"""Growth of time and memory of topics with the number of texts.

python -m benchmarks.topics_growth [--sizes 1000,10000,100000] [--data FILE.parquet] [--text text]
    [--encoder minilm] [--seed 42]

Texts are drawn again and again from the bundled sample world (or --data), each time with a word left out and two
neighbours changed over. One JSON object per size: seconds, CPU seconds and peak memory of a process of its own, from
its start to the named topics: imports, embedding (the cache starts empty) and fitting; and of embedding and fitting
alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import topics as benchmark


def resampled(texts: list[str], size: int, seed: int) -> list[str]:
    """So many texts, no two of them likely the same."""
    import numpy as np

    random = np.random.default_rng(seed)
    made = []
    for i, one, two in zip(
        random.integers(len(texts), size=size).tolist(),
        random.random(size).tolist(),
        random.random(size).tolist(),
        strict=True,
    ):
        words = texts[i].split()
        if len(words) > 3:
            words.pop(int(one * len(words)))
            place = int(two * (len(words) - 1))
            words[place], words[place + 1] = words[place + 1], words[place]
        made.append(" ".join(words))
    return made


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _measure(data: str, column: str, size: int, encoder: str, seed: int, cache: str) -> dict[str, Any]:
    """Runs in a process of its own."""
    import polars as pl

    texts = resampled(pl.read_parquet(data)[column].cast(pl.String).drop_nulls().to_list(), size, seed)
    made, made_cpu = time.perf_counter(), _cpu()
    from feedback_lib import encoders
    from feedback_lib.analysis import topics

    vectors = encoders.make({"kind": encoder}, cache=Path(cache)).encode(texts)
    encoded, encoded_cpu = time.perf_counter(), _cpu()
    model = topics.fit(texts, vectors, topics.TopicOptions(seed=seed))
    done, done_cpu = time.perf_counter(), _cpu()
    return {
        "benchmark": "topics_growth",
        "documents": size,
        "encoder": encoder,
        "topics": len(model.names),
        "outlier_ratio": float((model.labels < 0).mean()),
        "seconds": done - made,
        "cpu_seconds": done_cpu - made_cpu,
        "encode_seconds": encoded - made,
        "encode_cpu_seconds": encoded_cpu - made_cpu,
        "fit_seconds": done - encoded,
        "fit_cpu_seconds": done_cpu - encoded_cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000", help="numbers of texts, with commas between")
    parser.add_argument("--data", type=Path, help="Parquet file with a text column; default: the sample world")
    parser.add_argument("--text", default="text")
    parser.add_argument(
        "--encoder",
        default="minilm",
        help="a kind that needs no other option; minilm fits a static one above 50,000 texts",
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object per line, as always")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data
        if data is None:
            data, given.text = Path(folder) / "sample.parquet", "text"
            benchmark.sample_texts().rows.write_parquet(data)
        for size in map(int, given.sizes.split(",")):
            # a process that starts afresh: imports and memory are counted for each alike
            with tempfile.TemporaryDirectory() as cache, multiprocessing.get_context("spawn").Pool(1) as pool:
                options = (str(data), given.text, size, given.encoder, given.seed, cache)
                print(json.dumps(pool.apply(_measure, options)), flush=True)


if __name__ == "__main__":
    main()
