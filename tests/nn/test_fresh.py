"""Fresh networks: the same for a seed, and another for another."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace import data
from tokenspace.nn.fresh import fresh_encoder

TEXTS = [text for _, text in data.manual()][:20]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_seed_gives_one_network_and_one_tokenizer(kind):
    first, again, other = (
        fresh_encoder(TEXTS, kind=kind, vocab=400, seed=seed) for seed in (3, 3, 4)
    )
    assert first.vocab.tokens == again.vocab.tokens == other.vocab.tokens
    np.testing.assert_array_equal(first.encode(TEXTS[:3]), again.encode(TEXTS[:3]))
    assert not np.allclose(first.encode(TEXTS[:3]), other.encode(TEXTS[:3]))
