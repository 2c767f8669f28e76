"""Token ids in the settings of a model, carried from one vocabulary to another.

A key that names a role (``bos_token_id``, …) follows the role; every other id follows its token:
to the token of equal bytes, equal content or equal role. An id that leads nowhere becomes ``null``
in ``config.json``, because a key that is merely absent takes the default of the model's class,
which is an id of the old vocabulary; in ``generation_config.json`` the key is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenspace.vocab import ROLES, Vocabulary

__all__ = ["Ids", "untie", "vocabulary_sizes"]

_SIZES = ("vocab_size", "n_words", "decoder_vocab_size", "padded_vocab_size")
_ELSEWHERE = ("vision", "audio", "image", "quantization", "codec", "speech")
_ROLE = re.compile(rf"({'|'.join(ROLES)})_token_id")
_ONE = re.compile(r"\w+_token_(id|index)")
_MANY = re.compile(r"(\w+_token_ids|(begin_)?suppress_tokens)")
_TABLES = ("lang_to_id", "task_to_id")
_STAND_INS = {"bos": "cls", "cls": "bos", "eos": "sep", "sep": "eos"}


def vocabulary_sizes(
    config: Mapping[str, Any], rows: int, path: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    """Return the paths of all keys of ``config`` that give the number of tokens as ``rows``."""
    found: list[tuple[str, ...]] = []
    for key, value in config.items():
        if isinstance(value, dict) and not key.startswith(_ELSEWHERE):
            found += vocabulary_sizes(value, rows, (*path, key))
        elif key in _SIZES and value == rows:
            found.append((*path, key))
    return found


def untie(config: dict[str, Any]) -> None:
    """Let ``config`` say that the output matrix is one of its own."""
    config["tie_word_embeddings"] = False
    inner = config.get("text_config")
    if isinstance(inner, dict) and "tie_word_embeddings" in inner:
        inner["tie_word_embeddings"] = False


@dataclass(eq=False)
class Ids:
    """Where the ids of ``source`` lead in ``target``.

    ``partners`` gives the target's token of some source tokens, by id; ``lost`` collects what was
    dropped, one line each.
    """

    source: Vocabulary
    target: Vocabulary
    partners: Mapping[int, int]
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._mates = self.source.match(self.target).ids

    def one(self, old: int) -> int | None:
        """Return the new id of an old one, or None."""
        if old in self.partners:
            return self.partners[old]
        if not 0 <= old < len(self._mates):
            return None
        roles = {role for role, index in self.source.roles.items() if index == old}
        if roles == {"pad"} and "pad" not in self.target.roles:
            return None  # the end of a text is no padding
        new = int(self._mates[old])
        return None if new < 0 else new

    def role(self, role: str, old: int) -> int | None:
        """Return the new id for a role whose old id is ``old``."""
        usual = self.source.roles.get(role, old) == old
        new = None if usual else self.one(old)
        if new is None:
            new = self.target.roles.get(role)
        if new is None and role in _STAND_INS:
            new = self.target.roles.get(_STAND_INS[role])
        return self.one(old) if new is None and old in self.partners else new

    def remap(self, settings: Mapping[str, Any], where: str, *, drop: bool) -> dict[str, Any]:
        """Return ``settings`` with new ids; ``drop`` leaves keys without an id out."""
        made: dict[str, Any] = {}
        for key, value in settings.items():
            new = self._value(key, value, where, drop)
            if new is None and value is not None:
                self.lost.append(f"{where}: {key}={value} has no counterpart")
                if drop:
                    continue
            made[key] = new
        return made

    def _value(self, key: str, value: Any, where: str, drop: bool) -> Any:
        role = _ROLE.fullmatch(key)
        if isinstance(value, dict):
            if key in _TABLES:
                return {k: new for k, v in value.items() if (new := self.one(v)) is not None}
            elsewhere = key.startswith(_ELSEWHERE)
            return value if elsewhere else self.remap(value, f"{where}: {key}", drop=drop)
        if isinstance(value, bool) or value is None:
            return value
        if role and isinstance(value, int):
            return self.role(role[1], value)
        if role and isinstance(value, list):
            usual = self.role(role[1], value[0]) if value else None
            rest = self._many(value)
            kept = rest if usual is None or usual in rest else [usual, *rest]
            return kept or None
        if _ONE.fullmatch(key) and isinstance(value, int):
            return value if value < 0 else self.one(value)
        if _MANY.fullmatch(key) and isinstance(value, list):
            return self._many(value) or (None if value else value)
        if key == "forced_decoder_ids" and isinstance(value, list):
            pairs = [[place, self.one(i) if i is not None else None] for place, i in value]
            return [pair for pair in pairs if pair[1] is not None] or None
        if key in ("bad_words_ids", "force_words_ids") and isinstance(value, list):
            return self._sequences(value) or None
        if key == "sequence_bias" and isinstance(value, list):
            kept = [[self.sequence(ids), bias] for ids, bias in value]
            return [pair for pair in kept if pair[0]] or None
        return value

    def _many(self, values: Iterable[Any]) -> list[Any]:
        """Map a list of ids; -1 and the like, which some lists hold, stay."""
        new = [v if not isinstance(v, int) or v < 0 else self.one(v) for v in values]
        return list(dict.fromkeys(v for v in new if v is not None))

    def _sequences(self, values: Iterable[Any]) -> list[Any]:
        nested = [
            self._sequences(ids)
            if isinstance(ids, list) and any(isinstance(i, list) for i in ids)
            else self.sequence(ids)
            for ids in values
        ]
        return [ids for ids in nested if ids]

    def sequence(self, ids: list[int]) -> list[int] | None:
        """Map a sequence of ids that stands for a text: token by token, or by its text."""
        one_by_one = [self.one(i) for i in ids]
        if all(i is not None for i in one_by_one):
            return [i for i in one_by_one if i is not None]
        if any(i in self.source.specials or not 0 <= i < len(self.source) for i in ids):
            return None
        try:
            text = b"".join(self.source.surface(i) for i in ids).decode("utf-8")
        except UnicodeDecodeError:
            return None
        return self.target.encode(text) or None
