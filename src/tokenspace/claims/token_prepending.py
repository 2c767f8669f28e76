"""Token prepending: one prompt and decoder, with the end written before the text or not."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tokenspace.claims import _glosses
from tokenspace.claims.mltp import material
from tokenspace.encode import trial
from tokenspace.encode.token_prepending import TokenPrepending
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Writing the last token's state into a placeholder before the sentence makes a decoder's "
    "vectors rank pairs of sentences more as people do than the prompt alone",
    paper="arXiv:2412.11556",
    metric="points",
    better="higher",
    baseline="the same prompt and layers, nothing written (PromptEOL)",
    margin=0.5,
    scale="paper: Llama-2-7B, 7 sets (about 70.0 to 77.2); here: a decoder of 4 layers and 192 "
    "numbers that read 2 million tokens of novels, and the placeholder's row drawn by the seed. "
    "points: Spearman x 100, the mean of the trial set of SICK and the STS benchmark's "
    "development set (without these files: an untrained decoder, halves of invented texts)",
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the correlation as ``points``."""
    given = material(smoke)
    recipe = replace(
        cast("TokenPrepending", method) if method else TokenPrepending(prepend=False),
        seed=seed,
        pst="random",
    )
    decoder = trial.bag(tiny=True)["decoder"] if smoke else given.model
    return {"points": _glosses.points(recipe(decoder), given.judged)}
