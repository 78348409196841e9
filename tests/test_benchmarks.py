"""Every benchmark can be run without arguments, or on a file given, and prints one JSON object per result."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

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
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


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


@pytest.mark.slow
def test_topics_and_triage_are_measured_on_a_file_given(texts):
    (ours,) = results("topics", "--data", str(texts))
    assert (ours["documents"], ours["labels"], ours["data"]) == (36, 3, "texts.parquet")
    assert 0 <= ours["nmi"] <= 1
    found = results("triage", "--data", str(texts))
    assert [result["n"] for result in found] == [36, 36]
    assert all(0 <= result["accuracy"] <= 1 for result in found)


def test_the_store_is_measured_beside_a_plain_merge():
    found = results("store", "--rows", "2000", "--batch", "100")
    assert [(r["inserted"], r["updated"]) for r in found] == [(20, 80), (0, 0), (20, 80)]


@pytest.mark.slow
def test_topics_without_a_file_are_measured_on_the_themes_of_the_sample():
    (ours,) = results("topics")
    assert ours["documents"] > 1000
    assert ours["labels"] > 20
    assert ours["nmi"] > 0.5
