"""Byte forms, special roles, matching and files of vocabularies, on tokenizers built here."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.surface import CHARACTERS
from tokenspace.vocab import LEVELS, Vocabulary


def numbered(*tokens: str) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def byte_bpe(*extra: str, merges: tuple[tuple[str, str], ...] = (), added: tuple = ()) -> Tokenizer:
    vocab = numbered(*CHARACTERS, *extra)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t in added if t.startswith("<")])
    tokenizer.add_tokens([t for t in added if not t.startswith("<")])
    return tokenizer


def metaspace_bpe(*tokens: str, fallback: bool = True) -> Tokenizer:
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    vocab = numbered("<unk>", "<s>", "</s>", *pieces, *tokens)
    model = models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=fallback)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def unigram(*pieces: str) -> Tokenizer:
    vocab = [("<unk>", 0.0), *((piece, -1.0 - i) for i, piece in enumerate(pieces))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def wordpiece(*tokens: str) -> Tokenizer:
    vocab = numbered("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tokens)
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def suffix_bpe(*tokens: str, bytelevel: bool) -> Tokenizer:
    options = {"unk_token": "<unk>", "end_of_word_suffix": "</w>"}
    tokenizer = Tokenizer(models.BPE(vocab=numbered("<unk>", *tokens), merges=[], **options))
    if bytelevel:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


def form(vocab: Vocabulary, token: str) -> bytes:
    return vocab.surface(vocab.ids[token])


# Byte forms


def test_byte_level_characters_stand_for_all_bytes() -> None:
    vocab = Vocabulary.of(byte_bpe("Ġcat", "Ã©", "ĠØ³"))
    assert vocab.kind == "bpe-byte"
    assert vocab.surfaces[:256] == tuple(bytes([byte]) for byte in range(256))
    assert form(vocab, "Ġcat") == b" cat"
    assert form(vocab, "Ã©") == "é".encode()
    assert form(vocab, "ĠØ³") == " س".encode()
    assert (form(vocab, "Ċ"), form(vocab, "ĉ")) == (b"\n", b"\t")
    assert form(vocab, "Ø") == b"\xd8"  # half a character: not valid UTF-8


def test_added_tokens_of_a_byte_level_vocabulary_are_plain_text() -> None:
    vocab = Vocabulary.of(byte_bpe(added=("<|begin▁of|>", "日本", "Éa b")))
    assert form(vocab, "<|begin▁of|>") == "<|begin▁of|>".encode()
    assert form(vocab, "日本") == "日本".encode()
    assert form(vocab, "Éa b") == "Éa b".encode()
    assert vocab.specials == {256: "extra:<|begin▁of|>"}


def test_bytelevel_is_found_inside_a_sequence() -> None:
    tokenizer = byte_bpe("Ġa")
    tokenizer.decoder = decoders.Sequence([decoders.Fuse()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()]
    )
    assert form(Vocabulary.of(tokenizer), "Ġa") == b" a"


def test_metaspace_bpe_with_byte_fallback() -> None:
    vocab = Vocabulary.of(metaspace_bpe("A", "▁", "▁cat", "a▁b", "é"))
    assert vocab.kind == "bpe"
    assert form(vocab, "▁cat") == b" cat"
    assert form(vocab, "a▁b") == b"a b"
    assert form(vocab, "<0xC3>") == b"\xc3"
    assert form(vocab, "A") == form(vocab, "<0x41>") == b"A"
    assert vocab.find("A") == [vocab.ids["A"], vocab.ids["<0x41>"]]
    assert vocab.specials == {0: "unk", 1: "bos", 2: "eos"}


def test_metaspace_bpe_without_byte_fallback_keeps_the_letters() -> None:
    vocab = Vocabulary.of(metaspace_bpe("<0x41>", "▁a", fallback=False))
    assert form(vocab, "<0x41>") == b"<0x41>"


def test_unigram_and_its_byte_pieces() -> None:
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    vocab = Vocabulary.of(unigram("▁the", "s", *pieces))
    assert vocab.kind == "unigram"
    assert (form(vocab, "▁the"), form(vocab, "s")) == (b" the", b"s")
    assert form(vocab, "<0x0A>") == b"\n"
    assert form(Vocabulary.of(unigram("▁a", "<0x0A>")), "<0x0A>") == b"<0x0A>"
    assert vocab.roles == {"unk": 0}


def test_wordpiece() -> None:
    vocab = Vocabulary.of(wordpiece("cat", "##s", ",", "中", "[unused1]"))
    assert vocab.kind == "wordpiece"
    assert form(vocab, "cat") == b" cat"
    assert form(vocab, "##s") == b"s"
    assert form(vocab, ",") == b" ,"
    assert form(vocab, "[CLS]") == b"[CLS]"
    assert vocab.specials == {0: "pad", 1: "unk", 2: "cls", 3: "sep", 4: "mask"}


@pytest.mark.parametrize("bytelevel", [True, False])
def test_end_of_word_marks(bytelevel: bool) -> None:
    letter = "Ã©" if bytelevel else "é"
    vocab = Vocabulary.of(suffix_bpe("cat</w>", "cat", letter, bytelevel=bytelevel))
    assert vocab.kind == "bpe-suffix"
    assert form(vocab, "cat</w>") == form(vocab, "cat") == b"cat"
    assert form(vocab, letter) == "é".encode()
    assert len(vocab.find("cat")) == 2
    plain = Vocabulary.of(byte_bpe("cat", "Ġcat"))
    ours, theirs = vocab.shared(plain)
    assert vocab.ids["cat</w>"] not in ours
    assert plain.ids["cat"] in theirs
    match = vocab.match(plain, LEVELS)
    assert match.ids[vocab.ids["cat</w>"]] in (plain.ids["cat"], plain.ids["Ġcat"])
    assert vocab.ids["cat</w>"] in match.at("space")


def test_words_and_word_level() -> None:
    words = Vocabulary.words(["cat", "größe"])
    assert words.kind == "words"
    assert words.surfaces == (b"cat", "größe".encode())
    assert words.encode(" cat  unknown größe\n") == [0, 1]
    model = models.WordLevel(vocab=numbered("<unk>", "cat"), unk_token="<unk>")
    level = Vocabulary.of(Tokenizer(model))
    assert level.kind == "words"
    assert level.shared(words)[1].tolist() == [0]


@given(st.lists(st.binary(min_size=1, max_size=6), unique=True, max_size=20))
def test_every_byte_string_survives_the_alphabet(forms: list[bytes]) -> None:
    written = ["".join(CHARACTERS[byte] for byte in text) for text in forms if len(text) > 1]
    vocab = Vocabulary.of(byte_bpe(*written))
    assert list(vocab.surfaces[256:]) == [text for text in forms if len(text) > 1]


# Holes, ghosts, specials


def test_holes_and_padding_rows_have_empty_tokens() -> None:
    model = models.BPE(vocab={"a": 0, "b": 3}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab = Vocabulary.of(tokenizer, rows=6)
    assert vocab.tokens == ("a", "", "", "b", "", "")
    assert vocab.holes == {1, 2, 4, 5}
    assert len(vocab) == 6
    assert vocab.shared(vocab)[0].tolist() == [0, 3]
    assert vocab.match(vocab, LEVELS).ids.tolist() == [0, -1, -1, 3, -1, -1]
    assert vocab.find("") == []


def test_ghosts_are_left_out_of_the_ids() -> None:
    tokenizer = byte_bpe("Ġa", merges=(("Ġ", "a"),), added=("<x>",))
    vocab = Vocabulary.of(tokenizer, rows=256)
    assert vocab.ghosts == {"Ġa", "<x>"}
    assert vocab.specials == {}
    assert all(index < 256 for index in vocab.encode("b a<x>"))


def test_one_id_may_have_several_roles() -> None:
    vocab = Vocabulary.of(byte_bpe(added=("<|endoftext|>", "<|im_start|>")))
    assert vocab.roles == {"bos": 256, "eos": 256, "unk": 256}
    assert vocab.specials == {256: "bos", 257: "extra:<|im_start|>"}
    named = Vocabulary.of(
        byte_bpe(added=("<|endoftext|>",)), roles={"bos": None, "eos": "<|endoftext|>"}
    )
    assert "bos" not in named.roles
    with pytest.raises(ConfigError, match="no role 'bot'"):
        Vocabulary.of(byte_bpe(), roles={"bot": "a"})


def test_special_tokens_match_by_content_then_role_then_stand_in() -> None:
    bert = Vocabulary.of(wordpiece("cat"))
    llama = Vocabulary.of(metaspace_bpe("▁cat"))
    match = bert.match(llama)
    partners = {bert.tokens[i]: llama.tokens[match.ids[i]] for i in match.at("special")}
    assert partners == {"[PAD]": "</s>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>"}
    assert match.ids[bert.ids["[MASK]"]] == -1
    chat = Vocabulary.of(byte_bpe(added=("<|endoftext|>", "<a>", "<b>")))
    other = Vocabulary.of(byte_bpe(added=("<b>", "<|endoftext|>")))
    again = chat.match(other, ("special",))
    assert again.ids[256:].tolist() == [257, -1, 256]
    by_hand = chat.match(other, ("special",), mapping={"<a>": "a"})
    assert by_hand.ids[257] == other.ids["a"]


def test_special_tokens_never_match_by_bytes() -> None:
    plain = Vocabulary.of(byte_bpe("<s>"))
    special = Vocabulary.of(byte_bpe(added=("<s>",)))
    assert plain.ids["<s>"] == special.ids["<s>"]
    assert plain.ids["<s>"] not in plain.shared(special)[0]
    assert special.ids["<s>"] not in special.shared(plain)[0]


# Matching


def test_shared_is_by_bytes_and_not_by_strings() -> None:
    ours = Vocabulary.of(byte_bpe("ĠØ³", "Ġcat", "▁cat"))
    theirs = Vocabulary.of(unigram("▁س", "▁cat", "dog"))
    left, right = ours.shared(theirs)
    pairs = {ours.tokens[i]: theirs.tokens[j] for i, j in zip(left, right, strict=True)}
    assert pairs == {"ĠØ³": "▁س", "Ġcat": "▁cat"}
    assert left.dtype == right.dtype == np.int64


def test_shared_with_itself_is_the_identity_without_specials() -> None:
    vocab = Vocabulary.of(metaspace_bpe("A", "▁A", " A", "▁"))
    left, right = vocab.shared(vocab)
    np.testing.assert_array_equal(left, right)
    assert len(left) == len(vocab) - len(vocab.specials)


def test_byte_fallback_tokens_match_letters_only_at_level_byte() -> None:
    llama = Vocabulary.of(metaspace_bpe("A"))
    gpt = Vocabulary.of(byte_bpe())
    ours, theirs = llama.shared(gpt)
    assert (ours.tolist(), theirs.tolist()) == ([llama.ids["A"]], [gpt.ids["A"]])
    match = llama.match(gpt)
    assert match.ids[llama.ids["<0x41>"]] == gpt.ids["A"]
    assert match.counts == {"exact": 1, "byte": 256}
    back = gpt.match(llama)
    assert back.ids[gpt.ids["A"]] == llama.ids["A"]
    assert back.ids[0xC3] == llama.ids["<0xC3>"]


def test_duplicates_pair_by_string_then_rank_and_the_rest_takes_the_primary() -> None:
    ours = Vocabulary.of(unigram("▁a", " a", "▁b"))
    theirs = Vocabulary.of(unigram(" a", "▁x", "▁a"))
    match = ours.match(theirs, ("exact",))
    assert match.ids[1:3].tolist() == [3, 1]  # by their strings
    one = Vocabulary.of(byte_bpe("Ġa"))
    assert ours.match(one, ("exact",)).ids[1:3].tolist() == [256, 256]
    assert one.match(ours, ("exact",)).ids[256] == 1


def test_wordpiece_punctuation_also_matches_without_the_space() -> None:
    bert = Vocabulary.of(wordpiece(",", "中", "a", "+"))
    gpt = Vocabulary.of(byte_bpe("ä¸Ń", "Ġa"))
    match = bert.match(gpt)
    partners = {bert.tokens[i]: gpt.tokens[match.ids[i]] for i in match.at("exact")}
    assert partners == {",": ",", "中": "ä¸Ń", "a": "Ġa", "+": "+"}
    back = gpt.match(bert)
    assert back.ids[gpt.ids[","]] == bert.ids[","]
    assert back.ids[gpt.ids["a"]] == -1


def test_punctuation_takes_the_token_that_wordpiece_really_emits() -> None:
    bert, gpt2 = Vocabulary.of(wordpiece("##!", "!", "##s")), Vocabulary.of(byte_bpe())
    mates = gpt2.match(bert).ids
    assert bert.tokens[mates[gpt2.ids["!"]]] == "!"
    assert bert.tokens[mates[gpt2.ids["s"]]] == "##s"
    assert bert.match(bert).ids.tolist() == list(range(len(bert)))


def test_the_loose_levels_in_their_order() -> None:
    ours = Vocabulary.words(["cat", " dog", "US", "ﬁne", "walking", "cow"])
    theirs = Vocabulary.words([" cat", "dog", "us", "fine", "walk", "wal", "cow", "Cow"])
    match = ours.match(theirs, LEVELS)
    assert match.ids.tolist() == [0, 1, 2, 3, 4, 6]
    assert [LEVELS[step - 1] for step in match.steps] == [
        "space",
        "space",
        "case",
        "case",
        "prefix",
        "exact",
    ]
    assert ours.match(theirs, ("nfkc",)).ids.tolist() == [-1, -1, -1, 3, -1, 6]
    assert ours.match(theirs).counts == {"exact": 1}
    with pytest.raises(ConfigError, match="no match level 'fuzzy'"):
        ours.match(theirs, ("fuzzy",))


@given(
    st.lists(st.binary(min_size=2, max_size=3), unique=True, max_size=12),
    st.lists(st.binary(min_size=2, max_size=3), unique=True, max_size=12),
)
def test_shared_is_the_intersection_of_the_byte_forms(a: list[bytes], b: list[bytes]) -> None:
    first, second = (
        Vocabulary.of(byte_bpe(*("".join(CHARACTERS[byte] for byte in t) for t in texts)))
        for texts in (a, b)
    )
    ours, theirs = first.shared(second)
    assert np.all(np.diff(ours) > 0)
    expected = set(first.surfaces) & set(second.surfaces)
    assert [first.surface(i) for i in ours] == [second.surface(j) for j in theirs]
    assert {first.surface(i) for i in ours} == expected
    back = second.shared(first)
    assert set(zip(ours, theirs, strict=True)) == set(zip(back[1], back[0], strict=True))


def test_find_gives_exact_forms_before_those_with_a_space() -> None:
    vocab = Vocabulary.of(byte_bpe("Ġcat", "cat"))
    assert [vocab.tokens[i] for i in vocab.find("cat")] == ["cat", "Ġcat"]
    assert [vocab.tokens[i] for i in vocab.find(" cat")] == ["Ġcat", "cat"]
    assert vocab.find("dog") == []
    with pytest.raises(InputError, match="no token 'catz'"):
        vocab.id("catz")
    with pytest.raises(InputError) as caught:
        Vocabulary.of(byte_bpe("Ġdog")).id("dog")
    assert "'Ġdog'" in str(caught.value.hint)


# Construction and encoding


def test_bad_vocabularies_are_refused() -> None:
    with pytest.raises(InputError, match="'a' occurs twice, as ids 0 and 2"):
        Vocabulary(["a", "b", "a"])
    with pytest.raises(InputError, match="list of strings"):
        Vocabulary(["a", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="id 0 is 'x' in the list"):
        Vocabulary(["x"], byte_bpe())
    with pytest.raises(InputError, match="pad is '<p>'"):
        Vocabulary(["x"], roles={"pad": "<p>"})
    assert Vocabulary(["x", "<p>"], roles={"pad": "<p>"}).specials == {1: "pad"}


def test_encoding_adds_nothing_and_cuts_nothing() -> None:
    tokenizer = byte_bpe("Ġa", merges=(("Ġ", "a"),), added=("<s>",))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    vocab = Vocabulary.of(tokenizer)
    assert vocab.encode("a a a") == [97, 256, 256]
    assert vocab.encode_batch(["a", "", "a a"]) == [[97], [], [97, 256]]
    assert tokenizer.truncation is not None  # the caller's own is untouched


def test_equality_and_fingerprints_follow_behaviour() -> None:
    one = Vocabulary.of(byte_bpe("Ġa", merges=(("Ġ", "a"),)))
    same = Vocabulary.of(byte_bpe("Ġa", merges=(("Ġ", "a"),)))
    other = Vocabulary.of(byte_bpe("Ġa"))
    assert one == same
    assert len({one, same, other}) == 2
    assert Vocabulary.words(["a"]) != Vocabulary.words(["b"])
    assert repr(one) == "Vocabulary(bpe-byte, 257 tokens)"


def test_importing_stays_light() -> None:
    code = (
        "import sys, tokenspace.vocab, tokenspace.io, tokenspace.table;"
        "print([m for m in ('torch', 'numba', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Files

BUILT = {
    "byte": lambda: byte_bpe("Ġa", "Ġab", merges=(("Ġ", "a"), ("Ġa", "b")), added=("<s>", "x y")),
    "metaspace": lambda: metaspace_bpe("a", "▁", "▁cat"),
    "unigram": lambda: unigram("▁the", "s"),
    "wordpiece": lambda: wordpiece("cat", "##s", ","),
    "suffix": lambda: suffix_bpe("cat</w>", "c", bytelevel=True),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_saved_vocabulary_comes_back(name: str, tmp_path: Path) -> None:
    vocab = Vocabulary.of(BUILT[name](), rows=None)
    vocab.save(tmp_path / "here")
    again = Vocabulary.load(tmp_path / "here")
    assert again == vocab
    assert again.surfaces == vocab.surfaces
    assert (again.specials, again.roles, again.kind) == (vocab.specials, vocab.roles, vocab.kind)
    assert again.encode("a cats ab") == vocab.encode("a cats ab")
    vocab.save(tmp_path / "tokenizer.json")
    assert Vocabulary.load(tmp_path / "tokenizer.json") == vocab
    (tmp_path / "t.json.gz").write_bytes(gzip.compress((tmp_path / "tokenizer.json").read_bytes()))
    assert Vocabulary.load(tmp_path / "t.json.gz") == vocab


@given(st.lists(st.text(min_size=1).filter(lambda t: not t.startswith("\x00")), unique=True))
def test_any_words_come_back(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    folder = tmp_path_factory.mktemp("v")
    vocab = Vocabulary.words(words)
    vocab.save(folder / "v")
    assert Vocabulary.load(folder / "v").tokens == tuple(words)


def test_word_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "words.txt"
    Vocabulary.words(["cat", "größe"]).save(path)
    assert path.read_bytes() == "cat\ngröße\n".encode()
    path.write_text("a\nb\r\na\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert Vocabulary.load(path).tokens == ("a", "b")
    assert "1 repeated words" in caplog.text
    with pytest.raises(InputError, match="does not fit a word list"):
        Vocabulary.words([" a"]).save(tmp_path / "bad.txt")
    with pytest.raises(InputError, match="no tokenizer to write"):
        Vocabulary.words(["a"]).save(tmp_path / "bad.json")
    assert not list(tmp_path.glob("bad*"))


def write_bpe(folder: Path, tokens: list[str], merges: list[str]) -> None:
    (folder / "vocab.json").write_text(json.dumps(numbered(*tokens)), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")


def test_vocab_and_merges(tmp_path: Path) -> None:
    write_bpe(tmp_path, [*CHARACTERS, "Ġa", "##", "<|endoftext|>"], ["#version: 0.2", "Ġ a", "# #"])
    vocab = Vocabulary.load(tmp_path)
    assert (vocab.kind, len(vocab)) == ("bpe-byte", 259)
    assert vocab.encode("a a##") == [97, 256, 257]
    assert vocab.roles["eos"] == 258
    assert Vocabulary.load(tmp_path / "vocab.json") == vocab


def test_merges_that_start_with_a_hash_are_not_a_header(tmp_path: Path) -> None:
    write_bpe(tmp_path, [*CHARACTERS, "##"], ["# #"])
    assert Vocabulary.load(tmp_path).encode("##") == [256]


def test_the_splitting_pattern_follows_the_tokens(tmp_path: Path) -> None:
    merges = [". Ċ", "1 2"]
    write_bpe(tmp_path, [*CHARACTERS, ".Ċ"], merges[:1])
    qwen = Vocabulary.load(tmp_path)
    assert qwen.encode("12.\n") == [49, 50, 256]
    write_bpe(tmp_path, [*CHARACTERS, ".Ċ", "12"], merges)
    assert Vocabulary.load(tmp_path).encode("12.\n") == [257, 256]
    write_bpe(tmp_path, [*CHARACTERS, "12"], merges[1:])
    assert Vocabulary.load(tmp_path).encode("12.\n") == [256, 46, 10]


def test_special_tokens_from_the_settings(tmp_path: Path) -> None:
    write_bpe(tmp_path, [*CHARACTERS, "<s>", "<p>"], [])
    settings = {
        "bos_token": "<s>",
        "pad_token": {"content": "<p>"},
        "eos_token": None,
        "added_tokens_decoder": {"258": {"content": "<new>", "special": True}},
        "auto_map": {"AutoTokenizer": ["code.py", None]},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    vocab = Vocabulary.load(tmp_path)
    assert vocab.roles == {"bos": 256, "pad": 257}
    assert vocab.specials[258] == "extra:<new>"


def test_bert_lists(tmp_path: Path) -> None:
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    vocab = Vocabulary.load(tmp_path)
    assert vocab == Vocabulary.load(tmp_path / "vocab.txt")
    assert vocab.encode("Cats") == [5, 6]
    (tmp_path / "vocab.txt").write_text("\n".join([*lines, "Cat"]), encoding="utf-8")
    assert Vocabulary.load(tmp_path).encode("Cats") == [7, 6]


def reference_bpe(piece: bytes, ranks: dict[bytes, int]) -> list[int]:
    """Join the neighbours of lowest rank, the leftmost first, until none can be joined."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        joined = [ranks.get(a + b) for a, b in pairwise(parts)]
        known = [rank for rank in joined if rank is not None]
        if not known:
            return [ranks[part] for part in parts]
        at = joined.index(min(known))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@given(st.lists(st.text("abc", min_size=2, max_size=5), unique=True, max_size=25), st.data())
def test_merges_of_ranks_give_the_ids_of_the_rule_by_ranks(
    tmp_path_factory: pytest.TempPathFactory, longer: list[str], data: st.DataObject
) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {token.encode(): 256 + i for i, token in enumerate(longer)}
    path = tmp_path_factory.mktemp("t") / "x.tiktoken"
    path.write_text("".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in ranks.items()))
    vocab = Vocabulary.load(path)
    text = data.draw(st.text("abc", max_size=12))
    assert vocab.encode(text) == (reference_bpe(text.encode(), ranks) if text else [])
    assert vocab.surfaces == tuple(ranks)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", b'{"model": {"type": "BPE"', "not whole JSON"),
        ("tokenizer.json", b'{"model": {"type": "Strange"}}', "not a whole tokenizer.json"),
        ("vocab.json", b'{"a": 0}', "without its merges.txt"),
        ("x.model", b"\x0a\x0e\xff\xfe", "not UTF-8 text at byte 2"),
        ("x.tiktoken", b"YQ== 0\nYg==", "line 2 is not"),
        ("merges.txt", b"#version: 0.2\na b\n", "merges alone"),
        ("empty.txt", b"", "no token in it"),
        ("cut.json.gz", gzip.compress(b"{}" * 999, mtime=0)[:20], "damaged gzip"),
        ("vocabulary.json", b'{"format": "tokenspace-vocabulary", "version": 9}', "newer"),
        ("vocabulary.json", b'{"format": "tokenspace-vocabulary", "version": 1}', "not a whole"),
    ],
)
def test_damaged_files_are_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=says) as caught:
        Vocabulary.load(tmp_path / name)
    assert name in str(caught.value)
    assert caught.value.hint


def test_python_only_tokenizers_are_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no tokenizer\.json"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Mine"}')
    (tmp_path / "spiece.model").write_bytes(b"\x00")
    with pytest.raises(FormatError, match="Python code") as caught:
        Vocabulary.load(tmp_path)
    assert "save_pretrained" in str(caught.value.hint)


def test_a_merge_of_unknown_tokens_names_the_files(tmp_path: Path) -> None:
    write_bpe(tmp_path, ["a"], ["a b"])
    with pytest.raises(FormatError, match=r"vocab\.json"):
        Vocabulary.load(tmp_path)
    write_bpe(tmp_path, ["a"], ["ab"])
    with pytest.raises(FormatError, match="merge 1 is not a pair"):
        Vocabulary.load(tmp_path)


def test_names_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    byte = Vocabulary.of(byte_bpe("Ġa"))
    byte.save(tmp_path / "tokenizer.json")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(tmp_path))
    assert Vocabulary.load("some/model") == byte

    def offline(name: str, **options: object) -> str:
        raise OSError("offline\nlong story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match=r"not to be had from the hub \(offline\)"):
        Vocabulary.load("some/model")
    with pytest.raises(InputError, match="no such file"):
        Vocabulary.load(Path("some/model"))
    with pytest.raises(InputError, match="no such file"):
        Vocabulary.load("some/deep/model")


def test_a_tokenizer_that_marks_no_spaces_is_plain_text(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = Tokenizer(models.BPE(vocab=numbered("Ã", "a"), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "removed")
    tokenizer.add_tokens([AddedToken("b", normalized=False)])
    with caplog.at_level(logging.WARNING):
        assert Vocabulary.of(tokenizer).surfaces == ("Ã".encode(), b"a", b"b")
    assert "UTF-8" in caplog.text


@pytest.mark.parametrize(
    "text", ["2 4\ncat 1 0 0 -1.5e-3\ndog 0 1 0 .5\n", "cat 1 0 2\ndog 0 1 4\n"]
)
def test_the_words_of_a_file_of_vectors_are_a_vocabulary(tmp_path: Path, text: str) -> None:
    (tmp_path / "vectors.txt").write_text(text)
    assert Vocabulary.load(tmp_path / "vectors.txt").tokens == ("cat", "dog")
