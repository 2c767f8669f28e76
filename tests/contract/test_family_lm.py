"""What every language model keeps to: causality, probabilities, and bits that can be compared."""

from __future__ import annotations

import numpy as np
import pytest
from subjects import bag, names, run

from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.tokenizer_training import byte_bpe

pytestmark = pytest.mark.parametrize("name", names("lm"))


def ids(model: object, count: int = 12) -> np.ndarray:
    """Return the first tokens of two texts, (2, count)."""
    rows = model.vocab.encode_batch(bag("lm")["unseen"][:2])  # type: ignore[attr-defined]
    return np.array([row[:count] for row in rows], np.int64)


def test_what_comes_later_changes_nothing(name: str) -> None:
    model = run(name)
    whole = model.logits(ids(model))
    changed = ids(model)
    changed[:, 7:] = changed[::-1, 7:]
    np.testing.assert_allclose(model.logits(changed)[:, :7], whole[:, :7], atol=1e-5)
    np.testing.assert_allclose(model.logits(ids(model)[:, :7]), whole[:, :7], atol=1e-5)


def test_what_came_before_changes_something(name: str) -> None:
    model = run(name)
    changed = ids(model)
    changed[:, 0] = changed[::-1, 1]
    assert np.abs(model.logits(changed)[:, 1:] - model.logits(ids(model))[:, 1:]).max() > 1e-6


def test_bits_are_those_of_probabilities_that_sum_to_one(name: str) -> None:
    model = run(name)
    text = bag("lm")["unseen"][0]
    start = next(model.vocab.roles[r] for r in ("bos", "eos", "cls") if r in model.vocab.roles)
    row = np.array([[start, *model.vocab.encode(text)[: model.context]]])
    text = b"".join(model.vocab.surface(i) for i in row[0, 1:]).decode()
    assert model.vocab.encode(text) == row[0, 1:].tolist()
    p = np.exp(model.logits(row[:, :-1])[0].astype(np.float64))
    p /= p.sum(1, keepdims=True)
    bits = -np.log2(p[np.arange(len(p)), row[0, 1:]]).sum()
    score = model.score([text])
    assert score.bits[0] == pytest.approx(bits, rel=1e-4)
    assert score.bytes[0] == len(text.encode())


def test_it_has_learned_something(name: str) -> None:
    model = run(name)
    score = model.score(bag("lm")["unseen"])
    assert score.bits_per_byte < score.tokens_per_byte * np.log2(len(model.vocab))
    assert score.unknown == 0


def test_other_tokens_are_judged_on_the_same_bytes(name: str) -> None:
    given = bag("lm")
    other = byte_bpe(given["corpus"], 280, start="<s>")
    first, second = run(name, given), run(name, {**given, "tokenizer": other})
    assert second.vocab.tokens == other.tokens
    difference, low, high = second.score(given["unseen"]).minus(first.score(given["unseen"]))
    assert low <= difference <= high
    assert abs(difference) < 3  # both spell the same text: bits a token would differ by more


def test_figures_of_the_training_are_reported(name: str) -> None:
    metrics = run(name).metrics
    assert metrics["bits_per_byte_low"] <= metrics["bits_per_byte"] <= metrics["bits_per_byte_high"]
    assert {"tokens", "steps", "tokens_per_second", "tokens_per_byte"} <= metrics.keys()


def test_a_tokenizer_is_learned_where_none_is_given(name: str) -> None:
    model = run(name, {"corpus": bag("lm")["corpus"]})
    assert len(model.vocab) > 256
    assert model.score(bag("lm")["unseen"]).unknown == 0


def test_ids_without_a_row_are_refused(name: str) -> None:
    model = run(name)
    for bad in (np.array([[len(model.vocab)]]), np.array([[-1]]), np.array([0, 1])):
        with pytest.raises(InputError):
            model.logits(bad)


@pytest.mark.parametrize("texts", [[], [""], ["", "  "], ["too short"]])
def test_too_little_text_is_refused(name: str, texts: list[str]) -> None:
    with pytest.raises(InputError):
        run(name, {**bag("lm"), "corpus": Corpus(texts)})


def test_no_text_to_score_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        run(name).score([])
