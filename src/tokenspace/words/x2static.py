"""Learn vectors that tell the words of a sentence from noise by what a network makes of it.

The idea
--------
Skip-gram and CBOW learn a word from a window of static vectors. Here the window is a whole sentence
as a pretrained network understands it: one vector, computed once and never changed. Each word
learns a vector that scores high with the sentences that hold it and low with the others. What the
network knows of language thus goes into static vectors, and what is learned is company, as in
skip-gram, and not the average of a word's own states, as in ``aggregate``.

Equations
---------
``c_s`` is the mean of the network's states of all tokens of sentence s, special ones and the word
itself included; ``u`` the rows that are learned, (V, H) float32. For each word w of s and noise
words n_1 .. n_K drawn with probabilities ∝ √count, with scores clamped to [-20, 20]::

    loss = ln(1 + e^(-c_s·u_w)) + Σ_k ln(1 + e^(c_s·u_nk))

The gradient is the mean over the words of ``batch`` sentences, and Adam (β 0.9 and 0.999, with a
rate of ``lr``) steps those rows that took part. A word of relative frequency f is kept with
probability min(1, √(sample / f)). ``u`` starts uniform in (-1, 1) / H. Sentences come in a new
order in every epoch.

Departures from the paper
-------------------------
- The network runs once, and its outputs lie in a temporary file; the paper's program runs it again
  in every epoch, on a GPU only, in half precision, and makes one epoch.
- 20 epochs with ``sample=1e-5`` and 5 noise words, for text of less than a billion words: the
  program makes one epoch with 5e-6 and 10. On the 16,000 sentences of the claim, 1e-4 is worse (MEN
  .58, not .71), and so are 10 noise words (.68).
- A sentence that is longer than the network takes is read in windows, and c is the mean over them;
  of a paragraph, give its sentences. A noise word that happens to be w is left out.

The same seed gives the same bytes. ``notes["loss"]`` is the mean loss of a word in the last epoch.

Cost
----
The network's, once: about 200 short sentences a second and core for six layers of width 384. Then
4 H (1 + negatives) multiplications a kept word and epoch, and 10 H operations a row and step, on
one core. Memory: 16 V H bytes; 4 H bytes a text on disk.

When not to use it
------------------
With tens of thousands of sentences or fewer a word has seen too few: ``aggregate`` needs ten. With
a network that was trained for likeness, such as MiniLM, the means of its own states are better: the
claim, which says the opposite, fails there (the paper's networks guess words). Where small vectors
are wanted: the width is the network's (project afterwards). A word that never occurs keeps its
random first vector.

Reference
---------
P. Gupta, M. Jaggi: Obtaining Better Static Word Embeddings Using Contextual Embedding Models. ACL
2021, https://arxiv.org/abs/2106.04302.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import NotConverged
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import derive, stream
from tokenspace.sgd import below, draw, noise_table
from tokenspace.table import EmbeddingTable
from tokenspace.text_encoder import ContextEncoder, TextEncoder
from tokenspace.vocab import Vocabulary

from . import _contextual

__all__ = ["X2Static"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam
CLAMP = 20.0  # largest magnitude of a score


@dataclass(frozen=True, kw_only=True)
class X2Static(Recipe):
    """Learn vectors that tell the words of a sentence from noise by what a network makes of it."""

    epochs: Annotated[int, Range(1, 10_000), "passes over the sentences"] = 20
    negatives: Annotated[int, Range(1, 100), "noise words K for each word"] = 5
    lr: Annotated[float, Range(1e-6, 10), "learning rate"] = 1e-3
    batch: Annotated[int, Range(1, 100_000), "sentences a step"] = 128
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-5
    layer: Annotated[int, Range(-1000, 1000), "layer; 0 enters the network, -1 is the last"] = -1
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    max_vocab: Annotated[int, Range(0), "most words, by frequency; 0 = all"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"epochs": 1, "min_count": 1}

    def __call__(
        self, corpus: Corpus, /, *, encoder: TextEncoder, vocab: Vocabulary | None = None
    ) -> EmbeddingTable:
        """Learn from a corpus one vector for every word, or for every token of ``vocab``.

        Parameters
        ----------
        corpus
            The texts, best one sentence each.
        encoder
            A network that gives every token a state, such as ``load_encoder`` returns.
        vocab
            Words, or a tokenizer's tokens, to learn vectors for. By default the words of the
            corpus that occur ``min_count`` times.

        Returns
        -------
        EmbeddingTable
            (V, H) float32 with H the width of the network, the counts, and the knobs and the
            final loss as notes.

        Raises
        ------
        InputError
            Where fewer than two different words are left, where the encoder is a static one or
            has no token for a word, and where it gives all sentences the same vector.
        ConfigError
            Where the network has no such layer.
        NotConverged
            Where the vectors stop being finite.
        """
        network = _contextual.contextual(encoder, self.name)
        vocab, text = _contextual.encode(corpus, vocab, self.min_count, self.max_vocab)
        _contextual.all_seen(network, _contextual.spelled(vocab), self.name)
        with tempfile.TemporaryFile() as file:
            width = network.mean_states(vocab.tokens[:1], layer=self.layer).shape[1]
            shape = (len(text.offsets) - 1, width)
            C = np.memmap(file, np.float32, "w+", shape=shape)  # (S, H), the rest of it zero
            sentences = self._read(network, corpus, text, C)
            _contextual.told_apart(C[sentences[:1024]], self.name)
            U, loss = self._learn(text, C, sentences)
            del C
        return EmbeddingTable(vocab, U, text.counts, {**self.to_dict(), "loss": loss})

    def _read(self, network: ContextEncoder, corpus: Corpus, text: IdStream, C: Floats2d) -> Ids:
        """Write c_s of every sentence that holds a word to ``C``, and return these sentences."""
        holds = np.diff(text.offsets) > 0
        with Meter("encode", int(holds.sum())) as meter:
            for first, batch in _contextual.batches(corpus):
                rows = first + np.flatnonzero(holds[first : first + len(batch)])
                texts = [batch[row - first] for row in rows]
                C[rows] = network.mean_states(texts, layer=self.layer)
                meter.add(len(rows))
        return np.flatnonzero(holds)

    def _learn(self, text: IdStream, C: Floats2d, sentences: Ids) -> tuple[Floats2d, float]:
        """Return ``u`` (V, H), and the mean loss of a word in the last epoch."""
        V, H = len(text.vocab), C.shape[1]
        U = ((2 * stream(self.seed, "vectors").random((V, H), np.float32) - 1) / H).astype("f4")
        m, v, G = (np.zeros((V, H), np.float32) for _ in range(3))
        touched, rows = np.zeros(V, np.bool_), np.zeros(V, np.int64)
        keep, noise = thresholds(text.counts, self.sample), noise_table(text.counts, 0.5)
        step, loss, words = 0, 0.0, 0
        with Meter(self.name, self.epochs * len(sentences)) as meter:
            for epoch in range(self.epochs):
                order = stream(self.seed, "order", epoch).permutation(sentences)
                loss, words = 0.0, 0
                for start in range(0, len(order), self.batch):
                    chosen = order[start : start + self.batch]
                    seed = np.array([derive(self.seed, "draws", epoch, start)], np.uint64)
                    count, total, kept = gradient(
                        C[chosen], chosen, text.ids, text.offsets, keep, noise, self.negatives,
                        U, G, touched, rows, seed,
                    )  # fmt: skip
                    step += kept > 0
                    adam(U, m, v, G, touched, rows[:count], kept, self.lr, step)
                    loss, words = loss + total, words + kept
                    meter.add(len(chosen))
                if not np.isfinite(U.sum(dtype=np.float64)):
                    raise NotConverged(
                        f"x2static: vectors are not finite after epoch {epoch + 1}",
                        hint=f"lower the learning rate (lr={self.lr:g})",
                    )
        return U, loss / max(1, words)


def thresholds(counts: Ids, sample: float) -> npt.NDArray[np.uint32]:
    """Return, for each word, the 32-bit number below which a draw keeps an occurrence, (V,)."""
    f = np.maximum(counts, 1) / counts.sum()
    p = np.minimum(1.0, np.sqrt(sample / f)) if sample else np.ones(len(counts))
    kept: npt.NDArray[np.uint32] = (p * 0xFFFFFFFF).astype(np.uint32)
    return kept


@kernel(fastmath={"contract", "reassoc"})
def gradient(
    C: Floats2d,
    sentences: Ids,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    keep: npt.NDArray[np.uint32],
    noise: npt.NDArray[np.int32],
    negatives: int,
    U: Floats2d,
    G: Floats2d,
    touched: npt.NDArray[np.bool_],
    rows: Ids,
    state: npt.NDArray[np.uint64],
) -> tuple[int, float, int]:
    """Add the gradient of a batch to ``G`` and list the rows of it that took part in ``rows``.

    ``C`` (B, H) are the sentences' vectors. Returns the number of these rows, the summed loss, and
    how many words were kept.
    """
    count, loss, kept = 0, 0.0, 0
    for b in range(len(sentences)):
        c = C[b]
        for place in range(offsets[sentences[b]], offsets[sentences[b] + 1]):
            word = np.int64(ids[place])
            if draw(state) > keep[word]:
                continue
            kept += 1
            for k in range(negatives + 1):
                row = word
                if k > 0:
                    row = np.int64(noise[below(len(noise), state)])
                    if row == word:
                        continue
                u = U[row]
                score = np.float32(0)
                for d in range(len(c)):
                    score += c[d] * u[d]
                sign = np.float32(1) if k == 0 else np.float32(-1)
                clamped = min(max(np.float64(score), -CLAMP), CLAMP)
                loss += np.log1p(np.exp(-sign * clamped))
                if not touched[row]:
                    touched[row] = True
                    rows[count] = row
                    count += 1
                if clamped == np.float64(score):  # beyond the clamp the loss is flat
                    g = np.float32(-sign / (1 + np.exp(sign * clamped)))
                    target = G[row]
                    for d in range(len(c)):
                        target[d] += g * c[d]
    return count, loss, kept


@kernel(fastmath={"contract", "reassoc"})
def adam(
    U: Floats2d,
    m: Floats2d,
    v: Floats2d,
    G: Floats2d,
    touched: npt.NDArray[np.bool_],
    rows: Ids,
    words: int,
    lr: float,
    step: int,
) -> None:
    """Step the listed rows by the mean gradient of ``words`` words, and clear their gradients."""
    if words == 0:
        return
    rate = np.float32(lr * np.sqrt(1 - BETA2**step) / (1 - BETA1**step))
    share = np.float32(1 / words)
    one, two = np.float32(1 - BETA1), np.float32(1 - BETA2)
    least = np.float32(EPSILON)
    for row in rows:
        touched[row] = False
        for d in range(U.shape[1]):
            g = G[row, d] * share
            G[row, d] = np.float32(0)
            m[row, d] += one * (g - m[row, d])
            v[row, d] += two * (g * g - v[row, d])
            U[row, d] -= rate * m[row, d] / (np.sqrt(v[row, d]) + least)
