"""Directories of tiny models and of tokenizers, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers as tf
from tiny_models import KINDS, make_tokenizer, new_model, wrap


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directory of a model by its name in ``KINDS``; tests only read it."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("models") / name
            new_model(name).save_pretrained(folder)
            kind = KINDS[name][0]
            wrap(make_tokenizer(kind), kind, model_max_length=190).save_pretrained(folder)
            made[name] = folder
        return made[name]

    return get


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directory of a tokenizer by its name in ``ROLES``."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("tokenizers") / kind
            wrap(make_tokenizer(kind), kind).save_pretrained(made[kind])
        return made[kind]

    return get


@pytest.fixture(autouse=True, scope="session")
def _still() -> None:
    tf.utils.logging.set_verbosity_error()
    tf.utils.logging.disable_progress_bar()
