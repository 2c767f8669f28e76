"""Files and vocabularies: loading tables against gensim, and the rate of byte forms."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness import Result, main, pair
from tokenspace.surface import CHARACTERS
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary


def made_table(rows: int, width: int = 100) -> EmbeddingTable:
    vectors = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    return EmbeddingTable(Vocabulary.words([f"word{index}" for index in range(rows)]), vectors)


def byte_level(rows: int) -> Vocabulary:
    """Make a byte-level vocabulary of random tokens, two thirds of them beyond ASCII."""
    from tokenizers import Tokenizer, decoders, models

    generator = np.random.default_rng(0)
    tokens = {character: index for index, character in enumerate(CHARACTERS)}
    scripts = ("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуф", "ابتثجحخدذرزسشصضطظعغ")
    while len(tokens) < rows:
        letters = list(scripts[len(tokens) % 3])
        text = " " + "".join(generator.choice(letters, size=generator.integers(3, 12)))
        token = "".join(CHARACTERS[byte] for byte in text.encode())
        tokens.setdefault(token, len(tokens))
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary.of(tokenizer)


def rows(quick: bool) -> Sequence[Result]:
    try:
        from gensim.models import KeyedVectors
    except ImportError:
        KeyedVectors = None
    count, tokens = (20_000, 64_000) if quick else (100_000, 256_000)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        text, binary = Path(folder) / "t.vec", Path(folder) / "t.bin"
        for path, goal in ((text, 3.0), (binary, 1.0)):
            made_table(count).save(path)
            packed = path == binary
            peer = KeyedVectors and (
                lambda path=path, packed=packed: KeyedVectors.load_word2vec_format(
                    str(path), binary=packed
                )
            )
            results.append(
                pair(
                    f"load word2vec {'binary' if packed else 'text'}, {count:,} x 100",
                    lambda path=path: EmbeddingTable.load(path),
                    peer,
                    peer_name="gensim",
                    amount=count,
                    unit="words/CPU-s",
                    goal=goal,
                )
            )
    vocab = byte_level(tokens)

    def forms() -> None:
        for name in ("surfaces", "_keys", "_first", "_groups"):
            vars(vocab).pop(name, None)
        vocab.shared(vocab)

    results.append(
        pair(
            f"byte forms and matching of {tokens:,} tokens",
            forms,
            None,
            peer_name="none",
            amount=tokens,
            unit="tokens/CPU-s",
            goal=None,
            note="target: 256,000 tokens in 1.5 s",
        )
    )
    return results


if __name__ == "__main__":
    main("tables", rows, __doc__)
