"""What is counted of the sessions."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Gauge

_SESSIONS = Gauge("sluice_sessions", "Sessions by state.", ["state"], multiprocess_mode="mostrecent")


_seen: set[str] = set()


def sessions_are(states: Mapping[str, int]) -> None:
    """A state that no session has any more is set to 0. Few values: see `sessions/lua/prelude.lua`."""
    _seen.update(states)
    for state in _seen:
        _SESSIONS.labels(state).set(states.get(state, 0))
