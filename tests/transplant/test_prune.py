from __future__ import annotations

import numpy as np
import pytest
from test_shared import metaspace, suffixed, wordpiece
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from tokenspace.errors import InputError
from tokenspace.stdlib_text import documents
from tokenspace.transplant.prune import pruned
from tokenspace.vocab import Vocabulary

TEXTS = [doc.text[:400] for _, doc in zip(range(40), documents(), strict=False)]


def byte_bpe() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, show_progress=False, special_tokens=["<s>"]
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return Vocabulary.of(tokenizer)


def strings(vocab: Vocabulary, texts: list[str]) -> list[list[str]]:
    return [[vocab.tokens[i] for i in ids] for ids in vocab.encode_batch(texts)]


def test_the_text_is_split_as_before() -> None:
    vocab, some = byte_bpe(), TEXTS[:5]
    small = pruned(vocab, vocab.count(some))
    assert len(small) < len(vocab)
    assert strings(small, some) == strings(vocab, some)
    assert small.tokenizer is not None
    assert small.tokenizer.encode("été 漢").tokens[0] == "<s>"  # bytes and template are kept
    assert [t for t in vocab.tokens if t in small.ids] == list(small.tokens)  # in the old order


def test_by_hand() -> None:
    # "lowest" needs l o w e s t, lo, low, es and est; "new" and "er" are not used
    merges = [("l", "o"), ("lo", "w"), ("n", "e"), ("ne", "w"), ("e", "r"), ("e", "s"), ("es", "t")]
    merges += [("low", "est")]
    names = [*"lownerst", *("".join(m) for m in merges)]
    vocab = Vocabulary.of(Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, merges)))
    small = pruned(vocab, vocab.count(["lowest"]))
    assert list(small.tokens) == [*"lownerst", "lo", "low", "es", "est", "lowest"]
    assert strings(small, ["lowest", "newer"]) == [["lowest"], [*"newer"]]


def test_rare_tokens_go_with_min_count() -> None:
    vocab = byte_bpe()
    counts = vocab.count(TEXTS)
    sizes = [len(pruned(vocab, counts, min_count=least)) for least in (1, 5, 50)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(
    "vocab",
    [
        wordpiece(["cat", "c", "a", "t", "##a", "##t", "##s", "dog", "##ats"]),
        metaspace(["▁", "▁cat", "▁dog", "s", "c", "a", "t", "d", "o", "g"]),
        suffixed(
            ["c", "a", "t</w>", "s</w>", "ca", "cat</w>", "<unk>"], [("c", "a"), ("ca", "t</w>")]
        ),
    ],
    ids=["wordpiece", "unigram", "suffix"],
)
def test_other_kinds(vocab: Vocabulary) -> None:
    text = ["cat cats"] if vocab.kind != "bpe-suffix" else ["cat"]
    small = pruned(vocab, vocab.count(text))
    assert strings(small, text) == strings(vocab, text)
    assert "dog" not in small.ids
    assert "▁dog" not in small.ids
    assert set(vocab.roles) == set(small.roles)


def test_bad_input_is_refused() -> None:
    words = Vocabulary.words(["a"])
    with pytest.raises(InputError, match="word list"):
        pruned(words, np.ones(1, np.int64))
    vocab = byte_bpe()
    with pytest.raises(InputError, match="no token occurs 3 times"):
        pruned(vocab, vocab.count(["x"]), min_count=3)
