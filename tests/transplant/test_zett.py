from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from tokenspace import rng
from tokenspace.checkpoint import Checkpoint
from tokenspace.cli import root
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, FormatError, InputError, MissingEvidence
from tokenspace.lm.gpt import GPT
from tokenspace.nn.quiet import quiet
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.tokenizer_training import byte_bpe, wordpiece
from tokenspace.transplant._sampler import LEAST, NEVER, Sampler, tokenizer
from tokenspace.transplant._shared import pieces
from tokenspace.transplant.directory import transplant_model
from tokenspace.transplant.hypernet import Hypernet, Shape, identity, parameters
from tokenspace.transplant.trial import bag
from tokenspace.transplant.zett import ZeTT
from tokenspace.transplant.zett_net import Batch, Losses, Network, Sampling, predict
from tokenspace.vocab import Vocabulary

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "under", "table", "green"]
QUICK = ZeTT(steps=3, identity_steps=2, layers=1, threads=1)


def texts(seed: int = 0, count: int = 40) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 60)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zett") / "model"
    recipe = GPT(width=16, layers=1, heads=2, context=16, batch=4, budget="20", threads=1)
    recipe(Corpus(texts()), tokenizer=byte_bpe(texts(), 300, start="<s>")).save(folder)
    return folder


@pytest.fixture(scope="module")
def target() -> Vocabulary:
    return byte_bpe([" ".join(WORDS)] * 3, 320, start="<s>")


def given(seed: int = 0) -> dict:
    return bag(seed, tiny=True)


# The network


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def norm(x: np.ndarray, w: dict, name: str) -> np.ndarray:
    centred = x - x.mean()
    return centred / np.sqrt(x.var() + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: dict, name: str) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def projector(x: np.ndarray, w: dict, name: str) -> np.ndarray:
    inner = gelu(linear(x, w, f"{name}.inner"))
    return norm(x + gelu(linear(inner, w, f"{name}.outer")), w, f"{name}.norm")


def literal(hypernet: Hypernet, row: np.ndarray) -> np.ndarray:
    """Predict one token, as the page writes it: every position, one vector at a time."""
    w = {name: array.astype(np.float64) for name, array in hypernet.weights.items()}
    shape, states = hypernet.shape, []
    for p, piece in enumerate(row[row >= 0]):
        e = hypernet.base[piece].astype(np.float64) * w["scale_in.scale"] + w["scale_in.shift"]
        states.append(projector(linear(e, w, "lift"), w, "entry") + w["positions"][p])
    h, size = shape.hidden, shape.hidden // shape.heads
    for i in range(shape.layers):
        name = f"blocks.{i}"
        qkv = [linear(norm(x, w, f"{name}.before"), w, f"{name}.qkv") for x in states]
        found = []
        for a, x in zip(qkv, states, strict=True):
            mixed = np.zeros(h)
            for head in range(shape.heads):
                part = slice(head * size, (head + 1) * size)
                scores = np.array([a[:h][part] @ b[h : 2 * h][part] for b in qkv]) / size**0.5
                odds = np.exp(scores - scores.max())
                for weight, b in zip(odds / odds.sum(), qkv, strict=True):
                    mixed[part] += weight * b[2 * h :][part]
            y = x + linear(mixed, w, f"{name}.out")
            up = gelu(linear(norm(y, w, f"{name}.between"), w, f"{name}.up"))
            found.append(y + linear(up, w, f"{name}.down"))
        states = found
    z = norm(states[0], w, "norm")
    rows = [
        linear(projector(z, w, f"heads.{i}.block"), w, f"heads.{i}.row") for i in range(shape.sides)
    ]
    return np.concatenate(rows) * w["scale_out.scale"] + w["scale_out.shift"]


def random_net(shape: Shape, rows: int = 20, seed: int = 0, vocabulary: str = "") -> Hypernet:
    draw = np.random.default_rng(seed)
    weights = {
        name: (0.4 * draw.standard_normal(size)).astype(np.float32)
        for name, size in parameters(shape).items()
    }
    base = draw.standard_normal((rows, shape.width)).astype(np.float32)
    return Hypernet(shape, weights, base, vocabulary)


@pytest.mark.parametrize("shape", [Shape(8, 1, 2, 2, 4), Shape(12, 2, 1, 3, 4)])
def test_the_network_equals_a_literal_transcription(shape: Shape) -> None:
    hypernet = random_net(shape)
    rows = np.array([[3, -1, -1, -1], [1, 2, -1, -1], [5, 5, 0, 7], [9, 19, 4, -1]])
    exact = np.stack([literal(hypernet, row) for row in rows])
    np.testing.assert_allclose(predict(hypernet, rows), exact, rtol=2e-4, atol=2e-4)


def test_padding_says_nothing() -> None:
    hypernet = random_net(Shape(8, 1, 2, 2, 4))
    short, long = np.array([[3, 1]]), np.array([[3, 1, -1, -1]])
    np.testing.assert_allclose(predict(hypernet, short), predict(hypernet, long), atol=1e-6)


def test_the_weights_are_those_that_are_listed() -> None:
    shape = Shape(24, 2, 3, 4, 6)
    found = {name: tuple(array.shape) for name, array in Network(shape).state_dict().items()}
    assert found == parameters(shape)


def test_scalers_give_the_wanted_moments() -> None:
    network, x = Network(Shape(6, 1, 1, 1, 2)), 3 + 2 * torch.randn(50, 6)
    network.scale_in.fit(x)
    y = network.scale_in(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0), torch.ones(6))
    network.scale_out.fit(y, x)
    torch.testing.assert_close(network.scale_out(y), x)


# The losses


class Echo(nn.Module):
    """Stands for the network: answers its first piece's row plus a constant."""

    def forward(self, rows: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        return rows[:, 0] + 0.5


class Body(nn.Module):
    """Stands for the model: its states are its inputs."""

    def forward(self, inputs_embeds: torch.Tensor) -> Body:
        self.logits = inputs_embeds
        return self


def test_the_losses_by_hand() -> None:
    E = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 1.0]])  # two tokens and the mean row
    losses = Losses(Body(), E, 1, 0.5)
    # both source tokens are missed by 0.5 in two columns
    assert float(losses.copied(Echo(), torch.tensor([0, 1]))) == pytest.approx(0.5)
    batch = Batch(
        inputs=torch.tensor([[0, 1]]),
        targets=torch.tensor([[1, -100]]),
        pieces=torch.tensor([[0], [0]]),
        partner=torch.tensor([0, -1]),  # row 0 is copied, row 1 is predicted as (1.5, 0.5)
    )
    nats = np.log(np.exp(1.0) + np.exp(1.5)) - 1.5  # states (1, 0) times (1, 0) and (1.5, 0.5)
    assert float(losses.main(Echo(), batch)) == pytest.approx(nats + 0.5 * 0.5 / 1.0, rel=1e-5)


def test_an_untied_model_has_rows_of_two_sides() -> None:
    E = torch.tensor([[1.0, 0.0, 0.0, 3.0], [0.0, 2.0, 1.0, 1.0], [0.5, 1.0, 0.5, 2.0]])
    losses = Losses(Body(), E, 2, 0.0)
    batch = Batch(
        torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[0], [1]]), torch.tensor([0, 1])
    )  # the state is the input row (1, 0); the output rows are (0, 3) and (1, 1)
    assert float(losses.main(Echo(), batch)) == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-5)


# The sampler


def slow_scores(lines: list[str]) -> Counter:
    """Score the substrings of words of letters, straight from the page."""
    scores: Counter = Counter()
    for line in lines:
        for word in line.split(" "):
            text = "Ġ" + word
            for start in range(0, len(text), 4):
                for end in range(start + 1, min(start + 15, len(text)) + 1):
                    scores[text[start:end]] += end - start
    return Counter({piece: score for piece, score in scores.items() if len(piece) > 1})


def test_scores_are_those_of_a_slow_count_and_old_texts_leave() -> None:
    sampler, lines = (
        Sampler(LEAST, spread=0.0, pool=2),
        ["the cat", "antidisestablishment a", "b cc"],
    )
    for line in lines:
        sampler.add([line])
    assert sampler._scores == slow_scores(lines[1:])


def test_a_vocabulary_without_noise_is_the_best_one() -> None:
    lines = texts()
    sampler = Sampler(LEAST + 9, spread=0.0, pool=4)
    sampler.add(lines)
    scores = slow_scores([line.rstrip(".") for line in lines])
    found = sampler.draw(np.random.default_rng(0))
    assert len(found) == len({piece for piece, _ in found}) == LEAST + 9
    best = [piece for piece, score in found[LEAST - 1 :] if score > NEVER]
    odds = {piece: score for piece, score in scores.items() if piece in best}
    assert min(odds.values()) > 0.8 * scores.most_common(10)[-1][1]
    score = dict(found)
    assert score["Ġĉĉ"] == 0.0  # runs of blanks are free
    assert score["q"] == min(score[piece] for piece in best)


def test_characters_of_several_bytes_are_not_begun_in_the_middle() -> None:
    sampler = Sampler(LEAST, spread=0.0, pool=1)
    sampler.add(["ααααα"])  # a space and ten bytes: byte 4 is inside a letter, byte 8 too
    assert all(piece[0] == "Ġ" for piece in sampler._scores)


def test_a_sampled_tokenizer_writes_any_text_with_the_best_pieces() -> None:
    sampler = Sampler(LEAST + 40, spread=0.0, pool=1)
    sampler.add(texts())
    cut = tokenizer(sampler.draw(np.random.default_rng(0)))
    assert cut.encode(" the cat").tokens == ["Ġthe", "Ġcat"]
    vocab = Vocabulary.of(cut)
    for text in ("née\n\n\tx", "日本 ½", " a  b"):
        assert b"".join(vocab.surfaces[i] for i in cut.encode(text).ids) == text.encode()


# Training and applying


def test_batches_tell_the_same_text_in_sampled_tokens(model: Path) -> None:
    source = Checkpoint.open(model).vocab
    sampling = Sampling(QUICK, texts(), source, LEAST + 30, 14, masked=False)
    batch = next(iter(sampling))
    m = len(batch.partner)
    assert batch.inputs.shape == batch.targets.shape == (12, 15)
    assert int(batch.inputs.max()) == m - 1  # the start token stands last
    assert int(batch.partner[-1]) == source.roles["bos"]
    assert (batch.inputs[:, 0] == m - 1).all()
    torch.testing.assert_close(batch.inputs[:, 1:], batch.targets[:, :-1])
    line = b""
    for place in batch.inputs[0, 1:].tolist():
        row = batch.pieces[place]
        line += b"".join(source.surfaces[i] for i in row[row >= 0].tolist())
        if batch.partner[place] >= 0:
            assert row.tolist()[:2] in ([int(batch.partner[place]), -1], row.tolist()[:1])
    assert any(line in (" " + text).encode() for text in texts())


def test_a_masked_batch_hides_some_tokens(model: Path) -> None:
    plain = Checkpoint.open(model).vocab
    assert plain.tokenizer is not None
    plain.tokenizer.add_special_tokens(["<mask>"])
    source = Vocabulary.of(plain.tokenizer, roles={"bos": "<s>", "eos": "<s>", "mask": "<mask>"})
    batch = next(iter(Sampling(QUICK, texts(), source, LEAST + 30, 14, masked=True)))
    m = len(batch.partner)
    hidden = batch.targets != -100
    assert 0 < int(hidden.sum()) < 60
    assert (batch.inputs[hidden] == m - 2).all()
    assert int(batch.partner[-2]) == source.roles["mask"]


def test_training_is_the_same_every_time_and_the_seed_counts(model: Path, tmp_path: Path) -> None:
    files = []
    for index, seed in enumerate((0, 0, 1)):
        trained = replace(QUICK, seed=seed).train(Checkpoint.open(model), Corpus(texts()))
        trained.save(tmp_path / f"{index}.safetensors")
        files.append((tmp_path / f"{index}.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_training_predicts_the_source_better(model: Path) -> None:
    source = Checkpoint.open(model).table()
    errors = []
    for count in (0, 60):
        recipe = replace(QUICK, identity_steps=count, steps=1, lr=5e-3)
        trained = recipe.train(Checkpoint.open(model), Corpus(texts()))
        found = predict(trained, np.arange(len(source.vocab))[:, None])
        errors.append(float(np.square(found - source.vectors).sum(1).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_with_model_and_corpus_it_trains_and_applies(model: Path, target: Vocabulary) -> None:
    opened = Checkpoint.open(model)
    source = opened.table()
    table = QUICK(source, target, model=opened, corpus=Corpus(texts()))
    trained = QUICK.train(opened, Corpus(texts()))
    again = QUICK(source, target, hypernet=trained)
    np.testing.assert_array_equal(table.vectors, again.vectors)
    notes = table.notes
    assert notes["copied"] + notes["rebuilt"] + notes["mean"] == len(target)
    assert notes["rebuilt"] == len(notes["tokens"]) > 0
    split = pieces(target, np.array(notes["tokens"]), source.vocab)
    exact = predict(trained, split.padded()[0][:, :6])
    np.testing.assert_allclose(table.vectors[notes["tokens"]], exact, atol=1e-5)


def test_variants_for_a_model_that_was_trained_further() -> None:
    inputs = given()
    source, hypernet = inputs["source"], inputs["hypernet"]
    moved = source.vectors + np.float32(0.25)
    tuned = source.replace(vectors=moved)
    base = apply(ZeTT(threads=1), {**inputs, "source": source})
    same = apply(ZeTT(threads=1), {**inputs, "source": tuned})
    delta = apply(ZeTT(threads=1, variant="delta"), {**inputs, "source": tuned})
    new = base.notes["tokens"]
    np.testing.assert_array_equal(same.vectors[new], base.vectors[new])
    np.testing.assert_allclose(delta.vectors[new], base.vectors[new] + 0.25, atol=1e-5)
    still = apply(ZeTT(threads=1, variant="delta"), inputs)
    np.testing.assert_allclose(still.vectors, base.vectors, atol=1e-6)
    assert hypernet.vocabulary == identity(source.vocab)


def test_a_tied_model_that_is_untied_gets_the_rows_twice() -> None:
    inputs = given()
    source = inputs["source"]
    both = source.replace(vectors=np.concatenate([source.vectors] * 2, axis=1))
    once = apply(ZeTT(threads=1), inputs)
    twice = apply(ZeTT(threads=1), {**inputs, "source": both})
    np.testing.assert_array_equal(twice.vectors, np.concatenate([once.vectors] * 2, axis=1))


def test_long_tokens_are_counted() -> None:
    inputs = given()
    table = apply(ZeTT(threads=1), inputs)
    support = np.array(table.notes["support"])
    assert table.notes["truncated"] == table.notes["flagged"] == int((support > 6).sum())


# What is refused


def test_without_a_network_it_says_what_to_give() -> None:
    inputs = {name: value for name, value in given().items() if name != "hypernet"}
    with pytest.raises(MissingEvidence, match="a model and a corpus") as caught:
        apply(ZeTT(), inputs)
    assert "--hypernet" in str(caught.value.hint)


def test_a_network_of_another_model_is_refused() -> None:
    inputs = given()
    source = inputs["source"]
    with pytest.raises(InputError, match="width 16, not 8"):
        apply(ZeTT(), {**inputs, "source": source.replace(vectors=source.vectors[:, :8])})
    other = random_net(Shape(16, 1, 1, 2, 6), len(source.vocab), vocabulary="another")
    with pytest.raises(InputError, match="another vocabulary"):
        apply(ZeTT(), {**inputs, "hypernet": other})


def test_a_source_that_cannot_split_is_refused() -> None:
    words = Vocabulary.words(["a", "b"])
    hypernet = random_net(Shape(8, 1, 1, 2, 6), 2, vocabulary=identity(words))
    with pytest.raises(InputError, match="no tokenizer"):
        ZeTT()(
            EmbeddingTable(words, hypernet.base), Vocabulary.words(["a", "c"]), hypernet=hypernet
        )


def test_training_needs_text_and_a_head(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        QUICK.train(Checkpoint.open(model), Corpus([" ", ""]))
    headless = tmp_path / "headless"
    shutil.copytree(model, headless)
    config = json.loads((headless / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["LlamaModel"]
    (headless / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="no language model"):
        QUICK.train(Checkpoint.open(headless), Corpus(texts()))


def test_a_vocabulary_must_hold_more_than_bytes() -> None:
    with pytest.raises(ConfigError, match="vocab_size"):
        ZeTT(vocab_size=300)


# The file


def test_a_saved_network_is_the_same_network(tmp_path: Path) -> None:
    hypernet = replace(random_net(Shape(8, 1, 2, 2, 4), vocabulary="v"), notes={"loss": 1.5})
    path = tmp_path / "h.safetensors"
    hypernet.save(path)
    again = Hypernet.load(path)
    assert (again.shape, again.vocabulary, again.notes) == (hypernet.shape, "v", {"loss": 1.5})
    rows = np.array([[1, 2, -1], [3, -1, -1]])
    np.testing.assert_array_equal(predict(again, rows), predict(hypernet, rows))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    from tokenspace.io import save_tensors

    hypernet, path = random_net(Shape(8, 1, 1, 2, 4)), tmp_path / "h.safetensors"
    hypernet.save(path)
    data = bytearray(path.read_bytes())
    (tmp_path / "short.safetensors").write_bytes(data[:-20])
    length = int.from_bytes(data[:8], "little")
    data[8 + length + 3] ^= 0x40  # in the base, which is written first
    (tmp_path / "changed.safetensors").write_bytes(data)
    save_tensors(tmp_path / "other.safetensors", {"base": hypernet.base})
    header = json.loads(path.read_bytes()[8 : 8 + length])
    about = json.loads(header["__metadata__"]["tokenspace"])
    tensors = {"base": hypernet.base, **hypernet.weights}
    later = json.dumps({**about, "version": 99})
    save_tensors(tmp_path / "later.safetensors", tensors, {"tokenspace": later})
    wrong = json.dumps({**about, "shape": {**about["shape"], "layers": 2}})
    save_tensors(tmp_path / "wrong.safetensors", tensors, {"tokenspace": wrong})
    for name, words in (
        ("short", "not a whole"),
        ("changed", "not those that were saved"),
        ("other", "not a hypernet"),
        ("later", "newer"),
        ("wrong", "missing or unknown"),
    ):
        with pytest.raises(FormatError, match=words):
            Hypernet.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="no such file"):
        Hypernet.load(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="safetensors"):
        hypernet.save(tmp_path / "h.bin")


# Whole directories


def test_a_masked_model_can_be_trained_through(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    vocab = wordpiece(texts(), 60)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20,
    )  # fmt: skip
    with rng.torch_scope(0, "bert"), quiet():
        BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    vocab.write(tmp_path / "bert")
    opened = Checkpoint.open(tmp_path / "bert")
    trained = replace(QUICK, steps=5).train(opened, Corpus(texts()))
    target = byte_bpe(texts(1), 330)
    table = QUICK(opened.table(), target, hypernet=trained)
    assert table.notes["rebuilt"] > 0
    assert trained.notes["loss_last"] < 2 * np.log(LEAST)


def test_a_command_trains_a_network_and_another_uses_it(
    model: Path, target: Vocabulary, tmp_path: Path
) -> None:
    text, file = tmp_path / "text.txt", tmp_path / "h.safetensors"
    text.write_text("\n".join(texts()), encoding="utf-8")
    target.save(tmp_path / "target")
    knobs = "zett:steps=2,identity_steps=2,layers=1,threads=1"
    words = ["hypernet", str(model), "--corpus", str(text), "--out", str(file), "--method", knobs]
    done = CliRunner().invoke(root, words, catch_exceptions=False)
    assert "loss" in done.output
    with pytest.raises(ConfigError, match="exists"):
        CliRunner().invoke(root, words, catch_exceptions=False)
    words = ["transplant", "zett", "--source", str(model), "--target", str(tmp_path / "target")]
    words += ["--hypernet", str(file), "--out", str(tmp_path / "out"), "--no-validate"]
    CliRunner().invoke(root, words, catch_exceptions=False)
    made, hypernet = Checkpoint.open(tmp_path / "out"), Hypernet.load(file)
    table = ZeTT()(Checkpoint.open(model).table(), made.vocab, hypernet=hypernet)
    new = table.notes["tokens"]
    np.testing.assert_allclose(made.table().vectors[new], table.vectors[new], atol=1e-6)


def test_an_untied_directory_is_given_one_call_for_both_sides(
    model: Path, target: Vocabulary, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    untied = tmp_path / "untied"
    with quiet():
        network = AutoModelForCausalLM.from_pretrained(model)
        network.config.tie_word_embeddings = False
        head = nn.Linear(16, network.config.vocab_size, bias=False)
        with rng.torch_scope(0, "head"):
            nn.init.normal_(head.weight)
        network.lm_head = head
        network.save_pretrained(untied)
    Checkpoint.open(model).vocab.write(untied)
    opened = Checkpoint.open(untied)
    assert not opened.tied
    report = transplant_model(
        QUICK, opened, target, tmp_path / "out", bag={"corpus": Corpus(texts())}, no_validate=True
    )
    assert report.metrics["rebuilt"] > 0
    trained = QUICK.train(opened, Corpus(texts()))
    assert trained.shape == Shape(32, 2, 1, 4, 6)
    made = Checkpoint.open(tmp_path / "out")
    both = np.concatenate([opened.table(side).vectors for side in ("input", "output")], axis=1)
    table = QUICK(opened.table().replace(vectors=both), made.vocab, hypernet=trained)
    for side, half in zip(("input", "output"), np.split(table.vectors, 2, axis=1), strict=True):
        np.testing.assert_allclose(made.table(side).vectors, half, atol=1e-6)
