"""Processes killed at random under load while the store's clock steps and the receiver is bad to some sessions.

The webhooks are sent as the existing workers send them, so what is not answered in time is sent again, by their rules.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from gateway.policies import load
from tests.e2e.account import Account, Sent
from tests.e2e.bad_receiver import bad_receiver, sessions
from tests.e2e.contract_sender import SOCKETS, ContractSender
from tests.e2e.deployment import SECRETS, WEBHOOKS, Deployment, deployment
from tests.stepping_clock import SteppingClock
from tests.waiting import until

VICTIMS = ("relay", "gateway", "valkey-server")
BAD = (
    *("missing-always", "expired-always", "hanging-always"),
    *("missing-phases", "expired-phases", "hanging-phases"),
)
THROTTLED = ("throttled-phases",)
"""A 429 speaks for the endpoint: it pauses it for everybody, so the others feel it."""
HEALTHY = 16
_EVERY = 0.15  # seconds between the events of a session
_PAUSE = (1.0, 2.5)  # seconds between two kills
_SETTLED = 6.0  # seconds that one has run before it is killed again
_STEP = 600.0  # seconds by which the clock is set, at most so far from the true time in each direction
_STEP_PAUSE = (2.0, 5.0)
_DRAINED_WITHIN = 120.0


async def chaos(
    folder: Path, ports: tuple[int, int], *, kills: int, seed: int, bad: Sequence[str] = BAD + THROTTLED
) -> Account:
    """Ends once everything that was emitted has its end. Raises AssertionError if that takes too long."""
    chance, account, clock = random.Random(seed), Account(), SteppingClock(folder)
    async with (
        bad_receiver(ports[1], account, random.Random(seed + 1)) as calm,
        deployment(folder, ports) as deployed,
    ):
        deployed.environment = clock.environment
        await start(deployed)
        async with producing(deployed, sessions(HEALTHY, bad), account):
            stepping = asyncio.create_task(step(clock, random.Random(seed + 2), account))
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(*_PAUSE))
                victim = await _victim(deployed, chance)
                await deployed.kill_child(victim)
                account.kills[victim] += 1
                if victim == "relay":
                    account.relay_kills.append(time.monotonic())
            stepping.cancel()
        calm.set()
        await until(deployed.drained, timeout=_DRAINED_WITHIN, what=f"everything to be delivered: {account}")
        account.dead = await dead_letters(deployed)
        account.messages = tuple((await deployed.status())["messages"])
    return account


async def unkilled(folder: Path, ports: tuple[int, int], *, seconds: float, bad: Sequence[str]) -> Account:
    """The same load for a while, with nothing that is killed or stepped; for what the healthy sessions feel."""
    account = Account()
    async with bad_receiver(ports[1], account) as calm, deployment(folder, ports) as deployed:
        await start(deployed)
        async with producing(deployed, sessions(HEALTHY, bad), account):
            await asyncio.sleep(seconds)
        calm.set()
        await until(deployed.drained, timeout=_DRAINED_WITHIN, what=f"everything to be delivered: {account}")
    return account


async def dead_letters(deployed: Deployment) -> dict[Sent, str]:
    """All of them, with the reason of each."""
    code, out, err = await deployed.run("dead", "list", "--endpoint", "laravel", "--limit", "1000", "--json")
    assert code == 0, err
    found = {}
    for letter in orjson.loads(out)["letters"]:
        code, out, err = await deployed.run("dead", "show", letter["id"])
        assert code == 0, err
        data = orjson.loads(orjson.loads(out)["body"])["data"]
        found[data["session_id"], data["sequence"]] = letter["reason"]
    return found


async def start(deployed: Deployment) -> None:
    """With room for the load, and with attempts for a receiver that is bad for as long as the run takes. Beside other
    work the disk may be slow, and `second` then lets a store that is killed lose up to two seconds."""
    text = deployed.file.read_text().replace("promise: second", "promise: always")
    text = text.replace("rate: 3000/minute, burst: 500", "rate: 60000/minute, burst: 10000")
    retry = "      retry: {base: 200ms, cap: 2s, attempts: 1000}\n"
    text = text.replace("      timeout: 1s\n", "      timeout: 1s\n" + retry)
    deployed.file.write_text(text)
    deployed.policies = load(deployed.file, environment=SECRETS)
    await deployed.start_up()


async def _victim(deployed: Deployment, chance: random.Random) -> str:
    """One that has run for long enough to be started again at once: what is away for longer than senders repeat is
    another matter than a crash."""
    found: list[str] = []

    def there() -> bool:
        found[:] = [name for name in VICTIMS if deployed.runs_for(name) > _SETTLED]
        return bool(found)

    await until(there, what="one that has run for long enough")
    return chance.choice(found)


async def step(clock: SteppingClock, chance: random.Random, account: Account) -> None:
    """Sets the clock back and forth, until it is cancelled."""
    while True:
        await asyncio.sleep(chance.uniform(*_STEP_PAUSE))
        clock.step(-clock.error if abs(clock.error) >= _STEP else chance.choice((-_STEP, _STEP)))
        account.steps += 1


@asynccontextmanager
async def producing(deployed: Deployment, names: Sequence[str], account: Account) -> AsyncIterator[None]:
    """Each session emits one event after the other while the block runs; each event is sent to its end."""
    stop, port = asyncio.Event(), int(deployed.gateway.rpartition(":")[2])
    signature = deployed.policies.signatures["workers"]
    async with asyncio.TaskGroup() as group:
        for i in range(0, len(names), SOCKETS):  # a worker has so many sockets
            sender = ContractSender(port, signature, WEBHOOKS)
            for session in names[i : i + SOCKETS]:
                group.create_task(_produce(sender, session, account, stop))
        try:
            yield
        finally:
            stop.set()


async def _produce(sender: ContractSender, session: str, account: Account, stop: asyncio.Event) -> None:
    sequence = 0
    while not stop.is_set():
        message = {"id": f"true_{session}_{sequence}", "body": "hello"}
        data = {"session_id": session, "workspace_id": 1, "sequence": sequence, "message": message}
        body = orjson.dumps({"event": "message_received", "data": data})
        account.emitted[session, sequence] = time.monotonic()
        await sender.send(body)
        if body in sender.lost:
            account.given_up[session, sequence] = sender.lost[body]
        else:
            account.answered.add((session, sequence))
        sequence += 1
        await asyncio.sleep(_EVERY)
