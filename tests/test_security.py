"""docs/security.md names keys that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.policies.schema import json_schema

SCHEMA: Any = json_schema()
PAGE = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| (.+?) \|", PAGE.partition("\n## What is bounded by which key\n")[2], re.MULTILINE)
KEYS = sorted({key for what, keys in ROWS for key in re.findall(r"`([a-z_.*]+)`", keys) if what[0] != "-"})


def test_the_table_has_keys() -> None:
    assert len(KEYS) > 25


@pytest.mark.parametrize("key", KEYS)
def test_each_key_of_the_table_is_one_of_the_policies(key: str) -> None:
    known: list[Any] = [SCHEMA]
    for step in key.split("."):
        known = [found for node in known for found in _below(node, step)]
        assert known, f"there is no {step} in {key}"


def _below(node: Any, step: str) -> list[Any]:
    """The schemas of a key, wherever a mapping or an item of a list may have it."""
    if not isinstance(node, dict):
        return []
    found = [node["properties"][step]] if step in node.get("properties", {}) else []
    if step == "*" and "additionalProperties" in node:
        found.append(node["additionalProperties"])
    nested = [*node.get("anyOf", ()), *([node["items"]] if "items" in node else [])]
    return found + [one for inner in nested for one in _below(inner, step)]
