"""What every trainer of tokenizers keeps to: whole vocabularies, lossless text, known formats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from subjects import bag, names, run, texts, tiny

from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.vocab import Vocabulary

pytestmark = pytest.mark.parametrize("name", names("tokenize"))

ROUGH = ["", " ", "two  words\n\n\tend ", "Ünïcödé 日本語 🙂", "aaaaaaaaaaaaaaaa", "x\r\ny\u2028z"]


def test_every_id_is_a_token_once(name: str) -> None:
    vocab = run(name)
    assert vocab.tokenizer is not None
    assert len(vocab) == len(set(vocab.tokens))
    assert not vocab.holes and not vocab.ghosts
    assert {"bos", "eos"} <= set(vocab.roles)


def test_any_text_comes_back_from_its_tokens(name: str) -> None:
    vocab = run(name)
    for text in [*texts(bag("tokenize")["corpus"]), *ROUGH]:
        ids = vocab.encode(text)
        assert b"".join(map(vocab.surface, ids)) == text.encode()
        assert vocab.tokenizer is not None
        assert vocab.tokenizer.decode(ids) == text


def test_the_size_is_kept_and_a_larger_one_spells_with_fewer_tokens(name: str) -> None:
    small, large = run(name, vocab_size=300), run(name, vocab_size=500)
    assert len(small) == 300 < len(large) <= 500
    some = texts(bag("tokenize")["corpus"])
    counts = [sum(map(len, vocab.encode_batch(some))) for vocab in (small, large)]
    assert counts[1] < counts[0]


def test_texts_in_another_container_give_the_same_vocabulary(name: str) -> None:
    corpus = bag("tokenize")["corpus"]
    assert run(name, {"corpus": Corpus(list(corpus))}) == run(name)


@pytest.mark.parametrize("nothing", [[], [""], ["", "  "]])
def test_an_empty_corpus_is_refused(name: str, nothing: list[str]) -> None:
    with pytest.raises(InputError):
        run(name, {"corpus": Corpus(nothing)})


LOADING = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = [tokenizer.encode(text) for text in json.loads(sys.argv[2])]
assert "tokenspace" not in sys.modules
print(json.dumps([ids, [tokenizer.decode(i) for i in ids], tokenizer.eos_token, len(tokenizer)]))
"""


def test_a_saved_directory_loads_with_transformers(name: str, tmp_path: Path) -> None:
    vocab = run(name)
    vocab.save(tmp_path / "saved")
    some = [*texts(bag("tokenize")["corpus"]), *ROUGH[:4]]
    done = subprocess.run(
        [sys.executable, "-c", LOADING, tmp_path / "saved", json.dumps(some)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ids, decoded, end, count = json.loads(done.stdout)
    assert ids == vocab.encode_batch(some)
    assert decoded == some
    assert (end, count) == (vocab.tokens[vocab.roles["eos"]], len(vocab))


def test_the_command_writes_a_file_or_a_directory(name: str, tmp_path: Path, cli) -> None:  # type: ignore[no-untyped-def]
    given = tmp_path / "text.txt"
    given.write_text("\n".join(texts(bag("tokenize")["corpus"])) + "\n", encoding="utf-8")
    sizes = [word for knob, value in tiny(name).tiny.items() for word in (f"--{knob}", value)]
    words = [str(word).replace("_", "-") for word in sizes]
    saved = []
    for target in (tmp_path / "out.json", tmp_path / "out"):
        ended = cli("tokenize", name, "--corpus", given, *words, "--out", target)
        assert ended.code == 0, ended.err
        saved.append(Vocabulary.load(target))
    assert saved[0].tokens == saved[1].tokens
    assert (tmp_path / "out" / "tokenizer_config.json").is_file()
