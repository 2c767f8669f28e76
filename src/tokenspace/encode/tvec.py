"""Adapt a text encoder and its tokenizer to one field by triplets, and say what it gained.

The idea
--------
A general encoder does not know that two answers which sound alike are not the same to an expert.
A triplet says it: this text belongs to that one, and not to a third, which is about the same
subject and wrong. Training pulls the first two together until the third is farther by a margin.
All weights are trained, and a spring holds each at where it was, so that what the encoder knew of
other texts is not lost. Words of the field that the tokenizer cuts to pieces can become tokens of
their own before. ``tokenspace encode diff`` shows afterwards where the weights changed.

Equations
---------
a, p, n are the vectors of a triplet's anchor, positive and negative; w the weights, w0 those of
the model as it came::

    x     =  d(a, p) - d(a, n) + alpha
    d     =  1 - cos (cosine, soft),  || . || (euclidean)
    loss  =  mean of max(0, x)        (soft: of ln(1 + e^x))   +   (l2sp / 2) ||w - w0||^2

With a ``corpus``, the ``tokens`` words that save most become tokens, of those that occur five
times; a word saves its count times its pieces but one, and one each time if the tokenizer cannot
spell it. Its row is the mean of the rows of its pieces, ids that were there stay, and the spring
does not hold the new rows.

With ``general`` examples, a share ``replay`` of the steps is theirs: scored pairs are ranked
(CoSENT), and of pairs and texts each has to find its own among the batch, at a temperature of 0.05.

The report has, of triplets that were held out and before training as well (``_before``):
``accuracy``, the share with d(a, p) < d(a, n); ``margin``, the mean of d(a, n) - d(a, p); and
``at_alpha``, the share where that is alpha or more, which is what the loss asks for. Of the
corpus: ``tokens_added``, ``fertility`` (tokens a word) and ``whole`` (the share of its words that
are one token), on the texts that the words were chosen from.

Of general examples: ``drift``, 1 minus the mean cosine of a text's vectors before and after;
``neighbours``, the share of its ten nearest texts that stay; and, if they have scores,
``spearman`` with them.

A tenth of the triplets is held out, and of the general examples, 500 at most each: triplets of some
positives, which training never sees as such. ``held_out`` is how many; with fewer than 20 different
positives it is 0, and the figures are those of what was learned from.

Departures from the paper
-------------------------
The paper gives neither distance nor margin nor how it keeps what was known: cosine, 0.2, the spring
and the replay are ours. Its score of 0.938 against less than 0.07 cannot be the share of triplets
in order, of which chance gives half: the report has that share and two figures with a margin. Its
tokenizer was learned anew; here tokens are appended, and whole words only, since a piece inside
words needs merges or scores that an existing tokenizer has no place for. Pairs are taken as well:
each gets a positive of another row, drawn by ``seed``, which is an easy negative.

Cost
----
Three texts a row and step, and as much again backwards; with the spring, a copy of the weights and
a pass over them a step. Memory for AdamW, 16 bytes a weight. Where bfloat16 is quicker, it is
multiplied in.

When not to use it
------------------
With pairs alone: ranking among a batch (``encode train``) has more and harder negatives. With
negatives of other subjects: they are far away already, the loss is 0, and nothing is learned; see
``at_alpha_before``. Of the general quality only a measurement tells (``compare encode``): the
authors admit a loss. A weaker spring learns more of the field and forgets more. The default is the
weakest of 0.01, 0.1 and 1 with which the claim's network, on a seed that is none of the claim's,
lost less than two points of correlation on general pairs. ``tokenspace encode merge`` finds a point
between the two models afterwards, which costs no training.

Reference
---------
T-VEC: A Telecom-Specific Vectorization Model with Enhanced Semantic Understanding via Deep Triplet
Loss Fine-Tuning, 2025, arXiv:2504.16460. The spring: Li, Grandvalet, Davoine: Explicit Inductive
Bias for Transfer Learning with Convolutional Networks (L2-SP), ICML 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tokenspace.corpus import Corpus
from tokenspace.errors import InputError, MissingExtra
from tokenspace.examples import Examples
from tokenspace.metrics import cosine, spearman
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

from .agreement import LEAST, agreement
from .triplets import Form, triplet_figures, triplets_of

__all__ = ["TVEC", "general_figures"]

SHARE, MOST, FEWEST = 0.1, 500, 20  # held out: share, rows; different texts to hold out any
COUNT = 5  # occurrences that a new word needs


@dataclass(frozen=True, kw_only=True)
class TVEC(Recipe):
    """Adapt a text encoder and its tokenizer to one field by triplets, and say what it gained."""

    form: Annotated[Form, "distance; soft: cosine, and ln(1 + e^x) in place of max(0, x)"] = (
        "cosine"
    )
    alpha: Annotated[float, Range(0.0, 1e6), "margin; with euclidean try 5"] = 0.2
    l2sp: Annotated[float, Range(0.0, 1e6), "strength of the spring to the model as it came"] = 1.0
    tokens: Annotated[int, Range(1, 10**6), "words of the corpus to add, at most"] = 1000
    replay: Annotated[float, Range(0.0, 0.9), "share of steps that go to general examples"] = 0.25
    steps: Annotated[int, Range(1, 10**7), "steps of training"] = 500
    batch: Annotated[int, Range(2, 65_536), "triplets in a step"] = 32
    lr: Annotated[float, Range(1e-8, 1.0), "highest learning rate"] = 5e-5
    seed: Annotated[int, Range(0, 2**63 - 1), "of what is held out, batches and dropout"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {
        "steps": 3, "batch": 8, "lr": 1e-3, "tokens": 5,
    }  # fmt: skip

    def __call__(
        self,
        model: PretrainedEncoder,
        /,
        *,
        examples: Examples,
        corpus: Corpus | None = None,
        general: Examples | None = None,
    ) -> TextEncoder:
        """Return the trained encoder; ``model`` is left as it is.

        ``examples`` are triplets, with one negative or more a row, or pairs. Of ``corpus``, texts
        of the field, the tokenizer gets new words; without it, it stays. ``general`` are examples
        of any kind that are not of the field, which the model knows and is to know afterwards.

        Raises :class:`ConfigError` for other examples, and :class:`InputError` for a triplet of
        which two texts are equal, a corpus without words, fewer than three general texts, and a
        model without a transformer where a corpus is given.
        """
        try:
            from tokenspace.nn.sentence import copied, dataset, fine_tune, measured

            from . import tvec_net as net
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault
        triplets = triplets_of(examples, seed=self.seed)
        kept, held = _divided(triplets, self.seed)
        judged = held or kept.take(range(min(MOST, len(kept))))
        figures = {"held_out": float(len(held) if held else 0)}
        before = triplet_figures(model, judged, alpha=self.alpha, form=self.form)
        figures |= {f"{name}_before": value for name, value in before.items()}
        replayed, watched = _general(general, self.seed) if general else (None, None)
        made, new = copied(model), 0
        if corpus is not None:
            new, told = net.widened(made, corpus, tokens=self.tokens, least=COUNT)
            figures |= told
        spring = net.SpringLoss(made, form=self.form, alpha=self.alpha, l2sp=self.l2sp, new=new)
        data = {"field": dataset(kept)}
        losses: dict[str, Any] = {"field": spring}
        if replayed is not None and self.replay:
            rows = max(1, round(len(kept) * self.replay / (1 - self.replay)))
            data["general"], losses["general"] = net.replay(spring, replayed, rows, seed=self.seed)
        fine_tune(
            made,
            data,
            losses,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            weight_decay=0.0,  # the spring pulls to where the weights were, in place of to zero
            seed=self.seed,
            threads=self.threads,
        )
        tuned = measured(made, figures)
        after = triplet_figures(tuned, judged, alpha=self.alpha, form=self.form)
        return tuned.told(after | (general_figures(model, tuned, watched) if watched else {}))


def _divided(triplets: Examples, seed: int) -> tuple[Examples, Examples | None]:
    """Return what is learned from, and what is held out, which has positives of its own."""
    positives = triplets.columns["positive"]
    every = list(dict.fromkeys(positives))
    if len(every) < FEWEST:
        return triplets, None
    share = min(SHARE, MOST / len(triplets))
    order = stream(seed, "held out").permutation(len(every))
    away = {every[i] for i in order[: max(1, int(share * len(every)))]}
    rows = [row for row, text in enumerate(positives) if text in away][:MOST]
    rest = [row for row, text in enumerate(positives) if text not in away]
    return triplets.take(rest), triplets.take(rows)


def _general(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """Return what is replayed, and what is watched, which are the same where there are few."""
    if len(examples.texts) < LEAST:
        raise InputError(
            f"general: {len(examples.texts)} different texts",
            hint=f"give {LEAST} at the very least",
        )
    groups = len(set(examples.columns.get("anchor") or examples.columns["text"]))
    if groups < FEWEST:
        return examples, examples.take(range(min(MOST, len(examples))))
    share = max(LEAST / groups, min(SHARE, MOST / len(examples)))
    rest, apart = examples.divided(share, seed=seed)
    return rest, apart.take(range(min(MOST, len(apart))))


def general_figures(
    before: TextEncoder, after: TextEncoder, examples: Examples
) -> dict[str, float]:
    """Return how far the vectors of general texts moved, and whether their order did.

    ``drift`` is 1 minus the mean cosine of a text's two vectors, ``neighbours`` the share of its
    ten nearest that stay. Scored examples have ``spearman_before`` and ``spearman`` as well.
    """
    texts = examples.texts
    vectors = [encoder.encode(texts) for encoder in (before, after)]
    found = agreement(vectors[0], vectors[1])
    figures = {"drift": 1 - found.mean_cosine, "neighbours": found.neighbours}
    if examples.scores is None:
        return figures
    place = {text: row for row, text in enumerate(texts)}
    first, second = (
        [place[text] for text in examples.columns[side]] for side in ("anchor", "positive")
    )
    for name, rows in zip(("spearman_before", "spearman"), vectors, strict=True):
        figures[name] = spearman(cosine(rows[first], rows[second]), examples.scores)
    return figures
