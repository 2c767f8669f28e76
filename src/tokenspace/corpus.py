"""A corpus: texts that can be read again and again, and their stream of token ids."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import IO, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .arrays import Ids
from .errors import ConfigError, FormatError, InputError
from .jit import kernel
from .vocab import Vocabulary

__all__ = ["Corpus", "IdStream"]

Split = Literal["words", "whitespace"]
Errors = Literal["strict", "replace"]

BLOCK = 1 << 20  # characters or bytes that are held at a time
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
        The texts, as anything that can be iterated more than once.
    split
        How :meth:`encode` finds words where no tokenizer is given. ``"words"``: lower-case, then
        runs of letters (with one inner apostrophe) and runs of digits, in any script.
        ``"whitespace"``: what stands between white space, as it is, for text that was tokenised
        before.

    Raises
    ------
    InputError
        For a single string, for an iterator that can be read only once, and for an item that is
        not a string.
    """

    def __init__(self, texts: Iterable[str], *, split: Split = "words") -> None:
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
        if split not in ("words", "whitespace"):
            raise ConfigError(f"split={split!r} is not 'words' or 'whitespace'")
        if isinstance(texts, Sequence):
            texts = tuple(texts)
            for index, text in enumerate(texts):
                _check(index, text)
        self.texts = texts
        self.split = split
        self.paths: tuple[Path, ...] = ()

    @classmethod
    def load(cls, *paths: str | Path, errors: Errors = "strict", split: Split = "words") -> Self:
        """Open text files, one text a line: read in blocks whenever the corpus is iterated.

        A file may be compressed (``.gz``); of a directory, its ``.txt`` and ``.gz`` files are
        taken in the order of their names. A line longer than 1 MiB comes in several pieces.

        Raises :class:`InputError` where a path does not exist or a directory has no text file and,
        when the text is read, where a byte is not UTF-8 (unless ``errors="replace"``).
        """
        files = [file for path in paths for file in _text_files(Path(path))]
        if not files:
            raise InputError("no text file was given", hint="give .txt or .gz files")
        corpus = cls(_Lines(tuple(files), errors), split=split)
        corpus.paths = tuple(files)
        return corpus

    def __iter__(self) -> Iterator[str]:
        if isinstance(self.texts, (tuple, _Lines)):
            return iter(self.texts)
        return (_check(index, text) for index, text in enumerate(self.texts))

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

    def encode(self, vocab: Vocabulary | None = None, *, min_count: int = 1) -> IdStream:
        """Turn the texts into token ids, kept in a temporary file that is mapped into memory.

        Without ``vocab``, the words that occur at least ``min_count`` times become the vocabulary
        (most frequent first, ties by first occurrence) and the others are left out of the stream.
        With a vocabulary that has a tokenizer, the tokenizer makes the ids, without special
        tokens; with one of whole words, words that it lacks are left out. ``min_count`` then
        plays no part: every token keeps its row, with a count of zero if it never occurs.

        Raises :class:`InputError` where nothing is left.
        """
        if min_count < 1:
            raise ConfigError(f"min_count={min_count} is outside [1, inf]")
        with tempfile.TemporaryFile() as file:
            if vocab is not None and vocab.tokenizer is not None:
                ends, counts = _tokenize(self, vocab, file)
                rank = np.arange(len(vocab), dtype=np.int32)
            else:
                lexicon = _Lexicon(self.split)
                ends = lexicon.read(self, file)
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
        kept, sentences = _renumber(ids, ends, rank, LONGEST, offsets)
        ids = ids[:kept]
        ids.flags.writeable = False
        return IdStream(ids, offsets[: sentences + 1].copy(), vocab, counts)


def _check(index: int, text: object) -> str:
    if not isinstance(text, str):
        raise InputError(
            f"text {index} of the corpus is {type(text).__name__}, not str",
            hint="join the words of a text with spaces and give split='whitespace'",
        )
    return text


def _text_files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(
            file for file in path.rglob("*") if file.suffix in (".txt", ".gz") and file.is_file()
        )
        if not found:
            raise InputError(f"{path}: no text file", hint="expected .txt or .gz files")
        return found
    if not path.exists():
        raise InputError(f"{path}: no such file or directory", hint="check the path")
    return [path]


class _Lines:
    """The lines of text files, read again at each iteration, a block at a time."""

    def __init__(self, files: tuple[Path, ...], errors: Errors) -> None:
        if errors not in ("strict", "replace"):
            raise ConfigError(f"errors={errors!r} is not 'strict' or 'replace'")
        self.files = files
        self.errors = errors

    def __iter__(self) -> Iterator[str]:
        for path in self.files:
            offset = 0
            for block in _pieces(path):
                try:
                    text = block.decode("utf-8", self.errors)
                except UnicodeDecodeError as fault:
                    raise InputError(
                        f"{path}: byte {block[fault.start]:#04x} at offset {offset + fault.start}"
                        " is not UTF-8",
                        hint="convert the file, or give errors='replace'",
                    ) from fault
                offset += len(block)
                for line in text.removesuffix("\n").split("\n"):
                    yield line.removesuffix("\r")


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield a file in blocks that end at a line end, or at a space inside a very long line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            rest = b""
            while read := file.read(BLOCK):
                rest += read
                cut = rest.rfind(b"\n") + 1
                if not cut and len(rest) > BLOCK:
                    cut = max(rest.rfind(b" "), rest.rfind(b"\t")) + 1
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
            if rest:
                yield rest
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise FormatError(
            f"{path}: not a whole gzip file ({fault})", hint="the file is damaged or truncated"
        ) from fault


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


class _Lexicon:
    """Words by number in the order of their first occurrence: an open-addressing hash table.

    Word ``w`` is the characters ``letters[starts[w]:starts[w + 1]]``.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.slots = np.full(1 << 12, -1, np.int32)
        self.hashes = np.zeros(1 << 11, np.uint64)
        self.starts = np.zeros((1 << 11) + 1, np.int64)
        self.counts = np.zeros(1 << 11, np.int64)
        self.letters = np.zeros(1 << 14, np.uint32)
        self.words = 0

    def word(self, index: int) -> str:
        """Return one word as text."""
        return _text(self.letters[self.starts[index] : self.starts[index + 1]])

    def read(self, texts: Iterable[str], file: IO[bytes]) -> Ids:
        """Count the words of ``texts``, write their numbers, and return where each text ends."""
        lower = self.split == "words"
        classes = _character_classes(self.split)
        ends = [np.zeros(1, np.int64)]
        for block in _blocks(texts):
            parts = [text.lower() for text in block] if lower else block
            codes = _characters(parts)
            if lower:
                codes[codes == 0x2019] = 0x27  # the typographic apostrophe is an apostrophe
            lengths = np.cumsum([len(part) for part in parts], dtype=np.int64)
            ids, bounds = self._scan(codes, lengths, classes)
            file.write(ids.tobytes())
            ends.append(bounds + ends[-1][-1])
        return np.concatenate(ends)[1:]

    def _scan(
        self, codes: npt.NDArray[np.uint32], lengths: Ids, classes: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.int32], Ids]:
        ids = np.empty(len(codes), np.int32)
        bounds = np.zeros(len(lengths), np.int64)
        state = np.array([0, 0, 0, self.words], np.int64)  # text, character, ids, words
        while not _scan_words(
            codes, lengths, classes, self.slots, self.hashes, self.starts, self.letters,
            self.counts, ids, bounds, state,
        ):  # fmt: skip
            self._grow()
        self.words = int(state[3])
        return ids[: state[2]], bounds

    def _grow(self) -> None:
        self.slots = np.full(2 * len(self.slots), -1, np.int32)
        self.hashes, self.starts, self.letters, self.counts = (
            np.concatenate([array, np.zeros(len(array) - extra, array.dtype)])
            for array, extra in (
                (self.hashes, 0), (self.starts, 1), (self.letters, 0), (self.counts, 0),
            )
        )  # fmt: skip
        _refill(self.slots, self.hashes, self.starts)


def _characters(texts: Iterable[str]) -> npt.NDArray[np.uint32]:
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(bytearray(data), np.dtype("<u4"))


def _text(codes: npt.NDArray[np.uint32]) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


@cache
def _character_classes(split: Split) -> npt.NDArray[np.uint8]:
    """Return the class of every code point: 0 between words, 1 letter, 2 digit, 3 apostrophe."""
    points = map(chr, range(0x110000))
    if split == "whitespace":
        classes = np.fromiter((not point.isspace() for point in points), np.uint8, 0x110000)
    else:
        kinds = {"L": 1, "M": 1, "N": 2}  # a combining mark belongs to its letter
        classes = np.fromiter(
            (kinds.get(unicodedata.category(point)[0], 0) for point in points), np.uint8, 0x110000
        )
        classes[ord("'")] = 3
    return classes


@kernel()
def _word_end(
    codes: npt.NDArray[np.uint32], i: int, end: int, classes: npt.NDArray[np.uint8]
) -> int:
    """Return where the word that begins at ``i`` ends; letters may hold one apostrophe."""
    kind = classes[codes[i]]
    inner = kind != 1
    j = i + 1
    while j < end:
        if classes[codes[j]] != kind:
            if inner or classes[codes[j]] != 3 or j + 1 >= end or classes[codes[j + 1]] != 1:
                break
            inner = True
        j += 1
    return j


@kernel()
def _same(
    letters: npt.NDArray[np.uint32],
    first: int,
    last: int,
    codes: npt.NDArray[np.uint32],
    i: int,
    j: int,
) -> bool:
    """Tell whether two words have the same characters."""
    if last - first != j - i:
        return False
    k = 0
    while k < j - i and letters[first + k] == codes[i + k]:
        k += 1
    return k == j - i


@kernel()
def _scan_words(
    codes: npt.NDArray[np.uint32],
    ends: Ids,
    classes: npt.NDArray[np.uint8],
    slots: npt.NDArray[np.int32],
    hashes: npt.NDArray[np.uint64],
    starts: Ids,
    letters: npt.NDArray[np.uint32],
    counts: Ids,
    ids: npt.NDArray[np.int32],
    bounds: Ids,
    state: Ids,
) -> bool:
    """Find, number and count the words.

    Returns False, with its place kept in ``state``, when the table is full.
    """
    text, i, out, words = state[0], state[1], state[2], state[3]
    mask = np.uint64(len(slots) - 1)
    while text < len(ends):
        end = ends[text]
        while i < end:
            kind = classes[codes[i]]
            if kind in (0, 3):
                i += 1
                continue
            j = _word_end(codes, i, end, classes)
            h = np.uint64(14695981039346656037)  # FNV-1a, over characters
            for k in range(i, j):
                h = (h ^ np.uint64(codes[k])) * np.uint64(1099511628211)
            h ^= h >> np.uint64(29)
            slot = h & mask
            word = np.int64(slots[slot])
            while word >= 0:
                if hashes[word] == h and _same(
                    letters, starts[word], starts[word + 1], codes, i, j
                ):
                    break
                slot = (slot + np.uint64(1)) & mask
                word = np.int64(slots[slot])
            if word < 0:
                if words == len(hashes) or starts[words] + j - i > len(letters):
                    state[0], state[1], state[2], state[3] = text, i, out, words
                    return False
                word = words
                slots[slot] = word
                hashes[word] = h
                for k in range(j - i):
                    letters[starts[word] + k] = codes[i + k]
                starts[word + 1] = starts[word] + j - i
                words += 1
            counts[word] += 1
            ids[out] = word
            out += 1
            i = j
        bounds[text] = out
        text += 1
    state[0], state[1], state[2], state[3] = text, i, out, words
    return True


@kernel()
def _refill(slots: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint64], starts: Ids) -> None:
    """Enter every word again into a larger table."""
    mask = np.uint64(len(slots) - 1)
    word = 0
    while word < len(hashes) and starts[word + 1] > 0:
        slot = hashes[word] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = word
        word += 1


@kernel()
def _renumber(
    ids: npt.NDArray[np.int32],
    ends: Ids,
    rank: npt.NDArray[np.int32],
    longest: int,
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
        if kept > offsets[sentence]:
            sentence += 1
            offsets[sentence] = kept
    return kept, sentence
