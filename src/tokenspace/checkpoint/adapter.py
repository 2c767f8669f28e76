"""PEFT adapters: carried over when they leave the vocabulary alone, merged when they do not.

An adapter that touches only inner layers fits the model with a new vocabulary as it fits the old
one. It is copied unchanged into ``adapter/`` of the result, beside the model that it belongs to
(``PeftModel.from_pretrained(model, "OUT/adapter")``); its ``base_model_name_or_path`` still names
the old model. An adapter with rows of its own for tokens would contradict the new rows, so it has
to be merged first:

======================================  ======================================================
LoRA of a linear layer                  W + s B A, with A (r, in), B (out, r) and W (out, in)
the same, ``fan_in_fan_out``            W + s (B A)ᵀ, with W (in, out)
LoRA of an embedding                    W + s (B A)ᵀ, with A (r, V), B (d, r) and W (V, d)
``modules_to_save``, trained biases     the adapter's tensor
``trainable_token_indices``             the adapter's rows at these ids
======================================  ======================================================

with s = α / r, or α / √r for ``use_rslora``. Merging is done row by row while the model is copied.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.errors import FormatError, InputError
from tokenspace.io import TensorEntry

from .folder import read_json
from .weights import FLOATS, Part, Shard, floats, narrow, read_rows

__all__ = ["Adapter", "Merged"]

_VOCABULARY = re.compile(
    r"(?:^|\.)(shared|embed_tokens|wte|word_embeddings|embed_in|lm_head|embed_out|embeddings"
    r"|vocab_projector|predictions\.decoder|lm_head\.decoder)$"
)
_KINDS = (
    ("lora", re.compile(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight")),
    ("embedding", re.compile(r"(.+)\.lora_embedding_([AB])(?:\.\w+)?")),
    ("rows", re.compile(r"(.+?)(?:\.token_adapter)?\.(trainable_tokens_delta)(?:\.\w+)?")),
    ("unknown", re.compile(r"(.+)\.(lora_\w+|\w+_vector\w*)(?:\.\w+)?(?:\.weight)?")),
    ("whole", re.compile(r"(.+?)(?:\.base_layer|\.modules_to_save(?:\.\w+)?)?\.(weight|bias)")),
)

Rows = Callable[[int, int], Floats2d]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A PEFT adapter directory: ``adapter_config.json`` and ``adapter_model.safetensors``."""

    folder: Path
    config: Mapping[str, Any]
    shard: Shard

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        """Open the directory; :class:`FormatError` where it is not whole."""
        path = folder / "adapter_model.safetensors"
        if not path.is_file():
            raise FormatError(
                f"{path}: missing", hint="save the adapter with safe_serialization=True"
            )
        config = read_json(folder / "adapter_config.json")
        if not isinstance(config, dict):
            raise FormatError(
                f"{folder / 'adapter_config.json'}: not a JSON object",
                hint="save the adapter again with save_pretrained of peft",
            )
        return cls(folder, config, Shard(path))

    @property
    def base(self) -> str:
        """The name of the model that it was trained on."""
        return str(self.config.get("base_model_name_or_path") or "")

    @cached_property
    def pieces(self) -> Mapping[str, tuple[str, str, str]]:
        """For every tensor its kind, the module that it changes, and which part of it it is."""
        found = {}
        for name in self.shard.entries:
            inner = name.removeprefix("base_model.model.")
            for kind, pattern in _KINDS:
                if match := pattern.fullmatch(inner):
                    found[name] = (kind, match[1], match[2])
                    break
            else:
                found[name] = ("unknown", inner, "")
        return found

    def touching(self) -> tuple[str, ...]:
        """Return the modules with something for every token that the adapter changes."""
        modules = {module for _, module, _ in self.pieces.values() if _VOCABULARY.search(module)}
        modules |= {m for kind, m, _ in self.pieces.values() if kind in ("embedding", "rows")}
        return tuple(sorted(modules))

    def merge(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """Return the files of the model with the adapter merged into them.

        Raises :class:`InputError` for a kind of adapter that is not merged here, or for one that
        changes a tensor which the model does not have.
        """
        if self.config.get("use_dora") or self.config.get("peft_type", "LORA") != "LORA":
            kind = "DoRA" if self.config.get("use_dora") else self.config["peft_type"]
            raise InputError(
                f"{self.folder}: an adapter of kind {kind} is not merged here",
                hint="merge it once: model.merge_and_unload().save_pretrained(DIR)",
            )
        changes: dict[str, tuple[tuple[int, ...], Rows]] = {}
        every = {name: part for part in parts for name in part.entries}
        for name, (kind, module, piece) in self.pieces.items():
            if kind == "unknown":
                raise InputError(
                    f"{self.folder}: tensor {name} is of a kind that is not merged here",
                    hint="merge it once: model.merge_and_unload().save_pretrained(DIR)",
                )
            if piece != "B":
                target = self._find(module, "bias" if piece == "bias" else "weight", every)
                changes[target] = self._change(name, kind, module, every[target], target)
        return tuple(
            Merged(part, {n: c for n, c in changes.items() if n in part.entries}) for part in parts
        )

    def _find(self, module: str, what: str, every: Mapping[str, Part]) -> str:
        """Return the model's name of a tensor; prefixes of the two may differ."""
        wanted = f"{module}.{what}"
        if wanted in every:
            return wanted
        near = [n for n in every if n.endswith("." + wanted) or wanted.endswith("." + n)]
        if near:
            return max(near, key=len)
        raise InputError(
            f"{self.folder}: the adapter changes {wanted}, which the model does not have",
            hint="an output matrix that is tied must be untied first, or the base is another model",
        )

    def _change(
        self, name: str, kind: str, module: str, part: Part, target: str
    ) -> tuple[tuple[int, ...], Rows]:
        """Return the shape of a changed tensor, and a function that gives some of its rows."""
        shape = part.entries[target].shape
        mine = floats(self.shard, name)
        if kind == "whole":
            if mine.shape[1:] != shape[1:]:
                raise self._misfit(name, mine.shape, shape)
            return mine.shape, lambda start, stop: mine[start:stop]
        if kind == "rows":
            return shape, self._replaced(name, module, mine, part, target)
        other = floats(self.shard, re.sub(r"lora_(embedding_)?A", r"lora_\1B", name))
        scale = np.float32(self._scale(module, len(mine)))
        down, up = (mine, other)  # (r, in) and (out, r)
        flip = kind == "embedding" or bool(self.config.get("fan_in_fan_out"))
        ends = (down.shape[1], up.shape[0]) if flip else (up.shape[0], down.shape[1])
        if shape != ends or down.ndim != 2 or up.shape[1] != len(down):
            raise self._misfit(name, ends, shape)
        left, right = (down.T, up.T) if flip else (up, down)

        def rows(start: int, stop: int) -> Floats2d:
            return read_rows(part, target, start, stop) + scale * (left[start:stop] @ right)

        return shape, rows

    def _replaced(self, name: str, module: str, mine: Floats2d, part: Part, target: str) -> Rows:
        """Return rows of a matrix in which some are the adapter's."""
        given = self.config.get("trainable_token_indices")
        if isinstance(given, dict):
            given = next((v for k, v in given.items() if module.endswith(str(k))), None)
        ids = np.array(given or [], np.int64)
        shape = part.entries[target].shape
        if len(ids) != len(mine) or mine.shape[1:] != shape[1:] or (ids >= shape[0]).any():
            raise self._misfit(name, mine.shape, (len(ids), *shape[1:]))

        def rows(start: int, stop: int) -> Floats2d:
            block = read_rows(part, target, start, stop)
            inside = np.flatnonzero((ids >= start) & (ids < stop))
            block[ids[inside] - start] = mine[inside]
            return block

        return rows

    def _scale(self, module: str, rank: int) -> float:
        patterns = self.config.get("alpha_pattern") or {}
        found = (v for k, v in patterns.items() if re.fullmatch(rf"(.*\.)?({k})", module))
        alpha = float(next(found, self.config.get("lora_alpha", 8)))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _misfit(self, name: str, have: tuple[int, ...], want: tuple[int, ...]) -> FormatError:
        return FormatError(
            f"{self.folder}: {name} of shape {have} does not fit {want}",
            hint="the adapter belongs to another model",
        )


@dataclass(frozen=True, eq=False)
class Merged:
    """A file of weights with some tensors changed while they are read; a ``Part``."""

    part: Part
    changes: Mapping[str, tuple[tuple[int, ...], Rows]]

    @property
    def path(self) -> Path:
        """Where the unchanged file lies."""
        return self.part.path

    @property
    def name(self) -> str:
        """The name of the file to write."""
        return self.part.name

    @property
    def intact(self) -> bool:
        """Whether nothing in this file is changed."""
        return self.part.intact and not self.changes

    @property
    def metadata(self) -> Mapping[str, str]:
        """The free-form entries of the header."""
        return self.part.metadata

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """The tensors by name; one that the adapter brings whole may have more rows."""
        made = dict(self.part.entries)
        for name, (shape, _) in self.changes.items():
            size = np.dtype(FLOATS[made[name].dtype]).itemsize
            old = made[name]
            made[name] = TensorEntry(old.dtype, shape, old.begin, math.prod(shape) * size)
        return made

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return bytes ``begin`` to ``end`` of a tensor, rounded to its type."""
        if name not in self.changes:
            return self.part.read(name, begin, end)
        shape, rows = self.changes[name]
        size = max(1, self.entries[name].nbytes // max(1, shape[0]))
        start, stop = begin // size, -(-end // size)
        raw = narrow(rows(start, stop), self.entries[name].dtype).tobytes()
        return raw[begin - start * size : end - start * size]
