"""Documents as numbers of table rows: the same scores as the rows themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.errors import FormatError, InputError
from tokenspace.retrieve.coded import CodedStore
from tokenspace.retrieve.maxsim import MaxSim


@pytest.mark.parametrize("rows", [50, 70_000])
@pytest.mark.parametrize("tokens", [1, 7, 8, 19])
def test_scores_equal_a_slow_loop_and_exact_maxsim(rows: int, tokens: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(tokens)
    table = draw.standard_normal((rows, 12)).astype(np.float32)
    documents = [draw.integers(0, rows, size) for size in (3, 0, 1, 40)]
    store = CodedStore.write(tmp_path / "store", table, documents)
    assert store.codes.dtype == (np.uint16 if rows <= 65536 else np.uint32)
    query = draw.standard_normal((tokens, 12)).astype(np.float32)
    q, t = query.astype(np.float64), table.astype(np.float64)
    slow = [sum(max(row @ t[c] for c in d) for row in q) if len(d) else 0.0 for d in documents]
    np.testing.assert_allclose(store.maxsim(query), slow, rtol=1e-5, atol=1e-5)
    chosen = np.array([3, 0])
    np.testing.assert_array_equal(store.maxsim(query, chosen), store.maxsim(query)[chosen])
    docs = Ragged.pack([store[i] for i in (0, 2, 3)])
    exact = MaxSim()(docs).score(Ragged.pack([query]))[0]
    np.testing.assert_allclose(store.maxsim(query)[[0, 2, 3]], exact, rtol=1e-5, atol=1e-5)


def test_a_store_is_whole_or_refused(tmp_path: Path) -> None:
    table = np.eye(3, dtype=np.float32)
    store = CodedStore.write(tmp_path / "store", table, [[0, 2], [1]])
    np.testing.assert_array_equal(store[0], table[[0, 2]])
    assert store.nbytes == 3 * 2 + 3 * 8 + 9 * 4
    with pytest.raises(InputError, match="document 1: a token outside the table of 3"):
        CodedStore.write(tmp_path / "bad", table, [[0], [3]])
    assert not (tmp_path / "bad").exists()
    (tmp_path / "store" / "codes.bin").write_bytes(b"\0\0")
    with pytest.raises(FormatError, match="does not hold 3 codes"):
        CodedStore.open(tmp_path / "store")
