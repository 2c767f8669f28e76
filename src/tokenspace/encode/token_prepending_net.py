"""A decoder in whose first layers a placeholder repeats what the last token has seen.

A module of sentence-transformers in one file that needs torch and sentence-transformers alone: it
lies beside the weights, so that the model opens on a machine without tokenspace
(``SentenceTransformer(path, trust_remote_code=True)``).

Fu et al., Token Prepending: A Training-Free Approach for Eliciting Better Sentence Embeddings from
LLMs, ACL 2025, arXiv:2412.11556. The prompt around the text is in the tokenizer (its
post-processor), so a text is cut before it is wrapped. Several prompts, whose vectors are averaged:
Lei et al., Meta-Task Prompting Elicits Embeddings from Large Language Models, ACL 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    With ``templates``, pairs of the tokens before and after a text, every text passes the network
    in each of these as well, in the place of the ``own`` prompt's so many tokens before and after
    it; the last state is then the mean over all prompts.
    """

    advised = 256  # tokens of a text, beyond which others have measured that it harms
    config_keys: list[str] = [  # noqa: RUF012, as the base class has it
        *Transformer.config_keys,
        "placeholder",
        "start",
        "exit",
        "norm",
        "own",
        "templates",
    ]

    def __init__(
        self,
        *args: Any,
        placeholder: int = 0,
        start: int = 1,
        exit: int = 2,
        norm: bool = False,
        own: Sequence[int] = (0, 0),
        templates: Sequence[Sequence[Sequence[int]]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.placeholder, self.start, self.exit, self.norm = placeholder, start, exit, norm
        self.own, self.templates = list(own), [[list(s) for s in sides] for sides in templates]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Write ``token_embeddings`` (B, T, D); the network itself is left as it was."""
        others = [self._rewrapped(features, *sides) for sides in self.templates]
        features = self._once(features, **kwargs)
        if others:
            states, places = features["token_embeddings"].clone(), _last(features)
            vectors = [states[places]]
            for other in others:
                vectors.append(self._once(other, **kwargs)["token_embeddings"][_last(other)])
            states[places] = torch.stack(vectors).mean(0)
            features["token_embeddings"] = states
        return features

    def _rewrapped(
        self, features: dict[str, Any], before: Sequence[int], after: Sequence[int]
    ) -> dict[str, Any]:
        """Return the same texts in another prompt, padded on the right."""
        ids, mask = features["input_ids"], features["attention_mask"].bool()
        first, last = self.own
        ends = [ids.new_tensor(list(side)) for side in (before, after)]
        texts = [row[own] for row, own in zip(ids, mask, strict=True)]
        rows = [torch.cat([ends[0], row[first : len(row) - last], ends[1]]) for row in texts]
        made = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.placeholder)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        seen = torch.arange(made.shape[1], device=ids.device) < lengths[:, None]
        passed = {k: v for k, v in features.items() if not isinstance(v, Tensor)}
        return {**passed, "input_ids": made, "attention_mask": seen.to(ids.dtype)}

    def _once(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        ids = features["input_ids"]
        rows, last = _last(features)
        places = (ids == self.placeholder).int().argmax(1)
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


def _last(features: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the rows, and the place of the last token in each."""
    mask = features["attention_mask"]
    rows = torch.arange(len(mask), device=mask.device)
    return rows, mask.shape[1] - 1 - mask.flip(1).int().argmax(1)


def _layers(network: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules of one class."""
    stacks = [
        module
        for module in network.modules()
        if isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1
    ]
    return max(stacks, key=len)
