"""Writing a model directory that has another vocabulary.

Shards without a vocabulary tensor are linked (or copied) byte for byte; the others are written
again in blocks. Settings and tokenizer are new files. The directory appears under its name only
when everything is in it, and the source is only read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, check_finite
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import replacing
from tokenspace.vocab import Vocabulary

from .adapter import Adapter
from .folder import read_json
from .ids import Ids as Mapped
from .ids import untie as untied
from .ids import vocabulary_sizes
from .model import Checkpoint
from .target import TOKENIZER_FILES, Target, lone_specials
from .tensors import VocabTensor
from .weights import New, floats, place, read_rows, rewrite

__all__ = ["Written", "write"]

_OTHER_WEIGHTS = re.compile(
    r".*\.(bin|pth?|ckpt|h5|msgpack|onnx|gguf|ot|tflite|npz|safetensors)(\.index\.json)?"
)


@dataclass(frozen=True)
class Written:
    """What was written: the directory, rows of the new matrices, and what became of the files.

    ``padding`` of the ``rows`` have no token. ``kept`` are shards passed on byte for byte,
    ``linked`` of them as hard links; ``rewritten`` those with new tensors; ``left_out`` what was
    not taken over, such as weights in other formats. ``notes`` is what a user should know.
    """

    path: Path
    rows: int
    padding: int
    kept: tuple[str, ...]
    linked: int
    rewritten: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


def write(
    checkpoint: Checkpoint,
    out: str | Path,
    target: Target | Vocabulary | str | Path,
    *,
    input: Floats2d,
    output: Floats2d | None = None,
    others: Mapping[str, Floats2d] | None = None,
    partners: Ids | None = None,
    rows: int | None = None,
    pad_to_multiple: int | None = None,
    untie: bool = False,
    link: bool = True,
    force: bool = False,
    chat_template: str = "donor",
    finish: Callable[[Path, Written], object] | None = None,
) -> Written:
    """Write ``checkpoint`` to ``out`` with the tokens of ``target`` and these rows.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model; only read.
    out : path
        A directory that does not exist.
    target : Target, or what :meth:`Target.of` takes
        The new tokenizer. ``chat_template`` counts only where it is not a ``Target`` yet.
    input, output : (V', d) float32
        The row of every token of ``target.vocab``. ``output`` is needed exactly where
        the model has an output matrix of its own, or gets one by ``untie``.
    others : mapping from tensor name to float32, optional
        The content of other vocabulary tensors, tokens along their axis. By default a token takes
        what its partner had, and the mean over all partners where it has none; a special token
        the mean over those of special tokens.
    partners : (V',) int64, optional
        For every token its token in the model's vocabulary, or -1. By default those of equal
        bytes or role.
    rows : int, optional
        Height of the new matrices, e.g. the target model's for a speculative-decoding draft. By
        default the number of tokens; for the model's own tokenizer, its own height.
    pad_to_multiple : int, optional
        Round the height up. Rows without a token are the mean of the others.
    untie : bool
        Give a tied model an output matrix of its own.
    link : bool
        Whether shards that did not change may be hard links to the source's.
    force : bool
        Replace a directory that exists.
    finish : callable, optional
        Called with the finished directory, before it gets its name, and with what is returned: to
        validate it, or to put a report in. If it raises, nothing is left behind.

    Raises
    ------
    ConfigError
        When ``rows``, ``pad_to_multiple`` or ``untie`` do not fit.
    InputError
        When ``out`` exists, or when rows are missing, of the wrong shape or not finite.
    FormatError
        When the source is damaged, or says nowhere how many tokens it has.
    """
    out = Path(out)
    if out.exists() and not force:
        raise InputError(f"{out}: it exists", hint="choose another name, or repeat with --force")
    if out.exists() and (
        not out.is_dir()
        or out.resolve() == checkpoint.root.resolve()
        or checkpoint.root.resolve().is_relative_to(out.resolve())
    ):
        raise InputError(f"{out}: it is or holds the source, or is a file", hint="choose another")
    if not isinstance(target, Target):
        target = Target.of(checkpoint, target, chat_template=chat_template)
    plan = _Plan(checkpoint, target, partners, rows, pad_to_multiple, untie)
    changes = plan.changes(input, output, dict(others or {}))
    config, generation = plan.config(), plan.generation()
    with replacing(out) as partial:
        partial.mkdir()
        folder = partial / checkpoint.folder.relative_to(checkpoint.root)
        folder.mkdir(parents=True, exist_ok=True)
        kept, linked, rewritten = _weights(checkpoint, folder, changes, link)
        left_out = _rest(checkpoint, partial, folder)
        for name, content in {"config.json": config, "generation_config.json": generation}.items():
            if content is not None:
                _settings(checkpoint.folder / name, folder / name, content)
        for name, file in target.files.items():
            if isinstance(file, bytes):
                (folder / name).write_bytes(file)
            else:
                shutil.copyfile(file, folder / name)
        if checkpoint.adapter is not None:
            _adapter(checkpoint.adapter, partial / "adapter")
            plan.notes.append(
                "the PEFT adapter is in adapter/, unchanged:"
                f" PeftModel.from_pretrained(model, '{out / 'adapter'}')"
            )
        if left_out:
            plan.notes.append("left out: " + ", ".join(left_out))
        written = Written(
            out,
            plan.rows,
            plan.rows - min(plan.rows, plan.tokens),
            kept,
            linked,
            rewritten,
            left_out,
            (*target.notes, *plan.notes),
        )
        if finish is not None:
            finish(partial, written)
    return written


class _Plan:
    """How high the new matrices are, and what is in them."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Target,
        partners: Ids | None,
        rows: int | None,
        pad_to_multiple: int | None,
        untie: bool,
    ) -> None:
        self.checkpoint = checkpoint
        self.target = target
        self.tokens = len(target.vocab)
        self.same = target.identical
        self.notes: list[str] = []
        self.rows = self._height(rows, pad_to_multiple)
        self.untie = untie and checkpoint.tied
        if untie and not (checkpoint.tied and checkpoint.headed):
            what = "has no output" if checkpoint.tied else "is not tied"
            raise ConfigError(f"{checkpoint.root}: the model {what}", hint="leave untie away")
        if partners is None:
            if self.same:
                partners = np.arange(self.tokens, dtype=np.int64)
                partners[self.tokens if self.tokens < checkpoint.rows else checkpoint.rows :] = -1
            else:
                partners = target.vocab.match(checkpoint.vocab).ids.copy()
                for new, old in target.copies.items():
                    partners[new] = old
        if partners.shape != (self.tokens,) or int(partners.max(initial=-1)) >= checkpoint.rows:
            raise InputError(
                f"partners of shape {partners.shape}: one of the model's {checkpoint.rows} ids, or"
                f" -1, is needed for each of the {self.tokens} tokens"
            )
        self.partners = partners

    def _height(self, rows: int | None, multiple: int | None) -> int:
        if rows is not None and multiple is not None:
            raise ConfigError("rows and pad_to_multiple exclude each other", hint="give one")
        if multiple is not None and multiple < 1:
            raise ConfigError(f"pad_to_multiple={multiple} is below 1")
        ghosts = self.same and self.tokens > self.checkpoint.rows
        least = self.checkpoint.rows if ghosts else self.tokens
        if rows is not None and rows < least:
            raise ConfigError(
                f"rows={rows} is below the {least} tokens of the tokenizer",
                hint=f"give at least {least}",
            )
        if rows is not None:
            return rows
        if multiple is not None:
            return -(-least // multiple) * multiple
        return self.checkpoint.rows if self.same else self.tokens

    # Tensors

    def changes(
        self,
        inner: Floats2d,
        outer: Floats2d | None,
        others: dict[str, Floats2d],
    ) -> dict[str, New]:
        """Return the new content of every vocabulary tensor, by name."""
        checkpoint = self.checkpoint
        made: dict[str, New] = {}
        if (outer is None) == (not checkpoint.tied or self.untie):
            raise InputError(
                f"{checkpoint.root}: "
                + (
                    "it has no output matrix"
                    if outer is not None
                    else "its output matrix is its own"
                ),
                hint="give output rows exactly where the model is not tied",
            )
        known = {t.name for t in checkpoint.tensors if t.role not in ("input", "output")}
        for name in others:
            if name not in known:
                raise InputError(
                    f"{checkpoint.root}: no vocabulary tensor {name!r}",
                    hint="others: " + (", ".join(sorted(known)) or "none"),
                )
        for tensor in checkpoint.tensors:
            if tensor.role in ("input", "output"):
                new = self._matrix(
                    tensor, inner if tensor.role == "input" or outer is None else outer
                )
            else:
                new = self._other(tensor, others.get(tensor.name))
            made |= dict.fromkeys((tensor.name, *tensor.aliases), new)
        if self.untie:
            assert outer is not None
            for name, one in checkpoint.ties.items():
                made[name] = made[one]
            made[checkpoint.head] = self._matrix(checkpoint.tensors[0], outer, source=False)
        return made

    def _check(self, values: npt.NDArray[np.float32], shape: tuple[int, ...], what: str) -> None:
        if values.shape != shape:
            raise InputError(f"{what}: rows of shape {values.shape}, not {shape}")
        check_finite(values.reshape(len(values), -1), what, self.target.vocab.tokens)

    def _matrix(self, tensor: VocabTensor, values: Floats2d, *, source: bool = True) -> New:
        """Return the new content of an input or output matrix."""
        entry = self.checkpoint.entry(tensor.name)
        width = entry.shape[1]
        self._check(values, (self.tokens, width), tensor.name)
        if self.same and source:
            return self._again(tensor, values)
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)

        def rows(start: int, stop: int) -> npt.NDArray[np.float32]:
            block = values[start : min(stop, self.tokens)]
            missing = stop - max(start, self.tokens)
            return block if missing <= 0 else np.concatenate([block, np.tile(mean, (missing, 1))])

        return New.rows(entry.dtype, (self.rows, width), rows)

    def _again(self, tensor: VocabTensor, values: Floats2d) -> New:
        """Return a matrix for the model's own tokenizer: rows without a token stay as they are."""
        entry = self.checkpoint.entry(tensor.name)
        part, (height, width) = self.checkpoint.part(tensor.name), entry.shape
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        empty = np.ones(self.rows, bool)
        empty[: self.tokens] = False
        empty[[i for i in self.target.vocab.holes if i < self.rows]] = True

        def rows(start: int, stop: int) -> npt.NDArray[np.float32]:
            block = np.empty((stop - start, width), np.float32)
            block[:] = mean
            new = values[start:stop]
            block[: len(new)] = new
            end = min(stop, height)
            if empty[start:end].any():
                old = read_rows(part, tensor.name, start, end)
                block[: len(old)][empty[start:end]] = old[empty[start:end]]
            return block

        return New.rows(entry.dtype, (self.rows, width), rows)

    def _other(self, tensor: VocabTensor, given: npt.NDArray[np.float32] | None) -> New:
        """Return the new content of a bias or another tensor with something for every token."""
        entry, axis = self.checkpoint.entry(tensor.name), tensor.axis
        old = np.moveaxis(floats(self.checkpoint.part(tensor.name), tensor.name), axis, 0)
        partners = np.where(self.partners < len(old), self.partners, -1)
        found = partners >= 0
        shared = np.unique(partners[found])
        mean = (old[shared] if len(shared) else old).mean(axis=0, dtype=np.float64)
        lone, specials = lone_specials(self.target.vocab, partners)
        common = old[specials].mean(axis=0, dtype=np.float64) if len(lone) else mean
        if given is not None:
            given = np.moveaxis(np.asarray(given, np.float32), axis, 0)
            self._check(given, (self.tokens, *old.shape[1:]), tensor.name)

        def rows(start: int, stop: int) -> npt.NDArray[np.float32]:
            block = np.empty((stop - start, *old.shape[1:]), np.float32)
            block[:] = mean
            if self.same:
                block[: max(0, len(old) - start)] = old[start:stop]
            if given is not None:
                block[: max(0, self.tokens - start)] = given[start:stop]
                return block
            mates = partners[start:stop]
            block[np.flatnonzero(mates >= 0)] = old[mates[mates >= 0]]
            block[lone[(lone >= start) & (lone < stop)] - start] = common
            return block

        if axis == 0:
            return New.rows(entry.dtype, (self.rows, *old.shape[1:]), rows)
        whole = np.moveaxis(rows(0, self.rows), 0, axis)
        return New.rows(entry.dtype, whole.shape, lambda start, stop: whole[start:stop])

    # Settings

    def config(self) -> dict[str, Any] | None:
        """Return the new config.json, or None where the model has none."""
        checkpoint = self.checkpoint
        if not checkpoint.config:
            return None
        config: dict[str, Any] = json.loads(json.dumps(checkpoint.config))
        paths = vocabulary_sizes(config, checkpoint.rows)
        if not paths:
            raise FormatError(
                f"{checkpoint.folder / 'config.json'}: no vocab_size of {checkpoint.rows}, the"
                f" rows of {checkpoint.tensors[0].name}",
                hint="correct it by hand if weights and settings are of one model",
            )
        if not self.same:
            ids = self._ids()
            config = ids.remap(config, "config.json", drop=False)
            self.notes += ids.lost
        for path in paths:
            part = config
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = self.rows
        for tensor in checkpoint.tensors:
            if tensor.role == "per_layer":
                self._per_layer(config)
        if self.untie:
            untied(config)
        return config

    def _per_layer(self, config: dict[str, Any]) -> None:
        for part in (config, *(v for v in config.values() if isinstance(v, dict))):
            if "vocab_size_per_layer_input" in part:
                part["vocab_size_per_layer_input"] = self.rows

    def generation(self) -> dict[str, Any] | None:
        """Return the new generation_config.json, or None where the model has none."""
        path = self.checkpoint.folder / "generation_config.json"
        if not path.is_file():
            return None
        settings = dict(read_json(path))
        if self.same:
            return settings
        ids = self._ids()
        settings = ids.remap(settings, path.name, drop=True)
        self.notes += ids.lost
        return settings

    def _ids(self) -> Mapped:
        return Mapped(self.checkpoint.vocab, self.target.vocab, self.target.counterparts)


def _weights(
    checkpoint: Checkpoint, folder: Path, changes: Mapping[str, New], link: bool
) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Write all shards and their index; return those kept, how many are links, those rewritten."""
    kept, linked, rewritten = [], 0, []
    homes: dict[str, str] = {}
    first = checkpoint.part(checkpoint.tensors[0].name)
    every = {name for part in checkpoint.parts for name in part.entries}
    total = 0
    for part in checkpoint.parts:
        mine = {n: c for n, c in changes.items() if n in part.entries}
        if part is first:
            mine |= {n: c for n, c in changes.items() if n not in every}
        homes |= dict.fromkeys((*part.entries, *mine), part.name)
        if mine or not part.intact:
            total += rewrite(part, folder / part.name, mine)
            rewritten.append(part.name)
        else:
            linked += place(part.path, folder / part.name, link=link)
            total += sum(entry.nbytes for entry in part.entries.values())
            kept.append(part.name)
    index = checkpoint.folder / "model.safetensors.index.json"
    if index.is_file() or len(checkpoint.parts) > 1:
        content = dict(read_json(index)) if index.is_file() else {}
        metadata = {**content.get("metadata", {}), "total_size": total}
        if "total_parameters" in metadata:
            metadata["total_parameters"] = int(metadata["total_parameters"]) + _growth(
                checkpoint, changes
            )
        content |= {"metadata": metadata, "weight_map": dict(sorted(homes.items()))}
        _settings(index, folder / index.name, content)
    return tuple(kept), linked, tuple(rewritten)


def _settings(source: Path, path: Path, content: Mapping[str, Any]) -> None:
    """Write settings; a file in which nothing changed is copied byte for byte."""
    if source.is_file() and read_json(source) == content:
        shutil.copyfile(source, path)
    else:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def _adapter(adapter: Adapter, folder: Path) -> None:
    """Copy an adapter as it is, without the tokenizer that may lie beside it."""
    folder.mkdir()
    for path in sorted(adapter.folder.iterdir()):
        if path.is_file() and path.name not in TOKENIZER_FILES and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)


def _growth(checkpoint: Checkpoint, changes: Mapping[str, New]) -> int:
    """Return how many numbers more the new tensors have."""
    before = {n: e.shape for part in checkpoint.parts for n, e in part.entries.items()}
    return sum(
        int(np.prod(new.shape)) - int(np.prod(before[name]))
        if name in before
        else int(np.prod(new.shape))
        for name, new in changes.items()
    )


def _rest(checkpoint: Checkpoint, partial: Path, folder: Path) -> tuple[str, ...]:
    """Copy what else belongs to the model; return what was left out."""
    left_out = []
    ours = {part.path.name for part in checkpoint.parts}
    ours |= {"config.json", "generation_config.json", *TOKENIZER_FILES}
    ours |= {"model.safetensors.index.json", "pytorch_model.bin.index.json"}
    ours.add("vocabulary.json")  # our own note of the old tokenizer
    for base, home in {checkpoint.root: partial, checkpoint.folder: folder}.items():
        for path in sorted(base.iterdir()):
            if not path.is_file() or path.name.startswith("."):
                continue
            if base == checkpoint.folder and path.name in ours:
                continue
            if _OTHER_WEIGHTS.fullmatch(path.name):
                left_out.append(path.name)
                continue
            shutil.copyfile(path, home / path.name)
    modules = checkpoint.root / "modules.json"
    inner = checkpoint.folder.relative_to(checkpoint.root)
    named = {str(m.get("path", "")) for m in read_json(modules)} if modules.is_file() else set()
    for path in sorted(checkpoint.root.iterdir()):
        if not path.is_dir() or path.name.startswith(".") or path.name == inner.name:
            continue
        if path.name in named:
            shutil.copytree(path, partial / path.name)
        else:
            left_out.append(f"{path.name}/")
    return tuple(left_out)
