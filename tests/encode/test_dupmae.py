"""DupMAE: the collator by hand, the losses against loops in float64, the files, the refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from tokenspace.corpus import Corpus
from tokenspace.encode import dupmae_net as net
from tokenspace.encode.dupmae import (
    NONE,
    DupMAE,
    Special,
    Tokens,
    collate,
    tokenized,
    unigram_losses,
)
from tokenspace.errors import ConfigError, FormatError, InputError, MissingEvidence
from tokenspace.nn.duplex import DuplexEncoder, body_network
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.fresh import fresh_encoder, save_fresh
from tokenspace.nn.sentence import copied
from tokenspace.retrieve.hybrid import HybridIndex

SPECIAL = Special(cls=1, sep=2, mask=3, pad=0, size=20)
LINES = ["the red ship sails over the cold sea", "a blue ship is on the sea", "it is cold"] * 6


def tokens(*texts: list[list[int]]) -> Tokens:
    """Return texts given as words, each a list of its tokens."""
    ids = [i for text in texts for word in text for i in word]
    starts = [k == 0 for text in texts for word in text for k in range(len(word))]
    ends = np.cumsum([0, *(sum(map(len, text)) for text in texts)])
    return Tokens(np.array(ids, np.int32), np.array(starts), ends.astype(np.int64))


def batch(texts: Tokens, seed: int = 0, **shares: float) -> dict[str, np.ndarray]:
    chosen = np.arange(len(texts.offsets) - 1)
    return collate(texts, chosen, SPECIAL, **{"masked": 0.3, "hidden": 0.5, **shares}, seed=seed)


@pytest.fixture(scope="module")
def model() -> ModelEncoder:
    return fresh_encoder(LINES, vocab=60, width=8, layers=1, longest=16)


# The collator


TWO = tokens([[5], [6, 7], [5], [8]], [[9, 10, 11]])


def test_a_batch_by_hand() -> None:
    made = batch(TWO)
    assert made["clean"].tolist() == [[1, 5, 6, 7, 5, 8, 2], [1, 9, 10, 11, 2, 0, 0]]
    assert made["mask"].tolist() == [[True] * 7, [True] * 5 + [False] * 2]
    assert made["own"].tolist() == [
        [False] + [True] * 5 + [False],
        [False] + [True] * 3 + [False] * 3,
    ]
    # 5 own tokens, the second 5 is no new word; 3 own tokens
    fifth, third = np.float32(1 / 5), np.float32(1 / 3)
    expected = [[0, fifth, fifth, fifth, 0, fifth, 0], [0, third, third, third, 0, 0, 0]]
    np.testing.assert_array_equal(made["weights"], np.array(expected, np.float32))
    # round(.3 * 5) = 2 tokens may be hidden of the second text, whose only word has 3
    assert (made["labels"][1] == NONE).all()
    np.testing.assert_array_equal(made["given"][1], made["clean"][1])


@pytest.mark.parametrize("seed", range(5))
def test_what_the_decoder_sees(seed: int) -> None:
    made = batch(TWO, seed)
    visible = made["visible"]
    assert visible[:, :, 0].all()  # [CLS]: the text's vector
    for b, length in enumerate((7, 5)):
        assert not visible[b, :, length:].any()  # no padding
        assert not visible[b, length - 1 :, 1:].any()  # nothing is told at [SEP] and padding
        for i in range(1, length - 1):
            assert not visible[b, i, i]
            assert visible[b, i, length - 1]  # [SEP] is no word
    for i in (1, 4, 5):  # a word is hidden whole, or not at all
        assert visible[0, i, 2] == visible[0, i, 3]
    # one word of 3 tokens in round(.5 * 5) = 2: it does not fit, so each sees the two others
    assert visible[1, 1:4, 1:4].tolist() == (~np.eye(3, dtype=bool)).tolist()


def test_words_are_hidden_until_none_fits() -> None:
    rng = np.random.default_rng(0)
    for seed in range(40):
        sizes = rng.integers(1, 5, rng.integers(1, 12)).tolist()
        made = batch(tokens([[5] * size for size in sizes]), seed)
        length = sum(sizes) + 2
        ends = np.cumsum([1, *sizes])
        for share, out in ((0.3, made["labels"][0] != NONE), (0.5, None)):
            budget = max(1, round(share * length))
            rows = [out] if out is not None else [~row for row in made["visible"][0, 1:-1]]
            for i, row in enumerate(rows, start=1):
                hides = row.copy()
                if out is None:
                    word = int(np.searchsorted(ends, i, side="right")) - 1
                    others = [t for t in range(ends[word], ends[word + 1]) if t != i]
                    # itself is always hidden: it says nothing unless its word has more tokens
                    hides[i] = bool(others) and bool(hides[others[0]])
                parts = [hides[a:b] for a, b in pairwise(ends)]
                assert all(part.all() or not part.any() for part in parts)
                left = budget - int(hides[1:-1].sum())
                assert left >= 0
                spared = [len(p) for p in parts if not p.any()]
                if out is None and not others:
                    spared = [len(p) for k, p in enumerate(parts) if not p.any() and k != word]
                    left -= 1  # whether the word itself was drawn is not to be seen
                assert all(size > left for size in spared)


def test_every_word_is_hidden_as_often() -> None:
    text = tokens([[i] for i in range(4, 20)])
    hidden, kinds = np.zeros(18), np.zeros(3)
    for seed in range(600):
        made = batch(text, seed)
        told = made["labels"][0] != NONE
        assert told.sum() == round(0.3 * 18)
        hidden += told
        given, clean = made["given"][0][told], made["clean"][0][told]
        kinds += [(given == 3).sum(), ((given != 3) & (given != clean)).sum(), 0]
        np.testing.assert_array_equal(made["labels"][0][told], clean)
        np.testing.assert_array_equal(made["given"][0][~told], made["clean"][0][~told])
    expected = 600 * 5 / 16
    assert abs(hidden[1:-1] - expected).max() < 5 * math.sqrt(expected)
    total = 600 * 5
    assert abs(kinds[0] / total - 0.8 - 0.1 / 20) < 0.03  # one random word in 20 is the mask
    assert abs(kinds[1] / total - 0.1 * 18 / 20) < 0.02


def test_places_draw_for_themselves_and_the_seed_decides() -> None:
    text = tokens([[i] for i in range(4, 20)])
    first, again, other = (batch(text, seed) for seed in (0, 0, 1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert (first["visible"] != other["visible"]).any()
    rows = first["visible"][0, 1:-1, 1:-1] | np.eye(16, dtype=bool)
    assert len({row.tobytes() for row in rows}) > 10


def test_long_texts_are_cut_and_short_ones_counted(model: ModelEncoder) -> None:
    long, tokenizer = " ".join(["ship"] * 30), net.plain_tokenizer(copied(model))
    found, skipped = tokenized(Corpus([long, "sea", "", "it is cold"]), tokenizer, 16)
    assert skipped == 2
    assert np.diff(found.offsets).tolist() == [10, 10, 10, 3]
    assert found.starts.all()
    pieces, _ = tokenized(Corpus(["ships ship sea"]), tokenizer, 16)
    surfaces = [tokenizer.id_to_token(i) for i in pieces.ids]
    assert [s.startswith("##") for s in surfaces] == (~pieces.starts).tolist()


def test_the_best_constant_losses() -> None:
    # words a a b | a: of all words a has 3/4; the bags are (1/3, 1/3) and (1, 0)
    text = Tokens(np.array([0, 0, 1, 0], np.int32), np.ones(4, bool), np.array([0, 3, 4]))
    found = unigram_losses(text, 2)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["decoder"] == pytest.approx(entropy)
    a, b = 4 / 3, 1 / 3
    expected = -(a * math.log(a / (a + b)) + b * math.log(b / (a + b))) / 2
    assert found["bow"] == pytest.approx(expected)


# The losses


def vocabulary(N: int, D: int, V: int, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((N, D), (V, D), (V,))
    made = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
    return [part.requires_grad_() for part in made]


@pytest.mark.parametrize("room", [1, 40, 10_000])
def test_the_loss_of_tokens(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "ROOM", room)
    given = vocabulary(9, 8, 13)
    labels = torch.randint(13, (9,), generator=torch.Generator().manual_seed(1))
    labels[3] = NONE
    loss = net.token_loss(*given, labels)
    expected = cross_entropy(given[0] @ given[1].T + given[2], labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    ours = torch.autograd.grad(loss, given)
    for mine, theirs in zip(ours, torch.autograd.grad(expected, given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *parts: net.token_loss(*parts, labels), given)


@pytest.mark.parametrize("N", [0, 3])
def test_no_label_no_loss(N: int) -> None:
    given = vocabulary(N, 8, 13)
    loss = net.token_loss(*given, torch.full((N,), NONE))
    assert loss.item() == 0
    loss.backward()
    assert not given[1].grad.any()


@pytest.mark.parametrize("room", [1, 150, 10_000])
def test_the_loss_of_bags(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "ROOM", room)
    B, T, D, V = 3, 5, 8, 13
    states, rows, bias = vocabulary(B * T, D, V)
    draw = torch.Generator().manual_seed(1)
    words = torch.randint(V, (B, T), generator=draw)
    weights = torch.rand((B, T), generator=draw, dtype=torch.float64) * (words > 3)
    labels = torch.where(torch.rand((B, T), generator=draw) < 0.4, words, NONE)
    seen = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0]], dtype=torch.bool)
    labels[~seen] = NONE
    given = states.detach().view(B, T, D).requires_grad_(), rows, bias

    def ours(*parts: torch.Tensor) -> torch.Tensor:
        return net.bag_loss(*parts, seen, labels, words, weights, 0.7)[0]

    logits = given[0] @ rows.T + bias
    most = logits.masked_fill(~seen[..., None], -torch.inf).amax(1)
    bow = -(weights * log_softmax(most, 1).gather(1, words)).sum(1).mean()
    mlm = cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss, said_mlm, said_bow = net.bag_loss(*given, seen, labels, words, weights, 0.7)
    assert said_mlm.item() == pytest.approx((mlm).item(), rel=1e-12)
    assert said_bow.item() == pytest.approx((bow).item(), rel=1e-12)
    assert loss.item() == pytest.approx((mlm + 0.7 * bow).item(), rel=1e-12)
    theirs = torch.autograd.grad(mlm + 0.7 * bow, given)
    for mine, other in zip(torch.autograd.grad(loss, given), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(ours, given)


def test_in_lower_precision() -> None:
    given = [part.detach().float().requires_grad_() for part in vocabulary(9, 8, 13)]
    labels = torch.randint(13, (9,), generator=torch.Generator().manual_seed(1))
    exact = net.token_loss(*given, labels)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net.token_loss(*given, labels)
    assert rough.dtype == torch.float32
    assert 0 < abs(rough.item() - exact.item()) < 0.05
    slopes = [torch.autograd.grad(loss, given) for loss in (exact, rough)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


def test_a_text_without_a_place_is_refused() -> None:
    states, rows, bias = vocabulary(4, 8, 13)
    seen = torch.tensor([[True, True], [False, False]])
    none = torch.full((2, 2), NONE)
    with pytest.raises(InputError, match="text 1 of the batch has no token"):
        net.bag_loss(states.view(2, 2, 8), rows, bias, seen, none, none, states[:2, :2], 0.1)


# The network against loops


def bert(**changes: Any) -> BertModel:
    options = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 12,
        "initializer_range": 0.4,
        **changes,
    }
    torch.manual_seed(0)
    return BertModel(BertConfig(**options))


def module(form: str, network: Any = None) -> net.Pretraining:
    with torch.random.fork_rng(devices=[]):
        network = bert() if network is None else network
        made = net.Pretraining(network, form, 0.1, 12)
        torch.manual_seed(1)
        for name, part in made.named_parameters():
            if not name.startswith("network."):
                torch.nn.init.normal_(part, std=0.4)
    return made.double().eval()


def tensors(made: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in made.items()}


def literal(made: net.Pretraining, given: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the losses by loops over texts, places and heads, from the encoder's last states."""
    W = {name: value.detach().numpy() for name, value in made.state_dict().items()}
    E = W["network.embeddings.word_embeddings.weight"]
    P = W["network.embeddings.position_embeddings.weight"]
    S = W["network.embeddings.token_type_embeddings.weight"][0]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean()
        scaled = centred / math.sqrt((centred**2).mean() + 1e-12)
        return scaled * W[f"{name}.weight"] + W[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return W[f"{name}.weight"] @ x + W[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x])

    def logits(x: np.ndarray) -> np.ndarray:
        return E @ norm(gelu(dense(x, "head.dense")), "head.norm") + W["head.bias"]

    def log_p(z: np.ndarray, word: int) -> float:
        return float(z[word] - z.max() - math.log(np.exp(z - z.max()).sum()))

    def enters(x: np.ndarray, place: int) -> np.ndarray:
        return norm(x + P[place] + S, "network.embeddings.LayerNorm")

    with torch.no_grad():
        t = tensors(given)
        out = made.network(input_ids=t["given"], attention_mask=t["mask"].long())
        H = out.last_hidden_state.numpy()
    mlm, told, bags = [], [], []
    for b, clean in enumerate(given["clean"]):
        length = int(given["mask"][b].sum())
        for i in range(length):
            if given["labels"][b, i] != NONE:
                mlm.append(-log_p(logits(H[b, i]), given["labels"][b, i]))
        most = np.max([logits(H[b, i]) for i in range(1, length)], axis=0)
        own = clean[1 : length - 1].tolist()
        bags.append(-sum(log_p(most, word) / len(own) for word in set(own)))
        h = H[b, 0]
        KV = [h, *(enters(E[clean[j]], j) for j in range(1, length))]
        for i in range(1, length - 1):
            q = h + P[i] if made.form == "retromae" else enters(h, i)
            mixed = np.zeros(8)
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                sees = [j for j in range(length) if given["visible"][b, i, j]]
                Q = dense(q, "decoder.query")[part]
                scores = [Q @ dense(KV[j], "decoder.key")[part] / 2 for j in sees]
                shares = np.exp(scores) / np.exp(scores).sum()
                values = [dense(KV[j], "decoder.value")[part] for j in sees]
                mixed[part] = sum(s * v for s, v in zip(shares, values, strict=True))
            x = norm(q + dense(mixed, "decoder.out"), "decoder.norm")
            inner = dense(gelu(dense(x, "decoder.up")), "decoder.down")
            told.append(-log_p(logits(norm(x + inner, "decoder.norm2")), clean[i]))
    return {"mlm": np.mean(mlm), "decoder": np.mean(told), "bow": np.mean(bags)}


THREE = tokens([[5], [6, 7], [5], [8], [12], [13]], [[9, 10, 11], [4]], [[14], [15], [16], [17]])


@pytest.mark.parametrize("form", ["mlm", "retromae", "dupmae"])
def test_the_losses_are_those_of_loops(form: str) -> None:
    made, given = module(form), batch(THREE, 3)
    expected = literal(made if form != "mlm" else module("retromae"), given)
    if form == "mlm":
        expected = {**expected, "decoder": 0.0}
    if form != "dupmae":
        expected = {**expected, "bow": 0.0}
    loss, parts = made(tensors(given))
    for name, value in parts._asdict().items():
        assert value.item() == pytest.approx(expected[name], rel=1e-7), name  # weights are float32
    total = expected["mlm"] + expected["decoder"] + 0.1 * expected["bow"]
    assert loss.item() == pytest.approx(total, rel=1e-7)


@pytest.mark.parametrize("form", ["retromae", "dupmae"])
def test_gradients_are_finite_differences(form: str) -> None:
    made, given = module(form), tensors(batch(THREE, 3))
    loss, _ = made(given)
    loss.backward()
    rng, eps = np.random.default_rng(0), 1e-6
    checked = 0
    for name, part in made.named_parameters():
        if "pooler" in name:
            assert part.grad is None
            continue
        flat = part.data.view(-1)
        for k in rng.choice(len(flat), min(3, len(flat)), replace=False).tolist():
            sides = []
            for step in (eps, -eps):
                flat[k] += step
                with torch.no_grad():
                    sides.append(float(made(given)[0]))
                flat[k] -= step
            slope = (sides[0] - sides[1]) / (2 * eps)
            assert float(part.grad.view(-1)[k]) == pytest.approx(slope, rel=1e-4, abs=1e-8), name
            checked += 1
    assert checked > 100


def test_padding_does_not_matter() -> None:
    made = module("dupmae")
    given = batch(THREE, 3)
    wide = {
        name: np.pad(array, [(0, 0), *((0, 2) for _ in range(array.ndim - 1))])
        for name, array in given.items()
    }
    wide["labels"][:, -2:] = NONE
    wide["visible"][:, :, 0] = True
    for before, after in zip(made(tensors(given))[1], made(tensors(wide))[1], strict=True):
        assert after.item() == pytest.approx((before).item(), rel=1e-9)


def test_the_bag_without_weight_leaves_retromaes_encoder_alone() -> None:
    given = tensors(batch(THREE, 3))
    plain, weightless = module("mlm"), module("dupmae")
    weightless.share = 0.0
    weightless.decoder = None
    (first, _), (second, _) = plain(given), weightless(given)
    assert first.item() == pytest.approx((second).item(), rel=1e-12)
    first.backward()
    second.backward()
    for one, other in zip(plain.parameters(), weightless.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


def test_networks_with_other_positions() -> None:
    shape = {
        "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 12, "pad_token_id": 0, "max_position_embeddings": 12,
    }  # fmt: skip
    given = tensors(batch(THREE, 3))
    roberta = module("dupmae", RobertaModel(RobertaConfig(**shape)))
    assert roberta.embeddings.first == 1
    assert roberta.decoder.places is None
    modern = ModernBertModel(
        ModernBertConfig(**shape, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    )
    for form in ("retromae", "dupmae"):
        turning = module(form, modern)
        assert turning.decoder.places.shape == (12, 8)  # it has no table of positions to share
        loss, _ = turning(given)
        assert torch.isfinite(loss)
        loss.backward()
        assert turning.decoder.places.grad.abs().sum() > 0


# The method


RECIPE = DupMAE(steps=6, batch=6, lr=1e-3, longest=12, threads=1)


@pytest.fixture(scope="module")
def made(model: ModelEncoder) -> DuplexEncoder:
    found = RECIPE(model, corpus=Corpus(LINES))
    assert isinstance(found, DuplexEncoder)
    return found


def test_training_lowers_the_losses(model: ModelEncoder) -> None:
    recipe = replace(RECIPE, steps=150, lr=1e-2, bow=1.0)
    first: Any = replace(recipe, steps=1)(model, corpus=Corpus(LINES))
    found: Any = recipe(model, corpus=Corpus(LINES))
    assert found.metrics["decoder"] < found.metrics["unigram_decoder"]
    assert found.metrics["bow"] < first.metrics["bow"] - 0.5
    assert found.metrics["mlm"] < first.metrics["mlm"] - 0.5


def test_undertraining_is_said(
    made: DuplexEncoder, model: ModelEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    assert made.metrics["undertrained"] == 1
    replace(RECIPE, steps=1)(model, corpus=Corpus([*LINES, "sea"]))
    assert "undertrained: the loss decoder is" in caplog.text
    assert "1 texts of fewer than 3 tokens are left out" in caplog.text


def test_saved_loaded_encoded(made: DuplexEncoder, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    made.save(tmp_path / "made")
    again = DuplexEncoder.load(tmp_path / "made")
    texts = [*LINES[:3], "", "sea"]
    for one, other in (
        (made.encode(texts), again.encode(texts)),
        (made.words(texts), again.words(texts)),
        (made.dense(texts), again.dense(texts)),
        (made.lexical(texts).toarray(), again.lexical(texts).toarray()),
    ):
        np.testing.assert_array_equal(one, other)
    assert again.metrics == made.metrics
    plain = SentenceTransformer(str(tmp_path / "made"), device="cpu")
    np.testing.assert_array_equal(plain.encode(texts), made.encode(texts))
    np.testing.assert_array_equal(
        load_encoder(str(tmp_path / "made")).encode(texts), plain.encode(texts)
    )
    with torch.no_grad():  # and it is [CLS]
        states, _ = made.states(texts[:3])
    np.testing.assert_allclose(made.encode(texts[:3]), states[:, 0].numpy(), atol=1e-6)


def test_training_goes_on_with_the_decoder(made: DuplexEncoder, tmp_path: Path) -> None:
    from tokenspace.runner import load_input
    from tokenspace.text_encoder import PretrainedEncoder

    made.save(tmp_path / "made")
    again = load_input(PretrainedEncoder, str(tmp_path / "made"))
    network = body_network(again.body)
    started = net.started(network, replace(RECIPE, seed=5), 12, again)
    for name, value in net.kept(started).items():
        np.testing.assert_array_equal(value, made.pretraining[name])
    more: Any = RECIPE(again, corpus=Corpus(LINES))
    assert more.metrics["loss_first"] < made.metrics["loss_first"]
    other = replace(RECIPE, form="retromae")(again, corpus=Corpus(LINES))
    assert other.metrics["bow"] == 0


def test_the_words_of_a_text(made: DuplexEncoder) -> None:
    E = body_network(made.body).get_input_embeddings().weight
    texts = [LINES[0], "", LINES[2]]
    found = made.words(texts)
    with torch.no_grad():
        for text, row in zip(texts, found, strict=True):
            length = len(made.body.tokenizer.encode(text))
            ids = torch.tensor([made.body.tokenizer.encode(text).ids])
            states = made.body.states(ids, ids >= 0, torch.zeros_like(ids))[0]
            assert states.shape[0] == length
            logits = made._head(states[1:]) @ E.T + made._head.bias
            np.testing.assert_allclose(row, logits.amax(0).numpy(), rtol=1e-4, atol=1e-5)
    top = made.lexical(texts, top=5)
    assert np.diff(top.indptr).tolist() == [5, 5, 5]
    for i, row in enumerate(found):
        strongest = np.sort(np.argsort(-row, kind="stable")[:5])
        np.testing.assert_array_equal(top.indices[5 * i : 5 * i + 5], strongest)
        np.testing.assert_array_equal(top.data[5 * i : 5 * i + 5], row[strongest])


def test_search_by_both_is_the_definition(made: DuplexEncoder) -> None:
    documents, queries = LINES[:3], ["a cold ship", "blue"]
    index = HybridIndex(made.dense(documents), made.lexical(documents, top=6))
    found = index.scores(made.dense(queries), made.words(queries))
    W, kept = made.axes[:, : made.half].astype(np.float64), made.lexical(documents, top=6)
    for q, query in enumerate(queries):
        for d, document in enumerate(documents):
            e = (made.encode([query])[0] @ W, made.encode([document])[0] @ W)
            expected = float(e[0] @ e[1])
            mu, row = made.words([query])[0], kept.toarray()[d]
            expected += sum(float(mu[i]) * float(row[i]) for i in np.flatnonzero(row))
            assert found[q, d] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_axes_are_principal_directions(made: DuplexEncoder) -> None:
    np.testing.assert_allclose(made.axes.T @ made.axes, np.eye(8), atol=1e-5)
    spread = (made.encode(LINES[:3]) @ made.axes).var(axis=0)
    assert spread[0] > spread[-1]


def test_the_head_of_a_language_model_is_taken(tmp_path: Path) -> None:
    save_fresh(tmp_path / "bert", LINES, vocab=60, width=8, layers=1, longest=16, head=True)
    encoder = load_encoder(str(tmp_path / "bert"), device="cpu")
    started = net.started(body_network(encoder.body), RECIPE, 12, encoder).eval()
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path / "bert").eval()
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        states = started.network(input_ids=ids).last_hidden_state
        logits = started.head(states) @ started.embeddings.rows.T + started.head.bias
        torch.testing.assert_close(logits, whole(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


# What is refused


def test_bad_texts(model: ModelEncoder) -> None:
    with pytest.raises(InputError, match=r"no text of 3 tokens \(2 shorter ones\)") as fault:
        RECIPE(model, corpus=Corpus(["sea", ""]))
    assert fault.value.hint
    with pytest.raises(InputError, match="text 3 holds a lone surrogate"):
        RECIPE(model, corpus=Corpus([*LINES[:3], "it is \ud800 cold"]))
    with pytest.raises(MissingEvidence, match="corpus"):
        from tokenspace.recipe import apply

        apply(RECIPE, {"model": model})


def test_bad_models(model: ModelEncoder, tmp_path: Path) -> None:
    from tokenspace.toy_encoder import ToyEncoder

    texts = Corpus(LINES)
    with pytest.raises(InputError, match="ToyEncoder is no pretrained network"):
        RECIPE(ToyEncoder(seed=0), corpus=texts)  # type: ignore[arg-type]
    save_fresh(tmp_path / "llama", LINES, kind="llama", vocab=60, longest=16)
    with pytest.raises(InputError, match="puts 1 tokens around a text"):
        RECIPE(load_encoder(str(tmp_path / "llama"), device="cpu"), corpus=texts)
    made: Any = copied(model)
    made.tokenizer.mask_token = None
    with pytest.raises(InputError, match="no mask token"):
        net.checked(made)
    made = copied(model)
    made[0].auto_model.resize_token_embeddings(10)
    with pytest.raises(InputError, match="10 rows for the"):
        net.checked(made)
    made = copied(model).half()
    with pytest.raises(InputError, match="float16"):
        net.checked(made)


def test_a_head_of_another_vocabulary(made: DuplexEncoder) -> None:
    wrong = replace(made, pretraining={**made.pretraining, "head.bias": np.zeros(5, np.float32)})
    with pytest.raises(InputError, match=r"head.bias is \(5,\)"):
        RECIPE(wrong, corpus=Corpus(LINES))


def test_an_unknown_kind_of_network() -> None:
    class Other(BertModel):
        def forward(self, *given: Any, **named: Any) -> Any:
            out = super().forward(*given, **named)
            return type(out)(hidden_states=tuple(2 * state for state in out.hidden_states))

    with pytest.raises(InputError, match="what enters the layers of Other"):
        net.Embeddings(Other(bert().config))


def test_bad_numbers(made: DuplexEncoder) -> None:
    for knob, value in (("masked", 1.0), ("hidden", -0.1), ("longest", 4), ("form", "bert")):
        with pytest.raises(ConfigError, match=knob):
            replace(RECIPE, **{knob: value})
    with pytest.raises(ConfigError, match="dims=9"):
        made.dense(["sea"], dims=9)
    with pytest.raises(ConfigError, match="top=0"):
        made.lexical(["sea"], top=0)


def test_damaged_files(made: DuplexEncoder, tmp_path: Path) -> None:
    made.save(tmp_path / "made")
    (tmp_path / "made" / "duplex.json").write_text("{}")
    with pytest.raises(FormatError, match="not a whole encoder with its head"):
        DuplexEncoder.load(tmp_path / "made")
    made.save(tmp_path / "other")
    (tmp_path / "other" / "pretraining.safetensors").unlink()
    with pytest.raises(FormatError, match="not a whole encoder with its head"):
        DuplexEncoder.load(tmp_path / "other")
