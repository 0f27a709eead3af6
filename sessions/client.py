"""Calls of the workers' API (`sessions.calls`), signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Set
from typing import Any

import httpx2
import orjson

from sluice.config import Signature
from sluice.http import foreign_json
from sluice.http.call_signatures import sign_call

Answer = dict[str, Any]
_HEADERS = ((b"Content-Type", b"application/json"), (b"Accept-Encoding", b"identity"))
_MAX_ANSWER = 1024 * 1024
_MAX_SHOWN = 300


class NoAnswer(Exception):
    """None that is of use. The message says why; `again_in`: seconds, where the gateway says when to ask again."""

    def __init__(self, why: str, again_in: float | None = None) -> None:
        super().__init__(why)
        self.again_in = again_in


class Conflict(NoAnswer):
    """Answered 409: what it means depends on the call."""


class Client:
    """Of one worker process, at the gateway `base_url`."""

    def __init__(self, base_url: str, signature: Signature, instance: str) -> None:
        self._signature = signature
        self._instance = instance
        self._http = httpx2.AsyncClient(base_url=base_url, trust_env=False, timeout=None)  # `post` has one

    @property
    def gateway(self) -> str:
        return str(self._http.base_url)

    async def post(self, path: str, fields: Mapping[str, object], timeout: float, wanted: Set[str]) -> Answer:
        """The answer, which has the `wanted` fields. `timeout` in seconds. Raises NoAnswer."""
        body = orjson.dumps({"instance": self._instance, **fields})
        signed = [*_HEADERS, *sign_call(self._signature, "POST", path, body, time.time())]
        try:
            async with (
                asyncio.timeout(timeout),
                self._http.stream("POST", path, content=body, headers=signed) as response,
            ):
                said = await _raw(response)
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout:g}s") from None
        except httpx2.HTTPError as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        if response.status_code == 200:
            return _object(said, wanted)
        kind = Conflict if response.status_code == 409 else NoAnswer
        raise kind(f"{response.status_code} {_detail(said)}", _retry_after(response))

    async def close(self) -> None:
        await self._http.aclose()


def _object(body: bytes, wanted: Set[str]) -> Answer:
    answer = _json(body)
    if not wanted <= answer.keys():
        raise NoAnswer("the answer is not the one of a gateway; is the address right?")
    return answer


async def _raw(response: httpx2.Response) -> bytes:
    """As it came: nothing that is compressed is asked for. Raises NoAnswer."""
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > _MAX_ANSWER:
            raise NoAnswer(f"the answer has over {_MAX_ANSWER >> 20} MiB")
    return body


def _detail(body: bytes) -> str:
    return str(_json(body).get("detail") or body[: 4 * _MAX_SHOWN].decode("utf-8", "replace"))[:_MAX_SHOWN]


def _json(body: bytes) -> Answer:
    try:
        answer = foreign_json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 5 else None
