"""A corpus: read again and again, refused when it cannot be, and turned into ids without loss."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tokenspace import corpus, text_files
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.vocab import Vocabulary


def sentences(stream: IdStream) -> list[list[str]]:
    """Return the stream as words again."""
    borders = zip(stream.offsets[:-1], stream.offsets[1:], strict=True)
    return [[stream.vocab.tokens[i] for i in stream.ids[a:b]] for a, b in borders]


@pytest.mark.parametrize("texts", ["one string", b"bytes", iter(["a"]), (x for x in "ab"), 3])
def test_what_cannot_be_read_again_is_refused(texts: object) -> None:
    with pytest.raises(InputError):
        Corpus(texts)  # type: ignore[arg-type]


def test_a_list_of_words_in_the_place_of_a_text_is_refused() -> None:
    with pytest.raises(InputError, match="text 1 of the corpus is list"):
        Corpus(["a text", ["two", "words"]])  # type: ignore[list-item]


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split='lines'"):
        Corpus(["a"], split="lines")  # type: ignore[arg-type]
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match="errors='ignore'"):
        Corpus.load(tmp_path, errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="min_count=0"):
        Corpus(["a"]).encode(min_count=0)


def test_files_are_read_in_order_and_again(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("third\r\n\nfünfte".encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"first\nsecond\n"))
    (tmp_path / "c.bin").write_bytes(b"\xff")
    loaded = Corpus.load(tmp_path)
    assert list(loaded) == ["first", "second", "third", "", "fünfte"] == list(loaded)
    assert loaded.paths == (tmp_path / "a.txt.gz", tmp_path / "b.txt")
    assert loaded.fingerprint == Corpus(list(loaded)).fingerprint
    assert loaded.fingerprint != Corpus(["first second", "third", "", "fünfte"]).fingerprint


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 8)
    path = tmp_path / "latin.txt"
    path.write_bytes(b"good line\nanother\nna\xefve\n")
    with pytest.raises(InputError, match=re.escape(f"{path}: byte 0xef at offset 20")):
        list(Corpus.load(path))
    assert list(Corpus.load(path, errors="replace"))[2] == "na\ufffdve"


def test_a_very_long_line_comes_in_pieces_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 10)
    path = tmp_path / "long.txt"
    path.write_text("häuser " * 20 + "\nend", encoding="utf-8")
    texts = list(Corpus.load(path))
    assert len(texts) > 2
    assert " ".join(texts).split() == ["häuser"] * 20 + ["end"]


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        Corpus.load(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match="no text file"):
        Corpus.load(tmp_path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"some text" * 100)[:-10])
    with pytest.raises(FormatError, match=r"cut\.gz: not a whole gzip file"):
        list(Corpus.load(tmp_path))
    (tmp_path / "cut.gz").write_bytes(b"plain text")
    with pytest.raises(FormatError, match=r"cut\.gz: not a whole gzip file"):
        list(Corpus.load(tmp_path))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_read_and_damage_is_named(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    path = tmp_path / f"text.{suffix}"
    path.write_bytes(pack(b"one\ntwo"))
    assert list(Corpus.load(tmp_path)) == ["one", "two"]
    for damaged in (pack(b"some text" * 100)[:-10], b"plain text"):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=f"{path.name}: not a whole"):
            list(Corpus.load(path))


def test_a_field_of_a_table_is_the_text(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "a\u2028b", "body": "one"}, {"id": 2, "text": "c", "body": "two"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b'text,body\n"x, ""y""",z\n'))
    (tmp_path / "a.tsv").write_text("text\tbody\nplain \tother\n")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    names = ("a.jsonl", "a.csv.gz", "a.tsv", "a.parquet#body")
    texts = list(Corpus.load(*(tmp_path / name for name in names)))
    assert texts == ["a\u2028b", "c", 'x, "y"', "plain ", "one", "two"]
    with pytest.raises(InputError, match="no field 'tilte'; it has: text, body") as caught:
        list(Corpus.load(f"{tmp_path / 'a.tsv'}#tilte"))
    assert "#NAME" in caught.value.__notes__[0]
    with pytest.raises(InputError, match="line 1: field 'id' is int"):
        list(Corpus.load(f"{tmp_path / 'a.jsonl'}#id"))
    with pytest.raises(InputError, match=r"a\.txt#text: no such file"):
        Corpus.load(f"{tmp_path / 'a.txt'}#text")


def test_standard_input_is_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("eins\nzwei é".encode())))
    text_files.standard_input.cache_clear()
    try:
        given = Corpus.load("-")
        assert list(given) == ["eins", "zwei é"] == list(given) == list(Corpus.load("-"))
    finally:
        text_files.standard_input().unlink()
        text_files.standard_input.cache_clear()


def test_rows_of_a_data_set_are_texts() -> None:
    class Rows:
        def __iter__(self) -> Iterator[dict[str, object]]:
            return iter([{"text": "a b", "label": 1}, {"text": "c", "label": 0}])

    assert list(Corpus(Rows())) == ["a b", "c"] == list(Corpus(list(Rows())))
    assert list(Corpus([{"body": "x"}], field="body")) == ["x"]
    with pytest.raises(InputError, match="row 0 of the corpus has no text in 'label'"):
        list(Corpus(Rows(), field="label"))
    with pytest.raises(InputError, match=r"row 0 .* no text in 'body'; it has: text, label"):
        Corpus(list(Rows()), field="body")


def test_turkish_letters_become_small_in_their_own_way() -> None:
    text = ["ISPARTA İstanbul"]
    assert Corpus(text, language="tr").encode().vocab.tokens == ("ısparta", "istanbul")
    assert Corpus(text).encode().vocab.tokens[0] == "isparta"


def test_spacy_finds_the_words_of_a_language() -> None:
    texts = ["Don't stop, U.S. troops!", "C'est l'été."]
    english = Corpus(texts[:1], split="spacy", language="en").encode()
    assert sentences(english) == [["do", "n't", "stop", "u.s.", "troops"]]
    french = Corpus(texts[1:], split="spacy", language="fr").encode()
    assert sentences(french) == [["c'", "est", "l'", "été"]]
    with pytest.raises(ConfigError, match="needs a language"):
        Corpus(texts, split="spacy")
    with pytest.raises(ConfigError, match="language='qqq': spaCy cannot"):
        Corpus(texts, split="spacy", language="qqq")
    with pytest.raises(ConfigError, match="leaves words as they are"):
        Corpus(texts, split="whitespace", language="en")


def test_words_are_split_and_lowered_in_any_script() -> None:
    text = "Don’t stop, O'Neil's 42nd 'quote' naïve_Straße Москва! हिन्दी x--y '' 'tis"
    words = "don't stop o'neil s 42 nd quote naïve straße москва हिन्दी x y tis"
    assert sentences(Corpus([text]).encode()) == [words.split()]


def test_text_tokenised_before_is_left_as_it_is() -> None:
    text = "New_York is\tBIG , n't it ?\u00a0yes"
    assert sentences(Corpus([text], split="whitespace").encode()) == [text.split()]


def test_random_text_is_split_as_a_regular_expression_would() -> None:
    draw = np.random.default_rng(0)
    letters = list("aBc1 2'é,. ")
    texts = ["".join(draw.choice(letters, draw.integers(0, 40))) for _ in range(300)]
    expected = [re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+", text.lower()) for text in texts]
    assert sentences(Corpus(texts).encode()) == [words for words in expected if words]


def test_the_vocabulary_is_sorted_by_count_then_first_occurrence() -> None:
    corpus = Corpus(["c b a", "b a", "d"])
    assert corpus.count() == {"b": 2, "a": 2, "c": 1, "d": 1}
    assert list(corpus.count()) == ["b", "a", "c", "d"]
    stream = corpus.encode(min_count=2)
    assert stream.vocab.tokens == ("b", "a")
    assert sentences(stream) == [["b", "a"], ["b", "a"]]
    assert stream.counts.tolist() == [2, 2]
    assert (stream.ids.dtype, stream.offsets.dtype) == (np.int32, np.int64)


def test_many_words_and_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BLOCK", 1000)
    draw = np.random.default_rng(1)
    texts = [" ".join(f"word{i}x" for i in draw.integers(0, 9000, 30)) for _ in range(600)]
    stream = Corpus(texts, split="whitespace").encode()
    assert sentences(stream) == [text.split() for text in texts]
    assert len(stream.vocab) > 4096
    assert Counter(" ".join(texts).split()) == Corpus(texts, split="whitespace").count()


def test_a_long_sentence_is_split_never_cut() -> None:
    stream = Corpus(["a b " * 12_000, "c"]).encode()
    assert np.diff(stream.offsets).tolist() == [10_000, 10_000, 4_000, 1]
    assert len(stream.ids) == 24_001


def test_a_word_vocabulary_keeps_its_ids_and_holes() -> None:
    vocab = Vocabulary(["x", "", "b", "a"])
    stream = Corpus(["a b c", "c", "b"]).encode(vocab, min_count=9)
    assert stream.vocab is vocab
    assert stream.ids.tolist() == [3, 2, 2]
    assert stream.offsets.tolist() == [0, 2, 3]
    assert stream.counts.tolist() == [0, 0, 2, 1]


def test_a_tokenizer_makes_the_ids() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = ["the cat sat", "", "on the mat"] * 50
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=40, show_progress=False))
    vocab = Vocabulary.of(tokenizer)
    stream = Corpus(texts).encode(vocab)
    ids = [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids]
    assert stream.ids.tolist() == ids
    assert len(stream.offsets) == 101
    assert stream.counts.tolist() == np.bincount(ids, minlength=len(vocab)).tolist()


def test_a_corpus_without_words_is_refused() -> None:
    for texts in ([], [""], ["...", " "]):
        with pytest.raises(InputError, match="the corpus has no word"):
            Corpus(texts).encode()
    with pytest.raises(InputError, match="occurs 3 times"):
        Corpus(["a b", "a"]).encode(min_count=3)


def test_whole_texts_are_one_sentence_each_empty_or_long() -> None:
    stream = Corpus(["a b", "", "once", "a " * 12_000 + "b"]).encode(min_count=2, whole=True)
    assert np.diff(stream.offsets).tolist() == [2, 0, 0, 12_001]
    assert stream.counts.tolist() == [12_001, 2]
