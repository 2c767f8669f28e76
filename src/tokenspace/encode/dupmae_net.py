"""The training of RetroMAE and DupMAE: the decoder, and losses that hold few logits at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding_bag, scaled_dot_product_attention
from transformers.activations import ACT2FN

from tokenspace import rng
from tokenspace.arrays import Floats2d
from tokenspace.errors import InputError
from tokenspace.nn.decoder import quicker_in_bf16
from tokenspace.nn.duplex import ROOM, DuplexEncoder, head_of, new_head, option
from tokenspace.nn.layers import network_of
from tokenspace.nn.quiet import quiet
from tokenspace.nn.sentence import wrapped
from tokenspace.nn.train import steps
from tokenspace.progress import track
from tokenspace.text_encoder import PretrainedEncoder
from tokenspace.weighting import directions

from .dupmae import NONE, Special

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from .dupmae import DupMAE

__all__ = [
    "Decoder",
    "Embeddings",
    "Parts",
    "Pretraining",
    "axes",
    "bag_loss",
    "checked",
    "finished",
    "limit",
    "plain_tokenizer",
    "started",
    "token_loss",
    "train",
]

Arrays = npt.NDArray[Any]


class Parts(NamedTuple):
    """The losses of a step: of the masked words, the decoder, and the bag of words; or zero."""

    mlm: Tensor
    decoder: Tensor
    bow: Tensor


# From states to the vocabulary


def token_loss(states: Tensor, rows: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -ln p[label] with p = softmax(states rowsᵀ + bias), or 0 without labels.

    ``states`` (N, D), ``rows`` (V, D), ``bias`` (V,), ``labels`` (N,); a label of -100 is none. The
    gradients are made
    together with the loss, part by part, so that no more than ``ROOM`` logits exist at a time.
    Under autocast products are made in the lower precision, the rest in that of the bias.
    """
    loss: Tensor = _TokenLoss.apply(states, rows, bias, labels)  # type: ignore[no-untyped-call]
    return loss


def bag_loss(
    states: Tensor,
    rows: Tensor,
    bias: Tensor,
    seen: Tensor,
    labels: Tensor,
    words: Tensor,
    weights: Tensor,
    share: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mlm + share · bow, and both, which carry no gradients; all from the same logits.

    ``states`` (B, T, D). ``mlm`` is :func:`token_loss` at the places of ``labels`` (B, T) that are
    not -100. With μ (B, V) the greatest logit of every word over the places ``seen`` (B, T), bow is
    the mean over the texts of -Σ_t weights_t ln softmax(μ)[words_t], both (B, T). No more than
    ``ROOM`` logits exist at a time, or those of one text. Only the place that a word's greatest
    logit stands at gets a gradient, one of them where they are equal.

    Raises :class:`InputError` for a text of which no place is seen.
    """
    empty = (~seen.any(1)).nonzero()
    if len(empty):
        raise InputError(
            f"text {int(empty[0])} of the batch has no token to take words from",
            hint="leave texts without tokens out",
        )
    apply: Any = _BagLoss.apply
    found: tuple[Tensor, Tensor, Tensor] = apply(
        states, rows, bias, seen, labels, words, weights, share
    )
    return found


class _Sums:
    """Logits of parts of the states, and the gradients of what is made of them."""

    def __init__(self, states: Tensor, rows: Tensor, bias: Tensor, wanted: bool) -> None:
        kind = states.device.type
        lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        self.states, self.rows, self.bias = states.to(lower), rows.to(lower), bias
        self.wanted, self.dtype = wanted, bias.dtype
        self.loss = torch.zeros((), dtype=bias.dtype, device=bias.device)
        if wanted:
            self.of_states = torch.zeros(states.shape, dtype=bias.dtype, device=bias.device)
            self.of_rows, self.of_bias = torch.zeros_like(rows), torch.zeros_like(bias)

    def logits(self, part: slice) -> Tensor:
        return (self.states[part] @ self.rows.T).to(self.dtype).add_(self.bias)

    def predict(self, logits: Tensor, places: Tensor | slice, labels: Tensor, share: float) -> None:
        """Add ``share`` times the sum of -ln p[label]; the logits (n, V) are used up."""
        target = labels[:, None].clamp(min=0)
        each = share * (labels != NONE)[:, None].to(self.dtype)
        known = logits.gather(1, target)
        scale = logits.logsumexp(1, keepdim=True)
        self.loss += (each * (scale - known)).sum()
        if not self.wanted:
            return
        slope = logits.sub_(scale).exp_()
        slope.scatter_add_(1, target, torch.full_like(known, -1.0)).mul_(each)
        self.of_bias += slope.sum(0)
        lower = slope.to(self.rows.dtype)
        self.of_states[places] += (lower @ self.rows).to(self.dtype)
        self.of_rows += (lower.T @ self.states[places]).to(self.dtype)

    def spread(self, places: Tensor, slope: Tensor) -> None:
        """Add the gradients of one logit a text and word: ``slope`` (B, V) at ``places`` (B, V)."""
        B, V = places.shape
        place, value = places.T.reshape(-1), slope.T.reshape(-1)
        word = torch.arange(V, device=place.device).repeat_interleave(B)
        order = place.argsort()
        ends = place.bincount(minlength=len(self.states)).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        states, rows = self.states.to(self.dtype), self.rows.to(self.dtype)
        self.of_rows += _weighted(place.view(V, B), states, value.view(V, B))
        self.of_states += _weighted(word[order], rows, value[order], starts)
        self.of_bias += slope.sum(0)

    def gradients(self) -> tuple[Tensor, ...]:
        return (self.of_states, self.of_rows, self.of_bias) if self.wanted else ()


def _weighted(
    places: Tensor, rows: Tensor, weights: Tensor, starts: Tensor | None = None
) -> Tensor:
    """Return weighted sums of rows, one for each row of ``places`` or for each start in them."""
    return embedding_bag(places, rows, starts, mode="sum", per_sample_weights=weights)


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        sums = _Sums(states, rows, bias, any(ctx.needs_input_grad))
        share = 1 / max(1, int((labels != NONE).sum()))
        size = max(1, ROOM // len(rows))
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            sums.predict(sums.logits(part), part, labels[part], share)
        ctx.save_for_backward(*sums.gradients())
        return sums.loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(part * gradient for part in ctx.saved_tensors), None)


class _BagLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        rows: Tensor,
        bias: Tensor,
        seen: Tensor,
        labels: Tensor,
        words: Tensor,
        weights: Tensor,
        share: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        B, T, D = states.shape
        V = len(rows)
        sums = _Sums(states.reshape(B * T, D), rows, bias, any(ctx.needs_input_grad))
        weights, told = weights.to(bias.dtype), labels.flatten()
        each = 1 / max(1, int((told != NONE).sum()))
        bow = torch.zeros_like(sums.loss)
        places, slopes = [], []
        size = max(1, ROOM // (V * T))
        for start in range(0, B, size):
            texts = slice(start, start + size)
            first, last = start * T, min(B, start + size) * T
            logits = sums.logits(slice(first, last))
            here = _places(told[first:last] != NONE)
            known = logits[here]  # a copy
            logits[~seen[texts].flatten()] = -torch.inf
            most, place = logits.view(-1, T, V).max(1)
            score = most - most.logsumexp(1, keepdim=True)
            bow -= (weights[texts] * score.gather(1, words[texts])).sum() / B
            if sums.wanted:
                slope = score.exp_().mul_(weights[texts].sum(1, keepdim=True))
                slope.scatter_add_(1, words[texts], -weights[texts])
                slopes.append(slope.mul_(share / B))
                places.append(place + torch.arange(first, last, T, device=place.device)[:, None])
            sums.predict(known, here + first, told[first:last][here], each)
        if sums.wanted:
            found, slope = torch.cat(places), torch.cat(slopes)
            size = max(1, ROOM // V)
            for start in range(0, B, size):
                sums.spread(found[start : start + size], slope[start : start + size])
            sums.of_states = sums.of_states.view(B, T, D)
        ctx.save_for_backward(*sums.gradients())
        mlm = sums.loss.clone()
        ctx.mark_non_differentiable(mlm, bow)
        return sums.loss + share * bow, mlm, bow

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (*(part * gradient for part in ctx.saved_tensors), None, None, None, None, None)


def _places(wanted: Tensor) -> Tensor:
    """Return where a flat mask is True, and 0 as often as makes the number a multiple of 64.

    Place 0 is [CLS], which has no label. Products in bfloat16 are compiled for every new number of
    rows, and that many are kept.
    """
    found = wanted.nonzero()[:, 0]
    return torch.cat([found, found.new_zeros(-len(found) % 64)])


# The networks


class Embeddings:
    """What enters a network's first layer, taken apart: rows, positions, segment, norm, dropout.

    Raises :class:`InputError` for a network that makes it otherwise.
    """

    def __init__(self, network: Any) -> None:
        made: Any = getattr(network, "embeddings", None)

        def part(*names: str) -> Any:
            return next((p for name in names if (p := getattr(made, name, None)) is not None), None)

        self.words = network.get_input_embeddings()
        self.norm, self.drop = part("LayerNorm", "norm"), part("dropout", "drop")
        self.segments, self.places = part("token_type_embeddings"), part("position_embeddings")
        # RoBERTa's first position is the one after the row that belongs to padding
        self.first = made.padding_idx + 1 if hasattr(made, "padding_idx") else 0
        self.width = int(network.config.hidden_size)
        if self.norm is None or not self._agrees(network):
            raise InputError(
                f"model: what enters the layers of {type(network).__name__} is not made of rows,"
                " positions and a norm",
                hint="give an encoder like BERT, RoBERTa, DistilBERT, MPNet or ModernBERT",
            )

    @property
    def rows(self) -> Tensor:
        """The words' rows (V, D)."""
        rows: Tensor = self.words.weight
        return rows

    def positions(self, count: int) -> Tensor | None:
        """Return the rows of the first positions (count, D), or None where there are none."""
        if self.places is None:
            return None
        rows: Tensor = self.places.weight[self.first : self.first + count]
        return rows

    def of(self, rows: Tensor) -> Tensor:
        """Return what enters the first layer for rows (B, T, D) in the places of words."""
        positions = self.positions(rows.shape[1])
        if positions is not None:
            rows = rows + positions
        if self.segments is not None:
            rows = rows + self.segments.weight[0]
        found: Tensor = self.norm(rows)
        return found if self.drop is None else self.drop(found)

    def _agrees(self, network: nn.Module) -> bool:
        probe = torch.full((1, 4), len(self.rows) - 1, device=self.rows.device)  # no padding
        if self.rows.shape[1] != self.width:
            return False
        training = network.training
        network.eval()
        with torch.no_grad():
            given = network(
                input_ids=probe, attention_mask=torch.ones_like(probe), output_hidden_states=True
            ).hidden_states[0]
            same = torch.allclose(given, self.of(self.words(probe)), atol=1e-5)
        network.train(training)
        return same


class Decoder(nn.Module):
    """One layer that has to tell every word of a text from its vector and half of the others."""

    def __init__(self, config: Any, positions: int) -> None:
        super().__init__()
        width = int(config.hidden_size)
        inner = int(option(config, "intermediate_size", "hidden_dim", default=4 * width))
        eps = float(option(config, "layer_norm_eps", "norm_eps", default=1e-12))
        self.heads = int(config.num_attention_heads)
        self.p = float(option(config, "hidden_dropout_prob", "dropout", default=0.1))
        self.p_attention = float(
            option(config, "attention_probs_dropout_prob", "attention_dropout", default=0.1)
        )
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.activation = ACT2FN["gelu"]
        for layer in (self.query, self.key, self.value, self.out, self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.places = nn.Parameter(0.02 * torch.randn(positions, width)) if positions else None

    def forward(self, Q: Tensor, KV: Tensor, visible: Tensor, places: Tensor) -> Tensor:
        """Return the states (n, D) of the queries at ``places`` (n,), row by row.

        ``Q`` (B, S, D) are the queries, ``KV`` (B, T, D) what they see where ``visible``
        (B, S, T).
        """
        q, k, v = (
            layer(given).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, given in ((self.query, Q), (self.key, KV), (self.value, KV))
        )
        p = self.p_attention if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None], dropout_p=p)
        mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)[places]
        queries = Q.flatten(0, 1)[places]
        states = self.norm(queries + self._dropped(self.out(mixed)))
        inner = self.down(self.activation(self.up(states)))
        found: Tensor = self.norm2(states + self._dropped(inner))
        return found

    def _dropped(self, values: Tensor) -> Tensor:
        return dropout(values, self.p, self.training)


class Pretraining(nn.Module):
    """An encoder with what it is trained by: a batch to its losses."""

    def __init__(self, network: Any, form: str, share: float, longest: int) -> None:
        super().__init__()
        self.network, self.form, self.share = network, form, share
        self.embeddings = Embeddings(network)
        self.head = new_head(network)
        positions = longest if self.embeddings.places is None else 0
        self.decoder = None if form == "mlm" else Decoder(network.config, positions)
        self.to(self.embeddings.rows.device)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Parts]:
        """Return the loss of a batch as ``collate`` of the recipe makes it, and its parts."""
        clean, labels, mask = batch["clean"], batch["labels"], batch["mask"]
        states = self.network(
            input_ids=batch["given"], attention_mask=mask.long()
        ).last_hidden_state
        rows, bias = self.embeddings.rows, self.head.bias
        if self.form == "dupmae":
            seen = mask.clone()
            seen[:, 0] = False
            loss, mlm, bow = bag_loss(
                self.head(states), rows, bias, seen, labels, clean, batch["weights"], self.share
            )
        else:
            here = _places(labels.flatten() != NONE)
            some, told = states.flatten(0, 1)[here], labels.flatten()[here]
            loss = mlm = token_loss(self.head(some), rows, bias, told)
            bow = torch.zeros_like(mlm)
        if self.decoder is None:
            return loss, Parts(mlm, torch.zeros_like(mlm), bow)
        own = batch["own"][:, :-1]  # the last place is special in every text
        places = _places(own.flatten())
        found = self.decoder(*self.asked(states[:, 0], clean), batch["visible"][:, :-1], places)
        asked = clean[:, :-1].masked_fill(~own, NONE).flatten()[places]
        told = token_loss(self.head(found), rows, bias, asked)
        return loss + told, Parts(mlm, told, bow)

    def asked(self, h: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's queries (B, T - 1, D) and what it looks at (B, T, D).

        ``h`` (B, D) are the vectors of the texts, ``clean`` (B, T) their words.
        """
        assert self.decoder is not None
        E, T = self.embeddings, clean.shape[1]
        KV = torch.cat([h[:, None], E.of(E.words(clean))[:, 1:]], dim=1)
        own = self.decoder.places
        p = own[:T] if own is not None else E.positions(T)
        assert p is not None
        if self.form == "retromae":
            Q = h[:, None] + p
        else:
            Q = E.of(h[:, None].expand(-1, T, -1) + (p if own is not None else 0))
        return Q[:, :-1], KV


def started(network: Any, recipe: DupMAE, longest: int, model: PretrainedEncoder) -> Pretraining:
    """Return the module to train: with the head and the decoder of ``model`` as far as it has them.

    Raises :class:`InputError` where these do not fit the network.
    """
    with rng.torch_scope(recipe.seed, "weights"):
        module = Pretraining(network, recipe.form, recipe.bow, longest)
    own = module.state_dict()
    for name, value in _earlier(model).items():
        if name in own and own[name].shape != value.shape:
            raise InputError(
                f"model: {name} is {tuple(value.shape)}, not {tuple(own[name].shape)}",
                hint="its head is of another vocabulary: give a directory without it",
            )
        if name in own:
            own[name].copy_(value)
    return module


def _earlier(model: Any) -> dict[str, Tensor]:
    """Return the weights of head and decoder that came with a model."""
    if isinstance(model, DuplexEncoder):
        return {name: torch.tensor(value) for name, value in model.pretraining.items()}
    return {f"head.{name}": value for name, value in head_of(model).items()}


def kept(module: Pretraining) -> dict[str, Floats2d]:
    """Return the weights of the head and the decoder by name, float32."""
    return {
        name: value.detach().float().cpu().numpy().copy()
        for name, value in module.state_dict().items()
        if not name.startswith("network.")
    }


def train(
    module: Pretraining, batches: Iterable[Mapping[str, Arrays]], recipe: DupMAE
) -> dict[str, float]:
    """Take the recipe's steps; return the first loss, and the mean parts of the last tenth."""
    # one tensor: small ones that are kept among large ones that are not let memory fall to pieces
    parts = torch.zeros(recipe.steps, len(Parts._fields), device=module.embeddings.rows.device)
    done = count()

    def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        device = batch["clean"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=quicker_in_bf16()):
            value, found = module(batch)
        torch.stack([part.detach().float() for part in found], out=parts[next(done)])
        result: Tensor = value
        return result

    ticks = steps(
        module,
        loss,
        map(_tensors, batches),
        lr=recipe.lr,
        total=recipe.steps,
        warmup=round(0.1 * recipe.steps),
        seed=recipe.seed,
    )
    losses = [tick.loss for tick in track(ticks, "train", total=recipe.steps)]
    last = max(1, recipe.steps // 10)
    means = parts[-last:].mean(0).tolist()
    return {"loss_first": losses[0], **dict(zip(Parts._fields, means, strict=True))}


def axes(module: Pretraining, batches: Iterable[Mapping[str, Arrays]]) -> Floats2d:
    """Return the principal directions of the texts' vectors, (D, D), a column each."""
    D = module.embeddings.width
    total, scatter, texts = np.zeros(D), np.zeros((D, D)), 0
    device = module.embeddings.rows.device
    module.eval()
    with torch.inference_mode():
        for batch in map(_tensors, batches):
            ids, mask = (batch[name].to(device) for name in ("clean", "mask"))
            states = module.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            h = states[:, 0].double().cpu().numpy()
            total += h.sum(0)
            scatter += h.T @ h
            texts += len(h)
    mean = total / texts
    found = directions(scatter / texts - np.outer(mean, mean), D).T
    # of a direction and its opposite the one whose greatest number is positive
    signs = np.sign(np.take_along_axis(found, np.abs(found).argmax(0)[None], axis=0))
    return np.ascontiguousarray(found * signs, np.float32)


def finished(
    model: SentenceTransformer, module: Pretraining, axes: Floats2d, metrics: Mapping[str, float]
) -> DuplexEncoder:
    """Return the encoder: the network, [CLS] as a text's vector, and what training needs again."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    network = module.network.eval()
    made = SentenceTransformer(
        modules=[model[0], Pooling(int(network.config.hidden_size), "cls")],
        device=str(module.embeddings.rows.device),
        prompts={name: text or "" for name, text in model.prompts.items()},
        default_prompt_name=model.default_prompt_name,
    )
    plain = wrapped(made)
    return DuplexEncoder(plain.body, plain.prompts, plain.prompt, kept(module), axes, dict(metrics))


# The encoder that is started from


def checked(model: SentenceTransformer) -> tuple[nn.Module, Special]:
    """Return the network, and the special tokens around a text and in place of a masked word.

    Raises :class:`InputError` for a network that masked words cannot be learned with.
    """
    network: Any = network_of(model)
    tokenizer, rows = cast("Any", model.tokenizer), network.get_input_embeddings().weight
    with quiet():
        mask = getattr(tokenizer, "mask_token_id", None)
    if mask is None:
        raise InputError(
            "model: its tokenizer has no mask token, so no word can be hidden",
            hint="give an encoder that was trained on masked words, such as BERT",
        )
    around = plain_tokenizer(model).encode("").ids
    if len(around) != 2:
        raise InputError(
            f"model: its tokenizer puts {len(around)} tokens around a text, not one on either side",
            hint="give an encoder that begins with [CLS] and ends with [SEP]",
        )
    if len(tokenizer) > len(rows):
        raise InputError(
            f"model: {len(rows)} rows for the {len(tokenizer)} tokens of its tokenizer",
            hint="the tokenizer belongs to another model: copy the directory again",
        )
    if rows.device.type == "cpu" and rows.dtype == torch.float16:
        raise InputError(
            "model: its weights are float16, which a CPU does not train in",
            hint="load it in float32",
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else around[1]
    return network, Special(around[0], around[1], mask, pad, len(tokenizer))


def plain_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """Return a copy of the tokenizer that neither cuts nor pads."""
    wordpieces: Any = model.tokenizer
    made = Tokenizer.from_str(wordpieces.backend_tokenizer.to_str())
    made.no_truncation()
    made.no_padding()
    return made


def limit(model: SentenceTransformer) -> int:
    """Return how many tokens a text may have."""
    longest = model.max_seq_length
    return int(longest) if longest is not None and longest < 1e9 else 1 << 16


def _tensors(batch: Mapping[str, Arrays]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.items()}
