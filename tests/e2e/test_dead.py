"""Dead letters, from the refusal that makes one to its delivery after the receiver was repaired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from tests.e2e.deployment import Deployment, deployment
from tests.e2e.receiver import Got, Receiver, receiving
from tests.waiting import until

pytestmark = pytest.mark.anyio

BROKEN, SOUND, NEIGHBOUR = "webjs_1_1_broken", "webjs_1_2_sound", "webjs_1_9_neighbour"
REASON = 'answered 422: {"message":"The session is unknown."}'


@dataclass(frozen=True, slots=True)
class Scene:
    sluice: Deployment
    laravel: Receiver

    async def dead(self) -> int:
        return int((await self.sluice.status())["endpoints"]["laravel"]["dead"])

    async def bury(self, *sequences: int, session: str = BROKEN) -> list[str]:
        """Sends events that are refused, and waits until they are dead letters; their ids.

        Meanwhile another session gets through, which shows that it is their fault.
        """
        before = await self.dead()
        ids = [await self.sluice.send(session, sequence) for sequence in sequences]

        async def buried() -> bool:
            await self.sluice.send(NEIGHBOUR)
            return await self.dead() == before + len(ids)

        await until(buried, what="the dead letters")
        return ids

    def got(self, *statuses: int) -> list[Got]:
        return [one for one in self.laravel.got if one.session != NEIGHBOUR and one.status in statuses]

    async def run(self, *arguments: str) -> str:
        """What a command prints that must succeed."""
        code, out, err = await self.sluice.run("dead", *arguments)
        assert (code, err) == (0, "")
        return out


@pytest.fixture
async def scene(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Scene]:
    ports = (free_port(), free_port())
    async with receiving(ports[1]) as laravel, deployment(short_folder, ports) as sluice:
        laravel.refuses.add(BROKEN)
        await sluice.start_up()
        yield Scene(sluice, laravel)


async def test_a_refused_event_is_listed_shown_and_delivered_with_its_id_once_the_receiver_is_repaired(
    scene: Scene,
) -> None:
    delivered = await scene.sluice.send(SOUND)
    (dead,) = await scene.bury(7)
    assert Got(dead, BROKEN, 7, 422) in scene.laravel.got
    await until(lambda: Got(delivered, SOUND, 1, 200) in scene.laravel.got, what="the sound session to be served")

    heading, row, told = (await scene.run("list")).splitlines()
    assert heading.split() == ["id", "endpoint", "event", "session", "died", "reason"]
    assert row.split(maxsplit=5)[:4] == [dead, "laravel", "message_received", BROKEN]
    assert row.rstrip().endswith(REASON)
    assert told == "1 dead letters; send them again with `sluice dead replay ID` or `--all`"

    (listed,) = orjson.loads(await scene.run("list", "--json"))["letters"]
    shown = orjson.loads(await scene.run("show", dead))
    body = '{"event":"message_received","data":{"session_id":"webjs_1_1_broken","sequence":7}}'
    assert shown.items() >= listed.items()
    assert listed["reason"] == REASON
    assert (shown["id"], shown["endpoint"], shown["target"]) == (dead, "laravel", "/api/whatsapp/webhooks/webjs")
    assert (shown["body"], shown["bytes"]) == (body, len(body))
    assert ["content-type", "application/json"] in shown["headers"]
    assert not [name for name, _ in shown["headers"] if "signature" in name or "timestamp" in name]

    scene.laravel.refuses.clear()
    assert await scene.run("replay", dead) == "replayed: 1\n"
    await until(lambda: Got(dead, BROKEN, 7, 200) in scene.laravel.got, what="the replayed one")
    assert await scene.run("list") == "no dead letters\n"
    assert orjson.loads(await scene.run("list", "--json")) == {"letters": [], "next": None}


async def test_those_of_a_session_are_counted_replayed_in_order_and_the_rest_dropped(scene: Scene) -> None:
    other = "webjs_1_3_other"
    scene.laravel.refuses.add(other)
    ids = await scene.bury(1, 2, 3)
    (rest,) = await scene.bury(1, session=other)
    came = len(scene.got(200, 422))

    dry = await scene.run("replay", "--all", "--session", BROKEN, "--dry-run")
    assert dry.splitlines()[-1] == "would be replayed: 3"
    assert await scene.dead() == 4
    assert len(scene.got(200, 422)) == came

    scene.laravel.refuses.clear()
    assert await scene.run("replay", "--all", "--session", BROKEN) == "replayed: 3\n"
    await until(lambda: len(scene.got(200)) == 3, what="the three of the session")
    assert [one.id for one in scene.got(200)] == ids

    assert await scene.sluice.run("dead", "drop", rest) == (
        1,
        '       1  laravel  message_received  answered 422: {"message":"The session is unknown."}\n'
        "would be dropped: 1\n",
        "sluice: nothing was dropped; say yes, or give --yes\n",
    )
    assert await scene.dead() == 1
    assert await scene.run("drop", rest, "--yes") == "dropped: 1\n"
    assert await scene.run("list") == "no dead letters\n"
    assert await scene.sluice.run("dead", "replay", rest) == (
        2,
        "",
        f'sluice: there is no dead letter "{rest}"; `sluice dead list` shows them\n',
    )
    assert len(scene.got(200)) == 3
