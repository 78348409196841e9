"""A fast model for one big corpus: what a slow model says about a sample of it, learnt by words and pairs of words."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.encoders.int8 import Int8, write_whole

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

SAMPLE = 6000  # texts the teacher embeds
_COUNTED = 50_000  # texts that tell how common a word is
_PAIRS = 2**17  # places a pair of words is hashed to
_TOGETHER = 4096  # texts in one matrix
_PRIOR, _WORDS = 1.0, 0.3  # strength of the two ridges


class Fitted:
    """Texts to vectors in the space of the teacher: each word and pair of words has a vector, weighted by rarity."""

    def __init__(self, tokens: Callable[[Sequence[str]], list[list[int]]], prior: Vectors, threads: int) -> None:
        self._tokens = tokens
        self._prior = prior
        self._threads = threads

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

        seen = np.zeros(len(self._prior) + _PAIRS)
        for start in range(0, len(corpus), _TOGETHER):
            seen += np.bincount(self._present(corpus[start : start + _TOGETHER]).indices, minlength=len(seen))
        self._rarity = np.log((len(corpus) + 1) / (seen + 1)).astype(np.float32)
        self._mean = taught.mean(axis=0)
        weighted = scipy.sparse.vstack(
            [self._weighted(texts[start : start + _TOGETHER]) for start in range(0, len(texts), _TOGETHER)], "csr"
        )
        words = weighted[:, : len(self._prior)]
        # Few numbers are solved for here: on several threads the last digits would depend on how many there are.
        with threadpool_limits(1):
            first = words @ self._prior
            ridge = first.T @ first + _PRIOR * np.eye(first.shape[1], dtype=np.float32)
            turn = scipy.linalg.solve(ridge, first.T @ (taught - self._mean), assume_a="pos").astype(np.float32)
            left = taught - self._mean - first @ turn
            alike = (weighted @ weighted.T).toarray()
            alike[np.diag_indices_from(alike)] += _WORDS
            share = scipy.linalg.solve(alike, left, assume_a="pos", overwrite_a=True).astype(np.float32)
            vectors = np.asarray(weighted.T @ share)
            vectors[: len(self._prior)] += self._prior @ turn
        known = np.abs(vectors).any(axis=1)
        self._place = np.where(known, np.cumsum(known) - 1, -1)
        self._vectors = np.ascontiguousarray(vectors[known])
        return self

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1; each depends on its own text only."""
        blocks = [texts[start : start + _TOGETHER] for start in range(0, len(texts), _TOGETHER)]
        with ThreadPoolExecutor(self._threads) as pool:
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

        tokens = self._tokens(texts)
        counts = np.fromiter(map(len, tokens), np.int64, len(tokens))
        flat = np.fromiter((token for ids in tokens for token in ids), np.int64, counts.sum())
        row = np.repeat(np.arange(len(tokens)), counts)
        pair = len(self._prior) + (flat[:-1] * 1_000_003 + flat[1:] * 8191) % _PAIRS
        together = row[:-1] == row[1:]
        width = len(self._prior) + _PAIRS
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
    made = Fitted(model.words, word_vectors(model), model.threads)
    made.fit(texts[: len(sample)], taught, texts[:_COUNTED])
    logger.info("fitted=%s sample=%d words=%d", model.name, len(sample), len(made._vectors))
    return made.embed


def word_vectors(model: Int8) -> Vectors:
    """What the model says of each token of its vocabulary alone; kept in the cache folder (23 MB)."""
    path = model.cache / f"{model.name}.words.npy"
    try:
        return np.asarray(np.load(path), np.float32)
    except (OSError, ValueError):
        found = model.one_by_one(np.arange(model.vocabulary())).astype(np.float16)
        found -= found.mean(axis=0, dtype=np.float32).astype(np.float16)
        file = io.BytesIO()
        np.save(file, found)
        try:
            write_whole(path, [file.getvalue()])
        except OSError as problem:
            logger.warning("%s not kept: %s", path, problem)
        return found.astype(np.float32)
