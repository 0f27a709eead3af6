"""Every part of Sluice on stores of several servers, as the user that docs/store.md describes and with nothing more."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from relay.queue.inbox import Inbox
from relay.queue.queue import Queue
from sessions.changes import Change, Changes, Everything
from sessions.registry import Registry, Worker
from sluice.process.loops import Stop
from sluice.store.client import Store, StoreAway, StoreRefused
from sluice.store.durability import broken
from sluice.store.health import health_of
from sluice.store.scan import scan
from tests.authority import Authority
from tests.ports import free_ports
from tests.relay.making import event
from tests.sluice.store.store_deployments import Program, Servers, cluster, redis, single, valkey, watched
from tests.store_user import BACKUP, CLUSTER, DATABASE, MASTER, NAME, REPLICA, RESTORE, SENTINELS, rights
from tests.test_store_keys import (
    ROOT,
    Use,
    documented,
    use_alerts,
    use_circuit,
    use_endpoints,
    use_history,
    use_limits,
    use_queues,
    use_sends,
    use_sessions,
    use_vault,
    use_worker,
)
from tests.waiting import until

KEPT = ("--appendonly", "yes")
DEPLOYMENTS = {
    "cluster of redis over TLS": (cluster, redis),
    "sentinel and redis over TLS": (watched, redis),
    "cluster of valkey": (cluster, lambda _: valkey()),
    "sentinel and valkey": (watched, lambda _: valkey()),
}
# --- that they are enough


@pytest.fixture(scope="module", params=DEPLOYMENTS)
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    make, program = DEPLOYMENTS[request.param]
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sluice-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = stack.enter_context(free_ports())
        servers = stack.enter_context(make(folder, port, program(folder), *KEPT))
        servers.allow(rights() + rights(CLUSTER if servers.sentinel is None else MASTER, REPLICA), rights(SENTINELS))
        yield servers


@pytest.fixture
async def store(servers: Servers) -> AsyncIterator[Store]:
    store = Store(servers.url, timeout=10.0)
    yield store
    await store.close()


class Seen(Use):
    async def look(self) -> None:
        self.seen.update([key.decode() async for key in scan(self.store, "sl:*")])


async def use_listening(use: Use) -> None:
    queue = Queue(use.store, "laravel", lease=30.0, max_bytes=10**6, max_events=100)
    async with use.store.redis.pubsub(ignore_subscribe_messages=True) as ear:
        await ear.subscribe(queue.channel)

        async def heard() -> bool:
            await Inbox(use.store).accept(event("a"), [queue.destination])
            return await ear.get_message(timeout=0.2) is not None

        await until(heard, timeout=30)


async def use_promise(use: Use) -> None:
    queue = Queue(use.store, "laravel", lease=30.0, max_bytes=10**6, max_events=100)
    inbox = Inbox(use.store, replicas=1, replicas_within=10.0)
    for number in range(20):
        assert (await inbox.accept(event(f"s{number}"), [queue.destination])).replicas == 1
    assert await broken(use.store, "replica") == []
    assert (await health_of(use.store)).appends


async def use_changes(use: Use) -> None:
    changes, stop, heard = Changes(use.store), Stop(), list[Change | Everything]()
    changes.subscribe(heard.append)
    registry = Registry(use.store, 60.0)
    await registry.register(Worker("w", "1", "http://w:3000", 10))
    async with asyncio.TaskGroup() as group:
        group.create_task(changes.run(stop))
        await until(lambda: heard, timeout=30)
        await registry.assign({"heard": ("w", {})})
        await until(lambda: any(isinstance(each, Change) for each in heard), timeout=30)
        stop.request()


PARTS: dict[str, Callable[[Use], Awaitable[None]]] = {
    "relay": use_queues,
    "endpoints of an earlier version": use_endpoints,
    "circuits and presence": use_circuit,
    "limits": use_limits,
    "outbox": use_sends,
    "ids of a worker": use_worker,
    "history": use_history,
    "alerts": use_alerts,
    "vault": use_vault,
    "registry": use_sessions,
    "wakeups": use_listening,
    "changes of owners": use_changes,
    "promise and health": use_promise,
}


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
async def test_each_part_runs_on_each_store_with_the_rights_of_the_documentation(
    servers: Servers, store: Store, part: str
) -> None:
    use = Seen(store, set())
    await PARTS[part](use)
    assert servers.denied() == []


# --- that they are the least


@pytest.mark.anyio
async def test_no_right_is_missing_and_none_is_needless(store_url: str) -> None:
    """In either direction, so it fails as soon as a script calls what no script called before."""
    client = Store(store_url, timeout=5.0)
    (listed,) = await client.commands(("COMMAND", "LIST"))
    await client.close()
    known = {name.decode() for name in listed}
    called = _quoted(r"'([A-Z]+)'", "*.lua") | _quoted(r'\(\s*"([A-Z]+)"\s*,', "*.py")
    used = ({name.lower() for name in called} & known) - OF_HTTP_TOO - {"auth", "sentinel", *PARENTS} | PARENTS_USED
    granted = rights() + rights(CLUSTER, MASTER, REPLICA, DATABASE, NAME, BACKUP, RESTORE)
    assert sorted(right[1:] for right in granted if right[0] == "+") == sorted(used | {"subscribe"})


PARENTS = {"client", "cluster", "config"}
PARENTS_USED = {"client|setname", "cluster|info", "cluster|slots", "config|get"}
OF_HTTP_TOO = {"object"}
"""Words that are commands and something else."""


def _quoted(pattern: str, files: str) -> set[str]:
    rooms = [ROOT / room for room in ("gateway", "relay", "sessions", "sluice")]
    return {name for room in rooms for file in room.rglob(files) for name in re.findall(pattern, file.read_text())}


def test_our_keys_and_channels_are_all_below_what_is_granted() -> None:
    assert [right for right in rights() if right[0] in "~&"] == ["~sl:*", "&sl:wake:*"]
    for row in documented():
        assert row.pattern.startswith("sl:wake:" if row.is_channel else "sl:")


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("program", [valkey, redis], ids=["valkey", "redis"])
async def test_a_database_and_a_name_of_the_url_need_the_rights_that_the_page_says(
    program: Callable[[], Program], short_folder: Path, free_port: Callable[[], int]
) -> None:
    with single(short_folder, free_port, program()) as servers:
        url = servers.url.replace("/0", "/3") + "?client_name=gate"
        servers.allow(rights() + rights(DATABASE), ())
        with pytest.raises(StoreAway) as refused:
            await _ping(url)
        assert "refused CLIENT: NOPERM " in str(refused.value)
        assert str(refused.value).endswith(CURE)
        servers.allow(rights() + rights(DATABASE, NAME), ())
        await _ping(url)


# --- what is wrong is said with its cure

CURE = ": give its user the rights that docs/store.md lists (ACL LOG there says which one it lacks)"


async def _ping(url: str) -> None:
    store = Store(url, timeout=5.0)
    try:
        await store.ping()
    finally:
        await store.close()


async def _why(url: str) -> str:
    with pytest.raises(StoreAway) as refused:
        await _ping(url)
    return str(refused.value)


@pytest.mark.anyio
@pytest.mark.slow
async def test_each_mistake_of_tls_and_login_is_told_with_what_helps(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    with single(short_folder, free_port, redis(short_folder)) as servers:
        servers.allow(rights(), ())
        port = servers.all[0].port
        await _ping(servers.url)
        begin = f"no connection to 127.0.0.1:{port}: its certificate is not trusted: "
        trust = "name its authority in store.url (?ssl_ca_certs=/path/to/ca.pem)"
        bare = servers.url.partition("?")[0]
        assert await _why(bare) == f"{begin}self-signed certificate in certificate chain; {trust}"
        other = Authority(short_folder, "another").cert
        assert (
            await _why(f"{bare}?ssl_ca_certs={other}")
            == f"{begin}self-signed certificate in certificate chain; {trust}"
        )
        assert await _why(servers.url.replace("127.0.0.1", "localhost")) == (
            f"no connection to localhost:{port}: its certificate is not trusted: Hostname mismatch, certificate is not "
            "valid for 'localhost'; write a host into store.url that it is for, or put that one among its "
            "subjectAltName"
        )
        assert await _why(servers.url.replace("p%40ss%20word", "s3cret")) == (
            f"127.0.0.1:{port} refused AUTH: WRONGPASS invalid username-password pair or user is disabled: "
            "correct user and password in store.url"
        )


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_store_without_tls_and_one_that_wants_a_login_say_so(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    with single(short_folder, free_port, valkey()) as servers:
        port = servers.all[0].port
        assert await _why(f"rediss://127.0.0.1:{port}/0") == (
            f"no TLS with 127.0.0.1:{port} within 5 s; where it speaks none, write redis:// instead of rediss://"
        )
        servers.all[0].tell("ACL", "SETUSER", "default", "resetpass", ">s3cret")
        with pytest.raises(StoreRefused) as refused:
            await _ping(f"redis://127.0.0.1:{port}/0")
        assert str(refused.value) == (
            "NOAUTH Authentication required: write both into store.url, "
            "redis://user:password@host (its characters percent-encoded)"
        )


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("program", [valkey, redis], ids=["valkey", "redis"])
@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("-ping", "run the 'ping' command"),
        ("-evalsha", "run the 'evalsha' command"),
        ("-hset", "script"),
        ("resetkeys", "key"),
    ],
)
async def test_a_user_with_too_few_rights_is_told_which_and_where_they_stand(
    program: Callable[[], Program], without: str, said: str, short_folder: Path, free_port: Callable[[], int]
) -> None:
    with single(short_folder, free_port, program()) as servers:
        servers.allow([*rights(), without], ())
        store = Store(servers.url, timeout=5.0)

        async def asks() -> None:
            await store.ping()
            await use_sessions(Seen(store, set()))

        with pytest.raises(StoreRefused) as refused:
            await asks()
        await store.close()
        assert said in str(refused.value)
        assert str(refused.value).endswith(CURE)
