from __future__ import annotations

from sessions.worker.browser.newer_page import NewerPage


def test_an_outdated_page_is_opened_once_more_and_then_each_hour() -> None:
    now, opened = 1000.0, list[float]()
    page = NewerPage(lambda: opened.append(now), lambda: now)
    for _ in range(3):  # it says so several times before it is closed
        assert page.comes()
    page.loaded()
    now = 4599.0
    assert not page.comes()
    now = 4600.0
    assert page.comes()
    assert opened == [1000.0, 4600.0]
