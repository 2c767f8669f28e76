"""Words for lexical search: what a text and a question must have in common to match.

Words are runs of letters and digits, lower case, with the parts of an identifier apart
(``threading.Thread.join`` and ``ThreadPoolExecutor`` match "thread"), English endings removed by
a few rules, and the words left out that every question has, the tail of "can't" or "user's" with
them. Text in other scripts passes through: an ideograph is a word of its own, and the rules only
touch words in ASCII letters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["STOPWORDS", "analyse"]

_COMMON = """
a about all also am an and any are as at be been being but by can cannot could did do does
doing done for from had has have having he her here hers him his how i if in into is it its
just may me might mine must my no nor of on onto or our ours shall she should so some such
than that the their theirs them then there these they this those to too us very was we were
what when where which who whom whose why will with would you your yours
"""
STOPWORDS = frozenset(_COMMON.split())
_CJK = "\u2e80-\u2fff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_TAIL = re.compile(r"(?<=\w)['’](?:s|t|ll|re|ve|d|m)(?!\w|['’])", re.IGNORECASE)  # but not b't'
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VOWEL = re.compile("[aeiouy]")


def analyse(text: str) -> list[str]:
    """Return the words of ``text`` that count, in order.

    >>> analyse("How do I make the ThreadPoolExecutor stop waiting?")
    ['make', 'thread', 'pool', 'executor', 'stop', 'wait']
    """
    words: list[str] = []
    for match in _WORD.finditer(_TAIL.sub("", unicodedata.normalize("NFKC", text))):
        for part in _HUMP.split(match[0]):
            word = part.casefold()
            if word not in STOPWORDS:
                words.append(_stem(word))
    return words


@lru_cache(1 << 16)
def _stem(word: str) -> str:
    """Take off the endings -s, -es, -ed, -ing, and a final -e or y: "copies", "copying", "copy"."""
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif (word.endswith("es") and word[-3] in "sxz") or word.endswith(("ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and word[-2] not in "su":
        word = word[:-1]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and _VOWEL.search(stem):
            twice = len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz"
            word = stem[:-1] if twice else stem
            break
    if word.endswith("y") and len(word) > 3:
        return word[:-1] + "i"
    return word.removesuffix("e") if len(word) > 4 else word
