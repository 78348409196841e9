"""The weekly run on 4,341 real support questions: a release that made folder names appear in English is found."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from feedback_lib import config, pipeline, records

PARAMS = Path(__file__).parents[1] / "params" / "thunderbird.yaml"
BUG = 1993842  # cited by helpers in 25 threads; serves only to check
pytestmark = [pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def answers(reference):
    """uid of every question → whether a helper cited the bug, or filed it under languages."""
    table = pl.read_parquet(reference / "feedback" / "sumo_thunderbird_2025-09_2025-12.parquet")
    ids = [records.uid("files", "sumo", str(i)) for i in table["id"]]
    return table.select(uid=pl.Series(ids), cited=pl.col("bug_ids").list.contains(BUG), created="created")


@pytest.fixture(scope="module")
def runs(reference, tmp_path_factory):
    """The weekly report (without notebooks) of the release week and of the week after."""
    import os

    before = os.environ.get("FEEDBACK_REFERENCE_DATA")
    os.environ["FEEDBACK_REFERENCE_DATA"] = str(reference)
    try:
        home = tmp_path_factory.mktemp("thunderbird")
        cfg = config.load(
            PARAMS, [f"store={home}/store", f"reports={home}/reports", f"registry={home}/topics.yaml", "sinks=[]"]
        )
    finally:
        if before is None:
            del os.environ["FEEDBACK_REFERENCE_DATA"]
        else:
            os.environ["FEEDBACK_REFERENCE_DATA"] = before
    made = {}
    for day in ("2025-10-20", "2025-10-27"):
        made[day] = pipeline.aggregate(cfg, as_of=config.parse_time(day))
    return cfg, made


@pytest.mark.parametrize("day", ["2025-10-20", "2025-10-27"])
def test_folder_names_in_english_are_among_the_new_or_growing_topics(runs, answers, day):
    shown = runs[1][day].report.to_dict()
    start = dt.datetime.fromisoformat(shown["week"]["start"]).replace(tzinfo=dt.UTC)
    week = answers.filter((pl.col("created") >= start) & (pl.col("created") < start + dt.timedelta(days=7)))
    cited = set(week.filter("cited")["uid"])
    moving = [f for f in shown["findings"] if f["subject_type"] == "topic" and f["kind"] in ("new", "growing")]
    found = max(moving, key=lambda f: len(cited & set(f["evidence"])))
    assert len(cited & set(found["evidence"])) >= 0.6 * len(cited), (len(cited), [f["name"] for f in moving])
    assert found["people"] >= 8
    assert found["low"] > 1.5
    assert found["q"] < 0.05


@pytest.mark.parametrize("day", ["2025-10-20", "2025-10-27"])
def test_it_leads_the_frictions_with_verbatims_in_several_languages(runs, day):
    shown = runs[1][day].report.to_dict()
    row = next(r for r in shown["frictions"] if "english" in r["name"].lower())
    assert row["badge"] in ("NEW", "GROWING")
    assert row["rank"] <= 2  # signatures that vanished rose in the same week
    assert len(row["verbatims"]) == 3
    assert {v["language"] for v in row["verbatims"]} - {"en"}


def test_the_file_s_own_labels_and_bug_numbers_were_not_read(runs):
    signals = pipeline.Store(runs[0].store).read("signals")
    assert signals["labels"].list.len().sum() == 0
    assert signals["product_area"].null_count() == signals.height


def test_languages_the_models_cannot_read_are_reported(runs):
    quality = runs[1]["2025-10-20"].report.to_dict()["quality"]
    assert quality["unread"] > 0
    assert {row["language"] for row in quality["languages"]} >= {"en", "it", "nl", "de", "fr", "es"}
