"""The receiver of the relay's benchmark: what it answers, and what it says of order, repeats and time."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from relaying.body import FIELDS, FIELDS_AT, body
from relaying.receiver import STUCK, Tally

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def _keep(tally: Tally, session: int, sequence: int, sent: float = 0.0, arrived: float = 0.0) -> None:
    tally.kept += body(session, sequence, sent)[FIELDS_AT : FIELDS_AT + FIELDS.size]
    tally.arrived.append(arrived)


def test_order_and_repeats_are_those_of_each_session() -> None:
    tally = Tally()
    for session, sequence in ((1, 9), (2, 3), (1, 10), (1, 10), (2, 1), (2, 4)):
        _keep(tally, session, sequence)
    counts = tally.counts()
    assert (counts.received, counts.repeated, counts.out_of_order) == (6, 1, 1)


def test_what_was_counted_before_still_counts() -> None:
    tally = Tally()
    _keep(tally, 1, 5)
    assert tally.counts().received == 1
    _keep(tally, 1, 4)
    counts = tally.counts()
    assert (counts.received, counts.out_of_order) == (2, 1)
    tally.forget()
    assert tally.counts().received == 0


def test_latency_is_of_those_that_say_when_they_were_sent() -> None:
    tally = Tally()
    _keep(tally, 1, 0)
    for sequence, milliseconds in enumerate((3, 1, 2), 1):
        _keep(tally, 1, sequence, 1_700_000_000.0, 1_700_000_000.0 + milliseconds / 1000)
    counts = tally.counts()
    assert (counts.p50, counts.p99) == (pytest.approx(2, abs=0.01), pytest.approx(3, abs=0.01))


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    command = [sys.executable, "-m", "relaying.receiver"]
    process = subprocess.Popen(command, cwd=BENCHMARKS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with socket.create_connection(("127.0.0.1", int(process.stdout.readline())), timeout=10) as connected:
        yield connected
    process.communicate(timeout=10)  # closes its standard input
    assert process.returncode == 0


def _post(content: bytes, path: str = "/ok") -> bytes:
    return f"POST {path}/x HTTP/1.1\r\nHost: a\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


def _counts(connection: socket.socket) -> dict[str, float]:
    connection.sendall(b"GET /counts HTTP/1.1\r\nHost: a\r\n\r\n")
    found = json.loads(connection.recv(4096).partition(b"\r\n\r\n")[2])
    assert isinstance(found, dict)
    return found


def test_each_request_is_answered_however_it_is_cut(connection: socket.socket) -> None:
    whole = _post(body(1, 1))
    for cut in (len(whole), 10, len(whole) - 500, len(whole) - 1):
        connection.sendall(whole[:cut])
        time.sleep(0.05)
        connection.sendall(whole[cut:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    counts = _counts(connection)
    assert (counts["received"], counts["repeated"]) == (4, 3)


def test_several_at_once_are_several(connection: socket.socket) -> None:
    connection.sendall(_post(body(1, 1)) + _post(body(1, 2, size=128)) + _post(body(1, 3)))
    answers = b""
    while answers.count(b"HTTP/1.1 200 ") < 3:
        answers += connection.recv(4096)
    counts = _counts(connection)
    assert (counts["received"], counts["repeated"], counts["out_of_order"]) == (3, 0, 0)


def test_what_is_stuck_fails_and_what_hangs_hangs(connection: socket.socket) -> None:
    connection.sendall(_post(body(STUCK, 1)))
    assert connection.recv(4096).startswith(b"HTTP/1.1 500 ")
    connection.sendall(_post(body(1, 1), "/hang"))
    counts = _counts(connection)  # the only answer that comes
    assert (counts["received"], counts["failed"], counts["hung"]) == (0, 1, 1)
