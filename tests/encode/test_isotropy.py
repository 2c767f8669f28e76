"""The space of a model's vectors: three figures by hand, and every map in a saved model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tokenspace.encode.isotropy import TRANSFORMS, Transform, evened, evenness
from tokenspace.encode.isotropy_commands import isotropy_command
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.layers import network_of
from tokenspace.nn.sentence import copied, wrapped

TEXTS = bag(tiny=True)["examples"].texts


@pytest.fixture(scope="module")
def model() -> ModelEncoder:
    found: ModelEncoder = bag(tiny=True)["model"]
    return found


def test_figures_by_hand() -> None:
    found = evenness(np.array([[2, 0], [0, 3], [0, -1]], np.float32))
    assert found["cosine"] == pytest.approx(-1 / 3)  # 0, 0 and -1
    e = math.e
    sums = (e + 2, 1 / e + 2, 1 + e + 1 / e)  # along the first axis, against it, and the second
    assert found["isotropy"] == pytest.approx(min(sums) / max(sums))
    sizes = np.array([2, math.sqrt(10)])
    p = sizes / sizes.sum()
    assert found["rank"] == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    cone = evenness(np.array([[1, 1e-3], [1, 0], [2, 1e-3]], np.float32))
    assert cone["cosine"] > 0.99
    assert cone["isotropy"] < found["isotropy"]
    assert cone["rank"] < 1.1
    with pytest.raises(InputError, match="1 vectors"):
        evenness(np.ones((1, 3), np.float32))


@pytest.mark.parametrize("transform", list(TRANSFORMS))
def test_what_a_map_does_to_the_vectors(
    model: ModelEncoder, transform: Transform, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    before = model.encode(TEXTS).astype(np.float64)
    made = evened(model, TEXTS, transform, top=2)
    after = made.encode(TEXTS).astype(np.float64)
    np.testing.assert_allclose(after.mean(0), 0, atol=1e-4)
    centred, D = before - before.mean(0), before.shape[1]
    scatter = after.T @ after / len(after)
    if transform == "centre":
        np.testing.assert_allclose(after, centred, atol=1e-5)
    elif transform == "top":
        _, _, Vt = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(after, centred - centred @ Vt[:2].T @ Vt[:2], atol=1e-4)
    else:
        # a norm whose sum is 0 comes last in the network: in one direction nothing differs
        np.testing.assert_allclose(np.linalg.eigvalsh(scatter), [0] + [1] * (D - 1), atol=1e-3)
    assert (
        abs(evenness(made.encode(TEXTS))["cosine"]) < 0.01 < evenness(model.encode(TEXTS))["cosine"]
    )
    made.save(tmp_path / "out")
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert type(stock[-1]).__name__ == "Dense"
    np.testing.assert_allclose(stock.encode(list(TEXTS[:5])), after[:5], atol=1e-5)
    again = load_encoder(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS[:5]), after[:5], atol=1e-5)


def test_the_principal_directions_come_in_their_order(model: ModelEncoder) -> None:
    before = model.encode(TEXTS).astype(np.float64)
    after = evened(model, TEXTS, "pca").encode(TEXTS)
    _, _, Vt = np.linalg.svd(before - before.mean(0), full_matrices=False)
    coordinates = (before - before.mean(0)) @ Vt.T
    alike = [abs(np.corrcoef(coordinates[:, i], after[:, i])[0, 1]) for i in range(4)]
    assert min(alike) > 0.99


def test_a_map_comes_before_the_normalisation(model: ModelEncoder) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    unit = wrapped(SentenceTransformer(modules=[*copied(model), Normalize()], device="cpu"))
    made = evened(unit, TEXTS, "zca")
    vectors = made.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    plain = evened(model, TEXTS, "zca").encode(TEXTS)
    np.testing.assert_allclose(
        vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-4
    )


def test_a_model_that_is_cut_stays_as_narrow(model: ModelEncoder) -> None:
    made = copied(model)
    made.truncate_dim = 5
    cut = wrapped(made)
    vectors = evened(cut, TEXTS, "zca").encode(TEXTS).astype(np.float64)
    assert vectors.shape[1] == 5
    np.testing.assert_allclose(np.cov(vectors.T, bias=True), np.eye(5), atol=1e-3)


def test_the_command(model: ModelEncoder, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    given = [str(tmp_path / "model"), "--corpus", str(tmp_path / "texts.txt")]
    shown = CliRunner().invoke(isotropy_command, given)
    assert shown.exit_code == 0, shown.output
    out = str(tmp_path / "out")
    done = CliRunner().invoke(
        isotropy_command, [*given, "--transform", "centre", "--out", out, "--json"]
    )
    found = json.loads(done.stdout)
    assert abs(found["after"]["cosine"]) < abs(found["before"]["cosine"])
    assert found["texts"] == len(TEXTS) // 2
    again = CliRunner().invoke(isotropy_command, [*given, "--transform", "centre", "--out", out])
    assert isinstance(again.exception, ConfigError)
    alone = CliRunner().invoke(isotropy_command, [*given, "--transform", "centre"])
    assert isinstance(alone.exception, ConfigError)
    other = ["--transform", "zca", "--top", "2", "--out", str(tmp_path / "other")]
    for wrong, says in (
        (other, "--top says nothing here"),
        (["--transform", "top", *other[2:3], "0", *other[4:]], r"top=0 is outside [1, 15]"),
    ):
        refused = CliRunner().invoke(isotropy_command, [*given, *wrong])
        assert isinstance(refused.exception, ConfigError)
        assert says in str(refused.exception)
    assert not (tmp_path / "other").exists()


def test_numbers_are_refused_before_anything_is_encoded(
    model: ModelEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ModelEncoder, "encode", encode)
    with pytest.raises(ConfigError, match="top=0"):
        evened(model, TEXTS, "top", top=0)
    with pytest.raises(InputError, match="give 17 texts or more"):
        evened(model, TEXTS[:16], "pca")


def test_bad_input(model: ModelEncoder) -> None:
    with pytest.raises(ConfigError, match="transform='white'"):
        evened(model, TEXTS, "white")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"top=16 is outside \[1, 15\]"):
        evened(model, TEXTS, "top", top=16)
    with pytest.raises(InputError, match="16 different texts for zca in 16 dimensions") as fault:
        evened(model, [*TEXTS[:16], TEXTS[0]], "zca")
    assert fault.value.hint
    with pytest.raises(InputError, match="1 different texts for centre"):
        evened(model, TEXTS[:1], "centre")
    broken = copied(model)
    with torch.no_grad():
        network_of(broken).get_input_embeddings().weight[7:] = torch.nan  # type: ignore[operator]
    for act in (
        lambda: evened(wrapped(broken), TEXTS, "zca"),
        lambda: evenness(np.array([[1, 0], [np.nan, 1]], np.float32)),
    ):
        with pytest.raises(InputError, match="vectors: rows with NaN or infinite values"):
            act()
    with pytest.raises(InputError, match="no pretrained network"):
        evened(bag(tiny=True)["encoder"], TEXTS, "centre")
