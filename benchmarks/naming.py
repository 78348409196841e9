"""Names of topics on labelled texts: how often a name finds the class it stands for, ours and c-TF-IDF's.

python -m benchmarks.naming [--data FILE.parquet] [--text text] [--label label] [--rows N] [--partitions P …] [--json]

Without --data: the people's texts of the bundled sample world, labelled with the themes they were written from. A
topic's class is the one most of its texts have. The names of all classes, as plain words, are ranked by the cosine of
their vectors to the vector of what the topic is called (three terms) and of its ten words: ``name_first`` and
``words_first`` are the shares of topics whose class comes first. Topics are the classes themselves (gold), k-means
with as many groups as classes (k-means), and our own (fitted). c-TF-IDF is BERTopic's, with stop-words and pairs of
words, the better of its representations in our measurements.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PARTITIONS = ("gold", "k-means", "fitted")


def ctfidf(texts: Sequence[str], labels: np.ndarray) -> list[tuple[str, ...]]:
    """Ten terms per topic by class-based TF-IDF (Grootendorst 2022) over stop-worded words and pairs."""
    import scipy.sparse
    from sklearn.feature_extraction.text import CountVectorizer

    k = int(labels.max(initial=-1)) + 1
    vectorizer = CountVectorizer(stop_words="english", ngram_range=(1, 2))
    counts = vectorizer.fit_transform(texts)
    vocabulary = vectorizer.get_feature_names_out()
    inside = np.flatnonzero(labels >= 0)
    member = scipy.sparse.csr_matrix((np.ones(len(inside)), (labels[inside], inside)), shape=(k, len(texts)))
    of_class = (member @ counts).tocsr()
    rarity = np.log(1 + int(of_class.sum(axis=1).mean()) / np.maximum(np.asarray(of_class.sum(axis=0)).ravel(), 1))
    found = []
    for topic in range(k):
        row = of_class[topic]
        best = np.argsort(-row.data * rarity[row.indices], kind="stable")[:10]
        found.append(tuple(str(vocabulary[row.indices[i]]) for i in best))
    return found


def class_name(label: str) -> str:
    """A class name as plain words: ``card_not_working`` → ``card not working``."""
    return re.sub(r"[_\-/\s]+", " ", label).strip(" ?").lower()


def measure(texts: list[str], truth: list[str], partitions: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """One result for each partition and way of naming."""
    from feedback_lib import encoders
    from feedback_lib.analysis import naming, topics

    encoder = encoders.minilm()
    naming.words(texts[:50], np.zeros(len(texts[:50]), np.int64))  # imports are not counted
    classes, gold = np.unique(np.array(truth), return_inverse=True)
    shown = encoder.encode([class_name(str(label)) for label in classes])
    results = []
    for partition in partitions:
        if partition == "gold":
            labels = gold.astype(np.int64)
        elif partition == "k-means":
            from sklearn.cluster import KMeans

            vectors = encoder.encode(texts)
            labels = KMeans(len(classes), n_init=1, max_iter=30, random_state=seed).fit(vectors).labels_
            labels = labels.astype(np.int64)
        else:
            labels = topics.fit(texts, encoder.encode(texts), topics.TopicOptions(seed=seed)).labels
        k = int(labels.max(initial=-1)) + 1
        if not k:
            continue
        majority = [np.bincount(gold[labels == topic], minlength=len(classes)).argmax() for topic in range(k)]
        for name in ("ours", "c-tf-idf"):
            began = _cpu()
            if name == "ours":
                words = naming.words(texts, labels)
                names = naming.names(words)
            else:
                words = ctfidf(texts, labels)
                names = [", ".join(terms[:3]) for terms in words]
            seconds = _cpu() - began
            row = {"benchmark": "naming", "name": name, "partition": partition, "documents": len(texts)}
            row |= {"classes": len(classes), "topics": k}
            for what, said in (("name", names), ("words", [", ".join(terms) for terms in words])):
                closeness = encoder.encode(said) @ shown.T
                own = closeness[np.arange(k), majority]
                rank = 1 + (closeness > own[:, None]).sum(axis=1)
                row |= {f"{what}_first": float((rank == 1).mean()), f"{what}_reciprocal": float((1 / rank).mean())}
            every = [naming.said(term) for terms in words for term in terms]
            row |= {
                "diversity": len(set(every)) / max(len(every), 1),
                "repeats": sum(_repeats(terms) for terms in words) / k,
                "same_names": k - len({naming.said(one) for one in names}),
                "cpu_seconds": seconds,
            }
            results.append(row)
    return results


def _repeats(terms: Sequence[str]) -> bool:
    """Whether a word stands in two of a topic's terms, in any form."""
    from feedback_lib.analysis import naming

    stems = [stem for term in terms for stem in naming.said(term)]
    return len(stems) > len(set(stems))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Parquet file with a text and a label column; default: the sample")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, help="measure on a sample of so many rows")
    parser.add_argument("--partitions", nargs="+", choices=PARTITIONS, default=list(PARTITIONS))
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()

    import polars as pl

    if given.data is None:
        from benchmarks.topics import sample_texts

        rows = sample_texts().rows
    else:
        columns = {name: pl.col(getattr(given, name)).cast(pl.String) for name in ("text", "label")}
        rows = pl.read_parquet(given.data).select(**columns).drop_nulls()
    if given.rows and given.rows < rows.height:
        rows = rows.sample(given.rows, seed=given.seed)
    shown = given.data.name if given.data else "the sample"
    for result in measure(rows["text"].to_list(), rows["label"].to_list(), given.partitions, given.seed):
        result = {"data": shown, **result}
        if given.json:
            print(json.dumps(result), flush=True)
        else:
            parts = (f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items())
            print("  ".join(parts), flush=True)


if __name__ == "__main__":
    main()
