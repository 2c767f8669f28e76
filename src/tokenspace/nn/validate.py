"""Whether a written model directory works: loaded by transformers, and run on two short texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from tokenspace.checkpoint import Checkpoint
from tokenspace.checkpoint.folder import optional_json
from tokenspace.errors import FormatError
from tokenspace.nn.quiet import quiet

__all__ = ["PROBES", "Findings", "loader_of", "validate"]

PROBES = (
    "The quick brown fox",
    "naïve Ünïcödé — 東京, Привет, \u202eשלום\u202c, 🦊🇪🇺 e\u0301",
)
"""What is run: plain English, and scripts, a right-to-left mark, emoji and a combining accent."""


@dataclass(frozen=True)
class Findings:
    """What :func:`validate` saw.

    ``loader`` is the class that loads the directory; ``ran`` tells whether it was loaded and run,
    which a model that does not fit into memory is not; ``tokens`` how many tokens each of
    :data:`PROBES` has, special ones included; ``problems`` is empty when all is well.
    """

    loader: str
    rows: int
    ran: bool
    tokens: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise :class:`FormatError` if there are problems."""
        if self.problems:
            raise FormatError(
                "the written model does not work: " + "; ".join(self.problems),
                hint="report the model's name; --no-validate writes it all the same",
            )


def validate(folder: str | Path, *, memory: int | None = None) -> Findings:
    """Load a model directory with transformers and run it once; code in it is never run.

    Parameters
    ----------
    folder : path
        A directory written by :func:`tokenspace.checkpoint.write`.
    memory : int, optional
        Bytes that the weights may take; by default half of what the machine has free. A larger
        model is checked by its headers only.
    """
    folder = Path(folder)
    checkpoint = Checkpoint.open(folder, trust_remote_code=True)
    problems = _by_headers(checkpoint)
    size = sum(entry.nbytes for part in checkpoint.parts for entry in part.entries.values())
    loader = loader_of(checkpoint)
    foreign = _foreign(folder)
    limit = _free() // 2 if memory is None else memory
    if problems or foreign or size > limit:
        if foreign:
            problems.append(f"not run: {foreign} asks for code of its own")
        return Findings(loader, checkpoint.rows, False, {}, tuple(problems))
    with quiet(), torch.random.fork_rng(devices=[]):
        tokens, found = (
            _run_sentences(folder) if loader == "SentenceTransformer" else _run(checkpoint, loader)
        )
    return Findings(loader, checkpoint.rows, True, tokens, tuple(found))


def _by_headers(checkpoint: Checkpoint) -> list[str]:
    """Compare settings and headers."""
    problems = []
    size = checkpoint.setting("vocab_size") or checkpoint.setting("n_words")
    if checkpoint.config and size != checkpoint.rows:
        problems.append(f"config.json says {size} tokens, and there are {checkpoint.rows} rows")
    for tensor in checkpoint.tensors:
        have = checkpoint.entry(tensor.name).shape[tensor.axis]
        if have != checkpoint.rows:
            problems.append(f"{tensor.name} has {have} places for {checkpoint.rows} tokens")
    for key, value in checkpoint.config.items():
        if key.endswith("_token_id") and isinstance(value, int) and value >= checkpoint.rows:
            problems.append(f"config.json: {key}={value} is beyond the last row")
    return problems


def loader_of(checkpoint: Checkpoint) -> str:
    """Return the name of the class that loads a model directory."""
    if (checkpoint.root / "modules.json").is_file():
        return "SentenceTransformer"
    endings = {
        "ForCausalLM": "AutoModelForCausalLM",
        "LMHeadModel": "AutoModelForCausalLM",
        "ForMaskedLM": "AutoModelForMaskedLM",
        "ForPreTraining": "AutoModelForPreTraining",
        "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
        "MTModel": "AutoModelForSeq2SeqLM",
        "ForSequenceClassification": "AutoModelForSequenceClassification",
        "ForTokenClassification": "AutoModelForTokenClassification",
        "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    }
    name = next(iter(checkpoint.architectures), "")
    found = next((loader for end, loader in endings.items() if name.endswith(end)), "AutoModel")
    if name == "MarianMTModel":
        return "AutoModelForSeq2SeqLM"
    if found == "AutoModelForSeq2SeqLM" and checkpoint.kind != "encoder-decoder":
        return "AutoModelForImageTextToText"
    return found


def _foreign(folder: Path) -> str:
    names = ("config.json", "tokenizer_config.json")
    return next((n for n in names if optional_json(folder / n).get("auto_map")), "")


def _free() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 33


def _run(checkpoint: Checkpoint, loader: str) -> tuple[dict[str, int], list[str]]:
    folder = checkpoint.folder
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    model, info = getattr(transformers, loader).from_pretrained(
        folder, config=config, output_loading_info=True, local_files_only=True
    )
    problems = [
        f"{what.replace('_', ' ')}: {', '.join(sorted(map(str, info[what]))[:5])}"
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info.get(what)
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model.eval()
    tokens: dict[str, int] = {}
    for text in PROBES:
        batch = tokenizer(text, return_tensors="pt")
        ids = batch["input_ids"]
        tokens[text] = int(ids.shape[1])
        expected = checkpoint.vocab.tokenizer
        if expected is not None and ids[0].tolist() != expected.encode(text).ids:
            problems.append(f"AutoTokenizer reads {text!r} differently from tokenizer.json")
        if ids.numel() and int(ids.max()) >= checkpoint.rows:
            problems.append(
                f"{text!r} has id {int(ids.max())}, and there are {checkpoint.rows} rows"
            )
            continue
        if not ids.numel():
            continue
        values = _forward(model, dict(batch))
        if not bool(torch.isfinite(values).all()):
            problems.append(f"the output for {text!r} is not finite")
    return tokens, problems


def _forward(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    limit = getattr(model.config, "max_position_embeddings", None) or 512
    batch = {name: value[:, : max(1, min(limit - 2, 128))] for name, value in batch.items()}
    if getattr(model.config, "is_encoder_decoder", False):
        batch["decoder_input_ids"] = batch["input_ids"][:, :1]
    with torch.inference_mode():
        result = model(**batch)
    values: torch.Tensor = result[0]
    return values


def _run_sentences(folder: Path) -> tuple[dict[str, int], list[str]]:
    from sentence_transformers import SentenceTransformer

    inner = Checkpoint.open(folder, trust_remote_code=True)
    problems: list[str] = []
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    if inner.config:
        config = transformers.AutoConfig.from_pretrained(inner.folder, local_files_only=True)
        _, info = transformers.AutoModel.from_pretrained(
            inner.folder, config=config, output_loading_info=True, local_files_only=True
        )
        heads = [name for name in info["unexpected_keys"] if "pooler" not in str(name)]
        missing = [name for name in info["missing_keys"] if "pooler" not in str(name)]
        problems = [
            f"{w} keys: {n[:5]}" for w, n in (("missing", missing), ("unexpected", heads)) if n
        ]
    made = torch.as_tensor(model.encode(list(PROBES)))
    if not bool(torch.isfinite(made).all()):
        problems.append("a sentence vector is not finite")
    words = inner.vocab.tokenizer
    tokens = {} if words is None else {text: len(words.encode(text).ids) for text in PROBES}
    return tokens, problems
