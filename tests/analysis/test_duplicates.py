from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from feedback_lib.analysis import duplicates


def unit(*rows):
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# --- copies

SAID = "the search page stays empty when I type more than three words into it"


def test_a_copy_points_to_the_earliest_text():
    texts = [SAID, "something else entirely about invoices", SAID + " !", SAID.upper()]
    found = duplicates.near_copies(["a", "b", "c", "d"], texts, unit([1, 0], [0, 1], [1, 0.01], [1, 0.02]))
    assert found == {"c": "a", "d": "a"}


def test_the_same_meaning_in_other_words_is_not_a_copy():
    texts = [SAID, "typing four words empties the results"]
    assert not duplicates.near_copies(["a", "b"], texts, unit([1, 0], [1, 0]))


def test_the_same_words_with_another_meaning_are_not_a_copy():
    assert not duplicates.near_copies(["a", "b"], [SAID, SAID], unit([1, 0], [0, 1]))


def test_empty_texts_are_nobodys_copies():
    assert not duplicates.near_copies(["a", "b"], ["", ""], unit([1, 0], [1, 0]))
    assert not duplicates.near_copies([], [], np.empty((0, 2), np.float32))


def all_with_all(texts, vectors):
    """The definition, in the plainest way."""
    sets = []
    for text in texts:
        words = text.casefold().split()
        size = 3 if len(words) > 6 else 1
        sets.append({tuple(words[i : i + size]) for i in range(len(words) - size + 1)})
    found = {}
    for later in range(len(texts)):
        for earlier in range(later):
            both = sets[later] | sets[earlier]
            alike = both and len(sets[later] & sets[earlier]) / len(both) >= duplicates.JACCARD
            if earlier not in found and alike and vectors[later] @ vectors[earlier] >= duplicates.COSINE:
                found[later] = earlier
                break
    return {str(later): str(earlier) for later, earlier in found.items()}


@pytest.mark.parametrize("seed", range(5))
def test_looking_only_at_rare_words_finds_the_same_as_comparing_all_with_all(seed):
    chance = np.random.default_rng(seed)
    said = [" ".join(chance.choice(list("abcdefgh"), chance.integers(1, 12))) for _ in range(60)]
    texts = []
    for _ in range(300):
        words = str(chance.choice(said)).split()
        if chance.random() < 0.5:
            words[chance.integers(len(words))] = "x"
        texts.append(" ".join(words))
    vectors = unit(*([1, 0.4 * chance.random()] for _ in texts))
    found = duplicates.near_copies([str(i) for i in range(len(texts))], texts, vectors)
    assert len(found) > 100
    assert found == all_with_all(texts, vectors)


def test_ten_thousand_copies_of_one_text_do_not_take_ten_thousand_squared():
    import time

    n = 10_000
    texts = [SAID if i % 2 else f"report {i} {i * 7} {i * 13} {i * 17} {i * 19} is here" for i in range(n)]
    started = time.process_time()
    found = duplicates.near_copies([str(i) for i in range(n)], texts, np.ones((n, 1), np.float32))
    assert set(found.values()) == {"1"}
    assert len(found) == n // 2 - 1
    assert time.process_time() - started < 5


# --- likely duplicates

REPORTS = [
    "Export fails with ConnectionResetError\nThe nightly export stops after a minute.",
    "Please add a dark mode\nMy eyes hurt in the evening.",
    "Folder names are shown in English\nMy computer is set to French.",
    "Nightly job does not finish\nIt says ConnectionResetError when the export is written.",
    "The evening theme\nA darker look would be kinder.",
    "Invoices are late\nThe post takes a week.",
]


def meant():
    return unit([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.7, 0, 0, 0.7], [0.1, 1, 0, 0.1], [0, 0, 0, 1])


def test_pairs_are_found_by_words_and_by_meaning():
    found = duplicates.candidates(list("abcdef"), REPORTS, meant(), k=2)
    first, second = found.head(2).select("uid", "duplicate_of").rows()
    assert {first, second} == {("d", "a"), ("e", "b")}
    by_meaning = found.filter((pl.col("uid") == "e") & (pl.col("duplicate_of") == "b")).row(0, named=True)
    assert by_meaning["dense_rank"] == 1
    by_words = found.filter((pl.col("uid") == "d") & (pl.col("duplicate_of") == "a")).row(0, named=True)
    assert by_words["lexical_rank"] == 1


def test_a_pair_is_one_row_the_later_text_first_and_scores_fall():
    found = duplicates.candidates(list("abcdef"), REPORTS, meant(), k=3)
    assert found.select("uid", "duplicate_of").is_unique().all()
    assert (found["uid"] > found["duplicate_of"]).all()
    assert found["score"].is_sorted(descending=True)
    assert found["score"].is_between(0, 1).all()


def test_only_the_texts_asked_about_are_looked_up():
    found = duplicates.candidates(list("abcdef"), REPORTS, meant(), k=2, asked=[3])
    assert all("d" in pair for pair in found.select("uid", "duplicate_of").rows())
    whole = duplicates.candidates(list("abcdef"), REPORTS, meant(), k=2)
    same = whole.filter((pl.col("uid") == "d") & (pl.col("duplicate_of") == "a"))
    assert found.head(1).drop("lexical_rank", "dense_rank").equals(same.drop("lexical_rank", "dense_rank"))


def test_equal_texts_score_higher_than_texts_with_another_number():
    texts = ["Upgrade netty to 4.1", "Upgrade netty to 4.1", "Upgrade netty to 4.2", "Something else", "And more of it"]
    found = duplicates.candidates(list("abcde"), texts, unit(*([1, 0.1],) * 3, [0, 1], [0.1, 1]), k=3)
    scores = {pair[:2]: pair[2] for pair in found.select("uid", "duplicate_of", "score").rows()}
    assert scores["b", "a"] > scores["c", "a"] > scores["e", "d"]


def test_a_text_alone_or_without_words_has_no_error():
    assert duplicates.candidates(["a"], ["alone"], unit([1, 0])).is_empty()
    assert duplicates.candidates([], [], np.empty((0, 2), np.float32)).is_empty()
    found = duplicates.candidates(["a", "b"], ["", ""], unit([1, 0], [0, 1]))
    assert found["lexical_rank"].null_count() == 1
    assert found["score"][0] < 0.01


def test_duplicates_of_a_real_tracker_are_among_the_first_ten(reference, cache):
    """Lexical recall alone (no model is loaded): MiniLM's part is measured by benchmarks.duplicates."""
    folder = reference / "text"
    issues = pl.read_parquet(folder / "gitbugs_hadoop.parquet")
    place = {issue: i for i, issue in enumerate(issues["Issue id"])}
    pairs = pl.read_csv(folder / "gitbugs_hadoop_duplicates.csv", infer_schema=False).rows()
    texts = [f"{title or ''}\n{body or ''}" for title, body in issues.select("Summary", "Description").rows()]
    asked = sorted({place[one] for one, other in pairs if other in place})
    found = duplicates.ranked(texts, np.ones((len(texts), 1), np.float32), 10, asked)
    near = set(found.filter(pl.col("lexical_rank").is_not_null()).select("row", "other").rows())
    known = [(place[one], place[other]) for one, other in pairs if other in place]
    assert sum(pair in near for pair in known) / len(known) > 0.8
