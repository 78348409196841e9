"""A table of word vectors read from a folder in the format of Model2Vec: very fast, and as good as its table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from feedback_lib.encoders.int8 import plain
from feedback_lib.errors import ConfigError

Vectors = npt.NDArray[np.float32]

_TOGETHER = 4096
_MAX_TOKENS = 512


class Static:
    """The mean of the vectors of a text's tokens.

    Args:
        path: the folder, with ``model.safetensors`` (``embeddings``; where there, ``weights`` and ``mapping`` of its
            tokens) and ``tokenizer.json``.

    Raises:
        ConfigError: a file is missing or is something else.
    """

    def __init__(self, path: Path) -> None:
        digest = hashlib.sha256()
        for part in (path / "model.safetensors", path / "tokenizer.json"):
            try:
                digest.update(part.read_bytes())
            except OSError as problem:
                raise ConfigError(
                    f"static encoder: {part} cannot be read ({problem.strerror}); 'path' names a folder in the format "
                    "of Model2Vec, with model.safetensors and tokenizer.json"
                ) from None
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        try:
            tensors = load_file(path / "model.safetensors")
            self._table = np.asarray(tensors["embeddings"], np.float32)
        except (SafetensorError, KeyError):
            raise ConfigError(f"static encoder: {path / 'model.safetensors'} holds no tensor 'embeddings'") from None
        if self._table.ndim != 2 or not len(self._table) or not np.isfinite(self._table).all():
            raise ConfigError(f"static encoder: 'embeddings' in {path} is no table of finite numbers")
        try:
            self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as problem:  # noqa: BLE001 - the library raises nothing more exact
            raise ConfigError(f"static encoder: {path / 'tokenizer.json'} is no tokenizer: {problem}") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        words = self._tokenizer.get_vocab_size()
        row = np.asarray(tensors.get("mapping", np.arange(words)), np.int64)
        if len(row) < words or row.max() >= len(self._table) or row.min() < 0:
            raise ConfigError(f"static encoder: the table in {path} has fewer rows than its tokenizer has tokens")
        weight = np.asarray(tensors.get("weights", np.ones(len(row))), np.float32)
        if len(weight) < words:
            raise ConfigError(f"static encoder: the table in {path} has fewer weights than its tokenizer has tokens")
        self._row, self._weight = row, weight[: len(row)].copy()
        unknown = self._tokenizer.token_to_id("[UNK]")
        if unknown is not None:
            self._weight[unknown] = 0
        middle = self._table.mean(axis=0)
        # of a text without a known token; it has to be somewhere
        self._none = middle if np.linalg.norm(middle) > 1e-6 else self._table[0] + 1e-3
        self.name = f"static-{path.resolve().name}@{digest.hexdigest()[:8]}"
        self.dimensions = self._table.shape[1]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of each text."""
        return np.concatenate([self._embed(texts[i : i + _TOGETHER]) for i in range(0, len(texts), _TOGETHER)])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        import scipy.sparse

        found = self._tokenizer.encode_batch_fast([plain(text) for text in texts], add_special_tokens=False)
        tokens = [encoding.ids for encoding in found]
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])])
        flat = np.fromiter((token for ids in tokens for token in ids), np.int64, starts[-1])
        bags = scipy.sparse.csr_array(
            (self._weight[flat], self._row[flat], starts), shape=(len(tokens), len(self._table))
        )
        vectors = np.asarray(bags @ self._table, np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        vectors[lengths < 1e-9] = self._none
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
