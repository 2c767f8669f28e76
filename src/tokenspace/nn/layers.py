"""The layers of a transformer: where they are, what leaves each, and a model with fewer of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tokenspace.errors import ConfigError, InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from tokenspace.text_encoder import PretrainedEncoder

__all__ = [
    "final_norm",
    "freeze",
    "keep_layers",
    "layer_list",
    "layer_vectors",
    "network_of",
    "size",
]

_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


def network_of(model: SentenceTransformer) -> nn.Module:
    """Return the network of transformers in a model; :class:`InputError` where there is none."""
    network = getattr(model[0], "auto_model", None)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model: a first module of type {type(model[0]).__name__} has no layers",
            hint="give a model that starts with a transformer",
        )
    return network


def layer_list(network: nn.Module) -> nn.ModuleList:
    """Return the network's stack of layers: its longest list of modules of one class.

    Raises :class:`InputError` where there is none.
    """
    stacks = [
        module
        for module in network.modules()
        if isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1
    ]
    if not stacks:
        raise InputError(
            f"model: {type(network).__name__} has no stack of equal layers",
            hint="give a transformer",
        )
    return max(stacks, key=len)


def final_norm(network: nn.Module) -> nn.Module | None:
    """Return the norm that follows the last layer, as in decoders, or None as in BERT."""
    stack = layer_list(network)
    for module in network.modules():
        if stack in list(module.children()):
            found = [getattr(module, name, None) for name in _NORMS]
            return next((norm for norm in found if isinstance(norm, nn.Module)), None)
    return None


def keep_layers(network: nn.Module, count: int) -> None:
    """Leave the first ``count`` layers of a network, in place, and say so in its configuration.

    What follows the last layer, such as a decoder's norm, follows the new last one.
    Raises :class:`ConfigError` for a number that is not in 1..N.
    """
    stack = layer_list(network)
    if not 1 <= count <= len(stack):
        raise ConfigError(
            f"layers={count} is outside [1, {len(stack)}]", hint="the model has that many layers"
        )
    del stack[count:]
    config: Any = network.config
    for name in ("num_hidden_layers", "n_layer"):  # transformers maps one to the other, or not
        if hasattr(config, name):
            setattr(config, name, count)
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = config.layer_types[:count]


def freeze(network: nn.Module, count: int) -> None:
    """Keep training from changing the first ``count`` layers, and what comes before them.

    0 freezes nothing. Raises :class:`ConfigError` for more layers than there are.
    """
    stack = layer_list(network)
    if count > len(stack):
        raise ConfigError(
            f"frozen={count} is outside [0, {len(stack)}]", hint="the model has that many layers"
        )
    if count:
        after = {id(p) for layer in stack[count:] for p in layer.parameters()}
        norm = final_norm(network)
        after |= {id(p) for p in norm.parameters()} if norm is not None else set()
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in after)


def layer_vectors(model: SentenceTransformer, features: Mapping[str, Any]) -> list[Tensor]:
    """Return one vector a text after each layer, N + 1 times (B, D), the first before any layer.

    Every state passes what follows the last layer in the network, and then the modules of the
    model: so entry n is what the model of n layers gives (:func:`keep_layers`), but for a
    normalisation at the end, which is left out. Gradients flow.
    """
    network = network_of(model)
    given = {k: v for k, v in features.items() if isinstance(v, Tensor) and k in _INPUTS}
    output = network(**given, output_hidden_states=True)
    *earlier, last = output.hidden_states
    norm = final_norm(network)
    if norm is not None:
        earlier = [norm(states) for states in earlier]
    vectors = []
    for states in (*earlier, last):
        passed: dict[str, Any] = {**features, "token_embeddings": states}
        for module in list(model)[1:]:
            if type(module).__name__ != "Normalize":
                passed = module(passed)
        vectors.append(passed["sentence_embedding"])
    return vectors


def size(model: PretrainedEncoder) -> dict[str, int]:
    """Return how many ``layers``, ``numbers`` of a vector and ``parameters`` a model has."""
    from tokenspace.nn.sentence import copied

    made = copied(model)
    return {
        "layers": len(layer_list(network_of(made))),
        "numbers": model.dim,
        "parameters": sum(parameter.numel() for parameter in made.parameters()),
    }


_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
