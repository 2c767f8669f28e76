"""Subword vectors against the fastText program and gensim: speed, memory, and quality.

Corpus: the novels of TOKENSPACE_DATA (4.4 million words), or Python's own text without them. A
training is text to vectors, the vocabulary included, in corpus words (before thinning) per CPU
second. Both peers live in ``.peers/fasttext`` (``make peers``): fastText's wheel and gensim.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import ChildPeer, Result, alternate, compare, main
from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.metrics import cosine, spearman
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation import word_similarity
from tokenspace.words.fasttext import FastText
from tokenspace.words.trial import Pairs, material

FASTTEXT = """
import fasttext, json, numpy as np

def work():
    return fasttext.train_unsupervised(
        path, model="skipgram", lr=lr, dim=dim, ws=window, neg=negatives, epoch=epochs, t=sample,
        minCount=min_count, minn=3, maxn=6, bucket=2000000, thread=threads, verbose=0)

def done(model):
    np.save(out, np.array([model.get_word_vector(word) for word in words], np.float32))
"""
GENSIM = """
from gensim.models import FastText
from gensim.models.word2vec import LineSentence

def work():
    return FastText(
        LineSentence(path), sg=1, alpha=lr, vector_size=dim, window=window, negative=negatives,
        epochs=epochs, sample=sample, min_count=min_count, min_n=3, max_n=6, bucket=2000000,
        ns_exponent=0.5, workers=threads)

def done(model):
    import numpy as np
    np.save(out, np.array([model.wv[word] for word in words], np.float32))
"""
READ = """
from gensim.models.fasttext import load_facebook_vectors

def work():
    return load_facebook_vectors(path)

def done(vectors):
    pass
"""
SCRIPTS = {"fastText": FASTTEXT, "gensim": GENSIM}


def training(
    peer_name: str, recipe: FastText, texts: Sequence[str], pairs: dict[str, Pairs], repeats: int
) -> list[Result]:
    """Train on both sides; return the rates, the ratio of peak memories, and the quality."""
    corpus = Corpus(texts, split="whitespace")
    words = sorted(
        {word.lower() for listed in pairs.values() for pair in listed for word in pair[:2]}
    )
    made: list[EmbeddingTable] = []

    def ours() -> None:
        made[:] = [recipe(corpus)]

    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "text.txt", Path(folder) / "words.npy"
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        values = {**recipe.to_dict(), "path": str(path), "out": str(out), "words": words}
        with ChildPeer("fasttext", SCRIPTS[peer_name], values) as peer:
            mine, theirs = alternate(ours, peer.run, repeats)
            note = peer.note
        vectors = np.load(out) if theirs else None
    many = f"{recipe.threads} thread{'s' * (recipe.threads > 1)}"
    work = f"fasttext beside {peer_name}, {many}, {recipe.epochs} epoch{'s' * (recipe.epochs > 1)}"
    rate = compare(
        work, mine, theirs, peer_name=peer_name,
        amount=sum(len(text.split()) for text in texts) * recipe.epochs,
        unit="words/CPU s", goal=6.0 if peer_name == "fastText" else None, note=note,
    )  # fmt: skip
    found = [rate]
    if rate.peak_mb_ours and rate.peak_mb_peer:
        found.append(
            replace(
                rate,
                work=f"{work}: peak megabytes beyond the start",
                ours=rate.peak_mb_ours,
                peer=rate.peak_mb_peer,
                unit="MB",
                ratio=rate.peak_mb_peer / rate.peak_mb_ours,
                goal=5.0 if peer_name == "fastText" else None,
            )
        )
    for name, listed in pairs.items():
        own = word_similarity(made[0], listed, oov="zero").value
        other = None if vectors is None else ranked(dict(zip(words, vectors, strict=True)), listed)
        found.append(
            replace(
                rate,
                work=f"{work}: {name}",
                ours=own,
                peer=other,
                unit="Spearman, all pairs",
                ratio=own / other if other else None,
                goal=None,
                note=f"difference {own - other:+.3f}" if other else note,
            )
        )
    return found


def ranked(vectors: dict[str, np.ndarray], pairs: Pairs) -> float:
    """Return Spearman's correlation of the peer's cosines with people's scores."""
    left, right = (
        np.array([vectors[pair[side].lower()] for pair in pairs], np.float32) for side in (0, 1)
    )
    return spearman(cosine(left, right), np.array([pair[2] for pair in pairs]))


def reading(texts: Sequence[str], repeats: int) -> Result:
    """Load a model of two million buckets, and give a vector to an unknown word."""
    table = FastText(epochs=1)(Corpus(texts, split="whitespace"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        table.save(path)

        def ours() -> None:
            subwords = EmbeddingTable.load(path).subwords
            assert subwords is not None
            subwords.vectors(["unworthiness"])

        with ChildPeer("fasttext", READ, {"path": str(path)}) as peer:
            mine, theirs = alternate(ours, peer.run, repeats)
            return compare(
                f"load fastText's .bin, {len(table.vocab):,} words", mine, theirs,
                peer_name="gensim", amount=1, unit="models/CPU s", goal=3.0, note=peer.note,
            )  # fmt: skip


def rows(quick: bool) -> list[Result]:
    """Return all rows; ``quick`` takes a tenth of the text and one repeat."""
    texts = material().texts
    texts = texts[: len(texts) // 10] if quick else texts
    asked = ("EN-RW-STANFORD", "EN-MEN-TR-3k")
    lists = {name: data.word_pairs(name) for name in asked if data.available(name)}
    repeats = 1 if quick else 3
    one = FastText(epochs=1, threads=1)
    found = training("fastText", one, texts, {}, repeats)
    found += training("fastText", replace(one, threads=2), texts, {}, repeats)
    found += training("gensim", one, texts, {}, 1)
    found.append(reading(texts, repeats))
    return found + training("fastText", replace(one, epochs=5, threads=2), texts, lists, 1)


if __name__ == "__main__":
    main("subwords", rows, __doc__)
