"""Texts by their vectors and words from the command line: against the classes, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sentence_transformers import SparseEncoder

from tokenspace.cli import root
from tokenspace.encode.dupmae import DupMAE
from tokenspace.encode.lexical import sparse_encoder, write_sparse
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.duplex import DuplexEncoder
from tokenspace.nn.encoder import load_encoder
from tokenspace.retrieve.hybrid import HybridIndex

GIVEN = bag(tiny=True)
DOCS = [text for text in dict.fromkeys(GIVEN["corpus"]) if text.strip()][:12]
TEXTS = [*DOCS[:5], ""]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(root, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained() -> DuplexEncoder:
    made = DupMAE(**DupMAE.tiny)(GIVEN["model"], corpus=GIVEN["corpus"])
    assert isinstance(made, DuplexEncoder)
    return made


@pytest.fixture(scope="module")
def saved(trained: DuplexEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dupmae") / "model"
    trained.save(place)
    return place


def test_search_is_that_of_the_index(trained: DuplexEncoder, saved: Path, tmp_path: Path) -> None:
    texts = tmp_path / "docs.txt"
    texts.write_text("\n".join([*DOCS[:4], "", *DOCS[4:]]) + "\n", encoding="utf-8")
    options = ("--encoder", saved, "--dims", 5, "--top", 3)
    told = run("retrieve", "hybrid", texts, *options, "--out", tmp_path / "index", "--json")
    figures = json.loads(told.output)
    assert {k: figures[k] for k in ("documents", "dims", "top")} == {
        "documents": 12,
        "dims": 5,
        "top": 3,
    }
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(DOCS[:3]) + "\n", encoding="utf-8")
    told = run("retrieve", "search", tmp_path / "index", questions, "-k", 4, "--json")
    index = HybridIndex(trained.dense(DOCS, dims=5), trained.lexical(DOCS, top=3))
    mu = trained.words(DOCS[:3])
    numbers, scores = index.search(trained.dense(DOCS[:3], dims=5), mu, 4)
    whole, surfaces = index.lexical.toarray(), trained.vocab.surfaces
    for row, record in enumerate(json.loads(told.output)):
        assert record["query"] == DOCS[row]
        assert [result["document"] for result in record["results"]] == numbers[row].tolist()
        assert [result["text"] for result in record["results"]] == [DOCS[n] for n in numbers[row]]
        found = [result["score"] for result in record["results"]]
        np.testing.assert_allclose(found, scores[row], rtol=1e-6)
        first = record["results"][0]
        parts = mu[row] * whole[first["document"]]
        best = np.argsort(-np.where(whole[first["document"]] != 0, parts, -np.inf))[:3]
        assert first["words"] == [surfaces[i].decode().strip() for i in best]


def test_what_is_printed(saved: Path, tmp_path: Path) -> None:
    texts = tmp_path / "docs.txt"
    texts.write_text("\n".join(DOCS) + "\n", encoding="utf-8")
    told = run("retrieve", "hybrid", texts, "--encoder", saved, "--out", tmp_path / "index")
    assert "12 documents of 8 numbers and 8 words" in told.output
    told = run("retrieve", "search", tmp_path / "index", DOCS[2], "-k", 2, "--words", 0)
    lines = told.output.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(tuple(DOCS)) for line in lines)
    again = run("retrieve", "hybrid", texts, "--encoder", saved, "--out", tmp_path / "index")
    assert "exists" in str(again.exception)


def test_another_encoder_is_refused(saved: Path, tmp_path: Path) -> None:
    texts = tmp_path / "docs.txt"
    texts.write_text("\n".join(DOCS) + "\n", encoding="utf-8")
    run("retrieve", "hybrid", texts, "--encoder", saved, "--out", tmp_path / "index")
    other = DupMAE(**{**DupMAE.tiny, "seed": 1})(GIVEN["model"], corpus=GIVEN["corpus"])
    other.save(tmp_path / "other")
    found = run("retrieve", "search", tmp_path / "index", "a", "--encoder", tmp_path / "other")
    assert isinstance(found.exception, InputError)
    assert "is not the encoder" in str(found.exception)
    GIVEN["model"].save(tmp_path / "plain")
    for given in (
        ("retrieve", "hybrid", texts, "--encoder", tmp_path / "plain", "--out", tmp_path / "no"),
        ("encode", "lexical", tmp_path / "plain", "--out", tmp_path / "no"),
    ):
        found = run(*given)
        assert isinstance(found.exception, InputError)
        assert "names words" in str(found.exception)
    found = run("retrieve", "search", saved, "a")
    assert "no hybrid index" in str(found.exception)
    found = run("retrieve", "search", tmp_path / "index", " ")
    assert "there is no question" in str(found.exception)
    found = run("retrieve", "search", tmp_path / "index", "a", "--words", -1)
    assert found.exit_code == 2
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("top", [1, 4, None])
def test_a_sparse_encoder_names_the_same_words(trained: DuplexEncoder, top: int | None) -> None:
    made = sparse_encoder(trained, top=top)
    found = made.encode_document(TEXTS).to_dense().numpy()
    expected = trained.lexical(TEXTS, top=top).toarray()
    np.testing.assert_array_equal(found != 0, expected != 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    query = made.encode_query(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(query, trained.words(TEXTS), atol=1e-5)


def test_ties_go_to_the_first_words() -> None:
    import torch

    from tokenspace.encode.lexical_net import LexicalTopK

    with torch.random.fork_rng(devices=[]):
        module = LexicalTopK(2, 5, top=2)
    most = torch.tensor([[1.0, 3.0, 1.0, 1.0, 0.5], [2.0, 2.0, 2.0, 2.0, 2.0]])
    kept = [[1.0, 3.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0, 0.0]]
    assert module._kept(most).tolist() == kept
    H = torch.ones(2, 3, 2)
    features = {"token_embeddings": H, "attention_mask": torch.tensor([[0, 0, 1], [1, 1, 1]])}
    found = module(features)["sentence_embedding"]
    assert not found[0].any()  # nothing beside the first place
    assert int((found[1] != 0).sum()) == 2
    with pytest.raises(ValueError, match=r"top=6 is outside \[1, 5\]"):
        LexicalTopK(2, 5, top=6)


def test_the_saved_module_needs_nothing_of_ours(trained: DuplexEncoder, tmp_path: Path) -> None:
    write_sparse(trained, tmp_path / "words", top=4)
    stock = SparseEncoder(str(tmp_path / "words"), trust_remote_code=True, device="cpu")
    assert type(stock[1]).__module__ != "tokenspace.encode.lexical_net"
    found = stock.encode_document(TEXTS).to_dense().numpy()
    own = sparse_encoder(trained, top=4).encode_document(TEXTS).to_dense().numpy()
    np.testing.assert_array_equal(found, own)
    ours = load_encoder(str(tmp_path / "words")).encode(TEXTS)
    np.testing.assert_allclose(ours, own, atol=1e-5)
    with pytest.raises(ConfigError, match=r"top=0 is outside \[1, "):
        sparse_encoder(trained, top=0)
    with pytest.raises(InputError, match="names no words"):
        sparse_encoder(GIVEN["model"])
