"""Vocabularies: reading a large one, what matching by bytes finds, and encoding in windows."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Result, main, pair
from tables import byte_level
from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.recipe import make
from tokenspace.tokenizer_comparison import raw_matches
from tokenspace.vocab import Vocabulary

PAIRS = (("ar-bpe-50k", "ar-unigram-50k", 10.0), ("de-bpe-50k", "de-unigram-30k", 1.1))


def canonical(count: int) -> Result:
    """Measure the way from the tokenizer to byte forms that can be looked up."""
    tokenizer = byte_level(count).tokenizer
    assert tokenizer is not None

    def forms() -> None:
        vocab = Vocabulary.of(tokenizer)
        vocab.find("the")

    return pair(
        f"byte forms of {count:,} tokens, from the tokenizer on",
        forms,
        None,
        peer_name="none",
        amount=count,
        unit="tokens/CPU-s",
        goal=None,
        note="target: 256,000 tokens in 1.5 s, 170,667 a second",
    )


def shared(first: str, second: str, goal: float) -> Result:
    """Count the tokens that have a partner of the same bytes, or of the same role."""
    work, unit = f"shared tokens of {first} and {second}", "tokens"
    if not (data.available(first) and data.available(second)):
        return Result(work, None, None, "raw strings", unit, None, goal, None, None, "data absent")
    a, b = (Vocabulary.load(data.find(name)) for name in (first, second))
    ours = sum(a.match(b, ("exact", "special")).counts.values())
    peer = raw_matches(a, b)["marked"]
    name = "raw strings, one mark for a word's start"
    return Result(work, ours, peer, name, unit, ours / peer, goal, None, None)


def windows(size: int) -> Result:
    """Measure what the windows of the saved tokenizer save on a long text."""
    texts = data.novels(12_000) if data.available("novels") else [t for _, t in data.manual()]
    text = "\n".join(texts)[:size]
    corpus = Corpus(texts[:2_000])
    cut, whole = (make("supertokens", vocab_size=4_096, window=w)(corpus) for w in (4_096, 0))
    return pair(
        f"encode {len(text):,} characters with supertokens",
        lambda: cut.encode(text),
        lambda: whole.encode(text),
        peer_name="the same without windows",
        amount=len(text),
        unit="characters/CPU-s",
        goal=1.0,
    )


def rows(quick: bool) -> Sequence[Result]:
    found = [canonical(64_000 if quick else 256_000)]
    found += [shared(*both) for both in PAIRS]
    return [*found, windows(100_000 if quick else 1_000_000)]


if __name__ == "__main__":
    main("vocabulary", rows, __doc__)
