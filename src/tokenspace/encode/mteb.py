"""Let MTEB judge any text encoder of this library: ``mteb.evaluate(MTEBEncoder(encoder), tasks)``.

A directory that sentence-transformers opens needs none of this, since MTEB takes its models as
they are. It is for the other encoders: paragraph vectors, classifiers, bags of codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from tokenspace.arrays import Floats2d
from tokenspace.text_encoder import TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MTEBEncoder"]


class MTEBEncoder:
    """An encoder as MTEB 2 wants it (``mteb.models.EncoderProtocol``).

    ``name`` (``group/model``) and ``revision`` say under which folder MTEB keeps the results. An
    encoder with prompts gets the one that is named for the task, its type, or the side of it, in
    MTEB's own order. Vectors are compared by cosine.
    """

    def __init__(
        self, encoder: TextEncoder, name: str = "tokenspace/encoder", revision: str = "local"
    ) -> None:
        self.encoder, self.name, self.revision = encoder, name, revision

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> Floats2d:
        """Return one vector a text of all batches, (N, D) float32."""
        texts = list(chain.from_iterable(batch["text"] for batch in inputs))
        encoder: Any = self.encoder
        prompts = getattr(encoder, "prompts", {})
        side = str(getattr(prompt_type, "value", prompt_type or ""))
        name, kind = str(task_metadata.name), str(task_metadata.type)
        for prompt in (f"{name}-{side}", name, f"{kind}-{side}", kind, side):
            if prompt in prompts:
                encoder = encoder.prompted(prompt)
                break
        vectors: Floats2d = encoder.encode(texts, batch_size=batch_size)
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosine of every row of the first with every row of the second."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosine of every row of the first with the same row of the second."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(dim=1)

    @property
    def mteb_model_meta(self) -> Any:
        """What MTEB writes beside the results."""
        from mteb.models import ModelMeta

        known = {"name": self.name, "revision": self.revision, "embed_dim": self.encoder.dim}
        return ModelMeta.create_empty(overwrites=known)


def _unit(rows: Any) -> Tensor:
    import torch
    from torch.nn.functional import normalize

    tensor = torch.as_tensor(rows).float()
    return normalize(tensor.reshape(-1, tensor.shape[-1]), dim=1)
