"""Fit to each text a code of bits that predicts its words, for search by Hamming distance.

The idea
--------
Vectors become bits at the price of some of what they say, when the bits are taken from vectors
that were learned without them. Here the bits are in the network from the start: a layer of
sigmoids, rounded to 0 and 1, stands between the text's row and the words that it predicts. Words
are told from noise by the code alone, so the code holds what can be known of the words.

A text's row has ``dim`` numbers, and all texts share a linear map from these to the bits
(Real-Binary PV-DBOW): the code finds a short list, and the rows (``encode_real``) order it. With
``dim=0`` the row has one number a bit (Binary PV-DBOW). With ``window`` above 0 the words around a
position help to predict it (Binary PV-DM).

Equations
---------
``v`` is the row of a document, (dim,), and ``z = M v + m``, (b,); with ``dim=0``, ``z`` is the row
itself. ``w`` are the output rows (V, b + 1). The input and the loss of a word ``c`` with noise
words ``n_1 .. n_K`` are::

    a = s(z),   h = [a > 1/2, 1]                          s(z) = 1 / (1 + e^-z)
    h = h + (1 / |C|) sum over t in C of x_t              where window > 0; x is (V, b)
    -log s(h . w_c) - sum_k log s(-h . w_{n_k})

The step ignores the rounding: the gradient by ``a`` is taken for that by ``h``. With ``g = label -
s(W[T] h)`` over eight words (one position where window > 0) and their noise::

    W[T] += (lr / b) g h',    e = g' W[T] * a (1 - a)
    v += lr M' e,   M += lr e v',   m += lr e;         z += lr e;         x_t += lr g' W[T] / |C|

Output rows move ``b`` times less than the rest: a code of b / 2 ones is so long a vector that at
equal rates the outputs learn by heart the random codes that training starts from. ``lr`` falls
linearly to 0; thinning, noise and first rows are those of `pv_dbow`; M starts with variance
1 / dim. Bits of ``encode`` are -1 and 1, so that their inner product is b - 2 times the Hamming
distance.

Departures from the paper
-------------------------
- Negative sampling replaces the sampled softmax. Bigrams are not predicted; no dropout.
- The two rates are ours. Binary PV-DM adds the neighbours' mean to the code.
- Training bits that are the same in more than 98 % of the documents are counted (``dead_bits`` of
  the report, ``dead`` of the encoder), and a warning says so. Nothing is done against them.
- The first row and the draws for a new text come from a hash of its known words and the seed: a
  text has one code, whatever it is encoded with, on any number of threads.

A text without a known word has the zero vector, which is no code; a warning counts such texts. Keep
them out of an index, where they would be the code of zeros.

Cost
----
3 (b (1 + K) + b dim / 8) multiplications for each word that takes part in a pass: two to three
million words a second and core at the defaults, twice as many with ``dim=0``. Codes take b / 8
bytes a document once packed (`binary` of the retrieve family).

When not to use it
------------------
Where the vectors fit into memory and search is fast enough: bits lose some of what the vectors
know. Where vectors of a pretrained encoder are at hand, turn these into bits (`binary`).

Reference
---------
Grzegorczyk, Kurdziel: Binary Paragraph Vectors, RepL4NLP 2017, https://arxiv.org/abs/1611.01116.
Rounding: Salakhutdinov, Hinton: Semantic Hashing, 2009; Krizhevsky, Hinton, ESANN 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import shape
from tokenspace.encode.paragraph import ParagraphEncoder, fit
from tokenspace.errors import ConfigError
from tokenspace.recipe import Range, Recipe

__all__ = ["BinaryPV"]


@dataclass(frozen=True, kw_only=True)
class BinaryPV(Recipe):
    """Fit to each text a code of bits that predicts its words, for search by Hamming distance."""

    bits: Annotated[int, Range(8, 4096), "bits of a code, a multiple of 8"] = 128
    dim: Annotated[int, Range(0, 4096), "width of rows that are mapped to codes; 0: none"] = 100
    window: Annotated[int, Range(0, 100), "words to each side that help to predict; 0: none"] = 0
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each word"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 50
    min_count: Annotated[int, Range(1), "rarer words are left out"] = 2
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 1000), "first learning rate of the rows"] = 0.4
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[dict[str, Any]] = {
        "bits": 16,
        "dim": 8,
        "epochs": 2,
        "min_count": 1,
        "threads": 1,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits % 8:
            raise ConfigError(
                f"binary_pv: bits={self.bits} is not a multiple of 8",
                hint=f"choose bits={self.bits + 8 - self.bits % 8}",
            )

    def __call__(self, corpus: Corpus, /) -> ParagraphEncoder:
        """Train on the texts of ``corpus``, each a document.

        ``documents`` of the result are their codes (N, bits), and ``documents_real`` their rows.
        Raises :class:`~tokenspace.errors.InputError` where fewer than two different words are
        left, and :class:`~tokenspace.errors.NotConverged` where vectors stop being finite.
        """
        network = shape(
            layer="mapped" if self.dim else "bits",
            join="sum" if self.window else "alone",
            dim=self.dim or self.bits,
            units=self.bits,
            window=self.window,
            negatives=self.negatives,
        )
        return fit(
            corpus,
            network,
            label=self.name,
            min_count=self.min_count,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr / network.gain,
            threads=self.threads,
            seed=self.seed,
        )
