"""Train a text encoder on a dictionary: a definition's vector has to name its entry.

The idea
--------
A definition is a sentence that means what a word means, and dictionaries have hundreds of thousands
of them, in many languages and fields, with no pair labelled by anyone. DefSent lets a frozen head
that names words (that of masked words) name the word from the vector of its definition; only words
that are one token can be asked for. DefSent+ asks for every entry, of however many words: the
entry's row is the mean of what the encoder itself makes of its definitions. The rows are then made
anew with the trained encoder, round after round, and every round trains the encoder as it came,
never the one of the round before: what improves are the questions.

Equations
---------
u(s) (D,) is what the encoder pools of a definition s, S_e the definitions of entry e::

    E_e  =  mean over s in S_e of u(s)                                                    (plus)
    E_e  <-  c E_e / rms(E_e),   c so that the logits of a text differ by ``scale`` at first
    z    =  act(W u(s) + b)          loss = mean of -ln softmax(z E^T)[e],     E held still

W, b and act are the encoder's own dense layer after its pooling (BERT: tanh), or the one of its
head for masked words (RoBERTa: GELU); they are trained and not kept. Round r of ``rounds`` takes u
from the encoder of round r - 1 and trains from the weights that came. Before the last round E can
be turned to independent components or made white (``isotropy``). For words::

    loss = mean of -ln softmax(head(u(s)))[w],     head and all that enters the layers held still

Entries that have the same definitions are one entry: their rows would be the same, and their
labels not. With more than 200,000 entries 16,384 of them are drawn for each step, and their terms
of the sum below the softmax are divided by the chance to be drawn: its mean is then the whole sum.

Departures from the paper
-------------------------
- The code scores with E as it is and, after ICA, 100 times that: a temperature that nobody chose.
  Rows are of one length here and the logits start with a standard deviation of ``scale``;
  ``scale=reference`` leaves E as the code does.
- Texts of like length make a batch; the code pads every one to 150 tokens.
- A definition that holds its own entry gives the answer away: ``mask`` hides it there.
- A batch is of 32 in both forms; DefSent has 16.
- A word is the token that it is inside a text, for RoBERTa with the space before it; the code takes
  the one at the beginning of a text, which a head for masked words seldom names.
- FastICA that does not converge, or has fewer entries than numbers, is replaced by whitening.
- An encoder without a layer after its pooling and without a head is trained on u(s) itself.

Cost
----
A round is one pass over the definitions forwards, to make E, and one of training. The loss of B
texts takes 2 B N D multiplications for N entries, and memory for 4 million logits beside E; AdamW
takes 16 bytes a weight.

When not to use it
------------------
With a small dictionary. The claim fails: after some 12,000 definitions a small network of masked
words ranked pairs of sentences with 47.02 points of correlation, and with 48.63 before them, a gain
of -1.6 [-4.3, +1.1] where .5 was to be shown; ``form=words`` came to 36.9 to 40.7, and the random
weights before masked words to 54.1: the network is far below BERT. It fails for want of
definitions: in a run on other pairs and another seed (sts2012, SICK_train; 11) one round of 69,000
took such a network from 49.4 and 49.7 to 51.6 and 56.8, one of 12,000 to 47.6 and 50.8.

With pairs at hand, take ``encode train``. For an encoder that has learned from many, expect little,
and lower ``lr`` (the paper goes down to 1e-6). Where nearly every entry has one definition, its row
is the vector of the text itself, and the task is to learn the identity: ``single`` is their share.

Reference
---------
H. Tsukagoshi, R. Sasano, K. Takeda: DefSent: Sentence Embeddings using Definition Sentences, ACL
2021. X. Liu: DefSent+: Improving sentence embeddings of language models by projecting definition
sentences into a quasi-isotropic or isotropic vector space of unlimited dictionary entries, 2024,
arXiv:2405.16153.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.definitions import Definitions
from tokenspace.errors import InputError, MissingExtra
from tokenspace.recipe import Range, Recipe
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

__all__ = ["DefSent", "Task", "task_of"]

log = logging.getLogger(__name__)


class Task(NamedTuple):
    """Which text has to name what.

    ``texts`` are different definitions; ``names`` the entries, each a set of words that have the
    same definitions; text ``text[i]`` defines entry ``entry[i]``, both (M,). ``leaks`` counts the
    rows whose text held a word of the entry.
    """

    texts: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    text: Ids
    entry: Ids
    leaks: int


@dataclass(frozen=True, kw_only=True)
class DefSent(Recipe):
    """Train a text encoder on a dictionary: a definition's vector has to name its entry."""

    form: Annotated[
        Literal["plus", "words"],
        "plus: DefSent+, any entries; words: DefSent, those of one token, by the model's own head",
    ] = "plus"
    pooling: Annotated[
        Literal["own", "cls", "mean", "max"], "what of the states is a text's vector; own: as it is"
    ] = "own"
    rounds: Annotated[int, Range(1, 16), "times that the entries are made anew; for plus"] = 2
    isotropy: Annotated[
        Literal["none", "ica", "white"], "what the entries of the last round pass; for plus"
    ] = "none"
    scale: Annotated[
        float | Literal["reference"],
        Range(1e-3, 1e3),
        "standard deviation of a text's logits at first; reference: as the authors' code has them",
    ] = 1.0
    mask: Annotated[bool, "hide an entry's words in its own definitions"] = False
    batch: Annotated[int, Range(1, 65_536), "definitions in a step"] = 32
    lr: Annotated[float, Range(1e-8, 1.0), "highest learning rate"] = 1e-5
    seed: Annotated[int, Range(0, 2**63 - 1), "of batches, dropout and components"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"batch": 8, "lr": 1e-3}

    def __call__(self, model: PretrainedEncoder, /, *, definitions: Definitions) -> TextEncoder:
        """Return the trained encoder; ``model`` is left as it is.

        ``metrics``: ``entries`` that were told apart, of which the share ``single`` has one
        definition, the words ``merged`` into others, ``definitions`` that were learned from, of
        which ``leaks`` hold the entry; of the last round the mean ``loss`` of its first tenth
        (``loss_first``) and last; for ``plus`` the mean cosine of two entries and the effective
        rank of all (``entry_cosine``, ``entry_rank``), as they were scored with.

        Raises
        ------
        InputError
            A model of other modules than a transformer, one pooling and perhaps a normalisation;
            fewer than two entries; for ``words`` a model without a head for masked words, or no
            entry that is one token; for ``mask`` a tokenizer without a token for it.
        NotConverged
            Where a loss is not finite.
        """
        try:
            from tokenspace.nn.decoder import on_threads
            from tokenspace.nn.sentence import copied, measured

            from . import defsent_net as net
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault

        made = net.with_pooling(copied(model), self.pooling)
        task = task_of(definitions, hidden=net.mask_token(made) if self.mask else "")
        if task.leaks and not self.mask:
            log.warning("%d definitions hold their own entry: --mask hides it", task.leaks)
        if definitions.skipped:
            log.warning("%d entries without a definition are left out", definitions.skipped)
        train = net.train_entries if self.form == "plus" else net.train_words
        with on_threads(self.threads), rng.torch_scope(self.seed, "layers"):
            figures = train(made, model, task, self)
        told = {
            "single": float(np.mean(np.bincount(task.entry) == 1)),
            "merged": float(len(definitions) - len(task.names)),
            "leaks": float(task.leaks),
        }
        return measured(made, {**told, **figures})


def task_of(definitions: Definitions, *, hidden: str = "") -> Task:
    """Return what is learned from a dictionary; ``hidden`` stands for an entry in its own text.

    Raises :class:`InputError` where fewer than two entries are left once those with the same
    definitions are one.
    """
    alike: dict[frozenset[str], tuple[list[str], tuple[str, ...]]] = {}
    for word, meanings in definitions:
        alike.setdefault(frozenset(meanings), ([], meanings))[0].append(word)
    if len(alike) < 2:
        raise InputError(
            f"definitions: {len(definitions)} entries, but none that differ in what they mean",
            hint="give at least two entries with definitions of their own",
        )
    places: dict[str, int] = {}
    text, entry, leaks = [], [], 0
    for number, (words, meanings) in enumerate(alike.values()):
        for meaning in meanings:
            shown, count = _hide(words, meaning, hidden)
            leaks += bool(count)
            text.append(places.setdefault(shown, len(places)))
            entry.append(number)
    return Task(
        tuple(places),
        tuple(tuple(words) for words, _ in alike.values()),
        np.array(text, np.int64),
        np.array(entry, np.int64),
        leaks,
    )


def _hide(words: list[str], text: str, hidden: str) -> tuple[str, int]:
    """Return a text with ``hidden`` in place of whole words, if given, and how many stand in it."""
    folded = text.lower()
    found = [re.escape(word) for word in words if word.lower() in folded]
    if not found:
        return text, 0
    pattern = rf"(?<!\w)(?:{'|'.join(sorted(found, key=len, reverse=True))})(?!\w)"
    shown, count = re.subn(pattern, lambda _: hidden, text, flags=re.IGNORECASE)
    return shown if hidden else text, count
