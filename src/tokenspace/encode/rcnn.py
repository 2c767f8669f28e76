"""Learn classes of texts from every word in its whole context; name those of new texts.

The idea
--------
What a word means depends on its context, and a window says where the context ends. Here nothing
does: one scan from the left and one from the right carry a state along, so that each word is seen
with all that comes before it and all that comes after it. Of every feature that is computed of a
word in its contexts the text keeps the largest value, wherever it occurs; a linear map of these
tells the class. Since every feature comes from one word, a text's class can be traced to the
places it was taken from.

Equations
---------
``e_i`` (D,) is the row of the i-th of n words, ``l_i`` and ``r_i`` (C,) its contexts, and ``l_1``
and ``r_n`` are learned::

    l_i = tanh(W_l l_{i-1} + W_sl e_{i-1})          from the left, i = 2 .. n
    r_i = tanh(W_r r_{i+1} + W_sr e_{i+1})          from the right, i = n-1 .. 1
    y_i = tanh(W_2 [l_i, e_i, r_i] + b_2)           (H,)
    z   = max over i of y_i, unit by unit           (H,): the vector of the text
    p   = softmax(W_4 z + b_4)                      (L,)

Everything, the rows too, is trained to lower the mean of -log p[label]. ``keys`` of the result
counts for each word how many units have their maximum there.

Departures from the paper
-------------------------
- Adam with a falling rate, on batches and with clipped gradients; the paper takes plain steps of
  0.01, one text each. Texts of a batch are of like length.
- A tenth of the texts is held out, as in the paper; of all epochs the one is kept that has most of
  them right. A class with fewer than 1 / ``held_out`` texts gives none.
- The paper's vectors always come from skip-gram on Wikipedia. Without ``table`` they are drawn at
  random and learned from the labels alone, which takes many texts.
- The nonlinear function of the contexts, which the paper leaves open, is tanh.
- ``W_l`` and ``W_r`` begin at zero, so that training starts from a window of three words. With
  random ones, as drawn for the other maps, contexts are full of whatever came before, and the words
  of the training texts are learned together with their accidental contexts: with 676 training
  posts F1 was 0.76 instead of 0.81.
- A word that is not in the vocabulary has a row of its own, shared by all such words.
- A text without words has z = 0.

Cost
----
Time: linear in the words, 2 C (C + D) + H (D + 2 C) multiplications a word and three times that to
train. The words of a text come one after another, so that small products wait for each other: on
one core at the defaults 75,000 words a second in training, in one pass, and 300,000 in encoding.
Memory in training: 20 bytes a parameter, most of which are rows, and about 4 kB for every place of
a batch, so that one text of a million words takes 4 GB.

When not to use it
------------------
With few labelled texts, or long ones whose topic shows in their words alone, a linear classifier on
`pv_dbow` or `sif` is quicker and seldom worse; with a pretrained network, fine-tuning that one.
The claim below fails: from 750 posts it learned no better than a window of three words does.
The vectors are made to tell these classes apart and may be poor at anything else.

Reference
---------
Lai, Xu, Liu, Zhao: Recurrent Convolutional Neural Networks for Text Classification, AAAI 2015,
https://doi.org/10.1609/aaai.v29i1.9513.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.encode.classifier import DocumentClassifier
from tokenspace.encode.static import flat_ids, text_vocabulary
from tokenspace.errors import InputError
from tokenspace.labels import Labels
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import derive, stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = ["RCNN", "chosen", "rows_of"]

SPREAD = 0.25  # words that nobody knows yet get rows uniform in [-SPREAD, SPREAD]


@dataclass(frozen=True, kw_only=True)
class RCNN(Recipe):
    """Learn classes of texts from every word in its whole context; name those of new texts."""

    dim: Annotated[int, Range(1, 4096), "width of the word vectors where no table is given"] = 50
    context: Annotated[int, Range(1, 4096), "width of the context on each side"] = 50
    hidden: Annotated[int, Range(1, 65_536), "width of a word's state, and of a text's vector"] = (
        100
    )
    epochs: Annotated[int, Range(1, 10_000), "passes over the texts"] = 10
    lr: Annotated[float, Range(1e-7, 1), "first learning rate; it falls linearly to 0"] = 3e-3
    batch_size: Annotated[int, Range(1, 65_536), "texts in a step"] = 16
    held_out: Annotated[float, Range(0, 0.5), "share of each class that chooses the epoch"] = 0.1
    min_count: Annotated[int, Range(1), "rarer words are unknown words, without a table"] = 2
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 1
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first weights and of every draw"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"dim": 6, "context": 5, "hidden": 8, "epochs": 2}

    def __call__(
        self, corpus: Corpus, /, *, labels: Labels, table: EmbeddingTable | None = None
    ) -> DocumentClassifier:
        """Return the trained encoder, which classifies.

        Parameters
        ----------
        corpus
            The texts.
        labels
            The class of each, in the same order.
        table
            Vectors of words to begin with: its tokens are then the vocabulary, and ``dim`` and
            ``min_count`` play no part.

        Raises
        ------
        InputError
            Where there are not as many labels as texts, fewer than two classes, or no known word.
        """
        from tokenspace.encode.rcnn_net import initial, train

        texts = list(corpus)
        names = labels.names
        if len(texts) != len(labels):
            raise InputError(
                f"there are {len(labels)} labels for {len(texts)} texts",
                hint="give one label a text, in the same order",
            )
        if not any(text.strip() for text in texts):
            raise InputError("the corpus has no text", hint="give texts with words")
        if len(names) < 2:
            raise InputError(
                f"all {len(texts)} texts have the label {names[0]!r}",
                hint="give texts of two classes at least",
            )
        vocab, E = rows_of(corpus, table, self.dim, self.min_count, self.seed)
        ids, offsets = flat_ids(vocab, texts)
        if not len(ids):
            raise InputError(
                "the corpus has no token of the vocabulary",
                hint="give text in the language of the table",
            )
        number = {name: index for index, name in enumerate(names)}
        targets = np.array([number[label] for label in labels], np.int64)
        net = initial(E, self.context, self.hidden, len(names), seed=derive(self.seed, self.name))
        metrics = train(
            net,
            ids,
            offsets,
            targets,
            chosen(targets, self.held_out, self.seed),
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            threads=self.threads,
            seed=derive(self.seed, self.name),
        )
        weights = {name: part.numpy() for name, part in net.state_dict().items()}
        return DocumentClassifier(vocab, names, weights, metrics | {"classes": float(len(names))})


def rows_of(
    corpus: Corpus, table: EmbeddingTable | None, dim: int, min_count: int, seed: int
) -> tuple[Vocabulary, Floats2d]:
    """Return the vocabulary and the first row of each of its tokens, (V, D) float32."""
    words = table.vocab if table else corpus.encode(min_count=min_count).vocab
    vocab = text_vocabulary(words, split=corpus.split, language=corpus.language)
    if table is None:
        draw = stream(seed, "rows")
        return vocab, draw.uniform(-SPREAD, SPREAD, (len(vocab), dim)).astype(np.float32)
    E = np.zeros((len(vocab), table.shape[1]), np.float32)
    E[: len(table.vectors)] = table.vectors
    return vocab, E


def chosen(targets: npt.NDArray[np.int64], share: float, seed: int) -> Ids:
    """Return the numbers of the texts that are held out: ``share`` of every class, rounded down."""
    draw = stream(seed, "held out")
    found = [np.zeros(0, np.int64)]
    for target in range(int(targets.max()) + 1):
        own = draw.permutation(np.flatnonzero(targets == target))
        found.append(own[: int(share * len(own))])
    return np.sort(np.concatenate(found))
