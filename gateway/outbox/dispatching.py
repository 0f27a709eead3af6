"""The loop of a gateway that gives stored sends to workers, while the policies ask for it or something waits."""

from __future__ import annotations

import asyncio

from gateway.outbox.handing import HandOver
from gateway.policies import Policies, takes_sends
from relay.dispatch.loop import Dispatcher
from relay.policies import OF_SENDS, OUTBOX
from relay.process import open_circuit, open_queue, settings_of
from relay.queue import janitor, order
from relay.queue.queue import Queue
from sluice.process.loops import Stop
from sluice.store.client import Store, StoreAway, StoreRefused

EVERY = 1.0
"""Seconds between two looks at what the loop needs beside."""
_LOOK_EVERY = 10
_DRAINED_WITHIN = 8.0
"""Seconds that a gateway which stops waits for workers that were given a send; of what is left then nobody knows."""


class Dispatching:
    """Of one process. Its tasks are in `group`: one that crashes ends the process."""

    def __init__(self, store: Store, hand_over: HandOver, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._hand_over = hand_over
        self._group = group
        self._policies: Policies | None = None
        self._settings: object = None
        self._running: tuple[Queue, Dispatcher, Stop] | None = None
        self._newest: asyncio.Task[None] | None = None
        self._looks = 0

    def apply(self, policies: Policies) -> None:
        """What an edit changes. Where no limit keeps sends any more, what waits is given to workers all the same."""
        self._policies = policies
        self._hand_over.apply(policies)
        self._looks = 0
        if OUTBOX in policies.relay.endpoints or self._running is not None:
            self._begin(policies)

    def wake(self) -> None:
        """Something new waits."""
        if self._running is not None:
            self._running[1].wake(b"0,1,2,3")

    async def run_once(self) -> None:
        """Looks whether something waits that was stored under other policies, and keeps the dead letters few."""
        policies = self._policies
        if policies is None:
            return
        try:
            if self._running is None:
                await self._look(policies)
            else:
                await self._trim(self._running[0], policies)
        except (StoreAway, StoreRefused):
            return

    async def _look(self, policies: Policies) -> None:
        self._looks += 1
        if self._looks % _LOOK_EVERY == 1 and any(takes_sends(route) for route in policies.routes):
            counts = await open_queue(self._store, OF_SENDS, policies).counts()
            if counts.waiting or counts.leased:
                self._begin(policies)

    async def _trim(self, queue: Queue, policies: Policies) -> None:
        if queue.has_buried:
            queue.has_buried = False
            await janitor.trim_dead(self._store, OUTBOX, policies.relay.retention)
        if queue.has_kept:
            queue.has_kept = False
            await janitor.trim_kept(self._store, OUTBOX, policies.relay.retention)

    def _begin(self, policies: Policies) -> None:
        settings = settings_of(policies, OF_SENDS)
        if self._running is not None and settings == self._settings:
            return
        self.stop()
        queue, stop = open_queue(self._store, OF_SENDS, policies), Stop()
        dispatcher = Dispatcher(
            queue,
            open_circuit(self._store, OF_SENDS),
            self._hand_over,
            retry=OF_SENDS.retry,
            concurrency=OF_SENDS.concurrency,
        )
        self._running, self._settings = (queue, dispatcher, stop), settings
        self._newest = self._group.create_task(self._run(dispatcher, stop, self._newest))

    async def _run(self, dispatcher: Dispatcher, stop: Stop, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        while not stop.requested:
            try:
                await order.keep(self._store, OUTBOX, in_order=True)
            except (StoreAway, StoreRefused):
                await stop.sleep(order.EVERY)
            else:
                break
        await dispatcher.run(stop)

    def stop(self) -> None:
        """Nothing more is leased; the task ends when what is in flight is settled."""
        if self._running is not None:
            self._running[2].request()
            self._running = None

    def close(self) -> None:
        """Of a gateway that stops."""
        self.stop()
        if self._newest is not None:
            asyncio.get_running_loop().call_later(_DRAINED_WITHIN, self._newest.cancel)
