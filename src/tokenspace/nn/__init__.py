"""Shared bricks of networks: masks, pooling, running a pretrained encoder, the training loop.

The only package that imports torch when it is imported; nothing outside it does so before a call.
Without the extra ``models`` importing it raises :class:`~tokenspace.errors.MissingExtra`.
"""

from importlib.util import find_spec

from tokenspace.errors import MissingExtra

if not all(find_spec(name) for name in ("torch", "transformers", "accelerate")):
    raise MissingExtra.named("models", "running or training a network")
