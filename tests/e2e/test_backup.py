"""A whole Sluice is backed up under load, everything of it is lost, and it comes back on an empty machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from relay.policies import OUTBOX
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.generations import Generations, Written
from sluice.process.addresses import store_url
from sluice.store.client import Store
from tests.e2e.deployment import Deployment, deployment, produce
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SESSIONS, MINUTES, MINUTE = 20, 4, 4.0
LIMIT = """
  - {id: sends, event: message_send, per: [session], rate: 600/minute, burst: 5, over: queue, hold: 1s}
relay:"""


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(180):
        return await process.wait()


async def asked(deployed: Deployment, path: str, body: dict[str, Any]) -> int:
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=30) as client:
        return (await client.post(path, json=body)).status_code


async def save_login(store: Store, session: str) -> None:
    generations = Generations(store)
    fence = (await generations.claim(session)).fence
    number = await generations.begin(session, fence)
    assert isinstance(number, int)
    await InStore(store).put(session, number, "c", b"sealed")
    await Manifests(store).put(session, number, b"manifest")
    assert await generations.commit(session, fence, Written(number, 6, 6, 1, "key"), keep=3) == []


async def fence_of(store: Store) -> int:
    found = await store.commands(("GET", "sl:{sessions}:fence"), ("GET", "sl:{vault}:fence"))
    return max(int(fence or 0) for fence in found)


async def test_what_was_accepted_before_a_backup_arrives_after_everything_was_lost(
    short_folder: Path, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        text = deployed.file.read_text().replace("\nrelay:", LIMIT, 1)
        deployed.file.write_text(text.replace("timeout: 1s", "timeout: 20s"))
        listen = deployed.laravel.removeprefix("http://")
        laravel = await deployed.sluice("demo-laravel", "--listen", listen, "--limit", "20", "--minute", "4s")
        await deployed.start_up()
        store = Store(store_url(deployed.policies), timeout=10.0)
        await use_sessions_of(deployed, store)

        producing = asyncio.create_task(
            produce(deployed.policies, deployed.gateway, sessions=SESSIONS, minutes=MINUTES, minute=MINUTE)
        )
        before = {await deployed.send(f"before-{number % 10}", number) for number in range(60)}
        backed_up = await deployed.sluice("backup", str(tmp_path / "backup"))
        assert await ended(backed_up) == 0, deployed.said()
        assert (await producing).refused == {}
        fence = await fence_of(store)
        await store.close()
        arrived = {row["id"] for row in await deployed.arrived()}
        assert before - arrived != set(), "some have not arrived yet"
        await lose_everything(deployed, short_folder / "data")
        laravel.terminate()
        await laravel.wait()

        assert await ended(await deployed.sluice("restore", str(tmp_path / "backup"))) == 0, deployed.said()
        await deployed.start_laravel(0.2)
        await deployed.start_up()
        store = Store(store_url(deployed.policies), timeout=10.0)
        assert await fence_of(store) > fence
        await deployed.start_worker("w2")
        await until(deployed.drained, timeout=180, what=deployed.said)
        arrived_again = {row["id"] for row in await deployed.arrived()}
        assert before - arrived - arrived_again == set()
        await sends_are_dead_letters_and_the_session_and_its_login_are_there(deployed, store)
        await store.close()


async def use_sessions_of(deployed: Deployment, store: Store) -> None:
    """A session with a login, and a send for it that nobody can be given, as its worker was killed."""
    worker = await deployed.start_worker("w1")

    async def created() -> bool:
        body = {"session_id": "own", "workspace_id": 1, "account_id": 1, "api_key": "k"}
        return await asked(deployed, "/api/sessions", body) == 200

    await until(created, timeout=90, what=deployed.said)
    await save_login(store, "own")
    worker.kill()
    await worker.wait()
    send = {"session_id": "own", "recipient_phone": "628123456789", "message": "once", "api_key": "k"}
    assert await asked(deployed, "/api/messages/send", send) == 202


async def lose_everything(deployed: Deployment, data: Path) -> None:
    """The machine burns down."""
    assert deployed.up is not None
    family = deployed.family()
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    await deployed.up.wait()
    await until(lambda: not any(map(is_running, family)), timeout=60)
    shutil.rmtree(data)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def sends_are_dead_letters_and_the_session_and_its_login_are_there(deployed: Deployment, store: Store) -> None:
    code, out, err = await deployed.run("dead", "list", "--endpoint", OUTBOX, "--json")
    assert code == 0, err
    (letter,) = orjson.loads(out)["letters"]
    why = "it waited when the backup was made that was restored, and may have gone out since"
    assert (letter["session"], letter["reason"]) == ("own", why)
    code, out, err = await deployed.run("sessions", "show", "own", "--json")
    assert (code, orjson.loads(out)["session"]) == (0, "own"), out
    profile = await Generations(store).of("own")
    assert profile is not None
    assert profile.newest is not None
    assert await InStore(store).get("own", profile.newest.number, "c") == b"sealed"
