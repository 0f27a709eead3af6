"""What a worker runs for each session, whatever runs it: the demo's has no browser, the others have one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class NotConnected(Exception):
    """The session cannot send now; the message says how it stands."""


class NotYet(NotConnected):
    """It will be able to without anybody's help; nothing was sent."""


class NotOurs(NotConnected):
    """Another worker has the session; nothing was sent."""


class SendRefused(Exception):
    """WhatsApp does not take this message; sending it once more is of no use."""


class SendUnknown(Exception):
    """Nobody knows whether it was sent."""


NEEDS_A_PERSON = frozenset({"qr_scanning", "logged_out", "failed"})


def not_connected(state: str) -> NotConnected:
    """Of a session in this state that is asked to send."""
    kind = NotConnected if state in NEEDS_A_PERSON else NotYet
    return kind(f"the session is {state}, not connected")


@dataclass(frozen=True, slots=True)
class Media:
    content: bytes
    mimetype: str
    filename: str
    caption: str


@dataclass(frozen=True, slots=True)
class Sent:
    message_id: str
    timestamp: int


class Login(Protocol):
    """One session that runs here. Its events go to whom it was made for."""

    session: str
    fence: int
    state: str
    """One of `sessions.states`."""
    phone: str | None
    reason: str | None
    connected_at: float | None
    last_activity: float
    workspace: int | None
    metadata: dict[str, Any]
    code: str | None
    """What its phone scans now, as text; None: it shows none."""

    async def send(self, chat: str, content: str | Media, message_id: str | None = None) -> Sent:
        """`message_id`: made by whoever asks, so that the same is sent once. Raises NotConnected, SendRefused and
        SendUnknown."""
        ...

    async def pairing_code(self, phone: str) -> str:
        """Raises NotConnected when it shows no code now, and SendRefused."""
        ...

    def was_accepted(self) -> None:
        """All of its events were accepted."""
        ...

    def restart(self, *, anew: bool) -> None:
        """Opens it once more; `anew`: without its login, so that it shows a code."""
        ...

    async def end(self, *, log_out: bool = False) -> None:
        """No act and no event after that. `log_out`: its login is given back to WhatsApp, and forgotten."""
        ...
