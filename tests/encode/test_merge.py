"""Models between two: their weights by the equation, rows of new tokens, the curve, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tokenspace.cli import root
from tokenspace.corpus import Corpus
from tokenspace.encode.merge import Course, course, merged
from tokenspace.encode.nv_embed import NVEmbed
from tokenspace.encode.trial import bag
from tokenspace.encode.triplets import triplet_figures, triplets_of
from tokenspace.encode.tvec import TVEC
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.examples import Examples
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder, save_fresh
from tokenspace.nn.layers import network_of
from tokenspace.nn.sentence import copied, wrapped

GIVEN = bag(tiny=True)
PAIRS = GIVEN["examples"]
FIELD = ["the zqxw of it", "a zqxw and a vbnm", "zqxw vbnm"] * 3
TRAIN = TVEC(steps=5, batch=8, lr=3e-3, l2sp=0.0, tokens=2, threads=1)
SCORED = Examples(
    {"anchor": PAIRS.columns["anchor"][:8], "positive": PAIRS.columns["positive"][1:9]},
    scores=[0.1, 0.9, 0.4, 0.3, 0.8, 0.2, 0.6, 0.5],
)


@pytest.fixture(scope="module")
def two() -> tuple[Any, Any]:
    base = fresh_encoder(list(GIVEN["corpus"]))
    return base, TRAIN(base, examples=PAIRS, corpus=Corpus(FIELD))


def weights(model: Any) -> dict[str, np.ndarray]:
    return {k: v.numpy().astype(np.float64) for k, v in copied(model).state_dict().items()}


def test_weights_lie_between_and_new_rows_come_from_their_pieces(two: tuple[Any, Any]) -> None:
    base, tuned = two
    first, last = weights(base), weights(tuned)
    between = weights(merged(base, tuned, 0.25))
    table = next(name for name in first if first[name].shape != last[name].shape)
    assert len(last[table]) == len(first[table]) + 2
    for name, W in first.items():
        if name == table:
            pieces = [
                base.body.tokenizer.encode(w, add_special_tokens=False).ids
                for w in ("zqxw", "vbnm")
            ]
            new = [tuned.body.tokenizer.token_to_id(w) for w in ("zqxw", "vbnm")]
            W = np.vstack([W, np.zeros((2, W.shape[1]))])
            W[new] = [first[table][p].mean(0) for p in pieces]
        np.testing.assert_allclose(between[name], 0.75 * W + 0.25 * last[name], atol=1e-6)
    moved = [not np.array_equal(first[name], last[name]) for name in first if name != table]
    assert any(moved)


def test_new_tokens_in_spare_rows_start_at_their_pieces_too() -> None:
    """A matrix that is padded to a round height has room for a new token, and stays as high."""
    made = copied(fresh_encoder(list(GIVEN["corpus"])))
    network_of(made).resize_token_embeddings(len(made.tokenizer) + 4)  # type: ignore[operator]
    base = wrapped(made)
    tuned = TRAIN(base, examples=PAIRS, corpus=Corpus(FIELD))
    first, last, start = weights(base), weights(tuned), weights(merged(base, tuned, 0.0))
    table = next(name for name in first if name.endswith("word_embeddings.weight"))
    assert len(first[table]) == len(last[table])
    for word in ("zqxw", "vbnm"):
        pieces = base.body.tokenizer.encode(word, add_special_tokens=False).ids
        row = start[table][tuned.body.tokenizer.token_to_id(word)]
        np.testing.assert_allclose(row, first[table][pieces].mean(0), atol=1e-6)


def test_the_ends_are_the_models(two: tuple[Any, Any]) -> None:
    base, tuned = two
    texts = list(GIVEN["corpus"])[:10]
    known = base.encode(texts)
    np.testing.assert_allclose(merged(base, tuned, 0.0).encode(texts), known, atol=1e-6)
    np.testing.assert_array_equal(merged(base, tuned, 1.0).encode(FIELD), tuned.encode(FIELD))
    before = tuned.encode(texts)
    assert not np.allclose(before, known, atol=1e-3)
    merged(base, tuned, 0.5)
    np.testing.assert_array_equal(tuned.encode(texts), before)


def test_what_was_prepared_from_other_weights_is_forgotten() -> None:
    first = NVEmbed(r=4, steps=2, batch=8, lr=1e-3, threads=1)(GIVEN["model"], examples=PAIRS)
    second = load_changed(first)
    models = [merged(first, second, t).encode(["a b", "the c"]) for t in (0.0, 1.0)]
    curve = course(first, second, field=PAIRS, general=SCORED, ts=(0.0, 1.0))
    alone = course(first, second, field=PAIRS, general=SCORED, ts=(0.0,))
    assert not np.allclose(*models, atol=1e-4)
    assert curve.field[0] == alone.field[0]
    assert curve.general[1] == pytest.approx(
        course(second, second, field=PAIRS, general=SCORED, ts=(0.0,)).general[0]
    )


def load_changed(model: Any) -> Any:
    from tokenspace.nn.sentence import wrapped

    made = copied(model)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made[1].parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=draw)
    return wrapped(made)


def test_the_curve_has_the_figures_of_the_merged_models(two: tuple[Any, Any]) -> None:
    base, tuned = two
    triplets = triplets_of(PAIRS)
    found = course(base, tuned, field=triplets, general=SCORED, ts=(0.0, 0.5, 1.0))
    for t, own in zip(found.t, found.field, strict=True):
        model = merged(base, tuned, t)
        assert own == pytest.approx(100 * triplet_figures(model, triplets)["accuracy"])
    assert found.field_measure == "triplets in order"
    assert found.general_measure == "Spearman's correlation"
    assert found.to_svg().startswith("<")
    assert [row["t"] for row in found.to_dict()["rows"]] == [0.0, 0.5, 1.0]


def test_the_best_that_loses_no_more() -> None:
    curve = Course((0.0, 0.3, 0.6, 1.0), (50, 80, 90, 90), (87, 86, 85, 80), "a", "b")
    assert curve.best(0.0) == 0.0
    assert curve.best(1.0) == 0.3
    assert curve.best(2.0) == 0.6
    assert curve.best(50) == 0.6  # of equal ones the least
    for lose in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="is below 0"):
            curve.best(lose)
    unknown = float("nan")  # a figure that is none says of no mixture that nothing is lost
    assert Course((0.0, 1.0), (50, 60), (unknown, unknown), "a", "b").best(1.0) == 0.0


def test_bad_input(two: tuple[Any, Any], tmp_path: Path) -> None:
    base, tuned = two
    with pytest.raises(ConfigError, match=r"t=1.5 is outside \[0, 1\]"):
        merged(base, tuned, 1.5)
    with pytest.raises(ConfigError, match="the first of them 0"):
        course(base, tuned, field=PAIRS, general=SCORED, ts=(0.5, 1.0))
    for shape, says in (
        ({"layers": 1}, "in one of them only"),
        ({"width": 32}, r"is \(.*, 16\) in the base and \(.*, 32\) in the tuned model"),
        # only the tokens' rows may grow
        ({"longest": 32}, r"position_embeddings.weight is \(64, 16\) in the base and \(32, 16\)"),
        ({"longest": 80}, r"position_embeddings.weight is \(64, 16\) in the base and \(80, 16\)"),
    ):
        with pytest.raises(InputError, match=says) as fault:
            merged(*of_one_tokenizer(tmp_path, **shape), 0.5)
        assert fault.value.hint
    with pytest.raises(InputError, match="is number"):
        merged(fresh_encoder(FIELD), base, 0.5)
    made = copied(tuned)
    with torch.no_grad():
        next(made.parameters())[0, 0] = torch.nan
    with pytest.raises(FormatError, match=r"word_embeddings.weight: a weight is not finite"):
        merged(base, wrapped(made), 0.5)
    with pytest.raises(InputError, match="and none in the tuned model"):
        merged(tuned, base, 0.5)


def of_one_tokenizer(folder: Path, **shape: int) -> list[Any]:
    """Return two networks with the same tokens (learned anew, they are numbered otherwise)."""
    for name, given in (("first", {}), ("second", shape)):
        save_fresh(folder / name, FIELD, **given)  # type: ignore[arg-type]
    shutil.copy(folder / "first" / "tokenizer.json", folder / "second")
    return [load_encoder(str(folder / name), device="cpu") for name in ("first", "second")]


def test_the_command(two: tuple[Any, Any], tmp_path: Path) -> None:
    for name, model in zip(("base", "tuned"), two, strict=True):
        model.save(tmp_path / name)
    base, tuned, out = (str(tmp_path / name) for name in ("base", "tuned", "out"))
    network = network_of(copied(two[1]))
    assert network.config.vocab_size == len(network.get_input_embeddings().weight)

    def run(*words: str) -> Any:
        return CliRunner().invoke(root, ["encode", "merge", base, tuned, *words])

    done = run("--t", "0.5", "--out", out)
    assert done.exit_code == 0, done.output
    expected = merged(*two, 0.5).encode(FIELD)
    np.testing.assert_allclose(load_encoder(out).encode(FIELD), expected, atol=1e-6)
    triplets, pairs = tmp_path / "triplets.jsonl", tmp_path / "pairs.jsonl"
    rows = zip(*triplets_of(PAIRS).columns.values(), strict=True)
    names = ("anchor", "positive", "negative")
    triplets.write_text(
        "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    )
    scored = zip(*SCORED.columns.values(), SCORED.scores or (), strict=True)
    pairs.write_text(
        "".join(
            json.dumps({"sentence1": a, "sentence2": b, "score": s}) + "\n" for a, b, s in scored
        )
    )
    given = ["--field", str(triplets), "--general", str(pairs), "--t", "0.5,1"]
    picture = str(tmp_path / "curve.svg")
    done = run(*given, "--lose", "100", "--out", out, "--force", "--svg", picture, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert [row["t"] for row in said["rows"]] == [0.0, 0.5, 1.0]
    assert "svg" in Path(picture).read_text()[:500]
    expected = merged(*two, said["best"]).encode(FIELD)
    np.testing.assert_allclose(load_encoder(out).encode(FIELD), expected, atol=1e-6)
    for words, says in (
        ([], "nothing to measure by"),
        (["--field", str(triplets)], "one of --field and --general"),
        (["--t", "x", "--out", out], "--t x"),
        ([*given, "--out", str(tmp_path / "other")], "one of --out and --lose"),
        (["--t", "0.5", "--out", out], "exists"),
        ([*given, "--lose", "-1", "--out", str(tmp_path / "other")], "x>=0"),
    ):
        done = run(*words)
        assert done.exit_code
        assert says in f"{done.output}{done.exception}"
