"""Users' files: every form that is read, and what is said of those that are not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tokenspace.data import Analogy
from tokenspace.errors import FormatError, InputError
from tokenspace.words.evaluation.files import guess, read


@pytest.fixture
def put(tmp_path: Path):
    def write(text: str, name: str = "set.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def test_pairs(put) -> None:
    wanted = [("sun", "light", 5.0), ("ice", "cream", 0.5)]
    for text in (
        "sun\tlight\t5\nice\tcream\t.5\n",
        "sun light 5.0\n\nice  cream 0.5",
        "word1\tword2\tscore\r\nsun\tlight\t5\r\nice\tcream\t0.5\r\n",
        "# WordSim\n\nWord 1\tWord 2\tHuman (mean)\nsun\tlight\t5\nice\tcream\t0.5\n",
        "word1\tword2\tPOS\tSimLex999\tconc\nsun\tlight\tN\t5\t1\nice\tcream\tN\t0.5\t2\n",
    ):
        assert read("similarity", put(text)) == wanted
    assert read("similarity", put("sun\tlight\t5\nice\tcream\t.5\n", "set.tsv.gz")) == wanted


@pytest.mark.parametrize(
    ("task", "text", "says"),
    [
        ("similarity", "sun\tlight\n", "line 1: 'sun\\\\tlight' has 2 fields"),
        ("similarity", "sun\tlight\t5\nice\tcream\n", "line 2: 'ice\\\\tcream' has 2 fields"),
        ("similarity", "sun\tlight\t5\nice\tcream\tmuch\n", "line 2: 'much' is not a number"),
        ("similarity", "sun\tlight\tmuch\nice\tcream\t2\n", "line 1: 'much' is not a number"),
        ("similarity", "sun\tlight\tnan\n", "'nan' is not a number"),
        ("similarity", "word1\tword2\tx\ty\n", "4 fields"),
        ("similarity", "", "nothing in it"),
        ("analogy", "a b c\n", "3 fields"),
        ("analogy", ": s\na b c d e\n", "line 2: 'a\\\\tb\\\\tc\\\\td\\\\te' has 5 fields"),
        ("analogy", ": s\n", "nothing in it"),
        ("categories", "animal cat black\n", "3 fields"),
        ("categories", "animal cat\nanimal dog\n", "one category only"),
        ("outliers", "g\tcat\tinside\n", "'g\\\\tcat\\\\tinside' has 3 fields"),
        ("outliers", "g\tcat\tin\ng\tcar\tout\n", "group 'g' has 1 words and 1 outliers"),
        ("features", "cat\n", "1 fields"),
        ("features", "cat\tanimal\t-1\n", "weight -1.0"),
        ("features", "cat\tanimal\tnan\n", "'nan' is not a number"),
        ("sentences", "one sentence\tanother\n", "2 fields"),
        ("sentences", "1\tx\ty\nno\tx\ty\n", "'no' is not a number"),
        ("ner", "cat\n", "1 fields"),
        ("pos", "\n\n", "nothing in it"),
    ],
)
def test_what_is_no_such_file(put, task: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read(task, put(text))
    assert caught.value.hint


def test_analogies(put) -> None:
    wanted = [Analogy("capital cities", "Athens", "Greece", "Oslo", "Norway"),
              Analogy("family", "a", "b", "c", "d")]  # fmt: skip
    google = ": capital cities\nAthens Greece Oslo Norway\n: family\na b c d\n"
    table = "group\tcategory\ta\tb\tc\td\nx\tcapital cities\tAthens\tGreece\tOslo\tNorway\n"
    assert read("analogy", put(google)) == wanted
    assert read("analogy", put(table + "y\tfamily\ta\tb\tc\td\n")) == wanted
    assert read("analogy", put("w\tx\ty\tz\n")) == [Analogy("", "w", "x", "y", "z")]


def test_categories_outliers_and_features(put) -> None:
    text = "animal cat\nplant rose\nanimal dog\nanimal cat\n"
    assert read("categories", put(text)) == {"animal": ["cat", "dog"], "plant": ["rose"]}
    text = "g\tcat\tin\ng\tdog\tin\ng\tcar\tout\n"
    assert read("outliers", put(text)) == [("g", ("cat", "dog"), ("car",))]
    found = read("features", put("cat\tanimal\ncat\tpet\t0.5\nrose\tplant\n"))
    assert (found.words, found.names) == (("cat", "rose"), ("animal", "pet", "plant"))
    np.testing.assert_array_equal(found.matrix, [[1, 0.5, 0], [0, 0, 1]])


def test_sentences(put) -> None:
    wanted = [("A cat.", "The cat", 4.5), ("No", "Yes", 0.0)]
    for text in (
        "4.5\tA cat.\tThe cat\n0\tNo\tYes\n",
        "A cat.\tThe cat\t4.5\nNo\tYes\t0\n",
        "id\tscore\tsentence1\tsentence2\nx\t4.5\tA cat.\tThe cat\ny\t0\tNo\tYes\n",
        "pair_ID\tsentence_A\tsentence_B\trelatedness_score\n1\tA cat.\tThe cat\t4.5\n"
        "2\tNo\tYes\t0\n",
    ):
        assert read("sentences", put(text)) == wanted


def test_tags(put) -> None:
    wanted = [(("a", "cat"), ("DET", "NOUN")), (("go",), ("VERB",))]
    tail = "\t_" * 6
    conllu = (
        f"# text = a cat\n1-2\tacat\t_\t_{tail}\n1\ta\ta\tDET{tail}\n2\tcat\tcat\tNOUN{tail}\n"
        f"2.1\tis\tbe\tAUX{tail}\n\n1\tgo\tgo\tVERB{tail}\n"
    )
    assert read("pos", put(conllu, "x.conllu")) == wanted
    assert read("pos", put(conllu, "x.conllu.gz")) == wanted
    assert read("pos", put("a DET\ncat NOUN\n\ngo VERB\n")) == wanted
    assert (
        read("pos", put("-DOCSTART- -X- O O\n\na _ _ DET\ncat _ _ NOUN\n\ngo _ _ VERB")) == wanted
    )
    assert read("pos", put("id\ttext\tupos\n1\ta cat\tDET NOUN\n2\tgo\tVERB\n")) == wanted
    with pytest.raises(FormatError, match="2 words and 1 tags"):
        read("pos", put("id\ttext\tupos\n1\ta cat\tDET\n"))
    with pytest.raises(FormatError, match=r"line 1: .* 3 fields"):
        read("pos", put("1\ta\tDET\n", "x.conllu"))


def test_what_a_file_is_for(put) -> None:
    assert guess(put("a\tb\t3\n")) == "similarity"
    assert guess(put("word1\tword2\tscore\na\tb\t3\n")) == "similarity"
    assert guess(put(": x\na b c d\n")) == "analogy"
    assert guess(put("a b c d\n")) == "analogy"
    assert guess(put("x", "y.conllu")) == "pos"
    with pytest.raises(InputError, match="cannot tell") as caught:
        guess(put("a sentence\tanother sentence\t3\n"))
    assert "sentences" in str(caught.value.hint)
