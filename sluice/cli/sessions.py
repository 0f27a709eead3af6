"""`sluice sessions`: who runs which login."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from gateway.policies import Policies
from sessions.registry import Registry, SessionRow
from sluice.cli.errors import CommandError
from sluice.cli.opening import with_store
from sluice.cli.screen import screen
from sluice.store.client import Store


async def _rows(policies: Policies, store: Store) -> list[SessionRow]:
    return await Registry(store, policies.sessions.lease).sessions()


def list_sessions(path: Path, *, as_json: bool) -> int:
    """Prints all of them, by name."""
    rows = with_store(path, _rows)
    if as_json:
        for row in rows:
            sys.stdout.write(orjson.dumps(_plain(row)).decode() + "\n")
        return 0
    if not rows:
        sys.stdout.write("no sessions\n")
        return 0
    table = Table(box=None, header_style="bold")
    table.add_column("session", no_wrap=True)  # it is there to be copied
    for title in ("state", "phone", "worker", "lease"):
        table.add_column(title)
    for row in rows:
        lease = f"{row.lease_left:.0f}s" if row.lease_left is not None else "-"
        table.add_row(row.session, row.state, row.phone or "-", row.worker or "nobody", lease)
    console = screen()
    console.print(table)
    unowned = sum(row.worker is None for row in rows)
    console.print(f"{len(rows)} sessions" + (f", {unowned} without a worker" if unowned else ""))
    return 0


def show(path: Path, session: str) -> int:
    """Prints everything about one."""
    for row in with_store(path, _rows):
        if row.session == session:
            sys.stdout.write(orjson.dumps(_plain(row), option=orjson.OPT_INDENT_2).decode() + "\n")
            return 0
    raise CommandError(f"there is no session {session}; `sluice sessions list` shows them")


def _plain(row: SessionRow) -> dict[str, Any]:
    return {**asdict(row), "about": dict(row.about)}
