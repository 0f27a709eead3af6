"""The files of the page, as they are served: without data, from ourselves alone, and kept by a browser for good."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from gateway.resources import Resources
from sluice.console.page import assets, libraries
from tests.sluice.console.deployment import TOKEN
from tests.sluice.console.test_http import http

__all__ = ["http"]
pytestmark = pytest.mark.anyio
FOLDER = Path(assets.__file__).parent
MOST = 250 * 1000
"""Bytes, not packed."""


@pytest.fixture(params=["whole", "plain"])
async def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With its libraries, and without."""
    if request.param == "plain":
        monkeypatch.setattr(libraries, "complete", lambda: False)
    else:
        await asyncio.to_thread(libraries.install)
    return str(request.param)


@pytest.fixture
async def start(http: httpx2.AsyncClient, page: str) -> httpx2.Response:
    return await http.get("/_sluice/")


def links(page: str) -> list[str]:
    return [link for link in re.findall(r'(?:src|href)="([^"]*)"', page) if link != "data:,"]


async def test_the_page_lies_one_slash_further(http: httpx2.AsyncClient) -> None:
    response = await http.get("/_sluice")
    assert (response.status_code, response.headers["location"]) == (307, "/_sluice/")


async def test_the_page_needs_no_token_and_holds_none(http: httpx2.AsyncClient, start: httpx2.Response) -> None:
    assert (start.status_code, start.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert start.headers["cache-control"] == "no-store"
    answers = [start, *[await http.get(f"/_sluice/{link}") for link in links(start.text)]]
    assert len(answers) >= 3
    for answer in answers:
        assert answer.status_code == 200
        assert TOKEN not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        allowed = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert allowed["default-src"] == "'none'"
        assert {allowed["script-src"], allowed["style-src"], allowed["connect-src"]} == {"'self'"}
        assert allowed["frame-ancestors"] == "'none'"


async def test_the_page_loads_only_what_the_console_serves(start: httpx2.Response) -> None:
    assert all(link.startswith("assets/") for link in links(start.text))
    assert not re.search(r"<style|<script>|\son[a-z]+=|\sstyle=", start.text)


async def test_a_browser_keeps_its_files_for_good_and_asks_for_others_by_another_name(
    http: httpx2.AsyncClient, start: httpx2.Response
) -> None:
    for link in links(start.text):
        answer = await http.get(f"/_sluice/{link}")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        packed_not = await http.get(f"/_sluice/{link}", headers={"Accept-Encoding": "identity"})
        assert packed_not.text == answer.text
        stale = await http.get(f"/_sluice/{link}".replace(assets.page().version, "0" * 16))
        assert stale.json()["detail"] == "the page has no such file any more; load it again"
        assert (stale.status_code, stale.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize("path", ["%2e%2e/routes.py", "index.html", "nothing.js", "routes.py"])
async def test_nothing_else_is_served(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.get(f"/_sluice/assets/{assets.page().version}/{path}")).status_code == 404


async def test_all_of_it_is_small(page: str) -> None:
    found = assets.page()
    assert sum(len(one.content) for one in (found.start, *found.assets.values())) <= MOST


def scripts() -> list[Path]:
    return sorted(file for file in FOLDER.rglob("*.js") if "fetched" not in file.parts)


def test_no_script_makes_markup_of_data() -> None:
    assert len(scripts()) > 10
    for file in scripts():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", file.read_text()), file


def test_each_script_can_be_parsed(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node, "install Node.js: it parses the scripts of the page"
    for file in scripts():
        module = tmp_path / "module.mjs"
        module.write_text(file.read_text())
        checked = subprocess.run([node, "--check", module], capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, f"{file}: {checked.stderr}"


def test_each_script_finds_what_it_imports() -> None:
    for file in scripts():
        for path in re.findall(r'from "([^"]+)"', file.read_text()):
            assert (file.parent / path).resolve().is_relative_to(FOLDER), file
            assert "fetched" in path or (file.parent / path).exists(), f"{file}: {path}"


async def test_a_browser_asks_for_one_script_and_one_style_sheet(http: httpx2.AsyncClient) -> None:
    await asyncio.to_thread(libraries.install)
    start = (await http.get("/_sluice/")).text
    assert [link.rpartition("/")[2] for link in links(start)] == ["app.css", "app.js"]
    script = (await http.get(f"/_sluice/{links(start)[1]}")).text
    for file in scripts():
        if file.parent.name in ("app", "views"):
            assert file.read_text().splitlines()[0] in script, f"{file} is not in it"
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)


async def test_the_page_has_every_place_that_the_plain_script_fills(parts: Resources) -> None:
    page, script = (FOLDER / "plain.html").read_text(), (FOLDER / "plain.js").read_text()
    places = set(re.findall(r'\$\("([^"]+)"\)', script))
    assert {"file", "file-wrong", "problems"} <= places
    assert places <= set(re.findall(r'id="([^"]+)"', page))
