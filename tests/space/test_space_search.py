"""Searching: every mode against a slow reference, the alignment, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tokenspace import EmbeddingTable, Ragged, Vocabulary
from tokenspace.errors import ConfigError, InputError
from tokenspace.space import Hit, Space
from tokenspace.space.commands import MODES
from tokenspace.space.passage_file import PassageFile
from tokenspace.space.search import fuse, indexed_text, top


def test_hits_are_ranked_and_say_where_they_come_from(space: Space) -> None:
    hits = space.search("how do I catch an exception", k=4)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert all(a.score >= b.score for a, b in pairwise(hits))
    assert hits[0].source in {"exceptions.txt", "with.txt"}
    for hit in hits:
        assert hit.line >= 1
        assert hit.text


@pytest.mark.parametrize("mode", MODES)
def test_a_query_finds_its_own_passage_in_every_mode(mode: str, space: Space) -> None:
    """All but ``single``, whose mean vector is a blur at this size, find a passage's own words."""
    passage = space.generation.passages[5]
    hits = space.search(passage.text, k=3, mode=mode)
    assert len(hits) == 3
    assert mode == "single" or passage.text in [hit.text for hit in hits]


def test_maxsim_scores_equal_a_slow_loop_in_float64(space: Space) -> None:
    query = space.collection.query("a method that returns a list of strings")
    numbers, scores = space.collection.rank(query, 5, "maxsim")
    q = query.vectors.astype(np.float64)
    slow = []
    for number in range(len(space)):
        p = space.collection.tokens[number].astype(np.float64)
        slow.append(sum(max(float(row @ token) for token in p) for row in q))
    order = sorted(range(len(slow)), key=lambda i: (-slow[i], i))[:5]
    assert numbers.tolist() == order
    np.testing.assert_allclose(scores, [slow[i] for i in order], rtol=1e-5)


def test_candidates_rescored_exactly_give_maxsim_scores(space: Space) -> None:
    query = space.collection.query("loop over the items of a sequence")
    exact = space.collection.tokens.maxsim(query.vectors)
    numbers, scores = space.collection.rank(query, 10, "fde")
    np.testing.assert_allclose(scores, exact[numbers], rtol=1e-6)
    assert (np.diff(scores) <= 0).all()


def test_the_score_is_the_sum_over_the_alignment(space: Space) -> None:
    for hit in space.search("import a module under another name", k=3, mode="maxsim"):
        total = sum(match.similarity * match.weight for match in hit.alignment)
        assert total == pytest.approx(hit.score, abs=1e-2)
        for match in hit.alignment:
            assert match.query in "import a module under another name"
            if match.start >= 0:
                assert hit.text[match.start : match.end] == match.passage


@pytest.mark.parametrize("mode", ["hybrid", "bm25"])
def test_alignments_are_those_of_a_slow_loop(mode: str, space: Space) -> None:
    text = "return a list of the strings, and a list of the names"
    parts, asked = space.collection, space.collection.query(text)
    known = {indexed_text(passage): i for i, passage in enumerate(parts.passages)}
    hits = space.search(text, k=6, mode=mode)
    assert len(hits) == 6
    for hit in hits:
        whole = f"{hit.title}\n{hit.text}" if hit.title else hit.text
        rows = parts.tokens[known[whole]].astype(np.float64)
        pieces = parts.encoder.tokens([whole])[0]
        title = len(whole) - len(hit.text)
        for i, match in enumerate(hit.alignment):
            products = np.array([asked.vectors[i].astype(np.float64) @ row for row in rows])
            best = int(np.flatnonzero(products >= products.max() - 1e-9)[0])  # first of equals
            found, start, end = pieces[best]
            place = (start - title, end - title) if start >= title else (-1, -1)
            assert match[:2] == (asked.surfaces[i], found)
            assert (match.start, match.end) == place
            cosine = products[best] / asked.weights[i]
            assert match.similarity == pytest.approx(cosine, abs=1e-4)
            assert match.weight == pytest.approx(asked.weights[i], abs=1e-4)
        assert len(hit.alignment) == len(asked.surfaces)


def test_only_the_passages_that_are_shown_are_read(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    look_up = PassageFile.__getitem__
    monkeypatch.setattr(
        PassageFile, "__getitem__", lambda self, i: (read.append(i), look_up(self, i))[1]
    )
    hits = space.collection.search("string methods", 1, "maxsim", explain=False)
    (number,) = read
    assert space.generation.passages[number].text == hits[0].text
    assert hits[0].alignment == []


def test_without_a_hit_there_is_no_alignment(space: Space) -> None:
    assert space.search("the and of", mode="bm25") == []


def test_an_alignment_prefers_the_same_word(space: Space) -> None:
    (hit,) = space.search("lambda", k=1, mode="maxsim")
    best = max(hit.alignment, key=lambda match: match.similarity)
    assert best.similarity == pytest.approx(1, abs=1e-3)
    assert best.passage.strip().lower() in "lambda"


def test_hits_as_plain_data_hold_the_promised_fields(space: Space) -> None:
    plain = space.search("context manager", k=1)[0].to_dict()
    assert set(plain) == {"rank", "score", "source", "line", "title", "text", "alignment"}
    assert set(plain["alignment"][0]) >= {"query", "passage", "similarity"}


def test_fusing_by_hand() -> None:
    a, b = np.array([3, 1]), np.array([1, 2])
    numbers, scores = fuse([(a, 1.0), (b, 2.0)], constant=1.0)
    assert numbers.tolist() == [1, 2, 3]  # 1: 1/3 + 2/2; 2: 2/3; 3: 1/2
    np.testing.assert_allclose(scores, [4 / 3, 2 / 3, 1 / 2])


def test_top_breaks_ties_by_number() -> None:
    assert top(np.array([1, 3, 3, 2, 3], np.float32), 3).tolist() == [1, 2, 4]
    assert top(np.array([1], np.float32), 5).tolist() == [0]
    assert top(np.zeros(0, np.float32), 5).tolist() == []


def test_k_beyond_the_passages_gives_them_all(space: Space) -> None:
    assert len(space.search("class", k=10_000, mode="maxsim")) == len(space)


def test_the_title_is_indexed_with_the_text(space: Space) -> None:
    titled = next(passage for passage in space.generation.passages if passage.title)
    assert indexed_text(titled).startswith(titled.title)
    assert indexed_text(titled).endswith(titled.text)


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_query_is_refused(query: str, space: Space) -> None:
    with pytest.raises(InputError, match="query is empty"):
        space.search(query)


def test_a_query_without_a_known_token_is_refused_with_the_mend(space: Space) -> None:
    with pytest.raises(InputError, match="no token of the query") as refused:
        space.search("\U0001f9a9")
    assert "add" in str(refused.value.hint)


def test_an_unknown_mode_and_a_k_of_nothing_are_refused(space: Space) -> None:
    with pytest.raises(ConfigError, match="mode='best'"):
        space.search("class", mode="best")
    with pytest.raises(ConfigError, match="k=0"):
        space.search("class", k=0)


def test_neighbors_and_analogies_leave_their_inputs_out(space: Space) -> None:
    near = space.neighbors("class", 5)
    assert len(near) == 5
    assert "class" not in [token for token, _ in near]
    assert all(a[1] >= b[1] for a, b in pairwise(near))
    answers = [token for token, _ in space.analogy("list", "class", "string", 5)]
    assert not {"list", "class", "string"} & set(answers)
    with pytest.raises(InputError, match="no token of"):
        space.neighbors("\U0001f9a9")


def test_info_says_how_it_searches(space: Space) -> None:
    described = space.info()
    assert described["holds"]["passages"] == len(space)
    assert described["search"]["first stage"] == "exact"
    assert "exact MaxSim is used" in described["search"]["because"]


def test_opening_twice_gives_the_same_hits(built: object, space: Space) -> None:
    again = Space.open(str(built))
    one: list[Hit] = space.search("string methods", k=5)
    assert one == again.search("string methods", k=5)


def test_one_passage_stands_for_its_section_while_there_are_others(space: Space) -> None:
    passages = space.generation.passages
    sections = {(p.source, p.title or p.line) for p in passages}
    assert len(sections) < len(passages)
    hits = space.search("string", k=len(sections), mode="maxsim")
    assert len({(hit.source, hit.title) for hit in hits}) == len(sections)
    more = space.search("string", k=len(sections) + 1, mode="maxsim")
    assert len(more) == len(sections) + 1
    assert all(a.score >= b.score for a, b in pairwise(more))


def test_a_space_is_a_table_a_vocabulary_and_token_vectors(built: Path, space: Space) -> None:
    table = EmbeddingTable.load(built)
    assert table.vocab == Vocabulary.load(built) == space.generation.table.vocab
    np.testing.assert_array_equal(table.vectors, space.generation.table.vectors)
    docs = Ragged.load(built)
    assert len(docs) == len(space)
    np.testing.assert_array_equal(docs[3], space.collection.tokens[3])
