"""`sluice backup` and `sluice restore` as a person runs them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice.cli.backup import Progress
from sluice.store import layout, restoring
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.sluice.backup.test_backup import queue
from tests.sluice.cli.command import command, environment, sluice
from tests.sluice.store.store_deployments import single, valkey
from tests.sluice.store.store_servers import Server
from tests.store_user import rights
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

POLICIES = """
version: 1
listen: 127.0.0.1:{port}
data: {data}
store: {{url: {url}{more}}}
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:2"}}}}}}
"""


def policies(folder: Path, url: str, *, name: str = "policies.yaml", more: str = "", port: int = 1) -> Path:
    path = folder / name
    path.write_text(POLICIES.format(data=folder / "data", url=json.dumps(url), more=more, port=port))
    return path


@pytest.fixture
def server(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    server = Server(short_folder, free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def file(store: Store, store_url: str, tmp_path: Path) -> Path:
    """A backup of a store with three events."""
    await layout.check(store_url)
    for session in ("a", "b", "c"):
        await accept(queue(store), event(session))
    path = tmp_path / "backup.sluice"
    ran = sluice("backup", path, "--policies", policies(tmp_path, store_url))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{path}: ")
    assert "  events that wait or are dead 3, sessions 0, logins 0\n" in ran.out
    return path


async def test_it_is_restored_and_says_what_is_in_it(file: Path, server: Server, tmp_path: Path) -> None:
    other = policies(tmp_path, server.url, name="other.yaml")
    dry = sluice("restore", file, "--dry-run", "--policies", other)
    assert (dry.code, dry.err) == (0, "")
    assert dry.out.startswith(f"{file} is whole and could be restored: ")
    assert dry.out.endswith("nothing was changed\n")
    assert server.tell("DBSIZE") == 0
    ran = sluice("restore", file, "--policies", other)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{file} is restored: ")
    assert ran.out.endswith(
        "  what waited, or was under way to a receiver, goes out again\n"
        "  stored sends that may have gone out since, and are dead letters now: 0\n"
        "  nobody runs a session until a worker takes it; start Sluice now\n"
    )
    assert server.tell("GET", layout.KEY) == str(layout.LAYOUT).encode()
    again = sluice("restore", file, "--policies", other)
    assert again.code == 2
    assert again.err.startswith("sluice: the store is not empty, it has sl:")


async def test_programs_get_json(file: Path, store_url: str, server: Server, tmp_path: Path) -> None:
    ran = sluice("backup", file, "--replace", "--json", "--policies", policies(tmp_path, store_url))
    said = json.loads(ran.out)
    assert (ran.code, ran.err, said["file"], said["bytes"]) == (0, "", str(file), file.stat().st_size)
    assert (said["events"], said["layout"], said["keys"]["events"] > 3) == (3, layout.LAYOUT, True)
    restored = sluice("restore", file, "--json", "--policies", policies(tmp_path, server.url, name="other.yaml"))
    told = json.loads(restored.out)
    assert (restored.code, told["events"], told["restored"]["keys"]) == (0, 3, sum(said["keys"].values()))


async def test_a_file_that_is_there_is_kept(file: Path, store_url: str, tmp_path: Path) -> None:
    before = file.read_bytes()
    ran = sluice("backup", file, "--policies", policies(tmp_path, store_url))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"sluice: {file} is there already; name another file, or say --replace\n"
    assert file.read_bytes() == before


def test_without_a_store_it_says_so_and_leaves_no_file(tmp_path: Path) -> None:
    nowhere = policies(tmp_path, "redis://127.0.0.1:1/0")
    ran = sluice("backup", tmp_path / "backup", "--policies", nowhere)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("sluice: the store does not answer (no connection to 127.0.0.1:1: ")
    assert ran.err.endswith("); check store.url in policies.yaml\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policies.yaml"]


async def test_restoring_without_a_store_says_so(file: Path, tmp_path: Path) -> None:
    ran = sluice("restore", file, "--policies", policies(tmp_path, "redis://127.0.0.1:1/0"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("sluice: the store does not answer (no connection to 127.0.0.1:1: ")
    assert ran.err.endswith("); check store.url in policies.yaml, then run this again\n")


async def test_what_is_no_backup_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    file = policies(tmp_path, "redis://127.0.0.1:1/0")
    ran = sluice("restore", file, "--policies", file)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"sluice: {file} is no backup: it does not begin as one that `sluice backup` has written\n"


async def test_the_embedded_store_of_an_empty_machine_is_started_for_it_and_keeps_it(
    file: Path, short_folder: Path
) -> None:
    here = policies(short_folder, "embedded")
    dry = sluice("restore", file, "--dry-run", "--policies", here)
    assert (dry.code, (short_folder / "data").exists()) == (0, False)
    ran = sluice("restore", file, "--policies", here)
    assert (ran.code, ran.err) == (0, "")
    again = sluice("restore", file, "--policies", here)
    assert again.code == 2
    assert again.err.startswith("sluice: the store is not empty, it has sl:")


async def test_an_embedded_store_that_keeps_nothing_is_refused(file: Path, short_folder: Path) -> None:
    ran = sluice("restore", file, "--policies", policies(short_folder, "embedded", more=", promise: memory"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "sluice: store.promise: memory: the embedded store keeps nothing on the disk then, so what is restored would "
        "be gone when it stops; write second or always\n"
    )


async def test_nothing_starts_or_works_on_the_store_meanwhile_and_it_says_why(
    server: Server, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    here = policies(tmp_path, server.url, port=free_port())
    server.tell("CONFIG", "SET", "appendonly", "yes")
    store = Store(server.url, timeout=10.0)
    assert await restoring.begin(store) == "first"
    await store.close()
    for process in (("gateway",), ("relay",), ("up",), ("dead", "replay", "--all")):
        ran = sluice(*process, "--policies", here)
        assert ran.code == 2
        assert (
            "sluice: a backup is being restored into this store, so nothing else may work on it: wait until `sluice "
            "restore` has ended; where it was broken off, run it again, and it begins anew (docs/backup.md)\n"
        ) in ran.err


async def test_one_that_is_killed_begins_anew(file: Path, server: Server, tmp_path: Path) -> None:
    here = policies(tmp_path, server.url, name="other.yaml")
    process = subprocess.Popen(
        command("restore", file, "--policies", here), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    await until(lambda: server.tell("EXISTS", restoring.KEY), timeout=60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    refused = sluice("restore", file, "--policies", here)
    assert refused.code == 2
    assert refused.err.startswith("sluice: another `sluice restore` works on this store, or was broken off ")
    server.tell("SET", restoring.KEY, 1)  # it was long ago
    server.tell("SET", "sl:{l}:left", "of the first one")
    ran = sluice("restore", file, "--policies", here)
    assert (ran.code, ran.err) == (0, "")
    assert server.tell("EXISTS", restoring.KEY, "sl:{l}:left") == 0


@pytest.mark.parametrize(("without", "what"), [("-dump", "backup"), ("-restore", "restore")])
async def test_a_user_without_the_rights_is_told_where_they_stand(
    without: str, what: str, file: Path, short_folder: Path, free_port: Callable[[], int]
) -> None:
    with single(short_folder, free_port, valkey()) as servers:
        servers.allow([*rights(), "+dump", "+pexpiretime", "+restore", without], ())
        store = Store(servers.url, timeout=10.0)
        if what == "backup":
            await accept(queue(store), event("a"))
        await store.close()
        path = file if what == "restore" else file.parent / "another"
        ran = sluice(what, path, "--policies", policies(file.parent, servers.url, name="other.yaml"))
    assert ran.code == 2
    cure = "give its user the rights that docs/store.md lists (ACL LOG there says which one it lacks)"
    assert cure in ran.err
    if what == "backup":
        assert ran.err.startswith("sluice: the store refused: ")
        assert not path.exists()
    else:
        assert ran.err.startswith("sluice: the store refused it: NOPERM ")
        assert ran.err.endswith(f"{cure}; put that right, then run the same command again: it begins anew\n")


def test_a_terminal_is_shown_how_far_it_is_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), "\r\033[K12 keys\r\033[K"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress() as progress:
            progress("12 keys")
            progress("13 keys, at once")
        assert stream.getvalue() == shown
