"""Between a model and one that was trained from it: what the field gains, what general texts lose.

With W of the base and W' of the tuned model, the merged one has, for t in [0, 1],

    W_t = (1 - t) W + t W'.

Along this line much of what was learned is often there before much of the rest is lost (Wortsman et
al., Robust fine-tuning of zero-shot models, CVPR 2022), so a t below 1 can be the better one. The
rows of tokens that the tuned model got start at the mean of the rows of the pieces that the base
cuts such a token into; the tokenizer is the tuned one's at every t.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenspace.errors import ConfigError, FormatError, InputError, MissingExtra
from tokenspace.examples import Examples
from tokenspace.progress import track
from tokenspace.text_encoder import PretrainedEncoder, TextEncoder

from .train import RECIPES, figure_of
from .triplets import triplet_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from tokenspace.nn.encoder import ModelEncoder

__all__ = ["Course", "course", "measure_of", "merged"]


@dataclass(frozen=True)
class Course:
    """What merged models reach on the field's and on general examples, by ``t``, in per cent."""

    t: tuple[float, ...]
    field: tuple[float, ...]
    general: tuple[float, ...]
    field_measure: str
    general_measure: str

    def best(self, lose: float) -> float:
        """Return the t that is best for the field, of those where general texts lose no more.

        ``lose`` are points of the general figure, counted from t = 0; of equal ones the least t.
        Raises :class:`ConfigError` for fewer than none.
        """
        if not lose >= 0:
            raise ConfigError(f"lose={lose} is below 0", hint="give the points that may be lost")
        kept = (i for i, x in enumerate(self.general) if x >= self.general[0] - lose)
        return self.t[max([0, *kept], key=lambda i: (self.field[i], -self.t[i]))]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        rows = zip(self.t, self.field, self.general, strict=True)
        return {
            "field": self.field_measure,
            "general": self.general_measure,
            "rows": [{"t": t, "field": own, "general": other} for t, own, other in rows],
        }

    def to_svg(self) -> str:
        """Draw the field's figure against the general one, a point for each t."""
        from tokenspace.page import draw

        def paint(axes: Axes) -> None:
            axes.plot(self.general, self.field, marker="o")
            for t, x, y in zip(self.t, self.general, self.field, strict=True):
                axes.annotate(f"{t:g}", (x, y), textcoords="offset points", xytext=(4, 4))
            axes.set_xlabel(f"general: {self.general_measure}, per cent")
            axes.set_ylabel(f"field: {self.field_measure}, per cent")

        return draw(paint, 4.0)


def merged(base: PretrainedEncoder, tuned: PretrainedEncoder, t: float) -> PretrainedEncoder:
    """Return the model at ``t`` between ``base`` (0) and ``tuned`` (1), both of which stay.

    Raises :class:`ConfigError` for a t outside [0, 1], and :class:`InputError` where the weights
    of the two have other names or shapes, where they number the same tokens differently, and where
    a weight is not finite.
    """
    return next(_along(base, tuned, [t]))


def course(
    base: PretrainedEncoder,
    tuned: PretrainedEncoder,
    *,
    field: Examples,
    general: Examples,
    ts: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
) -> Course:
    """Measure merged models on examples of the field and on general ones.

    Triplets by the share that is in order, others as ``encode train`` measures their kind. ``ts``
    begin with 0. Raises as :func:`merged` does.
    """
    if not ts or ts[0] != 0 or len(set(ts)) < len(ts):
        raise ConfigError(f"t={list(ts)}: give different numbers, the first of them 0")
    found = [
        (_percent(model, field), _percent(model, general))
        for model in track(_along(base, tuned, ts), "merged", total=len(ts))
    ]
    return Course(
        tuple(ts),
        tuple(own for own, _ in found),
        tuple(other for _, other in found),
        measure_of(field),
        measure_of(general),
    )


def measure_of(examples: Examples) -> str:
    """Return what examples of this kind are measured by."""
    return "triplets in order" if examples.kind == "triplets" else RECIPES[examples.kind].measure


def _percent(model: TextEncoder, examples: Examples) -> float:
    if examples.kind == "triplets":
        return 100 * triplet_figures(model, examples)["accuracy"]
    return 100 * figure_of(model, examples)


def _along(
    base: PretrainedEncoder, tuned: PretrainedEncoder, ts: Sequence[float]
) -> Iterator[ModelEncoder]:
    """Yield the model at each t; it changes when the next one is asked for."""
    for t in ts:
        if not 0 <= t <= 1:
            raise ConfigError(f"t={t} is outside [0, 1]", hint="0 is the base, 1 the tuned model")
    try:
        import torch

        from tokenspace.nn.sentence import copied, wrapped
    except ImportError as fault:
        raise MissingExtra.named("models", "merging networks") from fault
    made = copied(tuned)
    own = made.state_dict()
    ends = _ends(base, tuned, copied(base).state_dict(), made)
    for t in ts:
        with torch.no_grad():
            for name, (start, end) in ends.items():
                own[name].copy_(start.lerp(end, t))
        made.eval()  # forgets what was prepared from other weights
        yield wrapped(made)


def _table(made: SentenceTransformer) -> str | None:
    """Return the name of the tokens' rows in a model, or None where it has no network."""
    network: Any = getattr(made[0], "auto_model", None)
    if network is None:
        return None
    rows = network.get_input_embeddings().weight
    return next(name for name, weight in made.named_parameters() if weight is rows)


def _ends(
    base: Any, tuned: Any, first: dict[str, Tensor], made: SentenceTransformer
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return where each tensor of numbers starts and ends, in the shape that it has at the end.

    They start at ``first``, those of the base, and end at those of ``made``, a copy of the tuned
    model; rows of tokens that the base lacks start at the mean of those of their pieces.
    """
    last = made.state_dict()
    if first.keys() != last.keys():
        apart = sorted(first.keys() ^ last.keys())
        raise InputError(
            f"the two models have other weights: {apart[0]} is in one of them only",
            hint="merge a model with one that was trained from it",
        )
    new, table = _same_ids(base, tuned), _table(made)
    ends = {}
    for name, end in last.items():
        start = first[name]
        if not end.is_floating_point():
            continue
        if name == table and start.shape[1] == end.shape[1] and len(start) <= len(end):
            start = _widened(start, end, new)
        if start.shape != end.shape:
            raise InputError(
                f"{name} is {tuple(start.shape)} in the base and {tuple(end.shape)} in the tuned "
                "model",
                hint="merge a model with one that was trained from it",
            )
        if not (start.isfinite().all() and end.isfinite().all()):
            raise FormatError(f"{name}: a weight is not finite", hint="train again, or copy again")
        ends[name] = (start.to(end.dtype), end.clone())
    return ends


def _same_ids(base: Any, tuned: Any) -> dict[int, tuple[int, ...]]:
    """Return of each token that only the tuned model has the ids of its pieces in the base."""
    from .domain_words import cut

    tokenizer = base.body.tokenizer
    known, every = tokenizer.get_vocab(), tuned.body.tokenizer.get_vocab()
    for token, number in known.items():
        if every.get(token) != number:
            raise InputError(
                f"token {token!r} is number {number} in the base and "
                f"{every.get(token, 'none')} in the tuned model",
                hint="merge models that number their tokens alike",
            )
    new = {token: number for token, number in every.items() if token not in known}
    return {new[token]: pieces for token, pieces in cut(list(new), tokenizer).items()}


def _widened(start: Tensor, end: Tensor, new: dict[int, tuple[int, ...]]) -> Tensor:
    """Return the base's rows, and those of the tokens that it lacks in place of spare ones, too."""
    whole = end.clone()  # a row that no token has stays what it is
    whole[: len(start)] = start
    for number, pieces in new.items():
        if pieces:
            whole[number] = start[list(pieces)].mean(0)
    return whole
