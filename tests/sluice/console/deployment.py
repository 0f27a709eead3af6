"""A deployment to look at: policies as from a file, a store, a registry and the queues, all real."""

from __future__ import annotations

from pathlib import Path

from gateway.policies import Policies, edits, load
from gateway.resources import Resources
from relay.process import open_queue
from sessions.registry import Registry
from sluice.store.client import Store

TOKEN = "s3cret-tökén"
VAULT_KEY = "0123456789abcdef0123456789abcdef"
_POLICIES = """
version: 1
limits:
  - {id: typing, event: typing_indicator, per: [session], rate: 30/minute, burst: 5, over: drop}
  - {id: trial, per: [ip], rate: 10/second, burst: 20, mode: observe}
relay:
  endpoints:
    laravel: {url: "http://127.0.0.1:8000", rate: 120/minute, circuit: {minimum: 2, open: 10s}}
  backlog: {events: 1000, bytes: 1MiB}
"""
CONSOLE = "console: {token: env:TOKEN}\n"
VAULT = "sessions: {vault: {key: env:VAULT_KEY}}\n"


def policies_in(folder: Path, more: str = CONSOLE) -> Policies:
    file = folder / "policies.yaml"
    file.write_text(_POLICIES + more)
    return load(file, environment={"TOKEN": TOKEN, "VAULT_KEY": VAULT_KEY})


def parts_on(store: Store, policies: Policies) -> Resources:
    """A worker that is registered once stays for as long as a test may take."""
    queues = {name: open_queue(store, endpoint, policies) for name, endpoint in policies.relay.endpoints.items()}
    return Resources(policies, store, Registry(store, 600.0), queues, edits.live(policies))
