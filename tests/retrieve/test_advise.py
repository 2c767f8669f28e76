"""The advisor: what it tries, what it measures, what it chooses, and the commands it prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace import catalog
from tokenspace.arrays import Ragged
from tokenspace.data import topic_docs
from tokenspace.errors import ConfigError, InputError
from tokenspace.recipe import make
from tokenspace.retrieve import advise as advisor
from tokenspace.retrieve.advice_page import front, render
from tokenspace.retrieve.advise import Sample, Trial, Wish, advise, grid
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.space import Space

Cli = Callable[..., Any]
QUICK = ("maxsim", "muvera:repetitions=4,k_sim=2,d_proj=4,codec=i8")
TIMES = ("ms_p50", "ms_p95", "build_seconds", "ms", "build", "front")


@pytest.fixture(scope="module")
def docs() -> Ragged:
    return topic_docs(60, 6, 12, 16, seed=1, n_queries=5)[0]


@pytest.fixture
def file(docs: Ragged, tmp_path: Path) -> Path:
    docs.save(tmp_path / "docs.safetensors")
    return tmp_path / "docs.safetensors"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pydoc_data.topics import topics

    text = tmp_path_factory.mktemp("text")
    for name in ("class", "with", "for", "exceptions", "string-methods", "typesseq"):
        (text / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    root = tmp_path_factory.mktemp("built") / "space"
    Space.build([text], out=root, vocab_size=600, dim=16, epochs=1, threads=1)
    return root


def row(nbytes: float, recall: float, ms: float) -> dict[str, Any]:
    return {"bytes": nbytes, "recall": recall, "ms": ms}


# ----------------------------------------------------------------------------- what is computed


def test_a_row_is_on_the_front_unless_another_is_as_good_in_all_and_better_in_one() -> None:
    rows = [row(1, 0.5, 1), row(2, 0.9, 1), row(3, 0.9, 1), row(3, 0.9, 0.5), row(2, 0.9, 1)]
    assert advisor._front(rows).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("rows", "place", "says"),
    [
        ([row(1, 0.9, 1), row(3, 0.96, 50), row(2, 0.97, 60)], 2, "smallest"),
        ([row(1, 0.96, 60), row(1, 0.96, 50)], 1, "smallest"),
        ([row(1, 0.96, 500), row(2, 0.99, 200), row(1, 0.5, 1)], 1, "none takes 100 ms"),
        ([row(1, 0.7, 1), row(9, 0.8, 1), row(2, 0.8, 1)], 2, "none reaches recall 0.95"),
    ],
)
def test_the_choice_is_the_smallest_that_grants_the_wish(
    rows: list[Mapping[str, Any]], place: int, says: str
) -> None:
    chosen, because = advisor._choose(rows, Wish(), 1000)
    assert chosen == place
    assert says in because


@pytest.mark.parametrize(
    ("figures", "at"),
    [
        ((60.0, 110.0), 1010.0),  # 10 that do not depend on the size, and 1 a document
        ((120.0, 110.0), 110.0),  # noise: it does not fall
        ((10.0, 100.0), 1000.0),  # nor is it negative at size 0
    ],
)
def test_other_sizes_lie_on_a_line(figures: tuple[float, float], at: float) -> None:
    assert advisor._at(1000, (50, 100), figures) == pytest.approx(at)


def test_figures_of_the_exact_index_by_hand(docs: Ragged) -> None:
    queries = docs.take(np.arange(7))
    sample = Sample(docs, queries, len(docs), ["said"])
    trials = [Trial(MaxSim(codec=codec, threads=1)) for codec in ("f32", "i8")]
    found = advise(sample, trials, documents=6000)
    exact, small = found.report.rows
    tokens, width = docs.flat.shape
    per_document = (4 * tokens * width + 8 * (len(docs) + 1)) / len(docs)
    assert exact["bytes_per_document"] == pytest.approx(per_document)
    assert exact["bytes"] == pytest.approx(6000 * per_document, rel=0.1)
    assert (exact["recall"], exact["recall_low"], exact["recall_high"]) == (1.0, 1.0, 1.0)
    assert exact["recall_half"] == 1.0
    assert 0.9 < small["recall"] <= 1.0
    assert small["recall_low"] <= small["recall"] <= small["recall_high"]
    assert small["bytes_per_document"] < exact["bytes_per_document"] / 3
    assert found.chosen == "maxsim:codec=i8"
    assert found.commands == ["tokenspace retrieve maxsim --docs SAMPLE --codec i8 --out index"]
    assert found.report.notes == ["said"]
    assert found.to_dict()["choice"]["setting"] == found.chosen


def test_the_same_seed_gives_the_same_figures_apart_from_times(file: Path) -> None:
    def measured() -> list[dict[str, Any]]:
        trials, _ = grid(QUICK)
        sample = Sample.load(str(file), None, 40, seed=3)
        rows = advise(sample, trials, seed=3).report.rows
        return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]

    assert measured() == measured()


def test_pooled_documents_are_smaller_and_need_two_commands(docs: Ragged) -> None:
    sample = Sample(docs, docs.take(np.arange(5)), len(docs))
    trials = [Trial(MaxSim(threads=1)), Trial(MaxSim(threads=1), "ward:2")]
    whole, half = advise(sample, trials).report.rows
    assert half["bytes_per_document"] < 0.7 * whole["bytes_per_document"]
    assert half["recall"] <= whole["recall"] == 1.0
    assert trials[1].commands("d.npz") == [
        "tokenspace retrieve pool --docs d.npz --keep ward:2 --out pooled.safetensors",
        "tokenspace retrieve maxsim --docs pooled.safetensors --out index",
    ]


# ------------------------------------------------------------------------------- what is tried


def test_every_method_advises_settings_that_can_be_made() -> None:
    for entry in catalog.CATALOG:
        for values in entry.load().advice:
            make(entry.name, **values)


def test_the_grid_is_read_off_the_catalogue() -> None:
    trials, notes = grid()
    tried = {trial.recipe.name for trial in trials}
    for entry in catalog.members("retrieve"):
        assert entry.name in tried or any(entry.name in note for note in notes)
    assert all(getattr(trial.recipe, "threads", 1) == 1 for trial in trials)
    assert len({str(trial) for trial in trials}) == len(trials)
    assert [str(trial) for trial in grid(["maxsim:codec=f16"])[0]] == ["maxsim:codec=f16"]
    with pytest.raises(ConfigError, match="omp is not a method of retrieve"):
        grid(["omp"])


def test_what_cannot_be_built_is_said_and_the_others_stay(docs: Ragged) -> None:
    sample = Sample(docs, docs.take(np.arange(3)), len(docs))
    wide = "muvera:d_proj=32"  # wider than the vectors
    trials, _ = grid(["maxsim:codec=f32", wide])
    found = advise(sample, trials)
    assert len(found.report.rows) == 1
    assert any(note.startswith("left out: muvera") for note in found.report.notes)
    with pytest.raises(InputError, match="no setting could be built"):
        advise(sample, grid([wide])[0])


# ------------------------------------------------------------------------------ what is sampled


def test_queries_that_are_not_given_are_runs_of_documents(file: Path, docs: Ragged) -> None:
    sample = Sample.load(str(file), None, 30, seed=2)
    assert (len(sample.docs), sample.total) == (30, 60)
    assert any("no queries were given" in note for note in sample.notes)
    held = {rows.tobytes() for rows in docs}
    assert all(rows.tobytes() in held for rows in sample.docs)
    for query in sample.queries:
        assert 1 <= len(query) <= 12
        assert any(query.tobytes() in rows.tobytes() for rows in sample.docs)


def test_a_space_is_sampled_with_its_own_text_as_queries(space: Path, tmp_path: Path) -> None:
    sample = Sample.load(str(space), None, 20)
    assert len(sample.docs) == 20
    assert sample.total == len(Space.open(space))
    assert any("first sentences" in note for note in sample.notes)
    assert any("rows of one table" in note for note in sample.notes)
    (tmp_path / "asked.txt").write_text("class body\n\n\U0001f9a9\nwith statement\n")
    asked = Sample.load(str(space), str(tmp_path / "asked.txt"), 20).queries
    collection = Space.open(space).collection
    for text, query in zip(("class body", "with statement"), asked, strict=True):
        np.testing.assert_array_equal(query, collection.query(text).vectors)


def test_what_cannot_be_sampled(docs: Ragged, file: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("class body\n")
    with pytest.raises(InputError, match="cannot be asked of token vectors"):
        Sample.load(str(file), str(tmp_path / "asked.txt"), 100)
    docs.take(np.arange(5)).save(tmp_path / "few.safetensors")
    with pytest.raises(InputError, match="5 documents"):
        Sample.load(str(tmp_path / "few.safetensors"), None, 100)
    Ragged.pack([np.zeros((3, 4))]).save(tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match="narrow"):
        Sample.load(str(file), str(tmp_path / "narrow.safetensors"), 100)
    Ragged.pack([np.zeros((0, 16))], width=16).save(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="no query"):
        Sample.load(str(file), str(tmp_path / "none.safetensors"), 100)


# ----------------------------------------------------------------------------------- the commands


def test_the_command_writes_its_reports_and_prints_one_that_works(
    cli: Cli, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "advice"
    words = ("retrieve", "advise", "--sample", file, "--out", out, "--documents", 6000)
    methods = [word for method in QUICK for word in ("--method", method)]
    ended = cli(*words, *methods)
    assert ended.code == 0, ended.err
    for said in ("maxsim:codec=i8", "recall@10", "at 6,000", "no queries were given"):
        assert said in ended.out
    saved = json.loads((out / "report.json").read_text())
    assert saved["choice"]["setting"] in ended.out
    assert list(saved["inputs"]) == ["sample"]
    assert (out / "front.svg").read_text().startswith("<svg")
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2
    assert not re.findall(r"<(?:script|link|img|iframe)|(?:src|href)=.http", page)
    (command,) = saved["choice"]["commands"]
    assert command in ended.out
    again = cli(*shlex.split(command.replace("--out index", f"--out {tmp_path / 'index'}"))[1:])
    assert again.code == 0, again.err
    refused = cli(*words, *methods)
    assert (refused.code, "--force" in refused.err) == (2, True)
    printed = json.loads(cli(*words, "--method", "maxsim", "--force", "--json").out)
    assert [row["setting"] for row in printed["rows"]] == [
        "maxsim",
        "maxsim:codec=f16",
        "maxsim:codec=i8",
    ]


def test_pool_keeps_fewer_vectors(cli: Cli, file: Path, docs: Ragged, tmp_path: Path) -> None:
    out = tmp_path / "pooled.safetensors"
    ended = cli("retrieve", "pool", "--docs", file, "--keep", "spacing:2", "--out", out)
    assert ended.code == 0, ended.err
    pooled = Ragged.load(out)
    assert pooled.heights.tolist() == [-(-height // 2) for height in docs.heights]
    assert f"{len(pooled.flat):,} of {len(docs.flat):,} token vectors" in ended.out
    assert cli("retrieve", "pool", "--docs", file, "--keep", "all", "--out", out).code == 2
    wrong = ("retrieve", "pool", "--docs", file, "--force", "--out")
    assert "not known" in cli(*wrong, out, "--keep", "best:3").err
    assert "NAME.safetensors" in cli(*wrong, tmp_path / "x", "--keep", "all").err


def test_names_from_outside_are_escaped_on_the_page(docs: Ragged) -> None:
    sample = Sample(docs, docs.take(np.arange(3)), len(docs), ["<script>"])
    found = advise(sample, [Trial(MaxSim(threads=1))], path="<script>")
    page = render(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2
    assert front(found.report.rows, "bytes", "x") == front(found.report.rows, "bytes", "x")


def test_a_family_lists_its_verbs_beside_its_methods(cli: Cli) -> None:
    from tokenspace.cli import FAMILY_VERBS

    for family, verbs in FAMILY_VERBS.items():
        names = {entry.name for entry in catalog.members(family)}
        assert not names & verbs.keys()
        shown = cli(family, "--help").out
        for verb in verbs:
            assert verb in shown
            assert cli(family, verb, "--help").code == 0
    assert "'advize'" in cli("retrieve", "advize").err
