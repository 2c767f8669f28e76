"""Fixed dimensional encodings: one long vector for a matrix of token vectors.

The definition stands on the page of :mod:`tokenspace.retrieve.muvera`. Here is how it is computed:
rows are summed cell by cell at full width and each cell is projected once, since a projection is
linear; a final projection takes every block as it is made, so that the long encoding, 327,680
numbers in the paper's best recipe, exists for no document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, InputError
from tokenspace.jit import kernel, spread
from tokenspace.rng import stream

from ._shared import OnEmpty, check_docs, check_queries
from .store import DocumentTokens, fixed

if TYPE_CHECKING:
    from .muvera import MUVERA

__all__ = ["FDE", "CellOrder", "Projection", "Scale"]

CellOrder = Literal["binary", "gray"]
Projection = Literal["sketch", "dense"]
Scale = Literal["chamfer", "raw"]
_FORMAT = 2
_DENSE = 10**8  # multiply-adds an item beyond which a dense final projection is refused


class FDE:
    """Encodes token matrices of one width as vectors whose inner products estimate Chamfer.

    ``recipe`` gives R, k_sim, d_proj, d_final, the seed and the threads. ``fill`` is whether empty
    document cells are filled (by default unless the recipe says ``off``). The other arguments are
    for encodings as other programs make them: ``projection="dense"`` narrows cells as the paper
    does, ``final="dense"`` the whole, ``cell_order="gray"`` orders the blocks of a repetition as
    the authors' C++ code does, and ``scale="raw"`` leaves the factor 1/sqrt(R) out.

    Raises :class:`~tokenspace.errors.ConfigError` where ``d_proj`` is above ``width``, ``d_final``
    not below the length that it narrows, or a dense final projection would cost more than 1e8
    multiply-adds an item.
    """

    def __init__(
        self,
        width: int,
        recipe: MUVERA,
        *,
        fill: bool | None = None,
        cell_order: CellOrder = "binary",
        scale: Scale = "chamfer",
        projection: Projection = "sketch",
        final: Projection = "sketch",
    ) -> None:
        for name, value, kind in (
            ("cell_order", cell_order, CellOrder),
            ("scale", scale, Scale),
            ("projection", projection, Projection),
            ("final", final, Projection),
        ):
            if value not in get_args(kind):
                raise ConfigError(f"{name}={value!r} is not one of {', '.join(get_args(kind))}")
        self.width, self.recipe = width, recipe
        self.fill = recipe.fill != "off" if fill is None else fill
        self.cell_order, self.scale = cell_order, scale
        self.projection, self.final = projection, final
        self.cells = 1 << recipe.k_sim
        self.block = recipe.d_proj or width
        self.long: int = recipe.repetitions * self.cells * self.block
        """Length before the final projection: R · 2^k_sim · d_proj."""
        self._check()
        seed, R = recipe.seed, recipe.repetitions
        self.directions = np.concatenate(
            [stream(seed, "simhash", r).standard_normal((width, recipe.k_sim)) for r in range(R)],
            axis=1,
        ).astype(np.float32)
        columns = np.tile(np.arange(width), (R, 1))
        signs = np.ones((R, width), np.float32)
        dense = np.zeros((0, width, self.block), np.float32)
        if self.block < width and projection == "sketch":
            draws = [stream(seed, "sketch", r) for r in range(R)]
            columns = np.array([draw.integers(0, self.block, width) for draw in draws])
            signs = np.array([draw.choice([-1.0, 1.0], width) for draw in draws], np.float32)
        elif self.block < width:
            shape = (width, self.block)
            flips = [stream(seed, "dense", r).choice([-1.0, 1.0], shape) for r in range(R)]
            dense = (np.array(flips) / np.sqrt(self.block)).astype(np.float32)
        self.columns, self.signs, self.dense = columns.astype(np.int64), signs, dense
        labels = np.arange(self.cells)
        self.bits = labels ^ (labels >> 1) if cell_order == "gray" else labels
        """The sign bits, as a number, that the cell with each label stands for: (2^k_sim,)."""
        self.buckets, self.flips = np.zeros(0, np.int64), np.zeros(0, np.int8)
        self.matrix = np.zeros((0, recipe.d_final), np.int8)
        draw = stream(seed, "final")
        if recipe.d_final and final == "sketch":
            self.buckets = draw.integers(0, recipe.d_final, self.long)
            self.flips = _signs(draw, (self.long,))
        elif recipe.d_final:
            self.matrix = _signs(draw, (self.long, recipe.d_final))

    def _check(self) -> None:
        """Raise :class:`ConfigError` where the recipe does not fit the width of the vectors."""
        recipe = self.recipe
        if recipe.d_proj > self.width:
            raise ConfigError(
                f"muvera: d_proj={recipe.d_proj} is above the width {self.width} of the vectors",
                hint=f"choose d_proj inside [1, {self.width}], or 0 for no projection",
            )
        if recipe.d_final >= self.long:
            raise ConfigError(
                f"muvera: d_final={recipe.d_final} does not narrow {self.long} numbers",
                hint=f"choose d_final below {self.long}, or 0 for no final projection",
            )
        if recipe.d_final and self.final == "dense" and self.long * recipe.d_final > _DENSE:
            raise ConfigError(
                f"muvera: a dense projection of {self.long} to {recipe.d_final} numbers costs "
                f"{self.long * recipe.d_final:.1e} multiply-adds an item, over {_DENSE:.0e}",
                hint="take final='sketch', or lower d_final",
            )

    @property
    def dim(self) -> int:
        """Length of an encoding: d_final, or R · 2^k_sim · d_proj."""
        return int(self.recipe.d_final or self.long)

    @property
    def config(self) -> dict[str, Any]:
        """All that encodings must agree on to be compared, as plain data."""
        recipe = self.recipe
        return {
            "format": _FORMAT,
            "width": self.width,
            "repetitions": recipe.repetitions,
            "k_sim": recipe.k_sim,
            "d_proj": self.block,
            "d_final": recipe.d_final,
            "fill": self.fill,
            "projection": self.projection,
            "final": self.final,
            "cell_order": self.cell_order,
            "scale": self.scale,
            "seed": recipe.seed,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], recipe: MUVERA) -> Self:
        """Make the encoder that :attr:`config` described; ``recipe`` is the one it was made by.

        Raises ValueError or KeyError where they do not fit.
        """
        made = cls(
            int(config["width"]),
            recipe,
            fill=bool(config["fill"]),
            cell_order=config["cell_order"],
            scale=config["scale"],
            projection=config["projection"],
            final=config["final"],
        )
        if made.config != dict(config):
            raise ValueError("the encodings were made by another configuration")
        return made

    @property
    def config_hash(self) -> str:
        """64 bits that tell encodings that can be compared from those that cannot."""
        text = json.dumps(self.config, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def check_size(self, items: int, number_bytes: float = 4) -> None:
        """Raise :class:`InputError` if encodings of ``items`` would take more than 8 GiB."""
        size = items * self.dim * number_bytes
        if size > 8 << 30:
            raise InputError(
                f"{items} encodings of {self.dim} numbers take {size / 2**30:.1f} GiB, over 8 GiB",
                hint="lower repetitions, k_sim or d_proj, give d_final, or hold them with "
                "fde_codec='i8' or 'pq8'",
            )

    def documents(self, docs: Ragged, *, on_empty: OnEmpty = "raise") -> Floats2d:
        """Encode documents: the mean of each cell, (N, dim) float32.

        A document without tokens is refused, or encoded as zeros with ``on_empty="zero"``.
        """
        check_docs(docs, on_empty)
        if docs.width != self.width:
            raise InputError(
                f"docs have width {docs.width}; the encoder takes {self.width}",
                hint="make an encoder of this width, or encode the text as before",
            )
        self.check_size(len(docs))
        return self._encode(docs.flat, docs.offsets, document=True)

    def queries(self, queries: Ragged) -> Floats2d:
        """Encode queries: the sum of each cell, (Q, dim) float32."""
        check_queries(queries, self.width)
        self.check_size(len(queries))
        return self._encode(queries.flat, queries.offsets, document=False)

    def encode_documents(self, tokens: DocumentTokens, start: int, stop: int) -> Floats2d:
        """Encode documents ``start`` to ``stop`` of a store, unchecked: (stop - start, dim)."""
        offsets = np.asarray(tokens.offsets[start : stop + 1])
        rows = tokens.rows(int(offsets[0]), int(offsets[-1]))
        return self._encode(rows, offsets - offsets[0], document=True)

    def labels(self, tokens: Floats2d) -> Ids2d:
        """Return the label of each token's cell in each repetition, (T, R)."""
        out = np.empty((len(tokens), self.recipe.repetitions), np.int64)
        rows = np.ascontiguousarray(tokens, np.float32)
        _cells(fixed(rows), fixed(self.directions), self.recipe.k_sim, out)
        return np.asarray(np.argsort(self.bits)[out], np.int64)

    def distances(self, tokens: Floats2d) -> Ids2d:
        """Count the sign bits in which a token differs from each label's cell, (T, R, 2^k_sim)."""
        own = self.bits[self.labels(tokens)]
        return np.asarray(np.bitwise_count(own[:, :, None] ^ self.bits), np.int64)

    def _encode(self, rows: Floats2d, offsets: Ids, *, document: bool) -> Floats2d:
        rows, offsets = fixed(np.asarray(rows, np.float32)), fixed(offsets)
        cells = fixed(self.directions), fixed(self.columns), fixed(self.signs), fixed(self.dense)
        last = fixed(self.buckets), fixed(self.flips), fixed(self.matrix)
        place = fixed(np.argsort(self.bits))
        scale = self.recipe.repetitions**-0.5 if self.scale == "chamfer" else 1.0
        if len(self.matrix):
            scale /= self.dim**0.5
        out = np.zeros((len(offsets) - 1, self.dim), np.float32)
        fill = document and self.fill

        def part(begin: int, end: int) -> None:
            own = offsets[begin : end + 1]
            _fold(rows, own, *cells, *last, place, document, fill, scale, out[begin:end])

        if len(out):
            spread(part, len(out), workers=self.recipe.threads)
        return out


def _signs(draw: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """Return independent signs, -1 or 1."""
    signs = draw.integers(0, 2, shape, np.int8)
    signs *= 2
    signs -= 1
    return signs


@kernel(fastmath={"contract"})
def _cells(tokens: Floats2d, directions: Floats2d, k_sim: int, cells: Ids2d) -> None:
    """Write the sign bits of every token (T, D) in every repetition, as numbers, (T, R).

    Four tokens share each pass over the directions; the last four may overlap. Every inner
    product is summed in one order, so a bit depends on its token alone.
    """
    width, planes = directions.shape
    dots = np.empty((4, planes), np.float32)
    last = len(tokens) - 1
    for begin in range(0, len(tokens), 4):
        a, b = tokens[begin], tokens[min(begin + 1, last)]
        c, d = tokens[min(begin + 2, last)], tokens[min(begin + 3, last)]
        dots[:] = 0.0
        for i in range(width):
            for j in range(planes):
                weight = directions[i, j]
                dots[0, j] += a[i] * weight
                dots[1, j] += b[i] * weight
                dots[2, j] += c[i] * weight
                dots[3, j] += d[i] * weight
        for t in range(begin, min(begin + 4, last + 1)):
            for r in range(cells.shape[1]):
                cell = 0
                for j in range(r * k_sim, (r + 1) * k_sim):
                    cell = 2 * cell + (dots[t - begin, j] > 0)
                cells[t, r] = cell


@kernel()
def _project(
    row: Floats1d,
    columns: Ids,
    signs: Floats1d,
    dense: Floats2d,
    factor: float,
    block: Floats1d,
) -> None:
    """Add ``factor * psi(row)`` to ``block``; ``dense`` (D, d_proj) counts where it has rows."""
    if len(dense):
        for i in range(len(row)):
            weight = row[i] * factor
            for j in range(len(block)):
                block[j] += weight * dense[i, j]
    else:
        for i in range(len(row)):
            block[columns[i]] += row[i] * signs[i] * factor


@kernel()
def _nearest(first: Ids, near: Ids) -> None:
    """Write the first token of least bit distance to every cell into ``near`` (2^k_sim,).

    ``first`` (2^k_sim,) is each cell's first token, -1 where it has none. Distance and token are
    one number, which a pass over each bit spreads: a neighbour is one bit further away.
    """
    one = 1 << 32
    for cell in range(len(first)):
        near[cell] = first[cell] if first[cell] >= 0 else one << 8
    bit = 1
    while bit < len(first):
        for cell in range(len(first)):
            if cell & bit == 0:
                here, there = near[cell], near[cell | bit]
                near[cell] = min(here, there + one)
                near[cell | bit] = min(there, here + one)
        bit <<= 1
    for cell in range(len(near)):
        near[cell] &= one - 1


@kernel()
def _narrow(
    block: Floats1d,
    begin: int,
    buckets: Ids,
    flips: npt.NDArray[np.int8],
    matrix: npt.NDArray[np.int8],
    target: Floats1d,
) -> None:
    """Add the final projection of a block, whose place in the long encoding is ``begin``."""
    if len(matrix):
        for i in range(len(block)):
            value, row = block[i], matrix[begin + i]
            if value != 0:
                for j in range(len(target)):
                    target[j] += value * row[j]
    else:
        for i in range(len(block)):
            target[buckets[begin + i]] += block[i] * flips[begin + i]


@kernel()
def _fold(
    flat: Floats2d,
    offsets: Ids,
    directions: Floats2d,
    columns: Ids2d,
    signs: Floats2d,
    dense: npt.NDArray[np.float32],
    buckets: Ids,
    flips: npt.NDArray[np.int8],
    matrix: npt.NDArray[np.int8],
    place: Ids,
    document: bool,
    fill: bool,
    factor: float,
    out: Floats2d,
) -> None:
    """Write the encoding of every item: ``place`` (2^k_sim,) is the label of each cell.

    Rows are summed cell by cell at full width and each cell is projected once, since psi is
    linear: 2^k_sim projections a repetition instead of one a token. With a final projection
    (``buckets`` with ``flips``, or ``matrix``) a block is made aside and added to the encoding.
    """
    count, width = columns.shape
    cells = len(place)
    k_sim = directions.shape[1] // count
    final = len(buckets) > 0 or len(matrix) > 0
    block = max(len(buckets), len(matrix)) if final else out.shape[1]
    block //= count * cells
    sums = np.empty((cells, width), np.float32)
    sizes = np.empty(cells, np.int64)
    first, near = np.empty(cells, np.int64), np.empty(cells, np.int64)
    nothing = np.zeros((0, block), np.float32)
    aside = np.zeros(block, np.float32)
    for item in range(len(offsets) - 1):
        rows = flat[offsets[item] : offsets[item + 1]]
        if len(rows) == 0:
            continue
        cell_of = np.empty((len(rows), count), np.int64)
        _cells(rows, directions, k_sim, cell_of)
        for r in range(count):
            sums[:] = 0.0
            sizes[:] = 0
            first[:] = -1
            for t in range(len(rows)):
                cell = cell_of[t, r]
                if sizes[cell] == 0:
                    first[cell] = t
                sizes[cell] += 1
                for i in range(width):
                    sums[cell, i] += rows[t, i]
            if fill:
                _nearest(first, near)
            projection = dense[r] if len(dense) else nothing
            for cell in range(cells):
                if sizes[cell] == 0 and not fill:
                    continue
                begin = (r * cells + place[cell]) * block
                aside[:] = 0.0
                target = aside if final else out[item, begin : begin + block]
                if sizes[cell]:
                    share = factor / sizes[cell] if document else factor
                    _project(sums[cell], columns[r], signs[r], projection, share, target)
                else:
                    _project(rows[near[cell]], columns[r], signs[r], projection, factor, target)
                if final:
                    _narrow(aside, begin, buckets, flips, matrix, out[item])
