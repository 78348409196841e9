"""How well triage tells kinds of feedback apart, beside TF-IDF with logistic regression on the same labelled texts.

Without ``--data``: both cross-validated on the labelled texts of the package, and our speed. With it: both trained on
the labelled texts of the package and judged on texts that neither has seen, among the categories that occur there.
With ``--train`` as well: the same after an analyst has labelled 50 and 200 texts of that file, drawn at random, and
the precision the models then report of themselves (``own_precision``) beside that on texts not seen
(``accuracy_given``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from feedback_lib import encoders
from feedback_lib.analysis import text, triage

PEER = "tf-idf + logistic regression"
SAME = {
    "bug": "bug_report", "defect": "bug_report", "feature": "feature_request", "enhancement": "feature_request",
    "docs": "documentation", "support": "question", "ux": "usability", "compliment": "praise",
}  # fmt: skip
ROWS = 20_000
REVIEWED = (0, 50, 200)  # texts an analyst labelled
DRAWS = 5  # other texts each time; results are means


def peer() -> Pipeline:
    """What one would write in five lines."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=1000)
    )


def read(path: Path, columns: list[str], label: str) -> tuple[list[str], np.ndarray[Any, Any], int]:
    """Clean texts, their categories, and how many rows were left out because their label is none of ours."""
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson
    }  # fmt: skip
    if path.suffix not in readers:
        sys.exit(f"{path.name}: expected one of {', '.join(readers)}")
    frame = readers[path.suffix](path)
    missing = {*columns, label} - set(frame.columns)
    if missing:
        sys.exit(f"{path.name}: no column {', '.join(sorted(missing))}; it has {', '.join(frame.columns)}")
    whole = pl.concat_str([pl.col(c).fill_null("") for c in columns], separator="\n").alias("text")
    rows = frame.select(whole, pl.col(label).cast(pl.String).replace(SAME).alias("category"))
    ours = rows.filter(pl.col("category").is_in(triage.CATEGORIES))
    return [text.clean(t) for t in ours["text"]], ours["category"].to_numpy(), rows.height - ours.height


def judged(who: str, truth: np.ndarray[Any, Any], said: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    """One result."""
    return {
        "benchmark": "triage",
        "who": who,
        "n": len(truth),
        "categories": sorted(set(truth)),
        "accuracy": float(accuracy_score(truth, said)),
        "macro_f1": float(f1_score(truth, said, average="macro", labels=sorted(set(truth)))),
        **more,
    }


def on_ours() -> list[dict[str, Any]]:
    """Cross-validated on the labelled texts, with the time it takes when their vectors are cached."""
    known = triage.labelled()
    encoder = encoders.minilm()
    vectors = encoder.encode(known.texts)
    start = time.perf_counter()
    judge = triage.train(encoder.encode)
    train_s = time.perf_counter() - start
    many = [known.texts[i % len(known.texts)] for i in range(ROWS)]
    wide = np.resize(vectors, (ROWS, vectors.shape[1]))
    start = time.perf_counter()
    judge.predict(many, wide)
    rows_per_s = ROWS / (time.perf_counter() - start)
    results: list[dict[str, Any]] = [  # precision and recall of what was given are in the rows of ``quality``
        {
            "benchmark": "triage",
            "who": judge.version,
            "n": len(known.texts),
            "train_s": train_s,
            "predict_rows_per_s": rows_per_s,
            "abstained": judge.abstained,
            "correlation": judge.correlation,
        },
        *({"benchmark": "triage", "who": judge.version, **row} for row in judge.quality),
    ]
    folds = StratifiedKFold(triage.FOLDS, shuffle=True, random_state=0)
    results.append(judged(PEER, known.category, cross_val_predict(peer(), known.texts, known.category, cv=folds)))
    return results


def on_theirs(path: Path, columns: list[str], label: str) -> list[dict[str, Any]]:
    """Trained on the labelled texts, judged on somebody else's."""
    texts, truth, left_out = read(path, columns, label)
    encoder = encoders.minilm()
    judge = triage.train(encoder.encode)
    vectors = encoder.encode(texts)
    start = time.perf_counter()
    given = judge.predict(texts, vectors)["category"]
    seconds = time.perf_counter() - start
    sure = given.is_in(sorted(set(truth))).fill_null(False).to_numpy()
    known = triage.labelled()
    other = peer().fit(known.texts, known.category)
    return [
        judged(
            judge.version,
            truth,
            among(truth, triage.CATEGORIES, judge.category_scores(texts, vectors)),
            left_out=left_out,
            given_ratio=float(sure.mean()),
            accuracy_given=float((given.to_numpy()[sure] == truth[sure]).mean()) if sure.any() else None,
            abstained_ratio=given.null_count() / len(given),
            predict_s=seconds,
        ),
        judged(PEER, truth, among(truth, other.classes_, other.predict_proba(texts)), left_out=left_out),
    ]


def on_theirs_after_labelling(path: Path, train: Path, columns: list[str], label: str) -> list[dict[str, Any]]:
    """Trained on the package's texts and some of theirs, judged on others of theirs; the peer gets the same texts."""
    texts, truth, _ = read(path, columns, label)
    own_texts, own_truth, _ = read(train, columns, label)
    encoder = encoders.minilm()
    vectors = encoder.encode(texts)
    encoder.encode(own_texts)
    known = triage.labelled()
    results = []
    for n in REVIEWED:
        ours: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        for draw in range(DRAWS if n else 1):
            chosen = np.random.default_rng(draw).permutation(len(own_texts))[:n]
            own, said = [own_texts[i] for i in chosen], [str(own_truth[i]) for i in chosen]
            start = time.process_time()
            judge = triage.train(encoder.encode, reviewed=reviewed(own, said))
            train_cpu_s = time.process_time() - start
            given = judge.predict(texts, vectors)["category"]
            sure = given.is_not_null().to_numpy()
            believed = [r for r in judge.reviewed_quality if (r["kind"], r["label"]) == ("category", "any")]
            row = judged(
                judge.version,
                truth,
                among(truth, triage.CATEGORIES, judge.category_scores(texts, vectors)),
                given_ratio=float(sure.mean()),
                accuracy_given=float((given.to_numpy()[sure] == truth[sure]).mean()) if sure.any() else None,
                own_precision=believed[0]["precision"] if believed else None,
                train_cpu_s=train_cpu_s,
            )
            ours.append(row)
            other = peer().fit([*known.texts, *own], [*known.category, *said])
            theirs.append(judged(PEER, truth, among(truth, other.classes_, other.predict_proba(texts))))
        results += [rows[0] | {"reviewed": n, "draws": len(rows)} | means(rows) for rows in (ours, theirs)]
    return results


def reviewed(texts: list[str], categories: list[str]) -> pl.DataFrame:
    """Texts of which an analyst told the category only."""
    row = dict.fromkeys(triage.REVIEWED) | {"chosen": "random"}
    rows = [row | {"text": text, "category": category} for text, category in zip(texts, categories, strict=True)]
    return pl.DataFrame(rows, schema=dict.fromkeys(triage.REVIEWED, pl.String))


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of every number, where all rows have one, and the standard deviation of the accuracy."""
    names = [k for k in rows[0] if all(isinstance(r[k], float) for r in rows)]
    spread = float(np.std([r["accuracy"] for r in rows]))
    return {k: float(np.mean([r[k] for r in rows])) for k in names} | {"accuracy_sd": spread}


def among(truth: np.ndarray[Any, Any], labels: Sequence[str], scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The likeliest of the categories that occur in the truth."""
    columns = [i for i, name in enumerate(labels) if name in set(truth)]
    best: np.ndarray[Any, Any] = np.array(labels)[columns][scores[:, columns].argmax(axis=1)]
    return best


def main() -> None:
    """Print one result a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a Parquet, CSV or JSONL file with texts and labels")
    parser.add_argument("--train", type=Path, help="a file like it, of which an analyst labels some texts")
    parser.add_argument("--text", default="text", help="column of the text; several with commas: title,body")
    parser.add_argument("--label", default="label", help="column of the label")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    if args.train and not args.data:
        parser.error("--train needs --data")
    columns = args.text.split(",")
    if args.train:
        results = on_theirs_after_labelling(args.data, args.train, columns, args.label)
    else:
        results = on_theirs(args.data, columns, args.label) if args.data else on_ours()
    for result in results:
        print(json.dumps(result) if args.json else "  ".join(f"{k}={v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
