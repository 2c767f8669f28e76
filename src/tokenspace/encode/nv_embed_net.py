"""Latent attention: every token reads from a trained dictionary, then the tokens are averaged.

A module of sentence-transformers in one file that needs torch and sentence-transformers alone: it
lies beside the weights, so that the model opens on a machine without tokenspace
(``SentenceTransformer(path, trust_remote_code=True)``).

Lee et al., NV-Embed: Improved Techniques for Training LLMs as Generalist Embedding Models, 2024,
arXiv:2405.17428, section 3.1. In the names: X (B, T, D) the states of tokens, Z (r, D) the
dictionary, h heads of d_h each.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor, nn
from torch.nn.functional import gelu

__all__ = ["LatentAttention"]

_HELD = 1 << 22  # softmax values that are held at a time when nothing is trained


class LatentAttention(Module):
    """U = FF(LN(Y)) + Y of Y = Attention(LN(X), LN(Z)) + X, averaged over the text's own tokens.

    Tokens are the queries, the rows of Z keys and values. A text of which no token is left once
    the prompt is taken away has the zero vector.
    """

    config_keys: list[str] = [  # noqa: RUF012, as the base class has it
        "dim",
        "r",
        "heads",
        "head_dim",
        "include_prompt",
    ]

    def __init__(
        self,
        dim: int,
        r: int = 512,
        heads: int = 8,
        head_dim: int | None = None,
        include_prompt: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if head_dim is None and dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim}: give head_dim")
        self.dim, self.r, self.heads = dim, r, heads
        self.head_dim = head_dim or dim // heads
        self.include_prompt = include_prompt
        inner = heads * self.head_dim
        self.Z = nn.Parameter(torch.randn(r, dim) * 0.02)
        self.norm_x, self.norm_z, self.norm_y = (nn.LayerNorm(dim) for _ in range(3))
        self.Wq = nn.Linear(dim, inner, bias=False)
        self.Wkv = nn.Linear(dim, 2 * inner, bias=False)
        self.Wo = nn.Linear(inner, dim, bias=False)
        self.ff_in, self.ff_out = nn.Linear(dim, 8 * dim), nn.Linear(4 * dim, dim)
        self._ready: tuple[Tensor, ...] | None = None
        hook: Any = self.register_load_state_dict_post_hook
        hook(lambda module, _: module._forget())

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Write ``sentence_embedding`` (B, D) from ``token_embeddings`` and ``attention_mask``."""
        X = features["token_embeddings"]
        own = self._counted(features)
        counted = X[own]  # (N, D): padding and prompt are not computed
        if self.training or torch.is_grad_enabled():
            U = self._whole(counted)
        else:
            step = max(1, _HELD // (self.heads * self.r))
            U = torch.cat([self._whole(part) for part in counted.split(step)])
        total = torch.zeros_like(X, dtype=U.dtype).masked_scatter(own[..., None], U).sum(1)
        features["sentence_embedding"] = total / own.sum(1, keepdim=True).clamp(min=1)
        return features

    def _counted(self, features: dict[str, Any]) -> Tensor:
        """Return (B, T) bool: the tokens of the text itself, wherever the padding stands."""
        mask: Tensor = features["attention_mask"].bool()
        prompt = features.get("prompt_length")
        if prompt is None or self.include_prompt:
            return mask
        length = int(prompt.flatten()[0]) if isinstance(prompt, Tensor) else int(prompt)
        return mask & (mask.int().cumsum(1) > length)

    def _whole(self, X: Tensor) -> Tensor:
        Y = self._attention(self.norm_x(X)) + X
        a, b = self.ff_in(self.norm_y(Y)).chunk(2, dim=-1)
        U: Tensor = self.ff_out(a * gelu(b)) + Y
        return U

    def _attention(self, X: Tensor) -> Tensor:
        """Return the heads' outputs through Wo, of normalised X (..., D)."""
        if self.training or torch.is_grad_enabled():
            return self._plain(X, *self._keys_and_values())
        if self._ready is None:
            self._ready = self._prepared()
        if len(self._ready) == 2 and self._ready[0].ndim == 3:
            return self._plain(X, *self._ready)
        A, B = self._ready
        scores = _by_heads(X @ A, self.heads)
        result: Tensor = _softmax(scores).flatten(-2) @ B
        return result

    def _plain(self, X: Tensor, K: Tensor, V: Tensor) -> Tensor:
        Q = _by_heads(self.Wq(X), self.heads)
        scores = torch.einsum("...hd,hrd->...hr", Q, K) / math.sqrt(self.head_dim)
        weights = _softmax(scores)
        found = torch.einsum("...hr,hrd->...hd", weights, V).flatten(-2)
        result: Tensor = self.Wo(found)
        return result

    def _keys_and_values(self) -> tuple[Tensor, Tensor]:
        """Return K and V, (h, r, d_h): they depend on no text."""
        K, V = self.Wkv(self.norm_z(self.Z)).chunk(2, dim=-1)
        return _by_heads(K, self.heads).transpose(0, 1), _by_heads(V, self.heads).transpose(0, 1)

    def _prepared(self) -> tuple[Tensor, Tensor]:
        """Return what an encoding needs beside X: K and V, or both folded into the projections.

        Folded, A (D, h r) = Wq K' / sqrt(d_h) and B (h r, D) = V Wo by heads: 2 h D r products a
        token for 2 D h d_h + 2 h d_h r, so it pays where heads are wide and the dictionary small.
        """
        K, V = self._keys_and_values()
        h, d, r, D = self.heads, self.head_dim, self.r, self.dim
        if 2 * h * D * r >= 2 * D * h * d + 2 * h * d * r:
            return K.contiguous(), V.contiguous()
        Wq = self.Wq.weight.view(h, d, D)
        Wo = self.Wo.weight.view(D, h, d)
        A = torch.einsum("hdD,hrd->Dhr", Wq, K).flatten(1) / math.sqrt(d)
        B = torch.einsum("hrd,Dhd->hrD", V, Wo).flatten(0, 1)
        return A.contiguous(), B.contiguous()

    def _forget(self) -> None:
        self._ready = None

    def train(self, mode: bool = True) -> LatentAttention:
        """Enter or leave training; what was prepared from the weights is forgotten."""
        self._forget()
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> LatentAttention:
        self._forget()  # moved to another device or type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

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
    ) -> LatentAttention:
        """Read what ``save`` wrote."""
        hub: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        made = cls(**cls.load_config(model_name_or_path, **hub))
        loaded: LatentAttention = cls.load_torch_weights(model_name_or_path, model=made, **hub)
        return loaded


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """Return (..., heads, width) of (..., heads * width)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the last axis, taken in float32 or wider."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(scores.dtype)
