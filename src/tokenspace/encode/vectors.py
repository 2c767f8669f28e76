"""Turn a file of texts into a file of vectors, however long: ``tokenspace encode run``.

The texts are encoded in shards of at most 8,192, in their order. A finished shard is one file in
``OUT.parts``, written beside its place and renamed, and the result is put together at the end: so
a run that was killed goes on where it stopped, with the same bytes in the end. A shard is begun
anew where the texts, the model or a setting are not those that it was made from.

Shards are also what is shared out: among Ray's workers (``engine="ray"``), or among the processes
of ``accelerate launch -m tokenspace encode run ...``, one for each graphics card.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from tokenspace import durable
from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, InputError
from tokenspace.progress import Meter
from tokenspace.runner import load_input, located
from tokenspace.space.jobs import jobs_of
from tokenspace.text_encoder import PretrainedEncoder, Tally, TextEncoder
from tokenspace.text_files import TextFiles

from ._shards import Item, Parts, Shard, Survey, check_target
from .agreement import LEAST, Agreement

__all__ = ["Estimate", "How", "Precision", "Written", "estimate", "write_vectors"]

log = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "int8"]
Texts = Corpus | Sequence[str] | str | Path

COMPARED = 500  # texts whose vectors say what int8 costs
SAMPLE = 256  # texts that a dry run encodes
_UNCOUNTED = -1  # tokens, of an encoder that does not count them


@dataclass(frozen=True, kw_only=True)
class How:
    """What the vectors depend on beside the model and the texts.

    Parameters
    ----------
    precision
        What a network multiplies in: ``float32``, ``bfloat16`` (pooled in float32 all the same;
        quicker where the processor has instructions for it) or ``int8`` (through ONNX; what it
        costs is measured on the texts). None: as the model is stored.
    prompt
        The name of one of the model's prompts, put before every text; None: the model's own.
    normalize
        Divide every vector by its length; a zero vector stays zero.
    dim
        Keep the first so many numbers of a vector, before ``normalize``.
    batch_tokens
        The tokens that a network is given at a time, padding included. None: what was measured to
        be quickest.
    trust_remote_code
        Run code that comes with the model.
    """

    precision: Precision | None = None
    prompt: str | None = None
    normalize: bool = False
    dim: int | None = None
    batch_tokens: int | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.precision not in (None, *get_args(Precision)):
            raise ConfigError(
                f"precision={self.precision!r} is not one of {', '.join(get_args(Precision))}"
            )
        for name in ("dim", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} is outside [1, inf]")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What :func:`write_vectors` did.

    ``tokens`` went through the network (None where the encoder does not count), ``cut`` texts were
    longer than the model takes, ``empty`` ones are what the model makes of no text at all, and
    ``kept`` were finished by an earlier run. ``seconds`` are those of the whole call, and
    ``texts_per_second`` what was reached while texts were encoded. ``agreement`` says what int8
    costs.
    """

    out: str
    texts: int
    dim: int
    tokens: int | None
    cut: int
    empty: int
    kept: int
    seconds: float
    texts_per_second: float
    precision: str
    agreement: Agreement | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would do: how many texts, bytes and seconds; ``kept`` texts are finished."""

    texts: int
    empty: int
    kept: int
    dim: int
    bytes: int
    texts_per_second: float

    @property
    def seconds(self) -> float:
        """How long the rest would take on this machine as it is now."""
        return (self.texts - self.kept) / self.texts_per_second

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class _Job:
    """Encode a shard. Sent to a worker by a path, which the worker opens once."""

    model: TextEncoder | str
    how: How

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder, with its prompt and in its precision."""
        model = self.model
        if isinstance(model, str):
            trust = self.how.trust_remote_code
            model = load_input(TextEncoder, model, trust_remote_code=trust)
        prompted = _prompted(model, self.how.prompt)
        return _precise(prompted, self.how.precision)

    @property
    def dim(self) -> int:
        """Width of the vectors that are written."""
        whole = self.encoder.dim
        if self.how.dim is not None and self.how.dim > whole:
            raise ConfigError(
                f"dim={self.how.dim}: the model's vectors have {whole} numbers",
                hint=f"give at most {whole}",
            )
        return self.how.dim or whole

    @property
    def precision(self) -> str:
        """What the encoder multiplies in."""
        return str(getattr(self.encoder, "precision", "float32"))

    def __call__(self, item: Item) -> tuple[int, Shard]:
        number, first, texts = item
        tally = Tally()
        counted: Callable[..., Floats2d] | None = getattr(self.encoder, "encode_counted", None)
        if counted is not None:
            vectors = counted(texts, tally, batch_tokens=self.how.batch_tokens)
        elif self.how.batch_tokens is None:
            vectors, tally.tokens = self.encoder.encode(texts), _UNCOUNTED
        else:
            raise ConfigError(
                f"batch_tokens: a {type(self.encoder).__name__} is not run in batches of tokens",
                hint="leave it out",
            )
        vectors = vectors[:, : self.dim]
        if not (good := np.isfinite(vectors).all(axis=1)).all():
            raise InputError(
                f"text {first + int(good.argmin())} has a vector that is not finite",
                hint="the model's weights are damaged, or not made for this precision",
            )
        if self.how.normalize:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
        counts = tally.tokens, tally.cut, tally.beyond
        return number, Shard(np.ascontiguousarray(vectors, np.float32), *counts)


def _prompted(encoder: Any, name: str | None) -> TextEncoder:
    if name is None:
        return cast("TextEncoder", encoder)
    known = getattr(encoder, "prompts", {})
    if name not in known:
        raise ConfigError(
            f"the model has no prompt {name!r}", hint=f"its prompts: {', '.join(known) or 'none'}"
        )
    return cast("TextEncoder", encoder.prompted(name))


def _precise(encoder: Any, precision: Precision | None) -> TextEncoder:
    """Return the encoder in a precision; one that is to be int8 is so already."""
    if precision in (None, getattr(encoder, "precision", "float32")):
        return cast("TextEncoder", encoder)
    if precision == "bfloat16" and hasattr(encoder, "in_bfloat16"):
        return cast("TextEncoder", encoder.in_bfloat16())
    raise ConfigError(
        f"precision={precision!r}: the encoder is {getattr(encoder, 'precision', 'no network')}",
        hint="leave the precision out, or give the model as it was before",
    )


@dataclass(frozen=True)
class _Team:
    """The processes that share the shards out, and how one waits for the others."""

    rank: int = 0
    size: int = 1
    wait: Callable[[], object] = field(default=lambda: None)

    @classmethod
    def here(cls) -> _Team:
        """Return the processes of ``accelerate launch``, or this one alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        from accelerate import PartialState

        state: Any = PartialState()
        return cls(state.process_index, state.num_processes, state.wait_for_everyone)


def write_vectors(
    model: TextEncoder | str | Path,
    texts: Texts,
    out: str | Path,
    how: How | None = None,
    *,
    engine: Literal["local", "ray"] = "local",
    force: bool = False,
) -> Written:
    """Encode texts and write their vectors, in their order, to one file.

    Parameters
    ----------
    model
        A directory, an installed package, a Hub id, or an encoder. What an encoder made is not
        known to be its own when a run is repeated, so only a path goes on where it stopped.
    texts
        A corpus, a list of texts, or a path as :meth:`Corpus.load` takes it. An empty text has
        the vector that the model gives it; so has a row of a table whose field is null.
    out
        Where the vectors go: ``.npy`` (memory-mapped by ``numpy.load(out, mmap_mode="r")``),
        ``.safetensors`` (a tensor ``vectors``) or ``.parquet`` (columns ``text`` and ``vector``).
    how
        Precision, prompt, and what becomes of a vector.
    engine
        ``ray``: shards are encoded by Ray's workers; the model has to be at the same path for all.
    force
        Replace what is at ``out``.

    Raises
    ------
    ConfigError
        ``out`` exists or has another suffix; the model has no such prompt, width or precision.
    InputError
        No text; a text, named by its number from 0, that is not valid Unicode; a vector that is
        not finite.
    SpaceBusy
        Another process writes the same file.
    MissingExtra
        ``parquet``, ``onnx`` or ``scale`` are asked for and absent.
    """
    how, target, began = how or How(), Path(out), time.perf_counter()
    check_target(target, force=force)
    team = _Team.here()
    if engine == "ray" and team.size > 1:
        raise ConfigError(
            "engine='ray' and accelerate would share the texts out twice", hint="leave one out"
        )
    if engine == "ray" and not isinstance(model, (str, Path)):
        raise ConfigError("engine='ray' takes a model by its path", hint="save it, give the path")
    corpus, given = _corpus(texts), _given(model)
    survey = Survey.of(corpus)
    parts = Parts.beside(target, survey)
    with ExitStack() as stack:
        if team.rank == 0:
            stack.enter_context(durable.lock(parts.folder, "file"))
            stack.callback(parts.tidy)
            name = given if isinstance(given, str) else None
            parts.begin(parts.plan(name, corpus, asdict(how)))
        team.wait()
        job, loss = _ready(_Job(given, how), corpus, survey, parts.folder / "int8", team)
        finished = parts.finished(job.dim)
        team.wait()
        every = range(len(parts.sizes))
        mine = set(every[team.rank :: team.size]) - finished
        jobs = stack.enter_context(jobs_of(engine))
        loaded = time.perf_counter()
        kept = parts.texts(finished)
        with Meter("vectors", total=survey.texts) as meter:
            meter.add(kept)
            here = job if engine == "local" else replace(job)  # a worker opens its own
            for number, shard in jobs.map(here, survey.items(corpus, mine)):
                parts.write(number, shard)
                meter.add(parts.sizes[number] * team.size)
        team.wait()
        encoded = time.perf_counter() - loaded
        counts = [parts.read(number)[1:] for number in every]
        team.wait()
        total = Tally(*(sum(column) for column in zip(*counts, strict=True)))
        if team.rank == 0:
            parts.finish(target, job.dim, corpus)
            for line in total.told(survey.texts):
                log.warning(line)
    return Written(
        out=str(out),
        texts=survey.texts,
        dim=job.dim,
        tokens=total.tokens if total.tokens >= 0 else None,
        cut=total.cut,
        empty=survey.empty,
        kept=kept,
        seconds=round(time.perf_counter() - began, 3),
        texts_per_second=round((survey.texts - kept) / max(encoded, 1e-9), 1),
        precision=job.precision,
        agreement=loss,
    )


def estimate(
    model: TextEncoder | str | Path,
    texts: Texts,
    out: str | Path,
    how: How | None = None,
    *,
    force: bool = False,
) -> Estimate:
    """Say what :func:`write_vectors` would do in one process: a sample is encoded, nothing kept.

    Raises what it would raise.
    """
    how, target = how or How(), Path(out)
    check_target(target, force=force)
    corpus, given = _corpus(texts), _given(model)
    survey = Survey.of(corpus)
    job = _Job(given, replace(how, precision=None) if how.precision == "int8" else how)
    if how.precision not in (None, job.precision):
        raise ConfigError(
            "a dry run converts no model to int8",
            hint="make it with tokenspace encode onnx --precision int8, and give that",
        )
    parts = Parts.beside(target, survey)
    plan = parts.plan(given if isinstance(given, str) else None, corpus, asdict(how))
    sample = survey.sample(corpus, SAMPLE)
    job(Item(0, 0, sample[:8]))  # the first call of a network is slower than the others
    began = time.perf_counter()
    job(Item(0, 0, sample))
    return Estimate(
        texts=survey.texts,
        empty=survey.empty,
        kept=parts.texts(parts.finished(job.dim)) if parts.follows(plan) else 0,
        dim=job.dim,
        bytes=4 * survey.texts * job.dim,
        texts_per_second=round(len(sample) / (time.perf_counter() - began), 1),
    )


def _given(model: TextEncoder | str | Path) -> TextEncoder | str:
    """Return an encoder, or the path that leads to one from wherever a worker stands."""
    if not isinstance(model, (str, Path)):
        return model
    return str(Path(located(TextEncoder, str(model))).absolute())


def _corpus(texts: Texts) -> Corpus:
    if isinstance(texts, Corpus):
        return texts
    if isinstance(texts, (str, Path)):
        return Corpus(TextFiles([texts], whole=True))
    return Corpus(texts)


def _ready(
    job: _Job, corpus: Corpus, survey: Survey, converted: Path, team: _Team
) -> tuple[_Job, Agreement | None]:
    """Return a job whose model is in the wanted precision, and what int8 costs where it is.

    A network is converted to int8 once, to the directory ``converted``.
    """
    from .onnx import convert, stated

    exact = _Job(job.model, replace(job.how, precision=None))  # nothing is opened yet
    if job.how.precision != "int8" or exact.precision == "int8":
        ready = exact if job.how.precision == "int8" else job
        return ready, stated(job.model) if isinstance(job.model, str) else None
    if team.rank == 0 and not converted.is_dir():
        sample = [text for text in survey.sample(corpus, COMPARED) if text.strip()]
        if len(sample) < LEAST:
            raise InputError(
                f"{len(sample)} texts do not tell what int8 costs",
                hint=f"give {LEAST} texts, or a model that encode onnx converted",
            )
        convert(cast("PretrainedEncoder", exact.encoder), converted, precision="int8", texts=sample)
    team.wait()
    return _Job(str(converted), job.how), stated(converted)
