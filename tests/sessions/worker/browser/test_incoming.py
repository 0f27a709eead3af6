"""What a page tells is passed on in its order, and only then nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from sessions.worker.browser import incoming
from sessions.worker.browser.incoming import Incoming
from sessions.worker.browser.page import WebPage
from sessions.worker.dropped import Dropped
from sessions.worker.ids import SentIds
from sluice.store.client import Store
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Page:
    def __init__(self, *known: str) -> None:
        self.known = list(known)

    async def ask(self, name: str, since: float, limit: int) -> list[dict[str, Any]]:
        assert name == "since"
        return [message(one) for one in self.known]


class Passed:
    def __init__(self, page: Page, store: Store) -> None:
        self.ids: list[str] = []
        self.fails = ""
        """The message that is not passed on."""
        self.page = cast(WebPage, page)
        self.dropped = Dropped()
        self.incoming = Incoming("s1", SentIds(store), lambda: self.page, self._say, self.dropped)

    def _say(self, event: str, data: Any) -> None:
        assert event == "message_received"
        if data["message"]["id"] == self.fails:
            raise ValueError("nobody has thought of this")
        self.ids.append(data["message"]["id"])

    async def are(self, *ids: str) -> None:
        await until(lambda: self.ids == list(ids), timeout=20, what=lambda: f"{ids}, not {self.ids}")


def message(name: str) -> dict[str, Any]:
    return {"id": name, "chat": "49@c.us", "body": name, "timestamp": 1700000000, "type": "chat", "from_me": False}


@asynccontextmanager
async def passing(page: Page, store: Store) -> AsyncIterator[Passed]:
    passed = Passed(page, store)
    try:
        yield passed
    finally:
        passed.incoming.end()


async def test_what_comes_after_a_start_waits_for_what_came_before_it_and_comes_once(store: Store) -> None:
    async with passing(Page("a", "b"), store) as passed:
        for one in ("b", "c"):
            passed.incoming.take("message", message(one))
        await asyncio.sleep(0.1)
        assert passed.ids == []
        await passed.incoming.catch_up(passed.page, 1000.0)
        await passed.are("a", "b", "c")


async def test_a_page_that_has_loaded_anew_is_looked_into_once_more(store: Store) -> None:
    """While it loads nobody listens."""
    page = Page("a")
    async with passing(page, store) as passed:
        await passed.incoming.catch_up(passed.page, 1000.0)
        await passed.are("a")
        passed.incoming.hold()
        page.known = ["a", "b"]
        passed.incoming.take("message", message("c"))
        await passed.incoming.catch_up(passed.page, 2000.0)
        await passed.are("a", "b", "c")


async def test_it_is_idle_when_all_that_was_told_is_passed_on_and_what_was_missed_too(store: Store) -> None:
    """Only then may it be noted that nothing before this moment has to be looked for."""
    async with passing(Page("a"), store) as passed:
        assert not passed.incoming.idle
        passed.incoming.take("message", message("b"))
        await passed.incoming.catch_up(passed.page, 1000.0)
        assert not passed.incoming.idle
        await passed.are("a", "b")
        await until(lambda: passed.incoming.idle)
        passed.incoming.hold()
        assert not passed.incoming.idle


async def test_a_message_that_cannot_be_passed_on_is_told_and_looked_for_at_the_next_start(
    store: Store, heard: Heard
) -> None:
    """Whatever it was that failed, all others go on; and nothing says that all was passed on until somebody looked."""
    page = Page()
    async with passing(page, store) as passed:
        await passed.incoming.catch_up(passed.page, 1000.0)
        passed.fails = "b"
        for one in ("a", "b", "c"):
            passed.incoming.take("message", message(one))
        await passed.are("a", "c")
        assert passed.dropped.lately() == 1
        assert [fields["event"] for line, fields in heard.lines if line == "session.not_passed_on"] == ["message"]
        assert not passed.incoming.idle

        passed.fails, page.known = "", ["a", "b", "c"]
        passed.incoming.hold()
        await passed.incoming.catch_up(passed.page, 1000.0)
        await passed.are("a", "c", "a", "b", "c")  # the relay knows those that it was told before
        await until(lambda: passed.incoming.idle)


async def test_more_than_can_wait_is_told_as_well(store: Store, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "_WAITING", 2)
    async with passing(Page(), store) as passed:
        await passed.incoming.catch_up(passed.page, 1000.0)
        for one in ("a", "b", "c"):
            passed.incoming.take("message", message(one))
        await passed.are("a", "b")
        assert passed.dropped.lately() == 1
        assert [fields["event"] for line, fields in heard.lines if line == "session.overflow"] == ["message"]
