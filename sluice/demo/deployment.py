"""What `sluice up --demo` adds: policies of its own with fresh secrets, a Laravel, and sessions to talk about."""

from __future__ import annotations

import asyncio
import secrets
from importlib.resources import files
from pathlib import Path

from sessions.registry import Registry
from sluice.demo import traffic
from sluice.store.client import Store

FOLDER = Path(".sluice") / "demo"
_WORKERS_LOOKED_FOR = 100


def make_policies(folder: Path = FOLDER) -> Path:
    """The demo's policies file, made once with secrets of its own; an edited one is left as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("hmac.secret", "console.token"):
        file = folder / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(24) + "\n")
    policies = folder / "policies.yaml"
    if not policies.exists():
        policies.write_text((files("sluice.demo") / "policies.yaml").read_text())
    return policies


async def want_sessions(store_url: str, lease: float, count: int, workers: int) -> None:
    """Creates the demo's sessions for the workers to adopt, once these are there to share them evenly."""
    store = Store(store_url, timeout=5.0)
    registry = Registry(store, lease)
    try:
        for _ in range(_WORKERS_LOOKED_FOR):
            if sum(row.beat_left > 0 for row in await registry.workers()) >= workers:
                break
            await asyncio.sleep(0.1)
        await registry.want({name: {"workspace_id": traffic.workspace(name)} for name in traffic.names(count)})
    finally:
        await store.close()
