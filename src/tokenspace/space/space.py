"""A space as an object: build, open, search, neighbours, analogies, adding and removing."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d
from tokenspace.errors import ConfigError, InputError

from .build import EXACT_BELOW, Step, build
from .change import change
from .jobs import jobs_of
from .plan import Plan
from .search import Collection, Hit
from .steps import Generation, read_passages, says_something
from .store import Manifest, lock

__all__ = ["Space"]

VERIFY_BELOW = 1 << 30  # bytes up to which opening compares checksums: about a second


def _silent(step: Step) -> None:
    """Take no notice of a finished step."""


class Space:
    """A directory of text that answers questions. Immutable: changes return the new space."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root, self.manifest = root, manifest
        plan = Plan(**manifest.config["plan"])
        self.generation = Generation(root / manifest.generation, plan)

    @classmethod
    def build(
        cls,
        texts: Sequence[str | Path] = (),
        *,
        out: str | Path = "space",
        on_step: Callable[[Step], object] = _silent,
        engine: Literal["local", "ray"] = "local",
        **settings: Any,
    ) -> Self:
        """Build a space of ``texts`` (files, folders, tables, ``-``) in the directory ``out``.

        Without texts it is the documentation that this Python carries. ``settings`` are the
        fields of :class:`tokenspace.space.plan.Plan`; ``on_step`` is called with every finished
        :class:`~tokenspace.space.build.Step`. With ``engine="ray"`` passages are split and
        encoded by Ray's workers (:mod:`tokenspace.space.jobs`). A former space in ``out`` stays as
        it is until the new one is whole; an interrupted build of the same plan goes on.

        Raises
        ------
        ConfigError
            A setting that does not exist or is outside its bounds.
        InputError
            No readable text, invalid bytes, or ``out`` holds something else.
        SpaceBusy
            Another process is writing ``out``.
        """
        known = Plan.__dataclass_fields__
        for name in settings:
            if name not in known:
                raise ConfigError(
                    f"build has no setting {name!r}", hint=f"settings: {', '.join(known)}"
                )
        if isinstance(texts, (str, Path)):
            texts = [texts]
        root = Path(out)
        plan = Plan(**settings)
        with jobs_of(engine) as jobs:
            build(root, [str(text) for text in texts], plan, on_step, jobs)
        return cls.open(root, verify=False)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool | None = None) -> Self:
        """Open a space.

        ``verify`` compares every file with its checksum; by default that is done below 1 GB, and
        above it only sizes are compared. Raises :class:`InputError` where there is no space and
        :class:`FormatError` naming the file that is damaged, missing or of a newer format.
        """
        root = Path(path)
        manifest = Manifest.read(root)
        if verify is None:
            verify = manifest.nbytes < VERIFY_BELOW
        manifest.check(root, contents=verify)
        return cls(root, manifest)

    def __len__(self) -> int:
        return int(self.manifest.figures["passages"])

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.manifest.nbytes

    @property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        text = (self.generation.path / "report.json").read_text(encoding="utf-8")
        report: dict[str, Any] = json.loads(text)
        return report

    @cached_property
    def collection(self) -> Collection:
        """Everything that ranks passages, opened once."""
        return self.generation.collection(self.manifest.figures["first_stage"])

    def search(self, query: str, k: int = 10, *, mode: str = "hybrid") -> list[Hit]:
        """Return the best ``k`` passages, best first, each with the tokens that matched.

        ``mode`` is ``hybrid`` (BM25, MaxSim and one vector a text fused; with a pretrained
        encoder without BM25), ``maxsim``, ``fde``, ``single`` or ``bm25``. Raises
        :class:`InputError` for a query without any token that the space knows.
        """
        return self.collection.search(query, k, mode)

    def neighbors(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the ``k`` tokens whose vectors have the greatest cosine with that of ``word``.

        A word of several tokens is their mean. Raises :class:`InputError` for one whose tokens
        the text never held.
        """
        vector, own = self._vector(word)
        return self._nearest(vector, own, k)

    def analogy(self, a: str, b: str, c: str, k: int = 5) -> list[tuple[str, float]]:
        """Return the tokens nearest to ``a - b + c`` (king - man + woman), inputs left out."""
        (x, i), (y, j), (z, m) = (self._vector(word) for word in (a, b, c))
        return self._nearest(x - y + z, [*i, *j, *m], k)

    def _vector(self, word: str) -> tuple[Floats1d, list[int]]:
        """Return the unit vector of a word, (D,), and the ids of its tokens."""
        table = self.generation.table
        for text in dict.fromkeys((word, word.lower())):
            ids = [i for i in table.vocab.find(text) if self._seen[i]]
            if ids:
                return table.unit[ids[0]], ids
        ids = [i for i in table.vocab.encode(word) if self._seen[i]]
        if not ids:
            raise InputError(f"no token of {word!r} occurs in this space", hint="try another word")
        mean = table.unit[ids].mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32), ids

    @cached_property
    def _seen(self) -> npt.NDArray[np.bool_]:
        """Tokens that the text held and that stand for text, (V,)."""
        table = self.generation.table
        return says_something(table.vocab) & (True if table.counts is None else table.counts > 0)

    def _nearest(self, vector: Floats1d, own: Sequence[int], k: int) -> list[tuple[str, float]]:
        if k < 1:
            raise ConfigError(f"k={k} is outside [1, inf]", hint="ask for at least one")
        table = self.generation.table
        hidden = np.flatnonzero(~self._seen)
        ids, scores = table.nearest_ids(vector[None], k, exclude=[*own, *hidden.tolist()])
        return [
            (table.vocab.surface(int(i)).decode("utf-8", "replace").strip(), float(s))
            for i, s in zip(ids[0], scores[0], strict=True)
            if np.isfinite(s)
        ]

    def info(self) -> dict[str, Any]:
        """Describe the space: what it holds, how it was made, how it searches, what it takes."""
        report, figures = self.report, dict(self.manifest.figures)
        first = figures.pop("first_stage")
        limit = EXACT_BELOW[self.generation.kind]
        latency = {row["mode"]: row["ms"] for row in report["known_item"]["modes"]}
        return {
            "path": str(self.root),
            "holds": figures,
            "plan": asdict(self.generation.plan),
            "search": {
                "first stage": first,
                "because": f"{len(self):,} passages; up to {limit:,} exact MaxSim is used, "
                "above that candidates come from the encodings",
                **{f"ms {mode}": round(ms, 1) for mode, ms in latency.items()},
            },
            "bytes": report["bytes"],
            "format": self.manifest.format,
            "tokenspace": self.manifest.tokenspace,
        }

    def add(
        self,
        texts: Sequence[str | Path],
        *,
        engine: Literal["local", "ray"] = "local",
        **reading: Any,
    ) -> Self:
        """Add text with the vocabulary and vectors that the space has; return the new space.

        A source that the space holds already is replaced. ``engine`` is as for :meth:`build`;
        ``reading`` are the settings ``text_field``, ``encoding`` and ``errors``.
        """
        plan = Plan(**{**asdict(self.generation.plan), **reading})
        with jobs_of(engine) as jobs, lock(self.root):
            fresh = type(self)(self.root, Manifest.read(self.root))
            fresh.generation.jobs = jobs
            added = read_passages([str(text) for text in texts], plan, jobs)
            change(self.root, fresh.manifest, fresh.generation, drop=(), added=added)
        return type(self).open(self.root, verify=False)

    def remove(self, sources: Sequence[str]) -> Self:
        """Remove the passages of ``sources`` (names or patterns); return the new space.

        Raises :class:`InputError` where nothing matches or nothing would be left.
        """
        with lock(self.root):
            fresh = type(self)(self.root, Manifest.read(self.root))
            held = dict.fromkeys(passage.source for passage in fresh.generation.passages)
            drop = [name for name in held if any(fnmatch.fnmatchcase(name, s) for s in sources)]
            if not drop:
                raise InputError(
                    f"{self.root}: no source matches {', '.join(sources)}",
                    hint="sources are named as search prints them; patterns may hold * and ?",
                )
            if len(drop) == len(held):
                raise InputError(
                    f"{self.root}: nothing would be left", hint="delete the directory instead"
                )
            change(self.root, fresh.manifest, fresh.generation, drop=drop, added=iter(()))
        return type(self).open(self.root, verify=False)
