"""`GET /api/whatsapp/accounts/active`: each existing worker is told of its own sessions only.

A worker asks once, when it starts, and starts all that it is told of. It waits for 15 s, and asks again only when it
cannot connect; after anything but a list it starts none until it is started again. So while Laravel or the store is
away its answer is held for nearly as long as it waits, and then it is a refusal: sessions that do not run are told in
`status`, and one that runs twice is thrown out by WhatsApp.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.metrics import accounts_asked
from gateway.problems import BadPath, Refusal
from gateway.proxy.upstream import Downstream, UpstreamClient, UpstreamRequest, refusal_for
from gateway.request import Head
from gateway.routing import segments_of
from gateway.workers.active_accounts import ActiveAccounts, Unreadable, read
from gateway.workers.begun import begun_at
from sessions import divided
from sessions.division import first_homes, home_of
from sessions.existing import WatchedWorker
from sessions.policies import SessionsPolicy
from sessions.registry import Registry, Unknown, Unowned
from sluice.http import client as http1
from sluice.http.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    HOP_BY_HOP,
    REQUEST_ID,
    TRANSFER_ENCODING,
    UPGRADE,
    Field,
    Fields,
)
from sluice.http.server import Exchange
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("gateway")
HELD_FOR = 13.0
"""Seconds that the question may take, all together; a worker waits for 15."""
MAX_ANSWER = 8 * 2**20
"""Bytes of Laravel's answer: about 40,000 accounts."""
_PATH = ("api", "whatsapp", "accounts", "active")
_AT_ONCE = 2
_ASSIGNED_AT_ONCE = 100
_AGAIN = 0.25
_AWAY = frozenset((502, 503, 504))
_MADE_ANEW = frozenset((b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"))
_PLAIN = (Field(b"Accept-Encoding", b"identity"),)
_NOT_FOR_THE_WORKER = CONNECTION | CONTENT_LENGTH | HOP_BY_HOP | TRANSFER_ENCODING | UPGRADE | REQUEST_ID
_OF_THE_WHOLE = frozenset((b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest"))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    fields: Fields
    body: bytes
    """`MAX_ANSWER` bytes, and one more where it has more."""


class Division:
    """Divides Laravel's accounts among the workers that the policies name."""

    def __init__(
        self, policy: SessionsPolicy, store: Store, registry: Registry, watched: Callable[[], Sequence[WatchedWorker]]
    ) -> None:
        self._workers = policy.workers
        self._names = [worker.name for worker in policy.workers]
        self._shared_profiles = policy.shared_profiles
        self._cleans = policy.cleanup is not None
        self._store = store
        self._registry = registry
        self._watched = watched
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def concerns(self, head: Head) -> bool:
        """Whether this request gets one worker's part. Who asks without a prefix gets all of it, and is logged."""
        if head.method != "GET" or not _asks_for_accounts(head.path):
            return False
        if head.worker is None:
            accounts_asked("undivided")
            LOG.warning("accounts.undivided", client=head.client.text)
        return head.worker is not None

    async def answer(self, head: Head, laravel: UpstreamClient, exchange: Exchange) -> int:
        """The answer's status. Raises Refusal: Laravel or the store is away, or what it says cannot be divided; and
        ClientGone."""
        worker, until = head.worker or "", time.monotonic() + HELD_FOR - _AGAIN
        try:
            async with asyncio.timeout(HELD_FOR), self._turns:
                answer = await _ask(head, laravel, exchange, until)
                body = await self._divided(worker, answer, until)
        except TimeoutError:
            raise _refused(worker, Refusal(504, f"Laravel did not answer within {HELD_FOR:g}s")) from None
        except Refusal as refusal:
            raise _refused(worker, refusal) from None
        dropped = _OF_THE_WHOLE if body != answer.body else frozenset()
        lines = [field.line for field in answer.fields.without(_NOT_FOR_THE_WORKER) if field.key not in dropped]
        exchange.begin(answer.status, [*lines, b"Content-Length: %d\r\n" % len(body)], len(body), body, more=False)
        return answer.status

    async def _divided(self, worker: str, answer: _Answer, until: float) -> bytes:
        """What the worker gets. Raises Refusal."""
        if len(answer.body) > MAX_ANSWER:
            raise Refusal(502, f"Laravel's list of accounts has over {MAX_ANSWER >> 20} MiB, too much to divide it")
        if not 200 <= answer.status < 300:
            _refuse_redirect(answer)
            accounts_asked("passed_on")
            LOG.warning("accounts.passed_on", worker=worker, status=answer.status)
            return answer.body
        listed = await _read(answer)
        if listed is None:
            accounts_asked("passed_on")
            LOG.warning("accounts.passed_on", worker=worker, status=answer.status, why="there is no list in it")
            return answer.body
        own = await _held(lambda: self._own(worker, listed), until)
        accounts_asked("divided")
        LOG.info("accounts.divided", worker=worker, given=len(own), of=len(listed.accounts), left_out=listed.left_out)
        return listed.only(own)

    async def _own(self, worker: str, listed: ActiveAccounts) -> frozenset[str] | str:
        """The sessions of this worker, or why that cannot be said yet. Raises StoreAway or StoreRefused."""
        accounts, registry = listed.accounts, self._registry
        names = [account.session for account in accounts]
        await registry.starts(worker)  # before it is read who has what: a create in between must see it
        found = dict(zip(names, await registry.owners_of(names), strict=True))
        new = [account for account in accounts if isinstance(found[account.session], Unknown)]
        if new:
            unseen = set(self._names) - {one.worker for one in self._watched()}
            if unseen:
                return f"worker {min(unseen)} has not been asked yet what it runs"
            homes = first_homes(new, self._names, await self._loads() if self._shared_profiles else None)
            for at in range(0, len(new), _ASSIGNED_AT_ONCE):
                some = new[at : at + _ASSIGNED_AT_ONCE]
                await registry.assign(
                    {one.session: (homes[one.session], {"workspace_id": one.workspace}) for one in some}
                )
            found.update(zip(homes, await registry.owners_of(list(homes)), strict=True))
        await self._ask_for([session for session in names if isinstance(found[session], Unowned)])
        own = frozenset(session for session in names if home_of(found[session], self._workers) == worker)
        await divided.note(self._store, worker, time.time())
        return own - await self._begun_at(worker) if own else own

    async def _begun_at(self, worker: str) -> frozenset[str]:
        """Asked after it was read who has what: what a list of it has made its own since is in the next one, too."""
        return await begun_at(next(one for one in self._workers if one.name == worker))

    async def _ask_for(self, unowned: Sequence[str]) -> None:
        """So that the cleaner does not take them for orphans."""
        for at in range(0, len(unowned) if self._cleans else 0, _ASSIGNED_AT_ONCE):
            await self._registry.ask_for(unowned[at : at + _ASSIGNED_AT_ONCE])

    async def _loads(self) -> dict[str, int]:
        """Of those that are alive; of all, where none is."""
        rows = [row for row in await self._registry.workers() if row.worker in self._names]
        alive = [row for row in rows if row.beat_left > 0]
        return {row.worker: row.sessions for row in alive or rows} or dict.fromkeys(self._names, 0)


def divides(policy: SessionsPolicy) -> bool:
    """Whether there is anything to divide."""
    return policy.shields.divide and bool(policy.workers)


def _asks_for_accounts(path: bytes) -> bool:
    """However it is written: a worker whose LARAVEL_URL ends with a slash asks `//api/…`."""
    if path.find(b"active") < 0 and path.find(b"%") < 0:
        return False
    try:
        return segments_of(path) == _PATH
    except BadPath:
        return False


async def _ask(head: Head, laravel: UpstreamClient, exchange: Exchange, until: float) -> _Answer:
    """Laravel's whole answer, asked for again while it is away, as it may just have been started with the workers."""
    fields = Fields([field for field in head.fields.all if field.key not in _MADE_ANEW])
    plain = Head(
        head.method,
        head.path,
        head.target,
        fields,
        head.length,
        head.client,
        head.scheme,
        head.via,
        id_line=head.id_line,
    )
    while True:
        try:
            answer = await _ask_once(UpstreamRequest(plain, b"", _PLAIN), laravel, exchange)
            if answer.status not in _AWAY or time.monotonic() >= until:
                return answer
        except Refusal as refusal:
            if refusal.status not in _AWAY or time.monotonic() >= until:
                raise
        await asyncio.sleep(_AGAIN)


async def _ask_once(outgoing: UpstreamRequest, laravel: UpstreamClient, exchange: Exchange) -> _Answer:
    client = Downstream(exchange)
    try:
        response = await laravel.ask(outgoing, client)
        body = await response.read(MAX_ANSWER + 1, HELD_FOR)
    except http1.UpstreamError as error:
        raise refusal_for(error, laravel.upstream.name) from None
    finally:
        client.close()
    return _Answer(response.status, response.fields, body)


async def _read(answer: _Answer) -> ActiveAccounts | None:
    """Beside the event loop, as a large one takes a second. Raises Refusal for what only a worker may understand."""
    encodings = {field.value.lower() for field in answer.fields.all if field.key == b"content-encoding"}
    if encodings - {b"identity"}:
        raise Refusal(502, "Laravel's list of accounts is compressed, though plain text was asked for")
    try:
        return await asyncio.to_thread(read, answer.body)
    except Unreadable as why:
        raise Refusal(502, f"Laravel's list of accounts cannot be divided: {why}") from None


def _refuse_redirect(answer: _Answer) -> None:
    """A worker would follow it, past us, to the undivided list."""
    if 300 <= answer.status < 400:
        raise Refusal(502, f"Laravel redirects ({answer.status}): let upstreams name the address that it leads to")


async def _held(decide: Callable[[], Awaitable[T | str]], until: float) -> T:
    """What is decided as soon as it can be. Raises Refusal 503."""
    while True:
        try:
            decided = await decide()
        except (StoreAway, StoreRefused):
            decided = "the registry of sessions cannot be read"
        if not isinstance(decided, str):
            return decided
        if time.monotonic() >= until:
            raise Refusal(503, f"nobody can say which sessions are this worker's: {decided}", retry_after=b"5")
        await asyncio.sleep(_AGAIN)


def _refused(worker: str, refusal: Refusal) -> Refusal:
    accounts_asked("refused")
    LOG.warning("accounts.refused", worker=worker, why=refusal.why)
    return refusal
