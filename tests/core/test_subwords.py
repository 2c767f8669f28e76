"""Rows for n-grams: three ways to find them, and the files that keep them."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from tokenspace import io
from tokenspace.errors import FormatError, InputError
from tokenspace.subwords import SEED, Subwords, _murmur, gram_keys
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

WORDS = ["cat", "größe", "日本語", "</s>", "a", "banana"]


def spelled(word: str, minn: int, maxn: int) -> list[bytes]:
    text = f"<{word}>"
    return [
        text[i : i + n].encode()
        for i in range(len(text) if word != "</s>" else 0)
        for n in range(minn, maxn + 1)
        if i + n <= len(text) and not (n == 1 and i in (0, len(text) - 1))
    ]


def fnv(text: bytes) -> int:
    h = 2166136261
    for byte in text:
        h = (h ^ ((byte - 256 if byte > 127 else byte) & 0xFFFFFFFF)) * 16777619 & 0xFFFFFFFF
    return h


def murmur(text: bytes, seed: int = SEED) -> list[int]:
    """MurmurHash3 x64 128 by Python's integers, from its published description."""
    full = 2**64 - 1
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F

    def turn(x: int, r: int) -> int:
        return (x << r | x >> 64 - r) & full

    def mix(x: int) -> int:
        x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & full
        x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & full
        return x ^ x >> 33

    h = [seed, seed]
    body = len(text) // 16 * 16
    for place in range(0, body, 16):
        k = struct.unpack("<2Q", text[place : place + 16])
        h[0] = turn(h[0] ^ turn(k[0] * c1 & full, 31) * c2 & full, 27) + h[1] & full
        h[0] = h[0] * 5 + 0x52DCE729 & full
        h[1] = turn(h[1] ^ turn(k[1] * c2 & full, 33) * c1 & full, 31) + h[0] & full
        h[1] = h[1] * 5 + 0x38495AB5 & full
    low, high = struct.unpack("<2Q", text[body:].ljust(16, b"\0"))
    h[1] ^= turn(high * c2 & full, 33) * c1 & full
    h[0] ^= turn(low * c1 & full, 31) * c2 & full
    a, b = h[0] ^ len(text), h[1] ^ len(text)
    a = a + b & full
    b = b + a & full
    a, b = mix(a), mix(b)
    a = a + b & full
    return [a, b + a & full]


def ours(text: bytes, seed: int) -> list[int]:
    h = np.zeros(2, np.uint64)
    _murmur(np.frombuffer(text, np.uint8), 0, len(text), seed, h)
    return [int(x) for x in h]


def test_the_hash_is_murmurhash3() -> None:
    # values of the reference implementation with seed 0, as published
    assert ours(b"hello", 0) == [0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19]
    fox = b"The quick brown fox jumps over the lazy dog"
    assert ours(fox, 0) == [0xE34BBC7BBC071B6C, 0x7A433CA9C49A9347]
    for size in range(1, 50):
        text = hashlib.sha512(str(size).encode()).digest()[:size]
        assert ours(text, SEED) == murmur(text)


@pytest.mark.parametrize(("minn", "maxn"), [(3, 6), (1, 2), (5, 5)])
def test_keys_are_those_of_plain_python(minn: int, maxn: int) -> None:
    encoded = [word.encode() for word in WORDS]
    grams = [spelled(word, minn, maxn) for word in WORDS]
    for buckets, hashes in ((97, 0), (0, 0), (97, 1), (97, 2), (97, 4)):
        keys, starts = gram_keys(encoded, minn, maxn, buckets, hashes)
        for index, word in enumerate(WORDS):
            expected = []
            whole = [f"<{word}>".encode()] if hashes and word != "</s>" else []
            for gram in [*whole, *grams[index]]:
                a, b = murmur(gram)
                if hashes:
                    quarters = [a & 0xFFFFFFFF, a >> 32, b & 0xFFFFFFFF, b >> 32]
                    expected += [x % buckets for x in quarters[:hashes]]
                else:
                    expected.append(fnv(gram) % buckets if buckets else a - (a >> 63 << 64))
            assert keys[starts[index] : starts[index + 1]].tolist() == expected


def table(**changes: object) -> EmbeddingTable:
    draw = np.random.default_rng(0)
    words = WORDS[:3]
    given = {"rows": 40, "minn": 2, "maxn": 4, "buckets": None, "keys": None, "hashes": 0}
    given.update(changes)
    rows = draw.standard_normal((given.pop("rows"), 5)).astype(np.float32)
    subwords = Subwords(rows, **given)  # type: ignore[arg-type]
    vectors = draw.standard_normal((3, 5)).astype(np.float32)
    return EmbeddingTable(Vocabulary.words(words), vectors, np.array([7, 0, 2]), subwords=subwords)


def sparse() -> EmbeddingTable:
    return table(rows=11, buckets=300, keys=np.arange(4, 300, 27, dtype=np.int64))


def exact() -> EmbeddingTable:
    keys, _ = gram_keys([b"banana", b"cat"], 2, 4, 0)
    keys = np.unique(keys)
    return table(rows=len(keys), buckets=0, keys=keys)


KINDS = {"dense": table, "sparse": sparse, "exact": exact, "compact": lambda: table(hashes=2)}


def test_buckets_without_a_row_are_rows_of_zeros() -> None:
    some = sparse().subwords
    assert some is not None
    assert some.keys is not None
    rows = np.zeros((300, 5), np.float32)
    rows[some.keys] = some.rows
    whole = Subwords(rows, 2, 4)
    assert (whole.vectors(WORDS) != 0).any(axis=1).sum() == 2
    np.testing.assert_array_equal(some.vectors(WORDS), whole.vectors(WORDS))
    none = Subwords(np.zeros((0, 5), np.float32), 2, 4, 300, np.zeros(0, np.int64))
    np.testing.assert_array_equal(none.vectors(WORDS), np.zeros((6, 5)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_ngrams_of_each_row_are_listed(kind: str) -> None:
    subwords = KINDS[kind]().subwords
    assert subwords is not None
    listed = subwords.grams(WORDS)
    assert list(listed) == sorted(listed)
    pairs = {(row, gram) for row, grams in listed.items() for gram in grams}
    assert len(pairs) == sum(map(len, listed.values()))
    expected = set()
    for word in WORDS:
        whole = [f"<{word}>"] if kind == "compact" and word != "</s>" else []
        for gram in [*whole, *(gram.decode() for gram in spelled(word, 2, 4))]:
            a, _ = murmur(gram.encode())
            keys = {
                "dense": [fnv(gram.encode()) % 40],
                "sparse": [fnv(gram.encode()) % 300],
                "exact": [a - (a >> 63 << 64)],
                "compact": [(a & 0xFFFFFFFF) % 40, (a >> 32) % 40],
            }[kind]
            rows = keys if subwords.keys is None else [
                place for key in keys for place in np.flatnonzero(subwords.keys == key)
            ]  # fmt: skip
            expected |= {(int(row), gram) for row in rows}
    assert pairs == expected


def test_many_words_go_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenspace import subwords

    made = sparse().subwords
    assert made is not None
    once, listed = made.vectors(WORDS), made.grams(WORDS)
    monkeypatch.setattr(subwords, "_BLOCK", 2)
    np.testing.assert_array_equal(made.vectors(WORDS), once)
    assert made.grams(WORDS) == listed


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_keeps_ngrams(kind: str, tmp_path: Path) -> None:
    made = KINDS[kind]()
    made.save(tmp_path / "t")
    again = EmbeddingTable.load(tmp_path / "t")
    assert made.subwords is not None
    assert again.subwords is not None
    np.testing.assert_array_equal(again.subwords.vectors(WORDS), made.subwords.vectors(WORDS))
    assert isinstance(again.subwords.rows.base, np.memmap)


def test_a_directory_of_before_has_a_row_for_every_bucket(tmp_path: Path) -> None:
    made = table()
    made.save(tmp_path / "t")
    tensors = dict(io.read_tensors(tmp_path / "t" / "table.safetensors"))
    tensors["lengths"] = np.array([2, 4])
    io.save_tensors(tmp_path / "t" / "table.safetensors", tensors)
    again = EmbeddingTable.load(tmp_path / "t").subwords
    assert made.subwords is not None
    assert again is not None
    np.testing.assert_array_equal(again.vectors(WORDS), made.subwords.vectors(WORDS))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lengths": np.array([2, 4, 9])},
        {"lengths": np.array([4, 2, 300, 0])},
        {"lengths": np.array([2, 4, -1, 0])},
        {"lengths": np.array([2, 4, 300, 7])},
        {"subword_keys": np.arange(10)},
        {"subword_keys": np.zeros(11, np.int64)},
        {"subword_keys": np.arange(11, dtype=np.float32)},
        {"subwords": np.zeros((11, 4), np.float32)},
        {"subwords": np.zeros((11, 5), np.float64)},
    ],
)
def test_ngrams_that_do_not_fit_are_refused(wrong: dict[str, np.ndarray], tmp_path: Path) -> None:
    sparse().save(tmp_path / "t")
    tensors = {**io.read_tensors(tmp_path / "t" / "table.safetensors"), **wrong}
    io.save_tensors(tmp_path / "t" / "table.safetensors", tensors)
    with pytest.raises(FormatError, match="no whole n-grams"):
        EmbeddingTable.load(tmp_path / "t")


def test_what_is_no_table_of_ngrams_is_refused() -> None:
    rows = np.zeros((3, 2), np.float32)
    for minn, maxn, hashes in ((0, 3, 0), (3, 2, 0), (3, 65, 0), (3, 6, 5)):
        with pytest.raises(InputError, match="n-grams of"):
            Subwords(rows, minn, maxn, hashes=hashes)
    for buckets, keys in ((4, None), (0, None), (4, np.arange(2)), (1 << 31, np.arange(3))):
        with pytest.raises(InputError, match="rows of shape"):
            Subwords(rows, 3, 6, buckets, keys)


def test_an_unknown_word_has_neighbours_by_its_ngrams() -> None:
    made = table()
    assert made.subwords is not None
    np.testing.assert_array_equal(made.row("cats"), made.subwords.vectors(["cats"])[0])
    np.testing.assert_array_equal(made.row("cat"), made.vectors[0])
    assert made.nearest("cats", 2) == made.nearest(made.row("cats"), 2)
    assert len(made.nearest("cat", 3)) == 2
    with pytest.raises(InputError, match="no token"):
        made.row("</s>")
    with pytest.raises(InputError, match="no token 'cats'"):
        made.replace(vectors=made.vectors).nearest("cats")


# Files of other programs


def parsed(content: bytes) -> tuple[list[int], dict[str, int], list[np.ndarray]]:
    """Read fastText's format field by field; return arguments, counts and both matrices."""
    magic, version, *arguments = struct.unpack_from("<14i", content)
    (t,) = struct.unpack_from("<d", content, 56)
    size, words, labels, tokens, pruned = struct.unpack_from("<3i2q", content, 64)
    assert (magic, version, labels, pruned, words) == (793712314, 12, 0, -1, size)
    assert t == 1e-4
    place, counts = 92, {}
    for _ in range(size):
        end = content.index(b"\0", place)
        count, kind = struct.unpack_from("<qb", content, end + 1)
        assert kind == 0
        counts[content[place:end].decode()] = count
        place = end + 10
    assert tokens == sum(counts.values())
    matrices = []
    for _ in range(2):
        quantized, rows, columns = struct.unpack_from("<?2q", content, place)
        assert not quantized
        matrices.append(np.frombuffer(content, "<f4", rows * columns, place + 17))
        matrices[-1] = matrices[-1].reshape(rows, columns)
        place += 17 + 4 * rows * columns
    assert place == len(content)
    return arguments, counts, matrices


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_bin_has_fasttext_s_layout(kind: str, tmp_path: Path) -> None:
    made = KINDS[kind]()
    assert made.subwords is not None
    buckets = made.subwords.buckets or 0
    made.save(tmp_path / "m.bin")
    arguments, counts, (inputs, outputs) = parsed((tmp_path / "m.bin").read_bytes())
    assert arguments == [5, 5, 5, 1, 5, 1, 2, 2, buckets, 2, 4, 100]
    assert counts == {"cat": 7, "größe": 1, "日本語": 2}
    assert inputs.shape == (3 + buckets, 5)
    assert outputs.shape == (3, 5)
    for index, word in enumerate(made.vocab.tokens):
        rows = [index, *(3 + fnv(gram) % buckets for gram in spelled(word, 2, 4))]
        expected = inputs[rows].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(made.vectors[index], expected, rtol=1e-4, atol=1e-6)
    again = EmbeddingTable.load(tmp_path / "m.bin")
    assert again.subwords is not None
    np.testing.assert_allclose(again.vectors, made.vectors, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again.subwords.vectors(WORDS), made.subwords.vectors(WORDS))
    again.save(tmp_path / "again.bin")
    assert (tmp_path / "again.bin").stat().st_size == (tmp_path / "m.bin").stat().st_size


def test_what_does_not_fit_bin(tmp_path: Path) -> None:
    for kind, hint in (("exact", "without a suffix"), ("compact", r"\.floret")):
        with pytest.raises(InputError, match="buckets of n-grams") as caught:
            KINDS[kind]().save(tmp_path / "m.bin")
        assert hint.replace("\\", "") in str(caught.value.hint)
    subwords = table().subwords
    vectors = np.ones((1, 5), np.float32)
    with pytest.raises(InputError, match="for a fastText model"):
        EmbeddingTable(Vocabulary.words(["a\0b"]), vectors, subwords=subwords).save(
            tmp_path / "m.bin"
        )
    with pytest.raises(InputError, match="no words"):
        EmbeddingTable(Vocabulary.words([]), vectors[:0], subwords=subwords).save(
            tmp_path / "m.bin"
        )
    assert not list(tmp_path.iterdir())


def test_floret_s_table_is_written_and_read(tmp_path: Path) -> None:
    made = table(hashes=2)
    assert made.subwords is not None
    made.save(tmp_path / "m.floret")
    head, *lines = (tmp_path / "m.floret").read_text().splitlines()
    assert head == "40 5 2 4 2 2166136261 < >"
    assert [line.split(" ", 1)[0] for line in lines] == [str(i) for i in range(40)]
    again = EmbeddingTable.load(tmp_path / "m.floret")
    assert again.shape == (0, 5)
    assert again.subwords is not None
    np.testing.assert_array_equal(again.subwords.vectors(WORDS), made.subwords.vectors(WORDS))
    with pytest.raises(InputError, match="a compact table"):
        table().save(tmp_path / "m.floret")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("40 5 2 4", "41 5 2 4", "not the rows 0 to 40"),
        ("40 5 2 4", "40 6 2 4", "of 6 numbers"),
        ("40 5 2 4", "40 5 4 2", "n-grams of 4 to 2"),
        ("\n7 ", "\n8 ", "not the rows"),
        ("2166136261", "1", "hashed from 1"),
        ("< >", "^ $", "words in"),
    ],
)
def test_floret_s_tables_that_are_not_whole(old: str, new: str, says: str, tmp_path: Path) -> None:
    table(hashes=2).save(tmp_path / "m.floret")
    text = (tmp_path / "m.floret").read_text()
    (tmp_path / "m.floret").write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError, match=says) as caught:
        EmbeddingTable.load(tmp_path / "m.floret")
    assert caught.value.hint


def test_models_with_absurd_words_or_ngrams_are_refused(tmp_path: Path) -> None:
    table().save(tmp_path / "m.bin")
    whole = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(whole[:48] + struct.pack("<i", 1000) + whole[52:])
    with pytest.raises(FormatError, match="up to 1000 characters"):
        EmbeddingTable.load(tmp_path / "m.bin")
    (tmp_path / "m.bin").write_bytes(whole[:92] + b"x" * 70_000 + whole[92:])
    with pytest.raises(FormatError, match="ends early"):
        EmbeddingTable.load(tmp_path / "m.bin")


def test_spacy_gives_the_vectors_of_our_compact_table(tmp_path: Path) -> None:
    from spacy.strings import StringStore
    from spacy.vectors import Vectors

    table(hashes=2).save(tmp_path / "m.floret")
    subwords = EmbeddingTable.load(tmp_path / "m.floret").subwords
    assert subwords is not None
    peer = Vectors(
        strings=StringStore(), mode="floret", data=subwords.rows, minn=2, maxn=4, hash_count=2,
        hash_seed=SEED, bow="<", eow=">",
    )  # fmt: skip
    words = [word for word in WORDS if word != "</s>"]
    np.testing.assert_allclose(
        subwords.vectors(words), [peer[word] for word in words], rtol=1e-5, atol=1e-6
    )
