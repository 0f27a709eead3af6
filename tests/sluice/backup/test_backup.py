"""All that lies in a store comes back, but for what must not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.outbox.results import Results
from gateway.problems import Refusal
from relay import presence
from relay.policies import OUTBOX
from relay.queue.dead_letters import DeadLetters
from relay.queue.queue import Queue, Settlement
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.generations import Generations, Written
from sessions.registry import ObservedSession, Owner, Registry, UnknownWorker, Unowned, Worker
from sluice.backup import reading, writing
from sluice.backup.file import BackupError, Header, Trailer, Writer
from sluice.backup.groups import LEFT_OUT, Groups
from sluice.backup.reading import Reading
from sluice.backup.writing import Restoring, checked, refuse_store
from sluice.store import layout, restoring
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.sluice.backup.backing_up import Lying, back_up, lying, nobody, restore
from tests.sluice.store.store_servers import Server
from tests.test_store_keys import (
    Use,
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

pytestmark = pytest.mark.anyio

USES = (
    *(use_queues, use_endpoints, use_circuit, use_limits, use_sends, use_alerts, use_vault, use_sessions),
    *(use_history, use_worker),
)
CHANGED = ("sl:{sessions}:live", "sl:{sessions}:reserved", "sl:{sessions}:fence", "sl:{vault}:fence")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works on these stores, so nobody has to be waited for."""
    monkeypatch.setattr(writing, "_SETTLED", 0.05)


@pytest.fixture
def server(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    """Another store, as on an empty machine."""
    server = Server(short_folder, free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def empty(server: Server) -> AsyncIterator[Store]:
    client = Store(server.url, timeout=10.0)
    yield client
    await client.close()


def queue(store: Store, name: str = "laravel") -> Queue:
    return Queue(store, name, lease=30.0, max_bytes=10**9, max_events=10**6)


async def poll(queue: Queue, *settled: Settlement, want: int = 100) -> list[Any]:
    queue.look_everywhere()
    return list((await queue.poll(settled, want)).leased)


def is_changed(name: str) -> bool:
    """By what makes it fit to be worked with."""
    is_of_leases = name.startswith("sl:{0") and name.endswith((":leases", ":urgent", ":normal", ":bulk", ":counts"))
    return name.startswith("sl:clock:") or name in CHANGED or is_of_leases


async def test_a_used_store_comes_back_as_it_was(store: Store, store_url: str, empty: Store, tmp_path: Path) -> None:
    await layout.check(store_url)
    for use in USES:
        await use(Use(store, set()))
    _, trailer = await back_up(store, tmp_path / "backup")
    before = {name: found for name, found in (await lying(store)).items() if name not in LEFT_OUT}
    restored = await restore(empty, tmp_path / "backup")
    after = await lying(empty)
    over = {name for name, found in before.items() if found.expires > 0 and name not in after}
    assert {name for name in before.keys() - after.keys() if not name.endswith(":leases")} == over
    assert len(over) <= restored.expired
    assert {name for name in after.keys() - before.keys() if not name.endswith(":counts")} == set()
    differ = {name for name, found in after.items() if not is_changed(name) and found != before[name]}
    assert differ == set()
    assert restored.keys == sum(trailer.keys.values())
    assert trailer.keys.keys() == {
        *("alerts", "circuits", "clocks", "events", "history", "limits", "logins", "others", "sends", "sessions")
    }


async def test_where_everything_is_small_or_large_the_same_comes_back(
    store: Store, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ENOUGH", 5000)
    monkeypatch.setattr(writing, "_ENOUGH", 5000)
    for number in range(30):
        await accept(queue(store), event(f"s{number}", body=b"x" * (number * 1000 + 1)))
        await InStore(store).put("s", 1, f"{number:032}", os.urandom(number * 500 + 1))
        await store.commands(("SET", f"sl:{{l}}:send\0{number}", os.urandom(number * 500 + 1)))
    await back_up(store, tmp_path / "backup")
    before = await lying(store)
    await restore(empty, tmp_path / "backup")
    after = await lying(empty)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name) and not is_changed(name)} == set()


async def test_events_that_come_and_go_while_it_is_read_are_each_in_exactly_one_place(
    store: Store, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted before is delivered before or waits in the backup; no entry is without its event."""
    monkeypatch.setattr(reading, "_FIELDS_AT_ONCE", 7)  # so that it takes long enough
    laravel, ended, delivered = queue(store), asyncio.Event(), set[str]()
    accepted = [(await accept(laravel, event(f"s{number % 40}"))).id for number in range(400)]

    async def come() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            await accept(laravel, event(f"n{number % 40}"))

    async def go() -> None:
        settled: list[Settlement] = []
        while not ended.is_set():
            leased = await poll(laravel, *settled, want=1)
            delivered.update(one.delivery.id for one in settled)
            settled = [Settlement(one, "delivered", 0, "200 1") for one in leased]

    async with asyncio.TaskGroup() as group:
        group.create_task(come())
        group.create_task(go())
        await back_up(store, tmp_path / "backup")
        ended.set()
    await restore(empty, tmp_path / "backup")
    again = queue(empty)
    restored, leased = list[str](), await poll(again, want=1000)
    while leased:
        restored += [one.id for one in leased]
        leased = await poll(again, *(Settlement(one, "delivered", 0, "200 1") for one in leased), want=1000)
    assert len(restored) == len(set(restored)) > 100
    assert set(accepted) - delivered <= set(restored)
    counts = await again.counts()
    assert counts.lost == 0
    for partition in range(4):
        names = [f"sl:{{{partition:02d}}}:{name}" for name in ("events", "laravel:queue")]
        events, waiting = await empty.commands(("HLEN", names[0]), ("ZCARD", names[1]))
        assert (events, waiting) == (0, 0)


async def test_what_was_leased_is_due_at_once_and_no_attempt_counts(store: Store, empty: Store, tmp_path: Path) -> None:
    await accept(queue(store), event("a"))
    (leased,) = await poll(queue(store))
    await back_up(store, tmp_path / "backup")
    restored = await restore(empty, tmp_path / "backup")
    assert restored.leases == 1
    (again,) = await poll(queue(empty))
    assert (again.id, again.attempt, again.crash_count) == (leased.id, leased.attempt, 0)
    assert int(again.token) > int(leased.token) + 10**8


async def test_sends_become_dead_letters_unless_it_is_known_what_came_of_them(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    outbox = queue(store, OUTBOX)
    for session in ("waits", "under_way", "known"):
        await accept(outbox, event(session, id=f"evt_{session}"))
    leased = await poll(outbox, want=1)
    assert len(leased) < 3
    await Results(store, "gateway-1").end(
        "evt_known", "known", "w1", Refusal(404, "no such session"), dead="", dead_if_promised="", kept=60.0
    )
    await back_up(store, tmp_path / "backup")
    restored = await restore(empty, tmp_path / "backup")
    assert restored.sends == 2
    letters = {letter.event.id: letter.reason async for letter in DeadLetters(empty, OUTBOX).all()}
    why = "it waited when the backup was made that was restored, and may have gone out since"
    assert letters == {"evt_waits": why, "evt_under_way": why}
    assert [one.id for one in await poll(queue(empty, OUTBOX))] == ["evt_known"]


async def test_sessions_come_back_unowned_and_every_fence_is_later_than_any_before(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    registry = Registry(store, 600.0)
    await registry.register(Worker("w1", "1", "http://w1:3000", 10))
    await registry.want({"s": {"workspace_id": 7}})
    await registry.place_orphans()
    owner = await registry.owner_of("s")
    assert isinstance(owner, Owner)
    profile = await Generations(store).claim("s")
    await back_up(store, tmp_path / "backup")
    given = [(await Generations(store).claim("s")).fence for _ in range(3)]
    restored = await restore(empty, tmp_path / "backup")
    anew = Registry(empty, 600.0)
    assert isinstance(await anew.owner_of("s"), Unowned)
    with pytest.raises(UnknownWorker):
        await anew.beat("w1", "1", {}, {})
    await anew.lapse()
    await anew.register(Worker("w2", "1", "http://w2:3000", 10))
    await anew.place_orphans()
    again = await anew.owner_of("s")
    assert isinstance(again, Owner)
    assert (again.worker, again.fence > restored.fence - 10**9) == ("w2", True)
    assert again.fence > max(owner.fence, profile.fence, *given) + 500 * 10**6
    assert (await Generations(empty).claim("s")).fence > max(given) + 500 * 10**6


async def test_a_session_of_an_existing_worker_waits_for_it_and_is_its_own_again_when_it_lists_it(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    worker, listed = Worker("w1", "1", "http://w1:3001", 10), {"s": ObservedSession("connected", "4917", {})}
    await Registry(store, 600.0).observe(worker, listed)
    await back_up(store, tmp_path / "backup")
    await restore(empty, tmp_path / "backup")
    registry = Registry(empty, 600.0)
    await registry.lapse()
    found = await registry.owner_of("s")
    assert isinstance(found, Unowned)
    assert found.last is not None
    assert found.last.worker == "w1"
    await registry.observe(worker, listed)
    assert isinstance(await registry.owner_of("s"), Owner)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_login_that_is_saved_while_it_is_read_is_whole(
    when: str, store: Store, empty: Store, tmp_path: Path
) -> None:
    """Right before its record is read, or right after; only the newest generation is kept."""
    generations = Generations(store)
    fence = (await generations.claim("s")).fence

    async def save() -> None:
        number = await generations.begin("s", fence)
        assert isinstance(number, int)
        await InStore(store).put("s", number, "c", b"%d" % number)
        await Manifests(store).put("s", number, b"%d" % number)
        dropped = await generations.commit("s", fence, Written(number, 100, 100, 1, "key"), keep=1)
        assert isinstance(dropped, list)
        await InStore(store).erase("s", [(one, "c") for one in dropped])
        await Manifests(store).erase("s", dropped)

    class Meanwhile(Reading):
        async def _whole(self, keys: Sequence[bytes]) -> None:
            is_record = b"sl:{vault}:profiles" in keys
            if is_record and when == "before":
                await save()
            await super()._whole(keys)
            if is_record and when == "after":
                await save()

    await save()
    with Writer(tmp_path / "backup", replace=False) as out:
        await Meanwhile(store, out, nobody).run("store")
    await restore(empty, tmp_path / "backup")
    profile = await Generations(empty).of("s")
    assert profile is not None
    assert profile.newest is not None
    newest = profile.newest.number
    assert newest == (2 if when == "before" else 1)
    assert await Manifests(empty).get("s", newest) == b"%d" % newest
    assert await InStore(empty).get("s", newest, "c") == b"%d" % newest


async def test_what_is_to_be_told_is_told_twice_rather_than_not_at_all(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    """A notice becomes an event, and goes from the registry, right after that was read."""
    registry = Registry(store, 600.0)
    await registry.want({"s": {}})
    await registry.end("s", "deleted")

    class Meanwhile(Reading):
        async def _partition(self, groups: Groups, tag: str) -> None:
            if tag == "00":
                notices = await registry.notices()
                await accept(queue(store), event("s", id="evt_told"))
                await registry.notices(notices)
            await super()._partition(groups, tag)

    with Writer(tmp_path / "backup", replace=False) as out:
        await Meanwhile(store, out, nobody).run("")
    await restore(empty, tmp_path / "backup")
    assert [one.id for one in await poll(queue(empty))] == ["evt_told"]
    assert len(await Registry(empty, 600.0).notices()) == 1


# --- what is refused


async def why(store: Store, path: Path) -> str:
    with pytest.raises(BackupError) as refused:
        await restore(store, path)
    return str(refused.value)


async def test_a_store_that_is_not_empty_is_refused_and_left_alone(store: Store, empty: Store, tmp_path: Path) -> None:
    await back_up(store, tmp_path / "backup")
    await empty.commands(("SET", "sl:{l}:send\0s1", "1"), ("SET", "another's", "1"))
    assert await why(empty, tmp_path / "backup") == (
        "the store is not empty, it has sl:{l}:send\\x00s1: what is there would be mixed with the backup; restore into "
        "an empty store, or stop Sluice and empty this one (docs/backup.md)"
    )
    assert (await lying(empty)).keys() == {"sl:{l}:send\0s1"}
    await empty.commands(("DEL", "sl:{l}:send\0s1"))
    await restore(empty, tmp_path / "backup")
    assert await empty.commands(("GET", "another's")) == [b"1"]


async def test_a_store_on_which_somebody_works_is_refused_and_left_as_it_is(
    store: Store, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SETTLED", 1.0)
    await back_up(store, tmp_path / "backup")

    async def work() -> None:
        await asyncio.sleep(0.3)
        await empty.commands(("ZADD", "sl:{gateways}", 1, "gateway-1"))

    working = asyncio.create_task(work())
    assert await why(empty, tmp_path / "backup") == (
        "something works on this store, as sl:{gateways} has come into it: stop every gateway, relay and worker first"
    )
    await working
    assert (await lying(empty)).keys() == {"sl:{gateways}"}


async def test_one_that_was_broken_off_begins_anew_and_another_one_waits(
    store: Store, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        await accept(queue(store), event(f"s{number}"))
    path = tmp_path / "backup"
    await back_up(store, path)
    found = checked(path)

    class Cut(Restoring):
        async def _begin_anew(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Cut(empty, path, found, nobody).run()
    assert await restoring.since_renewed(empty) is not None
    assert (await why(empty, path)).startswith("another `sluice restore` works on this store, or was broken off ")
    monkeypatch.setattr(restoring, "BROKEN_OFF_AFTER", 0.0)
    await empty.commands(("SET", "sl:{00}:left", "of the one before"))
    await restore(empty, path)
    assert await restoring.since_renewed(empty) is None
    after = await lying(empty)
    assert "sl:{00}:left" not in after
    assert len(await poll(queue(empty))) == 50


async def test_of_two_at_once_one_goes_on(store: Store, empty: Store, tmp_path: Path) -> None:
    await accept(queue(store), event("a"))
    await back_up(store, tmp_path / "backup")
    found = checked(tmp_path / "backup")
    both = [Restoring(empty, tmp_path / "backup", found, nobody).run() for _ in range(2)]
    first, second = await asyncio.gather(*both, return_exceptions=True)
    refused = [str(one) for one in (first, second) if isinstance(one, BackupError)]
    assert refused == [
        "another `sluice restore` works on this store, or was broken off less than 15s ago: wait for it; 15s after one "
        "was broken off the same command begins anew"
    ]
    assert len(await poll(queue(empty))) == 1


async def test_one_during_which_somebody_worked_on_the_store_is_not_taken_for_whole(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    path = tmp_path / "backup"
    await back_up(store, path)

    class Late(Restoring):
        async def _begin_anew(self) -> Any:
            await presence.report(empty, "host:1")
            return await super()._begin_anew()

    with pytest.raises(BackupError) as refused:
        await Late(empty, path, checked(path), nobody).run()
    assert str(refused.value) == (
        "something has worked on this store while it was restored, as sl:relays has come into it: stop every gateway "
        "and relay, then run the same command again: it begins anew"
    )
    assert await restoring.since_renewed(empty) is not None


async def test_while_one_is_under_way_nothing_starts_and_nothing_is_backed_up(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    assert await restoring.begin(store) == "first"
    assert await restoring.begin(store) == "another"
    with pytest.raises(restoring.BeingRestored) as refused:
        await layout.check(store_url)
    assert str(refused.value) == (
        "a backup is being restored into this store, so nothing else may work on it: wait until `sluice restore` has "
        "ended; where it was broken off, run it again, and it begins anew (docs/backup.md)"
    )
    with pytest.raises(BackupError) as also:
        await back_up(store, tmp_path / "backup")
    assert str(also.value) == (
        "a backup is being restored into this store, or was and that was broken off: there is nothing whole to take a "
        "backup of (docs/backup.md)"
    )
    await restoring.end(store)
    await layout.check(store_url)


async def test_a_store_without_room_is_said_and_left_marked(
    store: Store, server: Server, empty: Store, tmp_path: Path
) -> None:
    for number in range(20):
        await accept(queue(store), event(f"s{number}", body=os.urandom(200_000)))
    path = tmp_path / "backup"
    await back_up(store, path)
    server.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.tell("CONFIG", "SET", "maxmemory", "4mb")
    said = await why(empty, path)
    assert said.startswith(
        "the store has no room for the backup, which has 3.8 MiB (OOM command not allowed when used "
    )
    assert said.endswith(": give it more memory (maxmemory), then run the same command again: it begins anew")
    assert await restoring.since_renewed(empty) is not None


def forged(path: Path, header: Header) -> Path:
    with Writer(path, replace=True) as out:
        out.header(header)
        out.key(b"sl:{00}:seq", -1, b"\x00no dump")
        out.end(Trailer(header.at, {"events": 1}, 0, 0, 0))
    return path


async def test_a_store_that_cannot_read_what_the_other_one_wrote_is_said(empty: Store, tmp_path: Path) -> None:
    path = forged(tmp_path / "backup", Header("0.1.0", layout.LAYOUT, "valkey 99.0.0", 0, ""))
    said = await why(empty, path)
    assert said.startswith("the store is valkey ")
    assert (
        ", which cannot read what valkey 99.0.0 has written (ERR DUMP payload version or checksum are wrong): restore "
        "into one of that kind, of that version or a later one, then run the same command again: it begins anew"
    ) in said


async def test_a_store_whose_clock_is_behind_is_refused(empty: Store, tmp_path: Path) -> None:
    (times,) = await empty.commands(("TIME",))
    path = forged(tmp_path / "backup", Header("0.1.0", layout.LAYOUT, "valkey 8", (int(times[0]) + 7200) * 1000, ""))
    said = await why(empty, path)
    assert said.startswith("the store's clock is 7")
    assert said.endswith(
        "s behind the time at which the backup was made: set it first (NTP), as leases and fences go by it"
    )


def test_another_layout_is_refused(tmp_path: Path) -> None:
    reads = f"this version reads {layout.LAYOUT - 1} and {layout.LAYOUT}"
    later = forged(tmp_path / "later", Header("9.0.0", layout.LAYOUT + 1, "valkey 8", 0, ""))
    with pytest.raises(BackupError) as refused:
        checked(later)
    assert str(refused.value) == f"{later} has layout 2 (sluice 9.0.0), and {reads}: install that version"
    earlier = forged(tmp_path / "earlier", Header("0.0.1", layout.LAYOUT - 2, "valkey 8", 0, ""))
    with pytest.raises(BackupError) as refused:
        checked(earlier)
    assert str(refused.value) == (
        f"{earlier} has layout -1 (sluice 0.0.1), and {reads}: restore it with that one, and upgrade by one "
        "release at a time (docs/upgrade.md)"
    )


async def test_keys_whose_time_is_over_are_left_out_and_others_keep_theirs(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    await store.commands(("SET", "sl:{l}:soon", "1", "PX", 300), ("SET", "sl:{l}:late", "1", "PX", 600_000))
    await back_up(store, tmp_path / "backup")
    before = await lying(store)
    await asyncio.sleep(1.5)
    restored = await restore(empty, tmp_path / "backup")
    assert restored.expired == 1
    after = await lying(empty)
    assert "sl:{l}:soon" not in after
    assert after["sl:{l}:late"] == before["sl:{l}:late"] == Lying(b"1", before["sl:{l}:late"].expires)


async def test_a_store_that_is_full_is_backed_up(server: Server, empty: Store, tmp_path: Path) -> None:
    await accept(queue(empty), event("a"))
    server.tell("CONFIG", "SET", "maxmemory", "1")
    _, trailer = await back_up(empty, tmp_path / "backup")
    assert trailer.events == 1


async def test_it_writes_nothing_into_the_store(store: Store, tmp_path: Path) -> None:
    await accept(queue(store), event("a"))
    before = await lying(store)
    await back_up(store, tmp_path / "backup")
    assert await lying(store) == before


async def test_a_key_that_is_none_of_ours_is_said(store: Store, tmp_path: Path) -> None:
    await store.commands(("SET", b"sl:\xff", "1"))
    with Writer(tmp_path / "backup", replace=False) as out, pytest.raises(BackupError) as refused:
        await Reading(store, out, nobody).run("")
    assert str(refused.value) == r"the store has a key that is none of Sluice's, b'sl:\xff'; delete it"


async def test_a_dry_look_at_an_empty_store_refuses_nothing_and_changes_nothing(
    store: Store, empty: Store, tmp_path: Path
) -> None:
    await back_up(store, tmp_path / "backup")
    await refuse_store(empty, checked(tmp_path / "backup"))
    assert await lying(empty) == {}
