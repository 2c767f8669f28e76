"""The states of every token of a text, however long: read in windows, nothing is cut off.

A text that is longer than the network takes becomes several windows, each with its own special
tokens, of which two neighbours share half. A token that two windows hold has its state from the
one in which it stands farther from the edge, where more of its surroundings are seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from tokenspace.arrays import Floats2d
from tokenspace.errors import ConfigError
from tokenspace.nn.body import Body
from tokenspace.nn.mask import padding
from tokenspace.text_encoder import TokenStates

__all__ = ["batches", "mean_states", "padded", "token_states"]

_HELD = 256  # texts whose states are held at once
_TOKENS = {"cpu": 512}  # in a batch: with more, a processor's cache does not hold what passes
_MANY = 16384  # in a batch of any other device

Windows = list[list[Encoding]]
Layers = tuple[int, int]
"""The last layer of those that are averaged, and how many these are."""


def token_states(
    body: Body, texts: Sequence[str], layers: Layers, batch_size: int | None
) -> Iterator[tuple[int, TokenStates]]:
    """Yield (index, states) of every text, each once."""
    shared, tokenizer = _overlap(body), _tokenizer(body)
    for begin in range(0, len(texts), _HELD):
        cut = _windows(tokenizer, body, texts[begin : begin + _HELD])
        rows: dict[tuple[int, int], Floats2d] = {}
        for text, number, states in _states(body, cut, layers, batch_size):
            rows[text, number] = states
        for text, parts in enumerate(cut):
            found = [rows[text, i] for i in range(len(parts)) if (text, i) in rows]
            yield begin + text, _joined(parts, found, shared)


def mean_states(
    body: Body, texts: Sequence[str], layers: Layers, batch_size: int | None
) -> Floats2d:
    """Return the mean state of all tokens of every text, special ones included, (N, H).

    A text without any token has the zero vector.
    """
    sums = np.zeros((len(texts), body.dim), np.float64)
    counts = np.zeros(len(texts), np.int64)
    tokenizer = _tokenizer(body)
    for begin in range(0, len(texts), _HELD):
        cut = _windows(tokenizer, body, texts[begin : begin + _HELD])
        for text, _, states in _states(body, cut, layers, batch_size):
            if states.shape[1] != sums.shape[1]:  # a projection follows the network
                sums = np.zeros((len(texts), states.shape[1]), np.float64)
            sums[begin + text] += states.sum(axis=0, dtype=np.float64)
            counts[begin + text] += len(states)
    return np.asarray(sums / np.maximum(counts, 1)[:, None], np.float32)


def batches(
    lengths: Sequence[int], device: torch.device, *, texts: int | None, tokens: int | None = None
) -> Iterator[list[int]]:
    """Yield the numbers of sequences of similar length, longest first.

    ``texts`` sequences at a time, or as many as take ``tokens`` with their padding; where neither
    is given, as many tokens as a device computes quickly. Equal lengths stay in their order.
    """
    if texts is not None and texts < 1:
        raise ConfigError(f"batch_size={texts} is outside [1, inf]")
    if tokens is not None and tokens < 1:
        raise ConfigError(f"batch_tokens={tokens} is outside [1, inf]")
    tokens = tokens or _TOKENS.get(device.type, _MANY)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = texts or max(1, tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def padded(batch: Sequence[Encoding], body: Body) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, mask and segments (B, T) of a batch, padded on the right, where the body is."""
    lengths = torch.tensor([len(encoding) for encoding in batch])
    mask = padding(lengths, max(1, int(lengths.max())))
    ids = torch.full(mask.shape, body.pad, dtype=torch.int64)
    types = torch.zeros(mask.shape, dtype=torch.int64)
    ids[mask] = torch.tensor([i for encoding in batch for i in encoding.ids]).long()
    types[mask] = torch.tensor([i for encoding in batch for i in encoding.type_ids]).long()
    return ids.to(body.device), mask.to(body.device), types.to(body.device)


def _overlap(body: Body) -> int:
    """Return how many tokens two neighbouring windows share."""
    limit = body.tokenizer.truncation
    if limit is None:
        return 0
    special = body.tokenizer.num_special_tokens_to_add(False) if body.special else 0
    return max(0, int(limit["max_length"]) - special) // 2


def _tokenizer(body: Body) -> Tokenizer:
    """Return the body's tokenizer, which gives the windows beyond the first as well."""
    tokenizer = Tokenizer.from_str(body.tokenizer.to_str())  # the body's own stays as it is
    if tokenizer.truncation is not None:
        tokenizer.enable_truncation(tokenizer.truncation["max_length"], stride=_overlap(body))
    return tokenizer


def _windows(tokenizer: Tokenizer, body: Body, texts: Sequence[str]) -> Windows:
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=body.special)
    return [[encoding, *encoding.overflowing] for encoding in encodings]


def _states(
    body: Body, cut: Windows, layers: Layers, batch_size: int | None
) -> Iterator[tuple[int, int, Floats2d]]:
    """Yield (text, number of its window, states of all its tokens (T, H)); none of an empty one."""
    every = [
        (text, i) for text, parts in enumerate(cut) for i, part in enumerate(parts) if len(part)
    ]
    lengths = [len(cut[text][number]) for text, number in every]
    for chosen in batches(lengths, body.device, texts=batch_size):
        places = [every[i] for i in chosen]
        batch = [cut[text][number] for text, number in places]
        ids, mask, types = padded(batch, body)
        with torch.inference_mode():
            if layers == (-1, 1):
                states = body.states(ids, mask, types)
            else:
                states = _mean_layer(body.every_layer(ids, mask, types), *layers)
        for place, encoding, row in zip(places, batch, states.float().cpu().numpy(), strict=True):
            yield (*place, row[: len(encoding)])


def _mean_layer(every: Sequence[Tensor], layer: int, layers: int) -> Tensor:
    last = layer + len(every) if layer < 0 else layer
    if not 0 <= last - layers + 1 <= last < len(every):
        raise ConfigError(
            f"layer={layer} with layers={layers}: the encoder has {len(every) - 1} layers",
            hint=f"0 is what enters the first of them, {len(every) - 1} or -1 is the last",
        )
    return torch.stack(list(every[last - layers + 1 : last + 1])).mean(dim=0)


def _joined(parts: Sequence[Encoding], rows: Sequence[Floats2d], shared: int) -> TokenStates:
    """Lay the windows of one text end to end, and leave out what is not the text's own."""
    states, spans, windows = [], [], []
    for number, (part, row) in enumerate(zip(parts, rows, strict=False)):
        own = np.flatnonzero(np.asarray(part.special_tokens_mask) == 0)
        first = (shared + 1) // 2 if number else 0
        own = own[first : len(own) - (shared // 2 if number + 1 < len(parts) else 0)]
        places = np.asarray(part.offsets, np.int64).reshape(-1, 2)[own]
        spelled = places[:, 1] > places[:, 0]
        states.append(row[own[spelled]])
        spans.append(places[spelled])
        windows.append(np.full(int(spelled.sum()), number, np.int64))
    width = rows[0].shape[1] if rows else 0
    return TokenStates(
        np.concatenate([np.zeros((0, width), np.float32), *states]),
        np.concatenate([np.zeros((0, 2), np.int64), *spans]),
        np.concatenate([np.zeros(0, np.int64), *windows]),
        np.stack([row[0] for row in rows]) if rows else np.zeros((0, width), np.float32),
    )
