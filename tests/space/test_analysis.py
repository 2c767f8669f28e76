import pytest

from tokenspace.space.analysis import STOPWORDS, analyse


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("threading.Thread.join", ["thread", "thread", "join"]),
        ("ThreadPool parse_HTTPResponse", ["thread", "pool", "pars", "http", "respons"]),
        ("copies copying copied copy", ["copi"] * 4),
        ("stopped stopping stops", ["stop"] * 3),
        ("classes boxes matches class is", ["class", "box", "match", "class"]),
        ("How do I, in my class?", ["class"]),
        ("straße ÉCOLE x2 3.11", ["strass", "école", "x2", "3", "11"]),
        ("日本語 text", ["日", "本", "語", "text"]),
        ("ﬁle", ["file"]),
        ("can't we've I'LL the user's they’re I'd I'm", ["user"]),
        ("the classes' names, 3.11's, __init__'s", ["class", "name", "3", "11", "init"]),
        ("d'accord rock'n'roll", ["d", "accord", "rock", "n", "roll"]),
        ("b't' 's' x = 't'", ["b", "t", "s", "x", "t"]),  # texts of programs, not contractions
        ("", []),
    ],
)
def test_words(text, words):
    assert analyse(text) == words


def test_stop_words_are_words_of_questions_not_of_programs():
    assert {"how", "i", "my", "the"} <= STOPWORDS
    assert not {"file", "class", "thread", "without", "two"} & STOPWORDS
