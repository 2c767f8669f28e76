"""The server fuzzed through its own description: no reply is a 5xx, and all are as described.

``TOKENSPACE_FUZZ=N`` asks for N random requests of either kind an operation instead of a few.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from tokenspace.serve import Settings, create_app

EXAMPLES = int(os.environ.get("TOKENSPACE_FUZZ", "25"))
PATIENT = settings(
    max_examples=EXAMPLES,
    derandomize="TOKENSPACE_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
PATHS = ("/search", "/info", "/health", "/health/ready", "/metrics")


def describe(built: Path, **settings: Any) -> Any:
    app = create_app(built, Settings(rate=0, **settings))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture(scope="module")
def api(built: Path) -> Any:
    return describe(built)


@pytest.fixture(scope="module")
def guarded(built: Path) -> Any:
    return describe(built, token="a-token-that-is-not-sent")


def check(case: schemathesis.Case, seen: Counter[int]) -> None:
    """Send one request; all checks of schemathesis on the reply, and ours."""
    reply = case.call_and_validate()
    seen[reply.status_code] += 1
    assert reply.status_code < 500
    assert "Traceback" not in reply.text
    if reply.status_code >= 400:
        assert reply.json().keys() == {"error", "hint"}


def suggested(api: Any, path: str) -> Counter[int]:
    """Send every kind of request that the description suggests; count the replies' statuses."""
    operation, seen = next(iter(api[path].values())), Counter[int]()
    config = api.config.generation_for(operation=operation)
    for case in api.iter_coverage_cases(
        operation, generation_modes=MODES, generation_config=config
    ):
        check(case, seen)
    return seen


def random(api: Any, mode: GenerationMode) -> Counter[int]:
    """Send random requests to /search; count the replies' statuses."""
    seen = Counter[int]()

    @PATIENT
    @given(case=api["/search"]["POST"].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        check(case, seen)

    ask()
    assert sum(seen.values()) >= EXAMPLES / 2
    return seen


def test_every_path_is_fuzzed(api: Any, guarded: Any) -> None:
    assert set(api) == set(guarded) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_replies_are_as_described(api: Any, path: str) -> None:
    seen = suggested(api, path)
    assert seen[200]
    assert seen[405]


def test_what_the_description_allows_is_answered(api: Any) -> None:
    assert set(random(api, GenerationMode.POSITIVE)) == {200}


def test_what_the_description_forbids_is_refused(api: Any) -> None:
    assert set(random(api, GenerationMode.NEGATIVE)) <= {400, 415, 422}


@pytest.mark.parametrize("path", ["/search", "/info", "/metrics"])
def test_nothing_is_answered_without_the_token(guarded: Any, path: str) -> None:
    assert set(suggested(guarded, path)) == {401}


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_nothing_random_is_answered_without_the_token(guarded: Any, mode: GenerationMode) -> None:
    assert set(random(guarded, mode)) == {401}
