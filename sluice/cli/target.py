"""The running Sluice that a command looks into: by its store on this machine, or by its gateway elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import orjson

from gateway.policies import Policies
from sessions.registry import Registry
from sluice.cli.errors import CommandError
from sluice.cli.policies import policies_of
from sluice.console.actions.deployment import Deployment, Problem
from sluice.console.audit import Actor, perform
from sluice.console.operations import Operation, Q, R
from sluice.http.decode import Undecodable, decode, encode
from sluice.process.addresses import EMBEDDED, store_url
from sluice.store import restoring
from sluice.store.client import Store, StoreAway, StoreRefused

if TYPE_CHECKING:
    from sluice.cli.remote import Gateway

_TIMEOUT = 10.0
T = TypeVar("T")


class Ask(Protocol):
    """Runs an operation. Raises CommandError where it is refused."""

    async def __call__(self, operation: Operation[Deployment, Q, R], request: Q, /) -> R: ...


def run(options: argparse.Namespace, work: Callable[[Ask], Awaitable[T]]) -> T:
    """Runs `work` on what the options name. Raises CommandError."""
    gateway = gateway_elsewhere(options)
    return asyncio.run(_locally(policies_of(options), work) if gateway is None else _await(work(gateway.ask)))


def ask(options: argparse.Namespace, operation: Operation[Deployment, Q, R], request: Q) -> R:
    """One operation. Raises CommandError."""
    return run(options, lambda ask: ask(operation, request))


def gateway_elsewhere(options: argparse.Namespace) -> Gateway | None:
    """The one that `--gateway` names. Raises CommandError."""
    if options.gateway is None:
        if options.token_file is not None:
            raise CommandError("--token-file goes with --gateway URL")
        return None
    if options.policies is not None:
        raise CommandError("--policies and --gateway exclude each other: ask here, or ask there")
    if options.token_file is None:
        raise CommandError("--gateway needs --token-file FILE, which holds the value of the gateway's console.token")
    from sluice.cli import remote

    gateway = remote.elsewhere(options.gateway, options.token_file)
    if remote.goes_unencrypted(gateway.at.url):
        sys.stderr.write(f"sluice: warning: the token goes to {gateway.at} unencrypted; use https\n")
    return gateway


@dataclass(frozen=True, slots=True)
class Opened:
    """What a command has opened for itself."""

    policies: Policies
    store: Store
    registry: Registry


async def _locally(policies: Policies, work: Callable[[Ask], Awaitable[T]]) -> T:
    store = Store(store_url(policies), timeout=_TIMEOUT)
    opened, actor = Opened(policies, store, Registry(store, policies.sessions.lease)), _actor()

    async def ask(operation: Operation[Deployment, Q, R], request: Q, /) -> R:
        try:
            sound = decode(operation.request, orjson.loads(encode(request)))  # by the rules of the API
        except Undecodable as error:
            raise CommandError(str(error)) from None
        outcome = await perform(operation, opened, sound, actor, _not_audited)
        if isinstance(outcome, Problem):
            raise CommandError(outcome.message)
        return outcome

    try:
        with contextlib.suppress(StoreAway, StoreRefused):  # the work says it, or does without
            await restoring.refuse(store)
        return await work(ask)
    except StoreAway as error:
        raise without_store(policies, error) from None
    except restoring.BeingRestored as error:
        raise CommandError(str(error)) from None
    finally:
        await store.close()


def without_store(policies: Policies, error: StoreAway) -> CommandError:
    here = policies.store.url == EMBEDDED
    cure = f"is `sluice up` running on {policies.data}?" if here else "check store.url in policies.yaml"
    return CommandError(f"the store does not answer ({error}); {cure}")


async def _await(work: Awaitable[T]) -> T:
    return await work


def _actor() -> Actor:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return Actor(user, socket.gethostname(), "command line")


def _not_audited(why: str, line: bytes) -> None:
    sys.stderr.write(f"sluice: warning: it was done, but the audit log {why}: {line.decode()}")
