"""Step 8 of a build: how well the space finds what is known to be there, and at what cost.

Known-item retrieval: a passage gives up its first sentence (or its title), and that text, as a
query, must find what is left of the passage among all others. No label is needed, and no ranker
can win by copying, since the query's words were taken out, nor by having been trained on the pair:
the cloze step leaves what the items ask with aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tokenspace.arrays import Floats1d, Ids
from tokenspace.errors import InputError
from tokenspace.metrics import bootstrap
from tokenspace.progress import track
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

from .analysis import STOPWORDS
from .lexical import Lexical
from .page import flat_map
from .passages import Passage, sentences
from .search import DEPTH, Collection, Query, fuse, indexed_text, top, unit_rows

__all__ = ["KnownItem", "known_items", "measure"]

ITEMS = 200  # queries
POOL = 20_000  # passages that compete; of a larger space, that many at random
TIMED = 20  # queries that every mode is timed on
MAPPED = 120  # tokens on the map
LEFT = 15  # words that must be left of a passage


class Passages(Protocol):
    """Passages by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Passage: ...


@dataclass(frozen=True)
class KnownItem:
    """A query, the number of the passage that it came from, and what is left of that passage."""

    query: str
    number: int
    left: str


def known_items(passages: Passages, seed: int, count: int = ITEMS) -> list[KnownItem]:
    """Take at most ``count`` items from randomly chosen passages.

    The query is the first sentence where the passage has more than one and enough is left,
    otherwise the title's last part; passages that allow neither are passed over.
    """
    items: list[KnownItem] = []
    for number in stream(seed, "known items").permutation(len(passages)).tolist():
        passage = passages[number]
        first, *rest = sentences(passage.text) or [""]
        if rest and len(first.split()) >= 4 and len(" ".join(rest).split()) >= LEFT:
            left = indexed_text(passage).replace(first, " ", 1)
            items.append(KnownItem(first, number, left))
        elif passage.title and len(passage.text.split()) >= LEFT:
            items.append(KnownItem(passage.title.rpartition(" > ")[2], number, passage.text))
        if len(items) == count:
            break
    return items


def measure(
    space: Collection, table: EmbeddingTable, sizes: Mapping[str, int], seed: int
) -> dict[str, Any]:
    """Return all that the report shows of the finished space.

    ``sizes`` gives the bytes on disk of ``singles``, ``tokens``, ``fde`` and ``bm25``.
    """
    items = known_items(space.passages, seed)
    ranks = _ranks(space, items, seed) if items else {}
    latency = _latency(space, items)
    cost = {
        "single": sizes["singles"],
        "fde only": sizes["fde"],
        "fde": sizes["fde"] + sizes["tokens"],
        "maxsim": sizes["tokens"],
        "bm25": sizes["bm25"],
    }
    cost["hybrid"] = sum(cost[mode] for mode in space.fusion)
    modes = []
    for mode, found in ranks.items():
        reciprocal = np.where(found <= 10, 1.0 / found, 0.0)
        recalled = (found <= 10).astype(np.float64)
        mrr_low, mrr_high = bootstrap(reciprocal, seed)
        recall_low, recall_high = bootstrap(recalled, seed)
        modes.append(
            {
                "mode": mode,
                "mrr10": float(reciprocal.mean()),
                "mrr10_low": mrr_low,
                "mrr10_high": mrr_high,
                "recall10": float(recalled.mean()),
                "recall10_low": recall_low,
                "recall10_high": recall_high,
                "bytes": cost[mode],
                "ms": latency[mode],
            }
        )
    pool = min(len(space.passages), POOL)
    return {
        "known_item": {
            "says": f"{len(items)} passages gave up their first sentence or title, and that text "
            f"had to find the rest of its passage among {pool:,}.",
            "queries": len(items),
            "pool": pool,
            "modes": modes,
        },
        "similarity": _similarity(space, items, seed),
        **_frequent(space, table),
    }


def _ranks(space: Collection, items: Sequence[KnownItem], seed: int) -> dict[str, Ids]:
    """Return, for every mode, the rank of each item's passage, (items,) int64.

    All passages keep their scores but the item's own, which is scored by what is left of it.
    """
    pool = np.arange(len(space.passages))
    if len(pool) > POOL:
        own = np.array([item.number for item in items])
        others = np.setdiff1d(pool, own)
        drawn = stream(seed, "pool").choice(others, POOL - len(own), replace=False)
        pool = np.sort(np.concatenate([own, drawn]))
    left = {item.number: item.left for item in items}
    lexical = Lexical.fit(
        left.get(number) or indexed_text(space.passages[number]) for number in pool.tolist()
    )
    remains = [item.left for item in items]
    means, matrices = space.encoder.encode_both(remains)
    singles, stored = unit_rows(means), space.singles.rows(pool)
    encoded = space.fdes.rows(pool)
    encodings = space.fdes.encoder.documents(matrices, on_empty="zero")
    found: dict[str, list[int]] = {
        mode: [] for mode in ("single", "fde only", "fde", "maxsim", "bm25", "hybrid")
    }
    for i, item in enumerate(track(items, "measure")):
        place = int(np.searchsorted(pool, item.number))
        try:
            query = space.query(item.query)
        except InputError:  # nothing in the query is known: no token ranker can find it
            for ranks in found.values():
                ranks.append(len(pool))
            continue
        single = stored @ query.single
        single[place] = singles[i] @ query.single
        exact = space.tokens.maxsim(query.vectors, pool)
        exact[place] = _chamfer(query, matrices[i])
        words = lexical.scores(query.words)
        folded = space.fdes.encode(query.vectors)
        coarse = encoded @ folded
        coarse[place] = encodings[i] @ folded
        candidates = top(coarse, 100)
        refined = np.full(len(pool), -np.inf, np.float32)
        refined[candidates] = exact[candidates]
        words[words == 0] = -np.inf  # a passage that holds none of the words is no answer
        scores = {
            "single": single,
            "fde only": coarse,
            "fde": refined,
            "maxsim": exact,
            "bm25": words,
        }
        fused, values = fuse(
            [
                (ranked[np.isfinite(scores[mode][ranked])], weight)
                for mode, weight in space.fusion.items()
                for ranked in [top(scores[mode], DEPTH)]
            ]
        )
        scores["hybrid"] = np.full(len(pool), -np.inf, np.float32)
        scores["hybrid"][fused] = values
        for mode, given in scores.items():
            found[mode].append(_rank(given, place))
    return {mode: np.array(ranks, np.int64) for mode, ranks in found.items()}


def _rank(scores: Floats1d, place: int) -> int:
    """Return the rank of ``place``, from 1; among equals the smaller number comes first."""
    own = scores[place]
    if not np.isfinite(own):
        return len(scores)
    return 1 + int((scores > own).sum()) + int((scores[:place] == own).sum())


def _chamfer(query: Query, matrix: Any) -> float:
    return float((query.vectors @ matrix.T).max(axis=1).sum()) if len(matrix) else 0.0


def _latency(space: Collection, items: Sequence[KnownItem]) -> dict[str, float]:
    """Return the median milliseconds that each mode takes for ten passages."""
    queries = []
    for item in items[:TIMED]:
        try:
            queries.append(space.query(item.query))
        except InputError:
            continue

    def timed(run: Callable[[Query], object]) -> float:
        seconds = []
        for query in queries:
            begin = time.perf_counter()
            run(query)
            seconds.append(time.perf_counter() - begin)
        return 1000 * float(np.median(seconds)) if seconds else 0.0

    def ranked(mode: str) -> float:
        return timed(lambda query: space.rank(query, 10, mode))

    taken = {mode: ranked(mode) for mode in ("single", "fde", "maxsim", "bm25", "hybrid")}
    taken["fde only"] = timed(lambda query: space.fdes.search(query.vectors, 10))
    return taken


def _similarity(space: Collection, items: Sequence[KnownItem], seed: int) -> dict[str, Any]:
    """Return histograms of cosines: queries with their passages, and passages with others."""
    edges = np.linspace(-1, 1, 41)
    asked, own = (
        space.encoder.encode(texts)
        for texts in ([item.query for item in items], [item.left for item in items])
    )
    draw = stream(seed, "pairs").integers(0, len(space.passages), (2, 1000))
    pairs = space.singles.rows(draw[0]), space.singles.rows(draw[1])
    return {
        "edges": edges.tolist(),
        "query and its passage": _shares(asked, own, edges),
        "two passages": _shares(*pairs, edges),
    }


def _shares(one: Any, other: Any, edges: Any) -> list[float]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / np.maximum(lengths, 1e-12)
    counts, _ = np.histogram(np.clip(cosines, -1, 1), edges)
    shares: list[float] = (counts / max(1, counts.sum())).tolist()
    return shares


def _frequent(space: Collection, table: EmbeddingTable) -> dict[str, Any]:
    """Return a map of frequent words' tokens, and the nearest neighbours of a few of them."""
    counts = _token_counts(space, table.vocab)
    names = [surface.decode("utf-8", "replace").strip() for surface in table.vocab.surfaces]
    ids = [
        i
        for i in np.argsort(-counts, kind="stable").tolist()
        if counts[i] and table.vocab.surface(i)[:1] == b" " and _tells(names[i])
    ][:MAPPED]
    unseen = np.flatnonzero(counts == 0)
    neighbors = {}
    for i in ids[:12]:
        near, _ = table.nearest_ids(table.vectors[i][None], 12, exclude=(i, *unseen.tolist()))
        others = dict.fromkeys(names[int(j)] for j in near[0])
        neighbors[names[i]] = [name for name in others if name != names[i]][:6]
    places = flat_map(table.unit[ids]) if len(ids) > 2 else np.zeros((0, 2))
    return {
        "map": [
            {"token": names[i], "x": round(float(x), 4), "y": round(float(y), 4)}
            for i, (x, y) in zip(ids, places, strict=False)
        ],
        "neighbors": neighbors,
    }


def _tells(name: str) -> bool:
    """Say whether a token is a word that tells something of what the text is about."""
    return len(name) >= 4 and name.isalpha() and name.lower() not in STOPWORDS


def _token_counts(space: Collection, vocab: Vocabulary) -> Ids:
    """Count tokens in at most some 2,000 passages, evenly spread, (V,)."""
    step = max(1, len(space.passages) // 2000)
    texts = [indexed_text(space.passages[i]) for i in range(0, len(space.passages), step)]
    ids = np.concatenate([np.array(row, np.int64) for row in vocab.encode_batch(texts)])
    return np.bincount(ids, minlength=len(vocab)).astype(np.int64)
