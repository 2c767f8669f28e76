"""Which rows of a table an edit is about: words of lists become ids, and what is missing is said.

A word of a list is looked for as it is written. In the vocabulary of a tokenizer it is the token
that stands for the whole word, with its leading space (``Ġshe``, ``▁she``) where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import data
from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError
from tokenspace.recipe import Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

from ._subspace import Subspace, direct_bias, random_shares, subspace, unit

__all__ = [
    "Affine",
    "Lists",
    "bias_of",
    "blocks",
    "edited",
    "every",
    "find",
    "lengths",
    "rows_of",
    "usable",
]

_BLOCK = 1 << 13
_SHOWN = 12  # names in one line of a report


def find(vocab: Vocabulary, word: str) -> int:
    """Return the id of the token that is the word, or -1."""
    return next(iter(every(vocab, word)), -1)


def every(vocab: Vocabulary, word: str) -> list[int]:
    """Return all ids that stand for a word, the one that is the whole word first."""
    if vocab.kind == "words":
        return [vocab.ids[word]] if word in vocab.ids else []
    found = vocab.find(" " + word)
    if suffix := vocab.form.suffix:
        return sorted(found, key=lambda i: not vocab.tokens[i].endswith(suffix))
    return found


def blocks(size: int) -> Iterator[slice]:
    """Yield the slices of a table's rows that are widened to float64 at a time."""
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))


def lengths(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the length of every row, (n,) float64."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64)))


def rows_of(source: EmbeddingTable, ids: Ids) -> npt.NDArray[np.float64]:
    """Return rows of a table at length 1, (n, D) float64."""
    return unit(source.vectors[ids])


def usable(source: EmbeddingTable) -> npt.NDArray[np.bool_]:
    """Mark the rows that are vectors of words, (V,): not special tokens, not zero, with a token.

    Raises :class:`InputError` where there are fewer than two.
    """
    mask = np.ones(len(source.vocab), bool)
    mask[[*source.vocab.specials, *source.vocab.holes]] = False
    for part in blocks(len(mask)):
        mask[part] &= lengths(source.vectors[part]) > 1e-12
    if mask.sum() < 2:
        raise InputError(
            f"the table has {int(mask.sum())} words with a vector that is not zero",
            hint="give a table of word vectors",
        )
    return mask


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of words as ids of a table.

    ``definitional`` and ``equalize`` hold the ids of every set of which two words or more have a
    row. ``neutral`` (V,) marks the words that are in no list. ``missing`` names the words that
    the table lacks, by list, and ``lines`` is what a user should know.
    """

    definitional: tuple[Ids, ...]
    equalize: tuple[Ids, ...]
    neutral: npt.NDArray[np.bool_]
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        source: EmbeddingTable,
        definitional: WordSets | None,
        equalize: WordSets | None = None,
        specific: WordSets | None = None,
        *,
        least: int = 2,
    ) -> Lists:
        """Find the words of the lists.

        Without ``definitional`` the lists are those of Bolukbasi et al. (2016) for gender in
        English. With it, ``equalize`` is by default the same sets, and ``specific`` no more words
        than both hold. Every set to equalise counts in four casings: as written, lower, Title and
        UPPER. Words of the other two lists are specific as well.

        Raises :class:`InputError` where fewer than ``least`` sets of ``definitional`` have two
        words or more with a row.
        """
        if definitional is None:
            definitional = _published("definitional_pairs", "--definitional")
            if equalize is None:
                equalize = _published("equalize_pairs", "--equalize")
            if specific is None:
                specific = _published("gender_specific_full", "--specific")
        equalize = definitional if equalize is None else equalize
        has = usable(source)
        pairs, gone = _present(source.vocab, has, definitional)
        if len(pairs) < least:
            lacking = ", ".join(gone) if gone else "every set has fewer than two words"
            raise InputError(
                f"{len(pairs)} of {len(definitional)} definitional sets have two words in the"
                f" table, and {least} are needed; missing: {lacking}",
                hint="give sets of words of this vocabulary: --definitional FILE",
            )
        same, lost = _present(source.vocab, has, _in_casings(equalize), equalize)
        neutral = has.copy()
        for ids in (*pairs, *same):
            neutral[ids] = False
        absent = []
        for word in specific.words if specific is not None else ():
            ids_of_word = every(source.vocab, word)
            neutral[ids_of_word] = False
            if not ids_of_word:
                absent.append(word)
        for word in (*_in_casings(definitional).words, *_in_casings(equalize).words):
            neutral[every(source.vocab, word)] = False
        missing = {"definitional": gone, "equalize": lost, "specific": absent}
        missing = {name: words for name, words in missing.items() if words}
        return cls(pairs, same, neutral, missing, tuple(_lines(missing, definitional, pairs)))

    def subspace(self, source: EmbeddingTable, k: int) -> Subspace:
        """Return the directions in which the definitional sets differ most."""
        return subspace([rows_of(source, ids) for ids in self.definitional], k)

    def compared(self, source: EmbeddingTable, found: Subspace) -> str:
        """Say how dominant the first direction is, beside as many random sets of words."""
        some = np.flatnonzero(self.neutral)
        if len(some) < max(map(len, self.definitional)):
            return f"the first direction holds {found.shares[0]:.2f} of the variance"
        kept = rows_of(source, some[:: max(1, len(some) // 5_000)])
        chance = random_shares(kept, [len(ids) for ids in self.definitional])
        return (
            f"the first direction holds {found.shares[0]:.2f} of the variance of the definitional"
            f" sets; of random words {chance.mean():.2f}, at most {chance.max():.2f}"
        )


def bias_of(
    vectors: Floats2d, chosen: npt.NDArray[np.bool_], basis: npt.NDArray[np.float64]
) -> float:
    """Return DirectBias of the chosen rows of a table, in blocks."""
    total, count = 0.0, 0
    for part in blocks(len(chosen)):
        rows = vectors[part][chosen[part]]
        size = int(rows.any(axis=1).sum())
        total += size * direct_bias(rows, basis) if size else 0.0
        count += size
    return total / count if count else float("nan")


class Affine(NamedTuple):
    """What an edit does to all words alike: w W + b, with W (D, D') and b (D',)."""

    W: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]

    def __call__(self, rows: Floats2d) -> Floats2d:
        """Return the rows moved, (n, D'); zero rows stay zero."""
        out = np.zeros((len(rows), self.W.shape[1]), np.float32)
        for part in blocks(len(rows)):
            some = rows[part].any(axis=1)
            out[part][some] = rows[part][some] @ self.W + self.b
        return out


def edited(
    recipe: Recipe,
    source: EmbeddingTable,
    vectors: Floats2d,
    metrics: Mapping[str, float],
    lines: Sequence[str] = (),
    *,
    affine: Affine | None = None,
    **about: Any,
) -> EmbeddingTable:
    """Return the source with other vectors; its notes say what was done, and the report does.

    A word that is the mean of its n-grams' rows moves by an ``affine`` map as these do.
    """
    lines, subwords = list(lines), None
    if source.subwords is not None and affine is not None:
        subwords = replace(source.subwords, rows=affine(source.subwords.rows))
    elif source.subwords is not None:
        lines.append(
            "the n-grams of the fastText model are left out: words without a row have none"
        )
    figures = {name: value for name, value in metrics.items() if np.isfinite(value)}
    said = {"method": recipe.name, "metrics": figures, "notes": lines}
    notes = {**source.notes, **about, "report": said}
    vectors = np.ascontiguousarray(vectors, np.float32)
    return replace(source, vectors=vectors, notes=notes, subwords=subwords)


def _published(name: str, flag: str) -> WordSets:
    try:
        return data.word_sets(name)
    except InputError as fault:
        raise InputError(
            str(fault), hint=f"{fault.hint}; or give a list of yours: {flag}"
        ) from fault


def _in_casings(sets: WordSets) -> WordSets:
    """Return every set as written, in lower case, in Title case and in UPPER case, each once."""
    forms = (str, str.lower, str.title, str.upper)
    return WordSets(
        list(dict.fromkeys(tuple(map(form, words)) for words in sets for form in forms))
    )


def _present(
    vocab: Vocabulary,
    has: npt.NDArray[np.bool_],
    sets: WordSets,
    named: WordSets | None = None,
) -> tuple[tuple[Ids, ...], list[str]]:
    """Return the ids of the sets with two words or more, and which words of ``named`` none has."""
    kept: dict[tuple[int, ...], None] = {}
    known: set[str] = set()
    for words in sets:
        ids = {i: word for word in words if (i := find(vocab, word)) >= 0 and has[i]}
        known.update(word.lower() for word in ids.values())
        if len(ids) > 1:
            kept[tuple(ids)] = None
    exact = {word for word in sets.words if (i := find(vocab, word)) >= 0 and has[i]}
    wanted = (named or sets).words
    gone = [w for w in wanted if w not in exact and (named is None or w.lower() not in known)]
    return tuple(np.array(ids, np.int64) for ids in kept), gone


def _lines(
    missing: Mapping[str, Sequence[str]], definitional: WordSets, pairs: Sequence[Ids]
) -> list[str]:
    said = []
    if len(pairs) < len(definitional):
        said.append(f"{len(pairs)} of {len(definitional)} definitional sets are in the table")
    for name, words in missing.items():
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        said.append(f"{name}: not in the table: {', '.join(words[:_SHOWN])}{more}")
    return said
