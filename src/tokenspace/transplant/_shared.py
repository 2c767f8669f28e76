"""What every transplant starts from: the rows that are copied, and the tokens that are not."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d
from tokenspace.errors import InputError
from tokenspace.surface import TO_CHARACTERS
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = ["Draft", "Pieces", "begin", "combine", "pieces", "places", "retrieval", "written"]


@dataclass(frozen=True, eq=False)
class Draft:
    """A table in the making.

    ``rows`` (V, d) float32 holds the copied rows and, for every other token, the mean row of the
    source; ``unseen`` the ids of those others, by their strings, so that no result depends on the
    order of the target's ids.
    """

    rows: Floats2d
    unseen: Ids


def begin(source: EmbeddingTable, target: Vocabulary) -> Draft:
    """Copy the rows of tokens of equal bytes and of special tokens of equal role, bit for bit.

    Raises :class:`InputError` where one of the vocabularies is empty or nothing is shared.
    """
    if not len(target) or not len(source.vocab):
        raise InputError(
            f"transplant: {len(source.vocab)} source and {len(target)} target tokens",
            hint="give vocabularies that hold tokens",
        )
    mean = source.vectors.mean(axis=0, dtype=np.float64)
    rows = np.empty((len(target), source.shape[1]), np.float32)
    rows[:] = mean
    partner = target.match(source.vocab).ids  # -1 where the source has none
    found = partner >= 0
    if not found.any():
        raise InputError(
            "transplant: source and target share no token",
            hint="check that both vocabularies are read with their tokenizers",
        )
    rows[found] = source.vectors[partner[found]]
    unseen = sorted(np.flatnonzero(~found).tolist(), key=target.tokens.__getitem__)
    return Draft(rows, np.array(unseen, np.int64))


def places(target: Vocabulary, donor: Vocabulary) -> Ids:
    """Return the donor's id of every token of the target, (V,), -1 where it has none."""
    if target.tokens == donor.tokens:
        return np.arange(len(target), dtype=np.int64)
    found = np.full(len(target), -1, np.int64)
    t, d = target.shared(donor)
    found[t] = d
    return found


@dataclass(frozen=True, eq=False)
class Anchors:
    """What a donor teaches: the rows that both sides know, and those that only the donor has.

    ``A`` (N, d_D) and ``B`` (N, d) are the anchors' rows in donor and source, by ascending id of
    the source; ``X`` (m, d_D) the donor's rows of the tokens ``known`` (m,), ids of the target.
    """

    A: Floats2d
    B: Floats2d
    X: Floats2d
    known: Ids

    def enough(self, least: int, method: str) -> None:
        """Raise :class:`InputError`, in the words of ``method``, below ``least`` anchors."""
        if len(self.A) < least:
            raise InputError(
                f"{method}: {len(self.A)} usable anchors are too few, it needs {least}",
                hint="choose a smaller k or min_count, or use the method retok or mean",
            )


def anchored(
    source: EmbeddingTable,
    target: Vocabulary,
    donor: EmbeddingTable,
    unseen: Ids,
    *,
    min_count: int = 0,
) -> Anchors:
    """Collect the tokens that source, target and donor share by their bytes, without specials.

    Left out: tokens whose row is zero on either side, and those seen less than ``min_count``
    times where a side has counts. ``known`` are those of ``unseen`` that the donor has a row for.
    """
    place = places(target, donor.vocab)  # (V,) ids in the donor, -1 where it lacks the token
    t, s = target.shared(source.vocab)
    order = np.argsort(s, kind="stable")
    order = order[place[t[order]] >= 0]
    t, s = t[order], s[order]
    good = donor.rows(place[t]).any(axis=1) & source.rows(s).any(axis=1)
    if source.counts is not None:
        good &= source.counts[s] >= min_count
    if donor.counts is not None:
        good &= donor.counts[place[t]] >= min_count
    known = unseen[place[unseen] >= 0]
    known = known[donor.rows(place[known]).any(axis=1)]
    A, B, X = donor.rows(place[t[good]]), source.rows(s[good]), donor.rows(place[known])
    return Anchors(A, B, X, known)


def noise(source: EmbeddingTable, count: int, seed: int, purpose: str) -> npt.NDArray[np.float64]:
    """Return standard normal draws (count, d), others for every matrix of source rows.

    A model's output matrix is given rows by a second call with the same seed; were its draws the
    same, every new token would predict itself.
    """
    matrix = hashlib.blake2b(source.vectors.data, digest_size=8).hexdigest()
    return rng.stream(seed, purpose, matrix).standard_normal((count, source.shape[1]))


@dataclass(frozen=True, eq=False)
class Pieces:
    """Tokens written in the tokens of another vocabulary.

    Piece ``p`` of token ``i`` is ``flat[offsets[i] + p]``; a token that cannot be written has no
    piece.
    """

    flat: Ids
    offsets: Ids

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> Ids:
        """The number of pieces of every token, (N,) int64."""
        return np.diff(self.offsets)

    def padded(self, weights: Floats1d | None = None) -> tuple[Ids2d, Floats2d]:
        """Return the pieces as supports (N, k) padded with -1, and their weights (N, k).

        ``weights`` holds one weight a piece, in the order of ``flat``; without it every piece of
        a token has the same, and those of a token sum to one.
        """
        lengths = self.lengths
        shape = (len(self), max(1, int(lengths.max(initial=0))))
        inside = np.arange(shape[1]) < lengths[:, None]
        supports, shares = np.full(shape, -1, np.int64), np.zeros(shape, np.float32)
        supports[inside] = self.flat
        even = np.repeat(1 / np.maximum(lengths, 1), lengths)
        shares[inside] = even if weights is None else weights
        return supports, shares


def pieces(target: Vocabulary, ids: Ids, source: Vocabulary) -> Pieces:
    """Write the tokens ``ids`` of ``target`` in tokens of ``source``.

    The source's model alone splits the bytes of a token, as in ZeTT: its pre-tokenizer might cut
    them, and its normalizer speaks only where the model does not know the text as it is (capitals,
    for a lower-case BERT). For a source that marks continuations (``##ing``) a token without a
    leading space continues a word. Unknown pieces are left out; a source without a tokenizer has
    none to give.

    White space that the source's tokenizer drops (BERT's does) is written as all its punctuation
    marks: they part words, too, and say as little. The mean row says more than nothing.
    """
    lead = b" " if target.kind in ("words", "bpe-suffix") else b""  # these begin words unmarked
    surfaces = [
        b"" if i in target.specials or i in target.holes else lead + target.surfaces[i]
        for i in ids.tolist()
    ]
    found = written(surfaces, source)
    dropped = {n for n in np.flatnonzero(found.lengths == 0).tolist() if surfaces[n].isspace()}
    if not dropped:
        return found
    marks = written([mark.encode() for mark in string.punctuation], source).flat
    return _flat([marks if n in dropped else found[n] for n in range(len(found))])


def written(surfaces: Sequence[bytes], vocab: Vocabulary) -> Pieces:
    """Write bytes in tokens of ``vocab``, as :func:`pieces` does; empty bytes have no piece."""
    spell = _speller(vocab)
    return _flat([spell(surface) if surface else [] for surface in surfaces])


def _flat(lists: Sequence[Sequence[int] | Ids]) -> Pieces:
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(found) for found in lists], out=offsets[1:])
    return Pieces(np.array([i for found in lists for i in found], np.int64), offsets)


def _speller(source: Vocabulary) -> Callable[[bytes], list[int]]:
    """Return the function that writes bytes in ids of ``source``."""
    tokenizer, form = source.tokenizer, source.form
    if tokenizer is None:
        return lambda surface: []
    model, unknown = tokenizer.model, frozenset(source.specials)

    def split(text: str) -> list[int]:
        return [t.id for t in model.tokenize(text) if t.id < len(source)] if text else []

    def in_words(text: str) -> list[int]:
        """Split word after word; the first goes on with the one before unless a space is ahead."""
        found: list[int] = []
        for word in text.split():
            parts = [word]
            if tokenizer.pre_tokenizer is not None and not form.bytelevel:
                parts = [part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(word)]
            for part in parts:
                goes_on = form.prefix and not found and text[0] != " " and part[0].isalnum()
                found += (goes_on and _continued(part, form.prefix, source.ids)) or split(
                    _characters(part.encode()) if form.bytelevel else part
                )
        return found

    def known(text: str) -> list[int]:
        if source.kind in ("wordpiece", "bpe-suffix", "words"):
            return in_words(text)
        return split(text.replace(" ", form.space) if form.space else text)

    def spell(surface: bytes) -> list[int]:
        if source.kind == "bpe-byte":
            return [i for i in split(_characters(surface)) if i not in unknown]
        try:
            text = surface.decode()
        except UnicodeDecodeError:
            return [source.ids[f"<0x{byte:02X}>"] for byte in surface] if form.fallback else []
        found = known(text)
        if tokenizer.normalizer is not None and (not found or not unknown.isdisjoint(found)):
            plain = tokenizer.normalizer.normalize_str(text)
            if form.space and text[:1] != " ":
                plain = plain.removeprefix(form.space)
            found = known(plain)
        return [i for i in found if i not in unknown]

    return spell


def _characters(surface: bytes) -> str:
    """Return bytes in the GPT-2 alphabet."""
    return surface.decode("latin-1").translate(TO_CHARACTERS)


def _continued(text: str, prefix: str, ids: Mapping[str, int]) -> list[int]:
    """Split text into continuing pieces, the longest first, as WordPiece does inside a word."""
    found, start = [], 0
    while start < len(text):
        ends = range(len(text), start, -1)
        piece = next(((ids[w], e) for e in ends if (w := prefix + text[start:e]) in ids), None)
        if piece is None:
            return []
        found.append(piece[0])
        start = piece[1]
    return found


def combine(supports: Ids2d, coefficients: Floats2d, rows: Floats2d) -> Floats2d:
    """Return Σ_s c_s rows[Λ_s] for every support, (m, width) float32, in blocks.

    ``supports`` (m, k) is padded with -1, where the coefficients must be zero.
    """
    out = np.zeros((len(supports), rows.shape[1]), np.float32)
    for start in range(0, len(supports), 256):
        block = slice(start, start + 256)
        chosen = rows[np.maximum(supports[block], 0)]
        out[block] = np.einsum("bk,bkd->bd", coefficients[block], chosen)
    return out


def retrieval(rows: Floats2d, ids: Ids, table: EmbeddingTable) -> float:
    """Return the mean reciprocal rank of row ``ids[i]`` of ``table`` by cosine with ``rows[i]``.

    All rows of the table compete; ties count against the right one.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scores = (rows / np.maximum(lengths, 1e-12)) @ table.unit.T
    right = np.take_along_axis(scores, ids[:, None], 1)
    return float((1 / (scores >= right).sum(axis=1)).mean())
