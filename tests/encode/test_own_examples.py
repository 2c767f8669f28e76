"""``encode train``: what it holds out, keeps, proves and goes on from."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tokenspace.cli import root
from tokenspace.encode import train
from tokenspace.encode.train import Settings, train_encoder
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError, NotConverged
from tokenspace.examples import Examples
from tokenspace.nn.encoder import load_encoder

GIVEN = bag(tiny=True)
MODEL, PAIRS, TASKS = GIVEN["model"], GIVEN["examples"], GIVEN["tasks"]
TEXTS = [*list(GIVEN["corpus"])[:3], "", "one"]
QUICK = Settings(steps=20, batch=8, lr=3e-3, threads=1)


def examples(kind: str) -> Examples:
    if kind == "pairs":
        return PAIRS
    if kind == "labelled":
        return TASKS
    if kind == "texts":
        return Examples({"text": [f"{text} {text[::-1]}" for text in GIVEN["corpus"]]})
    if kind == "scored":
        scores = [float(i % 6) for i in range(len(PAIRS))]
        return Examples(PAIRS.columns, scores=scores)
    negative = [*PAIRS.columns["positive"][1:], "something else"]
    return Examples({**PAIRS.columns, "negative": negative})


@pytest.mark.parametrize("kind", ["pairs", "triplets", "scored", "labelled", "texts"])
def test_every_kind_is_trained_and_proved(kind: str) -> None:
    before = MODEL.encode(TEXTS)
    trained = train_encoder(MODEL, examples(kind), settings=QUICK)
    np.testing.assert_array_equal(MODEL.encode(TEXTS), before)
    figures = trained.report.metrics
    assert figures["gain"] == pytest.approx(figures["after"] - figures["before"])
    assert figures["low"] <= figures["gain"] <= figures["high"]
    steps = [row["step"] for row in trained.report.rows]
    assert steps == sorted(steps)
    assert steps[0] == 0


def test_what_is_held_out_is_never_seen() -> None:
    kept, course, proof = train._parts(PAIRS, QUICK)
    sets = [set(part.columns["anchor"]) for part in (kept, course, proof)]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    assert len(kept) + len(course) + len(proof) == len(PAIRS)
    assert abs(len(course) - len(proof)) <= 3


def test_the_best_weights_are_kept_and_it_stops_early() -> None:
    figures = iter([0.5, 0.6, 0.9, 0.8, 0.7, 0.6, 0.5])

    def told(encoder, course):
        return next(figures)

    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "figure_of", told)
        trained = train_encoder(MODEL, PAIRS, settings=QUICK)
        seen = [row["figure"] for row in trained.report.rows]
    assert seen == [0.5, 0.6, 0.9, 0.8, 0.7, 0.6]  # three looks without a gain
    assert trained.report.metrics["best_step"] == 4
    whole = train_encoder(MODEL, PAIRS, settings=QUICK)
    assert not np.allclose(whole.encoder.encode(TEXTS), MODEL.encode(TEXTS))


def test_where_nothing_helps_the_model_stays_as_it_came() -> None:
    figures = iter([0.9, 0.8, 0.7, 0.6])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "figure_of", lambda encoder, course: next(figures))
        trained = train_encoder(MODEL, PAIRS, settings=QUICK)
    assert trained.report.metrics["best_step"] == 0
    np.testing.assert_allclose(trained.encoder.encode(TEXTS), MODEL.encode(TEXTS), atol=1e-6)
    assert any("was kept" in note for note in trained.report.notes)


def test_an_interrupted_run_gives_the_same_model(tmp_path: Path) -> None:
    whole = train_encoder(MODEL, PAIRS, settings=QUICK)

    class Killed(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        original = train._Watcher.__call__

        def kill(self, tick):
            if tick.step == 8:
                raise Killed
            return original(self, tick)

        patch.setattr(train._Watcher, "__call__", kill)
        with pytest.raises(Killed):
            train_encoder(MODEL, PAIRS, settings=QUICK, folder=tmp_path / "run")
    assert (tmp_path / "run" / "course.json").is_file()
    with pytest.raises(InputError, match="interrupted run of other examples"):
        train_encoder(MODEL, PAIRS, settings=replace(QUICK, lr=1e-3), folder=tmp_path / "run")
    again = train_encoder(MODEL, PAIRS, settings=QUICK, folder=tmp_path / "run")
    np.testing.assert_array_equal(again.encoder.encode(TEXTS), whole.encoder.encode(TEXTS))
    figures = [[row["figure"] for row in r.report.rows] for r in (again, whole)]
    assert figures[0] == figures[1]
    assert not (tmp_path / "run").exists()


def test_a_loss_that_breaks_leaves_the_best_weights(tmp_path: Path) -> None:
    with pytest.raises(NotConverged):
        train_encoder(
            MODEL, PAIRS, settings=replace(QUICK, lr=1e30, steps=60), folder=tmp_path / "run"
        )
    assert (tmp_path / "run" / "course.json").is_file()
    with pytest.raises(NotConverged, match=r"step \d: .* a vector that is not finite") as fault:
        train_encoder(MODEL, PAIRS, settings=replace(QUICK, lr=1e30, steps=8))  # looks come first
    assert "lower lr" in (fault.value.hint or "")


def test_a_user_gets_a_directory_with_a_card(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    MODEL.save(tmp_path / "model")
    with (tmp_path / "faq.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows(zip(*PAIRS.columns.values(), strict=True))
    command = [
        "encode", "train", str(tmp_path / "model"), "--pairs", str(tmp_path / "faq.csv"),
        "--out", str(tmp_path / "better"), "--steps", "4", "--batch", "8", "--lr", "1e-3",
    ]  # fmt: skip
    done = CliRunner().invoke(root, command)
    assert done.exit_code == 0, done.output
    assert "gain" in done.output
    report = json.loads((tmp_path / "better" / "report.json").read_text())
    assert report["metrics"]["after"] == pytest.approx(
        report["metrics"]["before"] + report["metrics"]["gain"]
    )
    card = (tmp_path / "better" / "README.md").read_text()
    assert "gain" in card
    assert "library_name: sentence-transformers" in card
    stock = SentenceTransformer(str(tmp_path / "better"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(
        load_encoder(str(tmp_path / "better")).encode(TEXTS), stock, atol=1e-6
    )
    assert not list(tmp_path.glob(".better*"))
    again = CliRunner().invoke(root, command)
    assert isinstance(again.exception, ConfigError)


def test_texts_that_are_cut_are_warned_of_once(caplog) -> None:
    long = {
        side: [f"{text} {'a ' * 80}" for text in column] for side, column in PAIRS.columns.items()
    }
    columns = {side: [*long[side][:5], *column[5:]] for side, column in PAIRS.columns.items()}
    given = Examples(columns)
    assert MODEL.count_cut(given.texts) == 10
    train_encoder(MODEL, given, settings=QUICK)
    said = [record.message for record in caplog.records]
    assert said == [f"10 of {len(given.texts)} texts were cut at the model's limit"]


def test_bad_input() -> None:
    for change in (
        {"epochs": 0.0}, {"epochs": math.inf}, {"batch": 1}, {"lr": math.nan}, {"held_out": 0.5},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(change))):
            train_encoder(MODEL, PAIRS, settings=replace(QUICK, **change))
    with pytest.raises(InputError, match="19 examples"):
        train_encoder(MODEL, PAIRS.take(range(19)), settings=QUICK)
    same = Examples({"text": [f"text {i}" for i in range(30)], "label": ["x"] * 30})
    with pytest.raises(InputError, match="all 30 texts have the label 'x'"):
        train_encoder(MODEL, same, settings=QUICK)
