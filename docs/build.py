"""Write the generated pages: methods, command line, benchmarks and comparisons.

``mkdocs build`` runs this as a hook; ``python docs/build.py`` runs it alone. Everything comes
from the catalogue, the recipes and the recorded results, so nothing here is kept by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from tokenspace import catalog
from tokenspace.cli import FAMILY_VERBS, VERBS, root, verb_command
from tokenspace.compress.study import BUDGETS
from tokenspace.page import plots
from tokenspace.recipe import parse
from tokenspace.verbs import describe
from tokenspace.words.study import COMMON, RANDOM, gain
from tokenspace.words.study import TASKS as WORD_TASKS

DOCS = Path(__file__).resolve().parent

TAXONOMY = {
    "rows share parameters, by a fixed rule": ("hash", "compo", "ttrec", "dhe", "robe"),
    "rows share parameters, as the data say": ("adaptemb", "dedup", "dpq", "mgqe", "pq", "opq"),
    "every row has fewer bits": ("int8", "int16", "alpt"),
    "every row has fewer numbers": ("svd", "mde", "autodim", "optembed"),
    "values are dropped": ("magnitude", "deeplight", "autosrh", "pep"),
}
"""The survey's: between features (the first two groups) and within one (the others)."""

TASKS = {
    "movietweetings": ("auc", "clicks on films, AUC"),
    "adult": ("auc", "incomes, AUC"),
    "zipf": ("auc", "made clicks, AUC"),
    "lm": ("bits_per_byte", "language model, bits per byte"),
    "retrieval": ("recall10", "nearest words, share of the exact ten"),
}
"""What the study was recorded on: the figure of each, and its name."""

CONTEXTS = {
    "ppmi_svd": ("counts", "none: pairs of words are counted"),
    "glove": ("counts", "none: pairs of words are counted"),
    "sgns": ("predicts the word", "one neighbour"),
    "fasttext": ("predicts the word", "one neighbour, as its n-grams of letters"),
    "cwe": ("predicts the word", "mean of the neighbours, as words and characters"),
    "charword": ("predicts the word", "one neighbour, a word or a character"),
    "dsg": ("predicts the word", "one neighbour; the sense by the mean of all"),
    "cbow": ("predicts the word", "mean of the neighbours"),
    "order": ("predicts the word", "neighbours side by side"),
    "lbl": ("predicts the word", "neighbours side by side, times a matrix"),
    "nnlm": ("predicts the word", "neighbours side by side, through a hidden layer"),
    "cw": ("scores word and context", "neighbours side by side, through a hidden layer"),
}
"""How trainers of word vectors relate a word to its context, and what they make of the context."""

WORD_SETTINGS = {
    "novels": "On novels",
    "reviews": "On reviews",
    "width": "Dimensions, on novels",
}
"""Recorded settings in which every row is judged by all tasks."""

WORD_TASK_NAMES = {
    "ws353": "WS-353",
    "men": "MEN",
    "simlex": "SimLex",
    "semantic": "analogies, meaning",
    "syntactic": "analogies, grammar",
    "pos": "part of speech",
    "sentiment": "sentiment",
}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def markdown(docstring: str) -> str:
    """Return a docstring as Markdown: underlined headings are the same in both."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring)
    return re.sub(r"::$", ":", text, flags=re.M)


def paper(reference: str) -> str:
    """Return a reference, with a link where it names an arXiv number."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", reference)


def method_page(about: dict[str, Any]) -> str:
    """Return the page of one method."""
    summary, _, body = markdown(about["page"]).partition("\n")
    needed = [item for item in about["inputs"] if item["required"]]
    call = ", ".join(i["name"] if i["positional"] else f"{i['name']}={i['name']}" for i in needed)
    parts = [
        f"# {about['class']}",
        f"*{summary}*",
        f"[{about['family']}](../families/{about['family']}.md) · {paper(about['paper'])}"
        f" · {about['stability']} · claim: **{about['verdict']}**",
        body.strip(),
        "## Knobs",
        table(
            ("knob", "type", "default", "range", "what it is"),
            [
                (f"`{k['name']}`", k["type"], f"`{k['default']}`", k["range"] or "", k["help"])
                for k in about["knobs"]
            ],
        )
        if about["knobs"]
        else "None.",
        "## Inputs",
        table(
            ("input", "type", "required"),
            [
                (f"`{i['name']}`", i["type"], "yes" if i["required"] else "no")
                for i in about["inputs"]
            ],
        ),
        "## How to call it",
        f"```bash\n{about['synopsis']}\n```",
        f"```python\nfrom tokenspace.{about['family']} import {about['class']}\n\n"
        f"result = {about['class']}()({call})\n```",
        "## The claim",
        claim_text(about),
    ]
    return "\n\n".join(parts) + "\n"


def claim_text(about: dict[str, Any]) -> str:
    """Return what is claimed, against what, and what was measured."""
    claim, result = about["claim"], about["result"]
    lines = [
        f"**{claim['says'].rstrip('.')}.**",
        f"Measured as `{claim['metric']}` ({claim['better']} is better) against"
        f" {claim['baseline']}, with a margin of {claim['margin']:g}.",
        f"Scale: {claim['scale']}.",
        f"Measure it again: `tokenspace reproduce {about['name']}`.",
    ]
    if result is None:
        return "\n\n".join([*lines, "No result is recorded yet."])
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    metrics = result["metrics"]
    lines.append(
        f"Recorded verdict: **{result['verdict']}**; mean gain {metrics['gain']:.4g}"
        f" (95 % interval {metrics['gain_low']:.4g} to {metrics['gain_high']:.4g})."
    )
    rows = ([row.get(column, "") for column in columns] for row in result["rows"])
    return "\n\n".join([*lines, table(columns, rows)])


def methods_index(pages: Sequence[dict[str, Any]]) -> str:
    """Return the page that lists every method, by family."""
    parts = ["# Methods", "Every method keeps the contract of its family and a standing claim."]
    for family in catalog.FAMILIES:
        parts += [
            f"## {family.name}",
            f"{family.summary} `{family.signature}` — "
            f"[which one do I want?](../families/{family.name}.md)",
            table(
                ("method", "what it does", "paper", "claim"),
                [
                    (
                        f"[{p['name']}]({p['name']}.md)",
                        p["summary"],
                        paper(p["paper"]),
                        p["verdict"],
                    )
                    for p in pages
                    if p["family"] == family.name
                ],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def command_page() -> str:
    """Return the help of every verb, as the command line prints it."""
    parts = [
        "# Command line",
        "Results go to standard output, progress and errors to standard error. Exit codes: 0 done,"
        " 1 a claim failed, 2 wrong usage or configuration, 3 bad input, 130 interrupted."
        " The options of `tokenspace FAMILY METHOD` are on the [methods'](../methods/index.md)"
        " pages.",
    ]
    top = click.Context(root, info_name="tokenspace", **root.context_settings)
    parts += ["## tokenspace", f"```text\n{root.get_help(top)}\n```"]
    for verb in VERBS:
        command = root.get_command(top, verb)
        assert command is not None
        inner = click.Context(command, info_name=verb, parent=top)
        parts += [f"## tokenspace {verb}", f"```text\n{command.get_help(inner)}\n```"]
        if isinstance(command, click.Group):
            for name, part in command.commands.items():
                own = click.Context(part, info_name=name, parent=inner)
                parts += [f"### {verb} {name}", f"```text\n{part.get_help(own)}\n```"]
    for family, verbs in FAMILY_VERBS.items():
        group = click.Context(click.Group(family), info_name=family, parent=top)
        for verb, (module, _) in verbs.items():
            command = verb_command(verb, module)
            inner = click.Context(command, info_name=verb, parent=group)
            text = f"```text\n{command.get_help(inner)}\n```"
            parts += [f"## tokenspace {family} {verb}", text]
    return "\n\n".join(parts) + "\n"


def benchmark_page(results: Path) -> str:
    """Return the recorded benchmarks, a table a file."""
    parts = [
        "# Benchmarks",
        "Ours and a named peer, alternating in one run on the same machine; the ratio is the median"
        " over the pairs. `make bench` measures them again.",
    ]
    columns = ("work", "ours", "peer", "peer_name", "unit", "ratio", "goal", "note")
    for path in sorted(results.glob("bench_*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        cells = [["–" if row.get(c) is None else row.get(c) for c in columns] for row in rows]
        parts += [f"## {path.stem.removeprefix('bench_')}", table(columns, cells)]
    return "\n\n".join(parts) + "\n"


def comparison_page(results: Path) -> str:
    """Return the recorded comparisons of a family's methods, a table a setting."""
    parts = [
        "# Comparisons",
        "All methods of a family on the same data, as `tokenspace compare FAMILY --on SETTING`"
        " measures them.",
    ]
    for path in sorted(results.glob("compare_*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        figures = list(dict.fromkeys(key for row in report["rows"] for key in row))
        columns = [name for name in figures if name not in ("seconds", "bytes")]
        cells = [[row.get(column, "–") for column in columns] for row in report["rows"]]
        parts += [f"## {report['title']}", table(columns, cells)]
        parts.append("\n".join(f"- {note}" for note in report["notes"]))
        family = path.stem.split("_")[1]
        trial = import_module(f"tokenspace.{family}.trial")
        parts += [f"<figure>\n{svg}\n</figure>" for svg, _ in plots(trial, report["rows"])]
    return "\n\n".join(parts) + "\n"


def taxonomy_page(results: Path) -> str:
    """Return the survey's taxonomy of compressed tables with the figures of our study."""
    parts = [
        "# Compression: the study",
        "Every method under the same budgets, on the same data, as `tokenspace compare compress"
        " --on TASK` measured it (one seed; the whole report is under"
        " [comparisons](comparisons.md)). A column is a share of the float32 bytes, indices and"
        " code books included; under it stands the best figure of the method in no more bytes,"
        " and – where it cannot be that small. *Whole* is the table in float32.",
    ]
    for task, (figure, name) in TASKS.items():
        path = results / f"compare_compress_{task}.json"
        if path.is_file():
            report = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"## {name[0].upper() + name[1:]}", pivot(report, figure)]
            parts += [note for note in report["notes"] if note.startswith("the whole table")]
    return "\n\n".join(parts) + "\n"


def pivot(report: dict[str, Any], figure: str) -> str:
    """Return the best figure of every method at each of the budgets, in the taxonomy's groups."""
    best = min if figure == "bits_per_byte" else max
    rows = []
    for group, methods in TAXONOMY.items():
        for method in methods:
            own = [row for row in report["rows"] if row["method"].partition(":")[0] == method]
            cells = []
            for budget in BUDGETS:
                found = [row[figure] for row in own if row["ratio"] <= 1.001 * budget]
                cells.append(f"{best(found):.3f}" if found else "–")
            if own:
                named = "" if group in {row[0] for row in rows} else group
                rows.append((named, f"[`{method}`](../methods/{method}.md)", *cells))
    return table(("", "method", *(f"1/{1 / budget:.0f}" for budget in BUDGETS)), rows)


def word_vectors_page(results: Path) -> str:
    """Return what distinguishes the trainers of word vectors, with the figures of our study."""
    parts = [
        "# Word vectors: the study",
        "Every trainer on the same text with 50 dimensions (unless it is dimensions that are"
        " compared) and otherwise its defaults, except for"
        " knobs at its name, as `tokenspace compare words --on SETTING` measured it, one seed."
        " After each figure stands its performance gain ratio, (p - p_rand) / (p_best - p_rand) in"
        " percent:"
        f" 0 is what {RANDOM} reach, 100 the best of the table."
        " [Which word vectors?](../guides/word-vectors.md) says what follows.",
    ]
    for setting, title in WORD_SETTINGS.items():
        path = results / f"compare_words_{setting}.json"
        if path.is_file():
            report = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"## {title}", gains(report["rows"])]
            parts.append("\n".join(f"- {note}" for note in report["notes"]))
    path = results / "compare_words_stopping.json"
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        columns = ("training", "held_out", *WORD_TASKS)
        names = ("loss in training", "held out", *WORD_TASK_NAMES.values())
        rows = (
            (parse(row["method"]).to_dict()["epochs"], *(f"{row[c]:.3f}" for c in columns))
            for row in report["rows"]
        )
        parts += ["## When to stop (sgns)", table(("passes", *names), rows), *report["notes"]]
    path = results / "compare_words_domain.json"
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        columns = ("reviews", "novels", "both")
        rows = (
            (row["method"], *(f"{row[c]:.3f} ± {row[c + '_sd']:.3f}" for c in columns))
            for row in report["rows"]
        )
        parts += ["## Domain or size", table(("trained on", *columns), rows), *report["notes"]]
    return "\n\n".join(parts) + "\n"


def gains(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures of every task with their gain ratios, the methods in the table's order."""
    (floor,) = (row for row in rows if row["method"] == RANDOM)
    best = {task: max(row[task] for row in rows) for task in WORD_TASKS}
    order = {name: place for place, name in enumerate([*CONTEXTS, RANDOM])}
    found = []
    for row in sorted(rows, key=lambda row: order.get(row["method"].partition(":")[0], -1)):
        name, _, knobs = row["method"].partition(":")
        own = [k for k in knobs.split(",") if k and not k.startswith(("dim=", "threads="))]
        if name in CONTEXTS and (dim := parse(row["method"]).to_dict()["dim"]) != COMMON["dim"]:
            own = [f"dim={dim}", *own]
        cells = [
            f"{row[task]:.3f} ({100 * gain(row, floor, best, task):.0f})" for task in WORD_TASKS
        ]
        relation, context = CONTEXTS.get(name, ("", ""))
        link = f"[`{name}`](../methods/{name}.md)" if name in CONTEXTS else name
        found.append((" ".join([link, *own]), relation, context, *cells, f"{100 * row['pgr']:.0f}"))
    names = [WORD_TASK_NAMES[task] for task in WORD_TASKS]
    return table(("method", "relation", "context", *names, "mean gain"), found)


def build(docs: Path = DOCS) -> list[Path]:
    """Write every generated page below ``docs`` and return their paths."""
    pages = [describe(entry) for entry in catalog.CATALOG]
    texts = {f"methods/{page['name']}.md": method_page(page) for page in pages}
    texts["methods/index.md"] = methods_index(pages)
    texts["reference/cli.md"] = command_page()
    texts["reference/benchmarks.md"] = benchmark_page(DOCS / "results")
    texts["reference/compression.md"] = taxonomy_page(DOCS / "results")
    texts["reference/word-vectors.md"] = word_vectors_page(DOCS / "results")
    texts["reference/comparisons.md"] = comparison_page(DOCS / "results")
    for name, text in texts.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # spares `mkdocs serve`
            path.write_text(text, encoding="utf-8")
    return [docs / name for name in texts]


def on_config(config: Any) -> Any:
    """Build the pages before mkdocs looks for them, and list the methods in the navigation."""
    build()
    methods: list[Any] = ["methods/index.md"]
    for family in catalog.FAMILIES:
        pages = [f"methods/{entry.name}.md" for entry in catalog.members(family.name)]
        methods.append({family.name: [f"families/{family.name}.md", *pages]})
    for item in config.nav:
        if "Methods" in item:
            item["Methods"] = methods
    return config


if __name__ == "__main__":
    for page in build():
        print(page.relative_to(DOCS))
