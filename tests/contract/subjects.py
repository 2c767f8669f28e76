"""The subjects of the contract tests: every catalogue entry, its inputs, and its result as arrays.

Nothing here names a method. A family's specifics are what its verb takes and gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tokenspace import catalog
from tokenspace.arrays import Ragged
from tokenspace.corpus import Corpus
from tokenspace.definitions import Definitions
from tokenspace.examples import Examples
from tokenspace.pairs import Pairs
from tokenspace.recipe import Recipe, apply, knobs
from tokenspace.table import EmbeddingTable
from tokenspace.transplant.hypernet import Hypernet
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

Arrays = dict[str, np.ndarray]


def names(family: str | None = None) -> list[str]:
    """Return the methods' names, of one family or of all: the parameters of the tests."""
    return [entry.name for entry in catalog.CATALOG if family in (None, entry.family)]


def tiny(name: str, **changes: Any) -> Recipe:
    """Return the method as the contract tests run it: quick, and on one thread."""
    entry = catalog.find(name)
    recipe = entry.load()
    single = {"threads": 1} if "threads" in {knob.name for knob in knobs(recipe)} else {}
    return recipe(**{**entry.preset, **recipe.tiny, **single, **changes})


def bag(family: str, seed: int = 0) -> dict[str, Any]:
    """Return the family's tiny inputs, by name."""
    given: dict[str, Any] = import_module(f"tokenspace.{family}.trial").bag(seed, tiny=True)
    return given


def inputs(family: str, seed: int = 0) -> dict[str, Any]:
    """Return those of :func:`bag` that a method may ask for."""
    closed = import_module(f"tokenspace.{family}").EVIDENCE
    return {name: value for name, value in bag(family, seed).items() if name in closed}


def run(name: str, given: Mapping[str, Any] | None = None, **changes: Any) -> Any:
    """Run the method on ``given``, or on its family's tiny inputs."""
    return apply(tiny(name, **changes), given or bag(catalog.find(name).family))


def digest(value: Any) -> str:
    """Return a hash of everything that an input holds."""
    state = hashlib.sha256()
    for part in _parts(value):
        state.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else part)
    return state.hexdigest()


def _parts(value: Any) -> Iterator[np.ndarray | bytes]:
    if isinstance(value, EmbeddingTable):
        yield from _parts(value.vocab)
        yield value.vectors
        if value.counts is not None:
            yield value.counts
    elif isinstance(value, Ragged):
        yield value.flat
        yield value.offsets
    elif isinstance(value, Vocabulary):
        yield from ((token + "\0").encode() for token in value.tokens)
    elif isinstance(value, Corpus):
        yield from ((text + "\0").encode() for text in value)
    elif isinstance(value, WordSets):
        yield from (("\0".join(words) + "\n").encode() for words in value)
    elif isinstance(value, Examples):
        yield from (
            (f"{name}\0" + "\0".join(column)).encode() for name, column in value.columns.items()
        )
    elif isinstance(value, Definitions):
        yield from ("\0".join([entry, *texts, "\n"]).encode() for entry, texts in value)
    elif isinstance(value, Pairs):
        yield from (f"{source}\0{target}\0".encode() for source, target in value)
    elif isinstance(value, Hypernet):
        yield from (value.base, *value.weights.values())
    elif hasattr(value, "encode"):  # a text encoder: what it answers
        yield value.encode(["one text", "another"])
    else:
        yield np.asarray(value)


def mapped(value: Any, folder: Path) -> Any:
    """Return the input with every array read-only and memory-mapped."""
    if isinstance(value, EmbeddingTable):
        return value.replace(vectors=mapped(value.vectors, folder))
    if isinstance(value, Ragged):
        return Ragged(mapped(value.flat, folder), mapped(value.offsets, folder))
    if isinstance(value, np.ndarray):
        path = folder / f"{len(list(folder.iterdir()))}.npy"
        np.save(path, value)
        return np.load(path, mmap_mode="r")
    return value


def permuted(vocab: Vocabulary, order: np.ndarray) -> Vocabulary:
    """Return the vocabulary whose id ``i`` is the token that had id ``order[i]``."""
    if vocab.tokenizer is None:
        return Vocabulary([vocab.tokens[i] for i in order])
    content = json.loads(vocab.tokenizer.to_str())
    place = {int(former): index for index, former in enumerate(order)}
    ids = content["model"]["vocab"]
    content["model"]["vocab"] = {token: place[former] for token, former in ids.items()}
    return Vocabulary.of(Tokenizer.from_str(json.dumps(content)))


def queries(docs: Ragged) -> Ragged:
    """Return queries whose answers are known in part: the first tokens of some documents."""
    return Ragged.pack([docs[i][:4] for i in range(0, len(docs), max(1, len(docs) // 5))])


def texts(corpus: Corpus) -> list[str]:
    """Return a few texts of different lengths, and an empty one."""
    some = list(corpus)[:8]
    return [*some, some[0] + " " + some[1], "", some[2].split()[0]]


def arrays(family: str, result: Any, given: Mapping[str, Any]) -> Arrays:
    """Return what a result answers, as arrays: equal arrays are equal results."""
    if family == "compress":
        return {"rows": result.rows(np.arange(result.shape[0]))}
    if family == "retrieve":
        ids, scores = result.search(queries(given["docs"]), 3)
        return {"ids": ids, "scores": scores}
    if family == "tokenize":
        ids = result.encode_batch(texts(given["corpus"]))
        spelled = b"".join(result.surfaces)
        return {
            "ids": np.array([i for row in ids for i in row], np.int64),
            "lengths": np.array([len(row) for row in ids], np.int64),
            "forms": np.frombuffer(spelled, np.uint8).astype(np.int64),
        }
    if family == "lm":
        row = result.vocab.encode_batch(texts(given["corpus"])[:1])[0][:12]
        return {"logits": result.logits(np.array([row], np.int64))}
    if family == "encode":
        found = result.encode_tokens(texts(given["corpus"]))
        return {
            "texts": result.encode(texts(given["corpus"])),
            "tokens": found.flat,
            "offsets": found.offsets,
        }
    counts = np.zeros(0, np.int64) if result.counts is None else result.counts
    return {"vectors": result.vectors, "counts": counts}


def assert_same(left: Arrays, right: Arrays, *, bits: bool = True) -> None:
    """Fail unless both results are equal, bit for bit or to float32's rounding."""
    assert left.keys() == right.keys()
    for name, array in left.items():
        if bits or array.dtype.kind != "f":
            np.testing.assert_array_equal(array, right[name], err_msg=name)
        else:
            np.testing.assert_allclose(array, right[name], rtol=1e-4, atol=1e-5, err_msg=name)
