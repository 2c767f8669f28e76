"""Rebuild unseen rows as sparse sums of shared anchors, with a donor's coefficients.

The idea
--------
A model M lacks a row for a token that a donor D has. Tokens that both know are *anchors*: for them
both rows are known. Write the donor's row of the unseen token as a combination of a few anchor
rows of D, and take the same combination of the anchors' rows of M: what "cat" is made of in one
space, it is made of in the other. The few anchors are found greedily, by orthogonal matching
pursuit: take the anchor most correlated with what is still unexplained, refit all coefficients by
least squares, repeat.

Equations
---------
With A (N, d_D) and B (N, d), the anchors' rows in donor and source, and a donor row x (d_D,)::

    Λ = ∅, r = x
    repeat k times:  j = argmax_j |⟨a_j, r⟩|  (ties: the lowest j);   Λ = Λ ∪ {j}
                     c = argmin_c ‖x − A_Λᵀ c‖² + λ ‖c‖²  (λ = 0 inside the loop);   r = x − A_Λᵀ c
    row = B_Λᵀ c

``select`` finds Λ without ever forming r. With unit anchors â = a / w, w = ‖a‖, it keeps their
correlations α = Â r, and h_s = Â q_s for the orthonormal basis q_0, q_1, ... of the chosen ones,
which the cosines G = Â Âᵀ supply::

    j = argmax_i w_i |α_i|;    R_s = h_s[j]  for s < t;    ρ² = 1 − Σ_s R_s²
    h_t = (G_j − Σ_s R_s h_s) / ρ;    z = α_j / ρ;    α ← α − z h_t

G is kept in float32 or, where that exceeds ``memory``, as 16-bit integers. What their rounding
does is known: with v its variance, that of h_t's error is E_t and that of α's D::

    E_t = (v + Σ_s R_s² E_s) / ρ²;    D ← D + z² E_t

Wherever another anchor comes within 6 √D of the largest, the float64 residual decides. A target
whose doubt 6 √D grows past a 20th of α, or whose ρ² or ‖r‖² comes near nothing, is started again
by ``follow``, which keeps r and the q_s as float64 vectors. ``solve`` then fits c in float64.

Shapes: targets X (m, d_D), supports Λ (m, k) int64 padded with −1, coefficients (m, k) float32.

Departures from the paper
-------------------------
- k = 64 is worse than the mean row in small spaces. ``k="auto"`` holds anchors out and takes the
  k that predicts their source rows best, for donors narrower than 512 (64 for others); it gives the
  mean row where no k beats it. k never exceeds half the donor's width; fewer than 4 k anchors are
  refused.
- The pursuit stops early once ‖r‖ ≤ τ ‖x‖, and passes over anchors that lie (ρ² ≤ 1e-6 ‖a‖²) in
  the span of those already taken, where the reference divides by a clamped 1e-8.
- Anchors are tokens of equal bytes, never special tokens. ``min_count`` leaves out the rare ones,
  ``center`` centres both spaces.
- Anchors are in the order of the source's ids, so a permutation of the target's changes nothing.

Cost
----
d_D N² / 2 + m (d_D N + k² N / 2 + k² d_D / 2) multiplications; 4 or 2 N² bytes for G, so that
32,000 anchors fit the default ``memory``. Where G exceeds it, ``follow`` treats every target by
m k d_D N multiplications and no G.

When not to use it
------------------
Without the donor's rows (its tokenizer alone is not enough); with fewer than some hundred anchors;
when the two tokenizers split numbers differently, since copied digits then mean other things; where
the two spaces are nearly linear images of one another, a single ridge regression can do better.

Reference
---------
Goddard and Fernandes Neto, "Training-Free Tokenizer Transplantation via Orthogonal Matching
Pursuit", 2025, arXiv:2506.06607. Rubinstein, Zibulevsky and Elad, "Efficient implementation of the
K-SVD algorithm using batch orthogonal matching pursuit", 2008, for the use of G; the 16 bits and
their error are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, check_finite
from tokenspace.errors import InputError
from tokenspace.jit import kernel, spread
from tokenspace.progress import Meter, track
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import anchored, begin, combine
from tokenspace.vocab import Vocabulary

__all__ = ["OMP", "follow", "held_out", "provenance", "pursue", "select", "solve"]

log = logging.getLogger(__name__)

CURVE = (1, 2, 4, 8, 16, 32, 64)  # the values of k that "auto" compares
PIECE = 256  # anchors
STEPS = np.float32(32000)  # of a 16-bit cosine, with room for one that rounding puts above 1
HALF = np.float32(32768.5)  # makes a cut to an integer a rounding
ROUNDING = 1 / 12 / 32000**2  # the variance of one
ALGEBRA = {"contract", "reassoc", "nnan", "nsz"}  # lets loops use the vector registers


@dataclass(frozen=True, kw_only=True)
class OMP(Recipe):
    """Rebuild unseen rows as sparse sums of shared anchors, with a donor's coefficients."""

    k: Annotated[
        int | Literal["auto"], Range(1, 4096), "anchors per new row; auto: by held-out anchors"
    ] = "auto"
    center: Annotated[bool, "subtract the anchors' means first, add the source's back"] = False
    normalize: Annotated[bool, "choose anchors by cosine instead of inner product"] = False
    ridge: Annotated[float, Range(0, 1e6), "λ as a share of the anchors' mean ‖a‖²"] = 0.0
    min_count: Annotated[int, Range(0), "leave out anchors seen less often on either side"] = 0
    tolerance: Annotated[float, Range(0, 1), "τ: stop where ‖r‖ ≤ τ ‖x‖"] = 1e-5
    allow_few: Annotated[bool, "accept fewer than 4 k anchors"] = False
    memory: Annotated[int, Range(0), "megabytes that the anchors' Gram matrix may take"] = 2048
    threads: Annotated[int, Range(0, 1024), "cores to use (0: all)"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"k": 2}

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *, donor: EmbeddingTable
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; the tokens that it shares with ``target`` keep their rows.
        target
            The vocabulary to give rows to.
        donor
            A table over the target's tokens, found by their bytes; its width may differ. Tokens
            that it lacks, and those with a zero row in it, get the mean row of ``source``.

        Returns
        -------
        EmbeddingTable
            ``notes`` says which k was used and why (``curve``), how many rows were ``copied``,
            ``rebuilt`` or set to the ``mean``, and for each rebuilt token its ``support`` size,
            relative donor ``residual`` and the ``l1`` norm of its coefficients; ``flagged`` counts
            those with a residual above 0.9 or an l1 norm above 20, which deserve distrust.

        Raises
        ------
        InputError
            With fewer than 4 k anchors (4 for ``"auto"``), unless ``allow_few`` is set.
        """
        draft = begin(source, target)
        if not len(draft.unseen):
            notes = {**self.to_dict(), "copied": len(target), "rebuilt": 0, "mean": 0}
            return EmbeddingTable(target, draft.rows, notes=notes)
        found = anchored(source, target, donor, draft.unseen, min_count=self.min_count)
        A, B, X, known = found.A, found.B, found.X, found.known
        least = 1 if self.allow_few else 4 * (1 if self.k == "auto" else self.k)
        found.enough(least, f"omp with k={self.k}")
        b_mean = 0.0
        if self.center:
            a_mean, b_mean = A.mean(0), B.mean(0)
            A, B, X = A - a_mean, B - b_mean, X - a_mean

        k, curve = self._decide(A, B)
        known, X = (known, X) if k else (known[:0], X[:0])
        supports, c = pursue(X, A, k, **self._how())
        rows = draft.rows
        rows[known] = combine(supports, c, B) + b_mean
        notes = {
            **self.to_dict(),
            "k": k,
            "curve": curve,
            "anchors": len(A),
            "copied": len(rows) - len(draft.unseen),
            "rebuilt": len(known),
            "mean": len(draft.unseen) - len(known),
            "tokens": known.tolist(),
            **provenance(X, A, supports, c),
        }
        return EmbeddingTable(target, rows, notes=notes)

    def _how(self) -> dict[str, Any]:
        """Return the knobs of the pursuit itself."""
        names = ("normalize", "ridge", "tolerance", "memory", "threads")
        return {name: getattr(self, name) for name in names}

    def _decide(self, A: Floats2d, B: Floats2d) -> tuple[int, dict[str, float]]:
        """Return k and the held-out error of every candidate; k = 0 stands for the mean row."""
        N, width = A.shape
        most = max(1, min(width // 2, N))
        if self.k != "auto":
            if self.k > most:
                log.warning("omp: k=%d exceeds half the donor's width: using %d", self.k, most)
            return min(self.k, most), {}
        most = min(most, max(1, N // 4))
        if width >= 512 or N < 8:
            return min(64, most), {}
        curve = held_out(A, B, [k for k in CURVE if k <= most], **self._how())
        best = min(curve, key=lambda k: curve[k])
        log.info("omp: k=%d of the held-out errors %s", best, curve)
        if curve[best] >= 1:
            log.warning("omp: no k predicts held-out anchors better than their mean: using that")
            best = 0
        return best, {str(k): error for k, error in curve.items()}


def pursue(
    targets: Floats2d,
    anchors: Floats2d,
    k: int,
    *,
    normalize: bool = False,
    ridge: float = 0.0,
    tolerance: float = 1e-5,
    memory: int = 2048,
    threads: int = 0,
) -> tuple[Ids2d, Floats2d]:
    """Write every target as a combination of at most ``k`` anchors.

    Returns the supports (m, k) int64 in the order of choice, padded with -1, and the coefficients
    (m, k) float32, zero where padded. ``targets`` is (m, d), ``anchors`` (N, d), float32.
    Raises :class:`InputError` for values that are not finite or widths that differ.
    """
    supports = select(
        targets,
        anchors,
        k,
        normalize=normalize,
        tolerance=tolerance,
        memory=memory,
        threads=threads,
    )
    return supports, solve(targets, anchors, supports, ridge=ridge, threads=threads)


def select(
    targets: Floats2d,
    anchors: Floats2d,
    k: int,
    *,
    normalize: bool = False,
    tolerance: float = 1e-5,
    memory: int = 2048,
    threads: int = 0,
) -> Ids2d:
    """Choose up to ``k`` anchors for every target, greedily; (m, k) int64 padded with -1.

    Supports nest: the first columns are what a smaller ``k`` would have chosen. ``memory`` and
    ``threads`` as in :class:`OMP`; the matrix products run on the threads that BLAS is set to.
    """
    X, A = (np.ascontiguousarray(matrix, np.float32) for matrix in (targets, anchors))
    if X.shape[1] != A.shape[1]:
        raise InputError(f"omp: targets are {X.shape[1]} wide and anchors {A.shape[1]}")
    check_finite(X, "omp: targets")
    check_finite(A, "omp: anchors")
    m, N = len(X), len(A)
    supports = np.full((m, k), -1, np.int64)
    if not supports.size or not N:
        return supports
    w = np.linalg.norm(A, axis=1)
    A = A / np.maximum(w, 1e-30)[:, None]
    w = (w > 0).astype(np.float32) if normalize else w
    room = (memory << 20) // N**2  # bytes that a number of G may take
    if room >= 2:
        G, unit, v = (A @ A.T, 1.0, 0.0) if room >= 4 else (_cosines(A), 1 / STEPS, ROUNDING)
        floor = max(1e-5 if room >= 4 else 1e-4, tolerance**2)  # below it ‖r‖² lacks digits
        with Meter("omp", m) as meter:
            for start in range(0, m, 1024):  # few products: BLAS threads spin after each
                block = slice(start, start + 1024)
                parts = (X[block], X[block] @ A.T, supports[block])

                def work(i: int, j: int, parts: tuple[Any, ...] = parts) -> None:
                    _greedy(G, np.float32(unit), v, A, w, floor, *(part[i:j] for part in parts))

                spread(work, len(parts[0]), workers=threads)
                meter.add(len(parts[0]))
    ended = np.flatnonzero(supports[:, -1] < 0)  # the digits ran out, or the anchors did
    supports[ended] = _follow(X[ended], A, w, k, tolerance, threads)
    return supports


def _cosines(A: Floats2d) -> npt.NDArray[np.int16]:
    """Return A Aᵀ of unit rows in steps of 1/32000, (N, N); only one half of it is computed."""
    N = len(A)
    G = np.empty((N, N), np.int16)
    for start in range(0, N, 256):
        _store(A[start : start + 256] @ A[start:].T, start, G)
    return G


@kernel(fastmath=ALGEBRA)
def _store(product: Any, start: int, G: Any) -> None:
    """Write rows ``start`` and on of G, from their diagonal block on, and the same columns."""
    n, width = product.shape
    for i in range(n):
        row, given = G[start + i, start:], product[i]
        for c in range(width):
            row[c] = np.int16(np.int32(given[c] * STEPS + HALF) - 32768)
    for c in range(n, width, 32):
        last = min(c + 32, width)
        for i in range(0, n, 32):
            for j in range(c, last):
                for e in range(i, min(i + 32, n)):
                    G[start + j, start + e] = G[start + e, start + j]


@kernel(fastmath=ALGEBRA)
def _largest(alpha: Any, w: Any, tops: Any) -> int:
    """Return the lowest index of the greatest w |α|, or -1 where all are zero.

    ``tops`` receives the greatest of every ``PIECE``: a vectorised maximum first, its place after.
    """
    best, where = np.float32(0), 0
    for p in range(len(tops)):
        top = np.float32(0)
        for i in range(p * PIECE, min((p + 1) * PIECE, len(alpha))):
            top = max(top, w[i] * abs(alpha[i]))
        tops[p] = top
        if top > best:
            best, where = top, p * PIECE
    for i in range(where, len(alpha)):
        if best > 0 and w[i] * abs(alpha[i]) == best:
            return i
    return -1


@kernel(fastmath=ALGEBRA)
def _rivals(alpha: Any, w: Any, tops: Any, j: int, doubt: Any, most: Any, found: Any) -> int:
    """Write to ``found`` all that may be the greatest if every α is off by ``doubt``; how many.

    ``most`` is the greatest w.
    """
    bound = w[j] * (abs(alpha[j]) - doubt)
    least = bound - most * doubt
    count = 0
    for p in range(len(tops)):
        if tops[p] < least:
            continue
        for i in range(p * PIECE, min((p + 1) * PIECE, len(alpha))):
            if w[i] * (abs(alpha[i]) + doubt) >= bound:
                found[count] = i
                count += 1
    return count


@kernel(fastmath=ALGEBRA)
def _update(g: Any, unit: Any, H: Any, R: Any, t: int, pivot: Any, z: Any, alpha: Any) -> None:
    """Write h_t = (g - Σ_s R_s h_s) / ρ to H and take z h_t off α, a piece at a time.

    Eight rows in one loop, then four: what counts is how often a piece passes the registers.
    """
    scale = np.float32(1 / np.sqrt(pivot))
    for start in range(0, len(alpha), 4096):
        stop = min(start + 4096, len(alpha))
        row, a, h = g[start:stop], alpha[start:stop], H[t, start:stop]
        n = len(h)
        for i in range(n):
            h[i] = unit * row[i]
        s = 0
        while s + 8 <= t:
            r0, r1, r2, r3 = R[s], R[s + 1], R[s + 2], R[s + 3]
            r4, r5, r6, r7 = R[s + 4], R[s + 5], R[s + 6], R[s + 7]
            h0, h1 = H[s, start:stop], H[s + 1, start:stop]
            h2, h3 = H[s + 2, start:stop], H[s + 3, start:stop]
            h4, h5 = H[s + 4, start:stop], H[s + 5, start:stop]
            h6, h7 = H[s + 6, start:stop], H[s + 7, start:stop]
            for i in range(n):
                low = r0 * h0[i] + r1 * h1[i] + r2 * h2[i] + r3 * h3[i]
                h[i] -= low + (r4 * h4[i] + r5 * h5[i] + r6 * h6[i] + r7 * h7[i])
            s += 8
        if s + 4 <= t:
            r0, r1, r2, r3 = R[s], R[s + 1], R[s + 2], R[s + 3]
            h0, h1 = H[s, start:stop], H[s + 1, start:stop]
            h2, h3 = H[s + 2, start:stop], H[s + 3, start:stop]
            for i in range(n):
                h[i] -= r0 * h0[i] + r1 * h1[i] + r2 * h2[i] + r3 * h3[i]
            s += 4
        while s < t:
            r0, h0 = R[s], H[s, start:stop]
            for i in range(n):
                h[i] -= r0 * h0[i]
            s += 1
        for i in range(n):
            h[i] *= scale
            a[i] -= z * h[i]


@kernel(fastmath=ALGEBRA)
def _greedy(
    G: Any, unit: Any, v: float, A: Any, w: Any, floor: float, X: Any, alpha: Any, supports: Any
) -> None:
    """Run the pursuit of every row of X with its α (m, N), which it overwrites.

    A target that loses its digits, or has ‖r‖² ≤ floor ‖x‖², is left with a support cut short.
    """
    m, N = alpha.shape
    k = supports.shape[1]
    d = X.shape[1]
    H = np.empty((k, N), np.float32)
    R = np.empty(k, np.float32)
    E = np.empty(k)
    Q = np.empty((k, d))
    r = np.empty(d)
    tops = np.empty((N + PIECE - 1) // PIECE, np.float32)
    found = np.empty(N, np.int64)
    most = w.max()
    for b in range(m):
        a = alpha[b]
        r[:] = X[b]
        left = _dot(r, r)  # ‖r‖²
        lowest = floor * left
        D = 1e-14 * left  # of α itself
        known = 0  # how many atoms ``r`` and ``Q`` have taken in: they are seldom needed
        for t in range(k):
            j = _largest(a, w, tops)
            doubt = np.float32(6 * np.sqrt(D))
            if j < 0 or left <= lowest or doubt > 0.05 * abs(a[j]):
                break
            count = _rivals(a, w, tops, j, doubt, most, found)
            if count > 1:
                for s in range(known, t):
                    _orthogonalise(A[supports[b, s]], Q, s, 1)
                    _take_off(Q[s], r)
                known, best = t, -1.0
                for i in found[:count]:
                    exact = w[i] * abs(_dot(A[i], r))
                    if exact > best:
                        best, j = exact, i
            pivot = 1.0  # ρ², what of â_j is outside the span so far
            error = v
            for s in range(t):
                R[s] = H[s, j]
                square = np.float64(R[s]) * R[s]
                pivot -= square
                error += square * E[s]
            if pivot < 1e-4:
                break
            z = np.float32(a[j] / np.sqrt(pivot))
            _update(G[j], unit, H, R, t, pivot, z, a)
            E[t] = error / pivot
            left -= np.float64(z) * z
            D += np.float64(z) * z * E[t]
            supports[b, t] = j
            for s in range(t + 1):  # exactly zero in theory: never chosen again
                a[supports[b, s]] = 0


@kernel(fastmath=ALGEBRA)
def _orthogonalise(atom: Any, Q: Any, t: int, passes: int) -> Any:
    """Write what of ``atom`` is outside the first t rows of Q as row t; return its share."""
    q, d = Q[t], len(atom)
    for i in range(d):
        q[i] = atom[i]
    length = _dot(q, q)
    for _ in range(passes):  # twice is enough for any (Kahan, Parlett)
        for s in range(t):
            _take_off(Q[s], q)
    pivot = _dot(q, q)
    scale = 1 / np.sqrt(max(pivot, 1e-300))
    for i in range(d):
        q[i] *= scale
    return pivot / max(length, 1e-300)


@kernel(fastmath=ALGEBRA)
def _dot(a: Any, b: Any) -> Any:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@kernel(fastmath=ALGEBRA)
def _take_off(q: Any, r: Any) -> None:
    """Make r orthogonal to the unit vector q."""
    part = _dot(q, r)
    for i in range(len(r)):
        r[i] -= part * q[i]


def follow(
    targets: Floats2d,
    anchors: Floats2d,
    k: int,
    tolerance: float = 1e-5,
    *,
    threads: int = 0,
) -> Ids2d:
    """Choose as :func:`select` does, with the residuals at hand instead of the Gram matrix.

    Slower, but safe for targets and anchors that are nearly dependent, and the way for so many
    anchors that N² numbers do not fit.
    """
    w = np.linalg.norm(anchors, axis=1)
    return _follow(targets, anchors / np.maximum(w, 1e-30)[:, None], w, k, tolerance, threads)


def _follow(X: Floats2d, A: Floats2d, w: Floats1d, k: int, tolerance: float, threads: int) -> Ids2d:
    supports = np.full((len(X), k), -1, np.int64)
    for start in track(range(0, len(X), 256), "omp"):
        block = slice(start, start + 256)
        _follow_block(X[block], A, w, tolerance, threads, supports[block])
    return supports


def _follow_block(
    X: Floats2d, A: Floats2d, w: Floats1d, tolerance: float, threads: int, supports: Ids2d
) -> None:
    r = X.astype(np.float64)  # (b, d)
    Q = np.empty((*supports.shape, r.shape[1]))
    goal = tolerance**2 * np.square(r).sum(axis=1)
    live = np.flatnonzero(np.square(r).sum(axis=1) > goal)
    go_on = np.ones(len(X), np.bool_)
    for t in range(supports.shape[1]):
        if len(live) == 0:
            break
        alpha = r[live].astype(np.float32) @ A.T

        def work(i: int, j: int, at: Ids = live, alpha: Floats2d = alpha, t: int = t) -> None:
            _extend(A, w, goal, t, at[i:j], alpha[i:j], Q, r, supports, go_on)

        spread(work, len(live), workers=threads)
        live = live[go_on[live]]


@kernel(fastmath=ALGEBRA)
def _extend(
    A: Any,
    w: Any,
    goal: Any,
    t: int,
    live: Any,
    alpha: Any,
    Q: Any,
    r: Any,
    supports: Any,
    go_on: Any,
) -> None:
    """Give every live target its next anchor; say which of them are not to ``go_on``."""
    tops = np.empty((len(A) + PIECE - 1) // PIECE, np.float32)
    for row, b in enumerate(live):
        a = alpha[row]
        for s in range(t):
            a[supports[b, s]] = 0
        go_on[b] = False
        while True:
            j = _largest(a, w, tops)
            if j < 0:
                break
            if _orthogonalise(A[j], Q[b], t, 2) <= 1e-6:
                a[j] = 0  # in the span already: its coefficient would explode
                continue
            _take_off(Q[b, t], r[b])
            supports[b, t] = j
            go_on[b] = _dot(r[b], r[b]) > goal[b]
            break


def solve(
    targets: Floats2d,
    anchors: Floats2d,
    supports: Ids2d,
    *,
    ridge: float = 0.0,
    threads: int = 0,
) -> Floats2d:
    """Fit the coefficients of given supports by least squares in float64; (m, k) float32."""
    X, A = (np.ascontiguousarray(matrix, np.float32) for matrix in (targets, anchors))
    c = np.zeros(supports.shape, np.float32)
    penalty = ridge * float(np.square(A, dtype=np.float64).sum(axis=1).mean()) if ridge else 0.0
    spread(
        lambda i, j: _normal_equations(X[i:j], A, supports[i:j], penalty, c[i:j]),
        len(X),
        workers=threads,
    )
    return c


@kernel(fastmath=ALGEBRA)
def _normal_equations(X: Any, A: Any, supports: Any, penalty: float, c: Any) -> None:
    """Solve (A_Λ A_Λᵀ + λ I) c = A_Λ x for every row of X by Cholesky's L Lᵀ."""
    m, k = supports.shape
    d = A.shape[1]
    atoms = np.empty((k, d))
    L = np.empty((k, k))
    y = np.empty(k)
    for b in range(m):
        t = 0
        while t < k and supports[b, t] >= 0:
            atoms[t] = A[supports[b, t]]
            t += 1
        for i in range(t):
            y[i] = 0.0
            for n in range(d):
                y[i] += atoms[i, n] * X[b, n]
            for j in range(i + 1):
                dot = penalty if i == j else 0.0
                for n in range(d):
                    dot += atoms[i, n] * atoms[j, n]
                square = dot
                for s in range(j):
                    dot -= L[i, s] * L[j, s]
                if i > j:
                    L[i, j] = dot / L[j, j]
                else:  # a repeated atom gets no coefficient
                    L[i, i] = np.sqrt(dot) if dot > 1e-12 * square else np.inf
            for s in range(i):
                y[i] -= L[i, s] * y[s]
            y[i] /= L[i, i]
        for i in range(t - 1, -1, -1):
            for s in range(i + 1, t):
                y[i] -= L[s, i] * y[s]
            y[i] /= L[i, i]
            c[b, i] = y[i]


def provenance(
    targets: Floats2d, anchors: Floats2d, supports: Ids2d, coefficients: Floats2d
) -> dict[str, Any]:
    """Return for every target its support's size, its relative residual, and ‖c‖₁."""
    r = np.linalg.norm(targets - combine(supports, coefficients, anchors), axis=1)
    residual = r / np.maximum(np.linalg.norm(targets, axis=1), 1e-30)
    l1 = np.abs(coefficients).sum(axis=1)
    return {
        "flagged": int(((residual > 0.9) | (l1 > 20)).sum()),
        "support": (supports >= 0).sum(axis=1).tolist(),
        "residual": residual.tolist(),
        "l1": l1.tolist(),
    }


def held_out(
    anchors: Floats2d, rows: Floats2d, ks: list[int], *, ridge: float = 0.0, **how: Any
) -> dict[int, float]:
    """Return by k the error Σ‖b̂ − b‖² / Σ‖b − b̄‖² of anchors rebuilt from the others.

    Every tenth anchor is held out, 150 at most; from 1 on the mean row would be no worse.
    """
    N = len(anchors)
    test = np.linspace(0, N - 1, min(150, max(1, N // 10))).astype(np.int64)
    rest = np.setdiff1d(np.arange(N), test)
    X, A, b, B = anchors[test], anchors[rest], rows[test], rows[rest]
    variance = float(np.square(b - B.mean(0), dtype=np.float64).sum())
    supports = select(X, A, max(ks), **how)
    errors = {}
    for k in ks:
        c = solve(X, A, supports[:, :k], ridge=ridge, threads=how["threads"])
        missed = combine(supports[:, :k], c, B) - b
        errors[k] = float(np.square(missed, dtype=np.float64).sum()) / max(variance, 1e-30)
    return errors
