"""Comparisons with other libraries: each is collected where its library is installed."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = ["test_tables.py"] if find_spec("gensim") is None else []
