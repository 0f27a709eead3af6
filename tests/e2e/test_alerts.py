"""Two real gateways tell what goes wrong; the one that tells is killed with SIGKILL in the middle of it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.alerts.board import KEY_PATTERNS, look
from relay import presence
from sluice.store.client import Store
from tests.e2e.deployment import Deployment, deployment
from tests.gateway.alerts.sinks import Sink, webhook
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FIRING, OVER = ("firing", ""), ("resolved", "")
_POLICIES = """version: 1
listen: 127.0.0.1:{port}
store: {{url: "{store}"}}
data: {folder}/data
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:1"}}}}}}
alerts:
  receivers: {{takes: {{webhook: env:TAKES}}, hangs: {{webhook: env:HANGS}}}}
  rules: [{{when: no_relay, for: none, repeat: none, to: [takes, hangs]}}]
"""


async def test_when_the_gateway_that_tells_is_killed_nobody_is_told_twice_or_never(
    store: Store, store_url: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        takes, hangs = await stack.enter_async_context(webhook()), await stack.enter_async_context(webhook())
        hangs.hang()
        gateways = [
            await stack.enter_async_context(
                _gateway(tmp_path / name, (free_port(), free_port()), store_url, takes, hangs)
            )
            for name in ("first", "second")
        ]
        await until(lambda: takes.notified and hangs.notified, timeout=60, what="both to be told")
        assert (takes.notified, hangs.notified) == ([FIRING], [FIRING])

        async def is_noted() -> bool:
            return [one.receiver for one in (await look(store))[2]] == ["takes"]

        await until(is_noted, what="what one receiver took to be noted")
        # It is killed while one receiver has taken the message and the other has not answered.
        leader = await _pid_of_leader(store)
        os.kill(leader, signal.SIGKILL)
        hangs.answer("200 OK")
        await until(lambda: len(hangs.notified) == 2, timeout=90, what="the other gateway to go on")
        assert hangs.notified == [FIRING, FIRING]
        assert await _pid_of_leader(store) != leader

        async def both_heard_the_end() -> bool:
            await presence.report(store, "relay-1")
            return OVER in takes.notified and OVER in hangs.notified

        await until(both_heard_the_end, timeout=60, what="both to hear that it is over")
        assert (takes.notified, hangs.notified) == ([FIRING, OVER], [FIRING, FIRING, OVER])
        assert [gateway.said().count("Traceback") for gateway in gateways] == [0, 0]


@asynccontextmanager
async def _gateway(
    folder: Path, ports: tuple[int, int], store_url: str, takes: Sink, hangs: Sink
) -> AsyncIterator[Deployment]:
    """Of a machine of its own: with a data folder that no other one has."""
    folder.mkdir()
    async with deployment(folder, ports) as made:
        made.file.write_text(_POLICIES.format(port=ports[0], store=store_url, folder=folder))
        made.environment = {"TAKES": takes.url, "HANGS": hangs.url}
        await made.sluice("gateway")
        yield made


async def _pid_of_leader(store: Store) -> int:
    (name,) = await store.commands(("HGET", KEY_PATTERNS[0], "name"))
    return int(name.decode().split(":")[1])
