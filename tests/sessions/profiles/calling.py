"""A worker that keeps its logins in the vault, over HTTP."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from sessions.profiles import zips
from sessions.profiles.calls import DIGEST, FENCE, PREFIX
from sluice.config import Secret, Signature
from sluice.http.call_signatures import sign_call

SIGNATURE = Signature("workers", "blazz", Secret(b"quite-secret"), 300.0)
_PIECE = 64 * 1024


class VaultClient:
    def __init__(self, http: httpx2.AsyncClient, signature: Signature = SIGNATURE) -> None:
        self.http = http
        self.signature = signature

    def signed(
        self, method: str, session: str, fence: str | None = None, digest: str | None = None, at: float | None = None
    ) -> dict[str, str]:
        """All headers of a call."""
        return signed(self.signature, method, session, fence, digest, at)

    async def start(self, session: str = "s1") -> dict[str, Any]:
        answer = await self.call("POST", session)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def call(self, method: str, session: str = "s1", fence: str | None = None, **headers: str) -> httpx2.Response:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.signed(method, session, fence) | more
        return await self.http.request(method, f"{PREFIX}/{session}", headers=sent)

    async def put(self, zipped: bytes, fence: str, session: str = "s1", **headers: str) -> httpx2.Response:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.signed("PUT", session, fence, hashlib.sha256(zipped).hexdigest()) | more
        return await self.http.put(f"{PREFIX}/{session}", content=zipped, headers=sent)

    async def put_file(self, file: Path, fence: str, session: str = "s1") -> httpx2.Response:
        """In pieces."""

        async def pieces() -> AsyncIterator[bytes]:
            with file.open("rb") as opened:
                while piece := opened.read(_PIECE):
                    yield piece

        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        sent = self.signed("PUT", session, fence, digest) | {"Content-Length": str(file.stat().st_size)}
        return await self.http.put(f"{PREFIX}/{session}", content=pieces(), headers=sent)


def signed(
    signature: Signature,
    method: str,
    session: str = "s1",
    fence: str | None = None,
    digest: str | None = None,
    at: float | None = None,
) -> dict[str, str]:
    """`at`: Unix seconds; None: now."""
    said = digest or hashlib.sha256(b"").hexdigest()
    text = f"{fence or ''}\n{said}".encode()
    pairs = sign_call(signature, method, f"{PREFIX}/{session}", text, time.time() if at is None else at)
    made = {name.decode(): value.decode() for name, value in pairs}
    return made | ({FENCE: fence} if fence is not None else {}) | ({DIGEST: digest} if digest is not None else {})


def zipped(profile: Path, at: Path) -> bytes:
    """The zip of a profile, as RemoteAuth has it."""
    zips.write(profile, at)
    return at.read_bytes()
