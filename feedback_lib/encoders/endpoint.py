"""Vectors from a service that speaks OpenAI's ``POST /v1/embeddings``. The texts leave this machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.transport import Reply, Transport, secret

Vectors = npt.NDArray[np.float32]

_PATH = "/v1/embeddings"


class Endpoint:
    """A service that makes vectors.

    Args:
        url: where the service is, without ``/v1/embeddings``.
        model: the model's name there.
        token_env: environment variable that holds the token; empty for a service without one.
        dimensions: numbers wanted in a vector, for models that can be asked; 0 leaves it to the service.
        batch: texts in one request.
        max_chars: a longer text is cut there, because services refuse what they cannot read whole.
        timeout_s: seconds one try may take.
        threads: requests at a time.

    Raises:
        ConfigError: an option cannot be used.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        token_env: str = "",
        dimensions: int = 0,
        batch: int = 64,
        max_chars: int = 8000,
        timeout_s: float = 60,
        threads: int = 1,
    ) -> None:
        if not model:
            raise ConfigError("http encoder: option 'model' is missing; it names the model of the service")
        for name, value, least in (("dimensions", dimensions, 0), ("batch", batch, 1), ("max_chars", max_chars, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"http encoder: {name} = {value!r}: expected a whole number, at least {least}")

        def headers() -> dict[str, str]:
            return {"Authorization": f"Bearer {secret(token_env, 'http encoder')}"} if token_env else {}

        self._transport = Transport("http encoder", url, headers=headers, searches=(_PATH,), timeout_s=timeout_s)
        self._model, self._batch, self._max_chars, self._threads = model, batch, max_chars, threads
        self._asked = dimensions
        self.dimensions = dimensions
        place = hashlib.sha256(f"{url}\n{model}\n{dimensions}\n{max_chars}".encode()).hexdigest()
        self.name = f"http-{model}@{place[:8]}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of each text.

        Raises:
            TransportError: the service gave no answer, or one that is not a vector of each text.
        """
        batches = [texts[start : start + self._batch] for start in range(0, len(texts), self._batch)]
        with ThreadPoolExecutor(self._threads) as pool:
            parts = list(pool.map(self._ask, batches))
        for part in parts:
            if self.dimensions and part.shape[1] != self.dimensions:
                raise TransportError(
                    "http encoder", f"model {self._model!r} gave {part.shape[1]} numbers after {self.dimensions}"
                )
            self.dimensions = part.shape[1]
        return np.concatenate(parts)

    def _ask(self, texts: Sequence[str]) -> Vectors:
        sent = [text[: self._max_chars].encode("utf-8", "replace").decode() or " " for text in texts]
        body: dict[str, Any] = {"model": self._model, "input": sent, "encoding_format": "float"}
        if self._asked:
            body["dimensions"] = self._asked
        reply = self._transport.call("POST", _PATH, body=body)
        try:
            rows = {int(item["index"]): item["embedding"] for item in reply.json()["data"]}
            found = np.array([rows[i] for i in range(len(texts))], np.float32)
        except (KeyError, TypeError, ValueError):
            raise _wrong(reply, f"is not one vector of the same size for each of {len(texts)} texts") from None
        if found.ndim != 2 or len(rows) != len(texts) or found.shape[1] == 0:
            raise _wrong(reply, f"is not one vector of the same size for each of {len(texts)} texts")
        lengths = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
        if not math.isfinite(lengths.sum()) or not lengths.all():
            raise _wrong(reply, "holds a vector that is not finite or has no length")
        return np.asarray(found / lengths, np.float32)


def _wrong(reply: Reply, what: str) -> TransportError:
    message = f"{reply.place}: the answer {what}; is it an OpenAI-compatible service of embeddings?"
    return TransportError("http encoder", message, status=reply.status)
