"""The keys of the workers that the policies name, asked for where the gateway answers in their place."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qsl

from gateway.problems import Send, answer
from gateway.request import Head
from sessions.policies import ExistingWorker

_INVALID = b'{"error":"Invalid API key"}'
"""What an existing worker answers, byte for byte."""
_MAX_FIELDS = 100


def given_in(head: Head) -> bytes | None:
    """The `api_key` in the query, else X-API-Key; None: it is not there, or more than once, which no worker accepts."""
    try:
        query = head.target.partition(b"?")[2].decode()
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return None
    found = [value.encode() for name, value in pairs if name == "api_key"]
    return found[0] if len(found) == 1 else None if found else head.value(b"x-api-key")


class Keys:
    """`workers`: those that the policies name."""

    def __init__(self, workers: Sequence[ExistingWorker]) -> None:
        self._keys = {worker.name: worker.key.reveal() for worker in workers if worker.key is not None}

    def opened_by(self, given: bytes | None) -> frozenset[str]:
        """The named workers whose key it is."""
        mine = given or b""
        return frozenset([name for name, key in self._keys.items() if hmac.compare_digest(key, mine)])

    def closed_to(self, given: bytes | None) -> frozenset[str]:
        """Those that have another."""
        return frozenset(self._keys) - self.opened_by(given)

    def accept(self, given: bytes | None, worker: str | None = None) -> bool:
        """Whether it is that worker's key; `worker` None: that of any. What has none in the policies asks for none."""
        if worker is not None:
            return worker not in self.closed_to(given)
        return not self._keys or bool(self.opened_by(given))


async def answer_invalid(send: Send) -> int:
    """As an existing worker refuses a wrong key."""
    await answer(send, 401, _INVALID, b"application/json; charset=utf-8", [])
    return 401
