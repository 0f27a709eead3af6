"""Which slot of a cluster a command belongs to, and what the cluster says of its slots. Pure."""

from __future__ import annotations

from typing import Any

from redis.crc import key_slot

from sluice.store.protocol.errors import ErrorReply
from sluice.store.protocol.packing import Arg, Command

SLOTS = 16384
_KEYLESS = {"ACL", "CLIENT", "CLUSTER", "CONFIG", "DBSIZE", "ECHO", "INFO", "PING", "PUBLISH", "SCRIPT", "TIME"}

Place = tuple[str, int]
"""Host and port."""


def slot_of(command: Command) -> int | None:
    """None for a command that has no key: any server will do. Raises ValueError where no single one would."""
    if command[0] == "WAIT":
        raise ValueError("WAIT speaks of the commands before it: it is the last one, or nothing")
    if command[0] in ("EVALSHA", "EVAL"):
        return key_slot(_bytes(command[3])) if int(command[2]) else None
    if command[0] == "XREAD":
        return key_slot(_bytes(command[list(command).index("STREAMS") + 1]))
    return None if command[0] in _KEYLESS else key_slot(_bytes(command[1]))


def owners(reply: list[Any], queried: str) -> list[Place | None]:
    """The owner of each slot, from the reply of `queried` (its host) to CLUSTER SLOTS."""
    found: list[Place | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in reply:
        place = (host.decode() if host else queried, port)
        found[first : last + 1] = [place] * (last - first + 1)
    return found


def redirection(reply: object) -> tuple[str, int, Place] | None:
    """`MOVED` or `ASK`, the slot, and where to go; an empty host is the one that was asked."""
    if type(reply) is not ErrorReply or reply.code not in ("MOVED", "ASK"):
        return None
    code, slot, place = str(reply).split(" ")[:3]
    host, _, port = place.rpartition(":")
    return code, int(slot), (host, int(port))


def _bytes(key: Arg) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()
