"""Keep fewer token vectors inside a network: k-means whose means carry gradients, and the loss.

Which tokens form a cluster is found on detached vectors in float32, and is then a constant; the
centroids are means of the live vectors, so that every token of cluster A_k gets 1/|A_k| of its
centroid's gradient. Batches are padded, (B, T, D) with a mask (B, T), True where a token is real;
padding may hold anything, even NaN, and never joins a cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.mask import hide, padding

__all__ = ["ClusterPool", "chamfer", "info_nce", "lloyd", "unit_tokens"]

ROUNDS = 10


class ClusterPool(nn.Module):
    """Reduces the token vectors of every item of a batch to the means of k-means clusters.

    ``k`` is the number of clusters, or as a float of at most 1 the share of an item's tokens, of
    which ceil(share T) clusters are made. An item with no more tokens than clusters keeps them
    all. The draws of the seeds come from torch's generator.

    Raises :class:`ConfigError` for a ``k`` that makes no sense.
    """

    def __init__(self, k: int | float, *, rounds: int = ROUNDS) -> None:
        super().__init__()
        low, high = (1, 2**31) if isinstance(k, int) else (0, 1)
        if not (low <= k <= high and k > 0):
            raise ConfigError(
                f"k={k} is outside {'[1, inf]' if isinstance(k, int) else '(0, 1]'}",
                hint="give a number of clusters (8), or a share of the tokens (0.25)",
            )
        self.k, self.rounds = k, rounds

    def sizes(self, heights: Tensor) -> Tensor:
        """Return the number of clusters of items of so many tokens (B,)."""
        if isinstance(self.k, int):
            return heights.clamp(max=self.k)
        return torch.ceil(heights.double() * self.k - 1e-9).long().clamp(min=1)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centroids, (B, K, D) float32 of length 1, and their mask (B, K).

        K is the largest number of clusters of the batch. Raises what :func:`unit_tokens` does.
        """
        with torch.autocast(states.device.type, enabled=False):
            live = unit_tokens(states, mask)
            sizes = self.sizes(mask.sum(1))
            labels = lloyd(live.detach(), mask, sizes, rounds=self.rounds)
            kept = padding(sizes)
            return normalize(_means(live, labels, kept.shape[1]), dim=2, eps=1e-6), kept


def unit_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Return the vectors (B, T, D) in float32 at length 1, and zeros where ``mask`` is False.

    Raises :class:`InputError` for an item without tokens, and for values that are not finite,
    naming the item.
    """
    live = states.float().masked_fill(~mask[..., None], 0.0)
    empty = (~mask.any(1)).nonzero()
    if len(empty):
        raise InputError(
            f"item {int(empty[0])} of the batch has no tokens", hint="leave such items out"
        )
    bad = (~live.isfinite().all(2).all(1)).nonzero()
    if len(bad):
        raise InputError(
            f"item {int(bad[0])} of the batch has NaN or infinite values",
            hint="lower lr, or repair the vectors that are given",
        )
    return normalize(live, dim=2, eps=1e-6)


def _means(live: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the mean of every cluster (B, count, D); a cluster without tokens is zero."""
    clusters = torch.arange(count, device=labels.device)
    member = (labels[:, None, :] == clusters[None, :, None]).to(live.dtype)  # (B, K, T)
    return (member @ live) / member.sum(2, keepdim=True).clamp(min=1)


@torch.no_grad()
def lloyd(vectors: Tensor, mask: Tensor, sizes: Tensor, *, rounds: int = ROUNDS) -> Tensor:
    """Cluster every item's tokens by k-means; return the cluster of each, (B, T), -1 for padding.

    ``vectors`` (B, T, D) float32 with zeros where ``mask`` is False; ``sizes`` (B,) says how many
    clusters an item gets, at most its tokens; each of them has a token. Seeds are drawn as
    k-means++ does, from torch's generator.
    """
    count = int(sizes.max())
    wanted = padding(sizes, count)
    centroids = _plus_plus(vectors, mask, count)
    former = torch.full_like(mask, -1, dtype=torch.int64)
    for _ in range(rounds):
        distance = (centroids.square().sum(2)[:, None] - 2 * vectors @ centroids.mT).masked_fill(
            ~wanted[:, None], torch.inf
        )
        least, labels = distance.min(dim=2)
        labels = labels.masked_fill(~mask, -1)
        labels = _refilled(labels, least + vectors.square().sum(2), wanted)
        if torch.equal(labels, former):
            break
        former = labels
        centroids = _means(vectors, labels, count)
    return former


def _plus_plus(vectors: Tensor, mask: Tensor, count: int) -> Tensor:
    """Choose ``count`` different tokens of every item, as far as it has them, (B, count, D).

    Each is drawn with the chance of its squared distance to those before it; where every token
    that is left equals a chosen one, with equal chances.
    """
    items = torch.arange(len(vectors), device=vectors.device)
    free = mask.clone()
    nearest = torch.ones(mask.shape, device=vectors.device)
    chosen = []
    for _ in range(count):
        chance = nearest * free
        chance = torch.where(chance.sum(1, keepdim=True) > 0, chance, free.float())
        chance = torch.where(chance.sum(1, keepdim=True) > 0, chance, mask.float())
        place = torch.multinomial(chance, 1)[:, 0]
        free[items, place] = False
        seed = vectors[items, place]
        chosen.append(seed)
        distance = (vectors - seed[:, None]).square().sum(2)
        nearest = distance if len(chosen) == 1 else torch.minimum(nearest, distance)
    return torch.stack(chosen, dim=1)


def _refilled(labels: Tensor, far: Tensor, wanted: Tensor) -> Tensor:
    """Give every empty cluster the token farthest from its centroid of a cluster that shares."""
    items = torch.arange(len(labels), device=labels.device)
    labels, far = labels.clone(), far.clone()
    while True:
        clusters = torch.arange(wanted.shape[1], device=labels.device)
        counts = (labels[:, None, :] == clusters[None, :, None]).sum(2)  # (B, K)
        empty = (counts == 0) & wanted
        lacking = empty.any(1)
        if not bool(lacking.any()):
            return labels
        shared = (labels >= 0) & (counts.gather(1, labels.clamp(min=0)) > 1)
        place = hide(far, shared).argmax(1)
        target = empty.int().argmax(1)
        labels[items[lacking], place[lacking]] = target[lacking]
        far[items[lacking], place[lacking]] = 0.0


def chamfer(queries: Tensor, query_mask: Tensor, docs: Tensor, doc_mask: Tensor) -> Tensor:
    """Score every query (B, K, D) with every document (M, L, D): (B, M).

    ``s = (1/|Q|) Σ_u max_v <u, v>`` over the real vectors u of the query and v of the document:
    divided by the query's vectors, so that one temperature fits queries of any size.
    """
    count, width = queries.shape[1:]
    similar = queries.reshape(-1, width) @ docs.reshape(-1, width).T
    similar = similar.view(len(queries), count, len(docs), docs.shape[1])
    best = hide(similar, doc_mask[None, None]).amax(3)  # (B, K, M)
    total = (best * query_mask[..., None]).sum(1)
    return total / query_mask.sum(1, keepdim=True)


def info_nce(scores: Tensor, tau: float) -> Tensor:
    """Return the mean of ``-ln softmax(s_i / tau)_i``: document i answers query i, (B, M >= B)."""
    return cross_entropy(scores / tau, torch.arange(len(scores), device=scores.device))
