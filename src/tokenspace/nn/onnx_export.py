"""Write a network, its pooling and whatever follows as one ONNX graph, and the same in int8.

The graph is a trace of the network on padded texts. The exporter that traces is the older one of
torch: its graphs are those that onnxruntime fuses best (a tenth faster in float32, a quarter in
int8, measured on MiniLM), and it needs no package beside ``onnx``.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from tokenspace.checkpoint.folder import CONVERTED, read_json
from tokenspace.errors import ConfigError, InputError, MissingExtra
from tokenspace.nn.body import Body
from tokenspace.nn.encoder import ModelEncoder
from tokenspace.nn.onnx_body import INPUTS, OUTPUTS, TOKENIZER, WEIGHTS

__all__ = ["export"]

_OPSET = 17  # the newest that the older exporter writes in full


class _Whole(nn.Module):
    """Ids, mask and segments to states and vectors, all of a body's weights in one module."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.network, self._encoded = body.module, body.encoded

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        return self._encoded(ids, mask.bool(), types, 0)


def export(encoder: ModelEncoder, folder: Path, precision: str) -> None:
    """Write the directory of :mod:`tokenspace.nn.onnx_body` into ``folder``, which exists.

    In any ``precision`` but float32 the weights are 8 bits wide, symmetric, with a scale for every
    output channel; what is multiplied with them is quantised as it comes.

    Raises :class:`ConfigError` for what is no network in float32 and :class:`InputError` for a
    network that cannot be traced or whose pooling leaves prompts out.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingExtra.named("onnx", "converting a model to ONNX") from None
    body = encoder.body
    if body.precision != "float32" or not body.special:
        what = body.precision if body.special else "no network but a table"
        raise ConfigError(
            f"the encoder is {what}", hint="a network in float32 can be converted to ONNX"
        )
    if not body.pools_prompt and encoder.prompts:
        raise InputError(
            "the model's pooling leaves its prompts out, which a graph does not",
            hint="run it as it is; --precision bfloat16 is the quicker way then",
        )
    whole = _Whole(body).eval()
    body.save(folder, encoder.prompts, encoder.prompt)
    first = folder / str(read_json(folder / "modules.json")[0].get("path", ""))
    for weights in (*first.glob("model*.safetensors"), *first.glob("model*.index.json")):
        weights.unlink()
    (folder / "onnx").mkdir()
    _trace(whole, body, folder / WEIGHTS)
    if precision != "float32":
        _quantise(folder / WEIGHTS)
    body.tokenizer.save(str(folder / TOKENIZER))
    about = {
        "format": 1,
        "precision": precision,
        "dim": body.dim,
        "pad": body.pad,
        "special": body.special,
    }
    (folder / CONVERTED).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _trace(whole: _Whole, body: Body, path: Path) -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], device=body.device)
    ids = mask * max(1, body.pad - 1) + (1 - mask) * body.pad
    padded = {0: "texts", 1: "tokens"}
    axes = {**dict.fromkeys((*INPUTS, OUTPUTS[0]), padded), OUTPUTS[1]: {0: "texts"}}
    try:
        with _silent(), torch.no_grad():
            torch.onnx.export(
                whole,
                (ids, mask, torch.zeros_like(ids)),
                str(path),
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                dynamic_axes=axes,
                opset_version=_OPSET,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as fault:  # the exporter's own are RuntimeErrors
        reason = str(fault).strip().split("\n")[0]
        raise InputError(
            f"the network cannot be written as a graph ({type(fault).__name__}: {reason})",
            hint="run it as it is; --precision bfloat16 is the quicker way then",
        ) from fault


def _quantise(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = path.with_name("float32.onnx")
    path.rename(exact)
    with _silent():
        quantize_dynamic(exact, path, per_channel=True, weight_type=QuantType.QInt8)
    exact.unlink()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep both libraries' advice, which is about their own development, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
