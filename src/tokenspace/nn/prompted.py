"""A decoder behind a prompt: the prompt in its tokenizer, a token of its own, the last state."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Regex, Tokenizer, normalizers, processors

from tokenspace import rng
from tokenspace.nn.layers import keep_layers, layer_list, network_of
from tokenspace.nn.quiet import quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["around", "pieces", "placed", "pooled_last"]


def placed(made: SentenceTransformer, token: str, *, drawn: bool, seed: int) -> int:
    """Add a token to a model, in place, and return its id.

    Its row is ``drawn`` from N(0, 1), or the mean of all rows.
    """
    tokenizer: Any = made.tokenizer
    network: Any = network_of(made)
    tokenizer.add_tokens([token], special_tokens=True)
    identity = int(tokenizer.convert_tokens_to_ids(token))
    with quiet(), torch.no_grad(), rng.torch_scope(seed, "placeholder"):
        rows = network.get_input_embeddings().weight
        new = torch.randn_like(rows[0]) if drawn else rows.mean(0)
        if identity >= len(rows):
            network.resize_token_embeddings(identity + 1, mean_resizing=False)
        network.get_input_embeddings().weight[identity] = new
    return identity


def pieces(made: SentenceTransformer, before: str, after: str) -> tuple[list[int], list[int]]:
    """Return the tokens that :func:`around` puts before and after a text, the start token's too.

    To be asked before it, which changes how texts are read.
    """
    parts = _parts(made, before, after)
    return [*parts["first"], *parts["before"]], parts["after"]


def _parts(made: SentenceTransformer, before: str, after: str) -> dict[str, list[int]]:
    backend = getattr(made.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ValueError("the tokenizer has no tokenizer.json")
    bare = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a", add_special_tokens=True).ids
    return {
        "first": whole[: whole.index(bare[0])] if bare and bare[0] in whole else [],
        "before": backend.encode(before, add_special_tokens=False).ids,
        "after": backend.encode(after, add_special_tokens=False).ids,
    }


def around(made: SentenceTransformer, before: str, after: str) -> None:
    """Let a model's tokenizer put ``before`` and ``after`` around every text, in place.

    They are special tokens to it: never cut, and no part of the text's own. What the tokenizer puts
    first, such as a start token, stays first; what it puts last is left out. Double quotes in a
    text become single ones, a question mark at its end a full stop, and a text without a mark at
    its end gets a full stop.
    """
    parts = _parts(made, before, after)
    tokenizer: Any = made.tokenizer
    backend = tokenizer.backend_tokenizer
    specials = [
        {"id": name, "ids": ids, "tokens": [backend.id_to_token(i) for i in ids]}
        for name, ids in parts.items()
        if ids
    ]
    order = [*(["first"] if parts["first"] else []), "before", "$A", "after"]
    backend.post_processor = processors.TemplateProcessing(
        single=" ".join(order), special_tokens=specials
    )
    clean = [
        normalizers.Replace('"', "'"),
        normalizers.Replace(Regex(r"\?\s*$"), "."),
        normalizers.Replace(Regex(r"(?<=[^.?'\s])\s*$"), "."),
    ]
    former = backend.normalizer
    backend.normalizer = normalizers.Sequence([*clean, *([former] if former else [])])


def pooled_last(
    made: SentenceTransformer, kind: type, layers: int, options: Mapping[str, Any]
) -> SentenceTransformer:
    """Return the first ``layers`` of a model as a module of ``kind``, and the last token's state.

    The norm after the last layer counts only where all layers are kept.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    network: Any = network_of(made)
    whole = layers == len(layer_list(network))
    keep_layers(network, layers)
    with tempfile.TemporaryDirectory() as folder, quiet():
        first_module: Any = made[0]
        first_module.save(folder)
        place = Path(folder) / "sentence_bert_config.json"
        settings = json.loads(place.read_text("utf-8"))
        place.write_text(json.dumps({**settings, **options, "norm": whole}), encoding="utf-8")
        loader: Any = kind
        first = loader.load(folder, local_files_only=True, model_kwargs={"dtype": "float32"})
    last = Pooling(int(network.config.hidden_size), pooling_mode="lasttoken", include_prompt=True)
    return SentenceTransformer(
        modules=[first, last],
        device=str(made.device),
        prompts={name: text or "" for name, text in made.prompts.items()},
        default_prompt_name=made.default_prompt_name,
    )
