"""Run one method from paths to a path: load the inputs, call the recipe, save, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from . import catalog
from .arrays import Floats2d, Ids
from .catalog import Entry
from .errors import ConfigError, FormatError, InputError, MissingExtra
from .io import load_matrix, load_numbers, replacing, sha256
from .recipe import Recipe, apply, evidence, make
from .report import Report
from .text_files import standard_input

if TYPE_CHECKING:
    import click

    from .checkpoint import Checkpoint

__all__ = [
    "DirectoryModule",
    "hashes",
    "is_model",
    "load_input",
    "located",
    "models_extra",
    "opened",
    "run_method",
    "said_of",
]

Given = str | Sequence[str]

_WHOLE = 1 << 26  # bytes of a tensor file that are hashed; of a longer one its header and size


class DirectoryModule(Protocol):
    """A module that applies a family's methods to a whole model directory.

    ``FILES`` are those of which such a directory has one.
    """

    FILES: tuple[str, ...]

    def options(self) -> list[click.Option]:
        """Return the options that every method of the family gets for it."""

    def run(
        self,
        entry: Entry,
        values: Mapping[str, Any],
        given: Mapping[str, Given],
        out: str,
        force: bool,
        **options: Any,
    ) -> Report:
        """Run the method and write the directory, its report and its page."""


def directory_module(entry: Entry) -> DirectoryModule | None:
    """Return the module that applies the methods of an entry's family to model directories."""
    name = catalog.family(entry.family).directory
    return cast("DirectoryModule", import_module(name)) if name else None


def is_model(paths: Given, files: Sequence[str]) -> bool:
    """Tell whether an input is a model directory, and not a table or one of its matrices."""
    first = [paths] if isinstance(paths, str) else paths[:1]
    return any(
        not (Path(path) / "table.json").is_file()
        and any((Path(path) / file).is_file() for file in files)
        for path in first
    )


def located(kind: Any, name: str) -> str:
    """Return the local path of an input: a path, an installed package's model, or a Hub id's.

    ``PATH#PART`` stays as it is. Raises :class:`InputError` where nothing is found.
    """
    place = name if Path(name).exists() else name.partition("#")[0]
    if Path(place).exists():
        return name
    known = getattr(kind, "__name__", "")
    if known == "Corpus" and name == "-":
        return name
    encoders = ("TextEncoder", "PretrainedEncoder")
    if kind == Floats2d or known in ("EmbeddingTable", "Checkpoint", "Vocabulary", *encoders):
        from .checkpoint.folder import is_hub_id, locate, packaged
        from .tokenizer_files import download

        if known != "Vocabulary":
            weights = known in ("EmbeddingTable", "Checkpoint")  # read without unpickling
            return str(locate(place, pickles=weights, adapters=True)) + name[len(place) :]
        if found := packaged(place):
            return str(found)
        if is_hub_id(place):
            return str(download(place))
    raise InputError(f"{name}: no such file or directory", hint="check the path")


def load_input(
    kind: Any,
    given: Given,
    *,
    trust_remote_code: bool = False,
    reading: Mapping[str, str] | None = None,
) -> Any:
    """Load one input of a method by its type; a corpus may be several paths.

    ``reading`` is what :meth:`Corpus.load` is told of the text.
    """
    paths = [given] if isinstance(given, str) else list(given)
    if kind == Floats2d:
        return load_matrix(paths[0])
    if kind == Ids:
        return load_numbers(paths[0])
    if kind.__name__ in ("TextEncoder", "PretrainedEncoder") and _with_head(paths[0]):
        from .nn.duplex import DuplexEncoder

        return DuplexEncoder.load(paths[0], trust_remote_code=trust_remote_code)
    if kind.__name__ == "PretrainedEncoder":
        from .nn.encoder import load_encoder

        return load_encoder(paths[0], trust_remote_code=trust_remote_code)
    if kind.__name__ == "TextEncoder":
        from .encode import classifier, paragraph
        from .encode.static import StaticEncoder

        if (Path(paths[0]) / classifier.FILE).is_file():
            return classifier.DocumentClassifier.load(paths[0])
        if (Path(paths[0]) / paragraph.FILE).is_file():
            return paragraph.ParagraphEncoder.load(paths[0])
        try:
            return StaticEncoder.load(paths[0])
        except FormatError:
            from .nn.encoder import load_encoder

            return load_encoder(paths[0], trust_remote_code=trust_remote_code)
    if kind.__name__ == "Corpus":
        return kind.load(*paths, **(reading or {}))
    return kind.load(*paths)


def _with_head(path: str) -> bool:
    """Tell whether an encoder's directory has the head beside it that names a text's words."""
    return (Path(path) / "duplex.json").is_file()


def run_method(
    entry: Entry,
    values: Mapping[str, Any],
    given: Mapping[str, Given],
    out: str,
    force: bool,
    **options: Any,
) -> Report:
    """Run ``entry`` with the knobs ``values`` on the inputs ``given`` and save to ``out``.

    The report is written beside a file (``OUT.report.json``) or into a directory
    (``OUT/report.json``). ``options`` are ``trust_remote_code``, a corpus's ``split`` and
    ``language``, and those of a :class:`DirectoryModule`, which takes over where a model directory
    is asked for. Raises :class:`ConfigError` where ``out`` exists and ``force`` is off.
    """
    target = Path(out)
    if target.exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    recipe = make(entry.name, **{k: v for k, v in values.items() if k != "method"})
    kinds = {item.name: item.type for item in evidence(type(recipe))}
    for name in given:
        if name not in kinds:
            raise ConfigError(
                f"{recipe.name} takes no {name}", hint=f"its inputs: {', '.join(kinds)}"
            )
    given = {
        name: [
            located(kinds[name], path) for path in ([paths] if isinstance(paths, str) else paths)
        ]
        for name, paths in given.items()
    }
    module = directory_module(entry)
    if module is not None and is_model(given.get("source", ()), module.FILES):
        return module.run(entry, recipe.to_dict(), given, out, force, **options)
    trust = bool(options.pop("trust_remote_code", False))
    told = {name: options.pop(name, None) for name in ("split", "language")}
    reading = {name: value for name, value in told.items() if value}
    for name, value in options.items():
        if value not in (None, False, ()):
            raise ConfigError(
                f"--{name.replace('_', '-')} is about model directories",
                hint="leave it out, or give a model directory, which has a config.json",
            )
    bag = {
        name: load_input(kinds[name], paths, trust_remote_code=trust, reading=reading)
        for name, paths in given.items()
    }
    begin = time.perf_counter()
    result = apply(recipe, bag)
    said = said_of(recipe, result)
    report = Report(
        title=str(recipe),
        metrics={**getattr(result, "metrics", {}), **said.get("metrics", {})},
        notes=list(said.get("notes", ())),
        recipe={**recipe.to_dict(), **({"options": reading} if reading else {})},
        inputs={name: hashes(paths) for name, paths in given.items()},
        seconds=round(time.perf_counter() - begin, 3),
    )
    with replacing(target) as partial:
        result.save(partial)
        if partial.is_dir():
            (partial / "report.json").write_text(report.to_json(), encoding="utf-8")
    if target.is_file():
        with replacing(target.with_name(target.name + ".report.json")) as partial:
            partial.write_text(report.to_json(), encoding="utf-8")
    return report


def said_of(recipe: Recipe, result: object) -> Mapping[str, Any]:
    """Return what a method says for its report in ``notes["report"]`` of the table it made.

    ``metrics`` and ``notes`` are its figures and lines; what another method said is not repeated.
    """
    found: Any = getattr(result, "notes", {})
    said = found.get("report", {}) if isinstance(found, Mapping) else {}
    return said if isinstance(said, Mapping) and said.get("method") == recipe.name else {}


def opened(
    entry: Entry, values: Mapping[str, Any], given: Mapping[str, Given], *, trust_remote_code: bool
) -> tuple[Recipe, Checkpoint, dict[str, Any]]:
    """Make a recipe, open the model that is its ``source``, and load its other inputs by name."""
    from .checkpoint import Checkpoint

    recipe = make(entry.name, **{k: v for k, v in values.items() if k != "method"})
    kinds = {item.name: item.type for item in evidence(type(recipe))}
    source = given["source"] if isinstance(given["source"], str) else given["source"][0]
    bag = {
        name: load_input(kinds[name], paths) for name, paths in given.items() if name != "source"
    }
    return recipe, Checkpoint.open(source, trust_remote_code=trust_remote_code), bag


@contextmanager
def models_extra(what: str) -> Iterator[None]:
    """Say which extra ``what`` needs, where the block finds it missing."""
    try:
        yield
    except ImportError as fault:
        raise MissingExtra(
            f"{what} needs torch and transformers",
            hint='pip install "tokenspace[models]", or add --no-validate',
        ) from fault


def hashes(given: Given) -> dict[str, str]:
    """Return the SHA-256 of every path; of a directory, of its files' names and hashes.

    Of a directory's tensor files of more than 64 MiB only the first 64 MiB and the size count.
    """
    found = {}
    for path in [given] if isinstance(given, str) else given:
        place = Path(path) if Path(path).exists() else Path(path.partition("#")[0])
        if path == "-":
            place = standard_input()
        if place.is_file():
            found[path] = sha256(place)
            continue
        files = sorted(file for file in place.rglob("*") if file.is_file())
        listing = "".join(f"{file.relative_to(place)} {_digest(file)}\n" for file in files)
        found[path] = hashlib.sha256(listing.encode()).hexdigest()
    return found


def _digest(file: Path) -> str:
    size = file.stat().st_size
    if size <= _WHOLE:
        return sha256(file)
    with file.open("rb") as stream:
        return f"{hashlib.sha256(stream.read(_WHOLE)).hexdigest()} {size}"
