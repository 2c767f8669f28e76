"""Named random streams: one seed, and an independent generator for every purpose.

A draw that is added for one purpose never shifts the draws of another, so results stay
comparable between versions. Nothing here touches numpy's or Python's global state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["derive", "global_scope", "stream", "torch_scope"]


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derive(0, "negatives", epoch)``."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the numpy generator of one purpose; equal arguments give equal draws."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


@contextmanager
def torch_scope(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch (CPU and current CUDA device) inside the block, and restore it after."""
    import torch

    cuda = torch.cuda.is_available()  # of several devices only the current one is touched
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.default_generator.manual_seed(derive(seed, *purpose))
        if cuda:
            torch.cuda.manual_seed(derive(seed, *purpose))
        yield


@contextmanager
def global_scope(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch inside the block; restore them after.

    For a library that draws from them and takes no generator.
    """
    import random

    import numpy as np

    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch_scope(seed, *purpose):
        random.seed(derive(seed, *purpose))
        np.random.seed(derive(seed, *purpose) % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002
