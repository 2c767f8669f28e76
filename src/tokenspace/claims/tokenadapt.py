"""TokenAdapt: likeness and neighbours make better rows than the plain mean of the pieces."""

from __future__ import annotations

import math
from functools import lru_cache

from tokenspace.claims._decoders import Pair, english_pair, transplanted, with_rows
from tokenspace.pairs import Pairs
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable

CLAIM = Claim(
    says="Pieces weighed by likeness, with three neighbours, predict text better than their mean",
    paper="arXiv:2505.09738",
    metric="log_bpb",
    better="lower",
    baseline="retok: new rows are the plain means of their pieces' rows",
    margin=3.0,
    scale="paper: language models of 3B parameters and a remote text encoder, judged by ratios of "
    "perplexity; here: a two-layer decoder of English novels with 2,048 tokens receives another "
    "tokenizer of that size, likeness is told by its own rows, and it is judged untrained. log_bpb "
    "is 100 ln(bits per byte of other novels), of which 3 is three per cent",
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``log_bpb`` and ``bpb`` after the transplant, before any training.

    ``over_transtok``: by how much ``log_bpb`` exceeds that of trans-tokenization with the same
    English text on both sides; the paper's method should not be worse.
    """
    pair = english_pair(seed, smoke)
    bits = _bits(pair, transplanted(pair, method or make("retok")))
    return {
        "log_bpb": 100 * math.log(bits),
        "bpb": bits,
        "over_transtok": 100 * math.log(bits / _translated(seed, smoke)),
    }


def _bits(pair: Pair, rows: EmbeddingTable) -> float:
    score = with_rows(pair, rows).score(pair.text, context=pair.recipe.context)
    return score.bits_per_byte


@lru_cache(maxsize=1)
def _translated(seed: int, smoke: bool) -> float:
    """Return the bits per byte of transtok on sentences that are their own translations."""
    pair = english_pair(seed, smoke)
    sentences = [part for block in pair.train_text for part in block.split(". ") if part.strip()]
    some = sentences[:: max(1, len(sentences) // 20_000)]
    return _bits(pair, transplanted(pair, make("transtok"), parallel=Pairs([(s, s) for s in some])))
