"""The page at /docs, made of the OpenAPI description: it opens without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from tokenspace.page import heading, page, table

__all__ = ["render"]


def render(api: Mapping[str, Any]) -> str:
    """Return a page for an OpenAPI description: every path, what it takes and what it gives."""
    schemas = api["components"]["schemas"]
    parts = []
    for path, methods in api["paths"].items():
        for method, about in methods.items():
            parts.append(heading(f"{method.upper()} {path}", about.get("description", "")))
            taken = about.get("requestBody", {}).get("content", {}).get("application/json")
            if taken:
                body = json.dumps(_named(taken["schema"], schemas)["examples"][0])
                call = (
                    f"curl -s http://HOST:PORT{path} -H 'Content-Type: application/json'"
                    f" -d '{body}'"
                )
                parts.append(f"<pre><code>{escape(call)}</code></pre>")
            rows = []
            for status, reply in about["responses"].items():
                media, content = next(iter(reply["content"].items()))
                kind = _words(content["schema"]) or media
                rows.append([f"{status}", kind, reply["description"]])
            parts.append(table(["status", "gives", "when"], rows))
    for name, schema in schemas.items():
        needed = schema.get("required", ())
        rows = [
            [
                field,
                _words(about),
                "required" if field in needed else json.dumps(about.get("default")),
                about.get("description", ""),
            ]
            for field, about in schema.get("properties", {}).items()
        ]
        parts += [heading(name, schema.get("description", "")), table(_COLUMNS, rows)]
    lead = f"{api['info']['description']} The same for programs: /openapi.json"
    return page(api["info"]["title"], lead, parts)


_COLUMNS = ("field", "type", "default", "what it is")
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "minLength": "characters at least",
    "maxLength": "characters at most",
    "minItems": "items at least",
    "maxItems": "items at most",
}


def _named(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a reference names."""
    found: Mapping[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
    return found


def _words(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a schema allows."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_words(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    words = str(schema.get("type", ""))
    if "items" in schema:
        words = f"list of {_words(schema['items'])}"
    bounds = [f"{said} {schema[key]}" for key, said in _BOUNDS.items() if key in schema]
    return words + (f" ({', '.join(bounds)})" if bounds else "")
