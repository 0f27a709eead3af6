"""`sluice vault` on a real store: what a person reads, and the exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import contents_of, open_vault
from sessions.profiles.vault import Saved, Vault
from sluice.store.client import Store
from tests.sessions.profiles.making import profile
from tests.sluice.cli.command import SECRETS, Ran, command, environment, sluice
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEYS = {**SECRETS, "VAULT_KEY": "0123456789abcdef0123456789abcdef", "OLD_KEY": "fedcba9876543210fedcba9876543210"}
ORIGIN = Origin("Chromium 156.0.8078.79", "leveldb", "host", "sluice")


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    return written(tmp_path, store_url, "key: env:VAULT_KEY")


def written(folder: Path, store_url: str, vault: str) -> Path:
    file = folder / "policies.yaml"
    section = f"sessions: {{vault: {{{vault}}}}}\n" if vault else ""
    file.write_text(f'version: 1\nstore: {{url: "{store_url}"}}\ndata: {folder / "data"}\n{section}')
    return file


def opened(store: Store, policies: Path) -> Vault:
    vault = load(policies, environment=KEYS).sessions.vault
    assert vault is not None
    return open_vault(vault, store)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return profile(tmp_path / "source", size=100_000)


async def save(vault: Vault, source: Path, session: str = "s1", fence: int | None = None) -> Saved:
    (source / "Default/Cookies").write_bytes(os.urandom(500))
    fence = (await vault.generations.claim(session)).fence if fence is None else fence
    saved = await vault.save(session, fence, source, ORIGIN)
    assert isinstance(saved, Saved)
    return saved


async def lose(store: Store, policies: Path, session: str, number: int) -> None:
    """All chunks that were written for a generation."""
    vault = load(policies, environment=KEYS).sessions.vault
    assert vault is not None
    chunks = (await opened(store, policies).look(session, number)).chunks
    names = [(number, chunk.name) for chunk in chunks if chunk.of == number]
    await contents_of(vault, store).erase(session, names)


def run(policies: Path, *arguments: object) -> Ran:
    return sluice("vault", *arguments, "--policies", policies, secrets=KEYS)


def test_nothing_is_kept(policies: Path) -> None:
    assert run(policies, "list") == Ran(0, "nothing is kept\n", "")
    assert run(policies, "list", "--after", "s1") == Ran(0, "nothing more is kept\n", "")
    assert run(policies, "verify") == Ran(0, "verified: 0 sessions, 0 generations, 0 B; all can be restored\n", "")
    unknown = 'sluice: nothing is kept of session "s1"; `sluice vault list` shows what is\n'
    for name in ("show", "verify", "delete", "undelete"):
        assert run(policies, name, "s1") == Ran(2, "", unknown)


def test_without_a_vault(tmp_path: Path, store_url: str) -> None:
    file = written(tmp_path, store_url, "")
    cure = "write sessions.vault with a key into the policies (docs/vault.md)"
    for words in (["list"], ["show", "s1"], ["verify"], ["delete", "s1"], ["undelete", "s1"]):
        assert run(file, *words) == Ran(2, "", f"sluice: no vault is configured, so no logins are kept: {cure}\n")


async def test_they_are_listed_and_shown(store: Store, policies: Path, source: Path) -> None:
    vault = opened(store, policies)
    await save(vault, source)
    await save(vault, source, "s2")
    await vault.generations.delete("s2", None)
    ran = run(policies, "list")
    assert (ran.code, ran.err) == (0, "")
    heading, first, second, end = ran.out.splitlines()
    assert heading.split() == ["session", "newest", "saved", "size", "stored", "browser", "key", "state"]
    assert first.split()[:4] == ["s1", "1", "of", "1"]
    assert "Chromium 156.0.8078.79 leveldb" in first
    assert first.split()[-1] == "-"
    assert second.split()[-2] == "deleted"
    assert end.startswith("2 sessions, ")
    document = orjson.loads(run(policies, "list", "--json").out)
    assert [one["session"] for one in document["profiles"]] == ["s1", "s2"]
    assert run(policies, "list", "--limit", "1").out.splitlines()[2] == "there are more: the next page is --after s1"
    ran = run(policies, "show", "s1")
    head, titles, row = ran.out.splitlines()
    assert head == f"s1: fence {(await vault.generations.of('s1')).fence}"  # type: ignore[union-attr]
    assert titles.split()[0] == "generation"
    assert (row.split()[0], row.split()[-1]) == ("1", "yes")
    assert orjson.loads(run(policies, "show", "s1", "--json").out)["generations"][0]["readable"] is True
    assert ", deleted 20" in run(policies, "show", "s2").out.splitlines()[0]


async def test_deleting_asks_first_and_can_be_taken_back(store: Store, policies: Path, source: Path) -> None:
    saved = await save(opened(store, policies), source)
    plan = (
        "s1 would start without its login, and whoever runs it now saves it no more; its 1 generation (the newest of "
        f"{saved.size / 1024:.0f} KiB) stay until `sluice vault prune`\n`sluice vault undelete` takes it back until "
        "then\n"
    )
    assert run(policies, "delete", "s1", "--dry-run") == Ran(0, plan, "")
    refused = "sluice: nothing was deleted; say yes, or give --yes\n"
    assert run(policies, "delete", "s1") == Ran(1, plan, refused)
    assert run(policies, "delete", "s1", "--json") == Ran(1, "", refused)
    assert run(policies, "delete", "s1", "--yes") == Ran(0, "deleted: s1\n", "")
    ran = run(policies, "undelete", "s1", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("s1 would start from generation 1 again, saved 20")
    ran = run(policies, "undelete", "s1")
    assert ran.out.startswith("s1 starts from generation 1 again, saved 20")
    assert run(policies, "undelete", "s1") == Ran(
        2, "", 'sluice: the login of "s1" is not deleted: there is nothing to take back\n'
    )


async def test_verifying_says_what_is_broken_and_ends_with_1(store: Store, policies: Path, source: Path) -> None:
    vault = opened(store, policies)
    for session in ("s1", "s2", "s2"):
        await save(vault, source, session)
    ran = run(policies, "verify", "--scratch")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("verified: 2 sessions, 3 generations, ")
    assert ran.out.endswith("; all can be restored\n")
    await lose(store, policies, "s2", 2)
    ran = run(policies, "verify")
    assert (ran.code, ran.err) == (1, "")
    wrong, cure, end = ran.out.splitlines()
    assert wrong.startswith("s2: generation 2 cannot be restored: chunk ")
    assert cure == "s2: a start goes back to generation 1; the next save of the worker that runs it is whole again"
    assert end.endswith("; 1 generation cannot be restored")
    await lose(store, policies, "s2", 1)
    ran = run(policies, "verify", "s2", "--json")
    assert (ran.code, ran.err) == (1, "")
    (one,) = orjson.loads(ran.out)["profiles"]
    assert (one["session"], one["restores"], len(one["generations"])) == ("s2", None, 2)
    assert run(policies, "verify", "s2").out.endswith("2 generations cannot be restored, and of 1 session none can\n")
    assert run(policies, "verify", "s1", "s2", "--after", "s0") == Ran(
        2, "", "sluice: --after goes on with all sessions: leave it out, or name none\n"
    )


def test_without_the_key_in_the_environment(policies: Path) -> None:
    ran = sluice("vault", "verify", "--policies", policies)
    cure = "export the variable, or make the file, that it names"
    assert ran == Ran(2, "", f"sluice: a key that sessions.vault.key names is not here: {cure}\n")


async def test_a_run_that_is_stopped_says_how_to_go_on(store: Store, policies: Path, source: Path) -> None:
    vault = opened(store, policies)
    for number in range(60):
        await save(vault, source, f"s{number:02}")
    process = subprocess.Popen(
        command("vault", "verify", "--scratch", "--after", "a b", "--policies", policies),
        env=environment(KEYS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    async def has_begun() -> bool:
        return (policies.parent / "data" / "vault-scratch").exists()

    await until(has_begun)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "sluice: stopped early; go on with --after 'a b'\n")
    ran = run(policies, "verify", "--after", "s57")
    assert ran.out.startswith("verified: 2 sessions, 2 generations, ")


async def test_pruning_shows_what_goes_and_asks_first(
    store: Store, policies: Path, source: Path, tmp_path: Path, store_url: str
) -> None:
    vault = opened(store, policies)
    fence = (await vault.generations.claim("s1")).fence
    for _ in range(3):
        await save(vault, source, fence=fence)
    await save(vault, source, "s2")
    assert run(policies, "prune") == Ran(0, "nothing to erase, of 2 sessions looked at\n", "")
    fewer = written(tmp_path, store_url, "key: env:VAULT_KEY, generations: 1")
    ran = run(fewer, "prune", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    heading, row, end = ran.out.splitlines()
    assert heading.split() == ["session", "generations", "chunks", "size", "why"]
    assert row.split()[:2] == ["s1", "2"]
    assert row.strip().endswith("beyond those that are kept")
    assert end.startswith("would be erased: 2 generations, ")
    assert end.endswith(" of 2 sessions looked at")
    refused = "sluice: nothing was erased; say yes, or give --yes\n"
    assert run(fewer, "prune") == Ran(1, ran.out, refused)
    assert run(fewer, "prune", "--json") == Ran(1, "", refused)
    done = run(fewer, "prune", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out == ran.out + end.replace("would be erased", "erased") + "\n"
    document = orjson.loads(run(fewer, "prune", "--yes", "--json").out)
    assert (document["profiles"], document["looked_at"], document["next"]) == ([], 2, None)
    ran = run(policies, "prune", "--deleted-for", "5m")
    assert ran.code == 2
    assert ran.err.endswith('argument --deleted-for: "5m" is too short; write 1h or more\n')


async def test_sealing_anew_tells_when_the_older_key_can_go(
    store: Store, policies: Path, source: Path, tmp_path: Path, store_url: str
) -> None:
    await save(opened(store, policies), source)
    cure = "older ones can be taken out of sessions.vault.key"
    nothing = f"all that is kept of 1 session is sealed with the first key: {cure}\n"
    assert run(policies, "rekey") == Ran(0, nothing, "")
    new = written(tmp_path, store_url, "key: [env:OLD_KEY, env:VAULT_KEY]")
    ran = run(new, "rekey")
    assert (ran.code, ran.err) == (1, "sluice: nothing was sealed anew; say yes, or give --yes\n")
    assert ran.out.startswith("would be sealed anew: 1 generation of 1 session, ")
    assert run(new, "list").out.splitlines()[-1].endswith(", 1 sealed with an older key: `sluice vault rekey`")
    done = run(new, "rekey", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].endswith(
        "; run it once more, and when it finds nothing take the older keys out of sessions.vault.key"
    )
    assert run(new, "rekey", "--yes") == Ran(0, nothing, "")
    assert run(new, "rekey", "--after", "s1") == Ran(0, "nothing can be sealed anew, of 0 sessions looked at\n", "")
    ran = run(written(tmp_path, store_url, "key: env:VAULT_KEY"), "rekey", "--json")
    assert ran.code == 1
    (one,) = orjson.loads(ran.out)["profiles"]
    assert "which sessions.vault.key does not name" in one["problem"]
