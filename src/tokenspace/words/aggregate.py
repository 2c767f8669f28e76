"""Average what a pretrained network makes of a word, alone or in sentences of the text.

The idea
--------
A network that reads whole sentences has a vector for every word in its place. Looked up one word at
a time these vectors are static ones, with what the network learned from far more text than is at
hand, and without running the network again. The simplest way is to show it the word alone
(``contexts=0``). Better is to show it sentences in which the word stands, and to take the mean of
what the word is in each: what belongs to one sentence averages out, and what belongs to the word
stays.

Equations
---------
``h_t(s)`` is the state of token t of sentence s in layer ``layer`` (or the mean of the ``layers``
layers that end there), ``T_w(s)`` the tokens that cover an occurrence of w in s, found by the
characters that each stands for, and ``S_w`` the occurrences of w in at most ``contexts`` sentences,
drawn evenly from all sentences that hold w::

    u_w = (1 / |S_w|) Σ_{s in S_w} pool_{t in T_w(s)} h_t(s)                  (V, H) float32

``pool`` is the mean, the ``first`` or the ``last`` of the word's tokens, or ``cls``: the state at
the sentence's first place, whatever the word. With ``contexts=0``, and for a word that no sentence
holds (``notes["alone"]`` counts these), S_w is the word by itself.

Departures from the paper
-------------------------
- The study's aggregated vectors are means of the [CLS] states of sentences, so that a word gets
  their subjects: that is ``pool="cls"`` here. The default is the mean of the word's own tokens
  (Bommasani et al. 2020), which is much better.
- Its program adds into the vector of the first sentence, which other words share; sums are apart
  here.
- A text that is longer than the network takes is read in windows that overlap by half; nothing is
  cut off. Means are the only way of joining contexts.

Cost
----
The network's: about 200 short sentences a second and core for six layers of width 384. A word
needs at most ``contexts`` sentences, and one sentence serves all the words that drew it. Memory: 8
bytes a word and context, the states of 256 texts, and 12 V H bytes of sums.

When not to use it
------------------
Where there is enough text in the language and no network for it: skip-gram is a thousand times
faster. Where the network was trained for means of sentences and not for words, ``contexts=0`` may
be as good, because words in context take on the subject of the sentence there. Where the vectors
are to predict company, take ``x2static``.

Reference
---------
R. Bommasani, K. Davis, C. Cardie: Interpreting Pretrained Contextualized Representations via
Reductions to Static Embeddings. ACL 2020. K. Sarıtaş, C. A. Öz, T. Güngör: A Comprehensive Analysis
of Static Word Embeddings for Turkish. 2024, https://arxiv.org/abs/2405.07778.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Ids, Ids2d
from tokenspace.corpus import Corpus, IdStream
from tokenspace.jit import kernel
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import derive
from tokenspace.sgd import below
from tokenspace.table import EmbeddingTable
from tokenspace.text_encoder import ContextEncoder, TextEncoder, TokenStates
from tokenspace.vocab import Vocabulary

from . import _contextual

__all__ = ["Aggregate"]

Pool = Literal["mean", "first", "last", "cls"]


@dataclass(frozen=True, kw_only=True)
class Aggregate(Recipe):
    """Average what a pretrained network makes of a word, alone or in sentences of the text."""

    contexts: Annotated[int, Range(0, 100_000), "most sentences a word; 0 = the word alone"] = 20
    pool: Annotated[Pool, "which tokens of a word count; cls = the sentence's first place"] = "mean"
    layer: Annotated[int, Range(-1000, 1000), "layer; 0 enters the network, -1 is the last"] = -1
    layers: Annotated[int, Range(1, 1000), "how many layers that end there are averaged"] = 1
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    max_vocab: Annotated[int, Range(0), "most words, by frequency; 0 = all"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the choice of sentences"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"contexts": 2, "min_count": 1}

    def __call__(
        self, corpus: Corpus, /, *, encoder: TextEncoder, vocab: Vocabulary | None = None
    ) -> EmbeddingTable:
        """Return one vector for every word of the corpus, or for every token of ``vocab``.

        Parameters
        ----------
        corpus
            The texts, best one sentence each.
        encoder
            A network that gives every token a state, such as ``load_encoder`` returns.
        vocab
            Words, or a tokenizer's tokens, to make vectors for. By default the words of the corpus
            that occur ``min_count`` times.

        Returns
        -------
        EmbeddingTable
            (V, H) float32 with H the width of the network, the counts, and as notes the knobs and
            ``alone``. A token that is not text has the zero vector.

        Raises
        ------
        InputError
            Where fewer than two different words are left, where the encoder is a static one or
            gives all words the same vector, and where it has no token for a word.
        ConfigError
            Where the network has no such layer.
        """
        network = _contextual.contextual(encoder, self.name)
        vocab, stream = _contextual.encode(corpus, vocab, self.min_count, self.max_vocab)
        words = _contextual.spelled(vocab)
        _contextual.all_seen(network, words, self.name)
        places = _contextual.finder(corpus, vocab)
        width = network.mean_states(words[:1], layer=self.layer, layers=self.layers).shape[1]
        sums, seen = np.zeros((len(vocab), width)), np.zeros(len(vocab), np.int64)
        for i, vector in self._in_sentences(network, corpus, stream, places):
            sums[i] += vector
            seen[i] += 1
        alone = [i for i in np.flatnonzero(seen == 0).tolist() if words[i]]
        for i, vector in self._alone(network, words, alone):
            sums[i], seen[i] = vector, 1
        vectors = (sums / np.maximum(seen, 1)[:, None]).astype(np.float32)
        _contextual.told_apart(vectors, self.name)
        notes = {**self.to_dict(), "alone": len(alone)}
        return EmbeddingTable(vocab, vectors, stream.counts, notes)

    def _in_sentences(
        self, network: ContextEncoder, corpus: Corpus, stream: IdStream, places: _contextual.Finder
    ) -> Iterator[tuple[int, Floats1d]]:
        """Yield (word, vector) for every occurrence in the sentences that were drawn."""
        if not self.contexts:
            return
        sentence, word = drawn(stream, self.contexts, self.seed)
        for first, batch in _contextual.batches(corpus):
            begin, end = np.searchsorted(sentence, [first, first + len(batch)])
            wanted: dict[int, set[int]] = {}
            for number, i in zip(
                sentence[begin:end].tolist(), word[begin:end].tolist(), strict=True
            ):
                wanted.setdefault(number, set()).add(i)
            texts = [batch[number - first] for number in wanted]
            found, asked = places(texts), list(wanted.values())
            for index, states in self._states(network, texts):
                for i, start, stop in found[index]:
                    if i in asked[index]:
                        vector = pooled(states, start, stop, self.pool)
                        if vector is not None:
                            yield i, vector

    def _alone(
        self, network: ContextEncoder, words: Sequence[str], ids: Sequence[int]
    ) -> Iterator[tuple[int, Floats1d]]:
        """Yield (word, vector) for words that stand alone."""
        for index, states in self._states(network, [words[i] for i in ids]):
            vector = pooled(states, 0, len(words[ids[index]]), self.pool)
            if vector is not None:
                yield ids[index], vector

    def _states(
        self, network: ContextEncoder, texts: Sequence[str]
    ) -> Iterator[tuple[int, TokenStates]]:
        found = network.token_states(texts, layer=self.layer, layers=self.layers)
        yield from track(found, "states", total=len(texts))


def drawn(stream: IdStream, contexts: int, seed: int) -> tuple[Ids, Ids]:
    """Draw at most ``contexts`` sentences for every word, evenly from all that hold it.

    Returns the sentences, ascending, and for each the word that it was drawn for.
    """
    chosen = np.full((len(stream.vocab), contexts), -1, np.int64)
    state = np.array([derive(seed, "aggregate")], np.uint64)
    _reservoir(stream.ids, stream.offsets, chosen, state)
    words, _ = np.nonzero(chosen >= 0)
    sentences = chosen[chosen >= 0]
    order = np.argsort(sentences, kind="stable")
    return sentences[order], words[order]


@kernel()
def _reservoir(
    ids: npt.NDArray[np.int32], offsets: Ids, chosen: Ids2d, state: npt.NDArray[np.uint64]
) -> None:
    """Keep for every word a random choice of the sentences that hold it (Vitter's algorithm R)."""
    words, most = chosen.shape
    seen = np.zeros(words, np.int64)
    last = np.full(words, -1, np.int64)
    for sentence in range(len(offsets) - 1):
        for place in range(offsets[sentence], offsets[sentence + 1]):
            word = ids[place]
            if last[word] == sentence:
                continue
            last[word] = sentence
            slot = seen[word]
            if slot >= most:
                slot = np.int64(below(slot + 1, state))
            seen[word] += 1
            if slot < most:
                chosen[word, slot] = sentence


def pooled(states: TokenStates, start: int, stop: int, pool: Pool) -> Floats1d | None:
    """Return the vector of the characters [start, stop), (H,); None where no token covers any."""
    first = int(np.searchsorted(states.spans[:, 1], start, side="right"))
    last = int(np.searchsorted(states.spans[:, 0], stop, side="left")) - 1
    if last < first:
        return None
    vector: Floats1d
    if pool == "cls":
        vector = states.heads[states.windows[first]]
    elif pool == "mean":
        vector = states.states[first : last + 1].mean(axis=0)
    else:
        vector = states.states[first if pool == "first" else last]
    return vector
