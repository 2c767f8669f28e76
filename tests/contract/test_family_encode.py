"""What every text encoder keeps to: batches, order, padding, the empty text."""

from __future__ import annotations

import numpy as np
import pytest
from subjects import bag, names, run, texts

from tokenspace import catalog
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.recipe import evidence

pytestmark = pytest.mark.parametrize("name", names("encode"))


def test_shapes(name: str) -> None:
    some = texts(bag("encode")["corpus"])
    encoder = run(name)
    assert encoder.encode(some).shape == (len(some), encoder.dim)
    tokens = encoder.encode_tokens(some)
    assert len(tokens) == len(some)
    assert tokens.flat.dtype == np.float32
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_batch_size_and_padding_do_not_matter(name: str) -> None:
    some, encoder = texts(bag("encode")["corpus"]), run(name)
    whole = encoder.encode(some, batch_size=64)
    for size in (1, 3):
        np.testing.assert_allclose(encoder.encode(some, batch_size=size), whole, atol=1e-5)
    tokens = encoder.encode_tokens(some, batch_size=64)
    for index, text in enumerate(some):
        alone = encoder.encode_tokens([text], batch_size=1)
        np.testing.assert_allclose(alone[0], tokens[index], atol=1e-5)


def test_order_does_not_matter(name: str) -> None:
    some, encoder = texts(bag("encode")["corpus"]), run(name)
    order = np.random.default_rng(1).permutation(len(some))
    permuted = encoder.encode([some[i] for i in order])
    np.testing.assert_allclose(permuted, encoder.encode(some)[order], atol=1e-5)


def test_an_empty_text_has_a_vector(name: str) -> None:
    vectors = run(name).encode(["", "   "])
    assert np.isfinite(vectors).all()


def test_equal_texts_have_equal_vectors(name: str) -> None:
    some, encoder = texts(bag("encode")["corpus"]), run(name)
    np.testing.assert_allclose(*encoder.encode([some[0], some[0]]), atol=1e-6)


@pytest.mark.parametrize("nothing", [[], [""], ["", "  "]])
def test_an_empty_corpus_is_refused(name: str, nothing: list[str]) -> None:
    if "corpus" not in {item.name for item in evidence(catalog.find(name).load())}:
        pytest.skip("starts from a network, and learns from other examples")
    with pytest.raises(InputError):
        run(name, {**bag("encode"), "corpus": Corpus(nothing)})
