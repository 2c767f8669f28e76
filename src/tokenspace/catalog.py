"""The table: one line for every method. Nothing else in the library lists them.

``--help``, ``list``, ``compare``, the documentation, the contract tests and the lazy attributes
of the families all read it. It imports nothing of ours and nothing heavy.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from .recipe import Recipe

__all__ = ["CATALOG", "FAMILIES", "Entry", "Family", "family", "find", "members"]


@dataclass(frozen=True)
class Entry:
    """One method: where it lives, where it comes from, and what it does in one line."""

    family: str
    name: str
    target: str
    paper: str
    summary: str
    stability: Literal["stable", "preview"] = "stable"
    preset: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> type[Recipe]:
        """Import and return the recipe's class."""
        module, _, attribute = self.target.partition(":")
        recipe: type[Recipe] = getattr(import_module(module), attribute)
        return recipe

    def claim(self) -> ModuleType:
        """Import and return the module that holds the claim and its measurement."""
        return import_module(f"tokenspace.claims.{self.name}")


@dataclass(frozen=True)
class Family:
    """A verb: what the user wants done, and what a call takes and gives.

    Where a ``signature`` has alternatives, a method starts from one of them.

    ``directory`` names the module that applies the family's methods to a whole model directory
    (:class:`tokenspace.runner.DirectoryModule`). ``of_words`` says that its methods find the words
    of a corpus, unless a tokenizer is given. ``evaluation`` names the module that compares what the
    methods gave, and other models of the kind, on real tasks
    (:class:`tokenspace.verbs.EvaluationModule`).
    """

    name: str
    summary: str
    signature: str
    directory: str = ""
    of_words: bool = False
    evaluation: str = ""


FAMILIES = (
    Family(
        "transplant",
        "Give a model another vocabulary.",
        "(source, target) -> EmbeddingTable",
        "tokenspace.transplant.directory",
    ),
    Family("tokenize", "Learn a tokenizer from text.", "(corpus) -> Vocabulary"),
    Family(
        "words",
        "Learn vectors for words or tokens from text.",
        "(corpus) -> EmbeddingTable",
        of_words=True,
    ),
    Family(
        "compress",
        "Store a table of vectors in fewer bytes.",
        "(source) -> Lookup",
        "tokenspace.compress.directory",
    ),
    Family(
        "edit",
        "Find directions of a space and move them.",
        "(source) -> EmbeddingTable",
        "tokenspace.edit.directory",
    ),
    Family(
        "encode",
        "Turn texts into vectors.",
        "(corpus | model | decoder) -> TextEncoder",
        of_words=True,
        evaluation="tokenspace.encode.evaluation.command",
    ),
    Family("retrieve", "Search documents by the vectors of their tokens.", "(docs) -> Index"),
    Family("lm", "Train a small language model.", "(corpus) -> LanguageModel"),
)

CATALOG = (
    Entry(
        "transplant",
        "cw2v",
        "tokenspace.transplant.cw2v:CW2V",
        "arXiv:2407.05841",
        "Learn new rows as convex combinations of old ones, by skip-gram on text where both meet.",
    ),
    Entry(
        "transplant",
        "focus",
        "tokenspace.transplant.focus:FOCUS",
        "arXiv:2305.14481",
        "Make a new row a convex sum of shared tokens' rows, by vectors learned on target text.",
    ),
    Entry(
        "transplant",
        "mean",
        "tokenspace.transplant.mean:Mean",
        "arXiv:2407.05841",
        "Give every unseen token the mean of the source rows.",
    ),
    Entry(
        "transplant",
        "multivariate",
        "tokenspace.transplant.multivariate:Multivariate",
        "arXiv:2407.05841",
        "Draw unseen rows close around the mean, with the correlations of the source rows.",
    ),
    Entry(
        "transplant",
        "ofa",
        "tokenspace.transplant.ofa:OFA",
        "arXiv:2311.08849",
        "Give a new token the rows of those nearest to it in one space of words of all languages.",
    ),
    Entry(
        "transplant",
        "omp",
        "tokenspace.transplant.omp:OMP",
        "arXiv:2506.06607",
        "Rebuild unseen rows as sparse sums of shared anchors, with a donor's coefficients.",
    ),
    Entry(
        "transplant",
        "procrustes",
        "tokenspace.transplant.procrustes:Procrustes",
        "Psychometrika 1966 (Schönemann)",
        "Rotate a donor's rows into the source's space, as fits the shared tokens best.",
    ),
    Entry(
        "transplant",
        "random",
        "tokenspace.transplant.random:Random",
        "arXiv:2407.05841",
        "Draw unseen rows from N(0, std²), as a model's rows are before any training.",
    ),
    Entry(
        "transplant",
        "retok",
        "tokenspace.transplant.retok:ReTok",
        "arXiv:2410.04335",
        "Give every unseen token the mean of the rows of its pieces in the source's tokens.",
    ),
    Entry(
        "transplant",
        "ridge",
        "tokenspace.transplant.ridge:Ridge",
        "Technometrics 1970 (Hoerl, Kennard)",
        "Map unseen rows from a donor to the source by a ridge regression on the shared tokens.",
    ),
    Entry(
        "transplant",
        "tokenadapt",
        "tokenspace.transplant.tokenadapt:TokenAdapt",
        "arXiv:2505.09738",
        "Mix the rows of a token's pieces and of its nearest tokens, by likeness and length.",
    ),
    Entry(
        "transplant",
        "transtok",
        "tokenspace.transplant.transtok:TransTok",
        "arXiv:2408.04303",
        "Give a token of another language the rows of its translations, from a parallel text.",
    ),
    Entry(
        "transplant",
        "univariate",
        "tokenspace.transplant.univariate:Univariate",
        "arXiv:2407.05841",
        "Draw unseen rows with the old rows' mean and deviation in each column.",
    ),
    Entry(
        "transplant",
        "wechsel",
        "tokenspace.transplant.wechsel:WECHSEL",
        "arXiv:2112.06598",
        "Give a new token the rows of those that mean the same, through aligned word vectors.",
    ),
    Entry(
        "transplant",
        "zett",
        "tokenspace.transplant.zett:ZeTT",
        "arXiv:2405.07883",
        "Train a network that predicts the rows of any vocabulary, and use it on the target's.",
    ),
    Entry(
        "tokenize",
        "supertokens",
        "tokenspace.tokenize.supertokens:Supertokens",
        "arXiv:2505.09738",
        "Learn tokens that may span several words, by merging inside chunks of random length.",
    ),
    Entry(
        "words",
        "aggregate",
        "tokenspace.words.aggregate:Aggregate",
        "arXiv:2405.07778",
        "Average what a pretrained network makes of a word, alone or in sentences of the text.",
    ),
    Entry(
        "words",
        "cbow",
        "tokenspace.words.cbow:CBOW",
        "arXiv:1301.3781",
        "Learn vectors by predicting a word from the mean of its neighbours.",
    ),
    Entry(
        "words",
        "charword",
        "tokenspace.words.charword:CharWord",
        "arXiv:1611.05962",
        "Learn Chinese words and their characters in one space, each from the other's company.",
    ),
    Entry(
        "words",
        "cw",
        "tokenspace.words.cw:CW",
        "arXiv:1507.05523",
        "Learn vectors by scoring a window of text above the same window with a wrong word in it.",
    ),
    Entry(
        "words",
        "cwe",
        "tokenspace.words.cwe:CWE",
        "IJCAI 2015 (Chen, Xu, Liu, Sun, Luan)",
        "Learn vectors for Chinese words together with those of their characters.",
    ),
    Entry(
        "words",
        "dsg",
        "tokenspace.words.dsg:DSG",
        "EMNLP 2018 (D18-1174)",
        "Learn a vector for each sense of a word, and a gate that tells which is meant.",
    ),
    Entry(
        "words",
        "fasttext",
        "tokenspace.words.fasttext:FastText",
        "arXiv:1607.04606",
        "Learn vectors from the n-grams of letters in words, so that unknown words have one too.",
    ),
    Entry(
        "words",
        "glove",
        "tokenspace.words.glove:GloVe",
        "EMNLP 2014",
        "Fit the logarithm of how often words stand near each other by products of their vectors.",
    ),
    Entry(
        "words",
        "lbl",
        "tokenspace.words.lbl:LBL",
        "arXiv:1507.05523",
        "Learn vectors by predicting a word from a linear summary of the window around it.",
    ),
    Entry(
        "words",
        "nnlm",
        "tokenspace.words.nnlm:NNLM",
        "arXiv:1507.05523",
        "Learn vectors by predicting a word with a small neural network over the window around it.",
    ),
    Entry(
        "words",
        "order",
        "tokenspace.words.order:Order",
        "arXiv:1507.05523",
        "Learn vectors by predicting a word from its neighbours, each in its own place.",
    ),
    Entry(
        "words",
        "ppmi_svd",
        "tokenspace.words.ppmi_svd:PPMISVD",
        "TACL 3, 2015",
        "Count which words stand near each other, and factorise how far that is beyond chance.",
    ),
    Entry(
        "words",
        "sgns",
        "tokenspace.words.sgns:SGNS",
        "arXiv:1310.4546",
        "Learn vectors by predicting a word from each neighbour, against sampled noise.",
    ),
    Entry(
        "words",
        "x2static",
        "tokenspace.words.x2static:X2Static",
        "arXiv:2106.04302",
        "Learn vectors that tell the words of a sentence from noise by what a network makes of it.",
    ),
    Entry(
        "compress",
        "adaptemb",
        "tokenspace.compress.adaptemb:AdaptEmb",
        "arXiv:2311.15578",
        "Give frequent rows to themselves and let the rare ones share.",
    ),
    Entry(
        "compress",
        "alpt",
        "tokenspace.compress.alpt:ALPT",
        "arXiv:2212.05735",
        "Store each row as small integers under a scale that is learned along with it.",
    ),
    Entry(
        "compress",
        "autodim",
        "tokenspace.compress.autodim:AutoDim",
        "arXiv:2006.14827",
        "Let every group of ids learn how wide its rows should be, then train these widths.",
    ),
    Entry(
        "compress",
        "autosrh",
        "tokenspace.compress.autosrh:AutoSrh",
        "TKDE 2022 (Kong, Cheng, Shen, Huang)",
        "Turn columns down by what held-out rows say of them, then keep the largest values.",
    ),
    Entry(
        "compress",
        "compo",
        "tokenspace.compress.compo:Compo",
        "arXiv:1909.02107",
        "Make each row of two shared ones: the quotient's and the remainder's.",
    ),
    Entry(
        "compress",
        "dedup",
        "tokenspace.compress.dedup:Dedup",
        "arXiv:2201.10442",
        "Store blocks of rows that are nearly equal once.",
    ),
    Entry(
        "compress",
        "deeplight",
        "tokenspace.compress.deeplight:DeepLight",
        "arXiv:2002.06987",
        "Drop the smallest values while the table is trained, a few more every ten steps.",
    ),
    Entry(
        "compress",
        "dhe",
        "tokenspace.compress.dhe:DHE",
        "arXiv:2010.10784",
        "Compute each row from many hashes of its number, by a small network; there is no table.",
    ),
    Entry(
        "compress",
        "dpq",
        "tokenspace.compress.dpq:DPQ",
        "arXiv:1908.09756",
        "Store each row as a few numbers of shared vectors that are learned with the task.",
    ),
    Entry(
        "compress",
        "hash",
        "tokenspace.compress.hash:Hash",
        "arXiv:2311.15578",
        "Let rows share: row x is shared row x mod m.",
    ),
    Entry(
        "compress",
        "int16",
        "tokenspace.compress.int16:Int16",
        "arXiv:1502.02551",
        "Store each row as 16-bit integers with a scale of its own.",
    ),
    Entry(
        "compress",
        "int8",
        "tokenspace.compress.int8:Int8",
        "arXiv:2103.13630",
        "Store each row as 8-bit integers with a scale of its own.",
    ),
    Entry(
        "compress",
        "magnitude",
        "tokenspace.compress.magnitude:Magnitude",
        "arXiv:1506.02626",
        "Keep only the largest values of a table, and say where they are.",
    ),
    Entry(
        "compress",
        "mde",
        "tokenspace.compress.mde:MDE",
        "arXiv:1909.11810",
        "Give rare values narrower rows than frequent ones, and a matrix back to the width.",
    ),
    Entry(
        "compress",
        "mgqe",
        "tokenspace.compress.mgqe:MGQE",
        "arXiv:2002.08530",
        "Spell rows by shared vectors: frequent rows choose among all, rare ones among a quarter.",
    ),
    Entry(
        "compress",
        "opq",
        "tokenspace.compress.opq:OPQ",
        "TPAMI 2014 (Ge, He, Ke, Sun)",
        "Turn the table so that its parts are equally hard, then store numbers of centroids.",
    ),
    Entry(
        "compress",
        "optembed",
        "tokenspace.compress.optembed:OptEmbed",
        "arXiv:2208.04482",
        "Drop rows that stay short, and search for how many numbers each field's rows need.",
    ),
    Entry(
        "compress",
        "pep",
        "tokenspace.compress.pep:PEP",
        "arXiv:2101.07577",
        "Learn by descent how large a value must be to be kept, then train the kept ones again.",
    ),
    Entry(
        "compress",
        "pq",
        "tokenspace.compress.pq:PQ",
        "TPAMI 2011 (Jégou, Douze, Schmid)",
        "Cut rows into parts, and store for each part which of 2^b centroids is nearest.",
    ),
    Entry(
        "compress",
        "robe",
        "tokenspace.compress.robe:ROBE",
        "arXiv:2108.02191",
        "Read all rows, slice by slice, from one small array that they share.",
    ),
    Entry(
        "compress",
        "svd",
        "tokenspace.compress.svd:SVD",
        "Psychometrika 1936 (Eckart, Young)",
        "Keep the directions in which a table varies most: the best matrix of low rank.",
    ),
    Entry(
        "compress",
        "ttrec",
        "tokenspace.compress.ttrec:TTRec",
        "arXiv:2101.11714",
        "Spell each row as a product of three small tensor cores (tensor train, TT-SVD).",
    ),
    Entry(
        "edit",
        "abtt",
        "tokenspace.edit.abtt:ABTT",
        "arXiv:1702.01417",
        "Take the mean and the first few principal directions off, which all words share.",
    ),
    Entry(
        "edit",
        "align",
        "tokenspace.edit.align:Align",
        "arXiv:1702.03859",
        "Bring a table into the space of another one, by the words that both have.",
    ),
    Entry(
        "edit",
        "double_hard",
        "tokenspace.edit.double_hard:DoubleHard",
        "arXiv:2005.00965",
        "Take off first the common direction that hides a bias, then debias hard.",
    ),
    Entry(
        "edit",
        "hard_debias",
        "tokenspace.edit.hard_debias:HardDebias",
        "arXiv:1607.06520",
        "Take a bias out of all words that do not mean it, and make pairs differ in nothing else.",
    ),
    Entry(
        "edit",
        "ica",
        "tokenspace.edit.ica:ICA",
        "arXiv:2305.13175",
        "Turn the axes so that each says one thing: as far from a normal distribution as can be.",
    ),
    Entry(
        "edit",
        "leace",
        "tokenspace.edit.leace:LEACE",
        "arXiv:2306.03819",
        "Change words so little that no linear classifier can tell their classes, and no less.",
    ),
    Entry(
        "edit",
        "projection",
        "tokenspace.edit.projection:Projection",
        "arXiv:1901.07656",
        "Take a direction, or a subspace, out of every word.",
    ),
    Entry(
        "edit",
        "soft_debias",
        "tokenspace.edit.soft_debias:SoftDebias",
        "arXiv:1607.06520",
        "Shrink a bias by one linear map that changes the likeness of words as little as it can.",
    ),
    Entry(
        "edit",
        "whiten",
        "tokenspace.edit.whiten:Whiten",
        "arXiv:2411.00680",
        "Give every direction the same variance, and no two directions anything in common.",
    ),
    Entry(
        "encode",
        "binary_pv",
        "tokenspace.encode.binary_pv:BinaryPV",
        "arXiv:1611.01116",
        "Fit to each text a code of bits that predicts its words, for search by Hamming distance.",
    ),
    Entry(
        "encode",
        "defsent",
        "tokenspace.encode.defsent:DefSent",
        "arXiv:2405.16153",
        "Train a text encoder on a dictionary: a definition's vector has to name its entry.",
    ),
    Entry(
        "encode",
        "distil",
        "tokenspace.encode.distil:Distil",
        "Model2Vec, 2024",
        "Distil a network into one row a token: a text is then the mean of its tokens' rows.",
    ),
    Entry(
        "encode",
        "dupmae",
        "tokenspace.encode.dupmae:DupMAE",
        "arXiv:2211.08769",
        "Pre-train an encoder on plain text so that its sentence vector holds the text's words.",
    ),
    Entry(
        "encode",
        "matryoshka2d",
        "tokenspace.encode.matryoshka2d:Matryoshka2D",
        "arXiv:2402.14776",
        "Train a text encoder that can be cut after any layer and to any width.",
    ),
    Entry(
        "encode",
        "mltp",
        "tokenspace.encode.mltp:MLTP",
        "arXiv:2409.02727",
        "Pool all layers by cross-attention, or by any of the designs that it is compared with.",
    ),
    Entry(
        "encode",
        "nv_embed",
        "tokenspace.encode.nv_embed:NVEmbed",
        "arXiv:2405.17428",
        "Pool by a trained dictionary, and train in two stages whose negatives fit the task.",
    ),
    Entry(
        "encode",
        "pv_dbow",
        "tokenspace.encode.pv_dbow:PVDBOW",
        "arXiv:1405.4053",
        "Fit a vector to each text that predicts the text's words, whatever their order.",
    ),
    Entry(
        "encode",
        "pv_dm",
        "tokenspace.encode.pv_dm:PVDM",
        "arXiv:1405.4053",
        "Fit a vector to each text that, with the words around, predicts the word in the middle.",
    ),
    Entry(
        "encode",
        "rcnn",
        "tokenspace.encode.rcnn:RCNN",
        "AAAI 2015 (Lai, Xu, Liu, Zhao)",
        "Learn classes of texts from every word in its whole context; name those of new texts.",
    ),
    Entry(
        "encode",
        "sif",
        "tokenspace.encode.sif:SIF",
        "ICLR 2017 (Arora, Liang, Ma)",
        "Average a text's token vectors, rare tokens more, and remove their common direction.",
    ),
    Entry(
        "encode",
        "token_prepending",
        "tokenspace.encode.token_prepending:TokenPrepending",
        "arXiv:2412.11556",
        "Take a text's vector from a decoder untrained: let its beginning see its end.",
    ),
    Entry(
        "encode",
        "tvec",
        "tokenspace.encode.tvec:TVEC",
        "arXiv:2504.16460",
        "Adapt a text encoder and its tokenizer to one field by triplets, and say what it gained.",
    ),
    Entry(
        "retrieve",
        "binary",
        "tokenspace.retrieve.binary:Binary",
        "CVPR 2011 (Gong, Lazebnik)",
        "Keep one bit for each of some directions of a vector, and compare bits before numbers.",
    ),
    Entry(
        "retrieve",
        "crisp",
        "tokenspace.retrieve.crisp:CRISP",
        "arXiv:2505.11471",
        "Train token vectors to be clustered, and store a few centroids a document.",
    ),
    Entry(
        "retrieve",
        "maxsim",
        "tokenspace.retrieve.maxsim:MaxSim",
        "arXiv:2004.12832",
        "Score every document exactly: each query token takes its best document token.",
    ),
    Entry(
        "retrieve",
        "muvera",
        "tokenspace.retrieve.muvera:MUVERA",
        "arXiv:2405.19504",
        "Find candidates through one fixed-size vector a document, then score them exactly.",
    ),
    Entry(
        "retrieve",
        "plaid",
        "tokenspace.retrieve.plaid:PLAID",
        "arXiv:2205.09707",
        "Find candidates by the centroids of their tokens, score them from a few bits a number.",
    ),
    Entry(
        "retrieve",
        "short_codes",
        "tokenspace.retrieve.short_codes:ShortCodes",
        "TPAMI 2011 (Jégou, Douze, Schmid)",
        "Find the nearest vectors by short codes, and order the best by the vectors themselves.",
    ),
    Entry(
        "lm",
        "gpt",
        "tokenspace.lm.gpt:GPT",
        "OpenAI 2019 (Radford et al.)",
        "Train a small decoder on text: the plain model that others are measured by.",
    ),
)


def find(name: str) -> Entry:
    """Return the entry called ``name``; an unknown name is refused with a near miss."""
    for entry in CATALOG:
        if entry.name == name:
            return entry
    near = difflib.get_close_matches(name, [entry.name for entry in CATALOG], n=1)
    raise ConfigError(
        f"there is no method {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else "tokenspace list shows every method",
    )


def family(name: str) -> Family:
    """Return the family called ``name``."""
    for item in FAMILIES:
        if item.name == name:
            return item
    raise ConfigError(
        f"there is no family {name!r}",
        hint="families: " + ", ".join(item.name for item in FAMILIES),
    )


def members(name: str) -> tuple[Entry, ...]:
    """Return the entries of one family, in the table's order."""
    family(name)
    return tuple(entry for entry in CATALOG if entry.family == name)


def lazy(family_name: str, attribute: str) -> Any:
    """Serve a family package's ``__getattr__``: import the recipe of that class name."""
    for entry in members(family_name):
        if entry.target.endswith(f":{attribute}"):
            return entry.load()
    raise AttributeError(f"module 'tokenspace.{family_name}' has no attribute {attribute!r}")
