"""Names and words of topics: telling, readable, nothing said twice."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from feedback_lib.analysis import naming

ROOT = Path(__file__).parents[2]
TOPICS = {
    "top-up": ["My top-up failed", "The top up was refused", "topup failed again", "Why did the top-up fail?"],
    "refund": ["Where is my refund for the hotel?", "The refund was not received", "I want the refunds for my hotel"],
    "english": [
        "The folder names are in English now",
        "Why are my folder names suddenly in English?",
        "All folder names turned English after the update",
    ],
    "card": ["The card is not working", "My card isn't working abroad", "Your card doesn't seem to be working abroad"],
}
EVERY = [text for texts in TOPICS.values() for text in texts]
LABELS = np.repeat(np.arange(len(TOPICS)), [len(texts) for texts in TOPICS.values()])


@pytest.fixture(scope="module")
def words():
    return dict(zip(TOPICS, naming.words(EVERY, LABELS), strict=True))


def test_spellings_of_one_word_count_together_and_show_as_one(words):
    said = [term for term in words["top-up"] if "top" in term.lower()]
    assert len(said) == 1
    assert "top-up" in said[0].lower()
    assert "refunds" not in words["refund"]
    assert any("refund" in term for term in words["refund"])


def test_a_pair_is_shown_where_words_stand_together_and_words_keep_their_usual_case(words):
    assert "folder names" in words["english"]
    assert "English" in words["english"]


def test_what_is_denied_keeps_its_not(words):
    assert any("not working" in term for term in words["card"])


def test_a_name_two_of_many_members_sign_with_is_no_term_and_no_longer_is_no_denial():
    texts = [f"printer jam no longer clears {n}" for n in range(10)] + ["printer jam, Joan Kemp"] * 2
    texts += ["login page stays blank"] * 12
    first, _ = naming.words(texts, np.repeat([0, 1], 12))
    assert first[0] == "printer jam"
    assert not {"kemp", "not"} & {word.lower() for term in first for word in term.split()}


def test_no_term_begins_or_ends_with_a_stop_word():
    empty = {"the", "is", "my", "in", "are", "was", "for", "why", "where"}
    for term in itertools.chain.from_iterable(naming.words(EVERY, LABELS)):
        assert not {term.split()[0].lower(), term.split()[-1].lower()} & empty, term


def test_no_two_terms_of_a_topic_share_a_word_in_any_form(words):
    for terms in words.values():
        stems = [stem for term in terms for stem in naming.said(term)]
        assert len(stems) == len(set(stems)), terms


def test_a_word_of_one_member_names_nothing_where_others_share_words():
    texts = ["printer jam zebra", "printer jam yak", "printer jam wolf", "login page", "login page", "login page"]
    first, second = naming.words(texts, np.array([0, 0, 0, 1, 1, 1]))
    assert first[0] == "printer jam"
    assert second == ("login page",)


def test_the_order_most_people_write_names_a_turned_pair():
    texts = ["folder name wrong"] * 3 + ["name folder wrong"] + ["login page"] * 4
    first, _ = naming.words(texts, np.repeat([0, 1], 4))
    assert "folder name" in first[0]


def test_numbers_stand_only_beside_a_word():
    texts = [
        "error 403 on publish",
        "publish gives error 403",
        "403 error",
        "slow search",
        "search slow",
        "slow search",
    ]
    first, _ = naming.words(texts, np.array([0, 0, 0, 1, 1, 1]))
    assert "error 403" in first
    assert "403" not in first


def test_texts_without_a_telling_word_give_no_terms_and_a_number_for_a_name():
    words = naming.words(["is it?", "what is it", "login fails"], np.array([0, 0, 1]))
    assert words[0] == ()
    assert naming.names(words)[0] == "topic 1"
    assert naming.words([], np.empty(0, np.int64)) == []
    assert naming.words(["", "…"], np.array([0, 0])) == [()]


def test_texts_without_topic_count_only_as_background():
    texts = ["pay card", "pay card", "pay invoice", "pay invoice", "pay cheque", "pay fine"]
    (card,) = naming.words(texts, np.array([0, 0, -1, -1, -1, -1]))
    assert "card" in card[0]


@pytest.mark.parametrize(
    "second",
    [
        ("fees", "transfers", "top up"),
        ("top-up", "transfer fee"),
        ("transfer", "fee", "topup's", "top", "up"),
    ],
)
def test_names_that_say_the_same_in_another_order_or_form_are_told_apart(second):
    one, other = naming.names([("top-up", "transfer", "fee"), second])
    assert naming.said(one) != naming.said(other)


def test_a_name_takes_further_words_before_it_takes_a_number():
    names = naming.names([("a one", "b", "c", "d"), ("a one", "b", "c", "e"), ("a one", "b", "c"), ("a one", "b", "c")])
    assert names == ["a one, b, c", "a one, b, c, e", "a one, b, c (2)", "a one, b, c (3)"]


def test_a_name_that_another_topic_has_already_is_not_given_again():
    assert naming.names([("card", "payment")], taken=["payments, card"]) == ["card, payment (2)"]


@pytest.mark.thorough  # of quality on a real set
def test_names_of_a_real_set_find_their_class_more_often_than_ctfidf(reference):
    data = str(reference / "text" / "banking77.parquet")
    command = [sys.executable, "-m", "benchmarks.naming", "--data", data, "--partitions", "gold", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ours, plain = map(json.loads, done.stdout.splitlines())
    assert ours["name_first"] >= plain["name_first"] + 0.05
    assert ours["words_first"] >= plain["words_first"] + 0.05
    assert ours["name_first"] >= 0.68
    assert ours["repeats"] == ours["same_names"] == 0
