"""Writes the pages of docs/ that are made from the code: .venv/bin/python scripts/pages.py; a test compares them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from gateway.policies.schema import json_schema  # noqa: E402
from sluice.config import parsers, units  # noqa: E402
from sluice.console.openapi import document  # noqa: E402
from sluice.console.operations import OPERATIONS  # noqa: E402

DOCS = ROOT / "docs"
MADE = "<!-- Made by scripts/pages.py. -->\n"


def pages() -> dict[str, str]:
    """The text of each, by its path below docs/."""
    return {"decisions/index.md": decisions(), "policies.md": policies(), "api.md": api()}


def decisions() -> str:
    rows = [
        f"| [{path.name[:4]}]({path.name}) | {_title(path)} |\n" for path in sorted((DOCS / "decisions").glob("0*.md"))
    ]
    return (
        f"{MADE}# Decisions\n\nWhere we left the first design, or chose between ways that both looked right.\n\n"
        f"| | |\n|---|---|\n{''.join(rows)}"
    )


def _title(decision: Path) -> str:
    """Without its number."""
    return decision.read_text().partition("\n")[0].removeprefix("# ").partition(". ")[2]


POLICIES = f"""{MADE}# Keys of policies.yaml

Every key, as the parsers declare it; `sluice schema` gives the same to editors. What is not here is refused by name,
with line, column and the nearest key that there is. [policies.yaml](../policies.yaml) shows them at work, with
comments. Below, `<name>` is a name that you give, and `[]` an item of a list. A key without a default may be left out,
unless it says **needed**.

| what is taken | is written | at least, at most |
|---|---|---|
| a duration | `250ms` `5s` `2m` `1h` `1d` | `1ms`, `{units.MAX_DURATION / units.DAY:.0f}d` |
| a size | `512B` `64KiB` `1MiB` `1GiB` | `1B`, `{units.MAX_SIZE // 2**30}GiB` |
| a rate | `1000/minute` `5/10 seconds` | `1/{units.MAX_PERIOD / units.DAY:.0f} days`, `{units.MAX_PER_SECOND}/second` |
| a percentage | `25%` | more than `0%`, `100%` |
| a whole number | digits, without quotes | 1, {units.MAX_AMOUNT:,} |
| a secret | `env:NAME` or `file:PATH` | |
| a pattern | text; `*` stands for any part of it | |

Where a key has a narrower bound, it is said with it.
"""


def policies() -> str:
    """The reference of policies.yaml."""
    schema = json_schema()
    sections = sorted(schema["properties"].items(), key=lambda entry: bool(list(_inside(entry[1]))))
    single = [(name, form) for name, form in sections if not list(_inside(form))]
    text = (
        POLICIES + "\n## At the top\n\n" + _table(_row(name, form, name in schema["required"]) for name, form in single)
    )
    for name, form in schema["properties"].items():
        if rows := list(_inside(form)):
            about = form.get("description", "")
            text += f"\n## {name}\n\n{about}\n\n" + _table(_row(key, *rest) for key, *rest in rows)
    return text


def _table(rows: Iterator[str]) -> str:
    return "| key | takes | default | |\n|---|---|---|---|\n" + "".join(rows)


def _inside(form: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Each key below, with its form and whether it is needed."""
    for name, inner in form.get("properties", {}).items():
        yield f"{prefix}{name}", inner, name in form.get("required", ())
        yield from _inside(inner, f"{prefix}{name}.")
    seen: set[str] = set()
    for one in form.get("anyOf", ()):
        for key, inner, needed in _inside(one, prefix):
            if key not in seen:
                seen.add(key)
                yield key, inner, needed
    if isinstance(form.get("additionalProperties"), dict):
        yield from _inside(form["additionalProperties"], f"{prefix}<name>.")
    if "items" in form:
        yield from _inside(form["items"], f"{prefix.removesuffix('.')}[].")


def _row(key: str, form: dict[str, Any], needed: bool) -> str:
    default = "**needed**" if needed else _default(form)
    about = _for_authors(form).replace("|", "\\|")
    return f"| `{key}` | {takes(form)} | {default} | {about} |\n"


def _for_authors(form: dict[str, Any]) -> str:
    """A description says what our code has where nothing is written: None, or 0."""
    text = " ".join(form.get("description", "").split())
    text = re.sub(r"(^|\. )None:", r"\1Not written:", text).replace("None:", "not written:")
    return text.replace("0:", "`none`:") if "|none" in form.get("pattern", "") else text


def _default(form: dict[str, Any]) -> str:
    match form.get("default"):
        case None:
            return ""
        case bool(value):
            return "`true`" if value else "`false`"
        case list(values):
            return f"`[{', '.join(values)}]`"
        case value:
            return f"`{value}`"


KINDS = {
    parsers.DURATION: "a duration",
    parsers.SIZE: "a size",
    units.PERCENTAGE.pattern: "a percentage",
    "env:": "a secret",
    r"\s*[0-9]+\s*(?:/|": "a rate",
    "file:.+": "`file:PATH`",
    "~[01]": "a JSON pointer",
    parsers.EVENT_GLOB.pattern: "a pattern of event types",
}
"""By what stands in the pattern of a text."""


def takes(form: dict[str, Any]) -> str:
    """What may be written there."""
    match form:
        case {"anyOf": forms}:
            return ", or ".join(dict.fromkeys(takes(one) for one in forms))
        case {"enum": options}:
            return ", ".join(f"`{option}`" for option in options)
        case {"const": value}:
            return f"`{str(value).lower()}`"
        case {"items": items}:
            return f"a list: {takes(items)}"
        case {"type": "array"}:
            return "a list"
        case {"type": "object", "additionalProperties": dict(entry)}:
            return "a mapping, by name" if "properties" in entry else f"a mapping, by name: {takes(entry)}"
        case {"type": "object"}:
            return "a mapping"
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"type": "integer", "minimum": least, "maximum": most} if (least, most) != (1, units.MAX_AMOUNT):
            return f"a whole number, {least} to {most}"
        case {"type": "integer"}:
            return "a whole number"
        case {"type": "number"}:
            return "a number over 0, at most 1"
        case {"pattern": str(pattern)}:
            kind = next((kind for part, kind in KINDS.items() if part in pattern), "text")
            word = next((word for word in ("none", "off") if pattern.endswith(f"|{word})$")), "")
            return f"{kind}, or `{word}`" if word else kind
    return "text"


API = f"""{MADE}# HTTP API

What `sluice` can ask and do, over HTTP: with the value of `console.token` as `Authorization: Bearer …` (the operator),
or of `console.read` (the reader), who may ask what changes nothing. `GET /_sluice/api/openapi.json` describes each
request and answer (OpenAPI 3.1) and needs no token. GET has its fields as a query, POST as a JSON object. A refusal is
problem+json (RFC 9457). A command line elsewhere asks the same: `sluice … --gateway URL --token-file FILE`.

Beside it there are [the workers' API](workers.md#your-own-in-any-language) (`/_sluice/workers/openapi.json`),
[that of the vault](vault.md#http-api), `POST /_sluice/events` ([publishing](../README.md#publishing)), and `healthz`,
`readyz` and `metrics` ([operations.md](operations.md#metrics)).

| | fields | who | |
|---|---|---|---|
"""


def api() -> str:
    paths, rows = document()["paths"], []
    for operation in OPERATIONS:
        path = f"/_sluice/api{operation.path}"
        described = paths[path][operation.method.lower()]
        names = [one["name"] for one in described.get("parameters", ()) if one["in"] == "query"]
        if "requestBody" in described:
            names += described["requestBody"]["content"]["application/json"]["schema"]["properties"]
        looks = not operation.is_secret and (operation.method == "GET" or operation.asks)
        fields = " ".join(f"`{name}`" for name in names)
        who = "reader" if looks else "operator"
        rows.append(f"| `{operation.method} {path}` | {fields} | {who} | {described['summary']} |\n")
    return API + "".join(rows)


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)
