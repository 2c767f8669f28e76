"""The two steps of hard debiasing, which methods share: neutralise words, equalise sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids
from tokenspace.table import EmbeddingTable

from ._subspace import project, remove, unit
from ._words import Lists, blocks, lengths, rows_of, usable

__all__ = ["equalized", "hard"]

Values = npt.NDArray[np.float64]

_NONE = 1e-9  # lengths below it are float32's rounding: there is no direction


def hard(
    source: EmbeddingTable, lists: Lists, basis: Values, *, equal: bool, as_unit: bool
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Return the rows without the subspace of ``basis``, (V, D), and what a user should know.

    ``equal`` equalises the sets, ``as_unit`` leaves the words at length 1.
    """
    vectors, wholly = _neutralised(source, lists.neutral, basis, as_unit)
    said = [f"neutral words that are nothing but bias, now zero: {wholly}"] if wholly else []
    if equal:
        said += _equalise(source, vectors, lists.equalize, basis, as_unit)
    return vectors, said


def _neutralised(
    source: EmbeddingTable, neutral: npt.NDArray[np.bool_], basis: Values, as_unit: bool
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the rows after the first step, and how many lie wholly in the subspace."""
    made, wholly = np.array(source.vectors, np.float32), 0
    words = usable(source)
    for part in blocks(len(made)):
        chosen = neutral[part]
        if as_unit:
            made[part][words[part]] = unit(source.vectors[part][words[part]])
        rows = np.asarray(source.vectors[part][chosen], np.float64)
        whole = lengths(rows)
        rows -= (rows @ basis.T) @ basis
        rest = lengths(rows)
        left = rest > _NONE * whole
        wholly += len(left) - int(left.sum())
        new = np.where(left, (1 if as_unit else whole) / np.where(left, rest, 1), 0)
        made[part][chosen] = rows * new[:, None]
    return made, wholly


def _equalise(
    source: EmbeddingTable,
    vectors: npt.NDArray[np.float32],
    sets: Sequence[Ids],
    basis: Values,
    as_unit: bool,
) -> list[str]:
    """Equalise the sets in their order, in place; return what a user should know."""
    tokens, middle, done = source.vocab.tokens, [], Counter[int]()
    now = {int(i): row for ids in sets for i, row in zip(ids, rows_of(source, ids), strict=True)}
    for ids in sets:
        new = equalized(np.stack([now[int(i)] for i in ids]), basis)
        if new is None:
            middle.append("/".join(tokens[i] for i in ids))
            continue
        now.update(zip(ids.tolist(), new, strict=True))
        done.update(ids.tolist())
    for i in done:
        vectors[i] = now[i] if as_unit else now[i] * float(lengths(source.vectors[[i]])[0])
    said = [f"{len(sets) - len(middle)} sets of words are equalised"]
    if middle:
        said.append(f"sets with a word in their middle, left as they are: {', '.join(middle)}")
    if twice := [tokens[i] for i, times in done.items() if times > 1]:
        said.append(f"in several sets, with the values of the last: {', '.join(twice)}")
    return said


def equalized(rows: Values, basis: Values) -> Values | None:
    """Return the unit rows (n, D) of a set, equal but for the subspace; None where one is amid."""
    mu = rows.mean(axis=0)
    nu = remove(mu[None], basis)[0]
    sides = project(rows - mu, basis)
    far = np.linalg.norm(sides, axis=1, keepdims=True)
    if (far < _NONE).any():
        return None
    return np.asarray(nu + np.sqrt(max(0.0, 1 - float(nu @ nu))) * sides / far)
