"""Train a model with a new vocabulary for some minutes, so that it does what it did before.

An encoder learns from the model that it was made from: its vectors of the same texts, and how
near these are to one another, become those of the source. Nothing but plain text is needed. A
language model learns from the text itself, since the two models' tokens differ.

For a batch of B texts with unit vectors S of the student and T of its teacher, (B, D) each::

    loss = (1/B) ‖S - T‖² + (1/B²) ‖S Sᵀ - T Tᵀ‖²

The rows of the new vocabulary learn at the full rate, the rest of the model at ``BODY`` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tokenspace.arrays import Floats2d
from tokenspace.checkpoint import Checkpoint
from tokenspace.checkpoint.weights import New, rewrite
from tokenspace.errors import InputError
from tokenspace.io import replacing
from tokenspace.nn.decoder import next_token_loss, token_row, windows
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.quality import language_model
from tokenspace.nn.score import start_token
from tokenspace.nn.train import steps
from tokenspace.progress import Meter
from tokenspace.rng import stream

__all__ = ["BODY", "Healed", "distil", "heal"]

RATE = 1e-3
BODY = 0.05  # share of the rate for what is not a row of the vocabulary
SECONDS = 300.0
MOST = 1_000_000  # steps, where seconds are what counts
BATCH = 64
WINDOW = 128  # tokens in a window of a language model
MASKED = 0.15


@dataclass(frozen=True)
class Healed:
    """What healing did: optimizer steps, seconds, and the mean loss of the first and last tenth."""

    steps: int
    seconds: float
    loss_first: float
    loss_last: float


def heal(
    source: str | Path,
    result: str | Path,
    texts: Sequence[str],
    *,
    seconds: float | None = None,
    total: int | None = None,
    seed: int = 0,
) -> Healed:
    """Train the model directory ``result`` in place, for ``seconds`` or ``total`` steps.

    Whichever ends first ends it; without either it is five minutes.

    Parameters
    ----------
    source
        The model that ``result`` was made from; the teacher of an encoder. Its vectors of the
        texts are computed within the time.
    texts
        Plain texts, such as sentences, of the kind that the model is for. Blank ones are left out.
    seed
        Of the order of the texts, of masks and of dropout. Bounded by steps alone the result is
        the same every time; bounded by seconds it is not.

    Raises
    ------
    InputError
        Without texts, and for an encoder-decoder.
    """
    texts = [text for text in texts if text.strip()]
    seconds = SECONDS if seconds is None and total is None else seconds
    if not texts:
        raise InputError("heal: there is no text to learn from", hint="give --heal FILE")
    checkpoint = Checkpoint.open(result)
    if checkpoint.kind == "encoder-decoder":
        raise InputError(
            f"{checkpoint.root}: an encoder-decoder cannot be healed from plain text",
            hint="fine-tune it on its task",
        )
    model = language_model(checkpoint.root)
    if model is None:
        student = load_encoder(str(checkpoint.root))
        teacher = load_encoder(str(source))
        module, healed = distil(teacher, student, texts, seconds=seconds, total=total, seed=seed)
    else:
        module, healed = _language(
            model, checkpoint, texts, seconds=seconds, total=total, seed=seed
        )
    _store(checkpoint, module)
    return healed


class _Student(nn.Module):
    """An encoder's body as one module: padded ids to one vector a text."""

    def __init__(self, encoder: ModelEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        body: Any = encoder.body
        self.network: nn.Module = body.network if hasattr(body, "network") else body.model

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a teacher without dropout is matched without it."""
        return super().train(False)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vectors of a batch of texts, (B, D)."""
        return normalize(self.encoder.vectors(texts), dim=1)


def distil(
    teacher: ModelEncoder,
    student: ModelEncoder,
    texts: Sequence[str],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> tuple[nn.Module, Healed]:
    """Train ``student`` to give the vectors that ``teacher`` gives; return its network."""
    module = _Student(student)
    known: dict[int, Floats2d] = {}

    def vectors(chosen: npt.NDArray[np.int64]) -> Tensor:
        """Ask the teacher when a text comes up first: short trainings never see most texts."""
        new = [i for i in chosen.tolist() if i not in known]
        if new:
            known.update(zip(new, teacher.encode([texts[i] for i in new]), strict=True))
        return normalize(torch.from_numpy(np.stack([known[i] for i in chosen.tolist()])), dim=1)

    def loss(network: nn.Module, chosen: Tensor) -> Tensor:
        numbers = chosen.cpu().numpy()
        T = vectors(numbers)
        S: Tensor = network([texts[i] for i in numbers.tolist()])
        T = T.to(S.device)
        return (S - T).square().sum(dim=1).mean() + (S @ S.T - T @ T.T).square().mean()

    return module.network, _train(
        module, loss, _batches(len(texts), seed), _is_row, seconds=seconds, total=total, seed=seed
    )


def _is_row(name: str) -> bool:
    return any(part in name for part in ("word_embeddings", "embed_tokens", "wte", "shared."))


def _batches(count: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of text numbers, in a new order every time that the texts are through."""
    draw = stream(seed, "heal")
    size = min(BATCH, count)
    while True:
        order = draw.permutation(count)
        for start in range(0, count - size + 1, size):
            yield torch.from_numpy(order[start : start + size])


def _language(
    model: nn.Module,
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> tuple[nn.Module, Healed]:
    """Train a language model on the texts: the next token, or those that are masked."""
    vocab = checkpoint.vocab
    limit = int(getattr(model.config, "max_position_embeddings", WINDOW) or WINDOW)
    context = min(WINDOW, limit - 2)
    row = token_row(texts, vocab)
    start = start_token(vocab)
    if len(row) <= context:
        raise InputError(
            f"heal: {len(row)} tokens of text do not fill a window of {context}",
            hint="give more text",
        )
    batches = windows(row, start, context, 8, seed=seed)
    loss = next_token_loss()
    if checkpoint.masked:
        loss = _masked_loss(vocab.roles.get("mask"), seed)
    table: Any = model.get_input_embeddings()  # type: ignore[operator]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    rows = {id(p) for part in (table, head) if part is not None for p in part.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in rows}
    return model, _train(
        model, loss, batches, names.__contains__, seconds=seconds, total=total, seed=seed
    )


def _masked_loss(mask: int | None, seed: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return the loss of the tokens that a mask hides, 15 % of every batch."""
    if mask is None:
        raise InputError("heal: the tokenizer has no mask token", hint="give one that has")
    draw = stream(seed, "masks")

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        hidden = torch.from_numpy(draw.random(tuple(batch.shape)) < MASKED).to(batch.device)
        hidden[:, 1] |= ~hidden.any()
        logits = module(batch.masked_fill(hidden, mask)).logits
        return cross_entropy(logits[hidden].float(), batch[hidden])

    return loss


def _train(
    module: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    batches: Iterator[Tensor],
    is_row: Callable[[str], bool],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> Healed:
    losses: list[float] = []
    spent = 0.0
    with Meter("heal", total if seconds is None else seconds) as meter:
        for tick in steps(
            module,
            loss,
            batches,
            lr=RATE,
            total=total or MOST,
            warmup=min(10, total or MOST),
            weight_decay=0.0,
            seed=seed,
            seconds=seconds,
            slower=lambda name: 1.0 if is_row(name) else BODY,
        ):
            losses.append(tick.loss)
            meter.add(1 if seconds is None else tick.seconds - spent)
            spent = tick.seconds
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    return Healed(len(losses), spent, first, last)


def _store(checkpoint: Checkpoint, module: nn.Module) -> None:
    """Put the trained values into the files of the directory, under the names they have there."""
    state: Mapping[str, Tensor] = module.state_dict()
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    for part in checkpoint.parts:
        changes = {}
        for name, entry in part.entries.items():
            found = next((n for n in (name, name.removeprefix(prefix)) if n in state), None)
            if found is None:
                found = next((n for n in state if n.endswith(f".{name}")), None)
            if found is not None and tuple(state[found].shape) == tuple(entry.shape):
                values = state[found].detach().float().cpu().numpy()
                changes[name] = New.rows(entry.dtype, tuple(entry.shape), _rows(values))
        with replacing(part.path) as partial:
            rewrite(part, partial, changes)


def _rows(values: npt.NDArray[np.float32]) -> Callable[[int, int], npt.NDArray[np.float32]]:
    return lambda start, stop: values[start:stop]
