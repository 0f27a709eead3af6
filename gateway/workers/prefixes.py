"""By which prefix of its path a request tells the worker that sent it. Pure.

An existing worker says nowhere in a request who it is. What it sends begins with its LARAVEL_URL, though, and that may
have a path: the worker's prefix (`sessions.workers`), which is taken off before anything else looks at the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sessions.policies import ExistingWorker

UNKNOWN: Final = "no worker of sessions.workers has this prefix"


class Prefixes:
    """Of the workers that have one; looked up by the first segments of a path, however many workers there are."""

    def __init__(self, workers: Sequence[ExistingWorker]) -> None:
        self._names = {worker.prefix.encode(): worker.name for worker in workers if worker.prefix}
        self._depths = sorted({prefix.count(b"/") for prefix in self._names})
        folders = {prefix.rpartition(b"/")[0] for prefix in self._names}
        self._folders = tuple(folder + b"/" for folder in folders if folder)

    def of(self, path: bytes) -> tuple[str, int] | None:
        """Whose prefix this path, as it was received, begins with, and how many bytes it has. None: nobody's."""
        for depth in self._depths:
            prefix = b"/".join(path.split(b"/", depth + 1)[: depth + 1])
            name = self._names.get(prefix)
            if name is not None:
                return name, len(prefix)
        return None

    def is_unknown(self, path: bytes) -> bool:
        """Whether a path that nobody's prefix begins has one like theirs: a folder in which prefixes lie holds nothing
        else, so this is a worker that the policies do not name, or name otherwise."""
        return path.startswith(self._folders)


def prefixes_of(workers: Sequence[ExistingWorker]) -> Prefixes | None:
    """None: no worker has one."""
    return Prefixes(workers) if any(worker.prefix for worker in workers) else None
