"""Mix the rows of a token's pieces and of its nearest tokens, by likeness and length.

The idea
--------
An unseen token can be looked at in two ways. Its *pieces*, the old tokens that spell it, say what
it is made of; a piece counts for more the longer it is and the more it is like the whole. And its
*neighbours*, the old tokens most like it in some space of texts, say what it resembles. The new row
is a weighted mean of both. No second model is needed: what is like what is told by any text
encoder, by word vectors, or by the source's own rows.

Equations
---------
With a unit vector f(x) for every token, pieces p_1 .. p_n of token t, |p| the bytes of p::

    local    q_i = ⟨f(t), f(p_i)⟩;    l_i = |p_i| / Σ_j |p_j|
             keep the pieces with q_i ≥ θ (all of them where none reaches θ)
             w = softmax((q + l) / 2 / T) over those kept;    e_loc  = Σ w_i E[p_i]
    global   the k old tokens of greatest ⟨f(t), f(s)⟩ = q_s; keep those with q_s ≥ θ
             w = softmax(q / T) over those kept;              e_glob = Σ w_s E[s]
    row = (1 − g) e_loc + g e_glob

Where one of the two parts is missing, the other one is the row.

f(x) is, of the first of these that is given::

    encoder    the encoder's vector of the token's text
    vectors    the row of ``vectors`` for the same bytes (for a list of words: with or without a
               space, in any case); else the mean of the rows of the token's pieces there
    neither    the same, with the source's own rows

divided by its length. E, f of the old tokens: (n, d) and (n, m); all float32.

The matrices of an untied model are taken side by side, E (n, 2 d), so that both get the same
weights, and the source's own rows mean those of both. To go by the input rows alone, give the input
matrix as ``vectors``.

Departures from the paper
-------------------------
- The reference asks a remote model for f; the default here needs nothing but the source.
- Lengths are counted in bytes, not characters, so that tokens that cut a character have one, too.
- Only tokens of equal bytes are copied. The reference also copies over equal folded case.
- The released code does not apply θ to pieces; the paper's text does. Here it does, and keeps all
  pieces where none passes (counted as ``kept_all``).
- A token whose bytes are no text, or that the word vectors do not know, has f = 0: its pieces are
  weighed by length alone, and it has no neighbours. One that has no pieces either is compared by
  its letters, hashed runs of 3 and 4 bytes; if even that finds nothing it gets the mean row, where
  the reference draws noise.
- Rows are not padded: that belongs to the model's file.

Cost
----
m n (m: unseen, n: old tokens) inner products of f for the neighbours, in blocks; one encoding of
every token's text if an encoder is given, which is then most of the time.

When not to use it
------------------
Where a donor model or a parallel text is at hand, which know more than spelling does. Where the
target is in another language or script, since the pieces of its words mean nothing: use transtok or
wechsel. Where input and output share one matrix and only the model's own rows tell likeness: θ
drops the short pieces, the row leans on one long piece and competes with it, and in our claim the
plain mean of the pieces (retok) does better; theta=-1 mends it. With T above 10 besides, and g = 0,
it is that mean.

Reference
---------
Sharthak, Pahalwan, Kamath and Shirawalmath, "Achieving Tokenizer Flexibility in Language Models
through Heuristic Adaptation and Supertoken Learning", 2025, arXiv:2505.09738.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, Ids2d, check_finite
from tokenspace.errors import InputError
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.text_encoder import TextEncoder
from tokenspace.transplant._letters import letters
from tokenspace.transplant._neighbours import nearest, softmax, unit
from tokenspace.transplant._shared import Pieces, begin, combine, pieces
from tokenspace.vocab import Vocabulary

__all__ = ["TokenAdapt"]

View = Callable[[Vocabulary, Ids], Floats2d]
"""f: unit rows (n, m) of some tokens of a vocabulary; zero where it knows nothing of one."""


@dataclass(frozen=True, kw_only=True)
class TokenAdapt(Recipe):
    """Mix the rows of a token's pieces and of its nearest tokens, by likeness and length."""

    k: Annotated[int, Range(1, 1024), "neighbours of the global part"] = 3
    temperature: Annotated[float, Range(1e-3, 1e6), "T: how even the weights are"] = 0.3
    theta: Annotated[float, Range(-1, 1), "θ: least cosine of a piece or a neighbour"] = 0.6
    mix: Annotated[float, Range(0, 1), "g: the share of the neighbours"] = 0.3

    tiny: ClassVar[Mapping[str, Any]] = {}
    joint: ClassVar[bool] = True  # one set of weights for input and output rows

    def __call__(
        self,
        source: EmbeddingTable,
        target: Vocabulary,
        /,
        *,
        encoder: TextEncoder | None = None,
        vectors: EmbeddingTable | None = None,
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; shared tokens keep their rows.
        target
            The vocabulary to give rows to.
        encoder
            Says how alike two tokens are, by their texts. Without it ``vectors`` does.
        vectors
            Vectors of words, or of the tokens of any tokenizer. Without them ``source`` is used.

        Returns
        -------
        EmbeddingTable
            ``notes`` counts the rows that were ``copied``, ``rebuilt`` or set to the ``mean``, and
            of the rebuilt ones those with a ``global`` part, those where no piece reached θ
            (``kept_all``) and those found by their ``letters``; ``support`` says of how many old
            tokens each of ``tokens`` is made.

        Raises
        ------
        InputError
            Where the encoder's vectors are not finite, or not one a text.
        """
        draft = begin(source, target)
        unseen, rows = draft.unseen, draft.rows
        old = _usable(source)
        view = _by_texts(encoder) if encoder is not None else _by_rows(vectors or source)
        own, keys = view(target, unseen), view(source.vocab, old)
        parts = pieces(target, unseen, source.vocab)
        known, place = own.any(axis=1), np.full(len(source.vocab), -1, np.int64)
        place[old] = np.arange(len(old))

        near = np.full((len(unseen), min(self.k, len(old))), -1, np.int64)
        w_near = np.zeros(near.shape, np.float32)
        near[known], w_near[known] = self._neighbours(own[known], keys, old)
        lost = ~known & (parts.lengths == 0) & _has_bytes(target, unseen)
        if lost.any():
            spelled = [target.surfaces[i] for i in unseen[lost]]
            spelling = letters([source.vocab.surfaces[i] for i in old])
            near[lost], w_near[lost] = self._neighbours(letters(spelled), spelling, old)

        q = np.zeros(len(parts.flat), np.float32)
        of = np.repeat(np.arange(len(parts)), parts.lengths)
        seen = place[parts.flat] >= 0
        q[seen] = np.einsum("pm,pm->p", own[of[seen]], keys[place[parts.flat[seen]]])
        local, w_local, kept_all = self._pieces(parts, q, source.vocab)

        has_local, has_near = parts.lengths > 0, w_near.any(axis=1)
        g = np.where(has_near, np.where(has_local, np.float32(self.mix), 1), 0)[:, None]
        supports = np.concatenate([local, near], axis=1)
        weights = np.concatenate([(1 - g) * w_local, g * w_near], axis=1).astype(np.float32)
        made = has_local | has_near
        rows[unseen[made]] = combine(supports[made], weights[made], source.vectors)
        notes = {
            **self.to_dict(),
            "copied": len(target) - len(unseen),
            "rebuilt": int(made.sum()),
            "mean": int((~made).sum()),
            "global": int(has_near.sum()),
            "kept_all": kept_all,
            "letters": int((has_near & lost).sum()),
            "tokens": unseen[made].tolist(),
            "support": (weights[made] > 0).sum(axis=1).tolist(),
        }
        return EmbeddingTable(target, rows, notes=notes)

    def _pieces(self, parts: Pieces, q: Floats2d, vocab: Vocabulary) -> tuple[Ids2d, Floats2d, int]:
        """Return the pieces and their weights, (N, n) each, and how often none reached θ."""
        lengths = np.array([len(vocab.surfaces[i]) for i in parts.flat], np.float32)
        of = np.repeat(np.arange(len(parts)), parts.lengths)
        whole = np.maximum(np.bincount(of, lengths, len(parts)), 1)
        supports, likeness = parts.padded(q)
        share = parts.padded(np.asarray(lengths / whole[of], np.float32))[1]
        inside = np.asarray(supports >= 0)
        kept = inside & (likeness >= self.theta)
        none = inside.any(axis=1) & ~kept.any(axis=1)
        kept[none] = inside[none]
        likeness = np.asarray((likeness + share) / 2, np.float32)
        return supports, self._weights(likeness, kept), int(none.sum())

    def _neighbours(self, own: Floats2d, keys: Floats2d, old: Ids) -> tuple[Ids2d, Floats2d]:
        """Return the nearest old tokens and their weights, (N, k) each."""
        found, q = nearest(own, keys, self.k)
        return old[found], self._weights(q, q >= self.theta)

    def _weights(self, likeness: Floats2d, kept: npt.NDArray[np.bool_]) -> Floats2d:
        """Return the softmax over what is kept of every row; zeros where nothing is."""
        weights = np.zeros(likeness.shape, np.float32)
        some = kept.any(axis=1)
        logits = np.where(kept[some], likeness[some], -np.inf)
        weights[some] = softmax(logits, self.temperature)
        return weights


def _usable(source: EmbeddingTable) -> Ids:
    """Return the old tokens that a row may be made of: those that are text and have a row."""
    usable = np.asarray(source.vectors.any(axis=1))
    usable[[*source.vocab.specials, *source.vocab.holes]] = False
    return np.flatnonzero(usable).astype(np.int64)


def _has_bytes(vocab: Vocabulary, ids: Ids) -> npt.NDArray[np.bool_]:
    """Tell which tokens are text: neither special nor without a token."""
    return np.array([i not in vocab.specials and i not in vocab.holes for i in ids.tolist()], bool)


def _by_rows(table: EmbeddingTable) -> View:
    """Look at a token through the rows of a table: its own, or those of its pieces there."""

    def view(vocab: Vocabulary, ids: Ids) -> Floats2d:
        if table.vocab.tokenizer is None:
            same = _words(vocab, table.vocab)[ids]
        else:
            same = vocab.match(table.vocab, ["exact"]).ids[ids]
        supports, shares = pieces(vocab, ids, table.vocab).padded()
        found = same >= 0
        supports[found], shares[found] = -1, 0
        supports[found, 0], shares[found, 0] = same[found], 1
        return unit(combine(supports, shares, table.vectors))

    return view


def _words(vocab: Vocabulary, words: Vocabulary) -> Ids:
    """Return for every token the word that it spells, without its space and in any case, or -1."""
    exact = {word.strip(): i for i, word in reversed(list(enumerate(words.tokens))) if word}
    folded = {word.casefold(): exact[word] for word in sorted(exact, key=exact.__getitem__)[::-1]}
    found = np.full(len(vocab), -1, np.int64)
    for i in range(len(vocab)):
        text = _text(vocab, i).strip()
        found[i] = exact.get(text, folded.get(text.casefold(), -1)) if text else -1
    return found


def _by_texts(encoder: TextEncoder) -> View:
    """Look at a token through an encoder; what is no text, or blank, stays zero."""

    def view(vocab: Vocabulary, ids: Ids) -> Floats2d:
        texts = [_text(vocab, i) for i in ids.tolist()]
        rows = np.zeros((len(texts), encoder.dim), np.float32)
        chosen = [row for row, text in enumerate(texts) if text]
        if chosen:
            found = np.asarray(encoder.encode([texts[row] for row in chosen]), np.float32)
            if found.shape != (len(chosen), encoder.dim):
                raise InputError(
                    f"encoder: vectors of shape {found.shape} for {len(chosen)} texts, not"
                    f" ({len(chosen)}, {encoder.dim})",
                    hint="give an encoder that returns one vector a text",
                )
            check_finite(found, "encoder", [texts[row] for row in chosen])
            rows[chosen] = unit(found)
        return rows

    return view


def _text(vocab: Vocabulary, i: int) -> str:
    if i in vocab.specials:
        return ""
    try:
        text = vocab.surfaces[i].decode()
    except UnicodeDecodeError:
        return ""
    return text if text.strip() else ""
