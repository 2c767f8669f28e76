"""Take a text's vector from a decoder untrained: let its beginning see its end.

The idea
--------
A decoder says what a sentence is about if it is asked for one word: the state at the end of *This
sentence : "..." means in one word:"* is a fair sentence vector. But the decoder reads from left to
right, so the sentence's own tokens were read without what follows them. Token prepending puts a
placeholder before the sentence and, before each of the first layers, writes into it what the last
token holds at that point. From the second layer on every token can so look at a summary of the
whole sentence. It costs one token more, and no training.

Equations
---------
H_l (T, D) are the states that enter layer l = 0..N-1, p the place of the placeholder, -1 the end of
the prompt, s = ``start``, e = ``exit``, o = ``layers``::

    H_l[p]  <-  H_l[-1]           before each layer l with s <= l < e
    vector   =  H_o[-1]           what enters layer o: no layer from o on is run

    prompt   =  This sentence : <PST> "TEXT" means in one word:"                   template=eol
    with, before it:  After thinking step by step,                                 template=cot
                      What a sentence is about is said by its subjects and by
                      what they do.                                                template=ke
    vector   =  mean of the vectors of eight prompts: its subject, kind, feeling,
                wish, paraphrase, gist, main thing and what is said of it          template=meta

Before that, double quotes become single ones, a question mark at the end a full stop, and a text
that ends in no mark gets one. With rated ``examples`` e and o are chosen by them, of a few.

Departures from the paper
-------------------------
The placeholder's row is the mean of all rows (``pst=random``: N(0, 1) as in the authors' code, some
fifty times longer; it only matters where s = 0). Prompt and text are tokenized apart, so no token
spans both, and a text that is too long is cut, never the prompt. Padding is on the right and
positions count from a text's first token. The wordings of ``cot``, ``ke`` and ``meta`` are ours;
the last is MetaEOL's idea, a mean over tasks, with the placeholder in each prompt. The defaults
for N layers are s = 1, e = N / 5 but 2 at least, o = N - 1.

Cost
----
One token more than the plain prompt and, as layers from o on are dropped, less time than it. About
a dozen tokens of prompt a text; ``meta`` passes the network eight times. Examples to choose by are
encoded once for every pair of e and o.

When not to use it
------------------
For encoders, whose attention sees everything. For long texts, where others have measured that it
harms: those of more than 256 tokens, with the prompt's, are counted and warned of when they are
encoded. For decoders of less than a billion weights the vectors are poor with or
without it: train instead (``tokenspace encode mltp``).

Reference
---------
Fu et al.: Token Prepending: A Training-Free Approach for Eliciting Better Sentence Embeddings from
LLMs, ACL 2025, arXiv:2412.11556. The prompt is PromptEOL: Jiang et al., arXiv:2307.16645; several
prompts: Lei et al.: Meta-Task Prompting Elicits Embeddings from Large Language Models, ACL 2024,
arXiv:2402.18458.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from tokenspace.errors import ConfigError, InputError, MissingExtra
from tokenspace.examples import Examples
from tokenspace.metrics import cosine, spearman
from tokenspace.recipe import Range, Recipe
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

__all__ = ["TokenPrepending"]

PST = "<PST>"
SENTENCE, AFTER = f'This sentence : {PST} "', '" means in one word:"'
PROMPTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "eol": ((SENTENCE, AFTER),),
    "cot": ((f"After thinking step by step, {SENTENCE}", AFTER),),
    "ke": (
        (
            f"What a sentence is about is said by its subjects and by what they do. {SENTENCE}",
            AFTER,
        ),
    ),
    "meta": tuple(
        (f"{task} {SENTENCE}", f'" {asks} in one word:"')
        for task, asks in (
            ("Sort texts by their subject.", "has the subject,"),
            ("Sort texts by what kind of text they are.", "is of the kind,"),
            ("Tell the feeling that a text shows.", "shows the feeling,"),
            ("Tell what the writer of a text wants.", "wants,"),
            ("Say the same in other words.", "says in other words,"),
            ("Tell the gist of a text.", "has the gist,"),
            ("Name the main thing that a text speaks of.", "speaks of,"),
            ("Name what a text says of its main thing.", "says of it,"),
        )
    ),
}
"""What stands before and after the text, in every prompt of a template."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TokenPrepending(Recipe):
    """Take a text's vector from a decoder untrained: let its beginning see its end."""

    template: Annotated[
        Literal["eol", "cot", "ke", "meta"], "wording of the prompt; meta: the mean over eight"
    ] = "eol"
    prepend: Annotated[bool, "write the end into the placeholder; off: the prompt alone"] = True
    start: Annotated[int, Range(0, 1024), "first layer that is written before"] = 1
    exit: Annotated[int, Range(0, 1024), "first layer that is not; 0: a fifth of them"] = 0
    layers: Annotated[int, Range(0, 1024), "layers that are run; 0: all but the last"] = 0
    pst: Annotated[Literal["mean", "random"], "the placeholder's row"] = "mean"
    seed: Annotated[int, Range(0, 2**63 - 1), "of a random row"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"exit": 2, "layers": 2, "pst": "random"}

    def __call__(
        self, decoder: PretrainedEncoder, /, *, examples: Examples | None = None
    ) -> TextEncoder:
        """Return the encoder; ``decoder`` stays as it is.

        Rated pairs as ``examples`` choose ``exit`` and ``layers`` where these are 0; examples of
        another kind are of no use and are not read. Raises :class:`ConfigError` for an encoder,
        and for layers that do not go with each other or that the model does not have.
        """
        try:
            from tokenspace.nn.attention import is_decoder
            from tokenspace.nn.layers import layer_list, network_of
            from tokenspace.nn.sentence import copied
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault
        made = copied(decoder)
        if not is_decoder(network_of(made)):
            raise ConfigError(
                f"{self.name}: the model is an encoder, whose attention sees all of the text",
                hint="give a decoder, such as a GPT or a Llama",
            )
        N = len(layer_list(network_of(made)))
        if examples is not None and examples.scores is not None and not (self.exit and self.layers):
            return self._chosen(decoder, examples, N)
        return self._assembled(decoder, *self._layers(N))

    def _layers(self, N: int) -> tuple[int, int]:
        """Return e and o of a model of N layers."""
        e = self.exit or min(N, max(2, round(0.2 * N)))
        o = self.layers or max(e, N - 1)
        if not self.start < e <= o <= N:
            raise ConfigError(
                f"{self.name}: start={self.start}, exit={e}, layers={o} of {N} layers",
                hint="start < exit <= layers <= those of the model",
            )
        if self.start == 0 and self.prepend:
            log.warning("start=0 writes the row of the prompt's last token, equal for all texts")
        return e, o

    def _chosen(self, decoder: PretrainedEncoder, examples: Examples, N: int) -> TextEncoder:
        """Return the best encoder of a few by the examples' scores."""
        exits = [self.exit] if self.exit else sorted({min(N, 2), max(2, N // 5), max(2, N // 3)})
        outs = [self.layers] if self.layers else sorted({max(2, 3 * N // 4), N - 1, N})
        best: tuple[float, TextEncoder] | None = None
        for e in exits:
            for o in outs:
                if not self.start < e <= o <= N:
                    continue
                encoder = replace(self, exit=e, layers=o)._assembled(decoder, e, o)
                left, right = (
                    encoder.encode(examples.columns[side]) for side in ("anchor", "positive")
                )
                found = spearman(cosine(left, right), examples.scores or ())
                if best is None or found > best[0]:
                    best = found, encoder
        if best is None:
            raise ConfigError(
                f"{self.name}: start={self.start} leaves no exit and layers of {N} layers",
                hint="give a smaller start",
            )
        return best[1]

    def _assembled(self, decoder: PretrainedEncoder, e: int, o: int) -> TextEncoder:
        from tokenspace.nn.prompted import around, pieces, placed, pooled_last
        from tokenspace.nn.sentence import copied, wrapped

        from .token_prepending_net import TokenPrepending as Net

        made = copied(decoder)
        identity = placed(made, PST, drawn=self.pst == "random", seed=self.seed)
        try:
            around_each = {sides: pieces(made, *sides) for sides in PROMPTS[self.template]}
            # the longest is the tokenizer's own, so that a text is cut to fit into any of them
            own = max(around_each, key=lambda sides: sum(map(len, around_each[sides])))
            around(made, *own)
        except ValueError as fault:
            raise InputError(f"decoder: {fault}", hint="give one with a fast tokenizer") from fault
        options = {
            "placeholder": identity,
            "start": self.start,
            "exit": e if self.prepend else self.start,
            "own": [len(side) for side in around_each.pop(own)],
            "templates": list(around_each.values()),
        }
        return wrapped(pooled_last(made, Net, o, options))
