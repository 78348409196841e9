"""A fast model for one big corpus: what a slow model says about a sample of it, learnt by words and pairs of words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.encoders.int8 import Int8

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

SAMPLE = 6000  # texts the teacher embeds
_COUNTED = 50_000  # texts that tell how common a word is
_PAIRS = 2**17  # places a pair of words is hashed to
_TOGETHER = 4096  # texts in one matrix
_PRIOR, _WORDS = 1.0, 0.3  # strength of the two ridges


class Fitted:
    """Texts to vectors in the space of the teacher: each word and pair of words has a vector, weighted by rarity."""

    def __init__(self, model: Int8) -> None:
        self._model = model
        self._words = model.vocabulary()

    def fit(self, texts: Sequence[str], taught: Vectors, corpus: Sequence[str]) -> Fitted:
        """Learn the vectors of words and pairs.

        Args:
            texts: a sample of the corpus.
            taught: their vectors by the teacher.
            corpus: more of it, for how common words are.
        """
        import scipy.linalg
        import scipy.sparse
        from threadpoolctl import threadpool_limits

        seen = np.zeros(self._words + _PAIRS)
        for start in range(0, len(corpus), _TOGETHER):
            seen += np.bincount(self._present(corpus[start : start + _TOGETHER]).indices, minlength=len(seen))
        self._rarity = np.log((len(corpus) + 1) / (seen + 1)).astype(np.float32)
        self._mean = taught.mean(axis=0)
        # what the teacher says of each word alone is what is known of words that the sample lacks
        words = np.flatnonzero(seen[: self._words])
        alone = np.zeros((self._words, taught.shape[1]), np.float32)
        if len(words):
            alone[words] = self._model.one_by_one(words)
            alone[words] -= alone[words].mean(axis=0)
        weighted = scipy.sparse.vstack(
            [self._weighted(texts[start : start + _TOGETHER]) for start in range(0, len(texts), _TOGETHER)], "csr"
        )
        # One thread: with more, the last digits of a solution depend on how many there are.
        with threadpool_limits(1):
            first = weighted[:, : self._words] @ alone
            ridge = first.T @ first + _PRIOR * np.eye(first.shape[1], dtype=np.float32)
            turn = scipy.linalg.solve(ridge, first.T @ (taught - self._mean), assume_a="pos").astype(np.float32)
            left = taught - self._mean - first @ turn
            alike = np.empty((len(texts), len(texts)), np.float32, order="F")
            # in strips, because the whole product as a sparse matrix takes three times as much memory
            for start in range(0, len(texts), 500):
                alike[start : start + 500] = (weighted[start : start + 500] @ weighted.T).toarray()
            alike[np.diag_indices_from(alike)] += _WORDS
            share = scipy.linalg.solve(alike, left, assume_a="pos", overwrite_a=True).astype(np.float32)
            vectors = np.asarray(weighted.T @ share)
            vectors[: self._words] += alone @ turn
        known = np.abs(vectors).any(axis=1)
        self._place = np.where(known, np.cumsum(known) - 1, -1)
        self._vectors = np.ascontiguousarray(vectors[known])
        return self

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1; each depends on its own text only."""
        blocks = [texts[start : start + _TOGETHER] for start in range(0, len(texts), _TOGETHER)]
        with ThreadPoolExecutor(self._model.threads) as pool:
            return np.concatenate(list(pool.map(self._embed, blocks)))

    def _embed(self, texts: Sequence[str]) -> Vectors:
        import scipy.sparse

        weighted = self._weighted(texts)
        place = self._place[weighted.indices]
        weighted.data[place < 0] = 0
        shape = (len(texts), len(self._vectors))
        compact = scipy.sparse.csr_array((weighted.data, np.maximum(place, 0), weighted.indptr), shape)
        vectors = np.asarray(compact @ self._vectors, np.float32) + self._mean
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return np.asarray(vectors, np.float32)

    def _present(self, texts: Sequence[str]) -> Any:
        """Texts × words and hashed pairs, 1 where it occurs."""
        import scipy.sparse

        tokens = self._model.words(texts)
        counts = np.fromiter(map(len, tokens), np.int64, len(tokens))
        flat = np.fromiter((token for ids in tokens for token in ids), np.int64, counts.sum())
        row = np.repeat(np.arange(len(tokens)), counts)
        pair = self._words + (flat[:-1] * 1_000_003 + flat[1:] * 8191) % _PAIRS
        together = row[:-1] == row[1:]
        width = self._words + _PAIRS
        cells = np.unique(np.concatenate([row * width + flat, row[:-1][together] * width + pair[together]]))
        starts = np.searchsorted(cells, np.arange(len(tokens) + 1) * width)
        return scipy.sparse.csr_array(
            (np.ones(len(cells), np.float32), (cells % width).astype(np.int32), starts.astype(np.int32)),
            (len(tokens), width),
        )

    def _weighted(self, texts: Sequence[str]) -> Any:
        found = self._present(texts)
        found.data = self._rarity[found.indices]
        lengths = np.sqrt(np.add.reduceat(np.append(found.data**2, 0), found.indptr[:-1]))
        lengths[np.diff(found.indptr) == 0] = 1
        found.data /= np.repeat(np.maximum(lengths, 1e-9), np.diff(found.indptr)).astype(np.float32)
        return found


def fit(
    model: Int8, texts: Sequence[str], teach: Callable[[Sequence[int]], Vectors]
) -> Callable[[Sequence[str]], Vectors]:
    """The fast model of a corpus.

    Args:
        model: the teacher.
        texts: the corpus in an order that says nothing about the texts and does not change, such as by hash.
        teach: gives the teacher's vectors of the texts at some places.
    """
    sample = range(min(SAMPLE, len(texts)))
    taught = teach(sample)
    made = Fitted(model).fit(texts[: len(sample)], taught, texts[:_COUNTED])
    logger.info("fitted=%s sample=%d words=%d", model.name, len(sample), len(made._vectors))
    return made.embed
