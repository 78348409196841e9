import functools

import numpy as np
import pytest
import threadpoolctl

from feedback_lib.analysis import layout


@functools.cache
def world(n=900, k=15, d=64, seed=3):
    """Texts about ``k`` subjects of different sizes; a tenth are about none."""
    dice = np.random.default_rng(seed)
    centres = dice.normal(size=(k, d))
    labels = dice.choice(k, n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    vectors = centres[labels] + 0.9 * dice.normal(size=(n, d))
    lost = dice.random(n) < 0.1
    vectors[lost] = dice.normal(size=(lost.sum(), d))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors, np.where(lost, -1, labels).astype(np.int64)


def kept(vectors, found, k=15):
    """The share of each text's nearest that are still its nearest on the map, and the trustworthiness."""
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    near = [NearestNeighbors(n_neighbors=k, metric=m).fit(x) for x, m in ((vectors, "cosine"), (found, "euclidean"))]
    both = zip(*(n.kneighbors(return_distance=False) for n in near), strict=True)
    share = np.mean([len(set(a) & set(b)) / k for a, b in both])
    return share, trustworthiness(vectors, found, n_neighbors=k, metric="cosine")


def test_neighbours_stay_neighbours_far_better_than_in_the_two_main_directions():
    vectors, labels = world()
    found = layout.places(vectors, labels)
    share, trust = kept(vectors, found)
    main = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[0][:, :2]
    plain_share, plain_trust = kept(vectors, main)
    assert share > 2.5 * plain_share
    assert trust > max(0.9, plain_trust + 0.05)


def test_a_topic_is_an_island():
    """Of the nearest ten on the map of a text with a topic, most are of its topic."""
    from sklearn.neighbors import NearestNeighbors

    vectors, labels = world()
    found = layout.places(vectors, labels)
    near = NearestNeighbors(n_neighbors=10).fit(found).kneighbors(return_distance=False)
    member = labels >= 0
    assert (labels[near] == labels[:, None])[member].mean() > 0.85


def test_the_same_texts_have_the_same_places_whatever_the_number_of_threads():
    vectors, labels = world(700)
    made = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            made.append(layout.places(vectors, labels))
    assert np.array_equal(*made)


def test_many_texts_are_put_among_an_even_choice_of_them(monkeypatch):
    monkeypatch.setattr(layout, "LANDMARKS", 500)
    vectors, labels = world()
    assert {*np.unique(labels)} == {*labels[layout._landmarks(labels)]}
    found = layout.places(vectors, labels)
    assert found.shape == (len(vectors), 2)
    assert kept(vectors, found)[1] > 0.85
    for topic in np.unique(labels[labels >= 0]):
        mine = found[labels == topic]
        assert np.linalg.norm(np.median(mine, axis=0) - layout.middle(mine)) < 0.2


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6])
def test_few_texts_have_places_too(n):
    vectors, labels = world()
    found = layout.places(vectors[:n], labels[:n])
    assert found.shape == (n, 2)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_equal_texts_lie_together_and_break_nothing():
    vectors = np.repeat(world()[0][:3], 20, axis=0)
    found = layout.places(vectors, np.repeat(np.arange(3), 20))
    assert np.isfinite(found).all()
    middles = np.array([found[i * 20 : i * 20 + 20].mean(axis=0) for i in range(3)])
    nearest = np.linalg.norm(found[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(3), 20)).all()


class TestNames:
    def test_none_lies_on_another_or_leaves_the_picture(self):
        dice = np.random.default_rng(1)
        anchors = [tuple(p) for p in dice.uniform(0, 400, (60, 2))]
        sizes = [(float(w), 16.0) for w in dice.uniform(40, 130, 60)]
        found = layout.spread_out(anchors, sizes, 400, 400)
        boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in known(found, sizes)]
        assert len(boxes) > 25
        assert all(a >= 0 and b >= 0 and c <= 400.01 and d <= 400.01 for a, b, c, d in boxes)
        for i, (a, b, c, d) in enumerate(boxes):
            for e, f, g, h in boxes[:i]:
                assert c <= e + 1e-6 or g <= a + 1e-6 or d <= f + 1e-6 or h <= b + 1e-6

    def test_the_first_has_its_place_and_one_without_room_is_left_out(self):
        found = layout.spread_out([(50, 50)] * 40, [(60, 20)] * 40, 100, 100, farthest=20)
        assert found[0] == (50, 50)
        assert None in found


def known(found, sizes):
    return [(f, s) for f, s in zip(found, sizes, strict=True) if f is not None]


def test_an_outline_holds_the_core_and_not_the_stray():
    dice = np.random.default_rng(2)
    core, stray = dice.normal(100, 5, (40, 2)), np.array([[300.0, 300.0]])
    line = layout.outline(np.vstack([core, stray]), 6)
    assert np.array_equal(line[0], line[-1])
    assert line.max() < 200
    assert line[:, 0].min() < core[:, 0].min()
    steps = np.diff(line, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
    assert (turns > 0).all()  # convex


def test_an_outline_of_one_spot_is_a_circle():
    line = layout.outline(np.array([[10.0, 20.0]]), 6)
    assert np.allclose(np.linalg.norm(line - [10, 20], axis=1), 6)
