"""A network in name only: letters and neighbours, for trials where no pretrained encoder is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids2d, Ragged
from tokenspace.errors import ConfigError
from tokenspace.rng import stream
from tokenspace.text_encoder import TokenStates

__all__ = ["ToyEncoder"]

_PIECE = re.compile(r"\w{1,4}")
NEAR = 8  # tokens to either side


@dataclass(frozen=True)
class ToyEncoder:
    """A text encoder whose tokens are up to four letters, with a random vector each.

    Layer 0 is that vector; layer 1, the last, is the mean over the tokens near it and itself.
    Words that share company are alike in layer 1 and in no other way: what is made of words one at
    a time knows nothing, and what is made of sentences knows what the text says.
    """

    dim: int = 32
    seed: int = 0

    @cached_property
    def _known(self) -> dict[str, Floats1d]:
        return {}

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every token of every text."""
        return [[(m[0], m.start(), m.end()) for m in _PIECE.finditer(text)] for text in texts]

    def token_states(
        self, texts: Sequence[str], *, layer: int = -1, layers: int = 1, batch_size: int = 32
    ) -> Iterator[tuple[int, TokenStates]]:
        """Yield the index of every text and its states; the head is their mean."""
        for index, (text, found) in enumerate(zip(texts, self.tokens(texts), strict=True)):
            every = self._layers([piece for piece, _, _ in found])
            last = layer + 2 if layer < 0 else layer
            if not 0 <= last - layers + 1 <= last < 2:
                raise ConfigError(f"layer={layer} with layers={layers}: the encoder has 1 layer")
            states = np.asarray(np.mean(every[last - layers + 1 : last + 1], axis=0), np.float32)
            spans: Ids2d = np.array([span for _, *span in found], np.int64).reshape(-1, 2)
            heads = states.mean(axis=0, keepdims=True) if text else states[:0]
            yield index, TokenStates(states, spans, np.zeros(len(spans), np.int64), heads)

    def mean_states(
        self, texts: Sequence[str], *, layer: int = -1, layers: int = 1, batch_size: int = 32
    ) -> Floats2d:
        """Return the mean state of every text, (N, H)."""
        means = np.zeros((len(texts), self.dim), np.float32)
        for index, found in self.token_states(texts, layer=layer, layers=layers):
            means[index] = found.states.sum(axis=0) / max(1, len(found.states))
        return means

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return the mean state of every text, (N, H)."""
        return self.mean_states(texts)

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 32) -> Ragged:
        """Return the states of every text's tokens, each (T_i, H)."""
        return Ragged.pack([found.states for _, found in self.token_states(texts)], self.dim)

    def save(self, path: str | Path) -> None:
        """Write nothing: the toy is made, not saved."""

    def _layers(self, pieces: Sequence[str]) -> list[Floats2d]:
        for piece in set(pieces) - self._known.keys():
            draw = stream(self.seed, "toy encoder", piece)
            self._known[piece] = draw.standard_normal(self.dim, np.float32)
        rows = np.array([self._known[piece] for piece in pieces], np.float32)
        rows = rows.reshape(-1, self.dim)  # (T, H)
        near = [rows[max(0, t - NEAR) : t + NEAR + 1].mean(axis=0) for t in range(len(rows))]
        return [rows, np.array(near, np.float32).reshape(-1, self.dim)]
