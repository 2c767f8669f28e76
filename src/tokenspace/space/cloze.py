"""Train the rows that a passage's vector is the mean of: a sentence must find its passage.

The idea
--------
The mean of skip-gram vectors says which words a text shares its neighbourhoods with, and not what
is asked about it. Questions with their passages would teach that, and a folder of text holds none.
It holds something near it, though: a sentence and the rest of its passage were written about one
thing. So a sentence (or the title) is taken out of its passage and has to find the rest among the
rests of other passages; the rows of the tokens are moved until it does. Nothing but the text itself
is needed. Lee et al. call it the inverse cloze task: a cloze asks for the words that a context
lacks, this asks for the context.

Equations
---------
A text x of the tokens w, with the rows ``e_w`` (D,) of the table ``E`` (V, D)::

    u(x)   = s / |s|,  s = sum over w in x of e_w           rows of ``U``, from ``S``
    q_i, p_i: a piece of passage i drawn at random, and the rest of the passage
    L_ij   = <u(q_i), u(p_j)> / tau                         (B, B), over a batch of B passages
    loss   = - 1/(2B) sum over i of  log softmax_j(L_ij)[i] + log softmax_j(L_ji)[i]
    dloss/dL = ((softmax by rows + softmax by columns) / 2 - I) / B
    ds     = (du - <du, u> u) / |s|,  and every token of x adds ds to the gradient of its row

``E`` begins as the rows of SIF, which hold each token's weight as the length of its row, and is
moved by Adam with a rate that falls to zero in a straight line. One time in ten the piece stays in
p_i, so that equal words keep counting.

Departures from the paper
-------------------------
The paper trains two BERT encoders, one for questions; here one table of rows serves both, as in
all of a space. It compares by inner product, within batches of thousands; here it is the cosine
over tau, within 256, and each side must find the other. A title is a piece like a sentence. Adam's
moments of a row stand still while no text of a batch holds its token.

Cost
----
About 10 epochs x 2 T D additions for T tokens and 2 B N D for N passages: about two seconds of one
core for 7,000 passages. Memory for four copies of the rows of the tokens that are trained on, and
8 bytes a token of the sample (``TEXT``), whatever the size of the whole text.

When not to use it
------------------
With fewer passages than some hundred the rows hardly move, and what stays is SIF. A pretrained
encoder has learned from real questions.

Reference
---------
Lee, Chang, Toutanova: Latent Retrieval for Weakly Supervised Open Domain Question Answering,
ACL 2019, arXiv:1906.00300, section 4. Kingma, Ba: Adam, ICLR 2015, algorithm 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged
from tokenspace.encode.static import StaticEncoder, flat_ids
from tokenspace.errors import InputError
from tokenspace.io import replacing
from tokenspace.jit import kernel
from tokenspace.progress import track
from tokenspace.rng import stream
from tokenspace.vocab import Vocabulary

from .passages import Passage, sentences

__all__ = ["TEXT", "Pieces", "TwoRows", "cut", "pieces", "train"]

TEXT = 20_000_000  # bytes of passages that are trained on, about 50,000 of the usual size
EPOCHS = 10
BATCH = 256  # passages among which a piece has to find its own
TAU = 0.07
RATE = 2e-3
KEEP = 0.1  # how often the piece stays in its passage
_READ = 512  # passages that are tokenised at a time


@dataclass(frozen=True)
class Pieces:
    """The tokens of passages, piece by piece.

    ``ids`` (T,) are all tokens in order; piece p is ``ids[starts[p]:starts[p + 1]]``, and passage
    n is made of the pieces ``firsts[n]`` to ``firsts[n + 1]``. No piece is empty.
    """

    ids: npt.NDArray[np.int64]
    starts: Ids
    firsts: Ids


@dataclass(frozen=True, eq=False)
class TwoRows:
    """A text encoder with two rows a token: those of ``texts`` are averaged, ``words`` compared.

    Late interaction asks which token means the same as another, and the vector of a text what it
    is about; rows trained for the one are worse at the other. Both have one vocabulary.
    """

    words: StaticEncoder
    texts: StaticEncoder

    def __post_init__(self) -> None:
        if self.words.vectors.shape != self.texts.vectors.shape:
            raise InputError(
                f"rows of shape {self.texts.vectors.shape} for texts and"
                f" {self.words.vectors.shape} for words do not agree",
                hint="build the space again",
            )

    @property
    def vocab(self) -> Vocabulary:
        """The vocabulary of both, V tokens."""
        return self.words.vocab

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.texts.dim

    def encode(self, texts: Sequence[str], *, batch_size: int = 1024) -> Floats2d:
        """Return the mean of the rows of every text's tokens, (N, D) float32."""
        return self.texts.encode(texts, batch_size=batch_size)

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 1024) -> Ragged:
        """Return the unit rows of every text's tokens, N matrices (T_i, D) float32."""
        return self.words.encode_tokens(texts, batch_size=batch_size)

    def encode_both(self, texts: Sequence[str]) -> tuple[Floats2d, Ragged]:
        """Return what ``encode`` and ``encode_tokens`` return."""
        return self.encode(texts), self.encode_tokens(texts)

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every row of ``encode_tokens``."""
        return self.words.tokens(texts)

    def save(self, path: str | Path) -> None:
        """Write a directory that ``SentenceTransformer`` loads as ``texts``, ``words`` inside."""
        with replacing(path) as partial:
            self.texts.save(partial)
            self.words.save(partial / "words")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open such a directory; the rows are mapped into memory, not read."""
        return cls(StaticEncoder.load(Path(path) / "words"), StaticEncoder.load(path))


def cut(passage: Passage, hidden: str | None = None) -> list[str]:
    """Return the title and the sentences of a passage, without the one that says ``hidden``.

    The measurement asks with sentences, or with the last part of a title, that it takes out of
    their passages; what it asks with must not have been trained on.
    """
    title = "" if passage.title.rpartition(" > ")[2] == hidden else passage.title
    return [part for part in (title, *sentences(passage.text)) if part and part != hidden]


def pieces(passages: Iterable[Sequence[str]], vocab: Vocabulary) -> Pieces:
    """Tokenise passages that come as lists of their pieces; pieces without a token are left out."""
    ids, sizes, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [0]
    source = iter(passages)
    while batch := list(itertools.islice(source, _READ)):
        found, offsets = flat_ids(vocab, [part for passage in batch for part in passage])
        size = np.diff(offsets)
        owner = np.repeat(np.arange(len(batch)), [len(passage) for passage in batch])
        ids.append(found)
        sizes.append(size[size > 0])
        counts += np.bincount(owner[size > 0], minlength=len(batch)).tolist()
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return Pieces(np.concatenate(ids), starts, np.cumsum(counts, dtype=np.int64))


def train(rows: Floats2d, text: Pieces, *, seed: int, epochs: int = EPOCHS) -> Floats2d:
    """Return the rows (V, D) after training on ``text``, (V, D) float32.

    ``rows`` is not changed, and a token that the text lacks keeps its row, as all do where fewer
    than two passages have two pieces. Raises :class:`InputError` for a token without a row.
    """
    if len(text.ids) and int(text.ids.max()) >= len(rows):
        raise InputError(
            f"cloze: token {int(text.ids.max())} has no row in a table of {len(rows)}",
            hint="tokenise the text with the vocabulary of the table",
        )
    counts = np.diff(text.firsts)
    able = np.flatnonzero(counts > 1)
    B = min(BATCH, len(able))
    trained = np.array(rows, np.float32)
    if B < 2:
        return trained
    used, ids = np.unique(text.ids, return_inverse=True)
    E = trained[used]
    G, m, v = np.zeros_like(E), np.zeros_like(E), np.zeros_like(E)
    touched = np.zeros(len(E), np.bool_)
    owner = np.concatenate([np.arange(B), np.tile(np.arange(B, 2 * B), 2)])
    random = stream(seed, "cloze")
    each = len(able) // B
    for step in track(range(epochs * each), "cloze"):
        if step % each == 0:
            order = random.permutation(able)
        drawn = order[step % each * B :][:B]
        piece = text.firsts[drawn] + random.integers(counts[drawn])
        begin, end = text.starts[piece], text.starts[piece + 1]
        first, last = text.starts[text.firsts[drawn]], text.starts[text.firsts[drawn + 1]]
        again = np.where(random.random(B) < KEEP, begin, end)
        # the spans of tokens: q_i, then p_i before it and after it
        start, stop = np.concatenate([begin, first, again]), np.concatenate([end, begin, last])
        S = np.zeros((2 * B, E.shape[1]), np.float32)
        _gather(E, ids, owner, start, stop, S)
        _scatter(_gradient(S), ids, owner, start, stop, G, touched)
        done = step + 1
        rate = RATE * (1 - done / (epochs * each))
        _adam(E, G, m, v, touched, np.array([rate, 1 - 0.9**done, 1 - 0.999**done], np.float32))
    trained[used] = E
    return trained


def _gradient(S: Floats2d) -> Floats2d:
    """Return the gradient of the loss by the sums of rows, (2 B, D): first the q, then the p."""
    B = len(S) // 2
    length = np.linalg.norm(S, axis=1, keepdims=True) + np.float32(1e-9)
    U = S / length
    L = U[:B] @ U[B:].T / np.float32(TAU)
    dL = (_softmax(L, 1) + _softmax(L, 0)) / 2 - np.eye(B, dtype=np.float32)
    dL /= np.float32(B * TAU)
    dU = np.concatenate([dL @ U[B:], dL.T @ U[:B]])
    return np.asarray((dU - (dU * U).sum(axis=1, keepdims=True) * U) / length, np.float32)


def _softmax(scores: Floats2d, axis: int) -> Floats2d:
    shares = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(shares / shares.sum(axis=axis, keepdims=True), np.float32)


@kernel(fastmath={"contract"})
def _gather(
    rows: Floats2d,
    ids: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
    start: Ids,
    stop: Ids,
    sums: Floats2d,
) -> None:
    """Add the rows of the tokens of every span to the sum of the text that owns it."""
    for span in range(len(owner)):
        total = sums[owner[span]]
        for place in range(start[span], stop[span]):
            row = rows[ids[place]]
            for d in range(len(total)):
                total[d] += row[d]


@kernel(fastmath={"contract"})
def _scatter(
    sums: Floats2d,
    ids: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
    start: Ids,
    stop: Ids,
    rows: Floats2d,
    touched: npt.NDArray[np.bool_],
) -> None:
    """Add to the row of every token what the text that owns its span has for it."""
    for span in range(len(owner)):
        total = sums[owner[span]]
        for place in range(start[span], stop[span]):
            row = rows[ids[place]]
            touched[ids[place]] = True
            for d in range(len(total)):
                row[d] += total[d]


@kernel(fastmath={"contract"})
def _adam(
    rows: Floats2d,
    gradient: Floats2d,
    m: Floats2d,
    v: Floats2d,
    touched: npt.NDArray[np.bool_],
    now: Floats1d,
) -> None:
    """Move the touched rows; ``now`` is the rate and both corrections. Clears the gradient."""
    rate, first, second = now[0], now[1], now[2]
    for w in range(len(rows)):
        if touched[w]:
            touched[w] = False
            for d in range(rows.shape[1]):
                g = gradient[w, d]
                gradient[w, d] = 0
                m[w, d] += np.float32(0.1) * (g - m[w, d])
                v[w, d] += np.float32(0.001) * (g * g - v[w, d])
                slope = np.sqrt(v[w, d] / second) + np.float32(1e-8)
                rows[w, d] -= rate * (m[w, d] / first) / slope
