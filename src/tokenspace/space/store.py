"""The directory of a space: generations, one manifest, checksums and a writer's lock.

::

    space/
      manifest.json     which generation counts, with the checksum of each of its files
      report.html       copies of the report of that generation
      report.json
      g000001/          everything else; never changed once the manifest names it
      .lock             held by the one process that writes

A writer fills the next generation and then renames a new manifest over the old one: that rename
is the only moment at which the space changes. A generation that no manifest names is unfinished
work; a build with the same plan goes on with it, anything else removes it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tokenspace import __version__, durable
from tokenspace.durable import lock, seal, sync
from tokenspace.errors import FormatError, InputError
from tokenspace.io import replacing

__all__ = [
    "FORMAT",
    "REPORTS",
    "Manifest",
    "NewerFormat",
    "carry",
    "commit",
    "generations",
    "lock",
    "next_generation",
]

FORMAT = 2
REPORTS = ("report.html", "report.json")


class NewerFormat(FormatError):
    """A space was written by a later version than this one."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a space is: its generation, how it was made, and the checksum of every file."""

    generation: str
    config: dict[str, Any]
    figures: dict[str, Any]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    format: int = FORMAT
    tokenspace: str = __version__

    @classmethod
    def read(cls, root: Path) -> Self:
        """Read and check ``root/manifest.json``.

        Raises :class:`InputError` where there is no space, :class:`FormatError` where the
        manifest is damaged or of an older format, :class:`NewerFormat` where it is of a newer one.
        """
        path = root / "manifest.json"
        if not path.is_file():
            raise InputError(
                f"{root}: there is no space here",
                hint=f"make one with: tokenspace build TEXT --out {root}",
            )
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            version = int(raw["format"])
        except (ValueError, KeyError, TypeError) as fault:
            raise FormatError(
                f"{path}: not a readable manifest ({fault})", hint="build the space again"
            ) from fault
        if version > FORMAT:
            raise NewerFormat(
                f"{path}: format {version} is newer than {FORMAT}, the newest that is read here",
                hint="upgrade tokenspace: pip install --upgrade tokenspace",
            )
        if version < FORMAT:
            raise FormatError(
                f"{path}: format {version} is older than {FORMAT}, the oldest that is read here",
                hint="build the space again: what is older lacks parts that searching needs",
            )
        try:
            return cls(**raw)
        except TypeError as fault:
            raise FormatError(
                f"{path}: not a readable manifest ({fault})", hint="build the space again"
            ) from fault

    @classmethod
    def find(cls, root: Path) -> Self | None:
        """Read the manifest for a build, which replaces what is missing or damaged: then None.

        Raises :class:`NewerFormat`.
        """
        try:
            return cls.read(root)
        except NewerFormat:
            raise
        except InputError:
            return None

    def check(self, root: Path, *, contents: bool = True) -> None:
        """Raise :class:`FormatError`, naming the file, unless every file is as it was written.

        Sizes are always compared, SHA-256 sums where ``contents`` is true.
        """
        durable.check(
            root / self.generation, self.files, "build the space again", contents=contents
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all files of the generation."""
        return sum(int(entry["bytes"]) for entry in self.files.values())


def generations(root: Path) -> list[Path]:
    """Return the generation directories of a space, oldest first: those that hold a plan."""
    named = (path for path in root.glob("g*") if re.fullmatch(r"g\d{6}", path.name))
    return sorted(path for path in named if (path / "plan.json").is_file())


def next_generation(root: Path, plan: Mapping[str, Any]) -> Path:
    """Make the generation after all that exist, with its ``plan.json``, and return its path."""
    last = max((int(path.name[1:]) for path in generations(root)), default=0)
    generation = root / f"g{last + 1:06d}"
    with replacing(generation / "plan.json") as partial:
        partial.write_text(json.dumps(plan), encoding="utf-8")
    return generation


def carry(name: str, former: Path, new: Path) -> None:
    """Take an unchanged file or directory over from the former generation, without copying."""
    source, target = former / name, new / name
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                carry(str(path.relative_to(former)), former, new)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def commit(root: Path, generation: Path, config: dict[str, Any], figures: dict[str, Any]) -> None:
    """Make ``generation`` the space: checksums, manifest, reports, and away with the others."""
    files = seal(generation)
    manifest = Manifest(generation=generation.name, config=config, figures=figures, files=files)
    with replacing(root / "manifest.json") as partial:
        partial.write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
        sync(partial)
    sync(root)
    for name in REPORTS:
        with replacing(root / name) as partial:
            shutil.copyfile(generation / name, partial)
    for path in generations(root):
        if path != generation:
            shutil.rmtree(path)
