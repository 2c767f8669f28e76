"""Binary: a learned rotation makes bits say more about near vectors than a random one."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tokenspace.claims._passages import found_share, passages
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.retrieve.binary import Binary

CLAIM = Claim(
    says="The ten nearest vectors are among the first hundred by codes of a learned rotation more "
    "often than by codes of a random one, at equal bits",
    paper="CVPR 2011 (Gong, Lazebnik)",
    metric="top10_in_100",
    better="higher",
    baseline="signs after a random rotation, as many bits",
    margin=0.05,
    scale="paper: GIST descriptors of images, 32 to 256 bits; here: 20,000 passages of novels as "
    "64 dimensions of latent semantic analysis, one bit each, 300 of them asked. A seed chooses "
    "who is asked, and is that of the rotation. Rows also carry the share among the first ten, and "
    "among ten re-ranked by int8 rows. Without the novels: Python's default text",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return shares of the exact ten in the first 100 and 10 by codes, and after re-ranking."""
    docs, queries, exact = passages(seed, smoke=smoke)
    recipe = replace(cast("Binary", method), seed=seed) if method else None
    index = (recipe or Binary(rotation="random", seed=seed))(docs)
    ranked = index.find(queries, 100)[0]
    return {
        "top10_in_100": found_share(ranked, exact),
        "recall10": found_share(ranked[:, :10], exact),
        "recall10_reranked": found_share(index.search(queries, 10)[0], exact),
        "bytes_of_a_code": float(index.codes.nbytes / len(index.codes)),
    }
