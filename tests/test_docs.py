"""The pages name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TOP = ("gateway", "relay", "sessions", "sluice")
NAMED = re.compile(r"`((?:gateway|relay|sessions|sluice|tests|scripts|benchmarks|docs)/[\w./-]*)`")
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
