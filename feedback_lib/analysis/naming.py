"""What a topic is called: the terms that tell it from the other topics, none saying again what an earlier one said."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

_PHRASE = 1.5  # in a name two words say more than one: "credit card", not "card"

# Polite words and words that say only that somebody has a problem: they are in every topic and name none.
_NOISE = """
hi hello dear regards thanks thank please help sorry problem problems issue issues question questions ve don doesn didn
isn won cant can't don't i'm i've it's doesn't im like just know need want wants wanted does did use using used try way
tried trying ok yes no really thing things lot possible able work works working say says said tell see saw look looks
make makes made going go goes went come comes day days time times today yesterday since get gets got set sure help
appreciated advance best kind good better different reason happen happens happened think persist solution fix fixed
"""
# Ordinary nouns and verbs of our field that scikit-learn's list of stop-words holds.
_MEANT = "name system computer bill call empty full fill bottom top side move find found detail amount back front show"
_TOKEN = r"(?u)\b[^\W\d_][\w'-]*\w\b"


def words(texts: Sequence[str], labels: Labels) -> list[tuple[str, ...]]:
    """Up to ten terms for each topic, most telling first, no two saying the same.

    The weight is class-based TF-IDF times the share of members that use the term, since one member's rare word names
    nothing; two words make a term only where they usually stand together.

    Args:
        texts: n clean texts in English, or their English glosses.
        labels: Shape (n,): the topic of each text, 0 to k - 1, -1 for none.

    Returns:
        k tuples; empty where a topic's texts hold no telling word.

    Source: Grootendorst 2022 (BERTopic, class-based TF-IDF with the square root of the frequencies).
    """
    import scipy.sparse
    from sklearn.feature_extraction.text import CountVectorizer

    k = int(labels.max(initial=-1)) + 1
    token = re.compile(_TOKEN)
    lower = [" ".join(token.findall(text.lower())) for text in texts]
    terms_of = _Terms(lower)
    if not any(map(terms_of, lower)):
        return [()] * k
    vectorizer = CountVectorizer(analyzer=terms_of)
    counts = vectorizer.fit_transform(lower)
    vocabulary, column = vectorizer.get_feature_names_out(), vectorizer.vocabulary_
    inside = np.flatnonzero(labels >= 0)
    member = scipy.sparse.csr_matrix((np.ones(len(inside)), (labels[inside], inside)), shape=(k, len(texts)))
    per_topic = (member @ counts).tocsr()
    sizes = np.maximum(np.asarray(per_topic.sum(axis=1)).ravel(), 1)
    rarity = np.log(1 + sizes.mean() / np.maximum(np.asarray(per_topic.sum(axis=0)).ravel(), 1))
    users = (member @ (counts > 0)).tocsr()
    case = _usual_case(texts)
    chosen = []
    for label in range(k):
        row, size = per_topic[label], np.bincount(labels[inside], minlength=k)[label]
        weight = np.sqrt(row.data / sizes[label]) * rarity[row.indices]
        used = np.asarray(users[label].todense()).ravel() / max(size, 1)
        terms = []
        for place in np.argsort(-weight, kind="stable")[:50].tolist():
            term = str(vocabulary[row.indices[place]])
            share = float(used[row.indices[place]])
            if share >= 0.3 * max(used[column[word]] for word in term.split()):
                shown = " ".join(case.get(word, word) for word in term.split())
                terms.append((shown, float(weight[place]) * share * (_PHRASE if " " in term else 1), share))
        shared = [t for t in terms if t[2] > max(0.1, 1 / max(size, 1))]
        ordered = sorted(shared if len(shared) > 1 else terms, key=lambda t: (-t[1], t[0]))
        chosen.append(tuple(_distinct([t[0] for t in ordered])[:10]))
    return chosen


class _Terms:
    """The terms of a text: its words without stop-words, and pairs of neighbours in the order people write them.

    Glosses of Romance languages say ``name folder``; whichever order is more frequent in all texts is used.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        count = Counter(word for text in texts for word in set(text.split()))
        usual = {word for word, texts_with in count.items() if texts_with > 0.3 * len(texts)}
        self.stop_words = (ENGLISH_STOP_WORDS - set(_MEANT.split())) | set(_NOISE.split()) | usual
        self.order = Counter(pair for text in texts for pair in set(itertools.pairwise(map(_stem, text.split()))))

    def __call__(self, text: str) -> list[str]:
        words = text.split()
        terms = [word for word in words if word not in self.stop_words]
        for one, other in itertools.pairwise(words):
            if one in self.stop_words or other in self.stop_words or one == other:
                continue
            stems = _stem(one), _stem(other)
            turned = self.order[stems[::-1]] > self.order[stems]
            terms.append(f"{other} {one}" if turned else f"{one} {other}")
        return terms


def _usual_case(texts: Sequence[str]) -> dict[str, str]:
    """How a word is usually written when it does not begin a sentence: ``english`` → ``English``."""
    seen = Counter(word for text in texts for word in re.findall(r"(?<=[\w,;)] )[^\W\d_][\w'-]*\w", text))
    best: dict[str, str] = {}
    for word, count in sorted(seen.items(), key=lambda item: (-item[1], item[0])):
        if count > 1:
            best.setdefault(word.lower(), word)
    return {lower: word for lower, word in best.items() if not (word.isupper() and len(word) > 5)}


def _stem(word: str) -> str:
    """A crude stem, only to see that two terms say the same."""
    word = word.lower().removesuffix("'s")
    for ending in ("ings", "ing", "ies", "ers", "er", "es", "ed", "s", "y", "e"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _distinct(terms: Sequence[str]) -> list[str]:
    """Terms in order of weight, none saying again what an earlier one said; a pair of words takes its word's place."""
    chosen: list[tuple[str, frozenset[str]]] = []
    for term in terms:
        stems = frozenset(map(_stem, term.split()))
        joined = {"".join(other.lower().split()) for other, _ in chosen}
        if len(stems) < len(term.split()) or "".join(term.lower().split()) in joined:
            continue
        covered = [i for i, (_, earlier) in enumerate(chosen) if earlier & stems]
        if not covered:
            chosen.append((term, stems))
        elif len(covered) == 1 and chosen[covered[0]][1] < stems:
            chosen[covered[0]] = term, stems
    return [term for term, _ in chosen]


def _name(terms: Sequence[str]) -> str:
    """Terms as a name: those of two words first, for they say most."""
    return ", ".join(sorted(terms, key=lambda term: " " not in term))


def names(words: Sequence[tuple[str, ...]]) -> list[str]:
    """A name for each topic out of its words: three terms, more where two topics would be called the same."""
    made: list[str] = []
    for label, terms in enumerate(words):
        length = 3
        while _name(terms[:length]) in made and length < len(terms):
            length += 1
        made.append(_name(terms[:length]) or f"topic {label + 1}")
    return made
