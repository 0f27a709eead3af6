"""What receivers, workers and senders write reaches a person's terminal and browser as text, and steers neither.

A receiver, a worker and senders that answer with escape sequences, line ends, text that runs backwards and bytes that
are no UTF-8; then every command of the table, and the page in a real browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from playwright.async_api import expect
from starlette.applications import Starlette

from gateway.policies import Policies, edits, load
from gateway.resources import Resources
from relay import process as relay_process
from relay.process import open_circuit, open_queue
from relay.queue.codec import Event, new_id
from relay.queue.history import history_of
from relay.queue.queue import Queue
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import contents_of, open_vault
from sessions.profiles.vault import Saved
from sessions.registry import ObservedSession, Registry, Worker
from sluice.cli.main import COMMANDS, main
from sluice.console import http as api
from sluice.console.page import libraries
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.relay.making import accept
from tests.relay.receiver import Got, receiver
from tests.sessions.profiles.making import profile
from tests.sluice.cli.command import SECRETS, command, environment
from tests.sluice.console.page.looking import chromium, looked
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202eevil\u2066\u2028\x7f<b>"
RAW = b"\x1b[2J\r\nno\rno \xff\xfe\x9b31m \0 \xe2\x80\xae live <b>bold</b>"
KEYS = {**SECRETS, "VAULT_KEY": "0123456789abcdef0123456789abcdef"}
RETRY = "{attempts: 9999, base: 100ms, cap: 100ms}"
RUN_ON = {"up", "gateway", "relay", "worker", "demo-laravel"}
"""They print their own lines and logs; `tests/sluice/observe/test_log.py` is about those."""
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Deployment:
    policies: Path
    port: int


@pytest.fixture
async def deployment(
    store: Store, store_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> AsyncIterator[Deployment]:
    """A relay and a gateway's console, on a store in which everything that others may write is hostile."""
    port, stop = free_port(), Stop()

    def answer(got: Got) -> tuple[int, bytes]:
        return ({b"well": 200, b"fails": 500}.get(got.body, 422), RAW)

    async with receiver(answer) as laravel:
        file = tmp_path / "policies.yaml"
        file.write_text(
            f'version: 1\nlisten: "127.0.0.1:{port}"\nstore: {{url: "{store_url}"}}\ndata: {tmp_path / "data"}\n'
            f"sessions: {{vault: {{key: env:VAULT_KEY}}}}\n"
            f"relay: {{endpoints: {{laravel: {{url: {laravel.url}, retry: {RETRY}}}}}, retention: {{bodies: 1d}}}}\n"
            "console: {token: env:SLUICE_CONSOLE_TOKEN}\n"
        )
        policies = load(file, environment=KEYS)
        await _keep(store, policies, profile(tmp_path / "profile", size=1000))
        queue = open_queue(store, policies.relay.endpoints["laravel"], policies)
        await _fill(store, queue)
        relaying = asyncio.create_task(relay_process.run(edits.live(policies), store_url, stop))

        async def attempted() -> bool:
            # While others get through, what is rejected twice is the event's own fault.
            await accept(queue, Event(new_id(), "message", "well", b"/hook", (), b"well", lane="normal"))
            history = await history_of(store, ["laravel"], "evt_waits")
            return (await queue.counts()).dead == 1 and history is not None and bool(history.endpoints[0].attempts)

        await until(attempted)
        await open_circuit(store, policies.relay.endpoints["laravel"]).hold("closed", HOSTILE)
        parts = Resources(policies, store, Registry(store, 600.0), {"laravel": queue}, edits.live(policies))
        bound = listening("127.0.0.1", port)
        serving = asyncio.create_task(serve(Starlette(routes=api.routes(parts)), bound, stop))
        yield Deployment(file, port)
        stop.request()
        await asyncio.gather(relaying, serving)


async def _fill(store: Store, queue: Queue) -> None:
    for name, body in (("dead", b"{}"), ("waits", b"fails"), ("kept", b"well")):
        kind, session = f"message{HOSTILE}", f"{name}{HOSTILE}".replace("\0", "")
        await accept(queue, Event(f"evt_{name}", kind, session, b"/hook", (), body, lane="normal"))
    registry = Registry(store, 600.0)
    await registry.register(Worker("w", "1", f"http://w/{HOSTILE}", 1))
    seen = {f"s{HOSTILE}": ObservedSession(f"state{HOSTILE}", f"phone{HOSTILE}", {"about": HOSTILE})}
    await registry.observe(Worker("x", "1", "http://x", 1), seen)


async def _keep(store: Store, policies: Policies, source: Path) -> None:
    assert policies.sessions.vault is not None
    vault, session = open_vault(policies.sessions.vault, store), f"s{HOSTILE}"
    fence = (await vault.generations.claim(session)).fence
    for _ in range(2):
        (source / "Default/Cookies").write_bytes(os.urandom(100))
        saved = await vault.save(session, fence, source, Origin(HOSTILE, HOSTILE, HOSTILE, HOSTILE))
        assert isinstance(saved, Saved)
    chunks = (await vault.verify(session, 2)).chunks
    names = [(2, chunk.name) for chunk in chunks if chunk.of == 2]
    await contents_of(policies.sessions.vault, store).erase(session, names)


def commands_on(folder: Path, policies: Path) -> dict[str, list[list[object]]]:
    """By name of the table: what is run of it."""
    wrong = folder / "wrong.yaml"
    wrong.write_bytes(b'version: 1\n"a\xc2\x9b31m\xe2\x80\xae": 1\n')
    row = {"at": "2026-01-31T12:00:00Z", "msg": "request", "method": "GET", "path": "/", "client": HOSTILE}
    log = folder / "data" / "logs" / "gateway.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(orjson.dumps({**row, "session": HOSTILE, "status": 200}) + b"\n")
    disk = profile(folder / "userDataDir" / HOSTILE, size=10).parent
    backup = folder / f"{HOSTILE}.backup"
    here: list[object] = ["--policies", policies]
    audit = folder / "data" / "logs" / "audit.jsonl"
    who = dict.fromkeys(("who", "from", "through", "action"), HOSTILE)
    audit.write_bytes(orjson.dumps({"at": row["at"], **who, "request": {HOSTILE: HOSTILE}, "error": HOSTILE}) + b"\n")
    return {
        "check": [["check", wrong], ["check", wrong, "--json"], ["check", f"no{HOSTILE}"]],
        "status": [["status", *here], ["status", "--json", *here]],
        "explain": [["explain", "--path", f"/{HOSTILE}", *here], ["explain", "--path", f"{HOSTILE}", *here]],
        "audit": [["audit", *here], ["audit", "--json", *here]],
        "history": [["history", *here], ["history", "--json", *here]],
        "diff": [["diff", wrong, policies], ["diff", policies, policies, "--json"]],
        "policies": [
            ["policies", "show", *here],
            ["policies", "try", wrong, *here],
            ["policies", "try", policies, "--no-secrets", *here],
            ["policies", "try", f"no{HOSTILE}", *here],
        ],
        "replay": [["replay", log, *here], ["replay", log, "--json", *here]],
        "event": [
            ["event", "find", "--type", "*", *here],
            ["event", "resend", "--all", *here],
            ["event", "resend", "--all", "--json", *here],
            ["event", "resend", HOSTILE, *here],
            ["event", "try", HOSTILE, *here],
            ["event", "try", "laravel", "--session", HOSTILE, "--type", HOSTILE, *here],
            *(
                ["event", which, *here, *more]
                for which in ("evt_dead", "evt_waits", "evt_kept", HOSTILE)
                for more in ([], ["--json"])
            ),
        ],
        "dead": [
            ["dead", "list", *here],
            ["dead", "list", "--json", *here],
            ["dead", "show", "evt_dead", *here],
            ["dead", "replay", "--all", "--dry-run", *here],
            ["dead", "replay", HOSTILE, *here],
        ],
        "queue": [
            ["queue", "list", *here],
            ["queue", "list", "--json", *here],
            ["queue", "show", "evt_waits", *here],
            ["queue", "skip", "--all", "--dry-run", *here],
            ["queue", "skip", HOSTILE, *here],
            ["queue", "move", HOSTILE, "laravel", *here],
            ["queue", "move", "crm", HOSTILE, *here],
        ],
        "alerts": [
            ["alerts", "list", *here],
            ["alerts", "list", "--json", *here],
            ["alerts", "test", HOSTILE, *here],
            ["alerts", "silence", HOSTILE, "--for", "2h", *here],
            ["alerts", "silence", "circuit_open", "--subject", HOSTILE, "--for", "2h", "--why", HOSTILE, *here],
            ["alerts", "list", *here],
            ["alerts", "unsilence", HOSTILE, *here],
        ],
        "limits": [
            ["limits", "show", "--session", HOSTILE, *here],
            ["limits", "show", "--limit", HOSTILE, *here],
            ["limits", "nearest", *here],
        ],
        "backup": [
            ["backup", backup, *here],
            ["backup", backup, "--replace", "--json", *here],
            ["backup", backup, *here],
        ],
        "restore": [
            ["restore", backup, "--dry-run", *here],
            ["restore", backup, *here],
            ["restore", f"no{HOSTILE}", *here],
        ],
        "schema": [["schema"]],
        "completion": [["completion", "bash"], ["completion", HOSTILE]],
        "init": [["init", f"no/{HOSTILE}".replace("\0", ""), "--yes", "--laravel", HOSTILE]],
        "circuit": [
            ["circuit", "list", *here],
            ["circuit", "show", "laravel", *here],
            ["circuit", "hold", HOSTILE, "open", *here],
        ],
        "sessions": [
            ["sessions", "list", *here],
            ["sessions", "list", "--json", *here],
            ["sessions", "show", f"s{HOSTILE}", *here],
            ["sessions", "watch", *here],
            ["sessions", "watch", "--json", *here],
            ["sessions", "restart", HOSTILE, "--dry-run", *here],
            ["sessions", "rebalance", "--dry-run", *here],
            ["sessions", "clean", "--duplicates", "--dry-run", *here],
            ["sessions", "create", HOSTILE, "--workspace", HOSTILE, *here],
            ["sessions", "qr", f"s{HOSTILE}", *here],
            ["sessions", "qr", f"s{HOSTILE}", "--json", *here],
            ["sessions", "pair", f"s{HOSTILE}", "--phone", "4917012345", *here],
            ["sessions", "logout", f"s{HOSTILE}", "--dry-run", *here],
            ["sessions", "delete", f"s{HOSTILE}", "--dry-run", *here],
            ["sessions", "migrate", disk, *here],
            ["sessions", "migrate", disk, "--json", *here],
            ["sessions", "export", f"s{HOSTILE}", "--as", "local-auth", disk, *here],
        ],
        "workers": [["workers", "drain", HOSTILE, *here], ["workers", "take-back", HOSTILE, *here]],
        "vault": [
            ["vault", "list", *here],
            ["vault", "list", "--json", *here],
            ["vault", "show", f"s{HOSTILE}", *here],
            ["vault", "show", f"s{HOSTILE}", "--json", *here],
            ["vault", "show", HOSTILE, *here],
            ["vault", "verify", *here],
            ["vault", "verify", "--json", *here],
            ["vault", "prune", *here],
            ["vault", "prune", "--dry-run", "--json", *here],
            ["vault", "prune", "--yes", *here],
            ["vault", "rekey", *here],
            ["vault", "rekey", "--yes", "--after", HOSTILE, *here],
            ["vault", "delete", f"s{HOSTILE}", *here],
            ["vault", "delete", f"s{HOSTILE}", "--yes", *here],
            ["vault", "undelete", f"s{HOSTILE}", *here],
            ["vault", "undelete", f"s{HOSTILE}", *here],
        ],
    }


async def test_no_command_passes_a_control_character_on(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = commands_on(tmp_path, deployment.policies)
    assert set(runs) | RUN_ON == {name for name, _, _ in COMMANDS}
    for name, value in {**KEYS, "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    for arguments in [one for several in runs.values() for one in several]:
        code, out = await run_here(*arguments)
        assert STEERING.findall(out) == [], arguments
        assert code in (0, 1, 2), (arguments, out)
        assert "Traceback" not in out, (arguments, out)
    for name in ("status", "event", "dead", "circuit", "sessions", "vault", "audit"):
        _, out = await run_here(*runs[name][0])
        assert r"\x1b[2J" in out, name


async def test_nor_does_one_that_runs_as_a_process(deployment: Deployment, tmp_path: Path) -> None:
    code, out = await run(*commands_on(tmp_path, deployment.policies)["event"][0])
    assert (code, STEERING.findall(out)) == (0, []), out
    assert r"\x1b[2J" in out
    assert r"\u202e" in out


async def run_here(*arguments: object) -> tuple[int, str]:
    """In a thread of this process, as a command is: its exit code, and both streams as bytes would have left it."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            code = await asyncio.to_thread(main, [str(argument) for argument in arguments])
        except SystemExit as done:  # of argparse
            code = done.code if isinstance(done.code, int) else 1
        stream.flush()
    return code, raw.getvalue().decode()


async def run(*arguments: object) -> tuple[int, str]:
    """Its exit code, and both streams as they came."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(KEYS),
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_the_page_shows_it_as_text(deployment: Deployment) -> None:
    await asyncio.to_thread(libraries.install)
    url, token = f"http://127.0.0.1:{deployment.port}", SECRETS["SLUICE_CONSOLE_TOKEN"]
    async with chromium() as browser, looked(browser, url, token=token) as it:
        await expect(it.page.locator("#messages")).to_contain_text(r"\u202eevil")
        shown = await it.page.locator("body").text_content() or ""
    assert r"\u001b[2J\u001b]0;owned" in shown
    assert "<b>" in shown
    assert STEERING.findall(shown) == []
