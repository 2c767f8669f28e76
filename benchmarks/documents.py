"""Paragraph vectors against gensim's Doc2Vec: training, inference, and whether quality is kept.

Texts: the 2,000 posts of newsgroups20_dev of TOKENSPACE_DATA, or Python's own reference without
them. Speeds are words of the vocabulary times passes a CPU second, on one thread: training with
the vocabulary already built, inference from lists of words on the peer's side and from raw text
on ours.

Quality is that of vectors inferred for both halves of the texts, at equal sizes, passes and noise.
The same rate means something else to the peer's ``dm_mean``, which moves every part of a mean by
the whole gradient, 1 + |C| times its share; so both sides get the best for them of 0.05, 0.1 and
0.2 on halves that are not measured (500 texts of each half of seed 7), and both happen to like 0.1.
``--quick``, as well as a checkout without the posts, takes 80 invented texts of some 800 words in
all and eight times the passes: with the usual 50 neither side learns anything from so little.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness import Result, main, pair
from tokenspace import data
from tokenspace.claims._documents import accuracy, halves
from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import Shape, learn, shape
from tokenspace.encode.pv_dbow import PVDBOW
from tokenspace.encode.pv_dm import PVDM

GENSIM = "gensim Doc2Vec"
NEWS = "newsgroups20_dev"
SEEDS = (0, 1, 2)
GENSIM_LR = {PVDBOW: 0.025, PVDM: 0.1}
INVENTED = 8  # times the passes for the few words of invented texts


def has_gensim() -> bool:
    return importlib.util.find_spec("gensim") is not None


def texts(quick: bool) -> list[str]:
    if data.available(NEWS):
        found = [text for _, text in data.labelled(NEWS)]
    else:
        found = [text for _, text in data.manual()]
    return found[:200] if quick else found


def network(recipe: PVDBOW | PVDM) -> Shape:
    if isinstance(recipe, PVDM):
        kind = {"join": recipe.join, "window": recipe.window, "skip": 0}
    else:
        kind = {"join": "alone", "window": 0, "skip": recipe.words}
    sizes = {"dim": recipe.dim, "units": recipe.dim, "negatives": recipe.negatives}
    return shape(layer="real", **kind, **sizes)


def tagged(rows: Sequence[Sequence[str]]) -> list[Any]:
    from gensim.models.doc2vec import TaggedDocument

    return [TaggedDocument(list(words), [number]) for number, words in enumerate(rows)]


def doc2vec(recipe: PVDBOW | PVDM, documents: list[Any] | None, seed: int = 1) -> Any:
    """Return gensim's model with the same settings; None as documents: not yet trained."""
    from gensim.models.doc2vec import Doc2Vec

    dm = isinstance(recipe, PVDM)
    return Doc2Vec(
        documents,
        dm=int(dm),
        dm_mean=1,
        dm_concat=int(dm and recipe.join == "concat"),
        dbow_words=0 if dm else int(recipe.words > 0),
        vector_size=recipe.dim,
        window=recipe.window if dm else max(1, recipe.words),
        negative=recipe.negatives,
        sample=recipe.sample,
        min_count=recipe.min_count,
        alpha=GENSIM_LR[type(recipe)],
        epochs=recipe.epochs,
        workers=1,
        seed=seed,
    )


def split(given: Sequence[str]) -> list[list[str]]:
    """Return the words of every text as a corpus finds them."""
    corpus = Corpus(given)
    stream = corpus.encode(whole=True)
    words = stream.vocab.tokens
    return [
        [words[i] for i in stream.ids[begin:end]]
        for begin, end in zip(stream.offsets[:-1], stream.offsets[1:], strict=True)
    ]


def training(recipe: PVDBOW | PVDM, given: Sequence[str], repeats: int) -> Result:
    """Time one training of ``recipe.epochs`` epochs on both sides."""
    stream = Corpus(given).encode(min_count=recipe.min_count, whole=True)

    def ours() -> None:
        learn(
            network(recipe), stream, label=recipe.name, epochs=recipe.epochs, sample=recipe.sample,
            lr=recipe.lr, threads=1, seed=0,
        )  # fmt: skip

    peer = None
    if has_gensim():
        documents = tagged(split(given))
        model = doc2vec(recipe, None)
        model.build_vocab(documents)

        def peer() -> None:
            model.train(documents, total_examples=len(documents), epochs=recipe.epochs)

    return pair(
        f"{recipe}: training",
        ours,
        peer,
        peer_name=GENSIM,
        amount=len(stream.ids) * recipe.epochs,
        unit="words/CPU s",
        goal=3.0,
        repeats=repeats,
    )


def inference(recipe: PVDBOW | PVDM, given: Sequence[str], repeats: int) -> Result:
    """Time 20 passes over every text, as new."""
    passes = 20
    stream = Corpus(given).encode(min_count=recipe.min_count, whole=True)
    encoder = replace(replace(recipe, threads=1)(Corpus(given)), passes=passes)

    def ours() -> None:
        encoder.encode(given)

    peer = None
    if has_gensim():
        rows = split(given)
        model = doc2vec(recipe, tagged(rows))

        def peer() -> None:
            for words in rows:
                model.infer_vector(words, epochs=passes)

    return pair(
        f"{recipe}: inference, {passes} passes, {len(given):,} texts",
        ours,
        peer,
        peer_name=f"{GENSIM}.infer_vector",
        amount=len(stream.ids) * passes,
        unit="words/CPU s",
        goal=3.0,
        repeats=repeats,
        note="ours from raw text, the peer from lists of words",
    )


def quality(recipe: PVDBOW | PVDM, quick: bool) -> Result:
    """Compare a linear classifier's accuracy on inferred vectors; means over the seeds."""
    invented = quick or not data.available(NEWS)
    trained = replace(recipe, epochs=recipe.epochs * (INVENTED if invented else 1), threads=1)
    mine, theirs = [], []
    for seed in SEEDS:
        given = halves(NEWS, seed, smoke=invented)
        encoder = replace(trained, seed=seed)(Corpus(given.known))
        sides = [encoder.encode(given.known), encoder.encode(given.asked)]
        mine.append(accuracy(sides[0], given.labels, sides[1], given.answers))
        if has_gensim():
            known, asked = split(given.known), split(given.asked)
            model = doc2vec(trained, tagged(known), seed + 1)
            sides = [
                np.array([model.infer_vector(words, epochs=50) for words in rows], np.float32)
                for rows in (known, asked)
            ]
            theirs.append(accuracy(sides[0], given.labels, sides[1], given.answers))
    ours, peer = statistics.fmean(mine), statistics.fmean(theirs) if theirs else None
    gaps = ", ".join(f"{a - b:+.3f}" for a, b in zip(mine, theirs, strict=False))
    return Result(
        work=f"{recipe}: quality on inferred vectors, mean of {len(mine)} seeds",
        ours=ours,
        peer=peer,
        peer_name=GENSIM,
        unit="accuracy, invented texts of 4 kinds" if invented else "accuracy, 20 newsgroups",
        ratio=ours / peer if peer else None,
        goal=None,
        peak_mb_ours=None,
        peak_mb_peer=None,
        note=f"difference {ours - peer:+.4f}; by seed {gaps}" if peer else "peer absent",
    )


def rows(quick: bool) -> list[Result]:
    """Return all rows; ``quick`` takes a tenth of the texts and one repeat."""
    given, repeats = texts(quick), 1 if quick else 3
    mean = PVDM(join="mean", lr=0.1)  # as the peer joins a text and its neighbours
    recipes = (PVDBOW(epochs=20), replace(mean, epochs=20))
    found = [training(recipe, given, repeats) for recipe in recipes]
    found += [inference(recipe, given, repeats) for recipe in recipes]
    return found + [quality(recipe, quick) for recipe in (PVDBOW(), mean, PVDM())]


if __name__ == "__main__":
    main("documents", rows, __doc__)
