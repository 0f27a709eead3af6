"""The section `clients`: how long, and how much, one client may take of a gateway. Durations are seconds, sizes bytes.

What is of a connection counts for those that are made from then on; `share` and `exempt` count at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.policies.lists import AddressList
from gateway.policies.trust import Trust, list_name
from sluice.config import parsers, units
from sluice.config.fields import Value, section, setting
from sluice.config.parsers import each, of
from sluice.config.problems import Malformed, quoted
from sluice.http.server.bounds import ClientBounds
from sluice.http.websocket import WebSocketLimits

_DEFAULTS = ClientBounds()
_MIN_HEAD, _MAX_HEAD = 2**10, 2**20


def _head_size(value: Value) -> int:
    size = parsers.size(value)
    if size < _MIN_HEAD:
        raise Malformed(f"{quoted(value.text())} holds no usual head", "write 1KiB or more")
    if size > _MAX_HEAD:
        raise Malformed(f"{quoted(value.text())} is too much for one head", "write 1MiB or less")
    return size


@dataclass(frozen=True, slots=True)
class Clients:
    first_byte: float = setting(parsers.duration, _DEFAULTS.first_byte)
    """From the connection to the first byte of its first request; then it is closed."""
    head: float = setting(parsers.duration, _DEFAULTS.head)
    """From the first byte of a head to its last; then 408."""
    body: float = setting(parsers.duration, _DEFAULTS.body)
    """The longest pause within a body; then 408."""
    send: float = setting(parsers.duration, _DEFAULTS.send)
    """The longest time in which a client takes nothing of its answer; then it is cut."""
    keep_alive: float = setting(parsers.duration, _DEFAULTS.keep_alive)
    """From an answer to the first byte of the next request; then the connection is closed."""
    head_size: int = setting(_head_size, _DEFAULTS.head_size)
    """Of one head, 1KiB to 1MiB; then 431."""
    websocket: WebSocketLimits = setting(section(WebSocketLimits), _DEFAULTS.websocket)
    """How much either side of a WebSocket may send."""
    share: float = setting(of(units.percentage), 0.25)
    """Of one upstream's connections, for one client address: more than 0, at most 1."""
    exempt: tuple[str, ...] = setting(each(list_name), ("laravel", "workers"))
    """Names of trusted lists whose addresses may have more; of the default those that there are."""

    def bounds(self) -> ClientBounds:
        """What our server goes by."""
        return ClientBounds(
            self.first_byte, self.head, self.body, self.send, self.keep_alive, self.head_size, self.websocket
        )

    def exempted(self, trust: Trust) -> AddressList:
        """Whose share is not bounded: the lists in `exempt`, and the proxies, behind which there are many clients."""
        lists = [trust.lists[name] for name in self.exempt if name in trust.lists]
        return AddressList.joined([trust.proxies, *lists])
