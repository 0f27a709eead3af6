"""`sluice event`: what has happened to one event, and why it is not there yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.policies import Policies
from relay import presence
from relay.circuit import CircuitStatus
from relay.process import open_circuit
from relay.queue.history import EndpointHistory, EventHistory, history_of
from relay.queue.history_codec import Attempt
from relay.why import why
from sluice.cli.errors import CommandError
from sluice.cli.opening import with_store
from sluice.cli.screen import screen
from sluice.store.client import Store


@dataclass(frozen=True, slots=True)
class _Seen:
    policies: Policies
    story: EventHistory | None
    circuits: Mapping[str, CircuitStatus]
    relays: int


def show(path: Path, identity: str, *, as_json: bool) -> int:
    """Prints it. Raises CannotStart where nothing is known of it."""
    seen = with_store(path, lambda policies, store: _look(policies, store, identity))
    if seen.story is None:
        raise CommandError(
            f"nothing is known of an event {identity}: it was not accepted, or it left longer ago than "
            "relay.retention.delivered keeps"
        )
    about = _about(seen.story, {part.endpoint: _why(seen, seen.story, part) for part in seen.story.endpoints})
    if as_json:
        sys.stdout.write(orjson.dumps(about, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(about)
    return 0


async def _look(policies: Policies, store: Store, identity: str) -> _Seen:
    endpoints = policies.relay.endpoints
    story = await history_of(store, list(endpoints), identity)
    circuits = {name: await open_circuit(store, endpoint).view() for name, endpoint in endpoints.items()}
    return _Seen(policies, story, circuits, await presence.alive(store))


def _why(seen: _Seen, story: EventHistory, part: EndpointHistory) -> str:
    endpoint = seen.policies.relay.endpoints[part.endpoint]
    pace = endpoint.rate.interval if endpoint.rate else None
    circuit = seen.circuits[part.endpoint]
    return why(part, story, circuit, pace=pace, attempts=endpoint.retry.attempts, relays=seen.relays)


def _about(story: EventHistory, reasons: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": story.id,
        "event": story.event.type if story.event else None,
        "session": story.session,
        "lane": story.lane,
        "bytes": len(story.event.body) if story.event else None,
        "accepted": _moment(story.accepted_at),
        "endpoints": {part.endpoint: _about_part(part, reasons[part.endpoint]) for part in story.endpoints},
    }


def _about_part(part: EndpointHistory, reason: str) -> dict[str, Any]:
    return {
        "state": part.state,
        "why": reason,
        "at": _moment(part.at) if part.at is not None else None,
        "due": _moment(part.due) if part.due is not None and part.state == "waiting" else None,
        "ahead": part.ahead,
        "behind": part.behind,
        "attempts": [_about_attempt(attempt) for attempt in part.attempts],
    }


def _about_attempt(attempt: Attempt) -> dict[str, Any]:
    return {**asdict(attempt), "at": _moment(attempt.at)}


def _print(about: Mapping[str, Any]) -> None:
    of = f"session {about['session']}" if about["session"] else "no session"
    size = f", {about['bytes']} bytes" if about["bytes"] is not None else ""
    out = screen()
    out.print(f"{about['id']}: {about['event'] or 'an event'} of {of}, {about['lane']}{size}")
    out.print(f"{about['accepted']}  accepted")
    for endpoint, part in about["endpoints"].items():
        out.print(f"\n{endpoint}: {part['why']}")
        for attempt in part["attempts"]:
            status = attempt["status"] or "no answer"
            told = f"{attempt['at']}  {status} after {attempt['ms']:g}ms"
            out.print(told + (f": {attempt['reason']}" if attempt["reason"] else ""))
        if part["at"]:
            out.print(f"{part['at']}  {part['state']}")


def _moment(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"
