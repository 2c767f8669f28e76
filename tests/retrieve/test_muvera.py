"""Fixed dimensional encodings against a literal transcription, by hand, and in their limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, save_tensors
from tokenspace.retrieve import muvera
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.muvera import FDE, MUVERA, MUVERAIndex, choose_fill
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
            if recipe.projection == "dense":
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
    return blocks.reshape(-1) * (recipe.repetitions**-0.5 if encoder.scale == "chamfer" else 1.0)


@pytest.mark.parametrize("projection", ["sketch", "dense"])
@pytest.mark.parametrize("cell_order", ["binary", "gray"])
@pytest.mark.parametrize(
    ("k_sim", "d_proj", "fill", "scale"),
    [(3, 4, True, "chamfer"), (4, 4, False, "raw"), (5, 0, True, "raw"), (0, 5, True, "chamfer")],
)
def test_encodings_are_those_of_the_definition(
    projection: Any, cell_order: Any, k_sim: int, d_proj: int, fill: bool, scale: Any
) -> None:
    recipe = MUVERA(repetitions=3, k_sim=k_sim, d_proj=d_proj, projection=projection, seed=5)
    encoder = FDE(10, recipe, fill=fill, cell_order=cell_order, scale=scale)
    docs, queries = ragged(0, 6, 14, 10), ragged(1, 4, 6, 10)
    expected = [literal(encoder, doc, document=True, fill=fill) for doc in docs]
    np.testing.assert_allclose(encoder.documents(docs), expected, rtol=1e-5, atol=1e-6)
    expected = [literal(encoder, query, document=False, fill=fill) for query in queries]
    np.testing.assert_allclose(encoder.queries(queries), expected, rtol=1e-5, atol=1e-6)


def test_a_case_computed_by_hand() -> None:
    encoder = FDE(2, MUVERA(repetitions=1, k_sim=2, d_proj=0), fill=True, scale="raw")
    encoder.directions = np.eye(2, dtype=np.float32)  # a bit is the sign of a coordinate
    docs = Ragged.pack([[[3, 1], [1, 1], [-1, 0]]])
    # cells: (3, 1) and (1, 1) in 11, (-1, 0) in 00, where zero gives bit 0. Mean of 11: (2, 1).
    # 01 differs from 11 and from 00 in one bit each: the first token wins, itself, not the mean;
    # so does 10.
    np.testing.assert_array_equal(encoder.documents(docs), [[-1, 0, 3, 1, 3, 1, 2, 1]])
    np.testing.assert_array_equal(encoder.queries(docs), [[-1, 0, 0, 0, 0, 0, 4, 2]])


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
        recipe = MUVERA(repetitions=4, k_sim=2, d_proj=4, projection=projection, seed=seed)
        encoder = FDE(16, recipe, fill=True)
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


def test_all_documents_as_candidates_is_exact_maxsim() -> None:
    docs, queries = ragged(9, 60, 20, 16), ragged(10, 12, 8, 16)
    expected = MaxSim()(docs).search(queries, 7)
    for codec in ("f32", "f16", "i8"):
        index = MUVERA(repetitions=2, d_proj=4, candidates=1000, fde_codec=codec)(docs)
        numbers, scores = index.search(queries, 7)
        np.testing.assert_array_equal(numbers, expected[0])
        np.testing.assert_array_equal(scores, expected[1])


def test_candidates_are_the_best_inner_products() -> None:
    docs, queries = ragged(11, 80, 20, 16), ragged(12, 10, 8, 16)
    index = MUVERA(repetitions=3, d_proj=4, fde_codec="f32", candidates=5)(docs)
    scores = index.encoder.queries(queries) @ index.encoder.documents(docs).T
    expected = np.argsort(-scores, axis=1)[:, :5]
    np.testing.assert_array_equal(index.find(queries, 5), expected)
    numbers, _ = index.search(queries, 5)
    np.testing.assert_array_equal(np.sort(numbers, axis=1), np.sort(expected, axis=1))


def test_int8_learns_its_ranges_from_the_whole_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muvera, "_SCRATCH", 1)  # one document at a time
    docs = ragged(21, 300, 6, 16)
    growing = Ragged(docs.flat * np.repeat(np.arange(1, 301), docs.heights)[:, None], docs.offsets)
    index = MUVERA(repetitions=3, d_proj=4, fill="off", fde_codec="i8")(growing)
    stored = index.engine.reconstruct_n(0, 300)
    exact = index.encoder.documents(growing)
    steps = (exact.max(axis=0) - exact.min(axis=0)) / 255
    assert (np.abs(stored - exact) <= steps + 1e-4).all()


def test_auto_takes_what_shares_more_of_the_exact_top() -> None:
    docs = ragged(13, 120, 30, 24, 10)
    for recipe in (MUVERA(repetitions=6, d_proj=8), MUVERA(repetitions=6, d_proj=8, seed=1)):
        fill, figures = choose_fill(recipe, TokenStore.pack(docs))
        assert fill == (figures["overlap_fill_on"] >= figures["overlap_fill_off"])
        moved = docs.take(np.random.default_rng(0).permutation(len(docs)))
        again = choose_fill(recipe, TokenStore.pack(moved))
        assert again[0] == fill
        assert again[1]["overlap_fill_on"] == figures["overlap_fill_on"]
    for name in ("on", "off"):
        index = MUVERA(repetitions=2, d_proj=8, fill=name)(docs)
        assert index.metrics["fill"] == float(name == "on")
        assert -1 <= index.metrics["token_cosine"] <= 1


def test_token_cosine_is_the_mean_over_pairs() -> None:
    docs = ragged(14, 10, 8, 5)
    cosines = docs.flat @ docs.flat.T
    pairs = cosines[np.triu_indices(len(cosines), 1)]
    found = choose_fill(MUVERA(fill="off"), TokenStore.pack(docs))[1]["token_cosine"]
    np.testing.assert_allclose(found, pairs.mean(), atol=1e-5)


def test_a_saved_index_answers_alike(tmp_path: Path) -> None:
    docs, queries = ragged(15, 50, 20, 16), ragged(16, 8, 8, 16)
    index = MUVERA(repetitions=3, d_proj=4, fde_codec="i8", codec="i8", candidates=20)(docs)
    index.save(tmp_path / "index")
    loaded = MUVERAIndex.load(tmp_path / "index")
    for mine, theirs in zip(index.search(queries), loaded.search(queries), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert loaded.nbytes == index.nbytes
    assert loaded.metrics == index.metrics


@pytest.mark.parametrize("fault", ["seed", "stamp", "missing"])
def test_encodings_of_another_configuration_are_refused(fault: str, tmp_path: Path) -> None:
    index = MUVERA(repetitions=2, d_proj=4)(ragged(17, 20, 9, 8))
    index.save(tmp_path / "index")
    described = tmp_path / "index" / "muvera.json"
    encodings = tmp_path / "index" / "fde.safetensors"
    if fault == "seed":
        saved = json.loads(described.read_text("utf-8"))
        saved["recipe"]["seed"] = 1
        described.write_text(json.dumps(saved), "utf-8")
    elif fault == "stamp":
        tensors = {name: np.array(part) for name, part in read_tensors(encodings).items()}
        tensors["config_hash"][0] ^= 1
        save_tensors(encodings, tensors)
    else:
        encodings.unlink()
    with pytest.raises(FormatError, match="MUVERA index"):
        MUVERAIndex.load(tmp_path / "index")


def test_neighbouring_seeds_share_no_direction() -> None:
    first, second = (FDE(8, MUVERA(repetitions=3, d_proj=4, seed=seed)) for seed in (0, 1))
    a, b = (part.directions / np.linalg.norm(part.directions, axis=0) for part in (first, second))
    assert np.abs(a.T @ b).max() < 0.999
    assert first.config_hash != second.config_hash


def test_documents_without_tokens() -> None:
    docs = Ragged.pack([np.ones((2, 8)), np.zeros((0, 8))])
    encoder = FDE(8, MUVERA(repetitions=2, d_proj=4), fill=True)
    with pytest.raises(InputError, match="document 1 has no tokens"):
        encoder.documents(docs)
    encoded = encoder.documents(docs, on_empty="zero")
    assert encoded[0].any()
    assert not encoded[1].any()
    with pytest.raises(InputError, match="document 1 has no tokens"):
        MUVERA(d_proj=4)(docs)
    with pytest.raises(InputError, match="query 1 has no tokens"):
        encoder.queries(docs)


def test_unusable_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="d_proj=16 is above the width 8"):
        MUVERA()(ragged(18, 3, 4, 8))
    encoder = FDE(8, MUVERA(d_proj=4))
    with pytest.raises(InputError, match="width"):
        encoder.documents(ragged(18, 3, 4, 9))
    with pytest.raises(InputError, match="NaN"):
        encoder.documents(Ragged.pack([np.full((2, 8), np.nan)]))
    with pytest.raises(InputError, match="GiB"):
        encoder.check_size(10**9)
    with pytest.raises(ConfigError, match="k_sim"):
        MUVERA(k_sim=17)
    with pytest.raises(ConfigError, match="cell_order"):
        FDE(8, MUVERA(d_proj=4), cell_order="grey")  # type: ignore[arg-type]
