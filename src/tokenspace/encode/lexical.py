"""The words of a DupMAE encoder as a SparseEncoder of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenspace import rng
from tokenspace.errors import ConfigError, InputError, MissingExtra
from tokenspace.io import replacing

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder

    from tokenspace.text_encoder import PretrainedEncoder

__all__ = ["sparse_encoder", "write_sparse"]


def sparse_encoder(model: PretrainedEncoder, *, top: int | None = None) -> SparseEncoder:
    """Return the network with a head that names words, as :class:`SparseEncoder` has it.

    ``encode_document`` gives what :meth:`DuplexEncoder.lexical` gives, the ``top`` strongest words,
    and ``encode_query`` what ``words`` gives, all of them. The words' rows are copied.

    Raises :class:`InputError` for an encoder that names no words, and :class:`ConfigError` for a
    ``top`` outside the vocabulary.
    """
    try:
        from sentence_transformers import SparseEncoder

        from tokenspace.nn.duplex import DuplexEncoder, body_network, head_form, head_of
        from tokenspace.nn.quiet import quiet
        from tokenspace.nn.sentence import copied

        from .lexical_net import LexicalTopK
    except ImportError as fault:
        raise MissingExtra.named("models", "a sparse encoder") from fault
    if not isinstance(model, DuplexEncoder):
        raise InputError(
            f"model: a {type(model).__name__} names no words",
            hint="make one with tokenspace encode dupmae",
        )
    network = body_network(model.body)
    dim, words, activation, eps = head_form(network)
    top = min(model.half, words) if top is None else top
    if not 1 <= top <= words:
        raise ConfigError(f"top={top} is outside [1, {words}]")
    with rng.torch_scope(0, "lexical"):  # what is drawn is overwritten
        module = LexicalTopK(dim, words, top, activation, eps)
    head = head_of(model)
    rows = {"rows.weight": network.get_input_embeddings().weight, "rows.bias": head.pop("bias")}
    module.load_state_dict({**head, **rows})
    made = copied(model)
    with quiet():
        return SparseEncoder(
            modules=[made[0], module],
            device=str(made.device),
            prompts={name: text or "" for name, text in made.prompts.items()},
            default_prompt_name=made.default_prompt_name,
        )


def write_sparse(model: PretrainedEncoder, out: str | Path, *, top: int | None = None) -> None:
    """Write :func:`sparse_encoder` as a directory that carries the module's own file.

    ``SparseEncoder(out, trust_remote_code=True)`` opens it on a machine without this package.
    """
    made = sparse_encoder(model, top=top)
    from tokenspace.nn.modules import carry
    from tokenspace.nn.quiet import quiet

    with replacing(out) as partial, quiet():
        made.save(str(partial), create_model_card=False)
        carry(made, partial)
