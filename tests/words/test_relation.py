"""The relation report: its lines are those of numpy, on factors that are PMI and that are not."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import ConfigError, InputError
from tokenspace.vocab import Vocabulary
from tokenspace.words import SGNS, GloVe
from tokenspace.words.relation import Factors, noise_loss, relation_report

TEXTS = zipf_text(60, 30, 3, seed=2)
WEIGHTS = 1 / np.arange(1, 6)


def whole() -> tuple[np.ndarray, np.ndarray, Corpus]:
    """Return the matrix of pairs and the counts of words, from a loop."""
    corpus = Corpus(TEXTS)
    text = corpus.encode()
    X = np.zeros((len(text.vocab), len(text.vocab)))
    for line in TEXTS:
        row = [text.vocab.ids[word] for word in line.split()]
        for i, w in enumerate(row):
            for j, c in enumerate(row):
                if 1 <= abs(i - j) <= len(WEIGHTS):
                    X[w, c] += WEIGHTS[abs(i - j) - 1]
    return X, text.counts, corpus


def test_factors_that_are_mutual_information_are_a_perfect_line() -> None:
    X, counts, corpus = whole()
    with np.errstate(divide="ignore"):
        pmi = np.log(X * X.sum() / np.outer(X.sum(axis=0), X.sum(axis=1)))
    wanted = np.where(X > 0, 2 * pmi - 1, 100)  # pairs that never meet play no part
    U, S, V = np.linalg.svd(wanted)
    biases = 3 * np.log(counts) + 5
    factors = Factors(
        corpus.encode().vocab, counts, WEIGHTS, U * S, V.T.copy(), biases, -biases, {"method": "x"}
    )
    report = relation_report(factors, corpus, threads=1)
    assert report.metrics["pmi_correlation"] == pytest.approx(1)
    assert report.metrics["pmi_slope"] == pytest.approx(2)
    assert report.metrics["pmi_intercept"] == pytest.approx(-1)
    assert report.metrics["bias_correlation"] == pytest.approx(1)
    assert report.metrics["bias_slope"] == pytest.approx(3)
    assert report.metrics["bias_intercept"] == pytest.approx(5)
    assert report.metrics["context_bias_slope"] == pytest.approx(-3)
    assert report.rows[0]["pairs"] == np.count_nonzero(X)
    assert report.rows[1]["pairs"] == np.count_nonzero(X.astype(np.float32) >= 1)


def test_the_loss_is_that_of_every_pair_and_all_noise() -> None:
    X, counts, corpus = whole()
    draw = np.random.default_rng(0)
    W, C = (draw.normal(size=(len(X), 6)) for _ in range(2))
    vocab = corpus.encode().vocab
    factors = Factors(vocab, counts, WEIGHTS, W, C, None, None, {})
    P = counts**0.75 / (counts**0.75).sum()
    f = counts / counts.sum()
    kept = np.minimum(1, (np.sqrt(f / 0.05) + 1) * 0.05 / f)
    assert (kept < 1).any()
    for sample, p in ((0, np.ones(len(X))), (0.05, kept)):
        total, weight = 0.0, 0.0
        for w in range(len(X)):
            for c in range(len(X)):
                x = X[w, c] * p[w] * p[c]
                noise = sum(P[n] * np.log1p(np.exp(W[c] @ C[n])) for n in range(len(X)))
                total += x * (np.log1p(np.exp(-W[c] @ C[w])) + 7 * noise)
                weight += x
        ours = noise_loss(factors, corpus, negatives=7, sample=sample, threads=1)
        assert ours == pytest.approx(total / weight, rel=1e-5)


def test_a_text_of_other_words_has_no_loss() -> None:
    vocab = Vocabulary.words(["a", "b"])
    factors = Factors(
        vocab, np.ones(2, np.int64), WEIGHTS, np.ones((2, 3)), np.ones((2, 3)), None, None, {}
    )
    with pytest.raises(InputError, match="no pair of words"):
        noise_loss(factors, Corpus(["c d", "a"]), negatives=1, sample=0)


def test_its_lines_are_those_of_numpy() -> None:
    X, counts, corpus = whole()
    draw = np.random.default_rng(0)
    W, C = (draw.normal(size=(len(X), 6)).astype(np.float32) for _ in range(2))
    factors = Factors(corpus.encode().vocab, counts, WEIGHTS, W, C, None, None, {})
    report = relation_report(factors, corpus, threads=1)
    chosen = X > 0
    expected = np.log(X[chosen] * X.sum()) - np.log(np.outer(X.sum(axis=1), X.sum(axis=0))[chosen])
    slope, intercept = np.polyfit(expected, (W @ C.T)[chosen], 1)
    assert report.metrics["pmi_slope"] == pytest.approx(slope, abs=1e-5)
    assert report.metrics["pmi_intercept"] == pytest.approx(intercept, abs=1e-5)
    r = np.corrcoef(expected, (W @ C.T)[chosen])[0, 1]
    assert report.metrics["pmi_correlation"] == pytest.approx(r, abs=1e-5)
    assert "bias_slope" not in report.metrics


def test_trained_factors_follow_mutual_information_and_the_counts() -> None:
    lines = zipf_text(2000, 120, 6)
    corpus = Corpus([" ".join(lines[i : i + 20]) for i in range(0, 2000, 20)])
    glove = relation_report(GloVe(dim=24, x_max=10, threads=1).factors(corpus), corpus)
    assert glove.metrics["pmi_correlation"] > 0.5
    assert glove.metrics["bias_correlation"] > 0.5
    sgns = relation_report(SGNS(dim=24, epochs=8, threads=1).factors(corpus), corpus)
    assert sgns.metrics["pmi_correlation"] > 0.5


def test_a_tree_has_no_contexts() -> None:
    with pytest.raises(ConfigError, match="negatives=0"):
        SGNS(negatives=0).factors(Corpus(TEXTS))
