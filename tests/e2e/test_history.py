"""The history of a whole Sluice, over a restart of all of it and a kill of the gateway that looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.deployment import Deployment, deployment
from tests.e2e.receiver import receiving
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def history(sluice: Deployment) -> dict[str, Any]:
    code, out, err = await sluice.run("history", "--range", "day", "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = orjson.loads(out)
    return found


async def total(sluice: Deployment, chart: str, what: str) -> float:
    return sum(
        value or 0
        for line in (await history(sluice))[chart]
        if line["what"] == what and not line["others"]
        for value in line["values"]
    )


async def test_it_survives_a_restart_of_everything_and_a_killed_gateway(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    ports = (free_port(), free_port())
    async with receiving(ports[1]) as laravel, deployment(short_folder, ports) as sluice:
        await sluice.start_up()
        for number in range(3):
            await sluice.send("webjs_1_1_a", number)
        await until(lambda: len(laravel.taken()) == 3, what="three deliveries")
        await sluice.stop()  # what was counted goes along, though no step is over

        await sluice.start_up()
        assert await total(sluice, "events", "accepted") == 3
        assert await total(sluice, "deliveries", "delivered") == 3
        assert await total(sluice, "requests", "2xx") >= 3
        assert await total(sluice, "request_seconds", "p99") > 0

        await sluice.send("webjs_1_1_a", 3)
        await sluice.kill_child("gateway")  # with what it has counted in this step
        await sluice.send("webjs_1_1_a", 4)

        async def seen() -> bool:
            found = await history(sluice)
            return found["workers"] != [] and await total(sluice, "events", "accepted") >= 4

        await until(seen, timeout=60, what="a look by the gateway that was started again")
        assert await total(sluice, "events", "accepted") in (4, 5)
        assert await total(sluice, "deliveries", "delivered") >= 3
        code, shown, _ = await sluice.run("history", "--range", "day")
        assert (code, shown.splitlines()[0].startswith("from ")) == (0, True)
        assert any("attempts delivered" in line and "laravel" in line for line in shown.splitlines())
