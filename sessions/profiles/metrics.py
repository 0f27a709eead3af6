"""What is counted of saves and restores, in the process that makes them."""

from __future__ import annotations

from prometheus_client import Counter

from sluice.observe.metrics import counts, histograms

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_SAVES = counts("sluice_vault_saves_total", "Saves of profiles, by what came of them.", ["result"])
_RESTORES = counts("sluice_vault_restores_total", "Restores of profiles, by what came of them.", ["result"])
_WRITTEN = Counter("sluice_vault_written_bytes_total", "Bytes that saves have written: sealed, and new.")
_TOOK = histograms("sluice_vault_seconds", "How long saves and restores that went well took.", ["what"], _SECONDS)


def save(result: str, seconds: float = 0.0, written: int = 0) -> None:
    """`saved`, `stale`, `deleted`, `failed` (the profile, its place or the store), `away` (the store)."""
    _SAVES.add(result)
    if result == "saved":
        _WRITTEN.inc(written)
        _TOOK.observe(seconds, "save")


def restore(result: str, seconds: float = 0.0) -> None:
    """`restored`, `fell_back`, `nothing`, `unreadable`, `failed` or `away`, as those of saves."""
    _RESTORES.add(result)
    if result in ("restored", "fell_back"):
        _TOOK.observe(seconds, "restore")
