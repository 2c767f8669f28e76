"""Fixed dimensional encodings against a literal transcription, by hand, and in their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.errors import ConfigError, InputError
from tokenspace.retrieve.fde import FDE
from tokenspace.retrieve.muvera import MUVERA
from tokenspace.retrieve.store import TokenStore


def ragged(seed: int, count: int, longest: int, width: int, shortest: int = 1) -> Ragged:
    rng = np.random.default_rng(seed)
    heights = rng.integers(shortest, longest + 1, count)
    rows = [rng.standard_normal((height, width)) for height in heights]
    return Ragged.pack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows])


def literal(encoder: FDE, tokens: np.ndarray, *, document: bool, fill: bool) -> np.ndarray:
    """Follow the published steps one token, cell and number at a time, in float64."""
    recipe, width = encoder.recipe, encoder.width
    cells = 2**recipe.k_sim
    blocks = np.zeros((recipe.repetitions, cells, encoder.block))

    def psi(r: int, x: np.ndarray) -> np.ndarray:
        if encoder.block == width:
            return x
        out = np.zeros(encoder.block)
        for i in range(width):
            if encoder.projection == "dense":
                out += x[i] * encoder.dense[r, i].astype(np.float64)
            else:
                out[encoder.columns[r, i]] += encoder.signs[r, i] * x[i]
        return out

    for r in range(recipe.repetitions):
        bits = []
        for x in tokens.astype(np.float64):
            word = ""
            for j in range(recipe.k_sim):
                plane = encoder.directions[:, r * recipe.k_sim + j].astype(np.float64)
                word += "1" if plane @ x > 0 else "0"
            bits.append(word)
        for label in range(cells):
            code = label ^ (label >> 1) if encoder.cell_order == "gray" else label
            wanted = format(code, f"0{recipe.k_sim}b") if recipe.k_sim else ""
            inside = [
                x for x, word in zip(tokens.astype(np.float64), bits, strict=True) if word == wanted
            ]
            if inside:
                projected = [psi(r, x) for x in inside]
                blocks[r, label] = np.sum(projected, axis=0) / (len(inside) if document else 1)
            elif document and fill and recipe.k_sim:
                differing = [sum(map(str.__ne__, word, wanted)) for word in bits]
                nearest = tokens[differing.index(min(differing))].astype(np.float64)
                blocks[r, label] = psi(r, nearest)
    whole = blocks.reshape(-1) * (recipe.repetitions**-0.5 if encoder.scale == "chamfer" else 1.0)
    if not recipe.d_final:
        return whole
    out = np.zeros(recipe.d_final)
    for i, value in enumerate(whole):
        if encoder.final == "dense":
            out += value * encoder.matrix[i] / recipe.d_final**0.5
        else:
            out[encoder.buckets[i]] += encoder.flips[i] * value
    return out


@pytest.mark.parametrize("projection", ["sketch", "dense"])
@pytest.mark.parametrize("cell_order", ["binary", "gray"])
@pytest.mark.parametrize(
    ("k_sim", "d_proj", "fill", "scale", "d_final"),
    [
        (3, 4, True, "chamfer", 0),
        (4, 4, False, "raw", 30),
        (5, 0, True, "raw", 50),
        (0, 5, True, "chamfer", 7),
        (7, 2, True, "chamfer", 0),
    ],
)
def test_encodings_are_those_of_the_definition(
    projection: Any,
    cell_order: Any,
    k_sim: int,
    d_proj: int,
    fill: bool,
    scale: Any,
    d_final: int,
) -> None:
    recipe = MUVERA(repetitions=3, k_sim=k_sim, d_proj=d_proj, d_final=d_final, seed=5)
    encoder = FDE(
        10,
        recipe,
        fill=fill,
        cell_order=cell_order,
        scale=scale,
        projection=projection,
        final=projection,
    )
    docs, queries = ragged(0, 6, 14, 10), ragged(1, 4, 6, 10)
    expected = [literal(encoder, doc, document=True, fill=fill) for doc in docs]
    np.testing.assert_allclose(encoder.documents(docs), expected, rtol=1e-5, atol=2e-6)
    expected = [literal(encoder, query, document=False, fill=fill) for query in queries]
    np.testing.assert_allclose(encoder.queries(queries), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("cell_order", "document", "query"),
    [
        ("binary", [-1, 0, 3, 1, 3, 1, 2, 1], [-1, 0, 0, 0, 0, 0, 4, 2]),
        # the labels 0, 1, 2, 3 stand for the sign bits 00, 01, 11, 10
        ("gray", [-1, 0, 3, 1, 2, 1, 3, 1], [-1, 0, 0, 0, 4, 2, 0, 0]),
    ],
)
def test_cells_and_filling_by_hand(
    cell_order: Any, document: list[float], query: list[float]
) -> None:
    recipe = MUVERA(repetitions=1, k_sim=2, d_proj=0)
    encoder = FDE(2, recipe, fill=True, cell_order=cell_order, scale="raw")
    encoder.directions = np.eye(2, dtype=np.float32)  # a bit is the sign of a coordinate
    docs = Ragged.pack([[[3, 1], [1, 1], [-1, 0]]])
    # cells: (3, 1) and (1, 1) in 11, (-1, 0) in 00, where zero gives bit 0. Mean of 11: (2, 1).
    # 01 differs from 11 and from 00 in one bit each: the first token wins, itself, not the mean;
    # so does 10.
    np.testing.assert_array_equal(encoder.documents(docs), [document])
    np.testing.assert_array_equal(encoder.queries(docs), [query])


def by_hand(d_final: int, **options: Any) -> FDE:
    """Return an encoder of vectors of 4 numbers whose matrices are small whole numbers."""
    recipe = MUVERA(repetitions=2, k_sim=1, d_proj=2, d_final=d_final)
    encoder = FDE(4, recipe, fill=True, scale="raw", **options)
    encoder.directions = np.array([[1, 0], [0, 0], [0, 0], [0, 1]], np.float32)
    encoder.columns = np.array([[0, 1, 0, 1], [1, 1, 0, 0]])
    encoder.signs = np.array([[1, -1, -1, 1], [1, 1, 1, -1]], np.float32)
    return encoder


def test_projections_by_hand() -> None:
    texts = Ragged.pack([[[1, 2, 0, -1], [3, 0, 1, 1]]])
    # repetition 0: both in cell 1; psi: (1, -3) and (2, 1); mean (1.5, -1), sum (3, -2);
    # the empty cell 0 takes the first. Repetition 1: the first in cell 0 as (1, 3), the second
    # in cell 1 as (0, 3).
    document, query = [1, -3, 1.5, -1, 1, 3, 0, 3], [0, 0, 3, -2, 1, 3, 0, 3]
    plain = by_hand(0)
    np.testing.assert_array_equal(plain.documents(texts), [document])
    np.testing.assert_array_equal(plain.queries(texts), [query])
    sketch = by_hand(3)
    sketch.buckets = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    sketch.flips = np.array([1, 1, -1, -1, 1, 1, 1, -1], np.int8)
    # (1 + 1 + 0, -3 + 1 - 3, -1.5 + 3) and (0 + 2 + 0, 0 + 1 - 3, -3 + 3)
    np.testing.assert_array_equal(sketch.documents(texts), [[2, -5, 1.5]])
    np.testing.assert_array_equal(sketch.queries(texts), [[2, -2, 0]])
    dense = by_hand(2, final="dense")
    dense.matrix = np.array([[1, 1], [1, -1]] * 4, np.int8)
    # the sum 5.5 and 4 + 2.5 - 2 - 3; the sum 8 and 0 + 5 - 2 - 3, over the root of 2
    root = 2**0.5
    np.testing.assert_allclose(dense.documents(texts), [[5.5 / root, 1.5 / root]], rtol=1e-6)
    np.testing.assert_allclose(dense.queries(texts), [[8 / root, 0]], rtol=1e-6, atol=1e-6)


def test_a_final_sketch_is_that_of_the_long_encoding() -> None:
    docs = ragged(19, 5, 30, 16)
    long = FDE(16, MUVERA(repetitions=40, k_sim=6, d_proj=0))
    short = FDE(16, MUVERA(repetitions=40, k_sim=6, d_proj=0, d_final=512))
    assert (long.dim, short.dim, short.long) == (40 * 64 * 16, 512, 40 * 64 * 16)
    for side in ("documents", "queries"):
        expected = np.zeros((5, 512))
        for i, column in enumerate(getattr(long, side)(docs).T.astype(np.float64)):
            expected[:, short.buckets[i]] += short.flips[i] * column
        np.testing.assert_allclose(getattr(short, side)(docs), expected, atol=1e-5)


@pytest.mark.parametrize("final", ["sketch", "dense"])
def test_a_final_projection_keeps_products_on_average(final: Any) -> None:
    docs, queries = ragged(20, 1, 20, 8, 20), ragged(21, 1, 6, 8, 6)
    errors = []
    for seed in range(150):
        shape = {"repetitions": 2, "k_sim": 2, "d_proj": 4, "seed": seed}
        long = FDE(8, MUVERA(**shape))
        short = FDE(8, MUVERA(**shape, d_final=24), final=final)
        exact, found = (
            (encoder.documents(docs) @ encoder.queries(queries).T).item()
            for encoder in (long, short)
        )
        errors.append(found - exact)
    assert abs(np.mean(errors)) < 4 * np.std(errors) / len(errors) ** 0.5


@pytest.mark.parametrize("cell_order", ["binary", "gray"])
@pytest.mark.parametrize("k_sim", range(9))
def test_a_token_is_at_no_distance_from_its_own_cell(cell_order: Any, k_sim: int) -> None:
    recipe = MUVERA(repetitions=2, k_sim=k_sim, d_proj=0)
    encoder = FDE(6, recipe, fill=True, cell_order=cell_order)
    tokens = ragged(2, 1, 600, 6, 600).flat
    labels, distances = encoder.labels(tokens), encoder.distances(tokens)
    own = np.take_along_axis(distances, labels[:, :, None], axis=2)
    assert (own == 0).all()
    assert ((distances == 0).sum(axis=2) == 1).all()
    # and filling measures the same distance: an empty cell takes the first token nearest to it
    few = tokens[:5]
    blocks = encoder.documents(Ragged.pack([few])).reshape(2, encoder.cells, 6) * 2**0.5
    near = distances[:5].argmin(axis=0)
    for r in range(2):
        for cell in set(range(encoder.cells)) - set(labels[:5, r].tolist()):
            np.testing.assert_allclose(blocks[r, cell], few[near[r, cell]], rtol=1e-5)


def test_gray_order_is_a_permutation_of_the_blocks() -> None:
    recipe, docs, queries = (
        MUVERA(repetitions=4, d_proj=4),
        ragged(3, 9, 20, 12),
        ragged(4, 5, 6, 12),
    )
    binary, gray = FDE(12, recipe), FDE(12, recipe, cell_order="gray")
    shape = (-1, 4, 32, 4)
    order = np.arange(32) ^ (np.arange(32) >> 1)
    for side in ("documents", "queries"):
        items = docs if side == "documents" else queries
        plain = getattr(binary, side)(items).reshape(shape)
        np.testing.assert_array_equal(getattr(gray, side)(items).reshape(shape), plain[:, :, order])
    assert binary.config_hash != gray.config_hash


@pytest.mark.parametrize("projection", ["sketch", "dense"])
def test_one_token_each_is_unbiased(projection: Any) -> None:
    q, p = ragged(5, 2, 1, 16)
    estimates = []
    for seed in range(200):
        recipe = MUVERA(repetitions=4, k_sim=2, d_proj=4, seed=seed)
        encoder = FDE(16, recipe, fill=True, projection=projection)
        document, query = encoder.documents(Ragged.pack([p])), encoder.queries(Ragged.pack([q]))
        estimates.append(float((document @ query.T)[0, 0]))
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - (q @ p.T).item()) < 4 * error
    assert error < 0.04


def test_the_spread_falls_with_the_root_of_the_repetitions() -> None:
    doc, query = ragged(6, 1, 30, 16, 30), ragged(7, 1, 8, 16, 8)
    spread = []
    for repetitions in (4, 64):
        values = []
        for seed in range(80):
            encoder = FDE(16, MUVERA(repetitions=repetitions, k_sim=3, d_proj=4, seed=seed))
            values.append(float((encoder.documents(doc) @ encoder.queries(query).T)[0, 0]))
        spread.append(float(np.std(values)))
    assert 2.6 < spread[0] / spread[1] < 6.0  # sqrt(16) = 4


def test_an_encoding_depends_on_its_document_alone() -> None:
    docs = ragged(8, 40, 25, 20)
    order = np.random.default_rng(0).permutation(40)
    encoders = [FDE(20, MUVERA(repetitions=5, d_proj=8, threads=n)) for n in (1, 2)]
    straight = encoders[0].documents(docs)
    np.testing.assert_array_equal(encoders[1].documents(docs.take(order)), straight[order])
    part = encoders[0].encode_documents(TokenStore.pack(docs), 7, 19)
    np.testing.assert_array_equal(part, straight[7:19])


def test_neighbouring_seeds_share_no_direction() -> None:
    first, second = (FDE(8, MUVERA(repetitions=3, d_proj=4, seed=seed)) for seed in (0, 1))
    a, b = (part.directions / np.linalg.norm(part.directions, axis=0) for part in (first, second))
    assert np.abs(a.T @ b).max() < 0.999
    assert first.config_hash != second.config_hash


def test_every_setting_is_in_the_hash() -> None:
    plain: dict[str, Any] = {"repetitions": 3, "k_sim": 2, "d_proj": 4}
    encoders = [FDE(8, MUVERA(**plain)), FDE(9, MUVERA(**plain))]
    for changed in (
        {"repetitions": 4},
        {"k_sim": 3},
        {"d_proj": 5},
        {"d_final": 9},
        {"d_final": 10},
        {"fill": "off"},
        {"seed": 1},
    ):
        encoders.append(FDE(8, MUVERA(**{**plain, **changed})))
    for option in ({"cell_order": "gray"}, {"scale": "raw"}, {"projection": "dense"}):
        encoders.append(FDE(8, MUVERA(**plain), **option))  # type: ignore[arg-type]
    encoders.append(FDE(8, MUVERA(**plain, d_final=9), final="dense"))
    assert len({encoder.config_hash for encoder in encoders}) == len(encoders)
    for encoder in encoders:
        again = FDE.from_config(encoder.config, encoder.recipe)
        assert again.config_hash == encoder.config_hash
        other = MUVERA(**{**plain, "seed": 2})
        with pytest.raises(ValueError, match="another configuration"):
            FDE.from_config(encoder.config, other)
    same = FDE(8, MUVERA(**plain, candidates=7, fde_codec="i8", codec="f16", threads=3))
    assert same.config_hash == encoders[0].config_hash


def test_unusable_input_is_refused() -> None:
    encoder = FDE(8, MUVERA(d_proj=4))
    with pytest.raises(InputError, match="width"):
        encoder.documents(ragged(18, 3, 4, 9))
    with pytest.raises(InputError, match="NaN"):
        encoder.documents(Ragged.pack([np.full((2, 8), np.nan)]))
    with pytest.raises(InputError, match="GiB"):
        encoder.check_size(10**9)
    with pytest.raises(ConfigError, match="d_proj=16 is above the width 8"):
        FDE(8, MUVERA())
    with pytest.raises(ConfigError, match="d_final=2560 does not narrow 2560 numbers"):
        FDE(8, MUVERA(d_proj=4, d_final=2560))
    with pytest.raises(ConfigError, match="over 1e"):
        FDE(128, MUVERA(repetitions=40, k_sim=6, d_proj=0, d_final=10_240), final="dense")
    for option in ("cell_order", "scale", "projection", "final"):
        with pytest.raises(ConfigError, match=f"{option}='grey' is not one of"):
            FDE(8, MUVERA(d_proj=4), **{option: "grey"})
