"""RetroMAE and DupMAE pre-training against pretense, and hiding words against the usual loops.

pretense lives in an environment of its own (``make peers``). Both sides start from one directory, a
BERT of random weights, and read the same texts; a step is a batch made of token ids (by pretense,
of text), forward, backward and AdamW, dropout on, float32 and one thread. Before that the same
batch goes through both without dropout, and the losses are compared. pretense's decoder looks at
bare rows of words, without positions and norm; for that comparison it is given those.

The loops are those of the authors' collator as it is published: word by word, in Python, for every
one of up to 256 sets of hidden words a text. Rates are per CPU second.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import ChildPeer, Result, main, pair
from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.encode import dupmae_net as net
from tokenspace.encode.dupmae import NONE, DupMAE, Special, tokenized
from tokenspace.io import save_tensors
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import save_fresh
from tokenspace.nn.sentence import copied

PEER = "pretense 0.1.1"
SCRIPT = """
import itertools, json, torch
from safetensors.torch import load_file
from transformers import AutoTokenizer
from pretense.config import MethodConfig
from pretense.data import build_collator
from pretense.modeling import load_pretraining_model

torch.set_num_threads(1)
torch.manual_seed(0)
method = MethodConfig(name=form)
tokenizer = AutoTokenizer.from_pretrained(folder + "/bert")
model = load_pretraining_model(method, folder + "/bert")
collate = build_collator(tokenizer, method, max_seq_length=longest)
lines = open(folder + "/texts", encoding="utf-8").read().split("\\n")
batches = itertools.cycle([lines[i : i + batch] for i in range(0, len(lines) - batch + 1, batch)])

given = load_file(folder + "/batch.safetensors")
state = {k[8:]: v for k, v in given.items() if k.startswith("decoder.")}
adapter, usual = model.adapter, type(model.adapter).token_embeddings
type(adapter).token_embeddings = lambda self, whole, ids: whole.bert.embeddings(ids)
model.decoder[0].load_state_dict(state)
with torch.no_grad():
    model.position_embeddings.weight.copy_(model.encoder.bert.embeddings.position_embeddings.weight)
    model.eval()
    clean, own = given["clean"], given["own"].bool()
    named = {"bag_word_weight": given["bag"]} if form == "dupmae" else {}
    out = model(
        encoder_input_ids=given["given"], encoder_attention_mask=given["mask"],
        encoder_labels=given["labels"], decoder_input_ids=clean,
        decoder_attention_mask=~given["visible"].bool(),
        decoder_labels=clean.masked_fill(~own, -100), **named)
names = ("encoder_mlm_loss", "decoder_mlm_loss", "bow_loss")
losses = {n: float(getattr(out, n)) for n in names if getattr(out, n) is not None}
json.dump(losses, open(folder + "/losses.json", "w"))
type(adapter).token_embeddings = usual

model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

def work():
    for texts in itertools.islice(batches, steps):
        model(**collate([{"text": text} for text in texts])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

done = lambda result: None
"""


def rows(quick: bool) -> list[Result]:
    """Measure the collator, and a step of either form."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # of both, since the peer inherits it
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        shape = (2000, 128, 2, 32, 32, 5) if quick else (30_000, 256, 4, 128, 16, 1)
        vocab, width, layers, longest, batch, steps = shape
        texts = _texts(longest)
        (Path(folder) / "texts").write_text("\n".join(texts), encoding="utf-8")
        save_fresh(
            Path(folder) / "bert", texts, vocab=vocab, width=width, layers=layers, heads=4,
            longest=longest, head=True,
        )  # fmt: skip
        results.append(_collator(folder, texts, longest))
        for form in ("retromae", "dupmae"):
            results.append(_step(folder, texts, form, longest, batch, steps))
    return results


def _texts(longest: int) -> list[str]:
    """Return running text in pieces that fill ``longest`` tokens or nearly."""
    words = " ".join(data.retrieval("cran").docs + data.retrieval("med").docs).split()
    size = longest * 3 // 4
    return [" ".join(words[i : i + size]) for i in range(0, len(words) - size, size)]


class _Side:
    """Our side of a form: the module, its tokens and its batches."""

    def __init__(self, folder: str, texts: list[str], form: str, longest: int, batch: int) -> None:
        encoder = load_encoder(str(Path(folder) / "bert"), device="cpu")
        self.recipe = DupMAE(form=form, longest=longest, batch=batch)  # type: ignore[arg-type]
        made = copied(encoder)
        network, self.special = net.checked(made)
        self.tokens, _ = tokenized(Corpus(texts), net.plain_tokenizer(made), longest)
        self.module = net.started(network, self.recipe, longest, encoder)
        self.vocab = made.tokenizer.convert_ids_to_tokens(list(range(self.special.size)))

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        for made in self.recipe.batches(self.tokens, self.special):
            yield {name: torch.from_numpy(array) for name, array in made.items()}


def _step(folder: str, texts: list[str], form: str, longest: int, batch: int, steps: int) -> Result:
    side = _Side(folder, texts, form, longest, batch)
    ours = _losses(folder, side)
    batches = side.batches()
    module = side.module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        for made in islice(batches, steps):
            loss, _ = module(made)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    values: dict[str, object] = {
        "folder": folder, "form": form, "longest": longest, "batch": batch, "steps": steps,
    }  # fmt: skip
    with ChildPeer("pretense", SCRIPT, values) as peer:
        note = peer.note
        if peer.run is not None:
            theirs = json.loads((Path(folder) / "losses.json").read_text(encoding="utf-8"))
            apart = [abs(a - b) for a, b in zip(ours, theirs.values(), strict=True)]
            note = f"losses differ by {max(apart):.0e}"
        return pair(
            f"{form}: {batch} texts of {longest} tokens, {side.special.size} words",
            run,
            peer.run,
            peer_name=PEER,
            amount=steps,
            unit="steps/CPU s",
            goal=1 / 0.7,
            note=note,
        )


def _losses(folder: str, side: _Side) -> list[float]:
    """Write a batch and our decoder for the peer; return our losses that it can have as well.

    The queries are those of the first form on both sides: pretense has no others.
    """
    made, module = next(side.batches()), side.module.eval()
    weights = {name: part.detach().numpy() for name, part in module.decoder.state_dict().items()}  # type: ignore[union-attr]
    attention = [weights[f"{kind}.weight"] for kind in ("query", "key", "value")]
    biases = [weights[f"{kind}.bias"] for kind in ("query", "key", "value")]
    named = {
        "attention.in_proj_weight": np.concatenate(attention),
        "attention.in_proj_bias": np.concatenate(biases),
    }
    places = {"out": "attention.out_proj", "norm": "attention_norm", "norm2": "output_norm"}
    for ours, theirs in {**places, "up": "ffn.0", "down": "ffn.3"}.items():
        for part in ("weight", "bias"):
            named[f"{theirs}.{part}"] = weights[f"{ours}.{part}"]
    bag = torch.zeros(len(made["clean"]), side.special.size)
    bag.scatter_add_(1, made["clean"], made["weights"])
    batch = {name: part.numpy() for name, part in {**made, "bag": bag}.items()}
    batch |= {name: batch[name].astype(np.int64) for name in ("mask", "own", "visible")}
    save_tensors(
        Path(folder) / "batch.safetensors",
        {**batch, **{f"decoder.{name}": part for name, part in named.items()}},
    )
    form, module.form = module.form, "retromae"
    with torch.no_grad():
        _, parts = module(made)
        module.form = form
        bow = [float(module(made)[1].bow)] if form == "dupmae" else []
    return [float(parts.mlm), float(parts.decoder), *bow]


def _collator(folder: str, texts: list[str], longest: int) -> Result:
    side = _Side(folder, texts, "retromae", longest, 32)
    tokens, special = side.tokens, side.special
    pieces = [
        tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]
    batches = side.recipe.batches(tokens, special)
    theirs = cycle([pieces[i : i + 32] for i in range(0, len(pieces) - 31, 32)])
    draw = random.Random(0)
    return pair(
        f"hide words of 32 texts of {longest} tokens",
        lambda: list(islice(batches, 20)),
        _repeated(lambda: by_loops(next(theirs), special, side.vocab, draw), 20),
        peer_name="loops in Python",
        amount=20,
        unit="batches/CPU s",
        goal=20.0,
    )


def _repeated(work: Callable[[], Any], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def by_loops(
    batch: list[list[int]], special: Special, vocab: list[str], draw: random.Random
) -> dict[str, torch.Tensor]:
    """Return what the authors' collator makes of token ids, the way that it does."""
    rows = [[special.cls, *ids, special.sep] for ids in batch]
    width = max(map(len, rows))
    hidden, seen, labels = [], [], []
    for row in rows:
        surfaces = [vocab[i] for i in row]
        first = _hidden_words(surfaces, 0.3, draw)
        sets = [_hidden_words(surfaces, 0.5, draw) for _ in range(min(len(row), 256))]
        matrix = []
        for place in range(len(row)):
            chosen = list(sets[draw.randrange(len(sets))])
            chosen[place] = 1
            matrix.append(chosen)
        hidden.append(first)
        seen.append(1 - torch.tensor(matrix))
        labels.append([NONE, *row[1:-1], NONE])
    clean = torch.full((len(rows), width), special.pad)
    told, out = torch.full_like(clean, NONE), torch.zeros_like(clean)
    visible = torch.zeros(len(rows), width, width, dtype=torch.int64)
    for b, row in enumerate(rows):
        clean[b, : len(row)] = torch.tensor(row)
        told[b, : len(row)] = torch.tensor(labels[b])
        out[b, : len(row)] = torch.tensor(hidden[b])
        visible[b, : len(row), : len(row)] = seen[b]
    masked = torch.where(out.bool(), clean, NONE)
    given, chance = clean.clone(), torch.rand(clean.shape)
    given[out.bool() & (chance < 0.8)] = special.mask
    other = out.bool() & (chance >= 0.8) & (chance < 0.9)
    given[other] = torch.randint(special.size, clean.shape)[other]
    return {"given": given, "masked": masked, "clean": clean, "told": told, "visible": visible}


def _hidden_words(surfaces: list[str], share: float, draw: random.Random) -> list[int]:
    """Return 1 for every token of words drawn until no further one fits the share."""
    words: list[list[int]] = []
    for place, surface in enumerate(surfaces):
        if surface in ("[CLS]", "[SEP]"):
            continue
        if words and surface.startswith("##"):
            words[-1].append(place)
        else:
            words.append([place])
    draw.shuffle(words)
    budget = max(1, round(len(surfaces) * share))
    chosen: set[int] = set()
    for word in words:
        if len(chosen) >= budget:
            break
        if len(chosen) + len(word) <= budget:
            chosen.update(word)
    return [1 if place in chosen else 0 for place in range(len(surfaces))]


if __name__ == "__main__":
    main("pretrain", rows, __doc__)
