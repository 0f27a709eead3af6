"""What a person asks of the worker that runs a session, as Laravel asks it: by the calls of the contract.

An existing worker is asked with its key; one of ours under the fence of its lease, and answers 421 when it has lost it.
Beyond the contract workers of ours may show the code by itself, pair by a code that is typed into the phone, and log
out; who cannot answers 404.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sessions.asking import Answered, Asking, NoAnswer, NotReached
from sessions.lifecycle.restarting import number_of
from sessions.policies import ExistingWorker
from sessions.records import NoCapacity, Owner, OwnerAway, Purging, Reserved, SessionRow
from sessions.registry import Registry
from sessions.states import state_of
from sluice.observe.log import Log

LOG = Log("sessions.lifecycle")
SESSIONS = "/api/sessions"
CREATED_WITHIN = 25.0
"""Seconds for a create: an existing worker answers when its page is up, after 7 to 9 s."""
_WITHIN = 10.0
_GONE = 421
_NOT_THERE = 404
_RESTORES = 503
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]{1,400000}={0,2}")
_CODE = re.compile(r"[A-Za-z0-9-]{4,32}")


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was done where the worker says so; where there was no answer, nobody knows. `status`: of its answer."""

    why: str
    status: int | None = None

    @property
    def is_missing(self) -> bool:
        """It has no such call."""
        return self.status == _NOT_THERE


@dataclass(frozen=True, slots=True)
class Created:
    worker: str
    existing: bool
    state: str


@dataclass(frozen=True, slots=True)
class Code:
    state: str
    """As the worker says at this moment."""
    picture: str | None
    """A data URL of a small image; None: it shows none."""


class AtWorker:
    """`workers`: the existing ones of the policies."""

    def __init__(self, registry: Registry, workers: Sequence[ExistingWorker]) -> None:
        self._registry = registry
        self._workers = {worker.name: worker for worker in workers}

    async def create(
        self, session: str, about: Mapping[str, Any], by: str, *, shared_profiles: bool
    ) -> Created | Failed | Owner | NoCapacity | OwnerAway | Purging:
        """A place is held first, and kept when the worker accepts. Where its answer never comes the place stays held
        until the worker's list tells, or the time is over. Raises StoreAway and StoreRefused."""
        place = await self._registry.reserve(session, about, shared_profiles=shared_profiles, by=by)
        if not isinstance(place, Reserved):
            return place
        if place.joined:
            await self._registry.cancel(session, place.fence, by)
            return Failed("another request is creating it at this moment")
        found = await self._create_at(place, session, about, by)
        LOG.info("session.created_by_person", session=session, worker=place.worker, failed=isinstance(found, Failed))
        return found

    async def _create_at(self, place: Reserved, session: str, about: Mapping[str, Any], by: str) -> Created | Failed:
        worker = self._known(place.worker, place.url, existing=place.existing)
        if worker is None:
            await self._registry.cancel(session, place.fence, by)
            return Failed("sessions.workers does not name it any more")
        asking = Asking(worker, CREATED_WITHIN, None if place.existing else place.fence)
        try:
            seen = await _seen(asking, session) if place.returns and place.existing else None
            if isinstance(seen, Failed):
                await self._registry.cancel(session, place.fence, by)
                return seen
            if seen:
                await self._registry.confirm(session, place.fence, by)
                return Created(place.worker, place.existing, seen)
            answer = await asking.call("POST", SESSIONS, {"session_id": session, **about})
        except NotReached as error:
            await self._registry.cancel(session, place.fence, by)
            return Failed(str(error))
        except NoAnswer as error:
            return Failed(f"{error}; it may have it all the same")
        finally:
            await asking.close()
        if not answer.is_success:
            await self._registry.cancel(session, place.fence, by)
            return Failed(f"it answered {answer.error}", answer.status)
        await self._registry.confirm(session, place.fence, by)
        return Created(place.worker, place.existing, _state_in(answer.fields) or "starting")

    async def code(self, row: SessionRow) -> Code | Failed:
        """The one that its phone is to scan now: of what the worker keeps of the session, by the contract."""
        kept = await self._ask(row, "GET", "/metadata")
        if isinstance(kept, Failed):
            return kept
        fields = kept.fields.get("metadata")
        fields = fields if isinstance(fields, dict) else {}
        state = _state_in(fields) or row.state
        if state != "qr_scanning":
            return Code(state, None)  # what is kept of it stays there after it was scanned
        picture = _picture(fields.get("qrCode"))
        if picture is None and not row.existing:
            shown = await self._ask(row, "GET", "/qr")
            picture = None if isinstance(shown, Failed) else _picture(shown.fields.get("qr_code"))
        return Code(state, picture)

    async def pair(self, row: SessionRow, phone: str) -> str | Failed:
        """The code that is typed into the phone of that number."""
        answer = await self._ask(row, "POST", "/pairing-code", {"phone_number": phone})
        if isinstance(answer, Failed):
            return answer
        code = answer.fields.get("code")
        return code if isinstance(code, str) and _CODE.fullmatch(code) else Failed("its answer has no code")

    async def log_out(self, row: SessionRow) -> Failed | None:
        """The phone unlinks it, and its login is of no use any more."""
        answer = await self._ask(row, "POST", "/logout", {"workspace_id": number_of(row.workspace)})
        return answer if isinstance(answer, Failed) else None

    async def delete(self, row: SessionRow) -> Failed | None:
        """It is closed, and forgotten as after Laravel's own DELETE. Raises StoreAway and StoreRefused."""
        answer = await self._ask(row, "DELETE", "", {"workspace_id": number_of(row.workspace)})
        if isinstance(answer, Failed):
            return answer
        await self._registry.forget(row.session)
        return None

    async def _ask(
        self, row: SessionRow, method: str, path: str, fields: Mapping[str, object] | None = None
    ) -> Answered | Failed:
        worker = self._known(row.worker or "", row.url or "", existing=row.existing)
        if worker is None:
            return Failed("sessions.workers does not name it any more")
        asking = Asking(worker, _WITHIN, None if row.existing else row.fence)
        try:
            answer = await asking.call(method, f"{SESSIONS}/{quote(row.session, safe='')}{path}", fields)
        except NoAnswer as error:
            return Failed(str(error))
        finally:
            await asking.close()
        if answer.status == _GONE:
            return Failed("it has just lost it to another worker; try again", answer.status)
        return answer if answer.is_success else Failed(f"it answered {answer.error}", answer.status)

    def _known(self, name: str, url: str, *, existing: bool) -> ExistingWorker | None:
        """How it is asked; None: its key is not known."""
        return self._workers.get(name) if existing else ExistingWorker(url=url, name=name)


async def _seen(asking: Asking, session: str) -> str | Failed | None:
    """The state in which an existing worker runs it, unseen until now; Failed: it is about to start it by itself, and
    would open a second browser; None: neither. In this order, as in `gateway.workers.at_existing`. Raises NoAnswer."""
    restores = (await asking.call("GET", "/cleanup/stats")).status == _RESTORES
    found = await asking.call("GET", f"{SESSIONS}/{quote(session, safe='')}/status")
    if found.is_success:
        return _state_in(found.fields) or "starting"
    return Failed("it is being started, and has not come to this session yet") if restores else None


def _state_in(fields: Mapping[str, Any]) -> str:
    word = fields.get("status")
    return state_of(word)[0] if isinstance(word, str) else ""


def _picture(value: object) -> str | None:
    return value if isinstance(value, str) and _PICTURE.fullmatch(value) else None
