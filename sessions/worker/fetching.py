"""Media that a message names by its address: fetched by the worker, as the contract has it, within bounds."""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx2

MAX_MEDIA = 64 * 2**20
_WITHIN = 30.0
_REDIRECTS = 3
_UNKNOWN = "application/octet-stream"


class NotFetched(Exception):
    """The message says why."""


async def fetch(url: str) -> tuple[bytes, str, str]:
    """Content, media type and a name. Raises NotFetched.

    Whoever may send may have anything fetched that this machine reaches: that is the contract, so a worker belongs
    where its machine reaches nothing secret by its address alone.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise NotFetched("it is no address that begins with http:// or https://")
    content = bytearray()
    try:
        async with (
            asyncio.timeout(_WITHIN),
            httpx2.AsyncClient(trust_env=False, follow_redirects=True, max_redirects=_REDIRECTS) as client,
            client.stream("GET", url) as answer,
        ):
            if not answer.is_success:
                raise NotFetched(f"it was answered {answer.status_code}")
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > MAX_MEDIA:
                    raise NotFetched(f"it has over {MAX_MEDIA >> 20} MiB")
    except TimeoutError:
        raise NotFetched(f"it was not there within {_WITHIN:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise NotFetched(str(error) or type(error).__name__) from None
    name = unquote(PurePosixPath(urlsplit(str(answer.url)).path).name)[:200] or "file"
    stated = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    guessed = mimetypes.guess_type(name)[0]
    return bytes(content), stated if "/" in stated and stated != _UNKNOWN else guessed or _UNKNOWN, name
