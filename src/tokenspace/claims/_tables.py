"""What claims of compressed tables share: clicks to train on, and word vectors to rank."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats2d
from tokenspace.compress import Lookup, ctr
from tokenspace.compress.trial import neighbors, overlap
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe, apply, make
from tokenspace.rng import stream

__all__ = [
    "SCALE",
    "SEEDS",
    "beside_hash",
    "clicks",
    "pruned_after",
    "recall10",
    "trained",
    "words",
]

SEEDS = (10, 11, 12)
"""Seeds that no margin was set on."""
SCALE = (
    "survey: Criteo, 33 million ids, AUC 0.8086 at a quarter of the bytes, 0.8082 at a tenth and "
    "0.8073 at a hundredth; here: ratings of movies as clicks (23,720 ids of 4 fields, width 16), "
    "generated clicks where those are absent; the initial scale of each is tuned on other rows"
)
K = 10


def beside_hash(
    method: Recipe | None, seed: int, *, smoke: bool, low: bool = False
) -> dict[str, float]:
    """Return the tuned test figures of a method at a tenth of the bytes; None stands for `hash`.

    With ``low`` also the AUC at a fiftieth, as ``auc_2``.
    """
    figures: dict[str, float] = {}
    for budget, mark in ((0.1, ""), (0.02, "_2"))[: 1 + low]:
        recipe = replace(cast("Any", method or make("hash")), budget=budget)
        found = trained(recipe, seed, smoke=smoke, tune=True)
        figures |= {f"{key}{mark}": found[key] for key in ("auc", "logloss", "ratio", "init_std")}
    return figures


def clicks(seed: int, *, smoke: bool) -> ctr.Clicks:
    """Return the ratings of movies, or generated clicks where those are not on this machine."""
    there = data.available("movietweetings_100k_dev") and data.available("movietweetings_movies")
    return ctr.load("movietweetings" if there else "zipf", seed, smoke=smoke)


def trained(
    method: Recipe | None, seed: int, *, smoke: bool, tune: bool = False
) -> dict[str, float]:
    """Return the test figures of a table that was trained; None stands for the full table.

    Initial numbers have a standard deviation of 0.05, or with ``tune`` the best of three by the
    validation rows.
    """
    from tokenspace.compress import ctr_net

    rows, epochs = clicks(seed, smoke=smoke), 1 if smoke else 3
    if tune and not smoke:
        return ctr_net.tuned(method, rows, seed, epochs=epochs)
    init_std = ctr_net.INIT_STDS[0]
    layer = ctr_net.layer_of(method, rows, seed, init_std=init_std)
    return {**ctr_net.train(layer, rows, seed, epochs=epochs), "init_std": init_std}


def pruned_after(method: Recipe, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test figures of a full table that a method compresses once it is trained."""
    from tokenspace.compress import ctr_net
    from tokenspace.nn.embedding import FullEmbedding

    class Finished(FullEmbedding):
        def export(self) -> Any:
            rows_now = self.weight.detach().numpy()
            return apply(method, {"source": rows_now, "counts": rows.counts})

    rows = clicks(seed, smoke=smoke)
    layer = Finished(rows.size, ctr_net.WIDTH, seed=seed)
    return ctr_net.train(layer, rows, seed, epochs=1 if smoke else 3)


@lru_cache(maxsize=1)
def words(seed: int, *, smoke: bool) -> Floats2d:
    """Return vectors of the 20,000 most frequent words of the novels, (20000, 256).

    Skip-gram in 3 epochs on one thread; from the default text, with fewer words, where the novels
    are not on this machine; ``smoke`` takes a hundredth.
    """
    from tokenspace.claims._vectors import default_pages
    from tokenspace.words.sgns import SGNS

    if data.available("novels"):
        texts = data.novels(2_500 if smoke else None)
    else:
        texts = [line for _, text in default_pages(smoke=smoke) for line in text.split("\n\n")]
    return SGNS(dim=256, epochs=3, threads=1, seed=seed)(Corpus(texts)).vectors[:20_000]


def recall10(stored: Lookup, vectors: Floats2d, seed: int, *, smoke: bool) -> float:
    """Return the share of the exact ten nearest rows that are kept, for 1,000 rows as queries."""
    chosen = stream(seed, "queries").permutation(len(vectors))[: 100 if smoke else 1_000]
    exact = neighbors(vectors, vectors[chosen], K + 1)[:, 1:]
    found = neighbors(stored.rows(np.arange(len(vectors))), vectors[chosen], K + 1)
    return float(overlap(exact, found, K + 1).mean())
