"""Pool by a trained dictionary, and train in two stages whose negatives fit the task.

The idea
--------
The last token of a decoder is biased to what stands at the end of a text, and the mean of all
tokens dilutes what matters. Latent attention lets every token read from a trained dictionary of
vectors before the mean is taken. The decoder's causal mask is removed, so that all tokens see the
whole text. Training has two stages. Questions and their answers come first, and the other answers
of a batch are negatives. Then classes and rated pairs are blended in, for which they are not: of 20
texts by 20 topics one is of one's own class, and would be pushed away.

Equations
---------
X (T, D) are the states of a text's tokens, m their mask without padding and prompt; Z (r, D) the
dictionary; LN layer norms, h heads of D / h numbers::

    Q      =  LN(X) W_q,    [K | V]  =  LN(Z) W_kv             tokens ask, the dictionary answers
    Y      =  concat over heads of softmax(Q K' / sqrt(D / h)) V, times W_o, plus X
    U      =  FF(LN(Y)) + Y,         FF(y) = W_2 (a gelu(b)) + b_2,  [a | b] = W_1 y + b_1
    e      =  sum of m_i U_i / sum of m_i, divided by its length
    loss   =  - ln [ exp(cos(q, d+) / tau) / sum over d in N of exp(cos(q, d) / tau) ]

N holds the row's positive and its own negatives, and where the batch's negatives are on, those of
the other rows that do not equal the positive. Of a labelled text the positive is another text of
its class, the negatives are texts of other classes. Scored pairs count if they reach 4/5 of the
greatest score. Rows with fewer than ``negatives`` are filled up from the other rows' positives: the
nearest to the question by the model as it was given, but none nearer than 0.95 times the row's own.

Departures from the paper
-------------------------
Written from its equations; the released code is not. Heads are D / h wide (released: D). The paper
turns off the batch's negatives for all of the second stage; here, by default, for the rows of
classes and scores only (``in_batch=auto``; ``on`` and ``off`` are for all rows of both stages). All
weights are trained but those of the first ``frozen`` layers, which have no dropout either, where
the paper trains LoRA on 7 billion. Z starts at N(0, 0.02). Either stage has half of the steps where
both kinds of examples are given. K and V depend on no text: an encoding computes them once, and
folds them into W_q and W_o where that is cheaper. A text without a token of its own has the zero
vector.

Cost
----
A pass of the network a text, and 2 + ``negatives`` texts a row and step. The pooling adds
20 D^2 weights and about as many products a token, a seventh of a small encoder of six layers; it
computes no padding. In a step on a processor, texts of like length pass together, so that one long
text among short ones costs no more than itself. Where bfloat16 is quicker, it is multiplied in.

When not to use it
------------------
Where a model already pools well: a trained sentence encoder has the mean built into its weights,
and a fresh pooling has to catch up first. The paper's gain of the pooling over the mean is .6
points at 7 billion weights; nothing is promised at a hundredth. That classified rows gain by not
being contrasted with the batch was not reproduced either: after 40 steps of MiniLM their nearest
neighbours told 59.1 % of the classes, and 60.3 % with the batch as negatives.

Reference
---------
Lee et al.: NV-Embed: Improved Techniques for Training LLMs as Generalist Embedding Models, 2024,
arXiv:2405.17428.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tokenspace.errors import ConfigError, MissingExtra
from tokenspace.examples import Examples
from tokenspace.recipe import Range, Recipe
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

if TYPE_CHECKING:
    from tokenspace.nn.contrastive import Rows

__all__ = ["NVEmbed"]

_BY_CLASS = ("labelled", "scored")
_HEADS = 8


@dataclass(frozen=True, kw_only=True)
class NVEmbed(Recipe):
    """Pool by a trained dictionary, and train in two stages whose negatives fit the task."""

    r: Annotated[int, Range(1, 65_536), "vectors of the dictionary"] = 512
    in_batch: Annotated[
        Literal["auto", "on", "off"],
        "whether other rows' texts are negatives; auto: not of labelled and scored rows",
    ] = "auto"
    negatives: Annotated[int, Range(0, 64), "negatives of a row's own, drawn or mined"] = 1
    temperature: Annotated[float, Range(1e-3, 10.0), "tau, what cosines are divided by"] = 0.02
    frozen: Annotated[int, Range(0, 1024), "layers, from the first on, that stay as they are"] = 0
    steps: Annotated[int, Range(1, 10**7), "steps of training, of all stages"] = 500
    batch: Annotated[int, Range(2, 65_536), "rows in a step"] = 32
    lr: Annotated[float, Range(1e-8, 1.0), "highest learning rate"] = 5e-5
    seed: Annotated[int, Range(0, 2**63 - 1), "of weights, negatives and batches"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"r": 4, "steps": 3, "batch": 8, "lr": 1e-3}

    def __call__(
        self, model: PretrainedEncoder, /, *, examples: Examples, tasks: Examples | None = None
    ) -> TextEncoder:
        """Return the trained encoder; ``model``, an encoder or a decoder, stays as it is.

        ``examples`` are those of the first stage, and with ``tasks`` (labelled or scored texts)
        those of the second. Labelled or scored ``examples`` alone have the second stage only.

        Raises :class:`InputError` for a model without layers, for labels that are all alike, and
        where a row has nothing to be contrasted with, and :class:`ConfigError` for more frozen
        layers than there are.
        """
        try:
            from tokenspace.nn.attention import set_attention
            from tokenspace.nn.contrastive import ContrastiveLoss, rows_dataset
            from tokenspace.nn.layers import freeze, network_of
            from tokenspace.nn.sentence import copied, fine_tune, pooled_by, wrapped

            from .nv_embed_net import LatentAttention
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault
        stages = self._stages(model, examples, tasks)
        made = copied(model)
        network: Any = network_of(made)
        set_attention(network, bidirectional=True)
        freeze(network, self.frozen)
        D = int(network.config.hidden_size)
        heads = _HEADS if D % _HEADS == 0 else 1
        made = pooled_by(made, lambda: LatentAttention(D, self.r, heads), seed=self.seed)
        for number, (rows, steps) in enumerate(stages):
            fine_tune(
                made,
                rows_dataset(rows),
                ContrastiveLoss(made, self.temperature),
                steps=steps,
                batch=self.batch,
                lr=self.lr,
                seed=self.seed + number,
                threads=self.threads,
                label=f"stage {number + 1}",
            )
        return wrapped(made)

    def _stages(
        self, model: PretrainedEncoder, examples: Examples, tasks: Examples | None
    ) -> list[tuple[Rows, int]]:
        """Return the rows of every stage, and how many steps it has."""
        first = self._rows(model, examples)
        if tasks is None:
            return [(first, self.steps)]
        if self.steps < 2:
            raise ConfigError(f"{self.name}: steps={self.steps}", hint="two stages need two steps")
        both = [*first, *self._rows(model, tasks)]
        return [(first, self.steps // 2), (both, self.steps - self.steps // 2)]

    def _rows(self, model: PretrainedEncoder, examples: Examples) -> Rows:
        from tokenspace.nn.contrastive import contrast_rows, topk_negatives

        others = self.in_batch == "on" or (
            self.in_batch == "auto" and examples.kind not in _BY_CLASS
        )
        rows = contrast_rows(examples, in_batch=others, negatives=self.negatives, seed=self.seed)
        if all(len(negatives) >= self.negatives for _, _, negatives, _ in rows):
            return rows
        return topk_negatives(rows, model, self.negatives)
