"""The real collections, where they are on this machine: loaded wrongly, BM25 would tell."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest

from tokenspace import data
from tokenspace.metrics import average_precision

BOUN = "turkish/tr_boun-ud-dev.conllu.gz"
# mean average precision of BM25 (k1 1.2, b 0.75, no stemming, no stop words), measured elsewhere
BM25 = {"cran": 0.385, "med": 0.493}


@pytest.mark.data
def test_bm25_finds_what_it_should_find() -> None:
    for name in filter(data.available, BM25):
        found = data.retrieval(name)
        index = bm25s.BM25(k1=1.2, b=0.75)
        index.index([data.words(doc) for doc in found.docs], show_progress=False)
        tokens = [data.words(query) for query in found.queries]
        ranked, _ = index.retrieve(tokens, k=len(found.docs), show_progress=False)
        figure = average_precision(ranked.astype(np.int64), found.relevant).mean()
        assert figure == pytest.approx(BM25[name], abs=0.005)


@pytest.mark.data
def test_files_that_are_here_have_the_right_checksums_and_sizes() -> None:
    for name, pairs in {"EN-MEN-TR-3k": 3000, "EN-SIMLEX-999": 999, "EN-RG-65": 65}.items():
        if data.available(name):
            assert len(data.word_pairs(name)) == pairs
    for name, pairs in {"sts2012": 2342, "sts2014": 3750, "sts2015": 3000, "stsb_dev": 897}.items():
        if data.available(name):
            assert len(data.sts(name)) == pairs
    sizes = {"definitional_pairs": 10, "equalize_pairs": 52, "gender_specific_full": 1441}
    sizes |= {"gender_specific_seed": 218, "professions": 320, "WEAT": 31}
    for name, sets in sizes.items():
        if data.available(name):
            assert len(data.word_sets(name)) == sets
    if data.available("google-analogies"):
        assert len(data.analogies()) == 19_544
    if data.available("multilingual/dicts/en_german.tsv.gz"):
        assert len(data.dictionary("german")) == 60_708
    if data.available("novels"):
        assert len(data.novels(1000)) == 1000
    if all(map(data.available, ("tr_movie_reviews_dev", "tr_kenet_dev", "tr_ner_dev", BOUN))):
        assert len(data.turkish()) == 20_888
