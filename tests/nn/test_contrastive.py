"""Contrast by row: what a row sees, against a loop in float64, and who its negatives are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from tokenspace.encode.trial import bag
from tokenspace.errors import InputError
from tokenspace.examples import Examples
from tokenspace.nn.contrastive import (
    ContrastiveLoss,
    contrast_rows,
    rows_dataset,
    topk_negatives,
    visible,
)
from tokenspace.nn.sentence import copied

GIVEN = bag(tiny=True)
TEXTS = list(GIVEN["corpus"])[:12]


def literal(made, rows, temperature: float) -> float:
    """Return the mean over rows of the loss by its definition, one row at a time."""

    def unit(texts):
        with torch.no_grad():
            found = made.encode(texts, convert_to_numpy=True).astype(np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    losses = []
    for own, (anchor, positive, negatives, others) in enumerate(rows):
        docs = [positive, *negatives]
        if others:
            for row, (_, other, more, _) in enumerate(rows):
                if row != own:
                    docs += [text for text in (other, *more) if text != positive]
        scores = unit(docs) @ unit([anchor])[0] / temperature
        losses.append(-log_softmax(scores)[0])
    return float(np.mean(losses))


def test_the_loss_is_its_definition_row_by_row() -> None:
    made = copied(GIVEN["model"]).double().eval()  # double, so not in bfloat16 anywhere
    rows = [
        (TEXTS[0], TEXTS[1], [TEXTS[2], TEXTS[3]], True),
        (TEXTS[4], TEXTS[5], [TEXTS[6]], False),
        (TEXTS[7], TEXTS[1], [], True),  # the positive of the first row as well
        (TEXTS[8], TEXTS[9], [TEXTS[10], TEXTS[11]], False),
    ]
    data = rows_dataset(rows)
    names = ["anchor", "positive", "negative_1", "negative_2"]
    features = [made.preprocess(list(data[name])) for name in names]
    loss = ContrastiveLoss(made, 0.05)(features, torch.tensor(list(data["label"])))
    assert float(loss.detach()) == pytest.approx(literal(made, rows, 0.05), rel=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_negative_that_is_the_positive_is_known_whatever_the_padding(side: str) -> None:
    """The columns are padded to different widths: on the left, equal texts begin elsewhere."""
    made = copied(GIVEN["decoder"]).double().eval()
    made.tokenizer.padding_side = side
    long = " ".join(TEXTS[:3])
    rows = [("a b", TEXTS[1], [long], True), (TEXTS[4], TEXTS[5], [TEXTS[1]], True)]
    data = rows_dataset(rows)
    features = [made.preprocess(list(data[name])) for name in ("anchor", "positive", "negative_1")]
    assert features[1]["input_ids"].shape[1] < features[2]["input_ids"].shape[1]
    loss = ContrastiveLoss(made, 0.05)(features, torch.tensor(list(data["label"])))
    assert float(loss.detach()) == pytest.approx(literal(made, rows, 0.05), rel=1e-5)


def test_what_a_row_sees_by_hand() -> None:
    equal = torch.zeros(2, 4, dtype=torch.bool)
    equal[0, 0] = equal[1, 1] = True
    # row 0: one negative and the batch; row 1: one negative, no batch
    seen = visible(equal, torch.tensor([3, 2]))
    assert seen.tolist() == [[True, True, True, True], [False, True, False, True]]
    equal[0, 1] = True  # row 1's positive is row 0's as well
    assert visible(equal, torch.tensor([3, 2]))[0].tolist() == [True, False, True, True]
    # no negative of row 0's own: nobody sees that column of it
    assert visible(equal, torch.tensor([1, 3])).tolist() == [
        [True, False, False, True],
        [True, True, False, True],
    ]


def test_labels_make_rows_by_example() -> None:
    texts = [f"text {i}" for i in range(30)]
    labels = [f"class {i % 3}" for i in range(29)] + ["alone"]
    rows = contrast_rows(
        Examples({"text": texts, "label": labels}), in_batch=False, negatives=2, seed=3
    )
    of = dict(zip(texts, labels, strict=True))
    assert [anchor for anchor, *_ in rows] == texts[:-1]  # a class of one has no positive
    for anchor, positive, negatives, others in rows:
        assert of[anchor] == of[positive]
        assert anchor != positive
        assert len(negatives) == 2
        assert all(of[text] != of[anchor] for text in negatives)
        assert not others


def test_scores_make_rows_both_ways() -> None:
    columns = {"anchor": ["a", "b", "c"], "positive": ["d", "e", "f"]}
    rows = contrast_rows(Examples(columns, scores=[5.0, 3.9, 4.0]), in_batch=False, negatives=0)
    assert [(a, p) for a, p, _, _ in rows] == [("a", "d"), ("d", "a"), ("c", "f"), ("f", "c")]


class Angles:
    """A teacher that puts a text, which is a number of degrees, on the circle."""

    dim = 2

    def encode(self, texts, *, batch_size: int = 32):
        angle = np.deg2rad([float(text) for text in texts])
        return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def test_mining_keeps_away_from_what_may_be_right() -> None:
    rows = [("0", "20", [], False), ("0.5", "10", [], False), ("1", "60", ["50"], False)]
    rows += [("2", "30", [], False), ("100", "200", [], False)]
    filled = topk_negatives(rows, Angles(), 2)
    # of row 0 the bound is .95 cos 20 = cos 26.8: 10 and 20 are too near
    assert filled[0][2] == ["30", "60"]
    assert filled[1][2] == ["30", "60"]  # bound: .95 cos 9.5 = cos 20.4; 20 lies within it
    assert filled[2][2] == ["50", "200"]  # .95 cos 59 = cos 60.7; its own stays, however near
    assert filled[4][2] == []  # its own positive lies behind it


def test_rows_with_enough_negatives_ask_no_teacher() -> None:
    asked: list[str] = []

    class Teacher:
        dim = 2

        def encode(self, texts):
            asked.extend(texts)
            return np.ones((len(texts), 2), np.float32)

    rows = [("a", "p", ["n"], True), ("b", "q", ["p", "n"], True)]
    assert topk_negatives(rows, Teacher(), 1) == rows
    assert not asked
    topk_negatives(rows, Teacher(), 2)
    assert "a" in asked
    assert "b" not in asked


def test_bad_input() -> None:
    with pytest.raises(InputError, match="the loss would be 0"):
        rows_dataset([("a", "b", [], False)])
    with pytest.raises(InputError, match="have the label 'x'"):
        contrast_rows(Examples({"text": ["a"], "label": ["x"]}), in_batch=False, negatives=1)
    with pytest.raises(InputError, match="no class has two"):
        contrast_rows(
            Examples({"text": ["a", "b"], "label": ["x", "y"]}), in_batch=False, negatives=1
        )
    with pytest.raises(InputError, match="alike"):
        contrast_rows(
            Examples({"anchor": ["a"], "positive": ["b"]}, scores=[0.0]),
            in_batch=False,
            negatives=1,
        )
