"""Stores that a test may kill, freeze and set up as it likes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from sluice.store import embedded
from tests.stepping_clock import SteppingClock


class Server:
    """A store of one test's own, on a TCP port and a unix socket in `folder`; with `settings` (a file) a sentinel."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *options: str,
        password: str = "",
        settings: Path | None = None,
        clock: SteppingClock | None = None,
        program: str = "",
    ) -> None:
        self.port = port
        self._password = password
        self.socket = folder / f"{port}.sock"
        self.url = f"unix://{self.socket}"
        file = [str(settings)] if settings else []
        options += ("--requirepass", password, "--masterauth", password) if password else ()
        self._command = [
            *(
                program or embedded.find_server(),
                *file,
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--unixsocket",
                str(self.socket),
            ),
            *("--dir", str(folder), "--logfile", "", *(("--sentinel",) if settings else ("--save", "")), *options),
        ]
        self._environment = {**os.environ, **(clock.environment if clock else {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, cwd=self.socket.parent, env=self._environment
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                self.tell("PING")
                return
            except (RedisError, OSError):
                assert self._process.poll() is None, "the store ended"
                assert time.monotonic() < deadline, "the store did not start"
                time.sleep(0.01)

    def tell(self, *command: str | int) -> Any:
        with Redis(unix_socket_path=str(self.socket), password=self._password) as client:
            return client.execute_command(*command)

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)
