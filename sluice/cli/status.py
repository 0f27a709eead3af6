"""`sluice status`: the console's snapshot, on one screen of a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.policies import Policies
from sluice.cli.errors import StatusUnavailable
from sluice.console.messages import age
from sluice.process.addresses import base_url

_TIMEOUT = 3.0
_COLOURS = {"closed": "green", "half-open": "yellow", "open": "red"}

Row = Mapping[str, Any]


# --- asking


async def fetch(policies: Policies) -> dict[str, Any]:
    """The snapshot of the running gateway. Raises StatusUnavailable."""
    if policies.console.token is None:
        raise StatusUnavailable(f"console.token is not set; set it in {policies.source} and restart the gateway")
    token = policies.console.token.reveal()
    if not token:
        raise StatusUnavailable(
            f"console.token: what {policies.source} names for it is not here; "
            "export the variable (or make the file) that the gateway was started with"
        )
    base = base_url(policies.listen)
    address = base.removeprefix("http://")
    response = await _get(base, address, token)
    match response.status_code:
        case 200:
            return _snapshot(address, response)
        case 401:
            raise StatusUnavailable(
                f"the gateway on {address} does not know this console.token; "
                f"name the policies it runs with --policies, or restart it with {policies.source}"
            )
        case 403:
            raise StatusUnavailable(
                f"the gateway on {address} runs without console.token; restart it, so that it reads {policies.source}"
            )
        case _:
            raise _not_sluice(address, f"it answered {response.status_code}")


async def _get(base: str, address: str, token: bytes) -> httpx2.Response:
    try:
        # trust_env: a proxy from the environment must see neither the token nor a loopback address.
        async with asyncio.timeout(_TIMEOUT), httpx2.AsyncClient(trust_env=False, timeout=_TIMEOUT) as client:
            return await client.get(f"{base}/_sluice/api/status", headers={b"Authorization": b"Bearer " + token})
    except (TimeoutError, httpx2.TimeoutException):
        cure = "look at its log, then restart it with: sluice up"
        raise StatusUnavailable(f"{address} did not answer within {_TIMEOUT:g}s; {cure}") from None
    except httpx2.ConnectError:
        raise StatusUnavailable(f"nothing answers on {address}; start it with: sluice up") from None
    except httpx2.LocalProtocolError:
        # Its message holds the header, and so the token.
        raise StatusUnavailable("console.token does not fit into a header; take blanks and line ends off it") from None
    except httpx2.HTTPError as error:
        raise _not_sluice(address, str(error) or type(error).__name__) from None


def _snapshot(address: str, response: httpx2.Response) -> dict[str, Any]:
    try:
        told = response.json()
    except ValueError:
        told = None
    if not isinstance(told, dict) or "messages" not in told:
        raise _not_sluice(address, "its answer is not a status")
    return told


def _not_sluice(address: str, why: str) -> StatusUnavailable:
    return StatusUnavailable(f"what listens on {address} does not speak as sluice ({why}); see listen in policies.yaml")


# --- showing


def render(snapshot: Row) -> RenderableType:
    """One screen: the messages first, then traffic, circuits with their queues, and sessions."""
    parts = [_messages(snapshot["messages"]), _requests(snapshot["traffic"])]
    if snapshot["endpoints"]:
        parts.append(_endpoints(snapshot["endpoints"]))
    if snapshot["traffic"]["limits"]:
        parts.append(_limits(snapshot["traffic"]["limits"]))
    if snapshot["workers"]:
        parts.append(_workers(snapshot["workers"]))
    parts.append(_sessions(snapshot["sessions"]))
    return Group(*(line for part in parts for line in (part, Text())))


def _messages(messages: list[str]) -> RenderableType:
    if not messages:
        return Text("all is well", "bold green")
    return Group(*(Text(f"• {sentence}", "bold yellow") for sentence in messages))


def _requests(traffic: Row) -> RenderableType:
    requests = traffic["requests"]
    classes = "  ".join(f"{name} {count:,}" for name, count in requests["by_status"].items())
    lines = [Text.assemble(("requests  ", "bold"), f"{requests['total']:,}  ", (classes, "dim"))]
    for title, counts in (("accepted  ", traffic["events"]), ("refused   ", traffic["refused"])):
        if counts:
            told = "  ".join(f"{name} {count:,}" for name, count in counts.items())
            lines.append(Text.assemble((title, "bold"), f"{sum(counts.values()):,}  ", (told, "dim")))
    return Group(*lines)


def _endpoints(endpoints: Row) -> Table:
    table = _table("endpoint", "circuit", "waiting", "oldest", "delivered", "retried", "dead", "dropped by policy")
    for name, seen in endpoints.items():
        state = seen["circuit"]["state"] if seen["circuit"] else "unknown"
        late = "-" if seen["oldest_due_s"] is None else age(seen["oldest_due_s"])
        dropped = None if seen["replaced"] is None else seen["replaced"] + seen["expired"]
        table.add_row(
            Text(name),
            Text(f"held {state}" if seen["circuit"] and seen["circuit"]["held"] else state, _COLOURS.get(state, "dim")),
            _number(seen["waiting"]),
            late,
            *(_number(seen[key]) for key in ("delivered", "retried")),
            _number(seen["dead"]),
            _number(dropped),
        )
    return table


def _limits(limits: Row) -> Table:
    outcomes = ("allowed", "delayed", "dropped", "rejected", "would_reject")
    table = _table("limit", *(outcome.replace("_", " ") for outcome in outcomes))
    for name, decisions in limits.items():
        table.add_row(Text(name), *(_number(decisions[outcome]) for outcome in outcomes))
    return table


def _workers(workers: list[Row]) -> Table:
    table = _table("worker", "address", "sessions", "last beat")
    table.columns[1].justify = "left"
    for worker in workers:
        beat = Text("lost", "red") if worker["lost"] else Text(f"{age(worker['last_beat_s'])} ago")
        room = f"{worker['sessions']} of {worker['room']}"
        table.add_row(Text(worker["worker"]), Text(worker["url"]), room, beat)
    return table


def _sessions(sessions: Row) -> Text:
    states = "  ".join(f"{state} {count:,}" for state, count in sessions["states"].items())
    line = Text.assemble(("sessions  ", "bold"), _number(sessions["total"]), "  ", (states, "dim"))
    return line.append(f"  unowned {sessions['unowned']:,}", "yellow") if sessions["unowned"] else line


def _table(first: str, *rest: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for title in rest:
        table.add_column(title, justify="left" if title == "circuit" else "right")
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
