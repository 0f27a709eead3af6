"""How long each thing may take, in seconds.

A dead upstream is found out after `PING_EVERY` and `PING_WITHIN` together, and `CLOSED_WITHIN`: 40. The server, which
pings the client, takes as long for a dead one.
"""

from __future__ import annotations

PING_EVERY = 20.0
PING_WITHIN = 15.0
IDLE_AT_LEAST = 60.0
CLOSED_WITHIN = 5.0
