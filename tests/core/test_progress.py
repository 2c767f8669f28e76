"""Progress: silent by default, a bar on standard error inside the block."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tokenspace.progress import Meter, show_progress, track


def test_a_library_call_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "count")) == [0, 1, 2]
    with Meter("bytes", total=10) as meter:
        meter.add(10)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_inside_the_block_a_bar_is_drawn_and_then_gone() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    with show_progress(console):
        assert sum(track((i for i in range(4)), "count", total=4)) == 6
        with Meter("bytes", total=2) as meter:
            meter.add(1)
            meter.add()
    assert "count" in file.getvalue()
    assert list(track([1], "again")) == [1]


def test_an_error_inside_the_loop_passes_through_and_ends_the_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(RuntimeError, match="stop"), show_progress(console):
        for _ in track([1, 2], "count"):
            raise RuntimeError("stop")
    assert list(track([1], "after")) == [1]
