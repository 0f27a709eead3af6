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
from starlette.applications import Starlette

from gateway import process as gateway_process
from gateway.policies import Policies, ToRelay, edits
from relay import process as relay_process
from sessions.membership import Membership
from sessions.worker.joining import join
from sessions.worker.policies import BrowserPolicy
from sluice.cli.errors import CommandError
from sluice.cli.options import address, count, policies_option, processes as processes_of, seconds, value_of
from sluice.cli.policies import to_run
from sluice.config import Listen, Signature
from sluice.config.urls import http_url
from sluice.console import http as api
from sluice.console.alerting import observe
from sluice.demo import laravel
from sluice.demo.worker import DemoWorker
from sluice.http.server import serving
from sluice.http.server.binding import Bound
from sluice.observe import log as logs, processes
from sluice.process import service
from sluice.process.addresses import EMBEDDED, reached, store_url
from sluice.process.loops import Stop
from sluice.store import durability, embedded, layout, restoring
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
    drivers = "demo: plays an existing worker; browser: runs sessions in Chromium"
    parser.add_argument("--driver", choices=["demo", "browser"], required=True, help=drivers)
    parser.add_argument("--name", required=True, help="its id in the registry; the same after a restart")
    at = "where gateways reach it: an address of this machine's own (default: 127.0.0.1, any port)"
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT", help=at)
    through = "where it registers and sends its webhooks (default: `listen` in the policies)"
    parser.add_argument("--gateway", type=value_of(http_url), metavar="URL", help=through)
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
    """Raises CommandError."""
    host, port = options.listen
    if host in ("0.0.0.0", "::"):
        raise CommandError(
            f"--listen: gateways cannot reach a worker at {host}; write an address of this machine's own"
        )
    policies = to_run(options.policies)
    gateway = options.gateway or _plain_url(policies)
    if options.driver == "browser":
        browser_worker(policies, options.name, host, port, gateway)
    else:
        demo_worker(policies, options.name, host, port, gateway, traffic=options.traffic, minute=options.minute)


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
        await gateway_process.run(policies, bound, stop, api.routes, observe)

    _until_stopped(one_of_several or "gateway", policies, run)


def relay(policies: Policies) -> None:
    """Until SIGTERM or SIGINT."""

    async def run(stop: Stop) -> None:
        if await store_answers(policies, stop):
            await relay_process.run(edits.live(policies), store_url(policies), stop)

    _until_stopped("relay", policies, run)


def demo_worker(
    policies: Policies, name: str, host: str, port: int, gateway: str, *, traffic: bool, minute: float
) -> None:
    """Plays an existing worker until SIGTERM or SIGINT. `minute` in seconds: shorter makes its traffic faster."""
    signature = _worker_signature(policies, name)
    webhooks = _webhook_signature(policies) or signature

    async def run(stop: Stop) -> None:
        bound = serving.listening(host, port)
        url = _own_url(host, bound)
        worker = DemoWorker(name, gateway, webhooks, url, minute=minute, traffic=traffic)
        membership = join(worker, gateway, signature, url, policies.sessions.most)
        try:
            await _serve_as_member(worker.app(), bound, membership, stop)
        finally:
            await worker.close()

    _until_stopped(name, policies, run)


def browser_worker(policies: Policies, name: str, host: str, port: int, gateway: str) -> None:
    """Runs sessions in browsers until SIGTERM or SIGINT. Raises CommandError for what is missing."""
    signature = _worker_signature(policies, name)
    from sessions.worker.browser.available import missing  # nobody else has to load it

    lacks = missing(policies.sessions.browser or BrowserPolicy())
    if lacks is not None:
        raise CommandError(lacks)
    from sessions.worker.browser import running

    async def run(stop: Stop) -> None:
        if not await store_answers(policies, stop):
            return
        bound = serving.listening(host, port)
        url = _own_url(host, bound)
        webhooks = _webhook_signature(policies) or signature
        at = running.At(name, gateway, url, signature, webhooks, store_url(policies), policies.data)
        try:
            async with running.browser_worker(at, policies.sessions) as (app, membership):
                await _serve_as_member(app, bound, membership, stop)
        except running.UNUSABLE as error:
            raise CommandError(str(error)) from None

    _until_stopped(name, policies, run)


async def _serve_as_member(app: Starlette, bound: socket.socket, membership: Membership, stop: Stop) -> None:
    """Serves until it has left."""
    left = Stop()

    async def belong() -> None:
        try:
            await membership.run(stop)
        finally:
            left.request()

    async with asyncio.TaskGroup() as group:
        group.create_task(serving.serve(app, bound, left))
        group.create_task(belong())
        service.ready()


def demo_laravel(policies: Policies, host: str, port: int, *, limit: int, minute: float) -> None:
    """Plays Laravel with its limiter until SIGTERM or SIGINT."""
    endpoint = next(iter(policies.relay.receivers.values()), None)
    if endpoint is None or endpoint.sign is None:
        raise CommandError("relay.endpoints: the demo's Laravel checks signatures; give the first endpoint a `sign:`")
    signature = policies.signatures[endpoint.sign]

    async def run(stop: Stop) -> None:
        bound = serving.listening(host, port)
        await serving.serve(laravel.app(signature, limit=limit, minute=minute), bound, stop)

    _until_stopped("laravel", policies, run)


def _own_url(host: str, bound: socket.socket) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return f"http://{bracketed}:{bound.getsockname()[1]}"


def _plain_url(policies: Policies) -> str:
    """Raises CommandError."""
    at = reached(policies.listen)
    if at.socket or at.certificate:
        raise CommandError(
            "listen: workers of ours speak plain HTTP over TCP; add a listener such as 127.0.0.1:8080, or say "
            "--gateway URL"
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
    """Waits a while, for a store that starts at the same time, and looks whether this version can read it.

    False when stopped meanwhile. Raises CommandError.
    """
    timeout = _STORE_TIMEOUT if os.environ.get("SLUICE_SUPERVISED") else 3.0
    waiting = asyncio.ensure_future(embedded.answering(store_url(policies), timeout))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
            await is_readable(policies)
        return waiting.done()
    except StoreAway as error:
        cure = "start it with: sluice up" if policies.store.url == EMBEDDED else "check store.url in policies.yaml"
        raise CommandError(f"{error}; {cure}") from None
    finally:
        stopping.cancel()
        waiting.cancel()


async def is_readable(policies: Policies) -> None:
    """Raises CommandError where another version's keys are in the store, or a backup is being restored into it;
    StoreAway or StoreRefused."""
    try:
        await layout.check(store_url(policies))
    except (layout.AnotherLayout, restoring.BeingRestored) as error:
        raise CommandError(str(error)) from None


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
        telling = asyncio.create_task(service.tell(stop))
        try:
            await run(stop)
        finally:
            telling.cancel()

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
