"""The space as it is now: opened once, and again when another process has changed it.

A writer renames a new manifest into place and removes the former generation. A search keeps the
snapshot that it began with, whose files stay readable while they are open; the next one takes
the new snapshot.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tokenspace.errors import InputError
from tokenspace.space.search import MODES, Collection
from tokenspace.space.space import Space

__all__ = ["Reader", "Snapshot"]

log = logging.getLogger(__name__)
Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """One generation of a space, opened whole: nothing is read from its directory by name later."""

    collection: Collection
    generation: str
    info: dict[str, Any]

    @classmethod
    def open(cls, root: Path, *, verify: bool | None = None) -> Snapshot:
        """Open the space and search it once in every mode, so that no client waits for that."""
        space = Space.open(root, verify=verify)
        info = space.info()
        info["space"] = PurePath(info.pop("path")).name  # where it lies is nobody's business
        for name in ("encoder", "tokenizer"):
            if info["plan"][name]:
                info["plan"][name] = PurePath(info["plan"][name]).name
        collection = space.collection
        for mode in MODES:
            with suppress(InputError):
                collection.search(collection.passages[0].text[:200], 3, mode)
        return cls(collection, space.manifest.generation, info)


class Reader:
    """Holds the current snapshot of the space in ``root``.

    Raises what :meth:`tokenspace.Space.open` raises for a space that cannot be read.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._stamp: Stamp | None = None
        self._trouble = ""
        stamp = self._look()
        self.current = Snapshot.open(self.root)
        self._stamp = stamp

    def _look(self) -> Stamp | None:
        """Return what tells one manifest from another, None where there is none."""
        try:
            found = (self.root / "manifest.json").stat()
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def refresh(self) -> str:
        """Open the space again if it has changed: ``same``, ``opened`` or ``failed``.

        What cannot be opened is said once in the log; the former snapshot goes on answering, and
        the next call tries again.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return "same"
        try:
            self.current = Snapshot.open(self.root, verify=False)
        except Exception as fault:  # whatever it is, the former snapshot is whole
            if str(fault) != self._trouble:
                log.warning("%s: the change is not taken up: %s", self.root, fault)
            self._trouble = str(fault)
            return "failed"
        self._stamp, self._trouble = stamp, ""
        log.info("%s: generation %s taken up", self.root, self.current.generation)
        return "opened"
