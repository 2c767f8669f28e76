"""Trainable pooling over layers, or over the tokens of the last one, by cross-attention.

A module of sentence-transformers in one file that needs torch and sentence-transformers alone: it
lies beside the weights, so that the model opens on a machine without tokenspace
(``SentenceTransformer(path, trust_remote_code=True)``).

Tang and Yang, Pooling And Attention: What Are Effective Designs For LLM-Based Embedding Models?,
2024, arXiv:2409.02727. In the names: S (B, N, D) a summary of each layer, P (N, D) what tells the
layers apart, Z (r, D) the latents.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor, nn
from torch.nn.functional import gelu

__all__ = ["LayerPooling"]


class LayerPooling(Module):
    """Latents attend to one summary of each layer (or to the last layer's tokens), then a mean.

    ``over`` is ``layers`` or ``tokens``. The summary of a layer is the state of the last token
    (``summary="last"``, for causal attention) or the mean of its tokens (``"mean"``); over tokens,
    ``last`` leaves a single key, so that attention is a linear map.
    """

    config_keys: list[str] = [  # noqa: RUF012, as the base class has it
        "dim",
        "layers",
        "r",
        "heads",
        "head_dim",
        "over",
        "summary",
        "include_prompt",
    ]

    def __init__(
        self,
        dim: int,
        layers: int,
        r: int = 32,
        heads: int = 8,
        head_dim: int = 64,
        over: str = "layers",
        summary: str = "mean",
        include_prompt: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if over not in ("layers", "tokens") or summary not in ("last", "mean"):
            raise ValueError(f"over={over!r}, summary={summary!r}")
        self.dim, self.layers, self.r = dim, layers, r
        self.heads, self.head_dim = heads, head_dim
        self.over, self.summary, self.include_prompt = over, summary, include_prompt
        inner = heads * head_dim
        self.Z = nn.Parameter(torch.randn(r, dim) * 0.02)
        if over == "layers":
            self.P = nn.Parameter(torch.randn(layers, dim) * 0.02)
        self.norm_z, self.norm_s, self.norm_u = (nn.LayerNorm(dim) for _ in range(3))
        self.Wq = nn.Linear(dim, inner, bias=False)
        self.Wkv = nn.Linear(dim, 2 * inner, bias=False)
        self.Wo = nn.Linear(inner, dim, bias=False)
        self.ff_in, self.ff_out = nn.Linear(dim, 8 * dim), nn.Linear(4 * dim, dim)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Write ``sentence_embedding`` (B, D) from the states of tokens, or of all layers."""
        mask = self._counted(features)
        if self.over == "layers":
            every = features["all_layer_embeddings"][1:]
            if len(every) != self.layers:
                raise ValueError(f"{len(every)} layers, and the pooling is of {self.layers}")
            S = torch.stack([self._summary(states, mask) for states in every], dim=1) + self.P
            seen = torch.ones(S.shape[:2], dtype=torch.bool, device=S.device)
        else:
            S, seen = features["token_embeddings"], mask
            if self.summary == "last":
                S, seen = self._summary(S, mask)[:, None], mask.any(1, keepdim=True)
        some = seen.any(1, keepdim=True)
        U = self._attention(S, seen | ~some) + self.Z
        a, b = self.ff_in(self.norm_u(U)).chunk(2, dim=-1)
        vectors = (self.ff_out(a * gelu(b)) + U).mean(1)
        features["sentence_embedding"] = torch.where(
            mask.any(1, keepdim=True), vectors, torch.zeros_like(vectors)
        )
        return features

    def _attention(self, S: Tensor, seen: Tensor) -> Tensor:
        """Return what the latents read of S (B, K, D) where it is ``seen`` (B, K): (B, r, D)."""
        Q = _by_heads(self.Wq(self.norm_z(self.Z)), self.heads)
        K, V = (_by_heads(x, self.heads) for x in self.Wkv(self.norm_s(S)).chunk(2, dim=-1))
        scores = torch.einsum("rhd,bkhd->bhrk", Q, K) / math.sqrt(self.head_dim)
        weights = _softmax(scores.masked_fill(~seen[:, None, None], -math.inf))
        found = torch.einsum("bhrk,bkhd->brhd", weights, V).flatten(-2)
        result: Tensor = self.Wo(found)
        return result

    def _summary(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return one vector a text (B, D): of its last token, or the mean of its tokens."""
        if self.summary == "last":
            last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
            return states[torch.arange(len(states), device=states.device), last]
        total: Tensor = states.masked_fill(~mask[..., None], 0).sum(1)
        return total / mask.sum(1, keepdim=True).clamp(min=1)

    def _counted(self, features: dict[str, Any]) -> Tensor:
        """Return (B, T) bool: the tokens of the text itself, wherever the padding stands."""
        mask: Tensor = features["attention_mask"].bool()
        prompt = features.get("prompt_length")
        if prompt is None or self.include_prompt:
            return mask
        length = int(prompt.flatten()[0]) if isinstance(prompt, Tensor) else int(prompt)
        return mask & (mask.int().cumsum(1) > length)

    def get_embedding_dimension(self) -> int:
        """Return the width D of the vectors."""
        return self.dim

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
    ) -> LayerPooling:
        """Read what ``save`` wrote."""
        hub: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        made = cls(**cls.load_config(model_name_or_path, **hub))
        loaded: LayerPooling = cls.load_torch_weights(model_name_or_path, model=made, **hub)
        return loaded


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """Return (..., heads, width) of (..., heads * width)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the last axis, taken in float32 or wider."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(scores.dtype)
