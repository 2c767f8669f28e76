"""What the factors of two trainers have in common: products that follow mutual information.

Skip-gram with K noise words ends where ``w . c = PMI(w, c) - ln K``, GloVe where
``w . c + b_w + b_c = ln X_wc``; with ``b_w = ln #w`` up to constants that is PMI again. How near a
trained model comes to either is what :func:`relation_report` measures::

    from tokenspace.words import GloVe
    from tokenspace.words.relation import relation_report

    print(relation_report(GloVe().factors(corpus), corpus).to_markdown())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.report import Report
from tokenspace.sgd import keep_thresholds
from tokenspace.vocab import Vocabulary
from tokenspace.words._pairs import PairCounts, count_pairs

__all__ = ["Factors", "noise_loss", "relation_report"]

PORTION = 1 << 15  # pairs whose products are computed at a time
ROWS = 256  # words whose products with all others are computed at a time
AT_LEAST = (0.0, 1.0, 10.0, 100.0)  # counts of pairs from which on a row of the report holds


class Factors(NamedTuple):
    """Both sides of a factorisation of what stands near what.

    ``words`` and ``contexts`` are (V, D) float32, the biases (V,) float32 or None where a model
    has none, ``counts`` (V,) how often each word occurs. A pair of words at distance d = 1 .. L
    weighs ``weights[d - 1]`` (up to a constant) in what the factors are fitted to. ``notes`` are
    the trainer's knobs and its loss.
    """

    vocab: Vocabulary
    counts: Ids
    weights: npt.NDArray[np.float64]
    words: Floats2d
    contexts: Floats2d
    word_biases: Floats1d | None
    context_biases: Floats1d | None
    notes: Mapping[str, Any]


def relation_report(factors: Factors, corpus: Corpus, *, threads: int = 0) -> Report:
    """Measure how products follow mutual information, and biases the counts of words.

    Parameters
    ----------
    factors
        What ``GloVe().factors(corpus)`` or ``SGNS().factors(corpus)`` returned.
    corpus
        The text that they were learned from; its pairs are counted again.
    threads
        Of counting; 0 = all cores.

    Returns
    -------
    Report
        Straight lines through the pairs that occur, ``w . c`` by PMI, and through the words that
        occur, each bias by ln #w: correlation, slope and intercept. The rows do the former for
        pairs of at least some count, since PMI says little about pairs that met by accident.
    """
    text = corpus.encode(factors.vocab)
    X = count_pairs(text, factors.weights, threads)
    lines = {least: _Line() for least in AT_LEAST}
    for values, pmi, products in _portions(X, factors):
        for least, line in lines.items():
            chosen = values >= least
            line.add(pmi[chosen], products[chosen])
    metrics = lines[0.0].figures("pmi")
    seen = factors.counts > 0
    for side, biases in (("bias", factors.word_biases), ("context_bias", factors.context_biases)):
        if biases is not None:
            line = _Line()
            line.add(np.log(factors.counts[seen]), biases[seen].astype(np.float64))
            metrics |= line.figures(side)
    return Report(
        title=f"What {factors.notes.get('method', 'the vectors')} and mutual information share",
        metrics=metrics,
        rows=[
            {"pairs counted at least": least, "pairs": line.n, **line.figures("pmi")}
            for least, line in lines.items()
            if line.n
        ],
        recipe=factors.notes,
    )


def noise_loss(
    factors: Factors, corpus: Corpus, *, negatives: int, sample: float, threads: int = 0
) -> float:
    """Return the mean loss of skip-gram on the pairs of a text, with K = ``negatives`` noise words.

    ``-ln s(x_c . u_w) - K sum_n P(n) ln s(-x_c . u_n)``, where P is proportional to count^0.75:
    what training minimises, but over all noise words instead of K that are drawn, and with a pair
    weighed by the chance that thinning (``sample``) leaves both. A text that was not trained on
    says how well the vectors predict.

    Raises :class:`InputError` where no two words that the factors know stand near each other.
    """
    text = corpus.encode(factors.vocab)
    X = count_pairs(text, factors.weights, threads)
    rows = np.repeat(np.arange(len(X.starts) - 1, dtype=np.int32), np.diff(X.starts))
    if not len(rows):
        raise InputError(
            "the text has no pair of words that the vectors know",
            hint="give more text of the same kind",
        )
    lower = X.columns < rows
    weight, total = np.zeros(len(factors.vocab)), 0.0
    kept = keep_thresholds(factors.counts, sample) / np.float64(2**32)
    for first in range(0, len(rows), PORTION):
        part = slice(first, first + PORTION)
        w, c = rows[part], X.columns[part]
        x = X.values[part] * kept[w] * kept[c]
        for i, j, chosen in ((w, c, slice(None)), (c, w, lower[part])):
            z = np.einsum("nd,nd->n", factors.words[i[chosen]], factors.contexts[j[chosen]])
            total += float(x[chosen] @ np.logaddexp(0, -z))
            weight += np.bincount(i[chosen], x[chosen], len(weight))
    P = factors.counts**0.75 / (factors.counts**0.75).sum()
    seen = np.flatnonzero(weight)
    for first in range(0, len(seen), ROWS):
        some = seen[first : first + ROWS]
        noise = np.logaddexp(0, factors.words[some] @ factors.contexts.T) @ P
        total += negatives * float(weight[some] @ noise)
    return total / float(weight.sum())


class _Line:
    """The least-squares line through points that come in portions."""

    def __init__(self) -> None:
        self.n = 0
        self.sums = np.zeros(2)
        self.products = np.zeros((2, 2))

    def add(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
        points = np.stack([x, y])
        self.n += len(x)
        self.sums += points.sum(axis=1)
        self.products += points @ points.T

    def figures(self, name: str) -> dict[str, float]:
        """Return correlation, slope and intercept; 0 where x or y never changes."""
        mean = self.sums / self.n
        (xx, xy), (_, yy) = self.products / self.n - np.outer(mean, mean)
        slope = xy / xx if xx > 0 else 0.0
        r = xy / np.sqrt(xx * yy) if xx > 0 and yy > 0 else 0.0
        return {
            f"{name}_correlation": float(r),
            f"{name}_slope": float(slope),
            f"{name}_intercept": float(mean[1] - slope * mean[0]),
        }


def _portions(
    X: PairCounts, factors: Factors
) -> Iterator[tuple[Floats1d, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Yield X, PMI and w . c of the entries of the whole matrix, a portion at a time."""
    size = len(X.starts) - 1
    rows = np.repeat(np.arange(size, dtype=np.int32), np.diff(X.starts))
    lower = X.columns < rows
    total = np.bincount(rows, X.values, size)
    total += np.bincount(X.columns[lower], X.values[lower], size)
    logs = np.log(np.maximum(total, np.finfo(np.float64).tiny))
    for first in range(0, len(rows), PORTION):
        part = slice(first, first + PORTION)
        w, c, x = rows[part], X.columns[part], X.values[part]
        pmi = np.log(x.astype(np.float64)) + np.log(total.sum()) - logs[w] - logs[c]
        for i, j, chosen in ((w, c, slice(None)), (c, w, lower[part])):
            products = np.einsum(
                "nd,nd->n", factors.words[i[chosen]], factors.contexts[j[chosen]], dtype=np.float64
            )
            yield x[chosen], pmi[chosen], products
