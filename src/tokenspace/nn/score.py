"""Bits per byte: what a language model needs to tell a text, whatever its tokens are.

Perplexity per token cannot be compared between tokenizers, because longer tokens are fewer and
each is harder. Bits per byte can::

    bpb = Σ_t -log2 p(x_t | what came before) / (bytes of the text in UTF-8)

A start token (bos, else eos or cls) opens every window and is never scored; nothing is appended.
Figures are kept for every text, so that two models on the same texts can be compared by a paired
bootstrap, and :func:`blocks` cuts long text into stretches that are fit for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tokenspace.errors import ConfigError, InputError
from tokenspace.rng import stream
from tokenspace.vocab import Vocabulary

__all__ = ["Score", "bits_per_byte", "blocks", "start_token", "tokens_per_byte"]

Counts = npt.NDArray[np.int64]

_LOGITS = 1 << 25  # scores that are held at a time: 128 MB of float32


@dataclass(frozen=True, eq=False)
class Score:
    """What N texts cost a model.

    ``bits`` (N,) float64; ``bytes`` and ``tokens`` (N,) int64, of the texts alone. ``unknown``
    counts tokens that stand for what the tokenizer cannot spell: with any of them the figure is
    too low, since such text is not really told. ``kind`` is ``"causal"``, or ``"pseudo"`` for
    a masked model, whose figures compare with each other only.
    """

    bits: npt.NDArray[np.float64]
    bytes: Counts
    tokens: Counts
    unknown: int = 0
    kind: str = "causal"

    @property
    def bits_per_byte(self) -> float:
        """All bits by all bytes."""
        return float(self.bits.sum() / self.bytes.sum())

    @property
    def tokens_per_byte(self) -> float:
        """All tokens by all bytes."""
        return float(self.tokens.sum() / self.bytes.sum())

    def interval(self, *, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of :attr:`bits_per_byte`, by a bootstrap over the texts."""
        return _quantiles(self.bits, self.bytes, resamples, seed)

    def minus(
        self, other: Score, *, resamples: int = 10_000, seed: int = 0
    ) -> tuple[float, float, float]:
        """Return how many bits per byte this is above ``other``, and the 95 % interval of that.

        Both are drawn together, text by text (a paired bootstrap), so they must be of the same
        texts; otherwise :class:`InputError`.
        """
        if not np.array_equal(self.bytes, other.bytes) or self.kind != other.kind:
            raise InputError(
                f"two scores of other texts or kinds ({len(self.bytes)} and {len(other.bytes)} "
                f"texts, {self.kind} and {other.kind})",
                hint="score both models on the same texts",
            )
        low, high = _quantiles(self.bits - other.bits, self.bytes, resamples, seed)
        return self.bits_per_byte - other.bits_per_byte, low, high


def _quantiles(
    bits: npt.NDArray[np.float64], size: Counts, resamples: int, seed: int
) -> tuple[float, float]:
    draw, n, found = stream(seed, "bootstrap"), len(bits), []
    step = max(1, (1 << 22) // max(n, 1))
    for begin in range(0, resamples, step):
        drawn = draw.integers(n, size=(min(step, resamples - begin), n), dtype=np.int32)
        found.append(bits[drawn].sum(1) / np.maximum(size[drawn].sum(1), 1))
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return float(low), float(high)


def blocks(texts: Iterable[str], size: int = 2000, joint: str = "\n") -> Iterator[str]:
    """Join consecutive texts by ``joint`` into blocks of at least ``size`` bytes (the last: fewer).

    A text that is longer than twice ``size`` is first broken at spaces.
    """
    held: list[str] = []
    length = 0
    for text in texts:
        for line in _broken(text, size):
            held.append(line)
            length += len(line.encode("utf-8", "surrogatepass")) + len(joint)
            if length >= size:
                yield joint.join(held)
                held, length = [], 0
    if held:
        yield joint.join(held)


def _broken(text: str, size: int) -> Iterator[str]:
    while len(text) > 2 * size:
        cut = text.find(" ", size)
        if cut < 0:
            break
        yield text[:cut]
        text = text[cut + 1 :]
    yield text


def start_token(vocab: Vocabulary) -> int | None:
    """Return the id that opens a window: the vocabulary's bos, eos or cls, whichever is first."""
    return next((vocab.roles[role] for role in ("bos", "eos", "cls") if role in vocab.roles), None)


def tokens_per_byte(vocab: Vocabulary, texts: Sequence[str]) -> float:
    """Return how many tokens the texts have for each of their bytes in UTF-8."""
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if not size:
        raise InputError("there is no text to count tokens in", hint="give at least one text")
    return sum(map(len, vocab.encode_batch(texts))) / size


def bits_per_byte(
    model: nn.Module,
    vocab: Vocabulary,
    texts: Sequence[str],
    *,
    context: int | None = None,
    stride: int | None = None,
    share: float = 0.15,
    seed: int = 0,
) -> Score:
    """Score every text under ``model``, a language model of transformers, with its vocabulary.

    Parameters
    ----------
    model
        A causal or a masked language model: ``model(input_ids).logits`` is (B, T, V). It is put
        into evaluation mode and back.
    vocab
        Its tokens and tokenizer; special tokens are not scored.
    texts
        At least one of them not empty. Each starts anew.
    context
        Tokens in a window, the start token included; by default what the model was made for, at
        most 1,024.
    stride
        Causal only: how far the window moves; only what the last window did not score is scored.
        Half the context by default. ``stride=context`` is quickest and tells each token from
        less; two models must be scored with the same.
    share, seed
        Masked only: the share of the tokens that are drawn to be masked, each alone
        (pseudo-log-likelihood, Salazar et al. 2020, arXiv:1910.14659), and the seed of that draw.
        Of every window at least one token is drawn, and its bits stand for the others'.

    Raises
    ------
    InputError
        Nothing to score; an encoder-decoder; token ids that the model has no row for.
    """
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"{type(model).__name__}: bits per byte of an encoder-decoder depend on what its "
            "encoder reads",
            hint="give a causal or a masked language model",
        )
    limit = context or min(int(getattr(config, "max_position_embeddings", 1024)), 1024)
    if limit < 3:  # a masked token stands between two special ones
        raise ConfigError(f"context={limit} is outside [3, inf]")
    size = np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.int64)
    if not size.sum():
        raise InputError("there is no text to score", hint="give at least one text")
    ids = [np.asarray(row, np.int64) for row in vocab.encode_batch(list(texts))]
    rows = _rows(model)
    highest = max((int(row.max()) for row in ids if len(row)), default=0)
    if rows is not None and highest >= rows:
        raise InputError(
            f"token {highest} has no row in a model of {rows} rows",
            hint="give the tokenizer that belongs to the model",
        )
    masked = type(model).__name__.endswith("MaskedLM")
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            if masked:
                bits = _pseudo(model, vocab, ids, limit, share, seed)
            else:
                bits = _causal(model, vocab, ids, limit, stride)
    finally:
        model.train(training)
    unknown = vocab.roles.get("unk")
    if unknown is not None and unknown == start_token(vocab):
        unknown = None  # GPT-2 has one token for all roles, and never needs it
    return Score(
        bits=bits,
        bytes=size,
        tokens=np.array([len(row) for row in ids], np.int64),
        unknown=sum(int((row == unknown).sum()) for row in ids),
        kind="pseudo" if masked else "causal",
    )


def _rows(model: nn.Module) -> int | None:
    inputs = getattr(model, "get_input_embeddings", lambda: None)()
    return None if inputs is None else int(inputs.num_embeddings)


def _causal(
    model: nn.Module,
    vocab: Vocabulary,
    ids: Sequence[Counts],
    context: int,
    stride: int | None,
) -> npt.NDArray[np.float64]:
    """Return the bits of every text.

    With a start token the window at ``a`` reads [start] x_a ... and tells ``context`` tokens from
    x_a on; without one it reads x_a x_(a+1) ... and tells as many from x_(a+1) on.
    """
    start = start_token(vocab)
    width = context + (start is None)  # tokens of the text in a window
    step = stride or max(1, context // 2)
    if not 1 <= step <= context:
        raise ConfigError(f"stride={step} is outside [1, {context}]", hint="at most the context")
    bits = np.zeros(len(ids))
    if start is None:  # nothing stands before the first token: all tokens are as likely
        bits += np.log2(len(vocab)) * np.array([len(row) > 0 for row in ids])
    windows: list[tuple[int, int, int]] = []  # text, first token, tokens that are scored already
    for text, row in enumerate(ids):
        scored = min(int(start is None), len(row))
        for begin in range(0, len(row), step):
            if scored >= len(row):
                break
            windows.append((text, begin, scored - begin))
            scored = min(begin + width, len(row))
    opening = [] if start is None else [start]
    windows.sort(key=lambda w: min(width, len(ids[w[0]]) - w[1]))  # equal lengths together
    size = _batch(model, vocab, width)
    for first in range(0, len(windows), size):
        group = windows[first : first + size]
        rows = [np.concatenate([opening, ids[t][a : a + width]]) for t, a, _ in group]
        nats = _next_token(model, rows)
        for (text, _, known), row, line in zip(group, rows, nats, strict=True):
            skip = known - (start is None)
            bits[text] += line[skip : len(row) - 1].sum() / np.log(2)
    return bits


def _batch(model: nn.Module, vocab: Vocabulary, width: int) -> int:
    rows = _rows(model) or len(vocab)
    return max(1, min(8192, _LOGITS // rows) // width)


def _next_token(model: nn.Module, rows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Return -ln p of each row's tokens after its first, (B, T - 1), padded on the right."""
    length = max(map(len, rows))
    padded = np.zeros((len(rows), length), np.int64)  # nothing looks to the right: no mask
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    tokens = torch.from_numpy(padded).to(_device(model))
    logits = _logits(model, tokens[:, :-1], cache=True)
    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    found: npt.NDArray[np.float64] = loss.view(len(rows), -1).double().cpu().numpy()
    return found


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _logits(model: nn.Module, tokens: Tensor, *, cache: bool, **more: Tensor) -> Tensor:
    off = {"use_cache": False} if cache and hasattr(model, "config") else {}
    output = model(tokens, **more, **off)
    logits: Tensor = getattr(output, "logits", output)
    return logits.float()


def _pseudo(
    model: nn.Module,
    vocab: Vocabulary,
    ids: Sequence[Counts],
    context: int,
    share: float,
    seed: int,
) -> npt.NDArray[np.float64]:
    if "mask" not in vocab.roles:
        raise InputError(
            f"{type(model).__name__}: the vocabulary has no mask token",
            hint="give the tokenizer that belongs to the model",
        )
    if not 0 < share <= 1:
        raise ConfigError(f"share={share} is outside (0, 1]")
    opening = [vocab.roles[r] for r in ("cls", "bos") if r in vocab.roles][:1]
    closing = [vocab.roles[r] for r in ("sep", "eos") if r in vocab.roles][:1]
    width = context - len(opening) - len(closing)
    draw = stream(seed, "masked tokens")
    size = _batch(model, vocab, context)
    bits = np.zeros(len(ids))
    jobs: list[tuple[int, npt.NDArray[Any], int, float]] = []  # text, row, place, weight
    for text, tokens in enumerate(ids):
        for begin in range(0, len(tokens), width):
            part = tokens[begin : begin + width]
            count = int(np.ceil(share * len(part)))
            row = np.concatenate([opening, part, closing]).astype(np.int64)
            for place in np.sort(draw.choice(len(part), count, replace=False)):
                jobs.append((text, row, int(place) + len(opening), len(part) / count))
    jobs.sort(key=lambda job: len(job[1]))
    for first in range(0, len(jobs), size):
        group = jobs[first : first + size]
        length = len(group[-1][1])
        tokens = np.zeros((len(group), length), np.int64)
        mask = np.zeros((len(group), length), np.int64)
        for i, (_, row, place, _) in enumerate(group):
            tokens[i, : len(row)], mask[i, : len(row)] = row, 1
            tokens[i, place] = vocab.roles["mask"]
        device = _device(model)
        logits = _logits(
            model,
            torch.from_numpy(tokens).to(device),
            cache=False,
            attention_mask=torch.from_numpy(mask).to(device),
        )
        places = torch.tensor([job[2] for job in group], device=device)
        right = torch.tensor([int(job[1][job[2]]) for job in group], device=device)
        at = logits[torch.arange(len(group), device=device), places]
        nats = cross_entropy(at, right, reduction="none").double().cpu().numpy()
        np.add.at(bits, [job[0] for job in group], nats * [job[3] for job in group] / np.log(2))
    return bits
