"""How a vault stands: numbers of what is kept, and names of what a person has to see."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sessions.profiles import summary
from sessions.profiles.folder import InFolder
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.policies import Folder, VaultPolicy
from sessions.profiles.sealing import Seals
from sessions.profiles.summary import AGES, Late, Probe, Probed, Shrunk, Unnamed, VaultSummary, VaultWatch, summarized
from sessions.profiles.vault import Saved
from sessions.registry import Registry, Report, Worker
from sluice.config.model import Secret
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.profiles.making import OLD, SECRET, profile
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICY = VaultPolicy("store", (Secret(SECRET),))
NEW_KEY, OLD_KEY = (Seals([secret], "").current for secret in (SECRET, OLD))
HOUR = 3600.0


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


async def save(policy: VaultPolicy, store: Store, folder: Path, *sessions: str) -> None:
    vault = open_vault(policy, store)
    for session in sessions:
        fence = (await vault.generations.claim(session)).fence
        assert isinstance(await vault.save(session, fence, folder, Origin()), Saved)


async def run(registry: Registry, *sessions: str, otherwise: str = "") -> None:
    """All of them are connected; `otherwise` shows a code. What ran before runs on."""
    if not await registry.workers():
        await registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 50))
    await registry.want({session: {} for session in sessions})
    await registry.place_orphans()
    held = await registry.beat("w1", "1", {}, {})
    said = {
        session: Report(fence, "qr_scanning" if session == otherwise else "connected")
        for session, fence in held.items()
    }
    await registry.beat("w1", "1", said, {})


async def seen(policy: VaultPolicy, store: Store, registry: Registry) -> VaultSummary:
    watch = VaultWatch(store, registry)
    await watch.run_once(policy)
    assert watch.seen is not None
    return watch.seen


def generation(number: int, made: float, key: str = NEW_KEY, size: int = 1000, stored: int = 600) -> Generation:
    return Generation(number, 1, made, size, stored, 1, key, "", "", "", number)


def kept(session: str, *generations: Generation, deleted: float | None = None) -> Profile:
    return Profile(session, 1, deleted, 9, None, 9, generations)


# --- what the records alone tell


def test_it_is_empty_where_nothing_is_kept() -> None:
    assert summarized([], POLICY, 0.0) == VaultSummary("store")


def test_what_is_kept_is_counted() -> None:
    now = 100 * HOUR
    found = summarized(
        [
            kept("a", generation(2, now - 30.0, size=2000), generation(1, now - HOUR)),
            kept("b", generation(1, now - 90_000.0)),
            kept("c"),
            kept("d", generation(1, now), deleted=now),
        ],
        POLICY,
        now,
    )
    assert (found.sessions, found.generations, found.size, found.stored) == (2, 3, 3000, 1800)
    assert found.ages == tuple(int(bound in (60.0, 604_800.0)) for bound in (*AGES, 0.0))
    assert found.total_age == 90_030.0


def test_what_a_vault_may_come_to_need_is_what_its_generations_share_nothing_of() -> None:
    def needs(*stored: int) -> int:
        generations = [generation(9 - at, 0.0, stored=size) for at, size in enumerate(stored)]
        return summarized([kept("a", *generations)], POLICY, 0.0).needs

    assert needs(600) == 3000  # three of 1000 bytes, as nobody knows how far they can be compressed
    assert needs(100, 100, 600) == 1800  # and a part that older ones have written
    assert needs(0, 0, 0) == 1000


def test_keys_that_the_policies_do_not_name_are_told() -> None:
    policy = replace(POLICY, keys=(Secret(SECRET), Secret(OLD)))
    profiles = [
        kept("a", generation(3, 0.0), generation(2, 0.0, OLD_KEY), generation(1, 0.0, "0000ffff")),
        kept("b", generation(2, 0.0, "0000ffff"), generation(1, 0.0, "0000ffff")),
    ]
    found = summarized(profiles, policy, 0.0)
    assert found.old_key == 1
    assert found.unnamed == (Unnamed("0000ffff", generations=3, sessions=2, lost=1),)


def test_a_snapshot_that_is_far_smaller_than_those_before_is_told() -> None:
    profiles = [
        kept("a", generation(3, 0.0, size=100), generation(2, 0.0, size=150), generation(1, 0.0, size=1000)),
        kept("b", generation(2, 0.0, size=300), generation(1, 0.0, size=1000)),
    ]
    found = summarized(profiles, POLICY, 0.0)
    assert (found.shrunk, found.shrunk_total) == ((Shrunk("a", 100, 1000),), 1)


# --- what a look finds


async def test_a_look_finds_what_was_saved(store: Store, registry: Registry, tmp_path: Path) -> None:
    await save(POLICY, store, profile(tmp_path / "source"), "s1", "s2")
    found = await seen(POLICY, store, registry)
    assert (found.place, found.away, found.sessions, found.generations, found.complete) == ("store", None, 2, 2, True)
    assert found.stored > 2 * 3 * 2**20
    assert (found.unnamed, found.late, found.ages[0]) == ((), (), 2)


async def test_connected_sessions_that_nobody_saves_are_late(store: Store, registry: Registry, tmp_path: Path) -> None:
    await save(POLICY, store, profile(tmp_path / "source"), "saved", "not connected", "not running", "just back")
    vault = open_vault(POLICY, store)
    await vault.generations.claim("never saved")
    await vault.generations.claim("deleted")
    await vault.generations.delete("deleted", None)
    sessions = ("saved", "never saved", "deleted", "unknown to the vault", "not connected")
    await run(registry, *sessions, otherwise="not connected")
    brief = replace(POLICY, every=0.3)
    await asyncio.sleep(1.0)
    await run(registry, "just back", otherwise="not connected")
    found = await seen(brief, store, registry)
    assert found.late_total == 2
    never, saved = found.late
    assert never == Late("never saved", None)
    assert saved.session == "saved"
    assert saved.age is not None
    assert 0.9 <= saved.age < 60
    assert (await seen(POLICY, store, registry)).late == ()


async def test_of_many_only_some_are_named(store: Store, registry: Registry) -> None:
    vault = open_vault(POLICY, store)
    sessions = [f"s{number}" for number in range(8)]
    for session in sessions:
        await vault.generations.claim(session)
    await run(registry, *sessions)
    await asyncio.sleep(0.01)
    found = await seen(replace(POLICY, every=0.001), store, registry)
    assert ([one.session for one in found.late], found.late_total) == (sessions[:5], 8)


async def test_deleted_logins_are_counted_until_they_are_erased(
    store: Store, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(POLICY, store, profile(tmp_path / "source"), "s1", "s2")
    vault = open_vault(POLICY, store)
    await vault.generations.delete("s1", None)
    found = await seen(POLICY, store, registry)
    assert (found.sessions, found.deleted, found.to_prune) == (1, 1, 0)
    assert found.deleted_stored > 3 * 2**20
    monkeypatch.setattr(summary, "PRUNE_AFTER", -1.0)
    assert (await seen(POLICY, store, registry)).to_prune == 1


async def test_a_folder_that_is_gone_is_told_and_how_full_its_disk_is(
    store: Store, registry: Registry, tmp_path: Path
) -> None:
    place = Folder(tmp_path / "vault")
    policy = replace(POLICY, place=place)
    found = await seen(policy, store, registry)
    assert found.place == f"file:{place.path}"
    assert found.away is not None
    assert found.away.startswith(f"the vault's folder {place.path} is not there")
    place.path.mkdir()
    found = await seen(policy, store, registry)
    assert found.away is None
    assert found.disk is not None
    assert 0 < found.disk.free <= found.disk.total


@pytest.mark.parametrize("moved", [False, True])
async def test_a_place_that_is_not_mounted_is_told_also_when_others_were_saved_there(
    store: Store, registry: Registry, tmp_path: Path, *, moved: bool
) -> None:
    """Or one that is another, as `url` was changed."""
    source, place = profile(tmp_path / "source"), Folder(tmp_path / "vault")
    policy = replace(POLICY, place=place)
    place.path.mkdir()
    await save(policy, store, source, "s1")
    assert (await seen(policy, store, registry)).misplaced is None
    if moved:
        policy = POLICY
    else:
        place.path.rename(tmp_path / "mounted elsewhere")
        place.path.mkdir()
    assert (await seen(policy, store, registry)).misplaced == "s1"
    await save(policy, store, source, "s2")
    assert (await seen(policy, store, registry)).misplaced == "s1"


async def test_a_place_that_hangs_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = list[str](), asyncio.Event()

    class Hangs(InFolder):
        async def lying(self, session: str) -> dict[tuple[int, str], int]:
            asked.append(session)
            await answers.wait()
            return {}

    monkeypatch.setattr(summary, "_TIMEOUT", 0.05)
    probe = Probe(Folder(tmp_path), Hangs(tmp_path))
    for _ in range(2):
        assert await probe.ask(None) == Probed("it has not answered for 0 s")
    assert len(asked) == 1
    answers.set()

    async def answered() -> bool:
        return (await probe.ask(None)).away is None

    await until(answered)


async def test_without_a_vault_nothing_is_looked_at(store: Store, registry: Registry) -> None:
    watch = VaultWatch(store, registry)
    await watch.run_once(POLICY)
    await watch.run_once(None)
    assert watch.seen is None


async def test_while_the_store_is_away_the_last_look_stays(registry: Registry, store: Store, heard: Heard) -> None:
    watch = VaultWatch(store, registry)
    await watch.run_once(POLICY)
    before = watch.seen
    assert before is not None
    await store.close()
    away = VaultWatch(Store("unix:///nowhere/store.sock", timeout=0.5), registry)
    away.seen = before
    for _ in range(2):
        await away.run_once(POLICY)
    assert away.seen == before
    assert [message for message, _ in heard.lines] == ["vault.not_looked_at"]


async def test_more_sessions_than_are_looked_at_are_told(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = open_vault(POLICY, store)
    for number in range(600):
        await vault.generations.claim(f"s{number}")
    monkeypatch.setattr(summary, "MOST", 100)
    found = await seen(POLICY, store, registry)
    assert not found.complete


@pytest.mark.slow
async def test_a_look_at_two_thousand_sessions_is_quick(store: Store, registry: Registry) -> None:
    vault = open_vault(POLICY, store)
    for number in range(2000):
        await vault.generations.claim(f"s{number}")
    began = time.monotonic()
    await seen(POLICY, store, registry)
    assert time.monotonic() - began < 5.0
