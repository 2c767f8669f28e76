"""The eight steps of a build: what each reads from the generation's directory and writes to it.

Every step takes what it needs from the files of the steps before it, so a build can go on in
another process; it returns one line for people and figures for the report.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tokenspace import stdlib_text
from tokenspace.arrays import Floats1d, Floats2d
from tokenspace.compress.floats import FloatTable, open_rows
from tokenspace.compress.int8 import Int8
from tokenspace.corpus import Corpus
from tokenspace.encode import classifier, paragraph
from tokenspace.encode.sif import SIF
from tokenspace.encode.static import StaticEncoder, flat_ids
from tokenspace.errors import InputError
from tokenspace.io import replacing
from tokenspace.progress import track
from tokenspace.retrieve.coded import CodedStore
from tokenspace.retrieve.store import Codec, StoreWriter, TokenStore
from tokenspace.runner import load_input, located
from tokenspace.table import EmbeddingTable
from tokenspace.text_encoder import TextEncoder
from tokenspace.tokenizer_training import byte_bpe
from tokenspace.vocab import Vocabulary
from tokenspace.words.sgns import SGNS

from . import cloze as inverse_cloze
from . import sources
from .cloze import TwoRows
from .fde import FDEIndex
from .jobs import HERE, Jobs
from .lexical import Lexical
from .measure import known_items
from .passage_file import PassageFile
from .passages import Document, Passage, split
from .plan import Plan
from .search import FUSION, Collection, Encoder, indexed_text, unit_rows

__all__ = [
    "STEPS",
    "Generation",
    "IndexedTexts",
    "read_passages",
    "says_something",
    "write_weights",
]

BATCH = 512  # passages that are encoded at a time
HANDFUL = 1 << 18  # characters of documents that are split at a time
BPE_TEXT = 200_000_000  # bytes of passages that a vocabulary is learned from
SIF_TEXT = 100_000_000  # bytes of passages that the common direction of texts is learned from
_CODECS: dict[str, Codec] = {"float32": "f32", "float16": "f16", "int8": "i8"}
Outcome = tuple[str, dict[str, Any]]


class Generation:
    """The directory of one generation, and its parts, opened when they are first asked for.

    ``jobs`` runs the passes over its passages; sent to a worker, a generation opens its own parts.
    """

    def __init__(self, path: Path, plan: Plan, jobs: Jobs = HERE) -> None:
        self.path, self.plan, self.jobs = path, plan, jobs

    def __reduce__(self) -> tuple[type[Generation], tuple[Path, Plan]]:
        return Generation, (self.path.absolute(), self.plan)

    def check(self) -> None:
        """Raise what the named tokenizer or encoder cannot be read for, before any work."""
        if self.plan.encoder:
            _ = self.encoder  # kept: a later step or the measurement needs it anyway
        elif self.plan.tokenizer:
            Vocabulary.load(self.plan.tokenizer)

    @property
    def kind(self) -> str:
        """Where the vectors come from: ``learned`` or ``pretrained``."""
        return "pretrained" if self.plan.encoder else "learned"

    @cached_property
    def passages(self) -> PassageFile:
        """The passages."""
        return PassageFile(self.path / "passages")

    @property
    def texts(self) -> IndexedTexts:
        """What is encoded and indexed of every passage."""
        return IndexedTexts(self.passages)

    @cached_property
    def table(self) -> EmbeddingTable:
        """The vectors of the vocabulary's tokens."""
        return EmbeddingTable.load(self.path / "table")

    @cached_property
    def encoder(self) -> Encoder:
        """The text encoder: the learned one, or the pretrained one that the plan names."""
        if self.plan.encoder is None:
            return TwoRows.load(self.path / "encoder")
        trust = self.plan.trust_remote_code
        place = located(TextEncoder, self.plan.encoder)
        return cast("Encoder", load_input(TextEncoder, place, trust_remote_code=trust))

    @cached_property
    def tokens(self) -> TokenStore | CodedStore:
        """The token vectors of all passages."""
        kind = CodedStore if self.plan.encoder is None else TokenStore
        return kind.open(self.path / "tokens")

    def collection(self, first_stage: str) -> Collection:
        """Open everything that searching needs."""
        return Collection(
            passages=self.passages,
            vocab=self.table.vocab,
            encoder=self.encoder,
            tokens=self.tokens,
            singles=open_rows(self.path / "singles.safetensors"),
            fdes=FDEIndex.open(self.path / "fde"),
            lexical=Lexical.open(self.path / "bm25"),
            weights=np.load(self.path / "weights.npy", allow_pickle=False),
            first_stage=first_stage,
            fusion=FUSION[self.kind],
        )


class IndexedTexts:
    """The texts of a passage file, or of its passages ``numbers``, as often as it is iterated."""

    def __init__(self, passages: PassageFile, numbers: range | None = None) -> None:
        self.passages = passages
        self.numbers = range(len(passages)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[str]:
        return (indexed_text(self.passages[number]) for number in self.numbers)

    def sample(self, size: int) -> IndexedTexts:
        """Return texts of about ``size`` bytes together, evenly spread."""
        step = max(1, -(-int(self.passages.offsets[-1]) // size))
        return IndexedTexts(self.passages, self.numbers[::step])

    def batches(self) -> list[range]:
        """Return the numbers of at most ``BATCH`` passages at a time."""
        return [self.numbers[start : start + BATCH] for start in range(0, len(self), BATCH)]


def read_documents(texts: Sequence[str], plan: Plan) -> Iterator[Document]:
    """Yield the documents of ``texts``, or of this Python installation where there are none."""
    if not texts:
        return stdlib_text.documents()
    return sources.read(
        texts, text_field=plan.text_field, encoding=plan.encoding, errors=plan.errors
    )


@dataclass(frozen=True)
class Split:
    """The job of cutting documents into passages of about ``words`` words."""

    words: int

    def __call__(self, documents: Sequence[Document]) -> list[Passage]:
        return [passage for document in documents for passage in split(document, self.words)]


def read_passages(texts: Sequence[str], plan: Plan, jobs: Jobs = HERE) -> Iterator[Passage]:
    """Yield the passages of ``texts``."""
    documents = track(read_documents(texts, plan), "read")
    for cut in jobs.map(Split(plan.passage_words), _handfuls(documents)):
        yield from cut


def _handfuls(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield lists of documents of at least ``HANDFUL`` characters together."""
    held: list[Document] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document.text)
        if size >= HANDFUL:
            yield held
            held, size = [], 0
    if held:
        yield held


def passages(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 1: split the text into passages."""
    written = PassageFile.write(work.path / "passages", read_passages(texts, work.plan, work.jobs))
    if not len(written):
        raise InputError("no readable text was found", hint="give files that hold words")
    words, named = 0, set()
    for passage in written:
        words += len(passage.text.split())
        named.add(passage.source)
    figures = {"passages": len(written), "words": words, "sources": len(named)}
    return f"{len(written):,} passages, {words:,} words from {len(named):,} sources", figures


def vocabulary(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 2: learn a byte-level BPE vocabulary, or take the one that the plan names."""
    plan = work.plan
    if plan.encoder:
        vocab, how = pretrained_table(plan.encoder).vocab, f"those of {plan.encoder}"
    elif plan.tokenizer:
        vocab, how = Vocabulary.load(plan.tokenizer), f"those of {plan.tokenizer}"
    else:
        vocab, how = learn_bpe(work.texts, plan.vocab_size), "byte-level BPE"
    vocab.save(work.path / "vocabulary")
    return f"{len(vocab):,} tokens, {how}", {"vocabulary": len(vocab)}


def pretrained_table(encoder: str) -> EmbeddingTable:
    """Return the input rows of a pretrained encoder, mapped from its files."""
    if (Path(encoder) / paragraph.FILE).is_file():
        return paragraph.ParagraphEncoder.load(encoder).table
    if (Path(encoder) / classifier.FILE).is_file():
        return classifier.DocumentClassifier.load(encoder).table
    from tokenspace.checkpoint.folder import locate

    return EmbeddingTable.load(locate(encoder))


def learn_bpe(texts: IndexedTexts, size: int) -> Vocabulary:
    """Learn a byte-level BPE of at most ``size`` tokens of lower-case text.

    An ordinary question is in lower case, and one token for both cases has twice the evidence.
    """
    return byte_bpe(track(texts.sample(BPE_TEXT), "vocabulary"), size, lower=True)


def vectors(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 3: learn a vector for every token, or take those of the pretrained encoder."""
    plan = work.plan
    if plan.encoder:
        table, how = pretrained_table(plan.encoder), f"input rows of {plan.encoder}"
    else:
        recipe = SGNS(
            dim=plan.dim, epochs=plan.epochs, min_count=1, threads=plan.threads, seed=plan.seed
        )
        vocab = Vocabulary.load(work.path / "vocabulary")
        table, how = recipe(Corpus(work.texts), vocab=vocab), str(recipe)
    table.save(work.path / "table")
    return f"{table.shape[0]:,} x {table.shape[1]}, {how}", {"width": table.shape[1]}


def cloze(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 4: rows for tokens and rows for texts, or those of the pretrained encoder."""
    if work.plan.encoder:
        return f"as {work.plan.encoder} was trained", {}
    words = SIF()(Corpus(work.texts.sample(SIF_TEXT)), table=work.table)
    numbers = work.texts.sample(inverse_cloze.TEXT).numbers
    hidden = {item.number: item.query for item in known_items(work.passages, work.plan.seed)}
    parts = (inverse_cloze.cut(work.passages[i], hidden.get(i)) for i in track(numbers, "cloze"))
    pieces = inverse_cloze.pieces(parts, words.vocab)
    rows = inverse_cloze.train(words.vectors, pieces, seed=work.plan.seed)
    TwoRows(words, StaticEncoder(words.vocab, rows)).save(work.path / "encoder")
    return f"{len(pieces.starts) - 1:,} sentences and titles had to find their passages", {}


def encode(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 5: a vector a passage, and token vectors for late interaction."""
    count = write_vectors(work, work.texts)
    write_weights(work)
    return f"{count:,} token vectors", {"tokens": count}


@dataclass(frozen=True)
class Encode:
    """The job of encoding the passages of some numbers."""

    work: Generation

    def __call__(self, numbers: range) -> tuple[Floats2d, Any]:
        """Return unit text vectors (n, D) float32, and what the store of tokens takes."""
        texts, encoder = list(IndexedTexts(self.work.passages, numbers)), self.work.encoder
        if isinstance(encoder, TwoRows):
            ids, offsets = flat_ids(self.work.table.vocab, texts)
            return unit_rows(encoder.texts.means(ids, offsets)), np.split(ids, offsets[1:-1])
        means, tokens = encoder.encode_both(texts)
        return unit_rows(means), tokens


def write_vectors(work: Generation, texts: IndexedTexts, kept: Iterable[Any] = ()) -> int:
    """Encode ``texts`` into tokens and text vectors; return the number of tokens.

    ``kept`` are documents of the same kind of store, written before them as they are; the file
    of text vectors, ``singles.f32``, holds those of ``texts`` alone.
    """
    encoder, batches = work.encoder, texts.batches()
    encoded = track(work.jobs.map(Encode(work), batches), "encode", total=len(batches))
    with replacing(work.path / "singles.f32") as partial, partial.open("wb") as singles:

        def tokens() -> Iterator[Any]:
            for means, documents in encoded:
                singles.write(means.tobytes())
                yield documents

        if isinstance(encoder, TwoRows):
            every = itertools.chain(kept, itertools.chain.from_iterable(tokens()))
            CodedStore.write(work.path / "tokens", encoder.words.unit, every)
        else:
            width = encoder.encode_tokens(["width"]).width
            codec = _CODECS[work.plan.store]
            with StoreWriter.open(work.path / "tokens", width, codec) as writer:
                for documents in itertools.chain(kept, tokens()):
                    writer.extend(documents)
    return int(work.tokens.offsets[-1])


def write_weights(work: Generation) -> None:
    """Count the passages that hold each token and write the weights of query tokens."""
    vocab, store = work.table.vocab, work.tokens
    seen = np.zeros(len(vocab), np.float32)
    for start in range(0, len(store), BATCH):
        stop = min(start + BATCH, len(store))
        if isinstance(store, CodedStore):
            offsets = store.offsets[start : stop + 1]
            ids = np.asarray(store.codes[offsets[0] : offsets[-1]], np.int64)
        else:
            passages = (work.passages[i] for i in range(start, stop))
            ids, offsets = flat_ids(vocab, [indexed_text(passage) for passage in passages])
        owner = np.repeat(np.arange(stop - start), np.diff(offsets))
        held = np.unique(owner * len(vocab) + ids) % len(vocab)
        seen += np.bincount(held, minlength=len(vocab))
    np.save(work.path / "weights.npy", idf(seen, len(work.passages), vocab))


def idf(seen: Floats1d, count: int, vocab: Vocabulary) -> Floats1d:
    """Return log(1 + (N - n + 1/2) / (n + 1/2)), BM25's weight of a token in n of N passages.

    A token that no passage holds has weight 0, and one that :func:`says_something` denies.
    """
    weights = np.log1p((count - seen + 0.5) / (seen + 0.5))
    return np.where((seen > 0) & says_something(vocab), weights, 0).astype(np.float32)


def says_something(vocab: Vocabulary) -> npt.NDArray[np.bool_]:
    """Tell tokens that stand for text, (V,): neither white space nor a part of a character."""
    found = [surface.decode("utf-8", "ignore").strip() != "" for surface in vocab.surfaces]
    return np.array(found, np.bool_)


def index(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 6: fixed dimensional encodings for candidates, and words for BM25."""
    fdes = FDEIndex.write(work.path / "fde", work, work.plan.store)
    Lexical.write(work.path / "bm25", iter(work.texts))
    says = f"{fdes.encoder.dim:,} numbers a passage, filled: {'yes' if fdes.encoder.fill else 'no'}"
    return says, {"fde": fdes.encoder.dim, **fdes.figures}


def compress(work: Generation, texts: Sequence[str]) -> Outcome:
    """Step 7: store the passage vectors in the precision that the plan names."""
    path = work.path / "singles.f32"
    width = work.encoder.dim
    whole: Floats2d = np.memmap(path, np.float32, "r").reshape(-1, width)
    target = work.path / "singles.safetensors"
    metrics: dict[str, float] = {}
    if work.plan.store == "int8":
        table = Int8()(whole)
        table.save(target)
        metrics = {"cosine": table.metrics["cosine"], "rms_error": table.metrics["rms_error"]}
    else:
        FloatTable(whole.astype(work.plan.store, copy=False)).save(target)
    before = path.stat().st_size
    path.unlink()
    after = target.stat().st_size
    says = f"{work.plan.store}: {after / before:.0%} of float32"
    if metrics:
        says += f", mean cosine to it {metrics['cosine']:.5f}"
    return says, metrics


STEPS: dict[str, Callable[[Generation, Sequence[str]], Outcome]] = {
    "passages": passages,
    "vocabulary": vocabulary,
    "vectors": vectors,
    "cloze": cloze,
    "encode": encode,
    "index": index,
    "compress": compress,
}
"""The steps in their order; the eighth, measuring, needs the finished space."""
