from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sessions.worker.browser import available, wa_js
from sessions.worker.browser.available import missing
from sessions.worker.policies import BrowserPolicy
from sluice.process import npm


def test_it_says_first_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "_EXTRA", ("playwright_of_another_planet",))
    assert missing(BrowserPolicy()) == ("playwright_of_another_planet is not installed: pip install 'sluice[browser]'")


def test_then_the_browser_and_then_what_is_injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wa_js, "FOLDER", tmp_path)
    said = missing(BrowserPolicy("/opt/none"))
    assert said is not None
    assert said.startswith("sessions.browser.path: there is no file /opt/none: install one")
    said = missing(BrowserPolicy(sys.executable))
    assert said is not None
    assert "wa-js 4.6.0 is not here" in said
    npm.install((wa_js.PACKAGE,), tmp_path)
    assert missing(BrowserPolicy(sys.executable)) is None
