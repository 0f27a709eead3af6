"""The vault for workers in any language, at `/_sluice/vault/{session}` (`sessions.profiles.calls`, docs/vault.md).

    POST    a start: takes the next fence, and prepares what the GET that follows is answered
    HEAD    which generation is the newest; changes nothing
    GET     the profile, as a zip of RemoteAuth, checked whole before its first byte
    PUT     a zip becomes a new generation, under the fence of the start
    DELETE  a tombstone, under the fence of the start

Each is refused by its head wherever that is possible. What is refused is problem+json, and says the cure.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sessions.profiles import calls, leveldb, zips
from sessions.profiles.call_metrics import call_answered
from sessions.profiles.calls import Access, DeletedProfile, SavedProfile, Started, VaultCall, read_call, tag
from sessions.profiles.downloads import pieces, prepare
from sessions.profiles.errors import ProfileError
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.manifest import Origin
from sessions.profiles.portable import backend_of
from sessions.profiles.prepared import PreparedZip, PreparedZips
from sessions.profiles.refusals import (
    not_kept,
    nothing_kept,
    outdated,
    refusal_of,
    refuse_save,
    trouble_of,
    zip_refused,
)
from sessions.profiles.threads import in_thread
from sessions.profiles.transfers import LONGEST, Transfers
from sessions.profiles.troubles import STALE, Kind
from sessions.profiles.uploads import receive_into
from sessions.profiles.vault import NothingKept, Vault
from sluice.http.decode import encode
from sluice.http.problem import FAILED, ClientGone, Refusal
from sluice.http.signed_json import problem
from sluice.observe.log import Log

LOG = Log("sessions")
Note = Callable[[Kind, str, str], Awaitable[None]]
_UNPACKED = 2
"""So many times the size of a zip is written, packed and unpacked, at least."""
_NOTHING = NothingKept(deleted=False)
_CLIENT_GONE = 499
_QUIET = (401, 403, 404)
"""What strangers can cause at will, and what is no failure: the access log has it."""


class VaultApi:
    """An ASGI application: what an answer needs is let go when it is sent, or its client is gone."""

    def __init__(
        self,
        vault: Vault,
        transfers: Transfers,
        prepared: PreparedZips,
        access: Access,
        note: Note,
        pause: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`note`: of what goes wrong with a session's profile. `pause`: the longest one within a body, in seconds."""
        self._vault = vault
        self._transfers = transfers
        self._prepared = prepared
        self._access = access
        self._note = note
        self._pause = pause
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async with AsyncExitStack() as held:
            try:
                answer = await self._answer(request, held)
            except ClientGone:
                call_answered(scope["method"], _CLIENT_GONE)
                await Response(status_code=400)(scope, receive, send)  # nobody reads it
                return
            except Exception as error:
                refusal = refusal_of(error)
                if refusal is None:
                    call_answered(scope["method"], FAILED.status)
                    raise
                answer = _refused(request, refusal)
            call_answered(scope["method"], answer.status_code)
            async with asyncio.timeout(LONGEST):
                await answer(scope, receive, send)

    async def _answer(self, request: Request, held: AsyncExitStack) -> Response:
        call = read_call(request, self._access, self._now())
        match request.method:
            case "POST":
                return await self._start(call)
            case "PUT":
                return await self._save(call, request)
            case "DELETE":
                return await self._delete(call)
            case "HEAD":
                return _head(await self._kept(call.session))
        return await self._get(call, held)

    async def _start(self, call: VaultCall) -> Response:
        """The fence is taken when something was restored: a start that cannot be must not stop one that runs. What was
        saved meanwhile is restored once more; after the fence nobody saves."""
        generations = self._vault.generations
        with self._transfers.entered():
            before = await generations.of(call.session)
            prepared: PreparedZip | NothingKept = _NOTHING if before is None else await self._prepare(before)
            claimed = await generations.claim(call.session)
            if before is None or (before.deleted, before.generations) != (claimed.deleted, claimed.generations):
                prepared = await self._prepare(claimed)
        started = _started(claimed, prepared)
        about = {"session": call.session, "fence": claimed.fence, "generation": started.generation}
        LOG.info("profile.started", **about, skipped=list(started.skipped) or None)
        return _json(started)

    async def _get(self, call: VaultCall, held: AsyncExitStack) -> Response:
        held.enter_context(self._transfers.entered())
        known = await self._kept(call.session)
        prepared = self._ready(known, call.if_match) or await self._prepare(known, call.if_match)
        if isinstance(prepared, NothingKept):
            raise nothing_kept(call.session, prepared)
        number = prepared.descriptor()
        held.callback(os.close, number)
        headers = _about(prepared.generation) | {
            "Content-Length": str(prepared.size),
            calls.DIGEST: prepared.digest,
            "Cache-Control": "no-store",
        }
        return StreamingResponse(pieces(number, prepared.size), headers=headers, media_type="application/zip")

    async def _save(self, call: VaultCall, request: Request) -> Response:
        assert call.fence is not None
        origin = _origin(request)
        async with AsyncExitStack() as used:
            used.enter_context(self._transfers.entered())
            try:
                profile = await self._received(call, call.fence, request, used)
            except Exception as error:
                if trouble := trouble_of(error):
                    await self._note(trouble[0], call.session, trouble[1])
                raise
            backend = await in_thread(backend_of, profile)
            origin = replace(origin, backend=origin.backend if backend == "none" else backend)
            saved = await self._vault.save(call.session, call.fence, profile, origin)
        if isinstance(saved, str):
            raise outdated(saved)
        self._prepared.drop(call.session)
        about = {"session": call.session, "generation": saved.generation, "size": saved.size, "new": saved.new}
        LOG.info("profile.saved", **about, by=origin.by or None)
        return _json(SavedProfile(saved.generation, saved.size, saved.new), 201, {"ETag": tag(saved.generation)})

    async def _received(self, call: VaultCall, fence: int, request: Request, used: AsyncExitStack) -> Path:
        """The folder of a profile that may be saved; others wait until `used` is closed."""
        refuse_save(await self._vault.generations.of(call.session), fence, call.if_match)
        stated = request.headers.get("content-length", "")
        with await in_thread(self._transfers.file, _UNPACKED * int(stated) if stated.isdigit() else 0) as zipped:
            await receive_into(zipped, request.receive, call.digest, self._pause)
            await used.enter_async_context(self._transfers.saving(call.session))
            await used.enter_async_context(self._transfers.working())
            folder = await used.enter_async_context(self._transfers.folder())
            try:
                await in_thread(zips.extract, zipped, folder)
                await in_thread(leveldb.check_databases, folder)
                await in_thread(leveldb.trim_logs, folder)
            except ProfileError as error:
                raise zip_refused(error) from None
        refuse_save(await self._vault.generations.of(call.session), fence, call.if_match)
        return folder

    async def _delete(self, call: VaultCall) -> Response:
        deleted = await self._vault.generations.delete(call.session, call.fence)
        if isinstance(deleted, str):
            await self._note("stale", call.session, STALE)
            raise outdated(deleted)
        self._prepared.drop(call.session)
        LOG.info("profile.deleted", session=call.session, fence=call.fence, known=deleted)
        return _json(DeletedProfile(deleted))

    async def _kept(self, session: str) -> Profile:
        """Raises Refusal 404 where there is certainly no login."""
        known = await self._vault.generations.of(session)
        if known is None or known.deleted is not None or not known.generations:
            raise nothing_kept(session, NothingKept(deleted=known is not None and known.deleted is not None))
        return known

    def _ready(self, known: Profile, wanted: int | None) -> PreparedZip | None:
        """What a start has prepared."""
        found = self._prepared.get(known.session)
        if found is None:
            return None
        if wanted is not None:
            return found if found.generation.number == wanted else None
        return found if known.newest is not None and found.newest == known.newest.number else None

    async def _prepare(self, known: Profile, wanted: int | None = None) -> PreparedZip | NothingKept:
        """Anew: of `wanted` alone, where it is said. Raises Refusal 412 where that is not kept."""
        if known.deleted is not None or not known.generations:
            return NothingKept(deleted=known.deleted is not None)
        prepared = await prepare(self._vault, known if wanted is None else _only(known, wanted), self._transfers)
        if isinstance(prepared, PreparedZip):
            self._prepared.keep(known.session, prepared)
            if wanted not in (None, prepared.generation.number):  # it was dropped while it was read
                raise not_kept(wanted, [prepared.generation.number])
        return prepared


def routes(api: VaultApi) -> list[Route]:
    return [Route(calls.PATH, api, methods=calls.METHODS)]


def _only(known: Profile, wanted: int) -> Profile:
    found = tuple(one for one in known.generations if one.number == wanted)
    if not found:
        raise not_kept(wanted, [one.number for one in known.generations])
    return replace(known, generations=found)


def _started(claimed: Profile, prepared: PreparedZip | NothingKept) -> Started:
    if isinstance(prepared, NothingKept):
        return Started(str(claimed.fence), None, claimed.deleted, 0, None, "", "")
    one = prepared.generation
    values = (one.number, None, one.size, one.made, one.browser, one.backend)
    return Started(str(claimed.fence), *values, prepared.skipped)


def _about(generation: Generation) -> dict[str, str]:
    said = {
        "ETag": tag(generation.number),
        calls.MADE: f"{generation.made:.3f}",
        calls.BROWSER: generation.browser,
        calls.BACKEND: generation.backend,
    }
    return {name: value for name, value in said.items() if value and value.isascii() and value.isprintable()}


def _origin(request: Request) -> Origin:
    """Raises Refusal 400."""
    said = {name: request.headers.get(name, "") for name in (calls.BROWSER, calls.BACKEND, calls.HOST, calls.CLIENT)}
    for name, value in said.items():
        if len(value) > calls.MAX_TEXT or not value.isprintable():
            raise Refusal(400, f"{name}: has {calls.MAX_TEXT} printable characters at most")
    if said[calls.BACKEND] not in ("", "leveldb", "sqlite"):
        raise Refusal(400, f"{calls.BACKEND}: is leveldb or sqlite, or left out")
    return Origin(*said.values())


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, "application/json")


def _head(known: Profile) -> Response:
    """Without a Content-Length: only a GET knows how long the zip is."""
    assert known.newest is not None
    answer = Response(None, 200, _about(known.newest), "application/zip")
    answer.raw_headers = [pair for pair in answer.raw_headers if pair[0] != b"content-length"]
    return answer


def _refused(request: Request, refusal: Refusal) -> Response:
    if refusal.status not in _QUIET:
        session = request.path_params["session"]
        LOG.warning("profile.refused", session=session, call=request.method, status=refusal.status, why=refusal.why)
    return problem(request, refusal)
