"""Which browser wrote a profile, and whether another one may open it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sessions.profiles.browsers import Browser, Unfit, browser_at, check, last_version, named
from sessions.profiles.errors import ProfileError

pytestmark = pytest.mark.anyio

CHROMIUM = Browser("Chromium", "156.0.8078.79", "leveldb")


@pytest.mark.parametrize(
    ("said", "browser"),
    [
        ("Chromium 156.0.8078.108 built on Debian GNU/Linux 12 (bookworm)\n", Browser("Chromium", "156.0.8078.108")),
        ("Google Chrome 149.0.1.2 ", Browser("Google Chrome", "149.0.1.2")),
        ("Google Chrome for Testing 149.0.1.2", Browser("Google Chrome for Testing", "149.0.1.2")),
        ("156.0.8078.79", Browser("", "156.0.8078.79")),
        ("", Browser()),
        ("no version", Browser()),
        ("9" * 10_000, Browser()),
    ],
)
def test_a_browser_is_read_from_what_it_says(said: str, browser: Browser) -> None:
    assert named(said) == browser
    assert named(named(said).name) == browser


@pytest.mark.parametrize(
    "runs",
    [
        CHROMIUM,
        Browser("Chromium", "156.0.1.1", "leveldb"),
        Browser("Chromium", "157.0.1.1"),
        Browser("", "156.0.1.1"),
        Browser(),
    ],
)
def test_a_browser_that_is_not_older_may_open_it(runs: Browser) -> None:
    assert check(CHROMIUM, runs) is None
    assert check(Browser(), runs) is None


def test_an_older_one_is_refused() -> None:
    with pytest.raises(Unfit) as refused:
        check(CHROMIUM, Browser("Chromium", "149.0.7.7"))
    assert str(refused.value) == (
        "the profile was written by Chromium 156.0.8078.79, and Chromium 149.0.7.7 is older: it would drop what it "
        "does not know, and the login with it. Update the browser of this machine to 156 or newer"
    )


def test_another_product_is_refused() -> None:
    with pytest.raises(Unfit) as refused:
        check(CHROMIUM, Browser("Google Chrome", "157.0.1.1"))
    assert str(refused.value) == (
        "the profile was written by Chromium 156.0.8078.79, and Google Chrome 157.0.1.1 is another product, which may "
        "drop it without a word: run this session with Chromium 156 or newer"
    )


def test_another_backend_is_told() -> None:
    assert check(CHROMIUM, Browser("Chromium", "157.0.1.1", "sqlite")) == (
        "the profile keeps its IndexedDB in leveldb, and Chromium 157.0.1.1 keeps it in sqlite: it may delete what it "
        "finds. Start all browsers with the same IdbSqliteOnDiskRollout and IdbSqliteBackingStore (docs/vault.md)"
    )


async def test_an_executable_is_asked(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "install a Chromium"
    browser = await browser_at(chromium)
    assert browser.product == "Chromium"
    assert browser.milestone > 100
    with pytest.raises(ProfileError, match="^/none/chromium cannot be run: No such file or directory$"):
        await browser_at("/none/chromium")
    with pytest.raises(ProfileError, match="--version said .*, which names no version$"):
        await browser_at(_script(tmp_path / "true", "true"))


def _script(path: Path, says: str) -> str:
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("noted", "version"), [(b"156.0.8078.79", "156.0.8078.79"), (b"\xff\0", ""), (b"9" * 10**6, ""), (None, "")]
)
def test_a_profile_says_which_version_ran_last(tmp_path: Path, noted: bytes | None, version: str) -> None:
    if noted is not None:
        (tmp_path / "Last Version").write_bytes(noted)
    assert last_version(tmp_path) == version
