"""Train a network that predicts the rows of any vocabulary, and use it on the target's.

The idea
--------
A method with a formula treats every token alike. Instead, let a small network look at the pieces
in which the source would write a token, and predict the token's row; and train it by what counts:
the loss of the frozen model on text that is cut by a tokenizer that it has never seen. Such
tokenizers are needed by the thousand, so they are sampled: the substrings of the last few texts,
scored by frequency and length, with noise. The network sees vocabularies only, never how text is
cut, so one that was trained on sampled Unigram vocabularies serves BPE and WordPiece too. It is
trained once for a model (``tokenspace hypernet``) and then gives rows in seconds.

Equations
---------
With a token's pieces t_1 ... t_k (k ≤ L) in the source's tokens, and the source's rows E (V, n);
n = d for a tied model, else 2d, the input row beside the output row::

    x_p = P(W (E[t_p] ⊙ s_in + b_in)) + pos_p          (L, h), h = d
    P(x) = LayerNorm(x + gelu(W_2 gelu(W_1 x)))
    z   = Encoder(x)_1                                  bidirectional, pre-norm, first position
    ê   = (W' P'(z) for each side) ⊙ s_out + b_out      (n,)

s_in and b_in bring every column of E to mean 0 and deviation 1; s_out and b_out begin so that the
rows of a sampled vocabulary have the mean and deviation of E in every column.

Warm-up: source tokens written as themselves, loss mean ‖ê - e‖² over the sides. Then, for every
step, a batch of text, a sampled vocabulary, the frozen model f with the predicted rows R, and A the
tokens of the step that the source has too::

    loss = -mean_t ln softmax(R_out f(R_in)_t)[x_(t+1)]
           + auxiliary · mean_A ‖ê - e‖² / mean_A ‖e‖

A vocabulary is the ``vocab_size`` best of: 256 bytes, 135 runs of blanks, and substrings z of
pre-tokens by count(z) · length(z) / Σ + N(0, σ²), σ drawn anew from LogNormal(ln 1e-5, 2); starts
in steps of four bytes, at most 15 bytes, from the last 384 texts.

Departures from the paper
-------------------------
- Sizes for minutes on a few cores: width d, two layers, pre-norm instead of post-norm, hundreds of
  steps instead of 200,000, a rate of 2e-3, a spread of 2 of the noise instead of 4.
- A token that the source has keeps its row, and feeds the auxiliary loss only.
- Positions without a piece have an index of their own; with the end token as padding, as in the
  reference, that token is hidden where it is real.
- The softmax runs over the tokens of the batch and 384 others of the sampled vocabulary. Substrings
  that are never taken (single bytes, blanks) are left out of Σ too.
- The target's tokenizer is kept as it is; the reference rewrites it to bytes and replaces its
  pre-tokenizer. No language embedding, and no predicted bias.
- A token that cannot be written in the source's tokens gets the mean row, and is counted; so are
  tokens of more than ``maxlen`` pieces, whose further pieces are not seen.
- A model that was trained further than the network's base: ``variant`` base gives the rows of the
  base; delta adds how far the rows of the pieces have moved since, on the average.

Cost
----
Training is some 50 h² L flops for every token of a step and layer, plus forward and backward
through the model: a minute and a half of one core for a model of two layers and d = 96. Applying it
takes one pass over the unseen tokens, thousands a second. The file holds the model's rows as well.

When not to use it
------------------
For a single transplant of a model that is healed afterwards anyway; where a donor over the target's
tokens exists and shares many with the source (``omp``); for a text of another kind or language than
the network was trained on.

Reference
---------
Minixhofer, Ponti and Vulić, "Zero-Shot Tokenizer Transfer", NeurIPS 2024, arXiv:2405.07883. The
warm-up: Pinter, Guthrie and Eisenstein, "Mimicking Word Embeddings using Subword RNNs", EMNLP 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.checkpoint import Checkpoint
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError, MissingEvidence, MissingExtra
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._sampler import LEAST
from tokenspace.transplant._shared import Pieces, begin, combine, pieces
from tokenspace.transplant.hypernet import Hypernet
from tokenspace.vocab import Vocabulary

__all__ = ["ZeTT"]


@dataclass(frozen=True, kw_only=True)
class ZeTT(Recipe):
    """Train a network that predicts the rows of any vocabulary, and use it on the target's."""

    steps: Annotated[int, Range(1, 10**7), "steps of training through the model"] = 440
    identity_steps: Annotated[int, Range(0, 10**6), "steps of the warm-up, on source tokens"] = 300
    lr: Annotated[float, Range(1e-6, 1.0), "highest learning rate"] = 2e-3
    auxiliary: Annotated[float, Range(0.0, 100.0), "weight of the auxiliary loss"] = 0.5
    layers: Annotated[int, Range(1, 24), "layers of the encoder"] = 2
    maxlen: Annotated[int, Range(1, 64), "pieces L of a token that the network sees"] = 6
    vocab_size: Annotated[
        int | Literal["auto"],
        Range(LEAST, 2**20),
        "tokens of a sampled vocabulary; auto: three quarters of the source's, at most 32,768",
    ] = "auto"
    variant: Annotated[
        Literal["base", "delta"], "rows of the network's base, or moved as the source's pieces have"
    ] = "base"
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of weights, texts and tokenizers"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"steps": 3, "identity_steps": 2, "layers": 1}
    joint: ClassVar[bool] = True
    """An untied model's two matrices are given to one call, side by side."""

    def train(self, model: Checkpoint, corpus: Corpus) -> Hypernet:
        """Train a network for ``model``, a causal or masked language model, on ``corpus``.

        ``notes``: the recipe, the model's name, the size of a sampled vocabulary, and the average
        losses of the first and the last 50 steps.

        Raises :class:`InputError` where the model has no head for language, or there is no text.
        """
        net, on_threads = self._net()
        with on_threads(self.threads):
            trained: Hypernet = net.train(self, model, corpus)
        return trained

    def __call__(
        self,
        source: EmbeddingTable,
        target: Vocabulary,
        /,
        *,
        hypernet: Hypernet | None = None,
        model: Checkpoint | None = None,
        corpus: Corpus | None = None,
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        ``hypernet`` was trained for the source or what the source comes from; without one, it is
        trained for ``model``, whose matrix ``source`` is (of an untied model both, side by side),
        on ``corpus``.

        ``notes`` counts the rows ``copied``, ``rebuilt`` and set to the ``mean``, and those whose
        last pieces were not seen (``truncated``); ``tokens`` are the ids of the rebuilt ones,
        ``support`` the number of pieces of each; ``training`` are the network's notes.

        Raises :class:`MissingEvidence` where there is no network and nothing to train it with, and
        :class:`InputError` where it was made for another model, or the source cannot split tokens.
        """
        draft = begin(source, target)
        if hypernet is None and (model is None or corpus is None):
            raise MissingEvidence(
                f"{self.name} needs a hypernet, or a model and a corpus to train one on",
                hint="give hypernet (--hypernet), or model and corpus (--model, --corpus)",
            )
        if hypernet is not None:
            hypernet.check(source.vocab, source.shape[1])
        if len(draft.unseen) and source.vocab.tokenizer is None:
            raise InputError(
                "zett: the source has no tokenizer to write new tokens in",
                hint="give the source as a model directory, or use the method mean",
            )
        training: Mapping[str, Any] = {}
        split = pieces(target, draft.unseen, source.vocab)
        written = np.flatnonzero(split.lengths)
        rebuilt, long = draft.unseen[written], 0
        if len(rebuilt):
            if hypernet is None:
                assert model is not None and corpus is not None
                hypernet = self.train(model, corpus)
                hypernet.check(source.vocab, source.shape[1])
            draft.rows[rebuilt] = self._rows(hypernet, source, split)[written]
            long = int((split.lengths > hypernet.shape.maxlen).sum())
            training = hypernet.notes
        notes = {
            **self.to_dict(),
            "copied": len(target) - len(draft.unseen),
            "rebuilt": len(rebuilt),
            "mean": len(draft.unseen) - len(rebuilt),
            "truncated": long,
            "flagged": long,
            "tokens": rebuilt.tolist(),
            "support": split.lengths[written].tolist(),
            "training": dict(training),
        }
        return EmbeddingTable(target, draft.rows, notes=notes)

    def _rows(self, hypernet: Hypernet, source: EmbeddingTable, split: Pieces) -> Floats2d:
        """Return the predicted rows of all tokens, those without a piece included."""
        net, on_threads = self._net()
        supports, shares = split.padded()
        with on_threads(self.threads):
            rows: Floats2d = net.predict(hypernet, supports[:, : hypernet.shape.maxlen])
        times = source.shape[1] // hypernet.shape.width  # 2 for a tied model that is untied
        rows = np.tile(rows, (1, times))
        if self.variant == "delta":
            moved = source.vectors - np.tile(hypernet.base, (1, times))
            rows += combine(supports, shares, moved)
        return rows

    def _net(self) -> tuple[ModuleType, Any]:
        try:
            from tokenspace.nn.decoder import on_threads
            from tokenspace.transplant import zett_net
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault
        return zett_net, on_threads
