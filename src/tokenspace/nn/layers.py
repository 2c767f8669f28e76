"""The layers of a transformer: where they are, what leaves each, and a model with fewer of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tokenspace.errors import ConfigError, InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from tokenspace.text_encoder import PretrainedEncoder

__all__ = [
    "column_vectors",
    "final_norm",
    "freeze",
    "keep_layers",
    "layer_list",
    "layer_vectors",
    "length_groups",
    "network_of",
    "size",
]

_PASS = 64  # tokens that a processor computes in the time that one more pass takes besides
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

    They drop nothing out either: what they say of a text is always the same. 0 freezes nothing.
    Raises :class:`ConfigError` for more layers than there are.
    """
    stack = layer_list(network)
    if count > len(stack):
        raise ConfigError(
            f"frozen={count} is outside [0, {len(stack)}]", hint="the model has that many layers"
        )
    if not count:
        return
    norm = final_norm(network)
    free = [*stack[count:], *([norm] if norm is not None else [])]
    kept = {id(module) for part in free for module in part.modules()}
    after = {id(parameter) for part in free for parameter in part.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in after)
    for module in network.modules():
        if id(module) not in kept:
            _drop_nothing(module)


def _drop_nothing(module: nn.Module) -> None:
    if isinstance(module, nn.Dropout):
        module.p = 0.0
    if hasattr(module, "attention_dropout"):  # a number in decoders, which is given to the product
        module.attention_dropout = 0.0  # type: ignore[assignment]


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


def column_vectors(
    model: SentenceTransformer,
    columns: Sequence[Mapping[str, Any]],
    of: Callable[[SentenceTransformer, Mapping[str, Any]], list[Tensor]] = layer_vectors,
) -> list[tuple[Tensor, ...]]:
    """Return :func:`layer_vectors` of every column of a batch: N + 1 times one (B, D) for each.

    Or what ``of`` gives for rows, in place of layer_vectors: any number of tensors (B, D).
    On a processor texts of like length pass the network together, whichever column they are of, so
    that little of what is computed is padding. The order of rows is kept.
    """
    if columns[0]["input_ids"].device.type != "cpu" or not _alike(columns):
        return list(zip(*(of(model, column) for column in columns), strict=True))
    whole = _joined(columns, getattr(model.tokenizer, "padding_side", "right") == "left")
    mask = whole["attention_mask"]
    order, vectors = [], []
    table = network_of(model).get_input_embeddings()  # type: ignore[operator]
    # looked up once, not by group: the gradient of a lookup is as large as the table
    looked_up = table(whole["input_ids"])
    for rows in length_groups(mask.sum(1).tolist()):
        used = mask[rows].any(0).nonzero()  # padding may be on either side
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
        part = {
            name: value[rows, first : last + 1] if isinstance(value, Tensor) else value
            for name, value in whole.items()
        }
        with _giving(table, looked_up[rows, first : last + 1]):
            vectors.append(of(model, part))
        order += rows
    back = torch.tensor(order).argsort()
    heights = [len(column["input_ids"]) for column in columns]
    whole_layers = (torch.cat(layer)[back] for layer in zip(*vectors, strict=True))
    return [torch.split(layer, heights) for layer in whole_layers]


@contextmanager
def _giving(table: nn.Module, rows: Tensor) -> Iterator[None]:
    """Let a table of words give these ``rows`` where it gives as many."""
    hook = table.register_forward_hook(
        lambda module, given, found: rows if found.shape == rows.shape else None
    )
    try:
        yield
    finally:
        hook.remove()


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Return the numbers of sequences in groups, longest first, that take the least time in all.

    A group takes its longest length times its size, and the time of 64 tokens.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    least, first = [0], [0]  # of the best groups of the first so many: their time, the last's start
    for end in range(1, len(order) + 1):
        time, start = min((least[i] + lengths[order[i]] * (end - i) + _PASS, i) for i in range(end))
        least.append(time)
        first.append(start)
    groups, end = [], len(order)
    while end:
        groups.append(order[first[end] : end])
        end = first[end]
    return groups[::-1]


def _alike(columns: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the columns differ in nothing but what (B, T) numbers they hold."""
    kinds = []
    for column in columns:
        shape = column["input_ids"].shape
        if any(isinstance(v, Tensor) and v.shape != shape for v in column.values()):
            return False
        kinds.append({k: None if isinstance(v, Tensor) else v for k, v in column.items()})
    return all(kind == kinds[0] for kind in kinds)


def _joined(columns: Sequence[Mapping[str, Any]], left: bool) -> dict[str, Any]:
    """Return one batch of all rows; what is added to a shorter column, on the left, is masked."""
    width = max(column["input_ids"].shape[1] for column in columns)
    whole: dict[str, Any] = dict(columns[0])
    for name, value in whole.items():
        if isinstance(value, Tensor):
            parts = [column[name] for column in columns]
            room = [width - part.shape[1] for part in parts]
            whole[name] = torch.cat(
                [pad(p, (r, 0) if left else (0, r)) for p, r in zip(parts, room, strict=True)]
            )
    return whole


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
