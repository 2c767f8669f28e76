"""The inner loop of MaxSim, in vector registers, for float32 and for int8 tokens.

A tile is :data:`ROWS` document tokens against :data:`LANES` query tokens. Query tokens lie in
the lanes of the vectors, so that "the best document token of each query token" is an
element-wise maximum of registers: similarities are never written to memory, and no sum runs
across lanes. A tile that reaches over the end of its document repeats the last token, which a
maximum does not notice.

The tiles are spelled as LLVM vectors, of 512 bits with AVX-512 and of 256 bits elsewhere, because
what numba makes of the plain loops spills its sums to memory. No result depends on the length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.jit import Kernel, instructions, kernel

__all__ = ["LANES", "ROWS", "best_f16", "best_f32", "best_i8", "pack_lanes", "sum_lanes"]

ROWS = 12
LANES = 16
AHEAD = 2  # tiles between what is computed and what is fetched
_CHUNK = 96  # rows that stay in the level-2 cache while every panel of query lanes passes

Floats3d = npt.NDArray[np.float32]
Halves = npt.NDArray[np.uint16]  # float16 by its bits: numba has no half type on a CPU


class _Intrinsic(Kernel[..., Any]):
    """A function written in LLVM's language, handed to numba when a kernel first needs it."""

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        from numba.extending import intrinsic

        made: Callable[..., Any] = intrinsic(prefer_literal=True)(self.python)
        return made


def _intrinsic(function: Callable[..., Any]) -> _Intrinsic:
    return _Intrinsic(function, {})


def _arrays(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Return the arguments of an intrinsic: arrays with their ``data`` and ``shape``, the rest."""
    return [
        context.make_array(kind)(context, builder, value) if hasattr(kind, "ndim") else value
        for kind, value in zip(signature.args, args, strict=True)
    ]


def _load(builder: Any, base: Any, kind: Any, offset: Any, align: int = 4) -> Any:
    """Load ``kind`` at ``base`` plus ``offset`` elements of the array."""
    pointer = builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())
    return builder.load(pointer, align=align)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _sum(builder: Any, vector: Any) -> Any:
    """Add the elements of a vector, in their order."""
    from llvmlite import ir

    parts = [
        builder.extract_element(vector, ir.IntType(32)(lane)) for lane in range(vector.type.count)
    ]
    return functools.reduce(builder.fadd, parts)


def _tile_code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Emit the instructions of :func:`_tile`."""
    from llvmlite import ir
    from numba.core import cgutils

    whole = str(signature.args[0].dtype) == "int16"
    tokens, scales, first, last, panels, number, best, document = _arrays(
        context, builder, signature, args
    )
    lanes = LANES if "avx512f" in instructions() else LANES // 2  # of one vector
    index, wide = ir.IntType(64), ir.VectorType(ir.FloatType(), lanes)
    pairs = ir.VectorType(ir.IntType(16), 2 * lanes)
    total = ir.VectorType(ir.IntType(32), lanes) if whole else wide

    load = functools.partial(_load, builder)

    def splat(value: Any) -> Any:
        kind = ir.VectorType(value.type, lanes)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, index(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)

    larger = functools.partial(_larger, builder)

    width = builder.extract_value(tokens.shape, 1)
    steps = builder.lshr(width, index(1)) if whole else width
    start = builder.mul(number, builder.mul(width, index(LANES)))
    zero = ir.Constant(total, None)
    slot: Callable[..., Any] = cgutils.alloca_once_value
    parts = range(0, LANES, lanes)  # the first lane of each vector
    found: list[Any] = [None for _ in parts]
    together = ROWS * lanes // LANES  # rows whose sums fit the registers
    for least in range(0, ROWS, together):
        rows = []
        for i in range(least, least + together):
            row = builder.add(first, index(i))
            rows.append(builder.select(builder.icmp_signed("<", row, last), row, last))
        bases = [builder.mul(row, width) for row in rows]
        sums = [[slot(builder, zero) for _ in parts] for _ in rows]
        with cgutils.for_range(builder, steps, intp=index) as loop:
            step = index(LANES * (2 if whole else 1))
            at = builder.add(start, builder.mul(loop.index, step))
            query = [
                load(panels.data, pairs if whole else wide, builder.add(at, index(offset)), 2)
                for offset in (2 * part if whole else part for part in parts)
            ]
            for base, row_sums in zip(bases, sums, strict=True):
                if whole:
                    at_token = builder.add(base, builder.shl(loop.index, index(1)))
                    both = load(tokens.data, ir.IntType(32), at_token, 2)
                    token = builder.bitcast(splat(both), pairs)
                else:
                    at_token = builder.add(base, loop.index)
                    token = splat(load(tokens.data, ir.FloatType(), at_token, 4))
                for given, target in zip(query, row_sums, strict=True):
                    value = builder.load(target)
                    if whole:
                        value = builder.add(value, _products(builder, token, given))
                    else:
                        product = builder.fmul(token, given, flags=("contract",))
                        value = builder.fadd(value, product, flags=("contract",))
                    builder.store(value, target)
        for row, row_sums in zip(rows, sums, strict=True):
            scale = splat(load(scales.data, ir.FloatType(), row, 4)) if whole else None
            for part, target in enumerate(row_sums):
                value = builder.load(target)
                if whole:
                    value = builder.fmul(builder.sitofp(value, wide), scale)
                found[part] = value if found[part] is None else larger(value, found[part])
    for part, value in zip(parts, found, strict=True):
        lane = builder.add(builder.mul(number, index(LANES)), index(part))
        lane = builder.add(lane, builder.mul(document, builder.extract_value(best.shape, 1)))
        target = builder.bitcast(builder.gep(best.data, [lane]), wide.as_pointer())
        builder.store(larger(value, builder.load(target, align=4)), target, align=4)
    return context.get_dummy_value()


def _products(builder: Any, one: Any, other: Any) -> Any:
    """Multiply pairs of int16 and add neighbours, as int32 (one instruction on x86)."""
    from llvmlite import ir

    count = one.type.count
    long = ir.VectorType(ir.IntType(32), count)
    product = builder.mul(builder.sext(one, long), builder.sext(other, long))

    def every_other(begin: int) -> Any:
        half = ir.VectorType(ir.IntType(32), count // 2)
        picks = ir.Constant(half, list(range(begin, count, 2)))
        return builder.shuffle_vector(product, product, picks)

    return builder.add(every_other(0), every_other(1))


@_intrinsic
def _tile(
    typing: Any,
    tokens: Any,
    scales: Any,
    first: Any,
    last: Any,
    panels: Any,
    number: Any,
    best: Any,
    document: Any,
) -> Any:
    """``best[document, lanes] = max(best[document, lanes], scales · tokens · panels[number])``.

    Reads tokens ``first`` to ``first + ROWS``, never beyond ``last``. ``tokens`` is (n, D)
    float32, whose ``scales`` are not read, or int16 (D even) with ``scales`` (n,) float32.
    """
    from numba.core import types

    places = types.intp, types.intp, panels, types.intp, best, types.intp
    return types.none(tokens, scales, *places), _tile_code


@_intrinsic
def _fetch(typing: Any, tokens: Any, first: Any, count: Any) -> Any:
    """Ask for ``count`` rows of ``tokens`` (n, D) from row ``first`` on, which may be n.

    The rows of a tile are read side by side, and the processor foresees only one after the other.
    """
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        array, first, count = _arrays(context, builder, signature, args)
        byte, index, flag = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        width = builder.mul(builder.extract_value(array.shape, 1), array.itemsize)  # bytes
        start = builder.gep(builder.bitcast(array.data, byte), [builder.mul(first, width)])
        lines = builder.udiv(builder.mul(width, count), index(64))
        with cgutils.for_range(builder, lines, intp=index) as loop:
            place = builder.gep(start, [builder.mul(loop.index, index(64))])
            builder.call(prefetch, [place, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.none(tokens, types.intp, types.intp), code


@_intrinsic
def _half(typing: Any, bits: Any) -> Any:
    """Widen the float16 whose bits are given to float32."""
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


@_intrinsic
def _best_sum(
    typing: Any, panels: Any, number: Any, rows: Any, first: Any, last: Any, least: Any
) -> Any:
    """Sum over eight lanes the largest of ``least`` and ``panels[number, rows[p]]``, float32.

    ``panels`` is (P, K, 8) float32, ``rows`` of any unsigned or signed type holds no negative
    number, and p runs from ``first`` to ``last`` without it.
    """
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        panels, number, rows, first, last, least = _arrays(context, builder, signature, args)
        index, wide = ir.IntType(64), ir.VectorType(ir.FloatType(), 8)
        start = builder.mul(number, builder.mul(builder.extract_value(panels.shape, 1), index(8)))
        lanes: Any = ir.Constant(wide, ir.Undefined)
        for lane in range(8):
            lanes = builder.insert_element(lanes, least, ir.IntType(32)(lane))
        slot: Callable[..., Any] = cgutils.alloca_once_value
        best = slot(builder, lanes)
        with cgutils.for_range(builder, builder.sub(last, first), intp=index) as loop:
            row = builder.load(builder.gep(rows.data, [builder.add(first, loop.index)]))
            row = row if row.type == index else builder.zext(row, index)
            found = _load(
                builder, panels.data, wide, builder.add(start, builder.mul(row, index(8)))
            )
            builder.store(_larger(builder, found, builder.load(best)), best)
        return _sum(builder, builder.load(best))

    places = types.intp, rows, types.intp, types.intp
    return types.float32(panels, *places, types.float32), code


@_intrinsic
def _unpack(
    typing: Any,
    residuals: Any,
    codes: Any,
    place: Any,
    centroids: Any,
    table: Any,
    share: Any,
    out: Any,
) -> Any:
    """Write ``centroids[codes[t]] + table[residuals[t]]`` to ``out[t]``, t being ``place``.

    A byte stands for ``share`` numbers, a constant; what is left of a row is not written. Returns
    the sum of the squares of what is.
    """
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        residuals, codes, place, centroids, table, _, out = _arrays(
            context, builder, signature, args
        )
        count = share.literal_value
        index, some = ir.IntType(64), ir.VectorType(ir.FloatType(), count)
        width = builder.extract_value(centroids.shape, 1)
        centre = builder.zext(builder.load(builder.gep(codes.data, [place])), index)
        begin, centre = builder.mul(place, width), builder.mul(centre, width)
        held = builder.mul(place, builder.extract_value(residuals.shape, 1))
        slot: Callable[..., Any] = cgutils.alloca_once_value
        squares = slot(builder, ir.Constant(some, None))
        with cgutils.for_range(builder, builder.udiv(width, index(count)), intp=index) as loop:
            byte = builder.load(builder.gep(residuals.data, [builder.add(held, loop.index)]))
            byte = builder.mul(builder.zext(byte, index), index(count))
            at = builder.mul(loop.index, index(count))
            value = builder.fadd(
                _load(builder, centroids.data, some, builder.add(centre, at)),
                _load(builder, table.data, some, byte),
            )
            target = builder.gep(out.data, [builder.add(begin, at)])
            builder.store(value, builder.bitcast(target, some.as_pointer()), align=4)
            square = builder.fmul(value, value, flags=("contract",))
            total = builder.fadd(builder.load(squares), square, flags=("contract",))
            builder.store(total, squares)
        return _sum(builder, builder.load(squares))

    arrays = residuals, codes, types.intp, centroids, table, share, out
    return types.float32(*arrays), code


@kernel()
def best_f32(
    tokens: Floats2d,
    scales: Floats1d,
    offsets: Ids,
    documents: Ids,
    panels: Floats3d,
    best: Floats2d,
) -> None:
    """Raise ``best[i]`` (lanes,) to each lane's best product with a token of ``documents[i]``."""
    for i in range(len(documents)):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            for number in range(len(panels)):
                for first in range(low, high, ROWS):
                    if number == 0:
                        _fetch(tokens, first + AHEAD * ROWS, ROWS)
                    _tile(tokens, scales, first, high - 1, panels, number, best, i)


@kernel()
def best_f16(
    tokens: Halves,
    scales: Floats1d,
    offsets: Ids,
    documents: Ids,
    panels: Floats3d,
    best: Floats2d,
) -> None:
    """Do what :func:`best_f32` does for tokens given as the bits of float16."""
    wide = np.zeros((_CHUNK, tokens.shape[1]), np.float32)
    for i in range(len(documents)):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            for row in range(low, high):
                for column in range(tokens.shape[1]):
                    wide[row - low, column] = _half(tokens[row, column])
            for number in range(len(panels)):
                for first in range(0, high - low, ROWS):
                    _tile(wide, scales, first, high - low - 1, panels, number, best, i)


@kernel()
def best_i8(
    tokens: npt.NDArray[np.int8],
    scales: Floats1d,
    offsets: Ids,
    documents: Ids,
    panels: npt.NDArray[np.int16],
    best: Floats2d,
) -> None:
    """Do what :func:`best_f32` does for int8 tokens with a scale each (n,)."""
    width = tokens.shape[1]
    wide = np.zeros((_CHUNK, width + width % 2), np.int16)
    for i in range(len(documents)):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            for row in range(low, high):
                for column in range(width):
                    wide[row - low, column] = tokens[row, column]
            near = scales[low:high]
            for number in range(len(panels)):
                for first in range(0, high - low, ROWS):
                    _tile(wide, near, first, high - low - 1, panels, number, best, i)


@kernel()
def sum_lanes(best: Floats2d, lane_scales: Floats1d, starts: Ids, scores: Floats2d) -> None:
    """Sum each query's lanes, ``starts[j]`` to ``starts[j + 1]``, into ``scores`` (n, Q)."""
    for i in range(len(best)):
        for j in range(len(starts) - 1):
            total = 0.0
            for lane in range(starts[j], starts[j + 1]):
                total += best[i, lane] * lane_scales[lane]
            scores[i, j] = total


def pack_lanes(queries: Floats2d, *, whole: bool) -> tuple[npt.NDArray[Any], Floats1d]:
    """Lay query tokens (T, D) into panels of :data:`LANES`, dimension by dimension.

    Returns the panels, (P, D, LANES) float32 or (P, D / 2, LANES, 2) int16 if ``whole``, and the
    scale of every lane (P * LANES,). int16 takes as many levels as cannot overflow a sum.
    """
    count, width = queries.shape
    lanes = -(-max(count, 1) // LANES) * LANES
    padded = np.zeros((lanes, width + (width % 2 if whole else 0)), np.float32)
    padded[:count, :width] = queries
    scales = np.ones(lanes, np.float32)
    if whole:
        levels = min(32767, (2**31 - 1) // (128 * padded.shape[1]))
        scales = np.maximum(np.abs(padded).max(axis=1), np.float32(1e-30)) / np.float32(levels)
        padded = np.rint(padded / scales[:, None]).astype(np.int16)
        panels = padded.reshape(-1, LANES, padded.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    else:
        panels = padded.reshape(-1, LANES, width).transpose(0, 2, 1)
    return np.ascontiguousarray(panels), scales
