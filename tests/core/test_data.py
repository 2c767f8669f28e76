"""Data sets by name: found, checked, refused; and generators that always give the same."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from tokenspace import data
from tokenspace.errors import FormatError, InputError

GOOD = b"gem\tjewel\t3.94\nnoon\tstring\t0.04\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An empty data folder, an empty cache, and a network that is not there."""
    folder, cached = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("TOKENSPACE_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached))

    def unreachable(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    return folder, cached / "tokenspace"


def publish(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], url: str | None = None):
    """Make the table of known files one of these."""
    table = tuple(
        data.Source(data._short(path), path, hashlib.sha256(content).hexdigest(), url)
        for path, content in files.items()
    )
    monkeypatch.setattr(data, "sources", lambda: table)


def put(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def test_the_table_of_files_is_sound() -> None:
    table = data.sources()
    assert len({source.path for source in table}) == len(table) >= 60
    assert all(len(source.sha256) == 64 for source in table)
    assert data._PUBLIC.keys() <= {source.path for source in table}
    novels = [source for source in table if source.name == "novels"]
    assert [source.path[-8] for source in novels] == ["1", "2", "3", "4", "5"]


def test_a_file_is_found_by_its_name_or_its_path(places, monkeypatch) -> None:
    files = {"wordsim/EN-RG-65.tsv": GOOD}
    publish(monkeypatch, files)
    assert not data.available("EN-RG-65")
    put(places[0], files)
    assert data.available("EN-RG-65")
    assert (
        data.find("EN-RG-65") == data.find("wordsim/EN-RG-65.tsv") == places[0] / next(iter(files))
    )
    assert data.word_pairs("EN-RG-65") == [("gem", "jewel", 3.94), ("noon", "string", 0.04)]


def test_a_damaged_file_is_refused_and_a_mended_one_read(places, monkeypatch) -> None:
    files = {"wordsim/EN-RG-65.tsv": GOOD}
    publish(monkeypatch, files)
    put(places[0], {"wordsim/EN-RG-65.tsv": GOOD[:-1]})
    with pytest.raises(FormatError, match=r"EN-RG-65\.tsv: its SHA-256"):
        data.find("EN-RG-65")
    put(places[0], files)
    assert data.find("EN-RG-65").is_file()


def test_the_checksum_is_computed_once_a_file(places, monkeypatch) -> None:
    files = {"wordsim/EN-RG-65.tsv": GOOD}
    publish(monkeypatch, files)
    put(places[0], files)
    asked = []
    monkeypatch.setattr(
        data, "sha256", lambda path: asked.append(path) or hashlib.sha256(GOOD).hexdigest()
    )
    path = data.find("EN-RG-65")
    data.find("EN-RG-65")
    assert len(asked) == 1
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))
    data.find("EN-RG-65")
    assert len(asked) == 2


def test_a_public_file_is_downloaded_once_and_checked(places, monkeypatch) -> None:
    publish(monkeypatch, {"wordsim/EN-RG-65.tsv": GOOD}, "https://example.org/rg65")
    asked = []

    def serve(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(GOOD if len(asked) > 1 else b"<html>sorry</html>")

    monkeypatch.setattr("urllib.request.urlopen", serve)
    with pytest.raises(FormatError, match="of the download"):
        data.find("EN-RG-65")
    assert not data.available("EN-RG-65")
    assert data.find("EN-RG-65") == data.find("EN-RG-65") == places[1] / "wordsim/EN-RG-65.tsv"
    assert asked == ["https://example.org/rg65"] * 2


@pytest.mark.parametrize("url", [None, "https://example.org/rg65"])
def test_a_file_that_can_be_had_nowhere(monkeypatch, url: str | None) -> None:
    publish(monkeypatch, {"wordsim/EN-RG-65.tsv": GOOD}, url)
    with pytest.raises(InputError, match="not on this machine") as caught:
        data.find("EN-RG-65")
    assert "TOKENSPACE_DATA" in (caught.value.hint or "")


def test_unknown_names_and_sets_of_several_files() -> None:
    with pytest.raises(InputError, match="no data set 'novel'") as caught:
        data.available("novel")
    assert caught.value.hint == "did you mean 'novels'?"
    with pytest.raises(InputError, match="'cran' is a set of 3 files"):
        data.find("cran")


def test_novels_join_lines_and_split_sentences(places, monkeypatch) -> None:
    first = '=== One (1900) / A. Body ===\n\nShe sat\ndown. "Don\'t!" he\ncried? No…\n'
    text = first + "=== Two (1901) / B. ===\n12 Men."
    files = {"lm/novels_dev_1.txt.gz": gzip.compress(text.encode())}
    publish(monkeypatch, files)
    put(places[0], files)
    assert data.novels() == ["she sat down", "don't", "he cried", "no", "12 men"]
    assert data.novels(2) == ["she sat down", "don't"]


def test_retrieval_keeps_judged_queries_and_empty_documents(places, monkeypatch) -> None:
    corpus = [
        {"_id": "7", "title": "a title", "text": "some text"},
        {"_id": "3", "title": "", "text": ""},
        {"_id": "9", "title": "", "text": "more\u2028text"},
    ]
    queries = [{"_id": "q2", "text": "unjudged"}, {"_id": "q1", "text": "judged"}]
    lines = [
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
        for rows in (corpus, queries)
    ]
    files = {
        "retrieval/cran/corpus.jsonl.gz": gzip.compress(lines[0].encode()),
        "retrieval/cran/qrels.tsv": b"query-id\tcorpus-id\tscore\nq1\t9\t1\nq1\t7\t-1\n",
        "retrieval/cran/queries.jsonl": lines[1].encode(),
    }
    publish(monkeypatch, files)
    put(places[0], files)
    found = data.retrieval("cran")
    assert found.docs == ["a title some text", "", "more\u2028text"]
    assert found.queries == ["judged"]
    assert found.relevant == [{0, 2}]
    assert len(data.files("cran")) == 3


def test_pairs_of_sentences_and_analogies(places, monkeypatch) -> None:
    files = {
        "sts/sts2014.tsv.gz": gzip.compress(
            b'subset\tscore\tsentence1\tsentence2\nx\t4.5\tA "b\tC\n'
        ),
        "sts/SICK_trial.tsv.gz": gzip.compress(
            b"pair_ID\tsentence_A\tsentence_B\trelatedness_score\tj\n4\tA\tB\t3.5\tNEUTRAL\n"
        ),
        "wordsim/google_questions-words.txt.gz": gzip.compress(b": Family\nBoy Girl King Queen\n"),
        "wordsim/zh_wordsim_240.tsv": "word1\tword2\tscore\n李白\t诗\t9.2\n".encode(),
    }
    publish(monkeypatch, files)
    put(places[0], files)
    assert data.sts("sts2014") == [('A "b', "C", 4.5)]
    assert data.sts("SICK_trial") == [("A", "B", 3.5)]
    assert data.analogies() == [("family", "boy", "girl", "king", "queen")]
    assert data.word_pairs("zh_wordsim_240") == [("李白", "诗", 9.2)]


def test_words_keep_their_apostrophes() -> None:
    assert data.words("Don't 'quote' the 2nd--cat") == ["don't", "quote", "the", "2", "nd", "cat"]


def test_the_manual_is_there_without_files() -> None:
    pages = data.manual()
    assert len(pages) > 50
    assert [title for title, _ in pages] == sorted(title for title, _ in pages)
    assert "with" in {title for title, _ in pages}


def test_zipf_text_is_seeded_and_falls_as_one_over_rank() -> None:
    text = data.zipf_text(4000, 100, 5, seed=3)
    assert text == data.zipf_text(4000, 100, 5, seed=3)
    assert text != data.zipf_text(4000, 100, 5, seed=4)
    words, counts = np.unique([w for line in text for w in line.split()], return_counts=True)
    assert len(words) == 100
    common = np.sort(counts[np.isin(words, data._invented(100)[:25])])[::-1]
    slope = np.polyfit(np.log(np.arange(1, 26)), np.log(common), 1)[0]
    assert -1.25 < slope < -0.75
    assert all(6 <= len(line.split()) <= 16 for line in text)
    assert len(set(data._invented(10_000))) == 10_000
    with pytest.raises(InputError, match="too few"):
        data.zipf_text(10, 8, 8)


def test_topic_docs_are_seeded_and_answerable() -> None:
    docs, queries, relevant = data.topic_docs(60, 6, 16, 24, 0.3, seed=1, n_queries=20)
    again = data.topic_docs(60, 6, 16, 24, 0.3, seed=1, n_queries=20)
    np.testing.assert_array_equal(docs.flat, again[0].flat)
    np.testing.assert_array_equal(queries.flat, again[1].flat)
    assert relevant == again[2]
    assert (len(docs), len(queries), docs.width) == (60, 20, 24)
    assert docs.heights.min() >= 8
    assert docs.heights.max() <= 16
    np.testing.assert_allclose(np.linalg.norm(docs.flat, axis=1), 1, rtol=1e-6)
    scores = np.array([[(q @ d.T).max(axis=1).sum() for d in docs] for q in queries])
    assert (
        np.mean([{int(best)} == r for best, r in zip(scores.argmax(1), relevant, strict=True)])
        > 0.9
    )
    with pytest.raises(InputError):
        data.topic_docs(0)


def test_zipf_ctr_has_a_structure_that_can_be_learned() -> None:
    ids, labels, fields = data.zipf_ctr(3, 70, 4_000, 4, seed=2)
    assert ids.shape == (4_000, 3)
    assert ids.dtype == labels.dtype == fields.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(fields), [10, 20, 40])
    np.testing.assert_array_equal(fields[ids], np.tile([0, 1, 2], (4_000, 1)))
    assert 0.45 < labels.mean() < 0.55
    counts = np.sort(np.bincount(ids[:, 2], minlength=70)[30:])[::-1]
    assert counts[0] == pytest.approx(4_000 * np.log(2) / np.log(41), rel=0.1)  # log-uniform ranks
    rates = [labels[ids[:, 0] == i].mean() for i in range(10)]
    assert np.ptp(rates) > 0.1  # an id alone already says something
    again = data.zipf_ctr(3, 70, 4_000, 4, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip((ids, labels, fields), again, strict=True))
    assert not np.array_equal(ids, data.zipf_ctr(3, 70, 4_000, 4, seed=3)[0])
    for sizes in ((1, 70, 10, 4), (4, 15, 10, 4), (3, 70, 0, 4), (3, 70, 10, 0)):
        with pytest.raises(InputError, match="too few"):
            data.zipf_ctr(*sizes)
