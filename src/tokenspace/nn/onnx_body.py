"""A network as an ONNX graph, run by onnxruntime: what ``tokenspace encode onnx`` writes.

The directory is that of sentence-transformers without the network's weights, laid out as its ONNX
backend has it (which needs optimum, and optimum a transformers below 5). ``onnx/model.onnx``
takes ``input_ids``, ``attention_mask`` and maybe ``token_type_ids``, and gives
``last_hidden_state`` and ``sentence_embedding``, pooled and all; ``onnx/tokenizer.json`` is the
tokenizer as it has to cut and not to pad, ``onnx/tokenspace.json`` says the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tokenspace.checkpoint.folder import CONVERTED, optional_json, read_json
from tokenspace.errors import ConfigError, FormatError, MissingExtra

__all__ = ["INPUTS", "OUTPUTS", "TOKENIZER", "WEIGHTS", "OnnxBody"]

TOKENIZER, WEIGHTS = "onnx/tokenizer.json", "onnx/model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("last_hidden_state", "sentence_embedding")


class OnnxBody:
    """The graph of a directory; a :class:`tokenspace.nn.body.Body`."""

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtra.named("onnx", f"running {folder}") from None
        self.folder = folder
        about = read_json(folder / CONVERTED)
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # without VNNI sums of 8-bit products saturate in 16 bits, unless this is asked for
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 4  # nothing: what goes wrong is raised
        try:
            self.precision, self.pad = str(about["precision"]), int(about["pad"])
            self.special, self.dim = bool(about["special"]), int(about["dim"])
            self.pools_prompt = True
            self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self.session: Any = onnxruntime.InferenceSession(
                str(folder / WEIGHTS), options, providers=["CPUExecutionProvider"]
            )
        except Exception as fault:  # both libraries raise plain Exception, or their own kinds
            reason = str(fault).strip().split("\n")[0]
            raise FormatError(
                f"{folder}: not a whole converted model ({type(fault).__name__}: {reason})",
                hint="convert it again with tokenspace encode onnx",
            ) from fault
        self.inputs = [item.name for item in self.session.get_inputs()]

    multiplied = 0
    advised: int | None = None

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    @property
    def module(self) -> torch.nn.Module:
        """Raise :class:`ConfigError`: the weights are in the graph."""
        raise ConfigError(
            f"{self.folder}: a graph cannot be trained or converted again",
            hint="give the model that it was made from",
        )

    def in_bfloat16(self) -> Self:
        """Raise :class:`ConfigError`: a graph stays in its precision."""
        raise ConfigError(
            f"{self.folder}: the graph multiplies in {self.precision}",
            hint="give the model that it was made from",
        )

    def states(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """Return the last hidden states (B, T, H)."""
        return self.encoded(ids, mask, types, 0)[0]

    def every_layer(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, ...]:
        """Raise :class:`ConfigError`: the layers between are not kept."""
        raise ConfigError(
            f"{self.folder}: the graph gives its last layer alone",
            hint="ask for layer -1, or give the model that it was made from",
        )

    def encoded(
        self, ids: Tensor, mask: Tensor, types: Tensor, prompt: int
    ) -> tuple[Tensor, Tensor]:
        """Return the last hidden states, and one vector a text (B, D)."""
        given = dict(zip(INPUTS, (ids, mask.long(), types), strict=True))
        feed = {name: given[name].numpy() for name in self.inputs}
        try:
            states, vectors = self.session.run(list(OUTPUTS), feed)
        except Exception as fault:  # onnxruntime's kinds have no other parent
            reason = str(fault).strip().split("\n")[0]
            raise FormatError(
                f"{self.folder}: the graph does not run on {tuple(ids.shape)} tokens ({reason})",
                hint="run the model that it was made from",
            ) from fault
        return torch.from_numpy(states), torch.from_numpy(vectors)

    def save(self, folder: Path, prompts: Mapping[str, str], default: str | None) -> None:
        """Copy the directory, and say which prompts there are."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        place = folder / "config_sentence_transformers.json"
        said = {"prompts": dict(prompts), "default_prompt_name": default}
        text = json.dumps({**optional_json(place), **said}, indent=2)
        place.write_text(text + "\n", encoding="utf-8")
