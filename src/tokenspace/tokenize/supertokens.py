r"""Learn tokens that may span several words, by merging inside chunks of random length.

The idea
--------
The usual byte-pair encoding first splits text into words and never merges across their borders,
so that " of the" stays two tokens however often it occurs. Without any borders, merging soon
wastes the vocabulary on a few long boiler-plate strings. Supertokens lie between: the training
text is cut at random places into chunks of some ten characters, and merges stay inside a chunk.
Frequent neighbours get together often enough to be merged, and nothing longer than a chunk can.
At the end the borders are dropped: text is encoded by the merges alone.

Equations
---------
A text x of n characters is cut at c_1 < c_2 < ..., the partial sums of lengths drawn one by one::

    P(range r) = w_r / sum of all w            w: ``lengths``, r = (low, high)
    ℓ | r  ~  uniform over low, ..., high      c_i = ℓ_1 + ... + ℓ_i, until c_i ≥ n

From every chunk runs of seven equal characters, ``(.)\1{6}``, are cut out; what is left on both
sides are chunks of their own. Byte-pair encoding over the UTF-8 bytes of the chunks then merges,
again and again, the pair of neighbours that occurs most often::

    (a, b) = argmax count(a, b),    count(a, b) ≥ ``min_frequency``,    |a b| ≤ ``max_length``

until ``vocab_size`` tokens exist: one special token, the 256 bytes, and the merges.

Departures from the paper
-------------------------
- The reference inserts a separator string into the text and removes it again while splitting. Here
  the chunks themselves are handed to the trainer, as a stream: the same counts, and no string that
  the text must not hold.
- The reference's weights sum to 1.1, which its own check refuses. Weights are relative here.
- Encoding without any borders takes n log n steps in the length of a text. The saved tokenizer
  therefore cuts long texts into windows of at most ``window`` characters, at the last line end in
  the window where there is one, else before the last space; ``window=0`` saves the paper's own.

Cost
----
Nearly every chunk is a different one, so training holds the whole text, some 200 bytes a byte, and
takes about seven times as long as training on words. Encoding takes about as long as with words.

When not to use it
------------------
For vocabularies of a few thousand tokens: until the frequent words have tokens of their own, there
is little to gain by joining them. Where tokens must not cross words, as for tagging words or for
looking up word vectors. For text unlike the training text, whose phrases are other ones.

Reference
---------
Sharthak, Pahalwan, Kamath, Shirawalmath, "Achieving Tokenizer Flexibility in Language Models
through Heuristic Adaptation and Supertoken Learning", 2025, arXiv:2505.09738.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, InputError
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream
from tokenspace.vocab import Vocabulary

__all__ = ["END", "Supertokens", "chunks", "pieces"]

END = "<|endoftext|>"
_REPEATS = re.compile(r"(.)\1{6}")
_BATCH = 1 << 12  # lengths that are drawn, or chunks that are handed over, at a time


@dataclass(frozen=True, kw_only=True)
class Supertokens(Recipe):
    """Learn tokens that may span several words, by merging inside chunks of random length."""

    vocab_size: Annotated[int, Range(257, 2**21), "tokens to learn, bytes included"] = 128_000
    lengths: Annotated[str, "lengths of chunks and relative weights, LOW-HIGH:WEIGHT ..."] = (
        "4-5:44 6-7:91 8-9:146 10-11:171 12-13:185 14-15:171 16-17:146 18-19:91 20-21:44 22-23:11"
    )
    max_length: Annotated[int, Range(2, 4096), "bytes of the longest token"] = 30
    min_frequency: Annotated[int, Range(1), "how often a pair must occur to be merged"] = 2
    window: Annotated[int, Range(0), "characters encoded at once, about; 0: whole texts"] = 4096
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the chunks' lengths"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"vocab_size": 400}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.distribution()

    def distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the possible lengths of a chunk and their probabilities, (L,) each."""
        shares: dict[int, float] = {}
        for part in self.lengths.split():
            found = re.fullmatch(r"(\d{1,6})-(\d{1,6}):(\d+\.?\d*|\.\d+)", part)
            low, high, weight = found.groups() if found else ("0", "0", "0")
            if not 1 <= int(low) <= int(high) or float(weight) <= 0:
                raise ConfigError(
                    f"lengths: {part!r} is not LOW-HIGH:WEIGHT with 1 <= LOW <= HIGH, WEIGHT > 0",
                    hint="write for example lengths='4-9:1 10-15:2'",
                )
            span = range(int(low), int(high) + 1)
            for length in span:
                shares[length] = shares.get(length, 0.0) + float(weight) / len(span)
        if not shares:
            raise ConfigError("lengths is empty", hint="write for example lengths='4-9:1 10-15:2'")
        weights = np.array(list(shares.values()))
        return np.array(list(shares)), weights / weights.sum()

    def __call__(self, corpus: Corpus, /) -> Vocabulary:
        """Return the vocabulary, ``vocab_size`` tokens or fewer, with its tokenizer.

        Fewer where no pair occurs ``min_frequency`` times any more. Token 0 is the special token
        ``<|endoftext|>``. Raises :class:`InputError` where the corpus has no text.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
        from tokenizers.trainers import BpeTrainer

        if not any(text.strip() for text in corpus):
            raise InputError("the corpus has no text", hint="give texts that are not blank")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = whole
        tokenizer.decoder = decoders.ByteLevel()
        trainer = BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            max_token_length=self.max_length,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[END],
            show_progress=False,
        )
        parts = chunks(track(corpus, self.name), *self.distribution(), seed=self.seed)
        tokenizer.train_from_iterator(_batches(pieces(parts)), trainer)
        if self.window:
            # portable: \z and (?s) are spelled otherwise in other libraries' regular expressions
            some = rf"[\s\S]{{1,{self.window}}}"
            borders = Regex(rf"{some}(?:\n|(?![\s\S]))|{some}(?= )|{some}")
            windows = pre_tokenizers.Split(borders, "isolated")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([windows, whole])
        return Vocabulary.of(tokenizer, roles={"bos": END, "eos": END})


def chunks(
    texts: Iterable[str], lengths: np.ndarray, probabilities: np.ndarray, *, seed: int
) -> Iterator[str]:
    """Cut every text into pieces whose lengths are drawn from a distribution, the last one short.

    ``lengths`` and ``probabilities`` are (L,). The pieces of a text joined again are the text.
    """
    draw = stream(seed, "supertokens chunks")
    drawn: Iterator[int] = itertools.chain.from_iterable(
        draw.choice(lengths, _BATCH, p=probabilities).tolist() for _ in itertools.count()
    )
    for text in texts:
        start = 0
        while start < len(text):
            end = start + next(drawn)
            yield text[start:end]
            start = end


def pieces(parts: Iterable[str]) -> Iterator[str]:
    """Cut runs of seven equal characters out of every chunk, and yield what is left."""
    for part in parts:
        start = 0
        for run in _REPEATS.finditer(part):
            if start < run.start():
                yield part[start : run.start()]
            start = run.end()
        if start < len(part):
            yield part[start:]


def _batches(parts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(parts, _BATCH)):
        yield batch
