"""Building: eight steps, the same bytes again, going on after a kill, and refusing bad input."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.encode.pv_dbow import PVDBOW
from tokenspace.errors import ConfigError, FormatError, InputError, SpaceBusy
from tokenspace.metrics import cosine
from tokenspace.space import Space
from tokenspace.space import build as building
from tokenspace.space.build import Step
from tokenspace.space.plan import Plan
from tokenspace.space.steps import STEPS
from tokenspace.space.store import FORMAT, Manifest, generations, lock

Quick = dict[str, Any]


def files_of(root: Path) -> dict[str, str]:
    """The checksums of everything but what holds seconds."""
    timed = ("report", "steps/", "plan.json")
    entries = Manifest.read(root).files.items()
    return {name: entry["sha256"] for name, entry in entries if not name.startswith(timed)}


def test_the_steps_are_told_in_order_with_seconds_and_bytes(
    folder: Path, tmp_path: Path, quick: Quick
) -> None:
    told: list[Step] = []
    space = Space.build([folder], out=tmp_path / "s", on_step=told.append, **quick)
    assert [step.name for step in told] == [*STEPS, "measure"]
    assert all(step.seconds >= 0 and step.says for step in told)
    assert told[0].figures["sources"] == 8
    assert len(space) == told[0].figures["passages"] == len(space.generation.passages)
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    assert report["counts"]["words"] == told[0].figures["words"]
    assert report["bytes"]["total"] <= space.nbytes
    modes = {row["mode"]: row for row in report["known_item"]["modes"]}
    assert set(modes) == {"single", "fde only", "fde", "maxsim", "bm25", "hybrid"}
    for row in modes.values():
        assert 0 <= row["mrr10_low"] <= row["mrr10"] <= row["mrr10_high"] <= row["recall10_high"]


def test_one_thread_gives_the_same_bytes_again(
    built: Path, folder: Path, tmp_path: Path, quick: Quick
) -> None:
    Space.build([folder], out=tmp_path / "again", **quick)
    assert files_of(tmp_path / "again") == files_of(built)
    Space.build([folder], out=tmp_path / "other", **quick, seed=1)
    assert files_of(tmp_path / "other") != files_of(built)


def test_a_finished_space_of_the_same_plan_is_left_alone(
    copy: Path, folder: Path, quick: Quick
) -> None:
    before = Manifest.read(copy)
    told: list[Step] = []
    Space.build([folder], out=copy, on_step=told.append, **quick)
    assert Manifest.read(copy) == before
    assert told == []


def test_another_plan_replaces_the_space_in_one_generation(
    copy: Path, folder: Path, quick: Quick
) -> None:
    Space.build([folder], out=copy, **{**quick, "dim": 8})
    assert Manifest.read(copy).generation == "g000002"
    assert [path.name for path in generations(copy)] == ["g000002"]
    assert Space.open(copy).generation.table.shape[1] == 8


@pytest.mark.parametrize("broken", [*STEPS, "measure"])
def test_an_interrupted_build_goes_on_after_its_last_finished_step(
    broken: str,
    built: Path,
    folder: Path,
    copy: Path,
    quick: Quick,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    former = Manifest.read(copy)
    settings = {**quick, "seed": 3}

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if broken == "measure":
            patch.setattr(building, "measure", fail)
        else:
            patch.setitem(STEPS, broken, fail)
        with pytest.raises(KeyboardInterrupt):
            Space.build([folder], out=copy, **settings)
    assert Manifest.read(copy) == former  # and the former space still answers
    assert Space.open(copy).search("with statement", k=1)
    calls: list[str] = []
    for name, run in dict(STEPS).items():

        def counted(*given: Any, name: str = name, run: Any = run) -> Any:
            calls.append(name)
            return run(*given)

        monkeypatch.setitem(STEPS, name, counted)
    Space.build([folder], out=copy, **settings)
    names = list(STEPS)
    assert calls == (names[names.index(broken) :] if broken in names else [])
    assert Manifest.read(copy).generation == "g000002"


def test_kill_9_leaves_the_former_space_and_the_next_run_goes_on(
    folder: Path, copy: Path, quick: Quick
) -> None:
    former = Manifest.read(copy)
    code = (
        "import sys, time\n"
        "from tokenspace.space import Space\n"
        "def told(step):\n"
        "    print(step.name, flush=True)\n"
        "    time.sleep(60 if step.name == 'vectors' else 0)\n"
        f"Space.build([sys.argv[1]], out=sys.argv[2], on_step=told, **{quick!r}, dim=12)\n"
    ).replace("'dim': 16, ", "")
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder, copy], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout as lines:
        assert any(line.strip() == "vectors" for line in lines)
        with pytest.raises(SpaceBusy), lock(copy):
            pass
        child.send_signal(signal.SIGKILL)
    child.wait()
    assert Manifest.read(copy) == former
    Space.open(copy, verify=True)
    for place in (copy / ".manifest.json.x", copy / "g000002" / ".fde.x"):
        place.mkdir()  # as a kill in the middle of writing leaves them
    told: list[Step] = []
    Space.build([folder], out=copy, on_step=told.append, **{**quick, "dim": 12})
    assert told[2].name == "vectors"
    assert told[2].seconds < 60  # the seconds of the killed run: the step was not run again
    assert Space.open(copy).generation.table.shape[1] == 12
    assert generations(copy) == [copy / "g000002"]
    assert not [path for path in copy.rglob(".*") if path.name != ".lock"]


def test_a_full_disk_is_one_line_and_leaves_the_former_space(
    folder: Path, copy: Path, quick: Quick
) -> None:
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from tokenspace.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ["build", folder, "--out", copy, "--vocab-size", "700", "--dim", "32"]
    former = Manifest.read(copy)
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert ended.stderr.strip().count("\n") == 0
    assert "hint" in ended.stderr
    assert Manifest.read(copy) == former
    assert Space.open(copy, verify=True).search("lambda", k=1)


def test_standard_input_and_tables_are_texts_too(tmp_path: Path, folder: Path) -> None:
    text = (folder / "with.txt").read_bytes()
    words = ["build", "-", "--out", tmp_path / "s", "--vocab-size", "400", "--dim", "8"]
    ended = subprocess.run(
        [sys.executable, "-m", "tokenspace", *words], input=text, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert b"report: " in ended.stdout
    assert Space.open(tmp_path / "s").search("context manager", k=1)[0].source.endswith(".txt")


def test_rows_come_by_standard_input_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Quick
) -> None:
    class Stdin:
        buffer = io.BytesIO(b'{"t": "one\\ntwo penguins walk"}\n{"t": "and a walrus swims"}\n')

    monkeypatch.setattr("sys.stdin", Stdin)
    space = Space.build(["-"], out=tmp_path / "s", text_field="t", **quick)
    assert [(p.text, p.line) for p in space.generation.passages] == [
        ("one\ntwo penguins walk", 1),
        ("and a walrus swims", 2),
    ]


@pytest.mark.parametrize("what", ["codes", "manifest"])
def test_a_damaged_space_is_built_again(
    what: str, copy: Path, built: Path, folder: Path, quick: Quick
) -> None:
    damaged = copy / Manifest.read(copy).generation / "tokens" / "codes.bin"
    data = bytearray(damaged.read_bytes())
    data[0] ^= 1
    damaged.write_bytes(data)
    if what == "manifest":
        (copy / "manifest.json").write_text("{")
    told: list[Step] = []
    Space.build([folder], out=copy, on_step=told.append, **quick)
    assert [step.name for step in told] == [*STEPS, "measure"]
    Space.open(copy, verify=True)
    assert files_of(copy) == files_of(built)
    assert len(generations(copy)) == 1


def test_a_space_of_a_newer_format_is_not_built_over(
    copy: Path, folder: Path, quick: Quick
) -> None:
    path = copy / "manifest.json"
    newer = path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}')
    assert newer != path.read_text()
    path.write_text(newer)
    with pytest.raises(FormatError, match="newer"):
        Space.build([folder], out=copy, **quick)
    assert path.read_text() == newer


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_the_precision_of_stored_vectors_changes_bytes_and_not_the_answer(
    store: str, built: Path, folder: Path, tmp_path: Path, quick: Quick
) -> None:
    space = Space.build([folder], out=tmp_path / "s", store=store, **quick)
    small = Space.open(built)
    ours, theirs = space.report["bytes"], small.report["bytes"]
    assert ours["singles"] > theirs["singles"]
    assert ours["fde"] > theirs["fde"]
    rows = np.arange(len(space))
    exact = space.collection.singles.rows(rows)
    assert np.abs(exact - small.collection.singles.rows(rows)).max() < 0.01
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, atol=2e-3)


def test_a_ready_tokenizer_is_taken(built: Path, folder: Path, tmp_path: Path) -> None:
    tokenizer = Space.open(built).generation.path / "vocabulary"
    space = Space.build([folder], out=tmp_path / "s", tokenizer=str(tokenizer), dim=8, epochs=1)
    assert space.generation.table.vocab == Space.open(built).generation.table.vocab


def test_an_encoder_that_was_trained_here_is_taken(folder: Path, tmp_path: Path) -> None:
    texts = [line for file in sorted(folder.iterdir()) for line in file.read_text().split("\n\n")]
    encoder = PVDBOW(dim=16, epochs=60, lr=0.1, threads=1)(Corpus(texts))
    encoder.save(tmp_path / "encoder")
    space = Space.build([folder], out=tmp_path / "s", encoder=str(tmp_path / "encoder"))
    query = "a class and its string methods"
    best = space.search(query, k=1, mode="single")[0]
    passages = list(space.generation.texts)
    asked = np.repeat(encoder.encode([query]), len(passages), axis=0)
    scores = cosine(encoder.encode(passages), asked)
    found = [passage.endswith(best.text) for passage in passages].index(True)
    assert scores[found] > scores.max() - 0.01  # the space keeps a byte a number


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dim": 0}, r"dim=0 is outside \[8, 4096\]"),
        ({"store": "int4"}, "store='int4' is not one of float32, float16, int8"),
        ({"encoder": "a", "tokenizer": "b"}, "brings its own tokenizer"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"encoding": "klingon"}, "'klingon' is not known"),
        ({"tokenizer": "nowhere/at all"}, "nowhere/at all"),
        ({"encoder": "nowhere/at all"}, "nowhere/at all"),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    settings: dict[str, Any], says: str, folder: Path, tmp_path: Path
) -> None:
    told: list[Step] = []
    with pytest.raises((ConfigError, InputError), match=says) as refused:
        Space.build([folder], out=tmp_path / "s", on_step=told.append, **settings)
    assert refused.value.hint
    assert told == []
    assert not (tmp_path / "s").exists()


def test_bad_input_is_refused(folder: Path, tmp_path: Path, quick: Quick) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty"):
        Space.build([empty], out=tmp_path / "s", **quick)
    blank = tmp_path / "blank"
    blank.mkdir()
    (blank / "a.txt").write_text(" \n\n")
    with pytest.raises(InputError, match="text"):
        Space.build([blank], out=tmp_path / "s", **quick)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"good words\n" + b"\xff\xfe and more")
    with pytest.raises(InputError, match=r"bad\.txt.*11") as refused:
        Space.build([bad], out=tmp_path / "s", **quick)
    assert "replace" in str(refused.value.hint)
    assert not (tmp_path / "s").exists()  # nothing is left of a build that was refused
    other = tmp_path / "other"
    other.mkdir()
    (other / "keep.txt").write_text("precious")
    with pytest.raises(InputError, match="other files"):
        Space.build([folder], out=other, **quick)
    assert (other / "keep.txt").read_text() == "precious"
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match="not a directory"):
        Space.build([folder], out=file, **quick)


def test_one_short_text_is_enough(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("# Tea\n\nPour hot water over the leaves and wait.\n")
    space = Space.build([tmp_path / "note.md"], out=tmp_path / "s", dim=8, epochs=1, threads=1)
    assert [hit.source for hit in space.search("hot leaves")] == ["note.md"]


def test_a_long_file_is_streamed(tmp_path: Path, folder: Path) -> None:
    """The peak of a child process grows far less than the text does."""
    text = "\n\n".join(p.read_text() for p in sorted(folder.glob("*.txt")))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tokenspace.space.passage_file import PassageFile\n"
        "from tokenspace.space.plan import Plan\n"
        "from tokenspace.space.steps import read_passages\n"
        "PassageFile.write(Path(sys.argv[2]), read_passages([sys.argv[1]], Plan()))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    peaks = []
    for copies in (150, 600):
        path = tmp_path / f"long{copies}.txt"
        path.write_text((text + "\n\n") * copies)
        # through a shell: a direct child would begin with the peak of this process
        words = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code, path]
        ended = subprocess.run(
            [*words, tmp_path / f"p{copies}"], capture_output=True, text=True, check=True
        )
        peaks.append(int(ended.stdout))
    assert (tmp_path / "long600.txt").stat().st_size > 20 * 2**20
    assert peaks[1] - peaks[0] < 10


def test_plan_defaults_are_allowed_values() -> None:
    plan = Plan()
    assert plan.vocab_size == 8000
    assert plan.store == "int8"
