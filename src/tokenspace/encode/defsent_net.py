"""The training of DefSent and DefSent+: rows of entries, and a loss whose rows are held still."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError
from tokenspace.nn.duplex import ROOM, DuplexEncoder, head_of, home_of, new_head
from tokenspace.nn.layers import network_of
from tokenspace.nn.quiet import quiet
from tokenspace.nn.sentence import wrapped
from tokenspace.nn.train import steps
from tokenspace.progress import track
from tokenspace.text_encoder import PretrainedEncoder, Tally

from ._axes import effective_rank, independent, white
from ._batches import bucketed
from .domain_words import cut

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from .defsent import DefSent, Task

__all__ = [
    "Namer",
    "entry_loss",
    "entry_rows",
    "mask_token",
    "scaled",
    "top_of",
    "train_entries",
    "train_round",
    "train_words",
    "turned",
    "with_pooling",
]

EXACT, SAMPLE = 200_000, 16_384  # entries that are all told apart; others that are drawn of more
PROBE = 1024  # definitions whose logits give the scale
TIMES = 100.0  # what the authors multiply independent components by

log = logging.getLogger(__name__)


# The loss


def entry_loss(
    z: Tensor,
    rows: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    sample: Tensor | None = None,
) -> Tensor:
    """Return the mean of -ln softmax(z rowsᵀ + bias)[label], with gradients for ``z`` alone.

    ``z`` (B, D), ``rows`` (N, D), ``labels`` (B,), ``bias`` (N,). Of the entries other than the
    label only those of ``sample`` (K,) are summed where it is given, times N / K: drawn evenly and
    without repetition, that sum has the whole one as its mean. No more than ``ROOM`` logits exist
    at a time, or those of one text.
    """
    loss: Tensor = _EntryLoss.apply(z, rows, labels, bias, sample)  # type: ignore[no-untyped-call]
    return loss


class _EntryLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        rows: Tensor,
        labels: Tensor,
        bias: Tensor | None,
        sample: Tensor | None,
    ) -> Tensor:
        others = rows if sample is None else rows[sample]
        own = (z * rows[labels]).sum(1)
        shift = bias
        if bias is not None:
            own = own + bias[labels]
        if sample is not None:
            more = math.log(len(rows) / len(sample))
            shift = z.new_full((len(sample),), more) if bias is None else bias[sample] + more
        total, slope = z.new_zeros(()), torch.empty_like(z)
        size = max(1, ROOM // len(others))
        for start in range(0, len(z), size):
            part = slice(start, start + size)
            logits = z[part] @ others.T
            if shift is not None:
                logits += shift
            place = labels[part, None]
            if sample is None:
                logits.scatter_(1, place, -torch.inf)  # the label is added apart
            else:
                logits.masked_fill_(sample == place, -torch.inf)
            most = torch.maximum(logits.amax(1), own[part])
            share = logits.sub_(most[:, None]).exp_()
            mine = (own[part] - most).exp()
            whole = share.sum(1) + mine
            total = total + (whole.log() + most - own[part]).sum()
            slope[part] = (share @ others) / whole[:, None]
            slope[part] += (mine / whole - 1)[:, None] * rows[labels[part]]
        ctx.save_for_backward(slope / len(z))
        return total / len(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return (slope * gradient, None, None, None, None)


# The entries


def entry_rows(vectors: Floats2d, text: Ids, entry: Ids) -> Tensor:
    """Return E (N, D), the mean of each entry's definitions' ``vectors``."""
    count = torch.from_numpy(np.bincount(entry)).float()
    total = torch.zeros(len(count), vectors.shape[1])
    total.index_add_(0, torch.from_numpy(entry), torch.from_numpy(vectors[text]))
    return total / count[:, None]


def turned(E: Tensor, kind: str, seed: int) -> Tensor:
    """Return E whose columns are uncorrelated and of variance 1: independent, or white."""
    if kind == "none":
        return E
    rows = E.numpy()
    found = independent(rows, seed) if kind == "ica" else white(rows)
    return torch.from_numpy(found(rows))


def scaled(E: Tensor, z: Tensor, scale: float) -> Tensor:
    """Return E with rows of one length, such that the logits of each z deviate by ``scale``."""
    rms = E.square().mean(1, keepdim=True).sqrt()
    rows = E / torch.where(rms > 0, rms, 1)
    deviation = float((z @ rows.T).std(1, correction=0).mean())
    most = float(z.norm(dim=1).mean()) * E.shape[1] ** 0.5
    if not deviation > 1e-6 * most:  # less is rounding
        raise InputError(
            "definitions: all entries look the same to the model",
            hint="give entries that differ, or a model that was trained",
        )
    return rows * (scale / deviation)


def _figures(E: Tensor) -> dict[str, float]:
    """Return the mean cosine of two different entries, and the effective rank of all."""
    N = len(E)
    unit = nn.functional.normalize(E.double(), dim=1)
    cosine = (unit.sum(0).square().sum() - unit.square().sum()) / (N * (N - 1))
    return {"entry_cosine": float(cosine), "entry_rank": effective_rank(E.numpy())}


# The encoder


def with_pooling(made: SentenceTransformer, pooling: str) -> SentenceTransformer:
    """Return the model with another pooling, or as it is for ``own``.

    Raises :class:`InputError` for other modules than a transformer, a pooling and a normalisation.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    network: Any = network_of(made)
    modules: list[Any] = list(made)
    kinds = [type(module).__name__ for module in modules[1:]]
    if kinds not in (["Pooling"], ["Pooling", "Normalize"]):
        raise InputError(
            f"model: a transformer is followed by {', '.join(kinds) or 'nothing'}",
            hint="give a transformer with a pooling, and perhaps a normalisation",
        )
    if pooling != "own":
        prompt = bool(modules[1].include_prompt)
        modules[1] = Pooling(int(network.config.hidden_size), pooling, include_prompt=prompt)
    return SentenceTransformer(
        modules=modules,
        device=str(made.device),
        prompts={name: text or "" for name, text in made.prompts.items()},
        default_prompt_name=made.default_prompt_name,
        similarity_fn_name=made.similarity_fn_name,
    )


def mask_token(made: SentenceTransformer) -> str:
    """Return what hides a word; :class:`InputError` where the tokenizer has no such token."""
    with quiet():
        token = getattr(made.tokenizer, "mask_token", None)
    if token is None:
        raise InputError(
            "model: its tokenizer has no mask token, so no entry can be hidden",
            hint="leave --mask out, or give an encoder that was trained on masked words",
        )
    return str(token)


class Namer(nn.Module):
    """An encoder without its normalisation, and what follows its pooling in training."""

    def __init__(self, made: SentenceTransformer, top: nn.Module) -> None:
        from sentence_transformers import SentenceTransformer

        super().__init__()
        self.model = SentenceTransformer(
            modules=list(made)[:2],
            device=str(made.device),
            prompts={name: text or "" for name, text in made.prompts.items()},
            default_prompt_name=made.default_prompt_name,
        )
        self.encoder = wrapped(self.model)
        self.top = top.to(made.device)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return z (B, D) of a batch of definitions."""
        found: Tensor = self.top(self.encoder.vectors(texts))
        return found

    def pooled(self, texts: Sequence[str], tally: Tally) -> Floats2d:
        """Return u (M, D) of all definitions, without dropout."""
        self.eval()
        return self.encoder.encode_counted(texts, tally)

    def lengths(self, texts: Sequence[str]) -> Ids:
        """Return how many tokens each text has."""
        body, prefix = self.encoder.body, self.encoder.prefix
        found = body.tokenizer.encode_batch([prefix + text for text in texts])
        return np.array([len(encoding) for encoding in found], np.int64)


def top_of(made: SentenceTransformer, model: Any) -> nn.Module:
    """Return a copy of the layer after the pooling, or of the head's first, or none."""
    pooler: Any = getattr(network_of(made), "pooler", None)
    head, home = head_of(model), home_of(model)
    if isinstance(model, DuplexEncoder) or home is None:
        known = not head  # the head was trained, and of the other layer nothing is known
    else:
        known = _stored(home, "pooler.dense.weight")
    if known and isinstance(getattr(pooler, "dense", None), nn.Linear):
        weight, bias = pooler.dense.weight, pooler.dense.bias
        activation = getattr(pooler, "activation", nn.Tanh())
    elif head:
        weight, bias = head["dense.weight"], head["dense.bias"]
        activation = new_head(network_of(made)).activation
    else:
        return nn.Identity()
    dense = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        dense.weight.copy_(weight)
        dense.bias.copy_(bias)
    return nn.Sequential(dense, activation)


def _stored(folder: Path, name: str) -> bool:
    """Tell whether a tensor of that name, under any prefix, is in a directory."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            if any(key.endswith(name) for key in tensors.keys()):  # noqa: SIM118
                return True
    return False


@contextmanager
def _without_pooler(network: Any) -> Iterator[None]:
    """Keep the network from computing what its own pooler makes of the first token."""
    pooler = getattr(network, "pooler", None)
    if pooler is None:
        yield
        return
    network.pooler = None
    try:
        yield
    finally:
        network.pooler = pooler


# Training


def train_entries(
    made: SentenceTransformer, model: PretrainedEncoder, task: Task, recipe: DefSent
) -> dict[str, float]:
    """Train the transformer of ``made`` in place as DefSent+ does; return figures."""
    module, tally = Namer(made, top_of(made, model)), Tally()
    device = str(made.device)
    with _without_pooler(network_of(made)):
        start = {name: value.clone() for name, value in module.state_dict().items()}
        lengths = module.lengths(task.texts)[task.text]
        figures: dict[str, float] = {}
        for turn in range(recipe.rounds):
            vectors = module.pooled(task.texts, tally if not turn else Tally())
            if not np.isfinite(vectors).all():
                raise InputError(
                    "model: the vector of a definition is not finite",
                    hint="its weights are damaged: copy the directory again",
                )
            module.load_state_dict(start)
            E = entry_rows(vectors, task.text, task.entry)
            last = turn + 1 == recipe.rounds
            E = turned(E, recipe.isotropy if last else "none", recipe.seed)
            E = _at_scale(E, module, task, recipe, white=last and recipe.isotropy != "none")
            figures = _figures(E) | train_round(module, E.to(device), lengths, task, recipe, turn)
    if tally.cut:
        log.warning("%d definitions were cut at the model's limit", tally.cut)
    return {"entries": float(len(E)), "definitions": float(len(task.text)), **figures}


def _at_scale(E: Tensor, module: Namer, task: Task, recipe: DefSent, *, white: bool) -> Tensor:
    if recipe.scale == "reference":
        return E * TIMES if white else E
    some = task.texts[:: max(1, len(task.texts) // PROBE)][:PROBE]
    module.eval()
    with torch.inference_mode():
        parts = [module(some[at : at + recipe.batch]) for at in range(0, len(some), recipe.batch)]
    return scaled(E, torch.cat(parts).float().cpu(), float(recipe.scale))


def train_round(
    module: Namer, E: Tensor, lengths: Ids, task: Task, recipe: DefSent, turn: int
) -> dict[str, float]:
    """Take the steps of a round; ``lengths`` (M,) are those of the rows' texts in tokens."""
    draw = rng.stream(recipe.seed, "batches", turn)
    found = bucketed(lengths, recipe.batch, draw)
    total = len(found)

    def batches() -> Iterator[tuple[list[str], Tensor, Tensor | None]]:
        for step, rows in enumerate(found):
            sample = None
            if len(E) > EXACT:
                some = rng.stream(recipe.seed, "sample", turn, step)
                sample = torch.from_numpy(some.choice(len(E), SAMPLE, replace=False, shuffle=False))
            texts = [task.texts[i] for i in task.text[rows].tolist()]
            yield texts, torch.from_numpy(task.entry[rows]), sample

    def loss(module: nn.Module, batch: tuple[list[str], Tensor, Tensor | None]) -> Tensor:
        texts, labels, sample = batch
        return entry_loss(module(texts), E, labels, sample=sample)

    ticks = steps(
        module, loss, batches(), lr=recipe.lr, total=total, weight_decay=0.0, eps=1e-6,
        seed=rng.derive(recipe.seed, "dropout", turn),
    )  # fmt: skip
    losses = [tick.loss for tick in track(ticks, f"round {turn + 1}", total=total)]
    return _told(losses)


def train_words(
    made: SentenceTransformer, model: PretrainedEncoder, task: Task, recipe: DefSent
) -> dict[str, float]:
    """Train the layers of ``made`` in place as DefSent does; return figures."""
    network: Any = network_of(made)
    state = head_of(model)
    if not state:
        raise InputError(
            "model: no head for masked words came with it",
            hint="use --form plus, which needs none",
        )
    rows = network.get_input_embeddings().weight
    head = new_head(network)
    if state["dense.weight"].shape != head.dense.weight.shape or len(state["bias"]) != len(rows):
        raise InputError(
            "model: its head for masked words is of another width or vocabulary than its layers",
            hint="use --form plus, which needs no head",
        )
    head.load_state_dict({**head.state_dict(), **state})
    head.to(made.device).requires_grad_(False)
    frozen = getattr(network, "embeddings", network.get_input_embeddings())
    frozen.requires_grad_(False)
    module = Namer(made, head)
    texts, labels = _words(module, task)
    found = bucketed(
        module.lengths(task.texts)[texts], recipe.batch, rng.stream(recipe.seed, "batches", 0)
    )
    total = len(found)
    bias, table = head.bias.detach(), rows.detach()

    def loss(module: nn.Module, batch: tuple[list[str], Tensor]) -> Tensor:
        return entry_loss(module(batch[0]), table, batch[1], bias=bias)

    batches = (
        ([task.texts[i] for i in texts[chosen].tolist()], torch.from_numpy(labels[chosen]))
        for chosen in found
    )
    with _without_pooler(network):
        ticks = steps(
            module, loss, batches, lr=recipe.lr, total=total, warmup=total // 10,
            weight_decay=0.0, clip=None, seed=rng.derive(recipe.seed, "dropout", 0),
        )  # fmt: skip
        losses = [tick.loss for tick in track(ticks, "train", total=total)]
    frozen.requires_grad_(True)
    words = float(len(np.unique(labels)))
    return {"entries": words, "definitions": float(len(labels)), **_told(losses)}


def _words(module: Namer, task: Task) -> tuple[Ids, Ids]:
    """Return the rows whose word is one token: the number of the text, and that of the token.

    The token is the one inside a text, which is what a head for masked words was trained to name.
    """
    every = [word for words in task.names for word in words]
    unknown = getattr(module.model.tokenizer, "unk_token_id", None)
    pieces = cut(every, module.encoder.body.tokenizer)
    known = {word: ids[0] for word, ids in pieces.items() if len(ids) == 1 and ids[0] != unknown}
    rows = [
        (text, known[word])
        for text, entry in zip(task.text.tolist(), task.entry.tolist(), strict=True)
        for word in task.names[entry]
        if word in known
    ]
    if not rows:
        raise InputError(
            f"definitions: none of {len(every)} words is one token",
            hint="use --form plus, which takes entries of any length",
        )
    texts, labels = np.array(rows, np.int64).T
    return texts, labels


def _told(losses: Sequence[float]) -> dict[str, float]:
    some = max(1, len(losses) // 10)
    return {"loss_first": float(np.mean(losses[:some])), "loss": float(np.mean(losses[-some:]))}
