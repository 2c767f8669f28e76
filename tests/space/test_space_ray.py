"""A space built by Ray's workers is the space that one process builds, though workers die."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tokenspace import cli
from tokenspace.errors import ConfigError, InputError, TokenspaceError
from tokenspace.space import Space, jobs
from tokenspace.space.jobs import HERE, Jobs, jobs_of

ray = pytest.importorskip("ray")
TEXT = "\n\n".join(
    f"# Part {i}\n\nThe {word} number {i} is written here. It has more than one sentence, "
    f"and {other} follows {word} as it did before."
    for i in range(40)
    for word, other in (("river", "harbour"), ("engine", "piston"), ("garden", "orchard"))
)
SETTINGS = {"dim": 16, "epochs": 1, "vocab_size": 400, "passage_words": 20, "threads": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Jobs]:
    """Two workers on this machine; they know this file only by what is sent to them."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with jobs_of("ray") as opened:
        yield opened
    assert ray.is_initialized()  # what others started is theirs to stop
    ray.shutdown()


@dataclass(frozen=True)
class Square:
    """Squares; kills its process ``deaths`` times at ``deadly``."""

    marks: Path
    deadly: int = -1
    deaths: int = 0

    def __call__(self, number: int) -> int:
        if number == self.deadly:
            died = len(list(self.marks.iterdir()))
            if died < self.deaths:
                (self.marks / str(died)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return number**2


@dataclass(frozen=True)
class Meet:
    """Says its name to the other worker, and waits for that of the other."""

    marks: Path

    def __call__(self, number: int) -> tuple[int, int]:
        (self.marks / str(os.getpid())).touch()
        end = time.monotonic() + 60
        while len(list(self.marks.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        return number, os.getpid()


def test_results_come_in_order_from_two_other_processes(cluster: Jobs, tmp_path: Path) -> None:
    values, where = zip(*cluster.map(Meet(tmp_path), range(30)), strict=True)
    assert list(values) == [*range(30)]
    assert len(set(where)) == 2 and os.getpid() not in where


def test_items_are_handed_over_in_waves(
    cluster: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WAVE", 20)
    drawn = []

    def numbers() -> Iterator[int]:
        for number in range(12):
            drawn.append(number)
            yield number

    results = cluster.map(Square(tmp_path), numbers())
    assert next(results) == 0
    assert len(drawn) < 12
    assert list(results) == [n**2 for n in range(1, 12)]


def test_what_a_killed_worker_held_is_done_again(cluster: Jobs, tmp_path: Path) -> None:
    job = Square(tmp_path, deadly=3, deaths=2)
    assert list(cluster.map(job, range(8))) == [n**2 for n in range(8)]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_kills_every_worker_is_an_error_of_one_line(cluster: Jobs, tmp_path: Path) -> None:
    job = Square(tmp_path, deadly=3, deaths=99)
    with pytest.raises(TokenspaceError, match="the worker of one item died 4 times") as caught:
        list(cluster.map(job, range(8)))
    assert "\n" not in str(caught.value)


def _refuse(number: int) -> int:
    raise InputError(f"page {number}: no text", hint="mend it")


def test_an_error_of_a_job_is_raised_as_it_is(cluster: Jobs) -> None:
    with pytest.raises(InputError, match="page 5: no text") as caught:
        list(cluster.map(_refuse, [5]))
    assert caught.value.hint == "mend it"


def _files(space: Space) -> dict[str, bytes]:
    """Return every file but those that hold times."""
    root = space.generation.path
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.parent.name != "steps" and path.stem not in ("report", "plan")
    }


def test_build_and_add_give_the_bytes_of_one_process(cluster: Jobs, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text(TEXT.replace("river", "canal").replace("Part", "Piece"))
    first, second = [str(tmp_path / "a.txt")], [str(tmp_path / "b.txt")]
    here = Space.build(first, out=tmp_path / "here", **SETTINGS)
    there = Space.build(first, out=tmp_path / "there", engine="ray", **SETTINGS)
    assert _files(here) == _files(there)
    here, there = here.add(second), there.add(second, engine="ray")
    assert _files(here) == _files(there)
    assert {passage.source for passage in there.generation.passages} == {"a.txt", "b.txt"}


def test_the_command_builds_with_ray(cluster: Jobs, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    arguments = ["build", str(tmp_path / "a.txt"), "--out", str(tmp_path / "space"), *options]
    done = CliRunner().invoke(cli.root, [*arguments, "--engine", "ray"])
    assert done.exit_code == 0, done.output
    assert len(Space.open(tmp_path / "space")) > 20


def test_local_jobs_are_lazy() -> None:
    seen = HERE.map(lambda number: number + 1, iter(range(3)))
    assert next(seen) == 1
    assert list(seen) == [2, 3]


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="engine='spark' is not one of local, ray"):
        Space.build([], out=tmp_path / "space", engine="spark")  # type: ignore[arg-type]


def test_arrays_come_back_as_they_are(cluster: Jobs) -> None:
    (sent,) = cluster.map(np.negative, [np.arange(6, dtype=np.float32).reshape(2, 3)])
    np.testing.assert_array_equal(sent, -np.arange(6, dtype=np.float32).reshape(2, 3))
    assert sent.dtype == np.float32
