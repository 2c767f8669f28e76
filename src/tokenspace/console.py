"""Tables on standard output, as people read them, and the short names in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["cell", "short_names", "show_table"]


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table on standard output; figures get four digits, and nothing is markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, show_header=any(columns))
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    console = Console()
    console.width = console.width if console.is_terminal else 160  # a pipe has no width
    if title:  # not the table's own, which breaks where a narrow table ends
        console.print(Text(title, "italic"))
    console.print(table)


def cell(value: object) -> str:
    """Return a value as a table shows it: figures with four digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def short_names(paths: Sequence[str]) -> list[str]:
    """Return short names of what is compared: the last parts of paths, numbered where they agree.

    >>> short_names(["runs/a", "b", "runs/1/a"])
    ['a (1)', 'b', 'a (3)']
    """
    short = [Path(path).name or path for path in paths]
    return [
        f"{name} ({index + 1})" if short.count(name) > 1 else name
        for index, name in enumerate(short)
    ]
