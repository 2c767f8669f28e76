"""``tokenspace encode train``: a better encoder out of one's own examples, with the proof."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenspace.cli import echo_report, json_option
from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from tokenspace.report import Report

_EXAMPLES = (
    "texts to learn from: a table with columns such as question and answer, anchor, positive and "
    "negative, sentence1, sentence2 and score, or text and label; or lines of text"
)


@click.command("train")
@click.argument("model")
@click.option("--pairs", "paths", metavar="FILE", multiple=True, required=True, help=_EXAMPLES)
@click.option("--out", required=True, metavar="DIR", help="where the model goes")
@click.option("--epochs", default=3.0, show_default=True, help="times that the examples are read")
@click.option("--steps", default=0, help="steps instead of --epochs")
@click.option("--batch", default=32, show_default=True, help="examples in a step")
@click.option("--lr", default=3e-5, show_default=True, help="highest learning rate")
@click.option("--held-out", default=0.1, show_default=True, help="share kept for the proof")
@click.option("--seed", default=0, show_default=True, help="of the division, batches and dropout")
@click.option("--threads", default=0, help="threads; 1: the same bytes every time")
@click.option("--force", is_flag=True, help="replace what is at --out")
@click.option("--trust-remote-code", is_flag=True, help="run code out of a model directory")
@json_option
def train_command(
    *,
    model: str,
    paths: tuple[str, ...],
    out: str,
    epochs: float,
    steps: int,
    batch: int,
    lr: float,
    held_out: float,
    seed: int,
    threads: int,
    force: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Train MODEL on examples of your own, and measure what it gained.

    What the examples are decides the loss and the measure. A tenth is held out for the proof and
    another for the choice of the best weights; training ends early where it no longer helps. The
    result opens in SentenceTransformer; README.md in it says what was done.

    An interrupted run goes on where it stopped: type the same command again.
    """
    from tokenspace.examples import Examples
    from tokenspace.io import replacing
    from tokenspace.nn.encoder import load_encoder
    from tokenspace.runner import hashes

    from .train import Settings, train_encoder

    target = Path(out)
    if target.exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    begin = time.perf_counter()
    settings = Settings(
        epochs=epochs, steps=steps, batch=batch, lr=lr, held_out=held_out, seed=seed,
        threads=threads,
    )  # fmt: skip
    examples = Examples.load(*paths)
    encoder = load_encoder(model, trust_remote_code=trust_remote_code)
    folder = target.with_name(f".{target.name}.training")
    trained = train_encoder(encoder, examples, settings=settings, folder=folder)
    report = replace(
        trained.report,
        inputs={"examples": hashes(list(paths))},
        seconds=round(time.perf_counter() - begin, 3),
    )
    with replacing(target) as partial:
        trained.encoder.save(partial)
        (partial / "report.json").write_text(report.to_json(), encoding="utf-8")
        (partial / "README.md").write_text(_card(model, report), encoding="utf-8")
    echo_report(report, out, as_json)


def _card(model: str, report: Report) -> str:
    """Return the model card."""
    settings = "\n".join(f"- {key}: {value}" for key, value in report.recipe.items())
    course = "\n".join(f"| {row['step']:.0f} | {row['figure']:.4f} |" for row in report.rows)
    notes = "\n".join(f"- {note}" for note in report.notes)
    return f"""---
library_name: sentence-transformers
tags: [sentence-transformers, feature-extraction, sentence-similarity]
---

# {model}, {report.title}

{notes}

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("path/to/this/directory").encode(["a text", "another"])
```

## Settings

{settings}

## Course

On the part that decided which weights to keep:

| step | figure |
| --- | --- |
{course}
"""
