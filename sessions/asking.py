"""How a worker is asked by us: an existing one in the way that it wants its key, one of ours by the fence of its lease.

The contract takes `api_key` from the query of GET; a worker without a key refuses every request that carries one. No
key is in a message, a repr or a log: our client of HTTP logs no targets.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Any
from urllib.parse import quote

import orjson

from sessions.behind_url import Began, began
from sessions.listed import MAX_BYTES, Listed, Unusable, sessions_in
from sessions.policies import ExistingWorker
from sluice.http import client as http1, foreign_json

_CONNECT = 5.0
_MAX_HEALTH = 64 * 1024
_MAX_ANSWER = 1024 * 1024
_MAX_ERROR = 200  # characters
FENCE = b"X-Sluice-Fence"
_HEADERS = (
    (b"User-Agent", b"Sluice"),
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"identity"),
    (b"Connection", b"close"),
)
_HEALTH, _LIST = "/health", "/api/sessions"
FIELD = "api_key"
HEADER = b"X-API-Key"


@dataclass(frozen=True, slots=True)
class Seen:
    """One poll: the list, and when the processes began that answered before and after it."""

    listed: Listed
    processes: tuple[Began, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    fields: Mapping[str, Any]
    """Of its body; empty where that is no JSON object."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def error(self) -> str:
        """What it says of a refusal."""
        said = self.fields.get("error")
        return f"{self.status} {said[:_MAX_ERROR]}" if isinstance(said, str) and said else str(self.status)


class NoAnswer(Exception):
    """The message says why. `status`: that of the answer which refused us; None: there was none."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


class NotReached(NoAnswer):
    """Nothing was sent, so nothing was done."""


def target_of(worker: ExistingWorker, path: str) -> bytes:
    """Of a GET, with the key where it belongs there. Secret: it must not be logged."""
    if worker.key is None or worker.key_in != "field":
        return path.encode()
    return f"{path}?{FIELD}={quote(worker.key.reveal(), safe='')}".encode()


def headers_of(worker: ExistingWorker) -> list[tuple[bytes, bytes]]:
    """The key, where it belongs there."""
    return [(HEADER, worker.key.reveal())] if worker.key is not None and worker.key_in == "header" else []


class Asking:
    """Asks one worker; each question on a connection of its own, so that each of several processes gets its turn."""

    def __init__(self, worker: ExistingWorker, timeout: float, fence: int | None = None) -> None:
        """`timeout` in seconds, of all questions of a poll together. `fence`: of the lease, where it is one of ours."""
        self._worker = worker
        self._fence = [] if fence is None else [(FENCE, b"%d" % fence)]
        self._timeout = timeout
        self._base = http1.base_path(worker.url)
        self._origin = http1.Origin.of(worker.url)

    async def ask(self) -> Seen:
        """Raises NoAnswer."""
        end = monotonic() + self._timeout
        before = await self._health(end)
        try:
            listed = sessions_in(await self._get(_LIST, target_of(self._worker, _LIST), MAX_BYTES + 1, end))
        except Unusable as unusable:
            raise NoAnswer(str(unusable)) from None
        after = await self._health(end)
        return Seen(listed, tuple(one for one in (before, after) if one is not None))

    async def delete(self, session: str) -> None:
        """Has it close a session, as Laravel does; the login stays on its disk. Raises NoAnswer."""
        await self._tell(b"DELETE", f"{_LIST}/{quote(session, safe='')}", {})

    async def reconnect(self, session: str, about: Mapping[str, object]) -> None:
        """Has it close a session's browser and open another on the same login, as Laravel does. Raises NoAnswer."""
        await self._tell(b"POST", f"{_LIST}/{quote(session, safe='')}/reconnect", about)

    async def call(self, method: str, path: str, fields: Mapping[str, object] | None = None) -> Answered:
        """One question of the contract, whatever is answered to it; `fields` of a body. Raises NoAnswer."""
        end = monotonic() + self._timeout
        if method == "GET":
            status, answer = await self._send(b"GET", path, target_of(self._worker, path), [], b"", _MAX_ANSWER, end)
        else:
            body, headers = self._body(fields or {})
            status, answer = await self._send(method.encode(), path, path.encode(), headers, body, _MAX_ANSWER, end)
        return Answered(status, _members(answer))

    async def close(self) -> None:
        await self._pool.close()

    @cached_property
    def _pool(self) -> http1.Pool:
        tls = ssl.create_default_context() if self._origin.scheme == "https" else None
        return http1.Pool(self._origin, connect=_CONNECT, idle=0.0, tls=tls)

    async def _health(self, end: float) -> Began | None:
        sent = monotonic()
        body = await self._get(_HEALTH, _HEALTH.encode(), _MAX_HEALTH, end)  # it asks for no field
        answered = monotonic()
        try:
            fields = foreign_json.loads(body)
        except ValueError:
            return None  # its status says that it is well
        return began(sent, answered, fields.get("uptime")) if isinstance(fields, dict) else None

    async def _tell(self, method: bytes, path: str, fields: Mapping[str, object]) -> None:
        body, headers = self._body(fields)
        await self._exchange(method, path, path.encode(), headers, body, _MAX_HEALTH, monotonic() + self._timeout)

    def _body(self, fields: Mapping[str, object]) -> tuple[bytes, http1.Headers]:
        """With the key where it belongs there, and what says that it is JSON."""
        worker = self._worker
        if worker.key is not None and worker.key_in == "field":
            fields = {**fields, FIELD: worker.key.reveal().decode()}
        return (orjson.dumps(fields), [(b"Content-Type", b"application/json")]) if fields else (b"", [])

    async def _get(self, path: str, target: bytes, most: int, end: float) -> bytes:
        return await self._exchange(b"GET", path, target, [], b"", most, end)

    async def _exchange(
        self, method: bytes, path: str, target: bytes, more: http1.Headers, body: bytes, most: int, end: float
    ) -> bytes:
        """`path`: as it may be told, without a key."""
        status, answer = await self._send(method, path, target, more, body, most, end)
        if not 200 <= status < 300:
            raise NoAnswer(f"{method.decode()} {path} answered {status}", status)
        return answer

    async def _send(
        self, method: bytes, path: str, target: bytes, more: http1.Headers, body: bytes, most: int, end: float
    ) -> tuple[int, bytes]:
        headers = [(b"Host", self._origin.authority), *_HEADERS, *self._fence, *headers_of(self._worker), *more]
        what = f"{method.decode()} {path}"
        try:
            timeout = max(0.0, end - monotonic())
            status, _, answer = await http1.exchange(
                self._pool, method, self._base + target, headers, body, timeout=timeout, most=most
            )
        except (http1.HeadTimeout, http1.IdleTimeout):
            raise NoAnswer(f"{what}: no answer within {self._timeout:g}s") from None
        except (http1.ConnectFailed, http1.ConnectTimeout, http1.AddressRefused) as error:
            raise NotReached(str(error)) from None
        except http1.UpstreamError as error:
            raise NoAnswer(str(error)) from None
        return status, answer


def _members(body: bytes) -> Mapping[str, Any]:
    try:
        found = foreign_json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
