"""A network that predicts the rows of new tokens for one model: what training ``zett`` gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, save_tensors, tensor_entries
from tokenspace.vocab import Vocabulary

__all__ = ["Hypernet", "Shape", "identity", "parameters"]

FORMAT, VERSION = "tokenspace-hypernet", 1
_HEADER = "tokenspace"  # the key of our metadata in the file's header


@dataclass(frozen=True)
class Shape:
    """The sizes of a network.

    ``width`` n is that of a row: d, or 2d where the input and the output row of an untied model
    stand side by side (``sides`` = 2). The states have width h = d, the layers within 2h.
    """

    width: int
    sides: int
    layers: int
    heads: int
    maxlen: int

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) is not int or value < 1:
                raise InputError(f"hypernet: {item.name}={value!r} is not a whole number from 1 on")
        if self.sides > 2 or self.width % self.sides or self.hidden % self.heads:
            raise InputError(
                f"hypernet: {self} does not divide into sides and heads",
                hint="choose a hidden width that the heads divide",
            )

    @property
    def hidden(self) -> int:
        """The width h of the states, which is that of the model."""
        return self.width // self.sides


@dataclass(frozen=True, eq=False)
class Hypernet:
    """A trained network with the matrices of the model that it was trained for. Immutable.

    ``weights`` are float32 arrays by name, as :func:`parameters` lists them; ``base`` (V, n)
    float32 the model's rows, and ``vocabulary`` the :func:`identity` of its tokens; ``notes`` say
    how it was trained.

    Raises :class:`InputError` where names, shapes or types disagree.
    """

    shape: Shape
    weights: Mapping[str, npt.NDArray[np.float32]]
    base: Floats2d
    vocabulary: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = parameters(self.shape)
        if self.weights.keys() != wanted.keys():
            odd = sorted(self.weights.keys() ^ wanted.keys())
            raise InputError(
                f"hypernet: weights that are missing or unknown: {', '.join(odd[:3])}",
                hint="write one: tokenspace hypernet MODEL",
            )
        for name, array in [*self.weights.items(), ("base", self.base)]:
            shape = wanted.get(name, (len(self.base), self.shape.width))
            if array.shape != shape or array.dtype != np.float32:
                raise InputError(
                    f"hypernet: {name} is {array.dtype} {array.shape}, not {shape}",
                    hint="write one: tokenspace hypernet MODEL",
                )
            if not np.isfinite(array).all():
                raise InputError(
                    f"hypernet: {name} holds NaN or infinite values",
                    hint="train it again with a lower learning rate",
                )

    def check(self, vocab: Vocabulary, width: int) -> None:
        """Raise :class:`InputError` unless the network speaks of these tokens and this width.

        The output rows of a model that is tied may stand beside its input rows.
        """
        fits = (1, 2) if self.shape.sides == 1 else (1,)
        if width not in [self.shape.width * times for times in fits]:
            raise InputError(
                f"hypernet: made for rows of width {self.shape.width}, not {width}",
                hint="give the network that was trained for this model, and for an untied model"
                " its directory as the source",
            )
        if identity(vocab) != self.vocabulary:
            raise InputError(
                "hypernet: made for another vocabulary than the source's",
                hint="give the network that was trained for this model or the one it comes from",
            )

    def save(self, path: str | Path) -> None:
        """Write one ``.safetensors`` file; equal networks give equal bytes."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise InputError(f"{path}: a hypernet is one .safetensors file", hint="name it so")
        about = {
            "format": FORMAT,
            "version": VERSION,
            "shape": asdict(self.shape),
            "vocabulary": self.vocabulary,
            "base": _digest(self.base),
            "notes": dict(self.notes),
        }
        tensors = {"base": self.base, **{name: self.weights[name] for name in sorted(self.weights)}}
        save_tensors(path, tensors, {_HEADER: json.dumps(about, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; the arrays are mapped.

        Raises :class:`InputError` where there is no file, :class:`FormatError` where it is
        damaged, no hypernet, or one of a later version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file", hint="give the file of a hypernet")
        tensor_entries(path)  # refuses what is no whole file of tensors
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        try:
            about = json.loads(header["__metadata__"][_HEADER])
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']!r}")
            version, shape = int(about["version"]), Shape(**about["shape"])
            tokens, digest, notes = about["vocabulary"], about["base"], dict(about["notes"])
        except (ValueError, KeyError, TypeError) as fault:
            raise FormatError(
                f"{path}: not a hypernet ({fault})", hint="write one: tokenspace hypernet MODEL"
            ) from fault
        if version > VERSION:
            raise FormatError(
                f"{path}: hypernet version {version} is newer than this library reads ({VERSION})",
                hint="pip install --upgrade tokenspace",
            )
        arrays: dict[str, Any] = dict(read_tensors(path))
        base = arrays.pop("base", np.zeros((0, 0), np.float32))
        if _digest(base) != digest:
            raise FormatError(
                f"{path}: the model's rows are not those that were saved", hint="train it again"
            )
        try:
            return cls(shape, arrays, base, tokens, notes)
        except InputError as fault:
            raise FormatError(f"{path}: {fault}", hint="train it again") from fault


def identity(vocab: Vocabulary) -> str:
    """Return a hash of a vocabulary's tokens and kind: not of its tokenizer's other settings."""
    text = json.dumps([vocab.kind, vocab.tokens])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parameters(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of the network, by name."""
    n, h = shape.width, shape.hidden
    found: dict[str, tuple[int, ...]] = {"positions": (shape.maxlen, h)}

    def linear(name: str, out: int, into: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, into), (out,)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (h,)

    def projector(name: str) -> None:
        linear(f"{name}.inner", 2 * h, h)
        linear(f"{name}.outer", h, 2 * h)
        norm(f"{name}.norm")

    for name in ("scale_in", "scale_out"):
        found[f"{name}.scale"] = found[f"{name}.shift"] = (n,)
    linear("lift", h, n)
    projector("entry")
    for i in range(shape.layers):
        norm(f"blocks.{i}.before")
        linear(f"blocks.{i}.qkv", 3 * h, h)
        linear(f"blocks.{i}.out", h, h)
        norm(f"blocks.{i}.between")
        linear(f"blocks.{i}.up", 2 * h, h)
        linear(f"blocks.{i}.down", h, 2 * h)
    norm("norm")
    for i in range(shape.sides):
        projector(f"heads.{i}.block")
        linear(f"heads.{i}.row", h, h)
    return found


def _digest(array: npt.NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()
