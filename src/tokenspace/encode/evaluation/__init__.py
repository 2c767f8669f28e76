"""Compare text encoders: tasks on local data, MTEB's result files, and the tests between them.

A task family (similarity, classification, clustering, retrieval, pairs, reranking) is judged on
several data sets. Two encoders differ in a family if Wilcoxon's test over its data sets says so;
inside one set the paired bootstrap gives the interval of the difference. Families are never
averaged together.
"""

from tokenspace.encode.evaluation.comparison import Comparison, compare, compare_scores
from tokenspace.encode.evaluation.results import read_results
from tokenspace.encode.evaluation.sets import Chosen, choose
from tokenspace.encode.evaluation.tasks import FAMILIES, Judged, judge

__all__ = [
    "FAMILIES",
    "Chosen",
    "Comparison",
    "Judged",
    "choose",
    "compare",
    "compare_scores",
    "judge",
    "read_results",
]
