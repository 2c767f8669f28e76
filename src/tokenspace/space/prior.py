"""How likely a passage is to be what somebody looks for, before the query is known.

Of two pages that match a question equally well, the wanted one is more often the one that stands
higher in the outline (``shutil`` before ``shutil.Error``) and whose name the rest of the text
uses more (``sorted`` before ``bdb.effective``): the idea of link counting, read off the text
itself. Both are standardised over the passages and averaged. A passage without a title, or with
a name of several words, is neutral in what it cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from tokenspace.arrays import Floats1d

from .passages import Passage

__all__ = ["STRENGTH", "prior"]

STRENGTH = 0.4  # standard deviations of a ranker's scores that one unit of the prior is worth

_STEP = re.compile(r" > |(?<=\w)\.(?=\w)")
_WORD = re.compile(r"\w+")


def prior(passages: Iterable[Passage]) -> Floats1d:
    """Return (N,) float32, mean 0: what to add to standardised scores, times ``STRENGTH``."""
    depths: list[int] = []
    names: list[str] = []
    places: dict[str, set[int]] = {}
    sources: dict[str, int] = {}
    for passage in passages:
        steps = _STEP.split(passage.title) if passage.title else []
        depths.append(len(steps))
        name = steps[-1] if steps and _WORD.fullmatch(steps[-1]) else ""
        names.append(name or PurePosixPath(passage.source).stem)
        number = sources.setdefault(_page(passage), len(sources))
        for word in set(_WORD.findall(passage.text)):
            places.setdefault(word, set()).add(number)
    if not names:
        return np.zeros(0, np.float32)
    mentions = np.array([len(places.get(name, ())) for name in names])
    parts = -np.array(depths, np.float64), np.log1p(mentions)
    return np.asarray(sum(map(_standard, parts)) / np.sqrt(2), np.float32)


def _page(passage: Passage) -> str:
    """Name what counts as one voice: a module for its docstrings, otherwise the source."""
    return passage.source.split(".")[0]


def _standard(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[
    tuple[int], np.dtype[np.float64]
]:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
