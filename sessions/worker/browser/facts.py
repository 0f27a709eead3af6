"""What the page says of itself, and what that means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UPDATE = "WhatsApp takes no client of this version any more: update the browser, and wa-js with a newer Sluice"
_BLOCKED = {
    "CONFLICT": "WhatsApp Web is open elsewhere with this login, and was given the connection there",
    "PROXYBLOCK": "WhatsApp refuses the address that this machine uses: it blocks proxies",
    "TOS_BLOCK": "WhatsApp has banned this number for a breach of its terms",
    "SMB_TOS_BLOCK": "WhatsApp has banned this business number for a breach of its terms",
}
PASSKEY = (
    "its phone asks for a passkey, which a browser without a person cannot give: turn passkeys off on the phone "
    "(Settings, Account, Passkeys), then scan the code again or pair it by a typed code"
)
DOUBTED = "its page shows a code, and nobody has ended its login: it is restored from the vault once more"
NO_LOGIN_LEFT = (
    "its page shows a code, and no copy of its login opens: its phone has ended it, or its profile was damaged"
)
_FULL = "the browser could not write its profile: free some space on the disk of this machine, then scan its code again"
_ENDED = {
    "user_initiated": "its phone has ended it",
    "unknown_companion": "its phone has ended it",
    "account_locked": "WhatsApp has locked or banned this number: its phone says which, and what to do",
    "client_version_outdated": UPDATE,
    "storage_quota_exceeded": _FULL,
    "web_fail_storage_initialization": _FULL,
    "cache_storage_open_failed": _FULL,
}
_MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Facts:
    """As `bridge.js` tells them."""

    mode: str = ""
    info: str = ""
    authenticated: bool = False
    registered: bool = False
    phone: str | None = None
    platform: str = ""
    outdated: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A state of `sessions.states`, and why."""

    state: str
    reason: str | None = None


def facts_of(value: Mapping[str, Any]) -> Facts:
    """Of what a page says, which may be anything."""

    def text(name: str) -> str:
        found = value.get(name)
        return found[:_MAX_TEXT] if isinstance(found, str) else ""

    phone = text("phone")
    return Facts(
        mode=text("mode"),
        info=text("info"),
        authenticated=value.get("authenticated") is True,
        registered=value.get("registered") is True,
        phone=phone if phone.isascii() and phone.isdigit() else None,
        platform=text("platform"),
        outdated=value.get("outdated") is True,
        version=text("version"),
    )


def is_outdated(facts: Facts) -> bool:
    """WhatsApp wants a newer page: which one that is opened anew may be."""
    return facts.outdated or facts.mode == "DEPRECATED_VERSION"


def status_of(facts: Facts) -> Status | None:
    """None: it says nothing yet. Connected is a stream that is MAIN, registered, and has a phone; the library's own
    `main_ready` also comes at the QR code. A login is kept through all that blocks it."""
    if facts.mode in _BLOCKED:
        return Status("failed", _BLOCKED[facts.mode])
    if is_outdated(facts):
        return Status("failed", UPDATE)
    if facts.mode == "MAIN" and facts.registered and facts.phone:
        lost = facts.info in ("OFFLINE", "OPENING", "CONNECTING")
        return Status("disconnected", f"the page is {facts.info.lower()}") if lost else Status("connected")
    if facts.mode == "OFFLINE":
        return Status("disconnected", "the page has no connection to WhatsApp")
    if facts.authenticated or facts.mode == "SYNCING":
        return Status("authenticated")
    if facts.mode == "QR":
        return Status("qr_scanning")
    return None


def ended_by(reason: str) -> str:
    """What a reason of wa-js's LogoutReason means, for a person."""
    return _ENDED.get(reason, f"WhatsApp has ended it ({reason[:_MAX_TEXT] or 'no reason given'})")
