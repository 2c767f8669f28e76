"""The tokenizer that a model receives: templates, special tokens, pad, files, chat templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers as tf
from tiny_models import KINDS, content, make_tokenizer, new_model, same_rows, size, wrap
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from tokenspace.checkpoint import Checkpoint, Ids, Target, write
from tokenspace.checkpoint.weights import floats
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.vocab import Vocabulary


def around(target: Target, *texts: str) -> list[str]:
    """The special tokens and type ids that the written tokenizer puts around texts."""
    tokenizer = Tokenizer.from_str(tokenizer_json(target))
    made = tokenizer.encode(*texts)
    return [f"{t}:{k}" for t, k in zip(made.tokens, made.type_ids, strict=True)]


def tokenizer_json(target: Target) -> str:
    file = target.files["tokenizer.json"]
    return file.decode() if isinstance(file, bytes) else file.read_text()


def settings(target: Target) -> dict:
    file = target.files["tokenizer_config.json"]
    return json.loads(file if isinstance(file, bytes) else file.read_bytes())


@pytest.mark.parametrize(
    ("source", "kind", "single", "pair", "added"),
    [
        ("bert", "gpt", "[CLS]:0 x:0 [SEP]:0", "y:1 [SEP]:1", "[CLS] [SEP] [PAD] [MASK]"),
        ("bert", "t5", "[CLS]:0 x:0 </s>:0", "y:1 </s>:1", "[CLS] [MASK]"),
        ("bert", "roberta", "<s>:0 x:0 </s>:0", "y:1 </s>:1", ""),
        ("bert", "llama", "<s>:0 x:0 </s>:0", "y:1 </s>:1", "[PAD] [MASK]"),
        ("roberta", "bert", "[CLS]:0 x:0 [SEP]:0", "[SEP]:0 y:0 [SEP]:0", ""),
        ("t5", "gpt", "x:0 <|endoftext|>:0", "y:0 <|endoftext|>:0", "<pad>"),
        ("t5", "bert", "x:0 [SEP]:0", "y:0 [SEP]:0", ""),
        ("bart", "llama", "<s>:0 x:0 </s>:0", "</s>:0 y:0 </s>:0", "<pad>"),
        ("gpt2", "llama", "<s>:0 x:0", "y:1", ""),
        ("gpt2", "bert", "x:0", "y:1", ""),
        ("llama", "gpt", "<|endoftext|>:0 x:0", "y:1", ""),
        ("llama", "t5", "x:0", "y:1", ""),
    ],
)
def test_the_template_is_the_model_s(source, kind, single, pair, added, model, tokenizer):
    checkpoint = Checkpoint.open(model(source))
    target = Target.of(checkpoint, tokenizer(kind))
    assert around(target, "x") == single.split()
    assert around(target, "x", "y") == [*single.split(), *pair.split()]
    assert target.added == tuple(added.split())
    before = Vocabulary.load(tokenizer(kind))
    if source != "roberta":
        assert target.vocab.tokens == (*before.tokens, *target.added)
    assert set(target.added) <= {target.vocab.tokens[i] for i in target.vocab.specials}
    assert all((note in " ".join(target.notes)) for note in added.split())
    for old, new in target.counterparts.items():
        mate = target.vocab.match(checkpoint.vocab).ids[new]
        assert mate == old, (checkpoint.vocab.tokens[old], target.vocab.tokens[new])


@pytest.mark.parametrize("kind", ["gpt", "t5", "bert", "llama"])
def test_pad_keeps_the_id_from_which_positions_are_counted(kind, model, tokenizer):
    target = Target.of(Checkpoint.open(model("roberta")), tokenizer(kind))
    before = Vocabulary.load(tokenizer(kind))
    assert target.vocab.roles["pad"] == 1
    assert set(target.vocab.tokens) == {*before.tokens, *target.added}
    text = "the quick cat sat on 東京"
    old, new = before.encode(text), target.vocab.encode(text)
    assert [before.tokens[i] for i in old] == [target.vocab.tokens[i] for i in new]


def test_pad_of_a_unigram_tokenizer(model, tmp_path):
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁cat", -1.0), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in "catsdog"]
    tokenizer = Tokenizer(models.Unigram(list(dict.fromkeys(pieces)), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    before = Vocabulary.load(tmp_path)
    target = Target.of(Checkpoint.open(model("roberta")), tmp_path)
    assert target.added == ("<pad>", "<mask>")
    assert target.vocab.tokens[1] == "<pad>" and target.vocab.tokens[len(before)] == "<s>"
    old, new = before.encode("cat dogs ß"), target.vocab.encode("cat dogs ß")
    assert [before.tokens[i] for i in old] == [target.vocab.tokens[i] for i in new]
    assert around(target, "cat") == ["<s>:0", "▁cat:0", "</s>:0"]


def test_a_list_of_words_has_the_template_of_bert(model, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(make_ids("bert")) + "\n")
    target = Target.of(Checkpoint.open(model("bert")), tmp_path)
    assert target.identical
    assert around(target, "cat", "hat") == ["[CLS]:0", "cat:0", "[SEP]:0", "hat:1", "[SEP]:1"]
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "list.txt").write_text("cat\nhat\n")
    with pytest.raises(InputError, match="a list of words, not a tokenizer"):
        Target.of(Checkpoint.open(model("bert")), tmp_path / "words" / "list.txt")
    with pytest.raises(InputError, match="no such file"):
        Target.of(Checkpoint.open(model("bert")), tmp_path / "nowhere")


def make_ids(kind: str) -> list[str]:
    ids = make_tokenizer(kind).get_vocab()
    return sorted(ids, key=ids.__getitem__)


def test_settings_belong_to_the_model_or_to_the_tokenizer(model, tokenizer, tmp_path):
    folder = tmp_path / "donor"
    made = wrap(make_tokenizer("bert"), "bert", model_max_length=7)
    made.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": None, "do_lower_case": True, "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    written = settings(Target.of(Checkpoint.open(model("gpt2")), folder))
    assert written["model_max_length"] == 190  # positions are the model's
    assert written["do_lower_case"] is True
    assert written["model_input_names"] == ["input_ids", "attention_mask"]
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "add_bos_token" not in written and "auto_map" not in written
    written = settings(Target.of(Checkpoint.open(model("bert")), tokenizer("t5")))
    assert "token_type_ids" in written["model_input_names"]
    assert (written["cls_token"], written["sep_token"]) == ("[CLS]", "</s>")
    assert (written["pad_token"], written["mask_token"]) == ("<pad>", "[MASK]")


def test_limits_of_another_model_are_dropped(model, tokenizer, tmp_path):
    whole = make_tokenizer("llama")
    whole.enable_truncation(3)
    whole.enable_padding(length=9)
    whole.save(str(tmp_path / "tokenizer.json"))
    target = Target.of(Checkpoint.open(model("gpt2")), tmp_path)
    again = Tokenizer.from_str(tokenizer_json(target))
    assert again.truncation is None and again.padding is None


def test_the_files_of_an_unchanged_tokenizer_are_copied(model, tokenizer, tmp_path):
    folder = tmp_path / "donor"
    wrap(make_tokenizer("llama"), "llama").save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(b"pieces")
    target = Target.of(Checkpoint.open(model("gpt2")), folder)
    assert target.files["tokenizer.json"] == folder / "tokenizer.json"
    assert target.files["tokenizer.model"] == folder / "tokenizer.model"
    changed = Target.of(Checkpoint.open(model("bert")), folder)
    assert set(changed.files) == {"tokenizer.json", "tokenizer_config.json"}  # nothing stale


def test_a_vocabulary_in_memory(model, tmp_path):
    checkpoint = Checkpoint.open(model("neox"))
    target = Target.of(checkpoint, checkpoint.vocab)
    assert target.identical and len(target.vocab) == size(make_tokenizer("gpt"))
    rows = checkpoint.table().vectors[: len(target.vocab)]
    outer = checkpoint.table("output").vectors[: len(target.vocab)]
    write(checkpoint, tmp_path / "out", target, input=rows, output=outer)
    assert content(tmp_path / "out") == content(model("neox"))


@pytest.mark.parametrize("choice", ["donor", "base", "none"])
@pytest.mark.parametrize("inside", [False, True])
def test_whose_chat_template(choice, inside, model, tmp_path):
    folders = {}
    for name, kind in (("base", "gpt"), ("donor", "llama")):
        folders[name] = tmp_path / name
        if name == "base":
            new_model("gpt2").save_pretrained(folders[name])
        made = wrap(make_tokenizer(kind), kind)
        made.chat_template = f"{name} <|endoftext|> {{{{ messages }}}}"
        made.save_pretrained(folders[name])
        if inside:  # as transformers 4 wrote it
            config = json.loads((folders[name] / "tokenizer_config.json").read_text())
            text = (folders[name] / "chat_template.jinja").read_text()
            (folders[name] / "chat_template.jinja").unlink()
            config["chat_template"] = text
            (folders[name] / "tokenizer_config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint.open(folders["base"])
    target = Target.of(checkpoint, folders["donor"], chat_template=choice)
    rows = same_rows(checkpoint.table().vectors, target.vocab.match(checkpoint.vocab).ids)
    write(checkpoint, tmp_path / "out", target, input=rows)
    found = tf.AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert (found or "none").startswith(choice)
    splits = any("chat template uses tokens" in note for note in target.notes)
    assert splits == (choice == "base")
    with pytest.raises(ConfigError, match="chat_template='both'"):
        Target.of(checkpoint, folders["donor"], chat_template="both")


def test_pictures_keep_their_place(tmp_path):
    folder = tmp_path / "source"
    new_model("llama", size(make_tokenizer("llama")) + 1).save_pretrained(folder)
    words = make_tokenizer("llama")
    words.add_special_tokens(["<image>"])
    wrap(words, "llama").save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["image_token_index"] = words.token_to_id("<image>")
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint.open(folder)
    make_tokenizer("gpt").save(str(tmp_path / "gpt.json"))
    target = Target.of(checkpoint, tmp_path / "gpt.json")
    assert target.added == ("<image>",)
    mates = target.vocab.match(checkpoint.vocab).ids
    sides = [same_rows(checkpoint.table(side).vectors, mates) for side in ("input", "output")]
    write(checkpoint, tmp_path / "out", target, input=sides[0], output=sides[1])
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert made["image_token_index"] == target.vocab.ids["<image>"] == len(target.vocab) - 1


def test_gaps_in_the_ids(model, tmp_path):
    content = json.loads(make_tokenizer("gpt").to_str())
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    content["model"]["vocab"][last] += 2  # ids without a token before it
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match="an id would have two tokens"):
        Target.of(Checkpoint.open(model("bert")), tmp_path)
    target = Target.of(Checkpoint.open(model("llama")), tmp_path)
    assert len(target.vocab.holes) == 2


def test_every_pair_speaks_like_its_tokenizer_json(model, tokenizer, tmp_path):
    text = "the quick cat sat on"
    for name in KINDS:
        for kind in ("gpt", "bert", "t5"):
            checkpoint = Checkpoint.open(model(name))
            target = Target.of(checkpoint, tokenizer(kind))
            folder = tmp_path / f"{name}-{kind}"
            folder.mkdir()
            for file, data in target.files.items():
                (folder / file).write_bytes(data if isinstance(data, bytes) else data.read_bytes())
            (folder / "config.json").write_bytes((Path(model(name)) / "config.json").read_bytes())
            loaded = tf.AutoTokenizer.from_pretrained(folder)
            assert loaded(text)["input_ids"] == target.vocab.tokenizer.encode(text).ids


def test_special_tokens_mapped_by_hand_take_row_role_and_place(model, tokenizer, tmp_path):
    """What the caller says comes before content and role."""
    checkpoint = Checkpoint.open(model("bert"))
    old = checkpoint.vocab.ids
    chosen = {"<s>": "[SEP]", "</s>": "[CLS]", "Ġcat": "the"}
    target = Target.of(checkpoint, tokenizer("llama"), specials=chosen)
    new = target.vocab.ids
    assert around(target, "x") == ["</s>:0", "x:0", "<s>:0"]
    assert target.copies[new["<s>"]] == old["[SEP]"]
    assert target.copies[new["Ġcat"]] == old["the"]
    assert target.mapped == {new[a]: old[b] for a, b in chosen.items()}
    assert (settings(target)["cls_token"], settings(target)["sep_token"]) == ("</s>", "<s>")
    mates = target.vocab.match(checkpoint.vocab).ids.copy()
    for i, j in target.copies.items():
        mates[i] = j
    rows = same_rows(checkpoint.table("input").vectors, mates)
    write(checkpoint, tmp_path / "out", target, input=rows)
    made = Checkpoint.open(tmp_path / "out")
    bias = next(t.name for t in made.tensors if t.role == "bias")
    for i, j in target.copies.items():  # the bias has followed as well
        assert floats(made.part(bias), bias)[i] == floats(checkpoint.part(bias), bias)[j]
    tf.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")


def test_one_old_token_for_several_new_ones(model, tokenizer):
    """GPT-2's one token has three roles, of which only the missing ones go to what is mapped."""
    checkpoint = Checkpoint.open(model("gpt2"))
    end = checkpoint.vocab.ids["<|endoftext|>"]
    chosen = dict.fromkeys(("</s>", "<s>"), "<|endoftext|>")
    target = Target.of(checkpoint, tokenizer("llama"), specials=chosen)
    new = target.vocab.ids
    assert target.copies == {new["<s>"]: end, new["</s>"]: end}
    assert {r: target.vocab.tokens[i] for r, i in target.vocab.roles.items()} == {
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
    }
    single = Checkpoint.open(model("llama"))
    target = Target.of(single, tokenizer("roberta"), specials={"<mask>": "</s>"})
    assert target.vocab.roles["eos"] == target.vocab.ids["<mask>"]
    ids = Ids(single.vocab, target.vocab, target.counterparts)
    assert ids.role("eos", single.vocab.roles["eos"]) == target.vocab.ids["<mask>"]


def test_mapped_tokens_must_exist(model, tokenizer):
    checkpoint = Checkpoint.open(model("gpt2"))
    with pytest.raises(ConfigError, match="the new tokenizer has no token '<S>'"):
        Target.of(checkpoint, tokenizer("llama"), specials={"<S>": "<|endoftext|>"})
    with pytest.raises(ConfigError, match="the model has no token '<end>'"):
        Target.of(checkpoint, tokenizer("llama"), specials={"<s>": "<end>"})
    with pytest.raises(ConfigError, match="digits='some'"):
        Target.of(checkpoint, tokenizer("llama"), digits="some")


def numbers(split: str | None) -> Tokenizer:
    """A byte-level BPE that knows every number of up to three digits; ``split`` cuts before it."""
    tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for length in (2, 3):
        for number in range(10**length):
            word = f"{number:0{length}d}"
            tokens.append(word)
            merges += [(word[:-1], word[-1])] + ([(word[0], word[1:])] if length == 3 else [])
    made = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    parts = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None))
    made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    return made


@pytest.mark.parametrize(
    ("split", "cut"),
    [
        (r"\d", "1 2 3 4 5 6 7"),
        (r"\d{1,3}", "123 456 7"),
        (r"\d{1,3}(?=(?:\d{3})*(?!\d))", "1 234 567"),
    ],
)
def test_numbers_are_cut_as_by_the_model(split, cut, tmp_path):
    source = numbers(split)
    new_model("gpt2", size(source)).save_pretrained(tmp_path / "model")
    wrap(source, "gpt").save_pretrained(tmp_path / "model")
    wrap(numbers(None), "gpt").save_pretrained(tmp_path / "free")
    checkpoint = Checkpoint.open(tmp_path / "model")
    plain = Target.of(checkpoint, tmp_path / "free")
    assert any("numbers are cut differently" in note for note in plain.notes)
    assert any("--digits keep-base" in note for note in plain.notes)
    target = Target.of(checkpoint, tmp_path / "free", digits="keep-base")
    made = Tokenizer.from_str(tokenizer_json(target))
    assert made.encode("1234567", add_special_tokens=False).tokens == cut.split()
    assert made.encode("at 12, в", add_special_tokens=False).tokens == [
        token for token in source.encode("at 12, в", add_special_tokens=False).tokens
    ]
    assert any("numbers are cut as by the model" in note for note in target.notes)
    assert target.vocab.tokens == plain.vocab.tokens


def test_numbers_without_a_rule_stay(model, tmp_path):
    wrap(numbers(None), "gpt").save_pretrained(tmp_path / "model")
    new_model("gpt2", size(numbers(None))).save_pretrained(tmp_path / "model")
    wrap(numbers(r"\d"), "gpt").save_pretrained(tmp_path / "single")
    target = Target.of(Checkpoint.open(tmp_path / "model"), tmp_path / "single", digits="keep-base")
    assert [note for note in target.notes if "numbers" in note] == [
        "numbers are cut differently (model: free, up to 3 digits in a token; new tokenizer:"
        " single digits): free cuts have no rule"
    ]
