"""Supertokens' claim: fewer tokens for the same text than words' pieces, at one vocabulary size."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.stdlib_text import documents
from tokenspace.tokenize.supertokens import END, Supertokens
from tokenspace.tokenize.trial import tokens_per_byte
from tokenspace.vocab import Vocabulary

SIZE = 4_096
LARGE = 32_768

CLAIM = Claim(
    says="Tokens that may span words spell unseen text in a tenth fewer tokens than word pieces",
    paper="arXiv:2505.09738",
    metric="log_tokens",
    better="lower",
    baseline="byte-pair encoding of the same size inside words (GPT-2's pattern), of the same text",
    margin=10.54,
    scale="paper: 128,000 tokens learned from web text; here: 4,096 tokens learned from 4.5 MB of "
    "English novels and tested on as many others. log_tokens is 100 ln(tokens a byte), of which "
    "10.54 is a tenth fewer tokens; large: tokens a 100 bytes with up to 32,768 tokens",
    seeds=(0, 1, 2),
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Learn on some novels and return how many tokens others take; ``seed`` chooses the novels.

    ``log_tokens``: 100 ln(tokens a byte); ``tokens``: tokens a 100 bytes; ``large``: the same with
    up to 32,768 tokens, of which there were ``large_size``.
    """
    train, test = _texts(seed, smoke=smoke)
    small, large = (_learned(method, train, size, seed) for size in (SIZE, LARGE))
    share = tokens_per_byte(small, test)
    return {
        "log_tokens": 100 * math.log(share),
        "tokens": 100 * share,
        "large": 100 * tokens_per_byte(large, test),
        "large_size": float(len(large)),
    }


def _learned(method: Recipe | None, texts: Sequence[str], size: int, seed: int) -> Vocabulary:
    if method is None:
        return word_pieces(texts, size)
    return replace(cast("Supertokens", method), vocab_size=size, seed=seed)(Corpus(texts))


def word_pieces(texts: Sequence[str], size: int) -> Vocabulary:
    """Learn byte-pair encoding inside words, as GPT-2 splits them, all else as supertokens do."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=alphabet,
        special_tokens=[END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return Vocabulary.of(tokenizer)


def _texts(seed: int, *, smoke: bool) -> tuple[list[str], list[str]]:
    """Return texts to learn from and texts to test on."""
    if data.available("novels"):
        books = data.files("novels")
        chosen = [books[(seed + step) % len(books)] for step in range(2)]
        train, test = (
            gzip.decompress(path.read_bytes()).decode("utf-8").split("\n") for path in chosen
        )
    else:
        pages = (text for _, text in data.manual()) if smoke else (d.text for d in documents())
        lines = [line for page in pages for line in page.split("\n")]
        train = [line for index, line in enumerate(lines) if index // 100 % 5 != seed % 5]
        test = [line for index, line in enumerate(lines) if index // 100 % 5 == seed % 5]
    part = 100 if smoke else 1
    return train[: len(train) // part], test[: len(test) // part]
