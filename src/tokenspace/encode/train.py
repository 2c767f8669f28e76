"""Fine-tune an encoder on a user's own examples, and prove what it gained.

The recipe follows from the kind of the examples; see :data:`RECIPES`. A part of them is held out
for the proof and never seen; another one decides when to stop and which weights are kept. Where
nothing that was tried beats the encoder as it came, that is what is kept, and said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenspace.arrays import Floats2d
from tokenspace.encode.evaluation.tasks import Given, Labelled, Scored, Search, Vectors, judge
from tokenspace.errors import ConfigError, InputError, MissingExtra, NotConverged
from tokenspace.examples import Examples, Kind
from tokenspace.io import replacing
from tokenspace.report import Report
from tokenspace.resampling import bca, drawn
from tokenspace.text_encoder import PretrainedEncoder, Tally, TextEncoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from tokenspace.nn.train import Tick

__all__ = ["RECIPES", "Settings", "Trained", "figure_of", "train_encoder"]

LOOKS = 10  # at the developer's part, over the whole training
PATIENCE = 3  # looks in a row without a gain that end it
MOST_HELD = 1000  # examples of a part that is held out
FEWEST = 20  # examples that can be divided in three
_HALVES = 6  # words that a text needs to be cut in two

log = logging.getLogger(__name__)


class _Recipe(NamedTuple):
    loss: str
    task: str
    measure: str


RECIPES: Mapping[Kind, _Recipe] = {
    "pairs": _Recipe("ranking among the batch (InfoNCE)", "retrieval", "nDCG@10 of the positive"),
    "triplets": _Recipe(
        "ranking among the batch and the negatives (InfoNCE)",
        "retrieval",
        "nDCG@10 of the positive",
    ),
    "scored": _Recipe("order of scored pairs (CoSENT)", "sts", "Spearman's correlation"),
    "labelled": _Recipe(
        "contrast with other classes (example-based labels)", "classification", "accuracy"
    ),
    "texts": _Recipe(
        "two dropouts of a text, among the batch (SimCSE)", "retrieval", "nDCG@10 of a text's half"
    ),
}
"""What is trained and measured for each kind of examples."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train; the defaults suit encoders of some 20 to 200 million weights."""

    epochs: float = 3.0
    steps: int = 0  # 0: as many as the epochs have
    batch: int = 32
    lr: float = 3e-5
    held_out: float = 0.1
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """The encoder, and what the examples that it never saw say of it."""

    encoder: PretrainedEncoder
    report: Report


def train_encoder(
    model: PretrainedEncoder,
    examples: Examples,
    *,
    settings: Settings = Settings(),
    folder: Path | None = None,
) -> Trained:
    """Return a trained copy of ``model``, with the proof; ``model`` stays as it is.

    Parameters
    ----------
    model
        What ``load_encoder`` returns.
    examples
        Of any kind. A tenth (``held_out``) of the different anchors and at most 1,000 rows are held
        out for the proof, and as many for the choice of the weights.
    folder
        Where an interrupted run is kept to be gone on from; it is removed at the end.

    Raises
    ------
    InputError
        Fewer than 20 examples; labels that are all alike; a folder of other examples.
    ConfigError
        A number outside its range.
    NotConverged
        The loss of a step is not finite, or a vector after it. The folder keeps the best weights
        until then.
    """
    try:
        from tokenspace.nn.sentence import copied, fine_tune, wrapped
    except ImportError as fault:
        raise MissingExtra.named("models", "training a text encoder") from fault
    _check(settings)
    kept, course, proof = _parts(examples, settings)
    steps = settings.steps or max(1, math.ceil(settings.epochs * len(kept) / settings.batch))
    every = max(1, steps // LOOKS)
    made = copied(model)
    cut = wrapped(made).count_cut(examples.texts)
    if cut:
        log.warning("%d of %d texts were cut at the model's limit", cut, len(examples.texts))
    watcher = _Watcher(made, course, examples.kind, folder, _mark(examples, settings))
    data, loss = _objective(made, kept, settings)
    if not watcher.stopped:
        fine_tune(
            made,
            data,
            loss,
            steps=steps,
            batch=settings.batch,
            lr=settings.lr,
            sampling="no_duplicates" if examples.kind in ("pairs", "triplets") else "shuffled",
            seed=settings.seed,
            threads=settings.threads,
            every=every,
            watch=watcher,
            checkpoints=folder,
        )
    if watcher.best_step:
        made.load_state_dict(watcher.best, strict=False)
    encoder = wrapped(made if watcher.best_step else copied(model))
    report = _report(model, encoder, proof, examples, kept, settings, watcher)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return Trained(encoder, report)


def _check(settings: Settings) -> None:
    for name, value, low in (
        ("epochs", settings.epochs, 1e-6), ("steps", settings.steps, 0),
        ("batch", settings.batch, 2), ("lr", settings.lr, 0.0),
    ):  # fmt: skip
        if not low <= value < math.inf:
            raise ConfigError(f"{name}={value} is outside [{low:g}, inf)")
    if not 0 < settings.held_out < 0.5:
        raise ConfigError(
            f"held_out={settings.held_out} is outside (0, 0.5)", hint="0.1 holds out a tenth"
        )


def _parts(examples: Examples, settings: Settings) -> tuple[Examples, Examples, Examples]:
    """Return what is learned from, what decides, and what proves."""
    if len(examples) < FEWEST:
        raise InputError(
            f"{len(examples)} examples cannot be learned from and proved on",
            hint=f"give {FEWEST} at the very least, and better a thousand",
        )
    if len(labels := set(examples.columns.get("label", ()))) == 1:
        raise InputError(
            f"all {len(examples)} texts have the label {labels.pop()!r}",
            hint="give two classes or more",
        )
    share = min(settings.held_out, MOST_HELD / len(examples))
    rest, proof = examples.divided(share, seed=settings.seed)
    kept, course = rest.divided(share / (1 - share), seed=settings.seed + 1)
    return kept, course, proof


def _objective(made: SentenceTransformer, kept: Examples, settings: Settings) -> tuple[Any, Any]:
    """Return the data set and the loss of the examples' kind."""
    from tokenspace.nn.contrastive import ContrastiveLoss, contrast_rows, rows_dataset
    from tokenspace.nn.sentence import dataset, pair_loss

    if kept.kind != "labelled":
        return dataset(kept), pair_loss(made, kept)
    rows = contrast_rows(kept, in_batch=False, negatives=3, seed=settings.seed)
    return rows_dataset(rows), ContrastiveLoss(made, temperature=0.05)


def _given(examples: Examples) -> Given:
    """Return examples that were held out as the task that their kind is measured by."""
    columns = examples.columns
    if examples.kind == "scored":
        return Scored(columns["anchor"], columns["positive"], examples.scores or ())
    if examples.kind == "labelled":
        return Labelled(columns["text"], columns["label"])
    if examples.kind == "texts":
        words = [text.split() for text in columns["text"]]
        halves = [(w[: len(w) // 2], w[len(w) // 2 :]) for w in words if len(w) >= _HALVES]
        pairs = [(" ".join(first), " ".join(second)) for first, second in halves]
    else:
        pairs = list(zip(columns["anchor"], columns["positive"], strict=True))
    if not pairs:
        raise InputError(f"no text that was held out has {_HALVES} words", hint="give longer texts")
    docs = list(dict.fromkeys(positive for _, positive in pairs))
    place = {text: i for i, text in enumerate(docs)}
    relevant: dict[str, set[int]] = {}
    for anchor, positive in pairs:
        relevant.setdefault(anchor, set()).add(place[positive])
    return Search(list(relevant), docs, [frozenset(found) for found in relevant.values()])


def figure_of(encoder: TextEncoder, examples: Examples) -> float:
    """Return what an encoder reaches on examples, as their kind is measured (:data:`RECIPES`)."""
    task = RECIPES[examples.kind].task
    return judge(_vectors(encoder), task, "the held-out part", _given(examples)).value


def _vectors(encoder: TextEncoder) -> Vectors:
    """Return the vectors of an encoder that does not say at every look what it cut."""
    unsaid: Any = _Unsaid(encoder) if hasattr(encoder, "encode_counted") else encoder
    return Vectors(unsaid)


class _Unsaid:
    """A network's encoder that counts the texts it cuts in place of warning of them."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.dim = encoder, encoder.dim
        self.prompts: Mapping[str, str] = encoder.prompts

    def prompted(self, name: str) -> _Unsaid:
        return _Unsaid(self.encoder.prompted(name))

    def encode(self, texts: Sequence[str]) -> Floats2d:
        vectors: Floats2d = self.encoder.encode_counted(texts, Tally())
        return vectors


class _Watcher:
    """Looks at the developer's part, keeps the best weights, and says when to stop."""

    def __init__(
        self,
        made: SentenceTransformer,
        course: Examples,
        kind: Kind,
        folder: Path | None,
        mark: str,
    ) -> None:
        self.made, self.course, self.kind, self.folder = made, course, kind, folder
        self.mark = mark
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        if folder is not None and (folder / "course.json").is_file():
            self._resume(folder)
        if not self.history:
            self._look(0, math.nan)

    def _resume(self, folder: Path) -> None:
        from safetensors.torch import load_file

        saved = json.loads((folder / "course.json").read_text("utf-8"))
        if saved["mark"] != self.mark:
            raise InputError(
                f"{folder}: an interrupted run of other examples or settings",
                hint="give what it was started with, or remove that folder",
            )
        self.history = saved["history"]
        if (folder / "best.safetensors").is_file():
            self.best = load_file(folder / "best.safetensors")

    @property
    def best_step(self) -> int:
        """The step of the best look; of equal ones the first."""
        return int(max(self.history, key=lambda look: look["figure"])["step"])

    @property
    def stopped(self) -> bool:
        """Whether so many looks in a row brought no gain that training ends."""
        since = [look for look in self.history if look["step"] > self.best_step]
        return len(since) >= PATIENCE

    def __call__(self, tick: Tick) -> bool:
        self.history = [look for look in self.history if look["step"] < tick.step]
        return self._look(tick.step, tick.loss)

    def _look(self, step: int, loss: float) -> bool:
        from tokenspace.nn.sentence import wrapped

        try:
            figure = figure_of(wrapped(self.made), self.course)
        except InputError as fault:  # of the model as it came; later on, of what training made
            if not step:
                raise
            hint = "lower lr, or look for broken texts among the examples"
            raise NotConverged(f"step {step}: {fault}", hint=hint) from fault
        before = max((look["figure"] for look in self.history), default=-math.inf)
        look = {"step": float(step), "figure": figure}
        self.history.append(look if math.isnan(loss) else {**look, "loss": loss})
        if figure > before and step:
            self.best = {k: v.detach().clone() for k, v in self.made.state_dict().items()}
        if self.folder is not None:
            self._keep(self.folder, figure > before and step > 0)
        return self.stopped

    def _keep(self, folder: Path, better: bool) -> None:
        from safetensors.torch import save_model

        folder.mkdir(parents=True, exist_ok=True)
        if better:
            with replacing(folder / "best.safetensors") as partial:
                save_model(self.made, str(partial))
        with replacing(folder / "course.json") as partial:
            content = {"mark": self.mark, "history": self.history}
            partial.write_text(json.dumps(content), encoding="utf-8")


def _mark(examples: Examples, settings: Settings) -> str:
    """Return a hash of what a run was started with."""
    told = json.dumps([examples.columns, examples.scores, asdict(settings)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _report(
    model: TextEncoder,
    encoder: TextEncoder,
    proof: Examples,
    examples: Examples,
    kept: Examples,
    settings: Settings,
    watcher: _Watcher,
) -> Report:
    recipe = RECIPES[examples.kind]
    given = _given(proof)
    sides = [
        judge(_vectors(side), recipe.task, "the held-out part", given) for side in (model, encoder)
    ]
    found = drawn(sides[0].kind, [side.items for side in sides], seed=settings.seed)
    gain = float(found.values[1] - found.values[0])
    low, high = bca(gain, found.draws[1] - found.draws[0], found.left_out[1] - found.left_out[0])
    notes = [
        f"{len(kept):,} of {len(examples):,} {examples.kind} were learned from, by {recipe.loss}",
        f"{recipe.measure} on {len(sides[0].items):,} that were held out: "
        f"{found.values[0]:.3f} before, {found.values[1]:.3f} after, "
        f"gain {gain:+.3f} [{low:+.3f}, {high:+.3f}]",
    ]
    if watcher.best_step == 0:
        notes.append("nothing that was tried beat the model as it came, which was kept")
    elif not low > 0:
        notes.append("the interval holds 0: more examples would tell whether it is better")
    return Report(
        title=f"trained on {examples.kind}",
        metrics={
            "before": float(found.values[0]),
            "after": float(found.values[1]),
            "gain": gain,
            "low": low,
            "high": high,
            "best_step": float(watcher.best_step),
        },
        rows=watcher.history,
        notes=notes,
        recipe={"method": "encode train", **asdict(settings)},
    )
