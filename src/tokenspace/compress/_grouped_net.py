"""Products of rows with a matrix that their group shares."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["by_group"]


def by_group(rows: Tensor, heights: list[int], matrices: Tensor) -> Tensor:
    """Multiply ``heights[g]`` consecutive rows (.., a) by ``matrices[g]`` (a, b), for every g."""
    parts = zip(torch.split(rows, heights), torch.unbind(matrices), strict=True)
    found = [part @ matrix for part, matrix in parts if len(part)]
    return torch.cat(found) if found else rows.new_zeros(*rows.shape[:-1], matrices.shape[2])
