"""Keep fewer token vectors of every item: clustering, spacing, the last few, no near duplicates.

What is kept is one word, the same in Python, in recipes and on the command line:

=============== ==================================================================================
``all``         every token
``tail:8``      the last 8 tokens
``spacing:2``   every second token
``even:8``      8 evenly spaced tokens, at the places floor(j T / 8)
``kmeans:8``    the means of 8 clusters; ``kmeans:25%``: of ceil(T / 4) clusters
``ward:2``      the first token, and the means of floor((T - 1) / 2) clusters of Ward's method;
                ``ward:2:0`` protects no token
``drop:0.95``   tokens whose cosine with a token kept before them is at most 0.95
=============== ==================================================================================

An item with no more tokens than it may keep keeps them all. Means have length 1 again, since
MaxSim compares inner products (a mean of unit vectors is the shorter the wider its cluster is).
Equal rows of a pooled document are stored once, which changes no maximum; those of a query each
count. Nothing is padded and an item's result depends on that item alone, so the order of items
does not matter, and a collection can be pooled part by part.

k-means is Lloyd's algorithm with k-means++ seeding (Arthur and Vassilvitskii, SODA 2007) on rows
of length 1, at most 20 rounds; its draws come from a hash of the item's numbers, so that indexing
again gives the same bytes. A cluster without tokens takes the token farthest from its centroid.
Ward's clustering (JASA 1963) works on 1 - cosine cut to [0, 2], as token pooling for ColBERT does
(Clavié, Chaffin and Adams 2024, arXiv:2409.14683).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged
from tokenspace.errors import ConfigError, InputError
from tokenspace.jit import kernel, spread

__all__ = ["Pooling", "Side", "drop_words", "pool", "sides", "token_cosine"]

Side = Literal["query", "document"]
ROUNDS = 20
_GROUP = 4096  # items that are pooled before their rows are laid end to end

_HINT = "write all, tail:8, spacing:2, even:8, kmeans:8, kmeans:25%, ward:2 or drop:0.95"
_SPELLED = re.compile(
    r"(?P<count>tail|spacing|even|kmeans):(?P<n>\d+)|(?P<share>kmeans):(?P<percent>\d+(\.\d+)?)%"
    r"|(?P<ward>ward):(?P<factor>\d+(\.\d+)?)(:(?P<protected>\d+))?"
    r"|(?P<drop>drop)(:(?P<cosine>0?\.\d+|0|1))?|(?P<all>all)"
)
_VARIANT = re.compile(
    r"(?P<both>C|Tail|Even)(?P<query>\d+)x(?P<doc>\d+)|C(?P<percent>\d+(\.\d+)?%)|K(?P<step>\d+)"
)
_KINDS = {"C": "kmeans", "Tail": "tail", "Even": "even"}


@dataclass(frozen=True)
class Pooling:
    """What is kept of an item's tokens: a word of the table above, read.

    ``amount`` is the number of tokens or clusters, the step, Ward's factor, or the cosine;
    of ``kmeans`` with ``relative`` the share of the tokens.
    """

    kind: Literal["all", "tail", "spacing", "even", "kmeans", "ward", "drop"]
    amount: float = 1.0
    relative: bool = False
    protected: int = 1

    @classmethod
    def parse(cls, how: str) -> Pooling:
        """Read ``how``. Raises :class:`ConfigError` where it says nothing that is known."""
        found = _SPELLED.fullmatch(how)
        if found is None:
            raise ConfigError(f"pooling {how!r} is not known", hint=_HINT)
        if found["all"]:
            return cls("all")
        if found["drop"]:
            return cls("drop", float(found["cosine"] or 0.95))
        if found["ward"]:
            made = cls("ward", float(found["factor"]), protected=int(found["protected"] or 1))
        elif found["share"]:
            made = cls("kmeans", float(found["percent"]) / 100, relative=True)
        else:
            made = cls(found["count"], float(found["n"]))  # type: ignore[arg-type]
        if (made.amount < 1 and not made.relative) or not 0 < made.amount <= 2**31:
            raise ConfigError(f"pooling {how!r}: {made.amount:g} is outside [1, inf]", hint=_HINT)
        if made.relative and made.amount > 1:
            raise ConfigError(f"pooling {how!r}: a share is outside (0%, 100%]", hint=_HINT)
        return made

    def size(self, tokens: int) -> int:
        """Return how many clusters or rows an item of so many tokens gets (``drop``: at most)."""
        if self.kind == "spacing":
            return -(-tokens // int(self.amount))
        if self.kind == "ward":
            rest = max(tokens - self.protected, 0)
            return tokens - rest + (max(int(rest // self.amount), 1) if rest else 0)
        if self.kind in ("all", "drop"):
            return tokens
        wanted = int(np.ceil(self.amount * tokens - 1e-9)) if self.relative else int(self.amount)
        return min(wanted, tokens)

    def places(self, tokens: int) -> Ids:
        """Return which rows of an item of so many tokens are kept, (n,) int64, ascending.

        Not for ``kmeans``, ``ward`` and ``drop``, which look at the rows.
        """
        kept = self.size(tokens)
        if self.kind == "tail":
            return np.arange(tokens - kept, tokens)
        if self.kind == "spacing":
            return np.arange(0, tokens, int(self.amount))
        return np.arange(kept) * tokens // max(kept, 1)


def sides(variant: str) -> tuple[str, str]:
    """Return what CRISP's name of a variant keeps of queries and of documents.

    ``C8x32``, ``Tail4x8`` and ``Even4x8`` name both numbers; ``C25%`` and ``K2`` hold for both
    sides; ``full`` keeps every token.

    >>> sides("C8x32"), sides("C25%"), sides("K2")
    (('kmeans:8', 'kmeans:32'), ('kmeans:25%', 'kmeans:25%'), ('spacing:2', 'spacing:2'))
    """
    if variant == "full":
        return ("all", "all")
    found = _VARIANT.fullmatch(variant)
    if found is None:
        raise ConfigError(
            f"variant={variant!r} is not known",
            hint="write C8x32, C25%, Tail4x8, Even4x8, K2 or full",
        )
    if found["both"]:
        kind = _KINDS[found["both"]]
        both = f"{kind}:{found['query']}", f"{kind}:{found['doc']}"
    else:
        word = f"kmeans:{found['percent']}" if found["percent"] else f"spacing:{found['step']}"
        both = word, word
    try:
        for how in both:
            Pooling.parse(how)
    except ConfigError as fault:
        raise ConfigError(f"variant={variant!r}: {fault}", hint="write C8x32, C25% or K2") from None
    return both


def pool(items: Ragged, how: str | Pooling, *, side: Side, threads: int = 0) -> Ragged:
    """Return the items with fewer token vectors each, as ``how`` says.

    Parameters
    ----------
    items
        N matrices (T_i, D) float32, read-only and memory-mapped or not. Items without tokens
        stay so.
    how
        A word of the table above.
    side
        Whether the items are queries or documents.
    threads
        Of k-means and of dropping; 0: all cores. The result is the same for every number.

    Raises
    ------
    ConfigError
        ``how`` is not known, or a number in it makes no sense.
    InputError
        The arrays do not fit together, or a value is not finite; the item is named.
    """
    if side not in ("query", "document"):
        raise ConfigError(f"side={side!r} is not 'query' or 'document'")
    rule = how if isinstance(how, Pooling) else Pooling.parse(how)
    check(items, "queries" if side == "query" else "docs")
    parts: list[Floats2d] = [np.zeros((0, items.width), np.float32)]
    heights: list[int] = []
    for start in range(0, len(items), _GROUP):
        stop = min(start + _GROUP, len(items))
        kept = _pooled(items, rule, start, stop, threads)
        if side == "document" and rule.kind != "all":
            kept = [_distinct(rows) for rows in kept]
        heights += [len(rows) for rows in kept]
        parts.append(np.concatenate([parts[0], *kept]))
    return Ragged(np.concatenate(parts), np.cumsum([0, *heights], dtype=np.int64))


def drop_words(items: Ragged, pieces: Sequence[Sequence[str]], words: Collection[str]) -> Ragged:
    """Return the items without the tokens whose text is one of ``words``, such as stop words.

    ``pieces[i][j]`` is the text of row ``j`` of item ``i``; case and surrounding blanks do not
    count. An item of nothing else keeps all.

    Raises :class:`InputError` where the texts do not fit the rows.
    """
    check(items, "items")
    heights = [len(row) for row in pieces]
    if heights != items.heights.tolist():
        raise InputError(
            "pieces: not one text for every token of every item",
            hint="take them from the encoder's tokens(texts)",
        )
    unwanted = {word.strip().lower() for word in words}
    kept: list[Floats2d] = []
    for rows, texts in zip(items, pieces, strict=True):
        mask = np.array([text.strip().lower() not in unwanted for text in texts], bool)
        kept.append(rows[mask] if mask.any() else rows)
    return Ragged.pack(kept, width=items.width)


def token_cosine(items: Ragged, pooled: Ragged) -> float:
    """Return the mean cosine of an item's token with the nearest vector that was kept of it.

    Over at most 512 evenly spread items that have tokens; NaN where none has.
    """
    real = np.flatnonzero(items.heights > 0)
    chosen = real[np.unique(np.linspace(0, len(real) - 1, min(len(real), 512)).astype(np.int64))]
    found = [(_unit(items[i]) @ _unit(pooled[i]).T).max(axis=1) for i in chosen.tolist()]
    return float(np.concatenate(found).mean()) if found else float("nan")


def check(items: Ragged, name: str) -> None:
    """Raise :class:`InputError` unless the arrays fit, naming the first item that is not finite."""
    try:
        items.check(name)
    except InputError:
        bad = np.flatnonzero(~np.isfinite(items.flat).all(axis=-1))
        if items.flat.ndim != 2 or len(bad) == 0:
            raise
        item = int(np.searchsorted(items.offsets, bad[0], "right")) - 1
        raise InputError(
            f"{name}: item {item} has NaN or infinite values (row {bad[0] - items.offsets[item]})",
            hint="remove or repair these rows before pooling",
        ) from None


def _pooled(
    items: Ragged, rule: Pooling, start: int, stop: int, threads: int
) -> list[npt.NDArray[np.float32]]:
    """Return the pooled rows of items ``start`` to ``stop``."""
    made: list[Floats2d] = [np.zeros((0, items.width), np.float32)] * (stop - start)

    def part(first: int, last: int) -> None:
        for i in range(first, last):
            made[i] = _one(np.asarray(items[start + i], np.float32), rule)

    spread(part, stop - start, workers=threads if rule.kind in ("kmeans", "drop") else 1)
    return made


def _one(rows: Floats2d, rule: Pooling) -> Floats2d:
    """Return what the rule makes of one item (T, D)."""
    if rule.kind in ("kmeans", "ward"):
        seed = _seed(rows) if rule.kind == "kmeans" else 0
        rows = _unit(rows)
        size = rule.size(len(rows))
        if size >= len(rows):
            return rows
        if rule.kind == "ward":
            head = rows[: rule.protected]
            rest = rows[rule.protected :]
            return np.concatenate([head, means(rest, _ward(rest, size - len(head)))])
        return means(rows, clusters(rows, size, seed))
    if rule.kind == "drop":
        return rows[_apart(np.ascontiguousarray(_unit(rows)), rule.amount)]
    return rows[rule.places(len(rows))]


def _seed(rows: Floats2d) -> int:
    """Return the seed of an item's draws: a hash of its numbers."""
    digest = hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _unit(rows: Floats2d) -> Floats2d:
    """Return the rows scaled to length 1; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("td,td->t", rows, rows))[:, None]
    unit = np.zeros(rows.shape, np.float32)
    np.divide(rows, lengths, out=unit, where=lengths > 0)
    return unit


def _distinct(rows: Floats2d) -> Floats2d:
    """Return the rows without those that equal an earlier one."""
    seen = {row.tobytes(): place for place, row in reversed(list(enumerate(rows)))}
    return rows if len(seen) == len(rows) else rows[sorted(seen.values())]


def clusters(rows: Floats2d, k: int, seed: int, rounds: int = ROUNDS) -> Ids:
    """Return the k-means cluster of every unit row (T, D), (T,) int64 below ``k`` <= T.

    Every cluster has a row. The same rows and seed give the same clusters.
    """
    found = np.zeros(len(rows), np.int64)
    _lloyd(np.ascontiguousarray(rows, np.float32), k, np.uint64(seed), rounds, found)
    return found


def means(rows: Floats2d, labels: Ids) -> Floats2d:
    """Return the mean of each cluster at length 1, in the order of the clusters' first rows.

    Clusters of rows that cancel out stay zero.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sums = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)
    sizes = np.diff(starts, append=len(order))[:, None]
    return _unit(np.asarray(sums / sizes, np.float32))[np.argsort(order[starts])]


def _ward(rows: Floats2d, size: int) -> Ids:
    """Return the cluster of every unit row by Ward's method on 1 - cosine, ``size`` in all."""
    from scipy.cluster.hierarchy import linkage

    count = len(rows)
    distances = np.clip(1 - rows @ rows.T, 0, 2)[np.triu_indices(count, 1)].astype(np.float64)
    merges = linkage(distances, "ward")[: count - size, :2].astype(np.int64)
    labels = np.arange(count + len(merges))
    for number in range(len(merges) - 1, -1, -1):  # the merges that are kept, from the last one
        labels[merges[number]] = labels[count + number]
    return labels[:count]


def _apart(unit: Floats2d, cosine: float) -> Ids:
    """Return the places of rows whose cosine with every earlier kept row is at most ``cosine``."""
    kept = np.empty(len(unit), np.int64)
    return kept[: _keep_apart(unit, cosine, kept)]


@kernel(fastmath={"reassoc", "contract"})
def _dot(a: Floats1d, b: Floats1d) -> np.float32:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@kernel()
def _keep_apart(unit: Floats2d, cosine: float, kept: Ids) -> int:
    """Write the places of kept rows into ``kept`` and return their number."""
    count = 0
    for t in range(len(unit)):
        near = False
        for j in range(count):
            if _dot(unit[kept[j]], unit[t]) > cosine:
                near = True
                break
        if not near:
            kept[count] = t
            count += 1
    return count


@kernel()
def _random(state: npt.NDArray[np.uint64]) -> float:
    """Return the next number in [0, 1) of SplitMix64, whose state is one number."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return float(z >> np.uint64(11)) / 9007199254740992.0  # 2^53


@kernel()
def _plus_plus(rows: Floats2d, k: int, seed: np.uint64, centroids: Floats2d) -> None:
    """Choose k rows, each with the chance of its squared distance to those chosen before it."""
    state = np.empty(1, np.uint64)
    state[0] = seed
    count = len(rows)
    nearest = np.full(count, np.inf)
    taken = np.zeros(count, np.bool_)
    for c in range(k):
        total = 0.0
        for t in range(count):
            if c > 0 and not taken[t]:
                total += nearest[t]
        chosen = -1
        draw = _random(state)
        if c == 0:
            chosen = min(int(draw * count), count - 1)
        elif total > 0:
            left = draw * total
            for t in range(count):
                if not taken[t] and nearest[t] > 0:
                    chosen = t
                    left -= nearest[t]
                    if left < 0:
                        break
        else:  # every row that is left equals a chosen one
            for t in range(count):
                if not taken[t]:
                    chosen = t
                    break
        taken[chosen] = True
        centroids[c] = rows[chosen]
        for t in range(count):
            distance = 0.0
            for i in range(rows.shape[1]):
                distance += (rows[t, i] - rows[chosen, i]) ** 2
            nearest[t] = min(nearest[t], distance)


@kernel()
def _assign(rows: Floats2d, centroids: Floats2d, labels: Ids, far: Floats1d) -> bool:
    """Put every row to its nearest centroid, the first of equals; tell whether any moved.

    ``far`` (T,) receives |c|² - 2 <x, c>, which orders the centroids of a row, plus its |x|².
    """
    norms = np.empty(len(centroids), np.float32)
    for c in range(len(centroids)):
        norms[c] = _dot(centroids[c], centroids[c])
    moved = False
    for t in range(len(rows)):
        best, least = 0, np.float32(np.inf)
        for c in range(len(centroids)):
            value = norms[c] - np.float32(2) * _dot(rows[t], centroids[c])
            if value < least:
                best, least = c, value
        moved |= labels[t] != best
        labels[t] = best
        far[t] = least + _dot(rows[t], rows[t])
    return moved


@kernel()
def _refill(labels: Ids, far: Floats1d, sizes: Ids) -> None:
    """Give each empty cluster the row that is farthest from its centroid among shared ones."""
    for c in range(len(sizes)):
        if sizes[c] == 0:
            farthest = -1
            for t in range(len(labels)):
                if sizes[labels[t]] > 1 and (farthest < 0 or far[t] > far[farthest]):
                    farthest = t
            sizes[labels[farthest]] -= 1
            labels[farthest] = c
            sizes[c] = 1
            far[farthest] = 0.0


@kernel()
def _lloyd(rows: Floats2d, k: int, seed: np.uint64, rounds: int, labels: Ids) -> None:
    """Write the cluster of every row: assign, refill empty clusters, take means, until it rests."""
    width = rows.shape[1]
    centroids = np.empty((k, width), np.float32)
    _plus_plus(rows, k, seed, centroids)
    far = np.empty(len(rows), np.float32)
    former = np.full(len(rows), -1, np.int64)
    sizes = np.empty(k, np.int64)
    labels[:] = -1
    for _ in range(rounds):
        _assign(rows, centroids, labels, far)
        sizes[:] = 0
        for t in range(len(rows)):
            sizes[labels[t]] += 1
        _refill(labels, far, sizes)
        same = True
        for t in range(len(rows)):
            same &= labels[t] == former[t]
            former[t] = labels[t]
        if same:
            break
        centroids[:] = 0.0
        for t in range(len(rows)):
            for i in range(width):
                centroids[labels[t], i] += rows[t, i]
        for c in range(k):
            for i in range(width):
                centroids[c, i] /= sizes[c]
