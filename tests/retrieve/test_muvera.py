"""Search through encodings: codecs, the choice of filling, calibration, carving, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.data import topic_docs
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, save_tensors
from tokenspace.retrieve import muvera
from tokenspace.retrieve.fde import FDE
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.muvera import MUVERA, MUVERAIndex, carve, choose_fill
from tokenspace.retrieve.store import TokenStore


def ragged(seed: int, count: int, longest: int, width: int, shortest: int = 1) -> Ragged:
    rng = np.random.default_rng(seed)
    heights = rng.integers(shortest, longest + 1, count)
    rows = [rng.standard_normal((height, width)) for height in heights]
    return Ragged.pack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows])


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
    found = choose_fill(MUVERA(fill="off", d_proj=0), TokenStore.pack(docs))[1]["token_cosine"]
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
    with pytest.raises(ConfigError, match="k_sim"):
        MUVERA(k_sim=17)
    with pytest.raises(InputError, match="there are 200 documents"):
        MUVERA(d_proj=4, fde_codec="pq8")(ragged(18, 200, 4, 8))
    with pytest.raises(ConfigError, match="'pq16' does not divide 24 numbers"):
        MUVERA(repetitions=3, k_sim=1, d_proj=4, fde_codec="pq16")(ragged(18, 3, 4, 8))


def test_sizes_are_told_before_building(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tokenspace.retrieve.muvera")
    MUVERA(repetitions=2, k_sim=2, d_proj=4)(ragged(22, 30, 4, 8, 4))
    assert "30 encodings of 32 numbers as f16 take 1.9 kB, beside 4.1 kB" in caplog.text
    assert "not of length 1" not in caplog.text
    docs = ragged(22, 300, 4, 8, 4)
    longer = Ragged(2 * docs.flat, docs.offsets)
    MUVERA(repetitions=2, k_sim=2, d_proj=4, fde_codec="pq8")(longer)
    assert "as pq8 take 1.2 kB" in caplog.text
    assert "learn from 300 encodings" in caplog.text
    assert "not of length 1" in caplog.text


@pytest.mark.parametrize("codec", ["pq4", "pq8"])
def test_product_quantisation_is_the_nearest_centroid_of_every_group(
    codec: str, tmp_path: Path
) -> None:
    docs, queries = ragged(23, 400, 9, 8), ragged(24, 6, 5, 8)
    recipe = MUVERA(repetitions=2, k_sim=1, d_proj=4, fill="on", fde_codec=codec)
    index, group = recipe(docs), int(codec[2:])
    exact = index.encoder.documents(docs)
    stored = index.engine.reconstruct_n(0, len(docs))
    for start in range(0, 16, group):
        part, centroids = exact[:, start : start + group], stored[:, start : start + group]
        known = np.unique(centroids, axis=0)
        assert len(known) <= 256
        distances = np.square(part[:, None] - known).sum(axis=2)
        mine = np.square(part - centroids).sum(axis=1)
        np.testing.assert_allclose(mine, distances.min(axis=1), rtol=1e-4, atol=1e-6)
    # queries are not rounded: the scores are products with the centroids
    scores = index.encoder.queries(queries) @ stored.T
    found = index.find(queries, 20)
    best = -np.sort(-scores, axis=1)[:, :20]
    np.testing.assert_allclose(np.take_along_axis(scores, found, axis=1), best, atol=1e-4)
    assert index.nbytes == 400 * 16 // group + 4 * 256 * 16 + index.store.nbytes
    index.save(tmp_path / "index")
    loaded = MUVERAIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(loaded.find(queries, 20), found)
    np.testing.assert_array_equal(recipe(docs).find(queries, 20), found)
    every = MUVERA(repetitions=2, k_sim=1, d_proj=4, fde_codec=codec, candidates=400)(docs)
    for ours, theirs in zip(
        every.search(queries, 7), MaxSim()(docs).search(queries, 7), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_estimates_lie_on_the_line_of_the_sample() -> None:
    docs, queries, _ = topic_docs(150, 12, 24, 16, seed=1)
    exact = MaxSim()(docs).score(queries) / queries.heights[:, None]
    offs = []
    for shape in ((3, 2, 8), (12, 4, 16)):
        recipe = MUVERA(**dict(zip(("repetitions", "k_sim", "d_proj"), shape, strict=True)))
        index = recipe(docs)
        found, estimates = index.estimate(queries, len(docs))
        raw = index.encoder.queries(queries) @ index.encoder.documents(docs).T
        order = np.take_along_axis(raw, found, axis=1)
        line = index.metrics["slope"] * order + index.metrics["offset"] * queries.heights[:, None]
        np.testing.assert_allclose(estimates, line, atol=0.02)  # encodings are float16
        truth = np.take_along_axis(exact, found, axis=1)
        offs.append(float(np.mean(estimates / queries.heights[:, None] - truth)))
        biased = np.mean(order / queries.heights[:, None] - truth)
        assert abs(offs[-1]) < 0.3 * abs(biased)
        assert index.metrics["correlation"] > 0.5
    assert abs(offs[0] - offs[1]) < 0.05  # so a threshold stays where it was


def test_the_line_is_the_least_squares_fit() -> None:
    docs = ragged(25, 60, 12, 8)
    recipe = MUVERA(repetitions=3, k_sim=2, d_proj=0, fill="on")
    sample = muvera._Sample.draw(recipe, TokenStore.pack(docs))
    estimates, heights = sample.estimates(recipe, True), sample.queries.heights[:, None]
    x, y = (estimates / heights).ravel(), (sample.exact / heights).ravel()
    figures = choose_fill(recipe, TokenStore.pack(docs))[1]
    np.testing.assert_allclose(
        [figures["slope"], figures["offset"]], np.polyfit(x, y, 1), rtol=1e-4
    )
    np.testing.assert_allclose(figures["correlation"], np.corrcoef(x, y)[0, 1], rtol=1e-4)
    alone = MUVERA(repetitions=1, k_sim=0, d_proj=0)(ragged(26, 1, 1, 8))
    assert np.isfinite(list(alone.metrics.values())).all()


def test_carving_by_hand() -> None:
    queries = Ragged.pack([[[1, 0], [0.8, 0.6], [0, 1]], [[0.6, 0.8]]])
    carved = carve(queries, 0.7)
    # (0.8, 0.6) is near the first token, which is not near the third
    np.testing.assert_allclose(carved.flat, [[1.8, 0.6], [0, 1], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(carved.offsets, [0, 2, 3])
    np.testing.assert_array_equal(carve(queries, 1.1).flat, queries.flat)
    np.testing.assert_allclose(carve(queries, -1).flat, [[1.8, 1.6], [0.6, 0.8]], rtol=1e-6)


def test_carved_scores_are_at_most_the_exact_ones() -> None:
    docs, queries, _ = topic_docs(80, 10, 24, 16, seed=2)
    index = MUVERA(repetitions=4, d_proj=8, candidates=80)(docs)
    numbers, scores = index.search(queries, 80, tau=0.7)
    exact = index.score(queries, numbers)
    assert (scores <= exact + 1e-4).all()
    assert (scores < exact - 1e-3).any()
    np.testing.assert_allclose(scores, index.score(carve(queries), numbers), atol=1e-5)
    for mine, theirs in zip(index.search(queries, tau=2.0), index.search(queries), strict=True):
        np.testing.assert_array_equal(mine, theirs)
