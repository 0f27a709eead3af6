"""What the shipped policies make of the existing workers' webhooks (contract.md, section 4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.policies import load
from relay.policies import OF_EXISTING_WORKERS
from relay.queue.queue import Settlement
from sluice.store.client import Store
from tests.gateway.ingest.shipped import DEMO, SHIPPED, Shipped, data_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("file", [SHIPPED, DEMO], ids=["shipped", "demo"])
async def test_only_the_newest_qr_code_of_a_session_waits_and_for_a_minute(store: Store, file: Path) -> None:
    shipped = Shipped(store, file)
    for session, count in (("s1", 1), ("s1", 2), ("s2", 1), ("s1", 3)):
        await shipped.accept("qr_code_generated", session, qr_code="data:image/png;base64,AAAA", qr_count=count)
    counts = await shipped.queue.counts()
    assert (counts.waiting, counts.replaced) == (2, 2)
    codes = {delivery.session: data_of(delivery)["qr_count"] for delivery in await shipped.leased()}
    assert codes == {"s1": 3, "s2": 1}
    assert shipped.policies.relay.events["qr_code_generated"].ttl == 60.0


async def test_the_worker_s_own_address_goes_with_its_events(store: Store) -> None:
    shipped = Shipped(store)
    await shipped.accept("session_ready", headers=((b"X-Instance-Url", b"http://localhost:3001"),))
    (delivery,) = await shipped.leased()
    assert (b"X-Instance-Url", b"http://localhost:3001") in delivery.headers


async def test_with_an_address_to_advertise_the_worker_s_own_is_replaced_whatever_its_case(
    tmp_path: Path, store: Store
) -> None:
    file = tmp_path / "policies.yaml"
    text = SHIPPED.read_text()
    assert "\nsessions:\n" in text
    file.write_text(text.replace("\nsessions:\n", "\nsessions:\n  advertise: http://sluice:8080\n"))
    shipped = Shipped(store, file)
    await shipped.accept("session_ready", headers=((b"x-instance-URL", b"http://localhost:3001"), (b"X-Other", b"1")))
    (delivery,) = await shipped.leased()
    assert [pair for pair in delivery.headers if pair[0] in (b"x-instance-URL", b"X-Other")] == [
        (b"x-instance-URL", b"http://sluice:8080")
    ]


@pytest.mark.parametrize("file", [SHIPPED, DEMO], ids=["shipped", "demo"])
async def test_session_readies_of_one_phone_of_a_workspace_supersede_each_other(store: Store, file: Path) -> None:
    shipped = Shipped(store, file)
    ready: dict[str, object] = {"phone_number": "49151", "status": "connected"}
    await shipped.accept("session_ready", "s1", **ready)
    await shipped.accept("session_ready", "s2", **ready)
    await shipped.accept("session_ready", "s3", **ready | {"workspace_id": 2})
    await shipped.accept("session_ready", "s4", **ready | {"phone_number": "49152"})
    await shipped.accept("session_ready", "s5", **ready | {"phone_number": None})
    await shipped.accept("session_authenticated", "s6", **ready)
    keys = {delivery.session: delivery.superseding for delivery in await shipped.leased()}
    assert keys["s1"] == keys["s2"] is not None
    assert len({keys[session] for session in ("s1", "s3", "s4")}) == 3
    assert (keys["s5"], keys["s6"]) == (None, None)


@pytest.mark.parametrize("file", [SHIPPED, DEMO], ids=["shipped", "demo"])
async def test_messages_of_a_login_wait_until_the_session_is_ready(store: Store, file: Path) -> None:
    shipped = Shipped(store, file)
    await shipped.accept("qr_code_generated", qr_count=1)
    await shipped.accept("session_authenticated")
    await shipped.accept("message_received", message={"id": "m1"})
    await shipped.accept("session_ready", phone_number="49151")
    await shipped.accept("message_status_updated", message_id="m0", status="read")
    types, leased = [], await shipped.leased()
    while leased:
        types += [delivery.type for delivery in leased]
        leased = await shipped.leased([Settlement(delivery, "delivered") for delivery in leased])
    messages = ["message_received", "message_status_updated"]
    assert types == ["qr_code_generated", "session_authenticated", "session_ready", *messages]


def test_the_shield_of_events_is_what_the_shipped_policies_say() -> None:
    for file in (SHIPPED, DEMO):
        events = load(file, need_secrets=False).relay.events
        assert {name: replace(events[name], announces=0.0) for name in OF_EXISTING_WORKERS} == OF_EXISTING_WORKERS
