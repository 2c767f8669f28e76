import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenspace.errors import ConfigError
from tokenspace.space.passages import Document, count_words, split


def cut(text, **options):
    words = options.pop("words", 120)
    return list(split(Document("page", options.pop("title", ""), text, **options), words))


def test_headings_become_the_title_and_lines_are_counted():
    found = cut("# Guide\n\nHello there.\n\n## The *first* step\n\nDo it.\n\n# Guide 2\n\nBye.\n")
    assert [(p.title, p.text, p.line) for p in found] == [
        ("Guide", "Hello there.", 3),
        ("Guide > The first step", "Do it.", 7),
        ("Guide 2", "Bye.", 11),
    ]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Top\n***\n\none\n\nSub\n===\n\ntwo\n", ["Top", "Top > Sub"]),  # Python's help topics
        ("===\nTop\n===\n\none\n\nSub\n---\n\ntwo\n", ["Top", "Top > Sub"]),  # with an overline
        ("Top\n===\n\n## Deep\n\ntwo\n", ["Top > Deep"]),
        ("a\n---b\n\n- - -\n", [""]),
    ],
)
def test_underlines(text, titles):
    assert [p.title for p in cut(text)] == titles


def test_code_is_not_a_heading():
    fenced = cut("Run this:\n\n```sh\n# comment\n\nls\n```\n\nDone.")
    assert len(fenced) == 1 and fenced[0].title == "" and "# comment" in fenced[0].text
    assert [p.title for p in cut("# a\nx = 1", title="f", headings=False)] == ["f"]


def test_a_heading_alone_is_not_lost():
    assert [(p.text, p.title) for p in cut("# Lonely\n\n# Next\n\nbody")] == [
        ("Lonely", "Lonely"),
        ("body", "Next"),
    ]


def test_sentences_stay_whole_and_passages_are_even():
    sentences = [f"This is sentence {i} of a long paragraph." for i in range(100)]
    found = cut("\n".join(sentences), words=120)
    assert [s for p in found for s in p.text.split("\n")] == sentences
    sizes = [count_words(p.text) for p in found]
    assert max(sizes) <= 180 and min(sizes) >= 60
    assert [p.line for p in found] == [1 + sentences.index(p.text.split("\n")[0]) for p in found]


def test_a_sentence_longer_than_the_target_is_cut():
    text = " ".join(f"w{i}" for i in range(1000))
    found = cut(text, words=50)
    assert max(count_words(p.text) for p in found) <= 75
    assert " ".join(" ".join(p.text.split()) for p in found) == text


def test_text_without_spaces():
    assert count_words("日本語") == 3
    for text in ("文字。" * 400, "x" * 20_000):
        found = cut(text, words=50)
        assert len(found) > 5
        assert "".join(p.text for p in found).replace(" ", "") == text


def test_code_stays_with_the_sentence_that_announces_it():
    filler = " ".join(["word"] * 100) + "."
    found = cut(f"{filler}\n\nFor example:\n\n    x = 1\n    y = 2\n\n{filler}", words=100)
    holding = [p for p in found if "For example:" in p.text]
    assert len(holding) == 1 and "    y = 2" in holding[0].text


def test_lines_of_a_stripped_text():
    found = cut("# Big\n\npara", line=2, lines=[2, 2, 9])
    assert found[0].line == 9


def test_empty_and_bounds():
    assert cut("") == [] and cut(" \n\n ") == []
    with pytest.raises(ConfigError, match="words=1 is outside"):
        cut("text", words=1)


@given(st.text(alphabet="ab .\n#=-`:1", max_size=300), st.integers(8, 40))
def test_nothing_is_lost_and_lines_are_true(text, words):
    rows = text.split("\n")
    found = cut(text, words=words)
    kept = "".join(p.title + p.text for p in found)
    assert kept.count("b") >= 0 and all(p.text.strip() for p in found)
    for passage in found:
        first = passage.text.split("\n")[0].split()
        assert set("".join(first)) <= set(rows[passage.line - 1]) | {" "}
    body = sum(row.count("a") for p in found for row in [p.title, p.text])
    assert body >= text.count("a")
