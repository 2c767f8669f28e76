"""The Huffman tree: as short as a heap makes it, complete, the same every time."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from tokenspace.words._tree import huffman


def shortest(counts: np.ndarray) -> int:
    """Return the least sum of counts times lengths, by joining the two lightest with a heap."""
    heap = counts.tolist()
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


def ways(counts: np.ndarray) -> list[list[int]]:
    tree = huffman(counts)
    return [tree.steps[a:b].tolist() for a, b in zip(tree.starts, tree.starts[1:], strict=False)]


def test_four_words_by_hand() -> None:
    # 1 + 1 = 2 (node 2), 2 + 2 = 4 (node 1: the single word of count 2 comes first),
    # 4 + 5 = 9 (the root). The lighter branch has the code 0: at the root word 0, of count 5, is
    # the heavier. Of the two of count 1 the later one comes first.
    assert ways(np.array([5, 2, 1, 1])) == [[1], [0, 2], [0, 3, 5], [0, 3, 4]]


@pytest.mark.parametrize("kind", ["zipf", "equal", "geometric", "zeros", "unsorted"])
def test_no_tree_is_shorter_and_its_codes_are_complete(kind: str) -> None:
    draw = np.random.default_rng(0)
    counts = {
        "zipf": 100_000 // np.arange(1, 301),
        "equal": np.full(100, 7),
        "geometric": 2 ** np.arange(40, -1, -1),
        "zeros": np.array([9, 5, 0, 3, 0, 0, 0, 1]),
        "unsorted": draw.integers(0, 50, 777),
    }[kind]
    tree = huffman(counts)
    lengths = np.diff(tree.starts)
    assert (counts * lengths).sum() == shortest(counts)
    assert lengths.max() == tree.deepest
    assert sum(2.0 ** -int(n) for n in lengths) == 1  # Kraft: no code is missing
    codes = {"".join(str(step & 1) for step in way) for way in ways(counts)}
    assert len(codes) == len(counts)
    nodes = {step >> 1 for way in ways(counts) for step in way}
    assert nodes == set(range(len(counts) - 1))


def test_a_node_has_one_way_to_it() -> None:
    before: dict[int, list[int]] = {}
    for way in ways(np.random.default_rng(1).integers(1, 30, 200)):
        for at, step in enumerate(way):
            assert before.setdefault(step >> 1, way[:at]) == way[:at]
    assert before[0] == []


def test_ties_are_broken_the_same_way_every_time() -> None:
    # Words 4 and 3 are joined (node 3), then 2 and 1 (node 2), then 0 with node 3 (node 1).
    counts = np.array([3, 3, 3, 3, 3])
    assert ways(counts) == [[1, 2], [0, 5], [0, 4], [1, 3, 7], [1, 3, 6]]
