"""Model directories: where a name leads, and what is refused before anything is loaded.

A name is a directory, an installed package that carries a model (found through its list of
files, without importing it), or an id of the Hugging Face Hub. Loading must not run code that came
with the weights: a directory that asks for it is refused unless the caller trusts it, and weights
that exist only as pickles are refused but for a reader that takes tensors and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenspace.errors import FormatError, InputError

__all__ = [
    "CONVERTED",
    "called",
    "inspect_folder",
    "is_hub_id",
    "is_own",
    "locate",
    "optional_json",
    "packaged",
    "read_json",
]

CONVERTED = "onnx/tokenspace.json"
"""The file that tells a directory which ``tokenspace encode onnx`` wrote."""

_OWN = Path(__file__).parents[1] / "encode"
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILE = re.compile(r".*\.(json|txt|gz|model|safetensors|tiktoken|bin|jsonl|csv|html|toml)")
_SMALL = ("*.json",)
_REST = ("*.safetensors", "*.txt", "*.model", "*.jinja")
_IGNORED = ("onnx/*", "openvino/*")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_NO_WEIGHTS = ("tokenizer.bin", "training_args.bin", "optimizer.pt", "scheduler.pt")


def locate(
    name: str,
    *,
    trust_remote_code: bool = False,
    pickles: bool = False,
    adapters: bool = False,
) -> Path:
    """Return the directory that ``name`` leads to, inspected by :func:`inspect_folder`.

    A directory or an installed package needs no network. From the Hub the small configuration
    files come first, and the weights only when these have been found harmless. ``pickles`` lets a
    model pass whose weights exist only as pickles, for a reader that runs no code;
    ``adapters`` lets a PEFT adapter pass, which is no model by itself.
    Raises :class:`InputError` where there is nothing, or where the directory is refused.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        found = packaged(name)
        if found is None:
            return _download(name, trust_remote_code, pickles, adapters)
        folder = found
    inspect_folder(folder, trust_remote_code=trust_remote_code, pickles=pickles, adapters=adapters)
    return folder


def is_hub_id(name: str) -> bool:
    """Tell whether a name, which is no path here, could be one on the Hub."""
    return _HUB_ID.fullmatch(name) is not None and _FILE.fullmatch(name) is None


def called(folder: Path) -> str:
    """Return what a model is called: the name of its directory, or its id or package."""
    folder = folder.absolute()
    if "site-packages" in folder.parts:
        return folder.parts[folder.parts.index("site-packages") + 1]
    if folder.parent.name == "snapshots":  # in the Hub's cache, where a directory is a revision
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return folder.resolve().name


def inspect_folder(
    folder: Path,
    *,
    trust_remote_code: bool = False,
    pickles: bool = False,
    adapters: bool = False,
) -> None:
    """Raise :class:`InputError` if ``folder`` asks for code of its own, or has only pickles."""
    marks = ["config.json", "modules.json", *(["adapter_config.json"] if adapters else [])]
    if not any((folder / name).is_file() for name in marks):
        raise FormatError(
            f"{folder}: neither config.json nor modules.json is there",
            hint="give a directory written by save_pretrained of transformers, or by "
            "sentence-transformers",
        )
    if not trust_remote_code:
        _refuse_code(folder)
    if not pickles:
        _refuse_pickles(folder)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; :class:`FormatError` names a file that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise FormatError(
            f"{path}: not valid JSON ({fault})", hint="write or download the directory again"
        ) from fault


def optional_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file, or an empty one where there is no file."""
    return dict(read_json(path)) if path.is_file() else {}


def packaged(name: str) -> Path | None:
    """Return the model directory inside the installed package ``name``, or None."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        return None
    from importlib import metadata

    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return None
    for wanted in ("modules.json", "config.json"):
        found = sorted((file for file in files if file.name == wanted), key=lambda f: len(f.parts))
        if found:
            return Path(str(found[0].locate())).parent
    return None


def _download(name: str, trust_remote_code: bool, pickles: bool, adapters: bool) -> Path:
    """Return the local snapshot of a Hub id; a cached one serves where there is no network."""
    if not is_hub_id(name):
        raise InputError(f"{name}: no such directory", hint="check the path")
    from huggingface_hub import snapshot_download

    def get(*patterns: str) -> Path:
        wanted, ignored = list(patterns), list(_IGNORED)
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=ignored))

    try:
        folder = get(*_SMALL)
        if not trust_remote_code:
            _refuse_code(folder)
        rest = (*_SMALL, *_REST, *(("*.py",) if trust_remote_code else ()))
        folder = get(*rest)
        if pickles and (bare := _without_weights(folder)):
            folder = get(*rest, *(f"{part}pytorch_model*.bin" for part in bare))
    except InputError:
        raise
    except (OSError, ValueError) as fault:
        reason = str(fault).strip().split("\n")[0].split(". ")[0]
        raise InputError(
            f"{name}: no such directory, no installed package with a model, and the Hugging Face "
            f"Hub did not give it ({type(fault).__name__}: {reason})",
            hint="check the spelling, or give a directory on this machine",
        ) from fault
    inspect_folder(folder, trust_remote_code=trust_remote_code, pickles=pickles, adapters=adapters)
    return folder


def _without_weights(folder: Path) -> list[str]:
    """Return the parts of a model, as ``""`` or ``"2_Dense/"``, that have no ``.safetensors``."""
    parts = (path.parent for path in sorted(folder.rglob("config.json")))
    return [
        f"{part.relative_to(folder)}/" if part != folder else ""
        for part in parts
        if not any(part.glob("*.safetensors"))
    ]


def _refuse_code(folder: Path) -> None:
    for path in sorted(folder.rglob("*.json")):
        if path.name == "modules.json" or "config" in path.name:
            for field, reference in _asks(read_json(path)):
                raise InputError(
                    f"{path}: {field} asks for code that comes with the model ({reference})",
                    hint="if you trust its authors, repeat with --trust-remote-code "
                    "(trust_remote_code=True)",
                )


def _asks(content: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, reference) for every part of a configuration that names foreign code.

    These are ``auto_map`` (transformers imports the file it names) and module types outside
    sentence-transformers (``type`` in modules.json, ``types`` of a router, ``tokenizer_class``).
    """
    items: Iterator[tuple[str, Any]]
    if isinstance(content, dict):
        items = ((f"{field}.{key}" if field else key, value) for key, value in content.items())
    elif isinstance(content, list):
        items = ((f"{field}[{index}]", value) for index, value in enumerate(content))
    else:
        return
    for inner, value in items:
        key = inner.rpartition(".")[2]
        if key == "auto_map" and value:
            yield inner, json.dumps(value)
        elif key in ("type", "tokenizer_class") and _foreign(value):
            yield inner, value
        elif key == "types" and isinstance(value, dict):
            yield from ((f"{inner}.{k}", v) for k, v in value.items() if _foreign(v))
        else:
            yield from _asks(value, inner)


def _foreign(reference: object) -> bool:
    """Tell whether a value is a dotted class outside sentence-transformers that is not ours."""
    return (
        isinstance(reference, str)
        and re.fullmatch(r"\w+(\.\w+)+|.*--.*\.\w+", reference) is not None
        and not reference.startswith("sentence_transformers.")
        and not is_own(reference)
    )


def is_own(reference: str) -> bool:
    """Tell whether ``FILE_net.CLASS`` names a module of the installed package.

    Such a directory holds a copy of that file for those who have not installed it, which is
    never run here (:mod:`tokenspace.nn.modules`).
    """
    match = re.fullmatch(r"(\w+_net)\.\w+", reference)
    return match is not None and (_OWN / f"{match[1]}.py").is_file()


def _refuse_pickles(folder: Path) -> None:
    parts = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
    for part in parts:
        names = sorted(path.name for path in part.iterdir() if path.is_file())
        if any(name.endswith(".safetensors") for name in names):
            continue
        pickled = [n for n in names if n.endswith(_PICKLES) and n not in _NO_WEIGHTS]
        if pickled:
            raise InputError(
                f"{part / pickled[0]}: the weights are a pickle, which may run code when loaded, "
                "and there is no .safetensors beside it",
                hint="load it once where you trust it, and write it again with "
                "save_pretrained(..., safe_serialization=True)",
            )
