"""``tokenspace encode diff``: where the weights of a model changed in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.encode.diff import Change
from tokenspace.errors import ConfigError
from tokenspace.report import nulled

_HEAD = ["", "relative", "largest", "cosine", "rank", "flipped", "unchanged"]


@click.command("diff")
@click.argument("base")
@click.argument("tuned")
@click.option("--svg", metavar="FILE", help="also draw the change of each layer to FILE")
@click.option("--force", is_flag=True, help="replace what is at --svg")
@json_option
def diff_command(*, base: str, tuned: str, svg: str | None, force: bool, as_json: bool) -> None:
    """Compare the weights of BASE with those of TUNED, which was trained from it.

    Prints by layer and by role: the length of the change relative to that of the weights, the
    largest change of one of them, the cosine of before and after, the effective rank of the change
    (mean over matrices), and the shares of weights whose sign flipped and that did not change.
    --json has every tensor. Only weights in safetensors are read, and no code is run.
    """
    from tokenspace.console import show_table
    from tokenspace.io import replacing

    from .diff import difference

    if svg and Path(svg).exists() and not force:
        raise ConfigError(f"{svg} exists", hint="choose another --svg, or add --force")
    found = difference(base, tuned)
    if svg:
        with replacing(svg) as partial:
            partial.write_text(found.to_svg(), encoding="utf-8")
    if as_json:
        return echo_json(nulled(found.to_dict()))
    show_table(["layer", *_HEAD[1:]], _cells(found.by_layer()), f"{base} -> {tuned}")
    show_table(["role", *_HEAD[1:]], _cells({**found.by_role(), "all": found.whole}), "by role")
    click.echo(f"{found.changed:,} of {len(found.tensors):,} tensors changed")
    for tensor in found.tensors:
        if tensor.added > 0:
            click.echo(
                f"{tensor.name}: {tensor.added:,} rows were added, "
                f"{tensor.added_norm:.2f} times as long as the others"
            )
        elif tensor.added < 0:
            click.echo(f"{tensor.name}: {-tensor.added:,} rows are gone")
    for what, names in (
        (f"only in {base}", found.missing),
        (f"only in {tuned}", found.unexpected),
        ("of another shape", found.reshaped),
        ("tied to another tensor, counted once", found.tied),
    ):
        if names:
            more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
            click.echo(f"{what}: {', '.join(names[:5])}{more}")
    return None


def _cells(changes: Mapping[str, Change]) -> list[list[str]]:
    forms = ("{:.4f}", "{:.2g}", "{:.5f}", "{:.1f}", "{:.2%}", "{:.1%}")
    return [
        [
            name,
            *(
                "-" if math.isnan(x) else form.format(x)
                for form, x in zip(forms, change.figures.values(), strict=True)
            ),
        ]
        for name, change in changes.items()
    ]
