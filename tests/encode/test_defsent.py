"""DefSent: rows and losses against loops in float64, rounds that start anew, what is refused."""

from __future__ import annotations

import logging
import math
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from tokenspace.definitions import Definitions
from tokenspace.encode import _axes
from tokenspace.encode import defsent_net as net
from tokenspace.encode.defsent import DefSent, task_of
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.fresh import fresh_encoder, save_fresh
from tokenspace.nn.layers import network_of
from tokenspace.nn.sentence import copied, inserted, wrapped
from tokenspace.text_encoder import Tally

GIVEN = Definitions(
    [
        ("ship", "a large boat that sails over the sea"),
        ("vessel", "a large boat that sails over the sea"),
        ("sea", "the water that a ship sails over"),
        ("sea", "a large lake"),
        ("cold", "not hot"),
        ("red sea", "a sea that is not cold"),
        ("hot", "not cold"),
    ]
)
WORDS = [text for _, texts in GIVEN for text in texts] + list(GIVEN.entries) + ["it is a red boat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "bert"
    save_fresh(path, WORDS * 3, vocab=90, width=8, layers=2, longest=16, head=True, seed=3)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelEncoder:
    return load_encoder(str(folder), device="cpu")


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


# What is learned from


def test_words_that_mean_the_same_are_one_entry() -> None:
    task = task_of(GIVEN)
    assert task.names == (("ship", "vessel"), ("sea",), ("cold",), ("red sea",), ("hot",))
    told = [(task.texts[t], task.names[e]) for t, e in zip(task.text, task.entry, strict=True)]
    assert told[:3] == [
        ("a large boat that sails over the sea", ("ship", "vessel")),
        ("the water that a ship sails over", ("sea",)),
        ("a large lake", ("sea",)),
    ]
    assert len(told) == 6
    assert task.leaks == 0  # "red sea" stands in no text of its own


def test_an_entry_in_its_own_definition_is_counted_and_can_be_hidden() -> None:
    rows = [
        ("dog", "a Dog is a dog, no dogma"),
        ("red sea", "the Red Sea"),
        ("C++", "like C++ and C++."),
        ("dogma", "a dog"),
    ]
    assert task_of(Definitions(rows)).leaks == 3
    assert task_of(Definitions(rows)).texts == tuple(text for _, text in rows)
    hidden = task_of(Definitions(rows), hidden="[MASK]")
    assert hidden.leaks == 3
    assert hidden.texts == (
        "a [MASK] is a [MASK], no dogma",
        "the [MASK]",
        "like [MASK] and [MASK].",
        "a dog",
    )


def test_a_definition_of_two_entries_is_one_text(model: ModelEncoder) -> None:
    shared = Definitions([("a", "not hot"), ("b", "not hot"), ("b", "a lake")])
    task = task_of(shared)
    assert task.texts == ("not hot", "a lake")
    assert (task.text.tolist(), task.entry.tolist()) == ([0, 0, 1], [0, 1, 1])


# The entries


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_rows_are_means_of_what_the_network_pools(
    folder: Path, model: ModelEncoder, pooling: str
) -> None:
    """E against transformers and loops, one text at a time, in float64."""
    task = task_of(GIVEN)
    made = net.with_pooling(copied(model), pooling)
    module = net.Namer(made, torch.nn.Identity())
    E = net.entry_rows(module.pooled(task.texts, Tally()), task.text, task.entry)
    tokenizer, plain = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    plain = plain.double().eval()
    for number, words in enumerate(task.names):
        total, count = np.zeros(8), 0
        for text in dict(GIVEN)[words[0]]:
            with torch.no_grad():
                states = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            states = states.numpy()
            if pooling == "cls":
                total += states[0]
            elif pooling == "max":
                total += [max(float(state[d]) for state in states) for d in range(8)]
            else:
                total += sum(states) / len(states)
            count += 1
        np.testing.assert_allclose(E[number].numpy(), total / count, atol=1e-5)


def test_rows_at_scale_have_one_length_and_logits_deviate_as_asked() -> None:
    E, z = doubles(30, 6).float(), doubles(9, 6, seed=1).float()
    rows = net.scaled(E, z, 2.5)
    lengths = rows.norm(dim=1)
    torch.testing.assert_close(lengths, lengths[0].expand(30))
    torch.testing.assert_close(
        torch.nn.functional.normalize(rows), torch.nn.functional.normalize(E)
    )
    deviations = []
    for row in (z @ rows.T).double().numpy():
        mean = sum(row) / len(row)
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in row) / len(row)))
    assert sum(deviations) / 9 == pytest.approx(2.5, rel=1e-5)
    for alike in (torch.ones(4, 6), E[:1].expand(4, 6) * (1 + 1e-7 * torch.randn(4, 6))):
        with pytest.raises(InputError, match="look the same"):
            net.scaled(alike, z, 1.0)


def test_white_rows_are_uncorrelated_and_stay_where_they_were() -> None:
    E = (doubles(500, 4) @ doubles(4, 4, seed=1) + 3).float()
    white = net.turned(E, "white", 0).double()
    torch.testing.assert_close(white.mean(0), torch.zeros(4).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(4).double(), atol=1e-4, rtol=0)
    # of all white coordinates those nearest to the rows: the product with them is symmetric
    centred = (E - E.mean(0)).double()
    cross = centred.T @ white
    torch.testing.assert_close(cross, cross.T, atol=1e-2, rtol=1e-4)
    assert net.turned(E, "none", 0) is E


def test_independent_components_are_found() -> None:
    draw = np.random.default_rng(0)
    sources = draw.laplace(size=(4000, 3))
    mixed = torch.from_numpy(sources @ draw.standard_normal((3, 3))).float()
    found = net.turned(mixed, "ica", 0).numpy()
    alike = np.abs(np.corrcoef(sources.T, found.T)[:3, 3:])
    np.testing.assert_allclose(np.sort(alike.max(1)), 1, atol=0.02)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-3)


def test_where_components_cannot_be_had_rows_are_white(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = doubles(4, 6).float()
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(net.turned(few, "ica", 0), net.turned(few, "white", 0))
    assert "4 vectors of 6 numbers" in caplog.text
    monkeypatch.setattr(_axes, "STEPS", 1)
    many = doubles(60, 6).float()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(net.turned(many, "ica", 0), net.turned(many, "white", 0))
    assert "not at rest after 1 steps" in caplog.text


def test_figures_of_entries_by_hand() -> None:
    figures = net._figures(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
    assert figures["entry_cosine"] == pytest.approx(2 / 6)
    sizes = np.array([math.sqrt(13), 1.0])
    p = sizes / sizes.sum()
    assert figures["entry_rank"] == pytest.approx(math.exp(-(p * np.log(p)).sum()))


# The loss


def by_loops(z: Any, rows: Any, labels: Any, bias: Any, sample: Any) -> float:
    """Return the loss as the page defines it, number by number."""
    total = 0.0
    for b, label in enumerate(labels.tolist()):

        def logit(e: int, b: int = b) -> float:
            found = sum(float(x) * float(y) for x, y in zip(z[b], rows[e], strict=True))
            return found + (0.0 if bias is None else float(bias[e]))

        if sample is None:
            whole = sum(math.exp(logit(e)) for e in range(len(rows)))
        else:
            weight = len(rows) / len(sample)
            others = sum(math.exp(logit(e)) for e in sample.tolist() if e != label)
            whole = math.exp(logit(label)) + weight * others
        total -= logit(label) - math.log(whole)
    return total / len(labels)


@pytest.mark.parametrize("room", [1 << 22, 14])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_loss_and_its_gradient(
    monkeypatch: pytest.MonkeyPatch, room: int, sampled: bool, biased: bool
) -> None:
    monkeypatch.setattr(net, "ROOM", room)
    z, rows = 2 * doubles(5, 3), doubles(7, 3, seed=1)
    labels = torch.tensor([0, 6, 3, 3, 1])
    bias = doubles(7, seed=2) if biased else None
    sample = torch.tensor([5, 3, 0]) if sampled else None
    found = net.entry_loss(z, rows, labels, bias=bias, sample=sample)
    assert float(found) == pytest.approx(by_loops(z, rows, labels, bias, sample), rel=1e-12)
    z.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: 3 * net.entry_loss(z, rows, labels, bias=bias, sample=sample), z
    )


def test_of_all_samples_the_sums_have_the_whole_one_as_their_mean() -> None:
    z, rows, label = doubles(1, 3), doubles(6, 3, seed=1), torch.tensor([2])
    own = float(z[0] @ rows[2])
    sums = [
        math.exp(float(net.entry_loss(z, rows, label, sample=torch.tensor(some))) + own)
        for some in combinations(range(6), 3)
    ]
    whole = math.exp(float(net.entry_loss(z, rows, label)) + own)
    assert np.mean(sums) == pytest.approx(whole, rel=1e-12)
    every = net.entry_loss(z, rows, label, sample=torch.arange(6))
    assert float(every) == pytest.approx(math.log(whole) - own, rel=1e-12)


def test_large_logits_stay_finite() -> None:
    z, rows = torch.tensor([[300.0], [-300.0]]), torch.tensor([[1.0], [-1.0], [0.5]])
    assert float(net.entry_loss(z, rows, torch.tensor([0, 1]))) == pytest.approx(0, abs=1e-6)
    assert float(net.entry_loss(z, rows, torch.tensor([1, 0]))) == pytest.approx(600)


def test_the_whole_gradient_is_right(model: ModelEncoder) -> None:
    made = net.with_pooling(copied(model), "mean")
    dense = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU())
    module = net.Namer(made, dense).eval()
    texts, labels, E = list(task_of(GIVEN).texts[:3]), torch.tensor([0, 2, 1]), doubles(5, 8)
    layer: Any = network_of(made).encoder.layer[0]  # type: ignore[union-attr]

    def value() -> torch.Tensor:
        return net.entry_loss(module(texts).double(), E, labels)

    value().backward()
    for weight in (dense[0].weight, layer.attention.self.value.weight):
        gradient = weight.grad.flatten()
        place = int(gradient.abs().argmax())
        ends = []
        for step in (1e-2, -1e-2):  # an encoder's vectors are float32, so that steps are not small
            with torch.no_grad():
                weight.view(-1)[place] += step
                ends.append(float(value()))
                weight.view(-1)[place] -= step
        assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-2)


# Rounds


def test_every_round_starts_from_the_weights_that_came(
    model: ModelEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []
    real = net.train_round

    def watched(module: net.Namer, E: torch.Tensor, *given: Any) -> dict[str, float]:
        state = {name: value.clone() for name, value in module.state_dict().items()}
        begun.append((state, E.clone()))
        return real(module, E, *given)

    monkeypatch.setattr(net, "train_round", watched)
    recipe: dict[str, Any] = {"batch": 2, "lr": 1e-2, "threads": 1, "scale": "reference"}
    first = DefSent(rounds=1, **recipe)(model, definitions=GIVEN)
    begun.clear()
    twice = DefSent(rounds=2, **recipe)(model, definitions=GIVEN)
    (start, E1), (again, E2) = begun
    assert start.keys() == again.keys()
    for name in start:
        torch.testing.assert_close(again[name], start[name], rtol=0, atol=0)
    came = network_of(copied(model)).state_dict()
    for name, value in came.items():
        if not name.startswith("pooler."):
            torch.testing.assert_close(start[f"model.0.model.{name}"], value, rtol=0, atol=0)
    # the first round asks for what the model itself makes of the texts, the second for what the
    # encoder of the first round does
    task = task_of(GIVEN)
    for encoder, E in ((model, E1), (first, E2)):
        rows = net.entry_rows(encoder.encode(task.texts), task.text, task.entry)
        torch.testing.assert_close(E, rows, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(E1, E2, atol=1e-3)
    assert not np.allclose(first.encode(["a red boat"]), twice.encode(["a red boat"]), atol=1e-4)


def test_components_are_taken_at_the_last_round_alone(
    model: ModelEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, torch.Tensor]] = []
    real = net.turned

    def watched(E: torch.Tensor, kind: str, seed: int) -> torch.Tensor:
        asked.append((kind, E))
        return real(E, kind, seed)

    monkeypatch.setattr(net, "turned", watched)
    scored: list[torch.Tensor] = []
    monkeypatch.setattr(net, "train_round", lambda module, E, *_: scored.append(E) or {})
    DefSent(rounds=3, isotropy="white", scale="reference")(model, definitions=GIVEN)
    assert [kind for kind, _ in asked] == ["none", "none", "white"]
    torch.testing.assert_close(scored[1], asked[1][1])
    torch.testing.assert_close(scored[2], 100 * real(asked[2][1], "white", 0))


def test_training_tells_entries_apart() -> None:
    draw = np.random.default_rng(0)
    words = [a + b + c for a in "bdgk" for b in "aeiou" for c in "lmnr"]
    rows = []
    for entry in range(30):
        own = draw.choice(words, 4, replace=False)
        for _ in range(12):
            text = [*draw.choice(own, 3, replace=False), draw.choice(words)]
            rows.append((f"entry {entry}", " ".join(text)))
    start = fresh_encoder([text for _, text in rows], vocab=200, width=16, layers=2)
    recipe = DefSent(batch=8, lr=3e-3, rounds=1, threads=1)
    found = recipe(start, definitions=Definitions(rows)).metrics
    assert found["entries"] == 30
    assert found["loss_first"] > math.log(30) - 0.2
    assert found["loss"] < math.log(30) - 0.5


def test_more_entries_than_are_told_apart_at_once(
    model: ModelEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = net.entry_loss

    def watched(*given: Any, sample: Any = None, **named: Any) -> torch.Tensor:
        assert len(set(sample.tolist())) == len(sample)
        seen.append(len(sample))
        return real(*given, sample=sample, **named)

    monkeypatch.setattr(net, "EXACT", 4)
    monkeypatch.setattr(net, "SAMPLE", 3)
    monkeypatch.setattr(net, "entry_loss", watched)
    found = DefSent(batch=2, rounds=1, threads=1)(model, definitions=GIVEN)
    assert seen == [3, 3, 3]
    assert math.isfinite(found.metrics["loss"])


# What follows the pooling


def test_the_layer_after_the_pooling(folder: Path, model: ModelEncoder, tmp_path: Path) -> None:
    # a language model's directory has a head and no layer after the pooling: the head's first
    top = net.top_of(copied(model), model)
    head = AutoModelForMaskedLM.from_pretrained(folder).cls.predictions.transform
    states = torch.randn(3, 8)
    torch.testing.assert_close(top(states), head.transform_act_fn(head.dense(states)))
    # what BERT's own directory has is its tanh layer
    plain = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        plain.pooler.dense.bias += 0.3
    plain.save_pretrained(tmp_path / "plain")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "plain")
    bert = load_encoder(str(tmp_path / "plain"), device="cpu")
    pooler = AutoModel.from_pretrained(tmp_path / "plain").pooler
    expected = torch.tanh(pooler.dense(states))
    torch.testing.assert_close(net.top_of(copied(bert), bert)(states), expected)
    # without either, the vectors themselves
    bare = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    bare.save_pretrained(tmp_path / "bare")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "bare")
    none = load_encoder(str(tmp_path / "bare"), device="cpu")
    assert isinstance(net.top_of(copied(none), none), torch.nn.Identity)


def test_the_pooler_that_came_is_kept(tmp_path: Path, model: ModelEncoder) -> None:
    whole = bag(tiny=True)["model"]
    before = network_of(copied(whole)).pooler.dense.weight
    tuned = DefSent(**DefSent.tiny, threads=1)(whole, definitions=GIVEN)
    torch.testing.assert_close(network_of(copied(tuned)).pooler.dense.weight, before)


# DefSent


def test_words_are_named_by_the_models_own_head(folder: Path, model: ModelEncoder) -> None:
    """The first loss against transformers; the head and what enters the layers stay."""
    before = copied(model)
    losses: list[float] = []
    real = net._told
    recipe = DefSent(form="words", batch=64, lr=1e-2, threads=1, pooling="mean")
    net._told = lambda found: losses.extend(found) or real(found)  # type: ignore[assignment]
    try:
        quiet = no_dropout(folder)
        tuned = recipe(quiet, definitions=GIVEN)
    finally:
        net._told = real
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = AutoModelForMaskedLM.from_pretrained(folder).eval()
    each = []
    for entry, texts in GIVEN:
        ids = tokenizer(entry, add_special_tokens=False)["input_ids"]
        for text in texts if len(ids) == 1 else ():
            with torch.no_grad():
                states = whole.bert(**tokenizer(text, return_tensors="pt")).last_hidden_state
                logits = whole.cls(states.mean(1))[0]
            each.append(-float(torch.log_softmax(logits, 0)[ids[0]]))
    assert tuned.metrics["definitions"] == len(each) >= 3
    assert losses == [pytest.approx(np.mean(each), rel=1e-5)]
    after, first = network_of(copied(tuned)).state_dict(), network_of(before).state_dict()
    for name in (name for name in first if name.startswith("embeddings.")):
        torch.testing.assert_close(after[name], first[name], rtol=0, atol=0)
    moved = [n for n in first if n.startswith("encoder.") and not torch.equal(after[n], first[n])]
    assert moved


def test_a_word_is_its_token_inside_a_text() -> None:
    """A byte-level BPE has one token for " sea", and may have none, or another, for "sea"."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = {token: i for i, token in enumerate(["<unk>", *"aceilopstŨ", "Ġ"])}
    merges = [("s", "e"), ("Ġ", "se"), ("Ġse", "a"), ("c", "o")]
    vocab |= {a + b: len(vocab) + i for i, (a, b) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    module: Any = SimpleNamespace(
        encoder=SimpleNamespace(body=SimpleNamespace(tokenizer=tokenizer)),
        model=SimpleNamespace(tokenizer=SimpleNamespace(unk_token_id=0)),
    )
    task = task_of(Definitions([("sea", "water"), ("co", "with"), ("z", "a letter")]))
    texts, labels = net._words(module, task)
    assert [task.texts[i] for i in texts] == ["water"]
    assert labels.tolist() == [vocab["Ġsea"]]


def no_dropout(folder: Path) -> ModelEncoder:
    found = load_encoder(str(folder), device="cpu")
    config = found.body.network.config  # type: ignore[attr-defined]
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return found


# The result, and what is refused


@pytest.mark.parametrize("form", ["plus", "words"])
def test_the_result_opens_in_plain_sentence_transformers(
    model: ModelEncoder, tmp_path: Path, form: str
) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["a red ship", "", "the sea is cold"]
    before = model.encode(texts)
    tuned = DefSent(form=form, pooling="cls", **DefSent.tiny, threads=1)(model, definitions=GIVEN)
    np.testing.assert_array_equal(model.encode(texts), before)
    assert not np.allclose(tuned.encode(texts), before, atol=1e-3)
    tuned.save(tmp_path / "out")
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert [type(module).__name__ for module in stock] == ["Transformer", "Pooling"]
    np.testing.assert_allclose(stock.encode(texts), tuned.encode(texts), atol=1e-6)
    again = load_encoder(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), tuned.encode(texts), atol=1e-6)


def test_a_normalisation_at_the_end_stays(model: ModelEncoder) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    made = copied(model)
    unit = wrapped(SentenceTransformer(modules=[*made, Normalize()], device="cpu"))
    tuned = DefSent(**DefSent.tiny, threads=1)(unit, definitions=GIVEN)
    np.testing.assert_allclose(np.linalg.norm(tuned.encode(["the sea"]), axis=1), 1, atol=1e-6)


def test_bad_input(model: ModelEncoder, caplog: pytest.LogCaptureFixture) -> None:
    given, tiny = bag(tiny=True), DefSent(**DefSent.tiny)
    same = Definitions([("ship", "a boat"), ("vessel", "a boat")])
    for start, words, recipe, says in (
        (given["encoder"], GIVEN, tiny, "no pretrained network"),
        (model, Definitions([("ship", "a boat")]), tiny, "1 entries"),
        (model, same, tiny, "2 entries, but none that differ"),
        (given["model"], GIVEN, DefSent(form="words"), "no head for masked words"),
        (maskless(model), GIVEN, DefSent(mask=True), "no mask token"),
        (
            model,
            Definitions([("a red sea", "cold"), ("the hot sea", "hot")]),
            DefSent(form="words"),
            "none of 2 words is one token",
        ),
    ):
        with pytest.raises(InputError, match=says) as fault:
            recipe(start, definitions=words)
        assert fault.value.hint
    with pytest.raises(InputError, match="followed by Pooling, Dense") as fault:
        cut = wrapped(inserted(copied(model), np.eye(4, 8, dtype=np.float32)))
        tiny(cut, definitions=GIVEN)
    assert fault.value.hint
    with pytest.raises(InputError, match="not finite"):
        tiny(broken(model), definitions=GIVEN)
    with pytest.raises(ConfigError, match="form"):
        DefSent(form="minus")  # type: ignore[arg-type]
    skipping = Definitions([("sea", "the sea"), ("cold", "not hot")], skipped=2)
    with caplog.at_level(logging.WARNING):
        tiny(model, definitions=skipping)
    assert "1 definitions hold their own entry: --mask hides it" in caplog.text
    assert "2 entries without a definition" in caplog.text


def maskless(model: ModelEncoder) -> ModelEncoder:
    """Return the encoder with a tokenizer that has no mask token."""
    made = copied(model)
    made.tokenizer.mask_token = None  # type: ignore[union-attr]
    return wrapped(made)


def broken(model: ModelEncoder) -> ModelEncoder:
    """Return the encoder with a weight that is no number."""
    made = copied(model)
    with torch.no_grad():
        network_of(made).embeddings.word_embeddings.weight[7:] = 1e38
    return wrapped(made)


def test_long_definitions_are_counted_once(
    model: ModelEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    long = Definitions([("sea", "the " * 40), ("cold", "not hot"), ("hot", "it is")])
    with caplog.at_level(logging.WARNING):
        DefSent(**DefSent.tiny, rounds=3, threads=1)(model, definitions=long)
    assert caplog.text.count("1 definitions were cut") == 1
