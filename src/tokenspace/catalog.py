"""The table: one line for every method. Nothing else in the library lists them.

``--help``, ``list``, ``compare``, the documentation, the contract tests and the lazy attributes
of the families all read it. It imports nothing of ours and nothing heavy.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from .recipe import Recipe

__all__ = ["CATALOG", "FAMILIES", "Entry", "Family", "family", "find", "members"]


@dataclass(frozen=True)
class Entry:
    """One method: where it lives, where it comes from, and what it does in one line."""

    family: str
    name: str
    target: str
    paper: str
    summary: str
    stability: Literal["stable", "preview"] = "stable"
    preset: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> type[Recipe]:
        """Import and return the recipe's class."""
        module, _, attribute = self.target.partition(":")
        recipe: type[Recipe] = getattr(import_module(module), attribute)
        return recipe

    def claim(self) -> ModuleType:
        """Import and return the module that holds the claim and its measurement."""
        return import_module(f"tokenspace.claims.{self.name}")


@dataclass(frozen=True)
class Family:
    """A verb: what the user wants done, and what a call takes and gives."""

    name: str
    summary: str
    signature: str


FAMILIES = (
    Family("transplant", "Give a model another vocabulary.", "(source, target) -> EmbeddingTable"),
    Family("words", "Learn vectors for words or tokens from text.", "(corpus) -> EmbeddingTable"),
    Family("compress", "Store a table of vectors in fewer bytes.", "(vectors) -> Lookup"),
    Family("encode", "Turn texts into vectors.", "(corpus) -> TextEncoder"),
    Family("retrieve", "Search documents by the vectors of their tokens.", "(docs) -> Index"),
)

CATALOG = (
    Entry(
        "transplant",
        "mean",
        "tokenspace.transplant.mean:Mean",
        "arXiv:2407.05841",
        "Give every unseen token the mean of the source rows.",
    ),
    Entry(
        "transplant",
        "omp",
        "tokenspace.transplant.omp:OMP",
        "arXiv:2506.06607",
        "Rebuild unseen rows as sparse sums of shared anchors, with a donor's coefficients.",
    ),
    Entry(
        "words",
        "cbow",
        "tokenspace.words.cbow:CBOW",
        "arXiv:1301.3781",
        "Learn vectors by predicting a word from the mean of its neighbours.",
    ),
    Entry(
        "words",
        "sgns",
        "tokenspace.words.sgns:SGNS",
        "arXiv:1310.4546",
        "Learn vectors by predicting a word from each neighbour, against sampled noise.",
    ),
    Entry(
        "compress",
        "int8",
        "tokenspace.compress.int8:Int8",
        "arXiv:2103.13630",
        "Store each row as 8-bit integers with a scale of its own.",
    ),
    Entry(
        "encode",
        "sif",
        "tokenspace.encode.sif:SIF",
        "ICLR 2017 (Arora, Liang, Ma)",
        "Average a text's token vectors, rare tokens more, and remove their common direction.",
    ),
    Entry(
        "retrieve",
        "maxsim",
        "tokenspace.retrieve.maxsim:MaxSim",
        "arXiv:2004.12832",
        "Score every document exactly: each query token takes its best document token.",
    ),
    Entry(
        "retrieve",
        "muvera",
        "tokenspace.retrieve.muvera:MUVERA",
        "arXiv:2405.19504",
        "Find candidates through one fixed-size vector a document, then score them exactly.",
    ),
)


def find(name: str) -> Entry:
    """Return the entry called ``name``; an unknown name is refused with a near miss."""
    for entry in CATALOG:
        if entry.name == name:
            return entry
    near = difflib.get_close_matches(name, [entry.name for entry in CATALOG], n=1)
    raise ConfigError(
        f"there is no method {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else "tokenspace list shows every method",
    )


def family(name: str) -> Family:
    """Return the family called ``name``."""
    for item in FAMILIES:
        if item.name == name:
            return item
    raise ConfigError(
        f"there is no family {name!r}",
        hint="families: " + ", ".join(item.name for item in FAMILIES),
    )


def members(name: str) -> tuple[Entry, ...]:
    """Return the entries of one family, in the table's order."""
    family(name)
    return tuple(entry for entry in CATALOG if entry.family == name)


def lazy(family_name: str, attribute: str) -> Any:
    """Serve a family package's ``__getattr__``: import the recipe of that class name."""
    for entry in members(family_name):
        if entry.target.endswith(f":{attribute}"):
            return entry.load()
    raise AttributeError(f"module 'tokenspace.{family_name}' has no attribute {attribute!r}")
