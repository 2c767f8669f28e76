"""Texts passed by their lengths: the vectors and gradients of a whole batch, with less padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenspace.encode.trial import bag
from tokenspace.nn import by_length
from tokenspace.nn.by_length import text_vectors
from tokenspace.nn.sentence import copied

GIVEN = bag(tiny=True)
TEXTS = ["a", " ".join(list(GIVEN["corpus"])[:4]), *list(GIVEN["corpus"])[:4], "b c", ""]


def loaded(kind: str) -> tuple[Any, list[dict[str, Any]]]:
    made = copied(GIVEN[kind]).double().eval()
    return made, [made.preprocess(TEXTS), made.preprocess(TEXTS[3:])]


@pytest.mark.parametrize(
    ("kind", "side"), [("model", "right"), ("decoder", "right"), ("decoder", "left")]
)  # BERT counts positions from the left edge: padded there, a whole batch is what differs
def test_vectors_and_gradients_are_those_of_whole_columns(kind: str, side: str) -> None:
    made, _ = loaded(kind)
    made.tokenizer.padding_side = side
    columns = [made.preprocess(TEXTS), made.preprocess(TEXTS[3:])]
    weights = list(made.parameters())
    apart = text_vectors(made, columns)
    whole = [made(dict(column))["sentence_embedding"] for column in columns]
    scale = torch.randn(made.get_embedding_dimension(), dtype=torch.float64)
    gradients = []
    for vectors in (apart, whole):
        value = sum((v @ scale).square().sum() for v in vectors)
        gradients.append(torch.autograd.grad(value, weights, allow_unused=True))
    near = {"rtol": 1e-4, "atol": 1e-5}  # the angles of a decoder's positions are in float32
    for a, b in zip(apart, whole, strict=True):
        torch.testing.assert_close(a, b, **near)
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **near)


def test_little_is_computed_but_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    made, columns = loaded("model")
    passed: list[int] = []
    real = by_length._vectors
    monkeypatch.setattr(
        by_length,
        "_vectors",
        lambda model, part: passed.append(part["input_ids"].numel()) or real(model, part),
    )
    wide = dict(columns[0])
    wide["input_ids"] = torch.nn.functional.pad(wide["input_ids"], (0, 300))
    wide["attention_mask"] = torch.nn.functional.pad(wide["attention_mask"], (0, 300))
    wide.pop("token_type_ids", None)
    vectors = text_vectors(made, [wide])[0]
    assert sum(passed) <= columns[0]["input_ids"].numel()
    torch.testing.assert_close(vectors, made(dict(columns[0]))["sentence_embedding"])


def test_bfloat16_gives_float32_that_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    made = copied(GIVEN["model"]).eval()
    columns = [made.preprocess(TEXTS)]
    found = {}
    for bf16 in (False, True):
        monkeypatch.setattr(by_length, "quicker_in_bf16", lambda bf16=bf16: bf16)
        (found[bf16],) = text_vectors(made, columns)
    assert found[True].dtype == torch.float32
    assert not torch.equal(found[True], found[False])
    cosines = torch.nn.functional.cosine_similarity(found[True], found[False])
    assert float(cosines.detach().min()) > 0.999
