"""The vault over HTTP, on a whole gateway: what each call does, and what each mistake is answered."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import random
import re
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sessions.profiles import transfers, uploads, zips
from sluice.config import Secret, Signature
from sluice.store.client import Store
from tests.gateway.running import POLICIES, Gate, Receiver, gateway, values
from tests.sessions.profiles.calling import VaultClient, signed, zipped
from tests.sessions.profiles.making import LEVELDB, contents, manifest, profile
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]
WITH_VAULT = POLICIES.replace(
    "sessions: {{lease: 15s, verify: workers}}",
    "sessions: {{lease: 15s, verify: workers, vault: {{key: env:VAULT_KEY, generations: 3}}}}",
)


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=WITH_VAULT) as gate:
        yield gate


@pytest.fixture
def vault(gate: Gate) -> VaultClient:
    return VaultClient(gate.http)


def problem(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    fields: dict[str, Any] = response.json()
    assert (fields["status"], fields["type"]) == (status, "about:blank")
    assert fields.get("reason") == response.headers.get("x-sluice-reason")
    return str(fields["detail"])


def files_of(zipped: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != zips.LAST}


def trees(folder: Path) -> dict[str, bytes]:
    """What RemoteAuth keeps of a profile."""
    kept = ("Default/IndexedDB/", "Default/Local Storage/")
    return {
        name: data
        for name, data in contents(folder).items()
        if name.startswith(kept) and not name.endswith(("/LOCK", "/LOG"))
    }


def leftovers(gate: Gate) -> list[str]:
    """Files of transfers, but for the folder of the process."""
    base = gate.policies.data / transfers.FOLDER
    return [str(path) for path in base.glob("*/*")] if base.exists() else []


def head_of(method: str, headers: dict[str, str], length: int | None = None, more: str = "") -> bytes:
    """Of a call for s1."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    size = "" if length is None else f"Content-Length: {length}\r\n"
    return f"{method} /_sluice/vault/s1 HTTP/1.1\r\nHost: a\r\n{size}{more}{lines}\r\n".encode()


async def test_a_login_is_saved_and_comes_back(vault: VaultClient, gate: Gate, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    began = await vault.start()
    assert {**began, "fence": ""} == {
        "fence": "",
        "generation": None,
        "deleted": None,
        "size": 0,
        "made": None,
        "browser": "",
        "backend": "",
        "skipped": [],
    }
    said = {"X_Sluice_Browser": "Chromium 156.0.8078.79", "X_Sluice_Client": "whatsapp-web.js 1.34.7"}
    saved = await vault.put(zipped(source, tmp_path / "a.zip"), began["fence"], **said)
    assert (saved.status_code, saved.headers["etag"]) == (201, '"1"'), saved.text
    size = sum(len(data) for data in trees(source).values())
    assert {**saved.json(), "new": 0} == {"generation": 1, "size": size, "new": 0}

    head = await vault.call("HEAD")
    assert (head.status_code, head.headers["etag"], head.content) == (200, '"1"', b"")
    assert head.headers["x-sluice-browser"] == "Chromium 156.0.8078.79"
    assert head.headers["x-sluice-backend"] == "leveldb"
    assert abs(float(head.headers["x-sluice-made"]) - time.time()) < 60

    again = await vault.start()
    assert int(again["fence"]) > int(began["fence"])
    assert (again["generation"], again["size"], again["backend"]) == (1, size, "leveldb")
    found = await vault.call("GET", If_Match='"1"')
    assert (found.status_code, found.headers["etag"], found.headers["content-type"]) == (200, '"1"', "application/zip")
    assert int(found.headers["content-length"]) == len(found.content)
    assert found.headers["x-sluice-content-sha256"] == hashlib.sha256(found.content).hexdigest()
    assert files_of(found.content) == trees(source)
    assert leftovers(gate) == []


async def test_only_a_deletion_and_nothing_kept_are_told_as_no_login(vault: VaultClient, tmp_path: Path) -> None:
    none = await vault.call("GET")
    assert problem(none, 404) == "no login of s1 is kept"
    assert (await vault.call("HEAD")).headers["x-sluice-reason"] == "none"
    began = await vault.start()
    assert (await vault.call("HEAD")).headers["x-sluice-reason"] == "none"
    await vault.put(zipped(profile(tmp_path / "source"), tmp_path / "a.zip"), began["fence"])
    assert (await vault.call("DELETE", fence=began["fence"])).json() == {"deleted": True}
    head = await vault.call("HEAD")
    assert (head.status_code, head.headers["x-sluice-reason"], head.content) == (404, "deleted", b"")
    assert problem(await vault.call("GET"), 404) == "the login of s1 was deleted (sluice vault undelete takes it back)"
    after = await vault.start()
    assert (after["generation"], abs(after["deleted"] - time.time()) < 60) == (None, True)
    assert (await vault.call("DELETE", "nobody", after["fence"])).json() == {"deleted": False}


async def test_a_save_after_a_deletion_is_refused_until_the_next_start(vault: VaultClient, tmp_path: Path) -> None:
    made = zipped(profile(tmp_path / "source", size=10), tmp_path / "a.zip")
    fence = (await vault.start())["fence"]
    await vault.put(made, fence)
    await vault.call("DELETE", fence=fence)
    refused = await vault.put(made, fence)
    assert problem(refused, 409).startswith(
        "the login of this session was deleted since this start, so nothing was saved"
    )
    assert refused.json()["reason"] == "deleted"
    assert (await vault.put(made, (await vault.start())["fence"])).status_code == 201


async def test_the_latest_start_wins(vault: VaultClient, tmp_path: Path) -> None:
    made = zipped(profile(tmp_path / "source", size=10), tmp_path / "a.zip")
    old, new = (await vault.start())["fence"], (await vault.start())["fence"]
    for refused in (await vault.put(made, old), await vault.call("DELETE", fence=old)):
        assert problem(refused, 409).startswith("a later start of the session has it, so nothing was changed: stop")
        assert refused.json()["reason"] == "stale"
    assert (await vault.call("HEAD")).status_code == 404
    assert (await vault.put(made, new)).status_code == 201


async def test_only_post_takes_a_fence(vault: VaultClient, store: Store, tmp_path: Path) -> None:
    made = zipped(profile(tmp_path / "source"), tmp_path / "a.zip")
    fence = (await vault.start())["fence"]
    await vault.put(made, fence)
    before = await store.redis.hget("sl:{vault}:profiles", "s1")
    for _ in range(3):
        await vault.call("HEAD")
        await vault.call("GET")
    assert await store.redis.hget("sl:{vault}:profiles", "s1") == before
    assert (await vault.put(made, fence)).status_code == 201


async def test_if_match_names_a_generation(vault: VaultClient, tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=100_000)
    fence = (await vault.start())["fence"]
    first = zipped(source, tmp_path / "1.zip")
    await vault.put(first, fence)
    assert problem(await vault.put(first, fence, If_Match='"7"'), 412) == (
        "generation 7 is not the newest one: that is 1; look at it before you replace it"
    )
    (source / LEVELDB / "000003.log").write_bytes(b"other")
    second = zipped(source, tmp_path / "2.zip")
    assert (await vault.put(second, fence, If_Match='"1"')).json()["generation"] == 2
    assert files_of((await vault.call("GET", If_Match='"1"')).content) == files_of(first), "it is kept"
    assert files_of((await vault.call("GET")).content) == files_of(second)
    assert problem(await vault.call("GET", If_Match='"9"'), 412) == (
        "generation 9 is not kept any more, but 2, 1: start the session again with POST"
    )
    for wrong in ("12", '"1", "2"', 'W/"1"', "*"):
        assert problem(await vault.call("GET", If_Match=wrong), 400) == (
            'If-Match: send one generation in quotation marks, as "12", or leave it out'
        )


async def test_what_is_not_signed_is_refused(vault: VaultClient, store: Store, tmp_path: Path) -> None:
    made = zipped(profile(tmp_path / "source", size=1000), tmp_path / "a.zip")
    fence = (await vault.start())["fence"]
    later = str(int(fence) + 1)
    digest = hashlib.sha256(made).hexdigest()
    sent = vault.signed("PUT", "s1", fence, digest)
    path = "/_sluice/vault/s1"
    stranger = signed(Signature("workers", "blazz", Secret(b"guessed"), 300.0), "PUT", "s1", fence, digest)
    wrong: list[tuple[str, str, dict[str, str], bytes]] = [
        ("PUT", path, sent | {"X-Sluice-Fence": later}, made),
        ("PUT", path, {name: value for name, value in sent.items() if name != "X-Sluice-Fence"}, made),
        ("PUT", "/_sluice/vault/s2", sent, made),
        ("DELETE", path, sent, b""),
        ("PUT", path, sent | {"X-Sluice-Content-SHA256": "0" * 64}, made),
        ("PUT", path, sent | {"X-Sluice-Timestamp": str(int(time.time()) + 1)}, made),
        ("PUT", path, stranger, made),
    ]
    for method, where, headers, body in wrong:
        said = problem(await vault.http.request(method, where, content=body, headers=headers), 401)
        assert said.startswith(f"X-Sluice-Signature does not match; check the secret, and that {method} {where}, the")
    changed = await vault.http.put(path, content=made[:-1] + b"x", headers=sent)
    assert problem(changed, 400).endswith("it was changed on its way")
    said = problem(await vault.http.get(path), 401)
    assert said.startswith("send X-Sluice-Timestamp with the unix time in seconds and X-Sluice-Signature with v1= and")
    old = vault.signed("GET", "s1", at=time.time() - 1000)
    assert re.fullmatch(
        r"X-Sluice-Timestamp is 100\ds old, 300s are allowed", problem(await vault.http.get(path, headers=old), 401)
    )
    assert (await vault.call("HEAD")).status_code == 404, "nothing of it was saved"
    assert (await vault.http.put(path, content=made, headers=sent)).status_code == 201


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        (
            {"X-Sluice-Fence": "1e9"},
            "send the number that the POST at the start of the session has answered",
        ),
        (
            {"X-Sluice-Fence": "0"},
            "send the number that the POST at the start of the session has answered",
        ),
        ({}, "is missing; POST to this path at the start of the session answers it"),
    ],
)
async def test_a_fence_that_is_none_is_told(vault: VaultClient, headers: dict[str, str], detail: str) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    sent = vault.signed("PUT", "s1", headers.get("X-Sluice-Fence"), digest)
    assert problem(await vault.http.put("/_sluice/vault/s1", content=b"x", headers=sent), 400) == (
        f"X-Sluice-Fence: {detail}"
    )


async def test_a_digest_is_needed(vault: VaultClient) -> None:
    for digest in (None, "ABC", "A" * 64):
        sent = vault.signed("PUT", "s1", "1", digest)
        said = problem(await vault.http.put("/_sluice/vault/s1", content=b"", headers=sent), 400)
        assert said == "X-Sluice-Content-SHA256: send the SHA-256 of the zip, 64 hex digits in lower case, once"


@pytest.mark.parametrize("name", ["openapi.json", "a" * 201, "a%00b", "%FF"])
async def test_a_name_that_no_session_has_is_told(vault: VaultClient, name: str) -> None:
    assert problem(await vault.call("PUT", name, "1", X_Sluice_Content_SHA256="0" * 64), 401)
    sent = vault.signed("PUT", name, "1", "0" * 64)
    assert problem(await vault.http.put(f"/_sluice/vault/{name}", headers=sent), 400).startswith(
        "the name of a session"
    )


@pytest.mark.parametrize("name", ["RemoteAuth-a_b", "caf%C3%A9", "a%20b", "%2E%2E%2Fx"])
async def test_a_name_may_be_any_that_is_printable(vault: VaultClient, gate: Gate, name: str, tmp_path: Path) -> None:
    made = zipped(profile(tmp_path / "source", size=10), tmp_path / "a.zip")
    answer = await vault.call("POST", name)
    if "%2F" in name:
        assert answer.status_code in (400, 404)
        return
    assert (await vault.put(made, answer.json()["fence"], name)).status_code == 201
    assert files_of((await vault.call("GET", name)).content) == files_of(made)


def bomb(size: int) -> bytes:
    made = io.BytesIO()
    with (
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{LEVELDB}/000005.ldb", "w") as entry,
    ):
        for _ in range(size >> 20):
            entry.write(bytes(2**20))
    return made.getvalue()


def a_zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


GOOD = {f"{LEVELDB}/CURRENT": b"MANIFEST-000001\n", f"{LEVELDB}/MANIFEST-000001": manifest()}
WRONG_ZIPS: dict[str, tuple[bytes, int, str]] = {
    "none": (b"not a zip", 400, "the zip is cut or broken: file is not a zip file"),
    "empty": (b"", 400, "the zip is cut or broken: "),
    "cut": (a_zip(GOOD)[:-30], 400, "the zip is cut or broken: "),
    "traversal": (a_zip({**GOOD, "../../up": b"y"}), 400, "'../../up' is no file of a login"),
    "absolute": (a_zip({**GOOD, "/etc/passwd": b"y"}), 400, "'/etc/passwd' is no file of a login"),
    "no login": (a_zip({"Default/Local Storage/leveldb/x": b"y"}), 400, "the zip has no Default/IndexedDB"),
    "no current": (
        a_zip({f"{LEVELDB}/000003.log": b"y"}),
        400,
        f"{LEVELDB} has no CURRENT: it was copied while its browser wrote it",
    ),
    "no manifest": (
        a_zip({f"{LEVELDB}/CURRENT": b"MANIFEST-000009\n"}),
        400,
        f"{LEVELDB} has no MANIFEST-000009, which its CURRENT names: it was copied while its browser wrote it",
    ),
    "no table": (
        a_zip({**GOOD, f"{LEVELDB}/MANIFEST-000001": manifest({7: 10}), f"{LEVELDB}/000003.log": b""}),
        400,
        f"{LEVELDB} has no whole 000007.ldb, which its MANIFEST-000001 names: it was copied while its browser wrote it",
    ),
    "torn current": (a_zip({f"{LEVELDB}/CURRENT": b"\0" * 16}), 400, f"{LEVELDB}/CURRENT names no manifest"),
    "bomb": (bomb(520 << 20), 413, "the zip would have 520 MiB unpacked; 512 MiB are taken at most"),
}


@pytest.mark.parametrize("what", WRONG_ZIPS)
async def test_a_wrong_zip_is_told_and_leaves_what_was_there(
    vault: VaultClient, gate: Gate, what: str, tmp_path: Path
) -> None:
    body, status, detail = WRONG_ZIPS[what]
    made = zipped(profile(tmp_path / "source", size=10), tmp_path / "a.zip")
    fence = (await vault.start())["fence"]
    await vault.put(made, fence)
    assert problem(await vault.put(body, fence), status).startswith(detail)
    assert files_of((await vault.call("GET")).content) == files_of(made)
    assert (await vault.call("HEAD")).headers["etag"] == '"1"'
    assert leftovers(gate) == []


async def test_a_zip_that_is_too_long_is_refused_unread(vault: VaultClient, gate: Gate) -> None:
    fence = (await vault.start())["fence"]
    sent = vault.signed("PUT", "s1", fence, "0" * 64)
    async with gate.raw(head_of("PUT", sent, (512 << 20) + 1)) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.our_server("others read on")
async def test_whatever_is_wrong_in_the_head_is_refused_unread(vault: VaultClient, gate: Gate) -> None:
    fence = (await vault.start())["fence"]
    stale = str(int(fence) - 1)
    good = vault.signed("PUT", "s1", fence, "0" * 64)
    for headers, status in (
        (good | {"X-Sluice-Signature": "v1=" + "0" * 64}, b"401"),
        (vault.signed("PUT", "s1", fence, "0" * 64, time.time() - 1000), b"401"),
        (vault.signed("PUT", "s1", stale, "0" * 64), b"409"),
        (good | {"If-Match": '"3"'}, b"412"),
    ):
        async with gate.raw(head_of("PUT", headers, 1_000_000, "Expect: 100-continue\r\n")) as client:
            assert (await client.head()).split()[1] == status


async def test_a_client_that_goes_at_any_byte_leaves_no_file_and_no_generation(
    vault: VaultClient, gate: Gate, tmp_path: Path
) -> None:
    made = zipped(profile(tmp_path / "source", size=3_000_000), tmp_path / "a.zip")
    fence = (await vault.start())["fence"]
    sent = vault.signed("PUT", "s1", fence, hashlib.sha256(made).hexdigest())
    request = head_of("PUT", sent, len(made))
    chance = random.Random(4)
    for at in [0, 1, len(made) - 1, *(chance.randrange(len(made)) for _ in range(12))]:
        async with gate.raw(request, made[:at]) as client:
            await asyncio.sleep(0.01)
            client.reset()
    assert (await vault.put(made, fence)).json()["generation"] == 1
    await until(lambda: not leftovers(gate))


async def test_a_client_that_goes_while_it_is_sent_a_profile_leaves_nothing(
    vault: VaultClient, gate: Gate, tmp_path: Path
) -> None:
    made = zipped(profile(tmp_path / "source", size=8_000_000), tmp_path / "a.zip")
    await vault.put(made, (await vault.start())["fence"])
    for _ in range(transfers.OPEN + 2):
        async with gate.raw(head_of("GET", vault.signed("GET", "s1"))) as client:
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            client.reset()

    async def answered() -> bool:
        return (await vault.call("GET")).status_code == 200

    await until(answered)
    assert leftovers(gate) == []


async def test_a_client_that_stalls_within_its_zip_is_told_and_leaves_nothing(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    made = zipped(profile(tmp_path / "source", size=100_000), tmp_path / "a.zip")
    text = WITH_VAULT + "clients: {{body: 1s}}\n"
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        vault = VaultClient(gate.http)
        fence = (await vault.start())["fence"]
        sent = vault.signed("PUT", "s1", fence, hashlib.sha256(made).hexdigest())
        async with gate.raw(head_of("PUT", sent, len(made)), made[:1000]) as client:
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 408 "), head
            length = int(values(head, b"content-length")[0])
            assert b"for 1 seconds (clients.body)" in await client.exactly(length)
        assert (await vault.put(made, fence)).status_code == 201
        assert leftovers(gate) == []


async def test_a_client_whose_zip_never_ends_is_told_and_leaves_nothing(
    vault: VaultClient, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LONGEST", 1.0)
    fence = (await vault.start())["fence"]

    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x"
            await asyncio.sleep(0.05)

    sent = vault.signed("PUT", "s1", fence, "0" * 64)
    with contextlib.suppress(httpx2.TransportError):  # it may be cut before it has read why
        answer = await vault.http.put("/_sluice/vault/s1", content=trickle(), headers=sent)
        assert problem(answer, 408).startswith("the whole zip did not come within ")
    assert (await vault.call("HEAD")).status_code == 404
    await until(lambda: not leftovers(gate))


@pytest.mark.our_server("others have no clock for it; there it ends after an hour")
async def test_a_client_that_takes_nothing_of_a_profile_is_cut_by_the_servers_own_clock(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    made = zipped(profile(tmp_path / "source", size=12_000_000), tmp_path / "a.zip")
    text = WITH_VAULT + "clients: {{send: 1s}}\n"
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate, contextlib.AsyncExitStack() as open_ones:
        vault = VaultClient(gate.http)
        await vault.put(made, (await vault.start())["fence"])
        for _ in range(transfers.OPEN):
            client = await open_ones.enter_async_context(gate.raw(head_of("GET", vault.signed("GET", "s1"))))
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            client.take_nothing()
        assert (await vault.call("GET")).status_code == 503

        async def answered() -> bool:
            return (await vault.call("GET")).status_code == 200

        await until(answered, timeout=30)


async def test_without_a_vault_its_paths_say_how_to_have_one(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        answer = await VaultClient(gate.http).call("POST")
        assert problem(answer, 404) == "there is no vault here: add sessions.vault to policies.yaml (docs/vault.md)"
        assert not (gate.policies.data / transfers.FOLDER).exists()


async def test_without_a_signature_nobody_gets_in(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    text = WITH_VAULT.replace("lease: 15s, verify: workers,", "lease: 15s,")
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        assert problem(await VaultClient(gate.http).call("POST"), 403) == (
            "neither sessions.vault.verify nor sessions.verify names a signature; set it in policies.yaml"
        )


async def test_other_methods_are_told_which_there_are(vault: VaultClient) -> None:
    answer = await vault.http.request("PATCH", "/_sluice/vault/s1")
    assert problem(answer, 405).startswith("this path takes ")
