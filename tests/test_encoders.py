from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf
from tokenizers import Tokenizer

from feedback_lib import encoders
from feedback_lib.encoders import fitted, int8
from feedback_lib.errors import ConfigError

TEXTS = [
    "The folder names are in English after the update",
    "Since the new version my mail folders have English names",
    "I was charged twice for the same invoice",
    "Timeout",
    "The search page stays empty when I type more than three words, and the button to clear the field is gone. " * 5,
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def vectors(cache: Path) -> np.ndarray:
    return encoders.minilm(cache, threads=1).encode(TEXTS)


def reference(text: str) -> np.ndarray:
    """MiniLM in float32, written out in numpy: what the graph must agree with."""
    w = int8._weights()
    tokens = Tokenizer.from_file(str(int8._model_folder() / "tokenizer.json"))
    tokens.no_padding()
    ids = tokens.encode(text).ids

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normal(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    e = "embeddings"
    x = w[f"{e}.word_embeddings.weight"][ids] + w[f"{e}.position_embeddings.weight"][: len(ids)]
    x = normal(x + w[f"{e}.token_type_embeddings.weight"][0], f"{e}.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{n}").reshape(-1, 12, 32).swapaxes(0, 1) for n in ("query", "key", "value")
        )
        a = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(32))
        seen = (a / a.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = normal(x + linear(seen, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        t = linear(x, f"{at}.intermediate.dense")
        x = normal(x + linear(t * (1 + erf(t / np.sqrt(2))) / 2, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_the_int8_graph_agrees_with_minilm_written_out_in_float32(vectors):
    cosines = [float(reference(text) @ vector) for text, vector in zip(TEXTS, vectors, strict=True)]
    assert min(cosines) > 0.99
    assert np.mean(cosines) > 0.996


def test_vectors_are_float32_rows_of_length_one(vectors):
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_texts_about_the_same_thing_are_nearer_than_others(vectors):
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_a_vector_depends_neither_on_the_other_texts_nor_on_the_threads(tmp_path, cache, vectors):
    (tmp_path / encoders.graph_file(cache).name).symlink_to(encoders.graph_file(cache))
    alone = np.vstack([encoders.minilm(tmp_path, threads=2).encode([text]) for text in reversed(TEXTS)])
    assert np.array_equal(alone[::-1], vectors)


def test_texts_of_one_length_run_together_and_do_not_see_each_other(tmp_path, cache):
    (tmp_path / encoders.graph_file(cache).name).symlink_to(encoders.graph_file(cache))
    texts = [f"the {a} {b}" for a in ("app", "page", "list", "button") for b in ("crashes", "is", "hides", "works") * 3]
    model = int8.Int8(tmp_path, 2)
    together = model.embed(texts)
    assert np.array_equal(np.vstack([model.embed([text]) for text in texts]), together)


def test_a_known_text_is_not_embedded_again(cache, vectors):
    asked = []
    again = encoders.minilm(cache, progress=lambda done, of: asked.append((done, of))).encode([*TEXTS, "a new text"])
    assert asked == [(1, 1)]
    assert np.array_equal(again[:-1], vectors)


def test_no_texts_give_no_rows(cache):
    assert encoders.minilm(cache).encode([]).shape == (0, 384)


def test_an_empty_text_and_half_a_surrogate_pair_still_have_vectors(cache):
    assert np.isfinite(encoders.minilm(cache).encode(["", "half \ud83d of it"])).all()


def test_a_damaged_vector_cache_is_reported_and_does_not_stop_the_run(tmp_path, cache, vectors, caplog):
    (tmp_path / encoders.graph_file(cache).name).symlink_to(encoders.graph_file(cache))
    encoder = encoders.minilm(tmp_path)
    (tmp_path / f"vectors-{encoder.name}.sqlite").write_bytes(b"not a database" * 1000)
    assert np.array_equal(encoder.encode(TEXTS[:1]), vectors[:1])
    assert "not read" in caplog.text


def test_other_weights_than_the_published_ones_are_refused():
    with pytest.raises(ConfigError, match="SHA-256 is 53aa5117"):
        int8._weights(expected="0" * 64)


@pytest.mark.thorough  # one process shows the graph
def test_two_processes_that_start_on_an_empty_cache_agree_and_leave_one_graph(tmp_path):
    code = (
        "import sys, hashlib; from pathlib import Path; from feedback_lib.encoders import minilm\n"
        "v = minilm(Path(sys.argv[1]), 1).encode([f'text number {i}' for i in range(40)])\n"
        "print(hashlib.sha256(v.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (run.communicate(timeout=60)[0].split() for run in runs)
    assert first == second
    assert first[1] == "False"
    assert len(list(tmp_path.glob("*.onnx"))) == 1
    assert not list(tmp_path.glob("*.partial"))


def corpus(n):
    things, verbs = ("app", "page", "list", "button", "mail", "card"), ("crashes", "hides", "works", "is slow")
    return [f"the {things[i % 6]} {verbs[i // 6 % 4]} in case {i} of release {i % 97}" for i in range(n)]


@pytest.fixture(scope="module")
def fast(cache, tmp_path_factory):
    """A folder with the graph, for caches of their own, and vectors of 900 texts, two thirds by a fitted model."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / encoders.graph_file(cache).name).symlink_to(encoders.graph_file(cache))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitted, "SAMPLE", 300)
        encoder = encoders.minilm(folder, threads=2, fit_above=500)
        yield folder, encoder.encode(corpus(900)), encoder.name


def test_many_new_texts_get_a_model_fitted_to_them_in_the_space_of_the_slow_one(fast, cache):
    _, vectors, name = fast
    assert name == f"{int8.Int8.name}+fitted"
    exact = encoders.minilm(cache).encode(corpus(900))
    cosines = (vectors * exact).sum(axis=1)
    assert (cosines > 0.9999).sum() == 300  # the sample keeps the slow model's vectors
    assert cosines.mean() > 0.95
    centre = exact.mean(axis=0)
    assert ((vectors - centre) * (exact - centre)).sum() / np.square(exact - centre).sum() > 0.7
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_fitted_model_is_the_same_whatever_the_order_and_the_threads(fast, tmp_path):
    folder, vectors, _ = fast
    for path in folder.iterdir():
        if "vectors" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    again = encoders.minilm(tmp_path, threads=1, fit_above=500).encode(corpus(900)[::-1])
    assert np.array_equal(again[::-1], vectors)


def test_vectors_of_a_fitted_model_are_kept_and_said_to_be_so(fast):
    folder, vectors, name = fast
    asked = []
    later = encoders.minilm(folder, progress=lambda done, of: asked.append((done, of)), fit_above=500)
    assert later.name == int8.Int8.name
    assert np.array_equal(later.encode(corpus(900)), vectors)
    assert (later.name, asked) == (name, [])
