"""Give a token of another language the rows of its translations, from a parallel text.

The idea
--------
A model of one language is to speak another, and a text is at hand that says the same in both,
sentence by sentence. Align the words: which word of one side does each word of the other stand
for? Then carry the counts over to tokens. "Hund" was aligned with "dog" 800 times and with "puppy"
90 times, so the row of its token is mostly the row of "dog" with a little of "puppy". Tokens that
no frequent word contains inherit from those that contain them, or that they contain.

Equations
---------
A source word f_i, the i-th of m, comes from one target word e_j of n, or from none::

    p(f_i | e) = p_0 θ(f_i | none) + (1 − p_0) Σ_j a(j | i, m, n) θ(f_i | e_j)
    a(j | i, m, n) = exp(−λ |(i + ½)/m − (j + ½)/n|) / Z             λ = 0: IBM Model 1

θ is learned by expectation and maximisation: the expected counts under the present θ, divided by
their sum for every e, are the next θ. The last expected counts c(f, e) are what is used.

Pairs with c ≥ min_count are laid on the tokens f = s_1 .. s_p and e = t_1 .. t_q that spell them::

    half of c   evenly on all p q pairs (s_a, t_b)
    half of c   evenly on the pairs that meet when both lists are stretched to lcm(p, q)

A token that both vocabularies have counts 1 for itself; a number is written in the source's tokens.
A token u without counts takes, from every token with counts that begins or ends with u, that
token's counts scaled to 1000, with those of source tokens that start a word doubled. Where there is
no such token, it takes the same from the longest tokens with counts that u contains.

    row(t) = Σ_s p(s | t) E[s],    p(s | t) = count(s, t) / Σ_s count(s, t)

Shapes: E (n, d) float32. Counts are float64.

Departures from the paper
-------------------------
- Words are aligned in process, where the paper calls fast_align; λ and p_0 stay fixed, and what is
  kept are expected counts instead of those of the best alignment.
- Words carry the space before them, so that a token at the start of a word and the same letters
  inside one are told apart. An ideograph is a word of its own.
- Tokens of equal bytes keep their rows, as everywhere in this family. The paper translates them:
  German "die" would get the row of "the". Special tokens are copied by their role.
- Both halves of a pair's count add up to it; the reference gives each pair of tokens the half, or
  what integer division leaves. All digits of a number are used, where it takes the first token.
- A token also inherits from those that end with it (" Haus" for "Haus"), and from contained ones
  only where there are no longer ones. What is inherited is not passed on; in the reference it is,
  in the order of ids. The work is done by a table of byte strings, where the reference compares
  every token with every other.

Cost
----
Iterations × words × words of a sentence × log(translations), in one thread: 29,000 image captions
take a few seconds. 28 bytes for every two words that ever meet. Then V L table look-ups for
tokens of L bytes.

When not to use it
------------------
Within one language: tokenadapt or retok. With a dictionary but no parallel text: wechsel. With less
than some thousand sentence pairs few words reach ``min_count``; lower it, and expect noise. For
text without spaces between words other than Chinese, split the words first.

Reference
---------
Remy, Delobelle, Avetisyan, Khabibullina, de Lhoneux and Demeester, "Trans-Tokenization and
Cross-lingual Vocabulary Transfers: Language Adaptation of LLMs for Low-Resource NLP", COLM 2024,
arXiv:2408.04303. Dyer, Chahuneau and Smith, "A Simple, Fast, and Effective Reparameterization of
IBM Model 2", NAACL 2013, for the alignment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError
from tokenspace.jit import kernel
from tokenspace.pairs import Pairs
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import begin, pieces, written
from tokenspace.vocab import Vocabulary

__all__ = ["Alignment", "TransTok", "align", "inherit", "mix", "spread_count"]

LEAST = 50  # sentence pairs
LONGEST = 200  # words of a sentence; alignment is quadratic
BLOCK = 1 << 22  # pairs of words that are sorted at a time
INHERITED = 1000.0  # counts that a token takes from another one
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf" ?(?:[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+|[^\w\s]+)")

Counts = dict[int, dict[int, float]]
"""For a target token its source tokens, with how often each stood for it."""


@dataclass(frozen=True, kw_only=True)
class TransTok(Recipe):
    """Give a token of another language the rows of its translations, from a parallel text."""

    iterations: Annotated[int, Range(1, 100), "rounds of expectation and maximisation"] = 5
    tension: Annotated[float, Range(0, 100), "λ: how strongly word order is kept"] = 4.0
    null: Annotated[float, Range(0, 0.999), "p_0: chance that a word translates nothing"] = 0.08
    min_count: Annotated[float, Range(0, 1e9), "least count of a pair of words"] = 10.0

    tiny: ClassVar[Mapping[str, Any]] = {"iterations": 3}
    joint: ClassVar[bool] = True  # the weights do not depend on the rows

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *, parallel: Pairs
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; shared tokens keep their rows.
        target
            The vocabulary to give rows to.
        parallel
            Sentences in the source's language, each with its translation into the target's.

        Returns
        -------
        EmbeddingTable
            ``notes`` says how many sentence ``pairs`` were used and ``skipped``, how many pairs of
            ``words`` were kept, and for the unseen tokens how many rows come from ``aligned``
            words, from ``numbers``, from ``longer`` tokens, from ``contained`` ones, or are the
            ``mean``; ``support`` says of how many source tokens each of ``tokens`` is made.

        Raises
        ------
        InputError
            With fewer than 50 pairs in which both sides have words, at most 200 each.
        """
        draft = begin(source, target)
        left, right, skipped = _words(parallel)
        notes = {**self.to_dict(), "pairs": len(left), "skipped": skipped}
        if not len(draft.unseen):
            return EmbeddingTable(target, draft.rows, notes={**notes, "copied": len(target)})
        found = align(
            left, right, iterations=self.iterations, tension=self.tension, null=self.null
        ).above(self.min_count)
        counts = _on_tokens(found, source.vocab, target)
        t, s = target.shared(source.vocab)
        for mine, theirs in zip(t.tolist(), s.tolist(), strict=True):
            row = counts.setdefault(mine, {})
            row[theirs] = row.get(theirs, 0) + 1
        numbers = _numbers(counts, target, draft.unseen, source.vocab)
        unseen = draft.unseen.tolist()
        known = sum(u in counts for u in unseen)
        longer, contained = inherit(counts, target, unseen, source.vocab)
        made = mix(draft.rows, counts, unseen, source.vectors)
        notes |= {
            "words": len(found.counts),
            "copied": len(target) - len(unseen),
            "aligned": known - numbers,
            "numbers": numbers,
            "longer": longer,
            "contained": contained,
            "mean": len(unseen) - len(made),
            "tokens": made,
            "support": [len(counts[u]) for u in made],
        }
        return EmbeddingTable(target, draft.rows, notes=notes)


# Words


class Alignment(NamedTuple):
    """Pairs of words that stand for each other, by source word within target word.

    ``source`` and ``target`` (P,) number the words in ``words``, source's and target's;
    ``counts`` (P,) float64 says how often, ``probabilities`` (P,) is θ(source | target).
    """

    source: Ids
    target: Ids
    counts: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    words: tuple[list[str], list[str]]

    def above(self, least: float) -> Alignment:
        """Return the pairs that were counted at least so often."""
        kept = self.counts >= least
        return Alignment(
            self.source[kept],
            self.target[kept],
            self.counts[kept],
            self.probabilities[kept],
            self.words,
        )


def _words(parallel: Pairs) -> tuple[list[list[str]], list[list[str]], int]:
    """Split both sides into words, each with the space before it, and count unusable pairs."""
    left, right = [], []
    for pair in parallel:
        f, e = (_WORD.findall(" " + " ".join(side.split())) for side in pair)
        if f and e and max(len(f), len(e)) <= LONGEST:
            left.append(f)
            right.append(e)
    if len(left) < LEAST:
        raise InputError(
            f"transtok: {len(left)} of {len(parallel)} sentence pairs are usable, it needs {LEAST}",
            hint=f"give sentences of 1 to {LONGEST} words, (source, target) each",
        )
    return left, right, len(parallel) - len(left)


def align(
    left: Sequence[Sequence[str]],
    right: Sequence[Sequence[str]],
    *,
    iterations: int = 5,
    tension: float = 4.0,
    null: float = 0.08,
) -> Alignment:
    """Count which words of ``left`` stand for which of ``right``, sentence by sentence.

    Returns every pair of words that ever met. The equations are in the module's page.
    """
    f, f_at, sources = _numbered(left)
    e, e_at, targets = _numbered(right)
    S, T = len(sources), len(targets)
    keys = _meetings(f, f_at, e, e_at, S, T)  # target * S + source, ascending; target T is none
    starts = np.searchsorted(keys, np.arange(T + 2) * S)
    columns = (keys % S).astype(np.int32)
    theta, counts = np.ones(len(keys)), np.zeros(len(keys))
    for step in track(range(iterations + 1), "align"):
        counts[:] = 0
        _expect(f, f_at, e, e_at, starts, columns, theta, null, tension, counts)
        if step < iterations:
            sums = np.add.reduceat(counts, starts[:-1])
            theta = counts / np.repeat(np.maximum(sums, 1e-300), np.diff(starts))
    end = starts[T]
    of = np.repeat(np.arange(T), np.diff(starts[: T + 1]))
    return Alignment(
        columns[:end].astype(np.int64), of, counts[:end], theta[:end], (sources, targets)
    )


def _numbered(lines: Sequence[Sequence[str]]) -> tuple[npt.NDArray[np.int32], Ids, list[str]]:
    """Return the words' numbers, where every line begins, and the words by number."""
    ids: dict[str, int] = {}
    flat = [ids.setdefault(word, len(ids)) for line in lines for word in line]
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum([len(line) for line in lines], out=offsets[1:])
    return np.array(flat, np.int32), offsets, list(ids)


def _meetings(f: Any, f_at: Ids, e: Any, e_at: Ids, S: int, T: int) -> Ids:
    """Return the keys of all pairs of words that stand in one sentence pair, and of (none, f)."""
    sizes = np.cumsum(np.diff(f_at) * (np.diff(e_at) + 1))
    blocks, first = [], 0
    while first < len(sizes):
        before = sizes[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(sizes, before + BLOCK)))
        out = np.empty(sizes[last - 1] - before, np.int64)
        _meet(f, f_at, e, e_at, first, last, S, T, out)
        blocks.append(np.unique(out))
        first = last
    return np.unique(np.concatenate(blocks))


@kernel()
def _meet(
    f: Any, f_at: Any, e: Any, e_at: Any, first: int, last: int, S: int, T: int, out: Any
) -> None:
    n = 0
    for line in range(first, last):
        for i in range(f_at[line], f_at[line + 1]):
            out[n] = np.int64(T) * S + f[i]
            n += 1
            for j in range(e_at[line], e_at[line + 1]):
                out[n] = np.int64(e[j]) * S + f[i]
                n += 1


@kernel()
def _place(columns: Any, low: int, high: int, word: int) -> int:
    """Find a source word among the ascending ones of a target word."""
    while high - low > 1:
        middle = (low + high) // 2
        if columns[middle] <= word:
            low = middle
        else:
            high = middle
    return low


@kernel()
def _expect(
    f: Any,
    f_at: Any,
    e: Any,
    e_at: Any,
    starts: Any,
    columns: Any,
    theta: Any,
    null: float,
    tension: float,
    counts: Any,
) -> None:
    """Add the expected counts of every pair of words under θ."""
    none = len(starts) - 2
    longest = 0
    for line in range(len(e_at) - 1):
        longest = max(longest, e_at[line + 1] - e_at[line])
    p = np.empty(longest + 1)
    at = np.empty(longest + 1, np.int64)
    for line in range(len(f_at) - 1):
        m, n = f_at[line + 1] - f_at[line], e_at[line + 1] - e_at[line]
        for i in range(m):
            word = f[f_at[line] + i]
            z = 0.0
            for j in range(n):
                p[j] = np.exp(-tension * abs((i + 0.5) / m - (j + 0.5) / n))
                z += p[j]
            at[n] = _place(columns, starts[none], starts[none + 1], word)
            p[n] = null * theta[at[n]]
            total = p[n]
            for j in range(n):
                row = e[e_at[line] + j]
                at[j] = _place(columns, starts[row], starts[row + 1], word)
                p[j] *= (1 - null) / z * theta[at[j]]
                total += p[j]
            if total > 0:
                for j in range(n + 1):
                    counts[at[j]] += p[j] / total


# Tokens


def _on_tokens(found: Alignment, source: Vocabulary, target: Vocabulary) -> Counts:
    """Lay the counts of words on the tokens that spell them."""
    f = _spelled(found.words[0], found.source, source)
    e = _spelled(found.words[1], found.target, target)
    counts: Counts = {}
    for i, j, count in zip(
        found.source.tolist(), found.target.tolist(), found.counts.tolist(), strict=True
    ):
        if f[i] and e[j]:
            spread_count(counts, f[i], e[j], count)
    return counts


def _spelled(words: list[str], used: Ids, vocab: Vocabulary) -> dict[int, list[int]]:
    """Return the tokens of every used word, by its number."""
    numbers = np.unique(used).tolist()
    if vocab.tokenizer is None:
        ids = [vocab.ids.get(words[i].strip()) for i in numbers]
        return {i: [] if id_ is None else [id_] for i, id_ in zip(numbers, ids, strict=True)}
    parts = written([words[i].encode("utf-8", "surrogatepass") for i in numbers], vocab)
    return {i: parts[place].tolist() for place, i in enumerate(numbers)}


def spread_count(counts: Counts, s: Sequence[int], t: Sequence[int], count: float) -> None:
    """Spread a count over the tokens ``s`` and ``t`` of two words: half evenly, half in order."""
    lcm = math.lcm(len(s), len(t))
    met = [(t[k * len(t) // lcm], s[k * len(s) // lcm]) for k in range(lcm)]
    for pairs in ([(b, a) for b in t for a in s], met):
        share = count / 2 / len(pairs)
        for b, a in pairs:
            row = counts.setdefault(b, {})
            row[a] = row.get(a, 0) + share


def _numbers(counts: Counts, target: Vocabulary, unseen: Ids, source: Vocabulary) -> int:
    """Write unseen numbers in the source's tokens, whatever they were aligned with."""
    digits = [
        u
        for u in unseen.tolist()
        if u not in target.specials and target.surfaces[u].strip().isdigit()
    ]
    parts = pieces(target, np.array(digits, np.int64), source)
    for place, u in enumerate(digits):
        if len(parts[place]):
            counts[u] = {}
            for piece in parts[place].tolist():
                counts[u][piece] = counts[u].get(piece, 0) + 1
    return int((parts.lengths > 0).sum())


def inherit(
    counts: Counts, target: Vocabulary, unseen: Sequence[int], source: Vocabulary
) -> tuple[int, int]:
    """Give tokens without counts those of longer tokens, else those of contained ones.

    Returns how many tokens inherited in either way.
    """
    starts = [surface.startswith(b" ") for surface in source.surfaces]
    known = sorted(counts, key=target.tokens.__getitem__)
    heirs: dict[bytes, list[int]] = {}
    for u in unseen:
        if u not in counts and u not in target.specials and target.surfaces[u]:
            heirs.setdefault(target.surfaces[u], []).append(u)
    taken: Counts = {}

    def take(u: int, v: int) -> None:
        row, total = taken.setdefault(u, {}), sum(counts[v].values())
        for s, count in counts[v].items():
            row[s] = row.get(s, 0) + (1 + starts[s]) * INHERITED * count / total

    for v in known:
        for part in sorted(_ends(target.surfaces[v]) & heirs.keys()):
            for u in heirs[part]:
                take(u, v)
    longer = len(taken)
    by_surface = {target.surfaces[v]: v for v in reversed(known)}
    longest = max(map(len, by_surface), default=0)
    for surface, ids in heirs.items():
        if ids[0] not in taken:
            for part in _maximal(surface, by_surface, longest):
                for u in ids:
                    take(u, by_surface[part])
    counts |= taken
    return longer, len(taken) - longer


def mix(rows: Floats2d, counts: Counts, unseen: Sequence[int], E: Floats2d) -> list[int]:
    """Write the rows of all unseen tokens that have counts, and return these tokens."""
    made = [u for u in unseen if u in counts]
    for u in made:
        ids = sorted(counts[u])
        p = np.array([counts[u][i] for i in ids])
        rows[u] = (p / p.sum()) @ E[ids]
    return made


def _ends(surface: bytes) -> set[bytes]:
    """Return the proper prefixes and suffixes."""
    cuts = range(1, len(surface))
    return {surface[:cut] for cut in cuts} | {surface[cut:] for cut in cuts}


def _maximal(surface: bytes, known: Mapping[bytes, int], longest: int) -> Iterator[bytes]:
    """Yield the known byte strings in ``surface`` that lie in no longer known one."""
    spans: list[tuple[int, int]] = []
    for size in range(min(len(surface), longest), 0, -1):
        for begins in range(len(surface) - size + 1):
            ends = begins + size
            inside = any(b <= begins and ends <= e for b, e in spans)
            if not inside and surface[begins:ends] in known:
                spans.append((begins, ends))
                yield surface[begins:ends]
