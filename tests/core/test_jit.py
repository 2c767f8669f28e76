"""Kernels: compiled at the first call, equal to the plain function, callable from each other."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tokenspace.jit import kernel, threads


@kernel(cache=False)
def _square(x: float) -> float:
    return x * x


@kernel(cache=False)
def _sum_of_squares(values: np.ndarray) -> float:
    total = 0.0
    for i in range(len(values)):
        total += _square(values[i])
    return total


def test_a_kernel_calls_a_kernel_and_equals_the_plain_function() -> None:
    values = np.arange(5.0)
    assert _sum_of_squares(values) == 30.0
    assert _square.__name__ == "_square"
    assert _sum_of_squares.python.__name__ == "_sum_of_squares"


def test_defining_a_kernel_does_not_import_numba() -> None:
    code = (
        "import sys\nfrom tokenspace.jit import kernel\n"
        "@kernel()\ndef f(x): return x\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_are_those_asked_for_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    every = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads(3) == 3
    assert threads(0) == every >= 1
    for bound, expected in (("1", 1), (str(every + 1), every), ("0", every), ("4,2", every)):
        monkeypatch.setenv("OMP_NUM_THREADS", bound)
        assert threads(0) == expected
        assert threads(3) == 3
