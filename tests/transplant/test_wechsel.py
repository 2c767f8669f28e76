from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tokenspace.errors import InputError
from tokenspace.pairs import Pairs
from tokenspace.recipe import apply
from tokenspace.subwords import Subwords
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._word_vectors import token_vectors
from tokenspace.transplant.trial import bag
from tokenspace.transplant.wechsel import WECHSEL, principal, rotation, usable
from tokenspace.vocab import Vocabulary


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def languages(width: int = 8, pairs: int = 60) -> dict[str, Any]:
    """Return two languages of which the second is the first, turned; words are tokens."""
    left, right = ([f"{side}{i}" for i in range(pairs)] for side in "st")
    vectors = gaussian(0, pairs, width)
    turn = np.linalg.qr(gaussian(1, width, width))[0]
    return {
        "source": EmbeddingTable(Vocabulary.words([*left, "7"]), gaussian(2, pairs + 1, 5)),
        "target": Vocabulary.words([*right, "7", "unheard"]),
        "source_vectors": EmbeddingTable(Vocabulary.words(left), vectors),
        "target_vectors": EmbeddingTable(Vocabulary.words(right), vectors @ turn),
        "dictionary": Pairs(list(zip(left, right, strict=True))),
    }


def test_by_hand() -> None:
    # the words lie on the axes and diagonals of a plane; German is English turned by 90 degrees
    angles = 2 * np.pi * np.arange(60) / 60
    given = languages(2)
    for side, turn in (("source_vectors", 0.0), ("target_vectors", np.pi / 2)):
        circle = np.stack([np.cos(angles + turn), np.sin(angles + turn)], 1)
        given[side] = given[side].replace(vectors=circle.astype(np.float32))
    made = apply(WECHSEL(k=3), given)
    E, near = given["source"].vectors, np.cos(2 * np.pi / 60)
    # 6 degrees to either side: weights e^10, e^(10 cos 6°) twice
    p = np.exp(np.array([1, near, near]) / 0.1 - 10)
    p /= p.sum()
    np.testing.assert_allclose(made.row("t9"), p @ E[[9, 8, 10]], atol=1e-4)
    assert made.notes["neighbours"][made.notes["tokens"].index(9)][0] == 9
    np.testing.assert_array_equal(made.row("7"), E[60])
    np.testing.assert_allclose(made.row("unheard"), E.mean(0), atol=1e-6)
    assert [made.notes[key] for key in ("copied", "rebuilt", "mean", "pairs")] == [1, 60, 1, 60]


def literal(given: dict[str, Any], k: int, tau: float) -> np.ndarray:
    """Transcribe the paper in float64: stack, rotate, cosine, softmax, one token at a time."""
    words = [given[f"{side}_vectors"] for side in ("source", "target")]
    X, Y = [], []
    for x, y in given["dictionary"]:
        for a in (x, x.lower(), x.title()):
            for b in (y, y.lower(), y.title()):
                if a in words[0].vocab.ids and b in words[1].vocab.ids:
                    X.append(words[0].row(a).astype(np.float64))
                    Y.append(words[1].row(b).astype(np.float64))
    U, _, Vt = np.linalg.svd(np.stack(X).T @ np.stack(Y))
    left, right = (
        token_vectors(vocab, table).astype(np.float64)
        for vocab, table in zip((given["source"].vocab, given["target"]), words, strict=True)
    )
    left = left @ U @ Vt
    E = given["source"].vectors.astype(np.float64)
    rows = np.tile(E.mean(0), (len(right), 1))
    keys = [i for i, u in enumerate(left) if u.any()]
    for t, u in enumerate(right):
        if u.any():
            cosines = [u @ left[i] / np.linalg.norm(u) / np.linalg.norm(left[i]) for i in keys]
            best = np.argsort(cosines)[::-1][:k]
            p = np.exp([cosines[i] / tau for i in best])
            rows[t] = p @ E[[keys[i] for i in best]] / p.sum()
    return rows


@pytest.mark.parametrize("ngrams", [False, True])
def test_equals_the_literal_algorithm(ngrams: bool) -> None:
    given = bag(tiny=True)
    if ngrams:
        table = given["target_vectors"]
        grams = Subwords(gaussian(3, 99, table.shape[1]), 3, 5)
        given["target_vectors"] = replace(table, subwords=grams)
    made = apply(WECHSEL(k=4, temperature=0.2), given)
    expected = literal(given, 4, 0.2)
    new = made.notes["tokens"]
    assert len(new) > 25
    np.testing.assert_allclose(made.vectors[new], expected[new], rtol=1e-3, atol=1e-4)
    anew = apply(WECHSEL(k=4, temperature=0.2, reestimate_shared=True), given)
    tokens = anew.notes["tokens"]
    assert len(tokens) > len(new)
    np.testing.assert_allclose(anew.vectors[tokens], expected[tokens], rtol=1e-3, atol=1e-4)


def test_one_neighbour_is_the_translation() -> None:
    given = languages()
    made = apply(WECHSEL(k=1), given)
    np.testing.assert_array_equal(made.vectors[:60], given["source"].vectors[:60])
    cold = apply(WECHSEL(k=10, temperature=1e-3), given)
    np.testing.assert_allclose(cold.vectors[:60], given["source"].vectors[:60], atol=1e-5)


def test_a_rotation_is_found_again_and_is_orthogonal() -> None:
    X, turn = gaussian(0, 9000, 6), np.linalg.qr(gaussian(1, 6, 6))[0]
    ids, eye = np.arange(9000), np.eye(6)
    W = rotation(X, X @ turn, (ids, ids), eye, eye)
    np.testing.assert_allclose(W, turn, atol=1e-5)
    W = rotation(X, gaussian(2, 9000, 6), (ids, ids), eye, eye)
    np.testing.assert_allclose(W @ W.T, eye, atol=1e-12)


def test_principal_components() -> None:
    rows = (gaussian(0, 10_000, 5) * [1, 9, 1, 5, 0.1] + 3).astype(np.float32)
    P = principal(rows, 2)
    np.testing.assert_allclose(np.abs(P), np.eye(5)[:, [1, 3]], atol=0.05)
    centred = rows - rows.mean(0)
    _, _, Vt = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(P), np.abs(Vt[:2].T), atol=1e-5)
    np.testing.assert_array_equal(principal(rows, 5), np.eye(5))


@pytest.mark.parametrize("wider", ["source_vectors", "target_vectors"])
def test_the_wider_vectors_are_reduced(wider: str) -> None:
    given = languages()
    table = given[wider]
    lens = np.linalg.qr(gaussian(5, 12, 12))[0][:8]  # 8 dimensions somewhere among 12
    given[wider] = table.replace(vectors=(table.vectors @ lens).astype(np.float32))
    made = apply(WECHSEL(k=1), given)
    np.testing.assert_array_equal(made.vectors[:60], given["source"].vectors[:60])


def test_every_spelling_of_a_pair_counts() -> None:
    left = EmbeddingTable(Vocabulary.words(["Cat", "cat", "a"]), gaussian(0, 3, 2))
    right = EmbeddingTable(Vocabulary.words(["Katze", "b"]), gaussian(1, 2, 2))
    pairs = Pairs([("cat", "Katze"), ("CAT", "katze"), ("a dog", "Hund"), ("a", "c")])
    (x, y), count = usable(pairs, left, right)
    # "cat": as it is, small, title; "Katze": as it is and title. "CAT" and "katze": small, title
    assert [left.vocab.tokens[i] for i in x] == ["cat"] * 4 + ["Cat"] * 2 + ["cat", "Cat"]
    assert [right.vocab.tokens[i] for i in y] == ["Katze"] * 8
    assert count == 2


def test_special_tokens_are_never_made_anew() -> None:
    given = languages()
    words = [f"t{i}" for i in range(60)]
    roles = {"sep": "[SEP]", "mask": "[MASK]"}
    given["target"] = Vocabulary([*words, "7", *roles.values()], roles=roles)
    tokens = (*given["source"].vocab.tokens, "</s>")
    rows = gaussian(2, 62, 5)
    given["source"] = EmbeddingTable(Vocabulary(tokens, roles={"eos": "</s>"}), rows)
    made = apply(WECHSEL(reestimate_shared=True), given)
    np.testing.assert_array_equal(made.row("[SEP]"), rows[61])
    np.testing.assert_allclose(made.row("[MASK]"), rows.mean(0), atol=1e-6)
    np.testing.assert_array_equal(made.row("7"), rows[60])  # shared, and in no word
    assert made.notes["mean"] == 1


def test_too_few_pairs_are_refused_and_a_loose_rotation_is_said(caplog) -> None:
    given = languages()
    given["dictionary"] = Pairs([*given["dictionary"][:49], ("no", "word")])
    with pytest.raises(InputError, match="49 of 50 pairs"):
        apply(WECHSEL(), given)
    turned = Pairs([(y, x) for x, y in languages()["dictionary"]])
    with pytest.raises(InputError, match="0 of 60 pairs"):
        apply(WECHSEL(), {**given, "dictionary": turned})
    with caplog.at_level(logging.WARNING):
        apply(WECHSEL(), languages(200))
    assert "60 pairs do not determine a rotation of 200 axes" in caplog.text


def test_a_source_without_places_is_refused() -> None:
    given = languages()
    tokens = [f"x{i}" for i in range(60)]
    given["source"] = EmbeddingTable(Vocabulary.words([*tokens, "7"]), gaussian(2, 61, 5))
    with pytest.raises(InputError, match="no token of the source"):
        apply(WECHSEL(), given)
