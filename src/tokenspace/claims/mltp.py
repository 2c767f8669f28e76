"""MLTP: all layers and attention to all of the text, against a causal decoder's last token."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

from tokenspace import data
from tokenspace.claims import _decoders, _glosses
from tokenspace.encode import trial
from tokenspace.encode.mltp import MLTP
from tokenspace.examples import Examples
from tokenspace.lm.gpt import GPT
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.tokenizer_training import byte_bpe

STEPS, BATCH, LR = 200, 32, 3e-4
BACKBONE = GPT(
    width=192, layers=4, heads=4, context=64, batch=16, lr=2e-3, budget="2000", threads=1
)
CLAIM = Claim(
    says="Pooling all layers of a decoder whose causal mask is removed ranks pairs of sentences "
    "more as people do than taking the last token of the causal decoder, trained alike",
    paper="arXiv:2409.02727",
    metric="points",
    better="higher",
    baseline="the last token of the last layer, causal attention (design 1)",
    margin=1.0,
    scale="paper: Mistral-7B, 1.4 million pairs, MTEB; here: a decoder of 4 layers and 192 numbers "
    "that read 2 million tokens of novels, 200 steps of 32 pairs of WordNet's definitions and "
    "their synonyms. points: Spearman x 100, the mean of the trial set of SICK and the STS "
    "benchmark's development set; mean: of the mean of the last layer, attention to all of the "
    "text (without these files: an untrained decoder, halves of invented texts)",
    budget_s=600.0,
)


class Material(NamedTuple):
    """A decoder, the pairs it learns from, the sets it is judged by, and the steps."""

    model: Any
    examples: Examples
    judged: tuple[Examples, ...]
    steps: int
    batch: int


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the correlation as ``points``, and that of the ``mean`` at the same seed."""
    given = material(smoke)
    recipe = replace(
        cast("MLTP", method) if method else MLTP(pooling="eos", attention="causal"),
        steps=given.steps,
        batch=given.batch,
        lr=LR,
        seed=seed,
    )
    return {"points": _points(recipe, given), "mean": _mean(seed, smoke)}


@lru_cache(maxsize=4)
def _mean(seed: int, smoke: bool) -> float:
    given = material(smoke)
    recipe = MLTP(pooling="mean", steps=given.steps, batch=given.batch, lr=LR, seed=seed)
    return _points(recipe, given)


def _points(recipe: MLTP, given: Material) -> float:
    return _glosses.points(recipe(given.model, examples=given.examples), given.judged)


@lru_cache(maxsize=1)
def material(smoke: bool) -> Material:
    """Return the same for both sides and every seed."""
    from tokenspace.nn.encoder import load_encoder
    from tokenspace.nn.fresh import fresh_encoder

    if smoke or not (_glosses.at_hand() and data.available("novels")):
        pairs = trial.bag(tiny=True)["examples"]
        model = fresh_encoder(pairs.texts, kind="llama")
        return Material(model, pairs, (_glosses.rated_halves(pairs),), 3, 8)
    texts = tuple(data.novels())
    path = _decoders.kept(
        "pooling", BACKBONE, texts, lambda: byte_bpe(_decoders.sample(texts), 4096, start="<s>")
    )
    judged = tuple(_glosses.rated(name) for name in _glosses.SETS)
    return Material(load_encoder(str(path)), _glosses.glosses(), judged, STEPS, BATCH)
