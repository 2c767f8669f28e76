"""Eight float32 in one register, as values that numba's kernels can hold in variables.

LLVM's own vectoriser does not keep the twelve accumulators of a training window in registers;
with these few instructions it does, on whatever the processor has (one register of AVX, two of
SSE or NEON): measured, four times the speed. Each is a numpy function, which says what it does,
with the LLVM code of the same meaning. numba is imported when the first kernel is compiled.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.jit import Kernel

__all__ = [
    "LANES",
    "Instruction",
    "Lanes",
    "add",
    "fma",
    "load",
    "mul",
    "prefetch",
    "rsqrt",
    "sigmoid",
    "splat",
    "store",
    "sub",
    "sums",
    "total",
]

LANES = 8
Lanes = npt.NDArray[np.float32]
Flat = npt.NDArray[np.float32]


@functools.cache
def _lanes() -> tuple[Any, Any]:
    """Return the numba type of eight lanes, and its LLVM type."""
    from llvmlite import ir
    from numba.core import types
    from numba.core.datamodel.models import PrimitiveModel
    from numba.extending import register_model

    vector = ir.VectorType(ir.FloatType(), LANES)

    class LanesType(types.Type):
        pass

    @register_model(LanesType)
    class LanesModel(PrimitiveModel):
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, vector)  # type: ignore[no-untyped-call]

    return LanesType("float32x8"), vector


class Instruction(Kernel[Any, Any]):
    """A numpy function, and ``emit``, which writes the LLVM code of the same meaning."""

    def __init__(self, function: Callable[..., Any], emit: Callable[..., Any]) -> None:
        super().__init__(function, {})
        self.emit = emit

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the numpy function: the instruction itself exists only inside kernels."""
        return self.python(*args, **kwargs)

    @functools.cached_property
    def compiled(self) -> Any:
        """The numba intrinsic of this instruction."""
        from numba.core import types
        from numba.extending import intrinsic

        shape = inspect.signature(self.python)
        results = {None: types.none, "None": types.none, "np.float32": types.float32}
        result = results.get(shape.return_annotation) or _lanes()[0]

        def emit(context: Any, builder: Any, signature: Any, values: tuple[Any, ...]) -> Any:
            given = [
                context.make_array(kind)(context, builder, value).data
                if isinstance(kind, types.Array)
                else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            value = self.emit(builder, *given)
            return context.get_dummy_value() if result is types.none else value

        def typed(_: Any, *given: Any) -> Any:
            narrow = {types.Integer: types.int64, types.Float: types.float32}
            wanted = [
                next((to for kind, to in narrow.items() if isinstance(item, kind)), item)
                for item in given
            ]
            return result(*wanted), emit

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        typed.__name__ = self.python.__name__
        typed.__signature__ = shape.replace(  # type: ignore[attr-defined]
            parameters=[context, *shape.parameters.values()]
        )
        return intrinsic(typed)


def instruction(emit: Callable[..., Any]) -> Callable[[Callable[..., Any]], Instruction]:
    """Pair a numpy function with the code of its instruction."""
    return lambda function: Instruction(function, emit)


def _place(b: Any, data: Any, index: Any) -> Any:
    return b.bitcast(b.gep(data, [index]), _lanes()[1].as_pointer())


def _call(b: Any, name: str, *values: Any) -> Any:
    """Call an intrinsic of LLVM that maps eight lanes to eight lanes."""
    from llvmlite import ir
    from numba.core.cgutils import get_or_insert_function

    kind = ir.FunctionType(_lanes()[1], [_lanes()[1]] * len(values))
    insert: Any = get_or_insert_function
    return b.call(insert(b.module, kind, f"{name}.v8f32"), values)


def _splat(b: Any, value: Any) -> Any:
    from llvmlite import ir

    vector = _lanes()[1]
    lane = b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return _shuffle(b, lane, lane, [0] * LANES)


def _shuffle(b: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    from llvmlite import ir

    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
    return b.shuffle_vector(left, right, mask)


def _number(value: float) -> Any:
    from llvmlite import ir

    return ir.Constant(_lanes()[1], [float(value)] * LANES)


def _sums(b: Any, *rows: Any) -> Any:
    """Add neighbours of two registers at a time; after three rounds each lane is one sum."""
    even, odd = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
    level = list(rows)
    for _ in range(2):
        level = [
            b.fadd(_shuffle(b, x, y, even), _shuffle(b, x, y, odd))
            for x, y in zip(level[::2], level[1::2], strict=True)
        ]
    x, y = level
    return b.fadd(
        _shuffle(b, x, y, [0, 1, 2, 3, 8, 9, 10, 11]),
        _shuffle(b, x, y, [4, 5, 6, 7, 12, 13, 14, 15]),
    )


def _total(b: Any, x: Any) -> Any:
    """Add halves, then quarters, then neighbours."""
    from llvmlite import ir

    for lanes in (4, 2, 1):
        order = [(lane + lanes) % LANES for lane in range(LANES)]
        x = b.fadd(x, _shuffle(b, x, x, order))
    return b.extract_element(x, ir.IntType(32)(0))


def _sigmoid(b: Any, x: Any) -> Any:
    """1 / (1 + e^-x), with e^-x = p(-x / 32)^32 and p the Taylor polynomial of degree 5."""
    x = _call(b, "llvm.minnum", _call(b, "llvm.maxnum", x, _number(-16)), _number(16))
    y = b.fmul(x, _number(-1 / 32))
    power = _number(1 / 120)
    for factor in (1 / 24, 1 / 6, 1 / 2, 1, 1):
        power = _call(b, "llvm.fmuladd", power, y, _number(factor))
    for _ in range(5):
        power = b.fmul(power, power)
    return b.fdiv(_number(1), b.fadd(_number(1), power))


def _rsqrt(b: Any, x: Any) -> Any:
    """Halve and negate the exponent, then two of Newton's steps: half the time of sqrt and div."""
    from llvmlite import ir

    whole = ir.VectorType(ir.IntType(32), LANES)
    bits = b.lshr(b.bitcast(x, whole), ir.Constant(whole, [1] * LANES))
    y = b.bitcast(b.sub(ir.Constant(whole, [0x5F375A86] * LANES), bits), x.type)
    half = b.fmul(x, _number(-0.5))
    for _ in range(2):
        y = b.fmul(y, _call(b, "llvm.fmuladd", half, b.fmul(y, y), _number(1.5)))
    return y


def _prefetch(b: Any, data: Any, index: Any) -> None:
    from llvmlite import ir
    from numba.core.cgutils import get_or_insert_function

    i32 = ir.IntType(32)
    place = b.bitcast(b.gep(data, [index]), ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
    insert: Any = get_or_insert_function
    b.call(
        insert(b.module, kind, "llvm.prefetch.p0"), [place, i32(1), i32(3), i32(1)]
    )  # to write, to keep, data


@instruction(lambda b, array, index: b.load(_place(b, array, index), align=4))
def load(array: Flat, index: int) -> Lanes:
    """Read eight numbers."""
    return array[index : index + LANES].copy()


@instruction(lambda b, array, index, x: b.store(x, _place(b, array, index), align=4))
def store(array: Flat, index: int, x: Lanes) -> None:
    """Write eight numbers."""
    array[index : index + LANES] = x


@instruction(_splat)
def splat(value: float) -> Lanes:
    """Put one number into every lane."""
    return np.full(LANES, value, np.float32)


@instruction(lambda b, x, y: b.fadd(x, y))
def add(x: Lanes, y: Lanes) -> Lanes:
    """Add lane by lane."""
    return x + y


@instruction(lambda b, x, y: b.fsub(x, y))
def sub(x: Lanes, y: Lanes) -> Lanes:
    """Subtract lane by lane."""
    return x - y


@instruction(lambda b, x, y: b.fmul(x, y))
def mul(x: Lanes, y: Lanes) -> Lanes:
    """Multiply lane by lane."""
    return x * y


@instruction(lambda b, x, y, z: _call(b, "llvm.fmuladd", x, y, z))
def fma(x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    """Return x * y + z lane by lane."""
    return x * y + z


@instruction(_sums)
def sums(a: Lanes, b: Lanes, c: Lanes, d: Lanes, e: Lanes, f: Lanes, g: Lanes, h: Lanes) -> Lanes:
    """Return the sum of each argument's lanes, one sum a lane."""
    each: Lanes = np.stack([a, b, c, d, e, f, g, h]).sum(axis=1)
    return each


@instruction(_total)
def total(x: Lanes) -> np.float32:
    """Return the sum of the lanes."""
    return np.float32(x.sum())


@instruction(_sigmoid)
def sigmoid(x: Lanes) -> Lanes:
    """Return 1 / (1 + e^-x) lane by lane; x is clipped to [-16, 16]."""
    y: Lanes = np.float32(1) / (np.float32(1) + np.exp(-np.clip(x, -16, 16)))
    return y


@instruction(_rsqrt)
def rsqrt(x: Lanes) -> Lanes:
    """Return 1 / sqrt(x) lane by lane, to 5e-6 of it; x > 0."""
    y: Lanes = (1 / np.sqrt(x)).astype(np.float32)
    return y


@instruction(_prefetch)
def prefetch(array: Flat, index: int) -> None:
    """Ask for the cache line of one number, ahead of its use."""
