"""CRISP: what it learns, what it keeps, and what it refuses; heads and whole encoders."""

from __future__ import annotations

import json
import logging
from math import erf
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tokenspace import cli
from tokenspace.arrays import Ragged
from tokenspace.errors import ConfigError, FormatError, InputError, MissingEvidence
from tokenspace.nn.cluster import ClusterPool, lloyd, unit_tokens
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.mask import padding
from tokenspace.retrieve.crisp import CRISP, CRISPIndex, CRISPTexts, trained_sides
from tokenspace.retrieve.crisp_net import Head, loss_of, reduced, spans
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.pooling import Pooling, pool, token_cosine
from tokenspace.retrieve.trial import bag

QUICK = {"steps": 4, "batch": 8, "threads": 1}


def trained(**knobs):
    given = bag(tiny=True)
    pairs = {name: given[name] for name in ("train_queries", "train_docs")}
    return CRISP(**{**QUICK, **knobs})(given["docs"], **pairs), given


def test_a_head_begins_as_the_identity() -> None:
    states = torch.nn.functional.normalize(
        torch.randn(2, 5, 32, generator=torch.Generator()), dim=2
    )
    mask = padding(torch.tensor([5, 3]))
    for layers in (1, 2):
        out = Head(32, layers)(states, mask)
        torch.testing.assert_close(out, states * mask[..., None])


def test_the_limiting_case_is_exact_maxsim() -> None:
    # without a step to speak of and without pruning, the index is that of the given vectors
    index, given = trained(variant="full", steps=1, lr=1e-7)
    exact = MaxSim()(given["docs"])
    found, scores = index.search(given["queries"], 5)
    expected, values = exact.search(given["queries"], 5)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, values, rtol=1e-4)


@pytest.mark.parametrize("variant", ["C2x3", "C25%", "Tail2x3", "Even2x3", "K2"])
def test_what_is_stored_is_the_pooled_head(variant: str) -> None:
    index, given = trained(variant=variant)
    tokens = index.encoder.tokens(given["docs"])
    np.testing.assert_allclose(np.linalg.norm(tokens.flat, axis=1), 1, atol=1e-5)
    stored = pool(tokens, CRISP_WORDS[variant], side="document")
    np.testing.assert_array_equal(index.store.offsets, stored.offsets)
    np.testing.assert_array_equal(index.store.tokens, stored.flat)
    np.testing.assert_array_equal(index.encode_documents(given["docs"]).flat, stored.flat)
    assert index.metrics["kept"] == len(stored.flat) / len(tokens.flat) < 0.6
    assert index.nbytes == index.store.nbytes + index.encoder.nbytes


CRISP_WORDS = {
    "C2x3": "kmeans:3",
    "C25%": "kmeans:25%",
    "Tail2x3": "tail:3",
    "Even2x3": "even:3",
    "K2": "spacing:2",
}


@pytest.mark.parametrize("how", ["all", "tail:3", "even:3", "spacing:2", "kmeans:50", "kmeans:1"])
def test_training_keeps_what_indexing_keeps(how: str) -> None:
    draw = np.random.default_rng(0)
    items = Ragged.pack([draw.standard_normal((h, 6)) for h in (7, 2, 5)])
    items = Ragged(items.flat / np.linalg.norm(items.flat, axis=1, keepdims=True), items.offsets)
    states, mask = torch.full((3, 9, 6), torch.nan), torch.zeros((3, 9), dtype=torch.bool)
    for i, rows in enumerate(items):  # padding on the left, and a hole inside
        places = [*range(1, 1 + len(rows) // 2), *range(2 + len(rows) // 2, 2 + len(rows))]
        states[i, places], mask[i, places] = torch.from_numpy(rows.copy()), True
    kept, real = reduced(Pooling.parse(how), states, mask)
    expected = pool(items, how, side="query")
    for mine, flags, rows in zip(kept.numpy(), real.numpy(), expected, strict=True):
        got = mine[flags]
        assert got.shape == rows.shape
        if how.startswith("kmeans"):  # the same clusters in another order
            got, rows = got[np.lexsort(got.T)], rows[np.lexsort(rows.T)]
        np.testing.assert_allclose(got, rows, atol=1e-6)


def test_it_learns() -> None:
    given = bag(tiny=True)
    pairs = {name: given[name] for name in ("train_queries", "train_docs")}
    index = CRISP(variant="C4x4", steps=60, batch=15, lr=5e-3, threads=1)(given["docs"], **pairs)
    assert index.metrics["loss_last"] < 0.7 * index.metrics["loss_first"]
    untrained = pool(given["docs"], "kmeans:4", side="document")
    found, _ = index.search(given["queries"], 1)
    before, _ = MaxSim()(untrained).search(pool(given["queries"], "kmeans:4", side="query"), 1)
    relevant = [min(answers) for answers in given["relevant"]]
    assert (found[:, 0] == relevant).sum() >= (before[:, 0] == relevant).sum()


def literal_loss(weights, queries, docs, labels, tau: float) -> float:
    """The page's equations in float64, of one layer, for clusters that are given."""
    w = {name.removeprefix("layers.0."): value for name, value in weights.items()}

    def linear(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def scaled(x, name):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * w[name + ".weight"] + w[name + ".bias"]

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def tokens(x):
        width = x.shape[1]
        x = unit(x) * np.sqrt(width)
        q, k, v = np.split(linear(scaled(x, "norm"), "qkv"), 3, axis=1)
        shares = np.exp(q @ k.T / np.sqrt(width))
        x = x + linear(shares / shares.sum(1, keepdims=True) @ v, "out")
        h = linear(scaled(x, "norm2"), "up")
        h = h * (1 + np.vectorize(erf)(h / np.sqrt(2))) / 2
        return unit(x + linear(h, "down"))

    def centroids(rows, row):
        x, row = tokens(rows), row[: len(rows)]
        return unit(np.stack([x[row == c].mean(0) for c in range(row.max() + 1)]))

    asked, stored = (
        [centroids(*pair) for pair in zip(items, rows, strict=True)]
        for items, rows in zip((queries, docs), labels, strict=True)
    )
    scores = np.array([[(c @ v.T).max(1).mean() for v in stored] for c in asked]) / tau
    return float(np.mean(np.log(np.exp(scores).sum(1)) - scores.diagonal()))


def test_the_gradient_of_the_whole_loss_equals_finite_differences() -> None:
    draw = np.random.default_rng(0)
    queries, docs = (
        [draw.standard_normal((height, 6)).astype(np.float32) for height in heights]
        for heights in ((5, 3, 1), (9, 4, 7, 2))  # a hard negative at the end
    )
    head = Head(6, 1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.4 * torch.from_numpy(draw.standard_normal(tuple(parameter.shape)))
    sides = {"query": (queries, 2), "document": (docs, 3)}
    batch: dict = {"pruned": torch.tensor(True)}
    for side, (items, _) in sides.items():
        mask = padding(torch.tensor([len(rows) for rows in items]))
        states = torch.zeros((*mask.shape, 6))
        for row, rows in zip(states, items, strict=True):
            row[: len(rows)] = torch.from_numpy(rows)
        batch[side] = states, mask
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        loss = loss_of(
            CRISP(variant="C2x3", tau=0.5), lambda _, part: (head(*part), part[1]), batch
        )
    loss.backward()
    labels = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        for side, (_, k) in sides.items():
            states, mask = batch[side]
            live = unit_tokens(head(states, mask), mask)
            labels.append([row.numpy() for row in lloyd(live, mask, mask.sum(1).clamp(max=k))])

    weights = {name: p.detach().numpy().astype(float) for name, p in head.named_parameters()}
    assert loss.item() == pytest.approx(literal_loss(weights, queries, docs, labels, 0.5))
    for name, parameter in head.named_parameters():
        value = weights[name]
        for at in np.ndindex(*[min(size, 6) for size in value.shape]):
            before, ends = value[at], []
            for step in (1e-6, -1e-6):
                value[at] = before + step
                ends.append(literal_loss(weights, queries, docs, labels, 0.5))
            value[at] = before
            assert parameter.grad[at].item() == pytest.approx(
                (ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=2e-6
            ), name


def test_tokens_come_nearer_to_their_centroids_where_they_must() -> None:
    # A token is one of 20 topics beside a louder mark, of 4, that says nothing about the answer.
    # k-means of the vectors as given groups by mark; three centroids hold a document's three
    # topics only if training makes the marks quiet. Every step is clustered.
    places = np.random.default_rng(0)
    topics = places.standard_normal((20, 8))
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    marks = 1.5 * np.linalg.qr(places.standard_normal((8, 8)))[0][:4]

    def pairs(seed: int, count: int) -> tuple[Ragged, Ragged]:
        draw = np.random.default_rng(seed)
        queries, docs = [], []
        for _ in range(count):
            chosen = draw.choice(20, 3, replace=False)
            every = np.array([[*topics[t], *mark] for t in chosen for mark in marks])
            docs.append(every + draw.normal(0, 0.02, every.shape))
            queries.append(every[np.arange(3) * 4 + draw.integers(0, 4, 3)])
        return Ragged.pack(queries), Ragged.pack(docs)

    queries, docs = pairs(2, 100)
    recipe = CRISP(variant="C3x3", steps=200, lr=5e-3, batch=16, unpruned=0.0, threads=1)
    encoder = recipe.train(*pairs(1, 200))
    near, right = [], []
    for asked, tokens in ((queries, docs), (encoder.tokens(queries), encoder.tokens(docs))):
        kept = pool(tokens, "kmeans:3", side="document")
        found, _ = MaxSim()(kept).search(pool(asked, "kmeans:3", side="query"), 1)
        near.append(token_cosine(tokens, kept))
        right.append(float((found[:, 0] == np.arange(100)).mean()))
    assert near[0] < 0.8
    assert near[1] > 0.9
    assert right[0] < 0.4
    assert right[1] > 0.9


def test_hard_negatives_are_documents_of_the_batch() -> None:
    given = bag(tiny=True)
    order = np.roll(np.arange(len(given["train_docs"])), 1)
    negatives = given["train_docs"].take(order)
    index = CRISP(**QUICK)(
        given["docs"],
        train_queries=given["train_queries"],
        train_docs=given["train_docs"],
        train_negatives=negatives,
    )
    plain, _ = trained()
    assert index.metrics["loss_first"] > plain.metrics["loss_first"]


def test_the_first_steps_keep_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = ClusterPool.forward

    def counted(self, states, mask):
        seen.append(self.k)
        return forward(self, states, mask)

    monkeypatch.setattr(ClusterPool, "forward", counted)
    trained(variant="C2x3", steps=10, unpruned=0.3)
    assert seen == [2, 3] * 7
    seen.clear()
    trained(variant="C2x3", steps=10, unpruned=1.0)
    assert seen == []


def test_documents_alone_are_enough() -> None:
    docs = Ragged.pack([np.random.default_rng(i).standard_normal((20 + i, 8)) for i in range(12)])
    queries, rests = spans(docs)
    assert ((queries.heights >= 5) & (queries.heights <= 11)).all()
    assert sorted((queries.heights + rests.heights).tolist()) == sorted(docs.heights.tolist())
    order = np.random.default_rng(0).permutation(12)
    again, _ = spans(docs.take(order))
    np.testing.assert_array_equal(again.flat, queries.flat)
    index = CRISP(**QUICK)(docs)
    assert len(index.store) == 12
    short = Ragged.pack([np.ones((3, 8))])
    with pytest.raises(InputError, match="16 tokens"):
        CRISP(**QUICK)(short)


def test_other_documents_are_indexed_by_the_same_head() -> None:
    index, given = trained()
    part = given["docs"].take(np.arange(5))
    other = index.encoder.index(part)
    for i in range(5):
        np.testing.assert_array_equal(other.store[i], index.store[i])


@pytest.mark.parametrize("side", ["train_queries", "train_docs", "train_negatives"])
@pytest.mark.parametrize("fault", ["count", "width", "empty", "NaN"])
def test_pairs_that_do_not_fit_are_refused_by_name(side: str, fault: str) -> None:
    given = bag(tiny=True)
    pairs = {name: given[name] for name in ("train_queries", "train_docs")}
    pairs["train_negatives"] = given["train_docs"]
    part = pairs[side]
    if fault == "count":
        pairs[side] = part.take(np.arange(3))
    elif fault == "width":
        pairs[side] = Ragged.pack([np.ones((2, 5))] * len(part))
    elif fault == "empty":
        pairs[side] = Ragged.pack([*list(part)[:-1], np.zeros((0, part.width))], part.width)
    else:
        flat = part.flat.copy()
        flat[2] = np.nan
        pairs[side] = Ragged(flat, part.offsets)
    with pytest.raises(InputError, match="train_"):
        CRISP(**QUICK)(given["docs"], **pairs)


def test_bad_input_is_refused() -> None:
    given = bag(tiny=True)
    with pytest.raises(MissingEvidence, match="both"):
        CRISP(**QUICK)(given["docs"], train_queries=given["train_queries"])
    for variant in ("C0x8", "8x32", "C4x8x2", "K"):
        with pytest.raises(ConfigError, match="variant"):
            CRISP(variant=variant)
    index, _ = trained()
    with pytest.raises(InputError, match="no tokens"):
        index.search(Ragged.pack([np.zeros((0, 16))], 16))


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    index, _ = trained()
    index.save(tmp_path / "one")
    trained(seed=1)[0].save(tmp_path / "other")
    (tmp_path / "other" / "head.safetensors").replace(tmp_path / "one" / "head.safetensors")
    with pytest.raises(FormatError, match="not the one"):
        CRISPIndex.load(tmp_path / "one")
    (tmp_path / "one" / "crisp.json").write_text("{}")
    with pytest.raises(FormatError):
        CRISPIndex.load(tmp_path / "one")


# A whole encoder

WORDS = ["the", "sea", "is", "blue", "and", "cold", "a", "red", "ship", "sails", "over", "it"]
WORDS += ["sun", "warm", "sand", "dry", "hills", "green"]
PAIRS = [
    ("blue sea", "the sea is cold and blue"),
    ("red ship", "a red ship sails over it"),
    ("dry sand", "the sand is warm and dry"),
    ("green hills", "green hills over the sand"),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT of width 16 with random weights."""
    folder = tmp_path_factory.mktemp("model") / "bert"
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("tuned") / "encoder"
    recipe = CRISP(variant="C1x2", steps=12, batch=4, lr=5e-3, unpruned=0.0, threads=1)
    return out, recipe.finetune(str(bert), PAIRS, out, device="cpu")


def test_an_encoder_is_trained_and_read_again(bert, tuned) -> None:
    out, figures = tuned
    assert figures["loss_last"] < figures["loss_first"]
    assert trained_sides(out) == ("kmeans:1", "kmeans:2")
    assert trained_sides(bert) is None
    texts = CRISPTexts.load(out, device="cpu")
    docs = texts.documents([document for _, document in PAIRS])
    queries = texts.queries([query for query, _ in PAIRS])
    assert docs.heights.tolist() == [2] * 4
    assert queries.heights.tolist() == [1] * 4
    found, _ = MaxSim()(docs).search(queries, 1)
    assert (found[:, 0] == np.arange(4)).sum() >= 3
    before = SentenceTransformer(str(bert), device="cpu").encode(["the sea"])
    after = SentenceTransformer(str(out), device="cpu").encode(["the sea"])
    assert not np.allclose(before, after)


def test_training_sees_the_tokens_that_are_encoded(bert: Path) -> None:
    encoder = load_encoder(str(bert), device="cpu")
    texts = [document for _, document in PAIRS]
    with torch.no_grad():
        states, mask = encoder.states(texts)
        rows = reduced(Pooling.parse("all"), states, mask)[0]
    expected = encoder.encode_tokens(texts)
    for mine, flags, theirs in zip(rows.numpy(), mask.numpy(), expected, strict=True):
        np.testing.assert_allclose(mine[flags], theirs, atol=1e-5)


def test_other_sizes_than_those_of_the_training_are_said(tuned, caplog) -> None:
    texts = CRISPTexts.load(tuned[0], device="cpu")
    with caplog.at_level(logging.WARNING):
        texts.documents(["the sea is blue"])
        assert not caplog.records
        assert texts.documents(["the sea is blue"], how="kmeans:3").heights.tolist() == [3]
    assert "trained for C1x2" in caplog.text


def test_encoders_and_texts_that_do_not_do_are_refused(bert, tuned, tmp_path) -> None:
    with pytest.raises(FormatError, match=r"crisp\.json"):
        CRISPTexts.load(bert)
    (tmp_path / "crisp.json").write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        trained_sides(tmp_path)
    recipe = CRISP(variant="C1x2", steps=1, batch=4, threads=1)
    with pytest.raises(InputError, match="pairs"):
        recipe.finetune(str(bert), [], tmp_path / "out")
    with pytest.raises(InputError, match="negatives"):
        recipe.finetune(str(bert), PAIRS, tmp_path / "out", negatives=["the sea"])
    with pytest.raises(InputError, match="no tokens"):
        recipe.finetune(str(bert), [*PAIRS[:3], (" ", "the sea")], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.root, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_from_pairs_to_an_index_on_the_command_line(bert: Path, tmp_path: Path) -> None:
    pairs, docs, queries = (tmp_path / name for name in ("pairs.tsv", "docs.txt", "queries.txt"))
    pairs.write_text("".join(f"{query}\t{document}\n" for query, document in PAIRS))
    docs.write_text("".join(f"{document}\n" for _, document in PAIRS))
    queries.write_text("".join(f"{query}\n" for query, _ in PAIRS))
    out = tmp_path / "encoder"
    method = "crisp:variant=C1x2,steps=2,batch=4,threads=1"
    told = run(
        "retrieve",
        "finetune",
        str(bert),
        "--pairs",
        str(pairs),
        "--out",
        str(out),
        "--method",
        method,
    )
    assert "4 pairs" in told
    for text, extra, kept in ((docs, [], 8), (queries, ["--queries"], 4)):
        target = text.with_suffix(".safetensors")
        told = run(
            "retrieve",
            "encode",
            str(text),
            "--encoder",
            str(out),
            "--out",
            str(target),
            "--json",
            *extra,
        )
        assert json.loads(told)["kept"] == kept
        assert len(Ragged.load(target)) == 4
    built = tmp_path / "index"
    run("retrieve", "maxsim", "--docs", str(docs.with_suffix(".safetensors")), "--out", str(built))
    with pytest.raises(ConfigError, match="exists"):
        run("retrieve", "encode", str(docs), "--encoder", str(out), "--out", str(target))
    docs.write_text("the sea\n\n")
    with pytest.raises(InputError, match="line 2"):
        run(
            "retrieve",
            "encode",
            str(docs),
            "--encoder",
            str(out),
            "--out",
            str(tmp_path / "n.safetensors"),
        )
