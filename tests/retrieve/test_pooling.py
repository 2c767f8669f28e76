"""Pooling against hand-computed cases, a literal k-means, peers' Ward, and what must not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.modules import token_pooling

from tokenspace.arrays import Ragged
from tokenspace.errors import ConfigError, InputError
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.muvera import MUVERA
from tokenspace.retrieve.pooling import (
    Pooling,
    clusters,
    drop_words,
    means,
    pool,
    sides,
    token_cosine,
)

WORDS = ("all", "tail:3", "spacing:2", "even:3", "kmeans:3", "kmeans:25%", "ward:2", "drop:0.9")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def ragged(seed: int, heights: list[int], width: int = 8) -> Ragged:
    draw = np.random.default_rng(seed)
    return Ragged.pack([unit(draw.standard_normal((h, width))) for h in heights], width)


def test_rows_that_are_chosen_by_place() -> None:
    items = Ragged.pack([np.arange(14, dtype=np.float32).reshape(7, 2), np.ones((2, 2))])
    for how, places in (
        ("all", [0, 1, 2, 3, 4, 5, 6]),
        ("tail:3", [4, 5, 6]),
        ("spacing:3", [0, 3, 6]),
        ("even:3", [0, 2, 4]),  # floor(0 · 7 / 3), floor(7 / 3), floor(14 / 3)
    ):
        kept = pool(items, how, side="query")
        np.testing.assert_array_equal(kept[0], items[0][places])
    assert pool(items, "tail:3", side="query").heights.tolist() == [3, 2]
    assert pool(items, "tail:3", side="document").heights.tolist() == [3, 1]  # two equal rows


def test_clusters_of_a_case_computed_by_hand() -> None:
    a, b = unit(np.array([[1, 0.1], [1, -0.1]])), unit(np.array([[0.1, 1], [-0.1, 1]]))
    item = Ragged.pack([np.concatenate([a[:1], b, a[1:]])])
    for how in ("kmeans:2", "kmeans:50%", "ward:2:0"):
        kept = pool(item, how, side="document")
        np.testing.assert_allclose(kept[0], [[1, 0], [0, 1]], atol=1e-6)  # the first token's first
    kept = pool(item, "ward:1.5", side="document")  # the first token alone; then floor(3 / 1.5) = 2
    np.testing.assert_allclose(kept[0], [a[0], [0, 1], a[1]], atol=1e-6)
    item = Ragged.pack([unit(np.array([[1, 0], [1, 0.1], [0, 1]]))])
    np.testing.assert_array_equal(pool(item, "drop:0.9", side="query")[0], item[0][[0, 2]])


def lloyd(rows: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Take one more round of k-means, literally, in float64."""
    rows = rows.astype(np.float64)
    centroids = np.stack([rows[labels == c].mean(axis=0) for c in range(k)])
    return ((rows[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)


@pytest.mark.parametrize(("tokens", "k"), [(30, 4), (60, 15), (9, 9), (12, 1)])
def test_k_means_comes_to_rest_and_fills_every_cluster(tokens: int, k: int) -> None:
    rows = ragged(1, [tokens])[0]
    labels = clusters(rows, k, seed=3, rounds=200)
    assert set(labels) == set(range(k))
    np.testing.assert_array_equal(lloyd(rows, labels, k), labels)
    expected = [unit(rows[labels == labels[i]].astype(np.float64).mean(0)) for i in range(tokens)]
    first = [i for i in range(tokens) if labels[i] not in labels[:i]]
    np.testing.assert_allclose(means(rows, labels), np.array(expected)[first], atol=1e-6)


def test_k_means_finds_clusters_that_are_plain() -> None:
    draw = np.random.default_rng(2)
    centres = np.eye(8)[:5]
    rows = unit(centres[np.arange(60) % 5] + 0.05 * draw.standard_normal((60, 8)))
    found = [clusters(rows, 5, seed) for seed in range(20)]
    right = [len({(c, i % 5) for i, c in enumerate(labels)}) == 5 for labels in found]
    assert sum(right) >= 15  # k-means++ seeds by squared distance: rarely two in one cluster


def test_equal_tokens_give_equal_centroids_stored_once() -> None:
    item = Ragged.pack([np.tile(unit(np.ones(4)), (6, 1)), unit(np.eye(4)[[0, 0, 0, 1]])])
    asked = pool(item, "kmeans:3", side="query")
    assert asked.heights.tolist() == [3, 3]
    stored = pool(item, "kmeans:3", side="document")
    assert stored.heights.tolist() == [1, 2]
    query = ragged(3, [5], 4)
    np.testing.assert_allclose(
        MaxSim()(stored).score(query), MaxSim()(asked).score(query), atol=1e-6
    )


@pytest.mark.parametrize("factor", [1.5, 2, 4])
@pytest.mark.parametrize("protected", [0, 1, 3])
def test_ward_equals_the_peer(factor: float, protected: int) -> None:
    items = ragged(4, [1, 2, 5, 30, 47], 16)
    ours = pool(items, f"ward:{factor}:{protected}", side="query")
    for mine, rows in zip(ours, items, strict=True):
        peer = token_pooling.HierarchicalTokenPooling(factor, num_protected_tokens=protected)
        theirs = peer.pool_one(torch.from_numpy(rows.copy())).numpy()
        assert mine.shape == theirs.shape
        order, other = np.lexsort(np.round(mine, 3).T), np.lexsort(np.round(theirs, 3).T)
        np.testing.assert_allclose(mine[order], theirs[other], atol=1e-5)
        np.testing.assert_allclose(mine[:protected], rows[:protected], atol=1e-6)


@pytest.mark.parametrize("how", WORDS)
def test_an_item_depends_on_itself_alone(how: str) -> None:
    items = ragged(5, [12, 0, 1, 40, 3, 25])
    whole = pool(items, how, side="document", threads=2)
    assert whole.flat.dtype == np.float32
    assert (whole.heights <= items.heights).all()
    order = np.array([3, 5, 1, 0, 4, 2])
    moved = pool(items.take(order), how, side="document", threads=1)
    for place, i in enumerate(order):
        np.testing.assert_array_equal(moved[place], whole[int(i)])
        alone = pool(items.take(np.array([i])), how, side="document")
        np.testing.assert_array_equal(alone[0], whole[int(i)])


@pytest.mark.parametrize("how", WORDS)
def test_inputs_may_be_mapped_and_are_not_changed(how: str, tmp_path: Path) -> None:
    items = ragged(6, [12, 30, 2])
    np.save(tmp_path / "flat.npy", items.flat)
    mapped = Ragged(np.load(tmp_path / "flat.npy", mmap_mode="r"), items.offsets)
    before = items.flat.copy()
    np.testing.assert_array_equal(
        pool(mapped, how, side="query").flat, pool(items, how, side="query").flat
    )
    np.testing.assert_array_equal(items.flat, before)


@pytest.mark.parametrize("how", ["kmeans:50", "kmeans:100%", "ward:1", "tail:50", "even:50"])
def test_few_tokens_are_all_kept(how: str) -> None:
    items = ragged(7, [4, 1, 9])
    kept = pool(items, how, side="document")
    assert kept.heights.tolist() == [4, 1, 9]
    np.testing.assert_allclose(kept.flat, items.flat, atol=1e-6)


def test_a_share_is_rounded_up_and_centroids_have_length_one() -> None:
    items = ragged(8, [3, 4, 5, 20])
    kept = pool(items, "kmeans:25%", side="document")
    assert kept.heights.tolist() == [1, 1, 2, 5]
    np.testing.assert_allclose(np.linalg.norm(kept.flat, axis=1), 1, atol=1e-6)
    assert token_cosine(items, items) == pytest.approx(1, abs=1e-6)
    assert 0 < token_cosine(items, kept) < 1


def test_a_pooled_collection_is_smaller_in_every_index() -> None:
    items = ragged(9, [40] * 30, 16)
    kept = pool(items, "kmeans:4", side="document")
    assert MaxSim()(kept).nbytes < MaxSim()(items).nbytes / 8
    small = MUVERA(repetitions=2, k_sim=2, d_proj=4)
    assert small(kept).nbytes < small(items).nbytes / 2
    numbers, _ = MaxSim()(kept).search(items.take(np.arange(30)), 1)
    assert (numbers[:, 0] == np.arange(30)).mean() > 0.9


def test_words_are_dropped_where_their_text_is_known() -> None:
    items = ragged(10, [3, 2, 0])
    texts = [["The", "sea", " of"], ["the", "of"], []]
    kept = drop_words(items, texts, {"the", "of"})
    assert kept.heights.tolist() == [1, 2, 0]  # an item of stop words alone keeps them
    np.testing.assert_array_equal(kept[0], items[0][1:2])
    with pytest.raises(InputError, match="pieces"):
        drop_words(items, [["the"], ["of", "a"], []], {"the"})


def test_the_names_of_variants() -> None:
    assert sides("C4x8") == ("kmeans:4", "kmeans:8")
    assert sides("C25%") == ("kmeans:25%", "kmeans:25%")
    assert sides("Tail8x32") == ("tail:8", "tail:32")
    assert sides("Even4x8") == ("even:4", "even:8")
    assert sides("K4") == ("spacing:4", "spacing:4")
    assert sides("full") == ("all", "all")
    for wrong in ("", "C4", "c4x8", "C0x8", "K0", "C0%", "C101%", "Tail4", "C4x8 ", "C-1x8"):
        with pytest.raises(ConfigError):
            sides(wrong)


SENSELESS = [
    "",
    "mean",
    "kmeans",
    "kmeans:0",
    "kmeans:-1",
    "kmeans:0%",
    "kmeans:101%",
    "kmeans:8:2",
]
SENSELESS += [
    "tail:0",
    "spacing:0",
    "ward:0.5",
    "ward:0",
    "drop:1.5",
    "drop:2",
    "kmeans:9999999999",
]


@pytest.mark.parametrize("how", SENSELESS)
def test_a_word_that_makes_no_sense_is_refused(how: str) -> None:
    with pytest.raises(ConfigError):
        pool(ragged(11, [3]), how, side="document")


def test_a_word_is_read() -> None:
    assert Pooling.parse("ward:2") == Pooling("ward", 2.0, protected=1)
    assert Pooling.parse("drop") == Pooling("drop", 0.95)
    with pytest.raises(ConfigError, match="side"):
        pool(ragged(11, [3]), "all", side="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", WORDS)
def test_values_that_are_not_finite_are_refused_by_item(how: str) -> None:
    items = ragged(12, [4, 5, 6])
    flat = items.flat.copy()
    flat[7, 2] = np.nan
    with pytest.raises(InputError, match=r"item 1 .*row 3"):
        pool(Ragged(flat, items.offsets), how, side="document")
    with pytest.raises(InputError):
        pool(Ragged(items.flat, items.offsets[:-1]), how, side="document")
