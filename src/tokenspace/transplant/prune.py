"""Keep the tokens that a text uses, and drop the others from the tokenizer.

What is kept is closed: single bytes or characters, special tokens and, for BPE, everything that a
kept token is merged from. The text is then split as before, and so is any other text whose tokens
are kept:

- BPE: a merge that made any token of the text is kept with its parts, in the old order.
- Unigram: the best split of the text is still there, and only rivals of it are gone.
- WordPiece: the longest matches are still there, and nothing longer has come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenspace import tokenizer_files
from tokenspace.arrays import Ids
from tokenspace.errors import FormatError, InputError
from tokenspace.surface import CHARACTERS, FALLBACK
from tokenspace.vocab import Vocabulary

__all__ = ["pruned"]


def pruned(vocab: Vocabulary, counts: Ids, *, min_count: int = 1) -> Vocabulary:
    """Return the tokenizer of ``vocab`` with the tokens that occur ``min_count`` times or more.

    ``counts`` (V,) is what :meth:`Vocabulary.count` gives. Kept beside them: special and added
    tokens, single bytes and characters, and what the kept tokens are merged from. Tokens keep
    their order.

    Raises :class:`InputError` for a vocabulary without a tokenizer, and where nothing occurs.
    """
    if vocab.tokenizer is None:
        raise InputError("prune: a word list has no tokenizer", hint="give a model directory")
    frequent = {vocab.tokens[i] for i in np.flatnonzero(counts >= max(1, min_count)).tolist()}
    if not frequent:
        raise InputError(
            f"prune: no token occurs {min_count} times in the text",
            hint="give more text, or a smaller --min-count",
        )
    content: dict[str, Any] = json.loads(vocab.tokenizer.to_str())
    model = content["model"]
    base = _base(model, vocab)
    kept = frequent | base | {token["content"] for token in content["added_tokens"]}
    kept |= {vocab.tokens[i] for i in vocab.specials}
    if model.get("merges") is not None:
        kept = _closed(kept, model["merges"])
        model["merges"] = [m for m in model["merges"] if {*_pair(m), "".join(_pair(m))} <= kept]
    order = [token for token in vocab.tokens if token and token in kept]
    ids = {token: index for index, token in enumerate(order)}
    try:
        _renumber(content, ids)
    except KeyError as fault:
        raise FormatError(
            f"prune: the tokenizer names {fault}, which is none of its tokens",
            hint="the tokenizer is damaged: download or save it again",
        ) from fault
    tokenizer = tokenizer_files.parse(json.dumps(content), Path("tokenizer.json"))
    roles = {role: vocab.tokens[i] for role, i in vocab.roles.items()}
    return Vocabulary.of(tokenizer, roles=roles)


def _base(model: Mapping[str, Any], vocab: Vocabulary) -> set[str]:
    """Return the tokens that spell whatever has no token of its own."""
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    single = {*CHARACTERS, *FALLBACK} & vocab.ids.keys()
    for token in vocab.tokens:
        inner = token.removeprefix(prefix) if prefix else token
        if len(inner.removesuffix(suffix) if suffix else inner) == 1:
            single.add(token)
    return single


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _closed(kept: set[str], merges: list[Any]) -> set[str]:
    """Add the parts of every merge that makes a kept token, and so on down."""
    made: dict[str, list[tuple[str, str]]] = {}
    for merge in merges:
        left, right = _pair(merge)
        made.setdefault(left + right, []).append((left, right))
    closed, open_ = set(kept), list(kept)
    while open_:
        for pair in made.get(open_.pop(), ()):
            fresh = set(pair) - closed
            closed |= fresh
            open_ += fresh
    return closed


def _renumber(content: dict[str, Any], ids: Mapping[str, int]) -> None:
    """Give the tokens of a serialised tokenizer their new ids, and leave the others out."""
    model = content["model"]
    if isinstance(model["vocab"], list):  # Unigram: [piece, score] by id
        unknown = None if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]
        model["vocab"] = [entry for entry in model["vocab"] if entry[0] in ids]
        names = [entry[0] for entry in model["vocab"]]
        model["unk_id"] = names.index(unknown) if unknown in names else None
    else:
        model["vocab"] = {token: ids[token] for token in model["vocab"] if token in ids}
    for token in content["added_tokens"]:
        token["id"] = ids[token["content"]]
    for processor in _mappings(content.get("post_processor")):
        for name in ("cls", "sep"):
            if isinstance(processor.get(name), list):
                processor[name][1] = ids[processor[name][0]]
        for token in (processor.get("special_tokens") or {}).values():
            token["ids"] = [ids[name] for name in token["tokens"]]


def _mappings(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        return [node, *(found for value in node.values() for found in _mappings(value))]
    if isinstance(node, list):
        return [found for value in node for found in _mappings(value)]
    return []
