"""Public one-file formats of word vectors: word2vec text and binary, GloVe, fastText, floret.

What a file is, is told by its content. Readers give words, a (V, D) float32 matrix and maybe
counts; nothing is allocated before the size that a header promises was compared with the file.
"""

from __future__ import annotations

import gzip
import io
import logging
import mmap
import re
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import FormatError, InputError
from .subwords import LONGEST, SEED, Subwords

__all__ = [
    "WordVectors",
    "holds_vectors",
    "read",
    "write_binary",
    "write_fasttext",
    "write_floret",
    "write_text",
]

log = logging.getLogger(__name__)

_FASTTEXT = struct.pack("<i", 793712314)
_HEADER = re.compile(rb"(\d{1,18})[ \t]+(\d{1,18})[ \t]*\r?\n")
_FLORET = re.compile(rb"(\d{1,10}) (\d{1,9}) (\d{1,9}) (\d{1,9}) ([1-4]) (\d+) (\S+) (\S+)\r?\n")
_BLOCK = 1 << 24
_ROWS = 1 << 14  # rows that are converted at a time
_LONGEST_WORD = 1 << 16  # bytes of a word in a fastText model
_TRAINED = (5, 5, 1, 5, 1, 2, 2)  # ws, epoch, minCount, neg, wordNgrams, loss ns, model sg
_REFUSED = (
    (b"PK\x03\x04", "a zip or PyTorch archive", "unpack it, or save the vectors as safetensors"),
    (b"\x89HDF", "an HDF5 file", "write the vectors as word2vec text"),
    (b"\x93NUMPY", "a bare array without words", "load it with numpy and make an EmbeddingTable"),
    (
        b"\x80",
        "a pickle, which could run code",
        'in gensim: KeyedVectors.load(p).save_word2vec_format("vectors.txt")',
    ),
)


class WordVectors(NamedTuple):
    """Words, their vectors (V, D) float32, and where the file has them counts and n-grams."""

    words: list[str]
    vectors: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64] | None = None
    subwords: Subwords | None = None


def read(path: Path) -> WordVectors:
    """Read a file of word vectors in any of the formats.

    Repeated words keep their first vector, and a header's wrong count gives way to the true one;
    both are logged. Raises :class:`FormatError` for everything that is none of the formats.
    """
    with _opened(path) as file:
        head = file.read(1 << 16)
        if not head.strip():
            raise FormatError(f"{path}: empty", hint="write one word and its vector a line")
        for magic, what, hint in _REFUSED:
            if head.startswith(magic):
                raise FormatError(f"{path}: {what}", hint=hint)
        if head.startswith(_FASTTEXT):
            return _once(_read_fasttext(path), path)
        promised = _HEADER.match(head)
        if promised and not _is_text(head[promised.end() :], int(promised[2])):
            rows, width = int(promised[1]), int(promised[2])
            return _once(_read_binary(path, promised.end(), rows, width), path)
        file.seek(0)
        if _FLORET.match(head):
            return _read_floret(file, path)
        return _once(_read_text(file, path, promised is not None), path)


def holds_vectors(path: Path) -> bool:
    """Say whether a file looks like word vectors: by its header, or by numbers after a word."""
    with _opened(path) as file:
        head = file.read(1 << 12)
    if head.startswith(_FASTTEXT) or _HEADER.match(head):
        return True
    fields = head.split(b"\n", 1)[0].split()
    number = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
    return len(fields) > 3 and all(number.fullmatch(field) for field in fields[1:-1])


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, through gzip when it is gzip; damage in the middle is a format error."""
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        try:
            if packed:
                with gzip.open(plain) as file:
                    yield io.BufferedReader(file, _BLOCK)
            else:
                yield plain
        except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
            raise FormatError(
                f"{path}: a damaged gzip file ({fault})", hint="it is truncated: get it again"
            ) from fault


def _once(found: WordVectors, path: Path) -> WordVectors:
    first = {word: index for index, word in reversed(list(enumerate(found.words)))}
    if len(first) == len(found.words):
        return found
    keep = np.sort(np.fromiter(first.values(), np.int64, len(first)))
    log.warning("%s: %d repeated words, first kept", path, len(found.words) - len(keep))
    counts = None if found.counts is None else found.counts[keep]
    words = [found.words[i] for i in keep]
    return WordVectors(words, found.vectors[keep], counts, found.subwords)


# Text


def _is_text(rest: bytes, width: int) -> bool:
    """Tell whether the first line after a header is a word and ``width`` numbers."""
    fields = rest.partition(b"\n")[0].rsplit(None, width)[1:]
    return not rest.strip() or (bool(fields) and all(map(_is_number, fields)))


def _read_text(file: IO[bytes], path: Path, header: bool) -> WordVectors:
    promised, width, number = 0, 0, 0
    words: list[str] = []
    table = np.zeros((0, 0), np.float32)
    if header:
        promised, width = (int(field) for field in file.readline().split())
        number = 1
    while lines := file.readlines(_BLOCK):
        width = width or _width(lines[:100], path)
        start = len(words)
        block = _parse_lines(lines, width, path, number, words)
        if len(words) > len(table):  # grows in place, so that a table is never held twice
            table.resize((max(len(words), 3 * len(table) // 2), width), refcheck=False)
        table[start : len(words)] = block
        number += len(lines)
    table.resize((len(words), width), refcheck=False)
    if not words:
        raise FormatError(f"{path}: no vectors in it", hint="write one word and its vector a line")
    if header and promised != len(words):
        log.warning("%s: the header promises %d words, there are %d", path, promised, len(words))
    return WordVectors(words, table)


def _width(lines: Sequence[bytes], path: Path) -> int:
    """Return the number of values a line: how many numbers most lines end in.

    A word may hold spaces, so the number of fields does not tell.
    """
    runs: Counter[int] = Counter()
    for line in lines:
        numbers = takewhile(_is_number, reversed(line.split()[1:]))
        if line.strip():
            runs[sum(1 for _ in numbers)] += 1
    width = max(runs, key=lambda run: (runs[run], run), default=0)
    if width < 1:
        raise FormatError(
            f"{path}: line 1 is not a word and its vector",
            hint="known: word2vec text and binary, GloVe text, fastText .vec and .bin",
        )
    return width


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _parse_lines(
    lines: list[bytes], width: int, path: Path, number: int, words: list[str]
) -> npt.NDArray[np.float32]:
    """Append the words of ``lines`` and return their vectors, (lines, width)."""
    texts, values, places = [], [], []
    for place, line in enumerate(lines, number + 1):
        body = line.strip(b" \t\r\n")
        if body.count(b" ") == width and b"\t" not in body:
            word, _, rest = body.partition(b" ")
        elif not body:
            continue
        else:  # a word with spaces, doubled or mixed separators: the vector is at the right
            word, *fields = body.rsplit(None, width)
            rest = b" ".join(fields)
            if len(fields) < width:
                raise _bad_line(path, place, width)
        texts.append(word)
        values.append(rest)
        places.append(place)
    try:
        words += b"\n".join(texts).decode().split("\n") if texts else []
    except UnicodeDecodeError as fault:
        place = places[b"\n".join(texts).count(b"\n", 0, fault.start)]
        raise FormatError(
            f"{path}: the word in line {place} is not UTF-8", hint="convert the file to UTF-8"
        ) from fault
    parsed = _numbers(b" ".join(values))
    if parsed.size != len(values) * width:
        for place, rest in zip(places, values, strict=True):
            if _numbers(rest).size != width:
                raise _bad_line(path, place, width)
    return parsed.reshape(len(values), width)


def _numbers(text: bytes) -> npt.NDArray[np.float32]:
    """Parse numbers separated by spaces, up to the first that is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return np.fromstring(text, np.float32, sep=" ")
        except ValueError:
            return np.zeros(0, np.float32)


def _bad_line(path: Path, place: int, width: int) -> FormatError:
    return FormatError(
        f"{path}: line {place} is not a word and {width} numbers",
        hint="the file is damaged or truncated: get it again",
    )


def write_text(
    path: Path, words: Sequence[str], vectors: npt.NDArray[np.float32], *, packed: bool
) -> None:
    """Write word2vec text with its header; nine digits keep every float32 exactly."""
    for word in words:
        if not word or word != word.strip() or "\n" in word:
            raise InputError(
                f"{path}: the token {word!r} does not fit a line of text",
                hint="save to a name without a suffix",
            )
    row = " ".join(["%.9g"] * vectors.shape[1])
    with gzip.open(path, "wb", 6) if packed else path.open("wb") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
        for word, vector in zip(words, vectors, strict=True):
            file.write(f"{word} {row % tuple(vector.tolist())}\n".encode())


# Binary


@contextmanager
def _bytes_of(path: Path) -> Iterator[bytes | mmap.mmap]:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield view
            return
    with _opened(path) as unpacked:
        yield unpacked.read()


def _read_binary(path: Path, start: int, rows: int, width: int) -> WordVectors:
    step = 4 * width
    words: list[str] = []
    with _bytes_of(path) as data:
        if rows < 1 or width < 1 or start + rows * (step + 2) > len(data):
            raise FormatError(
                f"{path}: {rows} words of {width} numbers do not fit its {len(data)} bytes",
                hint="the file is truncated, or not a table of vectors: get it again",
            )
        vectors = np.empty((rows, width), np.float32)
        place = start
        for row in range(rows):
            space = data.find(b" ", place)
            if space < 0 or space + 1 + step > len(data):
                raise FormatError(
                    f"{path}: ends in word {row + 1} of {rows}",
                    hint="the file is truncated: get it again",
                )
            try:
                words.append(data[place:space].lstrip(b"\n").decode())
            except UnicodeDecodeError as fault:
                raise FormatError(
                    f"{path}: word {row + 1} is not UTF-8", hint="is it a word2vec binary?"
                ) from fault
            place = space + 1 + step
            vectors[row] = np.frombuffer(data[space + 1 : place], "<f4")
    return WordVectors(words, vectors)


def write_binary(path: Path, words: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
    """Write word2vec binary: a header, then every word, a space and its float32 values."""
    for word in words:
        if not word or " " in word or word.startswith("\n"):
            raise InputError(
                f"{path}: the token {word!r} does not fit word2vec binary",
                hint="save to a name without a suffix",
            )
    with path.open("wb") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
        for word, vector in zip(words, vectors, strict=True):
            file.write(word.encode() + b" " + vector.astype("<f4").tobytes() + b"\n")


# fastText


def _read_fasttext(path: Path) -> WordVectors:
    """Read fastText's binary model: the vector of a word is the mean of its and its n-grams' rows.

    Layout, little-endian: magic, version, 12 int32 arguments, float64 t; three int32 and two
    int64 sizes; words (bytes, 0, int64 count, int8 type); a flag and the matrix.
    """
    with _bytes_of(path) as data:
        try:
            version, width = struct.unpack_from("<2i", data, 4)
            bucket, minn, maxn = struct.unpack_from("<3i", data, 40)
            size, nwords, _, _, pruned = struct.unpack_from("<3i2q", data, 64)
            words: list[bytes] = []
            counts: list[int] = []
            place = 92
            for _ in range(size):
                end = data.find(b"\0", place, place + _LONGEST_WORD)
                if end < 0:
                    raise struct.error("a word without its end")
                count, kind = struct.unpack_from("<qb", data, end + 1)
                if kind == 0:
                    words.append(data[place:end])
                    counts.append(count)
                place = end + 10
            quantized, rows, columns = struct.unpack_from("<?2q", data, place)
        except struct.error as fault:
            raise FormatError(
                f"{path}: the fastText dictionary ends early", hint="truncated: get it again"
            ) from fault
        place += 17
        if version not in (11, 12) or quantized or pruned >= 0:
            what = "quantized" if quantized or pruned >= 0 else f"of version {version}"
            raise FormatError(
                f"{path}: a fastText model that is {what}", hint="give the unquantized .bin model"
            )
        minn = max(minn, 1)
        grams = bucket if minn <= maxn else 0
        wrong = columns != width or not 0 < len(words) == nwords or rows < nwords + grams
        wrong = wrong or width < 1 or (minn <= maxn and bucket < 1)
        if wrong or place + 4 * rows * columns > len(data):
            raise FormatError(
                f"{path}: {rows} rows of {columns} numbers do not fit its {len(data)} bytes",
                hint="the file is damaged or truncated: get it again",
            )
        if maxn > LONGEST:
            raise FormatError(
                f"{path}: n-grams of up to {maxn} characters",
                hint=f"models with up to {LONGEST} are read; is the file damaged?",
            )
        matrix = np.frombuffer(data, "<f4", rows * columns, place).reshape(rows, columns)
        vectors = matrix[:nwords].copy()
        subwords = Subwords(matrix[nwords : nwords + grams], minn, maxn) if grams else None
        if subwords:
            vectors /= 1 + subwords.add_to(vectors, words)[:, None]
            if isinstance(data, mmap.mmap):  # that view must go before the file is closed
                place += 4 * nwords * width
                rows = np.memmap(path, "<f4", "r", place, (grams, width))
                subwords = Subwords(rows, minn, maxn)
        del matrix
    try:
        texts = [word.decode() for word in words]
    except UnicodeDecodeError as fault:
        raise FormatError(f"{path}: a word is not UTF-8 ({fault})", hint="train again") from fault
    return WordVectors(texts, vectors, np.asarray(counts, np.int64), subwords)


def write_fasttext(
    path: Path,
    words: Sequence[str],
    vectors: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    subwords: Subwords,
) -> None:
    """Write fastText's binary model, which its program and gensim read.

    A word's own row is what its vector, the mean, has beyond the rows of its n-grams. Buckets
    without a row, and the output matrix, are zeros; on most file systems they take no space.
    Words that never occur are given a count of 1, since gensim leaves out those of 0.
    """
    buckets = subwords.buckets or 0
    if subwords.hashes or not buckets:
        raise InputError(
            f"{path}: fastText's .bin has rows for buckets of n-grams, not for "
            + ("a compact table" if subwords.hashes else "each n-gram"),
            hint="save to .floret" if subwords.hashes else "save to a name without a suffix",
        )
    texts = [word.encode("utf-8", "surrogatepass") for word in words]
    bad = next((w for w, text in zip(words, texts, strict=True) if b"\0" in text), None)
    if bad is not None or not words:
        raise InputError(
            f"{path}: {'no words' if bad is None else repr(bad)} for a fastText model",
            hint="save to a name without a suffix",
        )
    counts = np.maximum(counts, 1)
    width = vectors.shape[1]
    with path.open("wb") as file:
        file.write(_FASTTEXT + struct.pack("<i", 12))
        file.write(struct.pack("<12id", width, *_TRAINED, buckets, subwords.minn, subwords.maxn,
                               100, 1e-4))  # fmt: skip
        file.write(struct.pack("<3i2q", len(words), len(words), 0, int(counts.sum()), -1))
        for text, count in zip(texts, counts.tolist(), strict=True):
            file.write(text + b"\0" + struct.pack("<qb", count, 0))
        file.write(struct.pack("<?2q", False, len(words) + buckets, width))
        for start in range(0, len(words), _ROWS):
            block = texts[start : start + _ROWS]
            grams = np.zeros((len(block), width), np.float32)
            used = subwords.add_to(grams, block)
            own = vectors[start : start + _ROWS] * (1 + used)[:, None] - grams
            file.write(own.astype("<f4").tobytes())
        begin = file.tell()
        file.truncate(begin + 4 * buckets * width)
        file.seek(0, io.SEEK_END)
        file.write(struct.pack("<?2q", False, len(words), width))
        file.truncate(file.tell() + 4 * len(words) * width)
    rows = np.memmap(path, "<f4", "r+", begin, (buckets, width))
    places = np.arange(buckets) if subwords.keys is None else subwords.keys
    for start in range(0, len(places), _ROWS):
        rows[places[start : start + _ROWS]] = subwords.rows[start : start + _ROWS]
    rows.flush()


# floret


def _read_floret(file: IO[bytes], path: Path) -> WordVectors:
    """Read a table of floret, which has n-grams and no words: a header, then row after row."""
    found = _FLORET.match(file.readline())
    assert found
    buckets, width, minn, maxn, hashes, seed = (int(number) for number in found.groups()[:6])
    if (seed, found[7], found[8]) != (SEED, b"<", b">"):
        raise FormatError(
            f"{path}: words in {found[7]!r} and {found[8]!r}, hashed from {seed}",
            hint=f"floret tables are read that have '<' and '>', and the seed {SEED}",
        )
    table = _read_text(file, path, False)
    numbered = len(table.words) == buckets and table.words == list(map(str, range(buckets)))
    if not numbered or table.vectors.shape[1] != width:
        raise FormatError(
            f"{path}: not the rows 0 to {buckets - 1} of {width} numbers, in this order",
            hint="the file is damaged or truncated: get it again",
        )
    try:
        subwords = Subwords(table.vectors, minn, maxn, hashes=hashes)
    except InputError as fault:
        raise FormatError(f"{path}: {fault.args[0]}", hint=fault.hint) from fault
    return WordVectors([], np.zeros((0, width), np.float32), None, subwords)


def write_floret(path: Path, subwords: Subwords | None) -> None:
    """Write floret's table, which spaCy reads: ``spacy init vectors LANG FILE DIR -m floret``."""
    if subwords is None or not subwords.hashes:
        raise InputError(
            f"{path}: a floret table holds n-grams in a compact table, which this one has not",
            hint="train one: fasttext --ngrams 4-5/50000x2",
        )
    row = " ".join(["%.9g"] * subwords.rows.shape[1])
    with path.open("wb") as file:
        head = (*subwords.rows.shape, subwords.minn, subwords.maxn, subwords.hashes, SEED, "<", ">")
        file.write((" ".join(map(str, head)) + "\n").encode())
        for index, vector in enumerate(subwords.rows):
            file.write(f"{index} {row % tuple(vector.tolist())}\n".encode())
