"""Topics on labelled texts, beside BERTopic with its defaults on the same rows.

Without --data: every labelled set found in the reference folder (FEEDBACK_REFERENCE_DATA, default ../shared/reference:
Parquet files with the columns ``text`` and ``label``, or ``repo``), all of them mixed, and the bundled sample world.

Every run is a process of its own, started the same way, one after the other; the seconds are those of the whole
process: interpreter, imports, reading, embedding, grouping, words. Models are on disk and were loaded once before
(ours is built the first time: ``first_use_seconds``); no vector is. The peer is BERTopic() with all-MiniLM-L6-v2
(sentence-transformers), UMAP and HDBSCAN, as its documentation begins.

How they are judged, both alike:
  nmi, ari        against the labels; texts without a topic count as one group
  accuracy        given the true number of topics: best one-to-one match, texts without a topic are wrong
                  (ours: n_topics=k; peer: nr_topics=k of its default fit, outliers' topic not counted)
  coverage        share of texts that have a topic
  coherence       mean NPMI of pairs of a topic's ten words over the texts; a pair of words is where both are
  diversity       share of different words among the ten words of all topics
  label_overlap   share of topics whose words are nearest (by MiniLM) to the name of the class most of its texts have
  repeat          whether a second run gives the same labels; repeat_ari: how alike they are
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

ROOT = Path(__file__).parents[1]
PEER_NEEDS = ("umap", "hdbscan", "bertopic")
ROWS = 2_000  # a peer's run then takes a minute on two cores
MIXED = 100_000  # --full: the size of the mixed set
TERMS = 10
COLUMNS = {
    "topics": "topics", "coverage": "coverage", "nmi": "NMI", "ari": "ARI", "accuracy": "accuracy at k",
    "coherence": "coherence", "diversity": "diversity", "label_overlap": "label overlap", "repeat_ari": "repeat",
    "seconds": "seconds", "cpu_seconds": "CPU s", "peak_mb": "peak MB",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A labelled set: its name, and a frame with the columns ``text`` and ``label``."""

    name: str
    rows: pl.DataFrame

    def some(self, count: int | None, seed: int) -> Labelled:
        """So many of its rows, the same for the same seed."""
        if count and count < self.rows.height:
            return dataclasses.replace(self, rows=self.rows.sample(count, seed=seed))
        return self


# --- texts ------------------------------------------------------------------------------------------------------------


def sample_texts() -> Labelled:
    """The cleaned texts of the sample world that people wrote in English, with the themes they were written from."""
    import datetime as dt

    import polars as pl

    from feedback_lib import plugins, records, sample
    from feedback_lib.analysis import text

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        items = sample.generate(Path(folder))["items"]
        for options in sample.sources(Path(folder)):
            source = plugins.build("sources", options)
            told = items.get(source.origin, {})
            for item in source.fetch(None, dt.datetime(2100, 1, 1, tzinfo=dt.UTC)):
                signal = source.parse(item.payload) if isinstance(item, records.Item) else None
                if signal is None or signal.type in records.MACHINES:
                    continue
                known = told.get(signal.native_id, {})
                if known.get("language") == "en":
                    rows.append({"text": text.clean(signal.text), "label": known["theme"]})
    return Labelled("sample", pl.DataFrame(rows, schema={"text": pl.String, "label": pl.String}))


def given_texts(path: Path, text: str, label: str) -> Labelled:
    """A Parquet file's texts and labels; rows without either are left out."""
    import polars as pl

    frame = pl.read_parquet(path)
    missing = {text, label} - set(frame.columns)
    if missing:
        sys.exit(f"{path}: no column {', '.join(sorted(missing))}; it has {', '.join(frame.columns)}")
    return Labelled(path.name, _pair(frame, text, label))


def _pair(frame: pl.DataFrame, text: str, label: str) -> pl.DataFrame:
    import polars as pl

    pair = frame.select(pl.col(text).cast(pl.String).alias("text"), pl.col(label).cast(pl.String).alias("label"))
    return pair.drop_nulls().filter(pl.col("text").str.strip_chars() != "")


def reference_texts(folder: Path) -> list[Labelled]:
    """Every labelled set below a folder; the parts of one (``_train``, ``_test``) are put together."""
    import polars as pl

    found: dict[str, list[pl.DataFrame]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        columns = pl.read_parquet_schema(path)
        # issues of several repositories: what they are about is the repository, their label is a kind
        label = "repo" if "repo" in columns else "label"
        if "text" not in columns or label not in columns:
            continue
        pair = _pair(pl.read_parquet(path, columns=["text", label]), "text", label)
        if 2 <= pair["label"].n_unique() <= pair.height / 5:
            found.setdefault(re.sub(r"_(train|test|dev|validation)$", "", path.stem), []).append(pair)
    return [Labelled(name, pl.concat(parts)) for name, parts in found.items()]


def mixed(sets: Sequence[Labelled]) -> Labelled:
    """All sets as one, each label under the name of its set."""
    import polars as pl

    rows = [s.rows.with_columns(label=pl.lit(f"{s.name} ") + pl.col("label")) for s in sets]
    return Labelled("mixed", pl.concat(rows))


def enlarged(one: Labelled, count: int, seed: int) -> Labelled:
    """So many texts drawn from a set, a word left out and two swapped in each: to measure how time grows."""
    import random

    import polars as pl

    chance = random.Random(seed)
    rows = []
    for text, label in one.rows.sample(count, with_replacement=True, seed=seed).iter_rows():
        words = text.split(" ")
        if len(words) > 3:
            words.pop(chance.randrange(len(words)))
            at = chance.randrange(len(words) - 1)
            words[at : at + 2] = words[at + 1], words[at]
        rows.append((" ".join(words), label))
    return Labelled(f"{one.name}, varied", pl.DataFrame(rows, schema=one.rows.schema, orient="row"))


# --- measures ---------------------------------------------------------------------------------------------------------


def accuracy(truth: Sequence[str], labels: Sequence[int]) -> float:
    """Share of texts in the right topic, topics matched to classes one to one as well as can be."""
    import numpy as np
    import scipy.optimize

    classes = {name: i for i, name in enumerate(sorted(set(truth)))}
    shared = np.zeros((max([*labels, 0]) + 1, len(classes)))
    for name, label in zip(truth, labels, strict=True):
        if label >= 0:
            shared[label, classes[name]] += 1
    rows, columns = scipy.optimize.linear_sum_assignment(shared, maximize=True)
    return float(shared[rows, columns].sum() / len(truth))


def coherence(texts: Sequence[str], words: Sequence[Sequence[str]]) -> float | None:
    """Mean over topics of the mean NPMI of pairs of its words; pairs that share a word are passed over."""
    import math

    topics = [[tuple(_tokens(term)) for term in terms[:TERMS]] for terms in words]
    wanted = {token for terms in topics for term in terms for token in term}
    texts_with: dict[str, set[int]] = {token: set() for token in wanted}
    for i, text in enumerate(texts):
        for token in wanted.intersection(_tokens(text)):
            texts_with[token].add(i)

    def holding(term: Sequence[str]) -> set[int]:
        return set.intersection(*(texts_with[token] for token in term))

    means = []
    for terms in topics:
        found = []
        for one, other in itertools.combinations([t for t in terms if t], 2):
            if set(one) & set(other):
                continue
            a, b = holding(one), holding(other)
            both = len(a & b) / len(texts)
            if not both:
                found.append(-1.0)
            elif both < 1:
                found.append(math.log(both * len(texts) ** 2 / (len(a) * len(b))) / -math.log(both))
        if found:
            means.append(sum(found) / len(found))
    return sum(means) / len(means) if means else None


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def diversity(words: Sequence[Sequence[str]]) -> float | None:
    """Share of different words among the first ten of all topics."""
    every = [term.lower() for terms in words for term in terms[:TERMS]]
    return len(set(every)) / len(every) if every else None


def label_overlap(
    truth: Sequence[str], labels: Sequence[int], words: Sequence[Sequence[str]], cache: Path
) -> float | None:
    """Share of topics whose words are nearer to the name of the class most of its texts have than to any other name."""
    from feedback_lib import encoders

    names = sorted(set(truth))
    counts: list[dict[str, int]] = [{} for _ in words]
    for name, label in zip(truth, labels, strict=True):
        if label >= 0:
            counts[label][name] = counts[label].get(name, 0) + 1
    told = [i for i in range(len(words)) if words[i]]
    if not told:
        return None
    encoder = encoders.minilm(cache)
    classes = encoder.encode([" ".join(_tokens(name)) for name in names])
    nearest = (encoder.encode([", ".join(words[i][:TERMS]) for i in told]) @ classes.T).argmax(axis=1).tolist()
    right = [max(counts[i], key=lambda name: (counts[i][name], name)) for i in told]
    return sum(names[n] == name for n, name in zip(nearest, right, strict=True)) / len(told)


# --- runs -------------------------------------------------------------------------------------------------------------


def _process(python: Path, *arguments: str | Path) -> dict[str, float]:
    """Run one step in a process of its own; what the whole process took."""
    script = ROOT / "benchmarks" / "_topics_run.py"
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            [python, script, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "PYTHONSAFEPATH": "1", "TOKENIZERS_PARALLELISM": "true"},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip().splitlines()[-3:]
            raise RuntimeError(f"{Path(python).name} left with {process.returncode}: {' / '.join(last)}")
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime}


def measure(name: str, one: Labelled, python: Path, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run it twice on the rows and judge what it says."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    texts, truth = one.rows["text"].to_list(), one.rows["label"].to_list()
    k = len(set(truth))
    path, out, vectors = folder / "texts.parquet", folder / "out.json", folder / "vectors.npy"
    one.rows.write_parquet(path)
    options: list[str | Path] = ["--seed", str(given.seed)]
    again: list[str | Path] = [*options, "--k", str(k)]
    if name == "ours":
        options += ["--encoder", given.encoder, "--cache", _cache(folder, "first")]
        again += ["--encoder", given.encoder, "--cache", _cache(folder, "second")]
    else:
        if _has(python, "sentence_transformers"):
            options += ["--keep", vectors]
        else:
            _process(Path(sys.executable), "vectors", path, vectors)
            options += ["--vectors", vectors]
        again += ["--vectors", vectors]
    load = round(os.getloadavg()[0], 1)  # what else the machine was doing: above 0.5 a core, trust CPU seconds only
    took = _process(python, name, path, out, *options)
    first = json.loads(out.read_text())
    row = {
        "benchmark": "topics", "name": name, "data": one.name, "documents": len(texts), "labels": k,
        "topics": len(first["words"]),
        "coverage": sum(label >= 0 for label in first["labels"]) / len(texts),
        "nmi": normalized_mutual_info_score(truth, first["labels"]),
        "ari": adjusted_rand_score(truth, first["labels"]),
        "accuracy": None, "topics_at_k": None,
        "coherence": coherence(texts, first["words"]),
        "diversity": diversity(first["words"]),
        "label_overlap": label_overlap(truth, first["labels"], first["words"], folder / "models"),
        "repeat": None, "repeat_ari": None,
        **took,
        **{key: first[key] for key in ("peak_mb", "import_seconds", "encode_seconds", "fit_seconds")},
        "embedding": first["embedding"], "version": first["version"], "cores": os.cpu_count(), "load": load,
    }  # fmt: skip
    if "--vectors" in options:
        row["embedding"] = "all-MiniLM-L6-v2, fp32, made by us and not counted: no sentence-transformers"
    if not given.once:
        _process(python, name, path, out, *again)
        second = json.loads(out.read_text())
        row["repeat"] = second["labels"] == first["labels"]
        row["repeat_ari"] = adjusted_rand_score(first["labels"], second["labels"])
        if "labels_at_k" in second:
            row["accuracy"] = accuracy(truth, second["labels_at_k"])
            row["topics_at_k"] = len(set(second["labels_at_k"]) - {-1})
    return row


def _cache(folder: Path, name: str) -> Path:
    """A cache that holds the models, made once per machine, and no vectors of the texts."""
    shutil.rmtree(folder / name, ignore_errors=True)
    return Path(shutil.copytree(folder / "models", folder / name))


def peer_python(given: Path | None) -> Path | None:
    """The interpreter the peer is run by: the one given, this one if it can, else that of ``.venv-peer``."""
    if given:
        return given
    if all(importlib.util.find_spec(package) for package in PEER_NEEDS):
        return Path(sys.executable)
    own = ROOT / ".venv-peer" / "bin" / "python"
    return own if own.exists() else None


def _has(python: Path, *packages: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {packages!r})))"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def results(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result per set and per side, as they come."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = _sets(given)
        sets[0].rows.head(1).write_parquet(folder / "texts.parquet")
        made = _process(
            Path(sys.executable), "warm", folder / "texts.parquet", folder / "out.json",
            "--encoder", given.encoder, "--cache", folder / "models",
        )  # fmt: skip
        peer = peer_python(given.peer_python) if given.peer == "bertopic" else None
        why = None
        if given.peer == "bertopic":
            why = "no interpreter with umap and hdbscan; make .venv-peer (make peer) or name one with --peer-python"
            if peer and not _has(peer, *PEER_NEEDS, "polars"):
                why = f"{peer} lacks one of {', '.join(PEER_NEEDS)}, polars (benchmarks/peer-requirements.txt)"
                peer = None
            elif peer:
                _process(peer, "warm-peer", folder / "texts.parquet", folder / "out.json")
        for one in sets:
            print(f"… {one.name}: {one.rows.height:,} texts", file=sys.stderr, flush=True)
            ours = measure("ours", one, Path(sys.executable), folder, given)
            yield {**ours, "first_use_seconds": made["seconds"]}
            if peer:
                try:
                    theirs = measure("bertopic", one, peer, folder, given)
                except RuntimeError as problem:
                    yield {"benchmark": "topics", "name": "bertopic", "data": one.name, "not_run": str(problem)}
                    continue
                yield {**theirs, **ratios(ours, theirs)}
            elif why:
                yield {"benchmark": "topics", "name": "bertopic", "data": one.name, "not_run": why}


def _sets(given: argparse.Namespace) -> list[Labelled]:
    if given.data:
        return [given_texts(given.data, given.text, given.label).some(given.rows, given.seed)]
    rows = given.rows or (None if given.full else ROWS)
    folder = Path(os.environ.get("FEEDBACK_REFERENCE_DATA") or ROOT / "../shared/reference")
    sets = reference_texts(folder)
    if not sets:
        print(f"no labelled sets in {folder}: only the sample is measured", file=sys.stderr)
    sets.append(sample_texts())
    every = [one.some(rows, given.seed) for one in sets]
    if len(sets) > 1:
        every.append(mixed(sets).some(rows, given.seed))
        if given.full and not given.rows:
            every.append(enlarged(mixed(sets), MIXED, given.seed))
    wanted = [name for name in given.sets.split(",") if name]
    return [one for one in every if not wanted or one.name in wanted] or sys.exit(
        f"--sets {given.sets}: found are {', '.join(one.name for one in every)}"
    )


# --- showing ----------------------------------------------------------------------------------------------------------


def _shown(key: str, row: Mapping[str, Any]) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if key == "repeat_ari":
        return "same" if row["repeat"] else f"{value:.2f}"
    if key == "coverage":
        return f"{value:.1%}"
    if key in ("seconds", "cpu_seconds"):
        return f"{value:,.1f}"
    return f"{value:,.0f}" if key in ("topics", "peak_mb") else f"{value:.3f}"


def ratios(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, float | None]:
    """How much faster and nearer to the labels ours is."""
    return {
        "seconds_ratio": peer["seconds"] / ours["seconds"],
        "cpu_ratio": peer["cpu_seconds"] / ours["cpu_seconds"],
        "ari_ratio": ours["ari"] / peer["ari"] if peer["ari"] > 0 else None,
        "nmi_difference": ours["nmi"] - peer["nmi"],
    }


def _about(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the ratios of a set are, in words."""
    ours = next((row for row in rows if row["name"] == "ours"), None)
    peer = next((row for row in rows if row["name"] != "ours"), None)
    if ours is None or peer is None:
        return ""
    if "not_run" in peer:
        return f"BERTopic was not run: {peer['not_run']}"
    than = ratios(ours, peer)
    ari = f", ARI × {than['ari_ratio']:.2f}" if than["ari_ratio"] else ""
    return (
        f"ours takes 1/{than['seconds_ratio']:.1f} of the seconds and 1/{than['cpu_ratio']:.1f} of the CPU seconds"
        f"{ari}, NMI {than['nmi_difference']:+.3f}"
    )


def losses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every figure in which the peer is better than ours by more than rounding."""
    ours = next((row for row in rows if row["name"] == "ours"), None)
    peer = next((row for row in rows if row["name"] != "ours" and "not_run" not in row), None)
    if ours is None or peer is None:
        return []
    found = []
    for key, words in COLUMNS.items():
        if key == "topics" or ours.get(key) is None or peer.get(key) is None:
            continue
        less_is_better = key in ("seconds", "cpu_seconds", "peak_mb")
        if (peer[key] < ours[key] * 0.995) if less_is_better else (peer[key] > ours[key] + 0.0005):
            found.append(f"{words} {_shown(key, ours)} against {_shown(key, peer)}")
    return found


def _by_set(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("benchmark") == "topics":
            found.setdefault(row["data"], []).append(row)
    return found


PAGE = """# Topics, beside BERTopic's defaults

For anyone who wonders whether to use the workbench's topics or to call BERTopic themselves. Both are given the same
rows and judged by the same measures; the true labels are seen by neither. Written by `python -m benchmarks.topics
--markdown` from the results of

```sh
make peer                                             # once: .venv-peer with BERTopic, torch, UMAP, HDBSCAN
make bench                                            # {rows:,} rows of every labelled set in the reference folder
python -m benchmarks.topics --full                    # all rows, and 100,000 texts (hours, most the peer's)
python -m benchmarks.topics --data FILE.parquet --text text --label label --peer bertopic --json
```

"Ours" is `topics.fit` with its defaults; a weekly run also asks that no topic holds more than a tenth of all texts.
"BERTopic" is `BERTopic()` {version} as its documentation begins: MiniLM-L6-v2 by sentence-transformers, UMAP, HDBSCAN,
its own words. Every run is a process of its own and seconds are those of the whole process, imports and embedding
included; models are on disk, vectors are not. The machine has {cores} cores and no GPU; the load before each run was
{load}{trust}

- **coverage**: share of texts that have a topic.
- **NMI**, **ARI**: against the labels, texts without a topic as one group.
- **accuracy at k**: given the true number of topics (ours `n_topics`, BERTopic `nr_topics`, its outliers not counted as
  a topic), best one-to-one match; a text without a topic is wrong.
- **coherence**: mean NPMI of pairs of a topic's ten words. **diversity**: share of different words among them.
- **label overlap**: share of topics whose ten words are nearest, by MiniLM, to the name of the class that most of its
  texts have.
- **repeat**: whether a second run gives the same labels; if not, their ARI with the first.

"""


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The results page: how it was measured, a table per set, and where we lose."""
    rows = [row for row in rows if row.get("benchmark") == "topics"]
    ran = [row for row in rows if "not_run" not in row]
    loads = [row["load"] for row in ran if row.get("load") is not None] or [0.0]
    cores = next((row["cores"] for row in ran if row.get("cores")), os.cpu_count() or 1)
    trust = ": other work ran beside it, so compare CPU seconds, not seconds." if max(loads) > cores / 2 else "."
    version = next((row.get("version") for row in ran if row["name"] != "ours"), "")
    load = f"{min(loads):g} to {max(loads):g}"
    lines = [PAGE.format(rows=ROWS, cores=cores, load=load, trust=trust, version=version).rstrip(), ""]
    lost: list[str] = []
    for name, some in _by_set(rows).items():
        here = [row for row in some if "not_run" not in row]
        if not here:
            continue
        lines += [f"## {name}: {here[0]['documents']:,} texts, {here[0]['labels']} labels", ""]
        lines += ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --: |" * len(COLUMNS)]
        for row in here:
            side = "**ours**" if row["name"] == "ours" else "BERTopic"
            lines.append(f"| {side} | " + " | ".join(_shown(key, row) for key in COLUMNS) + " |")
        if _about(some):
            lines += ["", _about(some)[0].upper() + _about(some)[1:] + "."]
        if losses(some):
            lost.append(f"- {name}: {'; '.join(losses(some))}.")
        lines.append("")
    compared = any(row["name"] != "ours" for row in ran)
    if compared:
        lines += ["## Where we lose", "", *(lost or ["In nothing measured here."]), ""]
    return "\n".join(lines)


def _print(row: Mapping[str, Any], shown: list[Mapping[str, Any]]) -> None:
    """One line of the readable table, under the heading of its set."""
    if not shown or shown[-1]["data"] != row["data"]:
        shown.clear()
        print(f"\n{row['data']}: {row['documents']:,} texts, {row['labels']} labels")
        print(f"{'':9}" + "".join(f"{words:>14}" for words in COLUMNS.values()))
    shown.append(row)
    if "not_run" not in row:
        print(f"{row['name']:9}" + "".join(f"{_shown(key, row):>14}" for key in COLUMNS))
    if row["name"] != "ours":
        print(_about(shown), flush=True)
        lost = losses(shown)
        print("we lose in: " + "; ".join(lost) if lost else "we lose in nothing measured here", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Parquet file with a text and a label column")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, help=f"measure on so many rows drawn [default: {ROWS:,}; with --data: all]")
    parser.add_argument("--full", action="store_true", help=f"all rows, and {MIXED:,} texts mixed and varied (hours)")
    parser.add_argument("--sets", default="", help="without --data: only these, by name, with commas")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--peer", choices=["bertopic", "none"], help="[default: bertopic; with --data: none]")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has the peer [default: this, .venv-peer]")
    parser.add_argument("--encoder", default='{"kind": "minilm"}', help="ours, as in params: JSON")
    parser.add_argument("--once", action="store_true", help="no second run: no repeat, no accuracy")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--markdown", type=Path, metavar="JSONL", help="only print a results file as Markdown")
    given = parser.parse_args()
    if given.markdown:
        print(markdown(json.loads(line) for line in given.markdown.read_text("utf-8").splitlines()), end="")
        return
    given.peer = given.peer or ("none" if given.data else "bertopic")
    shown: list[Mapping[str, Any]] = []
    for row in results(given):
        if given.json:
            print(json.dumps(row), flush=True)
        else:
            _print(row, shown)


if __name__ == "__main__":
    main()
