"""Train a text encoder that can be cut after any layer and to any width.

The idea
--------
A network of six layers with vectors of 384 numbers is one point of a trade; a user may want half
of the layers, or a sixth of the numbers, and not train a network for each. Matryoshka training
asks of the first k numbers of a vector what it asks of all; its second dimension asks it of the
vectors that a layer before the last gives, too, and that they order the numbers of a vector as
those of the last layer do. One training gives all the smaller models: ``tokenspace encode shorten``
cuts them out, and what it writes needs nothing of this package.

Equations
---------
X_n (B, D) is what a batch's texts have as vectors after layer n of N, X[:k] its first k columns; l
is a loss of pairs, such as the contrastive one, K the set of ``widths``::

    L(X)   =  l(X) + mean over k in K of l(X[:k])
    mrl       L(X_N)
    2d        L(X_N) + mean over the step's layers n of  L(X_n) + KL_T(X_n, X_N),    T = 0.3
    ese       L(X_N) + C(X_N) + mean over n of  w_n (mean over k of l(X_n[:k]) + C(X_n))

    KL_T(a, t)  =  T KL(softmax(t / T) || softmax(a / T)), no gradient to t
    C(X)        =  mean over k of  MSE(X[:k], P_k) + KL_1(X[:k], P_k)                   ese
    w_n         =  1 / (1 + ln n)
    P_k         =  X U_k S_k, with U S V' = softmax(X'X / sqrt(D), by rows)           (pca=softmax)
    P_k         =  X E_k, E_k the first eigenvectors of X's covariance                  (pca=true)

The layers of a step are ``layers`` of 1..N-1, drawn anew each time; ``layers=0`` and ``ese`` take
all. l is ranking among the batch (scale 20) for pairs, triplets and plain texts, and CoSENT for
scored pairs.

Departures from the paper
-------------------------
2DMSE draws one k a step: all are taken, since a loss of pooled vectors costs next to nothing. The
authors' code of ESE leaves out layer N - 1 and trains what enters the network as if it were a
layer: here n is 1..N-1. Its randomised singular vectors have no sign; here they are exact, and
each column of P_k is turned to agree with that of X[:k]. Its P_k is no principal component
analysis: rows of a softmax have one large singular value, and its targets are some twenty times
shorter than what they are to guide. ``pca=true`` is one, with a covariance that forgets a tenth a
step. Decoders have a norm after their last layer, which a cut model applies as well: it is applied
to every layer in training.

Cost
----
One pass of the network a step, like any fine-tuning; the losses of all layers and widths add a few
percent, and ``ese`` a decomposition of D by D for each layer.

When not to use it
------------------
Where one size is enough; where only the width matters, a rotation to principal components
(``encode shorten --rotate``) costs no training and comes close: compare with it first. Layers 1 to
3 of a small encoder are worse than no layer at all, trained or not: print the grid
(``encode grid``) before choosing.

Reference
---------
Li et al.: 2D Matryoshka Sentence Embeddings, 2024, arXiv:2402.14776; version 2 is ESE: Espresso
Sentence Embeddings, ICLR 2025. Kusupati et al.: Matryoshka Representation Learning, NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from tokenspace.errors import ConfigError, MissingExtra
from tokenspace.examples import Examples
from tokenspace.recipe import Range, Recipe
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

__all__ = ["Matryoshka2D"]


@dataclass(frozen=True, kw_only=True)
class Matryoshka2D(Recipe):
    """Train a text encoder that can be cut after any layer and to any width."""

    form: Annotated[
        Literal["2d", "ese", "mrl"], "which loss: all layers and widths, or widths only (mrl)"
    ] = "2d"
    widths: Annotated[str, "widths to train beside the full one, as 32+64+128; else its halves"] = (
        ""
    )
    layers: Annotated[int, Range(0, 1024), "layers before the last in a step; 0: all"] = 1
    pca: Annotated[Literal["softmax", "true"], "what ese compresses to"] = "softmax"
    steps: Annotated[int, Range(1, 10**7), "steps of training"] = 500
    batch: Annotated[int, Range(2, 65_536), "examples in a step"] = 32
    lr: Annotated[float, Range(1e-8, 1.0), "highest learning rate"] = 5e-5
    seed: Annotated[int, Range(0, 2**63 - 1), "of batches, layers and dropout"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"steps": 3, "batch": 8, "lr": 1e-3}

    def __call__(self, model: PretrainedEncoder, /, *, examples: Examples) -> TextEncoder:
        """Return the trained encoder, whole; ``encode shorten`` cuts it.

        ``model`` starts with a transformer and is left as it is. ``examples`` are pairs, triplets,
        scored pairs, or plain texts, of which each is its own positive. Raises
        :class:`ConfigError` for a width that the model does not have and for labelled examples,
        and :class:`InputError` for a model without layers.
        """
        try:
            from tokenspace.nn.sentence import copied, dataset, fine_tune, pair_loss, wrapped

            from .matryoshka2d_net import MatryoshkaLoss
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault
        widths = self._widths(model.dim)
        made = copied(model)
        loss = MatryoshkaLoss(made, pair_loss(made, examples), self, widths)
        fine_tune(
            made,
            dataset(examples),
            loss,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=self.seed,
            threads=self.threads,
        )
        return wrapped(made)

    def _widths(self, D: int) -> tuple[int, ...]:
        """Return K, ascending."""
        if not self.widths:
            halves = [D >> i for i in range(1, D.bit_length()) if D >> i >= min(32, D // 2)]
            return tuple(sorted(halves)) or (D,)
        try:
            found = sorted({int(part) for part in self.widths.split("+")})
        except ValueError:
            raise ConfigError(
                f"{self.name}: widths={self.widths!r}", hint="write whole numbers: 32+64+128"
            ) from None
        for k in found:
            if not 1 <= k <= D:
                raise ConfigError(
                    f"{self.name}: widths={self.widths}: {k} is outside [1, {D}]",
                    hint=f"the model gives vectors of {D} numbers",
                )
        return tuple(found)
