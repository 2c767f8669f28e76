"""``tokenspace retrieve hybrid`` and ``search``: texts by their vectors and words together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError, FormatError, InputError, MissingExtra
from tokenspace.report import readable_bytes

if TYPE_CHECKING:
    from tokenspace.arrays import Floats2d
    from tokenspace.nn.duplex import DuplexEncoder

    from .hybrid import HybridIndex

_ABOUT, _TEXTS = "hybrid.json", "documents.jsonl"
_SHOWN = 100  # characters of a document


@click.command("hybrid")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option("--encoder", required=True, metavar="DIR", help="what encode dupmae made")
@click.option("--dims", type=int, metavar="D", help="numbers of a document's vector")
@click.option("--top", type=int, metavar="K", help="words of a document")
@click.option("--out", required=True, metavar="DIR", help="where the index goes")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def hybrid_command(
    *,
    texts: Sequence[str],
    encoder: str,
    dims: int | None,
    top: int | None,
    out: str,
    force: bool,
    as_json: bool,
) -> None:
    """Index files of TEXT, a document a line, by a vector and the strongest words of each.

    Then ask it: tokenspace retrieve search DIR "a question". By default a document has half as many
    numbers as the encoder's vectors, 384 at most, and as many words.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    from tokenspace.corpus import Corpus
    from tokenspace.io import replacing

    from .hybrid import HybridIndex

    documents = [text for text in Corpus.load(*texts) if text.strip()]
    if not documents:
        raise InputError("there is no text", hint="give a document a line")
    loaded = _encoder(encoder)
    index = HybridIndex(loaded.dense(documents, dims=dims), loaded.lexical(documents, top=top))
    about = {"encoder": str(Path(encoder).absolute()), "hash": _hash(encoder)}
    with replacing(out) as partial:
        index.save(partial)
        (partial / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        lines = (json.dumps(text, ensure_ascii=False) + "\n" for text in documents)
        (partial / _TEXTS).write_text("".join(lines), encoding="utf-8")
    figures = {
        "documents": len(index),
        "dims": index.dense.shape[1],
        "top": int(index.lexical.indptr[1]),
        "bytes": index.nbytes,
    }
    if as_json:
        return echo_json({"out": out, **figures})
    return click.echo(
        f"{out}: {len(index):,} documents of {figures['dims']} numbers and {figures['top']} words,"
        f" {readable_bytes(index.nbytes)}"
    )


@click.command("search")
@click.argument("index")
@click.argument("query", metavar="QUESTION|FILE|-", default="-")
@click.option("-k", "k", type=click.IntRange(1), default=5, show_default=True, help="documents")
@click.option(
    "--words", "most", type=click.IntRange(0), default=3, show_default=True,
    help="words to name beside each",
)  # fmt: skip
@click.option("--encoder", metavar="DIR", help="the index's encoder, where it was moved to")
@json_option
def search_command(
    *, index: str, query: str, k: int, most: int, encoder: str | None, as_json: bool
) -> None:
    """Find the documents of an INDEX, one that retrieve hybrid made, for a question.

    The question may be a file of them, one a line; - or nothing is standard input. Beside each
    document stand its score and the words that added most to it.
    """
    from .hybrid import HybridIndex

    place = Path(index)
    if not (place / _ABOUT).is_file():
        raise InputError(
            f"{index}: no hybrid index", hint="make one with tokenspace retrieve hybrid"
        )
    documents, about = _kept(place)
    found = HybridIndex.load(place)
    if len(found) != len(documents):
        raise FormatError(
            f"{index}: {len(documents)} texts of {len(found)} documents",
            hint="build the index again",
        )
    where = encoder or str(about.get("encoder"))
    loaded = _encoder(where)
    if _hash(where) != about.get("hash"):
        raise InputError(
            f"{where} is not the encoder that {index} was built with, or was trained since",
            hint="build the index again, or say where that encoder is: --encoder DIR",
        )
    questions = list(_questions(query))
    if not questions:
        raise InputError("there is no question", hint="give one, or a file of them")
    dense = loaded.dense(questions, dims=found.dense.shape[1])
    words = loaded.words(questions)
    records: list[dict[str, Any]] = [
        {"query": text, "results": results}
        for text, results in zip(
            questions, _results(found, documents, loaded, (dense, words), k, most), strict=True
        )
    ]
    if as_json:
        return echo_json(records)
    for record in records:
        if len(records) > 1:
            click.echo(record["query"])
        for result in record["results"]:
            click.echo(_line(result))
    return None


def _encoder(path: str) -> DuplexEncoder:
    try:
        from tokenspace.nn.duplex import DuplexEncoder
    except ImportError as fault:
        raise MissingExtra.named("models", "running a network") from fault
    return DuplexEncoder.load(path)


def _hash(path: str) -> str:
    from tokenspace.runner import hashes

    return hashes(path)[path]


def _kept(place: Path) -> tuple[list[str], dict[str, Any]]:
    try:
        lines = (place / _TEXTS).read_text(encoding="utf-8").split("\n")[:-1]
        documents = [str(json.loads(line)) for line in lines]
        return documents, dict(json.loads((place / _ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as fault:
        raise FormatError(
            f"{place}: not a whole hybrid index ({fault})", hint="build the index again"
        ) from fault


def _questions(given: str) -> Iterator[str]:
    from tokenspace.corpus import Corpus

    if given == "-" or any(map(os.path.exists, (given, given.partition("#")[0]))):
        return (text for text in Corpus.load(given) if text.strip())
    return iter([given] if given.strip() else [])


def _results(
    index: HybridIndex,
    documents: Sequence[str],
    encoder: DuplexEncoder,
    queries: tuple[Floats2d, Floats2d],
    k: int,
    most: int,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the documents of each query, best first, with the ``most`` words that added most."""
    surfaces = encoder.vocab.surfaces
    for words, numbers, scores in zip(queries[1], *index.search(*queries, k), strict=True):
        results = []
        for number, score in zip(numbers.tolist(), scores.tolist(), strict=True):
            ends = index.lexical.indptr[number : number + 2]
            own = index.lexical.indices[slice(*ends)]
            parts = words[own] * index.lexical.data[slice(*ends)]
            named = own[np.argsort(-parts, kind="stable")[:most]]
            texts = [surfaces[i].decode("utf-8", "replace").strip() for i in named]
            results.append(
                {"document": number, "score": score, "text": documents[number], "words": texts}
            )
        yield results


def _line(result: dict[str, Any]) -> str:
    text = " ".join(result["text"].split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    words = f"  [{', '.join(result['words'])}]" if result["words"] else ""
    return f"{result['document'] + 1:>6}  {result['score']:.2f}  {shown}{words}"
