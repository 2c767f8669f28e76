"""Masks and pooling: by hand, against loops, and against whatever the padding holds."""

from __future__ import annotations

import pytest
import torch

from tokenspace.nn import mask as masks
from tokenspace.nn import pool

POOLS = [pool.mean_tokens, pool.max_tokens, pool.cls_token, pool.last_token]


def test_by_hand():
    states = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool.mean_tokens(states, mask).tolist() == [[2.0, -3.0]]
    assert pool.max_tokens(states, mask).tolist() == [[3.0, -2.0]]  # not 0, not 9
    assert pool.cls_token(states, mask).tolist() == [[1.0, -4.0]]
    assert pool.last_token(states, mask).tolist() == [[3.0, -2.0]]


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("junk", [1e4, -1e4, float("inf"), float("nan")])
def test_padding_never_reaches_the_result(pooling, side, junk):
    real = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)) - 2
    pad = torch.full((3, 2, 5), junk)
    some, none = torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 2, dtype=torch.bool)
    before, after = side in ("left", "both"), side in ("right", "both")
    states = torch.cat([pad] * before + [real] + [pad] * after, 1)
    mask = torch.cat([none] * before + [some] + [none] * after, 1)
    torch.testing.assert_close(pooling(states, mask), pooling(real, some), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLS)
def test_matches_a_loop_over_texts_of_unequal_length(pooling):
    lengths = [1, 4, 2, 3]
    states = torch.randn(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    result = pooling(states, masks.padding(torch.tensor(lengths)))
    for row, (matrix, length) in enumerate(zip(states, lengths, strict=True)):
        rows = [matrix[t] for t in range(length)]
        want = {
            "mean_tokens": sum(rows) / length,
            "max_tokens": torch.stack(rows).max(0).values,
            "cls_token": rows[0],
            "last_token": rows[-1],
        }[pooling.__name__]
        torch.testing.assert_close(result[row], want)


@pytest.mark.parametrize("pooling", POOLS)
def test_a_text_without_tokens_gets_zeros_and_finite_gradients(pooling):
    states = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    result = pooling(states, mask)
    result.sum().backward()
    assert result[1].tolist() == [0.0] * 4
    assert torch.isfinite(states.grad).all()
    assert states.grad[1].abs().sum() == 0


def test_padding_mask():
    assert masks.padding(torch.tensor([2, 0, 3])).tolist() == [
        [True, True, False],
        [False, False, False],
        [True, True, True],
    ]
    assert masks.padding(torch.tensor([1]), width=4).tolist() == [[True, False, False, False]]


def test_softmax_equals_the_softmax_of_what_is_real():
    scores = torch.tensor([[-3.0, 50.0, -1.0], [1.0, 2.0, 3.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    weights = masks.softmax(scores, mask)
    small = torch.softmax(torch.tensor([-3.0, -1.0]), 0)
    torch.testing.assert_close(weights[0], torch.tensor([small[0], 0.0, small[1]]))
    assert weights[1].tolist() == [0.0, 0.0, 0.0]
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[1].tolist() == [0.0, 0.0, 0.0]
