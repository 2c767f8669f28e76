"""Every engine gives what exact search in NumPy gives, and refuses what all refuse.

The engines that need a server are tried where TOKENSPACE_QDRANT_URL names one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.data import topic_docs
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.retrieve.engines import Engine, create_index, open_index
from tokenspace.retrieve.muvera import MUVERA

ENGINES = ["faiss:flat", "faiss:hnsw", "lance", "qdrant"]
if "TOKENSPACE_QDRANT_URL" in os.environ:
    ENGINES.append("qdrant server")
WIDTH = 16
ENCODINGS = MUVERA(repetitions=8, k_sim=2, d_proj=8, threads=1)
FORM: dict[str, Any] = {"width": WIDTH, "codec": "f32", "muvera": ENCODINGS}

Make = Callable[..., Engine]


def spec_of(name: str, folder: Path) -> tuple[str, Path | None]:
    if name == "qdrant server":
        return f"qdrant:{os.environ['TOKENSPACE_QDRANT_URL']}#test-{uuid.uuid4().hex}", None
    return (name, folder / "index") if name[:5] == "faiss" else (f"{name}:{folder / 'db'}", None)


def drop(spec: str) -> None:
    """Remove what a test left on a server."""
    if "://" in spec:
        from qdrant_client import QdrantClient

        url, _, name = spec.removeprefix("qdrant:").partition("#")
        QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY")).delete_collection(name)


class Literal:
    """What an index is, word for word: a dictionary, and loops in float64."""

    def __init__(self) -> None:
        self.held: dict[Any, tuple[np.ndarray, Mapping[str, Any]]] = {}

    def put(self, ids: Sequence[Any], docs: Ragged, metadata: Sequence[Mapping[str, Any]]) -> None:
        for id, rows, about in zip(ids, docs, metadata, strict=True):
            self.held.pop(id, None)
            self.held[id] = (np.array(rows, np.float64), about)

    def scores(self, query: np.ndarray, where: Callable[[Any], bool]) -> dict[Any, float]:
        return {
            id: sum(max((float(q @ p) for p in rows), default=0.0) for q in np.float64(query))
            for id, (rows, about) in self.held.items()
            if where(about)
        }


def everything(about: Any) -> bool:
    return True


def agree(found: Any, expected: dict[Any, float], k: int) -> None:
    """Say that ``found`` is a top k of ``expected``, whatever the order of equals."""
    best = sorted(expected.values(), reverse=True)[:k]
    assert len(found.ids) == len(set(found.ids)) == len(best)
    np.testing.assert_allclose(found.scores, best, rtol=1e-4, atol=1e-4)
    own = [expected[id] for id in found.ids]
    np.testing.assert_allclose(found.scores, own, rtol=1e-4, atol=1e-4)
    assert found.scores.dtype == np.float32


def documents(count: int) -> tuple[list[Any], Ragged, list[dict[str, Any]], Ragged]:
    docs, queries, _ = topic_docs(count, 10, 8, WIDTH, seed=3, n_queries=6, query_tokens=4)
    ids = [f"doc {i}" if i % 3 else i for i in range(count)]
    metadata: list[dict[str, Any]] = [
        {"number": i, "lang": ["en", "de", "fr"][i % 3], "half": i / 2, "even": i % 2 == 0}
        | ({"tags": ["a", "b"] if i % 4 else ["b", 7]} if i % 5 else {})
        | ({"number": None, "nested": {"deep": [1]}} if i % 11 == 0 else {})
        for i in range(count)
    ]
    return ids, docs, metadata, queries


@pytest.fixture(scope="module", params=ENGINES)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, Literal, Ragged]]:
    """An index of 90 documents, added in two parts, that no test changes."""
    spec, path = spec_of(request.param, tmp_path_factory.mktemp("filled"))
    ids, docs, metadata, queries = documents(90)
    exact = Literal()
    exact.put(ids, docs, metadata)
    with create_index(spec, path, **FORM) as index:
        index.add(ids[:50], docs.take(np.arange(50)), metadata[:50])
        index.add(ids[50:], docs.take(np.arange(50, 90)), metadata[50:])
        yield index, exact, queries
    drop(spec)


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make an index, or open the one that was made."""
    spec, path = spec_of(request.param, tmp_path)
    made: list[Engine] = []

    def build(again: bool = False, **settings: Any) -> Engine:
        if again:
            made.append(open_index(spec, path, write=True))
        else:
            made.append(create_index(spec, path, **{**FORM, **settings}))
        return made[-1]

    yield build
    for index in made:
        index.close()
    drop(spec)


@pytest.mark.parametrize("k", [1, 5, 200])
@pytest.mark.parametrize("candidates", [0, 200])
def test_search_is_exact(filled: tuple[Engine, Literal, Ragged], k: int, candidates: int) -> None:
    index, exact, queries = filled
    found = index.search(queries, k, candidates=candidates)
    assert len(found) == len(queries)
    for one, query in zip(found, queries, strict=True):
        agree(one, exact.scores(query, everything), k)


def test_few_candidates_give_exact_scores_and_most_of_the_best(
    filled: tuple[Engine, Literal, Ragged],
) -> None:
    index, exact, queries = filled
    hits = 0
    for one, query in zip(index.search(queries, 5, candidates=25), queries, strict=True):
        expected = exact.scores(query, everything)
        np.testing.assert_allclose(one.scores, [expected[id] for id in one.ids], rtol=1e-4)
        assert all(a >= b for a, b in pairwise(one.scores))
        best = sorted(expected, key=lambda id: -expected[id])[:5]
        hits += len(set(one.ids) & set(best))
    assert hits >= 0.8 * 5 * len(queries)


def test_single_vectors_are_the_encodings(filled: tuple[Engine, Literal, Ragged]) -> None:
    index, exact, queries = filled
    vectors = index.encode(queries)
    assert vectors.shape == (len(queries), index.schema.fde.dim)
    held = index.schema.fde.documents(Ragged.pack([rows for rows, _ in exact.held.values()]))
    for one, scores in zip(index.search_single(vectors, 5), vectors @ held.T, strict=True):
        expected = dict(zip(exact.held, scores.tolist(), strict=True))
        own = [expected[id] for id in one.ids]
        np.testing.assert_allclose(one.scores, own, atol=2e-2)
        np.testing.assert_allclose(one.scores, sorted(scores, reverse=True)[:5], atol=3e-2)
    some = index.search_single(vectors, 5, where={"lang": "de"})
    assert all(exact.held[id][1]["lang"] == "de" for one in some for id in one.ids)
    with pytest.raises(InputError, match=r"vectors: shape \(1, 3\)"):
        index.search_single(np.zeros((1, 3), np.float32))
    assert index.search_single(vectors[:0]) == []


WHERE: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
    ({"lang": "en"}, lambda m: m["lang"] == "en"),
    ({"lang": {"$in": ["en", "xx"]}}, lambda m: m["lang"] == "en"),
    ({"lang": {"$in": []}}, lambda m: False),
    ({"lang": "o'neil \"\\`"}, lambda m: False),
    ({"number": 7}, lambda m: m["number"] == 7),
    ({"half": 3}, lambda m: m["half"] == 3.0),
    ({"half": 3.5}, lambda m: m["half"] == 3.5),
    ({"even": True}, lambda m: m["even"] is True),
    ({"even": 1}, lambda m: False),
    ({"tags": "a"}, lambda m: "a" in m.get("tags", [])),
    ({"tags": 7}, lambda m: 7 in m.get("tags", [])),
    ({"tags": "7"}, lambda m: False),
    ({"number": {"$gte": 10, "$lt": 20}}, lambda m: 10 <= (m["number"] or -1) < 20),
    ({"number": {"$gt": 10, "$lte": 20}}, lambda m: 10 < (m["number"] or -1) <= 20),
    ({"half": {"$lt": 0.6}}, lambda m: m["half"] < 0.6),
    ({"lang": {"$gt": 0}}, lambda m: False),
    ({"never": {"$gt": 0}}, lambda m: False),
    ({"$not": {"never": {"$gt": 0}}}, lambda m: True),
    ({"$not": {"tags": "a"}}, lambda m: "a" not in m.get("tags", [])),
    ({"$not": {"number": {"$lt": 50}}}, lambda m: m["number"] is None or m["number"] >= 50),
    ({"$or": [{"lang": "de"}, {"half": {"$gt": 9}}]}, lambda m: m["lang"] == "de" or m["half"] > 9),
    ({"$and": [{"lang": "de"}, {"even": False}]}, lambda m: m["lang"] == "de" and not m["even"]),
    ({"$or": []}, lambda m: False),
    ({"$and": []}, lambda m: True),
    (
        {"$not": {"$or": [{"lang": "de"}, {"$not": {"even": True}}]}},
        lambda m: m["lang"] != "de" and m["even"],
    ),
    ({"lang": "fr", "number": {"$in": [2, 5], "$gt": 3}}, lambda m: m["number"] == 5),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WHERE)))
def test_filters_let_the_same_through(filled: tuple[Engine, Literal, Ragged], number: int) -> None:
    index, exact, queries = filled
    where, holds = WHERE[number]
    assert index.count(where) == sum(holds(about) for _, about in exact.held.values())
    for candidates in (0, 90):
        found = index.search(queries, 4, where=where, candidates=candidates)
        for one, query in zip(found, queries, strict=True):
            agree(one, exact.scores(query, holds), 4)


VALUES: dict[str, list[Any]] = {
    "lang": ["en", "de", "xx", 3],
    "number": [0, 7, 50.0, 51, "7", True],
    "half": [1, 3.5, 3.25, 40],
    "even": [True, False, 1],
    "tags": ["a", "b", 7, "7"],
    "never": ["a", 1],
}


def any_filter(draw: np.random.Generator, depth: int) -> dict[str, Any]:
    kind = draw.choice(["$and", "$or", "$not", "equal", "in", "between", "two"])
    if kind[0] == "$" and depth == 0:
        return {}
    if kind == "$not":
        return {"$not": any_filter(draw, depth - 1)}
    if kind[0] == "$":
        return {str(kind): [any_filter(draw, depth - 1) for _ in range(draw.integers(0, 4))]}
    field = str(draw.choice(list(VALUES)))
    values = VALUES[field]
    if kind == "equal":
        return {field: values[draw.integers(len(values))]}
    if kind == "in":
        return {field: {"$in": [v for v in values if draw.random() < 0.5]}}
    if kind == "between":
        names = ["$gt", "$gte", "$lt", "$lte"]
        chosen = draw.choice(names, draw.integers(1, 3), replace=False)
        return {field: {str(name): float(draw.integers(0, 60)) for name in chosen}}
    return {**any_filter(draw, 0), **any_filter(draw, 0)}


def passes(where: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Say what a filter means, word for word."""

    def same(a: Any, b: Any) -> bool:
        return a == b and isinstance(a, bool) == isinstance(b, bool)

    def one(name: str, asked: Any) -> bool:
        if name == "$not":
            return not passes(asked, about)
        if name in ("$and", "$or"):
            return (all if name == "$and" else any)(passes(part, about) for part in asked)
        value = about.get(name)
        items = value if isinstance(value, list) else [value]
        if not isinstance(asked, dict):
            return any(same(item, asked) for item in items)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        tests = {
            "$in": lambda given: any(same(item, v) for item in items for v in given),
            "$gt": lambda given: number and value > given,
            "$gte": lambda given: number and value >= given,
            "$lt": lambda given: number and value < given,
            "$lte": lambda given: number and value <= given,
        }
        return all(tests[word](given) for word, given in asked.items())

    return all(one(name, asked) for name, asked in where.items())


def test_any_filter_counts_what_it_means(filled: tuple[Engine, Literal, Ragged]) -> None:
    index, exact, _ = filled
    for seed in range(40):
        where = any_filter(np.random.default_rng(seed), 3)
        expected = sum(passes(where, about) for _, about in exact.held.values())
        assert index.count(where) == expected, where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([], "is not a filter"),
        ({"$or": {"lang": "en"}}, r"\$or takes a list"),
        ({"$nor": []}, r"'\$nor' is neither a field nor one of"),
        ({"a.b": 1}, "'a.b' is neither a field"),
        ({"lang": {}}, "lang: no condition"),
        ({"lang": {"$regex": "x"}}, r"'\$regex' is not one of \$in"),
        ({"lang": {"$in": "en"}}, r"\$in takes a list"),
        ({"lang": ["en"]}, r"cannot compare with \['en'\]"),
        ({"lang": None}, "cannot compare with None"),
        ({"lang": "x" * 257}, "cannot compare with"),
        ({"n": {"$gt": "5"}}, r"\$gt takes a number, not '5'"),
        ({"n": {"$gt": True}}, r"\$gt takes a number, not True"),
        ({"n": {"$lt": float("inf")}}, r"\$lt takes a number, not inf"),
        ({"n": 10**400}, "cannot compare with 1000"),
    ],
)
def test_what_is_no_filter_is_refused(
    filled: tuple[Engine, Literal, Ragged], where: Any, message: str
) -> None:
    index, _, queries = filled
    with pytest.raises(InputError, match=message) as caught:
        index.search(queries, where=where)
    assert caught.value.hint
    with pytest.raises(InputError, match=message):
        index.count(where)


def test_filtered_candidates_are_filtered_before_they_are_cut(
    filled: tuple[Engine, Literal, Ragged],
) -> None:
    index, exact, queries = filled
    for one in index.search(queries, 3, where={"number": {"$gte": 80}}, candidates=5):
        assert len(one.ids) == 3
        assert all((exact.held[id][1]["number"] or 0) >= 80 for id in one.ids)


def test_documents_come_back_as_they_were(filled: tuple[Engine, Literal, Ragged]) -> None:
    index, exact, _ = filled
    assert len(index) == len(exact.held) == 90
    wanted = [0, "doc 61", "doc 1", 0]
    for id, document in zip(wanted, index.get(wanted), strict=True):
        rows, about = exact.held[id]
        assert document.id == id
        np.testing.assert_array_equal(document.tokens, rows.astype(np.float32))
        assert document.tokens.dtype == np.float32
        assert document.metadata == about
    assert "doc 1" in index
    assert 0 in index
    assert "0" not in index
    assert index.get([]) == []


def test_what_a_search_refuses(filled: tuple[Engine, Literal, Ragged]) -> None:
    index, _, queries = filled
    assert index.search(Ragged.pack([])) == []
    with pytest.raises(InputError, match=r"shape \(2, 5\), expected \(tokens, 16\)"):
        index.search(Ragged.pack([np.zeros((2, 5))]))
    with pytest.raises(InputError, match="query 1 has no tokens"):
        index.search(Ragged.pack([np.ones((2, WIDTH)), np.zeros((0, WIDTH))]))
    with pytest.raises(InputError, match="NaN"):
        index.search(Ragged.pack([np.full((2, WIDTH), np.nan)]))
    with pytest.raises(InputError, match="k=0 is outside"):
        index.search(queries, 0)
    with pytest.raises(InputError, match="candidates=-1 is outside"):
        index.search(queries, 1, candidates=-1)
    with pytest.raises(InputError, match=r"no document with the id \"doc 999\" \(2 such ids\)"):
        index.get(["doc 1", "doc 999", "doc 998"])


def test_changes_are_as_those_of_a_dictionary(make: Make) -> None:
    index, exact = make(), Literal()
    ids, docs, metadata, queries = documents(40)
    index.add(ids[:30], docs.take(np.arange(30)), metadata[:30])
    exact.put(ids[:30], docs.take(np.arange(30)), metadata[:30])

    def check() -> None:
        assert len(index) == len(exact.held)
        for one, query in zip(index.search(queries, 6), queries, strict=True):
            agree(one, exact.scores(query, everything), 6)
        for one, query in zip(index.search(queries, 6, candidates=40), queries, strict=True):
            agree(one, exact.scores(query, everything), 6)
        held = index.get(list(exact.held))
        for document, (rows, about) in zip(held, exact.held.values(), strict=True):
            np.testing.assert_array_equal(document.tokens, rows.astype(np.float32))
            assert document.metadata == about

    check()
    moved = docs.take(np.arange(25, 40))  # other tokens under ids, some of which are there
    index.update(ids[20:35], moved, metadata[5:20])
    exact.put(ids[20:35], moved, metadata[5:20])
    check()
    gone = [ids[0], ids[7], ids[22], ids[34]]
    index.delete(gone)
    for id in gone:
        del exact.held[id]
        assert id not in index
    check()
    assert index.count({"lang": "de"}) == sum(m["lang"] == "de" for _, m in exact.held.values())
    index.compact()
    check()
    index.add([ids[7]], docs.take(np.array([7])), [{"lang": "back"}])
    exact.put([ids[7]], docs.take(np.array([7])), [{"lang": "back"}])
    check()
    index.close()
    index = make(again=True)
    check()
    index.delete(list(exact.held))
    exact.held.clear()
    assert len(index) == 0
    assert [one.ids for one in index.search(queries, 3)] == [[]] * len(queries)
    assert [one.ids for one in index.search_single(index.encode(queries))] == [[]] * len(queries)
    index.compact()
    assert len(index) == 0


def test_an_empty_index_answers(make: Make) -> None:
    index = make()
    queries = documents(3)[3]
    assert [one.ids for one in index.search(queries)] == [[]] * len(queries)
    assert index.count() == 0
    assert index.count({"lang": "en"}) == 0
    index.add([], Ragged.pack([]))
    index.update([], Ragged.pack([]), [])
    index.delete([])
    index.compact()
    assert index.info()["documents"] == 0
    index.close()
    assert len(make(again=True)) == 0


def test_a_refused_change_changes_nothing(make: Make) -> None:
    index = make(encoder="e1")
    ids, docs, metadata, queries = documents(8)
    index.add(ids, docs, metadata, encoder="e1")
    one = docs.take(np.array([0]))
    two = docs.take(np.array([0, 1]))
    refused: list[tuple[str, Callable[[], None]]] = [
        (r"the id \"doc 1\" is there already", lambda: index.add(["new", "doc 1"], two)),
        ('"new" stands there twice', lambda: index.update(["new", "new"], two)),
        ("2 ids, 1 token matrices", lambda: index.add(["new", "newer"], one)),
        ("1 metadata must be", lambda: index.add(["new", "newer"], two, [{}])),
        (r"shape \(3, 4\), expected", lambda: index.add(["new"], Ragged.pack([np.ones((3, 4))]))),
        ("NaN", lambda: index.add(["new"], Ragged.pack([np.full((1, WIDTH), np.nan)]))),
        ("document 0 has no tokens", lambda: index.add(["new"], Ragged.pack([[]], WIDTH))),
        ("True is no id", lambda: index.add([True], one)),
        ("'' is no id", lambda: index.add([""], one)),
        (r"1\.5 is no id", lambda: index.add([1.5], one)),  # type: ignore[list-item]
        ("is one string", lambda: index.add("new", one)),
        ("has the field 'a b'", lambda: index.add(["new"], one, [{"a b": 1}])),
        ("is not JSON", lambda: index.add(["new"], one, [{"a": float("nan")}])),
        ("is not JSON", lambda: index.add(["new"], one, [{"a": {1, 2}}])),
        ("from the encoder e2", lambda: index.add(["new"], one, encoder="e2")),
        ("no document with the id 99", lambda: index.delete(["doc 1", 99])),
        ('"doc 1" stands there twice', lambda: index.delete(["doc 1", "doc 1"])),
    ]
    for message, call in refused:
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(InputError, match="queries come from the encoder e2") as caught:
        index.search(queries, encoder="e2")
    assert "encode both" in str(caught.value.hint)
    with pytest.raises(InputError, match="vectors come from the encoder e2"):
        index.search_single(index.encode(queries), encoder="e2")
    assert len(index) == 8
    assert "new" not in index
    assert index.search(queries, encoder="e1")


def test_documents_without_tokens_score_zero_where_they_are_let_in(make: Make) -> None:
    index = make(on_empty="zero")
    docs = Ragged.pack([np.eye(WIDTH)[:2], np.zeros((0, WIDTH)), -np.eye(WIDTH)[:2]])
    index.add(["yes", "none", "no"], docs, [{}, {"empty": True}, {}])
    for candidates in (0, 3):
        found = index.search(Ragged.pack([np.ones((1, WIDTH))]), 3, candidates=candidates)[0]
        assert found.ids == ["yes", "none", "no"]
        np.testing.assert_allclose(found.scores, [1, 0, -1])
    assert index.get(["none"])[0].tokens.shape == (0, WIDTH)
    assert index.count({"empty": True}) == 1


def test_many_candidates_come_through_the_encodings(make: Make) -> None:
    index = make(exact_below=10)
    ids, docs, metadata, queries = documents(120)
    index.add(ids, docs, metadata)
    exact = Literal()
    exact.put(ids, docs, metadata)
    hits = 0
    for one, query in zip(index.search(queries, 5), queries, strict=True):
        expected = exact.scores(query, everything)
        best = sorted(expected, key=lambda id: -expected[id])[:5]
        hits += len(set(one.ids) & set(best))
    assert hits >= 0.9 * 5 * len(queries)
    few = {"number": {"$lt": 8}}  # so few are scored exactly
    for one, query in zip(index.search(queries, 5, where=few), queries, strict=True):
        expected = exact.scores(query, lambda m: m["number"] is not None and m["number"] < 8)
        agree(one, expected, 5)


def test_half_precision_is_near(make: Make) -> None:
    index = make(codec="f16")
    ids, docs, metadata, queries = documents(20)
    index.add(ids, docs, metadata)
    exact = Literal()
    exact.put(ids, docs, metadata)
    for one, query in zip(index.search(queries, 20), queries, strict=True):
        expected = exact.scores(query, everything)
        np.testing.assert_allclose(one.scores, [expected[id] for id in one.ids], atol=1e-2)


def test_an_index_is_made_once_and_must_be_there(make: Make) -> None:
    with pytest.raises(InputError, match="there is no index"):
        make(again=True)
    index = make(encoder="e1", on_empty="zero", exact_below=5)
    schema = index.schema
    index.close()
    with pytest.raises(InputError, match=r"already|another path"):
        make()
    assert make(again=True).schema == schema


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width=0 is outside"),
        ({"codec": "f8"}, "codec='f8' is not one of"),
        ({"on_empty": "skip"}, "on_empty='skip' is not one of"),
        ({"exact_below": -1}, "exact_below=-1 is outside"),
        ({"width": 4}, "d_proj=8 is above the width 4"),
    ],
)
def test_a_bad_form_is_refused(make: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_encodings_of_another_configuration_are_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().close()
    monkeypatch.setattr("tokenspace.retrieve.muvera.FDE.config_hash", "another")
    with pytest.raises(FormatError, match="made by another configuration"):
        make(again=True)
