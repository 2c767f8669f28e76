"""Options that several families have for whole model directories."""

from __future__ import annotations

import click

__all__ = ["eval_sts", "eval_text", "matrix", "no_validate"]


def matrix() -> click.Option:
    """Return ``--matrix``."""
    return click.Option(
        ["--matrix"],
        type=click.Choice(["input", "output", "both"]),
        default=None,
        help="which matrix of a model directory, where they differ  [default: input]",
    )


def eval_text() -> click.Option:
    """Return ``--eval-text``."""
    return click.Option(
        ["--eval-text"],
        metavar="FILE",
        help="text on which both models are measured  [default: Python's documentation]",
    )


def eval_sts() -> click.Option:
    """Return ``--eval-sts``."""
    return click.Option(
        ["--eval-sts"],
        metavar="NAME",
        help="a set of rated pairs of sentences, such as stsb_dev, for an encoder",
    )


def no_validate() -> click.Option:
    """Return ``--no-validate``."""
    text = "do not load and measure the result"
    return click.Option(["--no-validate"], is_flag=True, help=text)
