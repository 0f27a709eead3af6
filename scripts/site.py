"""What mkdocs.yml calls while it builds: files outside docs/ that a page links to become part of the site.

Links in the pages are those of the repository, so that they lead somewhere in a checkout as well.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
WITHIN = "docs/"
OUTSIDE = "repository/"
"""Where in the site files lie that are outside docs/."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Each decision has its place in the navigation by its number."""
    found = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "index.md")
    assert config.nav is not None
    config.nav.append({"Decisions": ["decisions/index.md", *(f"decisions/{name}" for name in found)]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted(linked_files()):
        name = OUTSIDE + path
        files.append(File.generated(config, name, content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = here.removeprefix(OUTSIDE) if here.startswith(OUTSIDE) else WITHIN + here
    return LINK.sub(lambda link: _in_the_site(link[1], source, here), markdown)


def linked_files() -> set[str]:
    """All files outside docs/ that a page leads to, and those to which these lead, from the root of the repository."""
    found: set[str] = set()
    left = {str(path.relative_to(ROOT)) for path in (ROOT / WITHIN).rglob("*.md")}
    while left:
        left = {it for page in left for it in _links(page) if not it.startswith(WITHIN)} - found
        found |= left
        left = {it for it in left if it.endswith(".md")}
    return found


def _links(page: str) -> Iterator[str]:
    """Of the files that are there: what is not there MkDocs tells."""
    for link in LINK.findall((ROOT / page).read_text()):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        if (ROOT / path).is_file():
            yield path


def _in_the_site(link: str, source: str, here: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if (ROOT / path / "index.md").is_file():
        path += "/index.md"
    if not (ROOT / path).is_file():
        return link
    target = path.removeprefix(WITHIN) if path.startswith(WITHIN) else OUTSIDE + path
    return posixpath.relpath(target, posixpath.dirname(here) or ".")
