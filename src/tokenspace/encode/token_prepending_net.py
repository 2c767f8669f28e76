"""A decoder in whose first layers a placeholder repeats what the last token has seen.

A module of sentence-transformers in one file that needs torch and sentence-transformers alone: it
lies beside the weights, so that the model opens on a machine without tokenspace
(``SentenceTransformer(path, trust_remote_code=True)``).

Fu et al., Token Prepending: A Training-Free Approach for Eliciting Better Sentence Embeddings from
LLMs, ACL 2025, arXiv:2412.11556. The prompt around the text is in the tokenizer (its
post-processor), so a text is cut before it is wrapped.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

__all__ = ["TokenPrepending"]


class TokenPrepending(Transformer):
    """A transformer before whose layers ``start`` to ``exit`` - 1 H[p] becomes H[last].

    p is the place of the token ``placeholder`` and last that of the last token; ``start == exit``
    changes nothing. The states are those after the last layer, without the norm that follows it
    unless ``norm``.
    """

    config_keys: list[str] = [  # noqa: RUF012, as the base class has it
        *Transformer.config_keys,
        "placeholder",
        "start",
        "exit",
        "norm",
    ]

    def __init__(
        self,
        *args: Any,
        placeholder: int = 0,
        start: int = 1,
        exit: int = 2,
        norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.placeholder, self.start, self.exit, self.norm = placeholder, start, exit, norm

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Write ``token_embeddings`` (B, T, D); the network itself is left as it was."""
        ids, mask = features["input_ids"], features["attention_mask"]
        rows = torch.arange(len(ids), device=ids.device)
        places = (ids == self.placeholder).int().argmax(1)
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
        layers = _layers(self.model)
        raw: list[Tensor] = []

        def prepend(module: nn.Module, args: Any, named: Any) -> tuple[Any, Any]:
            H = args[0] if args else named["hidden_states"]
            H = H.clone()  # what was recorded of it stays
            H[rows, places] = H[rows, last]
            if args:
                return (H, *args[1:]), named
            return args, {**named, "hidden_states": H}

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            raw.append(output[0] if isinstance(output, tuple) else output)

        hooks = [
            layer.register_forward_pre_hook(prepend, with_kwargs=True)
            for layer in layers[self.start : self.exit]
        ]
        hooks.append(layers[-1].register_forward_hook(keep))
        try:
            features = super().forward(features, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()
        if not self.norm:
            features["token_embeddings"] = raw[0]
        return features


def _layers(network: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules of one class."""
    stacks = [
        module
        for module in network.modules()
        if isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1
    ]
    return max(stacks, key=len)
