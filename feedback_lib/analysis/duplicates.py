"""Texts that say again what an earlier one said: copies for certain, and likely duplicates for a person to decide."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

COSINE, JACCARD = 0.95, 0.6  # a copy must be near in meaning AND share most of its words
LIKELY = 0.05  # score from which a pair is proposed: one in four says the same, see docs/duplicates.md
_SHINGLE = 3
_GRID = 2048  # as in topics: inner products of rounded vectors are exact, whatever the number of threads
_BLOCK = 1024
_FUSED = 5  # of 1 / (_FUSED + rank): small, because who reads looks at the first few
_TITLE = 3  # times a word of the first line counts
_WORD = re.compile(r"[^\W_]+(?:[-'’.+][^\W_]+)*")
_TERM = re.compile(r"[^\W\d]\w*|\d+")
_NUMBERED = re.compile(r"[^\s,;:()\[\]]*\d[^\s,;:()\[\]]*")
# log odds that a pair says the same, fitted on pairs of Hadoop issues that people read, see docs/duplicates.md
_ODDS = {"least": -9.9, "lexical": 7.3, "dense": 3.35, "numbers": -0.35}


# --- copies -----------------------------------------------------------------------------------------------------------


def near_copies(
    uids: Sequence[str], texts: Sequence[str], vectors: Vectors, cosine: float = COSINE, jaccard: float = JACCARD
) -> dict[str, str]:
    """Which texts are copies of an earlier one, give or take a few words.

    Args:
        uids: One per text, earliest first.
        texts: Clean texts.
        vectors: Shape (n, d), each of length 1.
        cosine: Least similarity of the vectors.
        jaccard: Least share of common word triples (words, for short texts) among all of both.

    Returns:
        uid of the copy → uid of the earliest text it copies, which is itself nobody's copy. Exact, and without
        comparing all with all: two texts that share enough must share one of their rarest word triples.

    Source: the prefix filter of Chaudhuri, Ganti and Kaushik 2006.
    """
    shingles = _shingles(texts)
    original: dict[int, int] = {}
    holding: dict[int, list[int]] = {}  # word triple → texts that are nobody's copy and have it among their rarest
    for later, (own, prefix) in enumerate(_rarest(shingles, jaccard)):
        size = len(own)
        near: set[int] = set()
        for shingle in prefix:
            near.update(holding.get(shingle, ()))
        for earlier in sorted(near):
            other = shingles[earlier]
            if not jaccard * size <= len(other) <= size / jaccard:
                continue
            shared = len(np.intersect1d(own, other, assume_unique=True))
            if shared >= jaccard * (size + len(other) - shared) and _cosine(vectors, earlier, later) >= cosine:
                original[later] = earlier
                break
        else:
            for shingle in prefix:
                holding.setdefault(shingle, []).append(later)
    return {uids[later]: uids[earlier] for later, earlier in original.items()}


def _cosine(vectors: Vectors, one: int, other: int) -> float:
    return float(np.einsum("i,i", vectors[one], vectors[other], dtype=np.float64))


def _shingles(texts: Sequence[str]) -> list[Integers]:
    """Each text's word triples (words, for short texts) as sorted numbers; the rarer a triple, the lower its number."""
    vocabulary: dict[str, int] = {}
    words = [[vocabulary.setdefault(w.casefold(), len(vocabulary)) for w in _WORD.findall(text)] for text in texts]
    sizes = np.array([len(row) for row in words], np.int64)
    flat = np.fromiter((word for row in words for word in row), np.int64, int(sizes.sum()))
    text_of = np.repeat(np.arange(len(texts)), sizes)
    long = sizes > 2 * _SHINGLE
    ends = np.cumsum(sizes)
    first = np.flatnonzero(long[text_of] & (np.arange(len(flat)) + _SHINGLE <= ends[text_of]))
    keys = flat[first]
    for step in range(1, _SHINGLE):  # numbered anew at each step, so that no product grows beyond 64 bits
        keys = np.unique(keys * len(vocabulary) + flat[first + step], return_inverse=True)[1]
    single = np.flatnonzero(~long[text_of])
    both = np.concatenate([keys + len(vocabulary), flat[single]])
    own = np.concatenate([text_of[first], text_of[single]])
    _, place, count = np.unique(both, return_inverse=True, return_counts=True)
    rarity = np.empty(len(count), np.int64)
    rarity[np.argsort(count, kind="stable")] = np.arange(len(count))
    order = np.lexsort((rarity[place], own))
    found = np.split(rarity[place][order], np.cumsum(np.bincount(own, minlength=len(texts)))[:-1])
    return [row[np.diff(row, prepend=-1) > 0] for row in found]


def _rarest(shingles: Sequence[Integers], jaccard: float) -> list[tuple[Integers, list[int]]]:
    """Each text's triples, and those of its rarest that others have too: to be alike, two must share one of them."""
    if not shingles:
        return []
    count = np.bincount(np.concatenate(shingles), minlength=1)
    found = []
    for own in shingles:
        prefix = own[: len(own) - math.ceil(jaccard * len(own) - 1e-9) + 1]
        found.append((own, prefix[count[prefix] > 1].tolist()))
    return found


# --- likely duplicates ------------------------------------------------------------------------------------------------


def candidates(
    uids: Sequence[str], texts: Sequence[str], vectors: Vectors, k: int = 20, asked: Sequence[int] | None = None
) -> pl.DataFrame:
    """Pairs of texts that may say the same, for a person to decide; likeliest first.

    Args:
        uids: One per text, earliest first.
        texts: As written, title first: error messages and names in code are compared as words.
        vectors: Shape (n, d), each of length 1.
        k: Most others looked at per text and per way of looking.
        asked: Indices of the texts that others are looked for; by default all.

    Returns:
        ``uid`` (the later), ``duplicate_of`` (the earlier), ``score`` (0–1, about the share of pairs with such a score
        that say the same), ``lexical_rank`` and ``dense_rank`` (1 is nearest; null when not among the first k).
    """
    import polars as pl

    found = ranked(texts, vectors, k, asked)
    pairs = found.select(
        pl.max_horizontal("row", "other").alias("later"),
        pl.min_horizontal("row", "other").alias("earlier"),
        "lexical",
        "dense",
        "fused",
        "lexical_rank",
        "dense_rank",
    )
    pairs = pairs.group_by("later", "earlier").agg(
        pl.col("lexical").max(),
        pl.col("dense").max(),
        pl.col("fused").max(),
        pl.col("lexical_rank").min(),
        pl.col("dense_rank").min(),
    )
    numbers = [set(_NUMBERED.findall(text.partition("\n")[0])) for text in texts]
    differ = [bool(numbers[a] ^ numbers[b]) for a, b in pairs.select("later", "earlier").iter_rows()]
    odds = (
        _ODDS["least"]
        + _ODDS["lexical"] * pl.col("lexical")
        + _ODDS["dense"] * pl.col("dense")
        + _ODDS["numbers"] * pl.Series(differ, dtype=pl.Boolean).cast(pl.Float64)
    )
    scored = pairs.with_columns(score=1 / (1 + (-odds).exp()))
    ordered = scored.sort("score", "fused", "later", "earlier", descending=[True, True, False, False])
    names = pl.Series(list(uids), dtype=pl.String)
    return ordered.select(
        names.gather(ordered["later"]).alias("uid"),
        names.gather(ordered["earlier"]).alias("duplicate_of"),
        "score",
        "lexical_rank",
        "dense_rank",
    )


def ranked(texts: Sequence[str], vectors: Vectors, k: int = 20, asked: Sequence[int] | None = None) -> pl.DataFrame:
    """For each text the others nearest in words and nearest in meaning, and both ranks fused.

    Returns:
        ``row`` and ``other`` (indices), ``lexical`` and ``dense`` (cosines), ``lexical_rank`` and ``dense_rank`` (null
        when not among the first k), ``fused``; by row, highest ``fused`` first.

    Source: TF-IDF, Salton and Buckley 1988; reciprocal rank fusion, Cormack, Clarke and Büttcher 2009.
    """
    import polars as pl

    if len(texts) != len(vectors):
        raise ValueError(f"{len(texts)} texts and {len(vectors)} vectors")
    rows = np.arange(len(texts)) if asked is None else np.asarray(asked, np.int64)
    k = min(k, len(texts) - 1)
    schema = {"row": pl.Int64, "other": pl.Int64}
    if k < 1 or not len(rows):
        empty = {"lexical": pl.Float64, "dense": pl.Float64, "lexical_rank": pl.Int64, "dense_rank": pl.Int64}
        return pl.DataFrame(schema={**schema, **empty, "fused": pl.Float64})
    terms = _terms(texts)
    grid = np.rint(vectors * _GRID).astype(np.float32)
    ways = {"lexical_rank": _nearest_in_words(terms, rows, k), "dense_rank": _nearest_in_meaning(grid, rows, k)}
    frames = {
        rank: pl.DataFrame({"row": found[0], "other": found[1], rank: found[2]}, schema={**schema, rank: pl.Int64})
        for rank, found in ways.items()
    }
    both = frames["lexical_rank"].join(frames["dense_rank"], on=["row", "other"], how="full", coalesce=True)
    one, other = both["row"].to_numpy(), both["other"].to_numpy()
    both = both.with_columns(
        lexical=pl.Series(_each(len(one), lambda s: _row_products(terms, one[s], other[s]))),
        dense=pl.Series(_each(len(one), lambda s: np.einsum("ij,ij->i", grid[one[s]], grid[other[s]]) / _GRID**2)),
        fused=sum((1 / (_FUSED + pl.col(rank))).fill_null(0.0) for rank in ways),
    )
    both = both.select("row", "other", "lexical", "dense", "lexical_rank", "dense_rank", "fused")
    return both.sort("row", "fused", "other", descending=[False, True, False])


def _each(count: int, part: Any) -> npt.NDArray[np.float64]:
    """A function of a slice over all slices, so that memory does not grow with the number of pairs."""
    slices = [slice(start, start + 16 * _BLOCK) for start in range(0, count, 16 * _BLOCK)]
    return np.concatenate([np.asarray(part(s), np.float64) for s in slices]) if slices else np.empty(0)


def _row_products(terms: Any, one: Integers, other: Integers) -> npt.NDArray[np.float64]:
    products: npt.NDArray[np.float64] = np.asarray(terms[one].multiply(terms[other]).sum(axis=1)).ravel()
    return products


def _terms(texts: Sequence[str]) -> Any:
    """Texts by terms, sparse, TF-IDF, each row of length 1; a name in code stays one term, numbers are terms."""
    import scipy.sparse

    vocabulary: dict[str, int] = {}
    columns: list[int] = []
    weights: list[float] = []
    ends = [0]
    for text in texts:
        title, _, body = text.partition("\n")
        count: Counter[str] = Counter()
        for part, times in ((title, _TITLE), (body, 1)):
            for word in _TERM.findall(part):
                if len(word) > 1:
                    count[_stem(word.lower())] += times
        for term, times in count.items():
            columns.append(vocabulary.setdefault(term, len(vocabulary)))
            weights.append(1 + math.log(times))
        ends.append(len(columns))
    shape = (len(texts), max(len(vocabulary), 1))
    found = scipy.sparse.csr_matrix((weights, columns, ends), shape=shape, dtype=np.float64)
    texts_with = np.bincount(found.indices, minlength=shape[1])
    found.data *= np.log(1 + (len(texts) - texts_with + 0.5) / (texts_with + 0.5))[found.indices]
    lengths = np.sqrt(np.bincount(_row_of(found), found.data**2, minlength=len(texts)))
    found.data /= np.maximum(lengths, 1e-9)[_row_of(found)]
    return found


def _row_of(matrix: Any) -> Integers:
    rows: Integers = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows


def _stem(word: str) -> str:
    """A crude stem, only to see that two words are forms of one."""
    for ending in ("ings", "ing", "ies", "ers", "er", "es", "ed", "s", "y", "e"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _nearest_in_words(terms: Any, rows: Integers, k: int) -> tuple[Integers, Integers, Integers]:
    """(row, other, rank) of the k others that share most; none that share nothing but what very many have."""
    texts_with = np.bincount(terms.indices, minlength=terms.shape[1])
    telling = terms.copy()
    telling.data[texts_with[terms.indices] > max(500, terms.shape[0] // 50)] = 0
    telling.eliminate_zeros()
    other_way = telling.T.tocsr()
    found: list[tuple[Integers, Integers, Integers]] = []
    for start in range(0, len(rows), _BLOCK // 4):
        some = rows[start : start + _BLOCK // 4]
        products = (telling[some] @ other_way).tocsr()
        for i, row in enumerate(some.tolist()):
            span = slice(products.indptr[i], products.indptr[i + 1])
            found.append(_first(row, products.indices[span], products.data[span], k))
    return _together(found)


def _nearest_in_meaning(grid: Vectors, rows: Integers, k: int) -> tuple[Integers, Integers, Integers]:
    """(row, other, rank) of the k others with the nearest vectors."""
    found: list[tuple[Integers, Integers, Integers]] = []
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        products = grid[some] @ grid.T
        best = np.argpartition(products, len(grid) - k - 1, axis=1)[:, len(grid) - k - 1 :]
        for i, row in enumerate(some.tolist()):
            found.append(_first(row, best[i], products[i, best[i]], k))
    return _together(found)


def _first(row: int, others: Any, likeness: Any, k: int) -> tuple[Integers, Integers, Integers]:
    others = np.asarray(others, np.int64)
    kept = others != row
    others, likeness = others[kept], np.asarray(likeness)[kept]
    if len(others) > 4 * k:
        best = np.flatnonzero(likeness >= np.partition(likeness, len(likeness) - k)[len(likeness) - k])
        others, likeness = others[best], likeness[best]
    order = np.lexsort((others, -likeness))[:k]
    return np.full(len(order), row), others[order], np.arange(1, len(order) + 1)


def _together(found: Sequence[tuple[Integers, Integers, Integers]]) -> tuple[Integers, Integers, Integers]:
    rows, others, ranks = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, others, ranks
