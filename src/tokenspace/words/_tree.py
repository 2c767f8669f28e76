"""The Huffman tree of a vocabulary: the inner nodes that lead to a word, and which way at each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Ids
from tokenspace.jit import kernel
from tokenspace.sgd import BLOCK
from tokenspace.simd import LANES

__all__ = ["NO_TREE", "Tree", "huffman", "path_rows"]


class Tree(NamedTuple):
    """The ways from the root to each of V words, over V - 1 inner nodes; the root is node 0.

    ``steps[starts[w]:starts[w + 1]]`` is the way to word w, each step 2 j + code for inner node j
    and the code (0 or 1) of the branch taken there; ``deepest`` is the length of the longest way.
    """

    steps: npt.NDArray[np.int32]
    starts: Ids
    deepest: int


NO_TREE = Tree(np.zeros(0, np.int32), np.zeros(0, np.int64), 0)
"""What a kernel is given that draws noise words instead."""


def huffman(counts: Ids) -> Tree:
    """Build the tree in which the mean way to a word, weighted by its count, is shortest.

    The two lightest subtrees are joined until one is left; equal weights: single words come before
    joined ones, later words before earlier ones. The lighter branch has the code 0. A word that
    never occurs is in the tree as well.
    """
    size = len(counts)
    order = size - 1 - np.argsort(counts[::-1], kind="stable")  # lightest first
    parents = np.zeros(2 * size - 1, np.int64)  # of the words in that order, then of joined nodes
    codes = np.zeros(2 * size - 1, np.int32)
    _join(counts[order].astype(np.int64), parents, codes)
    depths = np.zeros(2 * size - 1, np.int64)
    _measure(parents, depths)
    lengths = np.zeros(size, np.int64)
    lengths[order] = depths[:size]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    steps = np.zeros(starts[-1], np.int32)
    _walk(order, parents, codes, starts, steps)
    return Tree(steps, starts, int(lengths.max()))


@kernel()
def _join(weights: Ids, parents: Ids, codes: npt.NDArray[np.int32]) -> None:
    """Join the two lightest of sorted words and of joined nodes, whose weights never fall."""
    size = len(weights)
    joined = np.zeros(size - 1, np.int64)
    word, node = 0, 0
    for new in range(size - 1):
        for code in range(2):
            if word < size and (node == new or weights[word] <= joined[node]):
                child, weight = word, weights[word]
                word += 1
            else:
                child, weight = size + node, joined[node]
                node += 1
            parents[child] = size + new
            codes[child] = code
            joined[new] += weight


@kernel()
def _measure(parents: Ids, depths: Ids) -> None:
    """Fill in how many steps each node is from the root, which is the last one."""
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1


@kernel()
def _walk(
    order: Ids,
    parents: Ids,
    codes: npt.NDArray[np.int32],
    starts: Ids,
    steps: npt.NDArray[np.int32],
) -> None:
    """Write the way to each word, from its end upwards."""
    root = len(parents) - 1
    for place in range(len(order)):
        node = place
        for at in range(starts[order[place] + 1] - 1, starts[order[place]] - 1, -1):
            steps[at] = 2 * (root - parents[node]) + codes[node]
            node = parents[node]


@kernel()
def path_rows(
    word: int,
    steps: npt.NDArray[np.int32],
    starts: Ids,
    width: int,
    lr: float,
    T: Ids,
    rate: Floats1d,
    label: Floats1d,
) -> int:
    """Lay out the output rows ``T`` on the way to a word; return how many blocks they fill.

    ``label`` is 1 - code. ``rate`` (eight lanes a block) is the learning rate, and 0 after the
    last node.
    """
    begin, end = starts[word], starts[word + 1]
    blocks = (end - begin + BLOCK - 1) // BLOCK
    for place in range(blocks * BLOCK):
        step = steps[min(begin + place, end - 1)]
        T[place] = np.int64(step >> 1) * width
        lane = place // BLOCK * LANES + place % BLOCK
        label[lane] = 1 - (step & 1)
        rate[lane] = np.float32(lr) if begin + place < end else np.float32(0)
    rate[blocks * LANES :] = 0
    return int(blocks)
