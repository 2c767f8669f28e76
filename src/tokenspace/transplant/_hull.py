"""Is a new output row in the convex hull of the old ones? If not, some hidden state chooses it.

For weights λ ≥ 0 with Σ λ_i = 1 and any hidden state h,  ⟨h, Σ λ_i v_i⟩ ≤ max_i ⟨h, v_i⟩, so that
a row inside never wins a greedy choice from the old ones; a row outside is separated from them by
some h, and wins there (Mundra et al., arXiv:2407.05841). For outputs with a bias, append it to the
rows and a one to the hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenspace.errors import InputError

__all__ = ["Hull", "hull_check", "max_logit_violation"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hull:
    """Where a row x stands to the convex hull of others, with the proof.

    ``weights`` (n,) float64 are a convex combination at ``distance`` from x: small, they prove
    that x is ``inside``. ``separator`` h (d,) has length 1 and ⟨h, x⟩ exceeds every ⟨h, v_i⟩ by
    ``margin``: positive, it proves that x is outside, at least that far.
    """

    inside: bool
    weights: Values
    distance: float
    separator: Values
    margin: float


def hull_check(
    row: npt.ArrayLike, rows: npt.ArrayLike, *, tolerance: float = 1e-6, steps: int = 10_000
) -> Hull:
    """Find out whether ``row`` (d,) is a convex combination of ``rows`` (n, d), in float64.

    Wolfe's minimum-norm point, the fully corrective form of Frank and Wolfe's method: take the
    row that lies farthest against the residual, solve for the nearest point of the chosen rows'
    affine hull, drop the rows whose weights would become negative. It ends with one of the proofs
    of :class:`Hull`; ``inside`` allows a distance of ``tolerance`` times the longest row.
    Each step costs n d multiplications and one solution of at most d + 1 equations.

    Raises :class:`InputError` where shapes do not fit or a value is not finite.

    Reference: Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11, 1976.
    """
    x, V = np.asarray(row, np.float64), np.asarray(rows, np.float64)
    if V.ndim != 2 or not len(V) or x.shape != V.shape[1:]:
        raise InputError(f"hull: a row of shape {x.shape} and rows of shape {V.shape}")
    if not (np.isfinite(x).all() and np.isfinite(V).all()):
        raise InputError("hull: rows with NaN or infinite values")
    P = V - x
    allowed = tolerance * max(float(np.linalg.norm(V, axis=1).max()), float(np.linalg.norm(x)))
    chosen = [int(np.square(P).sum(axis=1).argmin())]
    share = np.ones(1)
    for _ in range(steps):
        p = share @ P[chosen]
        distance = float(np.linalg.norm(p))
        heights = P @ p
        j = int(heights.argmin())
        if distance <= allowed or heights[j] > 0 or j in chosen:
            break
        chosen, share = _nearest(P, [*chosen, j], np.append(share, 0.0))
    weights = np.zeros(len(V))
    weights[chosen] = share
    h = -p / max(distance, 1e-300)
    return Hull(distance <= allowed, weights, distance, h, float(-(P @ h).max()))


def _nearest(P: Values, chosen: list[int], share: Values) -> tuple[list[int], Values]:
    """Return the rows, and their convex weights, of the point nearest to zero among ``chosen``."""
    while True:
        k = len(chosen)
        system = np.ones((k + 1, k + 1))  # least ‖Σ μ_i P_i‖² with Σ μ_i = 1, by its multiplier
        system[:k, :k] = P[chosen] @ P[chosen].T
        system[k, k] = 0
        scale = np.trace(system) / k or 1.0
        system[:k, :k] /= scale
        best = np.linalg.solve(system, np.eye(k + 1)[k])[:k]  # affinely independent, so regular
        if (best > 0).all():
            return chosen, best / best.sum()
        falling = best <= 0
        step = (share[falling] / (share[falling] - best[falling] + 1e-300)).min()
        share = share + min(1.0, step) * (best - share)
        kept = share > 1e-15
        kept[int(share.argmin())] = False
        chosen = [i for i, keep in zip(chosen, kept, strict=True) if keep]
        share = share[kept] / share[kept].sum()


def max_logit_violation(new: npt.ArrayLike, old: npt.ArrayLike, hidden: npt.ArrayLike) -> Values:
    """Return by how much the best new row beats the best old one, for every hidden state (N,).

    max_j ⟨h, v'_j⟩ − max_i ⟨h, v_i⟩ in units of ‖h‖ max ‖v‖, in float64: positive where the greedy
    choice becomes a new token; 1e-6 or less is a tie but for rounding. ``new`` (m, d), ``old``
    (n, d), ``hidden`` (N, d).
    """
    fresh, V, H = (np.asarray(array, np.float64) for array in (new, old, hidden))
    longest = max(float(np.linalg.norm(rows, axis=1).max()) for rows in (fresh, V))
    excess = np.zeros(len(H))
    for start in range(0, len(H), 4096):
        h = H[start : start + 4096]
        unit = np.maximum(np.linalg.norm(h, axis=1) * longest, 1e-300)
        excess[start : start + 4096] = ((h @ fresh.T).max(axis=1) - (h @ V.T).max(axis=1)) / unit
    return excess
