"""The triplet loss with a spring to the first weights, and new words for a network's tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from tokenspace.examples import Examples
from tokenspace.nn.by_length import text_vectors
from tokenspace.nn.contrastive import ContrastiveLoss, contrast_rows, rows_dataset
from tokenspace.nn.layers import network_of
from tokenspace.nn.quiet import quiet
from tokenspace.nn.sentence import dataset, pair_loss
from tokenspace.rng import stream

from .domain_words import DomainWords, append

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from .triplets import Form

__all__ = ["Replay", "SpringLoss", "replay", "widened"]

TEMPERATURE = 0.05  # that cosines of general examples are divided by


class SpringLoss(nn.Module):
    """What :mod:`tokenspace.encode.tvec` writes as loss.

    The last ``new`` rows of the input matrix are free of the spring.
    """

    def __init__(
        self, model: SentenceTransformer, *, form: Form, alpha: float, l2sp: float, new: int = 0
    ) -> None:
        from sentence_transformers.sentence_transformer import losses

        super().__init__()
        self.model, self.soft, self.alpha, self.l2sp = model, form == "soft", alpha, l2sp
        metric: Any = losses.TripletDistanceMetric
        self.distance = metric.EUCLIDEAN if form == "euclidean" else metric.COSINE
        self.hinge = losses.TripletLoss(model, self.distance, alpha)
        network: Any = network_of(model) if new else None
        table = network.get_input_embeddings().weight if new else None
        self.held: list[tuple[Tensor, Tensor]] = []  # a list, so that the start is no weight
        for weight in model.parameters() if l2sp else ():
            known = weight[:-new] if weight is table else weight
            self.held.append((weight, known.detach().clone()))

    def forward(self, features: Sequence[Mapping[str, Any]], labels: Tensor) -> Tensor:
        """Return the loss of a batch whose columns are ``features``."""
        a, p, n = text_vectors(self.model, features)
        return self.of_vectors(a, p, n) + self.spring()

    def of_vectors(self, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
        """Return the loss without the spring."""
        if self.soft:
            return softplus(self.distance(a, p) - self.distance(a, n) + self.alpha).mean()
        return self.hinge.compute_loss_from_embeddings([a, p, n], torch.zeros(0))

    def spring(self) -> Tensor | float:
        """Return (l2sp / 2) ||w - w0||^2."""
        parts = [
            mse_loss(
                weight if weight.shape == start.shape else weight[: len(start)],
                start,
                reduction="sum",
            )
            for weight, start in self.held
        ]
        return self.l2sp / 2 * torch.stack(parts).sum() if parts else 0.0


class Replay(nn.Module):
    """The loss of general examples, and the spring that holds in these steps as well."""

    def __init__(self, spring: SpringLoss, own: nn.Module) -> None:
        super().__init__()
        self.model, self.spring, self.own = spring.model, spring, own

    def forward(self, features: Sequence[Mapping[str, Any]], labels: Tensor) -> Tensor:
        """Return the loss of a batch whose columns are ``features``."""
        value: Tensor = self.own(features, labels)
        return value + self.spring.spring()


def replay(
    spring: SpringLoss, examples: Examples, rows: int, *, seed: int
) -> tuple[Dataset, Replay]:
    """Return so many ``rows`` of general examples, each as often as any other, and their loss.

    Scored pairs are ranked (CoSENT); of others each text has to find its own among the batch.
    """
    draw = stream(seed, "replay")

    def chosen(among: int) -> list[int]:
        turns = [draw.permutation(among) for _ in range(-(-rows // among))]
        return [int(row) for row in np.concatenate(turns)[:rows]]

    if examples.kind == "scored":
        taken = examples.take(chosen(len(examples)))
        return dataset(taken), Replay(spring, pair_loss(spring.model, taken))
    labelled = examples.kind == "labelled"
    found = contrast_rows(examples, in_batch=not labelled, negatives=int(labelled), seed=seed)
    taken_rows = [found[row] for row in chosen(len(found))]
    return rows_dataset(taken_rows), Replay(spring, ContrastiveLoss(spring.model, TEMPERATURE))


def widened(
    model: SentenceTransformer, texts: Iterable[str], *, tokens: int, least: int
) -> tuple[int, dict[str, float]]:
    """Add words to a model's tokenizer and matrix, in place; return how many rows, and figures."""
    network: Any = network_of(model)
    wordpieces: Any = model.tokenizer
    words = DomainWords.of(texts, wordpieces.backend_tokenizer)
    chosen = [word for word, _ in words.gains(least=least)[:tokens]]
    figures = {
        "tokens_added": float(len(chosen)),
        "fertility_before": words.fertility,
        "whole_before": words.whole,
    }
    with quiet(), torch.no_grad():
        before = network.get_input_embeddings().weight.clone()
        ids = append(wordpieces, chosen) if chosen else []
        if chosen and max(ids) >= len(before):
            network.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
        table = network.get_input_embeddings().weight
        for word, identity in zip(chosen, ids, strict=True):
            table[identity] = before[list(words.pieces[word])].mean(0)
        new = len(table) - min(ids) if ids else 0
    after = words.again(wordpieces.backend_tokenizer)
    return new, figures | {"fertility": after.fertility, "whole": after.whole}
