"""Let every group of ids learn how wide its rows should be, then train these widths.

The idea
--------
A table of every width is trained at once, and each group of ids mixes their answers by weights of
its own. The weights descend on held-out rows, so a width that only memorises loses; noise on them,
and a temperature that falls, turn the mixture into a choice. Then only the chosen tables are
trained.

Equations
---------
Widths d_1 = 2, 4, ..., D. For an id x of group f, with noise g of a standard Gumbel distribution::

    z_c   =  BN_c(T_c[x] P_fc)                      to the common width; no scale or shift learned
    p     =  softmax((log softmax(a_f) + g) / τ),   τ = max(0.01, 1 - 25e-9 * batch * step)
    e(x)  =  init_std Σ_c p_c z_c                   trained; a (F, C) descends on held-out rows
    w_f   =  argmax_c  log softmax(a_f)_c - λ bytes(f, c),      the smallest λ >= 0 that fits

λ = 0 is the paper's choice. Afterwards e(x) = T[x] P_f, (n_f, w_f) and (w_f, D), from new numbers.

Of a finished table, the gain of a width is the squared length that the group's best factors of
that rank hold, in the place of log softmax(a_f).

Departures from the paper
-------------------------
The paper cannot aim at a size; the price λ on bytes, which is raised until the choice fits the
budget, is ours, and so is the second use of what it leaves. Groups are ``fields``, or without them
``buckets`` by ``counts``. First-order search. The mixture is scaled to ``init_std``, as every
other method's rows are; the norm alone would make it one.

Cost
----
The search trains tables of nearly twice the whole width, at 2.2 times a plain table's step (4,096
ids, 20,000 rows of 16, AdamW), and runs the model once more on a held-out batch. Two stages.
Reading costs w_f D multiplications a row.

When not to use it
------------------
With a handful of groups there is little to choose, and `mde` gives widths by a formula at half of
the training. Below 2 / D of the table, which no width of 2 reaches.

Reference
---------
X. Zhao, H. Liu, H. Liu, J. Tang, W. Guo, J. Shi, S. Wang, H. Gao, B. Long: AutoDim: Field-aware
Embedding Dimension Search in Recommender Systems. WWW 2021, arXiv:2006.14827. H. Zhang and others:
arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import ConfigError
from tokenspace.recipe import Range, Recipe

from ._budget import allowed, unreachable
from ._mixed import (
    allocate,
    effective,
    factored,
    gram,
    grouped,
    members,
    membership_bytes,
    mixed_bytes,
    principal,
    read_mixed,
)
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .autodim_net import AutoDimEmbedding

__all__ = ["AutoDim"]


@dataclass(frozen=True, kw_only=True)
class AutoDim(Recipe):
    """Let every group of ids learn how wide its rows should be, then train these widths.

    One of ``fields`` and ``counts`` is needed.
    """

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25
    buckets: Annotated[int, Range(2, 16), "groups by frequency, without fields"] = 6

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6, "buckets": 3}

    def __call__(
        self, source: Floats2d, /, *, counts: Ids | None = None, fields: Ids | None = None
    ) -> CompressedTable:
        """Return the group's best factors at the best widths; ``source`` is (V, D).

        Raises :class:`InputError` for a table without rows or with values that are not finite, and
        for counts or fields that do not fit it; :class:`MissingEvidence` where both are absent;
        and :class:`ConfigError` where widths of 2 miss the budget.
        """
        size, width = check_source(source, self.name)
        group, choices, costs = self.plan(size, width, counts, fields)
        gains = np.empty(costs.shape)
        for g, rows in enumerate(members(group)):
            held = np.cumsum(principal(gram(source, rows))[0])
            gains[g] = held[np.array(choices) - 1]
        widths = chosen(gains, choices, costs, allowed(self.budget, size, width))
        widths = effective(np.bincount(group), widths, width)
        tensors, settings = factored(source, group, widths), {"width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def plan(
        self, size: int, width: int, counts: Ids | None, fields: Ids | None
    ) -> tuple[Ids, list[int], npt.NDArray[np.float64]]:
        """Return each row's group, the widths, and the bytes of each in each group, (F, C)."""
        if width < 2:
            raise ConfigError(
                f"{self.name}: width {width} leaves no choice", hint="give rows of 2 or more"
            )
        group = grouped(size, counts, fields, self.buckets, self.name)
        if self.budget == 1:
            group = np.zeros(size, np.int64)
        rows = np.bincount(group)
        narrow = [2**k for k in range(1, width.bit_length()) if 2**k < width]
        choices = [width] if self.budget == 1 else [*narrow, width]
        costs = np.array(
            [[mixed_bytes(rows[g : g + 1], [w], width) for w in choices] for g in range(len(rows))],
            np.float64,
        )
        neighbours = bool((np.diff(group) >= 0).all())
        costs[0] += membership_bytes(size, len(rows), neighbours=neighbours)
        least = int(costs[:, 0].sum())
        if least > allowed(self.budget, size, width):
            raise unreachable(self.name, self.budget, least, size, width)
        return group, choices, costs

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return read_mixed(tensors, settings["width"], ids)

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> AutoDimEmbedding:
        """Return tables of all widths that are yet to be trained."""
        from .autodim_net import AutoDimEmbedding

        group, choices, costs = self.plan(size, width, counts, fields)
        limit = allowed(self.budget, size, width)
        return AutoDimEmbedding(group, choices, costs, limit, width, init_std, seed)


def chosen(
    gains: npt.NDArray[np.float64],
    choices: list[int],
    costs: npt.NDArray[np.float64],
    limit: int,
) -> list[int]:
    """Return the width of every group: the most gain within ``limit``."""
    found = allocate(gains, costs, limit)
    assert found is not None  # the plan has checked that the narrowest fit
    return [choices[c] for c in found]
