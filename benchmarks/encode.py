"""Static text encoding against sentence-transformers' StaticEmbedding: same tokenizer, same rows.

Both sides get the directory that a fitted SIF encoder saves and the same texts. Tokenisation
takes every core on both sides, the means one thread; rates are texts a CPU second. Texts: the
novels where they are, else Python's own reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from harness import Result, main, pair
from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.encode.sif import SIF
from tokenspace.encode.static import StaticEncoder
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

WIDTH = 128
PEER = "sentence-transformers StaticEmbedding"


def texts(quick: bool) -> list[str]:
    """Return sentences; repeated where there are few."""
    count = 5_000 if quick else 40_000
    if data.available("novels"):
        return data.novels(count)
    lines = [line for _, text in data.manual() for line in text.split("\n\n") if line.strip()]
    return (lines * (count // len(lines) + 1))[:count]


def encoder(sentences: Sequence[str]) -> StaticEncoder:
    """Fit an encoder of 8,000 byte-level BPE tokens; speed does not ask what the rows mean."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator(
        sentences, trainers.BpeTrainer(vocab_size=8_000, show_progress=False)
    )
    vocab = Vocabulary.of(tokenizer)
    rows = stream(0, "rows").standard_normal((len(vocab), WIDTH), np.float32)
    return SIF()(Corpus(sentences), table=EmbeddingTable(vocab, rows))


def rows(quick: bool) -> list[Result]:
    """Measure short and long texts, and the fit."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)  # idle threads that wait for work would count as CPU seconds
    sentences = texts(quick)
    passages = [" ".join(sentences[i : i + 8]) for i in range(0, len(sentences), 8)]
    ours = encoder(sentences)
    with tempfile.TemporaryDirectory() as folder:
        ours.save(Path(folder) / "encoder")
        peer = SentenceTransformer(str(Path(folder) / "encoder"), device="cpu")
    worst = float(np.abs(ours.encode(passages[:200]) - peer.encode(passages[:200])).max())
    results = []
    for work, some in (("encode sentences", sentences), ("encode passages", passages)):
        tokens = sum(map(len, ours.vocab.encode_batch(some))) / len(some)
        for batch in (32, 1024):
            results.append(
                pair(
                    f"{work}, {tokens:.0f} tokens each, batch {batch}",
                    lambda some=some, batch=batch: ours.encode(some, batch_size=batch),
                    lambda some=some, batch=batch: peer.encode(some, batch_size=batch),
                    peer_name=PEER,
                    amount=len(some),
                    unit="texts/CPU s",
                    goal=1.0,
                    note=f"largest difference {worst:.1e}",
                )
            )
    table = EmbeddingTable(ours.vocab, ours.vectors)
    results.append(
        pair(
            "fit sif on the sentences",
            lambda: SIF()(Corpus(sentences), table=table),
            None,
            peer_name="",
            amount=len(sentences),
            unit="texts/CPU s",
            goal=None,
            note="no peer: two passes of tokenisation and a mean",
        )
    )
    return results


if __name__ == "__main__":
    main("encode", rows, __doc__)
