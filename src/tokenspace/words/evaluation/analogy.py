"""Whether differences of word vectors answer "a is to b as c is to ?", all questions at once.

A question is not answered by a search. The similarities of all words of the questions with a
block of the table are one matrix product, and every measure is made of three rows of it; what is
counted is how many words score at least as high as the right answer. The rank follows, with the
question's words as candidates and without them, and so do accuracy, top k and mean reciprocal
rank. Levy and Goldberg (CoNLL 2014) name the measures, Drozd, Gladkova and Matsuoka (COLING 2016)
the last::

    3cosadd   cos(x, b) - cos(x, a) + cos(x, c)
    3cosmul   cos(x, b) cos(x, c) / (cos(x, a) + 0.001), cosines moved to [0, 1]
    pairdir   cos(x - c, b - a)
    lrcos     P(x is of the class of d) cos(x, c)

The class of ``lrcos`` is learned by logistic regression from the answers of the other pairs of
the section, against the words that they answer and as many random words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.data import Analogy
from tokenspace.errors import ConfigError
from tokenspace.jit import kernel, spread
from tokenspace.logistic import fit
from tokenspace.resampling import kept, scored
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation.lookup import Oov, check_oov, row_ids
from tokenspace.words.evaluation.results import Result, Values

__all__ = ["MEASURES", "analogies", "ranks"]

MEASURES = ("3cosadd", "3cosmul", "pairdir", "lrcos")
_BLOCK = 1 << 22  # cosines that are held at a time
_TIE = np.float32(2e-6)  # two float32 scores that are nearer count as equal, against the answer


def analogies(
    table: EmbeddingTable,
    questions: Sequence[Analogy],
    *,
    name: str = "analogies",
    measures: Sequence[str] = MEASURES,
    oov: Oov = "skip",
    restrict: int | None = None,
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
    threads: int = 0,
) -> list[Result]:
    """Return the share of questions whose answer comes first, one result a measure.

    The question's own words are no candidates; ``also`` has the accuracy where they are
    (``including``), the mean reciprocal rank, the accuracy within the first 5 and 10, and that of
    every section. ``restrict`` keeps only so many words as candidates, the most frequent ones
    where the table has counts, else the first. A question with a word that is no candidate is
    left out (``oov="skip"``) or counts as wrong (``"zero"`` and ``"mean"``).
    """
    check_oov(oov)
    for measure in measures:
        if measure not in MEASURES:
            raise ConfigError(
                f"there is no measure of analogies {measure!r}", hint=f"one of {MEASURES}"
            )
    candidates = _candidates(table, restrict)
    place = np.full(len(table.vocab) + 1, -1, np.int64)  # of a row among the candidates
    place[candidates] = np.arange(len(candidates))
    words = sorted({word for question in questions for word in question[1:]})
    rows = place[row_ids(table, words, language)]
    row = dict(zip(words, rows.tolist(), strict=True))
    asked = np.array([[row[w] for w in q[1:]] for q in questions], np.int64).reshape(-1, 4)
    known = np.asarray((asked >= 0).all(axis=1), np.bool_)
    unit = table.unit if len(candidates) == len(table.vocab) else table.unit[candidates]
    simple = [measure for measure in measures if measure != "lrcos"]
    found = ranks(unit, asked[known], threads=threads) if simple else {}
    unknown = tuple(word for word in words if row[word] < 0)
    sections = np.array([question.category for question in questions], object)
    frame = _Frame(name, oov, unknown, seed, resamples)
    results = [_result(frame, measure, sections, known, *found[measure]) for measure in simple]
    if "lrcos" in measures:
        pairs, of = _pairs(questions, asked)
        there = np.asarray((pairs >= 0).all(axis=1), np.bool_)
        without, including = _lrcos(unit, pairs[there], of[there], seed)
        results.append(_result(frame, "lrcos", of, there, without, including))
    return [result for m in measures for result in results if result.measure == m]


def _candidates(table: EmbeddingTable, restrict: int | None) -> Ids:
    """Return the rows that may be answers, in ascending order."""
    if restrict is not None and restrict < 1:
        raise ConfigError(f"restrict={restrict} is below 1", hint="give a number of words")
    rows = np.setdiff1d(np.arange(len(table.vocab)), sorted(table.vocab.holes))
    if restrict is None or restrict >= len(rows):
        return rows
    if table.counts is not None:
        rows = rows[np.argsort(-table.counts[rows], kind="stable")]
    return np.sort(rows[:restrict])


class _Frame(NamedTuple):
    """What the results of one set have in common."""

    name: str
    oov: Oov
    unknown: tuple[str, ...]
    seed: int
    resamples: int


def _result(
    frame: _Frame,
    measure: str,
    sections: npt.NDArray[np.object_],
    known: npt.NDArray[np.bool_],
    without: Ids,
    including: Ids,
) -> Result:
    """Turn ranks of the known questions into a result over all of them."""
    left_out = np.nan if frame.oov == "skip" else 0.0

    def over_all(values: npt.NDArray[Any]) -> Values:
        items = np.full(len(known), left_out)
        items[known] = values
        return items

    def mean(values: npt.NDArray[Any]) -> float:
        used = kept(over_all(values))
        return float(used.mean()) if len(used) else float("nan")

    items = over_all(without == 1)
    also = {
        "including": mean(including == 1),
        "mrr": mean(1 / without),
        "top5": mean(without <= 5),
        "top10": mean(without <= 10),
    }
    groups = {f"section {name}": sections == name for name in dict.fromkeys(sections.tolist())}
    grammar = np.array([str(name).startswith("gram") for name in sections], np.bool_)
    if grammar.any():  # so the Google set names its sections of grammar
        groups = {"semantic": ~grammar, "syntactic": grammar, **groups}
    for group, members in groups.items():
        used = kept(items[members])
        also[group] = float(used.mean()) if len(used) else float("nan")
    return Result(
        task="analogy",
        set=frame.name,
        measure=measure,
        score=scored("share", items, frame.seed, frame.resamples),
        kind="share",
        items=items,
        unknown=frame.unknown,
        also=also,
    )


def ranks(unit: Floats2d, asked: Ids2d, *, threads: int = 0) -> dict[str, tuple[Ids, Ids]]:
    """Return the rank of the answer by every measure but lrcos: without the question's words, with.

    ``unit`` is (V, D), rows of length 1; ``asked`` (Q, 4) are the rows of a, b, c and d. A word
    that scores as high as the answer ranks before it. Where the answer is a word of the question,
    it has no rank without them, which is given as V + 1.
    """
    unique, inverse = np.unique(asked, return_inverse=True)
    places = np.ascontiguousarray(inverse.reshape(-1, 4).astype(np.int64))
    targets = _targets(unit, asked)
    beaten = np.zeros((len(asked), 3), np.int64)
    own = np.zeros((len(asked), 3), np.int64)
    words = np.ascontiguousarray(unit[unique])
    step = max(256, _BLOCK // max(1, len(unique)))
    for first in range(0, len(unit) if len(asked) else 0, step):
        S = words @ unit[first : first + step].T

        def count(start: int, stop: int, S: Floats2d = S, first: int = first) -> None:
            part = slice(start, stop)
            _count(S, first, asked[part], places[part], targets[part], beaten[part], own[part])

        spread(count, len(asked), workers=threads)
    including = 1 + beaten
    without = np.where(
        (asked[:, 3:] == asked[:, :3]).any(axis=1)[:, None], len(unit) + 1, including - own
    )
    return {
        name: (without[:, column], including[:, column]) for column, name in enumerate(MEASURES[:3])
    }


def _targets(unit: Floats2d, asked: Ids2d) -> npt.NDArray[np.float32]:
    """Return the least score that counts as that of the answer, and what ``pairdir`` takes off.

    (Q, 4) float32: 3cosadd, 3cosmul, pairdir, and cos(c, b) - cos(c, a).
    """
    targets = np.empty((len(asked), 4), np.float32)
    for start in range(0, len(asked), 4096):
        a, b, c, d = (unit[column] for column in asked[start : start + 4096].T)
        da, db, dc, ca, cb = (
            np.einsum("qd,qd->q", x, y) for x, y in ((d, a), (d, b), (d, c), (c, a), (c, b))
        )
        scores = np.stack(
            [
                db - da + dc,
                (1 + db) * (1 + dc) / (2 * (1 + da) + np.float32(4e-3)),
                (db - da - cb + ca) / np.sqrt(np.maximum(2 - 2 * dc, np.float32(1e-6))),
            ],
            axis=1,
        )
        targets[start : start + 4096, :3] = scores - _TIE * np.maximum(1, np.abs(scores))
        targets[start : start + 4096, 3] = cb - ca
    return targets


@kernel(error_model="numpy")
def _count(
    S: Any, first: int, asked: Any, places: Any, targets: Any, beaten: Any, own: Any
) -> None:
    """Count the words of a block that score as high as the answer, and those of the question.

    ``S`` (W, R) are the cosines of the questions' words with the rows ``first`` to ``first + R``.
    The answer itself is not counted.
    """
    R = S.shape[1]
    one, two, small = np.float32(1), np.float32(2), np.float32(1e-6)
    for q in range(len(asked)):
        A, B, C = S[places[q, 0]], S[places[q, 1]], S[places[q, 2]]
        add, mul, way, shift = targets[q, 0], targets[q, 1], targets[q, 2], targets[q, 3]
        n_add, n_mul, n_way = np.int32(0), np.int32(0), np.int32(0)
        for r in range(R):
            x, y, z = A[r], B[r], C[r]
            n_add += np.int32(y - x + z >= add)
            n_mul += np.int32((one + y) * (one + z) >= mul * (two * (one + x) + np.float32(4e-3)))
            n_way += np.int32(y - x - shift >= way * np.sqrt(max(two - two * z, small)))
        for k in range(4):
            r = asked[q, k] - first
            seen = False
            for j in range(k):
                seen |= asked[q, j] == asked[q, k]
            if 0 <= r < R and not seen:
                x, y, z = A[r], B[r], C[r]
                is_add = np.int32(y - x + z >= add)
                is_mul = np.int32(
                    (one + y) * (one + z) >= mul * (two * (one + x) + np.float32(4e-3))
                )
                is_way = np.int32(y - x - shift >= way * np.sqrt(max(two - two * z, small)))
                if asked[q, k] == asked[q, 3]:
                    n_add -= is_add
                    n_mul -= is_mul
                    n_way -= is_way
                else:
                    own[q, 0] += is_add
                    own[q, 1] += is_mul
                    own[q, 2] += is_way
        beaten[q, 0] += n_add
        beaten[q, 1] += n_mul
        beaten[q, 2] += n_way


def _pairs(questions: Sequence[Analogy], asked: Ids2d) -> tuple[Ids2d, npt.NDArray[np.object_]]:
    """Return the pairs that the questions of every section are made of, (P, 2), and their section.

    A pair may be the first or the second half of a question; each occurs once.
    """
    found: dict[tuple[str, int | str, int | str], tuple[int, int]] = {}
    for question, (a, b, c, d) in zip(questions, asked.tolist(), strict=True):
        for first, second, i, j in (
            (question.a, question.b, a, b),
            (question.c, question.d, c, d),
        ):
            key = (question.category, first if i < 0 else i, second if j < 0 else j)
            found.setdefault(key, (i, j))
    sections = {name: i for i, name in enumerate(dict.fromkeys(key[0] for key in found))}
    order = sorted(found, key=lambda key: sections[key[0]])
    pairs = np.array([found[key] for key in order], np.int64).reshape(-1, 2)
    return pairs, np.array([key[0] for key in order], object)


def _lrcos(
    unit: Floats2d, pairs: Ids2d, sections: npt.NDArray[np.object_], seed: int
) -> tuple[Ids, Ids]:
    """Return the rank of the second word of every pair, without the first and with it."""
    including = np.ones(len(pairs), np.int64)
    own = np.zeros(len(pairs), np.int64)
    for name, group in groupby(range(len(pairs)), key=lambda i: sections[i]):
        part = np.array(list(group))
        beaten, first = _scored_higher(
            unit, pairs[part], *_classifiers(unit, pairs[part], stream(seed, "lrcos", str(name)))
        )
        including[part] += beaten
        own[part] = first
    same = pairs[:, 0] == pairs[:, 1]
    return np.where(same, len(unit) + 1, including - own), including


def _scored_higher(
    unit: Floats2d, pairs: Ids2d, W: Floats2d, offsets: npt.NDArray[np.float32]
) -> tuple[Ids, Ids]:
    """Return how many words score as high as the second of every pair, and if its first does."""
    from scipy.special import expit

    c, d = pairs.T
    C, columns = unit[c], np.arange(len(pairs))
    target = expit(np.einsum("pd,pd->p", unit[d], W) + offsets) * np.einsum("pd,pd->p", unit[d], C)
    target -= _TIE * np.abs(target)  # chances may be tiny, so that only a share can be a tie
    beaten, first = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
    step = max(256, _BLOCK // max(1, len(pairs)))
    for start in range(0, len(unit), step):
        block = unit[start : start + step]
        higher = expit(block @ W.T + offsets) * (block @ C.T) >= target
        here = (d >= start) & (d < start + len(block))
        higher[d[here] - start, columns[here]] = False  # the answer itself
        here = (c >= start) & (c < start + len(block))
        first[here] = higher[c[here] - start, columns[here]]
        beaten += higher.sum(axis=0)
    return beaten, first


def _classifiers(
    unit: Floats2d, pairs: Ids2d, draw: np.random.Generator
) -> tuple[Floats2d, npt.NDArray[np.float32]]:
    """Return, for every pair of a section, the classifier that the other pairs teach, (P, D).

    Classes weigh the same; the noise words are drawn once for the section.
    """
    noise = draw.integers(len(unit), size=len(pairs))
    rows = np.concatenate([pairs[:, 1], pairs[:, 0], noise])
    X = np.ascontiguousarray(unit[rows])
    y = (np.arange(len(rows)) < len(pairs)).astype(np.int64)
    y[np.isin(rows, pairs[:, 1])] = 1  # a noise word may be an answer
    start: npt.NDArray[np.float64] | None = None
    weights, offsets = [], []
    for d in pairs[:, 1].tolist():
        use = (rows != d).astype(np.float64)
        sizes = np.bincount(y, use, 2)
        if sizes.min() > 0:
            use *= (sizes.sum() / (2 * sizes))[y]
        W = fit(X, y, 2, C=0.5, weights=use, start=start)
        start = W if start is None else start
        weights.append(W[1, :-1] - W[0, :-1])
        offsets.append(W[1, -1] - W[0, -1])
    return np.array(weights, np.float32), np.array(offsets, np.float32)
