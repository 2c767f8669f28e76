"""Univariate: if new rows are to be as wide as any, then as wide as this model's rows are."""

from __future__ import annotations

from tokenspace.claims._zero_shot import over_mean
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="Rows with the old columns' mean and deviation cost fewer bits than rows of unit variance",
    paper="arXiv:2407.05841",
    metric="bpb",
    better="lower",
    baseline="random:std=1.0, every entry drawn from N(0, 1) as transplanting tools offer it",
    margin=0.1,
    scale="paper: RoBERTa and LLaMA-2-7B; its own message is that this method stays behind those "
    "that keep to the hull of the old rows (over_mean says by how much). Here: a two-layer decoder "
    "of English novels with 2,048 tokens receives another tokenizer of that size and is judged "
    "untrained, in bits per byte of other novels",
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``bpb`` after the transplant, and ``over_mean``: what it costs beyond the mean row.

    ``over_mean`` is a share of the mean row's bits.
    """
    return over_mean(method or make("random", std=1.0, seed=seed), seed, smoke)
