"""Contrast with chosen negatives, and with those of the batch for the rows that may have them.

In a row of classified texts, the other rows of the batch are no negatives: with k classes one in k
is of the same class. The rows of one batch may therefore differ in what they are contrasted with,
which the losses of sentence-transformers do not offer (Lee et al., NV-Embed, 2024,
arXiv:2405.17428, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, pad

from tokenspace.arrays import Floats2d
from tokenspace.errors import InputError
from tokenspace.examples import Examples
from tokenspace.nn.by_length import text_vectors
from tokenspace.rng import stream
from tokenspace.text_encoder import TextEncoder

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

__all__ = ["ContrastiveLoss", "Rows", "contrast_rows", "rows_dataset", "topk_negatives"]

Rows = list[tuple[str, str, list[str], bool]]
"""Anchor, positive, negatives, and whether the texts of other rows are negatives as well."""

_BLOCK = 1024  # anchors that are compared with all texts at a time


class ContrastiveLoss(nn.Module):
    """The mean over rows of -ln softmax(cos(q, d) / temperature) at the row's own positive.

    A row's softmax runs over its positive and its own negatives and, where its ``label`` says so,
    over those of the other rows, but for texts that are equal to its positive. The label is
    2 n + b: n of the columns of negatives are filled, and b is 1 for a row that sees the others.
    """

    def __init__(self, model: SentenceTransformer, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, features: Sequence[Mapping[str, Any]], labels: Tensor) -> Tensor:
        """Return the loss of columns ``anchor``, ``positive`` and negatives."""
        q, *docs = (normalize(v, dim=1) for v in text_vectors(self.model, features))
        seen = visible(_equal_texts(features[1:]), labels)
        logits = q @ torch.cat(docs).T / self.temperature  # (B, (1 + n) B)
        own = torch.arange(len(q), device=q.device)
        return cross_entropy(logits.masked_fill(~seen, -math.inf), own)


def visible(equal: Tensor, labels: Tensor) -> Tensor:
    """Return which documents take part in which row's softmax, (B, (1 + n) B) bool.

    Document c B + j is row j's in column c, the positive in column 0. ``equal`` (B, (1 + n) B)
    marks documents whose text is row i's positive.
    """
    B = len(labels)
    columns = equal.shape[1] // B
    filled, others = labels // 2, labels % 2 == 1
    own = torch.eye(B, dtype=torch.bool, device=equal.device).repeat(1, columns)
    there = (torch.arange(columns, device=equal.device)[:, None] <= filled).flatten()
    seen = there & (own | (others[:, None] & ~equal))
    positive = torch.arange(B, device=equal.device)
    seen[positive, positive] = True
    return seen


def _equal_texts(columns: Sequence[Mapping[str, Any]]) -> Tensor:
    """Return (B, (1 + n) B) bool: which documents have the tokens of which row's positive."""
    width = max(column["input_ids"].shape[1] for column in columns)
    rows = []
    for column in columns:
        ids, mask = column["input_ids"], column["attention_mask"]
        order = mask.sort(dim=1, descending=True, stable=True).indices  # padding may be on the left
        rows.append(pad(((ids + 1) * mask).gather(1, order), (0, width - ids.shape[1])))
    equal: Tensor = (rows[0][:, None] == torch.cat(rows)[None]).all(-1)
    return equal


def contrast_rows(
    examples: Examples, *, in_batch: bool, negatives: int, alike: float = 0.8, seed: int = 0
) -> Rows:
    """Return rows to contrast, made of examples of any kind.

    Of labelled texts, each is an anchor, its positive another text of its class, its ``negatives``
    texts of other classes (example-based labels). Scored pairs that reach ``alike`` of the
    greatest score become two rows, either text being the anchor. Plain texts are their own
    positives. Raises :class:`InputError` where labels are all alike, or no pair is.
    """
    columns = examples.columns
    if examples.kind == "labelled":
        return _by_label(examples, in_batch=in_batch, negatives=negatives, seed=seed)
    if examples.kind == "texts":
        return [(text, text, [], in_batch) for text in columns["text"]]
    pairs = list(zip(columns["anchor"], columns["positive"], strict=True))
    if examples.kind == "scored":
        scores = examples.scores or ()
        chosen = [pair for pair, s in zip(pairs, scores, strict=True) if s >= alike * max(scores)]
        if not chosen or max(scores) <= 0:
            raise InputError("no scored pair is alike", hint="give scores that grow with likeness")
        both = [pair for a, b in chosen for pair in ((a, b), (b, a))]
        return [(a, b, [], in_batch) for a, b in both]
    given: list[list[str]] = [[] for _ in pairs]
    for column in examples.negative_columns:
        for found, text in zip(given, column, strict=True):
            found.extend([text] if text.strip() else [])
    return [(a, p, n, in_batch) for (a, p), n in zip(pairs, given, strict=True)]


def _by_label(examples: Examples, *, in_batch: bool, negatives: int, seed: int) -> Rows:
    texts, labels = examples.columns["text"], examples.columns["label"]
    members: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault(label, []).append(row)
    if len(members) < 2:
        raise InputError(
            f"all {len(texts)} texts have the label {labels[0]!r}", hint="give two classes or more"
        )
    draw = stream(seed, "labels")
    rows: Rows = []
    for row, label in enumerate(labels):
        same = members[label]
        if len(same) < 2:
            continue  # a class of one text has no positive
        other = same[int(draw.integers(len(same) - 1))]
        positive = same[-1] if other == row else other
        apart: list[str] = []
        while len(apart) < negatives:
            candidate = int(draw.integers(len(texts)))
            if labels[candidate] != label:
                apart.append(texts[candidate])
        rows.append((texts[row], texts[positive], apart, in_batch))
    if not rows:
        raise InputError("no class has two texts", hint="give more texts a class")
    return rows


def topk_negatives(rows: Rows, teacher: TextEncoder, count: int, *, margin: float = 0.95) -> Rows:
    """Fill up every row to ``count`` negatives with the nearest positives of other rows.

    Near to the anchor by cosines of the ``teacher``. A text that is nearer than ``margin`` times
    the row's own positive is left out, since it may well be right (positive-aware mining); a row
    whose own positive has no positive cosine gets none.
    """
    short = [row for row, (_, _, given, _) in enumerate(rows) if len(given) < count]
    texts = [positive for _, positive, _, _ in rows]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    candidates = list(places)
    filled = list(rows)
    if not short:
        return filled
    anchors = _unit(teacher.encode([rows[row][0] for row in short]))  # (N, D)
    positives = _unit(teacher.encode(candidates))  # (M, D)
    for start in range(0, len(short), _BLOCK):
        scores = anchors[start : start + _BLOCK] @ positives.T
        for row, every in zip(short[start : start + _BLOCK], scores, strict=True):
            anchor, positive, given, others = rows[row]
            bound = margin * float(every[places[positive]])
            order = np.argsort(-every, kind="stable") if bound > 0 else range(0)
            taken = {anchor, positive, *given}
            fresh = (candidates[i] for i in order if every[i] < bound)
            more = islice((text for text in fresh if text not in taken), count - len(given))
            filled[row] = (anchor, positive, [*given, *more], others)
    return filled


def _unit(vectors: Floats2d) -> Floats2d:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def rows_dataset(rows: Rows) -> Dataset:
    """Return the rows as :class:`ContrastiveLoss` takes them.

    Raises :class:`InputError` where no row has anything to be contrasted with.
    """
    from datasets import Dataset

    if not any(negatives or others for _, _, negatives, others in rows):
        raise InputError(
            "the rows have no negatives, and in-batch negatives are off: the loss would be 0",
            hint="give a column negative, or mine some, or let the batch be negatives",
        )
    widest = max(len(negatives) for _, _, negatives, _ in rows)
    columns: dict[str, list[Any]] = {
        "anchor": [anchor for anchor, _, _, _ in rows],
        "positive": [positive for _, positive, _, _ in rows],
    }
    for place in range(widest):
        columns[f"negative_{place + 1}"] = [
            negatives[place] if place < len(negatives) else "" for _, _, negatives, _ in rows
        ]
    columns["label"] = [2 * len(negatives) + others for _, _, negatives, others in rows]
    return Dataset.from_dict(columns)
