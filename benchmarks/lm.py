"""Training a decoder, ours against plain loops: python benchmarks/lm.py [--quick] [--record].

Both sides train the same ``LlamaForCausalLM`` on the same windows for the same number of steps, on
one thread: ours by the recipe's ``fit``, the peers by a hand-written PyTorch loop and by the
``Trainer`` of transformers.
"""

from __future__ import annotations

import copy
import tempfile

import numpy as np
import torch

from harness import Result, main, pair
from tokenspace import data
from tokenspace.lm.gpt import GPT
from tokenspace.nn.decoder import token_row
from tokenspace.nn.score import bits_per_byte
from tokenspace.tokenizer_training import byte_bpe

TEXTS = [text for _, text in data.manual()]


def plain_loop(network, ids, recipe: GPT, steps: int) -> None:
    """Train as a short script would: random windows, AdamW, clipping, a falling rate."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, betas=(0.9, 0.95))
    row = torch.from_numpy(np.array(ids, np.int64))
    network.train()
    for step in range(steps):
        places = torch.randint(len(row) - recipe.context, (recipe.batch,))
        batch = torch.stack([row[i : i + recipe.context] for i in places])
        loss = network(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()


def trainer_loop(network, ids, recipe: GPT, steps: int) -> None:
    """Train with transformers' Trainer on a list of windows."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    row = np.array(ids, np.int64)
    places = np.random.default_rng(0).integers(len(row) - recipe.context, size=steps * recipe.batch)
    windows = [
        {key: row[i : i + recipe.context] for key in ("input_ids", "labels")} for i in places
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=recipe.batch, use_cpu=True,
            learning_rate=recipe.lr, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model=network, args=arguments, train_dataset=windows)
        trainer.remove_callback(PrinterCallback)  # it would stand in what --json prints
        trainer.train()


def rows(quick: bool) -> list[Result]:
    """Return the lines of the table."""
    torch.set_num_threads(1)
    steps = 20 if quick else 60
    found = []
    for width, layers, size, context, batch in ((96, 2, 2048, 64, 8), (128, 4, 257, 64, 12)):
        recipe = GPT(
            width=width, layers=layers, heads=4, context=context, batch=batch, budget=str(steps)
        )
        vocab = byte_bpe(TEXTS, size, start="<s>")
        ids, first = token_row(TEXTS, vocab), recipe.network(vocab)

        def ours(recipe=recipe, first=first, ids=ids, vocab=vocab) -> None:
            recipe.fit(copy.deepcopy(first), ids, vocab)

        for name, loop in (("plain PyTorch loop", plain_loop), ("Trainer", trainer_loop)):

            def peer(loop=loop, recipe=recipe, first=first, ids=ids) -> None:
                loop(copy.deepcopy(first), ids, recipe, steps)

            found.append(
                pair(
                    f"train d={width}, {layers} layers, V={size}, {batch} x {context}",
                    ours, peer, peer_name=name, amount=steps * batch * context,
                    unit="tokens/CPU s", goal=1.0 if loop is plain_loop else 1.2,
                )
            )  # fmt: skip
    text = TEXTS[:20]
    bytes_scored = sum(len(t.encode()) for t in text)

    def ours_scored() -> None:
        bits_per_byte(first, vocab, text, stride=64)

    def token_by_text() -> None:
        with torch.inference_mode():
            for one in text:
                row = [vocab.roles["bos"], *vocab.encode(one)]
                for i in range(0, len(row) - 1, 64):
                    piece = torch.tensor([row[i : i + 65]])
                    first(piece, labels=piece)

    found.append(
        pair(
            "bits per byte, windows of 64", ours_scored, token_by_text,
            peer_name="a window at a time", amount=bytes_scored, unit="bytes/CPU s", goal=1.5,
        )
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main("lm", rows, __doc__)
