"""Result files of mteb in the forms that it writes, tables of scores, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenspace.encode.evaluation import compare_scores, read_results
from tokenspace.errors import FormatError, InputError


def task(name: str, **scores: object) -> dict[str, object]:
    """Return a result of one task as mteb writes it; a score is a number or a list of parts."""
    lists = {k: v if isinstance(v, list) else [("default", v, {})] for k, v in scores.items()}
    parts = {
        split: [
            {"main_score": value, "hf_subset": subset, "languages": ["eng-Latn"], **more}
            for subset, value, more in given
        ]
        for split, given in lists.items()
    }
    return {
        "dataset_revision": "1", "task_name": name, "mteb_version": "2.26.24", "scores": parts,
        "evaluation_time": 1.0, "kg_co2_emissions": None,
    }  # fmt: skip


def write(folder: Path, model: str, *tasks: dict[str, object], revision: str = "r1") -> Path:
    place = folder / model.replace("/", "__") / revision
    place.mkdir(parents=True, exist_ok=True)
    (place / "model_meta.json").write_text(json.dumps({"name": model, "revision": revision}))
    for one in tasks:
        (place / f"{one['task_name']}.json").write_text(json.dumps(one))
    return place


def test_a_folder_of_models(tmp_path: Path) -> None:
    for model, add in (("us/one", 0.0), ("us/two", 0.1)):
        write(
            tmp_path,
            model,
            task("STS12", test=0.5 + add),
            task("Banking77Classification", test=0.7),
        )
    scores, notes = read_results([tmp_path])
    assert scores["us/two"] == {
        ("sts", "STS12"): pytest.approx(0.6),
        ("classification", "Banking77Classification"): 0.7,
    }
    assert notes == ()
    again, _ = read_results([tmp_path / "us__one", tmp_path / "us__two" / "r1" / "STS12.json"])
    assert again["us/one"] == scores["us/one"]
    assert list(again["us/two"]) == [("sts", "STS12")]


def test_one_file_with_all_tasks_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"model_name": "us/one", "task_results": [task("STS12", test=0.5)]}))
    assert read_results([path]).scores == {"us/one": {("sts", "STS12"): 0.5}}


def test_a_file_without_a_name_beside_it_has_that_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "STS12.json"
    path.write_text(json.dumps(task("STS12", test=0.5)))
    assert list(read_results([path]).scores) == ["mine"]


def test_splits_and_languages_are_averaged_over_those_that_all_have(tmp_path: Path) -> None:
    both = [("en", 0.4, {}), ("fr", 0.8, {})]
    write(tmp_path, "us/one", task("STS22", test=both, dev=0.9))
    write(tmp_path, "us/two", task("STS22", test=[("fr", 0.7, {})]))
    scores, notes = read_results([tmp_path])
    assert scores["us/one"] == {("sts", "STS22"): 0.8}
    assert scores["us/two"] == {("sts", "STS22"): 0.7}
    assert notes == ("STS22: 1 of 3 splits and languages, those of all models",)
    alone = read_results([tmp_path / "us__one"]).scores["us/one"]
    assert alone[("sts", "STS22")] == pytest.approx((0.4 + 0.8 + 0.9) / 3)


def test_nothing_in_common_is_no_score(tmp_path: Path) -> None:
    write(tmp_path, "us/one", task("STS22", test=[("en", 0.4, {})]))
    write(tmp_path, "us/two", task("STS22", test=[("fr", 0.7, {})]))
    scores, notes = read_results([tmp_path])
    assert scores == {"us/one": {}, "us/two": {}}
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("name", "keys", "family"),
    [
        ("AmazonCounterfactualClassification", {}, "classification"),
        ("LegalBenchPC", {"cosine_ap": 0.5}, "pair_classification"),
        ("SprintDuplicateQuestions", {}, "pair_classification"),
        ("XNLIPairClassification", {}, "pair_classification"),
        ("ArXivHierarchicalClusteringP2P", {}, "clustering"),
        ("TwentyNewsgroupsClustering.v2", {}, "clustering"),
        ("8TagsGroups", {"v_measure": 0.5}, "clustering"),
        ("BIOSSES", {}, "sts"),
        ("SICK-R", {}, "sts"),
        ("Stakeholder", {"cosine_spearman": 0.5}, "sts"),
        ("SummEvalSummarization.v2", {"cosine_spearman": 0.5}, "summarization"),
        ("ArguAna", {"ndcg_at_10": 0.5, "map_at_1000": 0.4}, "retrieval"),
        ("SciDocsRR", {"ndcg_at_10": 0.6, "map_at_1000": 0.5}, "reranking"),
        ("AskUbuntuDupQuestions", {"map": 0.5, "mrr": 0.6}, "reranking"),
        ("MindSmallReranking", {}, "reranking"),
        ("MTOPIntent", {"accuracy": 0.5, "f1": 0.4}, "classification"),
        ("BUCCBitextMining", {"f1": 0.5}, "bitext_mining"),
        ("Something", {}, "other"),
    ],
)
def test_the_family_of_a_task(
    tmp_path: Path, name: str, keys: dict[str, float], family: str
) -> None:
    write(tmp_path, "m", task(name, test=[("default", 0.5, keys)]))
    assert list(read_results([tmp_path]).scores["m"]) == [(family, name)]


def test_a_table_of_scores(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("dataset,family,a,b\nx,STS,0.5,0.6\ny,PairClassification,70.5,71\n\n")
    assert read_results([path]).scores == {
        "a": {("sts", "x"): 0.5, ("pair_classification", "y"): 70.5},
        "b": {("sts", "x"): 0.6, ("pair_classification", "y"): 71.0},
    }
    tabs = tmp_path / "scores.tsv"
    tabs.write_text("dataset\tc\nSTS12\t0.5\nmine\t0.1\n")
    assert read_results([tabs]).scores == {"c": {("sts", "STS12"): 0.5, ("other", "mine"): 0.1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset,a,b\nx,0.5\n", "line 2: 2 cells, and 3 names"),
        ("dataset,a,b\nx,0.5,0.1\ny,0.5,\n", "line 3: b has '', not a number"),
        ("dataset,a\nx,nan\n", "the score of a on x is nan"),
        ("dataset,a\nx,0.5\nx,0.5\n", None),
        ("dataset\nx\n", "its columns are dataset"),
        ("", "its columns are none"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, said: str | None) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    if said is None:
        said = "a has two scores for x"
    with pytest.raises(InputError, match=said) as caught:
        read_results([path])
    assert caught.value.hint


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_results([tmp_path / "gone"])
    with pytest.raises(InputError, match="no result of mteb in it"):
        read_results([tmp_path])
    path = tmp_path / "x.json"
    for text in ('{"a": 1}', "[1]", '{"task_name": "STS12", "scores": {"test": [{}]}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="no result of mteb") as caught:
            read_results([path])
        assert caught.value.hint
    path.write_text(json.dumps({"mteb_dataset_name": "STS12", "test": {"cos_sim": {}}}))
    with pytest.raises(InputError, match=r"version before 1\.12"):
        read_results([path])
    path.write_text(json.dumps(task("STS12", test=[])))
    with pytest.raises(InputError, match="STS12 has no score"):
        read_results([path])
    path.write_text(json.dumps(task("STS12", test=float("nan"))))
    with pytest.raises(InputError, match="is nan"):
        read_results([path])
    table = tmp_path / "x.csv"
    table.write_bytes(b"dataset,a\nx\xff,1\n")
    with pytest.raises(FormatError, match="not a table of text"):
        read_results([table])
    path.write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        read_results([path])
    path.write_text(json.dumps(task("STS12", test=0.5)))
    (tmp_path / "model_meta.json").write_text("[]")
    with pytest.raises(FormatError, match="no name of a model"):
        read_results([path])


def test_two_revisions_of_a_model_are_told(tmp_path: Path) -> None:
    for revision in ("r1", "r2"):
        write(tmp_path, "us/one", task("STS12", test=0.5), revision=revision)
    with pytest.raises(InputError, match=r"us/one has two scores for STS12.*r1"):
        read_results([tmp_path])


def test_published_scores_are_tested(tmp_path: Path) -> None:
    # seven data sets, all won: p = 2 / 128; three models make three pairs: 3 * 2 / 128
    path = tmp_path / "scores.csv"
    rows = [f"STS{i},{0.5 + 0.01 * i},{0.4 + 0.005 * i},{0.45 - 0.002 * i}" for i in range(7)]
    path.write_text("\n".join(["dataset,a,b,c", *rows]) + "\n")
    tests = compare_scores(read_results([path]).scores)
    assert [(test.first, test.second) for test in tests] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert tests[0].p == 2 / 128
    assert tests[0].adjusted == pytest.approx(6 / 128)
    assert tests[0].verdict == "a is better"
