"""Fine-tune a text encoder by any loss of sentence-transformers, through its own trainer.

So what that trainer brings comes with it: accelerate, prompts, several data sets in a run, and
checkpoints to go on from. What it lacks is added: a loss that is not finite stops the run at that
step, the caller's generators stay as they were, and nothing is printed or sent anywhere.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Floats1d, Floats2d
from tokenspace.errors import ConfigError, InputError, MissingExtra, NotConverged
from tokenspace.examples import Examples
from tokenspace.nn.body import body_of, opened
from tokenspace.nn.decoder import on_threads
from tokenspace.nn.encoder import ModelEncoder
from tokenspace.nn.quiet import quiet
from tokenspace.nn.train import Tick
from tokenspace.progress import Meter
from tokenspace.text_encoder import PretrainedEncoder

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

__all__ = [
    "MeasuredEncoder",
    "Sampling",
    "copied",
    "dataset",
    "fine_tune",
    "inserted",
    "measured",
    "pair_loss",
    "pooled_by",
    "wrapped",
]

Sampling = Literal["shuffled", "no_duplicates", "group_by_label"]
"""Which rows make a batch: any; such that no text stands in it twice; several of each label."""


def copied(model: PretrainedEncoder) -> SentenceTransformer:
    """Return a separate model of sentence-transformers with the same modules, to be trained.

    A tokenizer without a padding token pads with its end-of-text token; the mask tells them apart.
    Raises :class:`InputError` for an encoder that is not such a model.
    """
    if not isinstance(model, ModelEncoder):
        raise InputError(
            f"model: a {type(model).__name__} is no pretrained network",
            hint="give what load_encoder returns (--model DIR, package or hub id)",
        )
    with tempfile.TemporaryDirectory() as folder, quiet():
        place = Path(folder) / "model"
        model.save(place)
        made = opened(place, False, str(model.body.device))
    tokenizer: Any = made.tokenizer
    if getattr(tokenizer, "pad_token", None) is None and hasattr(tokenizer, "eos_token"):
        tokenizer.pad_token = tokenizer.eos_token
    made.prompts, made.default_prompt_name = dict(model.prompts), model.prompt
    return made


def wrapped(made: SentenceTransformer, name: str = "the model") -> ModelEncoder:
    """Return a model of sentence-transformers as an encoder; ``name`` is what messages call it."""
    with quiet():
        prompts = {key: text or "" for key, text in made.prompts.items()}
        return ModelEncoder(body_of(made, name), prompts, made.default_prompt_name)


@dataclass(frozen=True, eq=False)
class MeasuredEncoder(ModelEncoder):
    """An encoder with the figures of its training."""

    metrics: Mapping[str, float] = field(default_factory=dict)

    def told(self, more: Mapping[str, float]) -> Self:
        """Return the same encoder with more figures."""
        return replace(self, metrics={**self.metrics, **more})


def measured(made: SentenceTransformer, metrics: Mapping[str, float]) -> MeasuredEncoder:
    """Return what :func:`wrapped` returns, with the figures of its training."""
    plain = wrapped(made)
    return MeasuredEncoder(plain.body, plain.prompts, plain.prompt, dict(metrics))


def inserted(
    made: SentenceTransformer, weights: Floats2d, bias: Floats1d | None = None
) -> SentenceTransformer:
    """Return the model with its vectors multiplied by ``weights`` (K, D), before they are unit.

    ``bias`` (K,) is added. A stock linear layer, put before a normalisation at the end, or at the
    end.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense

    layer = Dense(
        weights.shape[1],
        weights.shape[0],
        bias=bias is not None,
        activation_function=nn.Identity(),
        init_weight=torch.from_numpy(weights),
        init_bias=None if bias is None else torch.from_numpy(bias),
    )
    modules: list[Any] = list(made)
    place = len(modules) - (type(modules[-1]).__name__ == "Normalize")
    return SentenceTransformer(
        modules=[*modules[:place], layer, *modules[place:]],
        device=str(made.device),
        prompts={name: text or "" for name, text in made.prompts.items()},
        default_prompt_name=made.default_prompt_name,
        similarity_fn_name=made.similarity_fn_name,
    )


def pooled_by(
    made: SentenceTransformer, make: Callable[[], nn.Module], *, seed: int
) -> SentenceTransformer:
    """Return the model's transformer followed by a new pooling and a normalisation.

    ``make`` builds the pooling; its weights are drawn by ``seed``.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    with rng.torch_scope(seed, "pooling"):
        pooling = make()
    return SentenceTransformer(
        modules=[made[0], pooling, Normalize()],
        device=str(made.device),
        prompts={name: text or "" for name, text in made.prompts.items()},
        default_prompt_name=made.default_prompt_name,
    )


def dataset(examples: Examples) -> Dataset:
    """Return the examples as the losses of sentence-transformers take them.

    Of plain texts, each is its own positive: what differs is the dropout (SimCSE, Gao et al. 2021).
    Labels become numbers in the order of their names.
    """
    try:
        from datasets import Dataset
    except ImportError:
        raise MissingExtra.named("models", "training a text encoder") from None
    columns: dict[str, list[Any]] = {name: list(text) for name, text in examples.columns.items()}
    if examples.kind == "texts":
        columns = {"anchor": columns["text"], "positive": columns["text"]}
    if examples.kind == "scored":
        columns["score"] = list(examples.scores or ())
    if examples.kind == "labelled":
        numbers = {name: i for i, name in enumerate(sorted(set(columns["label"])))}
        columns["label"] = [numbers[name] for name in columns["label"]]
    return Dataset.from_dict(columns)


def pair_loss(model: SentenceTransformer, examples: Examples, *, scale: float = 20.0) -> nn.Module:
    """Return the loss that fits the examples' kind.

    CoSENT for scored pairs; the ranking of each positive among all texts of its batch (InfoNCE) for
    pairs, triplets and plain texts. Raises :class:`ConfigError` for labelled texts.
    """
    from sentence_transformers.sentence_transformer import losses

    if examples.kind == "labelled":
        raise ConfigError("labelled texts are no pairs", hint="give pairs, triplets or texts")
    kind: Any = (
        losses.CoSENTLoss if examples.kind == "scored" else losses.MultipleNegativesRankingLoss
    )
    made: nn.Module = kind(model, scale=scale)
    return made


def fine_tune(
    model: SentenceTransformer,
    data: Dataset | Mapping[str, Dataset],
    loss: nn.Module | Mapping[str, nn.Module],
    *,
    steps: int,
    batch: int,
    lr: float,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    sampling: Sampling = "shuffled",
    bf16: bool = False,
    seed: int = 0,
    threads: int = 0,
    every: int = 0,
    watch: Callable[[Tick], bool] | None = None,
    checkpoints: Path | None = None,
    label: str = "train",
) -> list[float]:
    """Train ``model`` in place and return the loss of every step that this call took.

    Parameters
    ----------
    data, loss
        One data set and its loss, or several by name: a batch is of one of them, drawn in
        proportion to their sizes.
    steps, batch
        Optimizer steps, and rows in each; the data are read again where they end before.
    lr, warmup, weight_decay, clip
        AdamW's highest rate, reached after the share ``warmup`` of the steps and falling to zero;
        its weight decay; the greatest norm of all gradients together.
    sampling
        See :data:`Sampling`.
    bf16
        Multiply in bfloat16 under autocast.
    every, watch
        ``watch(tick)`` is called after each ``every`` steps, in evaluation mode, and ends the
        training where it returns True.
    checkpoints
        A directory for the state of the last ``every`` steps. One that is there is gone on from:
        the result is that of a run which was never interrupted.

    Raises
    ------
    ConfigError
        A batch of fewer than two rows, or no step.
    NotConverged
        The loss or a gradient of a step is not finite; that step is not taken.
    MissingExtra
        Where ``datasets`` or ``accelerate`` are not installed.
    """
    if steps < 1 or batch < 2:
        raise ConfigError(f"steps={steps}, batch={batch}: at least 1 step of 2 rows is needed")
    try:
        from sentence_transformers import SentenceTransformerTrainingArguments
        from transformers import PrinterCallback, TrainerCallback
    except ImportError:
        raise MissingExtra.named("models", "training a text encoder") from None

    losses: list[float] = []
    begin = time.perf_counter()

    class Watcher(TrainerCallback):
        """Shows the progress and lets the caller look, and stop."""

        rate = lr

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.rate = float(trainer.lr_scheduler.get_last_lr()[0])

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.add()
            if watch is not None and every and state.global_step % every == 0:
                model.eval()
                tick = Tick(state.global_step, losses[-1], self.rate, time.perf_counter() - begin)
                control.should_training_stop |= bool(watch(tick))
                model.train()

    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(on_threads(threads))
        stack.enter_context(rng.global_scope(seed, "fine-tune"))
        place = checkpoints or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = SentenceTransformerTrainingArguments(
            output_dir=str(place),
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=lr,
            warmup_steps=math.ceil(warmup * steps),
            weight_decay=weight_decay,
            max_grad_norm=clip,
            batch_sampler="batch_sampler" if sampling == "shuffled" else sampling,
            bf16=bf16,
            use_cpu=model.device.type == "cpu",
            seed=rng.derive(seed, "trainer") % 2**31,
            data_seed=rng.derive(seed, "rows") % 2**31,
            save_strategy="steps" if checkpoints and every else "no",
            save_steps=max(1, every),
            save_total_limit=1,
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer: Any = _trainer()(
            model=model, args=settings, train_dataset=_plain(data), loss=_plain(loss)
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Watcher())
        trainer.losses = losses
        earlier = sorted(place.glob("checkpoint-*")) if checkpoints else []
        meter = stack.enter_context(Meter(label, total=steps))
        trainer.train(resume_from_checkpoint=str(earlier[-1]) if earlier else None)
    model.eval()
    return losses


def _plain(given: Any) -> Any:
    return dict(given) if isinstance(given, Mapping) else given


def _trainer() -> type:
    """Return the trainer of sentence-transformers, which it takes seconds to import."""
    from sentence_transformers import SentenceTransformerTrainer

    class Trainer(SentenceTransformerTrainer):
        """Stops where the loss or a gradient is not finite, before the step is taken."""

        losses: list[float]

        def add_model_card_callback(self, *_: Any) -> None:
            """Gather nothing for a card: what a result says of itself is its report."""

        def training_step(self, model: nn.Module, *given: Any, **named: Any) -> Tensor:
            value: Tensor = super().training_step(model, *given, **named)
            self.losses.append(float(value))
            norms = (p.grad.norm() for p in model.parameters() if p.grad is not None)
            total = torch.stack(list(norms)).norm()
            for what, size in (("loss", self.losses[-1]), ("gradient's norm", float(total))):
                if not math.isfinite(size):
                    step = len(self.losses)
                    raise NotConverged(
                        f"step {step}: the {what} is {size}",
                        hint="lower lr, or look for broken texts among the examples",
                    )
            return value

    return Trainer
