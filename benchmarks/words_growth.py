"""What word vectors cost as the vocabulary and the text grow: words a second, curve by curve.

The text is made: lines of 20 words, drawn by their rank (Zipf), every word at least once. One epoch
at the defaults (dim 100, window 5), with 5 noise words or on a Huffman tree. ``ours`` are words a
CPU second of one thread, ids already made; the note has words a second of wall time with two
threads, and those of reading the file into ids. ``--record`` also draws the curves
(docs/assets/words_growth.svg).
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness import Result, main, measure
from tokenspace import sgd
from tokenspace.corpus import Corpus, IdStream
from tokenspace.rng import stream
from tokenspace.words import CBOW, SGNS
from tokenspace.words._tree import NO_TREE, huffman
from tokenspace.words.cbow import predict_centre
from tokenspace.words.sgns import skip_gram

Trainer = SGNS | CBOW
TRAINERS = (SGNS(), SGNS(negatives=0), CBOW(), CBOW(negatives=0))
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "assets" / "words_growth.svg"
LINE, BLOCK = 20, 1_000_000


def spelled(size: int) -> np.ndarray:
    """Return words, their ranks in letters, so that frequent ones are short."""
    letters = str.maketrans("0123456789", "etaoinshrd")
    return np.array([str(rank).translate(letters) for rank in range(size)], object)


def lines(size: int, words: int) -> Iterator[str]:
    """Yield lines that use a vocabulary of ``size`` words, ``words`` in all."""
    draw, names = stream(0, "growth", size, words), spelled(size)
    once = draw.permutation(size)
    for first in range(0, words, BLOCK):
        count = min(BLOCK, words - first)
        ids = ((size + 1) ** draw.random(count)).astype(np.int64) - 1
        own = once[first * size // words : (first + count) * size // words]
        ids[draw.permutation(count)[: len(own)]] = own
        chosen = names[np.minimum(ids, size - 1)].tolist()
        for start in range(0, count, LINE):
            yield " ".join(chosen[start : start + LINE])


def train(recipe: Trainer, text: IdStream, threads: int) -> None:
    """Train for one epoch."""
    tree = NO_TREE if recipe.negatives else huffman(text.counts)
    skip = isinstance(recipe, SGNS)
    sgd.train(
        skip_gram if skip else predict_centre,
        text,
        label=recipe.name,
        dim=recipe.dim,
        epochs=1,
        sample=recipe.sample,
        lr=recipe.lr,
        threads=threads,
        seed=0,
        options=(recipe.window, recipe.negatives, *(() if skip else (True,)), *tree),
    )


def point(curve: str, size: int, words: int, folder: Path) -> Iterator[Result]:
    """Measure all trainers on one text."""
    path = folder / "text.txt"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines(size, words))
    begin = time.perf_counter()
    text = Corpus.load(path, split="whitespace").encode()
    read = words / (time.perf_counter() - begin)
    megabytes = path.stat().st_size / 1e6
    for recipe in TRAINERS:
        one, two = (measure(lambda n=n, r=recipe: train(r, text, n)) for n in (1, 2))
        tree = "" if recipe.negatives else " on a tree"
        yield Result(
            work=f"{curve}: {recipe.name}{tree}, {len(text.vocab):,} words, {megabytes:,.1f} MB",
            ours=words / one.cpu,
            peer=None,
            peer_name="",
            unit="words/CPU s",
            ratio=None,
            goal=None,
            peak_mb_ours=one.peak_mb,
            peak_mb_peer=None,
            note=f"2 threads: {words / two.wall:,.0f} words/s (wall); read: {read:,.0f} words/s",
        )


def draw(results: list[Result]) -> None:
    """Draw both curves of every trainer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, curve, label in zip(
        figure.subplots(1, 2, sharey=True), ("vocabulary", "text"), ("words", "MB"), strict=True
    ):
        series: dict[str, list[tuple[float, float]]] = {}
        for row in results:
            found = re.fullmatch(r"(\w+): (.+), ([\d,]+) words, ([\d,.]+) MB", row.work)
            if found and found[1] == curve:
                x = float(found[3 if curve == "vocabulary" else 4].replace(",", ""))
                series.setdefault(found[2], []).append((x, (row.ours or 0) / 1e6))
        for name, points in series.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(xscale="log", xlabel=f"{curve} ({label})", ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("million words / CPU s")
    figure.axes[0].legend()
    figure.savefig(PICTURE)


def rows(quick: bool) -> list[Result]:
    """Return all rows; ``quick`` takes two small points a curve."""
    sizes = (10_000, 100_000) if quick else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    fixed = 400_000 if quick else 5_000_000
    texts = (200_000, 600_000) if quick else (250_000, 2_500_000, 25_000_000, 260_000_000)
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        list(point("warm", 1_000, 20_000, Path(folder)))  # compiles
        for size in sizes:
            found += point("vocabulary", size, fixed, Path(folder))
        for words in texts:
            found += point("text", 50_000, words, Path(folder))
    if "--record" in sys.argv:
        draw(found)
    return found


if __name__ == "__main__":
    main("words_growth", rows, __doc__)
