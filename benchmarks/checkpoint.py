"""A new vocabulary for a model larger than the memory: seconds, and the peak against the bound.

A checkpoint in the layout of Llama is generated, 8 GB in shards of 512 MB (``--quick``: 1 GB), and
receives 32,000 tokens of which three quarters are its own. The bound is twice the vocabulary
tensors in float32 plus 1 GiB, whatever the size of the model. The last rows give the same work, as
far as it can do it, to ``resize_token_embeddings`` of transformers, which holds the model: on one
directory of 2 GB (``--quick``: 0.6 GB), each side a process of its own that writes every tensor.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness import Cost, Result, alternate, main, measure, run_command
from tokenspace.checkpoint import Checkpoint, Target, write
from tokenspace.transplant.mean import Mean

V, D, WIDE = 32_000, 2_048, 8_192
LAYER = {
    "self_attn.q_proj": (D, D),
    "self_attn.k_proj": (D, D),
    "self_attn.v_proj": (D, D),
    "self_attn.o_proj": (D, D),
    "mlp.gate_proj": (WIDE, D),
    "mlp.up_proj": (WIDE, D),
    "mlp.down_proj": (D, WIDE),
    "input_layernorm": (D,),
    "post_attention_layernorm": (D,),
}
GIB = 1 << 30
SIZES = {"BF16": 2, "F32": 4}


def words(seed: int, shared: int) -> list[str]:
    """Return V words, of which the first ``shared`` are the same for every seed."""
    made = random.Random(seed)
    common = [f"▁w{i}" for i in range(shared)]
    own = [f"▁{seed}x{made.getrandbits(40):x}{i}" for i in range(V - shared - 3)]
    return ["<unk>", "<s>", "</s>", *common, *own]


def tokenizer(folder: Path, seed: int) -> None:
    """Write a tokenizer of V words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    listed = {word: i for i, word in enumerate(words(seed, V * 3 // 4))}
    made = Tokenizer(models.WordLevel(listed, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    roles["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(roles))


def generate(folder: Path, gigabytes: float, dtype: str) -> int:
    """Write a checkpoint with random weights; return its size in bytes."""
    size = SIZES[dtype]
    layer = sum(int(np.prod(shape)) for shape in LAYER.values()) * size
    count = max(1, round((gigabytes * 1e9 - 2 * V * D * size) / layer))
    tensors = {"model.embed_tokens.weight": (V, D)}
    for i in range(count):
        tensors |= {f"model.layers.{i}.{name}.weight": shape for name, shape in LAYER.items()}
    tensors |= {"model.norm.weight": (D,), "lm_head.weight": (V, D)}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": WIDE,
        "num_hidden_layers": count,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "dtype": {"BF16": "bfloat16", "F32": "float32"}[dtype],
    }
    tokenizer(folder, 1)
    (folder / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in tensors.items():
        if filled and filled + int(np.prod(shape)) * size > 512 << 20:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += int(np.prod(shape)) * size
    values = np.random.default_rng(0).normal(0, 0.02, 1 << 22).astype(np.float32)
    block = values.tobytes() if dtype == "F32" else (values.view(np.uint32) >> 16).astype("<u2")
    block = bytes(block)
    homes: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shard.items():
            begin, end = end, end + int(np.prod(shape)) * size
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            homes[name] = file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for start in range(0, end, len(block)):
                out.write(block[: end - start])
        total += end
    index = {"metadata": {"total_size": total}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def transplant(source: Path, target: Path, out: Path, *, link: bool) -> None:
    """Give the model its new vocabulary, one matrix after the other."""
    checkpoint = Checkpoint.open(source)
    fitted = Target.of(checkpoint, target)
    rows = {
        side: Mean()(checkpoint.table(side), fitted.vocab).vectors for side in ("input", "output")
    }
    write(checkpoint, out, fitted, **rows, link=link)


def resize(source: Path, out: Path) -> None:
    """Do what transformers can: the same rows for the old tokens, new ones for 32 more."""
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    model.resize_token_embeddings(V + 32, mean_resizing=False)
    model.save_pretrained(out, max_shard_size="512MB")


def against_bound(folder: Path, gigabytes: float, dtype: str, *, link: bool) -> Result:
    """Return the row of one checkpoint."""
    total = generate(folder / "source", gigabytes, dtype)
    tokenizer(folder / "target", 2)
    cost = measure(
        lambda: transplant(folder / "source", folder / "target", folder / "out", link=link)
    )
    made = Checkpoint.open(folder / "out")
    assert made.rows == V and not made.tied
    shards = len(made.parts)
    shutil.rmtree(folder)
    bound = (2 * 2 * V * D * 4 + GIB) / 2**20
    peak = cost.peak_mb
    return Result(
        work=f"{total / 1e9:.1f} GB {dtype} in {shards} shards, {'linked' if link else 'copied'}",
        ours=peak,
        peer=bound,
        peer_name="the bound",
        unit="MB at the peak",
        ratio=bound / peak if peak else None,
        goal=1.0,
        peak_mb_ours=peak,
        peak_mb_peer=None,
        note=f"{cost.wall:.1f} s, {cost.cpu:.1f} CPU-s: {total / 1e9 / cost.wall:.2f} GB/s",
    )


def against_resize(folder: Path, gigabytes: float, repeats: int) -> list[Result]:
    """Return the rows that compare with transformers, each side as a process."""
    total = generate(folder / "source", gigabytes, "BF16")
    tokenizer(folder / "target", 2)
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import checkpoint as c;"
        f"at = c.Path({str(folder)!r}); source, out = at / 'source', at / 'out';"
    )

    def process(call: str) -> Cost:
        cost = run_command(sys.executable, "-c", script + call)
        assert len(list((folder / "out").glob("*.safetensors"))) > 1
        shutil.rmtree(folder / "out")
        return cost

    mine, theirs = alternate(
        lambda: process("c.transplant(source, at / 'target', out, link=False)"),
        lambda: process("c.resize(source, out)"),
        repeats,
    )
    shutil.rmtree(folder)

    def row(field: str, unit: str, goal: float | None, note: str) -> Result:
        ours, peer = (max(getattr(cost, field) for cost in side) for side in (mine, theirs))
        return Result(
            work=f"{total / 1e9:.1f} GB BF16: new rows, whole process",
            ours=ours,
            peer=peer,
            peer_name="resize_token_embeddings",
            unit=unit,
            ratio=peer / ours,
            goal=goal,
            peak_mb_ours=max(cost.peak_mb for cost in mine),
            peak_mb_peer=max(cost.peak_mb for cost in theirs),
            note=note,
        )

    wall = [min(cost.wall for cost in side) for side in (mine, theirs)]
    return [
        row("peak_mb", "MB at the peak", 1.5, "ratio: how many times less; theirs grows"),
        row("cpu", "CPU seconds", None, f"{wall[0]:.1f} s and {wall[1]:.1f} s of wall time"),
    ]


def rows(quick: bool) -> Sequence[Result]:
    """Return all rows; what is generated is deleted again."""
    size = 1.0 if quick else 8.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return [
            against_bound(folder / "a", size, "BF16", link=True),
            against_bound(folder / "b", size, "BF16", link=False),
            against_bound(folder / "c", size, "F32", link=True),
            *against_resize(folder / "d", 0.6 if quick else 2.0, 1 if quick else 2),
        ]


if __name__ == "__main__":
    main("checkpoint", rows, __doc__)
