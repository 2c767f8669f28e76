"""Learn new rows as convex combinations of old ones, by skip-gram on text where both meet.

The idea
--------
A vocabulary grows, and every new token needs a row. Read text in which new tokens stand beside old
ones, and let each new token move until its row predicts its neighbours, as skip-gram does; but let
it move only inside the convex hull of the old rows, which stay where they are. Inside the hull a
new output row cannot win a greedy choice from the old ones, whatever the hidden state: the model
goes on saying what it said, and learns the new tokens from a start that knows their company.

Equations
---------
With old rows E (n, d), and S (N, m) the m old tokens that new token i may be made of::

    row_i = Σ_k λ_ik E[S_ik],    λ_i = softmax(a_i),    a_i ~ N(0, 0.02²) at the start

so that λ ≥ 0 and Σ λ = 1. For every hidden state h,
⟨h, row⟩ = Σ λ_k ⟨h, E_k⟩ ≤ max_k ⟨h, E_k⟩.

Learning happens on z = (E − μ) / s, where μ is the mean row and s makes the inner products of
different old tokens have deviation 1: s⁴ = tr(C²), C the covariance. λ is the same for both. At
each kept occurrence of token i, with row x, window C of at most ``window`` tokens to each side, and
``negatives`` noise tokens n for each neighbour c::

    loss = (1/|C|) Σ_c [ −log σ(⟨x, z_c⟩) − Σ_n log σ(−⟨x, z_n⟩) ]
    g = ∂ loss / ∂x = (1/|C|) Σ_c [ (σ(⟨x, z_c⟩) − 1) z_c + Σ_n σ(⟨x, z_n⟩) z_n ]
    a_k ← a_k − η ⟨g, z_k⟩                          then λ and x anew

An occurrence is kept with probability √(3 / count); noise is drawn by count^0.75; η falls linearly
to 0. S holds the token's pieces, old tokens of like spelling (at most m/2), and the most frequent
old tokens of the text.

Departures from the paper
-------------------------
- The paper writes a = A₁ A₂ with factors of rank 1024 and computes the whole softmax at every step.
  Here a row has m candidates of its own: the cost does not depend on n. m ≥ n is the full softmax.
- Its factors start as uniform numbers in (0, 1), whose softmax is peaked; here all weights of a row
  start nearly equal, near the mean of its candidates.
- a_k moves by ⟨g, z_k⟩ (exponentiated gradient), where Adam on the softmax's gradient would first
  multiply by λ_k and then divide it out again.
- The released code sums the noise scores inside one logarithm; here each has its own.
- One matrix plays both parts, as in the paper's variant for RoBERTa, and only the centre of a
  window learns. Rows of new tokens in a window are those of the epoch before, so that tokens do not
  wait for each other, and any number of threads gives the same bytes.
- Any target is accepted; its shared tokens play the old ones. ``extension=True`` refuses a target
  that does not begin with the source's tokens.

Cost
----
(2 m + 2 · window · (1 + negatives) · 2) d multiplications for each kept occurrence: √(3 · count) of
them for a token and epoch. 8 N m bytes for weights and candidates.

When not to use it
------------------
Without text that holds both old and new tokens, a few hundred occurrences of each: a token with
less than ``min_count`` gets the mean row. Where greedy choices need not be kept, rows outside of
the hull can be better: omp, wechsel. ``mean`` and ``multivariate`` need no text, are inside or near
the hull too, and after much further training are about as good.

Reference
---------
Mundra, Kishore, Dabre, Puduppully, Kunchukuttan and Khapra, "An Empirical Comparison of Vocabulary
Expansion and Initialization Approaches for Language Models", CoNLL 2024, arXiv:2407.05841.
Kivinen and Warmuth, "Exponentiated gradient versus gradient descent for linear predictors", 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import InputError
from tokenspace.jit import kernel, spread
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._letters import letters
from tokenspace.transplant._neighbours import nearest
from tokenspace.transplant._shared import begin, pieces
from tokenspace.vocab import Vocabulary

__all__ = ["CW2V", "learn"]

KEPT = 3.0  # t: an occurrence is kept with probability √(t / count)
ALIKE = 0.2  # least cosine of two spellings
SLOTS = 1 << 20  # of the noise table
ALGEBRA = {"contract", "reassoc", "nnan", "nsz"}  # lets loops use the vector registers


@dataclass(frozen=True, kw_only=True)
class CW2V(Recipe):
    """Learn new rows as convex combinations of old ones, by skip-gram on text where both meet."""

    support: Annotated[int, Range(1, 65536), "m: old tokens that a new one may be made of"] = 256
    window: Annotated[int, Range(1, 1000), "tokens to each side"] = 5
    negatives: Annotated[int, Range(1, 1000), "noise tokens for each neighbour"] = 5
    epochs: Annotated[int, Range(1, 1000), "passes over the text"] = 5
    lr: Annotated[float, Range(0, 1000), "η: the first step"] = 0.1
    min_count: Annotated[int, Range(1), "fewer occurrences give the mean row"] = 5
    extension: Annotated[bool, "refuse a target that does not begin with the source's tokens"] = (
        False
    )
    seed: Annotated[int, Range(0, 2**63 - 1), "start, noise, and which occurrences are kept"] = 0
    threads: Annotated[int, Range(0, 1024), "cores to use (0: all)"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"support": 32, "epochs": 2}

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *, corpus: Corpus
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; shared tokens keep their rows.
        target
            The vocabulary to give rows to.
        corpus
            Text in which old and new tokens meet. A sentence is a context.

        Returns
        -------
        EmbeddingTable
            ``notes`` counts the rows that were ``copied``, ``rebuilt`` or set to the ``mean`` (for
            want of occurrences); of the rebuilt ``tokens`` it gives the ``entropy`` of the
            weights, as the number of equal weights that would have it.

        Raises
        ------
        InputError
            Where the corpus holds no token of the target, and, with ``extension``, for the first
            id whose token is not the source's.
        """
        if self.extension:
            _check_extension(source.vocab, target)
        draft = begin(source, target)
        notes = {**self.to_dict(), "copied": len(target) - len(draft.unseen)}
        if not len(draft.unseen):
            return EmbeddingTable(target, draft.rows, notes={**notes, "rebuilt": 0, "mean": 0})
        stream = corpus.encode(target)
        text = [i not in target.specials for i in draft.unseen.tolist()]
        new = draft.unseen[(stream.counts[draft.unseen] >= self.min_count) & text]
        supports = self._candidates(new, target, source, stream)
        z, start = _standard(source.vectors, draft.rows)
        weights = learn(
            z, start, new, supports, stream,
            window=self.window, negatives=self.negatives, epochs=self.epochs, lr=self.lr,
            seed=self.seed, threads=self.threads,
        )  # fmt: skip
        for row, chosen, share in zip(new, supports, weights, strict=True):
            draft.rows[row] = share @ source.vectors[chosen]
        entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(axis=1)
        notes |= {
            "rebuilt": len(new),
            "mean": len(draft.unseen) - len(new),
            "tokens": new.tolist(),
            "entropy": np.exp(entropy).tolist(),
        }
        return EmbeddingTable(target, draft.rows, notes=notes)

    def _candidates(
        self, new: Ids, target: Vocabulary, source: EmbeddingTable, stream: IdStream
    ) -> Ids2d:
        """Return the old tokens that every new one may be made of, (N, m)."""
        vocab = source.vocab
        usable = np.ones(len(vocab), bool)
        usable[[*vocab.specials, *vocab.holes]] = False
        old = np.flatnonzero(usable)
        if not len(old):
            raise InputError(
                "cw2v: the source has special tokens only",
                hint="give a source with ordinary tokens",
            )
        m = min(self.support, len(old))
        counts = np.zeros(len(vocab), np.int64)
        t, s = target.shared(vocab)
        np.add.at(counts, s, stream.counts[t])
        frequent = old[np.argsort(-counts[old], kind="stable")].tolist()
        parts = pieces(target, new, vocab)
        alike, cosines = nearest(
            letters([target.surfaces[i] for i in new]),
            letters([vocab.surfaces[i] for i in old]),
            m // 2,
        )
        supports = np.empty((len(new), m), np.int64)
        for i in range(len(new)):
            near = old[alike[i][cosines[i] > ALIKE]].tolist()
            chosen = dict.fromkeys(p for p in parts[i].tolist() if usable[p])
            chosen |= dict.fromkeys(near)
            missing = iter(frequent)
            while len(chosen) < m:
                chosen[next(missing)] = None
            supports[i] = sorted(list(chosen)[:m])
        return supports


def learn(
    z: Floats2d,
    rows: Floats2d,
    new: Ids,
    supports: Ids2d,
    stream: IdStream,
    *,
    window: int = 5,
    negatives: int = 5,
    epochs: int = 5,
    lr: float = 0.1,
    seed: int = 0,
    threads: int = 0,
) -> npt.NDArray[np.float64]:
    """Learn convex weights for the tokens ``new`` (N,), (N, m) float64; each row sums to one.

    ``z`` (n, d) float32 are the old rows and ``rows`` (V, d) those of the whole vocabulary of
    ``stream``, of which those of ``new`` are not read; ``supports`` (N, m) indexes ``z``.
    """
    tokens = stream.vocab.tokens
    a = 0.02 * rng.stream(seed, "weights").standard_normal(supports.shape)
    states = np.array([rng.derive(seed, "draws", tokens[i]) for i in new], np.uint64)
    place = np.full(len(tokens), -1, np.int64)
    place[new] = np.arange(len(new))
    owner = place[stream.ids]
    at = np.flatnonzero(owner >= 0)
    at = at[np.argsort(owner[at], kind="stable")]  # positions, token after token
    starts = np.searchsorted(owner[at], np.arange(len(new) + 1))
    sentence = np.searchsorted(stream.offsets, at, "right") - 1
    noise = _noise(stream)
    x = np.array(rows, np.float32)
    for epoch in track(range(epochs), "cw2v"):
        for i in range(len(new)):
            x[new[i]] = _softmax(a[i]) @ z[supports[i]]
        rate = lr * (1 - epoch / epochs), lr / epochs  # at the start of this epoch, and its fall

        def work(i: int, j: int, rate: tuple[float, float] = rate) -> None:
            _descend(
                i, j, a, states, z, x, new, supports, stream.ids, stream.offsets, at, starts,
                sentence, noise, window, negatives, rate[0], rate[1],
            )  # fmt: skip

        spread(work, len(new), workers=threads)
    return _softmax(a)


@kernel(fastmath=ALGEBRA)
def _descend(
    first: int,
    last: int,
    a: Any,
    states: Any,
    z: Any,
    x: Any,
    new: Any,
    supports: Any,
    ids: Any,
    offsets: Any,
    at: Any,
    starts: Any,
    sentence: Any,
    noise: Any,
    window: int,
    negatives: int,
    lr: float,
    fall: float,
) -> None:
    """Go through the occurrences of the tokens [first, last) and move their logits ``a``."""
    m, d = supports.shape[1], z.shape[1]
    atoms = np.empty((m, d), np.float32)
    row, g = np.empty(d, np.float32), np.empty(d, np.float32)
    share = np.empty(m)
    for i in range(first, last):
        for k in range(m):
            atoms[k] = z[supports[i, k]]
        row[:] = x[new[i]]
        state = states[i : i + 1]
        count = starts[i + 1] - starts[i]
        keep = np.sqrt(KEPT / count)
        for o in range(starts[i], starts[i + 1]):
            p = at[o]
            begin = max(offsets[sentence[o]], p - window)
            end = min(offsets[sentence[o] + 1], p + window + 1)
            if _draw(state) * 2.0**-32 < keep and end - begin > 1:
                g[:] = 0
                for q in range(begin, end):
                    if q != p:
                        _gradient(row, x, np.int64(ids[q]), new[i], noise, negatives, state, g)
                rate = (lr - fall * (o - starts[i]) / count) / (end - begin - 1)
                _move(a[i], rate, g, atoms, share, row)


@kernel()
def _draw(state: Any) -> np.uint64:
    """Step a linear congruential generator (Knuth's MMIX constants); return its high 32 bits."""
    state[0] = state[0] * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return np.uint64(state[0] >> np.uint64(32))


@kernel(fastmath=ALGEBRA)
def _gradient(
    row: Any, x: Any, near: Any, own: Any, noise: Any, negatives: int, state: Any, g: Any
) -> None:
    """Add the gradient of one neighbour and its noise tokens to ``g``."""
    for b in range(negatives + 1):
        other = near
        if b > 0:
            other = np.int64(noise[(_draw(state) * np.uint64(len(noise))) >> np.uint64(32)])
            if other in (near, own):
                continue
        dot = np.float32(0)
        for n in range(len(row)):
            dot += row[n] * x[other, n]
        error = np.float32(1 / (1 + np.exp(-dot)) - (b == 0))
        for n in range(len(row)):
            g[n] += error * x[other, n]


@kernel(fastmath=ALGEBRA)
def _move(a: Any, rate: float, g: Any, atoms: Any, share: Any, row: Any) -> None:
    """Move the logits against ``g``, and make the row of the new weights."""
    m, d = atoms.shape
    for k in range(m):
        dot = np.float32(0)
        for n in range(d):
            dot += g[n] * atoms[k, n]
        a[k] -= rate * dot
    top, total = a.max(), 0.0
    for k in range(m):
        share[k] = np.exp(a[k] - top)
        total += share[k]
    row[:] = 0
    for k in range(m):
        weight = np.float32(share[k] / total)
        for n in range(d):
            row[n] += weight * atoms[k, n]


def _softmax(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    z = np.exp(a - a.max(axis=-1, keepdims=True))
    weights: npt.NDArray[np.float64] = z / z.sum(axis=-1, keepdims=True)
    return weights


def _noise(stream: IdStream) -> npt.NDArray[np.int32]:
    """Return a table in which every token has a share of places proportional to count^0.75.

    Tokens are in the order of their strings, so that no draw depends on the order of ids.
    """
    tokens = stream.vocab.tokens
    order = np.array(sorted(range(len(tokens)), key=tokens.__getitem__), np.int32)
    share = np.cumsum(stream.counts[order].astype(np.float64) ** 0.75)
    borders = np.round(share / share[-1] * SLOTS).astype(np.int64)
    return np.repeat(order, np.diff(borders, prepend=0))


def _standard(E: Floats2d, rows: Floats2d) -> tuple[Floats2d, Floats2d]:
    """Return both matrices less E's mean, in units in which E's inner products deviate by 1."""
    mean = E.mean(axis=0, dtype=np.float64)
    centred = E - mean
    C = centred.T @ centred / len(E)
    s = np.sqrt(np.sqrt(np.square(C).sum())) or 1.0
    return np.asarray(centred / s, np.float32), np.asarray((rows - mean) / s, np.float32)


def _check_extension(source: Vocabulary, target: Vocabulary) -> None:
    """Refuse a target whose first ids are not the source's tokens."""
    for i, token in enumerate(source.tokens):
        if i >= len(target) or target.tokens[i] != token:
            found = repr(target.tokens[i]) if i < len(target) else "missing"
            raise InputError(
                f"cw2v: id {i} is {token!r} in the source and {found} in the target",
                hint="give a tokenizer that adds tokens to the source's, or set extension=False",
            )
