"""One vector a passage, for the claims about single vectors: latent semantic analysis of novels.

A passage is five sentences (of the default text, one); its words weigh (1 + log tf)·idf, and the
matrix of passages and words is factorised to 64 dimensions (Deerwester et al. 1990). The
coordinates U·S fall off quickly, and each column is a principal axis, as of vectors that no
rotation has mixed. Rows have length 1.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats2d, Ids2d, Ragged
from tokenspace.claims._vectors import default_pages
from tokenspace.rng import stream

__all__ = ["found_share", "passages"]

WIDTH, SENTENCES, COUNT, ASKED = 64, 5, 20_000, 300


@lru_cache(maxsize=3)  # of one seed, for both sides of a claim
def passages(seed: int, *, smoke: bool) -> tuple[Ragged, Ragged, Ids2d]:
    """Return passages and queries, one row each, and the ten passages of largest product.

    A seed chooses which 300 passages are taken out and asked.
    """
    rows = _factorised(smoke=smoke)
    order = stream(seed, "queries").permutation(len(rows))
    count = min(ASKED, len(rows) // 5)
    asked, kept = rows[order[:count]], rows[np.sort(order[count:])]
    exact = np.argsort(-(asked @ kept.T), axis=1, kind="stable")[:, :10]
    return Ragged.single(kept), Ragged.single(asked), exact


def found_share(found: Ids2d, exact: Ids2d) -> float:
    """Return the mean share of the exact ten that was found."""
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    return float(np.mean(shared)) / int(exact.shape[1])


@lru_cache(maxsize=1)
def _factorised(*, smoke: bool) -> Floats2d:
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import svds

    step = SENTENCES if data.available("novels") else 1
    if step == SENTENCES:
        sentences = data.novels(step * (2_000 if smoke else COUNT + ASKED))
    else:
        pages = default_pages(smoke=smoke)
        sentences = [line for _, text in pages for line in text.split(". ")]
    texts = [data.words(" ".join(sentences[i : i + step])) for i in range(0, len(sentences), step)]
    frequency = Counter(word for text in texts for word in set(text))
    words = sorted(word for word, df in frequency.items() if 3 <= df <= len(texts) / 5)
    number = {word: i for i, word in enumerate(words)}
    idf = np.log(len(texts) / np.array([frequency[word] for word in words]))
    values, columns, ends = [], [], [0]
    for text in texts:
        counts = Counter(number[word] for word in text if word in number)
        values += [(1 + np.log(times)) * idf[word] for word, times in counts.items()]
        columns += list(counts)
        ends.append(len(columns))
    matrix = csr_array((values, columns, ends), shape=(len(texts), len(words)))
    U, S, _ = svds(
        matrix, min(WIDTH, *(size - 1 for size in matrix.shape)), v0=np.ones(min(matrix.shape))
    )
    rows = (U * S)[:, ::-1]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    kept = lengths[:, 0] > 1e-9
    return np.ascontiguousarray(rows[kept] / lengths[kept], np.float32)
