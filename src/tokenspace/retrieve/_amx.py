"""The int8 loop of MaxSim in the matrix registers of x86 processors that have them (AMX).

The numbers are those of :func:`~tokenspace.retrieve._kernel.best_i8`, to the last bit: the query's
int16 are split into two bytes, q = 256 h + l, each is multiplied by the tokens into int32, and the
sum of both is the same integer. One instruction adds the products of 16 tokens with 16 query
tokens over 64 columns; two blocks of 16 tokens are on the way at a time. A register is slow to fill
from rows that cross lines of the cache, so everything begins at one; tokens that do not are copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import LINE, Floats1d, Floats2d, Ids, lined
from tokenspace.jit import kernel
from tokenspace.tiles import ROWS, WIDTH, begin, emit, end, granted

from ._kernel import LANES, _arrays, _intrinsic, _larger, _load

__all__ = ["available", "best_i8", "split_lanes"]

_CHUNK = 64  # tokens that are multiplied with every panel of query lanes in turn
_CHAINS = 4  # maxima that do not wait for one another
_HIGH, _LOW = 4, 5  # registers of the query; 0 to 3 hold sums and from 6 on there are tokens


def available() -> bool:
    """Return whether this processor has the registers and the system lets this process use them."""
    return granted("amx-int8")


@_intrinsic
def _products(
    typing: Any,
    tokens: Any,
    row: Any,
    panels: Any,
    number: Any,
    sums: Any,
    slot: Any,
    first: Any,
    blocks: Any,
) -> Any:
    """``sums[slot, :, first : first + 16 blocks] = tokens · panels[number]``, high and low bytes.

    ``tokens`` is (n, W) int8, W a multiple of 64, ``sums`` (2, 2, n, LANES) int32, and ``blocks``
    a constant, 1 or 2.
    """
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        tokens, row, panels, number, sums, slot, first, _ = _arrays(
            context, builder, signature, args
        )
        index, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        halves = range(blocks.literal_value)
        width = builder.extract_value(tokens.shape, 1)
        half = builder.mul(width, index(LANES))  # bytes of a panel's high or low part
        rows = builder.gep(tokens.data, [builder.mul(row, width)])
        panel = builder.gep(panels.data, [builder.mul(number, builder.mul(half, index(2)))])

        def fill(register: int, base: Any, offset: Any, stride: Any) -> None:
            emit(builder, "tileloadd64", [register], builder.gep(base, [offset]), stride)

        for register in range(2 * len(halves)):
            emit(builder, "tilezero", [register])
        steps = builder.udiv(width, index(WIDTH))
        with cgutils.for_range(builder, steps, intp=index) as loop:
            at = builder.mul(loop.index, index(WIDTH * LANES))
            fill(_HIGH, panel, at, index(WIDTH))
            fill(_LOW, panel, builder.add(half, at), index(WIDTH))
            for block in halves:
                column = builder.mul(loop.index, index(WIDTH))
                start = builder.add(builder.mul(width, index(ROWS * block)), column)
                fill(6 + block, rows, start, width)
                emit(builder, "tdpbssd", [2 * block, 6 + block, _HIGH])
                emit(builder, "tdpbsud", [2 * block + 1, 6 + block, _LOW])
        part = builder.mul(
            builder.extract_value(sums.shape, 2), index(WIDTH)
        )  # bytes of the high or the low sums of a slot
        begin = builder.add(
            builder.mul(slot, builder.mul(part, index(2))), builder.mul(first, index(WIDTH))
        )
        base = builder.bitcast(sums.data, byte)
        for register in range(2 * len(halves)):
            place = builder.add(begin, index(ROWS * WIDTH * (register // 2)))
            if register % 2:
                place = builder.add(place, part)
            emit(builder, "tilestored64", [register], builder.gep(base, [place]), index(WIDTH))
        return context.get_dummy_value()

    places = types.intp, panels, types.intp, sums, types.intp, types.intp, blocks
    return types.none(tokens, *places), code


@_intrinsic
def _take(
    typing: Any,
    sums: Any,
    slot: Any,
    scales: Any,
    count: Any,
    best: Any,
    document: Any,
    number: Any,
) -> Any:
    """``best[document, lanes] = max(itself, scales · sums[slot])`` over ``count`` tokens.

    The lanes are those of panel ``number``.
    """
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        sums, slot, scales, count, best, document, number = _arrays(
            context, builder, signature, args
        )
        index = ir.IntType(64)
        whole, wide = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.FloatType(), LANES)
        lane = builder.add(
            builder.mul(number, index(LANES)),
            builder.mul(document, builder.extract_value(best.shape, 1)),
        )
        part = builder.mul(builder.extract_value(sums.shape, 2), index(LANES))
        begin = builder.mul(slot, builder.mul(part, index(2)))
        eight = ir.Constant(whole, [8] * LANES)
        none, mask = ir.Constant(wide, ir.Undefined), ir.Constant(whole, [0] * LANES)
        variable: Callable[..., Any] = cgutils.alloca_once_value
        start = _load(builder, best.data, wide, lane)
        found = [variable(builder, start) for _ in range(_CHAINS)]
        last = builder.sub(count, index(1))
        rounds = builder.udiv(builder.add(last, index(_CHAINS)), index(_CHAINS))
        with cgutils.for_range(builder, rounds, intp=index) as loop:
            for i, chain in enumerate(found):
                row = builder.add(builder.mul(loop.index, index(_CHAINS)), index(i))
                # the last one again, which a maximum does not notice
                row = builder.select(builder.icmp_signed("<", row, last), row, last)
                at = builder.add(begin, builder.mul(row, index(LANES)))
                high = _load(builder, sums.data, whole, at)
                low = _load(builder, sums.data, whole, builder.add(at, part))
                total = builder.sitofp(builder.add(builder.shl(high, eight), low), wide)
                scale = builder.load(builder.gep(scales.data, [row]))
                scale = builder.insert_element(none, scale, ir.IntType(32)(0))
                value = builder.fmul(total, builder.shuffle_vector(scale, none, mask))
                builder.store(_larger(builder, value, builder.load(chain)), chain)
        values = [builder.load(chain) for chain in found]
        value = functools.reduce(functools.partial(_larger, builder), values)
        target = builder.bitcast(builder.gep(best.data, [lane]), wide.as_pointer())
        builder.store(value, target, align=4)
        return context.get_dummy_value()

    places = types.intp, best, types.intp, types.intp
    return types.none(sums, types.intp, scales, *places), code


@kernel()
def _chunk(
    tokens: npt.NDArray[np.int8],
    row: int,
    factors: Floats1d,
    count: int,
    panels: npt.NDArray[np.int8],
    sums: npt.NDArray[np.int32],
    best: Floats2d,
    document: int,
) -> None:
    """Take ``count`` rows of ``tokens`` from ``row`` on, one panel's maxima behind its products.

    What a register wrote is not at hand at once: meanwhile the next panel is multiplied.
    """
    for number in range(len(panels)):
        slot = number % 2
        for first in range(0, count, 2 * ROWS):
            if count - first > ROWS:
                _products(tokens, row + first, panels, number, sums, slot, first, 2)
            else:
                _products(tokens, row + first, panels, number, sums, slot, first, 1)
        if number > 0:
            _take(sums, 1 - slot, factors, count, best, document, number - 1)
    number = len(panels) - 1
    _take(sums, number % 2, factors, count, best, document, number)


@kernel()
def best_i8(
    tokens: npt.NDArray[np.int8],
    scales: Floats1d,
    offsets: Ids,
    documents: Ids,
    panels: npt.NDArray[np.int8],
    best: Floats2d,
) -> None:
    """Do what ``_kernel.best_i8`` does, with panels of :func:`split_lanes`."""
    width = tokens.shape[1]
    wide = (width + WIDTH - 1) // WIDTH * WIDTH
    bytes_near, bytes_sums = _CHUNK * wide, 4 * _CHUNK * LANES * 4
    space = np.zeros(LINE + bytes_near + bytes_sums, np.int8)
    space = space[-space.ctypes.data % LINE :]
    near = space[:bytes_near].reshape((_CHUNK, wide))
    sums = space[bytes_near : bytes_near + bytes_sums].view(np.int32)
    sums = sums.reshape((2, 2, _CHUNK, LANES))
    in_place = width == wide and tokens.ctypes.data % LINE == 0
    begin()
    for i in range(len(documents)):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        for low in range(start, stop, _CHUNK):
            count = min(_CHUNK, stop - low)
            factors = scales[low : low + count]
            if in_place and low + _CHUNK <= len(tokens):
                _chunk(tokens, low, factors, count, panels, sums, best, i)
            else:
                for row in range(count):
                    for column in range(width):
                        near[row, column] = tokens[low + row, column]
                _chunk(near, 0, factors, count, panels, sums, best, i)
    end()


def split_lanes(panels: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """Return int16 panels (P, D / 2, LANES, 2) as bytes, (P, 2, W / 4, LANES, 4).

    First the high bytes, then the low ones; W is the next multiple of 64 and filled with zeros.
    """
    count, pairs = panels.shape[:2]
    columns = panels.transpose(0, 1, 3, 2).reshape(count, 2 * pairs, LANES)
    parts = np.zeros((count, 2, -(-2 * pairs // WIDTH) * WIDTH, LANES), np.uint8)
    parts[:, 0, : 2 * pairs] = (columns >> 8).astype(np.uint8)
    parts[:, 1, : 2 * pairs] = columns.astype(np.uint8)
    fours = parts.reshape(count, 2, -1, 4, LANES).transpose(0, 1, 2, 4, 3)
    out = lined(fours.shape, np.int8)
    out.view(np.uint8)[...] = fours
    return out
