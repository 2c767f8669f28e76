"""Write the skeleton of a new method: recipe, claim, test, and the line in the catalogue.

``make new FAMILY=words NAME=glove`` runs it. The skeleton passes the linters; its call says that
it is not written, so every contract test fails until it is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tokenspace import catalog
from tokenspace.errors import ConfigError, TokenspaceError

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "tokenspace"

INPUTS = {
    "Corpus": "from tokenspace.corpus import Corpus",
    "EmbeddingTable": "from tokenspace.table import EmbeddingTable",
    "Floats2d": "from tokenspace.arrays import Floats2d",
    "Checkpoint": "from tokenspace.checkpoint import Checkpoint",
    "Hypernet": "from tokenspace.transplant.hypernet import Hypernet",
    "Index": "from tokenspace.retrieve import Index",
    "LanguageModel": "from tokenspace.lm import LanguageModel",
    "Lookup": "from tokenspace.compress import Lookup",
    "Pairs": "from tokenspace.pairs import Pairs",
    "Ragged": "from tokenspace.arrays import Ragged",
    "TextEncoder": "from tokenspace.text_encoder import TextEncoder",
    "Vocabulary": "from tokenspace.vocab import Vocabulary",
}

RECIPE = '''"""{summary}

The idea
--------
What the method does and why it works, in plain words.

Equations
---------
With the names that the code uses, and the shape of every array.

Departures from the paper
-------------------------
What is done otherwise here, and why.

Cost
----
Time and memory, in the sizes of the inputs.

When not to use it
------------------
The cases in which another method of the family is the better choice.

Reference
---------
Authors, "Title", venue and year, the section of each equation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

{imports}
from tokenspace.recipe import Range, Recipe

__all__ = ["{cls}"]


@dataclass(frozen=True, kw_only=True)
class {cls}(Recipe):
    """{summary}"""

    strength: Annotated[float, Range(0, 1), "replace this knob by the method's own"] = 0.5

    tiny: ClassVar[Mapping[str, Any]] = {{}}

    def __call__(self, {arguments}, /) -> {result}:
        """Say what is returned, with shapes, and what is raised."""
        raise NotImplementedError("{name}: write the call")
'''

CLAIM = '''"""The claim of ``{name}``: say in one sentence what the paper promises."""

from __future__ import annotations

from tokenspace.recipe import Recipe
from tokenspace.report import Claim

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="What the method does better.",
    paper="{paper}",
    metric="quality",
    better="higher",
    baseline="what the method is compared with",
    margin=0.05,
    scale="the paper's experiment; and the one here",
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the figures of one side on one seed; ``None`` is the baseline."""
    raise NotImplementedError("{name}: write the measurement")
'''

TEST = '''"""{cls} against a case computed by hand, a literal transcription, and its limit."""

from __future__ import annotations

import pytest

from tokenspace.{family} import {cls}


@pytest.mark.parametrize("case", ["by hand", "literal transcription", "limit"])
def test_oracle(case: str) -> None:
    pytest.fail(f"{cls}: write the case {{case!r}}")
'''

ENTRY = """    Entry(
        "{family}",
        "{name}",
        "tokenspace.{family}.{name}:{cls}",
        "{paper}",
        "{summary}",
    ),
"""


def skeleton(family: str, name: str) -> dict[Path, str]:
    """Return the texts of the new files and of the changed catalogue, by path."""
    verb = catalog.family(family)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"NAME={name!r} is not a module's name", hint="use a-z, 0-9 and _")
    if any(entry.name == name for entry in catalog.CATALOG):
        raise ConfigError(f"{name!r} is in the catalogue already", hint="choose another NAME")
    names, _, result = verb.signature.partition("->")
    inputs = re.findall(r"\w+", names.partition("|")[0])
    closed = __import__(f"tokenspace.{family}", fromlist=["EVIDENCE"]).EVIDENCE
    result = result.strip()
    kinds = dict.fromkeys([*(closed[item] for item in inputs), result])
    fill = {
        "family": family,
        "name": name,
        "cls": name.upper() if len(name) <= 4 else name.title().replace("_", ""),
        "summary": "Say in one line what the method does.",
        "paper": "arXiv:0000.00000",
        "imports": "\n".join(sorted(INPUTS[kind] for kind in kinds)),
        "arguments": ", ".join(f"{item}: {closed[item]}" for item in inputs),
        "result": result,
    }
    return {
        PACKAGE / family / f"{name}.py": RECIPE.format(**fill),
        PACKAGE / "claims" / f"{name}.py": CLAIM.format(**fill),
        REPOSITORY / "tests" / family / f"test_{name}.py": TEST.format(**fill),
        PACKAGE / "catalog.py": with_entry(family, name, ENTRY.format(**fill)),
    }


def with_entry(family: str, name: str, line: str) -> str:
    """Return the catalogue's text with one more entry, at its place in the order."""
    text = (PACKAGE / "catalog.py").read_text(encoding="utf-8")
    order = [item.name for item in catalog.FAMILIES]
    place = (order.index(family), name)
    for entry in catalog.CATALOG:
        if (order.index(entry.family), entry.name) > place:
            before = f'    Entry(\n        "{entry.family}",\n        "{entry.name}",\n'
            return text.replace(before, line + before)
    head, close, tail = text.partition("    ),\n)\n\n\ndef find")
    return head + "    ),\n" + line + close.removeprefix("    ),\n") + tail


def main(family: str, name: str) -> None:
    """Write the skeleton, refusing to replace a file that is there."""
    texts = skeleton(family, name)
    for path in texts:
        if path.exists() and path.name != "catalog.py":
            raise ConfigError(f"{path} exists", hint="choose another NAME")
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(REPOSITORY))
    ruff = [sys.executable, "-m", "ruff", "check", "--quiet", "--fix", "--select", "I"]
    subprocess.run([*ruff, *map(str, texts)], check=True)
    print(f"Now fill them in; `pytest tests/contract -k {name}` says what is missing.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except (TokenspaceError, TypeError) as fault:
        hint = getattr(fault, "hint", None) or "make new FAMILY=words NAME=glove"
        sys.exit(f"new: {fault} (hint: {hint})")
