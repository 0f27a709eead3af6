"""What is counted of the sessions."""

from __future__ import annotations

from prometheus_client import Gauge

_SESSIONS = Gauge("sluice_sessions", "Sessions by state.", ["state"], multiprocess_mode="mostrecent")


def sessions_are(state: str, sessions: int) -> None:
    _SESSIONS.labels(state).set(sessions)
