"""Ridge: one regression on the shared tokens makes rows that predict text better than the mean."""

from __future__ import annotations

from tokenspace.claims._decoders import english_pair, floor_bits
from tokenspace.claims._zero_shot import bits
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="One linear map, fitted on shared tokens, gives rows that predict text better than a mean",
    paper="Technometrics 1970 (Hoerl, Kennard)",
    metric="bpb",
    better="lower",
    baseline="the method mean: every new row is the mean row",
    margin=0.014,
    scale="paper: a general estimator, not made for this use; transplanting tools offer it for "
    "models of billions of weights. Here: a two-layer decoder of English novels with 2,048 tokens "
    "receives the Unigram tokenizer and the rows of another, and is judged untrained, in bits per "
    "byte of other novels. 0.014 is a tenth of what a sketch found between the mean row and rows "
    "that are trained",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``bpb`` after the transplant, and ``closed``: its share of the way to the floor.

    The floor is what training the new rows alone reaches; 0 is the mean row.
    """
    found, mean = (bits(recipe, seed, smoke) for recipe in (method or make("mean"), make("mean")))
    floor = floor_bits(english_pair(seed, smoke)).bits_per_byte
    return {"bpb": found, "closed": (mean - found) / (mean - floor), "floor": floor}
