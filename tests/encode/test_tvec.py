"""T-VEC: the loss by its definition, the spring, the new words, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenspace.corpus import Corpus
from tokenspace.encode.domain_words import DomainWords, append
from tokenspace.encode.trial import bag
from tokenspace.encode.triplets import triplet_figures, triplets_of
from tokenspace.encode.tvec import TVEC, general_figures
from tokenspace.encode.tvec_net import SpringLoss, widened
from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder
from tokenspace.nn.layers import network_of
from tokenspace.nn.sentence import copied
from tokenspace.tokenizer_training import byte_bpe, unigram

GIVEN = bag(tiny=True)
PAIRS = GIVEN["examples"]
FIELD = ["The zqxw of it", "a ZQXW, and a vbnm", "zqxw vbnm", "zqxwvbnm the of"]


def model():
    return fresh_encoder([*PAIRS.texts, "the of it a and", "aza aqa axa awa ava aba ana ama"])


def triplets(**columns: list[str]) -> Examples:
    return Examples(columns)


class Fixed:
    """An encoder of given vectors."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors

    def encode(self, texts):
        return np.array([self.vectors[text] for text in texts], np.float32)


@pytest.mark.parametrize("form", ["cosine", "euclidean", "soft"])
def test_the_loss_is_its_definition(form: str) -> None:
    draw = torch.Generator().manual_seed(0)
    a, p, n = (torch.randn(6, 5, generator=draw, dtype=torch.float64) for _ in range(3))
    alpha, total = 0.7, 0.0
    for i in range(6):

        def d(x, y):
            x, y = x.numpy(), y.numpy()
            if form == "euclidean":
                return math.sqrt(sum((x - y) ** 2))
            return 1 - x @ y / math.sqrt(x @ x) / math.sqrt(y @ y)

        x = d(a[i], p[i]) - d(a[i], n[i]) + alpha
        total += math.log(1 + math.exp(x)) if form == "soft" else max(0.0, x)
    loss = SpringLoss(copied(model()), form=form, alpha=alpha, l2sp=0.0)
    assert float(loss.of_vectors(a, p, n)) == pytest.approx(total / 6, rel=1e-5)
    assert loss.spring() == 0.0


def test_the_spring_pulls_to_where_the_weights_were_and_frees_new_rows() -> None:
    made = copied(model()).double()
    loss = SpringLoss(made, form="cosine", alpha=0.2, l2sp=0.3, new=4)
    table = network_of(made).get_input_embeddings().weight
    bias = next(p for name, p in made.named_parameters() if name.endswith("query.bias"))
    assert loss.spring().item() == 0.0
    with torch.no_grad():
        table += 2.0
        bias[1] -= 3.0
    rows = len(table) - 4
    assert loss.spring().item() == pytest.approx(0.15 * (4.0 * rows * table.shape[1] + 9.0))
    loss.spring().backward()
    assert torch.all(table.grad[rows:] == 0)
    torch.testing.assert_close(table.grad[:rows], torch.full_like(table[:rows], 0.6))
    assert float(bias.grad[1]) == pytest.approx(-0.9)


def test_the_whole_gradient_is_right() -> None:
    made = copied(model()).double().eval()
    loss = SpringLoss(made, form="soft", alpha=0.2, l2sp=0.5)
    features = [made.preprocess(list(PAIRS.columns["anchor"][i : i + 4])) for i in (0, 4, 8)]
    weight = network_of(made).get_input_embeddings().weight
    with torch.no_grad():
        weight += 0.01
    value = loss(features, torch.zeros(4))
    value.backward()
    used = int(features[0]["input_ids"][0, 1])
    for column in (0, 7):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[used, column] += step
                ends.append(float(loss(features, torch.zeros(4))))
                weight[used, column] -= step
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(weight.grad[used, column]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_figures_by_hand() -> None:
    encoder = Fixed({"a": [1, 0], "b": [2, 0], "c": [0, 1], "d": [3, 4]})
    given = triplets(
        anchor=["a", "a", "c"], positive=["b", "c", "d"], negative=["c", "d", "b"]
    )  # gaps of cosines: 1, 0 - 0.6, 0.8 - 0
    found = triplet_figures(encoder, given, alpha=0.9)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["margin"] == pytest.approx((1 - 0.6 + 0.8) / 3)
    assert found["at_alpha"] == pytest.approx(1 / 3)
    found = triplet_figures(encoder, given, alpha=-0.9, form="euclidean")
    gaps = [math.sqrt(2) - 1, math.sqrt(20) - math.sqrt(2), math.sqrt(5) - math.sqrt(18)]
    assert found["margin"] == pytest.approx(sum(gaps) / 3)
    assert found["at_alpha"] == pytest.approx(2 / 3)


def test_every_negative_makes_a_triplet_and_pairs_get_a_foreign_one() -> None:
    given = triplets(
        anchor=["a", "b"], positive=["p", "q"], negative=["n", ""], negative_2=["m", "o"]
    )
    found = triplets_of(given)
    assert list(zip(*found.columns.values(), strict=True)) == [
        ("a", "p", "n"),
        ("a", "p", "m"),
        ("b", "q", "o"),
    ]
    pairs = Examples({"anchor": ["a", "a", "b", "c"] * 5, "positive": ["p", "q", "r", "p"] * 5})
    own = {"a": {"p", "q"}, "b": {"r"}, "c": {"p"}}
    for seed in range(3):
        made = triplets_of(pairs, seed=seed)
        assert made.columns["positive"] == pairs.columns["positive"]
        for a, n in zip(made.columns["anchor"], made.columns["negative"], strict=True):
            assert n in {"p", "q", "r"} - own[a]


def test_words_and_what_they_save() -> None:
    backend = model().body.tokenizer
    words = DomainWords.of(FIELD, backend)
    assert words.counts == {
        "the": 2, "zqxw": 3, "of": 2, "it": 1, "a": 2, "and": 1, "vbnm": 2, "zqxwvbnm": 1,
    }  # fmt: skip
    lengths = {w: len(backend.encode(w, add_special_tokens=False).ids) for w in words.counts}
    assert {w: len(pieces) for w, pieces in words.pieces.items()} == lengths
    assert lengths["zqxw"] > 1
    gains = words.gains(least=2)
    expected = {w: words.counts[w] * (lengths[w] - 1) for w in ("zqxw", "vbnm")}
    assert {w: g for w, g in gains if w in expected} == expected
    assert [g for _, g in gains] == sorted((g for _, g in gains), reverse=True)
    assert "zqxwvbnm" in dict(words.gains(least=1))
    tokens = sum(words.counts[w] * lengths[w] for w in lengths)
    assert words.fertility == pytest.approx(tokens / 14)
    strange = DomainWords.of(["\u0436\u0448 the", "\u0436\u0448"], backend)
    assert strange.gains(least=2) == [("\u0436\u0448", 2)]
    assert strange.whole == pytest.approx(1 / 3)


def kinds() -> dict[str, object]:
    from transformers import PreTrainedTokenizerFast

    texts = ["the of it a and zq xw", "a b the of"] * 20
    made = {"bert": copied(model()).tokenizer}
    for name, vocab in (("gpt2", byte_bpe(texts, 280)), ("t5", unigram([*texts, *"qxwzvbnm"], 40))):
        made[name] = PreTrainedTokenizerFast(tokenizer_object=vocab.tokenizer)
    return made


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_a_new_word_is_whole_alone_and_nothing_else_changes(kind: str) -> None:
    tokenizer = kinds()[kind]
    others = ["the of it", "zqxwvbnm the", "vzqxw a", "a and zq"]

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    before, size = [ids(text) for text in others], len(tokenizer)
    known = dict(tokenizer.get_vocab())
    assert len(ids("zqxw")) > 1
    (new,) = append(tokenizer, ["zqxw"])
    assert new == size
    assert [ids(text) for text in others] == before
    assert {token: i for token, i in tokenizer.get_vocab().items() if i < size} == known
    assert ids("the zqxw") == [*ids("the"), new]
    assert ids("zqxw") == [new]
    assert new in ids("(zqxw)")
    assert ids("zqxw the")[0] == new
    assert (new in ids("ZQXW")) == (kind == "bert")


def test_new_rows_are_means_and_old_ones_stay() -> None:
    whole = model()
    made = copied(whole)
    start = network_of(made).get_input_embeddings().weight.detach().clone()
    pieces = made.tokenizer("zqxw", add_special_tokens=False)["input_ids"]
    new, figures = widened(made, FIELD, tokens=1, least=2)
    table = network_of(made).get_input_embeddings().weight.detach()
    assert (new, figures["tokens_added"]) == (1, 1.0)
    assert len(table) == len(start) + 1 == network_of(made).config.vocab_size
    torch.testing.assert_close(table[:-1], start, rtol=0, atol=0)
    torch.testing.assert_close(table[-1], start[pieces].mean(0))
    saved = 3 * (len(pieces) - 1)
    assert figures["fertility_before"] - figures["fertility"] == pytest.approx(saved / 14)
    assert figures["whole"] - figures["whole_before"] == pytest.approx(3 / 14)


def test_a_widened_model_is_saved_for_stock_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    whole = model()
    before = whole.encode(FIELD)
    recipe = TVEC(steps=3, batch=8, lr=1e-3, tokens=2, threads=1)
    tuned = recipe(whole, examples=PAIRS, corpus=Corpus(FIELD * 3))
    np.testing.assert_array_equal(whole.encode(FIELD), before)
    assert tuned.metrics["tokens_added"] == 2
    assert len(tuned.tokens(["zqxw"])[0]) == 1
    tuned.save(tmp_path / "tuned")
    stock = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    np.testing.assert_allclose(stock.encode(FIELD), tuned.encode(FIELD), atol=1e-6)
    again = load_encoder(str(tmp_path / "tuned"))
    np.testing.assert_allclose(again.encode(FIELD), tuned.encode(FIELD), atol=1e-6)


def test_what_is_held_out_is_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenspace.nn import sentence

    seen: list[set[str]] = []
    real = sentence.dataset
    monkeypatch.setattr(
        sentence, "dataset", lambda kept: seen.append(set(kept.columns["positive"])) or real(kept)
    )
    found = TVEC(**TVEC.tiny)(model(), examples=PAIRS).metrics
    away = set(PAIRS.columns["positive"]) - seen[0]
    assert found["held_out"] == sum(p in away for p in PAIRS.columns["positive"]) > 0
    few = PAIRS.take(range(12))
    assert TVEC(**TVEC.tiny)(model(), examples=few).metrics["held_out"] == 0


@pytest.mark.parametrize("kind", ["texts", "pairs", "scored", "labelled"])
def test_general_examples_are_replayed_by_their_share(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenspace.encode import tvec_net
    from tokenspace.nn import sentence

    columns = {"anchor": PAIRS.columns["anchor"][:30], "positive": PAIRS.columns["positive"][:30]}
    given = {
        "texts": GIVEN["general"],
        "pairs": Examples(columns),
        "scored": Examples(columns, scores=[i / 30 for i in range(30)]),
        "labelled": GIVEN["tasks"].take(range(30)),
    }[kind]
    sizes: dict[str, int] = {}
    steps: list[str] = []
    real = sentence.fine_tune

    def told(made, data, losses, **more):
        sizes.update({name: len(rows) for name, rows in data.items()})
        return real(made, data, losses, **more)

    def counted(name, kind):
        whole = kind.forward
        monkeypatch.setattr(
            kind, "forward", lambda self, *given: steps.append(name) or whole(self, *given)
        )

    monkeypatch.setattr(sentence, "fine_tune", told)
    counted("field", tvec_net.SpringLoss)
    counted("general", tvec_net.Replay)
    recipe = TVEC(steps=20, batch=8, lr=1e-3, replay=0.5, threads=1)
    found = recipe(model(), examples=PAIRS, general=given).metrics
    assert sizes["general"] == sizes["field"]
    assert len(steps) == 20
    assert 3 <= steps.count("general") <= 17  # each with the chance of one half
    assert 0 < found["drift"] < 1
    assert 0 <= found["neighbours"] <= 1
    assert ("spearman" in found) == ("spearman_before" in found) == (kind == "scored")
    sizes.clear()
    none = replace(recipe, replay=0.0, steps=3)(model(), examples=PAIRS, general=given).metrics
    assert set(sizes) == {"field"}
    assert none["drift"] > 0


def test_few_labelled_rows_are_drawn_of_all_classes() -> None:
    """One row to replay still has a negative of another class, and each row comes as often."""
    from tokenspace.encode.tvec_net import replay

    spring = SpringLoss(copied(model()), form="cosine", alpha=0.2, l2sp=0.0)
    given = Examples({"text": [*"abcdef", "alone"], "label": [*"xyxyxy", "z"]})
    rows, _ = replay(spring, given, 1, seed=0)
    assert len(rows) == 1
    rows, _ = replay(spring, given, 9, seed=0)
    counts = sorted(list(rows["anchor"]).count(text) for text in "abcdef")
    assert counts == [1, 1, 1, 2, 2, 2]
    of = dict(zip(given.columns["text"], given.columns["label"], strict=True))
    for a, p, n in zip(rows["anchor"], rows["positive"], rows["negative_1"], strict=True):
        assert of[a] == of[p] != of[n]


def test_general_figures_by_hand() -> None:
    before = Fixed({"a": [1, 0], "b": [0, 1], "c": [3, 4]})
    after = Fixed({"a": [2, 0], "b": [1, 0], "c": [3, 4]})
    given = Examples(
        {"anchor": ["a", "a", "b"], "positive": ["b", "c", "c"]}, scores=[0.0, 0.5, 1.0]
    )
    found = general_figures(before, after, given)
    assert found["drift"] == pytest.approx(1 - (1 + 0 + 1) / 3)
    assert found["neighbours"] == 1.0  # with three texts, both others are near
    assert found["spearman_before"] == pytest.approx(1.0)  # 0, 0.6, 0.8
    assert found["spearman"] == pytest.approx(-math.sqrt(3) / 2)  # 1, 0.6, 0.6


def test_what_is_watched_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenspace.encode import tvec, tvec_net

    seen: dict[str, set[str]] = {}
    replay, figures = tvec_net.replay, tvec.general_figures
    monkeypatch.setattr(
        tvec_net,
        "replay",
        lambda spring, given, rows, **more: (
            seen.update(replayed=set(given.texts)) or replay(spring, given, rows, **more)
        ),
    )
    monkeypatch.setattr(
        tvec,
        "general_figures",
        lambda a, b, given: seen.update(watched=set(given.texts)) or figures(a, b, given),
    )
    TVEC(**TVEC.tiny)(model(), examples=PAIRS, general=GIVEN["general"])
    assert len(seen["watched"]) >= 3
    assert not seen["watched"] & seen["replayed"]
    assert seen["watched"] | seen["replayed"] == set(GIVEN["general"].texts)


def test_training_widens_the_margin_and_the_spring_limits_how_far_it_goes() -> None:
    whole = model()
    first = np.concatenate([p.detach().numpy().ravel() for p in copied(whole).parameters()])
    moved, margins = [], []
    for l2sp in (0.0, 1000.0):
        recipe = TVEC(steps=30, batch=16, lr=3e-3, l2sp=l2sp, threads=1)
        tuned = recipe(whole, examples=PAIRS)
        last = np.concatenate([p.detach().numpy().ravel() for p in copied(tuned).parameters()])
        moved.append(float(np.linalg.norm(last - first)))
        margins.append(triplet_figures(tuned, triplets_of(PAIRS))["margin"])
    assert moved[1] < moved[0] / 2
    assert margins[0] > triplet_figures(whole, triplets_of(PAIRS))["margin"] + 0.1


def test_bad_input() -> None:
    whole, tiny = model(), TVEC(**TVEC.tiny)
    for given, says in (
        (
            {"anchor": ["x", "a"], "positive": ["y", "a "], "negative": ["z", "b"]},
            "row 1.*positive",
        ),
        ({"anchor": ["a"], "positive": ["b"], "negative": ["a"]}, "row 0.*negative"),
        ({"anchor": ["a"], "positive": ["b"], "negative": [" "]}, "no row has a negative"),
        ({"anchor": ["a", "b"], "positive": ["c", "c"]}, "no other row"),
    ):
        with pytest.raises(InputError, match=says) as fault:
            tiny(whole, examples=Examples(given))
        assert fault.value.hint
    with pytest.raises(InputError, match="positive is also a negative"):
        Examples({"anchor": ["a"], "positive": ["b"], "negative": ["b"]})
    with pytest.raises(ConfigError, match="labelled examples are no triplets"):
        tiny(whole, examples=GIVEN["tasks"])
    with pytest.raises(InputError, match="no word"):
        tiny(whole, examples=PAIRS, corpus=Corpus(["12 !", "_"]))
    with pytest.raises(InputError, match="general: 2 different texts"):
        tiny(whole, examples=PAIRS, general=Examples({"text": ["a", "b", "a"]}))
    with pytest.raises(InputError, match="no pretrained network"):
        tiny(GIVEN["encoder"], examples=PAIRS)


def test_a_static_model_can_be_trained_but_gets_no_words(tmp_path: Path) -> None:
    from tokenspace.encode.sif import SIF

    SIF()(GIVEN["corpus"], table=GIVEN["table"]).save(tmp_path / "static")
    static = load_encoder(str(tmp_path / "static"))
    tuned = TVEC(**TVEC.tiny)(static, examples=PAIRS)
    assert tuned.encode(["a"]).shape == (1, static.dim)
    with pytest.raises(InputError, match="has no layers"):
        TVEC(**TVEC.tiny)(static, examples=PAIRS, corpus=GIVEN["corpus"])
