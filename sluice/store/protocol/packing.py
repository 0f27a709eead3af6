"""Commands as the wire has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

Arg = bytes | str | int | float
Command = Sequence[Arg]

_pack = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)


def pack(commands: Sequence[Command]) -> bytes:
    """Raises TypeError for what is no Arg, UnicodeEncodeError for text that is none (half a surrogate pair)."""
    if len(commands) == 1:
        return _pack(tuple(commands[0]))
    return b"".join([_pack(tuple(command)) for command in commands])
