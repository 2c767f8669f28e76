"""Whether averages of word vectors rank pairs of sentences as people do.

Words are those of :class:`tokenspace.corpus.Corpus`, or the tokens of the table's own tokenizer.
Every row is first divided by its length, so that none of the ways below depends on it::

    mean   the mean of the words' vectors
    sif    weights a / (a + p(w)), mean, first common direction removed      (Arora et al. 2017)
    usif   weights from the vocabulary, five directions scaled down          (Ethayarajh 2018)
    pmean  means of power 1, -inf, +inf and 3 side by side                   (Rueckle et al. 2018)

``+top`` after a name means that the table's mean and first D / 100 principal directions were
removed from its rows before (all-but-the-top, Mu and Viswanath 2018). Common directions are those
of the set's own sentences, as in the papers. Frequencies p(w) are the table's counts, else those
of the set's sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import ConfigError
from tokenspace.lexicon import lower
from tokenspace.metrics import cosine, spearman
from tokenspace.resampling import kept, scored
from tokenspace.table import EmbeddingTable
from tokenspace.weighting import sif_weights, top_directions, usif_weights, without_top
from tokenspace.words.evaluation.lookup import Found, Oov, find
from tokenspace.words.evaluation.results import Result, Values

__all__ = ["WAYS", "sentence_vectors", "sentences", "tokens"]

WAYS = ("mean", "sif", "usif", "pmean", "mean+top", "sif+top")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+")
A = 1e-3
DIRECTIONS = 5  # of usif


def tokens(table: EmbeddingTable, texts: Sequence[str], language: str = "") -> list[list[str]]:
    """Return the words of every text, or the tokens of the table's tokenizer."""
    if table.vocab.tokenizer is not None:
        names = table.vocab.tokens
        return [[names[i] for i in ids] for ids in table.vocab.encode_batch(texts)]
    return [_WORD.findall(lower(text, language).replace("\u2019", "'")) for text in texts]


def sentences(
    table: EmbeddingTable,
    pairs: Sequence[tuple[str, str, float]],
    *,
    name: str = "sentences",
    ways: Sequence[str] = WAYS,
    oov: Oov = "skip",
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
) -> list[Result]:
    """Return Pearson's correlation of cosines with people's scores, one result a way.

    An unknown word is left out of its sentence (``oov="skip"``), or has the zero or the mean
    vector. A sentence without a known word has the zero vector; such pairs count, with a cosine of
    0, and a note says how many they are. ``also`` has Spearman's correlation.
    """
    for way in ways:
        if way not in WAYS:
            raise ConfigError(f"there is no way {way!r} of sentences", hint=f"one of {WAYS}")
    texts = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    split = tokens(table, texts, language)
    words = sorted({word for text in split for word in text})
    found = _found(table, words, oov, language)
    place = {word: index for index, word in enumerate(words)}
    ids = [np.array([place[w] for w in text], np.int64) for text in split]
    if oov == "skip":
        ids = [row[found.known[row]] for row in ids]
    empty = [int(not found.known[row].any()) for row in ids]
    notes = [] if table.counts is not None else ["frequencies are those of the sentences"]
    if any(empty):
        notes.append(f"{sum(empty)} of {len(texts)} sentences have no known word")
    given = np.array([pair[2] for pair in pairs], np.float64)
    rows, results = _rows(table, found), []
    for way in ways:
        plain, _, less = way.partition("+")
        weights = _weights(table, found, ids, plain)
        vectors = sentence_vectors(rows[less], ids, weights, plain)
        items = np.column_stack([given, cosine(vectors[: len(pairs)], vectors[len(pairs) :])])
        used = kept(items)
        results.append(
            Result(
                task="sentences",
                set=name,
                measure=way,
                score=scored("pearson", items, seed, resamples),
                kind="pearson",
                items=items,
                unknown=found.unknown,
                also={"spearman": spearman(used[:, 0], used[:, 1])},
                notes=tuple(notes),
            )
        )
    return results


def _found(table: EmbeddingTable, words: Sequence[str], oov: Oov, language: str) -> Found:
    if table.vocab.tokenizer is None:
        return find(table, words, oov=oov, language=language)
    ids = np.array([table.vocab.ids[word] for word in words], np.int64)
    return Found(tuple(words), table.rows(ids), ids, np.ones(len(ids), np.bool_))


def _weights(table: EmbeddingTable, found: Found, ids: Sequence[Ids], way: str) -> Values:
    """Return the weight of every word, (W,), by the table's counts or those of the sentences."""
    if way not in ("sif", "usif"):
        return np.ones(len(found.ids))
    rows, counts = found.ids, table.counts
    if counts is None:
        flat = np.concatenate([*ids, np.zeros(0, np.int64)])
        rows, counts = np.arange(len(found.ids)), np.bincount(flat, minlength=len(found.ids))
    length = float(np.mean([len(row) for row in ids])) if ids else 11.0
    every = sif_weights(counts, A) if way == "sif" else usif_weights(counts, length)
    unseen = 1.0 if way == "sif" else 2.0  # where p(w) is 0
    return np.where(rows >= 0, every[rows], unseen).astype(np.float64)


def _rows(table: EmbeddingTable, found: Found) -> dict[str, Floats2d]:
    """Return the words' rows of length 1 (``""``), and less the table's top directions."""
    lengths = np.linalg.norm(found.vectors, axis=1, keepdims=True)
    rows = np.asarray(found.vectors / np.where(lengths > 0, lengths, 1), np.float32)
    top = max(1, round(table.shape[1] / 100))
    return {"": rows, "top": without_top(rows, *top_directions(table.unit, top))}


def sentence_vectors(rows: Floats2d, ids: Sequence[Ids], weights: Values, way: str) -> Values:
    """Return one vector a sentence, (N, D), or (N, 4 D) for ``pmean``; zero where it is empty.

    ``rows`` (W, D) and ``weights`` (W,) are those of the words, ``ids`` the words of a sentence.
    """
    R = rows.astype(np.float64)
    width = R.shape[1] * (4 if way == "pmean" else 1)
    make = {"pmean": _power_means, "usif": _even_mean}.get(way, _weighted_mean)
    vectors = np.zeros((len(ids), width))
    for vector, row in zip(vectors, ids, strict=True):
        if len(row):
            vector[:] = make(R[row], weights[row])
    if way in ("sif", "usif") and len(ids):
        vectors -= _common(vectors, 1 if way == "sif" else DIRECTIONS)
    return vectors


def _weighted_mean(R: Values, weights: Values) -> Values:
    mean: Values = weights @ R / len(R)
    return mean


def _even_mean(R: Values, weights: Values) -> Values:
    """Weight the words after every dimension was divided by its length over the sentence."""
    lengths = np.linalg.norm(R, axis=0)
    return _weighted_mean(R / np.where(lengths > 0, lengths, 1), weights)


def _power_means(R: Values, weights: Values) -> Values:
    cubes = np.cbrt((R**3).mean(axis=0))
    return np.concatenate([R.mean(axis=0), R.min(axis=0), R.max(axis=0), cubes])


def _common(vectors: Values, count: int) -> Values:
    """Return every vector's part along the first right singular vectors, which are not centred.

    A part is weighted by its direction's share of their squared singular values; a single
    direction has all of it.
    """
    values, c = np.linalg.eigh(vectors.T @ vectors)
    values, c = np.maximum(values[-count:], 0), c[:, -count:]
    total = float(values.sum())
    shares = values / total if total > 0 else np.zeros(len(values))
    common: Values = ((vectors @ c) * shares) @ c.T
    return common
