"""The byte form of a token: what its string stands for in every kind of tokenizer.

Detection reads the serialised parts of the tokenizer, never the name of a Python class. The
kinds are those of the table in :mod:`tokenspace.vocab`.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, FormatError, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "CHARACTERS",
    "FALLBACK",
    "KNOWN",
    "ROLES",
    "TO_CHARACTERS",
    "Form",
    "by_id",
    "describe",
    "form_of",
    "splits_anywhere",
    "surfaces",
]

log = logging.getLogger(__name__)

ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")

KNOWN = {
    "bos": ("<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "[EOS]", "<|end_of_text|>", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]", "<|padding|>"),
    "unk": ("<unk>", "[UNK]", "<|endoftext|>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("<mask>", "[MASK]"),
}
SPACE = "\u2581"
SPREAD = 1 << 21  # ids below it may have any gaps between them


def _alphabet() -> list[str]:
    """Return the GPT-2 character of every byte: printable ones stand for themselves."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


CHARACTERS = _alphabet()
# Latin-1 letters outside the alphabet go beyond latin-1, so that encoding a foreign text fails.
_TO_LATIN = {byte: "\uffff" for byte in range(256)} | {
    ord(character): chr(byte) for byte, character in enumerate(CHARACTERS)
}
TO_CHARACTERS = dict(enumerate(CHARACTERS))
FALLBACK = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}


@dataclass(frozen=True)
class Form:
    """How the strings of one vocabulary become bytes, and which ids are special."""

    kind: str = "words"
    bytelevel: bool = False
    space: str = ""
    prefix: str = ""
    suffix: str = ""
    fallback: bool = False
    added: tuple[int, ...] = ()
    specials: Mapping[int, str] = field(default_factory=dict)
    roles: Mapping[str, int] = field(default_factory=dict)


def form_of(saved: Mapping[str, Any], count: int) -> Form:
    """Return the form that was saved as plain data with ``count`` tokens.

    Raises ValueError, TypeError, KeyError or AttributeError where it is not one.
    """
    form = Form(
        **{
            **saved,
            "added": tuple(saved["added"]),
            "specials": {int(index): role for index, role in saved["specials"].items()},
            "roles": dict(saved["roles"]),
        }
    )
    words = (form.kind, form.space, form.prefix, form.suffix, *form.specials.values(), *form.roles)
    flags, ids = (
        (form.bytelevel, form.fallback),
        (*form.added, *form.specials, *form.roles.values()),
    )
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a mark or a role is not a string")
    if not all(isinstance(flag, bool) for flag in flags):
        raise TypeError("bytelevel or fallback is not true or false")
    if not all(isinstance(index, int) and 0 <= index < count for index in ids):
        raise ValueError(f"an id is outside 0 ... {count - 1}")
    return form


def surfaces(tokens: Sequence[str], form: Form) -> Iterator[bytes]:
    """Yield the byte form of every token (vocabulary.md, 0.1)."""
    plain = {*form.specials, *(form.added if form.bytelevel else ())}
    for index, token in enumerate(tokens):
        if index in plain or not token:
            yield token.encode("utf-8", "surrogatepass")
            continue
        if form.fallback and token in FALLBACK:
            yield FALLBACK[token]
            continue
        text = token.removesuffix(form.suffix) if form.suffix else token
        if form.bytelevel:
            try:
                yield text.translate(_TO_LATIN).encode("latin-1")
            except UnicodeEncodeError:  # outside the alphabet: an added token
                yield text.encode("utf-8", "surrogatepass")
        elif form.kind == "wordpiece":
            inner = text.startswith(form.prefix)
            text = text[len(form.prefix) :] if inner else " " + text
            yield text.encode("utf-8", "surrogatepass")
        else:
            text = text.replace(form.space, " ") if form.space else text
            yield text.encode("utf-8", "surrogatepass")


def splits_anywhere(character: str) -> bool:
    """Tell whether BERT makes a token of this character wherever it stands."""
    code = ord(character)
    ascii_mark = 33 <= code <= 126 and not character.isalnum()
    ideograph = (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
    return ascii_mark or ideograph or unicodedata.category(character).startswith("P")


def describe(
    tokens: Sequence[str],
    ids: Mapping[str, int],
    tokenizer: Tokenizer | None,
    roles: Mapping[str, str | None] | None,
) -> Form:
    """Read from the serialised parts of a tokenizer how its strings become bytes."""
    given = {role: token for role, token in (roles or {}).items() if token}
    for role, token in given.items():
        if role not in ROLES:
            raise ConfigError(f"there is no role {role!r}", hint=f"roles: {', '.join(ROLES)}")
        if tokenizer is None and token not in ids:
            raise InputError(f"{role} is {token!r}, which is not a token", hint="add the token")
    if tokenizer is None:
        known = {role: ids[token] for role, token in given.items()}
        return Form(specials=_names(known, known.values(), tokens), roles=known)
    model = tokenizer.model
    parts = [
        part
        for whole in (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder)
        if whole is not None
        for part in _walk(json.loads(whole.__getstate__()))
    ]
    types = {part.get("type") for part in parts}
    suffix = getattr(model, "end_of_word_suffix", None) or ""
    wordpiece = type(model).__name__ == "WordPiece" or "WordPiece" in types
    bytelevel, space = "ByteLevel" in types, _space_mark(parts)
    kinds = {"Unigram": "unigram", "BPE": "bpe"}
    if suffix:
        kind = "bpe-suffix"
    elif bytelevel:
        kind = "bpe-byte"
    elif wordpiece and not space:
        kind = "wordpiece"
    else:
        kind = kinds.get(type(model).__name__, "words")
    if kind in ("words", "bpe") and not space and type(model).__name__ != "WordLevel":
        log.warning("tokens are taken as plain UTF-8: the tokenizer marks no spaces in them")
    byte_pieces = getattr(model, "byte_fallback", False) or all(t in ids for t in FALLBACK)
    added = {i: t for i, t in tokenizer.get_added_tokens_decoder().items() if i < len(tokens)}
    special = {i for i, token in added.items() if token.special}
    unknown = getattr(model, "unk_token", None)
    control = [unknown, *given.values()]
    if kind != "bpe-byte":  # elsewhere control tokens may stand in the plain vocabulary
        control += [token for names in KNOWN.values() for token in names]
    special |= {ids[token] for token in control if token is not None and token in ids}
    known = {}
    for role in ROLES:
        names = [given.get(role)] if role in (roles or {}) else list(KNOWN[role])
        if role == "unk" and unknown and role not in (roles or {}):
            names.insert(0, unknown)
        index = next((ids[t] for t in names if t is not None and ids.get(t) in special), None)
        if index is not None:
            known[role] = index
    return Form(
        kind=kind,
        bytelevel=bytelevel,
        space="" if bytelevel or kind == "wordpiece" else space,
        prefix=(getattr(model, "continuing_subword_prefix", None) or "##") if wordpiece else "",
        suffix=suffix,
        fallback=kind in ("bpe", "unigram") and bool(byte_pieces),
        added=tuple(sorted(added)),
        specials=_names(known, special, tokens),
        roles=known,
    )


def _names(known: Mapping[str, int], ids: Iterable[int], tokens: Sequence[str]) -> dict[int, str]:
    """Give every special id its first role, or one by its content."""
    first = {index: role for role, index in reversed(list(known.items()))}
    return {index: first.get(index, f"extra:{tokens[index]}") for index in sorted(set(ids))}


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every component of a serialised normalizer, pre-tokenizer or decoder."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _space_mark(parts: Iterable[Mapping[str, Any]]) -> str:
    """Return the character that stands for a space, or the empty string."""
    for part in parts:
        if part.get("type") == "Metaspace":
            return str(part.get("replacement", SPACE))
        if part.get("type") == "Prepend" and part.get("prepend") == SPACE:
            return SPACE
        sides = {str((part.get("pattern") or {}).get("String")), str(part.get("content"))}
        if part.get("type") == "Replace" and sides == {" ", SPACE}:
            return SPACE
    return ""


def by_id(tokenizer: Tokenizer) -> dict[int, str]:
    """Return every id with its token, also those whose string occurs twice.

    Raises :class:`FormatError` where ids are so far apart that the gaps would fill the memory.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    known = dict(zip(ids.values(), ids, strict=True))
    last = max(known, default=-1)
    if last >= max(SPREAD, 4 * len(known)):
        raise FormatError(
            f"token {known[last]!r} has the id {last}, and there are {len(known)} tokens",
            hint="the tokenizer is damaged: download or save it again",
        )
    if len(known) <= last:  # gaps, or ids whose string belongs to another id as well
        for index in set(range(last)) - known.keys():
            token = tokenizer.id_to_token(index)
            if token is not None:
                known[index] = token
    return known
