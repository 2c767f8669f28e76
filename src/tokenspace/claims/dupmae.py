"""DupMAE: [CLS] of an encoder trained with the decoder against [CLS] after masked words alone."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.encode import trial
from tokenspace.encode.dupmae import DupMAE
from tokenspace.metrics import ndcg_at
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

NAMES, UNASKED = ("cran", "cisi", "med"), ("npl",)
LONGEST = 32

CLAIM = Claim(
    says="At equal steps [CLS] of an encoder trained with RetroMAE's decoder finds more of the "
    "relevant documents than [CLS] of one that was trained on masked words alone",
    paper="arXiv:2211.08769",
    metric="points",
    better="higher",
    baseline="form=mlm: the same network, text, batches and steps without the decoder",
    margin=0.5,
    scale="paper: BERT base, Wikipedia and BooksCorpus, then fine-tuned on MS MARCO; here: 2 "
    "layers, d = 128, 2,000 pieces, windows of 32 tokens, 2,000 steps of 32 from random weights on "
    "Cranfield, CISI, MED and NPL, form=retromae, no fine-tuning. points: mean nDCG@10 x 100 of "
    "the first three by cosine, documents cut at 32 tokens; mean_points: the same for the mean of "
    "all states; mlm and decoder: losses; above_unigram: whether one failed to fall below a "
    "unigram's (without these files: MRR x 100 of finding one half of an invented text by the "
    "other)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``points`` of [CLS], ``mean_points`` of the mean state, and the losses."""
    real = not smoke and all(data.available(name) for name in (*NAMES, *UNASKED))
    recipe = replace(
        cast("DupMAE", method) if method else DupMAE(), form="retromae" if method else "mlm",
        steps=2000 if real else 20, lr=1e-3, longest=LONGEST, seed=seed,
    )  # fmt: skip
    texts = _texts(real)
    encoder = cast("Any", recipe)(_network(real, seed), corpus=Corpus(texts))
    figures = {
        "mlm": encoder.metrics["mlm"],
        "decoder": encoder.metrics["decoder"],
        "above_unigram": encoder.metrics["undertrained"],
    }
    if not real:
        found_halves = 100 * trial.judge(encoder, {"corpus": texts})["mrr"]
        return {"points": found_halves, "mean_points": found_halves, **figures}
    found = {
        "points": [points(encoder.encode, name) for name in NAMES],
        "mean_points": [points(encoder.mean_states, name) for name in NAMES],
    }
    return {**{kind: float(np.mean(each)) for kind, each in found.items()}, **figures}


def points(encode: Any, name: str) -> float:
    """Return nDCG@10 x 100 of one collection by the cosine of what ``encode`` gives."""
    given = data.retrieval(name)
    scores = _unit(encode(given.queries)) @ _unit(encode(given.docs)).T
    ranked = np.argsort(-scores, axis=1, kind="stable").astype(np.int64)
    return 100 * float(ndcg_at(ranked, given.relevant, 10).mean())


@lru_cache(maxsize=1)
def _texts(real: bool) -> list[str]:
    if not real:
        return list(trial.bag(tiny=True)["corpus"])
    return [text for name in (*NAMES, *UNASKED) for text in data.retrieval(name).docs]


@lru_cache(maxsize=1)  # of one seed, for both sides
def _network(real: bool, seed: int) -> Any:
    from tokenspace.nn.fresh import fresh_encoder

    shape = {"vocab": 2000, "width": 128, "layers": 2, "heads": 4} if real else {}
    return fresh_encoder(_texts(real), longest=LONGEST, seed=seed, **shape)


def _unit(rows: Floats2d) -> Floats2d:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)
