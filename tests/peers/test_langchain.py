"""Saved encoders inside LangChain: the same vectors, by the lines that the documentation gives.

LangChain lives in an environment of its own (``make peers``):
``PYTHONPATH=src .peers/langchain/bin/python -m pytest tests/peers/test_langchain.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_huggingface import HuggingFaceEmbeddings

from tokenspace.encode.matryoshka2d import Matryoshka2D
from tokenspace.encode.mltp import MLTP
from tokenspace.encode.shorten import shortened
from tokenspace.encode.sif import SIF
from tokenspace.encode.trial import bag

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
GIVEN = bag(tiny=True)
MODEL, EXAMPLES = GIVEN["model"], GIVEN["examples"]
TEXTS = list(EXAMPLES.texts[:5])


@pytest.mark.parametrize("kind", ["network", "trained", "shortened", "static"])
def test_plain_directories(kind: str, tmp_path: Path) -> None:
    made: Any = {
        "network": lambda: MODEL,
        "trained": lambda: Matryoshka2D(**Matryoshka2D.tiny)(MODEL, examples=EXAMPLES),
        "shortened": lambda: shortened(MODEL, layers=1, dim=4),
        "static": lambda: SIF()(GIVEN["corpus"], table=GIVEN["table"]),
    }[kind]()
    made.save(tmp_path / "model")
    embeddings = HuggingFaceEmbeddings(model_name=str(tmp_path / "model"))
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), made.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), made.encode(TEXTS)[0], atol=1e-6)
    store = InMemoryVectorStore.from_texts(TEXTS, embedding=embeddings)
    assert store.similarity_search(TEXTS[2], k=1)[0].page_content == TEXTS[2]


def test_modules_of_our_own_need_the_flag(tmp_path: Path) -> None:
    made = MLTP(**MLTP.tiny)(MODEL, examples=EXAMPLES)
    made.save(tmp_path / "model")
    with pytest.raises(ValueError, match="trust_remote_code"):
        HuggingFaceEmbeddings(model_name=str(tmp_path / "model"))
    embeddings = HuggingFaceEmbeddings(
        model_name=str(tmp_path / "model"), model_kwargs={"trust_remote_code": True}
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), made.encode(TEXTS), atol=1e-6)


def test_prompts_have_to_be_named(tmp_path: Path) -> None:
    made = replace(MODEL, prompts={"query": "find: ", "document": ""})
    made.save(tmp_path / "model")
    embeddings = HuggingFaceEmbeddings(
        model_name=str(tmp_path / "model"), query_encode_kwargs={"prompt_name": "query"}
    )
    expected = made.prompted("query").encode(TEXTS[:1])[0]
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), expected, atol=1e-6)
    assert np.abs(expected - made.encode(TEXTS[:1])[0]).max() > 1e-3
