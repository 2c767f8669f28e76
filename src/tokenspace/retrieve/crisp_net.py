"""The network and the training of CRISP: a head over given token vectors, or a whole encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids, Ragged
from tokenspace.errors import InputError
from tokenspace.nn.cluster import ClusterPool, chamfer, info_nce, unit_tokens
from tokenspace.nn.decoder import on_threads
from tokenspace.nn.encoder import ModelEncoder
from tokenspace.nn.mask import padding
from tokenspace.nn.train import steps
from tokenspace.progress import track

from .pooling import Pooling, Side, sides

if TYPE_CHECKING:
    from .crisp import CRISP

__all__ = ["Head", "Trained", "encode", "finetune", "reduced", "spans", "train"]

Network = Callable[[Side, Any], tuple[Tensor, Tensor]]
LEAST, SPAN = 16, (5, 11)  # tokens of a document that gives a span, and of the span
WARMUP = 0.1


class Layer(nn.Module):
    """One pre-norm transformer layer without positions; before any training it changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(
            h for h in (8, 4, 2, 1) if width % h == 0 and (width // h >= 16 or h == 1)
        )
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for last in (self.out, self.down):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Mix the real tokens of every item, (B, T, D)."""
        B, T, D = states.shape
        parts = self.qkv(self.norm(states)).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        states = states + self.out(mixed.transpose(1, 2).reshape(B, T, D))
        changed: Tensor = states + self.down(gelu(self.up(self.norm2(states))))
        return changed


class Head(nn.Module):
    """Layers over given token vectors (B, T, D) of any length; gives vectors of length 1."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.scale = width**0.5  # rows of length 1 enter with values of size 1, as norms expect
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the token vectors that are pooled and scored; those of padding are zero."""
        states = self.scale * unit_tokens(states, mask)
        for layer in self.layers:
            states = layer(states, mask)
        return normalize(states, dim=2) * mask[..., None]


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights by name, float32, and the figures of the training."""

    weights: Mapping[str, Floats2d]
    metrics: Mapping[str, float]


def reduced(how: Pooling, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``how`` keeps of a batch's tokens (B, K, D), at length 1, and the mask (B, K).

    The kinds are ``all``, ``tail``, ``spacing``, ``even`` and, with draws from torch's generator,
    ``kmeans``; gradients flow as :class:`~tokenspace.nn.cluster.ClusterPool` says.
    """
    if how.kind == "kmeans":
        return ClusterPool(how.amount if how.relative else int(how.amount))(states, mask)  # type: ignore[no-any-return]
    live = unit_tokens(states, mask)
    if how.kind == "all":
        return live, mask
    order = mask.int().argsort(dim=1, descending=True, stable=True)  # real tokens first
    places = [torch.from_numpy(how.places(int(height))) for height in mask.sum(1)]
    kept = padding(torch.tensor([len(row) for row in places])).to(mask.device)
    chosen = nn.utils.rnn.pad_sequence(places, batch_first=True).to(mask.device)
    at = order.gather(1, chosen)[..., None].expand(-1, -1, live.shape[2])
    return live.gather(1, at) * kept[..., None], kept


def loss_of(recipe: CRISP, network: Network, batch: Mapping[str, Any]) -> Tensor:
    """Return the loss of one batch, by a network that turns a side's part of it into vectors.

    ``batch`` has ``query`` and ``document``, B items each, the second perhaps followed by hard
    negatives, and ``pruned``: whether the variant is on or all tokens are kept.
    """
    kept = {}
    for side, word in zip(("query", "document"), sides(recipe.variant), strict=True):
        how = Pooling.parse(word) if bool(batch["pruned"]) else Pooling("all")
        kept[side] = reduced(how, *network(side, batch[side]))  # type: ignore[arg-type]
    return info_nce(chamfer(*kept["query"], *kept["document"]), recipe.tau)


def train(
    recipe: CRISP, queries: Ragged, positives: Ragged, negatives: Ragged | None = None
) -> Trained:
    """Train a head on pairs: item i of ``positives`` answers item i of ``queries``.

    Metrics: the mean loss of the first and the last tenth of the steps.
    """
    width = queries.width
    with on_threads(recipe.threads):
        with rng.torch_scope(recipe.seed, "crisp"):
            head = Head(width, recipe.layers)

        def loss(module: nn.Module, batch: Mapping[str, Any]) -> Tensor:
            def network(side: Side, part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
                return module(*part), part[1]

            return loss_of(recipe, network, batch)

        def batch(numbers: Ids) -> dict[str, Any]:
            docs = [positives[i] for i in numbers]
            docs += [negatives[i] for i in numbers] if negatives is not None else []
            limit = recipe.longest
            return {
                "query": _padded([queries[i][:limit] for i in numbers]),
                "document": _padded([rows[:limit] for rows in docs]),
            }

        figures = _run(recipe, head, loss, batch, len(queries))
        weights = {name: value.numpy().copy() for name, value in head.cpu().state_dict().items()}
    return Trained(weights, figures)


def _run(
    recipe: CRISP,
    module: nn.Module,
    loss: Callable[[nn.Module, Mapping[str, Any]], Tensor],
    batch: Callable[[Ids], dict[str, Any]],
    count: int,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
) -> dict[str, float]:
    """Take the recipe's steps; return the mean loss of the first and the last tenth of them."""
    unpruned = round(recipe.unpruned * recipe.steps)

    def batches() -> Iterator[dict[str, Any]]:
        draw, step = rng.stream(recipe.seed, "pairs"), 0
        size = min(recipe.batch, count)
        while True:
            order = draw.permutation(count)
            for start in range(0, count - size + 1, size):
                part = batch(order[start : start + size])
                yield {**part, "pruned": torch.tensor(step >= unpruned)}
                step += 1

    ticks = steps(
        module,
        loss,
        batches(),
        lr=recipe.lr,
        total=recipe.steps,
        warmup=round(WARMUP * recipe.steps),
        seed=recipe.seed,
        betas=betas,
    )
    losses = [tick.loss for tick in track(ticks, "train", total=recipe.steps)]
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    return {"loss_first": first, "loss_last": last}


def _padded(matrices: Sequence[Floats2d]) -> tuple[Tensor, Tensor]:
    """Return the matrices padded on the right with zeros (B, T, D), and the mask (B, T)."""
    heights = [len(matrix) for matrix in matrices]
    states = np.zeros((len(matrices), max(heights), matrices[0].shape[1]), np.float32)
    for row, matrix in zip(states, matrices, strict=True):
        row[: len(matrix)] = matrix
    return torch.from_numpy(states), padding(torch.tensor(heights))


def encode(recipe: CRISP, weights: Mapping[str, Floats2d], items: Ragged) -> Ragged:
    """Return the head's token vectors of every item, all of them, (T_i, D) float32.

    Items pass one by one, so that a vector depends on its own item alone, to the last bit; one
    without tokens stays so.
    """
    with torch.device("meta"):  # nothing is drawn for weights that are replaced
        head = Head(items.width, recipe.layers)
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    head.load_state_dict(state, assign=True)
    head.eval()
    flat = np.empty(items.flat.shape, np.float32)
    with on_threads(recipe.threads), torch.inference_mode():
        for i in track(range(len(items)), "encode"):
            rows = np.array(items[i], np.float32)
            if len(rows):
                states = torch.from_numpy(rows)[None]
                out = head(states, torch.ones(states.shape[:2], dtype=torch.bool))
                flat[items.offsets[i] : items.offsets[i + 1]] = out[0].numpy()
    return Ragged(flat, np.array(items.offsets, np.int64))


def spans(docs: Ragged, *, seed: int = 0) -> tuple[Ragged, Ragged]:
    """Make pairs of documents alone: 5 to 11 tokens in a row, and the rest of their document.

    Documents of fewer than 16 tokens give none. The pairs come in an order of their contents, so
    that the order of the documents does not matter.
    """
    chosen = np.flatnonzero(docs.heights >= LEAST).tolist()
    if not chosen:
        raise InputError(
            f"docs: none has the {LEAST} tokens that a training pair is cut from",
            hint="give train_queries and train_docs",
        )
    digests = {i: hashlib.blake2b(docs[i].tobytes(), digest_size=8).digest() for i in chosen}
    draw = rng.stream(seed, "spans")
    queries, rests = [], []
    for i in sorted(chosen, key=digests.__getitem__):
        rows = docs[i]
        length = int(draw.integers(SPAN[0], SPAN[1] + 1))
        start = int(draw.integers(0, len(rows) - length + 1))
        queries.append(rows[start : start + length])
        rests.append(np.concatenate([rows[:start], rows[start + length :]]))
    return Ragged.pack(queries, docs.width), Ragged.pack(rests, docs.width)


# A whole encoder


class _Encoder(nn.Module):
    """A pretrained encoder as one module: a side and texts to token vectors and their mask."""

    def __init__(self, encoder: ModelEncoder) -> None:
        super().__init__()
        self.by_side = {
            "query": encoder.prompted("query"),
            "document": encoder.prompted("document"),
        }
        body: Any = encoder.body
        self.network: nn.Module = body.network if hasattr(body, "network") else body.model

    def forward(self, side: Side, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the vectors of a batch's tokens (B, T, D), and which of them count (B, T)."""
        return self.by_side[side].states(texts)


def finetune(
    recipe: CRISP,
    encoder: ModelEncoder,
    pairs: Sequence[tuple[str, str]],
    negatives: Sequence[str] | None = None,
) -> dict[str, float]:
    """Train a pretrained encoder in place on (query, document) texts; return the figures.

    Raises :class:`InputError` for a text that gives no token.
    """
    module = _Encoder(encoder)

    def loss(network: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        return loss_of(recipe, network, batch)

    def batch(numbers: Ids) -> dict[str, Any]:
        chosen = [pairs[i] for i in numbers]
        docs = [document for _, document in chosen]
        docs += [negatives[i] for i in numbers] if negatives is not None else []
        return {"query": [query for query, _ in chosen], "document": docs}

    with on_threads(recipe.threads):
        figures = _run(recipe, module, loss, batch, len(pairs))
    module.network.eval()
    return figures
