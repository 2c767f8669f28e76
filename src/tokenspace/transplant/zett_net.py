"""The network of ZeTT in torch, its training, and the rows that it predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.checkpoint import Checkpoint
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.nn.mask import softmax
from tokenspace.nn.score import blocks, start_token
from tokenspace.nn.train import steps
from tokenspace.progress import track
from tokenspace.surface import CHARACTERS
from tokenspace.transplant._sampler import LEAST, Sampler, tokenizer
from tokenspace.transplant._shared import written
from tokenspace.transplant.hypernet import Hypernet, Shape, identity
from tokenspace.vocab import Vocabulary

if TYPE_CHECKING:
    from tokenspace.transplant.zett import ZeTT

__all__ = ["Network", "ProjectorBlock", "Scaler", "predict", "train"]

CONTEXT, WINDOWS, NEGATIVES = 64, 12, 384  # tokens of a window; windows and other rows of a step
POOL, TEXTS, SPREAD = 24, 16, 2.0  # batches in the queue, texts of a batch, spread of the noise
IDENTITY = 512  # source tokens in a step of the warm-up
MASKED = 0.15
_TEXTS = 50_000  # blocks of 2,000 bytes that are held
_BYTE = {character: byte for byte, character in enumerate(CHARACTERS)}
_IGNORED = -100


class Scaler(nn.Module):
    """x ⊙ scale + shift, for every column."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled columns, (m, n)."""
        return x * self.scale + self.shift

    def fit(self, x: Tensor, goal: Tensor | None = None) -> None:
        """Give ``x`` the mean and deviation of every column of ``goal``, or 0 and 1."""
        with torch.no_grad():
            mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
            self.scale.copy_((1.0 if goal is None else goal.std(0)) / std)
            self.shift.copy_((0.0 if goal is None else goal.mean(0)) - self.scale * mean)


class ProjectorBlock(nn.Module):
    """LayerNorm(x + gelu(W_2 gelu(W_1 x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return states of the same shape, (..., width)."""
        inner = gelu(self.inner(x), approximate="tanh")
        out: Tensor = self.norm(x + gelu(self.outer(inner), approximate="tanh"))
        return out


class Block(nn.Module):
    """A pre-norm layer of the encoder; ``first`` computes the first position alone."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, real: Tensor, *, first: bool) -> Tensor:
        """Return the states (m, L, h), or those of the first position (m, 1, h)."""
        m, length, h = x.shape
        parts = self.qkv(self.before(x)).view(m, length, 3, self.heads, h // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # (m, heads, length, h / heads) each
        if first:
            x, q = x[:, :1], q[:, :, :1]
        weights = softmax(q @ k.mT / q.shape[-1] ** 0.5, real[:, None, None, :])
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(gelu(self.up(self.between(x)), approximate="tanh"))
        return out


class Head(nn.Module):
    """From the first position's state to a row of one side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block, self.row = ProjectorBlock(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return rows (m, d) for states (m, h)."""
        out: Tensor = self.row(self.block(x))
        return out


class Network(nn.Module):
    """H_θ: the rows of a token's pieces (m, L, n), with the mask of the real ones, to its row."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        n, h = shape.width, shape.hidden
        self.scale_in, self.scale_out = Scaler(n), Scaler(n)
        self.lift, self.entry = nn.Linear(n, h), ProjectorBlock(h)
        self.positions = nn.Parameter(0.02 * torch.randn(shape.maxlen, h))
        self.blocks = nn.ModuleList(Block(h, shape.heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(h, eps=1e-6)
        self.heads = nn.ModuleList(Head(h) for _ in range(shape.sides))

    def forward(self, rows: Tensor, real: Tensor) -> Tensor:
        """Return the predicted rows, (m, n)."""
        x = self.entry(self.lift(self.scale_in(rows))) + self.positions[: rows.shape[1]]
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, real, first=i == last)
        x = self.norm(x[:, 0])
        out: Tensor = self.scale_out(torch.cat([head(x) for head in self.heads], dim=1))
        return out


def predict(hypernet: Hypernet, pieces: Ids2d) -> Floats2d:
    """Return the rows of tokens whose pieces are ``pieces`` (m, L) of the base, padded with -1."""
    with torch.device("meta"):  # weights that are replaced need no draws
        network = Network(hypernet.shape)
    weights = {name: torch.from_numpy(np.array(a)) for name, a in hypernet.weights.items()}
    network.load_state_dict(weights, assign=True)
    network.eval()
    found = np.zeros((len(pieces), hypernet.shape.width), np.float32)
    with torch.inference_mode():
        for start in track(range(0, len(pieces), 4096), "rows"):
            part = pieces[start : start + 4096]
            rows = torch.from_numpy(hypernet.base[np.maximum(part, 0)])
            found[start : start + 4096] = network(rows, torch.from_numpy(part >= 0)).numpy()
    return found


# Training


class Batch(NamedTuple):
    """One step: windows of text in a sampled vocabulary, and its tokens in the source's.

    ``inputs`` and ``targets`` (B, T) are places among the m rows; ``pieces`` (m, L) padded with
    -1; ``partner`` (m,) the source's id of the same token, -1 where the row is to be predicted,
    V where nothing is known and the mean row stands in.
    """

    inputs: Tensor
    targets: Tensor
    pieces: Tensor
    partner: Tensor


@dataclass(eq=False)
class Sampling:
    """Batches without end: texts, and a tokenizer for each step."""

    recipe: ZeTT
    texts: Sequence[str]
    source: Vocabulary
    size: int
    context: int
    masked: bool

    def __post_init__(self) -> None:
        self._forms: dict[bytes, Ids] = {}
        self._lead = b" " if self.source.kind in ("words", "bpe-suffix") else b""

    def __iter__(self) -> Iterator[Batch]:
        sampler = Sampler(self.size, spread=SPREAD, pool=POOL)
        seed, source = self.recipe.seed, self.source
        order, draw = rng.stream(seed, "hypernet texts"), rng.stream(seed, "hypernet tokenizers")
        shuffled = (self.texts[i] for i in _endless(order, len(self.texts)))
        while True:
            texts = list(islice(shuffled, TEXTS))
            sampler.add(texts)
            pieces = sampler.draw(draw)
            cut = tokenizer(pieces)
            some = [_slice(text, 8 * self.context, draw) for text in texts[:WINDOWS]]
            rows = [e.ids for e in cut.encode_batch_fast(some, add_special_tokens=False)]
            ids = [np.array(row[: self.context], np.int64) for row in rows]
            others = draw.integers(0, len(pieces), NEGATIVES)
            used = np.unique(np.concatenate([*ids, others]))
            special = [start_token(source)]
            if self.masked:
                special += [source.roles["mask"], source.roles.get("sep", source.roles.get("eos"))]
            known = [-1 if i is None else i for i in special]
            places = [np.searchsorted(used, row) for row in ids]
            inputs, targets = self._windows(places, known, used)
            forms, partner = self._written([pieces[i][0] for i in used.tolist()], known)
            arrays = (inputs, targets, forms, partner)
            yield Batch(*(torch.from_numpy(array) for array in arrays))

    def _windows(self, rows: Sequence[Ids], known: Sequence[int], used: Ids) -> tuple[Ids2d, Ids2d]:
        """Return inputs and targets; special tokens stand behind the used ones."""
        start = [len(used)] if known[0] >= 0 else []
        end = [len(used) + 2] if self.masked and known[2] >= 0 else []
        inputs = np.zeros((len(rows), self.context + len(start) + len(end)), np.int64)
        targets = np.full_like(inputs, _IGNORED)
        draw = rng.stream(self.recipe.seed, "masked", int(used.sum()))
        for i, row in enumerate(rows):
            line = np.concatenate([start, row, end]).astype(np.int64)
            inputs[i, : len(line)] = line
            if self.masked:
                inputs[i, len(line) :] = len(used) + 1
                chosen = len(start) + np.flatnonzero(draw.random(len(row)) < MASKED)
                targets[i, chosen] = line[chosen]
                inputs[i, chosen] = len(used) + 1
            else:
                targets[i, : len(line) - 1] = line[1:]
        return inputs, targets

    def _written(self, tokens: Sequence[str], known: Sequence[int]) -> tuple[Ids2d, Ids]:
        """Return pieces and partners of tokens and, behind them, of the source's special ones."""
        surfaces = [bytes(_BYTE[c] for c in token) for token in tokens]
        fresh = [s for s in surfaces if s not in self._forms]
        found = written([self._lead + s for s in fresh], self.source)
        self._forms.update(zip(fresh, (found[i] for i in range(len(found))), strict=True))
        forms = [self._forms[s] for s in surfaces]
        pieces = np.full((len(forms) + len(known), self.recipe.maxlen), -1, np.int64)
        partner = np.full(len(pieces), -1, np.int64)
        for i, (surface, form) in enumerate(zip(surfaces, forms, strict=True)):
            pieces[i, : len(form)] = form[: self.recipe.maxlen]
            if len(form) == 1 and self.source.surfaces[int(form[0])] == surface:
                partner[i] = form[0]
            elif not len(form):
                partner[i] = len(self.source)
        partner[len(forms) :] = [i if i >= 0 else len(self.source) for i in known]
        return pieces[:, : max(1, int((pieces >= 0).sum(1).max()))], partner


class _Bare(nn.Module):
    """Stands for the output matrix, so that a model gives the states that it would multiply."""

    bias = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the states as they are."""
        return x


@dataclass(eq=False)
class Losses:
    """The two losses of training, with the frozen model and its rows ``E`` (V + 1, n).

    The last row of ``E`` is the mean row.
    """

    body: nn.Module
    E: Tensor
    sides: int
    auxiliary: float
    scale: float = 1.0

    def to(self, device: torch.device) -> None:
        """Move model and rows."""
        if self.E.device != device:
            self.body, self.E = self.body.to(device), self.E.to(device)

    def copied(self, module: nn.Module, ids: Tensor) -> Tensor:
        """Return mean ‖ê − e‖² over source tokens that are written as themselves, (N,) ids."""
        self.to(ids.device)
        e = self.E[ids]
        real = torch.ones_like(ids, dtype=torch.bool)[:, None]
        found: Tensor = module(e[:, None], real)
        return (found - e).square().sum(1).mean() / self.sides

    def main(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the model's loss on the windows, plus the auxiliary loss."""
        self.to(batch.inputs.device)
        pieces, partner = batch.pieces, batch.partner
        found: Tensor = module(self.E[pieces.clamp_min(0)], pieces >= 0)
        e = self.E[partner.clamp_min(0)]
        rows = torch.where((partner >= 0)[:, None], e, found)
        split = rows.chunk(self.sides, dim=1)
        states = self.body(inputs_embeds=split[0][batch.inputs] * self.scale).logits
        logits = states.flatten(0, 1) @ split[-1].T
        loss = cross_entropy(logits, batch.targets.flatten(), ignore_index=_IGNORED)
        own = (partner >= 0) & (partner < len(self.E) - 1) & (pieces[:, 0] >= 0)
        missed, length = (found[own] - e[own]).square().sum(1), e[own].norm(dim=1)
        out: Tensor = loss + self.auxiliary * missed.mean() / length.mean() / self.sides
        return out


def train(recipe: ZeTT, model: Checkpoint, corpus: Corpus) -> Hypernet:
    """Train a network for ``model`` on ``corpus``, as ``recipe`` says."""
    body, scale = _body(model)
    source, sides = model.vocab, 1 if model.tied else 2
    names = ("input", "output")[:sides]
    base = np.concatenate([model.table(name).vectors for name in names], axis=1)
    size = _size(recipe, source)
    texts = list(islice(blocks((text for text in corpus if text.strip()), 2000, " "), _TEXTS))
    if not texts:
        raise InputError(f"{recipe.name}: the corpus has no text", hint="give some thousand bytes")
    limit = int(getattr(body.config, "max_position_embeddings", CONTEXT + 2)) - 2
    sampling = Sampling(recipe, texts, source, size, min(CONTEXT, limit), model.masked)
    shape = Shape(base.shape[1], sides, recipe.layers, _heads(model.width), recipe.maxlen)
    real = np.array([i for i in range(len(source)) if i not in source.holes], np.int64)
    E = torch.from_numpy(np.concatenate([base, base[real].mean(0, keepdims=True)]))
    losses = Losses(body, E, sides, recipe.auxiliary, scale)
    with rng.torch_scope(recipe.seed, "hypernet weights"):
        network = Network(shape)
    batches = iter(sampling)
    first = next(batches)
    network.scale_in.fit(E[real])
    with torch.no_grad():
        shown = network(E[first.pieces.clamp_min(0)], first.pieces >= 0)
    network.scale_out.fit(shown[first.pieces[:, 0] >= 0], E[real])
    settings: dict[str, Any] = {"betas": (0.9, 0.95), "lr": recipe.lr, "seed": recipe.seed}
    copies = _identity(real, recipe.seed)
    ticks: Iterator[Any] = iter(())
    if recipe.identity_steps:
        warm = min(30, recipe.identity_steps)
        ticks = steps(
            network, losses.copied, copies, total=recipe.identity_steps, warmup=warm,
            decay="none", **settings,
        )  # fmt: skip
    last = [tick.loss for tick in track(ticks, "identity", total=recipe.identity_steps)]
    ticks = steps(
        network, losses.main, batches, total=recipe.steps, warmup=min(30, recipe.steps), **settings
    )
    main = [tick.loss for tick in track(ticks, "hypernet", total=recipe.steps)]
    notes = {
        "recipe": recipe.to_dict(),
        "model": model.root.name,
        "vocab_size": size,
        "identity_loss": float(np.mean(last[-50:])) if last else 0.0,
        "loss_first": float(np.mean(main[:50])),
        "loss_last": float(np.mean(main[-50:])),
    }
    weights = {name: array.cpu().numpy().copy() for name, array in network.state_dict().items()}
    return Hypernet(shape, weights, base, identity(source), notes)


def _body(model: Checkpoint) -> tuple[Any, float]:
    """Return the frozen model without its output matrix, and what its input rows are scaled by."""
    from tokenspace.nn.quality import language_model
    from tokenspace.nn.quiet import quiet

    with quiet():
        body = language_model(model.root)
    if body is None:
        raise InputError(
            f"{model.root}: no language model, so no loss to train a network by",
            hint="use a method without training, such as retok, or give a hypernet",
        )
    if model.masked and "mask" not in model.vocab.roles:
        raise InputError(
            f"{model.root}: a masked model whose vocabulary has no mask token",
            hint="name the mask token in its tokenizer_config.json",
        )
    if model.setting("final_logit_softcapping"):
        raise InputError(
            f"{model.root}: a model that caps its logits cannot be trained through",
            hint="use a method without training, such as retok, or give a hypernet",
        )
    scale = float(getattr(body.get_input_embeddings(), "embed_scale", 1.0))
    body.set_output_embeddings(_Bare())
    return body.requires_grad_(False), scale


def _size(recipe: ZeTT, source: Vocabulary) -> int:
    """Return how many tokens a sampled vocabulary has; at least some that are no single bytes."""
    if isinstance(recipe.vocab_size, int):
        return recipe.vocab_size
    return max(LEAST, min(32_768, len(source) * 3 // 4))


def _heads(width: int) -> int:
    if width >= 256 and width % 64 == 0:
        return width // 64
    return next(count for count in (4, 2, 1) if width % count == 0)


def _endless(draw: np.random.Generator, count: int) -> Iterator[int]:
    while True:
        yield from draw.permutation(count).tolist()


def _identity(real: Ids, seed: int) -> Iterator[Tensor]:
    draw = rng.stream(seed, "hypernet identity")
    while True:
        yield torch.from_numpy(draw.choice(real, min(IDENTITY, len(real)), replace=False))


def _slice(text: str, length: int, draw: np.random.Generator) -> str:
    """Return a stretch of a text that begins at a word, with a space before it."""
    start = int(draw.integers(0, max(1, len(text) - length)))
    begin = text.find(" ", start) + 1 if start else 0
    return " " + text[begin : begin + length].lstrip()
