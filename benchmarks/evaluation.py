"""Judging word vectors against gensim: analogies, and pairs of words.

Made vectors, so that every question is known: what is measured is time, not quality. gensim answers
with 3CosAdd only and without the question's words; ours gives the rank of the answer by 3CosAdd,
3CosMul and PairDirection, with the question's words and without them, and intervals.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness import Result, main, pair
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.evaluation import analogies, similarity
from tokenspace.words.evaluation.files import read

GENSIM = "gensim"
WIDTH = 300


def made_table(rows: int) -> EmbeddingTable:
    vectors = np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(np.float32)
    return EmbeddingTable(Vocabulary.words([f"w{index}" for index in range(rows)]), vectors)


def keyed(table: EmbeddingTable):
    """Return gensim's form of a table; None where gensim is absent."""
    if importlib.util.find_spec("gensim") is None:
        return None
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(WIDTH)
    vectors.add_vectors(list(table.vocab.tokens), table.vectors)
    vectors.fill_norms()
    return vectors


def questions(table: EmbeddingTable, count: int, folder: Path) -> Path:
    """Write questions as the Google set has them: sections of about 30 pairs, paired by chance."""
    draw = np.random.default_rng(1)
    path = folder / "questions.txt"
    lines = []
    for section in range(-(-count // 100)):
        words = draw.permutation(900)[:60].reshape(30, 2)
        lines.append(f": section{section}")
        for _ in range(min(100, count - 100 * section)):
            (a, b), (c, d) = words[draw.choice(30, 2, replace=False)]
            lines.append(f"w{a} w{b} w{c} w{d}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rated(table: EmbeddingTable, count: int, folder: Path) -> Path:
    """Write pairs of words with scores."""
    draw = np.random.default_rng(2)
    path = folder / "pairs.tsv"
    rows = zip(draw.integers(len(table.vocab), size=(count, 2)), draw.random(count), strict=True)
    text = "".join(f"w{i}\tw{j}\t{score:.3f}\n" for (i, j), score in rows)
    path.write_text(text, encoding="utf-8")
    return path


def rows(quick: bool) -> Sequence[Result]:
    size, count, repeats = (20_000, 200, 1) if quick else (50_000, 1_000, 3)
    table = made_table(size)
    peer = keyed(table)
    with tempfile.TemporaryDirectory() as name:
        file, pairs = questions(table, count, Path(name)), rated(table, 3_000, Path(name))

        def ours(measures: tuple[str, ...]) -> object:
            return analogies(table, read("analogy", file), measures=measures)

        def theirs() -> object:
            return peer.evaluate_word_analogies(
                str(file), restrict_vocab=size, case_insensitive=False
            )

        results = [
            pair(
                f"{count:,} analogies among {size:,} words of {WIDTH} numbers",
                lambda: ours(("3cosadd", "3cosmul", "pairdir")),
                theirs if peer else None,
                peer_name=f"{GENSIM} evaluate_word_analogies",
                amount=count,
                unit="questions/CPU-s",
                goal=10.0,
                repeats=repeats,
                note="ours by three measures",
            ),
            pair(
                f"the same by LRCos, {30 * (count // 100)} pairs",
                lambda: ours(("lrcos",)),
                None,
                peer_name="none",
                amount=30 * (count // 100),
                unit="pairs/CPU-s",
                goal=None,
                repeats=1,
            ),
        ]
        for draws, goal in ((1, 1.0), (1000, None)):
            results.append(
                pair(
                    f"3,000 pairs of words, {draws:,} bootstrap draw{'s' * (draws > 1)}",
                    lambda draws=draws: similarity(
                        table, read("similarity", pairs), resamples=draws
                    ),
                    (lambda: peer.evaluate_word_pairs(str(pairs), case_insensitive=False))
                    if peer
                    else None,
                    peer_name=f"{GENSIM} evaluate_word_pairs",
                    amount=3_000,
                    unit="pairs/CPU-s",
                    goal=goal,
                    repeats=repeats,
                    note="" if draws == 1 else "the peer gives no interval",
                )
            )
    return results


if __name__ == "__main__":
    main("evaluation", rows, __doc__)
