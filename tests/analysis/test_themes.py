"""Topics under themes: few, named apart, the same next week."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from feedback_lib import records
from feedback_lib.analysis import naming, themes

SUBJECTS = {
    "payment": ("card payment", "refund", "fee", "charge", "transfer", "top-up"),
    "search": ("search index", "query", "ranking", "filter", "result", "relevance"),
    "login": ("login page", "password", "session", "token", "certificate", "captcha"),
}


def row(topic_id, subject, own, *, size=20, seed=0, **more):
    """A topic near the direction of its subject."""
    random = np.random.default_rng([seed, topic_id])
    centre = random.normal(size=24) * 0.12
    centre[[*SUBJECTS, "printing"].index(subject)] += 1
    values = {
        "topic_id": topic_id, "name": own, "named_by": None, "pinned": False, "theme_id": None, "theme": None,
        "words": (subject, own), "examples": (), "dissenting": (), "born_on": dt.date(2026, 11, 16), "retired_on": None,
        "parents": (), "size": size, "centroid": tuple((centre / np.linalg.norm(centre)).tolist()), "least": 0.2,
        "updated_at": dt.datetime(2026, 11, 16, tzinfo=dt.UTC), "run_id": "r",
    }  # fmt: skip
    return values | more


def registry(extra=()):
    pairs = [(subject, own) for subject, words in SUBJECTS.items() for own in words]
    return records.frame("topics", [row(i + 1, *pair) for i, pair in enumerate(pairs)] + list(extra))


@pytest.fixture(scope="module")
def first():
    return themes.arrange(registry())


def test_topics_of_one_subject_share_a_theme_named_by_it(first):
    of = first.group_by(pl.col("words").list.first()).agg(pl.col("theme_id").n_unique(), pl.col("theme").first())
    assert of["theme_id"].to_list() == [1, 1, 1]
    assert first["theme_id"].n_unique() == 3
    assert all(subject in theme for subject, _, theme in of.rows())


def test_names_of_themes_are_short_and_say_different_things(first):
    names = first["theme"].unique().to_list()
    assert len({naming.said(name) for name in names}) == 3
    assert all(len(name) <= 40 and "\n" not in name for name in names)


def test_only_the_theme_columns_change(first):
    plain = registry()
    assert first.schema == plain.schema
    assert first.drop("theme_id", "theme").equals(plain.drop("theme_id", "theme"))


def test_the_order_of_rows_changes_nothing(first):
    turned = themes.arrange(registry().reverse()).sort("topic_id")
    assert turned.equals(first)


def test_a_topic_keeps_its_theme_when_its_centre_moves_and_the_name_stays(first):
    moved = first.with_columns(
        centroid=pl.Series(
            [
                row(i, s, "x", seed=7)["centroid"]
                for i, s in first.select("topic_id", pl.col("words").list.first()).rows()
            ]
        ),
        words=pl.Series([["other", "words"]] * first.height),
        size=pl.lit(3, pl.Int64),
    )
    again = themes.arrange(moved)
    assert again["theme_id"].equals(first["theme_id"])
    assert again["theme"].equals(first["theme"])


def test_a_new_topic_joins_the_nearest_theme(first):
    fresh = records.frame("topics", [row(90, "search", "autocomplete")])
    after = themes.arrange(pl.concat([first, fresh]))
    assert after.row(-1, named=True)["theme"] == first.filter(pl.col("words").list.first() == "search")["theme"][0]
    assert after.head(first.height).equals(first)


def test_a_subject_never_heard_of_founds_one_theme_for_its_topics(first):
    fresh = records.frame("topics", [row(90, "printing", "paper jam"), row(91, "printing", "toner")])
    after = themes.arrange(pl.concat([first, fresh]))
    assert after["theme_id"].to_list()[-2:] == [4, 4]
    assert "printing" in after["theme"][-1]


def test_with_as_many_themes_as_may_be_a_new_topic_joins_one(first):
    fresh = records.frame("topics", [row(90, "printing", "paper jam")])
    after = themes.arrange(pl.concat([first, fresh]), themes.ThemeOptions(most=3))
    assert after["theme_id"].n_unique() == 3


def test_an_id_of_a_retired_theme_is_not_used_again_and_its_row_stays(first):
    gone = records.frame(
        "topics", [row(80, "printing", "ink", theme_id=9, theme="ink", retired_on=dt.date(2026, 11, 1))]
    )
    fresh = records.frame("topics", [row(90, "printing", "paper jam")])
    after = themes.arrange(pl.concat([first, gone, fresh]))
    assert after.filter(pl.col("topic_id") == 80).select("theme_id", "theme").row(0) == (9, "ink")
    assert after.filter(pl.col("topic_id") == 90)["theme_id"].item() == 10


def test_a_name_a_person_gave_a_theme_stays(first):
    renamed = first.with_columns(theme=pl.when(pl.col("theme_id") == 1).then(pl.lit("Money")).otherwise("theme"))
    assert themes.arrange(renamed).equals(renamed)


def test_few_topics_need_no_themes_and_none_are_no_error():
    few = registry().head(5)
    assert themes.arrange(few)["theme_id"].null_count() == 5
    assert themes.arrange(registry().clear()).is_empty()


def test_week_after_week_every_topic_keeps_its_theme(first):
    now = first
    for week in range(1, 9):
        subject = ["payment", "search", "login", "printing"][week % 4]
        fresh = records.frame("topics", [row(100 + week, subject, f"matter {week}")])
        after = themes.arrange(pl.concat([now, fresh]))
        assert after.head(now.height).select("theme_id", "theme").equals(now.select("theme_id", "theme"))
        now = after
    assert now["theme_id"].n_unique() == 4


def test_there_are_between_five_and_fifteen_themes_for_a_hundred_topics():
    random = np.random.default_rng(3)
    centres = random.normal(size=(100, 32)) * 0.3 + np.repeat(random.normal(size=(9, 32)), 12, axis=0)[:100]
    rows = [
        row(i + 1, "payment", f"w{i}", centroid=tuple((c / np.linalg.norm(c)).tolist())) for i, c in enumerate(centres)
    ]
    made = themes.arrange(records.frame("topics", rows))
    assert 5 <= made["theme_id"].n_unique() <= 15
    assert made.group_by("theme_id").agg(pl.col("theme").n_unique())["theme"].max() == 1
    assert made["theme"].n_unique() == made["theme_id"].n_unique()
