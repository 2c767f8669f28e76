"""Word similarity and analogies, as gensim measures them and as we do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.evaluation import analogies, similarity
from tokenspace.words.evaluation.files import read

pytestmark = pytest.mark.peer
WORDS = [f"w{i}" for i in range(120)]


@pytest.fixture
def both() -> tuple[EmbeddingTable, KeyedVectors]:
    draw = np.random.default_rng(0)
    ends = draw.standard_normal((60, 6))
    pairs = np.stack([ends, ends + 2 + 0.4 * draw.standard_normal((60, 6))], axis=1)
    vectors = pairs.reshape(120, 6).astype(np.float32)  # w0 : w1 as w2 : w3, roughly
    peer = KeyedVectors(6)
    peer.add_vectors(WORDS, vectors)
    peer.fill_norms()
    return EmbeddingTable(Vocabulary.words(WORDS), vectors), peer


def test_analogies_agree_with_gensim(both, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    lines = [": one"]
    for _ in range(300):
        i, j = 2 * draw.choice(62, 2, replace=False)  # some words are unknown
        lines.append(f"w{i} w{i + 1} w{j} w{j + 1}")
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(lines) + "\n")
    table, peer = both
    for oov, dummy in (("skip", False), ("zero", True)):
        score, sections = peer.evaluate_word_analogies(
            str(path), case_insensitive=False, dummy4unknown=dummy
        )
        (ours,) = analogies(table, read("analogy", path), measures=["3cosadd"], oov=oov)
        assert 0.05 < ours.score.value < 0.95
        assert ours.score.value == pytest.approx(score)
        assert ours.score.used == sum(len(sections[-1][k]) for k in ("correct", "incorrect"))


def test_similarity_agrees_with_gensim(both, tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    path = tmp_path / "pairs.tsv"
    rows = zip(draw.integers(130, size=(200, 2)), draw.random(200), strict=True)
    path.write_text("".join(f"w{i}\tw{j}\t{score:.3f}\n" for (i, j), score in rows if i != j))
    table, peer = both
    for oov, dummy in (("skip", False), ("zero", True)):
        pearson, spearman, _ = peer.evaluate_word_pairs(
            str(path), case_insensitive=False, dummy4unknown=dummy
        )
        ours = similarity(table, read("similarity", path), oov=oov)
        assert ours.score.value == pytest.approx(spearman[0], abs=1e-6)
        assert ours.also["pearson"] == pytest.approx(pearson[0], abs=1e-6)
