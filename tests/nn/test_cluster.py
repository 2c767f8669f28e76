"""Clustering inside a network: its gradients by hand and against a slow loop, and its masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.cluster import ClusterPool, chamfer, info_nce, lloyd, unit_tokens
from tokenspace.nn.mask import padding


def batch(seed: int, heights: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = padding(torch.tensor(heights))
    return torch.randn((*mask.shape, width), generator=generator), mask


def seeded(function, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return function(*args)


def test_a_gradient_computed_by_hand() -> None:
    # Two clusters: {e1, e1, e1} and {e2}. The centroids are e1 and e2, of length 1 already, so
    # normalising takes the part of a gradient along them away: g = (1, 2) at e1 leaves (0, 2),
    # shared by three tokens, and at e2 leaves (1, 0), for one. Tokens have length 1 as well, and
    # their own normalisation takes nothing more away.
    states = torch.tensor([[[1.0, 0], [1, 0], [1, 0], [0, 1]]], requires_grad=True)
    mask = torch.ones((1, 4), dtype=torch.bool)
    centroids, kept = seeded(ClusterPool(2), states, mask)
    assert kept.tolist() == [[True, True]]
    order = centroids[0, :, 0].argmax()  # the cluster of e1 may be either
    (
        centroids[0, order] @ torch.tensor([1.0, 2])
        + centroids[0, 1 - order] @ torch.tensor([1.0, 2])
    ).backward()
    expected = [[[0, 2 / 3], [0, 2 / 3], [0, 2 / 3], [1, 0]]]
    np.testing.assert_allclose(states.grad.numpy(), expected, atol=1e-6)


def test_gradients_equal_a_slow_loop_in_float64() -> None:
    states, mask = batch(0, [9, 4, 13, 1], 6)
    states.requires_grad_()
    pool = ClusterPool(3)
    labels = seeded(lloyd, unit_tokens(states, mask).detach(), mask, pool.sizes(mask.sum(1)))
    weights = torch.randn((4, 3, 6), generator=torch.Generator().manual_seed(1))
    centroids, kept = seeded(pool, states, mask)
    (centroids * weights * kept[..., None]).sum().backward()

    slow = states.detach().double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(4):
        for cluster in range(int(kept[i].sum())):
            members = [slow[i, t] for t in range(mask.shape[1]) if labels[i, t] == cluster]
            assert members
            mean = sum(row / row.norm() for row in members) / len(members)
            centroid = mean / mean.norm()
            np.testing.assert_allclose(centroids[i, cluster].detach(), centroid.detach(), atol=1e-5)
            total = total + centroid @ weights[i, cluster].double()
    total.backward()
    np.testing.assert_allclose(states.grad.numpy(), slow.grad.numpy(), atol=1e-5)
    assert (states.grad[~mask] == 0).all()


def test_every_cluster_has_a_token_and_padding_has_none() -> None:
    states, mask = batch(2, [20, 7, 3, 12], 4)
    sizes = torch.tensor([5, 5, 3, 5])
    labels = seeded(lloyd, unit_tokens(states, mask), mask, sizes)
    assert (labels[~mask] == -1).all()
    for row, size in zip(labels, sizes, strict=True):
        assert set(row.tolist()) - {-1} == set(range(int(size)))


def test_at_rest_a_token_is_nearest_to_its_own_centroid() -> None:
    states, mask = batch(3, [40, 25], 8)
    vectors = unit_tokens(states, mask)
    labels = seeded(lambda *a: lloyd(*a, rounds=100), vectors, mask, torch.tensor([6, 6]))
    for rows, row, real in zip(vectors, labels, mask, strict=True):
        rows, row = rows[real].double(), row[real]
        centroids = torch.stack([rows[row == c].mean(0) for c in range(6)])
        assert torch.equal(torch.cdist(rows, centroids).argmin(1), row)


def test_padding_changes_nothing_whatever_it_holds() -> None:
    states, mask = batch(4, [6, 6], 5)
    wide = torch.full((2, 9, 5), torch.nan)
    wide[:, :6] = states
    wider = torch.zeros((2, 9), dtype=torch.bool)
    wider[:, :6] = mask
    for k in (1, 6):  # for these there is one clustering, whatever is drawn
        plain, padded = seeded(ClusterPool(k), states, mask), seeded(ClusterPool(k), wide, wider)
        for one, other in zip(plain[0].numpy(), padded[0].numpy(), strict=True):
            np.testing.assert_allclose(
                one[np.lexsort(one.T)], other[np.lexsort(other.T)], atol=1e-6
            )
        assert plain[1].tolist() == padded[1].tolist()
    grad = wide.clone().requires_grad_()
    seeded(ClusterPool(3), grad, wider)[0].sum().backward()
    assert torch.isfinite(grad.grad).all()
    assert (grad.grad[~wider] == 0).all()


def test_few_tokens_are_all_kept_and_equal_ones_are_clusters_too() -> None:
    states, mask = batch(5, [2, 5], 4)
    centroids, kept = seeded(ClusterPool(8), states, mask)
    assert kept.sum(1).tolist() == [2, 5]
    for i in range(2):
        mine = {tuple(np.round(row, 5)) for row in centroids[i][kept[i]].numpy()}
        own = normalize(states[i][mask[i]], dim=1)
        assert mine == {tuple(np.round(row, 5)) for row in own.numpy()}
    same = torch.ones((1, 6, 4))
    centroids, kept = seeded(ClusterPool(3), same, torch.ones((1, 6), dtype=torch.bool))
    np.testing.assert_allclose(centroids.numpy(), np.full((1, 3, 4), 0.5), atol=1e-6)


def test_a_share_is_rounded_up() -> None:
    heights = torch.tensor([1, 3, 4, 5, 20])
    assert ClusterPool(0.25).sizes(heights).tolist() == [1, 1, 1, 2, 5]
    assert ClusterPool(1.0).sizes(heights).tolist() == heights.tolist()
    assert ClusterPool(1).sizes(heights).tolist() == [1] * 5


@pytest.mark.parametrize("k", [0, -1, 0.0, 1.5, -0.5])
def test_a_number_of_clusters_that_makes_no_sense_is_refused(k: float) -> None:
    with pytest.raises(ConfigError, match="k="):
        ClusterPool(k)


def test_unusable_batches_are_refused_by_item() -> None:
    states, mask = batch(6, [3, 4, 2], 4)
    none = mask.clone()
    none[1] = False
    with pytest.raises(InputError, match="item 1 of the batch has no tokens"):
        ClusterPool(2)(states, none)
    states[2, 1, 0] = torch.nan
    with pytest.raises(InputError, match="item 2 of the batch has NaN"):
        ClusterPool(2)(states, mask)


def test_clustering_stays_in_float32_under_autocast() -> None:
    states, mask = batch(7, [12, 9], 8)
    with torch.autocast("cpu", torch.bfloat16):
        centroids, _ = seeded(ClusterPool(3), states.bfloat16(), mask)
    assert centroids.dtype == torch.float32


def test_scores_and_loss_equal_the_definition() -> None:
    (q, q_mask), (d, d_mask) = batch(8, [3, 1, 2], 4), batch(9, [5, 2, 1, 4], 4)
    scores = chamfer(q, q_mask, d, d_mask)
    expected = np.zeros((3, 4))
    for i in range(3):
        for j in range(4):
            queries, docs = q[i][q_mask[i]].double(), d[j][d_mask[j]].double()
            best = [max(float(u @ v) for v in docs) for u in queries]
            expected[i, j] = sum(best) / len(best)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)
    weights = np.exp(expected / 0.5)
    chances = weights[range(3), range(3)] / weights.sum(1)
    assert float(info_nce(scores, 0.5)) == pytest.approx(-np.log(chances).mean(), rel=1e-5)
    loud = d.masked_fill(~d_mask[..., None], 1e6)
    np.testing.assert_array_equal(chamfer(q, q_mask, loud, d_mask), scores)
