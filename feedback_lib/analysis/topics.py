"""Groups of texts with shared meaning: found in a neighbour graph, recognised from week to week."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.analysis import naming

VERSION = "knn-louvain.1"

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_GRID = (
    2048  # vectors are rounded to this many steps: inner products are then whole numbers below 2^24, exact in float32
)
_BLOCK = 1024

# How fine the topics are is chosen by a score of each cut: the median silhouette of the texts in _SEEN dimensions plus
# _MODULARITY times the modularity. Silhouettes alone make one topic of small sets and hundreds of vague ones;
# modularity alone knows only one size. 0.2 to 0.5 are equally good and so are 32 to 64 dimensions: tried on 31 sets and
# subsets (intents, titles, issues, questions, logs, mixtures; 500 to 40,000 texts; 5 to 520 labels), where the choice
# reaches on average 96 % of the ARI of the best resolution for the set, in the worst 84 %. No fixed resolution reaches
# more than 82 %, in the worst 41 %.
_RESOLUTIONS = tuple(2.0**power for power in range(-3, 6))
_MODULARITY = 0.35
_DIMENSIONS, _SEEN = 128, 64  # of the principal components that the graph and the silhouettes see
_JUDGED = 8_000  # texts that the components and the silhouettes are taken from
_NAMED = 50_000  # texts that topics are named from


@dataclasses.dataclass(frozen=True)
class TopicOptions:
    """How topics are fitted. The defaults were tried on sets of short and long texts with 5 to 500 labels.

    Attributes:
        min_size: Fewest texts of a topic.
        neighbours: Edges of a text in the neighbour graph.
        n_topics: How many topics; by default as many as the texts fall into.
        weak: A text whose cosine to its topic's centre is lower belongs to no topic.
        max_fit: Most texts the graph is built on, evenly spread; others are assigned to the nearest centre.
        seed: Where the even spread over more than ``max_fit`` texts begins; nothing else is left to chance.
    """

    min_size: int = 5
    neighbours: int = 12
    weak: float = 0.12
    max_fit: int = 20_000
    seed: int = 42
    n_topics: int | None = None


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
    scores: Floats
    names: list[str]
    words: list[tuple[str, ...]]
    centroids: Vectors
    version: str = VERSION


def fit(texts: Sequence[str], vectors: Vectors, options: TopicOptions | None = None) -> TopicModel:
    """Find and name the topics of texts; when a text was written plays no part.

    A graph joins each text to its nearest others; the Louvain method cuts it at a dozen resolutions, and the cut is
    taken whose texts sit best in their groups (silhouette) while the groups hold together in the graph (modularity).
    A text that is no nearer to its topic than to the whole set, or is nearer to nothing than ``weak``, belongs to no
    topic.

    Args:
        texts: n clean texts in English, or their English glosses; only for the names.
        vectors: Shape (n, d), each of length 1.
        options: See there.

    Returns:
        The model; the same for the same input, whatever the number of threads. With fewer than ``2 * min_size`` texts
        there are no topics.

    Source: Blondel et al. 2008 (Louvain); Newman 2006 (modularity); Rousseeuw 1987 (silhouettes); Grootendorst 2022
    (BERTopic).
    """
    options = options or TopicOptions()
    if len(texts) != len(vectors):
        raise ValueError(f"{len(texts)} texts and {len(vectors)} vectors")
    n = len(texts)
    if n < 2 * options.min_size:
        return _without_topics(vectors)
    part = _evenly(n, options.max_fit, np.random.default_rng(options.seed).random())
    labels = np.full(n, -1, np.int64)
    labels[part] = _groups(_on_grid(vectors[part]), options)
    if labels.max() < 0:
        return _without_topics(vectors)
    labels, scores, sums = _placed(vectors, labels, options)
    if not len(sums):
        return _without_topics(vectors)
    centroids = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    named = _to_name(labels)
    words = naming.words([texts[i] for i in named.tolist()], labels[named])
    return TopicModel(labels, scores, naming.names(words), words, centroids)


def assign(vectors: Vectors, centroids: Vectors, least: float | Floats) -> tuple[Labels, Floats]:
    """The topic of each text by the nearest centre, and how near it is.

    Args:
        vectors: Shape (n, d), each of length 1.
        centroids: Shape (k, d), each of length 1.
        least: The cosine that a text must reach to belong to a topic: one for all, or one per topic.

    Returns:
        Labels, -1 where the nearest centre is not near enough, and cosines from 0 to 1.
    """
    labels, scores = np.full(len(vectors), -1, np.int64), np.zeros(len(vectors))
    if not len(centroids):
        return labels, scores
    near = np.broadcast_to(np.asarray(least, np.float64), len(centroids))
    for rows, _, cosines in _to_centres(vectors, centroids):
        labels[rows] = cosines.argmax(axis=1)
        scores[rows] = np.clip(cosines.max(axis=1), 0, 1)
    labels[scores < near[labels]] = -1
    return labels, scores


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


def _evenly(n: int, most: int, start: float) -> Labels:
    """At most so many of n places, evenly spread."""
    if n <= most:
        return np.arange(n)
    return ((np.arange(most) + start) * n / most).astype(np.int64)


def _on_grid(vectors: npt.NDArray[np.floating[Any]]) -> Vectors:
    rounded: Vectors = np.rint(vectors * _GRID).astype(np.float32)
    return rounded


def _groups(grid: Vectors, options: TopicOptions) -> Labels:
    """The group of each text, -1 in groups smaller than ``min_size``."""
    seen = _principal(grid)
    graph = _Graph(seen, min(options.neighbours, max(5, len(grid) // 10)))
    if options.n_topics is None:
        return _large(graph.best_cut(), options.min_size)
    return graph.cut_into(options.n_topics, options.min_size)


def _principal(grid: Vectors) -> Vectors:
    """The largest principal components of each text, brought to length 1 and rounded to the grid again.

    Sums of whole numbers in float64 are exact, so that threads change nothing; the axes come from one thread.
    """
    import threadpoolctl

    n, d = len(grid), grid.shape[1]
    second, first = np.zeros((d, d)), np.zeros(d)
    looked = grid[_evenly(n, _JUDGED, 0.5)]
    for start in range(0, len(looked), _BLOCK):
        block = looked[start : start + _BLOCK].astype(np.float64)
        second += block.T @ block
        first += block.sum(axis=0)
    with threadpoolctl.threadpool_limits(1):
        middle = first / len(looked)
        axes = np.linalg.eigh(second / len(looked) - np.outer(middle, middle))[1][:, ::-1][:, :_DIMENSIONS]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None, :], axis=0))
    axes = np.rint(axes * _GRID)
    middle = np.rint(middle)
    seen = np.empty((n, axes.shape[1]), np.float32)
    for start in range(0, n, _BLOCK):
        block = (grid[start : start + _BLOCK].astype(np.float64) - middle) @ axes
        seen[start : start + _BLOCK] = _on_grid(_unit(block))
    return seen


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return lengths


class _Graph:
    """Texts joined to their nearest others, and ways to cut it."""

    def __init__(self, seen: Vectors, neighbours: int) -> None:
        import scipy.sparse

        nearest, cosines = _neighbours(seen, neighbours)
        n, count = nearest.shape
        weights = np.maximum(cosines, 1e-3).ravel() ** 3  # cubed, so that a near neighbour counts for several far ones
        one_way = scipy.sparse.csr_matrix((weights, nearest.ravel(), np.arange(0, n * count + 1, count)), shape=(n, n))
        self.edges: Any = (one_way + one_way.T).tocsr()  # who are each other's neighbours are joined twice as strongly
        self.edges.sort_indices()
        self.from_ = np.repeat(np.arange(n), np.diff(self.edges.indptr))
        self.strength = np.asarray(self.edges.sum(axis=1)).ravel()
        self.short = seen[:, :_SEEN].astype(np.float64)
        self.judged = _evenly(n, _JUDGED, 0.5)
        self._cuts: dict[float, Labels] = {}

    def cut(self, resolution: float) -> Labels:
        """Communities of the graph, each in one piece; the finer, the higher the resolution."""
        import scipy.sparse
        from sknetwork.clustering import Louvain

        if resolution not in self._cuts:
            labels = Louvain(resolution=resolution, shuffle_nodes=False, random_state=0).fit_predict(self.edges)
            inside = labels[self.from_] == labels[self.edges.indices]
            kept = scipy.sparse.csr_matrix(
                (inside[inside], (self.from_[inside], self.edges.indices[inside])), shape=self.edges.shape
            )
            self._cuts[resolution] = scipy.sparse.csgraph.connected_components(kept, directed=False)[1].astype(np.int64)
        return self._cuts[resolution]

    def best_cut(self) -> Labels:
        """The cut with the highest score, among whole steps of resolution, then half a step to each side."""
        best = max(_RESOLUTIONS, key=self.score)
        best = max((best, best / 2**0.5, best * 2**0.5), key=self.score)
        return self.cut(best)

    def score(self, resolution: float) -> float:
        """How good a cut is."""
        labels = self.cut(resolution)
        return float(np.median(self.silhouettes(labels))) + _MODULARITY * self.modularity(labels)

    def modularity(self, labels: Labels) -> float:
        """Share of the edges inside the groups, less what it would be by chance."""
        inside = self.edges.data[labels[self.from_] == labels[self.edges.indices]].sum()
        strength = np.bincount(labels, self.strength)
        total = self.strength.sum()
        return float(inside / total - (strength**2).sum() / total**2)

    def silhouettes(self, labels: Labels) -> Floats:
        """How much nearer a text is to the centre of the others of its group than to the next group's: -1 to 1."""
        sums, sizes = _sums(self.short, labels)
        part, own = self.short[self.judged], labels[self.judged]
        products = part @ sums.T
        inner = products[np.arange(len(part)), own]
        length = (part**2).sum(axis=1)
        squares = (sums**2).sum(axis=1)
        rest = np.maximum(squares[own] - 2 * inner + length, 1e-9)
        lengths = np.sqrt(np.maximum(length, 1e-9))
        near = 1 - (inner - length) / np.sqrt(rest) / lengths
        products /= np.sqrt(np.maximum(squares, 1e-9))
        products[np.arange(len(part)), own] = -np.inf
        next_ = 1 - np.maximum(products.max(axis=1) / lengths, -1)
        found = (next_ - near) / np.maximum(np.maximum(next_, near), 1e-9)
        return np.where(sizes[own] > 1, found, 0.0)

    def cut_into(self, count: int, min_size: int) -> Labels:
        """So many groups of at least ``min_size``, made by joining the nearest groups of a cut that has more.

        That is the best cut, or the coarsest that has enough.
        """
        best = _large(self.best_cut(), min_size)
        if best.max() + 1 >= count:
            return self._joined(best, count)
        cuts = {r: _large(self.cut(r), min_size) for r in (*_RESOLUTIONS, 64.0, 128.0)}
        enough = [r for r, labels in cuts.items() if labels.max() + 1 >= count]
        if not enough:  # the texts do not fall into so many groups of that size
            return max(cuts.values(), key=lambda labels: int(labels.max()))
        low, high = enough[0] / 2, enough[0]
        while high / low > 1.02 and cuts[high].max() + 1 > count:
            middle = (low * high) ** 0.5
            cuts[middle] = _large(self.cut(middle), min_size)
            low, high = (low, middle) if cuts[middle].max() + 1 >= count else (middle, high)
        return self._joined(cuts[high], count)

    def _joined(self, labels: Labels, count: int) -> Labels:
        """Groups joined, those first that lose least by a common centre (Ward), until so many are left."""
        sums, sizes = _sums(self.short, labels)
        centres, weights, target = sums / sizes[:, None], sizes.astype(np.float64), np.arange(len(sizes))
        while len(left := np.unique(target)) > max(count, 1):
            products = centres[left] @ centres[left].T
            squares = np.diag(products)
            apart = squares[:, None] + squares[None, :] - 2 * products
            apart *= np.outer(weights[left], weights[left]) / (weights[left][:, None] + weights[left][None, :])
            np.fill_diagonal(apart, np.inf)
            one, other = left[list(divmod(int(apart.argmin()), len(left)))]
            centres[one] = (weights[one] * centres[one] + weights[other] * centres[other]) / weights[[one, other]].sum()
            weights[one] += weights[other]
            target[target == other] = one
        return _large(np.where(labels >= 0, target[labels], -1), 1)


def _large(labels: Labels, min_size: int) -> Labels:
    """Groups of at least so many texts numbered from 0, other texts -1."""
    ids, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    large = (ids >= 0) & (sizes >= min_size)
    return np.where(large, np.cumsum(large) - 1, -1)[place]


def _sums(vectors: npt.NDArray[Any], labels: Labels, count: int | None = None) -> tuple[Floats, Labels]:
    """The sum of the vectors of each group, exact for vectors on the grid, and the groups' sizes."""
    import scipy.sparse

    k = count or int(labels.max(initial=-1)) + 1
    inside = np.flatnonzero(labels >= 0)
    member = scipy.sparse.csr_matrix((np.ones(len(inside)), (labels[inside], inside)), shape=(k, len(labels)))
    return member @ vectors.astype(np.float64, copy=False), np.bincount(labels[inside], minlength=k)


def _neighbours(seen: Vectors, count: int) -> tuple[Labels, Floats]:
    """Indices and cosines of the nearest others, shape (n, count), compared block by block."""
    n = len(seen)
    count = min(count, n - 1)
    nearest = np.empty((n, count), np.int64)
    cosines = np.empty((n, count))
    for start in range(0, n, _BLOCK):
        products = seen[start : start + _BLOCK] @ seen.T
        rows = np.arange(len(products))
        products[rows, start + rows] = -np.inf
        best = _highest(products, count)
        nearest[start : start + len(rows)] = best
        cosines[start : start + len(rows)] = np.take_along_axis(products, best, axis=1) / _GRID**2
    return nearest, cosines


def _highest(values: Vectors, count: int, strands: int = 16) -> Labels:
    """Columns of the highest values of each row, in no order.

    The columns are first seen as strands: only the places where the highest of all strands is high can hold them, which
    leaves a sixteenth to sort.
    """
    rows, n = values.shape
    width = n // strands
    if width < 4 * count:
        return np.argpartition(values, n - count, axis=1)[:, n - count :]
    highest = values[:, : width * strands].reshape(rows, strands, width).max(axis=1)
    places = np.argpartition(highest, width - count, axis=1)[:, width - count :]
    columns = (places[:, None, :] + (np.arange(strands) * width)[None, :, None]).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(width * strands, n), (rows, n - width * strands))
    columns = np.concatenate([columns, rest], axis=1)
    found = np.take_along_axis(values, columns, axis=1)
    best = np.argpartition(found, found.shape[1] - count, axis=1)[:, found.shape[1] - count :]
    return np.take_along_axis(columns, best, axis=1)


# --- places -----------------------------------------------------------------------------------------------------------


def _to_centres(vectors: Vectors, centroids: Vectors) -> Iterator[tuple[slice, Vectors, Floats]]:
    """Blocks of rows, their vectors on the grid, and their cosines to all centres."""
    centres = _on_grid(centroids)
    lengths = np.linalg.norm(centres.astype(np.float64), axis=1)
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        grid = _on_grid(vectors[rows])
        own = np.linalg.norm(grid.astype(np.float64), axis=1, keepdims=True)
        yield rows, grid, (grid @ centres.T) / np.maximum(lengths * own, 1e-9)


def _placed(vectors: Vectors, labels: Labels, options: TopicOptions) -> tuple[Labels, Floats, Floats]:
    """Labels of all texts, their scores, and the sums of the groups' vectors, the largest group first.

    Texts without a group, and those that sit badly in theirs, get the nearest one; where that is too far they have
    none. (Groups made by neighbours alone hold 5 to 20 % such texts where topics are broad, and most of them are near
    another centre.)
    """
    k = int(labels.max()) + 1
    whole = np.zeros((1, vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK):
        whole += _on_grid(vectors[start : start + _BLOCK]).sum(axis=0, dtype=np.float64)
    sums = _sums_of(vectors, labels, k)
    own, all_ = _own(vectors, labels, sums), _own(vectors, np.zeros_like(labels), whole, alone=False)
    if k < 3 or len(vectors) < 20 * options.min_size:  # few texts, or one or two topics: the whole set is the topic
        all_ = np.full(len(vectors), -1.0)
    least = np.maximum(options.weak, all_ - 0.02)
    kept, nearest = labels, np.empty(len(vectors))
    labels = labels.copy()
    for rows, _, cosines in _to_centres(vectors, _unit(sums).astype(np.float32)):
        nearest[rows] = cosines.max(axis=1)
        moved = own[rows] < least[rows]
        here = np.arange(len(moved))
        cosines[here, kept[rows]] = np.where(kept[rows] >= 0, own[rows], cosines[here, kept[rows]])
        near = cosines.argmax(axis=1)
        labels[rows] = np.where(moved, np.where(cosines[here, near] < least[rows], -1, near), labels[rows])
    sizes = np.bincount(labels[labels >= 0], minlength=k)
    order = [i for i in np.argsort(-sizes, kind="stable").tolist() if sizes[i] >= options.min_size]
    rank = np.full(k + 1, -1)
    rank[order] = np.arange(len(order))
    labels = rank[labels]
    sums = _sums_of(vectors, labels, len(order))
    scores = np.where(labels >= 0, _own(vectors, labels, sums), nearest)
    return labels, np.clip(scores, 0.0, 1.0), sums


def _sums_of(vectors: Vectors, labels: Labels, count: int) -> Floats:
    sums = np.zeros((count, vectors.shape[1]))
    for start in range(0, len(vectors) if count else 0, _BLOCK):
        sums += _sums(_on_grid(vectors[start : start + _BLOCK]), labels[start : start + _BLOCK], count)[0]
    return sums


def _own(vectors: Vectors, labels: Labels, sums: Floats, *, alone: bool = True) -> Floats:
    """Cosine of each text to the sum of its group, without the text itself if it is to be left out; -1 for no group."""
    found = np.full(len(vectors), -1.0)
    for start in range(0, len(vectors) if len(sums) else 0, _BLOCK):
        rows = start + np.flatnonzero(labels[start : start + _BLOCK] >= 0)
        grid = _on_grid(vectors[rows]).astype(np.float64)
        others = sums[labels[rows]] - (grid if alone else 0)
        lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(grid, axis=1)
        found[rows] = (grid * others).sum(axis=1) / np.maximum(lengths, 1e-9)
    return found


def _to_name(labels: Labels) -> Labels:
    """Texts to name topics from: all, or as many of each topic as make `_NAMED` in all."""
    if len(labels) <= _NAMED:
        return np.arange(len(labels))
    inside = np.flatnonzero(labels >= 0)
    ordered = inside[np.argsort(labels[inside], kind="stable")]
    sizes = np.bincount(labels[inside])
    most = _NAMED // len(sizes)
    taken = [members[_evenly(len(members), most, 0.5)] for members in np.split(ordered, np.cumsum(sizes)[:-1].tolist())]
    return np.sort(np.concatenate(taken))


def _without_topics(vectors: Vectors) -> TopicModel:
    n, d = vectors.shape if vectors.ndim == 2 else (len(vectors), 0)
    return TopicModel(np.full(n, -1, np.int64), np.zeros(n), [], [], np.empty((0, d), np.float32))
