"""What is done to a fleet. Each fault begins, lasts a while, and is over when its function returns."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from tests.nemesis.fleet import EXISTING, GATEWAYS, KEY, LEASE, Fleet
from tests.nemesis.load import Clients

Fault = Callable[[Fleet, Clients, random.Random], Awaitable[str]]
"""Answers to whom it was done."""
_LONGER_THAN_A_LEASE = (LEASE + 0.5, LEASE + 2.5)
_FROZEN_STORE = 5.0
_STEP = 600.0  # seconds


async def own_worker_is_frozen(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    name = chance.choice([*fleet.own])
    fleet.own[name].freeze()
    await asyncio.sleep(chance.uniform(*_LONGER_THAN_A_LEASE))
    fleet.own[name].thaw()
    return name


async def own_worker_is_killed(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    name = chance.choice([*fleet.own])
    await fleet.own[name].kill()
    await asyncio.sleep(chance.uniform(0.0, LEASE + 2))
    await fleet.own[name].start()
    return name


async def own_worker_has_a_twin(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    """A second process under its id, at another address."""
    name = chance.choice([*fleet.own])
    twin = fleet.twin_of(name)
    await twin.start()
    await asyncio.sleep(chance.uniform(2.0, LEASE + 2))
    await twin.kill()
    return name


async def existing_worker_is_frozen(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    name = chance.choice(EXISTING)
    fleet.existing[name].freeze()
    await asyncio.sleep(chance.uniform(*_LONGER_THAN_A_LEASE))
    fleet.existing[name].thaw()
    return name


async def existing_worker_is_killed(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    """And restores its sessions one after the other."""
    name = chance.choice(EXISTING)
    await fleet.existing[name].kill()
    await asyncio.sleep(chance.uniform(0.0, LEASE + 2))
    await fleet.existing[name].start()
    await fleet.restored(name)
    return name


async def existing_worker_lists_slowly(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    name = chance.choice(EXISTING)
    await fleet.existing[name].set(slow={"/api/sessions": LEASE / 2})
    await asyncio.sleep(chance.uniform(*_LONGER_THAN_A_LEASE))
    await fleet.existing[name].set(slow={})
    return name


async def existing_worker_refuses_the_key(fleet: Fleet, clients: Clients, chance: random.Random) -> str:
    name = chance.choice(EXISTING)
    clients.unjudged.add(name)  # its 401 is its own answer
    await fleet.existing[name].set(key="another-key")
    await asyncio.sleep(chance.uniform(*_LONGER_THAN_A_LEASE))
    await fleet.existing[name].set(key=KEY)
    clients.unjudged.discard(name)
    return name


async def gateway_is_killed(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    number = chance.randrange(GATEWAYS)
    await fleet.gateway_processes[number].kill()
    await fleet.gateway_processes[number].start()
    await fleet.gateway_answers(number)
    return f"gateway {number}"


async def gateway_is_frozen(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    """Shorter than a lease: its members have no other gateway."""
    number = chance.randrange(GATEWAYS)
    fleet.gateway_processes[number].freeze()
    await asyncio.sleep(LEASE / 3)
    fleet.gateway_processes[number].thaw()
    return f"gateway {number}"


async def relay_is_killed(fleet: Fleet, _: Clients, __: random.Random) -> str:
    await fleet.relay.kill()
    await fleet.relay.start()
    return "relay"


async def store_is_killed(fleet: Fleet, _: Clients, __: random.Random) -> str:
    """It may lose the last second."""
    began = time.monotonic()
    fleet.store.kill()
    await asyncio.to_thread(fleet.store.start)
    fleet.history.note("outage", at=began, until=time.monotonic(), why="store killed")
    return "store"


async def store_is_frozen(fleet: Fleet, _: Clients, __: random.Random) -> str:
    began = time.monotonic()
    fleet.store.freeze()
    await asyncio.sleep(_FROZEN_STORE)
    fleet.store.thaw()
    fleet.history.note("outage", at=began, until=time.monotonic(), why="store frozen")
    return "store"


async def clock_steps(fleet: Fleet, _: Clients, chance: random.Random) -> str:
    """By ten minutes forward or back, at most so far from the true time."""
    error = fleet.clock.error
    fleet.clock.step(-error if abs(error) >= _STEP else chance.choice((-_STEP, _STEP)))
    return f"the store's clock, {fleet.clock.error:+.0f} s"


TO_WORKERS: tuple[Fault, ...] = (
    own_worker_is_frozen,
    own_worker_is_killed,
    own_worker_has_a_twin,
    existing_worker_is_frozen,
    existing_worker_is_killed,
    existing_worker_lists_slowly,
    existing_worker_refuses_the_key,
)
TO_THE_REST: tuple[Fault, ...] = (
    gateway_is_killed,
    gateway_is_frozen,
    relay_is_killed,
    store_is_killed,
    store_is_frozen,
    clock_steps,
)
