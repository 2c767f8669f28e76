"""Int8 against hand-computed codes and a literal transcription in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file

from tokenspace.compress import int8, trial
from tokenspace.compress.int8 import Int8, QuantizedTable
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import save_tensors


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(5)


def all_rows(table: QuantizedTable) -> np.ndarray:
    return table.rows(np.arange(table.shape[0]))


def test_codes_by_hand() -> None:
    # scales 1 and 2; 0.5 and 1.5 lie half way and go to the even neighbour
    table = Int8()(np.array([[127, -127, 0.5, 1.5], [254, 3.2, -101, 0]], np.float32))
    np.testing.assert_array_equal(table.codes, [[127, -127, 0, 2], [127, 2, -50, 0]])
    np.testing.assert_array_equal(table.scales, [[1], [2]])
    np.testing.assert_array_equal(all_rows(table), [[127, -127, 0, 2], [254, 4, -100, 0]])
    assert table.metrics["max_error"] == 1
    squares = 2 * 127**2 + 0.5**2 + 1.5**2 + 254**2 + 3.2**2 + 101**2
    assert table.metrics["rms_error"] == pytest.approx(
        ((2 * 0.5**2 + 0.8**2 + 1) / squares) ** 0.5, rel=1e-6
    )


def literal(vectors: np.ndarray, groups: int) -> np.ndarray:
    """Row by row and part by part, with the scale as it is stored (float32)."""
    found = np.zeros(vectors.shape)
    for i, row in enumerate(vectors):
        for columns in np.split(np.arange(len(row)), groups):
            part = row[columns].astype(np.float64)
            scale = float(np.float32(np.abs(part).max()) / np.float32(127))
            if scale > 0:
                found[i, columns] = np.round(part / scale) * scale
    return found


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_it_is_the_literal_scheme(draw: np.random.Generator, groups: int) -> None:
    lengths = np.exp(3 * draw.standard_normal((200, 1)))
    vectors = (lengths * draw.standard_normal((200, 12))).astype(np.float32)
    vectors[4] = 0
    table = Int8(groups=groups)(vectors)
    rows, slow = all_rows(table), literal(vectors, groups)
    steps = np.repeat(table.scales, 12 // groups, axis=1)
    # a quotient half way between two integers may fall on either side in float32
    assert (np.abs(rows - slow) <= 1.001 * steps).all()
    assert (np.abs(rows - slow) > 1e-5 * steps).mean() < 0.001
    assert (np.abs(rows - vectors) <= 0.501 * steps).all()
    assert table.nbytes == 200 * (12 + 4 * groups)


def test_the_error_is_measured(draw: np.random.Generator) -> None:
    vectors = draw.standard_normal((300, 20)).astype(np.float32)
    vectors[9] = 0
    table = Int8()(vectors)
    rows, wide = all_rows(table).astype(np.float64), vectors.astype(np.float64)
    error = rows - wide
    assert table.metrics["rms_error"] == pytest.approx(
        np.linalg.norm(error) / np.linalg.norm(wide), rel=1e-5
    )
    assert table.metrics["max_error"] == pytest.approx(np.abs(error).max(), rel=1e-5)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wide, axis=1)
    cosines = np.where(lengths > 0, (rows * wide).sum(axis=1) / np.maximum(lengths, 1e-30), 1)
    assert table.metrics["cosine"] == pytest.approx(cosines.mean(), abs=1e-9)


def test_representable_rows_come_back_exactly(draw: np.random.Generator) -> None:
    vectors = draw.integers(-127, 128, (50, 16)).astype(np.float32)
    vectors[:, 0] = 127
    table = Int8()(vectors)
    np.testing.assert_array_equal(all_rows(table), vectors)
    assert dict(table.metrics) == {"rms_error": 0, "max_error": 0, "cosine": pytest.approx(1)}


@pytest.mark.parametrize("value", [0.0, 1e-45, 2.66e-43, 1e-20, 1.0, 3e38])
def test_constant_and_extreme_rows(value: float) -> None:
    vectors = np.full((2, 8), value, np.float32)
    vectors[1] *= -1
    rows = all_rows(Int8()(vectors))
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[1], -rows[0])
    assert (np.abs(rows.astype(np.float64) - vectors) <= max(1e-43, 0.004 * value)).all()
    if value >= 1e-20:
        np.testing.assert_allclose(rows, vectors, rtol=1e-6)


def test_opposite_vectors_have_opposite_codes(draw: np.random.Generator) -> None:
    vectors = draw.standard_normal((40, 8)).astype(np.float32)
    np.testing.assert_array_equal(Int8()(vectors).codes, -Int8()(-vectors).codes)


def test_scaling_a_row_scales_its_reconstruction(draw: np.random.Generator) -> None:
    vectors = draw.standard_normal((40, 8)).astype(np.float32)
    np.testing.assert_array_equal(all_rows(Int8()(4 * vectors)), 4 * all_rows(Int8()(vectors)))


def test_blocks_do_not_matter(draw: np.random.Generator, monkeypatch) -> None:
    vectors = draw.standard_normal((101, 8)).astype(np.float32)
    whole = Int8()(vectors)
    monkeypatch.setattr(int8, "_BLOCK", 8 * 7)
    pieces = Int8()(vectors)
    np.testing.assert_array_equal(pieces.codes, whole.codes)
    np.testing.assert_array_equal(pieces.scales, whole.scales)
    assert pieces.metrics["rms_error"] == pytest.approx(whole.metrics["rms_error"], rel=1e-12)


def test_a_mapped_table_is_never_held_whole(tmp_path, monkeypatch) -> None:
    path = tmp_path / "half.npy"
    half = np.lib.format.open_memmap(path, "w+", np.float16, (20_000, 64))
    half[:] = np.random.default_rng(0).standard_normal((20_000, 64))
    half.flush()
    Int8()(half[:10])
    monkeypatch.setattr(int8, "_BLOCK", 64 * 500)
    tracemalloc.start()
    table = Int8()(np.load(path, mmap_mode="r"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < table.nbytes + 1_000_000  # the whole in float32 would be 5 million more


def test_a_saved_table_is_mapped_and_equal(draw: np.random.Generator, tmp_path) -> None:
    table = Int8(groups=2)(draw.standard_normal((30, 8)).astype(np.float32))
    table.save(tmp_path / "table.safetensors")
    again = QuantizedTable.load(tmp_path / "table.safetensors")
    np.testing.assert_array_equal(all_rows(again), all_rows(table))
    assert again.metrics == table.metrics
    assert again.nbytes == table.nbytes == 30 * (8 + 8)
    assert not again.codes.flags.writeable
    stored = load_file(tmp_path / "table.safetensors")
    assert {name: array.dtype for name, array in stored.items()} == {
        "codes": np.int8,
        "scales": np.float32,
    }


@pytest.mark.parametrize(
    "tensors",
    [
        {"codes": np.zeros((3, 4), np.int8)},
        {"codes": np.zeros((3, 4), np.uint8), "scales": np.zeros((3, 1), np.float32)},
        {"codes": np.zeros((3, 4), np.int8), "scales": np.zeros((2, 1), np.float32)},
        {"codes": np.zeros((3, 4), np.int8), "scales": np.zeros((3, 3), np.float32)},
        {"codes": np.zeros((3, 4), np.int8), "scales": np.zeros((3, 0), np.float32)},
    ],
    ids=["no scales", "unsigned", "other rows", "no divisor", "no groups"],
)
def test_other_files_are_refused(tensors: dict[str, np.ndarray], tmp_path) -> None:
    save_tensors(tmp_path / "other", tensors)
    with pytest.raises(FormatError, match="not a table of 8-bit rows"):
        QuantizedTable.load(tmp_path / "other")


def test_a_truncated_file_is_refused(tmp_path) -> None:
    Int8()(np.ones((9, 4), np.float32)).save(tmp_path / "table")
    content = (tmp_path / "table").read_bytes()
    (tmp_path / "table").write_bytes(content[:-5])
    with pytest.raises(FormatError, match="table"):
        QuantizedTable.load(tmp_path / "table")


def test_bad_input_is_refused() -> None:
    vectors = np.ones((5, 6), np.float32)
    with pytest.raises(ConfigError, match="width 6 is not a multiple of groups=4"):
        Int8(groups=4)(vectors)
    with pytest.raises(InputError, match="expected"):
        Int8()(np.zeros((5, 0), np.float32))
    vectors[3, 2] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite values: 3"):
        Int8()(vectors)
    table = Int8()(np.ones((5, 6), np.float32))
    for ids, named in (([0, 5], 5), ([-1, 2], -1)):
        with pytest.raises(InputError, match=rf"row {named} is outside \[0, 4\]"):
            table.rows(np.array(ids))


def test_the_ranking_is_kept() -> None:
    given = trial.bag(1, tiny=True)
    figures = trial.judge(Int8()(given["source"]), given)
    assert figures["recall10"] >= 0.92
    assert figures["bytes_per_row"] == given["source"].shape[1] + 4


def test_neighbors_by_hand() -> None:
    rows = np.array([[1, 0], [0, 2], [1, 1], [0, 0], [0, 1]], np.float32)
    found = trial.neighbors(rows, rows[1:2], 3)
    np.testing.assert_array_equal(found, [[1, 4, 2]])
    np.testing.assert_allclose(trial.overlap(found, np.array([[4, 0, 1]]), 2), [1 / 3])
