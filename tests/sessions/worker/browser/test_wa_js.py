from __future__ import annotations

from pathlib import Path

import pytest

from sessions.worker.browser import wa_js
from sessions.worker.browser.errors import NotInstalled
from sluice.process import npm


def test_it_is_the_pinned_one_with_its_licence(tmp_path: Path) -> None:
    npm.install((wa_js.PACKAGE,), tmp_path)
    text = wa_js.load(tmp_path)
    assert text.startswith("/*! @wppconnect/wa-js 4.6.0\n")
    assert "Apache License" in text[:500]


def test_where_it_is_missing_it_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled) as told:
        wa_js.load(tmp_path)
    assert str(told.value) == (
        "@wppconnect/wa-js 4.6.0 is not here, without which no session runs in a browser: fetch it with `python -m "
        "sessions.worker.browser.wa_js`"
    )
    (tmp_path / "wa-js.js").write_text("/*! @wppconnect/wa-js 4.3.0\n")
    with pytest.raises(NotInstalled):
        wa_js.load(tmp_path)
