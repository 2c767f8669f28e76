"""Tiny models of many architectures with their tokenizers, as plain transformers makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WORDS = ["the", "quick", "brown", "fox", "cat", "sat", "on", "mat", "naive", "hat"]
DECODER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SHAPE = {"hidden_size": 16, "max_position_embeddings": 200, **DECODER}
ROLES = {
    "gpt": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "t5": {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
    "bert": {f"{r}_token": f"[{r.upper()}]" for r in ("pad", "unk", "cls", "sep", "mask")},
    "roberta": {
        **{"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"},
        **{"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"},
    },
}


def byte_bpe(first: list[str], pieces: list[str], post: object | None = None) -> Tokenizer:
    """A byte-level BPE: special tokens, the 256 bytes, and words with their merges."""
    tokens = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for piece in pieces:
        word = "Ġ" + piece
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(first)
    if post is not None:
        tokenizer.post_processor = post
    return tokenizer


def make_tokenizer(kind: str) -> Tokenizer:
    template = processors.TemplateProcessing
    if kind == "gpt":
        return byte_bpe(["<|endoftext|>"], WORDS[:6])
    if kind == "llama":
        post = template(single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 1)])
        return byte_bpe(["<unk>", "<s>", "</s>"], WORDS[2:], post)
    if kind == "t5":
        post = template(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
        return byte_bpe(["<pad>", "</s>", "<unk>"], WORDS[1:7], post)
    if kind == "roberta":
        post = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        return byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], WORDS[4:], post)
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*first, *WORDS, *"abcdefghijklmnopqrstuvwxyz", "##s", "##e", "##a"]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(first)
    tokenizer.post_processor = template(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def wrap(tokenizer: Tokenizer, kind: str, **settings: object) -> tf.PreTrainedTokenizerFast:
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ROLES[kind], **settings)


def size(tokenizer: Tokenizer) -> int:
    return max(tokenizer.get_vocab().values()) + 1


def _bart(rows: int) -> tf.PreTrainedModel:
    both = {f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in _SIDE.items()}
    config = tf.BartConfig(
        vocab_size=rows,
        d_model=16,
        max_position_embeddings=200,
        forced_eos_token_id=2,
        **both,
    )
    return tf.BartForConditionalGeneration(config)


_SIDE = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 200}
_DISTIL = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
KINDS: dict[str, tuple[str, int, Callable[[int], tf.PreTrainedModel]]] = {
    "gpt2": (
        "gpt",
        0,
        lambda v: tf.GPT2LMHeadModel(
            tf.GPT2Config(vocab_size=v, bos_token_id=0, eos_token_id=0, **_GPT)
        ),
    ),
    "llama": (
        "llama",
        0,
        lambda v: tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=v, **SHAPE)),
    ),
    "bert": ("bert", 0, lambda v: tf.BertForMaskedLM(tf.BertConfig(vocab_size=v, **SHAPE))),
    "roberta": (
        "roberta",
        0,
        lambda v: tf.RobertaForMaskedLM(tf.RobertaConfig(vocab_size=v, type_vocab_size=1, **SHAPE)),
    ),
    "t5": (
        "t5",
        4,
        lambda v: tf.T5ForConditionalGeneration(
            tf.T5Config(vocab_size=v, decoder_start_token_id=0, **_T5)
        ),
    ),
    "bart": ("roberta", 0, _bart),
    "neox": (
        "gpt",
        6,
        lambda v: tf.GPTNeoXForCausalLM(
            tf.GPTNeoXConfig(vocab_size=v, bos_token_id=0, eos_token_id=0, **SHAPE)
        ),
    ),
    "distilbert": (
        "bert",
        0,
        lambda v: tf.DistilBertForMaskedLM(
            tf.DistilBertConfig(vocab_size=v, max_position_embeddings=200, **_DISTIL)
        ),
    ),
}


def new_model(name: str, rows: int | None = None) -> tf.PreTrainedModel:
    kind, padding, make = KINDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = make(rows or size(make_tokenizer(kind)) + padding).eval()
        for key, values in model.named_parameters():
            if key.endswith("bias"):  # zero by default, which would hide a lost one
                torch.nn.init.normal_(values, std=0.1)
        for key, values in model.named_buffers():
            if key == "final_logits_bias":
                values.normal_(std=0.1)
    return model


def content(folder: Path) -> dict[str, bytes]:
    """All files of a directory."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def same_rows(vectors: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """What the simplest method makes: a copy for shared tokens, the mean for the rest."""
    rows = np.repeat(vectors.mean(axis=0, keepdims=True), len(partners), axis=0)
    rows[partners >= 0] = vectors[partners[partners >= 0]]
    return rows
