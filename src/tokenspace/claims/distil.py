"""Distil: rows that went through the network against the rows that enter it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from tokenspace import data
from tokenspace.claims._in_context import Remembering, pretrained
from tokenspace.claims._settings import MINILM, brown
from tokenspace.corpus import Corpus
from tokenspace.encode import trial
from tokenspace.encode.distil import Distil
from tokenspace.encode.sif import SIF
from tokenspace.metrics import cosine, spearman
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable
from tokenspace.text_encoder import TextEncoder

SETS = ("sts2014", "sts2015", "stsb_dev")
CLAIM = Claim(
    says="Means of rows that a network made and taught rank pairs of sentences more as people do "
    "than means of the rows that enter it, with weights and without their common direction",
    paper="Model2Vec, 2024",
    metric="points",
    better="higher",
    baseline="sif of the network's own input matrix",
    margin=3.0,
    scale="paper: many networks, all of MTEB; here: MiniLM with its 30,522 tokens, frequencies "
    "and teaching from 12,000 sentences of Brown. points: mean Spearman x 100 on STS 2014, STS "
    "2015 and the STS benchmark's development set; share: of what the network itself reaches "
    "(without these files: MRR x 100 of finding one half of a text by the other, a toy encoder and "
    "its tokens)",
    budget_s=600.0,
)


class Material(NamedTuple):
    """A corpus, a network, and the table that enters it."""

    corpus: Corpus
    encoder: Any
    table: EmbeddingTable


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the mean correlation as ``points``, that of every set, and the network's ``share``."""
    given = material(smoke)
    if method is None:
        encoder: TextEncoder = SIF()(given.corpus, table=given.table)
    else:
        recipe = replace(cast("Distil", method), seed=seed)
        encoder = recipe(given.corpus, encoder=given.encoder)
    if not _real(smoke):
        return {"points": 100 * trial.judge(encoder, given._asdict())["mrr"]}
    figures = {name: correlation(encoder, name) for name in SETS}
    points = float(np.mean(list(figures.values())))
    return {"points": points, **figures, "share": points / network_points()}


def _real(smoke: bool) -> bool:
    names = ("lm/brown_dev.tsv.gz", *SETS)
    return not smoke and pretrained() and all(data.available(name) for name in names)


@lru_cache(maxsize=1)
def material(smoke: bool) -> Material:
    """Return the same for both sides and every seed."""
    if not _real(smoke):
        bag = trial.bag(tiny=smoke)
        words = bag["corpus"].encode().vocab
        rows = [next(bag["encoder"].token_states([word], layer=0))[1] for word in words.tokens]
        vectors = np.stack([row.states.mean(axis=0) for row in rows])
        return Material(bag["corpus"], bag["encoder"], EmbeddingTable(words, vectors))
    from tokenspace.checkpoint import Checkpoint
    from tokenspace.nn.encoder import load_encoder

    table = Checkpoint.open(MINILM).table("input")
    return Material(Corpus(brown()), Remembering(load_encoder(MINILM, device="cpu")), table)


@lru_cache(maxsize=1)
def network_points() -> float:
    """Return what the network itself reaches."""
    return float(np.mean([correlation(material(False).encoder, name) for name in SETS]))


def correlation(encoder: TextEncoder, name: str) -> float:
    """Return Spearman's correlation of cosines with people's scores on one set, times 100."""
    pairs = data.sts(name)
    left, right = encoder.encode([a for a, _, _ in pairs]), encoder.encode([b for _, b, _ in pairs])
    return 100 * spearman(cosine(left, right), [score for _, _, score in pairs])
