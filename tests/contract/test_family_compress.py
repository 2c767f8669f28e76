"""What every compressed table keeps to: rows by id, honest bytes, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from subjects import bag, names, run

from tokenspace.errors import InputError

pytestmark = pytest.mark.parametrize("name", names("compress"))


def test_rows_by_id_are_the_reconstructed_table(name: str) -> None:
    lookup = run(name)
    whole = lookup.rows(np.arange(lookup.shape[0]))
    assert whole.shape == lookup.shape == bag("compress")["source"].shape
    ids = np.array([3, 0, 3, lookup.shape[0] - 1])
    np.testing.assert_array_equal(lookup.rows(ids), whole[ids])
    assert lookup.rows(ids[:0]).shape == (0, lookup.shape[1])


def test_bytes_are_true_and_fewer(name: str, tmp_path: Path) -> None:
    lookup = run(name)
    assert 0 < lookup.nbytes < bag("compress")["source"].nbytes
    lookup.save(tmp_path / "lookup")
    stored = [tmp_path / "lookup"] if (tmp_path / "lookup").is_file() else None
    files = stored or [file for file in (tmp_path / "lookup").rglob("*") if file.is_file()]
    on_disk = sum(file.stat().st_size for file in files)
    assert lookup.nbytes <= on_disk <= lookup.nbytes + 4096  # a header, and nothing hidden


def test_the_table_survives_recognisably(name: str) -> None:
    vectors = bag("compress")["source"]
    rows = run(name).rows(np.arange(len(vectors)))
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(vectors, axis=1)
    assert ((rows * vectors).sum(axis=1) / np.maximum(lengths, 1e-12)).mean() > 0.5


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((0, 8), np.float32),
        np.zeros(8, np.float32),
        np.full((4, 8), np.nan, np.float32),
        np.full((4, 8), np.inf, np.float32),
    ],
    ids=["no rows", "one dimension", "NaN", "infinite"],
)
def test_unusable_vectors_are_refused(name: str, vectors: np.ndarray) -> None:
    with pytest.raises(InputError):
        run(name, {**bag("compress"), "source": vectors})
