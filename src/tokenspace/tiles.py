"""The matrix registers of x86 processors (AMX): asking for them, and their instructions in kernels.

There are eight registers, each of 16 rows of 64 bytes. An instruction is written into the LLVM code
of a kernel by :func:`emit`; :data:`begin` and :data:`end` go around those of a kernel.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tokenspace.jit import instructions
from tokenspace.simd import instruction

__all__ = ["ROWS", "WIDTH", "begin", "emit", "end", "granted"]

ROWS, WIDTH = 16, 64  # of a register; the width in bytes
_ALLOW, _TILE_DATA, _ARCH_PRCTL = 0x1023, 18, 158  # Linux: a process asks before its first use


@functools.cache
def granted(kind: str) -> bool:
    """Return whether this processor multiplies ``kind`` and the system lets this process do it.

    ``kind`` is what the processor's features call it: ``amx-int8`` or ``amx-bf16``.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    if not {"amx-tile", kind} <= instructions():
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ALLOW, _TILE_DATA) == 0)


def emit(builder: Any, name: str, registers: Sequence[int], *rest: Any) -> None:
    """Write an instruction on numbered registers, such as ``tilezero`` on [0]."""
    from llvmlite import ir
    from numba.core import cgutils

    arguments = [ir.IntType(8)(number) for number in registers] + list(rest)
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    declared: Callable[..., Any] = cgutils.get_or_insert_function
    builder.call(declared(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _configure(builder: Any) -> None:
    from llvmlite import ir
    from numba.core import cgutils

    shape = bytearray(64)
    shape[0] = 1  # the format; then 8 widths of 16 bits from byte 16 on, 8 heights from 48 on
    shape[16:32] = bytes([WIDTH, 0] * 8)
    shape[48:56] = bytes([ROWS] * 8)
    slot: Callable[..., Any] = cgutils.alloca_once_value
    place = slot(builder, ir.Constant(ir.ArrayType(ir.IntType(8), len(shape)), shape))
    emit(builder, "ldtilecfg", [], builder.bitcast(place, ir.IntType(8).as_pointer()))


@instruction(_configure)
def begin() -> None:
    """Make all eight registers 16 rows of 64 bytes."""


@instruction(lambda builder: emit(builder, "tilerelease", []))
def end() -> None:
    """Give the registers back."""
