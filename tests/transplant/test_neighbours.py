from __future__ import annotations

import numpy as np

from tokenspace.transplant import _neighbours
from tokenspace.transplant._neighbours import nearest, softmax, unit


def test_by_hand() -> None:
    keys = unit(np.array([[1, 0], [0, 2], [3, 3], [0, 0]], np.float32))
    ids, cosines = nearest(np.array([[1, 0], [0, -1]], np.float32), keys, 3)
    # second query: 0, -1, -0.7 and 0, so that keys 0 and 3 tie and the lower one is first
    assert ids.tolist() == [[0, 2, 1], [0, 3, 2]]
    np.testing.assert_allclose(cosines, [[1, 0.70711, 0], [0, 0, -0.70711]], atol=1e-5)


def test_equals_a_full_sort_whatever_the_blocks(monkeypatch) -> None:
    draw = np.random.default_rng(0)
    queries = draw.integers(-2, 3, (300, 5)).astype(np.float32)  # many ties
    keys = draw.integers(-2, 3, (200, 5)).astype(np.float32)
    scores = queries @ keys.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    for block in (1 << 23, 1):
        monkeypatch.setattr(_neighbours, "BLOCK", block)
        ids, best = nearest(queries, keys, 7)
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_array_equal(best, np.take_along_axis(scores, order, 1))


def test_fewer_keys_than_asked_for_and_nothing_at_all() -> None:
    rows = np.eye(3, dtype=np.float32)
    assert nearest(rows, rows[:2], 5)[0].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert nearest(rows[:0], rows, 2)[0].shape == (0, 2)
    assert nearest(rows, rows[:0], 2)[1].shape == (3, 0)


def test_softmax_does_not_overflow() -> None:
    x = np.array([[1000, 1000], [0, np.log(3)]], np.float32)
    np.testing.assert_allclose(softmax(x), [[0.5, 0.5], [0.25, 0.75]], atol=1e-6)
    np.testing.assert_allclose(softmax(x, 0.5)[1], [0.1, 0.9], atol=1e-6)
    assert softmax(x[:0]).shape == (0, 2)
