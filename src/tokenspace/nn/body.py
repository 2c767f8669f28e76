"""The kinds of pretrained model: a transformer with one pooling, or any list of modules.

The common directory (a transformer, one pooling, perhaps a normalisation) runs on transformers
alone, because importing sentence-transformers takes longer than encoding a thousand passages;
every other list of modules is handed to sentence-transformers itself. Both are one
:class:`Body` to :class:`~tokenspace.nn.encoder.ModelEncoder`.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from tokenspace.checkpoint.folder import CONVERTED, optional_json, read_json
from tokenspace.errors import FormatError, InputError
from tokenspace.nn import modules, pool
from tokenspace.nn.attention import check_attention
from tokenspace.nn.onnx_body import OnnxBody
from tokenspace.nn.quiet import quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Body", "body_of", "load_body", "opened"]

Pool = Callable[[Tensor, Tensor], Tensor]

POOLS: Mapping[str, Pool] = {
    "cls_token": pool.cls_token,
    "lasttoken": pool.last_token,
    "max_tokens": pool.max_tokens,
    "mean_tokens": pool.mean_tokens,
}
"""Pooling by the words of sentence-transformers' configuration, ``pooling_mode_`` left out."""


class Body(Protocol):
    """A network with its tokenizer: what differs between kinds of model directories."""

    tokenizer: Tokenizer
    special: bool  # the tokenizer adds special tokens such as [CLS]
    pad: int
    dim: int

    @property
    def advised(self) -> int | None:
        """How many tokens of a text the vectors are good for, where that is less than fit."""

    @property
    def pools_prompt(self) -> bool:
        """Whether the tokens of a prompt take part in the pooling."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    @property
    def precision(self) -> str:
        """What the network multiplies in; what it gives is float32."""

    @property
    def module(self) -> nn.Module:
        """All that has weights."""

    @property
    def multiplied(self) -> int:
        """How many weights in float32 the processor multiplies with; of what is no network, 0."""

    def in_bfloat16(self) -> Body:
        """Return the same body with a copy of the network that multiplies in bfloat16."""

    def states(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """Return the last hidden states (B, T, H) of padded ids, mask and segments, all (B, T)."""

    def every_layer(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, ...]:
        """Return what enters the first layer and what leaves each, (B, T, H) all of them."""

    def encoded(
        self, ids: Tensor, mask: Tensor, types: Tensor, prompt: int
    ) -> tuple[Tensor, Tensor]:
        """Return the last hidden states, and one vector a text (B, D).

        The first ``prompt`` tokens of every text belong to a prompt.
        """

    def save(self, folder: Path, prompts: Mapping[str, str], default: str | None) -> None:
        """Write a directory that ``SentenceTransformer`` loads."""


def load_body(
    folder: Path, settings: Mapping[str, Any], *, trust_remote_code: bool, device: str
) -> Body:
    """Load the network of an inspected directory; ``settings`` are its sentence-level ones."""
    if (folder / CONVERTED).is_file():
        return OnnxBody(folder)
    with quiet():
        plan = _simple(folder, settings)
        if plan is None:
            return _Modules(opened(folder, trust_remote_code, device), folder)
        return _Transformer(folder, trust_remote_code, device, **plan)


def body_of(model: SentenceTransformer, name: str) -> Body:
    """Return a model of sentence-transformers as a body; ``name`` is what messages call it."""
    return _Modules(model, Path(name))


def opened(folder: Path, trust_remote_code: bool, device: str) -> SentenceTransformer:
    """Return the model of an inspected directory as sentence-transformers has it.

    Raises :class:`FormatError` for a damaged directory.
    """
    from sentence_transformers import SentenceTransformer

    own = modules.own(folder)
    try:
        if own:
            return modules.assembled(folder, own, device)
        return SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
        raise _damaged(folder, fault) from fault


class _Transformer:
    """A transformer, one pooling, perhaps a normalisation, run on transformers alone."""

    special = True
    advised: int | None = None

    def __init__(
        self,
        folder: Path,
        trust_remote_code: bool,
        device: str,
        *,
        pooling: str,
        unit: bool,
        include_prompt: bool,
        limit: int | None,
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        try:
            self.wordpieces = AutoTokenizer.from_pretrained(folder, **local)
            network, loading = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **local,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
            raise _damaged(folder, fault) from fault
        missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
        if missing:
            raise FormatError(
                f"{folder}: the weights lack {missing[0]!r} and {len(missing) - 1} others",
                hint="the weights do not belong to config.json: copy the directory again",
            )
        self.network: nn.Module = network.to(device).eval()
        check_attention(self.network, str(folder))
        self.config = network.config
        self.pooling, self.unit, self.include_prompt = pooling, unit, include_prompt
        self.dim = int(self.config.hidden_size)
        self.pad = self.wordpieces.pad_token_id or 0
        self.limit = limit or self._limit()
        self.segments = "token_type_ids" in self.wordpieces.model_input_names
        self.tokenizer = _prepared(self.wordpieces, self.limit, folder)

    def _limit(self) -> int | None:
        """Return how many tokens fit, where the tokenizer or the positions say so."""
        positions = getattr(self.config, "max_position_embeddings", None) or math.inf
        embeddings = getattr(self.network, "embeddings", None)
        # RoBERTa counts positions from padding_idx + 1, so its table has that many too many
        positions -= (getattr(embeddings, "padding_idx", None) or -1) + 1
        limit = min(self.wordpieces.model_max_length, positions)
        return int(limit) if limit < 1e9 else None

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def precision(self) -> str:
        return _precision(self.network)

    @property
    def module(self) -> nn.Module:
        return self.network

    @property
    def multiplied(self) -> int:
        return _multiplied(self.network)

    @property
    def pools_prompt(self) -> bool:
        return self.include_prompt

    def in_bfloat16(self) -> Self:
        made = copy.copy(self)
        made.network = copy.deepcopy(self.network).to(torch.bfloat16)
        return made

    def states(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        segments = {"token_type_ids": types} if self.segments else {}
        output = self.network(input_ids=ids, attention_mask=mask.long(), **segments)
        hidden: Tensor = output.last_hidden_state
        return hidden.float()  # so that bfloat16 rounds no mean

    def every_layer(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, ...]:
        segments = {"token_type_ids": types} if self.segments else {}
        output = self.network(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, **segments
        )
        layers: tuple[Tensor, ...] = tuple(output.hidden_states)
        return layers

    def encoded(
        self, ids: Tensor, mask: Tensor, types: Tensor, prompt: int
    ) -> tuple[Tensor, Tensor]:
        states = self.states(ids, mask, types)
        if prompt and not self.include_prompt:
            mask = mask.clone()
            mask[:, :prompt] = False
        vectors = POOLS[self.pooling](states, mask)
        return states, normalize(vectors, dim=1) if self.unit else vectors

    def save(self, folder: Path, prompts: Mapping[str, str], default: str | None) -> None:
        with quiet():
            self.network.save_pretrained(folder)  # type: ignore[operator]
            self.wordpieces.save_pretrained(folder)
        kinds = ["Transformer", "Pooling", *(["Normalize"] if self.unit else [])]
        places = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index)]
        listing = [
            {
                "idx": i,
                "name": str(i),
                "path": place,
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, (place, kind) in enumerate(zip(places, kinds, strict=True))
        ]
        pooling = {"word_embedding_dimension": self.dim, "include_prompt": self.include_prompt}
        pooling |= {f"pooling_mode_{name}": name == self.pooling for name in POOLS}
        for place in places[1:]:
            (folder / place).mkdir()
        for name, content in {
            "modules.json": listing,
            "sentence_bert_config.json": {"max_seq_length": self.limit, "do_lower_case": False},
            "1_Pooling/config.json": pooling,
            "config_sentence_transformers.json": {
                "prompts": dict(prompts),
                "default_prompt_name": default,
            },
        }.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class _Modules:
    """Any other list of modules, run by sentence-transformers; a static table is one of them.

    ``folder`` is what messages call the model.
    """

    def __init__(self, model: SentenceTransformer, folder: Path) -> None:
        self.model = model.eval()
        self.first: Any
        self.first, *self.rest = list[Any](self.model)
        kind = type(self.first).__name__  # by name: the classes move between releases
        self.static = kind == "StaticEmbedding"
        self.special = not self.static
        self.advised: int | None = getattr(self.first, "advised", None)
        if self.static:
            self.pad = 0
            self.tokenizer = Tokenizer.from_str(self.first.tokenizer.to_str())
            self.tokenizer.no_truncation()
        elif hasattr(self.first, "auto_model") and "text" in getattr(
            self.first, "modality_config", ["text"]
        ):
            limit = self.first.max_seq_length
            limit = int(limit) if limit is not None and limit < 1e9 else None
            self.pad = self.first.tokenizer.pad_token_id or 0
            self.tokenizer = _prepared(self.first.tokenizer, limit, folder)
            check_attention(self.first.auto_model, str(folder))
        else:
            raise InputError(
                f"{folder}: a first module of type {kind} gives no vectors of tokens",
                hint="give a model that starts with a text transformer or a static embedding",
            )
        with torch.inference_mode():
            probe = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
            self.dim = self.encoded(probe, probe == 0, probe, 0)[1].shape[1]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def precision(self) -> str:
        return _precision(self.first)

    @property
    def module(self) -> nn.Module:
        return self.model

    @property
    def multiplied(self) -> int:
        return 0 if self.static else _multiplied(self.model)

    @property
    def pools_prompt(self) -> bool:
        return all(getattr(module, "include_prompt", True) for module in self.rest)

    def in_bfloat16(self) -> Self:
        made = copy.copy(self)
        made.model = copy.deepcopy(self.model)
        made.first, *made.rest = list[Any](made.model)
        made.first.to(torch.bfloat16)
        return made

    def states(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        if self.static:
            return embedding(ids, self.first.embedding.weight)
        states: Tensor = self.first(self._features(ids, mask, types))["token_embeddings"]
        return states.float()

    def every_layer(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, ...]:
        if self.static:
            return (self.states(ids, mask, types),)
        network = self.first.auto_model
        output = network(**self._features(ids, mask, types), output_hidden_states=True)
        return tuple(output.hidden_states)

    def _features(self, ids: Tensor, mask: Tensor, types: Tensor) -> dict[str, Tensor]:
        features = {"input_ids": ids, "attention_mask": mask.long()}
        if "token_type_ids" in self.first.tokenizer.model_input_names:
            features["token_type_ids"] = types
        return features

    def encoded(
        self, ids: Tensor, mask: Tensor, types: Tensor, prompt: int
    ) -> tuple[Tensor, Tensor]:
        features: dict[str, Any] = {}
        if self.static:  # its own forward is this mean, over ids laid end to end
            states = self.states(ids, mask, types)
            features["sentence_embedding"] = pool.mean_tokens(states, mask)
        else:
            features = self.first(self._features(ids, mask, types))
            states = features["token_embeddings"].float()
        features |= {"token_embeddings": states, "attention_mask": mask.long()}
        if prompt:
            features["prompt_length"] = prompt
        for module in self.rest:
            features = module(features)
        vectors: Tensor = features["sentence_embedding"]
        return states, vectors[:, : self.model.truncate_dim]

    def save(self, folder: Path, prompts: Mapping[str, str], default: str | None) -> None:
        self.model.prompts, self.model.default_prompt_name = dict(prompts), default
        with quiet():
            self.model.save(str(folder), create_model_card=False)
        modules.carry(self.model, folder)


def _simple(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how to run the directory on transformers alone, or None where that is not enough."""
    config = optional_json(folder / "config.json")
    if config.get("is_encoder_decoder") or "hidden_size" not in config:
        return None
    if not (folder / "modules.json").exists():
        return {"pooling": "mean_tokens", "unit": False, "include_prompt": True, "limit": None}
    listed = read_json(folder / "modules.json")
    try:
        kinds = [module["type"].rpartition(".")[2] for module in listed]
        places = [(folder / module["path"]).resolve() for module in listed]
    except (TypeError, KeyError, AttributeError) as fault:
        raise FormatError(
            f"{folder / 'modules.json'}: not a list of modules",
            hint="save the model again with sentence-transformers",
        ) from fault
    if not all(place.is_relative_to(folder.resolve()) for place in places):
        raise InputError(
            f"{folder / 'modules.json'}: a path leads outside the directory",
            hint="move that folder into the directory, and name it there",
        )
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    if settings.get("truncate_dim") is not None or places[0] != folder.resolve():
        return None
    first: dict[str, Any] = {}
    for path in sorted(folder.glob("sentence_*_config.json")):
        first |= read_json(path)
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    usual = {
        "do_lower_case": False,
        "transformer_task": "feature-extraction",
        "modality_config": {"text": text},
        "module_output_name": "token_embeddings",
        "max_seq_length": first.get("max_seq_length"),
    }
    second = read_json(places[1] / "config.json")
    given = [key.removeprefix("pooling_mode_") for key, on in second.items() if on is True]
    modes = [mode for mode in given if mode != "include_prompt"]
    if isinstance(second.get("pooling_mode"), str):
        modes = [name for name in POOLS if name.startswith(second["pooling_mode"])]
    third = optional_json(places[2] / "config.json") if len(places) > 2 else {}
    plain = third.get("module_input_name", "sentence_embedding") == "sentence_embedding"
    if any(first[key] != usual.get(key) for key in first) or len(modes) != 1 or not plain:
        return None
    if modes[0] not in POOLS:
        return None
    return {
        "pooling": modes[0],
        "unit": len(kinds) > 2,
        "include_prompt": second.get("include_prompt", True),
        "limit": first.get("max_seq_length"),
    }


def _multiplied(network: nn.Module) -> int:
    every = list(network.parameters())
    plain = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in every)
    return sum(each.numel() for each in every) if plain else 0


def _precision(network: nn.Module) -> str:
    return str(next(network.parameters()).dtype).removeprefix("torch.")


def _prepared(wordpieces: Any, limit: int | None, folder: Path) -> Tokenizer:
    """Return the fast tokenizer behind one of transformers, cutting at ``limit``, not padding."""
    tokenizer = getattr(wordpieces, "backend_tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(
            f"{folder}: the tokenizer has no tokenizer.json, so places in the text are unknown",
            hint="write the directory again with a fast tokenizer",
        )
    tokenizer.no_padding()
    if limit is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(limit)
    return tokenizer


def _damaged(folder: Path, fault: Exception) -> FormatError:
    reason = str(fault).strip().split("\n")[0]
    return FormatError(
        f"{folder}: cannot be loaded ({type(fault).__name__}: {reason})",
        hint="write or download the directory again",
    )
