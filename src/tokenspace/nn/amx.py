"""Linear layers in float32 on the matrix registers of x86 processors (AMX), which know bfloat16.

A float32 is nearly the sum of two bfloat16, x = h + l with an error below 2^-17 |x|, and so

    x · w = h · w_h + l · w_h + h · w_l,

each product taken by the registers and summed in float32. The three together take half the time
of one in float32, and a vector comes out the same to about 1e-5. Weights are split once and kept
for as long as they live unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from tokenspace.arrays import Floats2d
from tokenspace.jit import kernel, spread
from tokenspace.simd import instruction
from tokenspace.tiles import ROWS, begin, emit, end, granted

__all__ = ["SplitLinear", "available", "worthwhile"]

Halves = npt.NDArray[np.uint16]  # bfloat16 by its bits
Words = npt.NDArray[np.uint32]  # float32 by its bits
Tiles = npt.NDArray[np.float32]

_STEP = 32  # bfloat16 in a row of a register
_TILE = 1024  # bytes of a register
_CHUNK = 8  # pairs of row blocks that are multiplied with one pair of column blocks after another
_LEAST = 1 << 14  # tokens that pay for the splitting of the weights
_MOST = 1 << 28  # weights of a network: split, they take as much memory again


def available() -> bool:
    """Return whether this processor has the registers and the system lets this process use them."""
    return granted("amx-bf16")


def worthwhile(weights: int, tokens: int) -> bool:
    """Tell whether so many tokens pass a network of so many weights sooner with them split."""
    return tokens >= _LEAST and 0 < weights <= _MOST and available()


def _emit_block(
    b: Any,
    high: Any,
    low: Any,
    weights: Any,
    rests: Any,
    bias: Any,
    out: Any,
    steps: Any,
    width: Any,
    row: Any,
    column: Any,
) -> None:
    from llvmlite import ir
    from numba.core import cgutils

    index, byte = ir.IntType(64), ir.IntType(8).as_pointer()

    def at(base: Any, *offsets: Any) -> Any:
        place = b.bitcast(base, byte)
        for offset in offsets:
            place = b.gep(place, [offset])
        return place

    def fill(register: int, place: Any) -> None:
        emit(b, "tileloadd64", [register], place, index(64))

    def multiply() -> None:
        for i in range(2):
            for j in range(2):
                emit(b, "tdpbf16ps", [2 * i + j, 4 + i, 6 + j])

    panel = b.mul(steps, index(_TILE))
    texts = {half: at(part, b.mul(row, panel)) for half, part in (("h", high), ("l", low))}
    sides = {half: at(part, b.mul(column, panel)) for half, part in (("h", weights), ("l", rests))}
    for j in range(2):
        first = at(bias, b.mul(column, index(_TILE)), index(_TILE * j))
        fill(j, first)
        fill(2 + j, first)
    with cgutils.for_range(b, steps, intp=index) as loop:
        now = b.mul(loop.index, index(_TILE))
        both = (now, b.add(now, panel))
        for half, side in (("l", "h"), ("h", None), (None, "l")):
            for i, offset in enumerate(both):
                if half:
                    fill(4 + i, at(texts[half], offset))
                if side:
                    fill(6 + i, at(sides[side], offset))
            multiply()
    stride = b.mul(width, index(4))
    corner = b.add(b.mul(b.mul(row, index(ROWS)), stride), b.mul(column, index(ROWS * 4)))
    for i in range(2):
        for j in range(2):
            down = b.mul(stride, index(ROWS * i))
            place = at(out, corner, down, index(ROWS * 4 * j))
            emit(b, "tilestored64", [2 * i + j], place, stride)


@instruction(_emit_block)
def _block(
    high: Halves,
    low: Halves,
    weights: Halves,
    rests: Halves,
    bias: Tiles,
    out: Floats2d,
    steps: int,
    width: int,
    row: int,
    column: int,
) -> None:
    """Compute two by two blocks of 16 x 16 numbers of ``out``, which is ``width`` wide.

    ``steps`` registers side by side hold a row block of ``high`` and ``low``, and a column block
    of ``weights`` and ``rests``; ``row`` and ``column`` count blocks.
    """
    for i in (row, row + 1):
        for j in (column, column + 1):
            total = bias[j].astype(np.float64)
            for texts, side in ((high, weights), (low, weights), (high, rests)):
                a = _wide(texts[i]).transpose(1, 0, 2).reshape(ROWS, -1)
                w = _wide(side[j]).transpose(0, 1, 3, 2).reshape(-1, ROWS)
                total += a.astype(np.float64) @ w
            out[ROWS * i : ROWS * (i + 1), ROWS * j : ROWS * (j + 1)] = total


def _wide(halves: Halves) -> npt.NDArray[np.float32]:
    """Return bfloat16 as float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


@kernel()
def _multiply(
    high: Halves, low: Halves, weights: Halves, rests: Halves, bias: Tiles, out: Floats2d
) -> None:
    steps, width = high.shape[1], out.shape[1]
    begin()
    for first in range(0, len(high), 2 * _CHUNK):
        for column in range(0, len(weights), 2):
            for row in range(first, min(first + 2 * _CHUNK, len(high)), 2):
                _block(high, low, weights, rests, bias, out, steps, width, row, column)
    end()


@kernel()
def _split(x: Floats2d, high: Halves, low: Halves) -> None:
    """Write the rows of ``x`` as two bfloat16, rounded to even, in the order of the registers."""
    near = np.empty(x.shape[1], np.uint32)
    rest = np.empty(x.shape[1], np.float32)
    nearest, bits, given = near.view(np.float32), rest.view(np.uint32), x.view(np.uint32)
    for row in range(len(x)):
        for c in range(x.shape[1]):
            word = given[row, c]
            odd = (word >> np.uint32(16)) & np.uint32(1)
            near[c] = (word + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
        for c in range(x.shape[1]):
            rest[c] = x[row, c] - nearest[c]
        for step in range(high.shape[1]):
            first = step * _STEP
            upper, lower = (
                high[row // ROWS, step, row % ROWS],
                low[row // ROWS, step, row % ROWS],
            )
            for c in range(_STEP):
                upper[c] = np.uint16(near[first + c] >> np.uint32(16))
                word = bits[first + c]
                odd = (word >> np.uint32(16)) & np.uint32(1)
                lower[c] = np.uint16((word + np.uint32(0x7FFF) + odd) >> np.uint32(16))


class _Packed(NamedTuple):
    """A layer's weights as the registers take them: both halves, and the bias 16 times."""

    made_of: tuple[int, ...]
    weights: Halves
    rests: Halves
    bias: Tiles


def _packed(weight: Tensor, bias: Tensor | None) -> _Packed:
    """Return (N / 16, K / 32, 16 pairs, 16 columns, 2) of both halves of a weight (N, K)."""
    size, depth = weight.shape
    halves = np.zeros((2, size // ROWS, depth // _STEP, ROWS, _STEP), np.uint16)
    _split(np.ascontiguousarray(weight.detach().numpy()), halves[0], halves[1])
    shape = (2, size // ROWS, depth // _STEP, ROWS, _STEP // 2, 2)
    panels = np.ascontiguousarray(halves.reshape(shape).swapaxes(3, 4))
    row = np.zeros(size, np.float32) if bias is None else bias.detach().numpy()
    tiles = np.repeat(row.reshape(-1, 1, ROWS), ROWS, axis=1)
    return _Packed(_state(weight, bias), panels[0], panels[1], tiles)


def _state(weight: Tensor, bias: Tensor | None) -> tuple[int, ...]:
    """Return what changes when a layer's weights do."""
    return (weight._version, *(() if bias is None else (id(bias), bias._version)))


_kept: Any = WeakIdKeyDictionary()
"""The split weights of every layer that was used, as long as it lives."""


class SplitLinear(TorchFunctionMode):
    """Inside the block, linear layers in float32 on the processor are computed by the registers.

    Those whose sizes are no multiples of 32, and those that gradients flow through, are computed
    as ever.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute ``func``, as every mode of torch is asked to."""
        if func is nn.functional.linear and not torch.is_grad_enabled():
            found = self._linear(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        rows = input.numel() // max(1, input.shape[-1])
        plain = all(
            each.device.type == "cpu" and each.dtype == torch.float32
            for each in (input, weight, *([] if bias is None else [bias]))
        )
        sizes = {size % _STEP for size in weight.shape}
        if not plain or weight.ndim != 2 or sizes != {0} or rows < _STEP:
            return None
        if any(each.is_inference() for each in (weight, bias) if each is not None):
            return None  # nobody counts how often such a tensor was written to
        held = _kept.get(weight)
        if held is None or held.made_of != _state(weight, bias):
            held = _kept[weight] = _packed(weight, bias)
        return _product(input.reshape(rows, -1).contiguous(), held).view(*input.shape[:-1], -1)


def _product(x: Tensor, held: _Packed) -> Tensor:
    """Return the layer of the rows of ``x`` (M, K), (M, N)."""
    rows, depth = x.shape
    blocks = -(-rows // _STEP)  # pairs of 16 rows; those beyond the last are never read
    out = torch.empty((blocks * _STEP, len(held.weights) * ROWS))
    given, result = x.numpy(), out.numpy()

    def work(start: int, stop: int) -> None:
        high = np.zeros((2 * (stop - start), depth // _STEP, ROWS, _STEP), np.uint16)
        low = np.zeros_like(high)
        _split(given[start * _STEP : stop * _STEP], high, low)
        part = result[start * _STEP : stop * _STEP]
        _multiply(high, low, held.weights, held.rests, held.bias, part)

    spread(work, blocks, workers=torch.get_num_threads())
    return out[:rows]
