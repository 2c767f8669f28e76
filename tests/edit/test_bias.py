"""The report of a bias on a made table: every figure against its definition, on lists of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.edit.association import weat
from tokenspace.edit.bias import Query, bias_report, load_queries
from tokenspace.edit.specific import specific_words
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

PAIRS = WordSets([["she", "he"], ["queen", "king"], ["girl", "boy"], ["Mary", "John"]])
JOBS = ("nurse", "miner", "baker", "clerk", "pilot", "judge")
QUERY = Query(
    "jobs", (("soft", JOBS[:3]), ("hard", JOBS[3:])), (("f", ("she", "girl")), ("m", ("he", "Boy")))
)


def made(seed: int = 0, extra: int = 120) -> EmbeddingTable:
    """Return a table whose first coordinate is gender, up to a little noise."""
    draw = np.random.default_rng(seed)
    words = ["she", "he", "queen", "king", "girl", "boy", *JOBS, *(f"w{i}" for i in range(extra))]
    rows = draw.standard_normal((len(words), 12))
    rows[1:6:2, 1:] = rows[0:6:2, 1:] + 0.1 * draw.standard_normal((3, 11))
    rows[0:6:2, 0], rows[1:6:2, 0] = 2, -2
    return EmbeddingTable(Vocabulary.words(words), rows.astype(np.float32))


def test_every_figure_is_its_definition() -> None:
    table = made()
    found = bias_report(table, definitional=PAIRS, neutral=WordSets(JOBS), queries=[QUERY])
    rows = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    differences = (rows[0:6:2] - rows[1:6:2]) / 2
    g = np.linalg.svd(differences)[2][0]
    g *= np.sign(g @ differences.sum(axis=0))
    along = {job: float(rows[6 + i] @ g) for i, job in enumerate(JOBS)}
    assert found.direction["sets"] == [["she", "he"], ["queen", "king"], ["girl", "boy"]]
    assert found.direction["shares"][0] > 0.9 > found.direction["random_max"]
    assert found.direct["bias"] == pytest.approx(np.mean(np.abs(list(along.values()))), rel=1e-5)
    assert found.direct["words"] == 6
    assert [word for word, _ in found.words] == sorted(JOBS, key=lambda job: -along[job])
    assert dict(found.words) == pytest.approx(along, rel=1e-4)
    assert set(found.missing["definitional"]) == {"Mary", "John"}
    (asked,) = found.queries
    sets = [table.rows(np.array([table.id(w.lower()) for w in s])) for s in
            (JOBS[:3], JOBS[3:], ("she", "girl"), ("he", "boy"))]  # fmt: skip
    expected = weat(*sets)
    assert asked["effect"] == pytest.approx(expected.effect, rel=1e-4)
    assert asked["p"] == expected.p_value
    assert asked["p_exact"]
    assert asked["missing"] == {}
    assert [row["measure"] for row in found.residual["measures"]] == [
        "clusters", "classifier", "neighbours",
    ]  # fmt: skip
    json.dumps(found.to_dict())


def test_a_query_that_lacks_words_is_left_out_and_says_which() -> None:
    wanting = QUERY._replace(targets=(("soft", ("nurse", "baker", "gone")), ("hard", JOBS[3:])))
    table = made()
    given = {"definitional": PAIRS, "neutral": WordSets(JOBS), "queries": [wanting]}
    (asked,) = bias_report(table, **given, lost=0.2).queries
    assert asked["left_out"] == "soft lacks 1 of 3 words"
    assert asked["missing"] == {"soft": ["gone"]}
    (asked,) = bias_report(table, **given, lost=0.5).queries
    assert "left_out" not in asked
    assert asked["sizes"] == [2, 3, 2, 2]
    assert asked["missing"] == {"soft": ["gone"]}


def test_with_sets_of_yours_all_other_words_are_neutral() -> None:
    found = bias_report(made(), definitional=PAIRS)
    assert found.direct["words"] == 126
    assert found.queries == []
    spared = bias_report(made(), definitional=PAIRS, specific=WordSets(["nurse"]))
    assert spared.direct["words"] == 125


def test_an_edited_table_is_what_is_asked_about() -> None:
    table = made(1, 400)
    noise = np.random.default_rng(2).standard_normal(table.shape).astype(np.float32)
    given = {"definitional": PAIRS, "neutral": WordSets(JOBS)}
    found = bias_report(table, **given, after=table.replace(vectors=noise)).residual
    assert found["of"] == "the edited table"
    measures = {row["measure"]: row["found"] for row in found["measures"]}
    assert measures["classifier"] == pytest.approx(0.5, abs=0.12)
    same = bias_report(table, **given, after=table).residual
    assert {r["measure"]: r["found"] for r in same["measures"]}["classifier"] > 0.9
    with pytest.raises(InputError, match="the edited table is"):
        bias_report(table, **given, after=made())


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="definitional"):
        bias_report(made(), definitional=WordSets([["a", "b"], ["c", "d"]]))
    with pytest.raises(InputError, match="none of the neutral words"):
        bias_report(made(), definitional=PAIRS, neutral=WordSets(["absent"]))
    with pytest.raises(ConfigError, match="lost=1"):
        bias_report(made(), definitional=PAIRS, lost=1)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        "nonsense",
        '{"a": 3}',
        '{"a": {"targets": {"x": ["a"]}, "attributes": {"x": ["a"], "y": ["b"]}}}',
        '{"a": {"targets": {"x": "word", "y": ["b"]}, "attributes": {"x": ["a"], "y": ["b"]}}}',
    ],
)
def test_files_that_hold_no_queries_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "q.json").write_text(content)
    with pytest.raises(FormatError, match=r"q\.json"):
        load_queries(tmp_path / "q.json")
    with pytest.raises(InputError, match=r"absent\.json"):
        load_queries(tmp_path / "absent.json")


def test_the_command_reports_as_text_json_and_a_page(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    made().save(tmp_path / "table")
    (tmp_path / "pairs.txt").write_text("\n".join(" ".join(pair) for pair in PAIRS))
    (tmp_path / "jobs.txt").write_text("\n".join(JOBS))
    sides = {"targets": dict(QUERY.targets), "attributes": dict(QUERY.attributes)}
    lacking = {**sides, "targets": {"a": ["x", "<b>"], "b": ["z"]}}
    (tmp_path / "q.json").write_text(json.dumps({"jobs": sides, "none": lacking}))
    ask = ["edit", "bias", str(tmp_path / "table"), "--definitional", str(tmp_path / "pairs.txt")]
    ask += ["--neutral", str(tmp_path / "jobs.txt"), "--queries", str(tmp_path / "q.json")]
    files = ["--out", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    ended = cli(*ask, *files)
    assert ended.code == 0, ended.err
    for said in ("direct bias:", "toward she", "jobs", "none left out: a lacks 2 of 2", "Mary"):
        assert said in ended.out
    saved = json.loads((tmp_path / "r.json").read_text())
    assert saved["inputs"]["neutral"].keys() == {str(tmp_path / "jobs.txt")}
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 3
    assert "&lt;b&gt;" in page
    printed = json.loads(cli(*ask, "--json").out)
    assert printed["direct"] == saved["direct"]
    again = cli(*ask, *files)
    assert again.code == 2
    assert "exists" in again.err


def planted(seed: int = 0) -> EmbeddingTable:
    """Return 400 words, the first 60 of which lie to one side of a plane."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((400, 8))
    rows[:60, 0] += 6
    return EmbeddingTable(Vocabulary.words([f"w{i}" for i in range(400)]), rows.astype(np.float32))


def test_words_like_the_seeds_are_found() -> None:
    seeds = WordSets([f"w{i}" for i in range(40)] + ["absent"])
    found = specific_words(planted(), seeds, balanced=True)
    inside = {int(word[1:]) for word in found.words}
    assert set(range(40)) <= inside
    assert len(inside & set(range(40, 60))) >= 18
    assert len(inside - set(range(60))) <= 12
    assert found.seeds == 40
    assert found.missing == ["absent"]
    assert found.balanced_accuracy > 0.9
    with pytest.raises(InputError, match="3 seeds"):
        specific_words(planted(), WordSets(["w1", "w2", "w3"]))


def test_the_command_writes_the_words(cli: Callable[..., Any], tmp_path: Path) -> None:
    planted().save(tmp_path / "table")
    (tmp_path / "seeds.txt").write_text("\n".join(f"w{i}" for i in range(40)))
    out = tmp_path / "words.json"
    ask = ["edit", "specific", str(tmp_path / "table"), "--seeds", str(tmp_path / "seeds.txt")]
    ended = cli(*ask, "--out", str(out), "--balanced")
    assert ended.code == 0, ended.err
    assert "from 40 seeds" in ended.out
    assert WordSets.load(out).words == tuple(json.loads(out.read_text()))
    assert cli(*ask, "--out", str(out)).code == 2
