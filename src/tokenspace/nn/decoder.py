"""What every trainer of a decoder needs: text as one row of tokens, windows of it, and the loss."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tokenspace.rng import stream
from tokenspace.vocab import Vocabulary

__all__ = ["joint", "next_token_loss", "on_threads", "quicker_in_bf16", "token_row", "windows"]

Row = npt.NDArray[np.int32]

_GROUP = 512  # texts that are tokenised at a time


def joint(vocab: Vocabulary) -> str:
    """Return what to put between texts: a line break where the tokenizer spells it, or a space."""
    spelled = b"".join(vocab.surfaces[i] for i in vocab.encode("a\nb"))
    return "\n" if b"\n" in spelled else " "


def token_row(texts: Iterable[str], vocab: Vocabulary) -> Row:
    """Return the tokens of all texts in one row, (N,) int32, mapped from a temporary file."""
    between, rest = joint(vocab), iter(texts)
    with tempfile.TemporaryFile() as file:
        while group := list(islice(rest, _GROUP)):
            for row in vocab.encode_batch([text + between for text in group]):
                file.write(np.array(row, np.int32).tobytes())
        if not file.tell():
            return np.zeros(0, np.int32)
        file.flush()
        return np.asarray(np.memmap(file, np.int32, "r"))


def windows(
    ids: Row, start: int | None, context: int, batch: int, *, seed: int
) -> Iterator[Tensor]:
    """Yield batches of windows from random places of ``ids``, (batch, context + 1) int64, forever.

    The first column is ``start``; without a start token it is the token before the window.
    """
    width = context if start is not None else context + 1
    if len(ids) < width:
        raise ValueError(f"{len(ids)} tokens do not fill a window of {width}")
    draw, steps = stream(seed, "windows"), np.arange(width)
    while True:
        places = draw.integers(0, len(ids) - width + 1, size=batch)
        rows = ids[places[:, None] + steps].astype(np.int64)
        if start is not None:
            rows = np.concatenate([np.full((batch, 1), start), rows], axis=1)
        yield torch.from_numpy(rows)


def next_token_loss(*, bf16: bool = False) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return the loss of a batch of windows (B, C + 1): the mean of -ln p of all but the first."""

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16):
            logits = module(batch[:, :-1], use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    return loss


def quicker_in_bf16() -> bool:
    """Tell whether this machine has instructions that multiply bfloat16: the same every time.

    Without them (AVX-512 BF16 or AMX of a processor, or a GPU's) it is slower than float32.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(has)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside the block; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
