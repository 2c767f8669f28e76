"""WECHSEL: an English model learns German sooner from rows of words that mean the same."""

from __future__ import annotations

from functools import lru_cache

from tokenspace.claims._decoders import continued_bits, german_pair, transplanted, with_rows
from tokenspace.claims._german import dictionary, of_each_language
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable

CLAIM = Claim(
    says="An English model learns German sooner from rows of words that mean the same",
    paper="arXiv:2112.06598",
    metric="of_random",
    better="lower",
    baseline="random: new rows drawn from N(0, 0.02²), and the same training",
    margin=0.03,
    scale="paper: RoBERTa and GPT-2 to French, German, Chinese and Swahili, fastText vectors of "
    "web text, 250,000 steps; here: a two-layer decoder of English image captions receives a "
    "German tokenizer of 2,048 tokens and is trained on German captions for 200 steps of 512 "
    "tokens; vectors of the 29,000 captions of either language, Wiktionary's pairs of words; "
    "judged in bits per byte of other captions",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``of_random``: bits per byte after 200 steps, as a share of those from random rows.

    ``bpb``, ``bpb_50``, ``bpb_200``: bits per byte after so many steps. With ``smoke`` there are
    2 and 5 steps in the place of 50 and 200.
    """
    random = _scores(make("random", seed=seed), seed, smoke)
    found = random if method is None else _scores(method, seed, smoke)
    names = ("bpb", "bpb_50", "bpb_200")
    return {"of_random": found[-1] / random[-1], **dict(zip(names, found, strict=True))}


@lru_cache(maxsize=2)
def _scores(method: Recipe, seed: int, smoke: bool) -> tuple[float, float, float]:
    pair = german_pair(seed, smoke)
    english, german = of_each_language(seed, smoke)
    rows: EmbeddingTable = transplanted(
        pair,
        method,
        source_vectors=english,
        target_vectors=german,
        dictionary=dictionary(smoke),
    )
    few, many = (2, 5) if smoke else (50, 200)
    trained = continued_bits(pair, rows, steps=(few, many))
    before = with_rows(pair, rows).score(pair.text, context=pair.recipe.context)
    return before.bits_per_byte, trained[few].bits_per_byte, trained[many].bits_per_byte
