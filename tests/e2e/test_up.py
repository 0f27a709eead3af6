"""`sluice up` as a person runs it, stops it, and kills it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import orjson
import pytest

from gateway.policies import Policies, load
from sluice.cli import status
from sluice.cli.errors import CommandError
from sluice.demo import deployment as demo
from tests.e2e.deployment import Deployment, deployment
from tests.e2e.receiver import Receiver, receiving
from tests.ports import port_of
from tests.waiting import until

pytestmark = pytest.mark.anyio

SESSION = "webjs_1_1_a"
ORPHAN = "an earlier run was killed and left its store behind; it was stopped, its data is kept"


@dataclass(frozen=True, slots=True)
class Scene:
    sluice: Deployment
    laravel: Receiver
    processes: set[int] = field(default_factory=set)
    """Those seen of every `sluice up` here; killed at the end, should one have been left behind."""

    def family(self) -> list[int]:
        found = self.sluice.family()
        self.processes.update(found)
        return found

    def child(self, name: str) -> int:
        (found,) = [pid for pid in self.family()[1:] if name in command_line(pid)]
        return found

    async def ended(self) -> int:
        """The exit code of `sluice up`."""
        assert self.sluice.up is not None
        async with asyncio.timeout(30):
            return await self.sluice.up.wait()

    def moment(self, process: str, message: str) -> str:
        """When a process logged this."""
        file = self.sluice.policies.data / "logs" / f"{process}.jsonl"
        (found,) = [row["at"] for row in map(orjson.loads, file.read_bytes().splitlines()) if row["msg"] == message]
        return str(found)


@pytest.fixture
async def scene(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Scene]:
    ports = (free_port(), free_port())
    async with receiving(ports[1]) as laravel, deployment(short_folder, ports) as sluice:
        scene = Scene(sluice, laravel)
        try:
            yield scene
        finally:
            if sluice.up is not None and sluice.up.returncode is not None:
                kill(scene.processes)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pids: Iterable[int]) -> None:
    for pid in filter(runs, pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


async def test_a_second_one_on_the_same_data_is_refused_and_who_connects_waits_for_a_killed_gateway(
    scene: Scene,
) -> None:
    await scene.sluice.start_up()
    up, *children = scene.family()
    data = scene.sluice.policies.data
    assert await scene.sluice.run("up") == (
        2,
        "",
        f"sluice: {data} is in use by another `sluice up` or gateway (pid {up}); "
        "stop that one, or give this one its own `data:` folder\n",
    )
    assert scene.family() == [up, *children], "the first one did not notice"
    assert (data.stat().st_mode & 0o777, (data / "store.sock").stat().st_mode & 0o777) == (0o700, 0o700)

    await scene.sluice.kill_child("gateway")
    await scene.sluice.send(SESSION)  # not refused, although nobody answers yet
    await until(lambda: scene.laravel.taken(), what="a delivery")
    said = scene.sluice.said().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d  \S| {2}\S", line) for line in said)
    told = [line.split("  ", 1)[1] for line in said]
    assert "gateway was killed by SIGKILL; it is started again in 0.25s" in told
    assert any(line.startswith(f"gateway   {scene.sluice.gateway} ") for line in told)
    assert "stop with Ctrl-C" in told


async def test_ctrl_c_stops_everything_in_order_and_finishes_what_is_under_way(scene: Scene) -> None:
    scene.sluice.file.write_text(scene.sluice.file.read_text().replace("timeout: 1s", "timeout: 20s"))
    await scene.sluice.start_up()
    scene.laravel.lets_go.clear()
    sent = await scene.sluice.send(SESSION)
    await until(lambda: scene.laravel.waiting == 1, what="the receiver to have it")
    up, *children = scene.family()
    gateway, relay, store = scene.child("gateway"), scene.child("relay"), scene.child("valkey-server")

    os.kill(up, signal.SIGINT)
    await until(lambda: not runs(gateway), timeout=20, what="the gateway to stop")
    await asyncio.sleep(0.3)
    assert runs(relay), "it waits for the receiver's answer"
    assert runs(store)
    scene.laravel.lets_go.set()
    assert await scene.ended() == 0
    assert not any(map(runs, children))
    assert scene.sluice.said().splitlines()[-1].endswith("  stopped")
    gateway_end, relay_end = (scene.moment(name, f"{name}.stopped") for name in ("gateway", "relay"))
    assert gateway_end < relay_end

    await scene.sluice.start_up()
    assert await scene.sluice.delivered() == 1
    assert await scene.sluice.drained()
    assert [one.id for one in scene.laravel.got] == [sent]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_right_after_the_first_orphans_nobody(scene: Scene, second: signal.Signals) -> None:
    await scene.sluice.start_up("--workers", "1")
    await until(lambda: len(scene.family()) == 5, what="store, relay, gateway and worker")
    up, *children = scene.family()
    os.kill(up, signal.SIGINT)
    await asyncio.sleep(0.05)
    os.kill(up, second)
    assert await scene.ended() == 0
    assert [command_line(pid) for pid in children if runs(pid)] == []
    assert scene.sluice.said().splitlines()[-1].endswith("  stopped")


async def test_a_later_signal_ends_everybody_at_once_and_what_was_accepted_goes_on(scene: Scene) -> None:
    scene.sluice.file.write_text(scene.sluice.file.read_text().replace("timeout: 1s", "timeout: 30s"))
    await scene.sluice.start_up()
    scene.laravel.lets_go.clear()
    sent = await scene.sluice.send(SESSION)
    await until(lambda: scene.laravel.waiting == 1, what="the receiver to have it")
    up, *children = scene.family()
    os.kill(up, signal.SIGTERM)
    await asyncio.sleep(1.2)
    assert runs(scene.child("relay")), "it waits for the receiver's answer"
    os.kill(up, signal.SIGTERM)
    assert await scene.ended() == 0
    assert [command_line(pid) for pid in children if runs(pid)] == []
    assert "stopping at once: what is in flight is cut" in scene.sluice.said()
    scene.laravel.lets_go.set()
    await scene.sluice.start_up()
    await until(scene.sluice.drained, timeout=20, what="it to be sent again when its lease is over")
    assert {one.id for one in scene.laravel.got} == {sent}


async def test_ctrl_c_during_the_start_ends_the_start(scene: Scene) -> None:
    scene.sluice.up = await scene.sluice.sluice("up")
    await until(lambda: len(scene.family()) > 1, timeout=20, what="a first child")
    os.kill(scene.sluice.up.pid, signal.SIGINT)
    assert await scene.ended() == 0
    assert not any(map(runs, scene.processes))
    assert "Ctrl-C" not in scene.sluice.said()
    assert scene.sluice.said().splitlines()[-1].endswith("  stopped")


async def test_after_a_kill_of_everything_what_was_accepted_is_there_and_delivered(scene: Scene) -> None:
    await scene.sluice.start_up()
    scene.laravel.down = True
    ids = [await scene.sluice.send(SESSION, number) for number in range(20)]
    everybody = scene.family()
    kill(everybody)
    await scene.ended()
    await until(lambda: not any(map(runs, everybody)), what="everybody to be gone")
    assert scene.laravel.taken() == []

    scene.laravel.down = False
    await scene.sluice.start_up()
    await until(lambda: len(scene.laravel.taken()) >= 20, timeout=30, what="all of them")
    assert [(one.id, one.sequence) for one in scene.laravel.taken()] == list(zip(ids, range(20), strict=True))
    assert ORPHAN not in scene.sluice.said(), "the store was killed, too"


async def test_after_a_kill_of_up_alone_its_children_go_and_the_next_one_stops_the_store_left_behind(
    scene: Scene,
) -> None:
    await scene.sluice.start_up("--workers", "1")
    scene.laravel.down = True
    sent = await scene.sluice.send(SESSION)
    up, *children = scene.family()
    store = scene.child("valkey-server")
    assert len(children) == 4
    os.kill(up, signal.SIGKILL)
    await scene.ended()
    await until(lambda: [pid for pid in children if runs(pid)] == [store], timeout=20, what="the children to go")

    scene.laravel.down = False
    await scene.sluice.start_up()
    assert not runs(store)
    assert scene.child("valkey-server") != store
    assert scene.sluice.said().count(ORPHAN) == 1
    await until(lambda: scene.laravel.taken(), timeout=20, what="what was accepted before")
    assert [one.id for one in scene.laravel.taken()] == [sent]


async def test_it_does_not_start_with_a_mistake_or_on_a_taken_port(scene: Scene) -> None:
    port = port_of(scene.sluice.policies)
    with socket.create_server(("127.0.0.1", port)):
        assert await scene.sluice.run("up") == (
            2,
            "",
            f"sluice: cannot listen on 127.0.0.1:{port}: address already in use; "
            "stop what listens there, or choose another address\n",
        )
    good = scene.sluice.file.read_text()
    scene.sluice.file.write_text(good.replace("sessions: {lease: 3s", "sesions: {}\nsessions: {lease: 3 s"))
    line = 1 + good.split("\n").index(next(row for row in good.split("\n") if row.startswith("sessions:")))
    assert await scene.sluice.run("up") == (
        2,
        "",
        f"sluice: {scene.sluice.file}:{line}:1: sesions: unknown key; did you mean sessions\n"
        f'{scene.sluice.file}:{line + 1}:19: sessions.lease: "3 s" is not a duration; write 250ms, 5s, 2m, 1h or 1d\n',
    )


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that runs in a folder of its own."""

    policies: Policies
    url: str
    _output: Path

    def said(self) -> str:
        return self._output.read_text()

    async def flows(self, sessions: int) -> bool:
        """Whether events are delivered and all sessions are connected."""
        try:
            seen = await status.fetch(self.policies)
        except CommandError:
            return False
        endpoint = seen.endpoints["laravel"]
        connected = seen.sessions.states.get("connected", 0)
        return bool(endpoint.accepted and endpoint.delivered and connected == sessions)


@asynccontextmanager
async def demonstrating(
    folder: Path, free_port: Callable[[], int], *command: str, sessions: int
) -> AsyncIterator[Demo]:
    """`command` says how to start `sluice`. Stopped as by Ctrl-C, which must end well."""
    gateway, laravel = free_port(), free_port()
    file = demo.make_policies(folder / demo.FOLDER)
    file.write_text(file.read_text().replace(":8080", f":{gateway}").replace(":8000", f":{laravel}"))
    shown = Demo(load(file), f"http://127.0.0.1:{gateway}", folder / "said")
    with (folder / "said").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(*command, "up", "--demo", "--sessions", str(sessions), "--minute", "2s"),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await until(lambda: shown.flows(sessions), timeout=30, what="events to flow in the demo")
        yield shown
    finally:
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(40):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            raise
    assert code == 0, shown.said()


async def test_the_demo_shows_events_that_flow(short_folder: Path, free_port: Callable[[], int]) -> None:
    sluice = (sys.executable, "-P", "-m", "sluice")
    async with demonstrating(short_folder, free_port, *sluice, sessions=10) as shown:
        seen = await status.fetch(shown.policies)
        assert [(row.worker, row.sessions, row.lost) for row in seen.workers] == [
            ("demo-1", 5, False),
            ("demo-2", 5, False),
        ]
        token = (short_folder / demo.FOLDER / "console.token").read_text().strip()
        link = f"{shown.url}/_sluice/#token={token}"
        assert f"console   {link}\n" in shown.said()
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(link)).status_code == 200
        summed = re.compile(r"laravel: accepted \d+, delivered \d+, .* \| sessions 10/10$", re.MULTILINE)
        await until(lambda: summed.search(shown.said()), timeout=20, what="a line that sums up")
    assert " killed" not in shown.said()
    assert "started again" not in shown.said()


async def test_no_file_of_the_folder_where_it_is_started_is_imported(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    imported = short_folder / "imported"
    for name in (
        "cli",
        "redis",
        "sluice",
        "gateway",
        "relay",
        "sessions",
        "orjson",
        "uvloop",
        "logging",
        "sitecustomize",
    ):
        (short_folder / f"{name}.py").write_text(f"open({str(imported)!r}, 'a').write({name!r})\nraise SystemExit(3)\n")
    script = short_folder / "bin" / "sluice"  # as an installation has it
    script.parent.mkdir()
    script.write_text("import sys\nfrom sluice.cli.main import main\nsys.exit(main())\n")
    async with demonstrating(short_folder, free_port, sys.executable, str(script), sessions=2) as shown:
        assert "started again" not in shown.said()
    assert not imported.exists(), imported.read_text()


async def test_all_processes_log_to_standard_output_and_a_person_is_told_apart_from_it(
    scene: Scene, short_folder: Path
) -> None:
    sluice, told = scene.sluice, short_folder / "stderr.txt"
    sluice.file.write_text(f"{sluice.file.read_text()}log: {{to: stdout, requests: combined}}\n")
    sluice.under = ("sh", "-c", 'exec "$@" 2>"$0"', str(told))
    await sluice.start_up()
    await sluice.send(SESSION)
    await until(lambda: "delivery.attempted" in sluice.said(), what="the delivery to be logged")
    await until(lambda: "stop with Ctrl-C" in told.read_text(), what="a person to be told")
    await until(lambda: '"POST /api/whatsapp/webhooks/webjs HTTP/1.1" 202 ' in sluice.said(), what="the request")
    lines = [line for line in sluice.said().splitlines() if not line.startswith("127.0.0.1 - - [")]
    assert {orjson.loads(line)["process"] for line in lines} >= {"gateway", "relay"}, "all else is JSON"
    assert "logs      standard output" in told.read_text()
    assert not list((sluice.policies.data / "logs").iterdir())
    assert sluice.up is not None
    sluice.up.terminate()
    assert await scene.ended() == 0
    assert "stopped" in told.read_text()
    assert '"msg":"gateway.stopped"' in sluice.said()
