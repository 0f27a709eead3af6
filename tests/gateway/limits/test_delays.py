"""What a limit with `over: queue` delays follows an edit of that limit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.ingest.hold import Hold
from gateway.ingest.webhooks import Ingest, Webhook
from gateway.limits.applicable import Limits, Subject
from gateway.limits.delays import Delays, numbers_under
from gateway.limits.limiter import Limiter
from gateway.policies import Policies, load
from relay.process import open_queue
from relay.queue import delays
from relay.queue.delays import NOW, Delayed, Numbers
from relay.queue.inbox import Inbox
from relay.queue.layout import any_key
from sluice.http.bodies import BodyBudget
from sluice.http.senders import USUAL
from sluice.store import clock
from sluice.store.client import Store
from tests.gateway.making import a_client, a_head

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
trust: {{lists: {{office: [192.0.2.0/24]}}}}
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:1"}}}}}}
limits: [{limits}]
"""
HOURLY = "{id: message, per: [session], rate: 1/hour, burst: 1, over: queue}"


def policies_of(folder: Path, limits: str) -> Policies:
    path = folder / "policies.yaml"
    path.write_text(POLICIES.format(limits=limits))
    return load(path, environment={})


async def accept(policies: Policies, store: Store, events: int) -> None:
    """Webhooks of one session, as the gateway takes them in."""
    queues = {name: open_queue(store, one, policies) for name, one in policies.relay.endpoints.items()}
    limiter, ingest = Limiter(store), Ingest(policies, queues, Hold(Inbox(store), BodyBudget(2**25)))
    limits = Limits(policies.limits, policies.trust.lists)
    subject = Subject(a_client(), "message_received", "s1", relayed=True)
    for _ in range(events):
        decision = await limiter.take(limits.buckets(subject))
        webhook = Webhook(("laravel",), a_head((b"Host", b"gate")), b"{}", None, "message_received", "s1", USUAL, None)
        await ingest.accept(webhook, decision, time.monotonic())


async def waits(store: Store) -> list[float]:
    """Seconds, of all that a limit delays."""
    now, found = (await clock.times(store, [any_key(0)]))[0], []

    def look(one: Delayed) -> None:
        found.append(one.not_before - now)

    await delays.follow(store, "laravel", look)
    return found


def about(*seconds: float) -> list[object]:
    return [pytest.approx(each, abs=2) for each in seconds]


async def test_what_waits_goes_sooner_when_its_limit_gets_a_faster_rate(tmp_path: Path, store: Store) -> None:
    before = policies_of(tmp_path, HOURLY)
    await accept(before, store, 4)
    follower = Delays(store)
    await follower.run_once(before)
    assert await waits(store) == about(3600, 7200, 10800)
    after = policies_of(tmp_path, HOURLY.replace("1/hour", "60/hour"))
    await follower.run_once(after)
    await Delays(store).run_once(after)  # as another gateway does
    assert await waits(store) == about(60, 120, 180)


@pytest.mark.parametrize(
    "edited",
    ["", HOURLY.replace("queue", "reject"), HOURLY.replace("over: queue", "over: queue, mode: observe")],
    ids=["removed", "no longer queues", "only observes"],
)
async def test_what_waits_goes_at_once_when_its_limit_delays_nothing_any_more(
    tmp_path: Path, store: Store, edited: str
) -> None:
    await accept(policies_of(tmp_path, HOURLY), store, 3)
    await Delays(store).run_once(policies_of(tmp_path, edited))  # a gateway that begins after the edit
    assert await waits(store) == []


async def test_a_larger_burst_lets_as_many_more_go_at_once(tmp_path: Path, store: Store) -> None:
    await accept(policies_of(tmp_path, HOURLY), store, 4)
    await Delays(store).run_once(policies_of(tmp_path, HOURLY.replace("burst: 1", "burst: 3")))
    assert await waits(store) == about(3600)


async def test_while_the_store_is_away_the_edit_is_followed_later(tmp_path: Path, store: Store) -> None:
    edited = policies_of(tmp_path, "")
    await accept(policies_of(tmp_path, HOURLY), store, 2)
    away = Store("redis://127.0.0.1:1", timeout=0.2)
    follower = Delays(away)
    await follower.run_once(edited)
    await away.close()
    follower._store = store
    await follower.run_once(edited)
    assert await waits(store) == []


def test_an_event_has_the_numbers_of_the_override_of_its_session(tmp_path: Path) -> None:
    overrides = "overrides: [{session: vip-*, rate: 2/hour}, {session: free, unlimited: true}]"
    numbers_of = numbers_under(policies_of(tmp_path, HOURLY.replace("over:", f"{overrides}, over:")), 0.0)

    def of(session: str) -> Numbers | None:
        return numbers_of(Delayed("message", Numbers(9.0, 9), session, "evt_1", 1.0))

    assert (of("vip-1"), of("free"), of("s1")) == (Numbers(1800.0, 1), NOW, Numbers(3600.0, 1))


def test_numbers_that_an_override_of_a_list_still_has_stay(tmp_path: Path) -> None:
    limit = "{id: message, per: [ip], rate: 1/hour, overrides: [{list: office, rate: 1/day}], over: queue}"
    numbers_of = numbers_under(policies_of(tmp_path, limit), 0.0)
    assert numbers_of(Delayed("message", Numbers(86400.0, 1), "s1", "evt_1", 1.0)) is None
    assert numbers_of(Delayed("message", Numbers(86400.0, 2), "s1", "evt_1", 1.0)) == Numbers(3600.0, 1)
