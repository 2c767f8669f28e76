"""Learn a tokenizer from text: byte-level BPE, Unigram and WordPiece, by the tokenizers library.

Byte-level BPE and WordPiece are the same every time. In Unigram the library breaks ties at random,
so that two runs on one text differ in a few tokens and in the order of ids: keep what was learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .errors import ConfigError
from .vocab import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import Normalizer

__all__ = ["BERT_SPECIALS", "byte_bpe", "unigram", "wordpiece", "wordpieces"]

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def byte_bpe(
    texts: Iterable[str], size: int, *, lower: bool = False, start: str | None = None
) -> Vocabulary:
    """Learn a byte-level BPE of at most ``size`` tokens, which spells any text.

    Sennrich, Haddow and Birch (2016, arXiv:1508.07909), on bytes. ``lower`` folds case and puts a
    space before every text, so that a word is the same token wherever it stands. ``start`` is a
    special token with the roles bos and eos; as in GPT-2, where it opens every text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    _check(size, 256 + (start is not None))
    tokenizer = Tokenizer(models.BPE())
    if lower:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=lower)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[] if start is None else [start],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if start is None:
        return Vocabulary.of(tokenizer)
    _open_with(tokenizer, start)
    return Vocabulary.of(tokenizer, roles={"bos": start, "eos": start})


def unigram(texts: Iterable[str], size: int) -> Vocabulary:
    """Learn a Unigram vocabulary of at most ``size`` tokens, with ``<s>``, ``</s>``, ``<unk>``.

    Kudo (2018, arXiv:1804.10959), in SentencePiece's spelling. Characters that ``texts`` do not
    have become ``<unk>``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    _check(size, 4)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    _open_with(tokenizer, "<s>")
    return Vocabulary.of(tokenizer, roles={"bos": "<s>", "eos": "</s>", "unk": "<unk>"})


def wordpiece(texts: Sequence[str], size: int) -> Vocabulary:
    """Learn a WordPiece vocabulary of at most ``size`` tokens, cased, with BERT's special tokens.

    Schuster and Nakajima (2012), by way of BPE merges as in the tokenizers library.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors

    _check(size, len(BERT_SPECIALS) + 1)
    tokenizer = Tokenizer(wordpieces(texts, size))
    tokenizer.add_special_tokens(list(BERT_SPECIALS))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    roles = zip(("pad", "unk", "cls", "sep", "mask"), BERT_SPECIALS, strict=True)
    return Vocabulary.of(tokenizer, roles=dict(roles))


def wordpieces(texts: Sequence[str], size: int, normalizer: Normalizer | None = None) -> WordPiece:
    """Learn the model of a WordPiece of at most ``size`` tokens, BERT's special tokens first.

    The library numbers the letters inside words as it meets them in a table of random order, and
    merges of one frequency by these numbers. So the letters are learned first, and then given in
    order as if they were special; the model does not keep that they were.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def learned(size: int, first: Sequence[str]) -> dict[str, int]:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=list(first), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        found: dict[str, int] = tokenizer.get_vocab()
        return found

    letters = sorted(
        piece for piece in learned(0, ()) if piece.startswith("##") and len(piece) == 3
    )
    return models.WordPiece(vocab=learned(size, (*BERT_SPECIALS, *letters)), unk_token="[UNK]")


def _check(size: int, least: int) -> None:
    if size < least:
        raise ConfigError(f"vocab_size={size} is outside [{least}, inf]")


def _open_with(tokenizer: Tokenizer, start: str) -> None:
    """Let the tokenizer put ``start`` before a text where special tokens are asked for."""
    from tokenizers import processors

    index = tokenizer.token_to_id(start)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, index)]
    )
