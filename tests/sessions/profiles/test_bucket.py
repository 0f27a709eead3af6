"""An S3 server as they are: slow, full of errors, cut off in the middle, without the bucket, refusing credentials."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sessions.profiles import bucket as buckets
from sessions.profiles.errors import Broken, ContentsAway
from sessions.profiles.policies import Bucket
from sessions.profiles.sealing import LONGEST
from sessions.profiles.vault import Restored
from sluice.store.client import Store
from tests.sessions.profiles.making import contents, profile
from tests.sessions.profiles.places import contents_in, new_bucket
from tests.sessions.profiles.saving import login, make, save

pytestmark = pytest.mark.anyio

_HEAD = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nLast-Modified: Mon, 30 Nov 2026 01:00:00 GMT\r\nContent-Length: %d\r\n\r\n'
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Between:
    """Stands between us and the server: the first `times` requests whose method fits get `answer` in its place."""

    server: str
    method: bytes = b""
    times: int = 0
    answer: Answer | None = None
    met: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            self.met.append(head.split(b" ", 2)[0])
            if self.answer and self.times and head.startswith(self.method):
                self.times -= 1
                await self.answer(writer)
                return
            parts = urlsplit(self.server)
            there, back = await asyncio.open_connection(parts.hostname, parts.port)
            back.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await asyncio.gather(pipe(reader, back), pipe(there, writer))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError), contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def slow_down(writer: asyncio.StreamWriter) -> None:
    body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    writer.write(b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()


async def cut_off(writer: asyncio.StreamWriter) -> None:
    """In the middle of the content."""
    head = (
        b'HTTP/1.1 200 OK\r\nETag: "a"\r\nLast-Modified: Mon, 30 Nov 2026 01:00:00 GMT\r\nContent-Length: 1000\r\n\r\n'
    )
    writer.write(head + b"x" * 500)
    await writer.drain()


async def nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def too_much(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD % (LONGEST + 1) + b"x" * 500)
    await writer.drain()


@pytest.fixture
async def between(s3: str) -> AsyncIterator[tuple[Between, Bucket]]:
    proxy = Between(s3)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield proxy, replace(new_bucket(s3), endpoint=f"http://127.0.0.1:{port}")
    server.close()


async def test_a_server_that_asks_to_slow_down_is_asked_again(
    store: Store, between: tuple[Between, Bucket], tmp_path: Path
) -> None:
    proxy, bucket = between
    proxy.method, proxy.times, proxy.answer = b"PUT", 2, slow_down
    source = profile(tmp_path / "source", size=10)
    await save(make(store, contents_in(bucket, store)), source)
    assert proxy.times == 0
    assert isinstance(await make(store, contents_in(bucket, store)).restore("s1", tmp_path / "target"), Restored)
    assert contents(tmp_path / "target") == login(source)


async def test_a_server_that_goes_on_asking_is_told_of_and_nothing_is_lost(
    store: Store, between: tuple[Between, Bucket], tmp_path: Path
) -> None:
    proxy, bucket = between
    vault = make(store, contents_in(bucket, store))
    first = profile(tmp_path / "first", size=10)
    await save(vault, first)
    proxy.method, proxy.times, proxy.answer = b"PUT", 10**6, slow_down
    with pytest.raises(ContentsAway) as caught:
        await save(vault, profile(tmp_path / "second", size=10, seed=2))
    assert str(caught.value) == (f"the vault in {bucket} cannot be written: SlowDown (Please reduce your request rate)")
    await vault.restore("s1", tmp_path / "target")
    assert contents(tmp_path / "target") == login(first)


async def test_an_answer_that_is_cut_off_in_the_middle_is_no_broken_chunk(
    store: Store, between: tuple[Between, Bucket], tmp_path: Path
) -> None:
    """A generation that is whole must not be passed over for it."""
    proxy, bucket = between
    vault = make(store, contents_in(bucket, store))
    source = profile(tmp_path / "source", size=10)
    await save(vault, source)
    proxy.method, proxy.times, proxy.answer = b"GET", 1, cut_off
    with contextlib.suppress(ContentsAway):  # the library may ask again for the rest, or give up
        await vault.restore("s1", tmp_path / "target")
    assert proxy.times == 0
    found = await vault.restore("s1", tmp_path / "target")
    assert isinstance(found, Restored)
    assert (found.generation.number, found.skipped) == (1, ())
    assert contents(tmp_path / "target") == login(source)


async def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(
    store: Store, between: tuple[Between, Bucket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_TIMEOUT", 0.5)
    proxy, bucket = between
    proxy.method, proxy.times, proxy.answer = b"PUT", 10**6, nothing
    with pytest.raises(ContentsAway, match=r"^the vault in s3://.* cannot be written: no answer within 0.5 s$"):
        await save(make(store, contents_in(bucket, store)), profile(tmp_path / "source", size=10))


async def test_an_object_that_is_too_large_to_be_ours_is_not_read(
    store: Store, between: tuple[Between, Bucket], tmp_path: Path
) -> None:
    proxy, bucket = between
    place = contents_in(bucket, store)
    await place.put("s1", 1, "0" * 32, b"sealed")
    proxy.method, proxy.times, proxy.answer = b"GET", 1, too_much
    with pytest.raises(Broken, match="bytes, over"):
        await place.get("s1", 1, "0" * 32)


async def test_a_bucket_that_is_not_there_is_no_missing_chunk(store: Store, s3: str, tmp_path: Path) -> None:
    place = contents_in(Bucket("nowhere", "", s3, "us-east-1"), store)
    message = (
        r"^the vault in s3://nowhere cannot be read: NoSuchBucket \(The specified bucket does not exist\): "
        r"make the bucket, or correct sessions.vault.url$"
    )
    with pytest.raises(ContentsAway, match=message):
        await place.get("s1", 1, "0" * 32)
    with pytest.raises(ContentsAway, match="NoSuchBucket"):
        await place.put("s1", 1, "0" * 32, b"sealed")
    with pytest.raises(ContentsAway, match="NoSuchBucket"):
        await place.lying("s1")


async def test_nobody_who_listens_is_told(store: Store, free_port: Callable[[], int]) -> None:
    place = contents_in(Bucket("vault", "", f"http://127.0.0.1:{free_port()}", "us-east-1"), store)
    with pytest.raises(ContentsAway, match="^the vault in s3://vault cannot be read: "):
        await place.get("s1", 1, "0" * 32)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
async def test_credentials_that_are_refused_are_told_with_what_to_look_at(
    store: Store, between: tuple[Between, Bucket], code: str
) -> None:
    async def refuse(writer: asyncio.StreamWriter) -> None:
        body = b"<Error><Code>%b</Code><Message>No.\x1b[31m</Message></Error>" % code.encode()
        writer.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    proxy, bucket = between
    proxy.times, proxy.answer = 10**6, refuse
    with pytest.raises(ContentsAway) as caught:
        await contents_in(bucket, store).put("s1", 1, "0" * 32, b"sealed")
    assert code in str(caught.value)
    assert "see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_a_bucket_that_lists_late_loses_nothing(
    store: Store, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not list yet is swept another time; what it still lists is erased twice."""
    place = contents_in(new_bucket(s3), store)
    vault, source = make(store, place), profile(tmp_path / "source", size=10)
    lists: list[dict[tuple[int, str], int]] = [{}]
    now = place.lying

    async def late(session: str) -> dict[tuple[int, str], int]:
        lists.append(await now(session))
        return lists[-2]

    monkeypatch.setattr(place, "lying", late)
    for number in range(6):
        (source / "Default/Cookies").write_bytes(b"cookies %d" % number)
        await save(vault, source)
    for number in (4, 5, 6):
        await vault.verify("s1", number)
    await vault.restore("s1", tmp_path / "target")
    assert contents(tmp_path / "target") == login(source)
