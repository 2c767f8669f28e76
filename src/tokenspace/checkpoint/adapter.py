"""PEFT adapters: carried over when they leave the vocabulary alone, merged when they do not.

An adapter that touches only inner layers fits the model with a new vocabulary as it fits the old
one. It is copied unchanged into ``adapter/`` of the result, beside the model that it belongs to
(``PeftModel.from_pretrained(model, "OUT/adapter")``); its ``base_model_name_or_path`` still names
the old model. An adapter with rows of its own for tokens would contradict the new rows, so it has
to be merged first:

======================================  ======================================================
LoRA of a linear layer                  W + s B A, with A (r, in), B (out, r) and W (out, in)
the same, of a ``Conv1D``               W + s (B A)ᵀ, with W (in, out)
LoRA of an embedding                    W + s (B A)ᵀ, with A (r, V), B (d, r) and W (V, d)
``modules_to_save``, trained biases     the adapter's tensor
``trainable_token_indices``             the adapter's rows at these ids
======================================  ======================================================

with s = α / r, or α / √r for ``use_rslora``. W is the adapter's ``base_layer`` where it brings one,
as it does when tokens were added. Merging is done row by row while the model is copied.

Of a tied model an adapter may change one side alone: the embedding, while the output goes on with
the old matrix, or the reverse. That is how peft runs it, so the merged model is no longer tied.
Trained rows of tokens count on both sides.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.errors import FormatError, InputError
from tokenspace.io import TensorEntry

from .folder import read_json
from .weights import FLOATS, Part, Shard, floats, narrow, read_rows

__all__ = ["Adapter", "Merged"]

_KINDS = (
    ("lora", re.compile(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight")),
    ("embedding", re.compile(r"(.+)\.lora_embedding_([AB])(?:\.\w+)?")),
    ("rows", re.compile(r"(.+?)(?:\.token_adapter)?\.(trainable_tokens_delta)(?:\.\w+)?")),
    ("unknown", re.compile(r"(.+)\.(lora_\w+|\w+_vector\w*)(?:\.\w+)?(?:\.weight)?")),
    ("unused", re.compile(r"(.+)\.(original_module)\.(?:weight|bias)")),
    ("saved", re.compile(r"(.+)\.modules_to_save(?:\.\w+)?\.(weight|bias)")),
    ("whole", re.compile(r"(.+?)(?:\.token_adapter)?(?:\.base_layer)?\.(weight|bias)")),
)
_ORDER = ("whole", "saved")  # what the others are added to
_OTHER_SUMS = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "layer_replication",
    "target_parameters",
)
"""Settings of peft under which the sum is not W + s B A, or W is another tensor."""
_OTHER_BASES = re.compile(r"pissa.*|olora|corda|loftq|lora_ga")
_CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp")
_MERGE_ONCE = "merge it once: model.merge_and_unload().save_pretrained(DIR)"

Rows = Callable[[int, int], Floats2d]


@dataclass(frozen=True, eq=False)
class Change:
    """New content of a tensor: its shape, a function for some of its rows, and whose type it has.

    ``like`` is the tensor itself, or the one that stood for it while they were tied.
    """

    like: str
    shape: tuple[int, ...]
    rows: Rows


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
            for kind, pattern in _KINDS:
                if match := pattern.fullmatch(_inner(name)):
                    found[name] = (kind, match[1], match[2])
                    break
            else:
                found[name] = ("unknown", _inner(name), "")
        return found

    def touching(self, names: Collection[str]) -> tuple[str, ...]:
        """Return which of the tensors ``names`` the adapter changes, or has something beside."""
        paths = set()
        for name in self.shard.entries:
            for path in itertools.accumulate(_inner(name).split("."), "{}.{}".format):
                paths |= {path, f"{path}.weight"}
        return tuple(sorted(n for n in names if any(_same(path, n) for path in paths)))

    def check_carried(self, names: Collection[str]) -> None:
        """Raise :class:`InputError` unless it goes with any rows of the vocabulary tensors."""
        if self.config.get("alora_invocation_tokens"):
            raise InputError(
                f"{self.folder}: alora_invocation_tokens are ids of the old tokenizer",
                hint="train the adapter again on the result",
            )
        if touched := self.touching(names):
            raise InputError(
                f"{self.folder}: the adapter changes {', '.join(touched)}, whose rows are replaced",
                hint="merge it into the model: --merge-adapter",
            )

    def merge(
        self, parts: Sequence[Part], ties: Mapping[str, str], model_type: str = ""
    ) -> tuple[Part, ...]:
        """Return the files of the model with the adapter merged into them.

        ``ties`` are tensors that the model has only as another one, as in
        :attr:`Checkpoint.ties`: where the adapter makes them differ, both are in the result.
        Raises :class:`InputError` for a kind of adapter that is not merged here, or for one that
        changes a tensor which the model does not have.
        """
        self._check_merged()
        here = {name: (part, name) for part in parts for name in part.entries}
        tied = {name: here[one] for name, one in ties.items() if name not in here}
        every = here | tied
        changes: dict[str, Change] = {}
        apart = False
        for name, (kind, module, piece) in sorted(self.pieces.items(), key=_first_whole):
            if piece == "B" or kind == "unused":
                continue
            target = self._find(module, "bias" if piece == "bias" else "weight", every)
            under = changes.get(target) or _unchanged(*every[target])
            conv = model_type in _CONV1D
            changes[target] = self._change(name, kind, module, under, conv=conv)
            same = [n for n, one in ties.items() if one == target]
            if kind == "rows":
                changes |= {n: changes[target] for n in same if n in here}
            elif piece != "bias":
                apart |= bool(same) or target in ties
        if apart:
            changes = {name: _unchanged(*place) for name, place in tied.items()} | changes
        return tuple(
            Merged(part, {n: c for n, c in changes.items() if every[n][0] is part})
            for part in parts
        )

    def _check_merged(self) -> None:
        """Raise :class:`InputError` for a kind of adapter that is not merged here."""
        kind = str(self.config.get("peft_type", "LORA"))
        start = str(self.config.get("init_lora_weights"))
        other = next((field for field in _OTHER_SUMS if self.config.get(field)), None)
        if kind not in ("LORA", "TRAINABLE_TOKENS"):
            what = f"an adapter of kind {kind}"
        elif other:
            what = f"an adapter with {other}"
        elif _OTHER_BASES.fullmatch(start):
            what = f"an adapter that began as {start}, which changes the model as well,"
        else:
            unknown = (name for name, (kind, _, _) in self.pieces.items() if kind == "unknown")
            if (name := next(unknown, None)) is None:
                return
            what = f"tensor {name}"
        raise InputError(f"{self.folder}: {what} is not merged here", hint=_MERGE_ONCE)

    def _find(self, module: str, what: str, every: Collection[str]) -> str:
        """Return the model's name of a tensor; prefixes of the two may differ."""
        wanted = f"{module}.{what}"
        if wanted in every:
            return wanted
        if near := [n for n in every if _same(n, wanted)]:
            return max(near, key=len)
        raise InputError(
            f"{self.folder}: the adapter changes {wanted}, which the model does not have",
            hint="its base is another model, or it has a head of its own; " + _MERGE_ONCE,
        )

    def _change(self, name: str, kind: str, module: str, under: Change, *, conv: bool) -> Change:
        """Return what a tensor of the adapter makes of ``under``."""
        shape, mine = under.shape, floats(self.shard, name)
        if kind in ("whole", "saved"):
            if mine.shape[1:] != shape[1:]:
                raise self._misfit(name, mine.shape, shape)
            return Change(under.like, mine.shape, lambda start, stop: mine[start:stop])
        if kind == "rows":
            return self._replaced(name, module, mine, under)
        up = floats(self.shard, re.sub(r"lora_(embedding_)?A", r"lora_\1B", name))  # (out, r)
        scale = np.float32(self._scale(module, len(mine)))
        # Peft turns fan_in_fan_out itself for the layers at hand and keeps the last one's, so that
        # of a model with both kinds only the shape tells, and where that is square, the kind.
        ends = (up.shape[0], mine.shape[1])
        flip = kind == "embedding" or (
            shape == ends[::-1]
            and (shape != ends or conv or bool(self.config.get("fan_in_fan_out")))
        )
        ends = ends[::-1] if flip else ends
        if shape != ends or mine.ndim != 2 or up.shape[1] != len(mine):
            raise self._misfit(name, ends, shape)
        left, right = (mine.T, up.T) if flip else (up, mine)

        def rows(start: int, stop: int) -> Floats2d:
            return under.rows(start, stop) + scale * (left[start:stop] @ right)

        return Change(under.like, shape, rows)

    def _replaced(self, name: str, module: str, mine: Floats2d, under: Change) -> Change:
        """Return a matrix in which some rows are the adapter's."""
        given = self.config.get("trainable_token_indices") or self.config.get("token_indices")
        if isinstance(given, dict):  # a tied output is not named beside its input
            near = (v for k, v in given.items() if _same(str(k), module))
            given = next(near, next(iter(given.values())))
        ids = np.array(given or [], np.int64)
        shape = under.shape
        if len(ids) != len(mine) or mine.shape[1:] != shape[1:] or (ids >= shape[0]).any():
            raise self._misfit(name, mine.shape, (len(ids), *shape[1:]))

        def rows(start: int, stop: int) -> Floats2d:
            block = np.array(under.rows(start, stop))
            inside = np.flatnonzero((ids >= start) & (ids < stop))
            block[ids[inside] - start] = mine[inside]
            return block

        return Change(under.like, shape, rows)

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


def _inner(name: str) -> str:
    """Return the name of an adapter's tensor as the model has it."""
    return name.removeprefix("base_model.model.")


def _same(one: str, other: str) -> bool:
    """Tell whether two names are equal, or would be without the beginning of one."""
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


def _first_whole(item: tuple[str, tuple[str, str, str]]) -> int:
    kind = item[1][0]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _unchanged(part: Part, name: str) -> Change:
    return Change(name, part.entries[name].shape, partial(read_rows, part, name))


@dataclass(frozen=True, eq=False)
class Merged:
    """A file of weights with some tensors changed while they are read; a ``Part``."""

    part: Part
    changes: Mapping[str, Change]

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
        """The tensors by name; the adapter may bring more rows, or what was tied before."""
        made = dict(self.part.entries)
        for name, change in self.changes.items():
            old = self.part.entries[change.like]
            size = np.dtype(FLOATS[old.dtype]).itemsize
            nbytes = math.prod(change.shape) * size
            made[name] = TensorEntry(old.dtype, change.shape, old.begin, nbytes)
        return made

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return bytes ``begin`` to ``end`` of a tensor, rounded to its type."""
        if name not in self.changes:
            return self.part.read(name, begin, end)
        change = self.changes[name]
        size = max(1, self.entries[name].nbytes // max(1, change.shape[0]))
        start, stop = begin // size, -(-end // size)
        raw = narrow(change.rows(start, stop), self.entries[name].dtype).tobytes()
        return raw[begin - start * size : end - start * size]
