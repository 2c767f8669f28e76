"""The geometry of a bias, on arrays: the subspace that sets of words span, and what lies in it.

Rows are vectors of words, (n, D), and of length 1 where it says *unit*. A basis (k, D) has
orthonormal rows. Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, lgamma
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.errors import ConfigError, InputError
from tokenspace.rng import stream

__all__ = [
    "Subspace",
    "chance",
    "direct_bias",
    "indirect_bias",
    "project",
    "random_shares",
    "remove",
    "span",
    "subspace",
    "unit",
]

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]

_NONE = 1e-12  # lengths below it are rounding: such a vector has no direction
_BLOCK = 1 << 13  # rows that are widened to float64 at a time


class Subspace(NamedTuple):
    """A basis (k, D), and the share of the variance of every principal direction, largest first."""

    basis: Values
    shares: Values


def unit(rows: Rows) -> Values:
    """Return the rows divided by their lengths, (n, D); a zero row stays zero."""
    wide = np.asarray(rows, np.float64)
    lengths = np.sqrt(np.einsum("...j,...j->...", wide, wide))[..., None]
    return np.asarray(wide * np.where(lengths > _NONE, 1 / np.maximum(lengths, _NONE), 0))


def subspace(sets: Sequence[Rows], k: int = 1) -> Subspace:
    """Return the k directions in which the members of the sets differ most.

    They are the first eigenvectors of C = sum_i sum_{w in D_i} (w - mu_i)^T (w - mu_i) / |D_i|,
    with mu_i the mean of the set D_i. Each direction points to where the first members of the
    sets lie on average.

    Parameters
    ----------
    sets
        The rows of every set, (n_i, D), n_i >= 2, unit.
    k
        How many directions.

    Raises
    ------
    ConfigError
        Where the sets differ in fewer than k directions.
    """
    M = _centred(sets)
    _, s, Vt = np.linalg.svd(M, full_matrices=False)
    rank = int((s > _NONE + 1e-10 * s[0]).sum()) if len(s) else 0
    if k > rank:
        raise ConfigError(
            f"k={k}: the sets of words differ in {rank} directions",
            hint="choose a smaller k, or give more sets",
        )
    basis = np.asarray(Vt[:k], np.float64)
    toward = sum((rows[0] - rows.mean(axis=0) for rows in sets), np.zeros(M.shape[1]))
    signs = np.where(basis @ toward < 0, -1.0, 1.0)
    return Subspace(basis * signs[:, None], np.asarray(s**2 / max(float(s @ s), _NONE)))


def _centred(sets: Sequence[Rows]) -> Values:
    """Return all rows less the mean of their set, over the root of its size, (sum n_i, D)."""
    wide = [np.asarray(rows, np.float64) for rows in sets]
    return np.concatenate([(rows - rows.mean(axis=0)) / len(rows) ** 0.5 for rows in wide])


def random_shares(rows: Rows, sizes: Sequence[int], draws: int = 200, *, seed: int = 0) -> Values:
    """Return the first direction's share of as many random sets of these sizes, (draws,).

    ``rows`` (n, D), unit, are what the sets are drawn from: what a share of :func:`subspace` is
    compared with.
    """
    if len(rows) < max(sizes):
        raise InputError(f"random sets of {max(sizes)} words of {len(rows)}", hint="give more rows")
    draw = stream(seed, "random sets")
    shares = np.empty(draws)
    for index in range(draws):
        M = _centred([rows[draw.choice(len(rows), size, replace=False)] for size in sizes])
        squares = np.linalg.eigvalsh(M @ M.T)  # fewer numbers than M has
        shares[index] = squares[-1] / max(float(squares.sum()), _NONE)
    return shares


def span(rows: Rows) -> Values:
    """Return an orthonormal basis of what the rows (n, D) span, (rank, D).

    What a row adds is a direction where it is more than the rounding of float32.
    """
    _, s, Vt = np.linalg.svd(np.asarray(rows, np.float64), full_matrices=False)
    return np.asarray(Vt[s > _NONE + 1e-6 * s.max(initial=0)], np.float64)


def project(rows: Rows, basis: Values) -> Values:
    """Return what of the rows lies in the subspace, (n, D)."""
    wide = np.asarray(rows, np.float64)
    return np.asarray((wide @ basis.T) @ basis)


def remove(rows: Rows, basis: Values) -> Values:
    """Return what of the rows lies outside the subspace, (n, D)."""
    return np.asarray(rows, np.float64) - project(rows, basis)


def direct_bias(rows: Rows, basis: Values, c: float = 1.0) -> float:
    """Return DirectBias_c: the mean over the words of |w_B|^c of unit vectors w (Bolukbasi 2016).

    For one direction that is |cos(w, g)|^c. Zero rows take no part; NaN where there are no others.
    """
    total, count = 0.0, 0
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(rows[start : start + _BLOCK], np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        found = lengths > _NONE
        inside = np.linalg.norm(block @ basis.T, axis=1)[found]
        total += float(((inside / lengths[found]) ** c).sum())
        count += int(found.sum())
    return total / count if count else float("nan")


def chance(width: int, k: int = 1, c: float = 1.0) -> float:
    """Return what :func:`direct_bias` is on average for k random directions of ``width``.

    Gamma((k + c) / 2) Gamma(D / 2) / (Gamma(k / 2) Gamma((D + c) / 2)), which for one direction
    is about sqrt(2 / (pi D)).
    """
    upper = lgamma((k + c) / 2) + lgamma(width / 2)
    return exp(upper - lgamma(k / 2) - lgamma((width + c) / 2))


def indirect_bias(w: Rows, v: Rows, basis: Values) -> Values:
    """Return beta(w, v), the share of the likeness of two words that the subspace brings, (n,).

    (w.v - cos(w_perp, v_perp)) / w.v of unit vectors, w_perp = w - w_B. NaN where w.v is smaller
    than 1e-6, or where a word lies wholly in the subspace.
    """
    w, v = unit(w), unit(v)
    dots = np.einsum("nd,nd->n", w, v)
    left, right = remove(w, basis), remove(v, basis)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    known = (np.abs(dots) >= 1e-6) & (lengths > _NONE)
    found = np.full(len(w), np.nan)
    rest = np.einsum("nd,nd->n", left, right)
    found[known] = (dots[known] - rest[known] / lengths[known]) / dots[known]
    return found
