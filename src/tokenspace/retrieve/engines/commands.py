"""``tokenspace index``: token vectors in an index of our own, of Lance or of Qdrant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.report import readable_bytes

if TYPE_CHECKING:
    from tokenspace.arrays import Ragged

    from .engine import Engine, Found, Id

WHERE = "INDEX is a directory, lance:URI or qdrant:URL; #NAME behind the last two names a table."
_FORM = (
    click.option("--codec", type=click.Choice(["f32", "f16", "i8"]), default="f16",
                 show_default=True, help="how token vectors are stored"),
    click.option("--fill", type=click.Choice(["auto", "on", "off"]), default="auto",
                 show_default=True, help="empty cells of encodings; auto: by the first documents"),
    click.option("--fde", default="20,4,8", show_default=True, metavar="R,K,P",
                 help="size of encodings: repetitions, hyperplanes, numbers a cell"),
    click.option("--on-empty", type=click.Choice(["raise", "zero"]), default="raise",
                 show_default=True, help="a document without tokens"),
    click.option("--exact-below", type=click.IntRange(0), default=20_000, show_default=True,
                 help="so many documents are all scored, without encodings"),
    click.option("--engine", metavar="NAME",
                 help="of a directory: faiss:flat (default), faiss:hnsw; :i8 behind it for int8"),
)  # fmt: skip


def _form_options(function: Any) -> Any:
    """Add the options that say how an index is made."""
    for option in _FORM:
        function = option(function)
    return function


@click.group("index", help=f"Keep token vectors where they can be changed.\n\n{WHERE}")
def index_command() -> None:
    """Hold the commands below together."""


@index_command.command("create", help=f"Make an empty index.\n\n{WHERE}")
@click.argument("index")
@click.option("--width", type=click.IntRange(1), help="numbers of a token vector")
@click.option("--space", metavar="SPACE", help="take width and encoder from a space")
@click.option("--encoder", default="", metavar="NAME", help="what makes the vectors: any name")
@_form_options
@json_option
def create_command(
    *,
    index: str,
    width: int | None,
    space: str | None,
    encoder: str,
    as_json: bool,
    **form: Any,
) -> None:
    """Make an empty index."""
    if space is not None:
        from tokenspace.space import Space

        from .spaces import encoder_of

        opened = Space.open(space)
        width, encoder = opened.generation.tokens.width, encoder_of(opened)
    if width is None:
        raise ConfigError("the width is missing", hint="give --width, or --space")
    with _create(index, width, encoder, form) as made:
        _say(made, as_json)


@index_command.command(
    "add",
    help="Add documents, or replace some.\n\nVECTORS is a .safetensors or .npz file with flat "
    "(tokens, width) and offsets (documents + 1), as tokenspace retrieve encode writes it. Without "
    f"--documents their ids are 0, 1, 2, and so on. {WHERE}",
)
@click.argument("index")
@click.argument("vectors")
@click.option("--documents", metavar="FILE", help='.jsonl: {"id": .., "metadata": {..}} a line')
@click.option("--update", is_flag=True, help="replace documents whose ids are there")
@click.option("--encoder", default="", metavar="NAME", help="what made the vectors")
@json_option
def add_command(
    *,
    index: str,
    vectors: str,
    documents: str | None,
    update: bool,
    encoder: str,
    as_json: bool,
) -> None:
    """Add the documents of a file with flat and offsets; without --documents ids are 0, 1, 2 ..."""
    tokens = _vectors(vectors)
    ids, metadata = _documents(documents, len(tokens))
    with _open(index, write=True) as opened:
        (opened.update if update else opened.add)(ids, tokens, metadata, encoder=encoder)
        _say(opened, as_json)


@index_command.command(
    "delete",
    help="Delete documents by their ids.\n\nAn ID of digits is a number where no text of these "
    f"digits is an id. {WHERE}",
)
@click.argument("index")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
def delete_command(*, index: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Delete documents; an ID of digits is a number where no text of these digits is an id."""
    with _open(index, write=True) as opened:
        opened.delete([_id(opened, text) for text in ids])
        _say(opened, as_json)


@index_command.command(
    "search",
    help="Find documents.\n\nQUERY in words is read by the encoder of --space; --vectors is a file "
    f"of queries as add takes it of documents. {WHERE}",
)
@click.argument("index")
@click.argument("query", nargs=-1)
@click.option("--space", metavar="SPACE", help="the space whose encoder reads the QUERY")
@click.option("--vectors", metavar="FILE", help="queries as token vectors: flat and offsets")
@click.option("--encoder", default="", metavar="NAME", help="what made these vectors")
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="documents to show")
@click.option("--candidates", type=click.IntRange(0), default=0, help="scored exactly; 0: enough")
@click.option("--where", metavar="JSON", help='a filter: {"lang": "en", "year": {"$gte": 1990}}')
@json_option
def search_command(
    *,
    index: str,
    query: tuple[str, ...],
    space: str | None,
    vectors: str | None,
    encoder: str,
    k: int,
    candidates: int,
    where: str | None,
    as_json: bool,
) -> None:
    """Find documents by words or by vectors."""
    queries, encoder = _queries(query, space, vectors, encoder)
    condition = _filter(where)
    with _open(index) as opened:
        found = opened.search(queries, k, candidates=candidates, where=condition, encoder=encoder)
        hits = [_hits(opened, one) for one in found]
    if as_json:
        echo_json(hits if vectors else hits[0])
        return
    for number, one in enumerate(hits):
        if len(hits) > 1:
            click.echo(f"query {number}")
        for hit in one:
            about = {name: value for name, value in hit["metadata"].items() if name != "text"}
            told = json.dumps(about, ensure_ascii=False) if about else ""
            click.echo(f"{hit['rank']}. {hit['id']}  {hit['score']:.4f}  {told}".rstrip())
            if hit["metadata"].get("text"):
                click.echo("   " + " ".join(str(hit["metadata"]["text"]).split())[:240])
        if not one:
            click.echo("no document is let through", err=True)


@index_command.command("info", help=f"Show what an index holds and how it searches.\n\n{WHERE}")
@click.argument("index")
@json_option
def info_command(*, index: str, as_json: bool) -> None:
    """Describe an index."""
    with _open(index) as opened:
        described = opened.info()
    if as_json:
        echo_json(described)
        return
    for name, value in described.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {item}" for key, item in value.items() if key != "muvera")
        click.echo(f"{name:<12} {readable_bytes(value) if name == 'bytes' else shown}")


@index_command.command("compact", help=f"Drop what is deleted; merge what is many.\n\n{WHERE}")
@click.argument("index")
@json_option
def compact_command(*, index: str, as_json: bool) -> None:
    """Compact an index."""
    with _open(index, write=True) as opened:
        opened.compact()
        _say(opened, as_json)


@index_command.command(
    "push",
    help="Send the passages of SPACE to an index, which is made where there is none.\n\nPassages "
    f"that it holds are replaced; what the space lost since then stays. {WHERE}",
)
@click.argument("space")
@click.argument("index")
@_form_options
@json_option
def push_command(*, space: str, index: str, as_json: bool, **form: Any) -> None:
    """Send a space's passages; an index that is not there is made, passages are replaced."""
    from tokenspace.space import Space

    from .spaces import encoder_of, push

    opened = Space.open(space)
    try:
        target = _open(index, write=True)
    except FormatError:
        raise
    except InputError:  # there is none
        target = _create(index, opened.generation.tokens.width, encoder_of(opened), form)
    with target:
        count = push(opened, target)
        if not as_json:
            click.echo(f"{space}: {count:,} passages sent", err=True)
        _say(target, as_json)


def _create(index: str, width: int, encoder: str, form: dict[str, Any]) -> Engine:
    from tokenspace.retrieve.muvera import MUVERA

    from . import create_index, place

    engine = form["engine"]
    if engine is not None and place(index).engine != "faiss":
        raise ConfigError(
            f"--engine {engine} is for a directory, not {index}", hint="leave --engine out"
        )
    try:
        repetitions, k_sim, d_proj = (int(number) for number in form["fde"].split(","))
    except ValueError as fault:
        raise ConfigError(
            f"--fde={form['fde']!r} is not three whole numbers", hint="for example 20,4,8"
        ) from fault
    recipe = MUVERA(
        repetitions=repetitions, k_sim=k_sim, d_proj=min(d_proj, width), fill=form["fill"]
    )
    settings = {name: form[name] for name in ("codec", "on_empty", "exact_below")}
    if engine is not None:
        return create_index(engine, index, width=width, encoder=encoder, muvera=recipe, **settings)
    return create_index(index, width=width, encoder=encoder, muvera=recipe, **settings)


def _open(index: str, *, write: bool = False) -> Engine:
    from . import open_index

    return open_index(index, write=write)


def _vectors(path: str) -> Ragged:
    from tokenspace.arrays import Ragged

    if not Path(path).exists():
        raise InputError(f"{path}: no such file", hint="give a file with flat and offsets")
    return Ragged.load(path)


def _queries(
    query: tuple[str, ...], space: str | None, vectors: str | None, encoder: str
) -> tuple[Ragged, str]:
    """Return the queries and the hash of their encoder."""
    if bool(query) == (vectors is not None):
        raise ConfigError(
            "give either a QUERY in words or --vectors",
            hint='tokenspace index search INDEX "some words" --space SPACE',
        )
    if vectors is not None:
        return _vectors(vectors), encoder
    if space is None:
        raise ConfigError("a QUERY in words needs an encoder", hint="--space SPACE")
    from tokenspace.space import Space

    from .spaces import encoder_of
    from .spaces import query as encoded

    opened = Space.open(space)
    return encoded(opened, " ".join(query)), encoder_of(opened)


def _filter(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as fault:
        raise ConfigError(
            f"--where is not JSON ({fault})", hint="""for example '{"year": {"$gte": 1990}}'"""
        ) from fault
    if not isinstance(found, dict):
        raise ConfigError("--where is not a JSON object", hint='for example {"lang": "en"}')
    return found


def _documents(path: str | None, count: int) -> tuple[list[Id], list[dict[str, Any]] | None]:
    """Read ids and metadata, one document a line."""
    if path is None:
        return list(range(count)), None
    ids: list[Id] = []
    metadata = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                ids.append(record["id"])
                metadata.append(record.get("metadata") or {})
            except (ValueError, TypeError, KeyError, AttributeError) as fault:
                raise InputError(
                    f"{path}: line {number} is no document ({fault})",
                    hint='every line is {"id": .., "metadata": {..}}',
                ) from fault
    if len(ids) != count:
        raise InputError(
            f"{path}: {len(ids)} documents, and {count} matrices of token vectors",
            hint="give a line for every document",
        )
    return ids, metadata


def _id(index: Engine, text: str) -> Id:
    """Return the id that a word of the command line names."""
    if text in index or not text.lstrip("-").isdecimal():
        return text
    return int(text)


def _hits(index: Engine, found: Found) -> list[dict[str, Any]]:
    documents = index.get(found.ids)
    return [
        {"rank": rank, "id": id, "score": float(score), "metadata": document.metadata}
        for rank, (id, score, document) in enumerate(
            zip(found.ids, found.scores, documents, strict=True), 1
        )
    ]


def _say(index: Engine, as_json: bool) -> None:
    if as_json:
        return echo_json(index.info())
    return click.echo(f"{index.where}: {len(index):,} documents")
