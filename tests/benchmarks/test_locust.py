"""The load test as a person runs it: against a whole `sluice up`, with the file it runs with and with another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
LOCUSTFILE = ROOT / "benchmarks" / "locust" / "locustfile.py"

pytestmark = pytest.mark.anyio

LIMITS = """
limits:
  - {id: message, event: message_received, per: [session], rate: 1000/minute, burst: 200, over: queue}
  - {id: typing, event: typing_indicator, per: [session], rate: 60/minute, burst: 3, over: drop}
  - {id: send, event: message_send, per: [session], rate: 20/minute, burst: 2, over: reject}
  - {id: address, per: [ip], rate: 40/second, burst: 80, except: [laravel]}
  - {id: trial, event: message_send, per: [ip], rate: 1/hour, burst: 1, mode: observe}"""


@pytest.fixture
async def deployed(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    async with deployment(short_folder, (free_port(), free_port())) as made:
        text = made.file.read_text()
        before, _, after = text.partition("\nlimits:")
        made.file.write_text(before + LIMITS + after[after.index("\nrelay:") :])
        await made.start_up()
        await made.start_worker("w1")

        async def registered() -> bool:
            return bool((await made.status())["workers"])

        await until(registered, timeout=30, what="a worker, without which requests for sessions are held")
        yield made


async def test_a_gateway_that_keeps_its_limits_passes(deployed: Deployment) -> None:
    code, said = await _locust(deployed, deployed.file, "12s")
    assert code == 0, said
    assert "limits    held to what may pass: typing, send, address" in said
    assert "let more pass, as they say (queue, observe, enforce): message, trial" in said
    assert "0 over-admitted, 0 wrongly refused" in said
    assert "PASSED" in said
    assert re.search(r"waits     [1-9][0-9]* passed after the wait that a refusal said, 0 did not", said), said
    for refused in ("typing_indicator, refused", "message_send, refused", "attack, refused"):
        assert refused in said


async def test_a_gateway_that_lets_more_pass_than_its_limits_say_fails(deployed: Deployment, tmp_path: Path) -> None:
    stricter = tmp_path / "stricter.yaml"
    stricter.write_text(deployed.file.read_text().replace("rate: 60/minute, burst: 3", "rate: 30/minute, burst: 2"))
    code, said = await _locust(deployed, stricter, "6s")
    assert code == 1, said
    assert "over-admission: limit typing, session load_" in said
    assert "FAILED" in said
    assert "over-admitted, none allowed" in said


async def test_a_gateway_that_refuses_more_than_its_limits_say_fails(deployed: Deployment, tmp_path: Path) -> None:
    looser = tmp_path / "looser.yaml"
    looser.write_text(deployed.file.read_text().replace("rate: 60/minute, burst: 3", "rate: 600/minute, burst: 30"))
    code, said = await _locust(deployed, looser, "6s")
    assert code == 1, said
    assert "wrong refusal: limit typing, session load_" in said
    assert "of the refusals were wrong, at most 0.1% allowed" in said


async def test_a_wrong_secret_passes_nothing_and_says_why(deployed: Deployment) -> None:
    code, said = await _locust(deployed, deployed.file, "2s", "Message", secret="another one")
    assert code == 1, said
    assert "401 X-HMAC-Signature does not match the body; check that both sides have the same secret" in said
    assert "FAILED    nothing passed, so nothing was tested" in said


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--policies", "gone.yaml"], "gone.yaml cannot be read: No such file or directory"),
        (["--hmac-secret", "env:GONE"], "there is no secret in env:GONE"),
        (["--hmac-secret", "s3cr3t"], "name the secret as env:NAME or file:PATH; it must not stand on a command line"),
        (["--pace", "0"], "--pace must be more than 0"),
        (["--attack-from", "192.0.2.9"], "this machine has no address 192.0.2.9 to send from (--attack-from)"),
        (["--master"], "the oracle must see every request: run one locust process"),
    ],
)
async def test_what_cannot_work_is_refused_at_the_start(
    options: list[str], problem: str, free_port: Callable[[], int]
) -> None:
    host = f"http://127.0.0.1:{free_port()}"
    code, said = await _run("--host", host, "-t", "2s", "--policies", str(ROOT / "policies.yaml"), *options)
    assert (code, problem in said) == (2, True), said


async def test_a_gateway_that_is_not_there_fails(free_port: Callable[[], int]) -> None:
    host = f"http://127.0.0.1:{free_port()}"
    code, said = await _run("--host", host, "-t", "2s", "--policies", str(ROOT / "policies.yaml"))
    assert code == 1, said
    assert "requests without an answer, none allowed" in said


async def test_latency_counts_from_when_a_request_was_due(free_port: Callable[[], int]) -> None:
    """Twenty a second are due, and each takes 0.3 s: seen from where it was sent, nothing would be wrong."""
    port = free_port()
    async with _slow(port):
        where = ("--host", f"http://127.0.0.1:{port}", "--policies", "")
        code, said = await _run(*where, "-t", "4s", "-u", "1", "NoisySession")
    assert code == 1, said
    assert 300 <= _p95(said, "served") < 1000, "beside other tests"
    assert _p95(said, "since due") > 2000
    assert "were due and never sent: the answers before them took too long" in said
    assert re.search(r"FAILED    p95 [0-9,]+ ms since due, at most 1,000 ms allowed \(--p95\)", said)


@asynccontextmanager
async def _slow(port: int) -> AsyncIterator[None]:
    """Somebody who takes 0.3 s for every answer."""
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(cast(asyncio.Task[None], asyncio.current_task()))
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: ([0-9]+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                await asyncio.sleep(0.3)
                writer.write(b'HTTP/1.1 202 Accepted\r\nContent-Length: 19\r\n\r\n{"status":"queued"}')
                await writer.drain()

    async with await asyncio.start_server(talk, "127.0.0.1", port):
        yield
        await asyncio.wait(talks, timeout=5)


def _p95(said: str, what: str) -> float:
    found = re.search(rf"{what} .*?p95 ([0-9,.]+) ms", said)
    assert found, said
    return float(found[1].replace(",", ""))


async def _locust(
    deployed: Deployment, policies: Path, time: str, *users: str, secret: str = SECRETS["WHATSAPP_HMAC_SECRET"]
) -> tuple[int, str]:
    arguments = (
        "--host",
        deployed.gateway,
        "--policies",
        str(policies),
        "-t",
        time,
        "-u",
        "14",
        "-r",
        "14",
        "--p95",
        "5000",
    )
    return await _run(*arguments, *users, secret=secret)


async def _run(*arguments: str, secret: str = SECRETS["WHATSAPP_HMAC_SECRET"]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", *arguments),
        env={**os.environ, "WHATSAPP_HMAC_SECRET": secret, "COLUMNS": "200"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise AssertionError("locust does not end") from None
    assert process.returncode is not None
    return process.returncode, said.decode()
