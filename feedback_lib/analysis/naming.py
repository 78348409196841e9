"""What a topic is called: the terms that tell it from the other topics, none saying again what an earlier one said."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

_PHRASE = 1.5  # in a name two words say more than one: "credit card", not "card"
_TOGETHER = 0.2  # a pair is a term when at least this share of those who use one of its words use both together
_TAIL = 0.1  # a term that weighs less than this share of the first says too little to be shown
_LIFT = 1.5  # used less than this many times as often as by everybody, it is the product's name, not the topic's
_LARGE = 10  # from so many members on, a term of two of them is passed over: it may be a name both sign with
_SHARED = 0.1  # a term used by fewer members is one person's word, not the topic's

# Polite words and words that say only that somebody has a problem: they are in every topic and name none.
_NOISE = """
hi hello dear regards thanks thank please help sorry problem problems issue issues question questions ve don doesn didn
isn won cant can't don't i'm i've it's doesn't im like just know need want wants wanted does did use using used try way
tried trying ok yes no really thing things lot possible able work works working say says said tell see saw look looks
make makes made going go goes went come comes day days time times today yesterday since get gets got set sure help
i'd i'll you're we're they're he's she's it'll that's there's here's what's let's couldn't wouldn't shouldn't hasn't
haven't hadn't aren't weren't wasn't isn't won't didn't doesn't appreciated advance best kind good better different
reason happen happens happened think persist solution fix fixed
"""
_DENIED = frozenset(("work", "works", "working"))  # they say something after "not" only
# Ordinary nouns and verbs of our field that scikit-learn's list of stop-words holds.
_MEANT = "name system computer bill call empty full fill bottom top side move find found detail amount back front show"
_TOKEN = re.compile(r"[^\W_](?:[\w'’+#-]*[\w+#])?|[.,;:!?()\[\]\"\n]")


def words(texts: Sequence[str], labels: Labels) -> list[tuple[str, ...]]:
    """Up to ten terms for each topic, most telling first, no two saying the same.

    A term's weight is its part in the Kullback-Leibler divergence of the topic from all texts: the share of members
    that use it, times the logarithm of how much more often they do so than everybody. Forms of one word count
    together (*refund*, *refunds*; *top-up*, *top up*, *topup*). Two neighbouring words make a term where they usually
    stand together; *not* counts as a word before what it denies (*not working*). A longer phrase gained nothing when
    measured.

    Args:
        texts: n clean texts in English, or their English glosses.
        labels: Shape (n,): the topic of each text, 0 to k - 1, -1 for none.

    Returns:
        k tuples; empty where a topic's texts hold no telling word.

    Source: Kullback and Leibler 1951; measured against BERTopic's c-TF-IDF in docs/topic-names.md.
    """
    k = int(labels.max(initial=-1)) + 1
    corpus = _read(texts)
    sizes = np.maximum(np.bincount(labels[labels >= 0], minlength=k), 1)
    if not len(corpus.word) or not k:
        return [()] * k
    single = _single(corpus, labels, sizes)
    pair, shown = _pairs(corpus, labels, sizes)
    stems = len(corpus.forms)
    share_of = single.topic * stems + single.code  # ascending, for the look-up of each word of a pair

    def share(topic: _Ints, stem: _Ints) -> npt.NDArray[np.float64]:
        wanted = topic * stems + stem
        if not len(share_of):
            return np.zeros(len(wanted))
        at = np.minimum(np.searchsorted(share_of, wanted), len(share_of) - 1)
        return np.where(share_of[at] == wanted, single.share[at], 0.0)

    most = np.maximum(share(pair.topic, pair.code // stems), share(pair.topic, pair.code % stems))
    pair = pair.where((pair.share >= _TOGETHER * most) & (pair.count > 1))
    single_fits, pair_fits = single.usable(sizes), pair.usable(sizes)
    chosen = []
    for one, two in zip(single.best(k), pair.best(k), strict=True):
        terms = [(float(single.weight[i]), bool(single_fits[i]), corpus.forms[int(single.code[i])]) for i in one]
        terms += [(float(pair.weight[i]) * _PHRASE, bool(pair_fits[i]), shown(int(pair.code[i]))) for i in two]
        shared = [term for term in terms if term[1]]
        terms = sorted(shared if len(shared) > 1 else terms, key=lambda term: (-term[0], term[2]))
        telling = [term[2] for term in terms if term[0] >= _TAIL * terms[0][0]]
        chosen.append(tuple(distinct(telling)[:10]))
    return chosen


def names(words: Sequence[tuple[str, ...]], taken: Iterable[str] = ()) -> list[str]:
    """A name for each topic out of its words: three terms, more where another topic is called nearly the same.

    Args:
        words: As `words` gives them.
        taken: Names that other topics have already.

    Returns:
        Names of which no two hold the same words, whatever their order or form.
    """
    used = {said(name) for name in taken}
    made: list[str] = []
    for label, terms in enumerate(words):
        length = min(3, len(terms))
        while said(_name(terms[:length])) in used and length < len(terms):
            length += 1
        plain = name = _name(terms[:length]) or f"topic {label + 1}"
        for number in itertools.count(2):
            if said(name) not in used:
                break
            name = f"{plain} ({number})"
        used.add(said(name))
        made.append(name)
    return made


def said(name: str) -> frozenset[str]:
    """What a name says, whatever the order and form of its words: two names of equal value are near-repeats.

    >>> said("Top-up fees, transfer") == said("transfers, top up fee")
    True
    """
    return frozenset(map(_stem, re.findall(r"[\w']+", name)))


# --- texts as numbers -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Corpus:
    """All texts as one row of words: ``word[i]`` is a word of text ``text[i]``; the last word is *not*."""

    word: _Ints
    text: _Ints
    texts: int
    shown: list[str]  # word → as it is usually written
    stem: _Ints  # word → stem
    forms: list[str]  # stem → its most frequent word, as shown
    telling: _Flags  # word → whether a term may begin and end with it
    number: _Flags  # word → whether it begins with a digit; only in a pair it says something
    denies: _Flags
    deniable: _Flags


def _read(texts: Sequence[str]) -> _Corpus:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found = [_TOKEN.findall(text) for text in texts]
    written: dict[str, int] = {}
    forms = np.array([written.setdefault(token, len(written)) for tokens in found for token in tokens], np.int64)
    text = np.repeat(np.arange(len(texts), dtype=np.int64), [len(tokens) for tokens in found])
    vocabulary: dict[str, int] = {}
    lower = [vocabulary.setdefault(token.lower().replace("’", "'"), len(vocabulary)) for token in written]
    mark = np.array([not token[0].isalnum() for token in written] or [False])
    inside = np.flatnonzero((text[1:] == text[:-1]) & ~mark[forms[:-1]]) + 1 if len(forms) else forms
    shown = _usual_case(list(written), lower, np.bincount(forms[inside], minlength=len(written)), list(vocabulary))
    word, text = _one_spelling(np.array(lower, np.int64)[forms] if len(forms) else forms, text, vocabulary)

    every = [*vocabulary, "not"]
    shown.append("not")
    stems: dict[str, int] = {}
    stem = np.array([stems.setdefault(_light_stem(token), len(stems)) for token in every], np.int64)
    stem[-1] = len(stems)  # "not" is no form of a word
    counts = np.bincount(word, minlength=len(every))
    best = [""] * (len(stems) + 1)
    for i in np.argsort(-counts, kind="stable").tolist():
        best[stem[i]] = best[stem[i]] or shown[i]
    noise = set(_NOISE.split())
    function = ENGLISH_STOP_WORDS - set(_MEANT.split())
    empty = function | noise
    return _Corpus(
        word=word,
        text=text,
        texts=len(texts),
        shown=shown,
        stem=stem,
        forms=best,
        telling=np.array([len(t) > 1 and t[0].isalnum() and not {t, t.partition("'")[0]} & empty for t in every]),
        number=np.array([t[0].isdigit() for t in every]),
        denies=np.array([t in ("not", "never", "cannot", "cant") or t.endswith("n't") for t in every]),
        deniable=np.array([t[0].isalpha() and (t not in empty or t in _DENIED) for t in every]),
    )


def _usual_case(written: list[str], lower: list[int], inside: _Ints, vocabulary: list[str]) -> list[str]:
    """How each word is usually written when it does not begin a sentence: ``english`` → ``English``."""
    shown, most = list(vocabulary), np.ones(len(vocabulary), np.int64)
    for token, i, count in sorted(zip(written, lower, inside.tolist(), strict=True), key=lambda one: one[0]):
        if count > most[i] and not (token.isupper() and len(token) > 5):
            shown[i], most[i] = token.replace("’", "'"), count
    return shown


def _one_spelling(word: _Ints, text: _Ints, vocabulary: dict[str, int]) -> tuple[_Ints, _Ints]:
    """*top up* and *topup* become *top-up* where a text writes it so."""
    joined = np.arange(len(vocabulary), dtype=np.int64)
    pairs: dict[int, int] = {}
    often = np.bincount(word, minlength=len(vocabulary)) > 1
    for token, i in vocabulary.items():
        one, _, two = token.partition("-")
        if one and two and often[i] and "-" not in two:
            if one in vocabulary and two in vocabulary:
                pairs[vocabulary[one] * len(vocabulary) + vocabulary[two]] = i
            if one + two in vocabulary:
                joined[vocabulary[one + two]] = i
    if pairs:
        keys = np.array(sorted(pairs), np.int64)
        code = word[:-1] * len(vocabulary) + word[1:]
        at = np.minimum(np.searchsorted(keys, code), len(keys) - 1)
        hits = np.flatnonzero((keys[at] == code) & (text[1:] == text[:-1]))
        word = word.copy()
        word[hits] = np.array([pairs[int(key)] for key in keys], np.int64)[at[hits]]
        kept = np.ones(len(word), bool)
        kept[hits + 1] = False
        word, text = word[kept], text[kept]
    return joined[word] if len(word) else word, text


# --- terms ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Terms:
    """One entry for each topic and term it uses, ascending."""

    topic: _Ints
    code: _Ints
    count: _Ints  # members that use it
    share: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]

    def where(self, kept: _Flags) -> _Terms:
        return _Terms(*(getattr(self, field.name)[kept] for field in dataclasses.fields(self)))

    def usable(self, sizes: _Ints) -> _Flags:
        """Whether a term speaks for the topic: used by enough members, and clearly more often than by everybody."""
        enough = (self.share > _SHARED) & (self.count >= np.where(sizes[self.topic] < _LARGE, 2, 3))
        kept: _Flags = enough & (self.weight >= self.share * np.log(_LIFT))
        return kept

    def best(self, topics: int, most: int = 50) -> list[_Ints]:
        """The entries of each topic that weigh most."""
        order = np.lexsort((self.code, -self.weight, self.topic))
        ends = np.searchsorted(self.topic[order], np.arange(topics + 1))
        return [order[start : min(end, start + most)] for start, end in itertools.pairwise(ends.tolist())]


def _weighed(code: _Ints, text: _Ints, texts: int, labels: Labels, sizes: _Ints) -> _Terms:
    """Weights of terms from their occurrences; a text counts once."""
    terms, of = np.unique(code, return_inverse=True)
    once = np.unique(of.astype(np.int64) * texts + text)
    of, text = once // max(texts, 1), once % max(texts, 1)
    everywhere = np.bincount(of, minlength=len(terms))
    inside = labels[text] >= 0
    used, count = np.unique(labels[text[inside]] * len(terms) + of[inside], return_counts=True)
    topic, term = used // max(len(terms), 1), used % max(len(terms), 1)
    share = count / sizes[topic]
    above = np.maximum(np.log(share * texts / everywhere[term]), 1e-3)  # a lone topic still has its frequent words
    return _Terms(topic, terms[term], count, share, share * above)


def _single(corpus: _Corpus, labels: Labels, sizes: _Ints) -> _Terms:
    kept = (corpus.telling & ~corpus.number)[corpus.word]
    return _weighed(corpus.stem[corpus.word[kept]], corpus.text[kept], corpus.texts, labels, sizes)


def _pairs(corpus: _Corpus, labels: Labels, sizes: _Ints) -> tuple[_Terms, Callable[[int], str]]:
    """Pairs of neighbours, in the order people write them, and how to show one.

    Glosses of Romance languages say ``name folder``; whichever order is more frequent in all texts is used.
    """
    one, two, text = _neighbours(corpus)
    stems, words = len(corpus.forms), len(corpus.shown)
    codes, of, counts = np.unique(corpus.stem[one] * stems + corpus.stem[two], return_inverse=True, return_counts=True)
    other = codes % stems * stems + codes // stems
    at = np.minimum(np.searchsorted(codes, other), max(len(codes) - 1, 0))
    turned = (codes[at] == other) & (counts[at] > counts)
    terms = _weighed(np.where(turned, other, codes)[of], text, corpus.texts, labels, sizes)

    straight = ~turned[of]
    forms, uses = np.unique(one[straight] * words + two[straight], return_counts=True)
    code = corpus.stem[forms // words] * stems + corpus.stem[forms % words]
    order = np.lexsort((forms, -uses, code))
    known, first = np.unique(code[order], return_index=True)
    best = forms[order][first]

    def shown(term: int) -> str:
        form = int(best[np.searchsorted(known, term)])
        return f"{corpus.shown[form // words]} {corpus.shown[form % words]}"

    return terms, shown


def _neighbours(corpus: _Corpus) -> tuple[_Ints, _Ints, _Ints]:
    """First word, second word and text of each pair that may be a term."""
    one, two, text = corpus.word[:-1], corpus.word[1:], corpus.text[:-1]
    same = (text == corpus.text[1:]) & (corpus.stem[one] != corpus.stem[two])
    telling = same & corpus.telling[one] & corpus.telling[two] & ~(corpus.number[one] & corpus.number[two])
    denied = same & corpus.denies[one] & corpus.deniable[two]
    denying = np.full(int(denied.sum()), len(corpus.shown) - 1, np.int64)
    return (
        np.concatenate([one[telling], denying]),
        np.concatenate([two[telling], two[denied]]),
        np.concatenate([text[telling], text[denied]]),
    )


def _light_stem(word: str) -> str:
    """What the forms of a word share; they count as one word."""
    word = word.removesuffix("'s")
    for ending in ("ings", "ing", "ies", "es", "ed", "s", "y", "e"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            left = word[: -len(ending)]
            doubled = ending in ("ing", "ings", "ed") and len(left) > 3 and left[-1] == left[-2] not in "lsz"
            return left[:-1] if doubled else left
    return word


def _stem(word: str) -> str:
    """A crude stem, only to see that two terms say the same."""
    word = word.lower().removesuffix("'s")
    for ending in ("ings", "ing", "ies", "ers", "er", "es", "ed", "s", "y", "e"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def distinct(terms: Sequence[str]) -> list[str]:
    """Terms in order of weight, none saying again what an earlier one said; a pair of words takes its word's place."""
    chosen: list[tuple[str, frozenset[str]]] = []
    for term in terms:
        stems = said(term)
        joined = {re.sub(r"\W", "", other.lower()) for other, _ in chosen}
        if len(stems) < len(re.findall(r"[\w']+", term)) or re.sub(r"\W", "", term.lower()) in joined:
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
