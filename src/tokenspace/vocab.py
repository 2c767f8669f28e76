"""Vocabularies: the identity of tokens across tokenizers, by the bytes that they stand for.

The raw strings of two tokenizers cannot be compared: ``Ġcat``, ``▁cat`` and ``cat`` may all stand
for the bytes of " cat", and ``Ã©`` in a byte-level vocabulary is the letter é. Every token
therefore gets its **byte form**, ``surface(i)``, by the kind of its tokenizer:

==============  ==========================================================================
``bpe-byte``    characters of the GPT-2 alphabet back to bytes (GPT-2, Llama-3, Qwen)
``bpe``         ``▁`` to a space; ``<0x41>`` to one byte (Llama-2, Mistral, Gemma)
``unigram``     the same for Unigram models (T5, XLM-R)
``wordpiece``   ``##x`` to x, anything else to a space and itself (BERT)
``bpe-suffix``  ``x</w>`` to x and a flag "ends a word" (CLIP, GPT-1)
``words``       UTF-8 (word lists, WordLevel)
==============  ==========================================================================

A byte form need not be valid UTF-8. Special tokens have a role (``bos``, ``pad``, …) and never
take part in matching by bytes; an id without a token (a *hole*) has the empty string as its token
and empty bytes as its form, and matches nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from . import table_files, tokenizer_files
from .arrays import Ids
from .errors import ConfigError, FormatError, InputError
from .progress import track
from .surface import (
    FALLBACK,
    ROLES,
    Form,
    by_id,
    describe,
    form_of,
    splits_anywhere,
    surfaces,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["LEVELS", "ROLES", "Match", "Vocabulary"]

LEVELS = ("exact", "special", "byte", "space", "case", "nfkc", "prefix")

Key = bytes | tuple[str, bytes] | None
"""What must be equal for two tokens to match exactly; None never matches."""

_STAND_INS = {"bos": "cls", "cls": "bos", "eos": "sep", "sep": "eos", "pad": "eos"}


@dataclass(frozen=True, eq=False)
class Match:
    """For every token of one vocabulary its partner in another, (V,) each.

    ``ids`` int64 is the partner's id or -1; ``steps`` int8 is the step of the ladder that found
    it: 0 for none, else 1 + the position in :data:`LEVELS`.
    """

    ids: Ids
    steps: npt.NDArray[np.int8]

    @property
    def counts(self) -> dict[str, int]:
        """How many tokens each level matched."""
        return {
            level: int((self.steps == step).sum())
            for step, level in enumerate(LEVELS, 1)
            if (self.steps == step).any()
        }

    def at(self, level: str) -> Ids:
        """Return the ids that ``level`` matched, ascending."""
        return np.flatnonzero(self.steps == LEVELS.index(level) + 1).astype(np.int64)


class Vocabulary:
    """An immutable list of tokens in the order of their ids, and how text becomes those ids.

    Parameters
    ----------
    tokens : sequence of str
        Token strings by id. The empty string marks an id without a token.
    tokenizer : tokenizers.Tokenizer, optional
        Splits text into these ids; without one, ``encode`` splits at white space.
    roles : mapping from role to token, optional
        Special tokens, e.g. ``{"pad": "<pad>"}``; by default known names are recognised.

    Raises
    ------
    InputError
        When a word occurs twice, or when tokenizer and tokens disagree.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        tokenizer: Tokenizer | None = None,
        *,
        roles: Mapping[str, str | None] | None = None,
    ) -> None:
        self.tokens: tuple[str, ...] = tuple(tokens)
        if not all(isinstance(token, str) for token in self.tokens):
            raise InputError("a vocabulary is a list of strings", hint="give each token as str")
        self._path: Path | None = None
        if tokenizer is None:
            twice = len(self.ids) + self.tokens.count("") != len(self.tokens)
            if twice:
                index, token = next(
                    (i, t) for i, t in enumerate(self.tokens) if t and self.ids[t] != i
                )
                raise InputError(
                    f"token {token!r} occurs twice, as ids {self.ids[token]} and {index}",
                    hint="give every token once",
                )
        else:
            tokenizer = tokenizer_files.without_limits(tokenizer)
            for index, token in by_id(tokenizer).items():
                if index < len(self.tokens) and self.tokens[index] != token:
                    raise InputError(
                        f"id {index} is {self.tokens[index]!r} in the list of tokens and"
                        f" {token!r} in the tokenizer",
                        hint="use Vocabulary.of(tokenizer)",
                    )
        self.tokenizer = tokenizer
        self._form = describe(self.tokens, self.ids, tokenizer, roles)

    @classmethod
    def words(cls, words: Sequence[str]) -> Self:
        """Make a vocabulary of whole words; ``encode`` splits at white space."""
        return cls(words)

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        *,
        rows: int | None = None,
        roles: Mapping[str, str | None] | None = None,
    ) -> Self:
        """Make the vocabulary of a tokenizer, with holes where ids have no token.

        ``rows`` is the height of the matrix that it belongs to: longer than the tokenizer gives
        padding rows (holes), shorter leaves the tokens without a row (*ghosts*) out.
        """
        known = by_id(tokenizer)
        count = max(known, default=-1) + 1 if rows is None else rows
        self = cls.__new__(cls)
        self.tokens = tuple(map(known.get, range(count), repeat("")))
        self._path = None
        self.tokenizer = tokenizer_files.without_limits(tokenizer)
        self._form = describe(self.tokens, self.ids, self.tokenizer, roles)
        return self

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({self.kind}, {len(self)} tokens)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    # Tokens and their forms

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, read at its first use when the vocabulary was opened from a table."""
        if self._path is None:
            return None
        return tokenizer_files.parse(tokenizer_files.read_text(self._path), self._path)

    @property
    def kind(self) -> str:
        """How tokens are written: one of the kinds in the module's table."""
        return self._form.kind

    @property
    def form(self) -> Form:
        """How the strings of this vocabulary become bytes: its marks for spaces and word parts."""
        return self._form

    @property
    def specials(self) -> Mapping[int, str]:
        """Special ids and their (first) role: one of :data:`ROLES`, or ``extra:<content>``."""
        return self._form.specials

    @property
    def roles(self) -> Mapping[str, int]:
        """Ids by role; one id may have several roles (GPT-2: bos, eos and unk)."""
        return self._form.roles

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Ids by token string; the lowest one where a tokenizer has a string twice."""
        count = len(self.tokens)
        ids = dict(zip(reversed(self.tokens), range(count - 1, -1, -1), strict=True))
        ids.pop("", None)
        return ids

    @cached_property
    def holes(self) -> frozenset[int]:
        """Ids without a token: gaps of the tokenizer and padding rows of a matrix."""
        return frozenset(index for index, token in enumerate(self.tokens) if not token)

    @cached_property
    def ghosts(self) -> frozenset[str]:
        """Tokens of the tokenizer whose ids lie beyond the last row."""
        if self.tokenizer is None:
            return frozenset()
        return frozenset(t for i, t in by_id(self.tokenizer).items() if i >= len(self))

    def id(self, token: str) -> int:
        """Return the id of a token; an unknown one is refused with a near miss."""
        if token in self.ids:
            return self.ids[token]
        same = [self.tokens[index] for index in self.find(token)] if token else []
        near = same or difflib.get_close_matches(token, self.tokens, n=1)
        raise InputError(
            f"the vocabulary has no token {token!r}",
            hint=f"did you mean {near[0]!r}?" if near else "choose a token of the vocabulary",
        )

    @cached_property
    def surfaces(self) -> tuple[bytes, ...]:
        """The byte forms of all tokens, by id."""
        return tuple(surfaces(self.tokens, self._form))

    def surface(self, i: int) -> bytes:
        """Return the bytes that token ``i`` stands for, a leading space included."""
        return self.surfaces[i]

    def find(self, text: str) -> list[int]:
        """Return the ids that stand for ``text``: exactly first, then with or without a space.

        Between ids of one form the primary (no byte fallback, lowest id) comes first.
        """
        exact = text.encode("utf-8", "surrogatepass")
        other = exact[1:] if exact.startswith(b" ") else b" " + exact
        found: list[int] = []
        for form in (exact, other):
            for key in (form, ("end", form), ("byte", form)):
                found += self._groups.get(key, [self._first[key]] if key in self._first else [])
        return found

    # Text to ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``. Special tokens are not added; unknown words are left out."""
        if self.tokenizer is None:
            return self.encode_batch([text])[0]
        with tokenizer_files.faults_of_the_text():
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [index for index in ids if index < len(self)] if self.ghosts else ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of every text, as :meth:`encode` does, on all cores."""
        if self.tokenizer is None:
            ids = self.ids
            return [[ids[word] for word in text.split() if word in ids] for text in texts]
        with tokenizer_files.faults_of_the_text():
            batch = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        if self.ghosts:
            return [[i for i in encoding.ids if i < len(self)] for encoding in batch]
        return [encoding.ids for encoding in batch]

    def count(self, texts: Iterable[str]) -> Ids:
        """Return how often every token occurs in the texts, (V,) int64."""
        counts = np.zeros(len(self), np.int64)
        lines = iter(track(texts, "tokens"))
        while batch := list(islice(lines, 1024)):
            for ids in self.encode_batch(batch):
                np.add.at(counts, np.asarray(ids, np.int64), 1)
        return counts

    # Identity across vocabularies

    @cached_property
    def _keys(self) -> list[Key]:
        keys: list[Key] = list(self.surfaces)
        form = self._form
        if form.suffix:
            for index, token in enumerate(self.tokens):
                if token.endswith(form.suffix):
                    keys[index] = ("end", self.surfaces[index])
        if form.fallback:
            for token in FALLBACK:
                if token in self.ids:
                    index = self.ids[token]
                    keys[index] = ("byte", self.surfaces[index])
        for index in (*form.specials, *self.holes):
            keys[index] = None
        return keys

    @cached_property
    def _first(self) -> dict[Key, int]:
        """The lowest id of every key."""
        keys = self._keys
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        first.pop(None, None)
        return first

    @cached_property
    def _groups(self) -> dict[Key, list[int]]:
        """All ids, ascending, of the keys that several tokens share."""
        groups: dict[Key, list[int]] = {}
        if len(self._first) + len(self._form.specials) + len(self.holes) < len(self):
            for index, key in enumerate(self._keys):
                if key is not None and self._first[key] != index:
                    groups.setdefault(key, [self._first[key]]).append(index)
        return groups

    @cached_property
    def _alone(self) -> dict[int, bytes]:
        """WordPiece tokens that also occur without the space: BERT splits at these characters."""
        if self.kind != "wordpiece":
            return {}
        return {
            index: token.encode("utf-8", "surrogatepass")
            for index, token in enumerate(self.tokens)
            if len(token) == 1 and splits_anywhere(token) and index not in self.specials
        }

    def _exact(self, other: Vocabulary) -> list[int]:
        """Return the partner of every token by equal key, or -1."""
        first, keys = other._first, self._keys
        mates = [-1 if key is None else first.get(key, -1) for key in keys]
        alone = {form: index for index, form in reversed(other._alone.items())}
        for form, index in alone.items():
            ours = self._first.get(form)
            for i in self._groups.get(form, [] if ours is None else [ours]):
                if mates[i] < 0 or self.kind != "wordpiece":  # rather "!" than "##!", never used
                    mates[i] = index
        for i, form in self._alone.items():
            if mates[i] < 0:
                mates[i] = first.get(form, -1)
        for key in self._groups.keys() | other._groups.keys():
            if key in first and key in self._first:
                self._pair(other, key, mates)
        return mates

    def _pair(self, other: Vocabulary, key: Key, mates: list[int]) -> None:
        """Pair tokens of one key: by equal string, then by rank; what is left takes the first."""
        ours = self._groups.get(key, [self._first[key]])
        theirs = other._groups.get(key, [other._first[key]])
        by_string = {other.tokens[j]: j for j in reversed(theirs)}
        pairs = {i: by_string[self.tokens[i]] for i in ours if self.tokens[i] in by_string}
        free = [j for j in theirs if j not in pairs.values()]
        rest = [i for i in ours if i not in pairs]
        for rank, i in enumerate(rest):
            pairs[i] = free[rank] if rank < len(free) else theirs[0]
        for i, j in pairs.items():
            mates[i] = j

    def shared(self, other: Vocabulary) -> tuple[Ids, Ids]:
        """Return the tokens that both have, by their bytes: ids here (ascending) and there.

        Special tokens are left out. An id of ``other`` occurs twice only where several tokens
        here have one byte form and there are fewer of them in ``other``.
        """
        mates = np.asarray(self._exact(other), np.int64)
        ours = np.flatnonzero(mates >= 0).astype(np.int64)
        return ours, mates[ours]

    def match(
        self,
        other: Vocabulary,
        levels: Collection[str] = ("exact", "special", "byte"),
        *,
        mapping: Mapping[str, str] | None = None,
    ) -> Match:
        """Find a partner in ``other`` for every token, level after level of the ladder.

        ``exact`` equal bytes; ``special`` equal content, then role, then a stand-in for the role
        (cls for bos, eos for pad, …); ``byte`` one byte with its ``<0x..>`` token; ``space`` after
        adding or removing one leading space or an end-of-word mark; ``case`` folded case;
        ``nfkc`` compatibility form; ``prefix`` the longest proper prefix. ``mapping`` names
        partners by hand, and wins; it counts as ``special``.
        """
        for level in levels:
            if level not in LEVELS:
                raise ConfigError(
                    f"there is no match level {level!r}", hint=f"levels: {', '.join(LEVELS)}"
                )
        ids = np.full(len(self), -1, np.int64)
        steps = np.zeros(len(self), np.int8)
        finders: dict[str, Callable[[], Iterator[tuple[int, int]]]] = {
            "exact": lambda: ((i, j) for i, j in enumerate(self._exact(other)) if j >= 0),
            "special": lambda: self._match_specials(other),
            "byte": lambda: self._match_bytes(other),
            "space": lambda: self._match_spaces(other),
            "case": lambda: self._match_text(other, str.casefold),
            "nfkc": lambda: self._match_text(other, _nfkc),
            "prefix": lambda: self._match_prefixes(other),
        }
        for step, level in enumerate(LEVELS, 1):
            if level in levels:
                for i, j in finders[level]():
                    if ids[i] < 0:
                        ids[i], steps[i] = j, step
        for ours, theirs in (mapping or {}).items():
            i = self.id(ours)
            ids[i], steps[i] = other.id(theirs), LEVELS.index("special") + 1
        return Match(ids, steps)

    def _match_specials(self, other: Vocabulary) -> Iterator[tuple[int, int]]:
        content = {other.tokens[j]: j for j in other.specials}
        for i in self.specials:
            if self.tokens[i] in content:
                yield i, content[self.tokens[i]]
                continue
            mine = [role for role, j in self.roles.items() if j == i]
            for role in (*mine, *(_STAND_INS[r] for r in mine if r in _STAND_INS)):
                if role in other.roles:
                    yield i, other.roles[role]
                    break

    def _match_bytes(self, other: Vocabulary) -> Iterator[tuple[int, int]]:
        for i, key in enumerate(self._keys):
            if isinstance(key, tuple) and key[0] == "byte":
                mate = other._first.get(key[1])
            elif isinstance(key, bytes) and len(key) == 1:
                mate = other._first.get(("byte", key))
            else:
                continue
            if mate is not None:
                yield i, mate

    def _match_spaces(self, other: Vocabulary) -> Iterator[tuple[int, int]]:
        for i, key in enumerate(self._keys):
            if key is None or (isinstance(key, tuple) and key[0] == "byte"):
                continue
            bare = self.surfaces[i].removeprefix(b" ")
            for form in (bare, b" " + bare, ("end", bare)) if bare else ():
                if form in other._first:
                    yield i, other._first[form]
                    break

    def _match_text(
        self, other: Vocabulary, fold: Callable[[str], str]
    ) -> Iterator[tuple[int, int]]:
        folded: dict[str, int] = {}
        for j, text in other._texts():
            folded.setdefault(fold(text), j)
        for i, text in self._texts():
            mate = folded.get(fold(text))
            if mate is not None:
                yield i, mate

    def _texts(self) -> Iterator[tuple[int, str]]:
        """Yield the tokens whose plain byte form is valid UTF-8."""
        for index, key in enumerate(self._keys):
            if isinstance(key, bytes):
                try:
                    yield index, key.decode()
                except UnicodeDecodeError:
                    continue

    def _match_prefixes(self, other: Vocabulary) -> Iterator[tuple[int, int]]:
        for i, key in enumerate(self._keys):
            if isinstance(key, bytes):
                least = 1 if key.startswith(b" ") else 0  # the space alone says nothing
                for end in range(len(key) - 1, least, -1):
                    if key[:end] in other._first:
                        yield i, other._first[key[:end]]
                        break

    @cached_property
    def fingerprint(self) -> str:
        """A hexadecimal hash of tokens, special roles and tokenizer: equal for equal behaviour."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.kind, self.tokens, list(self.specials.items())]).encode())
        if self.tokenizer is not None:
            digest.update(self.tokenizer.to_str().encode())
        return digest.hexdigest()

    # Files

    def save(self, path: str | Path) -> None:
        """Write a directory; or, by suffix, ``tokenizer.json`` alone or a ``.txt`` word list."""
        from .io import replacing

        path = Path(path)
        if path.suffix == ".json" and self.tokenizer is None:
            raise InputError(f"{path}: a word list has no tokenizer to write", hint="use .txt")
        if path.suffix == ".txt":
            self._check_list(path)
        with replacing(path) as partial:
            if path.suffix == ".json":
                assert self.tokenizer is not None
                partial.write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")
            elif path.suffix == ".txt":
                text = "".join(token + "\n" for token in self.tokens)
                partial.write_bytes(text.encode("utf-8"))
            else:
                partial.mkdir()
                self.write(partial)

    def _check_list(self, path: Path) -> None:
        bad = [t for t in self.tokens if not t or t != t.strip() or "\n" in t or "\r" in t]
        if self.tokenizer is not None or bad:
            what = (
                "with a tokenizer" if self.tokenizer is not None else f"with the token {bad[0]!r}"
            )
            raise InputError(
                f"{path}: a vocabulary {what} does not fit a word list",
                hint="save to a name without a suffix",
            )

    def write(self, folder: Path) -> None:
        """Write ``vocabulary.json`` into a directory, and what ``AutoTokenizer`` reads there.

        The latter is ``tokenizer.json`` with ``tokenizer_config.json``, where there is a tokenizer.
        """
        content = {
            "format": "tokenspace-vocabulary",
            "version": 1,
            "form": asdict(self._form),
            "fingerprint": self.fingerprint,
            "tokenizer": self.tokenizer is not None,
            "tokens": self.tokens,
        }
        (folder / "vocabulary.json").write_text(json.dumps(content) + "\n", encoding="ascii")
        if self.tokenizer is not None:
            (folder / "tokenizer.json").write_text(self.tokenizer.to_str(), encoding="utf-8")
            names = {f"{role}_token": self.tokens[index] for role, index in self.roles.items()}
            config = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                **names,
            }
            text = json.dumps(config, indent=2) + "\n"
            (folder / "tokenizer_config.json").write_text(text, encoding="ascii")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a vocabulary; what the file is, is told by its content.

        Reads a space, a Hugging Face directory or ``tokenizer.json``, ``vocab.json`` with
        ``merges.txt``, a BERT ``vocab.txt``, a ``.tiktoken`` rank file, word vectors or a word
        list (one a line), each maybe gzipped, what :meth:`save` wrote, and a model's name on the
        Hugging Face hub when transformers is installed. Code in a directory is never run.

        Raises :class:`InputError` where nothing is there, :class:`FormatError` otherwise.
        """
        place = Path(path)
        if not place.exists():
            if not isinstance(path, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", path):
                raise InputError(
                    f"{path}: no such file or directory", hint="give the path of a vocabulary"
                )
            place = tokenizer_files.download(path)
        from .io import part_of_space

        place = part_of_space(place, "vocabulary")
        own = place / "vocabulary.json" if place.is_dir() else place
        if own.name == "vocabulary.json" and own.is_file():
            return cls._load_own(own)
        if place.is_file() and table_files.holds_vectors(place):
            return cls.words(table_files.read(place).words)
        source = tokenizer_files.find(place)
        if source.tokenizer is None:
            return cls.words(source.words)
        return cls.of(source.tokenizer, roles=source.roles)

    @classmethod
    def _load_own(cls, path: Path) -> Self:
        content = tokenizer_files.read_json(tokenizer_files.read_text(path), path)
        version = content.get("version")
        if isinstance(version, int) and version > 1:
            raise FormatError(
                f"{path}: version {content['version']} is newer than this library reads (1)",
                hint="pip install --upgrade tokenspace",
            )
        try:
            self = cls.__new__(cls)
            self.tokens = tuple(content["tokens"])
            if not all(isinstance(word, str) for word in (*self.tokens, content["fingerprint"])):
                raise TypeError("a token or the fingerprint is not a string")
            self._form = form_of(content["form"], len(self.tokens))
            self._path = path.with_name("tokenizer.json") if content["tokenizer"] else None
            self.__dict__["fingerprint"] = content["fingerprint"]
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise FormatError(
                f"{path}: not a whole vocabulary ({fault})", hint="save the vocabulary again"
            ) from fault
        if self._path is not None and not self._path.is_file():
            raise FormatError(f"{self._path}: missing", hint="save the vocabulary again")
        return self


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
