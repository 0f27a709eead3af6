from __future__ import annotations

import subprocess
import sys

from tests.sluice.cli.command import ROOT, environment

LIMITS = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE), files.first_reserved())"


def run(code: str, soft: int, hard: int) -> str:
    """What a process with these limits says."""
    done = subprocess.run(
        ["prlimit", f"--nofile={soft}:{hard}", sys.executable, "-P", "-c", code],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_the_soft_limit_is_raised_to_the_hard_one_and_a_quarter_of_it_is_kept() -> None:
    code = f"from sluice.process import files; files.raise_limit(); {LIMITS}"
    assert run(code, 100, 400) == "400 400 300"
    assert run(code, 400, 400) == "400 400 300"


def test_whatever_command_is_given_raises_it_at_its_start() -> None:
    code = f"from sluice.cli.main import main; from sluice.process import files; main(['schema']); print(); {LIMITS}"
    assert run(code, 100, 400).splitlines()[-1] == "400 400 300"


def test_the_number_of_a_file_says_whether_it_is_one_of_those_that_are_kept() -> None:
    code = """
import asyncio, socket
from sluice.process import files

async def main():
    first = files.first_reserved()
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    held, seen = [], []
    while True:
        client = socket.create_connection(server.sockets[0].getsockname())
        held.append(client)
        _, writer = await asyncio.open_connection(sock=client)
        held.append(writer)
        wire = writer.transport
        seen.append((client.fileno() >= first, files.is_reserved(wire), files.is_nearly_last(wire)))
        if client.fileno() >= first + first // 6:
            break
    assert all(a == b for a, b, _ in seen), seen
    print([seen[0][1], seen[-1][1], seen[0][2], seen[-1][2]])

asyncio.run(main())
"""
    assert run(code, 80, 80) == "[False, True, False, True]"
