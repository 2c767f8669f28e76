"""The adapter inside mteb itself, on its tasks in memory, and the files that mteb writes.

mteb lives in an environment of its own (``make peers``):
``PYTHONPATH=src .peers/mteb/bin/python -m pytest tests/peers/test_mteb_peer.py``.
"""

from __future__ import annotations

import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tokenspace.encode.evaluation import compare_scores, read_results
from tokenspace.encode.mteb import MTEBEncoder
from tokenspace.metrics import cosine
from tokenspace.toy_encoder import ToyEncoder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the imports of mteb warn of is its own affair
    import mteb
    from mteb.mocks import mock_tasks
    from mteb.models import EncoderProtocol

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
TASKS = (
    "STS", "PairClassification", "Classification", "Clustering", "Retrieval", "Reranking",
    "BitextMining",
)  # fmt: skip


class Prompted:
    """A toy that has prompts, and keeps what it was told to put before."""

    def __init__(self, told: list[str] | None = None, prompt: str = "") -> None:
        self.prompts = {"query": "query: ", "STS": "alike: "}
        self.told = [] if told is None else told
        self.prompt, self.dim = prompt, 32

    def prompted(self, name: str) -> Prompted:
        return Prompted(self.told, name)

    def encode(self, texts: list[str], *, batch_size: int = 32) -> np.ndarray:
        self.told.append(self.prompt)
        return ToyEncoder().encode([self.prompts.get(self.prompt, "") + text for text in texts])


def task(kind: str) -> mteb.AbsTask:
    name = "MockMultilingualClusteringFastTask" if kind == "Clustering" else f"Mock{kind}Task"
    return getattr(mock_tasks, name)()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("this test must not touch the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_it_is_an_encoder_for_mteb() -> None:
    assert isinstance(MTEBEncoder(ToyEncoder()), EncoderProtocol)
    meta = MTEBEncoder(ToyEncoder(), "us/toy", "7").mteb_model_meta
    assert (meta.name, meta.revision, meta.embed_dim) == ("us/toy", "7", 32)


def test_mteb_measures_every_family_and_we_read_what_it_writes(tmp_path: Path) -> None:
    cache = mteb.ResultCache(cache_path=tmp_path)
    tasks = [task(kind) for kind in TASKS]
    for seed in (0, 1):
        encoder = MTEBEncoder(ToyEncoder(seed=seed), f"us/toy-{seed}")
        found = mteb.evaluate(encoder, tasks, cache=cache, show_progress_bar=False)
        assert len(found.task_results) == len(TASKS)
    scores, notes = read_results([tmp_path])
    assert notes == ()
    assert set(scores) == {"us/toy-0", "us/toy-1"}
    assert {family for family, _ in scores["us/toy-0"]} == {
        "sts", "pair_classification", "classification", "clustering", "retrieval", "reranking",
        "bitext_mining",
    }  # fmt: skip
    for result in found.task_results:
        key = next(key for key in scores["us/toy-1"] if key[1] == result.task_name)
        assert scores["us/toy-1"][key] == pytest.approx(result.get_score())
    assert all("cannot be significant" in test.verdict for test in compare_scores(scores))


def test_the_score_of_sts_is_the_correlation_of_our_cosines() -> None:
    sts, encoder = task("STS"), ToyEncoder()
    found = mteb.evaluate(MTEBEncoder(encoder), sts, cache=None, show_progress_bar=False)
    sts.load_data()
    rows = sts.dataset["test"]
    ours = cosine(encoder.encode(list(rows["sentence1"])), encoder.encode(list(rows["sentence2"])))
    assert found.task_results[0].get_score() == pytest.approx(spearmanr(ours, rows["score"])[0])


def test_prompts_go_by_task_type_and_side() -> None:
    encoder = Prompted()
    for kind in ("STS", "Retrieval"):
        mteb.evaluate(MTEBEncoder(encoder), task(kind), cache=None, show_progress_bar=False)
    assert set(encoder.told[:2]) == {"STS"}
    assert set(encoder.told[2:]) == {"query", ""}
