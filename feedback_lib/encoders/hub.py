"""A sentence-transformers model in ONNX form from a model hub, fetched once; afterwards no network is needed."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.encoders.int8 import in_calls, plain, session, write_whole
from feedback_lib.errors import ConfigError, TransportError

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

_POOLING = "1_Pooling/config.json"
_RETRIED = frozenset((429, 500, 502, 503, 504))


class Hub:
    """A model of a hub.

    Args:
        model: its name there, such as ``sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2``.
        cache: folder that keeps the files, and in ``pin.json`` the exact revision and the SHA-256 of each file.
        revision: branch, tag or commit; it is looked up once and then stays what it was.
        file: the model's ONNX file.
        prefix: put before each text, for models that ask for it, such as ``"query: "``.
        max_tokens: a longer text is cut there.
        endpoint: where the hub is.
        threads: texts embedded side by side.

    Raises:
        ConfigError: an option cannot be used, or a kept file is not what was fetched.
        TransportError: the hub did not give a file.
    """

    def __init__(
        self,
        model: str,
        cache: Path,
        *,
        revision: str = "main",
        file: str = "onnx/model.onnx",
        prefix: str = "",
        max_tokens: int = 256,
        endpoint: str = "https://huggingface.co",
        threads: int = 1,
    ) -> None:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or ".." in model:
            raise ConfigError(
                f"hub encoder: model = {model!r} is no model's name, such as 'intfloat/multilingual-e5-small'"
            )
        if not re.fullmatch(r"[\w./-]+", file) or ".." in file or file.startswith("/"):
            raise ConfigError(f"hub encoder: file = {file!r} is no path in a model, such as 'onnx/model.onnx'")
        if not re.fullmatch(r"[\w./-]+", revision) or ".." in revision:
            raise ConfigError(f"hub encoder: revision = {revision!r} is no branch, tag or commit")
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 2:
            raise ConfigError(f"hub encoder: max_tokens = {max_tokens!r}: expected a whole number, at least 2")
        wanted = hashlib.sha256(f"{model}\n{revision}\n{file}".encode()).hexdigest()[:8]
        self._folder = cache / "hub" / f"{model.replace('/', '--')}@{wanted}"
        pin = self._pin() or _fetch(self._folder, endpoint, model, revision, ["tokenizer.json", _POOLING, file])
        for name, expected in pin["files"].items():
            path = self._folder / name
            found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            if found != expected:
                raise ConfigError(
                    f"hub encoder: {path} is {found}, but was fetched as {expected}; "
                    f"delete {self._folder} to fetch it again"
                )
        try:
            pooling = json.loads((self._folder / _POOLING).read_text())
        except ValueError:
            raise ConfigError(f"hub encoder: {self._folder / _POOLING} is not JSON; is it a sentence model?") from None
        modes = {name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True and "mode" in name}
        if modes not in ({"mean_tokens"}, {"cls_token"}):
            raise ConfigError(
                f"hub encoder: {model} pools by {', '.join(sorted(modes))}; mean_tokens or cls_token can be used"
            )
        from tokenizers import Tokenizer

        self._first = modes == {"cls_token"}
        self._prefix, self._threads = prefix, threads
        self._tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        graph = (self._folder / file).read_bytes()
        # quantised over a whole call, a text's vector would depend on the texts beside it
        self._at_once = 1 if b"DynamicQuantizeLinear" in graph else 256
        self._session: Any = session(self._folder / file)
        self._inputs = [given.name for given in self._session.get_inputs()]
        size = self._session.get_outputs()[0].shape[-1]
        self.dimensions = size if isinstance(size, int) else int(pooling.get("word_embedding_dimension") or 0)
        what = hashlib.sha256(json.dumps([pin["files"], prefix, max_tokens], sort_keys=True).encode()).hexdigest()
        self.name = f"hub-{model.replace('/', '--')}@{pin['revision'][:8]}-{what[:8]}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of each text."""
        found = self._tokenizer.encode_batch_fast([plain(self._prefix + text) for text in texts])
        # an empty text may have no token at all, which no model takes
        return in_calls([encoding.ids or [0] for encoding in found], self._run, self._threads, self._at_once)

    def _run(self, ids: npt.NDArray[np.int64]) -> Vectors:
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        out = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        if out.ndim == 3:
            out = out[:, 0] if self._first else out.mean(axis=1)
        return np.asarray(out, np.float32)

    def _pin(self) -> Any:
        try:
            return json.loads((self._folder / "pin.json").read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise ConfigError(f"hub encoder: {self._folder / 'pin.json'} is damaged; delete {self._folder}") from None


def _fetch(folder: Path, endpoint: str, model: str, revision: str, names: Sequence[str]) -> dict[str, Any]:
    """Fetch the files of one commit; ``pin.json`` comes last, so a broken fetch is begun anew."""
    base = endpoint.rstrip("/")
    try:
        commit = json.loads(b"".join(_get(f"{base}/api/models/{model}/revision/{revision}")))["sha"]
    except (ValueError, KeyError, TypeError):
        raise TransportError("hub encoder", f"{base} did not say which commit {revision!r} of {model} is") from None
    if not re.fullmatch(r"[0-9a-f]{7,64}", str(commit)):
        raise TransportError("hub encoder", f"{base} gave no commit for {revision!r} of {model}")
    files = {}
    for name in names:
        digest = hashlib.sha256()

        def parts(name: str = name, digest: Any = digest) -> Iterator[bytes]:
            for part in _get(f"{base}/{model}/resolve/{commit}/{name}"):
                digest.update(part)
                yield part

        write_whole(folder / name, parts())
        files[name] = digest.hexdigest()
    pin = {"model": model, "revision": commit, "endpoint": base, "files": files}
    write_whole(folder / "pin.json", [json.dumps(pin, indent=1).encode()])
    logger.info("fetched=%s revision=%s files=%d", model, commit, len(files))
    return pin


def _get(url: str) -> Iterator[bytes]:
    """The bytes behind an address: GET only, no credentials, and redirects as hubs keep big files elsewhere."""
    import httpx
    import stamina

    class Again(Exception):
        pass

    def opened(client: httpx.Client) -> httpx.Response:
        for attempt in stamina.retry_context(on=(Again, httpx.TransportError), attempts=3, wait_initial=0.2):
            with attempt:
                answer = client.send(client.build_request("GET", url), stream=True)
                if answer.status_code in _RETRIED:
                    answer.close()
                    raise Again(str(answer.status_code))
        return answer

    with httpx.Client(follow_redirects=True, timeout=60, headers={"User-Agent": "feedback-workbench"}) as client:
        try:
            answer = opened(client)
            if answer.status_code != 200:
                raise TransportError(
                    "hub encoder",
                    f"{url} answered {answer.status_code}; do the model and this file exist, and is it public?",
                    status=answer.status_code,
                )
            yield from answer.iter_bytes(2**20)
        except (Again, httpx.HTTPError, httpx.InvalidURL) as problem:
            message = f"{url} could not be read ({type(problem).__name__}); a model is fetched once, with a network"
            raise TransportError("hub encoder", message) from None
