"""Make a new row a convex sum of shared tokens' rows, by vectors learned on target text.

The idea
--------
Two vocabularies always share tokens: numbers, names, punctuation, pieces of words. For these the
model has rows. How the target's other tokens relate to them can be learned from plain text of the
target's language alone: cut it into the target's tokens and learn small vectors of these, as one
does for words. A new token's row is then a mean of the shared tokens' rows, weighted by their
likeness in the small space, with all but the nearest weighted exactly zero.

Equations
---------
With the helper's unit vectors a_1 ... a_N of the shared tokens and x of the new one (D,)::

    z_i = ⟨a_i, x⟩ / T                             cosines, over the temperature T
    p   = sparsemax(z) = max(z − τ, 0),            τ such that Σ_i p_i = 1
    row = Σ_i p_i E_i

Sorted downwards, ρ = max {i : 1 + i z_(i) > Σ_{j≤i} z_(j)} values are above τ, and::

    τ = (Σ_{j≤ρ} z_(j) − 1) / ρ

For any set S of values, τ ≥ (Σ_S z − 1) / |S|, with equality where S holds the ρ greatest. So
``_combine`` needs no sorting: it reads z once, keeps what lies above the bound that the values kept
so far give, and then drops what the bound has overtaken until nothing is left to drop (Condat's
algorithm). Weights are exact, whatever their number.

Departures from the paper
-------------------------
- Tokens are shared when their bytes and roles agree. The paper's fuzzy matching, which ignores
  case and spaces, would make anchors of tokens that differ.
- The helper is our ``cbow``, with the gradient divided among the neighbours; the paper's is
  fastText. It is learned with the paper's 3 epochs and 10 noise words, from tokens that occur 10
  times.
- A new token without a helper vector keeps the mean row and is counted; the paper draws it from a
  normal distribution.
- Similarities are made in blocks, never as the whole (new, shared) matrix.

Cost
----
Learning: a few seconds for a million tokens. Combining: m N D multiplications for the cosines of
m new and N shared tokens, one reading of them, and 32 MB of memory; the reference's matrix of
similarities takes 4 m N bytes.

When not to use it
------------------
Where few tokens are shared (a new script, or fewer than some hundreds): the sums have nothing to
choose from; ``wechsel`` and ``transtok`` bridge languages by dictionaries and parallel text.
Where there is little text, so that most tokens occur fewer than 10 times.

Reference
---------
Dobler, de Melo: FOCUS: Effective Embedding Initialization for Monolingual Specialization of
Multilingual Models, EMNLP 2023, arXiv:2305.14481. Sparsemax: Martins, Astudillo, ICML 2016,
arXiv:1602.02068. Its computation: Condat, Fast projection onto the simplex and the l1 ball,
Mathematical Programming 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError, MissingEvidence
from tokenspace.jit import kernel, spread
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe, apply, make
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._neighbours import unit
from tokenspace.transplant._shared import begin
from tokenspace.vocab import Vocabulary

__all__ = ["FOCUS", "sparse_sums"]

BLOCK = 1 << 23  # similarities held at a time: 32 megabytes
BATCH = 1000  # texts that are tokenised at a time


@dataclass(frozen=True, kw_only=True)
class FOCUS(Recipe):
    """Make a new row a convex sum of shared tokens' rows, by vectors learned on target text."""

    dim: Annotated[int, Range(1, 4096), "width of the helper's vectors"] = 100
    epochs: Annotated[int, Range(1, 10_000), "passes over the text"] = 3
    negatives: Annotated[int, Range(1, 100), "noise tokens drawn for each position"] = 10
    min_count: Annotated[int, Range(1), "rarer tokens get no helper vector"] = 10
    temperature: Annotated[float, Range(1e-3, 1e3), "T of the sparsemax; more is smoother"] = 1.0
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the helper's vectors"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"dim": 8, "epochs": 1, "min_count": 1, "threads": 1}

    def __call__(
        self,
        source: EmbeddingTable,
        target: Vocabulary,
        /,
        *,
        corpus: Corpus | None = None,
        vectors: EmbeddingTable | None = None,
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; the tokens that it shares with ``target`` keep their rows.
        target
            The vocabulary to give rows to.
        corpus
            Text in the target's language, to learn the helper's vectors from.
        vectors
            Used where no corpus is given: a table over the target's tokens, found by their bytes,
            with or without the space before them.

        Returns
        -------
        EmbeddingTable
            ``notes`` counts the ``anchors`` (shared tokens with a helper vector) and the rows
            ``copied``, ``rebuilt`` or set to the ``mean``, and gives for each rebuilt token the
            size of its ``support``.

        Raises
        ------
        MissingEvidence
            Without corpus and without vectors.
        InputError
            Where no shared token has a helper vector.
        """
        if corpus is None and vectors is None:
            raise MissingEvidence(
                "focus needs corpus or vectors",
                hint="give text in the target's language (--corpus), or a table over the target's"
                " tokens (--vectors)",
            )
        draft = begin(source, target)
        if not len(draft.unseen):
            notes = {**self.to_dict(), "copied": len(target), "rebuilt": 0, "mean": 0}
            return EmbeddingTable(target, draft.rows, notes=notes)
        helper, place = self._helper(target, corpus, vectors)
        t, s = target.shared(source.vocab)
        order = np.argsort(s, kind="stable")  # whatever the order of the target's ids
        t, s = t[order], s[order]
        t, s = t[place[t] >= 0], s[place[t] >= 0]
        if not len(t):
            raise InputError(
                "focus: no shared token has a helper vector",
                hint="give more text, or lower min_count",
            )
        known = draft.unseen[place[draft.unseen] >= 0]
        made, support = sparse_sums(
            helper[place[known]],
            helper[place[t]],
            source.rows(s),
            temperature=self.temperature,
            threads=self.threads,
        )
        draft.rows[known] = made
        notes = {
            **self.to_dict(),
            "anchors": len(t),
            "copied": len(target) - len(draft.unseen),
            "rebuilt": len(known),
            "mean": len(draft.unseen) - len(known),
            "tokens": known.tolist(),
            "support": support.tolist(),
        }
        return EmbeddingTable(target, draft.rows, notes=notes)

    def _helper(
        self, target: Vocabulary, corpus: Corpus | None, vectors: EmbeddingTable | None
    ) -> tuple[Floats2d, Ids]:
        """Return unit helper vectors, and the row of every token of the target, (V,) or -1."""
        if corpus is not None:
            names = ("dim", "epochs", "negatives", "min_count", "threads", "seed")
            learn = make("cbow", **{name: getattr(self, name) for name in names})
            table = apply(learn, {"corpus": Corpus(_Cut(corpus, target), split="whitespace")})
            place = np.full(len(target), -1, np.int64)
            place[[int(token) for token in table.vocab.tokens]] = np.arange(len(table.vocab))
        else:
            assert vectors is not None
            table, same = vectors, vectors.vocab.tokens == target.tokens
            place = target.match(table.vocab, ("exact", "space")).ids
            place = np.arange(len(target)) if same else place
        rows = unit(table.vectors)
        place[(place >= 0) & np.asarray(~rows.any(axis=1))[place]] = -1
        return rows, place


class _Cut:
    """A corpus cut into tokens, each written as its id.

    The helper learns words in the order of their frequency, so that it depends on what the tokens
    are, and not on which numbers they have.
    """

    def __init__(self, corpus: Corpus, vocab: Vocabulary) -> None:
        self.corpus, self.vocab = corpus, vocab

    def __iter__(self) -> Iterator[str]:
        batch: list[str] = []
        for text in self.corpus:
            batch.append(text)
            if len(batch) == BATCH:
                yield from self._cut(batch)
                batch = []
        yield from self._cut(batch)

    def _cut(self, batch: list[str]) -> Iterator[str]:
        return (" ".join(map(str, ids)) for ids in self.vocab.encode_batch(batch))


def sparse_sums(
    queries: Floats2d,
    keys: Floats2d,
    rows: Floats2d,
    *,
    temperature: float = 1.0,
    threads: int = 0,
) -> tuple[Floats2d, Ids]:
    """Return Σ p_i rows[i] with p = sparsemax(keys q / temperature) for every query q.

    Parameters
    ----------
    queries : (m, D) float32
    keys : (N, D) float32
    rows : (N, d) float32

    Returns
    -------
    sums : (m, d) float32
    support : (m,) int64
        How many weights are not zero.
    """
    queries, keys, rows = (np.ascontiguousarray(a, np.float32) for a in (queries, keys, rows))
    sums = np.zeros((len(queries), rows.shape[1]), np.float32)
    support = np.zeros(len(queries), np.int64)
    step = max(64, min(1024, BLOCK // max(1, len(keys))))
    for start in track(range(0, len(queries), step), "focus"):
        parts = (queries[start : start + step] @ keys.T, sums[start:], support[start:])

        def work(i: int, j: int, parts: tuple[Any, ...] = parts) -> None:
            z, out, size = (part[i:j] for part in parts)
            _combine(z, 1 / temperature, rows, out, size)

        spread(work, len(parts[0]), workers=threads)
    return sums, support


@kernel(fastmath={"contract", "reassoc"})
def _combine(z: Any, scale: float, rows: Any, sums: Any, support: Any) -> None:
    """Add up the rows by the sparsemax of every row of ``scale * z``."""
    m, N = z.shape
    kept = np.empty(N, np.int64)
    for b in range(m):
        n, count, total, tau = 0, 0, 0.0, -np.inf
        for i in range(N):  # keep what lies above (Σ_S z - 1) / |S|, for an S that grows
            value = scale * z[b, i]
            if value > tau:
                kept[n] = i
                n += 1
                bound = (total + value - 1) / (count + 1)
                if value - 1 > bound:  # alone it gives the better bound
                    count, total, tau = 1, value, value - 1
                else:
                    count, total, tau = count + 1, total + value, bound
        shrinks = True
        while shrinks:
            total = 0.0
            for p in range(n):
                total += scale * z[b, kept[p]]
            tau = (total - 1) / n
            left = 0
            for p in range(n):
                if scale * z[b, kept[p]] > tau:
                    kept[left] = kept[p]
                    left += 1
            shrinks = left < n
            n = left
        support[b] = n
        for p in range(n):
            weight = np.float32(scale * z[b, kept[p]] - tau)
            row = rows[kept[p]]
            for d in range(len(row)):
                sums[b, d] += weight * row[d]
