"""What docs/signatures.md shows is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sluice.config import Secret, Signature
from sluice.config.common import OPTIONS
from sluice.http.signatures import refusal

PAGE = (Path(__file__).parent.parent / "docs" / "signatures.md").read_text()
SECRET = "0123456789abcdef0123456789abcdef"
Came = list[tuple[list[tuple[bytes, bytes]], bytes]]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Came]]:
    """Its address, and what comes to it."""
    came: Came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
            came.append((headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", came
        server.shutdown()
        thread.join()


def test_the_example_is_signed_as_the_preset_asks_for(receiver: tuple[str, Came]) -> None:
    address, came = receiver
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SLUICE": address, "WHATSAPP_HMAC_SECRET": SECRET}
    subprocess.run(["sh", "-ec", script], env=environment, check=True, timeout=60)
    ((headers, body),) = came
    assert refusal(Signature("workers", "blazz", Secret(SECRET.encode())), headers, body, time.time()) is None
    assert refusal(Signature("workers", "blazz", Secret(b"another")), headers, body, time.time()) is not None


def test_every_preset_is_on_the_page() -> None:

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)) == set(OPTIONS)
