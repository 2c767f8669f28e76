"""Tokenizers from files: Hugging Face directories, merges, ranks, BERT lists and word lists.

Everything becomes a ``tokenizers.Tokenizer`` or a list of words. Python code and pickles that a
directory may hold are never run.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import FormatError, InputError, TokenspaceError
from .surface import CHARACTERS, KNOWN, ROLES, TO_CHARACTERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "Source",
    "download",
    "faults_of_the_text",
    "find",
    "parse",
    "read_json",
    "read_text",
    "unique",
    "without_limits",
]

log = logging.getLogger(__name__)

_HUB_FILES = (
    *("tokenizer*", "vocab.*", "merges.txt", "*.tiktoken", "*.model", "*.spm"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.*"),
)
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Source(NamedTuple):
    """What a file holds: a tokenizer with the special tokens of its settings, or words."""

    tokenizer: Tokenizer | None
    roles: Mapping[str, str | None]
    words: Sequence[str] = ()


def find(path: Path) -> Source:
    """Read what a directory or a file holds, told by its content."""
    return _folder(path) if path.is_dir() else _file(path)


def _folder(folder: Path) -> Source:
    settings = _settings(folder)
    whole, vocab, merges, words = (
        _one_of(folder, name)
        for name in ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt")
    )
    if whole:
        return Source(parse(read_text(whole), whole), _roles(settings))
    if vocab and merges:
        ids = read_json(read_text(vocab), vocab)
        return Source(_bpe(ids, read_text(merges), settings, vocab), _roles(settings))
    if words:
        return Source(_wordpiece(_lines(read_text(words)), settings), _roles(settings))
    ranks = sorted(folder.glob("*.tiktoken*"))
    if len(ranks) == 1:
        return _file(ranks[0])
    if settings or vocab or any(folder.glob("*.model")):
        raise FormatError(
            f"{folder}: the tokenizer exists only as Python code or a SentencePiece model",
            hint="convert it once: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            " writes tokenizer.json",
        )
    raise FormatError(
        f"{folder}: no tokenizer.json, no vocab.json with merges.txt, no vocab.txt",
        hint="give a directory or a file that holds a vocabulary",
    )


def _file(path: Path) -> Source:
    text = read_text(path)
    settings = _settings(path.parent)
    if text.lstrip().startswith("{"):
        content = read_json(text, path)
        if "model" in content:
            return Source(parse(text, path), _roles(settings))
        merges = _one_of(path.parent, "merges.txt")
        if merges is None:
            raise FormatError(
                f"{path}: a token list without its merges.txt", hint="put merges.txt beside it"
            )
        return Source(_bpe(content, read_text(merges), settings, path), _roles(settings))
    lines = _lines(text)
    if not lines:
        raise FormatError(f"{path}: no token in it", hint="write one token a line")
    if re.fullmatch(r"[A-Za-z0-9+/]+=* [0-9]+", lines[0]):
        return Source(_tiktoken(lines, path), {})
    if lines[0].startswith("#version"):
        raise FormatError(f"{path}: merges alone", hint="give the directory with vocab.json")
    if "[UNK]" in lines and any(line.startswith("##") for line in lines):
        return Source(_wordpiece(lines, settings), _roles(settings))
    return Source(None, {}, unique([line for line in lines if line], path))


def without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer, or a copy of it that neither truncates nor pads."""
    if tokenizer.truncation is None and tokenizer.padding is None:
        return tokenizer
    copy: Tokenizer = type(tokenizer).from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def parse(text: str, path: Path) -> Tokenizer:
    """Read ``tokenizer.json``; truncation and padding are switched off."""
    from tokenizers import Tokenizer

    with _faults_of_the_file(f"{path}: not a whole tokenizer.json", "download or save it again"):
        tokenizer: Tokenizer = Tokenizer.from_str(text)
        # in place: a copy is written out first, with a line for every id up to the greatest
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


@contextmanager
def _faults_of_the_file(says: str, hint: str) -> Iterator[None]:
    """Turn any error of the tokenizers library into one about a file."""
    try:
        yield
    except TokenspaceError:
        raise
    except BaseException as fault:  # the binding raises nothing narrower, panics not even this
        if not _of_the_binding(fault):
            raise
        raise FormatError(f"{says} ({_first_line(fault)})", hint=hint) from fault


@contextmanager
def faults_of_the_text() -> Iterator[None]:
    """Turn any error of the tokenizers library into one about the text that is encoded."""
    try:
        yield
    except BaseException as fault:
        if not _of_the_binding(fault):
            raise
        raise InputError(
            f"the tokenizer cannot encode a text ({_first_line(fault)})",
            hint="a text must be a str without lone surrogates, and the tokenizer must have its"
            " unknown token",
        ) from fault


def _of_the_binding(fault: BaseException) -> bool:
    """Tell whether a library's fault is meant: an Exception, or a panic of its Rust code."""
    return isinstance(fault, Exception) or type(fault).__name__ == "PanicException"


def _first_line(fault: BaseException) -> str:
    return str(fault).partition("\n")[0]


def read_text(path: Path) -> str:
    """Read a text file, gunzipped when it is gzip."""
    data = path.read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (EOFError, OSError, zlib.error) as fault:
        raise FormatError(f"{path}: a damaged gzip file ({fault})", hint="get it again") from fault
    except UnicodeDecodeError as fault:
        raise FormatError(
            f"{path}: not UTF-8 text at byte {fault.start}",
            hint="a SentencePiece .model is converted by AutoTokenizer.from_pretrained(DIR)"
            ".save_pretrained(DIR); a word list must be UTF-8",
        ) from fault


def _lines(text: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_json(text: str, path: Path) -> dict[str, Any]:
    """Read a JSON object; ``path`` is for the message."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as fault:  # ValueError: also numbers of 4,300 digits
        raise FormatError(f"{path}: not whole JSON ({fault})", hint="get it again") from fault
    if not isinstance(content, dict):
        raise FormatError(f"{path}: not a JSON object", hint="give the tokenizer's own file")
    return content


def _one_of(folder: Path, name: str) -> Path | None:
    """Return the file called ``name`` or ``name.gz``."""
    found = (folder / name, folder / f"{name}.gz")
    return next((path for path in found if path.is_file()), None)


def _settings(folder: Path) -> dict[str, Any]:
    """Read the special tokens of a Hugging Face directory; the tokenizer's own file wins."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found = read_json(read_text(folder / name), folder / name)
            _check_settings(found, folder / name)
            settings |= found
    return settings


def _check_settings(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse settings whose tokens are not strings, or objects with a string as their content."""
    added = settings.get("added_tokens_decoder") or {}
    extra = settings.get("additional_special_tokens") or []
    faults = {
        "added_tokens_decoder": not isinstance(added, dict)
        or not all(key.isascii() and key.isdigit() for key in added)
        or not all(isinstance(_content(token), str) for token in added.values()),
        "additional_special_tokens": not isinstance(extra, list)
        or not all(isinstance(_content(token), str) for token in extra),
        **{
            f"{role}_token": not isinstance(_content(settings.get(f"{role}_token")), str | None)
            for role in ROLES
        },
    }
    for key, wrong in faults.items():
        if wrong:
            raise FormatError(
                f"{path}: {key} does not hold tokens",
                hint="a token is a string, or an object with its content; get the file again",
            )


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _roles(settings: Mapping[str, Any]) -> dict[str, str | None]:
    return {r: _content(settings[f"{r}_token"]) for r in ROLES if f"{r}_token" in settings}


def unique(words: Sequence[str], where: object) -> list[str]:
    """Return the words without repetitions, the first of each kept, and log what was dropped."""
    kept = list(dict.fromkeys(words))
    if len(kept) < len(words):
        log.warning(
            "%s: %d repeated words dropped, the first of each kept", where, len(words) - len(kept)
        )
    return kept


def download(name: str) -> Path:
    """Return the local directory with the tokenizer's files of a model on the Hugging Face hub."""
    hint = "give a local directory; names need transformers and a network"
    if any(find_spec(needed) is None for needed in ("transformers", "huggingface_hub")):
        raise InputError(f"{name}: no such file or directory", hint=hint)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as fault:  # offline, unknown name, gated: many kinds, one mend
        reason = str(fault).partition("\n")[0].partition(". ")[0]
        raise InputError(
            f"{name}: no such path, and not to be had from the hub ({reason})", hint=hint
        ) from fault


def _finish(tokenizer: Tokenizer, settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Declare special tokens: those of the settings, and ``names`` if the model has them."""
    from tokenizers import AddedToken

    added = settings.get("added_tokens_decoder") or {}
    for index, token in sorted(added.items(), key=lambda item: int(item[0])):
        content = str(_content(token))
        if tokenizer.token_to_id(content) in (None, int(index)):
            special = bool(token.get("special")) if isinstance(token, dict) else False
            tokenizer.add_tokens([AddedToken(content, special=special, normalized=False)])
            if special:
                tokenizer.add_special_tokens([content])
    present = [name for name in names if tokenizer.token_to_id(name) is not None]
    extra = [_content(token) for token in settings.get("additional_special_tokens") or []]
    roles = [token for token in _roles(settings).values() if token]
    tokenizer.add_special_tokens([*present, *filter(None, extra), *roles])


def _bytelevel(tokenizer: Tokenizer, pattern: str) -> None:
    from tokenizers import Regex, decoders, pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()


def _pattern(tokens: Iterable[str]) -> str:
    """Choose how text is split before merging: the pattern that could have made the tokens.

    GPT-2's pattern never joins punctuation and a line end; cl100k's does, and then takes digits
    one by one (Qwen) or up to three.
    """
    joins, digits = False, 1
    for token in tokens:
        joins = joins or (len(token) > 1 and token[-1] == "\u010a" and token[0] in ".);:}")
        digits = max(digits, len(token) if token.isascii() and token.isdigit() else 1)
    if not joins:
        return _GPT2
    return _CL100K.replace("{DIGITS}", "{1,3}" if digits > 1 else "")


def _bpe(ids: Mapping[str, Any], merges: str, settings: Mapping[str, Any], path: Path) -> Tokenizer:
    """Build the tokenizer of ``vocab.json`` and ``merges.txt``: byte-level, or with ``</w>``."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    if not all(isinstance(index, int) for index in ids.values()) or not ids:
        raise FormatError(f"{path}: not an object of tokens and ids", hint="give vocab.json")
    lines = [line for line in _lines(merges) if line]
    if lines and lines[0].startswith("#version"):
        del lines[0]
    pairs = [tuple(line.split(" ")) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        bad = next(i for i, pair in enumerate(pairs) if len(pair) != 2)
        raise FormatError(f"{path}: merge {bad + 1} is not a pair", hint="get merges.txt again")
    ends = sum(token.endswith("</w>") for token in ids) > len(ids) // 10
    whole = all(character in ids for character in CHARACTERS)
    options: dict[str, Any] = {"end_of_word_suffix": "</w>"} if ends else {}
    unknown = next((t for t in ("<unk>", "<|endoftext|>") if ends and t in ids), None)
    if unknown:
        options["unk_token"] = unknown
    try:
        merged = [(left, right) for left, right in pairs]
        model = models.BPE(vocab=dict(ids), merges=merged, **options)
    except Exception as fault:  # the binding raises nothing narrower
        raise FormatError(f"{path}: {fault}", hint="vocab.json and merges.txt differ") from fault
    tokenizer = Tokenizer(model)
    pattern = _pattern(ids)
    if not ends:
        _bytelevel(tokenizer, pattern)
        if pattern.startswith("(?i:") and "{1,3}" not in pattern:
            tokenizer.normalizer = normalizers.NFC()
    elif whole:
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Lowercase(),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_CLIP), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    made = {a + b for a, b in pairs}
    controls = [t for names in KNOWN.values() for t in names if t in ids and t not in made]
    _finish(tokenizer, settings, controls)
    return tokenizer


def _wordpiece(lines: Sequence[str], settings: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer of a BERT ``vocab.txt``; it lowers case unless a word has capitals."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    ids: dict[str, int] = {}
    for index, line in enumerate(lines):
        ids.setdefault(line.strip(), index)
    cased = any(t != t.lower() and not t.startswith("[") for t in ids)
    lower = bool(settings.get("do_lower_case", not cased))
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _finish(tokenizer, settings, [name for names in KNOWN.values() for name in names])
    return tokenizer


def _tiktoken(lines: Sequence[str], path: Path) -> Tokenizer:
    """Build the tokenizer of a rank file: base64 of a token's bytes, a space, its rank.

    The rule of such a vocabulary is to join the neighbours whose joined bytes have the lowest
    rank, so its merges are all ways to cut a token into two tokens, in the order of ranks.
    """
    from tokenizers import Tokenizer, models

    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            token, rank = line.split(" ")
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as fault:
            raise FormatError(
                f"{path}: line {number} is not a token in base64 and its rank",
                hint="the file is damaged or truncated: get it again",
            ) from fault
    written = {token: token.decode("latin-1").translate(TO_CHARACTERS) for token in ranks}
    merges = [
        (written[token[:cut]], written[token[cut:]])
        for token in sorted(ranks, key=ranks.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]
    vocab = {written[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    _bytelevel(tokenizer, _pattern(vocab))
    return tokenizer
