"""Encodings against fastembed's, given its random matrices."""

from __future__ import annotations

import numpy as np
import pytest
from fastembed.postprocess import Muvera

from tokenspace.arrays import Ragged
from tokenspace.retrieve.fde import FDE
from tokenspace.retrieve.muvera import MUVERA

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("d_proj", [4, 12])
def test_encodings_equal_the_peers(d_proj: int) -> None:
    peer = Muvera(dim=12, k_sim=3, dim_proj=d_proj, r_reps=4)
    recipe = MUVERA(repetitions=4, k_sim=3, d_proj=d_proj)
    encoder = FDE(12, recipe, fill=True, projection="dense", scale="raw")
    # the peer's first direction gives the lowest bit of a cell's number
    planes = [part.simhash_vectors[:, ::-1] for part in peer.simhash_projections]
    encoder.directions = np.concatenate(planes, axis=1).astype(np.float32)
    if d_proj < 12:
        encoder.dense = (peer.dim_reduction_projections / d_proj**0.5).astype(np.float32)
    texts = Ragged.pack(list(np.random.default_rng(0).standard_normal((5, 9, 12))))
    expected = [peer.process_query(text) for text in texts]
    np.testing.assert_allclose(encoder.queries(texts), expected, atol=1e-5)
    # of tokens equally near to an empty cell the peer takes that of the lowest cell, the
    # definition the first: only blocks without such a tie agree
    cells = encoder.labels(texts.flat).reshape(5, 9, 4)
    expected = np.array([peer.process_document(text) for text in texts]).reshape(5, 4, 8, d_proj)
    found = encoder.documents(texts).reshape(5, 4, 8, d_proj)
    compared = 0
    for text, own in enumerate(cells):
        for r in range(4):
            distance = np.bitwise_count(np.arange(8)[:, None] ^ own[:, r])
            least = distance == distance.min(axis=1, keepdims=True)
            alone = [len(set(own[near, r])) == 1 for near in least]
            np.testing.assert_allclose(found[text, r, alone], expected[text, r, alone], atol=1e-5)
            compared += sum(alone)
    assert compared > 100
