"""docs/promises.md: each promise has tests that exist, and what README and docs/security.md promise is among them."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/promises.md").read_text()
ROWS = [row for row in re.findall(r"^\| (.+) \|$", PAGE, re.MULTILINE) if not row.endswith("| held by")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@lru_cache
def found_in(file: str) -> frozenset[str]:
    """Those that pytest would collect there: functions of the module, and of its classes."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    module = ast.parse(path.read_text())
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    bodies = [module.body, *(node.body for node in classes)]
    functions = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def bold(text: str) -> set[str]:
    """What stands in bold at the beginning of rows and items."""
    return set(re.findall(r"^(?:\| |- )\*\*(.+?)\*\*", text, re.MULTILINE))


def section(page: str, heading: str) -> str:
    return (ROOT / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_there_are_promises() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "_", row)[:48])
def test_a_promise_has_tests_that_exist(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "this promise has no test"
    assert [f"{file}::{name}" for file, name in named if name not in found_in(file)] == []


@pytest.mark.parametrize(("page", "heading"), [("README.md", "What happens when…"), ("docs/security.md", "What holds")])
def test_what_another_page_promises_is_among_them(page: str, heading: str) -> None:
    promised = bold(section(page, heading))
    assert len(promised) > 6
    assert promised - bold(PAGE) == set()
