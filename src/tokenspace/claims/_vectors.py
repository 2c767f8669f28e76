"""Word vectors that several claims start from: skip-gram on the novels, or on Python's own text."""

from __future__ import annotations

from functools import lru_cache

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.table import EmbeddingTable
from tokenspace.words.sgns import SGNS

__all__ = ["default_pages", "learned"]


@lru_cache(maxsize=1)  # both sides of a claim are measured on the same vectors
def learned(seed: int, *, smoke: bool) -> EmbeddingTable:
    """Return 100-dimensional vectors, learned in 10 epochs on one thread: the same every time.

    From the 4.4 million words of the novels where they are on this machine, otherwise from the
    default text; ``smoke`` takes a hundredth.
    """
    if data.available("novels"):
        texts = data.novels(2_500 if smoke else None)
    else:
        texts = [line for _, text in default_pages(smoke=smoke) for line in text.split("\n\n")]
    return SGNS(dim=100, epochs=10, threads=1, seed=seed)(Corpus(texts))


@lru_cache(maxsize=1)
def default_pages(*, smoke: bool) -> tuple[tuple[str, str], ...]:
    """Return (title, text) of Python's reference and docstrings; ``smoke``: of the topics only."""
    if smoke:
        return tuple(data.manual())
    from tokenspace.stdlib_text import documents

    return tuple(
        (document.title, document.text)
        for document in documents()
        if document.title and len(document.text.split()) >= 20
    )
