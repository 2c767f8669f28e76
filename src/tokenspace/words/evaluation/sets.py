"""The sets that word vectors are judged on: public ones by name, and users' files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tokenspace import data
from tokenspace.errors import ConfigError, InputError
from tokenspace.words.evaluation import files, wordnet
from tokenspace.words.evaluation.tagging import Sentence, split_sentences

__all__ = ["DERIVED", "SETS", "TASKS", "Chosen", "choose"]

TASKS = tuple(files.READERS)


class Known(NamedTuple):
    """A public set: what it is for, its language, and the name of its file in ``data``."""

    task: str
    language: str
    source: str


SETS: Mapping[str, Known] = {
    **{
        name: Known("similarity", "en", name)
        for name in (
            "EN-WS-353-ALL", "EN-WS-353-SIM", "EN-WS-353-REL", "EN-SIMLEX-999", "EN-MEN-TR-3k",
            "EN-RW-STANFORD", "EN-RG-65", "EN-YP-130", "EN-MTurk-287",
        )
    },
    "google-analogies": Known("analogy", "en", "google-analogies"),
    "wordnet-categories": Known("categories", "en", wordnet.RELATIONS),
    "wordnet-outliers": Known("outliers", "en", wordnet.RELATIONS),
    "wordnet-supersenses": Known("features", "en", wordnet.DEFINITIONS),
    **{
        name: Known("sentences", "en", name)
        for name in ("sts2012", "sts2014", "sts2015", "stsb_dev", "SICK_trial")
    },
    "tr_similarity_semantic": Known("similarity", "tr", "turkish/tr_similarity_semantic_dev.tsv"),
    "tr_similarity_syntactic": Known("similarity", "tr", "turkish/tr_similarity_syntactic_dev.tsv"),
    "tr_analogies": Known("analogy", "tr", "turkish/tr_analogies_dev.tsv.gz"),
    "tr_boun": Known("pos", "tr", "turkish/tr_boun-ud-dev.conllu.gz"),
    "tr_kenet": Known("pos", "tr", "turkish/tr_kenet_dev.tsv.gz"),
    "tr_ner": Known("ner", "tr", "turkish/tr_ner_dev.tsv.gz"),
    "zh_wordsim_240": Known("similarity", "zh", "zh_wordsim_240"),
    "zh_analogies": Known("analogy", "zh", "wordsim/zh_analogies_dev.tsv"),
    "zh_gsd": Known("pos", "zh", "multilingual/zh_gsd_dev.tsv.gz"),
}  # fmt: skip
"""Every public set that is known here, by name."""

DERIVED: Mapping[str, Callable[[], Any]] = {
    "wordnet-categories": wordnet.categories,
    "wordnet-outliers": wordnet.outliers,
    "wordnet-supersenses": wordnet.supersenses,
}
"""The sets that are derived from other data, and how."""


@dataclass(frozen=True)
class Chosen:
    """One set to be measured on: a public one, or one or two files."""

    name: str
    task: str
    language: str
    paths: tuple[str, ...] = ()

    def load(self) -> Any:
        """Return what the set holds, in the form of its task.

        Tags come as a pair: the sentences to learn from, and those to test on. Raises
        :class:`InputError` where the set can be had nowhere.
        """
        if not self.paths and self.name in DERIVED:
            return DERIVED[self.name]()
        where = self.paths or (str(data.find(SETS[self.name].source)),)
        found = [files.read(self.task, Path(path)) for path in where]
        if self.task not in ("pos", "ner"):
            return found[0]
        parts: tuple[list[Sentence], list[Sentence]] = (
            split_sentences(found[0]) if len(found) == 1 else (found[0], found[1])
        )
        return parts


def choose(given: Sequence[str], language: str = "en") -> list[Chosen]:
    """Return the sets that are named: by name, by task, or as files; none: all of the language.

    A file is a path, or ``TASK:PATH``; tags may have two, ``pos:TRAIN,TEST``.
    """
    if not given:
        chosen = [_public(name) for name, known in SETS.items() if known.language == language]
        if not chosen:
            languages = sorted({known.language for known in SETS.values()})
            raise ConfigError(
                f"no public set is known for language {language!r}",
                hint=f"name files with --on, or a language out of {', '.join(languages)}",
            )
        return chosen
    found: dict[str, Chosen] = {}
    for text in given:
        for item in _resolve(text, language):
            taken = found.get(item.name, item)
            found[item.name if taken == item else text] = item
    return [replace(item, name=name) for name, item in found.items()]


def _public(name: str) -> Chosen:
    return Chosen(name, SETS[name].task, SETS[name].language)


def _resolve(text: str, language: str) -> list[Chosen]:
    if text in SETS:
        return [_public(text)]
    if text in TASKS:
        named = [
            _public(name)
            for name, known in SETS.items()
            if (known.task, known.language) == (text, language)
        ]
        if not named:
            raise ConfigError(
                f"no public set for {text} is known in language {language!r}",
                hint=f"name a file: {text}:PATH",
            )
        return named
    task, colon, rest = text.partition(":")
    if colon and task in TASKS:
        paths = tuple(rest.split(",")) if task in ("pos", "ner") else (rest,)
        if len(paths) > 2:
            raise ConfigError(f"{text}: {len(paths)} files", hint=f"write {task}:TRAIN,TEST")
    elif Path(text).is_file():
        task, paths = files.guess(Path(text)), (text,)
    else:
        import difflib

        near = difflib.get_close_matches(text, [*SETS, *TASKS], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"sets: {', '.join(SETS)}"
        raise ConfigError(f"{text!r} is no set, no task and no file", hint=hint)
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file", hint="check the path")
    return [Chosen(Path(paths[-1]).name, task, language, paths)]
