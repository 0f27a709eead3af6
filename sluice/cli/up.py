"""`sluice up`: everything on one machine, on the embedded store; and `sluice gateway` in several processes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from gateway.policies import Policies, edits, load
from sessions.registry import Registry
from sluice.cli import local_http, status
from sluice.cli.errors import CommandError
from sluice.cli.fleet import Fleet, WorkerCount, worker_count, worker_name
from sluice.cli.options import POLICIES, count, seconds
from sluice.cli.processes import (
    bind_for_several,
    is_free,
    is_readable,
    processes_option,
    promise_is_kept,
    store_answers,
)
from sluice.config import data_folder, last_good, live
from sluice.console.status import Status
from sluice.demo import deployment as demo
from sluice.http.server import serving
from sluice.http.server.binding import Bound, to_inherit
from sluice.observe import log, metrics
from sluice.process import service
from sluice.process.addresses import EMBEDDED, reached, store_url
from sluice.process.loops import Stop
from sluice.process.supervisor import Program, Supervisor
from sluice.store import embedded
from sluice.store.client import Store, StoreAway

_STORE_TIMEOUT = 120.0  # an append-only file of some GiB takes its time to load
_GATEWAY_TIMEOUT = 30.0
_SUMMARY_EVERY = 5.0
_SCALING_TIMEOUT = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    processes_option(parser)
    parser.add_argument("--policies", type=Path, metavar="FILE", help="default: policies.yaml, or the demo's own")
    parser.add_argument(
        "--workers",
        type=worker_count,
        metavar="N",
        help="workers to run, such as 2; 2..8: as many as the sessions want (default: 2 with --demo, 1 with "
        "sessions.browser, else 0)",
    )
    parser.add_argument("--demo", action="store_true", help="with a Laravel that plays its limiter, workers, traffic")
    parser.add_argument("--minute", type=seconds, default=60.0, metavar="60s", help="the demo's; shorter is faster")
    parser.add_argument("--sessions", type=count, default=50, metavar="N", help="the demo's sessions (default: 50)")
    parser.set_defaults(run=_up)


def _up(options: argparse.Namespace) -> None:
    policies = load(options.policies or (demo.make_policies() if options.demo else POLICIES))
    options.driver = "browser" if policies.sessions.browser is not None and not options.demo else "demo"
    if options.workers is None:
        number = 2 if options.demo else _browser_workers(policies)
        options.workers = WorkerCount(number, number)
    run(policies, options)


def _browser_workers(policies: Policies) -> int:
    """One where the policies ask for browsers and there is one."""
    if policies.sessions.browser is None:
        return 0
    from sessions.worker.browser.available import missing  # nobody else has to load it

    lacks = missing(policies.sessions.browser)
    if lacks is not None:
        say(f"no session runs in a browser here: {lacks}")
    return 0 if lacks else 1


def run(policies: Policies, options: argparse.Namespace) -> None:
    """Until SIGINT or SIGTERM. Raises DataFolderError, EmbeddedStoreError, CannotListen or CommandError first."""
    _prepare(policies)
    folder = embedded.locked(policies.data) if policies.store.url == EMBEDDED else contextlib.nullcontext()
    with folder, _terminal(policies):
        asyncio.run(_run(policies, options))


def _prepare(policies: Policies) -> None:
    """What we begin with is what a child that is started again may fall back on."""
    data_folder.make(policies.data, "logs")
    with contextlib.suppress(OSError):  # told by every process that keeps one
        last_good.keep(policies.source, policies.revision, policies.data)


def run_gateways(policies: Policies, processes: int) -> None:
    """Several gateways on one address, until SIGINT or SIGTERM. Raises CannotListen or CommandError before that."""
    _prepare(policies)
    with _terminal(policies):
        asyncio.run(_run_gateways(policies, processes))


def _terminal(policies: Policies) -> AbstractContextManager[object]:
    """What is said to a person goes to standard error where standard output is for logs."""
    if policies.log.to == "stdout":
        return contextlib.redirect_stdout(sys.stderr)
    return contextlib.nullcontext()


async def _run_gateways(policies: Policies, processes: int) -> None:
    stop = Stop()
    stop.on_signals()
    bound = bind_for_several(policies)
    ours = _Ours(policies, "metrics-gateway", Path(os.environ.get(log.FOLDER) or policies.data / "logs"))
    supervisor = Supervisor(_gateways(policies, processes, ours, bound), say)
    stop.on_signals(_kill(supervisor))
    stop.on_parent_gone()
    telling = asyncio.create_task(service.tell(stop))
    try:
        if not await store_answers(policies, stop):
            return
        await promise_is_kept(policies)
    except CommandError:
        _close(bound)
        raise
    try:
        await _unless_stopped(stop, supervisor.start())
        if not stop.requested:
            say(f"gateway   {_addresses(policies)}   ({processes} processes)")
            say(f"logs      {ours.logs}")
            say("stop with Ctrl-C")
            service.ready()
        await _report_edits(policies, stop)
    finally:
        say("stopping: what is in flight is finished")
        _close(bound)
        await supervisor.stop()
        telling.cancel()
        say("stopped")


async def _run(policies: Policies, options: argparse.Namespace) -> None:
    stop = Stop()
    stop.on_signals()
    bound = _listening(policies, options.processes)
    ours = _Ours(policies, "metrics", policies.data / "logs")
    try:
        programs = _programs(policies, options, ours, bound)
    except (CommandError, serving.CannotListen):
        _close(bound)
        raise
    supervisor = Supervisor(programs, say)
    stop.on_signals(_kill(supervisor))
    telling = asyncio.create_task(service.tell(stop))
    if policies.store.url == EMBEDDED and await asyncio.to_thread(embedded.stop_orphan, policies.data):
        say("an earlier run was killed and left its store behind; it was stopped, its data is kept")
    try:
        await _unless_stopped(stop, _start(supervisor, policies, options))
        if not stop.requested:
            _print_addresses(policies, options)
            service.ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(_report_edits(policies, stop))
            if not options.workers.is_fixed:
                group.create_task(_scale(policies, options, ours, supervisor, stop))
            while await stop.sleep(_SUMMARY_EVERY):
                if options.demo:
                    await _summary(policies)
    finally:
        say("stopping: workers, gateway, relay, store; what is in flight is finished")
        _close(bound)
        await supervisor.stop()
        telling.cancel()
        say("stopped")


def _close(bound: Sequence[Bound]) -> None:
    for one in bound:
        one.close()


def _addresses(policies: Policies) -> str:
    """Where the gateway is asked; of several listeners all, by their names."""
    if len(policies.listen) == 1:
        return str(reached(policies.listen))
    return ", ".join(map(str, policies.listen))


def _kill(supervisor: Supervisor) -> Callable[[int], None]:
    def kill(_number: int) -> None:
        say("stopping at once: what is in flight is cut; what was accepted goes on at the next start")
        supervisor.kill()

    return kill


async def _store_is_ready(policies: Policies) -> None:
    await embedded.answering(store_url(policies), _STORE_TIMEOUT)
    await is_readable(policies)


async def _start(supervisor: Supervisor, policies: Policies, options: argparse.Namespace) -> None:
    if policies.store.url != EMBEDDED:
        with contextlib.suppress(StoreAway):  # its processes wait for it, and look then
            await is_readable(policies)
    await supervisor.start()
    workers = options.workers.least if options.workers.is_fixed else 0
    if options.demo:
        await demo.want_sessions(store_url(policies), policies.sessions.lease, options.sessions, workers)


def _listening(policies: Policies, processes: int) -> list[Bound]:
    """Where the one gateway listens: while it is started again, who connects waits instead of being refused.

    Several gateways listen by themselves, but on unix sockets. Raises CannotListen or CommandError.
    """
    return bind_for_several(policies) if processes > 1 else serving.bind(policies.listeners)


def _programs(policies: Policies, options: argparse.Namespace, ours: _Ours, bound: Sequence[Bound]) -> list[Program]:
    """In the order they are started."""
    programs = []
    if policies.store.url == EMBEDDED:
        programs.append(
            Program(
                "store",
                embedded.command(policies.data, policies.store.promise),
                ready=lambda: _store_is_ready(policies),
            )
        )
    if options.demo:
        laravel = ("demo-laravel", "--listen", _laravel_address(policies), *_pace(options))
        programs.append(ours("laravel", *laravel))
    programs.append(ours("relay", "relay"))
    programs += _gateways(policies, options.processes, ours, bound)
    if options.workers.is_fixed:
        programs += [
            _worker(ours, options, worker_name(options.driver, number))
            for number in range(1, options.workers.least + 1)
        ]
    return programs


def _worker(ours: _Ours, options: argparse.Namespace, name: str) -> Program:
    traffic = ("--traffic", *_pace(options)) if options.demo else ()
    return ours(name, "worker", "--driver", options.driver, "--name", name, *traffic)


def _pace(options: argparse.Namespace) -> tuple[str, str]:
    return "--minute", f"{options.minute * 1000:.0f}ms"


async def _scale(
    policies: Policies, options: argparse.Namespace, ours: _Ours, supervisor: Supervisor, stop: Stop
) -> None:
    """Until stopped."""
    store = Store(store_url(policies), timeout=_SCALING_TIMEOUT)
    registry = Registry(store, policies.sessions.lease)
    try:
        program = partial(_worker, ours, options)
        await Fleet(options.workers, registry, supervisor, program, say, options.driver).run(stop)
    finally:
        await store.close()


def _gateways(policies: Policies, processes: int, ours: _Ours, bound: Sequence[Bound]) -> list[Program]:
    names = [f"gateway-{number}" for number in range(1, processes + 1)] if processes > 1 else ["gateway"]
    numbers = tuple(one.socket.fileno() for one in bound)

    async def answers() -> None:
        await _gateway_answers(policies, ours.log_of(names[0]))

    def gateway(name: str) -> Program:
        several = ("--one-of-several", name) if processes > 1 else ()
        one = ours(name, "gateway", *several, ready=answers if name == names[0] else None)
        environment = {**one.environment, serving.INHERITED: to_inherit(bound)}
        return replace(one, environment=environment, inherits=numbers, beside=name != names[0])

    return [gateway(name) for name in names]


class _Ours:
    """Makes programs of our own that count into one folder, and log into another or to standard output."""

    def __init__(self, policies: Policies, counters: str, folder: Path) -> None:
        self._to_stdout = policies.log.to == "stdout"
        self._folder = folder
        self._source = policies.source
        self._counters = policies.data / counters
        logs = "" if self._to_stdout else str(folder)
        self._shared = {**metrics.prepare(self._counters), log.FOLDER: logs, "PYTHONUNBUFFERED": "1"}

    @property
    def logs(self) -> str:
        """Where they are, for a person."""
        return "standard output" if self._to_stdout else str(self._folder)

    def log_of(self, name: str) -> str:
        return self.logs if self._to_stdout else str(self._folder / f"{name}.jsonl")

    def __call__(self, name: str, *command: str, ready: Callable[[], Awaitable[None]] | None = None) -> Program:
        argv = [sys.executable, "-P", "-m", "sluice", *command, "--policies", str(self._source)]
        return Program(name, argv, self._shared, ready or _soon, self._ended, logs_to_stdout=self._to_stdout)

    def _ended(self, pid: int) -> None:
        metrics.process_ended(pid, self._counters)


async def _soon() -> None:
    return


def _laravel_address(policies: Policies) -> str:
    endpoint = next(iter(policies.relay.receivers.values()), None)
    url = urlsplit(endpoint.url if endpoint else "")
    if url.hostname not in ("127.0.0.1", "localhost", "::1") or not url.port:
        raise CommandError("relay.endpoints: the demo plays the first endpoint itself; its url must be on 127.0.0.1")
    is_free(url.hostname, url.port)
    return f"{url.hostname}:{url.port}"


async def _gateway_answers(policies: Policies, its_log: str) -> None:
    deadline = time.monotonic() + _GATEWAY_TIMEOUT
    at = reached(policies.admin.listen or policies.listen)
    async with local_http.client(at, 1.0) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.HTTPError):
                if (await client.get(at.url + "/_sluice/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    say(f"the gateway does not answer yet; its log is {its_log}")


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


async def _report_edits(policies: Policies, stop: Stop) -> None:
    """Until stopped. Every process watches the file for itself; this only shows what comes of an edit."""
    name = policies.source.name

    def report(outcome: live.Outcome) -> None:
        for line in edited(name, outcome):
            say(line)

    await edits.live(policies).watch(stop, lambda edited: None, report)


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


def _print_addresses(policies: Policies, options: argparse.Namespace) -> None:
    url = reached(policies.admin.listen or policies.listen)
    named = "" if policies.source == Path("policies.yaml") else f" --policies {policies.source}"
    token = policies.console.token
    say(f"gateway   {_addresses(policies)}   (point Laravel's worker URL and the workers' LARAVEL_URL here)")
    if options.demo and token is not None:
        say(f"console   {url}/_sluice/#token={token.reveal().decode()}")
    elif token is not None:
        say(f"console   {url}/_sluice/   (token: console.token of {policies.source})")
    else:
        say(f"console   closed; give {policies.source} a console.token to open it")
    say(f"status    sluice status{named}")
    say(f"logs      {'standard output' if policies.log.to == 'stdout' else policies.data / 'logs'}")
    if options.demo:
        per_minute = options.sessions * 5
        say(
            f"demo      {options.sessions} sessions send {per_minute} events a minute; Laravel takes 100 and then wants"
        )
        say("          a minute of quiet: watch them queue up and arrive")
    say("stop with Ctrl-C")


async def _summary(policies: Policies) -> None:
    with contextlib.suppress(CommandError):
        say(summary(await status.fetch(policies)))


def summary(seen: Status) -> str:
    """One line for the terminal."""
    parts = []
    for name, endpoint in seen.endpoints.items():
        circuit = endpoint.circuit
        wait = f" for {circuit.retry_after:.0f}s" if circuit and circuit.state == "open" else ""
        parts.append(
            f"{name}: accepted {endpoint.accepted}, delivered {endpoint.delivered}, waiting {endpoint.waiting}, "
            f"stale {endpoint.stale or 0}, dead {endpoint.dead}, "
            f"circuit {circuit.state if circuit else 'unknown'}{wait}"
        )
    connected = seen.sessions.states.get("connected", 0)
    return " | ".join([*parts, f"sessions {connected}/{seen.sessions.total}"])


def say(line: str) -> None:
    """To the person at the terminal, who may have closed it: that must not keep us from stopping in order."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
        sys.stdout.flush()
