"""Binary PV by hand, its codes in the Hamming index, dead bits, and the command line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from literal_paragraph import FULL, sigmoid
from test_pv_dbow import planted, purity

from tokenspace import cli
from tokenspace.arrays import Ragged
from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import Sampling, Weights, shape, train_documents
from tokenspace.encode.binary_pv import BinaryPV
from tokenspace.encode.paragraph import ParagraphEncoder
from tokenspace.errors import ConfigError, InputError
from tokenspace.retrieve.binary import Binary, BinaryIndex


def test_one_word_by_hand() -> None:
    # Eight bits, z = (1, -1, 0 ...): h = (1, 0 ...) with a 1 at the end. Word 0 with w_0 =
    # (0.5, 0.5, ...) and noise word 1 with w_1 = 0: scores 0.5 and 0, g = 0.1 (1 - s(0.5), -1/2).
    # e = g_0 w_0 goes back as if a had not been rounded, 8 times as fast.
    network = shape(layer="bits", join="alone", dim=8, units=8, window=0, negatives=1)
    D, W = np.zeros((1, 8), np.float32), np.zeros((2, 16), np.float32)
    D[0, :2], W[0, :2] = (1, -1), 0.5
    nothing = np.zeros(0, np.float32)
    train_documents(
        network, Weights(D.reshape(-1), nothing, W.reshape(-1), nothing, nothing),
        Sampling(np.full(2, FULL, np.uint32), np.array([1], np.int32)),
        np.array([0], np.int32), np.array([0, 1]), 0, 1, np.float32(0.1), 7,
    )  # fmt: skip
    g = 0.1 * (1 - sigmoid(np.array(0.5)))
    slope = sigmoid(np.array(1.0)) * sigmoid(np.array(-1.0))
    np.testing.assert_allclose(W[0, [0, 1, 8]], [0.5 + g, 0.5, g], atol=1e-6)
    np.testing.assert_allclose(W[1, [0, 1, 8]], [-0.05, 0, -0.05], atol=1e-6)
    np.testing.assert_allclose(
        D[0, :3], [1 + 8 * slope * g / 2, -1 + 8 * slope * g / 2, 0], atol=1e-6
    )


@pytest.mark.parametrize(
    "more", [{"dim": 0}, {"dim": 16}, {"dim": 0, "window": 2}], ids=["dbow", "real", "dm"]
)
def test_codes_of_one_topic_come_together(more: dict[str, int]) -> None:
    texts, labels = planted()
    known = np.arange(len(texts)) % 2 == 0
    train = [text for text, k in zip(texts, known, strict=True) if k]
    encoder = BinaryPV(bits=32, epochs=200, min_count=1, threads=1, **more)(Corpus(train))
    codes = encoder.documents
    assert set(np.unique(codes)) == {-1, 1}
    assert purity(codes, labels[known], codes, labels[known]) > 0.5
    new = [text for text, k in zip(texts, known, strict=True) if not k]
    asked = encoder.encode(new)
    assert purity(asked, labels[~known], codes, labels[known]) > 0.5
    real = encoder.encode_real(new[:3])
    assert real.shape == (3, more["dim"] or 32)
    if not more["dim"]:
        np.testing.assert_array_equal(asked[:3], np.where(real > 0, 1, -1))


def test_the_index_counts_the_bits_in_which_codes_differ() -> None:
    texts, _ = planted()
    encoder = BinaryPV(bits=64, epochs=20, min_count=1, threads=1)(Corpus(texts))
    codes = encoder.documents
    index = Binary(rotation="none", rerank=0, threads=1)(Ragged.single(codes))
    numbers, distances = index.find(Ragged.single(codes[:5]), len(codes))
    for row in range(5):
        differ = (codes != codes[row]).sum(axis=1)
        np.testing.assert_array_equal(distances[row], differ[numbers[row]])
        np.testing.assert_array_equal(distances[row], np.sort(differ))
    assert index.codes.nbytes == len(codes) * 64 // 8


def test_dead_bits_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    texts, _ = planted()
    encoder = BinaryPV(bits=8, dim=0, epochs=1, min_count=1, threads=1)(Corpus(texts))
    assert encoder.dead == ()
    assert encoder.metrics["dead_bits"] == 0
    with caplog.at_level(logging.WARNING, logger="tokenspace"):
        one = BinaryPV(bits=8, epochs=1, min_count=1, threads=1)(Corpus(["a b"]))
    assert one.dead == tuple(range(8))  # one document: every bit is always the same
    assert one.metrics["dead_bits"] == 8
    assert "8 of 8 bits are dead" in caplog.text


def test_bits_go_in_eights() -> None:
    with pytest.raises(ConfigError, match="bits=12 is not a multiple of 8"):
        BinaryPV(bits=12)


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.root, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_from_texts_to_an_index_on_the_command_line(tmp_path: Path) -> None:
    texts, _ = planted()
    place = {name: str(tmp_path / name) for name in ("e", "docs.txt", "docs.safetensors", "index")}
    (tmp_path / "docs.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    knobs = ("--bits", "64", "--epochs", "60", "--min-count", "1", "--threads", "1")
    run("encode", "binary_pv", "--corpus", place["docs.txt"], *knobs, "--out", place["e"])
    figures = json.loads((tmp_path / "e" / "report.json").read_text())["metrics"]
    assert figures["dead_bits"] == len(ParagraphEncoder.load(place["e"]).dead) < 64
    encoding = ("retrieve", "encode", place["docs.txt"], "--encoder", place["e"], "--whole")
    run(*encoding, "--out", place["docs.safetensors"])
    signs = ("--rotation", "none", "--rerank", "0")
    run("retrieve", "binary", "--docs", place["docs.safetensors"], *signs, "--out", place["index"])
    index, encoder = BinaryIndex.load(place["index"]), ParagraphEncoder.load(place["e"])
    codes = encoder.encode(texts)
    numbers, scores = index.search(Ragged.single(codes), 1)
    assert (scores == 64).all()
    np.testing.assert_array_equal(codes[numbers[:, 0]], codes)
    (tmp_path / "docs.txt").write_text(f"{texts[0]}\nunheard of\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2 gives no vector"):
        run(*encoding, "--out", str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match="--keep is about"):
        run(*encoding, "--keep", "all", "--out", str(tmp_path / "other.safetensors"))
