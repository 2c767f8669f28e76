"""ReTok: a model that starts from the means of pieces is sooner its old self than from chance."""

from __future__ import annotations

from tokenspace.claims._decoders import continued_bits, english_pair, transplanted, with_rows
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="From the means of their pieces new tokens are learned faster than from random rows",
    paper="arXiv:2410.04335",
    metric="bpb_100",
    better="lower",
    baseline="random: new rows drawn from N(0, 0.02²)",
    margin=0.02,
    scale="paper: language models of billions of weights, whose two matrices are trained on long "
    "after; here: a two-layer decoder of English novels with 2,048 tokens receives another "
    "tokenizer of that size and is trained on for 100 steps of 512 tokens, all weights, then "
    "judged in bits per byte of other novels",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``bpb_100`` after 100 steps (``bpb_10`` after ten), and ``bpb`` before the first.

    With ``smoke`` there are five steps in the place of a hundred.
    """
    pair = english_pair(seed, smoke)
    rows = transplanted(pair, method or make("random", seed=seed))
    few, many = (2, 5) if smoke else (10, 100)
    scores = continued_bits(pair, rows, steps=(few, many))
    return {
        "bpb_100": scores[many].bits_per_byte,
        "bpb_10": scores[few].bits_per_byte,
        "bpb": with_rows(pair, rows).score(pair.text, context=pair.recipe.context).bits_per_byte,
    }
