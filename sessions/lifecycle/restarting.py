"""How a session is restarted where it runs, with its login.

A worker of ours is given it under a new fence: it stops what it runs under the old one, and then starts it. An existing
worker is asked by its own `reconnect`, as Laravel asks it: it closes the browser before it opens another on the same
profile. The store lets one restart of a session go on at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sessions.asking import Asking, NoAnswer
from sessions.policies import ExistingWorker
from sessions.records import SessionRow
from sessions.registry import Registry
from sessions.watched import ASKED_FOR, WhyNot
from sluice.config.model import Rate
from sluice.observe.log import Log

LOG = Log("sessions.lifecycle")
WITHIN = 65.0
"""Seconds for an existing worker: it gives itself 60."""
assert WITHIN < ASKED_FOR
Outcome = WhyNot | Literal["restarted", "failed", "unnamed", "no_workspace"]
"""`failed`: its existing worker answered with an error, or not at all; `unnamed`: that one is not in sessions.workers;
`no_workspace`: nobody has said of which workspace it is, by which an existing worker finds its login."""


@dataclass(frozen=True, slots=True)
class Done:
    outcome: Outcome
    worker: str
    why: str = ""
    """Why it failed."""


class Restarting:
    """`workers`: the existing ones of the policies."""

    def __init__(self, registry: Registry, workers: Sequence[ExistingWorker]) -> None:
        self._registry = registry
        self._workers = {worker.name: worker for worker in workers}

    def why_impossible(self, row: SessionRow) -> Outcome | None:
        """What is known before anybody is asked."""
        if row.worker is None or row.ended or row.missing_since is not None:
            return "unowned"
        if row.existing and row.worker not in self._workers:
            return "unnamed"
        return "no_workspace" if row.existing and row.workspace is None else None

    async def restart(self, row: SessionRow, by: str, limit: Rate | None = None) -> Done:
        """`limit`: not more often, and only while it is as in `row`. Raises StoreAway and StoreRefused."""
        impossible = self.why_impossible(row)
        if impossible is not None or row.worker is None:
            return Done(impossible or "unowned", row.worker or "")
        if limit is None:
            found = await self._registry.restart(row.session, by)
        else:
            found = await self._registry.restart(
                row.session, by, most=limit.amount, within=limit.period, state=row.state, as_of=row.since
            )
        if isinstance(found, str):
            return Done(found, row.worker)
        if not found.ask:
            LOG.info("session.restarted", session=row.session, worker=found.worker, by=by)
            return Done("restarted", found.worker)
        return await self._ask(row, found.worker, by)

    async def _ask(self, row: SessionRow, name: str, by: str) -> Done:
        worker = self._workers.get(name)
        if worker is None:  # it has gone there this moment
            return Done("unnamed", name)
        asking, why = Asking(worker, WITHIN), ""
        try:
            await asking.reconnect(row.session, {"workspace_id": number_of(row.workspace), **_account(row)})
        except NoAnswer as error:
            why = str(error)
        finally:
            await asking.close()
        what = f"{name} did not restart it: {why}" if why else f"{name} has restarted it"
        await self._registry.restarted(row.session, what, by)
        LOG.info("session.restarted" if not why else "session.not_restarted", session=row.session, worker=name, why=why)
        return Done("failed" if why else "restarted", name, why)


def _account(row: SessionRow) -> dict[str, object]:
    """As it was named when the session was created."""
    account = row.about.get("account_id")
    return {} if account is None else {"account_id": account}


def number_of(workspace: str | None) -> int | str | None:
    """Laravel says numbers."""
    short = workspace is not None and workspace.isascii() and workspace.isdigit() and len(workspace) < 16
    return int(workspace) if workspace is not None and short else workspace
