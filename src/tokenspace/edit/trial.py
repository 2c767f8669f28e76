"""What every edit is tried on: words around two kinds of people, with a bias put in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tokenspace.metrics import cosine
from tokenspace.pairs import Pairs
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

from ._subspace import direct_bias, subspace, unit

__all__ = ["bag", "judge"]


def bag(seed: int = 0, *, tiny: bool = False) -> dict[str, Any]:
    """Return ``source``, a made table in which a direction tells the sides of pairs apart.

    Pairs of words differ along one direction, words of two ``classes`` lean to its ends, and all
    words share a mean and a decaying spectrum, as learned vectors do. ``target`` is the same table
    turned round, with noise; ``directions`` (2, D) are what the pairs differ in, and another one.
    """
    size, width, pairs = (120, 12, 6) if tiny else (20_000, 64, 24)
    draw = stream(seed, "edit")
    spectrum = 1 / np.sqrt(np.arange(1, width + 1))
    rows = draw.standard_normal((size, width)) * spectrum + 0.3 * draw.standard_normal(width)
    g = draw.standard_normal(width)
    g /= np.linalg.norm(g)
    sides = np.repeat([[1.0, -1.0]], pairs, axis=0).reshape(-1)
    rows[: 2 * pairs] = np.repeat(rows[: 2 * pairs : 2], 2, axis=0) + sides[:, None] * g
    rows[: 2 * pairs] += 0.05 * draw.standard_normal((2 * pairs, width))
    leaning = np.arange(2 * pairs, 2 * pairs + size // 4)
    side = np.where(leaning % 2, -1.0, 1.0)
    rows[leaning] += side[:, None] * g
    words = [f"w{index}" for index in range(size)]
    sets = WordSets([words[index : index + 2] for index in range(0, 2 * pairs, 2)])
    turn = np.linalg.qr(draw.standard_normal((width, width)))[0]
    turned = rows @ turn + 0.05 * draw.standard_normal(rows.shape)
    kinds = [[words[i] for i in leaning[side == end]] for end in (1, -1)]
    vocab = Vocabulary.words(words)
    return {
        "source": EmbeddingTable(vocab, np.asarray(rows, np.float32)),
        "definitional": sets,
        "equalize": sets,
        "specific": WordSets([words[-1:]]),
        "classes": WordSets(dict(zip(("first", "second"), kinds, strict=True))),
        "directions": np.asarray([g, draw.standard_normal(width)], np.float32),
        "target": EmbeddingTable(Vocabulary.words(words), np.asarray(turned, np.float32)),
        "dictionary": Pairs([(word, word) for word in words[::2]]),
    }


def judge(result: EmbeddingTable, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return what is left of the bias, what of the likeness of words, and how even the space is.

    ``direct_bias``: of the words that lean, along the direction of the result's own pairs.
    ``likeness``: the correlation of the cosines of random pairs of words before and after.
    ``mean_cosine``: of such pairs, 0 where no direction is common to all.
    """
    source: EmbeddingTable = bag["source"]
    ids = result.vocab.ids
    pairs = [[ids[word] for word in words] for words in bag["definitional"]]
    basis = subspace([unit(result.vectors[i]) for i in pairs])
    leaning = [ids[word] for word in bag["classes"].words]
    draw = stream(0, "likeness")
    left, right = (draw.integers(len(ids), size=2_000) for _ in range(2))
    before, after = (cosine(t.vectors[left], t.vectors[right]) for t in (source, result))
    return {
        "direct_bias": direct_bias(result.vectors[leaning], basis.basis),
        "likeness": float(np.corrcoef(before, after)[0, 1]),
        "mean_cosine": float(after.mean()),
    }
