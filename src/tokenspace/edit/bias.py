"""The report of a table's bias: its direction, who lies along it, the queries, and what is left.

Everything is measured on unit rows. What words are missing is part of every figure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import data
from tokenspace.arrays import Ids
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.report import environment
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._subspace import chance, direct_bias, indirect_bias, random_shares, remove
from ._words import Lists, find, rows_of, usable
from .association import ect, mac, rnd, rnsb, weat
from .residual import Left, residual

__all__ = ["BiasReport", "Query", "bias_report", "load_queries", "published_queries"]

NEUTRAL = 50_000  # words that what is left is measured on, the first ones of the table
SHOWN = 10
ALIKE = 0.3  # cosine from which two words are alike enough for a share of it to say something

Values = npt.NDArray[np.float64]


class Query(NamedTuple):
    """Two target sets and two attribute sets, (name, words) each."""

    name: str
    targets: tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]
    attributes: tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, kw_only=True)
class BiasReport:
    """What :func:`bias_report` found.

    ``direction``: the definitional sets that were used, the share of their variance along each
    principal direction, and that of the first direction of random sets (mean and largest).
    ``direct``: DirectBias of the neutral words, and its mean for a random direction (``chance``).
    ``words``: every neutral word of the list and its place along the direction, -1 to 1.
    ``indirect``: pairs of neutral words and the share of their likeness that the direction brings.
    ``queries``: the metrics of every query, or why it was left out. ``residual``: what the table
    still shows of the direction once it is removed, beside random directions. ``missing``: words
    of the lists that the table lacks.
    """

    source: str
    direction: Mapping[str, Any]
    direct: Mapping[str, Any]
    words: Sequence[tuple[str, float]]
    indirect: Sequence[tuple[str, str, float, float]]
    queries: Sequence[Mapping[str, Any]]
    residual: Mapping[str, Any]
    missing: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=environment)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


def bias_report(
    table: EmbeddingTable,
    *,
    source: str = "",
    definitional: WordSets | None = None,
    neutral: WordSets | None = None,
    specific: WordSets | None = None,
    queries: Sequence[Query] | None = None,
    after: EmbeddingTable | None = None,
    lost: float = 0.2,
    seed: int = 0,
) -> BiasReport:
    """Measure the bias of a table along the direction of definitional sets.

    Parameters
    ----------
    table
        (V, D); of a model the input embeddings.
    source
        What the table is called in the report.
    definitional, specific
        As for ``hard_debias``: sets whose words differ in what is sought, and words that may
        keep it. By default those of Bolukbasi et al. (2016) for gender in English.
    neutral
        Words that should not lie along the direction. By default the professions of the same
        authors, or, with definitional sets of yours, all words that are in no list.
    queries
        By default the ten of Caliskan et al. (2017), and careers and family with male and female
        terms; none with definitional sets of yours.
    after
        An edited form of the table, to measure what is left in it. By default the table with the
        direction removed by projection.
    lost
        A query of which a set lacks a larger share of its words is left out, and said so.
    seed
        Of partitions that are drawn, of folds, and of random directions.

    Raises
    ------
    InputError
        Where fewer than two definitional sets are in the table, where no neutral word is, and
        where ``after`` has other tokens.
    """
    if not 0 <= lost < 1:
        raise ConfigError(f"lost={lost} is outside [0, 1)")
    if after is not None and after.shape != table.shape:
        raise InputError(
            f"the edited table is {after.shape}, the table {table.shape}",
            hint="give the same table, edited",
        )
    own = definitional is not None
    lists = Lists.of(table, definitional, None, specific)
    span = lists.subspace(table, 1)
    g = span.basis[0]
    has = usable(table)
    every = np.flatnonzero(lists.neutral)
    if neutral is None and not own:
        neutral = data.word_sets("professions")
    missing = dict(lists.missing)
    missing.pop("equalize", None)
    if neutral is None:
        ids = every[:NEUTRAL]
    else:
        ids, missing["neutral"] = _known(table, has & lists.neutral, neutral.words)
        missing["neutral"] = [w for w in missing["neutral"] if _find(table, w) < 0]
    if len(ids) == 0:
        raise InputError("none of the neutral words is in the table", hint="give --neutral FILE")
    rows = rows_of(table, ids)
    along = rows @ g
    order = np.argsort(-along, kind="stable")
    names = [table.vocab.surface(int(i)).decode("utf-8", "replace").strip() for i in ids]
    if queries is None:
        queries = () if own else published_queries()
    random = random_shares(rows_of(table, every[:20_000]), [len(i) for i in lists.definitional])
    return BiasReport(
        source=source,
        direction={
            "sets": [[table.vocab.tokens[i] for i in ids] for ids in lists.definitional],
            "shares": span.shares[:10].tolist(),
            "random_mean": float(random.mean()),
            "random_max": float(random.max()),
        },
        direct={
            "bias": direct_bias(rows, span.basis),
            "chance": chance(table.shape[1]),
            "words": len(ids),
        },
        words=[(names[i], float(along[i])) for i in order],
        indirect=_indirect(names, rows, span.basis),
        queries=[_asked(query, table, has, lost, seed) for query in queries],
        residual=_left(table, after, every[:NEUTRAL], g, seed),
        missing={name: list(words) for name, words in missing.items() if words},
        notes=lists.lines,
    )


def _known(
    table: EmbeddingTable, usable: npt.NDArray[np.bool_], words: Sequence[str]
) -> tuple[Ids, list[str]]:
    """Return the ids of the words with a usable row, and the words without one.

    A word that is not there as it is written is looked for in small letters.
    """
    ids = [_find(table, word) for word in words]
    kept = [i for i in ids if i >= 0 and usable[i]]
    gone = [word for word, i in zip(words, ids, strict=True) if i < 0 or not usable[i]]
    return np.array(list(dict.fromkeys(kept)), np.int64), gone


def _find(table: EmbeddingTable, word: str) -> int:
    found = find(table.vocab, word)
    return found if found >= 0 else find(table.vocab, word.lower())


def _indirect(
    names: Sequence[str], rows: Values, basis: Values
) -> list[tuple[str, str, float, float]]:
    """Return the pairs of like words (cosine >= .3) of whose likeness the direction brings most.

    Each is both words, their cosine, and the share of it that the direction brings.
    """
    some = rows[:2000]
    likeness = np.triu(some @ some.T, 1)
    first, second = np.nonzero(likeness >= ALIKE)
    if len(first) == 0:
        return []
    shares = indirect_bias(some[first], some[second], basis)
    best = np.argsort(-np.nan_to_num(shares, nan=-np.inf), kind="stable")[:SHOWN]
    return [
        (names[first[i]], names[second[i]], float(likeness[first[i], second[i]]), float(shares[i]))
        for i in best
    ]


def _asked(
    query: Query, table: EmbeddingTable, has: npt.NDArray[np.bool_], lost: float, seed: int
) -> dict[str, Any]:
    """Return a query's metrics, or why it was left out; with it, the words that are missing."""
    sets, gone = [], {}
    for name, words in (*query.targets, *query.attributes):
        ids, absent = _known(table, has, words)
        sets.append(rows_of(table, ids))
        if absent:
            gone[name] = absent
    names = [name for name, _ in (*query.targets, *query.attributes)]
    said: dict[str, Any] = {
        "query": query.name,
        "targets": names[:2],
        "attributes": names[2:],
        "sizes": [len(rows) for rows in sets],
        "missing": gone,
    }
    total = [len(words) for _, words in (*query.targets, *query.attributes)]
    short = [
        f"{name} lacks {all_ - len(rows)} of {all_} words"
        for name, rows, all_ in zip(names, sets, total, strict=True)
        if all_ - len(rows) > lost * all_ or len(rows) < 2
    ]
    if short:
        return {**said, "left_out": "; ".join(short)}
    X, Y, A, B = (rows.astype(np.float32) for rows in sets)
    found = weat(X, Y, A, B, seed=seed)
    return {
        **said,
        "weat": found.score,
        "effect": found.effect,
        "difference": found.difference,
        "p": found.p_value,
        "p_exact": found.exact,
        "rnd": [rnd(X, Y, A), rnd(X, Y, B)],
        "rnsb": rnsb([X, Y], A, B, seed=seed),
        "mac": mac(np.concatenate([X, Y]), [A, B]),
        "ect": ect(X, Y, np.concatenate([A, B])),
    }


def _left(
    table: EmbeddingTable, after: EmbeddingTable | None, ids: Ids, g: Values, seed: int
) -> dict[str, Any]:
    if len(ids) < 40:
        return {"left_out": f"{len(ids)} neutral words are too few (40 are needed)"}
    before = rows_of(table, ids)
    edited = remove(before, g[None]) if after is None else rows_of(after, ids)
    found = residual(before, edited, g, seed=seed)
    spread = np.array(found.control)
    return {
        "words": found.words,
        "of": "the direction removed by projection" if after is None else "the edited table",
        "measures": [
            {
                "measure": name,
                "found": value,
                "control_mean": float(spread[:, i].mean()),
                "control_low": float(spread[:, i].min()),
                "control_high": float(spread[:, i].max()),
            }
            for i, (name, value) in enumerate(zip(Left._fields, found.found, strict=True))
        ],
    }


_PUBLISHED = (
    ("WEAT 1", "flowers", "insects", "pleasant_5", "unpleasant_5a"),
    ("WEAT 2", "instruments", "weapons", "pleasant_5", "unpleasant_5a"),
    ("WEAT 3", "european_american_names_5", "african_american_names_5", "pleasant_5",
     "unpleasant_5b"),
    ("WEAT 4", "european_american_names_7", "african_american_names_7", "pleasant_5",
     "unpleasant_5b"),
    ("WEAT 5", "european_american_names_7", "african_american_names_7", "pleasant_9",
     "unpleasant_9"),
    ("WEAT 6", "male_names", "female_names", "career", "family"),
    ("WEAT 7", "math", "arts", "male_terms", "female_terms"),
    ("WEAT 8", "science", "arts_2", "male_terms_2", "female_terms_2"),
    ("WEAT 9", "mental_disease", "physical_disease", "temporary", "permanent"),
    ("WEAT 10", "young_people_names", "old_people_names", "pleasant_9", "unpleasant_9"),
    ("careers", "career", "family", "male_terms", "female_terms"),
)  # fmt: skip


def published_queries() -> list[Query]:
    """Return the ten tests of Caliskan et al. (2017), and careers and family by gendered terms.

    The sets are those of WEFE's file. Raises :class:`InputError` where it cannot be had.
    """
    sets = data.word_sets("WEAT")
    return [
        Query(name, *(((a, sets.named(a)), (b, sets.named(b))) for a, b in ((x, y), (p, q))))
        for name, x, y, p, q in _PUBLISHED
    ]


def load_queries(path: str | Path) -> list[Query]:
    """Read queries: {"name": {"targets": {"career": [...], "family": [...]}, "attributes": ...}}.

    Raises :class:`FormatError` for anything else.
    """
    mend = 'write {"name": {"targets": {"a": ["word", ...], "b": ...}, "attributes": {...}}}'
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise InputError(f"{path}: {fault.strerror}", hint="check the path") from fault
    except ValueError as fault:
        raise FormatError(f"{path}: not valid JSON ({fault})", hint=mend) from fault
    if not isinstance(content, dict) or not content:
        raise FormatError(f"{path}: not an object of queries by name", hint=mend)
    found = []
    for name, query in content.items():
        sides = []
        for part in ("targets", "attributes"):
            sets = query.get(part) if isinstance(query, dict) else None
            if not isinstance(sets, dict) or len(sets) != 2:
                raise FormatError(f"{path}: query {name!r}: {part} are not two sets", hint=mend)
            if not all(isinstance(words, list) for words in sets.values()):
                raise FormatError(f"{path}: query {name!r}: {part} are not lists", hint=mend)
            given = WordSets(sets)
            one, two = zip(given.names, given, strict=True)
            sides.append((one, two))
        found.append(Query(name, sides[0], sides[1]))
    return found
