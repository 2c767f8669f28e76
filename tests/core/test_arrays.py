"""Ragged matrices, and the check for values that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenspace.arrays import LINE, Ragged, check_finite, lined
from tokenspace.errors import FormatError, InputError

HEIGHTS = st.lists(st.integers(0, 4), max_size=8)


def matrices(heights: list[int], width: int = 3) -> list[np.ndarray]:
    values = iter(range(1000))
    return [
        np.array([[next(values) for _ in range(width)] for _ in range(h)], np.float32).reshape(
            h, width
        )
        for h in heights
    ]


@given(HEIGHTS)
def test_packing_keeps_every_matrix(heights: list[int]) -> None:
    given_ = matrices(heights)
    ragged = Ragged.pack(given_, width=3)
    ragged.check("here", 3)
    assert len(ragged) == len(heights)
    assert ragged.heights.tolist() == heights
    assert ragged.width == 3
    for left, right in zip(ragged, given_, strict=True):
        np.testing.assert_array_equal(left, right)
    order = np.arange(len(heights), dtype=np.int64)[::-1]
    for left, right in zip(ragged.take(order), given_[::-1], strict=True):
        np.testing.assert_array_equal(left, right)


def test_indices_count_from_both_ends_and_stop_there() -> None:
    ragged = Ragged.pack(matrices([1, 0, 2]))
    np.testing.assert_array_equal(ragged[-1], ragged[2])
    assert ragged[1].shape == (0, 3)
    assert np.shares_memory(ragged[0], ragged.flat)
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"matrix {index} of 3"):
            ragged[index]


def test_unequal_widths_and_wrong_offsets_are_refused() -> None:
    with pytest.raises(InputError, match="item 1 has shape"):
        Ragged.pack([np.zeros((1, 2)), np.zeros((1, 3))])
    flat = np.zeros((3, 2), np.float32)
    for offsets in ([0, 2], [1, 3], [0, 4, 3], []):
        with pytest.raises(InputError, match="do not describe 3 rows"):
            Ragged(flat, np.array(offsets, np.int64)).check("it")
    with pytest.raises(InputError, match=r"expected \(tokens, 5\)"):
        Ragged(flat, np.array([0, 3])).check("it", 5)
    with pytest.raises(InputError, match="two dimensions"):
        Ragged(np.zeros(3, np.float32), np.array([0, 3])).check("it")


def test_rows_that_are_not_finite_are_named_the_first_five() -> None:
    matrix = np.zeros((70_000, 1), np.float32)
    check_finite(matrix, "fine")
    matrix[[3, 5, 7, 8, 9, 11]] = np.nan
    with pytest.raises(InputError, match=r"it: rows with NaN or infinite values: 3, 5, 7, 8, 9\n"):
        check_finite(matrix, "it")
    matrix[:9] = 0
    with pytest.raises(InputError, match=r"values: 9, 11, 69999\n"):
        matrix[69_999] = np.inf
        check_finite(matrix, "it")
    matrix[:100] = 0
    labels = [f"w{i}" for i in range(70_000)]
    with pytest.raises(InputError, match="values: 'w69999'"):
        check_finite(matrix, "it", labels)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_give_the_same_matrices(suffix: str, tmp_path: Path) -> None:
    ragged = Ragged.pack(matrices([2, 0, 1]))
    path = tmp_path / f"r{suffix}"
    if suffix == ".npz":
        np.savez(path, flat=ragged.flat, offsets=ragged.offsets)
    else:
        ragged.save(path)
    again = Ragged.load(path)
    np.testing.assert_array_equal(again.flat, ragged.flat)
    np.testing.assert_array_equal(again.offsets, ragged.offsets)
    again.check("again", 3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, flat=np.zeros((1, 1)))
    with pytest.raises(FormatError, match="no array called 'offsets'"):
        Ragged.load(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"r\.npz: not a whole"):
        Ragged.load(path)
    with pytest.raises(InputError, match="not a whole token store"):
        Ragged.load(tmp_path)


def test_rows_of_a_matrix_are_matrices_of_one_row(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "rows.npy", rows)
    for found in (Ragged.single(rows), Ragged.load(tmp_path / "rows.npy")):
        found.check("docs", 2)
        assert len(found) == 3
        np.testing.assert_array_equal(found.flat, rows)
        np.testing.assert_array_equal(found.heights, [1, 1, 1])
    assert Ragged.single(rows).flat is rows
    assert len(Ragged.single(rows[:0])) == 0


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 7), (300, 2, 11)])
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float64])
def test_lined_arrays_begin_a_line(shape: tuple[int, ...], dtype: type) -> None:
    arrays = [lined(shape, dtype) for _ in range(20)]
    for number, array in enumerate(arrays):
        array[...] = number % 127
    for number, array in enumerate(arrays):
        assert not array.size or array.ctypes.data % LINE == 0
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.flags.c_contiguous and array.flags.writeable
        assert (array == number % 127).all()
