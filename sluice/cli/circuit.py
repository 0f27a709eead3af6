"""`sluice circuit`: the circuits of the endpoints, looked at, held open or closed by a person, and let go."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import orjson
from rich.table import Table

from gateway.policies import Policies
from relay.circuit import CircuitStatus
from relay.policies import Endpoint
from relay.process import open_circuit
from sluice.cli.errors import CommandError
from sluice.cli.opening import with_store
from sluice.cli.screen import screen
from sluice.console.messages import age
from sluice.store.client import Store


def list_circuits(path: Path, *, as_json: bool) -> int:
    """Prints them, in the order of the policies."""

    async def work(policies: Policies, store: Store) -> list[tuple[str, CircuitStatus]]:
        endpoints = policies.relay.endpoints.values()
        return [(endpoint.name, await open_circuit(store, endpoint).view()) for endpoint in endpoints]

    views = with_store(path, work)
    if as_json:
        for name, view in views:
            sys.stdout.write(orjson.dumps({"endpoint": name, **asdict(view)}).decode() + "\n")
        return 0
    table = Table(box=None, header_style="bold")
    for title in ("endpoint", "circuit", "until", "why"):
        table.add_column(title)
    for name, view in views:
        until = "a person lets go" if view.held else f"in {age(view.retry_after)}" if view.retry_after else "-"
        state = f"held {view.state}" if view.held else view.state
        table.add_row(name, state, until, view.why if view.held or view.state != "closed" else "-")
    screen().print(table)
    return 0


def hold(path: Path, name: str, state: Literal["open", "closed"], why: str) -> int:
    """Until `release`, whatever comes of what is sent."""

    async def work(policies: Policies, store: Store) -> bool:
        return await open_circuit(store, _endpoint(policies, name)).hold(state, why)

    changed = with_store(path, work)
    means = "nothing is sent, nothing is lost" if state == "open" else "all is sent, whatever comes of it"
    if changed:
        sys.stdout.write(f"{name}: held {state}; {means}, until: sluice circuit release {name}\n")
    else:
        sys.stdout.write(f"{name}: was held {state} already\n")
    return 0


def release(path: Path, name: str) -> int:
    """Leaves it to the results again."""

    async def work(policies: Policies, store: Store) -> CircuitStatus | None:
        circuit = open_circuit(store, _endpoint(policies, name))
        before = await circuit.view()
        return before if await circuit.release() else None

    before = with_store(path, work)
    if before is None:
        sys.stdout.write(f"{name}: was not held\n")
    elif before.state == "open":
        sys.stdout.write(f"{name}: let go; probes go first, and all that waits follows when they are taken\n")
    else:
        sys.stdout.write(f"{name}: let go; what comes of deliveries decides again\n")
    return 0


def _endpoint(policies: Policies, name: str) -> Endpoint:
    endpoints = policies.relay.endpoints
    if name not in endpoints:
        raise CommandError(f"there is no endpoint {name}; {policies.source} has {', '.join(endpoints) or 'none'}")
    return endpoints[name]
