"""Codes of signs against a literal transcription, by hand, and in their limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.retrieve.binary import Binary, BinaryIndex
from tokenspace.retrieve.hamming import unpack_bits
from tokenspace.retrieve.maxsim import MaxSim


def normal(seed: int, count: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_a_case_computed_by_hand() -> None:
    index = Binary(rotation="random", rerank=0)(Ragged.single(np.eye(4, dtype=np.float32)))
    index.directions = np.eye(4, dtype=np.float32)
    index.codes = index.encode(np.array([[1, 1, 1, 1], [1, 1, 0, -1], [-1, -1, -1, 0]], np.float32))
    index.offsets = np.arange(4)
    np.testing.assert_array_equal(unpack_bits(index.codes, 4).sum(axis=1), [4, 2, 0])
    numbers, scores = index.search(Ragged.single(np.array([[2, 1, 1, -1]], np.float32)), 3)
    np.testing.assert_array_equal(numbers, [[0, 1, 2]])  # distances 1, 1, 3
    np.testing.assert_array_equal(scores, [[2, 2, -2]])  # 4 bits less twice the distance


@pytest.mark.parametrize("rotation", ["itq", "random"])
@pytest.mark.parametrize("bits", [0, 8])
def test_scores_are_products_of_signs(rotation: str, bits: int) -> None:
    rows = normal(0, 60, 12) + 0.5
    docs = Ragged(rows, np.array([0, 1, 4, 20, 60]))
    queries = Ragged(normal(1, 5, 12), np.array([0, 1, 5]))
    index = Binary(rotation=rotation, bits=bits, rerank=0, iterations=4)(docs)
    directions, mean = index.directions.astype(np.float64), index.mean.astype(np.float64)
    signs = Ragged(np.where((rows - mean) @ directions > 0, 1, -1), docs.offsets)
    asked = Ragged(np.where((queries.flat - mean) @ directions > 0, 1, -1), queries.offsets)
    slow = [[sum(max(p @ q for p in doc) for q in query) for doc in signs] for query in asked]
    numbers, scores = index.search(queries, 4)
    np.testing.assert_array_equal(numbers, np.argsort(-np.array(slow), axis=1, kind="stable"))
    np.testing.assert_array_equal(scores, -np.sort(-np.array(slow), axis=1))
    assert index.bits == (bits or 12)


def test_itq_is_that_of_the_definition() -> None:
    rows = normal(2, 200, 6) * np.array([3, 2, 1.5, 1, 0.5, 0.2], np.float32) + 1
    index = Binary(bits=0, iterations=20)(Ragged.single(rows))
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    W = index.directions.astype(np.float64)
    np.testing.assert_allclose(W.T @ W, np.eye(6), atol=1e-5)  # a rotation of the principal axes
    Z = centred @ W
    B = np.where(Z > 0, 1.0, -1.0)
    U, _, Vt = np.linalg.svd(B.T @ Z)
    better = Z @ (Vt.T @ U.T)  # one more step hardly changes it
    loss = [np.square(np.where(X > 0, 1, -1) - X).sum() for X in (Z, better)]
    assert loss[1] <= loss[0] * (1 + 1e-6)
    assert loss[1] > 0.98 * loss[0]
    plain = Binary(rotation="random")(Ragged.single(rows))
    turned = centred @ plain.directions
    assert loss[0] < np.square(np.where(turned > 0, 1, -1) - turned).sum()


def test_random_bits_differ_as_the_angle_says() -> None:
    rows = normal(3, 40, 16)
    index = Binary(rotation="random", bits=4096)(Ragged.single(rows))
    bits = unpack_bits(index.codes, 4096)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    angle = np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
    differ = (bits[:, None] != bits[None]).mean(axis=2)
    np.testing.assert_allclose(differ, angle, atol=0.04)


def test_with_all_documents_re_ranked_it_is_exact() -> None:
    docs, queries = Ragged.single(normal(4, 90, 8)), Ragged.single(normal(5, 7, 8))
    numbers, scores = MaxSim()(docs).search(queries, 9)
    found, values = Binary(rerank=10, codec="f32")(docs).search(queries, 9)
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_array_equal(values, scores)


def test_near_is_a_radius_of_the_distance() -> None:
    rows = normal(6, 200, 16)
    cuts = np.random.default_rng(0).choice(199, 60) + 1
    docs = Ragged(rows, np.unique(np.concatenate([[0], cuts, [200]])))
    index = Binary(rerank=0)(docs)
    bits = unpack_bits(index.codes, 16)
    slow = [
        int((bits[a:b] != bits[7]).sum(axis=1).min())
        for a, b in zip(docs.offsets[:-1], docs.offsets[1:], strict=True)
    ]
    before = index.nbytes
    documents, distances = index.near(rows[7:8], 4)
    expected = np.flatnonzero(np.array(slow) <= 4)
    expected = expected[np.argsort(np.array(slow)[expected], kind="stable")]
    np.testing.assert_array_equal(documents, expected)
    np.testing.assert_array_equal(distances, np.array(slow)[expected])
    assert index.nbytes == before + index.buckets.nbytes
    with pytest.raises(InputError, match="32 at most"):
        Binary(rotation="random", bits=40)(docs).near(rows[:1], 1)


def test_unusable_input_is_refused(tmp_path: Path) -> None:
    docs = Ragged.single(normal(0, 20, 12))
    for bits in (1, 12, 20):
        with pytest.raises(ConfigError, match="not a multiple of 8"):
            Binary(bits=bits)
    with pytest.raises(ConfigError, match="bits=16 is above the width 12"):
        Binary(bits=16)(docs)
    assert Binary(bits=16, rotation="random")(docs).bits == 16
    with pytest.raises(InputError, match="has no tokens"):
        Binary()(Ragged(docs.flat, np.array([0, 20, 20])))
    index = Binary()(docs)
    index.save(tmp_path / "index")
    assert BinaryIndex.load(tmp_path / "index").nbytes == index.nbytes
    path = tmp_path / "index" / "binary.json"
    described = json.loads(path.read_text("utf-8"))
    other = {**described, "recipe": Binary(seed=3).to_dict()}
    path.write_text(json.dumps(other), "utf-8")
    with pytest.raises(FormatError, match="different configurations"):
        BinaryIndex.load(tmp_path / "index")
    path.unlink()
    with pytest.raises(FormatError, match="build the index again"):
        BinaryIndex.load(tmp_path / "index")
