"""Tables for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

Make = Callable[..., EmbeddingTable]


@pytest.fixture
def make() -> Make:
    """Make a table of words with given or random vectors."""

    def build(
        words: Sequence[str], vectors: object = None, counts: object = None, *, width: int = 6,
        seed: int = 0,
    ) -> EmbeddingTable:  # fmt: skip
        if vectors is None:
            vectors = np.random.default_rng(seed).standard_normal((len(words), width))
        return EmbeddingTable(
            Vocabulary.words(list(words)),
            np.array(vectors, np.float32),
            None if counts is None else np.array(counts, np.int64),
        )

    return build
