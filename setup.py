"""Compiles the hot path with mypyc (docs/decisions/0006). Without it, or with SLUICE_PURE set, all is plain Python.

`python setup.py --compiled` lists the files. Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from setuptools import setup

if TYPE_CHECKING:
    from setuptools import Extension

COMPILED = (
    *("runtime/lines.py", "runtime/metrics.py", "runtime/shared_calls.py", "runtime/signatures.py"),
    *("runtime/store.py", "runtime/tallies.py"),
    *("runtime/http1/connection.py", "runtime/http1/exchange.py", "runtime/http1/fields.py"),
    *("runtime/http1/framing.py", "runtime/http1/pool.py", "runtime/http1/response.py", "runtime/http1/waits.py"),
    *("runtime/resp/link.py", "runtime/resp/packing.py", "runtime/resp/routes.py", "runtime/resp/wire.py"),
    *("runtime/server/cycle.py", "runtime/server/head.py", "runtime/server/protocol.py"),
    *("relay/ahead.py", "relay/circuit.py", "relay/dispatcher.py", "relay/event.py", "relay/inbox.py"),
    *("relay/lanes.py", "relay/layout.py", "relay/leases.py", "relay/outcome.py", "relay/queue.py"),
    *("relay/sender.py", "relay/settling.py"),
    *("gateway/address.py", "gateway/buckets.py", "gateway/edge.py", "gateway/generations.py", "gateway/intake.py"),
    *("gateway/limiter.py", "gateway/proxy.py", "gateway/remembered.py", "gateway/request.py", "gateway/routes.py"),
    "gateway/standing.py",
)
"""What every request or delivery passes through. One library for all of it: a call within it is a C call."""


def extensions() -> list[Extension]:
    if os.environ.get("SLUICE_PURE"):
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []  # so it is in an isolated build; scripts/install has the pinned one
    # At -O1 it is as fast as at -O3, and compiles in a third of the time.
    return mypycify([*COMPILED], opt_level="1", debug_level="0", group_name="sluice")


if __name__ == "__main__":
    if sys.argv[1:] == ["--compiled"]:
        sys.stdout.writelines(f"{file}\n" for file in COMPILED)
    else:
        setup(ext_modules=extensions())
