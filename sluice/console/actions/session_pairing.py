"""How a session gets its phone: by a code that is scanned, or by one that is typed into the phone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sessions.lifecycle.at_worker import AtWorker, Failed
from sessions.records import SessionRow
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind
from sluice.console.actions.sessions import unknown_session
from sluice.http.decode import Bounds, Form

_PHONE = r"\+?[0-9]{5,20}"


@dataclass(frozen=True, slots=True)
class ShowQr:
    session: str


@dataclass(frozen=True, slots=True)
class QrCode:
    session: str
    worker: str | None
    state: str
    """As its worker says at this moment."""
    code: str | None
    """A picture as a data URL, to be scanned now: another one follows within a minute. null: there is none."""
    why: str | None
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class PairSession:
    session: str
    phone: Annotated[str, Bounds(5, 21), Form(_PHONE, "5 to 20 digits, with the code of the country")]


@dataclass(frozen=True, slots=True)
class PairingCode:
    session: str
    worker: str
    code: str
    """It is typed into the phone: Linked devices, Link with phone number."""


async def show_qr(deployment: Deployment, request: ShowQr) -> QrCode | Problem:
    """The code by which a phone is linked to a session. Whoever sees it can link his own, so it takes console.token."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    if row.worker is None:
        why = f"nobody runs it: create it (sluice sessions create {row.session}), or see why (sluice sessions show)"
        return QrCode(row.session, None, row.state, None, why)
    found = await AtWorker(deployment.registry, deployment.policies.sessions.workers).code(row)
    if isinstance(found, Failed):
        return QrCode(row.session, row.worker, row.state, None, f"{row.worker} does not show it: {found.why}")
    why_not = None if found.picture else _why_none(row, found.state)
    return QrCode(row.session, row.worker, found.state, found.picture, why_not)


def shows_a_code(seen: QrCode) -> bool:
    return seen.code is not None


async def pair(deployment: Deployment, request: PairSession) -> PairingCode | Problem:
    """Have a session's worker ask WhatsApp for a code that is typed into a phone instead of a QR code."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    if row.worker is None:
        return _conflict(f"nobody runs {quoted(row.session)}: create it first (sluice sessions create)")
    found = await AtWorker(deployment.registry, deployment.policies.sessions.workers).pair(row, request.phone)
    if not isinstance(found, Failed):
        return PairingCode(row.session, row.worker, found)
    if found.is_missing:
        return _conflict(
            f"{row.worker} gives no pairing code ({found.why}): scan its QR code (sluice sessions qr {row.session})"
        )
    return _conflict(f"{row.worker} gives no pairing code for {quoted(row.session)}: {found.why}")


def _why_none(row: SessionRow, state: str) -> str:
    if state == "qr_scanning":
        return "it shows no code yet: its page is being opened"
    if state == "connected":
        return "it is connected, and needs none"
    return f"it is {state}, and shows none: sluice sessions restart {row.session} starts it anew"


def _conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)
