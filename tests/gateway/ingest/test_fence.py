"""Events of a former owner, as a worker sends them: over a webhook route, or published."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx2
import orjson
import pytest

from relay.queue.queue import Queue
from sluice.http.signatures import sign
from tests.counted import counted
from tests.gateway.running import POLICIES, SIGNATURE, Gate, Receiver, gateway, problem

pytestmark = pytest.mark.anyio
NOW = int(time.time() * 1e6)
STALE = "stale fence: its session has another owner by now, so this event is not taken; do not send it again"
NUMBER = "X-Sluice-Fence: must be the number that the answer to the beat has for the session"


async def webhook(gate: Gate, fence: object, text: str = "", session: str = "s1") -> httpx2.Response:
    body = orjson.dumps({"event": "message_sent", "data": {"session_id": session, "message": {"id": text or "m"}}})
    return await gate.post_event(body=body, headers={"X-Sluice-Fence": str(fence)})


async def _refused(gate: Gate) -> float:
    """Other tests of this process are counted, too."""
    page = counted()
    name = 'sluice_events_refused_total{endpoint="laravel",reason="stale_fence"} '
    return sum(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))


async def test_a_webhook_of_a_former_owner_is_refused_for_good_and_its_repeats_are_repeats(
    gate: Gate, queue: Queue
) -> None:
    before = await _refused(gate)
    first = await webhook(gate, NOW, "a")
    assert (await webhook(gate, NOW + 1, "b")).status_code == 202
    refused = await webhook(gate, NOW, "c")
    assert problem(refused) == (409, STALE)
    assert "retry-after" not in refused.headers
    assert (await queue.counts()).waiting == 2
    assert await _refused(gate) == before + 1
    again = (await webhook(gate, NOW, "a")).json()
    assert (again["id"], again["repeat"]) == (first.json()["id"], True)


@pytest.mark.parametrize("fence", ["", "0", "-5", "1.5", "soon", "1" * 17, "+1"])
async def test_what_is_no_fence_is_refused(gate: Gate, fence: str) -> None:
    assert problem(await webhook(gate, fence)) == (400, NUMBER)


async def test_a_fence_of_the_far_future_is_refused(gate: Gate) -> None:
    beyond = "X-Sluice-Fence: is more than an hour ahead of the time; send the number that the answer to the beat has"
    assert problem(await webhook(gate, NOW + 7200 * 10**6)) == (400, beyond)
    assert (await webhook(gate, NOW)).status_code == 202


async def test_where_nothing_proves_who_sends_a_fence_counts_for_nothing(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    text = re.sub(r"verify: workers, event", "event", POLICIES)
    assert text != POLICIES
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        answers = [await webhook(gate, fence, str(i)) for i, fence in enumerate((NOW + 1, NOW, "soon"))]
    assert [answer.status_code for answer in answers] == [202, 202, 202]


async def publish(gate: Gate, events: object, *fences: object) -> httpx2.Response:
    body = orjson.dumps(events)
    headers = [*sign(SIGNATURE, body, time.time()), *((b"X-Sluice-Fence", str(fence).encode()) for fence in fences)]
    return await gate.http.post("/_sluice/events", content=body, headers=headers)


@pytest.fixture
def policies_text() -> str:
    return POLICIES.replace("relay:\n", "relay:\n  verify: workers\n")


async def test_published_events_have_a_fence_of_their_own_or_that_of_their_request(
    tmp_path: Path, store_url: str, laravel: Receiver, policies_text: str
) -> None:
    def a(session: str, **more: object) -> dict[str, object]:
        return {"type": "a", "session": session, **more}

    async with gateway(tmp_path, store_url, laravel.url, text=policies_text) as gate:
        given = [a("s1", fence=NOW + 9, id="one"), a("s2"), a("s1", fence=NOW + 8), a("s3", id="three")]
        answer = await publish(gate, given, NOW)
        assert problem(answer) == (409, STALE)
        told = answer.json()["events"]
        assert [one["status"] for one in told] == ["queued", "queued", "refused", "queued"], "the others are stored"
        assert told[2]["detail"] == STALE
        assert problem(await publish(gate, a("s2"), NOW - 1)) == (409, STALE)
        again = await publish(gate, a("s1", fence=NOW + 10, id="one"))
        assert (again.status_code, again.json()["repeat"]) == (202, True), "another fence is no other content"


async def test_a_wrong_fence_of_a_published_event_is_named(
    tmp_path: Path, store_url: str, laravel: Receiver, policies_text: str
) -> None:
    number, nobody = NUMBER.removeprefix("X-Sluice-Fence: "), "the event names no session that it could be of"
    one = {"type": "a", "session": "s1"}
    async with gateway(tmp_path, store_url, laravel.url, text=policies_text) as gate:
        for wrong in (0, -1, 1.5, "17", True, None, 10**16):
            assert problem(await publish(gate, {**one, "fence": wrong})) == (400, f"fence: {number}")
        assert problem(await publish(gate, [one, {"type": "a", "fence": 1}])) == (400, f"[1].fence: {nobody}")
        assert problem(await publish(gate, {"type": "a"}, NOW)) == (400, f"X-Sluice-Fence: {nobody}")
        assert problem(await publish(gate, one, NOW, NOW)) == (400, "X-Sluice-Fence: is there more than once")
