"""The study's language model: a small decoder whose input table is the compressed layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.claims._decoders import english_text
from tokenspace.lm.gpt import GPT
from tokenspace.nn.compressed import LookupEmbedding
from tokenspace.nn.decoder import next_token_loss, on_threads, token_row, windows
from tokenspace.nn.embedding import CompressedEmbedding, FullEmbedding
from tokenspace.nn.score import bits_per_byte, start_token
from tokenspace.nn.train import steps
from tokenspace.recipe import Recipe
from tokenspace.tokenizer_training import byte_bpe
from tokenspace.vocab import Vocabulary

__all__ = ["Task"]

INIT_STD, SEARCH_LR = 0.02, 1e-3
MODEL = GPT(width=64, layers=1, heads=4, context=64, batch=16, lr=3e-3, budget="400", threads=1)
TOKENS, HELD_OUT = 4096, 40  # tokens; blocks of 2,000 bytes


@dataclass(frozen=True, eq=False)
class Task:
    """English novels: tokens to learn from, texts that are held out, and how often a token is."""

    vocab: Vocabulary
    ids: Any
    validation: tuple[str, ...]
    held_out: tuple[str, ...]
    counts: Any
    seed: int

    @classmethod
    def of(cls, seed: int) -> Task:
        """Return the task; the novels go round with the seed."""
        text, unread = english_text(seed)
        vocab = byte_bpe(iter(text), TOKENS, start="<|endoftext|>")
        ids, counts = token_row(iter(text), vocab), vocab.count(text)
        return cls(vocab, ids, unread[HELD_OUT:], unread[:HELD_OUT], counts, seed)

    def train(self, method: Recipe | None) -> dict[str, float]:
        """Train a decoder on the layer of a method, and measure it with the exported table.

        ``bits_per_byte`` of the held-out text, with its 95 % interval, and the table's ``ratio``.
        """
        recipe = replace(MODEL, seed=self.seed)
        size, width = len(self.vocab), recipe.width
        if method is None:
            layer: CompressedEmbedding = FullEmbedding(
                size, width, init_std=INIT_STD, seed=self.seed
            )
        else:
            layer = method.embedding(  # type: ignore[attr-defined]
                size, width, counts=self.counts, init_std=INIT_STD, seed=self.seed
            )
        with on_threads(recipe.threads):
            network = recipe.network(self.vocab)
            network.lm_head.weight = nn.Parameter(network.lm_head.weight.detach().clone())
            while True:
                self._stage(network, layer, recipe)
                following = layer.settled(lambda found: -self._bits(network, found))
                if following is None:
                    break
                layer = following
            table = layer.export()
            network.set_input_embeddings(LookupEmbedding(table))
            score = bits_per_byte(network, self.vocab, self.held_out, context=recipe.context)
        low, high = score.interval()
        return {
            "bits_per_byte": score.bits_per_byte,
            "bits_per_byte_low": low,
            "bits_per_byte_high": high,
            "ratio": table.nbytes / (4 * size * width),
        }

    def _stage(self, network: Any, layer: CompressedEmbedding, recipe: GPT) -> None:
        network.set_input_embeddings(layer)
        total, _ = recipe.read_budget()
        start = start_token(self.vocab)
        plain = next_token_loss()

        def loss(module: nn.Module, batch: Tensor) -> Tensor:
            return plain(module, batch) + layer.penalty()

        searched = list(layer.searched())
        held = {id(parameter) for parameter in searched}
        still = {name for name, parameter in network.named_parameters() if id(parameter) in held}
        descent = torch.optim.SGD(searched, lr=SEARCH_LR) if searched else None
        held_out = windows(
            token_row(iter(self.validation), self.vocab), start, recipe.context, recipe.batch,
            seed=rng.derive(self.seed, "search"),
        )  # fmt: skip
        batches = windows(self.ids, start, recipe.context, recipe.batch, seed=self.seed)
        for tick in steps(
            network, loss, batches, lr=recipe.lr, total=total, warmup=total // 50,
            weight_decay=0.1, betas=(0.9, 0.95), seed=self.seed,
            slower=lambda name: float(name not in still),
        ):  # fmt: skip
            if descent is not None:
                torch.autograd.backward(loss(network, next(held_out)), inputs=searched)
                descent.step()
                descent.zero_grad()
            layer.after_step(tick.step, total)

    def _bits(self, network: Any, layer: CompressedEmbedding) -> float:
        """Return the bits per byte of the validation text with another layer in the place."""
        before = network.get_input_embeddings()
        network.set_input_embeddings(layer)
        score = bits_per_byte(network, self.vocab, self.validation[:5], context=MODEL.context)
        network.set_input_embeddings(before)
        return score.bits_per_byte
