"""Groups of texts with shared meaning: found in a neighbour graph, recognised from week to week."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from feedback_lib.analysis import naming

VERSION = "knn-ward.3"

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_GRID = (
    2048  # vectors are rounded to this many steps: inner products are then whole numbers below 2^24, exact in float32
)
_BLOCK = 1024

# How fine the topics are is chosen by a score: the mean silhouette of texts in _SEEN dimensions plus _MODULARITY times
# the modularity, and a little for more topics. See docs/decisions/0007-topics.md for what was tried, and on what.
_MODULARITY, _FINENESS = 0.35, 0.005
_DIMENSIONS, _SEEN = 128, 64  # of the principal components that groups are made from and judged by
_STEPS, _ROUNDS = 4, 10  # of averaging with neighbours; of moving texts to the nearest centre
_FINE = 1_000  # groups that joining starts from, about
_CHOOSE, _SAMPLES = 2_500, 3  # texts of each sample that says how many topics there are, from twice as many on
_JUDGED = 4_000  # texts that the components and the silhouettes are taken from
_COARSE, _LARGEST, _NEARLY = 3, 0.1, 0.08  # so few topics are taken only where smaller ones score that much less
_NAMED = 50_000  # texts that topics are named from


@dataclasses.dataclass(frozen=True)
class TopicOptions:
    """How topics are fitted. The defaults were tried on sets of short and long texts with 5 to 500 labels.

    Attributes:
        min_size: Fewest texts of a topic.
        neighbours: Edges of a text in the neighbour graph.
        n_topics: How many topics; by default as many as the texts fall into.
        largest: Share of all texts that a topic may have, where finer topics score nearly as well; a hundred texts are
            always allowed. What people say about one product often has no scale of its own: two topics or a hundred
            fit about equally, and an analyst can do more with the finer ones.
        weak: A text whose cosine to its topic's centre is lower belongs to no topic.
        max_fit: Most texts the graph is built on, evenly spread; others are assigned to the nearest centre.
        seed: Changes nothing, for nothing is left to chance; kept for params that name it.
    """

    min_size: int = 5
    neighbours: int = 12
    weak: float = 0.06
    max_fit: int = 20_000
    seed: int = 42
    n_topics: int | None = None
    largest: float = 1.0


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

    A graph joins each text to its nearest others, and the Louvain method cuts it into many small groups. Those are
    joined two by two (Ward) in vectors that were averaged with their neighbours', and of all numbers of groups the one
    is taken at which texts sit best in them (silhouette) while the groups hold together in the graph (modularity).
    Then each text goes to the nearest centre. A text that is nearer to nothing than ``weak`` belongs to no topic.

    Args:
        texts: n clean texts in English, or their English glosses; only for the names.
        vectors: Shape (n, d), each of length 1.
        options: See there.

    Returns:
        The model; the same for the same input, whatever the number of threads. With fewer than ``2 * min_size`` texts
        there are no topics.

    Source: Blondel et al. 2008 (Louvain); Ward 1963; Newman 2006 (modularity); Rousseeuw 1987 (silhouettes).
    """
    options = options or TopicOptions()
    if len(texts) != len(vectors):
        raise ValueError(f"{len(texts)} texts and {len(vectors)} vectors")
    n = len(texts)
    if n < 2 * options.min_size:
        return _without_topics(vectors)
    part = _evenly(n, options.max_fit, 0.5)
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
    if options.n_topics is None and len(grid) > 2 * _CHOOSE:
        options = dataclasses.replace(options, n_topics=_count(seen, options))
    return graph.groups(options)


def _count(seen: Vectors, options: TopicOptions) -> int:
    """How many topics samples of the texts fall into, the middle of a few.

    More texts show ever finer groups; how fine topics should be does not depend on how many texts there are.
    """
    parts = (seen[_evenly(len(seen), _CHOOSE, (2 * i + 1) / (2 * _SAMPLES))] for i in range(_SAMPLES))
    found = [_Graph(part, options.neighbours).count(options) for part in parts]
    return max(sorted(found)[_SAMPLES // 2], 2)


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
    """Texts joined to their nearest others, and groups of them."""

    def __init__(self, seen: Vectors, neighbours: int) -> None:
        import scipy.sparse

        nearest, cosines = _neighbours(seen, neighbours)
        n, count = nearest.shape
        weights = np.maximum(cosines, 1e-3).ravel() ** 3  # cubed, so that a near neighbour counts for several far ones
        one_way = scipy.sparse.csr_matrix((weights, nearest.ravel(), np.arange(0, n * count + 1, count)), shape=(n, n))
        self.edges: Any = (one_way + one_way.T).tocsr()  # who are each other's neighbours are joined twice as strongly
        self.edges.sort_indices()
        self.strength = np.asarray(self.edges.sum(axis=1)).ravel()
        self.seen = seen
        self.smooth = self._smooth()

    def groups(self, options: TopicOptions) -> Labels:
        """As many groups as are asked for, or as the texts fall into; -1 for texts of groups that are too small."""
        count, min_size = options.n_topics, options.min_size
        fine = self._fine(max(min(len(self.seen) // 10, _FINE), 3 * (count or 0)))
        if fine.max() < 1:
            return fine
        joining = _Joining(self, fine)
        if count is None:
            return self._refined(_large(joining.best(options.largest)[fine], min_size), min_size)
        return self._refined(_large(joining.into(count, min_size)[fine], min_size), min_size)

    def count(self, options: TopicOptions) -> int:
        """How many groups the texts fall into."""
        fine = self._fine(min(len(self.seen) // 10, _FINE))
        best = _Joining(self, fine).best(options.largest) if fine.max() > 0 else fine
        return int(_large(best[fine], options.min_size).max()) + 1

    def _smooth(self) -> Vectors:
        """Each text's components, four times averaged with those of its neighbours: noise goes, groups stay."""
        import scipy.sparse

        weights = scipy.sparse.diags((1 / self.strength).astype(np.float32)) @ self.edges.astype(np.float32)
        smooth = self.seen / _GRID
        for _ in range(_STEPS):
            smooth += weights @ smooth
            smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), np.float32(1e-9))
        return _on_grid(smooth)

    def _fine(self, count: int) -> Labels:
        """Communities of the graph, each in one piece, at least so many if it can be."""
        import scipy.sparse
        from sknetwork.clustering import Louvain

        from_ = np.repeat(np.arange(len(self.seen)), np.diff(self.edges.indptr))
        for resolution in (2.0, 8.0, 32.0, 128.0):
            labels = Louvain(resolution=resolution, shuffle_nodes=False, random_state=0).fit_predict(self.edges)
            inside = labels[from_] == labels[self.edges.indices]
            kept = scipy.sparse.csr_matrix(
                (inside[inside], (from_[inside], self.edges.indices[inside])), shape=self.edges.shape
            )
            pieces: Labels = scipy.sparse.csgraph.connected_components(kept, directed=False)[1].astype(np.int64)
            if pieces.max() + 1 >= count:
                break
        return pieces

    def _refined(self, labels: Labels, min_size: int) -> Labels:
        """Each text in the group whose centre is nearest once neighbours are averaged; no group gets too small."""
        for _ in range(_ROUNDS if labels.max() > 0 else 0):
            centres = _on_grid(_unit(_sums(self.smooth, labels)[0])).T
            near = np.concatenate(
                [
                    (self.smooth[start : start + _BLOCK] @ centres).argmax(axis=1)
                    for start in range(0, len(labels), _BLOCK)
                ]
            )
            held = np.append(np.bincount(near, minlength=centres.shape[1]) < min_size, False)[labels]
            near = np.where(held, labels, near)
            if (near == labels).all():
                break
            labels = near
        return labels


class _Joining:
    """The fine groups of a graph joined to fewer; how is an array: the joined group of each fine one."""

    def __init__(self, graph: _Graph, fine: Labels) -> None:
        import scipy.sparse

        self.fine, self.sizes = fine, np.bincount(fine)
        member = scipy.sparse.csr_matrix((np.ones(len(fine)), (np.arange(len(fine)), fine)))
        self.between: Any = (member.T @ graph.edges @ member).tocsr()
        self.between.sort_indices()
        self.from_ = np.repeat(np.arange(len(self.sizes)), np.diff(self.between.indptr))
        self.strength = np.asarray(self.between.sum(axis=1)).ravel()
        self.merges = _merges(_sums(graph.smooth, fine)[0], self.sizes)
        short = graph.seen[:, :_SEEN]
        self.sums = _sums(short, fine)[0]
        self.judged = _evenly(len(fine), _JUDGED, 0.5)
        self.part = np.ascontiguousarray(short[self.judged])
        self.lengths = np.linalg.norm(self.part.astype(np.float64), axis=1)

    def best(self, largest: float) -> Labels:
        """The number of groups with the highest score: among quarters of an octave, then all between its neighbours.

        With a group larger than allowed, the best number without one, if its score is nearly as high.
        """
        most = min(len(self.merges) + 1, max(2, len(self.fine) // 6))
        counts = sorted({min(round(2 ** (i / 4)), most) for i in range(4, 5 + int(4 * np.log2(most)))})
        scores = {count: self.score(self.cut(count)) for count in counts}
        best = max(counts, key=scores.__getitem__)
        share = min(largest, _LARGEST) if best <= _COARSE else largest
        limit = max(share * len(self.fine), 100)
        small = [c for c in counts if np.bincount(self.cut(c), self.sizes).max() <= limit]
        if best not in small and small:
            other = max(small, key=scores.__getitem__)
            if scores[best] - scores[other] <= _NEARLY:
                return self.cut(other)
        at = counts.index(best)
        for count in range(counts[max(at - 1, 0)] + 1, counts[min(at + 1, len(counts) - 1)]):
            scores[count] = self.score(self.cut(count))
        return self.cut(max(scores, key=lambda count: (scores[count], -count)))

    def into(self, count: int, min_size: int) -> Labels:
        """So many groups of ``min_size`` texts or more, if leaving few smaller ones apart gives them."""
        most = len(self.merges) + 1
        for kept in range(min(count, most), min(count + count // 5, most) + 1):
            joined = self.cut(kept)
            if (np.bincount(joined, self.sizes) >= min_size).sum() >= count:
                return joined
        return self.cut(min(count, most))

    def cut(self, count: int) -> Labels:
        """The groups once so many are left."""
        target = np.arange(len(self.merges) + 1)
        for one, other in reversed(self.merges[: len(target) - count]):
            target[other] = target[one]
        return np.unique(target, return_inverse=True)[1]

    def score(self, joined: Labels) -> float:
        """How good it is: how well texts sit in their groups, and how well these hold together in the graph."""
        inside = self.between.data[joined[self.from_] == joined[self.between.indices]].sum()
        strength = np.bincount(joined, self.strength)
        total = strength.sum()
        modularity = inside / total - (strength**2).sum() / total**2
        own = joined[self.fine[self.judged]]
        found = _silhouettes(self.part, self.lengths, own, *_together(joined, self.sums, self.sizes))
        return float(found.mean() + _MODULARITY * modularity + _FINENESS * np.log(len(strength)))


def _silhouettes(part: Vectors, lengths: Floats, own: Labels, sums: Floats, sizes: Labels) -> Floats:
    """How much nearer a text is to the centre of the others of its group than to the next group's: -1 to 1."""
    cosines = part @ _on_grid(_unit(sums)).T
    rows = np.arange(len(part))
    cosines[rows, own] = -np.inf
    next_ = 1 - np.maximum(cosines.max(axis=1) / np.maximum(lengths, 1e-9) / _GRID, -1)
    others = sums[own] - part
    near = 1 - (part * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1) * lengths, 1e-9)
    found = (next_ - near) / np.maximum(np.maximum(next_, near), 1e-9)
    return np.where(sizes[own] > 1, found, 0.0)


def _merges(sums: Floats, sizes: Labels) -> list[tuple[int, int]]:
    """Pairs of groups in the order in which they are joined: those first that lose least by a common centre (Ward).

    The second of a pair is joined to the first.

    Source: Ward 1963; Lance and Williams 1967.
    """
    count, weights = len(sizes), sizes.astype(np.float64)
    centres = np.rint(sums / sizes[:, None]).astype(np.float32)
    products = (centres @ centres.T).astype(np.float64)
    squares = np.diag(products)
    losses = squares[:, None] + squares[None, :] - 2 * products
    losses *= np.outer(weights, weights) / (weights[:, None] + weights[None, :])
    np.fill_diagonal(losses, np.inf)
    least, to = losses.min(axis=1), losses.argmin(axis=1)
    merged = []
    for _ in range(count - 1):
        i = int(least.argmin())
        one, other = sorted((i, int(to[i])))
        merged.append((one, other))
        apart = (weights + weights[one]) * losses[one] + (weights + weights[other]) * losses[other]
        apart = (apart - weights * losses[one, other]) / (weights + weights[one] + weights[other])
        apart[[one, other]] = np.inf
        weights[one] += weights[other]
        losses[one] = losses[:, one] = apart
        losses[other] = losses[:, other] = least[other] = np.inf
        nearer = apart < least
        least[nearer], to[nearer] = apart[nearer], one
        for row in [one, *np.flatnonzero(((to == one) | (to == other)) & ~nearer & np.isfinite(least)).tolist()]:
            least[row], to[row] = losses[row].min(), losses[row].argmin()
    return merged


def _together(joined: Labels, sums: Floats, sizes: Labels) -> tuple[Floats, Labels]:
    """Sums and sizes of joined groups."""
    order = np.argsort(joined, kind="stable")
    starts = np.searchsorted(joined[order], np.arange(joined.max() + 1))
    return np.add.reduceat(sums[order], starts), np.add.reduceat(sizes[order], starts)


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
    sums = _sums_of(vectors, labels, k)
    own, least = _own(vectors, labels, sums), options.weak
    kept, nearest = labels, np.empty(len(vectors))
    labels = labels.copy()
    for rows, _, cosines in _to_centres(vectors, _unit(sums).astype(np.float32)):
        nearest[rows] = cosines.max(axis=1)
        moved = own[rows] < least
        here = np.arange(len(moved))
        cosines[here, kept[rows]] = np.where(kept[rows] >= 0, own[rows], cosines[here, kept[rows]])
        near = cosines.argmax(axis=1)
        labels[rows] = np.where(moved, np.where(cosines[here, near] < least, -1, near), labels[rows])
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


def _own(vectors: Vectors, labels: Labels, sums: Floats) -> Floats:
    """Cosine of each text to the sum of the others of its group; -1 for no group."""
    found = np.full(len(vectors), -1.0)
    for start in range(0, len(vectors) if len(sums) else 0, _BLOCK):
        rows = start + np.flatnonzero(labels[start : start + _BLOCK] >= 0)
        grid = _on_grid(vectors[rows]).astype(np.float64)
        others = sums[labels[rows]] - grid
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
