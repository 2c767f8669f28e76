"""OMP's claim: rows of words that a table never saw, rebuilt from another table's."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np

from tokenspace import data, rng
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe, apply, make
from tokenspace.report import Claim
from tokenspace.stdlib_text import documents
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import retrieval
from tokenspace.vocab import Vocabulary

CLAIM = Claim(
    says="OMP keeps what mean initialisation loses: which word a new row stands for",
    paper="arXiv:2506.06607",
    metric="mrr",
    better="higher",
    baseline="the same transplant by the method mean: every new row is the mean row",
    margin=0.05,
    scale="paper: language models of 1B to 12B parameters, judged by their answers; here: two "
    "skip-gram tables of 4,000 words each, of different text, width and seed",
    seeds=(0, 1, 2),
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Hide 30 % of the shared words from the base, transplant, and look for their true rows.

    ``mrr``: mean reciprocal rank of the hidden word's true row among all base rows, by cosine with
    the transplanted row. ``error``: Σ‖b̂ − b‖² / Σ‖b − b̄‖² of the same rows. ``planted``: the
    largest error where B = A M and targets are 6-sparse, relative to the largest entry (OMP
    recovers these exactly, given k = 12). ``k``: anchors per row (0: the mean row).
    """
    baseline = make("mean")
    base, donor = _tables(seed, smoke)
    _, shared = donor.vocab.shared(base.vocab)
    draw = rng.stream(seed, "hidden words")
    hidden = np.sort(draw.choice(shared, int(0.3 * len(shared)), replace=False))
    kept = np.setdiff1d(np.arange(len(base.vocab)), hidden)
    source = EmbeddingTable(Vocabulary.words([base.vocab.tokens[i] for i in kept]), base.rows(kept))
    table = apply(method or baseline, {"source": source, "target": donor.vocab, "donor": donor})
    rows = table.rows(np.array([table.id(base.vocab.tokens[i]) for i in hidden]))
    truth = base.rows(hidden)
    spread = np.square(truth - source.vectors.mean(0)).sum()
    return {
        "mrr": retrieval(rows, hidden, base),
        "error": float(np.square(rows - truth).sum() / spread),
        "planted": _planted(make("omp", k=12) if method else baseline, seed),
        "k": float(table.notes.get("k", 0)),
        "hidden": float(len(hidden)),
    }


@functools.lru_cache(maxsize=1)
def _tables(seed: int, smoke: bool) -> tuple[EmbeddingTable, EmbeddingTable]:
    """Train the base on one half of the text and the donor on the other."""
    tables = []
    for part, dim in zip(_halves(), (100, 128), strict=True):
        text = part[: len(part) // 100] if smoke else part
        counts = Counter(word for sentence in text for word in sentence.split())
        common = [word for word, _ in counts.most_common(400 if smoke else 4000)]
        train = make("sgns", dim=dim, epochs=1 if smoke else 3, seed=rng.derive(seed, dim))
        given = {"corpus": Corpus(text, split="whitespace"), "vocab": Vocabulary.words(common)}
        tables.append(apply(train, given))
    return tables[0], tables[1]


@functools.lru_cache(maxsize=1)
def _halves() -> tuple[list[str], list[str]]:
    """Return the first and the last novels, or every second document of the default text.

    The default text cannot be cut in the middle: its halves, a language reference and docstrings,
    hardly share a vocabulary.
    """
    if data.available("novels"):
        text = data.novels()
        return text[: len(text) // 2], text[len(text) // 2 :]
    text = [" ".join(data.words(document.text)) for document in documents()]
    return text[::2], text[1::2]


def _planted(method: Recipe, seed: int) -> float:
    """Return the largest error for targets that are exactly sparse sums of anchors."""
    draw = rng.stream(seed, "planted")
    anchors = draw.standard_normal((400, 128))
    c = draw.standard_normal((40, 6))
    chosen = np.stack([draw.choice(400, 6, replace=False) for _ in range(40)])
    donor = np.concatenate([anchors, np.einsum("nk,nkd->nd", c, anchors[chosen])])
    base = (donor @ draw.standard_normal((128, 48)) / 11).astype(np.float32)
    words = [f"w{i}" for i in range(440)]
    table = apply(
        method,
        {
            "source": EmbeddingTable(Vocabulary.words(words[:400]), base[:400]),
            "target": Vocabulary.words(words),
            "donor": EmbeddingTable(Vocabulary.words(words), donor.astype(np.float32)),
        },
    )
    return float(np.abs(table.vectors[400:] - base[400:]).max() / np.abs(base[400:]).max())
