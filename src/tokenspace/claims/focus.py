"""FOCUS: a model reads another segmentation sooner through sums of tokens that it knows."""

from __future__ import annotations

from tokenspace.claims._decoders import english_pair, transplanted, transplanted_bits, with_rows
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="Sums of shared tokens, chosen on text alone, predict text better than the mean row",
    paper="arXiv:2305.14481",
    metric="of_mean",
    better="lower",
    baseline="mean: every new row is the mean row",
    margin=0.03,
    scale="paper: XLM-R specialised to German, Arabic, Hausa, Swahili and Xhosa, compared with "
    "random rows and WECHSEL before and during training; here: a two-layer decoder of English "
    "novels with 2,048 tokens receives another tokenizer of that size and is judged untrained, in "
    "bits per byte of other novels; the helper learns from the novels that the model has read",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``of_mean``: bits per byte after the transplant, as a share of the mean row's.

    ``bpb``: the bits per byte themselves; ``rebuilt``: the share of new tokens with a helper
    vector, or with any row of their own.
    """
    pair = english_pair(seed, smoke)
    mean = transplanted_bits(pair, make("mean")).bits_per_byte
    if method is None:
        return {"of_mean": 1.0, "bpb": mean, "rebuilt": 0.0}
    few = {"min_count": 1, "epochs": 1} if smoke else {}
    knobs = {**method.to_dict(), "threads": 1, "seed": seed, **few}  # the same on every machine
    rows = transplanted(pair, type(method).from_dict(knobs))
    bits = with_rows(pair, rows).score(pair.text, context=pair.recipe.context).bits_per_byte
    made, left = rows.notes["rebuilt"], rows.notes["mean"]
    return {"of_mean": bits / mean, "bpb": bits, "rebuilt": made / (made + left)}
