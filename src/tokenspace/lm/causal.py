"""A causal language model of transformers with its vocabulary: what a training run gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tokenspace.arrays import Floats2d, Ids2d
from tokenspace.errors import FormatError, InputError
from tokenspace.io import replacing
from tokenspace.vocab import Vocabulary

if TYPE_CHECKING:
    from tokenspace.nn.score import Score

__all__ = ["CausalModel"]


@dataclass(frozen=True, eq=False)
class CausalModel:
    """``network`` is a ``...ForCausalLM`` of transformers, its rows those of ``vocab``.

    ``metrics`` are figures of its training; they are not saved with the weights.
    """

    network: Any
    vocab: Vocabulary
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def context(self) -> int:
        """The most tokens that the model was trained to look at."""
        return int(self.network.config.max_position_embeddings)

    def logits(self, ids: Ids2d) -> Floats2d:
        """Return the scores of every next token, (B, T, V) float32, for ids (B, T) int64.

        Raises :class:`InputError` where an id has no row.
        """
        import torch

        if ids.ndim != 2 or (ids.size and not 0 <= ids.min() <= ids.max() < len(self.vocab)):
            raise InputError(
                f"ids of shape {ids.shape} are not (B, T) ids below {len(self.vocab)}",
                hint="give ids of this model's vocabulary",
            )
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            tokens = torch.from_numpy(np.array(ids, np.int64)).to(device)
            found = self.network.eval()(tokens, use_cache=False).logits.float().cpu().numpy()
        return np.ascontiguousarray(found)

    def score(
        self, texts: Sequence[str], *, context: int | None = None, stride: int | None = None
    ) -> Score:
        """Return what each text costs: :func:`tokenspace.nn.score.bits_per_byte`."""
        from tokenspace.nn.score import bits_per_byte

        return bits_per_byte(self.network, self.vocab, texts, context=context, stride=stride)

    def save(self, path: str | Path) -> None:
        """Write a directory that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load."""
        from tokenspace.nn.quiet import quiet

        with replacing(path) as partial, quiet():
            partial.mkdir()
            self.network.save_pretrained(partial)
            self.vocab.write(partial)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a directory of a causal language model; code inside it is never run.

        Raises :class:`InputError` where it asks for code or has only pickles, and
        :class:`FormatError` where it is no such model.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        from tokenspace.checkpoint.folder import inspect_folder
        from tokenspace.nn.quiet import quiet

        folder = Path(path)
        if not folder.is_dir():
            raise InputError(f"{path}: no such directory", hint="check the path")
        inspect_folder(folder)
        try:
            network: Any
            with quiet():
                network = AutoModelForCausalLM.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
                )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
            reason = str(fault).strip().split("\n")[0]
            raise FormatError(
                f"{folder}: not a causal language model ({type(fault).__name__}: {reason})",
                hint="write or download the directory again",
            ) from fault
        return cls(network.eval(), Vocabulary.load(folder))
