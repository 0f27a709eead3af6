"""The vault's API when things go wrong beside it: nothing is lost, nothing is left, and each is told."""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sessions.profiles import space, transfers, troubles, zips
from sessions.profiles.contents import InStore
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.profiles.calling import SIGNATURE, zipped
from tests.sessions.profiles.making import OLD, profile
from tests.sessions.profiles.serving import BreakableStore, Served, Waiting, served
from tests.waiting import until

pytestmark = pytest.mark.anyio


def problem(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    fields: dict[str, Any] = response.json()
    assert fields["status"] == status
    return str(fields["detail"])


def files_of(zipped: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != zips.LAST}


@pytest.fixture
async def site(store: Store, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(store, tmp_path / "data") as site:
        yield site


@pytest.fixture
def made(tmp_path: Path) -> bytes:
    return zipped(profile(tmp_path / "source", size=100_000), tmp_path / "a.zip")


@pytest.fixture
def other(tmp_path: Path) -> bytes:
    return zipped(profile(tmp_path / "other", size=2_500_000, seed=2), tmp_path / "b.zip")


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """A disk that is full for every file beyond it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_told_and_loses_nothing(site: Served, made: bytes, other: bytes) -> None:
    fence = (await site.client.start())["fence"]
    await site.client.put(made, fence)
    with files_at_most(50_000):
        for refused in (await site.client.put(other, fence), await site.client.call("GET")):
            assert problem(refused, 507) == (
                "the disk of the gateway's data folder is full, or nearly: make room there (data in policies.yaml)"
            )
        problem(await site.client.call("POST"), 507)
    assert site.leftovers() == []
    assert (await site.client.put(other, fence)).json()["generation"] == 2, "the start that failed took no fence"
    assert files_of((await site.client.call("GET")).content) == files_of(other)


async def test_a_disk_that_would_be_too_full_for_others_is_told_before_it_is(
    site: Served, store: Store, made: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = (await site.client.start())["fence"]
    monkeypatch.setattr(space, "_MOST", 2**70)
    monkeypatch.setattr(space, "_SHARE", 1)
    assert problem(await site.client.put(made, fence), 507).startswith("the disk of the gateway's data folder is full")
    assert [(one.kind, one.session) for one in await troubles.known(store)] == [("save", "s1")]
    monkeypatch.undo()
    assert (await site.client.put(made, fence)).status_code == 201
    assert await troubles.known(store) == []


async def test_a_full_store_is_told_and_loses_nothing(site: Served, store: Store, made: bytes, other: bytes) -> None:
    fence = (await site.client.start())["fence"]
    await site.client.put(made, fence)
    before = (await store.redis.config_get("maxmemory"))["maxmemory"]
    await store.redis.config_set("maxmemory", "1000")
    try:
        refused = await site.client.put(other, fence)
    finally:
        await store.redis.config_set("maxmemory", before)
    assert problem(refused, 507) == "the store is full: give it more memory or disk, or prune the vault"
    assert files_of((await site.client.call("GET")).content) == files_of(made)
    assert (await site.client.put(other, fence)).status_code == 201


async def test_a_store_that_goes_away_at_any_step_of_a_save_loses_nothing(
    store_url: str, tmp_path: Path, made: bytes, other: bytes
) -> None:
    async with BreakableStore(store_url.removeprefix("unix://")) as between:
        store = Store(between.url, timeout=2.0)
        async with served(store, tmp_path / "data") as site:
            fence = (await site.client.start())["fence"]
            await site.client.put(made, fence)
            kept, step, broke = made, 0, True
            while broke:
                step += 1
                wanted = other if kept is made else made
                between.break_after(step)
                answer = await site.client.put(wanted, fence)
                broke = between.mend()
                if broke and answer.status_code != 201:
                    assert problem(answer, 503).startswith("the store does not answer; try again")
                assert site.leftovers() == []
                found = files_of((await site.client.call("GET")).content)
                assert found in (files_of(kept), files_of(wanted))
                assert answer.status_code != 201 or found == files_of(wanted)
                kept = made if found == files_of(made) else other
            assert step > 5
        await store.close()


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "DELETE"])
async def test_a_store_that_goes_away_is_never_taken_for_no_login(
    store_url: str, tmp_path: Path, made: bytes, method: str
) -> None:
    async with BreakableStore(store_url.removeprefix("unix://")) as between:
        store = Store(between.url, timeout=2.0)
        async with served(store, tmp_path / "data") as site:
            fence = (await site.client.start())["fence"]
            await site.client.put(made, fence)
            for step in range(1, 30):
                between.break_after(step)
                answer = await site.client.call(method, fence=fence if method == "DELETE" else None)
                if not between.mend():
                    break
                assert answer.status_code in (200, 503), answer.text
                assert site.leftovers() == []
                if method == "POST" and answer.status_code == 200:
                    assert answer.json()["generation"] == 1
            else:
                raise AssertionError("it never ends")
        await store.close()


async def test_a_chunk_that_is_gone_falls_back_and_says_so(
    site: Served, store: Store, made: bytes, other: bytes, tmp_path: Path
) -> None:
    fence = (await site.client.start())["fence"]
    await site.client.put(made, fence)
    await site.client.put(other, fence)
    manifest = await site.vault.verify("s1", 2)
    chunk = next(chunk for chunk in manifest.chunks if chunk.of == 2)
    await InStore(store).erase("s1", [(chunk.of, chunk.name)])
    began = await site.client.start()
    assert (began["generation"], began["skipped"]) == (1, [f"generation 2: chunk {chunk.name} is missing"])
    answer = await site.client.call("GET", If_Match='"1"')
    assert (answer.headers["etag"], files_of(answer.content)) == ('"1"', files_of(made))
    assert (await site.client.call("GET")).headers["etag"] == '"1"'
    said = problem(await site.client.call("GET", If_Match='"2"'), 500)
    assert said.startswith(f"no generation of session s1 can be restored: chunk {chunk.name} is missing; nothing was")


async def test_a_start_that_can_restore_nothing_is_none(store: Store, made: bytes, tmp_path: Path) -> None:
    async with served(store, tmp_path / "old", secrets=[OLD]) as site:
        fence = (await site.client.start())["fence"]
        await site.client.put(made, fence)
    async with served(store, tmp_path / "new") as site:
        assert "name the old key behind the new one" in problem(await site.client.call("POST"), 500)
        assert (await site.client.call("HEAD")).status_code == 200
        assert (await site.client.put(made, fence)).status_code == 201, "it took no fence from the one that runs"
        assert (await site.client.start())["generation"] == 2


async def test_two_work_at_a_time_the_others_wait_and_there_is_an_end_to_that(
    store: Store, tmp_path: Path, made: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:

    contents = Waiting(InStore(store))
    async with served(store, tmp_path / "data", contents) as site:
        fences = [(await site.client.start(f"s{n}"))["fence"] for n in range(transfers.OPEN + 1)]
        contents.opened.clear()
        saving = [
            asyncio.create_task(site.client.put(made, fence, f"s{n}"))
            for n, fence in enumerate(fences[: transfers.OPEN])
        ]
        await until(lambda: (site.transfers.open, contents.waiting) == (transfers.OPEN, transfers.AT_WORK))
        refused = await site.client.put(made, fences[-1], f"s{transfers.OPEN}")
        assert problem(refused, 503) == "8 transfers of profiles are under way in this process; try again"
        assert refused.headers["retry-after"] == "5"
        assert (await site.client.call("HEAD", "s0")).status_code == 404, "what needs no room is answered"
        contents.opened.set()
        assert {(await answer).status_code for answer in saving} == {201}

        monkeypatch.setattr(transfers, "WAIT", 0.2)
        contents.opened.clear()
        saving = [asyncio.create_task(site.client.put(made + b"", fences[n], f"s{n}")) for n in range(2)]
        await until(lambda: contents.waiting == transfers.AT_WORK)
        assert problem(await site.client.put(made, fences[2], "s2"), 503) == (
            "2 profiles are packed or unpacked, and others wait; try again"
        )
        contents.opened.set()
        assert {(await answer).status_code for answer in saving} == {201}
        assert site.transfers.open == 0


@pytest.mark.slow
async def test_two_starts_that_save_one_session_200_times_leave_one_whole_generation(
    site: Served, tmp_path: Path
) -> None:
    sources = [profile(tmp_path / f"source{n}", size=150_000, seed=n) for n in range(2)]
    zips = [zipped(source, tmp_path / f"{n}.zip") for n, source in enumerate(sources)]
    logins = [files_of(one) for one in zips]
    statuses: set[int] = set()

    async def worker(number: int) -> None:
        for step in range(100):
            if step % 7 == 0:
                fence = (await site.client.start())["fence"]
            answer = await site.client.put(zips[number], fence)
            assert answer.status_code in (201, 409), answer.text
            statuses.add(answer.status_code)

    async def reader(done: asyncio.Event) -> None:
        while not done.is_set():
            answer = await site.client.call("GET")
            if answer.status_code == 200:
                assert files_of(answer.content) in logins
            else:
                assert answer.headers.get("x-sluice-reason") == "none", answer.text

    done = asyncio.Event()
    reading = asyncio.create_task(reader(done))
    await asyncio.gather(worker(0), worker(1))
    done.set()
    await reading
    assert statuses == {201, 409}
    began = await site.client.start()
    assert began["skipped"] == []
    assert files_of((await site.client.call("GET")).content) in logins
    assert site.leftovers() == []


async def test_saves_of_one_start_that_come_at_once_do_not_refuse_each_other(
    store: Store, tmp_path: Path, made: bytes, other: bytes
) -> None:
    """A client that has waited too long sends its save again, and the first one is still at work."""
    contents = Waiting(InStore(store))
    async with served(store, tmp_path / "data", contents) as site:
        fence = (await site.client.start())["fence"]
        held = contents.opened
        held.clear()
        first = asyncio.create_task(site.client.put(made, fence))
        await until(lambda: contents.waiting == 1)
        contents.opened = asyncio.Event()
        contents.opened.set()
        second = asyncio.create_task(site.client.put(other, fence))
        await asyncio.wait([second], timeout=0.5)
        held.set()
        assert [(await one).json().get("generation") for one in (first, second)] == [1, 2]
        assert files_of((await site.client.call("GET")).content) == files_of(other)
        assert await troubles.known(store) == []


async def test_what_a_process_left_is_swept_and_what_another_uses_is_not(tmp_path: Path) -> None:
    one, two = transfers.Transfers(tmp_path), transfers.Transfers(tmp_path)
    dead = tmp_path / transfers.FOLDER / "dead" / "profile"
    dead.mkdir(parents=True)
    (dead / "000003.log").write_bytes(b"a login")
    async with one.folder() as folder:
        (folder / "x").write_bytes(b"y")
        two.sweep()
        assert (folder / "x").exists()
        assert not dead.parent.exists()
    assert not folder.exists()
    one.close()
    assert list((tmp_path / transfers.FOLDER).iterdir()) == []


async def test_nothing_of_a_secret_or_a_login_is_logged(site: Served, made: bytes, heard: Heard) -> None:
    fence = (await site.client.start())["fence"]
    await site.client.put(made, fence, X_Sluice_Client="whatsapp-web.js 1.34.7")
    await site.client.put(b"not a zip", fence)
    await site.client.put(made, "1")
    said = [(message, fields["session"], fields["status"], fields["why"]) for message, fields in heard.lines]
    assert ("profile.refused", "s1", 400, "the zip is cut or broken: file is not a zip file") in said
    assert [status for message, _, status, _ in said if message == "profile.refused"] == [400, 409]
    assert ("profile.saved", "s1", None, None) in said
    secret = SIGNATURE.secret.reveal().decode()
    assert not any(secret in repr(line) or "v1=" in repr(line) for line in heard.lines)


async def test_what_is_refused_is_noted_for_status_and_strangers_note_nothing(
    site: Served, made: bytes, store: Store
) -> None:
    older = (await site.client.start())["fence"]
    fence = (await site.client.start())["fence"]
    problem(await site.client.put(made[:-100], fence), 400)
    problem(await site.client.put(made, older), 409)
    problem(await site.client.call("DELETE", fence=older), 409)
    ((kind, times, reason), broken) = [(one.kind, one.times, one.reason) for one in await troubles.known(store)]
    assert (kind, times, reason) == ("stale", 2, "a save or a delete of an older start was refused")
    assert broken[:2] == ("save", 1)
    stranger = await site.client.http.put("/_sluice/vault/s9", content=made)
    assert stranger.status_code in (400, 401)
    assert {one.session for one in await troubles.known(store)} == {"s1"}
    assert (await site.client.put(made, fence)).status_code == 201
    assert [one.kind for one in await troubles.known(store)] == ["stale"], "a save that goes well ends what was met"
