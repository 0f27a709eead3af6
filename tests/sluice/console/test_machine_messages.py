from __future__ import annotations

import pytest

from sluice.console.messages.wording import size
from sluice.console.status import DiskStatus, LastMinute, ProcessStatus, StoreStatus
from tests.sluice.console.saying import said

GIB = 1024**3


def store(**what: object) -> StoreStatus:
    return StoreStatus(True, None, **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (
            store(failing="its append-only file"),
            "the store could not write its append-only file: what is accepted may be lost when it stops; see its disk "
            "(df -h) and its log",
        ),
        (
            store(appends=False),
            "the store has no append-only file, though store.promise is second: what is accepted is lost when it "
            "stops; CONFIG SET appendonly yes, and in its configuration file",
        ),
        (
            store(memory=870, max_memory=1024),
            "the store uses 85% of its maxmemory (1.0 KiB); at 100% it refuses writes, and webhooks with them: raise "
            "maxmemory, or let less wait",
        ),
        (store(up_s=12.0), "the store was started again 12s ago: its log says why"),
    ],
)
def test_a_store_that_is_in_danger_says_of_what(seen: StoreStatus, sentence: str) -> None:
    assert said(store=seen) == [sentence]


def test_a_store_that_keeps_nothing_is_right_where_nothing_is_promised() -> None:
    assert said(store=store(appends=False), promise="memory") == []


def test_a_store_that_was_started_with_the_gateway_was_not_started_again() -> None:
    assert said(store=store(up_s=12.0), up_s=11.0) == []
    assert said(store=store(up_s=301.0)) == []


@pytest.mark.parametrize(
    ("free", "total", "full"), [(90, 1000, "91%"), (0, 1000, "100%"), (2 * GIB, 200 * GIB, "99%"), (101, 1000, "")]
)
def test_a_disk_that_is_nearly_full(free: int, total: int, full: str) -> None:
    sentence = (
        f"the disk of .sluice is {full} full, {size(free)} left: when it is full the store cannot write and no log is "
        "kept; free some, or move data to a larger one"
    )
    assert said(disk=DiskStatus(".sluice", free, total)) == ([sentence] if full else [])


def test_a_tenth_of_a_large_disk_is_enough() -> None:
    assert said(disk=DiskStatus(".sluice", 20 * GIB, 2000 * GIB)) == []


def test_log_lines_that_were_lost() -> None:
    assert said(last_minute=LastMinute(log_writes=3)) == [
        "3 batches of log lines were lost in the last minute, because they could not be written: see the disk of the "
        "logs (df -h)"
    ]


def test_a_process_that_was_started_again_says_how_often_and_where_to_look() -> None:
    assert said(processes=(ProcessStatus("relay", 3, 12.0), ProcessStatus("gateway", 0, 12.0))) == [
        "relay was started again 3 times, the last time 12s ago: its log says why "
        "(logs/relay.jsonl in the data folder, or where log.to leads)"
    ]
    assert said(processes=(ProcessStatus("relay", 3, 301.0), ProcessStatus("worker", 1, None))) == []


def test_a_process_that_has_many_files_open_says_what_to_raise_before_it_refuses_anybody() -> None:
    assert said(
        processes=(ProcessStatus("gateway", 0, 12.0, 615, 1024), ProcessStatus("relay", 0, 9.0, 614, 1024))
    ) == [
        "gateway has 615 of 1024 files open, one for each connection and two for a WebSocket; at three quarters a "
        "gateway refuses new connections with 503: raise the limit of open files (ulimit -n, LimitNOFILE of systemd, "
        "--ulimit nofile of Docker), or run more gateways (--processes)"
    ]
    assert said(processes=(ProcessStatus("gateway", 0, 12.0, 615, None),)) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 * 1024, "20 KiB"), (3 * 1024**4, "3072 GiB")],
)
def test_sizes_are_short(number: int, text: str) -> None:
    assert size(number) == text
