"""Trans-tokenization: rows of translations tell a German text better than rows of pieces."""

from __future__ import annotations

import math
from functools import lru_cache

from tokenspace.claims._decoders import continued_bits, german_pair, transplanted, with_rows
from tokenspace.claims._german import parallel
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable

CLAIM = Claim(
    says="Before any training, rows of translations predict German better than rows of pieces",
    paper="arXiv:2408.04303",
    metric="log_bpb",
    better="lower",
    baseline="retok: new rows are the plain means of the rows of their English pieces",
    margin=3.0,
    scale="paper: 7B models, millions of sentence pairs, all rows translated, and long training "
    "after; here: a two-layer decoder of English image captions receives a German tokenizer of "
    "2,048 tokens; 29,000 captions with their translations; shared rows are kept. log_bpb is "
    "100 ln(bits per byte of other German captions), of which 3 is three per cent",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``log_bpb`` before any training, and ``log_bpb_100`` after 100 steps of 512 tokens.

    ``bpb`` and ``bpb_100`` are the bits per byte themselves. ``random_100`` is ``log_bpb_100`` from
    random rows. With ``smoke`` there are five steps in the place of 100.
    """
    before, after = _bits(method or make("retok"), seed, smoke)
    return {
        "log_bpb": 100 * math.log(before),
        "log_bpb_100": 100 * math.log(after),
        "bpb": before,
        "bpb_100": after,
        "random_100": 100 * math.log(_bits(make("random"), seed, smoke)[1]),
    }


@lru_cache(maxsize=3)
def _bits(method: Recipe, seed: int, smoke: bool) -> tuple[float, float]:
    pair, steps = german_pair(seed, smoke), 5 if smoke else 100
    rows: EmbeddingTable = transplanted(pair, method, parallel=parallel(smoke))
    before = with_rows(pair, rows).score(pair.text, context=pair.recipe.context)
    return before.bits_per_byte, continued_bits(pair, rows, steps=(steps,))[steps].bits_per_byte
