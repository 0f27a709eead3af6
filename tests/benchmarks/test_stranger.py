"""The way that the stranger goes is that of the page; going it takes minutes, and the index of packages."""

from __future__ import annotations

import pytest
import stranger

STEPS = {stranger.BEGUN: 100.0, "between": 200.0, stranger.ENDED: 400.0}


def test_it_runs_what_the_page_says() -> None:
    page = (stranger.ROOT / "docs" / "getting-started.md").read_text()
    for command in (
        "scripts/run\n",
        f".venv/bin/sluice init {stranger.POLICIES} --yes --laravel ",
        f".venv/bin/sluice check {stranger.POLICIES}\n",
        f"scripts/run --policies {stranger.POLICIES}\n",
    ):
        assert command in page
    assert "/api/whatsapp/webhooks/webjs" in stranger._by_hand(stranger.ROOT)


def test_what_comes_after_the_packages_may_take_five_minutes() -> None:
    last = stranger.figures(STEPS)[-1]
    assert (last.value, last.met) == (300.0, True)
    assert stranger.figures({**STEPS, stranger.ENDED: 400.1})[-1].met is False


def test_a_stranger_finds_nothing_of_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert "PYTHONPATH" not in stranger._environment({})
    assert stranger._environment({"A": "1"})["A"] == "1"
