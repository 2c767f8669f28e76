"""Comparisons with other libraries: each is collected where its library is installed."""

from __future__ import annotations

from importlib.util import find_spec

needed = {
    "test_evaluation_peers.py": "gensim",
    "test_fastembed.py": "fastembed",
    "test_langchain.py": "langchain_huggingface",
    "test_metrics_peers.py": "pytrec_eval",
    "test_mteb_peer.py": "mteb",
    "test_tables.py": "gensim",
}
collect_ignore = [name for name, library in needed.items() if find_spec(library) is None]
