"""A method is a frozen recipe: its fields are the knobs, its call does the work.

The recipe is at once the configuration, the command line's options, the documentation's table,
the provenance that is saved with a result, and the subject of the contract tests. None of these
is written twice: all are read from the annotations, by :func:`knobs` and :func:`evidence`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from . import catalog
from .errors import ConfigError, MissingEvidence

__all__ = ["Evidence", "Knob", "Range", "Recipe", "apply", "evidence", "knobs", "make", "parse"]


@dataclasses.dataclass(frozen=True)
class Range:
    """The closed interval that a number must lie in."""

    low: float
    high: float = math.inf

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def __str__(self) -> str:
        low, high = (str(x) if isinstance(x, int) else f"{x:g}" for x in (self.low, self.high))
        return f"[{low}, {high}]"


@dataclasses.dataclass(frozen=True)
class Knob:
    """One field of a recipe: its name, type, default, bounds and one line of help."""

    name: str
    type: Any
    default: Any
    range: Range | None
    help: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that this knob accepts (empty for a plain number or text)."""
        return tuple(
            choice
            for part in _alternatives(self.type)
            if get_origin(part) is Literal
            for choice in get_args(part)
        )

    @property
    def kinds(self) -> tuple[type, ...]:
        """The Python types that this knob accepts beside its choices."""
        return tuple(part for part in _alternatives(self.type) if isinstance(part, type))

    def check(self, value: object, where: str) -> None:
        """Raise :class:`ConfigError`, naming the field, unless ``value`` is allowed."""
        if isinstance(value, str) and value in self.choices:
            return
        kinds = self.kinds
        fits = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
        if isinstance(value, bool) and bool not in kinds:
            fits = False
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(
                f"{where}: {self.name}={value!r} is not {self.allowed}",
                hint=f"give {self.name} as {self.allowed}",
            )
        if self.range is not None and value not in self.range:
            raise ConfigError(
                f"{where}: {self.name}={value!r} is outside {self.range}",
                hint=f"choose {self.name} inside {self.range}",
            )

    @property
    def words(self) -> str:
        """The type and the choices in words, for tables."""
        words = [kind.__name__ for kind in self.kinds if kind is not types.NoneType]
        return " or ".join([*words, *(repr(choice) for choice in self.choices)])

    @property
    def allowed(self) -> str:
        """The allowed values in words, for messages."""
        return self.words + (f" in {self.range}" if self.range else "")

    def read(self, text: str, where: str) -> Any:
        """Read the knob's value from the text of an option or a composition string."""
        if text in self.choices:
            return text
        for kind in self.kinds:
            try:
                if kind is bool:
                    return {"true": True, "false": False}[text.lower()]
                if kind in (int, float, str):
                    return kind(text)
            except (KeyError, ValueError):
                continue
        raise ConfigError(
            f"{where}: {self.name}={text!r} is not {self.allowed}",
            hint=f"give {self.name} as {self.allowed}",
        )


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One input of a recipe's call: the data that it works on."""

    name: str
    type: Any
    required: bool
    positional: bool

    @property
    def kind(self) -> str:
        """The name of the type, as help pages and a family's ``EVIDENCE`` spell it."""
        from .arrays import Floats2d, Ids

        arrays = {str(Floats2d): "Floats2d", str(Ids): "Ids"}
        return arrays.get(str(self.type)) or str(self.type.__name__)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _present(annotation: Any) -> Any:
    """Return an optional type without its None."""
    parts = [part for part in _alternatives(annotation) if part is not types.NoneType]
    return parts[0] if len(parts) == 1 else annotation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Base of every method. Adds validation, conversion to plain data, and the name."""

    tiny: ClassVar[Mapping[str, Any]] = {}
    """Knobs that make the method quick enough for the contract tests."""

    advice: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Knobs of the settings that an advisor tries (``tokenspace retrieve advise``)."""

    def __post_init__(self) -> None:
        for knob in knobs(type(self)):
            knob.check(getattr(self, knob.name), self.name)

    @property
    def name(self) -> str:
        """The method's name in the catalogue: the name of its module."""
        return type(self).__module__.rpartition(".")[2]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"method": name, **knobs}``: what is saved as provenance."""
        return {"method": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Build the recipe from plain data; unknown keys are refused with a near miss."""
        given = {key: value for key, value in saved.items() if key != "method"}
        names = [knob.name for knob in knobs(cls)]
        for key in given:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                where = cls.__module__.rpartition(".")[2]
                raise ConfigError(
                    f"{where} has no knob {key!r}",
                    hint=f"did you mean {near[0]!r}?" if near else f"knobs: {', '.join(names)}",
                )
        return cls(**given)

    def __str__(self) -> str:
        changed = [
            f"{knob.name}={getattr(self, knob.name)}"
            for knob in knobs(type(self))
            if getattr(self, knob.name) != knob.default
        ]
        return self.name + (":" + ",".join(changed) if changed else "")


def knobs(recipe: type[Recipe]) -> tuple[Knob, ...]:
    """Read the knobs of a recipe from its ``Annotated`` fields, in their order."""
    hints = typing.get_type_hints(recipe, include_extras=True)
    found = []
    for field in dataclasses.fields(recipe):
        kind, *notes = get_args(hints[field.name])
        bounds = next((note for note in notes if isinstance(note, Range)), None)
        help_ = next((note for note in notes if isinstance(note, str)), "")
        found.append(Knob(field.name, kind, field.default, bounds, help_))
    return tuple(found)


def evidence(recipe: type[Recipe]) -> tuple[Evidence, ...]:
    """Read the inputs of a recipe's call from its signature, in their order."""
    call = recipe.__call__
    hints = typing.get_type_hints(call, include_extras=True)
    return tuple(
        Evidence(
            name=parameter.name,
            type=_present(hints[parameter.name]),
            required=parameter.default is parameter.empty,
            positional=parameter.kind is parameter.POSITIONAL_ONLY,
        )
        for parameter in inspect.signature(call).parameters.values()
        if parameter.name != "self"
    )


def apply(recipe: Recipe, bag: Mapping[str, Any]) -> Any:
    """Call ``recipe`` with what it asks for out of ``bag``, by the names of its inputs.

    Raises :class:`MissingEvidence` where a required input is not in the bag.
    """
    asked = evidence(type(recipe))
    for item in asked:
        if item.required and item.name not in bag:
            raise MissingEvidence(
                f"{recipe.name} needs {item.name}", hint=f"give {item.name} (--{item.name})"
            )
    given = [item for item in asked if item.name in bag]
    call: Any = recipe
    return call(
        *(bag[item.name] for item in given if item.positional),
        **{item.name: bag[item.name] for item in given if not item.positional},
    )


def make(name: str, /, **values: Any) -> Recipe:
    """Build the recipe that the catalogue calls ``name`` with these knobs."""
    entry = catalog.find(name)
    return entry.load().from_dict({**entry.preset, **values})


def parse(composition: str) -> Recipe:
    """Read ``"name"`` or ``"name:knob=value,knob=value"``, the spelling used everywhere."""
    name, _, rest = composition.partition(":")
    recipe = catalog.find(name).load()
    by_name = {knob.name: knob for knob in knobs(recipe)}
    values: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(
                f"{composition!r}: {item!r} has no value", hint="write NAME:knob=value,knob=value"
            )
        values[key] = by_name[key].read(text, name) if key in by_name else text
    return make(name, **values)
