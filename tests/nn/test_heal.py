"""Healing: a damaged student comes back to its teacher, and files keep their names and types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tokenspace.errors import InputError
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.heal import (
    FAMILIES,
    NEAR,
    PIECE,
    VARIANTS,
    WEAK,
    _aligned,
    _difference,
    _edited,
    _families,
    _pages,
    _piece,
    _Reader,
    _start,
    _words,
    heal,
    imitate,
)
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


def pair(path: Path) -> tuple[Path, Path]:
    """Return a teacher, and a copy of it with half of its words damaged."""
    teacher, student = folder(path / "teacher"), folder(path / "student")
    for name in ("model.safetensors", "config.json"):
        (student / name).write_bytes((teacher / name).read_bytes())
    damage(student)
    return teacher, student


def test_a_student_comes_back_to_its_teacher_by_training_alone(tmp_path: Path) -> None:
    teacher, student = (load_encoder(str(path)) for path in pair(tmp_path))
    target = teacher.encode(TEXTS[:20])

    def distance() -> float:
        return float(np.square(student.encode(TEXTS[:20]) - target).mean())

    before = distance()
    batches = _families(TEXTS, [], seed=0)
    _, healed = imitate(teacher, student, batches, seconds=None, total=150, seed=0)
    assert healed.steps == 150
    assert healed.loss_last < 0.2 * healed.loss_first
    assert distance() < 0.5 * before


@pytest.mark.parametrize("limit", [{"total": 5}, {"seconds": 0.5}])
def test_healing_starts_from_what_the_teacher_read(limit: dict[str, Any], tmp_path: Path) -> None:
    teacher, student = pair(tmp_path)
    names = set(load_file(student / "model.safetensors"))
    target = load_encoder(str(teacher)).encode(TEXTS[:20])

    def distance() -> float:
        return float(np.square(load_encoder(str(student)).encode(TEXTS[:20]) - target).mean())

    before = distance()
    healed = heal(teacher, student, TEXTS, **limit)  # so few steps alone leave 9/10 of it
    assert healed.seconds > 0
    assert distance() < 0.1 * before
    assert set(load_file(student / "model.safetensors")) == names


def test_rows_that_raise_the_loss_are_not_taken(tmp_path: Path) -> None:
    teacher, student = (load_encoder(str(path)) for path in pair(tmp_path))
    batches = [next(_families(TEXTS, [], seed=0))]
    table = student.body.network.get_input_embeddings().weight  # type: ignore[attr-defined]
    damaged = table.detach().numpy().copy()
    _start(teacher, student, lambda _, given: given * 3 - given[::-1], batches)
    np.testing.assert_array_equal(table.detach().numpy(), damaged)
    _start(teacher, student, lambda E, _: E, batches)
    good = table.detach().numpy().copy()
    assert (good != damaged).any()
    _start(teacher, student, lambda *_: damaged, batches)
    np.testing.assert_array_equal(table.detach().numpy(), good)


def uncased(words: list[str]) -> _Reader:
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _Reader(made, Vocabulary.of(made, roles={"unk": "[UNK]"}))


def test_rows_of_three_words_by_hand() -> None:
    source = uncased(["[UNK]", "the", "cat", "##s", "ate", "##ate"])
    pieces = ["<unk>", "▁", "▁The", "▁ca", "ts", "ate", "▁dog"]
    made = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    target = _Reader(made, Vocabulary.of(made))
    text = "The cats ate ☃"
    cut = ["▁The", "▁ca", "ts", "▁", "ate", "▁", "☃"]
    assert made.encode(text).tokens == cut
    assert source.tokenizer.encode(text).tokens == ["the", "cat", "##s", "ate", "[UNK]"]
    E, given = np.eye(6, dtype=np.float32), np.full((7, 6), 0.5, np.float32)
    the, cat, s, ate = E[1:5]
    rows = _aligned(E, given, source, target, iter([([text], 1.0)]))
    for token, mean in ((2, the), (3, cat), (4, (cat + s) / 2), (5, ate)):
        np.testing.assert_allclose(rows[token], (mean + WEAK * 0.5) / (1 + WEAK), rtol=1e-6)
    np.testing.assert_array_equal(rows[[0, 1, 6]], given[[0, 1, 6]])  # ☃, white space, not met
    again = [([text, "ate cats"], 1.0), (["cat ts"], WEAK)]  # source: cat, [UNK], which is no row
    rows = _aligned(E, given, source, target, iter(again))
    np.testing.assert_allclose(rows[5], (2 * ate + WEAK * 0.5) / (2 + WEAK), rtol=1e-6)
    np.testing.assert_allclose(rows[4], (cat + s + WEAK * 0.5) / (2 + WEAK), rtol=1e-6)
    np.testing.assert_allclose(
        rows[3], (2 * cat + WEAK * cat + WEAK * 0.5) / (2 + 2 * WEAK), rtol=1e-6
    )


def test_rows_of_bytes_against_a_slow_loop() -> None:
    draw = np.random.default_rng(0)
    words = ["Émile", "naïve", "☃☃", "two  gaps", "İstanbul", "ﬁne", "a-b", "", "…", *WORDS]
    texts = [" ".join(draw.choice(words, 9)) for _ in range(60)]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    target = _Reader(made, Vocabulary.of(made))
    letters = [*"abcdefghijklmnopqrstuvwxyz☃-"]
    source = uncased(["[UNK]", *letters, *(f"##{letter}" for letter in letters), "house", "##use"])
    E = draw.standard_normal((len(source.vocab), 4)).astype(np.float32)
    given = draw.standard_normal((len(target.vocab), 4)).astype(np.float32)

    total, count = np.zeros(given.shape), np.zeros(len(given))
    for text in texts:
        one, other = made.encode(text), source.tokenizer.encode(text)
        for t, token, span in zip(one.ids, one.tokens, one.offsets, strict=True):
            common = [len({*range(*span)} & {*range(*there)}) for there in other.offsets]
            common = [0 if s == 0 else o for s, o in zip(other.ids, common, strict=True)]
            if token != "Ġ" and sum(common):
                total[t] += np.average(E[other.ids].astype(np.float64), axis=0, weights=common)
                count[t] += 1
    expected = np.where(count[:, None] > 0, (total + WEAK * given) / (count[:, None] + WEAK), given)
    rows = _aligned(E, given, source, target, [(texts[:25], 1.0), (texts[25:], 1.0)])
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-6)
    forms = [target.vocab.surfaces[t] for t in np.flatnonzero(count)]
    parts = [form for form in forms if "\ufffd" in form.decode("utf-8", errors="replace")]
    assert len(parts) > 1  # tokens of some bytes of a character


def test_pages_hold_every_kth_text_and_all_words() -> None:
    texts = [f"text {i:05}" for i in range(1000)]  # of 10 characters
    words = [f"w{i}" for i in range(30)]
    for most, step in ((20_000, 1), (10_000, 1), (5_000, 2), (3_000, 4)):
        pages = list(_pages(texts, words, most))
        assert [t for page, weight in pages if weight == 1 for t in page] == texts[::step]
        assert (
            " ".join(t for page, weight in pages if weight == WEAK for t in page).split() == words
        )
    assert [t for page, _ in _pages(texts, [], 0) for t in page] == texts[:1]


def test_the_difference_by_hand_counts_pairs_within_a_family_again() -> None:
    def unit(*degrees: float) -> torch.Tensor:
        angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    size = 1 + VARIANTS
    T = unit(*[0.0] * size, *[90.0] * size)
    assert _difference(T, T) == 0
    # the first text alone turns by 60 degrees: its cosine to its family falls from 1 to 1/2, and
    # to the other family it rises from 0 to sin 60
    S = T.clone()
    S[0] = unit(60.0)[0]
    texts = 2 * size
    moved = 1 / texts  # the squared distance of 60 degrees is 1
    within, across = 2 * VARIANTS * 0.25, 2 * size * 0.75
    gram = (within + across) / texts**2
    near = NEAR * within / (texts * VARIANTS)
    torch.testing.assert_close(float(_difference(S, T)), moved + gram + near)


def test_a_turn_of_everything_alike_leaves_the_pairs_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    T = torch.nn.functional.normalize(torch.randn(8, 5, generator=draw, dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(5, 5, generator=draw, dtype=torch.float64))[0]
    moved = (T @ turn - T).square().sum(dim=1).mean()
    torch.testing.assert_close(_difference(T @ turn, T), moved)


def test_a_piece_is_words_that_follow_one_another() -> None:
    draw = np.random.default_rng(0)
    for length in (1, 2, 3, PIECE, 40):
        words = [f"w{i}" for i in range(length)]
        for _ in range(50):
            piece = _piece(words, draw)
            start = words.index(piece[0])
            assert piece == words[start : start + len(piece)]
            assert min(length, 3) <= len(piece) <= PIECE


def test_an_edit_replaces_or_leaves_out_and_never_all() -> None:
    draw = np.random.default_rng(0)
    piece = [f"w{i}" for i in range(9)]
    replaced = left_out = 0
    for _ in range(200):
        edit = _edited(piece, [["new"], ["other"]], draw)
        kept = [word for word in edit if word in piece]
        assert kept == [word for word in piece if word in kept]  # in their order
        assert len(piece) - len(kept) <= 3
        assert {word.lower() for word in edit} - set(piece) <= {"new", "other"}
        replaced += len(edit) == len(piece)
        left_out += len(edit) < len(piece) and kept == edit
    assert replaced + left_out == 200
    assert 30 < left_out < 90
    assert piece == [f"w{i}" for i in range(9)]
    for _ in range(50):
        assert len(_edited(["one", "two"], [["new"]], draw)) == 2


def test_a_pass_holds_a_family_of_every_text() -> None:
    texts = [" ".join([f"t{i}"] * (1 + i % 30)) for i in range(100)]
    batches = _families(texts, [], seed=1)
    seen: list[str] = []
    wide = []
    while len(seen) < len(texts):
        batch = next(batches)
        assert len(batch) % (1 + VARIANTS) == 0
        assert len(batch) <= FAMILIES * (1 + VARIANTS)
        heads = batch[:: 1 + VARIANTS]
        wide.append(max(map(len, heads)) - min(map(len, heads)))
        seen += [head.split()[0] for head in heads]
    assert sorted(seen) == sorted(text.split()[0] for text in texts)
    assert np.mean(wide) < 15  # characters, of up to 47
    again, other = _families(texts, [], seed=1), _families(texts, [], seed=2)
    first = next(again)
    assert first != next(other)
    assert [next(_families(texts, [], seed=1)) for _ in range(2)] == [first, first]


def test_words_of_a_vocabulary_are_whole_and_of_letters() -> None:
    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "cat": 1, "##dog": 2, "a": 3, "19th": 4}))
    assert _words(Vocabulary.of(pieces)) == ["cat"]
    tokens = ["Ġcat", "dog", "Ġ", "Ġab", "ĠÃ©tÃ©", "Ġ19th"]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert _words(Vocabulary.of(made)) == ["cat", "été"]


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
