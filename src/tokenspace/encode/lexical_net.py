"""The words of a text by a head over its tokens' states: of each word the greatest logit.

A module of sentence-transformers in one file that needs torch, transformers and
sentence-transformers alone: it lies beside the weights, so that the model opens on a machine
without tokenspace (``SparseEncoder(path, trust_remote_code=True)``).

Xiao et al., RetroMAE v2: Duplex Masked Auto-Encoder For Pre-Training Retrieval-Oriented Language
Models, 2022, arXiv:2211.08769, section 3.3.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor, nn
from transformers.activations import ACT2FN

__all__ = ["LexicalTopK"]

_ROOM = 1 << 22  # logits that are held at a time


class LexicalTopK(Module):
    """μ (B, V), the greatest of z_i = E head(H_i) + b over a text's places i but the first.

    Of a document the ``top`` greatest are kept and the others 0, of equal ones those of the first
    words; a query (``encode_query``) keeps all. A text without a place has none.
    """

    forward_kwargs: set[str] = {"task"}  # noqa: RUF012, as the base class has it
    config_keys: list[str] = [  # noqa: RUF012
        "dim",
        "words",
        "top",
        "activation",
        "eps",
    ]

    def __init__(
        self, dim: int, words: int, top: int = 384, activation: str = "gelu", eps: float = 1e-12
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not 1 <= top <= words:
            raise ValueError(f"top={top} is outside [1, {words}]")
        self.dim, self.words, self.top = dim, words, top
        self.activation, self.eps = activation, eps
        self.dense, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim, eps=eps)
        self.act: nn.Module = ACT2FN[activation]
        self.rows = nn.Linear(dim, words)

    def forward(
        self, features: dict[str, Any], task: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Write ``sentence_embedding`` (B, V) from ``token_embeddings`` and ``attention_mask``."""
        mask = features["attention_mask"].bool()
        mask = mask & (mask.int().cumsum(1) > 1)  # the first place is the vector's, not a word's
        most = self._greatest(features["token_embeddings"], mask)
        features["sentence_embedding"] = most if task == "query" else self._kept(most)
        return features

    def _greatest(self, H: Tensor, mask: Tensor) -> Tensor:
        inner = self.norm(self.act(self.dense(H)))
        most = H.new_full((len(H), self.words), -torch.inf)
        step = max(1, _ROOM // max(1, most.numel()))
        for start in range(0, inner.shape[1], step):
            z = self.rows(inner[:, start : start + step])
            z = z.masked_fill(~mask[:, start : start + step, None], -torch.inf)
            most = torch.maximum(most, z.amax(1))
        return most.masked_fill(~mask.any(1, keepdim=True), 0)

    def _kept(self, most: Tensor) -> Tensor:
        least = most.topk(self.top).values[:, -1:]
        above, equal = most > least, most == least
        spare = self.top - above.sum(1, keepdim=True)
        return most * (above | (equal & (equal.cumsum(1) <= spare)))

    def get_embedding_dimension(self) -> int:
        """Return V."""
        return self.words

    def save(
        self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write ``config.json`` and the weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LexicalTopK:
        """Read what ``save`` wrote."""
        hub: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        made = cls(**cls.load_config(model_name_or_path, **hub))
        loaded: LexicalTopK = cls.load_torch_weights(model_name_or_path, model=made, **hub)
        return loaded
