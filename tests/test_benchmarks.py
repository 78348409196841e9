"""Every benchmark can be run without arguments, or on a file given, and prints one JSON object per result."""

import contextlib
import importlib
import io
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.thorough
ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
TOLD = {
    "bug_report": ["The export fails with error 500", "The upload crashes since the update", "Search returns nothing"],
    "feature_request": [
        "Please add a dark mode",
        "It would be great to sort by owner",
        "Could you support ARM runners?",
    ],
    "praise": ["I love the new dashboard", "Great work, deploys are so fast now", "Thank you for the quick help"],
}


def ran(name, *arguments):
    """What ``python -m benchmarks.name`` prints and leaves with; run in this process, which has imported most of it."""
    told, code, before = (io.StringIO(), io.StringIO()), 0, dict(os.environ)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(ROOT)
        patch.syspath_prepend(str(ROOT))
        patch.setattr(sys, "argv", [name, *arguments])
        with contextlib.redirect_stdout(told[0]), contextlib.redirect_stderr(told[1]):
            try:
                runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code or 0
            finally:
                os.environ.clear()
                os.environ.update(before)
    return subprocess.CompletedProcess(name, code, told[0].getvalue(), told[1].getvalue())


def results(name, *arguments):
    done = ran(name, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]
    assert found
    assert all(isinstance(result, dict) for result in found)
    return found


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.parquet"
    rows = [
        {"text": f"{text} ({n})", "label": label} for label, told in TOLD.items() for text in told for n in range(4)
    ]
    pl.DataFrame(rows).write_parquet(path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_each_says_how_to_use_it_and_needs_no_argument(name):
    done = ran(name, "--help")
    assert done.returncode == 0, done.stderr
    usage = " ".join(done.stdout.partition("\n\n")[0].split())
    assert "--json" in usage
    required = usage.replace("[", "\n[").replace("]", "]\n").splitlines()
    assert not [part for part in required if part.strip().startswith("--")]


@pytest.fixture(scope="module")
def measures():
    """The module `benchmarks.topics`, which is no part of a package that is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("benchmarks.topics")


@pytest.mark.slow
def test_topics_are_measured_on_a_file_given_and_a_peer_that_cannot_be_run_is_said_to_be_so(texts, tmp_path):
    lacking = tmp_path / "python"
    lacking.write_text("#!/bin/sh\nexit 1\n")
    lacking.chmod(0o755)
    ours, peer = results("topics", "--data", str(texts), "--peer", "bertopic", "--peer-python", str(lacking))
    assert (ours["documents"], ours["labels"], ours["data"]) == (36, 3, "texts.parquet")
    assert 0 <= ours["nmi"] <= 1
    assert ours["repeat"]
    assert ours["seconds"] >= ours["encode_seconds"] + ours["fit_seconds"] > 0
    assert ours["cpu_seconds"] > 0
    assert ours["peak_mb"] > 50
    assert peer["name"] == "bertopic"
    assert "peer-requirements.txt" in peer["not_run"]


def test_triage_is_measured_on_a_file_given(texts):
    found = results("triage", "--data", str(texts))
    assert [result["n"] for result in found] == [36, 36]
    assert all(0 <= result["accuracy"] <= 1 for result in found)


def test_accuracy_matches_topics_to_classes_one_to_one_and_counts_texts_without_topic_as_wrong(measures):
    truth = ["a", "a", "a", "b", "b", "c"]
    assert measures.accuracy(truth, [1, 1, 1, 0, 0, 2]) == 1
    assert measures.accuracy(truth, [0, 0, 0, 0, 0, 1]) == pytest.approx(4 / 6)
    assert measures.accuracy(truth, [0, 0, -1, 1, 1, -1]) == pytest.approx(4 / 6)
    assert measures.accuracy(truth, [-1] * 6) == 0


def test_words_that_stand_together_cohere_and_words_that_never_do_do_not(measures):
    texts = ["open the door", "open a door", "pay the bill", "pay a bill"] * 5
    assert measures.coherence(texts, [["open", "door"], ["pay", "bill"]]) == pytest.approx(1)
    assert measures.coherence(texts, [["open", "bill"]]) == pytest.approx(-1)
    assert measures.coherence(texts, [["open", "the"]]) == pytest.approx(0)
    assert measures.coherence(texts, [["open door", "open"]]) is None
    assert measures.diversity([["a", "b"], ["A", "c"]]) == pytest.approx(3 / 4)


def test_labelled_sets_of_a_folder_are_found_and_their_parts_put_together(measures, tmp_path):
    rows = pl.DataFrame({"text": [f"text {i}" for i in range(20)], "label": ["a", "b"] * 10})
    rows.write_parquet(tmp_path / "told_train.parquet")
    rows.write_parquet(tmp_path / "told_test.parquet")
    rows.with_columns(repo=pl.lit("x/y").repeat_by(1).list.first()).write_parquet(tmp_path / "one_class.parquet")
    rows.drop("label").write_parquet(tmp_path / "unlabelled.parquet")
    rows.with_columns(label="text").write_parquet(tmp_path / "every_row_its_own.parquet")
    (found,) = measures.reference_texts(tmp_path)
    assert (found.name, found.rows.height) == ("told", 40)


def test_the_results_page_says_where_the_peer_is_better(measures):
    ours = {
        "benchmark": "topics", "name": "ours", "data": "told", "documents": 40, "labels": 2, "topics": 2, "nmi": 0.9,
        "ari": 0.8, "diversity": 0.5, "seconds": 2.0, "cpu_seconds": 2.0, "repeat": True, "repeat_ari": 1.0,
        "cores": 2, "load": 3.0,
    }  # fmt: skip
    peer = {
        **ours, "name": "bertopic", "nmi": 0.7, "ari": 0.4, "diversity": 0.6, "seconds": 20.0, "cpu_seconds": 30.0,
        "repeat": False, "repeat_ari": 0.7,
    }  # fmt: skip
    page = measures.markdown([ours, peer])
    assert "## told: 40 texts, 2 labels" in page
    assert "- told: diversity 0.500 against 0.600." in page
    assert "Ours takes 1/10.0 of the seconds and 1/15.0 of the CPU seconds, ARI × 2.00, NMI +0.200." in page
    assert "compare CPU seconds" in page
    assert measures.losses([ours, {**peer, "diversity": 0.4}]) == []


def test_duplicates_are_measured_on_a_folder_given(tmp_path):
    said = ["Export fails", "Dark mode please", "The export fails", "Folder names", "Invoices late", "Search empty"]
    issues = {"Issue id": list("abcdef"), "Summary": said, "Description": [""] * 6}
    pl.DataFrame(issues).write_parquet(tmp_path / "gitbugs_hadoop.parquet")
    (tmp_path / "gitbugs_hadoop_duplicates.csv").write_text("Issue id,Duplicate id\nc,a\nc,zz\n")
    found = {result["name"]: result for result in results("duplicates", "--data", str(tmp_path))}
    assert [found[way]["recall_at_1"] for way in ("lexical", "dense", "fused")] == [1, 1, 1]
    assert found["fused"]["asked"] == 1
    assert found["score >= 0.5"]["pairs"] <= found["score >= 0.02"]["pairs"]


def test_reading_a_service_is_measured_beside_a_bare_loop():
    found = {r["way"]: r for r in results("sources", "--items", "400", "--ways", "bare", "ours", "again")}
    assert {way: r["items"] for way, r in found.items()} == {"bare": 400, "ours": 400, "again": 2}
    assert found["ours"]["cpu_over_bare"] > 1


def test_faults_of_services_are_counted():
    found = results("source_faults", "--kinds", "github")
    assert {(r["lost"], r["error_after"]) for r in found} == {(0, None)}
    assert sum(r["happened"] for r in found) >= len(found)


def test_a_load_that_is_killed_loses_and_doubles_nothing():
    (found,) = results("sources_kill", "--items", "1500", "--kills", "1")
    assert [found[f"{table}_{what}"] for table in ("raw", "signals") for what in ("lost", "doubled")] == [0] * 4


def test_the_store_is_measured_beside_a_plain_merge():
    found = results("store", "--rows", "2000", "--batch", "100")
    assert [(r["inserted"], r["updated"]) for r in found] == [(20, 80), (0, 0), (20, 80)]


@pytest.mark.slow
def test_topics_without_a_file_are_measured_on_the_themes_of_the_sample():
    (ours,) = results("topics", "--sets", "sample", "--peer", "none", "--once", "--rows", "500")
    assert ours["documents"] == 500
    assert ours["repeat"] is None
    assert ours["labels"] > 20
    assert ours["nmi"] > 0.5
    assert ours["label_overlap"] > 0.3
