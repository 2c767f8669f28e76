"""Search in a space over HTTP: JSON in, JSON out, with bounds on everything a client may ask.

:func:`create_app` gives an ASGI application for any server; ``tokenspace serve`` runs it in
uvicorn. Both need the extra ``serve``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_app as create_app
    from .settings import Settings as Settings

__all__ = ["Settings", "create_app"]

_HOME = {"create_app": "app", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tokenspace.serve' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
