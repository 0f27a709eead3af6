"""One kind of process each: `sluice gateway`, `sluice relay`, `sluice worker`, and the demo's Laravel."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from gateway import process as gateway_process
from gateway.policies import Policies, ToRelay, edits
from relay import process as relay_process
from sessions.membership import Membership
from sluice.cli.errors import CommandError
from sluice.cli.options import address, count, policies_option, processes as processes_of, seconds
from sluice.cli.policies import to_run
from sluice.config import Listen, Signature
from sluice.console import http as api
from sluice.demo import laravel
from sluice.demo.worker import DemoWorker
from sluice.http.server import serving
from sluice.http.server.binding import Bound
from sluice.observe import log as logs, processes
from sluice.process.addresses import EMBEDDED, reached, store_url
from sluice.process.loops import Stop
from sluice.store import durability, embedded
from sluice.store.client import StoreAway

_STORE_TIMEOUT = 30.0


def processes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=processes_of, default=1, metavar="N", help="gateway processes (default: 1)")


def add_gateway_options(parser: argparse.ArgumentParser) -> None:
    policies_option(parser)
    processes_option(parser)
    parser.add_argument("--one-of-several", metavar="NAME", help=argparse.SUPPRESS)  # how --processes starts its own
    parser.set_defaults(run=_gateway)


def add_relay_options(parser: argparse.ArgumentParser) -> None:
    policies_option(parser)
    parser.set_defaults(run=lambda options: relay(to_run(options.policies)))


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    policies_option(parser)
    parser.add_argument("--driver", choices=["demo"], required=True, help="demo: plays an existing worker")
    parser.add_argument("--name", required=True, help="its id in the registry; the same after a restart")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--traffic", action="store_true", help="emit the demo's events")
    parser.add_argument("--minute", type=seconds, default=60.0, metavar="60s", help="length of a minute of traffic")
    parser.set_defaults(run=_worker)


def add_laravel_options(parser: argparse.ArgumentParser) -> None:
    policies_option(parser)
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 8000), metavar="HOST:PORT")
    parser.add_argument("--limit", type=count, default=100, metavar="N")
    parser.add_argument("--minute", type=seconds, default=60.0, metavar="60s")
    parser.set_defaults(run=_laravel)


def _gateway(options: argparse.Namespace) -> None:
    policies = to_run(options.policies)
    if options.processes > 1:
        from sluice.cli import up

        up.run_gateways(policies, options.processes)
    else:
        gateway(policies, options.one_of_several)


def _worker(options: argparse.Namespace) -> None:
    host, port = options.listen
    policies = to_run(options.policies)
    demo_worker(policies, options.name, host, port, traffic=options.traffic, minute=options.minute)


def _laravel(options: argparse.Namespace) -> None:
    host, port = options.listen
    demo_laravel(to_run(options.policies), host, port, limit=options.limit, minute=options.minute)


def gateway(policies: Policies, one_of_several: str | None = None) -> None:
    """Until SIGTERM or SIGINT. `one_of_several`: its name among those that listen on the same address."""

    async def run(stop: Stop) -> None:
        inherited = serving.inherited()
        # One that shares the address is given connections as soon as it listens, while the others could answer them.
        bound = [] if one_of_several else serving.bind(policies.listeners, inherited=inherited)
        with contextlib.ExitStack() as unless_it_runs:
            for one in bound:
                unless_it_runs.callback(one.close)
            if not await store_answers(policies, stop):
                return
            await promise_is_kept(policies)
            unless_it_runs.pop_all()
        if one_of_several:
            bound = serving.bind(policies.listeners, shared=True, inherited=inherited)
        await gateway_process.run(policies, bound, stop, api.routes)

    _until_stopped(one_of_several or "gateway", policies, run)


def relay(policies: Policies) -> None:
    """Until SIGTERM or SIGINT."""

    async def run(stop: Stop) -> None:
        if await store_answers(policies, stop):
            await relay_process.run(edits.live(policies), store_url(policies), stop)

    _until_stopped("relay", policies, run)


def demo_worker(policies: Policies, name: str, host: str, port: int, *, traffic: bool, minute: float) -> None:
    """Plays an existing worker until SIGTERM or SIGINT. `minute` in seconds: shorter makes its traffic faster."""
    signature = _worker_signature(policies, name)
    webhooks = _webhook_signature(policies) or signature

    async def run(stop: Stop) -> None:
        bound = serving.listening(host, port)
        url = f"http://{host}:{bound.getsockname()[1]}"
        gateway_url = _plain_url(policies)
        worker = DemoWorker(name, gateway_url, webhooks, url, minute=minute, traffic=traffic)
        membership = Membership(
            gateway_url,
            signature,
            worker=name,
            url=url,
            capacity=policies.sessions.per_worker,
            start=worker.start,
            stop=worker.stop,
            state=worker.state,
        )
        worker.fence_of, worker.on_gone = membership.fence_of, membership.end
        left = Stop()

        async def belong() -> None:
            try:
                await membership.run(stop)
            finally:
                left.request()

        async with asyncio.TaskGroup() as group:
            group.create_task(serving.serve(worker.app(), bound, left))
            group.create_task(belong())
        await worker.close()

    _until_stopped(name, policies, run)


def demo_laravel(policies: Policies, host: str, port: int, *, limit: int, minute: float) -> None:
    """Plays Laravel with its limiter until SIGTERM or SIGINT."""
    endpoint = next(iter(policies.relay.endpoints.values()), None)
    if endpoint is None or endpoint.sign is None:
        raise CommandError("relay.endpoints: the demo's Laravel checks signatures; give the first endpoint a `sign:`")
    signature = policies.signatures[endpoint.sign]

    async def run(stop: Stop) -> None:
        bound = serving.listening(host, port)
        await serving.serve(laravel.app(signature, limit=limit, minute=minute), bound, stop)

    _until_stopped("laravel", policies, run)


def _plain_url(policies: Policies) -> str:
    """Raises CommandError."""
    at = reached(policies.listen)
    if at.socket or at.certificate:
        raise CommandError(
            "listen: the demo's workers speak plain HTTP over TCP; add a listener such as 127.0.0.1:8080"
        )
    return at.url


def _worker_signature(policies: Policies, name: str) -> Signature:
    keys = policies.sessions.keys_of(policies.signatures, policies.listeners).of(name)
    if not keys:
        raise CommandError(
            f"neither sessions.verify nor sessions.keys has a signature for worker {name}, so it cannot register; set "
            "one in policies.yaml"
        )
    return keys[0].signature


def _webhook_signature(policies: Policies) -> Signature | None:
    """What the route checks that relays webhooks, if it does."""
    names = (route.verify for route in policies.routes if isinstance(route.action, ToRelay) and route.verify)
    return next((policies.signatures[name] for name in names), None)


async def store_answers(policies: Policies, stop: Stop) -> bool:
    """Waits a while, for a store that starts at the same time; False when stopped meanwhile. Raises CommandError."""
    timeout = _STORE_TIMEOUT if os.environ.get("SLUICE_SUPERVISED") else 3.0
    waiting = asyncio.ensure_future(embedded.answering(store_url(policies), timeout))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
        return waiting.done()
    except StoreAway as error:
        cure = "start it with: sluice up" if policies.store.url == EMBEDDED else "check store.url in policies.yaml"
        raise CommandError(f"{error}; {cure}") from None
    finally:
        stopping.cancel()
        waiting.cancel()


async def promise_is_kept(policies: Policies) -> None:
    """Raises CommandError when the store would not keep what a 202 says."""
    try:
        await durability.check(policies.store)
    except durability.PromiseBroken as error:
        raise CommandError(str(error)) from None


def _until_stopped(name: str, policies: Policies, run: Callable[[Stop], Coroutine[Any, Any, None]]) -> None:
    logs.start(name, policies.log, policies.data / "logs")
    processes.started(name)

    async def main() -> None:
        stop = Stop()
        stop.on_signals()
        stop.on_parent_gone()
        await run(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def is_free(host: str, port: int) -> None:
    """Raises serving.CannotListen when somebody listens there already."""
    probe: socket.socket = serving.listening(host, port)
    probe.close()


def bind_for_several(policies: Policies) -> list[Bound]:
    """The unix sockets, which the gateways inherit; of the others, which they share, only that nobody listens there.

    Raises serving.CannotListen, or CommandError.
    """
    if any(isinstance(one.address, Listen) and one.address.port == 0 for one in policies.listeners):
        raise CommandError("listen: several gateway processes need one port; write its number instead of 0")
    bound = serving.bind(policies.listeners)
    for one in bound:
        if isinstance(one.listener.address, Listen):
            one.close()
    return [one for one in bound if not isinstance(one.listener.address, Listen)]
