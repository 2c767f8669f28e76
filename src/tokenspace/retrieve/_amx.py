"""The int8 loop of MaxSim in the matrix registers of x86 processors that have them (AMX).

The numbers are those of :func:`~tokenspace.retrieve._kernel.best_i8`, to the last bit: the query's
int16 are split into two bytes, q = 256 h + l, each is multiplied by the tokens into int32, and the
sum of both is the same integer. One instruction adds the products of 16 tokens with 16 query
tokens over 64 columns; two blocks of 16 tokens are on the way at a time.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.jit import instructions, kernel

from ._kernel import LANES, _arrays, _fetch, _intrinsic, _larger, _load

__all__ = ["available", "best_i8", "split_lanes"]

_ROWS, _STEP = 16, 64  # tokens and bytes of a register
_CHUNK = 96  # tokens that are multiplied with every panel of query lanes in turn
_ALLOW, _TILE_DATA, _ARCH_PRCTL = 0x1023, 18, 158  # Linux: a process asks before its first use
_HIGH, _LOW = 4, 5  # registers of the query; 0 to 3 hold sums and from 6 on there are tokens


@functools.cache
def available() -> bool:
    """Return whether this processor has the registers and the system lets this process use them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    if not {"amx-tile", "amx-int8"} <= instructions():
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ALLOW, _TILE_DATA) == 0)


def _call(builder: Any, name: str, registers: Sequence[int], *rest: Any) -> None:
    """Emit an AMX instruction on numbered registers."""
    from llvmlite import ir
    from numba.core import cgutils

    arguments = [ir.IntType(8)(number) for number in registers] + list(rest)
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    declared: Callable[..., Any] = cgutils.get_or_insert_function
    builder.call(declared(builder.module, kind, f"llvm.x86.{name}"), arguments)


@_intrinsic
def _begin(typing: Any) -> Any:
    """Make all eight registers 16 rows of 64 bytes."""
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        shape = bytearray(64)
        shape[0] = 1  # the format; then 8 widths of 16 bits from byte 16 on, 8 heights from 48 on
        shape[16:32] = bytes([_STEP, 0] * 8)
        shape[48:56] = bytes([_ROWS] * 8)
        kind = ir.ArrayType(ir.IntType(8), len(shape))
        slot: Callable[..., Any] = cgutils.alloca_once_value
        place = slot(builder, ir.Constant(kind, shape))
        _call(builder, "ldtilecfg", [], builder.bitcast(place, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.none(), code


@_intrinsic
def _end(typing: Any) -> Any:
    """Give the registers back."""
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "tilerelease", [])
        return context.get_dummy_value()

    return types.none(), code


@_intrinsic
def _tiles(
    typing: Any,
    tokens: Any,
    scales: Any,
    first: Any,
    count: Any,
    panels: Any,
    number: Any,
    best: Any,
    document: Any,
    blocks: Any,
) -> Any:
    """``best[document, lanes] = max(best[document, lanes], scales · tokens · panels[number])``.

    Of ``count`` tokens from ``first`` on, more than fit ``blocks - 1`` blocks of 16 and no more
    than fit ``blocks``, a constant. ``tokens`` is (n, W) int8, W a multiple of 64, and there are
    rows after the last to fill its block, which count for nothing.
    """
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        tokens, scales, first, count, panels, number, best, document, _ = _arrays(
            context, builder, signature, args
        )
        index, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        whole, wide = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.FloatType(), LANES)
        halves = range(blocks.literal_value)
        width = builder.extract_value(tokens.shape, 1)
        half = builder.mul(width, index(LANES))  # bytes of a panel's high or low part
        rows = builder.gep(tokens.data, [builder.mul(first, width)])
        panel = builder.gep(panels.data, [builder.mul(number, builder.mul(half, index(2)))])

        def fill(register: int, base: Any, offset: Any, stride: Any) -> None:
            _call(builder, "tileloadd64", [register], builder.gep(base, [offset]), stride)

        for register in range(2 * len(halves)):
            _call(builder, "tilezero", [register])
        steps = builder.udiv(width, index(_STEP))
        with cgutils.for_range(builder, steps, intp=index) as loop:
            at = builder.mul(loop.index, index(_STEP * LANES))
            fill(_HIGH, panel, at, index(_STEP))
            fill(_LOW, panel, builder.add(half, at), index(_STEP))
            for block in halves:
                column = builder.mul(loop.index, index(_STEP))
                start = builder.add(builder.mul(width, index(_ROWS * block)), column)
                fill(6 + block, rows, start, width)
                _call(builder, "tdpbssd", [2 * block, 6 + block, _HIGH])
                _call(builder, "tdpbsud", [2 * block + 1, 6 + block, _LOW])
        size = _ROWS * _STEP  # bytes of a register
        slot: Callable[..., Any] = cgutils.alloca_once
        room = slot(builder, ir.ArrayType(ir.IntType(8), 2 * len(halves) * size))
        room.align = _STEP
        sums = builder.bitcast(room, byte)
        for register in range(2 * len(halves)):
            place = builder.gep(sums, [index(size * register)])
            _call(builder, "tilestored64", [register], place, index(_STEP))

        lane = builder.add(
            builder.mul(number, index(LANES)),
            builder.mul(document, builder.extract_value(best.shape, 1)),
        )
        found = [_load(builder, best.data, wide, lane)]
        eight = ir.Constant(whole, [8] * LANES)
        none, mask = ir.Constant(wide, ir.Undefined), ir.Constant(whole, [0] * LANES)
        for i in range(_ROWS * len(halves)):
            row = index(i)
            if i >= _ROWS * halves[-1]:  # the last one again, which a maximum does not notice
                last = builder.sub(count, index(1))
                row = builder.select(builder.icmp_signed("<", row, last), row, last)
            at = builder.add(builder.mul(row, index(_STEP)), index(size * (i // _ROWS)))
            high = _load(builder, sums, whole, at, _STEP)
            low = _load(builder, sums, whole, builder.add(at, index(size)), _STEP)
            total = builder.sitofp(builder.add(builder.shl(high, eight), low), wide)
            scale = builder.load(builder.gep(scales.data, [builder.add(first, row)]))
            scale = builder.insert_element(none, scale, ir.IntType(32)(0))
            value = builder.fmul(total, builder.shuffle_vector(scale, none, mask))
            if len(found) < 4:  # chains that do not wait for one another
                found.append(value)
            else:
                found[i % 4] = _larger(builder, value, found[i % 4])
        value = functools.reduce(functools.partial(_larger, builder), found)
        target = builder.bitcast(builder.gep(best.data, [lane]), wide.as_pointer())
        builder.store(value, target, align=4)
        return context.get_dummy_value()

    places = types.intp, types.intp, panels, types.intp, best, types.intp, blocks
    return types.none(tokens, scales, *places), code


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
    near = np.zeros((_CHUNK, (width + _STEP - 1) // _STEP * _STEP), np.int8)
    _begin()
    for i in range(len(documents)):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            for row in range(low, high):
                for column in range(width):
                    near[row - low, column] = tokens[row, column]
            factors = scales[low:high]
            for number in range(len(panels)):
                first, left = 0, high - low
                while left > _ROWS:
                    both = min(left, 2 * _ROWS)
                    if number == 0:
                        _fetch(tokens, high + first, both)
                    _tiles(near, factors, first, both, panels, number, best, i, 2)
                    first, left = first + both, left - both
                if left > 0:
                    _tiles(near, factors, first, left, panels, number, best, i, 1)
    _end()


def split_lanes(panels: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """Return int16 panels (P, D / 2, LANES, 2) as bytes, (P, 2, W / 4, LANES, 4).

    First the high bytes, then the low ones; W is the next multiple of 64 and filled with zeros.
    """
    count, pairs = panels.shape[:2]
    columns = panels.transpose(0, 1, 3, 2).reshape(count, 2 * pairs, LANES)
    parts = np.zeros((count, 2, -(-2 * pairs // _STEP) * _STEP, LANES), np.uint8)
    parts[:, 0, : 2 * pairs] = (columns >> 8).astype(np.uint8)
    parts[:, 1, : 2 * pairs] = columns.astype(np.uint8)
    fours = parts.reshape(count, 2, -1, 4, LANES).transpose(0, 1, 2, 4, 3)
    return np.ascontiguousarray(fours).view(np.int8)
