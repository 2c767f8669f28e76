"""Whether word vectors fall into the categories that people put the words into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.clusters import k_means
from tokenspace.metrics import bootstrap
from tokenspace.resampling import figure, kept, scored
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation.lookup import Oov, find
from tokenspace.words.evaluation.results import Result, Values

__all__ = ["adjusted_rand", "categorisation", "outliers", "purity"]

Outlier = tuple[str, tuple[str, ...], tuple[str, ...]]


def categorisation(
    table: EmbeddingTable,
    categories: Mapping[str, Sequence[str]],
    *,
    name: str = "categories",
    oov: Oov = "skip",
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
) -> Result:
    """Return the purity of k-means clusters of unit vectors, as many as there are categories.

    Of ten starts the one with the least sum of squares counts. Purity is the share of words whose
    cluster's most frequent category is their own; the interval draws words with the clusters kept.
    ``also`` has normalised mutual information (by the arithmetic mean) and the adjusted Rand index.
    """
    words = [word for members in categories.values() for word in members]
    labels = np.repeat(np.arange(len(categories)), [len(m) for m in categories.values()])
    found = find(table, words, oov=oov, language=language)
    use = found.known if oov == "skip" else np.ones(len(words), np.bool_)
    present = len(np.unique(labels[use]))
    items = np.full(len(words), np.nan)
    also = {"nmi": float("nan"), "ari": float("nan"), "categories": float(present)}
    if present > 1:
        rows = _unit(found.vectors[use])
        clusters = k_means(rows, present, seed)
        items[use] = _right(labels[use], clusters)
        also["nmi"] = figure("v_measure", np.column_stack([labels[use], clusters]).astype(float))
        also["ari"] = adjusted_rand(labels[use], clusters)
    return Result(
        task="categories",
        set=name,
        measure="purity",
        score=scored("share", items, seed, resamples),
        kind="share",
        items=items,
        unknown=found.unknown,
        also=also,
    )


def _unit(vectors: Floats2d) -> Floats2d:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def _table(labels: Ids, clusters: Ids) -> Values:
    counts = np.zeros((int(labels.max()) + 1, int(clusters.max()) + 1))
    np.add.at(counts, (labels, clusters), 1)
    return counts


def _right(labels: Ids, clusters: Ids) -> Values:
    """Mark with 1 the rows whose label is the most frequent one of their cluster, (N,)."""
    best = _table(labels, clusters).argmax(axis=0)
    return np.asarray(best[clusters] == labels, np.float64)


def purity(labels: Ids, clusters: Ids) -> float:
    """Return the share of rows whose label is the most frequent one of their cluster."""
    return float(_right(labels, clusters).mean())


def adjusted_rand(labels: Ids, clusters: Ids) -> float:
    """Return the Rand index less what chance gives (Hubert and Arabie 1985); 1 where they agree."""
    counts = _table(labels, clusters)

    def pairs(sizes: npt.NDArray[np.float64]) -> float:
        return float((sizes * (sizes - 1) / 2).sum())

    both, rows, columns = pairs(counts), pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    whole = len(labels) * (len(labels) - 1) / 2
    chance = rows * columns / whole if whole else 0.0
    most = (rows + columns) / 2
    return (both - chance) / (most - chance) if most > chance else 1.0


def outliers(
    table: EmbeddingTable,
    groups: Sequence[Outlier],
    *,
    name: str = "outliers",
    oov: Oov = "skip",
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
) -> Result:
    """Return the share of outliers that fit their group least (Camacho-Collados, Navigli 2016).

    A group is its name, its words, and words that do not belong to it. One outlier joins the
    group at a time; the compactness of a word is its mean cosine with all others of the group,
    and the outlier should have the least, a tie counting against it. ``also`` has the outlier
    position percentage ``opp``: how far down the outlier stands, 1 being last.
    """
    words = sorted({word for _, inside, outside in groups for word in (*inside, *outside)})
    found = find(table, words, oov=oov, language=language)
    place = {word: index for index, word in enumerate(words)}
    unit = _unit(found.vectors).astype(np.float64)
    items, positions = [], []
    for _, inside, outside in groups:
        own = [place[word] for word in inside]
        own = [i for i in own if found.known[i]] if oov == "skip" else own
        for word in outside:
            i = place[word]
            if len(own) < 2 or (oov == "skip" and not found.known[i]):
                items.append(np.nan)
                continue
            rows = unit[[*own, i]]
            fit = rows @ rows.sum(axis=0) - (rows**2).sum(axis=1)
            position = int((fit[:-1] > fit[-1] + 1e-12).sum())
            items.append(float(position == len(own)))
            positions.append(position / len(own))
    low, high = bootstrap(positions, seed, resamples)
    opp = float(np.mean(positions)) if positions else float("nan")
    values = np.array(items, np.float64)
    return Result(
        task="outliers",
        set=name,
        measure="accuracy",
        score=scored("share", values, seed, resamples),
        kind="share",
        items=values,
        unknown=found.unknown,
        also={"opp": opp, "opp_low": low, "opp_high": high, "cases": float(len(kept(values)))},
    )
