"""The input or output matrix of a model directory, read from its safetensors and nothing else."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from .errors import FormatError
from .io import TensorEntry, read_tensors, tensor_entries
from .table import EmbeddingTable
from .vocab import Vocabulary

__all__ = ["load"]

log = logging.getLogger(__name__)

# The last names of a tensor's path, in order of preference (vocabulary.md, 0.4).
_INPUT = (
    "shared",
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "tok_embeddings",
    "tokens_embed",
    "word_embedding",
    "token_embedding",
    "embeddings",
    "embedding",
)
_OUTPUT = (
    "lm_head",
    "embed_out",
    "lm_head.decoder",
    "cls.predictions.decoder",
    "predictions.decoder",
    "vocab_projector",
    "output",
)


def load(folder: Path, part: str) -> EmbeddingTable:
    """Load ``part`` of a model: ``input``, ``output``, or a tensor by its full name.

    float16 and bfloat16 are widened to float32; float32 stays memory-mapped. An output matrix
    that is tied to the input is the input. Rows without a token become holes of the vocabulary,
    tokens without a row are left out; ``notes`` counts both.
    """
    files = _files(folder)
    entries: dict[str, tuple[Path, TensorEntry]] = {}
    for file in files:
        for name, entry in tensor_entries(file).items():
            if len(entry.shape) == 2 and entry.dtype in ("F32", "F16", "BF16", "F64"):
                entries[name] = (file, entry)
    config = _config(folder)
    name, tied = _choose(folder, part, entries, config)
    file, entry = entries[name]
    vocab = Vocabulary.load(folder)
    rows = entry.shape[0]
    ghosts, padding = max(len(vocab) - rows, 0), max(rows - len(vocab), 0)
    if ghosts and vocab.tokenizer is None:
        raise FormatError(
            f"{file}: {rows} rows for {len(vocab)} words", hint="files of two models are mixed"
        )
    if ghosts or padding:
        if vocab.tokenizer is None:
            vocab = Vocabulary([*vocab.tokens, *[""] * padding])
        else:
            vocab = Vocabulary.of(vocab.tokenizer, rows=rows, roles=_by_name(vocab, rows))
        log.info("%s: %d tokens without a row, %d rows without a token", folder, ghosts, padding)
    notes: dict[str, Any] = {"source": folder.name, "tensor": name, "dtype": entry.dtype}
    notes |= {"tied": tied, "ghosts": ghosts, "padding_rows": padding}
    vectors = np.asarray(read_tensors(file, (name,))[name], np.float32)
    return EmbeddingTable(vocab, vectors, None, notes)


def _by_name(vocab: Vocabulary, rows: int) -> dict[str, str | None]:
    return {role: vocab.tokens[i] for role, i in vocab.roles.items() if i < rows}


def _files(folder: Path) -> list[Path]:
    """Return the safetensors files of the model, all shards of it."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise FormatError(f"{index}: not whole ({fault})", hint="get it again") from fault
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise FormatError(f"{folder / shard}: missing", hint="get all shards of the model")
        return [folder / shard for shard in shards]
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*/model.safetensors"))
    found = [file for file in found if not file.name.startswith("adapter_")]
    whole = [file for file in found if file.name == "model.safetensors"]
    if len(whole) == 1:
        return whole
    if found:
        return found
    if any(folder.glob("adapter_model.*")):
        raise FormatError(f"{folder}: an adapter without its model", hint="merge the adapter first")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise FormatError(
            f"{folder}: weights only as a pickle, which could run code",
            hint="convert it once: MODEL.save_pretrained(DIR) writes model.safetensors",
        )
    raise FormatError(
        f"{folder}: neither table.json nor model.safetensors in it",
        hint="give a table, a model directory, or a file of word vectors",
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except ValueError as fault:
        raise FormatError(f"{path}: not whole JSON ({fault})", hint="get it again") from fault
    return config if isinstance(config, dict) else {}


def _choose(
    folder: Path,
    part: str,
    entries: dict[str, tuple[Path, TensorEntry]],
    config: dict[str, Any],
) -> tuple[str, bool]:
    """Return the name of the tensor, and whether it is an input matrix that serves the output."""
    if part not in ("input", "output"):
        if part in entries:
            return part, False
        raise FormatError(
            f"{folder}: no matrix called {part!r}",
            hint="matrices: " + ", ".join(sorted(entries)[:8]) + ", …",
        )
    if part == "output":
        name = _find(folder, _OUTPUT, entries)
        if name is not None:
            return name, False
        if config.get("tie_word_embeddings") is False:
            raise FormatError(
                f"{folder}: no output matrix, and config.json says that it is not tied",
                hint="load the input matrix, or name a tensor: DIR#NAME",
            )
    name = _find(folder, _INPUT, entries)
    if name is None:
        raise FormatError(
            f"{folder}: no matrix of token vectors under a known name",
            hint="name it, DIR#NAME; matrices: " + ", ".join(sorted(entries)[:8]) + ", …",
        )
    return name, part == "output"


def _find(
    folder: Path, known: tuple[str, ...], entries: dict[str, tuple[Path, TensorEntry]]
) -> str | None:
    """Return the one tensor under the first known name; equal copies of it count as one."""
    for ending in known:
        pattern = re.compile(rf"(?:^|\.){re.escape(ending)}(?:\.weight)?$")
        names = [name for name in entries if pattern.search(name)]
        if len(names) > 1:
            kept = {_digest(*entries[name], name): name for name in reversed(sorted(names))}
            if len(kept) > 1:
                raise FormatError(
                    f"{folder}: {len(kept)} different matrices could be meant: "
                    + ", ".join(sorted(names)),
                    hint=f"name one: {folder.name}#{sorted(names)[0]}",
                )
            names = list(kept.values())
        if names:
            return names[0]
    return None


def _digest(file: Path, entry: TensorEntry, name: str) -> tuple[tuple[int, ...], bytes]:
    return entry.shape, hashlib.blake2b(read_tensors(file, (name,))[name].tobytes()).digest()
