"""OFA: rows of the nearest tokens in one space of two languages are better than the mean row."""

from __future__ import annotations

from tokenspace.claims._decoders import german_pair, transplanted, transplanted_bits, with_rows
from tokenspace.claims._german import in_one_space
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="Rows of the nearest tokens in one space of both languages predict better than the mean",
    paper="arXiv:2311.08849",
    metric="of_mean",
    better="lower",
    baseline="mean: every new row is the mean row",
    margin=0.03,
    scale="paper: RoBERTa and XLM-R with 401,000 tokens of 511 languages, continued training; "
    "here: a two-layer decoder of English image captions receives a German tokenizer of 2,048 "
    "tokens and is judged untrained, in bits per byte of German captions; one space of vectors "
    "of the 29,000 captions, each merged with its translation",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``of_mean``: bits per byte after the transplant, as a share of the mean row's.

    ``bpb``: the bits per byte themselves; ``half``: ``of_mean`` where the new rows have half of
    the model's rank.
    """
    pair = german_pair(seed, smoke)
    mean = transplanted_bits(pair, make("mean")).bits_per_byte
    if method is None:
        return {"of_mean": 1.0, "bpb": mean, "half": 1.0}
    half = type(method).from_dict({**method.to_dict(), "rank": pair.recipe.width // 2})
    bits = []
    for recipe in (method, half):
        rows = transplanted(pair, recipe, vectors=in_one_space(seed, smoke))
        score = with_rows(pair, rows).score(pair.text, context=pair.recipe.context)
        bits.append(score.bits_per_byte)
    return {"of_mean": bits[0] / mean, "bpb": bits[0], "half": bits[1] / mean}
