"""Where the weights of a model changed in training: tensor by tensor, by layer and by role.

Of a tensor W that became W', with D = W' - W::

    relative    ||D||_F / ||W||_F
    largest     max |D|
    cosine      <W, W'> / (||W||_F ||W'||_F)
    rank        exp(-sum_i p_i ln p_i),  p_i = s_i / sum_j s_j,  s the singular values of D
    flipped     the share of entries whose sign became the other one
    unchanged   the share of entries that are equal to the bit

``rank`` is the effective rank (Roy and Vetterli, 2007): 1 for a change of rank one, as many as the
shorter side for one without direction. It is for matrices only. Of a matrix whose shorter side is
over 1,024, a randomised decomposition gives the first 64 singular values, and the rank is theirs.

Tensors are matched by name and read one at a time, a matrix in blocks: two tensors are held at
most, and models of any size can be compared. Half precision is widened first. Rows that a matrix
got, such as those of new tokens, are left out of the comparison and counted apart.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.checkpoint.folder import locate
from tokenspace.checkpoint.weights import FLOATS, Part, Shard, find_parts, floats
from tokenspace.errors import FormatError, InputError
from tokenspace.progress import track
from tokenspace.rng import stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Change", "Difference", "TensorChange", "difference", "layer_of", "role_of"]

ROLES: Mapping[str, re.Pattern[str]] = {
    "norm": re.compile(r"norm|(^|\.)ln(_\w+|\d)?\.", re.IGNORECASE),
    "emb": re.compile(r"embed|(^|\.)(wte|wpe|shared)\.|position"),
    "head": re.compile(r"(^|\.)(lm_head|cls|pooler|score|classifier)\."),
    "qkv": re.compile(r"c_attn|qkv|query_key_value|in_proj"),
    "q": re.compile(r"(^|[._])(q|query|wq)(_proj|_lin)?\."),
    "k": re.compile(r"(^|[._])(k|key|wk)(_proj|_lin)?\."),
    "v": re.compile(r"(^|[._])(v|value|wv)(_proj|_lin)?\."),
    "o": re.compile(
        r"(attn|attention|attention\.output)\.(o|o_proj|out_proj|out_lin|dense|c_proj|wo)\."
        r"|(o_proj|SelfAttention\.o|out_lin)\."
    ),
    "mlp": re.compile(
        r"mlp|ffn|feed_forward|intermediate|output\.dense|DenseReluDense"
        r"|(^|[._])(fc\d?|lin\d|(gate|up|down)_proj|w[io_\d]+)\."
    ),
}
"""What a tensor is for, by the first pattern that its name has; ``other`` where none has."""

RANK, EXACT = 64, 1024  # singular values that are taken at random, and the side from which on
_BLOCK = 1 << 22  # numbers of a matrix that are looked at together
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_FORMER = {".gamma": ".weight", ".beta": ".bias"}  # of norms, as the first checkpoints call them


@dataclass(frozen=True)
class Change:
    """What became of the weights of a tensor, or of several: sums that can be added.

    ``base``, ``tuned`` and ``moved`` are sums of squares of W, W' and D, ``dot`` is of their
    products; ``signs`` and ``same`` count entries that flipped and that did not change.
    """

    size: int
    base: float
    tuned: float
    moved: float
    dot: float
    largest: float
    signs: int
    same: int
    ranks: tuple[float, ...] = ()

    @classmethod
    def of(cls, parts: Iterable[Change]) -> Self:
        """Return the change of all parts together; its rank is the mean of theirs."""
        every = list(parts)
        return cls(
            sum(part.size for part in every),
            sum(part.base for part in every),
            sum(part.tuned for part in every),
            sum(part.moved for part in every),
            sum(part.dot for part in every),
            max((part.largest for part in every), default=0.0),
            sum(part.signs for part in every),
            sum(part.same for part in every),
            tuple(rank for part in every for rank in part.ranks),
        )

    @property
    def figures(self) -> dict[str, float]:
        """The module's figures; NaN where one is not defined, as against weights of zero."""
        lengths = math.sqrt(self.base) * math.sqrt(self.tuned)
        still = 0.0 if self.moved == 0 else math.nan
        return {
            "relative": math.sqrt(self.moved / self.base) if self.base else still,
            "largest": self.largest,
            "cosine": min(1.0, self.dot / lengths) if lengths else 1.0 + still,
            "rank": float(np.mean(self.ranks)) if self.ranks else math.nan,
            "flipped": self.signs / self.size if self.size else 0.0,
            "unchanged": self.same / self.size if self.size else 1.0,
        }


class TensorChange(NamedTuple):
    """A tensor that both models have; ``added`` rows of it are new, of ``added_norm`` each.

    ``dtype`` names the type, or both types; ``added_norm`` is the mean length of the new rows over
    that of the others.
    """

    name: str
    shape: tuple[int, ...]
    layer: int | None
    role: str
    dtype: str
    change: Change
    added: int = 0
    added_norm: float = math.nan


@dataclass(frozen=True)
class Difference:
    """All tensors of two models, and the names that only one of them has.

    ``missing`` are in the base only, ``unexpected`` in the tuned model only; ``reshaped`` have
    other shapes, and ``tied`` are another tensor once more. Tensors of whole numbers, and of fewer
    than 16 bits a number, are left out.
    """

    base: str
    tuned: str
    tensors: tuple[TensorChange, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    tied: tuple[str, ...]

    @property
    def whole(self) -> Change:
        """All tensors together."""
        return Change.of(tensor.change for tensor in self.tensors)

    @property
    def changed(self) -> int:
        """How many tensors have an entry that changed."""
        return sum(tensor.change.same < tensor.change.size for tensor in self.tensors)

    def by_layer(self) -> dict[str, Change]:
        """Return the change of each layer in order; what is in none is called by its role."""
        return self._by(
            lambda t: (t.layer is not None, t.layer or 0, "" if t.layer is not None else t.role)
        )

    def by_role(self) -> dict[str, Change]:
        """Return the change of each role over all layers."""
        order = [*ROLES, "other"]
        return self._by(lambda t: (True, order.index(t.role), t.role))

    def _by(self, key: Callable[[TensorChange], tuple[bool, int, str]]) -> dict[str, Change]:
        groups = sorted({key(tensor) for tensor in self.tensors})
        return {
            name or str(number): Change.of(t.change for t in self.tensors if key(t) == group)
            for group in groups
            for _, number, name in [group]
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "base": self.base,
            "tuned": self.tuned,
            "changed": self.changed,
            "whole": self.whole.figures,
            "layers": {name: change.figures for name, change in self.by_layer().items()},
            "roles": {name: change.figures for name, change in self.by_role().items()},
            "tensors": [
                {
                    "name": t.name,
                    "shape": list(t.shape),
                    "layer": t.layer,
                    "role": t.role,
                    "dtype": t.dtype,
                    **t.change.figures,
                    "added_rows": t.added,
                    "added_norm": t.added_norm,
                }
                for t in self.tensors
            ],
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "reshaped": list(self.reshaped),
            "tied": list(self.tied),
        }

    def to_svg(self) -> str:
        """Draw the relative change of each role along the layers."""
        from tokenspace.page import draw

        inside = [tensor for tensor in self.tensors if tensor.layer is not None]
        outside = {n: c for n, c in self.by_layer().items() if not n.isdigit()}

        def paint(axes: Axes) -> None:
            for role in [*ROLES, "other"]:
                layers = sorted({t.layer for t in inside if t.role == role and t.layer is not None})
                parts = (
                    Change.of(t.change for t in inside if (t.role, t.layer) == (role, layer))
                    for layer in layers
                )
                if layers:
                    heights = [part.figures["relative"] for part in parts]
                    axes.plot(layers, heights, marker="o", label=role)
            for role, change in outside.items():
                axes.plot([-1], [change.figures["relative"]], marker="s", ls="", label=role)
            axes.set_xlabel("layer (-1: in none)")
            axes.set_ylabel("change, relative to the weights")
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, ncols=2)

        return draw(paint, 4.0)


def difference(base: str | Path, tuned: str | Path) -> Difference:
    """Compare the weights of two models: directories, installed packages or hub ids.

    No code of either is run. Names that differ only by a prefix, such as ``bert.``, are the same.

    Raises :class:`InputError` where there are no weights of safetensors or no tensor in common, and
    :class:`FormatError` for a damaged file and for weights that are not finite.
    """
    one, other = (_named(_weights(_folder(given))) for given in (base, tuned))
    one, other = _aligned(one, other), _aligned(other, one)
    shared = [name for name in one if name in other]
    if not shared:
        raise InputError(
            f"{base} and {tuned} have no tensor in common",
            hint=f"first names: {next(iter(one), 'none')}, {next(iter(other), 'none')}",
        )
    reshaped, tied, tensors = [], [], []
    seen: set[tuple[bytes, bytes]] = set()
    for name in track(shared, "tensors"):
        W, V = one[name], other[name]
        if not _comparable(W.shape, V.shape):
            reshaped.append(name)
            continue
        tensor = _tensor(name, W, V, seen)
        if tensor is None:
            tied.append(name)
        else:
            tensors.append(tensor)
    if not tensors:
        raise InputError(
            f"{base} and {tuned}: no tensor has the same shape in both",
            hint="compare a model with one that was trained from it",
        )
    return Difference(
        str(base),
        str(tuned),
        tuple(tensors),
        tuple(name for name in one if name not in other),
        tuple(name for name in other if name not in one),
        tuple(reshaped),
        tuple(tied),
    )


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a tensor belongs to: the first number in its name."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def role_of(name: str) -> str:
    """Return what a tensor is for; see :data:`ROLES`."""
    return next((role for role, pattern in ROLES.items() if pattern.search(name)), "other")


class _Weight(NamedTuple):
    """A tensor in a file."""

    part: Part
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.part.entries[self.name].shape

    @property
    def dtype(self) -> str:
        return self.part.entries[self.name].dtype

    def values(self) -> Floats2d:
        return np.ascontiguousarray(floats(self.part, self.name))


def _folder(given: str | Path) -> Path:
    return locate(str(given), trust_remote_code=True)  # which only files of weights are read of


def _weights(folder: Path) -> Iterator[tuple[str, _Weight]]:
    """Yield all weights; those of modules after the first are called by the module's directory."""
    listing = folder / "modules.json"
    places = [(folder, "")]
    if listing.is_file():
        try:
            paths = [str(module["path"]) for module in json.loads(listing.read_bytes())]
        except (ValueError, KeyError, TypeError) as fault:
            raise FormatError(f"{listing}: not whole ({fault})", hint="get it again") from fault
        places = [(folder / path, f"{path}." if i else "") for i, path in enumerate(paths)]
    for i, (place, prefix) in enumerate(places):
        if i and not (place / "model.safetensors").is_file():
            continue
        for file in find_parts(place):
            part = Shard(file)
            for name, entry in part.entries.items():
                if entry.dtype in FLOATS:
                    yield prefix + name, _Weight(part, name)


def _named(weights: Iterable[tuple[str, _Weight]]) -> dict[str, _Weight]:
    found = {}
    for name, weight in weights:
        former = next((end for end in _FORMER if name.endswith(end)), "")
        found[name.removesuffix(former) + _FORMER.get(former, "")] = weight
    return found


def _aligned(own: dict[str, _Weight], other: Mapping[str, _Weight]) -> dict[str, _Weight]:
    """Return ``own`` without the prefix whose loss lets most names agree with ``other``."""
    prefixes = ["", *dict.fromkeys(name.partition(".")[0] + "." for name in own)]

    def common(prefix: str) -> int:
        return sum(name.removeprefix(prefix) in other for name in own)

    best = max(prefixes, key=common)  # of equal ones the first, which changes nothing
    return {name.removeprefix(best): weight for name, weight in own.items()}


def _digest(values: Floats2d) -> bytes:
    return hashlib.sha256(values.data).digest()


def _comparable(base: Sequence[int], tuned: Sequence[int]) -> bool:
    """Tell whether the shapes are equal, or but for the number of rows of a matrix."""
    return tuple(base) == tuple(tuned) or (
        len(base) == len(tuned) == 2 and base[1] == tuned[1] and min(base[0], tuned[0]) > 0
    )


def _tensor(
    name: str, W: _Weight, V: _Weight, seen: set[tuple[bytes, bytes]]
) -> TensorChange | None:
    """Compare a tensor, or return None for one of the vocabulary whose content is in ``seen``."""
    base, tuned = W.values(), V.values()
    if len(W.shape) == 2 and role_of(name) in ("emb", "head"):
        digests = _digest(base), _digest(tuned)
        if digests in seen:
            return None
        seen.add(digests)
    added, length = 0, math.nan
    if W.shape != V.shape:
        rows = min(W.shape[0], V.shape[0])
        added = V.shape[0] - W.shape[0]
        if added > 0:
            new, old = (
                float(np.mean(np.linalg.norm(part.astype(np.float64), axis=1)))
                for part in (tuned[rows:], tuned[:rows])
            )
            length = new / old if old else math.nan
        base, tuned = base[:rows], tuned[:rows]
    dtype = W.dtype if W.dtype == V.dtype else f"{W.dtype} -> {V.dtype}"
    flat = base.shape if base.ndim == 2 else (len(base), -1) if base.ndim > 2 else (-1, 1)
    change = _change(name, base.reshape(flat), tuned.reshape(flat), matrix=base.ndim >= 2)
    return TensorChange(name, V.shape, layer_of(name), role_of(name), dtype, change, added, length)


def _change(name: str, base: Floats2d, tuned: Floats2d, *, matrix: bool) -> Change:
    """Compare two matrices (R, C), in blocks along the longer side."""
    if base.size == 0:
        return Change.of([])
    if base.shape[0] < base.shape[1]:
        base, tuned = base.T, tuned.T
    C = base.shape[1]
    exact = matrix and C <= EXACT
    gram = np.zeros((C, C) if exact else (0, 0))
    parts = []
    for W, V in _blocks(base, tuned):
        squares = float(np.vdot(W, W)), float(np.vdot(V, V))
        if not math.isfinite(sum(squares)):
            raise FormatError(f"{name}: a weight is not finite", hint="train again, or copy again")
        D = V - W
        part = Change(
            W.size,
            *squares,
            float(np.vdot(D, D)),
            float(np.vdot(W, V)),
            float(np.abs(D).max()),
            int(np.count_nonzero(W * V < 0)),
            int(np.count_nonzero(D == 0)),
        )
        parts.append(part)
        if exact:
            gram += D.T @ D
    whole = Change.of(parts)
    if not matrix or whole.moved == 0:
        return whole
    if exact:
        singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    else:
        singular = _first_singular(base, tuned)
    return Change.of([whole, Change(0, 0, 0, 0, 0, 0, 0, 0, (_effective(singular),))])


def _blocks(base: Floats2d, tuned: Floats2d) -> Iterator[tuple[Any, Any]]:
    """Yield corresponding rows in float64."""
    step = max(1, _BLOCK // base.shape[1])
    for start in range(0, len(base), step):
        stop = start + step
        yield base[start:stop].astype(np.float64), tuned[start:stop].astype(np.float64)


def _first_singular(base: Floats2d, tuned: Floats2d) -> Any:
    """Return the first 64 singular values of the change, by random projection."""
    C = base.shape[1]
    Q = stream(0, "singular values").standard_normal((C, RANK + 16))
    for _ in range(3):
        Y = np.zeros_like(Q)
        Q = np.linalg.qr(Q)[0]
        for W, V in _blocks(base, tuned):
            D = V - W
            Y += D.T @ (D @ Q)
        Q = Y
    # Q = D'D P of an orthonormal P: its singular values are those of D, squared
    return np.sqrt(np.linalg.svd(Q, compute_uv=False)[:RANK])


def _effective(singular: Any) -> float:
    """Return exp of the entropy of singular values."""
    p = singular[singular > 0] / singular.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
