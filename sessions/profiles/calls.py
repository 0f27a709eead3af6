"""What workers say at `/_sluice/vault/{session}`, what they are answered, and how the head alone proves a call.

    v1 LF unix time LF METHOD LF path LF fence LF hex SHA-256 of the body

is what is signed (`sluice.http.call_signatures`); the fence is empty where the head has none. So a body of a stranger
is refused unread, and no fence, path or body is put in another's place.

Nothing here needs the libraries by which a vault works: every gateway reads it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from starlette.requests import Request

from sessions.profiles.portable import MAX_PROFILE
from sluice.config import Signature
from sluice.http import call_signatures, signed_json
from sluice.http.decode import Bounds
from sluice.http.problem import Refusal
from sluice.http.signatures import only

PREFIX = "/_sluice/vault"
PATH = PREFIX + "/{session}"
DESCRIPTION = "openapi.json"
"""No session has this name: its place is that of the description."""
MAX_ZIP = MAX_PROFILE
METHODS = ("POST", "HEAD", "GET", "PUT", "DELETE")
FENCE, DIGEST, REASON = "X-Sluice-Fence", "X-Sluice-Content-SHA256", "X-Sluice-Reason"
MADE, BROWSER, BACKEND = "X-Sluice-Made", "X-Sluice-Browser", "X-Sluice-Backend"
CLIENT, HOST = "X-Sluice-Client", "X-Sluice-Host"
MAX_TEXT = 200
"""Characters of the last four."""
NO_VAULT = Refusal(404, "there is no vault here: add sessions.vault to policies.yaml (docs/vault.md)")
SessionName = Annotated[str, Bounds(1, 200)]

_EMPTY = hashlib.sha256(b"").hexdigest()
_FENCE = re.compile(r"[1-9][0-9]{0,15}")
_HEX = re.compile(r"[0-9a-f]{64}")
_TAG = re.compile(r'"(0|[1-9][0-9]{0,14})"')
_HOW_TO_SIGN = (
    "send X-Sluice-Timestamp with the unix time in seconds and X-Sluice-Signature with v1= and the hex HMAC-SHA256 of "
    f"v1, that time, {{method}}, {{path}}, {FENCE} and the hex SHA-256 of the body, with a line feed between them "
    "(docs/vault.md)"
)


@dataclass(frozen=True, slots=True)
class Started:
    """Answers POST."""

    fence: str
    """Of this start: PUT and DELETE need it."""
    generation: int | None
    """What a GET answers; null: there is no login."""
    deleted: float | None
    """When the login was deleted, Unix time; null: it was not."""
    size: int
    """Bytes of the profile."""
    made: float | None
    """When the generation was made, Unix time."""
    browser: str
    """Product and version of the browser; empty: nobody has said."""
    backend: str
    """How it keeps its IndexedDB: leveldb, sqlite, or empty."""
    skipped: tuple[str, ...] = ()
    """What is wrong with newer generations, which cannot be restored."""


@dataclass(frozen=True, slots=True)
class SavedProfile:
    """Answers PUT."""

    generation: int
    size: int
    """Bytes of the profile."""
    new: int
    """Chunks that were not there yet."""


@dataclass(frozen=True, slots=True)
class DeletedProfile:
    """Answers DELETE."""

    deleted: bool
    """False: nothing is known of this session."""


@dataclass(frozen=True, slots=True)
class Access:
    """By what workers prove themselves. `signature` None: the policies name none, and nobody gets in."""

    signature: Signature | None
    written_at: str = "sessions.vault.verify"


@dataclass(frozen=True, slots=True)
class VaultCall:
    """What the head of a proven call says."""

    session: str
    fence: int | None
    digest: str
    """Of the body, SHA-256 in hex."""
    if_match: int | None


def read_call(request: Request, access: Access, now: float) -> VaultCall:
    """`now`: Unix seconds. Raises Refusal 400, 401, 403 or 413; nothing of the body is read."""
    fence, digest = only(request.headers.raw, FENCE.encode(), DIGEST.encode())
    said = "" if digest is None else digest.decode("latin-1")
    _check_signature(request, access, b"" if fence is None else fence, said or _EMPTY, now)
    method = request.method
    if method == "PUT":
        _check_body(request, said)
    return VaultCall(
        _session(request),
        _fence(fence, method, request),
        said or _EMPTY,
        _generation(request.headers.get("if-match"), method),
    )


def refused_for(reason: str, status: int, detail: str) -> Refusal:
    """With its reason where HEAD can tell it, too."""
    refusal = Refusal(status, detail, reason=reason)
    refusal.lines = [f"{REASON}: {reason}\r\n".encode()]
    return refusal


def tag(generation: int) -> str:
    return f'"{generation}"'


def _check_signature(request: Request, access: Access, fence: bytes, digest: str, now: float) -> None:
    if access.signature is None:
        raise Refusal(
            403, "neither sessions.vault.verify nor sessions.verify names a signature; set it in policies.yaml"
        )
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    claim = call_signatures.claim_of(request.headers.raw, request.method, path.decode("latin-1"), _HOW_TO_SIGN)
    if isinstance(claim, str):
        raise signed_json.unproven(access.written_at, claim)
    late = claim.why_late(access.signature, now)
    if late is not None:
        raise signed_json.unproven(access.written_at, late)
    if not claim.is_proven_by(access.signature, fence + b"\n" + digest.encode("latin-1"), now):
        said = f"{claim.method} {claim.path}, the fence {fence.decode('latin-1') or '(none)'} and the SHA-256 {digest}"
        raise signed_json.unproven(
            access.written_at,
            f"X-Sluice-Signature does not match; check the secret, and that {said} are what was signed",
        )


def _check_body(request: Request, digest: str) -> None:
    if not _HEX.fullmatch(digest):
        raise Refusal(400, f"{DIGEST}: send the SHA-256 of the zip, 64 hex digits in lower case, once")
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > MAX_ZIP:
        raise too_long()


def too_long() -> Refusal:
    return Refusal(
        413, f"the zip may have {MAX_ZIP >> 20} MiB; is there more in it than Default/IndexedDB and Local Storage?"
    )


def _session(request: Request) -> str:
    session: str = request.path_params["session"]
    if len(session) > 200 or not session.isprintable() or "\ufffd" in session or session in (".", "..", DESCRIPTION):
        raise Refusal(400, "the name of a session has 1 to 200 printable characters, in UTF-8, and is not openapi.json")
    return session


def _fence(given: bytes | None, method: str, request: Request) -> int | None:
    if method not in ("PUT", "DELETE"):
        return None
    if given is None:
        there = "more than once" if FENCE in request.headers else "missing"
        raise Refusal(400, f"{FENCE}: is {there}; POST to this path at the start of the session answers it")
    if not _FENCE.fullmatch(given.decode("latin-1")):
        raise Refusal(400, f"{FENCE}: send the number that the POST at the start of the session has answered")
    return int(given)


def _generation(given: str | None, method: str) -> int | None:
    """RFC 9110 section 13.1.1. Of other methods it means nothing here."""
    if given is None or method not in ("GET", "PUT"):
        return None
    found = _TAG.fullmatch(given.strip())
    if found is None:
        raise Refusal(400, 'If-Match: send one generation in quotation marks, as "12", or leave it out')
    return int(found[1])
