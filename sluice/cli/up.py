"""`sluice up`: everything on one machine, on the embedded store; and `sluice gateway` in several processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from gateway.policies import Policies, edits
from sluice.cli import status
from sluice.cli.errors import CommandError, StatusUnavailable
from sluice.cli.processes import is_free, promise_is_kept, store_answers
from sluice.config import live
from sluice.demo import deployment as demo
from sluice.observe import metrics
from sluice.process.addresses import EMBEDDED, base_url, store_url
from sluice.process.loops import Stop
from sluice.process.supervisor import Program, Supervisor
from sluice.store import embedded

_STORE_PATIENCE = 120.0  # an append-only file of some GiB takes its time to load
_GATEWAY_PATIENCE = 30.0
_SUMMARY_EVERY = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line. `minute` in seconds."""

    workers: int
    demo: bool
    minute: float
    sessions: int
    processes: int
    """How many of the gateway."""


def run(policies: Policies, wishes: Options) -> None:
    """Until SIGINT or SIGTERM. Raises EmbeddedStoreError, CannotListen or CannotStart before anything was started."""
    folder = embedded.locked(policies.data) if policies.store.url == EMBEDDED else contextlib.nullcontext()
    with folder:
        asyncio.run(_run(policies, wishes))


def run_gateways(policies: Policies, processes: int) -> None:
    """Several gateways on one address, until SIGINT or SIGTERM. Raises CannotListen or CannotStart before that."""
    asyncio.run(_run_gateways(policies, processes))


async def _run_gateways(policies: Policies, processes: int) -> None:
    stop = Stop()
    stop.on_signals()
    stop.on_parent_gone()
    is_free(policies.listen.host, policies.listen.port)
    if not await store_answers(policies, stop):
        return
    await promise_is_kept(policies)
    logs = Path(os.environ.get("SLUICE_LOGS") or policies.data / "logs")
    supervisor = Supervisor(_gateways(policies, processes, _Ours(policies, "metrics-gateway", logs)), say)
    try:
        await _unless_stopped(stop, supervisor.start())
        if not stop.requested:
            say(f"gateway   {base_url(policies.listen)}   ({processes} processes)")
            say(f"logs      {logs}")
            say("stop with Ctrl-C")
        await _tell_of_edits(policies, stop)
    finally:
        say("stopping: what is under way is finished")
        await supervisor.stop()
        say("stopped")


async def _run(policies: Policies, wishes: Options) -> None:
    stop = Stop()
    stop.on_signals()
    is_free(policies.listen.host, policies.listen.port)
    if policies.store.url == EMBEDDED and await asyncio.to_thread(embedded.stop_orphan, policies.data):
        say("an earlier run was killed and left its store behind; it was stopped, its data is kept")
    supervisor = Supervisor(_programs(policies, wishes), say)
    try:
        await _unless_stopped(stop, _start(supervisor, policies, wishes))
        if not stop.requested:
            _tell_where(policies, wishes)
        async with asyncio.TaskGroup() as group:
            group.create_task(_tell_of_edits(policies, stop))
            while await stop.sleep(_SUMMARY_EVERY):
                if wishes.demo:
                    await _summary(policies)
    finally:
        say("stopping: workers, gateway, relay, store; what is under way is finished")
        await supervisor.stop()
        say("stopped")


async def _start(supervisor: Supervisor, policies: Policies, wishes: Options) -> None:
    await supervisor.start()
    if wishes.demo:
        await demo.want_sessions(store_url(policies), policies.sessions.lease, wishes.sessions, wishes.workers)


def _programs(policies: Policies, wishes: Options) -> list[Program]:
    """In the order they are started."""
    ours = _Ours(policies, "metrics", policies.data / "logs")
    programs = []
    if policies.store.url == EMBEDDED:
        programs.append(
            Program(
                "store",
                embedded.command(policies.data, policies.store.promise),
                ready=lambda: embedded.answering(store_url(policies), _STORE_PATIENCE),
            )
        )
    pace = ("--minute", f"{wishes.minute * 1000:.0f}ms")
    if wishes.demo:
        programs.append(ours("laravel", "demo-laravel", "--listen", _laravel_address(policies), *pace))
    programs.append(ours("relay", "relay"))
    programs += _gateways(policies, wishes.processes, ours)
    for number in range(1, wishes.workers + 1):
        traffic = ("--traffic", *pace) if wishes.demo else ()
        name = f"demo-{number}"
        programs.append(ours(name, "worker", "--driver", "demo", "--name", name, *traffic))
    return programs


def _gateways(policies: Policies, processes: int, ours: _Ours) -> list[Program]:
    if processes == 1:
        return [ours("gateway", "gateway", ready=lambda: _gateway_answers(policies, ours.logs / "gateway.jsonl"))]
    if policies.listen.port == 0:
        raise CommandError("listen: several gateway processes need one port; write its number instead of 0")
    first, *others = [f"gateway-{number}" for number in range(1, processes + 1)]

    async def answers() -> None:
        await _gateway_answers(policies, ours.logs / f"{first}.jsonl")

    return [
        ours(first, "gateway", "--one-of-several", first, ready=answers),
        *(replace(ours(name, "gateway", "--one-of-several", name), beside=True) for name in others),
    ]


class _Ours:
    """Makes programs of our own that count into one folder and log into another."""

    def __init__(self, policies: Policies, counters: str, logs: Path) -> None:
        self.logs = logs
        self._source = policies.source
        self._counters = policies.data / counters
        self._shared = {**metrics.prepare(self._counters), "SLUICE_LOGS": str(logs), "PYTHONUNBUFFERED": "1"}

    def __call__(self, name: str, *command: str, ready: Callable[[], Awaitable[None]] | None = None) -> Program:
        argv = [sys.executable, "-P", "-m", "sluice", *command, "--policies", str(self._source)]
        return Program(name, argv, self._shared, ready or _soon, self._ended)

    def _ended(self, pid: int) -> None:
        metrics.process_ended(pid, self._counters)


async def _soon() -> None:
    return


def _laravel_address(policies: Policies) -> str:
    endpoint = next(iter(policies.relay.endpoints.values()), None)
    url = urlsplit(endpoint.url if endpoint else "")
    if url.hostname not in ("127.0.0.1", "localhost", "::1") or not url.port:
        raise CommandError("relay.endpoints: the demo plays the first endpoint itself; its url must be on 127.0.0.1")
    is_free(url.hostname, url.port)
    return f"{url.hostname}:{url.port}"


async def _gateway_answers(policies: Policies, log: Path) -> None:
    deadline = time.monotonic() + _GATEWAY_PATIENCE
    async with httpx2.AsyncClient(trust_env=False, timeout=1.0) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.HTTPError):
                if (await client.get(base_url(policies.listen) + "/_sluice/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    say(f"the gateway does not answer yet; its log is {log}")


async def _unless_stopped(stop: Stop, work: Awaitable[None]) -> None:
    """Ctrl-C during the start ends the start."""
    starting = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
    else:
        starting.result()


async def _tell_of_edits(policies: Policies, stop: Stop) -> None:
    """Until stopped. Every process watches the file for itself; this only shows what comes of an edit."""
    name = policies.source.name

    def tell(outcome: live.Outcome) -> None:
        for line in edited(name, outcome):
            say(line)

    await edits.live(policies).watch(stop, lambda edited: None, tell)


def edited(name: str, outcome: live.Outcome) -> list[str]:
    """What became of an edit of the policies file, for the terminal."""
    match outcome:
        case live.Refused(problems):
            first, *others = problems
            more = f"; and {len(others)} more: sluice check" if others else ""
            return [f"{name} is wrong and changes nothing: {first}{more}"]
        case live.Loaded(revision, changed, needs_restart):
            what = f"changed: {', '.join(changed)}" if changed else "it says the same as before"
            line = f"{name} is live, revision {revision}; {what}"
            if not needs_restart:
                return [line]
            held = ", ".join(needs_restart)
            return [line, f"{name}: {held}: what was changed here counts from the next start on; restart Sluice"]


def _tell_where(policies: Policies, wishes: Options) -> None:
    url = base_url(policies.listen)
    named = "" if policies.source == Path("policies.yaml") else f" --policies {policies.source}"
    token = policies.console.token
    say(f"gateway   {url}   (point Laravel's worker URL and the workers' LARAVEL_URL here)")
    if wishes.demo and token is not None:
        say(f"console   {url}/_sluice/#token={token.reveal().decode()}")
    elif token is not None:
        say(f"console   {url}/_sluice/   (token: console.token of {policies.source})")
    else:
        say(f"console   closed; give {policies.source} a console.token to open it")
    say(f"status    sluice status{named}")
    say(f"logs      {policies.data / 'logs'}")
    if wishes.demo:
        per_minute = wishes.sessions * 5
        say(f"demo      {wishes.sessions} sessions send {per_minute} events a minute; Laravel takes 100 and then wants")
        say("          a minute of quiet: watch them queue up and arrive")
    say("stop with Ctrl-C")


async def _summary(policies: Policies) -> None:
    with contextlib.suppress(StatusUnavailable):
        say(summary(await status.fetch(policies)))


def summary(snapshot: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    parts = []
    for name, endpoint in snapshot["endpoints"].items():
        circuit = endpoint["circuit"] or {"state": "unknown", "retry_after": 0}
        left_out = (endpoint["replaced"] or 0) + (endpoint["expired"] or 0)
        wait = f" for {circuit['retry_after']:.0f}s" if circuit["state"] == "open" else ""
        parts.append(
            f"{name}: accepted {endpoint['accepted']}, delivered {endpoint['delivered']}, "
            f"waiting {endpoint['waiting']}, stale {left_out}, dead {endpoint['dead']}, "
            f"circuit {circuit['state']}{wait}"
        )
    sessions = snapshot["sessions"]
    connected = sessions["states"].get("connected", 0)
    return " | ".join([*parts, f"sessions {connected}/{sessions['total']}"])


def say(line: str) -> None:
    """To the person at the terminal, who may have closed it: that must not keep us from stopping in order."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
        sys.stdout.flush()
