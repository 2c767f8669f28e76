"""The layer of groups of rows, each with a width of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from ._mixed import members, store_mixed
from .table import CompressedTable

__all__ = ["MixedEmbedding"]


class MixedEmbedding(CompressedEmbedding):
    """e(x) = T_g[place of x in g] P_g; without P_g a row is the first d_g of ``width`` columns.

    ``group`` (V,) says which group a row is in and ``widths`` d_g, where 0 stands for rows of
    zeros. ``projected`` gives every narrower group its P_g. The numbers of a row that is looked up
    have the standard deviation ``init_std``.
    """

    def __init__(
        self,
        method: str,
        group: Ids,
        widths: Sequence[int],
        width: int,
        *,
        init_std: float,
        seed: int,
        projected: bool = True,
    ) -> None:
        super().__init__(len(group), width)
        self.method, self.widths = method, list(widths)
        rows = members(group)
        place = np.empty(len(group), np.int64)
        for chosen in rows:
            place[chosen] = np.arange(len(chosen))
        self.group: Tensor
        self.register_buffer("group", torch.from_numpy(group), persistent=False)
        self.place: Tensor
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        self.tables, self.outs = nn.ParameterList(), nn.ParameterDict()
        with rng.torch_scope(seed, "init"):
            for g, (chosen, narrow) in enumerate(zip(rows, self.widths, strict=True)):
                self.tables.append(init_std * torch.randn(len(chosen), narrow))
                if projected and narrow < width:
                    self.outs[str(g)] = nn.Parameter(torch.randn(narrow, width) / narrow**0.5)

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        group, place = self.group[ids], self.place[ids]
        slots, found = [], []
        for g, table in enumerate(self.tables):
            chosen = (group == g).nonzero().squeeze(1)
            rows = nn.functional.embedding(place[chosen], table)
            if str(g) in self.outs:
                rows = rows @ self.outs[str(g)]
            elif rows.shape[1] < self.embedding_dim:
                rows = nn.functional.pad(rows, (0, self.embedding_dim - rows.shape[1]))
            slots.append(chosen)
            found.append(rows)
        order = torch.empty_like(ids)
        order[torch.cat(slots)] = torch.arange(len(ids), device=ids.device)
        return torch.cat(found)[order]

    def export(self) -> CompressedTable:
        """Return the tables and the ways out."""
        tables = [table.detach().cpu().numpy().copy() for table in self.tables]
        outs = [
            self.outs[str(g)].detach().cpu().numpy().copy() if str(g) in self.outs else None
            for g in range(len(tables))
        ]
        group = self.group.cpu().numpy()
        return CompressedTable(
            self.method,
            (self.num_embeddings, self.embedding_dim),
            store_mixed(group, tables, outs),
            {"width": self.embedding_dim},
        )
