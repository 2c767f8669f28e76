"""Train a model with a new vocabulary for some minutes, so that it does what it did before.

An encoder learns from the model that it was made from: its vectors of the same texts, and how
near these are to one another, become those of the source. Nothing but plain text is needed. A
language model learns from the text itself, since the two models' tokens differ.

A batch holds families: a piece of a text and ``VARIANTS`` edits of it, in which some words are
left out or replaced by others, of the texts and of the teacher's vocabulary. For B texts with unit
vectors S of the student and T of its teacher, (B, D) each, and P pairs within families::

    loss = (1/B) ‖S - T‖² + (1/B²) ‖S Sᵀ - T Tᵀ‖² + (NEAR/P) Σ_(i, j in P) (s_i s_j - t_i t_j)²

Whole texts and the first two terms alone bring the vectors nearer and yet do not make them compare
better (MiniLM with T5's tokenizer, developer pairs of STS 2014: the squared distance fell by a
third, and the share of the original's correlation from 91.7 % to 90.4 %). Likely so because squared
distance is least where words not learnt yet share one place between them, while a comparison of
texts lives on what tells them apart; hence the edits, and the weight of their pairs. Words of the
vocabulary are among them because the texts that five minutes suffice for hold few of its words.

The rows of the new vocabulary learn at the full rate, the rest of the model at ``BODY`` of it.

An encoder's rows start from what its teacher read in the same places, which the form of a token
does not tell: T5 may write "ate" as ``▁`` and ``ate``, and a transplant gives the latter the row
of ``##ate``, a continuation, though it starts a word here. Let token s of the teacher and an
occurrence of token t have o characters of the texts in common, n be the number of occurrences of
t, and e_t the row that the transplant gave. Then ::

    E'_t = (Σ_occurrences (Σ_s o E_s / Σ_s o) + WEAK e_t) / (n + WEAK)

The words of the teacher's vocabulary are among the texts, and an occurrence in them counts
``WEAK``. Special tokens, white space and tokens never met keep their rows; all tokens do if the
loss of the first batches is no lower with the new ones, as in a model that was healed before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.checkpoint import Checkpoint
from tokenspace.checkpoint.weights import New, rewrite
from tokenspace.errors import InputError
from tokenspace.io import replacing
from tokenspace.nn.decoder import next_token_loss, token_row, windows
from tokenspace.nn.encoder import ModelEncoder, load_encoder
from tokenspace.nn.quality import language_model
from tokenspace.nn.score import start_token
from tokenspace.nn.train import steps
from tokenspace.progress import Meter
from tokenspace.rng import stream
from tokenspace.vocab import Vocabulary

__all__ = ["BODY", "Healed", "heal", "imitate"]

Batch = TypeVar("Batch")
Page = tuple[list[str], float]

RATE = 1e-3
BODY = 0.05  # share of the rate for what is not a row of the vocabulary
SECONDS = 300.0
MOST = 1_000_000  # steps, where seconds are what counts
FAMILIES = 16  # in a batch
VARIANTS = 3  # edits of a piece, which make a family with it
PIECE = 12  # words at most
CAPITAL = 0.1  # share of the words put in that get a capital: an uncased teacher knows none
NEAR = 10.0  # weight of the pairs within families
TOGETHER = 512  # families that are sorted by length, for less padding
WEAK = 0.1  # of an occurrence: one in a word of the vocabulary, and the row that was given
READ = 2_000_000  # characters of text that rows start from, in SECONDS or for steps alone
TRIED = 2  # batches whose loss says which rows to start from
WINDOW = 128  # tokens in a window of a language model
MASKED = 0.15


@dataclass(frozen=True)
class Healed:
    """What healing did: optimizer steps, seconds, and the mean loss of the first and last tenth."""

    steps: int
    seconds: float
    loss_first: float
    loss_last: float


def heal(
    source: str | Path,
    result: str | Path,
    texts: Sequence[str],
    *,
    seconds: float | None = None,
    total: int | None = None,
    seed: int = 0,
) -> Healed:
    """Train the model directory ``result`` in place, for ``seconds`` or ``total`` steps.

    Whichever ends first ends it; without either it is five minutes.

    Parameters
    ----------
    source
        The model that ``result`` was made from; the teacher of an encoder. Its vectors, and the
        rows to start from, are computed within the time.
    texts
        Plain texts, such as sentences, of the kind that the model is for. Blank ones are left out.
    seed
        Of the order and the edits of the texts, of masks and of dropout. Bounded by steps alone
        the result is the same every time; bounded by seconds it is not.

    Raises
    ------
    InputError
        Without texts, and for an encoder-decoder.
    """
    texts = [text for text in texts if text.strip()]
    seconds = SECONDS if seconds is None and total is None else seconds
    if not texts:
        raise InputError("heal: there is no text to learn from", hint="give --heal FILE")
    checkpoint = Checkpoint.open(result)
    if checkpoint.kind == "encoder-decoder":
        raise InputError(
            f"{checkpoint.root}: an encoder-decoder cannot be healed from plain text",
            hint="fine-tune it on its task",
        )
    model = language_model(checkpoint.root)
    if model is None:
        module, healed = _encoder(
            str(source), checkpoint, texts, seconds=seconds, total=total, seed=seed
        )
    else:
        module, healed = _language(
            model, checkpoint, texts, seconds=seconds, total=total, seed=seed
        )
    _store(checkpoint, module)
    return healed


def _encoder(
    source: str,
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> tuple[nn.Module, Healed]:
    """Train an encoder to give the vectors of its source, from rows that the source's suggest."""
    student, teacher = load_encoder(str(checkpoint.root)), load_encoder(source)
    begin = time.perf_counter()
    vocab = Checkpoint.open(source).vocab
    words = _words(vocab)
    pages = _pages(texts, words, int(READ * (SECONDS if seconds is None else seconds) / SECONDS))
    readers = (
        _Reader(teacher.body.tokenizer, vocab),
        _Reader(student.body.tokenizer, checkpoint.vocab),
    )
    families = _families(texts, words, seed)
    first = list(islice(families, TRIED))
    _start(teacher, student, lambda E, given: _aligned(E, given, *readers, pages), first)
    spent = time.perf_counter() - begin
    left = None if seconds is None else max(0.0, seconds - spent)
    batches = chain(first, families)
    module, healed = imitate(teacher, student, batches, seconds=left, total=total, seed=seed)
    return module, replace(healed, seconds=healed.seconds + spent)


def _network(encoder: ModelEncoder) -> nn.Module:
    body: Any = encoder.body
    network: nn.Module = body.network if hasattr(body, "network") else body.model
    return network


class _Student(nn.Module):
    """An encoder's body as one module: padded ids to one vector a text."""

    def __init__(self, encoder: ModelEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.network = _network(encoder)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a teacher without dropout is matched without it."""
        return super().train(False)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vectors of a batch of texts, (B, D)."""
        return normalize(self.encoder.vectors(texts), dim=1)


def imitate(
    teacher: ModelEncoder,
    student: ModelEncoder,
    batches: Iterator[list[str]],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> tuple[nn.Module, Healed]:
    """Train ``student`` to give the vectors that ``teacher`` gives; return its network.

    The texts of a batch are families, one after another, of 1 + ``VARIANTS`` texts each.
    """
    module = _Student(student)
    loss = partial(_loss, teacher)
    return module.network, _train(
        module, loss, batches, _is_row, seconds=seconds, total=total, seed=seed
    )


def _loss(teacher: ModelEncoder, network: nn.Module, texts: list[str]) -> Tensor:
    S: Tensor = network(texts)
    T = torch.from_numpy(teacher.encode(texts, batch_size=len(texts)))
    return _difference(S, normalize(T, dim=1).to(S.device))


def _difference(S: Tensor, T: Tensor) -> Tensor:
    """Return the loss of unit vectors (B, D), which come in families of 1 + ``VARIANTS``."""
    family = torch.arange(len(S), device=S.device) // (1 + VARIANTS)
    near = family[:, None] == family
    apart = (S @ S.T - T @ T.T).square()  # of a text to itself, zero
    pairs = len(S) * VARIANTS
    return (S - T).square().sum(dim=1).mean() + apart.mean() + NEAR * apart[near].sum() / pairs


def _is_row(name: str) -> bool:
    return any(part in name for part in ("word_embeddings", "embed_tokens", "wte", "shared."))


def _words(vocab: Vocabulary) -> list[str]:
    """Return the whole words of three or more letters of a vocabulary."""
    found = []
    for surface in vocab.surfaces:
        word = surface.decode("utf-8", errors="replace")
        if word.startswith(" ") and len(word) > 3 and word[1:].isalpha():
            found.append(word[1:])
    return found


def _pages(texts: Sequence[str], words: Sequence[str], most: int) -> Iterator[Page]:
    """Yield texts and the weight of an occurrence in them: about ``most`` characters, then words.

    Of texts that hold k times as many characters every k-th is read.
    """
    step = math.ceil(sum(map(len, texts)) / max(1, most))
    lines = [" ".join(words[i : i + PIECE]) for i in range(0, len(words), PIECE)]
    for chosen, weight in ((texts[::step], 1.0), (lines, WEAK)):
        for i in range(0, len(chosen), TOGETHER):
            yield list(chosen[i : i + TOGETHER]), weight


@dataclass(frozen=True)
class _Reader:
    """A tokenizer that says which characters its tokens stand for."""

    tokenizer: Tokenizer
    vocab: Vocabulary

    @cached_property
    def own(self) -> Ids:
        """The tokens that stand for something to be seen: neither special nor white space."""
        seen = [bool(surface.strip()) for surface in self.vocab.surfaces]
        return np.setdiff1d(np.flatnonzero(seen), list(self.vocab.specials))

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, Ids2d]:
        """Return ids (N,) and spans (N, 2), start and end in the texts laid end to end."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        begin = 0
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        for text, encoding in zip(texts, encodings, strict=True):
            ids += encoding.ids
            spans += [(begin + start, begin + end) for start, end in encoding.offsets]
            begin += len(text)
        found, places = np.array(ids, np.int64), np.array(spans, np.int64).reshape(-1, 2)
        kept = np.isin(found, self.own) & (places[:, 0] < places[:, 1])
        return found[kept], places[kept]


def _aligned(
    E: Floats2d, given: Floats2d, source: _Reader, target: _Reader, pages: Iterable[Page]
) -> Floats2d:
    """Return E' (V', D) of the module's text, from E (V, D) and the rows given (V', D)."""
    W: Any = csr_array((len(given), len(E)))
    n = np.zeros(len(given))
    for texts, weight in pages:
        t, here = target(texts)
        s, there = source(texts)
        i, j, common = _overlaps(here, there)
        covered = np.bincount(i, common, len(t))
        W += csr_array((weight * common / covered[i], (t[i], s[j])), W.shape)
        n += weight * np.bincount(t[covered > 0], minlength=len(given))
    met = n > 0
    rows = given.copy()
    rows[met] = (W[met] @ E + WEAK * given[met]) / (n[met, None] + WEAK)
    return rows


def _overlaps(a: Ids2d, b: Ids2d) -> tuple[Ids, Ids, Ids]:
    """Return all (i, j) whose spans have characters in common, and how many.

    ``a`` (M, 2) and ``b`` (N, 2) are spans in the order of the text, none of them empty.
    """
    first = np.searchsorted(b[:, 1], a[:, 0], side="right")
    count = np.searchsorted(b[:, 0], a[:, 1], side="left") - first
    i = np.repeat(np.arange(len(a)), count)
    j = np.arange(len(i)) + np.repeat(first - np.cumsum(count) + count, count)
    return i, j, np.minimum(a[i, 1], b[j, 1]) - np.maximum(a[i, 0], b[j, 0])


def _start(
    teacher: ModelEncoder,
    student: ModelEncoder,
    rows: Callable[[Floats2d, Floats2d], Floats2d],
    batches: Sequence[list[str]],
) -> None:
    """Set the student's rows to ``rows(E, given)``, if that lowers the loss of the batches."""
    E, given = _table(teacher), _table(student)
    if E is None or given is None or E.shape[1] != given.shape[1]:
        return
    module = _Student(student)

    def loss() -> float:
        return sum(float(_loss(teacher, module, texts)) for texts in batches)

    with torch.no_grad():
        before, old = loss(), given.clone()
        new = rows(E.float().cpu().numpy(), given.float().cpu().numpy())
        given.copy_(torch.from_numpy(new))
        if not loss() < before:
            given.copy_(old)


def _table(encoder: ModelEncoder) -> Tensor | None:
    """Return the matrix of the vocabulary, where it is one of the network's own."""
    named = _network(encoder).named_parameters()
    return next((parameter.detach() for name, parameter in named if _is_row(name)), None)


def _families(texts: Sequence[str], words: Sequence[str], seed: int) -> Iterator[list[str]]:
    """Yield batches of families, of similar length; a piece of every text in every pass."""
    draw = stream(seed, "heal")
    pools = [pool for pool in ([word for text in texts for word in text.split()], words) if pool]
    while True:
        order = draw.permutation(len(texts)).tolist()
        for start in range(0, len(order), TOGETHER):
            families = []
            for i in order[start : start + TOGETHER]:
                piece = _piece(texts[i].split(), draw)
                edits = [_edited(piece, pools, draw) for _ in range(VARIANTS)]
                families.append([" ".join(text) for text in (piece, *edits)])
            families.sort(key=lambda family: max(map(len, family)))
            for first in draw.permutation(range(0, len(families), FAMILIES)).tolist():
                yield [text for family in families[first : first + FAMILIES] for text in family]


def _piece(words: list[str], draw: np.random.Generator) -> list[str]:
    """Return up to ``PIECE`` words that follow one another."""
    size = min(len(words), int(draw.integers(3, PIECE + 1)))
    start = int(draw.integers(len(words) - size + 1))
    return words[start : start + size]


def _edited(
    piece: Sequence[str], pools: Sequence[Sequence[str]], draw: np.random.Generator
) -> list[str]:
    """Return the words with up to a third of them replaced, or, three times in ten, left out."""
    words = list(piece)
    leave_out = len(words) > 3 and draw.random() < 0.3
    for _ in range(1 + int(draw.integers(max(1, len(words) // 3)))):
        place = int(draw.integers(len(words)))
        if leave_out:
            del words[place]
            continue
        pool = pools[int(draw.integers(len(pools)))]
        words[place] = pool[int(draw.integers(len(pool)))]
        if draw.random() < CAPITAL:
            words[place] = words[place].capitalize()
    return words


def _language(
    model: nn.Module,
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> tuple[nn.Module, Healed]:
    """Train a language model on the texts: the next token, or those that are masked."""
    vocab = checkpoint.vocab
    limit = int(getattr(model.config, "max_position_embeddings", WINDOW) or WINDOW)
    context = min(WINDOW, limit - 2)
    row = token_row(texts, vocab)
    start = start_token(vocab)
    if len(row) <= context:
        raise InputError(
            f"heal: {len(row)} tokens of text do not fill a window of {context}",
            hint="give more text",
        )
    batches = windows(row, start, context, 8, seed=seed)
    loss = next_token_loss()
    if checkpoint.masked:
        loss = _masked_loss(vocab.roles.get("mask"), seed)
    table: Any = model.get_input_embeddings()  # type: ignore[operator]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    rows = {id(p) for part in (table, head) if part is not None for p in part.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in rows}
    return model, _train(
        model, loss, batches, names.__contains__, seconds=seconds, total=total, seed=seed
    )


def _masked_loss(mask: int | None, seed: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return the loss of the tokens that a mask hides, 15 % of every batch."""
    if mask is None:
        raise InputError("heal: the tokenizer has no mask token", hint="give one that has")
    draw = stream(seed, "masks")

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        hidden = torch.from_numpy(draw.random(tuple(batch.shape)) < MASKED).to(batch.device)
        hidden[:, 1] |= ~hidden.any()
        logits = module(batch.masked_fill(hidden, mask)).logits
        return cross_entropy(logits[hidden].float(), batch[hidden])

    return loss


def _train(
    module: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    batches: Iterator[Batch],
    is_row: Callable[[str], bool],
    *,
    seconds: float | None,
    total: int | None,
    seed: int,
) -> Healed:
    losses: list[float] = []
    spent = 0.0
    with Meter("heal", total if seconds is None else seconds) as meter:
        for tick in steps(
            module,
            loss,
            batches,
            lr=RATE,
            total=total or MOST,
            warmup=min(10, total or MOST),
            weight_decay=0.0,
            seed=seed,
            seconds=seconds,
            slower=lambda name: 1.0 if is_row(name) else BODY,
        ):
            losses.append(tick.loss)
            meter.add(1 if seconds is None else tick.seconds - spent)
            spent = tick.seconds
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    return Healed(len(losses), spent, first, last)


def _store(checkpoint: Checkpoint, module: nn.Module) -> None:
    """Put the trained values into the files of the directory, under the names they have there."""
    state: Mapping[str, Tensor] = module.state_dict()
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    for part in checkpoint.parts:
        changes = {}
        for name, entry in part.entries.items():
            found = next((n for n in (name, name.removeprefix(prefix)) if n in state), None)
            if found is None:
                found = next((n for n in state if n.endswith(f".{name}")), None)
            if found is not None and tuple(state[found].shape) == tuple(entry.shape):
                values = state[found].detach().float().cpu().numpy()
                changes[name] = New.rows(entry.dtype, tuple(entry.shape), _rows(values))
        with replacing(part.path) as partial:
            rewrite(part, partial, changes)


def _rows(values: npt.NDArray[np.float32]) -> Callable[[int, int], npt.NDArray[np.float32]]:
    return lambda start, stop: values[start:stop]
