"""Groups of texts with shared meaning: found in a neighbour graph, recognised from week to week."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import graspologic_native
import numpy as np
import numpy.typing as npt

from feedback_lib.analysis import naming

VERSION = "knn-leiden.2"

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_GRID = (
    2048  # vectors are rounded to this many steps: inner products are then whole numbers below 2^24, exact in float32
)
_BLOCK = 1024
_SUBGRAPH_NEIGHBOURS, _SUBGRAPH_RESOLUTION = 5, 1.0


@dataclasses.dataclass(frozen=True)
class TopicOptions:
    """How topics are fitted. The defaults were tried on three sets of texts: short, long, and in many languages.

    Attributes:
        min_size: Fewest texts of a topic.
        neighbours: Edges of a text in the neighbour graph.
        resolution: Of Leiden's modularity; high, because what it cuts too fine is joined again.
        join: Two topics become one when their members are on average less than this much nearer (in cosine) to their
            own centre than to the other's.
        largest: Share of all texts that a topic made by joining may have, or everything vague becomes one topic.
        split: A topic is cut in two when the parts are at least this far apart in the same measure.
        weak: A text whose cosine to its topic's centre is lower belongs to no topic.
        max_fit: Most texts the graph is built on; others are assigned to the nearest centre.
        seed: Of Leiden.
    """

    min_size: int = 5
    neighbours: int = 12
    resolution: float = 8.0
    join: float = 0.12
    largest: float = 0.08
    split: float = 0.14
    weak: float = 0.2
    max_fit: int = 20_000
    seed: int = 42


@dataclasses.dataclass(frozen=True)
class TopicModel:
    """The topics of a set of n texts, largest first.

    Attributes:
        labels: Shape (n,): index of a text's topic, -1 for none.
        scores: Shape (n,): 0–1, cosine of a text to the centre of the other members of its topic, or to the nearest
            centre when it has no topic.
        names: One per topic: its three most telling terms.
        words: One tuple per topic: up to ten terms, most telling first, no two saying the same.
        centroids: Shape (k, d), each of length 1.
        version: What made it.
    """

    labels: Labels
    scores: npt.NDArray[np.float64]
    names: list[str]
    words: list[tuple[str, ...]]
    centroids: Vectors
    version: str = VERSION


def fit(texts: Sequence[str], vectors: Vectors, options: TopicOptions | None = None) -> TopicModel:
    """Find and name the topics of texts; when a text was written plays no part.

    A graph joins each text to its nearest others; Leiden cuts it into fine groups; groups that are not apart are
    joined and those that fall in two are split (`TopicOptions.join`, `TopicOptions.split`), so that broad sets get
    broad topics and a new topic of ten people among thousands of texts still stands alone. A text that is no nearer to
    its topic than to the whole set, or is nearer to nothing than ``weak``, belongs to no topic.

    Args:
        texts: n clean texts in English, or their English glosses; only for the names.
        vectors: Shape (n, d), each of length 1.
        options: See there.

    Returns:
        The model; the same for the same input, whatever the number of threads. With fewer than ``2 * min_size`` texts
        there are no topics.

    Source: Traag, Waltman and van Eck 2019 (Leiden); Grootendorst 2022 (BERTopic, class-based TF-IDF).
    """
    options = options or TopicOptions()
    if len(texts) != len(vectors):
        raise ValueError(f"{len(texts)} texts and {len(vectors)} vectors")
    if len(texts) < 2 * options.min_size:
        return _without_topics(vectors)
    grid = _on_grid(vectors)
    groups = _Groups(options).fit(grid)
    if groups.labels_.max() < 0:
        return _without_topics(vectors)
    labels = groups.labels_
    sums = np.stack([grid[labels == label].sum(axis=0, dtype=np.float64) for label in range(labels.max() + 1)])
    centroids = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    scores = _scores(grid, labels, sums)
    words = naming.words(texts, labels)
    return TopicModel(labels, scores, naming.names(words), words, centroids)


def keep_ids(labels: Labels, uids: Sequence[str], previous: Mapping[str, int], next_id: int) -> dict[int, int]:
    """Which stable topic id each topic of a new fit carries on.

    Topics and earlier ids are matched one to one so that as many texts as possible keep their id; a pair counts only
    when the shared texts are at least 30 % of both together (Dice), or an old id would wander to another subject.

    Args:
        labels: Shape (n,), -1 for none.
        uids: n uids.
        previous: uid → stable topic id, as it stood; ids of texts that are gone are ignored.
        next_id: The first id never used.

    Returns:
        label → stable id, for each label from 0.

    Source: the assignment problem, Kuhn 1955.
    """
    import scipy.optimize

    count = int(labels.max()) + 1 if len(labels) else 0
    earlier = sorted({previous[uid] for uid in uids if uid in previous})
    column = {topic: i for i, topic in enumerate(earlier)}
    shared = np.zeros((count, len(earlier)))
    before = np.zeros(len(earlier))
    now = np.zeros(count)
    for label, uid in zip(labels.tolist(), uids, strict=True):
        topic = previous.get(uid)
        if topic is None:
            continue
        before[column[topic]] += 1
        if label >= 0:
            now[label] += 1
            shared[label, column[topic]] += 1
    dice = 2 * shared / np.maximum(now[:, None] + before[None, :], 1)
    gain = np.where(dice >= 0.3, shared, 0)
    pairs = zip(*scipy.optimize.linear_sum_assignment(gain, maximize=True), strict=True)
    kept = {int(label): earlier[i] for label, i in pairs if gain[label, i] > 0}
    for label in range(count):
        if label not in kept:
            kept[label] = next_id
            next_id += 1
    return dict(sorted(kept.items()))


def representatives(
    model: TopicModel, vectors: Vectors, central: int = 3, dissenting: int = 2
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The members that show what a topic is about, and those that fit it least, for the reader to judge it by.

    Returns:
        Two mappings from label to indices of texts: most central first, passing over near-copies of one already
        chosen; and least central first, none of them among the central ones.
    """
    most: dict[int, list[int]] = {}
    least: dict[int, list[int]] = {}
    for label in range(len(model.names)):
        members = np.flatnonzero(model.labels == label)
        ordered = members[np.argsort(-model.scores[members], kind="stable")].tolist()
        chosen: list[int] = []
        for i in ordered:
            if len(chosen) == central:
                break
            if all(float(vectors[i] @ vectors[j]) < 0.98 for j in chosen):
                chosen.append(i)
        most[label] = chosen
        least[label] = [i for i in reversed(ordered) if i not in chosen][:dissenting]
    return most, least


# --- groups -----------------------------------------------------------------------------------------------------------


class _Groups:
    """Finds the groups of vectors on the grid."""

    def __init__(self, options: TopicOptions) -> None:
        self.options = options
        self.labels_: Labels = np.empty(0, np.int64)

    def fit(self, grid: Vectors) -> _Groups:
        """Find the groups."""
        o = self.options
        part = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), o.max_fit)).astype(int))
        fitted = grid[part]
        labels = _joined(
            fitted,
            _leiden(fitted, o.neighbours, o.resolution, o.seed),
            o.join,
            o.min_size,
            max(50, int(o.largest * len(part))),
        )
        labels = _split(fitted, labels, o)
        self.labels_ = np.full(len(grid), -1, np.int64)
        self.labels_[part] = labels
        self._place(grid)
        return self

    def _place(self, grid: Vectors) -> None:
        """Give texts without a group the nearest one, then take out the weak ones and number groups by size."""
        labels = self.labels_
        ids = [label for label in np.unique(labels) if label >= 0 and (labels == label).sum() >= self.options.min_size]
        if not ids:
            self.labels_ = np.full(len(grid), -1, np.int64)
            return
        sums = np.stack([grid[labels == label].sum(axis=0, dtype=np.float64) for label in ids])
        place = {label: i for i, label in enumerate(ids)}
        labels = np.array([place.get(label, -1) for label in labels.tolist()], np.int64)
        loose = np.flatnonzero(labels < 0)
        labels[loose] = _cosines(grid[loose], sums).argmax(axis=1)
        scores = _scores(grid, labels, sums)
        whole = _cosines(grid, grid.sum(axis=0, dtype=np.float64)[None, :])[:, 0]
        labels[scores < self.options.weak] = -1
        if len(ids) > 2:  # with one or two topics the whole set is the topic
            labels[scores < whole - 0.02] = -1
        sizes = np.bincount(labels[labels >= 0], minlength=len(ids))
        order = [i for i in np.argsort(-sizes, kind="stable").tolist() if sizes[i] >= self.options.min_size]
        rank = {label: i for i, label in enumerate(order)}
        self.labels_ = np.array([rank.get(label, -1) for label in labels.tolist()], np.int64)


def _on_grid(vectors: Vectors) -> Vectors:
    return np.rint(vectors * _GRID).astype(np.float32)


def _cosines(grid: Vectors, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(grid.astype(np.float64), axis=1, keepdims=True)
    cosines: npt.NDArray[np.float64] = grid.astype(np.float64) @ sums.T / np.linalg.norm(sums, axis=1) / lengths
    return cosines


def _scores(grid: Vectors, labels: Labels, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine of a text to the centre of the other members of its topic; to the nearest centre when it has none."""
    scores = _cosines(grid, sums).max(axis=1)
    inside = np.flatnonzero(labels >= 0)
    own = grid[inside].astype(np.float64)
    others = sums[labels[inside]] - own
    lengths = np.maximum(np.linalg.norm(others, axis=1) * np.linalg.norm(own, axis=1), 1e-9)
    scores[inside] = (own * others).sum(axis=1) / lengths
    clipped: npt.NDArray[np.float64] = np.clip(scores, 0.0, 1.0)
    return clipped


def _neighbours(grid: Vectors, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Indices and cosines of the nearest others, shape (n, count), compared block by block."""
    n = len(grid)
    count = min(count, n - 1)
    nearest = np.empty((n, count), np.int64)
    cosines = np.empty((n, count))
    for start in range(0, n, _BLOCK):
        products = grid[start : start + _BLOCK] @ grid.T
        rows = np.arange(len(products))
        products[rows, start + rows] = -np.inf
        best = np.argpartition(products, n - count, axis=1)[:, n - count :]
        nearest[start : start + len(rows)] = best
        cosines[start : start + len(rows)] = np.take_along_axis(products, best, axis=1) / _GRID**2
    return nearest, cosines


def _leiden(grid: Vectors, neighbours: int, resolution: float, seed: int) -> Labels:
    import scipy.sparse

    nearest, cosines = _neighbours(grid, neighbours)
    n, count = nearest.shape
    weights = np.maximum(cosines, 1e-3).ravel() ** 3  # cubed, so that a near neighbour counts for several far ones
    one_way = scipy.sparse.csr_matrix((weights, nearest.ravel(), np.arange(0, n * count + 1, count)), shape=(n, n))
    graph = scipy.sparse.triu(one_way.maximum(one_way.T), 1).tocoo()
    edges = sorted(zip(graph.row.tolist(), graph.col.tolist(), graph.data.tolist(), strict=True))
    _, found = graspologic_native.leiden(
        [(str(a), str(b), weight) for a, b, weight in edges], resolution=resolution, iterations=5, seed=seed
    )
    return np.array([found[str(i)] for i in range(n)], np.int64)


def _distances(sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far apart groups are, shape (k, k): how much nearer members are to their own centre than to the other's.

    In cosine, averaged over both groups; a member is left out of its own centre, or small groups would look compact.
    """
    products = sums @ sums.T / _GRID**2
    lengths = np.sqrt(np.diag(products))
    own = (np.diag(products) - sizes) / sizes / np.maximum(lengths * (1 - 1 / sizes), 1e-9)
    other = products / sizes[:, None] / lengths[None, :]
    apart = np.where(sizes > 1, own, 1.0)[:, None] - other
    distances: npt.NDArray[np.float64] = (apart + apart.T) / 2
    np.fill_diagonal(distances, np.inf)
    return distances


def _joined(grid: Vectors, labels: Labels, apart: float, min_size: int, largest: int | None = None) -> Labels:
    """Join the nearest two groups until all are apart, and groups that are too small to their nearest."""
    ids = np.unique(labels)
    sums = np.stack([grid[labels == label].sum(axis=0, dtype=np.float64) for label in ids])
    sizes = np.array([(labels == label).sum() for label in ids], np.float64)
    target = np.arange(len(ids))
    alive = np.ones(len(ids), bool)
    distances = _distances(sums, sizes)
    if largest:
        distances[sizes[:, None] + sizes[None, :] > largest] = np.inf
    while alive.sum() > 1:
        one, other = divmod(int(distances.argmin()), len(ids))
        if distances[one, other] >= apart:
            small = np.flatnonzero(alive & (sizes < min_size))
            if not len(small):
                break
            one = int(small[distances[small].min(axis=1).argmin()])
            other = int(distances[one].argmin())
            if not np.isfinite(distances[one, other]):
                break
        sums[one] += sums[other]
        sizes[one] += sizes[other]
        target[target == other] = one
        alive[other] = False
        row = _distances(sums[[one, *np.flatnonzero(alive)]], sizes[[one, *np.flatnonzero(alive)]])[0, 1:]
        distances[other] = distances[:, other] = np.inf
        distances[one, alive] = distances[alive, one] = row
        if largest:
            distances[one, sizes + sizes[one] > largest] = distances[sizes + sizes[one] > largest, one] = np.inf
        distances[one, one] = np.inf
    return target[np.searchsorted(ids, labels)].astype(np.int64)


def _split(grid: Vectors, labels: Labels, options: TopicOptions) -> Labels:
    """Cut each group whose own neighbour graph falls into parts that are apart; again for the parts."""
    labels = labels.copy()
    queue = np.unique(labels).tolist()
    while queue:
        members = np.flatnonzero(labels == queue.pop(0))
        if len(members) < 2 * options.min_size:
            continue
        parts = _leiden(grid[members], _SUBGRAPH_NEIGHBOURS, _SUBGRAPH_RESOLUTION, options.seed)
        parts = _joined(grid[members], parts, options.split, options.min_size)
        for part in np.unique(parts)[1:].tolist():
            fresh = int(labels.max()) + 1
            labels[members[parts == part]] = fresh
            queue.append(fresh)
    return labels


def _without_topics(vectors: Vectors) -> TopicModel:
    n, d = vectors.shape if vectors.ndim == 2 else (len(vectors), 0)
    return TopicModel(np.full(n, -1, np.int64), np.zeros(n), [], [], np.empty((0, d), np.float32))
