"""What is special to Lance and to Qdrant, beside what all engines share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from tokenspace.arrays import Ragged
from tokenspace.data import topic_docs
from tokenspace.errors import SpaceBusy
from tokenspace.retrieve.engines import create_index, lance, open_index, qdrant
from tokenspace.retrieve.muvera import MUVERA

FORM: dict[str, Any] = {
    "width": 16,
    "codec": "f32",
    "muvera": MUVERA(repetitions=8, k_sim=2, d_proj=8, threads=1, fill="off"),
}


def test_lance_builds_its_indexes_when_it_compacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance, "INDEXED", 300)
    docs, queries, _ = topic_docs(300, 10, 8, 16, seed=1, n_queries=5)
    with create_index(f"lance:{tmp_path}", **FORM) as index:
        index.add(range(300), docs, [{"half": i % 2} for i in range(300)])
        expected = index.search(queries, 5)
        index.compact()
        assert index.info()["indexes"] == ["fde_idx", "key_idx", "terms_idx"]
        found = index.search(queries, 5, candidates=100)
        shared = [len(set(a.ids) & set(b.ids)) for a, b in zip(found, expected, strict=True)]
        assert sum(shared) >= 0.9 * 25
        one = index.search(queries, 9, candidates=100, where={"half": 1})[0]
        assert len(one.ids) == 9 and all(int(id) % 2 for id in one.ids)
        index.add([1000], docs.take(np.array([0])))  # behind the graph until it is built again
        assert 1000 in index.search(docs.take(np.array([0])), 2, candidates=50)[0].ids


def test_a_reader_of_lance_keeps_its_version(tmp_path: Path) -> None:
    docs, queries, _ = topic_docs(20, 5, 8, 16, seed=1, n_queries=2)
    with create_index(f"lance:{tmp_path}", **FORM) as writer:
        writer.add(range(10), docs.take(np.arange(10)))
        reader = open_index(f"lance:{tmp_path}")
        before = reader.search(queries, 10)
        writer.update(range(20), docs)
        writer.delete([0])
        writer.compact()
        for one, other in zip(reader.search(queries, 10), before, strict=True):
            assert one.ids == other.ids
        assert len(reader) == 10
        assert len(open_index(f"lance:{tmp_path}")) == 19


def test_lance_asks_in_sql_that_quotes_what_it_is_given() -> None:
    from tokenspace.retrieve.engines.filters import read

    where = {"a": "o'neil", "n": {"$gt": 1, "$lte": 2.5}, "$not": {"m": {"$lt": 0}}}
    assert lance.sql(read(where), {"n"}) == (
        "(coalesce(array_has_any(terms, ['a=\"o''neil\"']), false)"
        " AND (`n_n` IS NOT NULL AND `n_n` > 1.0 AND `n_n` <= 2.5) AND NOT (false))"
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the client
def test_a_local_qdrant_directory_is_open_once(tmp_path: Path) -> None:
    create_index(f"qdrant:{tmp_path / 'q'}", **FORM).close()
    code = (
        "import sys\n"
        "from tokenspace.retrieve.engines import open_index\n"
        "index = open_index(sys.argv[1])\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, f"qdrant:{tmp_path / 'q'}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None and other.stdout is not None
    with other.stdout, other.stdin:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SpaceBusy, match="another process has this Qdrant directory open"):
            open_index(f"qdrant:{tmp_path / 'q'}")
    other.wait()
    open_index(f"qdrant:{tmp_path / 'q'}").close()


class Spy:
    """Notes every call to a client."""

    def __init__(self, client: Any) -> None:
        self._client, self.calls = client, []

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def noted(*given: Any, **named: Any) -> Any:
            self.calls.append((name, named))
            return None if name == "create_payload_index" else call(*given, **named)

        return noted


def test_the_server_is_asked_once_a_query_and_indexes_what_filters_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = qdrant._connect
    monkeypatch.setattr(qdrant, "_connect", lambda where: (Spy(connect(":memory:")[0]), False))
    docs, queries, _ = topic_docs(30, 5, 8, 16, seed=1, n_queries=3)
    index: Any = create_index("qdrant:http://host:6333", **FORM)
    spy = index._client
    made = dict(spy.calls)["create_collection"]["vectors_config"]
    assert made["tokens"].hnsw_config.m == 0
    assert made["tokens"].multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert made["fde"].quantization_config.scalar.type == models.ScalarType.INT8
    index.add(range(30), docs, [{"year": 1990 + i, "lang": "en"} for i in range(30)])
    indexed = [named["field_schema"] for name, named in spy.calls if name == "create_payload_index"]
    assert indexed == [models.PayloadSchemaType.KEYWORD, models.PayloadSchemaType.FLOAT]
    spy.calls.clear()
    found = index.search(queries, 4, candidates=10, where={"year": {"$gte": 2000}})
    asked = [named for name, named in spy.calls if name == "query_points"]
    assert len(asked) == len(queries)
    for named in asked:
        assert (named["using"], named["limit"]) == ("tokens", 4)
        assert (named["prefetch"].using, named["prefetch"].limit) == ("fde", 10)
        assert named["prefetch"].filter is not None
    assert all(id >= 10 for one in found for id in one.ids)


def test_requests_to_qdrant_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = qdrant._connect
    monkeypatch.setattr(qdrant, "_connect", lambda where: (Spy(connect(where)[0]), True))
    monkeypatch.setattr(qdrant, "FLOATS", 2000)
    docs = topic_docs(40, 5, 8, 16, seed=1)[0]
    index: Any = create_index("qdrant::memory:", **FORM)
    index.add(range(40), docs)
    sizes = [
        sum(
            len(point.vector["fde"]) + 16 * len(point.vector["tokens"]) for point in named["points"]
        )
        for name, named in index._client.calls
        if name == "upsert"
    ]
    assert len(sizes) > 3
    assert max(sizes) <= 2000 + index.schema.fde.dim + 16 * 8
    assert len(index) == 40
    np.testing.assert_allclose(index.get([39])[0].tokens, docs[39])


def test_a_long_list_of_keys_is_asked_in_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lance, "KEYS", 7)
    monkeypatch.setattr(lance, "ROWS", 6)
    monkeypatch.setattr(qdrant, "POINTS", 7)
    docs = topic_docs(20, 5, 8, 16, seed=1)[0]
    for spec in (f"lance:{tmp_path}", "qdrant::memory:"):
        with create_index(spec, **FORM) as index:
            index.add(range(20), docs)
            held = index.get(range(20))
            assert [document.id for document in held] == list(range(20))
            for document, rows in zip(held, docs, strict=True):
                np.testing.assert_allclose(document.tokens, rows)
            index.delete(range(1, 20))
            assert index.search(Ragged.pack([docs[3]]), 30)[0].ids == [0]
