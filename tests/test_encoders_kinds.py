from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import sqlite3
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from feedback_lib import encoders
from feedback_lib.encoders import cached, int8
from feedback_lib.errors import ConfigError, ReadOnlyError, TransportError

WORDS = ["[UNK]", "login", "fails", "search", "slow", "today"]
TABLE = np.random.default_rng(5).standard_normal((len(WORDS), 4)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


@contextlib.contextmanager
def served(answer):
    """A service on loopback: ``answer(method, path, headers, body)`` gives (status, headers, body)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = reply

        def log_message(self, *ignored):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "minilmm"}, "did you mean 'minilm'"),
        ({"kind": "minilm", "fit_abov": 3}, "did you mean 'fit_above'"),
        ({"fit_above": "many"}, "expected a whole number"),
        ({"fit_above": True}, "expected a whole number"),
        ({"kind": "static"}, "'path' is missing"),
        ({"kind": "http", "url": "http://localhost:1"}, "'model' is missing"),
        ({"kind": "http", "url": "http://localhost:1", "model": "m", "batch": 0}, "at least 1"),
        ({"kind": "http", "url": "localhost", "model": "m"}, "is no address"),
        ({"kind": "hub", "model": "../x"}, "is no model's name"),
        ({"kind": "hub", "model": "a/b", "file": "../x.onnx"}, "is no path"),
        ({"kind": "static", "path": "x", "languages": "german"}, r"such as \[en, de\]"),
    ],
)
def test_a_wrong_option_is_named_with_what_to_write(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        encoders.make(options, cache=tmp_path)


def test_without_options_it_is_minilm_for_english(tmp_path):
    encoder = encoders.make({}, cache=tmp_path)
    assert (encoder.name, encoder.languages) == (int8.Int8.name, {"en"})


# --- static


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "table"
    path.mkdir()
    save_file({"embeddings": TABLE}, path / "model.safetensors")
    tokenizer().save(str(path / "tokenizer.json"))
    return path


def test_a_static_vector_is_the_mean_of_the_known_tokens(tmp_path, folder):
    encoder = encoders.make({"kind": "static", "path": str(folder), "languages": ["de", "en"]}, cache=tmp_path)
    found = encoder.encode(["login fails", "login nowhere fails", "", "slow"])
    assert found == pytest.approx(unit(np.stack([TABLE[1] + TABLE[2], *found[1:3], TABLE[4]])), abs=2e-3)
    assert np.array_equal(found[0], found[1])  # an unknown word says nothing
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert encoder.languages == {"de", "en"}
    assert encoder.encode([]).shape == (0, 4)


def test_a_static_table_with_weights_and_shared_rows_is_read(tmp_path, folder):
    mapping = np.array([0, 1, 2, 1, 3, 3])
    weights = np.array([1, 2, 0.5, 1, 1, 1], np.float32)
    save_file({"embeddings": TABLE[:4], "mapping": mapping, "weights": weights}, folder / "model.safetensors")
    found = encoders.make({"kind": "static", "path": str(folder)}, cache=tmp_path).encode(["login fails", "search"])
    assert found == pytest.approx(unit(np.stack([2 * TABLE[1] + 0.5 * TABLE[2], TABLE[1]])), abs=2e-3)


def test_another_table_in_the_same_place_has_another_name_and_cache(tmp_path, folder):
    options = {"kind": "static", "path": str(folder)}
    before = encoders.make(options, cache=tmp_path)
    first = before.encode(["login"])
    save_file({"embeddings": TABLE[::-1].copy()}, folder / "model.safetensors")
    after = encoders.make(options, cache=tmp_path)
    assert after.name != before.name
    assert not np.allclose(after.encode(["login"]), first)


@pytest.mark.parametrize("lacks", ["model.safetensors", "tokenizer.json"])
def test_a_folder_that_is_no_static_model_is_refused(tmp_path, folder, lacks):
    options = {"kind": "static", "path": str(folder)}
    (folder / lacks).write_bytes(b"something else")
    with pytest.raises(ConfigError, match=r"embeddings|no tokenizer"):
        encoders.make(options, cache=tmp_path)
    (folder / lacks).unlink()
    with pytest.raises(ConfigError, match=lacks):
        encoders.make(options, cache=tmp_path)


def test_a_table_shorter_than_its_tokenizer_is_refused(tmp_path, folder):
    save_file({"embeddings": TABLE[:3]}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="fewer rows"):
        encoders.make({"kind": "static", "path": str(folder)}, cache=tmp_path)


# --- http


class Service:
    """An embeddings service that answers with the next fault, and right after them."""

    def __init__(self, *faults):
        self.faults, self.asked, self.tokens = list(faults), [], []

    def __call__(self, method, path, headers, body):
        asked = json.loads(body)
        self.asked.append(asked)
        self.tokens.append(headers.get("Authorization"))
        if (method, path) != ("POST", "/v1/embeddings"):
            return 404, {}, b""
        data = [
            {"index": i, "embedding": [1.0, len(text), text.count("e"), -2.0]} for i, text in enumerate(asked["input"])
        ]
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, tuple):
            return *fault, b"{}"
        if callable(fault):
            data = fault(data)
        return 200, {}, json.dumps({"data": data[::-1]}).encode()


def expected(texts):
    return unit(np.array([[1, len(t), t.count("e"), -2] for t in texts], float))


def test_a_service_is_asked_in_batches_and_only_once_for_a_text(tmp_path, monkeypatch):
    monkeypatch.setenv("VECTOR_TOKEN", "s3cret\n")
    service, texts = Service(), [f"{'e' * i} text" for i in range(7)]
    with served(service) as url:
        options = {"kind": "http", "url": url, "model": "m", "token_env": "VECTOR_TOKEN", "batch": 3}
        encoder = encoders.make(options, cache=tmp_path, threads=1)
        assert encoder.encode(texts) == pytest.approx(expected(texts), abs=1e-3)
        assert encoder.encode([*texts, ""]).shape == (8, 4)
    assert [len(asked["input"]) for asked in service.asked] == [3, 3, 1, 1]
    assert service.asked[-1] == {"model": "m", "input": [" "], "encoding_format": "float"}
    assert set(service.tokens) == {"Bearer s3cret"}
    assert encoder.languages is None
    assert not [path for path in tmp_path.iterdir() if b"s3cret" in path.read_bytes()]


def test_a_busy_service_is_asked_again(tmp_path):
    service = Service((429, {"Retry-After": "0"}), (500, {}))
    with served(service) as url:
        found = encoders.make({"kind": "http", "url": url, "model": "m"}, cache=tmp_path).encode(["one", "three"])
    assert found == pytest.approx(expected(["one", "three"]), abs=1e-3)
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda data: data[1:], "not one vector of the same size"),
        (lambda data: [*data, {"index": 9, "embedding": [1.0] * 4}], "not one vector of the same size"),
        (lambda data: [{**data[0], "embedding": [1.0]}, *data[1:]], "not one vector of the same size"),
        (lambda data: [{**data[0], "embedding": [float("nan")] * 4}, *data[1:]], "not finite"),
        (lambda data: [{**data[0], "embedding": [0.0] * 4}, *data[1:]], "no length"),
        (lambda data: "nothing", "not one vector of the same size"),
        ((401, {}), "are the credentials right"),
    ],
    ids=["one missing", "one too many", "two sizes", "NaN", "zeros", "no list", "refused"],
)
def test_an_answer_that_is_not_a_vector_of_each_text_is_refused_and_not_kept(tmp_path, fault, said):
    service = Service(fault)
    with served(service) as url:
        encoder = encoders.make({"kind": "http", "url": url, "model": "m"}, cache=tmp_path, threads=1)
        with pytest.raises(TransportError, match=said):
            encoder.encode(["one", "three"])
        assert encoder.encode(["one", "three"]) == pytest.approx(expected(["one", "three"]), abs=1e-3)


def test_a_service_that_changes_its_size_is_found_out(tmp_path):
    short = lambda data: [{**item, "embedding": item["embedding"][:3]} for item in data]  # noqa: E731
    with served(Service(None, short, short)) as url:
        options = {"kind": "http", "url": url, "model": "m"}
        encoder = encoders.make(options, cache=tmp_path, threads=1)
        encoder.encode(["one"])
        with pytest.raises(TransportError, match="3 numbers after 4"):
            encoder.encode(["two"])
        with pytest.raises(ConfigError, match="now gives 3 numbers a text, not 4"):
            encoders.make(options, cache=tmp_path, threads=1).encode(["one", "three"])


def test_a_service_is_never_asked_to_write(tmp_path):
    with served(Service()) as url:
        encoder = encoders.make({"kind": "http", "url": url, "model": "m"}, cache=tmp_path)
        with pytest.raises(ReadOnlyError):
            encoder.model._transport.call("POST", "/v1/files", body={})


# --- hub


def graph() -> bytes:
    """A model of one step: the vectors of the tokens, from a table."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "t"])
    out = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", 4])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "last"], ["seen3"]),
        helper.make_node("Mul", ["rows", "seen3"], ["last_hidden_state"]),
    ]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([2]), "last")]
    made = helper.make_model(
        helper.make_graph(nodes, "tiny", [ids, mask], [out], constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(made)
    return made.SerializeToString()


class FakeHub:
    """A hub with one model; the big file is behind a redirect, as on real ones."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, pooling="mean_tokens"):
        self.asked, self.broken = [], 0
        self.files = {
            "tokenizer.json": tokenizer().to_str().encode(),
            "1_Pooling/config.json": json.dumps(
                {"word_embedding_dimension": 4, f"pooling_mode_{pooling}": True, "pooling_mode_max_tokens": False}
            ).encode(),
            "onnx/model.onnx": graph(),
        }

    def __call__(self, method, path, headers, body):
        self.asked.append((method, path))
        if self.broken:
            self.broken -= 1
            return 503, {}, b""
        if path == "/api/models/org/tiny/revision/main":
            return 200, {}, json.dumps({"sha": self.commit}).encode()
        start = f"/org/tiny/resolve/{self.commit}/"
        if path == f"{start}onnx/model.onnx":
            return 302, {"Location": "/elsewhere"}, b""
        if path == "/elsewhere":
            return 200, {}, self.files["onnx/model.onnx"]
        name = path.removeprefix(start)
        return (200, {}, self.files[name]) if name in self.files else (404, {}, b"")


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token"])
def test_a_model_is_fetched_once_at_one_commit_and_then_runs_without_a_network(tmp_path, pooling):
    hub = FakeHub(pooling)
    hub.broken = 1
    texts = ["login fails", "search slow today", "login"]
    with served(hub) as url:
        options = {"kind": "hub", "model": "org/tiny", "endpoint": url}
        found = encoders.make(options, cache=tmp_path, threads=2).encode(texts)
    rows = [TABLE[[1, 2]], TABLE[[3, 4, 5]], TABLE[[1]]]
    pooled = [r[0] if pooling == "cls_token" else r.mean(axis=0) for r in rows]
    assert found == pytest.approx(unit(np.stack(pooled)), abs=2e-3)
    assert {method for method, _ in hub.asked} == {"GET"}
    shutil.rmtree(tmp_path / "vectors", ignore_errors=True)
    later = encoders.make(options, cache=tmp_path)  # nobody answers there any more
    assert np.array_equal(later.encode(texts), found)
    assert later.encode(["fails", ""]).shape == (2, 4)
    (pin,) = tmp_path.glob("hub/*/pin.json")
    assert json.loads(pin.read_text())["revision"] == hub.commit


def test_a_kept_file_that_changed_is_refused(tmp_path):
    with served(FakeHub()) as url:
        options = {"kind": "hub", "model": "org/tiny", "endpoint": url}
        encoders.make(options, cache=tmp_path)
    (kept,) = tmp_path.glob("hub/*/onnx/model.onnx")
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(ConfigError, match="was fetched as"):
        encoders.make(options, cache=tmp_path)


def test_a_broken_fetch_leaves_nothing_that_looks_whole(tmp_path):
    hub = FakeHub()
    model = hub.files.pop("tokenizer.json")
    with served(hub) as url:
        options = {"kind": "hub", "model": "org/tiny", "endpoint": url}
        with pytest.raises(TransportError, match="answered 404"):
            encoders.make(options, cache=tmp_path)
        assert not list(tmp_path.glob("hub/*/pin.json"))
        hub.files["tokenizer.json"] = model
        assert encoders.make(options, cache=tmp_path).encode(["login"]).shape == (1, 4)


def test_a_model_pooled_in_another_way_is_refused(tmp_path):
    with served(FakeHub("lasttoken")) as url, pytest.raises(ConfigError, match="pools by lasttoken"):
        encoders.make({"kind": "hub", "model": "org/tiny", "endpoint": url}, cache=tmp_path)


def test_no_hub_says_that_a_model_is_fetched_once(tmp_path):
    with served(FakeHub()) as url:
        pass
    with pytest.raises(TransportError, match="fetched once, with a network"):
        encoders.make({"kind": "hub", "model": "org/tiny", "endpoint": url}, cache=tmp_path)


# --- the cache around them


def test_equal_texts_have_equal_vectors_however_far_apart(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(cached, "_ROWS", 2)
    found = encoders.make({"kind": "static", "path": str(folder)}, cache=tmp_path).encode(
        ["login", "login fails", "slow", "login", "search today", "login fails", "login"]
    )
    assert np.array_equal(found[[0, 1, 0, 0]], found[[3, 5, 6, 0]])
    assert found[[2, 4]] == pytest.approx(unit(np.stack([TABLE[4], TABLE[3] + TABLE[5]])), abs=2e-3)


def test_a_cache_that_breaks_is_a_warning(tmp_path, folder, caplog):
    options = {"kind": "static", "path": str(folder)}
    encoder = encoders.make(options, cache=tmp_path)
    right = encoder.encode(["login", "slow"])
    (kept,) = tmp_path.glob("vectors-*.sqlite")
    with contextlib.closing(sqlite3.connect(kept)) as connection, connection:
        connection.execute("UPDATE vectors SET vector = x'00'")
    assert np.array_equal(encoder.encode(["login", "slow"]), right)
    assert "not read" in caplog.text
