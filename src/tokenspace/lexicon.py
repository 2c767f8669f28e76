"""Words by number: how a text is split, and every word found in it counted."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .arrays import Ids
from .errors import ConfigError, MissingExtra
from .jit import kernel

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Lexicon", "Split", "casing", "check_split", "lower", "word_tokenizer"]

Split = Literal["words", "whitespace", "spacy"]
SPLITS = ("words", "whitespace", "spacy")
DOTTED = ("tr", "az")
UNKNOWN = "[UNK]"


def check_split(split: str, language: str) -> None:
    """Refuse a way of splitting that is not known, or that a language does not have."""
    if split not in SPLITS:
        raise ConfigError(f"split={split!r} is not one of {', '.join(map(repr, SPLITS))}")
    if split == "whitespace" and language:
        raise ConfigError(
            f"language={language!r}: split='whitespace' leaves words as they are",
            hint="leave language out, or give split='words'",
        )
    if split == "spacy":
        _spacy(language)


def casing(language: str) -> tuple[tuple[str, str], ...]:
    """Return the letters that a language makes small in its own way, each with its small form."""
    return (("İ", "i"), ("I", "ı")) if language in DOTTED else ()


def lower(text: str, language: str = "") -> str:
    """Return a text in small letters, as the language has them."""
    for large, small in casing(language):
        text = text.replace(large, small)
    return text.lower()


@cache
def _spacy(language: str) -> Callable[[str], Any]:
    """Return spaCy's tokenizer of a language: its rules, without a model."""
    if not language:
        raise ConfigError("split='spacy' needs a language", hint="for example language='de'")
    try:
        import spacy
    except ImportError:
        raise MissingExtra.named("spacy", "split='spacy'") from None
    try:
        tokenizer: Callable[[str], Any] = spacy.blank(language).tokenizer
    except ImportError as fault:
        raise ConfigError(
            f"language={language!r}: spaCy cannot split it ({str(fault).splitlines()[0]})",
            hint="see https://spacy.io/usage/models#languages",
        ) from fault
    return tokenizer


def _spelled(text: str, language: str) -> str:
    """Return the words of a text that spaCy finds, with spaces between them."""
    found = (token.text for token in _spacy(language)(text))
    kept = ("".join(word.split()) for word in found if any(map(str.isalnum, word)))
    return lower(" ".join(kept), language)


def word_tokenizer(words: Sequence[str], *, split: str = "words", language: str = "") -> Tokenizer:
    """Make a tokenizer of a word list that splits text as a corpus does.

    ``split="words"``: lower case, runs of letters (one inner apostrophe) and runs of digits;
    ``"whitespace"``: what stands between white space. Ids are those of the list; one more, the
    last, stands for every unknown word. Raises :class:`ConfigError` for ``"spacy"``, whose rules a
    tokenizer's file cannot hold.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    if split == "spacy":
        raise ConfigError(
            "split='spacy': its rules cannot be saved with an encoder",
            hint="give split='words' here; the words of most languages are the same",
        )
    unknown = UNKNOWN
    while unknown in set(words):
        unknown = f"[{unknown}]"
    ids = {word: index for index, word in enumerate((*words, unknown))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    if split == "whitespace":
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [
                *(normalizers.Replace(large, small) for large, small in casing(language)),
                normalizers.Lowercase(),
                normalizers.Replace("\u2019", "'"),
            ]
        )
        letters = r"[\p{L}\p{M}]+"
        tokenizer.pre_tokenizer = pre_tokenizers.Split(
            Regex(rf"{letters}(?:'{letters})?|\p{{N}}+"), behavior="removed", invert=True
        )
    return tokenizer


class Lexicon:
    """Words by number in the order of their first occurrence: an open-addressing hash table.

    Word ``w`` is the characters ``letters[starts[w]:starts[w + 1]]``.
    """

    def __init__(self, split: Split, language: str = "") -> None:
        self.split = split
        self.language = language
        self.slots = np.full(1 << 12, -1, np.int32)
        self.hashes = np.zeros(1 << 11, np.uint64)
        self.starts = np.zeros((1 << 11) + 1, np.int64)
        self.counts = np.zeros(1 << 11, np.int64)
        self.letters = np.zeros(1 << 14, np.uint32)
        self.words = 0

    def word(self, index: int) -> str:
        """Return one word as text."""
        return _text(self.letters[self.starts[index] : self.starts[index + 1]])

    def read(self, blocks: Iterable[Sequence[str]], file: IO[bytes]) -> Ids:
        """Count the words of texts, write their numbers, and return where each text ends."""
        classes = _character_classes(self.split)
        ends = [np.zeros(1, np.int64)]
        for block in blocks:
            parts = [self._prepared(text) for text in block]
            codes = _characters(parts)
            if self.split == "words":
                codes[codes == 0x2019] = 0x27  # the typographic apostrophe is an apostrophe
            lengths = np.cumsum([len(part) for part in parts], dtype=np.int64)
            ids, bounds = self._scan(codes, lengths, classes)
            file.write(ids.tobytes())
            ends.append(bounds + ends[-1][-1])
        return np.concatenate(ends)[1:]

    def _prepared(self, text: str) -> str:
        if self.split == "words":
            return lower(text, self.language)
        return _spelled(text, self.language) if self.split == "spacy" else text

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
    if split != "words":
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
