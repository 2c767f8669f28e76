"""Comparing tokenizers: levels, costs, numbers, round trips, and the command that shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tokenspace.errors import InputError
from tokenspace.io import save_tensors
from tokenspace.surface import CHARACTERS
from tokenspace.tokenizer_comparison import (
    compare,
    default_text,
    numerals,
    open_vocabulary,
    pieces,
    raw_matches,
    round_trip,
)
from tokenspace.vocab import LEVELS, Vocabulary

NUMBERS = [str(7919 * i % 10_000_019) for i in range(4000)] + ["1990", "2000", "100000"] * 40


def byte_level(
    *tokens: str, merges: tuple[tuple[str, str], ...] = (), special: tuple[str, ...] = ()
) -> Vocabulary:
    ids = {token: index for index, token in enumerate([*CHARACTERS, *tokens])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return Vocabulary.of(tokenizer)


def metaspace(*tokens: str) -> Vocabulary:
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    ids = {token: index for index, token in enumerate(["<unk>", "<s>", *byte_pieces, *tokens])}
    model = models.BPE(vocab=ids, merges=[], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return Vocabulary.of(tokenizer)


def cutting(*before: Any, size: int = 2000) -> Vocabulary:
    """Learn numbers, cut by some pre-tokenizers first."""
    tokenizer = Tokenizer(models.BPE())
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not before)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, last])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(NUMBERS, trainer)
    return Vocabulary.of(tokenizer)


def test_levels_by_hand() -> None:
    a = byte_level("Ġcat", "Ã©", "dog", "CAT", "ï¬ģ", "Ġhouses", special=("<|endoftext|>", "<s>"))
    b = metaspace("▁cat", "é", "▁dog", "▁", "cat", "fi", "▁house")
    found = compare(a, b, ["cat dog 1"])
    levels = {level.level: level for level in found.levels}
    assert tuple(levels) == LEVELS
    # The space, Ġcat and é have equal bytes in b; every other single byte has a fallback token.
    assert levels["exact"].count == 3
    assert (levels["special"].count, levels["byte"].count) == (2, 255)
    assert levels["byte"].total == 260
    assert (levels["space"].count, levels["space"].examples) == (1, (("dog", " dog"),))
    assert (levels["case"].count, levels["case"].examples) == (2, (("CAT", "cat"), ("ﬁ", "fi")))
    assert (levels["prefix"].count, levels["prefix"].examples) == (1, ((" houses", " house"),))
    assert levels["prefix"].total == len(a)
    assert levels["exact"].reverse == 3
    # By strings: <s>, and the byte é for the letter é, which is wrong; with one mark Ġcat and Ġ.
    assert found.raw == {"strings": 2, "marked": 4}
    assert found.a.cost.tokens == len(a.encode("cat dog 1"))


def test_raw_matching_misses_what_is_beyond_ascii() -> None:
    forms = ("Ø§ÙĦ", "ĠØ§ÙĦ", "Ã©")
    a, b = byte_level(*forms), metaspace("ال", "▁ال", "é")
    ours, theirs = a.shared(b)
    assert [a.tokens[i] for i in ours] == list(forms)
    assert [b.tokens[i] for i in theirs] == ["ال", "▁ال", "é"]
    assert raw_matches(a, b) == {"strings": 1, "marked": 1}  # the byte é and the letter é


def test_costs_by_hand() -> None:
    b = metaspace("c", "▁")
    found = compare(byte_level("at", "cat", merges=(("a", "t"), ("c", "at"))), b, ["cat", "a cat"])
    assert found.text == {"texts": 2, "words": 3, "bytes": 8}
    cost = found.a.cost  # cat | a, Ġ, cat
    assert (cost.tokens, cost.fertility, cost.bytes_per_token) == (4, 4 / 3, 2.0)
    assert cost.tokens_per_byte == 0.5
    assert cost.histogram[:4] == (2, 0, 2, 0)
    assert sum(found.b.cost.histogram) == found.b.cost.tokens


def test_holes_ghosts_and_specials_are_counted() -> None:
    whole = byte_level("cat", special=("<s>",))
    assert whole.tokenizer is not None
    padded = Vocabulary.of(whole.tokenizer, rows=300)
    short = Vocabulary.of(whole.tokenizer, rows=250)
    found = compare(padded, short, ["ab"])
    assert (found.a.ids, found.a.tokens, found.a.holes, found.a.specials) == (300, 258, 42, 1)
    assert (found.b.ids, found.b.ghosts) == (250, 8)


@pytest.mark.parametrize(
    ("before", "policy", "width", "side"),
    [
        ([pre_tokenizers.Digits(individual_digits=True)], "single", 1, "left"),
        ([pre_tokenizers.Split(Regex(r"\d{1,3}"), "isolated")], "groups", 3, "left"),
        (
            [pre_tokenizers.Split(Regex(r"\d{1,3}(?=(?:\d{3})*(?:\D|$))"), "isolated")],
            "groups",
            3,
            "right",
        ),
        ([pre_tokenizers.Split(Regex(r"\d{1,2}"), "isolated")], "groups", 2, "left"),
        ([], "free", None, ""),
    ],
    ids=["single", "three", "three from the right", "two", "free"],
)
def test_numbers_are_cut_as_the_pre_tokenizer_says(
    before: list[Any], policy: str, width: int | None, side: str
) -> None:
    found = numerals(cutting(*before))
    assert (found.policy, found.side) == (policy, side)
    assert found.width == width if width else found.width > 3
    assert "".join(found.example) == "1234567"


def test_numbers_without_merges_are_single_digits_and_unknown_ones_are_lost() -> None:
    assert numerals(byte_level()).policy == "single"
    model = models.WordLevel(vocab={"<unk>": 0, "in": 1}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert numerals(Vocabulary.of(tokenizer)).policy == "lost"
    assert numerals(Vocabulary.words(["in"])).policy == "lost"


def test_a_mismatch_of_numbers_is_warned_about() -> None:
    single = cutting(pre_tokenizers.Digits(individual_digits=True))
    three = cutting(pre_tokenizers.Split(Regex(r"\d{1,3}"), "isolated"))
    found = compare(single, three, ["1 2"], names=("one", "three"))
    assert (
        "one: single digits; three: groups of at most 3 digits, from the left" in found.warnings[0]
    )
    assert not any("numbers" in text for text in compare(three, three, ["1"]).warnings)


def test_round_trips_name_the_lossy_normalisers() -> None:
    vocab = byte_level()
    assert round_trip(vocab, ["a  b", "Ä\n", ""]).restored == 3
    assert vocab.tokenizer is not None
    lower = Tokenizer.from_str(vocab.tokenizer.to_str())
    lower.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trip = round_trip(Vocabulary.of(lower), ["ab", "Ab"])
    assert (trip.restored, trip.texts, trip.normalizers) == (1, 2, ("NFC", "Lowercase"))
    assert (trip.given, trip.returned) == ("Ab", "ab")
    spaced = metaspace("▁", "a")
    trip = round_trip(spaced, ["a a"])
    assert (trip.restored, trip.spaced, trip.normalizers) == (0, 1, ())
    assert round_trip(Vocabulary.words(["a", "b"]), ["a b", "a  b"]).restored == 1


def test_pieces_can_be_read() -> None:
    vocab = byte_level("Ġc", merges=(("Ġ", "c"),))
    assert pieces(vocab, " cé") == (" c", "\\xc3", "\\xa9")
    assert "".join(pieces(vocab, "a b\n")) == "a b\n"


def test_texts_are_read_once_and_may_stream() -> None:
    vocab = byte_level()
    streamed = compare(vocab, vocab, (text for text in ["one two", "", "three"] * 1500))
    assert streamed.text == {"texts": 4500, "words": 4500, "bytes": 18_000}
    assert streamed.a.cost == streamed.b.cost
    assert streamed.levels[0].total == 256


def test_bad_input_is_refused() -> None:
    vocab = byte_level()
    for texts in ([], [""], ["  \n"]):
        with pytest.raises(InputError, match="no word"):
            compare(vocab, vocab, texts)
    with pytest.raises(InputError, match="no token"):
        compare(vocab, Vocabulary([]), ["a"])


def test_the_default_text_is_python_s_reference() -> None:
    texts = default_text()
    assert 200_000 < sum(map(len, texts)) < 400_000
    assert any("assert" in text for text in texts)


# The command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    a = byte_level("Ġcat", "<b>&", special=("<s>",))
    b = metaspace("▁cat", "<b>&")
    a.save(tmp_path / "a.json")
    b.save(tmp_path / "b")
    return tmp_path / "a.json", tmp_path / "b"


class Tags(HTMLParser):
    """Collects the tags of a page and whatever it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            str(value)
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not str(value).startswith("#")
        ]


def test_the_command_shows_and_writes(
    cli: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat <script>alert('x')</script> sat here\n1 2 3 4 more\n")
    target = tmp_path / "page.html"
    ended = cli("compare-tokenizers", *files, "--text", text, "--html", target)
    assert ended.code == 0, ended.err
    for word in ("fertility", *LEVELS, "a.json", "By token strings", "t|h|e| |c|a|t"):
        assert word in ended.out
    page = target.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;" in page
    found = Tags()
    found.feed(page)
    assert found.tags.count("svg") == 2
    assert found.loads == []
    again = cli("compare-tokenizers", *files, "--html", target)
    assert again.code == 2
    assert "--force" in again.err
    assert cli("compare-tokenizers", *files, "--html", target, "--force").code == 0


def test_the_command_prints_json(cli: Callable[..., Any], files: tuple[Path, Path]) -> None:
    ended = cli("compare-tokenizers", *files, "--json")
    assert ended.code == 0, ended.err
    done = json.loads(ended.out)
    names = ("a.json", "b")
    direct = compare(*map(open_vocabulary, map(str, files)), default_text(), names=names)
    assert done == json.loads(json.dumps(asdict(direct)))
    assert {row["level"] for row in done["levels"]} == set(LEVELS)


def test_colours_are_for_terminals(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenspace.cli import main

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with pytest.raises(SystemExit):
        main(["compare-tokenizers", *map(str, files)])
    assert "\x1b[4" in capsys.readouterr().out


def test_two_files_of_one_name_are_told_apart(
    cli: Callable[..., Any], files: tuple[Path, Path]
) -> None:
    done = json.loads(cli("compare-tokenizers", files[0], files[0], "--json").out)
    assert done["a"]["name"] != done["b"]["name"]


def test_what_does_not_exist_is_one_line(cli: Callable[..., Any], files: tuple[Path, Path]) -> None:
    ended = cli("compare-tokenizers", files[0], "no/such/place")
    assert ended.code == 3
    assert "no/such/place" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert cli("compare-tokenizers", *files, "--text", "absent.txt").code == 3


def test_a_model_directory_is_as_long_as_its_matrix(tmp_path: Path) -> None:
    vocab = byte_level("cat", special=("<s>",))
    assert vocab.tokenizer is not None
    vocab.tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 264}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_tensors(
        tmp_path / "model.safetensors",
        {"transformer.wte.weight": np.zeros((264, 4), np.float32)},
    )
    opened = open_vocabulary(str(tmp_path))
    assert (len(opened), len(opened.holes)) == (264, 264 - len(vocab))
