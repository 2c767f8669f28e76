"""Convert a pretrained text encoder to ONNX, and measure on texts what the conversion changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Literal

from tokenspace.checkpoint.folder import CONVERTED, optional_json, read_json
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import replacing
from tokenspace.text_encoder import PretrainedEncoder, Tally

from .agreement import LEAST, Agreement, agreement

__all__ = ["convert", "sample", "stated"]

COMPARED = 500  # texts
_LEAST_COSINE = 0.9999  # of float32, which is the same computation in another order


def convert(
    encoder: PretrainedEncoder,
    out: str | Path,
    *,
    precision: Literal["float32", "int8"] = "float32",
    texts: Sequence[str] = (),
) -> Agreement:
    """Write ``encoder`` as a directory with an ONNX graph; return how far its vectors agree.

    Parameters
    ----------
    encoder
        What ``load_encoder`` gives.
    out
        The directory, which ``load_encoder`` and every ``--encoder`` read.
    precision
        ``int8`` is several times faster and changes the vectors: read what is returned.
    texts
        On which the two are compared, best those that will be encoded; without any, paragraphs
        of Python's documentation.

    Raises
    ------
    ConfigError
        The encoder is no network in float32.
    InputError
        Fewer than 3 texts, or a network that no graph can express.
    FormatError
        A float32 graph that does not give the network's vectors: nothing is written then.
    MissingExtra
        Without the extra ``onnx``.
    """
    from tokenspace.nn.encoder import ModelEncoder, load_encoder
    from tokenspace.nn.onnx_export import export

    if not isinstance(encoder, ModelEncoder):
        raise ConfigError(
            f"a {type(encoder).__name__} is no pretrained network",
            hint="give what load_encoder returns",
        )
    if precision not in ("float32", "int8"):
        raise ConfigError(f"precision={precision!r} is not one of float32, int8")
    chosen = list(texts) or sample(())
    if len(chosen) < LEAST:
        raise InputError(
            f"{len(chosen)} texts do not tell what a conversion changes", hint=f"give {LEAST}"
        )
    with replacing(out) as partial:
        partial.mkdir()
        export(encoder, partial, precision)
        graph, unsaid = load_encoder(str(partial)), Tally()  # that texts are cut is no news here
        found = agreement(*(each.encode_counted(chosen, unsaid) for each in (encoder, graph)))
        about = {**read_json(partial / CONVERTED), "agreement": asdict(found)}
        (partial / CONVERTED).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if precision == "float32" and found.least_cosine < _LEAST_COSINE:
            raise FormatError(
                f"the graph gives other vectors than the network (cosine {found.least_cosine:.4f})",
                hint="the network decides by its input what it computes: run it as it is",
            )
    return found


def stated(folder: str | Path) -> Agreement | None:
    """Return what :func:`convert` measured when it wrote a directory, or None for any other."""
    found = optional_json(Path(folder) / CONVERTED).get("agreement")
    return Agreement(**found) if found else None


def sample(paths: Sequence[str | Path]) -> list[str]:
    """Return at most 500 texts of files, evenly spread, or of Python's documentation."""
    if paths:
        texts = [text for text in Corpus.load(*paths) if text.strip()]
    else:
        from tokenspace.data import manual

        parts = (part for _, topic in manual() for part in topic.split("\n\n"))
        texts = [" ".join(part.split()) for part in parts if len(part.split()) > 5]
    return list(islice(texts, 0, None, -(-len(texts) // COMPARED) or 1))
