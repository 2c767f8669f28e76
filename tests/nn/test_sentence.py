"""Fine-tuning through sentence-transformers: what it leaves alone, repeats and refuses."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError, NotConverged
from tokenspace.examples import Examples
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder
from tokenspace.nn.sentence import copied, dataset, fine_tune, wrapped
from tokenspace.nn.train import Tick

PAIRS = bag(tiny=True)["examples"]
TEXTS = ["abel an", "", "the third of them is longer"]


def model():
    return bag(tiny=True)["model"]


def ranking(made):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    return MultipleNegativesRankingLoss(made)


def train(steps: int = 4, **options):
    made = copied(model())
    losses = fine_tune(
        made, dataset(PAIRS), ranking(made), steps=steps, batch=8, lr=1e-3, **options
    )
    return wrapped(made), losses


def test_a_copy_is_equal_and_separate() -> None:
    before = model().encode(TEXTS)
    made = copied(model())
    np.testing.assert_allclose(wrapped(made).encode(TEXTS), before, atol=1e-6)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1)
    np.testing.assert_array_equal(model().encode(TEXTS), before)


def test_training_lowers_the_loss_and_leaves_the_caller_alone() -> None:
    python, torched = random.getstate(), torch.get_rng_state()
    numbers = np.random.get_state()[1]  # noqa: NPY002
    encoder, losses = train(30)
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torched)
    assert not encoder.body.model.training


def test_a_seed_gives_the_same_bytes() -> None:
    first, second, other = train(seed=1, threads=1), train(seed=1, threads=1), train(seed=2)
    assert first[1] == second[1] != other[1]
    np.testing.assert_array_equal(first[0].encode(TEXTS), second[0].encode(TEXTS))


def test_the_caller_may_look_and_stop() -> None:
    seen: list[Tick] = []

    def watch(tick: Tick) -> bool:
        seen.append(tick)
        return tick.step == 4

    _, losses = train(10, every=2, watch=watch, warmup=0.2)
    assert [tick.step for tick in seen] == [2, 4]
    assert len(losses) == 4
    assert [tick.loss for tick in seen] == [losses[1], losses[3]]
    assert seen[0].lr == pytest.approx(5e-4)  # the second of two warming steps: half of the rate
    assert seen[1].lr == pytest.approx(1e-3 * 7 / 8)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    whole, losses = train(8, threads=1)

    class Killed(Exception):
        pass

    def kill(tick: Tick) -> bool:
        if tick.step == 6:
            raise Killed
        return False

    with pytest.raises(Killed):
        train(8, threads=1, every=3, watch=kill, checkpoints=tmp_path)
    again, rest = train(8, threads=1, every=3, checkpoints=tmp_path)
    assert rest == losses[3:]
    np.testing.assert_array_equal(again.encode(TEXTS), whole.encode(TEXTS))


def test_a_loss_that_is_not_finite_stops_at_its_step() -> None:
    made = copied(model())

    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.steps = made, 0

        def forward(self, features, labels=None):
            self.steps += 1
            vectors = self.model(features[0])["sentence_embedding"]
            return vectors.sum() * (float("nan") if self.steps == 3 else 1.0)

    with pytest.raises(NotConverged, match="step 3: the loss is nan"):
        fine_tune(made, dataset(PAIRS), Broken(), steps=5, batch=8, lr=1e-3)
    assert np.isfinite(wrapped(made).encode(TEXTS)).all()


def test_what_the_losses_are_given() -> None:
    twice = dataset(Examples({"text": ["a", "b"]}))
    assert twice[0] == {"anchor": "a", "positive": "a"}
    scored = dataset(Examples({"anchor": ["a"], "positive": ["b"]}, scores=[0.5]))
    assert list(scored.features) == ["anchor", "positive", "score"]
    assert dataset(Examples({"text": ["a", "b"], "label": ["y", "x"]}))["label"][:] == [1, 0]


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        train(0)
    with pytest.raises(InputError, match="no pretrained network"):
        copied(bag(tiny=True)["encoder"])


def test_a_decoder_without_padding_is_trained_and_saved(tmp_path: Path) -> None:
    decoder = fresh_encoder(PAIRS.texts, kind="llama")
    made = copied(decoder)
    fine_tune(made, dataset(PAIRS), ranking(made), steps=2, batch=4, lr=1e-3)
    trained = wrapped(made)
    trained.save(tmp_path / "out")
    again = load_encoder(str(tmp_path / "out"))
    np.testing.assert_array_equal(again.encode(TEXTS), trained.encode(TEXTS))
