"""What stands between workers and a Laravel that know nothing of Sluice, and the harm they would do each other.

Each shield is on unless it is switched off, and does something only for the workers that `sessions.workers` names.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config import parsers
from sluice.config.fields import setting


@dataclass(frozen=True, slots=True)
class Shields:
    """`sessions.shields`: what each of them does is in docs/existing-workers.md."""

    divide: bool = setting(parsers.boolean, True)
    """A worker that asks Laravel what to start is told of the sessions that it has or shall have, and of no others."""
    status: bool = setting(parsers.boolean, True)
    """Status and health are answered from what was last known while a session is handed over or restored."""
    restored: bool = setting(parsers.boolean, True)
    """A request for a session waits while its worker, started again, restores it."""
    creates: bool = setting(parsers.boolean, True)
    """A create of a session that runs is answered from its owner, and starts no second browser."""
    repeats: bool = setting(parsers.boolean, True)
    """A send that is repeated while the first attempt goes on joins it, and gets its outcome."""
    bulk: bool = setting(parsers.boolean, True)
    """A bulk-send is split into pieces that end before the worker would end itself."""
    events: bool = setting(parsers.boolean, True)
    """What `relay.events` says nothing of is relayed as the shipped policies have it: no session_ready after a newer
    one of its phone, nor after the messages of its session, and no QR code that is old."""
