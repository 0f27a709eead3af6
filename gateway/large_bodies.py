"""Large bodies are looked into beside the loop, in one thread, which goes last.

Many threads would share the loop's core with it: each large body that a stranger sends, whatever its signature, would
take a turn before the requests of everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
_NICE = 10


def _go_last() -> None:
    """On Linux a priority is that of a thread."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


_THREAD = ThreadPoolExecutor(1, "large-bodies", _go_last)


async def beside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: work(*args, **kwargs))
