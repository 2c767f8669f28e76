"""The inverse cloze task: against a slow transcription, what it teaches, and where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.errors import InputError
from tokenspace.rng import stream
from tokenspace.space import Space, cloze
from tokenspace.space.cloze import Pieces, TwoRows, cut, pieces, train
from tokenspace.space.measure import known_items
from tokenspace.space.passages import Passage
from tokenspace.space.search import indexed_text
from tokenspace.vocab import Vocabulary

WORDS = [f"w{number}" for number in range(80)]
TOPICS = 8


@pytest.fixture
def vocab() -> Vocabulary:
    return text_vocabulary(Vocabulary(WORDS), split="whitespace")


def drawn_rows(count: int, width: int = 16) -> Any:
    return np.random.default_rng(5).standard_normal((count, width)).astype(np.float32)


def topical(vocab: Vocabulary, count: int, seed: int) -> tuple[Pieces, list[int]]:
    """Passages of two sentences of one topic, which share no word: ten words a topic."""
    draw = np.random.default_rng(seed)
    topics = draw.integers(0, TOPICS, count).tolist()
    passages = []
    for topic in topics:
        first, second = (draw.integers(0, 5, 4) + 10 * topic + half for half in (0, 5))
        passages.append([" ".join(WORDS[i] for i in part) for part in (first, second)])
    return pieces(passages, vocab), topics


def loss(S: Any) -> float:
    """The equations of the module in float64."""
    B = len(S) // 2
    U = S / np.linalg.norm(S, axis=1, keepdims=True)
    L = U[:B] @ U[B:].T / cloze.TAU
    total = 0.0
    for i in range(B):
        total -= L[i, i] - np.log(np.exp(L[i]).sum())
        total -= L[i, i] - np.log(np.exp(L[:, i]).sum())
    return total / (2 * B)


def test_the_gradient_is_that_of_the_loss_by_differences() -> None:
    S = drawn_rows(6, 4).astype(np.float64)
    found = cloze._gradient(S.astype(np.float32))
    for place in np.ndindex(S.shape):
        step = np.zeros_like(S)
        step[place] = 1e-5
        slope = (loss(S + step) - loss(S - step)) / 2e-5
        assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_training_equals_a_slow_transcription_in_float64(
    vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloze, "BATCH", 5)
    text, _ = topical(vocab, 11, 0)
    start = drawn_rows(len(vocab), 6)
    E = start.astype(np.float64)
    m, v = np.zeros_like(E), np.zeros_like(E)
    random = stream(3, "cloze")
    total = 2 * (11 // 5)
    for step in range(total):
        if step % 2 == 0:
            order = random.permutation(np.arange(11))
        batch = order[step % 2 * 5 :][:5]
        which = random.integers(np.full(5, 2))
        stays = random.random(5) < 0.1
        ours, rest = [], []
        for n, piece, stay in zip(batch, which, stays, strict=True):
            own = [text.ids[text.starts[p] : text.starts[p + 1]] for p in (2 * n, 2 * n + 1)]
            ours.append(own[piece])
            rest.append(np.concatenate(own) if stay else own[1 - piece])
        both = [*ours, *rest]
        dS = cloze._gradient(np.array([E[t].sum(0) for t in both], np.float32))
        G = np.zeros_like(E)
        for tokens, d in zip(both, dS, strict=True):
            for w in tokens:
                G[w] += d
        for w in {int(w) for tokens in both for w in tokens}:
            m[w] = 0.9 * m[w] + 0.1 * G[w]
            v[w] = 0.999 * v[w] + 0.001 * G[w] ** 2
            first, second = m[w] / (1 - 0.9 ** (step + 1)), v[w] / (1 - 0.999 ** (step + 1))
            E[w] -= 2e-3 * (1 - (step + 1) / total) * first / (np.sqrt(second) + 1e-8)
    found = train(start, text, seed=3, epochs=2)
    assert found.dtype == np.float32
    assert np.abs(found - start).max() > 1e-3
    np.testing.assert_allclose(found, E, atol=2e-6)


def test_a_sentence_finds_passages_that_share_no_word_with_it(vocab: Vocabulary) -> None:
    """Measured on passages that were not trained on."""
    text, _ = topical(vocab, 600, 1)
    asked, topics = topical(vocab, 100, 2)
    start = drawn_rows(len(vocab)) / 5

    def right(rows: Any) -> float:
        means = StaticEncoder(vocab, rows).means(asked.ids, asked.starts)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        near = (means[::2] @ means[1::2].T).argmax(axis=1)
        return float(np.mean([topics[a] == topics[b] for a, b in enumerate(near)]))

    assert right(start) < 0.3  # one in eight by chance
    assert right(train(start, text, seed=0, epochs=60)) > 0.9


def test_the_same_seed_gives_the_same_bytes_and_leaves_its_input(vocab: Vocabulary) -> None:
    text, _ = topical(vocab, 40, 0)
    start = drawn_rows(len(vocab))
    start.setflags(write=False)
    one, two, other = (train(start, text, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    unseen = np.setdiff1d(np.arange(len(vocab)), text.ids)
    np.testing.assert_array_equal(one[unseen], start[unseen])


@pytest.mark.parametrize(
    "passages", [[], [["w1 w2"], ["w3"]], [["w1", "w2"]], [["w1", " "], ["w2", "w3"]]]
)
def test_without_two_passages_of_two_pieces_the_rows_stay(
    passages: list[list[str]], vocab: Vocabulary
) -> None:
    start = drawn_rows(len(vocab))
    np.testing.assert_array_equal(train(start, pieces(passages, vocab), seed=0), start)


def test_pieces_by_hand(vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloze, "_READ", 2)
    found = pieces([["w1 w2", "w3"], [""], ["w4", " ", "w5 w6"]], vocab)
    assert found.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.starts.tolist() == [0, 2, 3, 4, 6]
    assert found.firsts.tolist() == [0, 2, 2, 4]


def test_rows_and_tokens_that_do_not_agree_are_refused(vocab: Vocabulary) -> None:
    text, _ = topical(vocab, 10, 0)
    with pytest.raises(InputError, match=r"token \d+ has no row in a table of 9") as refused:
        train(drawn_rows(9), text, seed=0)
    assert refused.value.hint
    words = StaticEncoder(vocab, drawn_rows(len(vocab), 16))
    with pytest.raises(InputError, match=r"\(81, 8\) for texts and \(81, 16\) for words"):
        TwoRows(words=words, texts=StaticEncoder(vocab, drawn_rows(len(vocab), 8)))


def test_what_the_measurement_asks_is_not_trained_on(space: Space) -> None:
    passage = Passage("Of it. More of it.", "s", "outer > It", 1)
    assert cut(passage) == ["outer > It", "Of it.", "More of it."]
    assert cut(passage, "It") == ["Of it.", "More of it."]
    assert cut(passage, "Of it.") == ["outer > It", "More of it."]
    held = space.generation.passages
    items = known_items(held, 0)
    assert items
    for item in items:
        assert len(cut(held[item.number], item.query)) < len(cut(held[item.number]))


def test_passages_old_and_new_have_the_mean_of_the_trained_rows(copy: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("A walrus operator assigns inside an expression.\n")
    former = Space.open(copy)
    encoder = former.generation.encoder
    assert isinstance(encoder, TwoRows)
    assert (encoder.texts.vectors != encoder.words.vectors).any()
    alone = StaticEncoder.load(former.generation.path / "encoder")  # as other programs open it
    np.testing.assert_array_equal(alone.vectors, encoder.texts.vectors)
    for added in ([], [note]):
        space = former.add(added) if added else former
        texts = [indexed_text(passage) for passage in space.generation.passages]
        expected = encoder.texts.encode(texts)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        found = space.collection.singles.rows(np.arange(len(space)))
        np.testing.assert_allclose(found, expected, atol=0.01)  # 8-bit integers
        query = space.collection.query(texts[-1])
        np.testing.assert_allclose(query.single, expected[-1], atol=1e-5)


def test_the_default_mode_fuses_words_tokens_and_texts(space: Space) -> None:
    parts = space.collection
    query = parts.query("catch an exception")
    totals = np.zeros(len(space))
    for mode, weight in (("bm25", 1.0), ("maxsim", 1.0), ("single", 0.75)):
        numbers, _ = parts.rank(query, 200, mode)
        totals[numbers] += weight / (60 + np.arange(1, len(numbers) + 1))
    numbers, scores = parts.rank(query, 5, "hybrid")
    assert numbers.tolist() == np.argsort(-totals, kind="stable")[:5].tolist()
    np.testing.assert_allclose(scores, totals[numbers], rtol=1e-6)
