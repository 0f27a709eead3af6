"""What is counted of the calls of the vault's API."""

from __future__ import annotations

from sluice.observe.metrics import counts, recent

_CALLS = counts("sluice_vault_calls_total", "Calls of /_sluice/vault, by method and status.", ["method", "status"])
recent(_CALLS, "sluice_vault_calls_total", ["method", "status"])


def call_answered(method: str, status: int) -> None:
    _CALLS.add(method, str(status))
