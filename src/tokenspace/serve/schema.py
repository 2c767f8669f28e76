"""What a client may send and what it gets: the models behind the OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

__all__ = ["Answer", "Ask", "Found", "Health", "Info", "Limits", "Refusal"]

MOST_HITS, LONGEST, MOST_QUERIES = 100, 2000, 64

Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


def _whole(value: object) -> object:
    """Take 3.0 for 3, as JSON does; text stays text, and is refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Ask(BaseModel):
    """A query, or a batch of them."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"query": "how do I read a file line by line", "k": 3}]},
    )

    query: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_QUERIES)] = Field(
        description="what is asked, in words; or a list of questions"
    )
    k: Annotated[int, BeforeValidator(_whole)] = Field(
        10, ge=1, le=MOST_HITS, description="hits a query, at most"
    )
    mode: Literal["hybrid", "maxsim", "fde", "single", "bm25"] = Field(
        "hybrid", description="how passages are ranked"
    )
    explain: bool = Field(True, description="say which tokens matched; faster without")


class Match(BaseModel):
    """A query token and the passage token that it matched best."""

    query: str
    passage: str
    similarity: float = Field(description="the cosine of their vectors")
    weight: float = Field(description="what the query token counts")
    start: int = Field(description="the place in the passage's text; -1: in its title")
    end: int


class Hit(BaseModel):
    """One passage that was found, as `tokenspace search --json` prints it."""

    rank: int
    score: float
    source: str
    line: int
    title: str
    text: str
    alignment: list[Match]


class Answer(BaseModel):
    """The hits of one query, best first; one that the space has no word for says so in error."""

    query: str
    hits: list[Hit]
    error: str | None = None
    hint: str | None = None


class Found(BaseModel):
    """One answer for every query, in their order."""

    generation: str = Field(description="which state of the space answered")
    mode: str
    seconds: float
    results: list[Answer]


class Refusal(BaseModel):
    """Why a request was not answered, and what to do about it."""

    error: str
    hint: str | None = None


class Limits(BaseModel):
    """What a request may ask for."""

    hits: int
    query_characters: int
    queries: int
    body_bytes: int
    seconds: float
    requests_a_second: float | None


class Info(BaseModel):
    """What the space holds, how it was made and how it searches, and what the server allows."""

    space: str
    generation: str
    holds: dict[str, Any]
    plan: dict[str, Any]
    search: dict[str, Any]
    bytes: dict[str, Any]
    format: int
    tokenspace: str
    limits: Limits


class Health(BaseModel):
    """Whether the server lives and whether it takes searches now."""

    live: bool
    ready: bool
    generation: str
