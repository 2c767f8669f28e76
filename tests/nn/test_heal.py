"""Healing: a damaged student comes back to its teacher, and files keep their names and types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers as tf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tokenspace.errors import InputError
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.heal import heal
from tokenspace.nn.score import bits_per_byte
from tokenspace.vocab import Vocabulary

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "in",
    "mat",
    "house",
    "red",
    "blue",
    "big",
    "small",
    "tree",
]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 6)) for i in range(200)]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 32, "max_position_embeddings": 40}


def tokenizer() -> tf.PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = {token: i for i, token in enumerate([*special, *WORDS])}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(special)
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, **roles)


def folder(path: Path, kind: str = "BertModel", **settings: object) -> Path:
    words = tokenizer()
    if kind == "LlamaForCausalLM":
        model = tf.LlamaForCausalLM(
            tf.LlamaConfig(vocab_size=len(words), tie_word_embeddings=True, **SHAPE)
        )
    else:
        model = getattr(tf, kind)(tf.BertConfig(vocab_size=len(words), **SHAPE))
    model.save_pretrained(path, **settings)
    words.save_pretrained(path)
    return path


def damage(path: Path) -> None:
    """Set the rows of half of the words to noise."""
    tensors = load_file(path / "model.safetensors")
    name = next(name for name in tensors if "word_embeddings" in name or "embed_tokens" in name)
    rows = tensors[name].clone()
    rows[8:14] = rows[8:14].roll(1, dims=0) * 3
    save_file({**tensors, name: rows}, path / "model.safetensors", {"format": "pt"})


@pytest.fixture(autouse=True)
def seeded() -> None:
    tf.set_seed(3)
    tf.utils.logging.disable_progress_bar()


def test_a_student_comes_back_to_its_teacher(tmp_path: Path) -> None:
    teacher, student = folder(tmp_path / "teacher"), folder(tmp_path / "student")
    for name in ("model.safetensors", "config.json"):
        (student / name).write_bytes((teacher / name).read_bytes())
    damage(student)
    names = set(load_file(student / "model.safetensors"))
    target = load_encoder(str(teacher)).encode(TEXTS[:20])

    def distance() -> float:
        return float(np.square(load_encoder(str(student)).encode(TEXTS[:20]) - target).mean())

    before = distance()
    healed = heal(teacher, student, TEXTS, total=200)
    assert healed.steps == 200
    assert healed.loss_last < 0.2 * healed.loss_first
    assert distance() < 0.5 * before
    assert set(load_file(student / "model.safetensors")) == names


def test_the_same_steps_give_the_same_bytes(tmp_path: Path) -> None:
    teacher = folder(tmp_path / "teacher")
    files = []
    for name in ("one", "two"):
        student = folder(tmp_path / name)
        for file in ("model.safetensors", "config.json"):
            (student / file).write_bytes((teacher / file).read_bytes())
        damage(student)
        heal(teacher, student, TEXTS, total=3, seed=5)
        files.append((student / "model.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "BertForMaskedLM"])
def test_a_language_model_learns_from_the_text(kind: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "model", kind)
    loader = tf.AutoModelForCausalLM if kind.startswith("Llama") else tf.AutoModelForMaskedLM

    texts = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(12)) for i in range(len(WORDS))]

    def bits() -> float:
        model = loader.from_pretrained(path)
        return bits_per_byte(model, Vocabulary.load(path), texts, context=20).bits_per_byte

    before = bits()
    heal(path, path, texts, total=150)
    assert bits() < before - 0.05


def test_without_text_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        heal(tmp_path, tmp_path, ["  "])
