"""Train a small decoder on text: the plain model that others are measured by.

The idea
--------
A decoder reads tokens from left to right and predicts the next one. This one is of a stock
architecture (Llama's: RMSNorm before each part, rotary positions, SwiGLU, no biases, one matrix
for input and output), so the directory it is saved to loads in plain transformers, tokenizer
included. Everything is chosen for minutes on a few cores: a narrow model, short windows, a budget
in seconds or tokens, and a rate that has always come down when the budget ends.

Equations
---------
Text becomes one long row of tokens. A window is the start token and C of them from a random
place, x_1 ... x_C; for every t of a batch of windows, with h_t (d,) the last state at position t
and E (V, d) the embedding::

    p(x_t | x_<t) = softmax(E h_(t-1))[x_t]
    loss          = -mean_t ln p(x_t | x_<t)
    bpb           = Σ_t -log2 p(x_t | x_<t) / (bytes of the text in UTF-8)

AdamW (0.9, 0.95), weight decay 0.1 on matrices, gradients clipped to norm 1. With p the part of
the budget that is spent, the rate is  lr · min(step / W, 1 - p), W = 2 % of the steps, at most 100
(20 steps where the budget is one of time). Weights start as N(0, 0.02²), those that write to the
residual stream as N(0, 0.02² / 2L). The width within a SwiGLU is 8d/3, rounded up to a multiple of
8.

The text is cut into blocks of about 2,000 bytes (a hundredth of a shorter text). Of each of up to
ten equal stretches the last twentieth is held out (at most 20,000 bytes each) and scored at the
end, window by window with half a window's overlap; the interval is a bootstrap over these blocks.

Departures from the paper
-------------------------
GPT-2 has learned positions, LayerNorm with biases and GELU; here is what succeeded them. nanoGPT
never shows its model the start of a text at small scale; here every window starts with the start
token, so that a text's first token has a probability. No dropout: at this scale a budget is spent
long before the text is learned by heart.

Cost
----
6 (12 L d² + V d) + 6 L C d floating-point operations a token, and C · batch · V floats for the
logits. One core trains some ten thousand tokens a second of d = 96, two layers, V = 2,048.
bfloat16 is used where the machine has instructions for it, which many CPUs have not.

When not to use it
------------------
For anything that wants to know what the text is about: a million tokens teach spelling, function
words and a little grammar. For that, take a pretrained model and give it your tokenizer
(the family transplant). It is made to be a baseline, and the subject of quick experiments.

Reference
---------
Radford, Wu, Child, Luan, Amodei and Sutskever, "Language Models are Unsupervised Multitask
Learners", 2019; the architecture: Touvron et al., "LLaMA: Open and Efficient Foundation Language
Models", 2023, arXiv:2302.13971; the scale and its anchor: A. Karpathy's nanoGPT.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, InputError
from tokenspace.lm.causal import CausalModel
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.tokenizer_training import byte_bpe
from tokenspace.vocab import Vocabulary

__all__ = ["GPT"]

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(s|ktok|Mtok|)")
_START = "<|endoftext|>"
_BLOCK = 2000  # bytes of a block of text, the unit of the bootstrap


class Budget(NamedTuple):
    """How long to train: at most this many steps, and this many seconds."""

    steps: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class GPT(Recipe):
    """Train a small decoder on text: the plain model that others are measured by."""

    width: Annotated[int, Range(4, 4096), "width d of the states, a multiple of heads"] = 128
    layers: Annotated[int, Range(1, 64), "blocks"] = 4
    heads: Annotated[int, Range(1, 64), "heads of attention; d / heads must be even"] = 4
    context: Annotated[int, Range(2, 8192), "tokens C in a window"] = 128
    vocab_size: Annotated[
        int, Range(257, 2**17), "tokens of the byte-level BPE that is learned without a tokenizer"
    ] = 2048
    batch: Annotated[int, Range(1, 4096), "windows in a step"] = 16
    lr: Annotated[float, Range(1e-6, 1.0), "highest learning rate"] = 2e-3
    budget: Annotated[str, "how long: 120s, 500ktok, 2Mtok, or a number of steps"] = "120s"
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of weights and windows"] = 0
    threads: Annotated[int, Range(0, 1024), "threads; 0: as many as torch takes by itself"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {
        "width": 16,
        "layers": 1,
        "heads": 2,
        "context": 16,
        "vocab_size": 300,
        "batch": 4,
        "budget": "20",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads or self.width // self.heads % 2:
            raise ConfigError(
                f"gpt: width={self.width} does not give {self.heads} heads of an even width",
                hint=f"choose a width that {2 * self.heads} divides",
            )
        self.read_budget()

    def read_budget(self) -> Budget:
        """Return the budget in steps and seconds; :class:`ConfigError` where it is neither."""
        found = _BUDGET.fullmatch(self.budget.strip())
        if found is None or not float(found[1]):
            raise ConfigError(
                f"gpt: budget={self.budget!r} is not a number of seconds, tokens or steps",
                hint="write 120s, 500ktok, 2Mtok, or 2000 for steps",
            )
        amount, unit = float(found[1]), found[2]
        if unit == "s":
            return Budget(sys.maxsize, amount)
        tokens = {"ktok": 1e3, "Mtok": 1e6, "": self.batch * self.context}[unit]
        return Budget(max(1, round(amount * tokens / (self.batch * self.context))), None)

    def __call__(self, corpus: Corpus, /, *, tokenizer: Vocabulary | None = None) -> CausalModel:
        """Return a decoder trained on ``corpus``, with figures of it on the text held out.

        ``tokenizer`` splits the text; its start token is its bos, eos or cls. Without one, a
        byte-level BPE of ``vocab_size`` tokens is learned from the text that is not held out.

        ``metrics``: ``bits_per_byte`` with its 95 % interval (``_low``, ``_high``) and
        ``tokens_per_byte`` of the held-out text, ``loss`` of the last steps in nats a token,
        ``steps``, ``tokens`` seen, and ``tokens_per_second``.

        Raises :class:`InputError` where there is too little text, or the tokenizer has no way to
        split it.
        """
        from tokenspace.nn.decoder import on_threads, token_row
        from tokenspace.nn.score import bits_per_byte

        if tokenizer is not None and tokenizer.tokenizer is None:
            raise InputError(
                "gpt: the tokenizer is a list of words, which cannot split text",
                hint="give a tokenizer.json, or leave it out to have one learned",
            )
        held = _Split(corpus)
        vocab = tokenizer or byte_bpe(held.kept(), self.vocab_size, start=_START)
        with on_threads(self.threads):
            ids = token_row(held.kept(), vocab)
            if len(ids) < self.context:
                raise InputError(
                    f"gpt: {len(ids)} tokens do not fill a window of {self.context}",
                    hint="give more text, or a smaller context",
                )
            network = self.network(vocab)
            metrics = self.fit(network, ids, vocab)
            score = bits_per_byte(network, vocab, list(held.out()), context=self.context)
        low, high = score.interval()
        metrics = {
            "bits_per_byte": score.bits_per_byte,
            "bits_per_byte_low": low,
            "bits_per_byte_high": high,
            "tokens_per_byte": score.tokens_per_byte,
            **metrics,
        }
        return CausalModel(network.eval(), vocab, metrics)

    def network(self, vocab: Vocabulary) -> Any:
        """Build the decoder with its first weights."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        roles: dict[str, Any] = {f"{r}_token_id": vocab.roles.get(r) for r in ("bos", "eos", "pad")}
        config = LlamaConfig(
            vocab_size=len(vocab),
            hidden_size=self.width,
            intermediate_size=-(-8 * self.width // 24) * 8,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=self.context,
            initializer_range=0.02,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            **roles,
        )
        with rng.torch_scope(self.seed, "weights"), torch.no_grad():
            network = LlamaForCausalLM(config)
            for name, weight in network.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.div_((2 * self.layers) ** 0.5)
        return network

    def fit(self, network: Any, ids: npt.NDArray[Any], vocab: Vocabulary) -> dict[str, float]:
        """Train ``network`` in place on windows of ``ids``; return figures of the run."""
        from tokenspace.nn.decoder import next_token_loss, quicker_in_bf16, windows
        from tokenspace.nn.score import start_token
        from tokenspace.nn.train import steps

        total, seconds = self.read_budget()
        ticks = steps(
            network,
            next_token_loss(bf16=quicker_in_bf16()),
            windows(ids, start_token(vocab), self.context, self.batch, seed=self.seed),
            lr=self.lr,
            total=total,
            warmup=min(20 if seconds else 100, total // 50),
            weight_decay=0.1,
            betas=(0.9, 0.95),
            seconds=seconds,
            seed=self.seed,
        )
        last: list[float] = []
        count = None if seconds else total
        for tick in track(ticks, "train", total=count):
            last = [*last[-99:], tick.loss]
        tokens = tick.step * self.batch * self.context
        return {
            "loss": float(np.mean(last)),
            "steps": tick.step,
            "tokens": tokens,
            "tokens_per_second": tokens / max(tick.seconds, 1e-9),
        }


class _Split:
    """The blocks of a corpus: those to learn from, and those held out."""

    def __init__(self, corpus: Corpus) -> None:
        from tokenspace.nn.score import blocks

        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in corpus)
        block = min(_BLOCK, max(1, size // 100))
        self._blocks: Callable[[], Iterator[str]] = lambda: blocks(corpus, block)
        count = sum(1 for _ in self._blocks())
        if count < 4:
            raise InputError(
                f"gpt: the corpus has {size} bytes, too few to learn from and to hold out",
                hint="give at least some thousand bytes of text",
            )
        self.stretch = -(-count // min(10, max(1, count // 20)))
        self.last = min(10, max(1, self.stretch // 20))

    def _held(self, index: int) -> bool:
        return index % self.stretch >= self.stretch - self.last

    def kept(self) -> Iterator[str]:
        """Yield the blocks to learn from."""
        return (b for i, b in enumerate(self._blocks()) if not self._held(i))

    def out(self) -> Iterator[str]:
        """Yield the blocks that are held out."""
        return (b for i, b in enumerate(self._blocks()) if self._held(i))
