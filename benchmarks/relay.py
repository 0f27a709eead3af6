"""The relay: how fast events go in and out, what they cost, and what one that is stuck does to the others.

    .venv/bin/python benchmarks/relay.py --install     first: the peer from npm, BullMQ with undici
    .venv/bin/python benchmarks/relay.py --quick       in a minute: does all of it work
    .venv/bin/python benchmarks/relay.py --json raw.json > table.md
    .venv/bin/python benchmarks/relay.py --part idle   or another one

delivered  events delivered per second by one `sluice relay`, and by one BullMQ worker, in turn, five times; 500 bytes,
           signed, concurrency 50, the same store with its append-only file on
accepted   events accepted per second over HTTP by one `sluice gateway`, and their latency at 4,000 a second
idle       from the moment a worker sends an event to its arrival, one at a time
cost       store round trips and store memory for an event
parked     claims while 1,000, and while 1,000,000 events wait
stuck      the p99 of 200 sessions at 500 events/s, beside an endpoint that hangs and 1,000 sessions that are stuck

The process that is measured has one core; store, receiver and load share the other one. A bar that is missed makes the
exit code 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)

# This file hides the package of the same name from whoever runs a program in this folder.
sys.path[:] = [str(Path(_HERE).parent), *(entry for entry in sys.path if entry != _HERE), _HERE]

if __name__ == "__main__":
    from relaying.main import main

    sys.exit(main())
