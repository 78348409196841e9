"""Our topics as a BERTopic model: same numbers and words, in a process without torch, umap and hdbscan."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import numpy as np
from feedback_lib.analysis import export, topics
assert "bertopic" not in sys.modules
SUBJECTS = {"login": "password reset e-mail", "billing": "invoice shows wrong tax", "search": "query finds no result"}
MORE = "today again on my phone since Monday after the update in our team at work".split()
random = np.random.default_rng(0)
texts, vectors = [], []
for place, (subject, said) in enumerate(SUBJECTS.items()):
    for n in range(12):
        texts.append(f"{subject}: {said}, {MORE[n]}")
        vector = random.normal(size=16) * 0.05
        vector[place] += 1
        vectors.append(vector / np.linalg.norm(vector))
texts.append("hello there"); vectors.append(-np.ones(16) / 4)
vectors = np.array(vectors, np.float32)
labels = np.array([0] * 12 + [1] * 12 + [2] * 12 + [-1])
centroids = np.stack([vectors[labels == label].mean(axis=0) for label in range(3)])
words = [("password", "reset"), ("wrong tax", "invoice"), ("query", "result", "not in any text")]
model = topics.TopicModel(labels, np.ones(37), ["password, reset", "wrong tax", "query"], words, centroids)
made = export.as_bertopic(texts, vectors, model)
info = made.get_topic_info()
tree = made.hierarchical_topics(texts)
chart = None
try:
    import plotly
    chart = type(made.visualize_barchart()).__name__
except ImportError:
    pass
print(json.dumps({
    "topics": made.topics_, "labels": labels.tolist(), "numbers": info["Topic"].tolist(),
    "names": info["CustomName"].tolist(), "words": [[w for w, _ in made.get_topic(t)] for t in range(3)],
    "weights": [[x for _, x in made.get_topic(t)] for t in range(3)], "tree": len(tree), "chart": chart,
    "centres": bool(np.allclose(made.topic_embeddings_[-3:], centroids)),
    "heavy": sorted({"torch", "umap", "hdbscan", "sentence_transformers"} & set(sys.modules)),
}))
"""


def test_bertopic_shows_our_topics_words_and_names_and_joins_them_in_a_tree():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["topics"] == made["labels"]
    assert made["numbers"] == [-1, 0, 1, 2]
    assert made["names"][1:] == ["password, reset", "wrong tax", "query"]
    assert made["words"] == [["password", "reset"], ["wrong tax", "invoice"], ["query", "result", "not in any text"]]
    assert all(weights == sorted(weights, reverse=True) and weights[-1] > 0 for weights in made["weights"])
    assert made["tree"] == 2
    assert made["chart"] in (None, "Figure")
    assert made["centres"]
    assert made["heavy"] == []
