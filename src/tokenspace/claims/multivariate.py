"""Multivariate: rows that differ by a little cost the model no more than the mean row does."""

from __future__ import annotations

from tokenspace.claims._zero_shot import over_mean
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="Rows drawn close around the mean predict text better than rows as wide as the old ones",
    paper="arXiv:2407.05841",
    metric="bpb",
    better="lower",
    baseline="univariate: each column drawn with the old rows' mean and deviation",
    margin=0.06,
    scale="paper: RoBERTa and LLaMA-2-7B, new tokens of four languages, judged after further "
    "training; here: a two-layer decoder of English novels with 2,048 tokens receives another "
    "tokenizer of that size and is judged untrained, in bits per byte of other novels. 0.06 is two "
    "per cent of what the mean row costs",
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``bpb`` after the transplant, and ``over_mean``: what it costs beyond the mean row.

    ``over_mean`` is a share of the mean row's bits. The paper finds the two on a par.
    """
    return over_mean(method or make("univariate", seed=seed), seed, smoke)
