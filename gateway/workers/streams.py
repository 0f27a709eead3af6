"""Open streams of sessions: event streams and WebSockets. They end when another worker gets the session, so that the
client connects again and reaches that one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Streams:
    """Of one process."""

    def __init__(self) -> None:
        self._open: dict[str, list[tuple[str, Callable[[], object]]]] = {}

    @contextmanager
    def open(self, session: str, worker: str, end: Callable[[], object]) -> Iterator[None]:
        """`end`: cuts it."""
        stream = (worker, end)
        self._open.setdefault(session, []).append(stream)
        try:
            yield
        finally:
            streams = self._open[session]
            streams.remove(stream)
            if not streams:
                del self._open[session]

    @property
    def sessions(self) -> list[str]:
        return [*self._open]

    def changed(self, session: str, worker: str) -> None:
        """`worker` has it now; empty: nobody has."""
        for its, end in tuple(self._open.get(session, ())):
            if its != worker:
                end()
