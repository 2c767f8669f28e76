"""Which tensors of a model have one row, or one number, for every token.

They are told by their names and by the number of rows of the input matrix, from the headers alone
(vocabulary.md, 0.4): no model is built, so no architecture needs to be known. What has the right
size and a suspicious name but is in no list is not guessed: the caller says what it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenspace.errors import ConfigError, FormatError
from tokenspace.io import TensorEntry

from .weights import FLOATS, Part

__all__ = ["VocabTensor", "choose", "find"]

# The last names of a tensor's path, in order of preference.
_INPUT = (
    "shared",
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "tok_embeddings",
    "tokens_embed",
    "word_embedding",
    "token_embedding",
    "embeddings",
    "embedding",
)
_OUTPUT = (
    "lm_head",
    "embed_out",
    "lm_head.decoder",
    "cls.predictions.decoder",
    "predictions.decoder",
    "vocab_projector",
    "generator_lm_head",
    "lm_loss",
    "pred_layer.proj",
    "proj_out",
    "output",
)
_ROOT_OUTPUT = "decoder"  # ModernBERT: a linear layer of this name, and nothing around it
_BIAS = re.compile(
    r"(?:^|\.)(?:lm_head|embed_out|lm_head\.decoder|(?:lm_)?predictions|predictions\.decoder"
    r"|lm_predictions\.lm_head|vocab_projector|generator_lm_head|lm_loss|pred_layer\.proj"
    r"|proj_out)\.bias$|^decoder\.bias$|(?:^|\.)final_logits_bias$"
)
_PER_LAYER = re.compile(r"(?:^|\.)embed_tokens_per_layer(?:\.weight)?$")
_SUSPICIOUS = re.compile(r"lm_head|predictions|embed|logits|vocab|token|word|shared")
_HARMLESS = re.compile(r"\.\d+\.|position|pos_emb|wpe|type_emb|token_type|[Nn]orm|pooler|transform")


@dataclass(frozen=True)
class VocabTensor:
    """A tensor that depends on the vocabulary.

    ``axis`` is the dimension that counts tokens; ``role`` is ``input``, ``output``, ``bias``,
    ``per_layer`` or ``mapped`` (named by the caller); ``aliases`` are the names of equal copies of
    it, which are written with it.
    """

    name: str
    file: Path
    axis: int
    role: str
    aliases: tuple[str, ...] = ()


def choose(where: str, part: str, parts: Sequence[Part], *, tied: bool | None) -> tuple[str, bool]:
    """Return the tensor called ``part``, and whether it is an input matrix that serves the output.

    ``tied`` is what the configuration says. Raises :class:`FormatError` where there is none, or
    where several different ones could be meant.
    """
    matrices = _matrices(parts)
    if part not in ("input", "output"):
        if part in matrices:
            return part, False
        raise FormatError(
            f"{where}: no matrix called {part!r}",
            hint="matrices: " + ", ".join(sorted(matrices)[:8]) + ", …",
        )
    if part == "output":
        found = _named(where, _OUTPUT, matrices)
        if found:
            return found[0], False
        if tied is False:
            raise FormatError(
                f"{where}: no output matrix, and config.json says that it is not tied",
                hint="load the input matrix, or name a tensor: DIR#NAME",
            )
    found = _named(where, _INPUT, matrices)
    if not found:
        raise FormatError(
            f"{where}: no matrix of token vectors under a known name",
            hint="name it, DIR#NAME; matrices: " + ", ".join(sorted(matrices)[:8]) + ", …",
        )
    return found[0], part == "output"


def find(
    where: str,
    parts: Sequence[Part],
    *,
    tied: bool | None,
    head: bool = True,
    mapping: Mapping[str, int | None] | None = None,
) -> tuple[VocabTensor, ...]:
    """Return every tensor that depends on the vocabulary, the input matrix first.

    ``tied`` is what the configuration says of the output matrix, and ``head`` whether the model
    has one at all.
    ``mapping`` settles what cannot be told: a name and the axis that counts tokens, or None for a
    tensor that has nothing to do with tokens. If two different input matrices are named, the
    first is the input.

    Raises
    ------
    FormatError
        When there is no input matrix, or when something could be meant in two ways.
    ConfigError
        When ``mapping`` does not fit the tensors.
    """
    given = dict(mapping or {})
    every = {name: part for part in parts for name in part.entries}
    _check_mapping(where, given, every)
    by_hand = {name: axis for name, axis in given.items() if axis is not None}
    matrices = {name: part for name, part in _matrices(parts).items() if name not in given}
    inner = _named(where, _INPUT, matrices) or [n for n, axis in by_hand.items() if axis == 0][:1]
    if not inner:
        choose(where, "input", parts, tied=tied)  # says what is wrong
        raise FormatError(f"{where}: no input matrix is left", hint="do not map it to none")
    first, shape = inner[0], _entry(every, inner[0]).shape
    rows = shape[0]
    same = {name for name, part in matrices.items() if part.entries[name].shape == shape}
    copies = [n for n in _matching(_INPUT, matrices) if n in same and n not in inner]
    for name in copies:
        if _digest(every, name) != _digest(every, first):
            raise _unclear(where, [first, name], "two different input matrices", rows)
    aliases = [*inner[1:], *copies]
    outer = _named(where, (*_OUTPUT, _ROOT_OUTPUT), matrices, rows=rows)
    copied = tied is not False and bool(outer) and outer[0] in same
    if copied and _digest(every, outer[0]) == _digest(every, first):
        aliases, outer = [*aliases, *outer], []
    if not outer and tied is False and head:
        choose(where, "output", parts, tied=tied)
    found = [VocabTensor(first, every[first].path, 0, "input", tuple(aliases))]
    if outer:
        found.append(VocabTensor(outer[0], every[outer[0]].path, 0, "output", tuple(outer[1:])))
    taken = {*inner, *aliases, *outer}
    found += _others(where, {n: p for n, p in every.items() if n not in {*taken, *given}}, rows)
    for name, axis in by_hand.items():
        if name not in taken:
            if (size := _entry(every, name).shape[axis]) != rows:
                raise ConfigError(
                    f"{where}: --map {name}={axis}: the axis has {size} places for {rows} tokens",
                    hint=f"the shape is {_entry(every, name).shape}; name its axis of {rows}",
                )
            found.append(VocabTensor(name, every[name].path, axis, "mapped"))
    for tensor in found:
        if (dtype := _entry(every, tensor.name).dtype) not in FLOATS:
            raise FormatError(
                f"{where}: {tensor.name} has type {dtype}",
                hint=f"types that can be given new rows: {', '.join(FLOATS)}",
            )
    return tuple(found)


def _check_mapping(where: str, given: Mapping[str, int | None], every: Mapping[str, Part]) -> None:
    for name, axis in given.items():
        if name not in every:
            raise ConfigError(
                f"{where}: --map {name}: no tensor of this name", hint="names are listed in full"
            )
        if axis is not None and not 0 <= axis < len(_entry(every, name).shape):
            raise ConfigError(
                f"{where}: --map {name}={axis}: it has no such axis", hint="axes are counted from 0"
            )


def _others(where: str, every: Mapping[str, Part], rows: int) -> list[VocabTensor]:
    """Return biases and per-layer tables; refuse what only looks like them."""
    found = []
    for name, part in sorted(every.items()):
        shape = part.entries[name].shape
        if _BIAS.search(name) and shape[-1:] == (rows,):
            found.append(VocabTensor(name, part.path, len(shape) - 1, "bias"))
        elif _PER_LAYER.search(name) and len(shape) == 2:
            found.append(VocabTensor(name, part.path, 0, "per_layer"))
        elif rows in shape and _SUSPICIOUS.search(name) and not _HARMLESS.search(name):
            raise _unclear(where, [name], "a tensor of unknown meaning", rows)
    return found


def _matrices(parts: Sequence[Part]) -> dict[str, Part]:
    return {
        name: part
        for part in parts
        for name, entry in part.entries.items()
        if len(entry.shape) == 2 and entry.dtype in FLOATS
    }


def _entry(parts: Mapping[str, Part], name: str) -> TensorEntry:
    return parts[name].entries[name]


def _matching(known: Sequence[str], matrices: Mapping[str, Part]) -> list[str]:
    names: list[str] = []
    for ending in known:
        start = "^" if ending == _ROOT_OUTPUT else r"(?:^|\.)"
        pattern = re.compile(rf"{start}{re.escape(ending)}(?:\.weight)?$")
        names += [name for name in sorted(matrices) if pattern.search(name)]
    return names


def _named(
    where: str, known: Sequence[str], matrices: Mapping[str, Part], rows: int | None = None
) -> list[str]:
    """Return the tensors under the first known name: one, or several equal copies of it."""
    for ending in known:
        names = _matching((ending,), matrices)
        if rows is not None:
            names = [name for name in names if _entry(matrices, name).shape[0] == rows]
        if len(names) > 1 and len({_digest(matrices, name) for name in names}) > 1:
            raise FormatError(
                f"{where}: {len(names)} different matrices could be meant: {', '.join(names)}",
                hint=f"name one: {Path(where).name}#{names[0]} (for a transplant: "
                f"--map {names[0]}=0 and the same for the others)",
            )
        if names:
            return names
    return []


def _unclear(where: str, names: Sequence[str], what: str, rows: int) -> FormatError:
    return FormatError(
        f"{where}: {what}: {', '.join(names)}",
        hint=f"say which axis counts the {rows} tokens: --map {names[-1]}=0, or --map "
        f"{names[-1]}=none if it has nothing to do with tokens",
    )


def _digest(parts: Mapping[str, Part], name: str) -> bytes:
    part, entry = parts[name], _entry(parts, name)
    digest = hashlib.blake2b(repr(entry.shape).encode())
    for start in range(0, entry.nbytes, 1 << 24):
        digest.update(part.read(name, start, min(start + (1 << 24), entry.nbytes)))
    return digest.digest()
