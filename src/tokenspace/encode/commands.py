"""What the family does beside its methods: ``tokenspace encode classify``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import InputError

if TYPE_CHECKING:
    from .classifier import DocumentClassifier

BATCH = 1024  # texts that are held at a time


@click.command("classify")
@click.argument("model")
@click.argument("text", metavar="TEXT|FILE|-", default="-")
@click.option("--keys", "most", default=0, help="also name the words that most units took")
@json_option
def classify_command(model: str, text: str, most: int, as_json: bool) -> None:
    """Name the class of TEXT, or of every line of a file, by a MODEL that encode rcnn made.

    A FILE may also be packed, or the field of a table (posts.csv#body); - or nothing is standard
    input. Each text gives a line: the class, how probable it is, and with --keys so many words
    with their neighbours, those from which most units took their value first.
    """
    from .classifier import FILE, DocumentClassifier

    if most < 0:
        raise InputError(f"--keys {most} is below 0", hint="give 0 or more")
    if not (Path(model) / FILE).is_file():
        raise InputError(
            f"{model}: not a classifier", hint="make one with tokenspace encode rcnn --labels FILE"
        )
    records = _records(DocumentClassifier.load(model), _texts(text), most)
    if as_json:
        return echo_json(list(records))
    for record in records:
        keys = "".join(f"\t{key['text']}" for key in record.get("keys", ()))
        click.echo(f"{record['label']}\t{record['probability']:.3f}{keys}")
    return None


def _texts(given: str) -> Iterator[str]:
    from tokenspace.corpus import Corpus

    if given == "-" or any(map(os.path.exists, (given, given.partition("#")[0]))):
        return iter(Corpus.load(given))
    return iter([given])


def _records(
    model: DocumentClassifier, texts: Iterator[str], most: int
) -> Iterator[dict[str, Any]]:
    while batch := list(itertools.islice(texts, BATCH)):
        chances = model.probabilities(batch)
        keys = model.keys(batch, most=most) if most else [[]] * len(batch)
        for text, row, found in zip(batch, chances.tolist(), keys, strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            record: dict[str, Any] = {
                "text": text,
                "label": model.labels[best],
                "probability": row[best],
                "probabilities": dict(zip(model.labels, row, strict=True)),
            }
            yield record | ({"keys": [key._asdict() for key in found]} if most else {})
