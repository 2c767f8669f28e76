"""Modules of our own in a directory of sentence-transformers: carried along, and read back.

A method's network that stock modules cannot express is one file of ``tokenspace.encode`` which
needs torch and sentence-transformers alone (``*_net.py``). Saving copies that file into the
directory, so that ``SentenceTransformer(path, trust_remote_code=True)`` runs it on a machine
without this package. Reading such a directory here runs no file of it: the modules are built from
the installed package's classes of the same names.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenspace.checkpoint.folder import is_own, optional_json, read_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.model import BaseModel

__all__ = ["assembled", "carry", "own"]

_HOME = "tokenspace.encode"


def own(folder: Path) -> dict[str, type]:
    """Return our classes that the directory's modules are of, by how ``modules.json`` says it."""
    found: dict[str, type] = {}
    if (folder / "modules.json").is_file():
        for module in read_json(folder / "modules.json"):
            reference = str(module.get("type")) if isinstance(module, Mapping) else ""
            if is_own(reference):
                file, _, name = reference.partition(".")
                found[reference] = getattr(import_module(f"{_HOME}.{file}"), name)
    return found


def assembled(folder: Path, own: Mapping[str, type], device: str) -> SentenceTransformer:
    """Return the model of a directory, with our classes for the modules that are ours."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import import_from_string

    made: list[Any] = []
    for module in read_json(folder / "modules.json"):
        reference = module["type"]
        kind: Any = own.get(reference) or import_from_string(reference)
        made.append(
            kind.load(
                str(folder),
                subfolder=module["path"],
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": "float32"},
                processor_kwargs={},
                config_kwargs={},
                backend="torch",
            )
        )
    settings = optional_json(folder / "config_sentence_transformers.json")
    return SentenceTransformer(
        modules=made,
        device=device,
        prompts=settings.get("prompts") or {},
        default_prompt_name=settings.get("default_prompt_name"),
        similarity_fn_name=settings.get("similarity_fn_name"),
        truncate_dim=settings.get("truncate_dim"),
    )


def carry(model: BaseModel, folder: Path) -> None:
    """Copy the files of our modules into a directory that ``model`` was saved to, and name them."""
    listing = read_json(folder / "modules.json")
    changed = False
    for entry, module in zip(listing, model, strict=True):
        kind = type(module)
        if kind.__module__.startswith(f"{_HOME}."):
            file = kind.__module__.rpartition(".")[2]
            shutil.copyfile(inspect.getfile(kind), folder / f"{file}.py")
            entry["type"], changed = f"{file}.{kind.__name__}", True
    if changed:
        content = json.dumps(listing, indent=2) + "\n"
        (folder / "modules.json").write_text(content, encoding="utf-8")
