"""A corpus: texts that can be read again and again, and their stream of token ids."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .arrays import Ids
from .errors import ConfigError, InputError
from .jit import kernel
from .lexicon import Lexicon, Split, check_split
from .text_files import BLOCK, Errors, TextFiles
from .vocab import Vocabulary

__all__ = ["Corpus", "IdStream"]

LONGEST = 10_000  # tokens; a longer sentence is split, never cut off


class IdStream(NamedTuple):
    """A corpus as token ids, with the vocabulary that the ids belong to.

    ``ids`` (N,) int32 is memory-mapped; ``offsets`` (S + 1,) int64: sentence ``i`` is
    ``ids[offsets[i]:offsets[i + 1]]``, never empty, and windows never cross an offset; ``counts``
    (V,) int64 says how often each token of ``vocab`` occurs in ``ids``.
    """

    ids: npt.NDArray[np.int32]
    offsets: Ids
    vocab: Vocabulary
    counts: Ids


class Corpus:
    """Texts, one a line of a file or one an item of a list; re-iterable, and files are streamed.

    Parameters
    ----------
    texts
        The texts, as anything that can be iterated more than once: strings, or mappings such as
        the rows of a ``datasets.Dataset``.
    split
        How :meth:`encode` finds words where no tokenizer is given. ``"words"``: lower-case, then
        runs of letters (with one inner apostrophe) and runs of digits, in any script.
        ``"whitespace"``: what stands between white space, as it is, for text that was tokenised
        before. ``"spacy"``: as spaCy's rules for the ``language`` say, lower-case, without
        punctuation.
    language
        ISO 639 code, such as ``"tr"``. For ``"spacy"`` it is needed; for ``"words"`` it tells how
        letters become small: I and İ become ı and i in Turkish (``tr``) and Azeri (``az``).
    field
        The field that is the text, where the items are mappings.

    Raises
    ------
    InputError
        For a single string, for an iterator that can be read only once, and for an item that is
        not a string.
    ConfigError
        For an unknown ``split``, and for a ``language`` that spaCy does not know.
    MissingExtra
        For ``"spacy"`` without spaCy.
    """

    def __init__(
        self,
        texts: Iterable[str] | Iterable[Mapping[str, object]],
        *,
        split: Split = "words",
        language: str = "",
        field: str = "text",
    ) -> None:
        if isinstance(texts, (str, bytes)):
            raise InputError(
                "a corpus is a list of texts, not one string", hint="write Corpus([text])"
            )
        if isinstance(texts, Iterator):
            raise InputError(
                f"a corpus is read several times, but a {type(texts).__name__} only once",
                hint="write Corpus(list(texts)), or Corpus.load(path) for files",
            )
        if not isinstance(texts, Iterable):
            raise InputError(
                f"a corpus is a list of texts, not {type(texts).__name__}",
                hint="write Corpus([text]), or Corpus.load(path) for files",
            )
        check_split(split, language)
        if isinstance(texts, Sequence):
            texts = tuple(_text(index, item, field) for index, item in enumerate(texts))
        self.texts = texts
        self.split = split
        self.language = language
        self.field = field
        self.paths: tuple[Path, ...] = ()

    @classmethod
    def load(
        cls,
        *paths: str | Path,
        errors: Errors = "strict",
        split: Split = "words",
        language: str = "",
    ) -> Self:
        """Open text files (:class:`TextFiles`), read in blocks whenever the corpus is iterated.

        One text a line; of a table, ``reviews.csv#body`` names the field that is the text. A line
        longer than 1 MiB comes in several pieces.
        """
        files = TextFiles(paths, errors)
        if not files.paths:
            raise InputError("no text file was given", hint="give files or folders of text")
        corpus = cls(files, split=split, language=language)
        corpus.paths = files.paths
        return corpus

    def __iter__(self) -> Iterator[str]:
        if isinstance(self.texts, (tuple, TextFiles)):
            return iter(self.texts)
        return (_text(index, item, self.field) for index, item in enumerate(self.texts))

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the texts and their borders: equal for equal texts."""
        digest = hashlib.blake2b(digest_size=16)
        for block in _blocks(self):
            for text in block:
                data = text.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def count(self, *, min_count: int = 1) -> dict[str, int]:
        """Return how often each word occurs, most frequent first, ties by first occurrence."""
        stream = self.encode(min_count=min_count)
        return dict(zip(stream.vocab.tokens, stream.counts.tolist(), strict=True))

    def encode(
        self, vocab: Vocabulary | None = None, *, min_count: int = 1, whole: bool = False
    ) -> IdStream:
        """Turn the texts into token ids, kept in a temporary file that is mapped into memory.

        Without ``vocab``, the words that occur at least ``min_count`` times become the vocabulary
        (most frequent first, ties by first occurrence) and the others are left out of the stream.
        With a vocabulary that has a tokenizer, the tokenizer makes the ids, without special
        tokens; with one of whole words, words that it lacks are left out. ``min_count`` then
        plays no part: every token keeps its row, with a count of zero if it never occurs.

        ``whole`` gives exactly one sentence a text, however long, and an empty one where no word
        is left.

        Raises :class:`InputError` where nothing is left.
        """
        if min_count < 1:
            raise ConfigError(f"min_count={min_count} is outside [1, inf]")
        with tempfile.TemporaryFile() as file:
            if vocab is not None and vocab.tokenizer is not None:
                ends, counts = _tokenize(self, vocab, file)
                rank = np.arange(len(vocab), dtype=np.int32)
            else:
                lexicon = Lexicon(self.split, self.language)
                ends = lexicon.read(_blocks(self), file)
                words = [lexicon.word(index) for index in range(lexicon.words)]
                if vocab is None:
                    order = np.argsort(-lexicon.counts[: lexicon.words], kind="stable")
                    order = order[lexicon.counts[order] >= min_count]
                    vocab = Vocabulary.words([words[index] for index in order])
                rank = np.array([vocab.ids.get(word, -1) for word in words], np.int32)
                counts = np.zeros(len(vocab), np.int64)
                counts[rank[rank >= 0]] = lexicon.counts[: lexicon.words][rank >= 0]
            if not counts.any():
                raise InputError(
                    f"the corpus has no word that occurs {min_count} times"
                    if min_count > 1
                    else "the corpus has no word of the vocabulary",
                    hint="give more text, or lower min_count",
                )
            file.flush()
            ids = np.asarray(np.memmap(file, np.int32, "r+"))
        offsets = np.zeros(len(ends) + len(ids) // LONGEST + 1, np.int64)
        longest = len(ids) + 1 if whole else LONGEST
        kept, sentences = _renumber(ids, ends, rank, longest, whole, offsets)
        ids = ids[:kept]
        ids.flags.writeable = False
        return IdStream(ids, offsets[: sentences + 1].copy(), vocab, counts)


def _text(index: int, item: object, field: str) -> str:
    """Return the text of an item; what has none is refused."""
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        if isinstance(text := item.get(field), str):
            return text
        raise InputError(
            f"row {index} of the corpus has no text in {field!r}; it has: {', '.join(item)}",
            hint="name the field that is the text: Corpus(rows, field=...)",
        )
    raise InputError(
        f"text {index} of the corpus is {type(item).__name__}, not str",
        hint="join the words of a text with spaces and give split='whitespace'",
    )


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gather texts into lists of about ``BLOCK`` characters."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _tokenize(corpus: Corpus, vocab: Vocabulary, file: IO[bytes]) -> tuple[Ids, Ids]:
    """Write the ids of a tokenizer to ``file``; return where each text ends, and the counts."""
    counts = np.zeros(len(vocab), np.int64)
    ends: list[int] = [0]
    for block in _blocks(corpus):
        rows = vocab.encode_batch(block)
        lengths = [len(row) for row in rows]
        ids = np.fromiter((i for row in rows for i in row), np.int32, sum(lengths))
        counts += np.bincount(ids, minlength=len(vocab))
        ends += (np.cumsum(lengths) + ends[-1]).tolist()
        file.write(ids.tobytes())
    return np.array(ends[1:], np.int64), counts


@kernel()
def _renumber(
    ids: npt.NDArray[np.int32],
    ends: Ids,
    rank: npt.NDArray[np.int32],
    longest: int,
    empties: bool,
    offsets: Ids,
) -> tuple[int, int]:
    """Replace numbers by ranks in place, drop what has none, and note where sentences begin."""
    kept = 0
    sentence = 0
    position = 0
    for text in range(len(ends)):
        while position < ends[text]:
            number = ids[position]
            position += 1
            if rank[number] >= 0:
                ids[kept] = rank[number]
                kept += 1
                if kept - offsets[sentence] == longest:
                    sentence += 1
                    offsets[sentence] = kept
        if kept > offsets[sentence] or empties:
            sentence += 1
            offsets[sentence] = kept
    return kept, sentence
