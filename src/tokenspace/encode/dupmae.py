"""Pre-train an encoder on plain text so that its sentence vector holds the text's words.

The idea
--------
An encoder that learned to fill in masked words never had to put a text into one vector. RetroMAE
makes it: a decoder of one layer must tell every word of the text from [CLS]'s state and a random
half of the other words, another half for each word. Half is too little to guess from, and one layer
too weak to make up for it, so that the loss falls only if the vector says what the text is about.
DupMAE asks the other states as well: their strongest words together should be the words of the
text. Afterwards the encoder has two representations, a vector and a weighted list of words, and
either finds what the other misses. All of this needs texts and no labels; fine-tuning on pairs
comes after.

Equations
---------
A text of T tokens is ``x_1 .. x_T``, with ``x_0`` = [CLS] and ``x_{T+1}`` = [SEP]; E are the rows
of the words, P those of the positions, emb(.) adds position and segment and takes the norm, as in
what enters the encoder; head(.) is a dense layer, GELU and a norm before the product with E. H
(T + 2, D) are the encoder's last states for the text with ``masked`` of its words hidden, M the
places of these, and h = H_0::

    z_i  = E head(H_i) + b                     (V,)
    mlm  = mean over i in M of  -ln softmax(z_i)[x_i]

    Q_i  = h + P_i                             retromae;  emb(h) at place i in dupmae
    K    = [h, emb(x_1), .., emb(x_{T+1})]
    A_i  = attention of Q_i to the K_j that i may see: all but i and ``hidden`` of the words
    D_i  = norm(Y_i + FF(Y_i)),   Y_i = norm(Q_i + A_i)
    dec  = mean over i = 1..T of  -ln softmax(E head(D_i) + b)[x_i]

    mu   = max over i = 1..T+1 of z_i          word by word
    bow  = -1/T sum over the distinct words v of the text of  ln softmax(mu)[v]

    loss = mlm + dec + ``bow`` bow

Words are hidden whole, in a random order while they fit in round(share (T + 2)) tokens. A masked
word is replaced by the mask 8 times of 10, by a random token once, and left as it is once.

For search a document is its vector along the first principal directions of the vectors of the
training text, W (D, D'), and its k strongest words I; a query keeps all words::

    s(q, d) = (W' h_q) (W' h_d) + sum over v in I_d of mu_q[v] mu_d[v]

``tokenspace retrieve hybrid`` makes such an index of files of text, and ``encode lexical`` a
SparseEncoder of the words alone.

Departures from the paper
-------------------------
- A text of more than ``longest`` tokens is cut into equal pieces; the authors' code drops the rest.
- Every place draws the words that it may not see; the code draws 256 such sets a text at most and
  lets the places choose among them.
- W is learned in fine-tuning by the paper. Before that there are no pairs to learn it from:
  principal directions lose least of the vectors.
- The bag of words weighs 0.1, as in the code; the paper has 1.
- A network without a table of positions (RoPE) gets one of the decoder's own, without which all its
  questions would be the same.
- Logits are made for the places that have a label, a part at a time, together with their gradients;
  of the greatest logits only the places that they came from get any.

Cost
----
A step of ``retromae`` takes 1.8 to 2 times as long as one of ``mlm``, ``dupmae`` 2 to 2.5 times:
the decoder tells every word, and the bag needs all logits. Hiding words costs next to nothing: 0.2
ms for 32 texts of 32 tokens. Memory: the network's own for a batch, 16 bytes a weight for AdamW,
and at most 4 million logits or those of one text, whatever the batch. The tokens of the corpus are
held, 5 bytes each. Where the processor multiplies bfloat16, training does.

When not to use it
------------------
With a good embedding model at hand and little text, fine-tune that one. The vector of a pre-trained
encoder is a start and no end: before fine-tuning the mean of the states may find more than [CLS].
From random weights it needs many millions of tokens. In the claim's experiment, which has two, the
decoder keeps [CLS] as good as it was before any training, where a network of random weights is a
random projection of its words; masked words alone ruin it, and nothing there is better than the
mean of the untrained states. In 512 bytes a document (one run of ``dupmae`` there, nDCG@10 x 100)
the 32 strongest words alone come to 28.7, with 64 numbers beside them to 29.2, [CLS] to 20.0;
TF-IDF of the 32 tokens that the network sees has 41.6, and of the whole document 48.7.
``undertrained`` says where a loss did not even fall below that of a unigram.

Reference
---------
S. Xiao, Z. Liu, Y. Shao, Z. Cao: RetroMAE v2: Duplex Masked Auto-Encoder For Pre-Training
Retrieval-Oriented Language Models, 2022, arXiv:2211.08769 (ACL 2023: RetroMAE-2); RetroMAE:
Pre-Training Retrieval-oriented Language Models Via Masked Auto-Encoder, EMNLP 2022,
arXiv:2205.12035.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError, MissingExtra
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe
from tokenspace.sgd import below
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

from ._batches import bucketed

__all__ = ["NONE", "DupMAE", "Special", "Tokens", "collate", "tokenized", "unigram_losses"]

LEAST = 3  # tokens of a text that is learned from
SAMPLE = 2048  # pieces whose vectors give the axes
GROUP = 256  # texts that are tokenised at a time
NONE = -100  # the label of a place where nothing is predicted

_SURROGATE = re.compile("[\ud800-\udfff]")
log = logging.getLogger(__name__)


class Special(NamedTuple):
    """What stands around every text, in place of a masked word and of padding; the vocabulary."""

    cls: int
    sep: int
    mask: int
    pad: int
    size: int


class Tokens(NamedTuple):
    """Texts as tokens: ``ids`` (N,), whether each begins a word (N,), where the texts begin."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.bool_]
    offsets: Ids


@dataclass(frozen=True, kw_only=True)
class DupMAE(Recipe):
    """Pre-train an encoder on plain text so that its sentence vector holds the text's words."""

    form: Annotated[
        Literal["dupmae", "retromae", "mlm"],
        "dupmae; retromae: without the bag of words; mlm: masked words alone, to compare with",
    ] = "dupmae"
    steps: Annotated[int, Range(1), "steps of the optimizer"] = 2000
    batch: Annotated[int, Range(1, 65_536), "texts in a step"] = 32
    lr: Annotated[float, Range(1e-8, 1.0), "highest learning rate"] = 1e-4
    longest: Annotated[
        int, Range(LEAST + 2, 65_536), "tokens of a piece of text, at most what the model takes"
    ] = 128
    masked: Annotated[float, Range(0.0, 0.9), "share of words hidden from the encoder"] = 0.3
    hidden: Annotated[float, Range(0.0, 0.95), "share of words hidden from the decoder"] = 0.5
    bow: Annotated[float, Range(0.0, 100.0), "weight of the bag of words in the loss"] = 0.1
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of weights, batches and hidden words"] = 0
    threads: Annotated[int, Range(0, 1024), "threads; 0: as many as torch takes by itself"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"steps": 4, "batch": 8, "longest": 16, "lr": 1e-3}

    def __call__(self, model: PretrainedEncoder, /, *, corpus: Corpus) -> TextEncoder:
        """Return the encoder trained further on ``corpus``; ``model`` stays as it is.

        A model that this method made before, also one that was saved, is trained on with the
        decoder that it had. Of another one's directory the head of its language model is taken
        where there is one, and the decoder is new.

        ``metrics``: the mean losses ``mlm``, ``decoder`` and ``bow`` of the last tenth of the
        steps; ``unigram_decoder`` and ``unigram_bow``, what they would be if every text had the
        words of the whole corpus: above these nothing was learned, and ``undertrained`` is 1;
        ``pieces`` of text, and ``skipped`` texts of fewer than three tokens.

        Raises
        ------
        InputError
            Where no text is long enough or one is not valid Unicode, the tokenizer has no mask
            token or puts none around a text, the network is no encoder of a known kind, in half
            precision on a CPU, or has fewer rows than the tokenizer tokens.
        NotConverged
            Where a loss is not finite.
        """
        try:
            from tokenspace.nn.decoder import on_threads
            from tokenspace.nn.sentence import copied

            from . import dupmae_net as net
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault

        made = copied(model)
        network, special = net.checked(made)
        longest = min(self.longest, net.limit(made))
        tokens, skipped = tokenized(corpus, net.plain_tokenizer(made), longest)
        if not len(tokens.ids):
            raise InputError(
                f"corpus: no text of {LEAST} tokens ({skipped} shorter ones)",
                hint="give running text, one passage a line",
            )
        if skipped:
            log.warning("%d texts of fewer than %d tokens are left out", skipped, LEAST)
        some = -(-min(len(tokens.offsets) - 1, SAMPLE) // self.batch)
        with on_threads(self.threads):
            module = net.started(network, self, longest, model)
            metrics = net.train(module, self.batches(tokens, special), self)
            axes = net.axes(module, islice(self.batches(tokens, special), some))
        figures = {
            **metrics,
            **self._judged(metrics, tokens, special.size),
            "pieces": float(len(tokens.offsets) - 1),
            "skipped": float(skipped),
        }
        return net.finished(made, module, axes, figures)

    def batches(self, tokens: Tokens, special: Special) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield batches of texts of like length, forever; every text once before any again."""
        lengths, step = np.diff(tokens.offsets), 0
        for epoch in count():
            for chosen in bucketed(lengths, self.batch, rng.stream(self.seed, "batches", epoch)):
                step += 1
                yield collate(
                    tokens,
                    chosen,
                    special,
                    masked=self.masked,
                    hidden=self.hidden,
                    seed=rng.derive(self.seed, "hidden", step),
                )

    def _judged(self, metrics: Mapping[str, float], tokens: Tokens, size: int) -> dict[str, float]:
        """Return the losses without a text's own vector, and whether training came below them."""
        unigram = unigram_losses(tokens, size)
        told = {"mlm": "mlm", "retromae": "decoder", "dupmae": "decoder bow"}[self.form].split()
        behind = [name for name in told if metrics[name] >= unigram[name]]
        for name in behind:
            log.warning(
                "undertrained: the loss %s is %.2f, and %.2f without looking at the text",
                name, metrics[name], unigram[name],
            )  # fmt: skip
        named = {f"unigram_{name}": unigram[name] for name in ("decoder", "bow")}
        return {**named, "undertrained": float(bool(behind))}


def collate(
    tokens: Tokens, chosen: Ids, special: Special, *, masked: float, hidden: float, seed: int
) -> dict[str, npt.NDArray[Any]]:
    """Return a batch of B texts padded to T: what the encoder and the decoder get.

    ``clean`` (B, T) are the texts with their special tokens, ``mask`` what of it is no padding,
    ``own`` what is no special token either. ``given`` is ``clean`` with the share ``masked`` of the
    words hidden: 8 of 10 as the mask, 1 as a random word, 1 as it was; ``labels`` holds the former
    word there and -100 elsewhere. ``visible`` (B, T, T): what the decoder sees for each place that
    it tells, all but the share ``hidden`` of the words, drawn for that place, and never itself.
    ``weights`` (B, T) is 1 / (own tokens) where a word is the first of its kind in the text.
    """
    heights = tokens.offsets[chosen + 1] - tokens.offsets[chosen] + 2
    B, T = len(chosen), int(heights.max())
    clean = np.full((B, T), special.pad, np.int64)
    labels = np.full((B, T), NONE, np.int64)
    visible = np.zeros((B, T, T), np.bool_)
    weights = np.zeros((B, T), np.float32)
    places = np.arange(T)
    mask = places < heights[:, None]
    own = (places > 0) & (places < heights[:, None] - 1)
    given = np.empty((B, T), np.int64)
    fill(tokens, chosen, special, masked, hidden, seed, clean, given, labels, visible, weights)
    return {
        "clean": clean,
        "given": given,
        "labels": labels,
        "mask": mask,
        "own": own,
        "visible": visible,
        "weights": weights,
    }


@kernel(error_model="numpy")
def fill(
    tokens: Tokens,
    chosen: Ids,
    special: Special,
    masked: float,
    hidden: float,
    seed: int,
    clean: Ids,
    given: Ids,
    labels: Ids,
    visible: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float32],
) -> None:
    """Write the arrays that :func:`collate` describes; ``clean`` holds padding already."""
    state = np.array([seed], np.uint64)
    B, T = clean.shape
    begins, order = np.empty(T, np.int64), np.empty(T, np.int64)
    out = np.zeros(T, np.bool_)
    met = np.full(special.size, -1, np.int64)
    for b in range(B):
        first, last = tokens.offsets[chosen[b]], tokens.offsets[chosen[b] + 1]
        length = last - first + 2
        clean[b, 0], clean[b, length - 1] = special.cls, special.sep
        words = 0
        for p in range(first, last):
            t = p - first + 1
            clean[b, t] = tokens.ids[p]
            if p == first or tokens.starts[p]:
                begins[words] = t
                order[words] = words
                words += 1
            if met[tokens.ids[p]] != b:
                met[tokens.ids[p]] = b
                weights[b, t] = np.float32(1.0) / np.float32(last - first)
        begins[words] = length - 1
        given[b] = clean[b]
        hide_words(begins, order, words, share_of(masked, length), state, out)
        for t in range(1, length - 1):
            if out[t]:
                labels[b, t] = clean[b, t]
                kind = below(10, state)
                if kind < 8:
                    given[b, t] = special.mask
                elif kind == 8:
                    given[b, t] = below(special.size, state)
        visible[b, :, 0] = True
        for i in range(1, length - 1):
            hide_words(begins, order, words, share_of(hidden, length), state, out)
            for t in range(1, length):
                visible[b, i, t] = not out[t] and t != i


@kernel()
def share_of(share: float, length: int) -> int:
    """Return how many of a text's tokens are hidden, its special ones counted as well."""
    return max(1, int(np.rint(share * length)))


@kernel()
def hide_words(
    begins: Ids,
    order: Ids,
    words: int,
    budget: int,
    state: npt.NDArray[np.uint64],
    out: npt.NDArray[np.bool_],
) -> None:
    """Mark in ``out`` the tokens of words drawn one after another, as long as they fit the budget.

    A word that does not fit is passed over. Word w is at ``begins[w]`` to ``begins[w + 1]``;
    ``order`` holds the words in any order, and is shuffled further.
    """
    out[:] = False
    for k in range(words):
        if budget == 0:
            break
        j = k + below(words - k, state)
        order[k], order[j] = order[j], order[k]
        begin, end = begins[order[k]], begins[order[k] + 1]
        if end - begin <= budget:
            out[begin:end] = True
            budget -= end - begin


def unigram_losses(tokens: Tokens, size: int) -> dict[str, float]:
    """Return each loss where one distribution of words, the best one, stands for every text."""
    lengths = np.diff(tokens.offsets)
    shares = np.bincount(tokens.ids, minlength=size) / len(tokens.ids)
    of_text = np.repeat(np.arange(len(lengths)), lengths)
    texts, words = np.divmod(np.unique(of_text * size + tokens.ids), size)
    bag = np.bincount(words, weights=1 / lengths[texts], minlength=size)
    entropy = float(-(shares * _log(shares)).sum())
    bow = float(-(bag * _log(bag / bag.sum())).sum() / len(lengths))
    return {"mlm": entropy, "decoder": entropy, "bow": bow}


def _log(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.log(np.where(shares > 0, shares, 1))


def tokenized(corpus: Corpus, tokenizer: Any, longest: int) -> tuple[Tokens, int]:
    """Return the texts as pieces of at most ``longest`` tokens, and how many were left out.

    ``longest`` counts the two special tokens, which the pieces do not have. A longer text is cut
    into equal pieces; one of fewer than ``LEAST`` tokens is left out.
    """
    ids: list[npt.NDArray[np.int32]] = []
    starts: list[npt.NDArray[np.bool_]] = []
    lengths: list[int] = []
    skipped, room, texts, done = 0, longest - 2, iter(corpus), 0
    while group := list(islice(texts, GROUP)):
        try:
            encodings = tokenizer.encode_batch(group, add_special_tokens=False)
        except TypeError:  # what the tokenizer says of text that UTF-8 cannot spell
            broken = next(i for i, text in enumerate(group) if _SURROGATE.search(text))
            raise InputError(
                f"corpus: text {done + broken} holds a lone surrogate, which is not valid Unicode",
                hint="decode the bytes with errors='replace'",
            ) from None
        done += len(group)
        for encoding in encodings:
            row = np.array(encoding.ids, np.int32)
            if len(row) < LEAST:
                skipped += 1
                continue
            word = np.array([-1 if w is None else w for w in encoding.word_ids], np.int64)
            ids.append(row)
            starts.append(np.diff(word, prepend=-2) != 0)
            pieces = -(-len(row) // room)
            lengths += [len(part) for part in np.array_split(row, pieces)]
    if not ids:
        return Tokens(np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(1, np.int64)), skipped
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(np.concatenate(ids), np.concatenate(starts), offsets), skipped
