"""How workers, in any language, register, beat and leave (`sessions.calls`).

Every call is signed over its method, its path and the exact bytes of its body. Every refusal is problem+json (RFC 9457)
and says the cure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessions.calls import (
    BEAT,
    LEAVE,
    MAX_BODY,
    PREFIX,
    REGISTER,
    WAIT,
    Beat,
    Call,
    Changed,
    Held,
    Leave,
    Left,
    Register,
    Terms,
    Wait,
)
from sessions.keys import Key, Keys, worker_url
from sessions.metrics import registration_refused, twin_refused
from sessions.registry import Registry, Report, Taken, UnknownWorker, Worker
from sessions.wakeups import Wakeups
from sluice.http import call_signatures, signed_json
from sluice.http.bodies import BodyBudget, HeldBody
from sluice.http.decode import Undecodable, decode, encode
from sluice.http.problem import ClientGone, Refusal
from sluice.http.signed_json import parse, problem
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.api")
Proven = tuple[Key, ...]
Answer = Callable[[str, Any, Proven], Awaitable[object]]
"""Of a call: the id in its path, what it says, and which keys have proven it."""


def routes(
    registry: Registry,
    wakeups: Wakeups,
    bodies: BodyBudget,
    keys: Callable[[], Keys],
    now: Callable[[], float] = time.time,
) -> list[Route]:
    """`keys` is asked at each request, so that an edit of the policies counts at once; without any nobody gets in."""

    async def register(_: str, wanted: Register, proven: Proven) -> Terms:
        url = worker_url(wanted.url)
        try:
            keys().refuse_registration(proven, wanted.id, url)
        except Refusal as refused:
            registration_refused()
            LOG.warning("worker.refused", worker=wanted.id, url=url, why=refused.detail)
            raise
        found = await registry.register(_worker(wanted, url))
        if isinstance(found, Taken):
            twin_refused()
            LOG.warning("worker.twin_refused", worker=wanted.id, url=url, taken_by=found.url)
            raise _taken(wanted.id, found)
        return Terms(registry.lease, registry.lease / 3, found.creates_above)

    async def beat(worker: str, said: Beat, _: Proven) -> Held:
        reports = {
            session: Report(one.fence, one.state, one.phone, one.reason) for session, one in said.sessions.items()
        }
        load = {"memory": said.load.memory, "cpu": said.load.cpu} if said.load else None
        held = await registry.beat(
            *(worker, said.instance, reports, said.gone, said.released),
            draining=said.draining,
            load=load,
            creates_above=said.creates_above,
            capacity=said.capacity,
            dropped=said.dropped,
        )
        return Held(registry.lease, held, held.creates_above)

    async def wait(worker: str, said: Wait, _: Proven) -> Changed:
        return Changed(await wakeups.wait(worker, said.since, min(said.seconds, registry.lease / 3)))

    async def leave(worker: str, said: Leave, _: Proven) -> Left:
        return Left(await registry.deregister(worker, said.instance))

    def route(call: Call, answer: Answer) -> Route:
        async def endpoint(request: Request) -> Response:
            return await _answer(request, call, answer, HeldBody(bodies), keys(), now())

        return Route(PREFIX + call.path, endpoint, methods=["POST"])

    return [route(REGISTER, register), route(BEAT, beat), route(WAIT, wait), route(LEAVE, leave)]


def _worker(wanted: Register, url: str) -> Worker:
    return Worker(wanted.id, wanted.instance, url, wanted.capacity, wanted.takes_ids)


def _taken(worker: str, by: Taken) -> Refusal:
    seconds = max(1, math.ceil(by.lease_left))
    detail = (
        f"another live process is registered as {worker}, at {by.url}; stop it, or give this one an id of its own. If "
        f"it is gone already, its place is free in {seconds}s"
    )
    return Refusal(409, detail, retry_after=b"%d" % seconds)


async def _answer(request: Request, call: Call, answer: Answer, held: HeldBody, keys: Keys, now: float) -> Response:
    worker: str = request.path_params.get("id", "")
    try:
        body, proven = await _proven(request, held, worker, keys, now)
        fields = decode(call.request, parse(body))
        return Response(encode(await answer(worker, fields, proven)), media_type="application/json")
    except Undecodable as error:
        return problem(request, Refusal(400, str(error)))
    except Refusal as refused:
        return problem(request, refused)
    except ClientGone:
        return Response(status_code=400)  # nobody reads it
    except UnknownWorker:
        return problem(
            request,
            Refusal(409, f"{worker} is not registered, or not as this instance: stop all sessions, then register"),
        )
    except (StoreAway, StoreRefused):
        return problem(request, Refusal(503, "the store does not answer; try again", retry_after=b"1"))
    finally:
        held.release()


async def _proven(request: Request, held: HeldBody, worker: str, keys: Keys, now: float) -> tuple[bytes, Proven]:
    """The body, and those of the keys that prove the call. Raises Refusal 401, 403, 413 or 503, and ClientGone."""
    if not keys.all:
        raise Refusal(403, "neither sessions.verify nor sessions.keys names a signature; set one in policies.yaml")
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    claim = call_signatures.claim_of(request.headers.raw, request.method, path.decode("latin-1"))
    if isinstance(claim, str):
        raise signed_json.unproven(keys.written_at, claim)
    candidates = keys.of(worker) if worker else keys.all
    late = {claim.why_late(key.signature, now) for key in candidates}
    if late and None not in late:
        raise signed_json.unproven(keys.written_at, min(filter(None, late)))
    body = await signed_json.body_of(request, held, MAX_BODY)
    proven = tuple(key for key in candidates if claim.is_proven_by(key.signature, body, now))
    if not proven:
        raise signed_json.unproven(keys.written_at, claim.mismatch)
    return body, proven
