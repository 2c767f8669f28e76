"""Small networks that were never trained: a start for experiments, and a stand-in for trials."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenspace import rng
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.quiet import quiet
from tokenspace.tokenizer_training import BERT_SPECIALS, wordpieces

__all__ = ["fresh_encoder", "save_fresh"]

Kind = Literal["bert", "llama"]


def fresh_encoder(texts: Sequence[str], *, seed: int = 0, **shape: Any) -> ModelEncoder:
    """Open what :func:`save_fresh` writes; a text's vector is the mean of its tokens."""
    with tempfile.TemporaryDirectory() as folder:
        save_fresh(Path(folder) / "fresh", texts, seed=seed, **shape)
        return load_encoder(str(Path(folder) / "fresh"), device="cpu")


def save_fresh(
    path: Path,
    texts: Sequence[str],
    *,
    kind: Kind = "bert",
    vocab: int = 300,
    width: int = 16,
    layers: int = 2,
    heads: int = 2,
    longest: int = 64,
    head: bool = False,
    seed: int = 0,
) -> None:
    """Write a directory of transformers: a random network and a tokenizer learned from ``texts``.

    ``kind`` is an encoder (``bert``: WordPiece, [CLS] and [SEP]) or a decoder (``llama``: the same
    pieces, of which [SEP] ends a text). ``vocab`` pieces at most, ``layers`` of ``width`` and
    ``heads``, texts of up to ``longest`` tokens; ``head`` keeps the language model's head.
    """
    import transformers
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

    lowered = normalizers.BertNormalizer(lowercase=True)
    tokenizer = Tokenizer(wordpieces(texts, vocab, lowered))
    tokenizer.add_special_tokens(list(BERT_SPECIALS))
    tokenizer.normalizer = lowered
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = {token: tokenizer.token_to_id(token) for token in BERT_SPECIALS}
    template = "[CLS] $A [SEP]" if kind == "bert" else "$A [SEP]"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        pair=f"{template} $B [SEP]",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": longest,
        "pad_token_id": ids["[PAD]"],
        "bos_token_id": ids["[CLS]"],
        "eos_token_id": ids["[SEP]"],
    }
    tf: Any = transformers  # its classes carry few types
    named = {f"{token[1:-1].lower()}_token": token for token in BERT_SPECIALS}
    if kind == "llama":
        named["eos_token"] = "[SEP]"
    whole = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=longest, **named
    )
    with rng.torch_scope(seed, "fresh"), quiet():
        if kind == "bert":
            network = (tf.BertForMaskedLM if head else tf.BertModel)(tf.BertConfig(**shape))
        else:
            config = tf.LlamaConfig(**shape, num_key_value_heads=heads)
            network = (tf.LlamaForCausalLM if head else tf.LlamaModel)(config)
        network.save_pretrained(path)
        whole.save_pretrained(path)
