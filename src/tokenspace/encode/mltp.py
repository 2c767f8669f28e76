"""Pool all layers by cross-attention, or by any of the designs that it is compared with.

The idea
--------
An embedding of a language model usually comes from its last layer, which was made to predict a
word; what a text means may be clearer some layers before. Multi-layer trainable pooling summarises
every layer in one vector and lets trained latents attend to these summaries. Whether a decoder's
attention is causal or sees the whole text is a choice of its own. The study behind it crosses both;
``pooling`` and ``attention`` give its five designs, and the mean besides.

Equations
---------
H_l (T, D) are the states after layer l of N; s_l their mean (bidirectional) or the last token's
state (causal). P (N, D) tells layers apart, Z (r, D) are the latents, LN layer norms, FF a gated
feed-forward net::

    S      =  [s_1; ...; s_N] + P                               pooling=mltp
    S      =  H_N, or its last row where attention is causal    pooling=tokens
    Q      =  LN(Z) W_q,    [K | V]  =  LN(S) W_kv              latents ask, layers answer
    U      =  softmax(Q K' / sqrt(64)) V W_o + Z  by heads,     U <- FF(LN(U)) + U
    e      =  the mean of the r rows of U, divided by its length
    loss   =  - ln [ exp(20 cos(q, d+)) / sum over d of the batch exp(20 cos(q, d)) ]

``pooling=mean`` and ``eos`` have nothing to train beside the network: the mean of the last layer's
tokens, and its last token.

Departures from the paper
-------------------------
Sizes fit small networks: 32 latents (768), D / 64 heads of 64 (32 of 2,048), Z and P from N(0, .02)
(N(0, 1)). All weights are trained, where the paper trains LoRA. The authors' code attends to
padding in ``tokens``, gives the layers a table of 32, and takes as padding every token with the
padding's id, the end-of-text among them: here the mask decides, and N is the model's. With causal
attention ``tokens`` has a single key, so that attention is a linear map, as in their code. A batch
is contrasted whole; theirs holds one positive and one negative on each device.

Cost
----
A pass of the network a text. The pooling has some 12 D^2 + 4 D · 64 h weights: in part what it
gains is bought by them, so compare with ``mean`` at equal steps.

When not to use it
------------------
For classification and clustering, where the paper finds no gain; for a trained sentence encoder,
whose mean is already what was trained. At the size of the claim below, what gains over a causal
decoder's last token is to see all of the text: the mean of the last layer with the same attention
(``pooling=mean``, column ``mean``) is some two points better than all layers. Try it first.

Reference
---------
Tang, Yang: Pooling And Attention: What Are Effective Designs For LLM-Based Embedding Models?, 2024,
arXiv:2409.02727.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tokenspace.errors import MissingExtra
from tokenspace.examples import Examples
from tokenspace.recipe import Range, Recipe
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MLTP"]

_WIDTH = 64  # of a head


@dataclass(frozen=True, kw_only=True)
class MLTP(Recipe):
    """Pool all layers by cross-attention, or by any of the designs that it is compared with."""

    pooling: Annotated[
        Literal["mltp", "tokens", "mean", "eos"],
        "what becomes the vector: all layers, the last one's tokens, their mean, or the last token",
    ] = "mltp"
    attention: Annotated[
        Literal["bidirectional", "causal"], "what a decoder's tokens see; an encoder's see all"
    ] = "bidirectional"
    r: Annotated[int, Range(1, 65_536), "latents"] = 32
    frozen: Annotated[int, Range(0, 1024), "layers, from the first on, that stay as they are"] = 0
    steps: Annotated[int, Range(1, 10**7), "steps of training"] = 500
    batch: Annotated[int, Range(2, 65_536), "examples in a step"] = 32
    lr: Annotated[float, Range(1e-8, 1.0), "highest learning rate"] = 5e-5
    seed: Annotated[int, Range(0, 2**63 - 1), "of weights, batches and dropout"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"r": 4, "steps": 3, "batch": 8, "lr": 1e-3}

    def __call__(self, model: PretrainedEncoder, /, *, examples: Examples) -> TextEncoder:
        """Return the trained encoder; ``model``, an encoder or a decoder, stays as it is.

        ``examples`` are pairs, triplets, scored pairs, or plain texts, of which each is its own
        positive. Raises :class:`ConfigError` for labelled examples, for causal attention of an
        encoder and for more frozen layers than there are, and :class:`InputError` for a model
        without layers.
        """
        try:
            from tokenspace.nn.attention import set_attention
            from tokenspace.nn.layers import freeze, network_of
            from tokenspace.nn.sentence import (
                copied,
                dataset,
                fine_tune,
                pair_loss,
                pooled_by,
                wrapped,
            )
        except ImportError as fault:
            raise MissingExtra.named("models", self.name) from fault
        made = copied(model)
        network = network_of(made)
        set_attention(network, bidirectional=self.attention == "bidirectional")
        freeze(network, self.frozen)
        made = pooled_by(made, lambda: self._pooling(network), seed=self.seed)
        fine_tune(
            made,
            dataset(examples),
            pair_loss(made, examples),
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=self.seed,
            threads=self.threads,
        )
        return wrapped(made)

    def _pooling(self, network: nn.Module) -> nn.Module:
        from sentence_transformers.sentence_transformer.modules import Pooling

        from tokenspace.nn.layers import layer_list

        from .mltp_net import LayerPooling

        config: Any = network.config
        D = int(config.hidden_size)
        if self.pooling in ("mean", "eos"):
            mode = {"mean": "mean", "eos": "lasttoken"}[self.pooling]
            stock: nn.Module = Pooling(D, pooling_mode=mode, include_prompt=False)
            return stock
        if self.pooling == "mltp":
            config.output_hidden_states = True  # also when the saved model is opened
        return LayerPooling(
            D,
            len(layer_list(network)),
            r=self.r,
            heads=max(1, D // _WIDTH),
            head_dim=_WIDTH,
            over="layers" if self.pooling == "mltp" else "tokens",
            summary="mean" if self.attention == "bidirectional" else "last",
        )
