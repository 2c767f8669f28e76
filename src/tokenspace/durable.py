"""Directories that survive a crash: one writer's lock, flushed files, and checksums."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import FormatError, SpaceBusy
from .io import sha256

__all__ = ["check", "lock", "seal", "stamp", "sync"]


@contextmanager
def lock(root: Path, what: str = "space") -> Iterator[None]:
    """Hold the writer's lock of the directory ``root``, or raise :class:`SpaceBusy` at once.

    The lock belongs to the open file, so it is gone with the process, however that ends.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+b") as file:
        try:
            _lock_file(file.fileno())
        except OSError as fault:
            raise SpaceBusy(
                f"{root}: another process is writing this {what}",
                hint="wait until it has finished, or choose another directory",
            ) from fault
        yield


def _lock_file(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync(path: Path) -> None:
    """Have the operating system write a file or a directory's entries to the disk."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp(path: Path) -> dict[str, Any]:
    """Flush one file to the disk and return its ``bytes`` and ``sha256``."""
    sync(path)
    return _described(path)


def seal(folder: Path) -> dict[str, dict[str, Any]]:
    """Flush every file and directory below ``folder``; return the stamp of each file by name."""
    paths = sorted(folder.rglob("*"))
    files = [path for path in paths if path.is_file()]
    with ThreadPoolExecutor(8) as pool:  # disks flush many files in the time of a few
        list(pool.map(sync, [*paths, folder]))
    return {path.relative_to(folder).as_posix(): _described(path) for path in files}


def _described(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def check(
    folder: Path, files: Mapping[str, Mapping[str, Any]], mend: str, *, contents: bool = True
) -> None:
    """Raise :class:`FormatError`, naming the file, unless every file is as it was stamped.

    Sizes are always compared, SHA-256 sums where ``contents`` is true. ``mend`` is what to do.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise FormatError(f"{path}: missing", hint=mend)
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise FormatError(
                f"{path}: {size} bytes where {expected['bytes']} were written",
                hint=f"the file is truncated or replaced: {mend}",
            )
        if contents and sha256(path) != expected["sha256"]:
            raise FormatError(
                f"{path}: the checksum does not match", hint=f"the file is corrupt: {mend}"
            )
