"""What an encoder is asked to do, and the items by which two encoders can be compared.

``sts``                  Spearman's correlation of cosines with people's scores
``pair_classification``  average precision of cosines for pairs that do or do not belong together
``classification``       accuracy of logistic regression on frozen vectors, learned from half
``clustering``           V-measure of k-means, as many clusters as there are classes
``retrieval``            nDCG at 10 of all documents by cosine
``reranking``            mean average precision of each query's candidates by cosine

Vectors are divided by their lengths first. Nothing is trained but the regression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.clusters import k_means
from tokenspace.errors import InputError
from tokenspace.logistic import fit, predict
from tokenspace.metrics import average_precision, ndcg_at
from tokenspace.resampling import Kind, figure
from tokenspace.rng import stream
from tokenspace.text_encoder import TextEncoder

__all__ = ["FAMILIES", "Given", "Judged", "Labelled", "Scored", "Search", "Vectors", "judge"]

Values = npt.NDArray[np.float64]
STRENGTHS = (1.0, 10.0, 100.0)  # C of the regression, on centred vectors of length 1
FOLDS = 3
DEPTH = 10
QUERY, DOCUMENT = ("query",), ("document", "passage", "corpus")  # as prompts are called


class Scored(NamedTuple):
    """Pairs of texts: how alike people found them, or 1 and 0 for what belongs together or not."""

    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]


class Labelled(NamedTuple):
    """Texts and the class of each."""

    texts: Sequence[str]
    labels: Sequence[str]


class Search(NamedTuple):
    """Queries, documents, the documents that answer each query, and those to be put in order.

    ``candidates`` is None where every document is one.
    """

    queries: Sequence[str]
    docs: Sequence[str]
    relevant: Sequence[frozenset[int]]
    candidates: Sequence[Sequence[int]] | None = None


Given = Scored | Labelled | Search


@dataclass(frozen=True, eq=False)
class Judged:
    """What one encoder did on one data set; ``items`` make the figure, as its ``kind`` says."""

    family: str
    set: str
    measure: str
    kind: Kind
    items: Values

    @property
    def value(self) -> float:
        """The figure of all items."""
        return figure(self.kind, self.items)


class Vectors:
    """The vectors of one encoder at length 1; each text is encoded once, however often asked.

    ``sides`` are names of prompts, of which the first is put before the texts that the encoder
    has. Raises :class:`InputError` for a vector that is not finite.
    """

    def __init__(self, encoder: TextEncoder, name: str = "the encoder") -> None:
        self.encoder, self.name = encoder, name
        self.zero = 0
        self._rows: dict[tuple[str, str], Floats2d] = {}

    def __call__(self, texts: Sequence[str], sides: Sequence[str] = ()) -> Floats2d:
        """Return one row a text, (N, D) float32; a zero vector stays zero."""
        prompts: Any = getattr(self.encoder, "prompts", {})
        side = next((name for name in sides if name in prompts), "")
        new = [text for text in dict.fromkeys(texts) if (side, text) not in self._rows]
        if new:
            encoder: Any = self.encoder
            made = (encoder.prompted(side) if side else encoder).encode(new)
            rows = np.asarray(made, np.float64)
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(bad):
                raise InputError(
                    f"{self.name} gives a vector that is not finite for {new[bad[0]][:60]!r}",
                    hint="repair or retrain it; NaN compares with nothing",
                )
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            self.zero += int((lengths == 0).sum())
            unit = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
            self._rows.update(((side, text), row) for text, row in zip(new, unit, strict=True))
        width = self.encoder.dim
        return np.array([self._rows[side, text] for text in texts], np.float32).reshape(-1, width)


def judge(vectors: Vectors, family: str, name: str, given: Given, *, seed: int = 0) -> Judged:
    """Ask an encoder for one task on one data set.

    Raises :class:`InputError` where the data allow no figure: one class only, scores that are all
    equal.
    """
    measure, kind, items = FAMILIES[family](vectors, given, f"{family} on {name}", seed)
    return Judged(family, name, measure, kind, items)


Answer = tuple[str, Kind, Values]


def _sts(vectors: Vectors, given: Scored, where: str, seed: int) -> Answer:
    if len(set(given.scores)) < 2:
        raise InputError(
            f"{where}: the scores of all {len(given.scores)} pairs are equal",
            hint="a correlation needs scores that differ",
        )
    return "spearman", "spearman", _cosines(vectors, given)


def _pair_classification(vectors: Vectors, given: Scored, where: str, seed: int) -> Answer:
    if set(given.scores) != {0.0, 1.0}:
        found = sorted(set(given.scores))[:5]
        raise InputError(
            f"{where}: scores {', '.join(f'{score:g}' for score in found)}, expected 0 and 1",
            hint="mark pairs that belong together with 1 and others with 0, and give some of both",
        )
    return "average precision", "average_precision", _cosines(vectors, given)


def _cosines(vectors: Vectors, given: Scored) -> Values:
    first, second = vectors(given.first), vectors(given.second)
    cosines = np.einsum("nd,nd->n", first.astype(np.float64), second.astype(np.float64))
    return np.column_stack([np.asarray(given.scores, np.float64), cosines])


def _classes(given: Labelled, where: str) -> tuple[Ids, int]:
    names, numbers = np.unique(np.asarray(given.labels), return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"{where}: only one class ({', '.join(map(repr, names.tolist())) or 'no text'})",
            hint="give texts of two classes or more",
        )
    return numbers.astype(np.int64), len(names)


def _classification(vectors: Vectors, given: Labelled, where: str, seed: int) -> Answer:
    y, _ = _classes(given, where)
    order = stream(seed, "halves").permutation(len(y))
    known, asked = order[: len(y) // 2], order[len(y) // 2 :]
    present, train = np.unique(y[known], return_inverse=True)
    if len(present) < 2:
        raise InputError(
            f"{where}: the half to learn from has only one class", hint="give more texts"
        )
    X = vectors(given.texts)
    X = X - X[known].mean(axis=0)
    W = _regression(X[known], train.astype(np.int64), len(present))
    return "accuracy", "share", np.asarray(present[predict(X[asked], W)] == y[asked], np.float64)


def _regression(X: Floats2d, y: Ids, classes: int) -> Values:
    """Fit with the C that is right most often in three-fold cross-validation, the least of equals.

    A fixed C would favour the encoders whose vectors lie as far apart as it suits.
    """
    fold = np.arange(len(y)) % FOLDS
    right = [0] * len(STRENGTHS)
    for held in range(FOLDS):
        W, rest = None, fold != held
        for index, C in enumerate(STRENGTHS):
            W = fit(X[rest], y[rest], classes, C=C, start=W)
            right[index] += int((predict(X[~rest], W) == y[~rest]).sum())
    return fit(X, y, classes, C=STRENGTHS[int(np.argmax(right))])


def _clustering(vectors: Vectors, given: Labelled, where: str, seed: int) -> Answer:
    y, classes = _classes(given, where)
    found = k_means(vectors(given.texts), classes, seed)
    return "v-measure", "v_measure", np.column_stack([y, found]).astype(np.float64)


def _retrieval(vectors: Vectors, given: Search, where: str, seed: int) -> Answer:
    Q, D = _sides(vectors, given, where)
    ranked = np.argsort(-(Q @ D.T), axis=1, kind="stable")[:, :DEPTH]
    return "nDCG@10", "average", ndcg_at(ranked.astype(np.int64), given.relevant, DEPTH)


def _reranking(vectors: Vectors, given: Search, where: str, seed: int) -> Answer:
    Q, D = _sides(vectors, given, where)
    candidates = given.candidates or [range(len(D))] * len(Q)
    ranked = np.full((len(Q), max(map(len, candidates))), -1, np.int64)
    for row, query, own in zip(ranked, Q, candidates, strict=True):
        ids = np.asarray(own, np.int64)
        row[: len(ids)] = ids[np.argsort(-(D[ids] @ query), kind="stable")]
    return "MAP", "average", average_precision(ranked, given.relevant)


def _sides(vectors: Vectors, given: Search, where: str) -> tuple[Floats2d, Floats2d]:
    if not given.queries:
        raise InputError(f"{where}: no query", hint="give at least one query with an answer")
    if given.candidates is not None:
        used = sorted(set(chain.from_iterable(given.candidates)))
        D = np.zeros((len(given.docs), vectors.encoder.dim), np.float32)
        D[used] = vectors([given.docs[i] for i in used], DOCUMENT)
    else:
        D = vectors(given.docs, DOCUMENT)
    return vectors(given.queries, QUERY), D


FAMILIES: Mapping[str, Callable[[Vectors, Any, str, int], Answer]] = {
    "sts": _sts,
    "pair_classification": _pair_classification,
    "classification": _classification,
    "clustering": _clustering,
    "retrieval": _retrieval,
    "reranking": _reranking,
}
"""Every task family that is measured here, and how."""


def pairs(rows: Iterable[tuple[str, str, float]]) -> Scored:
    """Return pairs, each kept once, out of (first, second, score)."""
    seen: dict[tuple[str, str], float] = {}
    for first, second, score in rows:
        seen.setdefault((first, second), score)
    return Scored([first for first, _ in seen], [second for _, second in seen], list(seen.values()))
