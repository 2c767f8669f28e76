"""The Turkish study: ranks by hand, films apart, means over seeds, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.data import Analogy, zipf_text
from tokenspace.recipe import parse
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words import turkish
from tokenspace.words.turkish import mean_reciprocal_rank, reviews, study

FILES = {
    turkish.REVIEWS: ["movie_id\tlabel\trating\treview"]
    + [f"{i // 2}\t{'neg' if i % 4 < 2 else 'pos'}\t1\t{'kötü' if i % 4 < 2 else 'İYİ'} film"
       for i in range(40)],
    turkish.MANUAL: ["page\tenglish\tturkish", "a\tone word\tIRMAK bir sözcük"],
    turkish.ANALOGIES: ["group\tcategory\ta\tb\tc\td", "semantic\taile\tkötü\tfilm\tiyi\tfilm"],
}  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "lines", FILES.__getitem__)
    monkeypatch.setattr(data, "find", FILES.__getitem__)


def test_ranks_within_ten_by_hand() -> None:
    # cos(x, b) cos(x, c) / cos(x, a) for the question a b c: d lies nearest, then e
    words = ["a", "b", "c", "d", "e", "ı"]
    rows = np.array([[1, 0], [1, 1], [0, 1], [-0.2, 1], [-1, 1], [1, -1]], np.float32)
    table = EmbeddingTable(Vocabulary.words(words), rows)
    moved = (1 + table.unit @ table.unit.T) / 2
    score = moved[1] * moved[2] / (moved[0] + 0.001)
    order = [i for i in np.argsort(-score) if i not in (0, 1, 2)]
    where = {words[i]: place for place, i in enumerate(order, 1)}
    questions = [Analogy("x", "a", "b", "c", d) for d in ("d", "e", "I", "unknown")]
    gains = [1 / where[d] for d in ("d", "e", "ı")]  # a large I is a small ı in Turkish
    found = mean_reciprocal_rank(table, questions)
    assert found == pytest.approx((sum(gains) / 4, sum(gains) / 3, 3 / 4))
    below = mean_reciprocal_rank(table, questions, top=1)
    assert below == pytest.approx((1 / 4, 1 / 3, 3 / 4))
    assert mean_reciprocal_rank(table, questions[3:]) == (0, 0, 0)


@pytest.mark.usefixtures("made")
def test_films_are_never_on_both_sides_and_letters_are_turkish() -> None:
    train, test = reviews()
    assert (len(train.texts), len(test.texts)) == (32, 8)  # films 4, 9, 14 and 19 of 20
    assert test.good == [False, False, True, True] * 2
    assert "iyi" in turkish.texts().count()
    assert "ırmak" in turkish.texts().count()


@pytest.mark.usefixtures("made")
def test_reviews_are_told_apart_by_the_vectors_alone() -> None:
    words = Vocabulary.words(["iyi", "kötü", "film"])
    good = EmbeddingTable(words, np.array([[3, 0], [0, 3], [1, 1]], np.float32))
    blind = EmbeddingTable(words, np.array([[0, 0], [0, 0], [1, 1]], np.float32))
    assert turkish._reviews_accuracy(good) == 1
    assert turkish._reviews_accuracy(blind) == 0.5
    means = turkish._means(good, ["kötü İYİ", "", "film film iyi"])
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(
        means, [[0.5, 0.5], [0, 0], [(2 * half + 1) / 3, 2 * half / 3]], atol=1e-6
    )


@pytest.mark.usefixtures("made")
def test_every_recipe_has_the_mean_over_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(table: EmbeddingTable) -> dict[str, float]:
        return {"seed": float(table.notes["seed"]), "nothing": float("nan"), "known x": 1.0}

    monkeypatch.setattr(turkish, "judge", judged)
    bag = {"corpus": Corpus(zipf_text(100, 40, 4))}
    recipes = [parse("sgns:dim=8,epochs=1,min_count=1"), parse("aggregate")]
    found = study(recipes, bag, seeds=(7, 24, 30))
    (row,) = found.rows
    assert row["seeds"] == 3
    assert row["seed"] == pytest.approx(61 / 3)
    assert row["seed_sd"] == pytest.approx(np.std([7, 24, 30], ddof=1))
    assert row["nothing"] is None
    assert "known x_sd" not in row
    assert found.notes == ["left out: aggregate: aggregate needs encoder"]
    json.loads(found.to_json(), parse_constant=pytest.fail)


def test_the_command(cli, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENSPACE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ended = cli("words", "study-turkish", "sgns")
    assert ended.code == 3
    assert "TOKENSPACE_DATA" in ended.err
    assert cli("words", "study-turkish", "--seeds", "x").code == 2

    monkeypatch.setattr(data, "lines", FILES.__getitem__)
    monkeypatch.setattr(data, "find", FILES.__getitem__)
    monkeypatch.setattr(turkish, "judge", lambda table: {"words": float(len(table.vocab))})
    (tmp_path / "text.txt").write_text("ÇIĞ düştü\n" * 9 + "bir kez\n", "utf-8")
    out = tmp_path / "report.json"
    ended = cli(
        "words", "study-turkish", "sgns:dim=8,epochs=1", "ppmi_svd:dim=1,min_count=1",
        "--corpus", tmp_path / "text.txt", "--seeds", "1,2", "--out", out,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    rows = json.loads(out.read_text())["rows"]
    assert [row["words"] for row in rows] == [2, 4]  # twice at least, unless the method says once
    assert "Turkish: 2 methods" in ended.out
    assert cli("words", "study-turkish", "sgns", "--out", out).code == 2
