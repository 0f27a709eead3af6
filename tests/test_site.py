"""docs/ as a site: it is built strictly, and nothing in it comes from elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
ELSEWHERE = re.compile(r"""<(?:link|script|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")
IN_STYLES = re.compile(r"""(?:url\(|@import )["']?(?:https?:)?//""")


def test_the_site_is_built_strictly_and_nothing_in_it_comes_from_elsewhere(tmp_path: Path) -> None:
    """A page without a place in the navigation, a dead link or a dead anchor is an error to MkDocs."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    assert [name for name in PAGES if not (tmp_path / name).with_suffix(".html").exists()] == []
    fetched = {page.name: ELSEWHERE.findall(page.read_text()) for page in tmp_path.rglob("*.html")}
    assert {page: found for page, found in fetched.items() if found} == {}
    styles = [path.name for path in tmp_path.rglob("*.css") if IN_STYLES.search(path.read_text())]
    assert styles == []


def test_code_in_a_list_stands_four_spaces_in() -> None:
    """With fewer, MkDocs ends the list there."""
    assert [name for name in PAGES if re.search(r"^ {1,3}```", (DOCS / name).read_text(), re.MULTILINE)] == []


def made() -> dict[str, Any]:
    return dict(runpy.run_path(str(ROOT / "scripts/pages.py"))["pages"]())


@pytest.mark.parametrize("name", made())
def test_a_page_that_is_made_is_as_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == made()[name], "run .venv/bin/python scripts/pages.py"
