"""Orthogonal matching pursuit against mergekit's; the sums of WECHSEL, FOCUS and transtok too.

mergekit pins other versions of its libraries, so it lives in ``.peers/mergekit`` (``make peers``)
and runs as a process of its own, which times itself: neither its start nor the files count. Both
get all targets in one call, as mergekit's command does by default, and both use every core. The
packages wechsel, deepfocus and trans-tokenizers live and run likewise; what is timed is the step
from the tokens' vectors, or from the counts of their translations, to their rows. The two whole
commands run as processes, on directories made by transformers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness import ChildPeer, Cost, Result, alternate, compare, main, run_command
from tokenspace import data
from tokenspace.tokenizer_training import byte_bpe
from tokenspace.transplant._neighbours import mixtures, unit
from tokenspace.transplant.focus import sparse_sums
from tokenspace.transplant.omp import pursue
from tokenspace.transplant.transtok import inherit, mix

PEER = """
import numpy, torch
from mergekit.tokensurgeon.omp import batch_omp

targets, anchors = (torch.from_numpy(numpy.load(f"{folder}/{name}.npy"))
                    for name in ("targets", "anchors"))

def work():
    return batch_omp(targets, anchors, k)

def done(result):
    numpy.save(f"{folder}/supports.npy", result[0].numpy())
"""


WECHSEL = """
import numpy, wechsel

given = numpy.load(f"{folder}/sides.npz")
new, old = (given[name].astype(float) for name in ("new", "old"))  # as the package makes them

class Tokens:
    '''What the package asks of a tokenizer, answered from lists.'''
    special_tokens_map = {}

    def __init__(self, count):
        self.tokens = [f"token {i}" for i in range(count)]
        self.vocab = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self):
        return len(self.tokens)

    def convert_ids_to_tokens(self, ids):
        ids = numpy.asarray(ids)
        return [self.tokens[i] for i in ids] if ids.ndim else self.tokens[ids]

sides = Tokens(len(old)), Tokens(len(new))

def work():
    return wechsel.create_target_embeddings(old, new, *sides, given["rows"], verbose=False)[0]

def done(result):
    numpy.save(f"{folder}/result.npy", result)
"""

FOCUS = """
import os

os.environ["TQDM_DISABLE"] = "1"

import numpy, torch
from deepfocus.focus import focus_additional_token_initialization
from deepfocus.vocab_helper import NewToken, OverlappingToken, TokenClass

given = numpy.load(f"{folder}/sides.npz")
rows = torch.from_numpy(given["rows"])
token = [TokenClass("", i, "", "", "", "", False) for i in range(len(rows))]
new = {i: NewToken(token[i], vector) for i, vector in enumerate(given["new"])}
old = {i: OverlappingToken([token[i]], token[i], rows[i], vector)
       for i, vector in enumerate(given["old"])}

def work():
    out = torch.zeros((len(new), rows.shape[1]))
    return focus_additional_token_initialization(old, new, out, device="cpu")

def done(result):
    numpy.save(f"{folder}/result.npy", result.numpy())
"""

TRANSTOK = """
import contextlib, copy, json, os

os.environ["TQDM_DISABLE"] = "1"

import numpy, torch, transformers
from transtokenizers.transtokenizers import remap_model, smooth_mapping

rows = torch.from_numpy(numpy.load(f"{folder}/rows.npy"))
with open(f"{folder}/counts.json") as file:
    counts = json.load(file)

class Tokenizers:
    '''What reads a tokenizer gives one that has been read.'''
    read = {name: transformers.PreTrainedTokenizerFast.from_pretrained(f"{folder}/{name}")
            for name in ("source", "target")}
    from_pretrained = staticmethod(read.__getitem__)

class Model:
    '''A model that is nothing but its one matrix.'''
    def __init__(self):
        self.config = transformers.PretrainedConfig(tie_word_embeddings=True)
        self.matrix = torch.nn.Embedding.from_pretrained(rows)

    from_pretrained = classmethod(lambda cls, name: cls())

    def get_input_embeddings(self):
        return self.matrix

    get_output_embeddings = get_input_embeddings

    def resize_token_embeddings(self, count):
        self.matrix = torch.nn.Embedding.from_pretrained(torch.zeros(count, rows.shape[1]))

for tokenizer in Tokenizers.read.values():
    tokenizer.additional_special_tokens_ids = []  # asked for, and gone from newer releases
transformers.AutoTokenizer, transformers.AutoModelForCausalLM = Tokenizers, Model
fresh = copy.deepcopy(counts)

def work():
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        found = smooth_mapping("target", fresh)
        return remap_model("source", "target", found, "source")

def done(result):
    global fresh
    fresh = copy.deepcopy(counts)
    numpy.save(f"{folder}/result.npy", result.matrix.weight.numpy())
"""


def translation(quick: bool) -> list[Result]:
    """Race the step from counts of translations to rows: tokens without counts inherit some.

    Of the target's tokens 70 % have counts of 1 to 20 source tokens.
    """
    size, d = (1500 if quick else 8000), 768
    texts = [text for _, text in data.manual()]
    source, target = (
        byte_bpe(texts[i::2], size, start=start) for i, start in enumerate(("<s>", "<|start|>"))
    )
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((len(source), d)).astype(np.float32)
    counts: dict[int, dict[int, float]] = {}
    for token in np.flatnonzero(draw.random(len(target)) < 0.7).tolist():
        if token not in target.specials:
            ids = draw.choice(len(source), draw.integers(1, 21), replace=False)
            counts[token] = dict(zip(ids.tolist(), draw.zipf(1.5, len(ids)).tolist(), strict=True))
    everything = list(range(len(target)))
    out = np.zeros((len(target), d), np.float32)
    made: list[int] = []

    def ours() -> None:
        given = {token: dict(row) for token, row in counts.items()}
        inherit(given, target, everything, source)
        made[:] = mix(out, given, everything, rows)

    with tempfile.TemporaryDirectory() as folder:
        for name, vocab, start in (("source", source, "<s>"), ("target", target, "<|start|>")):
            kept = PreTrainedTokenizerFast(
                tokenizer_object=vocab.tokenizer, bos_token=start, unk_token=start
            )
            kept.save_pretrained(Path(folder) / name)
        np.save(Path(folder) / "rows.npy", rows)
        named = {
            target.tokens[token]: {source.tokens[id_]: count for id_, count in row.items()}
            for token, row in counts.items()
        }
        (Path(folder) / "counts.json").write_text(json.dumps(named))
        with ChildPeer("transtokenizers", TRANSTOK, {"folder": folder}) as peer:
            mine, theirs = alternate(ours, peer.run, 1 if quick else 3)
            note = peer.note
        if theirs:
            a, b = out[made], np.load(Path(folder) / "result.npy")[made]
            known = np.isin(made, list(counts))
            off = np.abs(a[known] - b[known]).max()
            lengths = np.linalg.norm(a[~known], axis=1) * np.linalg.norm(b[~known], axis=1)
            cosine = np.median((a[~known] * b[~known]).sum(axis=1) / lengths)
            note = f"largest difference {off:.0e}; of inherited rows the median cosine {cosine:.2f}"
    work = f"transtok from counts to rows, {len(target)} new tokens, {d} dimensions"
    unit = "tokens per CPU second"
    rate = compare(
        work, mine, theirs, peer_name="trans-tokenizers", amount=len(target), unit=unit,
        goal=20.0, note=note,
    )  # fmt: skip
    return [rate, *memory(rate, "peak megabytes beyond the inputs", goal=1.0)]


def combination(
    method: str,
    package: str,
    script: str,
    ours: Callable[..., np.ndarray],
    *,
    goal: float,
    less: float,
    quick: bool,
    repeats: int = 3,
) -> list[Result]:
    """Race how new rows are made of old ones, from vectors of both on: rate, and memory."""
    m, n, width, d = (500 if quick else 5000), 30_000, 300, 768
    draw = np.random.default_rng(0)
    new, old, rows = (
        draw.standard_normal(shape).astype(np.float32) for shape in ((m, width), (n, width), (n, d))
    )
    found: list[np.ndarray] = []

    def run() -> None:
        found[:] = [ours(new, old, rows)]

    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "sides.npz", new=new, old=old, rows=rows)
        with ChildPeer(package, script, {"folder": folder}) as peer:
            mine, theirs = alternate(run, peer.run, repeats)
            note = peer.note
        if theirs:
            off = np.abs(found[0] - np.load(Path(folder) / "result.npy")).max()
            note = f"largest difference {off:.0e}"
    work = f"{method} combination, {m} new tokens, {n} old, {width} and {d} dimensions"
    unit = "tokens per CPU second"
    rate = compare(work, mine, theirs, peer_name=package, amount=m, unit=unit, goal=goal, note=note)
    return [rate, *memory(rate, "peak megabytes beyond the inputs", goal=less)]


def by_wechsel(new: np.ndarray, old: np.ndarray, rows: np.ndarray) -> np.ndarray:
    means, ids, weights = mixtures(new, old, rows, 10, 0.1)
    ids.tolist(), weights.tolist()  # both sides keep what a row is made of
    return means


def by_focus(new: np.ndarray, old: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return sparse_sums(unit(new), unit(old), rows)[0]


def pursuit(m: int, N: int, *, repeats: int = 3) -> list[Result]:
    """Race the choice of k anchors for m targets among N: rates, equal supports, memory."""
    d, k = 768, 64
    draw = np.random.default_rng(0)
    targets = draw.standard_normal((m, d)).astype(np.float32)
    anchors = draw.standard_normal((N, d)).astype(np.float32)
    work = f"OMP, {m} targets, {N} anchors, {d} dimensions, k={k}"
    supports: list[np.ndarray] = []  # of every run of ours

    def ours() -> None:
        supports.append(pursue(targets, anchors, k)[0])

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "targets.npy", targets)
        np.save(Path(folder) / "anchors.npy", anchors)
        with ChildPeer("mergekit", PEER, {"folder": folder, "k": k}) as peer:
            mine, theirs = alternate(ours, peer.run, repeats)
            note = peer.note
        if theirs:
            chosen = np.load(Path(folder) / "supports.npy")
            equal = float((np.sort(supports[-1], 1) == np.sort(chosen, 1)).all(axis=1).mean())

    def rate(clock: str, unit: str, goal: float | None) -> Result:
        return compare(
            work,
            mine,
            theirs,
            peer_name="mergekit",
            amount=m,
            unit=unit,
            goal=goal,
            clock=clock,
            note=note,
        )

    results = [
        rate("cpu", "targets per CPU second", 12.0),
        rate("wall", "targets per second", None),
    ]
    if theirs:
        results.append(
            Result(
                work=work,
                ours=equal,
                peer=1.0,
                peer_name="mergekit",
                unit="share of equal supports",
                ratio=equal,
                goal=0.995,
                peak_mb_ours=None,
                peak_mb_peer=None,
            )
        )
    return [*results, *memory(results[0], "peak megabytes beyond the inputs", goal=1.0)]


def memory(rate: Result, unit: str, goal: float) -> list[Result]:
    """Return the line on the peaks of what ``rate`` timed, if both are known."""
    ours, peer = rate.peak_mb_ours, rate.peak_mb_peer
    if not ours or not peer:
        return []
    note = "ratio: how many times less"
    ratio = peer / ours
    return [replace(rate, ours=ours, peer=peer, unit=unit, ratio=ratio, goal=goal, note=note)]


def make_model(folder: Path, texts: Sequence[str], tokens: int, start: str) -> None:
    """Save a small Llama with random weights and its own tokenizer, as transformers does it."""
    vocab = byte_bpe(texts, tokens, start=start)
    names = {"bos_token": start, "eos_token": start}
    PreTrainedTokenizerFast(tokenizer_object=vocab.tokenizer, **names).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=vocab.roles["bos"],
        eos_token_id=vocab.roles["eos"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def whole_commands(quick: bool) -> list[Result]:
    """Race both commands on the same two directories: processes from their start to their end."""
    sizes = (1500, 2250) if quick else (4000, 6000)
    texts = [text for _, text in data.manual()]
    bench = Path(__file__).resolve().parents[1]
    ours_at = Path(sys.executable).with_name("tokenspace")
    peer_at = bench / ".peers" / "mergekit" / "bin" / "mergekit-tokensurgeon"
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        base, donor, mine_at, theirs_at = (Path(name) / x for x in ("base", "donor", "out", "peer"))
        make_model(base, texts[::2], sizes[0], "<s>")
        make_model(donor, texts[1::2], sizes[1], "<|start|>")

        def ours() -> Cost:
            given = ("--source", base, "--target", donor, "--donor", donor, "--out", mine_at)
            knobs = ("--k", "64", "--no-validate", "--force")
            return run_command(ours_at, "transplant", "omp", *given, *knobs)

        def peer() -> Cost:
            return run_command(peer_at, base, donor, theirs_at, "-k", "64", "-a", "omp")

        there = peer_at.is_file()
        mine, theirs = alternate(ours, peer if there else None, 1 if quick else 3)
        note = "" if there else "mergekit absent: make peers"
        if there:
            ends = [load_file(at / "model.safetensors") for at in (mine_at, theirs_at)]
            a, b = (end["model.embed_tokens.weight"] for end in ends)
            same = (np.abs(a - b).max(axis=1) < 1e-3).mean() if a.shape == b.shape else 0.0
            note = f"equal rows within 1e-3: {same:.1%}"
    work = f"omp of {sizes[0]} tokens to {sizes[1]}, whole command"

    def rate(clock: str, unit: str, goal: float | None) -> Result:
        return compare(
            work,
            mine,
            theirs,
            peer_name="mergekit-tokensurgeon",
            amount=1.0,
            unit=unit,
            goal=goal,
            clock=clock,
            note=note,
        )

    first = rate("wall", "commands per second", 1 / 0.3)
    return [
        first,
        rate("cpu", "commands per CPU second", None),
        *memory(first, "peak megabytes of the process", goal=2.0),
    ]


def rows(quick: bool) -> Sequence[Result]:
    return [
        *pursuit(300 if quick else 2000, 4000),
        *pursuit(60 if quick else 2000, 30_000, repeats=1),  # 3.6 GB would be G in float32
        *whole_commands(quick),
        *combination("WECHSEL", "wechsel", WECHSEL, by_wechsel, goal=2.0, less=2.0, quick=quick),
        *combination(  # once: the peer takes minutes
            "FOCUS", "deepfocus", FOCUS, by_focus, goal=5.0, less=5.0, quick=quick, repeats=1
        ),
        *translation(quick),
    ]


if __name__ == "__main__":
    main("transplant", rows, __doc__)
