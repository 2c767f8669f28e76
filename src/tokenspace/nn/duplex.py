"""A pre-trained encoder with two representations: its vector, and the words that it speaks of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.activations import ACT2FN

from tokenspace.arrays import Floats2d
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.layers import network_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "ROOM",
    "DuplexEncoder",
    "Head",
    "body_network",
    "head_form",
    "head_of",
    "home_of",
    "new_head",
    "option",
]

FILE, WEIGHTS = "duplex.json", "pretraining.safetensors"
ROOM = 1 << 22  # logits that are held at a time
HALF = 384  # numbers of the dense part, and words of the other, at most

HEADS = (
    ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions"),
    ("lm_head.dense", "lm_head.layer_norm", "lm_head"),
    ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    ("head.dense", "head.norm", "decoder"),
)
"""What BERT, RoBERTa (also MPNet), DistilBERT and ModernBERT call the parts of their heads."""


class Head(nn.Module):
    """From states to what is compared with the words' rows; the rows are the network's own."""

    def __init__(self, width: int, words: int, activation: str, eps: float) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=eps)
        self.bias = nn.Parameter(torch.zeros(words))
        self.activation = ACT2FN[activation]
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return (..., D) of states (..., D)."""
        found: Tensor = self.norm(self.activation(self.dense(states)))
        return found


def new_head(network: Any) -> Head:
    """Return a head with new weights that fits a network."""
    return Head(*head_form(network))


def head_form(network: Any) -> tuple[int, int, str, float]:
    """Return the width, words, activation and epsilon of the norm that fit a network's head."""
    config, rows = network.config, network.get_input_embeddings().weight
    eps = float(option(config, "layer_norm_eps", "norm_eps", default=1e-12))
    activation = option(config, "hidden_act", "activation", "hidden_activation", default="gelu")
    return rows.shape[1], len(rows), activation, eps


def option(config: Any, *names: str, default: Any) -> Any:
    """Return the first of a configuration's options that is there."""
    return next((v for name in names if (v := getattr(config, name, None)) is not None), default)


def body_network(body: Any) -> Any:
    """Return the network of transformers inside the body of an encoder."""
    return body.network if hasattr(body, "network") else network_of(body.model)


def home_of(model: Any) -> Path | None:
    """Return the directory that an encoder was read from, if it is still there."""
    folder = Path(str(getattr(body_network(model.body), "name_or_path", "")))
    return folder if folder.is_dir() else None


def head_of(model: Any) -> dict[str, Tensor]:
    """Return the head that came with an encoder, by :class:`Head`'s names, or nothing.

    That of a :class:`DuplexEncoder`, or of the language model in the directory that it was read
    from.
    """
    if isinstance(model, DuplexEncoder):
        return {
            name.removeprefix("head."): torch.tensor(value)
            for name, value in model.pretraining.items()
            if name.startswith("head.")
        }
    folder = home_of(model)
    return {} if folder is None else _stored_head(folder)


def _stored_head(folder: Path) -> dict[str, Tensor]:
    """Return the head that a directory's language model has, or nothing where it has none."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = set(tensors.keys())
            for dense, norm, out in HEADS:
                wanted = {
                    "dense.weight": f"{dense}.weight",
                    "dense.bias": f"{dense}.bias",
                    "norm.weight": f"{norm}.weight",
                    "norm.bias": f"{norm}.bias",
                    "bias": f"{out}.bias",
                }
                if {wanted["dense.weight"], wanted["norm.weight"], wanted["bias"]} <= names:
                    return {
                        ours: tensors.get_tensor(theirs).float()
                        for ours, theirs in wanted.items()
                        if theirs in names
                    }
    return {}


@dataclass(frozen=True, eq=False)
class DuplexEncoder(ModelEncoder):
    """An encoder whose vector is [CLS], with the head that names words and its training's decoder.

    ``pretraining`` holds the weights of head and decoder by name, ``axes`` (D, D) the principal
    directions of the vectors of the text that it was trained on, a column each, ``metrics`` the
    figures of that training.

    A document is :meth:`dense` beside its :meth:`lexical` words; a query is :meth:`dense` beside
    :meth:`words`, and :class:`tokenspace.retrieve.hybrid.HybridIndex` searches them.
    """

    pretraining: Mapping[str, Floats2d] = field(default_factory=dict)
    axes: Floats2d = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def half(self) -> int:
        """Width of the dense part, and how many words are kept, where nothing else is asked."""
        return min(HALF, max(1, self.dim // 2))

    def dense(
        self, texts: Sequence[str], *, dims: int | None = None, batch_size: int = 32
    ) -> Floats2d:
        """Return the first ``dims`` principal coordinates of every text's vector, (N, dims)."""
        dims = self.half if dims is None else dims
        if not 1 <= dims <= self.dim:
            raise ConfigError(f"dims={dims} is outside [1, {self.dim}]")
        found: Floats2d = self.encode(texts, batch_size=batch_size) @ self.axes[:, :dims]
        return found

    def words(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return μ, the greatest logit of each of V words over a text's tokens, (N, V) float32.

        The first place, [CLS], takes no part. An empty text is told from its other special tokens.
        """
        found = np.empty((len(texts), len(self.pretraining["head.bias"])), np.float32)
        for rows, logits in self._words(texts, batch_size):
            found[rows] = logits
        return found

    def lexical(
        self, texts: Sequence[str], *, top: int | None = None, batch_size: int = 32
    ) -> csr_array:
        """Return the ``top`` greatest of every text's :meth:`words`, a sparse (N, V) float32.

        Equal values are taken in the order of the words; indices ascend within a row.
        """
        from scipy.sparse import csr_array

        V = len(self.pretraining["head.bias"])
        top = min(self.half, V) if top is None else top
        if not 1 <= top <= V:
            raise ConfigError(f"top={top} is outside [1, {V}]")
        indices = np.empty((len(texts), top), np.int32)
        values = np.empty((len(texts), top), np.float32)
        for rows, logits in self._words(texts, batch_size):
            least = np.partition(logits, V - top, axis=1)[:, V - top, None]
            # the greatest, and of those that equal the least of them the first
            spare = top - (logits > least).sum(axis=1, keepdims=True)
            equal = logits == least
            chosen = (logits > least) | (equal & (equal.cumsum(axis=1) <= spare))
            indices[rows] = np.nonzero(chosen)[1].reshape(len(logits), top)
            values[rows] = logits[chosen].reshape(len(logits), top)
        ends = np.arange(0, indices.size + 1, top, dtype=np.int64)
        return csr_array((values.ravel(), indices.ravel(), ends), shape=(len(texts), V))

    def save(self, path: str | Path) -> None:
        """Write a directory that ``SentenceTransformer`` loads, with what it does not need beside.

        ``duplex.json`` and ``pretraining.safetensors`` hold the head, the decoder and the axes.
        """
        with replacing(path) as partial:
            partial.mkdir()
            self.body.save(partial, self.prompts, self.prompt)
            save_tensors(partial / WEIGHTS, {**self.pretraining, "axes": self.axes})
            said = json.dumps({"metrics": dict(self.metrics)}, indent=1)
            (partial / FILE).write_text(said + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Self:
        """Open what :meth:`save` wrote; ``options`` are those of ``load_encoder``.

        Raises :class:`~tokenspace.errors.InputError` for a directory that is not of this kind, and
        :class:`~tokenspace.errors.FormatError` where a file of one is missing or damaged.
        """
        path = Path(path)
        if not (path / FILE).is_file():
            raise InputError(
                f"{path}: no encoder that names words",
                hint="make one with tokenspace encode dupmae",
            )
        plain = load_encoder(str(path), **options)
        try:
            weights = {k: np.array(v, np.float32) for k, v in read_tensors(path / WEIGHTS).items()}
            axes = weights.pop("axes")
            said = json.loads((path / FILE).read_text(encoding="utf-8"))
            made = cls(
                plain.body, plain.prompts, plain.prompt, weights, axes, dict(said["metrics"])
            )
            if axes.shape != (made.dim, made.dim):
                raise ValueError(f"axes of shape {axes.shape} for vectors of {made.dim}")
            made._head  # noqa: B018 - fails where weights are missing or of other shapes
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as fault:
            raise FormatError(
                f"{path}: not a whole encoder with its head ({fault})",
                hint="copy the directory again",
            ) from fault
        return made

    @cached_property
    def _head(self) -> Head:
        head = new_head(body_network(self.body))
        head.load_state_dict(head_of(self))
        return head.to(self.body.device).eval()

    def _words(self, texts: Sequence[str], batch_size: int) -> Iterator[tuple[list[int], Floats2d]]:
        """Yield the rows of a batch, and their μ."""
        embedding: Any = body_network(self.body)
        E: Tensor = embedding.get_input_embeddings().weight
        size = max(1, ROOM // len(E))
        for rows, encodings, states, _ in self._forward(texts, batch_size):
            found = np.empty((len(rows), len(E)), np.float32)
            for row, encoding, state in zip(found, encodings, states, strict=True):
                inner = self._head(state[1 : len(encoding)])  # (T - 1, D)
                best = torch.full((len(E),), -torch.inf, device=inner.device)
                for start in range(0, len(inner), size):
                    logits = inner[start : start + size] @ E.T + self._head.bias
                    best = torch.maximum(best, logits.amax(0))
                row[:] = best.cpu().numpy()
            yield rows, found
