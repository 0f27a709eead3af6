"""`sluice status`: what the console shows, on one screen of a terminal."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.policies import Policies
from gateway.proxy.failing import failed, is_failing
from sluice.cli import remote, watching
from sluice.cli.errors import CommandError
from sluice.cli.history import last_hour
from sluice.cli.options import target_options
from sluice.cli.policies import policies_of
from sluice.cli.screen import print_json, screen
from sluice.cli.target import gateway_elsewhere
from sluice.console.actions.history import ShowHistory
from sluice.console.messages import age
from sluice.console.messages.wording import size, some
from sluice.console.operations import SHOW_HISTORY, SHOW_STATUS
from sluice.console.status import (
    EndpointStatus,
    Handled,
    LimitDecisions,
    ListenerStatus,
    ScalingStatus,
    SessionCounts,
    ShowStatus,
    Status,
    Traffic,
    UpstreamStatus,
    VaultStatus,
    WorkerStatus,
)
from sluice.history.rings import STEP
from sluice.observe.printable import on_one_line

_LATELY = 600.0
"""Seconds for which a move is worth a word."""
_COLOURS = {"closed": "green", "half-open": "yellow", "open": "red"}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="the whole terminal, anew every two seconds; q ends it")
    target_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.watch:
        if options.json:
            raise CommandError("--watch and --json exclude each other: look at it, or let a program read it")
        watching.check()
    gateway = gateway_elsewhere(options) or remote.local(policies_of(options))
    if options.watch:
        asyncio.run(watching.watch(_Overview(gateway).look))
        return
    status = asyncio.run(gateway.ask(SHOW_STATUS, ShowStatus()))
    if options.json:
        print_json(status)
    else:
        screen().print(render(status))


class _Overview:
    """The status, and the last hour, which changes less often."""

    def __init__(self, gateway: remote.Gateway) -> None:
        self._gateway = gateway
        self._hour: RenderableType = Text()
        self._hour_until = 0.0

    async def look(self) -> RenderableType:
        status = await self._gateway.ask(SHOW_STATUS, ShowStatus())
        if time.monotonic() >= self._hour_until:
            self._hour = last_hour(await self._gateway.ask(SHOW_HISTORY, ShowHistory()))
            self._hour_until = time.monotonic() + STEP
        return Group(render(status), self._hour)


async def fetch(policies: Policies) -> Status:
    """Of the gateway that runs with these policies on this machine. Raises CommandError."""
    return await remote.local(policies).ask(SHOW_STATUS, ShowStatus())


def render(status: Status) -> RenderableType:
    """One screen: the messages first, then traffic, upstreams, circuits with their queues, and sessions."""
    parts = [_messages(status.messages), _requests(status.traffic)]
    if len(status.listeners) > 1 or any(one.certificate for one in status.listeners):
        parts.append(_listeners(status.listeners))
    if status.upstreams:
        parts.append(_upstreams(status.upstreams))
    if status.endpoints:
        parts.append(_endpoints(status.endpoints))
    if status.last_minute.handled:
        parts.append(_handled(status.last_minute.handled))
    if status.traffic.limits:
        parts.append(_limits(status.traffic.limits))
    if status.workers:
        parts.append(_workers(status.workers))
    parts.append(_sessions(status.sessions))
    if status.scaling is not None:
        parts.append(_scaling(status.scaling))
    if status.vault is not None:
        parts.append(_vault(status.vault))
    return Group(*(line for part in parts for line in (part, Text())))


def _messages(messages: Sequence[str]) -> RenderableType:
    if not messages:
        return Text("all is well", "bold green")
    return Group(*(Text(f"• {on_one_line(sentence)}", "bold yellow") for sentence in messages))


def _requests(traffic: Traffic) -> RenderableType:
    lines = [_counts("requests  ", traffic.requests.total, traffic.requests.by_status)]
    for title, counts in (("accepted  ", traffic.events), ("refused   ", traffic.refused)):
        if counts:
            lines.append(_counts(title, sum(counts.values()), counts))
    return Group(*lines)


def _counts(title: str, total: int | None, counts: Mapping[str, int]) -> Text:
    each = "  ".join(f"{on_one_line(name)} {count:,}" for name, count in counts.items())
    return Text.assemble((title, "bold"), f"{_number(total)}  ", (each, "dim"))


def _vault(vault: VaultStatus) -> Text:
    where = "the store" if vault.place == "store" else on_one_line(vault.place)
    logins = some(vault.sessions, "login", "logins")
    kept = f"{logins} in {some(vault.generations, 'generation', 'generations')}, {size(vault.stored)} in {where}"
    deleted = f", {vault.deleted} deleted" if vault.deleted else ""
    return Text.assemble(("vault     ", "bold"), kept, (deleted, "dim"))


def _listeners(listeners: Sequence[ListenerStatus]) -> Table:
    table = _table("listener", "address", "for", "certificate ends")
    for column in table.columns[1:3]:
        column.justify = "left"
    for one in listeners:
        ends = "-" if one.ends_s is None else f"in {age(one.ends_s)}" if one.ends_s > 0 else "ended"
        table.add_row(Text(one.name), Text(on_one_line(one.address)), "/_sluice/" if one.admin else "routes", ends)
    return table


def _upstreams(upstreams: Mapping[str, UpstreamStatus]) -> Table:
    table = _table("upstream", "circuit", "last minute", "failed")
    for name, upstream in upstreams.items():
        bad = failed(upstream.outcomes)
        table.add_row(
            Text(name),
            Text(upstream.circuit, _COLOURS[upstream.circuit]),
            _number(sum(upstream.outcomes.values())),
            Text(_number(bad), "red" if is_failing(upstream.outcomes) else ""),
        )
        for member in upstream.members:
            state = Text("left out", "red") if member.out else Text("well", "dim")
            table.add_row(Text(f"  {on_one_line(member.url)}", "dim"), state, "", "")
    return table


def _endpoints(endpoints: Mapping[str, EndpointStatus]) -> Table:
    table = _table("endpoint", "circuit", "waiting", "oldest", "delivered", "retried", "dead", "dropped by policy")
    for name, endpoint in endpoints.items():
        state = endpoint.circuit.state if endpoint.circuit else "unknown"
        held = "held " if endpoint.circuit and endpoint.circuit.held else ""
        table.add_row(
            Text(name),
            Text(held + state, _COLOURS.get(state, "dim")),
            _number(endpoint.waiting),
            "-" if endpoint.oldest_due_s is None else age(endpoint.oldest_due_s),
            _number(endpoint.delivered),
            _number(endpoint.retried),
            _number(endpoint.dead),
            _number(endpoint.stale),
        )
    return table


def _handled(handled: Mapping[str, Mapping[str, Handled]]) -> Text:
    """What receivers say of the last minute's events."""
    line = Text.assemble(("handled   ", "bold"))
    for endpoint, by in handled.items():
        each = (f"{one.events:,} {how}, {one.mean_s * 1000:,.0f} ms each" for how, one in by.items())
        line.append(f"{endpoint}: {'; '.join(each)}  ")
    return line.append("in the last minute", "dim")


def _limits(limits: Mapping[str, LimitDecisions]) -> Table:
    table = _table("limit", *(field.name.replace("_", " ") for field in fields(LimitDecisions)))
    for name, decisions in limits.items():
        table.add_row(Text(name), *map(_number, astuple(decisions)))
    return table


def _workers(workers: Sequence[WorkerStatus]) -> Table:
    noted = any(worker.notes for worker in workers)
    table = _table("worker", "address", "sessions", "last beat", *(["notes"] if noted else []))
    for column in (1, 4) if noted else (1,):
        table.columns[column].justify = "left"
    for worker in workers:
        beat = Text("lost", "red") if worker.last_beat_s is None else Text(f"{age(worker.last_beat_s)} ago")
        table.add_row(
            Text(on_one_line(worker.worker)),
            Text(on_one_line(worker.url)),
            f"{worker.sessions} of {worker.capacity}",
            beat,
            *([Text(on_one_line(", ".join(worker.notes)), "yellow")] if noted else []),
        )
    return table


def _sessions(sessions: SessionCounts) -> Text:
    line = _counts("sessions  ", sessions.total, sessions.states)
    return line.append(f"  unowned {sessions.unowned:,}", "yellow") if sessions.unowned else line


def _scaling(scaling: ScalingStatus) -> Text:
    each = f"{some(scaling.sessions, 'session', 'sessions')}, {scaling.per_worker:,.0f} for each at most"
    line = Text.assemble(("workers   ", "bold"), f"{scaling.live} live, {scaling.wanted} wanted  ", (each, "dim"))
    if scaling.gives is not None:
        line.append(f"  {on_one_line(scaling.gives)} gives sessions to others", "yellow")
    if scaling.last is not None and scaling.last.ago_s < _LATELY:
        last = scaling.last
        line.append(f"  {on_one_line(f'{last.session} left {last.left} for {last.to}')} {age(last.ago_s)} ago", "dim")
    return line


def _table(first: str, *rest: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for title in rest:
        table.add_column(title, justify="left" if title == "circuit" else "right")
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
