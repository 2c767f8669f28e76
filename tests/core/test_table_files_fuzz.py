"""Damaged files of word vectors: only our own errors come out, and no memory for what they promise.

``TOKENSPACE_FUZZ=5000`` tries that many mutants of every sort instead of a few hundred.
"""

from __future__ import annotations

import gzip
import os
import resource
import struct
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenspace.errors import FormatError, TokenspaceError
from tokenspace.subwords import Subwords
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

KINDS = ("text.vec", "glove.txt", "binary.bin", "fasttext.bin", "sparse.bin", "compact.floret")
MEMORY = 1 << 28  # bytes that all mutants together may add to the peak
NUMBERS = [0, 1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -1, -2, -(2**31)]


def settings_for(examples: int) -> settings:
    return settings(
        max_examples=int(os.environ.get("TOKENSPACE_FUZZ", examples)),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture(scope="module", autouse=True)
def bounded_memory(tmp_path_factory: pytest.TempPathFactory):
    """Fail where the mutants of this module raised the peak of memory beyond reason."""
    for kind in KINDS:  # kernels are compiled before the first look
        exercise(tmp_path_factory.mktemp("whole") / kind, whole(kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < MEMORY


@cache
def whole(kind: str) -> bytes:
    """Return a small file of one kind."""
    import tempfile

    draw = np.random.default_rng(0)
    words = ["cat", "größe", "日本", "<unk>", "a"]
    vectors = draw.standard_normal((5, 3)).astype(np.float32)
    subwords = {
        "fasttext.bin": Subwords(draw.standard_normal((6, 3)).astype(np.float32), 2, 4),
        "sparse.bin": Subwords(vectors, 1, 3, 50, np.arange(5) * 7),
        "compact.floret": Subwords(vectors, 2, 3, hashes=2),
    }.get(kind)
    table = EmbeddingTable(
        Vocabulary.words(words), vectors, np.array([9, 5, 3, 1, 1]), subwords=subwords
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / kind
        table.save(path)
        content = path.read_bytes()
    return content.partition(b"\n")[2] if kind == "glove.txt" else content


def exercise(path: Path, content: bytes) -> None:
    """Read a file and use what came out; fail at any error that is not our own."""
    path.write_bytes(content)
    try:
        table = EmbeddingTable.load(path)
    except TokenspaceError as fault:
        assert str(fault)
        assert fault.hint
        assert "\n" not in str(fault)
        return
    assert table.shape == (len(table.vocab), table.vectors.shape[1])
    assert np.isfinite(table.vectors).all()
    if table.counts is not None:
        assert len(table.counts) == len(table.vocab)
    if table.subwords is not None:
        found = table.subwords.vectors(["cat", "größe", ""])
        assert found.shape == (3, table.shape[1])


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, overwrite, insert, repeat: one to four times."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(
            st.sampled_from(["cut", "end", "byte", "int", "long", "insert", "copy", "digit"])
        )
        if kind == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == "end":
            del data[place:]
        elif kind == "byte":
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind in ("int", "long"):
            place = place // 4 * 4 if draw(st.booleans()) else place
            size = 4 if kind == "int" else 8
            number = draw(st.sampled_from(NUMBERS)) & (1 << 8 * size) - 1
            data[place : place + size] = number.to_bytes(size, "little")
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=9))
        elif kind == "copy":
            data[place:place] = data[place : place + draw(st.integers(1, 60))]
        else:  # a number of the header becomes another one
            line, newline, rest = bytes(data).partition(b"\n")
            fields = line.split(b" ")
            number = str(draw(st.sampled_from([*NUMBERS, 10**17, 10**30])))
            fields[draw(st.integers(0, len(fields) - 1))] = number.encode()
            data = bytearray(b" ".join(fields) + newline + rest)
    return bytes(data)


@pytest.mark.parametrize("kind", KINDS)
@settings_for(300)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = data.draw(mutated(whole(kind)))
    exercise(tmp_path_factory.getbasetemp() / f"mutant-{kind}", content)


@settings_for(100)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_damage_under_gzip(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    packed = gzip.compress(data.draw(mutated(whole(kind))), 1, mtime=0)
    if data.draw(st.booleans()):
        packed = data.draw(mutated(packed))
    exercise(tmp_path_factory.getbasetemp() / "mutant.gz", packed)


@settings_for(200)
@given(content=st.binary(max_size=300))
def test_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    exercise(tmp_path_factory.getbasetemp() / "bytes", content)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation(kind: str, tmp_path: Path) -> None:
    content = whole(kind)
    for size in range(len(content)):
        exercise(tmp_path / kind, content[:size])


FIELDS = {  # of fastText's binary model: where they lie and how wide they are
    "version": (4, "<i"), "dim": (8, "<i"), "bucket": (40, "<i"), "minn": (44, "<i"),
    "maxn": (48, "<i"), "size": (64, "<i"), "nwords": (68, "<i"), "pruned": (84, "<q"),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_fasttext_s_header(field: str, number: int, tmp_path: Path) -> None:
    place, kind = FIELDS[field]
    if -(2**31) <= number < 2**31 or kind == "<q":
        content = bytearray(whole("fasttext.bin"))
        struct.pack_into(kind, content, place, number)
        exercise(tmp_path / "m.bin", bytes(content))


@pytest.mark.parametrize("rows", NUMBERS)
@pytest.mark.parametrize("columns", NUMBERS)
def test_headers_that_promise_too_much(rows: int, columns: int, tmp_path: Path) -> None:
    for kind in ("text.vec", "binary.bin"):
        rest = whole(kind).partition(b"\n")[2]
        exercise(tmp_path / kind, f"{rows} {columns}\n".encode() + rest)
    content = bytearray(whole("fasttext.bin"))
    place = content.index(struct.pack("<?2q", False, 11, 3))
    struct.pack_into("<2q", content, place + 1, rows, columns)
    exercise(tmp_path / "fasttext.bin", bytes(content))


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_floret_s_header(field: int, number: int, tmp_path: Path) -> None:
    line, newline, rest = whole("compact.floret").partition(b"\n")
    fields = line.split(b" ")
    fields[field] = str(number).encode()
    exercise(tmp_path / "t.floret", b" ".join(fields) + newline + rest)


@pytest.mark.parametrize("header", [b"9" * 5000 + b" 3", b"3 " + b"9" * 5000])
def test_numbers_of_thousands_of_digits(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.vec").write_bytes(header + b"\na 1 2 3\n")
    with pytest.raises(FormatError):
        EmbeddingTable.load(tmp_path / "t.vec")
