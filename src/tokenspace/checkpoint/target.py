"""The new tokenizer, made to fit the model that receives it.

Text pieces belong to the tokenizer; the special tokens around a text belong to the model, which
has learned what ``[CLS]`` and ``[SEP]`` do at their places. So a model that reads whole texts (an
encoder, or an encoder with a decoder) keeps the *template* of its own tokenizer, written with the
special tokens of the new one:

- The counterpart of a special token is the new tokenizer's token of equal content, else of equal
  role, else ``bos`` for ``cls`` and ``eos`` for ``sep`` (and the other way round), provided that
  no other special token needs the same one. Where there is none, the model's own token is added to
  the new tokenizer, so that its row survives. Only the tokens of the template, ``pad``, the token
  that starts a decoder, ``mask`` of a masked language model, and the tokens at which a multimodal
  model puts pictures or sound are ever added.
- A model that only continues a text keeps the new tokenizer's own template. If that adds nothing
  while the model's adds something (the ``<s>`` of Llama), or if it closes the text so that nothing
  could follow (``</s>``, ``[SEP]``), the model's is carried over as far as the new tokenizer has
  counterparts; no token is added.
- What the caller maps by hand (``specials``) comes before all of this: the new token takes the
  row of the old one, and its place in template and settings.
- RoBERTa and its kin count positions from the id of ``pad``; there ``pad`` keeps its old id, and
  the token that had it takes the place of ``pad``.

Numbers are cut as the new tokenizer cuts them, or, for ``digits='keep-base'``, as the model's: a
last pre-tokenizer isolates single digits, or groups of them.

Everything else of the new tokenizer stays as it is: if nothing had to change its files are copied
byte for byte, apart from the settings that belong to the model (``model_max_length``,
``model_input_names``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenspace import tokenizer_files
from tokenspace.arrays import Ids
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.surface import by_id
from tokenspace.vocab import ROLES, Vocabulary

from .folder import is_hub_id, packaged, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tokenspace.tokenizer_comparison import Numerals

    from .model import Checkpoint

__all__ = ["CHAT_TEMPLATES", "DIGITS", "TOKENIZER_FILES", "Target", "lone_specials"]

CHAT_TEMPLATES = ("base", "donor", "none")
DIGITS = ("donor", "keep-base")

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
    "chat_template.json",
)
_CHAT = ("chat_template.jinja", "chat_template.json")
_FROM_PAD = re.compile(  # model types that count positions from the id of pad
    r"(xlm-)?roberta(-xl|-prelayernorm)?|camembert|mpnet|longformer|ibert|xmod|data2vec-text"
    r"|layoutlmv3|markuplm|m?luke|esm|lilt|nllb-moe|m2m_100|xglm|biogpt"
)
_MEDIA = re.compile(r"\w*(image|video|vision|audio|boi|eoi|boa|eoa)\w*_token_(id|index)")
_STAND_INS = {"bos": "cls", "cls": "bos", "eos": "sep", "sep": "eos"}
Content = bytes | Path


def lone_specials(vocab: Vocabulary, partners: Ids) -> tuple[Ids, Ids]:
    """Return the special tokens without a partner, and the partners of those that have one.

    A token of the first, which only the new tokenizer has (``<|im_start|>``), takes the mean of
    what the second have (vocabulary.md, 0.3). ``partners`` (V,) int64 holds -1 for none. Without
    any partner both are empty.
    """
    specials = np.array([i for i in sorted(vocab.specials) if vocab.tokens[i]], np.int64)
    mates = partners[specials]
    return specials[(mates < 0) & (mates >= 0).any()], np.unique(mates[mates >= 0])


@dataclass(frozen=True, eq=False)
class Target:
    """A tokenizer that is ready to be given to a model.

    ``vocab`` has the ids that the new rows must follow, row i for token i. ``files`` are what goes
    into the directory: bytes, or a file to copy. ``counterparts`` gives the new id of the source's
    special tokens that were settled here, by their old ids; ``mapped`` gives the old id whose row
    the caller chose for a new one, by the new ids; ``added`` are the special tokens that were
    taken over from the source; ``identical`` tells whether tokens and ids are the source's own;
    ``notes`` is what a user should know, one line each.
    """

    vocab: Vocabulary
    files: Mapping[str, Content]
    counterparts: Mapping[int, int] = field(default_factory=dict)
    mapped: Mapping[int, int] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    identical: bool = False
    notes: tuple[str, ...] = ()

    @property
    def copies(self) -> dict[int, int]:
        """The old id whose row a new one takes, by the new ids, for all that was settled here."""
        return {new: old for old, new in self.counterparts.items()} | dict(self.mapped)

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        tokenizer: str | Path | Vocabulary,
        *,
        chat_template: str = "donor",
        specials: Mapping[str, str] | None = None,
        digits: str = "donor",
    ) -> Target:
        """Fit ``tokenizer`` to the model of ``checkpoint``.

        Parameters
        ----------
        checkpoint : Checkpoint
            The model that receives it.
        tokenizer : path, name or Vocabulary
            A directory or file with a tokenizer, an installed package or a hub id; or a
            vocabulary that has one.
        chat_template : {'donor', 'base', 'none'}
            Whose chat template is written: the new tokenizer's, the model's, or none.
        specials : mapping from new to old token, optional
            Tokens of the new tokenizer, each with the token of the model whose row it takes. A
            special token of the model also gives its role and its place in the template.
        digits : {'donor', 'keep-base'}
            Whose way to cut numbers is kept: the new tokenizer's, or the model's, which
            :func:`tokenspace.tokenizer_comparison.numerals` tells.

        Raises
        ------
        ConfigError
            For an unknown ``chat_template`` or ``digits``, or a token of ``specials`` that is not
            there.
        InputError, FormatError
            When there is no tokenizer (a word list), or it cannot take what the model needs.
        """
        if chat_template not in CHAT_TEMPLATES:
            raise ConfigError(
                f"chat_template={chat_template!r} is not known",
                hint=f"choose one of {', '.join(CHAT_TEMPLATES)}",
            )
        if digits not in DIGITS:
            raise ConfigError(
                f"digits={digits!r} is not known", hint=f"choose one of {', '.join(DIGITS)}"
            )
        given = tokenizer if isinstance(tokenizer, Vocabulary) else None
        place = None if given is not None else _locate(str(tokenizer))
        vocab = given if given is not None else Vocabulary.load(_readable(place))
        if vocab.tokenizer is None:
            raise InputError(
                f"{tokenizer}: a list of words, not a tokenizer",
                hint="give a directory with tokenizer.json",
            )
        settings = _settings(place)
        work = _Fitting(checkpoint, vocab, settings)
        work.map(specials or {})
        work.fit()
        work.cut_numbers(keep=digits == "keep-base")
        if place is None and work.identical and not work.changed:
            place = checkpoint.tokens or checkpoint.folder
            work.settings = checkpoint.tokenizer_settings
        files = work.files(place, chat_template)
        return cls(
            work.vocab,
            files,
            work.counterparts,
            {work.vocab.ids[new]: old for new, old in work.mapped.items()},
            tuple(work.added),
            work.identical and not work.added,
            tuple(work.notes),
        )


class _Fitting:
    """The steps of :meth:`Target.of`; the given tokenizer itself is never changed."""

    def __init__(
        self, checkpoint: Checkpoint, vocab: Vocabulary, settings: Mapping[str, Any]
    ) -> None:
        self.checkpoint = checkpoint
        self.source = checkpoint.vocab
        self.settings = settings
        assert vocab.tokenizer is not None
        self.tokenizer = vocab.tokenizer
        self.roles = {r: vocab.tokens[i] for r, i in vocab.roles.items()}
        self.vocab = self._read(vocab)
        self.identical = _same(self.source, self.vocab)
        self.added: list[str] = []
        self.notes: list[str] = []
        self.counterparts: dict[int, int] = {}
        self.mapped: dict[str, int] = {}
        self.changed = False

    def _read(self, vocab: Vocabulary) -> Vocabulary:
        """Return the whole vocabulary of the tokenizer, ghosts included and padding left out."""
        assert vocab.tokenizer is not None
        if not vocab.ghosts and not (vocab.tokens and vocab.tokens[-1] == ""):
            return vocab
        return Vocabulary.of(vocab.tokenizer, roles=self.roles)

    def map(self, specials: Mapping[str, str]) -> None:
        """Settle what the caller maps, new tokens to old ones.

        A role follows to the new token where the old one has no other role, or the new tokenizer
        has no token for it.
        """
        chosen: dict[int, list[str]] = {}
        for new, old in specials.items():
            _known(self.vocab, new, "the new tokenizer")
            self.mapped[new] = _known(self.source, old, "the model")
            chosen.setdefault(self.mapped[new], []).append(new)
        if self.identical:
            return
        for i in chosen.keys() & self.source.specials.keys():
            roles = [role for role, index in self.source.roles.items() if index == i]
            usual = [t for role in roles if (t := self.roles.get(role)) in chosen[i]]
            first = (usual or chosen[i])[0]
            self.counterparts[i] = self.vocab.ids[first]
            for role in roles:
                if (len(roles) == 1 and not usual) or role not in self.roles:
                    self.roles[role] = first
        self.vocab = Vocabulary.of(self.tokenizer, roles=self.roles)

    def fit(self) -> None:
        """Bring template and special tokens of the model to the tokenizer."""
        template, own = _template(self.source, assumed=True), _template(self.vocab)
        whole = self.checkpoint.kind != "decoder"
        self._match(self._needed(template, whole), add=whole)
        self._match(self._media(), add=True)
        if whole and "pad" in self.source.roles and _FROM_PAD.fullmatch(self.checkpoint.model_type):
            self._keep_pad(self.source.roles["pad"])
        closes = _closes(own) and not _closes(template)  # nothing could be continued
        if whole or closes or (_adds(template) and not _adds(own)):
            self._carry(template)

    def _needed(self, template: list[list[Any]], whole: bool) -> list[int]:
        """Return the special ids of the source that the model cannot do without, in order."""
        roles = self.source.roles
        needed = list(_adds(template))
        if whole:
            needed += [roles[role] for role in ("pad",) if role in roles]
            start = self.checkpoint.setting("decoder_start_token_id")
            if isinstance(start, int) and 0 <= start < len(self.source.tokens):
                needed.append(start)
            if "mask" in roles and self.checkpoint.masked:
                needed.append(roles["mask"])
        return [i for i in dict.fromkeys(needed) if self.source.tokens[i]]

    def _media(self) -> list[int]:
        """Return the ids at which a multimodal model puts pictures and sound, in order."""
        settings = self.checkpoint.config.items()
        ids = [i for key, i in settings if _MEDIA.fullmatch(key) and isinstance(i, int)]
        return [i for i in dict.fromkeys(ids) if i in self.source.specials]

    def _match(self, needed: list[int], *, add: bool) -> None:
        """Find a counterpart for every needed token, or take the token itself over."""
        ways = [self._by_content, self._by_role, self._by_stand_in]
        left = [i for i in needed if i not in self.counterparts]
        for way in ways:
            taken = set(self.counterparts.values())
            offers = {i: found for i in left if (found := way(i)) is not None}
            for i, found in offers.items():
                alone = sum(other == found for other in offers.values()) == 1
                if alone and found not in taken:
                    self.counterparts[i] = found
            left = [i for i in left if i not in self.counterparts]
        if add and left:
            self._add([self.source.tokens[i] for i in left])
            for i in left:
                self.counterparts[i] = self.vocab.ids[self.source.tokens[i]]
        if not add:
            return
        for i, found in ((i, self.counterparts[i]) for i in needed):
            for role, index in self.source.roles.items():
                if index == i:
                    self.roles[role] = self.vocab.tokens[found]
        if any(self.vocab.roles.get(r) != self.vocab.ids.get(t) for r, t in self.roles.items()):
            self.vocab = Vocabulary.of(self.tokenizer, roles=self.roles)

    def _by_content(self, i: int) -> int | None:
        found = self.vocab.ids.get(self.source.tokens[i])
        return found if found in self.vocab.specials else None

    def _by_role(self, i: int) -> int | None:
        for role, index in self.source.roles.items():
            if index == i and role in self.vocab.roles:
                return self.vocab.roles[role]
        return None

    def _by_stand_in(self, i: int) -> int | None:
        for role, index in self.source.roles.items():
            if index == i and _STAND_INS.get(role) in self.vocab.roles:
                return self.vocab.roles[_STAND_INS[role]]
        return None

    def _copied(self) -> Tokenizer:
        """Return a copy of the tokenizer that may be changed; the second time it is that copy."""
        if not self.changed:
            self.tokenizer = tokenizer_files.parse(self.tokenizer.to_str(), Path("tokenizer.json"))
            self.changed = True
        return self.tokenizer

    def _add(self, tokens: list[str]) -> None:
        """Add special tokens after the last id; all old ids stay."""
        from tokenizers import AddedToken

        before, tokenizer = by_id(self.tokenizer), self._copied()
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in tokens]
        )
        places = {t: tokenizer.token_to_id(t) for t in tokens}
        vocab = Vocabulary.of(tokenizer, roles=self.roles)
        taken = any(i is None or before.get(i, t) != t for t, i in places.items())
        if taken or not vocab.ids.keys() >= places.keys():
            raise FormatError(
                f"the tokenizer cannot take {', '.join(tokens)}: an id would have two tokens",
                hint="its ids have gaps; add the tokens in transformers and save it again",
            )
        self.added += [token for token in tokens if token not in self.vocab.ids]
        self.notes.append("special tokens taken over from the model: " + ", ".join(tokens))
        self.vocab = vocab

    def _keep_pad(self, old: int) -> None:
        """Exchange ids so that ``pad`` has the id from which the model counts positions."""
        new = self.counterparts[old]
        if new == old:
            return
        if old >= len(self.vocab) or not self.vocab.tokens[old]:
            raise InputError(
                f"the model counts positions from id {old}, and the new tokenizer has no such id",
                hint="give a tokenizer without gaps in its ids",
            )
        tokens = (self.vocab.tokens[old], self.vocab.tokens[new])
        content = _with_ids(json.loads(self.tokenizer.to_str()), self.vocab, {old: new, new: old})
        self.tokenizer = tokenizer_files.parse(json.dumps(content), Path("tokenizer.json"))
        self.changed = True
        self.vocab = Vocabulary.of(self.tokenizer, roles=self.roles)
        swap = {old: new, new: old}
        self.counterparts = {i: swap.get(j, j) for i, j in self.counterparts.items()}
        if (self.vocab.tokens[new], self.vocab.tokens[old]) != tokens:
            raise FormatError(
                f"the tokenizer does not let {tokens[0]!r} and {tokens[1]!r} exchange their ids",
                hint=f"give a tokenizer whose padding token has id {old}",
            )
        self.notes.append(
            f"{tokens[1]!r} has id {old}, from which this model counts positions; {tokens[0]!r} "
            f"has id {new}"
        )

    def _carry(self, template: list[list[Any]]) -> None:
        """Write the model's template with the new tokenizer's special tokens."""
        made = [
            [(self.counterparts.get(w, -1) if isinstance(w, int) else w, kind) for w, kind in t]
            for t in template
        ]
        made = [[(what, kind) for what, kind in t if what != -1] for t in made]
        if made == [list(map(tuple, t)) for t in _template(self.vocab)]:
            return
        tokens = self.vocab.tokens
        ids = {what for pieces in made for what, _ in pieces if isinstance(what, int)}

        def piece(what: int | str, kind: int) -> dict[str, Any]:
            if isinstance(what, int):
                return {"SpecialToken": {"id": tokens[what], "type_id": kind}}
            return {"Sequence": {"id": what, "type_id": kind}}

        processor: dict[str, Any] = {
            "type": "TemplateProcessing",
            "single": [piece(*p) for p in made[0]],
            "pair": [piece(*p) for p in made[1]],
            "special_tokens": {
                tokens[i]: {"id": tokens[i], "ids": [i], "tokens": [tokens[i]]} for i in sorted(ids)
            },
        }
        kept = [p for p in _processors(_post_processor(self.vocab)) if p["type"] == "ByteLevel"]
        if kept:
            processor = {"type": "Sequence", "processors": [*kept, processor]}
        model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
        carrier = {"version": "1.0", "added_tokens": [], "model": model}
        whole = json.dumps({**carrier, "post_processor": processor})
        made_of = type(self.tokenizer).from_str(whole)
        self._copied().post_processor = made_of.post_processor
        self.vocab = Vocabulary.of(self.tokenizer, roles=self.roles)
        shown = " ".join(tokens[what] if isinstance(what, int) else "…" for what, _ in made[0])
        self.notes.append(
            "the template of special tokens is the model's: "
            + (shown if ids else "none is put around a text")
        )

    def cut_numbers(self, *, keep: bool) -> None:
        """Cut numbers as the model's tokenizer does, if they are to be kept, or tell that not."""
        from tokenspace.tokenizer_comparison import numerals

        ours, theirs = numerals(self.source), numerals(self.vocab)
        if ours.agrees(theirs) or "lost" in (ours.policy, theirs.policy):
            return
        differ = f"(model: {ours}; new tokenizer: {theirs})"
        pattern = _cut(ours)
        if not keep or pattern is None:
            mend = (
                "--digits keep-base keeps the model's way" if pattern else "free cuts have no rule"
            )
            self.notes.append(f"numbers are cut differently {differ}: {mend}")
            return
        from tokenizers import Regex, pre_tokenizers

        tokenizer = self._copied()
        former = [] if tokenizer.pre_tokenizer is None else [tokenizer.pre_tokenizer]
        # Behind the others: some of them put a mark before everything that they are given.
        cutter = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*former, cutter])
        self.vocab = Vocabulary.of(tokenizer, roles=self.roles)
        now = numerals(self.vocab)
        kept = re.compile(rb"[0-9]{1,%d}|[^0-9]+" % ours.width)
        idle = sum(
            i not in self.vocab.specials and kept.fullmatch(form) is None
            for i, form in enumerate(self.vocab.surfaces)
            if form
        )
        self.notes.append(
            f"numbers are cut as by the model: {now}; {idle} tokens with digits are out of reach"
            if ours.agrees(now)
            else f"numbers are cut finer than before, but not alike {differ}"
        )

    # Files

    def files(self, place: Path | None, chat_template: str) -> dict[str, Content]:
        """Return the files of the tokenizer."""
        own = _tokenizer_files(place)
        model = self.checkpoint.tokens or self.checkpoint.folder
        base = _tokenizer_files(model)
        chats = {"donor": own, "base": base, "none": {}}[chat_template]
        files: dict[str, Content] = {n: p for n, p in own.items() if n not in _CHAT}
        limit = self.checkpoint.tokenizer_settings.get("model_max_length")
        kept = self.identical and self.settings.get("model_max_length") == limit
        if self.changed or "tokenizer.json" not in own or not kept:
            made = self.changed or "tokenizer.json" not in own
            if made or self._limited(own):
                files = {"tokenizer.json": self.tokenizer.to_str(pretty=True).encode()}
            files.pop("special_tokens_map.json", None)
            files["tokenizer_config.json"] = _dump(self._config(made))
        config = dict(self._loaded(files.get("tokenizer_config.json")))
        text = _chat_text(model if chat_template == "base" else place)
        former = config.pop("chat_template", None)
        if chat_template != "donor" and former is not None:
            files["tokenizer_config.json"] = _dump(config)
        if chat_template == "base" and not any(name in chats for name in _CHAT) and text:
            files["chat_template.jinja"] = text.encode()
        files |= {name: chats[name] for name in _CHAT if name in chats}
        if text and chat_template == "base":
            self._check_chat(text)
        return files

    def _limited(self, own: Mapping[str, Path]) -> bool:
        """Tell whether truncation or padding of another model is written in the file."""
        found = read_json(own["tokenizer.json"])
        return bool(found.get("truncation") or found.get("padding"))

    @staticmethod
    def _loaded(content: Content | None) -> dict[str, Any]:
        if content is None:
            return {}
        return dict(read_json(content) if isinstance(content, Path) else json.loads(content))

    def _config(self, changed: bool) -> dict[str, Any]:
        """Return tokenizer_config.json: the new tokenizer's, and what belongs to the model."""
        config = dict(self.settings)
        config.pop("auto_map", None)
        kind = config.get("tokenizer_class")
        base = self.checkpoint.tokenizer_settings
        if changed or not isinstance(kind, str) or kind == "TokenizersBackend" or "." in kind:
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
            for key in ("add_bos_token", "add_eos_token", "added_tokens_decoder"):
                config.pop(key, None)
        for role in ROLES:
            if role in self.roles:
                config[f"{role}_token"] = self.roles[role]
        config.pop("model_max_length", None)
        if "model_max_length" in base:
            config["model_max_length"] = base["model_max_length"]
        types = (self.checkpoint.setting("type_vocab_size") or 0) > 1
        names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
        config["model_input_names"] = base.get("model_input_names", names)
        return config

    def _check_chat(self, text: str) -> None:
        missing = [
            self.source.tokens[i]
            for i in self.source.specials
            if self.source.tokens[i] in text and self.source.tokens[i] not in self.vocab.ids
        ]
        if missing:
            self.notes.append(
                "the model's chat template uses tokens that the new tokenizer splits: "
                + ", ".join(missing)
            )


def _known(vocab: Vocabulary, token: str, whose: str) -> int:
    """Return the id of a token that the caller named."""
    try:
        return vocab.id(token)
    except InputError as fault:
        raise ConfigError(f"specials: {whose} has no token {token!r}", hint=fault.hint) from fault


def _cut(numbers: Numerals) -> str | None:
    """Return the pattern of what is isolated to cut numbers in the same manner, if it has a rule.

    Only the digits 0 to 9: others may be bytes here, and parts of letters.
    """
    most = numbers.width
    if numbers.policy == "single":
        return "[0-9]"
    if numbers.policy != "groups":
        return None
    if numbers.side == "left":
        return f"[0-9]{{1,{most}}}"
    return f"[0-9]{{1,{most}}}(?=(?:[0-9]{{{most}}})*(?![0-9]))"


def _locate(name: str) -> Path:
    """Return the directory or file of a tokenizer: a path, a package, or a hub id."""
    place = Path(name).expanduser()
    if place.exists():
        return place
    found = packaged(name)
    if found is not None:
        return found
    if is_hub_id(name):
        return tokenizer_files.download(name)
    raise InputError(f"{name}: no such file or directory", hint="give the path of a tokenizer")


def _readable(place: Path | None) -> Path:
    """Return the folder of the tokenizer inside a model directory."""
    assert place is not None
    if place.is_dir() and not (place / "tokenizer.json").is_file():
        inner = place / "0_Transformer"
        if inner.is_dir():
            return inner
    return place


def _settings(place: Path | None) -> dict[str, Any]:
    if place is None:
        return {}
    folder = _readable(place) if place.is_dir() else place.parent
    path = folder / "tokenizer_config.json"
    return dict(read_json(path)) if path.is_file() else {}


def _tokenizer_files(place: Path | None) -> dict[str, Path]:
    if place is None or not place.is_dir():
        return {}
    folder = _readable(place)
    return {name: folder / name for name in TOKENIZER_FILES if (folder / name).is_file()}


def _chat_text(place: Path | None) -> str:
    if place is None or not place.is_dir():
        return ""
    path = _readable(place) / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    text = _settings(place).get("chat_template", "")
    return text if isinstance(text, str) else json.dumps(text)


def _dump(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _same(source: Vocabulary, target: Vocabulary) -> bool:
    """Tell whether both have the same tokens at the same ids; padding rows and ghosts aside."""
    if source.tokenizer is None or target.tokenizer is None:
        return False
    return by_id(source.tokenizer) == by_id(target.tokenizer)


# Templates: [single, pair], each a list of (id of a special token, or "A" or "B"; type id)


def _processors(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        inner = node.get("processors")
        if isinstance(inner, list):
            for part in inner:
                yield from _processors(part)
        else:
            yield node


def _post_processor(vocab: Vocabulary) -> Any:
    node = None if vocab.tokenizer is None else vocab.tokenizer.post_processor
    return None if node is None else json.loads(node.__getstate__())


def _template(vocab: Vocabulary, *, assumed: bool = False) -> list[list[Any]]:
    """Return what a tokenizer puts around one text and around two.

    A BERT known only by its list of words has a template all the same if it may be ``assumed``.
    """
    for processor in _processors(_post_processor(vocab)):
        kind = processor.get("type")
        if kind == "TemplateProcessing":
            return [_pieces(processor, part) for part in ("single", "pair")]
        if kind in ("BertProcessing", "RobertaProcessing"):
            cls, sep = processor["cls"][1], processor["sep"][1]
            return _around(cls, sep, roberta=kind == "RobertaProcessing")
    if assumed and vocab.kind == "wordpiece" and {"cls", "sep"} <= vocab.roles.keys():
        return _around(vocab.roles["cls"], vocab.roles["sep"], roberta=False)
    return [[("A", 0)], [("A", 0), ("B", 1)]]


def _around(cls: int, sep: int, *, roberta: bool) -> list[list[Any]]:
    start = [(cls, 0), ("A", 0), (sep, 0)]
    if roberta:
        return [start, [*start, (sep, 0), ("B", 0), (sep, 0)]]
    return [start, [*start, ("B", 1), (sep, 1)]]


def _pieces(processor: Mapping[str, Any], part: str) -> list[Any]:
    made: list[Any] = []
    for piece in processor[part]:
        if "Sequence" in piece:
            made.append((piece["Sequence"]["id"], piece["Sequence"]["type_id"]))
        else:
            token = piece["SpecialToken"]
            kind = token["type_id"]
            made += [(int(i), kind) for i in processor["special_tokens"][token["id"]]["ids"]]
    return made


def _closes(template: list[list[Any]]) -> bool:
    """Tell whether a special token follows the text."""
    return isinstance(template[0][-1][0], int)


def _adds(template: list[list[Any]]) -> list[int]:
    """Return the special ids of a template, each once."""
    return list(dict.fromkeys(w for t in template for w, _ in t if isinstance(w, int)))


def _with_ids(
    content: Mapping[str, Any], vocab: Vocabulary, moves: Mapping[int, int]
) -> dict[str, Any]:
    """Return a serialised tokenizer in which tokens have moved to other ids.

    Added tokens that are not in the model's own list are entered there, since only there an id
    can be chosen.
    """
    made: dict[str, Any] = json.loads(json.dumps(content))
    model = made["model"]
    places = {i: moves.get(i, i) for i in range(len(vocab))}
    if isinstance(model["vocab"], list):  # Unigram: [piece, score] by id
        scores = dict(enumerate(model["vocab"]))
        lowest = min((score for _, score in scores.values()), default=0.0)
        pieces = {
            places[i]: scores.get(i, [vocab.tokens[i], lowest]) for i in places if vocab.tokens[i]
        }
        if sorted(pieces) != list(range(len(pieces))):
            raise FormatError(
                "the tokenizer has gaps in its ids, so that none can be exchanged",
                hint="give a tokenizer without gaps in its ids",
            )
        model["vocab"] = [pieces[i] for i in range(len(pieces))]
        if model.get("unk_id") is not None:
            model["unk_id"] = places[model["unk_id"]]
    else:
        model["vocab"] = {vocab.tokens[i]: places[i] for i in places if vocab.tokens[i]}
    for token in made["added_tokens"]:
        token["id"] = places[token["id"]]
    for processor in _processors(made.get("post_processor")):
        for name in ("cls", "sep"):
            if name in processor:
                processor[name][1] = places[processor[name][1]]
        for token in (processor.get("special_tokens") or {}).values():
            token["ids"] = [places[i] for i in token["ids"]]
    return made
