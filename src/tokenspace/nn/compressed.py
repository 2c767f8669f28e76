"""Load a model whose token matrix ``tokenspace compress`` made smaller."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from tokenspace.checkpoint import Checkpoint
from tokenspace.compress import Lookup
from tokenspace.compress.hollow import fill
from tokenspace.nn.quiet import quiet
from tokenspace.nn.validate import loader_of

__all__ = ["LookupEmbedding", "load_compressed"]


class LookupEmbedding(nn.Module):
    """Rows by id out of a compressed table, (...,) int64 -> (..., width); nothing to train."""

    def __init__(self, table: Lookup, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table, self.dtype = table, dtype
        self.num_embeddings, self.embedding_dim = table.shape

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids``; raises :class:`InputError` where one is outside the table."""
        flat, places = torch.unique(ids.cpu(), return_inverse=True)
        rows = torch.from_numpy(np.ascontiguousarray(self.table.rows(flat.numpy())))
        return rows.to(ids.device, self.dtype)[places.to(ids.device)]


def load_compressed(folder: str | Path) -> Any:
    """Load the directory that ``tokenspace compress METHOD --source MODEL`` wrote.

    Returns what transformers or sentence-transformers load of the plain directory, with the input
    matrix replaced by :class:`LookupEmbedding`: it is nowhere whole in memory once it is loaded.
    While loading it is, and on disk for a moment. A tied output matrix stays whole.

    Raises :class:`~tokenspace.errors.FormatError` where the directory is not whole.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix=".filled-", dir=folder.parent) as place:
        opened = fill(folder, Path(place) / folder.name)
        checkpoint = Checkpoint.open(Path(place) / folder.name)
        name = loader_of(checkpoint)
        with quiet():
            if name == "SentenceTransformer":
                from sentence_transformers import SentenceTransformer

                model: Any = SentenceTransformer(
                    str(checkpoint.root), device="cpu", local_files_only=True
                )
                network = model[0].auto_model
            else:
                loader = getattr(transformers, name)
                model = network = loader.from_pretrained(checkpoint.folder, local_files_only=True)
        entry = next((t.name for t in checkpoint.tensors if t.role == "input"), "")
        shared = checkpoint.headed and checkpoint.tied  # with an output, which needs every row
        if entry in opened.tables and not shared:
            old = network.get_input_embeddings()
            network.set_input_embeddings(LookupEmbedding(opened.tables[entry], old.weight.dtype))
    return model.eval()
