"""The data sets that encoders are compared on: local ones by name, built-in ones, and users' files.

The local ones lie where ``TOKENSPACE_DATA`` says. The built-in ones are made of the language
reference that every Python carries: they are there on any machine, and say something about an
encoder, but nobody has judged them. Large sets are cut by a seed, to ``limit`` pairs, texts or
documents.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from tokenspace import data
from tokenspace.encode.evaluation.tasks import FAMILIES, Given, Labelled, Scored, Search, pairs
from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.rng import stream

__all__ = ["BUILT_IN", "SETS", "Chosen", "choose"]

ANSWERS = 10  # of a query that has more, so that a cut set keeps many queries
CANDIDATES = 20  # documents that a reranker sees beside the answers
Draw = np.random.Generator
Row = tuple[str, str, float]


@dataclass(frozen=True)
class Chosen:
    """A data set of one family: a known one, or a file."""

    family: str
    name: str
    path: str = ""

    @property
    def available(self) -> bool:
        """Whether it can be had without a download."""
        if self.path or self.name in BUILT_IN.get(self.family, {}):
            return True
        return data.available(SETS[self.family][self.name][0])

    def load(self, *, limit: int = 500, seed: int = 0) -> Given:
        """Return what is asked, at most ``limit`` pairs, texts or documents, drawn by ``seed``."""
        draw = stream(seed, "cut", self.name)
        if self.path:
            return _of_file(self.family, self.path, draw, limit)
        if self.name in BUILT_IN.get(self.family, {}):
            return BUILT_IN[self.family][self.name](draw, limit)
        return SETS[self.family][self.name][1](draw, limit)


# ------------------------------------------------------------------------------------- cutting


def _cut_pairs(rows: Iterable[Row], draw: Draw, limit: int) -> Scored:
    every = pairs(rows)
    chosen = np.sort(draw.permutation(len(every.scores))[:limit]).tolist()
    return Scored(*([column[i] for i in chosen] for column in every))


def _cut_texts(rows: Iterable[tuple[str, str]], draw: Draw, limit: int) -> Labelled:
    """Keep ``limit`` of (label, text), blank texts left out."""
    every = [(label, text) for label, text in rows if text.strip()]
    chosen = np.sort(draw.permutation(len(every))[:limit]).tolist()
    return Labelled([every[i][1] for i in chosen], [every[i][0] for i in chosen])


def _cut_search(
    queries: Sequence[str],
    docs: Sequence[str],
    relevant: Sequence[set[int]],
    draw: Draw,
    limit: int,
) -> Search:
    """Take queries, ten answers of each, and other documents, at most ``limit`` documents.

    Half of the documents at most are answers. What else answers a query that was taken is left
    out.
    """
    kept: list[int] = []
    answers: set[int] = set()
    for query in draw.permutation(len(queries)).tolist():
        if len(kept) >= max(1, limit // 5):
            break
        own = draw.permutation(sorted(relevant[query]))[:ANSWERS].tolist()
        if not kept or len(answers.union(own)) <= limit // 2:
            kept.append(query)
            answers.update(own)
    known = {doc for query in kept for doc in relevant[query]}
    others = [doc for doc in draw.permutation(len(docs)).tolist() if doc not in known]
    chosen = sorted([*answers, *others[: max(0, limit - len(answers))]])
    place = {doc: index for index, doc in enumerate(chosen)}
    return Search(
        [queries[query] for query in kept],
        [docs[doc] for doc in chosen],
        [frozenset(place[doc] for doc in relevant[query] if doc in answers) for query in kept],
    )


def _with_candidates(search: Search) -> Search:
    """Let every query order its answers and the ``CANDIDATES`` others that BM25 puts first."""
    import bm25s

    index = bm25s.BM25()
    index.index([data.words(doc) or [""] for doc in search.docs], show_progress=False)
    candidates = []
    for query, answers in zip(search.queries, search.relevant, strict=True):
        known = [word for word in data.words(query) if word in index.vocab_dict]
        scores = index.get_scores(known) if known else np.zeros(len(search.docs))
        best = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in answers]
        candidates.append(sorted([*answers, *best[:CANDIDATES]]))
    return search._replace(candidates=candidates)


# ------------------------------------------------------------------------------------ local sets


def _sts(name: str, subset: str) -> Callable[[Draw, int], Given]:
    def load(draw: Draw, limit: int) -> Given:
        if name.startswith("SICK"):
            rows = data.records(name)
            return _cut_pairs(
                ((r["sentence_A"], r["sentence_B"], float(r["relatedness_score"])) for r in rows),
                draw,
                limit,
            )
        known = {pair for year in _SUBSETS if year < name for pair in _asked(year)}
        rows = [
            row
            for row in data.records(name)
            if row.get("subset", row.get("id", "")).startswith(subset)
            and frozenset((row["sentence1"], row["sentence2"])) not in known
        ]
        return _cut_pairs(
            ((r["sentence1"], r["sentence2"], float(r["score"])) for r in rows), draw, limit
        )

    return load


@cache
def _asked(year: str) -> frozenset[frozenset[str]]:
    """Return the pairs of a year of STS: some are asked again in later ones."""
    return frozenset(frozenset((r["sentence1"], r["sentence2"])) for r in data.records(year))


def _labelled(name: str) -> Callable[[Draw, int], Given]:
    return lambda draw, limit: _cut_texts(data.labelled(name), draw, limit)


def _occupations(draw: Draw, limit: int) -> Given:
    rows = data.records("onet_occupations_dev")
    return _cut_texts(((row["code"][:2], row["description"]) for row in rows), draw, limit)


def _definitions(draw: Draw, limit: int) -> Given:
    rows = (row for row in data.records("oewn_definitions_dev") if row["pos"] == "n")
    wanted = {"animal", "artifact", "body", "food", "location", "person", "plant", "substance"}
    named = ((row["lexfile"].removeprefix("noun."), row["definition"]) for row in rows)
    return _cut_texts(((label, text) for label, text in named if label in wanted), draw, limit)


def _entailment(draw: Draw, limit: int) -> Given:
    rows = data.records("SICK_train")
    return _cut_pairs(
        (
            (r["sentence_A"], r["sentence_B"], float(r["entailment_judgment"] == "ENTAILMENT"))
            for r in rows
        ),
        draw,
        limit,
    )


def _matched(groups: Mapping[str, Sequence[tuple[str, str]]], draw: Draw) -> Iterator[Row]:
    """Yield every (text, its own) as 1, and as 0 with what belongs to another of its group."""
    for group in groups.values():
        others = draw.permutation(len(group)).tolist()
        for index, (text, own) in enumerate(group):
            yield text, own, 1.0
            other = others[index]
            if group[other][0] != text and group[other][1] != own:
                yield text, group[other][1], 0.0


def _grouped(rows: Iterable[tuple[str, str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Return (text, its own) by group, out of (group, text, its own)."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for group, text, own in rows:
        groups.setdefault(group, []).append((text, own))
    return groups


def _head(cell: str) -> str:
    """Return the first of several values in one cell."""
    return cell.partition(" | ")[0]


def _diseases(draw: Draw, limit: int) -> Given:
    rows = [row for row in data.records("do_cancer_slim") if row["synonyms"]]
    named = ((r["parents"], r["name"], _head(r["synonyms"])) for r in rows)
    different = (row for row in named if row[1].casefold() != row[2].casefold())
    return _cut_pairs(_matched(_grouped(different), draw), draw, limit)


def _job_titles(draw: Draw, limit: int) -> Given:
    titles = {row["code"]: row["title"] for row in data.records("onet_occupations_dev")}
    first = {row["code"]: row["alternate_title"] for row in _shuffled_titles(draw)}
    rows = ((code[:2], titles[code], first[code]) for code in sorted(titles) if code in first)
    return _cut_pairs(_matched(_grouped(rows), draw), draw, limit)


def _shuffled_titles(draw: Draw) -> list[dict[str, str]]:
    rows = data.records("onet_alternate_titles_dev")
    return [rows[i] for i in draw.permutation(len(rows)).tolist()]


def _senses(draw: Draw, limit: int) -> Given:
    """Pair a definition with an example of its own sense, or of another sense of the word."""
    rows = [row for row in data.records("oewn_definitions_dev") if row["examples"]]
    named = (
        (f"{_head(r['members'])} {r['pos']}", r["definition"], _head(r["examples"])) for r in rows
    )
    groups = {word: group for word, group in _grouped(named).items() if len(group) > 1}
    return _cut_pairs(_matched(groups, draw), draw, limit)


def _subjects(draw: Draw, limit: int) -> Given:
    """Pair the subject of a post with its text, or with another of its group."""
    rows = data.records("newsgroups20_dev")
    named = ((r["label"], r["subject"], r["text"]) for r in rows if r["text"] and r["subject"])
    return _cut_pairs(_matched(_grouped(named), draw), draw, limit)


def _captions(draw: Draw, limit: int) -> Given:
    """Pair two captions of a picture, or one with the most alike by words of another picture."""
    rows = data.records("multi30k_five_captions_val")
    rows = [rows[i] for i in draw.permutation(len(rows)).tolist()][:limit]
    bags = [frozenset(data.words(row["c2"])) for row in rows]
    found: list[Row] = []
    for index, row in enumerate(rows):
        own = frozenset(data.words(row["c1"]))
        alike = [len(own & bag) / max(1, len(own | bag)) for bag in bags]
        alike[index] = -1.0
        found.append((row["c1"], row["c2"], 1.0))
        found.append((row["c1"], rows[int(np.argmax(alike))]["c2"], 0.0))
    return _cut_pairs(found, draw, limit)


def _search(name: str, *, rerank: bool) -> Callable[[Draw, int], Given]:
    def load(draw: Draw, limit: int) -> Given:
        found = data.retrieval(name)
        cut = _cut_search(found.queries, found.docs, found.relevant, draw, limit)
        return _with_candidates(cut) if rerank else cut

    return load


def _jobs(*, rerank: bool) -> Callable[[Draw, int], Given]:
    """Search the occupation that a title, which it may also have, belongs to."""

    def load(draw: Draw, limit: int) -> Given:
        rows = data.records("onet_occupations_dev")
        place = {row["code"]: index for index, row in enumerate(rows)}
        answers: dict[str, set[int]] = {}
        for row in _shuffled_titles(draw):
            if row["code"] in place and (len(answers) < limit or row["alternate_title"] in answers):
                answers.setdefault(row["alternate_title"], set()).add(place[row["code"]])
        docs = [f"{row['title']}. {row['description']}" for row in rows]
        cut = _cut_search(list(answers), docs, list(answers.values()), draw, limit)
        return _with_candidates(cut) if rerank else cut

    return load


Loader = Callable[[Draw, int], Given]
_CLASSES = (
    "ag_news_dev", "cr_products_5", "medical_abstracts_dev", "movie_reviews_dev", "mr_dev",
    "newsgroups20_dev", "sst2_phrases", "subj_dev", "trec_qc_train",
)  # fmt: skip
_TOPICS = ("ag_news_dev", "medical_abstracts_dev", "newsgroups20_dev", "trec_qc_train")
_SUBSETS = {
    "sts2012": ("OnWN", "SMTeuroparl.test", "SMTnews"),
    "sts2014": ("OnWN", "deft-forum", "deft-news", "headlines", "images", "tweet-news"),
    "sts2015": ("answers-forums", "answers-students", "belief", "headlines", "images"),
}
_COLLECTIONS = ("cisi", "cran", "med", "npl", "scifact_long")

SETS: Mapping[str, Mapping[str, tuple[str, Loader]]] = {
    "sts": {
        **{
            f"{name}/{subset.removesuffix('.test')}": (name, _sts(name, subset))
            for name, subsets in _SUBSETS.items()
            for subset in subsets
        },
        "sts2017": ("stsb_dev", _sts("stsb_dev", "track5")),  # the rest recurs from years before
        "SICK": ("SICK_trial", _sts("SICK_trial", "")),
    },
    "pair_classification": {
        "captions": ("multi30k_five_captions_val", _captions),
        "diseases": ("do_cancer_slim", _diseases),
        "entailment": ("SICK_train", _entailment),
        "job-titles": ("onet_alternate_titles_dev", _job_titles),
        "subjects": ("newsgroups20_dev", _subjects),
        "word-senses": ("oewn_definitions_dev", _senses),
    },
    "classification": {name.removesuffix("_dev"): (name, _labelled(name)) for name in _CLASSES},
    "clustering": {
        **{name.removesuffix("_dev"): (name, _labelled(name)) for name in _TOPICS},
        "definitions": ("oewn_definitions_dev", _definitions),
        "occupations": ("onet_occupations_dev", _occupations),
    },
    "retrieval": {
        **{name: (name, _search(name, rerank=False)) for name in _COLLECTIONS},
        "jobs": ("onet_alternate_titles_dev", _jobs(rerank=False)),
    },
    "reranking": {
        **{name: (name, _search(name, rerank=True)) for name in _COLLECTIONS},
        "jobs": ("onet_alternate_titles_dev", _jobs(rerank=True)),
    },
}
"""Every local set of every family: the file that it needs, and how it is made of it."""


# ---------------------------------------------------------------------------------- built-in sets


@cache
def _paragraphs() -> tuple[tuple[str, str], ...]:
    """Return (topic, paragraph) of the language reference: prose of 16 to 120 words."""
    found: dict[str, str] = {}
    for topic, page in data.manual():
        for block in re.split(r"\n\s*\n", page):
            text = " ".join(block.split())
            prose = sum(c.isalpha() or c == " " for c in text) > 0.85 * len(text)
            if prose and not block.startswith("   ") and 16 <= len(text.split()) <= 120:
                found.setdefault(text, topic)
    return tuple((topic, text) for text, topic in found.items())


def _halves() -> dict[str, list[tuple[str, str]]]:
    """Return the halves of every paragraph by topic."""
    rows = []
    for topic, text in _paragraphs():
        words = text.split()
        middle = len(words) // 2
        rows.append((topic, " ".join(words[:middle]), " ".join(words[middle:])))
    return _grouped(rows)


def _reference_sts(draw: Draw, limit: int) -> Given:
    """Score 2 for halves of a paragraph, 1 for those of a topic, 0 for those of two topics."""
    groups = _halves()
    rows: list[Row] = []
    flat = [(topic, own) for topic, group in groups.items() for _, own in group]
    for topic, group in groups.items():
        for first, own, score in _matched({topic: group}, draw):
            rows.append((first, own, 1 + score))
            if score:
                other, text = flat[int(draw.integers(len(flat)))]
                if other != topic:
                    rows.append((first, text, 0.0))
    return _cut_pairs(rows, draw, limit)


def _reference_topics(draw: Draw, limit: int) -> Given:
    sizes: dict[str, int] = {}
    for topic, _ in _paragraphs():
        sizes[topic] = sizes.get(topic, 0) + 1
    most = sorted(sizes, key=lambda topic: (-sizes[topic], topic))[:8]
    return _cut_texts((row for row in _paragraphs() if row[0] in most), draw, limit)


def _reference_search(*, rerank: bool) -> Loader:
    def load(draw: Draw, limit: int) -> Given:
        halves = [pair for group in _halves().values() for pair in group]
        answers: dict[str, set[int]] = {}
        for index, (first, _) in enumerate(halves):
            answers.setdefault(first, set()).add(index)
        docs = [second for _, second in halves]
        cut = _cut_search(list(answers), docs, list(answers.values()), draw, limit)
        return _with_candidates(cut) if rerank else cut

    return load


BUILT_IN: Mapping[str, Mapping[str, Loader]] = {
    "sts": {"python": _reference_sts},
    "pair_classification": {
        "python": lambda draw, limit: _cut_pairs(_matched(_halves(), draw), draw, limit)
    },
    "classification": {"python": _reference_topics},
    "clustering": {"python": _reference_topics},
    "retrieval": {"python": _reference_search(rerank=False)},
    "reranking": {"python": _reference_search(rerank=True)},
}
"""The sets that are made of Python's own documentation."""


# ---------------------------------------------------------------------------------- users' files


_FAMILY_OF = {
    "scored": "sts", "labelled": "classification", "pairs": "retrieval", "triplets": "reranking",
}  # fmt: skip
_KINDS = {
    "sts": "scored", "pair_classification": "scored", "classification": "labelled",
    "clustering": "labelled", "retrieval": "pairs", "reranking": "triplets",
}  # fmt: skip


def _of_file(family: str, path: str, draw: Draw, limit: int) -> Given:
    examples = Examples.load(path)
    if examples.kind != _KINDS[family]:
        raise InputError(
            f"{path}: {examples.kind} are nothing for {family}",
            hint=f"{family} takes {_KINDS[family]}; leave {family}: out, or give another file",
        )
    columns = examples.columns
    if examples.scores is not None:
        rows = zip(columns["anchor"], columns["positive"], examples.scores, strict=True)
        return _cut_pairs(rows, draw, limit)
    if examples.kind == "labelled":
        return _cut_texts(zip(columns["label"], columns["text"], strict=True), draw, limit)
    numbers: dict[str, int] = {}
    answers: dict[str, set[int]] = {}
    rivals: dict[str, set[int]] = {}
    for row, (query, doc) in enumerate(zip(columns["anchor"], columns["positive"], strict=True)):
        answers.setdefault(query, set()).add(numbers.setdefault(doc, len(numbers)))
        for column in examples.negative_columns:
            if column[row].strip():
                own = rivals.setdefault(query, set())
                own.add(numbers.setdefault(column[row], len(numbers)))
    if examples.kind == "pairs":
        return _cut_search(list(answers), list(numbers), list(answers.values()), draw, limit)
    queries = list(answers)
    chosen = [queries[i] for i in np.sort(draw.permutation(len(queries))[:limit]).tolist()]
    return Search(
        chosen,
        list(numbers),
        [frozenset(answers[query]) for query in chosen],
        [sorted(answers[query] | rivals.get(query, set())) for query in chosen],
    )


def choose(given: Sequence[str] = (), *, built_in: bool = False) -> list[Chosen]:
    """Return the sets that are named: a family, a set, or a file (``FAMILY:FILE``).

    Without names, every set; of a family none of whose local sets is on this machine, or with
    ``built_in``, the built-in ones.
    """
    found: dict[tuple[str, str], Chosen] = {}
    for text in given or FAMILIES:
        for item in _resolve(text, built_in=built_in):
            taken = found.setdefault((item.family, item.name), item)
            if taken != item:  # a file that is called like another, or like a set
                found.setdefault((item.family, item.path), replace(item, name=item.path))
    return list(found.values())


def _resolve(text: str, *, built_in: bool) -> list[Chosen]:
    if text in FAMILIES:
        local = [Chosen(text, name) for name in SETS[text]]
        if built_in or not any(item.available for item in local):
            return [Chosen(text, name) for name in BUILT_IN[text]]
        return local
    named = [
        Chosen(family, name)
        for family in FAMILIES
        for name in (*SETS[family], *BUILT_IN[family])
        if text in (name, f"{family}:{name}")
    ]
    if named:
        return named
    family, colon, path = text.partition(":")
    if colon and family in FAMILIES:
        return [Chosen(family, Path(path.partition("#")[0]).name, _existing(path))]
    if Path(text.partition("#")[0]).exists():
        kind = Examples.load(text).kind
        if kind not in _FAMILY_OF:
            raise InputError(
                f"{text}: {kind} without scores, labels or pairs cannot be asked about",
                hint="give columns such as text,label or sentence1,sentence2,score",
            )
        return [Chosen(_FAMILY_OF[kind], Path(text.partition("#")[0]).name, text)]
    names = [*FAMILIES, *dict.fromkeys(name for family in SETS.values() for name in family)]
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"families: {', '.join(FAMILIES)}"
    raise ConfigError(f"{text!r} is no task, no set and no file", hint=hint)


def _existing(path: str) -> str:
    if not Path(path.partition("#")[0]).exists():
        raise InputError(f"{path}: no such file", hint="check the path")
    return path
