"""Judge word vectors: similarity, analogies, categories, features, sentences, taggers.

Every measure takes a table and what a set holds, and returns a :class:`Result` (or several): the
figure with its 95 % bootstrap interval, how many of how many items it rests on, the words that
the table lacks, and the items themselves, by which :func:`compare` tests two tables.
"""

from tokenspace.words.evaluation.analogy import analogies
from tokenspace.words.evaluation.categories import categorisation, outliers
from tokenspace.words.evaluation.compare import Comparison, compare
from tokenspace.words.evaluation.features import Features, features
from tokenspace.words.evaluation.results import Result
from tokenspace.words.evaluation.sentences import sentences
from tokenspace.words.evaluation.similarity import similarity, word_similarity
from tokenspace.words.evaluation.suite import Evaluation, evaluate
from tokenspace.words.evaluation.tagging import tagging

__all__ = [
    "Comparison",
    "Evaluation",
    "Features",
    "Result",
    "analogies",
    "categorisation",
    "compare",
    "evaluate",
    "features",
    "outliers",
    "sentences",
    "similarity",
    "tagging",
    "word_similarity",
]
