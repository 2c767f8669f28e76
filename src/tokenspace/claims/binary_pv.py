"""Binary PV: codes learned with the bits in the network find more than bits of learned vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace.arrays import Floats2d, Ragged
from tokenspace.claims._documents import SETS, Halves, halves
from tokenspace.corpus import Corpus
from tokenspace.encode.binary_pv import BinaryPV
from tokenspace.encode.pv_dbow import PVDBOW
from tokenspace.metrics import expected_average_precision
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.retrieve.binary import Binary
from tokenspace.retrieve.hamming import unpack_bits

CLAIM = Claim(
    says="Texts of the asked text's group stand higher by 128-bit codes of a binary paragraph "
    "vector than by as many signs of random directions of paragraph vectors",
    paper="arXiv:1611.01116",
    metric="map",
    better="higher",
    baseline="PV-DBOW of 100 dimensions, signs of 128 random directions",
    margin=0.02,
    scale="paper: 18,846 posts of 20 newsgroups, against autoencoders' codes; here: 2,000 of them, "
    "one half trained on and searched, every text of the other half asked with its inferred code. "
    "map is the mean average precision by Hamming distance, expected over orders of equal "
    "distances. A seed divides the texts and trains. Rows also carry that on 1,000 film reviews "
    "(two classes). Without these files: invented texts",
    budget_s=300.0,
)
BITS = 128


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``map`` on the newsgroups, and on the reviews as ``map_reviews``."""
    news, reviews = (mean_precision(method, halves(name, seed, smoke=smoke), seed) for name in SETS)
    return {"map": news, "map_reviews": reviews}


def mean_precision(method: Recipe | None, given: Halves, seed: int) -> float:
    """Train on the known half, search it with the other, and judge by labels."""
    recipe = cast("BinaryPV | PVDBOW", method or PVDBOW())
    encoder = replace(recipe, seed=seed, threads=1)(Corpus(given.known))
    documents, queries = encoder.encode(given.known), encoder.encode(given.asked)
    known, asked = documents.any(axis=1), queries.any(axis=1)
    index = Binary(
        bits=BITS, rotation="none" if method else "random", rerank=0, seed=seed, threads=1
    )(Ragged.single(documents[known]))
    scores = signs(index.codes) @ signs(index.encode(queries[asked])).T
    labels = given.labels[known]
    relevant = [set(np.flatnonzero(labels == answer).tolist()) for answer in given.answers[asked]]
    return float(expected_average_precision(scores.T, relevant).mean())


def signs(codes: np.ndarray) -> Floats2d:
    """Return codes as rows of -1 and 1."""
    return np.where(unpack_bits(codes, BITS), 1, -1).astype(np.float32)
