"""Public data sets by name, and small generators: what claims, benchmarks and tests are fed.

The data are not shipped. A file is looked for under the folder that ``TOKENSPACE_DATA`` names,
then among the copies that were downloaded before, and is downloaded only where its publisher
keeps the very same bytes. Every file is compared with the SHA-256 in ``data.sha256`` (the format
of the ``sha256sum`` tool) before it is read. A set is called by its short name (``"novels"``,
``"cran"``, ``"EN-MEN-TR-3k"``) or a file by its path (``"lm/tinyshakespeare.txt"``).
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .arrays import Floats2d, Ids, Ids2d, Ragged
from .errors import FormatError, InputError
from .io import replacing, sha256
from .pairs import Pairs
from .rng import stream
from .word_sets import WordSets

__all__ = [
    "Analogy",
    "Context",
    "Retrieval",
    "Source",
    "analogies",
    "available",
    "books",
    "cache_folder",
    "dictionary",
    "files",
    "find",
    "labelled",
    "lines",
    "manual",
    "novels",
    "records",
    "retrieval",
    "sources",
    "sts",
    "topic_docs",
    "turkish",
    "word_pairs",
    "word_sets",
    "words",
    "zipf_ctr",
    "zipf_text",
]

_WORDSIM = (
    "https://raw.githubusercontent.com/mfaruqui/eval-word-vectors/"
    "94b3dd9fdbac7ed08dbee7179cd5ee464acf0594/data/word-sim/"
)
_DEBIAS = (
    "https://raw.githubusercontent.com/tolga-b/debiaswe/"
    "6bb03ee2a0d7214339e513ca71cd0a99069dc29c/data/"
)
_PUBLIC: Mapping[str, str] = {
    "bias/WEAT.json": (
        "https://raw.githubusercontent.com/dccuchile/wefe/"
        "1998132a3e809481a7456d952f7473d191990946/wefe/datasets/data/WEAT.json"
    ),
    "bias/definitional_pairs.json": _DEBIAS + "definitional_pairs.json",
    "bias/equalize_pairs.json": _DEBIAS + "equalize_pairs.json",
    "bias/gender_specific_full.json": _DEBIAS + "gender_specific_full.json",
    "bias/gender_specific_seed.json": _DEBIAS + "gender_specific_seed.json",
    "bias/professions.json": _DEBIAS + "professions.json",
    "lm/tinyshakespeare.txt": (
        "https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt"
    ),
    "lm/wikitext2_test.txt": (
        "https://raw.githubusercontent.com/pytorch/examples/"
        "77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2/test.txt"
    ),
    "wordsim/EN-MEN-TR-3k.tsv": _WORDSIM + "EN-MEN-TR-3k.txt",
    "wordsim/EN-RG-65.tsv": _WORDSIM + "EN-RG-65.txt",
    "wordsim/EN-RW-STANFORD.tsv": _WORDSIM + "EN-RW-STANFORD.txt",
    "wordsim/EN-SIMLEX-999.tsv": _WORDSIM + "EN-SIMLEX-999.txt",
    "wordsim/EN-WS-353-REL.tsv": _WORDSIM + "EN-WS-353-REL.txt",
    "wordsim/EN-WS-353-SIM.tsv": _WORDSIM + "EN-WS-353-SIM.txt",
    "wordsim/EN-YP-130.tsv": _WORDSIM + "EN-YP-130.txt",
}
"""Files that their publishers keep byte for byte; the other ones were cut or converted."""

_ALIASES = {"google_questions-words": "google-analogies"}
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")
_BOOK = re.compile(r"^=== .+ ===$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])['\"’”)]*\s+")


class Source(NamedTuple):
    """One file: the set it belongs to, its path in the data folder, checksum, public address."""

    name: str
    path: str
    sha256: str
    url: str | None


@cache
def sources() -> tuple[Source, ...]:
    """Return every known file, in the order of their paths."""
    table = resources.files("tokenspace").joinpath("data.sha256").read_text("ascii")
    pairs = (line.split("  ", 1) for line in table.splitlines())
    return tuple(Source(_short(path), path, sum_, _PUBLIC.get(path)) for sum_, path in pairs)


def _short(path: str) -> str:
    """Name the set of a file: its folder where one set fills a folder, else its stem."""
    parts = path.split("/")
    stem = parts[-2] if len(parts) > 2 else parts[-1].split(".")[0]
    return "novels" if stem.startswith("novels_dev") else _ALIASES.get(stem, stem)


def _members(name: str) -> list[Source]:
    found = [source for source in sources() if name in (source.name, source.path)]
    if not found:
        names = sorted({source.name for source in sources()})
        near = difflib.get_close_matches(name, names, n=1)
        raise InputError(
            f"there is no data set {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"sets: {', '.join(names)}",
        )
    return found


def cache_folder() -> Path:
    """Return the folder for what may be lost: downloads, unfinished reproductions."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "tokenspace"
    if sys.platform == "win32" and (folder := os.environ.get("LOCALAPPDATA")):
        return Path(folder) / "tokenspace" / "cache"
    return Path.home() / ".cache" / "tokenspace"


def _local(source: Source) -> Path | None:
    folders = [Path(given)] if (given := os.environ.get("TOKENSPACE_DATA")) else []
    for folder in (*folders, cache_folder()):
        if (folder / source.path).is_file():
            return folder / source.path
    return None


def available(name: str) -> bool:
    """Tell whether every file of a set is on this machine; nothing is downloaded."""
    return all(_local(source) is not None for source in _members(name))


def find(name: str) -> Path:
    """Return the checked path of a set of one file, or of the file of that path.

    Raises :class:`InputError` where the file can be had nowhere, or where the set has several
    files (see :func:`files`), and :class:`FormatError` where its checksum is another one.
    """
    found = _members(name)
    if len(found) > 1:
        raise InputError(
            f"{name!r} is a set of {len(found)} files",
            hint="name one of them: " + ", ".join(source.path for source in found),
        )
    return _checked(found[0])


def files(name: str) -> list[Path]:
    """Return the checked paths of all files of a set, in the order of their names."""
    return [_checked(source) for source in _members(name)]


def _checked(source: Source) -> Path:
    path = _local(source) or _download(source)
    facts = path.stat()
    if _sum(path, facts.st_mtime_ns, facts.st_size) != source.sha256:
        raise FormatError(
            f"{path}: its SHA-256 is not that of {source.path}",
            hint="the file is damaged or another version: remove it and get it again",
        )
    return path


@cache
def _sum(path: Path, modified: int, size: int) -> str:
    """Hash a file once as long as its time of change and its size stay (the cache's key)."""
    return sha256(path)


def _download(source: Source) -> Path:
    if source.url is None:
        raise InputError(
            f"{source.path} is not on this machine and has no public address of its own",
            hint="set TOKENSPACE_DATA to the folder that holds it",
        )
    target = cache_folder() / source.path
    try:
        with urllib.request.urlopen(source.url, timeout=30) as answer, replacing(target) as partial:
            partial.write_bytes(answer.read())
            if sha256(partial) != source.sha256:
                raise FormatError(
                    f"{source.url}: the SHA-256 of the download is not {source.sha256}",
                    hint="set TOKENSPACE_DATA to a folder that holds a good copy",
                )
    except (urllib.error.URLError, TimeoutError, ConnectionError) as fault:
        raise InputError(
            f"{source.path} is not on this machine and {source.url} cannot be read ({fault})",
            hint="set TOKENSPACE_DATA to the folder that holds it, or connect to a network",
        ) from fault
    return target


def _text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def _lines(path: Path) -> list[str]:
    # not splitlines(): a field may hold one of the rarer line separators of Unicode
    return _text(path).rstrip("\n").split("\n")


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the fields of an unquoted TSV file, a row a line."""
    return (line.split("\t") for line in _lines(path))


def words(text: str) -> list[str]:
    """Split English text into lower-case words and numbers; an apostrophe stays inside a word."""
    return _WORD.findall(text.lower())


def novels(limit: int | None = None) -> list[str]:
    """Return the sentences of 39 English novels, each as lower-case words joined by a space.

    The lines of a book are joined first, since some books are hard-wrapped, and split after
    ``.``, ``!`` or ``?`` and closing quotes: 259,196 sentences of 4,372,963 words, 22,254 of
    which occur five times or more. ``limit`` keeps the first sentences only. Source: the
    100 English Novels of the Computational Stylistics Group.
    """
    sentences: list[str] = []
    for path in files("novels"):
        for book in _BOOK.split(_text(path)):
            for sentence in _SENTENCE.split(" ".join(book.split())):
                if tokens := words(sentence):
                    sentences.append(" ".join(tokens))
                if limit is not None and len(sentences) >= limit:
                    return sentences
    return sentences


def turkish() -> list[str]:
    """Return 20,888 Turkish texts as printed: film reviews, newspapers, examples of a dictionary.

    590,000 words, nine tenths of them in the reviews. Sources: the corpora of the Turkish Word
    Embeddings Repository (reviews, named entities, UD Turkish-BOUN) and UD Turkish-Kenet.
    """
    texts = [row[3] for row in list(_rows(find("tr_movie_reviews_dev")))[1:]]
    texts += [row[1] for row in list(_rows(find("tr_kenet_dev")))[1:]]
    tagged = "\n".join(row[0] for row in _rows(find("tr_ner_dev")))
    texts += [" ".join(sentence.split("\n")) for sentence in tagged.split("\n\n")]
    mark = "# text = "
    treebank = _lines(find("turkish/tr_boun-ud-dev.conllu.gz"))
    return texts + [line.removeprefix(mark) for line in treebank if line.startswith(mark)]


def books(part: int) -> list[str]:
    """Return the novels of one of the five files, each on one line and otherwise as printed."""
    texts = _BOOK.split(_text(files("novels")[part]))
    return [" ".join(book.split()) for book in texts if book.strip()]


def lines(name: str) -> list[str]:
    """Return the lines of a set of one plain text file, or of the file of that path."""
    return _lines(find(name))


def dictionary(language: str) -> Pairs:
    """Return pairs of words, English and of a language such as ``"german"`` (60,708 pairs).

    Entries of the English Wiktionary, as the WECHSEL project publishes them; some are phrases.
    """
    return Pairs.load(find(f"multilingual/dicts/en_{language}.tsv.gz"))


def word_pairs(name: str) -> list[tuple[str, str, float]]:
    """Return pairs of words with the similarity that people gave them, e.g. of ``"EN-RG-65"``."""
    pairs = []
    for first, second, score in _rows(find(name)):
        if score != "score":  # the Chinese list has a header
            pairs.append((first, second, float(score)))
    return pairs


def word_sets(name: str) -> WordSets:
    """Return a list of words or of sets of words about bias, e.g. ``"definitional_pairs"``.

    Bolukbasi et al. (2016): ``definitional_pairs``, ``equalize_pairs``, ``gender_specific_seed``,
    ``gender_specific_full`` and ``professions``; Caliskan et al. (2017): ``WEAT``, sets by name.
    """
    return WordSets.load(find(f"bias/{name}.json"))


class Context(NamedTuple):
    """An occurrence of ``word``: the text to its left and right, and its senses, mostly one."""

    word: str
    left: str
    right: str
    senses: tuple[str, ...]


def wsi(name: str) -> list[Context]:
    """Return occurrences of ambiguous words with the senses that people gave them.

    ``"hard"``, ``"line"`` and ``"serve"`` (Senseval; 4,333, 4,146 and 4,378 occurrences, the word
    called ``hard.a`` and so on) or ``"semeval2010"`` (task 14; 8,915 of 100 words, called
    ``access.n`` and so on). The word itself, in whatever form, is not part of the texts.
    """
    if name == "semeval2010":
        gold = {
            occurrence: tuple(senses.split("&&"))
            for _, occurrence, senses in (
                line.split() for line in _lines(find("semeval2010_task14_key"))
            )
        }
        found, word, number = [], "", 0
        for line in _lines(find("semeval2010_task14_contexts")):
            left, tab, right = line.partition("\t")
            if not tab:
                word, number = line.split()[0], 0
                continue
            number += 1
            found.append(Context(word, left, right, gold[f"{word}.{number}"]))
        return found
    found = []
    for line in _lines(find(f"senseval_{name}")):
        item = json.loads(line)
        tokens, place = item["text"].split(" "), item["target"]
        word = item["id"].partition(".")[0].replace("-", ".")
        left, right = " ".join(tokens[:place]), " ".join(tokens[place + 1 :])
        found.append(Context(word, left, right, tuple(item["senses"])))
    return found


class Analogy(NamedTuple):
    """A question ``a`` is to ``b`` as ``c`` is to ``d``, of the section ``category``."""

    category: str
    a: str
    b: str
    c: str
    d: str


def analogies() -> list[Analogy]:
    """Return the 19,544 questions of the Google test set (Mikolov et al. 2013), lower-cased."""
    questions, category = [], ""
    for line in _lines(find("google-analogies")):
        if line.startswith(":"):
            category = line[1:].strip().lower()
        else:
            questions.append(Analogy(category, *line.lower().split()))
    return questions


@dataclass(frozen=True, eq=False)
class Retrieval:
    """A retrieval collection: documents, queries, and which documents answer which query.

    ``titles`` and ``texts`` are of length N (either may be empty strings), ``queries`` and
    ``relevant`` of length Q; ``relevant[q]`` is the set of positions of the documents that
    answer ``queries[q]``. Only queries with a judgement are kept.
    """

    titles: list[str]
    texts: list[str]
    queries: list[str]
    relevant: list[set[int]]

    @cached_property
    def docs(self) -> list[str]:
        """What is searched: the title and the text of every document, joined by a space."""
        both = zip(self.titles, self.texts, strict=True)
        return [f"{title} {text}".strip() for title, text in both]


def retrieval(name: str) -> Retrieval:
    """Return one of the collections ``cran``, ``cisi``, ``med``, ``npl``, ``scifact_long``.

    Every judged pair counts as relevant: the grades of ``cran`` are codes (their order is
    reversed), not gains. Empty documents stay, so that positions agree with the file.
    """
    corpus, queries = (
        [json.loads(line) for line in _lines(find(f"retrieval/{name}/{file}"))]
        for file in ("corpus.jsonl.gz", "queries.jsonl")
    )
    position = {doc["_id"]: index for index, doc in enumerate(corpus)}
    relevant: dict[str, set[int]] = {}
    for query, doc, _ in list(_rows(find(f"retrieval/{name}/qrels.tsv")))[1:]:
        relevant.setdefault(query, set()).add(position[doc])
    judged = [query for query in queries if query["_id"] in relevant]
    return Retrieval(
        titles=[doc["title"] for doc in corpus],
        texts=[doc["text"] for doc in corpus],
        queries=[query["text"] for query in judged],
        relevant=[relevant[query["_id"]] for query in judged],
    )


def sts(name: str) -> list[tuple[str, str, float]]:
    """Return pairs of sentences with their similarity, e.g. of ``"sts2014"`` or ``"stsb_dev"``.

    Scores run from 0 to 5 (``SICK``: from 1 to 5). Pairs that occur twice are kept as they are.
    """
    header, *rows = _rows(find(name))
    score = header.index("score" if "score" in header else "relatedness_score")
    first = header.index("sentence1" if "sentence1" in header else "sentence_A")
    return [(row[first], row[first + 1], float(row[score])) for row in rows]


def labelled(name: str) -> list[tuple[str, str]]:
    """Return (label, text) of a set of labelled texts, e.g. ``"newsgroups20_dev"``."""
    header, *rows = _rows(find(name))
    label = header.index("label" if "label" in header else "coarse")
    text = header.index("text" if "text" in header else "question")
    return [(row[label], row[text]) for row in rows]


def records(name: str) -> list[dict[str, str]]:
    """Return the rows of a table with a line of names, e.g. ``"SICK_train"``, each by column."""
    header, *rows = _rows(find(name))
    return [dict(zip(header, row, strict=True)) for row in rows]


def manual() -> list[tuple[str, str]]:
    """Return the topics of Python's own language reference, as (title, text), sorted by title.

    Real English text that every installation carries; what claims use where data are absent.
    """
    from pydoc_data.topics import topics

    return [
        (title, text.strip()) for title, text in sorted(topics.items()) if len(text.split()) > 20
    ]


def zipf_text(
    n_sentences: int = 400, vocabulary: int = 200, topics: int = 8, seed: int = 0
) -> list[str]:
    """Make sentences of invented words, whose frequencies follow Zipf's law.

    A quarter of the words is common to all text, the rest is divided among ``topics``; each
    sentence has 6 to 16 words of one topic or common to all. Words of one topic therefore share
    their company, which is what methods that learn from co-occurrence need.
    """
    lexicon = _invented(vocabulary)
    common, rest = lexicon[: vocabulary // 4], lexicon[vocabulary // 4 :]
    if n_sentences < 1 or not common or len(rest) < topics or topics < 1:
        raise InputError(
            f"zipf_text: {n_sentences} sentences, {vocabulary} words, {topics} topics: too few",
            hint="give at least 1 sentence, 1 topic, and 4 words beside 2 for every topic",
        )
    draw = stream(seed, "zipf_text")
    sentences = []
    for _ in range(n_sentences):
        own = rest[int(draw.integers(topics)) :: topics]
        shared = draw.random(int(draw.integers(6, 17))) < 0.4
        sentences.append(" ".join(_zipf(draw, common if s else own) for s in shared))
    return sentences


def _zipf(draw: np.random.Generator, lexicon: list[str]) -> str:
    """Draw a word with probability proportional to 1 / rank, up to rounding of the inverse."""
    rank = (len(lexicon) + 1) ** draw.random()  # log-uniform over [1, n + 1)
    return lexicon[min(int(rank), len(lexicon)) - 1]


def _invented(count: int) -> list[str]:
    """Spell the numbers from 0 in syllables, at least two each, so that no two words agree."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    names = []
    for number in range(count):
        name, left = syllables[number % 70] + syllables[number // 70 % 70], number // 4900
        while left:
            name, left = name + syllables[left % 70], left // 70
        names.append(name)
    return names


def zipf_ctr(
    n_fields: int = 4,
    n_ids: int = 2_000,
    n_rows: int = 20_000,
    teacher_dim: int = 4,
    *,
    seed: int = 0,
) -> tuple[Ids2d, Ids, Ids]:
    """Make rows of categorical features whose label follows from vectors that lie behind the ids.

    Each field has twice as many ids as the one before, and their frequencies follow Zipf's law.
    Behind an id is a vector of ``teacher_dim`` numbers near one of the field's eight kinds of
    vector, whose numbers have mean and standard deviation 1. The label is drawn with the odds
    exp(2 s), where s is the sum of the inner products of all pairs of a row's fields, from its
    median and in units of its standard deviation over the rows.

    Returns
    -------
    ids : (n_rows, n_fields) int64
        Ids of all fields numbered together, in [0, n_ids), in no order within a field.
    labels : (n_rows,) int64
        0 or 1, about half of each.
    fields : (n_ids,) int64
        The field of every id.
    """
    if min(n_rows, teacher_dim) < 1 or n_fields < 2 or n_ids < 2**n_fields:
        raise InputError(
            f"zipf_ctr: {n_fields} fields, {n_ids} ids, {n_rows} rows: too few",
            hint="give at least 2 fields, 2 to the power of their number of ids, and 1 row",
        )
    draw = stream(seed, "zipf_ctr")
    edges = [(2**f - 1) * n_ids // (2**n_fields - 1) for f in range(n_fields + 1)]
    columns, behind = [], []
    for first, last in pairwise(edges):
        kinds = 1 + draw.standard_normal((8, teacher_dim))  # so that an id alone says something
        own = kinds[draw.integers(8, size=last - first)]
        behind.append(own + 0.3 * draw.standard_normal(own.shape))
        ranks = (last - first + 1) ** draw.random(n_rows)  # log-uniform over [1, n + 1)
        order = draw.permutation(last - first)
        columns.append(first + order[np.minimum(ranks.astype(np.int64), last - first) - 1])
    ids = np.stack(columns, axis=1)
    vectors = np.concatenate(behind)[ids]
    total = vectors.sum(axis=1)
    score = ((total**2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))) / 2
    score = (score - np.median(score)) / max(float(score.std()), 1e-12)
    labels = draw.random(n_rows) < 1 / (1 + np.exp(-2 * score))
    fields = np.repeat(np.arange(n_fields), np.diff(edges))
    return ids, labels.astype(np.int64), fields


def topic_docs(
    n_docs: int = 200,
    n_topics: int = 20,
    tokens: int = 24,
    width: int = 32,
    noise: float = 0.4,
    *,
    seed: int = 0,
    n_queries: int = 32,
    query_tokens: int = 8,
) -> tuple[Ragged, Ragged, list[set[int]]]:
    """Make documents of token vectors around topics, and queries that each have one answer.

    A document is about three of ``n_topics`` unit directions, in its own variant of each; its
    ``tokens``/2 to ``tokens`` rows lie around these variants, and are unit vectors of ``width``
    dimensions. A query repeats ``query_tokens`` rows of one document with ``noise`` (the length
    of the added vector beside 1) added. Documents of the same topics are its rivals.

    Returns
    -------
    docs : Ragged
        ``n_docs`` matrices, each (T_i, ``width``) float32.
    queries : Ragged
        ``n_queries`` matrices, each (``query_tokens``, ``width``) float32.
    relevant : list of set of int
        The one document that each query was made from.
    """
    if min(n_docs, n_topics, tokens, width, n_queries, query_tokens) < 1 or noise < 0:
        raise InputError("topic_docs: every size must be at least 1 and noise at least 0")
    draw = stream(seed, "topic_docs")
    centres = _unit(draw.standard_normal((n_topics, width)))

    def shake(rows: Floats2d, length: float) -> Floats2d:
        return _unit(rows + length / width**0.5 * draw.standard_normal(rows.shape))

    docs = []
    for _ in range(n_docs):
        own = shake(centres[draw.integers(n_topics, size=3)], 0.6)
        height = int(draw.integers(max(1, tokens // 2), tokens + 1))
        docs.append(shake(own[draw.integers(3, size=height)], 0.5))
    chosen = draw.permutation(n_docs)[np.arange(n_queries) % n_docs]
    queries = [
        shake(docs[i][draw.integers(len(docs[i]), size=query_tokens)], noise) for i in chosen
    ]
    return Ragged.pack(docs, width), Ragged.pack(queries, width), [{int(i)} for i in chosen]


def _unit(rows: np.ndarray) -> Floats2d:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / lengths, np.float32)
