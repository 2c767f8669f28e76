"""Compare two tokenizers: what they share, what text costs in each, and what each does to it.

:func:`compare` gives everything as plain data; nothing is told by the name of a class, all by
what the tokenizers do to text.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from .arrays import Ids
from .errors import InputError
from .vocab import LEVELS, Match, Vocabulary

__all__ = [
    "Comparison",
    "Cost",
    "Level",
    "Numerals",
    "RoundTrip",
    "Sample",
    "Side",
    "compare",
    "default_text",
    "numerals",
    "open_vocabulary",
    "pieces",
    "raw_matches",
    "readable",
    "round_trip",
]

LONGEST = 16  # bytes; tokens as long or longer are one column of the histogram
SHOWN = 6  # examples of a level, samples of the text
_BLOCK = 1000  # texts that are encoded at a time
_DEFAULT = 200_000  # characters of the default text

ROUGH = (
    "  two  spaces  ",
    "tab\there",
    "one line\nanother",
    "CamelCase ÄÖÜ Straße",
    "ﬁne ① ㍍ １２",
    "e\u0301 n\u0303",
    "日本語 العربية हिन्दी",
    "🙂 👩‍🚀",
    "def f(x):\n    return x[-1] != 'a'",
)
"""What normalisers, pre-tokenizers and decoders are known to change."""


@dataclass(frozen=True)
class Numerals:
    """How a tokenizer cuts numbers.

    ``policy`` is ``single`` (every digit is a token), ``groups`` (cuts at every ``width`` digits,
    counted from ``side``), ``free`` (cuts that depend on the digits) or ``lost`` (some digits do
    not come back). ``width`` is the most digits in one token.
    """

    policy: str
    width: int
    side: str
    example: tuple[str, ...]

    def __str__(self) -> str:
        says = {
            "single": "single digits",
            "groups": f"groups of at most {self.width} digits, from the {self.side}",
            "free": f"free, up to {self.width} digits in a token",
            "lost": "some digits are lost",
        }
        return says[self.policy]

    def agrees(self, other: Numerals) -> bool:
        """Tell whether a number is cut in the same manner by both; free cuts never certainly."""
        if self.policy != "groups":
            return self.policy == other.policy
        return (self.policy, self.width, self.side) == (other.policy, other.width, other.side)


@dataclass(frozen=True)
class RoundTrip:
    """Whether texts come back: ``restored`` of ``texts``, and a text that did not.

    ``spaced`` more come back with a space before them. ``normalizers`` are the names of the
    normalisers that change text for good.
    """

    texts: int
    restored: int
    spaced: int
    normalizers: tuple[str, ...]
    given: str = ""
    returned: str = ""


@dataclass(frozen=True)
class Cost:
    """What a text costs: ``histogram[i]`` tokens of i + 1 bytes, the last one of more as well."""

    tokens: int
    unknown: int
    fertility: float
    bytes_per_token: float
    tokens_per_byte: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Side:
    """One of the two tokenizers. ``ghosts`` have no row, ``holes`` are rows without a token."""

    name: str
    kind: str
    ids: int
    tokens: int
    specials: int
    holes: int
    ghosts: int
    numerals: Numerals
    round_trip: RoundTrip
    cost: Cost


@dataclass(frozen=True)
class Level:
    """How many tokens of A a level matches in B, of those that no level before it matched.

    ``reverse`` and ``reverse_total`` are the same for tokens of B in A; ``examples`` are pairs of
    tokens, as :func:`readable` writes them.
    """

    level: str
    count: int
    total: int
    reverse: int
    reverse_total: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sample:
    """A text as the tokens of both."""

    text: str
    a: tuple[str, ...]
    b: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that :func:`compare` found; ``asdict`` makes plain data of it."""

    a: Side
    b: Side
    text: dict[str, int]
    levels: tuple[Level, ...]
    raw: dict[str, int]
    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = field(default=())


def open_vocabulary(name: str) -> Vocabulary:
    """Open a tokenizer: a file, a directory, a model's directory, a package or a hub id.

    The vocabulary of a model's directory is as long as its embedding matrix is high, so that
    padding rows and tokens without a row show.
    """
    from .checkpoint import Checkpoint
    from .runner import located

    place = Path(located(Vocabulary, str(Path(name).expanduser())))
    if place.is_dir() and (place / "config.json").is_file() and any(place.glob("*.safetensors*")):
        return Checkpoint.open(str(place)).vocab
    return Vocabulary.load(place)


def default_text() -> list[str]:
    """Return a sample of Python's language reference, which every installation carries."""
    from .data import manual

    texts, size = [], 0
    for _, text in manual():
        texts.append(text)
        size += len(text)
        if size > _DEFAULT:
            break
    return texts


def compare(
    a: Vocabulary, b: Vocabulary, texts: Iterable[str], *, names: tuple[str, str] = ("A", "B")
) -> Comparison:
    """Compare two vocabularies, and what each makes of ``texts``, which are read once.

    Raises :class:`InputError` where the texts hold no word or one of the vocabularies no token.
    """
    for name, vocab in zip(names, (a, b), strict=True):
        if len(vocab.holes) == len(vocab):
            raise InputError(f"{name}: no token in it", hint="give a tokenizer that has tokens")
    counts = tuple(np.zeros(len(vocab), np.int64) for vocab in (a, b))
    size, words, count = 0, 0, 0
    chosen: list[str] = []
    for block in _blocks(texts):
        for vocab, seen in zip((a, b), counts, strict=True):
            ids = itertools.chain.from_iterable(vocab.encode_batch(block))
            seen[:] += np.bincount(np.fromiter(ids, np.int64), minlength=len(vocab))
        size += sum(len(text.encode("utf-8", "surrogatepass")) for text in block)
        words += sum(len(text.split()) for text in block)
        count += len(block)
        if len(chosen) < 4 * SHOWN:
            chosen += _lines(block)
    if not words:
        raise InputError("the text has no word", hint="give a text to compare on")
    sides = [
        _side(name, vocab, _cost(vocab, seen, size, words), [*ROUGH, *chosen[:100]])
        for name, vocab, seen in zip(names, (a, b), counts, strict=True)
    ]
    lines = ["In 2024, 1234567 + 89 = 1234656.", *chosen[:: max(1, len(chosen) // SHOWN)][:SHOWN]]
    levels = _levels(a, b)
    return Comparison(
        a=sides[0],
        b=sides[1],
        text={"texts": count, "words": words, "bytes": size},
        levels=levels,
        raw=raw_matches(a, b),
        samples=tuple(Sample(line, pieces(a, line), pieces(b, line)) for line in lines),
        warnings=tuple(_warnings(sides[0], sides[1], levels)),
    )


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    source = iter(texts)
    while block := list(itertools.islice(source, _BLOCK)):
        yield block


def _lines(block: Sequence[str]) -> list[str]:
    """Return lines that fit a terminal, cut before a word where they are too long."""
    lines = []
    for text in block:
        for line in text.split("\n"):
            if len(line.split()) > 3:
                whole = line.strip()
                lines.append(whole if len(whole) <= 72 else whole[:72].rpartition(" ")[0])
    return [line for line in lines if line]


def _side(name: str, vocab: Vocabulary, cost: Cost, texts: Sequence[str]) -> Side:
    return Side(
        name=name,
        kind=vocab.kind,
        ids=len(vocab),
        tokens=len(vocab) - len(vocab.holes),
        specials=len(vocab.specials),
        holes=len(vocab.holes),
        ghosts=len(vocab.ghosts),
        numerals=numerals(vocab),
        round_trip=round_trip(vocab, texts),
        cost=cost,
    )


def _cost(vocab: Vocabulary, counts: Ids, size: int, words: int) -> Cost:
    lengths = np.array([len(form) for form in vocab.surfaces], np.int64)
    plain = np.ones(len(vocab), bool)
    plain[[*vocab.specials]] = False
    columns = np.clip(lengths[plain], 1, LONGEST) - 1
    histogram = np.bincount(columns, counts[plain], LONGEST).astype(np.int64)
    unknown = vocab.roles.get("unk")
    tokens = int(counts.sum())
    return Cost(
        tokens=tokens,
        unknown=0 if unknown is None else int(counts[unknown]),
        fertility=tokens / words,
        bytes_per_token=size / max(1, tokens),
        tokens_per_byte=tokens / size,
        histogram=tuple(histogram.tolist()),
    )


def _levels(a: Vocabulary, b: Vocabulary) -> tuple[Level, ...]:
    ours, theirs = a.match(b, LEVELS), b.match(a, LEVELS)
    total = np.zeros(2, np.int64)
    found = []
    for level in LEVELS:
        matched = ours.at(level)
        count = np.array([len(matched), len(theirs.at(level))])
        total += count
        examples = _spread(matched, SHOWN)
        found.append(
            Level(
                level=level,
                count=int(count[0]),
                total=int(total[0]),
                reverse=int(count[1]),
                reverse_total=int(total[1]),
                examples=_pairs(a, b, ours, examples),
            )
        )
    return tuple(found)


def _pairs(a: Vocabulary, b: Vocabulary, match: Match, ids: Ids) -> tuple[tuple[str, str], ...]:
    return tuple((readable(a, i), readable(b, int(match.ids[i]))) for i in ids.tolist())


def _spread(ids: npt.NDArray[np.int64], count: int) -> Ids:
    """Return ``count`` of the ids, evenly spaced, neither the first nor the last of all."""
    if len(ids) <= count:
        return ids
    return ids[((np.arange(count) + 0.5) * len(ids) / count).astype(np.int64)]


def raw_matches(a: Vocabulary, b: Vocabulary) -> dict[str, int]:
    """Return how many token strings agree, as they are and with one mark for a word's start.

    The latter takes ``Ġ`` for ``▁``. It is what matching by strings can do at best, and it misses
    every token beyond ASCII where one side is byte-level.
    """
    plain = set(a.tokens) & set(b.tokens) - {""}
    marked = [{token.replace("Ġ", "▁") for token in vocab.tokens if token} for vocab in (a, b)]
    return {"strings": len(plain), "marked": len(marked[0] & marked[1])}


# Numbers


def _numbers() -> list[str]:
    """Return numbers of 1 to 12 digits, round ones and years among them."""
    found = [str(year) for year in (1066, 1900, 1990, 1999, 2000, 2010, 2024)]
    for length in range(1, 13):
        rows = ("123456789012", "987654321098", "100000000000", "314159265358", "271828182845")
        found += [row[:length] for row in rows]
    return list(dict.fromkeys(found))


def numerals(vocab: Vocabulary) -> Numerals:
    """Tell by encoding numbers how they are cut, alone and inside a text."""
    cuts: list[tuple[int, ...]] = []
    lost = False
    for number in _numbers():
        for text in (number, f"in {number}"):
            forms = [_digits(vocab.surface(index)) for index in vocab.encode(text)]
            lost |= "".join(forms) != number
            cuts.append(tuple(len(form) for form in forms if form))
    width = max((length for cut in cuts for length in cut), default=0)
    shown = tuple(_digits(vocab.surface(index)) for index in vocab.encode("1234567"))
    example = tuple(filter(None, shown))
    if lost:
        return Numerals("lost", width, "", example)
    if width == 1:
        return Numerals("single", 1, "left", example)
    for side, step in (("left", 1), ("right", -1)):
        if all(_cut_every(width, cut[::step]) for cut in cuts):
            return Numerals("groups", width, side, example)
    return Numerals("free", width, "", example)


def _cut_every(width: int, lengths: Sequence[int]) -> bool:
    """Tell whether some token ends at every multiple of ``width``; more cuts may lie between."""
    ends = set(itertools.accumulate(lengths))
    return all(place in ends for place in range(width, sum(lengths), width))


def _digits(form: bytes) -> str:
    return "".join(chr(byte) for byte in form if 48 <= byte < 58)


# Text there and back


def round_trip(vocab: Vocabulary, texts: Sequence[str]) -> RoundTrip:
    """Decode what was encoded, and tell which texts come back as they were."""
    restored, spaced = 0, 0
    first = ("", "")
    for text, ids in zip(texts, vocab.encode_batch(texts), strict=True):
        returned = _decode(vocab, ids)
        restored += returned == text
        spaced += returned == " " + text
        if returned not in (text, " " + text) and not first[0]:
            first = (text, returned)
    return RoundTrip(len(texts), restored, spaced, tuple(_lossy(vocab)), *first)


def _decode(vocab: Vocabulary, ids: Sequence[int]) -> str:
    if vocab.tokenizer is None:
        return " ".join(vocab.tokens[index] for index in ids)
    return str(vocab.tokenizer.decode(ids, skip_special_tokens=False))


def _lossy(vocab: Vocabulary) -> Iterator[str]:
    """Yield the normalisers that cannot be undone; marks for spaces can."""
    normalizer = None if vocab.tokenizer is None else vocab.tokenizer.normalizer
    if normalizer is None:
        return
    content = json.loads(normalizer.__getstate__())
    parts = content.get("normalizers", [content]) if isinstance(content, dict) else []
    for part in parts:
        sides = {str((part.get("pattern") or {}).get("String")), str(part.get("content"))}
        marks = part.get("type") == "Replace" and sides == {" ", "▁"}
        if part.get("type") not in ("Prepend", "ByteLevel", None) and not marks:
            yield str(part["type"])


def pieces(vocab: Vocabulary, text: str) -> tuple[str, ...]:
    """Return the tokens of a text as :func:`readable` writes them."""
    return tuple(readable(vocab, index) for index in vocab.encode(text))


def readable(vocab: Vocabulary, index: int) -> str:
    """Return a token as people can read it: its bytes as text, spaces included.

    Bytes that are no characters on their own are written in hexadecimal.
    """
    return vocab.surface(index).decode("utf-8", "backslashreplace")


def _warnings(a: Side, b: Side, levels: Sequence[Level]) -> Iterator[str]:
    if not a.numerals.agrees(b.numerals):
        yield (
            f"numbers are cut differently ({a.name}: {a.numerals}; {b.name}: {b.numerals}): rows"
            " that are copied for digits then mean other things, the main cause of lost arithmetic"
            " after a transplant"
        )
    if not levels[0].count:
        yield "no token has the same bytes in both: nothing can be copied"
    for side in (a, b):
        trip = side.round_trip
        if trip.spaced:
            yield f"{side.name} puts a space before a text"
        if trip.restored + trip.spaced < trip.texts:
            why = f" (normalisers: {', '.join(trip.normalizers)})" if trip.normalizers else ""
            alike = normalize("NFC", trip.given) == normalize("NFC", trip.returned)
            given, returned = map(ascii if alike else repr, (trip.given, trip.returned))
            yield (
                f"{side.name} does not give every text back{why}: {given} comes back as {returned}"
            )
        if side.cost.unknown:
            yield f"{side.name} takes {side.cost.unknown} parts of the text as unknown"
        if side.kind == "words":
            yield f"{side.name} is a list of words: words that it lacks are not counted"
