"""MUVERA: fixed dimensional encodings find the exact nearest document, mean vectors do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids2d, Ragged
from tokenspace.claims._token_vectors import Collection, collections, pretrained
from tokenspace.metrics import bootstrap, ndcg_at, pearson, recall_at
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.retrieve._shared import best, chamfer
from tokenspace.retrieve.fde import FDE
from tokenspace.retrieve.muvera import MUVERA, MUVERAIndex, carve
from tokenspace.retrieve.store import TokenStore

CLAIM = Claim(
    says="The exact nearest document by MaxSim is among the first 25 by encodings far more often "
    "than among the first 25 by mean vectors",
    paper="arXiv:2405.19504",
    metric="one_recall_at_25",
    better="higher",
    baseline="cosine of the mean token vector of each text",
    margin=0.10,
    scale="paper: trained ColBERTv2 vectors on MS MARCO and five BEIR collections; here: static "
    "vectors (PPMI, 64 dimensions) mixed with their neighbours, on the 1,398 documents of "
    "Cranfield and the 2,101 of scifact_long; figures are means over all queries, low and high a "
    "bootstrap interval over them. minilm_ figures, where it is installed: the token states of "
    "MiniLM, trained for means of sentences and not for late interaction, on these, CISI, MED and "
    "a fifth of NPL, documents cut to 40 words. A seed is that of the encoder. ndcg_at_10 and "
    "recall_at_100 count the collections' judgements, the former after exact scoring of 100 "
    "candidates. Both sides carry figures of the setting: other sizes, merging each query token's "
    "nearest documents, carved queries, the correlation with MaxSim of cells filled rightly and by "
    "the wrong bit distance of a popular port, and on Cranfield a byte for 8 numbers (pq8) and "
    "163,840 numbers narrowed to 10,240 (final). Without these files: titles of Python's default "
    "text",
    budget_s=600.0,
)
SIZES = ((20, 3, 8), (20, 4, 8), (20, 5, 8), (20, 5, 16))
LONG = MUVERA(repetitions=40, k_sim=6, d_proj=0, d_final=10_240)

Values = npt.NDArray[np.float64]


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return means over all queries, with intervals, and the figures of the setting."""
    recipe = None if method is None else replace(cast("MUVERA", method), seed=seed)
    figures = _side(recipe, collections(smoke=smoke))
    figures |= _named("minilm", _side(recipe, pretrained(smoke=smoke)))
    return {**figures, **_setting(seed, smoke=smoke)}


def _named(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _side(recipe: MUVERA | None, given: Sequence[Collection]) -> dict[str, float]:
    """Return what one side finds in the collections together, and at 25 in each."""
    found = [_search(recipe, collection) for collection in given]
    figures = _means(found)
    for name in (CLAIM.metric, "ndcg_at_10", "recall_at_100") if found else ():
        low, high = bootstrap(np.concatenate([part[name] for part in found]))
        figures |= {f"{name}_low": low, f"{name}_high": high}
    for part, collection in zip(found, given, strict=True):
        figures[f"{collection.name}_at_25"] = float(part["one_recall_at_25"].mean())
    return figures


def _means(parts: Sequence[Mapping[str, Values]]) -> dict[str, float]:
    """Return the mean of every figure over the queries of all collections."""
    names = parts[0] if parts else ()
    return {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in names}


def _search(recipe: MUVERA | None, collection: Collection) -> dict[str, Values]:
    """Return figures of every query: of the first stage, and of the ten best after the second."""
    if recipe is None:
        ranked = final = _by_means(collection)
    else:
        index = _index(recipe, collection)
        ranked, final = index.find(collection.queries, 100), index.search(collection.queries, 10)[0]
    return {
        **_found(ranked, collection),
        "recall_at_100": recall_at(ranked, collection.relevant, 100),
        "ndcg_at_10": ndcg_at(final, collection.relevant, 10),
    }


@lru_cache(maxsize=8)  # the collections of both kinds: the default is also one of the sizes
def _index(recipe: MUVERA, collection: Collection) -> MUVERAIndex:
    return recipe(collection.docs)


def _found(ranked: Ids2d, collection: Collection) -> dict[str, Values]:
    """Return 1-Recall@N of every query, and the share of its exact top 10 in the first 100."""
    truth, _ = best(_exact(collection), 10)
    first = ranked == truth[:, :1]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(truth, ranked[:, :100], strict=True)]
    return {
        "one_recall_at_10": first[:, :10].any(axis=1).astype(np.float64),
        "one_recall_at_25": first[:, :25].any(axis=1).astype(np.float64),
        "one_recall_at_100": first[:, :100].any(axis=1).astype(np.float64),
        "top10_in_100": np.array(shared) / truth.shape[1],
    }


@lru_cache(maxsize=8)
def _exact(collection: Collection) -> Floats2d:
    """Return MaxSim of every query with every document of a collection, (Q, N)."""
    return chamfer(TokenStore.pack(collection.docs), collection.queries)


def _by_means(collection: Collection) -> Ids2d:
    docs, queries = (
        np.add.reduceat(side.flat, side.offsets[:-1], axis=0)
        for side in (collection.docs, collection.queries)
    )
    docs /= np.linalg.norm(docs, axis=1, keepdims=True)
    return best(queries @ docs.T, 100)[0]


@lru_cache(maxsize=1)  # the same on both sides of a seed
def _setting(seed: int, *, smoke: bool) -> Mapping[str, float]:
    """Return what does not depend on the side that is measured."""
    static, trained = collections(smoke=smoke), pretrained(smoke=smoke)
    figures, beside = (
        _means([{**_sizes(given, seed), **_queries(given, seed)} for given in kind])
        for kind in (static, trained)
    )
    if not smoke:
        for name, recipe in (("pq8", MUVERA(fde_codec="pq8")), ("final", LONG)):
            ranked = replace(recipe, seed=seed)(static[0].docs).find(static[0].queries, 100)
            found = _found(ranked, static[0])["one_recall_at_25"]
            figures[f"{static[0].name}_at_25_of_{name}"] = float(found.mean())
    return {**figures, **_named("minilm", beside)}


def _sizes(collection: Collection, seed: int) -> dict[str, Values]:
    """Return 1-Recall@25 of every query by size and by merging, and how the largest was made."""
    figures: dict[str, Values] = {}
    for repetitions, k_sim, d_proj in SIZES:
        recipe = MUVERA(repetitions=repetitions, k_sim=k_sim, d_proj=d_proj, seed=seed)
        last = (repetitions, k_sim, d_proj) == SIZES[-1]
        index = _index(recipe, collection) if last else recipe(collection.docs)
        ranked = index.find(collection.queries, 100)
        found = _found(ranked, collection)
        figures[f"at_25_of_{index.encoder.dim}"] = found["one_recall_at_25"]
        if index.encoder.dim == 5120:
            figures["at_100_of_5120"] = found["one_recall_at_100"]
    every = np.ones(len(collection.queries))
    for name in ("fill", "token_cosine", "slope", "correlation"):
        figures[name] = index.metrics[name] * every
    figures["overlap_gain_of_fill"] = every * (
        index.metrics["overlap_fill_on"] - index.metrics["overlap_fill_off"]
    )
    figures["at_25_of_merging"] = _found(_merge(collection), collection)["one_recall_at_25"]
    right, wrong = _fill_correlations(collection, seed)
    return {**figures, "correlation_right_fill": right, "correlation_wrong_fill": wrong}


def _queries(collection: Collection, seed: int) -> dict[str, Values]:
    """Return figures of every query: of exact MaxSim, and of carving."""
    index = _index(MUVERA(seed=seed), collection)
    carved = index.search(collection.queries, 10, tau=0.7)[0]
    exact = best(_exact(collection), 100)[0]
    left = carve(collection.queries, 0.7).heights / collection.queries.heights
    return {
        "ndcg_of_maxsim": ndcg_at(exact, collection.relevant, 10),
        "recall_at_100_of_maxsim": recall_at(exact, collection.relevant, 100),
        "ndcg_of_carved": ndcg_at(carved, collection.relevant, 10),
        "vectors_left_by_carving": left,
    }


def _merge(collection: Collection) -> Ids2d:
    """Rank documents by the best place that any query token gives them, (Q, 100)."""
    tokens = Ragged(collection.queries.flat, np.arange(len(collection.queries.flat) + 1))
    similar = chamfer(TokenStore.pack(collection.docs), tokens)
    places = np.argsort(np.argsort(-similar, axis=1, kind="stable"), axis=1, kind="stable")
    merged = []
    for start, stop in zip(
        collection.queries.offsets[:-1], collection.queries.offsets[1:], strict=True
    ):
        place, agreement = places[start:stop].min(axis=0), similar[start:stop].max(axis=0)
        merged.append(np.lexsort((-agreement, place))[:100])
    return np.array(merged)


def _fill_correlations(collection: Collection, seed: int) -> tuple[Values, Values]:
    """Return each query's correlation with MaxSim of filled encodings, on the first 200 documents.

    The wrong way is that of a port that undoes the Gray code by another prefix sum, which is not
    its inverse beyond two bits, so a token can be far from its own cell.
    """
    docs = Ragged.pack([rows for rows, _ in zip(collection.docs, range(200), strict=False)])
    encoder = FDE(docs.width, MUVERA(seed=seed), fill=True, cell_order="gray")
    queries = encoder.queries(collection.queries)
    right = queries @ encoder.documents(docs).T
    plain = FDE(docs.width, MUVERA(seed=seed), fill=False, cell_order="gray").documents(docs)
    shape = (encoder.recipe.repetitions, encoder.cells, encoder.block)
    wrong_bits = np.arange(encoder.cells)
    for shift in (1, 2, 4):
        wrong_bits ^= wrong_bits >> shift
    repetition = np.arange(shape[0])[:, None]
    for blocks, rows in zip(plain.reshape(len(docs), *shape), docs, strict=True):
        labels = encoder.labels(rows)
        alone = encoder.queries(Ragged(rows, np.arange(len(rows) + 1))).reshape(-1, *shape)
        distance = np.bitwise_count(encoder.bits[labels][:, :, None] ^ wrong_bits)
        taken = distance.argmin(axis=0)  # (R, cells): the first token of least distance
        value = alone[taken, repetition, labels[taken, repetition]]
        empty = np.ones(shape[:2], bool)
        empty[repetition[:, 0], labels] = False
        blocks[empty] = value[empty]
    exact = _exact(collection)[:, : len(docs)]
    sides = (right, queries @ plain.T)
    return tuple(  # type: ignore[return-value]
        np.array([pearson(a, b) for a, b in zip(side, exact, strict=True)]) for side in sides
    )
