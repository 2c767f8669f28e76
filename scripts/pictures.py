"""Record the two pictures of the README from a real space: `python scripts/pictures.py space`."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tokenspace import Space
from tokenspace.space.commands import hit_lines

QUESTION = "wait for several threads to finish"
ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"


def main(root: str) -> None:
    space = Space.open(root)
    console = Console(record=True, width=92, file=io.StringIO())
    console.print(Text(f'$ tokenspace search {root} "{QUESTION}" -k 3\n', "bold green"))
    for hit in space.search(QUESTION, k=3):
        console.print(*hit_lines(hit), sep="\n", highlight=False)
    ASSETS.mkdir(exist_ok=True)
    console.save_svg(str(ASSETS / "search.svg"), title="tokenspace search")
    page = (space.root / "report.html").read_text(encoding="utf-8")
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    (ASSETS / "recall.svg").write_text(plots[0] + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
