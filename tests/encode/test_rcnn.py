"""RCNN against a literal transcription, by hand, and on a task of word order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tokenspace.corpus import Corpus
from tokenspace.encode.classifier import DocumentClassifier
from tokenspace.encode.commands import classify_command
from tokenspace.encode.rcnn import RCNN, chosen
from tokenspace.encode.rcnn_net import initial
from tokenspace.encode.static import text_vocabulary
from tokenspace.errors import FormatError, InputError
from tokenspace.labels import Labels
from tokenspace.runner import load_input
from tokenspace.space.steps import pretrained_table
from tokenspace.table import EmbeddingTable
from tokenspace.text_encoder import TextEncoder
from tokenspace.vocab import Vocabulary

WORDS = ["a", "b", "c", "d", "e", "f"]
TEXTS = ["a b c", "d", "", "f e d c b a a b c d", "b unknown b", "c c"]
TINY = RCNN(dim=4, context=3, hidden=5, epochs=3, batch_size=4, min_count=1)


def random_classifier(seed: int = 0) -> DocumentClassifier:
    """Return one whose every weight, the contexts at the edges too, is drawn at random."""
    draw = np.random.default_rng(seed)
    vocab = text_vocabulary(Vocabulary.words(WORDS))
    D, C, H, L = 4, 3, 5, 3
    shapes = {
        "E.weight": (len(vocab), D),
        "edges": (2, C),
        "W": (2, C, C),
        "Ws": (2, C, D),
        "mix.weight": (H, D + 2 * C),
        "mix.bias": (H,),
        "out.weight": (L, H),
        "out.bias": (L,),
    }
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return DocumentClassifier(vocab, ("x", "y", "z"), weights)


def literal(model: DocumentClassifier, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lai et al. (2015), equations 1 to 7, in float64 and word by word: y, z and p."""
    w = {name: part.astype(np.float64) for name, part in model.weights.items()}
    e = [w["E.weight"][i] for i in model.vocab.encode(text)]
    n = len(e)
    left, right = [w["edges"][0]] * n, [w["edges"][1]] * n
    (W_l, W_r), (W_sl, W_sr) = w["W"], w["Ws"]
    for i in range(1, n):
        left[i] = np.tanh(W_l @ left[i - 1] + W_sl @ e[i - 1])
    for i in range(n - 2, -1, -1):
        right[i] = np.tanh(W_r @ right[i + 1] + W_sr @ e[i + 1])
    y = np.zeros((n, len(w["mix.bias"])))
    for i in range(n):
        x = np.concatenate([left[i], e[i], right[i]])
        y[i] = np.tanh(w["mix.weight"] @ x + w["mix.bias"])
    z = y.max(axis=0) if n else np.zeros(y.shape[1])
    logits = w["out.weight"] @ z + w["out.bias"]
    return y, z, np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_it_is_the_papers_network_whatever_the_batch(batch_size: int) -> None:
    model = random_classifier()
    z, tokens = model.encode_both(TEXTS, batch_size=batch_size)
    chances = model.probabilities(TEXTS, batch_size=batch_size)
    for index, text in enumerate(TEXTS):
        y, vector, p = literal(model, text)
        np.testing.assert_allclose(tokens[index], y, atol=1e-6)
        np.testing.assert_allclose(z[index], vector, atol=1e-6)
        np.testing.assert_allclose(chances[index], p, atol=1e-6)
    labels = [model.labels[int(np.argmax(literal(model, text)[2]))] for text in TEXTS]
    assert model.classify(TEXTS, batch_size=batch_size) == labels
    np.testing.assert_array_equal(model.encode(TEXTS, batch_size=batch_size), z)


def test_the_first_and_last_words_have_the_learned_contexts() -> None:
    model = random_classifier()
    w = model.weights
    x = np.concatenate([w["edges"][0], w["E.weight"][3], w["edges"][1]])
    expected = np.tanh(w["mix.weight"] @ x + w["mix.bias"])
    np.testing.assert_allclose(model.encode(["d"])[0], expected, atol=1e-6)


def test_it_begins_as_a_window_of_three_words() -> None:
    draw = np.random.default_rng(1)
    net = initial(draw.normal(size=(9, 4)).astype(np.float32), 3, 5, 2, seed=0)
    whole, length = torch.arange(9)[None], torch.tensor([9])
    other = torch.tensor([[8, 7, 2, 3, 4, 5, 0, 0, 1]])  # the same at the places 2 to 5
    first, second = (net.states(ids, length)[0] for ids in (whole, other))
    assert torch.equal(first[3:5], second[3:5])
    assert not torch.isclose(first[2], second[2]).all()


def test_gradients_are_those_of_finite_differences() -> None:
    draw = np.random.default_rng(1)
    net = initial(draw.normal(size=(5, 3)).astype(np.float32), 2, 4, 3, seed=0).double()
    with torch.no_grad():
        for part in (net.edges, net.W):
            part.normal_(generator=torch.Generator().manual_seed(0))
    ids, lengths = torch.tensor([[1, 2, 3, 4], [4, 2, 0, 0], [0, 0, 0, 0]]), torch.tensor([4, 2, 0])

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(net(ids, lengths), torch.tensor([0, 2, 1]))

    torch.autograd.backward(loss())
    for name, part in net.named_parameters():
        assert part.grad is not None, name
        for place in range(part.numel()):
            value = part.data.view(-1)
            former = value[place].item()
            ends = []
            for shift in (1e-6, -1e-6):
                value[place] = former + shift
                ends.append(loss().item())
            value[place] = former
            slope = (ends[0] - ends[1]) / 2e-6
            assert part.grad.view(-1)[place].item() == pytest.approx(slope, abs=1e-7), name


def test_keys_are_where_the_units_have_their_maximum() -> None:
    model = random_classifier()
    text = "f e d, c b a: a b c d"
    taken = literal(model, text)[0].argmax(axis=0)
    words = ["f", "e", "d", "c", "b", "a", "a", "b", "c", "d"]
    found = model.keys([text, "", "d"], most=10)
    expected = sorted((-list(taken).count(i), i) for i in set(taken.tolist()))
    assert [key.units for key in found[0]] == [-units for units, _ in expected]
    for key, (_, place) in zip(found[0], expected, strict=True):
        inside = words[max(0, place - 1) : place + 2]
        assert [c for c in key.text if c.isalpha()] == inside
        assert text[key.start : key.end] == key.text
    assert found[1] == []
    assert [tuple(key) for key in found[2]] == [("d", 0, 1, 5)]
    assert len(model.keys([text], most=1)[0]) == 1


def orders(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return texts of the same words, whose class is only whether x comes before y."""
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for index in range(count):
        words = ["x", "y", *draw.choice(WORDS, size=int(draw.integers(2, 7)))]
        words = [words[i] for i in draw.permutation(len(words))]
        first, last = sorted((words.index("x"), words.index("y")))
        words[first], words[last] = ("x", "y") if index % 2 else ("y", "x")
        texts.append(" ".join(words))
        labels.append("xy" if index % 2 else "yx")
    return texts, labels


def test_it_learns_an_order_that_a_bag_of_words_cannot_see() -> None:
    known, labels = orders(300, 0)
    asked, answers = orders(100, 1)
    recipe = RCNN(dim=8, context=8, hidden=16, epochs=15, lr=0.01, min_count=1)
    model = recipe(Corpus(known), labels=Labels(labels))
    right = np.mean([a == b for a, b in zip(model.classify(asked), answers, strict=True)])
    assert right > 0.95
    assert model.metrics["held_out"] == 30
    assert model.metrics["held_out_accuracy"] > 0.9


def test_the_kept_epoch_is_the_one_that_is_best_on_the_held_out_texts() -> None:
    known, labels = orders(60, 0)
    recipe = RCNN(dim=4, context=4, hidden=4, epochs=6, lr=0.01, min_count=1, held_out=0.3)
    model = recipe(Corpus(known), labels=Labels(labels))
    names = model.labels
    held = chosen(np.array([names.index(label) for label in labels]), 0.3, 0)
    found = model.classify([known[i] for i in held])
    share = np.mean([a == labels[i] for a, i in zip(found, held, strict=True)])
    assert model.metrics["held_out_accuracy"] == pytest.approx(share)
    assert 1 <= model.metrics["epoch"] <= 6


def test_a_share_of_every_class_is_held_out() -> None:
    targets = np.array([0] * 20 + [1] * 9 + [2] * 31)
    held = chosen(targets, 0.1, 0)
    assert np.bincount(targets[held], minlength=3).tolist() == [2, 0, 3]
    assert len(set(held.tolist())) == 5
    assert len(chosen(targets, 0.0, 0)) == 0


def test_it_begins_with_the_rows_of_the_table_and_trains_them() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    table = EmbeddingTable(Vocabulary.words(["a", "b", "rare"]), rows)
    model = TINY(Corpus(["a b", "b a b"]), labels=Labels(["x", "y"]), table=table)
    E = model.weights["E.weight"]
    np.testing.assert_array_equal(E[2], rows[2])  # it never occurs
    assert (E[:2] != rows[:2]).all()
    assert not E[3].any()  # nor does an unknown word
    assert model.encode(["rare"]).any()


def test_it_is_read_wherever_text_encoders_are(tmp_path: Path) -> None:
    model = random_classifier()
    model.save(tmp_path / "model")
    again = load_input(TextEncoder, str(tmp_path / "model"))
    assert isinstance(again, DocumentClassifier)
    assert again.labels == model.labels
    rows = pretrained_table(str(tmp_path / "model"))
    np.testing.assert_array_equal(rows.vectors, model.weights["E.weight"])
    np.testing.assert_array_equal(again.probabilities(TEXTS), model.probabilities(TEXTS))


def test_the_command_names_classes(tmp_path: Path) -> None:
    model = random_classifier()
    model.save(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("a b c\nd\n")
    run = CliRunner().invoke
    expected = model.classify(["a b c", "d"])
    lines = run(classify_command, [str(tmp_path / "model"), str(tmp_path / "texts.txt")]).output
    assert [line.split("\t")[0] for line in lines.splitlines()] == expected
    alone = run(classify_command, [str(tmp_path / "model"), "a b c", "--keys", "2", "--json"])
    (record,) = json.loads(alone.output)
    assert record["label"] == expected[0]
    assert record["probabilities"].keys() == {"x", "y", "z"}
    assert record["probability"] == max(record["probabilities"].values())
    assert [key["text"] for key in record["keys"]] == [k.text for k in model.keys(["a b c"])[0][:2]]
    long = run(classify_command, [str(tmp_path / "model"), "a b " * 2000])  # no name of a file
    assert len(long.output.splitlines()) == 1
    with pytest.raises(InputError, match="not a classifier"):
        run(classify_command, [str(tmp_path), "a"], catch_exceptions=False)


def test_bad_input_is_refused() -> None:
    texts = Corpus(["a b", "b a"])
    with pytest.raises(InputError, match="3 labels for 2 texts"):
        TINY(texts, labels=Labels(["x", "y", "x"]))
    with pytest.raises(InputError, match="all 2 texts have the label 'x'"):
        TINY(texts, labels=Labels(["x", "x"]))
    with pytest.raises(InputError, match="no text"):
        TINY(Corpus([]), labels=Labels([]))
    foreign = EmbeddingTable(Vocabulary.words(["q"]), np.ones((1, 4), np.float32))
    with pytest.raises(InputError, match="no token"):
        TINY(Corpus(["!!", "??"]), labels=Labels(["x", "y"]), table=foreign)
    with pytest.raises(InputError, match="one string"):
        random_classifier().classify("a b")
    with pytest.raises(InputError, match="batch_size=0"):
        random_classifier().encode(["a"], batch_size=0)
    with pytest.raises(InputError, match="most=0"):
        random_classifier().keys(["a"], most=0)


@pytest.mark.parametrize("damage", ["labels", "tensor", "missing", "json"])
def test_a_damaged_directory_is_refused(damage: str, tmp_path: Path) -> None:
    model = random_classifier()
    if damage == "tensor":
        weights = {**model.weights, "edges": np.zeros((2, 4), np.float32)}
        model = DocumentClassifier(model.vocab, model.labels, weights)
    if damage == "labels":
        model = DocumentClassifier(model.vocab, ("x", "y"), model.weights)
    path = tmp_path / "model"
    model.save(path)
    if damage == "missing":
        (path / "classifier.safetensors").unlink()
    if damage == "json":
        (path / "classifier.json").write_text("{")
    with pytest.raises(FormatError, match="not the directory of a document classifier"):
        DocumentClassifier.load(path)
