"""`sluice sessions create`, `qr`, `pair`, `logout` and `delete` with a worker on a real port: what a person reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from sessions.registry import Registry, Worker
from sluice.console.operations import API
from sluice.store.client import Store
from tests.sluice.cli.command import Ran, sluice
from tests.sluice.console.contract_worker import ContractWorker, picture, serving
from tests.sluice.console.deployment import parts_on, policies_in
from tests.sluice.console.test_http import BEARER, served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "here.yaml"
    file.write_text(f'version: 1\nstore: {{url: "{store_url}"}}\n')
    return file


@pytest.fixture
async def worker(store: Store) -> AsyncIterator[ContractWorker]:
    async with serving(ContractWorker(ours=True)) as worker:
        await Registry(store, 60.0).register(Worker("w1", "1", worker.url, 5))
        yield worker


@pytest.fixture
async def http(store: Store, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(parts_on(store, policies_in(tmp_path))) as http:
        yield http


async def ran(*arguments: object) -> Ran:
    """While the worker goes on."""
    return await asyncio.to_thread(sluice, "sessions", *arguments)


async def test_a_session_is_created_linked_and_closed(
    worker: ContractWorker, policies: Path, tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    here = ("--policies", policies)
    planned = await ran("create", "s1", "--workspace", "7", "--dry-run", *here)
    assert planned == Ran(0, "s1 would be created, at the worker with the most room\n", "")
    created = await ran("create", "s1", "--workspace", "7", *here)
    assert created == Ran(0, "s1 is created at w1: qr_scanning\n", "")
    saved = await ran("qr", "s1", "--out", tmp_path / "code.png", *here)
    assert saved == Ran(0, f"{tmp_path}/code.png: scan it within a minute; another one follows\n", "")
    assert (tmp_path / "code.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((await ran("qr", "s1", "--json", *here)).out)
    assert told == {"session": "s1", "worker": "w1", "state": "qr_scanning", "code": picture(2), "why": None}
    assert (await http.get(f"{API}/qr/s1", headers=BEARER)).json() == {**told, "code": picture(3)}
    paired = await ran("pair", "s1", "--phone", "4917012345", *here)
    assert paired == Ran(0, "ABCD-1234: on the phone, under Linked devices, Link with phone number\n", "")
    by_api = await http.post(f"{API}/pairing/s1", json={"phone": "4917012345"}, headers=BEARER)
    assert json.loads((await ran("pair", "s1", "--phone", "4917012345", "--json", *here)).out) == by_api.json()
    unsure = await ran("logout", "s1", *here)
    assert unsure.out == "w1 would log s1 out; it needs a new QR code then\n"
    assert (unsure.code, unsure.err) == (1, "sluice: nothing was logged out; say yes, or give --yes\n")
    assert await ran("logout", "s1", "--yes", *here) == Ran(0, "w1 has logged s1 out\n", "")
    unsure = await ran("delete", "s1", *here)
    assert unsure.out == "s1 would be deleted, with its history; w1 closes it first\n"
    assert (unsure.code, unsure.err) == (1, "sluice: nothing was deleted; say yes, or give --yes\n")
    assert await ran("delete", "s1", "--yes", *here) == Ran(0, "deleted: s1\n", "")
    assert (await ran("list", *here)).out == "no sessions\n"


async def test_what_cannot_be_done_is_told(worker: ContractWorker, policies: Path) -> None:
    here = ("--policies", policies)
    await ran("create", "s1", "--workspace", "7", *here)
    nowhere = "sluice: say with --out FILE where the picture goes, or with --json that it is to be printed\n"
    assert await ran("qr", "s1", *here) == Ran(2, "", nowhere)
    unwritable = await ran("qr", "s1", "--out", "/proc/none/x.png", *here)
    assert unwritable == Ran(2, "", "sluice: /proc/none/x.png cannot be written: no such file or directory\n")
    worker.scan("s1", "49170")
    none = await ran("qr", "s1", "--out", "x.png", *here)
    assert none == Ran(2, "", "sluice: there is no code of s1: it is connected, and needs none\n")
