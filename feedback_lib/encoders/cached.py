"""The one cache around every encoder: a vector a text, kept on disk under the hash of the text."""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from feedback_lib.errors import ConfigError

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

_BLOCK = 2048  # texts embedded and committed at a time
_ASKED = 500  # keys in one query
_ROWS = 65536  # rows of the result worked on at a time


class Model(Protocol):
    """What is inside: texts to vectors, nothing kept."""

    @property
    def name(self) -> str:
        """Which model and build; another name is another cache."""
        ...

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of each text (at least one), length 1, which does not depend on the other texts."""
        ...


Fit = Callable[[Any, Callable[[Sequence[int]], Vectors]], Callable[[Sequence[str]], Vectors]]


class Cached:
    """An encoder that asks its model only for texts it has not seen. Threads and processes may share a cache.

    Args:
        model: what makes a vector.
        cache: folder of the vectors, about 1 KB a text.
        languages: the languages the model knows, None for any.
        progress: called with (texts done, texts to do) after each block of texts that had to be embedded.
        fit_above: with more unknown texts than this in one call, ``fit`` makes a faster model from a sample of them.
        fit: see `feedback_lib.encoders.fitted.fit`.
    """

    def __init__(
        self,
        model: Model,
        cache: Path,
        *,
        languages: frozenset[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        fit_above: int | None = None,
        fit: Fit | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.languages = languages
        self.progress = progress
        self._fit_above = fit_above
        self._fit = fit
        self._fitted = False

    @property
    def name(self) -> str:
        """Model and build; ends in ``+fitted`` once it has given vectors of a model fitted to a corpus."""
        return f"{self.model.name}+fitted" if self._fitted else self.model.name

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (n, d), float32, each of length 1; equal texts have equal vectors, today and next week."""
        first: dict[bytes, int] = {}
        same = np.empty(len(texts), np.int64)
        for row, text in enumerate(texts):
            same[row] = first.setdefault(hashlib.sha256(text.encode("utf-8", "replace")).digest(), row)
        if not first:
            return np.empty((0, self.model.dimensions), np.float32)
        keys = list(first)
        rows = np.fromiter(first.values(), np.int64, len(first))
        del first
        store = _Vectors(self.cache, self.model.name)
        with closing(store):
            vectors: Vectors | None = None
            known = np.zeros(len(keys), bool)
            for indexes, found, fitted in store.read(keys):
                if vectors is None:
                    vectors = np.empty((len(texts), found.shape[1]), np.float32)
                vectors[rows[indexes]] = found
                known[indexes] = True
                self._fitted |= fitted
            todo = np.flatnonzero(~known)
            if len(todo):
                vectors = self._embed(texts, keys, rows, todo, vectors, store)
        assert vectors is not None
        places = np.arange(len(texts))
        for some in np.array_split(rows, len(rows) // _ROWS + 1):
            # kept as float16, fresh or cached alike, so that the first run and the second see the same numbers
            block = vectors[some]
            vectors[some] = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-9)
        for some in np.array_split(places[same != places], len(texts) // _ROWS + 1):
            vectors[some] = vectors[same[some]]
        return vectors

    def _embed(
        self,
        texts: Sequence[str],
        keys: Sequence[bytes],
        rows: npt.NDArray[np.int64],
        todo: npt.NDArray[np.int64],
        vectors: Vectors | None,
        store: _Vectors,
    ) -> Vectors:
        done, of = 0, len(todo)
        out = vectors

        def embed(some: Sequence[int], model: Callable[[Sequence[str]], Vectors], fitted: bool) -> None:
            nonlocal done, out
            # in the order of their keys, a table grows at few places
            some = sorted(some, key=keys.__getitem__)
            fresh = model([texts[int(rows[i])] for i in some]).astype(np.float16)
            if out is not None and out.shape[1] != fresh.shape[1]:
                raise ConfigError(
                    f"{self.model.name} now gives {fresh.shape[1]} numbers a text, not {out.shape[1]}; "
                    f"delete its vectors in {self.cache}"
                )
            store.write([keys[i] for i in some], fresh, fitted)
            if out is None:
                out = np.empty((len(texts), fresh.shape[1]), np.float32)
            out[rows[np.asarray(some)]] = fresh
            done += len(some)
            if self.progress:
                self.progress(done, of)

        def embed_all(some: Sequence[int]) -> None:
            # texts of one length run together, so a block is best of texts of like length
            order = sorted(some, key=lambda i: len(texts[int(rows[i])]))
            for start in range(0, len(order), _BLOCK):
                embed(order[start : start + _BLOCK], self.model.embed, False)

        if self._fit is None or self._fit_above is None or of <= self._fit_above:
            embed_all(todo.tolist())
            assert out is not None
            return out
        order = sorted(todo.tolist(), key=keys.__getitem__)

        def teach(sample: Sequence[int]) -> Vectors:
            embed_all([order[i] for i in sample])
            assert out is not None
            return out[rows[[order[i] for i in sample]]]

        fast = self._fit(_Picked(texts, rows, order), teach)
        for start in range(done, of, 16 * _BLOCK):
            embed(order[start : start + 16 * _BLOCK], fast, True)
        self._fitted = True
        assert out is not None
        return out


class _Picked:
    """Some of the texts in another order, without a second list of a million."""

    def __init__(self, texts: Sequence[str], rows: npt.NDArray[np.int64], order: Sequence[int]) -> None:
        self._texts, self._rows, self._order = texts, rows, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self._texts[int(self._rows[i])] for i in self._order[at]]
        return self._texts[int(self._rows[self._order[at]])]


class _Vectors:
    """A SQLite file of vectors. When it cannot be read or written, the vectors are computed and a warning is logged."""

    def __init__(self, cache: Path, name: str) -> None:
        self._path = cache / f"vectors-{re.sub(r'[^A-Za-z0-9.@+-]', '_', name)}.sqlite"
        self._connection: sqlite3.Connection | None = None
        try:
            cache.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=60)
            self._connection.execute("PRAGMA page_size=8192")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            for table in ("vectors", "fitted"):
                self._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
                )
        except (sqlite3.Error, OSError) as problem:
            self._gone("read", problem)

    def read(self, keys: Sequence[bytes]) -> Iterator[tuple[npt.NDArray[np.int64], Vectors, bool]]:
        """Blocks of (positions in ``keys``, their vectors, whether of a fitted model)."""
        left = np.arange(len(keys))
        for table in ("vectors", "fitted"):
            found: list[npt.NDArray[np.int64]] = []
            try:
                if (
                    self._connection is None
                    or not self._connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                ):
                    continue
                for start in range(0, len(left), _ASKED):
                    places = {keys[i]: int(i) for i in left[start : start + _ASKED]}
                    marks = ",".join("?" * len(places))
                    query = f"SELECT key, vector FROM {table} WHERE key IN ({marks})"
                    got = self._connection.execute(query, list(places)).fetchall()
                    if got:
                        rows = np.array([places[key] for key, _ in got])
                        blob = b"".join(vector for _, vector in got)
                        found.append(rows)
                        yield (
                            rows,
                            np.frombuffer(blob, np.float16).reshape(len(got), -1).astype(np.float32),
                            table == "fitted",
                        )
            except (sqlite3.Error, OSError, ValueError) as problem:
                self._gone("read", problem)
                return
            if found:
                left = np.setdiff1d(left, np.concatenate(found), assume_unique=True)

    def write(self, keys: Sequence[bytes], vectors: npt.NDArray[np.float16], fitted: bool) -> None:
        """Keep them; what is there already stays."""
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.executemany(
                    f"INSERT OR IGNORE INTO {'fitted' if fitted else 'vectors'} VALUES (?, ?)",
                    ((key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)),
                )
        except (sqlite3.Error, OSError) as problem:
            self._gone("written", problem)

    def _gone(self, what: str, problem: Exception) -> None:
        logger.warning("vector cache %s not %s: %s", self._path, what, problem)
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
