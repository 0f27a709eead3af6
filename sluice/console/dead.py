"""Dead letters over the admin API: what `sluice dead` does, so much at a time.

    GET  dead                   filters as below in the query, and limit; {"letters": […], "more": bool}
    GET  dead/{endpoint}/{id}   one, whole: headers and body (`body_base64` where it is not text)
    POST dead/replay            {filters…, "dry_run": bool}; {"replayed": n, "left": n, "until": seconds}
    POST dead/drop              the same with "confirm": true; {"dropped": n, "left": n, "until": seconds}

Filters are ids (POST only), endpoint, session, event (a glob), since and until (unix seconds), reason and text. A POST
does at most a thousand letters, in the order in which they were accepted: ask again with the `until` it told while some
are left; what was done is no longer dead, and what died again since is not meant.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace as changed
from typing import Any

from starlette.requests import Request

from gateway.problems import Refusal
from gateway.reload import Resources
from relay.queue.dead_letter_filter import Filter
from relay.queue.dead_letters import DeadLetter, DeadLetters
from sluice.console.request_body import members, refuse_unknown

_TEXTS = frozenset(("endpoint", "session", "event", "reason", "text"))
_MOMENTS = frozenset(("since", "until"))
_LIMIT, _MOST = 100, 1000

Act = Callable[[DeadLetters, Sequence[DeadLetter]], Awaitable[int]]
Found = list[tuple[str, DeadLetter]]


async def listed(parts: Resources, request: Request) -> dict[str, Any]:
    """Raises Refusal."""
    asked = dict(request.query_params)
    refuse_unknown(asked.keys(), _TEXTS | _MOMENTS | {"limit"})
    limit = _number("limit", asked.pop("limit", str(_LIMIT)))
    if not 1 <= limit <= _MOST:
        raise Refusal(400, f"limit: say 1 to {_MOST}")
    wanted = _filter(parts, {name: _number(name, v) if name in _MOMENTS else v for name, v in asked.items()})
    letters: Found = []
    async for pair in _letters(parts, wanted):
        letters.append(pair)
        if len(letters) > limit:
            break
    told = [_about(name, letter) for name, letter in letters[: int(limit)]]
    return {"letters": told, "more": len(letters) > limit}


async def shown(parts: Resources, request: Request) -> dict[str, Any]:
    """Raises Refusal."""
    wanted = _filter(parts, {"endpoint": request.path_params["endpoint"]}, ids=(request.path_params["id"],))
    async for name, letter in _letters(parts, wanted):
        headers = [[key.decode("latin-1"), value.decode("latin-1")] for key, value in letter.headers]
        return {**_about(name, letter), "headers": headers, **_body(letter.body)}
    raise Refusal(404, "there is no such dead letter")


async def replay(parts: Resources, request: Request) -> dict[str, Any]:
    """Raises Refusal."""
    return await _act(parts, await members(request, _TEXTS | _MOMENTS | {"ids", "dry_run"}), "replayed")


async def drop(parts: Resources, request: Request) -> dict[str, Any]:
    """Raises Refusal."""
    asked = await members(request, _TEXTS | _MOMENTS | {"ids", "dry_run", "confirm"})
    if asked.pop("confirm", False) is not True and asked.get("dry_run") is not True:
        raise Refusal(400, 'confirm: dropping erases for good; say "confirm": true, or look first with "dry_run": true')
    return await _act(parts, asked, "dropped")


_ACTS: dict[str, Act] = {"replayed": DeadLetters.replay, "dropped": DeadLetters.drop}


async def _act(parts: Resources, asked: dict[str, Any], done: str) -> dict[str, Any]:
    dry_run, ids = asked.pop("dry_run", False), asked.pop("ids", [])
    if not isinstance(dry_run, bool):
        raise Refusal(400, "dry_run: say true or false")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise Refusal(400, "ids: say a list of ids")
    wanted = _filter(parts, asked, ids=tuple(ids))
    if wanted.until is None:
        wanted = changed(wanted, until=await DeadLetters(parts.store, "").now())
    letters = [(name, changed(one, body=b"", headers=())) async for name, one in _letters(parts, wanted)]
    if dry_run:
        return {done: 0, "left": len(letters), "until": wanted.until}
    now = sorted(letters, key=lambda pair: (pair[0], pair[1].sequence))[:_MOST]
    count = 0
    for endpoint in dict.fromkeys(name for name, _ in now):
        count += await _ACTS[done](DeadLetters(parts.store, endpoint), [one for name, one in now if name == endpoint])
    return {done: count, "left": len(letters) - len(now), "until": wanted.until}


async def _letters(parts: Resources, wanted: Filter) -> AsyncIterator[tuple[str, DeadLetter]]:
    for name in [wanted.endpoint] if wanted.endpoint else parts.policies.relay.endpoints:
        async for letter in DeadLetters(parts.store, name).all():
            if wanted.has(letter):
                yield name, letter


def _filter(parts: Resources, asked: Mapping[str, Any], ids: tuple[str, ...] = ()) -> Filter:
    for name, value in asked.items():
        if name in _TEXTS and not isinstance(value, str):
            raise Refusal(400, f"{name}: say a text")
        if name in _MOMENTS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refusal(400, f"{name}: say unix seconds")
    endpoints = parts.policies.relay.endpoints
    if asked.get("endpoint") is not None and asked["endpoint"] not in endpoints:
        raise Refusal(404, f"there is no endpoint of this name; there are {', '.join(endpoints) or 'none'}")
    return Filter(ids=ids, **asked)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refusal(400, f"{name}: say a number") from None


def _about(endpoint: str, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "endpoint": endpoint,
        "event": letter.type,
        "session": letter.session,
        "accepted_at": letter.accepted_at,
        "died_at": letter.died_at,
        "reason": letter.reason,
        "target": letter.target.decode("latin-1"),
        "bytes": len(letter.body),
    }


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}
