from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import ConfigError
from tokenspace.surface import CHARACTERS
from tokenspace.tokenize.supertokens import END, Supertokens, chunks, pieces
from tokenspace.vocab import Vocabulary

SEPARATOR = "\ue000"


def cut(texts: list[str], lengths: str, seed: int = 0) -> list[str]:
    return list(chunks(texts, *Supertokens(lengths=lengths).distribution(), seed=seed))


def reference(texts: list[str], size: int, seed: int) -> Tokenizer:
    """Train as the reference does: a separator in the text, which a splitting pattern removes."""
    lengths = Supertokens().distribution()
    marked = [SEPARATOR.join(chunks([text], *lengths, seed=seed)) for text in texts]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{SEPARATOR}|(.)\1{{6}}"), "removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.train_from_iterator(
        marked,
        trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            max_token_length=30,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[END],
            show_progress=False,
        ),
    )
    return tokenizer


def test_by_hand() -> None:
    # Every chunk has four letters, so the two texts of eight give "abab" four times. The most
    # frequent pair is (a, b), 8 times; then (ab, ab), 4 times; then every chunk is one token.
    assert cut(["abababab"] * 2, "4-4:1") == ["abab"] * 4
    vocab = Supertokens(lengths="4-4:1", vocab_size=300)(Corpus(["abababab"] * 2))
    assert vocab.tokens[257:] == ("ab", "abab")
    assert set(vocab.tokens[1:257]) == set(CHARACTERS)
    assert vocab.encode("ababab") == [258, 257]
    assert vocab.specials == {0: "bos"}
    assert vocab.roles["eos"] == 0


def test_runs_of_seven_are_cut_out() -> None:
    assert list(pieces(["ab" + "-" * 8 + "c", "=" * 7, "x" * 6])) == ["ab", "-c", "x" * 6]
    assert list(pieces(["-" * 14 + "y" * 7 + "z"])) == ["z"]


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_reference_that_marks_borders_in_the_text(seed: int) -> None:
    # one text, since the reference's stream of lengths is drawn anew for every text here
    texts = [" ".join(zipf_text(400, 80, 4, seed=seed)) + " --------- e\u0301t\u00e9 \u00e9"]
    ours = Supertokens(vocab_size=900, seed=seed)(Corpus(texts))
    theirs = reference(texts, 900, seed)
    assert ours.tokenizer is not None
    assert ours.tokenizer.get_vocab() == theirs.get_vocab()
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.decoder = decoders.ByteLevel()
    assert ours.encode(texts[0][:3000]) == theirs.encode(texts[0][:3000]).ids


def literal_bpe(parts: list[str], merges: int, longest: int) -> list[bytes]:
    """Merge the most frequent pair again and again, and return the merged tokens in order.

    A tie goes to the pair with the lower ids, as in the trainer.
    """
    alphabet = [bytes([b]) for b in sorted(range(256), key=lambda b: ord(CHARACTERS[b]))]
    ids = {form: index for index, form in enumerate(alphabet)}
    words = [[bytes([b]) for b in part.encode()] for part in parts]
    for _ in range(merges):
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in pairwise(word):
                if len(pair[0] + pair[1]) <= longest:
                    counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda p: (counts[p], -ids[p[0]], -ids[p[1]]), default=None)
        if best is None or counts[best] < 2:
            break
        joined = best[0] + best[1]
        ids.setdefault(joined, len(ids))
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [joined]
                i += 1
    return list(ids)[256:]


def test_equals_the_literal_algorithm() -> None:
    recipe = Supertokens(vocab_size=257 + 40, max_length=9, seed=3)
    texts = zipf_text(60, 40, 2)
    parts = list(pieces(chunks(texts, *recipe.distribution(), seed=3)))
    assert list(recipe(Corpus(texts)).surfaces[257:]) == literal_bpe(parts, 40, 9)


def test_lengths_follow_the_distribution() -> None:
    lengths, probabilities = Supertokens().distribution()
    assert lengths.tolist() == list(range(4, 24))
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[:2].sum() == pytest.approx(0.04)  # the paper's .044, of a sum of 1.1
    found = np.array([len(part) for part in cut(["x" * 2_000_000], Supertokens().lengths)][:-1])
    shares = np.bincount(found, minlength=24)[4:] / len(found)
    np.testing.assert_allclose(shares, probabilities, atol=4e-3)


@given(st.lists(st.text(max_size=60), max_size=6), st.integers(0, 9))
def test_chunks_joined_are_the_texts(texts: list[str], seed: int) -> None:
    parts = cut(texts, "1-2:1 5-9:3", seed)
    assert "".join(parts) == "".join(texts)
    assert all(1 <= len(part) <= 9 for part in parts)


def test_tokens_span_words_unless_chunks_are_shorter() -> None:
    texts = ["of the law and of the land, one of the most and all of the rest"] * 30
    vocab = Supertokens(vocab_size=400)(Corpus(texts))
    assert any(form.strip().count(b" ") for form in vocab.surfaces)
    short = Supertokens(vocab_size=400, lengths="1-2:1")(Corpus(texts))
    assert max(map(len, short.surfaces[1:])) == 2


def test_no_token_is_longer_than_allowed() -> None:
    texts = ["the very same sentence again and again"] * 50
    for longest in (2, 7):
        vocab = Supertokens(vocab_size=500, max_length=longest)(Corpus(texts))
        assert longest - 1 <= max(map(len, vocab.surfaces[1:])) <= longest


def test_windows_end_at_lines_then_at_spaces() -> None:
    texts = zipf_text(200, 60, 4)
    whole = Supertokens(vocab_size=600, window=0)(Corpus(texts))
    cut_up = Supertokens(vocab_size=600, window=50)(Corpus(texts))
    assert whole.tokens == cut_up.tokens
    line = "a short line that is nearly full\n"
    assert cut_up.encode(line * 9) == whole.encode(line) * 9
    assert cut_up.encode(texts[0][:50]) == whole.encode(texts[0][:50])
    long = " ".join(texts[:20])
    borders = [window.rstrip(" ") for window in re.findall(r".{1,50}(?= |$)", long)]
    assert sum(map(len, borders)) == len(long)  # nothing is left out
    assert cut_up.encode(long) == [i for window in borders for i in whole.encode(window)]
    shuffled = "".join(random.Random(0).choices("abcde", k=1000))  # neither lines nor spaces
    assert b"".join(map(cut_up.surface, cut_up.encode(shuffled))) == shuffled.encode()


@pytest.mark.parametrize(
    "lengths",
    ["", "4-5", "5-4:1", "0-3:1", "4-5:0", "4-5:-1", "4-5:x", "4-5:1,6-7:1", "4-5:nan", "4-5:."],
)
def test_bad_lengths_are_refused_with_an_example(lengths: str) -> None:
    with pytest.raises(ConfigError, match="lengths") as caught:
        Supertokens(lengths=lengths)
    assert "4-9:1" in str(caught.value.hint)


def test_fewer_tokens_where_nothing_repeats() -> None:
    vocab = Supertokens(vocab_size=5000)(Corpus(["abcdefgh"]))
    assert len(vocab) == 257
    assert isinstance(vocab, Vocabulary)
