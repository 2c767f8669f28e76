"""Token prepending: what reaches which layer, the prompt, exits, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

from tokenspace.encode import token_prepending as tp
from tokenspace.encode.token_prepending import TokenPrepending
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder, save_fresh
from tokenspace.nn.layers import layer_list, network_of

GIVEN = bag(tiny=True)
CORPUS = list(GIVEN["corpus"])
TEXTS = [CORPUS[0], CORPUS[1] + " " + CORPUS[2], "", "one"]
N = 5


def decoder(layers: int = N):
    told = ["This sentence means in one word", "say yes ' \" : . ?"]
    return fresh_encoder([*CORPUS, *told], kind="llama", layers=layers, vocab=600)


def literal(made, text: str, start: int, end: int, out: int) -> np.ndarray:
    """Return H_out[-1] of one text alone, layer by layer, with the equation between them."""
    first, network = made[0], network_of(made)
    ids = made.preprocess([text])["input_ids"]
    p = ids[0].tolist().index(first.placeholder)
    with torch.no_grad():
        H = network.get_input_embeddings()(ids)
        places = torch.arange(ids.shape[1])[None]
        around = network.rotary_emb(H, places)
        causal = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)[None, None]
        for number, layer in enumerate(layer_list(network)[:out]):
            if start <= number < end:
                H = torch.cat([H[:, :p], H[:, -1:], H[:, p + 1 :]], 1)
            H = layer(H, attention_mask=causal, position_embeddings=around, position_ids=places)
            H = H[0] if isinstance(H, tuple) else H
    return H[0, -1].numpy()


@pytest.mark.parametrize(("start", "end", "out"), [(1, 2, 4), (1, 3, 4), (0, 2, 3), (2, 4, 4)])
def test_it_is_the_equation_layer_by_layer(start: int, end: int, out: int) -> None:
    encoder = TokenPrepending(start=start, exit=end, layers=out)(decoder())
    made = encoder.body.model
    assert len(layer_list(network_of(made))) == out
    found = encoder.encode(TEXTS, batch_size=2)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, literal(made, text, start, end, out), atol=1e-5)


def test_a_whole_model_keeps_its_last_norm() -> None:
    encoder = TokenPrepending(exit=2, layers=N)(decoder())
    made = encoder.body.model
    raw = literal(made, TEXTS[0], 1, 2, N)
    with torch.no_grad():
        normed = network_of(made).norm(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS[:1])[0], normed, atol=1e-5)


def states(encoder, text: str, change: bool) -> list[np.ndarray]:
    """Return what leaves every layer of one text, its last own token changed or not."""
    made = encoder.body.model
    features = made.preprocess([text])
    ids = features["input_ids"]
    own = [i for i, m in enumerate(_own(encoder, text)) if m]
    if change:
        ids[0, own[-1]] = (ids[0, own[-1]] + 7) % 40 + 5
    seen: list[np.ndarray] = []
    hooks = [
        layer.register_forward_hook(lambda m, a, out: seen.append(
            (out[0] if isinstance(out, tuple) else out)[0, own[0]].detach().numpy()
        ))
        for layer in layer_list(network_of(made))
    ]  # fmt: skip
    with torch.no_grad():
        made[0](features)
    for hook in hooks:
        hook.remove()
    return seen


def _own(encoder, text: str) -> list[bool]:
    found = encoder.body.tokenizer.encode(text)
    return [mask == 0 for mask in found.special_tokens_mask]


def test_the_first_token_sees_the_last_from_its_layer_on() -> None:
    for start in (1, 2):
        encoder = TokenPrepending(start=start, exit=start + 1, layers=4)(decoder())
        text = CORPUS[0]
        before, after = states(encoder, text, False), states(encoder, text, True)
        same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        # layer start-1 has read plain tokens; what leaves layer `start` has seen the summary
        assert same == [layer < start for layer in range(4)]


def test_off_it_is_the_plain_prompt_bit_for_bit() -> None:
    encoder = TokenPrepending(prepend=False, exit=2, layers=4)(decoder())
    network = network_of(encoder.body.model)
    for text in TEXTS:
        features = encoder.body.model.preprocess([text])
        raw = {}
        hook = layer_list(network)[-1].register_forward_hook(
            lambda m, a, out, raw=raw: raw.update(H=out[0] if isinstance(out, tuple) else out)
        )
        with torch.no_grad():
            network(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        hook.remove()
        np.testing.assert_array_equal(encoder.encode([text])[0], raw["H"][0, -1].numpy())


def test_the_prompt_is_around_the_text_and_the_text_is_cut_first() -> None:
    encoder = TokenPrepending(exit=2, layers=3)(decoder())
    made, tokenizer = encoder.body.model, encoder.body.tokenizer
    ids = tokenizer.encode('say "yes"?').ids
    spelled = made.tokenizer.decode(ids)
    assert spelled.replace(" ", "").lower() == (
        'thissentence:<pst>"say\'yes\'."meansinoneword:"'
    ), spelled
    assert ids.count(made[0].placeholder) == 1
    long = tokenizer.encode(" ".join(CORPUS * 5))
    assert len(long) == encoder.body.tokenizer.truncation["max_length"]
    assert long.ids[-6:] == tokenizer.encode("one").ids[-6:]  # the prompt's end is whole
    [pieces] = encoder.tokens(["one two"])
    assert pieces[0][1] == 0
    assert all(end <= len("one two") for _, _, end in pieces)


def test_meta_is_the_mean_over_its_prompts(tmp_path: Path, monkeypatch) -> None:
    from sentence_transformers import SentenceTransformer

    prompts, texts = tp.PROMPTS["meta"], [CORPUS[0], "", "one", "two?"]  # none is cut
    assert len(prompts) == 8
    model, single = decoder(), []
    for sides in prompts:
        monkeypatch.setitem(tp.PROMPTS, "eol", (sides,))
        single.append(TokenPrepending(exit=3, layers=4)(model).encode(texts))
    encoder = TokenPrepending(exit=3, layers=4, template="meta")(model)
    found = encoder.encode(texts, batch_size=2)
    np.testing.assert_allclose(found, np.mean(single, axis=0), atol=1e-5)
    encoder.save(tmp_path / "out")
    again = load_encoder(str(tmp_path / "out")).encode(texts, batch_size=2)
    np.testing.assert_array_equal(again, found)
    stock = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    for side in ("left", "right"):
        stock.tokenizer.padding_side = side
        np.testing.assert_allclose(stock.encode(texts), found, atol=1e-5)
    others = [len(before) + len(after) for before, after in stock[0].templates]
    assert max(others) <= sum(stock[0].own)  # a text that fits into one fits into every prompt


def test_long_texts_are_counted_once(caplog, monkeypatch) -> None:
    encoder = TokenPrepending(exit=2, layers=3)(decoder())
    monkeypatch.setattr(encoder.body, "advised", 30)
    texts = ["a " * 40, "one", "a " * 50]
    encoder.encode(texts, batch_size=1)
    said = [record.message for record in caplog.records]
    assert said == ["2 of 3 texts are so long that this model's vectors get worse"]
    caplog.clear()
    encoder.encode(texts[1:2])
    assert not caplog.records
    assert encoder.body.first.advised == 256


def test_a_start_before_all_layers_is_warned_of(caplog) -> None:
    TokenPrepending(start=0, exit=2, layers=3)(decoder())
    assert "equal for all texts" in caplog.text


def test_the_placeholder_is_the_mean_or_drawn_by_the_seed() -> None:
    def row(**knobs):
        made = TokenPrepending(exit=2, layers=3, **knobs)(decoder()).body.model
        table = network_of(made).get_input_embeddings().weight.detach()
        place = made[0].placeholder
        return table[place], torch.cat([table[:place], table[place + 1 :]]).mean(0)

    found, mean = row()
    torch.testing.assert_close(found, mean)
    drawn, again, other = (row(pst="random", seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    assert 0.5 < float(drawn.std()) < 2


def test_the_directory_runs_without_this_package(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = TokenPrepending(exit=2, layers=4)(decoder())
    vectors = encoder.encode(TEXTS)
    encoder.save(tmp_path / "out")
    np.testing.assert_array_equal(load_encoder(str(tmp_path / "out")).encode(TEXTS), vectors)
    stock = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(stock.encode(TEXTS), vectors, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "neox"])
def test_other_decoders(tmp_path: Path, kind: str) -> None:
    save_fresh(tmp_path / "plain", CORPUS, kind="llama")
    size = {"vocab_size": 300, "bos_token_id": 2, "eos_token_id": 3}
    config = (
        tf.GPT2Config(n_embd=16, n_layer=4, n_head=2, n_positions=64, **size)
        if kind == "gpt2"
        else tf.GPTNeoXConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=64, **size,
        )
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tf.AutoModel.from_config(config).save_pretrained(tmp_path / "plain")
    model = load_encoder(str(tmp_path / "plain"))
    on = TokenPrepending(exit=2, layers=3)(model).encode(TEXTS)
    off = TokenPrepending(exit=2, layers=3, prepend=False)(model).encode(TEXTS)
    assert np.isfinite(on).all()
    assert not np.allclose(on, off)


def test_rated_pairs_choose_the_layers() -> None:
    recipe, model = TokenPrepending(), decoder(6)
    other = (*CORPUS[1:20], CORPUS[0])
    columns = {"anchor": CORPUS[:20], "positive": other}
    pairs = Examples(columns, scores=[float(i % 5) for i in range(20)])
    chosen = recipe(model, examples=pairs).body.model
    assert 1 < chosen[0].exit <= len(layer_list(network_of(chosen)))
    assert recipe(model, examples=GIVEN["examples"]).body.model[0].exit == 2  # not rated: unread


def test_bad_input() -> None:
    recipe, model = TokenPrepending(exit=2, layers=3), decoder()
    with pytest.raises(ConfigError, match="is an encoder"):
        recipe(GIVEN["model"])
    for change in ({"start": 2}, {"layers": 1}, {"exit": 4}, {"layers": 6}):
        with pytest.raises(ConfigError, match=r"start=.*exit=.*layers="):
            replace(recipe, **change)(model)
    with pytest.raises(InputError, match="no pretrained network"):
        recipe(GIVEN["encoder"])
