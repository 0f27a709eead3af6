"""The files of the page as they are served: under a path that changes with them, so that a browser keeps them for good.

Without its libraries (`libraries.py`) the page is `plain.html`, which shows how everything is, and changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from sluice.console.page import libraries
from sluice.console.page.bundle import bundled

FOLDER = "assets"
"""Below the page; the next part of the path is the version of them all."""
_STYLES = ("fetched/uplot.css", "plain.css", "app/app.css")
_AT_FIRST_USE = "let made;\nexport const loaded = () => (made ??= (() => {\n%s\nreturn uPlot;\n})());\n"
"""uPlot is no module. It is run with the first chart, as that takes longer than all of the page."""
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


@dataclass(frozen=True, slots=True)
class Asset:
    media_type: str
    content: bytes
    packed: bytes
    """By gzip."""


@dataclass(frozen=True, slots=True)
class Page:
    version: str
    start: Asset
    """What is answered at the page's own path."""
    assets: dict[str, Asset]
    """By their path below the version."""


def page() -> Page:
    """Read once; libraries that are fetched later are found."""
    return _page(libraries.complete())


@cache
def _page(whole: bool) -> Page:
    found = {path: file.read_bytes() for path, file in _below(files("sluice.console.page"), "")}
    modules = {path: content.decode() for path, content in found.items() if path.endswith(".js")}
    served = _joined(found, modules) if whole else _plain(found, modules)
    digest = hashlib.sha256()
    for path in sorted(served):
        digest.update(b"%b\0%d\0%b" % (path.encode(), len(served[path]), served[path]))
    version = digest.hexdigest()[:16]
    start = found["index.html" if whole else "plain.html"].replace(b"{assets}", f"{FOLDER}/{version}".encode())
    return Page(version, _asset("index.html", start), {path: _asset(path, one) for path, one in served.items()})


def _joined(found: Mapping[str, bytes], modules: dict[str, str]) -> dict[str, bytes]:
    """One script and one style sheet: a browser has but six connections, and asking takes it longer than reading."""
    modules["fetched/uplot.js"] = _AT_FIRST_USE % modules["fetched/uplot.js"]
    return {"app.js": bundled(modules, "app/main.js").encode(), "app.css": b"\n".join(found[path] for path in _STYLES)}


def _plain(found: Mapping[str, bytes], modules: Mapping[str, str]) -> dict[str, bytes]:
    return {"plain.js": bundled(modules, "plain.js").encode(), "plain.css": found["plain.css"]}


def _below(folder: Traversable, path: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for one in folder.iterdir():
        if one.is_dir():
            found += _below(one, f"{path}{one.name}/")
        elif one.name.rpartition(".")[2] in _TYPES:
            found.append((path + one.name, one))
    return found


def _asset(path: str, content: bytes) -> Asset:
    media_type = f"{_TYPES[path.rpartition('.')[2]]}; charset=utf-8"
    return Asset(media_type, content, gzip.compress(content, mtime=0))
