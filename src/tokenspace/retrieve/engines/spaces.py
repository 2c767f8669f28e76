"""Send the passages of a space to an index, and ask it as the space is asked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tokenspace.arrays import Ragged
from tokenspace.progress import Meter

from .engine import Engine, Id

if TYPE_CHECKING:
    from tokenspace.space import Space

__all__ = ["encoder_of", "passages", "push", "query"]

ROWS = 500_000  # token vectors that are sent at a time
LEARNED = ("encoder/", "table/", "vocabulary/")  # what vectors depend on


def encoder_of(space: Space) -> str:
    """Return the hash of what makes the space's vectors; adding text to it alters no vector."""
    manifest = space.manifest
    made = {
        name: entry["sha256"] for name, entry in manifest.files.items() if name.startswith(LEARNED)
    }
    text = json.dumps([space.generation.plan.encoder, made], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def passages(space: Space) -> Iterator[tuple[list[Id], Ragged, list[dict[str, Any]]]]:
    """Yield a space's passages as ids, token vectors and metadata, some at a time.

    The id of a passage is ``SOURCE:LINE``, with ``#2`` behind it for a second one of that line.
    Metadata are ``source``, ``line``, ``title`` and ``text``.
    """
    tokens, held = space.generation.tokens, space.generation.passages
    seen: Counter[str] = Counter()
    start = 0
    while start < len(held):
        ids: list[Id] = []
        metadata = []
        first = stop = start
        while stop < len(held) and (
            stop == start or tokens.offsets[stop + 1] - tokens.offsets[start] <= ROWS
        ):
            passage = held[stop]
            place = f"{passage.source}:{passage.line}"
            seen[place] += 1
            ids.append(place if seen[place] == 1 else f"{place}#{seen[place]}")
            metadata.append(
                {
                    "source": passage.source,
                    "line": passage.line,
                    "title": passage.title,
                    "text": passage.text,
                }
            )
            stop += 1
        low, high = int(tokens.offsets[first]), int(tokens.offsets[stop])
        offsets = tokens.offsets[first : stop + 1] - low
        yield ids, Ragged(tokens.rows(low, high), offsets), metadata
        start = stop


def push(space: Space, index: Engine) -> int:
    """Add a space's passages to an index, and replace those that it has; return their number.

    What was removed from the space stays in the index. A push that was cut off is made whole by
    another one.
    """
    encoder, count = encoder_of(space), 0
    with Meter("push", len(space)) as meter:
        for ids, tokens, metadata in passages(space):
            index.update(ids, tokens, metadata, encoder=encoder)
            count += len(ids)
            meter.add(len(ids))
    return count


def query(space: Space, text: str) -> Ragged:
    """Return the token vectors of a query, weighted as the space's own search weighs them."""
    return Ragged.pack([space.collection.query(text).vectors])
