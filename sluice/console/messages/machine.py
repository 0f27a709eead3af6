"""What threatens store, disk and processes while all still works."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.console.messages.wording import age, size, some
from sluice.console.status import DiskStatus, ProcessStatus, Status, StoreStatus

_NEARLY_FULL = 0.8
_FREE_SHARE, _FREE_BYTES = 0.1, 10 * 1024**3
_LATELY = 300.0  # seconds
_MANY_FILES = 0.6  # of those a process may have open; at three quarters a gateway refuses connections
_ITS_START = 5.0  # seconds between the start of the store and of a gateway beside it


def machine(status: Status) -> Iterator[str]:
    yield from _store(status.store, status.promise, status.up_s)
    if status.disk is not None:
        yield from _disk(status.disk)
    if status.last_minute.log_writes:
        lost = some(status.last_minute.log_writes, "batch of log lines was", "batches of log lines were")
        yield f"{lost} lost in the last minute, because they could not be written: see the disk of the logs (df -h)"
    for process in status.processes:
        yield from _process(process)


def _store(store: StoreStatus, promise: str, up: float) -> Iterator[str]:
    if store.failing:
        yield (
            f"the store could not write {store.failing}: what is accepted may be lost when it stops; see its disk "
            "(df -h) and its log"
        )
    if store.appends is False and promise != "memory":
        yield (
            f"the store has no append-only file, though store.promise is {promise}: what is accepted is lost when it "
            "stops; CONFIG SET appendonly yes, and in its configuration file"
        )
    if store.memory and store.max_memory and store.memory >= _NEARLY_FULL * store.max_memory:
        yield (
            f"the store uses {store.memory / store.max_memory:.0%} of its maxmemory ({size(store.max_memory)}); at "
            "100% it refuses writes, and webhooks with them: raise maxmemory, or let less wait"
        )
    if store.up_s is not None and store.up_s < min(_LATELY, up - _ITS_START):
        yield f"the store was started again {age(store.up_s)} ago: its log says why"


def _disk(disk: DiskStatus) -> Iterator[str]:
    if disk.free < min(_FREE_BYTES, _FREE_SHARE * disk.total):
        yield (
            f"the disk of {disk.path} is {1 - disk.free / disk.total:.0%} full, {size(disk.free)} left: when it is "
            "full the store cannot write and no log is kept; free some, or move data to a larger one"
        )


def _process(process: ProcessStatus) -> Iterator[str]:
    if process.restarts and process.up_s is not None and process.up_s < _LATELY:
        times = some(process.restarts, "time", "times")
        yield (
            f"{process.process} was started again {times}, the last time {age(process.up_s)} ago: its log says why "
            f"(logs/{process.process}.jsonl in the data folder, or where log.to leads)"
        )
    if process.files is not None and process.max_files and process.files >= _MANY_FILES * process.max_files:
        yield (
            f"{process.process} has {process.files} of {process.max_files} files open, one for each connection and two "
            "for a WebSocket; at three quarters a gateway refuses new connections with 503: raise the limit of open "
            "files (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of Docker), or run more gateways (--processes)"
        )
