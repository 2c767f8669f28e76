"""Which tokens a decoder's attention sees: those before, or all of the text.

A causal language model becomes an encoder when its causal mask is taken away. In transformers the
switch is ``is_causal`` of the model's configuration, which is saved with it. Setting the attention
layers' own ``is_causal``, as older recipes do, works with one backend and without padding only, and
is silently causal otherwise; so what a network really does is tried, not believed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tokenspace.errors import ConfigError, FormatError
from tokenspace.rng import stream

__all__ = ["check_attention", "is_decoder", "sees_ahead", "set_attention"]

_LENGTH, _SHORT = 7, 4  # tokens of the trial's two rows; the shorter one is padded on the left


def is_decoder(network: nn.Module) -> bool:
    """Tell whether a transformers model is a decoder: one that is causal unless told otherwise."""
    config: Any = network.config
    causal = config.to_dict().get("is_causal")
    return causal is not None or not sees_ahead(network)


def set_attention(network: nn.Module, *, bidirectional: bool) -> None:
    """Let the attention of a decoder see all tokens, or only those before.

    Layers with a sliding window keep their window. Raises :class:`ConfigError` for an encoder asked
    to be causal, whose attention has no such switch, and for a network that does not follow it.
    """
    if not bidirectional and not is_decoder(network):
        raise ConfigError(
            "attention=causal: the model is an encoder, whose attention sees all of the text",
            hint="leave attention as it is, or give a decoder",
        )
    if bidirectional and sees_ahead(network):
        return
    config: Any = network.config
    config.is_causal = not bidirectional
    if sees_ahead(network) != bidirectional:
        raise ConfigError(
            f"the attention of {type(network).__name__} does not follow config.is_causal",
            hint="update transformers, or give a model of another architecture",
        )


def check_attention(network: nn.Module, name: str) -> None:
    """Raise :class:`FormatError` where a network is causal though its configuration denies it."""
    config: Any = network.config
    if config.to_dict().get("is_causal") is False and not sees_ahead(network):
        raise FormatError(
            f"{name}: config.json says is_causal=false, but the attention is causal",
            hint="update transformers; this release does not read the switch for this architecture",
        )


def sees_ahead(network: nn.Module) -> bool:
    """Tell whether a change of a text's last token changes the state of an earlier one.

    Tried on two rows, one of them padded, with the attention backend that is in use.
    """
    config: Any = network.config
    draw = stream(0, "attention")
    ids = torch.from_numpy(draw.integers(0, int(config.vocab_size), (2, _LENGTH)))
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + 1 + config.vocab_size // 2) % config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, : _LENGTH - _SHORT] = 0
    place = next(network.parameters()).device
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            first, second = (
                network(input_ids=given.to(place), attention_mask=mask.to(place)).last_hidden_state
                for given in (ids, other)
            )
    finally:
        network.train(training)
    moved = (first - second)[:, -2].abs().amax(dim=1)
    scale = first[:, -2].abs().amax(dim=1).clamp(min=1e-6)
    return bool((moved > 1e-6 * scale).all())
