"""Damaged tokenizers: whatever a file holds, only our own errors come out, and no huge memory.

``TOKENSPACE_FUZZ=5000`` tries that many mutants of every sort instead of a hundred or two.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tokenspace.errors import TokenspaceError
from tokenspace.surface import CHARACTERS
from tokenspace.vocab import LEVELS, Vocabulary

TEXTS = ["the cat sat 1234", "", " ünï\n\t🙂 <s>[CLS]</s>"]
KINDS = ("byte", "metaspace", "unigram", "wordpiece", "suffix")
MEMORY = 1 << 30  # bytes that all mutants together may add to the peak

ODD = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**70, -0.5, 1e308]
    ),
    st.sampled_from(
        [
            "",
            " ",
            "▁",
            "Ġ",
            "##",
            "</w>",
            "<unk>",
            "<0x41>",
            "\u0000",
            "é",
            "a" * 300,
            "(",
            "[",
            "\\",
        ]
    ),
    st.sampled_from([[], {}, [[]], [None], {"": None}, ["a", "b"], {"type": "Sequence"}]),
    st.sampled_from(
        [
            {"type": kind}
            for kind in ("BPE", "Unigram", "WordLevel", "WordPiece", "ByteLevel", "Metaspace")
        ]
    ),
    st.text(max_size=4),
    st.integers(-3, 400),
)


def settings_for(examples: int) -> settings:
    return settings(
        max_examples=int(os.environ.get("TOKENSPACE_FUZZ", examples)),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@cache
def whole(kind: str) -> str:
    """Return a small tokenizer of one kind as its file."""
    letters = list("abcdehist124 ü.")
    marked = ["▁", *letters, "th", "the", "▁the", "ca", "▁ca", "at"]
    pairs = [("t", "h"), ("th", "e"), ("▁", "the"), ("c", "a"), ("▁", "ca")]
    if kind == "byte":
        vocab = [*CHARACTERS, "th", "the", "Ġthe"]
        merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
        tokenizer = Tokenizer(models.BPE(vocab=_numbered(vocab), merges=merges))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        tokenizer.add_special_tokens(["<|endoftext|>"])
    elif kind == "metaspace":
        pieces = [f"<0x{byte:02X}>" for byte in range(256)]
        vocab = ["<unk>", "<s>", "</s>", *pieces, *marked]
        model = models.BPE(
            vocab=_numbered(vocab), merges=pairs, unk_token="<unk>", byte_fallback=True
        )
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    elif kind == "unigram":
        scored = [(piece, -1.0 - index) for index, piece in enumerate(marked)]
        tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *scored], unk_id=0))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.add_special_tokens(["<s>"])
        tokenizer.enable_truncation(8)
    elif kind == "wordpiece":
        vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "the", "cat", "##at"]
        tokenizer = Tokenizer(models.WordPiece(vocab=_numbered(vocab), unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.enable_padding()
    else:
        vocab = ["<unk>", *letters, *(letter + "</w>" for letter in letters), "at</w>"]
        model = models.BPE(
            vocab=_numbered(vocab),
            merges=[("a", "t</w>")],
            unk_token="<unk>",
            end_of_word_suffix="</w>",
        )
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return str(tokenizer.to_str())


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a JSON document; of long lists and objects, some."""
    if path:
        yield path
    keys: list[Any] = []
    if isinstance(node, dict):
        keys = list(node)
    elif isinstance(node, list):
        keys = list(range(len(node)))
    for key in [*keys[:8], *keys[-4:]]:
        yield from places(node[key], (*path, key))


@cache
def places_of(text: str) -> list[tuple[Any, ...]]:
    return sorted(set(places(json.loads(text))), key=lambda path: (len(path), str(path)))


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """Return the document with values replaced, removed, renamed, or moved; or cut as text."""
    if draw(st.integers(0, 9)) == 0:
        start = draw(st.integers(0, len(text)))
        return text[:start] + draw(st.text(max_size=3)) + text[start + draw(st.integers(0, 9)) :]
    content = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(places_of(text)))
        node = content
        for step in above:  # an earlier mutation may have taken the way
            inside = isinstance(node, dict) and step in node
            inside |= isinstance(node, list) and isinstance(step, int) and step < len(node)
            if not inside:
                break
            node = node[step]
        else:
            change(draw, content, node, key)
    return json.dumps(content)


def change(draw: st.DrawFn, content: Any, node: Any, key: Any) -> None:
    """Change what stands at ``key`` of ``node``."""
    if not (isinstance(node, dict) and key in node) and not (
        isinstance(node, list) and isinstance(key, int) and key < len(node)
    ):
        return
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "move"]))
    if how == "replace":
        node[key] = draw(ODD)
    elif how == "remove":
        del node[key]
    elif how == "rename" and isinstance(node, dict):
        node[draw(st.text(max_size=3))] = node.pop(key)
    elif isinstance(content, dict) and content:
        other = draw(st.sampled_from(sorted(content)))
        node[key] = copy.deepcopy(content[other])


def exercise(path: Path) -> bool:
    """Use everything of a vocabulary; tell whether that went through or was refused."""
    try:
        vocab = Vocabulary.load(path)
        assert len(vocab.surfaces) == len(vocab.tokens)
        assert isinstance(vocab.kind, str)
        vocab.match(vocab, LEVELS)
        vocab.find("the")
        assert isinstance(vocab.fingerprint, str) and len(vocab.ghosts) >= 0
        for text in TEXTS:
            assert all(0 <= index < len(vocab) for index in vocab.encode(text))
    except TokenspaceError:
        return False
    return True


def peak() -> int:
    """Return the most memory in bytes that this process ever had; 0 where it cannot be told."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    before = peak()
    yield
    assert peak() - before < MEMORY


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_file_loads(kind: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(whole(kind))
    assert exercise(tmp_path / "tokenizer.json")


@settings_for(300)
@given(data=st.data())
def test_a_damaged_tokenizer_is_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    path = tmp_path / "tokenizer.json"
    path.write_text(data.draw(mutated(whole(kind))), encoding="utf-8", errors="surrogatepass")
    exercise(path)


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return models to get a tokenizer: one that counts positions from pad, and a decoder."""
    from safetensors.numpy import save_file

    from tokenspace.checkpoint import Checkpoint

    made = []
    for kind, class_, names in (
        ("roberta", "RobertaForMaskedLM", ["roberta.embeddings.word_embeddings.weight"]),
        ("llama", "LlamaForCausalLM", ["model.embed_tokens.weight", "lm_head.weight"]),
    ):
        home = tmp_path_factory.mktemp(kind)
        (home / "tokenizer.json").write_text(whole("wordpiece"))
        rows = len(Vocabulary.load(home))
        tensors = {name: np.full((rows, 4), i, np.float32) for i, name in enumerate(names)}
        save_file(tensors, home / "model.safetensors")
        config = {"model_type": kind, "architectures": [class_], "vocab_size": rows}
        (home / "config.json").write_text(json.dumps(config))
        made.append(Checkpoint.open(home))
    return made


@settings_for(100)
@given(data=st.data())
def test_a_damaged_tokenizer_is_not_given_to_a_model(
    tmp_path: Path, receivers: list[Any], data: st.DataObject
) -> None:
    """Fitting it, cutting its numbers and pruning it end in our errors, or go through."""
    from tokenspace.checkpoint import Target
    from tokenspace.transplant.prune import pruned

    path = tmp_path / "mutant.json"
    kind = data.draw(st.sampled_from(KINDS))
    path.write_text(data.draw(mutated(whole(kind))), encoding="utf-8", errors="surrogatepass")
    for source in receivers:
        try:
            vocab = Target.of(source, path, digits="keep-base").vocab
            pruned(vocab, vocab.count(["the cat sat 1234"]))
        except TokenspaceError:
            continue


FOLDERS = {
    "tokenizer_config.json": json.dumps(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": {"content": "</s>", "special": True},
            "additional_special_tokens": ["<|a|>", {"content": "<|b|>"}],
            "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}, "40": "x"},
            "do_lower_case": True,
        }
    ),
    "vocab.json": json.dumps({"<unk>": 0, "a": 1, "b": 2, "ab": 3, "<s>": 4, "ab</w>": 5}),
    "merges.txt": "#version: 0.2\na b\n",
    "vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\n##s\n.\n",
    "ranks.tiktoken": "YQ== 0\nYg== 1\nYWI= 2\n",
}


@settings_for(150)
@given(data=st.data())
def test_a_damaged_folder_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    if data.draw(st.booleans()):
        source = Vocabulary.of(Tokenizer.from_str(whole(data.draw(st.sampled_from(KINDS)))))
        source.save(folder / "own")
        folder = folder / "own"
        if data.draw(st.booleans()):
            (folder / "vocabulary.json").unlink()
    else:
        names = data.draw(st.lists(st.sampled_from(sorted(FOLDERS)), min_size=1, unique=True))
        for name in names:
            (folder / name).write_text(FOLDERS[name])
    for path in sorted(folder.iterdir()):
        if data.draw(st.booleans()):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".json":
                text = data.draw(mutated(text))
            else:
                start = data.draw(st.integers(0, len(text)))
                text = text[:start] + data.draw(st.text(max_size=4)) + text[start + 2 :]
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
    exercise(folder)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"model":' + "[" * 100_000,
        '{"model": ' + "9" * 5_000 + "}",
        '{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}',
        '{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 90000000}, "unk_token": "a"}}',
        '{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 4294967295}, "unk_token": "a"},'
        ' "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,'
        ' "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}}',
        '{"model": "\\ud800"}',
    ],
    ids=["deep", "deep lists", "long number", "far id", "far word", "far padded", "surrogate"],
)
def test_what_mutants_seldom_hit(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(TokenspaceError) as caught:
        Vocabulary.load(tmp_path / "tokenizer.json")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bos_token", 5),
        ("eos_token", {"content": ["</s>"]}),
        ("additional_special_tokens", {"a": "b"}),
        ("additional_special_tokens", [None]),
        ("added_tokens_decoder", ["<s>"]),
        ("added_tokens_decoder", {"one": "<s>"}),
        ("added_tokens_decoder", {"1": {"special": True}}),
    ],
)
def test_settings_that_hold_no_tokens_are_named(key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(whole("byte"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({key: value}))
    with pytest.raises(TokenspaceError, match=f"tokenizer_config.json: {key}"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("refused", [True, False])
def test_a_panic_is_an_error_and_an_interrupt_is_not(
    refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A panic of the Rust library is a BaseException of a class that cannot be imported.
    panic = type("PanicException", (BaseException,), {})
    fault = panic("index out of bounds\nmore") if refused else KeyboardInterrupt()

    class Broken:
        @staticmethod
        def from_str(text: str) -> Tokenizer:
            raise fault

    monkeypatch.setattr("tokenizers.Tokenizer", Broken)
    (tmp_path / "tokenizer.json").write_text(whole("byte"))
    expected = TokenspaceError if refused else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        Vocabulary.load(tmp_path / "tokenizer.json")
    if refused:
        assert "(index out of bounds)" in str(caught.value)


def test_a_tokenizer_without_its_unknown_token_names_the_text_s_fault(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="<unk>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocab = Vocabulary.load(tmp_path / "tokenizer.json")
    for encode in (lambda: vocab.encode("b"), lambda: vocab.encode_batch(["b"])):
        with pytest.raises(TokenspaceError, match="cannot encode a text"):
            encode()
