from __future__ import annotations

from pathlib import Path

import pytest

from sessions.worker.browser import executable
from sessions.worker.browser.errors import NotInstalled


def browser(folder: Path, name: str) -> str:
    path = folder / name
    path.touch(mode=0o755)
    return str(path)


def test_the_one_that_takes_least_memory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    chromium = browser(tmp_path, "chromium")
    assert executable.find("auto") == chromium
    shell = browser(tmp_path, "chromium-headless-shell")
    assert executable.find("auto") == shell
    assert executable.find(chromium) == chromium


def test_where_none_is_it_says_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled) as caught:
        executable.find("auto")
    cure = "install one (Debian: apt install chromium-headless-shell), or name it: "
    cure += "sessions.browser.path: /usr/bin/chromium"
    assert str(caught.value) == f"there is no Chromium on this machine: {cure}"
    with pytest.raises(NotInstalled, match=r"sessions\.browser\.path: there is no file /opt/none: install one"):
        executable.find("/opt/none")
