"""`sluice sessions migrate` and `export` as a person runs them: what they read, and the exit codes."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import orjson
import pytest
from redis import Redis

from gateway.policies import load
from sessions.profiles.opening import open_vault
from sessions.profiles.taking import difference
from sessions.profiles.vault import Restored, Vault
from sessions.registry import ObservedSession, Registry, Worker
from sluice.store.client import Store
from tests.sessions.profiles.making import contents, profile
from tests.sluice.cli.command import SECRETS, Ran, command, environment, sluice

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEYS = {**SECRETS, "VAULT_KEY": "0123456789abcdef0123456789abcdef"}


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    return written(tmp_path, store_url, "sessions: {vault: {key: env:VAULT_KEY}}\n")


def written(folder: Path, store_url: str, section: str) -> Path:
    file = folder / "policies.yaml"
    file.write_text(f'version: 1\nstore: {{url: "{store_url}"}}\ndata: {folder / "data"}\n{section}')
    return file


def opened(store: Store, policies: Path) -> Vault:
    vault = load(policies, environment=KEYS).sessions.vault
    assert vault is not None
    return open_vault(vault, store)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        profile(tmp_path / "auth" / f"session-{name}", size=1000)
    return tmp_path / "auth"


def run(policies: Path, *arguments: object) -> Ran:
    return sluice("sessions", *arguments, "--policies", policies, secrets=KEYS)


def rows(out: str) -> list[str]:
    """Without the space between cells."""
    return [" ".join(line.split()) for line in out.splitlines()]


def test_it_goes_by_stages_and_says_what_it_would_do_first(policies: Path, disk: Path) -> None:
    (disk / "session-b" / "SingletonLock").symlink_to(f"{socket.gethostname()}-{os.getpid()}")
    why = f"process {os.getpid()} runs on it: run this again when that has ended"
    ran = run(policies, "migrate", disk)
    assert rows(ran.out) == [
        "session state size source why",
        f"a ready 0.3 MiB leveldb {disk}/session-a",
        f"b waiting 0.3 MiB leveldb {disk}/session-b {why}",
        f"c ready 0.3 MiB leveldb {disk}/session-c",
        f"below {disk}: 2 ready, 1 waiting",
        "nothing was done; move them with --yes and one of --only ID, --batch 10, --all",
        "those that wait go first in the next run after their browser has ended: nobody is stopped for them",
    ]
    assert (ran.code, ran.err) == (0, "")
    ran = run(policies, "migrate", disk, "--only", "c", "--yes")
    assert rows(ran.out)[1:3] == [f"c moved 0.3 MiB leveldb {disk}/session-c", f"below {disk}: 1 moved"]
    ran = run(policies, "migrate", disk, "--batch", "1", "--yes")
    assert f"below {disk}: 1 kept, 1 moved, 1 waiting" in ran.out
    (disk / "session-b" / "SingletonLock").unlink()
    ran = run(policies, "migrate", disk, "--all", "--yes")
    assert rows(ran.out)[-1] == f"below {disk}: 2 kept, 1 moved"
    assert (ran.code, ran.err) == (0, "")


def test_it_reports_as_json(policies: Path, disk: Path) -> None:
    ran = run(policies, "migrate", disk, "--batch", "2", "--yes", "--json")
    report = orjson.loads(ran.out)
    assert (report["path"], report["dry_run"], report["stopped"]) == (str(disk), False, "")
    assert report["counts"] == {"moved": 2, "ready": 1}
    assert report["logins"][0] == {
        "session": "a",
        "source": f"{disk}/session-a",
        "form": "local_auth",
        "workspace": None,
        "state": "moved",
        "detail": "",
        "size": report["logins"][0]["size"],
        "files": report["logins"][0]["files"],
        "backend": "leveldb",
        "browser": "",
        "generation": 1,
    }
    undone = orjson.loads(run(policies, "migrate", disk, "--undo", "--all", "--yes", "--json").out)
    assert [(it["session"], it["state"], it["generations"]) for it in undone["logins"]] == [
        ("a", "taken_back", [1]),
        ("b", "taken_back", [1]),
    ]


def test_what_a_person_has_to_decide_is_exit_code_1(policies: Path, disk: Path) -> None:
    profile(disk / "session", size=10)
    ran = run(policies, "migrate", disk, "--all", "--yes")
    assert (ran.code, ran.err) == (1, "")
    assert f"its name says no session: sluice sessions migrate {disk}/session --as ID --yes --all" in ran.out
    ran = run(policies, "migrate", disk / "session", "--as", "d", "--all", "--yes")
    assert (ran.code, rows(ran.out)[1]) == (0, f"d moved 0.3 MiB leveldb {disk}/session")


def test_it_is_taken_back(policies: Path, disk: Path) -> None:
    run(policies, "migrate", disk, "--all", "--yes")
    ran = run(policies, "migrate", disk, "--undo", "--only", "a")
    assert rows(ran.out) == [
        "session state generations source why",
        f"a ready 1 {disk}/session-a",
        "nothing was done; take them back with --yes and one of --only ID, --batch 10, --all",
    ]
    ran = run(policies, "migrate", disk, "--undo", "--only", "a", "--yes")
    assert rows(ran.out)[1:] == [f"a taken back 1 {disk}/session-a"]
    assert (ran.code, ran.err) == (0, "")
    ran = run(policies, "migrate", disk, "--undo", "--only", "a", "--yes")
    assert (ran.code, ran.err) == (2, f"sluice: nothing that is meant was moved from below {disk} on this machine\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--yes"], "say which: --only ID, --batch 10 or --all"),
        (["--all", "--only", "a"], "--all goes without --only and --batch"),
        (["--replace", "--all"], "--replace needs --only ID: it is decided for each session"),
        (
            ["--undo", "--replace", "--only", "a"],
            "--undo goes without --as and --replace: it knows what was moved, and what was there before",
        ),
        (["--only", "x"], "there is no login of session x below {disk}; there are: a, b, c"),
        (["--as", "x"], "--as names one login, and there are 3 below {disk}: name the folder of that one"),
    ],
)
def test_mistakes_are_said(policies: Path, disk: Path, arguments: list[str], message: str) -> None:
    ran = run(policies, "migrate", disk, *arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {message.format(disk=disk)}\n")


def test_where_nothing_is_and_where_nothing_can_be_is_said(policies: Path, tmp_path: Path, store_url: str) -> None:
    ran = run(policies, "migrate", tmp_path / "none")
    assert (ran.code, ran.err) == (2, f"sluice: {tmp_path}/none: no such file or directory\n")
    (tmp_path / "empty").mkdir()
    ran = run(policies, "migrate", tmp_path / "empty")
    where = "name the dataPath of whatsapp-web.js, or a folder above it"
    assert (ran.code, ran.err) == (2, f"sluice: there is no login below {tmp_path}/empty: {where}\n")
    ran = sluice("sessions", "migrate", tmp_path, "--policies", policies)
    why = "a key that sessions.vault.key names is not here: export the variable, or make the file, that it names"
    assert (ran.code, ran.err) == (2, f"sluice: {why}\n")
    written(tmp_path, store_url, "")
    ran = run(policies, "migrate", tmp_path)
    assert (ran.code, ran.err) == (
        2,
        "sluice: no vault is configured, so no logins are kept: write sessions.vault with a key into the policies "
        "(docs/vault.md)\n",
    )
    written(tmp_path, f"unix://{tmp_path}/no.sock", "sessions: {vault: {key: env:VAULT_KEY}}\n")
    ran = run(policies, "migrate", tmp_path)
    assert ran.code == 2
    assert "sluice: the store does not answer (" in ran.err
    assert ran.err.endswith("; check store.url in policies.yaml\n")


def test_a_full_store_is_said_and_nothing_is_lost(policies: Path, disk: Path, store_url: str) -> None:
    with Redis.from_url(store_url) as client:
        used = int(client.info("memory")["used_memory"])  # type: ignore[index]
        client.config_set("maxmemory", used + 400_000)
        try:
            ran = run(policies, "migrate", disk, "--all", "--yes")
        finally:
            client.config_set("maxmemory", 0)
    assert ran.code == 1
    assert "sluice: stopped: the store refused: OOM command not allowed" in ran.err
    assert "put that right, and run this again" in ran.err
    assert run(policies, "migrate", disk, "--all", "--yes").code == 0


def test_a_hostile_name_steers_no_terminal(policies: Path, disk: Path) -> None:
    profile(disk / "userDataDir" / "\x1b[2Jx\u202e", size=10)
    for more in ([], ["--json"]):
        ran = run(policies, "migrate", disk, *more)
        assert "\x1b" not in ran.out + ran.err
        assert "\u202e" not in ran.out + ran.err


async def test_a_migration_that_is_killed_goes_on_with_the_next_run(
    policies: Path, tmp_path: Path, store: Store
) -> None:
    chance = random.Random(7)
    disk = tmp_path / "many"
    for n in range(12):
        profile(disk / f"session-{n}", size=400_000, seed=n)
    for _ in range(6):
        started = time.monotonic()
        process = subprocess.Popen(
            command("sessions", "migrate", disk, "--batch", "4", "--yes", "--policies", policies),
            env=environment(KEYS),
            stdout=subprocess.DEVNULL,
        )
        while not list((tmp_path / "data").glob("migrating/*")) and process.poll() is None:
            assert time.monotonic() < started + 60
            time.sleep(0.002)
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.wait()
    ran = run(policies, "migrate", disk, "--all", "--yes")
    assert ran.code == 0, ran
    vault = opened(store, policies)
    for n in range(12):
        assert isinstance(await vault.restore(str(n), tmp_path / "restored"), Restored)
        assert difference(disk / f"session-{n}", tmp_path / "restored") is None
    assert list((tmp_path / "data").iterdir()) == []
    ran = run(policies, "migrate", disk, "--undo", "--all", "--yes")
    assert (ran.code, ran.out.count("taken back")) == (0, 12)


def test_a_login_is_exported(policies: Path, disk: Path, tmp_path: Path) -> None:
    run(policies, "migrate", disk, "--all", "--yes")
    back = tmp_path / "back"
    ran = run(policies, "export", "a", "--as", "local-auth", back, "--dry-run")
    said = "generation 1, 0.3 MiB, of an unknown browser\n"
    assert (ran.code, ran.out, ran.err) == (0, f"{said}would be written: {back}/session-a\n", "")
    assert not back.exists()
    ran = run(policies, "export", "a", "--as", "local-auth", back)
    assert (ran.code, ran.out) == (0, f"{said}written: {back}/session-a\n")
    assert difference(disk / "session-a", back / "session-a") is None
    before = contents(back)
    ran = run(policies, "export", "a", "--as", "local-auth", back)
    assert (ran.code, ran.err) == (
        2,
        f"sluice: {back}/session-a is there already, and nothing is overwritten: "
        "move it away, or name another folder\n",
    )
    assert contents(back) == before
    ran = run(policies, "export", "b", "--as", "remote-auth", back, "--generation", "1", "--json")
    assert orjson.loads(ran.out)["target"] == f"{back}/RemoteAuth-b.zip"
    ran = run(policies, "export", "x", "--as", "local-auth", back)
    assert ran.err == "sluice: the vault has no login of session x: `sluice vault list` shows what it has\n"


async def test_who_runs_a_session_that_is_exported_is_said(
    policies: Path, disk: Path, tmp_path: Path, store: Store
) -> None:
    run(policies, "migrate", disk, "--all", "--yes")
    await Registry(store, 60.0).observe(Worker("w1", "1", "http://w1:3000", 5), {"a": ObservedSession("connected")})
    ran = run(policies, "export", "a", "--as", "local-auth", tmp_path / "back")
    assert ran.out.splitlines()[-1] == (
        "w1 runs it: stop it there first, as one login in two browsers ends in a logout"
    )
