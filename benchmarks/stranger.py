"""How long a stranger takes from `git clone` to Sluice between a Laravel and two workers: `benchmarks/stranger.py`.

It goes the way of docs/getting-started.md in a fresh clone of what is committed here, with the commands of that page:
the demo is started and ended, policies are written and checked, Sluice is started, a webhook is sent by hand, and then
two workers are put behind it and a session is created, scanned and written to. Laravel and the workers are those of
tests/contract, which keep the contract of the existing ones. Port 8080 must be free, where the demo answers; packages
come from the index that pip is set to. Exits with 1 if it takes over five minutes once the packages are there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.contract.running import SECRET, laravel, worker
from tests.contract.whatsapp import whatsapp
from tests.e2e.deployment import answers
from tests.ports import free_ports
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
DEMO = "http://127.0.0.1:8080"
POLICIES = "mine.yaml"
MOST = 300.0
"""Seconds, of all that comes after the packages."""
INSTALLED_WITHIN, ENDS_WITHIN = 1200.0, 60.0
BEGUN = "started the demo, with all packages"
ENDED = "a message that somebody wrote to the session delivered to Laravel"


@dataclass(slots=True)
class Stranger:
    clone: Path
    began: float = field(default_factory=time.monotonic)
    steps: dict[str, float] = field(default_factory=dict)
    """What was done → after how many seconds."""

    def done(self, what: str) -> None:
        self.steps[what] = time.monotonic() - self.began
        sys.stderr.write(f"{self.steps[what]:6.1f} s  {what}\n")

    async def run(self, *command: str, folder: Path | None = None, **environment: str) -> str:
        """A command that ends by itself, and well; what it printed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder or self.clone,
            env=_environment(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{command[0]}: {said.decode(errors='replace')}"
        return said.decode()

    @asynccontextmanager
    async def running(self, url: str, *command: str, **environment: str) -> AsyncIterator[None]:
        """One that goes on, from the moment that it answers there; ended by Ctrl-C."""
        output = self.clone.parent / "output.txt"
        with output.open("ab") as into:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.clone,
                env=_environment(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                start_new_session=True,
            )
        try:

            async def is_there() -> bool:
                assert process.returncode is None, f"it has ended: {output.read_text(errors='replace')[-4000:]}"
                return await answers(f"{url}/_sluice/readyz")

            await until(is_there, timeout=INSTALLED_WITHIN, what=lambda: output.read_text(errors="replace")[-4000:])
            yield
        finally:
            await _end(process)


async def walk(folder: Path, source: str, free_port: Callable[[], int]) -> dict[str, float]:
    stranger = Stranger(folder / "sluice")
    await stranger.run("git", "clone", "-q", source, str(stranger.clone), folder=folder)
    stranger.done("cloned")
    async with stranger.running(DEMO, "scripts/run"):
        stranger.done(BEGUN)
    stranger.done("ended the demo")
    async with AsyncExitStack() as stack:
        await _between(stranger, free_port, stack)
    return stranger.steps


async def _between(stranger: Stranger, free_port: Callable[[], int], stack: AsyncExitStack) -> None:
    port, folder = free_port(), stranger.clone.parent
    url = f"http://127.0.0.1:{port}"
    ports = [free_port(), free_port()]
    app = await stack.enter_async_context(laravel(free_port(), [url] * 2, folder))
    phones = await stack.enter_async_context(whatsapp())
    given = ("--laravel", app.url, "--workers", ",".join(f"http://127.0.0.1:{one}" for one in ports))
    ours = {"WHATSAPP_HMAC_SECRET": SECRET, "SLUICE_CONSOLE_TOKEN": secrets.token_hex(32)}
    await stranger.run(".venv/bin/sluice", "init", POLICIES, "--yes", "--listen", f"127.0.0.1:{port}", *given)
    await stranger.run(".venv/bin/sluice", "check", POLICIES, **ours)
    stranger.done("wrote and checked policies")
    await stack.enter_async_context(stranger.running(url, "scripts/run", "--policies", POLICIES, **ours))
    stranger.done("started Sluice")
    said = await stranger.run("sh", "-c", _by_hand(stranger.clone), SLUICE=url, **ours)
    assert '"status":"queued"' in said, said
    await until(lambda: app.shown("webhooks"), timeout=60, what="the webhook to be delivered")
    stranger.done("sent a webhook by hand, which was delivered to Laravel")
    written = yaml.safe_load((stranger.clone / POLICIES).read_text())["sessions"]["workers"]
    for one, named in zip(ports, written, strict=True):
        base = f"{url}{named.get('prefix', '')}"
        await stack.enter_async_context(worker(one, base, folder, phones))
    stranger.done("put two workers behind it")
    await app.add("first", 1)
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        answer = await http.post("/api/sessions", json={"session_id": "first", "workspace_id": 1, "account_id": 1})
    assert answer.status_code == 200, answer.text
    stranger.done("created a session")
    phones.scan("first", "4915123456789")
    await until(lambda: phones.connected("first"), timeout=60, what="the session to be connected")
    (browser,) = phones.running("first")
    stranger.done("scanned its code")
    async with httpx2.AsyncClient(trust_env=False) as http:
        at = next(one for one in ports if f"profiles-{one}" in browser.profile)
        await http.post(f"http://127.0.0.1:{at}/_test/receive", json={"session_id": "first", "id": "hello"})

    async def is_there() -> bool:
        return any("hello" in str(row) for row in await app.shown("messages"))

    await until(is_there, timeout=60, what="the message to be delivered")
    stranger.done(ENDED)


async def _end(process: asyncio.subprocess.Process) -> None:
    """By Ctrl-C, as its store ends only with it; then what compiles beside it."""
    try:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(ENDS_WITHIN):
            await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _by_hand(clone: Path) -> str:
    page = (clone / "docs" / "signatures.md").read_text()
    found = re.search(r"^## By hand$.*?^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found, "docs/signatures.md has no webhook by hand"
    return found[1]


def _environment(more: dict[str, str]) -> dict[str, str]:
    """As a stranger has it: nothing of this checkout is found."""
    ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**ours, **more}


def _is_taken(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def figures(steps: dict[str, float]) -> list[Figure]:
    """Of each step when it was done."""
    found = [Figure(f"after so long: {what}", round(seconds, 1), "s") for what, seconds in steps.items()]
    return [*found, Figure.at_most("from the packages to that", round(steps[ENDED] - steps[BEGUN], 1), MOST, "s")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(ROOT), help="what is cloned; this checkout without")
    chosen = parser.parse_args()
    if _is_taken(DEMO):
        sys.stderr.write(f"something answers at {DEMO} already, where the demo is to: end that first\n")
        return 2
    temporary = tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True)
    with temporary as folder, free_ports() as free_port:
        steps = asyncio.run(walk(Path(folder), chosen.source, free_port))
    found = figures(steps)
    sys.stdout.write("\n".join(one.line() for one in found) + "\n")
    tell(found)
    return int(any(one.met is False for one in found))


if __name__ == "__main__":
    sys.exit(main())
