"""Figures of ranked lists against trec_eval."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval

from tokenspace import metrics

pytestmark = pytest.mark.peer


def test_figures_of_rankings_are_those_of_trec_eval() -> None:
    draw = np.random.default_rng(0)
    ranked = np.array([draw.permutation(300)[:150] for _ in range(40)])
    relevant = [set(draw.choice(300, draw.integers(1, 60), replace=False)) for _ in range(40)]
    judged = {str(q): {str(d): 1 for d in wanted} for q, wanted in enumerate(relevant)}
    run = {
        str(q): {str(d): float(-place) for place, d in enumerate(row)}
        for q, row in enumerate(ranked)
    }
    names = {"ndcg_cut.10,100", "recall.10,100", "map", "recip_rank", "ndcg"}
    found = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(run)
    for name, ours in {
        "ndcg_cut_10": metrics.ndcg_at(ranked, relevant, 10),
        "ndcg_cut_100": metrics.ndcg_at(ranked, relevant, 100),
        "recall_10": metrics.recall_at(ranked, relevant, 10),
        "recall_100": metrics.recall_at(ranked, relevant, 100),
        "map": metrics.average_precision(ranked, relevant),
        "recip_rank": metrics.reciprocal_rank(ranked, relevant),
    }.items():
        theirs = [found[str(q)][name] for q in range(40)]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
