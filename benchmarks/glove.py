"""GloVe against its authors' program: counting, training, the whole way, and the final cost.

Corpus: a quarter of the novels of TOKENSPACE_DATA (1.1 million words), or Python's own text. Both
sides take windows of 15 words, 100 dimensions, x_max 10, words that occur 5 times. The program is
built from its repository with its own Makefile (``make peers``; that needs GitHub, gcc and make);
with -Ofast, which that Makefile warns against, its training takes 0.43 of the time. It keeps all in
double precision and in files, for which it gets a temporary folder; its times and peak memory are
those of its processes. Training of ours is timed inside this process.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness import Result, Side, main, pair, run_command
from tokenspace.corpus import Corpus
from tokenspace.words._pairs import PairCounts, count_pairs
from tokenspace.words.glove import GloVe, fit
from tokenspace.words.trial import material

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / ".peers" / "glove" / "src" / "build"
PEER = "stanfordnlp/GloVe"
ABSENT = "peer absent: make peers (it needs GitHub, gcc and make)"
WINDOW, MEMORY = 15, "2"
COUNT = f"""
{PROGRAMS}/vocab_count -min-count 5 -verbose 0 < corpus.txt > vocab.txt
{PROGRAMS}/cooccur -memory {MEMORY} -vocab-file vocab.txt -verbose 0 -window-size {WINDOW} \
    < corpus.txt > pairs.bin
{PROGRAMS}/shuffle -memory {MEMORY} -verbose 0 -seed 1 < pairs.bin > shuffled.bin
"""


def train(recipe: GloVe, threads: int) -> str:
    """Return the command of the peer's training; it writes what it says into ``train.log``."""
    return (
        f"{PROGRAMS}/glove -save-file vectors -threads {threads} -input-file shuffled.bin -binary 0"
        f" -x-max {recipe.x_max:g} -iter {recipe.epochs} -vector-size {recipe.dim}"
        f" -vocab-file vocab.txt -verbose 2 -seed 1 2> train.log\n"
    )


def shell(folder: Path, commands: str) -> Side | None:
    """Return a call of these commands as one process, or None where they are not built."""
    script = f"set -e\ncd {folder}\n{commands}"
    return (lambda: run_command("bash", "-c", script)) if PROGRAMS.is_dir() else None


def counted(texts: Sequence[str]) -> PairCounts:
    stream = Corpus(texts, split="whitespace").encode(min_count=5)
    return count_pairs(stream, 1 / np.arange(1, WINDOW + 1), 1)


def costs(X: PairCounts, recipe: GloVe, folder: Path) -> Result:
    """Compare the mean cost of an entry in the last of all iterations."""
    ours = fit(X, recipe).cost
    peer, note = None, ABSENT
    if PROGRAMS.is_dir():
        script = f"cd {folder}\n{COUNT}{train(recipe, 1)}"
        subprocess.run(["bash", "-c", script], check=True, capture_output=True)
        peer = float(re.findall(r"cost: ([\d.]+)", (folder / "train.log").read_text())[-1])
        note = f"{ours / peer - 1:+.2%}, goal within 2 %"
    return Result(
        work=f"final cost, {recipe.epochs} iterations, a tenth of the text",
        ours=ours,
        peer=peer,
        peer_name=PEER,
        unit="mean of 1/2 f diff^2 (less is better)",
        ratio=ours / peer if peer else None,
        goal=None,
        peak_mb_ours=None,
        peak_mb_peer=None,
        note=note,
    )


def rows(quick: bool) -> list[Result]:
    """Return all rows; ``quick`` takes a tenth of the text and one repeat."""
    texts = material().texts
    texts = texts[: len(texts) // (40 if quick else 4)]
    repeats = 1 if quick else 3
    recipe = GloVe(x_max=10.0, epochs=3, threads=1)
    words = sum(len(text.split()) for text in texts)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        found.append(
            pair(
                "count: text to pairs that can be trained on",
                lambda: counted(texts),
                shell(folder, COUNT),
                peer_name=PEER,
                amount=words,
                unit="words/CPU s",
                goal=2.0,
                repeats=repeats,
                note="" if PROGRAMS.is_dir() else ABSENT,
            )
        )
        X = counted(texts)
        entries = fit(X, GloVe(dim=1, epochs=1)).entries
        for threads in (1, 2):
            own = GloVe(x_max=recipe.x_max, epochs=recipe.epochs, threads=threads)
            found.append(
                pair(
                    f"train: {entries / 1e6:.1f} million entries, {own.epochs} iterations, "
                    f"{threads} thread{'s' * (threads > 1)}",
                    lambda own=own: fit(X, own),
                    shell(folder, train(own, threads)),
                    peer_name=PEER,
                    amount=entries * own.epochs,
                    unit="entries/CPU s",
                    goal=2.0,
                    repeats=repeats,
                    note="" if PROGRAMS.is_dir() else ABSENT,
                )
            )
        found.append(whole(folder, recipe, words, repeats))
        tenth = texts[: len(texts) * 2 // 5]
        (folder / "corpus.txt").write_text("\n".join(tenth) + "\n", encoding="utf-8")
        found.append(costs(counted(tenth), GloVe(x_max=10.0, threads=1), folder))
    return found


def whole(folder: Path, recipe: GloVe, words: int, repeats: int) -> Result:
    """Time both from a file of text to a file of vectors, as commands."""
    command = f"""
    {ROOT}/.venv/bin/tokenspace words glove --corpus {folder}/corpus.txt --split whitespace
    --x-max {recipe.x_max} --epochs {recipe.epochs} --threads 1 --out {folder}/table --force
    """
    return pair(
        f"whole: a file of text to a file of vectors, {recipe.epochs} iterations, as commands",
        lambda: run_command(*command.split()),
        shell(folder, COUNT + train(recipe, 1)),
        peer_name=PEER,
        amount=words,
        unit="words/CPU s",
        goal=2.0,
        repeats=repeats,
        note="" if PROGRAMS.is_dir() else ABSENT,
    )


if __name__ == "__main__":
    main("glove", rows, __doc__)
