"""Help and imports stay cheap: what is loaded is asserted, what it costs is benchmarked."""

from __future__ import annotations

import subprocess
import sys

PREFIX = """
import io, sys
from contextlib import redirect_stdout
from tokenspace import catalog
from tokenspace.cli import root, FAMILY_VERBS, VERBS

def shown(*words):
    with redirect_stdout(io.StringIO()) as out:
        root.main([*words, "--help"], prog_name="tokenspace", standalone_mode=False)
    assert "Usage: tokenspace" in out.getvalue(), words

def absent(where, *modules):
    loaded = [name for name in modules if name in sys.modules]
    assert not loaded, f"{where} loads {loaded}"
"""


def python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    python(
        "import sys, tokenspace\n"
        "heavy = {'numpy', 'torch', 'numba', 'click', 'rich', 'scipy', 'tokenizers'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )


def test_help_of_the_root_and_of_families_loads_no_numpy() -> None:
    python(
        PREFIX
        + "heavy = ('numpy', 'torch', 'numba', 'scipy', 'rich', 'tokenizers', 'faiss')\n"
        + "shown(); absent('--help', *heavy)\n"
        + "for family in catalog.FAMILIES:\n"
        + "    shown(family.name); absent(family.name, *heavy)\n"
    )


def test_help_of_methods_loads_no_torch_and_no_numba() -> None:
    python(
        PREFIX
        + "for entry in catalog.CATALOG:\n"
        + "    shown(entry.family, entry.name)\n"
        + "    absent(entry.name, 'torch', 'numba', 'transformers', 'faiss', 'matplotlib')\n"
    )


def test_help_of_verbs_loads_no_torch_and_no_numba() -> None:
    python(
        PREFIX
        + "heavy = ('torch', 'numba', 'transformers', 'faiss', 'matplotlib', 'fastapi')\n"
        + "for verb in VERBS:\n"
        + "    shown(verb); absent(verb, *heavy)\n"
        + "for family, verbs in FAMILY_VERBS.items():\n"
        + "    for verb in verbs: shown(family, verb); absent(verb, *heavy)\n"
    )


def test_the_base_modules_load_no_torch() -> None:
    python(
        "import sys, tokenspace\n"
        "for name in tokenspace.__all__: getattr(tokenspace, name)\n"
        "from tokenspace import catalog\n"
        "for entry in catalog.CATALOG: entry.load(); entry.claim()\n"
        "heavy = {'torch', 'transformers', 'numba'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
