"""The pages name files that are there."""

from __future__ import annotations

import argparse
import re
from functools import lru_cache
from pathlib import Path

import pytest

from sluice.cli.main import whole_parser

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TOP = ("gateway", "relay", "sessions", "sluice")
NAMED = re.compile(r"`((?:gateway|relay|sessions|sluice|tests|scripts|benchmarks|docs)/[\w./-]*)`")
COMMAND = re.compile(r"(?:^|`|\\bin/)sluice ((?:[a-z][a-z|-]*(?: |$|`))+)(.*)", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")
LINKED = re.compile(r"\]\((?!https?:|#)([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = [ROOT / name for name in NAMED.findall(text)]
    linked = [page.parent / name for name in LINKED.findall(text)]
    assert [str(path) for path in named + linked if not path.exists()] == []


def test_the_tour_names_each_package() -> None:
    tour = (ROOT / "docs" / "architecture.md").read_text()
    packages = {
        path.parent for top in ("gateway", "relay", "sessions", "sluice") for path in (ROOT / top).rglob("*.py")
    }
    missing = [str(path.relative_to(ROOT)) for path in packages if path.name not in tour and path.name != "protocol"]
    assert missing == []


PARSER = lru_cache(whole_parser)


def commands(words: list[str]) -> list[argparse.ArgumentParser]:
    """The parsers that the words lead to, `a|b` to two; none where there is no such command."""
    found = [PARSER()]
    for word in words:
        groups = [one for one in found for one in one._actions if isinstance(one, argparse._SubParsersAction)]
        if not groups:
            break  # the others are arguments
        known = {name: inner for group in groups for name, inner in group.choices.items()}
        if not set(word.split("|")) <= known.keys():
            return []
        found = [known[name] for name in word.split("|")]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    for words, rest in COMMAND.findall(page.read_text()):
        found = commands(words.replace("`", " ").split())
        assert found, f"sluice {words}"
        known = {option for one in found for action in one._actions for option in action.option_strings}
        shown = rest.partition("`")[0].partition("#")[0].partition("  ")[0] if "`" not in words else ""
        assert set(OPTION.findall(shown)) <= known, f"sluice {words}{shown}"


def test_there_are_commands_on_the_pages() -> None:
    shown = [one for page in PAGES for one in COMMAND.findall(page.read_text())]
    assert len(shown) > 200
    assert commands(["sessions", "list|show"]) != []
    assert commands(["sessions", "lists"]) == []
