"""The story that Sluice is made for, through real processes and sockets, with a minute of one second.

Fifty sessions send 250 events a minute. Laravel takes 100 from an address and then wants a minute of quiet.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import ORDERED, Accepted, Deployment, deployment, produce
from tests.waiting import until

pytestmark = pytest.mark.anyio

SESSIONS, MINUTES, MINUTE = 50, 6, 1.0


@pytest.fixture
async def deployed(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        await deployed.start_laravel(MINUTE)
        yield deployed


def by_session(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The sequence numbers of messages and acknowledgements in the order they arrived, repeats left out by id."""
    seen: set[str] = set()
    found: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row["event"] in ORDERED and row["id"] not in seen:
            seen.add(row["id"])
            found[row["session"]].append(row["sequence"])
    return dict(found)


def sent_by_session(accepted: list[Accepted]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for one in accepted:
        assert one.sequence is not None
        found[one.session].append(one.sequence)
    return dict(found)


async def test_straight_to_laravel_more_than_60_percent_is_lost(deployed: Deployment) -> None:
    produced = await produce(deployed.policies, deployed.laravel, sessions=SESSIONS, minutes=MINUTES, minute=MINUTE)
    ledger = await deployed.ledger()
    lost = 1 - ledger["accepted"] / produced.offered
    print(f"straight to Laravel: {produced.offered} sent, {ledger['accepted']} arrived, {lost:.0%} lost")
    assert produced.offered == SESSIONS * 5 * MINUTES
    assert lost >= 0.6


async def test_through_sluice_no_message_or_acknowledgement_is_lost_repeated_or_out_of_order(
    deployed: Deployment,
) -> None:
    text = deployed.file.read_text()
    deployed.file.write_text(text.replace("timeout: 1s", "timeout: 20s"))  # what times out is rightly sent again
    await deployed.start_up()
    produced = await produce(deployed.policies, deployed.gateway, sessions=SESSIONS, minutes=MINUTES, minute=MINUTE)
    assert produced.refused == {}
    assert len(produced.ordered()) == SESSIONS * 3 * MINUTES, "every one was accepted"
    await until(deployed.drained, timeout=60, what="everything to be delivered")

    arrived = await deployed.arrived()
    assert by_session(arrived) == sent_by_session(produced.ordered())
    ledger = await deployed.ledger()
    assert (ledger["repeated"], ledger["out_of_order"]) == (0, 0)

    shown = await deployed.status()
    endpoint, typing = shown["endpoints"]["laravel"], shown["traffic"]["limits"]["typing"]
    stale = endpoint["replaced"] + endpoint["expired"]
    assert endpoint["accepted"] == len(produced.accepted) == endpoint["delivered"] + stale
    assert typing["dropped"] == produced.dropped
    assert endpoint["dead"] == 0
    print(
        f"through Sluice: {produced.offered} sent, {len(arrived)} arrived, {ledger['refused']} answered 429; "
        f"typing and heartbeats left out by policy: {stale} stale, {produced.dropped} over their limit"
    )


async def test_with_the_relay_killed_three_times_and_the_store_once_nothing_accepted_is_lost(
    deployed: Deployment,
) -> None:
    await deployed.start_up()
    producing = asyncio.create_task(
        produce(deployed.policies, deployed.gateway, sessions=SESSIONS, minutes=MINUTES, minute=MINUTE)
    )
    for name, after in (("relay", 50), ("valkey-server", 150), ("relay", 250), ("relay", 400)):

        async def far_enough(after: int = after) -> bool:
            return await deployed.delivered() >= after

        await until(far_enough, timeout=60, what=f"{after} deliveries")
        await deployed.kill_child(name)
    produced = await producing
    await until(deployed.drained, timeout=90, what="everything to be delivered")

    arrived = await deployed.arrived()
    assert by_session(arrived) == sent_by_session(produced.ordered()), "nothing accepted is lost or out of order"
    ids = {(row["session"], row["sequence"]): row["id"] for row in arrived if row["event"] in ORDERED}
    assert all(ids[row["session"], row["sequence"]] == row["id"] for row in arrived if row["event"] in ORDERED), (
        "a repeat carries the same id"
    )
    ledger = await deployed.ledger()
    said = deployed.said()
    assert said.count("relay was killed by SIGKILL") == 3
    assert said.count("store was killed by SIGKILL") == 1
    print(
        f"with four kills: {produced.offered} sent, {len(produced.accepted)} accepted, refused {produced.refused}, "
        f"{ledger['repeated']} repeated with their id"
    )
