"""What ``tokenspace compare encode --model ...`` does: load, compare, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from tokenspace.console import short_names, show_table
from tokenspace.encode.evaluation.comparison import compare
from tokenspace.encode.evaluation.page import OUTCOMES, note, outcomes, render, scores
from tokenspace.encode.evaluation.results import Results, read_results
from tokenspace.encode.evaluation.sets import choose
from tokenspace.encode.evaluation.training import course
from tokenspace.io import replacing
from tokenspace.runner import hashes, load_input, located
from tokenspace.text_encoder import TextEncoder

__all__ = ["compare_models"]


def compare_models(
    paths: Sequence[str],
    *,
    results: Sequence[str],
    tasks: Sequence[str],
    baseline: str | None = None,
    alpha: float = 0.05,
    limit: int = 500,
    seed: int,
    tiny: bool,
    trust_remote_code: bool,
    out: str | None,
    html: str | None,
    as_json: bool,
) -> None:
    """Compare the encoders at ``paths`` and the ``results`` of others; print, and write files."""
    chosen = choose(tasks, built_in=tiny) if paths else []  # a wrong name is told first of all
    read = read_results(results) if results else Results({}, ())
    places = [located(TextEncoder, path) for path in paths]
    names = short_names(paths)
    loaded = {
        name: load_input(TextEncoder, place, trust_remote_code=trust_remote_code)
        for name, place in zip(names, places, strict=True)
    }
    found = compare(
        loaded, chosen, scores=read.scores, baseline=baseline, alpha=alpha,
        limit=60 if tiny else limit, built_in=tiny, seed=seed,
    )  # fmt: skip
    given = dict(zip(names, places, strict=True)) | {path: path for path in results}
    found = replace(
        found,
        notes=[*found.notes, *read.notes],
        inputs={name: hashes(place) for name, place in given.items()},
    )
    courses = {name: rows for name, place in given.items() if (rows := course(place))}
    written: list[tuple[str | None, Callable[[], str]]] = [
        (out, lambda: found.to_json() + "\n"),
        (html, lambda: render(found, courses)),
    ]
    for path, text in written:
        if path is not None:
            with replacing(Path(path)) as partial:
                partial.write_text(text(), encoding="utf-8")
    if as_json:
        return click.echo(found.to_json())
    show_table(*scores(found), found.title)
    if found.tests:
        show_table(OUTCOMES, outcomes(found))
        click.echo(note(found))
    for line in found.notes:
        click.echo(line)
    return None
