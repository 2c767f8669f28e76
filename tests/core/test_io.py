"""Every format of vector tables: round trips, damage, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokenspace import io
from tokenspace.errors import FormatError, InputError
from tokenspace.surface import CHARACTERS
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

PLAIN = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=6
)


def bpe(*extra: str) -> Tokenizer:
    vocab = {token: index for index, token in enumerate([*CHARACTERS, *extra])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def table(*words: str, width: int = 3) -> EmbeddingTable:
    values = np.random.default_rng(0).standard_normal((len(words), width)).astype(np.float32)
    return EmbeddingTable(Vocabulary.words(words), values)


@st.composite
def tables(draw: st.DrawFn) -> EmbeddingTable:
    words = draw(st.lists(PLAIN, min_size=1, max_size=8, unique=True))
    width = draw(st.integers(2, 5))
    finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
    vectors = draw(arrays.arrays(np.float32, (len(words), width), elements=finite))
    return EmbeddingTable(Vocabulary.words(words), vectors)


@pytest.mark.parametrize("name", ["t.vec", "t.txt", "t.vec.gz", "t.bin", "t"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(made=tables())
def test_every_format_gives_back_words_and_bits(
    name: str, made: EmbeddingTable, tmp_path: Path
) -> None:
    made.save(tmp_path / name)
    again = EmbeddingTable.load(tmp_path / name)
    assert again.vocab.tokens == made.vocab.tokens
    np.testing.assert_array_equal(again.vectors, made.vectors)


# Our own directory


def test_our_directory_keeps_everything_and_reads_nothing_early(tmp_path: Path) -> None:
    vocab = Vocabulary.of(bpe("Ġa"), rows=260)
    vectors = np.arange(260 * 2, dtype=np.float32).reshape(260, 2)
    made = EmbeddingTable(vocab, vectors, np.arange(260), {"from": Path("x"), "epochs": 3})
    made.save(tmp_path / "t")
    again = EmbeddingTable.load(tmp_path / "t")
    assert again.vocab == vocab
    assert "tokenizer" not in vars(again.vocab)  # parsed at its first use
    assert again.vocab.encode("a a") == vocab.encode("a a")
    assert isinstance(again.vectors.base, np.memmap)
    assert not again.vectors.flags.writeable
    np.testing.assert_array_equal(again.counts, made.counts)
    assert again.notes == {"from": "x", "epochs": 3}
    table("b").save(tmp_path / "t")  # replaces the directory
    assert EmbeddingTable.load(tmp_path / "t").vocab.tokens == ("b",)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("broken", ["table.json", "vocabulary.json", "table.safetensors"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_directory_is_refused_with_the_file(
    broken: str, how: str, tmp_path: Path
) -> None:
    table("a", "b").save(tmp_path / "t")
    path = tmp_path / "t" / broken
    whole = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(whole[: len(whole) - 9])
    with pytest.raises(FormatError, match=broken):
        EmbeddingTable.load(tmp_path / "t")


def test_a_newer_directory_is_refused(tmp_path: Path) -> None:
    table("a").save(tmp_path / "t")
    (tmp_path / "t" / "table.json").write_text('{"version": 2, "notes": {}}')
    with pytest.raises(FormatError, match="version 2 is newer"):
        EmbeddingTable.load(tmp_path / "t")


# Text


def load_text(path: Path, text: str | bytes) -> EmbeddingTable:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return EmbeddingTable.load(path)


def test_text_with_and_without_a_header(tmp_path: Path) -> None:
    for text in ("2 2\na 1 2\nb 3 -4e-1\n", "a 1 2\nb 3 -4e-1", "a 1 2 \r\n\r\nb\t3\t-0.4\r\n"):
        made = load_text(tmp_path / "t.any", text)
        assert made.vocab.tokens == ("a", "b")
        np.testing.assert_array_equal(made.vectors, np.array([[1, 2], [3, -0.4]], np.float32))


def test_words_with_spaces_are_split_from_the_right(tmp_path: Path) -> None:
    made = load_text(tmp_path / "glove.txt", "the 1 2 3\n. . . 4 5 6\nat name@x  7 8 9\n")
    assert made.vocab.tokens == ("the", ". . .", "at name@x")
    assert made.vectors.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_words_may_hold_any_other_white_space(tmp_path: Path) -> None:
    made = load_text(tmp_path / "t.txt", "a\u00a0b 1 2\nc\u0085d 3 4\n")
    assert made.vocab.tokens == ("a\u00a0b", "c\u0085d")


def test_a_wrong_count_and_repeated_words_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = load_text(tmp_path / "t.vec", "5 2\na 1 2\nb 3 4\na 5 6\n")
    assert made.vocab.tokens == ("a", "b")
    assert made.vectors.tolist() == [[1, 2], [3, 4]]
    assert "promises 5 words, there are 3" in caplog.text
    assert "1 repeated words, first kept" in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a 1 2\nb 3\n", "line 2 is not a word and 2 numbers"),
        ("2 2\na 1 2\nb 3\n", "line 3 is not a word and 2 numbers"),
        ("2 2\na 1 2\nb 3 x\n", "line 3 is not a word and 2 numbers"),
        ("a 1 2\nb 3 4\nc 1 2-\n", "line 3 is not a word and 2 numbers"),
        ("hello\nworld\n", "line 1 is not a word and its vector"),
        ("3 2\n", "no vectors"),
        ("", "empty"),
        (b"a 1 2\n\xff 3 4\n", "the word in line 2 is not UTF-8"),
    ],
)
def test_damaged_text_names_file_and_line(text: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        load_text(tmp_path / "t.vec", text)
    assert "t.vec" in str(caught.value)
    assert caught.value.hint


def test_rows_that_are_not_finite_name_five_tokens(tmp_path: Path) -> None:
    lines = "".join(f"w{i} {'nan' if i else 1} 2\n" for i in range(9))
    with pytest.raises(InputError, match="'w1', 'w2', 'w3', 'w4', 'w5'"):
        load_text(tmp_path / "t.txt", lines)


def test_many_blocks_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenspace import table_files

    monkeypatch.setattr(table_files, "_BLOCK", 50)
    made = table(*(f"w{i}" for i in range(100)))
    made.save(tmp_path / "t.vec")
    np.testing.assert_array_equal(EmbeddingTable.load(tmp_path / "t.vec").vectors, made.vectors)
    with (tmp_path / "t.vec").open("a") as file:
        file.write("bad 1\n")
    with pytest.raises(FormatError, match="line 102 is not"):
        EmbeddingTable.load(tmp_path / "t.vec")


# Binary


def test_binary_by_hand(tmp_path: Path) -> None:
    one, two = struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 10)
    for end in (b"", b"\n"):
        made = load_text(tmp_path / "t", b"2 2\nthe " + one + end + "größe ".encode() + two + end)
        assert made.vocab.tokens == ("the", "größe")
        assert made.vectors.tolist() == [[1, 2], [3, 10]]
    packed = gzip.compress((tmp_path / "t").read_bytes())
    assert load_text(tmp_path / "t.gz", packed).vocab.tokens == ("the", "größe")


def test_truncated_and_impossible_binaries(tmp_path: Path) -> None:
    table("a", "b", width=4).save(tmp_path / "t.bin")
    whole = (tmp_path / "t.bin").read_bytes()
    with pytest.raises(FormatError, match="2 words of 4 numbers do not fit its"):
        load_text(tmp_path / "t.bin", whole[:-6])
    huge = b"999999999 300\n" + whole[4:]
    with pytest.raises(FormatError, match="999999999 words of 300 numbers"):
        load_text(tmp_path / "t.bin", huge)
    with pytest.raises(FormatError, match="ends in word 2 of 2"):
        load_text(tmp_path / "t.bin", whole[:22] + b"b" * 30)
    with pytest.raises(FormatError, match="damaged gzip"):
        load_text(tmp_path / "t.gz", gzip.compress(np.random.default_rng(0).bytes(9999))[:500])


# fastText


def fnv(text: bytes) -> int:
    """FNV-1a as fastText has it: the byte is signed before it is widened."""
    h = 2166136261
    for byte in text:
        h ^= (byte - 256 if byte > 127 else byte) & 0xFFFFFFFF
        h = h * 16777619 & 0xFFFFFFFF
    return h


def grams(word: str, minn: int, maxn: int) -> list[bytes]:
    text = f"<{word}>"
    whole = [
        text[i : i + n]
        for i in range(len(text))
        for n in range(minn, maxn + 1)
        if i + n <= len(text) and not (n == 1 and i in (0, len(text) - 1))
    ]
    return [gram.encode() for gram in whole]


def fasttext_bytes(
    words: list[str], matrix: np.ndarray, minn: int, maxn: int, bucket: int, quant: bool = False
) -> bytes:
    width = matrix.shape[1]
    data = struct.pack("<2i", 793712314, 12)
    data += struct.pack("<12i", width, 5, 1, 1, 5, 1, 2, 2, bucket, minn, maxn, 100)
    data += struct.pack("<d3i2q", 1e-4, len(words) + 1, len(words), 1, 99, -1)
    for count, word in enumerate([*words, "__label__x"]):
        data += word.encode() + b"\0" + struct.pack("<qb", 10 + count, word.startswith("__label"))
    return data + struct.pack("<?2q", quant, *matrix.shape) + matrix.astype("<f4").tobytes()


@pytest.mark.parametrize(("minn", "maxn"), [(3, 6), (1, 2), (0, 0)])
def test_fasttext_vectors_are_means_of_word_and_ngram_rows(
    minn: int, maxn: int, tmp_path: Path
) -> None:
    words, bucket = ["</s>", "cat", "größe", "日本"], 11
    rows = len(words) + bucket
    matrix = np.random.default_rng(1).standard_normal((rows, 5)).astype(np.float32)
    made = load_text(tmp_path / "m.bin", fasttext_bytes(words, matrix, minn, maxn, bucket))
    assert made.vocab.tokens == tuple(words)
    assert made.counts is not None
    assert made.counts.tolist() == [10, 11, 12, 13]
    for index, word in enumerate(words):
        used = [index]
        if maxn and word != "</s>":
            used += [len(words) + fnv(gram) % bucket for gram in grams(word, minn, maxn)]
        expected = matrix[used].astype(np.float64).mean(0)
        np.testing.assert_allclose(made.vectors[index], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_fasttext_ngrams_give_vectors_to_other_words(packed: bool, tmp_path: Path) -> None:
    words, bucket, minn, maxn = ["</s>", "cat"], 11, 2, 4
    matrix = np.random.default_rng(2).standard_normal((len(words) + bucket, 5)).astype(np.float32)
    content = fasttext_bytes(words, matrix, minn, maxn, bucket)
    path = tmp_path / ("m.bin.gz" if packed else "m.bin")
    path.write_bytes(gzip.compress(content) if packed else content)
    made = EmbeddingTable.load(path)
    made.save(tmp_path / "own")
    asked = ["dög", "x", "日", "</s>", ""]
    expected = np.zeros((len(asked), 5))
    for index, word in enumerate(asked):
        rows = [len(words) + fnv(gram) % bucket for gram in grams(word, minn, maxn)]
        if word != "</s>" and rows:
            expected[index] = matrix[rows].astype(np.float64).mean(0)
    for table in (made, EmbeddingTable.load(tmp_path / "own")):
        assert table.subwords is not None
        np.testing.assert_allclose(table.subwords.vectors(asked), expected, rtol=1e-5, atol=1e-6)
    assert made.replace(vectors=made.vectors).subwords is None
    tensors = {"vectors": made.vectors, "subwords": np.zeros((3, 5), np.float32)}
    io.save_tensors(tmp_path / "own" / "table.safetensors", tensors)
    with pytest.raises(FormatError, match="no whole n-grams"):
        EmbeddingTable.load(tmp_path / "own")
    path.write_bytes(fasttext_bytes(words, matrix, 0, 0, bucket))
    assert EmbeddingTable.load(path).subwords is None


def test_fasttext_files_that_are_not_whole(tmp_path: Path) -> None:
    matrix = np.zeros((1 + 4, 2), np.float32)
    whole = fasttext_bytes(["cat"], matrix, 3, 6, 4)
    for size in (40, 95, 100, len(whole) - 45):
        with pytest.raises(FormatError, match=r"m\.bin: the fastText dictionary ends early"):
            load_text(tmp_path / "m.bin", whole[:size])
    with pytest.raises(FormatError, match="5 rows of 2 numbers do not fit"):
        load_text(tmp_path / "m.bin", whole[:-1])
    with pytest.raises(FormatError, match="quantized"):
        load_text(tmp_path / "m.ftz", fasttext_bytes(["cat"], matrix, 3, 6, 4, quant=True))
    with pytest.raises(FormatError, match="version 7"):
        load_text(tmp_path / "m.bin", whole[:4] + struct.pack("<i", 7) + whole[8:])
    with pytest.raises(FormatError, match="do not fit"):
        load_text(tmp_path / "m.bin", fasttext_bytes(["cat"], matrix, 3, 6, 0))


# What is refused


@pytest.mark.parametrize(
    ("content", "says", "hint"),
    [
        (b"\x80\x04\x95pickle", "a pickle", "save_word2vec_format"),
        (b"PK\x03\x04data.pkl", "zip or PyTorch", "safetensors"),
        (b"\x89HDF\r\n", "HDF5", "word2vec text"),
        (b"\x93NUMPY\x01", "bare array", "EmbeddingTable"),
    ],
)
@pytest.mark.parametrize("name", ["v.kv", "v.vec"])
def test_other_formats_are_refused_with_the_mend(
    content: bytes, says: str, hint: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        load_text(tmp_path / name, content)
    assert hint in str(caught.value.hint)


def test_paths_and_suffixes_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        EmbeddingTable.load(tmp_path / "gone")
    with pytest.raises(InputError, match=r"suffix \.parquet"):
        table("a").save(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="'a b' does not fit word2vec binary"):
        table("a b").save(tmp_path / "t.bin")
    with pytest.raises(InputError, match=re.escape(r"'a\nb' does not fit a line")):
        table("a\nb").save(tmp_path / "t.vec")
    assert not list(tmp_path.iterdir())
    table("a").save(tmp_path / "t.vec")
    with pytest.raises(InputError, match="only a model directory has parts"):
        EmbeddingTable.load(tmp_path / "t.vec#output")
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(FormatError, match="tensors without words"):
        EmbeddingTable.load(tmp_path / "x.safetensors")


def test_rows_without_a_token_are_left_out_of_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = EmbeddingTable(Vocabulary(["a", "", "b"]), np.eye(3, dtype=np.float32))
    with caplog.at_level(logging.WARNING):
        made.save(tmp_path / "t.vec")
    assert "1 rows without a token" in caplog.text
    assert EmbeddingTable.load(tmp_path / "t.vec").vectors.tolist() == [[1, 0, 0], [0, 0, 1]]


# Model directories


def model(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    bpe("Ġa").save(str(folder / "tokenizer.json"))
    return folder


def ramp(rows: int = 257, width: int = 2, start: float = 0) -> np.ndarray:
    return start + np.arange(rows * width, dtype=np.float32).reshape(rows, width)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("model.embed_tokens.weight", "lm_head.weight"),
        ("transformer.wte.weight", "lm_head.weight"),
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        ("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
        ("shared.weight", "lm_head.weight"),
        ("gpt_neox.embed_in.weight", "embed_out.weight"),
        ("tok_embeddings.weight", "output.weight"),
        ("embeddings", "lm_head.weight"),
    ],
)
def test_both_matrices_under_their_names(inner: str, outer: str, tmp_path: Path) -> None:
    others = {
        "encoder.position_embeddings.weight": ramp(9),
        "model.layers.0.attention.output.dense.weight": ramp(4),
        "lm_head.bias": np.zeros(257, np.float32),
    }
    folder = model(tmp_path / "m", {inner: ramp(), outer: ramp(start=5), **others})
    made = EmbeddingTable.load(folder)
    np.testing.assert_array_equal(made.vectors, ramp())
    assert made.notes["tensor"] == inner
    assert isinstance(made.vectors.base, np.memmap)
    for path in (f"{folder}#output", Path(f"{folder}#output")):
        np.testing.assert_array_equal(EmbeddingTable.load(path).vectors, ramp(start=5))
    named = EmbeddingTable.load(f"{folder}#model.layers.0.attention.output.dense.weight")
    assert named.shape == (4, 2)


def test_a_tied_output_is_the_input(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", {"wte.weight": ramp()})
    made = EmbeddingTable.load(f"{folder}#output")
    assert made.notes["tied"] is True
    np.testing.assert_array_equal(made.vectors, ramp())
    model(folder, {"wte.weight": ramp()}, tie_word_embeddings=False)
    with pytest.raises(FormatError, match="not tied"):
        EmbeddingTable.load(f"{folder}#output")
    with pytest.raises(FormatError, match="no matrix called 'wpe'"):
        EmbeddingTable.load(f"{folder}#wpe")


def test_padding_rows_and_ghosts_are_noted(tmp_path: Path) -> None:
    made = EmbeddingTable.load(model(tmp_path / "m", {"wte.weight": ramp(264)}))
    assert (made.notes["padding_rows"], made.notes["ghosts"]) == (7, 0)
    assert made.vocab.holes == set(range(257, 264))
    short = EmbeddingTable.load(model(tmp_path / "s", {"wte.weight": ramp(250)}))
    assert (short.notes["padding_rows"], short.notes["ghosts"]) == (0, 7)
    assert len(short.vocab) == 250
    assert max(short.vocab.encode("a ÿ")) < 250
    short.save(tmp_path / "again")
    assert EmbeddingTable.load(tmp_path / "again").vocab.ghosts == short.vocab.ghosts


def test_half_precision_is_widened(tmp_path: Path) -> None:
    exact = ramp() / 4
    folder = model(tmp_path / "m", {"wte.weight": exact.astype(np.float16)})
    made = EmbeddingTable.load(folder)
    assert made.notes["dtype"] == "F16"
    np.testing.assert_array_equal(made.vectors, exact.astype(np.float16))
    upper = (exact.view(np.uint32) >> 16).astype("<u2")  # bfloat16 is float32's upper half
    entry = {"dtype": "BF16", "shape": exact.shape, "data_offsets": [0, upper.nbytes]}
    header = json.dumps({"wte.weight": entry}).encode()
    data = len(header).to_bytes(8, "little") + header + upper.tobytes()
    (folder / "model.safetensors").write_bytes(data)
    made = EmbeddingTable.load(folder)
    assert made.notes["dtype"] == "BF16"
    widened = (upper.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(made.vectors, widened)
    np.testing.assert_allclose(made.vectors, exact, rtol=2**-7)


def test_shards(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", {"wte.weight": ramp()})
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    save_file({"lm_head.weight": ramp(start=9)}, folder / "model-00002-of-00002.safetensors")
    names = {
        "wte.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    np.testing.assert_array_equal(EmbeddingTable.load(folder).vectors, ramp())
    np.testing.assert_array_equal(EmbeddingTable.load(f"{folder}#output").vectors, ramp(start=9))
    index.write_text(json.dumps({"weight_map": {"wte.weight": "../m/escape.safetensors"}}))
    with pytest.raises(FormatError, match="missing"):
        EmbeddingTable.load(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": names}))
    with pytest.raises(FormatError, match="model-00002-of-00002"):
        EmbeddingTable.load(folder)
    index.write_text("{")
    with pytest.raises(FormatError, match=r"index\.json: not whole"):
        EmbeddingTable.load(folder)


def test_two_matrices_of_one_name(tmp_path: Path) -> None:
    names = ("decoder.embed_tokens.weight", "encoder.embed_tokens.weight")
    folder = model(tmp_path / "m", dict.fromkeys(names, ramp()))
    assert EmbeddingTable.load(folder).notes["tensor"] == names[0]
    model(folder, {names[0]: ramp(), names[1]: ramp(start=1)})
    with pytest.raises(FormatError, match="2 different matrices") as caught:
        EmbeddingTable.load(folder)
    assert names[0] in str(caught.value.hint)


def test_directories_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"neither table\.json nor"):
        EmbeddingTable.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(FormatError, match="only as a pickle"):
        EmbeddingTable.load(tmp_path)
    save_file({"x": ramp(2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(FormatError, match="an adapter without its model"):
        EmbeddingTable.load(tmp_path)
    folder = model(tmp_path / "m", {"x.weight": ramp()})
    with pytest.raises(FormatError, match="no matrix of token vectors"):
        EmbeddingTable.load(folder)
    model(folder, {"wte.weight": ramp()})
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(FormatError, match=r"model\.safetensors: not a whole"):
        EmbeddingTable.load(folder)
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(FormatError, match=r"config\.json"):
        EmbeddingTable.load(folder)


# Tensors and matrices


def test_tensors_are_views_and_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    io.save_tensors(path, {"a": ramp(3), "b": np.arange(4), "none": np.zeros((0, 3))})
    found = io.read_tensors(path)
    assert isinstance(found["a"], np.memmap)
    assert found["none"].shape == (0, 3)
    assert set(io.read_tensors(path, ("b",))) == {"b"}
    assert io.tensor_entries(path)["a"].shape == (3, 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"t\.safetensors: not a whole"):
        io.tensor_entries(path)


def test_matrices_from_arrays_and_tables(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", ramp(4).astype(np.float64))
    np.testing.assert_array_equal(io.load_matrix(tmp_path / "m.npy"), ramp(4))
    table("a", "b").save(tmp_path / "t.vec")
    np.testing.assert_array_equal(io.load_matrix(tmp_path / "t.vec"), table("a", "b").vectors)
    np.save(tmp_path / "v.npy", np.zeros(3))
    with pytest.raises(InputError, match="is not a matrix"):
        io.load_matrix(tmp_path / "v.npy")
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(FormatError, match="not a whole array"):
        io.load_matrix(tmp_path / "v.npy")


def test_replacing_leaves_the_former_file_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(RuntimeError), io.replacing(path) as partial:
        partial.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    digest = hashlib.sha256(b"old").hexdigest()
    assert io.sha256(path) == digest


def test_a_matrix_in_blocks_is_the_file_of_the_whole(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    io.save_tensors(tmp_path / "whole.safetensors", {"vectors": vectors})
    parts = (vectors[start : start + 4] for start in range(0, 11, 4))
    io.save_blocks(tmp_path / "blocks.safetensors", "vectors", (11, 3), parts)
    blocks = (tmp_path / "blocks.safetensors").read_bytes()
    assert blocks == (tmp_path / "whole.safetensors").read_bytes()
    np.testing.assert_array_equal(io.load_matrix(tmp_path / "blocks.safetensors"), vectors)
    io.save_tensors(tmp_path / "other.safetensors", {"vectors": vectors[0]})
    with pytest.raises(FormatError, match="no float32 matrix 'vectors'"):
        io.load_matrix(tmp_path / "other.safetensors")
