"""The embedded store for several processes that nobody supervises: the first starts it, another takes it over.

Who holds the lock of the data folder runs the store. The others wait for the lock, for as long as they need the store;
so when the one that runs it ends, another starts it again on the same data, and the last one to end stops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sluice.config import Promise
from sluice.observe.log import Log
from sluice.process.loops import Stop
from sluice.process.supervisor import Program, Say, Supervisor
from sluice.store import embedded

LOG = Log("store")
_TRY_EVERY = 0.5
_ANSWERS_WITHIN = 120.0
"""Seconds; an append-only file of some GiB takes its time to load."""


@asynccontextmanager
async def running(data: Path, promise: Promise) -> AsyncIterator[None]:
    """The store of this folder answers, started here unless another process runs it; what is started here is stopped.

    Raises EmbeddedStoreError or StoreAway where it cannot be had.
    """
    stop = Stop()
    keeping = asyncio.create_task(_keep(data, promise, stop))
    answering = asyncio.create_task(embedded.answering(embedded.url(data), _ANSWERS_WITHIN))
    try:
        await asyncio.wait((keeping, answering), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
        await answering
        yield
    finally:
        answering.cancel()
        stop.request()
        await asyncio.gather(keeping, return_exceptions=True)


@asynccontextmanager
async def alone(data: Path, promise: Promise, say: Say) -> AsyncIterator[None]:
    """The store of this folder, for one command while nothing else uses it; stopped in the end.

    Raises FolderInUse where another process does, EmbeddedStoreError or StoreAway where it cannot be had.
    """
    with embedded.locked(data):
        await asyncio.to_thread(embedded.stop_orphan, data)
        supervisor = Supervisor([Program("store", embedded.command(data, promise))], say)
        try:
            await supervisor.start()
            await embedded.answering(embedded.url(data), _ANSWERS_WITHIN)
            yield
        finally:
            await supervisor.stop()


async def _keep(data: Path, promise: Promise, stop: Stop) -> None:
    while not stop.requested:
        try:
            with embedded.locked(data):
                await _run(data, promise, stop)
        except embedded.FolderInUse:
            await stop.sleep(_TRY_EVERY)


async def _run(data: Path, promise: Promise, stop: Stop) -> None:
    await asyncio.to_thread(embedded.stop_orphan, data)
    LOG.info("store.starting", data=str(data))
    supervisor = Supervisor([Program("store", embedded.command(data, promise))], _warn)
    try:
        await supervisor.start()
        await stop.wait()
    finally:
        await supervisor.stop()
    LOG.info("store.stopped", data=str(data))


def _warn(line: str) -> None:
    LOG.warning("store.supervised", what=line)
