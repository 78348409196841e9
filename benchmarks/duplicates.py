"""How well duplicates among reports are found: by words, by meaning, by both; and how right the score of a pair is.

Without --data: the Hadoop issues of the reference folder (FEEDBACK_REFERENCE_DATA, default ../shared/reference), of
which their keepers marked 125 as duplicates of another; each of these looks for its other among all reports. Then the
precision of pairs by score: among pairs whose score is at least so high, the share that the keepers marked. They did
not mark all, so it is a lower bound; docs/duplicates.md has what reading pairs gave.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIRST = (1, 5, 10, 20)
LEAST = (0.02, 0.05, 0.1, 0.2, 0.5)
DEPTH = 100  # of the ranking that mean average precision is taken of
WAYS = {"lexical": "lexical_rank", "dense": "dense_rank", "fused": "fused"}


def read(folder: Path) -> tuple[list[str], dict[int, set[int]]]:
    """The reports, title first, and for each that duplicates another the places of those it duplicates."""
    import polars as pl

    issues = pl.read_parquet(folder / "gitbugs_hadoop.parquet").select("Issue id", "Summary", "Description")
    texts = [f"{title or ''}\n{body or ''}".strip() for _, title, body in issues.iter_rows()]
    place = {issue: i for i, issue in enumerate(issues["Issue id"])}
    marked = pl.read_csv(folder / "gitbugs_hadoop_duplicates.csv", infer_schema=False)
    wanted: dict[int, set[int]] = {}
    for one, other in marked.iter_rows():
        if one in place and other in place:
            wanted.setdefault(place[one], set()).add(place[other])
    return texts, wanted


def judged(wanted: Mapping[int, set[int]], found: Mapping[int, Sequence[int]]) -> dict[str, float]:
    """Mean recall among the first few, and mean average precision."""
    scores: dict[str, float] = {}
    for k in FIRST:
        hits = [len(right & set(found.get(row, [])[:k])) / len(right) for row, right in wanted.items()]
        scores[f"recall_at_{k}"] = sum(hits) / len(hits)
    precision = []
    for row, right in wanted.items():
        places = [n for n, other in enumerate(found.get(row, []), 1) if other in right]
        precision.append(sum(i / n for i, n in enumerate(places, 1)) / len(right))
    scores["map"] = sum(precision) / len(precision)
    return scores


def results(folder: Path) -> Iterator[dict[str, Any]]:
    """One result per way of looking, then one per score."""
    import polars as pl

    from feedback_lib import encoders
    from feedback_lib.analysis import duplicates, text

    texts, wanted = read(folder)
    with tempfile.TemporaryDirectory() as cache:
        vectors = encoders.minilm(Path(cache)).encode([text.clean(t) for t in texts])
    started = time.process_time()
    ranked = duplicates.ranked(texts, vectors, DEPTH)
    seconds = time.process_time() - started
    for way, rank in WAYS.items():
        some = ranked.filter(pl.col(rank).is_not_null())
        some = some.sort("row", rank, "other", descending=[False, way == "fused", False])
        lists = dict(some.group_by("row", maintain_order=True).agg(pl.col("other").head(DEPTH)).iter_rows())
        yield {
            "benchmark": "duplicates", "name": way, "data": "gitbugs_hadoop", "reports": len(texts),
            "asked": len(wanted), **judged(wanted, lists), "cpu_seconds_of_all_ways": seconds,
        }  # fmt: skip
    marked = {(max(a, b), min(a, b)) for a, others in wanted.items() for b in others}
    uids = [str(i) for i in range(len(texts))]
    pairs = duplicates.candidates(uids, texts, vectors).select(
        pl.col("uid").cast(pl.Int64), pl.col("duplicate_of").cast(pl.Int64), "score"
    )
    for least in LEAST:
        kept = [(a, b) for a, b, score in pairs.iter_rows() if score >= least]
        right = sum(pair in marked for pair in kept)
        yield {
            "benchmark": "duplicates", "name": f"score >= {least}", "data": "gitbugs_hadoop", "pairs": len(kept),
            "marked": right, "precision_at_least": right / len(kept) if kept else None, "recall": right / len(marked),
        }  # fmt: skip
    copies = duplicates.near_copies(uids, [text.clean(t) for t in texts], vectors)
    yield {"benchmark": "duplicates", "name": "near-copies", "data": "gitbugs_hadoop", "pairs": len(copies)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder with gitbugs_hadoop.parquet and gitbugs_hadoop_duplicates.csv"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    base = Path(os.environ.get("FEEDBACK_REFERENCE_DATA") or ROOT / "../shared/reference")
    folder = given.data or base / "text"
    if not (folder / "gitbugs_hadoop.parquet").exists():
        print(json.dumps({"benchmark": "duplicates", "not_run": f"no gitbugs_hadoop.parquet in {folder}"}))
        sys.exit(0)
    for row in results(folder):
        if given.json:
            print(json.dumps(row), flush=True)
        else:
            print("  ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
