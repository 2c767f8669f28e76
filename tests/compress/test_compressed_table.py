"""The stored form of compressed tables, packed codes, budgets, and the layer's own checks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tokenspace.compress._budget import allowed, largest
from tokenspace.compress._packing import pack, packed_width, unpack
from tokenspace.compress.floats import open_rows
from tokenspace.compress.table import CompressedTable, check_counts, errors_of
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import save_tensors
from tokenspace.recipe import make


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("count", [1, 3, 8])
def test_codes_are_packed_bit_by_bit(bits: int, count: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (5, count))
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (5, packed_width(count, bits)) == (5, (count * bits + 7) // 8)
    for row, found in zip(codes.tolist(), packed, strict=True):
        whole = sum(code << (place * bits) for place, code in enumerate(row))
        assert int.from_bytes(found.tobytes(), "little") == whole
    np.testing.assert_array_equal(unpack(packed, bits, count), codes)
    some = np.array([4, 0, 4])
    np.testing.assert_array_equal(unpack(packed, bits, count, some), codes[some])


def test_the_largest_within_the_budget() -> None:
    assert allowed(0.5, 10, 4) == 80
    cost = [0, 10, 20, 80, 81, 200].__getitem__
    assert largest(cost, 1, 5, 0.5, 10, 4, "x") == 3
    assert largest(cost, 1, 3, 1.0, 10, 4, "x") == 3
    with pytest.raises(ConfigError, match=r"allows 6 bytes .* least it can do is 10 \(0.0625\)"):
        largest(cost, 1, 5, 0.04, 10, 4, "x")


def shared() -> CompressedTable:
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    return make("hash", budget=0.5)(vectors)


def test_shared_rows_by_hand() -> None:
    table = shared()  # three rows: 0 and 3, 1 and 4, 2 and 5
    np.testing.assert_array_equal(table.tensors["shared"], [[3, 4], [5, 6], [7, 8]])
    np.testing.assert_array_equal(table.rows(np.array([5, 0])), [[7, 8], [3, 4]])
    assert (table.nbytes, table.ratio) == (24, 0.5)
    weighted = make("hash", budget=0.5)(
        np.arange(12, dtype=np.float32).reshape(6, 2), counts=np.array([3, 1, 0, 1, 0, 0])
    )
    np.testing.assert_allclose(
        weighted.tensors["shared"], [[1.5, 2.5], [2, 3], [7, 8]], rtol=1e-6
    )  # unseen rows weigh next to nothing beside seen ones, and the same among themselves


def test_the_errors_by_hand() -> None:
    found = errors_of(shared(), np.arange(12, dtype=np.float32).reshape(6, 2))
    assert found["max_error"] == 3
    assert found["rms_error"] == pytest.approx((12 * 9 / sum(i * i for i in range(12))) ** 0.5)
    pairs = [((i, i + 1), (i % 6 + 3, i % 6 + 4)) for i in range(0, 12, 2)]
    cosines = [
        (a * c + b * d) / ((a * a + b * b) ** 0.5 * (c * c + d * d) ** 0.5)
        for (a, b), (c, d) in pairs
    ]
    assert found["cosine"] == pytest.approx(np.mean(cosines))


def test_a_table_is_saved_whole(tmp_path) -> None:
    table = shared()
    table.save(tmp_path / "a.safetensors")
    again = open_rows(tmp_path / "a.safetensors")
    assert isinstance(again, CompressedTable)
    assert (again.method, again.shape, again.metrics) == ("hash", (6, 2), table.metrics)
    np.testing.assert_array_equal(again.rows(np.arange(6)), table.rows(np.arange(6)))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "no such method"},
        {"compressed": "{"},
        {"compressed": json.dumps({"shape": [6, 2], "settings": {}})},
        {"compressed": json.dumps({"shape": [6], "settings": {}, "metrics": {}})},
        {"compressed": json.dumps({"shape": [6, 3], "settings": {}, "metrics": {}})},
    ],
    ids=["method", "JSON", "no metrics", "one number", "another width"],
)
def test_a_false_description_is_refused(change, tmp_path) -> None:
    about = {"shape": [6, 2], "settings": {}, "metrics": {}}
    notes = {"method": "hash", "compressed": json.dumps(about), **change}
    save_tensors(tmp_path / "a.safetensors", dict(shared().tensors), notes)
    with pytest.raises(FormatError):
        CompressedTable.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("ids", [[6], [-1], [0.5]])
def test_ids_outside_the_table_are_refused(ids) -> None:
    with pytest.raises(InputError):
        shared().rows(np.array(ids))
    if isinstance(ids[0], int):
        with pytest.raises(InputError, match="outside"):
            make("hash").embedding(60, 4)(torch.tensor(ids) * 10)


def test_counts_must_fit() -> None:
    for wrong in (np.ones(5, int), np.array([1, 1, 1, 1, 1, -1])):
        with pytest.raises(InputError, match="counts"):
            check_counts(wrong, 6, "x")


def test_a_layer_takes_the_place_of_an_embedding() -> None:
    layer = make("hash", budget=0.5).embedding(100, 4, init_std=0.5, seed=3)
    rows = layer(torch.tensor([[1, 51], [2, 99]]))
    assert rows.shape == (2, 2, 4)
    assert torch.equal(rows[0, 0], rows[0, 1])
    rows.sum().backward()
    assert layer.shared.grad[1].eq(2).all()
    assert layer(torch.zeros((0, 3), dtype=torch.int64)).shape == (0, 3, 4)
    assert float(layer.shared.detach().std()) == pytest.approx(0.5, rel=0.15)
    exported = layer.export()
    np.testing.assert_array_equal(
        exported.rows(np.array([1, 99])), rows[[0, 1], [0, 1]].detach().numpy()
    )
    assert exported.ratio <= 0.5
    assert layer.settled(lambda _: 0.0) is None
