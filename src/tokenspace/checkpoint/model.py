"""A model directory, known from its headers and settings: nothing of the model is built."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenspace.errors import FormatError, InputError
from tokenspace.io import TensorEntry
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

from . import tensors as _tensors
from .adapter import Adapter
from .folder import called, locate, optional_json, read_json
from .ids import untie, vocabulary_sizes
from .tensors import VocabTensor
from .weights import Part, Shard, find_parts, floats

__all__ = ["Checkpoint", "load"]

log = logging.getLogger(__name__)

_HEAD = re.compile(
    r"(ForCausalLM|LMHeadModel|ForMaskedLM|ForConditionalGeneration|ForPreTraining)$"
)
_CAUSAL = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
_MASKED = re.compile(r"(ForMaskedLM|ForPreTraining)$")
_TEXT = ("text_config", "llm_config", "language_config")
_HEADS = {
    "gpt_neox": "embed_out.weight",
    "bert": "cls.predictions.decoder.weight",
    "roberta": "lm_head.decoder.weight",
    "xlm-roberta": "lm_head.decoder.weight",
    "distilbert": "vocab_projector.weight",
    "modernbert": "decoder.weight",
    "whisper": "proj_out.weight",
}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A pretrained model on disk: where its vocabulary shows, and everything else by reference.

    ``root`` is the directory that was named; ``folder`` the one with weights, settings and
    tokenizer: the same, or the first module's inside a sentence-transformers directory. ``parts``
    are the files of weights. ``adapter`` is a PEFT adapter that is carried over with the model;
    ``tokens`` the directory of the tokenizer, where it is not ``folder``.
    """

    root: Path
    folder: Path
    config: Mapping[str, Any]
    parts: tuple[Part, ...]
    mapping: Mapping[str, int | None] = field(default_factory=dict)
    adapter: Adapter | None = None
    tokens: Path | None = None

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        trust_remote_code: bool = False,
        mapping: Mapping[str, int | None] | None = None,
        base: str | Path | None = None,
        merge_adapter: bool = False,
    ) -> Checkpoint:
        """Open a directory, an installed package that carries a model, or a hub id.

        Parameters
        ----------
        model : str or Path
            What to open. Weights that exist only as a pickle are read by ``torch.load`` with
            ``weights_only=True`` and ``mmap=True``, which needs the extra ``models``.
        trust_remote_code : bool
            Allow directories whose settings name code of their own. It is copied, never run.
        mapping : mapping from tensor name to axis, optional
            Settles what :attr:`tensors` cannot tell: the axis that counts tokens, or None for a
            tensor that has nothing to do with tokens.
        base : str or Path, optional
            The model of a PEFT adapter, where it is not what the adapter's settings name.
        merge_adapter : bool
            Merge a PEFT adapter into the model: needed where it changes vocabulary tensors.

        Raises
        ------
        InputError
            When there is nothing, or the directory asks for code of its own, or an adapter
            changes vocabulary tensors and is not to be merged.
        FormatError
            When weights or settings are damaged or missing.
        """
        root = locate(str(model), trust_remote_code=trust_remote_code, pickles=True, adapters=True)
        if (root / "adapter_config.json").is_file() and not (root / "config.json").is_file():
            return cls._with_adapter(
                Adapter.open(root), base, merge_adapter, trust_remote_code, mapping
            )
        folder = _inner(root)
        config = _config(folder)
        made = cls(root, folder, config, _parts(folder), dict(mapping or {}))
        log.debug("%s: %d files of weights", root, len(made.parts))
        return made

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Open a model as any other input of a method is loaded: :meth:`open` by its path alone."""
        return cls.open(path)

    @classmethod
    def _with_adapter(
        cls,
        adapter: Adapter,
        base: str | Path | None,
        merge: bool,
        trust_remote_code: bool,
        mapping: Mapping[str, int | None] | None,
    ) -> Checkpoint:
        if not adapter.base and base is None:
            raise InputError(f"{adapter.folder}: the adapter names no model", hint="give --base")
        made = cls.open(base or adapter.base, trust_remote_code=trust_remote_code, mapping=mapping)
        if not merge:
            adapter.check_carried({t.name for t in made.tensors} | made.ties.keys())
            return replace(made, adapter=adapter)
        shared = adapter.touching({made.tensors[0].name, *made.ties})
        if shared and made.kind == "encoder-decoder":
            raise InputError(
                f"{adapter.folder}: the adapter changes {', '.join(shared)}, which encoder and"
                " decoder share",
                hint="merge it once: model.merge_and_unload().save_pretrained(DIR)",
            )
        merged = replace(made, parts=adapter.merge(made.parts, made.ties, made.model_type))
        config: dict[str, Any] = json.loads(json.dumps(made.config))
        for path in vocabulary_sizes(config, made.rows):
            inner = config
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = merged.rows
        if made.tied and not merged.tied:
            untie(config)
        grown = merged.rows != made.rows and (adapter.folder / "tokenizer.json").is_file()
        return replace(merged, config=config, tokens=adapter.folder if grown else None)

    # What the settings say

    @property
    def name(self) -> str:
        """What the model is called: the name of its directory, or its id or package."""
        return called(self.root)

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers, e.g. ``bert``; empty where none is given."""
        return str(self.config.get("model_type", ""))

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes of transformers that wrote the model."""
        return tuple(str(name) for name in self.config.get("architectures") or ())

    @cached_property
    def kind(self) -> str:
        """``encoder``, ``decoder`` or ``encoder-decoder``."""
        if self.config.get("is_encoder_decoder") or self.model_type in ("t5", "mt5", "umt5"):
            return "encoder-decoder"
        if (self.root / "modules.json").is_file():
            return "encoder"
        if any(_CAUSAL.search(name) for name in self.architectures):
            return "decoder"
        if self.masked or {"cls", "mask"} & self.vocab.roles.keys():
            return "encoder"
        return "decoder"

    @property
    def masked(self) -> bool:
        """Whether it is a masked language model, with its head."""
        return any(_MASKED.search(name) for name in self.architectures)

    @property
    def headed(self) -> bool:
        """Whether the model predicts tokens: it has an output matrix, its own or its input."""
        return any(_HEAD.search(name) for name in self.architectures)

    def setting(self, key: str) -> Any:
        """Return an entry of config.json, also from the part that describes the text model."""
        places = [self.config, *(self.config[name] for name in _TEXT if name in self.config)]
        return next(
            (p[key] for p in places if isinstance(p, dict) and p.get(key) is not None), None
        )

    @cached_property
    def tokenizer_settings(self) -> Mapping[str, Any]:
        """``tokenizer_config.json`` of the model."""
        return optional_json((self.tokens or self.folder) / "tokenizer_config.json")

    # The vocabulary and what depends on it

    @cached_property
    def tensors(self) -> tuple[VocabTensor, ...]:
        """Every tensor that depends on the vocabulary, the input matrix first."""
        return _tensors.find(
            str(self.root),
            self.parts,
            tied=self._says_tied,
            head=self.headed,
            mapping=self.mapping,
        )

    @property
    def _says_tied(self) -> bool | None:
        said = self.setting("tie_word_embeddings")
        return said if isinstance(said, bool) else None

    @property
    def tied(self) -> bool:
        """Whether there is no output matrix besides the input matrix."""
        return all(tensor.role != "output" for tensor in self.tensors)

    @property
    def head(self) -> str:
        """The name that an output matrix of its own would have."""
        return _HEADS.get(self.model_type, "lm_head.weight")

    @property
    def ties(self) -> Mapping[str, str]:
        """Tensors that are another one, whose name they give: the other names of the input matrix.

        For a tied model also those that it would have beside it with an output matrix of its own.
        """
        first = self.tensors[0]
        made = dict.fromkeys(first.aliases, first.name)
        if not self.tied or not self.headed:
            return made
        made[self.head] = first.name
        bias = self.head.removesuffix(".decoder.weight") + ".bias"
        if any(tensor.name == bias for tensor in self.tensors):
            # BERT and its kin: the layer's own bias is tied as well
            made[self.head.replace(".weight", ".bias")] = bias
        if first.name.endswith("shared.weight") and "t5" not in self.model_type:
            for side in ("encoder", "decoder"):  # BART's one flag ties these too
                made[first.name.replace("shared", f"{side}.embed_tokens")] = first.name
        return made

    @property
    def rows(self) -> int:
        """The number of rows of the input matrix."""
        first = self.tensors[0]
        return self.entry(first.name).shape[first.axis]

    @property
    def width(self) -> int:
        """The width of the input matrix."""
        return self.entry(self.tensors[0].name).shape[1]

    @cached_property
    def vocab(self) -> Vocabulary:
        """The model's vocabulary, as long as its input matrix is high.

        Rows without a token are ``holes``, tokens without a row ``ghosts``.
        """
        return _vocabulary(self.tokens or self.folder, self.rows)[0]

    def part(self, name: str) -> Part:
        """Return the file that holds a tensor."""
        return next(part for part in self.parts if name in part.entries)

    def entry(self, name: str) -> TensorEntry:
        """Return dtype and shape of a tensor."""
        return self.part(name).entries[name]

    def table(self, part: str = "input") -> EmbeddingTable:
        """Return the ``input`` or ``output`` matrix, or one by name, with the vocabulary.

        float32 stays memory-mapped, narrower types are widened. The output of a tied model is its
        input.
        """
        tied = part == "output" and self.tied
        role = "input" if tied else part
        name = next((t.name for t in self.tensors if t.role == role), part)
        if name in ("input", "output") or all(name not in p.entries for p in self.parts):
            raise InputError(
                f"{self.root}: no matrix called {part!r}", hint="input, output, or a tensor's name"
            )
        holder = self.part(name)
        notes = {
            "source": self.name,
            "tensor": name,
            "dtype": holder.entries[name].dtype,
            "tied": tied,
            "ghosts": len(self.vocab.ghosts),
            "padding_rows": self.rows - len(_trimmed(self.vocab)),
        }
        return _table(self.vocab, holder, name, notes)


def load(folder: Path, part: str) -> EmbeddingTable:
    """Load ``part`` of a model: ``input``, ``output``, or a tensor by its full name.

    float16 and bfloat16 are widened to float32; float32 stays memory-mapped. An output matrix
    that is tied to the input is the input. Rows without a token become holes of the vocabulary,
    tokens without a row are left out; ``notes`` counts both.
    """
    shards = [Shard(file) for file in find_parts(folder)]
    config = _config(folder)
    said = config.get("tie_word_embeddings")
    name, tied = _tensors.choose(
        str(folder), part, shards, tied=said if isinstance(said, bool) else None
    )
    shard = next(shard for shard in shards if name in shard.entries)
    entry = shard.entries[name]
    vocab, ghosts, padding = _vocabulary(folder, entry.shape[0])
    if ghosts or padding:
        log.info("%s: %d tokens without a row, %d rows without a token", folder, ghosts, padding)
    notes: dict[str, Any] = {"source": folder.name, "tensor": name, "dtype": entry.dtype}
    notes |= {"tied": tied, "ghosts": ghosts, "padding_rows": padding}
    return _table(vocab, shard, name, notes)


def _table(vocab: Vocabulary, part: Part, name: str, notes: dict[str, Any]) -> EmbeddingTable:
    """Make a table of a tensor; a fault of its rows names the file."""
    try:
        return EmbeddingTable(vocab, floats(part, name), None, notes)
    except InputError as fault:
        raise InputError(
            f"{part.path}: {name}: {str(fault).removeprefix('table: ')}",
            hint="the model is damaged, or its training has diverged: get it again",
        ) from fault


def _vocabulary(folder: Path, rows: int) -> tuple[Vocabulary, int, int]:
    """Return the vocabulary cut or padded to ``rows``, and how many ghosts and padding rows."""
    vocab = Vocabulary.load(folder)
    ghosts, padding = max(len(vocab) - rows, 0), max(rows - len(vocab), 0)
    if not ghosts and not padding:
        return vocab, 0, 0
    if vocab.tokenizer is None:
        if ghosts:
            raise FormatError(
                f"{folder}: {rows} rows for {len(vocab)} words",
                hint="files of two models are mixed",
            )
        return Vocabulary([*vocab.tokens, *[""] * padding]), 0, padding
    roles = {role: vocab.tokens[i] for role, i in vocab.roles.items() if i < rows}
    return Vocabulary.of(vocab.tokenizer, rows=rows, roles=roles), ghosts, padding


def _trimmed(vocab: Vocabulary) -> Sequence[str]:
    end = len(vocab)
    while end and not vocab.tokens[end - 1]:
        end -= 1
    return vocab.tokens[:end]


def _inner(root: Path) -> Path:
    """Return the folder of the transformer inside a sentence-transformers directory."""
    path = root / "modules.json"
    if not path.is_file():
        return root
    modules = read_json(path)
    try:
        inner = root / str(modules[0]["path"])
    except (TypeError, LookupError) as fault:
        raise FormatError(
            f"{path}: no first module with a path",
            hint="save the model again with sentence-transformers",
        ) from fault
    if not inner.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{path}: the path {modules[0]['path']!r} leads outside {root}",
            hint="move that folder into the directory, and name it there",
        )
    return inner


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    return config if isinstance(config, dict) else {}


def _parts(folder: Path) -> tuple[Part, ...]:
    if not any(folder.glob("*.safetensors")) and any(folder.glob("pytorch_model*.bin")):
        from tokenspace.nn.pickled import open_pickles

        return open_pickles(folder)
    files = find_parts(folder)
    if any(file.parent != folder for file in files):
        raise FormatError(f"{folder}: no model.safetensors in it", hint=f"give {files[0].parent}")
    return tuple(Shard(file) for file in files)
