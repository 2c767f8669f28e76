from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._letters import letters
from tokenspace.transplant._shared import pieces
from tokenspace.transplant.tokenadapt import TokenAdapt
from tokenspace.transplant.trial import bag
from tokenspace.vocab import Vocabulary

ALL = {"theta": -1.0, "temperature": 1e6}


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def characters(words: Sequence[str]) -> Vocabulary:
    """Return a tokenizer of single characters and these words, none of which is ever merged."""
    ids = {token: i for i, token in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Vocabulary.of(tokenizer)


class Likeness:
    """An encoder of given vectors."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors
        self.dim = len(next(iter(vectors.values())))

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> np.ndarray:
        return np.array([self.vectors[text] for text in texts], np.float32)


def test_by_hand() -> None:
    # f(ab) = (1, 0); a and b are at cosines 0.8 and 0.6 from it, z at 1, y at 0. Both pieces have
    # half of the length: (0.8 + 0.5) / 2 - (0.6 + 0.5) / 2 = 0.1, so e_loc weighs them e^(0.1/T)
    # to 1. Of the two neighbours z and a, at 1 and 0.8, z weighs e^(0.2/T) to 1.
    source = EmbeddingTable(characters("abyz"), np.eye(4, dtype=np.float32))
    f = Likeness({"a": [8, 6], "b": [3, -4], "y": [0, 2], "z": [3, 0], "ab": [5, 0]})
    T, g = 0.5, 0.25
    method = TokenAdapt(k=2, temperature=T, theta=0.5, mix=g)
    table = method(source, characters(["a", "ab"]), encoder=f)
    local, near = 1 / (1 + np.exp(-0.1 / T)), 1 / (1 + np.exp(-0.2 / T))
    row = [(1 - g) * local + g * (1 - near), (1 - g) * (1 - local), 0, g * near]
    np.testing.assert_allclose(table.vectors, [[1, 0, 0, 0], row], atol=1e-6)
    assert table.notes["tokens"] == [1]
    assert table.notes["support"] == [4]
    assert (table.notes["copied"], table.notes["global"], table.notes["kept_all"]) == (1, 1, 0)


def test_theta_drops_pieces_and_neighbours() -> None:
    source = EmbeddingTable(characters("abyz"), np.eye(4, dtype=np.float32))
    f = Likeness({"a": [8, 6], "b": [6, -8], "y": [0, 1], "z": [8, -6], "ab": [1, 0]})
    one = TokenAdapt(theta=0.7, k=1)(source, characters(["a", "ab"]), encoder=f)
    np.testing.assert_allclose(one.vectors[1], [1, 0, 0, 0])  # a is its piece and neighbour
    none = TokenAdapt(theta=0.9)(source, characters(["a", "ab"]), encoder=f)
    near = 1 / (1 + np.exp(-0.1 / 0.3))
    np.testing.assert_allclose(none.vectors[1], [near, 1 - near, 0, 0], atol=1e-6)
    assert (none.notes["kept_all"], none.notes["global"]) == (1, 0)


def literal(
    method: TokenAdapt, source: EmbeddingTable, target: Vocabulary, i: int
) -> np.ndarray | None:
    """Transcribe the paper in float64, with f from the source's own rows."""
    E = source.vectors.astype(float)

    def f(parts: list[int]) -> np.ndarray:
        mean = E[parts].mean(axis=0)
        return mean / np.linalg.norm(mean)

    parts = pieces(target, np.array([i]), source.vocab)[0].tolist()
    own = f(parts)
    q = np.array([own @ f([p]) for p in parts])
    sizes = np.array([len(source.vocab.surfaces[p]) for p in parts])
    keep = q >= method.theta if (q >= method.theta).any() else q > -2
    w = np.where(keep, np.exp((q + sizes / sizes.sum()) / 2 / method.temperature), 0)
    e_loc = w / w.sum() @ E[parts]
    all_q = np.array([own @ f([s]) for s in range(len(E))])
    best = np.argsort(-all_q, kind="stable")[: method.k]
    best = best[all_q[best] >= method.theta]
    if not len(best):
        return np.asarray(e_loc)
    w = np.exp(all_q[best] / method.temperature)
    e_glob = w / w.sum() @ E[best]
    return np.asarray((1 - method.mix) * e_loc + method.mix * e_glob)


@pytest.mark.parametrize(
    "method", [TokenAdapt(), TokenAdapt(k=7, theta=0.3, mix=0.8), TokenAdapt(theta=0.95)]
)
def test_equals_the_literal_algorithm(method: TokenAdapt) -> None:
    given = bag(tiny=True)
    table = method(given["source"], given["target"])
    tokens = table.notes["tokens"]
    assert len(tokens) > 20
    for i in tokens:
        expected = literal(method, given["source"], given["target"], i)
        np.testing.assert_allclose(table.vectors[i], expected, atol=1e-5)


def test_without_theta_temperature_and_neighbours_it_is_the_mean_of_the_pieces() -> None:
    given = bag(tiny=True)
    table = TokenAdapt(mix=0, **ALL)(given["source"], given["target"])
    for i in table.notes["tokens"]:
        parts = pieces(given["target"], np.array([i]), given["source"].vocab)[0]
        mean = given["source"].vectors[parts].mean(axis=0)
        np.testing.assert_allclose(table.vectors[i], mean, atol=1e-5)


def test_the_input_matrix_as_vectors_gives_the_output_matrix_the_same_weights() -> None:
    given = bag(tiny=True)
    inputs = given["source"]
    mixing = gaussian(3, inputs.shape[1], 9)
    outputs = inputs.replace(vectors=inputs.vectors @ mixing)
    first = TokenAdapt()(inputs, given["target"])
    second = TokenAdapt()(outputs, given["target"], vectors=inputs)
    np.testing.assert_allclose(second.vectors, first.vectors @ mixing, atol=1e-4)


def test_an_encoder_that_knows_the_meanings_helps() -> None:
    from tokenspace.transplant.trial import judge

    given = bag(tiny=True)
    blind = TokenAdapt(mix=0, **ALL)(given["source"], given["target"])
    seeing = TokenAdapt()(given["source"], given["target"], encoder=given["encoder"])
    assert judge(seeing, given)["cosine"] > judge(blind, given)["cosine"] + 0.05


def test_word_vectors_are_found_with_or_without_the_space() -> None:
    source = EmbeddingTable(characters("abyz"), np.eye(4, dtype=np.float32))
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0.1]], np.float32)
    words = EmbeddingTable(Vocabulary.words(["AB", "b", "y", "z"]), rows)
    table = TokenAdapt(k=1)(source, characters(["a", "Ġab"]), vectors=words)
    # no f for a, so that its q is 0; b passes with 0.6; the neighbour is z
    np.testing.assert_allclose(table.vectors[1], [0, 0.7, 0, 0.3], atol=1e-6)


def test_bytes_that_are_no_text_are_weighed_by_length_alone() -> None:
    source = EmbeddingTable(characters("ÃĤ©a"), np.eye(4, dtype=np.float32))  # c3, 84, a9, a
    f = Likeness({"a": [1.0]})
    table = TokenAdapt()(source, characters(["a", "ÃĤÃ"]), encoder=f)
    np.testing.assert_allclose(table.vectors[1], [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    assert table.notes["kept_all"] == 1


def test_what_cannot_be_written_is_found_by_its_letters_or_gets_the_mean() -> None:
    words = ["transplant", "table", "row"]
    source = EmbeddingTable(Vocabulary.words(words), np.eye(3, dtype=np.float32))
    target = Vocabulary.words(["row", "transplants", "xyzzy"])
    table = TokenAdapt()(source, target)
    np.testing.assert_allclose(table.vectors[1], [1, 0, 0])
    np.testing.assert_allclose(table.vectors[2], np.full(3, 1 / 3), atol=1e-6)
    assert (table.notes["letters"], table.notes["mean"]) == (1, 1)


def test_letters_are_unit_and_alike_where_the_spelling_is() -> None:
    rows = letters([b"transplant", b"transplants", b"row", b"", b"\xff\x00"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 0, 1], atol=1e-6)
    assert rows[0] @ rows[1] > 0.7
    assert abs(float(rows[0] @ rows[2])) < 0.3


def test_bad_input_is_refused() -> None:
    for name, value in (("temperature", 0.0), ("theta", 1.5), ("theta", -1.5), ("k", 0)):
        with pytest.raises(ConfigError, match=f"{name}={value}"):
            TokenAdapt(**{name: value})
    source = EmbeddingTable(characters("ab"), np.eye(2, dtype=np.float32))
    target = characters(["a", "ab"])
    with pytest.raises(InputError, match="encoder: rows with NaN"):
        TokenAdapt()(source, target, encoder=Likeness({"a": [1], "b": [1], "ab": [np.nan]}))

    class Short(Likeness):
        def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> np.ndarray:
            return np.ones((1, 5), np.float32)

    with pytest.raises(InputError, match=r"encoder: vectors of shape \(1, 5\)"):
        TokenAdapt()(source, target, encoder=Short({"a": [1.0]}))


def test_matrices_side_by_side_get_the_same_weights() -> None:
    given = bag(tiny=True)
    source, mixing = given["source"], gaussian(4, given["source"].shape[1], 7)
    both = np.concatenate([source.vectors, source.vectors @ mixing], axis=1)
    rows = TokenAdapt()(source.replace(vectors=both), given["target"]).vectors
    left, right = np.split(rows, [source.shape[1]], axis=1)
    np.testing.assert_allclose(left @ mixing, right, atol=1e-4)
