"""Small decoders that the claims about transplants stand on, trained once and then kept.

A :class:`Pair` is a source model, a target vocabulary with the decoder that belongs to it (the
donor), and text to judge by. Models are kept under :func:`tokenspace.data.cache_folder` in
``decoders/``, by a hash of recipe, text, tokenizer and :data:`VERSION`; what is there is never
trained again, and two processes that want the same model train it once.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tokenspace import data
from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.io import replacing
from tokenspace.lm.causal import CausalModel
from tokenspace.lm.gpt import GPT
from tokenspace.recipe import Recipe, apply, make
from tokenspace.table import EmbeddingTable
from tokenspace.tokenizer_training import byte_bpe, unigram, wordpiece
from tokenspace.vocab import Vocabulary

if TYPE_CHECKING:
    from tokenspace.nn.score import Score

__all__ = [
    "Pair",
    "continued_bits",
    "english_pair",
    "english_text",
    "floor_bits",
    "german_pair",
    "kept",
    "own_bits",
    "sample",
    "table",
    "transplanted",
    "transplanted_bits",
    "unseen_tokenizers",
    "with_rows",
]

VERSION = 1
FULL = GPT(width=96, layers=2, heads=4, context=64, batch=8, lr=3e-3, budget="2100", threads=1)
SMOKE = GPT(width=32, layers=1, heads=2, context=32, batch=4, budget="30", threads=1)
TOKENS, SMOKE_TOKENS = 2048, 400
_BLOCK = 2000  # bytes of a block of text
_EVALUATED, _SMOKE_EVALUATED = 75, 4  # blocks
_LETTERS = str.maketrans("“”‘’–—…\u00a0", "\"\"''--. ")
EXCHANGE = str.maketrans("aeioubcdfghklmnprstvw", "eiouadfgkbhmnlrpvtswc")
_KEPT = frozenset(map(chr, range(32, 127))) | frozenset("äöüÄÖÜß")

Texts = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """A source decoder, the vocabulary it is to speak, and texts.

    ``source`` and ``donor`` are model directories (:class:`CausalModel`, ``AutoModelForCausalLM``
    and ``EmbeddingTable.load`` read them; the matrices are tied). ``target`` is the donor's
    vocabulary. ``text`` are blocks of about 2,000 bytes that no model saw; ``train_text`` is text
    of the target's side to learn from.
    """

    source: Path
    donor: Path
    target: Vocabulary
    text: Texts
    train_text: Texts
    recipe: GPT


def english_pair(seed: int, smoke: bool) -> Pair:
    """Return two decoders of English novels: a byte-level BPE source and a Unigram donor.

    Source and donor have read different novels, and so have their tokenizers; the text to judge by
    is of yet others. Which novels these are goes round with the seed. ``train_text`` is the
    source's own text, so that further training shows it nothing but the other segmentation.
    """
    parts = _english(smoke)
    first, second, third = (_joined(parts, seed, places) for places in ((0, 1), (2, 3), (4,)))
    recipe, size = _recipe(seed, smoke)
    source = kept("english", recipe, first, lambda: byte_bpe(sample(first), size, start=_BOS))
    donor = kept("donor", _other(recipe), second, lambda: unigram(sample(second), size))
    return Pair(source, donor, Vocabulary.load(donor), _evaluated(third, smoke), first, recipe)


def english_text(seed: int, smoke: bool = False) -> tuple[Texts, Texts]:
    """Return what :func:`english_pair` has its source learn from, and the text to judge by."""
    parts = _english(smoke)
    return _joined(parts, seed, (0, 1)), _evaluated(_joined(parts, seed, (4,)), smoke)


def german_pair(seed: int, smoke: bool) -> Pair:
    """Return a decoder of English image captions, and one of German captions as its donor.

    Both have byte-level BPE vocabularies of their own language. Without Multi30k, the second
    language is the default text with its letters exchanged, vowels for vowels.
    """
    english, german, unread = _captions(smoke)
    recipe, size = _recipe(seed, smoke)
    source = kept("captions", recipe, english, lambda: byte_bpe(sample(english), size, start=_BOS))
    donor = kept(
        "german", _other(recipe), german, lambda: byte_bpe(sample(german), size, start=_BOS)
    )
    return Pair(source, donor, Vocabulary.load(donor), _evaluated(unread, smoke), german, recipe)


def unseen_tokenizers(seed: int, smoke: bool = False) -> dict[str, Vocabulary]:
    """Return English tokenizers that no decoder here was trained with, by name.

    ``unigram``: 1,536 tokens of the donor's novels; ``bpe``: byte-level, 2,048 tokens of the
    novels that are judged; ``wordpiece``: 2,048 tokens, cased. The last one drops spaces beside
    punctuation, so its bits per byte compare with its own only.
    """
    parts, (_, size) = _english(smoke), _recipe(seed, smoke)
    second, third = _joined(parts, seed, (2, 3)), _joined(parts, seed, (4,))
    small = size * 3 // 4
    makers: Mapping[str, Callable[[], Vocabulary]] = {
        "unigram": lambda: unigram(sample(second), small),
        "bpe": lambda: byte_bpe(sample(third), size, start=_BOS),
        "wordpiece": lambda: wordpiece(sample(second), size),
    }
    found = {}
    for name, maker in makers.items():
        key = _hash("tokenizer", name, size, _fingerprint(second), _fingerprint(third))
        with _kept(f"{name}-{key}") as (folder, there):
            if not there:
                maker().save(folder)
        found[name] = Vocabulary.load(folder)
    return found


# What is measured


@lru_cache(maxsize=8)
def table(folder: Path) -> EmbeddingTable:
    """Return the (tied) matrix of a decoder, with how often each token was in its text."""
    return replace(EmbeddingTable.load(folder), counts=np.load(folder / "counts.npy"))


@lru_cache(maxsize=4)
def _model(folder: Path) -> CausalModel:
    return CausalModel.load(folder)


def transplanted(pair: Pair, recipe: Recipe, **evidence: Any) -> EmbeddingTable:
    """Apply a transplant to the source's matrix, with ``donor`` and ``corpus`` if it asks."""
    given = {
        "source": table(pair.source),
        "target": pair.target,
        "donor": table(pair.donor),
        "corpus": Corpus(pair.train_text),
        **evidence,
    }
    result: EmbeddingTable = apply(recipe, given)
    return result


def with_rows(pair: Pair, rows: EmbeddingTable | Floats2d) -> CausalModel:
    """Return a copy of the source whose input and output rows are ``rows``, (V, d), by target id.

    Give an :class:`EmbeddingTable` or its vectors; the vocabulary becomes ``rows.vocab``, else the
    pair's target.
    """
    import torch

    vocab = rows.vocab if isinstance(rows, EmbeddingTable) else pair.target
    vectors = rows.vectors if isinstance(rows, EmbeddingTable) else rows
    network = copy.deepcopy(_model(pair.source).network)
    network.resize_token_embeddings(len(vocab), mean_resizing=False)
    with torch.no_grad():
        network.get_input_embeddings().weight.copy_(torch.from_numpy(np.array(vectors)))
    for role in ("bos", "eos", "pad"):
        setattr(network.config, f"{role}_token_id", vocab.roles.get(role))
    return CausalModel(network, vocab)


def own_bits(pair: Pair) -> Score:
    """Score the text under the source with its own tokenizer."""
    return _scored(_model(pair.source), pair)


def transplanted_bits(pair: Pair, recipe: Recipe, **evidence: Any) -> Score:
    """Score the text under the source with the rows that ``recipe`` gives; nothing is trained.

    ``.bits_per_byte`` is the figure, ``.bits`` and ``.bytes`` are those of every block, and
    ``a.minus(b)`` gives a difference with its interval.
    """
    return _scored(with_rows(pair, transplanted(pair, recipe, **evidence)), pair)


def _scored(model: CausalModel, pair: Pair) -> Score:
    from tokenspace.nn.decoder import on_threads

    with on_threads(1):
        return model.score(pair.text, context=pair.recipe.context)


def floor_bits(pair: Pair, steps: int | None = None) -> Score:
    """Score the text after training the new rows alone, from the mean: the floor of all methods.

    Body and shared rows are frozen, so this is about as low as new rows can bring it. 600 steps of
    512 tokens by default (some 20 seconds). Kept beside the models.
    """
    import torch

    from tokenspace.nn.decoder import next_token_loss, on_threads
    from tokenspace.nn.score import Score, start_token
    from tokenspace.nn.train import steps as train

    count = steps or (10 if pair.recipe.width == SMOKE.width else 600)
    key = _hash("floor", pair.source.name, pair.target.fingerprint, count, *map(_fingerprint, (
        pair.text, pair.train_text,
    )))  # fmt: skip
    with _kept(f"floor-{key}.npz") as (path, there):
        if not there:
            rows = transplanted(pair, make("mean"))
            model = with_rows(pair, rows)
            network = model.network
            fresh = pair.target.match(table(pair.source).vocab).ids < 0
            weight = network.get_input_embeddings().weight
            network.requires_grad_(False)
            weight.requires_grad_(True)
            free = torch.from_numpy(fresh.astype(np.float32))[:, None]
            weight.register_hook(lambda gradient: gradient * free)
            batches = _windows(pair, pair.target, start_token(pair.target))
            with on_threads(1):
                for _ in train(
                    network, next_token_loss(), batches, lr=5e-3, total=count,
                    warmup=min(20, count // 2), weight_decay=0.0, seed=pair.recipe.seed,
                ):  # fmt: skip
                    pass
            score = _scored(model, pair)
            with replacing(path) as partial:
                np.savez(partial, bits=score.bits, bytes=score.bytes, tokens=score.tokens)
    with np.load(path, allow_pickle=False) as saved:
        return Score(saved["bits"], saved["bytes"], saved["tokens"])


def continued_bits(
    pair: Pair,
    rows: EmbeddingTable | Floats2d,
    steps: Sequence[int] = (100, 300),
    *,
    lr: float = 1e-3,
) -> dict[int, Score]:
    """Train all weights on ``train_text`` in the target's tokens; score after each of ``steps``.

    Every start sees the same 512-token batches in the same order; the rate is constant, so that
    the earlier figures are those of a shorter run.
    """
    from tokenspace.nn.decoder import next_token_loss, on_threads
    from tokenspace.nn.score import start_token
    from tokenspace.nn.train import steps as train

    model, found = with_rows(pair, rows), {}
    batches = _windows(pair, model.vocab, start_token(model.vocab))
    ticks = train(
        model.network, next_token_loss(), batches, lr=lr, total=max(steps),
        warmup=min(10, max(steps)), decay="none", weight_decay=0.1, betas=(0.9, 0.95),
        seed=pair.recipe.seed,
    )  # fmt: skip
    with on_threads(1):
        for tick in ticks:
            if tick.step in steps:
                found[tick.step] = _scored(model, pair)
    return found


def _windows(pair: Pair, vocab: Vocabulary, start: int | None) -> Iterator[Any]:
    from tokenspace.nn.decoder import windows

    row, recipe = _row(pair.train_text, vocab), pair.recipe
    return windows(row, start, recipe.context, recipe.batch, seed=recipe.seed)


@lru_cache(maxsize=4)
def _row(texts: Texts, vocab: Vocabulary) -> npt.NDArray[np.int32]:
    from tokenspace.nn.decoder import token_row

    return token_row(texts, vocab)


# Models that are trained once

_BOS = "<|endoftext|>"


def _recipe(seed: int, smoke: bool) -> tuple[GPT, int]:
    recipe = replace(SMOKE if smoke else FULL, seed=seed)
    return recipe, SMOKE_TOKENS if smoke else TOKENS


def _other(recipe: GPT) -> GPT:
    """Return the recipe with another seed: a donor must not start from the same weights."""
    return replace(recipe, seed=recipe.seed + 1000)


def kept(name: str, recipe: GPT, texts: Texts, tokenizer: Callable[[], Vocabulary]) -> Path:
    """Return the directory of a decoder trained on ``texts``, training it if it is not there."""
    key = _hash(name, recipe.to_dict(), _fingerprint(texts), len(texts))
    with _kept(f"{name}-{key}") as (folder, there):
        if not there:
            from tokenspace.nn.decoder import token_row

            vocab = tokenizer()
            model = recipe(Corpus(texts), tokenizer=vocab)
            counts = np.bincount(token_row(texts, vocab), minlength=len(vocab))
            with replacing(folder) as partial:
                model.save(partial)
                np.save(partial / "counts.npy", counts.astype(np.int64))
    return folder


@contextmanager
def _kept(name: str) -> Iterator[tuple[Path, bool]]:
    """Give the path of something kept and whether it is there; one process at a time."""
    from filelock import FileLock  # comes with transformers

    folder = data.cache_folder() / "decoders"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if path.exists():
        yield path, True
        return
    with FileLock(folder / f".{name}.lock"):
        yield path, path.exists()


def _hash(*parts: Any) -> str:
    text = json.dumps([VERSION, *parts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=32)
def _fingerprint(texts: Texts) -> str:
    return Corpus(texts).fingerprint


# Texts


def _english(smoke: bool) -> tuple[Texts, ...]:
    return _blocks_of_parts(smoke, data.available("novels"))


@lru_cache(maxsize=2)
def _blocks_of_parts(smoke: bool, novels: bool) -> tuple[Texts, ...]:
    """Return five parts of the novels, or of the default text, in blocks of plain letters."""
    if novels and not smoke:
        return tuple(_blocks(data.books(part)) for part in range(5))
    pages = [text for _, text in data.manual()]
    if not smoke:
        from tokenspace.stdlib_text import documents

        pages = [document.text for document in documents()]
    parts = tuple(_blocks([" ".join(page.split()) for page in pages[i::5]]) for i in range(5))
    return tuple(part[:20] for part in parts) if smoke else parts


@lru_cache(maxsize=2)
def _captions(smoke: bool) -> tuple[Texts, Texts, Texts]:
    """Return captions in English and German to learn from, and German ones to judge by."""
    folder = "multilingual/multi30k/"
    if not smoke and data.available("multi30k"):
        english, german = (_blocks(data.lines(f"{folder}train.{x}.gz")) for x in ("en", "de"))
        files = [f"{folder}{name}.de.gz" for name in ("val", "test_2016_flickr")]
        return english, german, _blocks([line for file in files for line in data.lines(file)])
    parts = _english(smoke)
    german, unread = (
        tuple(text.translate(EXCHANGE) for text in texts)
        for texts in (parts[2] + parts[3], parts[4])
    )
    return parts[0] + parts[1], german, unread


def _blocks(texts: Sequence[str]) -> Texts:
    from tokenspace.nn.score import blocks

    plain = ("".join(c for c in text.translate(_LETTERS) if c in _KEPT) for text in texts)
    plain = (text for text in plain if text.strip())
    return tuple(blocks(plain, _BLOCK, " "))


def _joined(parts: Sequence[Texts], seed: int, places: Sequence[int]) -> Texts:
    return tuple(block for place in places for block in parts[(place + seed) % len(parts)])


def sample(texts: Texts) -> Texts:
    """Return about two megabytes, evenly spread: enough for a vocabulary of 2,048."""
    return texts[:: max(1, len(texts) // 1000)]


def _evaluated(texts: Texts, smoke: bool) -> Texts:
    count = min(len(texts), _SMOKE_EVALUATED if smoke else _EVALUATED)
    return tuple(texts[i * len(texts) // count] for i in range(count))
