"""Gateways that tell people what goes wrong, on a real store and to real receivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.alerts import board as boards, engine as engines
from gateway.alerts.board import look
from gateway.alerts.decide import Found, Seen
from gateway.alerts.engine import HEARTBEAT, Engine, open_engine
from gateway.policies import Policies, load
from sluice.store.client import Store
from tests.gateway.alerts.making import WELL, wrong
from tests.gateway.alerts.sinks import Sink, webhook
from tests.waiting import until

pytestmark = pytest.mark.anyio

RULES = "{when: circuit_open, for: none, to: [chat]}, {when: store_away, for: none, to: [chat]}"


@dataclass
class World:
    """What is wrong, the policies, and the gateways that look at both."""

    store: Store
    folder: Path
    sink: Sink
    seen: Seen = WELL
    here: dict[str, Seen] = field(default_factory=dict)
    """What only these machines know."""
    policies: Policies = field(init=False)
    engines: list[Engine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write(RULES)

    def write(self, rules: str, more: str = "") -> None:
        file = self.folder / "policies.yaml"
        file.write_text(
            "version: 1\nrelay: {endpoints: {laravel: {url: http://127.0.0.1:1}}}\n"
            "alerts: {receivers: {chat: {webhook: env:HOOK}, other: {webhook: env:OTHER}}, "
            f"rules: [{rules}]{more}}}\n"
        )
        environment = {"HOOK": self.sink.url, "OTHER": "http://127.0.0.1:1/", "BEAT": self.sink.url}
        self.policies = load(file, environment=environment)

    def gateway(self, store: Store | None = None, machine: str = "web-1") -> Engine:
        async def see() -> Seen:
            return self.seen

        async def see_here() -> Seen:
            return self.here.get(machine, WELL)

        name = f"gateway-{len(self.engines)}"
        made = open_engine(store or self.store, name, lambda: self.policies, see, see_here, machine)
        self.engines.append(made)
        return made

    async def settled(self, engine: Engine) -> list[tuple[str, str]]:
        """What was told so far, when all that was begun has ended."""
        tasks = [lane.task for lane in engine._lanes.values() if lane.task is not None]
        await asyncio.gather(*tasks)
        return self.sink.notified

    async def look(self, engine: Engine) -> list[tuple[str, str]]:
        await engine.run_once()
        return await self.settled(engine)


@pytest.fixture
async def world(store: Store, tmp_path: Path) -> AsyncIterator[World]:
    async with webhook() as sink:
        made = World(store, tmp_path, sink)
        yield made
        for engine in made.engines:
            await engine._end()


def told(world: World) -> list[tuple[str, str]]:
    """By the machine."""
    return [(one["event"], one["machine"]) for message in world.sink.messages for one in message["alerts"]]


FIRING, OVER = ("firing", "laravel"), ("resolved", "laravel")


async def test_what_is_wrong_is_told_once_and_ended_once(world: World) -> None:
    engine = world.gateway()
    assert await world.look(engine) == []
    world.seen = wrong("laravel")
    assert await world.look(engine) == [FIRING]
    assert await world.look(engine) == [FIRING]
    world.seen = WELL
    assert await world.look(engine) == [FIRING, OVER]
    assert await world.look(engine) == [FIRING, OVER]
    _, _, history = await look(world.store)
    assert [(one.event, one.receiver) for one in history] == [("resolved", "chat"), ("firing", "chat")]


async def test_of_several_gateways_one_tells_and_another_goes_on_when_it_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LEASE", 0.5)
    first, second = world.gateway(), world.gateway()
    world.seen = wrong("laravel")
    assert await world.look(first) == [FIRING]
    assert await world.look(second) == [FIRING]
    assert not second._leads
    await until(lambda: _leads(second))  # the first was killed: it looks no more
    assert await world.look(second) == [FIRING]
    world.seen = WELL
    assert await world.look(second) == [FIRING, OVER]


async def _leads(engine: Engine) -> bool:
    await engine.run_once()
    return engine._leads


def full(machine: str) -> Seen:
    return Seen((Found("store_nearly_full", "disk", f"on {machine}: 95% full", 0.95, machine),))


async def test_what_only_a_machine_knows_is_told_of_each_and_ended_of_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "_REPORT_AGAIN", 0.0)
    world.write("{when: store_nearly_full, for: none, to: [chat]}")
    first, second, third = world.gateway(), world.gateway(machine="web-2"), world.gateway(machine="web-1")
    world.seen, world.here["web-2"], world.here["web-1"] = full("web-1"), full("web-2"), full("web-1")
    await world.look(first)
    await world.look(second)
    await world.look(third)  # on the machine of the one that tells
    await world.look(first)
    assert told(world) == [("firing", "web-1"), ("firing", "web-2")]
    await world.look(first)
    assert len(told(world)) == 2

    # Another one leads: it knows the same of both.
    await first._end()
    world.seen = full("web-2")
    await world.look(second)
    await world.look(third)
    await world.look(second)
    assert len(told(world)) == 2
    world.here["web-1"] = WELL
    await world.look(third)
    await world.look(second)
    assert told(world)[2:] == [("resolved", "web-1")]


async def test_what_a_machine_reported_that_is_gone_is_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "_REPORT_AGAIN", 0.0)
    world.write("{when: store_nearly_full, for: none, to: [chat]}")
    first, second = world.gateway(), world.gateway(machine="web-2")
    world.here["web-2"] = full("web-2")
    await world.look(first)
    await world.look(second)
    await world.look(first)
    assert told(world) == [("firing", "web-2")]
    await second._end()
    await world.look(first)
    assert len(told(world)) == 1, "it may be starting again"
    monkeypatch.setattr(boards, "_REPORT_COUNTS", 0.0)
    await world.look(first)
    assert told(world)[1:] == [("resolved", "web-2")]


async def test_one_that_stops_lets_another_go_on_at_once(world: World) -> None:
    first, second = world.gateway(), world.gateway()
    await world.look(first)
    await first._end()
    assert await _leads(second)


async def test_a_restart_tells_nobody_anew(world: World) -> None:
    world.seen = wrong("laravel")
    first = world.gateway()
    await world.look(first)
    await first._end()
    assert await world.look(world.gateway()) == [FIRING]


async def test_an_edit_of_the_rules_while_it_fires_tells_nobody_anew(world: World) -> None:
    engine = world.gateway()
    world.seen = wrong("laravel")
    await world.look(engine)
    world.write("{when: circuit_open, for: 1m, repeat: 2h, to: [chat]}")
    assert await world.look(engine) == [FIRING]
    world.write("{when: dead_letters, to: [chat]}")
    assert await world.look(engine) == [FIRING, OVER]


async def test_without_rules_what_was_told_is_ended_and_then_nobody_leads(world: World) -> None:
    engine = world.gateway()
    world.seen = wrong("laravel")
    await world.look(engine)
    world.write("")
    assert await world.look(engine) == [FIRING, OVER]
    await world.look(engine)
    assert not engine._leads


async def test_who_answers_500_is_told_again_later_and_status_knows_meanwhile(world: World) -> None:
    engine = world.gateway()
    world.seen = wrong("laravel")
    world.sink.answer("500 Oops", body="no")
    await world.look(engine)
    state = engine.known.memory.receivers["chat"]
    assert (state.failures, state.why) == (1, "answered 500 no")
    world.sink.answer("200 OK", body="ok")
    await world.look(engine)
    assert len(world.sink.messages) == 1  # not before some seconds have passed
    engine._lanes["chat"].not_before = 0.0
    await world.look(engine)
    assert len(world.sink.messages) == 2
    assert engine.known.memory.receivers["chat"].failing_since is None


async def test_one_that_hangs_is_in_nobody_s_way(world: World) -> None:
    async with webhook() as other:
        world.write("{when: circuit_open, for: none, to: [other, chat]}")
        environment = {"HOOK": world.sink.url, "OTHER": other.url}
        world.policies = load(world.folder / "policies.yaml", environment=environment)
        other.hang()
        engine = world.gateway()
        world.seen = wrong("laravel")
        await engine.run_once()
        await until(lambda: world.sink.notified == [FIRING])
        world.seen = WELL
        await engine.run_once()
        await until(lambda: world.sink.notified == [FIRING, OVER])
        assert len(other.receiver.bodies) <= 1


async def test_the_heartbeat_comes_while_alerts_are_looked_at(world: World) -> None:
    world.write("", ", heartbeat: {url: env:BEAT, every: 5s}")
    engine = world.gateway()
    await world.look(engine)
    assert world.sink.receiver.heads[0].startswith(b"GET /services/T0/secret?token=hidden HTTP/1.1")
    await world.look(engine)
    assert len(world.sink.receiver.heads) == 1
    engine._beat_at -= 60
    world.sink.answer("404 Gone")
    await world.look(engine)
    assert engine.known.memory.receivers[HEARTBEAT].why == "answered 404"
    assert engine._lanes[HEARTBEAT].is_free


# --- the store is away


async def test_while_the_store_is_away_one_process_of_the_machine_goes_on(
    world: World, free_port: Callable[[], int], store_url: str
) -> None:
    first, second = world.gateway(), world.gateway()
    world.seen = wrong("laravel")
    await world.look(first)
    await world.look(second)
    gone = Store(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)
    for engine in (first, second):
        engine._board._store = gone
    unknown = frozenset(["circuit_open"])
    world.seen = Seen(wrong("", kind="store_away").found, unknown)
    await world.look(second)
    await world.look(first)
    assert world.sink.notified == [FIRING, ("firing", "")]
    assert second.known.stands_in
    assert not first.known.stands_in
    # It is killed, and the other one goes on by what it had written.
    second._stand_in.let_go()
    await world.look(first)
    assert world.sink.notified == [FIRING, ("firing", "")]
    for engine in (first, second):
        engine._board._store = world.store
    world.seen = WELL
    await world.look(first)
    await world.look(second)
    assert sorted(world.sink.notified[2:]) == [("resolved", ""), OVER]
    assert not first.known.stands_in
    await gone.close()


async def test_what_was_told_meanwhile_is_known_to_whoever_leads_when_the_store_is_back(
    world: World, free_port: Callable[[], int], tmp_path: Path
) -> None:
    first, second = world.gateway(), world.gateway()
    await world.look(first)
    gone = Store(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)
    second._board._store = gone
    world.seen = wrong("", kind="store_away")
    await world.look(second)
    assert world.sink.notified == [("firing", "")]
    second._board._store = world.store
    await world.look(second)  # the first leads still
    assert not second._leads
    await world.look(first)
    world.seen = WELL
    assert await world.look(first) == [("firing", ""), ("resolved", "")]
    assert not (tmp_path / ".sluice/alerts.json").exists()
    await gone.close()


async def test_a_store_that_was_emptied_makes_nobody_hear_it_twice(world: World) -> None:
    engine = world.gateway()
    world.seen = wrong("laravel")
    for _ in range(3):
        await world.look(engine)
    await world.store.commands(("FLUSHALL",))
    assert await world.look(engine) == [FIRING]
    world.seen = WELL
    assert await world.look(engine) == [FIRING, OVER]
    memory, _, _ = await look(world.store)
    assert memory.alerts == {}
