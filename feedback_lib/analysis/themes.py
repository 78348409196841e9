"""Topics under themes: a few broad subjects that stay the same from week to week."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from feedback_lib.analysis import naming

if TYPE_CHECKING:
    import polars as pl

Centroids = npt.NDArray[np.float64]

_PHRASE = 1.3


@dataclasses.dataclass(frozen=True)
class ThemeOptions:
    """How topics are put under themes.

    Attributes:
        least_topics: With fewer topics there are no themes.
        most: Most themes; a topic that would found one more joins the nearest.
    """

    least_topics: int = 6
    most: int = 15


def arrange(topics: pl.DataFrame, options: ThemeOptions | None = None) -> pl.DataFrame:
    """Give each living topic a theme.

    The first time, themes are made: Ward's tree of the topics' centres, cut where topics are nearest to their own theme
    against the next (silhouette). Later a topic that has a theme keeps it, and a new topic joins the nearest theme
    unless it is farther from it than the topics of that theme usually are: then it founds one, together with other new
    topics it is near to. A theme keeps its id and its name; an id is never used again. To arrange anew, clear
    ``theme_id`` and ``theme`` of the topics that may move.

    Args:
        topics: Table ``topics`` (`records.schema`), retired topics included; ``theme_id`` and ``theme`` as they stood.
        options: See there.

    Returns:
        The same rows in the same order with ``theme_id`` and ``theme``; null where there are too few topics.
        Retired topics keep what they had.

    Source: Ward 1963; silhouette, Rousseeuw 1987.
    """
    import polars as pl

    options = options or ThemeOptions()
    rows = topics.with_row_index("place").filter(pl.col("retired_on").is_null()).sort("topic_id").to_dicts()
    known = [row for row in rows if row["theme_id"] is not None]
    if not known and len(rows) < options.least_topics:
        return topics
    centres = _centred(rows)
    sizes = np.array([max(row["size"], 1) for row in rows], np.float64)
    next_id = int(topics["theme_id"].max() or 0) + 1  # type: ignore[arg-type]
    if known:
        theme_of = _joined([row["theme_id"] for row in rows], centres, sizes, next_id, options.most)
    else:
        theme_of = [next_id + label for label in _made(centres, sizes, options)]
    names = _names(rows, theme_of)
    ids, said = topics["theme_id"].to_list(), topics["theme"].to_list()
    for row, theme in zip(rows, theme_of, strict=True):
        ids[row["place"]], said[row["place"]] = theme, names[theme]
    return topics.with_columns(pl.Series("theme_id", ids, pl.Int64), pl.Series("theme", said, pl.String))


def _centred(rows: Sequence[Mapping[str, Any]]) -> Centroids:
    """Directions in which topics differ: what all of them share tells no theme."""
    width = max(len(row["centroid"]) for row in rows)
    nowhere = [0.0] * width  # a topic without texts for so long that no run knows its centre
    centres = np.array([row["centroid"] if len(row["centroid"]) == width else nowhere for row in rows], np.float64)
    if len(centres) > 2:
        centres = centres - centres.mean(axis=0)
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    return centres


def _made(centres: Centroids, sizes: npt.NDArray[np.float64], options: ThemeOptions) -> list[int]:
    """Labels 0, 1, … of new themes, the one with most texts first."""
    import scipy.cluster.hierarchy

    tree = scipy.cluster.hierarchy.ward(centres)
    low = 5 if len(centres) >= 20 else 2  # silhouette alone asks for ever more themes of two topics
    high = max(low, min(options.most, round(1.3 * math.sqrt(len(centres)))))
    products = np.round(centres @ centres.T, 9)
    best, labels = -math.inf, np.zeros(len(centres), np.int64)
    for count in range(low, high + 1):
        cut = scipy.cluster.hierarchy.fcluster(tree, count, "maxclust")
        apart = _silhouette(products, cut)
        if apart > best + 1e-9:
            best, labels = apart, cut
    heavy = Counter[int]()
    for label, size in zip(labels.tolist(), sizes.tolist(), strict=True):
        heavy[label] += size
    rank = {label: i for i, (label, _) in enumerate(sorted(heavy.items(), key=lambda one: (-one[1], one[0])))}
    return [rank[label] for label in labels.tolist()]


def _silhouette(products: Centroids, labels: npt.NDArray[Any]) -> float:
    """Mean silhouette in cosine; a topic alone in its theme counts 0."""
    _, label, count = np.unique(labels, return_inverse=True, return_counts=True)
    member = np.eye(len(count))[label]
    toward = products @ member
    rows = np.arange(len(label))
    own = (toward[rows, label] - products[rows, rows]) / np.maximum(count[label] - 1, 1)
    toward = toward / count
    toward[rows, label] = -np.inf
    other = toward.max(axis=1)
    near, far = 1 - own, 1 - other
    value = np.where(count[label] > 1, (far - near) / np.maximum(np.maximum(near, far), 1e-9), 0.0)
    return float(value.mean())


def _joined(
    known: Sequence[int | None], centres: Centroids, sizes: npt.NDArray[np.float64], next_id: int, most: int
) -> list[int]:
    """Themes of all topics, those that have one unchanged."""
    members: dict[int, list[int]] = defaultdict(list)
    for i, theme in enumerate(known):
        if theme is not None:
            members[theme].append(i)
    usual = _usual(members, centres, sizes)
    theme_of = list(known)
    fresh = sorted((i for i, theme in enumerate(known) if theme is None), key=lambda i: (-sizes[i], i))
    for i in fresh:  # largest first, so that a founder is what most people speak of
        themes = sorted(members)
        near = [round(float(_unit(centres, sizes, members[theme]) @ centres[i]), 9) for theme in themes]
        best = int(np.argmax(near))
        if near[best] < usual and len(themes) < most:
            theme = next_id
            next_id += 1
        else:
            theme = themes[best]
        members[theme].append(i)
        theme_of[i] = theme
    return [theme for theme in theme_of if theme is not None]


def _usual(members: Mapping[int, list[int]], centres: Centroids, sizes: npt.NDArray[np.float64]) -> float:
    """The cosine that nine topics of ten reach to the others of their theme, at most 0.3: a near one always joins."""
    own = [
        float(_unit(centres, sizes, [j for j in inside if j != i]) @ centres[i])
        for inside in members.values()
        if len(inside) > 1
        for i in inside
    ]
    return min(0.3, max(0.05, float(np.quantile(own, 0.1)))) if own else 0.3


def _unit(centres: Centroids, sizes: npt.NDArray[np.float64], inside: Sequence[int]) -> Centroids:
    centre: Centroids = np.sqrt(sizes[inside]) @ centres[inside]
    return centre / max(float(np.linalg.norm(centre)), 1e-9)


# --- names ------------------------------------------------------------------------------------------------------------


def _names(rows: Sequence[Mapping[str, Any]], theme_of: Sequence[int]) -> dict[int, str]:
    """A name for each theme: the one it has, or two terms that several of its topics share and others have not."""
    given: dict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["theme_id"] is not None and row["theme"]:
            given[row["theme_id"]][row["theme"]] += 1
    names = {theme: min(count, key=lambda name: (-count[name], name)) for theme, count in given.items()}
    fresh = [theme for theme in dict.fromkeys(sorted(theme_of)) if theme not in names]
    terms = _terms(rows, theme_of)
    taken = {naming.said(name) for name in names.values()}
    for theme in fresh:
        names[theme] = _new_name(terms.get(theme, []), theme, taken)
        taken.add(naming.said(names[theme]))
    return names


def _new_name(terms: Sequence[str], theme: int, taken: set[frozenset[str]]) -> str:
    for length in range(min(2, len(terms)), len(terms) + 1):
        name = ", ".join(terms[:length])
        if name and naming.said(name) not in taken:
            return name
    return f"theme {theme}"


def _terms(rows: Sequence[Mapping[str, Any]], theme_of: Sequence[int]) -> dict[int, list[str]]:
    """Terms of each theme, most telling first: used by its topics, weighed by their size, and not by the others'."""
    used: dict[frozenset[str], dict[int, float]] = {}
    shown: dict[frozenset[str], Counter[str]] = defaultdict(Counter)
    stems = [[naming.said(term) for term in row["words"]] for row in rows]
    for row, own in zip(rows, stems, strict=True):
        for term, said in zip(row["words"], own, strict=True):
            shown[said][term] += 1
            for word in term.split():
                if len(said) > 1 and word.lower() not in ("not", "no"):
                    shown[naming.said(word)][word] += 1
    for said in shown:
        # an early word of a topic says more of it than its last
        used[said] = {
            i: max(1 / (2 + place) for place, other in enumerate(own) if said <= other)
            for i, own in enumerate(stems)
            if any(said <= other for other in own)
        }
    weight = [math.sqrt(max(row["size"], 1)) for row in rows]
    inside: dict[int, float] = defaultdict(float)
    for theme, heavy in zip(theme_of, weight, strict=True):
        inside[theme] += heavy
    every = sum(weight)
    found: dict[int, list[tuple[bool, float, str]]] = defaultdict(list)
    for said, topics in used.items():
        name = min(shown[said], key=lambda term: (-shown[said][term], term))
        whole = sum(weight[i] * part for i, part in topics.items()) / every
        for theme in dict.fromkeys(theme_of[i] for i in topics):
            share = sum(weight[i] * part for i, part in topics.items() if theme_of[i] == theme) / inside[theme]
            telling = share * max(math.log(share / whole), 1e-3) * (_PHRASE if len(said) > 1 else 1)
            several = sum(theme_of[i] == theme for i in topics) > 1
            found[theme].append((not several, -telling, name))
    return {theme: naming.distinct([term for *_, term in sorted(terms)])[:10] for theme, terms in found.items()}
