"""How sessions and workers stand, for people: page by page, one by one, and in numbers. Reads only."""

from __future__ import annotations

from collections.abc import Sequence

from sessions import records
from sessions.records import Owner, SessionPage, SessionRow, Summary, Unknown, Unowned, WorkerRow
from sessions.scripts import KEYS, Scripted, load
from sluice.store.client import Call

_LIST, _SUMMARY, _OWNER = load("list"), load("summary"), load("owner")
_PAGE = 1000
_AT_ONCE = 100
_WORKERS_AT_ONCE = 150


class Overview(Scripted):
    """Methods raise StoreAway or StoreRefused."""

    async def summary(self) -> Summary:
        """Costs as much as there are workers: a round trip for each few hundred."""
        rows, go_on, counts = dict[str, WorkerRow](), b"0", list[bytes]()
        while True:
            now, go_on, counts, workers = await self._run(_SUMMARY, go_on, _WORKERS_AT_ONCE)
            rows.update((row.worker, row) for row in records.worker_rows(workers, now))
            if go_on == b"0":
                return records.summary(counts, [rows[name] for name in sorted(rows)])

    async def owners_of(self, sessions: Sequence[str]) -> list[Owner | Unowned | Unknown]:
        """Who has each of these, in their order; a round trip for each 100."""
        found: list[Owner | Unowned | Unknown] = []
        for at in range(0, len(sessions), _AT_ONCE):
            calls = [Call(_OWNER, KEYS, (session,)) for session in sessions[at : at + _AT_ONCE]]
            found += map(records.found, await self._store.run_all(calls))
        return found

    async def sessions(self) -> list[SessionRow]:
        """Every session, by name, each as of one moment; page after page, so that nobody else waits long."""
        found, go_on = dict[str, SessionRow](), ""
        while True:
            page = await self.page(go_on, _PAGE)
            found.update((row.session, row) for row in page.rows)
            go_on = page.go_on
            if not go_on:
                return [found[session] for session in sorted(found)]

    async def page(self, go_on: str, count: int, workspace: str | None = None) -> SessionPage:
        """Looks at about `count` sessions, and answers those of the workspace; `go_on` empty: the first ones.

        A round trip for each hundred, so that nobody else waits long.
        """
        only, rows = ((0, "") if workspace is None else (1, workspace)), list[SessionRow]()
        for _ in range(0, count, _AT_ONCE):
            _, after, found, _ = await self._run(_LIST, go_on or "0", min(count, _AT_ONCE), *only, "")
            rows += records.session_rows(found, b"")
            go_on = "" if after == b"0" else after.decode()
            if not go_on:
                break
        return SessionPage(tuple(rows), go_on)

    async def session(self, session: str) -> SessionRow | None:
        """One session with its history; None where it is not known."""
        _, _, rows, history = await self._run(_LIST, "", 1, 0, "", session)
        return next(iter(records.session_rows(rows, history)), None)

    async def wanted(self, session: str) -> SessionRow | None:
        """One session with its history; None also where it was ended."""
        row = await self.session(session)
        return None if row is None or row.ended else row

    async def workers(self) -> list[WorkerRow]:
        """Every worker, by name; a lost one for an hour."""
        return list((await self.summary()).workers)
