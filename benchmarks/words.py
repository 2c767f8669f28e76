"""Word vectors against gensim: speed on the same corpus, and whether quality is kept.

Corpus: the novels of TOKENSPACE_DATA (4.4 million words), or Python's own text without them.
Speeds are corpus words (before thinning) per CPU second of training, vocabulary already built; with
two threads also per second on the wall, which says something on a machine that is otherwise idle.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness import Result, alternate, compare, main, pair
from tokenspace import sgd
from tokenspace.corpus import Corpus
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words import CBOW, SGNS
from tokenspace.words._tree import NO_TREE
from tokenspace.words.cbow import predict_centre
from tokenspace.words.sgns import skip_gram
from tokenspace.words.trial import material, rank_correlation

GENSIM = "gensim"
SEEDS = (0, 1, 2)


def has_gensim() -> bool:
    return importlib.util.find_spec("gensim") is not None


def word2vec(sentences: list[list[str]] | None, recipe: SGNS | CBOW, threads: int, **more: Any):
    """Return gensim's model with the same settings; None as sentences: not yet trained."""
    from gensim.models import Word2Vec

    return Word2Vec(
        sentences,
        vector_size=recipe.dim,
        window=recipe.window,
        negative=recipe.negatives,
        sample=recipe.sample,
        min_count=recipe.min_count,
        sg=int(isinstance(recipe, SGNS)),
        alpha=0.025 if isinstance(recipe, SGNS) else 0.05,
        epochs=recipe.epochs,
        workers=threads,
        **more,
    )


def training(recipe: SGNS | CBOW, texts: Sequence[str], threads: int, repeats: int) -> list[Result]:
    """Time training on both sides: words a CPU second, of several threads a second on the wall."""
    stream = Corpus(texts, split="whitespace").encode(min_count=recipe.min_count)
    cbow = isinstance(recipe, CBOW)

    def ours() -> None:
        sgd.train(
            predict_centre if cbow else skip_gram,
            stream,
            label=recipe.name,
            dim=recipe.dim,
            epochs=recipe.epochs,
            sample=recipe.sample,
            lr=recipe.lr,
            threads=threads,
            seed=0,
            options=(recipe.window, recipe.negatives, *((True,) if cbow else ()), *NO_TREE),
        )

    peer = None
    if has_gensim():
        sentences = [text.split() for text in texts]
        model = word2vec(None, recipe, threads)
        model.build_vocab(sentences)

        def peer() -> None:
            model.train(sentences, total_examples=model.corpus_count, epochs=recipe.epochs)

    mine, theirs = alternate(ours, peer, repeats)
    clocks = {"cpu": "words/CPU s", "wall": "words/s (wall)"}
    return [
        compare(
            f"{recipe.name}: dim {recipe.dim}, window {recipe.window}, {recipe.negatives} noise "
            f"words, {threads} thread{'s' * (threads > 1)}, "
            f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)}",
            mine,
            theirs,
            peer_name=GENSIM,
            amount=len(stream.ids) * recipe.epochs,
            unit=unit,
            goal=4.0,
            clock=clock,
            note="" if peer else "peer absent",
        )
        for clock, unit in clocks.items()
        if clock == "cpu" or threads > 1
    ]


def encoding(texts: Sequence[str], repeats: int) -> Result:
    """Time text to ids; the peer's scan of the vocabulary and look-up of every word's id."""
    amount = sum(len(text.split()) for text in texts)

    def ours() -> None:
        Corpus(texts, split="whitespace").encode(min_count=5)

    def peer() -> None:
        sentences = [text.split() for text in texts]
        model = word2vec(None, SGNS(), 1)
        model.build_vocab(sentences)
        ids = model.wv.key_to_index
        for sentence in sentences:
            np.array([ids[word] for word in sentence if word in ids], np.int32)

    return pair(
        "encode: white-space text to ids (goal: 2 million words a second of wall time)",
        ours,
        peer if has_gensim() else None,
        peer_name="gensim build_vocab + Python",
        amount=amount,
        unit="words/s (wall)",
        goal=None,
        repeats=repeats,
        clock="wall",
    )


def quality(recipe: SGNS | CBOW, quick: bool) -> Result:
    """Compare rank correlations; ``ours`` and ``peer`` are means over the seeds."""
    given = material(smoke=quick)
    corpus = Corpus(given.texts, split="whitespace")
    sentences = [text.split() for text in given.texts]
    mine, theirs = [], []
    for seed in SEEDS:
        own = replace(recipe, seed=seed)
        mine.append(rank_correlation(own(corpus), given.pairs)["rho"])
        if has_gensim():
            vectors = word2vec(sentences, recipe, 2, seed=seed + 1).wv
            table = EmbeddingTable(
                Vocabulary.words(vectors.index_to_key), np.array(vectors.vectors, np.float32)
            )
            theirs.append(rank_correlation(table, given.pairs)["rho"])
    ours, peer = statistics.fmean(mine), statistics.fmean(theirs) if theirs else None
    return Result(
        work=f"{recipe.name}: quality at {recipe.epochs} epochs, mean of 3 seeds",
        ours=ours,
        peer=peer,
        peer_name=GENSIM,
        unit="mean Spearman (" + ", ".join(given.pairs) + ")",
        ratio=ours / peer if peer else None,
        goal=None,
        peak_mb_ours=None,
        peak_mb_peer=None,
        note=f"difference {ours - peer:+.4f}, goal -0.01 or better" if peer else "peer absent",
    )


def rows(quick: bool) -> list[Result]:
    """Return all rows; ``quick`` takes a tenth of the text and one repeat."""
    texts = material().texts
    texts = texts[: len(texts) // 10] if quick else texts
    repeats = 1 if quick else 3
    found = [
        result
        for recipe in (SGNS(epochs=1), CBOW(epochs=1))
        for threads in (1, 2)
        for result in training(recipe, texts, threads, repeats)
    ]
    found.append(encoding(texts, repeats))
    return found + [quality(recipe, quick) for recipe in (SGNS(epochs=10), CBOW(epochs=10))]


if __name__ == "__main__":
    main("words", rows, __doc__)
