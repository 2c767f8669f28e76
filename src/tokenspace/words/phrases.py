"""Words that belong together become one word: ``New York`` is not a kind of ``York``.

Two words that follow each other far more often than chance would have it are joined, and so on with
what is joined already: each further pass makes phrases of up to twice as many words. With n_ab, how
often b follows a in one text, n_a and n_b how often they occur, and N words in all::

    score="count"    (n_ab - min_count) N / (n_a n_b)
    score="npmi"     ln( n_ab N / (n_a n_b) ) / -ln( n_ab / N )        in [-1, 1]

The first is that of Mikolov et al. 2013 (arXiv:1310.4546) and of the word2phrase program, the
second that of Bouma 2009. Each pass has a threshold of its own, which falls from pass to pass where
long phrases are wanted; what scores above it is joined, from left to right, no word twice.

What comes out is a :class:`~tokenspace.corpus.Corpus`, which any trainer takes::

    phrases = Phrases.learn(corpus, thresholds=(200, 100))
    table = SGNS()(phrases.join(corpus))
    table.nearest("new_york")
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, FormatError
from tokenspace.io import replacing
from tokenspace.jit import kernel
from tokenspace.progress import track

__all__ = ["Phrase", "Phrases"]

Score = Literal["count", "npmi"]
BLOCK = 1 << 22  # words whose pairs are counted at a time


class Phrase(NamedTuple):
    """Two words, or phrases of a pass before, that are joined; how often they met; their score."""

    left: str
    right: str
    times: int
    score: float


@dataclass(frozen=True)
class Phrases:
    """What is joined, pass by pass, best first; ``joiner`` stands between the words of a phrase."""

    passes: tuple[tuple[Phrase, ...], ...]
    joiner: str = "_"

    def __post_init__(self) -> None:
        if not self.joiner or self.joiner.split() != [self.joiner]:
            raise ConfigError(
                f"joiner={self.joiner!r} is empty or has white space", hint="give joiner='_'"
            )

    @classmethod
    def learn(
        cls,
        corpus: Corpus,
        *,
        thresholds: Sequence[float] = (100.0,),
        score: Score = "count",
        min_count: int = 5,
        joiner: str = "_",
    ) -> Self:
        """Find the phrases of a corpus.

        Parameters
        ----------
        corpus
            The texts; a phrase never reaches from one text into another.
        thresholds
            Of the scores, one a pass. About 100 for ``"count"``, 0.5 for ``"npmi"``.
        score
            How a pair is scored; see above.
        min_count
            Pairs that meet less often are no phrases; ``"count"`` also takes it from every n_ab.
        joiner
            What stands between the words of a phrase.

        Raises
        ------
        ConfigError
            For thresholds that are not finite or missing, and an unknown score.
        """
        if not thresholds or not np.isfinite(thresholds).all():
            raise ConfigError(
                f"thresholds={tuple(thresholds)}: at least one number is needed, all finite",
                hint="give one for each pass, such as thresholds=(200, 100)",
            )
        if score not in ("count", "npmi"):
            raise ConfigError(f"score={score!r} is not one of 'count', 'npmi'")
        if min_count < 1:
            raise ConfigError(f"min_count={min_count} is outside [1, inf]")
        empty, text = cls((), joiner), _Text(corpus)
        passes: list[tuple[Phrase, ...]] = []
        for threshold in thresholds:
            found = _best(text, score, min_count, threshold)
            text.join(found, empty.joiner)
            passes.append(found)
        return cls(tuple(passes), joiner)

    def join(self, corpus: Corpus) -> Corpus:
        """Return a corpus of the same texts, their words between spaces, phrases joined.

        Its words are those of ``corpus``, whichever way that splits texts.
        """
        return Corpus(_Joined(self, corpus), split="whitespace")

    def __len__(self) -> int:
        return sum(map(len, self.passes))

    def save(self, path: str | Path) -> None:
        """Write the phrases as JSON."""
        content = {"joiner": self.joiner, "passes": self.passes}
        with replacing(path) as partial:
            partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FormatError
            Where the file holds something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            passes = tuple(
                tuple(Phrase(str(a), str(b), int(n), float(s)) for a, b, n, s in found)
                for found in content["passes"]
            )
            return cls(passes, content["joiner"])
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise FormatError(
                f"{path} holds no phrases: {fault}", hint="give a file that Phrases.save wrote"
            ) from fault


class _Text:
    """Texts as numbers of words, in a temporary file; joining changes them in place."""

    def __init__(self, corpus: Corpus) -> None:
        stream = corpus.encode(whole=True)
        self.words = list(stream.vocab.tokens)
        with tempfile.TemporaryFile() as file:
            stream.ids.tofile(file)
            self.ids: npt.NDArray[np.int32] = np.memmap(file, np.int32, "r+")
        self.offsets = stream.offsets.copy()

    def join(self, found: Sequence[Phrase], joiner: str) -> None:
        """Join the pairs of one pass; those of unknown words play no part."""
        number = {word: index for index, word in enumerate(self.words)}
        size = len(self.words)
        keys, news = [], []
        for phrase in found:
            left, right = number.get(phrase.left), number.get(phrase.right)
            if left is None or right is None:
                continue
            name = phrase.left + joiner + phrase.right
            if name not in number:  # a word may be written like a phrase
                number[name] = len(self.words)
                self.words.append(name)
            keys.append(left * size + right)
            news.append(number[name])
        order = np.argsort(keys)
        pairs = np.array(keys, np.int64)[order]
        kept = _join(
            self.ids,
            self.offsets,
            np.searchsorted(pairs, size * np.arange(size + 1)),
            (pairs % size).astype(np.int32),
            np.array(news, np.int32)[order],
        )
        self.ids = self.ids[:kept]


class _Joined:
    """The joined texts, made when they are first asked for."""

    def __init__(self, phrases: Phrases, corpus: Corpus) -> None:
        self.phrases, self.corpus = phrases, corpus

    @cached_property
    def text(self) -> _Text:
        text = _Text(self.corpus)
        for found in self.phrases.passes:
            text.join(found, self.phrases.joiner)
        return text

    def __iter__(self) -> Iterator[str]:
        words, ids, offsets = self.text.words, self.text.ids, self.text.offsets
        for begin, end in pairwise(offsets.tolist()):
            yield " ".join([words[index] for index in ids[begin:end].tolist()])


def _best(text: _Text, score: Score, min_count: int, threshold: float) -> tuple[Phrase, ...]:
    """Return the pairs that score above the threshold, best first."""
    n = np.bincount(text.ids, minlength=len(text.words))
    keys, counts = _counted(text, n >= min_count)
    chosen = counts >= min_count
    keys, counts = keys[chosen], counts[chosen]
    left, right = keys // len(n), keys % len(n)
    chance = n[left].astype(np.float64) * n[right] / len(text.ids)
    if score == "count":
        scores = (counts - min_count) / chance
    else:
        with np.errstate(divide="ignore", invalid="ignore"):  # a text of nothing but one pair
            scores = np.log(counts / chance) / -np.log(counts / len(text.ids))
    order = np.flatnonzero(scores > threshold)
    order = order[np.lexsort((keys[order], -scores[order]))]
    return tuple(
        Phrase(text.words[left[i]], text.words[right[i]], int(counts[i]), float(scores[i]))
        for i in order
    )


def _counted(text: _Text, frequent: npt.NDArray[np.bool_]) -> tuple[Ids, Ids]:
    """Return the pairs of frequent words that follow each other as a V + b, and their counts."""
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    last = np.zeros(len(text.ids), np.bool_)  # of a text
    last[text.offsets[1:][np.diff(text.offsets) > 0] - 1] = True
    for first in track(range(0, len(text.ids) - 1, BLOCK), "pairs"):
        part = np.asarray(text.ids[first : first + BLOCK + 1], np.int64)
        a, b = part[:-1], part[1:]
        whole = frequent[a] & frequent[b] & ~last[first : first + len(a)]
        own, number = np.unique(a[whole] * len(frequent) + b[whole], return_counts=True)
        keys, place = np.unique(np.concatenate([keys, own]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, number])).astype(np.int64)
    return keys, counts


@kernel()
def _join(
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    begins: Ids,
    rights: npt.NDArray[np.int32],
    news: npt.NDArray[np.int32],
) -> int:
    """Replace pairs by their phrases in place, from left to right; return how many ids are left.

    The pairs of word a are those in [begins[a], begins[a + 1]), sorted by their second word.
    """
    kept = 0
    begin = offsets[0]
    for text in range(len(offsets) - 1):
        end = offsets[text + 1]
        p = begin
        while p < end:
            new = ids[p]
            if p + 1 < end:
                for at in range(begins[ids[p]], begins[ids[p] + 1]):
                    if rights[at] >= ids[p + 1]:
                        if rights[at] == ids[p + 1]:
                            new = news[at]
                            p += 1
                        break
            ids[kept] = new
            kept += 1
            p += 1
        begin = end
        offsets[text + 1] = kept
    return kept
