"""PQ: numbers of typical parts, against as many bytes of directions."""

from __future__ import annotations

from tokenspace.claims._tables import SEEDS, recall10, words
from tokenspace.recipe import Recipe, apply, make
from tokenspace.report import Claim

BUDGET = 0.06
CLAIM = Claim(
    says="Product codes keep more neighbours than as many bytes of the best directions",
    paper="TPAMI 2011 (Jégou, Douze, Schmid)",
    metric="recall10",
    better="higher",
    baseline="as many bytes spent on float32 coordinates of greatest variance (svd)",
    margin=0.05,
    scale="paper: a million SIFT descriptors by 128 in 8 bytes; here: 20,000 words of novels by "
    "256 (fewer words, of the default text, where the novels are absent), at 6 % of the bytes",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the share of the exact ten nearest rows that is kept, and the share of the bytes."""
    vectors = words(seed, smoke=smoke)
    bits = {"bits": 4} if smoke else {}  # few words cannot pay for code books of 256
    chosen = make("svd", budget=BUDGET) if method is None else make("pq", budget=BUDGET, **bits)
    stored = apply(chosen, {"source": vectors})
    return {"recall10": recall10(stored, vectors, seed, smoke=smoke), "ratio": stored.ratio}
